"""Signature keys are kept, found by their public halves, and never shown; each group signs with its own leaf's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from securechat.client.keyring import Keyring
from securechat.client.password_source import PasswordSource
from securechat.client.vault.vault import Vault
from securechat.errors import UsageError
from securechat.mls.group import Group
from tests.mls.support import commit, group_of, stage, state
from tests.support.people import CHEAP


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    vault = Vault.open(tmp_path / "alice.vault", "alice", PasswordSource.typed("correct horse"), cost=CHEAP)
    yield vault
    vault.close()


def test_a_key_is_found_by_its_public_half_also_after_a_restart(vault: Vault) -> None:
    keys = Keyring(vault.signature_keys)
    with vault.transaction():
        made = {keys.make() for _ in range(3)}
    again = Keyring(vault.signature_keys)
    assert set(again) == set(keys) == made
    for public in made:
        assert again[public].public_key == public
        assert again[public].sign_with_label(b"a", b"b") == keys[public].sign_with_label(b"a", b"b")
    with pytest.raises(KeyError):
        again[bytes(32)]
    private = vault.signature_keys.find(min(made))
    assert private is not None
    assert private.hex() not in repr(keys)


def test_a_key_that_no_transaction_has_kept_is_gone(vault: Vault) -> None:
    keys = Keyring(vault.signature_keys)

    def make_and_die() -> None:
        with vault.transaction():
            keys.make()
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        make_and_die()
    assert len(keys) == 0


def test_a_group_and_a_staged_commit_are_loaded_with_the_key_that_their_own_leaf_names(vault: Vault) -> None:
    keys = Keyring(vault.signature_keys)
    with vault.transaction():
        old, new = keys.make(), keys.make()
    (_, alice), (_, bob) = group_of("alice", "bob")
    for public in (old, new):  # into the first key, and from it into the second: signed by the one before each time
        staged = commit(alice, signature_private=keys[public])
        assert staged.group is not None
        follower = stage(bob, staged.message).group
        assert follower is not None
        alice, bob = Group.load(*state(staged.group), keys), follower
        assert alice.public.member(alice.own_leaf).signature_key == public
        assert bob.decrypt(alice.encrypt(b"signed by the new one")).plaintext == b"signed by the new one"
    with pytest.raises(UsageError, match="not among ours"):
        Group.load(*state(bob), keys)
