"""The operator's word: what a server's operator says in rooms that belong to nobody (docs/design.md, section 6, Rules).

A word is an entry of its own kind in the log, signed under the site key that stands in the rules of its epoch:

    struct {
        opaque server_id[16];
        opaque conversation[32];
        uint64 epoch;            /* of the conversation, when it was said */
        uint64 seq;              /* of its entry, so that it stands in one place of one log */
        uint64 time;             /* of its entry: ms since 1970 */
        uint8 kind;              /* 1 bar, 2 unbar, 3 remove, 4 upgrade, 5 site key */
        opaque about<V>;         /* 1 to 3: account, UTF-8; 4: uint16 version of the rules; 5: the new key */
        opaque leaf<V>;          /* 1 and 3: SHA-256 of the LeafNode that has to go; empty: the account has none */
        opaque signature[64];    /* Ed25519, over label<V> and all fields above */
    } Word;

It takes effect in two steps. At once, a leaf that has to go is departed, and whoever is barred does not come in. The
next regular commit, whoever makes it, removes the leaf and changes the rules by what the words before it say, and by
nothing else. Only an upgrade waits for longer: until every member's program knows the new version.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, Literal, Self

from securechat.errors import DecodeError, PeerError
from securechat.identity.certificate import KEY_LENGTH, SIGNATURE_LENGTH, certificate_of
from securechat.identity.site_key import SiteKey
from securechat.mls.framing import SenderType
from securechat.mls.leaf_node import LeafNode
from securechat.mls.proposals import GroupContextExtensions
from securechat.mls.public_group import PublicGroup, PublicStagedCommit
from securechat.mls.tree_math import LeafIndex
from securechat.policy.rules import MAX_BARRED, READERS, Rules, rules_of
from securechat.policy.support import check_support
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value
from securechat.wire.limits import CONVERSATION_ID_LENGTH, MAX_ACCOUNT, MAX_WORDS, SERVER_ID_LENGTH

Action = Literal["bar", "unbar", "remove", "upgrade", "site-key"]

LABEL: Final = b"securechat operator's word v1"

_ACTIONS: Final[tuple[Action, ...]] = ("bar", "unbar", "remove", "upgrade", "site-key")  # encoded as position + 1


@value
class Word(Struct):
    """One word. `about`: see the module; `leaf`: 32 bytes, or none."""

    server_id: bytes
    conversation: bytes
    epoch: int
    seq: int
    time: int
    action: Action
    about: bytes
    leaf: bytes = b""
    signature: bytes = bytes(SIGNATURE_LENGTH)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one. Raises `DecodeError`; says nothing yet about the signature."""
        server_id, conversation = reader.opaque(SERVER_ID_LENGTH), reader.opaque(CONVERSATION_ID_LENGTH)
        epoch, seq, time, kind = reader.u64(), reader.u64(), reader.u64(), reader.u8()
        if not 1 <= kind <= len(_ACTIONS):
            raise DecodeError(f"The operator's word is of an unknown kind ({kind}).")
        action, about, leaf = _ACTIONS[kind - 1], reader.vector(4 * MAX_ACCOUNT), reader.vector(KEY_LENGTH)
        word = cls(server_id, conversation, epoch, seq, time, action, about, leaf, reader.opaque(SIGNATURE_LENGTH))
        word._check_sense()
        return word

    def write(self, writer: Writer) -> None:
        """Append the encoding, signature included."""
        self._write_signed(writer)
        writer.opaque(self.signature)

    def signed(self, key: SiteKey) -> Self:
        """Return it with a signature."""
        return replace(self, signature=key.sign(self.to_be_signed()))

    def to_be_signed(self) -> bytes:
        """Return what the signature covers: the label and every other field."""
        writer = Writer().vector(LABEL)
        self._write_signed(writer)
        return bytes(writer)

    @property
    def account(self) -> str:
        """Whom it is about; empty: nobody."""
        return self.about.decode() if self.action in ("bar", "unbar", "remove") else ""

    @property
    def version(self) -> int:
        """Of the rules that it lets the conversation rise to; 0: none."""
        return int.from_bytes(self.about, "big") if self.action == "upgrade" else 0

    def _write_signed(self, writer: Writer) -> None:
        writer.opaque(self.server_id).opaque(self.conversation).u64(self.epoch).u64(self.seq).u64(self.time)
        writer.u8(_ACTIONS.index(self.action) + 1).vector(self.about).vector(self.leaf)

    def _check_sense(self) -> None:
        try:
            sound = not self.account or len(self.account) <= MAX_ACCOUNT
        except UnicodeDecodeError:
            sound = False
        length = {"upgrade": 2, "site-key": KEY_LENGTH}.get(self.action, len(self.about) or 1)
        allowed = (0, KEY_LENGTH) if self.action in ("bar", "remove") else (0,)
        if not sound or len(self.about) != length or len(self.leaf) not in allowed:
            raise DecodeError("The operator's word makes no sense.")


def check_word(group: PublicGroup, encoded: bytes, *, seq: int, time: int, before: Sequence[Word]) -> Word:
    """Check an entry that is a word, in the epoch of `group`; `before`: words that are still to be carried out.

    Raises `PeerError`: then the server should not have taken it.
    """
    word = Word.decode(encoded)
    if word.epoch != group.epoch:
        raise PeerError("A word of the operator belongs to another epoch.")
    if (word.seq, word.time) != (seq, time):
        raise PeerError("A word of the operator belongs to another place in the log.")
    _check_said(group, word)
    if len(before) >= MAX_WORDS:
        raise PeerError(f"More than {MAX_WORDS} words of the operator wait for somebody to carry them out.")
    rules = carried_out(rules_of(group.extensions), before)
    after = carried_out(rules, [word])
    if word.action in ("bar", "unbar", "site-key") and after == rules:
        raise PeerError(f"A word of the operator changes nothing: {word.action} {word.account}")
    if len(after.barred) > MAX_BARRED:
        raise PeerError(f"More than {MAX_BARRED} accounts cannot be barred from one room.")
    Rules.decode(after.encode())  # they are sound
    return word


def check_words(group: PublicGroup, encoded: Sequence[bytes]) -> tuple[Word, ...]:
    """Check the words that are still to be carried out, as they are shown to somebody who enters. Raises `PeerError`.

    Whether there are others, and whether these have been carried out, only the log can tell.
    """
    words = tuple(map(Word.decode, encoded))
    for place, word in enumerate(words):
        if word.epoch > group.epoch or (place and word.seq <= words[place - 1].seq):
            raise PeerError("The words of the operator are not in the order in which they were said.")
        _check_said(group, word)
    Rules.decode(carried_out(rules_of(group.extensions), words).encode())
    return words


def _check_said(group: PublicGroup, word: Word) -> None:
    """Check what holds for a word as long as it has not been carried out."""
    rules = rules_of(group.extensions)
    if not rules.site_key:
        raise PeerError(f"{rules.name or 'This conversation'} does not belong to the server's operator.")
    _, member = next(group.members())
    if (word.server_id, word.conversation) != (certificate_of(member).server_id, group.group_id):
        raise PeerError("A word of the operator belongs to another conversation or server.")
    group.suite.signature.verify(rules.site_key, word.to_be_signed(), word.signature)
    if word.action in ("bar", "remove"):
        found = leaf_of_account(group, word.account)
        if word.leaf != (leaf_hash(found[1]) if found is not None else b""):
            raise PeerError(f"A word of the operator about {word.account} names another leaf than theirs.")
        if word.action == "remove" and found is None:
            raise PeerError(f"The operator removes {word.account}, who is not there.")
    elif word.action == "site-key":
        group.suite.signature.check_public_key(word.about)


def leaf_of_account(group: PublicGroup, account: str) -> tuple[LeafIndex, LeafNode] | None:
    """Return the leaf of an account, if it has one."""
    return next((each for each in group.members() if certificate_of(each[1]).account == account), None)


def leaf_hash(leaf: LeafNode) -> bytes:
    """Return what a word calls a leaf: 32 bytes. Whoever comes back has another one."""
    return hashlib.sha256(leaf.encode()).digest()


def leaves_to_go(group: PublicGroup, words: Iterable[Word]) -> frozenset[LeafIndex]:
    """Return the leaves that words have made depart; the words have been checked in this epoch."""
    found = (leaf_of_account(group, word.account) for word in words if word.leaf)
    return frozenset(each[0] for each in found if each is not None)


def carried_out(rules: Rules, words: Iterable[Word]) -> Rules:
    """Return what rules become when words are carried out, upgrades apart."""
    for word in words:
        if word.action == "bar":
            rules = replace(rules, barred=tuple(sorted({*rules.barred, word.account})))
        elif word.action == "unbar":
            rules = replace(rules, barred=tuple(each for each in rules.barred if each != word.account))
        elif word.action == "site-key":
            rules = replace(rules, site_key=word.about)
    return rules


def barred(group: PublicGroup, words: Iterable[Word]) -> frozenset[str]:
    """Return who cannot enter now: whom the rules bar, and whom they will bar once words are carried out."""
    rules = rules_of(group.extensions)
    return frozenset(rules.barred + carried_out(rules, words).barred)


def rules_due(group: PublicGroup, words: Sequence[Word]) -> Rules:
    """Return the rules that the next regular commit has to bring, upgraded as far as everybody's program allows."""
    rules = carried_out(rules_of(group.extensions), words)
    for version in sorted({word.version for word in words} & READERS.keys(), reverse=True):
        if version > rules.version:
            upgraded = replace(rules, version=version)
            try:
                check_support(group, [GroupContextExtensions((upgraded.extension(),))])
            except PeerError:
                continue
            return upgraded
    return rules


def still_due(commit: PublicStagedCommit, words: Iterable[Word]) -> tuple[Word, ...]:
    """Return the words that a commit leaves to be carried out."""
    if commit.sender.type == SenderType.NEW_MEMBER_COMMIT:  # it can change no rules
        entered = certificate_of(commit.committer).account  # so it is not barred: what was said of it is undone or over
        return tuple(word for word in words if word.account != entered)
    version = rules_of(commit.after.extensions).version
    return tuple(word for word in words if word.version > version)
