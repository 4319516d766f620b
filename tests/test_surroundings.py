"""What the surroundings do to the programs ends in a sentence, never in a traceback: played with real processes."""

import os
import pwd
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securechat.surroundings import told
from tests.support.live import LiveServer
from tests.support.server_process import server_environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full and limits of memory are Linux's")

PROGRAM = [sys.executable, "-m", "tests.support.cheap"]
REAL = [sys.executable, "-c", "from securechat.cli import main; main()"]
FULL = "The system refuses: No space left on device. If that is a full disk, make room; then start again."


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LiveServer]:
    """A server, and alice's password in a file."""
    server = LiveServer(tmp_path)
    (tmp_path / "password").touch(mode=0o600)
    (tmp_path / "password").write_text("correct horse\n")
    yield server
    server.stop()


def options(site: LiveServer) -> list[str]:
    """Who alice is, and where her server."""
    return [
        "--user", "alice", "--server", f"localhost:{site.port}", "--ca", str(site.ca),
        "--password-file", str(site.folder / "password"), "--vault", str(site.folder / "vaults"),
    ]  # fmt: skip


def run(
    *command: str, output: str | None = None, typed: str = "", limit: int = 0, **environment: str
) -> tuple[int, str, str]:
    """Run a program to its end. Returns its exit code, what it printed, and what it complained of."""

    def bound() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    with Path(output or os.devnull).open("wb") as file:
        done = subprocess.run(
            command,
            input=typed.encode(),
            stdout=subprocess.PIPE if output is None else file,
            stderr=subprocess.PIPE,
            env=server_environment(environment),
            preexec_fn=bound,  # it only sets a limit
            timeout=60,
            check=False,
        )
    complaint = done.stderr.decode()
    assert "Traceback" not in complaint
    assert "Exception ignored" not in complaint
    return done.returncode, (done.stdout or b"").decode(), complaint


@pytest.mark.parametrize(
    "command",
    [
        lambda _: ["--help"],
        lambda site: ["gen-certs", "--out", str(site.folder / "others")],
        lambda site: ["admin", "--data", str(site.folder / "data"), "users", "list"],
        lambda site: ["doctor", "--data", str(site.folder / "data")],
        lambda site: ["client", "--register", *options(site)],
        lambda site: [
            "server", "--port", "0", "--data", str(site.folder / "other"), "--cert", str(site.ca.parent / "server.pem"),
            "--key", str(site.ca.parent / "server-key.pem"),
        ],
    ],
    ids=["help", "gen-certs", "admin", "doctor", "client", "server"],
)  # fmt: skip
def test_an_output_that_is_full_ends_a_program_with_a_sentence(
    site: LiveServer, command: Callable[[LiveServer], list[str]]
) -> None:
    code, _, complaint = run(*PROGRAM, *command(site), output="/dev/full", typed="/help\n")
    assert code == 1
    assert complaint.strip().splitlines()[-1] == f"Error: {FULL}"


def test_what_is_received_and_cannot_be_printed_is_received_again(site: LiveServer) -> None:
    assert run(*PROGRAM, "recv", "--register", *options(site))[0] == 0
    bob = [each if each != "alice" else "bob" for each in options(site)]
    assert run(*PROGRAM, "send", "--register", "--to", "alice", *bob, typed="hello")[0] == 0
    code, _, complaint = run(*PROGRAM, "recv", "--json", *options(site), output="/dev/full")
    assert (code, complaint) == (1, f"Error: {FULL}\n")
    code, printed, complaint = run(*PROGRAM, "recv", "--json", *options(site))
    assert (code, complaint) == (0, "")
    assert '"text":"hello"' in printed


def test_without_memory_for_the_password_that_is_said(site: LiveServer) -> None:
    """64 MiB for Argon2 are more than is left under this limit; the program itself starts."""
    needed = int(
        subprocess.run(
            [sys.executable, "-c", "import securechat.client.core; print(open('/proc/self/statm').read().split()[0])"],
            capture_output=True, check=True, timeout=60,
        ).stdout
    ) * resource.getpagesize()  # fmt: skip
    code, _, complaint = run(*REAL, "recv", "--register", *options(site), limit=needed + (40 << 20))
    assert code == 1
    assert "too little memory" in complaint
    assert run(*REAL, "recv", "--register", *options(site))[0] == 0


@pytest.mark.parametrize("seconds", ["1e300", "inf", "1e10"])
def test_a_time_beyond_the_systems_clock_is_a_long_one(site: LiveServer, seconds: str) -> None:
    assert run(*PROGRAM, "recv", "--register", *options(site), "--timeout", seconds)[0] == 0


def test_a_terminal_without_utf_8_is_said_and_what_it_lacks_is_received_again(site: LiveServer) -> None:
    assert run(*PROGRAM, "recv", "--register", *options(site))[0] == 0
    bob = [each if each != "alice" else "bob" for each in options(site)]
    assert run(*PROGRAM, "send", "--register", "--to", "alice", *bob, typed="done ✓")[0] == 0
    code, _, complaint = run(*PROGRAM, "recv", *options(site), LC_ALL="C", PYTHONIOENCODING="ascii:strict")
    assert code == 1
    assert complaint == (
        "Error: What is to be shown has characters that ascii lacks. Use a UTF-8 locale, such as LC_ALL=C.UTF-8.\n"
    )
    code, printed, _ = run(*PROGRAM, "recv", *options(site), PYTHONIOENCODING="utf-8")
    assert code == 0
    assert "done ✓" in printed


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root becomes another user")
def test_a_user_without_a_home_folder_is_told_to_name_one() -> None:
    """A number that no account of this system has, as containers run programs under; and no HOME."""
    nobody = max(each.pw_uid for each in pwd.getpwall() if each.pw_uid < 1 << 31) + 4321
    program = (
        "import os; from securechat.cli import main; import securechat.ui.start, securechat.ui.preferences;"
        f"os.environ.pop('HOME', None); os.environ.pop('XDG_DATA_HOME', None); os.setuid({nobody}); main()"
    )
    code, _, complaint = run(sys.executable, "-c", program, "recv", "--user", "alice", "--server", "localhost:1")
    assert (code, complaint) == (
        1, "Error: This user has no home folder. Name one in HOME, or the folder of the vaults.\n"
    )  # fmt: skip


def test_what_is_not_the_surroundings_keeps_its_traceback() -> None:
    assert told(ValueError("a bug")) is None
    assert told(RuntimeError("a bug")) is None
    assert told(OverflowError("a bug")) is None  # what is typed is bounded where it is read
    assert str(told(FileNotFoundError(2, "No such file", "x.pem"))) == "x.pem cannot be used: No such file."
