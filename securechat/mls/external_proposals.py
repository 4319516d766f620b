"""External proposals: what somebody outside a group asks of it (RFC 9420, section 12.1.8).

Two kinds of outsiders may propose: those whom the group's `external_senders` extension lists, and those who ask to
be added. Both know the group's context (from a GroupInfo) and none of its secrets, so what they send is public.
Members check it in `PublicGroup.verify_proposal` and bring it into force by reference. Nothing is kept here.
"""

from securechat.errors import UsageError
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.framing import (
    AuthenticatedContent,
    FramedContent,
    MLSMessage,
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
)
from securechat.mls.group_context import GroupContext
from securechat.mls.key_package import KeyPackage
from securechat.mls.proposals import Add, Proposal


def propose_as_external_sender(
    context: GroupContext,
    index: int,
    proposal: Proposal,
    signature_private: SignaturePrivateKey,
    *,
    authenticated_data: bytes = b"",
    now: int,
) -> bytes:
    """An MLSMessage with a proposal by the sender at `index` of the group's `external_senders`.

    `now` is in seconds since 1970. Raises `UsageError` for a proposal that only members can make, `OutsideLifetime` for
    an Add with a key package that has expired or is not valid yet (section 7.3).
    """
    if not proposal.external:
        raise UsageError(f"{type(proposal).__name__} proposals cannot come from outside the group")
    if isinstance(proposal, Add):
        proposal.key_package.leaf_node.verify_lifetime(now)
    return _propose(context, Sender(SenderType.EXTERNAL, index), proposal, signature_private, authenticated_data)


def propose_own_add(
    context: GroupContext,
    key_package: KeyPackage,
    signature_private: SignaturePrivateKey,
    *,
    authenticated_data: bytes = b"",
    now: int,
) -> bytes:
    """An MLSMessage by which the owner of a key package asks to be added.

    `now` is in seconds since 1970. Raises `OutsideLifetime` if the key package has expired or is not valid yet.
    """
    key_package.leaf_node.verify_lifetime(now)
    sender = Sender(SenderType.NEW_MEMBER_PROPOSAL)
    return _propose(context, sender, Add(key_package), signature_private, authenticated_data)


def _propose(
    context: GroupContext,
    sender: Sender,
    proposal: Proposal,
    signature_private: SignaturePrivateKey,
    authenticated_data: bytes,
) -> bytes:
    framed = FramedContent(context.group_id, context.epoch, sender, authenticated_data, proposal)
    sign = signature_private.sign_with_label
    content = AuthenticatedContent.sign(WireFormat.PUBLIC_MESSAGE, framed, context, sign)
    return MLSMessage(PublicMessage(framed, content.auth, membership_tag=None)).encode()
