"""Revocations as members meet them: they are told, their clients take the leaf out, and a lie of the server is seen.

Each lie has its twin: the statement that the identity key did sign.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from securechat.client import commands, events
from securechat.client.conversations.conversation import Conversation
from securechat.client.password import login_secret
from securechat.identity.statements import Head, Statement
from securechat.ui.text.sentences import sentences
from securechat.wire import messages as wire
from securechat.wire.chain import STATEMENT
from tests.client.test_following import club
from tests.client.test_restored import Backups, come_back
from tests.support.chains import certificate, revocation, stated
from tests.support.memory_server import AUTHORITY, Link, MemoryPerson, MemoryServer, refuse
from tests.support.people import PASSWORD, Person, settle

__all__ = ["club"]  # a fixture
World = Callable[..., list[Person]]
change = msgspec.structs.replace


def revoke(server: MemoryServer, victim: Person) -> Statement:
    """The account of somebody revokes their device, on another one."""
    statement = revocation(victim)
    publish(server, victim, statement)
    return statement


def publish(server: MemoryServer, victim: Person, statement: Statement) -> None:
    """That other one publishes what the server lacks."""
    with MemoryPerson(server, victim.name) as other:
        other.secret = login_secret(bytearray(PASSWORD.encode()), server.store.server_id, victim.name, AUTHORITY.pin)
        other.login(publish=False)
        reply = other.ask(wire.Publish, [statement.encode()], [], b"")
        assert isinstance(reply, wire.Published), reply


def there(person: Person, name: str = "#club") -> Conversation:
    found = person.engine._registry.find(name)
    assert found is not None
    return found


def told(person: Person) -> list[str]:
    return [
        sentence.text
        for event in person.happened
        if isinstance(event, events.ConversationChanged) and event.change == "revoked"
        for sentence in sentences(event, event.conversation, person.name)
    ]


def test_members_are_told_and_whoever_speaks_next_takes_the_device_out(
    server: MemoryServer, club: list[Person]
) -> None:
    alice, bob, carol = club
    bob.link = None  # the thief's copy is silent
    statement = revoke(server, bob)
    settle(alice, carol)
    for person in (alice, carol):
        assert set(told(person)) <= {
            "bob has revoked the device that is in #club: it gets nothing more and is taken out.",
            "bob has revoked the device that you were talking to: it gets nothing more.",
        }
        assert told(person)
        assert there(person).revocations == (statement,)
        assert there(person).row.members == ("alice", "carol")
        assert not person.of(events.Alarm)
    carol.say("#club", "without bob")
    settle(alice, carol)
    assert alice.texts("#club")[-1] == "carol: without bob"
    for person in (alice, carol):
        assert (there(person).revocations, there(person).departed) == ((), frozenset())
        assert len(dict(there(person).group.public.members())) == 2


def test_it_is_kept_over_a_restart(server: MemoryServer, club: list[Person]) -> None:
    alice, bob, carol = club
    bob.link = None
    statement = revoke(server, bob)
    settle(alice, carol)
    carol.crash()
    assert there(carol).revocations == (statement,)
    carol.connect()
    settle(alice, carol)
    carol.say("#club", "still without bob")
    settle(alice, carol)
    assert alice.texts("#club")[-1] == "carol: still without bob"


def lies(alice: Person, bob: Person) -> dict[str, bytes]:
    honest = revocation(bob)
    own = certificate(bob)
    return {
        "forged": replace(honest, signature=bytes(64)).encode(),
        "of another server": replace(honest, server_id=bytes(16)).encode(),
        "of another account": revocation(alice).encode().replace(b"alice", b"carol"),
        "of before the certificate": stated(
            bob, "revoke", Head(own.seq - 1, own.previous), key=own.signature_key, device_id=own.device_id
        ).encode(),
        "of another device": stated(
            bob, "revoke", Head.after(own), key=own.signature_key, device_id=bytes(16)
        ).encode(),
        "dated in the future": stated(
            bob, "revoke", Head.after(own), key=own.signature_key, device_id=own.device_id, days=3
        ).encode(),
        "nonsense": b"nonsense",
    }


@pytest.mark.parametrize(
    "lie",
    [
        "forged", "of another server", "of another account", "of before the certificate", "of another device",
        "dated in the future", "nonsense", "ascribed to a device", "",
    ],
)  # fmt: skip
def test_a_statement_that_the_server_had_to_refuse_is_not_followed(
    server: MemoryServer, club: list[Person], lie: str
) -> None:
    alice, bob, carol = club

    def outward(link: object, message: wire.FromServer) -> list[wire.FromServer]:
        if link is carol.link and isinstance(message, wire.Entry) and message.kind == STATEMENT and lie:
            if lie == "ascribed to a device":
                return [change(message, device=certificate(bob).device_id)]
            return [change(message, payload=lies(alice, bob)[lie])]
        return [message]

    server.outward = outward
    bob.link = None
    revoke(server, bob)
    settle(alice, carol)
    if lie:
        assert not told(carol)
        assert [event.culprit for event in carol.of(events.Stopped)] == [""] or carol.of(events.Alarm)  # type: ignore[attr-defined]
        assert carol.state_of("#club") != "open"
    else:  # the twin
        assert told(carol)
        assert carol.state_of("#club") == "open"
    assert alice.state_of("#club") == "open"


def test_it_is_shown_once(server: MemoryServer, club: list[Person]) -> None:
    """Replayed, in the same log or in another one, it stops the log."""
    alice, bob, carol = club
    bob.link = None
    statement = revoke(server, bob)
    settle(alice, carol)
    row = there(carol).row
    carol.engine.receive(
        [wire.Entry(row.id, row.cursor + 1, server.now, bytes(16), STATEMENT, statement.encode(), b"")]
    )
    carol.flush()
    assert carol.state_of("#club") != "open"


def test_who_was_away_hears_of_it_from_the_log_and_from_the_handshakes_that_are_left(
    server: MemoryServer, club: list[Person]
) -> None:
    alice, bob, carol = club
    carol.cut()
    bob.link = None
    revoke(server, bob)
    settle(alice)
    alice.say("#club", "you have missed something")
    settle(alice)
    carol.connect()
    settle(alice, carol)
    assert told(carol)
    assert carol.texts("#club")[-1] == "alice: you have missed something"


def test_who_enters_an_open_room_meanwhile_knows_what_is_revoked(server: MemoryServer, people: World) -> None:
    alice, bob, carol = everybody = people("alice", "bob", "carol")
    for person in (alice, bob):
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    bob.link = None
    statement = revoke(server, bob)
    carol.do(commands.JoinRoom("#lobby"))
    settle(alice, carol)
    assert there(carol, "#lobby").revocations in ((statement,), ())
    carol.say("#lobby", "who was that?")
    settle(alice, carol)
    assert alice.texts("#lobby")[-1] == "carol: who was that?"
    assert there(alice, "#lobby").row.members == ("alice", "carol")


def test_a_restored_server_gets_it_back_with_the_commit_that_rests_on_it(
    server: MemoryServer, club: list[Person], tmp_path: Path
) -> None:
    alice, bob, carol = club
    backups = Backups(server, tmp_path / "server")
    backups.take(tmp_path / "copy")
    bob.link = None
    revoke(server, bob)
    settle(alice, carol)
    carol.say("#club", "without bob")  # carol is no owner: her removal of bob rests on the statement
    settle(alice, carol)
    epoch = there(alice).group.epoch
    backups.put_back(tmp_path / "copy", alice, carol)
    come_back([alice, carol])
    settle(alice, carol)
    for person in (alice, carol):
        assert there(person).group.epoch >= epoch
        assert person.state_of("#club") == "open"
    alice.say("#club", "all is back")
    settle(alice, carol)
    assert carol.texts("#club")[-1] == "alice: all is back"
    assert {each.account for each in server.head(there(alice).id).members.values() if each.last_seq is None} == {
        "alice", "carol",
    }  # fmt: skip


@pytest.mark.parametrize("removed", [False, True])
def test_whoever_has_stated_it_may_be_the_first_to_come_back_to_a_restored_server(
    server: MemoryServer, club: list[Person], tmp_path: Path, *, removed: bool
) -> None:
    alice, bob, carol = club
    backups = Backups(server, tmp_path / "server")
    backups.take(tmp_path / "copy")
    bob.link = None
    statement = revoke(server, bob)
    settle(alice, carol)
    if removed:
        carol.say("#club", "without bob")
        settle(alice, carol)
    backups.put_back(tmp_path / "copy", alice, carol)
    publish(server, bob, statement)  # so it is in the log anew, where the others know of it already
    come_back([alice, carol])
    carol.say("#club", "all is back")
    settle(alice, carol)
    assert alice.texts("#club")[-1] == "carol: all is back"
    assert there(alice).row.members == ("alice", "carol")
    assert not [*alice.of(events.Alarm), *carol.of(events.Alarm)]


@pytest.mark.parametrize("times", [1, 100])
def test_who_has_a_newer_certificate_by_now_is_invited_by_a_newer_key_package(
    server: MemoryServer, people: World, times: int
) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.CreateRoom("#club"))
    settle(alice, bob)
    refusals: list[wire.Commit] = []
    fetched: list[wire.FetchKeyPackages] = []

    def inward(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.FetchKeyPackages):
            fetched.append(message)
        if isinstance(message, wire.Commit) and link is alice.link and len(refusals) < times:
            refusals.append(message)
            refuse(link, message, "old-certificate", "bob has a newer certificate by now")
            return []
        return [message]

    server.inward = inward
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    settle(alice, bob)
    if times == 1:
        assert len(fetched) == 3  # twice for the room, once for the conversation in which the invitation is
        assert there(alice).row.members == ("alice", "bob")
    else:  # a server that never has enough is not asked for ever
        assert len(fetched) < 20
        assert [event.code for event in alice.of(events.Refused)] == ["old-certificate"]  # type: ignore[attr-defined]


# --- ourselves ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("taken_out", [False, True])
@pytest.mark.parametrize("comes_back", [True, False])
def test_who_was_revoked_by_a_thief_of_their_identity_key_is_told_and_comes_back_at_their_word_alone(
    server: MemoryServer, club: list[Person], *, online: bool, taken_out: bool, comes_back: bool
) -> None:
    alice, bob, carol = club
    if not online:
        bob.cut()
    revoke(server, bob)
    while online and bob.pull():
        pass
    bob.cut()
    settle(alice, carol)
    if taken_out:  # by whoever speaks first
        carol.say("#club", "without bob")
        settle(alice, carol)
    bob.stop()
    bob.start()
    bob.connect()
    settle(alice, bob, carol)
    assert bob.of(events.OwnKeyUsed)
    assert bob.engine.failure is None
    assert bob.state_of("#club") == "open"
    if not comes_back:
        bob.say("#club", "am I there?")
        settle(alice, bob, carol)
        assert "bob: am I there?" not in alice.texts("#club")
        assert there(alice).row.members == ("alice", "carol")
        return
    bob.do(commands.Rotate())
    bob.do(commands.Unlock(PASSWORD))
    settle(alice, bob, carol)
    if taken_out:  # then somebody has to let them in again, as the rules of the room have it
        assert bob.state_of("#club") != "open"
        alice.do(commands.Invite(alice.id_of("#club"), "bob"))
        settle(alice, bob, carol)
    bob.say("#club", "I am back")
    settle(alice, bob, carol)
    assert alice.texts("#club")[-1] == "bob: I am back"
    assert there(alice).row.members == ("alice", "bob", "carol")
    assert not alice.of(events.Alarm)
