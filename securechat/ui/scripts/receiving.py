"""`securechat recv`: what came in, for scripts."""

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Final, TextIO

from securechat.client.commands import MarkShown
from securechat.client.events import Event, Invited, InviteLineRefused, InviteLineUsed, KeyChanged, Ready, Received
from securechat.client.message import Message
from securechat.client.snapshot import ConversationSnapshot
from securechat.ui.exit_codes import ExitCode
from securechat.ui.objects import conversation_of, event_object
from securechat.ui.objects import line_of as object_line
from securechat.ui.scripts.run import Events, Run, about
from securechat.ui.text.sentences import sentences
from securechat.ui.text.wording import title
from securechat.ui.view.lines import message_line
from securechat.ui.view.rows import line_of

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

UNREAD_AT_ONCE: Final = 500
"""Messages taken from the vault, printed and marked as read together."""


def run_recv(
    client: "ChatClient",
    events: Events,
    *,
    as_json: bool,
    follow: bool,
    wait: bool,
    timeout: float | None,
    output: TextIO = sys.stdout,
    errors: TextIO = sys.stderr,
) -> ExitCode:
    """Print the messages not read on this device yet; `follow`: go on until interrupted, or for `timeout` seconds.

    As JSON, one event a line (`ui.objects`): `Received` for each message, and whatever else happens. Otherwise cleaned
    lines for people.
    """
    run = Run(client, events, wait=wait, timeout=timeout, errors=errors)

    format_line = _json_line if as_json else _plain_line
    caught_up = False
    printed = 0  # the newest line, by its local id

    def print_lines(lines: list[Message]) -> None:
        nonlocal printed
        output.writelines(format_line(line, client.conversation(line.conversation)) + "\n" for line in lines)
        output.flush()
        printed = lines[-1].local_id
        client.do(MarkShown(printed))  # after they are out: if we are killed in between, they are printed twice

    def print_unread() -> None:
        while lines := client.unread(printed, UNREAD_AT_ONCE):
            print_lines(lines)

    def judge(event: Event) -> ExitCode | None:
        nonlocal caught_up
        if as_json and not isinstance(event, Received):
            where = client.conversation(conversation_of(event))
            output.write(object_line(event_object(event, where.name if where is not None else "")).decode() + "\n")
            output.flush()
        match event:
            case KeyChanged() | InviteLineUsed() | InviteLineRefused():
                for sentence in sentences(event, None, client.account):
                    run.mention(sentence.text)
            case Invited(invitation=invitation) if caught_up:
                run.mention(about(invitation))
            case Ready():
                caught_up = True
                for invitation in client.invitations():
                    run.mention(about(invitation))
                print_unread()
                return None if follow else ExitCode.OK
            case Received(message=message) if caught_up:
                print_unread()
                if follow and message.local_id > printed:  # another program has shown it meanwhile
                    print_lines([message])
        return None

    return run.until(judge)


def _json_line(message: Message, conversation: ConversationSnapshot | None) -> str:
    received = event_object(Received(message), conversation.name if conversation is not None else "")
    return object_line(received).decode()


def _plain_line(message: Message, conversation: ConversationSnapshot | None) -> str:
    return message_line(line_of(message), title(conversation), datetime.now().astimezone())
