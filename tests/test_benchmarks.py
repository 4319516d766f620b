"""The benches measure what they say: messages arrive once at each receiver, and lost ones are counted."""

import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from scripts.benchmarks import ROOT, beside, work
from scripts.benchmarks import __main__ as main
from scripts.benchmarks.contest import Maker, Run, durable, running
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.systems import peers
from scripts.benchmarks.systems.floor import Floor
from scripts.benchmarks.systems.system import Client, ServerFailedError
from scripts.benchmarks.work import doors, login, rotation, workloads

INSTALLED = peers.installed()  # on most machines none: scripts/bench is where they are asked for


def benches() -> set[object]:
    """What looks like a bench in the modules of `work`: finds figures, by itself or in a run."""
    benches = ({"return": Iterator[Figure]}, {"run": Run, "return": Iterator[Figure]})
    modules = [importlib.import_module(each.name) for each in pkgutil.iter_modules(work.__path__, f"{work.__name__}.")]
    functions = [each for module in modules for _, each in inspect.getmembers(module, inspect.isfunction)]
    return {each for each in functions if not each.__name__.startswith("_") and each.__annotations__ in benches}


def test_every_bench_can_be_chosen() -> None:
    chosen = {**main.SERVERS, **main.OTHERS}
    assert set(chosen.values()) == benches()
    told = subprocess.run(
        [sys.executable, "-m", main.__name__, "--help"],
        check=True, capture_output=True, text=True, env={**os.environ, "COLUMNS": "1000"},
    )  # fmt: skip
    assert f" {', '.join(chosen)};" in told.stdout


@pytest.mark.parametrize("make", [Floor, durable, *INSTALLED], ids=lambda make: make.__name__)
def test_messages_reach_their_receivers_once(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "QUIET", 60.0)  # a machine that stands still for some seconds has lost nothing
    with running(make) as (system,):
        talk = workloads.bursts(system, system.pairs(2))
        assert (talk.delivered, talk.lost) == (2 * workloads.BURSTS, 0)
        assert talk.cpu > 0
        assert 0 < talk.latency(50) <= talk.latency(99)
        room = workloads.room(system, system.room(3), workloads.OUTSTANDING)
        assert (room.delivered, room.lost) == (2 * workloads.ROOM_MESSAGES, 0)
        newcomer = system.newcomer()
        newcomer.log_in()
        assert newcomer in system.clients
        assert system.process.rss() > 0


def test_messages_that_a_server_drops_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "QUIET", 0.5)
    with running(Floor) as (system,):
        pairs = system.pairs(2)
        lossy = pairs[0][1]
        monkeypatch.setattr(lossy, "take", lambda: _all_but_first(lossy))
        cost = workloads.pipelined(system, pairs)
    assert cost.delivered + cost.lost == 2 * workloads.PIPELINED_MESSAGES
    assert cost.lost > 0


def test_logins_are_counted_when_all_are_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "AT_ONCE", 2)
    with running(durable) as (system,):
        clients = [system.newcomer() for _ in range(5)]
        entry = login.enter(system, [client.log_in for client in clients[:4]])
        assert entry.count == 4
        assert entry.seconds > 0 < entry.cpu
        monkeypatch.setattr(clients[4], "token", b"wrong".ljust(32))
        with pytest.raises(ServerFailedError, match="a client did not get into securechat: .*token-refused"):
            login.enter(system, [clients[0].log_in, clients[4].log_in])


def _all_but_first(client: Client) -> list[int]:
    return type(client).take(client)[1:]


@pytest.mark.parametrize(
    ("new", "verdict"),
    [
        ([100, 101, 103, 104], "same"),  # within 3 %
        ([104, 104, 104, 104], "DEARER"),
        ([96, 96, 96, 96], "cheaper"),
        ([90, 100, 110, 120], "same"),  # 5 % in the median, which the spread can explain
    ],
)
def test_a_difference_counts_beyond_the_spread(new: list[float], verdict: str) -> None:
    comparison = beside.Comparison("work", "CPU", "µs", [100.0] * 4, new)
    assert comparison.verdict == verdict
    assert verdict in comparison.as_line()


def test_both_servers_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "AT_ONCE", 2)
    monkeypatch.setattr(login, "RESUMES", 4)
    trees = beside.Tree("old", ROOT), beside.Tree("new", ROOT)
    ((name, comparison),) = beside.compare(trees, ["resume"], 1)
    assert (name, comparison.metric) == ("resume", "server CPU per login")
    assert len(comparison.old) == len(comparison.new) == 1
    assert comparison.old[0] > 0 < comparison.new[0]


def test_every_other_round_goes_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []

    def work(trees: Sequence[beside.Tree]) -> Iterator[Figure]:
        for tree in trees:
            turns.append(tree.name)
            yield Figure("work", "CPU", float(len(turns)), "µs", system=tree.name)

    monkeypatch.setitem(beside.WORK, "resume", work)
    trees = beside.Tree("old", ROOT), beside.Tree("new", ROOT)
    ((_, comparison),) = beside.compare(trees, ["resume"], 3)
    assert turns == ["old", "new", "new", "old", "old", "new"]
    assert (comparison.old, comparison.new) == ([1.0, 4.0, 5.0], [2.0, 3.0, 6.0])


def test_what_cannot_be_compared_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tree's own engine is measured: here one that cannot be imported, though the Python beside it has another."""
    (tmp_path / ".venv").symlink_to(Path(sys.prefix), target_is_directory=True)
    (tmp_path / "securechat").mkdir()
    (tmp_path / "securechat" / "__init__.py").write_text("raise RuntimeError('no engine here')")
    assert not list(beside.compare((beside.Tree("old", tmp_path), beside.Tree("new", ROOT)), ["mls"], 2))
    assert capsys.readouterr().err == "mls: cannot be compared: old ends with RuntimeError: no engine here\n"


def test_only_a_checkout_is_compared_with(tmp_path: Path) -> None:
    with pytest.raises(beside.NotComparableError, match="is not a checkout"):
        beside.set_up("old", tmp_path)


def test_a_walk_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, small in (("SIZES", (3,)), ("COMMITS", 12), ("ROUNDS", 1)):
        monkeypatch.setattr(doors, name, small)
    figures = {figure.metric: figure.value for figure in doors.doors()}
    assert 1_000 < figures["one commit"] < 1_500
    assert figures["server CPU to a reader"] > 0


def test_a_rotation_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "SIZES", (3,))
    assert all(figure.value > 0 for figure in rotation.rotation())
