"""What it costs to keep handshakes for who is away, and to follow them: bytes, and CPU time of server and client.

Real commits of rooms of 3, 30, 300 and 1,000 in which every parent node has a key, each by another member, with
certificates and rules as in use. The real store and the sequencer's reading, without connections; held against the same
entries as history, before they were given up. At the client the engine with the checks of a log, without its vault.
"""

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from scripts.benchmarks.figure import Figure
from scripts.benchmarks.work.mls_growth import spread, view
from securechat import policy
from securechat.client.conversations.numbers import encode_commit
from securechat.client.conversations.walking import Walk
from securechat.identity.certificate import CLOCK_SKEW, DeviceCertificate, credential, issue, leaf_validator
from securechat.identity.statements import Head as ChainHead
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.mls.framing import decode_body
from securechat.mls.group import Group, StagedCommit
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package_bundle import KeyPackageBundle, generate_key_package
from securechat.mls.leaf_node import Capabilities, Lifetime
from securechat.mls.proposals import Add, Proposal
from securechat.mls.public_group import verify_group_info
from securechat.mls.tree_math import LeafIndex
from securechat.mls.welcome import Welcome
from securechat.policy import Identity, Rules, known_extensions
from securechat.server.clock import ServerClock
from securechat.server.sequencer.conversation import Conversations
from securechat.server.sequencer.heirs import Heirs
from securechat.server.sequencer.news import News
from securechat.server.sequencer.reading import Reading
from securechat.server.sequencer.session import Session, Sessions
from securechat.server.sequencer.turn import Turn
from securechat.server.sequencer.validation import SNAPSHOT_EPOCHS
from securechat.server.space import Space
from securechat.server.store.records import READER_SECONDS, Checkpoint, Head, LogEntry, Membership
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.wire.chain import CHAIN_START, MLS_MESSAGE, next_chain
from securechat.wire.messages import Entry, Subscribe

SIZES: Final = (3, 30, 300, 1_000)  # members
COMMITS: Final = 1_000
ROUNDS: Final = 7
NOW: Final = int(time.time())
SERVER: Final = bytes(16)
ROOM: Final = b"R" * 32
READER: Final = b"r" * 16
CAPABILITIES: Final = Capabilities(cipher_suites=(SUITE.value,), extensions=known_extensions())
GOAL: Final = 1.5  # times what history costs
FOLLOW_GOAL: Final = 5.0  # seconds, in the largest room: somebody waits for it, and sees how far it is


def doors() -> Iterator[Figure]:
    """Bytes on disk, CPU time to a reader, and the reader's own, of 1,000 commits."""
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            yield from _measure(size, Path(folder))


def _measure(size: int, folder: Path) -> Iterator[Figure]:
    case = f"{COMMITS:,} commits of a room of {size}"
    store = SQLiteStore(folder / "chat.db", durable=False)
    made = time.process_time()
    room = _fill(store, size)
    made = time.process_time() - made
    history = median(_stream(store, folder) for _ in range(ROUNDS))
    while store.tidy((NOW + READER_SECONDS + 60) * 1000, (NOW + READER_SECONDS + 60) * 1000)[1]:
        pass
    assert store.size().entries == 0
    handshakes = median(_stream(store, folder) for _ in range(ROUNDS))
    kept = store.size().handshake_bytes
    note = f"making them took {made:.0f} s; with their GroupInfos"
    yield Figure(case, "handshakes", kept / 1024, "KiB", note=note)
    yield Figure(case, "one commit", kept / COMMITS, "B")
    checkpoint = store.conversations.read_checkpoints(ROOM)[0]
    yield Figure(case, "one checkpoint", (len(checkpoint.tree) + len(checkpoint.group_info)) / 1024, "KiB")
    yield Figure(case, "server CPU to a reader", 1000 * handshakes, "ms", baseline=1000 * history, goal=GOAL)
    yield Figure(case, "client CPU, with secrets", _follow(room), "s", goal=FOLLOW_GOAL)
    yield Figure(case, "client CPU, without secrets", _walk(room), "s", goal=FOLLOW_GOAL)
    store.close()
    yield Figure(case, "database, group and checkpoint included", _used(folder / "chat.db") / 1024, "KiB")


def _used(path: Path) -> int:
    """Return the bytes of a database in its pages that are not free."""
    with closing(sqlite3.connect(path)) as connection:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return int((pages - free) * size)


# --- the room -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """Somebody's keys."""

    certificate: DeviceCertificate
    bundle: KeyPackageBundle
    signature: SignaturePrivateKey
    identity: Ed25519PrivateKey

    @classmethod
    def make(cls, number: int) -> "Member":
        """A member with a certificate of its own."""
        signature, identity = SignaturePrivateKey.generate(SUITE), Ed25519PrivateKey.generate()
        certificate = issue(
            identity, server_id=SERVER, account=f"member-{number}", device_id=os.urandom(16),
            signature_key=signature.public_key, not_before=NOW - CLOCK_SKEW, not_after=NOW + 86_400,
        )  # fmt: skip
        lifetime = Lifetime(NOW - CLOCK_SKEW, NOW + 3600)
        bundle = generate_key_package(SUITE, credential(certificate), signature, CAPABILITIES, lifetime)
        return cls(certificate, bundle, signature, identity)

    def renewed(self) -> "Member":
        """The same member with a new signature key, and the certificate that follows."""
        signature, old = SignaturePrivateKey.generate(SUITE), self.certificate
        head = ChainHead.after(old)
        certificate = issue(
            self.identity, server_id=SERVER, account=old.account, device_id=old.device_id,
            signature_key=signature.public_key, not_before=NOW - CLOCK_SKEW, not_after=NOW + 86_400,
            seq=head.seq + 1, previous=head.digest,
        )  # fmt: skip
        return replace(self, certificate=certificate, signature=signature)


VALIDATE: Final = leaf_validator(SERVER, NOW)


@dataclass(frozen=True)
class Room:
    """What somebody has to follow: their state, with its secrets, and the entries that came since."""

    reader: Member
    group: Group
    log: list[Entry]


def commit(group: Group, *proposals: Proposal, number: int = 1) -> StagedCommit:
    return group.commit(
        proposals, authenticated_data=encode_commit(number, NOW * 1000), tree_in_welcome=False, validate=VALIDATE,
        now=NOW,
    )  # fmt: skip


def _fill(store: SQLiteStore, size: int) -> Room:
    """Make the room and its commits, each in a transaction, and one reader who has read none: the last member."""
    members = [Member.make(number) for number in range(size)]
    owner, *others = members
    reader = members[-1]
    rules = Rules("invite", "#bench", owners=(Identity.of(owner.certificate),))
    alone = Group.create(ROOM, owner.bundle, owner.signature, extensions=(rules.extension(),))
    added = commit(alone, *(Add(other.bundle.key_package) for other in others))
    group, theirs = added.group, join(added, reader)
    for leaf in spread(size - 1):
        assert group is not None
        staged = commit(view_of(group, leaf, members))
        group, theirs = staged.group, stage(theirs, staged.message, staged.group_info or b"")
    assert group is not None
    log: list[Entry] = []
    head = Head(ROOM, "invite", "#bench", 0, NOW * 1000, group.epoch, CHAIN_START, b"")
    for device in (READER, owner.certificate.device_id):
        head.members[device] = Membership(device, "reader", 0, CHAIN_START, None, 0)
    store.conversations.create(head, None, group.public.encode())
    for number in range(COMMITS):
        leaf, own_number = LeafIndex(number % (size - 1)), number // (size - 1) + 1
        staged = commit(view_of(group, leaf, members), number=own_number)
        assert staged.group is not None
        group = staged.group
        device = members[leaf].certificate.device_id
        entry = _entry(head, device, own_number, staged)
        log.append(Entry(ROOM, entry.seq, entry.time, device, entry.kind, entry.payload, entry.group_info))
        head.record(entry)
        head.group_info = entry.group_info
        store.logs.append(head, [entry], "a")
        due = group.epoch % SNAPSHOT_EPOCHS == 0
        store.conversations.save_commit(head, entry, group.public.encode() if due else None, "a")
        if leaf == 0:
            tree = group.public.tree.encode()
            checkpoint = Checkpoint("owner", entry.seq, entry.time, entry.chain, entry.group_info, tree, ())
            store.conversations.put_checkpoint(ROOM, checkpoint)
        store.commit()
    return Room(reader, theirs, log)


def join(added: StagedCommit, reader: Member) -> Group:
    assert added.group is not None
    assert added.welcome is not None
    welcome, tree = decode_body(added.welcome, Welcome), added.group.public.tree
    return Group.join(welcome, reader.bundle, reader.signature, tree=tree, validate=VALIDATE, now=NOW)


def stage(group: Group, commit: bytes, group_info: bytes) -> Group:
    """Take a commit with the checks of the client's log."""
    staged = group.stage(commit, validate=VALIDATE, now=NOW)
    policy.check_commit(staged.public, departed=frozenset())
    assert staged.group is not None
    info = decode_body(group_info, GroupInfo)
    verify_group_info(staged.public.after, info, signer=staged.public.committer_leaf)
    staged.group.verify_external_key(info)
    return staged.group


def view_of(group: Group, leaf: LeafIndex, members: list[Member]) -> Group:
    return view(group, leaf, members[leaf].bundle, members[leaf].signature)


def _entry(head: Head, device: bytes, number: int, staged: StagedCommit) -> LogEntry:
    assert staged.group_info is not None
    seq, time_, group_info = head.seq + 1, head.time, staged.group_info
    chain = next_chain(head.chain, ROOM, seq, time_, device, number, staged.message, group_info)
    epoch = staged.public.after.epoch
    return LogEntry(seq, time_, device, number, epoch, chain, staged.message, group_info, MLS_MESSAGE, head.chain)


# --- the client ---------------------------------------------------------------------------------------------------


def _follow(room: Room) -> float:
    """Return the CPU seconds in which a member follows the log with the group's secrets."""
    began, group = time.process_time(), room.group
    for entry in room.log:
        group = stage(group, entry.payload, entry.group_info)
    return time.process_time() - began


def _walk(room: Room) -> float:
    """Return the CPU seconds in which the same is walked without secrets."""
    began = time.process_time()
    walk = Walk(room.group.public, (), device=room.reader.certificate, after_seq=0)
    for entry in room.log:
        walk.receive(entry, VALIDATE)
    taken = time.process_time() - began
    assert len(walk.passed) == COMMITS
    return taken


# --- the reader ---------------------------------------------------------------------------------------------------


@dataclass
class Sink:
    """An outlet that takes everything at once."""

    address: str = ""
    backlog: int = 0
    crowded: bool = False
    size: int = 0
    jobs: list[Any] = field(default_factory=list)

    def send(self, item: Any) -> None:
        """Count it."""
        self.size += len(item) if isinstance(item, bytes) else 0

    def submit(self, job: Any, *_: object) -> None:
        """Have a reader's work wait for its turn."""
        self.jobs.append(job)

    def drop(self, *_: object) -> None:
        """Forget nothing: no session ends here."""


def _stream(store: SQLiteStore, folder: Path) -> float:
    """Return the CPU seconds that it takes to bring a reader from the log's beginning to live delivery."""
    sink = Sink()
    portions: list[Any] = []
    conversations = Conversations(store.conversations)
    turn = Turn(conversations, ServerClock(folder), Space(folder, 0))

    def hand_in(session: Session, portion: Any) -> None:
        portions.append((session, portion))

    news = News(store.conversations, store.directory, conversations, Sessions())
    heirs = Heirs(store.directory)
    reading = Reading(turn, store.logs, store.inboxes, store.directory, conversations, news, heirs, sink, hand_in)
    session = Session(sink)
    session.account, session.device = "reader", READER
    began = time.process_time()
    reading.subscribe(session, Subscribe(1, ROOM, 0))
    for effect in turn.effects:
        effect()
    while sink.jobs:
        sink.jobs.pop()()
        while portions:
            reading.portion(*portions.pop())
    taken = time.process_time() - began
    assert session.subscriptions[ROOM].live
    assert sink.size > COMMITS * 1000
    return taken
