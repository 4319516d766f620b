"""Rates and seats, with the clock in hand."""

import math

import pytest

from securechat.errors import RefusedError
from securechat.server.admission import KEEP_SECONDS, ConnectionCounter, RateLimiter, WaitingRoom, address_key


def test_a_bucket_allows_a_burst_and_then_a_rate() -> None:
    limiter = RateLimiter(3, 0.5)
    for _ in range(3):
        limiter.take("a", 100.0)
    with pytest.raises(RefusedError, match="too many") as refusal:
        limiter.take("a", 101.0)
    assert refusal.value.code == "slow-down"
    limiter.take("b", 101.0)
    limiter.take("a", 102.0)
    with pytest.raises(RefusedError):
        limiter.take("a", 102.0)
    limiter.give_back("a")
    limiter.take("a", 102.0)


def test_buckets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securechat.server.admission.MAX_BUCKETS", 10)
    limiter = RateLimiter(1, 0.001)
    for address in range(1000):
        limiter.take(address, 0.0)
    assert len(limiter._buckets) == 10


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_an_address_stands_for_its_subscriber(host: str, key: str) -> None:
    assert address_key(host) == key


def test_connections_are_counted_in_all_and_by_address() -> None:
    counter = ConnectionCounter(limit=3, limit_per_address=2)
    counter.enter("a")
    counter.enter("a")
    with pytest.raises(RefusedError):
        counter.enter("a")
    counter.enter("b")
    with pytest.raises(RefusedError):
        counter.enter("c")
    counter.leave("a")
    counter.enter("c")


class Told(dict[str, list[int]]):
    """What each account was told."""

    def __call__(self, account: str, place: int) -> None:
        self.setdefault(account, []).append(place)


def test_seats_are_given_in_order_of_arrival() -> None:
    told = Told()
    room = WaitingRoom(1, told)
    assert [room.enter(account) for account in "abc"] == [0, 1, 2]
    room.leave("a", 0.0, keep=False)
    assert told == {"b": [0], "c": [1]}
    assert room.enter("d") == 2
    room.leave("c", 0.0, keep=True)  # gives up its place: only seats are kept
    assert told == {"b": [0], "c": [1], "d": [1]}
    room.leave("b", 0.0, keep=False)
    assert told["d"] == [1, 0]


def test_a_kept_seat_falls_to_the_next_after_its_time() -> None:
    told = Told()
    room = WaitingRoom(1, told)
    room.enter("a")
    assert room.enter("b") == 1
    room.leave("a", 100.0, keep=True)
    assert room.advance(100.0) == 100.0 + KEEP_SECONDS
    assert told == {}
    assert room.advance(100.0 + KEEP_SECONDS) == math.inf
    assert told == {"b": [0]}
    assert room.enter("a") == 1


def test_who_comes_back_in_time_has_its_seat() -> None:
    room = WaitingRoom(1, Told())
    room.enter("a")
    room.enter("b")
    room.leave("a", 100.0, keep=True)
    assert room.enter("a") == 0
    assert room.advance(100.0 + 2 * KEEP_SECONDS) == math.inf
