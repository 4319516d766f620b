"""Our own entries where they stand in the log: what we submitted takes effect; what we did not is asked about.

An entry that is said to be ours, and that this vault does not know, comes from another copy of it, or from a lie.
"""

from securechat import policy
from securechat.client import events
from securechat.client.answers import Key
from securechat.client.conversations import bodies, commits, dates, marking, marks, resync, verdicts
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.standstill import distrust
from securechat.errors import PeerError
from securechat.identity.certificate import certificate_of
from securechat.mls.framing import ContentType, PublicMessage, decode_body
from securechat.wire.messages import Entry


def receive(conversation: Conversation, entry: Entry, number: int, content_type: ContentType) -> bool:
    """Process an entry that is ours by the server's word. Return whether the log goes on after it."""
    staged = conversation.staged
    if (
        staged is not None
        and staged.commit is not None
        and (staged.number, staged.commit.message) == (number, entry.payload)
    ):
        if staged.commit.public.before.context != conversation.group.public.context:
            distrust(conversation, "the server took a change of yours that leads on from another state than this one")
            return False
        if staged.commit.group_info != entry.group_info:
            distrust(conversation, "the server altered the GroupInfo that came with a change of yours")
            return False
        try:
            commits.check(conversation, staged.commit.public)
        except PeerError as error:  # true when it was made; somebody may have left since
            distrust(conversation, f"the server took a change of yours that all others have to refuse: {error}")
            return False
        commits.merge_own(conversation, entry, staged.commit)
        return True
    vault, answers = conversation.context.vault, conversation.context.answers
    item = conversation.encrypted.pop(number, None) or vault.outbox.by_number(conversation.id, number)
    if item is None or item.payload != entry.payload:
        return _process_unknown(conversation, entry, content_type)
    key: Key = ("item", item.id)
    vault.outbox.delete(item.id)
    if item.kind == "leave":
        conversation.row.closed = True
        conversation.end("You have left this conversation.")
        conversation.tell("left", conversation.context.device.account, answers.waiting(key))
    elif item.kind == "marks":
        marking.told(conversation, item)
    else:
        conversation.row.sent_on_path += 1
        if item.local_id:
            message = vault.history.accept(
                item.local_id, entry.seq, entry.time, number,
                life=conversation.row.life, now=conversation.context.clock.milliseconds(),
                recipients=marks.recipients(conversation),
            )  # fmt: skip
            conversation.context.emit(events.Delivered(message, command=answers.waiting(key)))
            dates.note_written(conversation, message.sender, message.written, entry.time)
        elif item.about and (why := bodies.receive_own(conversation, entry, item, answers.waiting(key))):
            answers.refuse(key, "local", why)
    answers.done(key)
    return True


def _process_unknown(conversation: Conversation, entry: Entry, content_type: ContentType) -> bool:
    """Process an entry that is said to be our own, and that this vault does not know: is it an older copy?"""
    context = conversation.context
    if context.vault.refused.has(conversation.id, entry.payload):
        distrust(conversation, "the server took what you had said or changed after it had refused it")
        return False
    if content_type == ContentType.APPLICATION:
        conversation.unstage()  # its number is used, and so may be the keys of whatever waits
        conversation.void_ciphertexts()
        verdicts.look(conversation, "old-copy", "walk", time=entry.time)
        return True
    public, validate = conversation.group.public, context.device.validator(entry.time // 1000)
    try:
        if content_type == ContentType.PROPOSAL:
            leaf = policy.check_departure(public, entry.payload)
            who = certificate_of(public.member(leaf))
        else:
            message = decode_body(entry.payload, PublicMessage)
            policy.check_proposals(message, public)
            who = certificate_of(public.stage(message, validate=validate, now=entry.time // 1000).committer)
        if (who.device_id, who.identity_key) != (context.device.id, context.device.identity_key):
            raise PeerError(f"it is {who.account}'s")
    except PeerError as error:
        distrust(conversation, f"the server ascribes to this device what it did not make: {error}")
        return False
    if content_type == ContentType.PROPOSAL:
        conversation.row.closed = True
        conversation.end("You have left this conversation.")
        conversation.tell("left", context.device.account)
        return True
    verdicts.look(conversation, "old-copy-commit", "public-walk", time=entry.time)
    resync.supersede(conversation)
    return False
