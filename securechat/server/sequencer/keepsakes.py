"""Keepsakes: what accounts leave here for the day when their devices are gone (`identity.keepsake`)."""

from securechat.errors import DecodeError, RefusedError
from securechat.identity.keepsake import Keepsake
from securechat.server.rates import Rates
from securechat.server.sequencer.checks import Checks
from securechat.server.sequencer.operations import KeepsakeChecked
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Turn
from securechat.server.store import records
from securechat.server.store.port import DirectoryStore, KeepsakeStore
from securechat.wire.messages import Done, FetchKeepsake, PutKeepsake, StoredKeepsake


class Keepsakes:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        keepsakes: KeepsakeStore,
        directory: DirectoryStore,
        server_id: bytes,
        checks: Checks,
        rates: Rates,
    ) -> None:
        self._turn = turn
        self._keepsakes = keepsakes
        self._directory = directory
        self._server_id = server_id
        self._checks = checks
        self._rates = rates

    def put(self, session: Session, request: PutKeepsake) -> None:
        """Handle `PutKeepsake`: a worker checks the signature."""
        try:
            keepsake = Keepsake.decode(request.keepsake)
        except DecodeError as error:
            raise RefusedError("bad-request", str(error)) from None
        if (keepsake.server_id, keepsake.account) != (self._server_id, session.account):
            raise RefusedError("bad-request", "this was signed for another server or account")
        if self._is_there(session, request, keepsake):
            self._turn.answer(session, Done(request.id))
            return

        def work() -> KeepsakeChecked:
            keepsake.verify()
            return KeepsakeChecked(request, keepsake)

        self._checks.check(session, request, work)

    def checked(self, session: Session, checked: KeepsakeChecked) -> None:
        """Keep it, if it is still newer than what is there."""
        request, keepsake = checked.request, checked.keepsake
        if not self._is_there(session, request, keepsake):
            self._rates.keepsakes.take(session.account, self._turn.now)  # not for one that the owner has not signed
            stored = records.StoredKeepsake(keepsake.identity_key, keepsake.number, request.keepsake)
            self._keepsakes.put(session.account, stored)
        self._turn.answer(session, Done(request.id))

    def fetch(self, session: Session, request: FetchKeepsake) -> None:
        """Handle `FetchKeepsake`."""
        found = self._keepsakes.find(session.account)
        self._turn.answer(session, StoredKeepsake(request.id, b"" if found is None else found.keepsake))

    def _is_there(self, session: Session, request: PutKeepsake, keepsake: Keepsake) -> bool:
        """Whether it is the one that is kept. Raises RefusedError if it cannot take that one's place."""
        if keepsake.identity_key != self._directory.identity_key(session.account):
            raise RefusedError("identity-differs", "this account has another identity key")
        found = self._keepsakes.find(session.account)
        if found is None or found.identity_key != keepsake.identity_key:
            return False
        if found.keepsake == request.keepsake:
            return True
        if keepsake.number <= found.number:
            raise RefusedError("wrong-number", f"the keepsake that is kept has the number {found.number}")
        return False
