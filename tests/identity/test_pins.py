import hashlib

import pytest

from securechat.errors import TrustError
from securechat.identity.pins import CONTRADICTING, WRITTEN_TO, Pins, digest, named, short

OLD, NEW, THIRD = bytes(31) + b"\1", bytes(31) + b"\2", bytes(31) + b"\3"
NOBODY = Pins("bob")


def test_nothing_is_known_of_an_account_until_a_person_decides() -> None:
    assert NOBODY.standing(OLD) == "unknown"
    assert NOBODY.written_to is None


def test_first_contact_accepts_a_key_and_says_so_of_every_other() -> None:
    pins = NOBODY.accept(OLD)
    assert (pins.standing(OLD), pins.standing(NEW)) == ("accepted", "changed")
    assert pins.written_to == OLD
    assert pins.accept(OLD) is pins


@pytest.mark.parametrize("before", [NOBODY.accept(OLD), NOBODY.verify(OLD)])
def test_a_yes_never_takes_accepted_from_another_key(before: Pins) -> None:
    with pytest.raises(TrustError, match="not the accepted key"):
        before.accept(NEW)
    assert before.trust(NEW).written_to == NEW  # which takes a decision of its own


def test_a_yes_does_not_undo_a_refusal() -> None:
    refused = NOBODY.refuse(OLD)
    with pytest.raises(TrustError, match="refused"):
        refused.accept(OLD)
    assert refused.trust(OLD).standing(OLD) == "accepted"
    assert refused.accept(NEW).standing(NEW) == "accepted"  # another key: nothing was decided on it


@pytest.mark.parametrize("before", [NOBODY.accept(OLD), NOBODY.verify(OLD)])
def test_trust_and_verify_make_a_key_the_only_one_that_is_written_to(before: Pins) -> None:
    trusted, verified = before.trust(NEW), before.verify(NEW)
    assert (trusted.standing(NEW), trusted.standing(OLD)) == ("accepted", "changed")
    assert (verified.standing(NEW), verified.standing(OLD)) == ("verified", "changed-verified")
    for after in (trusted, verified):
        assert [key for key in (OLD, NEW, THIRD) if after.standing(key) in WRITTEN_TO] == [NEW]


def test_trusting_a_compared_key_does_not_forget_that_it_was_compared() -> None:
    assert NOBODY.verify(OLD).trust(OLD).standing(OLD) == "verified"


def test_a_refused_key_stays_refused_whichever_other_is_accepted() -> None:
    pins = NOBODY.refuse(OLD).verify(NEW)
    assert (pins.standing(OLD), pins.standing(NEW), pins.standing(THIRD)) == ("refused", "verified", "changed-verified")
    assert {standing for key in (OLD, THIRD) if (standing := pins.standing(key)) in CONTRADICTING} == {
        "refused", "changed-verified",
    }  # fmt: skip


def test_refusing_the_accepted_key_leaves_none_that_is_written_to() -> None:
    pins = NOBODY.verify(OLD).refuse(OLD)
    assert (pins.standing(OLD), pins.standing(NEW), pins.written_to) == ("refused", "unknown", None)


def test_a_decision_changes_no_value() -> None:
    pins = NOBODY.verify(OLD)
    for decide in (pins.trust, pins.verify, pins.refuse):
        decide(NEW)
        assert pins == NOBODY.verify(OLD)


def test_the_short_form_is_the_beginning_of_the_keys_hash_and_a_longer_one_names_it_too() -> None:
    assert short(OLD) == hashlib.sha256(OLD).hexdigest()[:4]
    assert named(short(OLD), [OLD, NEW]) == [OLD]
    assert named(digest(OLD)[:20].upper(), [OLD, NEW]) == [OLD]
    assert named(digest(OLD)[:3], [OLD]) == []  # too short to mean anything
    assert named(short(OLD), [NEW]) == []


def test_two_keys_that_begin_alike_are_told_apart_by_more_digits() -> None:
    keys = [number.to_bytes(32, "big") for number in range(2000)]
    by_form: dict[str, list[bytes]] = {}
    for key in keys:
        by_form.setdefault(short(key), []).append(key)
    form, alike = next((form, each) for form, each in by_form.items() if len(each) > 1)
    assert named(form, keys) == alike
    assert named(digest(alike[0])[:12], keys) == alike[:1]


# --- successors ---------------------------------------------------------------------------------------------------


def test_what_was_accepted_follows_to_the_successor_and_what_was_compared_waits_for_the_user() -> None:
    assert NOBODY.accept(OLD).succeed(OLD, NEW).states == {NEW: "accepted"}
    succeeded = NOBODY.verify(OLD).succeed(OLD, NEW)
    assert succeeded.states == {NEW: "succeeded"}
    assert succeeded.written_to == NEW
    assert succeeded.go_on(NEW).states == {NEW: "accepted"}
    assert succeeded.verify(NEW).states == {NEW: "verified"}
    assert succeeded.succeed(NEW, THIRD).states == {THIRD: "succeeded"}


@pytest.mark.parametrize("before", [NOBODY, NOBODY.refuse(OLD), NOBODY.accept(THIRD), NOBODY.refuse(NEW).accept(OLD)])
def test_nothing_follows_from_a_key_that_is_not_accepted_nor_to_a_refused_one(before: Pins) -> None:
    assert before.succeed(OLD, NEW) is before
    assert before.contest(OLD, NEW) is before


def test_what_is_contested_is_accepted_no_more_until_a_person_decides() -> None:
    contested = NOBODY.verify(OLD).succeed(OLD, NEW).contest(OLD, NEW)
    assert {contested.standing(OLD), contested.standing(NEW)} == {"contested"}
    assert contested.written_to is None
    for key, other in ((OLD, NEW), (NEW, OLD)):
        with pytest.raises(TrustError):
            contested.accept(key)  # nobody's first word makes it good again
        assert contested.verify(key).standing(key) == "verified"
        assert contested.verify(key).standing(other) == "changed-verified"
    compared = NOBODY.accept(OLD).succeed(OLD, NEW).verify(NEW)
    assert compared.contest(OLD, NEW) is compared


def test_only_what_has_succeeded_a_compared_key_is_gone_on_with() -> None:
    for before in (NOBODY, NOBODY.verify(NEW), NOBODY.refuse(NEW), NOBODY.accept(OLD).succeed(OLD, NEW)):
        assert before.go_on(NEW) is before
