"""What costs the server's I/O thread: each kind of input meets a bound, and honest clients never do."""

import contextlib
import io
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securechat.server.app import VALIDATORS, Server
from securechat.server.carrying import connection, costs, payer, reactor
from securechat.server.carrying.connection import Connection
from securechat.server.rate import Rate
from securechat.transport.records import MAX_EMPTY_RECORDS
from securechat.wire import messages as m
from securechat.wire.frames import encode_frame
from securechat_lab.cast.wire_client import WAIT, Person, WireClient
from tests.support.floods import TYPES
from tests.support.tls_records import Writer, take_over, with_key_log
from tests.support.waiting import assert_set, wait_until

PING = encode_frame(m.Ping())

KEY_UPDATE_BYTES = 27

Forging = tuple[WireClient, Writer]


@pytest.fixture
def forging(server: Server, tls: ssl.SSLContext, tmp_path: Path) -> Iterator[Forging]:
    """A stranger who makes its TLS records itself."""
    log = tmp_path / "keys.log"
    with WireClient(server.port, with_key_log(tls, log)) as client:
        yield client, take_over(client, log)


def all_that_comes(client: WireClient) -> bytes:
    """What the server sends until it ends the connection, as it is."""
    client.socket.settimeout(WAIT)
    received = b""
    with contextlib.suppress(ConnectionError):  # what it has not read any more, it resets
        while data := client.socket.recv(1 << 16):
            received += data
    return received


def send_all(client: WireClient, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        client.socket.sendall(data)


@pytest.mark.parametrize("answer", [False, True], ids=["not answered", "answered"])
def test_who_sends_key_updates_and_nothing_else_is_closed(
    forging: Forging, log_without_secrets: io.StringIO, *, answer: bool
) -> None:
    client, writer = forging
    send_all(client, b"".join(writer.key_update(answer=answer) for _ in range(3000)))
    assert len(all_that_comes(client)) < (2 * MAX_EMPTY_RECORDS) * KEY_UPDATE_BYTES
    assert "too many TLS records without content" in log_without_secrets.getvalue()


def test_empty_records_among_others_count_like_key_updates(forging: Forging, log_without_secrets: io.StringIO) -> None:
    client, writer = forging
    send_all(client, b"".join(writer.record(b"") + writer.record(PING) for _ in range(2 * MAX_EMPTY_RECORDS)))
    all_that_comes(client)
    assert "too many TLS records without content" in log_without_secrets.getvalue()


def test_the_twin_that_renews_its_keys_now_and_then_is_served(forging: Forging) -> None:
    client, writer = forging
    for number in range(MAX_EMPTY_RECORDS - 8):
        client.socket.sendall(writer.key_update(answer=bool(number % 2)))
        client.send(m.Ping())
    assert isinstance(client.ask(m.Register, "alice", bytes(range(32)), ""), m.Registered)


# --- messages that cost no other token ---

Start = Callable[..., Server]

KINDS = {
    "pings": PING,
    "pongs": encode_frame(m.Pong()),
    "acknowledgements": encode_frame(m.Acknowledge(bytes(32), 1)),
    "unknown messages": (11).to_bytes(4, "big") + b"\x92\xa8Nonsense\x07",
}
MANY = 20_000


def connections_of(server: Server, who: str) -> list[Connection]:
    """Those that an account, or an address before the login, pays for."""
    (thread,) = server._threads
    return [each for each in list(thread._connections) if each._pays == who]


def handled(server: Server, who: str) -> int:
    """Messages of theirs that the server has looked at."""
    return sum(each._protocol.messages for each in connections_of(server, who))


def send_in_background(client: WireClient, data: bytes) -> None:
    """As much as goes; it ends with the connection."""

    def send() -> None:
        client.socket.settimeout(None)
        with contextlib.suppress(OSError):
            client.socket.sendall(ciphertext)

    client.tls.write(data)
    ciphertext = client.tls.data_to_send()
    threading.Thread(target=send, daemon=True).start()


@pytest.mark.parametrize("kind", KINDS)
def test_what_costs_no_other_token_is_read_later_beyond_a_rate(start: Start, tls: ssl.SSLContext, kind: str) -> None:
    server = start(messages_per_account=Rate(300, 0.01))
    with Person(server.port, tls, "mallory") as mallory, Person(server.port, tls, "bob") as bob:
        mallory.register().login()
        bob.register().login()
        at_once = 300 + connection.RECEIVE_BYTES // len(KINDS[kind]) + payer.PAID_AT_ONCE
        send_in_background(mallory, KINDS[kind] * MANY)
        wait_until(lambda: handled(server, "mallory") > 300)
        for _ in range(100):
            assert isinstance(bob.ask(m.ListRooms), m.Rooms)
        assert handled(server, "mallory") <= at_once


def test_the_twin_that_stays_below_the_rate_is_read_at_once(start: Start, tls: ssl.SSLContext) -> None:
    """And whoever has paused goes on once tokens have flowed in."""
    server = start(messages_per_account=Rate(300, 100))
    with Person(server.port, tls, "alice") as alice:
        alice.register().login()
        for _ in range(4):
            alice.send_raw(PING * 120)
            assert isinstance(alice.ask(m.ListRooms), m.Rooms)
        wait_until(lambda: handled(server, "alice") >= 480)


@pytest.mark.parametrize("kind", ["pings", "unknown messages"])
def test_who_talks_much_before_the_login_is_closed(
    connect: Callable[..., WireClient], log_without_secrets: io.StringIO, kind: str
) -> None:
    stranger = connect()
    send_in_background(stranger, KINDS[kind] * MANY)
    answers = all_that_comes(stranger)
    assert "messages before the login" in log_without_secrets.getvalue()
    assert len(answers) < 8 << 10


def test_the_twin_that_takes_its_time_logs_in(connect: Callable[..., WireClient]) -> None:
    client = connect()
    for number in range(40):
        client.send(m.Ping())
        if number % 4 == 0:
            assert client.ask(m.Login, "alice", bytes(32), bytes(16)).code == "login-refused"
    assert isinstance(client.ask(m.Register, "alice", bytes(range(32)), ""), m.Registered)


# --- rounds ---


def question(person: Person) -> m.FetchStatements:
    """A question that the turn itself answers."""
    return m.FetchStatements(person.protocol.next_id(), person.account, b"", 0)


class Hold:
    """Holds up the I/O thread in its next turn, until it is let go."""

    def __init__(self, server: Server, somebody: Person) -> None:
        self._lock = server._sequencer._lock
        self._lock.acquire()  # type: ignore[attr-defined]  # a lock
        somebody.send(question(somebody))
        wait_until(lambda: bool(server._sequencer._submissions))

    def let_go(self) -> None:
        self._lock.release()  # type: ignore[attr-defined]


@pytest.mark.parametrize("who", ["an account", "an address"])
def test_one_payer_has_one_share_of_a_round_however_many_connections_it_has(
    server: Server, tls: ssl.SSLContext, enter: Callable[..., Person], monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    each, count, paying = (500, 8, "mallory") if who == "an account" else (80, 24, "127.0.0.9")
    bob = enter("bob")
    with contextlib.ExitStack() as opened:
        if who == "an account":
            first = enter("mallory")
            crowd: list[WireClient] = [first]
            for _ in range(count - 1):
                crowd.append(opened.enter_context(Person(server.port, tls, "mallory")))
                assert isinstance(crowd[-1].ask(m.Login, "mallory", first.secret, os.urandom(16)), m.LoggedIn)
        else:
            crowd = [opened.enter_context(WireClient(server.port, tls, source=paying)) for _ in range(count)]
        seen: list[int] = []
        fetch = server._sequencer._reading_only[m.FetchStatements]

        def note(session: object, request: m.FetchStatements) -> None:
            seen.append(handled(server, paying))
            fetch(session, request)  # type: ignore[arg-type]  # a session

        monkeypatch.setitem(server._sequencer._reading_only, m.FetchStatements, note)
        hold = Hold(server, bob)
        before = handled(server, paying)
        for client in crowd:
            client.send_raw(PING * each)
        bob.send(question(bob))  # behind all of theirs
        hold.let_go()
        for _ in range(2):
            assert isinstance(bob.take(m.Reply), m.Statements)
        assert seen[-1] - before <= payer.PAYER_UNITS + 1
        wait_until(lambda: handled(server, paying) == before + each * count)  # later, and all of it


@contextlib.contextmanager
def most_in_a_round(
    server: Server, somebody: Person, monkeypatch: pytest.MonkeyPatch, count: Callable[[], int]
) -> Iterator[list[int]]:
    """Have all that is sent meanwhile come at once; the list is how much `count` grows by in each round then."""
    (thread,) = server._threads
    grown: list[int] = []
    turn, before = thread._turn, count()

    def note(now: float) -> float:
        grown.append(count() - before - sum(grown))
        return turn(now)

    monkeypatch.setattr(thread, "_turn", note)
    hold = Hold(server, somebody)
    try:
        yield grown
    finally:
        hold.let_go()


def test_a_round_has_an_end_however_many_have_sent_something(
    server: Server, enter: Callable[..., Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reactor, "ROUND_TOTAL", 1000)
    bob, each = enter("bob"), 400
    crowd = [enter(f"mallory{number}") for number in range(6)]

    def count() -> int:
        return sum(handled(server, client.account) for client in crowd)

    before = count()
    with most_in_a_round(server, bob, monkeypatch, count) as grown:
        for client in crowd:
            client.send_raw(PING * each)
    wait_until(lambda: count() == before + each * len(crowd))
    wait_until(lambda: sum(grown) == each * len(crowd))
    assert max(grown) < 1000 + each


def test_what_came_in_one_record_is_handled_in_portions_and_counts_as_memory_meanwhile(
    server: Server, enter: Callable[..., Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    bob, mallory, count = enter("bob"), enter("mallory"), 2_500
    before, there = handled(server, "mallory"), connections_of(server, "mallory")[0].payer
    held: list[int] = []

    def count_and_weigh() -> int:
        held.append(there.held)
        return handled(server, "mallory")

    with most_in_a_round(server, bob, monkeypatch, count_and_weigh) as grown:
        mallory.send_raw(PING * count)
    wait_until(lambda: handled(server, "mallory") == before + count)
    wait_until(lambda: sum(grown) == count)
    assert max(grown) <= reactor.LONG * payer.PAYER_UNITS
    assert max(held) > (count - 2 * reactor.LONG * payer.PAYER_UNITS) * len(PING)
    wait_until(lambda: there.held == 0)


@pytest.mark.parametrize("last", ["bye", "end of the stream"])
def test_what_waits_is_handled_before_the_end_of_its_connection(
    server: Server, enter: Callable[..., Person], last: str
) -> None:
    mallory, count = enter("mallory"), 2_500
    (there,) = connections_of(server, "mallory")
    mallory.tls.write(PING * count)
    if last == "bye":
        mallory.tls.write(encode_frame(m.Closing("bye")))
    mallory.tls.close()
    mallory.socket.sendall(mallory.tls.data_to_send())
    wait_until(lambda: not connections_of(server, "mallory"))
    assert there._protocol.messages >= count
    assert there._reason == ("goodbye (bye)" if last == "bye" else "connection closed without a goodbye")


@pytest.mark.parametrize("talk", [True, False])
def test_those_who_send_much_share_what_a_round_has_for_them(
    server: Server, enter: Callable[..., Person], monkeypatch: pytest.MonkeyPatch, *, talk: bool
) -> None:
    """And take turns, however many connections each has."""
    bob, each = enter("bob"), 1_000
    names = [f"mallory{number}" for number in range(10)]
    with contextlib.ExitStack() as opened:
        crowd = [enter(name) for name in names]
        crowd += [opened.enter_context(another_device(crowd[0])) for _ in range(7)]
        behind: list[int] = []
        begun = [handled(server, name) for name in names]
        monkeypatch.setattr(reactor, "TALK_ROUNDS", 1 << 30 if talk else -1)
        monkeypatch.setattr(payer, "LIGHT_RATE", 0)  # a machine that stands still between two rounds makes nobody light

        def count() -> int:
            done = [handled(server, name) - first for name, first in zip(names, begun, strict=True)]
            behind.append(max(done) - min(done))
            return sum(done)

        with most_in_a_round(server, bob, monkeypatch, count) as grown:
            for client in crowd:
                client.send_raw(PING * each)
        wait_until(lambda: sum(grown) == each * len(crowd))
    share = payer.PAYER_UNITS if talk else reactor.LONG * payer.PAYER_UNITS
    most = (reactor.ROUND_UNITS if talk else reactor.LONG_UNITS) + share
    first, *later = [number for number in grown if number]
    assert first <= len(names) * share  # nobody had sent anything for a while
    assert max(later) <= most
    if not talk:  # the twin: then it is what they get done that counts
        assert max(later) > reactor.ROUND_UNITS + payer.PAYER_UNITS
    while_all_have_more = len(names) * each // most
    assert max(behind[:while_all_have_more]) <= 2 * share


def test_whoever_sends_little_waits_for_none_of_them(
    server: Server, enter: Callable[..., Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    bob, each = enter("bob"), 2_000
    crowd = [enter(f"mallory{number}") for number in range(10)]
    (thread,) = server._threads
    turn, rounds, asked = thread._turn, list[int](), list[int]()
    fetch = server._sequencer._reading_only[m.FetchStatements]

    def count(now: float) -> float:
        rounds.append(sum(handled(server, client.account) for client in crowd))
        if len(rounds) in (4, 24):  # in the midst of it
            bob.send(question(bob))
        return turn(now)

    def note(session: object, request: m.FetchStatements) -> None:
        asked.append(len(rounds))
        fetch(session, request)  # type: ignore[arg-type]  # a session

    hold = Hold(server, bob)
    monkeypatch.setattr(thread, "_turn", count)
    monkeypatch.setitem(server._sequencer._reading_only, m.FetchStatements, note)
    before = sum(handled(server, client.account) for client in crowd)
    for client in crowd:
        client.send_raw(PING * each)
    hold.let_go()
    for _ in range(3):
        assert isinstance(bob.take(m.Reply), m.Statements)
    wait_until(lambda: sum(handled(server, client.account) for client in crowd) == before + each * len(crowd))
    assert asked[-2:] == [5, 25]
    assert before < rounds[23] < before + each * len(crowd)  # they had more to say


def test_every_message_of_a_client_has_its_cost() -> None:
    assert costs.UNITS.keys() == {*TYPES, m.Refused}


@pytest.mark.parametrize("what", ["questions", "rooms", "logins", "handshakes"])
def test_what_costs_more_than_a_message_takes_more_of_a_round(
    server: Server, tls: ssl.SSLContext, enter: Callable[..., Person], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    bob, address = enter("bob"), "127.0.0.9"
    with contextlib.ExitStack() as opened:
        if what in ("questions", "rooms"):
            mallory = enter("mallory")
            others = (opened.enter_context(another_device(mallory)) for _ in range(7))
            crowd: list[WireClient] = [mallory, *others]
            kind: type[m.Message]
            kind, each = (m.FetchSessions, 20) if what == "questions" else (m.OpenRoom, 3)
        elif what == "logins":
            crowd = [opened.enter_context(WireClient(server.port, tls, source=address)) for _ in range(24)]
            kind, each = m.Login, 1
        else:
            crowd, each = [], 1

        def count() -> int:
            if what == "handshakes":
                return sum(connection._paid > 0 for connection in connections_of(server, address))
            return handled(server, address if what == "logins" else "mallory")

        with most_in_a_round(server, bob, monkeypatch, count) as grown:
            for client in crowd:
                for _ in range(each):
                    number = client.protocol.next_id()
                    if what == "logins":
                        client.protocol.send(m.Login(number, "alice", bytes(32), bytes(16)))
                    elif what == "rooms":
                        client.protocol.send(m.OpenRoom(number, bytes(32), b"", b""))
                    else:
                        client.protocol.send(m.FetchSessions(number))
                client.flush()
            if what == "handshakes":
                for _ in range(24):
                    outgoing = ssl.MemoryBIO()
                    with contextlib.suppress(ssl.SSLWantReadError):
                        tls.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1").do_handshake()
                    place = ("127.0.0.1", server.port)
                    sock = opened.enter_context(socket.create_connection(place, WAIT, (address, 0)))
                    sock.sendall(outgoing.read())
                (thread,) = server._threads
                wait_until(lambda: len(thread._new) == 24)
        wait_until(lambda: sum(grown) == (len(crowd) or 24) * each)
        cost = costs.HANDSHAKE_UNITS if what == "handshakes" else costs.UNITS[kind]
        assert max(grown) <= payer.PAYER_UNITS // cost + 1


# --- memory ---


def another_device(of: Person) -> Person:
    person = Person(of.port, of.context, of.account)
    person.identity, person.chain = of.identity, of.chain
    return person.login()


@pytest.fixture
def busy(server: Server) -> Iterator[Callable[[], threading.Event]]:
    """Have the validators do nothing until the event is set."""
    go = threading.Event()

    def begin() -> threading.Event:
        for _ in range(VALIDATORS):
            server._validators.submit(lambda: assert_set(go))
        return go

    yield begin
    go.set()


def test_large_requests_of_one_account_that_wait_for_their_answer_have_a_bound(
    server: Server,
    enter: Callable[..., Person],
    busy: Callable[[], threading.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(payer, "MAX_HELD", 1 << 20)
    size, fitting = 300_000, 4
    bob, mallory = enter("bob"), enter("mallory")
    with contextlib.ExitStack() as opened:
        crowd = [mallory, *(opened.enter_context(another_device(mallory)) for _ in range(5))]
        go = busy()
        for client in crowd:
            for _ in range(4):
                request = m.PublishKeyPackages(client.protocol.next_id(), [bytes(4000)] * (size // 4000), b"")
                client.protocol.send(request)
            send_in_background(client, client.protocol.data_to_send())
        (there,) = {each.payer for each in connections_of(server, "mallory")}
        wait_until(lambda: there.held > payer.MAX_HELD)
        for _ in range(100):
            assert isinstance(bob.ask(m.ListRooms), m.Rooms)
        assert there.held <= payer.MAX_HELD + 2 * size  # and one that may finish
        asked = sum(each._protocol.in_flight for each in connections_of(server, "mallory"))
        assert asked <= fitting + 1
        go.set()  # the twin: all of them are answered
        for client in crowd:
            for _ in range(4):
                assert client.take(m.Refused).code == "bad-request"
        wait_until(lambda: there.held == 0)


def test_all_accounts_together_have_a_bound_and_whoever_holds_little_goes_on(
    server: Server,
    enter: Callable[..., Person],
    busy: Callable[[], threading.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(payer, "MAX_HELD_BY_ALL", 1 << 20)
    monkeypatch.setattr(payer, "HELD_BY_ANYBODY", 1 << 18)
    size, each = 300_000, 6
    bob = enter("bob")
    crowd = [enter(name) for name in ("mallory", "trent", "victor", "walter", "eve")]
    go = busy()
    for client in crowd:
        for _ in range(each):
            request = m.PublishKeyPackages(client.protocol.next_id(), [bytes(4000)] * (size // 4000), b"")
            client.protocol.send(request)
        send_in_background(client, client.protocol.data_to_send())
    payers = [connections_of(server, client.account)[0].payer for client in crowd]
    wait_until(lambda: sum(there.held for there in payers) > payer.MAX_HELD_BY_ALL)
    for _ in range(100):
        assert isinstance(bob.ask(m.ListRooms), m.Rooms)
    assert sum(there.held for there in payers) <= payer.MAX_HELD_BY_ALL + len(crowd) * 2 * size
    for _ in range(2):  # the first might be the one that may be finished
        bob.protocol.send(m.PublishKeyPackages(bob.protocol.next_id(), [bytes(4000)] * 25, b""))
    bob.flush()
    wait_until(lambda: connections_of(server, "bob")[0].payer.asked > 200_000)  # read, though the others are not
    go.set()  # the twin: all of them are answered
    for client in [bob, bob, *(client for client in crowd for _ in range(each))]:
        assert client.take(m.Refused).code == "bad-request"
    wait_until(lambda: payers[0]._total.held == 0)


@pytest.mark.parametrize("finished", [False, True])
def test_half_a_message_is_not_kept_for_ever(
    server: Server, enter: Callable[..., Person], monkeypatch: pytest.MonkeyPatch, *, finished: bool
) -> None:
    alice = enter("alice")
    (there,) = connections_of(server, "alice")
    request = m.ListRooms(alice.protocol.next_id())
    frame = encode_frame(request)
    alice.protocol._in_flight[request.id] = m.ListRooms
    alice.send_raw(frame[:5])
    wait_until(lambda: there._unfinished[0] is not None)  # a sweep has seen it
    if finished:
        alice.send_raw(frame[5:])
        assert isinstance(alice.take(m.Reply), m.Rooms)
    monkeypatch.setattr(connection, "FRAME_SECONDS", 0.0)
    if finished:
        for _ in range(2):
            _, seen = there._unfinished
            wait_until(lambda seen=seen: there._unfinished[1] > seen)  # type: ignore[misc]  # one more
        assert isinstance(alice.ask(m.ListRooms), m.Rooms)
    else:
        closing = alice.ended().closing
        assert closing is not None
        assert closing.reason == "too-slow"


# --- those who go ---


def test_who_goes_while_nothing_is_read_from_it_is_noticed(start: Start, tls: ssl.SSLContext) -> None:
    server = start(messages_per_account=Rate(300, 0.001))
    with Person(server.port, tls, "mallory") as mallory:
        mallory.register().login()
        (there,) = connections_of(server, "mallory")
        mallory.send_raw(PING * 2000)  # what is not read stays between it and its end
        wait_until(lambda: not there._mask)
    wait_until(lambda: not connections_of(server, "mallory"))
