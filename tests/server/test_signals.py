"""The signals of a server: each is heeded, whichever of its threads the system gives it to."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server_process import ServerProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can send a signal to another's thread")


@pytest.fixture
def server(certificates: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(certificates, tmp_path / "data") as server:
        yield server


def send_to_another_thread(pid: int, number: signal.Signals) -> None:
    """Give a signal to another thread than the main one, as the system does when that one is not awake."""
    other = next(int(task.name) for task in Path(f"/proc/{pid}/task").iterdir() if int(task.name) != pid)
    assert ctypes.CDLL(None, use_errno=True).tgkill(pid, other, number) == 0, os.strerror(ctypes.get_errno())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_whichever_thread_it_reaches(server: ServerProcess, number: signal.Signals) -> None:
    send_to_another_thread(server.process.pid, number)
    assert server.wait() == 0


def test_a_reload_is_heeded_whichever_thread_is_asked(server: ServerProcess) -> None:
    send_to_another_thread(server.process.pid, signal.SIGHUP)
    deadline = time.monotonic() + 60
    while '"reloaded"' not in server.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert server.end(signal.SIGTERM) == 0


def test_an_end_is_heeded_behind_a_storm_of_reloads(server: ServerProcess) -> None:
    for _ in range(2000):
        server.process.send_signal(signal.SIGHUP)
    assert server.end(signal.SIGTERM) == 0
