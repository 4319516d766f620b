"""kill -9 of the server and of clients under traffic: what was accepted is there once, in order, and readable."""

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from securechat.client.vault import Vault
from tests.support.history import View, check_history
from tests.support.live import CHEAP, PASSWORD, PATIENCE, LiveServer

ROOT = Path(__file__).parents[2]
KILLS = 32
NAMES = ("alice", "bob", "carol")


class Talker:
    """A client process that can be killed and started again."""

    def __init__(self, server: LiveServer, name: str) -> None:
        self.server = server
        self.name = name
        self.vault = server.folder / "vaults" / f"{name}.vault"
        self.queued: list[tuple[str, str]] = []  # what the process has said is in its vault
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
            env={**os.environ, "PYTHONPATH": str(ROOT)},
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

    def tell(self, *command: str) -> None:
        """Give the process a command; one that is dead does not get it."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self._end()

    def close(self) -> None:
        """Ask it to go."""
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

    def wait_for(self, event: str) -> None:
        """Wait until the process that runs now has told of an event."""
        deadline = time.monotonic() + PATIENCE
        while not self._seen(event):
            assert time.monotonic() < deadline, f"{self.name} never saw {event}: {self.events[-20:]}"
            assert self.process.poll() is None, f"{self.name} has ended: {self.events[-20:]}"
            time.sleep(0.01)

    def wait_until_ready(self) -> None:
        """Wait for the session; a program whose first connection met a dead server has ended, so start it again."""
        deadline = time.monotonic() + PATIENCE
        while not self._seen("Ready"):
            assert time.monotonic() < deadline, f"{self.name} never was ready: {self.events[-20:]}"
            if self._seen("Ended UnreachableError"):
                self.kill()
                self.start()
            time.sleep(0.01)

    def _seen(self, event: str) -> bool:
        return any(seen.startswith(event) for seen in self.events[self._begin :])


@pytest.mark.timeout(300)
def test_killed_at_any_moment_nothing_is_lost_doubled_or_unreadable(tmp_path: Path) -> None:
    server = LiveServer(tmp_path)
    talkers = [Talker(server, name) for name in NAMES]
    with contextlib.ExitStack() as ends:
        ends.callback(server.kill)
        for talker in talkers:
            ends.callback(talker.kill)
        talk_and_kill(server, talkers)
    look(talkers)


def talk_and_kill(server: LiveServer, talkers: list[Talker]) -> None:
    """Traffic and kills; then everybody's last words arrive everywhere, and all end as they should."""
    chance = random.Random(20)
    alice, bob, carol = talkers
    for talker in talkers:
        talker.wait_for("Ready")
        talker.tell("join", "#lobby")
        talker.wait_for("ConversationChanged")
    alice.tell("open", "bob")
    bob.wait_for("ConversationChanged opened")
    count = 0
    victims: list[LiveServer | Talker] = [server, *talkers]
    for _ in range(KILLS):
        end = time.monotonic() + chance.uniform(0.05, 0.5)
        while time.monotonic() < end:
            talker = chance.choice(talkers)
            where = chance.choice(["#lobby", "#lobby", "bob" if talker is alice else "alice"])
            if talker is not carol or where == "#lobby":
                count += 1
                talker.tell("say", where, f"{talker.name} {count}")
            time.sleep(0.005)  # the pace of the traffic; nothing is waited for
        victim = chance.choice(victims)
        victim.kill()
        victim.start()
    words = [(talker, "#lobby") for talker in talkers] + [(alice, "bob"), (bob, "alice")]
    for talker in talkers:
        talker.wait_until_ready()
    for talker, where in words:  # a conversation is a queue: behind its last words nothing waits
        talker.tell("say", where, f"{talker.name} ends {where}")
    for talker, where in words:
        talker.wait_for(f"Delivered {talker.name} ends {where}")
        for reader in talkers:
            if reader is not talker and (where == "#lobby" or reader.name == where):
                reader.wait_for(f"Received {talker.name} ends {where}")
    for talker in talkers:
        talker.close()
        assert not any(seen.startswith(("Alarm", "Stopped", "Gap", "Refused")) for seen in talker.events)
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def look(talkers: list[Talker]) -> None:
    """Check what the vaults hold."""
    said: dict[tuple[str, str], dict[str, list[str]]] = {}
    views: dict[tuple[str, str], list[View]] = {}
    for talker in talkers:
        vault = Vault.open(talker.vault, talker.name, PASSWORD, cost=CHEAP)
        for row in vault.conversations():
            key: tuple[str, str] = (row.kind, row.name if row.kind == "open" else "")
            lines = vault.history(row.id, 1_000_000)
            own = sorted((line for line in lines if line.own), key=lambda line: line.local_id)
            said.setdefault(key, {})[talker.name] = [line.text for line in own]
            first = min((line.seq for line in lines), default=1)
            views.setdefault(key, []).append(View(talker.name, lines, first - 1))
            told = [text for where, text in talker.queued if where == row.name]
            assert [text for text in said[key][talker.name] if text in set(told)] == told
        vault.close()
    assert set(views) == {("open", "#lobby"), ("direct", "")}
    for key, of_all in views.items():
        check_history(said[key], of_all, everything_arrived=True)
        assert sum(len(texts) for texts in said[key].values()) > 100, "too little was said for this test to mean much"
