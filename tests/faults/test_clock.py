"""The server's clock jumps most of a day forward and back while it runs, or is far off at the start; `tests/server` has
the larger leaps while it runs."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.transport.tls import client_context
from securechat.wire import messages as m
from securechat_lab.cast.live import LiveClient
from securechat_lab.cast.wire_client import Person
from tests.support.faulty_system import FaultySystem
from tests.support.history import check_history
from tests.support.live import LiveServer, view

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


DAY = 86_400


def count(data: Path, table: str) -> int:
    with closing(sqlite3.connect(data / "chat.db")) as connection:
        found: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - names from here
    return found


def wait_for_a_round(data: Path) -> None:
    """Until housekeeping has looked through everything: what is in no inbox goes at the end of that."""
    deadline = time.monotonic() + 60
    while count(data, "tail") or count(data, "letters WHERE id NOT IN (SELECT letter FROM inbox)"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("wrong", [40 * DAY, -40 * DAY])
def test_a_clock_that_is_far_off_at_the_start_deletes_nothing(
    tmp_path: Path, start_server: Callable[..., LiveServer], wrong: int
) -> None:
    """The twin: as many days really pass, and all of it goes."""
    system = FaultySystem(tmp_path)
    server = start_server(environment=system.environment)
    tls, data = client_context(server.ca), tmp_path / "data"
    alice, bob = (Person(server.port, tls, each).register().login() for each in ("alice", "bob"))
    alice.open_room("#team", "invite")
    (room,) = alice.groups
    assert isinstance(alice.change(room, *alice.adds("bob")), m.Accepted)
    said = alice.say(room, "bob has not read this")
    alice.send(m.Acknowledge(room, said.seq))
    alice.bye()
    bob.bye()
    server.stop()
    for offset in (wrong, 0):
        with closing(sqlite3.connect(data / "chat.db")) as connection:
            connection.execute("INSERT INTO letters SELECT 99, time, conversation, join_seq, chain, welcome, tree,"
                               " departed, account, revocations FROM letters")
            connection.commit()
        system.set(clock_offset=offset)
        server.start()
        if offset <= 0:
            system.set(clock_offset=offset + 60, slept=60)  # what has just been said may leave the tail
        wait_for_a_round(data)
        assert [count(data, each) for each in ("history", "inbox", "tokens")] == [1, 1, 2]
        if offset:
            server.stop()
    again = Person(server.port, tls, "bob").take_over(bob)
    again.read_inbox()
    assert again.accept_welcome() == room
    assert again.read(room) if again.subscribe(room) else False
    again.bye()
    system.set(clock_offset=60 + 41 * DAY, slept=60 + 41 * DAY)
    deadline = time.monotonic() + 60
    while count(data, "tokens") or count(data, "history"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
