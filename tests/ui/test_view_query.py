"""A search as people type it."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest

from securechat.client.query import MAX_QUERY, Query
from securechat.errors import UsageError
from securechat.ui.view.query import query_of

ZONE = timezone(timedelta(hours=2))


def ms(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc,arg-type]  # a date


@pytest.mark.parametrize(
    ("typed", "query"),
    [
        ("lunch friday", Query(("lunch", "friday"))),
        ('"see you" there', Query(("there",), ("see you",))),
        ("budget from:Bob in:#Staff", Query(("budget",), sender="bob", where="#staff")),
        ("from:me in:carol", Query(sender="alice", where="carol")),
        ("HAS:link has:reply has:File", Query(has=("link", "reply", "file"))),
        ("after:2026-11-05", Query(after=ms(2026, 11, 4, 22))),
        ("before:2026-11 after:2026", Query(before=ms(2026, 10, 31, 22), after=ms(2025, 12, 31, 22))),
        ("https://example.org 12:30 from: :", Query(("https://example.org", "12:30", "from:", ":"))),
        ('an "open phrase', Query(("an", '"open', "phrase"))),
        ("after:1970-01-01", Query()),  # ever since
    ],
    ids=["words", "phrase", "who-where", "me", "has", "day", "month", "no-filter", "open", "first"],
)
def test_what_is_typed_is_what_is_looked_for(typed: str, query: Query) -> None:
    assert query_of(typed, "alice", ZONE) == query


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("has:money", "file, link or reply"), ("before:yesterday", "a day, a month or a year"),
        ("after:2026-13", "a day, a month"), ("after:2026-02-30", "a day, a month"), ("after:0000", "a day, a month"),
        ("before:٢٠٢٦", "a day, a month"), ("from:" + "x" * 200, "name"), ("in:##x", "second title"),
        ("x" * (MAX_QUERY + 1), "at most 1,000"),
    ],
    ids=["has", "word", "month", "day", "year", "digits", "account", "title", "long"],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_what_does(typed: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        query_of(typed, "alice", ZONE)


@pytest.mark.parametrize("year", [1, 1900, 9999])
def test_any_year_is_taken_or_refused_on_this_machines_clock(year: int) -> None:
    with suppress(UsageError):
        assert query_of(f"after:{year:04}", "alice").after >= 0
