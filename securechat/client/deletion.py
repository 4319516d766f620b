"""The end of an account: its conversations are left, where that can be, and then the server deletes it.

    begin     the password opens the identity key, and each conversation that we may leave is left
    look      nothing of that is on its way any more, or it has taken too long: the server is asked
    answer    the account is gone. The vault stays, as a record, or is deleted once it is closed

Nothing of this is in the vault: whoever is cut off before the server has said yes has an account, and fewer
conversations.
"""

from typing import Final

from securechat.client import events
from securechat.client.context import Context
from securechat.client.conversations import phases
from securechat.client.conversations.registry import Registry
from securechat.client.password_source import PasswordSource
from securechat.client.wrapping import WrongPasswordError
from securechat.errors import UsageError
from securechat.wire.messages import DeleteAccount, Done, Refused, Reply

LEAVING_SECONDS: Final = 10.0
"""How long departures may take: a room where somebody is just entering gives way in a few seconds."""


class Deletion:
    """The deletion of one account. One thread at a time."""

    def __init__(self, context: Context, registry: Registry) -> None:
        self._context = context
        self._registry = registry
        self._secret = b""  # while it is being deleted
        self._wipe = False
        self._command = 0
        self._until = 0.0  # monotonic: from then on nothing is waited for
        self.done = False

    def begin(self, account: str, password: str, pin: bytes, *, wipe: bool) -> None:
        """Leave what can be left. Raises `UsageError`."""
        context = self._context
        device = context.device
        if account != device.account:
            raise UsageError(f"Type your own user name, {device.account}, to delete your account.")
        if self._secret:
            raise UsageError("Your account is being deleted already.")
        with PasswordSource.typed(password).read() as typed:
            try:
                with device.row.identity.opened(typed):
                    pass
            except WrongPasswordError as error:
                raise UsageError(f"{error} Nothing was deleted.") from None
            self._secret = context.parts.secret(typed, device.row.server_id, device.account, pin)
        self._wipe, self._command = wipe, context.answers.current
        self._until = context.clock.monotonic() + LEAVING_SECONDS
        for conversation in self._registry:
            row = conversation.row
            alone = row.owners == device.account and len(row.persons) > 1  # a room is not left without an owner
            if row.phase in phases.READING and not row.closed and not alone:
                conversation.close()
                context.touched.add(conversation.id)

    def end(self) -> None:
        """The connection is gone: it is not known what has come of it, and the user asks again."""
        if self._secret and not self.done:
            text = "The connection was lost before the server had deleted the account. Ask again."
            self._context.emit(events.Refused("local", text, command=self._command))
        self._secret, self._until = b"", 0.0

    @property
    def timer(self) -> float | None:
        """When to call `look`, on the monotonic clock."""
        return self._until or None

    def look(self) -> None:
        """Ask the server, once nothing is waited for any more."""
        if not self._until:
            return
        leaving = any(each.row.closed and each.row.phase in phases.INSIDE for each in self._registry)
        if leaving and self._context.clock.monotonic() < self._until:
            return
        self._until = 0.0
        self._context.request(DeleteAccount(0, self._secret), self._answer)

    def _answer(self, reply: Reply) -> None:
        context = self._context
        if isinstance(reply, Done):
            self.done = True
            context.vault.discard_at_close = self._wipe
            context.emit(events.AccountDeleted(self._wipe, command=self._command))
            context.emit(events.Done(command=self._command))
        elif isinstance(reply, Refused):
            self._secret = b""
            text = f"Your account is not deleted. The server says: {reply.text}"
            context.emit(events.Refused(reply.code, text, command=self._command))
