"""Work for validators and readers: fair by account, bounded in processor time, dropped with who asked for it."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import pytest

from securechat.server import workers as workers_module
from securechat.server.app import VALIDATORS, Server
from securechat.server.rate import Rate
from securechat.server.workers import WorkerPool
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import Person
from tests.support.waiting import PATIENCE, assert_set, wait_until


@pytest.fixture
def pool() -> Iterator[Callable[..., WorkerPool]]:
    """A pool that has not started, so that the order in which its jobs are taken is known."""
    pools: list[WorkerPool] = []

    def make(threads: int = 1, seconds: Rate = Rate(1000, 1000)) -> WorkerPool:
        pools.append(WorkerPool("test", threads, seconds, time.monotonic))
        return pools[-1]

    yield make
    for each in pools:
        each.stop()


def burn(seconds: float) -> None:
    """Use up processor time of this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_one_account_does_not_stand_before_all_others(pool: Callable[..., WorkerPool]) -> None:
    done: list[object] = []
    workers = pool()
    for number in range(50):
        workers.submit(lambda number=number: done.append(f"mallory {number}"), "mallory")  # type: ignore[misc]
    for name in ("alice", "bob"):
        workers.submit(lambda name=name: done.append(name), name)  # type: ignore[misc]
    workers.start()
    wait_until(lambda: len(done) == 52)
    assert set(done[:4]) > {"alice", "bob", "mallory 0"}
    assert [each for each in done if str(each).startswith("m")] == [f"mallory {number}" for number in range(50)]


@pytest.mark.parametrize("busy", [True, False])
def test_while_the_chat_has_much_to_do_a_pool_rests_between_two_jobs(
    monkeypatch: pytest.MonkeyPatch, *, busy: bool
) -> None:
    monkeypatch.setattr(workers_module, "MAX_REST", 3600.0)
    monkeypatch.setattr(workers_module, "REST", 3600.0 / 0.01)
    done: list[str] = []
    workers = WorkerPool("test", 2, Rate(1000, 1000), (lambda: 0.0) if busy else count(step=3600.0).__next__)
    workers.submit(partial(burn, 0.02), "alice")
    workers.start()
    wait_until(lambda: not workers.waiting and not workers._running)
    workers.submit(lambda: done.append("bob"), "bob")
    if busy:
        assert workers._rests_until - time.monotonic() > 1000
        assert workers.waiting == 1
    else:
        wait_until(lambda: bool(done))
    workers.stop()  # which ends the rest
    assert done == ["bob"]


def test_of_an_account_only_the_jobs_of_who_has_gone_are_dropped(pool: Callable[..., WorkerPool]) -> None:
    done: list[str] = []
    workers, gone, there = pool(), object(), object()
    for account, owner, name in (
        ("alice", there, "first"), ("alice", gone, "gone"), ("alice", there, "second"), ("alice", gone, "gone"),
        ("bob", gone, "bob's"), ("carol", gone, "gone"),
    ):  # fmt: skip
        workers.submit(lambda name=name: done.append(name), account, owner)  # type: ignore[misc]
    for account in ("alice", "carol", "nobody"):
        workers.drop(account, gone)
    assert workers.waiting == 3
    workers.start()
    workers.stop()
    assert [name for name in done if name != "bob's"] == ["first", "second"]
    assert sorted(done) == ["bob's", "first", "second"]


def test_whoever_has_used_much_waits_behind_whoever_has_not(pool: Callable[..., WorkerPool]) -> None:
    done: list[object] = []
    workers = pool(seconds=Rate(1000, 0.01))
    workers.start()
    workers.submit(lambda: burn(0.05), "mallory")
    go = threading.Event()
    workers.submit(lambda: done.append(go.wait(PATIENCE)), "somebody")
    workers.submit(lambda: done.append("mallory"), "mallory")
    for _ in range(3):
        workers.submit(lambda: done.append("alice"), "alice")
    go.set()
    wait_until(lambda: len(done) == 5)
    assert done == [True, "alice", "alice", "alice", "mallory"]


def test_whoever_has_used_up_its_time_waits_even_for_idle_threads(pool: Callable[..., WorkerPool]) -> None:
    done: list[object] = []
    workers = pool(2, Rate(1, 0.001))
    workers.start()
    workers.submit(lambda: burn(1.1), "mallory")
    workers.submit(lambda: done.append("mallory"), "mallory")  # as one account never has all threads: after that
    wait_until(lambda: workers.waiting == 1 and not workers._running)
    for _ in range(20):
        workers.submit(lambda: done.append("alice"), "alice")
    workers.submit(lambda: done.append("the server"))
    wait_until(lambda: len(done) == 21)
    assert "mallory" not in done


def test_the_twin_below_its_rate_goes_on(pool: Callable[..., WorkerPool]) -> None:
    done: list[object] = []
    workers = pool(2, Rate(1, 1000))
    workers.start()
    workers.submit(lambda: burn(1.1), "alice")
    workers.submit(lambda: done.append("alice"), "alice")
    wait_until(lambda: done == ["alice"])


def test_one_account_never_has_all_threads(pool: Callable[..., WorkerPool]) -> None:
    done: list[object] = []
    workers, go = pool(2), threading.Event()
    workers.start()
    for _ in range(3):
        workers.submit(lambda: done.append(go.wait(PATIENCE)), "mallory")
    workers.submit(lambda: done.append("alice"), "alice")
    wait_until(lambda: done == ["alice"])
    go.set()
    wait_until(lambda: done == ["alice", True, True, True])


@pytest.mark.parametrize("gone", [False, True])
def test_what_a_session_has_asked_of_validators_ends_with_it(
    server: Server, enter: Callable[..., Person], *, gone: bool
) -> None:
    alice = enter("alice")
    go = threading.Event()
    for _ in range(VALIDATORS):
        server._validators.submit(lambda: assert_set(go))
    for _ in range(20):
        alice.protocol.send(m.PublishKeyPackages(alice.protocol.next_id(), [bytes(4000)] * 50, b""))
    alice.flush()
    wait_until(lambda: server._validators.waiting == 20)
    if gone:
        alice.drop()
        wait_until(lambda: server._validators.waiting == 0)
    go.set()
    if not gone:
        for _ in range(20):
            assert alice.take(m.Refused).code == "bad-request"


def test_bad_key_packages_of_one_account_keep_nobody_out(
    server: Server, tls: ssl.SSLContext, enter: Callable[..., Person]
) -> None:
    """Measured in answers: however many of them wait, others come next."""
    mallory = enter("mallory")
    good = mallory.key_package()
    batch = [*(mallory.key_package() for _ in range(90)), good[:-1] + bytes([good[-1] ^ 1])]
    for _ in range(60):
        mallory.protocol.send(m.PublishKeyPackages(mallory.protocol.next_id(), batch, b""))
    mallory.flush()
    wait_until(lambda: server._validators.waiting > 50)
    with Person(server.port, tls, "alice") as alice:
        alice.register().login()  # an enrolment, which validators check
        assert isinstance(alice.open_room("#garden", "invite"), m.Done)
        assert server._validators.waiting > 0
