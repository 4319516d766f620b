"""TLS 1.3 records of one's own making (RFC 8446, 5.2 and 7), as no TLS library would send them.

A real client makes the connection; from then on its records are made here, by the secret that it writes into its key
log.
"""

import ssl
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from securechat.transport.tls_connection import TLSConnection
from securechat_lab.cast.wire_client import WireClient

HANDSHAKE, APPLICATION_DATA = 22, 23

_CIPHERS: dict[str, tuple[Any, Callable[[bytes], Any], int]] = {
    "TLS_AES_128_GCM_SHA256": (SHA256, AESGCM, 16),
    "TLS_AES_256_GCM_SHA384": (SHA384, AESGCM, 32),
    "TLS_CHACHA20_POLY1305_SHA256": (SHA256, ChaCha20Poly1305, 32),
}


class Writer:
    """What a client sends: content of any type, under the keys of its traffic secret."""

    def __init__(self, cipher: str, secret: bytes) -> None:
        self._hash, self._aead, self._key_length = _CIPHERS[cipher]
        self._start(secret)

    def _start(self, secret: bytes) -> None:
        self._secret = secret
        self._cipher = self._aead(self._expand(b"key", self._key_length))
        self._iv = self._expand(b"iv", 12)
        self.sequence = 0

    def _expand(self, label: bytes, length: int) -> bytes:
        label = b"tls13 " + label
        info = struct.pack(">HB", length, len(label)) + label + b"\0"
        return HKDFExpand(self._hash(), length, info).derive(self._secret)

    def record(self, content: bytes, kind: int = APPLICATION_DATA) -> bytes:
        header = struct.pack(">BHH", APPLICATION_DATA, 0x0303, len(content) + 17)
        nonce = (int.from_bytes(self._iv, "big") ^ self.sequence).to_bytes(12, "big")
        self.sequence += 1
        return header + bytes(self._cipher.encrypt(nonce, content + bytes([kind]), header))

    def opened(self, header: bytes, body: bytes) -> bytes:
        """Of somebody with the same secret: what is in their next record, with type and padding behind it."""
        nonce = (int.from_bytes(self._iv, "big") ^ self.sequence).to_bytes(12, "big")
        self.sequence += 1
        return bytes(self._cipher.decrypt(nonce, body, header))

    def key_update(self, *, answer: bool) -> bytes:
        """Renew our keys; `answer`: and ask the other side to renew its own."""
        record = self.record(bytes([24, 0, 0, 1, answer]), HANDSHAKE)
        self._start(self._expand(b"traffic upd", self._hash.digest_size))
        return record


class _Ours:
    """In the place of a client's TLS: it reads as before, and writes by a `Writer`."""

    established = True

    def __init__(self, tls: TLSConnection, writer: Writer) -> None:
        self._tls = tls
        self._writer = writer
        self._outgoing = b""

    def receive(self, data: bytes) -> bytes:
        return self._tls.receive(data)

    def write(self, plaintext: bytes) -> None:
        for start in range(0, len(plaintext), 16 << 10):
            self._outgoing += self._writer.record(plaintext[start : start + (16 << 10)])

    def data_to_send(self) -> bytes:
        data, self._outgoing = self._outgoing, b""
        return data

    def shown(self) -> bytes:
        return self._tls.shown()


def take_over(client: WireClient, log: Path) -> Writer:
    """Make all further records of a client that has just said hello; `log`: the key log of its context."""
    secrets = [line.split() for line in log.read_text().splitlines() if line.startswith("CLIENT_TRAFFIC_SECRET_0 ")]
    cipher = client.tls._tls.cipher()
    assert cipher is not None
    writer = Writer(cipher[0], bytes.fromhex(secrets[-1][2]))
    writer.sequence = 1  # the hello
    client.tls = _Ours(client.tls, writer)  # type: ignore[assignment]  # all that it needs
    return writer


def with_key_log(context: ssl.SSLContext, log: Path) -> ssl.SSLContext:
    """Have a context write down the secrets of its connections."""
    context.keylog_filename = str(log)
    return context
