"""Statements: what an identity key has signed about its account, each bound to the one before (design, section 6).

    struct {
        uint16 version = 2;
        uint8 kind;                 /* 2 revoke, 3 succeed, 4 contest, 5 restart; 1 is a `DeviceCertificate` */
        opaque server_id[16];
        opaque account<V>;          /* UTF-8, normalised, 1 to 32 characters */
        opaque identity_key[32];    /* Ed25519: whose chain this is */
        uint64 seq;                 /* 1, 2, 3... */
        opaque previous[32];        /* SHA-256 of the whole encoding of the one before; zeros in the first */
        uint64 time;                /* seconds since 1970, by the clock of whoever signs */
        select (kind) {
            case revoke:  opaque device_id[16]; opaque signature_key[32];
            case succeed: opaque new_identity_key[32]; opaque new_signature[64];
            case contest: opaque new_identity_key[32];
            case restart: opaque old_identity_key[32];
        };
        opaque signature[64];       /* by identity_key, over label<V> and all fields above */
    } Statement;

An account and an identity key have one chain of these and of device certificates, which are its `certify`. The same
`seq` with another digest proves that two programs hold the key.

    certify   this device speaks for the account; the newest certificate of a device counts
    revoke    this device speaks no more, under this signature key or an earlier one
    succeed   the account goes on under another identity key, which signs too (over a label of its own and all fields
              above the signature, its own left out)
    contest   that succession was none of mine: then neither key is accepted before people have compared
    restart   the account goes on under this key: the old one is lost, so that nothing but its own word says whose it is
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final, Literal, Self

from securechat.errors import DecodeError, PeerError
from securechat.identity import certificate as certificates
from securechat.identity.certificate import (
    CLOCK_SKEW,
    DIGEST_LENGTH,
    KEPT_VERDICTS,
    KEY_LENGTH,
    NO_PREVIOUS,
    SIGNATURE_LENGTH,
    VERSION,
    DeviceCertificate,
    NotYetError,
    Signer,
    check_account,
    check_place,
)
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value
from securechat.wire.limits import DEVICE_ID_LENGTH, MAX_ACCOUNT, SERVER_ID_LENGTH

Action = Literal["revoke", "succeed", "contest", "restart"]

LABEL: Final = b"securechat statement v1"
SUCCESSOR_LABEL: Final = b"securechat successor v1"

CONTEST_SECONDS: Final = 30 * 86_400
"""How long after a succession was published the old key can contest it: who was away for a month still can."""

MAX_SUCCESSION_AGE: Final = 7 * 86_400
"""Seconds that a succession may have been signed before it is published: whose connection broke can send it again next
week, and none is dated back so far that it could not be contested any more."""

CONTESTED_SECONDS: Final = MAX_SUCCESSION_AGE + CONTEST_SECONDS + CLOCK_SKEW
"""After the time in a succession, what the latest contest is dated that a server takes. It counts from the publication,
of which nobody else knows the day."""

_ACTIONS: Final[dict[int, Action]] = {2: "revoke", 3: "succeed", 4: "contest", 5: "restart"}
_KINDS: Final = {action: kind for kind, action in _ACTIONS.items()}
_KIND_AT: Final = 2
"""Where the kind stands in both encodings, behind the version."""

_ED25519: Final = MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519.signature


@value
class Statement(Struct):
    """One statement that is no certificate.

    `device_id` (16 bytes): of `revoke`, else empty. `key` (32 bytes): the signature key that is revoked; the new
    identity key of `succeed` and `contest`; the old one of `restart`. `new_signature` (64 bytes): of `succeed`.
    """

    server_id: bytes
    account: str
    identity_key: bytes
    seq: int
    previous: bytes
    time: int
    action: Action
    key: bytes
    device_id: bytes = b""
    new_signature: bytes = b""
    signature: bytes = bytes(SIGNATURE_LENGTH)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one. Raises `DecodeError`; says nothing yet about signatures: see `verify`."""
        version, kind = reader.u16(), reader.u8()
        if version != VERSION or kind not in _ACTIONS:
            raise DecodeError(f"A statement has version {version} and kind {kind}, which are not known.")
        action = _ACTIONS[kind]
        server_id = reader.opaque(SERVER_ID_LENGTH)
        try:
            account = reader.vector(4 * MAX_ACCOUNT).decode()
        except UnicodeDecodeError:
            raise DecodeError("The account in a statement is not UTF-8.") from None
        identity_key, seq, previous = reader.opaque(KEY_LENGTH), reader.u64(), reader.opaque(DIGEST_LENGTH)
        time = reader.u64()
        device_id = reader.opaque(DEVICE_ID_LENGTH) if action == "revoke" else b""
        key = reader.opaque(KEY_LENGTH)
        new_signature = reader.opaque(SIGNATURE_LENGTH) if action == "succeed" else b""
        signature = reader.opaque(SIGNATURE_LENGTH)
        return cls(
            server_id, account, identity_key, seq, previous, time, action, key, device_id, new_signature, signature
        )

    def write(self, writer: Writer) -> None:
        """Append the encoding, signature included."""
        self._write_signed(writer)
        writer.opaque(self.new_signature).opaque(self.signature)

    def to_be_signed(self) -> bytes:
        """Return what the signature covers: the label and every other field."""
        writer = Writer().vector(LABEL)
        self._write_signed(writer)
        return bytes(writer.opaque(self.new_signature))

    def to_be_signed_by_successor(self) -> bytes:
        """Return what the new identity key of a `succeed` signs: the label and every field above its signature."""
        writer = Writer().vector(SUCCESSOR_LABEL)
        self._write_signed(writer)
        return bytes(writer)

    def _write_signed(self, writer: Writer) -> None:
        writer.u16(VERSION).u8(_KINDS[self.action]).opaque(self.server_id).vector(self.account.encode())
        writer.opaque(self.identity_key).u64(self.seq).opaque(self.previous).u64(self.time)
        writer.opaque(self.device_id).opaque(self.key)


Link = DeviceCertificate | Statement
"""What a chain is made of."""


def digest(link: Link) -> bytes:
    """Return what the next one calls it: SHA-256 of its encoding, 32 bytes."""
    return hashlib.sha256(link.encode()).digest()


@value
class Head:
    """How far a chain has come: the newest `seq`, and the digest of that link. `EMPTY` before the first."""

    seq: int
    digest: bytes

    @classmethod
    def after(cls, link: Link) -> Self:
        """Return the head of a chain that ends with `link`."""
        return cls(link.seq, digest(link))

    def check_next(self, link: Link) -> None:
        """Raise `PeerError` unless `link` is the next one here."""
        if (link.seq, link.previous) != (self.seq + 1, self.digest):
            raise PeerError(f"What {link.account} has signed does not follow what their identity key signed before.")


EMPTY: Final = Head(0, NO_PREVIOUS)


def is_statement(payload: bytes) -> bool:
    """Whether an entry's payload begins like a statement, and so not like an MLS message (version 1)."""
    return payload.startswith(VERSION.to_bytes(2, "big"))


def decode_link(data: bytes) -> Link:
    """Read a certificate or a statement. Raises `DecodeError`; says nothing yet about signatures: see `verify`."""
    is_certificate = data[_KIND_AT : _KIND_AT + 1] == bytes([certificates.CERTIFY])
    return DeviceCertificate.decode(data) if is_certificate else Statement.decode(data)


def state(
    identity_private: Signer,
    head: Head,
    action: Action,
    *,
    server_id: bytes,
    account: str,
    time: int,
    key: bytes,
    device_id: bytes = b"",
    successor: Signer | None = None,
) -> Statement:
    """Sign the next statement behind `head`. `key`, `device_id`: see `Statement`; `successor` signs a `succeed`."""
    statement = Statement(
        server_id, account, identity_private.public_key().public_bytes_raw(),
        head.seq + 1, head.digest, time, action, key, device_id,
    )  # fmt: skip
    if successor is not None:
        statement = replace(statement, new_signature=successor.sign(statement.to_be_signed_by_successor()))
    return replace(statement, signature=identity_private.sign(statement.to_be_signed()))


def verify(statement: Statement, *, now: int) -> None:
    """Raise `PeerError` unless a statement is sound and not dated after `now` (seconds since 1970).

    In a log, `now` is the entry's own time, so that all members judge alike. How old it may be, only its chain says.
    """
    _verify_timeless(statement)
    if statement.time > now + CLOCK_SKEW:
        raise NotYetError(f"A statement of {statement.account} is dated in the future.")


@lru_cache(maxsize=KEPT_VERDICTS)
def _verify_timeless(statement: Statement) -> None:
    check_account(statement.account)
    check_place(statement.seq, statement.previous)
    for key in (statement.identity_key, statement.key):
        _ED25519.check_public_key(key)
    if statement.action != "revoke" and statement.key == statement.identity_key:
        raise PeerError(f"An identity key of {statement.account} names itself in place of another one.")
    _ED25519.verify(statement.identity_key, statement.to_be_signed(), statement.signature)
    if statement.action == "succeed":
        _ED25519.verify(statement.key, statement.to_be_signed_by_successor(), statement.new_signature)


def check_chain(links: Sequence[Link], before: Head = EMPTY, *, now: int) -> Head:
    """Check that `links` are sound, of one account and identity key, and follow each other behind `before`.

    Returns the head after them. Certificates may have run out; `now` in seconds since 1970. Raises `PeerError`.
    """
    head, owner = before, None
    for link in links:
        if isinstance(link, Statement):
            verify(link, now=now)
        else:
            certificates.verify(link, now=now, entering=False)
        head.check_next(link)
        if owner not in (None, (link.server_id, link.account, link.identity_key)):
            raise PeerError(f"A chain of {link.account} holds what another account or identity key has signed.")
        owner = (link.server_id, link.account, link.identity_key)
        head = Head.after(link)
    return head
