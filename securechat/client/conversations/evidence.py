"""Evidence: what a member's other history proves, and what it holds (docs/design.md, section 6, Evidence).

A member who saw another history than we is marked, and so is the line: the server shows people different histories, or
that member's program is at fault, and nobody can tell which. So one member alone mutes no room. Reading never stops for
this; sending waits where the others are few or their word is worth something, until the user has compared.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal

from securechat.policy import Kind

Weight = Literal["stranger", "member", "owner"]
"""Of somebody who contradicts. `member`: had an entry in our own log before, so was in it; `owner`: owns the room."""

MEMBERS: Final = 2
"""Members who were in before the disputed entry, and contradict: one could lie alone, and new ones cost nothing."""

FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 3600.0
"""Seconds before we enter an open room again past a commit that cannot be processed: doubling, and never given up."""

_CALM_SECONDS: Final = 3600.0
"""After so long without another such commit the waits begin anew."""

DOUBT: Final = "the server, or {}: another history"
"""What a line is marked with."""


def holds(kind: Kind, contradictions: Iterable[str]) -> bool:
    """Whether what we say waits, because of those who contradict our history; each by its `Weight`."""
    if kind == "open":
        return False
    found = Counter(contradictions)
    if kind == "direct":
        return bool(found)
    return bool(found["owner"]) or found["member"] >= MEMBERS


class Patience:
    """The waits before each re-entry of one open room."""

    def __init__(self) -> None:
        self._wait = 0.0
        self.until = 0.0  # monotonic seconds

    def lose(self, now: float) -> None:
        """Another commit could not be processed, or the way in failed: wait twice as long as before."""
        calm = now - self.until > _CALM_SECONDS
        self._wait = FIRST_WAIT if calm or not self._wait else min(2 * self._wait, LONGEST_WAIT)
        self.until = now + self._wait
