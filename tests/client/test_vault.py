"""The vault: what is on the disk, who can open it, and what a crash leaves."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlcipher3 import dbapi2 as sqlite

from securechat.client.message import Message
from securechat.client.password_source import PasswordSource
from securechat.client.vault import key_file
from securechat.client.vault.conversations import KEPT_REFUSED, ConversationRow
from securechat.client.vault.database import _connect
from securechat.client.vault.identity import DeviceRow
from securechat.client.vault.identity_key import IdentityKey
from securechat.client.vault.outbox import OutboxRow
from securechat.client.vault.vault import Vault
from securechat.client.vault_files import FIRST_KEY, KEY, beside
from securechat.client.wrapping import Cost, WrongPasswordError
from securechat.content.registry import Text, encode_body
from securechat.errors import StorageError
from securechat.identity.pins import Pin

CHEAP = Cost(time=1, memory=8, lanes=1)
CONVERSATION = b"c" * 32
CANARY = "canary-9f3a7d"


PASSWORD = "correct horse"


def open_vault(path: Path, password: str = PASSWORD, account: str = "alice") -> Vault:
    return Vault.open(path, account, PasswordSource.typed(password), cost=CHEAP)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alice.vault"


def device(account: str = "alice") -> DeviceRow:
    return DeviceRow(IdentityKey(account, b"p" * 32, b"i" * 85), b"d" * 16, b"s" * 32)


def row(**changes: object) -> ConversationRow:
    return ConversationRow(CONVERSATION, "direct", "bob", "member", 1, **changes)  # type: ignore[arg-type]  # test data


def add(vault: Vault, seq: int, sender: str, text: str, conversation: bytes = CONVERSATION) -> Message:
    own = sender == "alice"
    content = encode_body(Text(text))
    return vault.history.add(conversation, sender, content, own=own, trust="accepted", seq=seq, time=seq and 1000)


def test_what_was_committed_is_there_after_opening_again(path: Path) -> None:
    vault = open_vault(path)
    with vault.transaction():
        vault.device.save(device())
        vault.pins.save("bob", {b"k" * 32: "verified", b"l" * 32: "refused"})
        vault.conversations.save(row(cursor=7, own_bye=True))
        add(vault, 7, "bob", "hello")
    vault.close()
    vault = open_vault(path)
    assert vault.device.load() == device()
    assert vault.pins.load() == [Pin("bob", b"k" * 32, "verified"), Pin("bob", b"l" * 32, "refused")]
    assert vault.conversations.load() == [row(cursor=7, own_bye=True)]
    assert [message.text for message in vault.history.newest(CONVERSATION, 10)] == ["hello"]
    vault.close()


def test_a_failed_transaction_leaves_nothing(path: Path) -> None:
    vault = open_vault(path)

    def fail_halfway() -> None:
        with vault.transaction():
            vault.conversations.save(row())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_halfway()
    assert vault.conversations.load() == []
    vault.close()


def test_a_transaction_begins_with_its_first_change(path: Path) -> None:
    """So one that changes nothing costs nothing, and no other program is kept from the file."""
    vault = open_vault(path)
    key, _ = key_file.unlock(beside(path, KEY), bytearray(PASSWORD.encode()))
    with closing(_connect(str(path), key)) as other:
        other.execute("PRAGMA busy_timeout = 0")
        with vault.transaction():
            vault.transfers.ids()
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
            vault.pins.save("bob", {b"k" * 32: "verified"})
            with pytest.raises(sqlite.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    vault.close()


def test_what_is_deferred_alone_is_kept(path: Path) -> None:
    vault = open_vault(path)
    with vault.transaction():
        vault.defer("INSERT INTO leftovers (temporary, folder) VALUES (?, ?)", "part", "folder")
    vault.close()
    vault = open_vault(path)
    assert vault.transfers.leftovers() == [("folder", "part")]
    vault.close()


def test_a_process_that_dies_in_a_transaction_leaves_what_was_before(path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from securechat.client.vault.conversations import KEPT_REFUSED, ConversationRow
from securechat.client.password_source import PasswordSource
from securechat.client.vault.vault import Vault
from securechat.client.wrapping import Cost
vault = Vault.open(Path(sys.argv[1]), "alice", PasswordSource.typed("correct horse"), cost=Cost(1, 8, 1))
with vault.transaction():
    vault.conversations.save(ConversationRow(b"c" * 32, "direct", "bob", "member", 1, cursor=1))
with vault.transaction():
    vault.conversations.save(ConversationRow(b"c" * 32, "direct", "bob", "member", 1, cursor=2))
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 9
    vault = open_vault(path)
    assert [conversation.cursor for conversation in vault.conversations.load()] == [1]
    vault.close()


def test_the_wrong_password_is_refused_and_the_right_one_still_opens(path: Path) -> None:
    open_vault(path).close()
    with pytest.raises(WrongPasswordError, match="password does not open"):
        open_vault(path, "wrong horse")
    open_vault(path).close()


def test_a_second_process_is_told_that_the_vault_is_open(path: Path) -> None:
    vault = open_vault(path)
    with pytest.raises(StorageError, match="open in another program"):
        open_vault(path)
    vault.close()
    open_vault(path).close()


@pytest.mark.parametrize("position", [0, 5, 20, 45, 70, 100])
def test_a_damaged_key_file_is_named_as_such(path: Path, position: int) -> None:
    open_vault(path).close()
    key_path = path.with_name("alice.vault.key")
    content = bytearray(key_path.read_bytes())
    content[position] ^= 1
    key_path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged"):
        open_vault(path)
    assert key_path.read_bytes() == content  # left for anybody who wants to rescue it


def test_a_missing_key_file_is_not_replaced(path: Path) -> None:
    open_vault(path).close()
    path.with_name("alice.vault.key").unlink()
    with pytest.raises(StorageError, match="missing"):
        open_vault(path)
    assert not path.with_name("alice.vault.key").exists()


@pytest.mark.parametrize("point", ["key", "database", "discard"])
def test_a_first_start_that_was_cut_off_goes_on(path: Path, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From what a kill leaves between the key and the whole database, or while an unused vault is deleted."""
    first = beside(path, FIRST_KEY)
    if point == "key":
        key_file.create(first, bytearray(PASSWORD.encode()), cost=CHEAP)
    elif point == "database":
        open_vault(path).close()
        beside(path, KEY).rename(first)
    else:
        vault = open_vault(path)
        vault.discard_at_close = True
        with monkeypatch.context() as cut:
            cut.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                vault.close()
        assert beside(path, KEY).exists() or first.exists()
    open_vault(path).close()
    assert beside(path, KEY).exists()
    assert not first.exists()


@pytest.mark.parametrize("emptied", [True, False])
def test_a_database_that_is_gone_is_not_made_anew(path: Path, *, emptied: bool) -> None:
    open_vault(path).close()
    path.unlink()
    if emptied:
        path.touch()
    with pytest.raises(StorageError, match="backup"):
        open_vault(path)
    assert path.exists() is emptied


def test_a_damaged_database_is_named_as_such(path: Path) -> None:
    open_vault(path).close()
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged"):
        open_vault(path)


def test_the_vault_of_somebody_else_is_refused(path: Path) -> None:
    vault = open_vault(path)
    with vault.transaction():
        vault.device.save(device("alice"))
    vault.close()
    with pytest.raises(StorageError, match="belongs to alice"):
        open_vault(path, account="mallory")


def test_no_plain_text_and_no_name_reaches_the_disk(path: Path) -> None:
    vault = open_vault(path)
    with vault.transaction():
        vault.device.save(device())
        vault.conversations.save(row())
        add(vault, 1, "bob", CANARY)
        vault.outbox.add(CONVERSATION, "message", CANARY.encode(), 0)
    while_open = [file.read_bytes() for file in path.parent.iterdir()]
    vault.close()
    for content in while_open + [file.read_bytes() for file in path.parent.iterdir()]:
        for secret in (CANARY.encode(), b"i" * 32, b"s" * 32, b"SQLite format"):
            assert secret not in content


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes; the profile folder is private there")
def test_only_the_owner_can_read_the_files(path: Path) -> None:
    vault = open_vault(path)
    with vault.transaction():
        vault.device.save(device())
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    vault.close()


def test_a_vault_nobody_logged_in_with_can_be_discarded(path: Path) -> None:
    vault = open_vault(path, "a typing error")
    vault.discard_at_close = True
    vault.close()
    open_vault(path).close()


def test_history_is_in_the_logs_order_and_what_waits_comes_last(path: Path) -> None:
    vault = open_vault(path)
    with vault.transaction():
        own = add(vault, 0, "alice", "own")
        add(vault, 4, "bob", "theirs")
        assert [message.text for message in vault.history.newest(CONVERSATION, 10)] == ["theirs", "own"]
        vault.history.accept(own.local_id, 3, 1, 1)
        assert [message.text for message in vault.history.newest(CONVERSATION, 10)] == ["own", "theirs"]
        assert [message.text for message in vault.history.newest(CONVERSATION, 1)] == ["theirs"]
    vault.close()


def test_printing_a_row_shows_no_secret() -> None:
    shown = repr(device()) + repr(OutboxRow(1, "message", CANARY.encode(), 0, 0, 0, CANARY.encode(), 0, 0))
    assert CANARY not in shown
    assert "iiii" not in shown


def test_what_was_shown_stays_shown_and_own_lines_are_never_unread(path: Path) -> None:
    vault = open_vault(path)
    with vault.transaction():
        lines = [add(vault, seq, sender, str(seq)) for seq, sender in enumerate(("bob", "alice", "bob", "bob"), 1)]
    assert [line.text for line in vault.history.unread(vault.history.shown(), 10)] == ["1", "3", "4"]
    assert [line.text for line in vault.history.unread(vault.history.shown(), 2)] == ["1", "3"]
    with vault.transaction():
        vault.history.mark_shown(lines[2].local_id)
        vault.history.mark_shown(lines[0].local_id)  # late: takes nothing back
    vault.close()
    vault = open_vault(path)
    assert [line.text for line in vault.history.unread(vault.history.shown(), 10)] == ["4"]
    vault.close()


def test_what_is_deferred_is_seen_at_once_and_undone_with_the_rest(path: Path) -> None:
    vault = open_vault(path)
    with vault.transaction():
        for number in (1, 2, 3):
            vault.defer("INSERT INTO chain VALUES (?, ?, x'')", CONVERSATION, number)
        assert vault.one("SELECT count(*) FROM chain") == (3,)
        vault.defer("DELETE FROM chain WHERE first = ?", 2)
    reader = vault.read_only()
    assert reader.all("SELECT first FROM chain ORDER BY first") == [(1,), (3,)]

    def fail_halfway() -> None:
        with vault.transaction():
            vault.defer("DELETE FROM chain WHERE first = ?", 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_halfway()
    with vault.transaction():
        vault.defer("DELETE FROM chain WHERE first = ?", 3)
    assert reader.all("SELECT first FROM chain") == [(1,)]
    vault.close()


def test_a_deferred_statement_that_fails_ends_its_transaction(path: Path) -> None:
    vault = open_vault(path)

    def add_twice() -> None:
        with vault.transaction():
            vault.conversations.save(row())
            for _ in range(2):
                vault.defer("INSERT INTO chain VALUES (?, 1, x'')", CONVERSATION)

    with pytest.raises(StorageError, match="cannot be used"):
        add_twice()
    assert vault.conversations.load() == []
    vault.close()


def test_the_newest_of_what_was_refused_is_kept(path: Path) -> None:
    vault = open_vault(path)
    with vault.transaction():
        for number in range(KEPT_REFUSED + 1):
            vault.refused.add(CONVERSATION, b"%d" % number)
        vault.refused.add(b"o" * 32, b"0")
    assert [vault.refused.has(CONVERSATION, b"%d" % number) for number in (0, 1, KEPT_REFUSED)] == [False, True, True]
    assert vault.refused.has(b"o" * 32, b"0")
    vault.close()


def test_the_log_is_cut_to_nothing_as_soon_as_nobody_reads_from_it(path: Path) -> None:
    vault = open_vault(path)
    reader = vault.read_only()
    log = path.with_name(path.name + "-wal")
    with vault.transaction():
        add(vault, 1, "bob", "first")
    assert log.stat().st_size > 0
    reading = reader.run("SELECT conversation FROM messages UNION ALL SELECT conversation FROM messages")
    assert reading.fetchone() is not None  # it goes on reading
    assert not vault.fold()  # and is not waited for
    assert log.stat().st_size > 0
    with vault.transaction():
        add(vault, 2, "bob", "second")
    reading.close()
    assert vault.fold()
    assert log.stat().st_size == 0
    assert len(reader.all("SELECT 1 FROM messages")) == 2
    vault.close()
