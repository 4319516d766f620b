"""A server is killed with 100,000 entries that nobody has read, and started again: how long until a client can read."""

import signal
import statistics
import time
from collections.abc import Iterator

from scripts.benchmarks.contest import OURS, Run, durable, running
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.systems.securechat import Peer, SecureChat
from scripts.benchmarks.work import workloads

GOAL = 2.0  # seconds


def restart(run: Run) -> Iterator[Figure]:
    """Killed, so that nothing has been put in order; at once, so that much of it is still in the log's tail."""
    with running(durable) as (server,):
        assert isinstance(server, SecureChat)
        senders, reader = server.correspondents()
        assert isinstance(reader, Peer)
        reader.close()
        workloads.pour(server, senders)
        for sender in senders:
            sender.close()
        seconds, cpu = [], []
        for _ in range(run.rounds):
            began = time.perf_counter()
            server.restart(signal.SIGKILL)
            reader.log_in()
            reader.subscribe_again()
            read = _some(reader)
            seconds.append(time.perf_counter() - began)
            cpu.append(server.process.cpu())
            if len(seconds) < run.rounds:
                reader.close()
        while read < workloads.UNREAD:
            read += _some(reader)
        case = f"{workloads.UNREAD:,} entries unread"
        value = statistics.median(seconds)
        yield Figure(case, "kill and start, until a client reads", value, "s", goal=GOAL, system=OURS)
        yield Figure(case, "server CPU until then", statistics.median(cpu), "s", system=OURS)


def _some(reader: Peer) -> int:
    while not (stamps := reader.take()):
        reader.flush()
        reader.read()
    return len(stamps)
