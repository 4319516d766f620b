"""What hostile input may cost: memory in proportion to its length, and no work before the cheap checks."""

import contextlib
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from securechat.errors import DecodeError, PeerError
from securechat.mls.commit import MAX_PATH_NODES, MAX_PROPOSALS, Commit, UpdatePath, UpdatePathNode
from securechat.mls.crypto import sealing, suite
from securechat.mls.errors import CannotDecrypt, InvalidMessage
from securechat.mls.extensions import Extension, ExtensionType
from securechat.mls.framing import read_header
from securechat.mls.group_info import GroupInfo
from securechat.mls.proposals import Remove
from securechat.mls.ratchet_tree import MAX_LEAVES, RatchetTree
from securechat.mls.secret_tree import MAX_FORWARD_JUMP, MAX_GENERATION
from securechat.mls.tree_math import LeafIndex
from securechat.mls.welcome import Welcome
from securechat.tlscodec import Reader, Writer
from tests.fuzz import registry, targets_mls
from tests.mls import forge
from tests.mls.support import NOW, anyone, group_of, stage, state

MEMORY_PER_BYTE = 80
"""Bytes of memory for one of input, at most. The worst element of a list is an entry of a Welcome: three bytes on the
wire, two objects of some hundred bytes here."""

MEMORY = 64 << 10
"""Bytes of memory for input of any length, at most: errors with their tracebacks, caches of labels."""

LONG = 32 << 10
"""Bytes: long enough for `MEMORY` not to hide what grows with the input."""

HUGE = bytes.fromhex("bfffffff")
"""The length header of 2^30 - 1 bytes."""

SEEDS = registry.seeds()

DECODERS: dict[str, Callable[[bytes], object]] = {
    **{f"decode_{name}": kind.decode for name, kind in targets_mls.structures().items()},
    "header": read_header,
}
"""By the name of their fuzz target."""


def good_inputs(name: str) -> list[bytes]:
    """Encodings of one kind of structure, and the kept inputs that once led the fuzzer somewhere."""
    return [*SEEDS[name], *registry.corpus(name)]


def attempt(use: Callable[[], object]) -> None:
    with contextlib.suppress(PeerError):
        use()


def peak(use: Callable[[], object]) -> int:
    """The most memory that is in use at once while this runs, beside what was before."""
    tracemalloc.start()
    try:
        attempt(use)
    finally:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return most


def within_bounds(decode: Callable[[bytes], object], data: bytes) -> None:
    assert peak(lambda: decode(data)) <= MEMORY + MEMORY_PER_BYTE * len(data), data[:200].hex()


def hostile(good: bytes) -> Iterator[bytes]:
    """The input with a huge length claimed at many a place, cut off, and repeated."""
    step = max(1, len(good) // 40)
    for position in range(0, len(good), step):
        yield good[:position] + HUGE + good[position + 4 :]
        yield good[:position] + HUGE + good[position + 1 :] * 2
        yield good[:position] + HUGE + bytes(1000)
        yield good[:position]
    yield good * (LONG // len(good) + 1)


@pytest.mark.parametrize("name", DECODERS)
def test_memory_grows_with_the_bytes_that_are_there_and_not_with_those_that_are_claimed(name: str) -> None:
    by_length = sorted(good_inputs(name), key=len)
    assert by_length
    for good in by_length:
        attempt(lambda: DECODERS[name](good))  # noqa: B023 - called at once; the first value of a class compiles it
        within_bounds(DECODERS[name], good)
    for good in by_length[-3:]:
        for data in hostile(good):
            within_bounds(DECODERS[name], data)


# ---- lists of many tiny elements

Read = Callable[[Reader], object]


def kinds_of_elements() -> dict[str, tuple[Read, list[bytes]]]:
    """What the lists of all structures hold: how an element is read, and elements that were met."""
    found: dict[str, tuple[Read, list[bytes]]] = {}
    items = Reader.items

    def watching(self: Reader, read: Read, *limit: int, **most: int) -> tuple[Any, ...]:
        _, met = found.setdefault(getattr(read, "__qualname__", repr(read)), (read, []))

        def remembering(inner: Reader) -> object:
            mark = inner.position
            element = read(inner)
            met.append(inner.since(mark))
            return element

        return items(self, remembering, *limit, **most)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "items", watching)
        for name, decode in DECODERS.items():
            for good in good_inputs(name):
                attempt(lambda: decode(good))  # noqa: B023 - called at once
    return found


def takes(read: Read, element: bytes) -> bool:
    """Whether this is one whole element."""
    reader = Reader(element)
    try:
        read(reader)
    except PeerError:
        return False
    return not reader.remaining


def test_a_list_of_the_smallest_elements_is_within_the_bound_too() -> None:
    kinds = kinds_of_elements()
    assert {"Extension.read", "EncryptedGroupSecrets.read", "UpdatePathNode.read", "Reader.u16"} <= kinds.keys()
    tags = [bytes(length) + bytes([tag]) for length in (0, 1) for tag in range(9)]
    for read, met in kinds.values():
        candidates = [*(tag + bytes(length) for tag in tags for length in range(12)), *met]
        smallest = min((each for each in candidates if takes(read, each)), key=len)
        full = bytes(Writer().vector(smallest * (LONG // len(smallest))))
        within_bounds(lambda data, read=read: Reader(data).items(read), full)  # type: ignore[misc]  # the default binds


# ---- no work for what is refused anyway


def work(monkeypatch: pytest.MonkeyPatch, use: Callable[[], object], reason: str, error: type[PeerError]) -> int:
    """How many hashes, MACs, derivations, decryptions and verifications a refusal took."""
    done: list[str] = []

    def counted(name: str, primitive: Callable[..., object]) -> Callable[..., object]:
        def counting(*arguments: object, **options: object) -> object:
            done.append(name)
            return primitive(*arguments, **options)

        return counting

    with monkeypatch.context() as patch:
        for name in ("extract", "expand_with_label", "derive_tree_secret", "mac", "verify_mac", "aead_open"):
            patch.setattr(sealing, name, counted(name, getattr(sealing, name)))
        for name in ("hash_of", "verify_with_label"):
            patch.setattr(suite.CipherSuite, name, counted(name, getattr(suite.CipherSuite, name)))
        with pytest.raises(error, match=reason):
            use()
    return len(done)


def test_a_jump_of_any_size_above_the_limit_is_refused_for_the_same_few_derivations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (person, alice), (_, bob) = group_of("alice", "bob")
    messages = [alice.encrypt(b"%d" % number) for number in range(MAX_FORWARD_JUMP + 2)]
    content, before = forge.application(alice, person), state(bob)

    def ahead(generation: int) -> int:
        data = bytes(Writer().u32(alice.own_leaf).u32(generation).opaque(bytes(4)))
        message = forge.sealed_private(alice, content, sender_data=lambda _: data)
        return work(monkeypatch, lambda: bob.decrypt(message), "too far ahead", CannotDecrypt)

    def opened(message: bytes) -> int:
        return work(monkeypatch, lambda: bob.decrypt(message), "too far ahead", CannotDecrypt)

    # Key, nonce and opening of the sender data; the two halves of the secret tree, and alice's two ratchets.
    assert opened(messages[-1]) == 3 + 2 + 2
    assert {ahead(jump) for jump in (MAX_FORWARD_JUMP + 1, 2 * MAX_FORWARD_JUMP, 2**31, MAX_GENERATION)} == {3 + 2 + 2}
    assert state(bob) == before
    assert bob.decrypt(messages[-2]).plaintext == b"%d" % MAX_FORWARD_JUMP
    assert bob.decrypt(messages[-1]).plaintext == b"%d" % (MAX_FORWARD_JUMP + 1)


@pytest.mark.parametrize("leaf", [2, 2**16, 2**31, 2**32 - 1])
def test_a_sender_outside_the_tree_is_refused_before_any_key_is_derived(
    monkeypatch: pytest.MonkeyPatch, leaf: int
) -> None:
    (person, alice), (_, bob) = group_of("alice", "bob")
    data = bytes(Writer().u32(leaf).u32(0).opaque(bytes(4)))
    message = forge.sealed_private(alice, forge.application(alice, person), sender_data=lambda _: data)
    use = lambda: bob.decrypt(message)  # noqa: E731 - used three times
    assert work(monkeypatch, use, "no member", InvalidMessage) == 3
    assert peak(use) <= MEMORY + MEMORY_PER_BYTE * len(message)


@pytest.mark.parametrize("changes", [{"epoch": 2**63 - 1}, {"epoch": 0}, {"group_id": bytes(1000)}])
def test_a_message_of_another_epoch_or_group_is_refused_without_work(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    (person, alice), (_, bob) = group_of("alice", "bob")
    application = forge.sealed_private(alice, forge.application(alice, person, **changes))
    proposal = forge.proposal(alice, person, Remove(LeafIndex(0)), **changes)
    commit = forge.forged_commit(alice, person, content=lambda content: replace(content, **changes)).message
    for use in (
        lambda: bob.decrypt(application),
        lambda: bob.receive_proposal(proposal),
        lambda: stage(bob, commit),
    ):
        assert work(monkeypatch, use, "a message is for", InvalidMessage) == 0


def test_a_huge_tree_is_refused_before_anything_in_it_is_hashed_or_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    (person, alice), _ = group_of("alice", "bob")
    leaf = b"\x01\x01" + alice.public.member(alice.own_leaf).encode()
    encoded = bytes(Writer().vector(bytes(2 * MAX_LEAVES) + leaf))
    with_tree = (Extension(ExtensionType.RATCHET_TREE, encoded),)
    unsigned = GroupInfo(alice.public.context, with_tree, bytes(32), alice.own_leaf)
    info = unsigned.signed(person.signature.sign_with_label)
    for use in (
        lambda: RatchetTree.decode(encoded),
        lambda: type(alice.public).from_group_info(info, None, validate=anyone, now=NOW),
    ):
        assert work(monkeypatch, use, "wider than", DecodeError) == 0
    within_bounds(RatchetTree.decode, encoded)
    within_bounds(RatchetTree.decode, bytes(Writer().vector(bytes(2 * MAX_LEAVES - 2) + leaf)))


def test_a_list_holds_no_more_elements_than_a_group_can_need() -> None:
    def cut_short(count: int) -> bytes:
        return bytes(Writer().vector(bytes(3 * count)))

    reference, nothing = b"\x02\x00", bytes(Writer().vector(b""))
    (_, alice), *_ = group_of("alice")
    leaf = alice.public.member(alice.own_leaf).encode()
    cases: list[tuple[Callable[[bytes], object], Callable[[int], bytes], int]] = [
        (UpdatePathNode.decode, lambda count: nothing + bytes(Writer().vector(bytes(2 * count))), MAX_LEAVES),
        (UpdatePath.decode, lambda count: leaf + bytes(Writer().vector(bytes(2 * count))), MAX_PATH_NODES),
        (Welcome.decode, lambda count: bytes(2) + cut_short(count) + nothing, MAX_LEAVES),
        (Commit.decode, lambda count: bytes(Writer().vector(reference * count)) + b"\0", MAX_PROPOSALS),
    ]
    for decode, of, most in cases:
        decode(of(most))
        with pytest.raises(DecodeError, match=f"more than {most} elements"):
            decode(of(most + 1))
