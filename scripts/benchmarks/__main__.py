"""Run the chosen benches and print their figures."""

import argparse
import json
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from scripts.benchmarks import ROOT, beside
from scripts.benchmarks.contest import Run
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.systems import peers
from scripts.benchmarks.systems.system import ServerFailedError
from scripts.benchmarks.table import as_table
from scripts.benchmarks.work import (
    blobs,
    client,
    dead_reader,
    doors,
    files,
    flood,
    hostile,
    idle,
    link,
    login,
    login_timing,
    mls,
    mls_growth,
    relay,
    restart,
    rotation,
)

SERVERS: dict[str, Callable[[Run], Iterator[Figure]]] = {
    "relay": relay.relay, "fan-out": relay.fan_out, "idle": idle.idle, "login": login.login,
    "dead-reader": dead_reader.dead_reader, "restart": restart.restart,
    "hostile": hostile.hostile, "hostile-large": hostile.hostile_large,
    "blobs": blobs.blobs,
}  # fmt: skip
OTHERS: dict[str, Callable[[], Iterator[Figure]]] = {
    "flood": flood.flood, "login-timing": login_timing.login_timing, "mls": mls.mls, "mls-growth": mls_growth.growth,
    "client": client.client, "doors": doors.doors, "files": files.files, "rotation": rotation.rotation,
    "link": link.link,
}  # fmt: skip
BENCHES = (*SERVERS, *OTHERS)


def main() -> None:
    """Parse the arguments; run."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="What securechat costs.")
    parser.add_argument("bench", nargs="*", help=f"{', '.join(BENCHES)}; all of them by default")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--table", action="store_true", help="a table in Markdown, a column for each system")
    parser.add_argument("--rounds", type=int, help=f"how often each does the same work (3; {beside.ROUNDS} --beside)")
    parser.add_argument("--short", action="store_true", help="hostile: the costliest floods alone; blobs: 3 s of each")
    parser.add_argument("--alone", action="store_true", help="without the servers of others, where they are installed")
    parser.add_argument(
        "--beside", type=Path, metavar="CHECKOUT",
        help=f"compare CPU time with another checkout of this repository: {', '.join(beside.WORK)}",
    )  # fmt: skip
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw what mls-growth finds, as PNG")
    arguments = parser.parse_args()
    known = beside.WORK if arguments.beside else BENCHES
    if unknown := set(arguments.bench) - set(known):
        parser.error(f"no bench called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if arguments.plot and "mls-growth" not in arguments.bench:
        parser.error("--plot draws what mls-growth finds")
    least = 2 if arguments.beside else 1  # from one round nobody can tell the spread
    rounds = arguments.rounds
    if rounds is None:
        rounds = beside.ROUNDS if arguments.beside else 3
    if rounds < least:
        parser.error(f"--rounds is {least} at least")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for us and for the servers, who inherit it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # in order: the servers are to end, too
    chosen = arguments.bench or known
    if arguments.beside:
        _compare(arguments.beside, chosen, rounds, as_json=arguments.json)
        return
    run = Run(rounds, [] if arguments.alone else peers.installed(), arguments.short)
    if set(chosen) & set(SERVERS) and not arguments.alone:
        print(peers.described(), file=sys.stderr, flush=True)
    benches = {name: partial(bench, run) for name, bench in SERVERS.items()} | OTHERS
    for name in chosen:
        figures = []
        try:
            for figure in benches[name]():
                figures.append(figure)
                if arguments.json:
                    print(json.dumps({"bench": name, **figure.as_dict()}), flush=True)
                elif not arguments.table:
                    print(f"{name:8} {figure.as_line()}", flush=True)
        except ServerFailedError as error:
            raise SystemExit(f"{name}: {error}") from error
        if arguments.table:
            print(f"### {name}\n\n{as_table(figures)}\n", flush=True)
        if arguments.plot and name == "mls-growth":
            mls_growth.plot(figures, arguments.plot)


def _compare(checkout: Path, names: Iterable[str], rounds: int, *, as_json: bool) -> None:
    try:
        trees = beside.set_up("old", checkout), beside.Tree("new", ROOT)
    except beside.NotComparableError as error:
        raise SystemExit(str(error)) from error
    for tree in trees:
        print(tree.described(), file=sys.stderr, flush=True)
    for name, comparison in beside.compare(trees, names, rounds):
        told = json.dumps({"bench": name, **comparison.as_dict()}) if as_json else f"{name:8} {comparison.as_line()}"
        print(told, flush=True)


if __name__ == "__main__":
    main()
