"""Reads a capture as the pcapng draft says, and what it carries as IP, TCP and TLS 1.3 say: by itself, nothing shared
with what writes it."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.tls_records import Writer

Block = tuple[int, bytes]


def blocks(data: bytes) -> Iterator[Block]:
    """Type and body of each block; its length stands at both ends and is a multiple of four."""
    position = 0
    while position < len(data):
        kind, length = struct.unpack_from("<II", data, position)
        assert length % 4 == 0
        assert length >= 12
        assert position + length <= len(data)
        assert struct.unpack_from("<I", data, position + length - 4) == (length,)
        yield kind, data[position + 8 : position + length - 4]
        position += length


@dataclass
class Stream:
    """One TCP connection: what each side has sent."""

    sent: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))
    next: list[int] = field(default_factory=lambda: [-1, -1])
    encrypted: bool = False
    times: list[float] = field(default_factory=list)
    ended: int = 0
    secrets_first: bool = False
    """Whether its secrets stood before the first record that its client has encrypted: who reads on needs them then."""


@dataclass
class Captured:
    """A capture as a whole."""

    streams: dict[tuple[int, int], Stream] = field(default_factory=dict)
    """By the ports of client and server."""
    secrets: dict[bytes, dict[str, bytes]] = field(default_factory=dict)
    """By the client's random bytes."""


def read(path: Path) -> Captured:
    """Read a file; whatever is not as it should be fails."""
    captured = Captured()
    first, second, *rest = blocks(path.read_bytes())
    kind, body = first
    assert (kind, struct.unpack_from("<IHHq", body)) == (0x0A0D0D0A, (0x1A2B3C4D, 1, 0, -1))
    kind, body = second
    assert (kind, struct.unpack_from("<HHI", body)) == (1, (101, 0, 0))  # raw IP, no limit to a packet
    for kind, body in rest:
        if kind == 10:
            secrets_type, length = struct.unpack_from("<II", body)
            assert secrets_type == 0x544C534B
            for line in body[8 : 8 + length].decode().splitlines():
                label, random, secret = line.split()
                captured.secrets.setdefault(bytes.fromhex(random), {})[label] = bytes.fromhex(secret)
        else:
            interface, high, low, kept, original = struct.unpack_from("<IIIII", body)
            assert (kind, interface, kept) == (6, 0, original)
            _packet(captured, body[20 : 20 + kept], ((high << 32) + low) / 1e6)
    return captured


def _sum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return total


def _packet(captured: Captured, packet: bytes, time: float) -> None:
    assert packet[0] == 0x45
    assert int.from_bytes(packet[2:4], "big") == len(packet)
    assert _sum(packet[:20]) == 0xFFFF  # RFC 1071: a right checksum makes this so
    segment = packet[20:]
    assert _sum(packet[12:20] + struct.pack(">HH", 6, len(segment)) + segment) == 0xFFFF
    source, target, sequence, _, offset, flags = struct.unpack_from(">HHIIBB", segment)
    data = segment[(offset >> 4) * 4 :]
    opens = flags & 2
    if opens and not flags & 16:
        captured.streams[source, target] = Stream()
    side = 0 if (source, target) in captured.streams else 1
    stream = captured.streams[(source, target) if side == 0 else (target, source)]
    assert stream.next[side] in (-1, sequence)
    if side == 0 and not stream.encrypted and data[:1] in (b"\x14", b"\x17"):
        stream.encrypted = True
        stream.secrets_first = bytes(stream.sent[0][11:43]) in captured.secrets
    stream.sent[side].extend(data)
    stream.next[side] = sequence + len(data) + bool(flags & 3)
    stream.times.append(time)
    stream.ended += flags & 1


CIPHERS = {0x1301: "TLS_AES_128_GCM_SHA256", 0x1302: "TLS_AES_256_GCM_SHA384", 0x1303: "TLS_CHACHA20_POLY1305_SHA256"}


def decrypted(captured: Captured, stream: Stream) -> tuple[bytes, bytes]:
    """What each side of a connection has sent inside TLS, opened with nothing but what the capture holds."""
    server_hello = bytes(stream.sent[1])[9:]  # behind the headers of record and handshake message
    cipher = CIPHERS[int.from_bytes(server_hello[35 + server_hello[34] :][:2], "big")]
    secrets = captured.secrets[bytes(stream.sent[0][11:43])]
    return (
        _opened(bytes(stream.sent[0]), cipher, secrets, "CLIENT"),
        _opened(bytes(stream.sent[1]), cipher, secrets, "SERVER"),
    )


def _opened(sent: bytes, cipher: str, secrets: dict[str, bytes], side: str) -> bytes:
    keys, content = Writer(cipher, secrets[f"{side}_HANDSHAKE_TRAFFIC_SECRET"]), b""
    while sent:
        kind, _, length = struct.unpack_from(">BHH", sent)
        header, record, sent = sent[:5], sent[5 : 5 + length], sent[5 + length :]
        if kind == 23:
            inner = keys.opened(header, record).rstrip(b"\0")
            if inner[-1] == 23:
                content += inner[:-1]
            elif inner[-1] == 22 and (inner[0] == 20 or b"\x14\0\0" in inner[:-36]):  # the last one: Finished
                keys = Writer(cipher, secrets[f"{side}_TRAFFIC_SECRET_0"])
    return content
