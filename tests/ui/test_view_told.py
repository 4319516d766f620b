"""One conversation with everything in it: the view model's rows, what has changed of them, and the plain client's."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.client.events import (
    Disconnected,
    Done,
    Event,
    FileSent,
    Held,
    PresenceChanged,
    Received,
    TransferEnded,
    Transferred,
    Typing,
)
from securechat.ui.session.chat import Chat
from securechat.ui.view.lines import message_line
from securechat.ui.view.listing import Listing
from securechat.ui.view.news import News
from securechat.ui.view.rows import Day, Line, Moving, New, Notice, Row, Splice, key_of, splices
from securechat.ui.view.status import TYPES_FOR, Typists
from securechat.ui.view.timeline import Timeline
from tests.support.scripted import ScriptedClient, conversation, message
from tests.support.told import CLUB, NEW, ROWS, SENDS, begin, happen


def seated() -> tuple[ScriptedClient, Timeline]:
    client = ScriptedClient(lambda _: None)
    begin(client)
    return client, Timeline(client, CLUB.id, new=client.first_unread(CLUB.id))


def told(client: ScriptedClient, timeline: Timeline) -> Iterable[Event]:
    news = News(client)
    for event in happen(client):
        timeline.fold(event, news.of(event) if isinstance(event, Held) else ())
        yield event


def applied(rows: Sequence[Row], after: Sequence[Row]) -> tuple[Row, ...]:
    """What a face has that was told of changes alone."""
    for found in splices(rows, after):
        rows = (*rows[: found.start], *found.rows, *rows[found.start + found.removed :])
    return tuple(rows)


def test_the_view_model_makes_these_rows_of_it() -> None:
    client, timeline = seated()
    for _ in told(client, timeline):
        pass
    assert timeline.rows == ROWS
    assert {type(row) for row in ROWS} == {Line, Notice, Day, New, Moving}  # none is missing


def test_who_is_told_what_has_changed_alone_has_the_same_rows() -> None:
    client, timeline = seated()
    rows = timeline.rows
    for _ in told(client, timeline):
        rows = applied(rows, timeline.rows)
        assert rows == timeline.rows
    assert rows == ROWS
    assert not splices(rows, timeline.rows)


@given(st.lists(st.integers(0, 4)), st.lists(st.integers(0, 4)))
def test_any_rows_become_any_others(before: list[int], after: list[int]) -> None:
    one, other = (tuple(Notice(number, "notice", "") for number in numbers) for numbers in (before, after))
    assert applied(one, other) == other
    assert (not splices(one, other)) == (before == after)


def test_a_window_that_moves_keeps_the_rows_that_stay() -> None:
    rows = tuple(Notice(number, "notice", "") for number in range(1000))
    day = Day(date(2026, 11, 18))
    assert splices((day, *rows[:900]), (day, *rows[20:920])) == [Splice(1, 20, ()), Splice(881, 0, rows[900:920])]
    assert splices(rows[100:], rows[80:980]) == [Splice(0, 0, rows[80:100]), Splice(900, 20, ())]


def test_each_row_has_a_name_of_its_own_and_goes_over_a_wire() -> None:
    assert len({key_of(row) for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert msgspec.json.decode(msgspec.json.encode(row), type=type(row)) == row


def test_the_plain_client_shows_these_rows() -> None:
    shown: list[str] = []
    client = ScriptedClient(lambda _: None)
    begin(client)
    client.online = False
    chat = Chat(client, shown.append, piped=True)
    chat._ready = True
    chat.line("/go #club")
    for event in happen(client):
        chat.event(event)
    shown.clear()
    chat.line("/history")
    now = datetime.now().astimezone()
    lines = [row for row in ROWS if isinstance(row, Line)]
    numbered = enumerate(reversed(range(1, len(lines) + 1)))
    expected = [message_line(lines[place], "#club", now, number=number, fate=True) for place, number in numbered]
    new = next(place for place, row in enumerate(lines) if row.local_id == NEW[0].local_id)
    expected.insert(new, "-- New since you were here last:")
    assert shown == expected


def test_what_was_seen_is_not_new_any_more() -> None:
    _, timeline = seated()
    assert New() in timeline.rows
    timeline.see()
    assert New() not in timeline.rows
    assert [row for row in timeline.rows if isinstance(row, Line)]


def test_a_file_on_its_way_is_shown_until_it_has_arrived() -> None:
    client, timeline = seated()
    timeline.fold(Transferred(SENDS))
    assert timeline.rows[-1] == ROWS[-1]
    timeline.fold(TransferEnded(SENDS, ""))
    assert timeline.rows[-1] != ROWS[-1]
    timeline.fold(Transferred(SENDS))
    timeline.fold(Done(command=4))  # that it was said: it may be on its way still
    assert timeline.rows[-1] == ROWS[-1]
    timeline.fold(FileSent(SENDS))
    assert timeline.rows[-1] != ROWS[-1]
    client.on_their_way = (SENDS,)
    assert Timeline(client, CLUB.id).rows[-1] == ROWS[-1]  # it was on its way before we came


# --- the list, and what stands beside it ------------------------------------------------------------------------------


def mentioned(listing: Listing) -> list[str]:
    return [item.title for item in listing.items if item.mentioned]


def test_the_list_says_where_one_is_named_until_one_was_there() -> None:
    client, _ = seated()
    bob = client.add(conversation("bob"))
    listing = Listing(client)
    assert mentioned(listing) == ["#club"]  # before we began
    listing.see(CLUB.id)
    assert mentioned(listing) == []
    client.said.append(message(bob, "bob", "and @ALICE", local_id=99))
    listing.fold(Received(client.said[-1]))
    assert mentioned(listing) == ["bob"]


@pytest.mark.parametrize("end", [PresenceChanged(CLUB.id, "bob", "dropped"), Disconnected("cut", 1.0)])
def test_the_list_says_who_is_there(end: Event) -> None:
    client, _ = seated()
    client.add(conversation("bob"))
    listing = Listing(client)
    online = [(each.title, each.online) for each in listing.items]
    assert ("bob", False) in online
    listing.fold(PresenceChanged(CLUB.id, "bob", "online"))
    assert [each.title for each in listing.items if each.online] == ["bob"]
    listing.fold(end)
    assert not any(each.online for each in listing.items)


def test_who_types_is_told_until_they_have_spoken_or_gone_quiet() -> None:
    now = [0.0]
    typists = Typists(lambda: now[0])
    typists.fold(Typing(CLUB.id, "bob", typing=True))
    assert typists.told(CLUB.id) == "bob types"
    assert typists.told(b"elsewhere") == ""
    typists.fold(Typing(CLUB.id, "carol", typing=True))
    assert typists.told(CLUB.id) == "bob, carol type"
    typists.fold(Received(NEW[1]))  # bob has spoken
    assert typists.told(CLUB.id) == "carol types"
    now[0] = TYPES_FOR
    assert typists.told(CLUB.id) == ""
