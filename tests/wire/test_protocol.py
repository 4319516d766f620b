"""The two protocol machines against each other, and each against a peer that breaks the rules."""

import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.errors import PeerError, UsageError
from securechat.wire import limits
from securechat.wire.chain import MLS_MESSAGE
from securechat.wire.frames import encode_frame
from securechat.wire.messages import (
    Accepted,
    Acknowledge,
    ClientHello,
    Closing,
    Done,
    Entry,
    FromClient,
    FromServer,
    Hello,
    KeyPackages,
    ListRooms,
    LoggedIn,
    Login,
    Members,
    Message,
    Ping,
    Publish,
    Published,
    Refused,
    Register,
    Registered,
    Request,
    Rooms,
    Seat,
    Submit,
    Subscribe,
)
from securechat.wire.protocol import REPLY, ClientProtocol, Ended, ServerProtocol, State
from tests.support.pair import HELLO, Pair, example

CONVERSATION = b"c" * 32


def states(pair: Pair) -> set[State]:
    """One state where both sides agree."""
    return {pair.client.state, pair.server.state}


def ended(events: list[typing.Any]) -> Ended:
    ends = [event for event in events if isinstance(event, Ended)]
    assert ends == events[-1:]
    return ends[0]


def peer_error(events: list[typing.Any]) -> str:
    error = ended(events).error
    assert isinstance(error, PeerError)
    return str(error)


def test_both_sides_greet_and_are_greeted() -> None:
    pair = Pair()
    pair.exchange()
    assert pair.at_client == [HELLO]
    assert pair.at_server == [ClientHello([1], "test")]
    assert states(pair) == {State.GREETED}


def test_a_request_gets_its_reply_and_both_sides_agree_on_the_state() -> None:
    pair = Pair()
    pair.exchange()
    pair.client.send(Register(1, "alice", bytes(32)))
    pair.exchange()
    assert states(pair) == {State.AUTHENTICATING}
    pair.server.send(Registered(1, "alice"))
    pair.exchange()
    assert states(pair) == {State.GREETED}
    assert pair.at_client[-1] == Registered(1, "alice")
    assert pair.client.in_flight == pair.server.in_flight == 0


@pytest.mark.parametrize(
    ("place", "published", "state"),
    [(0, True, State.READY), (0, False, State.ENROLLING), (3, True, State.WAITING), (3, False, State.WAITING)],
)
def test_a_login_leads_where_the_answer_says(place: int, published: bool, state: State) -> None:  # noqa: FBT001 - a case
    pair = Pair()
    pair.login(place=place, published=published)
    assert states(pair) == {state}


@pytest.mark.parametrize(("published", "state"), [(True, State.READY), (False, State.ENROLLING)])
def test_the_waiting_room_ends_with_seat_0(published: bool, state: State) -> None:  # noqa: FBT001 - a case
    pair = Pair()
    pair.login(place=2, published=published)
    pair.server.send(Seat(1))
    pair.exchange()
    assert states(pair) == {State.WAITING}
    pair.server.send(Seat(0))
    pair.exchange()
    assert states(pair) == {state}


def test_publishing_the_device_opens_the_rest() -> None:
    pair = Pair()
    pair.login(published=False)
    pair.client.send(ListRooms(1))
    for request, enrolled, state in ((2, False, State.ENROLLING), (3, True, State.READY)):
        pair.client.send(Publish(request, [b""], [], b""))
        pair.exchange()
        if pair.server.in_flight == 2:
            pair.server.send(Rooms(1, []))
            pair.exchange()
        assert states(pair) == {State.ENROLLING}
        pair.server.send(Published(request, enrolled))
        pair.exchange()
        assert states(pair) == {state}


def test_a_refused_login_leaves_the_session_greeted() -> None:
    pair = Pair()
    pair.exchange()
    pair.client.send(Login(1, "alice", bytes(32), bytes(16)))
    pair.exchange()
    pair.server.send(Refused(1, "login-refused", "unknown account or wrong password"))
    pair.exchange()
    assert states(pair) == {State.GREETED}


BEFORE = {State.GREETED: None, State.WAITING: {"place": 1}, State.ENROLLING: {"published": False}, State.READY: {}}
REQUESTS = [kind for kind in typing.get_args(FromClient) if issubclass(kind, Request)]


@pytest.mark.parametrize("state", BEFORE)
@pytest.mark.parametrize("kind", REQUESTS)
def test_a_request_is_handled_only_in_its_states_and_else_answered_not_now(state: State, kind: type[Request]) -> None:
    pair = Pair()
    options = BEFORE[state]
    pair.exchange() if options is None else pair.login(**options)
    allowed = pair.client.allows(kind)
    if not allowed:
        with pytest.raises(UsageError):
            pair.client.send(example(kind))  # type: ignore[arg-type]  # one of FromClient
    received = pair.server.receive_data(encode_frame(example(kind)), pair.now)
    if allowed:
        assert [type(message) for message in received] == [kind]
    else:
        assert received == []
        reply = msgspec.msgpack.decode(pair.server.data_to_send()[4:], type=Refused)
        assert (reply.id, reply.code) == (9, "not-now")
    assert not pair.server.ended


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_request_before_the_hello_ends_the_session(kind: type[Request]) -> None:
    server = ServerProtocol(HELLO, 0)
    assert "before ClientHello" in peer_error(server.receive_data(encode_frame(example(kind)), 0))


def test_a_client_without_a_common_version_is_told_the_servers() -> None:
    server = ServerProtocol(HELLO, 0)
    server.data_to_send()
    assert "speaks [1]" in peer_error(server.receive_data(encode_frame(ClientHello([2, 3], "new")), 0))
    closing = msgspec.msgpack.decode(server.data_to_send()[4:], type=Closing)
    assert closing.reason == "protocol-error"


def test_a_server_without_a_common_version_is_left() -> None:
    client = ClientProtocol("test", 0)
    hello = Hello([2], "new", "", bytes(16), "open", bytes(32), bytes(32), 0)
    assert "no common protocol version" in peer_error(client.receive_data(encode_frame(hello), 0))


def test_an_unknown_request_is_refused_and_the_session_goes_on() -> None:
    pair = Pair()
    pair.login()
    body = msgspec.msgpack.encode(["Teleport", 77, {"to": [[["moon"]]]}])
    assert pair.server.receive_data(len(body).to_bytes(4, "big") + body, pair.now) == []
    reply = msgspec.msgpack.decode(pair.server.data_to_send()[4:], type=Refused)
    assert (reply.id, reply.code) == (77, "unknown-message")
    assert pair.server.receive_data(encode_frame(ListRooms(78)), pair.now) == [ListRooms(78)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x91" * 100_000,
        msgspec.msgpack.encode(["Teleport"]),
        msgspec.msgpack.encode(["Teleport", "x"]),
        msgspec.msgpack.encode(["Members", 1]),
        msgspec.msgpack.encode(["Members", 1, bytes(31)]),
        msgspec.msgpack.encode(["Members", -1, bytes(32)]),
        msgspec.msgpack.encode(["Members", 1, bytes(32), 0]),
        msgspec.msgpack.encode({"Members": 1}),
        msgspec.msgpack.encode(["Ping"]) + b"\x00",
        encode_frame(Entry(CONVERSATION, 1, 1, bytes(16), MLS_MESSAGE, b"x", b""))[4:],
    ],
)
def test_a_malformed_frame_ends_the_session_with_a_closing(body: bytes) -> None:
    pair = Pair()
    pair.login()
    pair.inject(len(body).to_bytes(4, "big") + body)
    peer_error(pair.at_server)
    closing = ended(pair.at_client).closing
    assert closing is not None
    assert closing.reason == "protocol-error"
    assert pair.server.receive_data(encode_frame(Ping()), pair.now) == []


@given(data=st.binary(max_size=300))
def test_random_bytes_never_raise_out_of_either_machine(data: bytes) -> None:
    for machine in (ServerProtocol(HELLO, 0), ClientProtocol("test", 0)):
        events = machine.receive_data(data, 0)
        assert all(isinstance(event, Ended) for event in events)


@given(st.data())
def test_a_damaged_session_ends_in_messages_or_in_an_ended(data: st.DataObject) -> None:
    pair = Pair()
    pair.login()
    stream = bytearray(
        b"".join(encode_frame(example(kind, i)) for i, kind in enumerate(typing.get_args(FromClient)) if i % 3)
    )
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    events = pair.server.receive_data(bytes(stream), pair.now)
    assert not any(isinstance(event, Ended) for event in events[:-1])


def test_a_used_request_id_and_too_many_requests_end_the_session() -> None:
    pair = Pair()
    pair.login()
    for i in range(limits.MAX_IN_FLIGHT):
        pair.client.send(ListRooms(i))
    with pytest.raises(UsageError, match="more than 64"):
        pair.client.send(ListRooms(64))
    pair.exchange()
    twin = Pair()
    twin.login()
    twin.server.receive_data(encode_frame(ListRooms(0)), 0)
    assert "in use" in peer_error(twin.server.receive_data(encode_frame(ListRooms(0)), 0))
    assert "more than 64" in peer_error(pair.server.receive_data(encode_frame(ListRooms(64)), 0))


def test_a_reply_must_answer_an_open_request_with_its_own_type() -> None:
    pair = Pair()
    pair.login()
    pair.client.send(Members(5, CONVERSATION))
    pair.exchange()
    for wrong in (Done(5), Done(6)):
        with pytest.raises(UsageError):
            pair.server.send(wrong)
    assert pair.server.in_flight == 1
    assert "answers no open request" in peer_error(pair.client.receive_data(encode_frame(Done(5)), 0))


def test_replies_to_messages_go_out_together_as_they_would_one_by_one() -> None:
    pair, twin = Pair(), Pair()
    replies = [Accepted(i, CONVERSATION, i, i, 0, b"") for i in (1, 2)]
    for each in (pair, twin):
        each.login()
        for i in (1, 2):
            each.client.send(Submit(i, CONVERSATION, i, b"payload"))
        each.client.send(ListRooms(3))
        each.exchange()
    assert pair.server.send_accepted(replies) == sum(twin.server.send(reply) for reply in replies)
    assert pair.server.data_to_send() == twin.server.data_to_send()
    assert pair.server.in_flight == 1
    for wrong in (1, 3):  # answered already, of another type
        with pytest.raises(UsageError, match=f"Accepted {wrong} answers no open request"):
            pair.server.send_accepted([Accepted(wrong, CONVERSATION, 1, 1, 0, b"")])
    with pytest.raises(UsageError, match="Accepted 1 answers"):
        twin.server.send_accepted(replies)
    pair.client.send(Submit(4, CONVERSATION, 3, b"payload"))
    pair.exchange()
    with pytest.raises(UsageError):  # as a whole
        pair.server.send_accepted([Accepted(i, CONVERSATION, 3, 3, 0, b"") for i in (4, 3)])
    assert pair.server.in_flight == 2
    assert not pair.server.has_data_to_send
    twin.server.receive_eof()
    assert twin.server.send_accepted(replies) == 0


def test_every_request_has_a_reply_in_the_table() -> None:
    assert set(REPLY) == set(REQUESTS)
    assert set(REPLY.values()) <= set(typing.get_args(FromServer))


@pytest.mark.parametrize("kind", [Entry, Seat, LoggedIn, KeyPackages])
def test_a_client_takes_nothing_before_login(kind: type[Message]) -> None:
    pair = Pair()
    pair.exchange()
    peer_error(pair.client.receive_data(encode_frame(example(kind)), 0))


def test_frames_before_login_are_small_and_after_it_large() -> None:
    pair = Pair()
    pair.exchange()
    large = (limits.MAX_FRAME_BEFORE_LOGIN + 1).to_bytes(4, "big")
    twin = Pair()
    twin.login()
    assert twin.server.receive_data(large, 0) == []
    assert "are allowed" in peer_error(pair.server.receive_data(large, 0))
    assert "are allowed" in peer_error(twin.client.receive_data((limits.MAX_FRAME + 1).to_bytes(4, "big"), 0))


def test_ping_is_answered_without_an_event() -> None:
    pair = Pair()
    pair.login()
    pair.client.send(Ping())
    assert pair.server.receive_data(pair.client.data_to_send(), 0) == []
    assert pair.server.data_to_send() == encode_frame(msgspec.convert(["Pong"], FromServer))


def test_goodbye_is_a_message_and_its_absence_a_lost_connection() -> None:
    said, lost = Pair(), Pair()
    said.login()
    lost.login()
    said.client.close("bye")
    said.exchange()
    assert ended(said.at_server) == Ended(closing=Closing("bye"))
    assert said.server.receive_eof() == []
    assert lost.server.receive_eof() == [Ended()]
    with pytest.raises(UsageError):
        said.client.send(ListRooms(1))
    assert said.server.send(Entry(CONVERSATION, 1, 1, bytes(16), MLS_MESSAGE, b"", b"")) == 0


def test_nothing_is_handled_after_the_goodbye() -> None:
    pair = Pair()
    pair.login()
    data = encode_frame(Closing("bye")) + encode_frame(ListRooms(1))
    assert pair.server.receive_data(data, 0) == [Ended(closing=Closing("bye"))]


def test_a_silent_peer_is_asked_and_then_given_up() -> None:
    pair = Pair()
    pair.login()
    start = pair.now
    assert pair.server.timer == start + limits.PING_SECONDS
    assert pair.server.handle_timer(start + limits.PING_SECONDS - 1) == []
    assert pair.server.data_to_send() == b""
    assert pair.server.handle_timer(start + limits.PING_SECONDS) == []
    assert pair.server.data_to_send() == encode_frame(Ping())
    assert pair.server.timer == start + 2 * limits.PING_SECONDS
    assert "silent" in peer_error(pair.server.handle_timer(start + 2 * limits.PING_SECONDS))


def test_a_peer_that_answers_the_ping_stays() -> None:
    pair = Pair()
    pair.login()
    pair.now += limits.PING_SECONDS
    pair.server.handle_timer(pair.now)
    pair.exchange()
    assert pair.server.timer == pair.now + limits.PING_SECONDS


@pytest.mark.parametrize(("greeted", "seconds"), [(False, limits.HANDSHAKE_SECONDS), (True, limits.LOGIN_SECONDS)])
def test_dripping_bytes_do_not_move_the_deadline_before_login(greeted: bool, seconds: float) -> None:  # noqa: FBT001
    pair = Pair()
    if greeted:
        pair.exchange()
    deadline = pair.now + seconds
    for second in range(int(seconds)):
        pair.server.receive_data(b"\x00" if second == 0 else b"", pair.now + second)
        assert pair.server.timer == deadline
    assert "silent" in peer_error(pair.server.handle_timer(deadline))


def test_a_subscription_flows_from_request_to_entries() -> None:
    pair = Pair()
    pair.login()
    pair.client.send(Subscribe(1, CONVERSATION, 0))
    pair.client.send(Submit(2, CONVERSATION, 1, b"x"))
    pair.client.send(Acknowledge(CONVERSATION, 4))
    pair.exchange()
    assert [type(message) for message in pair.at_server] == [Subscribe, Submit, Acknowledge]
    frame = encode_frame(Entry(CONVERSATION, 5, 1, bytes(16), MLS_MESSAGE, b"x", b""))
    assert pair.server.send_frames(frame) == len(frame)
    pair.server.send(Accepted(2, CONVERSATION, 1, 6, 1, b""))
    pair.exchange()
    assert [type(message) for message in pair.at_client] == [Entry, Accepted]


def test_printing_a_message_shows_no_secret() -> None:
    for kind in (*typing.get_args(FromClient), *typing.get_args(FromServer)):
        assert "\\x00" not in repr(example(kind))


def test_what_a_budget_does_not_reach_waits_in_order() -> None:
    pair = Pair()
    pair.server = ServerProtocol(HELLO, pair.now, {ListRooms: 10, Refused: 5})
    pair.login()
    server = pair.server
    sent = [ListRooms(1000 + number) for number in range(5)]
    unknown = b"\x92\xa8Nonsense\x07"
    frames = [encode_frame(Ping()), len(unknown).to_bytes(4, "big") + unknown, *map(encode_frame, sent)]
    before, stream = server.units, b"".join(frames)
    assert server.receive_data(stream + frames[-1][:5], pair.now, 20) == sent[:2]  # 1 + 5 + 10 + 10
    assert server.units == before + 26
    assert server.waiting == len(stream) + 5
    assert server.receive_more(pair.now, 1) == [sent[2]]
    assert server.receive_more(pair.now, 100) == sent[3:]
    assert (server.waiting, server.unfinished) == (0, 5)
    assert server.receive_more(pair.now, 100) == []
    assert server.units == before + 56


def test_of_what_waits_nothing_is_left_once_the_session_has_ended() -> None:
    pair = Pair()
    pair.login()
    server = pair.server
    stream = b"".join(encode_frame(ListRooms(1000 + number)) for number in range(5))
    assert len(server.receive_data(stream, pair.now, 2)) == 2
    server.close("shutdown")
    assert server.waiting == 0
    assert server.receive_more(pair.now, 100) == []
