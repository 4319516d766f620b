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
    "contested": Shown("(CONTESTED KEY!)", "contested: one of two keys is a thief's"),
    "changed-verified": Shown("(NOT THE VERIFIED KEY!)", "NOT the verified key"),
    "changed": Shown("(other key!)", "not the accepted key"),
    "succeeded": Shown("(new key)", "named by the key that you had verified; compare again"),
    "unknown": Shown("?", "no key accepted yet"),
    "accepted": Shown("", "accepted, not compared"),
    "verified": Shown("✓", "verified"),
}
"""The one to be looked at first comes first."""

ACCEPTED: Final[frozenset[Trust]] = frozenset(("accepted", "verified", "succeeded"))
"""What is written goes to these."""

AGAINST: Final[frozenset[Trust]] = frozenset(("changed", "changed-verified", "contested", "refused"))
"""Another key is, or was, the right one."""


def as_listed(trust: Trust, *, heard: bool) -> Trust:
    """Return how a member's key is shown in a list of members, where nothing that they signed is beside it.

    A verified key that was not heard there is no recommendation of the others: its leaf may have been copied.
    """
    return "accepted" if trust == "verified" and not heard else trust


def beside(name: str, trust: Trust) -> str:
    """Return a clean name with the sign of its key."""
    return f"{name} {TRUST[trust].sign}".rstrip()
