"""Exercise 13: what a nonce that comes twice gives away, and what survives a copy."""

import pytest

from securechat.mls.crypto import sealing
from securechat_lab.exercises import nonce_twice as exercise
from securechat_lab.kit.field import multiply, power, xor
from securechat_lab.kit.review import STRONG
from securechat_lab.kit.sandbox import MAX_PRINTED
from securechat_lab.kit.seeds import Seed
from securechat_lab.kit.task import HandIn, tried
from securechat_lab.workspace import LINE
from tests.lab.proofs import missed, points, seeds

ATTACK = exercise.ATTACK[: exercise.ATTACK.index("def forge")] + """
def pair(heard, texts):
    for one, text in zip(heard, texts):
        for other in heard:
            if text is not None and other != one and other[1] == one[1]:
                return one, other, text

def forge(heard, texts, wanted):
    found = pair(heard, texts)
    if found is None:
        return None
    (_, nonce, sealed, tag), (_, _, sealed2, tag2), text = found
    square = multiply(xor(tag, tag2), power(xor(sealed, sealed2), 2**128 - 2))
    made = xor(xor(sealed, text), wanted)
    return [nonce, made, xor(tag, multiply(xor(sealed, made), square))]

def read(heard, texts):
    (_, _, sealed, _), (_, _, sealed2, _), text = pair(heard, texts)
    return xor(xor(sealed, sealed2), text)

def which():
    return "%s"
"""

DEFENCE = """
import hmac

def sealing(secret, number, guard):
    made = hmac.new(secret, number.to_bytes(8, "big"), "sha256").digest()
    nonce = bytes(a ^ b for a, b in zip(made[16:28], guard + bytes(8)))
    return [made[:16], nonce]
"""


CHECK = """
def sound(seen):
    return len({(each["key"], each["nonce"]) for each in seen}) == len(seen)
"""


def reference(student: str = "ann") -> HandIn:
    return HandIn(ATTACK % exercise.variant(seeds(13, student)[0]), DEFENCE, "guard")


def test_the_reference_gets_every_point() -> None:
    found = points(13, reference())
    assert len(found) == 11
    assert not missed(found)


def attacked(source: str, seed: Seed, nonces: str = "") -> str:
    with HandIn(source, "").loaded("attack") as ask:
        kind = exercise.WEAK.get(nonces, exercise.once)
        return tried("", "", "", lambda: exercise.forged(ask, seed, kind)).seen


@pytest.mark.parametrize("hole", exercise.WEAK)
def test_each_way_to_use_a_nonce_twice_lets_others_make_messages_and_without_it_nobody_does(hole: str) -> None:
    seed = seeds(13, "ann")[1]
    assert attacked(ATTACK, seed, hole) == "read as wanted"
    chat = exercise.Chat(seed, exercise.WEAK[hole])
    assert [chat.open(*each[1:]) for each in chat.heard] == chat.said  # it chats
    one, other = (chat.heard[place] for place in chat.pair)
    assert one.nonce == other.nonce
    strong = exercise.Chat(seed, exercise.once)
    assert len({each.nonce for each in strong.heard}) == exercise.HEARD
    (_, *first), (_, *second) = strong.heard[:2]
    assert strong.open(*exercise.made(first, second, strong.said[0], exercise.wanted(seed))) is None
    assert strong.open(*first) == strong.said[0]


def test_the_field_is_that_of_gcm() -> None:
    # test case 2 of McGrew and Viega, "The Galois/counter mode of operation": hash key, block, length
    h, block = bytes.fromhex("66e94bd4ef8a2c3b884cfa59ca342b2e"), bytes.fromhex("0388dace60b6a392f328c2b971b2fe78")
    hashed = multiply(xor(multiply(block, h), (128).to_bytes(16, "big")), h)
    assert hashed.hex() == "f38cbb1ad69223dcc3457ae5b6b0f885"
    assert multiply(block, power(block, 2**128 - 2)) == (1 << 127).to_bytes(16, "big")


def test_a_copy_of_the_real_one_has_its_guard_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exercise.of_a_copy() == "the same key, another nonce"
    monkeypatch.setattr(sealing, "random_bytes", lambda size: bytes(size))
    assert exercise.of_a_copy() == "the same key, the same nonce"


ATTACKS = {
    "does nothing": (exercise.TASK.attack, "nothing was made"),
    "repeats what was heard": ("def forge(heard, *_): return heard[0][1:]", "read as b'pay "),
    "turns bits": (ATTACK.replace("xor(tag, multiply(xor(sealed, made), square))", "tag"), "refused"),
    "returns no message": ("def forge(*_): return [b'', 1, b'']", "which is not [nonce, sealed, tag]"),
    "returns a short one": ("def forge(*_): return [b'', b'', b'']", "refused"),
    "fails": ("def forge(*_): return 1 / 0", "ZeroDivisionError"),
}


@pytest.mark.parametrize(("source", "told"), ATTACKS.values(), ids=ATTACKS)
def test_an_attack_that(source: str, told: str) -> None:
    assert told in attacked(source, seeds(13, "ann")[0], "short")


WHOLE, OWN, APART, COPY = (
    "defence: sender and receiver have the same", *(f"defence: {name}" for name in exercise.DEFENCES)
)  # fmt: skip
MADE = 'hmac.new(secret, number.to_bytes(8, "big"), "sha256").digest()'
CHEATS = {
    "refuses everything": ("def sealing(*_): return None", {WHOLE, OWN, APART, COPY}),
    "has no guard": (DEFENCE.replace("guard +", "bytes(4) +"), {COPY}),
    "takes a byte of the guard": (DEFENCE.replace("guard + bytes(8)", "guard[:1] + bytes(11)"), {COPY}),
    "adds up the guard": (DEFENCE.replace("guard + bytes(8)", "bytes([sum(guard) % 256]) + bytes(11)"), {COPY}),
    "has no secret": (DEFENCE.replace("hmac.new(secret", "hmac.new(b''"), {APART}),
    "has one key": (DEFENCE.replace("made[:16]", "secret[:16]"), {OWN, APART}),
    "counts up from the secret": (
        DEFENCE.replace(MADE, "((int.from_bytes(secret) + (number << 128)) % (1 << 256)).to_bytes(32)"), {APART},
    ),
    "counts one byte": (DEFENCE.replace("number.to_bytes(8,", "(number % 256).to_bytes(8,"), {OWN}),
    "throws dice": ("import os\ndef sealing(*_): return [os.urandom(16), os.urandom(12)]", {WHOLE, OWN, APART, COPY}),
    "has short keys": (DEFENCE.replace("made[:16]", "made[:8]"), {WHOLE, OWN, APART, COPY}),
}


@pytest.mark.parametrize(("defence", "misses"), CHEATS.values(), ids=CHEATS)
def test_a_defence_that(defence: str, misses: set[str]) -> None:
    assert set(missed(points(13, HandIn("def", defence)), "defence")) == misses


STEPS = """
import hashlib

def sealing(secret, number, guard):
    for _ in range(number):
        secret = hashlib.sha256(secret).digest()
    return [hashlib.sha256(secret + number.to_bytes(4, "big")).digest()[:16], guard + bytes(8)]
"""


def test_a_defence_may_go_from_one_secret_to_the_next() -> None:
    assert not missed(points(13, HandIn("def", STEPS)), "defence")


def test_a_defence_may_put_the_guard_elsewhere() -> None:
    inside = DEFENCE.replace('number.to_bytes(8, "big")', 'number.to_bytes(8, "big") + guard')
    assert not missed(points(13, HandIn("def", inside.replace("guard + bytes(8)", "bytes(12)"))), "defence")


def test_all_that_a_check_is_given_can_be_printed() -> None:
    unseen, builds = seeds(13, "ann")[1], (STRONG, *exercise.REVIEW.weak)
    given = [exercise.REVIEW.seen(build, unseen, run) for build in builds for run in range(exercise.REVIEW.runs)]
    assert all(len(repr(each)) < LINE for each in given)
    assert sum(len(repr(each)) + 1 for each in given) < MAX_PRINTED * 3 // 4


def test_two_students_differ_and_the_answers_of_one_fail_with_the_other() -> None:
    students = [f"s{number}" for number in range(30)]
    assert {exercise.variant(seeds(13, each)[0]) for each in students} == exercise.WEAK.keys()
    own, _ = seeds(13, "ann")
    hole = exercise.variant(own)
    other = next(each for each in students if exercise.variant(seeds(13, each)[0]) != hole)
    chat = exercise.Chat(own, exercise.WEAK[hole])
    one, two = (chat.heard[place] for place in chat.pair)
    answer = exercise.made([*one[1:]], [*two[1:]], chat.said[chat.pair[0]], exercise.wanted(own))
    fixed = HandIn(f"def forge(*_): return {answer!r}\ndef which(): return {hole!r}", "def")
    assert "attack: your chat accepts what you made" not in missed(points(13, fixed))
    assert "attack: a chat that you have not seen" in missed(points(13, fixed))
    assert len(missed(points(13, fixed, other), "attack")) == 6
