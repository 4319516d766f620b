"""A server test that fails may leave threads of the server's behind; the run ends all the same, and says which.

With xdist what leads the workers ends them, unless they still wait for a server within a test.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ACCOUNTS = """\
from securechat.server.accounts.store import AccountStore

def test_accounts(tmp_path):
    accounts = AccountStore(tmp_path / "accounts.json")
    assert {wanted}
    accounts.close()
"""


SERVER = """\
import pytest
from securechat.server.app import Server
from tests.server import conftest

conftest.STOP_SECONDS = 2.0  # where it cannot be stopped at all

@pytest.fixture
def before(server, enter):
    enter("alice")
    assert {before}

@pytest.fixture
def after(server, enter):
    enter("alice")
    yield
    assert {after}

def test_before(before):
    pass

def test_body(server, enter):
    enter("alice")
    assert {body}

def test_without_a_fixture_that_stops_it(config, cheap_argon2):
    alone = Server(config)
    alone.start()
    assert {alone}
    alone.stop()

def test_in_the_midst_of_a_turn(server, enter):
    enter("alice")
    server._sequencer._lock.acquire()
    assert {turn}
    server._sequencer._lock.release()

def test_after(after):
    pass
"""

PLACES = ("before", "body", "alone", "turn", "after")


def run(folder: Path, text: str, *plugins: str) -> tuple[int, str]:
    """Have pytest run a file of tests in a process of its own; its exit code, and what it said."""
    (folder / "test_of_a_run.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "tests.conftest", *plugins]
    command += ["--basetemp", str(folder / "its own")]  # two that end at once clear the same link away
    done = subprocess.run(
        [*command, str(folder / "test_of_a_run.py")], env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=folder,
        capture_output=True, text=True, check=False,  # what never ends, pytest's limit on this test does
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("wanted", [True, False], ids=["a test that passes", "a test that fails"])
def test_a_failing_test_with_a_thread_ends(tmp_path: Path, wanted: bool) -> None:  # noqa: FBT001 - parametrized
    code, said = run(tmp_path, ACCOUNTS.format(wanted=wanted))
    assert code == (0 if wanted else 1), said
    assert ("1 passed" if wanted else "1 failed") in said
    assert ("left running: accounts" in said) == (not wanted)


@pytest.mark.parametrize(("broken", "workers"), [
    *((place, []) for place in (*PLACES, "nothing")),
    *((place, ["-n", "1"]) for place in ("alone", "turn")),  # those that leave something
], ids=lambda given: given if isinstance(given, str) else "xdist" if given else "one process")  # fmt: skip
def test_a_failing_test_of_a_server_ends_wherever_it_fails(tmp_path: Path, broken: str, workers: list[str]) -> None:
    text = SERVER.format(**{place: place != broken for place in PLACES})
    code, said = run(tmp_path, text, "-p", "tests.server.conftest", *workers)
    assert code == (broken != "nothing"), said
    passed = {"before": "4 passed, 1 error", "body": "1 failed, 4 passed", "alone": "1 failed, 4 passed",
              "turn": "1 failed, 4 passed, 1 error", "after": "5 passed, 1 error", "nothing": "5 passed"}  # fmt: skip
    assert passed[broken] in said, said
    assert ("the server does not stop" in said) == (broken == "turn")
    if not workers:
        assert ("left running: " in said) == (broken in ("alone", "turn"))
