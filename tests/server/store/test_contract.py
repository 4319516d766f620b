"""What every store does: the tests that a second one has to pass as well (`tests.support.stores.STORES`)."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from msgspec import structs

from securechat.server.store.port import Store
from securechat.server.store.records import (
    INBOX_ENTRIES,
    KEPT_BYTES,
    KEPT_SECONDS,
    LEAP_ENTRIES,
    READER_ENTRIES,
    READER_SECONDS,
    Checkpoint,
    Departed,
    Device,
    Head,
    InboxEntry,
    LogEntry,
    Membership,
    Numbers,
    RoomRow,
    pack_answer,
)
from securechat.wire.chain import CHAIN_START
from tests.support.stores import ALICE, BOB, DIRECT, NOW, ROOM, entries_for, make, read, same, set_cursors, tidy, write

Open = Callable[[], Store]


def test_what_was_committed_is_there_after_a_crash_and_the_rest_is_not(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    write(store, head, 3)
    store.logs.append(head, [LogEntry(4, NOW, ALICE, 4, 7, bytes(32), b"never committed")])
    server_id, site_key = store.server_id, store.site_keys[0]
    store = reopen()
    assert (store.server_id, store.site_keys[0].public) == (server_id, site_key.public)
    assert store.site_keys[0].sign(b"word") == site_key.sign(b"word")
    assert read(store) == [1, 2, 3]
    assert same(store.conversations.load(ROOM), head)


def test_rollback_forgets_all_of_it(store: Store) -> None:
    head = make(store)
    write(store, head, 1)
    store.logs.append(head, [LogEntry(2, NOW, ALICE, 2, 7, bytes(32), b"x")])
    other = Head(DIRECT, "direct", "", 0, NOW, 0, CHAIN_START, b"")
    store.conversations.create(other, ("a", "b"), b"")
    store.rollback()
    assert read(store) == [1]
    assert store.conversations.load(DIRECT) is None
    assert store.conversations.pair(("a", "b")) is None
    write(store, head, 1)
    assert read(store) == [1, 2]


def test_a_log_is_read_from_anywhere_and_within_limits(store: Store) -> None:
    head, other = make(store), make(store, DIRECT)
    write(store, head, 130, run=64)
    write(store, other, 3, run=2)
    assert read(store) == [*range(1, 131)]
    assert read(store, after=70) == [*range(71, 131)]
    assert read(store, DIRECT, after=1) == [2, 3]
    assert [entry.seq for entry in store.logs.read(ROOM, 3, 6, 256, 1 << 20)] == [4, 5, 6]
    assert [entry.seq for entry in store.logs.read(ROOM, 3, 80, 2, 1 << 20)] == [4, 5]
    assert [entry.seq for entry in store.logs.read(ROOM, 3, 80, 256, 1)] == [4]


def test_entries_go_when_every_member_has_them(store: Store) -> None:
    head = make(store)
    write(store, head, 10)
    store.logs.set_cursors([(ROOM, ALICE, 10), (ROOM, BOB, 4)])
    store.commit()
    assert tidy(store, NOW + 60_000) == {ROOM: 5}
    assert read(store) == [5, 6, 7, 8, 9, 10]
    store.logs.set_cursors([(ROOM, BOB, 10)])
    store.commit()
    assert tidy(store, NOW + 60_000) == {ROOM: 11}
    assert read(store) == []
    write(store, head, 1)
    assert read(store) == [11]


def test_a_departed_device_holds_entries_until_its_last_one(store: Store) -> None:
    head = make(store)
    write(store, head, 10)
    store.conversations.put_members(ROOM, [Membership(BOB, "b", 0, CHAIN_START, 6, 2)])
    store.logs.set_cursors([(ROOM, ALICE, 10)])
    store.commit()
    assert tidy(store, NOW + 60_000) == {ROOM: 3}
    store.logs.set_cursors([(ROOM, BOB, 6)])
    store.commit()
    assert tidy(store, NOW + 60_000) == {ROOM: 11}


def test_nobody_absent_can_fill_a_room(store: Store) -> None:
    head = make(store)
    store.logs.set_cursors([(ROOM, ALICE, 1 << 40)])
    write(store, head, 20, run=10)
    chain = head.chain
    write(store, head, READER_ENTRIES, run=10)
    assert tidy(store, NOW + 60_000) == {ROOM: 21}
    loaded = store.conversations.load(ROOM)
    assert loaded is not None
    assert loaded.members[BOB].cursor == 0  # handshakes are kept for it
    assert len(read(store)) == READER_ENTRIES
    (first,) = store.logs.read(ROOM, 0, 100, 1, 1)
    assert (first.seq, first.before) == (21, chain)


def test_nobody_absent_keeps_old_entries_of_a_room(store: Store) -> None:
    head = make(store)
    write(store, head, 5)
    write(store, head, 5, time=NOW + 86_400_000)
    later = NOW + READER_SECONDS * 1000 + 1000
    assert tidy(store, later) == {ROOM: 6}
    assert read(store) == [6, 7, 8, 9, 10]


def test_a_direct_conversation_gives_up_nothing(store: Store) -> None:
    head = make(store, DIRECT)
    write(store, head, READER_ENTRIES + 20, run=20)
    tidy(store, NOW + READER_SECONDS * 2000)
    assert len(read(store, DIRECT)) == READER_ENTRIES + 20
    size, first = store.logs.measure(DIRECT, 20)
    assert 10 * READER_ENTRIES <= size <= 10 * (READER_ENTRIES + 20)  # a few before them may be counted too
    assert first == NOW
    write(store, head, 1, time=NOW + 5)
    assert store.logs.measure(DIRECT, READER_ENTRIES + 20) == (10, NOW + 5)
    assert store.logs.measure(DIRECT, READER_ENTRIES + 21) == (0, 0)


def test_a_key_package_that_was_handed_out_stays_gone(reopen: Open) -> None:
    store = reopen()
    store.directory.put_device(Device(ALICE, "alice", b"certificate"), b"identity")
    store.directory.put_key_packages(ALICE, [b"one", b"two"], b"last")
    assert store.directory.take_key_package(ALICE) == b"one"
    store.commit()
    store = reopen()
    assert [store.directory.take_key_package(ALICE) for _ in range(3)] == [b"two", b"last", b"last"]
    store.directory.put_key_packages(ALICE, [], b"new last")
    assert store.directory.take_key_package(ALICE) == b"new last"
    assert store.directory.count_key_packages(ALICE) == 0
    store.directory.drop_devices([ALICE])
    assert store.directory.take_key_package(ALICE) is None
    assert store.directory.devices("alice") == []
    assert store.directory.identity_key("alice") == b"identity"


def test_a_head_that_was_given_with_entries_does_not_outlive_a_rollback(store: Store) -> None:
    head = make(store)
    write(store, head, 3)
    committed = store.conversations.load(ROOM)
    entries_for(head, 5)  # the head moves on, in a turn that comes to nothing
    head.members[BOB].cursor = 8
    store.rollback()
    tidy(store, NOW + 60_000)
    assert committed is not None
    assert same(store.conversations.load(ROOM), committed)
    assert read(store) == [1, 2, 3]


@pytest.mark.parametrize("portions", [1, 2, 3, 100])
def test_tidying_changes_nothing_for_readers(reopen: Open, portions: int) -> None:
    store = reopen()
    head, other = make(store), make(store, DIRECT)
    write(store, head, 700, run=7)
    write(store, other, 300, run=50)
    for _ in range(portions):
        store.tidy(NOW + 60_000)
    assert read(store) == [*range(1, 701)]
    write(store, head, 5)
    store = reopen()
    assert read(store) == [*range(1, 706)]
    assert read(store, DIRECT, after=200) == [*range(201, 301)]
    assert same(store.conversations.load(ROOM), head)
    assert same(store.conversations.load(DIRECT), other)


def test_what_was_written_before_tidying_is_committed_with_it(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    write(store, head, 5)
    store.logs.set_cursors([(ROOM, ALICE, 4)])
    store.directory.put_device(Device(ALICE, "alice", b"certificate"), b"identity")
    store.tidy(NOW)
    write(store, head, 1)
    store = reopen()
    loaded = store.conversations.load(ROOM)
    assert loaded is not None
    assert loaded.members[ALICE].cursor == 4
    assert store.directory.device(ALICE) == Device(ALICE, "alice", b"certificate")


def test_an_older_cursor_changes_nothing(store: Store) -> None:
    head = make(store)
    write(store, head, 5)
    for cursor in (4, 2):
        store.logs.set_cursors([(ROOM, ALICE, cursor), (b"no conversation".ljust(32), ALICE, 1)])
        store.commit()
    loaded = store.conversations.load(ROOM)
    assert loaded is not None
    assert loaded.members[ALICE].cursor == 4


def test_a_deleted_conversation_leaves_nothing(reopen: Open) -> None:
    store = reopen()
    write(store, make(store), 600)
    write(store, make(store, DIRECT), 2)
    store.tidy(NOW + 60_000)
    for conversation in (ROOM, DIRECT):
        store.conversations.delete(conversation)
    store.commit()
    assert read(store) == []
    assert store.conversations.load(ROOM) is None
    assert store.conversations.room("#lobby") is None
    assert store.conversations.pair(("a", "b")) is None
    assert store.conversations.of_device(ALICE) == []
    assert store.conversations.read_group(ROOM) is None
    again = make(store)  # the name is free, and even the id
    write(store, again, 2)
    store = reopen()
    tidy(store, NOW + 60_000)
    assert read(store) == [1, 2]
    assert same(store.conversations.load(ROOM), again)


def test_deleting_an_old_direct_conversation_leaves_the_new_one_of_the_pair(store: Store) -> None:
    old, new = make(store, DIRECT), Head(b"N" * 32, "direct", "", 0, NOW, 0, CHAIN_START, b"i")
    store.conversations.create(new, ("a", "b"), b"snapshot")
    store.conversations.delete(old.id)
    store.commit()
    assert store.conversations.pair(("a", "b")) == new.id


def test_rooms_are_listed_for_whoever_may_see_them(store: Store) -> None:
    make(store)
    invited = Head(b"T" * 32, "invite", "#team", 0, NOW, 0, CHAIN_START, b"i")
    invited.members[BOB] = Membership(BOB, "b", 0, CHAIN_START, None, 0)
    store.conversations.create(invited, None, b"snapshot")
    store.conversations.put_members(ROOM, [Membership(BOB, "b", 0, CHAIN_START, 0, 0)])  # departed
    make(store, DIRECT)
    store.commit()
    lobby = RoomRow("#lobby", "open", 1, joined=True)
    assert store.conversations.rooms(ALICE) == [lobby]
    assert store.conversations.rooms(BOB) == [replace(lobby, joined=False), RoomRow("#team", "invite", 1, joined=True)]
    assert store.conversations.room("#team") == invited.id
    assert store.conversations.of_device(BOB) == [invited.id, DIRECT]


def test_a_room_moves_to_another_name_in_one_transaction(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    head.name, head.topic, head.owner_time = "#hall", "tea", NOW
    store.conversations.save_room(head)
    assert store.conversations.room("#hall") == ROOM
    store.rollback()
    assert store.conversations.room("#lobby") == ROOM
    assert store.conversations.room("#hall") is None
    store.conversations.save_room(head)
    other = Head(b"T" * 32, "open", "#lobby", 0, NOW, 0, CHAIN_START, b"i", topic="coffee", owner_time=NOW)
    store.conversations.create(other, None, b"snapshot")  # the old name is free at once
    store.commit()
    store = reopen()
    assert same(store.conversations.load(ROOM), head)
    assert same(store.conversations.load(other.id), other)
    rows = [
        RoomRow("#hall", "open", 2, joined=True, topic="tea"),
        RoomRow("#lobby", "open", 0, joined=False, topic="coffee"),
    ]
    assert store.conversations.rooms(ALICE) == rows
    head.name = ""  # and a room without a name is nowhere to be found
    store.conversations.save_room(head)
    store.commit()
    assert store.conversations.rooms(ALICE) == rows[1:]
    assert store.conversations.load(ROOM) is not None


def test_a_group_is_a_snapshot_and_the_commits_since(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    for snapshot in (None, None, b"newer", None):
        (entry,) = entries_for(head, 1, time=NOW + head.seq)
        store.logs.append(head, [entry])
        head.group_info = b"info %d" % head.seq
        store.conversations.save_commit(head, entry, snapshot)
        store.commit()
        if head.seq == 2:
            commits = [(NOW, b"1".ljust(10)), (NOW + 1, b"2".ljust(10))]
            assert store.conversations.read_group(ROOM) == (b"snapshot", commits)
    store = reopen()
    assert store.conversations.read_group(ROOM) == (b"newer", [(NOW + 3, b"4".ljust(10))])
    assert same(store.conversations.load(ROOM), head)


def commit(store: Store, head: Head, *, time: int = NOW, size: int = 10, snapshot: bytes | None = None) -> None:
    """Add a commit."""
    (entry,) = entries_for(head, 1, time=time, size=size)
    entry = structs.replace(entry, group_info=b"info")
    store.logs.append(head, [entry])
    store.conversations.save_commit(head, entry, snapshot)
    store.commit()


def handshakes(store: Store, after: int = 0, *, entries: int = 100, size: int = 1 << 30) -> list[int]:
    return [entry.seq for entry in store.logs.read_handshakes(ROOM, after, 1 << 40, entries, size)]


def test_handshakes_outlive_the_messages_around_them(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    for _ in range(4):
        commit(store, head)
        write(store, head, 1)
    (departure,) = entries_for(head, 1)
    store.logs.append(head, [departure])
    store.conversations.save_handshake(ROOM, departure)
    store.commit()
    set_cursors(store, head, 9)
    tidy(store, NOW + 60_000)
    store = reopen()
    assert read(store) == []
    assert handshakes(store) == [1, 3, 5, 7, 9]  # the group is rebuilt from its commits
    assert handshakes(store, 3) == [5, 7, 9]
    assert handshakes(store, entries=2) == [1, 3]
    assert handshakes(store, size=1) == [1]
    assert [entry.seq for entry in store.logs.read_handshakes(ROOM, 1, 6, 100, 1 << 20)] == [3, 5]
    (last,) = store.logs.read_handshakes(ROOM, 7, 9, 100, 1 << 20)
    assert last == departure
    (first,) = store.logs.read_handshakes(ROOM, 0, 1, 100, 1 << 20)
    assert (first.group_info, first.chain) != (b"", b"")
    found = store.conversations.read_group(ROOM)
    assert found is not None
    assert [payload.strip() for _, payload in found[1]] == [b"1", b"3", b"5", b"7"]


def test_handshakes_are_kept_for_the_slowest_reader_and_for_the_group(store: Store) -> None:
    head = make(store)
    for seq in range(1, 8):
        commit(store, head, snapshot=b"snapshot" if seq == 5 else None)
    store.logs.set_cursors([(ROOM, ALICE, 7), (ROOM, BOB, 2)])
    store.commit()
    tidy(store, NOW + 60_000)
    assert handshakes(store) == [3, 4, 5, 6, 7]
    set_cursors(store, head, 7)
    commit(store, head)  # a new one lets the others be looked through
    tidy(store, NOW + 60_000)
    assert handshakes(store) == [6, 7, 8]
    store.conversations.put_members(ROOM, [Membership(BOB, "b", 0, CHAIN_START, 8, 7)])
    assert store.conversations.read_group(ROOM) == (b"snapshot", [(NOW, str(n).encode().ljust(10)) for n in (6, 7, 8)])


def checkpoint(account: str, seq: int) -> Checkpoint:
    return Checkpoint(account, seq, NOW, bytes(32), b"info %d" % seq, b"tree", ((b"proposal", b"context"),))


def test_the_newest_checkpoint_of_each_of_four_accounts_is_kept(reopen: Open) -> None:
    store = reopen()
    make(store)
    make(store, DIRECT)
    for seq, account in enumerate("abcade", 1):
        store.conversations.put_checkpoint(ROOM, checkpoint(account, seq))
    store.conversations.put_checkpoint(DIRECT, checkpoint("a", 7))
    store.commit()
    store = reopen()
    kept = [checkpoint(account, seq) for account, seq in (("e", 6), ("d", 5), ("a", 4), ("c", 3))]
    assert store.conversations.read_checkpoints(ROOM) == kept
    assert store.conversations.read_checkpoints(DIRECT) == [checkpoint("a", 7)]
    assert store.conversations.read_checkpoints(b"no conversation".ljust(32)) == []
    store.conversations.delete(ROOM)
    store.commit()
    assert store.conversations.read_checkpoints(ROOM) == []


def test_handshakes_that_lead_on_from_a_checkpoint_are_kept_within_their_limits(store: Store) -> None:
    head = make(store)
    for seq in range(1, 7):
        commit(store, head, snapshot=b"snapshot" if seq == 6 else None)
        if seq in (2, 4):
            store.conversations.put_checkpoint(ROOM, checkpoint(f"owner {seq}", seq))
    set_cursors(store, head, 6)
    tidy(store, NOW + 60_000)
    assert handshakes(store) == [3, 4, 5, 6]
    tidy(store, NOW + KEPT_SECONDS * 1000 + 1)
    assert handshakes(store) == []
    assert store.conversations.read_checkpoints(ROOM) == []  # nothing leads on from there any more


def test_nobody_absent_keeps_handshakes_past_half_a_year_or_32_mib(store: Store) -> None:
    head = make(store)
    set_cursors(store, head, 1000, [ALICE])
    day = 86_400_000
    for n in range(4):
        commit(store, head, time=NOW + n * day)
    commit(store, head, time=NOW + 4 * day, snapshot=b"snapshot")
    later = NOW + KEPT_SECONDS * 1000 + 2 * day
    tidy(store, later)
    assert handshakes(store) == [3, 4, 5]
    for _ in range(3):
        commit(store, head, time=later, size=KEPT_BYTES // 3)
    commit(store, head, time=later, snapshot=b"newer")
    tidy(store, later)
    assert handshakes(store) == [7, 8, 9]
    tidy(store, later + KEPT_SECONDS * 2000)
    assert handshakes(store) == []
    assert store.conversations.read_group(ROOM) == (b"newer", [])


def test_departures_are_remembered_until_the_tree_has_dropped_them(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    for device, leaf in ((ALICE, 0), (BOB, 1)):
        head.departed[device] = Departed(device, leaf, b"proposal", b"context")
        store.conversations.put_departed(ROOM, head.departed[device])
    store.conversations.drop_departed(ROOM, [ALICE])
    store.commit()
    del head.departed[ALICE]
    assert same(reopen().conversations.load(ROOM), head)


def test_a_new_site_key_is_kept_beside_the_old_ones(reopen: Open) -> None:
    store = reopen()
    (first,) = store.site_keys
    store.change_site_key()
    store.rollback()
    assert [key.public for key in store.site_keys] == [first.public]
    store.change_site_key()
    store.change_site_key()
    store.commit()
    keys = [key.public for key in store.site_keys]
    assert keys[2:] == [first.public]
    assert len(set(keys)) == 3
    assert [key.public for key in reopen().site_keys] == keys


def test_words_of_the_operator_wait_until_they_are_carried_out(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    for seq in (2, 5, 3):
        store.conversations.put_word(ROOM, seq, b"word")
    store.conversations.drop_words(ROOM, [2])
    store.commit()
    head.words = {3: b"word", 5: b"word"}
    loaded = reopen().conversations.load(ROOM)
    assert same(loaded, head)
    assert loaded is not None
    assert list(loaded.words) == [3, 5]
    store = reopen()
    store.conversations.delete(ROOM)
    make(store)
    store.commit()
    loaded = reopen().conversations.load(ROOM)
    assert loaded is not None
    assert loaded.words == {}


def test_a_welcome_goes_to_each_inbox_and_with_its_acknowledgement(reopen: Open) -> None:
    store = reopen()
    entry = InboxEntry(0, NOW, ROOM, 3, bytes(32), b"welcome", b"tree", ((b"proposal", b"context"),))
    store.inboxes.deliver(entry, [ALICE, BOB])
    store.inboxes.deliver(entry, [BOB])
    store.commit()
    assert store.inboxes.read(ALICE, 0, 1 << 20) == [replace(entry, seq=1)]
    assert [each.seq for each in store.inboxes.read(BOB, 0, 1 << 20)] == [1, 2]
    assert [each.seq for each in store.inboxes.read(BOB, 0, 1)] == [1]
    assert [each.seq for each in store.inboxes.read(BOB, 1, 1)] == [2]
    store.inboxes.acknowledge(BOB, 2)
    store.commit()
    store = reopen()
    tidy(store, NOW)
    assert store.inboxes.read(BOB, 0, 1 << 20) == []
    assert len(store.inboxes.read(ALICE, 0, 1 << 20)) == 1
    store.inboxes.deliver(entry, [BOB])  # its numbers go on
    assert (store.inboxes.newest(BOB), store.inboxes.newest(ALICE)) == (3, 1)


def test_an_inbox_that_nobody_reads_is_bounded(store: Store) -> None:
    for n in range(INBOX_ENTRIES + 3):
        store.inboxes.deliver(InboxEntry(0, NOW, ROOM, n, bytes(32), b"w", b"t", ()), [ALICE])
    store.commit()
    assert [each.seq for each in store.inboxes.read(ALICE, 0, 1 << 20)] == [*range(4, INBOX_ENTRIES + 4)]
    tidy(store, NOW + READER_SECONDS * 1000 + 1)
    assert store.inboxes.read(ALICE, 0, 1 << 20) == []


def test_a_device_has_an_owner_while_it_is_published(store: Store) -> None:
    store.directory.put_device(Device(ALICE, "alice", b"certificate"), b"identity")
    store.directory.put_device(Device(BOB, "bob", b"another"), b"another key")
    everybody = [ALICE, BOB, b"c" * 16]
    assert store.directory.owners(everybody) == {ALICE: ("alice", b"identity"), BOB: ("bob", b"another key")}
    store.directory.put_device(Device(ALICE, "alice", b"newer"), b"new identity")
    store.directory.drop_devices([BOB])
    assert store.directory.owners(everybody) == {ALICE: ("alice", b"new identity")}
    assert store.directory.device(ALICE) == Device(ALICE, "alice", b"newer")
    assert store.directory.device(BOB) is None
    assert store.directory.identity_key("nobody") == b""


def test_only_last_resort_key_packages_can_be_kept(store: Store) -> None:
    store.directory.put_key_packages(ALICE, [b"one", b"two"], b"last")
    assert store.directory.take_key_package(ALICE, only_last_resort=True) == b"last"
    assert store.directory.count_key_packages(ALICE) == 2
    store.directory.drop_key_packages()
    assert store.directory.take_key_package(ALICE) == b"last"


def test_the_size_counts_what_is_kept(store: Store) -> None:
    head = make(store)
    write(store, head, 10)
    assert store.size()[0] == 10
    set_cursors(store, head, 6)
    tidy(store, NOW + 60_000)
    commit(store, head)
    size = store.size()
    assert size.entries == 5
    assert size.handshake_bytes == 10 + len(b"info")
    assert size.disk_bytes > 0


def test_the_log_of_a_restored_server_leaps_and_loses_nothing_that_is_left(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    write(store, head, READER_ENTRIES + 10, run=10)
    tidy(store, NOW + 60_000)
    write(store, head, 3)
    left, numbers = head.seq, head.numbers_of(ALICE).last
    for now in (NOW, NOW + 10 * LEAP_ENTRIES):  # the clock may be anywhere
        store.conversations.resume(now)
        store.commit()
        store = reopen()
        loaded = store.conversations.load(ROOM)
        assert loaded is not None
        before, head = head, loaded
        assert (head.lost_after, head.resumed) == (left, head.seq)
        assert head.seq >= before.seq + LEAP_ENTRIES
        assert head.seq >= before.seq + now - before.time
        assert (head.epoch, head.chain, head.time) == (before.epoch, before.chain, before.time)
        assert head.numbers_of(ALICE).last == numbers
    assert read(store)[-1] == left
    unread = len(read(store))
    write(store, head, 2)
    tidy(store, NOW + 60_000)
    assert read(store)[-3:] == [left, head.seq - 1, head.seq]
    assert [each.seq for each in store.logs.read(ROOM, left - 1, 1 << 40, 9, 999)] == [left]
    kept = len(read(store))
    assert READER_ENTRIES <= kept < READER_ENTRIES + 10  # whole runs
    assert store.size().entries == kept <= unread + 2
    assert store.conversations.load(ROOM).seq == head.resumed + 2  # type: ignore[union-attr]  # it is there


def test_unread_entries_are_counted_without_those_that_are_lost() -> None:
    head = Head(ROOM, "direct", "", 1_010, NOW, 7, CHAIN_START, b"", resumed=1_000, lost_after=20)
    assert [head.unread(cursor) for cursor in (0, 19, 20, 500, 1_000, 1_004, 1_010)] == [30, 11, 10, 10, 10, 6, 0]


def test_the_first_number_of_a_device_since_a_restore_may_be_any_later_one() -> None:
    head = Head(ROOM, "direct", "", 1_010, NOW, 7, CHAIN_START, b"", resumed=1_000, lost_after=20)
    head.numbers[ALICE] = Numbers(5, pack_answer(20, NOW, bytes(32), bytes(32)))
    head.follow_number(ALICE, 5)
    assert head.numbers_of(ALICE).last == 5
    head.follow_number(ALICE, 9)
    assert head.numbers_of(ALICE).last == 8
    head.record(LogEntry(1_011, NOW, ALICE, 9, 7, bytes(32), b"x"))
    assert head.numbers_of(ALICE).last == 9
    head.follow_number(ALICE, 12)  # known now
    assert head.numbers_of(ALICE).last == 9
