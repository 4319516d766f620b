"""What is done with an account from a shell: registering, another password, a new device, lost ones."""

import sys
from math import inf
from typing import TYPE_CHECKING, Final, TextIO

from securechat.clean import clean_line
from securechat.client.commands import ChangePassword, TakePassword
from securechat.client.events import (
    Alarm,
    ConversationChanged,
    Event,
    LostRevoked,
    NotRegained,
    OwnKeyUsed,
    PasswordReplaced,
    PasswordWanted,
    Ready,
    Recovered,
    Refused,
    Waiting,
)
from securechat.ui.exit_codes import ExitCode
from securechat.ui.scripts.run import DECIDE, Events, Run
from securechat.ui.text.sentences import sentences

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

RECOVERY_SECONDS: Final = 600.0
"""How long a recovery may get no further: three connections of a minute (`client.recovery`) are a third of it, the rest
is for waits between them."""


def run_password(
    client: "ChatClient", events: Events, old: str, new: str, *, errors: TextIO = sys.stderr
) -> ExitCode:
    """Put another password in place of the present one, or take over the account's where that was done elsewhere."""
    run = Run(client, events, wait=True, timeout=None, errors=errors)
    run.takes_password = True
    command, taking, done = ChangePassword(old, new), 0, False

    def judge(event: Event) -> ExitCode | None:
        nonlocal taking, done
        match event:
            case PasswordWanted(why="changed") if taking:
                run.complain(f"Neither is the password of {client.account}: one of both has to be.")
                return ExitCode.LOGIN_REFUSED
            case PasswordWanted(why="changed"):
                take = TakePassword(new)
                taking = take.id
                client.do(take)
            case PasswordReplaced():
                done = True
                for sentence in sentences(event, None, client.account):
                    run.complain(sentence.text)
            case Ready() if not done:
                client.do(command)
            case Refused() if event.command in (command.id, taking):
                return run.refused(event)
        return ExitCode.OK if done else None

    return run.until(judge)


def run_recovery_of_device(
    client: "ChatClient", events: Events, *, patience: float = RECOVERY_SECONDS, out: TextIO = sys.stdout
) -> ExitCode:
    """Let a new device take the place of lost ones; OK once it has, whether or not every conversation was entered.

    Where another program has the identity key, a person decides, with the client; where nothing moves for `patience`
    seconds, the same command goes on later.
    """
    run = Run(client, events, wait=True, timeout=patience, errors=sys.stderr)
    run.time_is_up = (
        "The server has let this device get no further for a while. Nothing is lost: the same command goes on from "
        "here. If it ends like this again, ask the server's operator."
    )

    def judge(event: Event) -> ExitCode | None:
        moves = isinstance(event, Waiting | NotRegained | Recovered) or (
            isinstance(event, ConversationChanged) and event.change == "recovered"
        )
        if moves:  # a queue takes as long as it takes
            run.extend(inf if isinstance(event, Waiting) and event.place else patience)
        if moves or isinstance(event, Alarm | OwnKeyUsed):
            where = getattr(event, "conversation", None)
            conversation = client.conversation(where) if isinstance(where, bytes) else where
            told_of = sentences(event, conversation, client.account)
            out.writelines(f"{clean_line(sentence.text)}\n" for sentence in told_of)
            out.flush()
        if isinstance(event, OwnKeyUsed):
            run.complain(DECIDE)
            return ExitCode.UNTRUSTED
        return ExitCode.OK if isinstance(event, Recovered) else None

    return run.until(judge)


def run_revocation(
    client: "ChatClient", events: Events, *, patience: float = RECOVERY_SECONDS, out: TextIO = sys.stdout
) -> ExitCode:
    """Revoke the lost devices of an account with its recovery file; OK once the server has that."""
    run = Run(client, events, wait=True, timeout=patience, errors=sys.stderr)

    def judge(event: Event) -> ExitCode | None:
        if isinstance(event, Waiting | Alarm | LostRevoked):
            out.writelines(f"{clean_line(each.text)}\n" for each in sentences(event, None, client.account))
            out.flush()
        return ExitCode.OK if isinstance(event, LostRevoked) else None

    return run.until(judge)
