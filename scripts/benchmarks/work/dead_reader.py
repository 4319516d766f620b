"""A receiver that does not read what is sent to it: what that costs the server, and what it loses."""

from collections.abc import Iterator

from scripts.benchmarks.contest import OURS, Run, durable, each_alone
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.systems.floor import Floor
from scripts.benchmarks.systems.system import ServerFailedError, System
from scripts.benchmarks.work import workloads

GOAL = 32  # MiB: the buffers of a connection, and the index of what is new in the log


def dead_reader(run: Run) -> Iterator[Figure]:
    """Each system once. Ours gets the messages in `systems.securechat.SENDERS` conversations, the others in one."""
    yield from each_alone(_neglect, Floor, durable, *run.peers)


def _neglect(system: System) -> Iterator[Figure]:
    case, ours = f"{workloads.UNREAD:,} messages unread", system.name == OURS
    outcome = workloads.unread(system, *system.correspondents())
    if ours and outcome.cut_off:
        raise ServerFailedError("securechat has cut off a reader that was only slow")
    notes = []
    if outcome.cut_off:
        notes.append("the reader was cut off")
    if outcome.held_up:
        notes.append(f"{outcome.held_up:,} were not taken from the sender")
    growth = ("server memory, growth", outcome.growth, "MiB", GOAL)
    for metric, value, unit, goal in (growth, ("lost", outcome.lost, "messages", 0)):
        yield Figure(case, metric, value, unit, goal=goal if ours else None, system=system.name, note="; ".join(notes))
