"""Blobs: who uploads and fetches what, what is refused in which words, and that nothing is left that nobody needs."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from securechat.errors import StorageError
from securechat.mls.proposals import Remove
from securechat.mls.tree_math import LeafIndex
from securechat.padding import padme
from securechat.server.rate import Rate
from securechat.server.sequencer.blobs import RETRY_SECONDS, UNFINISHED, UNFINISHED_SECONDS
from securechat.server.sequencer.operations import DeleteRoom, ForgetAccount
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.blobs import blob_length, is_blob_length, padded
from tests.server.sequencer.test_coming_and_going import chat, refused
from tests.support.memory_server import MemoryPerson as Person
from tests.support.memory_server import MemoryServer
from tests.support.uploads import PART, begin, bytes_of, download, fetch, put, upload

Enter = Callable[..., Person]
DAY = 86_400_000  # ms


def den(enter: Enter) -> tuple[Person, Person, bytes]:
    """A room of alice's, where she has added bob."""
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#den", "invite")
    (room,) = alice.groups
    alice.change(room, *alice.adds("bob"))
    bob.read_inbox()
    assert bob.accept_welcome() == room
    return alice, bob, room


def files_in(server: MemoryServer) -> list[bytes]:
    """What lies in the folder."""
    return [path.read_bytes() for path in sorted(server.files._folder.rglob("*")) if path.is_file()]


def test_what_one_has_uploaded_the_other_fetches(enter: Enter) -> None:
    alice, bob, direct = chat(enter)
    data = bytes_of()
    blob = upload(alice, direct, data)
    assert download(bob, direct, blob) == download(alice, direct, blob) == data
    reply = fetch(bob, direct, blob, len(data) - 10, 50)
    assert isinstance(reply, m.BlobBytes)
    assert (reply.data, reply.size) == (data[-10:], len(data))
    refused(fetch(bob, direct, blob, len(data)), "bad-request")


def test_an_upload_goes_on_where_it_was_in_another_session(enter: Enter, server: MemoryServer) -> None:
    alice, bob, direct = chat(enter)
    data = bytes_of(300_000)
    blob = upload(alice, direct, data, upto=3 * PART)
    refused(fetch(bob, direct, blob), "not-now")
    alice.drop()
    again = alice.again()
    refused(put(again, direct, blob, data, 3 * PART), "not-now")  # not started in this session
    state = begin(again, direct, blob, data)
    assert isinstance(state, m.BlobState)
    assert state.offset == 3 * PART
    upload(again, direct, data, blob)
    state = begin(again, direct, blob, data)
    assert isinstance(state, m.BlobState)
    assert state.offset == len(data)
    assert download(bob, direct, blob) == data
    assert server.transfers.uploads == 0


def test_bytes_are_never_written_twice_nor_with_a_gap(enter: Enter) -> None:
    alice, bob, direct = chat(enter)
    data, part = bytes_of(300_000), PART
    blob = upload(alice, direct, data, upto=2 * part)
    other = bytes(len(data))
    repeated = put(alice, direct, blob, other, 0)
    assert isinstance(repeated, m.BlobState)
    assert repeated.offset == 2 * part
    refused(put(alice, direct, blob, data, 3 * part), "wrong-number")  # a gap
    refused(put(alice, direct, blob, data, 2 * part - 1), "wrong-number")  # overlaps
    refused(alice.ask(m.PutBlob, direct, os.urandom(16), 0, b"?"), "not-now")
    upload(alice, direct, data, blob)
    assert download(bob, direct, blob) == data


def test_more_than_was_announced_is_refused(enter: Enter) -> None:
    alice, _, direct = chat(enter)
    data = bytes_of(0)
    blob = upload(alice, direct, data, upto=0)
    refused(alice.ask(m.PutBlob, direct, blob, 0, data + b"?"), "wrong-number")
    upload(alice, direct, data, blob)


def test_of_two_who_know_its_id_only_the_first_has_it(enter: Enter) -> None:
    alice, bob, direct = chat(enter)
    data = bytes_of()
    blob = upload(alice, direct, data)
    refused(begin(bob, direct, blob, data), "bad-request")
    refused(begin(alice, direct, blob, bytes_of(200_000)), "bad-request")
    refused(bob.ask(m.DropBlob, direct, blob), "not-allowed")
    assert download(bob, direct, blob) == data


def test_a_stranger_gets_and_leaves_nothing(enter: Enter) -> None:
    alice, bob, direct = chat(enter)
    carol = enter("carol")
    data = bytes_of()
    blob = upload(alice, direct, data)
    refused(fetch(carol, direct, blob), "not-found")
    refused(begin(carol, direct, os.urandom(16), data), "not-found")
    refused(carol.ask(m.DropBlob, direct, blob), "not-found")
    room = carol.open_room("#mine")
    assert isinstance(room, m.Done)
    mine = next(iter(carol.groups))
    refused(fetch(carol, mine, blob), "gone")  # nor under the name of a conversation that she is in
    assert download(bob, direct, blob) == data


def test_who_was_removed_fetches_what_they_can_read_and_nothing_later(enter: Enter) -> None:
    alice, bob, room = den(enter)
    before = upload(alice, room, data := bytes_of())
    assert isinstance(alice.change(room, Remove(LeafIndex(1))), m.Accepted)
    after = upload(alice, room, bytes_of())
    assert download(bob, room, before) == data
    refused(fetch(bob, room, after), "gone")
    refused(fetch(bob, room, os.urandom(16)), "gone")  # the same answer as where there is none
    refused(begin(bob, room, os.urandom(16), data), "not-found")


def test_who_is_removed_during_an_upload_does_not_finish_it(enter: Enter, server: MemoryServer) -> None:
    alice, bob, room = den(enter)
    data = bytes_of()
    blob = upload(bob, room, data, upto=PART)
    assert isinstance(alice.change(room, Remove(LeafIndex(1))), m.Accepted)
    refused(put(bob, room, blob, data, PART), "not-found")
    refused(fetch(alice, room, blob), "not-now")
    server.now += UNFINISHED_SECONDS * 1000
    server.tidy()
    server.sweep_blobs()
    assert files_in(server) == []


def test_the_same_device_under_another_account_gets_nothing(enter: Enter, server: MemoryServer) -> None:
    alice, _bob, direct = chat(enter)
    blob = upload(alice, direct, bytes_of())
    alice.drop()
    mallory = Person(server, "mallory")
    mallory.device = alice.device
    mallory.register()
    refused(mallory.ask(m.Login, "mallory", mallory.secret, mallory.device), "not-allowed")
    del blob


def test_lengths_that_no_padded_file_has_are_refused(enter: Enter) -> None:
    alice, _, direct = chat(enter)
    for size in (limits.MIN_BLOB + 1, blob_length(100_000) - 1, blob_length(100_000) + 1, 70_000):
        assert not is_blob_length(size)
        refused(alice.ask(m.StartBlob, direct, os.urandom(16), size), "bad-request")


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 65_535, 65_536, 65_537, 10**6, 2**30, 2**40])
def test_every_padded_length_is_one(size: int) -> None:
    assert is_blob_length(blob_length(size))
    assert padme(padded(size)) == padded(size) >= size
    assert padded(size) <= max(4096, size * 1.12)
    assert blob_length(size) <= limits.MAX_BLOB
    assert blob_length(0) == limits.MIN_BLOB


def test_full_over_and_too_many_are_refusals_of_their_own(start: Callable[..., MemoryServer]) -> None:
    unit = blob_length(65_536)
    server = start(blob_bytes_per_account=3 * unit, blob_bytes=5 * unit)
    alice, bob, direct = chat(lambda name: Person(server, name).register().login())
    refused(alice.ask(m.StartBlob, direct, os.urandom(16), blob_length(5 * 65_536)), "too-large")
    first, *_ = [upload(alice, direct, bytes_of(65_536)) for _ in range(3)]
    refused(alice.ask(m.StartBlob, direct, os.urandom(16), unit), "quota")
    for _ in range(3):  # what has only been begun counts as a whole in the account's share
        assert isinstance(bob.ask(m.StartBlob, direct, os.urandom(16), unit), m.BlobState)
    refused(bob.ask(m.StartBlob, direct, os.urandom(16), unit), "quota")
    assert isinstance(alice.ask(m.DropBlob, direct, first), m.Done)
    refused(fetch(bob, direct, first), "gone")
    assert isinstance(alice.ask(m.DropBlob, direct, first), m.Done)
    assert isinstance(alice.ask(m.StartBlob, direct, os.urandom(16), unit), m.BlobState)


def test_what_others_have_only_begun_takes_nobodys_room(start: Callable[..., MemoryServer]) -> None:
    unit = blob_length(65_536)
    server = start(blob_bytes_per_account=4 * unit, blob_bytes=5 * unit)
    alice, bob, direct = chat(lambda name: Person(server, name).register().login())
    data = bytes_of(65_536)
    claims = [begin_new(alice, direct, data) for _ in range(4)]
    for _ in range(4):
        upload(bob, direct, data)
    assert server.files.held == 4 * unit
    upload(alice, direct, data, claims[0])  # the last room that there is goes to whoever sends first
    refused(put(alice, direct, claims[1], data, 0), "disk-full")
    assert server.files.held == server.transfers.most
    refused(put(alice, direct, claims[1], data, 0), "not-now")  # as after all that was not written


def test_an_upload_goes_on_once_there_is_room_for_all_again(start: Callable[..., MemoryServer]) -> None:
    unit = blob_length(65_536)
    server = start(blob_bytes_per_account=4 * unit, blob_bytes=4 * unit)
    alice, bob, direct = chat(lambda name: Person(server, name).register().login())
    data, large = bytes_of(65_536), bytes_of(2 * 65_536)
    waiting = upload(alice, direct, large, upto=PART)
    first, *_ = [upload(bob, direct, data) for _ in range(3)]
    reply = put(alice, direct, waiting, large, PART)
    refused(reply, "disk-full")
    assert reply.retry_after == RETRY_SECONDS * 1000
    refused(alice.ask(m.StartBlob, direct, os.urandom(16), unit), "disk-full")  # nor is a new one begun for nothing
    state = begin(alice, direct, waiting, large)
    assert isinstance(state, m.BlobState)
    assert state.offset == PART
    refused(put(alice, direct, waiting, large, PART), "disk-full")
    assert isinstance(bob.ask(m.DropBlob, direct, first), m.Done)
    server.sweep_blobs()
    upload(alice, direct, large, waiting)
    assert download(bob, direct, waiting) == large


def test_a_disk_that_others_have_filled_takes_no_more_of_what_was_begun(start: Callable[..., MemoryServer]) -> None:
    server = start()
    alice, bob, direct = chat(lambda name: Person(server, name).register().login())
    data = bytes_of(200_000)
    blob = upload(alice, direct, data, upto=PART)
    free, server.free = server.free, int(server.space.floor * 1.5)
    refused(put(alice, direct, blob, data, PART), "disk-full")
    assert isinstance(alice.say(direct, "but we can talk"), m.Accepted)
    server.free = free
    upload(alice, direct, data, blob)
    assert download(bob, direct, blob) == data


def begin_new(person: Person, conversation: bytes, data: bytes) -> bytes:
    blob = os.urandom(16)
    assert isinstance(begin(person, conversation, blob, data), m.BlobState)
    return blob


def test_a_nearly_full_disk_takes_no_files_while_people_go_on_talking(start: Callable[..., MemoryServer]) -> None:
    server = start()
    alice, bob, direct = chat(lambda name: Person(server, name).register().login())
    server.free = int(server.space.floor * 1.5)
    refused(alice.ask(m.StartBlob, direct, os.urandom(16), blob_length(1)), "disk-full")
    assert isinstance(alice.say(direct, "but we can talk"), m.Accepted)
    bob.subscribe(direct)
    assert bob.read(direct)[0][1] == "but we can talk"


def test_uploads_that_are_begun_and_not_finished_are_bounded_and_expire(enter: Enter, server: MemoryServer) -> None:
    alice, _, direct = chat(enter)
    for _ in range(UNFINISHED):
        assert isinstance(alice.ask(m.StartBlob, direct, os.urandom(16), blob_length(1)), m.BlobState)
    refused(alice.ask(m.StartBlob, direct, os.urandom(16), blob_length(1)), "quota")
    server.now += UNFINISHED_SECONDS * 1000
    server.tidy()
    assert server.store.blobs.held("alice") == (0, 0)
    assert isinstance(alice.ask(m.StartBlob, direct, os.urandom(16), blob_length(1)), m.BlobState)


def test_the_rate_of_uploads_and_of_bytes_is_refused_with_a_time(start: Callable[..., MemoryServer]) -> None:
    server = start(uploads_per_account=Rate(2, 0.1), transfers_per_account=Rate(100, 1))
    alice, _, direct = chat(lambda name: Person(server, name).register().login())
    data = bytes_of(200_000)
    blob = upload(alice, direct, data, upto=PART)
    reply = put(alice, direct, blob, data, PART)
    refused(reply, "slow-down")
    assert reply.retry_after == pytest.approx(28_000, abs=100)
    refused(fetch(alice, direct, blob), "slow-down")
    upload(alice, direct, data, upto=0)
    refused(start_anew(alice, direct), "slow-down")


def test_a_small_part_of_a_file_counts_like_one_of_sixteen_kib(start: Callable[..., MemoryServer]) -> None:
    server = start(transfers_per_account=Rate(3 * 16, 0.1))
    alice, _, direct = chat(lambda name: Person(server, name).register().login())
    blob = upload(alice, direct, bytes_of(20))  # one part
    for _ in range(2):
        assert isinstance(fetch(alice, direct, blob, 0, 100), m.BlobBytes)
    reply = fetch(alice, direct, blob, 0, 100)
    refused(reply, "slow-down")
    assert reply.retry_after == pytest.approx(160_000, abs=15_000)


def start_anew(person: Person, conversation: bytes) -> object:
    return person.ask(m.StartBlob, conversation, os.urandom(16), blob_length(1))


def test_a_blob_expires_while_it_is_fetched(enter: Enter, server: MemoryServer) -> None:
    alice, bob, direct = chat(enter)
    data = bytes_of()
    blob = upload(alice, direct, data)
    state = begin(alice, direct, blob, data)
    assert isinstance(fetch(bob, direct, blob), m.BlobBytes)
    server.now = state.expires
    refused(fetch(bob, direct, blob, PART), "gone")  # to the minute, whenever it is swept
    refused(begin(alice, direct, blob, data), "gone")
    server.tidy()
    server.sweep_blobs()
    assert files_in(server) == []
    assert server.store.blobs.held("alice") == (0, 0)


def test_nobody_gets_what_an_account_has_sent_while_it_is_disabled(enter: Enter, server: MemoryServer) -> None:
    alice, bob, direct = chat(enter)
    blob = upload(alice, direct, data := bytes_of())
    server.accounts.set_enabled("alice", enabled=False).result()
    refused(fetch(bob, direct, blob), "gone")
    server.accounts.set_enabled("alice", enabled=True).result()
    assert download(bob, direct, blob) == data


def test_a_server_that_takes_no_files_says_so(start: Callable[..., MemoryServer]) -> None:
    server = start(blob_bytes_per_account=0)
    alice, _, direct = chat(lambda name: Person(server, name).register().login())
    refused(alice.ask(m.StartBlob, direct, os.urandom(16), blob_length(1)), "not-allowed")


def test_what_is_dropped_deleted_or_left_behind_leaves_nothing_on_the_disk(
    enter: Enter, server: MemoryServer
) -> None:
    alice, bob, direct = chat(enter)
    carol = enter("carol")
    carol.open_room("#den")
    room = next(iter(carol.groups))
    kept = upload(bob, direct, data := bytes_of())
    dropped = upload(bob, direct, bytes_of())
    upload(alice, direct, bytes_of())
    upload(alice, direct, bytes_of(), upto=PART)
    upload(carol, room, bytes_of())
    assert len(files_in(server)) == 5
    bob.ask(m.DropBlob, direct, dropped)
    server.sequencer.operate(ForgetAccount("alice", lambda _: None))
    server.sequencer.operate(DeleteRoom("#den", lambda _: None))
    server.run()
    server.tidy()
    server.sweep_blobs()
    assert files_in(server) == [data]
    assert server.files.held == len(data)
    assert download(bob, direct, kept) == data
    assert server.store.blobs.dropped(10) == []


def test_an_id_can_be_used_again_once_its_file_is_gone(enter: Enter, server: MemoryServer) -> None:
    alice, bob, direct = chat(enter)
    blob = upload(alice, direct, bytes_of())
    alice.ask(m.DropBlob, direct, blob)
    refused(begin(alice, direct, blob, data := bytes_of(0)), "busy")
    server.sweep_blobs()
    upload(alice, direct, data, blob)
    assert download(bob, direct, blob) == data


def test_an_account_that_is_forgotten_during_an_upload_leaves_nothing(enter: Enter, server: MemoryServer) -> None:
    alice, _, direct = chat(enter)
    data = bytes_of()
    blob = upload(alice, direct, data, upto=PART)
    session = alice.link._handler._session
    server.sequencer.operate(ForgetAccount("alice", lambda _: None))
    alice.link._handler._desk.transfers.put(session, m.PutBlob(9, direct, blob, PART, b"late"))
    server.run()
    server.tidy()
    server.sweep_blobs()
    assert files_in(server) == []
    assert server.transfers.uploads == 0


def test_a_folder_that_is_newer_or_older_than_the_store_is_swept(enter: Enter, server: MemoryServer) -> None:
    alice, bob, direct = chat(enter)
    lost, cut, kept = [upload(alice, direct, bytes_of()) for _ in range(3)]
    half = upload(alice, direct, bytes_of(), upto=PART)
    paths = {blob: server.files._path(server.store.blobs.find(direct, blob).file) for blob in (lost, cut, kept, half)}  # type: ignore[union-attr]  # there
    paths[lost].unlink()
    os.truncate(paths[cut], 100)
    strange = paths[kept].with_name(paths[kept].name[:-2] + ("00" if paths[kept].name[-2:] != "00" else "01"))
    strange.write_bytes(b"of a later time")
    someones = paths[kept].with_name("README")
    someones.write_text("not ours")
    server.sweep_blobs()
    server.sweep_blobs()  # what was dropped by the first
    assert not strange.exists()
    assert someones.exists()  # only what has a name of ours is ours
    assert not paths[cut].exists()
    for gone in (lost, cut):
        refused(fetch(bob, direct, gone), "gone")
    assert paths[half].exists()
    assert server.files.held == sum(map(len, files_in(server))) - len("not ours")
    download(bob, direct, kept)


def test_bytes_that_are_missing_are_noticed_when_they_are_asked_for(enter: Enter, server: MemoryServer) -> None:
    alice, bob, direct = chat(enter)
    data = bytes_of()
    blob = upload(alice, direct, data)
    found = server.store.blobs.find(direct, blob)
    assert found is not None
    server.files._path(found.file).unlink()
    refused(fetch(bob, direct, blob), "gone")
    assert server.store.blobs.find(direct, blob) is None
    server.sweep_blobs()
    upload(alice, direct, data, blob)  # who still has it may bring it again
    assert download(bob, direct, blob) == data


def test_an_upload_whose_beginning_is_lost_begins_again(enter: Enter, server: MemoryServer) -> None:
    alice, bob, direct = chat(enter)
    data = bytes_of(200_000)
    blob = upload(alice, direct, data, upto=2 * PART)
    found = server.store.blobs.find(direct, blob)
    assert found is not None
    os.truncate(server.files._path(found.file), 10)
    refused(put(alice, direct, blob, data, 2 * PART), "busy")
    server.sweep_blobs()
    upload(alice, direct, data, blob)
    assert download(bob, direct, blob) == data


def test_no_more_parts_at_once_than_the_window(enter: Enter, server: MemoryServer) -> None:
    alice, bob, direct = chat(enter)
    data = bytes_of(10 * limits.MAX_BLOB_PART)
    blob = upload(alice, direct, data, upto=0)
    server._moves.slow = True
    before = alice.protocol.in_flight
    ids = [alice.protocol.next_id() for _ in range(limits.BLOB_WINDOW + 1)]
    for number, request in enumerate(ids):
        offset = number * limits.MAX_BLOB_PART
        alice.send(m.PutBlob(request, direct, blob, offset, data[offset : offset + limits.MAX_BLOB_PART]))
    refused(alice.take(m.Refused), "busy")
    assert alice.protocol.in_flight == before + limits.BLOB_WINDOW
    server._moves.slow = False
    server._moves.finish()
    server.run()
    states = [alice.take(m.BlobState) for _ in range(limits.BLOB_WINDOW)]
    assert [each.offset for each in states] == [(n + 1) * limits.MAX_BLOB_PART for n in range(limits.BLOB_WINDOW)]
    upload(alice, direct, data, blob)

    server._moves.slow = True
    for number in range(limits.BLOB_WINDOW + 1):
        offset = number * limits.MAX_BLOB_PART
        bob.send(m.FetchBlob(bob.protocol.next_id(), direct, blob, offset, limits.MAX_BLOB_PART))
    refused(bob.take(m.Refused), "busy")
    server._moves.slow = False
    server._moves.finish()
    server.run()
    parts = [bob.take(m.BlobBytes).data for _ in range(limits.BLOB_WINDOW)]
    assert b"".join(parts) == data[: limits.BLOB_WINDOW * limits.MAX_BLOB_PART]


def test_a_disk_that_fills_up_during_an_upload_costs_no_byte_of_it(
    enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, direct = chat(enter)
    data = bytes_of(200_000)
    blob = upload(alice, direct, data, upto=PART)
    with monkeypatch.context() as patched:
        patched.setattr("securechat.server.blobs.folder._write", no_room)
        refused(put(alice, direct, blob, data, PART), "disk-full")
    refused(put(alice, direct, blob, data, PART), "not-now")  # it has to ask first how far it is
    state = begin(alice, direct, blob, data)
    assert isinstance(state, m.BlobState)
    assert state.offset == PART
    upload(alice, direct, data, blob)
    assert download(bob, direct, blob) == data


def no_room(descriptor: int, data: bytes) -> None:
    os.write(descriptor, data[: len(data) // 2])
    raise OSError(28, "No space left on device")


def test_what_was_written_and_told_to_nobody_is_written_again(enter: Enter, server: MemoryServer) -> None:
    """Killed between the bytes and the answer, or before the row: the client hears how far it has come."""
    alice, bob, direct = chat(enter)
    data = bytes_of(100_000)
    blob = upload(alice, direct, data, upto=PART)
    found = server.store.blobs.find(direct, blob)
    assert found is not None
    server.files.append(found.file, PART, [data[PART :]])  # whole, and not noted
    state = begin(alice, direct, blob, data)
    assert isinstance(state, m.BlobState)
    assert state.offset == len(data)
    assert download(bob, direct, blob) == data


def test_the_folder_keeps_no_name_that_a_client_has_chosen(enter: Enter, server: MemoryServer) -> None:
    alice, _, direct = chat(enter)
    blob = upload(alice, direct, bytes_of())
    names = "".join(str(path) for path in Path(server.files._folder).rglob("*"))
    assert blob.hex() not in names
    assert direct.hex() not in names


def test_a_damaged_folder_is_told_and_ends_nothing(
    enter: Enter, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, direct = chat(enter)
    data = bytes_of(200_000)
    blob = upload(alice, direct, data)

    def broken(*_: object) -> bytes:
        raise StorageError("cannot use it: Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(server.files, "read", broken)
        refused(fetch(bob, direct, blob), "disk-full")
    assert download(bob, direct, blob) == data
