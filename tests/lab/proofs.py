"""What is shown of every exercise: who gets which points."""

import subprocess
import sys
from pathlib import Path

from securechat_lab.exercises import Number, find
from securechat_lab.kit.outcomes import Scored, score
from securechat_lab.kit.seeds import Seed, graded_seed, token_of
from securechat_lab.kit.task import HandIn

COURSE = bytes(range(32))


def seeds(number: Number, student: str) -> tuple[Seed, Seed]:
    """A student's seed for an exercise, and the one by which they are graded."""
    module = find(number).module
    return token_of(COURSE, student).part(module), graded_seed(COURSE, student).part(module)


def points(number: Number, hand_in: HandIn, student: str = "ann") -> dict[str, Scored]:
    """What a hand-in gets, by point."""
    own, unseen = seeds(number, student)
    return {each.outcome.point: each for each in score(list(find(number).load().check(hand_in, own, unseen)))}


def runs_alone(source: str, folder: Path) -> str:
    """What a student's file prints that is run by itself in their folder."""
    (folder / "attack.py").write_text(source)
    command = [sys.executable, "-I", str(folder / "attack.py")]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=True, timeout=60).stdout


def missed(found: dict[str, Scored], about: str = "") -> dict[str, str]:
    """The points that do not count, and why not."""
    return {point: each.why_not for point, each in found.items() if not each.counts and point.startswith(about)}
