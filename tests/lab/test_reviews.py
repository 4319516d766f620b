"""Every exercise's table of claims, and the check that a student writes: each test is about all of them."""

from importlib import import_module
from pathlib import Path

import pytest

from securechat_lab.exercises import EXERCISES, Exercise
from securechat_lab.kit.outcomes import Scored, score
from securechat_lab.kit.review import ANSWERS, STRONG, Review
from securechat_lab.kit.seeds import Seed
from securechat_lab.kit.task import HandIn, Task
from tests.lab.proofs import seeds

THREAT_MODEL = " ".join((Path(__file__).parents[2] / "docs/threat-model.md").read_text().replace("**", "").split())


def review_of(exercise: Exercise) -> Review:
    review = exercise.load().review
    assert review is not None
    return review


CHECKED = [each for each in EXERCISES if each.load().review is not None and review_of(each).check]
REVIEWED = CHECKED + [each for each in EXERCISES if each.load().review is not None and each not in CHECKED]

# "module": all tests of one exercise run one after the other, as its weak builds are let run once in a process.
reviewed = pytest.mark.parametrize("exercise", REVIEWED, ids=lambda each: each.folder, scope="module")
checked = pytest.mark.parametrize("exercise", CHECKED, ids=lambda each: each.folder, scope="module")


def reviewed_points(
    exercise: Exercise, own: Seed, unseen: Seed, *, check: str = "", claims: str = ""
) -> dict[str, Scored]:
    """What table and check get, without the rest of the exercise."""
    only = Task("", "", "", lambda *_: iter(()), review=review_of(exercise))
    found = score(list(only.outcomes(HandIn("", "", check=check, claims=claims), own, unseen)))
    return {each.outcome.point: each for each in found}


def counting(found: dict[str, Scored], about: str) -> list[str]:
    return [point for point, each in found.items() if each.counts and point.startswith(about)]


def filled(review: Review, seed: Seed, answers: dict[str, str]) -> str:
    """A student's table, with these answers."""
    table = review.table(seed)
    for says, answer in answers.items():
        assert f"| ? | {says} |" in table
        table = table.replace(f"| ? | {says} |", f"| {answer.title()} |  {says} |")
    assert "| ? |" not in table
    return table


@reviewed
def test_who_fills_the_table_rightly_gets_all_of_it_and_most_of_it_a_part(exercise: Exercise) -> None:
    review, (own, unseen) = review_of(exercise), seeds(exercise.number, "ann")
    right = review.answers(own)
    found = reviewed_points(exercise, own, unseen, claims=filled(review, own, right))
    assert len(counting(found, "claims")) == len(ANSWERS)
    one, other = list(right)[:2]
    unfilled = filled(review, own, right).replace(f"| {right[one].title()} |  {one} |", f"| ? | {one} |")
    told = reviewed_points(exercise, own, unseen, claims=unfilled)
    assert {each.outcome.seen for point, each in told.items() if point.startswith("claims")} == {
        f"not compared: 1 of {len(right)} rows have none of the three answers",
    }
    wrong = {says: next(each for each in ANSWERS if each != right[says]) for says in (one, other)}
    almost = filled(review, own, right | {one: wrong[one]})
    assert len(counting(reviewed_points(exercise, own, unseen, claims=almost), "claims")) == 1
    two = filled(review, own, right | wrong)
    assert counting(reviewed_points(exercise, own, unseen, claims=two), "claims") == []


@reviewed
def test_a_table_tells_nobody_how_many_rows_have_which_answer(exercise: Exercise) -> None:
    """By filling it with one answer, or with one answer and another one in a single row, which is tried in each."""
    review, (own, unseen) = review_of(exercise), seeds(exercise.number, "ann")
    right, told = review.answers(own), set()
    for answer in ANSWERS:
        same = dict.fromkeys(right, answer)
        for guess in (same, *(same | {says: other} for says in right for other in ANSWERS)):
            if sum(guess[says] != right[says] for says in right) > 1:
                found = reviewed_points(exercise, own, unseen, claims=filled(review, own, guess))
                told |= {each.outcome.seen for point, each in found.items() if point.startswith("claims")}
    assert told == {"not compared: of the whole table, more than one row is wrong"}
    for answer in ANSWERS:
        assert sum(each != answer for each in right.values()) > 1, answer


@reviewed
def test_of_every_weak_build_something_holds_is_broken_and_is_not_claimed(exercise: Exercise) -> None:
    review, seed = review_of(exercise), seeds(exercise.number, "ann")[1]
    for build in review.weak:
        seen = review.seen(build, seed)
        measured = [claim.holds(seen) for claim in review.claims if claim.holds is not None]
        assert set(measured) == {True, False}, build
    assert None in [claim.holds for claim in review.claims]


@checked
def test_of_the_strong_build_everything_holds_that_is_claimed(exercise: Exercise) -> None:
    review = review_of(exercise)
    seen = review.seen(STRONG, seeds(exercise.number, "ann")[1])
    assert [claim.says for claim in review.claims if claim.holds is not None and not claim.holds(seen)] == []


@reviewed
def test_the_threat_model_says_what_each_claim_rests_on(exercise: Exercise) -> None:
    assert [claim.basis for claim in review_of(exercise).claims if claim.basis not in THREAT_MODEL] == []


@reviewed
def test_two_students_get_different_tables(exercise: Exercise) -> None:
    review, students = review_of(exercise), [seeds(exercise.number, f"s{number}")[0] for number in range(40)]
    assert len({review.table(seed) for seed in students}) > 30
    assert {review.mine(seed) for seed in students} == set(review.weak)


@checked
def test_the_reference_check_catches_every_weak_build_and_finds_the_strong_one_sound(exercise: Exercise) -> None:
    reference = import_module(f"tests.lab.test_{exercise.module}").CHECK
    found = reviewed_points(exercise, *seeds(exercise.number, "ann"), check=reference)
    about = {point: each for point, each in found.items() if point.startswith("check: ")}
    assert len(about) == 1 + len(review_of(exercise).weak) > 2
    assert {point: each.why_not for point, each in about.items() if not each.counts} == {}


@checked
@pytest.mark.parametrize("source", [
    "", "def sound(seen): return True", "def sound(seen): return False", "def sound(seen): return 1",
    "def sound(seen): raise ValueError", "template",
], ids=["nothing", "all sound", "all weak", "no verdict", "raises", "as it was given"])  # fmt: skip
def test_a_check_that_knows_nothing_gets_nothing(exercise: Exercise, source: str) -> None:
    source = review_of(exercise).check if source == "template" else source
    assert counting(reviewed_points(exercise, *seeds(exercise.number, "ann"), check=source), "check") == []


@checked
def test_a_check_that_knows_what_was_seen_on_one_machine_fails_on_another(exercise: Exercise) -> None:
    review, (own, unseen) = review_of(exercise), seeds(exercise.number, "ann")
    known = repr(review.seen(STRONG, own.part("unseen")))
    assert known != repr(review.seen(STRONG, unseen))
    learned = f"def sound(seen): return hash(repr(seen)) == hash({known!r})"
    assert counting(reviewed_points(exercise, own, unseen, check=learned), "check") == []
