"""Revocations on real groups: what a revoked leaf may not do, and the same with one thing otherwise."""

from contextlib import nullcontext
from dataclasses import replace

import pytest

from securechat import policy
from securechat.errors import PeerError
from securechat.identity.certificate import CLOCK_SKEW
from securechat.identity.statements import Action, Head, Statement, state
from securechat.mls.group import Group
from securechat.mls.proposals import Add, GroupContextExtensions, Remove
from securechat.mls.tree_math import LeafIndex
from securechat.policy import Rules
from securechat.policy.revocations import is_about
from securechat.policy.successions import added_by_anybody
from tests.test_policy import ALICE, BOB, CAROL, INVITE, NOW, SERVER, Device, commit, enter, group_of

EARLY = replace(BOB, seq=3)
"""bob as he is in the groups here; revoked at 4."""

LATER = replace(BOB, seq=5, number=2)
"""bob with a certificate that was signed after that."""

BOBS = LeafIndex(1)


def revoked(
    who: Device = EARLY, *, seq: int = 4, action: Action = "revoke", time: int = NOW, **other: object
) -> Statement:
    given = {"server_id": SERVER, "account": who.account, "device_id": who.device_id, **other}
    return state(
        who.identity_private, Head(seq - 1, b"p" * 32), action, time=time,
        **{"key": who.signature.public_key, **given},  # type: ignore[arg-type]  # of their types
    )  # fmt: skip


def room(rules: Rules = INVITE) -> list[Group]:
    return group_of(rules, ALICE, EARLY, CAROL)


def check(
    group: Group, statement: Statement, departed: frozenset[LeafIndex] = frozenset(), *before: Statement
) -> Statement:
    return policy.check_statement(
        group.public, statement.encode(), time=NOW * 1000, departed=departed, before=before
    )


def test_a_revocation_names_a_leaf_and_that_alone(subtests: pytest.Subtests) -> None:
    alice, *_ = room()
    assert policy.revoked_leaves(alice.public, [check(alice, revoked())]) == {BOBS}
    forged = replace(revoked(), signature=bytes(64))
    lies = {
        "forged": forged,
        "of another server": revoked(server_id=b"s" * 16),
        "of another account": revoked(account="carol"),
        "of nobody here": revoked(replace(EARLY, account="dave", identity="bob")),
        "of another identity key": revoked(replace(EARLY, identity="mallory")),
        "of another device": revoked(device_id=b"another device!!"),
        "of before the certificate": revoked(seq=2),
        "of the certificate's own place": revoked(seq=3),
        "dated in the future": revoked(time=NOW + CLOCK_SKEW + 60),
    }
    for name, lie in lies.items():
        with subtests.test(name), pytest.raises(PeerError):
            check(alice, lie)
    with pytest.raises(PeerError, match="out of date"):
        check(alice, revoked(), frozenset(), revoked())  # replayed
    check(alice, revoked(seq=6), frozenset(), revoked())
    check(alice, revoked(), frozenset(), revoked(CAROL, seq=9))  # of another chain
    with pytest.raises(PeerError, match="has left"):
        check(alice, revoked(), frozenset({BOBS}))


def test_an_owner_revokes_a_device_that_is_here_and_no_other() -> None:
    alice, *_ = room()
    statement = revoked(ALICE, seq=9)
    assert check(alice, statement) == statement
    for wrong in (revoked(ALICE, seq=2), revoked(ALICE, seq=9, device_id=b"another device!!")):
        with pytest.raises(PeerError, match="a device that is not here"):  # though the rules name the key
            check(alice, wrong)


def test_another_statement_is_no_revocation() -> None:
    alice, *_ = room()
    with pytest.raises(PeerError, match="no such statement"):
        check(alice, revoked(action="restart", device_id=b""))


def test_who_has_left_can_still_contest_and_not_revoke() -> None:
    """A contest is about keys: what has become of the leaf does not matter."""
    alice, *_ = room()
    contest = revoked(action="contest", device_id=b"")
    assert check(alice, contest, frozenset({BOBS})) == contest
    with pytest.raises(PeerError, match="has left"):
        check(alice, revoked(), frozenset({BOBS}))


def test_a_revoked_device_commits_nothing_and_everybody_else_removes_it() -> None:
    alice, bob, carol = room()
    statement = revoked()
    thief = commit(bob)
    policy.check_commit(thief.public, departed=frozenset())  # the twin
    with pytest.raises(PeerError, match="after having left"):
        policy.check_commit(thief.public, departed=frozenset(), revocations=[statement])
    idle = commit(carol)
    with pytest.raises(PeerError, match="does not remove bob"):
        policy.check_commit(idle.public, departed=frozenset(), revocations=[statement])
    removal = commit(carol, Remove(BOBS))
    with pytest.raises(PeerError, match="without being an owner"):
        policy.check_commit(removal.public, departed=frozenset())
    for departed in (frozenset(), frozenset({BOBS})):  # whether they are told apart or not
        policy.check_commit(removal.public, departed=departed, revocations=[statement])
    assert policy.still_revoked(removal.public.after, [statement]) == ()
    assert policy.still_revoked(alice.public, [statement]) == (statement,)


@pytest.mark.parametrize("rules", [INVITE, Rules("open", "#lobby")], ids=["invite", "open"])
def test_a_revoked_leaf_gives_way_to_a_later_certificate_alone(rules: Rules) -> None:
    if rules.kind == "open":
        alice = group_of(rules, ALICE)[0]
        staged = enter(alice, EARLY)
        assert staged.group is not None
        alice = staged.group
    else:
        alice = room(rules)[0]
    statement = revoked()
    same = enter(alice, EARLY, BOBS)
    policy.check_commit(same.public, departed=frozenset())  # the twin: not revoked
    with pytest.raises(PeerError, match="was revoked"):
        policy.check_commit(same.public, departed=frozenset(), revocations=[statement])
    between = enter(alice, replace(LATER, seq=4), BOBS)
    policy.check_commit(between.public, departed=frozenset(), revocations=[statement])
    with pytest.raises(PeerError, match="was revoked"):  # later than the leaf, and earlier than the revocation
        policy.check_commit(between.public, departed=frozenset(), revocations=[revoked(seq=5)])
    back = enter(alice, LATER, BOBS)
    policy.check_commit(back.public, departed=frozenset({BOBS}), revocations=[statement])
    assert policy.still_revoked(back.public.after, [statement]) == ()


def test_a_leaf_that_has_left_gives_way_to_nobody() -> None:
    alice, *_ = room()
    back = enter(alice, LATER, BOBS)
    with pytest.raises(PeerError, match="after having left"):
        policy.check_commit(back.public, departed=frozenset({BOBS}))


def test_whoever_may_add_puts_the_new_device_in_the_place_of_the_revoked() -> None:
    statement, inviter = revoked(), replace(INVITE, inviters=(CAROL.who,))
    carol = room(inviter)[2]
    new = commit(carol, Remove(BOBS), Add(LATER.bundle().key_package))
    policy.check_commit(new.public, departed=frozenset(), revocations=[statement])
    old = commit(carol, Remove(BOBS), Add(replace(LATER, seq=4).bundle().key_package))
    policy.check_commit(old.public, departed=frozenset(), revocations=[statement])
    with pytest.raises(PeerError, match="was revoked"):
        policy.check_commit(old.public, departed=frozenset(), revocations=[revoked(seq=5)])


def test_what_is_shown_to_somebody_who_enters_is_checked_alike() -> None:
    alice, *_ = room()
    statement = revoked().encode()
    assert policy.check_revocations(alice.public, [statement], time=NOW * 1000) == (revoked(),)
    with pytest.raises(PeerError, match="two statements by one"):
        policy.check_revocations(alice.public, [statement, revoked(seq=6).encode()], time=NOW * 1000)
    with pytest.raises(PeerError, match="not here"):
        policy.check_revocations(alice.public, [revoked(seq=2).encode()], time=NOW * 1000)


def test_the_newest_revocation_of_a_key_waits() -> None:
    first, second, other = revoked(), revoked(seq=6), revoked(CAROL)
    assert policy.with_revocation((first, other), second) == (other, second)


# --- successions -----------------------------------------------------------------------------------------------------

HEIR = replace(BOB, identity="bob's new key", number=2)


def succession(who: Device = EARLY, heir: Device = HEIR, *, seq: int = 4, **other: object) -> Statement:
    given = {"server_id": SERVER, "account": who.account, **other}
    return state(
        who.identity_private, Head(seq - 1, b"p" * 32), "succeed", time=NOW,
        key=heir.who.identity_key, successor=heir.identity_private, **given,  # type: ignore[arg-type]  # of their types
    )  # fmt: skip


def contest(who: Device = EARLY, heir: Device = HEIR, *, seq: int = 5) -> Statement:
    return state(
        who.identity_private, Head(seq - 1, b"p" * 32), "contest", server_id=SERVER, account=who.account, time=NOW,
        key=heir.who.identity_key,
    )  # fmt: skip


def test_members_add_successors_to_rooms_of_invitation_alone() -> None:
    """Where nobody is left who may; in an open room people enter by themselves."""
    for rules, expected in ((INVITE, {OWNER_HEIR.who}), (replace(INVITE, kind="open"), set())):
        group = group_of(rules, ALICE, BOB)[0] if rules is INVITE else group_of(rules, ALICE)[0]
        statement = succession(ALICE, OWNER_HEIR)
        heirs = added_by_anybody(group.public, rules, frozenset({LeafIndex(0)}), [statement])
        assert heirs == expected
        assert added_by_anybody(group.public, rules, frozenset(), [statement]) == frozenset()  # alice is there


def test_a_succession_is_about_every_leaf_of_the_old_key_and_about_no_other(subtests: pytest.Subtests) -> None:
    alice, *_ = room()
    assert policy.revoked_leaves(alice.public, [check(alice, succession())]) == {BOBS}
    lies = {
        "not by the successor": replace(succession(), new_signature=bytes(64)),
        "of another account": succession(account="carol"),
        "of a key that is not here": succession(replace(EARLY, identity="mallory")),
        "of before the certificate": succession(seq=2),
    }
    for name, lie in lies.items():
        with subtests.test(name), pytest.raises(PeerError):
            check(alice, lie)
    with pytest.raises(PeerError, match="out of date"):
        check(alice, succession(), frozenset(), succession())
    with pytest.raises(PeerError, match="has left"):
        check(alice, succession(), frozenset({BOBS}))


def test_no_certificate_of_the_old_key_comes_in_any_more_however_late_it_was_signed() -> None:
    alice, *_ = room()
    back = enter(alice, LATER, BOBS)
    policy.check_commit(back.public, departed=frozenset(), revocations=[revoked()])  # the twin
    for statement in (succession(), contest()):
        with pytest.raises(PeerError, match="was revoked"):
            policy.check_commit(back.public, departed=frozenset(), revocations=[statement])


@pytest.mark.parametrize("who", ["owner", "inviter", "member"])
def test_the_successor_is_added_by_whoever_may_add_where_the_old_leaf_goes(who: str) -> None:
    rules = replace(INVITE, inviters=(CAROL.who,)) if who == "inviter" else INVITE
    alice, _, carol = room(rules)
    committer = alice if who == "owner" else carol
    swap = commit(committer, Remove(BOBS), Add(HEIR.bundle().key_package))
    if who == "member":
        with pytest.raises(PeerError, match="without being an owner or inviter"):
            policy.check_commit(swap.public, departed=frozenset(), revocations=[succession()])
        return
    policy.check_commit(swap.public, departed=frozenset(), revocations=[succession()])
    assert policy.still_revoked(swap.public.after, [succession()]) == ()


def test_who_has_named_nobody_is_not_replaced_by_an_inviter() -> None:
    alice, *_ = room(replace(INVITE, inviters=(CAROL.who,)))
    answered = enter(alice, EARLY, BOBS).group
    assert answered is not None
    carol = enter(answered, replace(CAROL, number=2, seq=6), LeafIndex(2)).group
    assert carol is not None
    swap = commit(carol, Remove(BOBS), Add(HEIR.bundle().key_package))
    policy.check_commit(swap.public, departed=frozenset(), revocations=[succession()])  # the twin
    with pytest.raises(PeerError, match="who is in already"):
        policy.check_commit(swap.public, departed=frozenset())


OWNER_HEIR = replace(ALICE, identity="alice's new key", number=2)
OWNER_SUCCEEDED = succession(ALICE, OWNER_HEIR, seq=6)


def changed(rules: Rules) -> GroupContextExtensions:
    return GroupContextExtensions((rules.extension(),))


def test_what_the_old_key_was_goes_over_in_the_commit_that_brings_the_successor_in() -> None:
    rules = replace(INVITE, inviters=(CAROL.who,))
    after = policy.taken_over(rules, [OWNER_SUCCEEDED], {OWNER_HEIR.who})
    assert after == replace(rules, owners=(OWNER_HEIR.who,))
    for given, allowed in (
        (after, True),
        (replace(after, topic="and a topic"), False),
        (replace(after, inviters=()), False),
        (replace(after, owners=(CAROL.who,), inviters=()), False),
    ):
        carol = room(rules)[2]
        swap = commit(carol, Remove(LeafIndex(0)), Add(OWNER_HEIR.bundle().key_package), changed(given))
        with nullcontext() if allowed else pytest.raises(PeerError, match="without being an owner"):
            policy.check_commit(swap.public, departed=frozenset(), revocations=[OWNER_SUCCEEDED])
        with pytest.raises(PeerError):
            policy.check_commit(swap.public, departed=frozenset({LeafIndex(0)}))  # nobody has succeeded
    carol = room(rules)[2]
    without = commit(carol, Remove(LeafIndex(0)), changed(after))
    with pytest.raises(PeerError, match="without being an owner"):
        policy.check_commit(without.public, departed=frozenset(), revocations=[OWNER_SUCCEEDED])
    contested = commit(carol, Remove(LeafIndex(0)), Add(OWNER_HEIR.bundle().key_package), changed(after))
    with pytest.raises(PeerError, match="without being an owner"):
        policy.check_commit(
            contested.public, departed=frozenset(), revocations=[contest(ALICE, OWNER_HEIR, seq=7)]
        )


def test_or_in_one_of_the_successors_own_that_does_nothing_else() -> None:
    rules = replace(INVITE, inviters=(CAROL.who,))
    carol = room(rules)[2]
    swap = commit(carol, Remove(LeafIndex(0)), Add(OWNER_HEIR.bundle().key_package))
    policy.check_commit(swap.public, departed=frozenset(), revocations=[OWNER_SUCCEEDED])
    waiting = policy.still_revoked(swap.public.after, [OWNER_SUCCEEDED])
    assert waiting == (OWNER_SUCCEEDED,)  # the rules name the old key
    assert policy.check_revocations(swap.public.after, [OWNER_SUCCEEDED.encode()], time=NOW * 1000) == waiting
    assert swap.group is not None
    back = enter(swap.group, replace(OWNER_HEIR, seq=6), LeafIndex(0)).group
    assert back is not None
    after = policy.taken_over(rules, waiting, {OWNER_HEIR.who})
    own = commit(back, changed(after))
    policy.check_commit(own.public, departed=frozenset(), revocations=waiting)
    assert policy.still_revoked(own.public.after, waiting) == ()
    with pytest.raises(PeerError, match="without being an owner"):
        policy.check_commit(own.public, departed=frozenset())
    more = commit(back, Remove(LeafIndex(1)), changed(after))
    with pytest.raises(PeerError, match="without being an owner"):
        policy.check_commit(more.public, departed=frozenset(), revocations=waiting)


def test_successors_of_successors_take_over_and_a_ring_of_them_does_not() -> None:
    last = replace(OWNER_HEIR, identity="alice's third key", number=3)
    first, second = OWNER_SUCCEEDED, succession(OWNER_HEIR, last, seq=6)
    rules = replace(INVITE, inviters=(CAROL.who,))
    for order in ([first, second], [second, first]):
        assert policy.taken_over(rules, order, {last.who}).owners == (last.who,)
        assert policy.taken_over(rules, order, {OWNER_HEIR.who}).owners == (OWNER_HEIR.who,)
        assert policy.taken_over(rules, order, {CAROL.who}) == rules
    ring = [first, succession(OWNER_HEIR, ALICE)]
    assert policy.taken_over(rules, ring, {last.who}) == rules


def test_a_contest_takes_the_place_of_the_succession() -> None:
    alice, *_ = room()
    denied = check(alice, contest(), frozenset(), succession())
    assert policy.with_revocation((succession(),), denied) == (denied,)
    assert policy.revoked_leaves(alice.public, [denied]) == {BOBS}
    with pytest.raises(PeerError, match="out of date"):
        check(alice, succession(), frozenset(), denied)
    swap = commit(alice, Remove(BOBS), Add(HEIR.bundle().key_package))
    assert swap.group is not None
    assert check(swap.group, contest()) == denied  # the successor is there
    assert policy.still_revoked(swap.group.public, [denied]) == ()
    gone = commit(alice, Remove(BOBS))
    assert gone.group is not None
    with pytest.raises(PeerError, match="not here"):
        check(gone.group, contest())


def test_what_a_statement_is_about() -> None:
    old, new = EARLY.who, HEIR.who
    for statement, keys in (
        (revoked(), {old.identity_key}),
        (revoked(key=new.identity_key), {old.identity_key}),
        (succession(), {old.identity_key}),
        (contest(), {old.identity_key, new.identity_key}),
    ):
        for key in (old.identity_key, new.identity_key, CAROL.who.identity_key):
            about = is_about(statement, account="bob", identity_key=key, device=EARLY.device_id, seq=3)
            assert about == (key in keys)
            assert not is_about(statement, account="carol", identity_key=key, device=EARLY.device_id, seq=3)


def test_a_revocation_is_over_with_its_leaf_whatever_the_rules_name() -> None:
    carol = room()[2]
    statements = [revoked(ALICE, seq=9)]
    without = commit(carol, Remove(LeafIndex(0)))
    policy.check_commit(without.public, departed=frozenset(), revocations=statements)
    assert policy.still_revoked(without.public.before, statements) == tuple(statements)
    assert policy.still_revoked(without.public.after, statements) == ()
    assert policy.still_revoked(without.public.after, [OWNER_SUCCEEDED]) == (OWNER_SUCCEEDED,)  # which names an heir


def test_a_key_that_only_the_rules_name_is_contested_and_no_heir_of_another_speaks_of_it() -> None:
    carol, _ = group_of(replace(INVITE, owners=(OWNER_HEIR.who,)), CAROL, EARLY)
    denied = contest(ALICE, OWNER_HEIR, seq=7)
    assert check(carol, denied) == denied
    with pytest.raises(PeerError, match="an identity key that is not here"):
        check(carol, OWNER_SUCCEEDED)


def test_where_nobody_is_left_who_may_add_each_member_adds_their_successor_and_nobody_else(
    subtests: pytest.Subtests,
) -> None:
    gone, heir, dave = LeafIndex(0), OWNER_HEIR.bundle().key_package, replace(CAROL, account="dave", identity="dave")
    carol = room()[2]
    swap = commit(carol, Remove(gone), Add(heir))
    policy.check_commit(swap.public, departed=frozenset(), revocations=[OWNER_SUCCEEDED])
    after = policy.taken_over(INVITE, [OWNER_SUCCEEDED], {OWNER_HEIR.who})
    policy.check_commit(
        commit(carol, Remove(gone), Add(heir), changed(after)).public, departed=frozenset(),
        revocations=[OWNER_SUCCEEDED],
    )  # fmt: skip
    first = commit(carol, Remove(gone))  # or once the old leaf is gone
    policy.check_commit(first.public, departed=frozenset(), revocations=[OWNER_SUCCEEDED])
    assert first.group is not None
    policy.check_commit(
        commit(first.group, Add(heir)).public, departed=frozenset(), revocations=[OWNER_SUCCEEDED]
    )
    away = replace(INVITE, inviters=(EARLY.who,))
    both = [OWNER_SUCCEEDED, succession()]
    policy.check_commit(
        commit(room(away)[2], Remove(gone), Remove(BOBS), Add(heir), Add(HEIR.bundle().key_package)).public,
        departed=frozenset(), revocations=both,
    )  # fmt: skip
    refused = {
        "somebody else": (commit(carol, Remove(gone), Add(dave.bundle().key_package)), [OWNER_SUCCEEDED]),
        "and somebody else": (
            commit(carol, Remove(gone), Add(heir), Add(dave.bundle().key_package)), [OWNER_SUCCEEDED],
        ),
        "the successor of a member": (commit(carol, Remove(BOBS), Add(HEIR.bundle().key_package)), [succession()]),
        "that of a member beside": (
            commit(carol, Remove(gone), Remove(BOBS), Add(heir), Add(HEIR.bundle().key_package)), both,
        ),
        "while an inviter is there": (commit(room(away)[2], Remove(gone), Add(heir)), [OWNER_SUCCEEDED]),
        "what was contested": (swap, [contest(ALICE, OWNER_HEIR, seq=7)]),
        "whom nobody has named": (swap, []),
    }  # fmt: skip
    for name, (staged, statements) in refused.items():
        departed = frozenset() if statements else frozenset({gone})
        with subtests.test(name), pytest.raises(PeerError, match="without being an owner or inviter|who is in already"):
            policy.check_commit(staged.public, departed=departed, revocations=statements)
