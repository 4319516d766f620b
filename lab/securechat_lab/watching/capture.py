"""Captures: what passes, as a pcapng file that holds the TLS secrets, so that `tshark` shows what is inside unasked.

Format: draft-ietf-opsawg-pcapng. Packets are raw IPv4 (LINKTYPE_RAW) with TCP headers of our own: a proxy sees bytes
and not packets, so the segments are cut here, at 1,400 bytes, and none is ever lost or sent again.
"""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from securechat.errors import StorageError
from securechat.files import PRIVATE
from securechat_lab.watching.tls13 import Side

SECTION_HEADER, INTERFACE, ENHANCED_PACKET, DECRYPTION_SECRETS = 0x0A0D0D0A, 1, 6, 10
TLS_KEY_LOG: Final = 0x544C534B
"""The type of secrets: lines of a key log."""

BEGINNING: Final = SECTION_HEADER.to_bytes(4, "little")
"""Of every capture: it reads the same in both byte orders."""

LINKTYPE_RAW: Final = 101
SEGMENT: Final = 1400
"""Bytes of data in a packet: what fits on an Ethernet, with room for tunnels."""

MAX_CAPTURE: Final = 64 << 20
"""Bytes of a file: an hour of typing people; a flood stops here, and the connections go on without being captured."""

_FIN, _SYN, _PUSH, _ACK = 0x01, 0x02, 0x08, 0x10
_USER_APPLICATION: Final = 4


class Capture:
    """A file that is whole after each packet. One thread at a time. The path is replaced if it is there."""

    def __init__(self, path: Path) -> None:
        """Raises StorageError."""
        try:
            path.unlink(missing_ok=True)
            self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb")
        except OSError as error:
            raise StorageError(f"cannot write the capture {path}: {error.strerror or error}") from error
        self.path = path
        self.full = False  # nothing more is written: the file is as long as it may be, or the disk has no room
        self._size = 0
        name = b"securechat lab"
        self._block(
            SECTION_HEADER,
            struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)  # byte order, version, and a section of unknown length
            + struct.pack("<HH", _USER_APPLICATION, len(name)) + _padded(name) + bytes(4),
        )  # fmt: skip
        self._block(INTERFACE, struct.pack("<HHI", LINKTYPE_RAW, 0, 0))  # times in microseconds; no limit to a packet
        self.flush()

    def secrets(self, key_log: bytes) -> None:
        """Add lines of a key log. They have to stand before the packets that they open."""
        self._block(DECRYPTION_SECRETS, struct.pack("<II", TLS_KEY_LOG, len(key_log)) + _padded(key_log))

    def packet(self, packet: bytes, moment: float) -> None:
        """Add a packet; `moment`: when it passed, in seconds since 1970."""
        time = int(moment * 1e6)
        head = struct.pack("<IIIII", 0, time >> 32, time & 0xFFFFFFFF, len(packet), len(packet))
        self._block(ENHANCED_PACKET, head + _padded(packet))

    def flush(self) -> None:
        """What was added can be read from now on."""
        with self._stopping_when_the_disk_is_full():
            self._file.flush()

    def close(self) -> None:
        """Nothing more is added."""
        with self._stopping_when_the_disk_is_full():
            self._file.close()

    def _block(self, kind: int, body: bytes) -> None:
        length = len(body) + 12
        self.full = self.full or self._size + length > MAX_CAPTURE
        if not self.full:
            self._size += length
            with self._stopping_when_the_disk_is_full():
                self._file.write(struct.pack("<II", kind, length) + body + struct.pack("<I", length))

    @contextmanager
    def _stopping_when_the_disk_is_full(self) -> Iterator[None]:
        """Whoever is captured is not harmed by that."""
        try:
            yield
        except OSError:
            self.full = True


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


Address = tuple[str, int]


class Flow:
    """One TCP connection in a capture, as it would look on a wire: it opens, carries segments, and ends."""

    def __init__(self, capture: Capture, client: Address, server: Address, moment: float) -> None:
        """`moment` here and below: seconds since 1970."""
        self._capture = capture
        self._ends = (client, server)
        self._next = [1000, 5000]  # sequence numbers; where they begin means nothing
        self._segment(0, _SYN, b"", moment)
        self._segment(1, _SYN | _ACK, b"", moment)
        self._segment(0, _ACK, b"", moment)

    def data(self, side: Side, data: bytes, moment: float) -> None:
        """A side has sent bytes."""
        for start in range(0, len(data), SEGMENT):
            self._segment(side, _PUSH | _ACK, data[start : start + SEGMENT], moment)

    def end(self, moment: float) -> None:
        """Both sides have ended."""
        self._segment(0, _FIN | _ACK, b"", moment)
        self._segment(1, _FIN | _ACK, b"", moment)
        self._segment(0, _ACK, b"", moment)

    def _segment(self, side: int, flags: int, data: bytes, moment: float) -> None:
        (source, source_port), (target, target_port) = self._ends[side], self._ends[1 - side]
        ends = socket.inet_aton(source) + socket.inet_aton(target)
        seen = self._next[1 - side] if flags & _ACK else 0
        head = struct.pack(
            ">HHIIBBHHH", source_port, target_port, self._next[side], seen, 5 << 4, flags, 65535, 0, 0
        )  # fmt: skip
        check = _checksum(ends + struct.pack(">BBH", 0, socket.IPPROTO_TCP, len(head) + len(data)) + head + data)
        segment = head[:16] + struct.pack(">H", check) + head[18:] + data
        packet = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0x4000, 64, socket.IPPROTO_TCP, 0) + ends
        packet = packet[:10] + struct.pack(">H", _checksum(packet)) + packet[12:]
        self._capture.packet(packet + segment, moment)
        self._next[side] = (self._next[side] + len(data) + bool(flags & (_SYN | _FIN))) & 0xFFFFFFFF


def _checksum(data: bytes) -> int:
    """The Internet checksum. RFC 1071."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
