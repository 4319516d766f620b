"""A new password: for the server's login, the vault and the identity key, as if in one step.

    begin      the old one opens the identity key; everything is made under the new one, and put into the vault
    asked      the server is told both secrets, again on each connection until it says yes or no
    finish     it has said yes: the key file is replaced, and the vault goes on under the new password

Until the server has said yes the old password opens everything, also after its answer was lost: the next login with it
finds that out by the new secret, which is in the vault, and finishes. From then on the new one does, and no other.

Where the server has another password than the vault already, because it was changed on another device or by a code of
the operator, that one is taken over in the same way (`take_over`), and the next login is the question.
docs/design.md, section 6.
"""

from securechat.client import events
from securechat.client.context import Context
from securechat.client.password_source import PasswordSource
from securechat.client.vault.new_password import NewPassword
from securechat.client.wrapping import WrongPasswordError
from securechat.errors import UsageError
from securechat.strength import check_password
from securechat.wire.messages import ChangePassword, PasswordChanged, Refused, Reply

_WHAT = "take the new password"


class PasswordChange:
    """What one client does about it. One thread at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._table = context.vault.new_password
        self._command = 0  # that waits for it

    @property
    def under_way(self) -> NewPassword | None:
        """The one that the server has not confirmed yet."""
        return self._table.load()

    def begin(self, old: str, new: str, pin: bytes) -> None:
        """Ask the server for another password, under the CA that has signed for it. Raises `UsageError`."""
        context = self._context
        if self.under_way is not None:
            raise UsageError("The password is being changed already: the server has not answered yet.")
        if not context.vault.authorities.has_password(pin):
            raise UsageError("The server has another CA since you gave the password. Start again, and give it once.")
        check_password(new, context.device.account)
        source, now = PasswordSource.typed(new), PasswordSource.typed(old)
        with now.read() as was, source.read() as typed:
            if was == typed:
                raise UsageError("That is the password that you have.")
            self._prepare(was, typed, pin, known=True)
        self._command = context.answers.current
        self.ask()

    def take_over(self, new: str, pin: bytes) -> None:
        """Take what somebody types for the account's password: the next login shows it. Ours is at hand."""
        source = PasswordSource.typed(new)
        with self._context.unlocking.password() as was, source.read() as typed:
            self._prepare(was, typed, pin, known=False)

    def _prepare(self, was: bytearray, typed: bytearray, pin: bytes, *, known: bool) -> None:
        """Make everything under the new one. `known`: the server has the old one."""
        context = self._context
        device, vault = context.device, context.vault
        ours = [device.row.identity, *([device.heir.identity] if device.heir is not None else [])]
        try:
            identities = [each.rewrapped(was, typed, vault.cost) for each in ours]
        except WrongPasswordError as error:
            raise UsageError(f"{error} Nothing was changed.") from None
        server, account, secret = device.row.server_id, device.account, context.parts.secret
        old = secret(was, server, account, pin) if known else b""
        new = NewPassword(pin, old, secret(typed, server, account, pin))
        self._table.begin(new, vault.key_file_under(typed), identities)

    def ask(self) -> None:
        """We have our seat: ask the server, if there is something to ask."""
        new = self.under_way
        if new is not None and new.old:
            request = ChangePassword(0, new.old, new.new)
            self._context.errands.run("password", _WHAT, request, self._answer, expected=("login-refused",))

    def _answer(self, reply: Reply) -> None:
        if isinstance(reply, PasswordChanged):
            self._context.device.keep_token(reply.token, reply.expires)
            self._context.device.keep_secret_set(reply.secret_set)
            self.finish()
        elif isinstance(reply, Refused):
            self._table.drop()
            text = f"The password stays as it was. The server says: {reply.text}"
            self._context.emit(events.Refused(reply.code, text, command=self._take_command()))

    def finish(self) -> None:
        """The server has the new one: the old opens nothing any more."""
        context = self._context
        self._table.finish()
        context.device.rewrapped()
        context.unlocking.use(context.device.row.identity)
        context.unlocking.replaced()
        command = self._take_command()
        context.emit(events.PasswordReplaced(context.unlocking.at_hand, command=command))
        if command:
            context.emit(events.Done(command=command))

    def drop(self) -> None:
        """The server does not have the new one."""
        self._table.drop()

    def _take_command(self) -> int:
        command, self._command = self._command, 0
        return command
