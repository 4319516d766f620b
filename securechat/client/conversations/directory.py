"""What the server says of its directory: whose device is gone from it (docs/design.md, section 6, Directory news).

It is the server's word, so it marks people and holds lines in conversations of two, and does no more: no leaf goes and
no pin changes because of it. A server that lies about it delays what is said. The certificate that it shows in the
place of the old one is signed by the key that it names, which is met and pins nothing.
"""

from securechat import policy
from securechat.client import events
from securechat.client.conversations import phases
from securechat.client.conversations.conversation import Conversation
from securechat.errors import PeerError
from securechat.identity import certificate, pins
from securechat.identity.certificate import DeviceCertificate
from securechat.policy import Identity
from securechat.wire.messages import Gone


def receive(conversation: Conversation, gone: list[Gone]) -> None:
    """Take note of the devices of a conversation that are not in the directory."""
    conversation.gone = {each.device: each.certificate for each in gone}
    conversation.context.touched.add(conversation.id)


def tell(conversation: Conversation) -> None:
    """Tell of everybody whose device is gone, once each, where the user can do something about it."""
    absent = conversation.absent if _concerns_user(conversation) else []
    now = [unreachable(conversation, person) for person in absent]
    for event in now:
        if event not in conversation.told_absent:
            conversation.context.emit(event)
    conversation.told_absent = frozenset(now)


def held(conversation: Conversation) -> events.Unreachable | None:
    """Return why nothing is sent in a conversation of two, if the other one's device is gone."""
    if conversation.row.kind != "direct" or not (absent := conversation.absent):
        return None
    return unreachable(conversation, absent[0])


def unreachable(conversation: Conversation, person: DeviceCertificate) -> events.Unreachable:
    """Return what is told of somebody whose device is gone. Takes note of the key that is in its place."""
    context, new = conversation.context, _in_its_place(conversation, person)
    shown = None
    if new is not None and new.identity_key != person.identity_key:
        context.meet(new, conversation.id)
        standing = context.pins.standing(new.account, new.identity_key)
        shown = events.KeyShown(new.account, pins.short(new.identity_key), standing)
    return events.Unreachable(conversation.id, person.account, pins.short(person.identity_key), shown)


def _concerns_user(conversation: Conversation) -> bool:
    row, device = conversation.row, conversation.context.device
    if not conversation.gone:
        return False
    if row.closed or row.phase not in phases.READING:
        return False
    if row.kind == "invite":
        owners = policy.rules_of(conversation.group.public.extensions).owners
        return Identity(device.account, device.identity_key) in owners
    return row.kind == "direct"


def _in_its_place(conversation: Conversation, person: DeviceCertificate) -> DeviceCertificate | None:
    """Return the certificate that the server shows for the same account, if it is a good one."""
    device, now = conversation.context.device, conversation.context.clock.seconds()
    try:
        found = DeviceCertificate.decode(conversation.gone[person.device_id])
        certificate.verify(found, now=now)
    except PeerError:
        return None
    return found if (found.server_id, found.account) == (device.row.server_id, person.account) else None
