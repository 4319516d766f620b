"""TLS without I/O: ciphertext in, plaintext out, and back, over memory BIOs (docs/design.md, section 5, TLS).

One `receive` takes as many records as one `recv` brought, one `data_to_send` gives as many as one `send` can take:
batched this way a message costs a quarter of what an `SSLSocket` costs. Only the thread that owns the connection may
call anything here (docs/design.md, invariant 10).
"""

import contextlib
import ssl
from collections.abc import Callable

from securechat.transport.certificate_files import CA
from securechat.transport.records import RecordCounter
from securechat.transport.tls import check_protocol, digest_of, verified_by

_READ_SIZE = 64 << 10
"""Bytes. One call of `read` returns one record, at most 16 KiB; asking for more costs nothing."""


class TLSConnection:
    """One side of a TLS connection whose bytes somebody else carries."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        check: Callable[[ssl.SSLObject], None] = check_protocol,
    ) -> None:
        """The client's side checks the certificate for `server_hostname`, if its context has it do so.

        `check` raises PeerError if something else about the peer is wrong, once hands are shaken.
        """
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._check = check
        self.counted = RecordCounter()
        """The records that the peer has sent, those of the handshake included."""
        self.established = False
        self.ended = False  # the peer has sent its close_notify
        if not server_side:
            self._handshake()  # the client speaks first

    def receive(self, ciphertext: bytes) -> bytes:
        """Return the plaintext that has become complete; empty during the handshake.

        Raises ssl.SSLError when TLS refuses the peer, PeerError when it speaks another protocol inside or sends too
        many records without content; an alert for it may then wait in `data_to_send`. `established` turns true once
        application data can be written.
        """
        plaintext: list[bytes] = []
        begin, size, counted = 0, len(ciphertext), self.counted
        while begin < size and not self.ended:
            records, before = counted.records, len(plaintext)
            end = counted.advance(ciphertext, begin)
            whole = end - begin == size  # as nearly always: nothing is copied
            self._incoming.write(ciphertext if whole else ciphertext[begin:end])
            begin = end
            if not self.established:
                self._handshake()
            if self.established:
                self._read(plaintext)
            content = len(plaintext) - before
            counted.with_content += content
            if counted.records - records > content:
                counted.check()
        return plaintext[0] if len(plaintext) == 1 else b"".join(plaintext)

    def _read(self, plaintext: list[bytes]) -> None:
        """Add the content of each record that is complete."""
        try:
            while self._incoming.pending:  # cheaper than to read until it fails
                content = self._tls.read(_READ_SIZE)
                if not content:  # close_notify
                    self.ended = True
                    return
                plaintext.append(content)
        except ssl.SSLWantReadError:  # less than a record is left
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True

    def shown(self) -> bytes:
        """Once it is established: the `digest_of` the peer's certificate. Raises PeerError if it has shown none."""
        return digest_of(self._tls.getpeercert(binary_form=True))

    def verified_by(self) -> CA:
        """On the client's side, once it is established: the CA that has signed for the server."""
        return verified_by(self._tls)

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
        self._check(self._tls)
        self.established = True
