"""People who talk, each a real client in a process of its own, under all floods in turn (tests/support/floods.py)."""

import os
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from scripts.soaking import watch
from tests.support.flooder import Flooding
from tests.support.floods import FLOODS, Flood
from tests.support.live import LiveServer
from tests.support.talker_process import Talker, close_and_look, gather, say_last_words

SECONDS = 1800.0

TOGETHER = 10
"""Accounts that send the same at once, after one has done so alone."""

PACE_SECONDS = 0.05
"""Between two rounds of talk."""

LEAST_ROUNDS = 5
"""Of talk under each party's floods, however slow the machine is."""

PATIENCE = 300.0

GROWN = 128.0
"""MiB by which the server's memory may have grown, whatever has been sent."""


def hostile(folder: Path, part: float) -> None:
    """Three people talk while each flood is sent, by one account and by ten."""
    parties = [[flood] * count for flood in FLOODS for count in (1, TOGETHER)]
    random.Random(14).shuffle(parties)  # noqa: S311  # nosec B311  # seeded, so that a run can be repeated
    said = talk_under(folder, parties, SECONDS * part / len(parties))
    print(f"hostile  {len(parties)} floods, {said:,} messages; histories are whole", flush=True)


def talk_under(folder: Path, parties: Sequence[Sequence[Flood]], seconds: float) -> int:
    """Have people talk under one party's floods after the other's, each for so long and for some rounds at least.

    At the end all of them have everything. Returns how many texts they have said.
    """
    with ExitStack() as ends:
        accounts = sum(len(party) for party in parties)
        flooding = ends.enter_context(Flooding(folder / "data", accounts, max(os.sched_getaffinity(0))))
        server = LiveServer(folder, "--log-level", "info")
        ends.callback(server.stop)
        people = []
        for name in ("alice", "bob", "carol"):
            people.append(Talker(server, name))
            ends.callback(people[-1].kill)
        gather(people)
        before, said = watch.memory(server.pid), 0
        for party in parties:
            flooding.begin(server.port, server.ca, party, "alice")
            over, enough = time.monotonic() + seconds, said + LEAST_ROUNDS
            while time.monotonic() < over or said < enough:
                said += 1
                for person, where in zip(people, ("bob", "alice", "#lobby"), strict=True):
                    person.tell("say", where, f"{person.name} {said}")
                    person.tell("say", "#lobby", f"{person.name} {said} to all")
                time.sleep(PACE_SECONDS)
            told = flooding.end()
            grown = watch.memory(server.pid) - before
            name = f"{len(party)} x {party[0]}" if len(set(party)) == 1 else f"{len(party)} floods"
            print(f"hostile  {name}: {told['sent']:,} messages, server {grown:+.0f} MiB; {told['answers']}", flush=True)
            assert grown < GROWN, f"the server has grown by {grown:.0f} MiB"
        say_last_words(people, PATIENCE)
        return close_and_look(server, people)
