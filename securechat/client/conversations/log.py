"""The log of one conversation: entries in; messages, members and state out (docs/design.md, sections 4 and 6).

Each entry has to follow the one before it (`seq`), fit the chain and its device's numbers, and be readable in the epoch
that the entries before it produced. An entry is processed beside the current state: a message that fails changes only
the cursor, a commit that fails stops the conversation before it. Where messages are gone the handshakes are followed
all the same, epoch by epoch and with the group's secrets: they are PublicMessages, and use up no ratchet key.
"""

from typing import Final

import msgspec

from securechat import policy
from securechat.client import events
from securechat.client.conversations import (
    bodies,
    catching_up,
    commits,
    dates,
    directory,
    evidence,
    gaps,
    handing_back,
    own_entries,
    phases,
    resync,
    roster,
    standstill,
)
from securechat.client.conversations.bodies import Arrival
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.numbers import decode_number
from securechat.client.conversations.roster import unanswered
from securechat.client.conversations.standstill import distrust
from securechat.client.conversations.walking import CutOff
from securechat.content.envelope import decode
from securechat.errors import PeerError
from securechat.identity.statements import Statement, is_statement
from securechat.mls.framing import ContentType, read_header
from securechat.policy import Identity
from securechat.wire.chain import HANDED_BACK, MLS_MESSAGE, NO_DEVICE, OPERATORS_WORD, STATEMENT, next_chain
from securechat.wire.messages import Accepted, Entry, Subscribed, Truncated

_REVOKED: Final = "This device was revoked by your account: it takes no more part in this conversation."
_SUCCEEDED: Final = "Your account goes on under another identity key: the old one takes no more part here."


def begin_reading(conversation: Conversation, subscribed: Subscribed) -> None:
    """The server has begun to send us the log from our cursor on. What it says of us is a hint: the log counts."""
    row, head = conversation.row, subscribed.head
    if row.phase not in phases.FOLLOWING:
        return
    directory.receive(conversation, subscribed.gone)
    conversation.live, conversation.head, conversation.claimed = True, head, subscribed.last
    conversation.restored_epoch = subscribed.restored
    if row.phase in phases.WALKING:
        resync.begin_walk(conversation)
    elif (
        head < row.cursor
        or (subscribed.epoch is not None and subscribed.epoch < conversation.group.epoch)
        or _knows_what_was_lost(conversation)
    ):
        conversation.server_epoch = subscribed.epoch
        standstill.outrun(conversation, head)
    else:
        roster.note_return(conversation)
        catching_up.settle(conversation)


def _knows_what_was_lost(conversation: Conversation) -> bool:
    """Whether an open room has been told since its restored epoch who has to go: the server may have lost that.

    Nobody can hand it back, and each commit would be refused for whom it takes out: the room is entered anew.
    """
    told = bool(conversation.departed or conversation.words)
    return conversation.row.kind == "open" and told and conversation.restored_epoch == conversation.group.epoch


def truncate(conversation: Conversation, truncated: Truncated) -> None:
    """Messages before `first_seq` are gone; the handshakes among them that are left follow, and then everything.

    Nothing changes before an entry comes that follows the gap, or the server says that there is none.
    """
    row = conversation.row
    if not conversation.live:
        return
    if not truncated.chain:  # the handshakes have come
        conversation.exhausted |= truncated.first_seq > conversation.head
    if row.phase not in phases.READING or truncated.first_seq <= row.cursor + 1:
        return  # a walk looks at nothing but handshakes
    if not truncated.chain:
        gaps.enter(conversation)
        catching_up.settle(conversation)
    elif gaps.inside(conversation):
        row.gap, row.chain = truncated.first_seq, truncated.chain
    else:
        conversation.claimed_gap = truncated


def receive(conversation: Conversation, entry: Entry) -> None:
    """Process the next entry of the log."""
    row = conversation.row
    if not conversation.live and entry.seq != row.cursor + 1:
        return  # of an earlier subscription
    if row.phase in phases.WALKING:
        _walk(conversation, entry)
    elif row.phase in phases.READING and entry.seq > row.cursor:  # the chain covers one that is repeated
        _receive(conversation, entry)
        catching_up.settle(conversation)
    elif row.phase == "ahead" and entry.kind == HANDED_BACK and entry.seq > conversation.head:  # what leads to us?
        conversation.lost_track()
        standstill.go_on(conversation, "retried")
        conversation.astray = True


def _receive(conversation: Conversation, entry: Entry) -> None:
    row = conversation.row
    if entry.kind == OPERATORS_WORD:
        _receive_word(conversation, entry)
        return
    if entry.kind == STATEMENT or (entry.kind == HANDED_BACK and is_statement(entry.payload)):
        _receive_statement(conversation, entry)
        return
    try:
        if entry.kind not in (MLS_MESSAGE, HANDED_BACK):
            raise PeerError(f"entry {entry.seq} is of a kind that this program does not know")
        header = read_header(entry.payload)
        handshake = header.content_type != ContentType.APPLICATION
        if entry.kind == HANDED_BACK and not handshake:
            raise PeerError(f"entry {entry.seq} was handed back, and is a message")
        if entry.group_info and header.content_type != ContentType.COMMIT:
            raise PeerError(f"entry {entry.seq} has a GroupInfo, and is no commit")
        number = decode_number(header)
        epoch = conversation.group.epoch
        if header.epoch > epoch and (handshake or entry.seq != row.cursor + 1):
            standstill.cut_off(conversation)
            return
        gaps.pass_to(conversation, entry.seq, handshake=handshake)
    except PeerError as error:
        distrust(conversation, f"the log does not fit together: {error}")
        return
    if header.epoch < epoch and handshake:
        if entry.kind == HANDED_BACK and handing_back.led_here(conversation, entry):
            _advance(conversation, entry, number, handshake=False)
        else:
            conversation.server_epoch = header.epoch
            standstill.outrun(conversation, entry.seq - 1)
    else:
        _follow(conversation, entry, number, header.content_type)


def _receive_word(conversation: Conversation, entry: Entry) -> None:
    """Process what the operator said in a room that belongs to nobody."""
    public = conversation.group.public
    try:
        if entry.device != NO_DEVICE or entry.group_info:
            raise PeerError("a word of the operator comes from a device")
        word = policy.Word.decode(entry.payload)
        if word.epoch > public.epoch:
            standstill.cut_off(conversation)
            return
        gaps.pass_to(conversation, entry.seq, handshake=True)
        if word.epoch < public.epoch:
            standstill.outrun(conversation, entry.seq - 1)
            return
        policy.check_word(public, entry.payload, seq=entry.seq, time=entry.time, before=conversation.words)
    except PeerError as error:
        distrust(conversation, f"the server passed on what its operator cannot have said: {error}")
        return
    _obey(conversation, word)
    _advance(conversation, entry, number=0, handshake=True)


def _receive_statement(conversation: Conversation, entry: Entry) -> None:
    """Process what an identity key has stated about a device, or about keys, that are here (`policy.revocations`)."""
    public, context = conversation.group.public, conversation.context
    try:
        if entry.device != NO_DEVICE or entry.group_info:
            raise PeerError("a statement comes from a device")
        gaps.pass_to(conversation, entry.seq, handshake=True)
        # A restored server has lost it, and got it again: from a member, or from who has stated it.
        again = entry.kind == HANDED_BACK or conversation.restored_epoch
        if again and handing_back.led_here(conversation, entry):
            _advance(conversation, entry, number=0, handshake=False)
            return
        statement = policy.check_statement(
            public, entry.payload, time=entry.time, departed=conversation.departed, before=conversation.revocations
        )
    except PeerError as error:
        if gaps.inside(conversation):  # it may be about somebody whom we have missed
            standstill.cut_off(conversation)
        else:
            distrust(conversation, f"the server passed on a statement that it had to refuse: {error}")
        return
    conversation.set_revocations(policy.with_revocation(conversation.revocations, statement))
    conversation.set_departed(conversation.departed | policy.revoked_leaves(public, [statement]))
    roster.note_members(conversation)
    context.hear(statement)
    if statement.action != "contest":
        _shut_out(conversation, statement)
    _advance(conversation, entry, number=0, handshake=True)


def _shut_out(conversation: Conversation, statement: Statement) -> None:
    """A leaf takes no more part: it was revoked, or its identity key has named a successor."""
    revoked, group = statement.action == "revoke", conversation.group
    ours = group.own_leaf in policy.revoked_leaves(group.public, [statement])
    if ours and revoked and conversation.row.kind != "direct":
        pass  # it may be a thief's word: a later certificate of ours takes the leaf's place (`committing`)
    elif ours:
        conversation.row.closed = True
        conversation.end(_REVOKED if revoked else _SUCCEEDED)
    elif conversation.row.kind == "direct":
        conversation.close()
    conversation.tell("revoked" if revoked else "succeeded", statement.account)


def _obey(conversation: Conversation, word: policy.Word) -> None:
    """What a word does at once; the next commit does the rest."""
    context, public = conversation.context, conversation.group.public
    conversation.set_words((*conversation.words, word))
    conversation.set_departed(conversation.departed | policy.leaves_to_go(public, [word]))
    roster.note_members(conversation)
    if word.account == context.device.account and word.leaf:
        conversation.row.closed = True
        conversation.end(f"The operator of this server removed you from {conversation.row.name}.")
    context.emit(events.OperatorSpoke(conversation.id, word.action, word.account))


def _walk(conversation: Conversation, entry: Entry) -> None:
    """Follow the log without secrets."""
    walk = conversation.walk
    if walk is None:
        return
    try:
        walk.receive(entry, conversation.context.device.validator(entry.time // 1000))
    except CutOff:
        standstill.cut_off(conversation)
    except PeerError as error:
        distrust(conversation, f"the changes of this conversation cannot be followed: {error}")


def receive_own(
    conversation: Conversation,
    accepted: Accepted,
    number: int,
    payload: bytes,
    content_type: ContentType,
    group_info: bytes = b"",
) -> None:
    """Process our own entry, in whose place `accepted` came. Before we have caught up, the log itself brings it.

    Raises `PeerError` if it does not answer our submission `number`.
    """
    row = conversation.row
    if (accepted.conversation, accepted.number) != (row.id, number):
        raise PeerError("the server accepted something else than what was submitted")
    if row.phase in phases.READING and accepted.seq == gaps.next_seq(conversation):
        gaps.pass_to(conversation, accepted.seq, handshake=True)
        device = conversation.context.device.id
        entry = Entry(row.id, accepted.seq, accepted.time, device, MLS_MESSAGE, payload, group_info)
        _follow(conversation, entry, number, content_type)


def _follow(conversation: Conversation, entry: Entry, number: int, content_type: ContentType) -> None:
    """Process the entry after the cursor, and move the cursor."""
    row, trail = conversation.row, conversation.trail
    own, record = entry.device == conversation.context.device.id, conversation.context.parts.record
    last = trail.last_number(entry.device)
    out_of_turn = (last is not None and not record.is_next(number, last)) or (own and number <= row.number)
    if entry.kind == MLS_MESSAGE and out_of_turn:
        last = row.number if own else last
        problem = f"entry {entry.seq} is number {number} of a device whose last was {last}"
        distrust(conversation, f"the log does not fit together: {problem}")
        return
    if own and last is None and number > catching_up.highest_number(conversation):
        problem = f"entry {entry.seq} is ours by the server's word, with a number that it has not given us"
        distrust(conversation, problem)
        return
    if _process(conversation, entry, number, content_type, own=own):
        _advance(conversation, entry, number, handshake=content_type != ContentType.APPLICATION)


def _advance(conversation: Conversation, entry: Entry, number: int, *, handshake: bool) -> None:
    """Move the cursor past an entry that was processed; `number`: 0 where it comes from no device."""
    row, trail = conversation.row, conversation.trail
    in_gap, row.cursor = gaps.inside(conversation), entry.seq
    if row.phase in phases.ENDED:
        return
    if entry.device == conversation.context.device.id:
        row.number = max(row.number, number)
    if in_gap:  # neither chain nor numbers go on from here
        _keep(conversation, entry, b"")
        if entry.seq == row.gap - 1:
            gaps.leave(conversation)
        return
    row.chain = next_chain(
        row.chain, row.id, entry.seq, entry.time, entry.device, number, entry.payload, entry.group_info, entry.kind
    )
    if handshake:
        _keep(conversation, entry, row.chain)
    row.followed = conversation.context.clock.milliseconds()
    dates.note_entry(conversation, entry.seq, entry.time)
    trail.add(row.chain)
    if entry.kind == MLS_MESSAGE:
        trail.note_number(entry.device, number)


def _keep(conversation: Conversation, entry: Entry, chain: bytes) -> None:
    """Keep a handshake: a server that is restored from a backup may have lost it. `chain`: after it, if known."""
    encoded = msgspec.msgpack.encode(entry)
    conversation.context.vault.handshakes.add(conversation.id, entry.seq, entry.time, encoded, chain)


def _process(conversation: Conversation, entry: Entry, number: int, content_type: ContentType, *, own: bool) -> bool:
    """Process an entry that fits into the log. Return whether the log goes on after it."""
    if content_type == ContentType.APPLICATION and conversation.departed:
        distrust(conversation, "the server passed on a message although somebody who has left was not removed yet")
        return False
    if own:
        return own_entries.receive(conversation, entry, number, content_type)
    if content_type == ContentType.APPLICATION:
        return _process_message(conversation, entry, number)
    if content_type == ContentType.COMMIT:
        return commits.receive(conversation, entry)
    return _process_departure(conversation, entry)


def _process_message(conversation: Conversation, entry: Entry, number: int) -> bool:
    try:
        received = conversation.group.decrypt(entry.payload, in_order=True)
        conversation.use_keys(conversation.group)
        sender = conversation.people[received.sender]
        if sender.device_id != entry.device:
            claimed = conversation.author(entry.device)
            whose = claimed.account if claimed is not None else "somebody unknown"
            distrust(conversation, f"the server ascribes a message of {sender.account} to a device of {whose}")
            return False
        envelope = decode(received.plaintext)
    except PeerError as error:
        problem = f"This message cannot be read: {error}"
        bodies.add_line(conversation, Arrival(entry, number, conversation.author(entry.device), None), problem)
        return True
    roster.note_heard(conversation, sender)
    known = conversation.trail.chain_at(envelope.seq)
    unknowable = envelope.seq < conversation.row.gap - 1  # the entries that would tell are gone
    doubt = ""
    if conversation.context.parts.record.agrees(entry.seq, envelope.seq, envelope.chain, known):
        conversation.repairing = False  # whatever it was, it is mended
    elif envelope.seq >= entry.seq or not unknowable:
        doubt = evidence.DOUBT.format(sender.account)
    bodies.receive(conversation, Arrival(entry, number, sender, envelope.body, envelope.sent, doubt, envelope.seq))
    dates.note_written(conversation, sender.account, envelope.sent, entry.time)
    if doubt and conversation.row.phase not in phases.ENDED:
        evidence.contradicted(conversation, sender, envelope.seq)
    return True


def _process_departure(conversation: Conversation, entry: Entry) -> bool:
    try:
        public = conversation.group.public
        leaf = policy.check_departure(public, entry.payload)
        if conversation.people[leaf].device_id != entry.device:
            raise PeerError("the server ascribes somebody's leaving to another device")
    except PeerError as error:
        distrust(conversation, f"the server passed on what it had to refuse: {error}")
        return False
    account = conversation.people[leaf].account
    came = Identity.of(conversation.people[leaf]) not in unanswered(conversation)
    conversation.set_departed(conversation.departed | {leaf})
    roster.note_members(conversation)
    asked = conversation.row.asked == "ours"
    if account == conversation.context.device.account:
        return True  # one under our name: an alarm has told of it, and we are still here
    if conversation.row.kind == "direct":
        conversation.close()
    conversation.tell("declined" if asked else "left" if came else "stayed-out", account)
    return True
