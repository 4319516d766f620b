"""Files over TLS, between real processes: what the server gets to see of them, and what kills do to them."""

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat_lab.cast.canaries import files, search
from securechat_lab.cast.live import LiveClient
from tests.support.live import LiveServer
from tests.support.talker_process import Talker
from tests.support.waiting import wait_until

Clients = Callable[..., list[LiveClient]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    server = LiveServer(tmp_path, "--log-level", "debug")
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


@pytest.fixture
def pair(server: LiveServer) -> Iterator[list[LiveClient]]:
    """Alice and bob, who talk."""
    alice, bob = (LiveClient(server, name) for name in ("alice", "bob"))
    for each in (alice, bob):
        each.wait_for(events.Ready)
    alice.answer(commands.OpenDirect("bob", "hi", ask=False))
    bob.read("alice", "alice: hi")
    bob.accept("alice")
    yield [alice, bob]
    for each in (alice, bob):
        each.close()


def newest_file(person: LiveClient, name: str) -> int:
    """The line of the newest file there, once there is one."""

    def found() -> list[int]:
        lines = person.client.history(person.id_of(name), 100)
        return [line.local_id for line in lines if line.file is not None]

    person.wait_until(lambda: bool(found()))
    return found()[-1]


def test_a_file_arrives_and_the_server_knows_nothing_of_it(
    server: LiveServer, pair: list[LiveClient], tmp_path: Path
) -> None:
    alice, bob = pair
    canaries = {what: f"canary-{secrets.token_hex(8)}".encode() for what in ("content", "name", "type", "description")}
    data = os.urandom(1 << 20) + canaries["content"] * 40_000
    source, folder = tmp_path / f"{canaries['name'].decode()}.bin", tmp_path / "saved"
    source.write_bytes(data)
    folder.mkdir()
    sent = commands.SendFile(
        alice.id_of("bob"), str(source), description=canaries["description"].decode(),
        media_type=f"image/{canaries['type'].decode()}", disposition="image",
    )  # fmt: skip
    assert isinstance(alice.answer(sent), events.Done)
    saved = commands.SaveFile(newest_file(bob, "alice"), str(folder))
    assert isinstance(bob.answer(saved), events.Done)
    assert sha256((folder / source.name).read_bytes()).digest() == sha256(data).digest()
    seen = files(server.folder / "data") | {"log": server.log.read_bytes()}
    assert any(len(content) > len(data) for content in seen.values())  # the blob is among them
    assert not search(seen, canaries)


def test_a_server_that_is_killed_meanwhile_goes_on_with_it(
    server: LiveServer, pair: list[LiveClient], tmp_path: Path
) -> None:
    alice, bob = pair
    source, folder = tmp_path / "large", tmp_path / "saved"
    folder.mkdir()
    source.write_bytes(os.urandom(12 << 20))

    def moves(event: events.Transferred) -> bool:
        return event.transfer.stage == "moving"

    sent = commands.SendFile(alice.id_of("bob"), str(source))
    alice.do(sent)
    alice.wait_for(events.Transferred, moves)
    server.kill()
    server.start()
    alice.wait_for(events.Done, lambda event: event.command == sent.id)
    saved = commands.SaveFile(newest_file(bob, "alice"), str(folder))
    bob.do(saved)
    bob.wait_for(events.Transferred, moves)
    server.kill()
    server.start()
    bob.wait_for(events.FileSaved)
    assert (folder / "large").read_bytes() == source.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere this machine has one loopback address of IPv4")
@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_clients_that_are_killed_while_a_file_goes_by_a_link_go_on_with_it(
    server: LiveServer, tmp_path: Path, who: str
) -> None:
    """kill -9 while it is saved by the link, and once more, in either case, while what is missing is uploaded."""
    source, folder = tmp_path / "large", tmp_path / "saved"
    folder.mkdir()
    source.write_bytes(os.urandom(64 << 20))

    def sealed(name: str) -> list[Path]:
        return [*server.folder.glob(f"vaults/{name}.vault.files/*")]

    alice, bob = Talker(server, "alice"), Talker(server, "bob")
    try:
        for each in (alice, bob):
            each.wait_for("Ready")
        alice.tell("open", "bob")
        alice.wait_for("ConversationChanged opened")
        alice.tell("say", "bob", "hi")
        bob.wait_for("Received hi")
        bob.tell("say", "alice", "here")
        alice.wait_for("Received here")
        alice.tell("link", "bob")
        bob.wait_for("LinkChanged asked")
        bob.tell("link", "alice")
        for each in (alice, bob):
            each.wait_for("LinkChanged up")
        alice.tell("share", "bob", str(source))
        bob.wait_for("Received large")
        alice.wait_for("Transferred send offered")
        bob.tell("save", "alice", str(folder))
        bob.wait_for("Transferred save moving")
        victim = alice if who == "sender" else bob
        victim.kill()
        victim.start()
        # Where bob had all of it before that kill, it is over already.
        wait_until(lambda: alice.saw("Transferred send moving") or not sealed("alice"))
        alice.kill()
        alice.start()
        alice.wait_for("Ready")
        wait_until(lambda: (folder / "large").exists() and not sealed("alice") + sealed("bob"))
        assert sha256((folder / "large").read_bytes()).digest() == sha256(source.read_bytes()).digest()
    finally:
        alice.close()
        bob.close()
    assert [each.name for each in folder.iterdir()] == ["large"]
    assert not [each for name in ("alice", "bob") for each in server.folder.glob(f"vaults/{name}.vault.files/*")]


def test_clients_that_are_killed_meanwhile_go_on_with_it(server: LiveServer, tmp_path: Path) -> None:
    """kill -9, several times on either side, each time at another moment: one file comes of it, and it is whole."""
    source, folder = tmp_path / "large", tmp_path / "saved"
    folder.mkdir()
    source.write_bytes(os.urandom(12 << 20))
    alice, bob = Talker(server, "alice"), Talker(server, "bob")
    try:
        alice.wait_for("Ready")
        bob.wait_for("Ready")
        alice.tell("open", "bob")
        alice.wait_for("ConversationChanged opened")
        alice.tell("say", "bob", "hi")
        bob.wait_for("Received hi")
        alice.tell("share", "bob", str(source))
        for stage in ("sealing", "waiting", "moving", "moving"):
            alice.wait_for(f"Transferred send {stage}")
            alice.kill()
            alice.start()
        bob.wait_for("Received large")
        bob.tell("save", "alice", str(folder))
        for stage in ("waiting", "moving", "moving"):
            bob.wait_for(f"Transferred save {stage}")
            bob.kill()
            bob.start()
        bob.wait_for("FileSaved")
        assert (folder / "large").read_bytes() == source.read_bytes()
    finally:
        alice.close()
        bob.close()
    assert [each.name for each in folder.iterdir()] == ["large"]
    assert not [each for name in ("alice", "bob") for each in server.folder.glob(f"vaults/{name}.vault.files/*")]
