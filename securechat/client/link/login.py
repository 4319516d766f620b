"""Logging in: one connection's way from `Hello` to the seat (docs/design.md, sections 4 to 6).

    Hello        pin the server, certify the device for it         another server than last time -> TrustError
    Resume       with the token of the last login, if there is one  token refused -> Login
    Register     only if asked to; repeating it is harmless
    Login        with the secret derived from the password
    Seat         the server is full: wait until our place is 0
    PublishDevice   unless the server has it                       another identity key there -> TrustError

`failure` ends the client for good; `disconnect_reason` ends this connection, and the next one tries again.
"""

from collections.abc import Callable

from securechat.client import events
from securechat.client.context import Context
from securechat.client.password import login_secret
from securechat.client.settings import ClientSettings
from securechat.errors import InternalError, PeerError, RefusedError, SecurechatError, TrustError
from securechat.wire.messages import (
    RETRYABLE,
    Done,
    Hello,
    LoggedIn,
    Login,
    PublishDevice,
    Refused,
    Register,
    Registered,
    Reply,
    Resume,
    Seat,
)


class LoginProcedure:
    """One client's login, over all its connections."""

    def __init__(self, context: Context, settings: ClientSettings, *, seated: Callable[[int], None]) -> None:
        """`seated(key_packages)` is called once the device has its seat and is in the server's directory."""
        self._context = context
        self._settings = settings
        self._seated = seated
        context.vault.discard_at_close = not context.device.row.token  # until the first login
        self._register = settings.register
        self._logged_in: LoggedIn | None = None  # while waiting for a seat
        self._secret = b""  # sent instead of the password; only while logging in
        self.failure: SecurechatError | None = None
        self.disconnect_reason = ""
        self.retry_after = 0.0  # seconds that the server wants us to wait

    def begin(self) -> None:
        """A connection is up; the server speaks first."""
        self._logged_in = None
        self._secret = b""
        self.disconnect_reason = ""
        self.retry_after = 0.0

    def receive(self, message: Hello | Seat) -> None:
        """Process an event of the server."""
        if isinstance(message, Hello):
            self._greeted(message)
        elif self._logged_in is not None:
            if message.place:
                self._context.emit(events.Waiting(message.place))
            else:
                self._take_seat(self._logged_in)

    def _greeted(self, hello: Hello) -> None:
        device, clock = self._context.device, self._context.clock
        try:
            device.meet_server(hello.server_id, clock.seconds())
        except TrustError as error:
            self.failure = error
            return
        self._context.site_key = hello.site_key
        self._context.emit(events.Connected(hello.server_name, hello.greeting))
        if device.row.token and device.row.token_expires > clock.milliseconds():
            self._context.request(Resume(0, device.row.token, device.id), self._resumed)
        elif self._register:
            self._derive_secret()
            register = Register(0, device.account, self._secret, self._settings.invite)
            self._context.request(register, self._registered)
        else:
            self._log_in()

    def _registered(self, reply: Reply) -> None:
        if isinstance(reply, Registered):
            self._register = False
            self._log_in()
        elif isinstance(reply, Refused):
            self._refused(reply)

    def _resumed(self, reply: Reply) -> None:
        if isinstance(reply, Refused) and reply.code == "token-refused":
            self._context.device.keep_token(self._context.device.row.token, 0)  # it shows that we were in
            if self._settings.password is not None:
                self._log_in()
                return
        self._handle_login(reply, resumed=True)

    def _log_in(self) -> None:
        device = self._context.device
        if self._settings.password is None:
            self.failure = RefusedError("login-refused", "The last login has expired. Log in with the password.")
            return
        self._derive_secret()
        login = Login(0, device.account, self._secret, device.id)
        self._context.request(login, lambda reply: self._handle_login(reply, resumed=False))

    def _derive_secret(self) -> None:
        if self._settings.password is None:
            raise InternalError("no password to log in with")
        if not self._secret:
            device = self._context.device
            self._secret = login_secret(self._settings.password, device.row.server_id, device.account)

    def _handle_login(self, reply: Reply, *, resumed: bool) -> None:
        device = self._context.device
        self._secret = b""
        if isinstance(reply, Refused):
            self._refused(reply)
        elif isinstance(reply, LoggedIn):
            if reply.account != device.account:
                raise PeerError("the server logged us in as somebody else")
            device.keep_token(reply.token, reply.token_expires)
            self._context.vault.discard_at_close = False
            if reply.identity_key not in (b"", device.identity_key) and not self._settings.new_identity:
                self.failure = _other_identity(device.account)
                return
            self._context.emit(events.LoggedIn(device.account, resumed))
            if reply.place:
                self._logged_in = reply
                self._context.emit(events.Waiting(reply.place))
            else:
                self._take_seat(reply)

    def _take_seat(self, login: LoggedIn) -> None:
        self._logged_in = None
        device = self._context.device
        if login.published and login.identity_key == device.identity_key:
            self._seated(login.key_packages)
            return

        def answer(reply: Reply) -> None:
            if isinstance(reply, Done):
                self._seated(0)
            elif isinstance(reply, Refused):
                if reply.code == "identity-differs":
                    self.failure = _other_identity(device.account)
                else:
                    self._refused(reply)

        replace = login.identity_key not in (b"", device.identity_key)
        self._context.request(PublishDevice(0, device.certificate, replace), answer)

    def _refused(self, reply: Refused) -> None:
        if reply.code in RETRYABLE:
            self.disconnect_reason = f"The server says: {reply.text}"
            self.retry_after = reply.retry_after / 1000
        else:
            self.failure = RefusedError(reply.code, f"The server says: {reply.text}")


def _other_identity(account: str) -> TrustError:
    return TrustError(
        f"{account} has another identity key at the server than in this vault: the account was set up on another "
        "device or with another vault. Use that one; or start once with --new-identity, which makes this vault's key "
        "the account's: your contacts will see that it has changed, and what was sent to the other device stays there."
    )
