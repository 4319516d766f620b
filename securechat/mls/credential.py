"""Credentials (RFC 9420, section 5.3): who a member says it is. The application judges them."""

from enum import IntEnum
from typing import Self

from securechat.errors import DecodeError
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value


class CredentialType(IntEnum):
    """The registered credential types."""

    BASIC = 1
    X509 = 2


@value
class Credential(Struct):
    """`identity` of a basic credential, or `certificates` (DER, end entity first) of an X.509 one."""

    type: CredentialType
    identity: bytes = b""
    certificates: tuple[bytes, ...] = ()

    @classmethod
    def basic(cls, identity: bytes) -> Self:
        """A basic credential: the application defines the identity's encoding."""
        return cls(CredentialType.BASIC, identity=identity)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """`uint16`, then what the type says. A type without a known body does not decode."""
        kind = reader.u16()
        if kind == CredentialType.BASIC:
            return cls(CredentialType.BASIC, identity=reader.vector())
        if kind == CredentialType.X509:
            return cls(CredentialType.X509, certificates=reader.items(Reader.vector))
        raise DecodeError(f"credential type {kind:#06x} is not known")

    def write(self, writer: Writer) -> None:
        """`uint16`, then what the type says."""
        writer.u16(self.type)
        if self.type == CredentialType.BASIC:
            writer.vector(self.identity)
        else:
            writer.items(self.certificates, Writer.vector)
