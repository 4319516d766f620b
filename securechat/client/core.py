"""The headless client: commands in, events out; no printing, no prompts, no assumption about the front end's threads.

`ChatClient` puts an `Engine`, which decides everything and does no I/O, under a lock, and a `Runner`, whose thread owns
the connection, beside it. Design, section 7.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from securechat.client.engine import Engine
from securechat.client.events import Conversation, Event, Message
from securechat.client.link.runner import Runner
from securechat.client.settings import ClientSettings
from securechat.client.vault.vault import Vault
from securechat.errors import UsageError


class ChatClient:
    """One account at one server.

    Every method may be called from any thread and returns at once; what comes of it arrives as events. A command that
    makes no sense raises `UsageError` and changes nothing; `StorageError` means that the vault cannot be written.
    """

    def __init__(self, settings: ClientSettings, vault: Vault, *, on_event: Callable[[Event], None]) -> None:
        """`on_event` is called on the client's own thread, in the order in which things happened; `Ended` is the last.

        Whoever opened the vault closes it, after `Ended`. Raises `UsageError` or `StorageError`.
        """
        if (settings.ca_file is None) == (not settings.pin):
            raise UsageError("Name either the CA's file or its pin: it is how the server is known.")
        if settings.register and settings.password is None:
            raise UsageError("An account needs a password.")
        self._lock = threading.RLock()
        self._engine = Engine(settings, vault)
        self._runner = Runner(settings, self._engine, self._lock, on_event)

    @property
    def account(self) -> str:
        """Our account."""
        return self._engine.account

    def start(self) -> None:
        """Connect, log in, catch up; stay connected until `close`."""
        self._runner.start()

    def close(self) -> None:
        """Say goodbye to the server. `Ended(None)` follows."""
        self._runner.close()

    @contextmanager
    def _command(self) -> Iterator[Engine]:
        with self._lock:
            yield self._engine
        self._runner.wake()

    # --- what is there --------------------------------------------------------------------------------------------

    def conversations(self) -> list[Conversation]:
        """Return all conversations, oldest first."""
        with self._lock:
            return self._engine.conversations()

    def find(self, name: str) -> Conversation | None:
        """Return the newest conversation called so: `#room`, or an account."""
        with self._lock:
            return self._engine.find(name)

    def history(self, conversation: bytes, limit: int) -> list[Message]:
        """Return the newest `limit` lines, oldest first; what the server has not accepted yet comes last."""
        with self._lock:
            return self._engine.history(conversation, limit)

    def unread(self, limit: int) -> list[Message]:
        """Return the oldest `limit` lines of others that no front end has shown, in order of arrival."""
        with self._lock:
            return self._engine.unread(limit)

    def mark_shown(self, local_id: int) -> None:
        """Note that the user has seen everything that came in up to a line."""
        with self._lock:
            self._engine.mark_shown(local_id)

    def safety_number(self, account: str) -> str:
        """Return the 60 digits to compare, in groups of five. Raises `UsageError` if no key is known yet."""
        with self._lock:
            return self._engine.safety_number(account)

    # --- talking --------------------------------------------------------------------------------------------------

    def send(self, conversation: bytes, text: str) -> int:
        """Say something. On return it is in the vault, and goes out when it can; `Delivered` has this local id."""
        with self._command() as engine:
            return engine.send(conversation, text)

    def open_direct(self, account: str, text: str = "", *, ask: bool) -> None:
        """Talk to somebody, in the conversation there is or in a new one; `ask`: they accept or decline first.

        Works for people who are offline, and while we are.
        """
        with self._command() as engine:
            engine.open_direct(account, text, ask=ask)

    def accept(self, conversation: bytes) -> None:
        """Say yes to somebody who asks to talk."""
        with self._command() as engine:
            engine.accept(conversation)

    def decline(self, conversation: bytes) -> None:
        """Say no to somebody who asks to talk."""
        with self._command() as engine:
            engine.decline(conversation)

    def bye(self, conversation: bytes) -> None:
        """Say goodbye in a direct conversation; it closes when both have."""
        with self._command() as engine:
            engine.bye(conversation)

    def leave(self, conversation: bytes) -> None:
        """Leave for good, after everything said before is in the log."""
        with self._command() as engine:
            engine.leave(conversation)

    def repair(self, conversation: bytes) -> None:
        """Enter a conversation anew that stands still."""
        with self._command() as engine:
            engine.repair(conversation)

    # --- rooms ----------------------------------------------------------------------------------------------------

    def join_room(self, name: str) -> None:
        """Enter an open room, which is made if there is none of that name."""
        with self._command() as engine:
            engine.join_room(name)

    def create_room(self, name: str) -> None:
        """Make an invite room that is ours."""
        with self._command() as engine:
            engine.create_room(name)

    def invite(self, conversation: bytes, account: str) -> None:
        """Add somebody to an invite room."""
        with self._command() as engine:
            engine.invite(conversation, account)

    def remove(self, conversation: bytes, account: str) -> None:
        """Remove somebody from a room that is ours."""
        with self._command() as engine:
            engine.remove(conversation, account)

    def list_rooms(self) -> None:
        """Ask for the rooms one could enter: comes as `RoomList`."""
        with self._command() as engine:
            engine.list_rooms()

    def list_members(self, conversation: bytes) -> None:
        """Ask who is in a conversation, and online: comes as `MemberList`."""
        with self._command() as engine:
            engine.list_members(conversation)

    # --- trust ----------------------------------------------------------------------------------------------------

    def verify(self, account: str) -> None:
        """Note that the safety number of an account was compared."""
        with self._command() as engine:
            engine.verify(account)

    def trust(self, account: str) -> None:
        """Accept the changed key of an account without comparing it."""
        with self._command() as engine:
            engine.trust(account)
