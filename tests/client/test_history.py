"""The history: pages from both ends and around a line, at any length; and its reader, which waits for no writer."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from securechat.client.message import Message
from securechat.client.password_source import PasswordSource
from securechat.client.vault.history import CANNOT_SHOW, MAX_REACTIONS, Pages
from securechat.client.vault.vault import Vault
from securechat.client.wrapping import Cost
from securechat.content.registry import Name, Text, encode_body
from securechat.errors import StorageError, UsageError

HERE, ELSEWHERE = b"h" * 32, b"e" * 32


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    password = PasswordSource.typed("correct horse")
    vault = Vault.open(tmp_path / "alice.vault", "alice", password, cost=Cost(time=1, memory=8, lanes=1))
    yield vault
    vault.close()


def add(vault: Vault, seq: int, text: str, *, conversation: bytes = HERE, own: bool = False) -> Message:
    sender = "alice" if own else "bob"
    body = encode_body(Text(text))
    return vault.history.add(conversation, sender, body, own=own, trust="accepted", seq=seq, time=seq)


def texts(lines: list[Message]) -> list[str]:
    return [line.text for line in lines]


@pytest.fixture
def lines(vault: Vault) -> dict[str, Message]:
    """Ten accepted lines, two waiting ones, and others between them that belong elsewhere."""
    found: dict[str, Message] = {}
    with vault.transaction():
        for text in ("w1", "w2"):
            found[text] = add(vault, 0, text, own=True)
        for seq in (3, 1, 2, 4, 5, 6, 8, 7, 9, 10):
            found[str(seq)] = add(vault, seq, str(seq))
            add(vault, seq, "elsewhere", conversation=ELSEWHERE)
        add(vault, 0, "elsewhere", conversation=ELSEWHERE, own=True)
    return found


@pytest.fixture(params=["writer", "reader"])
def pages(vault: Vault, lines: dict[str, Message], request: pytest.FixtureRequest) -> Pages:
    assert lines
    return vault.history if request.param == "writer" else vault.reader()


def test_the_newest_lines_are_in_the_logs_order_and_what_waits_comes_last(pages: Pages) -> None:
    assert texts(pages.newest(HERE, 4)) == ["9", "10", "w1", "w2"]
    assert texts(pages.newest(HERE, 100)) == [*map(str, range(1, 11)), "w1", "w2"]


def test_pages_before_and_after_a_line_meet_at_it(pages: Pages, lines: dict[str, Message]) -> None:
    assert texts(pages.before(lines["5"].local_id, 2)) == ["3", "4"]
    assert texts(pages.after(lines["5"].local_id, 2)) == ["6", "7"]
    assert texts(pages.before(lines["w1"].local_id, 2)) == ["9", "10"]
    assert texts(pages.after(lines["10"].local_id, 5)) == ["w1", "w2"]
    assert texts(pages.before(lines["2"].local_id, 5)) == ["1"]
    assert pages.before(lines["1"].local_id, 5) == pages.after(lines["w2"].local_id, 5) == []


def test_a_page_around_a_line_has_it_in_the_middle(pages: Pages, lines: dict[str, Message]) -> None:
    assert texts(pages.around(lines["5"].local_id, 2)) == ["3", "4", "5", "6", "7"]
    assert texts(pages.around(lines["1"].local_id, 1)) == ["1", "2"]
    assert texts(pages.around(lines["w2"].local_id, 2)) == ["10", "w1", "w2"]


def test_a_line_that_is_none_has_no_page_and_is_refused_by_itself(pages: Pages) -> None:
    assert pages.before(999, 5) == pages.after(999, 5) == pages.around(999, 5) == []
    with pytest.raises(UsageError, match="no such message"):
        pages.message(999)


def test_walking_page_by_page_meets_every_line_once_from_either_end(pages: Pages, lines: dict[str, Message]) -> None:
    everything = pages.newest(HERE, 100)
    page = walked = pages.newest(HERE, 3)
    while page := pages.before(page[0].local_id, 3):
        walked = page + walked
    assert walked == everything
    page = walked = pages.around(lines["1"].local_id, 0)
    while page := pages.after(page[-1].local_id, 3):
        walked += page
    assert walked == everything


def test_a_line_that_is_accepted_moves_to_its_place(vault: Vault, pages: Pages, lines: dict[str, Message]) -> None:
    with vault.transaction():
        accepted = vault.history.accept(lines["w1"].local_id, 11, 1100, 7)
    assert (accepted.seq, accepted.time, accepted.number) == (11, 1100, 7)
    assert pages.message(accepted.local_id) == accepted
    assert texts(pages.newest(HERE, 3)) == ["10", "w1", "w2"]
    assert texts(pages.after(lines["10"].local_id, 1)) == ["w1"]


def test_a_line_is_accepted_alike_whether_it_is_still_in_memory_or_not(vault: Vault) -> None:
    with vault.transaction():
        short, long, moved = (add(vault, 0, text, own=True) for text in ("short", "long" * 1000, "moved"))
        vault.history.move_lines([moved.local_id], ELSEWHERE)
        said = [short, long, replace(moved, conversation=ELSEWHERE)]
        for seq, line in enumerate(said, 1):
            assert vault.history.accept(line.local_id, seq, 9, 5) == replace(line, seq=seq, time=9, number=5)
    again = vault.reader()
    assert [again.message(line.local_id) for line in said] == [
        replace(line, seq=seq, time=9, number=5) for seq, line in enumerate(said, 1)
    ]


def test_a_line_keeps_its_name_its_kind_and_what_it_refers_to(vault: Vault) -> None:
    with vault.transaction():
        line = vault.history.add(
            HERE, "bob", ("text", b"\x91\xa2hi"), own=False, trust="accepted", seq=1, time=1,
            device=b"d" * 16, number=9, refers_to=Name(b"o" * 16, 3),
        )  # fmt: skip
    assert (line.kind, line.device, line.number, line.refers_to) == ("text", b"d" * 16, 9, (b"o" * 16, 3))
    assert vault.reader().message(line.local_id) == line


def test_a_kind_that_is_not_known_is_kept_and_shown_as_such(vault: Vault) -> None:
    with vault.transaction():
        line = vault.history.add(HERE, "bob", ("poll", b"\x01\x02"), own=False, trust="accepted", seq=1)
    assert (line.kind, line.text, line.problem) == ("poll", "", CANNOT_SHOW)
    assert vault.one("SELECT kind, body, problem FROM messages") == ("poll", b"\x01\x02", "")


@pytest.fixture
def cost_of(vault: Vault) -> Callable[[Callable[[], object]], int]:
    """Count what the database does for a query, in hundreds of its own steps."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def measure(query: Callable[[], object]) -> int:
        nonlocal steps
        steps = 0
        query()
        return steps

    vault._connection.set_progress_handler(count, 100)
    return measure


def test_a_page_costs_the_same_however_long_the_history_is(
    vault: Vault, cost_of: Callable[[Callable[[], object]], int]
) -> None:
    def fill(first: int, last: int) -> None:
        with vault.transaction():
            for seq in range(first, last):
                add(vault, seq, str(seq))
            for _ in range(first, last, 10):
                add(vault, 0, "waits", own=True)

    def costs() -> list[int]:
        history, newest = vault.history, vault.history.newest(HERE, 200)
        middle, waiting = vault.history.around(500, 0)[0].local_id, newest[100].local_id
        return [
            cost_of(lambda: history.newest(HERE, 50)),
            cost_of(lambda: history.before(middle, 50)),
            cost_of(lambda: history.before(waiting, 50)),
            cost_of(lambda: history.after(middle, 50)),
            cost_of(lambda: history.after(waiting, 50)),
            cost_of(lambda: history.around(middle, 25)),
            cost_of(lambda: history.unread(middle, 50)),
        ]

    fill(1, 2_000)
    short = costs()
    fill(2_000, 20_000)
    assert costs() == pytest.approx(short, abs=1)
    assert max(short) < 100


def test_reading_the_unread_counts_costs_the_same_however_many_lines_they_count(
    vault: Vault, cost_of: Callable[[Callable[[], object]], int]
) -> None:
    def fill(first: int, last: int) -> None:
        with vault.transaction():
            for seq in range(first, last):
                add(vault, seq, str(seq), conversation=HERE if seq % 2 else ELSEWHERE)

    fill(1, 1_000)
    few = cost_of(vault.history.unread_counts)
    fill(1_000, 20_000)
    assert cost_of(vault.history.unread_counts) == few <= 1
    assert vault.history.unread_counts() == {HERE: (10_000, 19_999), ELSEWHERE: (9_999, 19_998)}
    with vault.transaction():
        seen = [cost_of(lambda each=each: vault.history.see(each, 19_950)) for each in (HERE, ELSEWHERE)]  # type: ignore[misc]  # bound now
    assert max(seen) < 50  # only the lines after it are looked at
    assert vault.history.unread_counts() == {HERE: (25, 19_999), ELSEWHERE: (24, 19_998)}


def test_unread_lines_stay_counted_when_they_move_and_until_they_are_seen_where_they_are(
    vault: Vault, lines: dict[str, Message]
) -> None:
    def check(here: int, elsewhere: int) -> None:
        counted = vault.all(
            "SELECT conversation, count(*), max(local_id) FROM messages LEFT JOIN seen USING (conversation)"
            " WHERE own = 0 AND local_id > coalesce(line, 0) GROUP BY conversation"
        )
        found = vault.reader().unread_counts()
        assert found == {conversation: (count, newest) for conversation, count, newest in counted}
        assert [found.get(each, (0, 0))[0] for each in (HERE, ELSEWHERE)] == [here, elsewhere]

    check(10, 10)
    with vault.transaction():
        vault.history.see(HERE, lines["3"].local_id)
    check(9, 10)
    assert vault.reader().first_unread(HERE) == lines["1"].local_id  # came in next
    with vault.transaction():
        vault.history.move(ELSEWHERE, HERE, waiting_only=True)  # a line of our own alone
    check(9, 10)
    with vault.transaction():
        vault.history.put_aside(HERE, ELSEWHERE)
        assert vault.history.move_some() == HERE
        assert vault.history.move_some() is None
    check(0, 19)
    with vault.transaction():
        vault.history.move(ELSEWHERE, HERE, waiting_only=False)
        add(vault, 11, "another")
    check(20, 0)
    with vault.transaction():
        vault.history.see(HERE, vault.history.last_id)
    check(0, 0)
    assert vault.history.first_unread(HERE) == 0
    with vault.transaction():
        vault.history.see(HERE, vault.history.last_id - 1)
    check(1, 0)  # marked as unread again


def test_a_reader_sees_what_is_committed_while_a_transaction_is_open(vault: Vault) -> None:
    reader = vault.reader()
    with vault.transaction():
        add(vault, 1, "first")
    assert texts(reader.newest(HERE, 10)) == ["first"]
    with vault.transaction():
        add(vault, 2, "second")
        vault.run("UPDATE shown SET local_id = 2")
        read: list[Message] = []
        thread = threading.Thread(target=lambda: read.extend(reader.newest(HERE, 10)))
        thread.start()
        thread.join(60)
        assert texts(read) == ["first"]  # from another thread, without waiting for the writer
        assert texts(vault.history.newest(HERE, 10)) == ["first", "second"]
        assert reader.shown() == 0
    assert texts(reader.newest(HERE, 10)) == ["first", "second"]
    assert reader.shown() == 2


def test_a_reader_sees_nothing_of_what_was_undone(vault: Vault) -> None:
    reader = vault.reader()

    def fail_halfway() -> None:
        with vault.transaction():
            add(vault, 1, "never said")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_halfway()
    assert reader.newest(HERE, 10) == []


def test_a_reader_cannot_write(vault: Vault) -> None:
    with pytest.raises(StorageError, match="readonly"):
        vault.read_only().run("DELETE FROM messages")


def test_readers_serve_several_threads_and_end_with_the_vault(vault: Vault) -> None:
    with vault.transaction():
        for seq in range(1, 1_000):
            add(vault, seq, str(seq))
    reader = vault.reader()
    wrong: list[str] = []

    def read() -> None:
        pages = {first: texts(reader.after(first, 3)) for first in range(1, 200)}
        wrong.extend(str(first) for first, page in pages.items() if page != [str(first + n) for n in (1, 2, 3)])

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    with vault.transaction():
        for seq in range(1_000, 1_200):
            add(vault, seq, str(seq))
    for thread in threads:
        thread.join(60)
    assert wrong == []
    vault.close()
    with pytest.raises(StorageError, match="cannot be used"):
        reader.newest(HERE, 1)


def test_a_flood_of_reactions_takes_no_more_room_than_those_that_count(vault: Vault) -> None:
    with vault.transaction():
        line = vault.history.add(HERE, "bob", encode_body(Text("hi")), own=False, trust="accepted", seq=1, time=1)

    def react(first: int, last: int) -> int:
        with vault.transaction():
            return sum(
                vault.history.react(line.local_id, f"r{number}", "bob", (number // 9).to_bytes(32, "big"))
                for number in range(first, last)
            )

    def pages() -> int:
        return int(vault.one("PRAGMA page_count")[0])

    assert react(0, 1_000) == MAX_REACTIONS
    before = pages()
    assert react(1_000, 20_000) == 0
    assert pages() == before
    (shown,) = vault.history.newest(HERE, 10)
    assert len(shown.reactions) == MAX_REACTIONS


@pytest.mark.parametrize("lines", [1, 1_000])
def test_what_a_reaction_costs_does_not_grow_with_those_that_came_before(vault: Vault, lines: int) -> None:
    """Counted in instructions of SQLite: under one line, of which 256 are kept, and under many, of which all are."""
    body = encode_body(Text("hi"))
    with vault.transaction():
        where = [
            vault.history.add(HERE, "bob", body, own=False, trust="accepted", seq=seq, time=1).local_id
            for seq in range(1, lines + 1)
        ]
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    def cost(first: int, last: int) -> int:
        nonlocal steps
        steps = 0
        with vault.transaction():
            for number in range(first, last):
                who = (number // lines).to_bytes(32, "big")
                vault.history.react(where[number % lines], "r", "bob", who)
        return steps

    vault._connection.set_progress_handler(step, 10)
    cost(0, 2_000)
    early = cost(2_000, 3_000)
    cost(3_000, 9_000)
    late = cost(9_000, 10_000)
    vault._connection.set_progress_handler(None, 0)
    kept = vault.one("SELECT count(*) FROM reactions")[0]
    assert kept == min(10_000, lines * MAX_REACTIONS)
    assert late <= early * (1.1 if lines == 1 else 3)  # of many, ten are under each by then, and are looked at


def test_what_ends_costs_no_walk_through_all_lines_for_each_conversation(vault: Vault) -> None:
    many, each_has = [bytes([number]) * 32 for number in range(50)], 20
    with vault.transaction():
        for seq in range(1, each_has + 1):
            for where in many:
                body = encode_body(Text("hello"))
                vault.history.add(where, "bob", body, own=False, trust="accepted", seq=seq, time=0, life=seq)
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    vault._connection.set_progress_handler(step, 100)  # instructions of SQLite
    with vault.transaction():
        assert vault.history.expire(1) == ([], False)
    assert steps < 10  # nothing ends: none is looked at
    with vault.transaction():
        vault.history.see(many[0], vault.history.last_id)
        assert vault.history.expire(1000) == (many, False)
    vault._connection.set_progress_handler(None, 0)
    assert steps < len(many) * each_has  # 100 instructions for each line, and not for each of each conversation
    left = each_has - 1
    assert vault.history.unread_counts() == {where: (left, vault.history.last_id - 49 + at)
                                             for at, where in enumerate(many) if at}  # fmt: skip
