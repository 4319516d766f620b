"""The benches measure what they say: messages arrive once at each receiver, and lost ones are counted."""

import importlib
import inspect
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import login
import peers
import pytest
import workloads
from contest import Maker, Run, durable, running
from figure import Figure
from floor_system import Floor
from systems import Client, ServerFailedError

BENCHES = Path(__file__).parents[1] / "scripts" / "benchmarks"
INSTALLED = peers.installed()  # on most machines none: scripts/bench is where they are asked for


def benches() -> set[object]:
    """What looks like a bench in the modules of scripts/bench: finds figures, by itself or in a run."""
    benches = ({"return": Iterator[Figure]}, {"run": Run, "return": Iterator[Figure]})
    modules = [importlib.import_module(path.stem) for path in BENCHES.glob("[!_]*.py")]
    functions = [each for module in modules for _, each in inspect.getmembers(module, inspect.isfunction)]
    return {each for each in functions if not each.__name__.startswith("_") and each.__annotations__ in benches}


def test_every_bench_can_be_chosen() -> None:
    main = runpy.run_path(str(BENCHES / "__main__.py"), run_name="bench")
    chosen = main["SERVERS"] | main["OTHERS"]
    assert set(chosen.values()) == benches()
    told = subprocess.run(
        [sys.executable, BENCHES, "--help"],
        check=True, capture_output=True, text=True, env={**os.environ, "COLUMNS": "1000"},
    )  # fmt: skip
    assert f" {', '.join(chosen)};" in told.stdout


@pytest.mark.parametrize("make", [Floor, durable, *INSTALLED], ids=lambda make: make.__name__)
def test_messages_reach_their_receivers_once(make: Maker) -> None:
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
