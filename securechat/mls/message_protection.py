"""Message protection: membership tags and encryption (RFC 9420, sections 6.2 and 6.3).

Functions of an epoch's secrets. They delete nothing themselves: opening and sealing give the `Step` of the
secret tree that the caller takes once the message is accepted, or stored to be sent.
"""

from collections.abc import Callable
from typing import NamedTuple

from securechat.errors import DecodeError, UsageError
from securechat.mls.crypto import sealing
from securechat.mls.crypto.secret import Secret
from securechat.mls.crypto.suite import CipherSuite
from securechat.mls.errors import InvalidMessage
from securechat.mls.framing import (
    AuthenticatedContent,
    ContentType,
    FramedContent,
    FramedContentAuthData,
    PrivateMessage,
    PublicMessage,
    Sender,
    WireFormat,
    read_content,
    write_content,
)
from securechat.mls.group_context import GroupContext
from securechat.mls.secret_tree import MessageKey, SecretTree, Step
from securechat.mls.tree_math import LeafIndex
from securechat.tlscodec import Reader, Writer

REUSE_GUARD_SIZE = 4
"""Bytes of fresh randomness mixed into each nonce (section 6.3.1)."""


def protect_public(
    suite: CipherSuite, membership_key: Secret, content: AuthenticatedContent, context: GroupContext
) -> PublicMessage:
    """Add the membership tag (section 6.2). Raises `UsageError` for application data."""
    if content.content.content_type == ContentType.APPLICATION:
        raise UsageError("application data is never sent in the clear")
    tag = sealing.mac(suite, membership_key, content.tbm(context))
    return PublicMessage(content.content, content.auth, tag)


def verify_membership_tag(
    suite: CipherSuite, membership_key: Secret, message: PublicMessage, context: GroupContext
) -> None:
    """Raises `InvalidMessage` unless a member's tag fits. Senders outside the group have none."""
    if message.content.content_type == ContentType.APPLICATION:
        raise InvalidMessage("application data came in the clear")
    if message.membership_tag is not None:
        covered = message.authenticated_content.tbm(context)
        sealing.verify_mac(suite, membership_key, covered, message.membership_tag, "membership tag")


class SenderData(NamedTuple):
    """Which key a message uses (section 6.3.2)."""

    leaf: LeafIndex
    generation: int
    reuse_guard: bytes


def sender_data_key(suite: CipherSuite, sender_data_secret: Secret, ciphertext: bytes) -> MessageKey:
    """The key and nonce for a message's sender data, from a sample of its ciphertext (section 6.3.2)."""
    sample = ciphertext[: suite.hash_size]
    return MessageKey(
        sealing.expand_with_label(suite, sender_data_secret, b"key", sample, suite.key_size),
        sealing.expand_with_label(suite, sender_data_secret, b"nonce", sample, suite.nonce_size),
    )


def _guarded(nonce: bytes, reuse_guard: bytes) -> bytes:
    head = int.from_bytes(nonce[:REUSE_GUARD_SIZE], "big") ^ int.from_bytes(reuse_guard, "big")
    return head.to_bytes(REUSE_GUARD_SIZE, "big") + nonce[REUSE_GUARD_SIZE:]


def _sender_data_aad(group_id: bytes, epoch: int, content_type: ContentType) -> Writer:
    """SenderDataAAD; with the authenticated data behind it, it is PrivateContentAAD."""
    return Writer().vector(group_id).u64(epoch).u8(content_type)


def protect_private(
    suite: CipherSuite,
    sender_data_secret: Secret,
    tree: SecretTree,
    content: AuthenticatedContent,
    *,
    padding: int = 0,
) -> tuple[PrivateMessage, Step]:
    """Encrypt a member's content (section 6.3) with `padding` zero bytes at its end.

    The step must be taken, and stored, before the message leaves.
    """
    framed = content.content
    leaf = framed.sender.leaf
    if leaf is None:
        raise UsageError("only members can encrypt")
    handshake = framed.content_type != ContentType.APPLICATION
    generation = tree.next_generation(leaf, handshake=handshake)
    key, step = tree.key(leaf, generation, handshake=handshake)

    writer = Writer()
    write_content(writer, framed.content)
    content.auth.write(writer)
    plaintext = bytes(writer.opaque(bytes(padding)))
    reuse_guard = sealing.random_bytes(REUSE_GUARD_SIZE)
    sender_aad = _sender_data_aad(framed.group_id, framed.epoch, framed.content_type)
    content_aad = Writer().opaque(bytes(sender_aad)).vector(framed.authenticated_data)
    nonce = _guarded(key.nonce, reuse_guard)
    ciphertext = sealing.aead_seal(suite, key.key, nonce, bytes(content_aad), plaintext)

    sender_key = sender_data_key(suite, sender_data_secret, ciphertext)
    sender_data = bytes(Writer().u32(leaf).u32(generation).opaque(reuse_guard))
    sealed = sealing.aead_seal(suite, sender_key.key, sender_key.nonce, bytes(sender_aad), sender_data)
    message = PrivateMessage(
        framed.group_id, framed.epoch, framed.content_type, framed.authenticated_data, sealed, ciphertext
    )
    return message, step


def open_sender_data(suite: CipherSuite, sender_data_secret: Secret, message: PrivateMessage) -> SenderData:
    """Decrypt who sent a message (section 6.3.2). Raises `CannotDecrypt`."""
    key = sender_data_key(suite, sender_data_secret, message.ciphertext)
    aad = bytes(_sender_data_aad(message.group_id, message.epoch, message.content_type))
    opened = Reader(sealing.aead_open(suite, key.key, key.nonce, aad, message.encrypted_sender_data))
    data = SenderData(LeafIndex(opened.u32()), opened.u32(), opened.opaque(REUSE_GUARD_SIZE))
    opened.done()
    return data


def open_private(
    suite: CipherSuite,
    sender_data_secret: Secret,
    tree: SecretTree,
    message: PrivateMessage,
    check_sender: Callable[[LeafIndex], None],
) -> tuple[AuthenticatedContent, Step]:
    """Decrypt a message (section 6.3.1). Its signature is still to be verified.

    `check_sender` raises `InvalidMessage` for leaves that cannot have sent it. Raises `CannotDecrypt` if the
    message was altered or read before, and `DecodeError` if what was encrypted does not parse or is padded
    with anything but zeros.
    """
    sender = open_sender_data(suite, sender_data_secret, message)
    check_sender(sender.leaf)
    handshake = message.content_type != ContentType.APPLICATION
    key, step = tree.key(sender.leaf, sender.generation, handshake=handshake)
    aad = _sender_data_aad(message.group_id, message.epoch, message.content_type)
    aad.vector(message.authenticated_data)
    nonce = _guarded(key.nonce, sender.reuse_guard)
    opened = Reader(sealing.aead_open(suite, key.key, nonce, bytes(aad), message.ciphertext))

    content = read_content(opened, message.content_type)
    auth = FramedContentAuthData.read(opened, message.content_type)
    if any(opened.opaque(opened.remaining)):
        raise DecodeError("the padding of a message is not zero")
    framed = FramedContent(
        message.group_id, message.epoch, Sender.member(sender.leaf), message.authenticated_data, content
    )
    return AuthenticatedContent(WireFormat.PRIVATE_MESSAGE, framed, auth), step
