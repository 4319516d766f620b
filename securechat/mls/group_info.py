"""GroupInfo: what a newcomer needs to know about a group (RFC 9420, section 12.4.3)."""

from dataclasses import replace
from functools import cached_property
from typing import Self

from securechat.mls.crypto.suite import CipherSuite
from securechat.mls.extensions import Extensions, read_extensions, write_extensions
from securechat.mls.group_context import GroupContext
from securechat.mls.leaf_node import Sign
from securechat.mls.tree_math import LeafIndex
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value


@value
class GroupInfo(Struct):
    """A group's context and confirmation tag, vouched for by one member."""

    group_context: GroupContext
    extensions: Extensions
    confirmation_tag: bytes
    signer: LeafIndex
    signature: bytes = b""

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """The fields of section 12.4.3 in order."""
        return cls(
            GroupContext.read(reader),
            read_extensions(reader),
            reader.vector(),
            LeafIndex(reader.u32()),
            reader.vector(),
        )

    def write(self, writer: Writer) -> None:
        """The fields of section 12.4.3 in order."""
        writer.opaque(self._tbs).vector(self.signature)

    @cached_property
    def _tbs(self) -> bytes:
        """GroupInfoTBS."""
        writer = Writer()
        self.group_context.write(writer)
        return bytes(write_extensions(writer, self.extensions).vector(self.confirmation_tag).u32(self.signer))

    def signed(self, sign: Sign) -> Self:
        """A copy whose signature is the one that `sign` makes."""
        return replace(self, signature=sign(b"GroupInfoTBS", self._tbs))

    def verify_signature(self, suite: CipherSuite, signature_key: bytes) -> None:
        """Raises `InvalidMessage` unless the signature is by `signature_key`."""
        suite.verify_with_label(signature_key, b"GroupInfoTBS", self._tbs, self.signature)
