"""The server's clock jumps most of a day forward and back while it runs; `tests/server` has the larger leaps."""

import time
from collections.abc import Callable
from pathlib import Path

from securechat.client import commands, events
from tests.support.faulty_system import FaultySystem
from tests.support.history import check_history
from tests.support.live import LiveClient, LiveServer, view

LEAP = 20 * 3600
"""Seconds: less than what a server takes for a fault of its clock."""


def test_a_clock_that_jumps_ahead_and_back_again_stops_nobody(
    tmp_path: Path, start_server: Callable[..., LiveServer], clients: Callable[..., list[LiveClient]]
) -> None:
    system = FaultySystem(tmp_path)
    server = start_server(environment=system.environment)
    people = clients(server, "alice", "bob")
    alice = people[0]
    said: dict[str, list[str]] = {"alice": [], "bob": []}
    joined = {}

    def talk(when: str) -> None:
        for person in people:
            person.say("#lobby", f"{person.name}, {when}")
            said[person.name].append(f"{person.name}, {when}")
        lines = [f"{person.name}: {person.name}, {when}" for person in people]
        for person in people:
            person.read("#lobby", *lines)

    def join(person: LiveClient) -> None:
        person.do(commands.JoinRoom("#lobby"))
        person.wait_for(events.ConversationChanged, lambda event: event.change in ("opened", "joined"))
        said[person.name] = []

    for person in people:
        join(person)
    talk("at first")
    for offset, when in ((LEAP, "ahead"), (0, "back again"), (-LEAP, "behind"), (0, "right again")):
        system.set(clock_offset=offset)
        talk(when)
        newcomers = clients(server, when.replace(" ", "-"))  # logs in, publishes, commits
        people += newcomers
        join(newcomers[0])
        talk(f"{when}, with somebody new")
    newest = max(view(alice, "#lobby").lines, key=lambda line: line.seq)
    assert abs(newest.time / 1000 - time.time()) < 60, "the log's time does not follow the server's clock"
    for person in people:
        person.wait_until(lambda person=person: all(line.seq for line in view(person, "#lobby").lines))  # type: ignore[misc]  # bound at once
        joined[person.name] = min(line.seq for line in view(person, "#lobby").lines) - 1
    views = [view(person, "#lobby", joined=joined[person.name]) for person in people]
    check_history(said, views, everything_arrived=True)
    assert "Traceback" not in server.log.read_text()
