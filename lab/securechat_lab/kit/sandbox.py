"""The sandbox: a student's file in a process of its own, asked over a pipe.

A defence is a pure function, values in and a verdict out; an attack is some of them. Each call has a deadline, what is
printed and answered is bounded, and nothing that a file does stops whoever asks: it gets a sentence (`StudentError`).
What a process in which student code runs says of itself proves nothing: outcomes are read elsewhere.

A server is a file whose `serve` is started and goes on until its end. It gets a socket that listens already: its port
is known, nobody else has taken it, and nobody waits for its beginning. What it does its clients see.

    Linux     its own user where we are root; limits of processor, memory, processes, files; whatever it leaves is ended
    macOS     the same without the limit of memory, and what leaves its session is not found
    Windows   not at all (`UsageError`)
"""

import contextlib
import json
import os
import secrets
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from securechat.errors import SecurechatError, UsageError

MAX_PRINTED: Final = 64 << 10
"""Bytes that are kept of what a file prints: whoever prints all that they are given in a check prints a megabyte."""
MAX_OUTPUT: Final = 16 << 20
"""Bytes that a file may print, in all: then it is one that never stops."""
MAX_ANSWER: Final = 64 << 10
"""Bytes of one answer."""
CALL_SECONDS: Final = 5.0
"""For one call: a defence takes microseconds, and a busy machine may take seconds to come to it."""
START_SECONDS: Final = 20.0
"""To start an interpreter and load the file."""
ALL_SECONDS: Final = 40.0
"""For all answers of all files of a hand-in: whatever it does, its check is over within a minute. Those of a reference
take three, on a machine that has nothing else to do."""
CPU_SECONDS: Final = 20
"""Of processor, for all calls together."""
MEMORY: Final = 512 << 20
"""Bytes of address space."""
PROCESSES: Final = 32
"""Threads and processes."""
SERVER_MEMORY: Final = 2 << 30
"""Bytes of address space for a server: each thread takes 8 MiB for its stack, and up to 64 MiB for its heap."""
SERVER_PROCESSES: Final = 96
"""Two threads a client are a good plan, and some have four."""
END_SECONDS: Final = 20.0
"""For all of it to be ended."""
USERS: Final = ("student", "nobody")
"""As whom student code runs where we are root: the first one is made by an autograder, and has no home. Where it has
one, it is somebody with files."""


class StudentError(SecurechatError):
    """What a student's file did instead of answering, in a sentence for its author."""


SPENT: Final = f"This hand-in has kept its check waiting for {ALL_SECONDS:g} s in all: nothing more was asked of it."


class Patience:
    """How long one hand-in may keep its check waiting, whatever its files do. One thread waits at a time."""

    def __init__(self, seconds: float = ALL_SECONDS) -> None:
        self._seconds = seconds
        self._since = 0.0
        self._waiting = 0

    @property
    def left(self) -> float:
        """Seconds."""
        return self._seconds - (time.monotonic() - self._since if self._waiting else 0)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of a block; one inside another counts once. Raises `StudentError` where none is left."""
        self.look()
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting += 1
        try:
            yield
        finally:
            left, self._waiting = self.left, self._waiting - 1
            if not self._waiting:
                self._seconds = left

    def look(self) -> None:
        """Raise `StudentError` where none is left."""
        if self.left <= 0:
            raise StudentError(SPENT)


class Student:
    """One file, loaded; a context manager, at whose end nothing of it is left."""

    def __init__(
        self, name: str, source: str, *,
        start: float = START_SECONDS, memory: int = MEMORY, listener: socket.socket | None = None,
        patience: Patience | None = None,
    ) -> None:  # fmt: skip
        """Load `source`. Raises `StudentError` if that fails, and `UsageError` where there is no sandbox.

        `patience`: of the check with this hand-in, which several files may share; without one, each has its own.
        `listener`: for a server. It is closed here, so that nobody can connect any more once the server has ended.
        """
        if os.name == "nt":
            raise UsageError("Student code runs on Linux and macOS only: Windows has no sandbox here yet.")
        self._name = name
        self._patience = patience or Patience()
        self._patience.look()
        self._dead = ""
        self._started = ""
        self.printed = bytearray()
        """What it has printed, the first MAX_PRINTED bytes."""
        self._output = 0  # bytes that it has printed
        self._buffer = bytearray()
        self._status = ""
        python, uid = _other_user() if os.geteuid() == 0 else (sys.executable, -1)
        self._folder = Path(tempfile.mkdtemp(prefix="securechat-lab-"))
        if uid >= 0:
            os.chown(self._folder, uid, -1)
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        self._log, theirs_log = os.pipe()
        sources = resources.files(__package__)
        child, warden, guard = (sources.joinpath(f"{each}.py").read_text() for each in ("child", "warden", "loopback"))
        theirs = [theirs_in, theirs_out, theirs_log]
        processes = PROCESSES
        if listener is not None:
            theirs.append(listener.detach())
            memory, processes = SERVER_MEMORY, SERVER_PROCESSES
        fds = theirs if listener is not None else (*theirs, -1)
        given = (*fds, self._folder, uid, CPU_SECONDS, memory, processes, python)
        self._warden = subprocess.Popen(  # our own source
            [sys.executable, "-I", "-S", "-B", "-c", warden, *map(str, given), child],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={},
            pass_fds=theirs,
        )  # fmt: skip
        for fd in theirs:
            os.close(fd)
        for fd in (self._to, self._from, self._log):
            os.set_blocking(fd, False)
        first = self._exchange({"name": name, "source": source, "guard": guard}, start)
        if "error" in first:
            self._end(f"{name} cannot be loaded{_line(first)}: {first['error']}")

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self.close()

    def call(self, function: str, *arguments: object, seconds: float = CALL_SECONDS) -> Any:
        """Call a function of the file with JSON values and bytes, and return what it answers: anything of that kind.

        Raises `StudentError`. After a deadline, and after too much output, the file is ended: each call says so.
        """
        if self._dead:
            raise StudentError(self._dead)
        number = secrets.token_hex(8)
        answer = self._exchange({"id": number, "call": function, "args": _encode(arguments)}, seconds)
        if answer.get("id") != number:
            self._end(f"{self._name} gave an answer that nobody had asked for")
        if "error" in answer and answer.get("returned") is True:
            can = "lists, dicts, texts, bytes, numbers, True, False and None can be returned"
            raise StudentError(f"{function}() of {self._name} returned {answer['error']}: {can}.")
        if "error" in answer:
            raise StudentError(f"{function}() failed in {self._name}{_line(answer)}: {answer['error']}")
        try:
            return _decode(answer.get("value"))
        except (ValueError, RecursionError):
            self._end(f"the answer of {function}() is damaged")

    def start(self, function: str, *arguments: object) -> None:
        """Call a function that goes on until the end: a server's. What becomes of it, `look` says."""
        self._started = function
        line = json.dumps({"id": "", "call": function, "args": _encode(arguments)}).encode() + b"\n"
        _write(self._to, memoryview(line))  # a pipe that is empty takes it as a whole

    def look(self) -> None:
        """Take what was printed since. Raises `StudentError` if the function that was started has ended."""
        if self._dead:
            raise StudentError(self._dead)
        with selectors.DefaultSelector() as selector:
            selector.register(self._from, selectors.EVENT_READ)
            selector.register(self._log, selectors.EVENT_READ)
            for key, _ in selector.select(0):
                if key.fd == self._log:
                    self._take_log(selector)
                else:
                    self._take_answer()
        if b"\n" in self._buffer:
            answer = self._answer()
            how = f"failed{_line(answer)}: {answer['error']}" if "line" in answer else "returned: a server goes on"
            self._end(f"{self._started}() of {self._name} {how}")

    def close(self) -> None:
        """End the process, and whatever has come of it."""
        if self._warden.stdin is None or self._warden.stdin.closed:
            return
        try:
            said, _ = self._warden.communicate(timeout=END_SECONDS)
            self._status = said.decode().strip()
        except subprocess.TimeoutExpired:
            self._warden.kill()
            self._warden.communicate()
        with contextlib.suppress(BlockingIOError):
            self.printed += os.read(self._log, MAX_PRINTED - len(self.printed))  # the last that it has printed
        for fd in (self._to, self._from, self._log):
            os.close(fd)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _exchange(self, message: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send a line, and return the one that comes back."""
        sending = memoryview(json.dumps(message).encode() + b"\n")
        with self._patience.waiting(), selectors.DefaultSelector() as selector:
            deadline = time.monotonic() + min(seconds, self._patience.left)
            selector.register(self._to, selectors.EVENT_WRITE)
            selector.register(self._from, selectors.EVENT_READ)
            selector.register(self._log, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left = deadline - time.monotonic()
                if left <= 0:
                    if self._patience.left <= 0:
                        self._end(SPENT.removesuffix("."))
                    self._end(f"{self._name} did not answer within {seconds:g} s: an endless loop?")
                for key, _ in selector.select(left):
                    if key.fd == self._to:
                        sending = sending[_write(self._to, sending) :]
                        if not sending:
                            selector.unregister(self._to)
                    elif key.fd == self._log:
                        self._take_log(selector)
                    else:
                        self._take_answer()
        self._take_printed()
        return self._answer()

    def _take_printed(self) -> None:
        """Take what was printed before the answer: it is in the pipe, since nothing of it is buffered."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._log, selectors.EVENT_READ)
            while selector.get_map() and selector.select(0):
                self._take_log(selector)

    def _take_answer(self) -> None:
        data = os.read(self._from, 1 << 16)
        if not data:
            self._gone()
        self._buffer += data
        if len(self._buffer) > MAX_ANSWER:
            self._end(f"an answer of {self._name} is longer than {MAX_ANSWER >> 10} KiB")

    def _answer(self) -> dict[str, Any]:
        """Return the line that has come."""
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer[:] = rest
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or not answer.keys() & {"ready", "value", "error"}:
            self._end(f"{self._name} gave an answer that is none")
        return answer

    def _take_log(self, selector: selectors.BaseSelector) -> None:
        data = os.read(self._log, 1 << 16)
        if not data:
            selector.unregister(self._log)
        self.printed += data[: MAX_PRINTED - len(self.printed)]
        self._output += len(data)
        if self._output > MAX_OUTPUT:
            self._end(f"{self._name} printed more than {MAX_OUTPUT >> 20} MiB")

    def _gone(self) -> NoReturn:
        self.close()
        how = int(self._status) if self._status.isdigit() else 0
        if os.WIFSIGNALED(how):
            by = signal.Signals(os.WTERMSIG(how)).name
            why = " (it had used up its processor time, or ended itself)" if by in ("SIGXCPU", "SIGKILL") else ""
            self._end(f"the process of {self._name} was ended by {by}{why}")
        self._end(f"the process of {self._name} ended by itself, with exit code {os.WEXITSTATUS(how)}")

    def _end(self, why: str) -> NoReturn:
        self._dead = why if why.endswith("?") else f"{why}."
        self.close()
        raise StudentError(self._dead)


def runs_as_us() -> bool:
    """Whether student code runs as the user who asks it: then it can open what they can."""
    return os.name != "nt" and os.geteuid() != 0


def _line(answer: dict[str, Any]) -> str:
    line = answer.get("line")
    return f", line {line}" if isinstance(line, int) and line > 0 else ""


def _write(fd: int, data: memoryview) -> int:
    try:
        return os.write(fd, data[: 1 << 16])
    except BlockingIOError:
        return 0
    except BrokenPipeError:  # it has closed its end; whether it answers is seen at the other pipe
        return len(data)


def _other_user() -> tuple[str, int]:
    """As whom, and by which interpreter, student code runs where we are root. Raises `UsageError`."""
    import pwd  # not on Windows

    made, nobody = USERS
    found = {each.pw_name: each for each in pwd.getpwall() if each.pw_name in USERS}
    name = made if made in found and not Path(found[made].pw_dir).exists() else nobody
    if name not in found:
        raise UsageError(f"Student code does not run as root, and there is no user `{nobody}` here.")
    uid = found[name].pw_uid
    candidates = [sys.executable, *(shutil.which(name, path="/usr/bin:/usr/local/bin") for name in _PYTHONS)]
    for python in candidates:
        if python is not None and _starts_as(python, uid):
            return python, uid
    raise UsageError(
        f"Student code does not run as root, and the user `{name}` can start no Python 3.11 or newer here: the one "
        "that runs the lab is in a folder of root's. Install the system's python3, or work as another user."
    )


_PYTHONS: Final = ("python3", "python3.14", "python3.13", "python3.12", "python3.11")
_STARTS: dict[str, bool] = {}


def _starts_as(python: str, uid: int) -> bool:
    if python not in _STARTS:
        test = "import sys; sys.exit(sys.version_info < (3, 11))"
        try:
            done = subprocess.run(  # an interpreter
                [python, "-I", "-c", test], user=uid, group=uid, extra_groups=[], cwd="/", env={},
                timeout=START_SECONDS, capture_output=True, check=False,
            )  # fmt: skip
            _STARTS[python] = done.returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            _STARTS[python] = False
    return _STARTS[python]


def _encode(value: object) -> object:
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, list | tuple):
        return [_encode(each) for each in value]
    if isinstance(value, dict):
        return {key: _encode(each) for key, each in value.items()}
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(each) for each in value]
    if isinstance(value, dict):
        if value.keys() == {"bytes"}:
            return bytes.fromhex(value["bytes"])
        return {key: _decode(each) for key, each in value.items()}
    return value
