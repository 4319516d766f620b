"""One trial: an area's tests in a process of their own, on a copy of the work tree that has one mutant in it.

The process is forked from one that has imported what the tests need and the copy does not have; `collected` forks from
one that has imported the tests as well. Nothing in it writes bytecode, and the altered file has another time than the
unaltered one, so no cached bytecode hides an alteration. A trial that burns several times what the unaltered program
took is ended, and so is one that waits for ever: both have noticed.
"""

import importlib.util
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Final

from scripts.mutating.visits import Visits

ROOT: Final = Path(__file__).resolve().parents[2]

_COPIED: Final = (
    "pyproject.toml", "securechat", "lab", "tests", "scripts", "docs", "README.md", "CONTRIBUTING.md", "certs",
)  # fmt: skip
_IMPORTED: Final = (
    "argon2", "click", "cryptography.x509", "cryptography.hazmat.primitives.ciphers.aead",
    "cryptography.hazmat.primitives.asymmetric.ed25519", "cryptography.hazmat.primitives.serialization",
    "hypothesis.strategies", "hypothesis.stateful", "msgspec", "platformdirs", "precis_i18n", "prometheus_client",
    "prompt_toolkit", "pytest", "segno", "sqlcipher3", "trustme", "_pytest.assertion.rewrite",
)  # fmt: skip
_PATIENCE: Final = 120
"""Seconds until a trial that does nothing is ended, on a busy machine; most take two."""


def copy(folder: Path) -> None:
    """Make `folder` a copy of what git knows of the work tree, as it is now."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *_COPIED]
    names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


@contextmanager
def altered(path: Path, text: str) -> Iterator[None]:
    """While in it, the file `path` of the copy has another text."""
    kept, times = path.read_text(), path.stat()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(kept)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def prepare() -> None:
    """Import what every trial needs and no mutant touches."""
    for name in _IMPORTED:
        import_module(name)


def run(
    folder: Path, tests: Sequence[str], said: Path, plugins: Sequence[object] = (), seconds: float | None = None
) -> bool:
    """Whether the tests pass on the copy in `folder`; what they say goes to the file `said`.

    `seconds` of computing are granted to them.
    """
    said.write_bytes(b"")
    child = os.fork()
    if not child:
        if seconds is not None:
            grant(seconds)
        os._exit(pytest_on(folder, tests, said, plugins))
    return exit_code(child) == 0


def grant(seconds: float) -> None:
    """Let this process end when it has computed for more than these seconds."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))


def exit_code(child: int) -> int:
    """Wait until a trial has ended, or end it. Returns its exit code; one of a signal is negative."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def pytest_on(folder: Path, tests: Sequence[str], said: Path, plugins: Sequence[object]) -> int:
    """Run the tests in this process, which is a fork, and return pytest's exit code."""
    import pytest

    os.setsid()
    with said.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    sys.path[0] = os.environ["PYTHONPATH"] = str(folder)
    sys.dont_write_bytecode = not any(isinstance(each, Visits) for each in plugins)  # then it is for later trials
    spec = importlib.util.find_spec("securechat")
    assert spec is not None
    assert spec.origin == str(folder / "securechat" / "__init__.py"), "the tests would import what is not altered"
    options = ["--exitfirst", "--quiet", "--no-header", "--hypothesis-profile=few", "-p", "no:xdist", "--timeout=60"]
    rewritten = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # `prepare` was earlier
    files = [f"--basetemp={folder}.files"]  # where pytest keeps them by itself it clears away what others have left
    return int(pytest.main([*options, *rewritten, *files, *tests], [*plugins]))
