"""Seeds: what is personal in a scene follows from them, so that a student's scene is the same again, and nobody else's.

    token  = HMAC-SHA256(course key, "token" || student)[:16]      all that a student's machine has
    graded = HMAC-SHA256(course key, "graded" || student)[:16]     stays with the instructor
    part   = HMAC-SHA256(seed, names)                              of an exercise, and of what is personal in it

From the token come the open scenes, in which a student works; hand-ins are graded on scenes that they have not seen.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final, TypeVar

from securechat.errors import UsageError

TOKEN_BYTES: Final = 16
COURSE_KEY_BYTES: Final = 32

T = TypeVar("T")


class Seed:
    """Where personal values come from: the same ones each time. Printing one shows nothing."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        """Show no key."""
        return "Seed(...)"

    def part(self, *names: str) -> "Seed":
        """Return the seed of a part; no two lists of names lead to the same."""
        return Seed(_mac(self._key, *names))

    def bytes(self, count: int) -> bytes:
        """Return so many bytes."""
        return hashlib.shake_256(self._key + b"bytes").digest(count)

    def below(self, limit: int) -> int:
        """Return a number from 0 to `limit` - 1. It does not depend on Python's version."""
        return int.from_bytes(self.bytes(16), "big") % limit

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of them."""
        return choices[self.below(len(choices))]

    def word(self, length: int = 10) -> str:
        """Return letters and digits that stand nowhere else: 5 bits each."""
        return base64.b32encode(self.bytes(length)).decode().lower()[:length]

    @property
    def text(self) -> str:
        """How a token is written down."""
        return base64.b32encode(self._key).decode().lower().rstrip("=")


def new_course_key() -> bytes:
    """Return a key for a course; whoever has it can compute what is graded."""
    return secrets.token_bytes(COURSE_KEY_BYTES)


def token_of(course_key: bytes, student: str) -> Seed:
    """Return the seed of a student's own scenes."""
    return Seed(_mac(course_key, "token", student)[:TOKEN_BYTES])


def graded_seed(course_key: bytes, student: str) -> Seed:
    """Return the seed of the scenes on which a student's hand-in is graded."""
    return Seed(_mac(course_key, "graded", student)[:TOKEN_BYTES])


def practice() -> Seed:
    """Return a seed for somebody without a course."""
    return Seed(secrets.token_bytes(TOKEN_BYTES))


def read_seed(text: str) -> Seed:
    """Return a seed that was written down (`Seed.text`)."""
    letters = text.upper()
    return Seed(base64.b32decode(letters + "=" * (-len(letters) % 8)))


def read_token(text: str) -> Seed:
    """Return the seed that a token is. Raises `UsageError`."""
    letters = "".join(text.split()).upper()
    try:
        key = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except ValueError:
        key = b""
    if len(key) != TOKEN_BYTES:
        raise UsageError("That is no token of a course: one has 26 letters and digits. Your instructor gives it out.")
    return Seed(key)


def _mac(key: bytes, *names: str) -> bytes:
    encoded = b"".join(len(each).to_bytes(4, "big") + each for each in (name.encode() for name in names))
    return hmac.new(key, b"securechat-lab/1" + encoded, hashlib.sha256).digest()
