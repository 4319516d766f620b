"""A process that reads one picture or recording for us, and can do nothing else: `worker` says what it gives up.

It has no environment, no file or connection of ours, and nothing of the vault. Whatever a file does to it, one sentence
comes of it here, within a time and a size that are known before. What it answers is as hostile as what it was given.

Where Linux has Landlock, it can open, remove, rename and run nothing. On every Unix it has no descriptor left, and
limits of processor time and processes; on Linux one of memory, too, which macOS does not have. On Windows there is the
deadline alone, and the bound of what it answers.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, NoReturn, Self

from securechat.client.media.worker import (
    DONE,
    MAX_SECONDS,
    NO_MEMORY,
    PICTURES,
    SILENT,
    TOO_LARGE,
    TOO_LONG,
    UNREADABLE,
    VOICE,
)
from securechat.errors import SecurechatError, UsageError

MEMORY: Final = 512 << 20
"""Bytes of address space: 160 MB are libraries; a photograph of 64 million pixels is decoded in small."""
CPU_SECONDS: Final = 30
"""Of processor for one job: ten minutes of speech take six."""
JOB_SECONDS: Final = 120.0
"""For one job, and to start, on a machine that does other things as well."""
END_SECONDS: Final = 10.0
"""For its pipes to end after it was killed."""
MAX_INPUT: Final = 128 << 20
"""Bytes of what is read: ten minutes of a recording as it comes from a studio."""

_WORKER: Final = Path(__file__).with_name("worker.py")
_PORTION: Final = 1 << 20  # bytes that are written or read at once
_NEEDS: Final = {PICTURES: ("PIL", "media", "Previews need"), VOICE: ("av", "voice", "Voice notes need")}
NO_ANSWER: Final = "what reads it gave an answer that is none"
_WHAT: Final = {PICTURES: "picture", VOICE: "recording"}
_WHY: Final = {
    UNREADABLE: "it is damaged, or of a kind that is not taken",
    TOO_LARGE: "it has too many pixels",
    TOO_LONG: f"it is longer than {MAX_SECONDS // 60} minutes",
    NO_MEMORY: f"it takes more than {MEMORY >> 20} MiB of memory",
    SILENT: "there is no sound in it",
}


class MediaError(SecurechatError):
    """A picture or a recording cannot be read, or not within its bounds: that file is no use, whatever is tried."""

    def __init__(self, what: str, why: str) -> None:
        """`why`: as the end of a sentence, without a full stop."""
        super().__init__(f"The {what} cannot be used: {why}.")
        self.why = why


class Child:
    """The process, for one job after another; a context manager, at whose end it is gone.

    What one file has done to it shows in what it answers of the next: what is sent gets a process of its own, and what
    others have sent never shares one with it. One thread uses it.
    """

    def __init__(self, work: str) -> None:
        """Start one for `PICTURES` or for `VOICE`. Raises `UsageError` where the extra is missing, and `MediaError`."""
        self._what = _WHAT[work]
        self._thread: threading.Thread | None = None  # which talks to it
        folder = _folder_of(work)
        environment = {"SYSTEMROOT": os.environ.get("SYSTEMROOT", "")} if sys.platform == "win32" else {}
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and file
            [sys.executable, "-I", "-S", "-B", _WORKER, folder, work, str(MEMORY), str(CPU_SECONDS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            env=environment, start_new_session=True, creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )  # fmt: skip
        try:
            self._exchange(b"", b"", 0)
        except MediaError as error:
            why = "what reads it cannot be started here. Install the extra again"
            raise MediaError(self._what, why) from error

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self.close()

    def ask(self, job: int, data: bytes, most: int) -> bytes:
        """Have a job done (`worker`), and return its answer, of `most` bytes at most. Raises `MediaError`.

        Where that is because of the process itself, it is gone, and so is every later answer.
        """
        if len(data) > MAX_INPUT:
            raise MediaError(self._what, f"it is larger than {MAX_INPUT >> 20} MiB")
        return self._exchange(bytes([job]) + len(data).to_bytes(4), data, most)

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):  # it has ended
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._thread is not None:
            self._thread.join(END_SECONDS)
            if self._thread.is_alive():  # something that it has left behind holds the pipe
                return
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _exchange(self, head: bytes, data: bytes, most: int) -> bytes:
        """Write a job and read its answer, in a thread: neither ends by itself, and Windows cannot wait for a pipe."""
        heard: list[tuple[int, bytes | None]] = []
        self._thread = threading.Thread(target=self._talk, args=(head, data, most, heard), name="media", daemon=True)
        self._thread.start()
        self._thread.join(JOB_SECONDS)
        if self._thread.is_alive():
            self._fail(f"it took more than {JOB_SECONDS:g} s")
        if not heard:
            self._fail(self._how_it_ended())
        outcome, answer = heard[0]
        if answer is None or outcome not in (DONE, *_WHY) or (outcome != DONE and answer):
            self._fail(NO_ANSWER)
        if outcome != DONE:
            raise MediaError(self._what, _WHY[outcome])
        return answer

    def _talk(self, head: bytes, data: bytes, most: int, heard: list[tuple[int, bytes | None]]) -> None:
        """Append the outcome and the answer; None: it is too long. Nothing where the process has gone."""
        to, source = self._process.stdin, self._process.stdout
        if to is None or source is None:
            return
        with suppress(OSError, ValueError):  # it has gone, or does not want to hear the rest: what it says counts
            for part in (head, data):
                rest = memoryview(part)
                while rest:
                    rest = rest[to.write(rest[:_PORTION]) :]
        with suppress(OSError, ValueError):  # it was closed
            if len(start := _read(source, 5)) == 5:
                length = int.from_bytes(start[1:])
                answer = _read(source, length) if length <= most else None
                if answer is None or len(answer) == length:
                    heard.append((start[0], answer))

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(JOB_SECONDS)
        except subprocess.TimeoutExpired:  # it has closed its side, and goes on
            return "what reads it gave no answer"
        if sys.platform != "win32" and code == -signal.SIGXCPU:
            return f"it took more than {CPU_SECONDS} s of processor time"
        return "what reads it broke down over it"

    def _fail(self, why: str) -> NoReturn:
        self.close()
        raise MediaError(self._what, why)


def _read(source: IO[bytes], length: int) -> bytes:
    got = bytearray()
    while len(got) < length and (data := source.read(min(length - len(got), _PORTION))):
        got += data
    return bytes(got)


def check_installed(work: str) -> None:
    """Raise `UsageError`, with what to do, where what a kind of work needs is not installed."""
    _folder_of(work)


def _folder_of(work: str) -> str:
    """Return the folder from which the process takes its library."""
    package, extra, need = _NEEDS[work]
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise UsageError(f"{need} the extra [{extra}]: pip install 'securechat[{extra}]'")
    return str(Path(found.origin).parents[1])
