"""The log of one conversation: entries in; messages, members and state out (docs/design.md, sections 4 and 6).

Each entry has to follow the one before it (`seq`), fit the chain and its device's numbers, and be readable in the epoch
that the entries before it produced. An entry is processed beside the current state: a message that fails changes only
the cursor, a commit that fails stops the conversation before it. Where messages are gone the handshakes are followed
all the same, epoch by epoch and with the group's secrets: they are PublicMessages, and use up no ratchet key.
"""

from dataclasses import replace
from hashlib import sha256
from typing import Final

import msgspec

from securechat import policy
from securechat.client import events
from securechat.client.answers import Key
from securechat.client.context import Added
from securechat.client.conversations import bodies, dates, directory, evidence, freshness, offers, phases, rule_changes
from securechat.client.conversations.bodies import Arrival
from securechat.client.conversations.conversation import Conversation, People
from securechat.client.conversations.newcomers import changes
from securechat.client.conversations.numbers import decode_number
from securechat.client.conversations.walking import CutOff, TooFar
from securechat.content.envelope import decode
from securechat.errors import PeerError
from securechat.identity.certificate import certificate_of
from securechat.mls.errors import BadConfirmationTag, BadExternalKey, BadPath
from securechat.mls.framing import ContentType, PublicMessage, SenderType, decode_body, read_header
from securechat.mls.group import StagedCommit
from securechat.mls.group_info import GroupInfo
from securechat.mls.leaf_node import LeafNodeSource
from securechat.mls.public_group import PublicStagedCommit, verify_group_info
from securechat.wire.chain import HANDED_BACK, MLS_MESSAGE, NO_DEVICE, OPERATORS_WORD, next_chain
from securechat.wire.messages import Accepted, Entry, Subscribed, Truncated

_OWN_NAME: Final = (
    "Somebody has entered {} under your own name with another key, which is not this device's. Unless that is you with "
    "a new identity, somebody else can log in to your account: change its password, and tell the others."
)


def begin_reading(conversation: Conversation, subscribed: Subscribed) -> None:
    """The server has begun to send us the log from our cursor on. What it says of us is a hint: the log counts."""
    row, head = conversation.row, subscribed.head
    if row.phase not in phases.FOLLOWING:
        return
    directory.receive(conversation, subscribed.gone)
    conversation.live, conversation.head, conversation.claimed = True, head, subscribed.last
    if row.phase in phases.WALKING:
        conversation.begin_walk()
    elif head < row.cursor or (subscribed.epoch is not None and subscribed.epoch < conversation.group.epoch):
        conversation.server_epoch = subscribed.epoch
        conversation.outrun(head)
    else:
        conversation.note_return()
        conversation.settle()


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
        conversation.enter_hole()
        conversation.settle()
    elif conversation.in_hole:
        row.hole, row.chain = truncated.first_seq, truncated.chain
    else:
        conversation.gap = truncated


def receive(conversation: Conversation, entry: Entry) -> None:
    """Process the next entry of the log."""
    row = conversation.row
    if not conversation.live and entry.seq != row.cursor + 1:
        return  # of an earlier subscription
    if row.phase in phases.WALKING:
        _walk(conversation, entry)
    elif row.phase in phases.READING and entry.seq > row.cursor:  # the chain covers one that is repeated
        _receive(conversation, entry)
        conversation.settle()


def _receive(conversation: Conversation, entry: Entry) -> None:
    row = conversation.row
    if entry.kind == OPERATORS_WORD:
        _receive_word(conversation, entry)
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
            conversation.cut_off()
            return
        conversation.pass_gap(entry.seq, handshake=handshake)
    except PeerError as error:
        conversation.distrust(f"the log does not fit together: {error}")
        return
    if header.epoch < epoch and handshake:
        if entry.kind == HANDED_BACK and conversation.led_here(entry):
            _advance(conversation, entry, number, handshake=False)
        else:
            conversation.server_epoch = header.epoch
            conversation.outrun(entry.seq - 1)
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
            conversation.cut_off()
            return
        conversation.pass_gap(entry.seq, handshake=True)
        if word.epoch < public.epoch:
            conversation.outrun(entry.seq - 1)
            return
        policy.check_word(public, entry.payload, seq=entry.seq, time=entry.time, before=conversation.words)
    except PeerError as error:
        conversation.distrust(f"the server passed on what its operator cannot have said: {error}")
        return
    _obey(conversation, word)
    _advance(conversation, entry, number=0, handshake=True)


def _obey(conversation: Conversation, word: policy.Word) -> None:
    """What a word does at once; the next commit does the rest."""
    context, public = conversation.context, conversation.group.public
    conversation.set_words((*conversation.words, word))
    conversation.set_departed(conversation.departed | policy.leaves_to_go(public, [word]))
    conversation.note_members()
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
        conversation.cut_off()
    except PeerError as error:
        conversation.distrust(f"the changes of this conversation cannot be followed: {error}")


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
    if row.phase in phases.READING and accepted.seq == conversation.next_seq:
        conversation.pass_gap(accepted.seq, handshake=True)
        device = conversation.context.device.id
        entry = Entry(row.id, accepted.seq, accepted.time, device, MLS_MESSAGE, payload, group_info)
        _follow(conversation, entry, number, content_type)


def _follow(conversation: Conversation, entry: Entry, number: int, content_type: ContentType) -> None:
    """Process the entry after the cursor, and move the cursor."""
    row, trail = conversation.row, conversation.trail
    own = entry.device == conversation.context.device.id
    last = trail.last_number(entry.device)
    if entry.kind == MLS_MESSAGE and ((last is not None and number != last + 1) or (own and number <= row.number)):
        last = row.number if own else last
        problem = f"entry {entry.seq} is number {number} of a device whose last was {last}"
        conversation.distrust(f"the log does not fit together: {problem}")
        return
    if own and last is None and number > conversation.highest_number:
        conversation.distrust(f"entry {entry.seq} is ours by the server's word, with a number that it has not given us")
        return
    if _process(conversation, entry, number, content_type, own=own):
        _advance(conversation, entry, number, handshake=content_type != ContentType.APPLICATION)


def _advance(conversation: Conversation, entry: Entry, number: int, *, handshake: bool) -> None:
    """Move the cursor past an entry that was processed; `number`: 0 where it comes from no device."""
    row, trail = conversation.row, conversation.trail
    in_hole, row.cursor = conversation.in_hole, entry.seq
    if row.phase in phases.ENDED:
        return
    if entry.device == conversation.context.device.id:
        row.number = max(row.number, number)
    if in_hole:  # neither chain nor numbers go on from here
        _keep(conversation, entry, b"")
        if entry.seq == row.hole - 1:
            conversation.leave_hole()
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
        conversation.distrust("the server passed on a message although somebody who has left was not removed yet")
        return False
    if own:
        return _process_own(conversation, entry, number, content_type)
    if content_type == ContentType.APPLICATION:
        return _process_message(conversation, entry, number)
    if content_type == ContentType.COMMIT:
        return _process_commit(conversation, entry)
    return _process_departure(conversation, entry)


def _process_own(conversation: Conversation, entry: Entry, number: int, content_type: ContentType) -> bool:
    staged = conversation.staged
    if (
        staged is not None
        and staged.commit is not None
        and (staged.number, staged.commit.message) == (number, entry.payload)
    ):
        if staged.commit.public.before.context != conversation.group.public.context:
            conversation.distrust("the server took a change of yours that leads on from another state than this one")
            return False
        if staged.commit.group_info != entry.group_info:
            conversation.distrust("the server altered the GroupInfo that came with a change of yours")
            return False
        try:
            policy.check_commit(staged.commit.public, departed=conversation.departed, words=conversation.words)
        except PeerError as error:  # true when it was made; somebody may have left since
            conversation.distrust(f"the server took a change of yours that all others have to refuse: {error}")
            return False
        _merge_own(conversation, entry, staged.commit)
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
    else:
        conversation.row.sent_on_path += 1
        if item.local_id:
            message = vault.history.accept(item.local_id, entry.seq, entry.time, number)
            conversation.context.emit(events.Delivered(message, command=answers.waiting(key)))
            dates.note_written(conversation, message.sender, message.written, entry.time)
    answers.done(key)
    return True


def _process_unknown(conversation: Conversation, entry: Entry, content_type: ContentType) -> bool:
    """Process an entry that is said to be our own, and that this vault does not know: is it an older copy?"""
    context = conversation.context
    if context.vault.refused.has(conversation.id, entry.payload):
        conversation.distrust("the server took what you had said or changed after it had refused it")
        return False
    if content_type == ContentType.APPLICATION:
        conversation.unstage()  # its number is used
        conversation.freshen()
        conversation.tell_older_copy()
        return True
    public, validate = conversation.group.public, context.device.validator(entry.time // 1000)
    try:
        if content_type == ContentType.PROPOSAL:
            leaf = policy.check_departure(public, entry.payload, public.context.encode())
            who = certificate_of(public.member(leaf))
        else:
            message = decode_body(entry.payload, PublicMessage)
            policy.check_proposals(message, public)
            who = certificate_of(public.stage(message, validate=validate, now=entry.time // 1000).committer)
        if (who.device_id, who.identity_key) != (context.device.id, context.device.identity_key):
            raise PeerError(f"it is {who.account}'s")
    except PeerError as error:
        conversation.distrust(f"the server ascribes to this device what it did not make: {error}")
        return False
    if content_type == ContentType.PROPOSAL:
        conversation.row.closed = True
        conversation.end("You have left this conversation.")
        conversation.tell("left", context.device.account)
        return True
    context.emit(events.OutOfStep(conversation.id, "own-commit", entry.time))
    conversation.supersede()
    return False


def _merge_own(conversation: Conversation, entry: Entry, commit: StagedCommit) -> None:
    conversation.unstage()
    if commit.public.has_path:
        conversation.row.sent_on_path, conversation.row.path_time = 0, conversation.context.clock.milliseconds()
    _note_invited(conversation, commit.public)
    _swap(conversation, entry, commit)


def _note_invited(conversation: Conversation, commit: PublicStagedCommit) -> None:
    """Those whom our own commit adds get their invitations in the same transaction; those it removes hear of that."""
    if conversation.row.kind != "invite":
        return
    context, departed = conversation.context, conversation.departed
    rules, opens = policy.rules_of(commit.after.extensions), sha256(commit.after.context.encode()).digest()
    context.added += (Added(conversation.id, certificate_of(node), rules, opens) for _, node in commit.added)
    silent = [
        certificate_of(node)
        for leaf, node in commit.removed
        if node.source == LeafNodeSource.KEY_PACKAGE and leaf not in departed
    ]
    if silent:
        context.removed.append((conversation.id, tuple(silent)))


def _process_message(conversation: Conversation, entry: Entry, number: int) -> bool:
    try:
        received = conversation.group.decrypt(entry.payload, in_order=True)
        conversation.use_keys(conversation.group)
        sender = conversation.people[received.sender]
        if sender.device_id != entry.device:
            claimed = conversation.author(entry.device)
            whose = claimed.account if claimed is not None else "somebody unknown"
            conversation.distrust(f"the server ascribes a message of {sender.account} to a device of {whose}")
            return False
        envelope = decode(received.plaintext)
    except PeerError as error:
        problem = f"This message cannot be read: {error}"
        bodies.add_line(conversation, Arrival(entry, number, conversation.author(entry.device), None), problem)
        return True
    known = conversation.trail.chain_at(envelope.seq)
    unknowable = envelope.seq < conversation.row.hole - 1  # the entries that would tell are gone
    doubt = ""
    if envelope.seq < entry.seq and known == envelope.chain:
        conversation.repairing = False  # whatever it was, it is mended
    elif envelope.seq >= entry.seq or not unknowable:
        doubt = evidence.DOUBT.format(sender.account)
    bodies.receive(conversation, Arrival(entry, number, sender, envelope.body, envelope.sent, doubt))
    dates.note_written(conversation, sender.account, envelope.sent, entry.time)
    if doubt and conversation.row.phase not in phases.ENDED:
        conversation.contradicted(sender, envelope.seq)
    return True


def _process_commit(conversation: Conversation, entry: Entry) -> bool:
    now = entry.time // 1000  # the log's own time, so that all members judge alike
    validate = conversation.context.device.validator(now)
    try:
        if not conversation.caught_up:
            conversation.effort.spend(entry)
    except TooFar as error:
        conversation.distrust(str(error))
        return False
    try:
        policy.check_proposals(decode_body(entry.payload, PublicMessage), conversation.group.public)
        staged = conversation.group.stage(entry.payload, validate=validate, now=now)
        policy.check_commit(staged.public, departed=conversation.departed, words=conversation.words)
        group_info = _check_group_info(staged.public, entry)
        if staged.group is not None:
            staged.group.verify_external_key(group_info)
    except PeerError as error:
        _stop_before(conversation, entry, now, error)
        return False
    committer = certificate_of(staged.public.committer)
    if committer.device_id != entry.device:
        conversation.distrust(f"the server ascribes a change made by {committer.account} to another device")
        return False
    if conversation.staged is not None:
        conversation.unstage()  # another commit came first
    _swap(conversation, entry, staged)
    return True


def _process_departure(conversation: Conversation, entry: Entry) -> bool:
    try:
        public = conversation.group.public
        leaf = policy.check_departure(public, entry.payload, public.context.encode())
        if conversation.people[leaf].device_id != entry.device:
            raise PeerError("the server ascribes somebody's leaving to another device")
    except PeerError as error:
        conversation.distrust(f"the server passed on what it had to refuse: {error}")
        return False
    account = conversation.people[leaf].account
    conversation.set_departed(conversation.departed | {leaf})
    conversation.note_members()
    asked = conversation.row.asked == "ours"
    if account == conversation.context.device.account:
        return True  # one under our name: an alarm has told of it, and we are still here
    if conversation.row.kind == "direct":
        conversation.close()
    conversation.tell("declined" if asked else "left", account)
    return True


def _swap(conversation: Conversation, entry: Entry, staged: StagedCommit) -> None:
    """Bring a commit into force: the new epoch replaces the old one."""
    public, people, departed, before = staged.public, conversation.people, conversation.departed, conversation.present
    after = _people_after(people, public)
    verdict = offers.judge_commit(conversation, public, after)
    if verdict.alarm:
        text = _OWN_NAME.format(conversation.row.name)
        conversation.context.emit(events.Alarm("rules", conversation.id, text))
    if staged.group is None:
        conversation.row.closed = True
        conversation.end("You are no longer in this conversation.")
        conversation.tell("removed", certificate_of(public.committer).account)
        return
    conversation.replace_group(verdict, staged.group)
    conversation.people = after
    conversation.set_departed(departed - {leaf for leaf, _ in public.removed})
    said = conversation.words
    conversation.set_words(policy.still_due(public, said))
    conversation.trail.open_epoch(entry.seq)
    if entry.seq >= conversation.row.hole:
        conversation.row.hole = 0  # the chain of this epoch is known from its beginning
    conversation.note_members()
    if public.sender.type == SenderType.NEW_MEMBER_COMMIT:
        conversation.note_entered(certificate_of(public.committer))
    conversation.forgive_stale()
    freshness.note_commit(conversation, public)
    for leaf, person in conversation.people.items():
        if person != people.get(leaf):
            conversation.context.pins.meet(person, conversation.id)
    context = conversation.context
    wanted = context.vault.changes.load(conversation.id)
    by = {each.value: context.answers.waiting(("change", each.id)) for each in wanted}
    committer = certificate_of(public.committer)
    for change, account in changes(before, conversation.present):  # whoever had left was told of then
        replaced_by = committer.account if change == "new-key" and account != committer.account else ""
        conversation.tell(change, account, by.get(account, 0), replaced_by)
    old, new = (policy.rules_of(group.extensions) for group in (public.before, public.after))
    for kind, about in rule_changes.told(old, new) if not said else ():  # the operator's were told when they were said
        conversation.tell(kind, about, by.get(about, 0), committer.account)
    if public.sender.type == SenderType.NEW_MEMBER_COMMIT and committer in before:
        conversation.tell("re-entered", committer.account)
    conversation.settle_changes()


def _check_group_info(commit: PublicStagedCommit, entry: Entry) -> GroupInfo:
    """Return a commit's GroupInfo. Raises `PeerError` if it is one that a server can see through."""
    group_info = decode_body(entry.group_info, GroupInfo)
    verify_group_info(commit.after, group_info, signer=commit.committer_leaf)
    return group_info


def _stop_before(conversation: Conversation, entry: Entry, now: int, error: PeerError) -> None:
    """Stop before a commit that cannot be processed, and say whose it is (docs/design.md, section 6, Poison).

    Where the user has said so, and in an open room, where anybody may make one, we enter again past it; not past one
    that the server had to refuse: there is no state after that.
    """
    if conversation.repairing:
        conversation.supersede()
        return
    culprit, proven = _blame(conversation, entry, now, error)
    conversation.context.report_failed_commit(conversation.id, entry.seq)
    stopped = events.Stopped(conversation.id, culprit, str(error), proven=proven)
    if culprit and conversation.row.kind == "open":
        conversation.pass_over(replace(stopped, passed_over=True))
    else:
        conversation.stop()
        conversation.context.emit(stopped)


def _blame(conversation: Conversation, entry: Entry, now: int, error: PeerError) -> tuple[str, bool]:
    """Return whose fault a bad commit is, empty for the server's, and whether that is proven.

    The server has to refuse what shows without secrets, and a confirmation tag other than the GroupInfo's shows: that
    one is signed, so the server has altered the commit's. What is left is its maker's doing as far as a signature
    covers it. That is not so for the membership tag, nor for the confirmation tag of somebody who entered: they may
    have been led to a false key for external joins, which a member and the server can do together.
    """
    try:
        message = decode_body(entry.payload, PublicMessage)
        policy.check_proposals(message, conversation.group.public)
        public = conversation.group.public.stage(message, validate=conversation.context.device.validator(now), now=now)
        policy.check_commit(public, departed=conversation.departed, words=conversation.words)
        _check_group_info(public, entry)
    except PeerError:
        return "", True
    signed = isinstance(error, BadPath | BadExternalKey) or (
        isinstance(error, BadConfirmationTag) and public.sender.type == SenderType.MEMBER
    )
    return certificate_of(public.committer).account, signed


def _people_after(before: People, commit: PublicStagedCommit) -> People:
    """Return the certificates in the tree after a commit, without reading the whole tree again."""
    removed = dict(commit.removed)
    after = {leaf: person for leaf, person in before.items() if leaf not in removed}
    committer = (commit.committer_leaf, commit.after.member(commit.committer_leaf))
    for leaf, node in (*commit.added, *commit.updated, committer):
        after[leaf] = certificate_of(node)
    return after
