"""What owners change in a room: everybody sees it, a change waits, is merged with others, and is refused in words."""

from collections.abc import Callable

import pytest

from securechat.client import commands, events
from securechat.client.snapshot import ConversationSnapshot
from securechat.errors import UsageError
from securechat.identity.invite_line import decode
from securechat.server.sequencer.room_names import RoomNames
from tests.support.memory_server import MemoryServer
from tests.support.people import PASSWORD, Person, settle

World = Callable[..., list[Person]]
NAME = "#garden"


@pytest.fixture
def garden(people: World) -> list[Person]:
    """alice owns an open room, and bob and carol are in it."""
    everybody = people("alice", "bob", "carol")
    for person in everybody:
        person.do(commands.JoinRoom(NAME))
        settle(*everybody)
    return everybody


def seen(person: Person, name: str = NAME) -> ConversationSnapshot:
    found = person.engine.snapshot.find(name)
    assert found is not None
    return found


def changes(person: Person) -> list[tuple[str, str, str]]:
    told = (each for each in person.of(events.ConversationChanged) if isinstance(each, events.ConversationChanged))
    return [(each.change, each.account, each.by) for each in told if each.by]


def refused(person: Person, command: commands.Command, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        person.do(command)


def test_whoever_opens_a_room_owns_it_and_the_lobby_belongs_to_nobody(garden: list[Person]) -> None:
    alice, bob, _ = garden
    assert seen(bob).owners == ("alice",)
    alice.do(commands.JoinRoom("#lobby"))
    settle(*garden)
    assert seen(alice, "#lobby").owners == ()
    refused(alice, commands.SetTopic(alice.id_of("#lobby"), "tea"), "belongs to nobody")


def test_topic_and_owners_change_in_one_commit_and_everybody_sees_who_did_it(
    server: MemoryServer, garden: list[Person]
) -> None:
    alice, bob, carol = garden
    room = alice.id_of(NAME)
    epoch = server.head(room).epoch
    topic, owner = commands.SetTopic(room, " tea "), commands.SetOwner(room, "bob", owner=True)
    alice.cut()
    alice.do(topic)
    alice.do(owner)
    alice.connect()
    settle(*garden)
    assert server.head(room).epoch == epoch + 1
    assert {each.command for each in alice.of(events.Done)} >= {topic.id, owner.id}
    for person in garden:
        assert (seen(person).topic, seen(person).owners) == ("tea", ("alice", "bob"))
        assert changes(person) == [("topic", "tea", "alice"), ("owner", "bob", "alice")]
    bob.do(commands.SetTopic(room, "coffee"))
    bob.do(commands.SetOwner(room, "alice", owner=False))
    settle(*garden)
    assert seen(carol).owners == ("bob",)
    refused(alice, commands.SetTopic(room, "tea"), "Only bob can change that in #garden")


def test_the_newer_of_two_waiting_changes_of_one_thing_counts(garden: list[Person]) -> None:
    alice, bob, _ = garden
    alice.cut()
    first = commands.SetTopic(alice.id_of(NAME), "tea")
    alice.do(first)
    alice.do(commands.SetTopic(alice.id_of(NAME), "coffee"))
    alice.connect()
    settle(*garden)
    assert seen(bob).topic == "coffee"
    assert [each.command for each in alice.of(events.Refused)] == [first.id]


def test_a_renamed_room_is_known_by_its_new_name_before_and_after_a_restart(garden: list[Person]) -> None:
    alice, bob, carol = garden
    room = alice.id_of(NAME)
    alice.do(commands.Rename(room, "#Orchard"))
    settle(*garden)
    for person in garden:
        assert person.id_of("#orchard") == room
        assert person.state_of(NAME) == ""
        assert changes(person) == [("renamed", "#orchard", "alice")]
    bob.crash()
    bob.connect()
    bob.say("#orchard", "apples")
    settle(*garden)
    assert carol.texts("#orchard") == ["bob: apples"]
    carol.do(commands.JoinRoom(NAME))  # the old name is free
    settle(*garden)
    assert carol.id_of(NAME) != room


@pytest.mark.parametrize("lets", ["a lying server", "ninety days"])
@pytest.mark.parametrize("end", ["goes on", "is left", "is lost"])
def test_a_name_goes_on_meaning_the_room_that_bore_it_first(
    server: MemoryServer, people: World, monkeypatch: pytest.MonkeyPatch, lets: str, end: str
) -> None:
    alice, bob, mallory = everybody = people("alice", "bob", "mallory")
    rooms: dict[str, bytes] = {}
    for owner, name in ((mallory, "#fun"), (alice, "#club")):
        owner.do(commands.CreateRoom(name))
        settle(*everybody)
        rooms[name] = owner.id_of(name)
        owner.do(commands.Invite(rooms[name], "bob"))
        settle(*everybody)
    if end == "is left":
        bob.do(commands.Leave(rooms["#club"]))
    elif end == "is lost":
        alice.do(commands.Remove(rooms["#club"], "bob"))
    settle(*everybody)
    if lets == "ninety days":
        alice.cut()
        for day in range(91):
            server.now += 86_400_000
            if day % 40 == 39:
                for person in (bob, mallory):
                    person.do(commands.Unlock(PASSWORD))  # their keys are due
            settle(bob, mallory)
    else:
        for name in ("claim", "follow"):
            monkeypatch.setattr(RoomNames, name, lambda *_, **__: None)
    mallory.do(commands.Rename(rooms["#fun"], "#club"))
    settle(bob, mallory)
    title = f"##club~{rooms['#fun'].hex()[:4]}"
    told = [each for each in bob.of(events.ConversationChanged) if isinstance(each, events.ConversationChanged)]
    assert [(each.conversation.name, each.account) for each in told if each.change == "namesake"] == [(title, "#club")]
    bob.crash()
    bob.connect()
    settle(bob, mallory)
    assert (bob.id_of("#club"), bob.id_of(title)) == (rooms["#club"], rooms["#fun"])
    assert bob.state_of("#club") == ("open" if end == "goes on" else "closed")
    if end == "goes on":
        bob.say("#club", "secret")
    bob.say(title, "hello")
    settle(bob, mallory)
    assert mallory.texts("#club") == ["bob: hello"]
    alice.cut()
    alice.connect()
    settle(*everybody)
    assert alice.texts("#club") == (["bob: secret"] if end == "goes on" else [])
    mallory.do(commands.Rename(rooms["#fun"], "#fun"))
    settle(*everybody)
    assert bob.id_of("#fun") == rooms["#fun"]


def test_a_new_room_may_have_the_name_of_one_that_is_over(garden: list[Person]) -> None:
    alice, bob, carol = garden
    old = bob.id_of(NAME)
    for person in (bob, carol, alice):
        person.do(commands.Leave(old))
        settle(*garden)
    bob.do(commands.CreateRoom(NAME))
    settle(*garden)
    assert bob.id_of(NAME) != old
    assert "namesake" not in {change for change, _, _ in changes(bob)}
    bob.do(commands.MakeInviteLine(NAME))


def test_an_invite_line_leads_into_the_room_whose_title_was_typed(
    people: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.CreateRoom("#club"))
    bob.do(commands.CreateRoom("#fun"))
    settle(alice, bob)
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    settle(alice, bob)
    fun = bob.id_of("#fun")
    for name in ("claim", "follow"):
        monkeypatch.setattr(RoomNames, name, lambda *_, **__: None)
    bob.do(commands.Rename(fun, "#club"))
    settle(alice, bob)
    refused(bob, commands.MakeInviteLine("#club"), "You cannot invite to #club")  # it is alice's
    (made,) = [
        each
        for each in bob.do(commands.MakeInviteLine(f"##club~{fun.hex()[:4]}"))
        if isinstance(each, events.InviteLineMade)
    ]
    voucher = decode(made.text, 0).voucher
    assert voucher is not None
    assert (voucher.room, voucher.title) == (fun, "#club")


def test_a_taken_name_is_refused_in_words_and_nothing_changes(garden: list[Person]) -> None:
    alice, bob, _ = garden
    bob.do(commands.JoinRoom("#orchard"))
    settle(*garden)
    rename = commands.Rename(alice.id_of(NAME), "#orchard")
    alice.do(rename)
    settle(*garden)
    (told,) = alice.of(events.Refused)
    assert isinstance(told, events.Refused)
    assert (told.command, told.code, told.text) == (rename.id, "exists", "there is a room #orchard")
    assert alice.state_of(NAME) == "open"
    alice.do(commands.SetTopic(alice.id_of(NAME), "pears"))
    settle(*garden)
    assert seen(bob).topic == "pears"


def test_whoever_is_barred_is_out_and_stays_out_until_unbarred(garden: list[Person]) -> None:
    alice, bob, carol = garden
    room = alice.id_of(NAME)
    alice.do(commands.Bar(room, "bob"))
    settle(*garden)
    assert bob.state_of(NAME) == "closed"
    assert seen(carol).members == ("alice", "carol")
    assert ("barred", "bob", "alice") in changes(carol)
    refused(alice, commands.Bar(room, "bob"), "barred from #garden already")
    alice.do(commands.Unbar(room, "bob"))
    settle(*garden)
    bob.do(commands.JoinRoom(NAME))
    settle(*garden)
    assert seen(carol).members == ("alice", "bob", "carol")


def test_the_last_owner_names_another_before_leaving_others(garden: list[Person]) -> None:
    alice, bob, carol = garden
    room = alice.id_of(NAME)
    refused(alice, commands.Leave(room), "the only owner of #garden: name another one first")
    refused(alice, commands.SetOwner(room, "alice", owner=False), "needs an owner")
    alice.do(commands.SetOwner(room, "bob", owner=True))
    settle(*garden)
    alice.do(commands.Leave(room))
    settle(*garden)
    assert alice.state_of(NAME) == "closed"
    assert seen(carol).owners == ("alice", "bob")
    for person in (carol, bob):
        assert person.state_of(NAME) == "open"


def test_rights_are_given_to_members_whose_key_is_known(garden: list[Person]) -> None:
    alice, _, _ = garden
    room = alice.id_of(NAME)
    refused(alice, commands.SetOwner(room, "dave", owner=True), "dave is not in #garden")
    refused(alice, commands.SetOwner(room, "alice", owner=True), "is an owner of #garden already")
    refused(alice, commands.SetOwner(room, "bob", owner=False), "bob is no owner")
    refused(alice, commands.SetInviter(room, "bob", inviter=True), "everybody can enter")
    refused(alice, commands.SetTopic(room, "x" * 201), "at most 200 characters")
    alice.do(commands.SetOwner(room, "bob", owner=True))
    settle(*garden)
    assert seen(alice).owners == ("alice", "bob")


@pytest.mark.parametrize("seconds", [86_400, 0])
def test_the_life_of_messages_in_a_room_that_is_still_to_be_made_is_set_with_it(people: World, seconds: int) -> None:
    (alice,) = people("alice")
    alice.cut()
    alice.do(commands.CreateRoom("#team"))
    if seconds:
        alice.do(commands.SetLife(alice.id_of("#team"), seconds))
    else:
        refused(alice, commands.SetLife(alice.id_of("#team"), seconds), "live here already")
    alice.connect()
    settle(alice)
    assert seen(alice, "#team").life == seconds
