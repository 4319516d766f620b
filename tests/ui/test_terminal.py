"""The full screen, under Textual's pilot: what it draws, what keys do, and what hostile texts do not."""

import asyncio
import unicodedata
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest
from textual.command import CommandList
from textual.pilot import Pilot
from textual.widgets import Input

from securechat.client import commands
from securechat.client.core import ChatClient
from securechat.client.events import Connected, Disconnected, Ended, Event, PasswordWanted, Ready, Received, Typing
from securechat.client.password_source import PasswordSource
from securechat.client.settings import ClientSettings
from securechat.client.vault.vault import Vault
from securechat.content.registry import MAX_TEXT
from securechat.errors import UnreachableError
from securechat.ui.exit_codes import ExitCode
from securechat.ui.session.mail import Mail
from securechat.ui.terminal.app import FullScreen
from securechat.ui.terminal.blocks import Blocks
from securechat.ui.terminal.drawing import MAX_ROWS
from securechat.ui.terminal.keys import KEYS
from securechat.ui.terminal.themes import LOOKS, THEMES
from securechat.ui.text.states import NOBODY_HEARS, NOBODY_YET
from securechat.ui.view.rows import Line, key_of
from securechat_lab.cast.live import CHEAP, LiveClient
from tests.support.live import LiveServer
from tests.support.scripted import NUMBER, ScriptedClient, conversation, message
from tests.support.told import CLUB, HOSTILE, NEW, ROWS, begin, happen

PATIENCE = 60.0

Act = Callable[[FullScreen, Pilot[ExitCode]], Awaitable[None]]


def seated(*, online: bool = True) -> tuple[ScriptedClient, Mail]:
    mail = Mail()
    client = ScriptedClient(mail.put, online=online)
    begin(client)
    client.add(replace(conversation("bob"), trust=("accepted", "verified"), heard=("bob",)))
    client.visits.append((CLUB.id, 0))
    return client, mail


def play(client: ChatClient, mail: Mail, act: Act, *, size: tuple[int, int] = (120, 40)) -> FullScreen:
    app = FullScreen(client, mail)

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await act(app, pilot)

    asyncio.run(run())
    return app


async def until(pilot: Pilot[ExitCode], holds: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE
    while not holds():
        assert pilot.app._exception is None
        assert monotonic() < deadline, screen(pilot.app)
        await pilot.pause(0.02)


def text_of(blocks: Blocks) -> str:
    return "\n".join(strip.text.rstrip() for block in blocks.blocks for strip in block.strips)


def screen(app: object) -> str:
    """All that is on the screen."""
    assert isinstance(app, FullScreen)
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())


def said(client: ScriptedClient) -> list[commands.Command]:
    return [each for each in client.calls if isinstance(each, commands.Command)]


async def everything(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
    client = app.client
    assert isinstance(client, ScriptedClient)
    for event in happen(client):
        app.mail.put(event)
    await until(pilot, lambda: app.mail.empty() and app.timeline.rows[-1] == ROWS[-1])


# --- what it draws ----------------------------------------------------------------------------------------------------


def test_it_draws_the_same_rows_as_every_face() -> None:
    client, mail = seated()

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        await everything(app, pilot)
        assert app.timeline.rows == ROWS
        assert [each.key for each in app.timeline.blocks] == [key_of(row) for row in ROWS]
        shown = text_of(app.timeline)
        for expected in ("Wednesday, 18 November 2026", "new", "bob ✓  ", "At six? (edited)", "read 1/2",
                         "deleted by carol", "👍 bob, alice", "▣ sea.jpg  picture, 1200 x 800, 68 kB", "0:15",
                         "it cannot be decrypted", "↳ alice: At six?", "carol waves", "bob (other key!)",
                         "✗ not sent", "◌ waiting", "lets it go to them.", "↑ plan.pdf", "25% of 1.2 MB"):  # fmt: skip
            assert expected in shown.replace("\n    ", " "), expected

    play(client, mail, act)


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (300, 80)])
def test_it_fits_into_every_size_and_from_one_into_another(size: tuple[int, int]) -> None:
    client, mail = seated()

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        await everything(app, pilot)
        await pilot.press("ctrl+end")
        for columns, rows in (size, (120, 40), size):
            await pilot.resize_terminal(columns, rows)
            await until(pilot, lambda rows=rows: app.composer.region.bottom < rows + 1)  # type: ignore[misc]
            await until(pilot, lambda: {
                strip.cell_length for block in app.timeline.blocks for strip in block.strips
            } == {app.timeline.columns})  # fmt: skip
            await until(pilot, lambda: "plan.pdf" in screen(app))  # the end stays in view
            assert app.composer.has_focus

    play(client, mail, act, size=size)


def test_hostile_texts_are_drawn_as_what_they_are() -> None:
    client, mail = seated()
    texts = [HOSTILE, "\u202e" * 2000 + "abc", "x" + "\u0301" * 100_000, "[@click=app.quit()]here[/]",
             "\x1b]8;;https://evil.example\x07link", "a\u200b\u2066b\r\nbob: I owe you", "漢" * 300, "👩\u200d👩" * 50,
             "\x00\x9b31m"]  # fmt: skip

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        for number, text in enumerate(texts, 50):
            client.said.append(message(CLUB, "bob", text, local_id=number, seq=number))
            mail.put(Received(client.said[-1]))
        await until(pilot, lambda: any(each.key == f"line-{49 + len(texts)}" for each in app.timeline.blocks))
        for strip in (strip for block in app.timeline.blocks for strip in block.strips):
            assert strip.cell_length == app.timeline.columns
            assert not [each for each in strip.text if unicodedata.category(each) == "Cc"]
            assert not set(strip.text) & set("\u202e\u2066\u200b")
            assert not [segment for segment in strip if segment.style and (segment.style.link or segment.style.meta)]
        shown = text_of(app.timeline)
        assert "[red]Free[/red]" in shown
        assert "[@click=app.quit()]here[/]" in shown
        rows = [each.strip() for each in shown.split("\n")]
        assert "bob: I owe you" not in rows  # what says so stands behind the bar of who has said it
        assert any(each.endswith("▎ bob: I owe you") for each in rows)

    app = play(client, mail, act)
    assert app.session.exit_code is None


@pytest.mark.parametrize("unit", ["a\n", "\n\u0301", "a", "a ", "漢", "e\u0301", "👩\u200d"])
def test_of_a_long_text_the_beginning_is_drawn_and_all_of_it_once_it_is_asked_for(unit: str) -> None:
    client, mail = seated()
    long = unit * (MAX_TEXT // len(unit.encode()))
    texts = {60: long, 61: "\n".join(map(str, range(MAX_ROWS))), 62: "\n".join(map(str, range(MAX_ROWS + 1)))}

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        def drawn() -> dict[str, str]:
            return {each.key: "\n".join(strip.text for strip in each.strips) for each in app.timeline.blocks}

        for number, text in texts.items():
            client.said.append(message(CLUB, "bob", text, local_id=number, seq=number))
            mail.put(Received(client.said[-1]))
        await until(pilot, lambda: "line-62" in drawn())
        assert all(len(each.strips) <= MAX_ROWS + 4 for each in app.timeline.blocks)
        assert [key for key, text in drawn().items() if "there is more" in text] == ["line-60", "line-62"]
        assert f" {MAX_ROWS - 1} " in drawn()["line-61"]  # the twin: as long as can be
        app.timeline.focus()
        app.timeline.choose("line-62")
        await pilot.press("enter")
        await until(pilot, lambda: f" {MAX_ROWS} " in drawn()["line-62"])
        assert "there is more" in drawn()["line-60"]
        await pilot.press("enter")
        await until(pilot, lambda: "there is more" in drawn()["line-62"])

    play(client, mail, act)


def test_the_list_says_what_is_new_and_where_one_is_named() -> None:
    client, mail = seated()
    lobby = client.add(conversation("#lobby", "open", members=("alice", "bob", "carol")))

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        listed = app.query_one("#list", Blocks)
        client.receive(lobby, "bob", "@alice look")
        await until(pilot, lambda: "@1" in text_of(listed))
        assert "bob ✓" in text_of(listed)
        await pilot.press("alt+a")  # where something is new
        await until(pilot, lambda: app.session.place.name == "#lobby" and "@1" not in text_of(listed))

    play(client, mail, act)


def test_the_last_line_says_whether_there_is_a_connection_and_who_types() -> None:
    client, mail = seated(online=False)

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        told: list[tuple[Event, str]] = [
            (Connected("site", ""), "logging in"), (Ready(), "● connected"),
            (Typing(CLUB.id, "bob", typing=True), "bob types"),
            (Disconnected("cut off", 5.0), "no connection: cut off"),
        ]  # fmt: skip
        for event, words in told:
            mail.put(event)
            await until(pilot, lambda words=words: words in screen(app).split("\n")[-1])  # type: ignore[misc]

    play(client, mail, act)


# --- what keys do -----------------------------------------------------------------------------------------------------


def test_what_is_written_is_sent_and_comes_back_by_the_arrow_keys() -> None:
    client, mail = seated()

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        await pilot.press(*"one", "alt+enter", *"two", "enter")
        await pilot.press(*"draft", "up")
        await until(pilot, lambda: app.composer.text == "one\ntwo")
        await pilot.press("down", "down")  # from its first row to its last, and on
        await until(pilot, lambda: app.composer.text == "draft")

    play(client, mail, act)
    assert [each.text for each in said(client) if isinstance(each, commands.Send)] == ["one\ntwo"]


def test_tab_completes_what_the_line_mode_completes() -> None:
    client, mail = seated()

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        await pilot.press(*"/safe", "tab")
        await until(pilot, lambda: app.composer.text == "/safety ")
        await pilot.press(*"c", "tab")
        await until(pilot, lambda: app.composer.text == "/safety carol ")
        app.composer.write("/in")
        await pilot.press("tab")
        await until(pilot, lambda: "/invite-line" in screen(app))
        assert app.composer.text == "/invite"

    play(client, mail, act)


def test_a_message_is_answered_changed_and_taken_back_by_keys() -> None:
    client, mail = seated()

    def has_said(kind: type[commands.Command]) -> bool:
        return any(isinstance(each, kind) for each in said(client))

    async def choose(app: FullScreen, pilot: Pilot[ExitCode], local_id: int) -> None:
        app.timeline.focus()
        app.timeline.choose(f"line-{local_id}")
        await until(pilot, lambda: app.timeline.has_focus)

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        await pilot.press("escape")
        await until(pilot, lambda: app.timeline.has_focus)
        await choose(app, pilot, NEW[0].local_id)
        await pilot.press("r")
        await until(pilot, lambda: "↳ carol: @alice look" in screen(app))
        await until(pilot, lambda: app.composer.has_focus)
        await pilot.press(*"Yes", "enter")
        await until(pilot, lambda: has_said(commands.Reply))
        await choose(app, pilot, NEW[0].local_id)
        await pilot.press("+", "1")
        await until(pilot, lambda: has_said(commands.React))
        await choose(app, pilot, 2)
        await pilot.press("e")
        await until(pilot, lambda: app.composer.has_focus and app.composer.text == "At sixx?")
        await pilot.press("backspace", "backspace", "?", "enter")
        await until(pilot, lambda: has_said(commands.Edit))
        await choose(app, pilot, 2)
        await pilot.press("d")
        await until(pilot, lambda: "d once more" in screen(app))
        assert not has_said(commands.Delete)
        await pilot.press("d")
        await until(pilot, lambda: has_said(commands.Delete))

    play(client, mail, act)
    about = (commands.Reply, commands.React, commands.Edit, commands.Delete)
    found = [each for each in said(client) if isinstance(each, about)]
    assert [(type(each).__name__, each.local_id) for each in found] == [
        ("Reply", 4), ("React", 4), ("Edit", 2), ("Delete", 2)
    ]  # fmt: skip
    assert [each.text for each in found[:3] if not isinstance(each, commands.Delete)] == ["Yes", "👍", "At six?"]


def test_a_search_leads_to_the_line_and_what_is_around_it() -> None:
    client, mail = seated()
    for number in range(100, 600):
        client.said.append(message(CLUB, "bob", f"text {number}", local_id=number, seq=number))

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        await pilot.press("ctrl+f")
        await until(pilot, lambda: isinstance(app.focused, Input))
        await pilot.press(*"sixx")
        await until(pilot, lambda: "At sixx?" in text_of(app.pane.found))
        assert "At sixx?" not in text_of(app.timeline)  # it is further back than what is open
        await pilot.press("enter")
        await until(pilot, lambda: app.pane.found.has_focus and app.pane.found.chosen == "line-2")
        await pilot.press("enter")
        await until(pilot, lambda: app.timeline.chosen == "line-2" and "At sixx?" in text_of(app.timeline))
        await until(pilot, lambda: "At sixx?" in screen(app))
        await pilot.press("ctrl+end")
        await until(pilot, lambda: "text 599" in screen(app))

    play(client, mail, act)


def test_one_scrolls_back_to_the_first_line_and_on_to_the_last() -> None:
    client, mail = seated()
    for number in range(100, 500):
        client.said.append(message(CLUB, "bob", f"text {number}", local_id=number, seq=number))
    client.shown = 10_000  # nothing is new

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        await until(pilot, lambda: "text 499" in screen(app))
        while "Shall we meet?" not in screen(app):
            await pilot.press("pageup")
        client.said.append(message(CLUB, "carol", "meanwhile", local_id=900, seq=900))
        mail.put(Received(client.said[-1]))  # does not pull the reader away
        await until(pilot, mail.empty)
        await pilot.pause()
        assert "Shall we meet?" in screen(app)
        while "meanwhile" not in screen(app):
            await pilot.press("pagedown")

    play(client, mail, act)


def test_keys_to_compare_are_shown_as_digits_and_as_a_code() -> None:
    client, mail = seated()

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        app.go("bob")
        await pilot.press("f5")
        for expected in ("Safety number", "▀" * 10, *NUMBER.split(" ")):
            await until(pilot, lambda expected=expected: expected in screen(app))  # type: ignore[misc]
        await pilot.press("escape")
        await until(pilot, lambda: "Safety number" not in screen(app))

    play(client, mail, act)


def test_members_are_listed_with_how_their_keys_stand() -> None:
    client, mail = seated()

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        await pilot.press("f4")
        await until(pilot, lambda: "alice (you)" in text_of(app.pane.found))
        assert "accepted, not compared" in text_of(app.pane.found)
        await until(pilot, lambda: "Who is here" in screen(app))

    play(client, mail, act)


def first_offer(app: FullScreen) -> str:
    """What the palette does on Enter; empty: nothing yet."""
    for offered in app.screen.query(CommandList):
        if offered.highlighted is not None:
            return str(offered.get_option_at_index(offered.highlighted).prompt).partition("\n")[0]
    return ""


def test_the_palette_goes_to_a_conversation_and_begins_a_command() -> None:
    client, mail = seated()

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        await pilot.press("ctrl+k")
        await until(pilot, lambda: isinstance(app.focused, Input))
        await pilot.press(*"bob")
        await until(pilot, lambda: first_offer(app) == "bob")
        await pilot.press("enter")
        await until(pilot, lambda: app.session.place.name == "bob")

    play(client, mail, act)


def test_the_mouse_goes_where_the_keys_go() -> None:
    client, mail = seated()

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        listed = app.query_one("#list", Blocks)
        await until(pilot, lambda: "bob" in text_of(listed))
        row = next(y for y in range(listed.size.height) if "bob" in listed.render_line(y).text)
        await pilot.click(listed, offset=(2, row))
        await until(pilot, lambda: app.session.place.name == "bob")

    play(client, mail, act)


def test_a_password_is_asked_for_without_being_shown() -> None:
    client, mail = seated()

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        mail.put(PasswordWanted("login", ""))
        await until(pilot, lambda: "password is wanted" in screen(app))
        await pilot.press(*"/unlock", "enter")
        await until(pilot, lambda: "Your password:" in screen(app) and isinstance(app.focused, Input))
        await pilot.press(*"glacier")
        await until(pilot, lambda: app.screen.query_one(Input).value == "glacier")
        assert "glacier" not in screen(app)
        await pilot.press("enter")
        await until(pilot, lambda: "unlocked with 7 characters" in screen(app))

    play(client, mail, act)


def test_it_ends_by_its_key_and_says_why_it_has_ended_by_itself() -> None:
    client, mail = seated()

    async def leave(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        await pilot.press("ctrl+q")
        await until(pilot, lambda: not app.is_running or app.session.exit_code is not None)

    assert play(client, mail, leave).session.exit_code == ExitCode.OK
    assert client.calls[-1] == "close"
    client, mail = seated()

    async def ended(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        mail.put(Ended(UnreachableError("nobody answers")))
        await until(pilot, lambda: app.session.exit_code is not None)

    app = play(client, mail, ended)
    assert app.session.exit_code == ExitCode.UNREACHABLE
    assert any("nobody answers" in each.text for each in app.last_words)


def test_every_key_is_told_and_can_be_another_one() -> None:
    client, mail = seated()
    app = FullScreen(client, mail, keys={"search": "ctrl+s"})

    async def run() -> None:
        async with app.run_test(size=(120, 60)) as pilot:
            await pilot.press("ctrl+f")
            assert app.pane.kind == ""
            await pilot.press("ctrl+s")
            await until(pilot, lambda: app.pane.kind == "search")
            await pilot.press("escape", "f1")
            await until(pilot, lambda: "Keys and commands" in screen(app))

    asyncio.run(run())
    assert len({key for each in KEYS.values() for key in each.keys.split(",")}) == sum(
        len(each.keys.split(",")) for each in KEYS.values()
    )


@pytest.mark.parametrize("name", THEMES)
def test_all_that_is_read_stands_out_from_what_is_behind_it(name: str) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5 to 1."""
    look, theme = LOOKS[name], THEMES[name]
    behind = [theme.background, theme.surface, theme.panel]
    for style in (look.text, look.own, *look.names, look.verified, look.warning, look.alarm, look.new, look.quote,
                  look.quiet, look.notice, look.gone, look.mention, look.progress):  # fmt: skip
        assert style.color is not None
        for back in behind[: 1 if style in (look.quiet, look.gone) else 2]:
            assert back is not None
            assert contrast(style.color.name, back) >= 4.5, (style.color.name, back)


def contrast(one: str, other: str) -> float:
    brightest, darkest = sorted((luminance(one), luminance(other)), reverse=True)
    return (brightest + 0.05) / (darkest + 0.05)


def luminance(colour: str) -> float:
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# --- over a real core -------------------------------------------------------------------------------------------------


def test_two_people_talk_over_a_real_server(tmp_path: Path) -> None:
    server = LiveServer(tmp_path)
    bob = LiveClient(server, "bob")
    bob.wait_for(Ready)
    mail = Mail()
    settings = ClientSettings("127.0.0.1", server.port, ca_file=server.ca, register=True)
    password = PasswordSource.typed("glacier tulip Harvest")
    vault = Vault.open(tmp_path / "alice.vault", "alice", password, cost=CHEAP)
    client = ChatClient(settings, vault, on_event=mail.put)

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        await until(pilot, lambda: "● connected" in screen(app))
        await pilot.press(*"/msg bob Hello", "enter")
        await until(pilot, lambda: app.session.place.name == "bob" and "✓" in text_of(app.timeline))
        heard = await asyncio.to_thread(bob.wait_for, Received)
        assert heard.message.text == "Hello"
        bob.client.do(commands.Accept(heard.message.conversation))
        bob.client.do(commands.Send(heard.message.conversation, "And [b]hello[/b] to you"))
        await until(pilot, lambda: "And [b]hello[/b] to you" in text_of(app.timeline))
        rows = app.timeline.rows
        assert [each.text for each in rows if isinstance(each, Line)] == ["Hello", "And [b]hello[/b] to you"]
        await pilot.press("f5")
        await until(pilot, lambda: "▀" * 10 in screen(app))
        await pilot.press("escape", "ctrl+q")
        await until(pilot, lambda: app.session.exit_code is not None)

    app = play(client, mail, act)
    assert app.session.exit_code == ExitCode.OK
    vault.close()
    bob.close()
    assert server.stop() == 0


def test_who_is_in_no_conversation_reads_whether_there_are_any() -> None:
    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        def said() -> str:
            return " ".join(text_of(app.timeline).replace("·", " ").split())

        await until(pilot, lambda: said() != "")
        if app.client.conversations():
            app.session.place.turn_to("")
            app.session.settle()
            app.redraw()
            await until(pilot, lambda: said() == NOBODY_HEARS)
        else:
            await until(pilot, lambda: said() == NOBODY_YET)

    play(*seated(), act)
    mail = Mail()
    play(ScriptedClient(mail.put), mail, act)


def test_a_crash_ends_it_and_shows_nothing_of_what_was_held_then(capfd: pytest.CaptureFixture[str]) -> None:
    client, mail = seated()
    app = FullScreen(client, mail)

    def fall() -> None:
        kept = "glacier tulip harvest"
        raise RuntimeError(f"{len(kept)} letters")

    async def run() -> None:
        async with app.run_test() as pilot:
            app.call_later(fall)
            while app.failure is None:
                await pilot.pause(0.02)

    with pytest.raises(RuntimeError, match="21 letters"):
        asyncio.run(run())
    assert str(app.failure) == "21 letters"  # for whoever runs it
    assert "glacier" not in "".join(capfd.readouterr())  # Textual's own report prints what was in variables


def test_escape_closes_first_what_one_is_in() -> None:
    client, mail = seated()

    async def act(app: FullScreen, pilot: Pilot[ExitCode]) -> None:
        app.action_stay()
        await until(pilot, lambda: "To leave" in screen(app))
        await pilot.press("ctrl+f")
        await until(pilot, lambda: app.query_one("#pane").has_focus_within)
        await pilot.press("escape")
        await until(pilot, lambda: not app.pane.kind)
        assert "To leave" in screen(app)
        await pilot.press("escape")
        await until(pilot, lambda: "To leave" not in screen(app))

    play(client, mail, act)
