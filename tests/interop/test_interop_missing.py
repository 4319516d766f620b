"""What is not installed: its tests skip and say so, and with --no-skips they fail, in however many processes."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

WITHOUT_RINE = "import sys; sys.modules['rine_mls'] = None; import pytest; sys.exit(pytest.main(sys.argv[1:]))"


@pytest.mark.parametrize(("options", "code", "verdict"), [([], 0, "SKIPPED"), (["--no-skips"], 1, "ERROR")])
def test_what_is_missing_skips_but_not_in_ci(tmp_path: Path, options: list[str], code: int, verdict: str) -> None:
    tests = ["tests/interop/test_interop_rine.py", "-k", "group_info", "--basetemp", str(tmp_path / "its own")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RINE, *tests, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout
    assert verdict in done.stdout
    assert "rine-mls is not installed" in done.stdout


SKIPS = """
import pytest

def test_skips():
    pytest.skip("nothing to test with")
"""


def test_no_skips_holds_in_another_process_too(tmp_path: Path) -> None:
    (tmp_path / "test_skips.py").write_text(SKIPS)
    where = ["--rootdir", str(tmp_path), "-c", str(ROOT / "pyproject.toml"), str(tmp_path / "test_skips.py")]
    where += ["--basetemp", str(tmp_path / "its own")]
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-n", "1", "--no-skips", *where]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "may not skip with --no-skips" in done.stdout
    assert "nothing to test with" in done.stdout
