"""The viewer's screen, without a terminal: a view in, rows out."""

from dataclasses import replace

import pytest
from prompt_toolkit.utils import get_cwidth

from securechat_lab.watching.demo import DROPPED
from securechat_lab.watching.demo import PRIVATE as LINES
from securechat_lab.watching.screen import Row, View, cut, draw, plain, wrap
from securechat_lab.watching.story import Story, tell
from tests.lab.watching.test_story import NASTY, accepted, line, submit


def texts(rows: list[Row]) -> list[str]:
    return ["".join(text for _, text in row).rstrip() for row in rows]


def at(story: Story, text: str, width: int = 80, height: int = 24) -> View:
    view = View(story, width, height)
    return replace(view, chosen=[each.text for each in view.moments].index(text))


def assert_fits(view: View) -> None:
    rows = draw(view)
    assert len(rows) == view.height
    for row in rows:
        assert sum(get_cwidth(text) for _, text in row) == view.width
        assert all(text.isprintable() for _, text in row)


@pytest.mark.parametrize("size", [(80, 24), (81, 25), (109, 30), (110, 33), (200, 60), (20, 5), (1, 1), (80, 23)])
def test_it_fits_whatever_is_chosen(story: Story, size: tuple[int, int]) -> None:
    for chosen in (0, 3, 9, len(story.moments) - 1):
        for everything in (False, True):
            for inside in (False, True):
                assert_fits(View(story, *size, chosen=chosen, everything=everything, inside=inside, layer=chosen))


def test_in_80_by_24_there_is_the_axis_the_table_and_the_onion(story: Story) -> None:
    shown = texts(draw(at(story, LINES[0])))
    assert shown[1].startswith(" ▤ to server")
    assert "▲" in shown[3]
    chosen = next(row for row in shown if row.startswith("▶"))
    assert all(size in chosen for size in ("↑497", "↓525", "↓84"))
    assert "#5 e1 alice→bob 424 B" in chosen
    assert "alice: The delivery" in chosen
    onion = shown[shown.index("─" * 80) + 1 :]
    assert onion[0] == f" The way of “{LINES[0]}”: 35 bytes become 497"
    assert [row[2:].split("  ")[0] for row in onion[1:7]] == [
        "☺ text", "☺ content", "☺ padded and signed", "▣ MLS message", "▣ frame", "▤ TLS record",
    ]  # fmt: skip
    assert onion[7].startswith("  seen by ☺ alice and bob alone  ▣ the server, too  ▤ everybody on the way, too")


def test_a_wide_screen_has_a_column_for_each_person(story: Story) -> None:
    shown = texts(draw(at(story, DROPPED, 130, 34)))
    (head,) = (row for row in shown if "☺ alice" in row and "☺ bob" in row and "☺ carol" in row)
    chosen = next(row for row in shown if row.startswith("▶"))
    assert chosen[head.index("☺ alice") :].startswith("» shall we meet")
    assert chosen[head.index("☺ bob") :].startswith("‹ shall we meet")
    assert chosen[head.index("☺ carol") :].startswith("≠ yes")
    assert "●─●" in chosen
    assert " ≠ FORK at #4: alice, bob had one message, carol another." in shown


def test_inside_a_layer_are_its_fields(story: Story) -> None:
    shown = "\n".join(texts(draw(replace(at(story, LINES[0]), inside=True, layer=3))))
    for field in ("version, format", "00010002", "group", "epoch", "0000000000000001", "number", "sender, encrypted"):
        assert field in shown


def test_what_comes_later_can_be_hidden(story: Story) -> None:
    view = at(story, LINES[0])
    assert LINES[1] in "\n".join(texts(draw(view)))
    hidden = texts(draw(replace(view, until=True)))
    assert LINES[1] not in "\n".join(hidden)
    assert max(len(hidden[1]), len(hidden[2])) <= hidden[3].index("▲") + 1  # the bars end there
    assert len(texts(draw(view))[1]) > hidden[3].index("▲") + 1


def test_what_is_not_about_a_message_is_shown_on_demand(story: Story) -> None:
    assert "Subscribe" not in "\n".join(plain(story, 80))
    view = View(story, 80, 40, everything=True)
    assert "ClientHello" in "\n".join(texts(draw(view)))


def test_an_empty_recording_and_a_damaged_one_are_sentences() -> None:
    assert "nothing in this recording" in "\n".join(texts(draw(View(tell(()), 80, 24))))
    assert "Nothing was recorded yet" in "\n".join(texts(draw(View(tell(()), 80, 24, live=True))))
    damaged = View(tell((), ["Line 2 is damaged.", "Line 3 is damaged."]), 80, 24)
    assert " ! Line 2 is damaged. (and 1 more)" in texts(draw(damaged))
    assert "This needs 80 columns and 24 rows" in texts(draw(View(tell(()), 79, 24)))[0]


@pytest.mark.parametrize("text", [NASTY, "漢字" * 200, "e" + "́" * 500, "🏴‍☠️" * 99, "\t" * 99, "שלום", " " * 300])
def test_hostile_texts_stay_in_their_place(text: str) -> None:
    said = line("person", "received", 1, sender=text[:64], to="bob", conversation="c", seq=1, text=text, len=9)
    alarm = line("person", "alarm", 2, to=text[:64], text=text)
    title = line("scene", "title", text=text)
    story = tell([title, submit(1, 0, sender=text[:64]), accepted(1, 1, 0.5), said, alarm], [text])
    for size in ((80, 24), (140, 40)):
        for chosen in (0, 1):
            view = View(story, *size, chosen=chosen)
            rows = draw(replace(view, story=replace(story, problems=())))
            assert all(sum(get_cwidth(part) for _, part in row) == size[0] for row in rows)
            assert all(part.isprintable() for row in rows for _, part in row)


def test_texts_are_cut_and_wrapped_by_cells() -> None:
    assert cut("漢字漢字", 5) == "漢字…"
    assert cut("漢字漢字", 6) == "漢字… "
    assert cut("ab", 4) == "ab  "
    assert cut("ab", 0) == ""
    assert wrap("one two three", 7) == ["one two", "three"]
    assert wrap("abcdefghij k", 4) == ["abcd", "efgh", "ij k"]
    assert all(get_cwidth(each) <= 5 for each in wrap("漢" * 9 + " x", 5))
    assert "".join(wrap("漢" * 9, 5)) == "漢" * 9
