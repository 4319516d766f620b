"""Who is here: the sessions, their seats, and what others are told of them (design, section 5, Admission)."""

import math
from collections.abc import Callable
from typing import Literal

from securechat.server.logs import get_logger
from securechat.server.rates import Rates
from securechat.server.sequencer.conversation import Conversations
from securechat.server.sequencer.operations import Attach, Detach, Expel, Resize
from securechat.server.sequencer.seats import WaitingRoom
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Turn
from securechat.server.store.port import Store
from securechat.wire.frames import encode_frame
from securechat.wire.messages import Closing, LoggedIn, Presence, Reason, Seat

log = get_logger(__name__)

TELL_SECONDS = 1.0
"""Who comes and goes within a second has not been away: changes are collected for so long."""

MAX_TOLD = 100
"""Members of a conversation above which presence is asked for (`Members`), not told."""

State = Literal["online", "offline", "dropped"]


class Lobby:
    """All sessions that are logged in. Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: Store,
        conversations: Conversations,
        seats: int,
        rates: Rates,
        forget: Callable[[Session], None],
    ) -> None:
        """`seats`: accounts that may be in at once; `forget` ends what a session reads and waits for."""
        self._turn = turn
        self._store = store
        self._conversations = conversations
        self._submissions = rates.submissions
        self._forget = forget
        self._room = WaitingRoom(seats, self._tell_place)
        self._sessions: dict[tuple[str, bytes], Session] = {}
        self._by_account: dict[str, set[Session]] = {}
        self._told: dict[str, State] = {}
        self._changed: dict[str, State] = {}
        self._tell_at = math.inf
        self._next_seat = math.inf

    def attach(self, session: Session, login: Attach) -> None:
        """A login succeeded: give the session its seat or its place in the queue."""
        if session.ended:
            return
        session.account, session.device = login.account, login.device
        session.submissions = self._submissions.bucket(login.account)
        key = (login.account, login.device)
        place = self._room.enter(login.account)
        if (old := self._sessions.get(key)) is not None:
            self.expel(old, "replaced", "the device has logged in again")
        self._sessions[key] = session
        self._by_account.setdefault(login.account, set()).add(session)
        device = self._store.device(login.device)
        published = device is not None and device.account == login.account
        session.outlet.send(
            LoggedIn(
                login.id,
                login.account,
                login.token,
                login.expires,
                place,
                self._store.identity_key(login.account),
                published,
                self._store.count_key_packages(login.device) if published else 0,
            )
        )
        log.info(
            "logged in",
            client=session.outlet.address,
            account=login.account,
            device=login.device.hex()[:8],
            place=place,
        )
        if not place:
            self._seat(session)

    def detach(self, session: Session, end: Detach) -> None:
        """The session's connection has ended."""
        session.ended = True
        if not session.account:
            return
        self._remove(session, keep_seat=not end.said_goodbye, state="offline" if end.said_goodbye else "dropped")

    def expel(self, session: Session, reason: Reason, text: str) -> None:
        """End a session from this side; nothing it still asks for is done."""
        session.outlet.send(Closing(reason, text))
        session.expelled = True
        self._remove(session, keep_seat=False, state="offline")

    def expel_account(self, expel: Expel) -> None:
        """End all sessions of an account."""
        for session in list(self._by_account.get(expel.account, ())):
            self.expel(session, "revoked", expel.text)

    def session(self, account: str, device: bytes) -> Session | None:
        """The session of a device."""
        return self._sessions.get((account, device))

    def is_online(self, account: str) -> bool:
        """Whether an account has a seated session."""
        return any(session.seated for session in self._by_account.get(account, ()))

    def resize(self, resize: Resize) -> None:
        """Seat more, or fewer from now on."""
        self._room.resize(resize.seats, self._turn.now)

    @property
    def sessions(self) -> int:
        """How many devices are logged in, the waiting ones included. Any thread; may be a moment old."""
        return len(self._sessions)

    @property
    def waiting(self) -> int:
        """How many accounts wait for a seat. Any thread; may be a moment old."""
        return self._room.waiting

    def run(self) -> float:
        """Do what is due; return when there is more to do, in monotonic seconds."""
        now = self._turn.now
        if now >= self._next_seat:
            self._next_seat = self._room.advance(now)
        if now >= self._tell_at:
            self._tell_at = math.inf
            changed, self._changed = self._changed, {}
            for account, state in changed.items():
                if self._told.get(account) != state:
                    self._tell(account, state)
        return min(self._tell_at, self._next_seat)

    # --- seats ------------------------------------------------------------------------------------------------------

    def _seat(self, session: Session) -> None:
        session.seated = True
        self._note(session.account, "online")

    def _remove(self, session: Session, *, keep_seat: bool, state: State) -> None:
        key = (session.account, session.device)
        if self._sessions.get(key) is session:
            del self._sessions[key]
        self._forget(session)
        sessions = self._by_account[session.account]
        sessions.discard(session)
        if not sessions:
            del self._by_account[session.account]
        if session.seated and not self.is_online(session.account):
            self._note(session.account, state)
        session.seated = False
        self._room.leave(session.account, self._turn.now, keep=keep_seat)
        self._next_seat = self._room.advance(self._turn.now)

    def _tell_place(self, account: str, place: int) -> None:
        for session in self._by_account.get(account, ()):
            session.outlet.send(Seat(place))
            if not place:
                self._seat(session)

    # --- presence ---------------------------------------------------------------------------------------------------

    def _note(self, account: str, state: State) -> None:
        self._changed[account] = state
        self._tell_at = min(self._tell_at, self._turn.now + TELL_SECONDS)

    def _tell(self, account: str, state: State) -> None:
        if state == "online":
            self._told[account] = state
        else:
            self._told.pop(account, None)
        conversations = {
            conversation
            for device in self._store.devices(account)
            for conversation in self._store.conversations_of(device.device)
        }
        for conversation_id in conversations:
            conversation = self._conversations.get(conversation_id)
            members = conversation.present if conversation is not None else []
            if len(members) > MAX_TOLD:
                continue
            frame = encode_frame(Presence(conversation_id, account, state))
            for member in members:
                session = self._sessions.get((member.account, member.device))
                if member.account != account and session is not None and session.seated:
                    session.outlet.send(frame)
