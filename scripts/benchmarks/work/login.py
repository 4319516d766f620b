"""How many clients a second get in: with a TLS handshake and a resume token, and with a password."""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from scripts.benchmarks.contest import OURS, Contest, Run, durable, figures, medians, running
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.systems.floor import Floor
from scripts.benchmarks.systems.securechat import SecureChat
from scripts.benchmarks.systems.system import STALLED, ServerFailedError, System

AT_ONCE = 8  # clients that are on their way in: enough to keep the server busy while others compute
RESUMES = 500
PASSWORDS = 50
GOAL = 700  # resumes a second


@dataclass(frozen=True)
class Entry:
    """What letting clients in came to."""

    count: int
    seconds: float
    cpu: float  # seconds, of the server's process


def enter(system: System, steps: Sequence[Callable[[], None]]) -> Entry:
    """Let clients in by these steps, AT_ONCE at a time.

    Each of those is a process: threads would wait for each other's handshakes more than for the server.
    """
    forking = multiprocessing.get_context("fork")
    gate = forking.Barrier(AT_ONCE + 1)
    failures = forking.SimpleQueue()

    def work(mine: Sequence[Callable[[], None]]) -> None:
        try:
            gate.wait(STALLED)  # ready
            gate.wait(STALLED)  # go
            for step in mine:
                step()
            gate.wait(STALLED)  # all are in
            gate.wait(STALLED)  # and that has been measured
        except threading.BrokenBarrierError:
            pass  # another one has failed
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent tells
            failures.put(f"a client did not get into {system.name}: {error}")
            gate.abort()

    processes = [forking.Process(target=work, args=(steps[number::AT_ONCE],)) for number in range(AT_ONCE)]
    try:
        for process in processes:
            process.start()
        gate.wait(STALLED)
        began, cpu = time.perf_counter(), system.process.cpu()
        gate.wait(STALLED)
        gate.wait(STALLED)
        entry = Entry(len(steps), time.perf_counter() - began, system.process.cpu() - cpu)
        gate.wait(STALLED)
    except threading.BrokenBarrierError:
        raise ServerFailedError(
            f"clients did not get into {system.name} in {STALLED:.0f} s" if failures.empty() else failures.get()
        ) from None
    finally:
        gate.abort()
        for process in processes:
            if process.pid is not None:
                process.join()
    return entry


def login(run: Run) -> Iterator[Figure]:
    """With a token, then with a password."""
    with running(Floor, durable, *run.peers) as systems:
        yield from resumes(systems, run.rounds)
    with running(durable) as (ours,):
        assert isinstance(ours, SecureChat)
        entry = enter(ours, [ours.newcomer().log_in_with_password for _ in range(PASSWORDS)])
        case = f"TLS handshake and password, {AT_ONCE} at once"
        yield from figures(case, "logins", "1/s", {ours: entry.count / entry.seconds})
        yield from figures(case, "server CPU per login", "µs", {ours: entry.cpu / entry.count * 1e6})


def resumes(systems: Sequence[System], rounds: int) -> Iterator[Figure]:
    """Ours give a token; the others have none: their clients give a name, and a password that nobody looks at."""
    contest = Contest(systems, lambda _: None, rounds)
    results = contest.results(lambda system, _: enter(system, [system.newcomer().log_in for _ in range(RESUMES)]))
    case = f"TLS handshake and token, {AT_ONCE} at once"
    rates = medians(results, lambda entry: entry.count / entry.seconds)
    yield from figures(case, "logins", "1/s", rates, {OURS: GOAL}, absolute=True, at_least=True)
    cpu = medians(results, lambda entry: entry.cpu / entry.count * 1e6)
    yield from figures(case, "server CPU per login", "µs", cpu)
