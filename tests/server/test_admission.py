"""Rates, newcomers and seats, with the clock in hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.errors import RefusedError, StorageError
from securechat.server.admission.newcomers import Newcomers
from securechat.server.config import ServerConfig
from securechat.server.rate import Rate
from securechat.server.rates import RateLimiter, Rates, address_key
from securechat.server.sequencer.seats import KEEP_SECONDS, WaitingRoom


def limiter(burst: int, per_second: float) -> RateLimiter:
    return RateLimiter(Rate(burst, per_second), "too many")


def test_a_bucket_allows_a_burst_and_then_a_rate() -> None:
    bucket = limiter(3, 0.5).bucket("a")
    for _ in range(3):
        bucket.take(100.0)
    with pytest.raises(RefusedError, match="too many") as refusal:
        bucket.take(101.0)
    assert refusal.value.code == "slow-down"
    assert refusal.value.retry_after == pytest.approx(1.0, abs=1e-4)
    bucket.take(102.0)
    with pytest.raises(RefusedError):
        bucket.take(102.0)


def test_many_tokens_take_as_long_to_flow_in_and_a_burst_pays_for_any_number() -> None:
    bucket = limiter(4, 0.5).bucket("a")
    bucket.take(100.0, 3)
    with pytest.raises(RefusedError) as refusal:
        bucket.take(100.0, 2)
    assert refusal.value.retry_after == pytest.approx(2.0, abs=1e-4)
    bucket.take(102.0, 2)
    with pytest.raises(RefusedError) as refusal:
        bucket.take(102.0, 1000)
    assert refusal.value.retry_after == pytest.approx(8.0, abs=1e-4)
    bucket.take(110.0, 1000)
    with pytest.raises(RefusedError):
        bucket.take(110.0)


def test_what_is_taken_in_any_case_is_owed_and_a_burst_of_it_is_not() -> None:
    bucket = limiter(4, 0.5).bucket("a")
    assert [bucket.owe(100.0, 3.5), bucket.owe(100.0, 0.5)] == [0.0, 0.0]
    assert bucket.owe(100.0, 1.5) == pytest.approx(3.0, abs=1e-4)
    assert bucket.owe(102.0, 0) == pytest.approx(1.0, abs=1e-4)
    assert [bucket.owe(103.1, 0), bucket.owe(200.0, 4)] == [0.0, 0.0]
    assert bucket.owe(200.0, 1) == pytest.approx(2.0, abs=1e-4)


def test_each_key_has_its_bucket_and_a_token_can_be_given_back() -> None:
    limit = limiter(1, 0.5)
    limit.take("a", 100.0)
    limit.take("b", 100.0)
    with pytest.raises(RefusedError):
        limit.take("a", 100.0)
    limit.give_back("a")
    limit.take("a", 100.0)


@given(
    burst=st.integers(1, 20),
    per_second=st.floats(0.01, 1e6),
    steps=st.lists(st.floats(0, 100).map(lambda seconds: round(seconds, 3)), max_size=60),
)
def test_a_bucket_never_gives_more_than_its_burst_and_what_flowed_in(
    burst: int, per_second: float, steps: list[float]
) -> None:
    """And a client that waits as long as it was told gets its token."""
    limit = limiter(burst, per_second)
    now = 1e6
    for given_out, step in enumerate(steps, 1):
        now += step
        try:
            limit.take("a", now)
        except RefusedError as refusal:
            now += refusal.retry_after + 1e-6  # a float is not exact; on the wire it is rounded up to ms
            limit.take("a", now)
        assert given_out <= burst + (now - 1e6 + 2e-6) * per_second  # 2 µs for rounding


def test_buckets_are_bounded_and_the_longest_unused_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securechat.server.rates.MAX_BUCKETS", 10)
    limit = limiter(2, 0.001)
    for address in range(1000):
        limit.take(address, 0.0)
        limit.bucket(0)
    assert len(limit._buckets) == 10
    limit.take(0, 0.0)
    with pytest.raises(RefusedError):
        limit.take(0, 0.0)


def test_a_rate_can_change_while_buckets_are_in_use() -> None:
    limit = limiter(1, 0.01)
    bucket = limit.bucket("a")
    bucket.take(0.0)
    with pytest.raises(RefusedError):
        bucket.take(1.0)
    limit.change(Rate(1000, 100))
    with pytest.raises(RefusedError) as refusal:
        bucket.take(1.0)
    assert refusal.value.retry_after == pytest.approx(0.01, abs=1e-4)
    bucket.take(1.02)


def test_each_rate_of_the_settings_can_change_and_says_how_often_it_has_refused() -> None:
    settings = [name for name, value in vars(ServerConfig()).items() if isinstance(value, Rate)]
    rates = Rates(ServerConfig())
    rates.change(ServerConfig(**{name: Rate(1, 0.01) for name in settings}))  # type: ignore[arg-type]  # rates alone
    limiters = [each for each in vars(rates).values() if isinstance(each, RateLimiter)]
    assert len(limiters) == len(settings)
    for each in limiters:
        each.take("a", 0.0)
        for _ in range(2):
            with pytest.raises(RefusedError):
                each.take("a", 0.0)
    assert rates.refused() == dict.fromkeys(settings, 2)


@pytest.mark.parametrize(("text", "rate"), [("200 + 5/s", Rate(200, 5)), ("1+0.002/s", Rate(1, 0.002))])
def test_a_rate_has_a_written_form(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == Rate.parse(str(rate)) == rate


@pytest.mark.parametrize(
    "text",
    ["", "5", "5/s", "0 + 1/s", "1 + 0/s", "1 + 0.001/s", "-1 + 1/s", "1 + 1e9/s", "1 + nan/s", "1 + 1/s\n", "٣ + 1/s"],
)
def test_a_rate_that_would_lock_out_for_longer_than_ten_minutes_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="Expected a burst and a rate"):
        Rate.parse(text)


def test_strangers_who_guess_do_not_keep_the_owner_out() -> None:
    rates = Rates(ServerConfig(attempts_per_account=Rate(3, 0.01)))
    rates.attempt("alice", "home", 0.0).succeeded()
    for number in range(3):
        assert not rates.attempt("alice", f"stranger {number}", 0.0).familiar
    with pytest.raises(RefusedError):
        rates.attempt("alice", "stranger 3", 0.0)
    for _ in range(3):
        assert rates.attempt("alice", "home", 0.0).familiar
    with pytest.raises(RefusedError):
        rates.attempt("alice", "home", 0.0)


def test_the_twin_whom_nobody_knows_shares_the_bucket_of_the_strangers() -> None:
    rates = Rates(ServerConfig(attempts_per_account=Rate(3, 0.01)))
    for number in range(3):
        rates.attempt("alice", f"stranger {number}", 0.0)
    with pytest.raises(RefusedError) as refusal:
        rates.attempt("alice", "home", 0.0)
    rates.attempt("alice", "home", refusal.value.retry_after)


def test_an_address_that_is_refused_at_one_account_has_not_used_up_its_own_attempts() -> None:
    rates = Rates(ServerConfig(attempts_per_account=Rate(1, 0.01), attempts_per_address=Rate(3, 0.01)))
    rates.attempt("alice", "here", 0.0)
    for _ in range(10):
        with pytest.raises(RefusedError, match="at this account"):
            rates.attempt("alice", "here", 0.0)
    rates.attempt("bob", "here", 0.0)
    rates.attempt("carol", "here", 0.0)
    with pytest.raises(RefusedError, match="from this network address"):
        rates.attempt("dave", "here", 0.0)


def test_a_wrong_password_is_a_guess_and_no_login() -> None:
    rates = Rates(ServerConfig(logins_per_account=Rate(1, 0.01), attempts_per_account=Rate(2, 0.01)))
    for error in (RefusedError("login-refused", "wrong"), StorageError("the disk is full")):
        rates.attempt("alice", "here", 0.0).failed(error)
    with pytest.raises(RefusedError, match="too many attempts at this account"):
        rates.attempt("alice", "here", 0.0)


def test_a_right_password_is_a_login_and_no_guess() -> None:
    rare = Rate(1, 0.01)
    rates = Rates(ServerConfig(logins_per_account=Rate(2, 0.01), attempts_per_account=rare, attempts_per_address=rare))
    for _ in range(2):
        rates.attempt("alice", "here", 0.0).succeeded()
    with pytest.raises(RefusedError, match="too often"):
        rates.attempt("alice", "here", 0.0)


def test_what_was_not_tried_after_all_counts_for_nothing() -> None:
    once = Rate(1, 0.01)
    rates = Rates(ServerConfig(logins_per_account=once, attempts_per_account=once, attempts_per_address=once))
    for _ in range(3):
        rates.attempt("alice", "here", 0.0).forget()
    for _ in range(3):
        rates.attempt("alice", "here", 0.0).failed(RefusedError("busy", ""))
    rates.attempt("alice", "here", 0.0)


def test_known_addresses_are_bounded_and_the_longest_unused_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securechat.server.rates.MAX_BUCKETS", 3)
    rates = Rates(ServerConfig())
    for address in ("home", "work", "train", "home", "home", "café"):
        rates.remember("alice", address)
    known = {address: rates.attempt("alice", address, 0.0).familiar for address in ("home", "work", "train", "café")}
    assert known == {"home": True, "work": False, "train": True, "café": True}


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


def test_the_oldest_newcomer_gives_way() -> None:
    newcomers = Newcomers[str](limit=5, limit_per_address=3)
    for name in ("a1", "a2", "a3", "b1", "b2"):
        assert newcomers.enter(name[0], name) is None
    assert newcomers.enter("a", "a4") == "a1"  # its address has its share
    assert newcomers.enter("c", "c1") == "a2"  # all are full: the address with most
    newcomers.leave("b", "b1")
    newcomers.leave("b", "b1")  # the second time it is gone already
    newcomers.leave("a", "a1")
    assert len(newcomers) == 4
    assert newcomers.enter("c", "c2") is None
    for name in ("a3", "a4", "b2", "c1", "c2"):
        newcomers.leave(name[0], name)
    assert len(newcomers) == 0
    assert newcomers._by_address == {}


def test_an_address_that_has_its_share_pushes_out_its_own() -> None:
    newcomers = Newcomers[str](limit=5, limit_per_address=2)
    for name in ("b1", "a1", "a2"):
        assert newcomers.enter(name[0], name) is None
    assert newcomers.enter("a", "a3") == "a1"
    assert newcomers.enter("b", "b2") is None
    assert newcomers.enter("c", "c1") is None
    assert newcomers.enter("c", "c2") == "b1"  # all are full: of those that have most, the first
    assert len(newcomers) == 5


class Told(dict[str, list[int]]):
    """What each account was told."""

    def __call__(self, account: str, place: int) -> None:
        self.setdefault(account, []).append(place)


def test_seats_are_given_in_order_of_arrival() -> None:
    told = Told()
    room = WaitingRoom(1, 0, told)
    assert [room.enter(account, "here") for account in "abc"] == [0, 1, 2]
    room.leave("a", 0.0, keep=False)
    assert told == {"b": [0], "c": [1]}
    assert room.enter("d", "here") == 2
    room.leave("c", 0.0, keep=True)  # gives up its place: only seats are kept
    assert told == {"b": [0], "c": [1], "d": [1]}
    room.leave("b", 0.0, keep=False)
    assert told["d"] == [1, 0]


def test_a_kept_seat_falls_to_the_next_after_its_time() -> None:
    told = Told()
    room = WaitingRoom(1, 0, told)
    room.enter("a", "here")
    assert room.enter("b", "here") == 1
    room.leave("a", 100.0, keep=True)
    assert room.advance(100.0) == 100.0 + KEEP_SECONDS
    assert told == {}
    assert room.advance(100.0 + KEEP_SECONDS) == math.inf
    assert told == {"b": [0]}
    assert room.enter("a", "here") == 1


def test_who_comes_back_in_time_has_its_seat() -> None:
    room = WaitingRoom(1, 0, Told())
    room.enter("a", "here")
    room.enter("b", "here")
    room.leave("a", 100.0, keep=True)
    assert room.enter("a", "here") == 0
    assert room.advance(100.0 + 2 * KEEP_SECONDS) == math.inf


def test_one_address_has_its_share_of_the_seats_and_others_pass_those_who_wait_for_it() -> None:
    told = Told()
    room = WaitingRoom(4, 3, told)
    assert [room.enter(account, "there") for account in "abcde"] == [0, 0, 0, 1, 2]
    assert room.enter("f", "here") == 0
    assert [room.enter("g", "here"), room.enter("h", "elsewhere")] == [3, 4]
    room.leave("f", 0.0, keep=False)
    assert told == {"g": [0], "h": [3]}  # the first for whom there is a place
    room.leave("a", 0.0, keep=True)
    room.advance(KEEP_SECONDS)
    assert told["d"] == [0]
    for account in "gbcdeh":
        room.leave(account, KEEP_SECONDS, keep=False)
    assert (room._origins, room._seated) == ({}, {})
