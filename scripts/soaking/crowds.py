"""Many clients of one server: some do not read, all come back at once, hundreds enter at once, one connection is full.

The clients speak the wire protocol and MLS (lab/securechat_lab/cast/wire_client.py), and do only what they are told.
"""

import multiprocessing
import random
import ssl
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from scripts.soaking import watch
from securechat.transport.tls import client_context
from securechat.wire import messages as m
from securechat_lab.cast import wire_client
from securechat_lab.cast.wire_client import Person
from tests.support.chaos import ChaosProxy
from tests.support.crowd import DUPLEX_SIZE, Ticket, flow_both_ways, invite_all, pour, prepare, read_on, talk
from tests.support.live import LiveServer

UNBOUNDED = {
    "SECURECHAT_SUBMISSIONS_PER_ACCOUNT": "1000000 + 1000000/s",
    "SECURECHAT_REQUESTS_PER_ACCOUNT": "1000000 + 1000000/s",
    "SECURECHAT_FETCHES_PER_ACCOUNT": "1000000 + 1000000/s",
    "SECURECHAT_MAX_CLIENTS": "5000",
}

PATIENCE = 600.0
wire_client.WAIT = PATIENCE
"""Seconds to wait for anything: of two hundred people who enter at once, the last waits for all the others."""

READERS = 255
BACKLOG_MESSAGES = 4_000
BACKLOG_SIZE = 4_000
"""Messages said while nobody reads, 16 MB: 20 times as much as the server holds ready for each reader."""
LONE_MESSAGES = 300
LONE_PERCENT = (50, 95)
"""Percentiles of latency that may double at most; beyond the second there are too few messages to compare."""
MAX_SERVER = 300.0
"""MiB of memory, with 255 readers that do not read."""
SAMPLE = 8
"""Readers whose texts are all decrypted; for the others, entries are only counted."""

COMERS = 1_000
AT_ONCE = 250
"""Connections that one process of clients opens at a time."""
BACK_SECONDS = 15.0

GUESTS, MEMBERS, TALKERS = 200, 100, 20

ADDED = 999
HELD_UP_SECONDS = 0.05

DUPLEX_SECONDS = 600.0


@contextmanager
def _site(folder: Path, names: Sequence[str]) -> Iterator[tuple[LiveServer, list[Ticket]]]:
    tickets = prepare(folder / "data", names)
    server = LiveServer(folder, environment=UNBOUNDED)
    try:
        yield server, tickets
        assert server.stop() == 0
        assert "Traceback" not in server.log.read_text()
    finally:
        server.stop()


def readers(folder: Path, part: float) -> None:
    """A room of 256 in which all but one stop reading: the speaker does not notice, the server's memory is bounded."""
    count = max(int(READERS * part), 2)
    with _site(folder, ["speaker", *(f"reader{number}" for number in range(count))]) as (server, tickets):
        tls = client_context(server.ca)
        speaker, *others = (ticket.enter(server.port, tls) for ticket in tickets)
        speaker.open_room("#all", "invite")
        (room,) = speaker.groups
        invite_all(speaker, room, others)
        logs: dict[Person, list[m.Entry]] = {other: [] for other in others}
        for person in (speaker, *others):
            person.subscribe(room, 1)
        said: list[str] = []

        def lone(*, read: bool) -> list[float]:
            waits = []
            for _ in range(LONE_MESSAGES):
                if read:  # so that no acknowledgement of the previous message is in the way of this one
                    for other in others:
                        other.send(m.ListRooms(other.protocol.next_id()))
                    for other in others:
                        other.take(m.Rooms)
                said.append(f"{len(said)} alone")
                began = time.perf_counter()
                accepted = speaker.say(room, said[-1])
                waits.append(time.perf_counter() - began)
                if read:
                    read_on(logs, room, accepted.seq)
            return statistics.quantiles(waits, n=100)

        before = watch.memory(server.pid)
        usual = lone(read=True)
        flood = [f"{len(said) + number} ".ljust(BACKLOG_SIZE, "x") for number in range(BACKLOG_MESSAGES)]
        with watch.bounded_wal(folder / "data") as wal:
            began = time.monotonic()
            pour(speaker, room, flood)
            said += flood
            seconds = time.monotonic() - began
            meanwhile = lone(read=False)
            most = watch.peak(server.pid)
            read_on(logs, room, 1 + len(said), PATIENCE)
        print(
            f"readers  {count} that do not read: {len(flood):,} messages at {len(flood) / seconds:,.0f}/s;"
            f" server {before:.0f} MiB before, {most:.0f} MiB at most; WAL up to {wal():.0f} MiB",
            flush=True,
        )
        for percent in LONE_PERCENT:
            print(
                f"readers  a lone message is accepted in {usual[percent - 1] * 1e3:.2f} ms while they read,"
                f" {meanwhile[percent - 1] * 1e3:.2f} ms now (p{percent} of {LONE_MESSAGES})",
                flush=True,
            )
        for percent in LONE_PERCENT:
            assert meanwhile[percent - 1] < 2 * usual[percent - 1], "who speaks waits for those who do not read"
        assert most < MAX_SERVER, f"{most:.0f} MiB for readers that do not read"
        for other in others:
            assert [entry.seq for entry in logs[other]] == list(range(2, 2 + len(said)))
        for other in random.Random(1).sample(others, min(SAMPLE, count)):  # noqa: S311  # nosec B311  # seeded, so that it can be repeated
            assert [other.process(entry) for entry in logs[other]] == said, f"{other.account} reads something else"
        print(f"readers  all {count} have read all {len(said):,} messages", flush=True)


def resume(folder: Path, part: float) -> None:
    """A thousand clients are cut at once, and all come back by their tokens."""
    count = max(int(COMERS * part), 2)
    with (
        _site(folder, [f"client{number}" for number in range(count)]) as (server, tickets),
        ChaosProxy(server.port, seed=0, faults=()) as network,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        tls = client_context(server.ca)

        def enter(ticket: Ticket) -> Person:
            return ticket.enter(network.port, tls, publish=False)

        for label in ("for the first time", "again, cut all at once"):
            people = []
            began, used = time.monotonic(), watch.processor(server.pid)
            people = list(pool.map(enter, tickets))
            seconds, used = time.monotonic() - began, watch.processor(server.pid) - used
            print(
                f"resume   {count} by token from one address, {label}: {seconds:.1f} s, of the server's processor"
                f" {used:.1f} s",
                flush=True,
            )
            network.cut_all()
            for person in people:
                person.ended()
                person.drop()
        assert seconds < BACK_SECONDS, f"the last one was back after {seconds:.1f} s"


def storm(folder: Path, part: float) -> None:
    """Two hundred newcomers enter an open room of a hundred while twenty talk there."""
    guests, members = max(int(GUESTS * part), 2), max(int(MEMBERS * part), 4)
    names = [f"member{number}" for number in range(members)] + [f"guest{number}" for number in range(guests)]
    with _site(folder, names) as (server, tickets):
        tls = client_context(server.ca)
        inside = [ticket.enter(server.port, tls) for ticket in tickets[:members]]
        inside[0].open_room("#lobby")
        (room,) = inside[0].groups
        for person in inside[1:]:
            assert person.join("#lobby") == room
        # In another process: a joiner has two seconds for its commit, and would have to wait here while the talkers
        # compute.
        here, there = multiprocessing.Pipe()
        entering = multiprocessing.get_context("fork").Process(
            target=_enter_all, args=(tickets[members:], server.port, tls, there)
        )
        entering.start()
        there.close()  # the other process holds it alone, so that its end is the end of the stream
        entered = threading.Event()
        began = time.monotonic()
        with ThreadPoolExecutor(TALKERS) as pool:
            talking = [pool.submit(talk, person, room, entered) for person in inside[: max(int(TALKERS * part), 2)]]
            try:
                assert here.poll(PATIENCE), "the newcomers are not in"
                entrances: list[float] = here.recv()
            finally:
                entered.set()
            talkers = [each.result() for each in talking]
        seconds = time.monotonic() - began
        accepted = {seq: text for talker in talkers for seq, text in talker.accepted.items()}
        assert len(accepted) == sum(len(talker.accepted) for talker in talkers)
        here.send((room, accepted))
        assert here.poll(PATIENCE), "the newcomers do not read on"
        assert here.recv() == "read", "a newcomer reads something else; see above"
        entering.join()
        for talker in talkers:
            talker.follow(room, {seq: accepted[seq] for seq in accepted.keys() - talker.accepted.keys()})
        waits = [wait for talker in talkers for wait in talker.waits]
        print(
            f"storm    {guests} entered a room of {members} in {seconds:.0f} s, the slowest in {max(entrances):.1f} s;"
            f" {len(accepted):,} messages of {len(talkers)} got through meanwhile, each in {max(waits):.2f} s at most,"
            f" the median in {statistics.median(waits) * 1e3:.0f} ms; everybody has read everything",
            flush=True,
        )


def _enter_all(tickets: Sequence[Ticket], port: int, tls: ssl.SSLContext, pipe: Connection) -> None:
    """Enter all at once and report how long each took; read on to the end and report whether all read what they
    should."""

    def enter(ticket: Ticket) -> tuple[Person, float]:
        person = ticket.enter(port, tls)
        began = time.monotonic()
        person.join("#lobby")
        return person, time.monotonic() - began

    with ThreadPoolExecutor(len(tickets)) as pool:
        entered = list(pool.map(enter, tickets))
    pipe.send([wait for _, wait in entered])
    room, accepted = pipe.recv()
    people = [person for person, _ in entered]
    logs: dict[Person, list[m.Entry]] = {person: [] for person in people}
    for person in people:
        assert isinstance(person.subscribe(room), m.Subscribed)
    read_on(logs, room, max(accepted), PATIENCE)
    for person in random.Random(2).sample(people, min(SAMPLE, len(people))):  # noqa: S311  # nosec B311  # seeded, so that it can be repeated
        joined = person.cursors[room]
        for entry in logs[person]:
            person.process(entry)
        heard = {seq: text for _, seq, _, text in person.texts}
        assert heard == {seq: text for seq, text in accepted.items() if seq > joined}, person.account
    pipe.send("read")


def adds(folder: Path, part: float) -> None:
    """Commits that add 999 devices at once, while two people talk in another conversation."""
    count = max(int(ADDED * part), 2)
    with _site(folder, ["owner", "alice", "bob", *(f"guest{number}" for number in range(count))]) as (server, tickets):
        tls = client_context(server.ca)
        owner, alice, bob = (ticket.enter(server.port, tls) for ticket in tickets[:3])
        for ticket in tickets[3:]:
            ticket.enter(server.port, tls).drop()
        bob.read_inbox()
        alice.open_direct("bob")
        conversation = bob.accept_welcome()
        worst = []
        for attempt in range(3):  # the middle one counts, because others use this machine, too
            assert owner.open_room(f"#room{attempt}", "invite")
            room = list(owner.groups)[-1]
            packages = [add for ticket in tickets[3:] for add in owner.adds(ticket.account)]
            staged = owner.make_commit(owner.groups[room], *packages)
            number = owner.protocol.next_id()
            commit = m.Commit(number, room, 1, staged.message, staged.welcome or b"", staged.group_info or b"")
            waits: list[tuple[float, float]] = []
            over = threading.Event()
            talking = threading.Thread(target=_talk_on, args=(alice, conversation, over, waits))
            talking.start()
            time.sleep(1)  # of undisturbed talk
            began = time.perf_counter()
            owner.send(commit)
            reply = owner.take(m.Accepted)
            ended = time.perf_counter()
            assert reply.conversation == room
            over.set()
            talking.join()
            before = [wait for at, wait in waits if at + wait < began]
            during = [wait for at, wait in waits if at + wait >= began and at <= ended]
            worst.append(max(during))
            print(
                f"adds     a commit of {count} Adds took {ended - began:.2f} s; a message elsewhere"
                f" {statistics.median(before) * 1e3:.1f} ms before ({max(before) * 1e3:.1f} at most),"
                f" {statistics.median(during) * 1e3:.1f} ms meanwhile ({max(during) * 1e3:.1f} at most)",
                flush=True,
            )
        assert sorted(worst)[1] < HELD_UP_SECONDS, "commits hold up other conversations"


def _talk_on(person: Person, room: bytes, over: threading.Event, waits: list[tuple[float, float]]) -> None:
    while not over.wait(0.002):
        began = time.perf_counter()
        assert isinstance(person.say(room, "x"), m.Accepted)
        waits.append((began, time.perf_counter() - began))


def duplex(folder: Path, part: float) -> None:
    """Two connections, each full in both directions for ten minutes: every byte is right."""
    with _site(folder, ["alice", "bob"]) as (server, tickets):
        alice, bob = (ticket.enter(server.port, client_context(server.ca)) for ticket in tickets)
        bob.read_inbox()
        alice.open_direct("bob")
        room = bob.accept_welcome()
        end = time.monotonic() + DUPLEX_SECONDS * part
        with watch.bounded_wal(folder / "data") as wal:
            said, heard = flow_both_ways(alice, bob, room, lambda _: time.monotonic() >= end)
        size = (said + heard) * DUPLEX_SIZE / (1 << 20)
        print(
            f"duplex   {said:,} and {heard:,} messages of {DUPLEX_SIZE:,} bytes in {DUPLEX_SECONDS * part:.0f} s,"
            f" {size / (DUPLEX_SECONDS * part):.0f} MiB/s through each connection; every byte is right,"
            f" server {watch.memory(server.pid):.0f} MiB, WAL up to {wal():.0f} MiB",
            flush=True,
        )
