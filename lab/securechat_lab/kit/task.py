"""What an exercise consists of: files to fill, hints, and a check that yields outcomes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final, Literal

from securechat.errors import UsageError
from securechat_lab.cast.live import PATIENCE
from securechat_lab.kit.command import command
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.review import ANSWERS, STRONG, Review, read_table
from securechat_lab.kit.sandbox import MAX_PRINTED, Patience, Student, StudentError
from securechat_lab.kit.seeds import Seed

MAX_FILE: Final = 64 << 10
"""Bytes of a file that is handed in: the reference solutions have less than two."""


Ask = Callable[[], Student]
"""Returns a student's file, loaded; raises `StudentError` where it cannot be."""

MAX_DIGITS: Final = 9
"""Of a number that is predicted."""


@dataclass
class Printed:
    """What one file prints; it grows while the file runs."""

    name: str
    data: bytearray
    taken: int = 0

    def take(self) -> str:
        """Return what is new."""
        new = bytes(self.data[self.taken :])
        self.taken += len(new)
        return new.decode("utf-8", "replace")


@dataclass(frozen=True)
class HandIn:
    """What a student gives: files, and what they predicted before the first check."""

    attack: str
    defence: str
    prediction: str = ""
    check: str = ""
    claims: str = ""
    report: str = ""
    printed: list["Printed"] = field(default_factory=list)
    """What the files print, one after the other."""
    patience: Patience = field(default_factory=Patience, compare=False)
    """How long the files may keep their check waiting, all together."""

    @property
    def given(self) -> dict[str, str]:
        """What was handed in, by its name here."""
        return {name: getattr(self, name) for name in ("attack", "defence", "prediction", "check", "claims", "report")}

    def take_printed(self) -> list[tuple[str, str]]:
        """Return what was printed since this was asked last, each with the file's name."""
        return [(each.name, text) for each in self.printed if (text := each.take())]

    @contextmanager
    def loaded(self, which: Literal["attack", "defence", "check"]) -> Iterator[Ask]:
        """Hand out a file, loaded once and ended at the end.

        Where it cannot be loaded, each attempt says why: the points are tried, and missed, one by one.
        """
        name = f"{which}.py"
        try:
            student = Student(name, self.given[which], patience=self.patience)
        except StudentError as error:
            why = str(error)

            def broken() -> Student:
                raise StudentError(why)

            yield broken
            return
        self.printed.append(Printed(name, student.printed))
        with student:
            yield lambda: student


@dataclass(frozen=True)
class Task:
    """An exercise. For one hand-in and the same seeds `check` gives the same outcomes, wherever it runs."""

    attack: str
    """The file `attack.py` as a student gets it: it works, and does nothing. Empty: there is none."""
    defence: str
    """The same of `defence.py`."""
    pages: str
    """Its files in `exercises/handouts`: the handout is `.md`, and the hints are `-hints.txt`."""
    check: Callable[[HandIn, Seed, Seed], Iterator[Outcome]]
    """By the exercise's part of a student's seed, which their answers are about, and by one they never saw."""
    facts: Callable[[Seed], Mapping[str, str]] = lambda _seed: {}
    """What is personal in the handout: it has `$name` in these places."""
    prepare: Callable[[Seed, Path], None] = lambda _seed, _folder: None
    """Makes further files in a student's folder, such as a capture."""
    review: Review | None = None
    """The table of claims, and the student's own check."""
    report: str = ""
    """The form `report.md`, which a person reads; empty: there is none."""
    words: tuple[str, ...] = ()
    """What can be predicted; empty: a number, or with a report anything."""

    def page(self, seed: Seed) -> str:
        """Return the handout for somebody."""
        page = Template(_read(f"{self.pages}.md")).substitute(self.facts(seed))
        if self.review is not None:
            page += _REVIEW + (_OWN_CHECK.format(weak=len(self.review.weak)) if self.review.check else "")
        return (page + _FOOT).replace(_NAME, command())

    def prediction(self, text: str) -> str:
        """Return what somebody predicts, as it is compared. Raises `UsageError` for what none of it can be."""
        said = " ".join(text.lower().split())
        if self.report:  # a person reads it
            if not said:
                raise UsageError("A prediction is a sentence here.")
            return text
        if self.words:
            if said not in self.words:
                raise UsageError(f"A prediction is one of these words here: {', '.join(self.words)}.")
            return said
        if not (said.isascii() and said.isdigit() and len(said) <= MAX_DIGITS):
            raise UsageError("A prediction is a number here, in digits.")
        return str(int(said))

    def files(self, seed: Seed) -> dict[str, str]:
        """Return the files that somebody has to fill, by name, as they are at first."""
        given = {"attack.py": self.attack, "defence.py": self.defence, "report.md": self.report}
        if self.review is not None:
            given |= {"claims.md": self.review.table(seed), "check.py": self.review.check}
        return {name: text for name, text in given.items() if text}

    def outcomes(self, hand_in: HandIn, seed: Seed, unseen: Seed) -> Iterator[Outcome]:
        """Try all points of a hand-in: those of the exercise, its claims, and what its own check catches."""
        yield from self.check(hand_in, seed, unseen)
        if self.review is not None:
            yield from _claims(self.review, hand_in.claims, seed)
            if self.review.check:
                yield from _own_check(self.review, hand_in, unseen)

    @property
    def hints(self) -> list[str]:
        """The hints, each a paragraph: the first ones say less."""
        return _read(f"{self.pages}-hints.txt").strip().split("\n\n")


_REVIEW: Final = """
**Claims.** `claims.md` has a table to fill: does each sentence hold for your build, is it broken, or does nobody claim
it? Once no more than one row is wrong, there is a point for each of the three answers.
"""

_OWN_CHECK: Final = """
**A check of your own.** In `check.py`, write `sound`. It gets what was seen of a build, and says whether that build is
sound. It is tried on {weak} weak builds and on the strong one, which has no hole, all with other values than yours.
"""

_FOOT: Final = f"""
---
The commands are as you type them where you typed `start`; from a folder inside the lab they find it, too. What your
files print goes into `run.log`, point by point, of each file the first {MAX_PRINTED >> 10} KiB in a check.
`securechat lab watch N` lists the scenes that the newest check has played with people, and shows them.
`securechat lab hint N` helps with exercise N, and writes down that it did. A point has a *twin* where it is easily had
without: whoever refuses everything lets no attacker in, and no friend either. It counts only if its twin counts as
well, and where that does not, the check shows it as `--`. What a file has as it was handed out counts only once it has
more than that.
"""

_NAME: Final = "securechat lab"
"""How the handouts call the command."""


def _read(name: str) -> str:
    return resources.files("securechat_lab.exercises").joinpath("handouts", name).read_text(encoding="utf-8")


_PRINTED: Final = "run.log, under this point: what {} has printed"
SEEN_BY_ATTACK: Final = _PRINTED.format("attack.py")
SEEN_BY_DEFENCE: Final = _PRINTED.format("defence.py")
SEEN_BY_CHECK: Final = _PRINTED.format("check.py")
"""Where a student sees what their functions were given, and gave back."""
SILENT: Final = {
    _PRINTED.format(name): f"to see more, let {name} print what it was given, and check again: it comes into run.log"
    for name in ("attack.py", "defence.py", "check.py")
}
"""What is said in place of that where nothing was printed."""

RIGHT: Final = "the right one"

MAX_TOLD: Final = 60
"""Characters of an answer that is none, in the sentence that says so."""


def shortened(value: object) -> str:
    """Return how an answer looks in a sentence: of a long one the beginning."""
    text = repr(value)
    return text if len(text) <= MAX_TOLD else f"{text[:MAX_TOLD]} ..."


def which(point: str, right: str, where: str, ask: Ask, *, twin: str) -> Outcome:
    """Ask `which` of a file. What is right is not shown: it would be typed off."""

    def said() -> str:
        given = ask().call("which")
        return RIGHT if given == right else f"another one: {given!r:.40}"

    return tried(point, RIGHT, where, said, twin=twin)


def predicted(what: str, right: str, hand_in: HandIn, twin: str) -> Outcome:
    """Compare what was predicted; what is right is shown to those only who have predicted something."""
    if not hand_in.prediction:
        return Outcome(what, "one before the first check", "no prediction", "README.md, step 1", twin)
    return Outcome(what, f'"{right}"', f'"{hand_in.prediction:.40}"', "README.md, step 1", twin)


def tried(
    point: str, expected: str, where: str, attempt: Callable[[], str], *, twin: str = "", idle: bool = False
) -> Outcome:
    """Make an attempt and say what was seen; what a student's file did instead of answering is seen, too."""
    try:
        seen = attempt()
    except StudentError as error:
        return Outcome(point, expected, str(error), where, twin, idle=idle, fault=True)
    except AssertionError:  # a barrier that was waited for in vain (`stage.until`): no hand-in stops the check
        seen = f"nothing of what was waited for came within {PATIENCE:.0f} s"
    return Outcome(point, expected, seen, where, twin, idle=idle)


def _claims(review: Review, table: str, seed: Seed) -> Iterator[Outcome]:
    """Compare a table with what was seen of the build; no row is said to be right or wrong, and no number of rows.

    Until all rows are filled, and but one of them rightly, nothing else is said: whoever writes one answer into every
    row would be told how many rows have it.
    """
    given = read_table(table)
    rows = [each.says for each in review.claims]
    empty = sum(given.get(says) not in ANSWERS for says in rows)
    for answer in ANSWERS:

        def compared(answer: str = answer) -> str:
            if empty:
                return f"not compared: {empty} of {len(rows)} rows have none of the three answers"
            right = review.answers(seed)
            wrong = [says for says in right if given.get(says) != right[says]]
            if len(wrong) > 1:
                return "not compared: of the whole table, more than one row is wrong"
            return "not right" if any(answer in (right[says], given[says]) for says in wrong) else "right"

        yield tried(f'claims: which rows say "{answer}"', "right", "claims.md, and docs/threat-model.md", compared)


def _own_check(review: Review, hand_in: HandIn, unseen: Seed) -> Iterator[Outcome]:
    """Ask a student's own check about the strong build, its twin, and about each weak one."""
    builds = {STRONG: "check: finds the strong build sound"}
    builds |= {build: f"check: catches the weak build {build}" for build in review.weak}
    if not hand_in.check.strip():  # no build has to run for that
        yield from (Outcome(point, "a verdict", "check.py is empty", "check.py") for point in builds.values())
        return
    with hand_in.loaded("check") as ask:

        def verdict(build: str, expected: str) -> str:
            for run in range(review.runs):
                found = ask().call("sound", review.seen(build, unseen, run))
                if not isinstance(found, bool):
                    raise StudentError(f"sound() returned {found!r:.60}, which is neither True nor False.")
                if (said := "sound" if found else "weak") != expected:
                    return said
            return expected

        for build, point in builds.items():
            expected, twin = ("sound", review.weak[0]) if build == STRONG else ("weak", STRONG)
            yield tried(point, expected, SEEN_BY_CHECK,
                        lambda build=build, expected=expected: verdict(build, expected), twin=builds[twin])  # type: ignore[misc]  # bound now  # fmt: skip
