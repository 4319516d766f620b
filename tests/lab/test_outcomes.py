"""A point counts only with its twin, and what was found so far is on the disk."""

import json
from dataclasses import replace
from pathlib import Path

from securechat_lab.kit.outcomes import IDLE, Outcome, gradescope, score, write_results
from securechat_lab.kit.sandbox import StudentError
from securechat_lab.kit.task import HandIn, predicted, tried, which

GOOD = Outcome("lets the friend in", "accepted", "accepted", "the friend's log")
KEEPS_OUT = Outcome("keeps the stranger out", "refused", "refused", "the stranger's log", twin=GOOD.point)


def test_refusing_everything_gets_no_marks_and_neither_does_doing_nothing() -> None:
    assert [each.counts for each in score([GOOD, KEEPS_OUT])] == [True, True]
    refusing = [Outcome(GOOD.point, "accepted", "refused", "the friend's log"), KEEPS_OUT]
    first, second = score(refusing)
    assert (first.counts, second.counts) == (False, False)
    assert second.why_not == "counts only together with: lets the friend in"
    nothing = [GOOD, Outcome(KEEPS_OUT.point, "refused", "accepted", "the stranger's log", twin=GOOD.point)]
    assert [each.counts for each in score(nothing)] == [True, False]


def test_twins_of_twins_count_and_two_may_be_each_others() -> None:
    one, two = Outcome("one", "a", "a", "", twin="two"), Outcome("two", "a", "a", "", twin="one")
    third = Outcome("third", "a", "a", "", twin="one")
    assert [each.counts for each in score([one, two, third])] == [True, True, True]
    broken = Outcome("two", "a", "b", "", twin="one")
    assert [each.counts for each in score([one, broken, third])] == [False, False, False]


def test_what_doing_nothing_has_counts_only_beside_a_point_of_the_same_part_that_took_work() -> None:
    idle, worked = replace(GOOD, point="door: lets the friend in", idle=True), replace(KEEPS_OUT, point="door: shuts")
    worked = replace(worked, twin=idle.point)
    assert [each.counts for each in score([idle, worked])] == [True, True]
    for other in (replace(worked, seen="accepted"), replace(worked, point="wall: shuts"), replace(worked, idle=True)):
        first = score([idle, other])[0]
        assert (first.counts, first.why_not) == (False, IDLE)
    refused = score([replace(idle, seen="refused"), worked])
    assert [each.why_not for each in refused] == [
        "expected accepted, seen refused", "counts only together with: door: lets the friend in",
    ]  # fmt: skip


def test_a_twin_that_was_never_tried_does_not_hold() -> None:
    assert not score([KEEPS_OUT])[0].counts


def test_results_are_what_gradescope_reads_and_say_with_what_they_were_found(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    write_results(file, [GOOD], finished=False)
    unfinished = json.loads(file.read_text())
    assert (unfinished["score"], unfinished["stdout_visibility"]) == (1, "hidden")
    assert "did not come to its end" in unfinished["output"]
    assert "Python 3." in unfinished["output"]
    write_results(file, [GOOD, KEEPS_OUT], finished=True)
    found = json.loads(file.read_text())
    assert [(each["name"], each["score"], each["max_score"]) for each in found["tests"]] == [
        (GOOD.point, 1, 1), (KEEPS_OUT.point, 1, 1),
    ]  # fmt: skip
    assert "did not come" not in found["output"]
    assert list(tmp_path.iterdir()) == [file]


def test_a_point_that_does_not_count_says_where_to_look() -> None:
    (told,) = gradescope([KEEPS_OUT], finished=True)["tests"]
    assert told["output"] == "counts only together with: lets the friend in; look at: the stranger's log"


def test_what_is_right_is_not_told_to_who_would_type_it_off() -> None:
    hand_in = HandIn("def which(): return 'no-dates'", "")
    with hand_in.loaded("attack") as ask:
        assert which("hole", "no-dates", "", ask, twin="").holds
        wrong = which("hole", "no-name", "", ask, twin="")
    assert not wrong.holds
    assert "no-name" not in repr(wrong)
    assert predicted("what", "old", HandIn("", "", "old"), "").holds
    assert not predicted("what", "old", HandIn("", "", "new"), "").holds
    late = predicted("what", "old", HandIn("", ""), "")
    assert not late.holds
    assert "old" not in repr(late)


def test_what_a_file_did_instead_of_answering_is_the_reason() -> None:
    def fails() -> str:
        raise StudentError("attack.py did not answer")

    assert score([tried("a point", "a verdict", "", fails)])[0].why_not == "attack.py did not answer"
