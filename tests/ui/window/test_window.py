"""The window under Xvfb: what it draws, what real keys and clicks do, and what hostile texts do not."""

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest

pytest.importorskip("tkinter", reason="this Python has none")
pytest.importorskip("sv_ttk", reason="needs the extra [window]")

from tkinter import font as tkfont

from securechat.client import commands
from securechat.client.events import Disconnected, Ended, Event, Ready, Received, Typing
from securechat.errors import UnreachableError
from securechat.ui.session.mail import Leave
from securechat.ui.view.notify import NEW
from securechat.ui.view.rows import key_of
from securechat.ui.window import app, files
from securechat.ui.window.column import Column
from securechat.ui.window.keys import KEYS
from securechat.ui.window.layout import Picture, Text
from securechat.ui.window.letters import EMOJI
from securechat.ui.window.looks import NAMES, PALETTES
from securechat.ui.window.notices import Notices
from securechat.ui.window.pixels import Emojis
from tests.support.display import Display
from tests.support.scripted import NUMBER, ScriptedClient, message
from tests.support.told import CLUB, HOSTILE, ROWS, file, happen
from tests.ui.window.conftest import Seat

Sit = Callable[..., Seat]


def scripted(seat: Seat) -> ScriptedClient:
    assert isinstance(seat.client, ScriptedClient)
    return seat.client


def said(seat: Seat) -> list[commands.Command]:
    return [each for each in scripted(seat).calls if isinstance(each, commands.Command)]


def everything(seat: Seat) -> None:
    for event in happen(scripted(seat)):
        seat.mail.put(event)
    seat.until(lambda: seat.mail.empty() and seat.window.rows[-1] == ROWS[-1])


# --- what it draws ----------------------------------------------------------------------------------------------------


def test_it_draws_the_same_rows_as_every_face(display: Display, seats: Sit) -> None:
    seat = seats(display)
    everything(seat)
    assert seat.window.rows == ROWS
    assert [each.key for each in seat.window.timeline.blocks] == [key_of(row) for row in ROWS]
    shown = " ".join(seat.shown.split())
    for expected in ("Wednesday, 18 November 2026", "New messages", "bob ✓", "At six?", "(edited)", "read 1/2",
                     "deleted by carol", "bob, alice", "sea.jpg", "picture, 1200 x 800, 68 kB", "0:15",
                     "it cannot be decrypted", "alice: At six?", "carol waves", "bob (other key!)", "not sent",
                     "waiting", "lets it go to them.", "↑ plan.pdf", "25% of 1.2 MB"):  # fmt: skip
        assert expected in shown, expected


@pytest.mark.parametrize("size", ["400x380", "800x600", "1400x900"])
@pytest.mark.parametrize("theme", PALETTES)
def test_it_fits_into_every_size_and_from_one_into_another(
    display: Display, seats: Sit, size: str, theme: str
) -> None:
    seat = seats(display, size=size, theme=theme)
    everything(seat)
    seat.until(lambda: seat.focused is seat.window.composer)
    display.press("ctrl+End")
    for each in (size, "1000x700", size):
        seat.root.geometry(each)
        seat.until(lambda each=each: f"{seat.root.winfo_width()}x{seat.root.winfo_height()}" == each)  # type: ignore[misc]
        seat.until(lambda: seat.window.timeline.at_end and seat.window.composer.winfo_viewable())
        seat.until(lambda: seat.window.timeline.find_withtag("all"))
        room = seat.window.timeline.room
        for block in seat.window.timeline.blocks:
            assert all(piece.x >= 0 for piece in block.pieces)
            for piece in block.pieces:
                if isinstance(piece, Text):
                    end = piece.x + seat.window.paints.letters.width(piece.text, piece.style)
                    assert end <= room, (each, block.key, piece)


def test_only_what_is_seen_is_drawn(display: Display, seats: Sit) -> None:
    seat = seats(display)
    core = scripted(seat)
    for number in range(100, 900):
        core.said.append(message(CLUB, "bob", f"message {number}", local_id=number, seq=number))
    seat.window.session.timeline = None
    seat.mail.put(Typing(CLUB.id, "bob", typing=False))
    seat.until(lambda: any(each.key == "line-899" for each in seat.window.timeline.blocks))
    seat.reads("message 899")
    seat.until(lambda: len(seat.window.timeline.find_withtag("all")) < 400)
    for _ in range(12):  # and back, page by page
        seat.window.timeline.go(0)
        seat.until(lambda: not seat.window.timeline.due)
    assert len(seat.window.timeline.blocks) > 700
    assert len(seat.window.timeline.find_withtag("all")) < 400


@pytest.mark.parametrize("name", PALETTES)
def test_all_that_is_read_stands_out_from_what_is_behind_it(name: str) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5 to 1."""

    def light(colour: str) -> float:
        shares = [each / 255 for each in bytes.fromhex(colour[1:])]
        linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        lighter, darker = sorted((light(one), light(other)), reverse=True)
        return (lighter + 0.05) / (darker + 0.05)

    palette = PALETTES[name]
    read = [palette[each] for each in ("text", "quiet", "quote", "good", "warning", "alarm", "new", "link", "accent")]
    for ground in ("base", "side", "page", "bubble", "own", "named", "here", "chip"):
        for colour in read:
            assert contrast(colour, palette[ground]) >= 4.5, (ground, colour)
    for colour in NAMES[name]:
        for ground in ("bubble", "named", "side"):
            assert contrast(colour, palette[ground]) >= 4.5, (ground, colour)
        assert contrast(palette["on-name"], colour) >= 4.5, colour
    assert contrast(palette["on-badge"], palette["badge"]) >= 4.5


def test_the_list_says_what_is_new_and_the_status_how_things_stand(display: Display, seats: Sit) -> None:
    seat = seats(display)
    bob = scripted(seat).known["bob"]
    scripted(seat).receive(bob, "bob", "and @alice")
    seat.until(lambda: any("@1" in each for each in seat.listed))
    seat.until(lambda: seat.root.title().startswith("(1) "))
    told: list[tuple[Event, str]] = [
        (Ready(), "connected"), (Typing(CLUB.id, "bob", typing=True), "bob types"),
        (Disconnected("cut off", 5.0), "no connection: cut off"),
    ]  # fmt: skip
    for event, words in told:
        seat.mail.put(event)
        seat.reads(words)


def test_a_preview_is_shown_once_it_was_decoded(display: Display, seats: Sit) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs the extra [media]")
    encoded = BytesIO()
    image.new("RGB", (61, 40), "#0000ff").save(encoded, "JPEG")
    for local_id, thumbnail in ((90, encoded.getvalue()), (91, b"no picture at all")):
        seat = seats(display)
        shared = file("sea.jpg", width=610, height=400, thumbnail=thumbnail)
        scripted(seat).said.append(message(CLUB, "bob", "Our house", local_id=local_id, seq=local_id, file=shared))
        seat.mail.put(Received(scripted(seat).said[-1]))
        seat.reads("Our house")
        if local_id == 91:  # hostile to whoever decodes it: it stays a line
            seat.until(lambda seat=seat: seat.window.pictures._seen.get(91, seat) is None)  # type: ignore[misc]
            assert not any(isinstance(each, Picture) for each in seat.window.timeline.blocks[-1].pieces)
            continue
        seat.until(lambda seat=seat: any(isinstance(each, Picture) for block in seat.window.timeline.blocks  # type: ignore[misc]
                                         for each in block.pieces))  # fmt: skip
        seat.until(lambda seat=seat: not seat.window.timeline.due)  # type: ignore[misc]
        found = seat.window.paints.preview(90)
        assert found is not None
        assert (found.width(), found.height()) == (61, 40)
        assert found.get(30, 20)[2] > 200


def test_emoji_are_pictures_where_a_font_has_them(display: Display, seats: Sit) -> None:
    image_font = pytest.importorskip("PIL.ImageFont", reason="needs the extra [media]")
    seat = seats(display)
    for font in (None, image_font.load_default(size=30)):
        emojis = Emojis(seat.root, None)
        emojis._font = font
        assert emojis.has("A") == (font is not None)
        assert not emojis.has(" ")
        picture = emojis.of("A", 20)
        assert (picture is not None) == (font is not None)
        assert picture is None or (picture.width(), picture.height()) == (20, 20)


def test_a_notice_comes_by_the_bell_and_in_the_title(
    display: Display, seats: Sit, monkeypatch: pytest.MonkeyPatch
) -> None:
    seat = seats(display)
    rung: list[str] = []
    seat.until(seat.mail.empty)
    monkeypatch.setattr(seat.root, "bell", lambda: rung.append("bell"))
    notices = seat.window.session._ring
    assert isinstance(notices, Notices)
    monkeypatch.setattr(notices, "_no_desktop", True)  # as where no desktop-notifier is
    for by in ("bell", "terminal"):
        notices._free = 0.0
        notices.ring(NEW, by)
    assert rung == ["bell", "bell"]
    seat.window._draw_list()
    assert seat.root.title() == "* securechat - alice"
    seat.window._looked()
    seat.window._draw_list()
    assert seat.root.title() == "securechat - alice"


# --- what keys and clicks do ------------------------------------------------------------------------------------------


def test_what_is_written_is_sent_and_comes_back_by_the_arrow_keys(display: Display, seats: Sit) -> None:
    seat = seats(display)
    seat.types("one")
    display.press("shift+\n")
    seat.until(lambda: seat.window.composer.text == "one\n")
    seat.display.type("two")
    seat.until(lambda: seat.window.composer.text == "one\ntwo")
    display.press("\n")
    seat.reads("two")
    assert [each.text for each in said(seat) if isinstance(each, commands.Send)] == ["one\ntwo"]
    seat.types("draft")
    display.press("Up")
    seat.until(lambda: seat.window.composer.text == "one\ntwo")
    display.press("Down")
    seat.until(lambda: seat.window.composer.text == "draft")


def test_tab_completes_what_the_line_mode_completes(display: Display, seats: Sit) -> None:
    seat = seats(display)
    seat.types("/saf")
    display.press("\t")
    seat.until(lambda: seat.window.composer.text == "/safety ")
    seat.types("b")
    display.press("\t")
    seat.until(lambda: seat.window.composer.text == "/safety bob ")
    display.press("\n")
    seat.reads(NUMBER.split(" ")[7])
    assert seat.window.pane == "number"


def test_keys_on_a_message_answer_edit_and_react(display: Display, seats: Sit) -> None:
    seat = seats(display)
    everything(seat)
    display.press("Escape")
    seat.until(lambda: seat.focused is seat.window.timeline)
    seat.window.timeline.choose("line-9")
    display.press("r")
    seat.until(lambda: seat.window.context == ("/reply", 9))
    seat.says("Yes")
    seat.until(lambda: any(isinstance(each, commands.Reply) for each in said(seat)))
    display.press("Escape")
    seat.until(lambda: seat.focused is seat.window.timeline)
    seat.window.timeline.choose("line-9")
    display.press("+")
    seat.until(lambda: seat.window.context == ("/react", 9))
    display.press("1")
    seat.until(lambda: any(isinstance(each, commands.React) and each.text == "👍" for each in said(seat)))
    display.press("Escape")
    seat.until(lambda: seat.focused is seat.window.timeline)
    seat.window.timeline.choose("line-9")
    display.press("c")
    seat.reads("Copied: Fine")
    assert seat.root.clipboard_get() == "Fine"


def test_a_search_leads_to_where_something_was_said(display: Display, seats: Sit) -> None:
    seat = seats(display)
    everything(seat)
    display.press("ctrl+f")
    seat.until(lambda: seat.focused is seat.window.query)
    display.type("meet")
    seat.until(lambda: [each.key for each in seat.window.found.blocks] == ["line-1"])
    display.press("\n")
    seat.until(lambda: seat.focused is seat.window.found and seat.window.found.chosen == "line-1")
    display.press("\n")
    seat.until(lambda: seat.focused is seat.window.timeline and seat.window.timeline.chosen == "line-1")
    display.press("Escape")
    seat.until(lambda: not seat.window.pane)


def test_a_click_goes_to_a_conversation(display: Display, seats: Sit) -> None:
    seat = seats(display)
    seat.until(lambda: len(seat.listed) == 2)
    column = seat.window.list
    place = next(place for place, each in enumerate(column.blocks) if "bob" in each.words.split()[:2])
    column.update()
    display.click(column.winfo_rootx() + 120, column.winfo_rooty() + column._starts[place] + 20)
    seat.until(lambda: seat.window.session.place.name == "bob")
    seat.until(lambda: seat.focused is seat.window.composer)


def test_every_key_does_something(display: Display, seats: Sit, monkeypatch: pytest.MonkeyPatch) -> None:
    seat = seats(display)
    done: list[str] = []
    monkeypatch.setattr(seat.window, "do", done.append)
    seat.until(lambda: seat.focused is seat.window.composer)
    names = {"Control": "ctrl", "Alt": "alt"}
    for name, key in KEYS.items():
        for sequence in key.sequences:
            *held, last = sequence.strip("<>").split("-")
            display.press("+".join([*(names[each] for each in held), last]))
            seat.until(lambda name=name: done == [name])  # type: ignore[misc]
            done.clear()
    assert not seat.window.composer.text


# --- what does not happen ---------------------------------------------------------------------------------------------


def test_hostile_texts_neither_freeze_it_nor_reach_tk_as_they_are(
    display: Display, seats: Sit, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    create = Column.create_text

    def watched(self: Column, *where: Any, **how: Any) -> int:
        given.append(how["text"])
        return create(self, *where, **how)

    monkeypatch.setattr(Column, "create_text", watched)
    seat = seats(display)
    emoji = "".join(chr(each) for each in range(0x2190, 0x1FB00) if unicodedata.category(chr(each)) == "So")
    texts = [
        HOSTILE, "\u202e" * 1000 + "txet", "a" + "\u0301" * 100_000, "x" * 65_000, "👍" * 16_000, emoji[:8000],
        "👩\u200d" * 5000, "שלום " * 10_000, "\n" * 60_000, "\ue000\ue001", "a\0b", "]; exit; [", "{", "$x [exit] \\",
        " ".join(f"w{each}" for each in range(10_000)),
    ]  # fmt: skip
    for text in texts:
        scripted(seat).receive(CLUB, "bob", text)
    scripted(seat).receive(CLUB, "bob", "the last one")
    seat.reads("the last one")
    for by in range(30):
        seat.window.timeline.scroll(-600)
        seat.until(lambda: not seat.window.timeline.due)
        if by == 10:
            seat.types("still here")
    assert given
    assert not [each for each in given if EMOJI.search(each)]
    assert not [each for each in given if len(each) > 512]
    assert not [each for each in given if "\n" in each or "\u202e" in each or "\x1b" in each]


def test_emoji_are_pasted_and_sent_as_they_are(display: Display, seats: Sit) -> None:
    seat = seats(display)
    text = "so 👍🏽 and 👩\u200d🚀 and ♉!"
    seat.root.clipboard_clear()
    seat.root.clipboard_append(text)
    seat.until(lambda: seat.focused is seat.window.composer)
    display.press("ctrl+v")
    seat.until(lambda: seat.window.composer.text == text)
    assert EMOJI.search(seat.window.composer.get("1.0", "end-1c")) is None
    display.press("\n")
    seat.until(lambda: any(isinstance(each, commands.Send) and each.text == text for each in said(seat)))
    display.press("ctrl+f")
    seat.until(lambda: seat.focused is seat.window.query)
    display.press("ctrl+v")
    seat.until(lambda: "[thumbs up sign]" in seat.window.query.get())
    assert EMOJI.search(seat.window.query.get()) is None


def test_keys_get_their_turn_while_much_comes_in_and_much_is_drawn_at_once(display: Display, seats: Sit) -> None:
    seat = seats(display)
    seat.until(lambda: seat.focused is seat.window.composer)
    seat.until(seat.mail.empty)
    count, left = 3000, list[int]()
    for number in range(count):
        text = f"one of many {number}"
        scripted(seat).said.append(message(CLUB, "bob", text, local_id=1000 + number, seq=1000 + number))
        seat.mail.put(Received(scripted(seat).said[-1]))
    changed = seat.window.composer.changed

    def watched(text: str) -> None:
        left.append(seat.mail.qsize())
        changed(text)

    seat.window.composer.changed = watched
    drawn, taken = seat.window.timeline.drawn, seat.window.taken
    display.type("hello")
    seat.until(lambda: seat.window.composer.text == "hello")
    assert left[-1] > 0  # they were written before everything was there
    seat.reads(f"one of many {count - 1}")
    assert seat.window.taken - taken >= count
    assert seat.window.timeline.drawn - drawn < count / 5


def test_what_is_told_before_it_begins_is_taken(display: Display, seats: Sit) -> None:
    seat = seats(display)
    seat.until(seat.mail.empty)
    assert "connected" in seat.shown  # the core has told it while it started


def test_it_ends_with_the_core_and_says_why(display: Display, seats: Sit) -> None:
    seat = seats(display)
    seat.mail.put(Ended(UnreachableError("The server has gone.")))
    seat.until(lambda: seat.window._over)
    assert [each.text for each in seat.window.last_words] == ["The server has gone."]


@pytest.mark.parametrize("way", ["key", "signal", "close", "typed"])
def test_it_leaves_in_order(display: Display, seats: Sit, way: str) -> None:
    seat = seats(display)
    match way:
        case "key":
            seat.until(lambda: seat.focused is seat.window.composer)
            display.press("ctrl+q")
        case "signal":
            seat.mail.put(Leave())
        case "close":
            seat.root.after(1, lambda: seat.root.tk.eval(seat.root.protocol("WM_DELETE_WINDOW")))
        case _:
            seat.types("/quit")
            display.press("\n")
    seat.until(lambda: seat.window._over)
    assert scripted(seat).calls[-1] == "close"


def test_what_should_not_happen_ends_it_and_is_told_once(display: Display, seats: Sit, capfd: Any) -> None:
    seat = seats(display)

    def fail() -> None:
        secret = "a secret"  # noqa: F841  # it is not to be seen
        raise ValueError("a bug")

    seat.root.after(1, fail)
    with pytest.raises(ValueError, match="a bug"):
        seat.until(lambda: seat.window._over)
    assert seat.window._over
    assert "secret" not in "".join(capfd.readouterr())


def test_a_folder_is_not_shown_where_its_names_could_end_the_program(
    display: Display, seats: Sit, monkeypatch: pytest.MonkeyPatch
) -> None:
    seat = seats(display)
    monkeypatch.setattr(files, "_xft", lambda: 20304)
    monkeypatch.setattr(tkfont, "families", lambda _root: ("Noto Sans", "Noto Color Emoji"))
    assert not files.has_dialogs(seat.root)
    seat.window.attach()
    assert seat.window.composer.text == "/send "
    monkeypatch.setattr(tkfont, "families", lambda _root: ("Noto Sans",))
    assert files.has_dialogs(seat.root)


def test_it_shows_who_is_in_no_conversation_what_to_do(display: Display, seats: Sit) -> None:
    seat = seats(display, ScriptedClient)
    seat.until(lambda: seat.window.rows == app._NOWHERE[seat.window.session.place.nowhere])
    assert replace(seat.window.rows[0]) == seat.window.rows[0]
