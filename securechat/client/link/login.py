"""Logging in: one connection's way from `Hello` to the seat (docs/design.md, sections 4 to 6).

    Hello        pin the server, certify the device for it         another server than last time -> TrustError
    Resume       with the token of the last login, if there is one, and a proof that we have the device's key
                                                                   token refused -> Login
    Register     only if asked to; repeating it is harmless
    Login        with the secret derived from the password, which may have to be asked for
    Seat         the server is full: wait until our place is 0
    Publish      what our identity key has signed and the server lacks, with the device's key packages
                                                                    another identity key there -> TrustError; if ours
                                                                    has named it, `contest` can deny that

`failure` ends the client for good; `disconnect_reason` ends this connection, and the next one tries again.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from securechat.client import events
from securechat.client.context import Context
from securechat.client.new_password import PasswordChange
from securechat.client.publishing import Publishing
from securechat.client.rotation import Rotation
from securechat.client.settings import ClientSettings
from securechat.client.vault.identity import RecoveryStep
from securechat.client.vault.new_password import NewPassword
from securechat.errors import PeerError, RefusedError, SecurechatError, TrustError, UsageError
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.statements import CONTEST_SECONDS, Link
from securechat.transport.certificate_files import CA
from securechat.wire.messages import (
    RETRYABLE,
    Code,
    ExtendToken,
    Hello,
    LoggedIn,
    Login,
    Publish,
    Published,
    Refused,
    Register,
    Registered,
    Reply,
    Resume,
    Seat,
    SecretReplaced,
    TokenExtended,
)
from securechat.wire.possession import Channel

TOKEN_SECONDS: Final = 15 * 86_400
"""Before its end the resume token is extended: whoever connects once a fortnight does not need the password for it."""


class RecoveryPort(Protocol):
    """What logging in has to know of a device that takes the place of lost ones."""

    @property
    def step(self) -> RecoveryStep | None:
        """How far it has come; None: it is an ordinary device, or one by now."""

    @property
    def is_beginning(self) -> bool:
        """Whether it is not certified yet, and needs the password to go on."""

    def begin(self, login: LoggedIn, then: Callable[[SecurechatError | Refused | None], None]) -> None:
        """Make this device known to its identity key's chain, to be published. `then` gets why not, if it cannot."""

    def take_seat(self) -> None:
        """This device has its seat."""


class LoginProcedure:
    """One client's login, over all its connections."""

    def __init__(
        self,
        context: Context,
        settings: ClientSettings,
        rotation: Rotation,
        recovery: RecoveryPort,
        change: PasswordChange,
        *,
        unlocked: Callable[[], None],
        seated: Callable[[], None],
    ) -> None:
        """`seated` is called once the device has its seat and is in the server's directory.

        `unlocked` is called when we are logged in, before a typed password is forgotten.
        """
        self._context = context
        self._rotation = rotation
        self._recovery = recovery
        self._change = change
        self._other_wanted = False  # the account's password, which is not the vault's
        self._unlocked = unlocked
        self._settings = settings
        self._seated = seated
        context.vault.discard_at_close = not context.device.row.token  # until the first login
        self._register = settings.register
        self._new_identity = settings.new_identity
        self._shown = b""  # SHA-256 of the certificate of this connection's server
        self._ca = CA(b"", b"")  # that has signed for it
        self._logged_in: LoggedIn | None = None  # while waiting for a seat
        self._seat: LoggedIn | None = None  # by which we have our seat
        self._entered = False  # we have our seat, and may make requests
        self._due = False  # the server waits for our login
        self._hello: Hello | None = None  # of this connection
        self._secrets: dict[bytes, bytes] = {}  # by the CA's pin; sent instead of the password, only while logging in
        self.failure: SecurechatError | None = None
        self.disconnect_reason = ""
        self.retry_after = 0.0  # seconds that the server wants us to wait

    @property
    def ca_pin(self) -> bytes:
        """Of the CA that has signed for the server of this connection."""
        return self._ca.pin

    def begin(self, shown: bytes, ca: CA) -> None:
        """A connection is up; the server, which has shown this certificate (SHA-256) of `ca`, speaks first."""
        self.end()
        self._shown = shown
        self._ca = ca

    def end(self) -> None:
        """There is no connection any more."""
        self._logged_in = self._seat = self._hello = None
        self._due = self._entered = False
        self._secrets.clear()
        self.disconnect_reason = ""
        self.retry_after = 0.0

    def receive(self, message: Hello | Seat | SecretReplaced) -> None:
        """Process an event of the server."""
        if isinstance(message, Hello):
            self._hello = message
            self._context.compare_clocks(message.time)
            if self._context.device.row.server_id:
                self._greeted(message)
            else:
                self._context.unlocking.begin_login()
                self._context.unlocking.want("login", lambda: self._greeted(message))
        elif isinstance(message, SecretReplaced):
            self._compare_secret(message.time)
        elif self._logged_in is not None:
            if message.place:
                self._context.emit(events.Waiting(message.place))
            else:
                self._take_seat(self._logged_in)

    def _greeted(self, hello: Hello) -> None:
        if hello is not self._hello:  # the connection was lost while the password was asked for
            return
        device, clock = self._context.device, self._context.clock
        signs = not device.row.server_id or self._new_identity or self._recovery.is_beginning
        if signs and self._context.clock_trouble:
            self.disconnect_reason = self._context.clock_trouble
            return
        if not device.row.server_id and self._settings.server_id not in (b"", hello.server_id):
            self.failure = TrustError("Another server answers than the one that was asked just now. Start again.")
            return
        try:
            device.meet_server(hello.server_id, clock.seconds(), self._context.unlocking.opened)
        except TrustError as error:
            self.failure = error
            return
        if self._is_strange():
            self.failure = TrustError(
                f"The server at {self._settings.address} says that it is the one which this vault knows, but this "
                "vault has never been let in there, nor trusted its CA. If its CA has changed, start once with the "
                "address that you used before and --ca or --pin. If both have, ask the operator, and use the old "
                "address last."
            )
            return
        self._context.site_key = hello.site_key
        self._context.emit(events.Connected(hello.server_name, hello.greeting))
        has_token = device.row.token and device.row.token_expires > clock.milliseconds()
        needs_password = self._new_identity or self._recovery.is_beginning
        if not self._context.vault.authorities.has_password(self._ca.pin):  # so the server has a former CA's secret
            needs_password |= self._context.unlocking.at_hand
        if has_token and not needs_password:
            self._resume(Channel(hello.server_id, self._shown, hello.nonce), device.certificate)
        elif self._register:
            self._context.unlocking.begin_login()
            self._context.unlocking.want("login", lambda: self._register_with_password(hello))
        else:
            self._log_in()

    def _is_strange(self) -> bool:
        """Whether the server has nothing in common with the vault's but an id that anybody can say: it is new in its
        address and in its CA. Whoever gives out a CA could say that id, to get what was meant for the vault's server.
        """
        vault = self._context.vault
        if vault.authorities.former(self._ca.pin) is None or self._settings.address in vault.addresses.all():
            return False
        return self._ca.pin not in {ca.pin for ca in vault.authorities.all()}

    def _register_with_password(self, hello: Hello) -> None:
        if hello is self._hello:
            register = Register(0, self._context.device.account, self._secret(self._ca.pin), self._settings.invite)
            self._context.request(register, self._registered)

    def _registered(self, reply: Reply) -> None:
        if isinstance(reply, Registered) or (_is(reply, "name-taken") and self._former is not None):
            self._register = False  # the name may be taken by ourselves, with a former CA's secret
            self._log_in()
        elif isinstance(reply, Refused):
            self._refused(reply)

    def _resume(self, channel: Channel, certificate: DeviceCertificate) -> None:
        device = self._context.device
        later = [device.newest, *([device.heir.certificate] if device.heir is not None else [])]

        def resumed(reply: Reply) -> None:
            if not _is(reply, "token-refused"):
                self._handle_login(reply, resumed=True)
            elif untried := later[later.index(certificate) + 1 if certificate in later else 0 :]:
                self._resume(channel, untried[0])  # the server may have it, and its answer was lost
            else:
                device.keep_token(device.row.token, 0)  # it shows that we were in
                self._log_in()

        proof = device.prove_possession(channel, certificate)
        self._context.request(Resume(0, device.row.token, device.id, proof), resumed)

    def take_password(self, password: str) -> None:
        """Try what the user gives as the account's password. Raises `UsageError`."""
        if not self._other_wanted:
            raise UsageError("The server has not refused the password of this vault.")
        if not self._context.unlocking.at_hand:
            raise UsageError("Start again with the password of this vault first; then give the account's.")
        self._change.take_over(password, self._ca.pin)
        self._other_wanted = False
        if self._hello is not None:
            self._log_in()

    def _log_in(self) -> None:
        new = self._change.under_way
        if new is not None and new.pin == self._ca.pin:
            self._log_in_changing(new)
        elif not self._other_wanted:
            self._log_in_as_ever()

    def _log_in_changing(self, new: NewPassword) -> None:
        """The password was being changed when we were last here: find out whether the server has the new one."""
        device = self._context.device

        def answered(reply: Reply) -> None:
            if isinstance(reply, LoggedIn):
                self._change.finish()
            if not _is(reply, "login-refused"):
                self._handle_login(reply, resumed=False)
            elif new.old:
                self._context.request(Login(0, device.account, new.old, device.id), answered_old)
            else:
                self._change.drop()
                self._want_other(reply)

        def answered_old(reply: Reply) -> None:
            if _is(reply, "login-refused"):  # it has a third one
                self._change.drop()
                self._log_in_as_ever()
            else:
                self._handle_login(reply, resumed=False)

        self._context.request(Login(0, device.account, new.new, device.id), answered)

    def _want_other(self, reply: Reply, text: str = "") -> None:
        """The server has another password than this vault."""
        if isinstance(reply, Refused):
            self._secrets.clear()
            self._other_wanted = True
            self._context.emit(events.PasswordWanted("changed", text or f"The server says: {reply.text}"))

    def _log_in_as_ever(self) -> None:
        self._due = True
        self._context.unlocking.begin_login()
        self._context.unlocking.want("login", self._log_in_with_password)

    def _log_in_with_password(self) -> None:
        if not self._due:  # the connection was lost meanwhile: the next one finds the password at hand
            return
        self._due = False
        hello, device, former = self._hello, self._context.device, self._former

        def login(of_former: bytes = b"") -> Login:
            return Login(0, device.account, self._secret(self._ca.pin), device.id, of_former)

        def answered(reply: Reply) -> None:
            if _is(reply, "login-refused") and former is not None:
                self._context.unlocking.want("login", again)
            elif _is(reply, "login-refused") and device.row.token:  # we were in, with the password of this vault
                self._want_other(reply)
            else:
                self._handle_login(reply, resumed=False)

        def again() -> None:
            """Offer the secret of a former CA once more. The user has named the new one, or it has come to the salt."""
            if hello is self._hello and former is not None:
                offer = login(self._secret(former))
                self._context.request(offer, offered)

        def offered(reply: Reply) -> None:
            if _is(reply, "login-refused") and device.row.token:
                self._want_other(reply, _NEITHER)
            elif _is(reply, "login-refused"):
                self._secrets.clear()
                self.failure = RefusedError("login-refused", _NEITHER)
            else:
                self._handle_login(reply, resumed=False)

        self._context.request(login(), answered)

    @property
    def _former(self) -> bytes | None:
        """In the secret of which other CA the server may have our password; empty: of none, as it once was."""
        return self._context.vault.authorities.former(self._ca.pin)

    def _secret(self, pin: bytes) -> bytes:
        """Return what is sent instead of the password to a server that a CA has signed for."""
        if pin not in self._secrets:
            device = self._context.device
            with self._context.unlocking.password() as password:
                self._secrets[pin] = self._context.parts.secret(password, device.row.server_id, device.account, pin)
        return self._secrets[pin]

    def _handle_login(self, reply: Reply, *, resumed: bool) -> None:
        device = self._context.device
        self._secrets.clear()
        if isinstance(reply, Refused):
            self._refused(reply)
        elif isinstance(reply, LoggedIn):
            if reply.account != device.account:
                raise PeerError("the server logged us in as somebody else")
            device.keep_token(reply.token, reply.token_expires)
            if resumed:
                self._compare_secret(reply.secret_set)
            else:  # ours was right just now, whoever has set it
                device.keep_secret_set(reply.secret_set)
            self._take_up_ca(password=not resumed)
            self._context.vault.discard_at_close = False
            if device.heir is not None and reply.identity_key == device.heir.identity.public:
                self._context.take_over()  # the server had it, and its answer was lost
            if self._is_replaced(reply):
                self._await_seat(reply)
                return
            if reply.identity_key not in (b"", device.identity_key):
                hello = self._hello
                self._context.unlocking.want("login", lambda: self._restart(hello, reply))
                return
            if self._recovery.step is None:
                self._rotation.log_in(reply)
                self._unlocked()
                self._context.unlocking.settle()
            self._context.emit(events.LoggedIn(device.account, resumed))
            self._await_seat(reply)

    def _compare_secret(self, since: int) -> None:
        """The server says since when (ms) the account has its secret: tell if that was no login of this program."""
        device = self._context.device
        if device.row.secret_set is not None and device.row.secret_set != since:
            self._context.emit(events.SecretReplaced(since))
        device.keep_secret_set(since)

    def _restart(self, hello: Hello | None, login: LoggedIn) -> None:
        """Put our identity key in place of the account's. The password is at hand."""
        if hello is self._hello:  # or the connection was lost while it was asked for
            device, unlocking = self._context.device, self._context.unlocking
            device.restart(login.identity_key, self._context.clock.seconds(), unlocking.opened)
            self._context.emit(events.LoggedIn(device.account, resumed=False))
            self._await_seat(login)

    def _take_up_ca(self, *, password: bool) -> None:
        """We are in at a server of this CA, which the user has named or this vault has trusted before."""
        table = self._context.vault.authorities
        before = table.current()
        self._context.vault.addresses.add(self._settings.address)
        table.take_up(self._ca)
        if password:
            table.set_password(self._ca.pin)
        if before is not None and before.pin != self._ca.pin:
            self._context.emit(events.CaChanged(self._ca.text))

    def _await_seat(self, login: LoggedIn) -> None:
        if login.place:
            self._logged_in = login
            self._context.emit(events.Waiting(login.place))
        else:
            self._take_seat(login)

    def _is_replaced(self, login: LoggedIn) -> bool:
        """Whether the account has another identity key than this vault, which is not to replace it."""
        return login.identity_key not in (b"", self._context.device.identity_key) and not self._new_identity

    def _find_out(self) -> None:
        """Find out whether our key has named the one that the account has, and contest that if the user wants to."""
        context, device, publishing = self._context, self._context.device, Publishing(self._context)

        def learned(links: list[Link] | Refused) -> None:
            if isinstance(links, Refused):
                self._refused(links)
            elif device.succession is None:
                self.failure = _other_identity(device.account, self._settings.other_vaults)
            elif device.has_contested and publishing.head == device.head:
                self.failure = _contested(device.account)
            elif self._settings.contest:
                hello = self._hello
                context.unlocking.want("login", lambda: contest(hello))
            else:
                self.failure = _succeeded(device.account, device.succession.time)

        def contest(hello: Hello | None) -> None:
            if hello is self._hello:
                with context.unlocking.opened() as key:
                    device.contest(key, context.clock.seconds())
                context.request(Publish(0, device.signed_after(publishing.head) or [], [], b""), published)

        def published(reply: Reply) -> None:
            if isinstance(reply, Published):
                self.failure = _contested(device.account)
            elif isinstance(reply, Refused):
                self._refused(reply)

        publishing.learn(learned)

    def _take_seat(self, login: LoggedIn) -> None:
        self._logged_in = None
        self._seat = login
        if self._recovery.is_beginning:  # which looks at the account's key itself: there is no certificate yet
            self._recovery.begin(login, self._begun)
            return
        if self._is_replaced(login):
            self._find_out()
            return

        def then(result: Refused | None) -> None:
            if result is None:
                self._enter()
            elif result.code == "identity-differs":
                self.failure = _other_identity(self._context.device.account, self._settings.other_vaults)
            else:
                self._refused(result)

        self._rotation.take_seat(login, then)

    def _begun(self, problem: SecurechatError | Refused | None) -> None:
        """The recovery has made what is to be published, or cannot."""
        if isinstance(problem, Refused):
            self._refused(problem)
        elif problem is not None:
            self.failure = problem
        elif self._seat is not None:
            self._take_seat(self._seat)

    def _enter(self) -> None:
        if self._new_identity:
            self._new_identity = False
            self._unlocked()
            self._context.unlocking.settle()  # only now: a lost connection must not cost the password again
        self._entered = True
        self._seated()
        self._recovery.take_seat()
        self.look()

    def look(self) -> None:
        """See to it that the token does not run out. Called when we have our seat, and now and then after that."""
        device = self._context.device
        left = device.row.token_expires // 1000 - self._context.clock.seconds()
        if not self._entered or left > TOKEN_SECONDS:
            return

        def answer(reply: Reply) -> None:
            if isinstance(reply, TokenExtended):
                device.keep_token(device.row.token, reply.expires)

        what = "let this device in for longer without the password: the next login will take it"
        self._context.errands.run("token", what, ExtendToken(0), answer, expected=("token-refused",))

    def _refused(self, reply: Refused) -> None:
        if reply.code in RETRYABLE:
            self.disconnect_reason = f"The server says: {reply.text}"
            self.retry_after = reply.retry_after / 1000
        else:
            self.failure = RefusedError(reply.code, f"The server says: {reply.text}")


_NEITHER: Final = (
    "The server says: wrong user name or password. It takes neither the password's secret under its present CA nor the "
    "one under the CA before. If the password is right, it was changed: by a code of the operator, or by somebody who "
    "had that secret and was first to give the server another one. The operator's log tells that (`secret replaced`), "
    "and a code of theirs sets a new password: `securechat admin users reset-password`."
)


def _is(reply: Reply, code: Code) -> bool:
    return isinstance(reply, Refused) and reply.code == code


def _succeeded(account: str, time: int) -> TrustError:
    day = datetime.fromtimestamp(time, UTC).date()
    days = CONTEST_SECONDS // 86_400
    return TrustError(
        f"The identity key in this vault has named another one on {day}, under which {account} goes on. If that was "
        f"you, use the vault that did it. If not, somebody has this key: start once with --contest within {days} days, "
        "and your contacts accept neither key before they have compared it with you."
    )


def _contested(account: str) -> TrustError:
    return TrustError(
        f"You have denied that the identity key of {account} at the server is yours: nobody accepts it, or the one in "
        "this vault, before they have compared it with you. Whoever has your key may have your password: change it, "
        "and start once with another --vault and --new-identity. Then compare the numbers with your contacts (/safety)."
    )


def _other_identity(account: str, others: Sequence[str]) -> TrustError:
    what = f"{account} has another identity key at the server than in this vault: the account was set up "
    if others:
        where = " or ".join(f"--server {address}" for address in others)
        return TrustError(f"{what}with another vault. There is one beside this: start with {where}, which finds it.")
    return TrustError(
        f"{what}on another device or with another vault. Use that one; or start once with --new-identity, which makes "
        "this vault's key the account's: your contacts will see that it has changed, and what was sent to the other "
        "device stays there."
    )
