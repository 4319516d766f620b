"""Exercise 5: what is altered without a key, and which tags hold."""

import pytest

from securechat_lab.exercises import tamper as exercise
from securechat_lab.kit.task import HandIn
from tests.lab.proofs import missed, points, seeds

ATTACK = """
def forge(sealed, known, wanted):
    return bytes(c ^ k ^ w for c, k, w in zip(sealed, known, wanted))

def notices(position):
    return "form" if position < 5 else "place" if position < 45 else "secret"
"""

DEFENCE = """
import hmac

def tag(key, number, data):
    return hmac.new(key, number.to_bytes(8, "big") + data, "sha256").digest()

def seal(stream, key, number, text):
    data = bytes(a ^ b for a, b in zip(text, stream))
    return data + tag(key, number, data)

def unseal(stream, key, number, sealed):
    data, given = sealed[:-32], sealed[-32:]
    if len(sealed) < 32 or not hmac.compare_digest(given, tag(key, number, data)):
        return None
    return bytes(a ^ b for a, b in zip(data, stream))
"""

CHECK = """
def sound(seen):
    for each in seen:
        whole = (each["sent"], each["number"]) == (each["arrived"], each["arrived_as"])
        if whole != (each["read"] is not None):
            return False
    return True
"""


def test_the_reference_gets_every_point() -> None:
    found = points(5, HandIn(ATTACK, DEFENCE, "0"))
    assert len(found) == 5 + 1 + len(exercise.FORGERIES) + 1
    assert {"attack: what notices, at 12 places", "attack: 1,000 turned bits of the real thing"} <= set(found)
    assert not missed(found)


def test_no_turned_bit_of_a_real_message_is_accepted_and_the_whole_one_is() -> None:
    sealed = exercise.message()
    assert len(sealed) == 239
    assert {exercise.noticed(sealed, byte, byte % 8) for byte in range(len(sealed))} == {"form", "place", "secret"}
    assert exercise.pair()[1].decrypt(sealed).plaintext.startswith(b"pay bob")


def test_a_real_message_that_took_every_turned_bit_would_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exercise, "noticed", lambda *_: "nothing")
    found = points(5, HandIn("def", "def"))
    assert found["attack: 1,000 turned bits of the real thing"].outcome.seen == "1000 accepted"


FORGERIES = {f"defence: {name}" for name in exercise.FORGERIES}
_, _, MOVED, ANYBODY, GUESSED = (f"defence: {name}" for name in exercise.FORGERIES)
WHOLE, HIDDEN = "defence: what is whole is opened", "defence: what is sent shows no text"
HASH = DEFENCE.replace('hmac.new(key, number.to_bytes(8, "big") + data, "sha256")', "hashlib.sha256(data)").replace(
    "import hmac", "import hashlib, hmac"
)
CHEATS = {
    "refuses everything": (
        exercise.TASK.defence + "\ndef unseal(*_): return None", {WHOLE, HIDDEN, *FORGERIES},
    ),
    "forgets the number": (DEFENCE.replace('number.to_bytes(8, "big") + data', "data"), {MOVED}),
    "has no key": (DEFENCE.replace("hmac.new(key,", "hmac.new(b'',"), {ANYBODY}),
    "has a hash for a tag": (HASH, {MOVED, ANYBODY}),
    "encrypts nothing": (DEFENCE.replace("a ^ b for a, b", "a for a, b"), {HIDDEN}),
    "answers no bytes": ("def seal(*_): return 'x'\ndef unseal(*_): return b''", {WHOLE, HIDDEN, *FORGERIES}),
}


@pytest.mark.parametrize(("defence", "misses"), CHEATS.values(), ids=CHEATS)
def test_a_defence_that(defence: str, misses: set[str]) -> None:
    assert set(missed(points(5, HandIn("def", defence)), "defence")) == misses


def test_a_tag_of_one_byte_is_guessed() -> None:
    short = DEFENCE.replace(".digest()", ".digest()[:1]").replace("-32", "-1").replace("< 32", "< 1")
    assert GUESSED in missed(points(5, HandIn("def", short)))


def test_two_students_differ_and_the_answers_of_one_fail_with_the_other() -> None:
    ann, bob = (seeds(5, name)[0] for name in ("ann", "bob"))
    assert exercise.words(ann) != exercise.words(bob)
    assert exercise.positions(ann) != exercise.positions(bob)
    known, wanted = exercise.words(bob)
    fixed = f"def forge(sealed, *_): return bytes(a ^ b ^ c for a, b, c in zip(sealed, {known!r}, {wanted!r}))"
    assert len(missed(points(5, HandIn(fixed, "def")), "attack")) == 4
