"""Work for other threads: what is too expensive for the turn is done by workers, and comes back as an operation."""

from collections.abc import Callable

from securechat.errors import PeerError, RefusedError
from securechat.server.logs import get_logger
from securechat.server.panic import StoreBrokenError
from securechat.server.sequencer.operations import Failed, Rejected, Workers
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Turn
from securechat.wire.messages import Request

log = get_logger(__name__)


class Checks:
    """Requires holding the turn."""

    def __init__(self, turn: Turn, workers: Workers, hand_in: Callable[[Session | None, object], None]) -> None:
        """`hand_in(session, operation)` gives the sequencer something to do, from any thread."""
        self._turn = turn
        self._workers = workers
        self._hand_in = hand_in

    def check(self, session: Session, request: Request, work: Callable[[], object]) -> None:
        """After the turn, have a worker do `work`. What it returns is handed in; an error refuses the request.

        PeerError: it is wrong. RefusedError: it was right before something changed.
        """

        def job() -> None:
            result: object
            try:
                result = work()
            except PeerError as error:
                result = Rejected(request, str(error))
            except RefusedError as error:
                result = Rejected(request, str(error), error.code)
            except StoreBrokenError:
                raise
            except Exception:
                log.exception("internal error in a check", operation=type(request).__name__)
                result = Rejected(request, "the server failed to check this")
            self._hand_in(session, result)

        self._turn.after(lambda: self._workers.submit(job, session.account, session))

    def load(self, work: Callable[[], object], failed: Callable[[], None], account: str = "") -> None:
        """Have a worker do `work`, for no session in particular. What it returns is handed in.

        `failed`: what the turn does if it cannot be done. `account`: pays for it; empty: the operator wants it.
        """

        def job() -> None:
            result: object
            try:
                result = work()
            except StoreBrokenError:
                raise
            except Exception:
                log.exception("a conversation could not be read")
                result = Failed(failed)
            self._hand_in(None, result)

        self._workers.submit(job, account)
