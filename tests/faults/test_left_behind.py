"""What a vault has used up, and deleted or overwritten, is not in its files any more, wherever its client is killed."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securechat.client import commands
from securechat_lab.cast.live import PATIENCE, LiveClient
from tests.support.faulty_system import FaultySystem
from tests.support.live import LiveServer
from tests.support.pages import Copy, gone, log_of
from tests.support.talker_process import Talker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD and /proc are Linux's")


class Watched:
    """bob, a real client process, and what he has used up until he was idle for the last time."""

    def __init__(self, server: LiveServer, folder: Path) -> None:
        self.system = FaultySystem(folder)
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        places = {"TMPDIR": str(self.temporary), "SQLITE_TMPDIR": str(self.temporary)}
        self.talker = Talker(server, "bob", self.system.environment | places)
        self._folder = folder / "copies"
        self._folder.mkdir()
        self._secret: set[bytes] = set()  # in the vault, when he was idle
        self.used: set[bytes] = set()  # in it before, and not any more

    def rest(self) -> bool:
        """Wait until he is idle: nothing that he has used up is in his files. False if he has died before."""
        deadline = time.monotonic() + PATIENCE
        while (copy := self._quiet()) is None:
            assert time.monotonic() < deadline, "his log is never cut"
            if self.talker.process.poll() is not None:
                return False
            time.sleep(0.02)
        secret, everything = copy.windows()
        self.used = gone(self.used | self._secret, everything)
        self._secret = secret
        assert copy.left(self.used) == 0
        assert copy.left(secret) > 100  # what is in use is found
        assert [each for each in self._open_files() if each.endswith("(deleted)") or "temporary" in each] == []
        return True

    def _quiet(self) -> Copy | None:
        """His files, if he does not write to them."""
        vault = self.talker.vault
        if log_of(vault).stat().st_size:
            return None
        before = vault.stat().st_mtime_ns
        copy = Copy(vault, self._folder / "idle")
        return copy if vault.stat().st_mtime_ns == before and not log_of(vault).stat().st_size else None

    def _open_files(self) -> list[str]:
        folder = Path(f"/proc/{self.talker.process.pid}/fd")
        return [str(each.readlink()) for each in folder.iterdir() if int(each.name) > 2]  # not what it has from us

    def dies(self, after: int, told: str, act: Callable[[], object]) -> bool:
        """Have him killed after so many changes of files, which `act` brings about. False: he has made fewer.

        What he had used up before is not in his files then, nor once he is idle again.
        """
        self.talker.events.clear()
        self.system.set(dies_after=after)
        act()
        deadline = time.monotonic() + PATIENCE
        while self.talker.process.poll() is None and not (told in self.talker.events and self._quiet()):
            assert time.monotonic() < deadline, f"neither {told} nor an end: {self.talker.events[-10:]}"
            time.sleep(0.02)
        if self.talker.process.poll() is None and self.rest():
            self.system.set()
            return False
        self.talker.kill()  # close its pipes
        assert Copy(self.talker.vault, self._folder / "killed").left(self.used) == 0
        assert not list(self.temporary.iterdir())
        self.system.set()
        self.talker.start()
        self.talker.wait_until_ready()
        assert self.rest()
        return True


@pytest.fixture
def bob(server: LiveServer, tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(server, tmp_path)
    watched.talker.wait_until_ready()
    yield watched
    watched.talker.kill()



@pytest.mark.parametrize(("kind", "step"), [("text", 5), ("commit", 6), ("invitation", 12)])
def test_what_a_vault_has_used_up_is_nowhere_in_its_files_after_a_kill(
    server: LiveServer, bob: Watched, clients: Callable[..., list[LiveClient]], kind: str, step: int
) -> None:
    """One thing after the other comes in, and he is killed a few changes of his files later each time."""
    (alice,) = clients(server, "alice")
    assert bob.rest()
    alice.answer(commands.CreateRoom("#club"))
    alice.answer(commands.Invite(alice.id_of("#club"), "bob"))
    bob.talker.wait_for("ConversationChanged joined")
    assert bob.rest()
    for killed in range(1000):
        happen, told = happening(alice, kind, killed)
        if not bob.dies(1 + killed * step, told, happen):
            break
    assert killed >= 4, "nothing of this is killed in its middle"
    assert len(bob.used) > 100, "nothing was used up"


def happening(alice: LiveClient, kind: str, number: int) -> tuple[Callable[[], object], str]:
    """What uses something up at bob, to be done when he is ready; and how he says that he has seen it."""
    club = alice.id_of("#club")
    if kind == "text":
        return lambda: alice.say("#club", f"text {number}"), f"Received text {number}"
    if kind == "commit":
        return lambda: alice.answer(commands.SetTopic(club, f"topic {number}")), "ConversationChanged topic"
    room = f"#room{number}"
    alice.answer(commands.CreateRoom(room))
    return lambda: alice.answer(commands.Invite(alice.id_of(room), "bob")), "ConversationChanged joined"


def test_under_steady_traffic_and_a_front_end_that_reads_the_log_is_cut_all_the_same(
    server: LiveServer, clients: Callable[..., list[LiveClient]], talkers: Callable[..., list[Talker]]
) -> None:
    (bob,) = clients(server, "bob")
    (alice,) = talkers(server, "alice")
    alice.wait_until_ready()
    bob.answer(commands.JoinRoom("#lobby"))
    alice.tell("join", "#lobby")
    alice.wait_for("ConversationChanged")
    room = bob.id_of("#lobby")
    alice.tell("flood", "#lobby", "on and on", 1_000_000)
    log, cuts, grown = log_of(bob.path), 0, 0
    deadline = time.monotonic() + PATIENCE
    while cuts < 3:
        assert time.monotonic() < deadline, f"cut {cuts} times"
        assert bob.client.history(room, 50) is not None  # as a front end that draws all the time
        size = log.stat().st_size
        cuts += size < grown
        grown = size
    assert len(bob.client.history(room, 100)) == 100  # it was not idle meanwhile
