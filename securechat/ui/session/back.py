"""What people type to read what was said: `/history` in pages, `/search`, and the way from what was found to around it.

    /history          3) 12:03 [#club] bob: Shall we?      the newest here
    /history older    ...                                  the page before that; newer: the page after it
    /search six       1) 12:04 [#club] alice: At six?      the newest that was found; /search alone goes on
    /history at 1     ...                                  what was said around it, in its conversation

What was said to a person or in a room goes back over all conversations that there have been under that name: somebody
may have left or ended one, or got another key.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from securechat.client.message import Message
from securechat.client.query import Query
from securechat.errors import UsageError
from securechat.ui.session.about import Numbers
from securechat.ui.session.place import Place
from securechat.ui.text.states import BEGINS
from securechat.ui.text.wording import in_words, title
from securechat.ui.view.lines import message_line, notice
from securechat.ui.view.query import query_of
from securechat.ui.view.rows import line_of

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

LINES: Final = 20
"""Messages that are shown at once unless told otherwise: about a screen."""

MAX_LINES: Final = 1000

NEW: Final = "New since you were here last:"


class Reading:
    """Which lines are on the screen, so that older and newer ones can be asked for; and what is looked for."""

    def __init__(self) -> None:
        self.name = ""  # under which they were said; empty: nothing was shown yet
        self.first = self.last = 0  # local ids
        self.new = 0  # the first line that was unread where one went last
        self.query: Query | None = None
        self.found_last = 0  # the oldest line that was found


class Session(Protocol):
    """What these commands need of a person's session."""

    client: "ChatClient"
    place: Place
    numbers: Numbers
    reading: Reading

    def show(self, line: str) -> None:
        """Show a line that is already harmless."""

    def visit(self, name: str) -> None:
        """Go to a conversation that goes on."""

    def leave_unread(self, line: int) -> None:
        """Let a line of the current conversation, and what came in after it, be unread."""


def history(chat: Session, rest: str) -> None:
    """`/history [N]`, `/history older`, `/history newer`, `/history at N`."""
    word, _, number = rest.partition(" ")
    if rest in ("older", "newer"):
        _turn_page(chat, older=rest == "older")
    elif word == "at":
        _around(chat, chat.numbers.at(_number(number.strip(), "/history at N with a number that is on the screen")))
    else:
        count = _number(rest, f"/history or /history N with a number from 1 to {MAX_LINES:,}") if rest else LINES
        here = chat.place.here()
        page = chat.client.past(here.name, count)
        if not page:
            chat.show(notice(f"Nothing has been said in {in_words(here)} yet."))
        _show_page(chat, here.name, page)


def search(chat: Session, rest: str) -> None:
    """`/search WORDS`; `/search` alone goes on."""
    reading = chat.reading
    if rest:
        reading.query, reading.found_last = query_of(rest, chat.client.account), 0
    elif reading.query is None:
        raise UsageError('Type /search and words, as in: /search lunch from:bob in:#staff after:2026-11 "see you"')
    found = chat.client.search(reading.query, LINES, reading.found_last)
    if found:
        reading.found_last = found[-1].local_id
        show_numbered(chat, found[::-1], found=True)
        more = " /search alone shows older ones." if len(found) == LINES else ""
        chat.show(notice(f"/history at N shows what was said around the one with that number.{more}"))
    else:
        chat.show(notice("Nothing older was found." if reading.found_last else "Nothing was found."))


def unread(chat: Session, rest: str) -> None:
    """`/unread [N]`."""
    here = chat.place.here()
    if rest:
        line = chat.numbers.named(here, _number(rest, "/unread, or /unread N with a number of /history"))
    else:
        newest = (each for each in reversed(chat.client.history(here.id, MAX_LINES)) if not each.own)
        line = next((each.local_id for each in newest), 0)
    if not line:
        raise UsageError(f"Nobody else has said anything in {in_words(here)} yet.")
    chat.leave_unread(line)


def _turn_page(chat: Session, *, older: bool) -> None:
    reading = chat.reading
    if not reading.name:
        raise UsageError("Type /history first: older and newer go on from what it shows.")
    beside = {"before": reading.first} if older else {"after": reading.last}
    try:
        page = chat.client.past(reading.name, LINES, **beside)
    except UsageError:
        raise UsageError("The messages from which to go on are not here any more. /history shows the newest.") from None
    if not page:
        chat.show(notice(f"There is nothing {'older' if older else 'newer'}."))
        return
    _show_page(chat, reading.name, page)


def _around(chat: Session, line: int) -> None:
    """Show what was said before and after a line, in its conversation, and go there if it goes on."""
    found = next(iter(chat.client.around(line, 0)), None)
    conversation = None if found is None else chat.client.conversation(found.conversation)
    if found is None or conversation is None:
        raise UsageError("That message is not here any more.")
    name = conversation.name
    before = chat.client.past(name, LINES // 2, before=line)
    page = [*before, found, *chat.client.past(name, LINES // 2, after=line)]
    if name != chat.place.name and chat.place.alive(name) is not None:
        chat.visit(name)
    _show_page(chat, name, page)


def _show_page(chat: Session, name: str, page: Sequence[Message]) -> None:
    if page:
        chat.reading.name, chat.reading.first, chat.reading.last = name, page[0].local_id, page[-1].local_id
    show_numbered(chat, page)


class Shower(Protocol):
    """What it takes to show messages."""

    client: "ChatClient"
    numbers: Numbers
    reading: Reading

    def show(self, line: str) -> None:
        """Show a line that is already harmless."""


def show_numbered(chat: Shower, messages: Sequence[Message], *, found: bool = False) -> None:
    """Show messages, oldest first, each with its number, and where another conversation of the same name begins.

    `found`: they were looked for, and do not follow each other.
    """
    now, before = datetime.now().astimezone(), None
    for number, message in chat.numbers.give(messages):
        conversation = chat.client.conversation(message.conversation)
        if not found and before and conversation and before.id != conversation.id and before.name == conversation.name:
            chat.show(notice(BEGINS))
        before = conversation
        if not found and message.local_id == chat.reading.new:
            chat.show(notice(NEW))
        marks = conversation is None or conversation.prefers("show-marks") == "on"
        line = line_of(message, chat.client.clean, chat.client.account, marks=marks)
        chat.show(message_line(line, title(conversation), now, number=number, fate=True))


def _number(text: str, usage: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= MAX_LINES):
        raise UsageError(f"Type {usage}.")
    return int(text)
