"""What people type about a message: `/reply`, `/edit`, `/delete`, `/react`; and how they say which one they mean.

    /history          3) 12:03 [#club] bob: Shall we?
                      2) 12:04 [#club] alice: At sixx?
                      1) 12:04 [#club] carol: Fine
    /reply 3 Yes      answers what `/history` showed as 3
    /reply Yes        answers the newest message of somebody else
    /edit At six?     changes one's own newest message; /delete and /react likewise go without a number

The numbers count back, and stay with their messages until the next `/history` or `/search`: what comes meanwhile moves
none. What was meant without a number shows in what the screen says then.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from securechat.client.commands import Act, Command, Delete, Edit, React, Reply
from securechat.client.message import Message
from securechat.client.snapshot import ConversationSnapshot
from securechat.errors import UsageError
from securechat.ui.session.place import Place

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

QUICK: Final = "👍❤😂😮😢🙏"
"""What a digit puts under a message, where one is chosen by keys."""

LOOK_BACK: Final = 200
"""Newest messages among which the one is looked for that is meant without a number."""

_MAX_DIGITS: Final = 4
"""Of a number: `/history` shows 1,000 at most."""


class Numbers:
    """The messages that `/history` or `/search` has shown last."""

    def __init__(self) -> None:
        self._messages: tuple[Message, ...] = ()  # newest first

    def give(self, messages: Sequence[Message]) -> list[tuple[int, Message]]:
        """Number messages, oldest first as they come."""
        self._messages = tuple(reversed(messages))
        return [(len(messages) - place, message) for place, message in enumerate(messages)]

    def at(self, number: int) -> int:
        """Return the local id of what has a number. Raises `UsageError`."""
        return self._numbered(number).local_id

    def named(self, conversation: ConversationSnapshot, number: int) -> int:
        """Return the local id of what has a number and was said in a conversation. Raises `UsageError`."""
        message = self._numbered(number)
        if message.conversation != conversation.id:
            raise UsageError(
                f"Message {number} was said in another conversation: /history at {number} shows where. What was said "
                "before this conversation began cannot be answered or changed."
            )
        return message.local_id

    def _numbered(self, number: int) -> Message:
        if not 1 <= number <= len(self._messages):
            raise UsageError(f"There is no message {number}: type /history, and take a number that it shows.")
        return self._messages[number - 1]


class Session(Protocol):
    """What these commands need of a person's session."""

    client: "ChatClient"
    place: Place
    numbers: Numbers

    def speak(self, conversation: ConversationSnapshot, command: Command) -> None:
        """Have something said in a conversation. Raises `UsageError` if nothing can be said there."""


def me(chat: Session, rest: str) -> None:
    """`/me waves`."""
    if not rest:
        raise UsageError("Type /me and what you do, as in: /me waves")
    here = chat.place.here()
    chat.speak(here, Act(here.id, rest))


def reply(chat: Session, rest: str) -> None:
    """`/reply [N] TEXT`."""
    number, text = split_number(rest)
    if not text:
        raise UsageError("Type /reply TEXT to answer the newest message, or /reply N TEXT with a number of /history.")
    _about(chat, number, _is_others, lambda line: Reply(line, text))


def edit(chat: Session, rest: str) -> None:
    """`/edit [N] TEXT`."""
    number, text = split_number(rest)
    if not text:
        raise UsageError("Type /edit and the whole new text of your newest message, or of N of /history: /edit N TEXT")
    _about(chat, number, _is_own, lambda line: Edit(line, text))


def delete(chat: Session, rest: str) -> None:
    """`/delete [N]`."""
    number, text = split_number(rest)
    if text:
        raise UsageError("Type /delete for your newest message, or /delete N with a number of /history.")
    _about(chat, number, _is_own, Delete)


def react(chat: Session, rest: str) -> None:
    """`/react [N] EMOJI`; the same again takes it back."""
    number, text = split_number(rest)
    if not text:
        raise UsageError("Type /react 👍 for the newest message, or /react N 👍 with a number of /history.")

    def command(line: int) -> React:
        there = [each for message in chat.client.around(line, 0) for each in message.reactions if each.text == text]
        return React(line, text, remove=any(chat.client.account in each.accounts for each in there))

    _about(chat, number, _is_others, command)


def split_number(rest: str) -> tuple[int | None, str]:
    """Return the number that a command begins with, if it does, and the rest."""
    word, _, text = rest.partition(" ")
    if word.isascii() and word.isdigit() and len(word) <= _MAX_DIGITS:
        return int(word), text.strip()
    return None, rest


def _about(
    chat: Session, number: int | None, fits: Callable[[Message], bool], command: Callable[[int], Command]
) -> None:
    """Say something about the message with a number, or about the newest one that fits."""
    here = chat.place.here()
    if number is not None:
        chat.speak(here, command(chat.numbers.named(here, number)))
        return
    found = next((each for each in reversed(chat.client.history(here.id, LOOK_BACK)) if fits(each)), None)
    if found is None:
        raise UsageError("There is no such message among the newest: type /history 1000, and take a number it shows.")
    chat.speak(here, command(found.local_id))


def _is_others(message: Message) -> bool:
    return not (message.own or message.deleted_by or message.problem)


def _is_own(message: Message) -> bool:
    return message.own and not (message.deleted_by or message.problem)
