"""kill -9 of either side of a direct link, at each of its steps: the other one ends, and the next link goes on."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE, wait_until

SIZE = 1 << 30
"""Bytes of a file with nothing in it."""

HOLD = 3 << 20
"""Bytes after which the next ones are not taken before somebody is killed."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a file of holes takes no room there")


class Side:
    """A process that is one side of a link."""

    def __init__(self, role: str, path: Path, hold: int = 0) -> None:
        self.part = path.with_suffix(".part")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.direct_side", role, path, str(hold)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.told = self.line()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    @property
    def has(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[list[Side]]:
    made: list[Side] = []
    for role in ("listen", "knock"):
        path = tmp_path / role
        with path.open("wb") as file:
            file.truncate(SIZE)
        made.append(Side(role, path, HOLD))
    yield made
    for side in made:
        side.kill()
        for pipe in (side.process.stdin, side.process.stdout):
            assert pipe is not None
            pipe.close()


def meet(sides: list[Side]) -> None:
    """Tell each of the other one."""
    listener, connector = sides
    listener.say(connector.told)
    connector.say(listener.told)


@pytest.mark.parametrize("killed", ["listen", "knock"])
@pytest.mark.parametrize("step", ["up", "giving", "taking", "both"])
def test_whoever_is_left_hears_of_it_and_has_the_beginning(sides: list[Side], step: str, killed: str) -> None:
    victim, other = sides if killed == "listen" else sides[::-1]
    meet(sides)
    takers = {"up": [], "giving": [other], "taking": [victim], "both": sides}[step]
    for side in sides:
        side.say(str(SIZE) if side in takers else "")
    assert [side.line() for side in sides] == ["Up", "Up"]
    if takers:  # one of both is enough: while it holds, it gives nothing, and the other one may never come so far
        wait_until(lambda: any(side.has >= HOLD for side in takers))
    victim.kill()
    if other in takers:
        other.say("go on")
    assert other.line() == "Down"
    assert other.process.wait(PATIENCE) == 0
    assert other.has < SIZE
    assert other.part.read_bytes() == bytes(other.has)


def test_who_knocks_where_the_listener_was_killed_hears_that_nobody_is_there(sides: list[Side]) -> None:
    listener, connector = sides
    listener.kill()
    connector.say(listener.told)
    connector.say("")
    assert connector.line() == "Down"


def test_what_was_killed_goes_on_from_where_its_file_ends(sides: list[Side], tmp_path: Path) -> None:
    """The next link begins with the next byte, whichever process it is in."""
    listener, connector = sides
    meet(sides)
    listener.say("")
    connector.say(str(SIZE))
    assert [side.line() for side in sides] == ["Up", "Up"]
    wait_until(lambda: connector.has >= HOLD)
    connector.kill()
    reached = connector.has
    again = [Side(role, tmp_path / role) for role in ("listen", "knock")]
    sides += again
    meet(again)
    again[0].say("")
    again[1].say(str(reached + HOLD))
    assert [again[1].line() for _ in range(2)] == ["Up", "Fetched"]
    again[1].kill()
    assert [again[0].line() for _ in range(2)] == ["Up", "Down"]
    assert connector.has >= reached
