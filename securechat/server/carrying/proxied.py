"""What a load balancer says of a client before the client's own bytes: version 2 of the PROXY protocol.

    signature   12 bytes, always the same
    version     half a byte, 2; then what it is: 0 the balancer itself, which looks whether we live, 1 somebody's bytes
    family      half a byte: 1 IPv4, 2 IPv6, or others; then the transport, 1 a stream
    length      2 bytes, big-endian, of the rest
    addresses   the client's and the balancer's: 4 or 16 bytes each; their ports: 2 bytes each
    more        of which nothing is taken

(haproxy.org, proxy-protocol.txt, section 2.2.) Without it all clients would seem to come from the balancer, and one of
them who guesses passwords would use up what all may do. Who may say it is the operator's to name (`trusted_proxies`):
anybody else could be anybody by it.
"""

import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from securechat.errors import PeerError

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
"""With which it begins; it fits no other protocol."""

MAX_ANNOUNCEMENT: Final = 536
"""Bytes of all of it: what the protocol says that fits through every network at once; HAProxy sends 28 or 52."""

ANNOUNCE_SECONDS: Final = 3.0
"""In which it has to come: it is sent with the connection, by a machine that is near."""

_FIXED: Final = len(SIGNATURE) + 4
_PORTS: Final = 4
_ADDRESS_LENGTHS: Final = {0x11: 4, 0x21: 16}  # by family and transport: a stream over IPv4 or IPv6


class Announcement:
    """One that is being read. The client's bytes behind it stay in the socket."""

    def __init__(self, sock: socket.socket, proxy: tuple[str, int], now: float) -> None:
        """`sock`: does not wait. `proxy`: from where it was connected. `now`: monotonic seconds."""
        self.socket = sock
        self.due = now + ANNOUNCE_SECONDS
        self._proxy = proxy
        self._read = b""

    def read(self) -> tuple[str, int] | None:
        """Read what has come. Return the client's address and port once it is known; for the balancer itself, its own.

        Raises `PeerError` if this is no announcement, or the connection has ended.
        """
        length = _FIXED
        while True:
            if len(self._read) >= _FIXED:
                length = _FIXED + int.from_bytes(self._read[_FIXED - 2 : _FIXED], "big")
            if len(self._read) == length:
                return self._address()
            try:
                data = self.socket.recv(length - len(self._read))
            except BlockingIOError:
                return None
            except OSError as error:
                raise PeerError(f"the connection has ended: {error.strerror}") from None
            self._read += data
            if not data:
                raise PeerError("the connection has ended")
            self._check()

    def _check(self) -> None:
        """Raise `PeerError` as soon as it cannot become one."""
        begun = self._read[: len(SIGNATURE)]
        if begun != SIGNATURE[: len(begun)]:
            raise PeerError("it does not begin with the PROXY protocol, version 2")
        if len(self._read) < _FIXED:
            return
        kind, length = self._read[len(SIGNATURE)], int.from_bytes(self._read[_FIXED - 2 : _FIXED], "big")
        if kind not in (0x20, 0x21):
            raise PeerError(f"its version and command are {kind:#x}")
        if _FIXED + length > MAX_ANNOUNCEMENT:
            raise PeerError(f"it would have {_FIXED + length} bytes, more than {MAX_ANNOUNCEMENT}")
        if length < self._needed:
            raise PeerError("its addresses are cut short")

    @property
    def _family(self) -> int:
        """Of the addresses; 0: there are none for us, and the balancer's own counts."""
        family = self._read[len(SIGNATURE) + 1]
        return family if self._read[len(SIGNATURE)] == 0x21 and family in _ADDRESS_LENGTHS else 0

    @property
    def _needed(self) -> int:
        """Bytes that addresses and ports take."""
        return 2 * _ADDRESS_LENGTHS[self._family] + _PORTS if self._family else 0

    def _address(self) -> tuple[str, int]:
        if not self._family:
            return self._proxy
        size = _ADDRESS_LENGTHS[self._family]
        address = self._read[_FIXED : _FIXED + size]
        port = self._read[_FIXED + 2 * size : _FIXED + 2 * size + 2]
        kind = IPv4Address if size == 4 else IPv6Address
        return str(kind(address)), int.from_bytes(port, "big")
