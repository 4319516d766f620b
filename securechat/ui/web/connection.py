"""One connection of a browser: its request, and the WebSocket that may follow. One thread reads, any thread may send.

The handshake and the frames are `websockets`' sans-I/O protocol; here are the socket, its deadlines and its bounds.
"""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Final

from websockets.exceptions import InvalidState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from securechat.ui.rpc.codec import MAX_LINE

KNOCK_SECONDS: Final = 10.0
"""How long somebody may take to say what they want, and to show a key: a browser takes milliseconds."""

MAX_KNOCK: Final = 256
"""Bytes of what is taken before a key was shown."""

MAX_MESSAGE: Final = MAX_LINE
"""Bytes of what is taken then: a command, or a part of a file."""

SEND_SECONDS: Final = 30.0
"""How long a page may take nothing of what it is told: it has gone to sleep, and comes back when it wakes."""

_BLOCK: Final = 65_536
_MAX_REQUEST: Final = 16_384  # bytes: what browsers send has some 600

_silent: Final = logging.getLogger("securechat.page")
_silent.disabled = True  # frames hold what people write: that is in no log


class Gone(Exception):  # noqa: N818  # it is no error: browsers go
    """The other side has gone, or was too slow."""


class Connection:
    """Somebody at the other end of a socket, which this closes in the end."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(KNOCK_SECONDS)  # of each call, and so of both threads
        self._protocol = ServerProtocol(max_size=MAX_KNOCK, logger=_silent)
        self._sending = threading.Lock()  # held while the protocol writes, and its bytes go out in order
        self._deadline: float | None = monotonic() + KNOCK_SECONDS
        self._taken = 0

    def request(self) -> Request:
        """Return what is asked for. Raises `Gone`."""
        while True:
            for event in self._receive():
                if isinstance(event, Request):
                    return event
            if self._protocol.handshake_exc is not None or self._taken > _MAX_REQUEST:
                raise Gone

    def respond(self, response: Response) -> None:
        """Answer a request, which ends the connection."""
        with suppress(OSError):  # closed with something unread, the system would take back what was said
            self._socket.sendall(response.serialize())
            self._socket.shutdown(socket.SHUT_WR)
            while self._socket.recv(_BLOCK) and monotonic() < (self._deadline or 0):
                pass

    def accept(self, request: Request) -> bool:
        """Open the WebSocket, or say that this is no handshake of one. Return which. Raises `Gone`."""
        response = self._protocol.accept(request)
        if self._protocol.state is not State.CONNECTING:  # more came behind the request, which is none
            raise Gone
        if response.status_code != 101:
            self.respond(response)
            return False
        with self._sending:
            self._protocol.send_response(response)
            self._flush()
        return True

    def let_in(self) -> None:
        """Somebody has shown a key: they have time from now on, and may send more."""
        self._deadline = None
        self._socket.settimeout(SEND_SECONDS)
        self._protocol.max_message_size = MAX_MESSAGE

    def messages(self) -> Iterator[str | bytes]:
        """Yield what comes, until the other side ends, is too slow or breaks the rules. Raises nothing."""
        begun = bytearray()
        kind = Opcode.TEXT
        while True:
            try:
                events = self._receive()
            except Gone:
                return
            for event in events:
                if not isinstance(event, Frame) or event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                    continue
                kind = event.opcode if event.opcode != Opcode.CONT else kind
                begun += event.data
                if event.fin:
                    whole = bytes(begun)
                    begun.clear()
                    if kind == Opcode.BINARY:
                        yield whole
                        continue
                    try:
                        yield whole.decode()
                    except UnicodeDecodeError:
                        self.end(CloseCode.INVALID_DATA, "This is not text.")
                        return

    def send(self, text: bytes) -> None:
        """Send text, in UTF-8. Raises `Gone`."""
        with self._sending:
            try:
                self._protocol.send_text(text)
            except InvalidState:
                raise Gone from None
            self._flush()

    def end(self, code: int, reason: str) -> None:
        """Say goodbye, and why (at most 123 bytes); who reads goes on to the end of the messages."""
        with suppress(Gone, InvalidState), self._sending:
            self._protocol.send_close(code, reason)
            self._flush()
        self._deadline = monotonic() + KNOCK_SECONDS

    def cut(self) -> None:
        """Have it end at once."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; only the thread that reads does."""
        self._socket.close()

    def _receive(self) -> list[object]:
        """Return the events of what comes next. Raises `Gone`."""
        while True:
            if self._deadline is not None and monotonic() > self._deadline:
                raise Gone
            try:
                data = self._socket.recv(_BLOCK)
                break
            except TimeoutError:  # a page may say nothing for hours
                continue
            except OSError:
                raise Gone from None
        self._taken += len(data)
        with self._sending:
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            events: list[object] = list(self._protocol.events_received())
            self._flush()  # pongs, and goodbyes
        if not data and not events:
            raise Gone
        return events

    def _flush(self) -> None:
        """Send what the protocol has to say. Requires the lock; raises `Gone`."""
        try:
            for data in self._protocol.data_to_send():
                if data:
                    self._socket.sendall(data)
                else:
                    self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            raise Gone from None
