"""The direct link's protocol and the rule of its endpoints, as rules: no sockets, no threads, no clock."""

import ipaddress
import os

import pytest

from securechat.client.direct.endpoints import MAX_ENDPOINTS, Endpoint, allowed, is_own, is_reachable, own_addresses
from securechat.client.direct.protocol import (
    IDLE_SECONDS,
    LEAVING_SECONDS,
    MAX_DATA,
    MAX_LACKED,
    MAX_POSITION,
    MAX_TYPING,
    MIN_PROGRESS,
    OPENING_SECONDS,
    PING_SECONDS,
    SILENCE_SECONDS,
    TRANSITIONS,
    Came,
    Complete,
    Happening,
    Held,
    Lacking,
    LinkProtocol,
    Opened,
    Over,
    State,
    Stopped,
    Typed,
    Wanted,
)
from securechat.errors import UsageError
from securechat.wire.limits import BLOB_ID_LENGTH

BLOB = bytes(range(BLOB_ID_LENGTH))

BODIES = {
    1: b"\0\1",
    2: BLOB + bytes(8) + (100).to_bytes(8, "big"),
    3: b"data",
    4: b"",
    5: BLOB,
    6: b"",
    7: b"",
    8: b"",
    9: b"\1",
}
"""A good body of each type."""


def frame(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(4, "big") + body


def said(side: LinkProtocol, now: float = 0.0) -> bytes:
    return b"".join(side.data_to_send(now))


def pair() -> tuple[LinkProtocol, LinkProtocol]:
    """The listener and the one who connects, who have said hello."""
    listener, connector = LinkProtocol(listens=True, now=0.0), LinkProtocol(listens=False, now=0.0)
    assert connector.receive_data(said(listener), 0.0) == [Opened()]
    assert listener.receive_data(said(connector), 0.0) == [Opened()]
    return listener, connector


def in_state(state: State, *, expecting: int = 0) -> LinkProtocol:
    side, _ = pair()
    if state == "greeting":
        return LinkProtocol(listens=True, now=0.0)
    if expecting:
        side.want(BLOB, 0, expecting, 0.0)
    if state == "leaving":
        side.bye(0.0)
    elif state == "ended":
        side.receive_eof()
    return side


def over(happenings: list[Happening]) -> str:
    """The reason for which a link has just ended."""
    assert happenings
    assert isinstance(happenings[-1], Over)
    return happenings[-1].reason


# --- what is said -------------------------------------------------------------------------------------------------


def test_the_listener_speaks_first_and_nobody_says_more_before_the_hellos() -> None:
    listener, connector = LinkProtocol(listens=True, now=0.0), LinkProtocol(listens=False, now=0.0)
    assert said(connector) == b""
    with pytest.raises(UsageError):
        connector.want(BLOB, 0, 1, 0.0)
    assert said(listener) == frame(1, BODIES[1])
    assert (listener.state, connector.state) == ("greeting", "greeting")


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 1000])
def test_a_stream_means_the_same_however_it_is_cut(step: int) -> None:
    giver, taker = pair()
    content = os.urandom(3000)
    taker.want(BLOB, 7, len(content), 0.0)
    assert giver.receive_data(said(taker), 0.0) == [Wanted(BLOB, 7, 3000)]
    giver.send_data(content[:1000], 0.0)
    giver.send_data(content[1000:], 0.0)
    giver.have(BLOB)
    giver.bye(0.0)
    stream = said(giver)
    got: list[Happening] = []
    for at in range(0, len(stream), step):
        got += taker.receive_data(stream[at : at + step], 0.0)
    assert b"".join(each.data for each in got if isinstance(each, Came)) == content
    assert [each for each in got if not isinstance(each, Came)] == [Complete(), Held(BLOB), Over("")]
    assert giver.receive_data(said(taker), 0.0) == [Over("")]  # both have said it


def test_both_sides_want_and_give_at_once() -> None:
    sides = pair()
    for side in sides:
        side.want(BLOB, 0, 4, 0.0)
    for one, other in (sides, sides[::-1]):
        assert one.receive_data(said(other), 0.0) == [Wanted(BLOB, 0, 4)]
    for one, other in (sides, sides[::-1]):
        one.send_data(b"four", 0.0)
        assert other.receive_data(said(one), 0.0) == [Came(b"four"), Complete()]


def test_who_lacks_a_piece_says_so_and_is_asked_for_others() -> None:
    giver, taker = pair()
    for sent in (b"", b"abc"):
        taker.want(BLOB, 0, 9, 0.0)
        giver.receive_data(said(taker), 0.0)
        if sent:
            giver.send_data(sent, 0.0)
        giver.lack()
        assert taker.receive_data(said(giver), 0.0)[-1] == Lacking()
    assert taker.expected == giver.owed == 0


@pytest.mark.parametrize("sent", ["a part", "all"])
def test_who_stops_a_piece_hears_no_more_of_it_and_can_want_another_one(sent: str) -> None:
    """Also when the last of it has crossed the word."""
    giver, taker = pair()
    taker.want(BLOB, 0, 9, 0.0)
    giver.receive_data(said(taker), 0.0)
    giver.send_data(b"abc", 0.0)
    assert taker.receive_data(said(giver), 0.0) == [Came(b"abc")]
    for _ in range(2):
        taker.stop()
    giver.send_data(b"def" if sent == "a part" else b"defghi", 0.0)
    heard = giver.receive_data(said(taker), 0.0)
    assert heard == ([Stopped()] if sent == "a part" else [])
    if heard:
        giver.lack()
    assert taker.receive_data(said(giver), 0.0) == [Lacking()]
    taker.want(BLOB, 0, 2, 0.0)
    assert giver.receive_data(said(taker), 0.0) == [Wanted(BLOB, 0, 2)]
    giver.send_data(b"ab", 0.0)
    assert taker.receive_data(said(giver), 0.0) == [Came(b"ab"), Complete()]


def test_who_types_is_told_as_often_as_a_client_says_it() -> None:
    one, other = pair()
    for each in range(2 * MAX_TYPING):
        now = 0.0 if each < MAX_TYPING else SILENCE_SECONDS
        one.typing(typing=bool(each % 2))
        assert other.receive_data(said(one), now) == [Typed(bool(each % 2))]


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", TRANSITIONS)
@pytest.mark.parametrize("kind", [*BODIES, 0, 10, 255])
def test_what_may_come_in_each_state_is_what_the_table_says(state: State, kind: int) -> None:
    side = in_state(state, expecting=4 if kind in {3, 4} and state in {"open", "leaving"} else 0)
    happenings = side.receive_data(frame(kind, BODIES.get(kind, b"")), 0.0)
    if state == "ended":
        assert happenings == []
    elif kind in TRANSITIONS[state]:
        assert side.state == TRANSITIONS[state][kind]
        assert not [each for each in happenings if isinstance(each, Over) and each.reason]
    else:
        assert f"a frame of type {kind} has no place here" in over(happenings)
        assert side.state == "ended"


@pytest.mark.parametrize(
    ("kind", "body"),
    [(1, b""), (1, b"\0\1\0"), (2, BODIES[2][:-1]), (3, b""), (4, b"x"), (5, BLOB[1:]), (6, b"x"), (7, b"x"), (8, b"x"),
     (9, b""), (9, b"\0\0")],
)  # fmt: skip
def test_a_body_of_a_wrong_length_is_refused_by_its_header(kind: int, body: bytes) -> None:
    side = in_state("greeting" if kind == 1 else "open", expecting=4 if kind == 3 else 0)
    assert f"a frame of type {kind} is {len(body)} bytes long" in over(side.receive_data(frame(kind, body)[:5], 0.0))


def test_a_frame_of_more_than_the_largest_data_is_refused_by_its_header() -> None:
    for length, fits in ((MAX_DATA, True), (MAX_DATA + 1, False), (2**32 - 1, False)):
        side = in_state("open", expecting=1 << 40)
        happenings = side.receive_data(b"\3" + length.to_bytes(4, "big"), 0.0)
        assert happenings == [] if fits else f"is {length} bytes long" in over(happenings)


def wanted(offset: int, length: int) -> bytes:
    return frame(2, BLOB + offset.to_bytes(8, "big") + length.to_bytes(8, "big"))


@pytest.mark.parametrize(
    ("expecting", "stream", "words"),
    [
        (3, frame(3, b"four"), "more bytes than were asked for"),
        (5, frame(3, b"four") + frame(3, b"xy"), "more bytes than were asked for"),
        (0, frame(3, b"x"), "more bytes than were asked for"),
        (4, frame(3, b"four") + frame(4, b""), "lacks what nobody wants"),
        (0, frame(4, b""), "lacks what nobody wants"),
        (0, wanted(0, 1) * 2, "a second piece"),
        (0, wanted(0, 0), "a piece that no blob can have"),
        (0, wanted(MAX_POSITION, 1), "a piece that no blob can have"),
        (0, wanted(2**64 - 1, 2**64 - 1), "a piece that no blob can have"),
        (0, frame(1, BODIES[1]), "has no place here"),
        (0, frame(9, b"\2"), "types and does not"),
        (0, frame(9, b"\0") * (MAX_TYPING + 1), "all the time"),
    ],
)
def test_what_nobody_wants_ends_the_link_in_words(expecting: int, stream: bytes, words: str) -> None:
    side = in_state("open", expecting=expecting)
    assert words in over(side.receive_data(stream, 0.0))
    assert side.receive_data(frame(7, b""), 0.0) == []  # nothing more is heard


def test_another_version_is_refused_by_its_number() -> None:
    side = LinkProtocol(listens=False, now=0.0)
    assert "it speaks version 2, and we 1" in over(side.receive_data(frame(1, b"\0\2"), 0.0))
    assert said(side) == b""


def test_garbage_ends_in_words_and_never_in_an_exception() -> None:
    for _ in range(300):
        side = in_state("open", expecting=100)
        for happening in side.receive_data(os.urandom(200), 0.0):
            assert not isinstance(happening, Over) or "broke the link's protocol" in happening.reason


def test_a_stream_that_ends_without_a_bye_is_a_lost_link() -> None:
    assert over(in_state("open").receive_eof()) == "the other side has gone"
    assert over(in_state("greeting").receive_eof()) == "the other side has gone"
    assert over(in_state("leaving").receive_eof()) == ""
    assert in_state("ended").receive_eof() == []


def test_nobody_sends_more_than_is_wanted() -> None:
    giver, taker = pair()
    taker.want(BLOB, 0, 3, 0.0)
    giver.receive_data(said(taker), 0.0)
    for data in (b"", b"four"):
        with pytest.raises(UsageError):
            giver.send_data(data, 0.0)
    with pytest.raises(UsageError):
        taker.want(BLOB, 0, 3, 0.0)


def test_who_wants_again_and_again_what_is_not_here_is_left() -> None:
    """Nobody need read our answers, which would wait for ever."""
    side, _ = pair()
    for _ in range(MAX_LACKED):
        side.receive_data(wanted(0, 1), 0.0)
        assert side.lack() == []
    side.receive_data(wanted(0, 1), 0.0)
    assert "again and again" in over(side.lack())


# --- time ---------------------------------------------------------------------------------------------------------


def test_without_a_hello_it_ends_in_time() -> None:
    side = LinkProtocol(listens=False, now=5.0)
    assert side.timer == 5.0 + OPENING_SECONDS
    assert side.handle_timer(side.timer - 0.1) == []
    assert "has not said hello in time" in over(side.handle_timer(side.timer))


def test_pings_keep_an_open_link_until_nobody_uses_it() -> None:
    sides = pair()
    now, ended = 0.0, 0
    while ended < 2:
        now += PING_SECONDS / 2
        for one, other in (sides, sides[::-1]):
            assert one.handle_timer(now) == []
            ended += other.receive_data(said(one, now), now) == [Over("")]
        assert now <= IDLE_SECONDS
    assert now == IDLE_SECONDS


def test_silence_ends_it() -> None:
    side, _ = pair()
    assert side.handle_timer(SILENCE_SECONDS - 0.1) == []
    assert "nothing more came" in over(side.handle_timer(SILENCE_SECONDS))


@pytest.mark.parametrize(("much", "slow"), [(MIN_PROGRESS - 1, True), (MIN_PROGRESS, False)])
def test_a_slow_giver_is_given_up_however_often_it_pings(much: int, slow: bool) -> None:  # noqa: FBT001 - parametrized
    side = in_state("open", expecting=1 << 30)
    side.receive_data(frame(3, bytes(much)), 1.0)
    side.receive_data(frame(6, b""), SILENCE_SECONDS - 1)
    happenings = side.handle_timer(SILENCE_SECONDS)
    assert over(happenings) == "the other side is too slow" if slow else happenings == []
    if not slow:  # a window does not pay for the next one
        side.receive_data(frame(6, b""), 2 * SILENCE_SECONDS - 1)
        assert over(side.handle_timer(2 * SILENCE_SECONDS)) == "the other side is too slow"


@pytest.mark.parametrize(("much", "slow"), [(MIN_PROGRESS - 1, True), (MIN_PROGRESS, False)])
def test_a_slow_taker_is_given_up(much: int, slow: bool) -> None:  # noqa: FBT001 - parametrized
    side, _ = pair()
    side.receive_data(wanted(0, 1 << 30), 0.0)
    side.send_data(bytes(much), 1.0)
    side.receive_data(frame(6, b""), SILENCE_SECONDS - 1)
    happenings = side.handle_timer(SILENCE_SECONDS)
    assert over(happenings) == "the other side is too slow" if slow else happenings == []


def test_who_does_not_answer_a_bye_is_not_waited_for() -> None:
    side = in_state("leaving")
    side.receive_data(frame(6, b""), LEAVING_SECONDS - 1)
    assert side.timer == LEAVING_SECONDS
    assert over(side.handle_timer(LEAVING_SECONDS)) == ""


def test_a_timer_that_was_handled_lies_in_the_future() -> None:
    """Else whoever waits for it would wait no more at all."""
    side, now = in_state("open", expecting=1 << 30), 0.0
    for _ in range(30):
        now = side.timer
        side.receive_data(frame(3, bytes(MIN_PROGRESS)), now)
        assert side.handle_timer(now) == []
        assert side.timer > now
    assert now > 3 * SILENCE_SECONDS


# --- where it may lead --------------------------------------------------------------------------------------------

PRIVATE = ["10.1.2.3", "172.16.0.1", "172.31.255.1", "192.168.1.20", "fd12:3456::1"]
PUBLIC = ["93.184.216.34", "2606:2800:220:1::1"]
NEVER = [
    "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "169.254.169.254", "169.254.1.1", "fe80::1", "224.0.0.1",  # noqa: S104
    "239.1.2.3", "ff02::1", "ff0e::1", "255.255.255.255", "240.0.0.1", "100.64.0.1", "100.100.100.200", "192.0.2.1",
    "fd00:ec2::254", "fd20:ce::254", "168.63.129.16", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8",
    "64:ff9b::7f00:1", "64:ff9b::808:808", "2002:7f00:1::", "2001:0:1::1", "2001:db8::1", "::7f00:1", "192.0.0.192",
    "198.18.0.1", "fec0::1",
]  # fmt: skip


@pytest.mark.parametrize("address", [*PRIVATE, *PUBLIC, *NEVER])
def test_a_link_leads_to_private_addresses_and_to_public_ones_if_the_user_says_so(address: str) -> None:
    parsed = ipaddress.ip_address(address)
    assert is_reachable(parsed, wide=False) == (address in PRIVATE)
    assert is_reachable(parsed, wide=True) == (address in PRIVATE + PUBLIC)


def test_of_an_offer_a_few_allowed_endpoints_are_tried_each_once() -> None:
    def endpoint(address: str, port: int = 4000) -> Endpoint:
        return Endpoint(ipaddress.ip_address(address), port)

    good = [endpoint(f"10.0.0.{each}") for each in range(1, 9)]
    bad = [endpoint("10.0.0.1", 22), endpoint("10.0.0.1", 1023), endpoint("127.0.0.1"), endpoint("10.9.9.9")]
    ours = ipaddress.ip_address("10.9.9.9")
    assert allowed([*bad, *good, *good], ours.__eq__, wide=False) == good[:MAX_ENDPOINTS]
    assert allowed([*good[:2], *good[:2]], ours.__eq__, wide=True) == good[:2]
    assert allowed([endpoint("10.0.0.1", 1024)], ours.__eq__, wide=False)


def test_an_endpoint_is_shown_as_people_write_it() -> None:
    assert str(Endpoint(ipaddress.ip_address("10.0.0.1"), 4000)) == "10.0.0.1:4000"
    assert str(Endpoint(ipaddress.ip_address("fd00::1"), 4000)) == "[fd00::1]:4000"


def test_our_addresses_are_those_from_which_we_reach_others() -> None:
    found = own_addresses("127.0.0.1")
    assert ipaddress.ip_address("127.0.0.1") in found  # from which this machine reaches itself: it is never told
    assert len(set(found)) == len(found) <= MAX_ENDPOINTS
    assert all(each in found for each in own_addresses("localhost"))  # no name is resolved
    assert all(is_own(each) for each in found)
    assert not is_own(ipaddress.ip_address("198.51.100.7"))
