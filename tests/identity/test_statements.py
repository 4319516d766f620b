"""Chains of statements: the encoding byte by byte, and what breaks one."""

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from securechat.errors import DecodeError, PeerError
from securechat.identity.certificate import CLOCK_SKEW, DeviceCertificate, NotYetError, issue
from securechat.identity.statements import (
    CONTEST_SECONDS,
    CONTESTED_SECONDS,
    EMPTY,
    MAX_SUCCESSION_AGE,
    Action,
    Head,
    Link,
    Statement,
    check_chain,
    decode_link,
    digest,
    is_statement,
    state,
    verify,
)
from securechat.wire.limits import MAX_COUNT

IDENTITY, SUCCESSOR = (Ed25519PrivateKey.from_private_bytes(bytes(31) + bytes([n])) for n in (1, 2))
NEW_KEY = SUCCESSOR.public_key().public_bytes_raw()
SIGNATURE_KEY = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\3").public_key().public_bytes_raw()
SERVER, DEVICE, NOW = b"S" * 16, b"D" * 16, 5_000_000


def certified(head: Head = EMPTY, account: str = "alice", identity: Ed25519PrivateKey = IDENTITY) -> DeviceCertificate:
    return issue(
        identity, server_id=SERVER, account=account, device_id=DEVICE, signature_key=SIGNATURE_KEY,
        not_before=NOW, not_after=NOW + 9, seq=head.seq + 1, previous=head.digest,
    )  # fmt: skip


def stated(action: Action, head: Head = EMPTY, *, time: int = NOW) -> Statement:
    return state(
        IDENTITY, head, action, server_id=SERVER, account="alice", time=time,
        key=SIGNATURE_KEY if action == "revoke" else NEW_KEY,
        device_id=DEVICE if action == "revoke" else b"",
        successor=SUCCESSOR if action == "succeed" else None,
    )  # fmt: skip


ACTIONS: tuple[Action, ...] = ("revoke", "succeed", "contest", "restart")


@pytest.mark.parametrize(
    ("action", "kind", "length"), [("revoke", 2, 48), ("succeed", 3, 96), ("contest", 4, 32), ("restart", 5, 32)]
)
def test_a_statement_has_one_encoding(action: Action, kind: int, length: int) -> None:
    statement = stated(action)
    encoded = statement.encode()
    assert encoded[:3] == bytes([0, 2, kind])
    assert len(encoded) == 2 + 1 + 16 + 6 + 32 + 8 + 32 + 8 + length + 64
    assert decode_link(encoded) == statement
    verify(statement, now=NOW)
    assert digest(statement) == hashlib.sha256(encoded).digest()


@pytest.mark.parametrize("action", ACTIONS)
def test_every_bit_is_signed(action: Action) -> None:
    encoded = stated(action).encode()
    for place in range(3, len(encoded)):
        changed = bytearray(encoded)
        changed[place] ^= 1
        with pytest.raises((DecodeError, PeerError)):
            verify(Statement.decode(bytes(changed)), now=NOW)


def test_a_succession_needs_both_keys() -> None:
    verify(stated("succeed"), now=NOW)
    stranger = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\4")
    unsigned = replace(stated("succeed"), new_signature=b"")
    alone = replace(unsigned, new_signature=stranger.sign(unsigned.to_be_signed_by_successor()))
    with pytest.raises(PeerError):
        verify(replace(alone, signature=IDENTITY.sign(alone.to_be_signed())), now=NOW)


def test_nothing_is_stated_in_the_future() -> None:
    verify(stated("revoke", time=NOW + CLOCK_SKEW), now=NOW)
    with pytest.raises(PeerError, match="in the future"):
        verify(stated("revoke", time=NOW + CLOCK_SKEW + 1), now=NOW)


def test_a_key_is_not_its_own_successor() -> None:
    own = IDENTITY.public_key().public_bytes_raw()
    for action in ("contest", "restart"):
        statement = replace(stated(action), key=own)
        with pytest.raises(PeerError, match="names itself"):
            verify(replace(statement, signature=IDENTITY.sign(statement.to_be_signed())), now=NOW)


def test_a_chain_is_of_one_key_and_without_holes() -> None:
    first = certified()
    second = stated("revoke", Head.after(first))
    third = certified(Head.after(second))
    assert check_chain([first, second, third], now=NOW) == Head.after(third)
    assert check_chain([third], Head.after(second), now=NOW) == Head.after(third)
    stranger = certified(Head.after(second), identity=SUCCESSOR)
    other_account = certified(Head.after(second), account="bob")
    broken: list[tuple[list[Link], str]] = [
        ([first, third], "does not follow"),
        ([second, third], "does not follow"),
        ([first, stated("contest", Head(1, bytes([7] * 32)))], "does not follow"),
        ([first, second, stranger], "another account or identity key"),
        ([first, second, other_account], "another account or identity key"),
        ([replace(first, signature=bytes(64))], "signature"),
        ([stated("revoke", time=NOW + 2 * CLOCK_SKEW)], "in the future"),
    ]
    for links, why in broken:
        with pytest.raises(PeerError, match=why):
            check_chain(links, now=NOW)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_link_or_refused(data: bytes) -> None:
    try:
        link = decode_link(data)
    except DecodeError:
        return
    assert link.encode() == data


def test_only_what_begins_like_a_statement_is_taken_for_one() -> None:
    assert is_statement(stated("revoke").encode())
    assert not is_statement(b"\0\1" + stated("revoke").encode()[2:])  # MLS 1.0
    for cut_off in (b"", b"\0"):
        assert not is_statement(cut_off)
    encoded = stated("revoke").encode()
    for wrong in (b"\0\1", b"\0\3", b"\1\2"):
        with pytest.raises(DecodeError, match="not known"):
            Statement.decode(wrong + encoded[2:])
    with pytest.raises(DecodeError, match="not known"):
        Statement.decode(encoded[:2] + b"\6" + encoded[3:])


def test_certificates_in_a_chain_may_have_run_out_and_none_is_of_the_future() -> None:
    first = certified()
    assert check_chain([first], now=NOW + 9 + 10 * CLOCK_SKEW) == Head.after(first)
    with pytest.raises(NotYetError):
        check_chain([first], now=NOW - CLOCK_SKEW - 1)


def test_a_succession_can_be_contested_for_a_month_after_it_was_published_a_week_late() -> None:
    assert (CONTEST_SECONDS, MAX_SUCCESSION_AGE) == (30 * 24 * 3600, 7 * 24 * 3600)
    assert CONTESTED_SECONDS == 38 * 24 * 3600, "and a day by which clocks differ"


def test_an_account_that_is_not_utf_8_is_refused() -> None:
    for link in (stated("revoke"), certified()):
        damaged = link.encode().replace(b"alice", b"ali\xffe")
        with pytest.raises(DecodeError, match="not UTF-8"):
            decode_link(damaged)
    longest = replace(stated("revoke"), account="\N{CJK UNIFIED IDEOGRAPH-20000}" * 32)  # four bytes each
    assert decode_link(longest.encode()) == longest


def signed(statement: Statement, successor: Ed25519PrivateKey | None = SUCCESSOR) -> Statement:
    """The statement as it is now, signed by whoever has to."""
    if statement.action == "succeed" and successor is not None:
        statement = replace(statement, new_signature=successor.sign(statement.to_be_signed_by_successor()))
    return replace(statement, signature=IDENTITY.sign(statement.to_be_signed()))


@pytest.mark.parametrize(
    "change",
    [{"server_id": b"T" * 16}, {"account": "bob"}, {"seq": 2, "previous": bytes([1] * 32)}, {"time": NOW - 1}],
    ids=lambda change: next(iter(change)),
)
def test_a_successor_signs_for_one_place_and_nobody_takes_its_signature_elsewhere(change: dict[str, object]) -> None:
    """Whoever has the old key could else name a key that once agreed to follow somebody."""
    moved = replace(stated("succeed"), **change)  # type: ignore[arg-type]  # one field of the right type
    verify(signed(moved), now=NOW)
    with pytest.raises(PeerError, match="signature"):
        verify(signed(moved, None), now=NOW)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_statement_has_a_name_and_a_place_that_can_be(action: Action) -> None:
    for change, reason in (
        ({"account": "Alice"}, "not normalised"), ({"account": "a b"}, "not a user name"),
        ({"account": "x" * 33}, "not a user name"), ({"seq": 0}, "no place"), ({"seq": 2}, "no place"),
        ({"seq": MAX_COUNT + 1, "previous": bytes([1] * 32)}, "no place"),
    ):  # fmt: skip
        with pytest.raises(PeerError, match=reason):
            verify(signed(replace(stated(action), **change)), now=NOW)
    verify(signed(replace(stated(action), seq=MAX_COUNT, previous=bytes([1] * 32))), now=NOW)


def test_a_device_that_signs_with_the_identity_key_can_be_revoked() -> None:
    verify(signed(replace(stated("revoke"), key=IDENTITY.public_key().public_bytes_raw())), now=NOW)


def test_a_statement_about_a_weak_key_is_refused() -> None:
    for action in ACTIONS:
        if action != "succeed":  # which that key would have to sign
            with pytest.raises(PeerError, match="small order"):
                verify(signed(replace(stated(action), key=bytes(32))), now=NOW)
