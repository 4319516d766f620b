"""What the MLS engine costs, beside foreign implementations that do the same work in the same run.

All are in one group and get the same bytes. What is compared is CPU time; operations are interleaved and the median is
taken, so that noise hits all alike. docs/mls-performance.md says more.
"""

import gc
import os
import secrets
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median

from scripts.benchmarks.figure import Figure
from scripts.benchmarks.systems.mls_clients import Client, MlsRs, Rfc9420, Securechat, TsMls, installed

PAYLOAD = 256  # bytes
BATCH = 50  # messages measured at once
LARGE, MEDIUM = 1_000, 100  # members
MESSAGE_ROUNDS, MEDIUM_ROUNDS, LARGE_ROUNDS, IMPORT_ROUNDS = 20, 15, 5, 9

GOALS = {
    ("encrypt", Rfc9420.name): 0.85,
    ("decrypt", Rfc9420.name): 0.95,
    ("create + add 999", MlsRs.name): 1.0,
    ("join by Welcome", MlsRs.name): 1.6,
    ("first update, create", MlsRs.name): 1.1,
    ("first update, process", MlsRs.name): 0.7,
    ("update, create", MlsRs.name): 1.2,
    ("update, process", MlsRs.name): 1.3,
}
"""Our cost divided by theirs, at most."""

IMPORT_GOAL = 60  # milliseconds

Costs = dict[tuple[str, str], list[float]]
"""Seconds of CPU by metric and implementation."""


def mls() -> Iterator[Figure]:
    """CPU time of the MLS engine, and of others where they are installed."""
    kinds, missing = installed()
    if missing:
        print(f"not installed, so not compared: {', '.join(missing)}", file=sys.stderr)
    kinds = [Securechat, *kinds]
    that_commit = [kind for kind in kinds if kind is not Rfc9420]
    yield from _messages(kinds, MESSAGE_ROUNDS)
    yield from _large(that_commit, LARGE_ROUNDS)
    yield from _medium(that_commit, MEDIUM_ROUNDS)
    yield from _imports(kinds, IMPORT_ROUNDS)


def _figures(case: str, costs: Costs, unit: str, factor: float) -> Iterator[Figure]:
    """One figure for each metric and foreign implementation; one without baseline where there is none."""
    for metric in dict.fromkeys(metric for metric, _ in costs):
        value = median(costs[metric, Securechat.name]) * factor
        others = [name for known, name in costs if known == metric and name != Securechat.name]
        for name in others:
            baseline = median(costs[metric, name]) * factor
            yield Figure(case, f"{metric} ({name})", value, unit, baseline, GOALS.get((metric, name)))
        if not others:
            yield Figure(case, metric, value, unit)


def _group_of(creator: Securechat, key_packages: Sequence[bytes]) -> bytes:
    """Have `creator` make a group with the owners of key packages; the Welcome for them comes back."""
    welcome = creator.create_and_add(key_packages).welcome
    assert welcome is not None
    gc.freeze()  # what stands now is not part of what is measured
    return welcome


def _close(clients: Sequence[Client]) -> None:
    for client in clients:
        client.close()
    gc.unfreeze()


def _messages(kinds: Sequence[type[Client]], rounds: int) -> Iterator[Figure]:
    pairs = [(kind(), kind()) for kind in kinds]
    members = [client for pair in pairs for client in pair]
    welcome = _group_of(Securechat(), [member.key_package() for member in members])
    for member in members:
        member.run("join", welcome)
    costs: Costs = defaultdict(list)
    for _ in range(rounds):
        for sender, receiver in pairs:
            texts = [secrets.token_bytes(PAYLOAD) for _ in range(BATCH)]
            messages = sender.run("encrypt", texts)
            costs["encrypt", sender.name].append(sender.cpu / BATCH)
            assert receiver.run("decrypt", messages) == texts
            costs["decrypt", sender.name].append(receiver.cpu / BATCH)
    _close(members)
    yield from _figures(f"{PAYLOAD} bytes", costs, "µs", 1e6)


def _large(kinds: Sequence[type[Client]], rounds: int) -> Iterator[Figure]:
    """The first commits of a large group: no parent node has a key but those on the creator's path."""
    choices = [[kind for kind in kinds if kind is not TsMls or last] for last in [False] * (rounds - 1) + [True]]
    teams = [[(kind(), kind()) for kind in chosen] for chosen in choices]  # one commits, one processes
    joiners = [client for team in teams for pair in team for client in pair]
    ours = [Securechat() for _ in range(LARGE - 1 - len(joiners))]
    key_packages = [member.key_package() for member in (*joiners, *ours)]
    costs: Costs = defaultdict(list)
    for chosen in choices:
        for kind in chosen:
            creator = kind()
            creator.run("create_and_add", key_packages)
            costs[f"create + add {LARGE - 1}", kind.name].append(creator.cpu)
            creator.close()
    creator = Securechat()
    welcome = _group_of(creator, key_packages)
    for client in joiners:
        client.run("join", welcome)
        costs["join by Welcome", client.name].append(client.cpu)
    for team in teams:
        for maker, _ in team:
            maker.run("update")
            costs["first update, create", maker.name].append(maker.cpu)
        commit = creator.run("update")
        for _, processor in team:
            processor.run("process", commit)
            costs["first update, process", processor.name].append(processor.cpu)
    _close(joiners)
    yield from _figures(f"{LARGE} members", costs, "ms", 1e3)


def _medium(kinds: Sequence[type[Client]], rounds: int) -> Iterator[Figure]:
    """Updates in a group in which every parent node has a key."""
    pairs = [(kind(), kind()) for kind in kinds]
    measured = [client for pair in pairs for client in pair]
    members: list[Client] = [Securechat() for _ in range(MEDIUM - len(measured))]
    for place, client in enumerate(measured):
        members.insert(2 * place + 1, client)  # beside one of ours, whose commit gives a key to the parent of both
    creator = members[0]
    assert isinstance(creator, Securechat)
    welcome = _group_of(creator, [member.key_package() for member in members[1:]])
    for member in members[1:]:
        member.run("join", welcome)
    for place in range(0, MEDIUM, 2):
        gc.freeze()  # or else what all members hold would be searched for garbage before every step
        _commit(members[place], [*measured, *members[place + 2 :: 2]])  # those before have had their turn
    gc.freeze()

    costs: Costs = defaultdict(list)
    for _ in range(rounds):
        for maker, _ in pairs:
            cost = _commit(maker, [client for client in measured if client is not maker])
            costs["update, create", maker.name].append(cost)
            for _, processor in pairs:
                costs["update, process", processor.name].append(processor.cpu)
    _close(measured)
    yield from _figures(f"{MEDIUM} members", costs, "ms", 1e3)


def _commit(maker: Client, others: Sequence[Client]) -> float:
    """Have one member commit a fresh path and the others process it; the seconds of CPU that making it took."""
    commit = maker.run("update")
    cost = maker.cpu
    for other in others:
        other.run("process", commit)
    maker.merge(commit)
    return cost


def _imports(kinds: Sequence[type[Client]], rounds: int) -> Iterator[Figure]:
    """CPU time to import an engine in a fresh process, from compiled bytecode."""
    modules = {Securechat.name: "securechat.mls.group", Rfc9420.name: "rfc9420", MlsRs.name: "mls_rs_uniffi"}
    names = [name for name in modules if name in {kind.name for kind in kinds}]
    costs: Costs = defaultdict(list)
    with tempfile.TemporaryDirectory() as bytecode:
        environment = os.environ | {"PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
        for round_number in range(rounds + 1):
            for name in names:
                program = f"from time import process_time as t; a = t(); import {modules[name]}; print(t() - a)"
                cost = subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)
                if round_number:  # the first one compiles
                    costs["import", name].append(float(cost))
    own = median(costs["import", Securechat.name]) * 1e3
    yield Figure("fresh process", f"import {modules[Securechat.name]}", own, "ms", goal=IMPORT_GOAL)
    if len(names) > 1:
        yield from _figures("fresh process", costs, "ms", 1e3)


PARTS = {"messages": (_messages, 10), "large": (_large, 1), "medium": (_medium, 10), "imports": (_imports, 3)}
"""Of this bench, each with a number of rounds that is few enough to be repeated often."""


def alone(part: str) -> list[Figure]:
    """CPU time of our engine alone, for a part of the bench: what `--beside` has measured in either tree."""
    measure, rounds = PARTS[part]
    return list(measure([Securechat], rounds))
