"""The second half of `scripts/setup`: make or refresh .venv. Standard library only; POSIX.

A stamp in .venv says what was installed from what: interpreter, place of the repository, pyproject.toml. While it still
fits there is nothing to do. Of several calls at once one works and the others wait.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "securechat.json"


def main(wanted: set[str]) -> None:
    """Leave a .venv that has securechat and at least the wanted extras, or exit with a message."""
    interpreter = f"{sys.version} {os.path.realpath(sys.executable)} {ROOT}"
    project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the process
        stamp = read_stamp()
        same_interpreter = stamp.get("interpreter") == interpreter and PYTHON.exists()
        extras = wanted | set(stamp.get("extras", [])) if same_interpreter else wanted
        if same_interpreter and stamp.get("project") == project and extras == set(stamp["extras"]):
            return
        print("setting up .venv (once; about a minute) ...", file=sys.stderr, flush=True)
        STAMP.unlink(missing_ok=True)  # until this is done there is nothing to rely on
        if not same_interpreter:
            run([sys.executable, "-m", "venv", "--clear", str(VENV)], "cannot make .venv")
        package = f"{ROOT}[{','.join(sorted(extras))}]" if extras else str(ROOT)
        run(
            [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", package],
            "pip cannot install what securechat needs; is there a network?",
        )
        STAMP.write_text(json.dumps({"interpreter": interpreter, "project": project, "extras": sorted(extras)}))


def read_stamp() -> dict[str, object]:
    """What is installed; nothing where there is no readable stamp."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def run(command: list[str], complaint: str) -> None:
    """Run a step quietly; show what it said only if it failed."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{complaint}")


if __name__ == "__main__":
    main(set(sys.argv[1:]))
