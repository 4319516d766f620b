"""Outputs that take nothing: a reader that has gone (`| head`), a full disk. And what else ends a command."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from securechat.ui.exit_codes import ExitCode
from tests.support.live import LiveServer
from tests.support.server_process import server_environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes and /dev/full are POSIX's")

PROGRAM = [sys.executable, "-m", "tests.support.cheap"]
SECONDS = 60

GONE = "Error: Nobody reads the output any more: the rest of it was not shown.\n"
FULL = "Error: The system refuses: No space left on device. If that is a full disk, make room; then start again.\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server on which alice has an account, and unread messages of bob."""
    server = LiveServer(tmp_path_factory.mktemp("outputs"))
    for user in ("alice", "bob"):
        (server.folder / f"{user}.password").touch(mode=0o600)
        (server.folder / f"{user}.password").write_text("correct horse\n")
    assert run(server, ["recv", "--register", *options(server, "alice")])[0] == 0
    sent = run(server, ["send", "--register", "--to", "alice", *options(server, "bob")], typed=b"hello")
    assert sent == (0, "", "")
    yield server
    server.stop()


def options(site: LiveServer, user: str) -> list[str]:
    return [
        f"--user={user}", f"--server=localhost:{site.port}", f"--ca={site.ca}",
        f"--password-file={site.folder / user}.password", f"--vault={site.folder / 'vaults'}",
    ]  # fmt: skip


def run(
    site: LiveServer, command: list[str], *, typed: bytes = b"", output: int | None = None, errors: int | None = None
) -> tuple[int, str, str]:
    """Run a command to its end, with descriptors for what it prints. Returns exit code, output, complaints."""
    done = subprocess.run(
        [*PROGRAM, *command], input=typed, stdout=subprocess.PIPE if output is None else output,
        stderr=subprocess.PIPE if errors is None else errors, env=server_environment({}), cwd=site.folder,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    complaint = (done.stderr or b"").decode()
    assert "Traceback" not in complaint
    assert "Exception ignored" not in complaint
    return done.returncode, (done.stdout or b"").decode(), complaint


@pytest.fixture(params=["gone", "full"])
def broken(request: pytest.FixtureRequest) -> Iterator[tuple[int, str]]:
    """A descriptor that takes nothing, and the sentence about it."""
    if request.param == "gone":
        reader, descriptor = os.pipe()
        os.close(reader)
    elif not Path("/dev/full").exists():
        pytest.skip("/dev/full is Linux's")
    else:
        descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor, GONE if request.param == "gone" else FULL
    os.close(descriptor)


def commands(site: LiveServer) -> list[list[str]]:
    """One command of each kind, each of which prints something."""
    data = f"--data={site.folder / 'data'}"
    alice = options(site, "alice")
    return [
        ["--help"],
        ["admin", "users", "--help"],
        ["admin", data, "users", "list"],
        ["doctor", data],
        ["config", "show", "--user", "alice"],
        ["gen-certs", "--out", str(site.folder / "others")],
        ["recv", *alice],
        ["recv", "--json", *alice],
        ["recovery", "--line", *alice],
        ["client", *alice],
        ["lab", "list"],
    ]


def test_an_output_that_takes_nothing_ends_every_command_in_one_sentence(
    site: LiveServer, broken: tuple[int, str]
) -> None:
    descriptor, sentence = broken
    for command in commands(site):
        code, _, complaint = run(site, command, output=descriptor, typed=b"/rooms\n")
        assert (code, complaint) == (ExitCode.FAILURE, sentence), command
    if sentence == FULL:  # the twin: what was not shown was not lost, and whoever takes it gets it
        code, printed, complaint = run(site, ["recv", "--json", *options(site, "alice")])
        assert (code, complaint) == (ExitCode.OK, "")
        assert "hello" in printed


def test_complaints_that_nobody_hears_leave_the_code_as_it_is(site: LiveServer, broken: tuple[int, str]) -> None:
    for command, code in (
        (["no-such-command"], ExitCode.USAGE),
        (["send", "--to", "#nowhere", *options(site, "alice")], ExitCode.FAILURE),
        (["recv", *options(site, "alice"), "--server=localhost:1"], ExitCode.UNREACHABLE),
    ):
        assert run(site, command, typed=b"x", errors=broken[0])[0] == code, command


def test_control_c_ends_with_the_code_that_shells_know(site: LiveServer) -> None:
    assert run(site, ["send", "--to", "alice", *options(site, "bob")], typed=b"again")[0] == 0
    started = subprocess.Popen(
        [*PROGRAM, "recv", "--follow", *options(site, "alice")], env=server_environment({}), cwd=site.folder,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert started.stdout is not None
        assert started.stdout.readline()  # it waits for more
        started.send_signal(signal.SIGINT)
        _, complaint = started.communicate(timeout=SECONDS)
        assert (started.returncode, complaint) == (ExitCode.INTERRUPTED, b"")
    finally:
        started.kill()
        started.wait()


def test_a_time_limit_holds_whatever_is_waited_for(site: LiveServer) -> None:
    """A server that does nothing, and a standard input that never ends: nobody else could end these."""
    never, writer = os.pipe()
    site.signal(signal.SIGSTOP)
    try:
        for command, typed in ((["recv"], None), (["send", "--to", "bob"], never)):
            done = subprocess.run(
                [*PROGRAM, *command, "--timeout", "1", *options(site, "alice")], stdin=typed, capture_output=True,
                env=server_environment({}), cwd=site.folder, timeout=SECONDS, check=False,
            )  # fmt: skip
            assert (done.returncode, done.stderr) == (ExitCode.TIMEOUT, b"securechat: Time is up.\n")
    finally:
        site.signal(signal.SIGCONT)
        os.close(never)
        os.close(writer)
    assert run(site, ["recv", "--timeout", "60", *options(site, "alice")])[0] == 0
