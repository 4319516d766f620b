"""What each kind of content does when it arrives: one handler per kind (`content.registry` defines the kinds)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from securechat.client import events
from securechat.client.conversations.conversation import Conversation
from securechat.client.vault.history import CANNOT_SHOW
from securechat.content.registry import (
    Accept,
    Body,
    Bye,
    Decline,
    DeclineInvite,
    Invite,
    LineProof,
    Request,
    Text,
    Unknown,
    WithdrawInvite,
    encode_body,
    kind_of,
)
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.pins import WRITTEN_TO, Standing
from securechat.wire.messages import Entry


@dataclass(frozen=True)
class Arrival:
    """One application message from the log. Printing it shows nothing that was said."""

    entry: Entry
    number: int
    sender: DeviceCertificate | None  # None: not a member
    body: Body | Unknown | None  # None: it cannot be read
    written: int = 0  # milliseconds since 1970, by the sender's clock; 0: not known
    doubt: str = ""  # what contradicts it

    @property
    def account(self) -> str:
        """Whose it is."""
        return self.sender.account if self.sender is not None else "somebody unknown"


def receive(conversation: Conversation, arrival: Arrival) -> None:
    """Handle a message. One of an unknown kind, or that has no place here, is kept and shown as something that came."""
    body, row, sender = arrival.body, conversation.row, arrival.sender
    if row.closed and row.asked == "theirs" and sender is not None and _standing(conversation, sender) == "unknown":
        return  # turned away unheard: too many ask, or these are never to
    if not isinstance(body, LineProof | Invite):  # these answer for themselves whether it is a request
        conversation.tell_request()
    if isinstance(body, Body) and not (kind_of(body).direct_only and conversation.row.kind != "direct"):
        HANDLERS[type(body)](conversation, arrival)
    else:
        add_line(conversation, arrival, CANNOT_SHOW)


def add_line(conversation: Conversation, arrival: Arrival, problem: str = "") -> None:
    """Append a line to the history and tell the front end; `problem`: why it cannot be shown."""
    context, entry, sender = conversation.context, arrival.entry, arrival.sender
    own = sender is not None and sender.identity_key == context.device.identity_key
    hidden = conversation.row.kind == "open" and not own and arrival.account in context.ignored
    message = context.vault.history.add(
        conversation.id,
        arrival.account,
        encode_body(arrival.body) if arrival.body is not None else ("", b""),
        own=own,
        trust=context.pins.standing(sender.account, sender.identity_key) if sender is not None else "unknown",
        seq=entry.seq,
        time=entry.time,
        device=entry.device,
        number=arrival.number,
        problem=problem,
        written=arrival.written,
        doubt=arrival.doubt,
        hidden=hidden,
    )
    if not hidden:
        context.emit(events.Received(message))


def _standing(conversation: Conversation, sender: DeviceCertificate) -> Standing:
    return conversation.context.pins.standing(sender.account, sender.identity_key)


def _text(conversation: Conversation, arrival: Arrival) -> None:
    row, sender = conversation.row, arrival.sender
    if row.kind == "direct" and sender is not None and _standing(conversation, sender) == "unknown":
        _ask(conversation, arrival)  # whoever writes without asking asks by it
    elif row.asked == "ours":  # they speak: they were opening a conversation with us at the same time
        _accept(conversation, arrival)
    add_line(conversation, arrival)


def _request(conversation: Conversation, arrival: Arrival) -> None:
    # If we have spoken here already, or are about to, to a key that we have accepted, we have agreed to talk.
    spoken = conversation.row.number > 0 or conversation.context.vault.outbox.holds_anything(conversation.id)
    willing = spoken and arrival.sender is not None and _standing(conversation, arrival.sender) in WRITTEN_TO
    if willing:
        _accept(conversation, arrival)
    else:
        _ask(conversation, arrival)
    if isinstance(arrival.body, Request) and arrival.body.text:
        add_line(conversation, arrival)


def _ask(conversation: Conversation, arrival: Arrival) -> None:
    if conversation.row.asked != "theirs":  # else they have asked by opening the conversation
        conversation.row.asked = "theirs"
        conversation.tell("request", arrival.account)


def _accept(conversation: Conversation, arrival: Arrival) -> None:
    conversation.row.asked = ""
    conversation.tell("accepted", arrival.account)


def _accepted(conversation: Conversation, arrival: Arrival) -> None:
    if conversation.row.asked == "ours":  # nobody answers their own request
        _accept(conversation, arrival)


def _decline(conversation: Conversation, arrival: Arrival) -> None:
    conversation.close()
    conversation.tell("declined", arrival.account)


def _bye(conversation: Conversation, arrival: Arrival) -> None:
    conversation.row.their_bye = True
    if conversation.row.own_bye:
        conversation.close()
    conversation.tell("closed" if conversation.row.closed else "bye", arrival.account)


def _about_invitation(conversation: Conversation, arrival: Arrival) -> None:
    conversation.context.said_of_invitations.append((conversation.id, arrival.sender, arrival.body))


HANDLERS: Final[dict[type[Body], Callable[[Conversation, Arrival], None]]] = {
    Text: _text,
    Request: _request,
    Accept: _accepted,
    Decline: _decline,
    Bye: _bye,
    Invite: _about_invitation,
    DeclineInvite: _about_invitation,
    WithdrawInvite: _about_invitation,
    LineProof: _about_invitation,
}
"""A new kind needs its handler here. The sender is a member, and in a direct conversation the peer."""
