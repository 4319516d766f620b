"""The process that reads what others have made: what it cannot do, and what becomes of whatever it does."""

import importlib.util
import os
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from securechat.client.media import child as module
from securechat.client.media import worker
from securechat.client.media.child import CPU_SECONDS, MEMORY, Child, MediaError, check_installed
from securechat.client.media.worker import PICTURES, PREVIEW, VOICE
from securechat.errors import UsageError

pytest.importorskip("PIL", reason="needs the extra [media]")
pytest.importorskip("av", reason="needs the extra [voice]")

ATTEMPTS = {
    "read a file": (0, "open(given)"),
    "make a file": (0, "open(given + '.new', 'w')"),
    "remove a file": (1, "os.unlink(given)"),
    "rename a file": (1, "os.rename(given, given + '.moved')"),
    "empty a file": (3, "os.truncate(given, 0)"),
    "run a program": (1, "os.execv(sys.executable, [sys.executable, '-c', 'import os; os.write(1, bytes([1]))'])"),
    "connect": (0, "socket.create_connection(('127.0.0.1', int(port)), 10)"),
    "listen": (0, "socket.create_server(('127.0.0.1', 0))"),
    "have a socket": (0, "socket.socketpair()"),
    "have a pipe": (0, "os.pipe()"),
    "take 600 MB": (0, "bytearray(600 << 20)"),
    "signal another process": (6, "os.kill(os.getppid(), 0)"),
}
"""What the process may want to do once a file has taken it over, and from which version of Landlock on it cannot. An
ordinary process can do each."""

PROGRAM = """
import os, socket, sys
sys.path.append({folder!r})
given, port = sys.argv[1:3]
import worker
{confined}
try:
    {attempt}
    os.write(1, bytes([1]))
except (OSError, MemoryError):
    os.write(1, bytes([2]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock, and limits of memory, are Linux's")
@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda name: name.replace(" ", "_"))
def test_the_process_can_do_nothing_else_and_an_ordinary_one_can(attempt: str, tmp_path: Path) -> None:
    version, what = ATTEMPTS[attempt]
    given = tmp_path / "given"
    folder = str(Path(worker.__file__).parent)
    for confined in (True, False):
        given.write_text("there")
        giving_up = f"worker.forbid_files(); worker.limit({MEMORY})" if confined else ""
        program = PROGRAM.format(folder=folder, confined=giving_up, attempt=what)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            command = [sys.executable, "-I", "-c", program, str(given), str(listener.getsockname()[1])]
            done = subprocess.run(command, capture_output=True, check=False, timeout=60)
        refused = confined and worker.landlock_version() >= version
        assert done.stdout == bytes([2 if refused else 1]), done.stderr
        assert not refused or (given.read_text() == "there" and list(tmp_path.iterdir()) == [given])


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("work", [PICTURES, VOICE])
def test_its_limits_are_in_force_before_it_reads_anything(work: str) -> None:
    with Child(work) as child:
        with pytest.raises(MediaError):
            child.ask(9, b"", 0)  # no job, but it has begun with one
        process = Path(f"/proc/{child._process.pid}")
        lines = (process / "limits").read_text().splitlines()[1:]
        limits = {line[:26].strip(): line[26:].split()[:2] for line in lines}
        inherited = sorted((process / "fd").iterdir(), key=lambda each: int(each.name))
        assert [str(each.readlink()).split(":")[0] for each in inherited] == ["pipe", "pipe", os.devnull]
        assert (process / "environ").read_bytes() == b""
        assert "NoNewPrivs:\t1" in (process / "status").read_text()
    assert limits["Max open files"] == ["0", "0"]
    assert limits["Max processes"] == ["0", "0"]
    assert limits["Max file size"] == ["0", "0"]
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max address space"] == [str(MEMORY), str(MEMORY)]
    assert int(limits["Max cpu time"][0]) <= CPU_SECONDS + 10


READY = "import os, resource, sys, time; os.write(1, bytes(5));"
"""How a process begins that a file has taken over: it has said that it is ready, and goes its own way then."""


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (READY + "time.sleep(600)", "took more than 0.5 s"),
        (READY + "resource.setrlimit(resource.RLIMIT_CPU, (1, 9))\nwhile True: pass", "30 s of processor time"),
        (READY + "os.kill(os.getpid(), 11)", "broke down over it"),
        (READY + "os._exit(0)", "broke down over it"),
        (READY + "os.read(0, 9); os.close(1); time.sleep(600)", "took more than 0.5 s|no answer"),
        (READY + "os.write(1, bytes([0, 0, 0, 0, 101]) + bytes(101))", "an answer that is none"),
        (READY + "os.write(1, bytes([0, 255, 255, 255, 255]))", "an answer that is none"),
        (READY + "os.write(1, bytes([0, 0, 0, 0, 9]) + bytes(8))", "broke down over it"),
        (READY + "os.write(1, bytes([77, 0, 0, 0, 0]))", "an answer that is none"),
        (READY + "os.write(1, bytes([1, 0, 0, 0, 1, 1]))", "an answer that is none"),
        (READY + "os.write(1, bytes(4)); time.sleep(600)", "took more than 0.5 s"),
    ],
)
def test_whatever_becomes_of_the_process_is_one_sentence(
    program: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "worker.py").write_text(program)
    monkeypatch.setattr(module, "_WORKER", tmp_path / "worker.py")
    with Child(PICTURES) as child:
        monkeypatch.setattr(module, "JOB_SECONDS", 0.5 if "0.5" in why else 60.0)
        with pytest.raises(MediaError, match=rf"^The picture cannot be used: .*({why})\.$"):
            child.ask(PREVIEW, b"x" * (3 << 20), 100)
        if "took" not in why:
            with pytest.raises(MediaError):
                child.ask(PREVIEW, b"x", 100)  # it stays gone
        assert child._process.poll() is not None


@pytest.mark.parametrize("program", ["import os; os._exit(3)", "import os; os.write(1, b'hello')", "oh no"])
def test_a_process_that_does_not_start_is_one_sentence(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "worker.py").write_text(program)
    monkeypatch.setattr(module, "_WORKER", tmp_path / "worker.py")
    with pytest.raises(MediaError, match=r"^The recording .*: what reads it cannot be started here\."):
        Child(VOICE)


def test_more_than_it_can_read_does_not_get_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_INPUT", 1 << 20)
    with Child(PICTURES) as child:
        with pytest.raises(MediaError, match="larger than 1 MiB"):
            child.ask(PREVIEW, bytes((1 << 20) + 1), 100)
        with pytest.raises(MediaError, match="damaged, or of a kind"):
            child.ask(PREVIEW, bytes(1 << 20), 100)


@pytest.mark.parametrize(("work", "extra"), [(PICTURES, "media"), (VOICE, "voice")])
def test_a_missing_extra_is_one_sentence(work: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed(work)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # noqa: ARG005  # as it is called
    with pytest.raises(UsageError, match=rf"need the extra \[{extra}\]: pip install 'securechat\[{extra}\]'"):
        check_installed(work)
    with pytest.raises(UsageError):
        Child(work)


def test_no_image_has_the_libraries_of_codecs() -> None:
    root = Path(__file__).parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {re.split(r"[^a-z-]", each)[0] for each in (*extras["media"], *extras["voice"])}
    assert named == {"pillow", "av", "sounddevice"}
    image = {path.name: path.read_text() for path in (root / "scripts" / "deploy").iterdir()}
    locked = set(re.findall(r"^([a-z0-9-]+)==", image["requirements.txt"] + image["build.txt"], re.MULTILINE))
    assert "cryptography" in locked
    assert not named & locked
    assert "[" not in "".join(line for line in image["Dockerfile"].splitlines() if "pip install" in line)


def test_the_libraries_are_loaded_in_the_process_alone() -> None:
    program = (
        "import sys; from securechat.client.media import pictures, voice; print({'av', 'PIL'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout == "set()\n"
