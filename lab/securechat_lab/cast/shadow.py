"""A conversation that only the lying server has: it plays the server for it, and holds a key to it."""

import time

from securechat.content.registry import Text
from securechat.identity.certificate import certificate_of
from securechat.mls.framing import PublicMessage, decode_body
from securechat.mls.group import Group
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package import KeyPackage
from securechat.mls.proposals import Add
from securechat.mls.public_group import PublicGroup
from securechat.mls.tree_math import LeafIndex
from securechat.mls.welcome import Welcome
from securechat.policy import Rules
from securechat.wire import messages as m
from securechat.wire.chain import CHAIN_START, MLS_MESSAGE, next_chain
from securechat_lab.cast.hostile import HostileServer, Link
from securechat_lab.cast.rogue import Rogue


class Shadow:
    """Answers whatever one victim asks about one conversation; `mole` is the member the server has in it."""

    def __init__(self, hostile: HostileServer, mole: Rogue, conversation: bytes = b"") -> None:
        self.hostile = hostile
        self.mole = mole
        self.conversation = conversation
        self.read: list[str] = []
        """What the victim has said here, as the mole reads it."""
        self.seq = 0
        self.subscribed = False
        self.hostile.from_client.update(
            {
                m.OpenDirect: self._open,
                m.Subscribe: self._subscribe,
                m.Submit: self._submit,
                m.Commit: self._commit,
                m.Acknowledge: lambda _, message: [] if message.conversation == self.conversation else None,  # type: ignore[attr-defined]  # an Acknowledge
            }
        )

    # --- the ways in ----------------------------------------------------------------------------------------------

    def _open(self, link: Link, request: m.Message) -> list[m.Message]:
        """The victim opens a direct conversation, for which it got the mole's key package."""
        assert isinstance(request, m.OpenDirect)
        now = int(time.time())
        founding = decode_body(request.founding, GroupInfo)
        before = PublicGroup.from_group_info(founding, None, validate=self.mole.validate, now=now)
        after = before.stage(decode_body(request.commit, PublicMessage), validate=self.mole.validate, now=now).after
        welcome = decode_body(request.welcome, Welcome)
        bundle = next(b for b in self.mole.bundles if b.key_package.reference(b.suite) in welcome.new_member_refs)
        group = Group.join(
            welcome, bundle, self.mole.signature, tree=after.tree, validate=self.mole.validate, now=now
        )
        self.conversation = request.conversation
        self._begin(group, seq=0, chain=CHAIN_START)
        self._answer(link, request.id, 1, request.commit, request.group_info, joins=True)
        return []

    def found(self, rules: Rules, victim: KeyPackage, *, epoch: int = 1) -> m.Welcomed:
        """Make a group with the victim in it from `epoch` on; the Welcome to give it."""
        mole = self.mole
        founder = Group.create(self.conversation, mole.bundle(), mole.signature, extensions=(rules.extension(),))
        while founder.epoch < epoch - 1:
            later = mole.make_commit(founder, number=1).group
            assert later is not None
            founder = later
        staged = mole.make_commit(founder, Add(victim), number=1)
        assert staged.group is not None
        assert staged.welcome is not None
        milliseconds = int(time.time() * 1000)
        self.seq += 1
        chain = next_chain(
            CHAIN_START, self.conversation, self.seq, milliseconds, mole.device, 1, staged.message,
            staged.group_info or b"",
        )  # fmt: skip
        self._begin(staged.group, seq=self.seq, chain=chain)
        mole.numbers[self.conversation] = 1
        tree = staged.group.public.tree.encode()
        return m.Welcomed(1, milliseconds, self.conversation, self.seq, chain, staged.welcome, tree, [])

    def found_alone(self, rules: Rules) -> None:
        """Make a group of one."""
        mole = self.mole
        group = Group.create(self.conversation, mole.bundle(), mole.signature, extensions=(rules.extension(),))
        self._begin(group, seq=self.seq, chain=CHAIN_START)

    def offer(self, request: int, *, number: int = 0) -> m.JoinOffer:
        """What the victim needs to enter by an external commit."""
        group = self.mole.groups[self.conversation]
        group_info, tree = group.group_info(with_tree=False), group.public.tree.encode()
        return m.JoinOffer(request, self.conversation, number, group_info, tree, [])

    def _begin(self, group: Group, *, seq: int, chain: bytes) -> None:
        mole, conversation = self.mole, self.conversation
        self.seq = seq
        mole.groups[conversation], mole.chains[conversation] = group, chain
        mole.cursors[conversation], mole.numbers[conversation] = seq, 0

    # --- the log --------------------------------------------------------------------------------------------------

    def _subscribe(self, link: Link, request: m.Message) -> list[m.Message] | None:
        assert isinstance(request, m.Subscribe)
        if request.conversation != self.conversation:
            return None
        link.tell_client(m.Subscribed(request.id, request.conversation, 0, self.seq, None, []))
        self.subscribed = True
        return []

    def _submit(self, link: Link, request: m.Message) -> list[m.Message] | None:
        assert isinstance(request, m.Submit)
        if request.conversation != self.conversation:
            return None
        self._answer(link, request.id, request.number, request.payload)
        return []

    def _commit(self, link: Link, request: m.Message) -> list[m.Message] | None:
        assert isinstance(request, m.Commit)
        if request.conversation != self.conversation:
            return None
        self._answer(link, request.id, request.number, request.commit, request.group_info, joins=True)
        return []

    def _answer(
        self, link: Link, request: int, number: int, payload: bytes, group_info: bytes = b"", *, joins: bool = False
    ) -> None:
        self.seq += 1
        now = int(time.time() * 1000)
        entry = m.Entry(self.conversation, self.seq, now, link.device, MLS_MESSAGE, payload, group_info)
        if self.seq == 1:
            self.mole._advance(entry)  # the mole has joined by it
        elif (text := self.mole.process(entry)) is not None:
            self.read.append(text)
        chain = self.mole.chains[self.conversation] if joins else b""
        link.tell_client(m.Accepted(request, self.conversation, number, self.seq, entry.time, chain))

    def say(self, link: Link, text: str) -> None:
        """Let the mole say something."""
        mole, conversation = self.mole, self.conversation
        payload = mole.protect(conversation, mole.envelope(conversation, Text(text)))
        mole.numbers[conversation] += 1
        self.seq += 1
        entry = m.Entry(conversation, self.seq, int(time.time() * 1000), mole.device, MLS_MESSAGE, payload, b"")
        mole._advance(entry)
        link.tell_client(entry)

    def leaf_of(self, account: str) -> LeafIndex:
        """An account's leaf in the mole's tree."""
        public = self.mole.groups[self.conversation].public
        return next(leaf for leaf, node in public.members() if certificate_of(node).account == account)
