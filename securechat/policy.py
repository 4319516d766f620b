"""The rules of a conversation and what they allow in a commit (docs/design.md, section 6, Rules and Leaving).

The rules are in the group context from the beginning, signed by the founder, so that neither the server nor a member
can turn an invite room into an open one:

    struct {
        uint16 version = 1;
        uint8 kind;                         /* 1 direct, 2 invite, 3 open */
        opaque name<V>;                     /* UTF-8: the room's name; empty for direct */
        opaque owners<V>;                   /* identity keys, 32 bytes each, in ascending order */
        opaque inviters<V>;                 /* the same: may add members, as owners may */
    } Rules;

The server and every client judge a commit by the same functions. These look at the group, the devices that have left
it, and the commit, and at nothing else: members who judged differently would end up in different groups (invariant 8).
They run after the checks of RFC 9420, and raise `PeerError` that says who did what. Only `check_proposals` runs before
those, so that no work is spent on what is not allowed anyway. Nothing here needs or sees a secret.

    in a commit            direct                   invite room              open room
    Add                    devices of the two       owners and inviters      nobody
    Remove                 departed devices         owners; departed ones    owners; departed ones
    change of the rules    nobody                   owners                   owners
    external join          nobody                   nobody                   everybody
    external resync        one's own device         one's own device         one's own device

A regular commit has to remove every departed device. Proposals are in the commit by value. Updates, PSKs and ReInit are
not used: a commit with a path updates its sender.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, Self

from securechat.errors import DecodeError, PeerError, UsageError
from securechat.identity.certificate import KEY_LENGTH, RULES_EXTENSION, DeviceCertificate, certificate_of
from securechat.mls.commit import Commit
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
from securechat.mls.extensions import Extension, Extensions
from securechat.mls.framing import PublicMessage, SenderType, decode_body
from securechat.mls.group_context import GroupContext
from securechat.mls.leaf_node import LeafNode
from securechat.mls.proposals import Add, ExternalInit, GroupContextExtensions, Proposal, Remove
from securechat.mls.public_group import PublicGroup, PublicStagedCommit
from securechat.mls.tree_math import LeafIndex
from securechat.names import normalise_room
from securechat.tlscodec import Reader, Struct, Writer
from securechat.wire.limits import MAX_ROOM, MAX_ROOM_DEVICES

Kind = Literal["direct", "invite", "open"]

VERSION: Final = 1
MAX_KEYS: Final = 64
"""Owners, and inviters, of one room: each commit that changes the rules carries them all."""

_KINDS: Final[tuple[Kind, ...]] = ("direct", "invite", "open")  # encoded as position + 1


@dataclass(frozen=True)
class Rules(Struct):
    """What a conversation is, and who may change it."""

    kind: Kind
    name: str = ""
    owners: tuple[bytes, ...] = ()
    inviters: tuple[bytes, ...] = ()
    version: int = VERSION

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read rules and check that they make sense. Raises `DecodeError`."""
        version = reader.u16()
        if version != VERSION:
            raise DecodeError(f"The rules of the conversation have version {version}; only {VERSION} is known.")
        kind = reader.u8()
        if not 1 <= kind <= len(_KINDS):
            raise DecodeError(f"The conversation is of an unknown kind ({kind}).")
        try:
            name = reader.vector(4 * MAX_ROOM).decode()
        except UnicodeDecodeError:
            raise DecodeError("The name of the conversation is not UTF-8.") from None
        rules = cls(_KINDS[kind - 1], name, _read_keys(reader), _read_keys(reader))
        _check_sense(rules)
        return rules

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.u16(self.version).u8(_KINDS.index(self.kind) + 1).vector(self.name.encode())
        writer.vector(b"".join(sorted(self.owners))).vector(b"".join(sorted(self.inviters)))

    def extension(self) -> Extension:
        """Return the only extension of the group context."""
        return Extension(RULES_EXTENSION, self.encode())


def _read_keys(reader: Reader) -> tuple[bytes, ...]:
    inner = Reader(reader.vector(MAX_KEYS * KEY_LENGTH))
    keys: list[bytes] = []
    while inner.remaining:
        keys.append(inner.opaque(KEY_LENGTH))
        if keys[-2:-1] >= keys[-1:]:
            raise DecodeError("The keys in the rules of the conversation are not in ascending order.")
    return tuple(keys)


def _check_sense(rules: Rules) -> None:
    if rules.kind == "direct":
        if rules.name or rules.owners or rules.inviters:
            raise DecodeError("A direct conversation has no name, owners or inviters.")
        return
    try:
        normal = normalise_room(rules.name)
    except UsageError as error:
        raise DecodeError(f"The room's name is not valid: {error}") from None
    if normal != rules.name:
        raise DecodeError("The name of the room is not normalised.")
    if rules.kind == "invite" and not rules.owners:
        raise DecodeError("An invite room needs an owner.")
    if rules.kind == "open" and rules.inviters:
        raise DecodeError("Nobody is invited to an open room.")


def rules_of(extensions: Extensions) -> Rules:
    """Return the rules in a group context's extensions. Raises `PeerError` unless they are there, alone and sound.

    Any other extension would be a second set of rules: external senders, say, may propose without being members.
    """
    if [extension.type for extension in extensions] != [RULES_EXTENSION]:
        raise PeerError("The group context has to hold the rules of the conversation and nothing else.")
    return Rules.decode(extensions[0].data)


# --- states -------------------------------------------------------------------------------------------------------


def check_state(group: PublicGroup) -> Rules:
    """Check what holds in every epoch of a conversation, as a joiner has to; return its rules."""
    if group.suite != MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519:
        raise PeerError(f"The conversation uses the cipher suite {group.suite.name}, which is not ours.")
    rules = rules_of(group.extensions)
    devices: set[bytes] = set()  # logs, numbers and departures name a device by its id alone
    people: set[tuple[str, bytes]] = set()
    count = 0
    for certificate in _certificates(group):
        count += 1
        devices.add(certificate.device_id)
        people.add((certificate.account, certificate.identity_key))
    if len(devices) < count:
        raise PeerError("One device is in the conversation twice.")
    if count > MAX_ROOM_DEVICES:
        raise PeerError(f"The conversation has more than {MAX_ROOM_DEVICES} devices.")
    if rules.kind == "direct" and (len(people) > 2 or len({account for account, _ in people}) < len(people)):
        raise PeerError("A direct conversation is between two people, each with one identity key.")
    return rules


def check_founding(group: PublicGroup, *, creator: DeviceCertificate) -> Rules:
    """Check the first epoch of a group that `creator` has just made; return its rules."""
    rules = check_state(group)
    if group.epoch != 0:
        raise PeerError("A conversation begins with epoch 0.")
    if list(_certificates(group)) != [creator]:
        raise PeerError("A conversation begins with one member: the device that opens it.")
    if rules.kind == "invite" and creator.identity_key not in rules.owners:
        raise PeerError("The founder of an invite room has to be its owner.")
    if rules.kind == "open" and rules.owners:
        raise PeerError("An open room begins without owners.")
    return rules


def check_opening(staged: PublicStagedCommit, *, peer: str) -> None:
    """Check that the first commit of a direct conversation adds `peer`, in addition to what `check_commit` checks."""
    if {certificate_of(leaf).account for _, leaf in staged.added} != {peer}:
        raise PeerError(f"The first commit of a direct conversation has to add {peer} and nobody else.")


def check_joining(group: PublicGroup, *, kind: Kind, name: str) -> Rules:
    """Check, before joining, that the group is what we meant to join: `kind`, and for rooms the `name`."""
    rules = check_state(group)
    if (rules.kind, rules.name) != (kind, name):
        raise PeerError(
            f"You meant to enter {_title(kind, name)}, but the server led you to {_title(rules.kind, rules.name)}. "
            "Nothing was joined or sent."
        )
    return rules


def _title(kind: Kind, name: str) -> str:
    return "a direct conversation" if kind == "direct" else f"the {kind} room {name}"


# --- commits ------------------------------------------------------------------------------------------------------


def check_proposals(message: PublicMessage) -> None:
    """Check that a commit holds only what is used here, without a group and before staging it.

    Staging tries each proposal, and new extensions on each member: one message must not make that expensive.
    """
    commit = message.content.content
    if not isinstance(commit, Commit):
        raise PeerError("Something else came where a commit was expected.")
    for proposal in commit.proposals:
        if not isinstance(proposal, Proposal):
            raise PeerError("A commit names a proposal by reference; it has to be in the commit.")
        if not isinstance(proposal, Add | Remove | GroupContextExtensions | ExternalInit):
            raise PeerError(f"A commit holds a proposal that is not used here: {type(proposal).__name__}.")
        if isinstance(proposal, GroupContextExtensions):
            rules_of(proposal.extensions)


def check_commit(staged: PublicStagedCommit, *, departed: frozenset[LeafIndex]) -> None:
    """Check that the rules allow a commit. `departed`: leaves of the epoch before it whose devices have left."""
    rules = rules_of(staged.before.extensions)
    who = certificate_of(staged.committer)
    proposals = tuple(_by_value(staged, who))
    if staged.sender.type == SenderType.NEW_MEMBER_COMMIT:
        _check_external(staged, rules, who, proposals, departed)
    else:
        _check_sender(staged, who, departed)
        _check_adds(staged, rules, who)
        _check_removes(staged, rules, who, departed)
        for proposal in proposals:
            if not isinstance(proposal, Add | Remove | GroupContextExtensions):
                raise PeerError(f"{who.account} commits a proposal that is not used here: {type(proposal).__name__}.")
            if isinstance(proposal, GroupContextExtensions):
                _check_rules_change(rules, rules_of(proposal.extensions), who)
    check_state(staged.after)


def _by_value(staged: PublicStagedCommit, who: DeviceCertificate) -> Iterator[Proposal]:
    for committed in staged.proposals:
        if committed.by_reference:
            raise PeerError(f"{who.account} commits a proposal by reference; it has to be in the commit.")
        yield committed.proposal


def _check_sender(staged: PublicStagedCommit, who: DeviceCertificate, departed: frozenset[LeafIndex]) -> None:
    if staged.committer_leaf in departed:
        raise PeerError(f"{who.account} commits after having left.")
    after = certificate_of(staged.after.member(staged.committer_leaf))
    if _device(after) != _device(who):
        raise PeerError(f"{who.account} becomes another device or identity in a commit.")


def _check_adds(staged: PublicStagedCommit, rules: Rules, who: DeviceCertificate) -> None:
    added = [certificate_of(leaf) for _, leaf in staged.added]
    if not added:
        return
    if rules.kind == "open":
        raise PeerError(f"{who.account} adds {added[0].account} to an open room, which people enter by themselves.")
    if rules.kind == "invite" and who.identity_key not in rules.owners + rules.inviters:
        raise PeerError(f"{who.account} adds {added[0].account} without being an owner or inviter of {rules.name}.")
    if rules.kind == "direct" and staged.before.epoch > 0:
        people = {(member.account, member.identity_key) for member in _certificates(staged.before)}
        for certificate in added:
            if (certificate.account, certificate.identity_key) not in people:
                raise PeerError(f"{who.account} adds {certificate.account} to a direct conversation of two others.")


def _check_removes(
    staged: PublicStagedCommit, rules: Rules, who: DeviceCertificate, departed: frozenset[LeafIndex]
) -> None:
    removed = dict(staged.removed)
    for index, leaf in removed.items():
        if index not in departed and who.identity_key not in rules.owners:
            raise PeerError(f"{who.account} removes {certificate_of(leaf).account} without being an owner.")
    for index in sorted(departed - removed.keys()):
        left = certificate_of(staged.before.member(index))
        raise PeerError(f"{who.account} does not remove {left.account}, who has left.")


def _check_rules_change(before: Rules, after: Rules, who: DeviceCertificate) -> None:
    if who.identity_key not in before.owners:
        raise PeerError(f"{who.account} changes the rules without being an owner.")
    if (after.version, after.kind, after.name) != (before.version, before.kind, before.name):
        raise PeerError(f"{who.account} changes the kind or the name of the conversation, which are fixed.")


def _check_external(
    staged: PublicStagedCommit,
    rules: Rules,
    who: DeviceCertificate,
    proposals: tuple[Proposal, ...],
    departed: frozenset[LeafIndex],
) -> None:
    for proposal in proposals:
        if not isinstance(proposal, ExternalInit | Remove):
            raise PeerError(f"{who.account} enters with a proposal that is not allowed: {type(proposal).__name__}.")
    for index, leaf in staged.removed:
        if _device(certificate_of(leaf)) != _device(who):
            raise PeerError(f"{who.account} enters by removing {certificate_of(leaf).account}.")
        if index in departed and rules.kind != "open":
            raise PeerError(f"{who.account} comes back after having left; somebody has to add them.")
    if not staged.removed and rules.kind != "open":
        raise PeerError(f"{who.account} enters without having been added, and this is not an open room.")


def _certificates(group: PublicGroup) -> Iterator[DeviceCertificate]:
    return (certificate_of(leaf) for _, leaf in group.members())


def _device(certificate: DeviceCertificate) -> tuple[str, bytes, bytes]:
    return certificate.account, certificate.device_id, certificate.identity_key


# --- leaving ------------------------------------------------------------------------------------------------------


def departure_data(number: int, leaf_node: LeafNode) -> bytes:
    """Return the authenticated data of a device's proposal to remove itself: `uint64 number || SHA-256(LeafNode)`.

    The leaf is the one that the device leaves. Should it come back, it comes with another, even in the same place under
    the same signature key, and the old proposal cannot take it out again.
    """
    return number.to_bytes(8, "big") + hashlib.sha256(leaf_node.encode()).digest()


def check_departure(group: PublicGroup, proposal: bytes, group_context: bytes) -> LeafIndex:
    """Check the proof that a member has left (`wire.messages.Departure`); return its leaf.

    `proposal` is an MLSMessage with the device's own Remove, `group_context` the GroupContext it was signed under: of
    this epoch or an earlier one. It has to name the leaf that is there now (`departure_data`) and to be signed by that
    leaf's key. Whether its number is right, only a log can tell.
    """
    message = decode_body(proposal, PublicMessage)
    content, context = message.content, GroupContext.decode(group_context)
    leaf = content.sender.leaf
    if leaf is None or content.content != Remove(leaf):
        raise PeerError("A device leaves by proposing its own removal; this is something else.")
    if not content.group_id == context.group_id == group.group_id:
        raise PeerError("A proof that somebody has left belongs to another conversation.")
    if not content.epoch == context.epoch <= group.epoch:
        raise PeerError("A proof that somebody has left belongs to another epoch.")
    leaf_node = group.member(leaf)
    if content.authenticated_data != departure_data(int.from_bytes(content.authenticated_data[:8], "big"), leaf_node):
        raise PeerError("A proof that somebody has left is about another leaf: the device may have come back since.")
    message.authenticated_content.verify_signature(group.suite, leaf_node.signature_key, context)
    return leaf
