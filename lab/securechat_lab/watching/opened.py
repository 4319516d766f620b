"""A capture of ours, read again: what each connection has carried, and with the secrets in the file, what inside TLS.

Only what `capture` writes is read: raw IPv4 and TCP with headers of 20 bytes each, every segment once and in order.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from securechat_lab.watching.capture import DECRYPTION_SECRETS, ENHANCED_PACKET
from securechat_lab.watching.tls13 import Records, Session, Side


class Block(NamedTuple):
    """A block of pcapng."""

    kind: int
    body: bytes


class Stream(NamedTuple):
    """What client and server have sent on one connection."""

    up: bytes
    down: bytes


def blocks(capture: bytes) -> Iterator[Block]:
    """Cut a capture into its blocks."""
    at = 0
    while at < len(capture):
        kind, length = struct.unpack_from("<II", capture, at)
        yield Block(kind, capture[at + 8 : at + length - 4])
        at += length


def joined(given: list[Block]) -> bytes:
    """The way back."""
    lengths = ((each, len(each.body) + 12) for each in given)
    return b"".join(struct.pack("<II", each.kind, n) + each.body + struct.pack("<I", n) for each, n in lengths)


def on_the_wire(capture: bytes) -> list[Stream]:
    """Return what each connection has carried, in the order in which they began."""
    sent: dict[tuple[int, int], tuple[bytearray, bytearray]] = {}
    for kind, body in blocks(capture):
        if kind == ENHANCED_PACKET:
            source, target = struct.unpack_from(">HH", body, 40)  # behind times and lengths, and the IP header
            side = int((target, source) in sent)  # the client comes first
            ends = (target, source) if side else (source, target)
            data = body[60 : 20 + int.from_bytes(body[12:16], "little")]
            sent.setdefault(ends, (bytearray(), bytearray()))[side].extend(data)
    return [Stream(bytes(up), bytes(down)) for up, down in sent.values()]


def inside(capture: bytes) -> list[Stream]:
    """Return what each connection has carried inside TLS, as far as the capture holds the secrets."""
    secrets = b"".join(body[8 : 8 + int.from_bytes(body[4:8], "little")] for body in secret_blocks(capture))
    return [_opened(stream, secrets.splitlines(keepends=True)) for stream in on_the_wire(capture)]


def secret_blocks(capture: bytes) -> list[bytes]:
    """Return the bodies of the blocks that hold secrets."""
    return [body for kind, body in blocks(capture) if kind == DECRYPTION_SECRETS]


def _opened(stream: Stream, key_log: list[bytes]) -> Stream:
    session = Session()
    # The server's handshake can be read only once both hellos are known, and its traffic depends on nothing else.
    sides: tuple[Side, Side] = (0, 1)
    records = [list(Records().receive(stream[side])) for side in sides]
    for side in sides:
        session.open(side, records[side][0])
    session.learn(b"".join(line for line in key_log if session.client_random.hex().encode() in line))
    up, down = (b"".join(session.open(side, each).data for each in records[side][1:]) for side in sides)
    return Stream(up, down)
