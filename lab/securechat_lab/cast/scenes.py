"""How tests begin, and what they look at in the end."""

from collections.abc import Callable
from typing import TypeVar

from securechat.client import commands, events
from securechat.identity import pins
from securechat_lab.cast.live import LiveClient

ADVICE = "Nothing more is read or sent here. Compare with the others in some other way; /repair rejoins."
"""How every alarm about a log that cannot be followed ends."""

MARKED = "What is said is read and marked; compare with the others in some other way."
"""How an alarm about a member's other history goes on."""

E = TypeVar("E", bound=events.Event)


def direct(one: LiveClient, other: LiveClient) -> bytes:
    """Let two people talk in private, both ways. Returns the conversation."""
    one.do(commands.OpenDirect(other.name, "hello", ask=False))
    other.read(one.name, f"{one.name}: hello")
    say(other, one.name, "hi")
    one.read(other.name, f"{other.name}: hi")
    return one.id_of(other.name)


def lobby(*people: LiveClient) -> bytes:
    """Bring people together in #lobby, everybody knowing everybody and hearing it live. Returns the conversation."""
    for person in people:
        person.do(commands.JoinRoom("#lobby"))
        person.wait_for(events.ConversationChanged, lambda event: event.change in ("opened", "joined"))
    everybody = tuple(sorted(person.name for person in people))
    for person in people:
        person.wait_until(lambda person=person: members(person, "#lobby") == everybody)  # type: ignore[misc]  # bound now
        # Answered after the subscription, which is asked for as soon as somebody is in.
        assert isinstance(person.answer(commands.ListRooms()), events.Done)
    return people[0].id_of("#lobby")


def found(owner: LiveClient, room: str, *people: LiveClient) -> bytes:
    """Found a room of invitation, and bring people into it. Returns the conversation.

    A room is listed as open from the moment it is asked for. Only the answer says that it exists.
    """
    assert isinstance(owner.answer(commands.CreateRoom(room)), events.Done)
    invite(owner, room, *people)
    return owner.id_of(room)


def invite(owner: LiveClient, room: str, *people: LiveClient) -> None:
    """Bring people into a room; each has answered, and everybody has seen that, on return."""
    inside = [owner]
    for person in people:
        before = epoch(owner, room)
        assert isinstance(owner.answer(commands.Invite(owner.id_of(room), person.name)), events.Done)
        inside.append(person)
        for each in (person, *inside):  # they were added, and have committed a path of their own
            each.wait_until(lambda each=each, before=before: epoch(each, room) == before + 2)  # type: ignore[misc]  # bound now


def epoch(person: LiveClient, name: str) -> int:
    """A conversation's epoch, by what a client shows."""
    conversation = person.client.find(name)
    return -1 if conversation is None else conversation.epoch


def members(person: LiveClient, name: str) -> tuple[str, ...]:
    """Who is in a conversation, by what a client shows."""
    conversation = person.client.find(name)
    return () if conversation is None else conversation.members


def state(person: LiveClient, name: str) -> str:
    """A conversation's state, by what a client shows."""
    conversation = person.client.find(name)
    return "" if conversation is None else conversation.state


def say(person: LiveClient, name: str, text: str, *readers: LiveClient) -> None:
    """Say something in a conversation; it is in the log, and `readers` have read it, on return."""
    command = person.say(name, text)
    person.wait_for(events.Delivered, lambda event: event.command == command.id)
    for reader in readers:
        reader.read(person.name if not name.startswith("#") else name, f"{person.name}: {text}")


def happened(person: LiveClient, kind: type[E], where: Callable[[E], bool] = lambda _event: True) -> list[E]:
    """What a front end was told by now, of one kind.

    A client publishes a new snapshot before it tells what has changed: the answer to a question comes after that.
    """
    if not any(isinstance(event, events.Ended) for event in person.happened):
        person.answer(commands.ListInviteLines())
    return [event for event in person.happened if isinstance(event, kind) and where(event)]


def repair(person: LiveClient, name: str) -> None:
    """Resync a conversation that has stopped; it is done on return."""

    assert isinstance(person.answer(commands.Repair(person.id_of(name))), events.Done)


def verify(person: LiveClient, account: str) -> None:
    """Look at the safety number of somebody whose one key is known, and note that it was compared."""
    person.safety_number(account)
    assert isinstance(person.answer(commands.Verify(account)), events.Done)


def key_of(person: LiveClient) -> str:
    """The short form of somebody's own key."""
    return pins.short(person.client._engine._context.device.identity_key)


def compare(one: LiveClient, other: LiveClient) -> str:
    """Let two people compare their numbers, and the first one note it. Returns the short form of the other's key."""
    theirs = {shown.number for shown in other.safety_numbers(one.name)}
    (same,) = [shown for shown in one.safety_numbers(other.name) if shown.number in theirs]
    assert isinstance(one.answer(commands.Verify(other.name, same.key)), events.Done)
    return same.key


def assert_calm(*people: LiveClient) -> None:
    """Nobody was told of anything wrong, and every line can be read."""
    worries = (events.Alarm, events.Stopped, events.KeyChanged, events.Held, events.Gap, events.Refused)
    for person in people:
        assert not happened(person, events.Event, lambda event: isinstance(event, worries)), person.name
        for conversation in person.client.conversations():
            assert not [line for line in person.client.history(conversation.id, 1000) if line.problem]


def unsent(person: LiveClient, name: str) -> list[str]:
    """What waits in a conversation and has not been accepted by the server."""
    lines = person.client.history(person.id_of(name), 1000)
    return [line.text for line in lines if line.own and not line.seq and not line.problem]
