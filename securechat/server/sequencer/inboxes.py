"""Who may put a Welcome into whose inbox: one that is full refuses its sender, and no letter gives way to another.

Accounts cost little. So each sender has a small part of an inbox, and all those together to whom its owner has never
spoken have half of it: the other half is for those with whom they talk.
"""

from collections.abc import Collection, Iterable

from securechat.errors import RefusedError
from securechat.identity.certificate import DeviceCertificate
from securechat.server.sequencer.conversation import Conversations
from securechat.server.sequencer.reading import Reading
from securechat.server.sequencer.turn import Turn
from securechat.server.store.port import ConversationStore, InboxStore
from securechat.server.store.records import (
    INBOX_BYTES,
    INBOX_BYTES_OF_SENDER,
    INBOX_ENTRIES,
    INBOX_ENTRIES_OF_SENDER,
    InboxEntry,
    Waiting,
    Who,
)


class Inboxes:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: InboxStore,
        kept: ConversationStore,
        conversations: Conversations,
        reading: Reading,
    ) -> None:
        self._turn = turn
        self._store = store
        self._kept = kept
        self._conversations = conversations
        self._reading = reading

    def deliver(self, letter: InboxEntry, receivers: Collection[Who], sender: str) -> None:
        """Put a letter into inboxes, and let those read it who are there."""
        self._store.deliver(letter, [device for _, device in receivers], sender)
        self._turn.after(lambda: self._reading.notify_inboxes(receivers))

    def check(self, sender: str, receivers: Iterable[DeviceCertificate], size: int) -> None:
        """Raise RefusedError `inbox-full` unless each of these devices can get a letter of so many bytes."""
        people = {each.device_id: each.account for each in receivers}
        for device, waiting in self._store.waiting(people, sender).items():
            account = people[device]
            if _is_over(waiting.of_sender, size, INBOX_ENTRIES_OF_SENDER, INBOX_BYTES_OF_SENDER):
                text = f"{account} has not read what you have sent them before: more can come once they have been here"
                raise RefusedError("inbox-full", text)
            full = _is_over(waiting.of_all, size, INBOX_ENTRIES, INBOX_BYTES)
            half_full = _is_over(waiting.of_all, size, INBOX_ENTRIES // 2, INBOX_BYTES // 2)
            if full or (half_full and not self._has_answered(account, sender)):
                text = f"too many invitations wait for {account}: yours can come once they have been here"
                raise RefusedError("inbox-full", text)

    def _has_answered(self, account: str, sender: str) -> bool:
        """Whether `account` has said anything in its direct conversation with `sender`, and both are in it still."""
        low, high = sorted((account, sender))
        found = self._kept.pair((low, high))
        conversation = self._conversations.get(found) if found is not None else None
        if conversation is None:
            return False
        present = conversation.present
        numbers = {device: each.last for device, each in conversation.head.numbers.items()}
        said = any(each.account == account and numbers.get(each.device) for each in present)
        return said and any(each.account == sender for each in present)


def _is_over(waiting: Waiting, size: int, entries: int, most: int) -> bool:
    return waiting.entries >= entries or waiting.bytes + size > most
