"""A server test that fails leaves threads of the server's behind; the run ends all the same, and says which.

With xdist it did anyway: what leads the workers ends them.
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


@pytest.mark.parametrize("wanted", [True, False], ids=["a test that passes", "a test that fails"])
def test_a_failing_test_with_a_thread_ends(tmp_path: Path, wanted: bool) -> None:  # noqa: FBT001 - parametrized
    (tmp_path / "test_accounts.py").write_text(ACCOUNTS.format(wanted=wanted))
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "tests.conftest"]
    command += ["--basetemp", str(tmp_path / "its own")]  # two that end at once clear the same link away
    done = subprocess.run(
        [*command, str(tmp_path / "test_accounts.py")], env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path,
        capture_output=True, text=True, check=False,  # what never ends, pytest's limit on this test does
    )  # fmt: skip
    assert done.returncode == (0 if wanted else 1), done.stdout + done.stderr
    assert ("1 passed" if wanted else "1 failed") in done.stdout
    assert ("left running: accounts" in done.stdout) == (not wanted)
