"""What each kind of content does when it arrives: one handler per kind (`content.registry` defines the kinds)."""

from collections.abc import Callable
from typing import Final

from securechat.client import events
from securechat.client.conversations import amendments, marks
from securechat.client.conversations.amendments import Act, Amendment
from securechat.client.conversations.conversation import Conversation
from securechat.client.vault.history import CANNOT_SHOW, life_from
from securechat.client.vault.outbox import OutboxRow
from securechat.content.envelope import decode
from securechat.content.registry import (
    Accept,
    Action,
    Body,
    Bye,
    Decline,
    DeclineInvite,
    Delete,
    Edit,
    File,
    Instead,
    Invite,
    LineProof,
    Marks,
    Reaction,
    Reply,
    Request,
    Text,
    Unknown,
    WithdrawInvite,
    encode_body,
    kind_of,
)
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.pins import WRITTEN_TO, Standing
from securechat.value import value
from securechat.wire.messages import Entry


@value
class Arrival:
    """One application message from the log. Printing it shows nothing that was said."""

    entry: Entry
    number: int
    sender: DeviceCertificate | None  # None: not a member
    body: Body | Unknown | None  # None: it cannot be read
    written: int = 0  # milliseconds since 1970, by the sender's clock; 0: not known
    doubt: str = ""  # what contradicts it
    reached: int = 0  # the newest entry that its sender had processed

    @property
    def account(self) -> str:
        """Whose it is."""
        return self.sender.account if self.sender is not None else "somebody unknown"


def receive(conversation: Conversation, arrival: Arrival) -> None:
    """Handle a message. One of an unknown kind, or that has no place here, is kept and shown as something that came."""
    body, row, sender = arrival.body, conversation.row, arrival.sender
    if row.closed and row.asked == "theirs" and sender is not None and _standing(conversation, sender) == "unknown":
        return  # turned away unheard: too many ask, or these are never to
    if not isinstance(body, LineProof | Invite | Marks):  # the first two answer for themselves whether it is a request
        conversation.tell_request()
    if not isinstance(body, Instead | Marks):  # it may say that the two are one
        conversation.tell_beside()
    if isinstance(body, Body) and not (kind_of(body).direct_only and conversation.row.kind != "direct"):
        HANDLERS[type(body)](conversation, arrival)
    else:
        add_line(conversation, arrival, CANNOT_SHOW if isinstance(body, Body) else "")  # a later version may know it


def receive_own(conversation: Conversation, entry: Entry, item: OutboxRow, command: int) -> str:
    """Our own message, which is no line, is in the log: what it is about changes now. Return why not, or nothing."""
    envelope, device = decode(item.content), conversation.people[conversation.group.own_leaf]
    if not isinstance(envelope.body, Amendment):
        return ""
    target = conversation.context.vault.history.target(item.about)
    now = conversation.context.clock.milliseconds()
    act = Act(envelope.body, device, entry.time, life_from(entry.time, envelope.sent, now), command=command)
    return amendments.carry_out(conversation, act, target)


def add_line(conversation: Conversation, arrival: Arrival, problem: str = "", about: int = 0) -> None:
    """Append a line to the history and tell the front end; `problem`: why it cannot be shown; `about`: what it answers.

    Whose it is is certain only if it could be read.
    """
    context, entry, sender, body = conversation.context, arrival.entry, arrival.sender, arrival.body
    own = sender is not None and sender.identity_key == context.device.identity_key
    hidden = _is_hidden(conversation, arrival)
    message = context.vault.history.add(
        conversation.id,
        arrival.account,
        encode_body(body) if body is not None else ("", b""),
        own=own,
        trust=context.pins.standing(sender.account, sender.identity_key) if sender is not None else "unknown",
        seq=entry.seq,
        life=conversation.row.life,
        since=_since(conversation, arrival),
        time=entry.time,
        device=entry.device,
        number=arrival.number,
        author=sender.identity_key if sender is not None and body is not None else b"",
        refers_to=body.about if isinstance(body, Reply) else None,
        about=about,
        problem=problem,
        written=arrival.written,
        doubt=arrival.doubt,
        hidden=hidden,
    )
    if not own and body is not None and not (hidden and conversation.row.kind == "open"):  # nobody hears we have it
        conversation.row.theirs = entry.seq
    if not hidden:
        context.emit(events.Received(message))


def _is_hidden(conversation: Conversation, arrival: Arrival) -> bool:
    """Whether the user wants to see nothing of somebody here."""
    context, sender, kind = conversation.context, arrival.sender, conversation.row.kind
    if kind == "invite" or (sender is not None and sender.identity_key == context.device.identity_key):
        return False
    ignored = kind == "open" and arrival.account in context.ignored
    return ignored or conversation.is_unheard or context.blocks(arrival.account)


def _since(conversation: Conversation, arrival: Arrival) -> int:
    """Return when the life of what a message brings begins."""
    return life_from(arrival.entry.time, arrival.written, conversation.context.clock.milliseconds())


def _standing(conversation: Conversation, sender: DeviceCertificate) -> Standing:
    return conversation.context.pins.standing(sender.account, sender.identity_key)


def _spoken(conversation: Conversation, arrival: Arrival) -> None:
    """Somebody speaks, and has not asked first."""
    row, sender = conversation.row, arrival.sender
    if row.kind == "direct" and sender is not None and _standing(conversation, sender) == "unknown":
        _ask(conversation, arrival)  # whoever writes without asking asks by it
    elif row.asked == "ours":  # they speak: they were opening a conversation with us at the same time
        _accept(conversation, arrival)


def _text(conversation: Conversation, arrival: Arrival) -> None:
    _spoken(conversation, arrival)
    add_line(conversation, arrival)


def _reply(conversation: Conversation, arrival: Arrival) -> None:
    _spoken(conversation, arrival)
    if isinstance(arrival.body, Reply):
        found = amendments.find(conversation, arrival.body.about, arrival.entry.device, arrival.number)
        if isinstance(found, str):
            add_line(conversation, arrival, found)
        else:
            add_line(conversation, arrival, about=found.local_id if found is not None else 0)


def _amendment(conversation: Conversation, arrival: Arrival) -> None:
    body, sender = arrival.body, arrival.sender
    if not isinstance(body, Amendment) or sender is None:
        return
    hidden = _is_hidden(conversation, arrival)
    act = Act(body, sender, arrival.entry.time, _since(conversation, arrival), arrival.doubt, hidden)
    found = amendments.find(conversation, body.about, arrival.entry.device, arrival.number)
    if problem := amendments.carry_out(conversation, act, found):
        add_line(conversation, arrival, problem)


def _marks(conversation: Conversation, arrival: Arrival) -> None:
    body, sender = arrival.body, arrival.sender
    if not isinstance(body, Marks) or sender is None:
        return
    if not marks.take(conversation, sender, body, min(arrival.reached, arrival.entry.seq - 1)):
        add_line(conversation, arrival, amendments.NEVER)


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


def _instead(conversation: Conversation, arrival: Arrival) -> None:
    if arrival.account == conversation.row.name and isinstance(arrival.body, Instead):
        conversation.said_instead = arrival.body.group


HANDLERS: Final[dict[type[Body], Callable[[Conversation, Arrival], None]]] = {
    Text: _text,
    Action: _text,
    Reply: _reply,
    File: _text,
    Edit: _amendment,
    Delete: _amendment,
    Reaction: _amendment,
    Marks: _marks,
    Request: _request,
    Accept: _accepted,
    Decline: _decline,
    Bye: _bye,
    Invite: _about_invitation,
    DeclineInvite: _about_invitation,
    WithdrawInvite: _about_invitation,
    LineProof: _about_invitation,
    Instead: _instead,
}
"""A new kind needs its handler here. The sender is a member, and in a direct conversation the peer."""
