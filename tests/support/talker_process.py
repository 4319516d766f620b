"""The client of talker.py as a process that can be killed, stopped and started again; and kills under traffic."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from securechat.client.password_source import PasswordSource
from securechat.client.vault.vault import Vault
from securechat_lab.cast.live import CHEAP, PASSWORD, PATIENCE, Place
from securechat_lab.cast.wire_client import SECRETS
from tests.support.history import View, check_history
from tests.support.live import LiveServer

ROOT = Path(__file__).parents[2]

TROUBLE = ("Alarm", "Stopped", "Gap", "Refused")
"""Events that no fault of network, process or machine must cause."""


class Talker:
    """A client process that can be killed and started again."""

    def __init__(self, server: Place, name: str, environment: Mapping[str, str] | None = None) -> None:
        """`environment`: variables to add to our own."""
        self._environment = environment or {}
        SECRETS.add(PASSWORD.encode())
        self.server = server
        self.name = name
        self.vault = server.folder / "vaults" / f"{name}.vault"
        self.queued: list[tuple[str, str]] = []  # the texts that are in its vault, as the process has said
        self.events: list[str] = []
        self.start()

    def start(self) -> None:
        """Start the process."""
        self._begin = len(self.events)
        program = str(ROOT / "tests" / "support" / "talker.py")
        place = ["localhost", str(self.server.port), str(self.server.ca)]
        self.process = subprocess.Popen(
            [sys.executable, program, str(self.vault), self.name, *place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self._environment},
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)  # a failed test leaves none to wait for
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.endswith("\n"):
                return  # killed in the middle of a line
            message = json.loads(line)
            if "queued" in message:
                where, text = message["queued"]
                self.queued.append((where, text))
            else:
                self.events.append(f"{message['event']} {message['detail']}".strip())

    def tell(self, *command: str | int) -> None:
        """Give the process a command; a dead one does not get it."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal that does not end it."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self._end()

    def close(self) -> None:
        """Ask it to end."""
        self.tell("close")
        self._end()

    def _end(self) -> None:
        self.process.wait(PATIENCE)
        self._reader.join()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()

    def wait_for(self, event: str, patience: float = PATIENCE, *, or_end: bool = False) -> None:
        """Wait until the running process has reported an event; with `or_end`, or has gone."""
        deadline = time.monotonic() + patience
        while not self.saw(event):
            if or_end and self.process.poll() is not None:
                return
            assert time.monotonic() < deadline, f"{self.name} never saw {event}: {self.events[-20:]}"
            assert self.process.poll() is None, f"{self.name} has ended: {self.events[-20:]}"
            time.sleep(0.01)

    def wait_until_queued(self, where: str, text: str) -> None:
        """Wait until the process has reported that a text is in its vault."""
        deadline = time.monotonic() + PATIENCE
        while (where, text) not in self.queued:
            assert time.monotonic() < deadline, f"{self.name} never took {text}: {self.events[-20:]}"
            time.sleep(0.01)

    def wait_until_ready(self) -> None:
        """Wait for the session; a program whose first connection met a dead server has ended, so start it again."""
        deadline = time.monotonic() + PATIENCE
        while not self.saw("Ready"):
            assert time.monotonic() < deadline, f"{self.name} never was ready: {self.events[-20:]}"
            self.revive()
            time.sleep(0.01)

    def revive(self) -> None:
        """Start the program again if it has ended because its first connection met a dead server."""
        if self.saw("Ended UnreachableError"):
            self.kill()
            self.start()

    def saw(self, event: str) -> bool:
        """Whether the running process has reported an event."""
        return any(seen.startswith(event) for seen in self.events[self._begin :])


def gather(talkers: Sequence[Talker]) -> None:
    """Everybody enters the lobby, and the first two open a private conversation."""
    for talker in talkers:
        talker.wait_until_ready()
        talker.tell("join", "#lobby")
        talker.wait_for("ConversationChanged")
    first, second = talkers[:2]
    first.tell("open", second.name)
    second.wait_for("ConversationChanged accepted")


MOST_BETWEEN_KILLS = 40
"""Texts that are taken into vaults between two kills."""


def talk_and_kill(
    talkers: Sequence[Talker], victims: Iterable[LiveServer | Talker], chance: random.Random, first_number: int = 0
) -> int:
    """Traffic, and each victim in its turn is killed, after so much of it that some is on its way, and started again.

    Texts are numbered from `first_number` on, so that each is unique; returns the number of the next one.
    """
    first, second, *_ = talkers
    count = first_number
    for victim in victims:
        enough = sum(len(talker.queued) for talker in talkers) + chance.randint(1, MOST_BETWEEN_KILLS)
        deadline = time.monotonic() + PATIENCE
        while sum(len(talker.queued) for talker in talkers) < enough:
            assert time.monotonic() < deadline, "nobody takes what is to be said"
            talker = chance.choice(talkers)
            talker.revive()
            where = chance.choice(["#lobby", "#lobby", second.name if talker is first else first.name])
            if talker in (first, second) or where == "#lobby":
                count += 1
                talker.tell("say", where, f"{talker.name} {count}")
            time.sleep(0.005)  # the pace of the traffic; nothing is waited for
        victim.kill()
        victim.start()
    return count


def say_last_words(talkers: Sequence[Talker], patience: float = PATIENCE) -> None:
    """Wait until everything said has arrived: a conversation is a queue, so nothing waits behind its last words."""
    first, second, *_ = talkers
    words = [(talker, "#lobby") for talker in talkers] + [(first, second.name), (second, first.name)]
    for talker in talkers:
        talker.wait_until_ready()
    for talker, where in words:
        talker.tell("say", where, f"{talker.name} ends {where}")
    for talker, where in words:
        talker.wait_for(f"Delivered {talker.name} ends {where}", patience)
        for reader in talkers:
            if reader is not talker and (where == "#lobby" or reader.name == where):
                reader.wait_for(f"Received {talker.name} ends {where}", patience)


def close_and_look(server: LiveServer, talkers: Sequence[Talker]) -> int:
    """End everything in good order and check what the vaults hold; return how many texts were said."""
    for talker in talkers:
        talker.close()
        trouble = [seen for seen in talker.events if seen.startswith(TROUBLE)]
        assert not trouble, f"{talker.name}: {trouble}"
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()
    said: dict[tuple[str, str], dict[str, list[str]]] = {}
    views: dict[tuple[str, str], list[View]] = {}
    for talker in talkers:
        vault = Vault.open(talker.vault, talker.name, PasswordSource.typed(PASSWORD), cost=CHEAP)
        for row in vault.conversations.load():
            key: tuple[str, str] = (row.kind, row.name if row.kind == "open" else "")
            lines = vault.history.newest(row.id, 10_000_000)
            own = sorted((line for line in lines if line.own), key=lambda line: line.local_id)
            said.setdefault(key, {})[talker.name] = [line.text for line in own]
            first = min((line.seq for line in lines), default=1)
            views.setdefault(key, []).append(View(talker.name, lines, first - 1))
            told = [text for where, text in talker.queued if where == row.name]
            known = set(told)
            assert [text for text in said[key][talker.name] if text in known] == told
        vault.close()
    assert set(views) == {("open", "#lobby"), ("direct", "")}
    for key, of_all in views.items():
        check_history(said[key], of_all, everything_arrived=True)
    return sum(len(texts) for of_one in said.values() for texts in of_one.values())
