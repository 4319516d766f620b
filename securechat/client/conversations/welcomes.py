"""Welcomes: how we are added to a conversation (docs/design.md, section 6, Invitations).

A Welcome into a room leads nowhere by itself, since a server can make one alone. It waits for the invitation that its
maker sends in the direct conversation with us (`invitations`): only then the user is asked, and only their yes leads
in. A Welcome into a direct conversation is entered at once: it is the request that the user is asked about.
"""

from typing import Final, Protocol

import msgspec

from securechat.client import events
from securechat.client.context import Context
from securechat.client.conversations import gaps, offers, phases, standstill, verdicts
from securechat.client.conversations.bounds import Bounds
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.entrance import (
    Opened,
    begin,
    bundle_for,
    decode_welcomed,
    new_conversation,
    open_welcome,
)
from securechat.client.conversations.invitations import Invitations
from securechat.client.conversations.invitations import RegistryPort as InvitationsPort
from securechat.client.conversations.stock import Stock
from securechat.client.doors.facts import Known, Verdict
from securechat.client.vault.invitations import WelcomeRow
from securechat.errors import PeerError
from securechat.wire.messages import Welcomed

REPEATED_MILLISECONDS: Final = 86_400_000
"""Welcomes into a room that we are in are told of once in this time."""

MAX_LEAVING: Final = 100
"""Conversations that we are leaving, beyond which no more are entered to be left: an honest server lets us out."""

_encode: Final = msgspec.msgpack.Encoder().encode


class RegistryPort(InvitationsPort, Protocol):
    """What Welcomes need of the set of conversations."""

    def replace_older(self, newer: Conversation) -> None:
        """Of several direct conversations with one person the newest counts."""


class Welcomes:
    """The Welcomes that our inbox brings."""

    def __init__(
        self, context: Context, registry: RegistryPort, invitations: Invitations, bounds: Bounds, stock: Stock
    ) -> None:
        self._context = context
        self._registry = registry
        self._invitations = invitations
        self._bounds = bounds
        self._stock = stock
        self._vault = context.vault.invitations
        self._repeated: dict[bytes, int] = {}  # room that we are in -> when a Welcome into it was told

    def receive(self, welcomed: Welcomed) -> None:
        """Take a Welcome from the inbox. Raises `PeerError` if it is not what it should be."""
        conversation = self._registry.get(welcomed.conversation)
        if conversation is not None and conversation.id != welcomed.conversation:
            raise PeerError("it leads to an id that was only ever ours")  # an alias: nobody has a group under it
        if (
            conversation is not None
            and conversation.row.phase in phases.PLACED
            and welcomed.join_seq <= conversation.row.cursor
        ):
            return  # we are in already, by another way
        bundle, last_resort = bundle_for(self._context, welcomed)
        opened = open_welcome(self._context, welcomed, bundle, last_resort=last_resort)
        facts = opened.facts
        if conversation is not None:
            row = conversation.row
            if row.kind != facts.kind or (row.kind == "direct" and row.name != facts.name):  # rooms may be renamed
                raise PeerError(f"it was to lead to {row.name}, and leads to {facts.name}")
            if facts.epoch <= row.epoch and row.phase != "ahead":  # then: perhaps of another branch
                raise PeerError("it leads back to a past state of the conversation")  # and to keys that we have used
        if facts.kind == "direct":
            self._enter_direct(welcomed, opened, conversation)
        elif self._bounds.has_room_for(
            opened.inviter,
            len(welcomed.welcome) + len(welcomed.tree),
            self._vault.inviters,
            self._invitations.drop_welcome,
        ):
            self._keep(welcomed, opened, conversation)
            if conversation is not None:
                self.notice_return(conversation)
            self._tell_repeated(conversation)
        if opened.last_resort:
            self._stock.used_last_resort(opened.reference)
        else:
            self._context.vault.key_packages.delete(opened.reference)
            self._stock.used_one()
        self._invitations.consider(welcomed.conversation)

    def notice_return(self, conversation: Conversation) -> None:
        """If all that is left of a log begins where a Welcome has added us again, nothing leads there from our state.

        That is no more than the server's word: our state stays, and what is said waits, until somebody decides.
        """
        if conversation.row.phase in phases.READING and gaps.inside(conversation):
            welcomes = self._vault.welcomes(conversation.id)
            if any(decode_welcomed(each.welcomed).join_seq + 1 == conversation.row.gap for each in welcomes):
                standstill.cut_off(conversation)

    def _keep(self, welcomed: Welcomed, opened: Opened, conversation: Conversation | None) -> None:
        """Put a Welcome into a room by. Raises `PeerError` if nothing can ever come of it.

        So is one into a live state: the log may show later that we were removed before it.
        """
        verdict = self._judge(opened, conversation)
        if verdict.action not in ("keep", "ignore"):
            raise PeerError(f"it is refused; what is missing: {verdict.why}")
        if any(row.context == opened.context for row in self._vault.welcomes(welcomed.conversation)):
            return  # the same once more, for a last-resort key package
        self._vault.add_welcome(
            WelcomeRow(
                0,
                welcomed.conversation,
                opened.inviter,
                opened.context,
                _encode(opened.facts),
                opened.bundle.encode(),
                _encode(welcomed),
                self._context.clock.milliseconds(),
            )
        )
        self._invitations.note()

    def _tell_repeated(self, conversation: Conversation | None) -> None:
        """Welcomes into a room that we are in lead nowhere; the user hears of it if they come again and again."""
        if conversation is None or conversation.row.phase not in phases.GOING_ON:
            return
        now, told = self._context.clock.milliseconds(), self._repeated.get(conversation.id)
        if told is None:
            self._repeated[conversation.id] = 0
        elif now - told >= REPEATED_MILLISECONDS:
            self._repeated[conversation.id] = now
            text = f"The server brings Welcomes into {conversation.row.name}, which you are in. They are not followed."
            self._context.emit(events.Alarm("server", conversation.id, text))

    def _enter_direct(self, welcomed: Welcomed, opened: Opened, conversation: Conversation | None) -> None:
        verdict = self._judge(opened, conversation or self._registry.find(opened.facts.name))
        if not verdict.lets_in:
            raise PeerError(f"it is refused; what is missing: {verdict.why}")
        welcome = conversation is not None or self._bounds.has_room_for_request(opened.inviter)
        leaving = sum(each.row.closed and each.row.phase in phases.INSIDE for each in self._registry)
        if not welcome and (leaving >= MAX_LEAVING or self._context.is_unwanted(opened.facts.name)):
            return  # to leave would be an answer
        if conversation is None:
            conversation = new_conversation(self._context, self._registry, welcomed.conversation, opened.facts)
        elif conversation.row.phase in phases.ENDED:
            conversation.reopen("awaited-again")
        begin(self._context, verdict, conversation, welcomed, opened.group)
        self._registry.replace_older(conversation)
        unknown = verdict.told == "request"
        if unknown:  # whoever opens a conversation with us asks by it, whatever they say first
            conversation.row.asked = "theirs"
        if not welcome:
            conversation.close()  # as if declined: they may ask again, and the user may write to them
            self._registry.follow(conversation)
            return
        invites = unknown and any(inviter == opened.inviter for _, inviter, _ in self._vault.inviters())
        if unknown and not invites:  # while lines of ours are about, what they say first shows whether they come by one
            conversation.untold = self._context.vault.lines.any_unused(self._context.clock.milliseconds())
        if not invites and not conversation.untold:  # else the invitation that comes asks for both
            conversation.tell_entered(verdicts.entered(verdict))
        self._registry.follow(conversation)

    def _judge(self, opened: Opened, known: Conversation | None) -> Verdict:
        """Look up a Welcome by itself, beside what is known of its conversation: of a direct one also by its peer.

        Its maker may have renewed their certificate while it waited: whether that is so, the log shows (`roster`), and
        what was typed waits until then. `open_welcome` refuses one by a revoked device.
        """
        facts, group = opened.facts, opened.group.public
        nothing = Known(offers.own_leaf(self._context), kind="direct" if facts.kind == "direct" else "invite")
        before = nothing if known is None else offers.known(known)
        dated = self._context.in_force(opened.signer)
        offered = offers.shown("welcome", group, name=facts.name, signer=facts.signer, dated=dated)
        return offers.judge(self._context, before, offered)
