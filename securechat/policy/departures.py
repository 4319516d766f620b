"""Leaving: a device's signed proposal to remove itself, and what proves it to those who come later."""

import hashlib
from dataclasses import replace

from securechat.errors import PeerError
from securechat.mls.framing import PublicMessage, decode_body
from securechat.mls.leaf_node import LeafNode
from securechat.mls.proposals import Remove
from securechat.mls.public_group import PublicGroup
from securechat.mls.tree_math import LeafIndex
from securechat.wire.limits import MAX_PROPOSAL


def departure_data(number: int, leaf_node: LeafNode) -> bytes:
    """Return the authenticated data of a device's proposal to remove itself: `uint64 number || SHA-256(LeafNode)`.

    The leaf is the one that the device leaves. Should it come back, it comes with another, even in the same place under
    the same signature key, and the old proposal cannot take it out again.
    """
    return number.to_bytes(8, "big") + hashlib.sha256(leaf_node.encode()).digest()


def epoch_state(group: PublicGroup) -> bytes:
    """Return what tells an epoch from others between two regular commits: tree hash and transcript hash, 64 bytes.

    All else of a GroupContext stays as it is until the next regular commit, and that one has to remove whoever has
    left. So a proof does not repeat the rules, which may take 16 KiB, for each of them.
    """
    return group.context.tree_hash + group.context.confirmed_transcript_hash


def check_departure(group: PublicGroup, proposal: bytes, state: bytes = b"") -> LeafIndex:
    """Check the proof that a member has left (`wire.messages.Departure`); return its leaf.

    `proposal` is an MLSMessage with the device's own Remove; `state` is the `epoch_state` of the epoch that it was
    signed in, an earlier one since the last regular commit; empty: this epoch. It has to name the leaf that is there
    now (`departure_data`) and to be signed by that leaf's key. Whether its number is right, only a log can tell.
    """
    message = decode_body(proposal, PublicMessage)
    content, half = message.content, len(state) // 2
    context = group.context
    if state:
        context = replace(context, epoch=content.epoch, tree_hash=state[:half], confirmed_transcript_hash=state[half:])
    leaf = content.sender.leaf
    if leaf is None or content.content != Remove(leaf):
        raise PeerError("A device leaves by proposing its own removal; this is something else.")
    if content.group_id != group.group_id:
        raise PeerError("A proof that somebody has left belongs to another conversation.")
    if not content.epoch == context.epoch <= group.epoch:
        raise PeerError("A proof that somebody has left belongs to another epoch.")
    leaf_node = group.member(leaf)
    if content.authenticated_data != departure_data(int.from_bytes(content.authenticated_data[:8], "big"), leaf_node):
        raise PeerError("A proof that somebody has left is about another leaf: the device may have come back since.")
    if len(proposal) > MAX_PROPOSAL:  # who enters gets all of them in one frame
        raise PeerError(f"A proof that somebody has left takes {len(proposal):,} bytes; {MAX_PROPOSAL} are allowed.")
    message.authenticated_content.verify_signature(group.suite, leaf_node.signature_key, context)
    return leaf
