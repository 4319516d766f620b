"""What the user decides on identity keys, and what follows for the conversations (docs/design.md, section 6, Pins).

A private conversation belongs to the key of the other one. When another key of an account is accepted, the old private
conversation is left and a new one takes its place, with the lines that wait: the decision says how many. Nothing else
ever leaves or replaces one.
"""

from collections.abc import Iterator
from typing import Final

from securechat.client import events
from securechat.client.context import Context
from securechat.client.conversations import holds, phases, roster
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.registry import Registry
from securechat.errors import TrustError, UsageError
from securechat.identity import pins
from securechat.identity.pins import WORST_FIRST, WRITTEN_TO
from securechat.identity.safety_number import safety_number

MAX_NUMBERS: Final = 8
"""Keys of one account whose numbers are shown at once: each takes about 10 ms, and no honest account has as many."""


class Decisions:
    """The commands about keys. Each raises `UsageError`, having changed nothing, if it makes no sense."""

    def __init__(self, context: Context, registry: Registry) -> None:
        self._context = context
        self._registry = registry
        self._numbered: dict[str, list[bytes]] = {}  # keys whose safety numbers the user has looked at since the start

    def show(self, account: str) -> events.SafetyNumber:
        """Return the numbers of all known keys of an account, the accepted one first. `verify` is about these."""
        keys = self.known_keys(account)
        if not keys:
            raise UsageError(f"No key of {account} is known yet. Write to them first.")
        keys.sort(key=lambda key: WORST_FIRST.index(self._context.pins.standing(account, key)), reverse=True)
        self._numbered[account] = keys[:MAX_NUMBERS]
        own = self._context.device
        return events.SafetyNumber(account, tuple(
            events.NumberedKey(
                pins.short(key),
                self._context.pins.standing(account, key),
                safety_number(own.identity_key, own.account, key, account),
                tuple(each.row.name for each in self._with(account, key)),
            )
            for key in self._numbered[account]
        ))  # fmt: skip

    def accepted(self, conversation: Conversation) -> bool:
        """Whether the other one's key in a direct conversation is accepted."""
        return self._context.pins.standing(conversation.row.name, conversation.peer_key) in WRITTEN_TO

    def accept(self, conversation: Conversation) -> None:
        """The user says yes to whoever asks to talk: that never takes the place of another accepted key."""
        account, key = conversation.row.name, conversation.peer_key
        try:
            self._context.pins.accept(account, key)
        except TrustError as error:
            form = pins.short(key)
            raise UsageError(
                f"This is not the {account} whose key you have accepted: {error} See /safety {account}; "
                f"/trust {account} {form} accepts it all the same, /decline {account} says no."
            ) from error

    def verify(self, account: str, form: str) -> events.KeyAccepted:
        """The user has compared the number of a key: one that was shown since the start."""
        numbered = self._numbered.get(account)
        if not numbered:
            raise UsageError(f"Look at the safety number first: /safety {account}. Compare it, then /verify {account}.")
        key = self._pick(account, form, numbered, "/verify")
        self._context.pins.verify(account, key)
        return self._accepted(account, key, verified=True)

    def trust(self, account: str, form: str) -> events.KeyAccepted:
        """The user accepts a key without having compared it."""
        book = self._context.pins
        others = [key for key in self.known_keys(account) if book.standing(account, key) not in WRITTEN_TO]
        refused = [key for key in others if book.standing(account, key) == "refused"]
        if not form:
            others = [key for key in others if key not in refused]
        if refused and not others:
            known = " or ".join(f"/trust {account} {pins.short(key)}" for key in refused)
            raise UsageError(f"You have refused what is known of {account}. {known} accepts it again.")
        if not others:
            raise UsageError(f"No other key of {account} is known; there is nothing to trust.")
        key = self._pick(account, form, others, "/trust")
        book.trust(account, key)
        return self._accepted(account, key, verified=False)

    def refuse(self, account: str, form: str) -> events.KeyRefused:
        """The user lets nothing go to a key."""
        book = self._context.pins
        keys = [key for key in self.known_keys(account) if book.standing(account, key) != "refused"]
        if not keys:
            raise UsageError(f"No key of {account} is known that could be refused.")
        key = self._pick(account, form, keys, "/distrust")
        book.refuse(account, key)
        self._context.vault.conversations.unconfirm(account, key)
        where = list(self._with(account, key))
        for conversation in where:
            conversation.confirmed.discard((account, key))
            conversation.holding = None
            self._context.touched.add(conversation.id)
        lines = sum(self._lines(conversation) for conversation in where)
        return events.KeyRefused(account, pins.short(key), lines, tuple(each.row.name for each in where))

    # --- what follows ---------------------------------------------------------------------------------------------

    def _accepted(self, account: str, key: bytes, *, verified: bool) -> events.KeyAccepted:
        """Let go what waited for the key, and leave the private conversations that belong to another one."""
        old = [each for each in self._registry.named(account) if self._belongs_elsewhere(each, key)]
        for conversation in old:
            self._replace(conversation, key)
        for conversation in self._registry:
            if conversation.row.phase not in phases.ENDED and self._concerns(conversation, account):
                self._context.touched.add(conversation.id)
                roster.forget_door(conversation, account, key)
        opening = [each for each in self._registry.named(account) if each.row.phase in phases.NEW]
        lines = sum(map(self._lines, (*self._with(account, key), *opening)))
        rooms = [each for each in self._registry if each.row.kind != "direct" and self._held_for_another(each, account)]
        stops = tuple(each.row.name for each in (*old, *rooms))
        return events.KeyAccepted(account, pins.short(key), verified, lines, stops)

    def _held_for_another(self, conversation: Conversation, account: str) -> bool:
        """Whether a key of the account holds what is said in a conversation: then it is not the accepted one."""
        return any(person.account == account for person in holds.holding(conversation))

    def _belongs_elsewhere(self, conversation: Conversation, key: bytes) -> bool:
        """Whether it is a private conversation of ours with another key. A request to us is no such."""
        row = conversation.row
        others = conversation.peer_key not in (b"", key)
        return others and not row.closed and row.asked != "theirs" and row.phase not in phases.ENDED

    def _replace(self, old: Conversation, key: bytes) -> None:
        """Leave a private conversation; what waits in it goes to the one with `key`, which is opened if need be."""
        account = old.row.name
        living = [each for each in self._registry.named(account) if not each.row.closed and each is not old]
        new = next((each for each in living if each.peer_key == key), None)
        if new is None:
            new = next((each for each in living if each.row.phase in phases.NEW), None)
        if new is None:
            new = self._registry.add("direct", account)
        old.hand_over(new)
        self._registry.leave(old)
        self._context.touched.add(new.id)

    def _with(self, account: str, key: bytes) -> Iterator[Conversation]:
        """Yield the conversations that show a key."""
        for conversation in self._registry:
            persons = conversation.row.persons
            if conversation.row.phase not in phases.ENDED and any(each[:2] == (account, key) for each in persons):
                yield conversation

    def _concerns(self, conversation: Conversation, account: str) -> bool:
        return conversation.row.name == account or any(each.account == account for each in conversation.row.persons)

    def _lines(self, conversation: Conversation) -> int:
        return self._context.vault.outbox.lines(conversation.id)

    # --- which key ------------------------------------------------------------------------------------------------

    def known_keys(self, account: str) -> list[bytes]:
        """Return the keys of an account that were decided on, that conversations show, or that were met."""
        book = self._context.pins
        if account == self._context.device.account:
            raise UsageError("That is you: your own key is the one in this vault, and no other is ever accepted.")
        here = (
            person.identity_key
            for conversation in self._registry
            if conversation.row.phase not in phases.ENDED
            for person in conversation.row.persons
            if person.account == account and person.identity_key
        )
        return list(dict.fromkeys((*book.of(account).states, *here, *book.met(account))))

    def _pick(self, account: str, form: str, keys: list[bytes], what: str) -> bytes:
        """Return the one key that is meant."""
        meant = pins.named(form, keys) if form else keys
        if len(meant) == 1:
            return meant[0]
        if not meant:
            raise UsageError(f"{account} has no such key. /safety {account} lists those that are known.")
        digits = next(n for n in range(pins.SHORT, 65) if len({pins.digest(key)[:n] for key in meant}) == len(meant))
        forms = " or ".join(f"{what} {account} {pins.digest(key)[:digits]}" for key in sorted(meant))
        raise UsageError(f"Say which key of {account} you mean: {forms}. /safety {account} shows their numbers.")
