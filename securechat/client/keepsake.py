"""What is in a keepsake: whom this account knows, and which conversations it is in. Sealed under the identity key.

    struct {
        uint64 chain_seq;               /* how far the chain of the identity key had come */
        opaque chain_digest[32];
        KeptPin pins<V>;
        KeptConversation conversations<V>;
        KeptName names<V>;              /* older ones have none, and padding in its place */
        opaque padding[n];              /* zeros, up to a multiple of 4096 bytes: the server sees the length */
    } Contents;                         /* presentation language of RFC 9420, section 2.1 */

    struct { opaque account<V>; opaque identity_key[32]; uint8 state; } KeptPin;
        state: 1 accepted, 2 verified, 3 refused, 4 succeeded, 5 contested

    struct {
        opaque id[32];
        uint8 kind;                     /* 1 direct, 2 invite, 3 open */
        opaque name<V>;                 /* the room's, or the peer's account */
        Key anchors<V>;                 /* its owners, if any; in a direct conversation the peer */
        uint64 epoch;                   /* that we were in */
    } KeptConversation;

    struct { opaque account<V>; opaque identity_key[32]; } Key;

    struct { opaque device_id[16]; opaque name<V>; } KeptName;      /* what the account calls a device of its own */

    key = HKDF-SHA256(secret = the identity key's 32 private bytes, no salt, info = "securechat keepsake key v1" ||
          server_id[16]), 32 bytes; the nonce is random

How the ciphertext is framed and signed: `identity.keepsake`. Nothing in it lets anybody read or write anything; it says
on whose word a new device of ours may enter where it was not before. docs/design.md, section 6.
"""

import os
from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from securechat.errors import DecodeError, PeerError, UsageError
from securechat.identity.certificate import DIGEST_LENGTH, KEY_LENGTH, Signer
from securechat.identity.keepsake import NONCE_LENGTH, Keepsake
from securechat.identity.pins import WRITTEN_TO, Pin, State
from securechat.identity.statements import Head
from securechat.names import normalise_account, normalise_room
from securechat.policy import Identity, Kind
from securechat.tlscodec import Reader, Writer
from securechat.value import value
from securechat.wire.limits import (
    CONVERSATION_ID_LENGTH,
    DEVICE_ID_LENGTH,
    MAX_ACCOUNT,
    MAX_COUNT,
    MAX_KEEPSAKE,
    MAX_ROOM,
)

KEY_LABEL: Final = b"securechat keepsake key v1"

PADDING: Final = 4096
"""Bytes of which the contents' length is a multiple: about 30 conversations, or 80 people, more or less do not show."""

MAX_NAMES: Final = 64
"""Names of devices kept, 10 KB at most: more computers than somebody loses in a life."""

MAX_CONTENTS: Final = MAX_KEEPSAKE - PADDING
"""Bytes of the contents: the tag has to fit as well. What is newest goes in first, and the rest is left out."""

MAX_DEVICE_NAME: Final = 32
"""Characters of what somebody calls a device of theirs: as many as a user name has, for one line."""

_T = TypeVar("_T")

_BYTES: Final = 4  # of a character in UTF-8, at most
_STATES: Final[tuple[State, ...]] = ("accepted", "verified", "refused", "succeeded", "contested")
_KINDS: Final[tuple[Kind, ...]] = ("direct", "invite", "open")


class IdentitySecret(Signer, Protocol):
    """An identity key that is open (`vault.identity_key.OpenedKey`)."""

    def secret(self) -> bytearray:
        """Return its 32 private bytes."""
        ...


@value
class KeptConversation:
    """A conversation that a new device of ours may enter by itself, on the word of an anchor."""

    id: bytes
    kind: Kind
    name: str
    anchors: tuple[Identity, ...]
    epoch: int


@value
class Contents:
    """What a keepsake holds."""

    head: Head
    pins: tuple[Pin, ...]
    conversations: tuple[KeptConversation, ...]
    names: tuple[tuple[bytes, str], ...] = ()  # of our devices, by their ids


def contents_of(
    head: Head,
    pins: Iterable[Pin],
    conversations: Iterable[KeptConversation],
    names: Iterable[tuple[bytes, str]] = (),
) -> Contents:
    """Return the contents, as much as fits: the newest MAX_NAMES names; conversations, the newest one first; then pins.

    Of the pins those come first that somebody has compared or refused. `conversations`, `names`: the oldest one first.
    """
    called = tuple(names)[-MAX_NAMES:]
    room = MAX_CONTENTS - 64 - sum(len(_encode_name(*each)) for each in called)  # 64: the head, and vectors' lengths
    kept: list[KeptConversation] = []
    for conversation in reversed(list(conversations)):
        room -= len(_encode_conversation(conversation))
        if room < 0:
            break
        kept.append(conversation)
    chosen: list[Pin] = []
    for pin in sorted(pins, key=lambda each: (each.state == "accepted", each.account, each.identity_key)):
        room -= len(_encode_pin(pin))
        if room < 0:
            break
        chosen.append(pin)
    return Contents(head, tuple(chosen), tuple(reversed(kept)), called)


def encode(contents: Contents) -> bytes:
    """Return the encoding, with its padding."""
    writer = Writer().u64(contents.head.seq).opaque(contents.head.digest)
    writer.vector(b"".join(map(_encode_pin, contents.pins)))
    writer.vector(b"".join(map(_encode_conversation, contents.conversations)))
    writer.vector(b"".join(_encode_name(*each) for each in contents.names))
    encoded = bytes(writer)
    return encoded + bytes(-len(encoded) % PADDING)


def seal(encoded: bytes, key: IdentitySecret, *, server_id: bytes, account: str, number: int, time: int) -> Keepsake:
    """Seal encoded contents, and sign them. `time` in seconds since 1970."""
    public = key.public_key().public_bytes_raw()
    blank = Keepsake(server_id, account, public, number, time, os.urandom(NONCE_LENGTH), b"")
    ciphertext = _cipher(key, server_id).encrypt(blank.nonce, encoded, blank.associated_data())
    return Keepsake(server_id, account, public, number, time, blank.nonce, ciphertext).signed_by(key)


def unseal(keepsake: Keepsake, key: IdentitySecret, *, server_id: bytes, account: str) -> Contents:
    """Return what is in a keepsake, if it is one of this account here. Raises `PeerError`."""
    whose = (keepsake.server_id, keepsake.account, keepsake.identity_key)
    if whose != (server_id, account, key.public_key().public_bytes_raw()):
        raise PeerError("it belongs to somebody else")
    keepsake.verify()
    try:
        encoded = _cipher(key, server_id).decrypt(keepsake.nonce, keepsake.ciphertext, keepsake.associated_data())
    except InvalidTag:
        raise PeerError("it does not open") from None
    return decode(encoded)


def decode(encoded: bytes) -> Contents:
    """Read contents. Raises `DecodeError`: they are signed, so another version of the program has written them."""
    reader = Reader(encoded)
    head = Head(reader.u64(), reader.opaque(DIGEST_LENGTH))
    pins, conversations = reader.items(_read_pin), reader.items(_read_conversation)
    names = reader.items(_read_name) if reader.remaining else ()
    if reader.remaining >= PADDING or any(reader.opaque(reader.remaining)):
        raise DecodeError("something else follows the contents of a keepsake")
    if len({each.id for each in conversations}) < len(conversations):
        raise DecodeError("a keepsake names a conversation twice")
    accepted = [pin.account for pin in pins if pin.state in WRITTEN_TO]
    if len({(pin.account, pin.identity_key) for pin in pins}) < len(pins) or len(set(accepted)) < len(accepted):
        raise DecodeError("a keepsake contradicts itself about a key")
    return Contents(head, pins, conversations, names)


def _cipher(key: IdentitySecret, server_id: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, None, KEY_LABEL + server_id).derive(key.secret()))


def _encode_pin(pin: Pin) -> bytes:
    return bytes(Writer().vector(pin.account.encode()).opaque(pin.identity_key).u8(_STATES.index(pin.state) + 1))


def _read_pin(reader: Reader) -> Pin:
    return Pin(_account(reader), reader.opaque(KEY_LENGTH), _one_of(_STATES, reader.u8()))


def _encode_conversation(conversation: KeptConversation) -> bytes:
    writer = Writer().opaque(conversation.id).u8(_KINDS.index(conversation.kind) + 1)
    writer.vector(conversation.name.encode())
    keys = (Writer().vector(each.account.encode()).opaque(each.identity_key) for each in conversation.anchors)
    return bytes(writer.vector(b"".join(map(bytes, keys))).u64(conversation.epoch))


def _read_conversation(reader: Reader) -> KeptConversation:
    group, kind = reader.opaque(CONVERSATION_ID_LENGTH), _one_of(_KINDS, reader.u8())
    name = _account(reader) if kind == "direct" else _name(reader, MAX_ROOM, normalise_room)
    anchors = reader.items(lambda one: Identity(_account(one), one.opaque(KEY_LENGTH)))
    epoch = reader.u64()
    if epoch > MAX_COUNT:
        raise DecodeError("an epoch in a keepsake is higher than any can be")
    return KeptConversation(group, kind, name, anchors, epoch)


def _encode_name(device_id: bytes, name: str) -> bytes:
    return bytes(Writer().opaque(device_id).vector(name.encode()))


def _read_name(reader: Reader) -> tuple[bytes, str]:
    device_id = reader.opaque(DEVICE_ID_LENGTH)
    try:
        return device_id, reader.vector(_BYTES * MAX_DEVICE_NAME).decode()
    except UnicodeDecodeError:
        raise DecodeError("a name of a device in a keepsake is not UTF-8") from None


def _one_of(names: tuple[_T, ...], number: int) -> _T:
    if not 0 < number <= len(names):
        raise DecodeError(f"a keepsake holds the unknown value {number}")
    return names[number - 1]


def _account(reader: Reader) -> str:
    return _name(reader, MAX_ACCOUNT, normalise_account)


def _name(reader: Reader, characters: int, normalise: Callable[[str], str]) -> str:
    try:
        name = reader.vector(_BYTES * characters).decode()
        if name == normalise(name):
            return name
    except (UnicodeDecodeError, UsageError):
        pass
    raise DecodeError("a name in a keepsake is not in its one spelling")
