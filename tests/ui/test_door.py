"""A vault that is in use is reached through its owner: by whoever can open it, and by nobody else."""

import itertools
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

import pytest

from securechat.client import commands
from securechat.client.commands import Command
from securechat.client.events import Connected, Done, Ended, Event, LoggedIn, Ready, Received, Refused
from securechat.client.query import Query
from securechat.client.vault.door_proof import MAX_RECORD, DoorKey, Records
from securechat.errors import StorageError, TrustError, UsageError
from securechat.files import FileLock
from securechat.names import normalise_title
from securechat.ui.exit_codes import ExitCode
from securechat.ui.handover import OwnerGone
from securechat.ui.rpc import door, sockets
from securechat.ui.rpc.codec import READS
from securechat.ui.rpc.door import EVENTS, MAX_CONNECTIONS, MAX_UNREAD, Door
from securechat.ui.rpc.remote import RemoteClient
from securechat.value import value
from tests.support.live import LiveServer
from tests.support.scripted import ScriptedClient, conversation
from tests.support.server_process import server_environment
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="Unix sockets are POSIX's")

KEY = DoorKey(bytes(32))
OTHER = DoorKey(bytes(31) + b"\1")
BOB = conversation("bob")
SECONDS = 60


class Owner:
    """A core that does what a test says, with a door."""

    def __init__(self, folder: Path) -> None:
        self.vault = folder / "alice@1.vault"
        self.client = ScriptedClient(lambda event: self.door.event(event))
        self.client.add(BOB)
        self.door = Door(self.vault, KEY)
        self.door.serve(self.client)
        self.path = sockets.path_of(self.vault)

    @contextmanager
    def asker(self, *, key: DoorKey = KEY) -> Iterator[tuple[RemoteClient, "SimpleQueue[Event]"]]:
        events: SimpleQueue[Event] = SimpleQueue()
        remote = RemoteClient(self.vault, key, "alice", on_event=events.put)
        try:
            remote.start()
            yield remote, events
        finally:
            remote.hang_up()


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    made = Owner(tmp_path)
    yield made
    made.door.close()


def until(events: "SimpleQueue[Event]", kind: type[Event]) -> list[Event]:
    """What is told up to an event of this kind."""
    told = [events.get(timeout=SECONDS)]
    while not isinstance(told[-1], kind):
        told.append(events.get(timeout=SECONDS))
    return told


# --- who comes in -----------------------------------------------------------------------------------------------------


def test_whoever_can_open_the_vault_comes_in_and_both_sides_know_it(owner: Owner) -> None:
    assert stat.S_IMODE(owner.path.stat().st_mode) == 0o600
    sockets.connect(owner.path, KEY).socket.close()
    with pytest.raises(TrustError, match="cannot open it"):
        sockets.connect(owner.path, OTHER)


@pytest.mark.parametrize("answer", [bytes(32), "reflected", "other", b"", b"x" * 31])
def test_whoever_cannot_is_cut_off_before_a_line_is_read(owner: Owner, answer: bytes | str) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        connection.connect(str(owner.path))
        a = os.urandom(32)
        connection.sendall(a)
        said = b""
        while len(said) < 64:
            said += connection.recv(64 - len(said))
        KEY.verify("owner", a, said[:32], said[32:])
        if answer == "reflected":
            answer = said[32:]
        elif answer == "other":
            answer = OTHER.prove("asker", a, said[:32])
        assert isinstance(answer, bytes)
        with suppress(OSError):
            connection.sendall(answer + EVENTS + b'{"jsonrpc":"2.0","id":1,"method":"ListRooms"}\n')
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
    wait_until(lambda: not owner.door._inside)
    assert owner.client.calls == []


def test_another_user_of_this_machine_does_not_come_in(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        if sys.platform != "linux":
            assert sockets._user_of(ours) is None
            return
        assert sockets._user_of(ours) == os.geteuid()
        monkeypatch.setattr("os.geteuid", lambda: 4321)
        with pytest.raises(TrustError, match="a process of user"):
            sockets.admit(ours, KEY)


def test_a_program_in_the_owners_place_hears_nothing(tmp_path: Path) -> None:
    vault = tmp_path / "alice@1.vault"
    listener = sockets.listen(sockets.path_of(vault))
    heard: list[bytes] = []

    def pretend() -> None:
        connection, _ = listener.accept()
        with connection:
            heard.append(connection.recv(100))
            connection.sendall(bytes(64))
            heard.append(connection.recv(100))

    threading.Thread(target=pretend, daemon=True).start()
    with listener, pytest.raises(TrustError):
        RemoteClient(vault, KEY, "alice", on_event=lambda _: None)
    wait_until(lambda: len(heard) == 2)
    assert len(heard[0]) == 32
    assert heard[1] == b""


# --- what goes through ------------------------------------------------------------------------------------------------


def test_who_comes_later_is_told_where_the_owner_is_and_then_what_happens(owner: Owner) -> None:
    for event in (Connected("s", ""), LoggedIn("alice", resumed=False), Ready()):
        owner.door.event(event)
    with owner.asker() as (remote, events), owner.asker() as (_, others):
        assert until(events, Ready) == [Connected("s", ""), LoggedIn("alice", resumed=False), Ready()]
        until(others, Ready)
        command = commands.Send(BOB.id, "hello")
        remote.do(command)
        assert {event.command for event in until(events, Done)} == {command.id}
        assert {event.command for event in until(others, Done)} == {0}
        assert owner.client.calls == [command]


def test_what_is_about_all_conversations_or_none_goes_through_and_what_is_no_command_is_refused(owner: Owner) -> None:
    with owner.asker() as (remote, events):
        prefer = commands.Prefer("presence", "off")
        remote.do(prefer)
        assert until(events, Done)[-1].command == prefer.id
        wrong = commands.Prefer("nothing", "off")  # type: ignore[arg-type]  # as another version may say
        remote.do(wrong)
        assert until(events, Refused)[-1].command == wrong.id
        remote.do(commands.Visit(b""))
        wait_until(lambda: owner.client.visits == [(b"", 0)])
        assert owner.client.calls == [prefer]


def test_reads_are_the_owners(owner: Owner) -> None:
    owner.client.receive(BOB, "bob", "one")
    owner.client.receive(BOB, "bob", "two\n\u202e", trust="verified")
    with owner.asker() as (remote, _):
        reads: tuple[Callable[[Any], Any], ...] = (
            lambda client: client.conversations(),
            lambda client: client.conversation(BOB.id),
            lambda client: client.conversation(bytes(32)),
            lambda client: client.find("bob"),
            lambda client: client.past("bob", 5, before=2),
            lambda client: client.unread(0, limit=10),
            lambda client: client.unread_counts(),
            lambda client: client.search(Query(("one",)), 10),
            lambda client: client.invitations(),
            lambda client: client.blocked(),
        )
        for read in reads:
            assert read(remote) == read(owner.client)
        owner.client.find = normalise_title  # type: ignore[method-assign, assignment]  # which the real one begins with
        with pytest.raises(UsageError):
            remote.find("no name!")
    assert all(getattr(RemoteClient, name) is not method for name, method in READS.items())


def test_a_password_does_not_come_from_another_program(owner: Owner) -> None:
    with owner.asker() as (remote, events):
        for command in (commands.Unlock("secret"), commands.ChangePassword("secret", "another")):
            remote.do(command)
            refused = until(events, Refused)[-1]
            assert refused.command == command.id
    all_the_same = sockets.connect(owner.path, KEY)
    with all_the_same.socket as connection:
        connection.settimeout(SECONDS)
        all_the_same.send(EVENTS)
        all_the_same.send(b'{"jsonrpc":"2.0","id":1,"method":"Unlock","params":{"password":"x"}}\n')
        assert json.loads(next(all_the_same.lines()))["error"]["code"] == ExitCode.UNTRUSTED
    assert owner.client.calls == []


def test_every_command_that_holds_a_password_is_refused() -> None:
    held = {each for each in Command.__subclasses__() if door.refuses(made(each))}
    assert held == {commands.Unlock, commands.ChangePassword, commands.TakePassword, commands.DeleteAccount}


def made(command: type[Command]) -> Command:
    return command.__new__(command)


# --- who stands between -----------------------------------------------------------------------------------------------

Tampering = Callable[[bytes, Iterator[bytes]], Iterator[bytes]]
"""What somebody between passes on, of the record that they passed on last and those that follow, before they end.

All wait for the next record first: until then, what came before is answered.
"""


def untouched(_: bytes, records: Iterator[bytes]) -> Iterator[bytes]:
    yield from records


def altered(_: bytes, records: Iterator[bytes]) -> Iterator[bytes]:
    record = next(records)
    yield record[:-1] + bytes([record[-1] ^ 1])
    yield from records


def repeated(seen: bytes, records: Iterator[bytes]) -> Iterator[bytes]:
    record = next(records)
    yield seen
    yield record
    yield from records


def exchanged(_: bytes, records: Iterator[bytes]) -> Iterator[bytes]:
    first = next(records)
    yield next(records)
    yield first
    yield from records


def left_out(_: bytes, records: Iterator[bytes]) -> Iterator[bytes]:
    next(records)
    yield from records


def cut_short(_: bytes, records: Iterator[bytes]) -> Iterator[bytes]:
    yield next(records)[:-1]


def line_put_in(_: bytes, records: Iterator[bytes]) -> Iterator[bytes]:
    record = next(records)
    yield b'{"jsonrpc":"2.0","id":9,"method":"ListRooms"}\n'
    yield record
    yield from records


def record_put_in(_: bytes, records: Iterator[bytes]) -> Iterator[bytes]:
    record = next(records)
    yield KEY.records_of("asker", bytes(32), bytes(32)).seal(b'{"jsonrpc":"2.0","id":9,"method":"ListRooms"}\n')
    yield record
    yield from records


TAMPERINGS: tuple[Tampering, ...] = (
    altered, repeated, exchanged, left_out, cut_short, line_put_in, record_put_in,
)  # fmt: skip


class Relay:
    """A program of the same user in the owner's place, which passes on what is said, proofs and all.

    It tampers with one connection of each asker, the first or the second, in one direction, once so many records have
    passed.
    """

    def __init__(
        self, path: Path, tampering: Tampering = untouched, *, connection: int = 0, says: str = "", after: int = 1
    ) -> None:
        self.heard = bytearray()
        self._tampering, self._after = tampering, after
        self._tampers_with = (connection, says)
        self._behind = path.with_name("moved.socket")
        path.rename(self._behind)
        self._listener = sockets.listen(path)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._sockets = [self._listener]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        for thread in self._threads:  # those who were connected have hung up
            thread.join(SECONDS)
            assert not thread.is_alive()
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        for number in itertools.cycle((0, 1)):
            try:
                asker, _ = self._listener.accept()
            except OSError:
                return
            owner = socket.socket(socket.AF_UNIX)
            self._sockets += asker, owner
            owner.connect(str(self._behind))
            for says, source, target in (("asker", asker, owner), ("owner", owner, asker)):
                tampering = self._tampering if (number, says) == self._tampers_with else untouched
                thread = threading.Thread(target=self._pass_on, args=(source, target, tampering), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket, tampering: Tampering) -> None:
        with suppress(OSError), source.makefile("rb") as stream:
            for _ in range(2):  # a nonce and a proof, whoever speaks
                target.sendall(stream.read(32))
            with suppress(RuntimeError):  # they have ended while the tampering waited for a record
                for record in self._passed(self._records(stream), tampering):
                    target.sendall(record)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _passed(self, records: Iterator[bytes], tampering: Tampering) -> Iterator[bytes]:
        for number, record in enumerate(records, 1):
            yield record
            if number == self._after:
                yield from tampering(record, records)
                return

    def _records(self, stream: BufferedReader) -> Iterator[bytes]:
        while header := stream.read(4):
            record = header + stream.read(int.from_bytes(header, "big"))
            self.heard += record
            yield record


def error_of(event: Event) -> Exception | None:
    assert isinstance(event, Ended)
    return event.error


def test_who_passes_the_proofs_on_reads_nothing(owner: Owner) -> None:
    with Relay(owner.path) as relay, owner.asker() as (remote, events):
        command = commands.Send(BOB.id, "what nobody reads")
        remote.do(command)
        until(events, Done)
        assert owner.client.calls == [command]
        owner.client.receive(BOB, "bob", "what nobody hears")
        until(events, Received)
        assert remote.past("bob", 5) == owner.client.past("bob", 5)
    assert len(relay.heard) > 500
    assert not [each for each in (b"what nobody", b"jsonrpc", BOB.id.hex().encode()) if each in relay.heard]


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_who_passes_the_proofs_on_asks_for_nothing(owner: Owner, tampering: Tampering) -> None:
    with Relay(owner.path, tampering, says="asker", after=2), owner.asker() as (remote, events):
        sent = [commands.Send(BOB.id, text) for text in ("one", "two", "three")]
        remote.do(sent[0])  # behind the wish for events
        until(events, Done)
        for command in sent[1:]:
            remote.do(command)
        assert isinstance(error_of(until(events, Ended)[-1]), OwnerGone)
        wait_until(lambda: len(owner.door._inside) == 1)  # the one for reads
    assert owner.client.calls == sent[:1]


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_who_passes_the_proofs_on_tells_nothing(owner: Owner, tampering: Tampering) -> None:
    with Relay(owner.path, tampering, says="owner"), owner.asker() as (_, events):
        wait_until(lambda: any(each.listens for each in owner.door._inside))
        for event in (Connected("s", ""), LoggedIn("alice", resumed=False), Ready()):
            owner.door.event(event)
        told = until(events, Ended)
        assert told[:-1] == [Connected("s", "")]
        assert type(error_of(told[-1])) is (OwnerGone if tampering is cut_short else TrustError)


@pytest.mark.parametrize("tampering", [altered, repeated, cut_short, line_put_in, record_put_in])
def test_who_passes_the_proofs_on_answers_nothing(owner: Owner, tampering: Tampering) -> None:
    with Relay(owner.path, tampering, connection=1, says="owner"), owner.asker() as (remote, _):
        assert remote.conversations() == [BOB]
        with pytest.raises(OwnerGone if tampering is cut_short else TrustError):
            remote.conversations()
        with pytest.raises(OwnerGone):  # nothing more is taken for an answer
            remote.conversations()


def test_records_open_at_the_other_end_of_their_connection_in_their_order() -> None:
    a, b = os.urandom(32), os.urandom(32)

    def opened(reader: Records, record: bytes) -> bytes:
        assert Records.length(record[:4]) == len(record) - 4
        return reader.open(record[:4], record[4:])

    said = KEY.records_of("owner", a, b)
    first, second = said.seal(b"one"), said.seal(b"x" * MAX_RECORD)
    reader = KEY.records_of("owner", a, b)
    assert [opened(reader, first), opened(reader, second)] == [b"one", b"x" * MAX_RECORD]
    others = (KEY.records_of("asker", a, b), KEY.records_of("owner", b, a), OTHER.records_of("owner", a, b), reader)
    for other in others:
        with pytest.raises(TrustError, match="tampers"):
            opened(other, first)
    for place in range(4, len(first)):
        changed = bytearray(first)
        changed[place] ^= 1
        with pytest.raises(TrustError, match="tampers"):
            opened(KEY.records_of("owner", a, b), bytes(changed))


@pytest.mark.parametrize("length", [0, 16, MAX_RECORD + 17, (1 << 32) - 1])
def test_a_record_of_no_length_that_there_is_is_not_waited_for(length: int) -> None:
    with pytest.raises(TrustError, match="tampers"):
        Records.length(length.to_bytes(4, "big"))
    assert Records.length((17).to_bytes(4, "big")) == 17


def test_a_line_that_is_longer_than_a_record_goes_through(owner: Owner) -> None:
    owner.client.receive(BOB, "bob", "x" * 3 * MAX_RECORD)
    with owner.asker() as (remote, events):
        assert remote.past("bob", 5) == owner.client.past("bob", 5)
        command = commands.Send(BOB.id, "y" * 3 * MAX_RECORD)
        remote.do(command)
        until(events, Done)
        assert owner.client.calls == [command]


def test_an_event_of_a_later_version_ends_it_as_the_owners_end_does(owner: Owner) -> None:
    @value
    class Unheard(Event):
        """What this version does not know."""

    with owner.asker() as (_, events):
        wait_until(lambda: any(each.listens for each in owner.door._inside))
        for event in (Connected("s", ""), Unheard()):
            owner.door.event(event)
        told = until(events, Ended)
        assert [type(each) for each in told] == [Connected, Ended]
        assert isinstance(error_of(told[-1]), OwnerGone)


# --- how it ends ------------------------------------------------------------------------------------------------------


def test_the_owners_end_answers_what_was_asked_and_then_says_so(owner: Owner) -> None:
    owner.client.online = False
    with owner.asker() as (remote, events):
        command = commands.Send(BOB.id, "hello")
        remote.do(command)
        wait_until(lambda: owner.client.calls == [command])
        ending = threading.Thread(target=owner.door.close)
        ending.start()
        wait_until(lambda: not owner.path.exists())
        with pytest.raises(OSError):  # noqa: PT011  # nobody, or nobody any more
            sockets.connect(owner.path, KEY)
        owner.client.tell(Done(command=command.id))
        told = until(events, Ended)
        assert isinstance(told[-2], Done)
        assert isinstance(told[-1], Ended)
        assert isinstance(told[-1].error, OwnerGone)
        with pytest.raises(OwnerGone):
            remote.conversations()
        ending.join(SECONDS)
        assert not ending.is_alive()


def test_whoever_closes_it_second_leaves_no_socket_that_the_first_takes_from_the_next_owner(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on, unlink = threading.Event(), threading.Event(), Path.unlink
    left: list[bool] = []

    def slowly(path: Path) -> None:
        begun.set()
        goes_on.wait(SECONDS)
        unlink(path)

    def close_again() -> None:
        owner.door.close()
        left.append(owner.path.exists())

    monkeypatch.setattr(Path, "unlink", slowly)
    threads = [threading.Thread(target=owner.door.close), threading.Thread(target=close_again)]
    threads[0].start()
    assert begun.wait(SECONDS)
    threads[1].start()
    threads[1].join(0.2)  # it would have ended
    goes_on.set()
    for each in threads:
        each.join(SECONDS)
    assert left == [False]


def test_who_leaves_by_themselves_is_told_the_ordinary_end(owner: Owner) -> None:
    with owner.asker() as (remote, events):
        remote.do(commands.MarkShown(7))
        remote.close()
        assert until(events, Ended)[-1] == Ended(None)
    wait_until(lambda: owner.client.shown == 7)  # what was asked for is done


def test_who_does_not_read_is_cut_off_and_holds_nobody_up(owner: Owner) -> None:
    idle = sockets.connect(owner.path, KEY)
    with idle.socket, owner.asker() as (_, events):
        idle.send(EVENTS)
        wait_until(lambda: sum(each.listens for each in owner.door._inside) == 2)
        text = "x" * 60_000
        for _ in range(MAX_UNREAD + 20):
            owner.client.receive(BOB, "bob", text)
            until(events, Received)
        wait_until(lambda: len(owner.door._inside) == 2)  # the two of the one who reads


def test_so_many_come_in_and_no_more(owner: Owner) -> None:
    inside = [sockets.connect(owner.path, KEY) for _ in range(MAX_CONNECTIONS)]
    with pytest.raises(OSError):  # noqa: PT011  # of which kind depends on who is faster
        sockets.connect(owner.path, KEY)
    inside.pop().socket.close()
    wait_until(lambda: len(owner.door._inside) < MAX_CONNECTIONS)
    inside.append(sockets.connect(owner.path, KEY))
    for each in inside:
        each.socket.close()


def test_what_a_killed_owner_has_left_gives_way(tmp_path: Path) -> None:
    path = sockets.path_of(tmp_path / "alice@1.vault")
    sockets.listen(path).close()
    assert path.is_socket()
    with pytest.raises(ConnectionRefusedError):
        sockets.connect(path, KEY)
    made = Owner(tmp_path)
    sockets.connect(path, KEY).socket.close()
    made.door.close()


def test_a_long_path_is_no_obstacle_where_the_system_knows_another_way(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    if sys.platform != "linux":
        with pytest.raises(OSError, match="too long"):
            Owner(folder)
        return
    made = Owner(folder)
    with made.asker() as (remote, _):
        assert remote.conversations() == [BOB]
    made.door.close()
    assert list(folder.iterdir()) == []


def test_where_there_are_no_sockets_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("socket.AF_UNIX")
    with pytest.raises(OSError, match="no sockets"):
        Owner(tmp_path)


# --- real programs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LiveServer]:
    """A server; alice and bob have accounts, and each has accepted the other."""
    server = LiveServer(tmp_path)
    for user in ("alice", "bob"):
        (tmp_path / f"{user}.password").touch(mode=0o600)
        (tmp_path / f"{user}.password").write_text(f"the password of {user}\n")
    assert run(server, "bob", "recv", "--register") == (0, "", "")
    assert run(server, "alice", "send", "--register", "--to", "bob", typed="hello") == (0, "", "")
    assert run(server, "bob", "client", typed="/accept alice\n")[0] == 0
    assert run(server, "alice", "send", "--to", "bob", typed="first") == (0, "", "")
    yield server
    server.stop()


def environment(site: LiveServer, user: str) -> dict[str, str]:
    return server_environment({
        "SECURECHAT_USER": user, "SECURECHAT_SERVER": f"localhost:{site.port}", "SECURECHAT_CA": str(site.ca),
        "SECURECHAT_VAULT": str(site.folder / "vaults"),
        "SECURECHAT_PASSWORD_FILE": str(site.folder / f"{user}.password"),
    })  # fmt: skip


def begin(site: LiveServer, user: str, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.cheap", *command], env=environment(site, user),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def run(site: LiveServer, user: str, *command: str, typed: str = "") -> tuple[int, str, str]:
    """Run a command to its end: exit code, output, complaints."""
    process = begin(site, user, *command)
    output, complaints = process.communicate(typed.encode(), timeout=SECONDS)
    assert b"Traceback" not in complaints
    return process.returncode, output.decode(), complaints.decode()


def read_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode()


def end(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


def test_cron_jobs_go_through_whoever_follows_and_one_another(site: LiveServer) -> None:
    following = begin(site, "bob", "recv", "--follow")
    try:
        assert "alice: first" in read_line(following)
        assert run(site, "bob", "send", "--to", "alice", typed="while I follow") == (0, "", "")
        jobs = [begin(site, "alice", "send", "--to", "bob") for _ in range(5)]  # nobody follows there
        for number, job in enumerate(jobs):
            assert job.stdin is not None
            job.stdin.write(f"job {number}".encode())
            job.stdin.close()
            job.stdin = None
        for job in jobs:
            assert job.communicate(timeout=SECONDS) == (b"", b"")
            assert job.returncode == 0
        heard = [read_line(following) for _ in jobs]
        assert sorted(line.split("alice: ")[1].strip() for line in heard) == [f"job {number}" for number in range(5)]
        assert run(site, "alice", "recv")[1].count("while I follow") == 1
    finally:
        end(following)


def test_a_killed_owner_is_followed_by_whoever_went_through_it(site: LiveServer) -> None:
    first = begin(site, "bob", "recv", "--follow")
    assert "alice: first" in read_line(first)
    second = begin(site, "bob", "recv", "--follow")
    try:
        assert run(site, "alice", "send", "--to", "bob", typed="two")[0] == 0
        # Whichever of both marks it first, and so both have it, or the second was not there yet.
        assert "alice: two" in read_line(first)
        first.send_signal(signal.SIGKILL)
        first.wait(SECONDS)
        assert run(site, "bob", "send", "--to", "alice", typed="who has it now?") == (0, "", "")
        assert run(site, "alice", "send", "--to", "bob", typed="three")[0] == 0
        while "alice: three" not in (line := read_line(second)):  # what the first has not marked comes again
            assert line
        assert run(site, "alice", "recv")[1].count("who has it now?") == 1
    finally:
        end(first, second)


def test_a_wrong_password_opens_no_door(site: LiveServer) -> None:
    following = begin(site, "bob", "recv", "--follow")
    try:
        assert "alice: first" in read_line(following)
        (site.folder / "bob.password").write_text("the password of somebody else\n")
        code, _, complaint = run(site, "bob", "send", "--to", "alice", typed="x")
        assert code == ExitCode.LOGIN_REFUSED
        assert "does not open the vault" in complaint
    finally:
        end(following)


def test_a_chat_in_a_terminal_and_a_command_beside_it(site: LiveServer) -> None:
    chat = begin(site, "bob", "client")
    try:
        while "first" not in read_line(chat):
            pass
        assert run(site, "bob", "send", "--to", "alice", typed="from a script") == (0, "", "")
        while "[alice] bob: from a script" not in (line := read_line(chat)):
            assert line
    finally:
        end(chat)


def test_files_go_from_script_to_script_also_through_whoever_has_the_vault_open(site: LiveServer) -> None:
    sea = site.folder / "sea.bin"
    sea.write_bytes(os.urandom(100_000))
    following = begin(site, "alice", "recv", "--follow", "--json")
    try:
        while '"Ready"' not in read_line(following):
            pass
        relative = os.path.relpath(sea)
        sent = run(site, "alice", "send", "--to", "bob", "--file", relative, "--caption", "the sea", "--json")
        assert (sent[0], sent[2]) == (0, "")
        message = json.loads(sent[1])["message"]
        assert (message["file"]["name"], message["file"]["description"]) == ("sea.bin", "the sea")
        assert message["seq"] > 0
        os.mkfifo(site.folder / "pipe")
        code, said, why = run(site, "alice", "send", "--to", "bob", "--file", str(site.folder / "pipe"))
        assert (code, said) == (ExitCode.USAGE, "")
        assert "it is a pipe, and not a file" in why
    finally:
        end(following)
    assert run(site, "bob", "recv")[1].count("sea.bin") == 1
    (line,) = run(site, "bob", "files", "--json")[1].splitlines()
    local_id = str(json.loads(line)["message"]["local_id"])
    (site.folder / "there").mkdir()
    code, path, _ = run(site, "bob", "save", local_id, "--folder", str(site.folder / "there"))
    assert code == 0
    assert Path(path.strip()).read_bytes() == sea.read_bytes()
    assert Path(path.strip()).parent == site.folder / "there"
    code, path, why = run(site, "bob", "save", "1", "--folder", str(site.folder / "there"))
    assert (code, path) == (ExitCode.FAILURE, "")
    assert "There is no file in that message" in why


def test_a_command_does_not_try_for_ever_to_get_past_what_spoils_it(site: LiveServer) -> None:
    following = begin(site, "bob", "recv", "--follow")
    try:
        assert "alice: first" in read_line(following)
        (vault,) = (site.folder / "vaults").glob("bob*.vault")
        with Relay(sockets.path_of(vault), altered, says="asker"):
            code, _, complaint = run(site, "bob", "send", "--to", "alice", typed="spoilt")
        assert code == ExitCode.UNTRUSTED
        assert "has broken off 40 times in a row. End it and try again" in complaint
        assert complaint.count("\n") == 1
        sockets.path_of(vault).unlink()
        vault.with_name("moved.socket").rename(sockets.path_of(vault))
        with Relay(sockets.path_of(vault)):
            assert run(site, "bob", "send", "--to", "alice", typed="passed on") == (0, "", "")
    finally:
        end(following)
    heard = run(site, "alice", "recv")[1]
    assert (heard.count("spoilt"), heard.count("passed on")) == (0, 1)


def test_whoever_does_not_answer_is_named(site: LiveServer) -> None:
    (vault,) = (site.folder / "vaults").glob("bob*.vault")
    lock = FileLock(vault.with_name(f"{vault.name}.lock"), busy="")
    with pytest.raises(StorageError):
        FileLock(vault.with_name(f"{vault.name}.lock"), busy="")
    code, _, complaint = run(site, "bob", "recv", "--timeout", "2")
    assert (code, complaint) == (ExitCode.TIMEOUT, "securechat: Time is up.\n")
    lock.close()
    assert run(site, "bob", "recv")[0] == 0
