"""The folder of a fuzzed process goes with it; one that was killed leaves it to the next."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = "from tests.fuzz.kept import folder; print(folder(), flush=True); input()"


def start() -> tuple["subprocess.Popen[str]", Path]:
    """A process that has its folder, and runs until it gets a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_killed_process_leaves_its_folder_to_the_next_one_which_clears_it_away() -> None:
    (killed, left), (running, theirs) = start(), start()
    assert left.is_dir()
    killed.kill()
    killed.communicate()
    last, own = start()
    assert not left.exists()
    assert theirs.is_dir()  # the twin: it runs
    for process in (running, last):
        process.communicate("\n")
    assert (theirs.exists(), own.exists()) == (False, False)
