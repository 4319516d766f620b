"""How many guesses a secret that a person has chosen withstands. Judged where it is typed: nobody else ever sees it.

The estimate is zxcvbn's (Wheeler, "zxcvbn: low-budget password strength estimation", USENIX Security 2016): it knows
common passwords, names and words, what stands side by side on a keyboard, dates, repeats. It sees neither quotations
nor sentences, so it is too high for them.
"""

from typing import Final

from securechat.errors import UsageError
from securechat.value import value

JUDGED: Final = 72
"""Characters that are looked at, from the first on: its time grows with the square, and so many are enough."""

PASSWORD_SCORE: Final = 2
"""What a password has to have: zxcvbn believes in a million guesses. Each of them costs a second of Argon2id or an
answer of the server, which counts them."""


@value
class Strength:
    """`score`: 0 (one of the first to be tried) to 4. `digits`: of the number of guesses, its decimal logarithm.

    `reason`: in a sentence, what makes it weak; empty where that is its length alone.
    """

    score: int
    digits: float
    reason: str


def strength_of(secret: str, *known: str) -> Strength:
    """Return how strong a secret is for somebody who tries what is likely first, the words that are `known` too."""
    if not secret:
        return Strength(0, 0.0, "")
    from zxcvbn import zxcvbn  # only here: its lists of words take 50 ms

    found = zxcvbn(secret[:JUDGED], user_inputs=list(known))
    return Strength(found["score"], float(found["guesses_log10"]), found["feedback"]["warning"])


def check_password(password: str, account: str) -> None:
    """Raise `UsageError`, which quotes nothing, for a password that somebody has chosen and others would guess."""
    strength = strength_of(password, account)
    if strength.score < PASSWORD_SCORE:
        reason = f"{strength.reason} " if strength.reason else ""
        raise UsageError(
            f"This password is too easy to guess. {reason}Take a few words that have nothing to do with each other."
        )
