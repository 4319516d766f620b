"""Random histories, shrunk when they fail: whatever happens in whatever order, the members of an epoch agree.

The commits are one order for all, as the server makes it; everything else is up to chance: who is how far behind, which
messages come late, twice, or after an altered copy, who restarts when, and who loses a race. In one half of the
histories handshakes are public, and a view without secrets follows; in the other half they are encrypted.

The suite runs the same histories each time; `scripts/test tests/mls/test_mls_stateful.py --hypothesis-profile=long`
runs two thousand new ones.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from securechat.errors import PeerError
from securechat.mls.errors import CannotDecrypt, InvalidMessage, WrongEpoch
from securechat.mls.extensions import Extension, Extensions
from securechat.mls.framing import PrivateMessage, PublicMessage, Sender, decode_body
from securechat.mls.group import Group, StagedCommit
from securechat.mls.group_context import GroupContext
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package_bundle import KeyPackageBundle
from securechat.mls.message_protection import open_private
from securechat.mls.proposal_list import of_members
from securechat.mls.proposals import (
    Add,
    GroupContextExtensions,
    PreSharedKey,
    PreSharedKeyId,
    Proposal,
    PskType,
    Remove,
)
from securechat.mls.public_group import PublicGroup, verify_group_info
from securechat.mls.ratchet_tree import Census, RatchetTree
from securechat.mls.welcome import Welcome
from tests.mls.forge import application, sealed_private
from tests.mls.support import CAPABILITIES, NOW, RULES, SUITE, Person, anyone, commit, propose, state

MOST = 8
"""Members: enough for a tree three levels deep with holes in it."""

_T = TypeVar("_T")


def psk(name: bytes) -> PreSharedKey:
    return PreSharedKey(PreSharedKeyId(PskType.EXTERNAL, bytes(32), psk_id=name))


def secret_of(psk_id: PreSharedKeyId) -> bytes:
    """The pre-shared keys that everyone here has."""
    return b"secret of " + psk_id.psk_id


class View(NamedTuple):
    """What the members of an epoch must agree on."""

    authenticator: bytes
    exported: bytes
    tree_hash: bytes
    context: GroupContext

    @classmethod
    def of(cls, group: Group) -> "View":
        public = group.public
        exported = bytes(group.export("label", b"context", 32))
        return cls(group.epoch_authenticator, exported, public.tree.tree_hash(SUITE), public.context)


@dataclass
class Epoch:
    """One epoch, and the handshakes that were sent in it."""

    view: View
    proposals: list[bytes] = field(default_factory=list)
    commit: bytes = b""
    """The one that ended it, once there is one."""
    lost: list[bytes] = field(default_factory=list)
    """Commits that came too late."""


@dataclass(eq=False)
class Member:
    """A client, at its own pace."""

    person: Person
    group: Group
    seen: set[int] = field(default_factory=set)
    """Which proposals of its epoch it has received or made."""


@dataclass(eq=False)
class Text:
    """An application message, and who has read it."""

    epoch: int
    sender: bytes
    number: int
    message: bytes
    text: bytes
    readers: set[bytes] = field(default_factory=set)
    passed_over: set[bytes] = field(default_factory=set)
    """Members who have read a later message of the sender in order, and so have deleted this one's key."""


class Invitation(NamedTuple):
    """A Welcome that somebody has not opened yet."""

    person: Person
    bundle: KeyPackageBundle
    welcome: bytes
    tree: bytes | None


class Conversation(RuleBasedStateMachine):
    """A group, what was sent in it, and what each member has seen of that."""

    def __init__(self) -> None:
        super().__init__()
        self.names = iter(f"member {number}" for number in range(10_000))
        self.members: dict[bytes, Member] = {}
        self.gone: list[Member] = []
        self.asked: dict[bytes, tuple[Person, KeyPackageBundle]] = {}
        """Those whom an Add names that is not committed yet, by name."""
        self.invited: list[Invitation] = []
        self.epochs: list[Epoch] = []
        self.texts: list[Text] = []

    @initialize(data=st.data(), encrypt=st.booleans(), tree_in_welcome=st.booleans(), others=st.sampled_from([1, 3, 6]))
    def found(self, data: st.DataObject, *, encrypt: bool, tree_in_welcome: bool, others: int) -> None:
        founder = Person.named(next(self.names))
        group = founder.create()
        self.encrypt, self.tree_in_welcome = encrypt, tree_in_welcome
        self.members[founder.name] = Member(founder, group)
        self.newest = group.public
        info = decode_body(group.group_info(with_tree=True), GroupInfo)
        self.watcher = None if encrypt else PublicGroup.from_group_info(info, None, validate=anyone, now=NOW)
        self.epochs.append(Epoch(View.of(group)))
        adds = [Add(self.newcomer().key_package) for _ in range(others)]
        self.accept(data, self.members[founder.name], commit(group, *adds, tree_in_welcome=tree_in_welcome))

    # ---- choosing

    def pick(self, data: st.DataObject, choices: Iterable[_T]) -> _T | None:
        """One of them, or None if there is none."""
        listed = list(choices)
        return listed[data.draw(st.integers(0, len(listed) - 1), "choice")] if listed else None

    def heads(self, data: st.DataObject) -> bool:
        return data.draw(st.booleans(), "heads")

    def seldom(self, data: st.DataObject) -> bool:
        """One time in four; if messages were late more often, nobody would ever be up to date."""
        return data.draw(st.integers(0, 3), "seldom") == 3

    def up_to_date(self) -> list[Member]:
        return [member for member in self.members.values() if member.group.epoch == self.newest.epoch]

    def room(self) -> int:
        return MOST - len(list(self.newest.members())) - len(self.asked)

    def newcomer(self) -> KeyPackageBundle:
        person = Person.named(next(self.names))
        bundle = person.key_package()
        self.asked[person.name] = (person, bundle)
        return bundle

    def proposal(self, data: st.DataObject, *, by: Member, alone: bool) -> Proposal | None:
        """Something to propose, or None for an Update; `alone`: its proposer commits it."""
        kinds = ["add"] if self.room() > 0 else []
        kinds += ["remove", "extensions"] if alone else ["remove", "leave", "update", "psk", "extensions"]
        match self.pick(data, kinds):
            case "add":
                return Add(self.newcomer().key_package)
            case "leave":
                return Remove(by.group.own_leaf)
            case "psk":
                return psk(data.draw(st.binary(min_size=1, max_size=2), "psk"))
            case "extensions":
                rules: Extensions = (Extension(RULES, data.draw(st.binary(max_size=2), "rules")),)
                return GroupContextExtensions(rules)
            case "remove":
                others = [leaf for leaf, _ in self.newest.members() if leaf != by.group.own_leaf]
                leaf = self.pick(data, others)
                if leaf is not None:
                    return Remove(leaf)
        return None

    # ---- proposals

    @rule(data=st.data())
    def propose(self, data: st.DataObject) -> None:
        proposer = self.pick(data, self.up_to_date())
        assert proposer is not None
        made = self.proposal(data, by=proposer, alone=False)
        group, encrypt = proposer.group, self.encrypt
        message = group.propose_update(encrypt=encrypt) if made is None else propose(group, made, encrypt=encrypt)
        proposals = self.epochs[group.epoch].proposals
        proposer.seen.add(len(proposals))
        proposals.append(message)
        if self.watcher is not None:
            body = decode_body(message, PublicMessage)
            self.watcher = self.watcher.with_proposal(self.watcher.verify_proposal(body))
        if not self.seldom(data):
            for member in self.up_to_date():
                if len(proposals) - 1 not in member.seen:
                    self.receive_proposal(data, member, len(proposals) - 1)

    @rule(data=st.data())
    def deliver_proposal(self, data: st.DataObject) -> None:
        member = self.pick(data, self.members.values())
        assert member is not None
        proposals = self.epochs[member.group.epoch].proposals
        number = self.pick(data, (number for number in range(len(proposals)) if number not in member.seen))
        if number is not None:
            self.receive_proposal(data, member, number)

    def receive_proposal(self, data: st.DataObject, member: Member, number: int) -> None:
        message = self.epochs[member.group.epoch].proposals[number]
        if self.heads(data):
            self.refuse(member, self.altered(data, message), lambda wrong: member.group.receive_proposal(wrong))
        member.group.receive_proposal(message)
        member.seen.add(number)

    # ---- commits

    def commit(self, data: st.DataObject, member: Member, *proposals: Proposal) -> StagedCommit:
        """A commit of these and perhaps of what the member has received; perhaps it sleeps over it."""
        before = member.group.public_bytes()
        staged = commit(
            member.group,
            *proposals,
            by_reference=of_members if self.heads(data) else None,
            encrypt=self.encrypt,
            omit_path=self.heads(data),
            tree_in_welcome=self.tree_in_welcome,
            psks=secret_of,
        )
        assert member.group.public_bytes() == before
        committed = [entry.proposal for entry in staged.public.proposals]
        assert all(proposal in committed for proposal in proposals)
        return StagedCommit.decode(staged.encode(), member.person.keys) if self.heads(data) else staged

    def accept(self, data: st.DataObject, member: Member, staged: StagedCommit) -> None:
        """The server takes the commit: all others will have to follow it, and most do at once."""
        assert staged.group is not None
        public = staged.public
        self.epochs[-1].commit = staged.message
        expected = {leaf: node.credential.identity for leaf, node in self.newest.members()}
        for entry in public.proposals:
            if isinstance(entry.proposal, Remove):
                del expected[entry.proposal.removed]
        names = set(expected.values())
        for entry in public.proposals:
            if isinstance(entry.proposal, Add):
                names.add(entry.proposal.key_package.leaf_node.credential.identity)
        assert {node.credential.identity for _, node in public.after.members()} == names | {member.person.name}

        if self.watcher is not None:
            seen = self.watcher.stage(decode_body(staged.message, PublicMessage), validate=anyone, now=NOW)
            assert replace(seen, before=public.before) == public
            self.watcher = seen.after
            if staged.group_info is not None:
                verify_group_info(
                    seen.after, decode_body(staged.group_info, GroupInfo), signer=public.committer_leaf
                )
        self.newest = public.after
        self.epochs.append(Epoch(View.of(staged.group)))
        member.group, member.seen = staged.group, set()
        for _, leaf in public.added:
            person, bundle = self.asked.pop(leaf.credential.identity)
            assert staged.welcome is not None
            tree = None if self.tree_in_welcome else public.after.tree.encode()
            self.invited.append(Invitation(person, bundle, staged.welcome, tree))
        self.asked.clear()  # what was not committed has lapsed with the epoch
        self.members[member.person.name] = member
        if not self.seldom(data):
            for other in list(self.members.values()):
                while other.group.epoch < self.newest.epoch and other not in self.gone:
                    self.follow_one(data, other)
            while self.invited:
                self.join(self.invited.pop())

    @rule(data=st.data())
    def commit_something(self, data: st.DataObject) -> None:
        member = self.pick(data, self.up_to_date())
        assert member is not None
        proposals: list[Proposal] = []
        match self.pick(data, ["update", "adds", "removal", "keys", "another"]):
            case "removal":
                others = [leaf for leaf, _ in self.newest.members() if leaf != member.group.own_leaf]
                proposals += map(Remove, data.draw(st.permutations(others), "removed")[: 1 + self.heads(data)])
            case "adds":
                count = min(self.room(), data.draw(st.integers(1, 3), "count"))
                proposals += (Add(self.newcomer().key_package) for _ in range(count))
            case "keys":
                names = data.draw(st.lists(st.binary(min_size=1, max_size=2), min_size=2, max_size=3, unique=True))
                proposals += map(psk, names)
            case "another":
                proposals += filter(None, [self.proposal(data, by=member, alone=True)])
        self.accept(data, member, self.commit(data, member, *proposals))

    @rule(data=st.data())
    def race(self, data: st.DataObject) -> None:
        winner = self.pick(data, self.up_to_date())
        assert winner is not None
        loser = self.pick(data, (member for member in self.up_to_date() if member is not winner))
        if loser is None:
            return
        lost, won = self.commit(data, loser), self.commit(data, winner)
        self.epochs[-1].lost.append(lost.message)
        with pytest.raises(InvalidMessage, match="our own commit|our own message"):
            self.stage(loser, lost.message)
        self.accept(data, winner, won)
        if self.watcher is not None:
            with pytest.raises(WrongEpoch):
                self.watcher.stage(decode_body(lost.message, PublicMessage), validate=anyone, now=NOW)
        self.refuse(winner, lost.message, lambda message: self.stage(winner, message), WrongEpoch)

    @rule(data=st.data())
    def join_from_outside(self, data: st.DataObject) -> None:
        helper = self.pick(data, self.up_to_date())
        assert helper is not None
        comes_back, old = None, None
        if self.heads(data):
            comes_back = self.pick(data, self.members.values())
            assert comes_back is not None
            old = self.newest.find(comes_back.person.signature.public_key)
        if old is None and self.room() <= 0:
            return
        person = comes_back.person if comes_back is not None and old is not None else Person.named(next(self.names))
        with_tree = self.heads(data)
        staged = Group.join_external(
            decode_body(helper.group.group_info(with_tree=with_tree), GroupInfo),
            None if with_tree else RatchetTree.decode(self.newest.tree.encode()),
            person.signature,
            credential=person.credential,
            capabilities=CAPABILITIES,
            remove_own_old_leaf=old,
            psk_ids=[psk(b"door").psk, psk(b"a").psk] if self.heads(data) else [],
            psks=secret_of,
            validate=anyone,
            now=NOW,
        )
        assert staged.group is not None
        if old is not None:
            self.gone.append(self.members.pop(person.name))
        self.accept(data, Member(person, staged.group), staged)

    @rule(data=st.data())
    def open_invitation(self, data: st.DataObject) -> None:
        invitation = self.pick(data, self.invited)
        if invitation is not None:
            self.invited.remove(invitation)
            self.join(invitation)

    def join(self, invitation: Invitation) -> None:
        person, bundle, welcome, tree = invitation
        group = Group.join(
            decode_body(welcome, Welcome),
            bundle,
            person.signature,
            tree=None if tree is None else RatchetTree.decode(tree),
            psks=secret_of,
            validate=anyone,
            now=NOW,
        )
        self.members[person.name] = Member(person, group)

    @rule(data=st.data())
    def follow(self, data: st.DataObject) -> None:
        member = self.pick(data, (one for one in self.members.values() if one.group.epoch < self.newest.epoch))
        if member is not None:
            self.follow_one(data, member)

    def follow_one(self, data: st.DataObject, member: Member) -> None:
        """Receive what is missing of the epoch, in any order, and then the commit that ended it."""
        epoch = self.epochs[member.group.epoch]
        missing = [number for number in range(len(epoch.proposals)) if number not in member.seen]
        for number in reversed(missing) if self.heads(data) else missing:
            self.receive_proposal(data, member, number)
        if self.heads(data):
            self.refuse(member, self.altered(data, epoch.commit), lambda wrong: self.stage(member, wrong))
        before = state(member.group)
        staged = self.stage(member, epoch.commit)
        assert state(member.group) == before
        if self.heads(data):
            staged = StagedCommit.decode(staged.encode(), member.person.keys)
        if staged.group is None:
            self.gone.append(self.members.pop(member.person.name))
        else:
            member.group, member.seen = staged.group, set()

    @rule(data=st.data())
    def repeat_a_handshake(self, data: st.DataObject) -> None:
        member = self.pick(data, self.members.values())
        epoch = self.pick(data, self.epochs)
        assert member is not None
        assert epoch is not None
        if epoch is not self.epochs[member.group.epoch]:
            for message in (epoch.commit, *epoch.lost):
                if message:
                    self.refuse(member, message, lambda again: self.stage(member, again), WrongEpoch)
            for message in epoch.proposals:
                self.refuse(member, message, lambda again: member.group.receive_proposal(again), WrongEpoch)

    def stage(self, member: Member, message: bytes) -> StagedCommit:
        return member.group.stage(message, psks=secret_of, validate=anyone, now=NOW)

    # ---- application messages

    @rule(data=st.data(), count=st.integers(1, 4))
    def say(self, data: st.DataObject, count: int) -> None:
        sender = self.pick(data, self.members.values())
        assert sender is not None
        already = len(self.texts)
        for _ in range(count):
            text, padding = b"text %d" % len(self.texts), data.draw(st.integers(0, 40), "padding")
            message = sender.group.encrypt(text, padding=padding)
            self.texts.append(Text(sender.group.epoch, sender.person.name, len(self.texts), message, text))
        for reader in self.members.values():
            if reader.group.epoch == sender.group.epoch and not self.seldom(data):
                for said in data.draw(st.permutations(self.texts[already:]), "order"):
                    self.hear(data, reader, said)

    @rule(data=st.data())
    def hear_what_was_said(self, data: st.DataObject) -> None:
        reader = self.pick(data, self.members.values())
        assert reader is not None
        now = [said for said in self.texts if said.epoch == reader.group.epoch]
        for said in data.draw(st.permutations(now), "order"):
            self.hear(data, reader, said)

    @rule(data=st.data())
    def hear_anything(self, data: st.DataObject) -> None:
        said, reader = self.pick(data, self.texts), self.pick(data, self.members.values())
        if said is not None and reader is not None:
            self.hear(data, reader, said)

    def hear(self, data: st.DataObject, reader: Member, said: Text) -> None:
        group, name = reader.group, reader.person.name
        if self.heads(data):
            self.refuse(reader, self.altered(data, said.message), group.decrypt)
        if said.epoch != group.epoch:
            self.refuse(reader, said.message, group.decrypt, WrongEpoch)
        elif name == said.sender or name in said.readers | said.passed_over:
            self.refuse(reader, said.message, group.decrypt, CannotDecrypt)
        else:
            in_order = not self.encrypt and self.seldom(data)  # it would delete the keys of handshakes, too
            assert group.decrypt(said.message, in_order=in_order).plaintext == said.text
            self.refuse(reader, said.message, group.decrypt, CannotDecrypt)
            said.readers.add(name)
            if in_order:
                same = [each for each in self.texts if (each.epoch, each.sender) == (said.epoch, said.sender)]
                newest = max(each.number for each in same if name in each.readers)
                for each in same:
                    if each.number < newest:
                        each.passed_over.add(name)

    @rule(data=st.data())
    def speak_as_another(self, data: st.DataObject) -> None:
        reader = self.pick(data, self.members.values())
        assert reader is not None
        present = [member for member in self.members.values() if member.group.epoch == reader.group.epoch]
        liar, victim = self.pick(data, present), self.pick(data, present)
        if liar is None or victim is None or victim in (liar, reader):
            return
        sender = Sender.member(victim.group.own_leaf)
        lie = sealed_private(liar.group, application(liar.group, liar.person, sender=sender))
        self.refuse(reader, lie, reader.group.decrypt, InvalidMessage)

    # ---- restarts, and what must not happen

    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        member = self.pick(data, self.members.values())
        assert member is not None
        saved = state(member.group)
        member.group = Group.load(*saved, member.person.keys)
        assert state(member.group) == saved

    def altered(self, data: st.DataObject, message: bytes) -> bytes:
        """The message with one bit flipped."""
        position = data.draw(st.integers(0, 0xFFFF), "position") % len(message)
        bit = data.draw(st.integers(0, 7), "bit")
        return message[:position] + bytes([message[position] ^ 1 << bit]) + message[position + 1 :]

    def refuse(
        self,
        member: Member,
        message: bytes,
        receive: Callable[[bytes], object],
        error: type[PeerError] = PeerError,
    ) -> None:
        before = state(member.group)
        with pytest.raises(error):
            receive(message)
        assert state(member.group) == before

    @invariant()
    def the_members_of_an_epoch_agree(self) -> None:
        for member in self.members.values():
            assert View.of(member.group) == self.epochs[member.group.epoch].view

    @invariant()
    def the_view_without_secrets_agrees(self) -> None:
        if self.watcher is not None:
            assert replace(self.watcher, proposals={}) == self.newest
            decoded = RatchetTree.decode(self.watcher.tree.encode())  # knows nothing of the commits that led here
            assert counted(self.watcher.tree) == counted(decoded)
            assert decoded.tree_hash(SUITE) == self.newest.context.tree_hash

    @invariant()
    def who_is_gone_knows_no_key_of_the_group(self) -> None:
        unread = [said for said in self.texts if said.epoch == self.newest.epoch]
        for member in self.gone[-3:]:
            group = member.group
            assert not group._keys.kept_in(self.newest.tree, *group._pending_updates).keys
            for said in unread[-2:]:
                with pytest.raises(WrongEpoch):
                    group.decrypt(said.message)
                body = decode_body(said.message, PrivateMessage)
                with pytest.raises(CannotDecrypt):
                    open_private(SUITE, group._secrets.sender_data_secret, group._messages, body, lambda _: None)


def counted(tree: RatchetTree) -> Sequence[object]:
    return [getattr(tree.census, name) for name in Census.__slots__]


TestConversation = pytest.mark.timeout(3600)(Conversation.TestCase)  # seconds: what fails is shrunk for up to 300
TestConversation.settings = settings(max_examples=settings().max_examples * 2 // 5, stateful_step_count=40)
