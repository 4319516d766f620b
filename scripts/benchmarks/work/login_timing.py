"""Whether the time of a refusal tells if an account exists."""

import random
import statistics
from collections.abc import Iterator
from itertools import count

from scripts.benchmarks.contest import durable, running
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.systems.securechat import MEMBERS
from scripts.benchmarks.work.flooder import Guesser

TRIES = 1000  # of each kind
EACH = 50  # on one connection, from an address of its own: no rate slows us down, and no connection is old

WITHIN = 5.0  # % between the medians


def login_timing() -> Iterator[Figure]:
    """Wrong passwords at accounts that exist and at others, by turns, the order within each turn by chance."""
    taken: dict[str, list[float]] = {"member": [], "nobody": []}
    with running(durable) as (server,):
        numbers = count()
        while len(taken["nobody"]) < TRIES:
            guesser = Guesser(server.process.address, next(numbers), server.tls)
            for _ in range(EACH // 2):
                number = len(taken["nobody"]) % MEMBERS
                for kind in random.sample(sorted(taken), 2):  # nosec B311  # chance, not secrecy
                    guesser.guess(f"{kind}{number}")
                    code, ms = guesser.answer()
                    assert code == "login-refused", code
                    taken[kind].append(ms)
            guesser.close()
    wrong, unknown = (statistics.median(taken[kind]) for kind in ("member", "nobody"))
    title = f"{TRIES:,} refused logins each"
    yield Figure(title, "wrong password, median", wrong, "ms")
    yield Figure(title, "unknown user, median", unknown, "ms", wrong)
    yield Figure(title, "medians differ by", abs(unknown - wrong) / wrong * 100, "%", goal=WITHIN)
