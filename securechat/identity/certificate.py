"""Device certificates: an identity key says which signature key a device uses (docs/design.md, section 6).

    struct {
        uint16 version = 2;
        uint8 kind = 1;             /* certify: see `identity.statements` */
        opaque server_id[16];
        opaque account<V>;          /* UTF-8, normalised, 1 to 32 characters */
        opaque identity_key[32];    /* Ed25519, the account's */
        uint64 seq;                 /* 1, 2, 3...: the place in the chain of what this key has signed */
        opaque previous[32];        /* SHA-256 of the one before; zeros in the first */
        opaque device_id[16];
        opaque signature_key[32];   /* Ed25519, the device's: the one in its MLS leaves */
        uint64 not_before;          /* seconds since 1970 */
        uint64 not_after;
        opaque signature[64];       /* by identity_key, over label<V> and all fields above */
    } DeviceCertificate;

This encoding is the identity of the MLS basic credential, so a leaf says by itself whose it is. Of two certificates
under one identity key the one with the higher `seq` is the later one: dates are by clocks, and clocks differ. Nothing
here is secret; only `issue` meets a private key, and keeps nothing of it.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Final, Protocol, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from securechat.errors import DecodeError, PeerError, UsageError
from securechat.mls.credential import Credential, CredentialType
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
from securechat.mls.extensions import ExternalSender
from securechat.mls.leaf_node import CredentialValidator, LeafNode
from securechat.names import normalise_account
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value
from securechat.wire.limits import DEVICE_ID_LENGTH, MAX_ACCOUNT, MAX_COUNT, MAX_LEAF, SERVER_ID_LENGTH

LABEL: Final = b"securechat device certificate v2"
VERSION: Final = 2
CERTIFY: Final = 1
KEY_LENGTH: Final = 32
SIGNATURE_LENGTH: Final = 64
DIGEST_LENGTH: Final = 32
NO_PREVIOUS: Final = bytes(DIGEST_LENGTH)

CLOCK_SKEW: Final = 24 * 3600
"""Seconds by which clocks may differ: a laptop that was set by hand, in the wrong time zone, can still talk."""

MAX_LIFETIME: Final = 45 * 86_400 + CLOCK_SKEW
"""Seconds that a certificate and a key package may live (RFC 9420, section 7.2): so long a stolen signature key is of
use to a thief, and so long somebody who is seldom there can be spoken to (docs/design.md, section 6)."""

RULES_EXTENSION: Final = 0xF001
"""MLS extension type of the oldest rules of conversations (`policy.rules`), which every leaf has to support."""

KEPT_VERDICTS: Final = 4096
"""Certificates remembered as well signed, 500 bytes each: joining a room of 1,000 again must not cost 1,000 checks."""

_ED25519: Final = MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519.signature


class NotYetError(PeerError):
    """What was signed is dated in the future, by the clock that it was judged by."""


@value
class DeviceCertificate(Struct):
    """One device of one account at one server."""

    server_id: bytes
    account: str
    identity_key: bytes
    seq: int
    previous: bytes
    device_id: bytes
    signature_key: bytes
    not_before: int
    not_after: int
    signature: bytes

    @property
    def who(self) -> tuple[str, bytes]:
        """Account and device id: whose it is."""
        return self.account, self.device_id

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one. Raises `DecodeError`; says nothing yet about the signature: see `verify`."""
        version = reader.u16()
        if version != VERSION:
            raise DecodeError(f"A device certificate has version {version}; only {VERSION} is known.")
        if reader.u8() != CERTIFY:
            raise DecodeError("A statement of another kind stands in place of a device certificate.")
        server_id = reader.opaque(SERVER_ID_LENGTH)
        try:
            account = reader.vector(4 * MAX_ACCOUNT).decode()
        except UnicodeDecodeError:
            raise DecodeError("The account in a device certificate is not UTF-8.") from None
        return cls(
            server_id=server_id,
            account=account,
            identity_key=reader.opaque(KEY_LENGTH),
            seq=reader.u64(),
            previous=reader.opaque(DIGEST_LENGTH),
            device_id=reader.opaque(DEVICE_ID_LENGTH),
            signature_key=reader.opaque(KEY_LENGTH),
            not_before=reader.u64(),
            not_after=reader.u64(),
            signature=reader.opaque(SIGNATURE_LENGTH),
        )

    def write(self, writer: Writer) -> None:
        """Append the encoding, signature included."""
        self._write_signed(writer)
        writer.opaque(self.signature)

    def to_be_signed(self) -> bytes:
        """Return what the signature covers: the label and every other field."""
        writer = Writer().vector(LABEL)
        self._write_signed(writer)
        return bytes(writer)

    def _write_signed(self, writer: Writer) -> None:
        writer.u16(VERSION).u8(CERTIFY).opaque(self.server_id).vector(self.account.encode()).opaque(self.identity_key)
        writer.u64(self.seq).opaque(self.previous).opaque(self.device_id).opaque(self.signature_key)
        writer.u64(self.not_before).u64(self.not_after)


class Signer(Protocol):
    """The private half of an identity key: the library's own, or one that is open for a moment only."""

    def public_key(self) -> Ed25519PublicKey:
        """Return the public half."""
        ...

    def sign(self, data: bytes, /) -> bytes:
        """Return an Ed25519 signature, 64 bytes."""
        ...


def issue(
    identity_private: Signer,
    *,
    server_id: bytes,
    account: str,
    device_id: bytes,
    signature_key: bytes,
    not_before: int,
    not_after: int,
    seq: int = 1,
    previous: bytes = NO_PREVIOUS,
) -> DeviceCertificate:
    """Sign a certificate for the device that holds the private half of `signature_key` (32 bytes). Times in seconds.

    `seq`, `previous`: its place in the chain of the identity key (`statements.Head.next`).
    """
    identity_key = identity_private.public_key().public_bytes_raw()
    unsigned = DeviceCertificate(
        server_id, account, identity_key, seq, previous, device_id, signature_key, not_before, not_after,
        bytes(SIGNATURE_LENGTH),
    )  # fmt: skip
    return replace(unsigned, signature=identity_private.sign(unsigned.to_be_signed()))


def verify(certificate: DeviceCertificate, *, now: int, entering: bool = True) -> None:
    """Raise `PeerError` unless names, keys, dates and signature are right at `now` (seconds since 1970).

    In a log, `now` is the entry's own time, so that all members judge alike whenever they read it. Not `entering`: the
    device is in a conversation already, and its certificate may have expired since. Else one member with a short
    certificate would close an open room to newcomers for ever.
    """
    _verify_timeless(certificate)
    if now < certificate.not_before - CLOCK_SKEW:
        raise NotYetError(f"The certificate of a device of {certificate.account} is not valid yet.")
    if entering and now > certificate.not_after + CLOCK_SKEW:
        raise PeerError(f"The certificate of a device of {certificate.account} has expired.")


def in_date(certificate: DeviceCertificate, now: int) -> bool:
    """Whether a certificate is in date at `now` (seconds since 1970), give or take a day: clocks differ."""
    return certificate.not_before - CLOCK_SKEW <= now <= certificate.not_after + CLOCK_SKEW


@lru_cache(maxsize=KEPT_VERDICTS)
def _verify_timeless(certificate: DeviceCertificate) -> None:
    """Check what can never change about a certificate. Only good ones are remembered: a refusal is an exception."""
    check_account(certificate.account)
    check_place(certificate.seq, certificate.previous)
    for key in (certificate.identity_key, certificate.signature_key):
        _ED25519.check_public_key(key)
    if certificate.not_before >= certificate.not_after:
        raise PeerError(f"The certificate of a device of {certificate.account} is valid at no time.")
    if certificate.not_after - certificate.not_before > MAX_LIFETIME:
        raise PeerError(f"The certificate of a device of {certificate.account} is for more than 45 days.")
    _ED25519.verify(certificate.identity_key, certificate.to_be_signed(), certificate.signature)


def check_account(account: str) -> None:
    """Raise `PeerError` unless a signed name is a user name in its one spelling."""
    try:
        normal = normalise_account(account)
    except UsageError as error:
        raise PeerError(f"The account in a device certificate is not a user name: {error}") from None
    if normal != account:
        raise PeerError("The account in a device certificate is not normalised.")


def check_place(seq: int, previous: bytes) -> None:
    """Raise `PeerError` unless `seq` can be a place in a chain, and only the first one follows nothing."""
    if not 1 <= seq <= MAX_COUNT or (seq == 1) != (previous == NO_PREVIOUS):
        raise PeerError("What an identity key has signed has no place in its chain.")


def credential(certificate: DeviceCertificate) -> Credential:
    """Return the MLS credential that carries `certificate`."""
    return Credential.basic(certificate.encode())


def certificate_of(leaf: LeafNode) -> DeviceCertificate:
    """Return the certificate in a leaf, unverified. Raises `PeerError` for another kind of credential."""
    if leaf.credential.type != CredentialType.BASIC:
        raise PeerError("A leaf has another credential than a device certificate.")
    return _decode(leaf.credential.identity)


def leaf_validator(server_id: bytes, now: int) -> CredentialValidator:
    """Return the check that MLS applies to every leaf (RFC 9420, section 5.3.1); it raises `PeerError`."""

    def validate(leaf: LeafNode | ExternalSender, /, *, entering: bool) -> None:
        if isinstance(leaf, ExternalSender):
            raise PeerError("A conversation has no external senders.")
        size = len(leaf.encode())
        if size > MAX_LEAF:
            raise PeerError(f"A leaf takes {size:,} bytes; at most {MAX_LEAF:,} are allowed.")
        certificate = certificate_of(leaf)
        if certificate.server_id != server_id:
            raise PeerError(f"The certificate of a device of {certificate.account} is for another server.")
        if certificate.signature_key != leaf.signature_key:
            raise PeerError(f"A leaf of {certificate.account} is signed by another key than its certificate names.")
        if RULES_EXTENSION not in leaf.capabilities.extensions:
            raise PeerError(f"A device of {certificate.account} does not support the rules of conversations.")
        lifetime = leaf.lifetime
        if lifetime is not None and lifetime.not_after - lifetime.not_before > MAX_LIFETIME:
            raise PeerError(f"A key package of {certificate.account} is for more than 45 days.")
        verify(certificate, now=now, entering=entering)

    return validate


_decode: Final = lru_cache(maxsize=KEPT_VERDICTS)(DeviceCertificate.decode)
