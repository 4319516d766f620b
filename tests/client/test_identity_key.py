"""The identity key in the vault: only its password opens it, it is what was put in, and it is gone afterwards."""

import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from securechat.client.vault.identity_key import IdentityKey
from securechat.client.wrapping import INTERACTIVE, MOST, OVERHEAD, Cost, WrongPasswordError
from securechat.errors import InternalError, StorageError

CHEAP = Cost(time=1, memory=8, lanes=1)
PRIVATE = bytes(range(32))


def password(text: str = "correct horse") -> bytearray:
    return bytearray(text.encode())


def wrapped(account: str = "alice") -> IdentityKey:
    return IdentityKey.of(account, bytearray(PRIVATE), password(), CHEAP)


def test_the_password_opens_the_key_and_what_it_signs_is_the_accounts() -> None:
    key = wrapped()
    assert PRIVATE not in key.wrapped
    assert len(key.wrapped) == 32 + OVERHEAD
    with key.opened(password()) as opened:
        assert opened.secret() == PRIVATE
        assert opened.public == key.public
        signature = opened.sign(b"data")
    Ed25519PublicKey.from_public_bytes(key.public).verify(signature, b"data")


def test_a_fresh_key_is_another_one_each_time_and_so_is_what_wraps_it() -> None:
    first, second = (IdentityKey.create("alice", password(), CHEAP) for _ in range(2))
    assert first.public != second.public
    assert wrapped().public == wrapped().public
    assert wrapped().wrapped != wrapped().wrapped


def test_the_key_is_overwritten_when_it_is_closed_and_when_it_was_wrapped() -> None:
    private = bytearray(PRIVATE)
    key = IdentityKey.of("alice", private, password(), CHEAP)
    assert private == bytes(32)
    with key.opened(password()) as opened:
        secret = opened.secret()
        assert secret == PRIVATE
    assert secret == bytes(32)
    for use in (lambda: opened.sign(b"data"), opened.secret):
        with pytest.raises(InternalError):
            use()


def test_an_error_inside_closes_it_too() -> None:
    kept = []

    def fail() -> None:
        with wrapped().opened(password()) as opened:
            kept.append(opened.secret())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert kept == [bytes(32)]


def test_printing_it_shows_the_public_half_alone() -> None:
    key = wrapped()
    with key.opened(password()) as opened:
        shown = f"{key!r} {opened!r}"
    assert key.public.hex() in shown
    assert PRIVATE.hex() not in shown
    assert repr(PRIVATE)[2:20] not in shown
    assert key.wrapped.hex() not in shown


@pytest.mark.parametrize(
    "other",
    [
        lambda key: replace(key, account="bob"),
        lambda key: replace(key, public=bytes(32)),
        lambda key: replace(key, wrapped=wrapped("bob").wrapped),
        lambda key: replace(key, wrapped=key.wrapped[:-1] + bytes([key.wrapped[-1] ^ 1])),
        lambda key: replace(key, wrapped=key.wrapped[:10] + bytes([key.wrapped[10] ^ 1]) + key.wrapped[11:]),
    ],
    ids=["account", "public half", "another's", "ciphertext", "salt"],
)
def test_whatever_else_is_altered_does_not_open(other: Callable[[IdentityKey], IdentityKey]) -> None:
    with pytest.raises(WrongPasswordError, match="The password does not open the identity key"), other(
        wrapped()
    ).opened(password()):
        pass


def test_another_password_does_not_open_it() -> None:
    with pytest.raises(WrongPasswordError), wrapped().opened(password("corect horse")):
        pass


@pytest.mark.parametrize("cost", [(0, 8, 1), (7, 8, 1), (1, 7, 1), (1, 1 << 19, 1), (1, 8, 0), (1, 1 << 18, 17)])
def test_a_cost_that_we_never_choose_is_refused_before_it_is_paid(cost: tuple[int, int, int]) -> None:
    key = wrapped()
    hostile = replace(key, wrapped=struct.pack(">IIB", *cost) + key.wrapped[9:])
    with pytest.raises(StorageError, match="more memory or time") as refused, hostile.opened(password()):
        pass
    assert not isinstance(refused.value, WrongPasswordError)


@pytest.mark.parametrize("length", [0, 1, 40, OVERHEAD - 1])
def test_one_that_is_cut_off_is_damaged(length: int) -> None:
    key = wrapped()
    with pytest.raises(StorageError, match="is damaged. It is cut off"), replace(
        key, wrapped=key.wrapped[:length]
    ).opened(password()):
        pass


def test_what_a_vault_may_cost_is_bounded_and_its_own_cost_is_within() -> None:
    """Eight times the work of ours, as for a recovery file: it is paid while nothing else goes on."""
    assert MOST.time * MOST.memory == 8 * INTERACTIVE.time * INTERACTIVE.memory
    assert INTERACTIVE.time <= MOST.time
    assert INTERACTIVE.memory <= MOST.memory
    assert INTERACTIVE.lanes <= MOST.lanes
