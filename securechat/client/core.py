"""The headless client: commands in, events out; no printing, no prompts, no assumption about the front end's threads.

    front end   do(command)  ->  queue  ->  the one thread that owns the engine (`link.runner`)  ->  on_event
                reads        <-  snapshot of the conversations, published by that thread
                reads        <-  a second, read-only connection to the vault

Nothing that a front end calls waits for the engine, the network or a write to the disk. docs/design.md, section 7.
"""

from collections.abc import Callable

from securechat.client.commands import Command
from securechat.client.engine import Engine
from securechat.client.events import ConversationSnapshot, Event, Invitation, Message
from securechat.client.link.runner import Runner
from securechat.client.settings import ClientSettings
from securechat.client.vault.vault import Vault
from securechat.errors import UsageError
from securechat.names import normalise_title


class ChatClient:
    """One account at one server. Every method may be called from any thread."""

    def __init__(self, settings: ClientSettings, vault: Vault, *, on_event: Callable[[Event], None]) -> None:
        """`on_event` is called on the client's own thread, in the order in which things happened; `Ended` is the last.

        The vault's opener closes it, after `Ended`. Raises `UsageError` or `StorageError`.
        """
        if (settings.ca_file is None) == (not settings.pin):
            raise UsageError("Name either the CA's file or its pin: it is how the server is known.")
        if settings.register and settings.password is None:
            raise UsageError("An account needs a password.")
        self._engine = Engine(settings, vault)
        self._reader = vault.reader()
        self._runner = Runner(settings, self._engine, on_event)
        self.account = self._engine.account

    def start(self) -> None:
        """Connect, log in, catch up; stay connected until `close`."""
        self._runner.start()

    def close(self) -> None:
        """Carry out the commands given so far, and say goodbye to the server. `Ended(None)` follows."""
        self._runner.close()

    def do(self, command: Command) -> None:
        """Have a command carried out. What comes of it arrives as events that name it."""
        self._runner.do(command)

    # --- what is there --------------------------------------------------------------------------------------------

    def conversations(self) -> list[ConversationSnapshot]:
        """Return all conversations, oldest first."""
        return list(self._engine.snapshot.conversations.values())

    def conversation(self, conversation: bytes) -> ConversationSnapshot | None:
        """Return a conversation by its id, or by the one it had at first."""
        return self._engine.snapshot.get(conversation)

    def find(self, name: str) -> ConversationSnapshot | None:
        """Return the one called so: `#room`, a title, or an account. Raises `UsageError` for no proper name."""
        return self._engine.snapshot.find(normalise_title(name))

    def invitations(self) -> list[Invitation]:
        """Return the invitations that wait for an answer."""
        return list(self._engine.snapshot.invitations.values())

    def history(self, conversation: bytes, limit: int) -> list[Message]:
        """Return the newest `limit` lines, oldest first; what the server has not accepted yet comes last."""
        found = self.conversation(conversation)
        return [] if found is None else self._reader.newest(found.id, limit)

    def before(self, local_id: int, limit: int) -> list[Message]:
        """Return the `limit` lines of its conversation right before a line, oldest first."""
        return self._reader.before(local_id, limit)

    def after(self, local_id: int, limit: int) -> list[Message]:
        """Return the `limit` lines of its conversation right after a line, oldest first."""
        return self._reader.after(local_id, limit)

    def around(self, local_id: int, limit: int) -> list[Message]:
        """Return a line with up to `limit` lines before it and as many after it, oldest first."""
        return self._reader.around(local_id, limit)

    def unread(self, after: int, limit: int) -> list[Message]:
        """Return the oldest `limit` lines of others after line `after` that no front end has shown, as they arrived."""
        return self._reader.unread(max(after, self._reader.shown()), limit)

    def unread_counts(self) -> dict[bytes, tuple[int, int]]:
        """Return how many such lines there are, by conversation, and the local id of the newest of them."""
        return self._reader.unread_counts()
