"""The operator's word: what it does in a room that belongs to nobody, and the same word with one thing wrong."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from securechat.errors import DecodeError, PeerError
from securechat.identity.site_key import SiteKey
from securechat.mls.group import Group, StagedCommit
from securechat.mls.proposals import Add, Remove
from securechat.policy import Rules, Word, check_commit, check_word, check_words, leaves_to_go, rules_due, still_due
from securechat.policy.words import Action, barred, leaf_hash, leaf_of_account
from securechat.wire.limits import MAX_WORD, MAX_WORDS
from tests.test_policy import ALICE, BOB, CAROL, OPEN, OWNED, SERVER, Device, change, commit, enter, group_of, leaf

SITE = SiteKey(b"s" * 32)
LOBBY = replace(OPEN, site_key=SITE.public)
TIME = 1_800_000_000_000


def say(
    group: Group, action: Action, account: str = "", *, seq: int = 7, key: SiteKey = SITE, about: bytes = b"",
    **others: object,
) -> bytes:  # fmt: skip
    """A word as the server makes it, but for what `others` change before it is signed."""
    found = leaf_of_account(group.public, account)
    going = leaf_hash(found[1]) if found is not None and action in ("bar", "remove") else b""
    word = Word(
        SERVER, group.public.group_id, group.epoch, seq, TIME, action, about or account.encode(), going
    )
    return replace(word, **others).signed(key).encode()  # type: ignore[arg-type]  # fields of a word


def heard(group: Group, encoded: bytes, before: Sequence[Word] = (), *, seq: int = 7, time: int = TIME) -> Word:
    return check_word(group.public, encoded, seq=seq, time=time, before=before)


def wrong(group: Group, encoded: bytes, reason: str, before: Sequence[Word] = (), **place: int) -> None:
    with pytest.raises((PeerError, DecodeError), match=reason):
        heard(group, encoded, before, **place)


def allowed(staged: StagedCommit, *words: Word) -> None:
    check_commit(staged.public, departed=leaves_to_go(staged.public.before, words), words=words)


def refused(staged: StagedCommit, reason: str, *words: Word) -> None:
    with pytest.raises(PeerError, match=reason):
        allowed(staged, *words)


def carry_out(group: Group, *words: Word) -> StagedCommit:
    """A commit that does what words ask for."""
    removals = [Remove(each) for each in leaves_to_go(group.public, words)]
    return commit(group, *removals, change(rules_due(group.public, words)))


def test_a_word_is_good_for_one_place_of_one_log_under_the_site_key_of_its_rules() -> None:
    alice = group_of(LOBBY, ALICE, BOB)[0]
    word = heard(alice, say(alice, "bar", "bob"))
    assert (word.account, word.action, len(word.encode()) < MAX_WORD) == ("bob", "bar", True)
    assert check_words(alice.public, [word.encode()]) == (word,)
    wrong(alice, say(alice, "bar", "bob", key=SiteKey(b"t" * 32)), "signature does not fit")
    wrong(alice, say(alice, "bar", "bob"), "another place in the log", seq=8)
    wrong(alice, say(alice, "bar", "bob"), "another place in the log", time=TIME + 1)
    wrong(alice, say(alice, "bar", "bob", conversation=b"H" * 32), "another conversation or server")
    wrong(alice, say(alice, "bar", "bob", server_id=b"T" * 16), "another conversation or server")
    wrong(alice, say(alice, "bar", "bob", epoch=alice.epoch + 1), "another epoch")
    wrong(alice, replace(word, about=b"eve").encode(), "signature does not fit")
    wrong(alice, say(alice, "bar", "bob")[:-1], "end|missing|short")
    wrong(alice, say(alice, "bar", "bob", leaf=b"l" * 32), "another leaf than theirs")
    wrong(alice, say(alice, "bar", "bob", leaf=b""), "another leaf than theirs")


def test_a_word_is_of_a_kind_that_there_is_and_names_what_that_kind_names() -> None:
    alice = group_of(LOBBY, ALICE, BOB)[0]
    encoded = say(alice, "bar", "bob")
    at = len(SERVER) + 32 + 3 * 8
    assert encoded[at] == 1
    for kind in (0, 6, 255):
        with pytest.raises(DecodeError, match="unknown kind"):
            Word.decode(encoded[:at] + bytes([kind]) + encoded[at + 1 :])
    assert (Word.decode(encoded).version, Word.decode(encoded).account) == (0, "bob")
    upgrade = Word.decode(say(alice, "upgrade", about=b"\0\3"))
    assert (upgrade.version, upgrade.account) == (3, "")


def test_words_that_are_shown_to_a_newcomer_were_said_up_to_now_and_in_order() -> None:
    alice = group_of(LOBBY, ALICE, BOB)[0]
    first, second = say(alice, "bar", "bob"), say(alice, "bar", "carol", seq=8)
    assert len(check_words(alice.public, [first, second])) == 2
    earlier = say(alice, "bar", "carol", epoch=alice.epoch - 1)
    assert len(check_words(alice.public, [earlier])) == 1
    for words in ([second, first], [first, first], [say(alice, "bar", "carol", epoch=alice.epoch + 1)]):
        with pytest.raises(PeerError, match="not in the order"):
            check_words(alice.public, words)


def test_words_that_are_shown_to_a_newcomer_lead_to_rules_that_are_sound() -> None:
    alice = group_of(LOBBY, ALICE, BOB)[0]
    assert len(check_words(alice.public, [say(alice, "bar", "dave")])) == 1
    with pytest.raises(DecodeError, match="not normalised"):
        check_words(alice.public, [say(alice, "bar", "Dave")])


def test_who_is_barred_or_will_be_cannot_enter_now() -> None:
    alice = group_of(replace(LOBBY, barred=("carol",)), ALICE, BOB)[0]
    bar, unbar = heard(alice, say(alice, "bar", "dave")), heard(alice, say(alice, "unbar", "carol", seq=8), seq=8)
    assert barred(alice.public, []) == {"carol"}
    assert barred(alice.public, [bar, unbar]) == {"carol", "dave"}  # till somebody has carried it out


def test_a_word_names_an_account_that_can_be_and_a_leaf_where_one_has_to_go() -> None:
    alice = group_of(LOBBY, ALICE, BOB)[0]
    letter = "\N{CJK UNIFIED IDEOGRAPH-20000}"  # four bytes
    for name in ("x" * 32, letter * 32):
        assert heard(alice, say(alice, "bar", name)).account == name
    wrong(alice, say(alice, "bar", "x" * 33), "makes no sense")
    wrong(alice, say(alice, "bar", "bob", leaf=b"l" * 31), "makes no sense")
    barred = group_of(replace(LOBBY, barred=("bob",)), ALICE)[0]
    assert heard(barred, say(barred, "unbar", "bob")).leaf == b""
    wrong(barred, say(barred, "unbar", "bob", leaf=b"l" * 32), "makes no sense")


def test_rooms_that_belong_to_somebody_do_not_belong_to_the_operator() -> None:
    for rules in (OWNED, OPEN, Rules("direct")):
        alice = group_of(rules, ALICE, BOB)[0]
        whose = f"{rules.name or 'This conversation'} does not belong to the server's operator"
        wrong(alice, say(alice, "bar", "bob"), whose)


@pytest.mark.parametrize(
    ("action", "about", "reason"),
    [
        ("unbar", b"bob", "changes nothing"),
        ("remove", b"dave", "who is not there"),
        ("site-key", SITE.public, "changes nothing"),
        ("site-key", b"\x01" + bytes(31), "small order"),
        ("site-key", b"k" * 31, "makes no sense"),
        ("upgrade", b"\x00", "makes no sense"),
        ("bar", b"", "makes no sense"),
        ("bar", b"\xff", "makes no sense"),
        ("bar", b"Bob", "not normalised"),
    ],
)
def test_a_word_that_says_nothing_is_refused(action: Action, about: bytes, reason: str) -> None:
    alice = group_of(LOBBY, ALICE, BOB)[0]
    wrong(alice, say(alice, action, about=about), reason)


def test_words_that_wait_have_a_limit() -> None:
    alice = group_of(LOBBY, ALICE, BOB)[0]
    words: list[Word] = []
    for number in range(MAX_WORDS):
        words.append(heard(alice, say(alice, "bar", f"user{number}", seq=number), words, seq=number))
    wrong(alice, say(alice, "bar", "another"), "wait for somebody to carry them out", words)
    allowed(carry_out(alice, *words), *words)


def test_as_many_can_be_barred_as_the_rules_hold() -> None:
    barred = tuple(f"user{number:03}" for number in range(255))
    alice = group_of(replace(LOBBY, barred=barred), ALICE)[0]
    last = heard(alice, say(alice, "bar", "user255"))
    wrong(alice, say(alice, "bar", "user256", seq=8), "256 accounts cannot be barred", [last], seq=8)


def test_the_next_commit_removes_who_is_barred_and_bars_them_and_does_nothing_else() -> None:
    alice, bob, _ = group_of(LOBBY, ALICE, BOB, CAROL)
    word = heard(alice, say(alice, "bar", "bob"))
    barred = replace(LOBBY, barred=("bob",))
    assert rules_due(alice.public, [word]) == barred
    done = carry_out(alice, word)
    allowed(done, word)
    assert still_due(done.public, [word]) == ()
    gone = Remove(leaf(alice, BOB))
    refused(commit(alice, gone), "does not carry out what the operator said of #lobby", word)
    refused(commit(alice), "does not remove bob", word)
    refused(commit(alice, gone, change(replace(barred, topic="tea"))), "does not carry out", word)
    refused(commit(alice, gone, change(replace(LOBBY, barred=("bob", "carol")))), "does not carry out", word)
    refused(commit(alice, gone, change(barred), Remove(leaf(alice, CAROL))), "removes carol without being", word)
    refused(commit(bob), "bob commits after having left", word)
    refused(carry_out(alice, word), "alice removes bob without being an owner")
    assert done.group is not None
    assert leaves_to_go(done.group.public, [word]) == frozenset()  # bob's is gone
    refused(enter(done.group, BOB), "bob is barred from #lobby")
    refused(enter(alice, BOB, leaf(alice, BOB)), "the operator has barred them", word)


def test_who_is_barred_does_not_come_in_before_somebody_has_carried_it_out() -> None:
    alice = group_of(LOBBY, ALICE, BOB)[0]
    word = heard(alice, say(alice, "bar", "carol"))
    refused(enter(alice, CAROL), "carol enters #lobby, from where the operator has barred them", word)
    dave = enter(alice, Device("dave"))
    allowed(dave, word)
    assert still_due(dave.public, [word]) == (word,)
    assert check_words(dave.public.after, [word.encode()]) == (word,)


def test_who_was_removed_may_come_back_and_with_that_the_word_is_done() -> None:
    alice = group_of(LOBBY, ALICE, BOB)[0]
    word = heard(alice, say(alice, "remove", "bob"))
    assert rules_due(alice.public, [word]) == LOBBY
    allowed(commit(alice, Remove(leaf(alice, BOB))), word)
    refused(commit(alice), "does not remove bob", word)
    back = enter(alice, BOB, leaf(alice, BOB))
    allowed(back, word)
    assert still_due(back.public, [word]) == ()
    with pytest.raises(PeerError, match="another leaf"):  # replayed, it would remove bob once more
        check_words(back.public.after, [word.encode()])


def test_who_is_let_in_again_is_barred_no_more_once_somebody_has_carried_it_out() -> None:
    barred = replace(LOBBY, barred=("carol", "dave"))
    alice, bob = group_of(barred, ALICE, BOB)
    word = heard(bob, say(bob, "unbar", "carol"))
    assert rules_due(bob.public, [word]) == replace(LOBBY, barred=("dave",))
    refused(enter(bob, CAROL), "carol is barred from #lobby", word)
    done = carry_out(bob, word)
    allowed(done, word)
    refused(commit(alice, change(LOBBY)), "without being an owner")
    assert done.group is not None
    allowed(enter(done.group, CAROL))


def test_words_are_carried_out_in_their_order() -> None:
    alice = group_of(LOBBY, ALICE, BOB)[0]
    bar = heard(alice, say(alice, "bar", "bob"))
    unbar = heard(alice, say(alice, "unbar", "bob", seq=8), [bar], seq=8)
    wrong(alice, say(alice, "bar", "bob", seq=8), "changes nothing", [bar], seq=8)
    allowed(commit(alice, Remove(leaf(alice, BOB))), bar, unbar)
    assert check_words(alice.public, [bar.encode(), unbar.encode()]) == (bar, unbar)
    with pytest.raises(PeerError, match="not in the order"):
        check_words(alice.public, [unbar.encode(), bar.encode()])
    back = enter(alice, BOB, leaf(alice, BOB))
    allowed(back, bar, unbar)
    assert still_due(back.public, [bar, unbar]) == ()


def test_a_new_site_key_is_named_under_the_old_one_and_comes_into_force_with_the_next_commit() -> None:
    new = SiteKey(b"n" * 32)
    alice = group_of(LOBBY, ALICE, BOB)[0]
    wrong(alice, say(alice, "site-key", about=new.public, key=new), "signature does not fit")
    word = heard(alice, say(alice, "site-key", about=new.public))
    done = carry_out(alice, word)
    allowed(done, word)
    refused(commit(alice), "does not carry out", word)
    assert done.group is not None
    wrong(done.group, say(done.group, "bar", "bob"), "signature does not fit")
    heard(done.group, say(done.group, "bar", "bob", key=new))


def test_an_upgrade_waits_until_every_program_knows_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    from securechat.policy.judges import JUDGES
    from securechat.policy.rules import READERS, VERSION

    newer = VERSION + 1
    monkeypatch.setitem(READERS, newer, Rules.decode)
    monkeypatch.setitem(JUDGES, newer, JUDGES[VERSION])
    knows = [Device(name, versions=(VERSION, newer)) for name in ("alice", "bob")]
    for bob, ready in ((BOB, False), (knows[1], True)):
        alice = group_of(LOBBY, knows[0], bob)[0]
        word = heard(alice, say(alice, "upgrade", about=newer.to_bytes(2, "big")))
        due = rules_due(alice.public, [word])
        assert due.version == (newer if ready else VERSION)
        allowed(commit(alice), word)
        assert still_due(commit(alice).public, [word]) == (word,)
        if ready:
            done = commit(alice, change(due))
            allowed(done, word)
            assert still_due(done.public, [word]) == ()
            refused(commit(alice, change(due)), "without being an owner")


def test_no_word_leads_back_to_an_older_version(monkeypatch: pytest.MonkeyPatch) -> None:
    from securechat.policy.judges import JUDGES
    from securechat.policy.rules import READERS, VERSION

    newer = VERSION + 1
    monkeypatch.setitem(READERS, newer, Rules.decode)
    monkeypatch.setitem(JUDGES, newer, JUDGES[VERSION])
    knows = [Device(name, versions=(VERSION, newer)) for name in ("alice", "bob")]
    rules = replace(LOBBY, version=newer)
    alice = group_of(rules, *knows)[0]
    word = heard(alice, say(alice, "upgrade", about=VERSION.to_bytes(2, "big")))
    allowed(commit(alice), word)
    assert rules_due(alice.public, [word]) == rules
    refused(commit(alice, change(replace(rules, version=VERSION))), "does not carry out", word)


def test_nobody_is_added_by_a_word() -> None:
    alice = group_of(LOBBY, ALICE, BOB)[0]
    word = heard(alice, say(alice, "bar", "dave"))
    both = commit(alice, change(rules_due(alice.public, [word])), Add(CAROL.bundle().key_package))
    refused(both, "alice adds carol to an open room", word)
