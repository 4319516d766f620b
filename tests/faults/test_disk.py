"""A full disk is an answer, and a broken one the end of the process; nothing accepted is lost either way."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.transport.tls import client_context
from securechat.wire import messages as m
from tests.support.faulty_system import FaultySystem
from tests.support.history import check_history
from tests.support.live import LiveClient, LiveServer, view
from tests.support.server_process import server_environment
from tests.support.small_disk import SmallDisk, may_mount, mounted_disk, refusing_disk
from tests.support.wire_client import Person

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
    server = start_server(environment=disk.environment)
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
