"""The login: what one client sends, until its session is the sequencer's (docs/design.md, section 5, Admission).

Everything here runs on the connection's I/O thread, except the answers of the password workers. Whatever comes after
the login is handed to the sequencer.
"""

import contextlib
import functools
import logging
import time
from collections.abc import Mapping

from securechat.errors import RefusedError, SecurechatError, StorageError, UsageError
from securechat.names import normalise_account
from securechat.server.accounts.passwords import PasswordWorkers, check_registration
from securechat.server.accounts.records import Account
from securechat.server.accounts.store import AccountStore
from securechat.server.admission.newcomers import Newcomers
from securechat.server.blobs.transfers import Transfers
from securechat.server.config import ServerConfig
from securechat.server.logs import get_logger
from securechat.server.rates import Attempt, Rates
from securechat.server.sequencer.operations import (
    Detach,
    Drained,
    ForgetAccount,
    PasswordChecked,
    PasswordReplaced,
    Resuming,
)
from securechat.server.sequencer.sequencer import Sequencer
from securechat.server.sequencer.session import Outlet, Session, refusal
from securechat.server.space import Space
from securechat.server.status import Counters, LoginKind
from securechat.wire.messages import (
    Acknowledge,
    ChangePassword,
    Closing,
    DeleteAccount,
    Done,
    Ephemeral,
    FetchBlob,
    FromClient,
    Login,
    PutBlob,
    Register,
    Registered,
    Request,
    Resume,
    Submit,
)
from securechat.wire.possession import Channel

log = get_logger(__name__)

_KINDS: Mapping[type, LoginKind] = {Login: "password", Resume: "resume", Register: "register"}

_FREQUENT = frozenset((Submit, Acknowledge))
"""By far the most frequent messages. The sequencer handles them together, and counts the submissions itself."""


LEAST_TRANSFER = 16
"""KiB that a part of a blob counts for at least."""


class LoginDesk:
    """What all connections share for logging in."""

    def __init__(
        self,
        config: ServerConfig,
        accounts: AccountStore,
        workers: PasswordWorkers,
        rates: Rates,
        counters: Counters,
        sequencer: Sequencer,
        space: Space,
        transfers: Transfers,
    ) -> None:
        self.transfers = transfers
        self.counters = counters
        self.config = config
        self.accounts = accounts
        self.workers = workers
        self.rates = rates
        self.sequencer = sequencer
        self.space = space
        self.newcomers = Newcomers[Outlet]()


class ClientHandler:
    """One client: its login, and then the way of its messages to the sequencer. Implements `connection.Handler`."""

    def __init__(self, connection: Outlet, channel: Channel, address: str, desk: LoginDesk) -> None:
        """`address`: what its attempts are counted by (`rates.address_key`)."""
        self._connection = connection
        self._channel = channel
        self._address = address
        self._desk = desk
        self._sequencer = desk.sequencer
        self._session = Session(connection, address)
        self._started = time.monotonic()

    # --- called by the connection -----------------------------------------------------------------------------------

    def receive(self, messages: list[FromClient]) -> None:
        """See `connection.Handler`."""
        if _FREQUENT.issuperset(map(type, messages)):
            self._sequencer.submit(self._session, messages)
            return
        for message in messages:
            self._receive(message)

    def _receive(self, message: FromClient) -> None:
        if type(message) in _FREQUENT:
            self._sequencer.submit(self._session, [message])
            return
        if isinstance(message, Ephemeral):
            self._sequencer.submit(self._session, message)
            return
        if not isinstance(message, Request):  # a hello, which the protocol has answered
            return
        if log.isEnabledFor(logging.DEBUG):
            request = type(message).__name__
            log.debug("request", client=self._connection.address, account=self._session.account, request=request)
        try:
            if isinstance(message, Login):
                self._login(message)
            elif isinstance(message, Resume):
                refused = functools.partial(self._refuse, message)
                self._sequencer.submit(self._session, Resuming(message, self._channel, self._address, refused))
            elif isinstance(message, Register):
                self._register(message)
            elif isinstance(message, PutBlob | FetchBlob):
                self._transfer(message)
            else:
                self._desk.rates.requests.take(self._session.account, time.monotonic())
                if isinstance(message, ChangePassword):
                    self._change_password(message)
                elif isinstance(message, DeleteAccount):
                    self._delete_account(message)
                else:
                    self._sequencer.submit(self._session, message)
        except RefusedError as error:
            self._refuse(message, error)

    def _transfer(self, message: PutBlob | FetchBlob) -> None:
        """Move a part of a blob. It counts by its bytes, and no request of a few of them costs nothing."""
        size = message.length if isinstance(message, FetchBlob) else len(message.data)
        self._desk.rates.transfers.take(self._session.account, time.monotonic(), max(size >> 10, LEAST_TRANSFER))
        if isinstance(message, FetchBlob):
            self._sequencer.submit(self._session, message)
        else:
            self._desk.transfers.put(self._session, message)

    def logged_in(self) -> str:
        """See `connection.Handler`."""
        self._desk.newcomers.leave(self._address, self._connection)
        return self._session.account

    def drained(self) -> None:
        """See `connection.Handler`."""
        if self._session.blob_reads:
            self._desk.transfers.drained(self._session)
        if self._session.wants_more:
            self._sequencer.submit(self._session, Drained())
            self._sequencer.interrupt()  # this round's turn is over

    def ended(self, closing: Closing | None, reason: str) -> None:
        """See `connection.Handler`."""
        self._desk.newcomers.leave(self._address, self._connection)
        self._desk.workers.drop(self)
        log.info(
            "closed",
            client=self._connection.address,
            account=self._session.account,
            seconds=round(time.monotonic() - self._started, 1),
            reason=reason,
        )
        self._sequencer.submit(self._session, Detach(said_goodbye=closing is not None and closing.reason == "bye"))

    # --- logging in -------------------------------------------------------------------------------------------------

    def _register(self, request: Register) -> None:
        desk, now = self._desk, time.monotonic()
        try:
            account = normalise_account(request.account)
        except UsageError as error:
            raise RefusedError("bad-request", str(error)) from None
        invited = False
        try:
            check_registration(desk.config.registration, desk.config.invite_code, request.invite)
        except RefusedError:
            invited = desk.accounts.find_invite(request.invite, account) is not None
            if not invited:
                desk.rates.attempts_by_address.take(self._address, now)  # this was a guess at a code
                raise
        before = desk.accounts.get(account)
        if before is None:
            desk.space.check()
        desk.rates.registrations.take(self._address, now)
        if before is None:
            desk.rates.accounts.take(self._address, now)
        attempt = self._attempt(account, now)  # a name that is taken makes this a guess at its password

        def answer(result: Account | SecurechatError) -> None:
            if isinstance(result, Account):
                attempt.forget()
                desk.counters.tried("register", "accepted")
                log.info("registered", client=self._connection.address, account=account)
                if before is not None and before.generation != result.generation:
                    self._sequencer.expel(account, "the password was reset")
                self._connection.send(Registered(request.id, account))
            else:
                attempt.failed(result)
                self._refuse(request, result)

        try:
            desk.workers.submit_register(
                account, request.secret, answer, invite=request.invite, invited=invited, address=self._address,
                owner=self,
            )  # fmt: skip
        except RefusedError:
            attempt.forget()
            desk.rates.registrations.give_back(self._address)
            if before is None:
                desk.rates.accounts.give_back(self._address)
            raise

    def _login(self, request: Login) -> None:
        try:
            account = normalise_account(request.account)
        except UsageError:
            account = request.account  # nobody has that name: the same work and answer as for any other
        now = time.monotonic()
        attempts = self._attempts(account, now, 2 if request.former else 1)  # two guesses in one

        def answer(result: Account | SecurechatError) -> None:
            if isinstance(result, Account):
                for attempt in attempts:
                    attempt.succeeded()
                self._desk.counters.tried("password", "accepted")
                self._sequencer.submit(self._session, PasswordChecked(request, result))
                self._sequencer.interrupt()
            else:
                for attempt in attempts:
                    attempt.failed(result)
                self._refuse(request, result)

        try:
            self._desk.workers.submit_login(
                account, request.secret, answer, former=request.former, familiar=attempts[0].familiar,
                address=self._address, owner=self,
            )  # fmt: skip
        except RefusedError:
            for attempt in attempts:
                attempt.forget()
            raise

    def _change_password(self, request: ChangePassword) -> None:
        session, now = self._session, time.monotonic()
        changes = self._desk.rates.password_changes
        # Two guesses in one, for somebody who has a token; a right one costs the workers as much.
        attempts = self._attempts(session.account, now, 2)
        try:
            changes.take(session.account, now)
        except RefusedError:
            for attempt in attempts:
                attempt.forget()
            raise

        def answer(result: Account | SecurechatError) -> None:
            if isinstance(result, Account):
                for attempt in attempts:
                    attempt.succeeded()
                log.info("password changed", client=self._connection.address, account=result.name)
                self._sequencer.submit(session, PasswordReplaced(request, result))
                self._sequencer.expel(result.name, "the password was changed on another device", spared=session)
            else:
                for attempt in attempts:
                    attempt.failed(result)
                if isinstance(result, RefusedError) and result.code == "busy":  # nothing was tried
                    changes.give_back(session.account)
                self._refuse(request, result)

        try:
            self._desk.workers.submit_change(
                session.account, request.secret, request.new, answer, address=self._address, owner=self
            )
        except RefusedError:
            for attempt in attempts:
                attempt.forget()
            changes.give_back(session.account)
            raise

    def _delete_account(self, request: DeleteAccount) -> None:
        session = self._session
        attempt = self._attempt(session.account, time.monotonic())

        def answer(result: Account | SecurechatError) -> None:
            if isinstance(result, Account):  # nobody logs in to it any more; what else there is of it goes now
                attempt.succeeded()
                log.info("account deleted by its owner", client=self._connection.address, account=result.name)
                self._connection.send(Done(request.id))
                # Nothing that its sessions wait for is done: it would leave what nobody comes to forget.
                self._sequencer.expel(result.name, "this account was deleted")
                self._sequencer.operate(ForgetAccount(result.name, lambda _: None))
            else:
                attempt.failed(result)
                self._refuse(request, result)

        try:
            self._desk.workers.submit_delete(
                session.account, request.secret, answer, address=self._address, owner=self
            )
        except RefusedError:
            attempt.forget()
            raise

    def _attempt(self, account: str, now: float) -> Attempt:
        return self._desk.rates.attempt(account, self._address, now)

    def _attempts(self, account: str, now: float, count: int) -> list[Attempt]:
        """Count as many attempts, or none. Raises RefusedError `slow-down`."""
        attempts: list[Attempt] = []
        try:
            while len(attempts) < count:
                attempts.append(self._attempt(account, now))
        except RefusedError:
            for attempt in attempts:
                attempt.forget()
            raise
        return attempts

    def _refuse(self, request: Request, error: SecurechatError) -> None:
        if isinstance(error, StorageError):
            log.error("cannot store an account", client=self._connection.address, reason=str(error))
            error = RefusedError("disk-full", "the server cannot store this at the moment; try again later")
        if not isinstance(error, RefusedError):
            error = RefusedError("bad-request", str(error))
        if isinstance(request, Register | Login | Resume):
            self._desk.counters.tried(_KINDS[type(request)], error.code)
            log.log(
                # Somebody who tries all the time is refused all the time, and must not fill the log.
                logging.DEBUG if error.code == "slow-down" else logging.INFO,
                "refused",
                client=self._connection.address,
                account=self._known(request),
                request=type(request).__name__,
                code=error.code,
            )
        self._connection.send(refusal(request.id, error))

    def _known(self, request: Register | Login | Resume) -> str:
        """The account that a request names, if it exists: any other name may be a password in the wrong field."""
        if isinstance(request, Resume):
            return ""
        with contextlib.suppress(UsageError):
            if (account := self._desk.accounts.get(normalise_account(request.account))) is not None:
                return account.name
        return ""
