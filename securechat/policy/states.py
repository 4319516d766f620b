"""What holds in every epoch of a conversation, and in its first one."""

from collections.abc import Iterator

from securechat.errors import PeerError
from securechat.identity.certificate import DeviceCertificate, certificate_of
from securechat.mls.public_group import PublicGroup
from securechat.policy.rules import Identity, Rules
from securechat.wire.limits import MAX_ROOM_DEVICES


def certificates(group: PublicGroup) -> Iterator[DeviceCertificate]:
    """Yield whose leaves are in the tree, from left to right."""
    return (certificate_of(leaf) for _, leaf in group.members())


def judge_state(group: PublicGroup, rules: Rules) -> None:
    """Check an epoch under rules of version 2, which are its own."""
    accounts: set[str] = set()
    devices: set[bytes] = set()  # logs, numbers and departures name a device by its id alone
    for certificate in certificates(group):
        account = certificate.account
        if certificate.device_id in devices:
            raise PeerError("One device is in the conversation twice.")
        if account in accounts:
            raise PeerError(f"{account} is in the conversation twice, and an account has one place.")
        if account in rules.barred:
            raise PeerError(f"{account} is barred from {rules.name}.")
        devices.add(certificate.device_id)
        accounts.add(account)
    if len(accounts) > MAX_ROOM_DEVICES:
        raise PeerError(f"The conversation has more than {MAX_ROOM_DEVICES} devices.")
    if rules.kind == "direct" and len(accounts) > 2:
        raise PeerError("A direct conversation is between two people.")


def judge_founding(group: PublicGroup, rules: Rules, creator: DeviceCertificate) -> None:
    """Check the first epoch of a group that `creator` has just made."""
    if group.epoch != 0:
        raise PeerError("A conversation begins with epoch 0.")
    if list(certificates(group)) != [creator]:
        raise PeerError("A conversation begins with one member: the device that opens it.")
    if rules.owners and Identity.of(creator) not in rules.owners:
        raise PeerError("The founder of a room has to be its owner.")
