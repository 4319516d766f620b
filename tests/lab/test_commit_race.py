"""Exercise 10: three rules by which a member remains, and the one by which one commit an epoch enters."""

import pytest

from securechat.server.sequencer.commits import accepts_commit
from securechat_lab.exercises import commit_race as exercise
from securechat_lab.kit.asked import Asked
from securechat_lab.kit.sandbox import Student, StudentError
from securechat_lab.kit.task import HandIn, tried
from tests.lab.proofs import missed, points, seeds

ATTACK = """
def commits(epoch, log):
    return [epoch, epoch + 9]

def which():
    return "%s"
"""

DEFENCE = """
def may_enter(head, epoch):
    print("the log is in epoch", head, "and a commit was made in", epoch)
    return head == epoch
"""

CHECK = """
def sound(seen):
    return not any(each["read"] for each in seen)
"""


def reference(student: str = "ann") -> HandIn:
    return HandIn(ATTACK % exercise.variant(seeds(10, student)[0]), DEFENCE, "36")


def test_the_reference_gets_every_point() -> None:
    found = points(10, reference())
    assert len(found) == 4 + 1 + 2 + len(exercise.TRICKS) + 1
    assert not missed(found)


REMAINS = {"late": {"first", "ahead"}, "newer": {"ahead"}, "any": {"first", "ahead"}}
TRICKS = dict(zip(("first", "ahead", "behind"), exercise.TRICKS.values(), strict=True))


@pytest.mark.parametrize("rule", exercise.WEAK)
def test_by_each_rule_mallory_remains_and_without_her_doing_anything_she_does_not(rule: str) -> None:
    seed, weak = seeds(10, "ann")[1], exercise.WEAK[rule]
    remains = {name for name, trick in TRICKS.items() if exercise.play(seed, weak, trick).words == "mallory read it"}
    assert remains == REMAINS[rule]
    seen = exercise.play(seed, weak, lambda *_: [])
    assert (seen.words, seen.removed) == ("mallory read nothing", True)


@pytest.mark.parametrize("ahead", [0, 1], ids=["is first", "runs ahead"])
def test_who_always_does_the_same_remains_at_one_of_two_servers_alone(ahead: int) -> None:
    for seed, unseen in (seeds(10, f"s{number}") for number in range(6)):
        rules = (exercise.variant(seed), exercise.unseen_variant(seed, unseen))
        seen = {exercise.play(seed, exercise.WEAK[rule], lambda epoch, _: [epoch + ahead]).words for rule in rules}
        assert seen == {"mallory read it", "mallory read nothing"}, rules


@pytest.mark.parametrize("trick", TRICKS)
def test_at_the_strong_server_she_goes_however_often_she_is_first(trick: str) -> None:
    seen = exercise.play(seeds(10, "ann")[1], accepts_commit, TRICKS[trick])
    assert (seen.words, seen.removed) == ("mallory read nothing", True)
    epochs = [each.epoch for each in seen.tries if each.taken]
    assert epochs == list(range(epochs[0], epochs[0] + len(epochs)))


def test_whom_the_server_tells_that_she_is_rid_of_mallory_may_be_wrong() -> None:
    """The sender alone takes its own commit for the one that counts."""
    seen = exercise.play(seeds(10, "ann")[1], exercise.WEAK["late"], TRICKS["first"])
    assert (seen.words, seen.removed) == ("mallory read it", True)


def test_eight_who_take_turns_hand_in_thirty_six_commits() -> None:
    assert exercise.every_one_once() == sum(range(1, 9))
    assert exercise.race(seeds(10, "ann")[1], accepts_commit) == (exercise.ROUNDS, 0)


ENTERS, NOBODY = "defence: in each round somebody enters", "defence: in no round anybody else does"
FIRST, AHEAD, BEHIND = (f"defence: {name} reads nothing" for name in exercise.TRICKS)
REAL = "defence: a real server with your rule, where somebody is put out"
ALL = {ENTERS, NOBODY, FIRST, AHEAD, BEHIND, REAL}
ONCE = """
entered = set()

def may_enter(head, epoch):
    new = epoch not in entered
    entered.add(epoch)
    return new
"""
CHEATS = {
    "refuses everything": "def may_enter(head, epoch): return False",
    "closes one hole, for what is late": "def may_enter(head, epoch): return epoch >= head",
    "closes another, for what is early": "def may_enter(head, epoch): return epoch <= head",
    "lets one in of each epoch, whichever it is": ONCE,
    "answers a number": "def may_enter(head, epoch): return int(head == epoch)",
    "is not there": "def may_leave(): pass",
}


@pytest.mark.parametrize("defence", CHEATS.values(), ids=CHEATS)
def test_a_defence_gets_no_point_that(defence: str) -> None:
    assert set(missed(points(10, HandIn("def", defence)), "defence")) == ALL


@pytest.mark.parametrize(("source", "told"), [
    (exercise.TASK.attack, "mallory read nothing"),
    ("def commits(epoch, log): return [epoch + 1]", "mallory read it"),  # ahead of all others: they cannot follow
    ("def commits(epoch, log): return [epoch + 17]", "she can make commits of epochs"),
    ("def commits(epoch, log): return [0]", "she can make commits of epochs"),
    ("def commits(epoch, log): return [epoch] * 5", "which is no list of 4 numbers or fewer"),
    ("def commits(epoch, log): return ['5']", "which is no list of 4 numbers or fewer"),
    ("def commits(epoch, log): return log[9]", "IndexError"),
])  # fmt: skip
def test_an_attack_that_hands_in_something_else_is_told(source: str, told: str) -> None:
    with HandIn(source, "").loaded("attack") as ask:
        seed, weak = seeds(10, "ann")[0], exercise.WEAK["newer"]
        assert told in tried("", "", "", lambda: exercise.attack(ask, seed, weak)).seen


@pytest.mark.parametrize(("answer", "told"), [
    ("list(range(epoch, epoch + 17))", "23, 24, ..., which is no list of 4 numbers or fewer."),
    ("[epoch - 1]", "she can make commits of epochs 10 to 26."),
], ids=["too many", "too early"])  # fmt: skip
def test_an_attack_that_goes_too_far_is_told_how_far_it_may(answer: str, told: str) -> None:
    with HandIn(f"def commits(epoch, log): return {answer}", "").loaded("attack") as ask:
        seen = tried("", "", "", lambda: exercise.attack(ask, seeds(10, "ann")[1], accepts_commit)).seen
    assert told in seen


def test_the_handout_says_how_many_races_there_are() -> None:
    assert f"It decides {exercise.ROUNDS} races of eight" in exercise.TASK.page(seeds(10, "ann")[0])


def test_two_students_differ_and_the_answers_of_one_fail_with_the_other() -> None:
    students = [f"s{number}" for number in range(40)]
    assert {exercise.variant(seeds(10, each)[0]) for each in students} == exercise.WEAK.keys()
    assert len({exercise.first_epoch(seeds(10, each)[0]) for each in students}) > 8
    hole, hers = exercise.variant(seeds(10, "ann")[0]), {exercise.first_epoch(each) for each in seeds(10, "ann")}
    theirs = {each: seeds(10, each)[0] for each in students}
    others = [each for each in students if exercise.first_epoch(theirs[each]) not in hers]
    other = next(each for each in others if exercise.variant(theirs[each]) != hole)
    epoch = exercise.first_epoch(theirs[other])
    fixed = reference(other).attack.replace("[epoch, epoch + 9]", f"[{epoch}, {epoch + 9}]")
    assert len(missed(points(10, HandIn(fixed, "def")), "attack")) == 4


@pytest.mark.parametrize("answer", ["1", "None", "'yes'", "1 / 0"])
def test_a_verdict_that_is_none_lets_nobody_in_and_is_told(answer: str) -> None:
    with Student("defence.py", f"def may_enter(*_): return {answer}") as student:
        asked = Asked(student)
        assert asked.yes("may_enter", 5, 5) is False
    assert isinstance(asked.failure, StudentError)
