"""What the commands for scripts share: the core is started, its events are watched until they answer, and it ends.

Standard output is the result, errors are one line; the answer is an exit code.
"""

from collections.abc import Callable
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX
from time import monotonic
from typing import TYPE_CHECKING, Final, TextIO

from securechat.client.events import (
    Connected,
    Delayed,
    Disconnected,
    Ended,
    Event,
    Held,
    OwnKeyUsed,
    PasswordWanted,
    Refused,
    Unreachable,
    Waiting,
)
from securechat.client.snapshot import Invitation
from securechat.errors import RefusedError, SecurechatError
from securechat.ui import person
from securechat.ui.exit_codes import ExitCode, exit_code
from securechat.ui.handover import OwnerGone
from securechat.ui.interrupts import Woken, interrupts_wake
from securechat.ui.text.sentences import sentences
from securechat.ui.text.states import why_held, why_password, why_unreachable
from securechat.ui.time_limit import GRACE_SECONDS, TIME_IS_UP
from securechat.ui.told import tell

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

Events = SimpleQueue[Event | Woken]
"""The queue whose `put` is the core's `on_event`."""

CLOSE_SECONDS: Final = 5.0
"""How long the core may take to say goodbye."""

DECIDE: Final = "This device does not go on before you have decided: start securechat, and type /rotate."
"""Said where another program with the identity key has been in: that is a question, and nobody is there to answer."""


def about(invitation: Invitation) -> str:
    """Say that an invitation waits for a person: a program answers none but those of its settings."""
    who, room = invitation.inviter, invitation.name
    state = "first contact, " if invitation.first_contact else ""
    return (
        f"{who} ({state}key {invitation.key}) invites you to {room}. Answer in the client: /accept {room}. Or let "
        f"programs accept what this key sends: --accept-invitations-of {who}:{invitation.key}"
    )


class Run:
    """What these commands share: the time limit, lines for a person, and the events that mean the same for both."""

    def __init__(
        self, client: "ChatClient", events: Events, *, wait: bool, timeout: float | None, errors: TextIO
    ) -> None:
        self.client = client
        self._events = events
        self._wait = wait
        self._deadline = inf if timeout is None else monotonic() + timeout
        self.time_is_up = TIME_IS_UP
        self._close_seconds = CLOSE_SECONDS
        self.takes_password = False  # the account's, where the vault has another one
        self._errors = errors
        self._reached = False
        self._ended = False

    def extend(self, seconds: float) -> None:
        """Let time be up so many seconds from now."""
        self._deadline = monotonic() + seconds

    def complain(self, text: str) -> None:
        """Print one line for a person, if anybody hears it: what is done does not depend on that."""
        with suppress(OSError):
            tell(f"securechat: {text}", self._errors)

    def mention(self, text: str) -> None:
        """Print one line of news for a person who wants to hear them."""
        if person.hears_news():
            self.complain(text)

    def refused(self, event: Event) -> ExitCode | None:
        """Say why a command was not done, and return the exit code for that; None: the event that names it is another.

        Nobody is there to answer a question: what is held until somebody decides is not done.
        """
        match event:
            case Refused() | Delayed():
                theirs = isinstance(event, Refused) and event.code != "local"
                self.complain(f"The server says: {event.text}" if theirs else event.text)
                return exit_code(RefusedError(event.code, event.text))
            case Held():
                why, decides = why_held(event, self.client.conversation(event.conversation)), True
            case Unreachable():
                why, decides = why_unreachable(event, self.client.conversation(event.conversation)), bool(event.new)
            case _:
                return None
        self.complain(f"{why} Decide in `securechat client`." if decides else why)
        return ExitCode.UNTRUSTED

    def until(self, judge: Callable[[Event], ExitCode | None]) -> ExitCode:
        """Start the core and hand its events to `judge` until it answers, the core ends, or time is up.

        Raises OwnerGone where the core was another program's, and that has ended.
        """
        self.client.start()
        try:
            with interrupts_wake(self._events.put):
                result = self._watch(judge)
        except SecurechatError as error:
            self.complain(str(error))
            result = exit_code(error)
        except KeyboardInterrupt:
            result = ExitCode.INTERRUPTED
        finally:
            self._close()
        return result

    def _watch(self, judge: Callable[[Event], ExitCode | None]) -> ExitCode:
        while True:
            event = self._next()
            if event is None:
                self.complain(self.time_is_up)
                self._close_seconds = GRACE_SECONDS
                return ExitCode.TIMEOUT
            result = self._judge_connection(event)
            if result is None:
                result = judge(event)
            if result is not None:
                return result

    def _next(self) -> Event | None:
        event: Event | Woken = Woken()
        while isinstance(event, Woken):
            left = min(max(0.0, self._deadline - monotonic()), TIMEOUT_MAX)
            try:
                event = self._events.get(timeout=None if self._deadline == inf else left)
            except Empty:
                return None
        return event

    def _judge_connection(self, event: Event) -> ExitCode | None:
        match event:
            case Connected():
                self._reached = True
            case Disconnected(reason=reason) if not self._reached:
                self.complain(reason)
                return ExitCode.UNREACHABLE
            case PasswordWanted(why="changed") if self.takes_password:
                pass
            case PasswordWanted(why="login" | "changed"):
                error = RefusedError("login-refused", why_password(event))
                self.complain(f"{error} Programs need a password file that stays.")
                return exit_code(error)
            case PasswordWanted():
                self.complain(f"{why_password(event)} Programs need a password file that stays.")
            case OwnKeyUsed(shut_out=True):
                for sentence in sentences(event, None, self.client.account):
                    self.complain(sentence.text)
                self.complain(DECIDE)
                return ExitCode.UNTRUSTED
            case Waiting(place=place) if not self._wait:
                self.complain(f"The server is full; {place} in the queue. With --wait this command waits.")
                return ExitCode.FULL
            case Ended(error=OwnerGone() as gone):
                self._ended = True
                raise gone
            case Ended(error=error):
                self._ended = True
                self.complain("The client has stopped." if error is None else str(error))
                return exit_code(error) or ExitCode.FAILURE
        return None

    def _close(self) -> None:
        self.client.close()
        self._deadline = monotonic() + self._close_seconds
        while not self._ended and (event := self._next()) is not None:
            self._ended = isinstance(event, Ended)
