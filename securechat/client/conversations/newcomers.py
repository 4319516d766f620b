"""Newcomers: who is in a conversation now and was not before, told by account, identity key and device.

A name alone hides a second key of a known account, and a new device of it (docs/design.md, section 6, Doors).
"""

from collections.abc import Iterable, Iterator

from securechat.client.events import Change
from securechat.identity.certificate import DeviceCertificate


def changes(before: Iterable[DeviceCertificate], after: Iterable[DeviceCertificate]) -> Iterator[tuple[Change, str]]:
    """Return what happened to which account between two trees, each in the order of names: first who came.

    A new certificate of the same device changes nothing that anybody has to know.
    """
    were, are = _by_account(before), _by_account(after)
    for account in sorted(are.keys() - were.keys()):
        yield "joined", account
    for account in sorted(are.keys() & were.keys()):
        if are[account].identity_key != were[account].identity_key:
            yield "new-key", account
        elif are[account].device_id != were[account].device_id:
            yield "new-device", account
    for account in sorted(were.keys() - are.keys()):
        yield "removed", account


def _by_account(people: Iterable[DeviceCertificate]) -> dict[str, DeviceCertificate]:
    """The one leaf of each account (`policy.check_state`)."""
    return {person.account: person for person in people}
