"""Welcome: what a committer sends to those it added (RFC 9420, section 12.4.3.1); see `group_secrets`."""

from typing import Self

from securechat.mls.commit import HpkeCiphertext
from securechat.mls.ratchet_tree import MAX_LEAVES
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value


@value
class EncryptedGroupSecrets(Struct):
    """GroupSecrets for the owner of one key package."""

    new_member: bytes
    """KeyPackageRef."""
    encrypted_group_secrets: HpkeCiphertext

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Reference and ciphertext."""
        return cls(reader.vector(), HpkeCiphertext.read(reader))

    def write(self, writer: Writer) -> None:
        """Reference and ciphertext."""
        self.encrypted_group_secrets.write(writer.vector(self.new_member))


@value
class Welcome(Struct):
    """Secrets for each new member, and one encrypted GroupInfo for all of them."""

    cipher_suite: int
    secrets: tuple[EncryptedGroupSecrets, ...]
    encrypted_group_info: bytes

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """The fields of section 12.4.3.1 in order. Raises `DecodeError` if it is for more than `MAX_LEAVES` clients."""
        return cls(reader.u16(), reader.items(EncryptedGroupSecrets.read, most=MAX_LEAVES), reader.vector())

    def write(self, writer: Writer) -> None:
        """The fields of section 12.4.3.1 in order."""
        writer.u16(self.cipher_suite).structs(self.secrets).vector(self.encrypted_group_info)

    @property
    def new_member_refs(self) -> frozenset[bytes]:
        """The key packages that this Welcome is for."""
        return frozenset(secrets.new_member for secrets in self.secrets)
