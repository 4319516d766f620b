"""Codes that are written down and read out: at random, in letters that are not mistaken for one another."""

import secrets
from typing import Final

LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without i, l, o, 0 and 1."""

LENGTH: Final = 20
"""Letters of a code: 99 bits, so that nobody guesses one."""

GROUP: Final = 5
"""Letters between two dashes."""


def make_code() -> str:
    """Return a new one: LENGTH letters in groups, `abcde-fghjk-mnpqr-stuvw`."""
    letters = [secrets.choice(LETTERS) for _ in range(LENGTH)]
    return "-".join("".join(letters[at : at + GROUP]) for at in range(0, LENGTH, GROUP))
