"""The server's clock jumps a day forward and back while it runs."""

from collections.abc import Callable
from pathlib import Path

from securechat.client import commands, events
from tests.support.faulty_system import FaultySystem
from tests.support.history import check_history
from tests.support.live import LiveClient, LiveServer, view

DAY = 86_400


def test_a_clock_a_day_ahead_and_back_again_stops_nobody(
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
    for offset, when in ((DAY, "a day ahead"), (0, "back again"), (-DAY, "a day behind"), (0, "right again")):
        system.set(clock_offset=offset)
        talk(when)
        newcomers = clients(server, when.replace(" ", "-"))  # logs in, publishes, commits
        people += newcomers
        join(newcomers[0])
        talk(f"{when}, with somebody new")
    lines = sorted((line.seq, line.time, line.text) for line in view(alice, "#lobby").lines)
    assert [time for _, time, _ in lines] == sorted(time for _, time, _ in lines), lines
    for person in people:
        person.wait_until(lambda person=person: all(line.seq for line in view(person, "#lobby").lines))  # type: ignore[misc]  # bound at once
        joined[person.name] = min(line.seq for line in view(person, "#lobby").lines) - 1
    views = [view(person, "#lobby", joined=joined[person.name]) for person in people]
    check_history(said, views, everything_arrived=True)
    assert "Traceback" not in server.log.read_text()
