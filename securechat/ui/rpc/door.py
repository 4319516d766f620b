"""The owner's door: other programs of its user reach the core that has the vault open, each as a session.

What comes through is what `securechat rpc` takes, but commands that hold a password: those are for whoever sits at the
owner. A connection has two threads, one that reads and one that writes; events are handed to all from the core's own
thread, which waits for none of them: who does not read is cut off.
"""

import socket
import threading
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from queue import Full, Queue
from time import monotonic
from typing import TYPE_CHECKING, Final

from securechat.client.commands import Command
from securechat.client.events import Connected, Disconnected, Event, LoggedIn, PasswordWanted, Ready, Waiting
from securechat.client.vault.door_proof import DoorKey
from securechat.errors import TrustError
from securechat.ui.rpc import sockets

if TYPE_CHECKING:  # it brings the database and all of MLS with it
    from securechat.client.core import ChatClient

MAX_CONNECTIONS: Final = 32
"""At once: sixteen programs, each of which has two."""

MAX_UNREAD: Final = 1000
"""Lines that wait for one of them: then it is cut off."""

RETRY_SECONDS: Final = 1.0
"""When the system has refused to let anybody in, the next time."""

LEAVE_SECONDS: Final = 3.0
"""How long what was asked for may take to be answered when the owner ends."""

EVENTS: Final = b"e"
NO_EVENTS: Final = b"n"
"""What is said first on a connection: whether events are told on it, or not."""


class Door:
    """The socket of one open vault, and whoever has come in by it."""

    def __init__(self, vault: Path, key: DoorKey) -> None:
        """Open it; the caller holds the vault's lock. Raises OSError where there can be none."""
        self._key = key
        self._path = sockets.path_of(vault)
        self._listener = sockets.listen(self._path)
        self._changed = threading.Lock()  # held while the rest changes, and while an event is handed out
        self._state: list[Event] = []  # what somebody who comes now has missed
        self._inside: set[_Asker] = set()
        self._closed = threading.Event()

    def serve(self, client: "ChatClient") -> None:
        """Begin to let others in, to this core."""
        threading.Thread(target=self._accept, args=(client,), name="door", daemon=True).start()

    def event(self, event: Event) -> None:
        """Tell all of them. On the core's thread."""
        with self._changed:
            if isinstance(event, Disconnected):
                self._state = [event]
            elif isinstance(event, Connected | LoggedIn | Waiting | PasswordWanted | Ready):
                gone = (type(event), Disconnected if isinstance(event, Connected) else type(event))
                self._state = [*(each for each in self._state if type(each) not in gone), event]
            for asker in self._inside:
                asker.event(event)

    def close(self) -> None:
        """Let nobody in any more, answer what was asked for, and end all connections.

        Again, it waits until nobody gets in: whoever lets go of the vault then leaves its place to the next owner's.
        """
        with self._changed:
            if self._closed.is_set():
                return
            self._closed.set()
            inside = list(self._inside)
            with suppress(OSError):
                self._path.unlink()
            with suppress(OSError):  # wakes the thread that accepts
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        until = monotonic() + LEAVE_SECONDS
        for asker in inside:
            asker.end(max(0.0, until - monotonic()))

    def _accept(self, client: "ChatClient") -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:  # it is closed, or there is no descriptor left
                self._closed.wait(RETRY_SECONDS)
                continue
            asker = _Asker(self, client, connection)
            with self._changed:
                full = self._closed.is_set() or len(self._inside) >= MAX_CONNECTIONS
                if not full:
                    self._inside.add(asker)
            if full:
                connection.close()
                continue
            try:
                asker.start()
            except RuntimeError:  # the system allows no more threads
                self.leave(asker)

    def let_in(self, asker: "_Asker", connection: socket.socket) -> sockets.Sealed:
        """Have somebody prove that they can open the vault. Raises OSError or TrustError."""
        asker.sealed = sealed = sockets.admit(connection, self._key)
        listens = sealed.receive() == EVENTS
        with self._changed:
            for event in self._state if listens else ():
                asker.session.event(event)
            asker.listens = listens
        return sealed

    def leave(self, asker: "_Asker") -> None:
        """Somebody has gone."""
        asker.cut()
        with self._changed:
            self._inside.discard(asker)


class _Asker:
    """Somebody at the other end of a connection."""

    def __init__(self, door: Door, client: "ChatClient", connection: socket.socket) -> None:
        from securechat.ui.rpc.session import Session  # only here: few vaults are asked for

        self._door = door
        self._connection = connection
        self._out: Queue[bytes | None] = Queue(MAX_UNREAD)
        self.session = Session(client, self.put, refuses=refuses)
        self.sealed: sockets.Sealed | None = None  # until they are let in: before, nothing is put
        self.listens = False  # to events

    def start(self) -> None:
        """Serve them."""
        threading.Thread(target=self._read, name="door-reader", daemon=True).start()
        threading.Thread(target=self._write, name="door-writer", daemon=True).start()

    def put(self, line: bytes) -> None:
        """Have a line written."""
        try:
            self._out.put_nowait(line)
        except Full:
            self.cut()

    def event(self, event: Event) -> None:
        """Tell of an event, if they listen to events."""
        if self.listens:
            self.session.event(event)

    def end(self, seconds: float) -> None:
        """Answer what they have asked for, and end."""
        self.session.end_of_lines(seconds)
        try:
            self._out.put_nowait(None)  # behind what is still to be written
        except Full:
            self.cut()

    def cut(self) -> None:
        """End the connection at once."""
        self.session.give_up()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        from securechat.ui.rpc.lines import Lines

        try:
            sealed = self._door.let_in(self, self._connection)
            lines = Lines()
            while block := sealed.receive():
                for line in lines.take(block):
                    self.session.line(line)
        except (OSError, TrustError):
            pass  # they see that it has ended
        finally:
            self._door.leave(self)
            with suppress(Full):
                self._out.put_nowait(None)

    def _write(self) -> None:
        with self._connection:
            try:
                while (line := self._out.get()) is not None and self.sealed is not None:
                    self.sealed.send(line + b"\n")
            except OSError:
                pass
            self.cut()


def refuses(command: Command) -> str:
    """Say why a command does not come through the door; empty: it does."""
    if any(each.name == "password" for each in fields(command)):
        return "What holds a password is typed where your data is open, and does not come from another program."
    return ""
