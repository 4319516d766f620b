"""Run the chosen benches and print their figures."""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import flood
import mls
import mls_growth
import relay
from figure import Figure

BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {
    "relay": relay.relay, "fan-out": relay.fan_out, "mls": mls.mls, "mls-growth": mls_growth.growth,
    "flood": flood.flood,
}  # fmt: skip


def main() -> None:
    """Parse the arguments; run."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="What securechat costs.")
    parser.add_argument("bench", nargs="*", help=f"{', '.join(BENCHES)}; all of them by default")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw what mls-growth finds, as PNG")
    arguments = parser.parse_args()
    if unknown := set(arguments.bench) - set(BENCHES):
        parser.error(f"no bench called {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    if arguments.plot and "mls-growth" not in arguments.bench:
        parser.error("--plot draws what mls-growth finds")
    for name in arguments.bench or BENCHES:
        figures = []
        for figure in BENCHES[name]():
            figures.append(figure)
            if arguments.json:
                print(json.dumps({"bench": name, **figure.as_dict()}), flush=True)
            else:
                print(f"{name:8} {figure.as_line()}", flush=True)
        if arguments.plot and name == "mls-growth":
            mls_growth.plot(figures, arguments.plot)


if __name__ == "__main__":
    main()
