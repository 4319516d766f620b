"""Message framing: the structures, and the signature on them (RFC 9420, sections 6 to 6.3).

Membership tags and encryption are in `message_protection`, which needs secrets; nothing here does.
"""

from dataclasses import field, replace
from enum import IntEnum
from functools import cached_property
from typing import Self, TypeVar

from securechat.errors import DecodeError
from securechat.mls.commit import Commit
from securechat.mls.crypto.suite import CipherSuite
from securechat.mls.errors import InvalidMessage
from securechat.mls.group_context import GroupContext
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package import KeyPackage
from securechat.mls.leaf_node import MLS10, Sign
from securechat.mls.proposals import Proposal
from securechat.mls.tree_math import LeafIndex
from securechat.mls.welcome import Welcome
from securechat.tlscodec import Reader, Struct, Writer, keep
from securechat.value import value


class ContentType(IntEnum):
    """What a message holds."""

    APPLICATION = 1
    PROPOSAL = 2
    COMMIT = 3


class SenderType(IntEnum):
    """Who can have sent a message."""

    MEMBER = 1
    EXTERNAL = 2
    NEW_MEMBER_PROPOSAL = 3
    NEW_MEMBER_COMMIT = 4


class WireFormat(IntEnum):
    """The registered kinds of MLSMessage."""

    PUBLIC_MESSAGE = 1
    PRIVATE_MESSAGE = 2
    WELCOME = 3
    GROUP_INFO = 4
    KEY_PACKAGE = 5


def _content_type(reader: Reader) -> ContentType:
    try:
        return ContentType(reader.u8())
    except ValueError:
        raise DecodeError("a message has an unknown content type") from None


@value
class Sender(Struct):
    """The sender of a message. `index` is a leaf for members, a position in external_senders for EXTERNAL."""

    type: SenderType
    index: int = 0

    @classmethod
    def member(cls, leaf: LeafIndex) -> Self:
        """The member at a leaf."""
        return cls(SenderType.MEMBER, leaf)

    @property
    def leaf(self) -> LeafIndex | None:
        """The leaf of a member, else None."""
        return LeafIndex(self.index) if self.type == SenderType.MEMBER else None

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """The type, and an index if the type has one."""
        try:
            kind = SenderType(reader.u8())
        except ValueError:
            raise DecodeError("a message has an unknown sender type") from None
        return cls(kind, reader.u32() if kind in {SenderType.MEMBER, SenderType.EXTERNAL} else 0)

    def write(self, writer: Writer) -> None:
        """The type, and an index if the type has one."""
        writer.u8(self.type)
        if self.type in {SenderType.MEMBER, SenderType.EXTERNAL}:
            writer.u32(self.index)


Content = bytes | Proposal | Commit
"""Application data, a proposal, or a commit."""


def read_content(reader: Reader, content_type: ContentType) -> Content:
    """What FramedContent and PrivateMessageContent select by content type."""
    if content_type == ContentType.APPLICATION:
        return reader.vector()
    return Proposal.read(reader) if content_type == ContentType.PROPOSAL else Commit.read(reader)


def write_content(writer: Writer, content: Content) -> None:
    """The reverse of `read_content`."""
    if isinstance(content, bytes):
        writer.vector(content)
    else:
        content.write(writer)


@value
class FramedContent(Struct):
    """A message's content with what it is about: group, epoch, sender, authenticated data."""

    group_id: bytes
    epoch: int
    sender: Sender
    authenticated_data: bytes
    content: Content = field(repr=False)

    @property
    def content_type(self) -> ContentType:
        """Which of the three kinds `content` is."""
        if isinstance(self.content, bytes):
            return ContentType.APPLICATION
        return ContentType.PROPOSAL if isinstance(self.content, Proposal) else ContentType.COMMIT

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """The fields of section 6 in order."""
        start = reader.position
        group_id, epoch, sender = reader.vector(), reader.u64(), Sender.read(reader)
        framed = cls(group_id, epoch, sender, reader.vector(), read_content(reader, _content_type(reader)))
        return keep(framed, _encoding=reader.since(start))

    def write(self, writer: Writer) -> None:
        """The fields of section 6 in order."""
        writer.opaque(self._encoding)

    @cached_property
    def _encoding(self) -> bytes:
        """Kept, because signature, membership tag, transcript and message all cover it."""
        writer = Writer().vector(self.group_id).u64(self.epoch)
        self.sender.write(writer)
        writer.vector(self.authenticated_data).u8(self.content_type)
        write_content(writer, self.content)
        return bytes(writer)


@value
class FramedContentAuthData:
    """The signature, and for commits the confirmation tag (section 6.1)."""

    signature: bytes
    confirmation_tag: bytes | None = None

    @classmethod
    def read(cls, reader: Reader, content_type: ContentType) -> Self:
        """What is there depends on the content type."""
        return cls(reader.vector(), reader.vector() if content_type == ContentType.COMMIT else None)

    def write(self, writer: Writer) -> None:
        """Signature and, if there is one, confirmation tag."""
        writer.vector(self.signature)
        if self.confirmation_tag is not None:
            writer.vector(self.confirmation_tag)


@value
class AuthenticatedContent(Struct):
    """Content with its authentication, whichever way it travels."""

    wire_format: WireFormat
    content: FramedContent
    auth: FramedContentAuthData

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """The fields of section 6 in order."""
        try:
            wire_format = WireFormat(reader.u16())
        except ValueError:
            raise DecodeError("a message has an unknown wire format") from None
        content = FramedContent.read(reader)
        return cls(wire_format, content, FramedContentAuthData.read(reader, content.content_type))

    def write(self, writer: Writer) -> None:
        """The fields of section 6 in order."""
        self.content.write(writer.u16(self.wire_format))
        self.auth.write(writer)

    def tbs(self, context: GroupContext) -> bytes:
        """FramedContentTBS: members and external committers sign the group context too (section 6.1)."""
        writer = Writer().u16(MLS10).u16(self.wire_format)
        self.content.write(writer)
        if self.content.sender.type in {SenderType.MEMBER, SenderType.NEW_MEMBER_COMMIT}:
            context.write(writer)
        return bytes(writer)

    def tbm(self, context: GroupContext) -> bytes:
        """AuthenticatedContentTBM: what a membership tag covers (section 6.2)."""
        writer = Writer().opaque(self.tbs(context))
        self.auth.write(writer)
        return bytes(writer)

    @classmethod
    def sign(cls, wire_format: WireFormat, content: FramedContent, context: GroupContext, sign: Sign) -> Self:
        """Sign content for one wire format. A commit still lacks its confirmation tag afterwards."""
        unsigned = cls(wire_format, content, FramedContentAuthData(b""))
        return replace(unsigned, auth=FramedContentAuthData(sign(b"FramedContentTBS", unsigned.tbs(context))))

    def with_confirmation_tag(self, tag: bytes) -> Self:
        """A copy with the tag that a commit needs."""
        return replace(self, auth=replace(self.auth, confirmation_tag=tag))

    def verify_signature(self, suite: CipherSuite, signature_key: bytes, context: GroupContext) -> None:
        """Raises `InvalidMessage` unless the content is signed by `signature_key` in this context."""
        suite.verify_with_label(signature_key, b"FramedContentTBS", self.tbs(context), self.auth.signature)


@value
class PublicMessage(Struct):
    """A message in the clear. Members add a membership tag (section 6.2)."""

    content: FramedContent
    auth: FramedContentAuthData
    membership_tag: bytes | None

    @property
    def authenticated_content(self) -> AuthenticatedContent:
        """The content as it was signed."""
        return AuthenticatedContent(WireFormat.PUBLIC_MESSAGE, self.content, self.auth)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """The fields of section 6.2 in order."""
        content = FramedContent.read(reader)
        auth = FramedContentAuthData.read(reader, content.content_type)
        return cls(content, auth, reader.vector() if content.sender.type == SenderType.MEMBER else None)

    def write(self, writer: Writer) -> None:
        """The fields of section 6.2 in order."""
        self.content.write(writer)
        self.auth.write(writer)
        if self.membership_tag is not None:
            writer.vector(self.membership_tag)


@value
class PrivateMessage(Struct):
    """An encrypted message (section 6.3)."""

    group_id: bytes
    epoch: int
    content_type: ContentType
    authenticated_data: bytes
    encrypted_sender_data: bytes
    ciphertext: bytes

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """The fields of section 6.3 in order."""
        return cls(
            reader.vector(),
            reader.u64(),
            _content_type(reader),
            reader.vector(),
            reader.vector(),
            reader.vector(),
        )

    def write(self, writer: Writer) -> None:
        """The fields of section 6.3 in order."""
        writer.vector(self.group_id).u64(self.epoch).u8(self.content_type)
        writer.vector(self.authenticated_data).vector(self.encrypted_sender_data).vector(self.ciphertext)


MessageBody = PublicMessage | PrivateMessage | Welcome | GroupInfo | KeyPackage

_BODIES: dict[int, type[MessageBody]] = {
    WireFormat.PUBLIC_MESSAGE: PublicMessage,
    WireFormat.PRIVATE_MESSAGE: PrivateMessage,
    WireFormat.WELCOME: Welcome,
    WireFormat.GROUP_INFO: GroupInfo,
    WireFormat.KEY_PACKAGE: KeyPackage,
}
_WIRE_FORMATS = {body: WireFormat(wire_format) for wire_format, body in _BODIES.items()}


@value
class MLSMessage(Struct):
    """Any of the five kinds of message, with version and kind in front."""

    body: MessageBody

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """The version, the wire format and what it says."""
        body = _BODIES[_read_wire_format(reader)].read(reader)
        if isinstance(body, KeyPackage) and body.version != MLS10:
            raise DecodeError("a key package is of another protocol version than its message")  # section 10
        return cls(body)

    def write(self, writer: Writer) -> None:
        """The version, the wire format and what it says."""
        self.body.write(writer.u16(MLS10).u16(_WIRE_FORMATS[type(self.body)]))


def _read_wire_format(reader: Reader) -> WireFormat:
    if reader.u16() != MLS10:
        raise DecodeError("a message is of another protocol version")
    try:
        return WireFormat(reader.u16())
    except ValueError:
        raise DecodeError("a message has an unknown wire format") from None


_Body = TypeVar("_Body", PublicMessage, PrivateMessage, Welcome, GroupInfo, KeyPackage)


def decode_body(message: bytes, kind: type[_Body]) -> _Body:
    """Decode an MLSMessage that must hold a `kind`. Raises `DecodeError` or `InvalidMessage`."""
    body = MLSMessage.decode(message).body
    if not isinstance(body, kind):
        raise InvalidMessage(f"a {kind.__name__} was expected, and a {type(body).__name__} came")
    return body


@value
class Header:
    """What routing needs to know about a PublicMessage or PrivateMessage."""

    wire_format: WireFormat
    group_id: bytes
    epoch: int
    content_type: ContentType
    authenticated_data: bytes
    sender: Sender | None
    """None for a PrivateMessage, which hides it."""


def read_header(message: bytes) -> Header:
    """Read the front of an encoded MLSMessage without its body.

    Raises `DecodeError` if the front does not parse, or belongs to neither a PublicMessage nor a
    PrivateMessage.
    """
    reader = Reader(message)
    wire_format = _read_wire_format(reader)
    if wire_format not in {WireFormat.PUBLIC_MESSAGE, WireFormat.PRIVATE_MESSAGE}:
        raise DecodeError("a message of a group was expected")
    group_id, epoch = reader.vector(), reader.u64()
    if wire_format == WireFormat.PRIVATE_MESSAGE:
        content_type = _content_type(reader)
        return Header(wire_format, group_id, epoch, content_type, reader.vector(), None)
    sender, authenticated_data = Sender.read(reader), reader.vector()
    return Header(wire_format, group_id, epoch, _content_type(reader), authenticated_data, sender)
