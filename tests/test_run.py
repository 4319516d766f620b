"""`scripts/run` in a terminal: its server ends with it, however that comes."""

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / "scripts" / "run"
PATIENCE = 30.0  # seconds


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the script, where all is set up already."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(RUN, tmp_path / "scripts")
    (tmp_path / "scripts" / "setup").write_text("#!/bin/sh\n")
    (tmp_path / "scripts" / "setup").chmod(0o755)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "securechat").symlink_to(Path(sys.executable).with_name("securechat"))
    return tmp_path


@pytest.mark.parametrize(
    ("end", "code"),
    [
        pytest.param(lambda pid: os.killpg(pid, signal.SIGHUP), 129, id="the terminal is closed"),
        pytest.param(lambda pid: os.kill(pid, signal.SIGTERM), 143, id="the script is told to end"),
    ],
)
def test_the_server_ends_with_the_script(folder: Path, end: Callable[[int], None], code: int) -> None:
    terminal, program = pty.openpty()
    process = subprocess.Popen(
        [folder / "scripts" / "run"],
        stdin=program, stdout=program, stderr=program, start_new_session=True,
        env={**os.environ, "SECURECHAT_PORT": "0"},
    )  # fmt: skip
    os.close(program)
    shown = b""
    try:
        while b"Your user name:" not in shown:
            assert select.select([terminal], [], [], PATIENCE)[0], shown
            shown += os.read(terminal, 4096)
        assert (folder / "data" / "chat.db").exists()
        end(process.pid)
        assert process.wait(PATIENCE) == code
        with pytest.raises(ProcessLookupError):  # nobody is left of its group: it has waited for the server
            os.killpg(process.pid, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(terminal)
