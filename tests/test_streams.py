"""Files that are named on the command line, and what is handed over in their place: streams, pipes, folders, nothing.

With real processes. A stream that another user has made is one whose path may not be opened: root's for everybody else
(`sudo`, a container); where we are not root, one that lets nobody open it.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from securechat.errors import StorageError
from securechat.files import FileLock, descriptor_of, open_to_read
from securechat.server.clock import ServerClock
from tests.support.live import LiveServer
from tests.support.server_process import server_environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/fd, and what its links need, are Linux's")

PROGRAM = [sys.executable, "-m", "tests.support.cheap"]

AS_ANOTHER = """
import ctypes, importlib, os, pkgutil, sys
import securechat, tests.support.cheap
for module in pkgutil.walk_packages(securechat.__path__, "securechat."):
    importlib.import_module(module.name)
import encodings.idna, importlib.readers, importlib.resources.readers, stringprep, uuid
securechat.lookalikes.likeness("alice")  # reads its table
tests.support.cheap.make_clients_cheap()
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as after an exec by that user
assert os.geteuid() != 0
for name in sys.argv[1].split(","):
    try:
        open(name).close()
    except PermissionError:
        continue
    sys.exit(f"{name} can be opened: this shows nothing")
from securechat.cli import main
main(sys.argv[2:])
"""
"""The program as another user, who may not read its modules: they are imported before."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LiveServer]:
    """A server, and alice's password in a file."""
    server = LiveServer(tmp_path)
    (tmp_path / "password").touch(mode=0o600)
    (tmp_path / "password").write_text("correct horse\n")
    yield server
    server.stop()


@contextmanager
def stream(content: bytes) -> Iterator[int]:
    """A pipe that holds this and then ends, whose path nobody may open."""
    out, into = os.pipe()
    try:
        os.write(into, content)
        os.close(into)
        os.fchmod(out, 0o600 if os.geteuid() == 0 else 0)
        yield out
    finally:
        os.close(out)


def run(
    command: list[str], *, typed: bytes = b"", closed: str = "", give: tuple[int, ...] = ()
) -> tuple[int, str, str]:
    """Run a program to its end, with streams `closed` as a shell does it. Returns exit code, output, complaints."""
    if closed:
        command = ["sh", "-c", f'exec "$@" {closed}', "sh", *command]
    done = subprocess.run(
        command, input=typed, capture_output=True, env=server_environment({}), pass_fds=give, timeout=60, check=False
    )
    complaint = done.stderr.decode()
    assert "Traceback" not in complaint
    assert "Exception ignored" not in complaint
    return done.returncode, done.stdout.decode(errors="replace"), complaint


def options(site: LiveServer, **other: object) -> list[str]:
    """Who alice is, and where her server; `other` options in place of these."""
    given = {
        "user": "alice", "server": f"localhost:{site.port}", "ca": site.ca, "password_file": site.folder / "password",
        "vault": site.folder / "vaults",
    } | other  # fmt: skip
    return [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]


# --- streams in place of files ----------------------------------------------------------------------------------------


def test_what_another_user_hands_over_as_a_stream_is_read(site: LiveServer) -> None:
    with tempfile.TemporaryDirectory() as name, stream(b"correct horse\n") as password, stream(
        site.ca.read_bytes()
    ) as ca:
        if os.geteuid() == 0:
            os.chown(name, 65534, 65534)
        paths = f"/dev/fd/{password},/proc/self/fd/{ca}"
        who = options(site, password_file=f"/dev/fd/{password}", ca=f"/proc/self/fd/{ca}", vault=name)
        command = [sys.executable, "-c", AS_ANOTHER, paths, "send", "--register", "--create", "--to", "#lobby", *who]
        assert run(command, typed=b"hello", give=(password, ca)) == (0, "", "")


def test_the_same_as_ordinary_files_is_read(site: LiveServer) -> None:
    with tempfile.TemporaryDirectory() as name:
        for each in ("password", "ca.pem"):
            source = site.folder / "password" if each == "password" else site.ca
            (Path(name) / each).touch(mode=0o600)
            (Path(name) / each).write_bytes(source.read_bytes())
        if os.geteuid() == 0:
            for path in (Path(name), *Path(name).iterdir()):
                os.chown(path, 65534, 65534)
        who = options(site, password_file=f"{name}/password", ca=f"{name}/ca.pem", vault=name)
        command = [sys.executable, "-c", AS_ANOTHER, str(site.ca.with_name("ca-key.pem")), "send", "--register"]
        if os.geteuid() != 0:
            command[3] = "/proc/1/mem"
        assert run([*command, "--create", "--to", "#lobby", *who], typed=b"hello") == (0, "", "")


def test_standard_input_can_be_the_password_and_the_ca_a_stream(site: LiveServer) -> None:
    who = options(site, password_file="/dev/stdin")
    assert run([*PROGRAM, "recv", "--register", *who], typed=b"correct horse\n") == (0, "", "")
    with stream(site.ca.read_bytes()) as ca:
        assert run([*PROGRAM, "recv", *options(site, ca=f"/dev/fd/{ca}")], give=(ca,)) == (0, "", "")
    with stream(b"no certificate") as ca:
        code, _, complaint = run([*PROGRAM, "recv", *options(site, ca=f"/dev/fd/{ca}")], give=(ca,))
    assert (code, complaint) == (
        1, f"Error: /dev/fd/{ca} holds no certificate in PEM, which begins with `-----BEGIN`\n",
    )  # fmt: skip


def test_a_recovery_file_and_its_passphrase_can_be_streams(site: LiveServer, tmp_path: Path) -> None:
    assert run([*PROGRAM, "recv", "--register", *options(site)])[0] == 0
    code, line, complaint = run([*PROGRAM, "recovery", *options(site), "--line"])
    assert code == 0
    passphrase = complaint.split("shown once: ")[1].split()[0]
    with stream(passphrase.encode()) as given:
        command = [
            *PROGRAM, "recover", "/dev/stdin", "--passphrase-file", f"/dev/fd/{given}",
            "--vault", str(tmp_path / "new"), "--password-file", str(site.folder / "password"),
        ]  # fmt: skip
        assert run(command, typed=line.encode(), give=(given,))[0] == 0


@pytest.mark.parametrize("out", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_stream_is_no_new_file(site: LiveServer, out: str) -> None:
    assert run([*PROGRAM, "recv", "--register", *options(site)])[0] == 0
    code, printed, complaint = run([*PROGRAM, "recovery", *options(site), "--out", out])
    assert (code, printed) == (2, "")
    assert complaint == f"Error: {out} is a stream, and --out makes a new file: --line prints what would be in it.\n"
    code, printed, complaint = run([*PROGRAM, "admin", "--data", str(site.folder / "data"), "backup", out])
    assert (code, printed) == (1, "")
    assert complaint == f"Error: {out} is a stream: give - to write to standard output\n"


def test_settings_that_are_read_again_come_from_no_stream(tmp_path: Path) -> None:
    """Read again, a stream is empty, and the settings would be the defaults."""
    settings = b'registration = "closed"\n'
    (tmp_path / "settings.toml").write_bytes(settings)
    with stream(settings) as given:
        os.fchmod(given, 0o600)
        code, _, complaint = run([*PROGRAM, "server", "--config", f"/dev/fd/{given}"], give=(given,))
    assert (code, complaint) == (2, f"Error: cannot read /dev/fd/{given}: it is a pipe, and not a file\n")
    _, printed, complaint = run([*PROGRAM, "doctor", "--config", str(tmp_path / "settings.toml")])
    assert "not a file" not in printed + complaint


# --- what is no file --------------------------------------------------------------------------------------------------


@pytest.fixture(params=["a folder", "a pipe"])
def none(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """The path of something that is no file, and what it is. Nobody ever writes into the pipe."""
    path = tmp_path / "none"
    path.mkdir() if request.param == "a folder" else os.mkfifo(path)
    return path, f"it is {request.param}, and not a file"


def test_what_is_no_file_is_refused_in_a_sentence_and_not_waited_for(
    site: LiveServer, none: tuple[Path, str]
) -> None:
    path, what = none
    server = ["server", "--port", "0", "--data", str(site.folder / "other")]
    data = ["--data", str(site.folder / "data")]
    commands = [
        ["recv", *options(site, password_file=path)],
        ["recv", *options(site, ca=path)],
        ["recover", str(path)],
        ["recover", "/dev/null", "--passphrase-file", str(path)],
        ["recover", "-", "--passphrase-file", str(path)],
        ["join", str(path), "--user", "bob"],
        ["server", "--config", str(path)],
        ["doctor", "--config", str(path)],
        [*server, "--cert", str(path), "--key", str(site.ca.with_name("server-key.pem"))],
        [*server, "--cert", str(site.ca.with_name("server.pem")), "--key", str(path)],
        ["admin", "--data", str(site.folder / "new"), "restore", str(path)],
        ["admin", *data, "users", "add", "x", "--line-for", "localhost", "--ca", str(path)],
    ]
    for command in commands:
        code, printed, complaint = run([*PROGRAM, *command])
        assert code in (1, 2), command
        said = complaint + printed if command[0] == "doctor" else complaint
        assert "Errno" not in said
        if command[1] == "/dev/null":  # no file either
            assert "it is something else, and not a file" in said
        else:
            assert str(path) in said
            assert what in said, (command, said)


def test_what_lies_in_place_of_a_vaults_files_is_not_waited_for(site: LiveServer) -> None:
    assert run([*PROGRAM, "recv", "--register", *options(site)])[0] == 0
    (vault,) = (site.folder / "vaults").glob("*.vault")
    card, key = vault.with_name(f"{vault.name}.server"), vault.with_name(f"{vault.name}.key")
    for path, code in ((card, 0), (key, 1)):
        kept = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        found, _, complaint = run([*PROGRAM, "recv", *options(site)])
        assert found == code, complaint
        if code:
            assert complaint.startswith(f"Error: {key} is in the place of a file of your vault, and is none.")
        path.unlink(missing_ok=True)
        path.write_bytes(kept)
    assert run([*PROGRAM, "recv", *options(site)])[0] == 0


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a server leaves in its folder `data`, beside its certificates."""
    folder = tmp_path_factory.mktemp("left")
    LiveServer(folder).stop()
    return folder


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("server", "chat.db"),
        ("server", "chat.db-wal"),
        ("server", "chat.db-journal"),
        ("server", "chat.db.lock"),
        ("server", "accounts.json.lock"),
        ("doctor", "chat.db"),
        ("doctor", "chat.db.lock"),
    ],
)
def test_what_lies_in_place_of_a_servers_files_is_not_waited_for(
    left: Path, tmp_path: Path, name: str, program: str
) -> None:
    data = shutil.copytree(left / "data", tmp_path / "data")
    (data / name).unlink(missing_ok=True)
    os.mkfifo(data / name, 0o600)
    command = [
        *PROGRAM, program, "--port", "0", "--data", str(data), "--cert", str(left / "certs" / "server.pem"),
        "--key", str(left / "certs" / "server-key.pem"),
    ]  # fmt: skip
    code, printed, complaint = run(command)
    assert code == 1
    assert "it is a pipe, and not a file" in printed + complaint
    if program == "server":
        assert str(data / name) in complaint


def test_a_lock_is_no_device_that_others_may_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("/dev/null")
    with pytest.raises(StorageError, match="it is something else, and not a file"):
        FileLock(tmp_path / "lock", busy="")


def test_a_clock_does_not_wait_for_the_age_that_it_has_kept(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "age")
    clock = ServerClock(tmp_path, wall=lambda: 1e9, steady=lambda: 0.0)
    asked = threading.Thread(target=clock.begin, args=(2e9,), daemon=True)
    asked.start()
    asked.join(60)
    assert not asked.is_alive()
    assert "leapt" in clock.problem


def test_only_what_is_spelled_as_a_descriptor_is_one(tmp_path: Path) -> None:
    assert descriptor_of(Path("/dev/fd/63")) == descriptor_of(Path("/proc/self/fd/63")) == 63
    assert [descriptor_of(Path(f"/dev/std{name}")) for name in ("in", "out", "err")] == [0, 1, 2]
    for other in ("/dev/null", "/dev/fd", "/dev/fd/x", "dev/fd/0", "/dev/fd/0/x", str(tmp_path / "dev/fd/0")):
        assert descriptor_of(Path(other)) is None
    with pytest.raises(OSError, match="not a file"):
        open_to_read(Path("/dev/null"), once=True)


# --- standard streams that are closed ---------------------------------------------------------------------------------

CLOSED = "Error: Standard output is closed. To have nothing shown, send it to /dev/null.\n"


def test_with_standard_output_closed_nothing_counts_as_shown(site: LiveServer) -> None:
    assert run([*PROGRAM, "recv", "--register", *options(site)])[0] == 0
    bob = options(site, user="bob")
    assert run([*PROGRAM, "send", "--register", "--to", "alice", *bob], typed=b"hello", closed=">&-") == (0, "", "")
    assert run([*PROGRAM, "recv", "--json", *options(site)], closed=">&-") == (1, "", CLOSED)
    assert run([*PROGRAM, "recv", "--json", *options(site)], closed=">&- 2>&-") == (1, "", "")
    code, printed, complaint = run([*PROGRAM, "recv", "--json", *options(site)])
    assert (code, complaint) == (0, "")
    assert '"text":"hello"' in printed


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_end_no_program_in_a_traceback(site: LiveServer, closed: str) -> None:
    shown = ">&-" not in closed.replace("2>&-", "")
    data = ["--data", str(site.folder / "data")]
    for command in (["--version"], ["admin", *data, "users", "list"], ["admin", *data, "backup", "-"]):
        code, printed, _ = run([*PROGRAM, *command], closed=closed)
        assert (code, bool(printed)) == ((0, True) if shown else (1, False)), command
    send = [*PROGRAM, "send", "--register", "--create", "--to", "#lobby", *options(site)]
    code, _, complaint = run(send, closed=closed, typed=b"hi")
    if "<&-" in closed:
        assert code == 2
        assert "2>&-" in closed or complaint == "Error: Standard input is empty: there is nothing to send.\n"
    else:
        assert code == 0
    code, _, _ = run([*PROGRAM, "client", "--register", *options(site)], closed=closed, typed=b"/quit\n")
    assert code == (0 if shown else 1)


def test_a_server_without_standard_output_says_so(site: LiveServer) -> None:
    command = [
        *PROGRAM, "server", "--port", "0", "--data", str(site.folder / "other"),
        "--cert", str(site.ca.with_name("server.pem")), "--key", str(site.ca.with_name("server-key.pem")),
    ]  # fmt: skip
    code, _, complaint = run(command, closed=">&-")
    assert (code, complaint.splitlines(keepends=True)[-1]) == (1, CLOSED)


# --- locks ------------------------------------------------------------------------------------------------------------


def test_a_vault_that_was_never_made_leaves_nothing(site: LiveServer) -> None:
    vaults = site.folder / "vaults"
    code, _, complaint = run([*PROGRAM, "recv", *options(site)])
    assert code != 0, complaint
    assert list(vaults.iterdir()) == []
    assert run([*PROGRAM, "recv", "--register", *options(site)])[0] == 0
    (site.folder / "password").write_text("another horse\n")
    before = sorted(vaults.iterdir())
    assert run([*PROGRAM, "recv", *options(site)])[0] != 0
    assert sorted(vaults.iterdir()) == before


def test_whoever_waited_for_a_lock_that_is_discarded_locks_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the opening of a file and its lock, the one who had it deletes it."""
    path = tmp_path / "lock"
    first = FileLock(path, busy="")
    flock = fcntl.flock

    def after_the_first_has_gone(descriptor: int, how: int) -> None:
        first.discard()
        flock(descriptor, how)

    monkeypatch.setattr("securechat.files.fcntl.flock", after_the_first_has_gone)
    second = FileLock(path, busy="")
    monkeypatch.undo()
    with pytest.raises(StorageError, match="taken"):
        FileLock(path, busy="taken")
    second.close()
    FileLock(path, busy="taken").discard()
    assert not path.exists()
