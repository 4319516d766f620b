"""Exercise 4: three histories for one person, and who notices."""

import pytest

from securechat.client.record import Record
from securechat_lab.exercises import one_history as exercise
from securechat_lab.kit.asked import Asked
from securechat_lab.kit.sandbox import Student, StudentError
from securechat_lab.kit.task import HandIn, tried
from tests.lab.proofs import missed, points, seeds

ATTACK = """
def relay(goal, seen):
    n = len(seen) - 1
    seq = [each["seq"] for each in seen]
    if n == 1:
        return []
    if goal == "swap":
        return [[2, seq[1]], [1, seq[2]]] if n == 2 else [[n, seq[n]]]
    if n == 3 and goal == "delay":
        return [[3, seq[2]], [1, seq[3]]]
    return [[n, seq[n] - (n > 1)]]
"""

DEFENCE = """
def agrees(seq, seen, senders_chain, own_chain):
    return seen < seq and senders_chain == own_chain
"""

CHECK = """
def sound(seen):
    for room in seen:
        lies = any(e["senders_chain"] != e["own_chain"] or e["seen"] >= e["seq"] for e in room["entries"])
        if lies != room["alarm"]:
            return False
    return True
"""


def test_the_reference_gets_every_point() -> None:
    found = points(4, HandIn(ATTACK, DEFENCE, "number"))
    assert len(found) == 9
    assert not missed(found)


@pytest.mark.parametrize("lie", exercise.LIES)
def test_each_lie_goes_unnoticed_by_the_weak_client_and_alarms_the_strong_one(lie: str) -> None:
    seed = seeds(4, "ann")[1]
    weak = exercise.play(seed, exercise.Unlinked(), exercise.LIES[lie])
    assert weak == exercise.wanted(lie)
    assert exercise.play(seed, Record(), exercise.LIES[lie]).startswith(weak.replace("no alarm", "an alarm: "))


def test_without_a_lie_both_read_everything_and_nobody_is_alarmed() -> None:
    for record in (Record(), exercise.Unlinked()):
        assert exercise.play(seeds(4, "ann")[1], record, None) == "1, 2, 3, 4; no alarm"


class Uncounted(exercise.Unlinked):
    def is_next(self, *_: object) -> bool:
        return True


def test_a_replay_fails_by_its_number_and_without_numbers_by_its_key() -> None:
    seed = seeds(4, "ann")[1]
    assert exercise.play(seed, exercise.Unlinked(), exercise.replay).startswith("1; an alarm: ")
    assert exercise.play(seed, Uncounted(), exercise.replay) == "1, ?, 2, 3, 4; no alarm"  # it cannot be read again


CALM = "defence: nobody is alarmed where all have one history"
NOTICED = {f"defence: {lie} is noticed" for lie in exercise.LIES}
CHEATS = {
    "alarms always": ("def agrees(*_): return False", {CALM, *NOTICED}),
    "looks at the place alone": ("def agrees(seq, seen, *_): return seen < seq", {"defence: redate is noticed"}),
}


@pytest.mark.parametrize(("defence", "misses"), CHEATS.values(), ids=CHEATS)
def test_a_defence_that(defence: str, misses: set[str]) -> None:
    assert set(missed(points(4, HandIn("def", defence)), "defence")) == misses


@pytest.mark.parametrize(("source", "told"), [
    ("def relay(goal, seen): return [[9, 9]]", "which is no list of"),
    ("def relay(goal, seen): return [[0, 'a']]", "which is no list of"),
    ("def relay(goal, seen): return seen[5]", "IndexError"),
])  # fmt: skip
def test_an_attack_that_relays_what_is_not_there_is_told(source: str, told: str) -> None:
    with HandIn(source, "").loaded("attack") as ask:
        seed = seeds(4, "ann")[0]
        seen = tried("", "", "", lambda: exercise.attack(ask, seed, "drop", exercise.Unlinked())).seen
    assert told in seen


def test_two_students_differ_and_an_attack_for_one_goal_misses_another() -> None:
    goals = {exercise.goal(seeds(4, f"s{number}")[0]) for number in range(20)}
    assert goals == exercise.GOALS.keys()
    own, unseen = seeds(4, "ann")
    fixed = ATTACK.replace("n = len", f"goal = {exercise.goal(own)!r}; n = len")
    other = exercise.unseen_goal(own, unseen)
    with HandIn(fixed, "").loaded("attack") as ask:
        assert exercise.attack(ask, unseen, other, exercise.Unlinked()) != exercise.wanted(other)


@pytest.mark.parametrize("answer", ["1", "None", "'yes'", "1 / 0"])
def test_a_verdict_that_is_none_alarms_and_is_told(answer: str) -> None:
    with Student("defence.py", f"def agrees(*_): return {answer}") as student:
        asked = Asked(student)
        record = exercise.ByVerdicts(asked)
        record.armed = True
        assert not record.agrees(2, 1, bytes(32), bytes(32))
    assert isinstance(asked.failure, StudentError)
