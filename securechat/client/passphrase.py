"""Passphrases of files that may lie anywhere: how they are compared, and which of somebody's own choice is good enough.

By default one is a code of 20 letters with 99 bits (`codes`), so that nobody guesses it. One that its owner has chosen
has to withstand OWN_DIGITS: whoever finds the file has all the time there is. Both are read in one way, without spaces,
dashes and capitals.
"""

import unicodedata
from typing import Final

from securechat import codes
from securechat.client.wrapping import Cost
from securechat.errors import UsageError
from securechat.names import normalise_password
from securechat.strength import strength_of

FOR_A_FILE: Final = Cost(time=4, memory=256 << 10, lanes=4)
"""A second on a laptop, 256 MiB: such a file is opened once in years."""

MOST: Final = Cost(time=16, memory=512 << 10, lanes=16)
"""More in a file than this, 8 times the work of ours, is damage or an attempt to exhaust us."""

OWN_DIGITS: Final = 18
"""Digits of the number of guesses at a passphrase that somebody has chosen, as `strength` estimates it, too high for
sentences: five unusual words have it. At 10,000 guesses a second, with 2.5 TiB of memory, three million years."""


class WrongPassphraseError(UsageError):
    """The passphrase does not open this file."""


def check_own(passphrase: str, account: str) -> None:
    """Raise `UsageError`, which quotes nothing, for a passphrase of somebody's own choice that can be guessed."""
    try:
        compact = _compact(passphrase)
    except UsageError:
        raise UsageError("A passphrase must not be empty or hold control characters.") from None
    strength = strength_of(compact, account)
    if strength.digits < OWN_DIGITS:
        reason = f"{strength.reason} " if strength.reason else ""
        raise UsageError(
            f"This passphrase is too easy to guess. {reason}Whoever finds the file can try for years: take five words "
            "or more that have nothing to do with each other, or the passphrase that is made for you."
        )


def letters_of(passphrase: str) -> bytearray:
    """Return what a passphrase is to Argon2id, to be wiped. Raises `WrongPassphraseError`, which quotes nothing."""
    try:
        return bytearray(_compact(passphrase).encode())
    except UsageError:
        raise WrongPassphraseError("The passphrase is empty, or has a character that belongs to none.") from None


def wrong(what: str) -> WrongPassphraseError:
    """Say that a passphrase does not open a file, and what one looks like."""
    return WrongPassphraseError(
        f"The passphrase does not open this {what}. One that was made for you has {codes.LENGTH} small letters and "
        "digits, without i, l, o, 0 and 1."
    )


def _compact(passphrase: str) -> str:
    """Return a passphrase as it is compared: without spaces, dashes and capitals. Raises `UsageError`."""
    letters = normalise_password("".join(passphrase.replace("-", "").split()))
    return unicodedata.normalize("NFC", letters.casefold())
