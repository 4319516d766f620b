"""Extensions (RFC 9420, section 13.4) and the ones that the RFC itself defines.

A list never holds two extensions of one type: such a list is neither written nor read. Unknown types are carried along.
"""

from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache
from typing import Self

from securechat.errors import DecodeError, UsageError
from securechat.mls.credential import Credential
from securechat.mls.crypto.suite import CipherSuite
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value


class ExtensionType(IntEnum):
    """Types that every client supports, so that capabilities do not list them (section 7.2)."""

    APPLICATION_ID = 1
    RATCHET_TREE = 2
    REQUIRED_CAPABILITIES = 3
    EXTERNAL_PUB = 4
    EXTERNAL_SENDERS = 5


DEFAULT_EXTENSION_TYPES = frozenset(int(kind) for kind in ExtensionType)


@value
class Extension(Struct):
    """A type, known or not, and its data."""

    type: int
    data: bytes

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """`uint16` and `opaque<V>`."""
        return cls(reader.u16(), reader.vector())

    def write(self, writer: Writer) -> None:
        """`uint16` and `opaque<V>`."""
        writer.u16(self.type).vector(self.data)


Extensions = tuple[Extension, ...]


def read_extensions(reader: Reader) -> Extensions:
    """`Extension extensions<V>`. Raises `DecodeError` if a type occurs twice (section 13.4)."""
    extensions = reader.items(Extension.read)
    if _repeats(extensions):
        raise DecodeError("an extension type occurs twice in one list")
    return extensions


def write_extensions(writer: Writer, extensions: Extensions) -> Writer:
    """`Extension extensions<V>`. Raises `UsageError` if a type occurs twice (section 13.4): nobody could read that."""
    _check_own(extensions)
    return writer.structs(extensions)


def _check_own(extensions: Extensions) -> None:
    if _repeats(extensions):
        raise UsageError("an extension type occurs twice in one list")


def _repeats(extensions: Extensions) -> bool:
    return len({extension.type for extension in extensions}) < len(extensions)


def find_extension(extensions: Iterable[Extension], wanted: int) -> bytes | None:
    """The data of the extension of type `wanted`, or None."""
    for extension in extensions:
        if extension.type == wanted:
            return extension.data
    return None


_ALL_TYPES = 2 * 65_536
"""Bytes of a list with every `uint16` in it once."""


@value
class RequiredCapabilities(Struct):
    """What each member must support beyond the defaults (section 11.1)."""

    extension_types: tuple[int, ...] = ()
    proposal_types: tuple[int, ...] = ()
    credential_types: tuple[int, ...] = ()

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Three vectors of `uint16`. Raises `DecodeError` if a type occurs twice in one."""
        kinds = [reader.items(Reader.u16, _ALL_TYPES) for _ in range(3)]
        if any(len(set(types)) < len(types) for types in kinds):
            raise DecodeError("a type occurs twice in a list of required capabilities")
        return cls(*kinds)

    def write(self, writer: Writer) -> None:
        """Three vectors of `uint16`."""
        for kinds in (self.extension_types, self.proposal_types, self.credential_types):
            writer.items(kinds, Writer.u16)


def required_capabilities(extensions: Extensions) -> RequiredCapabilities:
    """The requirement in a GroupContext's extensions; without the extension, an empty one."""
    data = find_extension(extensions, ExtensionType.REQUIRED_CAPABILITIES)
    return RequiredCapabilities() if data is None else _decode_requirement(data)


# Kept, because each member's leaf is compared with the same requirement.
_decode_requirement = lru_cache(maxsize=16)(RequiredCapabilities.decode)


@value
class ExternalSender(Struct):
    """Someone outside the group who may send proposals (section 12.1.8.1)."""

    signature_key: bytes
    credential: Credential

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Key and credential."""
        return cls(reader.vector(), Credential.read(reader))

    def write(self, writer: Writer) -> None:
        """Key and credential."""
        writer.vector(self.signature_key)
        self.credential.write(writer)


def external_senders(extensions: Extensions) -> tuple[ExternalSender, ...]:
    """The permitted outside senders in a GroupContext's extensions."""
    data = find_extension(extensions, ExtensionType.EXTERNAL_SENDERS)
    if data is None:
        return ()
    reader = Reader(data)
    senders = reader.items(ExternalSender.read)
    reader.done()
    return senders


def external_senders_extension(senders: Iterable[ExternalSender]) -> Extension:
    """Wrap the permitted outside senders, for a GroupContext."""
    return Extension(ExtensionType.EXTERNAL_SENDERS, bytes(Writer().structs(senders)))


def verify_group_extensions(suite: CipherSuite, extensions: Extensions) -> None:
    """Check the extensions that the RFC defines for a GroupContext, except external senders' credentials.

    Raises `DecodeError` if one does not parse, `InvalidMessage` if the key of an external sender is bad, `UsageError`
    if a type occurs twice: such a list was not read from anywhere.
    """
    _check_own(extensions)
    required_capabilities(extensions)
    for sender in external_senders(extensions):
        suite.signature.check_public_key(sender.signature_key)


def external_pub(extensions: Extensions) -> bytes | None:
    """The group's HPKE key for external joins in a GroupInfo's extensions (section 12.4.3.2)."""
    data = find_extension(extensions, ExtensionType.EXTERNAL_PUB)
    if data is None:
        return None
    reader = Reader(data)
    key = reader.vector()
    reader.done()
    return key


def external_pub_extension(public_key: bytes) -> Extension:
    """Wrap the group's HPKE key for external joins."""
    return Extension(ExtensionType.EXTERNAL_PUB, bytes(Writer().vector(public_key)))
