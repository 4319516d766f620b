"""What two say to each other, in their encrypted conversation, to come together by a direct link.

    Offer   TLS{link[16], certificate<V>, Endpoint endpoints<V>}
    Answer  TLS{link[16], certificate<V>}
    Endpoint  TLS{address<V>: 4 or 16 bytes, port uint16}
"""

import ipaddress
from typing import Final

from securechat.client.direct.endpoints import MAX_ENDPOINTS, Endpoint
from securechat.errors import DecodeError
from securechat.tlscodec import Reader, Writer
from securechat.transport.mutual import MAX_CERTIFICATE
from securechat.value import value

LINK_ID_LENGTH: Final = 16
"""Bytes of a link's id, at random."""

_LENGTHS: Final = (4, 16)


@value
class Offer:
    """We listen there, and are whoever shows this certificate."""

    link: bytes
    certificate: bytes
    endpoints: tuple[Endpoint, ...]

    def __repr__(self) -> str:
        """Show no address."""
        return "Offer(...)"

    def __bytes__(self) -> bytes:
        """Encode it."""
        return bytes(Writer().opaque(self.link).vector(self.certificate).items(self.endpoints, _write))

    @classmethod
    def read(cls, data: bytes) -> "Offer":
        """Decode one. Raises DecodeError."""
        reader = Reader(data)
        link, certificate = reader.opaque(LINK_ID_LENGTH), reader.vector(MAX_CERTIFICATE)
        endpoints = reader.items(_read, most=MAX_ENDPOINTS)
        reader.done()
        return cls(link, certificate, endpoints)


@value
class Answer:
    """We come, and are whoever shows this certificate."""

    link: bytes
    certificate: bytes

    def __bytes__(self) -> bytes:
        """Encode it."""
        return bytes(Writer().opaque(self.link).vector(self.certificate))

    @classmethod
    def read(cls, data: bytes) -> "Answer":
        """Decode one. Raises DecodeError."""
        reader = Reader(data)
        link, certificate = reader.opaque(LINK_ID_LENGTH), reader.vector(MAX_CERTIFICATE)
        reader.done()
        return cls(link, certificate)


def _write(writer: Writer, endpoint: Endpoint) -> None:
    writer.vector(endpoint.address.packed).u16(endpoint.port)


def _read(reader: Reader) -> Endpoint:
    packed = reader.vector(16)
    if len(packed) not in _LENGTHS:
        raise DecodeError(f"an address has 4 or 16 bytes, not {len(packed)}")
    return Endpoint(ipaddress.ip_address(packed), reader.u16())
