"""Files from one person to another, engines and server in memory: each step, each end, and what becomes of it."""

import errno
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from securechat.client import commands, events
from securechat.client.conversations import registry
from securechat.client.files import jobs, pace, transfers
from securechat.client.files.jobs import Clear, outcome
from securechat.content.registry import File, encode_body
from securechat.errors import UsageError
from securechat.wire import messages as wire
from securechat.wire.blobs import CHUNK_BYTES, COMMITMENT_LENGTH, TAG_LENGTH, blob_length
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, only, settle
from tests.support.small_disk import may_mount, mounted_disk
from tests.support.sounds import note_of

PARTS = 6
DATA = os.urandom(1000) * ((PARTS << 16) // 1000)
"""A file of some parts."""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of one chunk, however fast they are: so a small file has many, and is caught at each of them."""
    monkeypatch.setattr(pace, "MAX_CHUNKS", 1)


@pytest.fixture
def pair(people: Callable[..., list[Person]]) -> list[Person]:
    """Alice and bob, who talk."""
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hi", ask=False))
    settle(alice, bob)
    bob.accept("alice")
    settle(alice, bob)
    return [alice, bob]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "sea.jpg"
    path.parent.mkdir()
    path.write_bytes(DATA)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "saved"
    path.mkdir()
    return path


def share(person: Person, to: str, path: Path, **fields: Any) -> commands.SendFile:
    command = commands.SendFile(person.id_of(to), str(path), **fields)
    person.do(command)
    return command


def newest_file(person: Person, name: str) -> int:
    """The line of the newest file there."""
    return next(line.local_id for line in reversed(person.history(name, 100)) if line.file is not None)


def save(person: Person, name: str, folder: Path) -> commands.SaveFile:
    command = commands.SaveFile(newest_file(person, name), str(folder))
    person.do(command)
    return command


def answered(person: Person, command: commands.Command) -> bool:
    return any(each.command == command.id for each in person.of(events.Done))


def refusal(person: Person, command: commands.Command) -> str:
    (refused,) = [each for each in person.happened if isinstance(each, events.Refused) and each.command == command.id]
    return refused.text


def names_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir()) if folder.exists() else []


def blobs(person: Person) -> list[Path]:
    """The files that the server has, once it has deleted what it may."""
    person.server.sweep_blobs()
    return [each for each in (person.path.parent / "server" / "blobs").rglob("*") if each.is_file()]


def copies(person: Person) -> list[str]:
    """The sealed files that are left beside a vault."""
    return names_in(person.path.with_name(f"{person.path.name}.files"))


def test_a_file_gets_from_one_person_to_another(pair: list[Person], source: Path, folder: Path) -> None:
    alice, bob = pair
    sent = share(alice, "bob", source, description="at last", media_type="image/jpeg", disposition="image")
    settle(*pair)
    assert answered(alice, sent)
    line = bob.history("alice", 1)[0]
    assert (line.text, line.kind) == ("sea.jpg: at last", "file")
    assert line.file is not None
    assert (line.file.size, line.file.digest) == (len(DATA), sha256(DATA).digest())
    assert line.file.until > bob.server.now
    saved = save(bob, "alice", folder)
    settle(*pair)
    assert answered(bob, saved)
    assert (folder / "sea.jpg").read_bytes() == DATA
    assert names_in(folder) == ["sea.jpg"]
    assert len(alice.of(events.FileSent)) == 1
    (told,) = bob.of(events.FileSaved)
    assert told == events.FileSaved(line.local_id, "sea.jpg", str(folder / "sea.jpg"), command=saved.id)
    assert copies(alice) == copies(bob) == []
    assert not alice.vault.transfers.load() + bob.vault.transfers.load()


@pytest.mark.parametrize(
    ("size", "disposition", "inline"),
    [(0, "attachment", True), (2048, "attachment", True), (2049, "attachment", False), (65_536, "voice", True),
     (65_537, "voice", False)],
)  # fmt: skip
def test_a_small_file_goes_inside_its_message(
    pair: list[Person], tmp_path: Path, folder: Path, size: int, disposition: Any, *, inline: bool
) -> None:
    alice, bob = pair
    source = tmp_path / "note.ogg"
    data = note_of(size) if disposition == "voice" else DATA[:size]
    source.write_bytes(data)
    share(alice, "bob", source, disposition=disposition)
    settle(*pair)
    line = bob.history("alice", 1)[0]
    assert line.file is not None
    assert line.file.inline == inline
    save(bob, "alice", folder)
    settle(*pair)
    assert (folder / "note.ogg").read_bytes() == data


def test_the_message_is_said_once_the_server_has_the_whole_file(pair: list[Person], source: Path) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    seen = [""]

    def inward(message: wire.FromClient) -> None:
        if isinstance(message, wire.Submit):
            seen.append("said")
        elif isinstance(message, wire.PutBlob):
            seen.append("put")

    while alice.push() or alice.pull():
        if alice.to_server:
            inward(alice.to_server[0])
    settle(*pair)
    assert seen[-1] == "said"
    assert seen.count("put") >= PARTS
    assert bob.history("alice", 1)[0].file is not None


def test_what_is_said_meanwhile_does_not_wait(pair: list[Person], source: Path) -> None:
    """Of a file, no more than `WINDOW` parts are before it."""
    alice, _ = pair
    share(alice, "bob", source)
    alice.flush()
    for _ in range(3):
        alice.push()
        alice.pull()
    alice.say("bob", "quick")
    alice.flush()
    behind = [type(message).__name__ for message in alice.to_server]
    assert behind[-1] == "Submit"
    assert behind.count("PutBlob") <= pace.WINDOW


@pytest.mark.parametrize("step", range(0, 34, 3))
@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_killed_at_any_step_it_goes_on(
    pair: list[Person], source: Path, folder: Path, who: str, step: int
) -> None:
    alice, bob = pair
    victim = alice if who == "sender" else bob
    share(alice, "bob", source)
    if who == "receiver":
        settle(*pair)
        save(bob, "alice", folder)
    left = step
    while left and (victim.push() or victim.pull()):
        left -= 1
    victim.crash()
    victim.connect()
    settle(*pair)
    if who == "sender":
        save(bob, "alice", folder)
        settle(*pair)
    assert (folder / "sea.jpg").read_bytes() == DATA
    assert [line.kind for line in bob.history("alice", 100)].count("file") == 1
    assert names_in(folder) == ["sea.jpg"]
    assert copies(alice) == copies(bob) == []


def test_what_was_moved_before_a_kill_is_not_moved_again(pair: list[Person], source: Path, folder: Path) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    put: list[int] = []
    fetched: list[int] = []

    def count(person: Person, parts: list[int], most: int) -> None:
        while len(parts) < most:
            person.flush()
            first = person.to_server[0] if person.to_server else None
            parts += [first.offset] if isinstance(first, wire.PutBlob | wire.FetchBlob) else []
            assert person.push() or person.pull()

    count(alice, put, 4)
    alice.pull(100)
    alice.crash()
    alice.connect()
    count(alice, put, 5)
    assert put == [0, *(COMMITMENT_LENGTH + chunks * (CHUNK_BYTES + TAG_LENGTH) for chunks in (1, 2, 3, 4))]
    settle(*pair)
    save(bob, "alice", folder)
    count(bob, fetched, 4)
    bob.pull(100)
    bob.crash()
    bob.connect()
    count(bob, fetched, 5)
    assert fetched[:4] == put[:4]
    assert 0 < fetched[4] <= put[4]
    settle(*pair)
    assert (folder / "sea.jpg").read_bytes() == DATA


def test_a_file_that_changes_meanwhile_is_sent_as_it_was(pair: list[Person], source: Path, folder: Path) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    alice.flush()
    source.write_bytes(bytes(len(DATA)))
    alice.crash()
    alice.connect()
    settle(*pair)
    save(bob, "alice", folder)
    settle(*pair)
    assert (folder / "sea.jpg").read_bytes() == DATA


@pytest.mark.parametrize("size", [100, len(DATA)])
@pytest.mark.parametrize("what", ["there", "elsewhere", "changed", "longer", "gone"])
def test_what_was_saved_before_is_not_fetched_again_while_it_is_there(
    pair: list[Person], source: Path, folder: Path, tmp_path: Path, what: str, size: int
) -> None:
    alice, bob = pair
    data = DATA[:size]
    source.write_bytes(data)
    share(alice, "bob", source)
    settle(*pair)
    save(bob, "alice", folder)
    settle(*pair)
    path, where = folder / "sea.jpg", folder
    if what == "elsewhere":
        where = tmp_path / "other"
        where.mkdir()
    elif what == "gone":
        path.unlink()
    elif what != "there":
        path.write_bytes(data + b"x" if what == "longer" else b"x" + data[1:])
    fetched = []

    def inward(_link: object, message: wire.FromClient) -> list[wire.FromClient]:
        fetched.extend([message] if isinstance(message, wire.FetchBlob) else [])
        return [message]

    bob.server.inward = inward
    bob.crash()
    bob.connect()
    saved = save(bob, "alice", where)
    settle(*pair)
    assert answered(bob, saved)
    assert bool(fetched) == (what in ("changed", "longer", "gone") and size > 2048)
    (told,) = [each for each in bob.of(events.FileSaved) if each.command == saved.id]
    assert isinstance(told, events.FileSaved)
    expected = "sea (2).jpg" if what in ("changed", "longer") else "sea.jpg"
    assert (Path(told.path).parent, Path(told.path).read_bytes()) == (where, data)
    assert len(names_in(where)) == 1 + (expected != "sea.jpg")
    assert copies(bob) == []


def test_no_two_files_share_a_key_or_an_id(pair: list[Person], source: Path) -> None:
    """Nor two tries of one: another one reads the file anew."""
    alice, bob = pair
    alice.working = False
    share(alice, "bob", source)
    bodies = [alice.vault.transfers.load()[0].body]
    alice.crash()
    alice.work()
    alice.engine.receive([])
    alice.working = True
    bodies.append(alice.vault.transfers.load()[0].body)
    share(alice, "bob", source)
    bodies.append(alice.vault.transfers.load()[-1].body)
    files = [msgspec.msgpack.decode(body, type=File) for body in bodies]
    assert len({file.key for file in files}) == len({file.blob for file in files}) == 3
    alice.connect()
    settle(*pair)
    assert [line.kind for line in bob.history("alice", 100)].count("file") == 2


def test_it_can_be_cancelled_and_nothing_is_left(pair: list[Person], source: Path) -> None:
    alice, bob = pair
    sent = share(alice, "bob", source)
    for _ in range(4):
        alice.push()
        alice.pull()
    (transfer,) = {each.transfer.id for each in alice.of(events.Transferred) if isinstance(each, events.Transferred)}
    alice.do(commands.CancelFile(transfer))
    settle(*pair)
    assert "cancelled" in refusal(alice, sent)
    assert copies(alice) == []
    assert bob.texts("alice") == ["alice: hi"]
    assert not blobs(alice)
    with pytest.raises(UsageError, match="no such file"):
        alice.do(commands.CancelFile(transfer))


def test_a_message_that_is_deleted_takes_its_file_along(pair: list[Person], source: Path, folder: Path) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    settle(*pair)
    saved = save(bob, "alice", folder)
    for _ in range(3):
        bob.push()
        bob.pull()
    alice.do(commands.Delete(newest_file(alice, "bob")))
    dropped = []

    def inward(_link: object, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.DropBlob | wire.FetchBlob):  # the word that it is deleted is first
            dropped.append(message)
            return []
        return [message]

    bob.server.inward = inward
    settle(*pair)
    assert "the message with it is gone" in refusal(bob, saved)
    bob.server.inward = lambda _link, message: [message]
    assert [type(message) for message in dropped].count(wire.DropBlob) == 1
    alice.cut()
    bob.cut()
    alice.connect()
    bob.connect()
    settle(*pair)
    assert names_in(folder) == copies(bob) == []
    with pytest.raises(UsageError, match="no file"):
        bob.do(commands.SaveFile(bob.history("alice", 1)[0].local_id, str(folder)))


def test_the_server_deletes_the_file_of_a_message_that_is_deleted(
    pair: list[Person], source: Path, folder: Path
) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    settle(*pair)
    assert blobs(alice)
    saved = save(bob, "alice", folder)
    alice.do(commands.Delete(newest_file(alice, "bob")))
    settle(alice)
    settle(*pair)
    assert "does not have it any more" in refusal(bob, saved)
    assert not [*names_in(folder), *copies(bob), *blobs(alice)]


def test_a_file_of_a_line_that_ends_is_given_up(pair: list[Person], source: Path, folder: Path) -> None:
    alice, bob = pair
    alice.do(commands.SetLife(alice.id_of("bob"), 3600))
    settle(*pair)
    share(alice, "bob", source)
    settle(*pair, until=lambda: bool(bob.history("alice", 1)[0].file))
    bob.server.inward = lambda _link, message: [] if isinstance(message, wire.FetchBlob) else [message]
    saved = save(bob, "alice", folder)
    bob.server.now += 3_601_000
    bob.server.seconds += 3601
    settle(*pair)
    assert "the message with it is gone" in refusal(bob, saved)
    assert names_in(folder) == copies(bob) == []


@pytest.mark.parametrize("end", ["its life is over", "it is deleted"])
def test_the_server_deletes_the_file_of_a_line_that_has_ended_also_after_a_kill(
    pair: list[Person], source: Path, end: str
) -> None:
    """Nobody is to fetch it once its message is nowhere any more."""
    alice, _ = pair
    alice.do(commands.SetLife(alice.id_of("bob"), 3600))
    settle(*pair)
    share(alice, "bob", source)
    settle(*pair)
    alice.do(commands.SetLife(alice.id_of("bob"), 0))
    settle(*pair)
    lasting = share(alice, "bob", source)
    settle(*pair)
    assert answered(alice, lasting)
    ends, stays = [alice.vault.history.file(line.local_id) for line in alice.history("bob", 9) if line.file]
    assert ends is not None
    assert stays is not None
    assert len(blobs(alice)) == 2
    dropped = list[bytes]()

    def inward(_link: object, message: wire.FromClient) -> list[wire.FromClient]:
        if not isinstance(message, wire.DropBlob):
            return [message]
        dropped.append(message.blob)
        return [message] if len(dropped) > 1 else []  # the first time, it does not get there

    alice.server.inward = inward
    if end == "it is deleted":
        alice.do(commands.Delete(next(line.local_id for line in alice.history("bob", 9) if line.file)))
    alice.server.now += 3_601_000 if end == "its life is over" else 0
    alice.server.seconds += 3601
    settle(*pair)
    assert dropped == [ends.blob]
    alice.crash()
    alice.connect()
    settle(*pair)
    assert dropped == [ends.blob] * 2
    assert len(blobs(alice)) == 1
    assert not alice.vault.transfers.unshared()
    alice.cut()
    alice.connect()
    settle(*pair)
    assert dropped == [ends.blob] * 2
    assert stays.blob not in dropped


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "digest": ({"digest": bytes(32)}, "its content is not the one that the message names"),
    "key": ({"key": bytes(32)}, "not encrypted under the key"),
    "shorter": ({"size": len(DATA) - 1}, "longer than the message says"),
    "much longer": ({"size": 1 << 24}, "not as long as the message says"),
    "nothing": ({"size": 1}, "not as long as the message says"),
    "blob": ({"blob": bytes(16)}, "does not have it any more"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_sender_that_lies_about_a_file_is_found_out(
    pair: list[Person], source: Path, folder: Path, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = pair
    fields, why = LIES[lie]
    honest = transfers.Transfers._say

    def say(self: transfers.Transfers, transfer: Any) -> None:
        transfer.file = msgspec.structs.replace(transfer.file, **fields)
        honest(self, transfer)

    monkeypatch.setattr(transfers.Transfers, "_say", say)
    share(alice, "bob", source)
    settle(*pair)
    saved = save(bob, "alice", folder)
    settle(*pair)
    assert why in refusal(bob, saved)
    assert names_in(folder) == []
    assert copies(bob) == []


def test_an_inline_file_that_is_another_one_is_found_out(
    pair: list[Person], tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = pair
    (tmp_path / "note").write_bytes(b"note")
    honest = transfers.Transfers._say

    def say(self: transfers.Transfers, transfer: Any) -> None:
        transfer.file = msgspec.structs.replace(transfer.file, inline=b"liar")
        honest(self, transfer)

    monkeypatch.setattr(transfers.Transfers, "_say", say)
    share(alice, "bob", tmp_path / "note")
    settle(*pair)
    saved = save(bob, "alice", folder)
    settle(*pair)
    assert "not the one that the message names" in refusal(bob, saved)
    assert names_in(folder) == []


def test_a_server_that_sends_other_bytes_is_found_out(pair: list[Person], source: Path, folder: Path) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    settle(*pair)
    saved = save(bob, "alice", folder)

    def change(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.BlobBytes):
            message.data = message.data[:-1] + b"x"
        return [message]

    only(bob, change)
    settle(*pair)
    assert "tampered with" in refusal(bob, saved)
    assert names_in(folder) == copies(bob) == []


def test_a_server_that_sends_without_end_is_found_out(pair: list[Person], source: Path, folder: Path) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    settle(*pair)
    saved = save(bob, "alice", folder)

    def change(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.BlobBytes):
            message.size = blob_length(1 << 40)
        return [message]

    only(bob, change)
    settle(*pair)
    assert "not as long as the message says" in refusal(bob, saved)
    assert names_in(folder) == copies(bob) == []


def test_a_hostile_name_stays_in_the_folder(pair: list[Person], source: Path, folder: Path) -> None:
    alice, bob = pair
    share(alice, "bob", source, name="../../.ssh/authorized_keys")
    settle(*pair)
    save(bob, "alice", folder)
    settle(*pair)
    assert names_in(folder) == ["_._.._.ssh_authorized_keys"]


def test_what_a_crash_of_the_machine_has_left_half_is_fetched_again(
    pair: list[Person], source: Path, folder: Path
) -> None:
    """The length of a file may be on disk when its bytes are not."""
    alice, bob = pair
    share(alice, "bob", source)
    settle(*pair)
    saved = save(bob, "alice", folder)
    for _ in range(4):
        bob.push()
        bob.pull()
    bob.crash()
    (copy,) = bob.path.with_name(f"{bob.path.name}.files").iterdir()
    copy.write_bytes(bytes(copy.stat().st_size))
    bob.connect()
    settle(*pair)
    assert (folder / "sea.jpg").read_bytes() == DATA
    assert not answered(bob, saved)  # nobody waits for it any more, and it is told


@pytest.mark.parametrize(
    ("path", "why"),
    [("nowhere", "No such file"), ("", "folder"), ("pipe", "pipe")],
)
def test_what_is_no_file_is_not_sent(pair: list[Person], tmp_path: Path, path: str, why: str) -> None:
    alice, _ = pair
    os.mkfifo(tmp_path / "pipe")
    sent = share(alice, "bob", tmp_path / path)
    settle(*pair)
    assert why in refusal(alice, sent)
    assert not alice.vault.transfers.load()


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"media_type": "image/jpeg; x=y"}, "cannot be described"),
        ({"media_type": "é"}, "cannot be described"),
        ({"disposition": "inline"}, "cannot be described"),
        ({"description": "é" * 2049}, "its description"),
        ({"path": "relative"}, "whole path"),
    ],
    ids=["type", "no type", "disposition", "description", "path"],
)
def test_what_cannot_be_said_of_a_file_is_refused_at_once(
    pair: list[Person], source: Path, fields: dict[str, Any], why: str
) -> None:
    alice, _ = pair
    given = {"path": str(source), **fields}
    with pytest.raises(UsageError, match=why):
        alice.do(commands.SendFile(alice.id_of("bob"), **given))
    assert not alice.vault.transfers.load()


def test_what_nobody_names_is_swept_away_at_the_next_start(pair: list[Person], source: Path) -> None:
    alice, _ = pair
    share(alice, "bob", source)
    alice.flush()
    (kept,) = copies(alice)
    beside = alice.path.with_name(f"{alice.path.name}.files")
    (beside / "left").write_bytes(b"x")
    alice.crash()
    alice.engine.receive([])
    alice.flush()
    assert copies(alice) == [kept]


def work_until_it_clears(person: Person) -> Clear:
    """Do a client's jobs up to where it would clear what a saved file has left in its folder. Return that job."""
    for _ in range(1000):
        for job in person.engine.take_jobs():
            if isinstance(job, Clear):
                return job
            person.engine.finish([outcome(job, lambda _done: None)])
        person.push()
        person.pull()
    raise AssertionError("it does not come to that")


@pytest.mark.parametrize("size", [100, len(DATA)])
def test_killed_before_it_clears_up_it_does_so_at_the_next_start(
    pair: list[Person], source: Path, folder: Path, size: int
) -> None:
    alice, bob = pair
    source.write_bytes(DATA[:size])
    share(alice, "bob", source)
    settle(*pair)
    bob.working = False
    save(bob, "alice", folder)
    temporary = work_until_it_clears(bob).temporary
    assert names_in(folder) == sorted([temporary, "sea.jpg"])
    bob.crash()
    bob.crash()  # and again, before anything is done
    assert bob.vault.transfers.leftovers() == [(str(folder), temporary)]
    bob.working = True
    bob.connect()
    settle(*pair)
    assert names_in(folder) == ["sea.jpg"]
    assert (folder / "sea.jpg").read_bytes() == DATA[:size]
    assert not bob.vault.transfers.leftovers()


@pytest.mark.parametrize("how", ["deleted", "cancelled"])
def test_killed_after_a_file_was_given_up_nothing_of_it_is_left_after_the_next_start(
    pair: list[Person], source: Path, folder: Path, how: str
) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    settle(*pair)
    bob.working = False
    save(bob, "alice", folder)
    (row,) = bob.vault.transfers.load()
    (folder / row.temporary).write_bytes(DATA[:1000])  # as a kill in the middle of opening leaves it
    if how == "deleted":
        alice.do(commands.Delete(newest_file(alice, "bob")))
        settle(*pair)
    else:
        bob.do(commands.CancelFile(row.id))
        bob.flush()
    assert not bob.vault.transfers.load()
    bob.crash()
    assert names_in(folder) == [row.temporary]
    bob.working = True
    bob.connect()
    settle(*pair)
    assert names_in(folder) == []
    assert not bob.vault.transfers.leftovers()


def test_what_ends_well_leaves_nothing_to_clear(pair: list[Person], source: Path, folder: Path) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    settle(*pair)
    save(bob, "alice", folder)
    settle(*pair)
    assert names_in(folder) == ["sea.jpg"]
    assert not alice.vault.transfers.leftovers() + bob.vault.transfers.leftovers()


def test_an_exported_vault_sends_and_saves_nothing_of_the_old_computers(
    pair: list[Person], source: Path, folder: Path, tmp_path: Path
) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    settle(*pair)
    bob.working = False
    save(bob, "alice", folder)
    share(bob, "alice", source)
    assert [row.kind for row in bob.vault.transfers.load()] == ["save", "send"]
    copy = tmp_path / "copy" / "bob.vault"
    copy.parent.mkdir()
    bob.vault.write_copy(copy)
    assert [row.kind for row in bob.vault.transfers.load()] == ["save", "send"]
    bob.stop()
    bob.path.write_bytes(copy.read_bytes())
    bob.start()
    assert not bob.vault.transfers.load()
    assert not bob.vault.transfers.leftovers()
    assert bob.history("alice", 1)[0].file is not None


def test_of_a_line_that_is_not_shown_no_file_is_saved(pair: list[Person], source: Path, folder: Path) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    settle(*pair)
    for person, own in ((alice, True), (bob, False)):
        line = newest_file(person, "bob" if own else "alice")
        assert person.vault.history.file(line) is not None
        person.vault.run("UPDATE messages SET problem = 'It is damaged.' WHERE local_id = ?", line)
        assert (person.vault.history.file(line) is not None) == own  # of our own, it says why it was not sent
        assert (person.vault.history.message(line).file is not None) == own
    with pytest.raises(UsageError, match="no file"):
        bob.do(commands.SaveFile(line, str(folder)))


def test_progress_only_rises_and_ends_with_the_file(pair: list[Person], source: Path) -> None:
    alice, _ = pair
    share(alice, "bob", source)
    settle(*pair)
    told = [each.transfer for each in alice.happened if isinstance(each, events.Transferred)]
    assert [each.stage for each in told][:1] == ["sealing"] or told[0].stage == "waiting"
    assert all(each.name == "sea.jpg" and each.kind == "send" for each in told)
    moved = [each.done for each in told if each.stage == "moving"]
    assert moved == sorted(moved)


def test_a_vault_that_is_copied_has_no_keys_of_what_was_deleted(pair: list[Person], source: Path) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    settle(*pair)
    file = bob.vault.history.file(newest_file(bob, "alice"))
    assert file is not None
    assert encode_body(file)[1]
    alice.do(commands.Delete(newest_file(alice, "bob")))
    settle(*pair)
    bodies = [body for (body,) in bob.vault.all("SELECT body FROM messages UNION ALL SELECT body FROM transfers")]
    assert not any(file.key in body for body in bodies)


def told_of(person: Person, kind: type[events.TransferDelayed | events.TransferEnded]) -> list[str]:
    return [each.text for each in person.happened if isinstance(each, kind)]


def test_a_full_share_is_told_and_the_file_goes_once_there_is_room(
    people: Callable[..., list[Person]], source: Path, folder: Path, server: MemoryServer
) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice, bob)
    bob.do(commands.JoinRoom("#lobby"))
    settle(alice, bob)
    limits = server.sequencer._blobs.limits
    server.sequencer._blobs.limits = limits._replace(per_account=blob_length(len(DATA)) + 10_000)
    share(alice, "#lobby", source)
    settle(alice, bob)
    first = newest_file(alice, "#lobby")
    second = share(alice, "#lobby", source, name="second.jpg")
    settle(alice, bob, until=lambda: bool(told_of(alice, events.TransferDelayed)))
    assert "It is tried again by itself" in told_of(alice, events.TransferDelayed)[0]
    assert not answered(alice, second)
    alice.do(commands.Delete(first))
    settle(alice, bob)
    assert answered(alice, second)
    save(bob, "#lobby", folder)
    settle(alice, bob)
    assert names_in(folder) == ["second.jpg"]


def test_a_file_that_no_share_could_hold_is_refused_in_words(
    pair: list[Person], source: Path, server: MemoryServer
) -> None:
    alice, _ = pair
    server.sequencer._blobs.limits = server.sequencer._blobs.limits._replace(per_account=10_000)
    sent = share(alice, "bob", source)
    settle(*pair)
    assert "sea.jpg was not sent: the server says:" in refusal(alice, sent)
    assert copies(alice) == []


def test_a_file_that_expires_meanwhile_is_told(pair: list[Person], source: Path, folder: Path) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    settle(*pair)
    saved = save(bob, "alice", folder)
    for _ in range(3):
        bob.push()
        bob.pull()
    alice.cut()
    bob.server.now += 40 * 86_400_000
    bob.server.tidy()
    settle(bob)
    assert "does not have it any more" in refusal(bob, saved)
    assert names_in(folder) == copies(bob) == []


def test_whoever_was_removed_or_is_a_stranger_fetches_nothing(
    people: Callable[..., list[Person]], source: Path
) -> None:
    """They may know the ids: of files that were sent before they went, they had the keys as well."""
    alice, bob, carol, dave = everybody = people("alice", "bob", "carol", "dave")
    alice.do(commands.CreateRoom("#club"))
    settle(*everybody)
    room = alice.id_of("#club")
    for name in ("bob", "carol"):
        alice.do(commands.Invite(room, name))
        settle(*everybody)
    alice.do(commands.Remove(room, "carol"))
    settle(*everybody)
    share(alice, "#club", source)
    settle(*everybody)
    file = bob.vault.history.file(newest_file(bob, "#club"))
    assert file is not None
    answers: dict[str, wire.Reply] = {}
    for person in (bob, carol, dave):
        request = wire.FetchBlob(0, room, file.blob, 0, 65_536)
        with person.engine._unit():
            person.engine._context.request(request, lambda reply, name=person.name: answers.update({name: reply}))  # type: ignore[misc]  # bound now
        settle(*everybody)
    assert isinstance(answers["bob"], wire.BlobBytes)
    for name in ("carol", "dave"):
        refused = answers[name]
        assert isinstance(refused, wire.Refused)
        assert refused.code in ("gone", "not-found")


def test_a_disk_that_is_full_is_told_and_what_is_saved_comes_once_it_has_room(
    pair: list[Person], source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    settle(*pair)

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    sent, saved = share(alice, "bob", source), save(bob, "alice", folder)
    settle(*pair, until=lambda: bool(bob.of(events.TransferDelayed)))
    assert "No space left on device" in refusal(alice, sent)
    (told,) = bob.of(events.TransferDelayed)
    assert isinstance(told, events.TransferDelayed)
    assert "No space left on device. It goes on by itself once there is room." in told.text
    assert names_in(folder) == copies(alice) == []
    assert not answered(bob, saved)
    monkeypatch.undo()
    settle(*pair)
    assert answered(bob, saved)
    assert (folder / "sea.jpg").read_bytes() == DATA


@pytest.fixture
def small(pair: list[Person], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Bob's disk for sealed files: a real small one, or a stand-in where nothing can be mounted. Sets its size."""
    folder = pair[1].path.with_name(f"{pair[1].path.name}.files")
    if may_mount():
        with mounted_disk(folder, "1m") as disk:
            yield disk.resize
        return
    most, run = [1 << 20], jobs.Append.run

    def append(job: jobs.Append, progress: Callable[[int], None]) -> int:
        if job.offset + sum(map(len, job.parts)) > most[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return run(job, progress)

    monkeypatch.setattr(jobs.Append, "run", append)
    monkeypatch.setattr(jobs, "disk_usage", lambda _: SimpleNamespace(free=most[0]))
    yield lambda size: most.__setitem__(0, size)


def test_a_file_without_room_is_told_before_a_byte_is_fetched_and_comes_once_there_is(
    pair: list[Person], source: Path, folder: Path, small: Callable[[int], None]
) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    settle(*pair)
    small(64 << 10)
    fetched = list[wire.FromClient]()

    def inward(_link: object, message: wire.FromClient) -> list[wire.FromClient]:
        fetched.extend([message] if isinstance(message, wire.FetchBlob) else [])
        return [message]

    bob.server.inward = inward
    saved = save(bob, "alice", folder)
    settle(*pair, until=lambda: bool(bob.of(events.TransferDelayed)))
    (told,) = bob.of(events.TransferDelayed)
    assert isinstance(told, events.TransferDelayed)
    assert "sea.jpg is not saved yet: it takes " in told.text
    assert "It goes on by itself once there is room." in told.text
    assert not fetched
    later = bob.server.seconds + 600
    settle(*pair, until=lambda: bob.server.seconds > later)
    assert len(bob.of(events.TransferDelayed)) == 1  # it is tried again and again, and told once
    small(8 << 20)
    settle(*pair)
    assert answered(bob, saved)
    assert (folder / "sea.jpg").read_bytes() == DATA


def test_a_disk_that_fills_up_during_a_download_is_told_and_what_is_there_is_not_fetched_again(
    pair: list[Person], source: Path, folder: Path, small: Callable[[int], None]
) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    settle(*pair)
    offsets = list[int]()

    def inward(_link: object, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.FetchBlob):
            offsets.append(message.offset)
            if len(offsets) == 3:
                small(200_000)
        return [message]

    bob.server.inward = inward
    saved = save(bob, "alice", folder)
    settle(*pair, until=lambda: bool(bob.of(events.TransferDelayed)))
    (told,) = bob.of(events.TransferDelayed)
    assert isinstance(told, events.TransferDelayed)
    assert "No space left on device" in told.text
    assert not answered(bob, saved)
    before = len(offsets)
    small(8 << 20)
    settle(*pair)
    assert answered(bob, saved)
    assert (folder / "sea.jpg").read_bytes() == DATA
    assert offsets[before] > 0


def test_the_first_part_that_is_another_one_ends_it_before_it_is_written(
    pair: list[Person], source: Path, folder: Path
) -> None:
    alice, bob = pair
    source.write_bytes(os.urandom(2 << 20))
    share(alice, "bob", source)
    settle(*pair)
    parts = list[bytes]()
    written = set[bytes]()

    def outward(_link: object, message: wire.FromServer) -> list[wire.FromServer]:
        if not isinstance(message, wire.BlobBytes):
            return [message]
        parts.append(message.data)
        altered = bytes([message.data[0] ^ (len(parts) == 3)]) + message.data[1:]
        return [msgspec.structs.replace(message, data=altered)]

    bob.server.outward = outward
    saved = save(bob, "alice", folder)
    while bob.push() or bob.pull():
        written.update(path.read_bytes() for path in bob.path.with_name(f"{bob.path.name}.files").glob("*"))
    assert "its encryption was tampered with" in refusal(bob, saved)
    assert len(parts) <= 2 + pace.WINDOW
    assert max(written, key=len) == b"".join(parts[:2])
    assert names_in(folder) == copies(bob) == []


def test_several_files_take_turns(pair: list[Person], source: Path) -> None:
    """A small one does not wait for a large one that began before it."""
    alice, bob = pair
    small = source.with_name("small")
    small.write_bytes(DATA[: 2 << 16])
    large, little = share(alice, "bob", source), share(alice, "bob", small)
    settle(*pair, until=lambda: answered(alice, little))
    assert not answered(alice, large)
    settle(*pair)
    assert answered(alice, large)
    assert len([line for line in bob.history("alice", 10) if line.file is not None]) == 2


def test_where_parts_take_long_one_goes_at_a_time(pair: list[Person], source: Path) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    while not any(isinstance(message, wire.PutBlob) for message in alice.to_server):
        assert alice.push() or alice.pull()
    on_their_way = []
    while not any(isinstance(message, wire.Submit) for message in alice.to_server):
        bob.server.seconds += pace.SLOW_SECONDS + 0.1
        on_their_way.append(sum(isinstance(message, wire.PutBlob) for message in alice.to_server))
        assert alice.push() or alice.pull()
        alice.pull()
    assert on_their_way[0] == pace.WINDOW
    assert on_their_way[-1] == 1
    settle(*pair)
    assert bob.history("alice", 1)[0].file is not None


@pytest.mark.parametrize(("seconds", "chunks"), [(0.0, 4), (pace.QUICK_SECONDS, 1)])
def test_where_parts_come_through_quickly_they_become_large(
    pair: list[Person], source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, chunks: int
) -> None:
    """Elsewhere words would wait for them."""
    monkeypatch.undo()
    alice, bob = pair
    source.write_bytes(data := os.urandom(3 << 20))
    sizes = set[int]()

    def go_on(person: Person) -> None:
        going = True
        while going:
            person.server.seconds += seconds
            sizes.update(len(message.data) for message in person.to_server if isinstance(message, wire.PutBlob))
            sizes.update(message.length for message in person.to_server if isinstance(message, wire.FetchBlob))
            going = person.push() or person.pull()

    share(alice, "bob", source)
    go_on(alice)
    assert max(sizes) // CHUNK_BYTES == chunks
    sizes.clear()
    settle(*pair)
    save(bob, "alice", folder)
    go_on(bob)
    assert max(sizes) // CHUNK_BYTES == chunks
    settle(*pair)
    assert (folder / "sea.jpg").read_bytes() == data


def test_parts_are_read_and_written_several_at_once(
    pair: list[Person], source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each job costs a unit of the engine."""
    at_once: dict[type[jobs.Job], list[int]] = {jobs.Read: [], jobs.Append: []}
    read, append = jobs.Read.run, jobs.Append.run

    def counted_read(job: jobs.Read, progress: Callable[[int], None]) -> list[bytes]:
        at_once[jobs.Read].append(len(job.lengths))
        return read(job, progress)

    def counted_append(job: jobs.Append, progress: Callable[[int], None]) -> int:
        at_once[jobs.Append].append(len(job.parts))
        return append(job, progress)

    monkeypatch.setattr(jobs.Read, "run", counted_read)
    monkeypatch.setattr(jobs.Append, "run", counted_append)
    share(pair[0], "bob", source)
    settle(*pair)
    save(pair[1], "alice", folder)
    settle(*pair)
    assert (folder / "sea.jpg").read_bytes() == DATA
    for sizes in at_once.values():
        assert sum(sizes) >= PARTS
        assert max(sizes) <= pace.WINDOW
        assert all(size >= pace.AT_ONCE for size in sizes[:-1])


def test_a_folder_of_sealed_files_that_is_taken_away_is_made_anew(
    pair: list[Person], source: Path, folder: Path
) -> None:
    alice, bob = pair
    share(alice, "bob", source)
    settle(*pair)
    saved = save(bob, "alice", folder)
    beside = bob.path.with_name(f"{bob.path.name}.files")
    while not copies(bob):
        assert bob.push() or bob.pull()
    for each in beside.iterdir():
        each.unlink()
    beside.rmdir()
    settle(*pair)
    assert answered(bob, saved)
    assert (folder / "sea.jpg").read_bytes() == DATA


@pytest.mark.parametrize("size", [len(DATA), len(DATA) + 100_000])
def test_a_file_that_is_named_twice_is_saved_once_at_a_time(
    pair: list[Person], source: Path, folder: Path, size: int
) -> None:
    """Also if the second message says something else of it: then it is not what that one names."""
    alice, bob = pair
    share(alice, "bob", source)
    settle(*pair)
    first = newest_file(bob, "alice")
    file = alice.vault.history.file(newest_file(alice, "bob"))
    assert file is not None
    again = msgspec.structs.replace(file, size=size)
    with alice.engine._unit():
        where = alice.engine._registry.get(alice.id_of("bob"))
        assert where is not None
        line = alice.vault.history.add(
            where.id, "alice", encode_body(again), own=True, trust="verified", device=alice.engine._context.device.id,
            author=alice.engine._context.device.identity_key, written=1,
        )  # fmt: skip
        where.put(again, line.local_id)
    settle(*pair)
    second = newest_file(bob, "alice")
    assert second != first
    saved = commands.SaveFile(first, str(folder))
    bob.do(saved)
    with pytest.raises(UsageError, match="being saved already"):
        bob.do(commands.SaveFile(second, str(folder)))
    settle(*pair)
    assert answered(bob, saved)
    later = save(bob, "alice", folder)
    settle(*pair)
    if size == len(DATA):
        assert answered(bob, later)
    else:
        assert "what the server has is not as long as the message says" in refusal(bob, later)
    assert (folder / "sea.jpg").read_bytes() == DATA
    assert copies(bob) == []


def test_a_file_of_a_conversation_that_is_over_is_refused_in_words(
    pair: list[Person], source: Path, folder: Path
) -> None:
    """Also once there is a new one with the same person; there it can be sent again."""
    alice, bob = pair
    share(alice, "bob", source)
    settle(*pair)
    line = newest_file(bob, "alice")
    for person, other in ((alice, "bob"), (bob, "alice")):
        person.do(commands.Bye(person.id_of(other)))
        settle(*pair)
    saved = commands.SaveFile(line, str(folder))
    bob.do(saved)
    settle(*pair)
    assert refusal(bob, saved) == f"sea.jpg was not saved: {transfers.OUT}"
    alice.do(commands.OpenDirect("bob", "again", ask=False))
    settle(*pair)
    saved = commands.SaveFile(line, str(folder))
    bob.do(saved)
    settle(*pair)
    assert refusal(bob, saved) == f"sea.jpg was not saved: {transfers.OUT}"
    share(alice, "bob", source)
    settle(*pair)
    saved = save(bob, "alice", folder)
    settle(*pair)
    assert answered(bob, saved)
    assert names_in(folder) == ["sea.jpg"]


def test_a_conversation_that_ends_meanwhile_ends_the_file(pair: list[Person], source: Path) -> None:
    alice, bob = pair
    sent = share(alice, "bob", source)
    for _ in range(5):
        alice.push()
        alice.pull()
    alice.do(commands.Leave(alice.id_of("bob")))
    settle(alice, bob)
    assert "was not sent" in refusal(alice, sent)
    assert copies(alice) == []
    assert not any(line.file for line in bob.history("alice", 10))


@pytest.mark.parametrize("gone", [True, False])
def test_a_server_that_refuses_the_file_of_a_request_which_has_just_gone_ends_no_client(
    people: Callable[..., list[Person]], source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *, gone: bool
) -> None:
    """Whoever asks again and again has the oldest of their requests deleted, and what was said in it."""
    monkeypatch.setattr(registry, "MAX_REQUESTS", 1)
    alice, mallory = both = people("alice", "mallory")
    undated = msgspec.structs.replace
    only(mallory, lambda each: [undated(each, expires=0)] if isinstance(each, wire.BlobState) else [each])
    mallory.do(commands.OpenDirect("alice", "hello", ask=True))
    settle(*both)
    share(mallory, "alice", source)
    settle(*both)
    parts: list[wire.BlobBytes] = []
    welcomes: list[wire.Welcomed] = []

    def withhold(message: wire.FromServer) -> list[wire.FromServer]:
        kept: list[object] = parts if isinstance(message, wire.BlobBytes) else welcomes  # type: ignore[assignment]
        if isinstance(message, wire.BlobBytes) or (isinstance(message, wire.Welcomed) and len(asked) == 2):
            kept.append(message)
            return []
        return [message]

    asked: list[int] = []
    only(alice, withhold)
    saved = save(alice, "mallory", folder)
    settle(*both)
    for number in range(2):
        mallory.do(commands.Leave(mallory.id_of("alice")))
        settle(*both)
        asked.append(number)
        mallory.do(commands.OpenDirect("alice", "hello again", ask=True))
        settle(*both)
    refused = wire.Refused(parts[0].id, "gone", "not here")
    alice.engine.receive([*(welcomes if gone else ()), refused])
    alice.flush()
    only(alice, lambda message: [message])
    settle(*both)
    assert alice.engine.failure is None
    if gone:
        assert "the message with it is gone" in refusal(alice, saved)
    assert not alice.engine.transfers or not gone
