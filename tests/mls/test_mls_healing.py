"""Forward secrecy and healing: what a thief of a member's saved state, signature key included, can and cannot do."""

import pytest

from securechat.mls.errors import CannotDecrypt, InvalidMessage, WrongEpoch
from securechat.mls.group import Group, StagedCommit
from tests.mls.support import Person, commit, group_of, same_view, stage, state


def stolen(person: Person, group: Group) -> Group:
    """The group of a thief who has copied the saved state and the signature key."""
    return Group.load(*state(group), person.keys)


def moved(staged: StagedCommit) -> Group:
    assert staged.group is not None
    return staged.group


def test_a_stolen_state_reads_nothing_that_was_read_before() -> None:
    (_, alice), (bob_person, bob) = group_of("alice", "bob")
    messages = [alice.encrypt(b"%d" % number) for number in range(4)]
    for number in (0, 2, 1):
        bob.decrypt(messages[number])
    thief = stolen(bob_person, bob)
    for number in (0, 1, 2):
        with pytest.raises(CannotDecrypt):
            thief.decrypt(messages[number])
    assert thief.decrypt(messages[3]).plaintext == b"3"  # its twin: what was not read yet can be


def test_a_stolen_state_reads_nothing_of_its_owner_or_of_earlier_epochs() -> None:
    (alice_person, alice), (bob_person, bob) = group_of("alice", "bob")
    earlier, own = bob.encrypt(b"earlier"), alice.encrypt(b"own")
    unread_copy = stolen(alice_person, alice)
    staged = commit(bob)
    alice_after, bob_after = moved(stage(alice, staged.message)), moved(staged)
    late = bob_after.encrypt(b"late")
    for person, group in ((alice_person, alice_after), (bob_person, bob_after)):
        thief = stolen(person, group)
        for message in (earlier, own):
            with pytest.raises(WrongEpoch):
                thief.decrypt(message)
    with pytest.raises(CannotDecrypt):
        stolen(bob_person, bob_after).decrypt(late)  # its own: the key went when it was sent
    assert unread_copy.decrypt(earlier).plaintext == b"earlier"


def test_a_commit_by_the_victim_locks_the_thief_out() -> None:
    (_, alice), (bob_person, bob) = group_of("alice", "bob")
    thief = stolen(bob_person, bob)
    assert thief.decrypt(alice.encrypt(b"before")).plaintext == b"before"
    healed = commit(bob)
    alice, bob = moved(stage(alice, healed.message)), moved(healed)
    with pytest.raises(InvalidMessage, match="our own commit"):
        stage(thief, healed.message)  # the keys it brings are encrypted to the others only
    with pytest.raises(WrongEpoch):
        thief.decrypt(alice.encrypt(b"after"))
    with pytest.raises(WrongEpoch):
        alice.decrypt(thief.encrypt(b"I am bob"))
    with pytest.raises(WrongEpoch):
        stage(alice, commit(thief).message)
    assert bob.decrypt(alice.encrypt(b"to bob")).plaintext == b"to bob"


@pytest.mark.parametrize("heals", [True, False])
def test_an_update_by_the_victim_locks_the_thief_out_once_it_is_committed(*, heals: bool) -> None:
    (_, alice), (bob_person, bob), (_, carol) = group_of("alice", "bob", "carol")
    thief = stolen(bob_person, bob)
    if heals:
        proposal = bob.propose_update()
        for member in (alice, carol, thief):
            member.receive_proposal(proposal)
    staged = commit(alice)
    alice_after, bob_after = moved(staged), moved(stage(bob, staged.message))
    assert same_view(alice_after, bob_after, stage(carol, staged.message).group)
    if heals:
        with pytest.raises(InvalidMessage):
            stage(thief, staged.message)
    else:  # the twin: another's commit, without bob's update, can be read by a thief of his keys
        follower = moved(stage(thief, staged.message))
        assert follower.decrypt(alice_after.encrypt(b"after")).plaintext == b"after"
        assert alice_after.decrypt(follower.encrypt(b"as bob")).plaintext == b"as bob"


def test_a_thief_who_followed_before_the_update_follows_no_further() -> None:
    (_, alice), (bob_person, bob) = group_of("alice", "bob")
    thief = stolen(bob_person, bob)
    by_alice = commit(alice)
    alice, bob, thief = moved(by_alice), moved(stage(bob, by_alice.message)), moved(stage(thief, by_alice.message))
    healed = commit(bob)
    alice, bob = moved(stage(alice, healed.message)), moved(healed)
    next_one = commit(alice)
    with pytest.raises(WrongEpoch):
        stage(thief, next_one.message)
    assert same_view(next_one.group, stage(bob, next_one.message).group)
