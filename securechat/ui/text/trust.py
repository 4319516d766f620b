"""What is shown of trust: a sign and words for each way in which a key may stand. Every face uses this one table."""

from typing import Final, NamedTuple

from securechat.client.events import Trust


class Shown(NamedTuple):
    """What stands beside a name, and what it means. Never by colour alone."""

    sign: str
    """Empty for what is as it should be, and for nothing else."""
    words: str


TRUST: Final[dict[Trust, Shown]] = {
    "refused": Shown("(REFUSED KEY!)", "refused"),
    "changed-verified": Shown("(NOT THE VERIFIED KEY!)", "NOT the verified key"),
    "changed": Shown("(other key!)", "not the accepted key"),
    "unknown": Shown("?", "no key accepted yet"),
    "accepted": Shown("", "accepted, not compared"),
    "verified": Shown("✓", "verified"),
}
"""The one to be looked at first comes first."""


def beside(name: str, trust: Trust) -> str:
    """Return a clean name with the sign of its key."""
    return f"{name} {TRUST[trust].sign}".rstrip()
