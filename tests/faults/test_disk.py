"""A full disk is an answer, and a broken one the end of the process; nothing accepted is lost either way."""

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client.vault import key_file
from securechat.client.vault.database import _connect
from securechat.errors import StorageError
from securechat.server.operator import backup, protocol
from securechat.server.operator.protocol import ask
from securechat.server.status import Status
from securechat.transport.tls import client_context
from securechat.wire import messages as m
from securechat_lab.cast.live import LiveClient
from securechat_lab.cast.wire_client import Person
from tests.support.faulty_system import FaultySystem
from tests.support.history import check_history
from tests.support.live import LiveServer, view
from tests.support.server_process import server_environment
from tests.support.small_disk import SmallDisk, may_mount, mounted_disk, refusing_disk
from tests.support.waiting import wait_until

Clients = Callable[..., list[LiveClient]]
Start = Callable[..., LiveServer]

DISKS = [
    pytest.param(mounted_disk, marks=pytest.mark.skipif(not may_mount(), reason="mounting takes CAP_SYS_ADMIN")),
    refusing_disk,
]
LONG = 20_000


@pytest.fixture(params=DISKS, ids=["mounted_disk", "refusing_disk"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    with request.param(tmp_path / "data") as disk:
        yield disk


def test_a_full_disk_is_an_answer_and_all_goes_on_when_there_is_room(
    disk: SmallDisk, start_server: Start, clients: Clients
) -> None:
    server = start_server(environment={**disk.environment, "SECURECHAT_DISK_FLOOR": "0"})
    alice, bob = clients(server, "alice", "bob")
    alice.do(commands.OpenDirect("bob", "0", ask=False))
    bob.read("alice", "alice: 0")
    with Person(server.port, client_context(server.ca), "carol") as carol:
        carol.register().login()
        carol.open_room("#carol")
        (room,) = carol.groups
        disk.fill()
        said = ["0"]
        accepted = []
        while isinstance(reply := carol.say(room, "x" * LONG), m.Accepted):
            accepted.append(reply.seq)
            said.append(f"{len(said)}:".ljust(LONG, "x"))
            alice.say("bob", said[-1])
        assert reply.code == "disk-full"
        carol.numbers[room] -= 1
        said.append("while the disk was full")
        alice.say("bob", said[-1])
        disk.make_room()
        bob.read("alice", f"alice: {said[-1]}")
        alice.wait_for(events.Delivered, lambda event: event.message.text == said[-1])
        accepted.append(carol.say(room, "again").seq)
    check_history({"alice": said, "bob": []}, [view(alice, "bob"), view(bob, "alice")], everything_arrived=True)
    server.kill()
    server.start()
    with carol.again() as carol2:
        assert carol2.subscribe(room).head == accepted[-1] == len(accepted)
    assert "Traceback" not in server.log.read_text()


@pytest.mark.skipif(not may_mount(), reason="mounting takes CAP_SYS_ADMIN")
def test_on_a_disk_without_a_byte_the_operator_can_act(tmp_path: Path, start_server: Start) -> None:
    """Somebody else has filled it; what is left is the server's reserve, of one part in eight of its floor."""
    data = tmp_path / "data"
    with mounted_disk(data, "40m"):
        server = start_server(environment={"SECURECHAT_DISK_FLOOR": "16 MiB"})

        def status() -> Status:
            reply = ask(data, protocol.GetStatus())
            assert isinstance(reply, protocol.StatusReport)
            problems.append(reply.problem)
            return reply.status

        problems: list[str] = []
        with Person(server.port, client_context(server.ca), "mallory") as mallory:
            mallory.register().login()
            mallory.open_room("#mallory")
            (room,) = mallory.groups
            assert isinstance(mallory.say(room, "with room"), m.Accepted)
            wait_until(lambda: status().disk_reserve_bytes == 2 << 20)
            with contextlib.suppress(OSError), (data / "somebody else's").open("wb", buffering=0) as other:
                while other.write(bytes(1 << 12)):
                    pass
            assert shutil.disk_usage(data).free == 0
            wait_until(lambda: "its disk is nearly full" in problems[-1] or not status())
            reply = mallory.say(room, "without")
            assert isinstance(reply, m.Refused)
            assert reply.code == "disk-full"
            assert ask(data, protocol.ResetPassword("mallory", 1))
            assert ask(data, protocol.SetEnabled("mallory", enabled=False)) == protocol.Done()
            closing = mallory.ended().closing
            assert closing is not None
            assert closing.reason == "logged-out"
        assert status().disk_reserve_bytes == 0
        files = {path.name: path.stat().st_size for path in data.iterdir()}
        backup.save_backup(data, tmp_path / "elsewhere.tar")
        assert {path.name: path.stat().st_size for path in data.iterdir()} == files
        backup.restore(tmp_path / "elsewhere.tar", tmp_path / "restored")
        server.kill()
        server.start()  # and a start needs no more room than there is
        (data / "somebody else's").unlink()
        wait_until(lambda: status().disk_reserve_bytes == 2 << 20)
        assert problems[-1] == ""
        with Person(server.port, client_context(server.ca), "carol") as carol:
            carol.register().login()
            assert isinstance(carol.open_room("#carol"), m.Done)
    assert "Traceback" not in server.log.read_text()


@pytest.mark.skipif(not may_mount(), reason="mounting takes CAP_SYS_ADMIN")
def test_it_is_the_reserve_by_which_the_operator_can(tmp_path: Path, start_server: Start) -> None:
    data = tmp_path / "data"
    with mounted_disk(data) as disk:
        start_server(environment={"SECURECHAT_DISK_FLOOR": "0"})
        with contextlib.suppress(OSError), (data / "somebody else's").open("wb", buffering=0) as other:
            while other.write(bytes(1 << 12)):
                pass
        with pytest.raises(StorageError, match="No space left"):
            ask(data, protocol.AddUser("alice", 1))
        disk.make_room()
        assert ask(data, protocol.AddUser("alice", 1))


def test_a_checkpoint_without_room_undoes_nothing(tmp_path: Path) -> None:
    """The commit before it has been answered; what a checkpoint cannot copy stays in the write-ahead log."""
    system = FaultySystem(tmp_path)
    program = Path(__file__).parents[1] / "support" / "full_store.py"
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "store" / "chat.db"), str(system.switches)],
        env=server_environment(system.environment), stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [*range(1, 131)]


def test_a_failed_fsync_ends_the_process_and_nothing_was_promised(
    tmp_path: Path, start_server: Start, clients: Clients
) -> None:
    system = FaultySystem(tmp_path)
    server = start_server(environment=system.environment)
    alice, bob = clients(server, "alice", "bob")
    said = ["before"]
    alice.do(commands.OpenDirect("bob", said[0], ask=False))
    bob.read("alice", "alice: before")
    for word in ("one", "two"):
        system.set(fsync_fails=True)
        said.append(word)
        alice.say("bob", word)
        assert server.wait() == 70
        assert f"alice: {word}" not in bob.texts("alice")
        assert [line.text for line in alice.client.history(alice.id_of("bob"), 10) if line.seq == 0] == [word]
        system.set()
        server.start()
        bob.read("alice", f"alice: {word}")
        alice.wait_until(lambda: all(line.seq for line in view(alice, "bob").lines))
    check_history({"alice": said, "bob": []}, [view(alice, "bob"), view(bob, "alice")], everything_arrived=True)


TALK = """
import sys
from pathlib import Path
from securechat.client.password_source import PasswordSource
from securechat.client.vault.vault import Vault
from securechat.client.wrapping import Cost
from securechat.errors import StorageError
try:
    Vault.open(Path(sys.argv[1]), "alice", PasswordSource.typed("pw"), cost=Cost(1, 8, 1)).close()
except StorageError as error:
    print(error)
"""


def told_at_the_start(vault: Path, **environment: str) -> str:
    """What a program that opens a vault says of it; nothing if it opens."""
    done = subprocess.run(
        [sys.executable, "-c", TALK, str(vault)],
        env=server_environment(environment), capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.decode()


def test_a_vault_is_called_damaged_only_if_it_is(tmp_path: Path) -> None:
    """Whoever is told so puts a backup back, and loses what came since."""
    vault, system = tmp_path / "alice.vault", FaultySystem(tmp_path)
    assert told_at_the_start(vault, **system.environment) == ""
    before = vault.read_bytes()
    system.set(disk_full=True)
    told = told_at_the_start(vault, **system.environment)
    assert "disk" in told
    assert "nothing in it" in told
    assert "backup" not in told
    system.set()
    key, _ = key_file.unlock(tmp_path / "alice.vault.key", bytearray(b"pw"))
    with closing(_connect(str(vault), key)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        told = told_at_the_start(vault)
        assert "another program holds it (database is locked). Close that one" in told
        assert "it is damaged" not in told
        other.execute("ROLLBACK")
    assert told_at_the_start(vault) == ""
    assert vault.read_bytes() == before
    vault.write_bytes(bytes(len(before)))
    assert "it is damaged (file is not a database). Put a backup of it back." in told_at_the_start(vault)


@pytest.mark.skipif(not may_mount(), reason="mounting takes CAP_SYS_ADMIN")
def test_a_vault_in_a_folder_without_room_or_to_be_read_only_is_not_called_damaged(tmp_path: Path) -> None:
    with mounted_disk(tmp_path / "vaults") as disk:
        vault = tmp_path / "vaults" / "alice.vault"
        assert told_at_the_start(vault) == ""
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "vaults" / "other").write_bytes(bytes(8 << 20))
        told = told_at_the_start(vault)
        assert "the disk is full" in told
        assert "Make room" in told
        assert "it is damaged" not in told
        (tmp_path / "vaults" / "other").unlink()
        assert told_at_the_start(vault) == ""
        disk.forbid_writing()
        told = told_at_the_start(vault)
        assert "Read-only file system" in told
        assert "it is damaged" not in told
        disk.make_room()
        assert told_at_the_start(vault) == ""
