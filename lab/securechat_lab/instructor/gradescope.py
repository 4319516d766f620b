"""What `run_autograder` runs: grades one hand-in where Gradescope has put it, and writes what Gradescope reads.

    ROOT/source/seeds.json              by address, the two seeds of everybody
    ROOT/submission_metadata.json       who has handed in
    ROOT/submission/                    the files, unpacked by Gradescope
    ROOT/results/results.json           written after each point: whoever ends us takes nothing of it away

    python -m securechat_lab.instructor.gradescope ROOT
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from securechat.errors import SecurechatError, UsageError
from securechat.files import write_atomically
from securechat_lab.exercises import Number, find
from securechat_lab.instructor.autograder import SEEDS
from securechat_lab.instructor.hand_ins import receive
from securechat_lab.instructor.worker import run
from securechat_lab.kit.outcomes import VERSIONS, Outcome, gradescope
from securechat_lab.kit.seeds import read_token

RESULTS: Final = "results/results.json"


class Results:
    """What was found so far, by exercise."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._exercises: dict[Number, dict[str, Any]] = {}
        self.said: list[str] = []

    def note(self, number: Number, outcomes: list[Outcome], *, finished: bool) -> None:
        """Write down what an exercise has come to."""
        self._exercises[number] = gradescope(outcomes, finished=finished)
        self.write()

    def write(self) -> None:
        """Write all of it: whole, or not at all."""
        tests = [
            test | {"name": f"{number}: {test['name']}"}
            for number, each in self._exercises.items()
            for test in each["tests"]
        ]
        output = "\n".join(dict.fromkeys([*self.said, *(each["output"] for each in self._exercises.values())]))
        score = sum(each["score"] for each in self._exercises.values())
        told = {"score": score, "output": output or VERSIONS, "stdout_visibility": "hidden", "tests": tests}
        write_atomically(self._file, json.dumps(told, indent=1).encode())


def grade(root: Path) -> None:
    """Grade what is in `root`. What is wrong with a hand-in is said in its results."""
    results = Results(root / RESULTS)
    try:
        tokens = _seeds(root)
        received = receive(root / "submission")
        results.said = received.problems
        for number, hand_in in received.exercises.items():
            own, unseen = (each.part(find(number).module) for each in tokens)

            def came(outcomes: list[Outcome], number: Number = number) -> None:
                results.note(number, outcomes, finished=False)

            outcomes, finished = run(number, hand_in, (own, unseen), came=came)
            results.note(number, outcomes, finished=finished)
    except SecurechatError as error:
        results.said.append(f"This hand-in was not graded: {error}")
        results.write()


def _seeds(root: Path) -> list[Any]:
    """Return the two seeds of whoever has handed in. Raises `UsageError`."""
    try:
        users = json.loads((root / "submission_metadata.json").read_text())["users"]
        emails = [str(each["email"]).strip().lower() for each in users]
        known = json.loads((root / "source" / SEEDS).read_text())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"the autograder lacks something ({type(error).__name__}). Tell your instructor.") from None
    for email in emails:
        if email in known:
            return [read_token(each) for each in known[email]]
    raise UsageError(f"{', '.join(emails)[:200]} is not in the roster of this autograder. Tell your instructor.")


if __name__ == "__main__":
    grade(Path(sys.argv[1]))
