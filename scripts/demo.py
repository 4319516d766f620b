"""A whole conversation with real processes: what each person saw, beside what the server saw.

Starts `securechat server` and four `securechat client` processes on loopback, in a folder of their own that is thrown
away afterwards, and plays a scene. Every step waits for what it expects to see; the first that does not come ends the
demo with what was seen so far and exit code 1.
"""

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

PATIENCE = 30.0
"""Seconds to wait for one expected line: a slow machine hashes passwords and makes keys in the meantime."""

PROGRAM = [str(Path(sys.executable).with_name("securechat"))]


SPOKEN = (
    "Hi Bob, only you can read this.",
    "And only you can read my answer.",
    "Welcome to the lobby, both of you.",
    "I have to leave for a moment.",
    "Carol will read this when she is back.",
    "And this too.",
)
"""What is said in the scene, in this order."""


class Process:
    """A process whose lines of output are kept as they come."""

    def __init__(self, name: str, arguments: list[str]) -> None:
        """Start `securechat` with these arguments."""
        self.name = name
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [*PROGRAM, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None  # both were asked for
        self._stdin = self.process.stdin
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()

    def says(self, line: str) -> None:
        """Type a line."""
        self._stdin.write(line + "\n")
        self._stdin.flush()

    def sees(self, text: str, *, after: int = 0) -> int:
        """Wait for a line with `text` and return its position."""
        deadline = time.monotonic() + PATIENCE
        with self._news:
            while True:
                for index in range(after, len(self.lines)):
                    if text in self.lines[index]:
                        return index
                left = deadline - time.monotonic()
                if left <= 0:
                    raise SceneError(f"{self.name} did not see {text!r} within {PATIENCE:.0f} s")
                if not self._reader.is_alive():
                    raise SceneError(f"{self.name} ended before seeing {text!r}")
                self._news.wait(min(left, 1.0))  # the end of the process does not set the event

    def ends(self) -> None:
        """Wait for the process to end by itself, with exit code 0."""
        self._stdin.close()
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise SceneError(f"{self.name} did not end within {PATIENCE:.0f} s") from None
        self._reader.join(PATIENCE)
        if code != 0:
            raise SceneError(f"{self.name} ended with exit code {code}")

    def kill(self) -> None:
        """End it whatever it does; harmless once it has ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(PATIENCE)


class SceneError(Exception):
    """The scene did not go as written."""


class Stage:
    """The server, the people, and their folders."""

    def __init__(self, folder: Path, certs: Path) -> None:
        """Start a server with room for three."""
        self.folder = folder
        self.certs = certs
        self.cast: list[Process] = []
        self.server = self._start(
            "server",
            [
                "server", "--port", "0", "--data", str(folder / "data"), "--name", "The demo server",
                "--cert", str(certs / "server.pem"), "--key", str(certs / "server-key.pem"),
                "--max-clients", "3", "--show-ciphertext",
            ],
        )  # fmt: skip
        line = self.server.lines[self.server.sees("listening on 127.0.0.1:")]
        self.address = line.split("listening on ")[1].split(",")[0]

    def _start(self, name: str, arguments: list[str]) -> Process:
        process = Process(name, arguments)
        self.cast.append(process)
        return process

    def enters(self, name: str) -> Process:
        """A person starts the client; the first time it registers them."""
        password_file = self.folder / f"{name}.password"
        if new := not password_file.exists():
            password_file.touch(mode=0o600)
            password_file.write_text(secrets.token_urlsafe(12) + "\n")
        return self._start(
            name,
            [
                "client", "--user", name, "--server", self.address, "--ca", str(self.certs / "ca.pem"),
                "--vault", str(self.folder / "vaults"), "--password-file", str(password_file),
                *(["--register"] if new else []),
            ],
        )  # fmt: skip


def play(stage: Stage) -> None:
    """The scene."""
    alice, bob, carol = (stage.enters(name) for name in ("alice", "bob", "carol"))
    for person in (alice, bob, carol):
        person.sees(f"Welcome, {person.name}")
        person.says("/rooms")
        person.sees("no rooms yet")  # the answer comes once this person's keys are at the server

    alice.says("/chat bob")
    bob.sees("asks to chat with you: /accept alice")
    bob.says("/accept alice")
    alice.sees("bob has accepted")
    alice.says(SPOKEN[0])
    bob.sees("only you can read this")
    bob.says(SPOKEN[1])
    alice.sees("only you can read my answer")

    for person in (alice, bob, carol):
        person.says("/join #lobby")
        person.sees("You have opened the room #lobby" if person is alice else "You are in #lobby")
    alice.says(SPOKEN[2])
    bob.sees("Welcome to the lobby")
    carol.sees("Welcome to the lobby")
    carol.says(SPOKEN[3])
    alice.sees("have to leave")
    bob.sees("have to leave")
    carol.says("/quit")
    carol.ends()

    bob.says("/go #lobby")
    alice.says(SPOKEN[4])
    bob.sees("Carol will read this")
    bob.says(SPOKEN[5])
    alice.sees("And this too.")
    carol = stage.enters("carol")
    seen = carol.sees("Carol will read this")
    carol.sees("And this too.", after=seen)

    dave = stage.enters("dave")
    dave.sees("The server is full")
    carol.says("/quit")
    carol.ends()
    dave.says("/rooms")
    dave.sees("#lobby")  # only somebody with a seat gets an answer

    for person in (alice, bob, dave):
        person.says("/quit")
        person.ends()
    stage.server.process.send_signal(signal.SIGTERM)
    stage.server.ends()


def check_blindness(stage: Stage) -> None:
    """Look for what was said in everything that the server printed and stored."""
    seen = "\n".join(stage.server.lines).encode()
    stored = [file.read_bytes() for file in (stage.folder / "data").rglob("*") if file.is_file()]
    for text in SPOKEN:
        if any(text.encode() in content for content in (seen, *stored)):
            raise SceneError(f"the server has seen {text!r}")


def report(stage: Stage) -> None:
    """Print what everybody saw."""
    for process in stage.cast[1:]:
        print(f"\n--- what {process.name} saw " + "-" * (60 - len(process.name)))
        print("\n".join(f"  {line}" for line in process.lines))
    print("\n--- what the server saw " + "-" * 54)
    print("\n".join(f"  {_readable(line)}" for line in stage.server.lines))


def _readable(line: str) -> str:
    """A JSON line of the log, for a person to read."""
    if line.startswith("{"):
        fields = json.loads(line)
        shown = " ".join(f"{name}={value}" for name, value in fields.items() if name not in ("time", "level", "event"))
        line = f"{fields['time'][11:19]} {fields['event']}  {shown}"
    return line if len(line) <= 150 else f"{line[:147]}..."


def main() -> int:
    """Play the scene and print the report."""
    parser = argparse.ArgumentParser(description="A whole conversation with real processes.")
    parser.add_argument("--certs", type=Path, required=True, help="folder that gen-certs has filled")
    certs: Path = parser.parse_args().certs
    with tempfile.TemporaryDirectory(prefix="securechat-demo-") as folder:
        stage = Stage(Path(folder), certs.resolve())
        try:
            play(stage)
            check_blindness(stage)
        except SceneError as error:
            report(stage)
            print(f"\nThe demo stopped: {error}.", file=sys.stderr)
            return 1
        finally:
            for process in stage.cast:
                process.kill()
        report(stage)
    print("\nEvery message reached the right people; nothing of them is in what the server printed or stored.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
