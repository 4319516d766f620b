"""Random walks: members of two implementations do hundreds of random things, and agree after each.

The seed decides who does what and when; keys are fresh each time. A failure names the seed and the step.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import pytest

from securechat.mls.ratchet_tree import RatchetTree
from tests.interop.member import AddClient, Change, Committed, MixPsk, Refused, RemoveMember
from tests.interop.ours import Ours
from tests.interop.ts_mls import TsMember, TsMls

if TYPE_CHECKING:  # imports what may be missing
    from tests.interop.mls_rs import MlsRs

Walker: TypeAlias = "Ours | TsMember | MlsRs"

VERSATILE = (Ours, TsMember)
"""Those that encrypt handshakes, mix in PSKs, leave the tree out of a Welcome, and add and remove in one commit."""

FEW, MANY = 3, 7
"""Members: below the one, some come in; at the other, none do. Enough for trees three levels deep, with holes."""

PSK_ID, PSK = b"of the walk", b"known to all who walk"


class Walk:
    """A group with members of two kinds, and a hand that picks what happens next."""

    def __init__(self, seed: int, *kinds: Callable[[str], Walker]) -> None:
        self.random = random.Random(seed)
        self.kinds = kinds
        self.born = 0
        founder = self.newcomer()
        founder.create(b"a walk")
        self.members = [founder]

    def run(self, steps: int) -> None:
        """Take this many steps; after each, all have one view, and read what one of them says."""
        for step in range(steps):
            action = self.pick()
            try:
                action()
                self.agree()
            except Exception as error:
                error.add_note(f"at step {step}, {action.__name__}, with {len(self.members)} members")
                raise

    def pick(self) -> Callable[[], None]:
        """Something that can be done now."""
        if len(self.members) < FEW:
            return self.add
        actions = [self.update, self.remove, self.propose, self.talk, self.restart, self.come_back]
        if len(self.members) < MANY:
            actions += [self.add, self.add, self.enter]
        if all(isinstance(member, VERSATILE) for member in self.members):
            actions += [self.swap, self.mix_psk]
        return self.random.choice(actions)

    def agree(self) -> None:
        """Everyone has the same view of the epoch."""
        assert len({member.export("walk", b"", 32) for member in self.members}) == 1
        views = {(m.epoch, m.authenticator) for m in self.members if isinstance(m, VERSATILE)}
        assert len(views) <= 1

    # ---- what can happen

    def add(self) -> None:
        """Someone adds one or two clients."""
        self.commit(self.shuffled()[0], added=self.newcomers())

    def update(self) -> None:
        """Someone renews their keys."""
        self.commit(self.shuffled()[0])

    def remove(self) -> None:
        """Someone removes one or two others."""
        remover = self.shuffled()[0]
        self.commit(remover, removed=self.removable(remover)[: self.random.randint(1, 2)])

    def swap(self) -> None:
        """Someone removes one and adds another, who takes the free leaf."""
        remover = self.shuffled()[0]
        self.commit(remover, removed=self.removable(remover)[:1], added=[self.newcomer()])

    def mix_psk(self) -> None:
        """Someone mixes in the PSK, and perhaps adds newcomers, who then need it, too."""
        newcomers = self.newcomers() if len(self.members) < MANY and self.heads() else []
        able = [newcomer for newcomer in newcomers if isinstance(newcomer, VERSATILE)]
        self.commit(self.shuffled()[0], MixPsk(PSK_ID), added=able)

    def propose(self) -> None:
        """One renews its keys, leaves, or wants another out, and perhaps invites somebody; another commits it."""
        committer, proposer, *_ = self.shuffled()
        removed: list[Walker] = []
        added: list[Walker] = []
        what = self.random.choice(["renew", "leave", "expel", "invite"])
        if what == "renew" and isinstance(proposer, Ours):
            self.tell(proposer, proposer.propose_update(encrypt=self.heads()))
        elif what == "leave" and isinstance(proposer, VERSATILE):
            removed = [member for member in self.removable(committer) if member is proposer]
        elif what == "expel":
            removed = self.removable(committer, proposer)[:1]
        for member in removed:
            self.introduce(member, proposer)
            self.tell(proposer, self.proposal(proposer, RemoveMember(member.identity)))
        if not removed or self.heads():
            added = [self.newcomer()]
            self.tell(proposer, self.proposal(proposer, AddClient(added[0].key_package())))
        self.settle(committer, self.committed(committer), removed, added)

    def tell(self, sender: Walker, message: bytes) -> None:
        """All others receive this."""
        for member in self.members:
            if member is not sender:
                member.receive(message)

    def enter(self) -> None:
        """One of our clients joins by an external commit."""
        joiner = Ours(self.name())
        joiner.learn_psk(PSK_ID, PSK)
        self.external(joiner, resync=False)

    def come_back(self) -> None:
        """One of our clients comes back by an external commit that replaces its old leaf."""
        ours = [member for member in self.members if isinstance(member, Ours)]
        if len(ours) > 1:
            self.external(self.random.choice(ours), resync=True)

    def restart(self) -> None:
        """Some of our clients go on from their saved states."""
        for member in self.members:
            if isinstance(member, Ours) and self.heads():
                member.restart()

    def talk(self) -> None:
        """Some say several things, which each of the others reads in another order."""
        said = [
            (speaker, speaker.encrypt(b"%d" % number), b"%d" % number)
            for speaker in self.shuffled()[:3]
            for number in range(3)
        ]
        for reader in self.members:
            self.random.shuffle(said)
            for speaker, message, text in said:
                assert speaker is reader or reader.receive(message) == text

    # ---- how it happens

    def commit(
        self, committer: Walker, *changes: Change, removed: Sequence[Walker] = (), added: Sequence[Walker] = ()
    ) -> None:
        """Commit by value, and have everyone follow."""
        for member in removed:
            self.introduce(member, committer)
        made = self.committed(
            committer,
            *(RemoveMember(member.identity) for member in removed),
            *(AddClient(joiner.key_package()) for joiner in added),
            *changes,
        )
        self.settle(committer, made, removed, added)

    def committed(self, committer: Walker, *changes: Change) -> Committed:
        """Have this one commit, in any of the ways that it can."""
        if isinstance(committer, VERSATILE):
            return committer.commit(*changes, encrypt=self.heads(), tree_in_welcome=self.heads())
        return committer.commit(*changes)

    def settle(self, committer: Walker, made: Committed, removed: Iterable[Walker], added: Iterable[Walker]) -> None:
        """The others process the commit, newcomers their Welcome, and those removed are gone."""
        for member in self.members:
            if member is committer:
                continue
            if member in removed and isinstance(member, TsMember) and made.welcome is not None:
                continue  # if its leaf has been given away at once, ts-mls fails to see that it was removed
            member.receive(made.message)
            assert member.active == (member not in removed)
        self.members = [member for member in self.members if member not in removed]
        for joiner in added:
            assert made.welcome is not None
            if isinstance(joiner, TsMember) and ts_mls_misjudges(RatchetTree.decode(made.tree)):
                with pytest.raises(Refused, match="unmerged_leaves"):
                    joiner.join(made.welcome, made.tree)
            else:
                joiner.join(made.welcome, made.tree)
                self.members.append(joiner)
        for joiner in set(added).difference(self.members):
            self.commit(self.random.choice(self.members), RemoveMember(joiner.identity))

    def external(self, joiner: Ours, *, resync: bool) -> None:
        """Have one of our clients make an external commit, and everyone follow."""
        inside = [member for member in self.members if isinstance(member, Ours) and member is not joiner]
        if not inside:
            return
        commit = joiner.join_external(self.random.choice(inside).group_info(), resync=resync)
        self.tell(joiner, commit)
        if not resync:
            self.members.append(joiner)

    def proposal(self, proposer: Walker, change: Change) -> bytes:
        """Have this one propose, in any of the ways that it can."""
        if isinstance(proposer, VERSATILE):
            return proposer.propose(change, encrypt=self.heads())
        return proposer.propose(change)

    def introduce(self, member: Walker, remover: Walker) -> None:
        """The bindings of mls-rs remove only those of whom they have read something."""
        if not isinstance(remover, VERSATILE):
            remover.meet(member.identity, member.encrypt(b"hello"))

    # ---- chance

    def heads(self) -> bool:
        """Toss a coin."""
        return self.random.random() < 0.5

    def shuffled(self) -> list[Walker]:
        """All members, in a random order."""
        return self.random.sample(self.members, len(self.members))

    def removable(self, *stay: Walker) -> list[Walker]:
        """All but these and the founder, in a random order.

        The founder has leaf 0 and never goes: ts-mls derives one commit secret too many when the left half of the tree
        is empty, and the root therefore not on the filtered direct path (RFC 9420, sections 4.1.2 and 7.4).
        """
        return [member for member in self.shuffled() if member not in (self.members[0], *stay)]

    def newcomers(self) -> list[Walker]:
        """One or two new clients."""
        return [self.newcomer() for _ in range(self.random.randint(1, 2))]

    def newcomer(self) -> Walker:
        """A new client of one kind or the other."""
        client = self.random.choice(self.kinds)(self.name())
        if isinstance(client, VERSATILE):
            client.learn_psk(PSK_ID, PSK)
        return client

    def name(self) -> str:
        """A name that nobody had before."""
        self.born += 1
        return f"walker {self.born}"


def ts_mls_misjudges(tree: RatchetTree) -> bool:
    """Whether ts-mls will refuse to join this tree, which is sound.

    It wants the same unmerged leaves at all filled nodes above an unmerged leaf. But a path from elsewhere in the tree
    merges the leaf at the nodes it passes, and not below: RFC 9420, section 12.4.3.1 has only those compared that lie
    between the leaf and the node.
    """
    return any(
        above.unmerged_leaves != parent.unmerged_leaves
        for _, parent in tree.parents()
        for leaf in parent.unmerged_leaves
        for node in tree.direct_path(leaf)
        if (above := tree.parent(node)) is not None
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_a_random_walk_with_ts_mls(ts_mls: TsMls, seed: int) -> None:
    Walk(seed, Ours, ts_mls.member).run(120)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_random_walk_with_mls_rs(mls_rs: "type[MlsRs]", seed: int) -> None:
    Walk(seed, Ours, mls_rs).run(150)
