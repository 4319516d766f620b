"""Exercise 6: what sizes give away of eight phrases, and which padding leaves an attacker to chance."""

import pytest

from securechat.content import envelope
from securechat_lab.exercises import word_sizes as exercise
from securechat_lab.kit.task import HandIn
from tests.lab.proofs import missed, points, seeds

ATTACK = """
from collections import Counter

def guess(samples, sizes):
    counts = {}
    for size, phrase in samples:
        counts.setdefault(size, Counter())[phrase] += 1
    return [counts[min(counts, key=lambda known: abs(known - size))].most_common(1)[0][0] for size in sizes]

def pairs(events):
    found = Counter()
    for index, (time, person, way, _) in enumerate(events):
        if way == "up":
            for later, other, direction, _ in events[index + 1:]:
                if later - time > 100:
                    break
                if direction == "down" and other != person:
                    found[tuple(sorted((person, other)))] += 1
                    break
    return [list(pair) for pair, _ in found.most_common(3)]
"""

DEFENCE = """
def pad(length):
    whole = length + (1 if length < 64 else 2 if length < 16384 else 4)
    exponent = whole.bit_length() - 1
    low = (1 << (exponent - exponent.bit_length())) - 1
    return max(256 - whole, -whole & low)
"""

CHECK = """
from collections import Counter

def sound(seen):
    counts = {}
    for size, phrase in seen["short"]:
        counts.setdefault(size, Counter())[phrase] += 1
    return sum(max(each.values()) for each in counts.values()) <= 48
"""


def test_the_reference_gets_every_point() -> None:
    found = points(6, HandIn(ATTACK, DEFENCE, "no"))
    assert len(found) == 10
    assert not missed(found)


@pytest.mark.parametrize("student", [f"s{number}" for number in range(20)])
def test_for_each_student_the_weak_paddings_give_words_away_and_the_real_one_leaves_chance(student: str) -> None:
    seed = seeds(6, student)[0]
    plain, padme, real = (
        exercise.best(exercise.measure(seed, pad)) for pad in (exercise.none, exercise.padme, envelope.padding)
    )
    assert plain > padme > 2 * exercise.CHANCE
    assert real == exercise.SAID // exercise.PHRASES


def test_the_real_padding_is_within_what_is_asked_of_a_student() -> None:
    assert max(n + envelope.padding(n) for n in range(60, 251)) <= exercise.BUDGET
    assert max(envelope.padding(n) / n for n in exercise.LONG) <= exercise.OVERHEAD
    assert len({n + envelope.padding(n) for n in exercise.LONG}) <= exercise.DISTINCT


CHATS, SHORT = "defence: a real chat goes on with it", "defence: a short message stays within the budget"
LONG, ALIKE = "defence: a long one gets 12 % at most", "defence: eight phrases look alike"
FEW = "defence: long messages show few sizes"
ALL = {CHATS, SHORT, LONG, ALIKE, FEW}
CHEATS = {
    "adds as much as it can": ("def pad(length): return 65536", ALL),
    "has a floor alone": (DEFENCE.replace(", -whole & low", ", 0"), {FEW}),
    "forgets the length that stands before": (DEFENCE.replace("length + (", "length + 0 * ("), {ALIKE}),
    "has Padme alone": (DEFENCE.replace("256", "0"), {ALIKE}),
    "is another one each time": ("import random\ndef pad(length): return random.randrange(100)", ALL),
    "is negative": ("def pad(length): return -1", ALL),
    "refuses": ("def pad(length): raise ValueError", ALL),
}


def test_whoever_the_student_is_a_padding_that_forgets_the_length_before_is_noticed() -> None:
    def forgetful(length: int) -> int:
        return max(256 - length, 0)

    for student in range(8):
        unseen = seeds(6, f"s{student}")[1]
        assert len(set(map(len, exercise.phrases(unseen)))) == exercise.PHRASES
        assert exercise.best(exercise.measure(unseen, forgetful)) > exercise.CHANCE
        assert exercise.best(exercise.measure(unseen, envelope.padding)) <= exercise.CHANCE


@pytest.mark.parametrize(("defence", "misses"), CHEATS.values(), ids=CHEATS)
def test_a_defence_that(defence: str, misses: set[str]) -> None:
    assert set(missed(points(6, HandIn("def", defence)), "defence")) == misses


def test_an_attack_that_says_one_phrase_always_is_left_to_chance() -> None:
    constant = "def guess(samples, sizes): return [samples[0][1]] * len(sizes)\ndef pairs(events): return []"
    found = missed(points(6, HandIn(constant, "def")), "attack")
    assert len(found) == 4  # that the strong one leaves it to chance counts only with the rest
    assert "25 of 200" in found["attack: your phrases, without padding"]


def test_two_students_differ_and_the_answers_of_one_fail_with_the_other() -> None:
    ann, bob = (seeds(6, name)[0] for name in ("ann", "bob"))
    assert exercise.phrases(ann) != exercise.phrases(bob)
    assert exercise.traffic(ann)[1] != exercise.traffic(bob)[1]
    learned = dict(exercise.measure(bob, exercise.none))
    fixed = f"def guess(samples, sizes): return [{learned!r}.get(size, '') for size in sizes]\ndef pairs(e): return []"
    assert "attack: your phrases, without padding" in missed(points(6, HandIn(fixed, "def")))
