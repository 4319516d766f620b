"""Typing: those who are there see it, nothing of it is stored, and no server or member makes anybody type."""

from collections.abc import Callable

import pytest

from securechat.client import commands, events
from securechat.client.conversations import ephemerals, typing
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.ephemerals import FRESH_MILLISECONDS, TYPES, Said, open_sealed, seal
from securechat.client.conversations.typing import PERIOD_SECONDS
from securechat.errors import PeerError
from securechat.mls.tree_math import LeafIndex
from securechat.wire import messages as wire
from tests.support.memory_server import Link, MemoryServer
from tests.support.people import Person, settle

World = Callable[..., list[Person]]


@pytest.fixture
def club(people: World) -> list[Person]:
    """alice owns a room, and bob and carol are in it."""
    alice, *others = everybody = people("alice", "bob", "carol")
    alice.do(commands.CreateRoom("#club"))
    settle(*everybody)
    for person in others:
        alice.do(commands.Invite(alice.id_of("#club"), person.name))
        settle(*everybody)
    for person in everybody:  # fresh paths, so that anybody may speak
        person.say("#club", "here")
        settle(*everybody)
    return everybody


def types(person: Person, *, on: bool = True, name: str = "#club") -> None:
    person.do(commands.Type(person.id_of(name), on))


def seen(person: Person) -> list[tuple[str, bool]]:
    return [(each.account, each.typing) for each in person.happened if isinstance(each, events.Typing)]


def there(person: Person, name: str = "#club") -> Conversation:
    found = person.engine._registry.get(person.id_of(name))
    assert found is not None
    return found


def overheard(server: MemoryServer) -> list[wire.Ephemeral]:
    """What the server forwards from now on."""
    heard: list[wire.Ephemeral] = []

    def outward(_: Link, message: wire.FromServer) -> list[wire.FromServer]:
        heard.extend([message] if isinstance(message, wire.Ephemeral) else [])
        return [message]

    server.outward = outward
    return heard


def test_those_who_are_there_see_who_types_and_nothing_of_it_is_kept(club: list[Person]) -> None:
    alice, bob, carol = club
    carol.cut()
    before = there(bob).row.cursor
    types(alice)
    settle(*club)
    types(alice, on=False)
    settle(*club)
    assert seen(bob) == [("alice", True), ("alice", False)]
    assert seen(alice) == []
    carol.connect()
    settle(*club)
    assert seen(carol) == []
    assert {there(person).row.cursor for person in club} == {before}


def test_whoever_goes_on_typing_says_so_once_in_a_while(club: list[Person], server: MemoryServer) -> None:
    alice, bob, _ = club
    for _ in range(10):
        types(alice)
    types(bob, on=False)  # who has not begun
    settle(*club)
    assert (seen(bob), seen(alice)) == ([("alice", True)], [])
    server.advance(server.seconds + PERIOD_SECONDS)
    types(alice)
    settle(*club)
    assert seen(bob) == [("alice", True)] * 2


@pytest.mark.parametrize("who", ["sender", "reader"])
def test_it_is_switched_off_on_either_side(club: list[Person], server: MemoryServer, who: str) -> None:
    alice, bob, carol = club
    heard = overheard(server)
    if who == "sender":
        alice.do(commands.Prefer("send-typing", "off", alice.id_of("#club")))
    else:
        bob.do(commands.Prefer("show-typing", "off"))
    types(alice)
    settle(*club)
    assert seen(bob) == []
    assert (len(heard), len(seen(carol))) == ((0, 0) if who == "sender" else (2, 1))


def test_what_is_preferred_in_all_conversations_is_in_the_snapshot(club: list[Person]) -> None:
    alice, *_ = club
    assert alice.engine.snapshot.prefers("notify") == "sender"
    alice.do(commands.Prefer("notify", "none", alice.id_of("#club")))
    assert alice.engine.snapshot.prefers("notify") == "sender"
    alice.do(commands.Prefer("notify", "none"))
    assert alice.engine.snapshot.prefers("notify") == "none"


def test_nobody_types_to_a_key_that_is_not_accepted(people: World, server: MemoryServer) -> None:
    alice, bob = both = people("alice", "bob")
    heard = overheard(server)
    alice.do(commands.OpenDirect("bob", "May I?", ask=True))
    settle(*both)
    types(bob, name="alice")
    types(alice, name="bob")
    settle(*both)
    assert heard == []
    bob.accept("alice")
    settle(*both)
    types(bob, name="alice")
    settle(*both)
    assert seen(alice) == [("bob", True)]
    (shown,) = bob.safety_numbers("alice")
    bob.do(commands.Distrust("alice", shown.key))
    server.advance(server.seconds + PERIOD_SECONDS)
    types(bob, name="alice")
    settle(*both)
    assert len(heard) == 1


def test_who_is_blocked_or_ignored_is_not_seen_typing(people: World) -> None:
    alice, bob, carol = everybody = people("alice", "bob", "carol")
    for person in everybody:
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    alice.do(commands.Ignore("bob"))
    alice.do(commands.Block("carol"))
    for person in (bob, carol):
        person.say("#lobby", "here")
        settle(*everybody)
        types(person, name="#lobby")
        settle(*everybody)
    assert seen(alice) == []
    assert seen(bob) == [("carol", True)]


def test_above_so_many_members_nobody_types(club: list[Person], monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob, _ = club
    sealed = seal(there(alice).group, there(alice).context.clock.milliseconds(), TYPES)
    for module in (ephemerals, typing):
        monkeypatch.setattr(module, "MAX_MARKING", 2)
    types(alice)
    settle(*club)
    assert bob.link is not None
    bob.link.send(wire.Ephemeral(bob.id_of("#club"), sealed))
    settle(*club)
    assert seen(bob) == []


# --- a server that does with it what it likes


def test_what_comes_again_or_was_held_back_shows_nobody_typing(club: list[Person], server: MemoryServer) -> None:
    alice, bob, _ = club
    heard = overheard(server)
    types(alice)
    settle(*club)
    first = heard[0]
    server.advance(server.seconds + PERIOD_SECONDS)
    server.now += 3000
    types(alice, on=False)
    settle(*club)
    assert seen(bob) == [("alice", True), ("alice", False)]
    assert bob.link is not None
    for again in (first, heard[-1], first):
        bob.link.send(again)
    settle(*club)
    assert len(seen(bob)) == 2
    late = seal(there(alice).group, server.now, TYPES)
    server.now += FRESH_MILLISECONDS + 1
    bob.link.send(wire.Ephemeral(bob.id_of("#club"), late))
    settle(*club)
    assert len(seen(bob)) == 2
    types(alice)
    settle(*club)
    assert seen(bob)[2:] == [("alice", True)]


def test_what_is_of_another_epoch_altered_or_of_somebody_else_shows_nobody_typing(club: list[Person]) -> None:
    alice, bob, carol = club
    group, now = there(alice).group, there(alice).context.clock.milliseconds()
    good = seal(group, now, TYPES)
    assert open_sealed(there(bob).group, good) == Said(group.own_leaf, now, TYPES)
    for place in range(len(good)):  # any bit of it
        with pytest.raises(PeerError):
            open_sealed(there(bob).group, good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    for wrong in (b"", good[:-1], good + b"0", bytes(256)):
        with pytest.raises(PeerError):
            open_sealed(there(bob).group, wrong)
    with pytest.raises(PeerError):
        open_sealed(group, good)  # one's own
    alice.say("#club", "on")
    alice.do(commands.SetTopic(alice.id_of("#club"), "tea"))
    settle(*club)
    with pytest.raises(PeerError):
        open_sealed(there(bob).group, good)
    assert bob.link is not None
    bob.link.send(wire.Ephemeral(bob.id_of("#club"), good))
    bob.link.send(wire.Ephemeral(bytes(32), good))
    settle(*club)
    assert seen(bob) == []
    assert carol.texts("#club")[-1] == "alice: on"


def test_a_member_speaks_for_nobody_else(club: list[Person], monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob, carol = club
    carols = there(carol).group.own_leaf
    head = ephemerals._head
    monkeypatch.setattr(ephemerals, "_head", lambda epoch, _leaf: head(epoch, carols))
    key = ephemerals._key
    monkeypatch.setattr(ephemerals, "_key", lambda group, _leaf: key(group, carols))
    forged = seal(there(alice).group, there(alice).context.clock.milliseconds(), TYPES)
    monkeypatch.undo()
    with pytest.raises(PeerError, match="signature"):
        open_sealed(there(bob).group, forged)
    assert LeafIndex(int.from_bytes(forged[8:12])) == carols
