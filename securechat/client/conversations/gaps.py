"""Gaps: messages after our cursor that the server keeps no more, entered on its word and left on an entry's.

Of what lies in a gap only handshakes are left (docs/design.md, section 6, Following). What the server says of one
counts once an entry comes that follows it.
"""

from securechat.client.conversations import verdicts
from securechat.client.conversations.conversation import Conversation
from securechat.errors import PeerError


def inside(conversation: Conversation) -> bool:
    """Whether messages after our cursor are gone: of those before `row.gap` only handshakes are left."""
    return conversation.row.gap > conversation.row.cursor + 1


def next_seq(conversation: Conversation) -> int:
    """The seq of the next entry that is not lost."""
    return conversation.row.gap if inside(conversation) else conversation.row.cursor + 1


def pass_to(conversation: Conversation, seq: int, *, handshake: bool) -> None:
    """The entry `seq` has come: note the gap before it, if there is one. Raises `PeerError` if it does not follow.

    Behind a gap the numbers of all devices, and the chain, start anew, from the value that the server names: it
    counts once a member's message confirms it, as for somebody who joins.
    """
    row, gap = conversation.row, conversation.claimed_gap
    if conversation.context.parts.record.follows(seq, row.cursor) and not inside(conversation):
        return
    end = row.gap if inside(conversation) else gap.first_seq if gap is not None else 0
    if seq > end or (seq < end and not handshake):
        raise PeerError(f"entry {seq} follows entry {row.cursor}")
    enter(conversation)
    if seq == end:
        leave(conversation)


def enter(conversation: Conversation) -> None:
    """Messages are gone: tell, and forget what was of value only together with them."""
    row, gap = conversation.row, conversation.claimed_gap
    if gap is not None:
        row.gap, row.chain, conversation.claimed_gap = gap.first_seq, gap.chain, None
        conversation.trail.begin(row.gap - 1, row.chain)
        conversation.missed = True
        verdicts.look(conversation, "away", "walk")


def leave(conversation: Conversation) -> None:
    """From here on nothing is missing again."""
    conversation.row.cursor = conversation.row.gap - 1
    conversation.trail.begin(conversation.row.cursor, conversation.row.chain)
