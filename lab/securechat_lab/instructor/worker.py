"""One check of one hand-in, in a process of its own: if it ends badly or not at all, nothing else does.

From standard input, {"number", "own", "unseen", "files", "prediction"}: the exercise, the two seeds and the hand-in; to
standard output, a line for each outcome as it comes, and then {"finished": true}. It knows nobody else's seeds.

    python -m securechat_lab.instructor.worker
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from securechat_lab.exercises import Number, find
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.seeds import Seed, read_seed
from securechat_lab.kit.stage import confined
from securechat_lab.kit.task import HandIn

FAULT: Final = "the check ends"
"""The point at which it is said why a check has not: it is worth nothing."""
CHECK_SECONDS: Final = 600.0
"""For one check: a minute where nothing else goes on, and much more on a machine that is busy."""


def main() -> None:
    """See the module."""
    given = json.load(sys.stdin)
    try:
        own, unseen = read_seed(given["own"]), read_seed(given["unseen"])
        with confined():
            for outcome in find(given["number"]).load().outcomes(HandIn(**given["hand_in"]), own, unseen):
                print(json.dumps(asdict(outcome)), flush=True)  # noqa: T201  # that is what it is for
    except Exception as error:
        why = f"a fault of the lab: {type(error).__name__}: {error!s:.200}"
        print(json.dumps(asdict(Outcome(FAULT, "it ends", why, "", worth=0, fault=True))), flush=True)  # noqa: T201
        raise
    print(json.dumps({"finished": True}), flush=True)  # noqa: T201  # as above


def run(
    number: Number, hand_in: HandIn, seeds: tuple[Seed, Seed], *,
    seconds: float = CHECK_SECONDS, came: Callable[[list[Outcome]], None] = lambda _: None,
) -> tuple[list[Outcome], bool]:  # fmt: skip
    """Check a hand-in in a process. Return what came, and whether it came to its end. `came`: told at each outcome."""
    given = {"number": number, "own": seeds[0].text, "unseen": seeds[1].text, "hand_in": hand_in.given}
    outcomes, finished = list[Outcome](), False
    with subprocess.Popen(
        [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for whoever grades: a check that was cut off is no result
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        watch = threading.Timer(seconds, process.kill)  # the sandbox of its student ends with it
        watch.start()
        try:
            process.stdin.write(json.dumps(given).encode())
            process.stdin.close()
            for line in process.stdout:
                said = json.loads(line) if line.endswith(b"\n") else {}  # it was ended within a line
                finished = said == {"finished": True}
                if "point" in said:
                    outcomes.append(Outcome(**said))
                    came(outcomes)
        finally:
            watch.cancel()
            process.kill()
    return outcomes, finished


if __name__ == "__main__":
    main()
