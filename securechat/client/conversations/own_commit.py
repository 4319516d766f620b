"""Our own commit in the state that we are in: made, checked and stored before it goes anywhere."""

from collections.abc import Sequence

from securechat import policy
from securechat.client.conversations.conversation import Conversation, Staged
from securechat.client.conversations.numbers import encode_commit
from securechat.client.device import CAPABILITIES
from securechat.errors import InternalError
from securechat.mls.proposals import Proposal
from securechat.wire.messages import Commit


def stage(conversation: Conversation, proposals: Sequence[Proposal], now: int) -> Staged:
    """Make a commit of `proposals`, with a fresh path, and keep it; `now` in ms. Raises `PeerError` if it cannot be."""
    number, device = conversation.row.number + 1, conversation.context.device
    staged = conversation.group.commit(
        proposals,
        by_reference=None,
        credential=device.credential,
        capabilities=CAPABILITIES,  # a newer program says so: the version of the rules waits for that
        signature_private=device.signature,  # of the leaf from now on: the commit itself is signed as before
        authenticated_data=encode_commit(number, now),
        tree_in_welcome=False,
        validate=device.validator(now // 1000),
        now=now // 1000,
    )
    policy.check_commit(
        staged.public,
        departed=conversation.departed,
        words=conversation.words,
        revocations=conversation.revocations,
    )
    request = Commit(0, conversation.id, number, staged.message, staged.welcome or b"", staged.group_info or b"")
    conversation.stage(number, request, staged)
    if conversation.staged is None:
        raise InternalError("a commit that was staged is not there")
    return conversation.staged
