"""The system's limits of files and threads: those who are in are served, and a start says what is missing."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from securechat import certs
from securechat.server.accounts.passwords import WORKERS
from securechat.server.app import BLOB_WORKERS
from securechat.transport.tls import client_context
from securechat.wire import messages as m
from securechat_lab.cast.live import PATIENCE
from securechat_lab.cast.wire_client import Person, WireClient
from tests.support.faulty_system import FaultySystem
from tests.support.memory import transparent
from tests.support.server_process import ServerProcess, server_command, server_environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prlimit, /proc and LD_PRELOAD are Linux's")

FILES = 100

THREADS = 10 + WORKERS + BLOB_WORKERS
"""So many the server starts, beside the one it begins with: those that hash passwords or move files, and ten others."""


class Site:
    """A server that may have FILES files open, and two people who talk there."""

    def __init__(self, folder: Path) -> None:
        certs.generate(folder / "certs", ("127.0.0.1",))
        self.tls = client_context(folder / "certs" / "ca.pem")
        limit = ["prlimit", f"--nofile={FILES // 2}:{FILES}"]  # the hard one counts: the server asks for it
        self.server = ServerProcess(folder / "certs", folder / "data", under=[*transparent(), *limit])
        self.alice, self.bob = (Person(self.server.port, self.tls, name).register() for name in ("alice", "bob"))
        self.alice.login()
        self.bob.login()
        self.bob.read_inbox()
        assert isinstance(self.alice.open_direct("bob"), m.Accepted)
        self.conversation = self.bob.accept_welcome()

    @property
    def pid(self) -> int:
        return self.server.process.pid

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def complaints(self, event: str) -> int:
        return [line["event"] for line in self.server.lines()].count(event)

    def knock(self) -> WireClient | None:
        """Connect; None if the server closes the connection unanswered."""
        try:
            return WireClient(self.server.port, self.tls)
        except (AssertionError, ConnectionError):
            return None

    def talk(self) -> None:
        """Say something that the peer reads from the store, because it has not subscribed before."""
        said = self.alice.say(self.conversation, "here?")
        assert isinstance(said, m.Accepted), said
        self.bob.subscribe(self.conversation, after=1)
        assert self.bob.take(m.Entry, lambda entry: entry.seq == said.seq).seq == said.seq
        self.bob.received.clear()

    def end(self, *guests: WireClient) -> None:
        for client in (self.alice, self.bob, *guests):
            client.drop()
        assert self.server.end(signal.SIGTERM) == 0
        assert "Traceback" not in self.server.log.read_text()


def test_connections_stop_short_of_the_limit_of_files_and_go_on_when_some_have_gone(tmp_path: Path) -> None:
    site = Site(tmp_path)
    guests = []
    while (guest := site.knock()) is not None:
        guests.append(guest)
    assert len(guests) + 2 == FILES - 64
    for _ in range(5):
        assert site.knock() is None
    assert site.complaints("turned away: no more files may be open") == 1
    site.talk()
    assert isinstance(guests[0].ask(m.Register, "carol", b"c" * 32), m.Registered)  # writes accounts.json
    guests.pop().drop()
    deadline = time.monotonic() + PATIENCE
    while (guest := site.knock()) is None:
        assert time.monotonic() < deadline
    site.end(guest, *guests)


def test_without_a_single_free_file_who_is_in_is_served_and_the_others_wait(tmp_path: Path) -> None:
    site = Site(tmp_path)
    resource.prlimit(site.pid, resource.RLIMIT_NOFILE, (site.open_files(), FILES))
    with contextlib.ExitStack() as waiting:
        deadline = time.monotonic() + PATIENCE
        while not site.complaints("cannot accept a connection"):
            assert time.monotonic() < deadline
            # More than one: the limit is one of numbers, and some below it may be free.
            waiting.enter_context(socket.create_connection(("127.0.0.1", site.server.port)))
            time.sleep(0.05)
        site.talk()
        assert site.complaints("cannot accept a connection") == 1
        resource.prlimit(site.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        guest = site.knock()
        assert guest is not None
        site.end(guest)


def refused(folder: Path, data: str, *under: str, environment: dict[str, str] | None = None) -> tuple[str, str]:
    """Start a server that has to end by itself with exit code 2; what it has said."""
    command = [*under, *server_command(folder / "certs", folder / data)]
    ended = subprocess.run(
        command, env=server_environment(environment), text=True, capture_output=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode == 2, ended.stderr
    return ended.stdout, ended.stderr


def test_a_start_that_gets_too_few_threads_ends_and_says_so(tmp_path: Path) -> None:
    certs.generate(tmp_path / "certs", ("127.0.0.1",))
    system = FaultySystem(tmp_path)
    for most in (2, 6, THREADS - 1):
        system.set(most_threads=most)
        output, errors = refused(tmp_path, "data", environment=system.environment)
        assert output == "", errors
        assert "can't start new thread: the system allows too few of them" in errors
        assert "Traceback" not in errors
    system.set(most_threads=THREADS)
    with ServerProcess(tmp_path / "certs", tmp_path / "data", environment=system.environment) as ready:
        assert ready.end(signal.SIGTERM) == 0


@pytest.fixture
def stranger() -> Iterator[tuple[Path, list[str]]]:
    """A user who has no process yet: their folder, and the command that runs another one as them.

    They may read what root may, so that the program is found wherever it is; pytest's folders are for root alone.
    """
    user = 50_000 + os.getpid() % 10_000  # another one for each run of the tests
    read_all = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certs.generate(folder / "certs", ("127.0.0.1",))
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user, user)
        yield folder, ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *read_all]


@pytest.mark.skipif(os.geteuid() != 0, reason="RLIMIT_NPROC counts all that a user runs, and only root can be another")
def test_a_user_who_may_have_too_few_processes_is_told_so(stranger: tuple[Path, list[str]]) -> None:
    """The real limit, which the system counts in threads."""
    folder, as_them = stranger
    for most in (1, 6, THREADS):
        output, errors = refused(folder, "data", *as_them, "prlimit", f"--nproc={most}")
        assert output == "", errors
        assert "can't start new thread: the system allows too few of them; see `ulimit -u`" in errors
        assert "Traceback" not in errors
    under = [*as_them, "prlimit", f"--nproc={THREADS + 1}"]
    with ServerProcess(folder / "certs", folder / "data", under=under) as ready:
        assert ready.end(signal.SIGTERM) == 0


def test_a_start_that_gets_too_few_files_ends_and_says_so(tmp_path: Path) -> None:
    certs.generate(tmp_path / "certs", ("127.0.0.1",))
    output, errors = refused(tmp_path, "data", "prlimit", "--nofile=64:64")
    assert output == "", errors
    assert "too few open files: 64 are needed without any client" in errors
