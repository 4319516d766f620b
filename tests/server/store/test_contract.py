"""What every store does: the tests that a second one has to pass as well (`tests.support.stores.STORES`)."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from msgspec import structs

from securechat.server.store.port import Store
from securechat.server.store.records import (
    ACKNOWLEDGED_SECONDS,
    BRANCH_SECONDS,
    KEPT_BYTES,
    KEPT_SECONDS,
    READER_ENTRIES,
    READER_SECONDS,
    ChainLink,
    Checkpoint,
    Departed,
    Device,
    Head,
    InboxEntry,
    LogEntry,
    Membership,
    Numbers,
    RoomRow,
    StoredKeepsake,
    Token,
    pack_answer,
)
from securechat.wire.chain import CHAIN_START
from securechat.wire.limits import LEAP_ENTRIES, MAX_DEVICES
from tests.support.stores import ALICE, BOB, DIRECT, NOW, ROOM, entries_for, make, read, same, set_cursors, tidy, write

Open = Callable[[], Store]


def test_what_was_committed_is_there_after_a_crash_and_the_rest_is_not(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    write(store, head, 3)
    store.logs.append(head, [LogEntry(4, NOW, ALICE, 4, 7, bytes(32), b"never committed")], "a")
    server_id, site_key = store.server_id, store.site_keys[0]
    store = reopen()
    assert (store.server_id, store.site_keys[0].public) == (server_id, site_key.public)
    assert store.site_keys[0].sign(b"word") == site_key.sign(b"word")
    assert read(store) == [1, 2, 3]
    assert same(store.conversations.load(ROOM), head)


def test_rollback_forgets_all_of_it(store: Store) -> None:
    head = make(store)
    write(store, head, 1)
    store.logs.append(head, [LogEntry(2, NOW, ALICE, 2, 7, bytes(32), b"x")], "a")
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


def test_a_direct_conversation_gives_up_nothing_for_half_a_year(store: Store) -> None:
    head = make(store, DIRECT)
    write(store, head, READER_ENTRIES + 20, run=20)
    tidy(store, NOW + KEPT_SECONDS * 1000)
    assert len(read(store, DIRECT)) == READER_ENTRIES + 20
    size, first = store.logs.measure(DIRECT, 20)
    assert 10 * READER_ENTRIES <= size <= 10 * (READER_ENTRIES + 20)  # a few before them may be counted too
    assert first == NOW
    write(store, head, 1, time=NOW + 5)
    assert store.logs.measure(DIRECT, READER_ENTRIES + 20) == (10, NOW + 5)
    assert store.logs.measure(DIRECT, READER_ENTRIES + 21) == (0, 0)


def test_what_a_lost_device_never_reads_ends_after_half_a_year(store: Store) -> None:
    head = make(store, DIRECT)
    write(store, head, 5)
    write(store, head, 5, time=NOW + 86_400_000)
    set_cursors(store, head, 10, [ALICE])
    later = NOW + KEPT_SECONDS * 1000 + 3_700_000
    assert tidy(store, later)[DIRECT] == 6
    assert read(store, DIRECT) == [6, 7, 8, 9, 10]
    tidy(store, later + 90_000_000)
    assert read(store, DIRECT) == []


def test_a_key_package_that_was_handed_out_stays_gone(reopen: Open) -> None:
    store = reopen()
    store.directory.put_device(Device(ALICE, "alice", b"certificate"), b"identity")
    store.directory.put_key_packages(ALICE, [b"one", b"two"], b"last")
    assert store.directory.take_key_package(ALICE) == b"one"
    store.commit()
    store = reopen()
    store.directory.put_key_packages(ALICE, [b"three"], b"")
    assert store.directory.key_packages(ALICE) == [b"two", b"three", b"last"]
    assert [store.directory.take_key_package(ALICE) for _ in range(4)] == [b"two", b"three", b"last", b"last"]
    store.directory.put_key_packages(ALICE, [b"four"], b"")
    store.directory.put_key_packages(ALICE, [b"five"], b"new last")
    assert store.directory.key_packages(ALICE) == [b"five", b"new last"]
    assert [store.directory.take_key_package(ALICE) for _ in range(2)] == [b"five", b"new last"]
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
        store.tidy(NOW + 60_000, NOW + 60_000)
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
    store.tidy(NOW, NOW)
    write(store, head, 1)
    store = reopen()
    loaded = store.conversations.load(ROOM)
    assert loaded is not None
    assert loaded.members[ALICE].cursor == 4
    assert store.directory.device(("alice", ALICE)) == Device(ALICE, "alice", b"certificate")


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
    store.tidy(NOW + 60_000, NOW + 60_000)
    for conversation in (ROOM, DIRECT):
        store.conversations.delete(conversation)
    store.commit()
    assert read(store) == []
    assert store.conversations.load(ROOM) is None
    assert store.conversations.room("#lobby") is None
    assert store.conversations.pair(("a", "b")) is None
    assert store.conversations.of_device(("a", ALICE)) == store.conversations.of_account("a", out=True) == []
    assert store.conversations.count_memberships("a") == 0
    assert store.conversations.rooms("a", ALICE, ("#lobby",), 9) == []
    assert store.conversations.read_group(ROOM) is None
    assert store.conversations.read_checkpoints(ROOM) == []
    assert store.logs.read_handshakes(ROOM, 0, 600, 9, 1 << 20) == []
    again = make(store)  # the name is free, and even the id
    write(store, again, 2)
    store = reopen()
    tidy(store, NOW + 60_000)
    assert read(store) == [1, 2]
    assert same(store.conversations.load(ROOM), again)


def test_members_of_a_deleted_account_are_remembered_until_they_are_dropped(reopen: Open) -> None:
    store = reopen()
    write(store, make(store), 3)
    make(store, DIRECT)
    store.conversations.put_members(ROOM, [Membership(b"c" * 16, "b", 0, CHAIN_START, 2, 0)])  # out already
    store.conversations.drop_members(ROOM, "b")
    store.rollback()
    loaded = store.conversations.load(ROOM)
    assert loaded is not None
    assert ({*loaded.members}, loaded.deleted) == ({ALICE, BOB}, {})
    store.conversations.drop_members(ROOM, "b")
    store.commit()
    store = reopen()
    loaded, other = store.conversations.load(ROOM), store.conversations.load(DIRECT)
    assert loaded is not None
    assert other is not None
    assert ({*loaded.members}, loaded.deleted) == ({ALICE}, {BOB: "b"})
    assert ({*other.members}, other.deleted) == ({ALICE, BOB}, {})
    assert [each.who for each in store.conversations.members(ROOM)] == [("a", ALICE), ("b", BOB)]
    store.conversations.drop_deleted(ROOM, [BOB])
    store.commit()
    assert [each.who for each in store.conversations.members(ROOM)] == [("a", ALICE)]
    store.logs.set_cursors([(ROOM, ALICE, 3)])
    assert tidy(store, NOW + 60_000) == {ROOM: 4}  # it holds nothing


@pytest.mark.parametrize("kept", [False, True], ids=["deleted", "rolled back"])
def test_the_size_is_told_of_what_is_left_after_a_deletion(store: Store, *, kept: bool) -> None:
    write(store, make(store), 3)
    write(store, make(store, DIRECT), 2)
    tidy(store, NOW + 60_000)
    assert store.size().entries == 5
    store.conversations.delete(ROOM)
    assert store.size().entries == 5  # nobody sees it before it is on disk
    store.rollback() if kept else store.commit()
    assert store.size().entries == (5 if kept else 2)
    if kept:
        store.logs.set_cursors([(ROOM, reader, 3) for reader in (ALICE, BOB)])
        tidy(store, NOW + 60_000)
        assert store.size().entries == 2


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
    assert store.conversations.rooms("a", ALICE, (), 9) == [lobby]
    others = replace(lobby, joined=False)
    team = RoomRow("#team", "invite", 1, joined=True)
    assert store.conversations.rooms("b", BOB, (), 9) == [team, others]
    assert store.conversations.rooms("b", BOB, ("#lobby", "#team"), 9) == [others, team]
    assert store.conversations.rooms("b", BOB, ("#lobby",), 1) == [others]
    assert store.conversations.rooms("mallory", BOB, ("#team",), 9) == [others]  # the device is another account's
    assert store.conversations.room("#team") == invited.id
    assert store.conversations.of_device(("b", BOB)) == [invited.id, DIRECT]
    assert store.conversations.of_device(("mallory", BOB)) == []


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
    assert store.conversations.rooms("a", ALICE, (), 9) == rows
    head.name = ""  # and a room without a name is nowhere to be found
    store.conversations.save_room(head)
    store.commit()
    assert store.conversations.rooms("a", ALICE, (), 9) == rows[1:]
    assert store.conversations.load(ROOM) is not None


def test_a_group_is_a_snapshot_and_the_commits_since(reopen: Open) -> None:
    store = reopen()
    head = make(store)
    for snapshot in (None, None, b"newer", None):
        (entry,) = entries_for(head, 1, time=NOW + head.seq)
        store.logs.append(head, [entry], "a")
        head.group_info = b"info %d" % head.seq
        store.conversations.save_commit(head, entry, snapshot, "a")
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
    store.logs.append(head, [entry], "a")
    store.conversations.save_commit(head, entry, snapshot, "a")
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
    store.logs.append(head, [departure], "a")
    store.conversations.save_handshake(ROOM, departure, "a")
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
    later = NOW + ACKNOWLEDGED_SECONDS * 1000 + 1
    tidy(store, later)
    assert handshakes(store) == [3, 4, 5, 6, 7]
    set_cursors(store, head, 7)
    commit(store, head)  # a new one lets the others be looked through
    tidy(store, later)
    assert handshakes(store) == [6, 7, 8]
    store.conversations.put_members(ROOM, [Membership(BOB, "b", 0, CHAIN_START, 8, 7)])
    assert store.conversations.read_group(ROOM) == (b"snapshot", [(NOW, str(n).encode().ljust(10)) for n in (6, 7, 8)])


@pytest.mark.parametrize("too_late", [False, True])
def test_what_all_have_acknowledged_stays_while_a_copy_of_a_vault_can_act(store: Store, *, too_late: bool) -> None:
    """It may have acknowledged in its owner's place."""
    head = make(store)
    for seq in range(1, 4):
        commit(store, head, snapshot=b"snapshot" if seq == 3 else None)
    set_cursors(store, head, 3)
    tidy(store, NOW + ACKNOWLEDGED_SECONDS * 1000 + too_late)
    assert handshakes(store) == ([] if too_late else [1, 2, 3])


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
    tidy(store, NOW + ACKNOWLEDGED_SECONDS * 1000 + 1)
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
    departed = ((b"proposal", b"context"),)
    entry = InboxEntry(0, NOW, ROOM, 3, bytes(32), b"welcome", b"tree", departed, (b"statement",))
    store.inboxes.deliver(entry, [ALICE, BOB], "a")
    store.inboxes.deliver(entry, [BOB], "a")
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
    store.inboxes.deliver(entry, [BOB], "a")  # its numbers go on
    assert (store.inboxes.newest(BOB), store.inboxes.newest(ALICE)) == (3, 1)


def test_an_inbox_says_what_waits_in_it_and_whose_that_is(store: Store) -> None:
    letter = InboxEntry(0, NOW, ROOM, 1, bytes(32), b"welcome", b"tree", ())
    size = len(b"welcome" + b"tree") + 1
    store.inboxes.deliver(letter, [ALICE, BOB], "eve")
    store.inboxes.deliver(letter, [ALICE], "eve")
    store.inboxes.deliver(letter, [ALICE], "carol")
    state = store.inboxes.waiting([ALICE, BOB, b"c" * 16], "eve")
    assert state == {ALICE: ((3, 3 * size), (2, 2 * size)), BOB: ((1, size), (1, size))}
    assert store.inboxes.waiting([BOB], "carol") == {BOB: ((1, size), (0, 0))}
    store.inboxes.acknowledge(ALICE, 2)
    assert store.inboxes.waiting([ALICE], "eve") == {ALICE: ((1, size), (0, 0))}
    store.rollback()
    assert store.inboxes.waiting([ALICE], "eve") == {}


def test_an_inbox_that_nobody_reads_ends(store: Store) -> None:
    store.inboxes.deliver(InboxEntry(0, NOW, ROOM, 1, bytes(32), b"w", b"t", ()), [ALICE], "a")
    store.commit()
    tidy(store, NOW + READER_SECONDS * 1000 - 1)
    assert len(store.inboxes.read(ALICE, 0, 1 << 20)) == 1
    tidy(store, NOW + READER_SECONDS * 1000 + 3_700_000)
    assert store.inboxes.read(ALICE, 0, 1 << 20) == []


def test_a_device_has_an_owner_while_it_is_published(store: Store) -> None:
    store.directory.put_device(Device(ALICE, "alice", b"certificate"), b"identity")
    store.directory.put_device(Device(BOB, "bob", b"another"), b"another key")
    everybody = [ALICE, BOB, b"c" * 16]
    assert store.directory.owners(everybody) == {ALICE: ("alice", b"identity"), BOB: ("bob", b"another key")}
    store.directory.put_device(Device(ALICE, "alice", b"newer"), b"new identity")
    store.directory.drop_devices([BOB])
    assert store.directory.owners(everybody) == {ALICE: ("alice", b"new identity")}
    assert store.directory.device(("alice", ALICE)) == Device(ALICE, "alice", b"newer")
    assert store.directory.device(("mallory", ALICE)) is None
    assert store.directory.device(("bob", BOB)) is None
    assert store.directory.identity_key("nobody") == b""


def test_a_device_id_is_its_first_accounts_for_ever(reopen: Open) -> None:
    store = reopen()
    store.directory.reserve("alice", [ALICE])
    store.directory.reserve("bob", [ALICE, BOB])
    store.directory.drop_devices([ALICE])
    store.commit()
    store = reopen()
    assert [store.directory.account_of(each) for each in (ALICE, BOB, b"c" * 16)] == ["alice", "bob", ""]


def test_of_each_account_one_keepsake_is_kept(reopen: Open) -> None:
    store = reopen()
    assert store.keepsakes.find("alice") is None
    store.keepsakes.put("alice", StoredKeepsake(b"k" * 32, 1, b"first"))
    store.keepsakes.put("bob", StoredKeepsake(b"l" * 32, 7, b"of bob"))
    store.commit()
    store.keepsakes.put("alice", StoredKeepsake(b"k" * 32, 2, b"second"))
    store.rollback()
    assert store.keepsakes.find("alice") == StoredKeepsake(b"k" * 32, 1, b"first")
    store.keepsakes.put("alice", StoredKeepsake(b"m" * 32, 3, b"third"))
    store.commit()
    store.keepsakes.put("bob", StoredKeepsake(b"l" * 32, 8, b"never committed"))
    store = reopen()
    assert store.keepsakes.find("alice") == StoredKeepsake(b"m" * 32, 3, b"third")
    assert store.keepsakes.find("bob") == StoredKeepsake(b"l" * 32, 7, b"of bob")
    store.keepsakes.drop("bob")
    store.keepsakes.drop("nobody")
    store.commit()
    store = reopen()
    assert (store.keepsakes.find("bob"), store.held("bob")) == (None, 0)
    assert store.keepsakes.find("alice") is not None


def test_a_blob_is_its_conversations_and_counts_for_its_account(reopen: Open) -> None:
    store = reopen()
    make(store)
    make(store, DIRECT)
    first = store.blobs.add(ROOM, b"1" * 16, "alice", ALICE, 5000, NOW + 5)
    same_id = store.blobs.add(DIRECT, b"1" * 16, "bob", BOB, 300, NOW + 9)
    store.commit()
    assert first.file != same_id.file
    store.blobs.change(first.file, 7, NOW + 50)
    store.blobs.add(ROOM, b"2" * 16, "alice", ALICE, 60, NOW + 5)
    store.rollback()
    store.blobs.change(first.file, 4, NOW + 100)
    store.blobs.add(ROOM, b"3" * 16, "alice", ALICE, 40, NOW + 5)
    store.commit()
    store = reopen()
    assert store.blobs.find(ROOM, b"1" * 16) == first._replace(seq=4, expires=NOW + 100)
    assert store.blobs.find(DIRECT, b"1" * 16) == same_id
    assert store.blobs.find(ROOM, b"2" * 16) is store.blobs.find(b"?" * 32, b"1" * 16) is None
    assert [store.blobs.held(name) for name in ("alice", "bob", "carol")] == [(5040, 1), (300, 1), (0, 0)]
    assert store.blobs.unfinished() == 2
    assert store.blobs.held_by_each() == {"alice": 5040, "bob": 300}
    assert store.blobs.known([first.file, same_id.file, b"x" * 32]) == {first.file, same_id.file}
    assert store.blobs.whole(bytes(32), b"\xff" * 33) == {first.file: 5000}  # the others are not
    assert store.blobs.whole(bytes(32), first.file) == {}


def test_however_a_blob_goes_its_file_is_remembered_until_somebody_has_deleted_it(reopen: Open) -> None:
    store = reopen()
    make(store)
    make(store, DIRECT)
    dropped, expired, _, of_alice, dead = [
        store.blobs.add(conversation, bytes([number]) * 16, account, ALICE, 100, expires)
        for number, (conversation, account, expires) in enumerate((
            (ROOM, "bob", NOW * 2), (ROOM, "bob", NOW - 1), (ROOM, "bob", NOW * 2), (ROOM, "alice", NOW * 2),
            (DIRECT, "bob", NOW * 2),
        ))
    ]  # fmt: skip
    store.commit()
    store.blobs.drop([dropped.file, b"?" * 32])
    assert store.blobs.drop_of("alice", 1)  # there may be more
    assert not store.blobs.drop_of("alice", 1)
    store.conversations.delete(DIRECT)
    store.commit()
    tidy(store, NOW)
    store = reopen()
    gone = {each.file for each in (dropped, expired, of_alice, dead)}
    assert set(store.blobs.dropped(10)) == gone
    assert len(store.blobs.dropped(2)) == 2
    assert store.blobs.known(gone) == gone  # nobody takes them for a stranger's
    assert store.blobs.is_dropped(ROOM, bytes(16))
    assert not store.blobs.is_dropped(ROOM, bytes([2]) * 16)
    assert (store.blobs.held("alice"), store.blobs.held("bob")) == ((0, 0), (100, 1))
    store.blobs.forget([dropped.file, expired.file])
    store.commit()
    store = reopen()
    assert set(store.blobs.dropped(10)) == {of_alice.file, dead.file}
    assert not store.blobs.is_dropped(ROOM, bytes(16))


def test_a_chain_is_of_one_account_and_key_and_read_in_portions(reopen: Open) -> None:
    store = reopen()
    links = [ChainLink(seq, NOW + seq, f"link {seq}".encode()) for seq in range(1, 6)]
    others = [ChainLink(1, NOW, b"other")]
    store.chains.append("alice", b"k" * 32, links[:3])
    store.chains.append("alice", b"l" * 32, others)
    store.chains.append("bob", b"k" * 32, others)
    store.commit()
    store.chains.append("alice", b"k" * 32, links[3:])
    store.rollback()
    assert store.chains.head("alice", b"k" * 32) == links[2]
    store.chains.append("alice", b"k" * 32, links[3:])
    store.commit()
    store.chains.append("alice", b"l" * 32, links[1:2])  # never committed
    store = reopen()
    assert store.chains.read("alice", b"k" * 32, 0, 2) == links[:2]
    assert store.chains.read("alice", b"k" * 32, 2, 9) == links[2:]
    assert store.chains.read("alice", b"k" * 32, 5, 9) == []
    assert store.chains.read("alice", b"l" * 32, 0, 9) == store.chains.read("bob", b"k" * 32, 0, 9) == others
    assert store.chains.head("bob", b"l" * 32) is None


def a_token(digest: int, device: bytes = ALICE, account: str = "alice", expires: int = NOW) -> Token:
    return Token(bytes([digest]) * 32, account, device, 1, expires)


def test_a_token_is_found_by_its_hash_and_takes_the_place_of_its_devices_last_one(reopen: Open) -> None:
    store = reopen()
    for token in (a_token(1), a_token(2, BOB), a_token(3, account="bob"), a_token(4)):
        store.tokens.put(token)
    store.commit()
    store.tokens.put(a_token(5))  # never committed
    store = reopen()
    assert [store.tokens.find(bytes([n]) * 32) for n in range(6)] == [
        None, None, a_token(2, BOB), a_token(3, account="bob"), a_token(4), None,
    ]  # fmt: skip
    assert a_token(2, BOB) in store.tokens.of("alice")
    assert store.tokens.of("bob") == [a_token(3, account="bob")]
    assert store.tokens.of("carol") == []
    store.tokens.keep_only("alice", BOB)
    store.rollback()
    assert store.tokens.find(a_token(4).hash)
    store.tokens.keep_only("alice", BOB)
    store.commit()
    assert [store.tokens.find(bytes([n]) * 32) is not None for n in range(2, 5)] == [True, True, False]


def test_the_token_of_one_device_is_dropped(reopen: Open) -> None:
    store = reopen()
    used = replace(a_token(2), used=NOW)
    for token in (a_token(1), used, a_token(3, BOB)):
        store.tokens.put(token)
    store.commit()
    store = reopen()
    assert [store.tokens.find(bytes([n]) * 32) for n in range(3)] == [None, None, used]
    store.tokens.drop("alice", ALICE)
    store.tokens.drop("bob", BOB)  # another one's
    assert [store.tokens.find(bytes([n]) * 32) is not None for n in range(4)] == [False] * 3 + [True]


def test_an_account_has_as_many_tokens_as_devices_and_the_oldest_gives_way(store: Store) -> None:
    store.tokens.put(a_token(0, bytes(16), account="bob"))
    for n in range(MAX_DEVICES + 1):
        store.tokens.put(a_token(n + 1, bytes([n]) * 16, expires=NOW - n))  # a clock that runs back: the new one stays
    there = [store.tokens.find(bytes([n]) * 32) is not None for n in range(MAX_DEVICES + 2)]
    assert there == [True] * MAX_DEVICES + [False, True]
    store.commit()
    assert store.tokens.holders(NOW - MAX_DEVICES) == {("alice", 1): MAX_DEVICES - 1, ("bob", 1): 1}


def test_tokens_that_have_ended_are_swept(store: Store) -> None:
    """More than go at once, so that it takes several portions."""
    for n in range(600):
        store.tokens.put(Token(n.to_bytes(32, "big"), f"user{n}", ALICE, 1, NOW + n))
    store.commit()
    assert len(store.tokens.holders(NOW + 298)) == 301
    tidy(store, NOW + 299)
    assert [n for n in range(600) if store.tokens.find(n.to_bytes(32, "big"))] == list(range(300, 600))


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


def test_the_backup_is_gone_back_to_for_a_month_after_a_restore(reopen: Open) -> None:
    store = reopen()
    make(store, kind="invite")
    store.conversations.resume(NOW)
    store.commit()
    end = NOW + BRANCH_SECONDS * 1000
    assert store.conversations.read_branch_point(ROOM, end - 1 - BRANCH_SECONDS * 1000) is not None
    assert store.conversations.read_branch_point(ROOM, end - BRANCH_SECONDS * 1000) is None
    for now, kept in ((end, True), (end + 1, False)):
        tidy(store, now)
        store.commit()
        store = reopen()
        assert (store.conversations.read_branch_point(ROOM, 0) is not None) is kept


def test_a_restored_conversation_can_go_back_to_where_the_backup_was(reopen: Open) -> None:
    store = reopen()
    head = make(store, kind="invite")
    write(store, head, 3)
    store.conversations.resume(NOW)
    store.commit()
    store = reopen()
    loaded = store.conversations.load(ROOM)
    assert loaded is not None
    head, was = loaded, replace(loaded, members=dict(loaded.members))
    point = store.conversations.read_branch_point(ROOM, NOW - 1)
    assert point is not None
    assert (point.seq, point.epoch) == (head.resumed, was.epoch)
    assert {each.device for each in point.members} == was.members.keys()
    assert head.restored_epoch == was.epoch
    assert store.conversations.read_branch_point(ROOM, NOW) is None  # not older than that
    write(store, head, 2)
    gone = [head.seq - 1, head.seq]
    assert read(store)[-2:] == gone
    for keep in (False, True):
        if keep:
            head.resumed, head.epoch = head.seq, point.epoch
        store.conversations.rewind(head, point)
        if not keep:
            store.rollback()
            assert read(store)[-2:] == gone
            continue
        store.commit()
        assert store.size().entries == len(read(store)) + len(gone)  # which `tidy` comes to later
    write(store, head, 1)
    for again in (False, True):
        store = reopen() if again else store
        assert read(store)[:3] == [1, 2, 3]
        assert read(store)[-1] == head.seq == gone[-1] + 1
        assert not set(gone) & set(read(store))
        found = store.conversations.load(ROOM)
        assert found is not None
        assert (found.seq, found.resumed, found.members.keys()) == (head.seq, gone[-1], was.members.keys())
    tidy(store, NOW + 60_000)
    assert not set(gone) & set(read(store))


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
