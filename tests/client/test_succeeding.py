"""Succeeding: an account goes on under another identity key, whatever is killed or lost on the way."""

from collections.abc import Callable

import pytest

from securechat import policy
from securechat.client import commands, events
from securechat.errors import UsageError
from securechat.wire import messages as wire
from tests.client.test_following import club
from tests.client.test_revoked import there
from tests.client.test_succeeded import standing
from tests.support.chains import certificate
from tests.support.memory_server import Link, MemoryServer
from tests.support.people import PASSWORD, Person, settle

__all__ = ["club"]  # a fixture
World = Callable[..., list[Person]]


def key_of(person: Person) -> bytes:
    return person.engine._context.device.identity_key


def succeed(person: Person, *others: Person) -> tuple[bytes, bytes]:
    """Returns the old identity key, and the one after it."""
    old = key_of(person)
    person.do(commands.Succeed())
    person.do(commands.Unlock(PASSWORD))
    settle(person, *others)
    return old, key_of(person)


def test_pins_follow_and_our_conversations_end(server: MemoryServer, club: list[Person]) -> None:
    alice, bob, carol = club
    before = certificate(bob)
    old, new = succeed(bob, alice, carol)
    assert old != new
    assert len(bob.of(events.IdentitySucceeded)) == 1
    assert (certificate(bob).seq, certificate(bob).device_id) == (1, before.device_id)
    assert (standing(alice, "bob", new), standing(alice, "bob", old)) == ("accepted", "changed")
    assert there(carol).row.members == ("alice", "carol")
    assert bob.state_of("#club") != "open"
    assert not bob.of(events.Alarm)
    assert not bob.of(events.OwnKeyUsed)
    assert not bob.of(events.Refused)
    assert server.store.directory.identity_key("bob") == new


def test_who_goes_on_talks_again_with_everybody(club: list[Person]) -> None:
    alice, bob, carol = club
    _, new = succeed(bob, alice, carol)
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    settle(alice, bob, carol)
    assert len(bob.of(events.Invited)) == 2  # people in these tests say yes
    bob.say("#club", "here again")
    settle(alice, bob, carol)
    assert carol.texts("#club")[-1] == "bob: here again"
    carol.do(commands.OpenDirect("bob", "is that you?", ask=False))
    settle(alice, bob, carol)
    bob.say("carol", "it is")
    settle(alice, bob, carol)
    assert carol.texts("bob")[-1] == "bob: it is"
    assert standing(carol, "bob", new) == "accepted"


def test_the_owner_of_an_open_room_comes_in_by_itself_and_owns_it_again(people: World) -> None:
    alice, bob = everybody = people("alice", "bob")
    alice.do(commands.JoinRoom("#garden"))
    settle(*everybody)
    bob.do(commands.JoinRoom("#garden"))
    settle(*everybody)
    assert policy.rules_of(there(bob, "#garden").group.public.extensions).owners
    _, new = succeed(alice, bob)
    alice.do(commands.JoinRoom("#garden"))
    settle(*everybody)
    alice.say("#garden", "back")
    settle(*everybody)
    assert bob.texts("#garden")[-1] == "alice: back"
    assert policy.rules_of(there(bob, "#garden").group.public.extensions).owners == (policy.Identity("alice", new),)
    assert there(bob, "#garden").revocations == ()


@pytest.mark.parametrize("inviter", [False, True])
def test_the_sole_owner_of_a_room_is_let_in_by_anybody_where_nobody_else_may(
    club: list[Person], *, inviter: bool
) -> None:
    alice, bob, carol = club
    if inviter:
        alice.do(commands.SetInviter(alice.id_of("#club"), "bob", inviter=True))
        settle(alice, bob, carol)
    with pytest.raises(UsageError, match="Only .* can invite people to #"):
        carol.do(commands.Invite(carol.id_of("#club"), "dave"))
    _, new = succeed(alice, bob, carol)
    if inviter:
        with pytest.raises(UsageError, match="Only .* can invite people to #"):
            carol.do(commands.Invite(carol.id_of("#club"), "alice"))
    else:
        carol.say("#club", "without alice")  # and without her leaf
        settle(alice, bob, carol)
    with pytest.raises(UsageError, match="Only .* can invite people to #"):
        carol.do(commands.Invite(carol.id_of("#club"), "dave"))
    host = bob if inviter else carol
    host.do(commands.Invite(host.id_of("#club"), "alice"))
    settle(alice, bob, carol)
    alice.say("#club", "mine again")
    settle(alice, bob, carol)
    for person in (bob, carol):
        assert person.texts("#club")[-1] == "alice: mine again"
        assert not person.of(events.Alarm)
    rules = policy.rules_of(there(bob).group.public.extensions)
    assert rules.owners == (policy.Identity("alice", new),)
    assert there(bob).revocations == ()
    alice.do(commands.SetTopic(alice.id_of("#club"), "what an owner may"))
    settle(alice, bob, carol)
    assert policy.rules_of(there(carol).group.public.extensions).topic == "what an owner may"


def test_the_next_keepsake_is_for_the_new_key(server: MemoryServer, club: list[Person]) -> None:
    alice, bob, carol = club
    _, new = succeed(bob, alice, carol)
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    settle(alice, bob, carol)
    bob.crash()  # the password is typed at the start
    bob.connect()
    settle(alice, bob, carol)
    kept = server.store.keepsakes.find("bob")
    assert kept is not None
    assert kept.identity_key == new


def lose(server: MemoryServer, person: Person, kind: str) -> list[object]:
    """What `person` publishes, or the answer, does not arrive."""
    lost: list[object] = []

    def inward(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if link is person.link and isinstance(message, wire.Publish) and kind == "request":
            lost.append(message)
            return []
        return [message]

    def outward(link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        if link is person.link and isinstance(message, wire.Published) and kind == "answer":
            lost.append(message)
            return []
        return [message]

    server.inward, server.outward = inward, outward
    return lost


@pytest.mark.parametrize("kind", ["request", "answer"])
@pytest.mark.parametrize("end", ["killed", "cut off"])
def test_it_is_done_once_whatever_is_lost(server: MemoryServer, people: World, kind: str, end: str) -> None:
    alice, bob = everybody = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(*everybody)
    lost, old = lose(server, bob, kind), key_of(bob)
    bob.do(commands.Succeed())
    bob.do(commands.Unlock(PASSWORD))
    settle(*everybody)
    assert lost
    assert key_of(bob) == old
    made = bob.engine._context.device.heir
    assert made is not None
    server.inward, server.outward = lambda _, message: [message], lambda _, message: [message]
    if end == "killed":
        bob.crash()
        heir = bob.engine._context.device.heir
        assert heir is not None
        assert heir.statement == made.statement
    else:
        bob.cut()
    bob.connect()
    settle(*everybody)
    assert key_of(bob) == made.identity.public
    assert bob.engine._context.device.heir is None
    assert len(bob.of(events.IdentitySucceeded)) == 1
    assert standing(alice, "bob", key_of(bob)) == "accepted"
    assert not alice.of(events.Alarm)
    alice.do(commands.OpenDirect("bob", "and now?", ask=False))
    settle(*everybody)
    assert bob.texts("alice")[-1] == "alice: and now?"


def test_one_that_is_made_while_something_else_is_published_comes_after_that(people: World) -> None:
    bob, alice = people("bob", "alice")
    first = certificate(bob)
    bob.do(commands.Rotate())
    bob.do(commands.Succeed())
    bob.do(commands.Unlock(PASSWORD))
    made = bob.engine._context.device.heir
    assert made is not None
    settle(bob, alice)
    assert key_of(bob) == made.identity.public
    assert (made.statement.seq, certificate(bob).seq) == (first.seq + 2, 1)
    assert not bob.of(events.Refused)


def test_what_the_server_refuses_is_told_and_can_be_tried_anew(server: MemoryServer, people: World) -> None:
    (bob,) = people("bob")
    old = key_of(bob)
    bob.do(commands.Succeed())
    device = bob.engine._context.device
    lose(server, bob, "request")
    bob.do(commands.Unlock(PASSWORD))
    settle(bob)
    server.inward = lambda _, message: [message]
    server.now += 8 * 86_400 * 1000
    bob.cut()
    bob.connect()
    settle(bob)
    assert (device.heir, key_of(bob)) == (None, old)
    assert [event.code for event in bob.of(events.Refused)] == ["bad-request"]  # type: ignore[attr-defined]
    assert succeed(bob)[1] != old


@pytest.mark.parametrize("removed", ["before", "meanwhile", "after", "never"])
def test_whom_the_owner_removes_no_member_brings_back_under_a_successor(club: list[Person], removed: str) -> None:
    alice, bob, carol = club
    room = alice.id_of("#club")
    alice.do(commands.SetInviter(room, "bob", inviter=True))
    settle(*club)
    if removed == "before":
        alice.do(commands.Remove(room, "bob"))
        settle(*club)
    if removed == "meanwhile":  # her commit comes second: the leaf has gone by itself
        alice.cut()
        alice.do(commands.Remove(room, "bob"))
    succeed(bob, carol)
    carol.say("#club", "on we go")  # with a commit that removes the old leaf, if it is still there
    settle(bob, carol)
    if alice.link is None:
        alice.connect()
    settle(*club)
    if removed == "after":
        alice.do(commands.Remove(room, "bob"))
        settle(*club)
    inviters = policy.rules_of(there(carol).group.public.extensions).inviters
    assert [each.account for each in inviters] == (["bob"] if removed == "never" else [])
    assert bool(there(carol).revocations) == (removed == "never")
    succeed(alice, carol)  # nobody is left who may add
    if removed == "never":  # the twin: nobody has decided against them
        carol.do(commands.Invite(room, "bob"))
    else:
        with pytest.raises(UsageError, match="Only .* can invite people to #"):
            carol.do(commands.Invite(room, "bob"))
    settle(*club)
    assert there(carol).row.members == (("bob", "carol") if removed == "never" else ("carol",))
