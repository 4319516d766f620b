"""The rules of a conversation: the value in the group context, its versions and their encoding.

The rules are in the group context from the first epoch, signed by the founder, so that neither the server nor a member
can turn an invite room into an open one. They are one extension, whose type names their version:

    struct {
        opaque account<V>;                  /* UTF-8, normalised, 1 to 32 characters */
        opaque identity_key[32];
    } Identity;

    struct {                                /* version 2: extension type 0xF001 */
        uint8 kind;                         /* 1 direct, 2 invite, 3 open */
        opaque name<V>;                     /* UTF-8: the room's name; empty for direct */
        opaque topic<V>;                    /* UTF-8, at most 200 characters: what the room is about */
        uint32 life;                        /* seconds that messages are kept; 0: for ever */
        Identity owners<V>;                 /* in ascending order, an account once */
        Identity inviters<V>;               /* the same: may add members, as owners may */
        Account barred<V>;                  /* opaque account<V>, in ascending order */
        opaque site_key<V>;                 /* Ed25519, of an open room without owners; else empty */
    } Rules;

A leaf's capabilities list the types of all versions that its program knows (RFC 9420, section 7.2), so that a group
goes over to a version only once each of its members knows that. Nothing here needs or sees a secret.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Final, Literal, NamedTuple, Self

from securechat.errors import DecodeError, PeerError, UsageError
from securechat.identity.certificate import KEY_LENGTH, RULES_EXTENSION, DeviceCertificate
from securechat.mls.extensions import Extension, Extensions
from securechat.names import normalise_account, normalise_room
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value
from securechat.wire.limits import MAX_ACCOUNT, MAX_IDENTITIES, MAX_ROOM, MAX_TOPIC

Kind = Literal["direct", "invite", "open"]

VERSION: Final = 2
"""The version that conversations begin with. Its extension type is the one that every leaf has to support."""

MAX_RULES: Final = 16 << 10
"""Bytes: each commit that changes the rules carries them all, and so does each GroupInfo that brings a commit."""

MAX_BARRED: Final = 256
"""Accounts barred from one room. Accounts are free, so that no list ends a flood of them."""

_REMEMBERED: Final = 64
"""Rules that are remembered once they are read: of 16 KiB each at most, which are some 0.1 MiB in memory."""

_KINDS: Final[tuple[Kind, ...]] = ("direct", "invite", "open")  # encoded as position + 1


class Identity(NamedTuple):
    """An account under one identity key (32 bytes): rights belong to both together."""

    account: str
    identity_key: bytes

    @classmethod
    def of(cls, certificate: DeviceCertificate) -> Self:
        """Return whose device it is."""
        return cls(certificate.account, certificate.identity_key)


@value
class Rules(Struct):
    """What a conversation is, and who may change it. Lists are in ascending order (`in_order`)."""

    kind: Kind
    name: str = ""
    topic: str = ""
    life: int = 0
    owners: tuple[Identity, ...] = ()
    inviters: tuple[Identity, ...] = ()
    barred: tuple[str, ...] = ()
    site_key: bytes = b""
    version: int = VERSION

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read rules of `VERSION` and check that they make sense. Raises `DecodeError`."""
        kind = reader.u8()
        if not 1 <= kind <= len(_KINDS):
            raise DecodeError(f"The conversation is of an unknown kind ({kind}).")
        rules = cls(
            _KINDS[kind - 1],
            _read_text(reader, MAX_ROOM),
            _read_text(reader, MAX_TOPIC),
            reader.u32(),
            reader.items(_read_identity, most=MAX_IDENTITIES),
            reader.items(_read_identity, most=MAX_IDENTITIES),
            reader.items(lambda inner: _read_text(inner, MAX_ACCOUNT), most=MAX_BARRED),
            reader.vector(KEY_LENGTH),
        )
        _check_sense(rules)
        return rules

    def write(self, writer: Writer) -> None:
        """Append the encoding; the version is the extension's type."""
        writer.u8(_KINDS.index(self.kind) + 1).vector(self.name.encode()).vector(self.topic.encode()).u32(self.life)
        writer.items(self.owners, _write_identity).items(self.inviters, _write_identity)
        writer.items(self.barred, lambda inner, account: inner.vector(account.encode())).vector(self.site_key)

    def extension(self) -> Extension:
        """Return the only extension of the group context."""
        return Extension(extension_type(self.version), self.encode())

    def is_anchor(self, who: Identity) -> bool:
        """Whether commits by `who` are checkpoints: by an owner, and in a direct conversation by either of the two."""
        return self.kind == "direct" or who in self.owners

    @property
    def who_adds(self) -> frozenset[Identity]:
        """Who may add members: owners and inviters."""
        return frozenset(self.owners + self.inviters)


def in_order(identities: Iterable[Identity]) -> tuple[Identity, ...]:
    """Return identities in the order in which rules have them."""
    return tuple(sorted(identities))


def extension_type(version: int) -> int:
    """Return the MLS extension type of a version of the rules: the one that capabilities list, too."""
    return RULES_EXTENSION - VERSION + version


READERS: Final[dict[int, Callable[[bytes], Rules]]] = {VERSION: Rules.decode}
"""How the rules of each known version are read. Each raises `DecodeError`."""


def known_extensions() -> tuple[int, ...]:
    """Return the extension types of all known versions, for a leaf's capabilities."""
    return tuple(map(extension_type, READERS))


def rules_of(extensions: Extensions) -> Rules:
    """Return the rules in a group context's extensions. Raises `PeerError` unless they are there, alone and sound.

    Any other extension would be a second set of rules: external senders, say, may propose without being members.
    """
    versions = {extension_type(version): version for version in READERS}
    if len(extensions) != 1 or extensions[0].type not in versions:
        raise PeerError(
            "The group context has to hold the rules of the conversation, in a version that is known, and nothing else."
        )
    data, version = extensions[0].data, versions[extensions[0].type]
    if len(data) > MAX_RULES:
        raise DecodeError(f"The rules of the conversation take {len(data):,} bytes; at most {MAX_RULES:,} are allowed.")
    return _decoded(READERS[version], version, data)


@lru_cache(_REMEMBERED)
def _decoded(read: Callable[[bytes], Rules], version: int, data: bytes) -> Rules:
    """Read rules, or remember them: they are asked for at each step of a conversation, and seldom change."""
    return replace(read(data), version=version)


def _read_text(reader: Reader, longest: int) -> str:
    try:
        text = reader.vector(4 * longest).decode()
    except UnicodeDecodeError:
        raise DecodeError("A text in the rules of the conversation is not UTF-8.") from None
    if len(text) > longest:
        raise DecodeError(f"A text in the rules of the conversation is longer than {longest} characters.")
    return text


def _read_identity(reader: Reader) -> Identity:
    return Identity(_read_text(reader, MAX_ACCOUNT), reader.opaque(KEY_LENGTH))


def _write_identity(writer: Writer, identity: Identity) -> None:
    writer.vector(identity.account.encode()).opaque(identity.identity_key)


def _check_sense(rules: Rules) -> None:
    owners, inviters = ([identity.account for identity in identities] for identities in (rules.owners, rules.inviters))
    for accounts in (owners, inviters, rules.barred):
        if any(one >= following for one, following in pairwise(accounts)):
            raise DecodeError("The accounts in the rules of the conversation are not in ascending order.")
    named = [*owners, *inviters, *rules.barred]
    if len(set(named)) < len(named):
        raise DecodeError("The rules of the conversation name one account as two of owner, inviter and barred.")
    if len(rules.site_key) not in (0, KEY_LENGTH):
        raise DecodeError("The site key in the rules of the conversation is not a key.")
    if rules.kind == "direct":
        if rules.name or rules.topic or named or rules.site_key:
            raise DecodeError("A direct conversation has no name, topic, owners, inviters or bars.")
        return
    try:
        normal = [normalise_room(rules.name), *map(normalise_account, named)]
    except UsageError as error:
        raise DecodeError(f"A name in the rules of the conversation is not valid: {error}") from None
    if normal != [rules.name, *named]:
        raise DecodeError("A name in the rules of the conversation is not normalised.")
    if rules.kind == "invite" and not owners:
        raise DecodeError("An invite room needs an owner.")
    if rules.kind == "open" and inviters:
        raise DecodeError("Nobody is invited to an open room.")
    if rules.site_key and (rules.kind != "open" or owners):
        raise DecodeError("A site key stands in the rules of an open room without owners, in their place.")
