"""Real clients, each a process, talk while something fails for a long time: the network, the processes."""

import random
import signal
import time
from contextlib import ExitStack
from pathlib import Path

from scripts.soaking import watch
from securechat_lab.cast.live import Through
from tests.support.chaos import FAULTS, ChaosProxy
from tests.support.live import LiveServer
from tests.support.talker import TOLD
from tests.support.talker_process import Talker, close_and_look, gather, say_last_words, talk_and_kill

MESSAGES = 1_000_000
LINE = 100_000
"""Messages for one line of output."""

CALM_BYTES = 4 << 20
"""Bytes between two faults of one direction at most: some seconds of such a flood."""

UNBOUNDED = {"SECURECHAT_SUBMISSIONS_PER_ACCOUNT": "1000000 + 1000000/s"}
"""Settings of servers that are flooded on purpose."""

CHAOS_SECONDS = 3 * 3600
"""A run of a million messages that is not through by then has failed."""

KILLS = 500
STOP_SECONDS = 60.0
PATIENCE = 300.0


def chaos(folder: Path, part: float) -> None:
    """A million messages through a network that cuts, resets, stalls, delays and crumbles."""
    server = LiveServer(folder, environment=UNBOUNDED)
    with ExitStack() as ends:
        ends.callback(server.stop)
        proxy = ends.enter_context(ChaosProxy(server.port, seed=1, faults=(), calm=CALM_BYTES))
        people = _talkers(ends, Through(folder, server.ca, proxy.port), "alice", "bob", "carol")
        gather(people)
        proxy.faults = FAULTS
        alice, bob, carol = people
        each = max(int(MESSAGES * part) // (4 * TOLD), 1) * TOLD
        alice.tell("flood", "bob", "from alice", each)
        bob.tell("flood", "alice", "from bob", each)
        alice.tell("flood", "#lobby", "from alice", each)
        carol.tell("flood", "#lobby", "from carol", each)
        wal = ends.enter_context(watch.bounded_wal(folder / "data"))
        began, done, told = time.monotonic(), 0, 0
        while done < 4 * each:
            time.sleep(0.5)
            assert time.monotonic() - began < CHAOS_SECONDS, f"only {done:,} messages"
            done = sum(_counted(person) for person in people)
            if done - told >= LINE:
                told = done - done % LINE
                seconds = time.monotonic() - began
                print(
                    f"chaos    {told:>9,} messages, {seconds:6.0f} s, {done / seconds:5.0f}/s, "
                    f"{proxy.connections} connections, {_faults(proxy)}, server {watch.memory(server.pid):.0f} MiB, "
                    f"database {watch.size(folder / 'data' / 'chat.db'):.0f} MiB, WAL up to {wal():.0f} MiB",
                    flush=True,
                )
        proxy.faults = ()
        say_last_words(people, PATIENCE)
        said = close_and_look(server, people)
        assert said == 4 * each + 5, f"{said} texts were said"
        print(
            f"chaos    {said:,} messages, {_faults(proxy)}, WAL up to {wal():.0f} MiB; histories are whole", flush=True
        )


def kills(folder: Path, part: float) -> None:
    """kill -9 under traffic: the server so many times, and clients as many."""
    server = LiveServer(folder)
    with ExitStack() as ends:
        ends.callback(server.stop)
        people = _talkers(ends, server, "alice", "bob", "carol")
        gather(people)
        chance = random.Random(9)  # noqa: S311  # nosec B311  # seeded, so that a run can be repeated
        count = max(int(KILLS * part), 1)
        victims: list[LiveServer | Talker] = [server] * count + chance.choices(people, k=count)
        chance.shuffle(victims)
        texts = 0
        for start in range(0, len(victims), 100):
            texts = talk_and_kill(people, victims[start : start + 100], chance, texts)
            print(f"kills    {min(start + 100, len(victims))} of {len(victims)}", flush=True)
        say_last_words(people, PATIENCE)
        said = close_and_look(server, people)
        print(f"kills    {count} of the server, {count} of clients, {said:,} messages; histories are whole", flush=True)


def stops(folder: Path, part: float) -> None:
    """SIGSTOP for a minute: a client, then the server, while the others talk."""
    server = LiveServer(folder)
    with ExitStack() as ends:
        ends.callback(server.stop)
        people = _talkers(ends, server, "alice", "bob", "carol")
        gather(people)
        for victim in (people[2], server):
            victim.signal(signal.SIGSTOP)
            end = time.monotonic() + STOP_SECONDS * part
            while time.monotonic() < end:
                for person in people:
                    if person is not victim:
                        person.tell("say", "#lobby", f"{person.name} {time.monotonic()}")
                time.sleep(0.05)
            victim.signal(signal.SIGCONT)
        say_last_words(people, PATIENCE)
        said = close_and_look(server, people)
        print(f"stops    {STOP_SECONDS * part:.0f} s each, {said:,} messages; histories are whole", flush=True)


def _talkers(ends: ExitStack, place: LiveServer | Through, *names: str) -> list[Talker]:
    people = [Talker(place, name) for name in names]
    for person in people:
        ends.callback(person.kill)
    return people


def _counted(person: Talker) -> int:
    return next((int(seen.split()[1]) for seen in reversed(person.events) if seen.startswith("Count")), 0)


def _faults(proxy: ChaosProxy) -> str:
    return ", ".join(f"{count} {fault}" for fault, count in sorted(proxy.happened.items()))
