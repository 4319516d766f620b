"""A device's session as the sequencer knows it: who it is, and what it reads.

All that the sequencer knows of the connection is an `Outlet`, so a test can put a list in its place.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from securechat.errors import RefusedError
from securechat.server.logs import get_logger
from securechat.server.panic import StoreBrokenError
from securechat.server.rates import Bucket
from securechat.server.sequencer.quotas import Quota
from securechat.server.store.records import Blob, Who
from securechat.wire.limits import MAX_RETRY_AFTER
from securechat.wire.messages import Accepted, Closing, FetchBlob, FromServer, Refused, Request

log = get_logger(__name__)

INTERNAL_ERROR = Closing("protocol-error", "internal error of the server")
"""What a session ends with that meets a bug."""

Key = TypeVar("Key")


MAX_SESSIONS = 32
"""Sessions of one account: as many as it may have devices (`limits.MAX_DEVICES`), and as many again that are being set
up, or whose connection was lost unnoticed. Each may have a megabyte waiting for it."""


class Outlet(Protocol):
    """Where a session's messages go. All of it may be used from any thread, and none of it waits."""

    @property
    def address(self) -> str:
        """The other side's name in the log."""

    @property
    def backlog(self) -> int:
        """Bytes of frames that wait for the other side to read."""

    @property
    def crowded(self) -> bool:
        """Whether so much waits for all connections of its account that those which are slow get no more for now."""

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
    """The record. Requires holding the turn, except for `outlet` and `wants_more`."""

    def __init__(self, outlet: Outlet, address: str = "") -> None:
        """`address`: what seats are counted by (`rates.address_key`)."""
        self.outlet = outlet
        self.address = address
        self.account = ""  # until the login
        self.account_created = 0  # seconds since 1970
        self.device = b""
        self.by_password = False  # it has logged in with the password, not with a token
        self.secret_set = 0  # when the account's secret was set that this device knows of (ms)
        self.submissions: Bucket  # of the account; from the login on
        self.quota: Quota  # the same
        self.ephemerals: Bucket | None = None  # of this session; from the first one on
        self.seated = False
        self.ended = False  # its connection has ended: nothing that is sent will arrive
        self.handled = 0  # messages of it that were handled, for the operator
        self.expelled = False  # ended from this side: nothing that it still asks for is done
        self.subscriptions: dict[bytes, Subscription] = {}
        self.behind: deque[Subscription] = deque()  # subscriptions that need history
        self.reading = False  # a reader works for this session
        self.fetching = False  # a reader fetches checkpoints for this session
        self.asking = False  # a reader makes a list for this session
        self.postponed: deque[Request] = deque()  # questions for which its connection has too much to take already
        self.asked: dict[bytes, list[Request]] = {}  # what lists are to be made next, and for which requests
        # These four belong to what moves blobs, and need its lock (`blobs.Transfers`).
        self.uploads: set[tuple[bytes, bytes]] = set()  # that it goes on with: conversation and blob
        self.parts = 0  # of them, which wait to be written
        self.blob_reads: deque[tuple[FetchBlob, Blob]] = deque()  # parts that are to be read
        self.blob_reading = False  # a worker reads one
        self.leases: set[bytes] = set()  # conversations whose lease it has or waits for

    @property
    def who(self) -> Who:
        """Whose session it is."""
        return self.account, self.device

    def __repr__(self) -> str:
        """Name account and address."""
        return f"<Session {self.account or '-'} {self.outlet.address}>"

    @property
    def wants_more(self) -> bool:
        """Whether something waits for the connection to take what it has. Any thread; may be a moment old."""
        return bool(self.postponed) or (bool(self.behind) and not self.reading)


class Sessions:
    """The sessions that are logged in, waiting ones included. Requires holding the turn."""

    def __init__(self) -> None:
        self._by_device: dict[Who, Session] = {}
        self._by_account: dict[str, set[Session]] = {}
        self._by_id: dict[bytes, set[Session]] = {}  # by device id: of several accounts, while it belongs to none

    def __len__(self) -> int:
        """How many devices are logged in. Any thread; may be a moment old."""
        return len(self._by_device)

    def add(self, session: Session) -> None:
        """Add a session that is logged in, replacing an earlier one of its device."""
        self._by_device[session.who] = session
        self._by_account.setdefault(session.account, set()).add(session)
        self._by_id.setdefault(session.device, set()).add(session)

    def remove(self, session: Session) -> None:
        """Take out a session that has ended."""
        if self._by_device.get(session.who) is session:
            del self._by_device[session.who]
        _discard(self._by_account, session.account, session)
        _discard(self._by_id, session.device, session)

    def find(self, account: str, device: bytes) -> Session | None:
        """Return the session of a device."""
        return self._by_device.get((account, device))

    def all(self) -> list[Session]:
        """Return all sessions."""
        return list(self._by_device.values())

    def is_full(self, account: str, device: bytes) -> bool:
        """Whether an account has as many sessions as it may, and none of this device, which would give way."""
        sessions = self._by_account.get(account, ())
        return len(sessions) >= MAX_SESSIONS and (account, device) not in self._by_device

    def of(self, account: str) -> list[Session]:
        """Return the sessions of an account."""
        return list(self._by_account.get(account, ()))

    def of_others(self, account: str, device: bytes) -> list[Session]:
        """Return the sessions with a device id of which another account knows by now that it is its own."""
        return [session for session in self._by_id.get(device, ()) if session.account != account]

    def is_seated(self, who: Who) -> bool:
        """Whether a device has a session with a seat. Any thread; may be a moment old."""
        session = self._by_device.get(who)
        return session is not None and session.seated

    def is_online(self, account: str) -> bool:
        """Whether an account has a session with a seat."""
        return any(session.seated for session in self._by_account.get(account, ()))


def contained(session: Session | None, job: Callable[[], None]) -> Callable[[], None]:
    """Return a job for a session, or for none: a bug that it meets ends the session, and nothing else."""

    def do() -> None:
        try:
            job()
        except StoreBrokenError:
            raise
        except Exception:
            log.exception("internal error", account=session.account if session is not None else "")
            if session is not None:
                session.outlet.send(INTERNAL_ERROR)

    return do


def _discard(index: dict[Key, set[Session]], key: Key, session: Session) -> None:
    index[key].discard(session)
    if not index[key]:
        del index[key]


def refusal(request: int, error: RefusedError) -> Refused:
    """Return the reply that tells a client of a refusal."""
    retry_after = min(math.ceil(error.retry_after * 1000), MAX_RETRY_AFTER)
    return Refused(request, error.code, str(error)[:1000], retry_after=retry_after)  # type: ignore[arg-type]  # codes of messages.Code
