"""Grades a class, unattended: what was found in an exercise is kept at once, and a second run goes on there."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from securechat.errors import UsageError
from securechat.files import make_private_folder, write_atomically
from securechat_lab.exercises import EXERCISES, Number, find
from securechat_lab.instructor.course import GRADED, Course, Enrolled, as_csv
from securechat_lab.instructor.hand_ins import Received, receive, sort_out
from securechat_lab.instructor.worker import FAULT, run
from securechat_lab.kit.outcomes import VERSIONS, Outcome, score
from securechat_lab.kit.sandbox import runs_as_us
from securechat_lab.kit.task import HandIn

AT_ONCE: Final = max((os.cpu_count() or 1) // 2, 1)
"""Hand-ins that are checked at the same time: calls to student code have deadlines, and a scene has several threads."""

AS_YOU: Final = (
    "You are not root, so what students wrote runs as you: it could read the course's key and alter grades. "
    "lab/instructor.md says how to grade as somebody else."
)


@dataclass
class Grade:
    """What somebody gets."""

    who: Enrolled
    points: dict[Number, tuple[int, int]] = field(default_factory=dict)
    """By exercise, points and how many there are."""
    hints: int = 0
    problems: list[str] = field(default_factory=list)
    known: bool = True
    """Whether an earlier run has found all of it, or there was nothing to check."""


def grade(course: Course, hand_ins: Path, out: Path, tell: Callable[[str], None]) -> list[Grade]:
    """Grade everybody in the roster, and write the table after each. Raises `UsageError`.

    `tell`: gets a sentence of progress each time.
    """
    roster = course.roster()
    found, strangers = sort_out(hand_ins, roster)
    make_private_folder(course.folder / GRADED)
    if runs_as_us():
        tell(AS_YOU)
    for path in strangers:
        tell(f"{path.name}: nobody in the roster; a hand-in has the name of its author's id or address")
    grades = {each.id: Grade(each, problems=["nothing was handed in"]) for each in roster}
    began, done, known = time.monotonic(), 0, 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        handed_in = [each for each in roster if each.id in found]
        for one in pool.map(lambda who: _grade(course, who, found[who.id]), handed_in):
            grades[one.who.id] = one
            done += 1
            _write(out, list(grades.values()))
            known += one.known
            left = (time.monotonic() - began) / max(done - known, 1) * (len(found) - done)
            how = "from an earlier run" if one.known and one.points else f"{left / 60:.0f} min left"
            tell(f"{done} of {len(found)}, {how}: {_words(one)}")
    _write(out, list(grades.values()))
    return list(grades.values())


def _words(one: Grade) -> str:
    points = ", ".join(f"{number}: {got} of {of}" for number, (got, of) in one.points.items())
    return " - ".join(filter(None, (one.who.id, points, *one.problems)))


def _grade(course: Course, who: Enrolled, paths: list[Path]) -> Grade:
    one = Grade(who)
    try:
        if len(paths) > 1:
            raise UsageError(f"{len(paths)} hand-ins have this name: which one counts?")
        received = receive(paths[0])
        one.hints, one.problems = received.hints, list(received.problems)
        for number, found in _checked(course, who, received):
            one.known = one.known and found.known
            most = sum(each.worth for each in found.outcomes)
            one.points[number] = (sum(each.points for each in score(found.outcomes)), most)
            if not found.finished:
                why = next((each.seen for each in found.outcomes if each.point == FAULT), "what follows is missing")
                one.problems.append(f"the check of exercise {number} did not come to its end: {why}")
    except UsageError as error:
        one.problems.append(str(error))
    except Exception as error:  # noqa: BLE001  # one hand-in never stops the rest
        one.problems.append(f"it could not be graded, and that is a fault of the lab: {type(error).__name__}: {error}")
    return one


class _Found(NamedTuple):
    """What a check has come to."""

    outcomes: list[Outcome]
    finished: bool
    known: bool
    """Whether an earlier run has found it."""


def _checked(course: Course, who: Enrolled, received: Received) -> Iterator[tuple[Number, _Found]]:
    """Check by exercise what was not checked before, and keep it."""
    file = course.folder / GRADED / f"{hashlib.sha256(who.id.encode()).hexdigest()[:24]}.json"
    kept = _kept(file)
    for number, hand_in in received.exercises.items():
        digest, before = _digest(hand_in), kept.get(str(number), {})
        known = (before.get("digest"), before.get("versions")) == (digest, VERSIONS)
        if not known:
            outcomes, finished = run(number, hand_in, course.seeds(who.id, find(number).module))
            before = {"digest": digest, "versions": VERSIONS, "finished": finished,
                      "outcomes": [asdict(each) for each in outcomes]}  # fmt: skip
            if all(each.point != FAULT for each in outcomes):  # the lab's own: it is tried again by the next run
                kept[str(number)] = before
                write_atomically(file, json.dumps({"student": who.id, "exercises": kept}, indent=1).encode())
        yield number, _Found([Outcome(**each) for each in before["outcomes"]], before["finished"], known)


def _kept(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        kept: dict[str, Any] = json.loads(file.read_bytes())["exercises"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"what was found before is damaged: delete {file}") from None
    return kept


def _digest(hand_in: HandIn) -> str:
    return hashlib.sha256(json.dumps(hand_in.given).encode()).hexdigest()


def _write(out: Path, grades: list[Grade]) -> None:
    numbers = [each.number for each in EXERCISES]
    columns = ["id", "email", "name", "points", "of", "hints"]
    columns += [f"{number} {what}" for number in numbers for what in ("points", "of")] + ["problems"]
    rows: list[list[object]] = []
    for one in grades:
        total = [sum(each[place] for each in one.points.values()) for place in (0, 1)]
        by_exercise = [value for number in numbers for value in one.points.get(number, ("", ""))]
        who = one.who
        rows.append([who.id, who.email, who.name, *total, one.hints, *by_exercise, "; ".join(one.problems)])
    write_atomically(out, as_csv(columns, rows).encode())
