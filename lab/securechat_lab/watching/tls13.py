"""TLS 1.3 as somebody on the way sees it: records; and with the secrets of a key log, what is in them. RFC 8446.

The key log is what `SSLContext.keylog_filename` writes (RFC 9850). Nothing here is checked against an attacker beyond
its bounds: who looks at a connection does not take part in it.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23

KINDS: Final = {
    CHANGE_CIPHER_SPEC: "change cipher spec", ALERT: "alert", HANDSHAKE: "handshake", APPLICATION_DATA: "data",
}  # fmt: skip

HEADER: Final = 5
"""Bytes in front of each record: type, version, length."""

MAX_RECORD: Final = (1 << 14) + 256
"""Bytes of an encrypted record, without its header (section 5.2)."""

MAX_HANDSHAKE: Final = 1 << 17
"""Bytes kept of a handshake message that comes in several records: no certificate that we meet is as long."""

MAX_KEY_LOG: Final = 4 << 20
"""Bytes of a key log that are read: the secrets of 5,000 connections."""

Side = Literal[0, 1]
"""Who sends: 0 the client, 1 the server."""


@dataclass(frozen=True)
class Record:
    """A TLS record as the network sees it, or bytes that are in no record: in the clear, for everybody to read."""

    kind: int
    """Its type, as it stands in front; 0: this is no record."""
    at: int
    """Where it begins in the TCP stream of its direction."""
    size: int
    """Bytes on the wire, header included."""
    body: bytes
    """What follows the header."""


class Records:
    """Cuts one direction of a connection into records. Keeps at most one incomplete record."""

    def __init__(self) -> None:
        self._partial = bytearray()
        self._at = 0
        self._clear = False

    def receive(self, data: bytes) -> Iterator[Record]:
        """Take bytes as they pass; yield the records that they complete. What is no TLS comes as it is."""
        if self._clear:
            if not _begins_a_handshake(data):  # as after STARTTLS: an upgrade begins with a segment of its own
                yield self._next(0, len(data), data)
                return
            self._clear = False
        self._partial += data
        while len(self._partial) >= HEADER:
            kind, version, length = struct.unpack_from(">BHH", self._partial)
            if kind not in KINDS or version >> 8 != 3 or length > MAX_RECORD:
                break
            if len(self._partial) < HEADER + length:
                return
            body = bytes(self._partial[HEADER : HEADER + length])
            del self._partial[: HEADER + length]
            yield self._next(kind, HEADER + length, body)
        if not self._partial or (len(self._partial) < HEADER and self._partial[0] in KINDS):
            return
        self._clear = True
        body = bytes(self._partial)
        self._partial.clear()
        yield self._next(0, len(body), body)

    def _next(self, kind: int, size: int, body: bytes) -> Record:
        record = Record(kind, self._at, size, body)
        self._at += size
        return record


def _begins_a_handshake(data: bytes) -> bool:
    return len(data) >= HEADER and data[0] == HANDSHAKE and data[1] == 3 and data[5:6] in (b"\x01", b"\x02")


class KeyLog:
    """The secrets that a client of ours writes down, read as the file grows. A file that is not there has none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._rest = b""
        self._lines: dict[bytes, list[bytes]] = {}

    def lines(self, client_random: bytes) -> bytes:
        """Return the lines of one connection, known by the random bytes of its ClientHello; empty: there are none."""
        self._read_on()
        return b"".join(line + b"\n" for line in self._lines.get(client_random.hex().encode(), ()))

    def _read_on(self) -> None:
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                data = file.read(MAX_KEY_LOG - self._read)
        except OSError:  # the client has not begun
            return
        self._read += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            fields = line.strip().split(b" ")
            if len(fields) == 3 and len(fields[1]) == 64:
                self._lines.setdefault(fields[1].lower(), []).append(line.strip())


class _Cipher(NamedTuple):
    hash: Any
    aead: Callable[[bytes], Any]
    key_size: int


_CIPHERS: Final = {
    0x1301: _Cipher(SHA256, AESGCM, 16),
    0x1302: _Cipher(SHA384, AESGCM, 32),
    0x1303: _Cipher(SHA256, ChaCha20Poly1305, 32),
}
"""TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256 (appendix B.4)."""


class _Keys:
    """What opens the records of one direction under one traffic secret (section 7.3)."""

    def __init__(self, cipher: _Cipher, secret: bytes) -> None:
        self._cipher, self._secret = cipher, secret
        self._aead = cipher.aead(self._expand(b"key", cipher.key_size))
        self._iv = int.from_bytes(self._expand(b"iv", 12), "big")
        self._sequence = 0

    def _expand(self, label: bytes, length: int) -> bytes:
        label = b"tls13 " + label
        info = struct.pack(">HB", length, len(label)) + label + b"\0"
        return HKDFExpand(self._cipher.hash(), length, info).derive(self._secret)

    def open(self, record: Record) -> tuple[int, bytes] | None:
        """Return the type and content of a record; None: it is not under these keys."""
        nonce = (self._iv ^ self._sequence).to_bytes(12, "big")
        header = struct.pack(">BHH", record.kind, 0x0303, len(record.body))
        try:
            plaintext = self._aead.decrypt(nonce, record.body, header).rstrip(b"\0")
        except (InvalidTag, ValueError):
            return None
        self._sequence += 1
        return (plaintext[-1], plaintext[:-1]) if plaintext else None

    def updated(self) -> "_Keys":
        """The keys after a KeyUpdate (section 7.2)."""
        return _Keys(self._cipher, self._expand(b"traffic upd", self._cipher.hash.digest_size))


class Opened(NamedTuple):
    """What is in a record."""

    kind: str
    """What it holds: `data` of the application, `handshake`, `alert`, ...; or why that is not known."""
    data: bytes
    """The application's bytes; empty for everything else."""


_CLIENT_HELLO, _SERVER_HELLO, _FINISHED, _KEY_UPDATE = 1, 2, 20, 24
_LABELS: Final = (
    ("CLIENT_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_TRAFFIC_SECRET_0"),
    ("SERVER_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0"),
)


class Session:
    """One connection, read along record by record with the secrets of its client."""

    def __init__(self) -> None:
        self.client_random = b""
        self._cipher: _Cipher | None = None
        self._secrets: dict[str, bytes] = {}
        self._keys: list[_Keys | None] = [None, None]
        self._messages = [bytearray(), bytearray()]

    def learn(self, key_log: bytes) -> None:
        """Take the lines of a key log for this connection."""
        for line in key_log.splitlines():
            label, _, secret = line.decode("ascii", "replace").split(" ")
            try:
                self._secrets[label] = bytes.fromhex(secret)
            except ValueError:
                continue

    def open(self, side: Side, record: Record) -> Opened:
        """Read the next record that a side has sent."""
        if record.kind == 0:
            return Opened("clear", record.body)
        if record.kind != APPLICATION_DATA:
            if record.kind == HANDSHAKE and self._keys[side] is None:
                self._read_handshake(side, record.body)
            return Opened(KINDS[record.kind], b"")
        keys = self._keys[side]
        if keys is None:
            secret = self._secrets.get(_LABELS[side][0])
            if self._cipher is None or secret is None:
                return Opened("encrypted", b"")
            keys = self._keys[side] = _Keys(self._cipher, secret)
        inner = keys.open(record)
        if inner is None:
            return Opened("encrypted", b"")
        kind, content = inner
        if kind == APPLICATION_DATA:
            return Opened(KINDS[kind], content)
        if kind == HANDSHAKE:
            self._read_handshake(side, content)
        return Opened(KINDS.get(kind, "unknown"), b"")

    def _read_handshake(self, side: Side, content: bytes) -> None:
        messages = self._messages[side]
        messages += content
        if len(messages) > MAX_HANDSHAKE:
            messages.clear()
        while len(messages) >= 4:
            length = int.from_bytes(messages[1:4], "big")
            if len(messages) < 4 + length:
                return
            kind, body = messages[0], bytes(messages[4 : 4 + length])
            del messages[: 4 + length]
            if kind == _CLIENT_HELLO:
                self.client_random = body[2:34]
            elif kind == _SERVER_HELLO and len(body) > 34:
                chosen = 35 + body[34]  # behind version, random and the session id
                self._cipher = _CIPHERS.get(int.from_bytes(body[chosen : chosen + 2], "big"))
            elif kind == _FINISHED and self._cipher is not None:
                secret = self._secrets.get(_LABELS[side][1])
                self._keys[side] = None if secret is None else _Keys(self._cipher, secret)
            elif kind == _KEY_UPDATE and (keys := self._keys[side]) is not None:
                self._keys[side] = keys.updated()
