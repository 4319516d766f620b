"""The operator's socket: nobody there waits for others, and who is shut out is out before all that they asked for."""

import contextlib
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from securechat.errors import RefusedError
from securechat.server.app import Server
from securechat.server.config import ServerConfig
from securechat.server.operator import protocol, serving
from securechat.server.operator.backup import check_backup
from securechat.server.operator.protocol import ask
from securechat.server.store.records import StoredKeepsake
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.transport.tls import client_context
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import WAIT, Person
from tests.support.server_process import ServerProcess

STATUS = msgspec.json.encode(protocol.GetStatus()) + b"\n"


@contextlib.contextmanager
def connection(data: Path, sent: bytes = b"") -> Iterator[socket.socket]:
    """A connection to the operator's socket, on which something was sent."""
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(WAIT)
        one.connect(str(protocol.socket_path(data)))
        one.sendall(sent)
        yield one


def test_who_stalls_there_holds_up_nobody(certificates: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with contextlib.closing(SQLiteStore(data / "chat.db")) as store:
        keep_much(store)
    with ServerProcess(certificates, data) as server, contextlib.ExitStack() as stalled:
        with Person(server.port, client_context(certificates / "ca.pem"), "mallory") as mallory:
            mallory.register().login()
            copy = stalled.enter_context(stalled_backup(data))
            idle = [stalled.enter_context(connection(data, sent)) for sent in (b"", b'{"type":') for _ in range(10)]
            assert isinstance(ask(data, protocol.GetStatus()), protocol.StatusReport)
            with pytest.raises(RefusedError, match="a backup is being made already"):
                ask(data, protocol.Backup())
            assert ask(data, protocol.SetEnabled("mallory", enabled=False)) == protocol.Done()
            ended = mallory.ended().closing
            assert ended is not None
            assert "disabled by the operator" in ended.text
            # The stalled ones have lost nothing by it.
            idle[0].sendall(STATUS)
            assert b"StatusReport" in idle[0].recv(4096)
            size = 0
            while portion := copy.recv(1 << 20):
                size += len(portion)
            assert size > 4 << 20
            # Of too many that say nothing the oldest give way.
            idle += [stalled.enter_context(connection(data)) for _ in range(2 * serving.MAX_CONNECTIONS)]
            assert isinstance(ask(data, protocol.GetStatus()), protocol.StatusReport)
            assert idle[1].recv(1) == b""
            idle[-1].sendall(STATUS)
            assert b"StatusReport" in idle[-1].recv(4096)
        assert server.end(signal.SIGTERM) == 0


def keep_much(store: SQLiteStore) -> None:
    """Have a backup be more than a socket holds."""
    for number in range(16):
        store.keepsakes.put(f"user{number}", StoredKeepsake(bytes(32), 1, bytes(256 << 10)))
    store.commit()


@contextlib.contextmanager
def stalled_backup(data: Path) -> Iterator[socket.socket]:
    """A backup whose reader has stopped in the middle."""
    with connection(data, msgspec.json.encode(protocol.Backup()) + b"\n") as copy:
        assert b"Streaming" in copy.recv(20)
        yield copy


def test_a_backup_gives_way_to_no_other_connection(certificates: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with contextlib.closing(SQLiteStore(data / "chat.db")) as store:
        keep_much(store)
    with ServerProcess(certificates, data) as server:
        with stalled_backup(data) as copy, contextlib.ExitStack() as opened:
            idle = [opened.enter_context(connection(data)) for _ in range(serving.MAX_CONNECTIONS + 8)]
            assert idle[0].recv(1) == b""  # these do
            line = b""
            while not line.endswith(b"\n"):
                line += copy.recv(1)
            (tmp_path / "backup.tar").write_bytes(b"".join(iter(lambda: copy.recv(1 << 20), b"")))
        assert "chat.db" in check_backup(tmp_path / "backup.tar").files
        assert server.end(signal.SIGTERM) == 0


def test_a_backup_gives_way_to_the_end_of_the_server(
    server: Server, config: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "REQUEST_SECONDS", 20 * WAIT)
    with server._sequencer._lock:
        keep_much(server._store)
    with stalled_backup(config.data) as copy:
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        stopping.join(WAIT)
        assert not stopping.is_alive()
        assert sum(map(len, iter(lambda: copy.recv(1 << 20), b""))) < 4 << 20


def test_slow_requests_hold_up_no_others_and_are_not_without_number(server: Server, config: ServerConfig) -> None:
    slow = msgspec.json.encode(protocol.ListRooms()) + b"\n"
    with contextlib.ExitStack() as opened:
        with server._sequencer._lock:  # the turn takes its time
            asked = [opened.enter_context(connection(config.data, slow)) for _ in range(serving.MAX_AT_ONCE + 1)]
            (refused,), _, _ = select.select(asked, [], [], WAIT)
            assert b"8 requests are being handled already" in refused.recv(4096)
            with pytest.raises(RefusedError, match="there is no account nobody"):
                ask(config.data, protocol.SetEnabled("nobody", enabled=False))
        asked.remove(refused)
        for each in asked:
            assert b'"type":"Rooms"' in each.recv(4096)
    assert isinstance(ask(config.data, protocol.ListInvites()), protocol.Invites)


@pytest.mark.parametrize("disabled", [True, False])
def test_who_is_disabled_gets_nothing_done_that_was_waiting(
    server: Server, config: ServerConfig, enter: Callable[..., Person], *, disabled: bool
) -> None:
    mallory = enter("mallory")
    mallory.open_room("#lobby")
    (room,) = mallory.groups
    with server._sequencer._lock:
        before = server._counters.entries
        for number in range(20):
            mallory.send(mallory.encrypt(room, f"flood {number}"))
        read = threading.Event()
        while not read.wait(0.01):  # for the I/O thread to have taken some, and to want its turn
            if server._sequencer._submissions:
                break
        if disabled:
            ask(config.data, protocol.SetEnabled("mallory", enabled=False))
    if disabled:
        assert mallory.ended().closing is not None
    else:
        mallory.take(m.Accepted)
    assert (server._counters.entries > before) != disabled


ACTIONS: dict[type, Callable[[str], protocol.Request]] = {
    protocol.ListUsers: lambda _: protocol.ListUsers(),
    protocol.AddUser: lambda _: protocol.AddUser("dora", 1),
    protocol.ResetPassword: lambda _: protocol.ResetPassword("alice", 1),
    protocol.SetEnabled: lambda _: protocol.SetEnabled("alice", enabled=False),
    protocol.DeleteUser: lambda _: protocol.DeleteUser("alice"),
    protocol.ListSessions: lambda _: protocol.ListSessions(),
    protocol.EndSessions: lambda _: protocol.EndSessions("alice"),
    protocol.Top: lambda _: protocol.Top(1),
    protocol.Announce: lambda _: protocol.Announce("hello"),
    protocol.CreateInvite: lambda _: protocol.CreateInvite(1),
    protocol.ListInvites: lambda _: protocol.ListInvites(),
    protocol.RevokeInvite: protocol.RevokeInvite,
    protocol.ListRooms: lambda _: protocol.ListRooms(),
    protocol.ListAllRooms: lambda _: protocol.ListAllRooms(),
    protocol.DeleteRoom: lambda _: protocol.DeleteRoom("#den"),
    protocol.Speak: lambda _: protocol.Speak("#lobby", "bar", "alice"),
    protocol.UpgradeRoom: lambda _: protocol.UpgradeRoom("#lobby"),
    protocol.ChangeSiteKey: lambda _: protocol.ChangeSiteKey(),
    protocol.AcceptClock: lambda _: protocol.AcceptClock(),
    protocol.GetStatus: lambda _: protocol.GetStatus(),
    protocol.Backup: lambda _: protocol.Backup(),
}
"""Every request of the operator; the argument is the id of an invite."""


@pytest.mark.parametrize("action", get_args(protocol.Request))
def test_the_operator_does_everything_below_the_disk_s_floor(
    server: Server, config: ServerConfig, enter: Callable[..., Person], monkeypatch: pytest.MonkeyPatch, action: type
) -> None:
    alice = enter("alice")
    for room in ("#lobby", "#den"):
        assert isinstance(alice.open_room(room), m.Done)
    ask(config.data, protocol.CreateInvite(1))
    invites = ask(config.data, protocol.ListInvites())
    assert isinstance(invites, protocol.Invites)
    monkeypatch.setattr(server._space, "reusable", lambda: 0)
    monkeypatch.setattr(server._space, "_free", lambda: config.disk_floor - 1)
    server._space.look()
    refused = alice.open_room("#more")
    assert (type(refused), refused.code) == (m.Refused, "disk-full")
    with server._sequencer._lock:  # as if nobody had spoken for long: a worker reads the group first
        for each in server._sequencer._conversations._loaded.values():
            each.group = None
    if action is protocol.UpgradeRoom:  # there is no newer version to rise to
        with pytest.raises(RefusedError, match="the newest that this server knows"):
            ask(config.data, ACTIONS[action](""))
    else:
        ask(config.data, ACTIONS[action](invites.invites[0].id))
