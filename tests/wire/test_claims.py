"""What a message claims to hold costs nothing: only what it holds does, and that is refused by its length first."""

import tracemalloc
from collections.abc import Callable

import msgspec
import pytest

from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.frames import encode_frame
from securechat.wire.protocol import Ended
from tests.support.pair import Pair

BILLIONS = (0xFFFF_FFFF).to_bytes(4, "big")
STRING, BINARY, ARRAY, MAP, EXTENSION = b"\xdb", b"\xc6", b"\xdd", b"\xdf", b"\xc9"
BIG = 2_000_000  # bytes, a little less than the largest frame


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def message(name: str, *fields: bytes) -> bytes:
    """A message of encoded fields."""
    return framed(bytes([0x91 + len(fields)]) + msgspec.msgpack.encode(name) + b"".join(fields))


def encoded(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


TO_SERVER = {
    "a name of 10 MB": framed(bytes(10_000_000)),
    "a name as large as a frame": message("FetchKeyPackages", b"\x01", encoded("x" * BIG)),
    "a string of 4 GiB": message("FetchKeyPackages", b"\x01", STRING + BILLIONS + b"x"),
    "a payload of 4 GiB": message("Submit", b"\x01", encoded(bytes(32)), b"\x01", BINARY + BILLIONS + b"x"),
    "a payload as large as a frame": message("Submit", b"\x01", encoded(bytes(32)), b"\x01", encoded(bytes(BIG))),
    "4 billion key packages": message("PublishKeyPackages", b"\x01", ARRAY + BILLIONS, encoded(b"")),
    "a million key packages": message("PublishKeyPackages", b"\x01", encoded([b""] * 1_000_000), encoded(b"")),
    "4 billion fields": framed(ARRAY + BILLIONS + encoded("Submit")),
    "4 billion keys": framed(MAP + BILLIONS),
    "keys that stand twice": framed(b"\x83" + 3 * (encoded("type") + encoded("Ping"))),
    "an extension of 4 GiB": message("Submit", EXTENSION + BILLIONS + b"\x01"),
    "an extension for a field": message("FetchKeyPackages", b"\x01", b"\xc7\x01\x01x"),
    "a lone surrogate": message("FetchKeyPackages", b"\x01", b"\xa3\xed\xa0\x80"),
    "nesting of arrays": framed(b"\x91" * BIG),
    "nesting in a field": message("FetchKeyPackages", b"\x91" * BIG),
    "nesting of maps": framed(b"\x81" * BIG),
    "an integer where bytes belong": message("Submit", b"\x01", b"\xcf" + bytes(8), b"\x01", encoded(b"")),
    "an integer that is too large": message("Submit", b"\x01", encoded(bytes(32)), b"\xcf" + b"\xff" * 8, encoded(b"")),
}


def ready() -> Pair:
    pair = Pair()
    pair.login()
    return pair


def cost(receive: Callable[[], list[object]]) -> tuple[list[object], int]:
    """What is received, and bytes of memory that it took at most."""
    tracemalloc.start()
    try:
        events = receive()
        return events, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", TO_SERVER)
def test_a_server_refuses_it_before_it_costs_anything(what: str) -> None:
    pair, data = ready(), TO_SERVER[what]
    events, peak = cost(lambda: list(pair.server.receive_data(data, pair.now)))
    (end,) = events
    assert isinstance(end, Ended)
    assert end.error is not None
    assert len(str(end.error)) < 500
    assert peak < 3 * min(len(data), limits.MAX_FRAME) + (64 << 10)  # the frame, taken out of the stream and decoded


def test_the_twin_that_holds_what_it_claims_is_taken() -> None:
    pair = ready()
    submit = m.Submit(1, bytes(32), 1, bytes(limits.MAX_PAYLOAD))
    fetch = m.FetchKeyPackages(2, "x" * limits.MAX_ACCOUNT)
    publish = m.PublishKeyPackages(3, [b""] * limits.MAX_KEY_PACKAGES, b"")
    data = b"".join(encode_frame(each) for each in (submit, fetch, publish))
    assert pair.server.receive_data(data, pair.now) == [submit, fetch, publish]


@pytest.mark.parametrize("what", ["4 billion keys", "nesting of arrays", "a name of 10 MB", "4 billion fields"])
def test_a_client_refuses_it_as_well(what: str) -> None:
    pair, data = ready(), TO_SERVER[what]
    events, peak = cost(lambda: list(pair.client.receive_data(data, pair.now)))
    assert isinstance(events[-1], Ended)
    assert events[-1].error is not None
    assert peak < 3 * min(len(data), limits.MAX_FRAME) + (64 << 10)


@pytest.mark.parametrize("claim", [b"\xdd", b"\xdc"])
def test_a_client_keeps_no_room_for_entries_that_a_list_only_claims(claim: bytes) -> None:
    pair = ready()
    request = pair.client.next_id()
    pair.client.send(m.ListRooms(request))
    count = BILLIONS if claim == b"\xdd" else BILLIONS[:2]
    events, peak = cost(lambda: list(pair.client.receive_data(message("Rooms", encoded(request), claim + count), 0.0)))
    assert isinstance(events[-1], Ended)
    assert peak < 64 << 10
