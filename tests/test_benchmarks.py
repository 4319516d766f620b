"""The benches measure what they say: messages arrive once at each receiver, and lost ones are counted."""

import subprocess
import sys
from pathlib import Path

import peers
import pytest
import workloads
from contest import Maker, durable, running
from floor_system import Floor
from systems import Client

BENCHES = Path(__file__).parents[1] / "scripts" / "benchmarks"
INSTALLED = peers.installed()  # on most machines none: scripts/bench is where they are asked for


def test_every_bench_can_be_chosen() -> None:
    told = subprocess.run([sys.executable, BENCHES, "--help"], check=True, capture_output=True, text=True)
    for name in ("relay", "fan-out", "idle", "login", "dead-reader", "restart", "mls", "mls-growth"):
        assert name in told.stdout


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


def _all_but_first(client: Client) -> list[int]:
    return type(client).take(client)[1:]
