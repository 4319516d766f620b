"""Cards beside vaults, without a server: which vault is at an address. Over TLS: `tests/ui/test_vaults.py`."""

import os
import sys
from pathlib import Path

import pytest

from securechat.client.addresses import MAX_CARD, Folder
from securechat.client.vault_files import CARD, MAX_ADDRESSES
from securechat.errors import UsageError

ID, OTHER = bytes(range(16)), bytes(16)


def vault(folder: Path, name: str) -> Path:
    path = folder / f"{name}.vault"
    path.touch()
    return path


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("alice@localhost-4433", "localhost:4433"),
        ("alice@LocalHost-4433", "localhost:4433"),
        ("alice@chat.example.-1", "chat.example:1"),
        ("alice@bücher.example-1", "xn--bcher-kva.example:1"),
        ("alice@%3A%3A1-7", "[::1]:7"),
        ("alice@2001%3ADB8%3A%3A1-7", "[2001:db8::1]:7"),
        ("alice@my-host-4433", "my-host:4433"),
    ],
)
def test_a_vault_from_before_is_found_by_any_spelling_of_its_address(tmp_path: Path, name: str, address: str) -> None:
    path = vault(tmp_path, name)
    folder = Folder(tmp_path, "alice")
    assert folder.at(address) == [path]
    assert Folder(tmp_path, "bob").at(address) == []
    with pytest.raises(UsageError, match="Start once with --server"):
        folder.of(ID)
    assert folder.beside(tmp_path / "another", ID) == [address]
    folder.note(path, ID, folder.addresses(path), None)
    known = Folder(tmp_path, "alice")
    assert (known.at(address), known.of(ID)) == ([path], path)
    assert known.of(OTHER) == tmp_path / f"alice@{OTHER.hex()}.vault"


@pytest.mark.parametrize("name", ["alice", "alice@", "alice@host", "alice@a..b-1", f"alice@{ID.hex()}", "carol@h-1"])
def test_a_file_of_another_name_is_no_vault_from_before(tmp_path: Path, name: str) -> None:
    vault(tmp_path, name)
    assert Folder(tmp_path, "alice").of(ID) == tmp_path / f"alice@{ID.hex()}.vault"


def test_accounts_and_servers_have_names_that_every_file_system_takes(tmp_path: Path) -> None:
    names = {Folder(tmp_path, account).of(ID).name for account in ("a/b", "a%2Fb", "東京")}
    assert names == {f"{account}@{ID.hex()}.vault" for account in ("a%2Fb", "a%252Fb", "東京")}


def test_a_card_keeps_the_newest_addresses(tmp_path: Path) -> None:
    path = vault(tmp_path, f"alice@{ID.hex()}")
    Folder(tmp_path, "alice").note(path, ID, [f"h{number}:1" for number in range(MAX_ADDRESSES + 3)], None)
    folder = Folder(tmp_path, "alice")
    found = [number for number in range(MAX_ADDRESSES + 3) if folder.at(f"h{number}:1")]
    assert found == list(range(3, MAX_ADDRESSES + 3))
    assert folder.beside(tmp_path / "another", ID) == [f"h{MAX_ADDRESSES + 2}:1"]
    folder.note(path, OTHER, ["h:1"], None)  # it turned out to be another server's
    assert Folder(tmp_path, "alice").at("h5:1") == []


def test_two_vaults_at_one_address_are_both_found(tmp_path: Path) -> None:
    first, second = (vault(tmp_path, f"alice@{each.hex()}") for each in (OTHER, ID))
    for path, server_id in ((first, OTHER), (second, ID)):
        Folder(tmp_path, "alice").note(path, server_id, ["h:1"], None)
    folder = Folder(tmp_path, "alice")
    assert folder.at("h:1") == [first, second]
    assert folder.bare() is None


def test_an_endless_card_counts_as_none(tmp_path: Path) -> None:
    path = vault(tmp_path, f"alice@{ID.hex()}")
    Folder(tmp_path, "alice").note(path, ID, ["h:1"], None)
    assert Folder(tmp_path, "alice").at("h:1") == [path]
    with path.with_name(path.name + CARD).open("ab") as card:
        card.truncate(MAX_CARD * 10)
    assert Folder(tmp_path, "alice").at("h:1") == []
    assert Folder(tmp_path, "alice").of(ID) == path


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes among its files")
def test_a_pipe_or_a_folder_in_a_cards_place_counts_as_none(tmp_path: Path) -> None:
    path = vault(tmp_path, f"alice@{ID.hex()}")
    card = path.with_name(path.name + CARD)
    os.mkfifo(card)
    assert Folder(tmp_path, "alice").bare() == path  # and does not wait for who writes into it
    Folder(tmp_path, "alice").note(path, ID, ["h:1"], None)
    assert Folder(tmp_path, "alice").at("h:1") == [path]  # a card has taken its place
    card.unlink()
    card.mkdir()
    folder = Folder(tmp_path, "alice")
    assert folder.bare() == path
    folder.note(path, ID, ["h:1"], None)
    assert card.is_dir()
