"""A student's folder: what was begun, written, predicted and found so far.

    securechat-lab/
        lab.json                      whose it is: the token of the course, or one for practice
        02-rogue-certificate/
            README.md                 the handout
            attack.py, defence.py, check.py, claims.md      to be filled
            run.log                   what the checks have found
            progress.json             hints that were taken, the prediction, the results

The lab writes into folders that it made, and into no others.
"""

import io
import json
import os
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, Self

from securechat import __version__
from securechat.errors import UsageError
from securechat_lab.exercises import EXERCISES, Exercise
from securechat_lab.kit.command import command
from securechat_lab.kit.outcomes import VERSIONS, Outcome, Scored, score
from securechat_lab.kit.seeds import Seed, practice, read_token
from securechat_lab.kit.task import MAX_FILE, HandIn

TO_FILL: Final = ("attack.py", "defence.py", "check.py", "claims.md", "report.md")
NAME: Final = "securechat-lab"
LINE: Final = 5_000
"""Characters of a line of `run.log` that a file printed: what most checks of one's own are given at once has fewer."""
_MARK: Final = "lab.json"
_PROGRESS: Final = "progress.json"


@dataclass(frozen=True)
class Desk:
    """One exercise in a student's folder."""

    folder: Path
    exercise: Exercise
    seed: Seed

    @property
    def begun(self) -> bool:
        """Whether it was started."""
        return (self.folder / _PROGRESS).is_file()

    @property
    def files(self) -> tuple[str, ...]:
        """The names of those that a student fills."""
        return tuple(self.exercise.load().files(self.seed))

    def begin(self) -> None:
        """Make its handout and its files. Those that are there stay; captures and the like are made once."""
        task = self.exercise.load()
        self.folder.mkdir(exist_ok=True)
        (self.folder / "README.md").write_text(task.page(self.seed))
        for name, text in task.files(self.seed).items():
            if not (self.folder / name).exists():
                (self.folder / name).write_text(text)
        if not self.begun:
            task.prepare(self.seed, self.folder)
            self._save({"hints": 0, "prediction": "", "checks": [], "asked": False})

    def reset(self) -> list[Path]:
        """Put the files back as they were at first, and return where those are that had been changed.

        Captures and the like are made anew: what is said in them is the same, and they differ in times and ports.
        """
        self._require_begun()
        task, kept = self.exercise.load(), []
        for name, text in task.files(self.seed).items():
            file = self.folder / name
            if file.exists() and file.read_bytes() != text.encode():
                kept.append(file.replace(_free(file)))
        self.begin()
        task.prepare(self.seed, self.folder)
        return kept

    def progress(self) -> dict[str, Any]:
        """Return hints, prediction and checks so far. Raises `UsageError`."""
        self._require_begun()
        try:
            found = json.loads((self.folder / _PROGRESS).read_text())
            hints, prediction, asked = int(found["hints"]), str(found["prediction"]), bool(found.get("asked"))
            return {"hints": hints, "prediction": prediction, "checks": list(found["checks"]), "asked": asked}
        except (OSError, ValueError, KeyError, TypeError) as error:
            again = f"Delete it, and type {command()} start {self.exercise.number}: your files stay."
            raise UsageError(f"{self.folder / _PROGRESS} is damaged: {error}. {again}") from None

    def hint(self) -> str:
        """Return the next hint; that it was taken is noted."""
        progress, hints = self.progress(), self.exercise.load().hints
        taken: int = progress["hints"]
        if taken >= len(hints):
            raise UsageError("There is no further hint. The handout says what to read.")
        progress["hints"] = taken + 1
        self._save(progress)
        return hints[taken]

    def predict(self, text: str) -> str:
        """Note what is expected, until the first check, and return it as it was noted. Raises `UsageError`."""
        progress = self.progress()
        if progress["checks"]:
            raise UsageError("A prediction is typed before the first check: by now you have seen what happens.")
        progress["prediction"] = self.exercise.load().prediction(text)
        self._save(progress)
        said: str = progress["prediction"]
        return said

    def hand_in(self) -> HandIn:
        """Return what is here. Raises `UsageError`, once also where nothing was predicted: a check ends that."""
        progress, number, graded = self.progress(), self.exercise.number, not self.exercise.load().report
        for name in self.files:
            if not (self.folder / name).exists():
                raise UsageError(f"{self.folder / name} is not there. {command()} start {number} makes it again.")
        given = {name: read_file(self.folder / name) for name in self.files}
        if graded and not (progress["prediction"] or progress["checks"] or progress["asked"]):
            self._save(progress | {"asked": True})
            late = f"{command()} predict {number} ..., or check once more to go without"
            raise UsageError(
                f"Nothing was checked: you have predicted nothing yet, and after a check it is too late. Type {late}."
            )
        return as_hand_in(given, progress["prediction"])

    def note(self, outcomes: list[Outcome], printed: Sequence[Iterable[tuple[str, str]]]) -> None:
        """Write down what a check has found, and what the files printed at each point, and after all of them."""
        progress, scored = self.progress(), score(outcomes)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        points, most = sum(each.points for each in scored), sum(each.worth for each in outcomes)
        progress["checks"].append({"time": now, "points": points, "of": most})
        self._save(progress)
        with (self.folder / "run.log").open("a") as log:
            log.write(f"=== {now}, {VERSIONS}\n")
            for each, said in zip_longest(scored, printed, fillvalue=None):
                if each or said:
                    log.writelines(f"{line}\n" for line in ("", *_section(each), *_printed(said or ())))

    def _require_begun(self) -> None:
        if not self.begun:
            raise UsageError(f"Begin with: {command()} start {self.exercise.number}")

    def _save(self, progress: dict[str, Any]) -> None:
        new = self.folder / f"{_PROGRESS}.new"
        new.write_text(json.dumps(progress, indent=1))
        new.replace(self.folder / _PROGRESS)


def here() -> Path:
    """Return the folder of the lab that somebody is in, however deep, or else the one beside them."""
    place = Path.cwd()
    return next((each for each in (place, *place.parents) if _is_lab(each)), Path(NAME))


def _is_lab(folder: Path) -> bool:
    """Whether a folder is one of ours: a `lab.json` that somebody else has put above us is none."""
    mark = folder / _MARK
    return mark.is_file() and (os.name == "nt" or mark.stat().st_uid == os.geteuid())


def _section(each: Scored | None) -> Iterator[str]:
    """The beginning of a section of `run.log`: a point, or what was printed after all of them."""
    if each is None:
        yield "at the end"
        return
    yield f"{each.outcome.point}: {'counts' if each.counts else 'misses'}"
    if each.why_not:
        yield f"    {each.why_not}"


def _printed(said: Iterable[tuple[str, str]]) -> Iterator[str]:
    return (f"    {name} printed: {_cut(line)}" for name, text in said for line in text.splitlines())


def _cut(line: str) -> str:
    """Shorten a line that nobody reads to its end."""
    return line if len(line) <= LINE else f"{line[:LINE]} ... and {len(line) - LINE:,} more characters"


def _free(file: Path) -> Path:
    """Return where something that was written goes: `attack.py.old1`, and so on."""
    number = 1
    while (free := file.with_name(f"{file.name}.old{number}")).exists():
        number += 1
    return free


class Workspace:
    """All of a student's exercises."""

    def __init__(self, folder: Path, seed: Seed) -> None:
        self.folder = folder
        self.seed = seed

    @classmethod
    def make(cls, folder: Path, token: str) -> Self:
        """Open a folder, or make it: for the token of a course, or without one for practice. Raises `UsageError`."""
        if (folder / _MARK).is_file():
            made = cls.open(folder)
            if token and read_token(token).text != made.seed.text:
                raise UsageError(f"{folder} is for another token. Name another folder: --folder.")
            return made
        for above in folder.resolve().parents:
            if _is_lab(above):
                raise UsageError(f"{folder} would be a lab inside the lab {above}: go there, or name another --folder.")
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} is there, and the lab has not made it: it writes into no such folder.")
        seed = read_token(token) if token else practice()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MARK).write_text(json.dumps({"version": __version__, "token": seed.text}))
        return cls(folder, seed)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a folder that was made. Raises `UsageError`."""
        try:
            return cls(folder, read_token(str(json.loads((folder / _MARK).read_text())["token"])))
        except FileNotFoundError:
            raise UsageError(f"{folder} is no folder of the lab. Begin with: {command()} start 0") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{folder / _MARK} is damaged: {error}") from None

    def desk(self, exercise: Exercise) -> Desk:
        """Return one exercise."""
        return Desk(self.folder / exercise.folder, exercise, self.seed.part(exercise.module))

    def pack(self) -> Path:
        """Put what is handed in into one file, `hand-in.zip`, and return it. Raises `UsageError`."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for desk in map(self.desk, EXERCISES):
                if desk.begun:
                    for name in (*desk.files, _PROGRESS):
                        archive.writestr(f"{desk.folder.name}/{name}", read_file(desk.folder / name))
            if not archive.namelist():
                raise UsageError("Nothing was begun yet: there is nothing to hand in.")
        file = self.folder / "hand-in.zip"
        file.write_bytes(packed.getvalue())
        return file


def as_hand_in(files: Mapping[str, str], prediction: str) -> HandIn:
    """Return what the files of an exercise are, by their names; one that is not there is empty."""
    attack, defence, check, claims, report = (files.get(name, "") for name in TO_FILL)
    return HandIn(attack, defence, prediction, check, claims, report)


def read_file(file: Path) -> str:
    """Return the text of a file that is handed in. Raises `UsageError`."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise UsageError(f"{file} is longer than {MAX_FILE >> 10} KiB.")
        return data.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{file} is no text in UTF-8.") from None
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
