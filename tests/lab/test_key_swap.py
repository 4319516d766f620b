"""Exercise 3: three kinds of pins that a lying server gets past, and whose verdicts hold."""

import pytest

from securechat.client.pins import PinBook
from securechat.identity.pins import Pins
from securechat_lab.exercises import key_swap as exercise
from securechat_lab.kit.sandbox import Student, StudentError
from securechat_lab.kit.seeds import Seed
from securechat_lab.kit.task import HandIn, tried
from tests.lab.proofs import missed, points, seeds

ATTACK = """
def key_packages(target, account, honest, mine):
    return [mine] if account == target else honest

def which():
    return "%s"
"""

DEFENCE = """
def observe(known, verified, shown):
    return "accept" if known in (None, shown) else "hold"
"""

SCREENS = {"forgetful": ["a first contact"], "silent": ["a changed key"], "sloppy": []}


def reference(student: str = "ann") -> HandIn:
    return HandIn(ATTACK % exercise.variant(seeds(3, student)[0]), DEFENCE, "no")


def swap(seed: Seed) -> exercise.Swap:
    return lambda account, honest, mine: [mine if account == exercise.names(seed)[0] else honest]

CHECK = """
def sound(seen):
    return not any(each["known"] not in (None, each["shown"]) and each["sent"] for each in seen)
"""


def test_the_reference_gets_every_point() -> None:
    found = points(3, reference())
    assert len(found) == 9
    assert not missed(found)


@pytest.mark.parametrize("hole", exercise.WEAK)
def test_each_hole_lets_the_attacker_read_and_shows_on_the_screen_as_the_handout_says(hole: str) -> None:
    seed = seeds(3, "ann")[1]
    seen = exercise.play(seed, exercise.WEAK[hole], swap(seed), compared=True)
    assert (seen.words, seen.screen) == ("the attacker read it", SCREENS[hole])
    assert exercise.play(seed, exercise.WEAK[hole], None).words == "the friend read it"


def test_the_strong_client_holds_it_but_for_the_first_contact() -> None:
    seed = seeds(3, "ann")[1]
    assert exercise.play(seed, PinBook, swap(seed)).words == "held"
    assert exercise.play(seed, PinBook, None, compared=True).words == "the friend read it"
    assert exercise.play(seed, PinBook, swap(seed), met=False).words == "the attacker read it"  # nobody can


KNOWN = "defence: a friend you know gets what you write"
NEW = "defence: a friend you write to for the first time gets it"
PLAIN = "defence: another key in place of one that was not compared"
COMPARED = "defence: another key in place of one that was compared"
ALL = {KNOWN, NEW, PLAIN, COMPARED}
CHEATS = {
    "refuses everything": ("def observe(*_): return 'hold'", ALL),
    "lets nobody new in": ("def observe(known, verified, shown): return 'accept' if known == shown else 'hold'", ALL),
    "looks at what was compared alone": (
        "def observe(known, verified, shown): return 'hold' if verified and known != shown else 'accept'", {PLAIN},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("defence", "misses"), CHEATS.values(), ids=CHEATS)
def test_a_defence_that(defence: str, misses: set[str]) -> None:
    found = points(3, HandIn("def", defence))
    assert set(missed(found, "defence")) == misses


@pytest.mark.parametrize(("source", "told"), [
    ("def key_packages(target, account, honest, mine): return honest", "the friend read it"),
    ("def key_packages(target, account, honest, mine): return [mine]", "alice was alarmed"),
    ("def key_packages(target, account, honest, mine): return []", "alice was alarmed"),
    ("def key_packages(target, account, honest, mine): return [honest[0][::-1]]", "alice was alarmed"),
    ("def key_packages(target, account, honest, mine): return 5", "which is no list of a few key packages"),
    ("def key_packages(target, account, honest, mine): return [mine] * 9", "which is no list of a few key packages"),
    ("def key_packages(target, account, honest, mine): 1 / 0", "ZeroDivisionError"),
])  # fmt: skip
def test_an_attack_that_swaps_for_nobody_or_for_all_reads_nothing(source: str, told: str) -> None:
    own = seeds(3, "ann")[0]
    with HandIn(source, "").loaded("attack") as ask:
        seen = tried("", "", "", lambda: exercise.attack(ask, own, exercise.WEAK["silent"]).words).seen
    assert told in seen


def test_two_students_differ_and_the_answers_of_one_fail_with_the_other() -> None:
    students = [f"s{number}" for number in range(40)]
    assert {exercise.variant(seeds(3, each)[0]) for each in students} == exercise.WEAK.keys()
    assert len({exercise.names(seeds(3, each)[0]) for each in students}) > 20
    hole, hers = exercise.variant(seeds(3, "ann")[0]), {exercise.names(each)[0] for each in seeds(3, "ann")}
    others = {each: seeds(3, each)[0] for each in students}
    other = next(e for e, own in others.items() if exercise.variant(own) != hole and exercise.names(own)[0] not in hers)
    fixed = reference(other).attack.replace("account == target", f"account == {exercise.names(others[other])[0]!r}")
    assert {"attack: which hole your victim has", "attack: the secret of a victim that you have not seen"} <= set(
        missed(points(3, HandIn(fixed, "def")), "attack")
    )


@pytest.mark.parametrize("answer", ["True", "'Accept'", "None", "1 / 0"])
def test_a_verdict_that_is_none_holds_and_is_told(answer: str) -> None:
    with Student("defence.py", f"def observe(known, verified, shown): return {answer}") as student:
        verdicts = exercise.Verdicts(student)
        assert not verdicts.accepts(Pins("bob"), bytes(32))
    assert isinstance(verdicts.failure, StudentError)
