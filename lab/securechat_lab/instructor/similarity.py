"""Says which hand-ins look alike. It proves nothing: it says where to ask, in an oral.

Attacks and checks are compared by their tokens, whatever their names and comments are, and without what all were given.
Of tables, what stands in the column for people is compared by its words; predictions, as they are. Defences are left
out: of one to nine lines, they are alike by nature.
"""

import io
import keyword
import tokenize
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Final

from securechat.errors import UsageError
from securechat_lab.exercises import EXERCISES, Exercise, Number
from securechat_lab.instructor.course import Course
from securechat_lab.instructor.hand_ins import receive, sort_out
from securechat_lab.kit.task import HandIn

SHINGLE: Final = 6
"""Tokens in a row, or a third of them words."""
LEAST: Final = 20
"""Shingles that somebody has to have of their own, to be compared at all: less is alike by nature."""
ALIKE: Final = 0.7
"""Of all shingles of two, how many both have."""
LONG_PREDICTION: Final = 25
"""Characters: two who write the same word have thought the same."""

Shingles = frozenset[tuple[str, ...]]


def compare(course: Course, folder: Path) -> Iterator[str]:
    """Yield a sentence for each two hand-ins that look alike, the most alike first by exercise. Raises `UsageError`."""
    found, _ = sort_out(folder, course.roster())
    hand_ins: dict[str, dict[Number, HandIn]] = {}
    for who, paths in found.items():
        try:
            hand_ins[who] = receive(paths[0]).exercises
        except UsageError as error:
            yield f"{who}: left out: {error}"
    for exercise in EXERCISES:
        by_student = {who: each[exercise.number] for who, each in hand_ins.items() if exercise.number in each}
        for what, parts in _parts(exercise, by_student).items():
            for share, one, other in _pairs(parts):
                yield f"{exercise.number}, {what}: {one} and {other} have {share:.0%} in common"
        for one, other in combinations(sorted(by_student), 2):
            said = [" ".join(by_student[who].prediction.lower().split()) for who in (one, other)]
            if said[0] == said[1] and len(said[0]) >= LONG_PREDICTION:
                yield f"{exercise.number}, prediction: {one} and {other} have the same"


def _parts(exercise: Exercise, by_student: dict[str, HandIn]) -> dict[str, dict[str, Shingles]]:
    task = exercise.load()
    given = {"attack.py": task.attack, "check.py": task.review.check if task.review is not None else ""}
    parts: dict[str, dict[str, Shingles]] = {}
    for name, text in given.items():
        known = _shingles(_tokens(text), SHINGLE)
        sources = {who: each.attack if name == "attack.py" else each.check for who, each in by_student.items()}
        parts[name] = {who: _shingles(_tokens(source), SHINGLE) - known for who, source in sources.items()}
    words = {who: _words(each.claims) for who, each in by_student.items()}
    return parts | {"claims.md": {who: _shingles(each, SHINGLE // 3) for who, each in words.items()}}


def _pairs(parts: dict[str, Shingles]) -> list[tuple[float, str, str]]:
    long = {who: each for who, each in parts.items() if len(each) >= LEAST}
    shares = [
        (len(long[one] & long[other]) / len(long[one] | long[other]), one, other)
        for one, other in combinations(sorted(long), 2)
    ]
    return sorted((each for each in shares if each[0] >= ALIKE), reverse=True)


def _shingles(tokens: list[str], size: int) -> Shingles:
    return frozenset(tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1))


_SILENT: Final = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER)


def _tokens(source: str) -> list[str]:
    """The tokens of a program, in which every name is the same; of what is no program, its words."""
    found = []
    try:
        for each in tokenize.generate_tokens(io.StringIO(source).readline):
            if each.type == tokenize.NAME and not keyword.iskeyword(each.string):
                found.append("name")
            elif each.type not in _SILENT:
                found.append(tokenize.tok_name[each.type] if not each.string.strip() else each.string)
    except (tokenize.TokenError, SyntaxError):
        return source.split()
    return found


def _words(table: str) -> list[str]:
    """The words of the column for people."""
    rows = [line.split("|") for line in table.splitlines() if line.startswith("|")]
    return " ".join(row[3] for row in rows[2:] if len(row) > 3).lower().split()  # the third cell
