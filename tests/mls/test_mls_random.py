"""Long random histories, a large group, and bytes that nobody meant."""

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securechat.errors import DecodeError
from securechat.mls.framing import MLSMessage, PublicMessage, decode_body
from securechat.mls.group import Group
from securechat.mls.group_info import GroupInfo
from securechat.mls.proposals import Add, Remove
from securechat.mls.public_group import PublicGroup, verify_group_info
from securechat.mls.ratchet_tree import Census, RatchetTree
from securechat.tlscodec import Struct
from tests.mls.support import NOW, Person, anyone, commit, group_of, same_view, stage, state


class Room:
    """A group with a server that follows it, and a hand that picks what happens next."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        founder = Person.named("founder")
        group = founder.create()
        self.members: dict[bytes, tuple[Person, Group]] = {founder.name: (founder, group)}
        info = decode_body(group.group_info(with_tree=True), GroupInfo)
        self.server = PublicGroup.from_group_info(info, None, validate=anyone, now=NOW)
        self.names = iter(range(10_000))

    def someone(self) -> tuple[Person, Group]:
        return self.random.choice(list(self.members.values()))

    def accept(self, message: bytes, made_by: Person, group: Group | None) -> None:
        """Everyone else, and the server, process a commit; those it removes are gone."""
        seen = self.server.stage(decode_body(message, PublicMessage), validate=anyone, now=NOW)
        for name, (person, old) in list(self.members.items()):
            if person is made_by:
                continue
            staged = stage(old, message)
            assert staged.public == seen
            if staged.group is None:
                del self.members[name]
            else:
                self.members[name] = (person, staged.group)
        assert group is not None
        self.members[made_by.name] = (made_by, group)
        self.server = seen.after
        assert same_view(*(group for _, group in self.members.values()))
        decoded = RatchetTree.decode(self.server.tree.encode())  # knows nothing of the commits that led here
        assert counted(self.server.tree) == counted(decoded)
        assert self.server.tree.tree_hash(self.server.suite) == decoded.tree_hash(self.server.suite)

    def add(self) -> None:
        """Someone adds up to three people, with the tree in the Welcome or beside it."""
        person, group = self.someone()
        new = [Person.named(f"member {next(self.names)}") for _ in range(self.random.randint(1, 3))]
        bundles = [newcomer.key_package() for newcomer in new]
        inside = self.random.random() < 0.5
        staged = commit(group, *(Add(bundle.key_package) for bundle in bundles), tree_in_welcome=inside)
        assert staged.welcome is not None
        tree = None if inside else RatchetTree.decode(staged.public.after.tree.encode())
        joined = [
            newcomer.join(staged.welcome, bundle, tree) for newcomer, bundle in zip(new, bundles, strict=True)
        ]
        self.accept(staged.message, person, staged.group)
        self.members.update(
            {newcomer.name: (newcomer, joiner) for newcomer, joiner in zip(new, joined, strict=True)}
        )

    def remove(self) -> None:
        """Someone removes up to two others."""
        person, group = self.someone()
        others = [other for _, other in self.members.values() if other is not group]
        chosen = self.random.sample(others, min(len(others), self.random.randint(1, 2)))
        staged = commit(group, *(Remove(other.own_leaf) for other in chosen))
        self.accept(staged.message, person, staged.group)

    def propose(self) -> None:
        """Some renew their key and one leaves, by proposals; another commits them."""
        person, group = self.someone()
        others = [name for name in self.members if name != person.name]
        for number, name in enumerate(self.random.sample(others, min(len(others), 3))):
            proposer = self.members[name][1]
            leaves = number == 0 and self.random.random() < 0.5
            message = proposer.propose(Remove(proposer.own_leaf)) if leaves else proposer.propose_update()
            for _, other in self.members.values():
                if other is not proposer:
                    other.receive_proposal(message)
            body = decode_body(message, PublicMessage)
            self.server = self.server.with_proposal(self.server.verify_proposal(body))
        staged = commit(group)
        self.accept(staged.message, person, staged.group)

    def join(self) -> None:
        """Someone joins by external commit, or comes back to its old place."""
        _, helper = self.someone()
        info = helper.group_info(with_tree=False)
        verify_group_info(self.server, decode_body(info, GroupInfo))
        tree = RatchetTree.decode(self.server.tree.encode())
        if self.random.random() < 0.5 and len(self.members) > 1:
            person, old = self.someone()
            staged = person.join_external(info, tree, old=old.own_leaf)
        else:
            person = Person.named(f"member {next(self.names)}")
            staged = person.join_external(info, tree)
        self.accept(staged.message, person, staged.group)

    def talk(self) -> None:
        """Someone speaks, and all read it; then everybody's client restarts."""
        person, group = self.someone()
        message = group.encrypt(b"hello from " + person.name)
        for name, (other, view) in list(self.members.items()):
            if other is not person:
                assert view.decrypt(message).plaintext == b"hello from " + person.name
            self.members[name] = (other, Group.load(*state(view), other.signature))


def counted(tree: RatchetTree) -> list[object]:
    return [getattr(tree.census, name) for name in Census.__slots__]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_members_and_server_agree_through_a_random_history(seed: int) -> None:
    room = Room(seed)
    steps = [room.add, room.remove, room.propose, room.join, room.talk]
    room.add()
    for _ in range(40):
        room.random.choices(steps, weights=[3, 2, 3, 3, 2])[0]()
        assert {leaf.credential.identity for _, leaf in room.server.members()} == set(room.members)


def test_a_large_group_works() -> None:
    founder = Person.named("founder")
    people = [Person.named(f"member {number}") for number in range(300)]
    bundles = [person.key_package() for person in people]
    staged = commit(founder.create(), *(Add(bundle.key_package) for bundle in bundles))
    assert staged.welcome is not None
    assert staged.group is not None
    first = people[0].join(staged.welcome, bundles[0])
    last = people[-1].join(staged.welcome, bundles[-1])
    assert last.public.tree.leaf_count == 512
    assert same_view(staged.group, first, last)
    next_one = commit(last, Remove(first.own_leaf))
    assert stage(first, next_one.message).removed_us
    founder_group = stage(staged.group, next_one.message).group
    assert founder_group is not None
    assert next_one.group is not None
    assert next_one.group.decrypt(founder_group.encrypt(b"hello")).plaintext == b"hello"


def samples() -> list[tuple[type[Struct], bytes]]:
    """One valid encoding of each kind of message."""
    (_, alice), (_, bob) = group_of("alice", "bob")
    bundle = Person.named("carol").key_package()
    staged = commit(alice, Add(bundle.key_package), authenticated_data=b"data")
    assert staged.welcome is not None
    messages = [
        staged.message,
        staged.welcome,
        alice.group_info(with_tree=True),
        bob.encrypt(b"hello"),
        bob.propose(Remove(alice.own_leaf)),
        MLSMessage(bundle.key_package).encode(),
    ]
    kinds: list[tuple[type[Struct], bytes]] = [(MLSMessage, message) for message in messages]
    return [*kinds, (RatchetTree, alice.public.tree.encode()), (PublicGroup, alice.public_bytes())]


SAMPLES = samples()


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(SAMPLES), st.data())
def test_whatever_decodes_encodes_again_to_the_same_bytes(
    sample: tuple[type[Struct], bytes], data: st.DataObject
) -> None:
    kind, encoded = sample
    position = data.draw(st.integers(0, len(encoded) - 1))
    replaced = data.draw(st.integers(0, 8))
    wrong = encoded[:position] + data.draw(st.binary(max_size=8)) + encoded[position + replaced :]
    try:
        value = kind.decode(wrong)
    except DecodeError:
        return
    assert value.encode() == wrong


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SAMPLES), st.binary(max_size=200))
def test_random_bytes_end_in_a_decode_error_or_a_value(
    sample: tuple[type[Struct], bytes], data: bytes
) -> None:
    kind, encoded = sample
    for wrong in (data, encoded[:4] + data):
        with contextlib.suppress(DecodeError):
            kind.decode(wrong)
