"""Run the chosen soaks, each in a folder of its own; what fails, fails with an assertion that says why."""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from scripts.soaking import crowds, faults, hostile

SOAKS: dict[str, Callable[[Path, float], None]] = {
    soak.__name__: soak
    for soak in (
        faults.chaos, faults.kills, faults.stops,
        crowds.readers, crowds.resume, crowds.storm, crowds.adds, crowds.duplex,
        hostile.hostile,
    )
}  # fmt: skip


def main() -> None:
    """Parse the arguments; run."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description="Long runs under faults and load.")
    parser.add_argument("soak", nargs="*", help=f"{', '.join(SOAKS)}; all of them by default")
    parser.add_argument("--part", type=float, default=1.0, metavar="FRACTION", help="do this part of it (default: 1)")
    arguments = parser.parse_args()
    if unknown := set(arguments.soak) - set(SOAKS):
        parser.error(f"no soak called {', '.join(sorted(unknown))}; there are {', '.join(SOAKS)}")
    for name in arguments.soak or SOAKS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="securechat-soak-") as folder:
            SOAKS[name](Path(folder), arguments.part)
        print(f"{name:8} passed in {time.monotonic() - began:,.0f} s", flush=True)


if __name__ == "__main__":
    main()
