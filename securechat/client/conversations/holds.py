"""What holds the words of a person: keys in a conversation that the user has not accepted (docs/design.md, section 6).

    direct    every key that is not accepted
    invite    a key that is refused, or against a verified one
    open      the same, until the user lets it read with one `Confirm`, once for ever
    any but   somebody who came by a door after the line was typed, until the user confirms them
    open
    owned     that we were away for more than a week since the line was typed, until the user confirms it: nobody can
              prove that the state shown to us is the newest (`freshness`)

Handshakes and leaving are never held, and none of this decides whether a commit is valid (invariant 8).
"""

from securechat.client import events
from securechat.client.conversations.conversation import Conversation
from securechat.client.vault.conversations import PersonRow
from securechat.identity import pins


def holding(conversation: Conversation) -> tuple[PersonRow, ...]:
    """Return those in a conversation whose keys hold whatever a person writes there."""
    row, book = conversation.row, conversation.context.pins
    if conversation.holding is None or conversation.holding[:2] != (row.roster, book.version):
        found = tuple(person for person in row.persons if _holds(conversation, person))
        conversation.holding = row.roster, book.version, found
    return conversation.holding[2]


def arrived(conversation: Conversation, roster: int) -> tuple[PersonRow, ...]:
    """Return those who came by a door, unconfirmed, after a line was typed for the roster of that number."""
    if conversation.row.kind == "open":
        return ()
    return tuple(person for person in conversation.row.persons if person.door > roster)


def held(conversation: Conversation, roster: int) -> events.Held | None:
    """Return why a line that was typed for a roster may not be sent, if so. Asks, where `Confirm` lets it go."""
    row = conversation.row
    whose, confirmable = holding(conversation), row.kind == "open"
    if not whose:
        whose, confirmable = arrived(conversation, roster), True
    absent = roster < row.returned
    if not whose and not absent:
        return None
    question = conversation.ask(whose) if confirmable else 0
    return events.Held(row.id, tuple(shown(conversation, person) for person in whose), question, absent)


def shown(conversation: Conversation, person: PersonRow) -> events.KeyShown:
    """Return how somebody's key is shown."""
    standing = conversation.context.pins.standing(person.account, person.identity_key)
    return events.KeyShown(person.account, pins.short(person.identity_key), standing)


def _holds(conversation: Conversation, person: PersonRow) -> bool:
    row, context = conversation.row, conversation.context
    standing = context.pins.standing(person.account, person.identity_key)
    if row.kind == "direct":
        return standing not in pins.WRITTEN_TO
    if person.account == context.device.account:
        return False  # nobody can ever decide on it: an alarm has told of it
    return standing in pins.CONTRADICTING and person[:2] not in conversation.confirmed
