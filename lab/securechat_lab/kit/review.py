"""Reviews: which claims hold for a build, and a student's own check that tells weak builds from the strong one.

A *witness* lets a build run before an attacker, and returns what was seen of it: JSON values and bytes. It is read
twice: by the lab, which knows by it what holds for a student's own build, and by `check.py`, which gets what was seen
of every weak build and of the strong one. The strong one is the twin: whoever finds everything weak has found nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from securechat_lab.kit.seeds import Seed, read_seed

STRONG: Final = "strong"
"""The build that has no hole."""

HOLDS: Final = "holds"
BROKEN: Final = "broken"
NOT_CLAIMED: Final = "not claimed"
ANSWERS: Final = (HOLDS, BROKEN, NOT_CLAIMED)

Seen = Any
"""What a witness has seen: JSON values and bytes."""


@dataclass(frozen=True)
class Claim:
    """A sentence that is true of a build, or not."""

    says: str
    basis: str
    """The words of docs/threat-model.md on which it rests: that it is so, or that nobody says so."""
    holds: Callable[[Seen], bool] | None
    """Whether it was so, by what was seen; None: nobody claims it, of no build."""


@dataclass(frozen=True)
class Review:
    """What is asked about the builds of an exercise."""

    weak: tuple[str, ...]
    """The weak builds. Every check has to catch the first one: it is the plainest."""
    witness: Callable[[str, Seed], Seen]
    """Lets one of `weak`, or STRONG, run; what is personal in the run comes from the seed."""
    mine: Callable[[Seed], str]
    """Which of `weak` a student's table is about."""
    about: Callable[[Seed], str]
    """The same in words for the student, who may not know its name yet."""
    claims: tuple[Claim, ...]
    check: str = ""
    """The file `check.py` as a student gets it; it says what `sound` gets to see."""
    instead: str = ""
    """Why there is no `check.py`, where there is none."""
    runs: int = 3
    """How often each build runs before a student's check, with other values each time: who guesses is right once in
    2^(2 * runs) tries about the strong build and the plainest weak one. Fewer where a run is a scene."""

    def __post_init__(self) -> None:
        """One of the two."""
        assert bool(self.check) != bool(self.instead)

    def seen(self, build: str, seed: Seed, run: int = 0) -> Seen:
        """Return what is seen of a build in one of its runs."""
        return _seen(self.witness, build, seed.part("review", str(run)).text)

    def answers(self, seed: Seed) -> dict[str, str]:
        """Return what is right in a student's table, by sentence."""
        seen = self.seen(self.mine(seed), seed)
        right = {}
        for each in self.claims:
            claimed = HOLDS if each.holds is not None and each.holds(seen) else BROKEN
            right[each.says] = NOT_CLAIMED if each.holds is None else claimed
        return right

    def table(self, seed: Seed) -> str:
        """Return the file `claims.md` as a student gets it."""
        rows = sorted((each.says for each in self.claims), key=lambda says: seed.part("row", says).text)
        return _TABLE.format(about=self.about(seed), rows="\n".join(f"| ? | {says} | |" for says in rows))


def read_table(text: str) -> Mapping[str, str]:
    """Return what stands in the first column of `claims.md`, by the sentence in the second."""
    given = {}
    for line in text.splitlines():
        cells = [" ".join(cell.split()) for cell in line.split("|")]
        if len(cells) > 3 and not cells[0]:  # before the first bar, answer, sentence
            given[cells[2]] = cells[1].lower()
    return given


@lru_cache(maxsize=256)
def _seen(witness: Callable[[str, Seed], Seen], build: str, key: str) -> Seen:
    """What is seen for a seed: a build runs once, also where several hand-ins are checked on it."""
    return witness(build, read_seed(key))


_TABLE: Final = """# Claims

This table is about {about}. In place of each `?`, write one of these:

- `holds`: it is so, for this build;
- `broken`: securechat says so (docs/threat-model.md), and this build does not keep it;
- `not claimed`: docs/threat-model.md does not say so, or says that it is not so, even of the build without a hole.

In the last column, say in a few words how you know: what you saw, or which line of docs/threat-model.md it is. A
machine reads the first column, a person the last one.

| yours | the build | how you know |
|---|---|---|
{rows}
"""
