"""No core dumps: what the programs have in their memory reaches no disk and no other process of the same user."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from securechat import certs
from tests.support.memory import blinkered
from tests.support.server_process import ServerProcess, server_environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prlimit, setpriv and /proc are Linux's")

LOOK = "import sys; open(f'/proc/{sys.argv[1]}/mem', 'rb')"
"""Opens the memory of another process. Being allowed to is what attaching to it takes, too (ptrace(2))."""

ORDINARY = "print('begun', flush=True); input()"

UNDER = [*blinkered(), "prlimit", "--core=unlimited"]
"""Any process may dump, and none may look into others by being root."""


@contextmanager
def begun(command: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has said its first line."""
    with subprocess.Popen(
        [*UNDER, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, env=server_environment()
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


@contextmanager
def server(folder: Path) -> Iterator[ServerProcess]:
    """One server, with certificates that are made for it; it is to have ended before the end."""
    certs.generate(folder / "certs", ("127.0.0.1",))
    with ServerProcess(folder / "certs", folder / "data", under=UNDER) as running:
        yield running
        running.wait()


def client_command(folder: Path, port: int) -> list[str]:
    """A client that registers and then waits for lines."""
    (folder / "password").write_text("correct horse\n")
    return [
        sys.executable, "-m", "tests.support.cheap", "client", "--register", "--user", "alice",
        "--server", f"127.0.0.1:{port}", "--ca", str(folder / "certs" / "ca.pem"), "--vault", str(folder / "vaults"),
        "--password-file", str(folder / "password"),
    ]  # fmt: skip


def may_be_looked_into(process: subprocess.Popen[bytes]) -> bool:
    """Whether another process of the same user may read its memory."""
    looker = [*blinkered(), sys.executable, "-c", LOOK, str(process.pid)]
    done = subprocess.run(looker, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0 or b"PermissionError" in done.stderr
    return done.returncode == 0


def dumps(process: subprocess.Popen[bytes]) -> bool:
    """Let it crash; whether the system dumped its memory."""
    process.send_signal(signal.SIGSEGV)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == -signal.SIGSEGV
    return os.WCOREDUMP(status)


def test_neither_client_nor_server_leaves_a_dump_or_can_be_looked_into(tmp_path: Path) -> None:
    with server(tmp_path) as running, begun(client_command(tmp_path, running.port), Path.cwd()) as client:
        for process in (client, running.process):
            limits = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
            (core,) = [line.split() for line in limits if line.startswith("Max core file size")]
            assert core[4:6] == ["0", "0"]
            assert not may_be_looked_into(process)
            assert not dumps(process)


def test_an_ordinary_program_leaves_a_dump_and_can_be_looked_into(tmp_path: Path) -> None:
    with begun([sys.executable, "-c", ORDINARY], tmp_path) as process:
        assert may_be_looked_into(process)
        assert dumps(process)
