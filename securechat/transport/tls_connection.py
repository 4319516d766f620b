"""TLS without I/O: ciphertext in, plaintext out, and back, over memory BIOs (docs/design.md, section 5, TLS).

One `receive` takes as many records as one `recv` brought, one `data_to_send` gives as many as one `send` can take:
batched this way a message costs a quarter of what an `SSLSocket` costs. Only the thread that owns the connection may
call anything here (docs/design.md, invariant 10).
"""

import contextlib
import ssl

from securechat.transport.tls import check_protocol

_READ_SIZE = 64 << 10
"""Bytes. One call of `read` returns one record, at most 16 KiB; asking for more costs nothing."""


class TLSConnection:
    """One side of a TLS connection whose bytes somebody else carries."""

    def __init__(self, context: ssl.SSLContext, *, server_hostname: str | None = None) -> None:
        """The client's side checks the certificate for `server_hostname`; the server's side has none."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )
        self.established = False
        self.ended = False  # the peer has sent its close_notify
        if server_hostname is not None:
            self._handshake()  # the client speaks first

    def receive(self, ciphertext: bytes) -> bytes:
        """Return the plaintext that has become complete; empty during the handshake.

        Raises ssl.SSLError when TLS refuses the peer, PeerError when it speaks another protocol inside; an alert for
        it may then wait in `data_to_send`. `established` turns true once application data can be written.
        """
        self._incoming.write(ciphertext)
        if not self.established:
            self._handshake()
            if not self.established:
                return b""
        plaintext = []
        try:
            while self._incoming.pending and not self.ended:  # cheaper than to read until it fails
                plaintext.append(self._tls.read(_READ_SIZE))
                self.ended = not plaintext[-1]  # a read of nothing: close_notify
        except ssl.SSLWantReadError:  # less than a record is left
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        return plaintext[0] if len(plaintext) == 1 else b"".join(plaintext)

    def write(self, plaintext: bytes) -> None:
        """Encrypt for the peer; `established` must be true."""
        if plaintext:  # OpenSSL takes an empty write for an error
            self._tls.write(plaintext)

    def close(self) -> None:
        """Add the notice that we will send no more (close_notify); the peer may still send."""
        if self.established:
            with contextlib.suppress(ssl.SSLError):  # the peer's own notice is missing, or its stream is broken
                self._tls.unwrap()

    def data_to_send(self) -> bytes:
        """Return the ciphertext to send to the peer, and forget it."""
        return self._outgoing.read()

    @property
    def has_data_to_send(self) -> bool:
        """Whether `data_to_send` would return anything."""
        return self._outgoing.pending > 0

    def _handshake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        check_protocol(self._tls)
        self.established = True
