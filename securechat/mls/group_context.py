"""The group context: what all members agree on in an epoch (RFC 9420, section 8.1)."""

from functools import cached_property
from typing import Self

from securechat.errors import DecodeError
from securechat.mls.extensions import Extensions, read_extensions, write_extensions
from securechat.mls.leaf_node import MLS10
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value

MAX_EPOCH = 2**63 - 1
"""The last epoch of a group: what databases hold in a signed number of 64 bits. No group comes near it by itself."""


@value
class GroupContext(Struct):
    """Summary of a group's state."""

    cipher_suite: int
    group_id: bytes
    epoch: int
    tree_hash: bytes
    confirmed_transcript_hash: bytes
    extensions: Extensions

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """The fields of section 8.1 in order."""
        if reader.u16() != MLS10:
            raise DecodeError("a group context is of another protocol version")
        context = cls(
            reader.u16(),
            reader.vector(),
            reader.u64(),
            reader.vector(),
            reader.vector(),
            read_extensions(reader),
        )
        if context.epoch > MAX_EPOCH:
            raise DecodeError("a group context is of an epoch that no group reaches")
        return context

    def write(self, writer: Writer) -> None:
        """The fields of section 8.1 in order."""
        writer.opaque(self._encoding)

    @cached_property
    def _encoding(self) -> bytes:
        """Kept, because every signature of a member covers it."""
        writer = Writer().u16(MLS10).u16(self.cipher_suite).vector(self.group_id).u64(self.epoch)
        writer.vector(self.tree_hash).vector(self.confirmed_transcript_hash)
        return bytes(write_extensions(writer, self.extensions))
