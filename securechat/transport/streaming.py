"""TLS over a socket that does not wait: its handshake, and reading and sending without blocking."""

import selectors
import socket
import ssl
from typing import Final

from securechat.errors import PeerError
from securechat.transport.deadline import Deadline
from securechat.transport.tls_connection import TLSConnection

RECEIVE_SIZE: Final = 256 << 10
"""Bytes read at once."""


def receive(link: socket.socket) -> bytes | None:
    """Return received bytes; no bytes at the end of the stream; None if there are none yet."""
    try:
        return link.recv(RECEIVE_SIZE)
    except BlockingIOError:
        return None


def send(link: socket.socket, data: bytes | memoryview) -> int:
    """Send as much as the socket takes at once; return how many bytes."""
    try:
        return link.send(data) if data else 0
    except BlockingIOError:
        return 0


def shake_hands(link: socket.socket, tls: TLSConnection, deadline: Deadline) -> bytes:
    """Complete the handshake. Return the bytes that the peer has sent after it. Raises OSError, PeerError."""
    early = b""
    with selectors.DefaultSelector() as selector:
        selector.register(link, selectors.EVENT_READ)
        unsent = tls.data_to_send()
        while not tls.established or unsent:
            unsent = unsent[send(link, unsent) :]
            selector.modify(link, selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0))
            selector.select(deadline.remaining())
            received = receive(link)
            if received == b"":
                raise ConnectionResetError("closed during the handshake")
            try:
                early += tls.receive(received or b"")
            except (ssl.SSLError, PeerError):
                send(link, tls.data_to_send())  # perhaps an alert that says why we refuse
                raise
            unsent += tls.data_to_send()
    return early
