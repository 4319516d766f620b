"""Accepted means durable: restarts, kill -9, a broken disk. More in tests/faults."""

import contextlib
import os
import resource
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from securechat.errors import StorageError, UsageError
from securechat.server import housekeeping
from securechat.server.app import Server
from securechat.server.config import ACCOUNTS_FILE, STORE_FILE, ServerConfig
from securechat.server.sequencer import budgets
from securechat.server.sequencer.sequencer import Sequencer
from securechat.server.store.sqlite import writer
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.wire import messages as m
from securechat.wire.protocol import Ended
from securechat_lab.cast.wire_client import WAIT, Person
from tests.support.server_process import ServerProcess, server_command, server_environment


def talk(port: int, tls: ssl.SSLContext) -> tuple[Person, Person, bytes]:
    """alice and bob in a direct conversation."""
    alice, bob = (Person(port, tls, name).register().login() for name in ("alice", "bob"))
    bob.read_inbox()
    assert isinstance(alice.open_direct("bob"), m.Accepted)
    return alice, bob, bob.accept_welcome()


def close(*people: Person) -> None:
    for person in people:
        person.drop()


def moved(person: Person, port: int) -> Person:
    """The same device on a server at another port."""
    person.port = port
    return person.again()


def test_checkpoints_are_made_while_there_is_always_more_to_move(
    start: Callable[[], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = threading.Semaphore(0)
    monkeypatch.setattr(housekeeping, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(Sequencer, "housekeep", lambda *_: True)
    monkeypatch.setattr(SQLiteStore, "checkpoint", lambda _: made.release())
    start()
    for _ in range(3):
        assert made.acquire(timeout=WAIT), "the write-ahead log grows and grows"


@pytest.mark.parametrize("fails", [False, True], ids=["as usual", "though it fails"])
def test_a_long_write_ahead_log_wakes_housekeeping(
    start: Callable[..., Server],
    tls: ssl.SSLContext,
    config: ServerConfig,
    monkeypatch: pytest.MonkeyPatch,
    fails: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    monkeypatch.setattr(housekeeping, "PAUSE_SECONDS", 3600.0)  # by itself it would not come
    monkeypatch.setattr(writer, "WAL_BYTES", 200_000)
    monkeypatch.setattr(writer, "WAL_MOST_BYTES", 1 << 40)  # nor do commits
    server = start()
    housekeep, calls = server._sequencer.housekeep, []

    def watched(now: float) -> bool:
        calls.append(now)
        if fails:
            raise StorageError("a failure of ours")
        return housekeep(now)

    monkeypatch.setattr(server._sequencer, "housekeep", watched)
    database = config.data / STORE_FILE
    before = database.stat().st_size
    alice, bob, conversation = talk(server.port, tls)
    deadline = time.monotonic() + WAIT
    while database.stat().st_size == before:  # only a checkpoint writes there
        assert time.monotonic() < deadline, "nobody makes a checkpoint"
        assert isinstance(alice.say(conversation, "long ".ljust(5000)), m.Accepted)
    for _ in range(100 if fails else 0):  # each of which would ask for it again
        assert isinstance(alice.say(conversation, "long ".ljust(5000)), m.Accepted)
    assert len(calls) == 1 or not fails
    close(alice, bob)


def test_a_restart_loses_nothing(start: Callable[..., Server], tls: ssl.SSLContext) -> None:
    first = start()
    alice, bob, conversation = talk(first.port, tls)
    said = alice.encrypt(conversation, "before")
    alice.send(said)
    accepted = alice.take(m.Accepted)
    server_id = alice.hello.server_id
    first.stop()
    second = start()
    with moved(alice, second.port) as alice2, moved(bob, second.port) as bob2:
        assert alice2.hello.server_id == server_id
        again = alice2.ask(m.Submit, conversation, said.number, said.payload)
        assert (again.seq, again.time) == (accepted.seq, accepted.time)
        subscribed = bob2.subscribe(conversation)
        assert subscribed.head == accepted.seq
        assert bob2.read(conversation) == [(accepted.seq, "before")]
        assert isinstance(alice2.change(conversation), m.Accepted)  # the group was rebuilt from the store
        assert isinstance(alice2.say(conversation, "after"), m.Accepted)
        assert bob2.read(conversation) == [(accepted.seq + 2, "after")]
    close(alice, bob)


def test_a_group_is_rebuilt_from_a_snapshot_and_the_commits_after_it(
    start: Callable[..., Server], tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "FIRST_DAY_COMMITS", 100)
    first = start()
    alice = Person(first.port, tls, "alice").register().login()
    alice.open_room("#lobby")
    (room,) = alice.groups
    for _ in range(67):
        assert isinstance(alice.change(room), m.Accepted)
    first.stop()
    second = start()
    with moved(alice, second.port) as alice2, Person(second.port, tls, "bob") as bob:
        bob.register().login()
        assert bob.join("#lobby") == room
        assert bob.groups[room].epoch == 68
        alice2.subscribe(room, 67)
        alice2.process(alice2.take(m.Entry))
        bob.subscribe(room)
        alice2.say(room, "hello")
        assert bob.read(room) == [(69, "hello")]
    alice.drop()


@pytest.mark.parametrize("enough", [1, 50, 400])
def test_kill_9_loses_nothing_that_was_accepted(
    certificates: Path, tmp_path: Path, tls: ssl.SSLContext, enough: int
) -> None:
    data = tmp_path / "data"
    sent: list[m.Submit] = []
    accepted: dict[int, m.Accepted] = {}
    with ServerProcess(certificates, data) as first:
        alice, bob, conversation = talk(first.port, tls)
        with alice, bob:
            bob.subscribe(conversation)
            while len(accepted) < enough:
                while alice.protocol.in_flight < 32:
                    sent.append(alice.encrypt(conversation, str(len(sent))))
                    alice.protocol.send(sent[-1])
                alice.pump()
                accepted.update((event.number, event) for event in alice.received if isinstance(event, m.Accepted))
            first.process.send_signal(signal.SIGKILL)  # with others on their way
            alice.ended()
            accepted.update((event.number, event) for event in alice.received if isinstance(event, m.Accepted))
            first.wait()
    with (
        ServerProcess(certificates, data) as second,
        moved(alice, second.port) as alice2,
        moved(bob, second.port) as bob2,
    ):
        last = alice2.subscribe(conversation).last
        assert last >= max(accepted)
        for submit in sent:  # what was accepted gets the same answer, the rest is accepted now
            if submit.number > last - 256:
                reply = alice2.ask(m.Submit, conversation, submit.number, submit.payload)
                assert isinstance(reply, m.Accepted), reply
                if (before := accepted.get(submit.number)) is not None:
                    assert (reply.seq, reply.time) == (before.seq, before.time)
        bob2.cursors[conversation] = 1
        bob2.subscribe(conversation)
        assert [text for _, text in bob2.read(conversation, len(sent))] == [str(n) for n in range(len(sent))]


def test_sigterm_tells_the_clients_and_exits_0(certificates: Path, tmp_path: Path, tls: ssl.SSLContext) -> None:
    with ServerProcess(certificates, tmp_path / "data") as server:
        alice = Person(server.port, tls, "alice").register().login()
        server.process.send_signal(signal.SIGTERM)
        closing = alice.ended().closing
        assert closing is not None
        assert closing.reason == "shutdown"
        alice.drop()
        assert server.wait() == 0
        assert "Traceback" not in server.log.read_text()


def test_sigint_exits_0_without_clients(certificates: Path, tmp_path: Path) -> None:
    with ServerProcess(certificates, tmp_path / "data") as server:
        assert server.end(signal.SIGINT) == 0


@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty", "page"])
def test_a_damaged_database_stops_the_start_and_stays_as_it_is(
    start: Callable[..., Server], tls: ssl.SSLContext, config: ServerConfig, damage: str
) -> None:
    first = start()
    alice, bob, _ = talk(first.port, tls)
    close(alice, bob)
    first.stop()
    path = config.data / STORE_FILE
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    broken = {
        "garbage": b"not a database" * 100,
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "page": whole[:4096] + bytes(4096) + whole[8192:],
    }[damage]
    path.write_bytes(broken)
    with pytest.raises(StorageError, match="left as it is"):
        Server(config).start()
    assert path.read_bytes() == broken
    path.write_bytes(whole)
    start()


def fingerprint(folder: Path) -> dict[str, tuple[bytes, int]]:
    """What a folder holds, byte for byte, and when each of it was changed."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}


def test_a_second_server_on_the_same_data_is_refused_and_touches_nothing(
    certificates: Path, tmp_path: Path, tls: ssl.SSLContext
) -> None:
    data = tmp_path / "data"
    with ServerProcess(certificates, data) as first:
        alice, bob, conversation = talk(first.port, tls)
        first.process.send_signal(signal.SIGSTOP)  # what changes from now on is not its doing
        os.waitid(os.P_PID, first.process.pid, os.WSTOPPED)
        before = fingerprint(data)
        second = subprocess.run(
            server_command(certificates, data), env=server_environment(), capture_output=True, text=True, timeout=60
        )
        assert fingerprint(data) == before
        assert (second.returncode, second.stdout) == (1, "")
        assert second.stderr == f"Error: another server is using {data / ACCOUNTS_FILE}\n"
        first.process.send_signal(signal.SIGCONT)
        bob.subscribe(conversation)
        assert isinstance(alice.say(conversation, "still here"), m.Accepted)
        assert bob.read(conversation) == [(2, "still here")]
        close(alice, bob)
        first.end(signal.SIGTERM)
    with ServerProcess(certificates, data):  # the twin: it was the first one that was in the way
        pass


def test_a_start_that_is_refused_touches_nothing_of_what_a_killed_server_has_left(
    certificates: Path, tmp_path: Path, tls: ssl.SSLContext
) -> None:
    left = tmp_path / "left"
    with ServerProcess(certificates, left) as server:
        alice, bob, _ = talk(server.port, tls)
        server.end(signal.SIGKILL)
        close(alice, bob)
    assert (left / f"{STORE_FILE}-wal").stat().st_size > 0
    well = ServerConfig(
        port=0, data=left, cert=certificates / "server.pem", key=certificates / "server-key.pem", metrics_port=0
    )

    def refused(words: str, damage: Callable[[Path], object] = lambda _: None, **changes: Any) -> None:
        data = tmp_path / words
        shutil.copytree(left, data, ignore=shutil.ignore_patterns("admin.sock"))
        damage(data)
        before = fingerprint(data)
        with pytest.raises((StorageError, UsageError), match=words):
            Server(replace(well, data=data, **changes)).start()
        assert fingerprint(data) == before, words

    accounts = (left / ACCOUNTS_FILE).read_bytes()
    refused("is damaged at line", lambda data: (data / ACCOUNTS_FILE).write_bytes(accounts[:-9]))
    refused("is damaged: file", lambda data: (data / STORE_FILE).write_bytes(b"x" * 8192))
    refused("does not exist", cert=tmp_path / "missing.pem")
    with socket.create_server(("127.0.0.1", 0)) as other:
        refused("cannot listen", port=other.getsockname()[1])
        refused("cannot serve metrics", metrics_port=other.getsockname()[1])

    before = fingerprint(left)  # the twin: one that is not refused takes over what was left
    again = Server(well)
    again.start()
    again.stop()
    assert fingerprint(left) != before


def test_a_database_without_its_accounts_or_the_other_way_round_stops_the_start(
    start: Callable[..., Server], tls: ssl.SSLContext, config: ServerConfig
) -> None:
    first = start()
    alice, bob, _ = talk(first.port, tls)
    close(alice, bob)
    first.stop()
    store = (config.data / STORE_FILE).rename(config.data / "elsewhere")
    with pytest.raises(StorageError, match="chat.db is missing"):
        Server(config).start()
    store.rename(config.data / STORE_FILE)
    for path in config.data.glob("accounts.json*"):
        path.unlink()
    with pytest.raises(StorageError, match="accounts.json is missing, .* anybody could take their names"):
        Server(config).start()


@pytest.mark.usefixtures("server")
def test_files_are_private(config: ServerConfig) -> None:
    for path in config.data.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can limit another process's files (prlimit)")
def test_a_broken_disk_ends_the_process_without_an_answer(
    certificates: Path, tmp_path: Path, tls: ssl.SSLContext
) -> None:
    data = tmp_path / "data"
    with ServerProcess(certificates, data) as server:
        alice, bob, conversation = talk(server.port, tls)
        size = (data / f"{STORE_FILE}-wal").stat().st_size
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size + 100, size + 100))
        said = alice.encrypt(conversation, "lost?" * 1000)
        alice.send(said)
        assert alice.ended() == Ended()
        assert not [event for event in alice.received if isinstance(event, m.Accepted)]
        assert server.wait() == 70
        assert "the store has failed" in server.log.read_text()
        close(alice, bob)
    with ServerProcess(certificates, data) as server, moved(alice, server.port) as alice2:
        assert isinstance(alice2.ask(m.Submit, conversation, said.number, said.payload), m.Accepted)
