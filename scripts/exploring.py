"""The work of `scripts/explore`."""

import argparse

from securechat.client.doors import checks
from tests.client.doors.explorer import Found, explore, shortest, without
from tests.client.doors.scenarios import SCENARIOS


def main() -> None:
    """Explore as `scripts/explore` says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--checks", action="store_true")
    parser.add_argument("story", nargs="*")
    options = parser.parse_args()
    if options.checks:
        for check in [each for each in vars(checks).values() if isinstance(each, checks.Check)]:
            found = shortest(without(check), depth=options.depth)
            print(f"without {check.words!r}: {_told(found)}", flush=True)
        return
    for scenario in SCENARIOS:
        if not options.story or any(word in scenario.name for word in options.story):
            found = explore(scenario, depth=options.depth)
            print(f"{scenario.name:50} {found.states:9} states: {_told(found)}", flush=True)


def _told(found: Found | None) -> str:
    return "holds" if found is None or not found.trace else " / ".join(found.trace)


if __name__ == "__main__":
    main()
