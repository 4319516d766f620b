"""Ten everyday stories, and how many questions people are asked in them.

Ten contacts, three rooms of 30. Not here, since it is not built: a recovery file, the rotation of keys.
"""

import pytest

from securechat.client import commands, events
from tests.stories.asking import forget, play, questions, there
from tests.stories.town import ROOMS, Place, Town, copy, neighbours, put_back, start_afresh
from tests.support.people import Person


def asked(*people: Person) -> list[int]:
    """How many questions each was asked."""
    return [len(questions(person)) for person in people]


def invite_again(people: list[Person], owners: list[Person]) -> None:
    """Have each owner put alice's new device in place of her old one."""
    for name, owner in zip(ROOMS, owners, strict=True):
        owner.do(commands.Invite(owner.id_of(name), "alice"))
        play(*people)


def test_a_new_phone_is_asked_about_by_each_contact_and_each_owner_and_by_no_member(town: Town) -> None:
    old, friends, owners, bob = neighbours(town)
    alice = start_afresh(town, old)
    for person in (*friends, *owners):
        alice.do(commands.OpenDirect(person.name, "this is my new phone", ask=False))
    people = [alice, *friends, *owners, bob]
    play(*people)
    invite_again(people, owners)
    for name, owner in zip(ROOMS, owners, strict=True):
        Place(town, name, alice, owner, bob).all_read_each_other()
    for friend in friends:
        friend.say("alice", "good to see you")
    play(*people)
    assert [alice.texts(friend.name)[-1] for friend in friends] == [f"{each.name}: good to see you" for each in friends]
    assert asked(*friends) == [1] * 10
    assert asked(*owners) == [1] * 3
    assert asked(bob) == [0]
    rooms = zip(ROOMS, owners, strict=True)
    assert questions(alice) == {f"invitation to {name} by {owner.name}" for name, owner in rooms}


def test_a_new_member_is_asked_once(town: Town) -> None:
    _, _, owners, bob = everybody = neighbours(town)
    (dave,) = town.move_in("dave")
    forget(dave)
    people = [*everybody.everybody, dave]
    owners[0].do(commands.Invite(owners[0].id_of("#one"), "dave"))
    play(*people)
    Place(town, "#one", owners[0], bob, dave).all_read_each_other()
    assert asked(dave) == [1]
    assert asked(*everybody.everybody) == [0] * 15


def test_a_new_member_who_comes_by_a_line_is_asked_nothing_and_nobody_else_is(town: Town) -> None:
    _, _, owners, bob = everybody = neighbours(town)
    (dave,) = town.move_in("dave")
    forget(dave)
    told = owners[0].do(commands.MakeInviteLine("#one"))
    dave.do(commands.UseInviteLine(next(each.text for each in told if isinstance(each, events.InviteLineMade))))
    play(*everybody.everybody, dave)
    Place(town, "#one", owners[0], bob, dave).all_read_each_other()
    assert asked(dave, *everybody.everybody) == [0] * 16


def test_forty_days_away_ask_nobody_anything(town: Town) -> None:
    alice, friends, owners, bob = everybody = neighbours(town)
    alice.cut()
    for name, owner in zip(ROOMS, owners, strict=True):
        Place(town, name, owner, bob).pass_days(14, owner, bob)
    alice.connect()
    play(*everybody.everybody)
    for name, owner in zip(ROOMS, owners, strict=True):
        Place(town, name, alice, owner, bob).all_read_each_other()
    for friend in friends:
        Place(town, "", alice, friend).all_read_each_other()
    assert alice.of(events.Gap)
    assert asked(*everybody.everybody) == [0] * 15


def test_a_room_whose_owner_is_gone_goes_on_with_a_second_one(town: Town) -> None:
    alice, _, (owner, *_), bob = everybody = neighbours(town)
    (dave,) = town.move_in("dave")
    forget(dave)
    owner.do(commands.SetOwner(owner.id_of("#one"), "bob", owner=True))
    town.settle()
    owner.cut()
    town.pass_time(50)
    bob.do(commands.Remove(bob.id_of("#one"), owner.name))
    bob.do(commands.Invite(bob.id_of("#one"), "dave"))
    play(*everybody.everybody, dave)
    Place(town, "#one", alice, bob, dave).all_read_each_other()
    assert asked(alice, bob) == [0, 0]
    assert asked(dave) == [1]


def test_a_room_whose_only_owner_is_gone_is_founded_anew_with_an_invitation_each(town: Town) -> None:
    alice, friends, (owner, *_), bob = everybody = neighbours(town)
    owner.cut()
    people = [each for each in everybody.everybody if each is not owner]
    alice.do(commands.CreateRoom("#one-again"))
    play(*people)
    for each in (bob, *friends):
        alice.do(commands.Invite(alice.id_of("#one-again"), each.name))
    play(*people)
    Place(town, "#one-again", alice, bob, *friends).all_read_each_other()
    assert asked(bob, *friends) == [1] * 11
    assert asked(alice) == [0]


def test_two_who_open_at_once_are_asked_nothing(town: Town) -> None:
    alice, bob = town.move_in("alice", "bob")
    forget(alice, bob)
    for one, other in ((alice, bob), (bob, alice)):
        one.do(commands.OpenDirect(other.name, f"from {one.name}", ask=False))
    play(alice, bob)
    assert alice.texts("bob") == bob.texts("alice")
    Place(town, "", alice, bob).all_read_each_other()
    assert asked(alice, bob) == [0, 0]


@pytest.mark.parametrize("verified", [False, True])
def test_a_name_with_a_new_key_is_one_question_for_all_conversations(town: Town, verified: bool) -> None:  # noqa: FBT001  a parameter of the test
    old, friends, owners, bob = everybody = neighbours(town)
    town.befriend(bob, old)
    for each in (old, *friends, bob):
        each.do(commands.JoinRoom("#lobby"))
        town.settle()
    if verified:
        bob.safety_number("alice")
        bob.do(commands.Verify("alice"))
    forget(*everybody.everybody)
    alice = start_afresh(town, old)
    people = [alice, *friends, *owners, bob]
    for each in (*owners, bob):
        alice.do(commands.OpenDirect(each.name, "this is my new phone", ask=False))
    alice.do(commands.JoinRoom("#lobby"))
    play(*people)
    invite_again(people, owners)
    for name, owner in zip(ROOMS, owners, strict=True):
        Place(town, name, alice, owner, bob).all_read_each_other()
    Place(town, "#lobby", alice, bob).all_read_each_other()
    Place(town, "", alice, bob).all_read_each_other()
    assert asked(bob) == [1]


def test_who_leaves_and_comes_back_is_asked_once_and_in_an_open_room_not_at_all(town: Town) -> None:
    alice, _, owners, bob = everybody = neighbours(town)
    for each in (alice, bob):
        each.do(commands.JoinRoom("#lobby"))
        town.settle()
    forget(*everybody.everybody)
    for name in ("#one", "#lobby"):
        alice.do(commands.Leave(alice.id_of(name)))
    play(*everybody.everybody)
    alice.do(commands.JoinRoom("#lobby"))
    play(*everybody.everybody)
    Place(town, "#lobby", alice, bob).all_read_each_other()
    assert asked(*everybody.everybody) == [0] * 15
    owners[0].do(commands.Invite(owners[0].id_of("#one"), "alice"))
    play(*everybody.everybody)
    Place(town, "#one", alice, owners[0], bob).all_read_each_other()
    assert asked(*everybody.everybody) == [1, *[0] * 14]


def test_fresh_keys_are_silent(town: Town) -> None:
    """As far as it goes: the leaf's encryption key. The signature key is not rotated yet."""
    everybody = neighbours(town)
    epochs = [there(everybody.bob, name).group.epoch for name in ROOMS]
    town.pass_time(8)
    play(*everybody.everybody)
    for epoch, name in zip(epochs, ROOMS, strict=True):
        assert there(everybody.bob, name).group.epoch > epoch
    assert asked(*everybody.everybody) == [0] * 15
    assert not [event for each in everybody.everybody for event in each.happened if type(event) is not events.LoggedIn]


def test_the_laptop_of_yesterday_asks_nothing_and_nobody_else_notices(town: Town) -> None:
    alice, friends, owners, bob = everybody = neighbours(town)
    yesterday = copy(alice, town.folder / "yesterday")
    play(*everybody.everybody)
    forget(*everybody.everybody)
    for name in ROOMS:
        alice.say(name, "today")
    for friend in friends:
        alice.say(friend.name, "today")
    play(*everybody.everybody)
    put_back(alice, yesterday)
    play(*everybody.everybody)
    for name, owner in zip(ROOMS, owners, strict=True):
        Place(town, name, alice, owner, bob).all_read_each_other()
    for friend in friends:
        Place(town, "", alice, friend).all_read_each_other()
    assert asked(*everybody.everybody) == [0] * 15
    assert not [event for each in (*friends, *owners, bob) for event in each.of(events.ConversationChanged)]
