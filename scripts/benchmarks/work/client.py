"""What a message costs the client, and how long a front end waits for the core while messages come in.

Real clients over TLS against a real server, whose process is not counted. The floor is what cannot be spared: the
engine's own decryption or encryption, and one row of history, in transactions of 64.
"""

import queue
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from scripts.benchmarks.figure import Figure
from scripts.benchmarks.systems.mls_clients import Securechat
from scripts.benchmarks.systems.securechat import PROGRAM, SETTINGS
from scripts.benchmarks.systems.system import Process
from scripts.benchmarks.work import faces
from securechat import certs
from securechat.client import commands, events
from securechat.client.addresses import Folder
from securechat.client.core import ChatClient
from securechat.client.password_source import PasswordSource
from securechat.client.query import Query
from securechat.client.settings import ClientSettings
from securechat.client.vault.vault import Vault
from securechat.client.wrapping import Cost
from securechat.content import envelope
from securechat.content.registry import Text, encode_body
from securechat.mls.group import Group
from securechat.ui.start import SWITCH_SECONDS

PASSWORD: Final = secrets.token_hex(8)
TEXT: Final = "What a person says is seldom longer than this line."
ARRIVING: Final = 1_500  # messages that come in while a front end asks
OLD_LINES: Final = 100_000  # in the history before that, all unread
CAUGHT_UP: Final = 9_500  # with the commits of fresh paths between them, less than what a reader may leave unread
SAID: Final = 3_000
UNIT: Final = 64  # messages a transaction of the floor
FILLED_AT_ONCE: Final = 10_000  # old lines a transaction
PAGE: Final = 50  # lines that a front end reads at once
STARTS, SEARCHES = 5, 20
FIRST_SCREEN_GOAL, PAGE_GOAL, SEARCH_GOAL = 300.0, 20.0, 100.0  # milliseconds
MEDIAN_GOAL, P99_GOAL = 5.0, 20.0  # milliseconds
CATCH_UP_GOAL, SAY_GOAL = 1.6, 2.0  # times the floor


def client() -> Iterator[Figure]:
    """How long a front end waits, and the CPU time of a message."""
    switching = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)  # as where people use it
    try:
        with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as place:
            yield from _front_end(place)
            yield from _finding(place)
            yield from _faces(place)
            received, said = _floor(Path(folder))
            yield from _say(place, said)
            yield from _catch_up(place, received)
    finally:
        sys.setswitchinterval(switching)


@dataclass(frozen=True)
class Place:
    """Where clients find the server, and keep their vaults."""

    folder: Path
    ca: Path
    port: int
    cpu: Callable[[], float]
    """Seconds of CPU that the server has used."""


@contextmanager
def served(folder: Path) -> Iterator[Place]:
    """Run a server whose data, and whose clients' vaults, are in a folder."""
    certs.generate(folder / "certs", ("localhost", "127.0.0.1"))
    (folder / "bench.toml").write_text(SETTINGS)
    command = [
        str(PROGRAM), "server", "--port", "0", "--data", str(folder / "data"),
        "--cert", str(folder / "certs" / "server.pem"), "--key", str(folder / "certs" / "server-key.pem"),
        "--config", str(folder / "bench.toml"),
    ]  # fmt: skip
    process = Process(command, folder)
    try:
        yield Place(folder, folder / "certs" / "ca.pem", process.address[1], process.cpu)
    finally:
        process.stop()


class Person:
    """A client whose events pile up until somebody looks."""

    def __init__(self, place: Place, name: str) -> None:
        self.told = queue.SimpleQueue[events.Event]()
        self._vault = _open_vault(place.folder / f"{name}.vault", name)
        settings = ClientSettings("localhost", place.port, ca_file=place.ca, register=True)
        self.client = ChatClient(settings, self._vault, on_event=self.told.put)
        self.client.start()

    def until(self, condition: Callable[[events.Event], bool]) -> None:
        """Wait for an event."""
        while not condition(event := self.told.get(timeout=120)):
            assert not isinstance(event, events.Ended | events.Refused | events.Alarm), event

    def do(self, command: commands.Command) -> None:
        """Have a command carried out, and wait for that."""
        self.client.do(command)
        self.until(lambda event: isinstance(event, events.Done) and event.command == command.id)

    def say(self, to: str, count: int) -> None:
        """Say something, again and again, and wait until all of it is on the server's disk."""
        conversation = self.client.find(to)
        assert conversation is not None
        for _ in range(count):
            command = commands.Send(conversation.id, TEXT)
            self.client.do(command)
        self.until(lambda event: isinstance(event, events.Done) and event.command == command.id)

    def close(self) -> None:
        """Go offline."""
        self.client.close()
        while not isinstance(self.told.get(timeout=120), events.Ended):
            pass
        self._vault.close()


def _acquaint(place: Place, one: str, other: str) -> Person:
    """Let two people know each other. Returns the first, who is online; the other one is not."""
    people = [Person(place, name) for name in (one, other)]
    for person in people:
        person.until(lambda event: isinstance(event, events.Ready))
        person.do(commands.JoinRoom(f"#{one}-{other}"))
    people[1].close()
    return people[0]


def _front_end(place: Place) -> Iterator[Figure]:
    """Call all that a front end calls, as fast as a busy one would, while messages come in."""
    bob = _acquaint(place, "bob", "alice")
    bob.say("#bob-alice", ARRIVING)
    bob.close()
    middle = _fill(place, "alice")
    alice = Person(place, "alice")
    room = alice.client.find("#bob-alice")
    assert room is not None
    calls: dict[str, Callable[[], object]] = {
        "conversations": alice.client.conversations,
        "conversation": lambda: alice.client.conversation(room.id),
        "find": lambda: alice.client.find("#bob-alice"),
        "history": lambda: alice.client.history(room.id, PAGE),
        "before": lambda: alice.client.before(middle, PAGE),
        "after": lambda: alice.client.after(middle, PAGE),
        "around": lambda: alice.client.around(middle, PAGE // 2),
        "unread": lambda: alice.client.unread(middle, PAGE),
        "unread_counts": alice.client.unread_counts,
        "do": lambda: alice.client.do(commands.MarkShown(0)),
    }
    waits: dict[str, list[float]] = {name: [] for name in calls}
    received = 0
    while received < ARRIVING:
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            waits[name].append((time.perf_counter() - begun) * 1000)
        for _ in range(alice.told.qsize()):
            received += isinstance(alice.told.get(), events.Received)
        time.sleep(0.001)  # what a front end does between two calls
    alice.close()
    case = f"{OLD_LINES:,} lines, {ARRIVING:,} come in"
    for name, milliseconds in waits.items():
        yield Figure(case, f"{name}: wait, median", median(milliseconds), "ms", goal=MEDIAN_GOAL)
        yield Figure(case, f"{name}: wait, p99", quantiles(milliseconds, n=100)[-1], "ms", goal=P99_GOAL)


def _finding(place: Place) -> Iterator[Figure]:
    """Start without a server, read back and search, in a vault of many different lines.

    What the password costs is left out (Argon2, as much as is chosen), and so is loading the program.
    """
    grace = _acquaint(place, "grace", "heidi")
    room = grace.client.find("#grace-heidi")
    assert room is not None
    grace.close()
    dice = random.Random(1)  # noqa: S311  # nosec B311  # the same lines each time

    def say() -> str:
        often = ("the", "a", "to", "lunch")
        words = (
            dice.choice(often) if dice.random() < 0.3 else f"word{min(20_000, int(dice.paretovariate(0.6)))}"
            for _ in range(dice.choice((3, 5, 8, 12, 15)))
        )
        return " ".join(words)

    middle = _fill(place, "grace", room.id, say)
    case, path = f"{OLD_LINES:,} lines, no server", place.folder / "grace.vault"
    firsts: list[float] = []
    for _ in range(STARTS):
        begun = time.perf_counter()
        vault = _open_vault(path, "grace")
        core = ChatClient(ClientSettings("localhost", place.port), vault, on_event=print)
        read = core.conversations(), core.place(), core.unread_counts(), core.past(room.name, PAGE)
        firsts.append((time.perf_counter() - begun) * 1000)
        assert len(read[-1]) == PAGE
        vault.close()
    yield Figure(case, "first screen: median", median(firsts), "ms", goal=FIRST_SCREEN_GOAL)
    with closing(_open_vault(path, "grace")) as vault:
        core = ChatClient(ClientSettings("localhost", place.port), vault, on_event=print)
        year = 365 * 86_400_000
        asked: dict[str, tuple[Callable[[], object], float]] = {
            "page of a name": (lambda: core.past(room.name, PAGE, before=middle), PAGE_GOAL),
            "search, a rare word": (lambda: core.search(Query(("word19999",)), PAGE), SEARCH_GOAL),
            "search, a common word": (lambda: core.search(Query(("the",)), PAGE), SEARCH_GOAL),
            "search, a beginning": (lambda: core.search(Query(("word1",)), PAGE), SEARCH_GOAL),
            "search, a common word of nobody": (lambda: core.search(Query(("the",), sender="zoe"), PAGE), SEARCH_GOAL),
            "search, in one room": (lambda: core.search(Query(("lunch",), where=room.name), PAGE), SEARCH_GOAL),
            "search, a phrase": (lambda: core.search(Query((), ("to the word1",)), PAGE), SEARCH_GOAL),
            "search, common, of no time": (lambda: core.search(Query(("the",), after=year), PAGE), SEARCH_GOAL),
            "search, of no time": (lambda: core.search(Query(after=year), PAGE), SEARCH_GOAL),
        }
        for name, (call, goal) in asked.items():
            waits: list[float] = []
            for _ in range(SEARCHES):
                begun = time.perf_counter()
                call()
                waits.append((time.perf_counter() - begun) * 1000)
            yield Figure(case, f"{name}: median", median(waits), "ms", goal=goal)
            yield Figure(case, f"{name}: longest", max(waits), "ms")


def _faces(place: Place) -> Iterator[Figure]:
    """Show a room of many lines on each face, all seen but the newest, while somebody talks there."""
    judy = _acquaint(place, "judy", "ivan")
    room = judy.client.find("#judy-ivan")
    assert room is not None
    judy.close()
    _fill(place, "ivan", room.id, seq=lambda _: 1)  # before what is said now
    ivan, newest = Person(place, "ivan"), "the newest of all"
    ivan.until(lambda event: isinstance(event, events.Ready))
    ivan.do(commands.Send(room.id, newest))
    last = ivan.client.history(room.id, 1)[-1].local_id
    ivan.do(commands.MarkShown(last))
    ivan.do(commands.Visit(room.id, last))
    ivan.close()
    password = place.folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    for name in ("ivan", "judy"):
        _put_where_programs_look(place, name)
    where = ("--vault", str(place.folder), "--server", f"localhost:{place.port}", "--ca", str(place.ca))
    talk = (*where, "--user", "judy", "--password-file", str(password))
    seat = faces.Seat(room.name, newest, PASSWORD, (*where, "--user", "ivan"), talk)
    yield from faces.faces(seat)


def _put_where_programs_look(place: Place, name: str) -> None:
    path = place.folder / f"{name}.vault"
    with closing(_open_vault(path, name)) as vault:
        device = vault.device.load()
    assert device is not None
    there = Folder(place.folder, name).of(device.server_id)
    for each in place.folder.glob(f"{path.name}*"):
        each.rename(there.with_name(each.name.replace(path.name, there.name)))


def _fill(
    place: Place,
    name: str,
    conversation: bytes = b"o" * 32,
    text: Callable[[], str] = lambda: TEXT,
    seq: Callable[[int], int] = lambda number: number,
) -> int:
    """Put old lines of others into a vault that nobody has open. Returns the local id of the one in the middle.

    `seq`: of a line, by its number.
    """
    with closing(_open_vault(place.folder / f"{name}.vault", name)) as vault:
        ids: list[int] = []
        for first in range(1, OLD_LINES, FILLED_AT_ONCE):
            with vault.transaction():
                lines = (
                    vault.history.add(
                        conversation, "bob", encode_body(Text(text())), own=False, trust="accepted", seq=seq(number),
                        time=1,
                    )
                    for number in range(first, first + FILLED_AT_ONCE)
                )
                ids += [line.local_id for line in lines]
    return ids[OLD_LINES // 2]


def _open_vault(path: Path, name: str) -> Vault:
    return Vault.open(path, name, PasswordSource.typed(PASSWORD), cost=Cost(time=1, memory=8, lanes=1))


def _catch_up(place: Place, floor: float) -> Iterator[Figure]:
    dave = _acquaint(place, "dave", "carol")
    dave.say("#dave-carol", CAUGHT_UP)
    dave.close()
    begun = time.process_time()
    carol = Person(place, "carol")
    carol.until(lambda event: isinstance(event, events.Ready))
    cost = (time.process_time() - begun) * 1e6 / CAUGHT_UP
    carol.close()
    yield Figure(f"catch up with {CAUGHT_UP:,}", "CPU a message", cost, "us", floor, CATCH_UP_GOAL)


def _say(place: Place, floor: float) -> Iterator[Figure]:
    erin = _acquaint(place, "erin", "frank")
    begun = time.process_time()
    erin.say("#erin-frank", SAID)
    cost = (time.process_time() - begun) * 1e6 / SAID
    erin.close()
    yield Figure(f"say {SAID:,} in a row", "CPU a message", cost, "us", floor, SAY_GOAL)


def _floor(folder: Path) -> tuple[float, float]:
    """Return microseconds of CPU of one message received and of one said, if nothing else were to do."""
    ours, theirs = _two_members()
    vault = _open_vault(folder / "floor.vault", "floor")
    body = encode_body(Text(TEXT))
    content = envelope.encode(envelope.Envelope(1, bytes(32), 1, Text(TEXT)))
    received, said = 0.0, 0.0
    for _ in range(SAID // UNIT):
        begun = time.process_time()
        with vault.transaction():
            sent = []
            for _ in range(UNIT):
                sent.append(ours.encrypt(content, authenticated_data=bytes(8), padding=envelope.padding(len(content))))
                vault.history.add(b"c" * 32, "alice", body, own=True, trust="verified")
        between = time.process_time()
        with vault.transaction():
            for seq, payload in enumerate(sent, 1):
                theirs.decrypt(payload, in_order=True)
                vault.history.add(b"d" * 32, "bob", body, own=False, trust="accepted", seq=seq, time=1)
        said += between - begun
        received += time.process_time() - between
    vault.close()
    return received * 1e6 / (SAID // UNIT * UNIT), said * 1e6 / (SAID // UNIT * UNIT)


def _two_members() -> tuple[Group, Group]:
    """Return the two sides of one group."""
    ours, theirs = Securechat(), Securechat()
    welcome = ours.create_and_add([theirs.key_package()]).welcome
    assert welcome is not None
    theirs.run("join", welcome)
    return ours.group, theirs.group
