"""A vault moves to another machine: all of it or nothing, healed before it speaks, and the old copy is shut out."""

import io
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.client import archive, commands, events
from securechat.client.addresses import Card
from securechat.client.archive import CHUNK, Export, import_vault, write_export
from securechat.client.passphrase import WrongPassphraseError
from securechat.client.password_source import PasswordSource
from securechat.client.vault.vault import Vault
from securechat.client.vault_files import CARD, EXPORTING, FIRST_KEY, IMPORTING, KEY, beside, check_whole
from securechat.client.wrapping import Cost
from securechat.errors import StorageError, UsageError
from securechat.ui.moving import run_import
from tests.support.memory_server import MemoryServer
from tests.support.people import PASSWORD, Person, settle

World = Callable[..., list[Person]]
PASSPHRASE = "abcde-fghjk-mnpqr-stuvw"
HEAD = 5 + 117
CHEAP = Cost(time=1, memory=8, lanes=1)


def exported(person: Person) -> bytes:
    """What an export holds. The vault stays open."""
    out = io.BytesIO()
    write_export(person.vault, out, PASSPHRASE)
    return out.getvalue()


def imported(content: bytes, folder: Path, passphrase: str = PASSPHRASE) -> Path:
    """Import it; return the vault's path."""
    return import_vault(Export(io.BytesIO(content), passphrase), folder)


class Moved(Person):
    """Somebody on the new machine. `sent`: what has gone to the server, by its name, in order."""

    def __init__(self, server: MemoryServer, folder: Path, content: bytes) -> None:
        path = imported(content, folder)
        for each in folder.glob(f"{path.name}*"):
            each.rename(folder / each.name.replace(path.name, "alice.vault"))
        self.sent: list[str] = []
        super().__init__(server, folder, "alice")

    def push(self) -> bool:
        self.flush()
        if self.to_server:
            self.sent.append(type(self.to_server[0]).__name__)
        return super().push()


def everything(vault: Vault) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables."""
    tables = [name for (name,) in vault.all("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: sorted(vault.all(f"SELECT * FROM {name}"), key=repr) for name in tables}  # noqa: S608  # its own names


@pytest.fixture
def talking(people: World) -> list[Person]:
    """Alice and bob in private and in a room."""
    alice, bob = everybody = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(*everybody)
    bob.say("alice", "hi")
    alice.do(commands.CreateRoom("#club"))
    settle(*everybody)
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    settle(*everybody)
    alice.say("#club", "welcome")
    settle(*everybody)
    return everybody


def test_all_of_a_vault_arrives_and_heals_before_it_speaks(
    server: MemoryServer, talking: list[Person], tmp_path: Path
) -> None:
    alice, bob = talking
    before, content = everything(alice.vault), exported(alice)
    assert everything(alice.vault) == before  # it is left as it is
    assert b"welcome" not in content
    alice.cut()
    new = Moved(server, tmp_path / "new", content)
    after = everything(new.vault)
    assert {name for name in before if before[name] != after[name]} <= {"device", "conversations", "preferences"}
    assert new.texts("#club") == alice.texts("#club")
    for name in ("#club", "bob"):
        new.say(name, f"from the new machine to {name}")
    epochs = {name: there.group.epoch for name in ("#club", "bob") if (there := new.engine._registry.find(name))}
    new.connect()
    settle(new, bob)
    assert new.sent.index("Publish") < new.sent.index("Commit") < new.sent.index("Submit")
    assert Counter(new.sent)["Commit"] == 2
    assert bob.texts("#club")[-1] == "alice: from the new machine to #club"
    assert bob.texts("alice")[-1] == "alice: from the new machine to bob"
    for name, epoch in epochs.items():
        there = new.engine._registry.find(name)
        assert there is not None
        assert there.group.epoch > epoch
    assert not [each for each in bob.happened if isinstance(each, events.KeyChanged | events.Alarm)]
    assert not new.of(events.OwnKeyUsed)
    # The old copy comes back: it is told, and can say no more.
    alice.say("#club", "from the old machine")
    new.cut()
    alice.connect()
    settle(alice, bob)
    assert alice.of(events.PasswordWanted)[-1].why == "login"  # type: ignore[attr-defined]  # its kind
    alice.do(commands.Unlock(PASSWORD))
    settle(alice, bob)
    assert len(alice.of(events.OwnKeyUsed)) == 1
    assert all(each.what == "own-commit" for each in alice.of(events.OutOfStep))  # type: ignore[attr-defined]  # its kind
    held = [each.text for each in alice.happened if isinstance(each, events.Delayed)]
    assert len(held) == 2
    assert all("waits: this device's key has to be renewed first" in text for text in held)
    assert bob.texts("#club")[-1] == "alice: from the new machine to #club"
    new.stop()


def test_where_the_old_machine_has_gone_on_the_new_one_is_told_and_says_nothing_under_old_keys(
    server: MemoryServer, talking: list[Person], tmp_path: Path
) -> None:
    alice, bob = talking
    content = exported(alice)
    alice.do(commands.Rotate())
    alice.do(commands.Unlock(PASSWORD))
    settle(alice, bob)
    alice.say("#club", "still here")
    settle(alice, bob)
    alice.cut()
    new = Moved(server, tmp_path / "new", content)
    new.say("#club", "from the new machine")
    new.connect()
    settle(new, bob)
    assert len(new.of(events.OwnKeyUsed)) == 1
    assert bob.texts("#club")[-1] == "alice: still here"
    new.do(commands.Rotate())
    new.do(commands.Unlock(PASSWORD))
    settle(new, bob)
    assert bob.texts("#club")[-1] == "alice: from the new machine"
    new.stop()


def test_the_head_says_what_it_is_and_the_same_vault_never_becomes_the_same_file(talking: list[Person]) -> None:
    one, other = exported(talking[0]), exported(talking[0])
    assert one[:5] == b"SCex\x01"
    assert len(one) == len(other)
    same = [at for at in range(5, len(one)) if one[at] == other[at]]
    assert len(same) < len(one) / 100
    assert (len(one) - HEAD) // (CHUNK + 16) > 1  # or the next test shows less


def test_what_is_damaged_cut_off_or_goes_on_is_refused_in_a_sentence_and_leaves_nothing(
    talking: list[Person], tmp_path: Path
) -> None:
    content, folder = exported(talking[0]), tmp_path / "new"
    full = CHUNK + 16
    altered = bytearray(content)
    first, second = content[HEAD : HEAD + full], content[HEAD + full : HEAD + 2 * full]
    swapped = content[:HEAD] + second + first + content[HEAD + 2 * full :]
    cases = [(b"", "begins otherwise"), (b"SCvk" + content[4:], "begins otherwise"), (content[:4], "cut off"),
             (b"SCex\x02" + content[5:], "of a version that this program does not know"),
             (content[: HEAD - 1], "cut off"), (swapped, "damaged"), (content + b"x", "damaged"),
             (content[:HEAD] + content[HEAD + full :], "damaged")]  # fmt: skip
    cases += [(content[: HEAD + full], "cut off"), (content[:-1], "cut off"), (content[: HEAD + full + 99], "cut off")]
    for at in (HEAD, HEAD + 99, HEAD + full, HEAD + full + 5, len(content) - 1):
        altered[at] ^= 1
        cases.append((bytes(altered), "damaged"))
        altered[at] ^= 1
    altered[5] ^= 0x40  # it asks for much more work
    cases.append((bytes(altered), "damaged.* It asks for more memory"))
    for case, reason in cases:
        with pytest.raises(UsageError, match=f"This (is no )?export.*{reason}") as refused:
            imported(case, folder)
        assert not isinstance(refused.value, WrongPassphraseError)
        assert not folder.exists() or list(folder.iterdir()) == []
    for passphrase in ("abcde-fghjk-mnpqr-stuvx", "", "\0"):
        with pytest.raises(WrongPassphraseError):
            imported(content, folder, passphrase)
    imported(content, folder, "ABCDE fghjk mnpqr stuvw")  # the twin, as people type it


def test_no_more_is_written_than_there_was_room_for(talking: list[Person], monkeypatch: pytest.MonkeyPatch) -> None:
    encode = archive.Contents.encode
    monkeypatch.setattr(archive.Contents, "encode", lambda self: encode(replace(self, size=CHUNK + 1)))
    export, got = Export(io.BytesIO(exported(talking[0])), PASSPHRASE), list[bytes]()
    with pytest.raises(UsageError, match="damaged"):
        got.extend(export.database())
    assert sum(map(len, got)) <= CHUNK + 1


@pytest.mark.parametrize(
    ("address", "told"),
    [("chat.example:4433", "--server chat.example:4433"), ("[fe80::1%$(ls)]:1", ""), ("x;\x1b[2J", "")],
    ids=["one", "order to a shell", "order to a terminal"],
)
def test_what_is_to_be_typed_after_an_import_is_nothing_that_its_maker_has_put_there(
    talking: list[Person], tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str, told: str
) -> None:
    alice, _ = talking
    card = Card("alice", alice.server.store.server_id.hex(), [address])
    beside(alice.path, CARD).write_bytes(msgspec.json.encode(card))
    (tmp_path / "export").write_bytes(exported(alice))
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    (tmp_path / "passphrase").chmod(0o600)
    run_import(tmp_path / "export", tmp_path / "new", tmp_path / "passphrase")
    assert f"    securechat client --user alice {told}".rstrip() + "\n" in capsys.readouterr().err


@given(st.binary(max_size=400), st.booleans())
def test_whatever_is_read_it_is_an_export_or_a_sentence(content: bytes, begins: bool) -> None:  # noqa: FBT001  # hypothesis
    with pytest.raises(UsageError):
        Export(io.BytesIO((b"SCex\x01" if begins else b"") + content), PASSPHRASE)


def test_nothing_of_what_is_there_is_touched(
    talking: list[Person], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, folder = exported(talking[0]), tmp_path / "new"
    path = imported(content, folder)
    before = {each: each.read_bytes() for each in folder.iterdir()}
    with pytest.raises(StorageError, match="alice has a vault for this server here already"):
        imported(content, folder)
    assert {each: each.read_bytes() for each in folder.iterdir()} == before
    path.unlink()
    with pytest.raises(StorageError, match="has a vault for this server here already"):  # a lost one is no place for it
        imported(content, folder)
    monkeypatch.setattr(archive, "disk_usage", lambda _: type("", (), {"free": 1000})())
    with pytest.raises(StorageError, match="the disk has no room for it"):
        imported(content, tmp_path / "full")
    assert list((tmp_path / "full").iterdir()) == []


@pytest.mark.parametrize("suffix", [EXPORTING, IMPORTING])
def test_a_copy_that_a_kill_has_left_goes_with_the_vault(talking: list[Person], suffix: str) -> None:
    alice, _ = talking
    left = beside(alice.path, suffix)
    if suffix == EXPORTING:
        left.write_bytes(b"a copy")
        exported(alice)
        assert not left.exists()  # or with the next export
    left.write_bytes(b"a copy, with what is deleted later")
    alice.stop()
    alice.start()
    assert not left.exists()  # or with the next start
    left.write_bytes(b"a copy")
    alice.vault.discard_at_close = True
    alice.stop()
    assert not list(alice.path.parent.glob(f"{alice.path.name}*"))
    alice.start()  # for the end of the test


def test_a_vault_that_has_met_no_server_is_not_exported(tmp_path: Path) -> None:
    vault = Vault.open(tmp_path / "alice.vault", "alice", PasswordSource.typed(PASSWORD), cost=CHEAP)
    with pytest.raises(UsageError, match="has not met its server yet"):
        write_export(vault, io.BytesIO(), PASSPHRASE)
    vault.close()


STEPS = ("open", "os.rename", "os.remove", "os.mkdir")


def import_and_die(content: bytes, folder: Path, number: int) -> bool:
    """Import in another process, which lives through so many steps; whether it was killed."""
    child = os.fork()
    if child == 0:
        left = number

        def step() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        export = Export(io.BytesIO(content), PASSPHRASE)
        pieces = export.database

        def counted() -> object:
            for piece in pieces():
                step()
                yield piece
            step()

        export.database = counted  # type: ignore[method-assign, assignment]  # the same, with steps
        sys.addaudithook(lambda event, _: step() if event in STEPS else None)
        code = 1
        try:
            import_vault(export, folder)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_step_an_import_leaves_nothing_or_all_and_can_be_made_again(
    talking: list[Person], tmp_path: Path
) -> None:
    content, number, seen, killed = exported(talking[0]), 0, Counter[str](), True
    while killed:
        folder = tmp_path / str(number)
        killed = import_and_die(content, folder, number)
        number += 1
        found = list(folder.glob("*.vault")) if folder.exists() else []
        if not found:
            assert not [each for ending in (KEY, CARD) for each in folder.glob(f"*{ending}")]
            seen["nothing"] += 1
            found = [imported(content, folder)]
        else:
            seen["all"] += 1
        (path,) = found
        check_whole(path)
        vault = Vault.open(path, "alice", PasswordSource.typed(PASSWORD))
        assert vault.history.newest(talking[0].id_of("#club"), 1)[0].text == "welcome"
        vault.close()
        assert not beside(path, IMPORTING).exists()
        assert not beside(path, FIRST_KEY).exists()
    assert seen["nothing"] > 5
    assert seen["all"] > 3
