"""A device's session as the sequencer knows it: who it is, and what it reads.

All that the sequencer knows of the connection is an `Outlet`, so a test can put a list in its place.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from securechat.errors import RefusedError
from securechat.server.rates import Bucket
from securechat.wire.limits import MAX_RETRY_AFTER
from securechat.wire.messages import Accepted, FromServer, Refused


class Outlet(Protocol):
    """Where a session's messages go. All of it may be used from any thread, and none of it waits."""

    @property
    def address(self) -> str:
        """The other side's name in the log."""

    @property
    def backlog(self) -> int:
        """Bytes of frames that wait for the other side to read."""

    def send(self, item: FromServer | bytes | list[Accepted]) -> None:
        """Queue a message, encoded frames of events, or replies; a `Closing` ends the session after what came before.

        Frames are sent only by the holder of the turn.
        """


@dataclass(eq=False)
class Subscription:
    """A log that a session reads, up to `position` so far. A live one is in its conversation's `readers` instead."""

    log: bytes  # a conversation's id, or the device's own for its inbox
    position: int
    gap: int = 0  # up to here only handshakes are left; the reader has been told
    live: bool = False
    queued: bool = False  # in `Session.behind`


class Session:
    """The record. Requires holding the turn, except for `outlet` and `wants_history`."""

    def __init__(self, outlet: Outlet) -> None:
        self.outlet = outlet
        self.account = ""  # until the login
        self.account_created = 0  # seconds since 1970
        self.device = b""
        self.submissions: Bucket  # of the account; from the login on
        self.seated = False
        self.ended = False  # its connection has ended: nothing that is sent will arrive
        self.expelled = False  # ended from this side: nothing that it still asks for is done
        self.subscriptions: dict[bytes, Subscription] = {}
        self.behind: deque[Subscription] = deque()  # subscriptions that need history
        self.reading = False  # a reader works for this session
        self.fetching = False  # a reader fetches checkpoints for this session
        self.leases: set[bytes] = set()  # conversations whose lease it has or waits for

    def __repr__(self) -> str:
        """Name account and address."""
        return f"<Session {self.account or '-'} {self.outlet.address}>"

    @property
    def wants_history(self) -> bool:
        """Whether a subscription is behind and no reader works for it. Any thread; may be a moment old."""
        return bool(self.behind) and not self.reading


class Sessions:
    """The sessions that are logged in, waiting ones included. Requires holding the turn."""

    def __init__(self) -> None:
        self._by_device: dict[tuple[str, bytes], Session] = {}
        self._by_account: dict[str, set[Session]] = {}

    def __len__(self) -> int:
        """How many devices are logged in. Any thread; may be a moment old."""
        return len(self._by_device)

    def add(self, session: Session) -> None:
        """Add a session that is logged in, replacing an earlier one of its device."""
        self._by_device[session.account, session.device] = session
        self._by_account.setdefault(session.account, set()).add(session)

    def remove(self, session: Session) -> None:
        """Take out a session that has ended."""
        if self.find(session.account, session.device) is session:
            del self._by_device[session.account, session.device]
        sessions = self._by_account[session.account]
        sessions.discard(session)
        if not sessions:
            del self._by_account[session.account]

    def find(self, account: str, device: bytes) -> Session | None:
        """Return the session of a device."""
        return self._by_device.get((account, device))

    def of(self, account: str) -> list[Session]:
        """Return the sessions of an account."""
        return list(self._by_account.get(account, ()))

    def is_online(self, account: str, device: bytes = b"") -> bool:
        """Whether an account has a session with a seat; `device`: and with that one of its devices."""
        sessions = self._by_account.get(account, ())
        return any(session.seated and device in (b"", session.device) for session in sessions)


def refusal(request: int, error: RefusedError) -> Refused:
    """Return the reply that tells a client of a refusal."""
    retry_after = min(math.ceil(error.retry_after * 1000), MAX_RETRY_AFTER)
    return Refused(request, error.code, str(error)[:1000], retry_after=retry_after)  # type: ignore[arg-type]  # codes of messages.Code
