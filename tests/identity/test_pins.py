import pytest

from securechat.errors import TrustError
from securechat.identity.pins import Pin, observe, standing, trust, verify

OLD, NEW, NEWER = bytes(31) + b"\1", bytes(31) + b"\2", bytes(31) + b"\3"


def test_the_first_key_is_pinned_and_seeing_it_again_is_no_news() -> None:
    pin, first = observe(None, "bob", OLD)
    assert (pin, first) == (Pin("bob", OLD), "first")
    assert observe(pin, "bob", OLD) == (pin, "known")
    assert standing(pin, OLD) == "pinned"


@pytest.mark.parametrize("verified", [False, True])
def test_another_key_is_a_change_that_stays_until_somebody_decides(*, verified: bool) -> None:
    pin, observation = observe(Pin("bob", OLD, verified=verified), "bob", NEW)
    assert observation == "changed"
    assert pin.changed_key == NEW
    assert pin.identity_key == OLD
    assert observe(pin, "bob", OLD) == (pin, "known")
    assert observe(pin, "bob", NEW) == (pin, "known")
    assert standing(pin, NEW) == ("changed-verified" if verified else "changed")
    assert standing(pin, OLD) == ("verified" if verified else "pinned")


def test_trusting_a_changed_key_pins_it_and_forgets_that_the_old_one_was_compared() -> None:
    pin, _ = observe(Pin("bob", OLD, verified=True), "bob", NEW)
    assert trust(pin, NEW) == Pin("bob", NEW)


def test_trusting_the_pinned_key_changes_nothing() -> None:
    pin = Pin("bob", OLD, verified=True)
    assert trust(pin, OLD) is pin


def test_verifying_marks_the_key_that_was_compared() -> None:
    assert verify(Pin("bob", OLD), OLD) == Pin("bob", OLD, verified=True)
    pin, _ = observe(Pin("bob", OLD), "bob", NEW)
    assert verify(pin, NEW) == Pin("bob", NEW, verified=True)


@pytest.mark.parametrize("decide", [trust, verify])
def test_a_decision_about_one_key_does_not_cover_the_next(decide: object) -> None:
    pin, _ = observe(Pin("bob", OLD), "bob", NEW)
    pin, observation = observe(pin, "bob", NEWER)
    assert observation == "changed"
    for key in (OLD, NEW):
        with pytest.raises(TrustError, match="changed again"):
            decide(pin, key)  # type: ignore[operator]  # both are functions of a pin and a key
