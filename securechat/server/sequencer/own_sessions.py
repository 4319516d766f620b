"""What somebody sees of their own sessions, and how they end one (docs/design.md, section 5, Accounts).

An address is told of sessions that are there now, and kept of none.
"""

from securechat.server.sequencer.seats import Seats
from securechat.server.sequencer.session import Session, Sessions
from securechat.server.sequencer.turn import Turn
from securechat.server.store.port import TokenStore
from securechat.wire.limits import MAX_ADDRESS, MAX_SESSIONS_LISTED
from securechat.wire.messages import Done, EndSession, FetchSessions, SessionInfo, SessionList


class OwnSessions:
    """Requires holding the turn."""

    def __init__(self, turn: Turn, store: TokenStore, sessions: Sessions, seats: Seats) -> None:
        self._turn = turn
        self._store = store
        self._sessions = sessions
        self._seats = seats

    def fetch(self, session: Session, request: FetchSessions) -> None:
        """Handle `FetchSessions`: those that are there now, and those that can come back by their token."""
        now = self._turn.time
        tokens = {each.device: each for each in self._store.of(session.account) if each.expires > now}
        there = {each.device: each for each in self._sessions.of(session.account)}
        found = []
        for device in tokens.keys() | there.keys():
            token, online = tokens.get(device), there.get(device)
            found.append(
                SessionInfo(
                    device,
                    online is not None,
                    _host(online.outlet.address) if online is not None else "",
                    token.used if token is not None else 0,
                    token.expires if token is not None else 0,
                )
            )
        found.sort(key=lambda each: (each.online, each.used), reverse=True)
        self._turn.answer(session, SessionList(request.id, found[:MAX_SESSIONS_LISTED]))

    def end(self, session: Session, request: EndSession) -> None:
        """Handle `EndSession`. What is not there any more is ended already."""
        self._store.drop(session.account, request.device)
        self._turn.answer(session, Done(request.id))
        if request.device != session.device:
            self._turn.after(lambda: self._expel(session.account, request.device))

    def _expel(self, account: str, device: bytes) -> None:
        other = self._sessions.find(account, device)
        if other is not None:
            self._seats.expel(other, "logged-out", "ended from another device of this account")


def _host(address: str) -> str:
    """Return a connection's name in the log without its port."""
    return address.rpartition(":")[0].strip("[]")[:MAX_ADDRESS]
