"""One connection's session: who it is, what it reads, and the steps up to the login (design, section 5).

Everything here up to the login runs on the connection's I/O thread. What comes after is handed to the sequencer, which
owns the fields below the line: only the holder of its turn touches them.
"""

import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from securechat.errors import RefusedError, SecurechatError, StorageError, UsageError
from securechat.names import normalise_account
from securechat.server.accounts import Account, AccountStore, PasswordWorkers, ResumeToken, check_registration
from securechat.server.admission import Attempt, Bucket, Newcomers, Rates
from securechat.server.config import ServerConfig
from securechat.server.logs import get_logger
from securechat.server.operations import Attach, Detach, Drained
from securechat.server.reactor import Connection
from securechat.server.status import Counters, LoginKind
from securechat.wire.limits import MAX_RETRY_AFTER
from securechat.wire.messages import (
    Acknowledge,
    ClientHello,
    Closing,
    FromClient,
    Login,
    Refused,
    Register,
    Registered,
    Request,
    Resume,
    Submit,
)

if TYPE_CHECKING:
    from securechat.server.delivery import Delivery

log = get_logger(__name__)

_KINDS: Mapping[type, LoginKind] = {Login: "password", Resume: "resume", Register: "register"}

_FREQUENT = frozenset((Submit, Acknowledge))
"""By far most messages, and handled together by the sequencer, which also counts the submissions."""


class LoginDesk:
    """What every session needs for logging in."""

    def __init__(
        self, config: ServerConfig, accounts: AccountStore, workers: PasswordWorkers, rates: Rates, counters: Counters
    ) -> None:
        self.counters = counters
        self.config = config
        self.accounts = accounts
        self.workers = workers
        self.rates = rates
        self.newcomers = Newcomers[Connection]()


@dataclass(eq=False)
class Subscription:
    """A log that a session reads, up to `position` so far. A live one is in its conversation's `readers` instead."""

    log: bytes  # a conversation's id, or the device's own for its inbox
    position: int
    live: bool = False
    queued: bool = False  # in `Session.behind`


class Session:
    """See the module. Implements `reactor.Handler`."""

    def __init__(self, connection: Connection, address: str, desk: LoginDesk, delivery: "Delivery") -> None:
        self.connection = connection
        self.over = False  # the connection has ended: nothing sent arrives any more
        self._address = address
        self._desk = desk
        self._delivery = delivery
        self._started = time.monotonic()
        # --- the sequencer's
        self.account = ""
        self.device = b""
        self.submissions: Bucket  # of the account; from the login on
        self.seated = False
        self.fenced = False  # another session of the device, or its removal, has put this one out of force
        self.subscriptions: dict[bytes, Subscription] = {}
        self.behind: deque[Subscription] = deque()  # subscriptions that need history
        self.reading = False  # a reader works for this session
        self.entrances: set[bytes] = set()  # conversations whose lease it has or waits for

    def __repr__(self) -> str:
        """Name account and address."""
        return f"<Session {self.account or '-'} {self.connection.address}>"

    # --- called by the connection -----------------------------------------------------------------------------------

    def receive(self, messages: list[FromClient]) -> None:
        """See `reactor.Handler`."""
        if _FREQUENT.issuperset(map(type, messages)):
            self._delivery.submit(self, messages)
        else:
            for message in messages:
                self._receive(message)

    def _receive(self, message: FromClient) -> None:
        if type(message) in _FREQUENT:
            self._delivery.submit(self, [message])
            return
        if isinstance(message, ClientHello):
            return
        if log.isEnabledFor(logging.DEBUG):
            request = type(message).__name__
            log.debug("request", client=self.connection.address, account=self.account, request=request)
        try:
            if isinstance(message, Login):
                self._login(message)
            elif isinstance(message, Resume):
                self._resume(message)
            elif isinstance(message, Register):
                self._register(message)
            else:
                self._desk.rates.requests.take(self.account, time.monotonic())
                self._delivery.submit(self, message)
        except RefusedError as error:
            if isinstance(message, Request):
                self._refuse(message, error)

    def drained(self) -> None:
        """See `reactor.Handler`."""
        if self.behind and not self.reading:
            self._delivery.submit(self, Drained())
            self._delivery.interrupt()  # this round's turn is over

    def ended(self, closing: Closing | None, reason: str) -> None:
        """See `reactor.Handler`."""
        self.over = True
        self.uncount()
        log.info(
            "closed",
            client=self.connection.address,
            account=self.account,
            seconds=round(time.monotonic() - self._started, 1),
            reason=reason,
        )
        self._delivery.submit(self, Detach(said_goodbye=closing is not None and closing.reason == "bye"))

    def uncount(self) -> None:
        """The connection is logged in, or gone."""
        self._desk.newcomers.leave(self._address, self.connection)

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
        desk.rates.registrations.take(self._address, now)
        attempt = self._attempt(account, now)  # a name that is taken makes this a guess at its password
        before = desk.accounts.get(account)

        def answer(result: Account | SecurechatError) -> None:
            if isinstance(result, Account):
                attempt.forget()
                desk.counters.tried("register", "accepted")
                log.info("registered", client=self.connection.address, account=account)
                if before is not None and before.hash != result.hash:
                    self._delivery.expel(account, "the password has been set anew")
                self.connection.send(Registered(request.id, account))
            else:
                self._refuse(request, result)

        try:
            desk.workers.submit_register(account, request.secret, answer, invite=request.invite, invited=invited)
        except RefusedError:
            attempt.forget()
            desk.rates.registrations.give_back(self._address)
            raise

    def _login(self, request: Login) -> None:
        try:
            account = normalise_account(request.account)
        except UsageError:
            account = request.account  # nobody has that name: the same work and answer as for any other
        attempt = self._attempt(account, time.monotonic())

        def answer(result: ResumeToken | SecurechatError) -> None:
            if isinstance(result, ResumeToken):
                attempt.succeeded()
                self._desk.counters.tried("password", "accepted")
                self._delivery.submit(self, Attach(request.id, account, request.device, result.token, result.expires))
                self._delivery.interrupt()
            else:
                self._refuse(request, result)

        try:
            self._desk.workers.submit_login(
                account, request.secret, request.device, answer, familiar=attempt.familiar
            )
        except RefusedError:
            attempt.forget()
            raise

    def _attempt(self, account: str, now: float) -> Attempt:
        return self._desk.rates.attempt(account, self._address, now)

    def _resume(self, request: Resume) -> None:
        desk = self._desk
        desk.rates.attempts_by_address.take(self._address, time.monotonic())
        account, expires = desk.accounts.redeem(request.token, request.device)
        desk.rates.attempts_by_address.give_back(self._address)
        desk.rates.remember(account, self._address)
        desk.counters.tried("resume", "accepted")
        self._delivery.submit(self, Attach(request.id, account, request.device, request.token, expires))

    def _refuse(self, request: Request, error: SecurechatError) -> None:
        if isinstance(error, StorageError):
            log.error("cannot store an account", client=self.connection.address, reason=str(error))
            error = RefusedError("disk-full", "the server cannot store this at the moment; try again later")
        if not isinstance(error, RefusedError):
            error = RefusedError("bad-request", str(error))
        if isinstance(request, Register | Login | Resume):
            self._desk.counters.tried(_KINDS[type(request)], error.code)
            log.log(
                # Who tries all the time is told so all the time, and should not fill the log.
                logging.DEBUG if error.code == "slow-down" else logging.INFO,
                "refused",
                client=self.connection.address,
                account=self._known(request),
                request=type(request).__name__,
                code=error.code,
            )
        self.connection.send(refusal(request.id, error))

    def _known(self, request: Register | Login | Resume) -> str:
        """The account that a request names, if there is one: anything else may be a password in the wrong field."""
        if isinstance(request, Resume):
            return ""
        with contextlib.suppress(UsageError):
            if (account := self._desk.accounts.get(normalise_account(request.account))) is not None:
                return account.name
        return ""


def refusal(request: int, error: RefusedError) -> Refused:
    """The reply that tells a client of a refusal."""
    retry_after = min(math.ceil(error.retry_after * 1000), MAX_RETRY_AFTER)
    return Refused(request, error.code, str(error)[:1000], retry_after=retry_after)  # type: ignore[arg-type]  # codes of messages.Code
