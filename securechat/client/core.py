"""The headless client: commands in, events out; no printing, no prompts, no assumption about the front end's threads.

    front end   do(command)  ->  queue  ->  the one thread that owns the engine (`link.runner`)  ->  on_event
                reads        <-  snapshot of the conversations, published by that thread
                reads        <-  a second, read-only connection to the vault

Nothing that a front end calls waits for the engine, the network or a write to the disk. docs/design.md, section 7.
"""

from collections.abc import Callable

from securechat.clean import clean
from securechat.client.commands import Command
from securechat.client.engine import Engine
from securechat.client.events import Event, Transfer
from securechat.client.link.runner import Runner
from securechat.client.message import Message
from securechat.client.parts import Parts
from securechat.client.preferences import Preference
from securechat.client.query import Query
from securechat.client.settings import ClientSettings
from securechat.client.snapshot import ConversationSnapshot, Invitation
from securechat.client.vault.folding import Folding
from securechat.client.vault.vault import Vault
from securechat.errors import UsageError
from securechat.names import normalise_title


class ChatClient:
    """One account at one server. Every method may be called from any thread."""

    clean: Callable[[str], str] = staticmethod(clean)
    """What front ends show of a text of others."""

    def __init__(
        self, settings: ClientSettings, vault: Vault, *, on_event: Callable[[Event], None], parts: Parts = Parts()
    ) -> None:
        """`on_event` is called on the client's own thread, in the order in which things happened; `Ended` is the last.

        The vault's opener closes it, after `Ended`. Raises `UsageError` or `StorageError`.
        """
        trusted = vault.authorities.current()
        if settings.ca_file is not None and settings.pin:
            raise UsageError("Name either the CA's file or its pin, not both.")
        if settings.ca_file is None and not settings.ca_pin and trusted is None:
            raise UsageError("Name the CA's file or its pin: it is how the server is known.")
        self.clean = parts.clean
        self._engine = Engine(settings, vault, parts=parts)
        self._reader = vault.reader()
        known = [] if trusted is None else [trusted]
        self._runner = Runner(settings, known, self._engine, Folding(vault), on_event, parts.trust, parts.network)
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
        """Return all conversations, oldest first, but those with somebody whom the user does not hear."""
        return [each for each in self._engine.snapshot.conversations.values() if not each.unheard]

    def blocked(self) -> tuple[str, ...]:
        """Return the accounts that are blocked, sorted."""
        return self._engine.snapshot.blocked

    def prefers(self, name: Preference) -> str:
        """Return what the user prefers where nothing else was said."""
        return self._engine.snapshot.prefers(name)

    def conversation(self, conversation: bytes) -> ConversationSnapshot | None:
        """Return a conversation by its id, or by the one it had at first."""
        return self._engine.snapshot.get(conversation)

    def find(self, name: str) -> ConversationSnapshot | None:
        """Return the one called so: `#room`, a title, or an account. Raises `UsageError` for no proper name."""
        return self._engine.snapshot.find(normalise_title(name))

    def called(self, name: str) -> tuple[ConversationSnapshot, ...]:
        """Return all conversations under a name, over and not: the one that counts last, the others by age.

        Raises `UsageError` for no proper name.
        """
        return self._engine.snapshot.called(normalise_title(name))

    def invitations(self) -> list[Invitation]:
        """Return the invitations that wait for an answer."""
        return list(self._engine.snapshot.invitations.values())

    def transfers(self) -> tuple[Transfer, ...]:
        """Return the files that are being sent or saved, the oldest first."""
        return self._engine.transfers

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

    def past(self, name: str, limit: int, *, before: int = 0, after: int = 0) -> list[Message]:
        """Return the newest `limit` lines under a name, or those before or after a line, oldest first.

        Under a name is all that was said to a person or in a room of that name, in whichever conversation: a new one
        begins where somebody has left or ended the one before, or has got another key. Lines follow each other by
        conversation (`called`). Raises `UsageError` for no proper name, or a line that is not there.
        """
        return self._reader.past([each.id for each in self.called(name)], limit, before=before, after=after)

    def search(self, query: Query, limit: int, before: int = 0) -> list[Message]:
        """Return the newest `limit` lines that a query fits, newest first; with `before`, of those before that line.

        Raises `UsageError` if it cannot be looked for, or there is no conversation of that name.
        """
        found = self._engine.snapshot.called(query.where) if query.where else ()
        if query.where and not found:
            raise UsageError(f"You have no conversation {query.where}: nothing can be found in it.")
        return self._reader.search(query, [each.id for each in found], before, limit)

    def unread(self, after: int, limit: int) -> list[Message]:
        """Return the oldest `limit` lines of others after line `after` that no front end has shown, as they arrived."""
        return self._reader.unread(max(after, self._reader.shown()), limit)

    def unread_counts(self) -> dict[bytes, tuple[int, int]]:
        """Return how many lines of others have come in since the user was last in a conversation (`Visit`), by its id,
        and the local id of the newest of them.
        """
        return self._reader.unread_counts()

    def first_unread(self, conversation: bytes) -> int:
        """Return the local id of the first of these lines in a conversation; 0: there is none."""
        return self._reader.first_unread(conversation)

    def place(self) -> ConversationSnapshot | None:
        """Return the conversation in which the user was last, if there is one."""
        return self.conversation(self._reader.place())
