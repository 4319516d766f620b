"""`securechat invite` and `securechat join`: invite lines, made and used."""

import shlex
import sys
from typing import TYPE_CHECKING, TextIO

from securechat.client.commands import ListInviteLines, MakeInviteLine, RevokeInviteLine, UseInviteLine
from securechat.client.events import (
    AskedByLine,
    Done,
    Event,
    InviteLineMade,
    InviteLines,
    Ready,
)
from securechat.identity.invite_line import InviteLine
from securechat.ui.called import program
from securechat.ui.exit_codes import ExitCode
from securechat.ui.qr import show_beside
from securechat.ui.scripts.run import Events, Run
from securechat.ui.text.sentences import sentences

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient


def run_invite(
    client: "ChatClient",
    events: Events,
    command: MakeInviteLine | ListInviteLines | RevokeInviteLine,
    *,
    wait: bool,
    timeout: float | None,
    output: TextIO = sys.stdout,
    errors: TextIO = sys.stderr,
) -> ExitCode:
    """Carry out a command about invite lines. A new line is the one line of output; lists have one for each."""
    run = Run(client, events, wait=wait, timeout=timeout, errors=errors)

    def judge(event: Event) -> ExitCode | None:
        match event:
            case Ready():
                client.do(command)
            case InviteLineMade(line=line, text=text):
                output.write(f"{text}\n")
                output.flush()
                show_beside(text)
                run.mention(
                    f"Whoever uses it first is taken for the one you give it to. `{program()} invite --revoke "
                    f"{line.mark}` takes it back."
                )
            case InviteLines(lines=lines) if lines:
                output.writelines(f"{each.text}\n" for each in sentences(event, None, client.account))
            case Done() if event.command == command.id:
                return ExitCode.OK
            case _ if event.command == command.id:
                return run.refused(event)
        return None

    return run.until(judge)


def run_join(
    client: "ChatClient",
    events: Events,
    text: str,
    line: InviteLine,
    *,
    wait: bool,
    timeout: float | None,
    errors: TextIO = sys.stderr,
) -> ExitCode:
    """Use an invite line, of which `text` is the text; OK once the server has what asks its maker to let us in.

    Where the line leads to a room, the next client of this account enters it as soon as the maker's has answered.
    """
    run = Run(client, events, wait=wait, timeout=timeout, errors=errors)
    command = UseInviteLine(text)

    def judge(event: Event) -> ExitCode | None:
        match event:
            case Ready() if line.voucher is None:
                run.mention(f"You are registered. Go on: {_go_on(client, line)}")
                return ExitCode.OK
            case Ready():
                client.do(command)
            case AskedByLine():
                for sentence in sentences(event, None, client.account):
                    run.complain(sentence.text)
            case Done() if event.command == command.id:
                run.mention(f"Go on: {_go_on(client, line)}")
                return ExitCode.OK
            case _ if event.command == command.id:
                return run.refused(event)
        return None

    return run.until(judge)


def _go_on(client: "ChatClient", line: InviteLine) -> str:
    return f"{program()} client --user {shlex.quote(client.account)} --server {line.address}"
