"""What people are asked: every event that waits for a decision of a person, each question once.

A modelled person answers all of it by the truth, as it comes: nobody lies in these stories, so every answer is yes.
"""

from collections.abc import Iterator
from typing import TypeVar

from securechat.client import commands, events
from securechat.client.conversations.conversation import Conversation
from securechat.client.engine import Engine
from securechat.identity import pins
from tests.support.people import Person, settle

E = TypeVar("E", bound=events.Event)


def questions(person: Person) -> set[str]:
    """What somebody was asked since `Person.happened` was last emptied. About one key there is one question."""
    return asked_in(person.happened, person.engine)


def asked_in(happened: list[events.Event], engine: Engine) -> set[str]:
    """The same, of any client."""
    return {question for event in happened for question in _of(engine, event)}


def _of(engine: Engine, event: events.Event) -> Iterator[str]:
    match event:
        case events.Invited(invitation=about):
            key = f"key {about.key[:4]} of {about.inviter}"
            yield key if about.first_contact else f"invitation to {about.name} by {about.inviter}"
        case events.ConversationChanged(change="request", conversation=about):
            found = engine._registry.get(about.id)
            assert found is not None
            yield f"key {pins.short(found.peer_key)} of {about.name}"
        case events.KeyChanged():
            yield f"key {event.key} of {event.account}"
        case events.Held(question=0):
            yield from (f"key {shown.key} of {shown.account}" for shown in event.whose)
        case events.Held():
            yield f"lines to {', '.join(sorted(shown.account for shown in event.whose)) or 'a room of long ago'}"
        case events.Stopped():
            yield f"a repair: {event.reason}"
        case events.Alarm(kind=kind) if kind != "time":  # a clock that is wrong is told of, and holds nothing
            yield event.text


def forget(*people: Person) -> None:
    """What was told so far is not part of the story."""
    for person in people:
        person.happened.clear()
        person.obliging = False


def play(*people: Person) -> None:
    """Let messages move, and people answer what they are asked, until nobody has anything left to do."""
    settle(*people)
    while [person for person in people if person.link is not None and _answer(person)]:
        settle(*people)


def _answer(person: Person) -> bool:
    """Have somebody decide on whatever is open. Says whether there was anything."""
    open_now = [*_answers(person)]
    for command in open_now:
        person.do(command)
    return bool(open_now)


def _answers(person: Person) -> Iterator[commands.Command]:
    engine, decided = person.engine, {each.key for each in events_of(person, events.KeyAccepted)}
    for changed in events_of(person, events.KeyChanged):
        if changed.key not in decided:
            yield commands.Trust(changed.account, changed.key)
    for each in engine.snapshot.conversations.values():
        if each.state == "request":
            yield commands.Accept(each.id)
    for room, invitation in engine.snapshot.invitations.items():
        yield commands.AcceptInvitation(room, invitation.question)
    for conversation, question in {(held.conversation, held.question) for held in events_of(person, events.Held)}:
        found = there(person, conversation)
        if question and found.asked_about is not None and found.question == question:
            yield commands.Confirm(conversation, question)


def events_of(person: Person, kind: type[E]) -> list[E]:
    """The events of one kind that are part of the story."""
    return [event for event in person.happened if isinstance(event, kind)]


def there(person: Person, what: str | bytes) -> Conversation:
    """A conversation as a client has it, by its name or id."""
    registry = person.engine._registry
    found = registry.find(what) if isinstance(what, str) else registry.get(what)
    assert found is not None, f"{person.name} has no {what!r}"
    return found
