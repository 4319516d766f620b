"""Group secrets: what a Welcome carries to each new member (RFC 9420, section 12.4.3.1).

Nobody keeps them: the committer drops them once the Welcome is written, the joiner once it has entered (`joining`).
"""

from typing import Self

from securechat.mls.commit import HpkeCiphertext
from securechat.mls.crypto import hpke, sealing
from securechat.mls.crypto.secret import Secret
from securechat.mls.crypto.suite import CipherSuite
from securechat.mls.errors import InvalidMessage
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package import KeyPackage
from securechat.mls.key_schedule import JoinerSecret
from securechat.mls.proposals import PreSharedKeyId
from securechat.mls.welcome import EncryptedGroupSecrets, Welcome
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value


@value
class GroupSecrets(Struct):
    """The joiner secret, perhaps the path secret of the lowest node above us and the committer, PSKs."""

    joiner_secret: JoinerSecret
    path_secret: Secret | None
    psks: tuple[PreSharedKeyId, ...]

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """The fields of section 12.4.3.1 in order."""
        joiner, path = JoinerSecret(reader.vector()), reader.optional(Reader.vector)
        return cls(joiner, None if path is None else Secret(path), reader.items(PreSharedKeyId.read))

    def write(self, writer: Writer) -> None:
        """The fields of section 12.4.3.1 in order."""
        writer.vector(self.joiner_secret).optional(self.path_secret, Writer.vector).structs(self.psks)

    def encrypt_to(
        self, suite: CipherSuite, key_package: KeyPackage, encrypted_group_info: bytes
    ) -> EncryptedGroupSecrets:
        """Encrypt to the owner of a key package. Raises `InvalidMessage` if its init key is bad."""
        sealed = hpke.encrypt_with_label(
            suite, key_package.init_key, b"Welcome", encrypted_group_info, self.encode()
        )
        return EncryptedGroupSecrets(key_package.reference(suite), HpkeCiphertext(*sealed))

    @classmethod
    def decrypt_from(
        cls, suite: CipherSuite, welcome: Welcome, reference: bytes, init_key: hpke.HpkePrivateKey
    ) -> Self:
        """Find and open the entry for one key package. Raises `InvalidMessage` or `CannotDecrypt`."""
        for entry in welcome.secrets:
            if entry.new_member == reference:
                sealed = entry.encrypted_group_secrets
                return cls.decode(
                    hpke.decrypt_with_label(
                        suite,
                        init_key,
                        b"Welcome",
                        welcome.encrypted_group_info,
                        sealed.kem_output,
                        sealed.ciphertext,
                    )
                )
        raise InvalidMessage("a Welcome is not for this key package")


def _group_info_key(suite: CipherSuite, welcome_secret: Secret) -> tuple[Secret, Secret]:
    return (
        sealing.expand_with_label(suite, welcome_secret, b"key", b"", suite.key_size),
        sealing.expand_with_label(suite, welcome_secret, b"nonce", b"", suite.nonce_size),
    )


def encrypt_group_info(suite: CipherSuite, welcome_secret: Secret, group_info: GroupInfo) -> bytes:
    """The `encrypted_group_info` of a Welcome.

    Key and nonce are derived from what the commit makes fresh, so it must have made something: `Group.commit` gives a
    commit with Adds a path, for one without is the same each time it is made in an epoch.
    """
    key, nonce = _group_info_key(suite, welcome_secret)
    return sealing.aead_seal(suite, key, nonce, b"", group_info.encode())


def decrypt_group_info(suite: CipherSuite, welcome_secret: Secret, encrypted: bytes) -> GroupInfo:
    """The reverse. Raises `CannotDecrypt` or `DecodeError`."""
    key, nonce = _group_info_key(suite, welcome_secret)
    return GroupInfo.decode(sealing.aead_open(suite, key, nonce, b"", encrypted))
