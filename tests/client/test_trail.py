"""What lies behind our cursor: kept in memory, written once in a transaction, whole after a restart."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from securechat.client.conversations.trail import Trail
from securechat.client.password_source import PasswordSource
from securechat.client.vault.vault import Vault
from securechat.client.wrapping import Cost
from securechat.errors import StorageError

LOG, OTHER = b"l" * 32, b"o" * 32
BOB, CAROL = b"b" * 16, b"c" * 16


def link(seq: int) -> bytes:
    return seq.to_bytes(32, "big")


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    password = PasswordSource.typed("correct horse")
    vault = Vault.open(tmp_path / "alice.vault", "alice", password, cost=Cost(time=1, memory=8, lanes=1))
    yield vault
    vault.close()


def again(vault: Vault, log: bytes = LOG) -> Trail:
    """The trail as a restarted program finds it."""
    return Trail(vault.trails, log)


def follow(trail: Trail, first: int, last: int) -> None:
    for seq in range(first, last + 1):
        trail.add(link(seq))
        trail.note_number(BOB, seq)
    trail.save()


def test_what_is_saved_is_there_again_and_what_is_not_is_not(vault: Vault) -> None:
    trail = again(vault)
    trail.begin(7, link(7))
    follow(trail, 8, 20)
    follow(trail, 21, 21)
    trail.add(link(22))
    for each in (trail, again(vault)):
        assert [each.chain_at(seq) for seq in range(5, 22)] == [None, None, *map(link, range(7, 22))]
        assert (each.last_number(BOB), each.last_number(CAROL)) == (21, None)
    assert (trail.chain_at(22), again(vault).chain_at(22)) == (link(22), None)
    assert again(vault, OTHER).chain_at(7) is None


def test_a_transaction_adds_one_row_however_many_entries_it_brings(vault: Vault) -> None:
    trail = again(vault)
    trail.begin(0, link(0))
    trail.save()
    follow(trail, 1, 600)
    follow(again(vault), 601, 601)
    assert vault.all("SELECT first, length(links) FROM chain ORDER BY first") == [(0, 32), (1, 600 * 32), (601, 32)]
    assert again(vault).chain_at(600) == link(600)


def test_a_new_epoch_keeps_its_opening_commit_and_nothing_before(vault: Vault) -> None:
    trail = again(vault)
    trail.begin(1, link(1))
    follow(trail, 2, 5)
    trail.add(link(6))  # in the same transaction as the commit
    trail.open_epoch(7)
    follow(trail, 7, 9)
    for each in (trail, again(vault)):
        assert [each.chain_at(seq) for seq in (1, 5, 6, 7, 9)] == [None, None, None, link(7), link(9)]
        assert each.last_number(BOB) == 9
    follow(again(vault), 10, 10)
    assert again(vault).chain_at(10) == link(10)


def test_entering_again_forgets_all_that_was_before(vault: Vault) -> None:
    trail = again(vault)
    trail.begin(1, link(1))
    follow(trail, 2, 50)
    trail.begin(20, link(120))  # the log has begun again, with other entries
    trail.save()
    for each in (trail, again(vault)):
        assert [each.chain_at(seq) for seq in (19, 20, 21)] == [None, link(120), None]
        assert each.last_number(BOB) is None


def test_a_gap_in_the_vault_is_damage(vault: Vault) -> None:
    trail = again(vault)
    trail.begin(1, link(1))
    follow(trail, 2, 5)
    follow(trail, 6, 9)
    follow(trail, 10, 11)
    vault.run("DELETE FROM chain WHERE first = 6")
    with pytest.raises(StorageError, match="damaged"):
        again(vault).chain_at(9)
