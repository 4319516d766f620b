"""The chat of old: plain text over TCP, two threads a client, five seats, a queue for the rest.

    client    LOGIN name password          and then messages: lines, ended by a dot alone
    server    * welcome, name              * full: you are number n
              * name has come              * name has left
              name: line                   * processed, send the next

It is here to be read by others on the wire, and nobody should run anything like it.
"""

import contextlib
import queue
import socket
import threading
from typing import Final

from securechat_lab.cast.listener import Listener

SEATS: Final = 5
BEHIND: Final = 1000
"""Lines that wait for a client that does not read; then it is cut off, and holds up nobody."""
MAX_LINE: Final = 4096
"""Characters."""


class _Client:
    """One connection. Whatever it is told goes through a queue, which a thread of its own empties."""

    def __init__(self, chat: "OldChat", link: socket.socket) -> None:
        self._chat = chat
        self._link = link
        self._out: queue.Queue[str | None] = queue.Queue(BEHIND)
        self._writer = threading.Thread(target=self._write, daemon=True)
        self.name = ""

    def tell(self, text: str | None) -> None:
        """Put it into the queue; None: that was all."""
        try:
            self._out.put_nowait(text)
        except queue.Full:
            self.cut()

    def cut(self) -> None:
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            while (text := self._out.get()) is not None:
                self._link.sendall(f"{text}\n".encode())

    def serve(self) -> None:
        """Read what it says, until it leaves and has been told all."""
        self._writer.start()
        seated = False
        reading = self._link.makefile("r", errors="replace", newline="\n")
        with contextlib.suppress(OSError, ValueError), reading as lines:
            word, self.name, _ = lines.readline(MAX_LINE).strip().split(" ", 2)
            if word == "LOGIN":
                seated = self._chat.seat(self)
                message: list[str] = []
                while line := lines.readline(MAX_LINE):
                    if line != ".\n":
                        message.append(f"{self.name}: " + line.removesuffix("\n"))
                        continue
                    self._chat.tell("\n".join(message), but=self)
                    self.tell("* processed, send the next")
                    message.clear()
        self._chat.leave(self, seated=seated)
        self.tell("* goodbye")
        self.tell(None)
        self._writer.join()


class OldChat(Listener):
    """The server, on `port` of this machine; a context manager."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()  # guards both lists, and the order in which all are told
        self._seated: list[_Client] = []
        self._waiting: list[_Client] = []

    def serve(self, link: socket.socket) -> None:
        """Serve one client."""
        _Client(self, link).serve()

    def seat(self, client: _Client) -> bool:
        """Give a client a seat, in the order in which they came."""
        with self._changed:
            self._waiting.append(client)
            if len(self._seated) >= SEATS:
                client.tell(f"* full: you are number {len(self._waiting)}")
            self._changed.wait_for(lambda: len(self._seated) < SEATS and self._waiting[0] is client)
            self._seated.append(self._waiting.pop(0))
            self._changed.notify_all()
            client.tell(f"* welcome, {client.name}")
            self.tell(f"* {client.name} has come", but=client)
        return True

    def leave(self, client: _Client, *, seated: bool) -> None:
        """Take the seat back."""
        with self._changed:
            if seated:
                self._seated.remove(client)
                self.tell(f"* {client.name} has left", but=client)
            self._changed.notify_all()

    def tell(self, text: str, but: _Client) -> None:
        """Say something to all others."""
        with self._changed:
            for each in self._seated:
                if each is not but:
                    each.tell(text)
