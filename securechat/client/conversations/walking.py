"""Walking: the handshakes of a log are followed without secrets, from our last trusted state on (design, section 6).

That is for two cases alone, because without secrets a commit costs its forger one signature key: our own device has
committed what this vault does not know, since another copy of it did, or the user goes on past a commit that cannot be
processed (`/repair`). At the end our own external commit replaces our leaf in exactly the state that was walked to.

A walk lives as long as one connection, and begins anew on the next one: our trusted state stays as it is until we are
in. Messages between are passed over; they cannot be read.
"""

from collections.abc import Iterable
from typing import Final

from securechat import policy
from securechat.client.conversations.numbers import decode_number
from securechat.client.doors.facts import Change, Way
from securechat.errors import PeerError
from securechat.identity.certificate import DeviceCertificate, certificate_of
from securechat.identity.statements import Statement, is_statement
from securechat.mls.commit import Commit
from securechat.mls.framing import ContentType, PublicMessage, SenderType, decode_body, read_header
from securechat.mls.group_info import GroupInfo
from securechat.mls.leaf_node import CredentialValidator
from securechat.mls.proposals import GroupContextExtensions
from securechat.mls.public_group import PublicGroup, PublicStagedCommit, verify_group_info
from securechat.mls.tree_math import LeafIndex
from securechat.value import value
from securechat.wire.chain import HANDED_BACK, OPERATORS_WORD, STATEMENT
from securechat.wire.messages import Entry

MAX_WALK_COMMITS: Final = 20_000
"""Commits that a client follows to catch up with one conversation: 140 days of the largest room, a minute's work."""

MAX_WALK_BYTES: Final = 32 << 20
"""Bytes of them: as much as a server keeps of one conversation."""


class TooFar(PeerError):  # noqa: N818  the same
    """More handshakes than an honest server keeps."""


class CutOff(PeerError):  # noqa: N818  what has happened, and no error of ours
    """The handshakes that would lead on from here are gone."""


@value
class Passed:
    """A commit that was walked past: who made it, and what it changed beside its maker's path."""

    committer: DeviceCertificate
    change: Change


@value
class Base:
    """A state from which we walk in place of our own: the handshakes that lead from ours to it are gone."""

    group: PublicGroup
    departed: frozenset[LeafIndex]
    signer_leaf: LeafIndex
    seq: int  # of the commit that led there
    way: Way
    signer: DeviceCertificate  # on whose word
    time: int  # milliseconds
    restored: bool = False  # the server has lost our branch
    revocations: tuple[Statement, ...] = ()
    words: tuple[policy.Word, ...] = ()  # of the operator, that nobody has carried out


class Effort:
    """What was spent on following one conversation since it last was caught up with."""

    def __init__(self) -> None:
        self.commits = 0
        self._bytes = 0

    def spend(self, entry: Entry) -> None:
        """Count a commit. Raises `TooFar` beyond the limits of this module."""
        self.commits += 1
        self._bytes += len(entry.payload)
        if self.commits > MAX_WALK_COMMITS or self._bytes > MAX_WALK_BYTES:
            raise TooFar("the server has more changes to this conversation than an honest one keeps")


class Walk:
    """The public state of a conversation after the handshakes that have come so far."""

    def __init__(
        self,
        group: PublicGroup,
        departed: Iterable[LeafIndex],
        words: Iterable[policy.Word] = (),
        revocations: Iterable[Statement] = (),
        *,
        device: DeviceCertificate,
        after_seq: int,
        last: LeafIndex | None = None,
    ) -> None:
        """Begin at the trusted `group`, from which the leaves in `departed` have departed.

        `words`: of the operator, said there and not carried out. `revocations`: of leaves that are there.

        `device`: our own. `last`: whose commit led to `group`, where we do not know it with its secrets. Entries after
        `after_seq` are looked at; those that lead to `group` are passed over.
        """
        self.group = group
        self.departed = frozenset(departed)
        self.words = tuple(words)
        self.revocations = tuple(revocations)
        self.cursor = after_seq
        self.number = 0  # our device's newest submission met
        self._own = device
        self._last = last  # whose commit was the newest
        self.passed: list[Passed] = []
        self._effort = Effort()

    def receive(self, entry: Entry, validate: CredentialValidator) -> None:
        """Look at the next entry. Raises `PeerError`, and stays where it is, if it cannot follow from those before.

        `validate` judges by the entry's own time.
        """
        if entry.seq <= self.cursor:
            return
        if entry.kind == OPERATORS_WORD:
            self._word(entry)
            self.cursor = entry.seq
            return
        if entry.kind == STATEMENT or (entry.kind == HANDED_BACK and is_statement(entry.payload)):
            self._statement(entry)
            self.cursor = entry.seq
            return
        header = read_header(entry.payload)
        number = decode_number(header)
        if header.content_type != ContentType.APPLICATION and header.epoch >= self.group.epoch:
            if header.epoch > self.group.epoch:
                raise CutOff(f"entry {entry.seq} was made in epoch {header.epoch}, and what led there is gone")
            if header.content_type == ContentType.COMMIT:
                self._effort.spend(entry)
                self._commit(entry, validate)
            else:
                self._departure(entry)
        if entry.device == self._own.device_id:
            self.number = max(self.number, number)
        self.cursor = entry.seq

    def _commit(self, entry: Entry, validate: CredentialValidator) -> None:
        message = decode_body(entry.payload, PublicMessage)
        policy.check_proposals(message, self.group)
        staged = self.group.stage(message, validate=validate, now=entry.time // 1000)
        policy.check_commit(staged, departed=self.departed, words=self.words, revocations=self.revocations)
        verify_group_info(staged.after, decode_body(entry.group_info, GroupInfo), signer=staged.committer_leaf)
        committer = certificate_of(staged.committer)
        if committer.device_id != entry.device:
            raise PeerError(f"the server ascribes a change made by {committer.account} to another device")
        self.passed.append(Passed(committer, _change_of(staged, message)))
        self.departed -= {leaf for leaf, _ in staged.removed}
        self.words = policy.still_due(staged, self.words)
        self.revocations = policy.still_revoked(staged.after, self.revocations)
        self.group, self._last = staged.after, staged.committer_leaf

    def _word(self, entry: Entry) -> None:
        word = policy.Word.decode(entry.payload)
        if word.epoch > self.group.epoch:
            raise CutOff(f"entry {entry.seq} was made in epoch {word.epoch}, and what led there is gone")
        if word.epoch < self.group.epoch or word in self.words:
            return
        before = tuple(each for each in self.words if each.seq < entry.seq)
        policy.check_word(self.group, entry.payload, seq=entry.seq, time=entry.time, before=before)
        self.words = (*before, word)
        self.departed |= policy.leaves_to_go(self.group, [word])

    def _statement(self, entry: Entry) -> None:
        if entry.payload in {each.encode() for each in self.revocations}:
            return
        try:
            statement = policy.check_statement(
                self.group, entry.payload, time=entry.time, departed=self.departed, before=self.revocations
            )
        except PeerError:
            if self.passed:
                raise
            return  # it came before the state that we begin with, which says what has become of it
        self.revocations = policy.with_revocation(self.revocations, statement)
        self.departed |= policy.revoked_leaves(self.group, [statement])

    def _departure(self, entry: Entry) -> None:
        leaf = policy.check_departure(self.group, entry.payload)
        if certificate_of(self.group.member(leaf)).device_id != entry.device:
            raise PeerError("the server ascribes somebody's leaving to another device")
        self.departed |= {leaf}

    @property
    def own_commit(self) -> bool:
        """Whether our own device made a commit on the way: another copy of this vault did."""
        own = self._own
        return any(
            (each.committer.device_id, each.committer.identity_key) == (own.device_id, own.identity_key)
            for each in self.passed
        )

    def check_offer(self, info: GroupInfo) -> None:
        """Raise `PeerError` unless a GroupInfo leads into exactly the state walked to.

        Whether that may be entered the table of doors says (`doors.table`).
        """
        # Without a commit on the way the state is one that we know with its secrets, whoever signs for it.
        verify_group_info(self.group, info, signer=info.signer if self._last is None else self._last)
        policy.check_state(self.group)


def _change_of(staged: PublicStagedCommit, message: PublicMessage) -> Change:
    commit = message.content.content
    if staged.sender.type == SenderType.NEW_MEMBER_COMMIT:
        return "re-enter" if staged.removed else "enter"
    if isinstance(commit, Commit) and any(isinstance(each, GroupContextExtensions) for each in commit.proposals):
        return "rules"
    return "add" if staged.added else "remove" if staged.removed else "path"
