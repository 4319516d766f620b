"""Beginning: an entered group becomes a conversation's state, and nothing of an earlier membership is left of it."""

from collections.abc import Iterable

from securechat.client.conversations import evidence, roster, rule_changes
from securechat.client.conversations.conversation import Conversation
from securechat.client.doors.facts import Verdict
from securechat.identity.statements import Statement
from securechat.mls.group import Group
from securechat.mls.tree_math import LeafIndex
from securechat.policy import Word


def begin(
    conversation: Conversation,
    verdict: Verdict,
    group: Group,
    *,
    seq: int,
    chain: bytes,
    number: int | None,
    departed: Iterable[LeafIndex] = (),
    words: Iterable[Word] = (),
    revocations: Iterable[Statement] = (),
) -> None:
    """Follow the log from `seq` on, where its chain value is `chain`. Nothing of an earlier membership is kept.

    `verdict`: of the table of doors. `number`: our newest submission in the log; None if we may have been in
    before, so that the server has to say. `departed`: leaves of departed devices; `words`: of the operator,
    that are still to be carried out; `revocations`: of leaves that are still there.
    """
    context, vault, row = conversation.context, conversation.context.vault, conversation.row
    # We have just entered under `number`; earlier submissions may be among the entries that we skipped.
    unsure = vault.outbox.drop_submitted(conversation.id, (number or 0) - 1)
    problem = "It is not known whether this message was sent."
    conversation.refuse_dropped(unsure, "local", problem, problem)
    conversation.trail.begin(seq, chain)
    if number is not None:
        conversation.trail.note_number(context.device.id, number)
    conversation.void_ciphertexts()
    conversation.unstage()
    conversation.replace_group(verdict, group)
    conversation.advance("entered")
    conversation.walk, conversation.base, conversation.claimed_gap = None, None, None
    conversation.repairing = conversation.misnumbered = False
    row.cursor, row.chain, row.number, row.gap = seq, chain, number or 0, 0
    row.sent_on_path = 0
    row.path_time = row.followed = context.clock.milliseconds()
    evidence.forget(conversation)
    row.confirmed = row.confirmed or row.path_time  # what came before us, nobody can tell
    conversation.set_departed(departed)
    conversation.set_words(words)
    conversation.set_revocations(revocations)
    roster.begin_anew(conversation)
    roster.note_members(conversation)
    roster.hold(conversation, verdict)
    for person in conversation.people.values():
        context.meet(person, conversation.id)
    rule_changes.settle(conversation)
