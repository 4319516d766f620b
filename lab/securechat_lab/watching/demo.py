"""The scene that a lecturer shows first: two people in private, then a room where the server drops a message."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from securechat.client import events
from securechat.errors import SecurechatError
from securechat.wire import messages as m
from securechat_lab.cast.hostile import Link, Sent
from securechat_lab.cast.scenes import direct, lobby, say
from securechat_lab.kit.stage import Stage
from securechat_lab.watching.watched import Watched

PRIVATE: Final = ("The delivery comes tonight at nine.", "Good. Same place?", "ok")
"""What alice and bob say in turn, where nobody else is."""

GREETING: Final = "hello, lobby"
DROPPED: Final = "shall we meet at nine?"
"""What alice says in the room, and carol never gets."""

AFTER: Final = "yes"

FOLDER: Final = Path("watch-demo")
"""Where the files of the scene are left, in the folder from which it is played."""

PACE: Final = 1.0
"""Seconds between two steps, for people who look on."""


class _Dropping:
    """Drops the next message of a log, and moves the later ones up: no gap can be seen."""

    def __init__(self) -> None:
        self._dropped = False

    def __call__(self, _: Link, entry: m.Entry) -> Iterable[Sent]:
        if not self._dropped:
            self._dropped = True
            return []
        return [msgspec.structs.replace(entry, seq=entry.seq - 1)]


def steps(stage: Stage, watched: Watched) -> Iterator[None]:
    """Play the scene, step by step. Whoever leaves early has seen the beginning."""
    people = []
    for name in ("alice", "bob", "carol"):
        people.append(watched.person(name))
        yield
    alice, bob, carol = people
    direct(alice, bob)
    for index, line in enumerate(PRIVATE):
        yield
        one, other = (alice, bob) if index % 2 == 0 else (bob, alice)
        say(one, other.name, line, other)
    yield
    lobby(alice, bob, carol)
    yield
    say(bob, "#lobby", GREETING, alice, carol)
    yield
    stage.liar.lie(m.Entry, _Dropping(), to="carol")
    say(alice, "#lobby", DROPPED, bob)
    yield
    say(bob, "#lobby", AFTER, alice)
    carol.wait_for(events.Alarm)


def play(folder: Path) -> None:
    """Play it at once, and leave its recording and its capture in `folder`. Raises StorageError."""
    with _set(folder) as (stage, watched):
        for _ in steps(stage, watched):
            pass


@contextmanager
def playing(folder: Path) -> Iterator[None]:
    """Play it at the pace of people while something else is done, at whose end it ends, too. Raises StorageError."""
    enough = threading.Event()
    failed: list[Exception] = []

    def run(stage: Stage, watched: Watched) -> None:
        try:
            for _ in steps(stage, watched):
                if enough.wait(PACE):
                    return
        except (AssertionError, SecurechatError) as error:
            failed.append(error)

    with _set(folder) as (stage, watched):
        thread = threading.Thread(target=run, args=(stage, watched), name="demo")
        thread.start()
        try:
            yield
        finally:
            enough.set()
            thread.join()
    if failed:
        raise failed[0]


@contextmanager
def _set(folder: Path) -> Iterator[tuple[Stage, Watched]]:
    with Stage() as stage, Watched(stage, folder, "A server that drops a message") as watched:
        yield stage, watched
