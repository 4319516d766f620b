"""Resync: where a walk without secrets begins, at the end of which our own leaf is replaced (`walking`, `entering`)."""

from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.walking import Base, Walk


def supersede(conversation: Conversation) -> None:
    """Follow the handshakes without secrets, and replace our own leaf where they end.

    This reads the log anew from where our epoch began: a server that was restored may have other handshakes of this
    epoch than those before our cursor.
    """
    conversation.advance("superseded")
    conversation.unstage()
    conversation.lost_track()
    conversation.astray = True


def walk_from(conversation: Conversation) -> int:
    """The seq after which a walk begins."""
    return conversation.trail.first if conversation.base is None else conversation.base.seq


def begin_walk(conversation: Conversation) -> None:
    """Walk from our trusted state, beside which everything else is left as it is."""
    own, base = conversation.context.device.certificate, conversation.base
    if base is not None:
        conversation.walk = Walk(
            base.group,
            base.departed,
            base.words,
            base.revocations,
            device=own,
            after_seq=walk_from(conversation),
            last=base.signer_leaf,
        )
    else:
        own_state = (conversation.group.public, conversation.departed, conversation.words, conversation.revocations)
        conversation.walk = Walk(*own_state, device=own, after_seq=walk_from(conversation))


def recover(conversation: Conversation, base: Base) -> None:
    """Walk from `base`, which the table of doors has let in."""
    conversation.advance("recovered")
    conversation.unstage()
    conversation.lost_track()
    conversation.base, conversation.astray = base, True
