"""Nothing that people say, and no secret of theirs, is in what the server gets, writes or logs, or in vault files.

A whole conversation with texts that stand nowhere else; then every byte is searched for them, in every usual encoding.
docs/design.md, sections 1, 5 (Accounts) and 7.
"""

import base64
import secrets
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client.password import login_secret
from securechat.identity.invite_line import decode
from securechat.server.config import STORE_FILE
from securechat.transport.certificate_files import pin_of
from securechat.transport.tls import server_context
from securechat.wire import messages as m
from securechat_lab.cast.canaries import files, search, spellings
from securechat_lab.cast.hostile import HostileServer, Link
from securechat_lab.cast.live import LiveClient, identity_key
from securechat_lab.cast.scenes import direct, found, happened, lobby, members, say, state
from tests.adversary.conftest import Site
from tests.support.server_process import ServerProcess


@pytest.mark.parametrize("spelling", spellings(b"canary-0123456789abcdef"))
def test_the_search_finds_what_was_planted(tmp_path: Path, spelling: str) -> None:
    canary = f"canary-{secrets.token_hex(8)}".encode()
    (tmp_path / "some").mkdir()
    for before in range(3):  # base64 depends on what stands before
        content = bytes(before) + canary + b" and more"
        planted = spellings(canary)[spelling]
        if spelling.startswith("base64"):
            encode = base64.urlsafe_b64encode if "url" in spelling else base64.b64encode
            planted = encode(content)
        (tmp_path / "some" / "file").write_bytes(secrets.token_bytes(1000) + planted + secrets.token_bytes(1000))
        assert search(files(tmp_path), {"canary": canary})
    assert not search(files(tmp_path), {"another": f"canary-{secrets.token_hex(8)}".encode()})


class World:
    """A server process that logs all it can, a tap before it, and people whose words and passwords are unique."""

    def __init__(self, folder: Path, hostile: HostileServer, server: ServerProcess, ca: Path) -> None:
        self.folder = folder
        self.hostile = hostile
        self.server = server
        self.said: dict[str, bytes] = {}
        self.passwords: dict[str, str] = {}
        self.tokens: dict[str, bytes] = {}
        self.server_id = b""
        self.people: list[LiveClient] = []
        self.ca_pin = bytes.fromhex(pin_of(ca).removeprefix("sha256:"))
        self._site = Site(folder, ca, hostile.port)
        hostile.from_server[m.Hello] = self._note_server
        hostile.from_server[m.LoggedIn] = self._note_token

    def _note_server(self, _: Link, hello: m.Message) -> None:
        assert isinstance(hello, m.Hello)
        self.server_id = hello.server_id

    def _note_token(self, _: Link, reply: m.Message) -> None:
        assert isinstance(reply, m.LoggedIn)
        self.tokens[f"token {len(self.tokens)} of {reply.account}"] = reply.token  # each is good once

    def enter(self, name: str) -> LiveClient:
        self.passwords[name] = f"pass-{secrets.token_hex(12)}"
        person = LiveClient(self._site, name, password=self.passwords[name])
        self.people.append(person)
        person.wait_for(events.Ready)
        return person

    def words(self, what: str) -> str:
        text = f"canary-{secrets.token_hex(12)}"
        self.said[f"text '{what}'"] = text.encode()
        return text

    def server_side(self) -> dict[str, bytes]:
        """What the server was sent, has written, and has logged."""
        return {"what clients sent": bytes(self.hostile.tapped), **files(self.folder / "server")}


@pytest.fixture
def world(certificates: Path, tmp_path: Path) -> Iterator[World]:
    (tmp_path / "server").mkdir()
    context = server_context(certificates / "server.pem", certificates / "server-key.pem")
    options = ("--show-ciphertext", "--log-level", "debug")
    with (
        ServerProcess(certificates, tmp_path / "server" / "data", *options) as server,
        HostileServer(context, ("127.0.0.1", server.port), certificates / "ca.pem") as tap,
    ):
        world = World(tmp_path, tap, server, certificates / "ca.pem")
        yield world
        for person in world.people:
            if not any(isinstance(event, events.Ended) for event in person.happened):
                person.close()


def keys_of(person: LiveClient) -> dict[str, bytes]:
    """The secrets of a device and of its groups, as they are now."""
    engine = person.client._engine
    context = engine._context
    keys = {"identity": identity_key(person)}
    for public in context.device.keys:
        keys[f"signature {public.hex()}"] = context.vault.signature_keys.find(public) or b""
    for conversation in engine._registry:
        if conversation.row.phase == "member":
            group = conversation.group
            for field in ("init_secret", "sender_data_secret", "exporter_secret", "external_secret", "membership_key"):
                keys[f"{conversation.row.name} {field}"] = bytes(getattr(group._secrets, field))
            for node, key in group._keys.keys.items():
                keys[f"{conversation.row.name} node {node}"] = bytes(key.private)
    return {f"{person.name}'s {name}": key for name, key in keys.items()}


def site_key_of(data: Path) -> dict[str, bytes]:
    """The private half of the server's site key."""
    with closing(sqlite3.connect(f"{(data / STORE_FILE).as_uri()}?mode=ro", uri=True)) as connection:
        ((private,),) = connection.execute("SELECT value FROM meta WHERE key = 'site_key'")
    return {"the site key": private}


def converse(world: World) -> None:
    """A private chat with all that belongs to it, a room, somebody who was away, a reconnection, a goodbye."""
    alice, bob, carol = (world.enter(name) for name in ("alice", "bob", "carol"))
    alice.do(commands.OpenDirect("bob", world.words("request"), ask=True))
    bob.wait_for(events.ConversationChanged, lambda event: event.change == "request")
    bob.do(commands.Accept(bob.id_of("alice")))
    alice.wait_for(events.ConversationChanged, lambda event: event.change == "accepted")
    say(bob, "alice", world.words("answer"), alice)
    say(alice, "bob", world.words("long ") + " ö\n" * 2000, bob)
    lobby(alice, bob, carol)
    for person in (alice, bob, carol):
        say(person, "#lobby", world.words(f"{person.name} in the room"))
    carol.close()
    last = world.words("while carol is away")
    say(alice, "#lobby", last, bob)
    carol.start()
    carol.read("#lobby", f"alice: {last}")
    world.hostile.link("bob").drop()
    bob.wait_until(lambda: len(happened(bob, events.Ready)) == 2)
    say(bob, "alice", world.words("after a reconnection"), alice)
    carol.do(commands.Leave(carol.id_of("#lobby")))
    carol.wait_for(events.ConversationChanged, lambda event: event.change == "left")
    say(alice, "#lobby", world.words("after a commit"), bob)
    alice.do(commands.Bye(alice.id_of("bob")))
    bob.wait_for(events.ConversationChanged, lambda event: event.change == "bye")
    bob.do(commands.Bye(bob.id_of("alice")))
    alice.wait_until(lambda: state(alice, "bob") == "closed")
    direct(alice, carol)
    found(alice, "#club")
    alice.do(commands.MakeInviteLine("#club"))
    text = alice.wait_for(events.InviteLineMade).text
    world.said["an invite line"] = text.encode()
    world.said["its secret"] = decode(text, 0).voucher.secret  # type: ignore[union-attr]  # it has one
    bob.do(commands.UseInviteLine(text))
    bob.wait_until(lambda: members(bob, "#club") == ("alice", "bob"))
    say(bob, "#club", world.words("by the line"), alice)  # behind his own commit: nobody's keys change any more


def test_no_canary_of_a_whole_conversation_is_anywhere(world: World) -> None:
    converse(world)
    passwords = {f"password of {name}": password.encode() for name, password in world.passwords.items()}
    login_secrets = {
        f"login secret of {name}": login_secret(bytearray(password.encode()), world.server_id, name, world.ca_pin)
        for name, password in world.passwords.items()
    }
    keys = {name: key for person in world.people for name, key in keys_of(person).items()}
    site_key = site_key_of(world.folder / "server" / "data")
    assert len(world.said) == 12
    assert len(keys) > 30

    def check() -> None:
        server, vaults = world.server_side(), files(world.folder / "vaults")
        written = files(world.folder / "server")
        assert len(vaults) >= 9
        assert search(server, world.said | passwords | keys) == []
        assert search(written, login_secrets | world.tokens) == []
        assert search({"the log": world.server.log.read_bytes()}, site_key) == []
        assert search(vaults, site_key) == []
        assert search(vaults, world.said | passwords | keys | login_secrets | world.tokens) == []

    # The same search finds what does go over the wire, and names that are no secret.
    tapped = {"what clients sent": bytes(world.hostile.tapped)}
    assert len(search(tapped, login_secrets)) == 3
    assert search(tapped, world.tokens)
    assert search(files(world.folder / "server"), {"a name": b"#lobby"} | site_key)
    assert '"event": "entry", "conversation": "#lobby"' in world.server.log.read_text()

    check()  # with everything open, journals included
    for person in world.people:
        person.close()
    assert world.server.end(signal.SIGTERM) == 0
    check()


def test_what_is_said_is_what_is_searched_for(world: World) -> None:
    """The canaries are really said: they are in a vault that is opened with its password."""
    alice, bob = world.enter("alice"), world.enter("bob")
    word = world.words("here")
    alice.do(commands.OpenDirect("bob", word, ask=False))
    bob.read("alice", f"alice: {word}")
    stored = repr(bob.client.history(bob.id_of("alice"), 10)).encode()
    assert search({"bob's history": stored}, world.said)


