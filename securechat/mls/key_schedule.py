"""The key schedule: from one epoch's init secret to the next epoch's secrets (RFC 9420, section 8).

                    init_secret_[n-1]
                          |
    commit_secret --> Extract
                          |
                  ExpandWithLabel(., "joiner", GroupContext_[n])
                          |
                     joiner_secret          goes to new members in the Welcome
                          |
    psk_secret -----> Extract --> "welcome" = welcome_secret
                          |
                  ExpandWithLabel(., "epoch", GroupContext_[n])
                          |
                     epoch_secret --> the secrets of `EpochSecrets`, and init_secret_[n]

`EpochSecrets` keeps what an epoch still needs, until its `Group` is dropped for the next one. All above it exists only
inside these functions and in the `joiner_secret` that a committer holds while it writes the Welcome.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Self

from securechat.errors import UsageError
from securechat.mls.crypto import hpke, sealing
from securechat.mls.crypto.secret import Secret
from securechat.mls.crypto.suite import CipherSuite
from securechat.mls.errors import BadConfirmationTag, InvalidMessage
from securechat.mls.group_context import GroupContext
from securechat.mls.proposals import PreSharedKeyId
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value


class InitSecret(Secret):
    """Carries an epoch's secrecy into the next one; deleted with its epoch."""

    __slots__ = ()


class CommitSecret(Secret):
    """What a commit's path contributes."""

    __slots__ = ()


class PskSecret(Secret):
    """What a commit's pre-shared keys contribute."""

    __slots__ = ()


class JoinerSecret(Secret):
    """Lets a new member enter the epoch."""

    __slots__ = ()


class EpochSecret(Secret):
    """The root of an epoch; never kept."""

    __slots__ = ()


class EncryptionSecret(Secret):
    """The root of the secret tree, which takes it over and deletes it."""

    __slots__ = ()


_EXTERNAL_INIT_LABEL = b"MLS 1.0 external init secret"
"""The exporter context of section 8.3."""

PskLookup = Callable[[PreSharedKeyId], bytes]
"""Finds a pre-shared key. Raises `PeerError` if there is none."""


def no_psks(psk_id: PreSharedKeyId) -> bytes:
    """The lookup of those who use no pre-shared keys."""
    raise InvalidMessage(f"a pre-shared key ({psk_id.type.name.lower()}) is not known here")


@value
class EpochSecrets(Struct):
    """What a member keeps of an epoch's key schedule; KDF.Nh bytes each."""

    init_secret: InitSecret
    sender_data_secret: Secret
    exporter_secret: Secret
    external_secret: Secret
    confirmation_key: Secret
    membership_key: Secret
    resumption_psk: Secret
    epoch_authenticator: Secret

    @classmethod
    def derive(cls, suite: CipherSuite, epoch_secret: EpochSecret) -> tuple[Self, EncryptionSecret]:
        """Derive an epoch's secrets; the encryption secret apart, for the secret tree."""
        secrets = cls(
            InitSecret(sealing.derive_secret(suite, epoch_secret, b"init")),
            sealing.derive_secret(suite, epoch_secret, b"sender data"),
            sealing.derive_secret(suite, epoch_secret, b"exporter"),
            sealing.derive_secret(suite, epoch_secret, b"external"),
            sealing.derive_secret(suite, epoch_secret, b"confirm"),
            sealing.derive_secret(suite, epoch_secret, b"membership"),
            sealing.derive_secret(suite, epoch_secret, b"resumption"),
            sealing.derive_secret(suite, epoch_secret, b"authentication"),
        )
        return secrets, EncryptionSecret(sealing.derive_secret(suite, epoch_secret, b"encryption"))

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Eight vectors."""
        init_secret = InitSecret(reader.vector())
        return cls(init_secret, *[Secret(reader.vector()) for _ in fields(cls)[1:]])

    def write(self, writer: Writer) -> None:
        """Eight vectors."""
        for field in fields(self):
            writer.vector(getattr(self, field.name))

    def confirmation_tag(self, suite: CipherSuite, context: GroupContext) -> bytes:
        """MAC(confirmation_key, confirmed_transcript_hash) (section 6.1)."""
        return sealing.mac(suite, self.confirmation_key, context.confirmed_transcript_hash)

    def verify_confirmation_tag(self, suite: CipherSuite, context: GroupContext, tag: bytes) -> None:
        """Raises `BadConfirmationTag` unless the tag's maker has arrived at our keys and transcript."""
        key, transcript = self.confirmation_key, context.confirmed_transcript_hash
        try:
            sealing.verify_mac(suite, key, transcript, tag, "confirmation tag")
        except InvalidMessage as error:
            raise BadConfirmationTag(str(error)) from None

    def external_key(self, suite: CipherSuite) -> hpke.HpkePrivateKey:
        """The group's key pair for external joins (section 8)."""
        return hpke.HpkePrivateKey.derive(suite, self.external_secret)

    def external_init_secret(self, suite: CipherSuite, kem_output: bytes) -> InitSecret:
        """The init secret that an external committer encapsulated to us (section 8.3). Raises `InvalidMessage`."""
        key, size = self.external_key(suite), suite.hash_size
        return InitSecret(hpke.export_as_receiver(suite, key, kem_output, b"", _EXTERNAL_INIT_LABEL, size))

    def export(self, suite: CipherSuite, label: str, context: bytes, length: int) -> Secret:
        """MLS-Exporter (section 8.5): `length` bytes, at most 255 * KDF.Nh. Raises `UsageError` for more."""
        if not 0 < length <= 255 * suite.hash_size:  # what HKDF-Expand gives
            raise UsageError(f"{length} bytes cannot be exported at once")
        secret = sealing.derive_secret(suite, self.exporter_secret, label.encode())
        return sealing.expand_with_label(suite, secret, b"exported", suite.hash_of(context), length)


def encapsulate_init_secret(suite: CipherSuite, external_pub: bytes) -> tuple[bytes, InitSecret]:
    """A fresh init secret, encapsulated to the members' external key (section 8.3): (kem_output, secret)."""
    size = suite.hash_size
    kem_output, secret = hpke.export_as_sender(suite, external_pub, b"", _EXTERNAL_INIT_LABEL, size)
    return kem_output, InitSecret(secret)


def zero_secret(suite: CipherSuite) -> bytes:
    """`0` in the RFC's diagrams: KDF.Nh zero bytes."""
    return bytes(suite.hash_size)


def joiner_secret(
    suite: CipherSuite, init_secret: InitSecret, commit_secret: CommitSecret, context: GroupContext
) -> JoinerSecret:
    """The upper half of the diagram."""
    extracted = sealing.extract(suite, init_secret, commit_secret)
    return JoinerSecret(
        sealing.expand_with_label(suite, extracted, b"joiner", context.encode(), suite.hash_size)
    )


def welcome_secret(suite: CipherSuite, joiner: JoinerSecret, psk_secret: PskSecret) -> Secret:
    """What encrypts the GroupInfo in a Welcome."""
    return sealing.derive_secret(suite, sealing.extract(suite, joiner, psk_secret), b"welcome")


def epoch_secret(
    suite: CipherSuite, joiner: JoinerSecret, psk_secret: PskSecret, context: GroupContext
) -> EpochSecret:
    """The lower half of the diagram."""
    extracted = sealing.extract(suite, joiner, psk_secret)
    return EpochSecret(
        sealing.expand_with_label(suite, extracted, b"epoch", context.encode(), suite.hash_size)
    )


def psk_secret(suite: CipherSuite, ids: Sequence[PreSharedKeyId], lookup: PskLookup) -> PskSecret:
    """psk_secret of section 8.4: all zero without PSKs. Raises what `lookup` raises."""
    secret = zero_secret(suite)
    for index, psk_id in enumerate(ids):
        extracted = sealing.extract(suite, zero_secret(suite), lookup(psk_id))
        writer = Writer()
        psk_id.write(writer)
        label = bytes(writer.u16(index).u16(len(ids)))
        psk_input = sealing.expand_with_label(suite, extracted, b"derived psk", label, suite.hash_size)
        secret = sealing.extract(suite, psk_input, secret)
    return PskSecret(secret)
