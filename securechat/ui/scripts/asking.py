"""The commands that ask: `history`, `search`, `files`, `rooms`, `members`, `verify`.

What is on this device is read there, without the server. Lines for people are clean; with `as_json` each line is an
object (`ui.objects`): a message, or the event that answers.
"""

import re
import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from securechat.client.commands import Command, ListMembers, ListRooms, ShowSafetyNumber, Verify
from securechat.client.events import Done, Event, KeyAccepted, MemberList, Ready, RoomList, SafetyNumber
from securechat.client.message import Message
from securechat.names import normalise_account
from securechat.ui.exit_codes import ExitCode
from securechat.ui.objects import conversation_of, event_object, line_of, message_object
from securechat.ui.scripts.run import Events, Run
from securechat.ui.text.sentences import sentences
from securechat.ui.text.wording import title
from securechat.ui.view.lines import message_line
from securechat.ui.view.query import query_of
from securechat.ui.view.rows import line_of as row_of

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient


def run_history(client: "ChatClient", name: str, limit: int, *, as_json: bool) -> ExitCode:
    """Print the newest lines under a name, oldest first. Raises `UsageError` for no proper name."""
    _print(client, client.past(name, limit), as_json=as_json)
    return ExitCode.OK


def run_search(client: "ChatClient", typed: str, limit: int, *, as_json: bool) -> ExitCode:
    """Print the newest lines that a search finds, oldest first. Raises `UsageError` if it makes no sense."""
    found = client.search(query_of(typed, client.account), limit)
    _print(client, found[::-1], as_json=as_json)
    return ExitCode.OK


def run_rooms(client: "ChatClient", events: Events, *, as_json: bool, wait: bool, timeout: float | None) -> ExitCode:
    """Print the rooms that one could enter, as the server lists them."""
    return _Asking(client, events, wait=wait, timeout=timeout, as_json=as_json).ask(lambda _: ListRooms(), RoomList)


def run_members(
    client: "ChatClient", events: Events, name: str, *, as_json: bool, wait: bool, timeout: float | None
) -> ExitCode:
    """Print who is in a conversation."""

    def command(asking: "_Asking") -> Command | ExitCode:
        found = client.find(name)
        if found is None:
            asking.run.complain(f"You have no conversation {name}.")
            return ExitCode.FAILURE
        return ListMembers(found.id)

    return _Asking(client, events, wait=wait, timeout=timeout, as_json=as_json).ask(command, MemberList)


def run_verify(
    client: "ChatClient",
    events: Events,
    account: str,
    number: str,
    *,
    as_json: bool,
    wait: bool,
    timeout: float | None,
) -> ExitCode:
    """Print the safety numbers to compare with an account; or, with the `number` that they see, note that it fits.

    A number that fits no key is what a person has to look into: UNTRUSTED, and nothing is noted.
    """
    asking = _Asking(client, events, wait=wait, timeout=timeout, as_json=as_json)
    who = normalise_account(account)
    if not number:
        return asking.ask(lambda _: ShowSafetyNumber(who), SafetyNumber)
    digits = re.sub(r"\s", "", number)

    def fitting(event: Event) -> Command | ExitCode:
        keys = event.keys if isinstance(event, SafetyNumber) else ()
        fits = [each.key for each in keys if each.number.replace(" ", "") == digits]
        if not fits:
            asking.run.complain(
                f"This is the number of no key that {who} has shown here: somebody may sit between you. Compare again "
                f"with `securechat verify {who}`; nothing was noted."
            )
            return ExitCode.UNTRUSTED
        return Verify(who, fits[0])

    return asking.ask(lambda _: ShowSafetyNumber(who), KeyAccepted, then=fitting)


class _Asking:
    """A question to the core, and its answer."""

    def __init__(
        self, client: "ChatClient", events: Events, *, wait: bool, timeout: float | None, as_json: bool
    ) -> None:
        self.run = Run(client, events, wait=wait, timeout=timeout, errors=sys.stderr)
        self._client = client
        self._as_json = as_json

    def ask(
        self,
        question: "Callable[[_Asking], Command | ExitCode]",
        answer: type[Event],
        *,
        then: Callable[[Event], Command | ExitCode] | None = None,
    ) -> ExitCode:
        """Give a command once all is read, and print the event of a kind that answers it.

        `then`: what to do with the event before it is `Done`, instead: the next command, whose answer is printed.
        """
        given: list[int] = []

        def go_on(command: Command | ExitCode) -> ExitCode | None:
            if isinstance(command, ExitCode):
                return command
            given.append(command.id)
            self._client.do(command)
            return None

        def judge(event: Event) -> ExitCode | None:
            if isinstance(event, Ready) and not given:
                return go_on(question(self))
            if not given or event.command != given[-1]:
                return None
            if (refused := self.run.refused(event)) is not None:
                return refused
            if then is not None and len(given) == 1 and isinstance(event, SafetyNumber):
                return go_on(then(event))
            if isinstance(event, answer):
                self._print(event)
            return ExitCode.OK if isinstance(event, Done) else None

        return self.run.until(judge)

    def _print(self, event: Event) -> None:
        where = self._client.conversation(conversation_of(event))
        if self._as_json:
            sys.stdout.write(line_of(event_object(event, where.name if where is not None else "")).decode() + "\n")
        else:
            sys.stdout.writelines(f"{each.text}\n" for each in sentences(event, where, self._client.account))
        sys.stdout.flush()


def _print(client: "ChatClient", lines: list[Message], *, as_json: bool) -> None:
    now = datetime.now().astimezone()
    for line in lines:
        where = client.conversation(line.conversation)
        if as_json:
            text = line_of(message_object(line, where.name if where is not None else "")).decode()
        else:
            text = message_line(row_of(line), title(where), now)
        sys.stdout.write(text + "\n")
    sys.stdout.flush()
