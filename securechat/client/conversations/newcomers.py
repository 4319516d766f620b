"""Newcomers: who is in a conversation now and was not before, told by account, identity key and device.

A name alone hides a second key of a known account, and a new device of it (docs/design.md, section 6, Doors).
"""

from collections.abc import Iterable, Iterator

from securechat.client.doors.facts import Leaf
from securechat.client.events import Change


def changes(came: Iterable[Leaf], went: Iterable[Leaf]) -> Iterator[tuple[Change, str]]:
    """Return what happened to which account between two trees, each in the order of names: first who came.

    An account has one leaf (`policy.check_state`). A new certificate of the same device changes nothing that anybody
    has to know: it is the same leaf.
    """
    new, old = ({leaf.account: leaf for leaf in leaves} for leaves in (came, went))
    for account in sorted(new.keys() - old.keys()):
        yield "joined", account
    for account in sorted(new.keys() & old.keys()):
        yield "new-key" if new[account].identity != old[account].identity else "new-device", account
    for account in sorted(old.keys() - new.keys()):
        yield "removed", account
