"""What was seen of a chain: which certificate is out of date by it, and when it proves that two programs sign."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from securechat.identity.certificate import DeviceCertificate, issue
from securechat.identity.chains import SeenChain
from securechat.identity.statements import EMPTY, Head, Link, Statement, state

IDENTITY = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\1")
KEYS = [bytes([n]) * 32 for n in range(1, 9)]
LAPTOP, PHONE = b"L" * 16, b"P" * 16
SERVER, NOW = b"S" * 16, 5_000_000


def certified(head: Head, device: bytes = LAPTOP, key: bytes = KEYS[0]) -> DeviceCertificate:
    return issue(
        IDENTITY, server_id=SERVER, account="alice", device_id=device, signature_key=key,
        not_before=NOW, not_after=NOW + 9, seq=head.seq + 1, previous=head.digest,
    )  # fmt: skip


def revoked(head: Head, device: bytes = LAPTOP, key: bytes = KEYS[0]) -> Statement:
    return state(IDENTITY, head, "revoke", server_id=SERVER, account="alice", time=NOW, key=key, device_id=device)


def chain(makes: str, start: Head = EMPTY, first_key: int = 0) -> list[Link]:
    """Make a chain: `c` certifies the laptop, `p` the phone, `r` revokes the laptop."""
    links: list[Link] = []
    head = start
    for n, make in enumerate(makes):
        key = KEYS[(n + first_key) % len(KEYS)]
        link = revoked(head) if make == "r" else certified(head, PHONE if make == "p" else LAPTOP, key)
        links.append(link)
        head = Head.after(link)
    return links


def seen(*links: Link) -> SeenChain:
    known = SeenChain.begin(links[0])
    for link in links[1:]:
        known = known.see(link)
    return known


def ages(known: SeenChain, links: list[Link]) -> list[str]:
    return [known.age(each) if isinstance(each, DeviceCertificate) else "" for each in links]


@pytest.mark.parametrize(
    ("makes", "expected"),
    [
        ("c", ["current"]),
        ("cc", ["older", "current"]),
        ("cr", ["revoked", ""]),
        ("crc", ["revoked", "", "current"]),  # the same device again, with a later certificate
        ("cpr", ["revoked", "current", ""]),  # another device is not concerned
        ("ccr", ["revoked", "revoked", ""]),
    ],
)
def test_what_is_out_of_date_by_a_chain(makes: str, expected: list[str]) -> None:
    links = chain(makes)
    for order in (links, links[::-1]):
        assert ages(seen(*order), links) == expected


def test_a_certificate_that_was_not_seen_before_its_device_was_revoked_is_revoked() -> None:
    first, second, revocation = chain("ccr")
    assert ages(seen(first, revocation), [second]) == ["revoked"]


def test_the_same_link_again_is_nothing_new() -> None:
    links = chain("cr")
    known = seen(*links)
    assert all(known.see(each) is known for each in links)
    assert known.see(replace(links[0])) is known


@given(st.text(alphabet="cpr", min_size=1, max_size=6), st.randoms(use_true_random=False), st.integers(1, 6))
def test_one_holder_is_never_taken_for_two(makes: str, random: object, count: int) -> None:
    links = chain(makes)
    order = random.sample(links * 2, min(count, len(links)))  # type: ignore[attr-defined]  # hypothesis's Random
    known = seen(*order)
    assert not known.two_holders
    assert known.newest.seq == max(each.seq for each in order)


def test_two_links_of_one_place_prove_two_holders() -> None:
    (first,) = chain("c")
    other = chain("c", first_key=1)[0]
    for order in ((first, other), (other, first)):
        known = seen(*order)
        assert known.two_holders
        assert known.certificate == order[0]  # of two that contradict each other, the first stays


def test_a_link_that_follows_another_one_than_was_seen_proves_it_too() -> None:
    first, theirs = chain("cc")
    ours = certified(Head.after(first), key=KEYS[5])
    ours_next = certified(Head.after(ours), key=KEYS[6])
    for order in ((theirs, ours_next), (ours_next, theirs)):
        assert seen(*order).two_holders
    assert not seen(ours, ours_next).two_holders
    assert not seen(first, ours_next).two_holders  # what stands between was not seen


def test_the_first_succession_stays() -> None:
    (first,) = chain("c")
    successor = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\2")
    head = Head.after(first)
    links = []
    for _ in range(2):
        link = state(
            IDENTITY, head, "succeed", server_id=SERVER, account="alice", time=NOW,
            key=successor.public_key().public_bytes_raw(), successor=successor,
        )  # fmt: skip
        links.append(link)
        head = Head.after(link)
    known = seen(first, *links)
    assert known.succession == links[0]
    assert known.see(links[0]) is known
    assert not known.two_holders


def test_who_was_found_out_stays_so() -> None:
    first, other = chain("c")[0], chain("c", first_key=1)[0]
    later = certified(Head.after(first), key=KEYS[3])
    assert seen(first, other, later).two_holders


def test_a_whole_chain_is_seen_link_by_link() -> None:
    for makes in ("c", "cp", "cr", "ccr", "crcp"):
        links = chain(makes)
        assert SeenChain.of(links) == seen(*links)
    other = chain("c", first_key=1)[0]
    assert SeenChain.of([*chain("cc"), other]).two_holders


def test_what_the_device_signs_at_the_place_of_its_revocation_is_not_revoked_by_it() -> None:
    first, revocation = chain("cr")
    beside = certified(Head.after(first), key=KEYS[4])  # which contradicts it, and that is told
    assert ages(seen(first, revocation), [beside]) == ["current"]


def test_of_two_revocations_the_later_counts_and_of_two_of_one_place_the_first() -> None:
    first, early, again, late = chain("crcr")
    for order in ((early, late), (late, early)):
        assert seen(first, *order).revocation == late
        assert ages(seen(first, *order), [again]) == ["revoked"]
    beside = revoked(Head.after(first), PHONE)
    for one, other in ((early, beside), (beside, early)):
        known = seen(first, one, other)
        assert (known.revocation, known.newest, known.two_holders) == (one, one, True)


def test_by_a_revocation_alone_no_other_device_is_older() -> None:
    first, phone, revocation = chain("cpr")
    assert ages(SeenChain.begin(revocation), [first, phone]) == ["revoked", "current"]


def test_a_contested_succession_is_none() -> None:
    (first,) = chain("c")
    contest = state(IDENTITY, Head.after(first), "contest", server_id=SERVER, account="alice", time=NOW, key=KEYS[0])
    assert seen(first, contest).succession is None
