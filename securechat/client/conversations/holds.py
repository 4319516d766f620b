"""What holds the words of a person: keys in a conversation that the user has not accepted (docs/design.md, section 6).

    direct    every key that is not accepted; one that two programs hold, or that has succeeded a verified one, until
              the user goes on with one `Confirm`
    invite    a key that is refused, or against a verified one
    open      the same, until the user lets it read with one `Confirm`, once for ever
    any but   somebody who came by a door after the line was typed, until the user confirms them
    open
    owned     that we were away for more than a week since the line was typed, until the user confirms it: nobody can
              prove that the state shown to us is the newest (`freshness`)

Handshakes and leaving are never held, and none of this decides whether a commit is valid (invariant 8).
"""

from collections.abc import Iterable

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
        whose, confirmable = _doubted(conversation) or arrived(conversation, roster), True
    absent = roster < row.returned
    if not whose and not absent:
        return None
    question = _ask(conversation, whose) if confirmable else 0
    shown_keys = tuple(shown(conversation, person) for person in whose)
    in_doubt = row.kind == "direct" and any(conversation.context.chains.in_doubt(*person[:2]) for person in whose)
    return events.Held(row.id, shown_keys, question, absent, two_holders=in_doubt and bool(question))


def reads_freely(conversation: Conversation) -> bool:
    """Whether nobody's key holds what is said now. Asks nothing."""
    return not (holding(conversation) or _doubted(conversation) or arrived(conversation, conversation.row.roster))


def confirm(conversation: Conversation) -> None:
    """The user lets those read who were asked about last: in an open room for ever, elsewhere as they are now."""
    asked, conversation.asked_about = conversation.asked_about or frozenset(), None
    row = conversation.row
    row.returned = 0
    if row.kind == "open":
        persons = {person[:2] for person in asked}
        conversation.context.vault.conversations.confirm(row.id, persons)
        conversation.confirmed |= persons
        conversation.holding = None
    else:
        for person in asked if row.kind == "direct" else ():
            conversation.context.chains.confirm(person.account, person.identity_key)
            conversation.context.pins.go_on(person.account, person.identity_key)
        row.persons = tuple(person._replace(door=0) if person in asked else person for person in row.persons)


def shown(conversation: Conversation, person: PersonRow) -> events.KeyShown:
    """Return how somebody's key is shown."""
    standing = conversation.context.pins.standing(person.account, person.identity_key)
    return events.KeyShown(person.account, pins.short(person.identity_key), standing)


def _ask(conversation: Conversation, whose: Iterable[PersonRow]) -> int:
    """Ask the user to confirm these persons. Returns the question's number: the same for the same persons."""
    if conversation.asked_about != (persons := frozenset(whose)):
        conversation.question, conversation.asked_about = conversation.question + 1, persons
    return conversation.question


def _doubted(conversation: Conversation) -> tuple[PersonRow, ...]:
    """Return the other one in a private conversation, if two programs hold the key, or it has succeeded another."""
    row, context = conversation.row, conversation.context
    return tuple(
        person
        for person in (row.persons if row.kind == "direct" else ())
        if context.pins.standing(*person[:2]) == "succeeded" or context.chains.in_doubt(*person[:2])
    )


def _holds(conversation: Conversation, person: PersonRow) -> bool:
    row, context = conversation.row, conversation.context
    standing = context.pins.standing(person.account, person.identity_key)
    if row.kind == "direct":
        return standing not in pins.WRITTEN_TO
    if person.account == context.device.account:
        return False  # nobody can ever decide on it: an alarm has told of it
    return standing in pins.CONTRADICTING and person[:2] not in conversation.confirmed
