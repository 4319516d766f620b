"""The log of one conversation: entries in; messages, members and state out (docs/design.md, sections 4 and 6).

Each entry has to follow the one before it (`seq`), fit the chain and its device's numbers, and be readable in the epoch
that the entries before it produced. An entry is processed beside the current state: a message that fails changes only
the cursor, a commit that fails stops the conversation before it.
"""

from securechat import policy
from securechat.client import events
from securechat.client.answers import Key
from securechat.client.conversations import bodies, phases
from securechat.client.conversations.bodies import Arrival
from securechat.client.conversations.conversation import Conversation, People
from securechat.client.conversations.numbers import decode_number
from securechat.content.envelope import decode
from securechat.errors import PeerError
from securechat.identity.certificate import certificate_of
from securechat.mls.errors import BadPath
from securechat.mls.framing import ContentType, PublicMessage, decode_body, read_header
from securechat.mls.group import StagedCommit
from securechat.mls.public_group import PublicStagedCommit
from securechat.wire.chain import next_chain
from securechat.wire.messages import Accepted, Entry, Subscribed


def begin_reading(conversation: Conversation, subscribed: Subscribed) -> None:
    """The server has begun to send us the log from our cursor on."""
    if conversation.row.phase not in phases.READING:
        return
    row, head = conversation.row, subscribed.head
    conversation.live, conversation.head = True, head
    if head < row.cursor:
        conversation.distrust(f"the server knows {head} entries of this conversation, and we {row.cursor}")
    elif subscribed.last > conversation.context.vault.outbox.last_number(row.id, row.number):
        conversation.need_resync()  # this vault is an old copy: it does not know what this device said


def receive(conversation: Conversation, entry: Entry) -> None:
    """Process the next entry of the log."""
    row = conversation.row
    if row.phase not in phases.READING or entry.seq <= row.cursor:
        return  # a repeated entry is harmless: the chain covers the first one
    try:
        if entry.seq != row.cursor + 1:
            raise PeerError(f"entry {entry.seq} follows entry {row.cursor}")
        header = read_header(entry.payload)
        number = decode_number(header)
    except PeerError as error:
        conversation.distrust(f"the log does not fit together: {error}")
        return
    _follow(conversation, entry, number, header.content_type)


def receive_own(
    conversation: Conversation, accepted: Accepted, number: int, payload: bytes, content_type: ContentType
) -> None:
    """Process our own entry, in whose place `accepted` came. Before we have caught up, the log itself brings it.

    Raises `PeerError` if it does not answer our submission `number`.
    """
    row = conversation.row
    if (accepted.conversation, accepted.number) != (row.id, number):
        raise PeerError("the server accepted something else than what was submitted")
    if row.phase in phases.READING and accepted.seq == row.cursor + 1:
        entry = Entry(row.id, accepted.seq, accepted.time, conversation.context.device.id, payload)
        _follow(conversation, entry, number, content_type)


def _follow(conversation: Conversation, entry: Entry, number: int, content_type: ContentType) -> None:
    """Process the entry after the cursor, and move the cursor."""
    row, own = conversation.row, entry.device == conversation.context.device.id
    last = row.number if own else conversation.trail.last_number(entry.device)
    if last is not None and number != last + 1:
        problem = f"entry {entry.seq} is number {number} of a device whose last was {last}"
        conversation.distrust(f"the log does not fit together: {problem}")
        return
    if not _process(conversation, entry, number, content_type, own=own):
        return
    row.chain = next_chain(row.chain, row.id, entry.seq, entry.time, entry.device, number, entry.payload)
    row.cursor = entry.seq
    if row.phase in phases.ENDED:
        return
    conversation.trail.add(row.chain)
    if own:
        row.number = number
    else:
        conversation.trail.note_number(entry.device, number)


def _process(conversation: Conversation, entry: Entry, number: int, content_type: ContentType, *, own: bool) -> bool:
    """Process an entry that fits into the log. Return whether the log goes on after it."""
    if content_type == ContentType.APPLICATION and conversation.departed:
        conversation.distrust("the server passed on a message although somebody who has left was not removed yet")
        return False
    if own:
        return _process_own(conversation, entry, number)
    if content_type == ContentType.APPLICATION:
        return _process_message(conversation, entry, number)
    if content_type == ContentType.COMMIT:
        return _process_commit(conversation, entry)
    return _process_departure(conversation, entry)


def _process_own(conversation: Conversation, entry: Entry, number: int) -> bool:
    staged = conversation.staged
    if (
        staged is not None
        and staged.commit is not None
        and (staged.number, staged.commit.message) == (number, entry.payload)
    ):
        try:
            policy.check_commit(staged.commit.public, departed=conversation.departed)
        except PeerError as error:  # true when it was made; somebody may have left since
            conversation.distrust(f"the server took a change of yours that all others have to refuse: {error}")
            return False
        _merge_own(conversation, entry, staged.commit)
        return True
    vault, answers = conversation.context.vault, conversation.context.answers
    item = conversation.encrypted.pop(number, None) or vault.outbox.by_number(conversation.id, number)
    if item is None or item.payload != entry.payload:
        conversation.need_resync()  # this vault is an old copy: it does not know what this device said
        return False
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
    answers.done(key)
    return True


def _merge_own(conversation: Conversation, entry: Entry, commit: StagedCommit) -> None:
    conversation.unstage()
    if commit.public.has_path:
        conversation.row.sent_on_path, conversation.row.path_time = 0, conversation.context.clock.milliseconds()
    _swap(conversation, entry, commit)


def _process_message(conversation: Conversation, entry: Entry, number: int) -> bool:
    try:
        received = conversation.group.decrypt(entry.payload, in_order=True)
        conversation.use_group(conversation.group, new_epoch=False)
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
    bodies.receive(conversation, Arrival(entry, number, sender, envelope.body))
    if envelope.seq >= entry.seq or known != envelope.chain:
        conversation.distrust(
            f"{sender.account} saw another history than you up to entry {envelope.seq}: the server shows people "
            f"different histories, or the program of {sender.account} is at fault"
        )
    return True


def _process_commit(conversation: Conversation, entry: Entry) -> bool:
    now = entry.time // 1000  # the log's own time, so that all members judge alike
    validate = conversation.context.device.validator(now)
    try:
        policy.check_proposals(decode_body(entry.payload, PublicMessage))
        staged = conversation.group.stage(entry.payload, validate=validate, now=now)
        policy.check_commit(staged.public, departed=conversation.departed)
    except PeerError as error:
        culprit = _culprit(conversation, entry, now)
        # What a committer has encrypted for the others is signed; the tags of a commit are not, so that a server can
        # alter them.
        _stop(conversation, entry.seq, events.Stopped(
            conversation.id, culprit, str(error), proven=not culprit or isinstance(error, BadPath)
        ))  # fmt: skip
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
    if conversation.row.kind == "direct" and account != conversation.context.device.account:
        conversation.close()
    conversation.tell("left", account)
    return True


def _swap(conversation: Conversation, entry: Entry, staged: StagedCommit) -> None:
    """Bring a commit into force: the new epoch replaces the old one."""
    public, people, departed = staged.public, conversation.people, conversation.departed
    if staged.group is None:
        conversation.row.closed = True
        conversation.end("You are no longer in this conversation.")
        conversation.tell("removed", certificate_of(public.committer).account)
        return
    conversation.use_group(staged.group, new_epoch=True)
    conversation.people = _people_after(people, public)
    conversation.set_departed(departed - {leaf for leaf, _ in public.removed})
    conversation.trail.open_epoch(entry.seq)
    for leaf, person in conversation.people.items():
        if person != people.get(leaf):
            conversation.context.pins.observe(person)
    conversation.note_members()
    context = conversation.context
    changes = context.vault.changes.load(conversation.id)
    by = {each.account: context.answers.waiting(("change", each.id)) for each in changes}
    were, are = ({person.account for person in tree.values()} for tree in (people, conversation.people))
    for account in sorted(are - were):
        conversation.tell("joined", account, by.get(account, 0))
    left = {people[leaf].account for leaf in departed}  # told already, when they left
    for account in sorted(were - are - left):
        conversation.tell("removed", account, by.get(account, 0))
    conversation.settle_changes()


def _stop(conversation: Conversation, seq: int, stopped: events.Stopped) -> None:
    """Stop before a commit that cannot be processed, and say whose it is (docs/design.md, section 6, Poison)."""
    conversation.stop()
    conversation.context.report_failed_commit(conversation.id, seq)
    conversation.context.emit(stopped)


def _culprit(conversation: Conversation, entry: Entry, now: int) -> str:
    """Return who made a bad commit; empty if it is one that a server can see through and has to refuse."""
    try:
        message = decode_body(entry.payload, PublicMessage)
        policy.check_proposals(message)
        public = conversation.group.public.stage(message, validate=conversation.context.device.validator(now), now=now)
        policy.check_commit(public, departed=conversation.departed)
    except PeerError:
        return ""
    return certificate_of(public.committer).account


def _people_after(before: People, commit: PublicStagedCommit) -> People:
    """Return the certificates in the tree after a commit, without reading the whole tree again."""
    removed = dict(commit.removed)
    after = {leaf: person for leaf, person in before.items() if leaf not in removed}
    committer = (commit.committer_leaf, commit.after.member(commit.committer_leaf))
    for leaf, node in (*commit.added, *commit.updated, committer):
        after[leaf] = certificate_of(node)
    return after
