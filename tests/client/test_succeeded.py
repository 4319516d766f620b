"""Successions as members meet them: pins follow, the old leaf goes, and the new key comes in where a person lets it."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from securechat import policy
from securechat.client import commands, events
from securechat.client.password import login_secret
from securechat.identity.statements import Head, Statement
from securechat.ui.text.sentences import sentences
from securechat.wire import messages as wire
from securechat.wire.chain import STATEMENT
from tests.client.test_following import club
from tests.client.test_revoked import there
from tests.support.chains import certificate, stated
from tests.support.memory_server import AUTHORITY, MemoryPerson, MemoryServer
from tests.support.people import PASSWORD, Person, settle

__all__ = ["club"]  # a fixture
World = Callable[..., list[Person]]
change = msgspec.structs.replace


def login(server: MemoryServer, person: Person) -> MemoryPerson:
    """Another program of an account, without a vault."""
    other = MemoryPerson(server, person.name)
    other.secret = login_secret(bytearray(PASSWORD.encode()), server.store.server_id, person.name, AUTHORITY.pin)
    return other.login(publish=False)


def succeed(server: MemoryServer, person: Person) -> tuple[MemoryPerson, Statement]:
    """The account of somebody goes on under another key, of a program that is no `Person`."""
    person.link = None
    heir = login(server, person)
    statement = stated(
        person, "succeed", Head.after(certificate(person)), key=heir.identity_key, successor=heir.identity
    )
    links, packages = [statement.encode(), heir.certify().encode()], [heir.key_package() for _ in range(3)]
    reply = heir.ask(wire.Publish, links, packages[1:], packages[0])
    assert isinstance(reply, wire.Published), reply
    return heir, statement


def contest(server: MemoryServer, person: Person, succession: Statement) -> Statement:
    statement = stated(person, "contest", Head.after(succession), key=succession.key)
    with login(server, person) as other:
        reply = other.ask(wire.Publish, [statement.encode()], [], b"")
        assert isinstance(reply, wire.Published), reply
    return statement


def standing(person: Person, account: str, key: bytes) -> str:
    return person.engine._context.pins.standing(account, key)


def told(person: Person) -> list[str]:
    return [
        sentence.text
        for event in person.happened
        if isinstance(event, events.ConversationChanged) and event.change == "succeeded"
        for sentence in sentences(event, event.conversation, person.name)
    ]


def test_members_are_told_pins_follow_and_whoever_speaks_next_takes_the_old_leaf_out(
    server: MemoryServer, club: list[Person]
) -> None:
    alice, bob, carol = club
    old = certificate(bob).identity_key
    heir, statement = succeed(server, bob)
    settle(alice, carol)
    for person in (alice, carol):
        assert (
            "bob goes on under another key: the old one gets nothing more in #club and is taken out. /invite bob "
            "brings the new one in: whoever may invite can, and anybody where nobody else may."
        ) in told(person)
        assert there(person).row.members == ("alice", "carol")
        assert there(person).revocations == (statement,)
        assert not person.of(events.Alarm)
    assert (standing(alice, "bob", heir.identity_key), standing(alice, "bob", old)) == ("accepted", "changed")
    assert len(alice.of(events.KeySucceeded)) == 1
    carol.say("#club", "without bob")
    settle(alice, carol)
    assert alice.texts("#club")[-1] == "carol: without bob"
    assert there(alice).revocations == ()


def test_the_owner_brings_the_new_key_in_by_an_invitation(server: MemoryServer, club: list[Person]) -> None:
    alice, bob, carol = club
    heir, _ = succeed(server, bob)
    settle(alice, carol)
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    settle(alice, carol)
    for person in (alice, carol):
        assert there(person).row.members == ("alice", "bob", "carol")
        assert {each.identity_key for each in there(person).row.persons if each.account == "bob"} == {
            heir.identity_key
        }
        assert person.state_of("#club") == "open"
    carol.say("#club", "welcome back")
    settle(alice, carol)
    assert alice.texts("#club")[-1] == "carol: welcome back"


@pytest.mark.parametrize("role", ["owner", "inviter", "sole owner"])
def test_what_the_old_key_was_goes_over_to_the_new_one(
    server: MemoryServer, club: list[Person], role: str
) -> None:
    """The sole owner is brought in by an inviter, who makes nobody an owner but whom the old key has named."""
    alice, bob, carol = club
    room = alice.id_of("#club")
    owner, inviter = commands.SetOwner(room, "bob", owner=True), commands.SetInviter(room, "bob", inviter=True)
    alice.do(owner if role == "owner" else inviter)
    settle(alice, bob, carol)
    away, host = (alice, bob) if role == "sole owner" else (bob, alice)
    heir, _ = succeed(server, away)
    settle(host, carol)
    host.do(commands.Invite(room, away.name))
    settle(host, carol)
    rules = policy.rules_of(there(carol).group.public.extensions)
    kept = rules.inviters if role == "inviter" else rules.owners
    assert policy.Identity(away.name, heir.identity_key) in kept
    assert certificate(away).identity_key not in {each.identity_key for each in (*rules.owners, *rules.inviters)}
    assert there(carol).revocations == ()
    assert carol.state_of("#club") == "open"


@pytest.mark.parametrize("when", ["before it", "after it"])
def test_who_is_let_in_after_the_succession_follows_the_successor_as_others_do(
    server: MemoryServer, club: list[Person], people: World, when: str
) -> None:
    alice, bob, carol = club
    room = alice.id_of("#club")
    alice.do(commands.SetInviter(room, "bob", inviter=True))
    settle(*club)
    (dave,) = people("dave")
    if when == "before it":
        bob.do(commands.Invite(room, "dave"))
        settle(*club, dave)
    heir, _ = succeed(server, alice)
    settle(bob, carol, dave)
    carol.say("#club", "without alice")  # her old leaf is gone, and the rules name the old key
    settle(bob, carol, dave)
    if when == "after it":
        bob.do(commands.Invite(room, "dave"))
        settle(bob, carol, dave)
    bob.do(commands.Invite(room, "alice"))
    settle(bob, carol, dave)
    rules = policy.rules_of(there(dave).group.public.extensions)
    assert rules.owners == (policy.Identity("alice", heir.identity_key),)
    assert not dave.of(events.Stopped)
    carol.say("#club", "welcome, both")
    settle(bob, carol, dave)
    assert dave.texts("#club")[-1] == "carol: welcome, both"


def test_who_breaks_a_commit_that_rests_on_a_succession_is_named_and_not_the_server(
    server: MemoryServer, club: list[Person]
) -> None:
    alice, bob, carol = club
    room = alice.id_of("#club")
    alice.do(commands.SetInviter(room, "bob", inviter=True))
    settle(*club)
    succeed(server, alice)
    settle(bob, carol)

    def break_tag(link: object, message: wire.FromClient) -> list[wire.FromClient]:
        if link is bob.link and isinstance(message, wire.Commit):  # its last byte is of the membership tag
            bob.link = None  # and says no more
            return [change(message, commit=message.commit[:-1] + bytes([message.commit[-1] ^ 1]))]
        return [message]

    server.inward = break_tag
    bob.do(commands.Invite(room, "alice"))
    settle(bob, carol)
    (stopped,) = carol.of(events.Stopped)
    assert isinstance(stopped, events.Stopped)
    assert (stopped.culprit, stopped.proven) == ("bob", False)


def test_a_private_conversation_goes_on_under_the_new_key_in_a_new_one(server: MemoryServer, people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", ask=False))
    settle(alice, bob)
    first = alice.id_of("bob")
    heir, _ = succeed(server, bob)
    settle(alice)
    assert told(alice) == ["bob goes on under another key: what you write next opens a new private chat with it."]
    alice.do(commands.OpenDirect("bob", ask=False))
    settle(alice)
    heir.read_inbox()
    second = heir.accept_welcome()
    assert second != first
    keys = {certificate(alice).identity_key, heir.identity_key}
    assert {each.identity_key for each in there(alice, "bob").people.values()} == keys


@pytest.mark.parametrize("when", ["before anybody is let in", "after the new key was let in"])
def test_what_the_old_key_contests_is_accepted_with_nobody(
    server: MemoryServer, club: list[Person], when: str
) -> None:
    alice, bob, carol = club
    old = certificate(bob).identity_key
    heir, succession = succeed(server, bob)
    settle(alice, carol)
    if when == "after the new key was let in":
        alice.do(commands.Invite(alice.id_of("#club"), "bob"))
        settle(alice, carol)
    statement = contest(server, bob, succession)
    settle(alice, carol)
    assert {standing(alice, "bob", key) for key in (old, heir.identity_key)} == {"contested"}
    assert len(alice.of(events.KeyContested)) == 1
    for person in (alice, carol):
        assert person.state_of("#club") == "open"
        assert statement in there(person).revocations
    if when == "before anybody is let in":
        alice.do(commands.Invite(alice.id_of("#club"), "bob"))
        settle(alice, carol)
        assert there(alice).row.members == ("alice", "carol")
    carol.say("#club", "who is bob?")
    settle(alice, carol)
    assert alice.texts("#club")[-1] == "carol: who is bob?"
    if when == "before anybody is let in":
        assert there(carol).revocations == ()  # gone with the old leaf


@pytest.mark.parametrize("lie", ["not by the successor", "of another key", "restart", ""])
def test_a_succession_that_the_server_had_to_refuse_is_not_followed(
    server: MemoryServer, club: list[Person], lie: str
) -> None:
    alice, bob, carol = club

    def lies(payload: bytes) -> bytes:
        honest = Statement.decode(payload)
        return {
            "not by the successor": replace(honest, new_signature=bytes(64)),
            "of another key": replace(honest, identity_key=certificate(alice).identity_key),
            "restart": stated(bob, "restart", Head.after(certificate(bob))),
        }[lie].encode()

    def outward(link: object, message: wire.FromServer) -> list[wire.FromServer]:
        if link is carol.link and isinstance(message, wire.Entry) and message.kind == STATEMENT and lie:
            return [change(message, payload=lies(message.payload))]
        return [message]

    server.outward = outward
    heir, _ = succeed(server, bob)
    settle(alice, carol)
    assert (carol.state_of("#club") == "open") == (not lie)
    assert bool(told(carol)) == (not lie)
    if lie:
        assert standing(carol, "bob", heir.identity_key) != "accepted"
    assert alice.state_of("#club") == "open"
