"""Rows as lines of text: what was said, what it answers, what became of it; and nobody's text passes for ours."""

from dataclasses import replace
from datetime import datetime

import pytest

from securechat.clean import clean
from securechat.client.message import Attached, Message, Quote, QuoteState, Reaction
from securechat.ui.text.wording import size_of
from securechat.ui.view.lines import (
    ABOVE,
    BELOW,
    BRIEF,
    CONTINUATION,
    became_of,
    brief,
    deleted_line,
    edited_line,
    message_line,
    reacted_line,
)
from securechat.ui.view.rows import Line, line_of, mentions

NOON = datetime(2026, 3, 1, 12, 0).astimezone()
AT = int(NOON.timestamp() * 1000)
SAID = Message(5, b"c" * 32, 5, AT, "bob", own=False, text="yes", trust="accepted", kind="text")


def row(**changes: object) -> Line:
    return line_of(replace(SAID, **changes), account="alice")  # type: ignore[arg-type]  # test data


def shown(**changes: object) -> str:
    return message_line(row(**changes), "#club", NOON)


def test_a_message_is_one_line_and_an_action_says_what_its_sender_does() -> None:
    assert shown() == "12:00 [#club] bob: yes"
    assert shown(kind="action", text="waves") == "12:00 [#club] * bob waves"
    assert shown(edited=AT) == "12:00 [#club] bob: yes (edited)"
    assert shown(text="", deleted_by="alice") == "12:00 [#club] bob: (deleted by alice)"


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (9_949, "9.9 kB"), (9_951, "10 kB"),
     (999_499, "999 kB"), (999_500, "1.0 MB"), (1 << 30, "1.1 GB"), (1 << 40, "1.1 TB"), (10**15, "1,000 TB")],
)  # fmt: skip
def test_a_size_is_written_as_people_do(size: int, words: str) -> None:
    assert size_of(size) == words


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (Attached("sea", "a\nholiday", "image/jpeg", "image", 68_000, b"", inline=False), "[picture, 68 kB] sea: a"),
        (Attached("sea.jpg", "", "image/jpeg", "image", 340_000, b"", inline=False, width=1200, height=800),
         "[picture, 1200 x 800, 340 kB] sea.jpg"),
        (Attached("a\nb\x1b[2J", "", "text/plain", "attachment", 999, b"", inline=False), "[file, 999 bytes] a b"),
        (Attached("x", "", "audio/ogg", "voice", 9, b"", inline=True, milliseconds=65_900), "[voice note, 1:05] x"),
        (Attached("x.ogg", "", "audio/ogg", "voice", 1, b"", inline=True), "[voice note, 1 byte] x.ogg"),
    ],
    ids=["picture", "picture whose size is known", "hostile name", "voice", "voice of no length"],
)
def test_a_file_is_shown_by_what_it_is_and_its_name(file: Attached, words: str) -> None:
    said = shown(kind="file", text="not this", file=file)
    assert said.startswith(f"12:00 [#club] bob: {words}")
    assert all(line.startswith(CONTINUATION) for line in said.split("\n")[1:])
    assert "\x1b" not in said


def test_what_is_answered_stands_above_and_reactions_below() -> None:
    quote = Quote(3, "carol", text="Shall we?")
    reactions = (Reaction("👍", ("alice", "carol")), Reaction("+1", ("dave",)))
    assert shown(quote=quote, reactions=reactions) == (
        f"{ABOVE}carol: Shall we?\n12:00 [#club] bob: yes\n{BELOW}👍 alice, carol · +1 dave"
    )
    assert shown(quote=replace(quote, edited=1)).startswith(f"{ABOVE}carol (edited): Shall we?\n")
    many = Reaction("👍", tuple(f"user{number}" for number in range(256)))
    assert len(shown(reactions=(many,))) < 200


@pytest.mark.parametrize(
    ("state", "words"),
    [("absent", "not here"), ("deleted", "deleted"), ("ignored", "you ignore"), ("unreadable", "cannot be shown")],
)
def test_where_there_is_nothing_to_quote_it_is_said_why(state: QuoteState, words: str) -> None:
    first, second = shown(quote=Quote(0, state=state)).split("\n")
    assert first.startswith(ABOVE)
    assert words in first
    assert second == "12:00 [#club] bob: yes"


def test_an_edit_shows_the_old_beginning_and_the_new_text() -> None:
    line = row(text="at seven", edited=AT + 60_000)
    assert edited_line(line, "at six", "#club", NOON) == f"{ABOVE}at six\n12:01 [#club] bob: at seven (edited)"


def test_a_deletion_says_whose_and_when_and_nothing_of_it() -> None:
    assert deleted_line(row(deleted_by="bob"), "#club", "alice") == (
        "-- bob has deleted something that they said in #club at 12:00."
    )
    by_owner = deleted_line(row(deleted_by="carol"), "#club", "alice")
    assert by_owner == "-- carol has deleted what bob said in #club at 12:00."
    own = row(sender="alice", own=True, deleted_by="carol")
    assert deleted_line(own, "#club", "alice") == "-- carol has deleted what you said in #club at 12:00."
    assert deleted_line(replace(own, deleted_by="alice"), "#club", "alice").startswith("-- You have deleted something")


def test_a_reaction_is_told_with_the_beginning_of_what_it_is_under() -> None:
    told = reacted_line(row(), "carol", "👍", "#club", removed=False)
    assert told == "-- In #club, carol put 👍 under what bob said: yes"
    long = reacted_line(row(text="x " * 1000), "carol", "👍", "#club", removed=True)
    assert " took back 👍 " in long
    assert len(long) < 60 + BRIEF


HOSTILE = "\n12:00 [#club] alice: fake\r\n      ╭ alice: fake\n      ╰ 👍 alice\x1b[2J\u202e"


def test_nobodys_text_passes_for_a_line_of_ours() -> None:
    """Each line begins with what we put there: no text of others is behind a line break of its own."""
    everything = [
        shown(text=HOSTILE, quote=Quote(3, HOSTILE, text=HOSTILE), reactions=(Reaction(HOSTILE, (HOSTILE,)),)),
        shown(quote=Quote(3, "carol", text=HOSTILE)),
        edited_line(row(text=HOSTILE, edited=AT), clean(HOSTILE), "#club", NOON),
        reacted_line(row(text=HOSTILE), "carol", "👍", "#club", removed=False),
    ]
    for text in everything:
        assert "\x1b" not in text
        assert "\u202e" not in text
        begins = [line for line in text.split("\n") if not line.startswith(CONTINUATION)]
        assert 1 <= len(begins) <= 3
        for place, line in enumerate(begins):
            ours = "12:00 [#club] bob: ", "-- In #club, carol", BELOW
            expected = (ABOVE,) if place == 0 and len(begins) > 1 else ours
            assert line.startswith(expected), line


def test_a_brief_text_is_one_line_and_a_long_one_is_cut() -> None:
    assert brief("a\n b\tc") == "a b c"
    assert brief("x" * BRIEF) == "x" * BRIEF
    assert brief("x" * 100_000) == "x" * (BRIEF - 1) + "…"


@pytest.mark.parametrize(
    ("text", "found"),
    [("@alice?", "yes"), ("hi @Alice, you", "yes"), ("(@alice)", "yes"), ("see you @alice.", "yes"), ("alice", ""),
     ("x@alice", ""), ("@alice@host", ""), ("@alice2", ""), ("@alice.b", ""), ("@@alice", "")],
)  # fmt: skip
def test_a_mention_is_the_name_and_nothing_longer(text: str, found: str) -> None:
    assert mentions(text, "alice") == bool(found)
    assert row(text=text).mentioned == bool(found)
    assert not row(text=text, own=True).mentioned


@pytest.mark.parametrize(
    ("changes", "fate"),
    [
        ({"own": False}, ""),
        ({"seq": 0, "time": 0}, "waiting"),
        ({"seq": 0, "time": 0, "problem": "This message was not sent."}, ""),
        ({}, "sent"),
        ({"recipients": 1}, "sent"),
        ({"recipients": 1, "delivered": 1}, "delivered"),
        ({"recipients": 1, "delivered": 1, "read": 1}, "read"),
        ({"recipients": 5}, "sent"),
        ({"recipients": 5, "delivered": 4}, "delivered to 4 of 5"),
        ({"recipients": 5, "delivered": 5}, "delivered to 5 of 5"),
        ({"recipients": 5, "delivered": 4, "read": 2}, "read by 2 of 5"),
        ({"recipients": 5, "delivered": 5, "read": 5}, "read by 5 of 5"),
    ],
    ids=[
        "another's", "waiting", "not sent", "to nobody who tells", "sent", "delivered", "read", "sent to five",
        "delivered to some", "delivered to all", "read by some", "read by all",
    ],
)  # fmt: skip
def test_a_line_of_ours_says_what_became_of_it(changes: dict[str, object], fate: str) -> None:
    line = row(**{"own": True, **changes})
    assert became_of(line) == fate
    shown = message_line(line, "#club", NOON, fate=True)
    assert shown.endswith(f"yes ({fate or line.problem})" if fate or line.problem else "yes")


def test_where_marks_are_not_to_show_a_line_is_sent_and_no_more() -> None:
    line = line_of(replace(SAID, own=True, recipients=1, delivered=1, read=1), marks=False)
    assert (line.delivery, became_of(line)) == ("sent", "sent")
