"""Inviting: what we send to those whom our commits add or remove, and what becomes of their no."""

from collections.abc import Iterable
from typing import Protocol

from securechat import policy
from securechat.client import events
from securechat.client.context import Added, Context
from securechat.client.conversations import phases
from securechat.client.conversations.bounds import WAIT_MILLISECONDS
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.entrance import role_of
from securechat.client.conversations.roster import unanswered
from securechat.content.registry import Accept, Invite, Request, WithdrawInvite
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.pins import WRITTEN_TO
from securechat.policy import Identity


class RegistryPort(Protocol):
    """What inviting needs of the set of conversations."""

    def get(self, conversation: bytes) -> Conversation | None:
        """Return a conversation by its id, or by the id it had at first."""

    def named(self, name: str) -> list[Conversation]:
        """Return all conversations of this name (`#room` or account), oldest first."""

    def add(self, kind: policy.Kind, name: str) -> Conversation:
        """Begin a conversation under an id of our own making."""


class Inviting:
    """Our invitations to rooms, each in the direct conversation with whom it is for."""

    def __init__(self, context: Context, registry: RegistryPort) -> None:
        self._context = context
        self._registry = registry

    def invite(self, added: Added) -> None:
        """Send somebody whom our commit has just added their invitation, in the transaction that merges it.

        We may be out of the room again by then: they are in its tree, and nobody else can invite them to that epoch.
        """
        context, who, rules = self._context, Identity.of(added.person), added.rules
        if context.pins.standing(*who) not in WRITTEN_TO:  # refused while our commit was on its way
            context.vault.changes.add(added.room, "remove", who.account)
            context.touched.add(added.room)
            text = f"{who.account} was added under a key that you have refused since, and is removed again."
            context.answers.refuse(("change", added.change), "local", text)
            return
        until = context.clock.milliseconds() + WAIT_MILLISECONDS
        body = Invite(added.room, "invite", rules.name, role_of(rules, who), rules.owners, added.opens, until)
        direct = self.direct_with(who)
        if direct is None:
            direct = self._registry.add("direct", who.account)
            direct.row.asked = "ours"
            direct.put(Request())
        elif direct.row.asked == "theirs":  # inviting somebody says yes to their request
            direct.row.asked = ""
            direct.put(Accept())
            direct.tell("accepted", context.device.account)
        context.answers.move(("change", added.change), ("item", direct.put(body)))

    def withdraw(self, room: bytes, removed: Iterable[DeviceCertificate]) -> None:
        """Tell those whom our commit has removed before they answered that the invitation is void."""
        for person in removed:
            direct = self.direct_with(Identity.of(person))
            if direct is not None:
                direct.put(WithdrawInvite(room))

    def direct_with(self, who: Identity) -> Conversation | None:
        """Return the conversation in which what we say reaches this key, or will once it is open."""
        for each in reversed(self._registry.named(who.account)):
            people = each.people.values() if each.row.phase in phases.INSIDE else ()
            if not each.row.closed and (not people or who in map(Identity.of, people)):
                return each
        return None

    def take_no(self, conversation: bytes, who: Identity) -> None:
        """Somebody whom we have invited does not want to come: their leaf leaves the room."""
        room = self._registry.get(conversation)
        if room is None or room.row.phase not in phases.READING or room.row.closed:
            return
        if who not in unanswered(room):
            return
        self._context.emit(events.InvitationDeclined(room.id, who.account))
        rules = policy.rules_of(room.group.public.extensions)
        here = any(person.account == who.account for leaf, person in room.people.items() if leaf not in room.departed)
        device = self._context.device
        if here and Identity(device.account, device.identity_key) in rules.who_adds:
            self._context.vault.changes.add(room.id, "remove", who.account)
            self._context.touched.add(room.id)
