"""The keys of a call, from groups that real members export them from."""

import pytest

from securechat.errors import PeerError, UsageError
from securechat.mls.group import Group
from securechat.mls.proposals import Remove
from securechat.sframe.epochs import EXPORTER_LABEL, KEPT_SECONDS, MAX_STREAMS, CallKeys
from securechat.sframe.header import Header
from securechat.sframe.keys import Suite
from tests.mls.support import commit, group_of, stage

SUITE = Suite.AES_128_GCM_SHA256_128
SOUND, CAMERA = 0, 1


def groups_of(*names: str) -> list[Group]:
    return [group for _, group in group_of(*names)]


def join(keys: CallKeys, group: Group, *, call: bytes = b"call", now: float = 0.0) -> None:
    base_key = group.export(EXPORTER_LABEL, call, SUITE.key_length)
    leaves = group.public.tree.leaf_count
    keys.begin(group.epoch, base_key, leaf=group.own_leaf, leaves=leaves, now=now)


def in_call(group: Group, *, call: bytes = b"call") -> CallKeys:
    keys = CallKeys(SUITE)
    join(keys, group, call=call)
    return keys


def test_each_of_a_group_reads_each_other_and_knows_who_it_is() -> None:
    groups = groups_of("alice", "bob", "carol")
    calls = [in_call(group) for group in groups]
    for sender, group in zip(calls, groups, strict=True):
        for stream in range(MAX_STREAMS):
            for number in range(3):
                frame = sender.encrypt(stream, b"said", b"beside")
                for receiver in calls:
                    if receiver is sender:
                        with pytest.raises(PeerError, match="of our own"):
                            receiver.decrypt(frame, b"beside", now=1)
                        continue
                    with pytest.raises(PeerError, match="does not decrypt"):
                        receiver.decrypt(frame, b"altered", now=1)
                    assert receiver.decrypt(frame, b"beside", now=1) == (group.own_leaf, stream, b"said"), number
                    with pytest.raises(PeerError, match="come before"):
                        receiver.decrypt(frame, b"beside", now=1)


def test_numbers_of_keys_are_those_of_the_standard() -> None:
    for epoch, leaf, stream, kid in (
        (14, 3, 0, 0x3E), (14, 7, 0, 0x7E), (14, 20, 0, 0x14E), (15, 3, 0, 0x3F), (15, 5, 0, 0x5F),
        (16, 2, 2, 0x820), (16, 2, 3, 0xC20), (17, 33, 0, 0x211), (17, 51, 0, 0x331),
    ):  # fmt: skip
        keys = CallKeys(SUITE)
        keys.begin(epoch, bytes(16), leaf=leaf, leaves=64, now=0)
        assert Header.decode(keys.encrypt(stream, b""))[0] == Header(kid, 0)  # the example of figure 5


def test_a_removed_member_reads_nothing_of_the_next_epoch_and_the_last_one_ends_after_ten_seconds() -> None:
    alice, bob, carol = groups_of("alice", "bob", "carol")
    calls = {"alice": in_call(alice), "bob": in_call(bob), "carol": in_call(carol)}
    under_way = [calls["alice"].encrypt(SOUND, b"before") for _ in range(2)]
    of_carol = calls["carol"].encrypt(SOUND, b"while she was here")

    staged = commit(alice, Remove(carol.own_leaf))
    bob_next = stage(bob, staged.message).group
    assert staged.group is not None
    assert bob_next is not None
    join(calls["alice"], staged.group, now=100.0)
    join(calls["bob"], bob_next, now=100.0)

    after = calls["alice"].encrypt(SOUND, b"after")
    assert calls["bob"].decrypt(after, now=100.0)[2] == b"after"
    with pytest.raises(PeerError, match="another epoch"):
        calls["carol"].decrypt(after, now=100.0)
    assert calls["bob"].decrypt(under_way[0], now=100.0 + KEPT_SECONDS - 0.001)[2] == b"before"
    assert calls["bob"].decrypt(of_carol, now=100.0 + KEPT_SECONDS - 0.001)[2] == b"while she was here"
    with pytest.raises(PeerError, match="another epoch"):
        calls["bob"].decrypt(under_way[1], now=100.0 + KEPT_SECONDS)
    assert calls["bob"].decrypt(calls["alice"].encrypt(SOUND, b"on"), now=1_000.0)[2] == b"on"


def test_two_calls_of_one_epoch_have_different_keys() -> None:
    alice, bob = groups_of("alice", "bob")
    first, second = in_call(alice, call=b"first"), in_call(alice, call=b"second")
    frames = [keys.encrypt(SOUND, b"the same") for keys in (first, second)]
    assert frames[0][:1] == frames[1][:1]  # the same key number and counter
    assert frames[0] != frames[1]
    receiver = in_call(bob, call=b"second")
    with pytest.raises(PeerError, match="does not decrypt"):
        receiver.decrypt(frames[0], now=0)
    assert receiver.decrypt(frames[1], now=0)[2] == b"the same"


@pytest.mark.parametrize("epoch", [4, 5])
def test_no_epoch_comes_twice(epoch: int) -> None:
    keys = CallKeys(SUITE)
    keys.begin(5, bytes(16), leaf=0, leaves=2, now=0)
    with pytest.raises(UsageError, match="later epoch"):
        keys.begin(epoch, bytes(16), leaf=0, leaves=2, now=1)
    assert Header.decode(keys.encrypt(SOUND, b""))[0].ctr == 0
    assert Header.decode(keys.encrypt(SOUND, b""))[0].ctr == 1


def test_an_epoch_that_cannot_be_told_from_the_new_one_goes_at_once() -> None:
    alice, bob = CallKeys(SUITE), CallKeys(SUITE)
    for leaf, keys in enumerate((alice, bob)):
        keys.begin(3, b"a" * 16, leaf=leaf, leaves=2, now=0)
    old = alice.encrypt(SOUND, b"old")
    for leaf, keys in enumerate((alice, bob)):
        keys.begin(3 + 16, b"b" * 16, leaf=leaf, leaves=2, now=1)
    with pytest.raises(PeerError, match="does not decrypt"):
        bob.decrypt(old, now=1)
    assert bob.decrypt(alice.encrypt(CAMERA, b"new"), now=1) == (0, CAMERA, b"new")


@pytest.mark.parametrize(("leaf", "stream"), [(5, 0), (7, 0), (1, MAX_STREAMS), (1, 2**50)])
def test_a_key_that_nobody_has_makes_none(leaf: int, stream: int) -> None:
    keys = CallKeys(SUITE)
    keys.begin(1, bytes(16), leaf=0, leaves=5, now=0)
    kid = (stream << 3 | leaf) << 4 | 1
    with pytest.raises(PeerError, match="nobody has"):
        keys.decrypt(Header(kid, 0).encode() + bytes(20), now=0)


def test_before_the_first_epoch_nothing_is_read() -> None:
    with pytest.raises(PeerError, match="another epoch"):
        CallKeys(SUITE).decrypt(Header(1, 0).encode() + bytes(20), now=0)
