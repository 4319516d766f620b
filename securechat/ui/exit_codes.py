"""Exit codes: how a command has ended."""

from enum import IntEnum
from typing import Final

from securechat.errors import RefusedError, TrustError, UnreachableError, UsageError


class ExitCode(IntEnum):
    """Exit codes of `securechat`. 2 is also what the command line gives for arguments that make no sense."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    LOGIN_REFUSED = 3
    UNREACHABLE = 4
    UNTRUSTED = 5
    FULL = 6
    TIMEOUT = 7
    INTERRUPTED = 130  # 128 and the number of SIGINT, as shells count


MEANINGS: Final = {
    ExitCode.OK: "done",
    ExitCode.FAILURE: "failed",
    ExitCode.USAGE: "wrong arguments or settings",
    ExitCode.LOGIN_REFUSED: "login refused",
    ExitCode.UNREACHABLE: "no connection, or TLS refused it",
    ExitCode.UNTRUSTED: "a key is not the one we know, or a question waits for a person",
    ExitCode.FULL: "full",
    ExitCode.TIMEOUT: "out of time",
    ExitCode.INTERRUPTED: "stopped by Ctrl-C",
}
"""What each says, as `--help` and the README have it."""

_BY_REFUSAL: Final = {
    "login-refused": ExitCode.LOGIN_REFUSED,
    "token-refused": ExitCode.LOGIN_REFUSED,
    "name-taken": ExitCode.LOGIN_REFUSED,
    "registration-closed": ExitCode.LOGIN_REFUSED,
    "identity-differs": ExitCode.UNTRUSTED,
    "room-full": ExitCode.FULL,
    "reader-full": ExitCode.FULL,
    "quota": ExitCode.FULL,
}


def exit_code(error: Exception | None) -> ExitCode:
    """Return the code for the error that ended a command; None: it ended as asked."""
    match error:
        case None:
            return ExitCode.OK
        case RefusedError(code=code):
            return _BY_REFUSAL.get(code, ExitCode.FAILURE)
        case UnreachableError():
            return ExitCode.UNREACHABLE
        case TrustError():
            return ExitCode.UNTRUSTED
        case UsageError():
            return ExitCode.USAGE
        case TimeoutError():
            return ExitCode.TIMEOUT
        case _:
            return ExitCode.FAILURE
