"""A rush costs the full screen no more than it shows: what comes in is drawn in frames, and each row once."""

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from time import monotonic

import pytest
from textual.screen import Screen
from textual.strip import Strip

from securechat.client.events import Ready, Received
from securechat.ui.session.mail import Item, Mail
from securechat.ui.terminal.app import FullScreen
from securechat.ui.terminal.drawing import draw, draw_item
from securechat.ui.terminal.frames import FRAME_SECONDS, PAINT_SECONDS, TAKE_SECONDS, Frames
from securechat.ui.terminal.timeline import TimelineView
from securechat.ui.view.rows import Row, key_of
from securechat.ui.view.timeline import MAX_LINES, PAGE
from tests.support.scripted import ScriptedClient, conversation, message
from tests.support.told import CLUB, begin


class Desk:
    """A screen's thread whose time the test moves. Each thing taken, and each drawing, takes as long as it says."""

    def __init__(self, *, taking: float = 0.0, painting: float = 0.0) -> None:
        self.now = 0.0
        self.taking, self.painting = taking, painting
        self.mail = Mail()
        self.waiting: list[tuple[float, Callable[[], None]]] = []
        self.frames: list[tuple[float, int]] = []  # when one was drawn, and of how much
        self.taken = 0
        frames = Frames(self.mail, self._take, self._draw, lambda act: act(), self._later, lambda: self.now)
        self.mail.wake = frames.wake

    def _take(self, _: Item) -> None:
        self.taken += 1
        self.now += self.taking

    def _draw(self) -> None:
        self.frames.append((self.now, self.taken))
        self.taken = 0
        self.now += self.painting

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self.waiting.append((self.now + seconds, act))

    def run(self, until: float, comes: Callable[[], None] = lambda: None, every: float = 1.0) -> None:
        """Let time pass; meanwhile something comes in again and again."""
        due = self.now
        while self.now < until:
            if due <= self.now:
                comes()
                due += every
            ready = sorted((each for each in self.waiting if each[0] <= self.now), key=lambda each: each[0])
            if ready:
                self.waiting.remove(ready[0])
                ready[0][1]()
            else:
                self.now = min(due, *(when for when, _ in self.waiting), until) if self.waiting else min(due, until)


def test_a_lone_line_is_drawn_at_once() -> None:
    desk = Desk()
    for second in range(5):
        desk.mail.put(Ready())
        desk.run(second + 1.0)
    assert desk.frames == [(float(second), 1) for second in range(5)]


def test_a_rush_is_drawn_in_frames() -> None:
    desk = Desk(taking=0.0001)
    desk.run(10.0, lambda: desk.mail.put(Ready()), every=1 / 500)
    assert len(desk.frames) <= 10.0 / FRAME_SECONDS + 1
    assert sum(count for _, count in desk.frames) >= 4_900  # and nothing is left lying
    assert desk.mail.qsize() < 100


def test_a_slow_machine_leaves_half_of_its_time_to_keys() -> None:
    desk = Desk(taking=0.001, painting=0.3)
    for _ in range(1000):
        desk.mail.put(Ready())
    desk.run(30.0)
    starts = [when for when, _ in desk.frames]
    assert max(count for _, count in desk.frames) <= TAKE_SECONDS / desk.taking + 1
    assert min(later - sooner for sooner, later in pairwise(starts)) >= 2 * 0.3
    assert PAINT_SECONDS < FRAME_SECONDS


PATIENCE = 60.0


def test_a_rush_draws_each_row_once_and_lays_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    mail = Mail()
    client = ScriptedClient(mail.put)
    begin(client)
    client.add(conversation("bob"))
    client.visits.append((CLUB.id, 0))
    drawn, listed, laid_out, painted = Counter[str](), 0, 0, 0
    reflow, paint = Screen._refresh_layout, TimelineView.render_lines

    def counted(row: Row, *args: object, **others: object) -> list[Strip]:
        drawn[key_of(row)] += 1
        return draw(row, *args, **others)  # type: ignore[arg-type]

    def counted_item(*args: object, **others: object) -> list[Strip]:
        nonlocal listed
        listed += 1
        return draw_item(*args, **others)  # type: ignore[arg-type]

    def counted_layout(*args: object, **others: object) -> None:
        nonlocal laid_out
        laid_out += 1
        reflow(*args, **others)  # type: ignore[arg-type]

    def counted_lines(*args: object, **others: object) -> list[Strip]:
        nonlocal painted
        lines = paint(*args, **others)  # type: ignore[arg-type]
        painted = max(painted, len(lines))
        return lines

    async def run() -> None:
        nonlocal laid_out, listed
        app = FullScreen(client, mail)
        frames = 0
        redraw = app.redraw

        def counted_frame() -> None:
            nonlocal frames
            frames += 1
            redraw()

        async with app.run_test(size=(120, 40)) as pilot:
            await until(lambda: app.session.place.name == CLUB.name and bool(app.timeline.rows))
            for _ in range(3):
                await pilot.pause()
            monkeypatch.setattr("securechat.ui.terminal.timeline.draw", counted)
            monkeypatch.setattr("securechat.ui.terminal.listing.draw_item", counted_item)
            monkeypatch.setattr(Screen, "_refresh_layout", counted_layout)
            monkeypatch.setattr(TimelineView, "render_lines", counted_lines)
            monkeypatch.setattr(app, "redraw", counted_frame)
            many = MAX_LINES + 5 * PAGE
            for number in range(1000, 1000 + many):
                client.said.append(message(CLUB, "bob", f"text {number}", local_id=number, seq=number))
                mail.put(Received(client.said[-1]))
                if number % 10 == 0:
                    await asyncio.sleep(0)
            await until(lambda: key_of(app.timeline.rows[-1]) == f"line-{999 + many}")
            assert len([each for each in app.timeline.rows if key_of(each).startswith("line-")]) == MAX_LINES
            assert listed <= 2 * frames  # of all conversations, that in which something was said
            again = [key for key, count in drawn.items() if count > 1 and key.startswith("line-")]
            assert len(again) <= frames  # the first of a window that has moved may need its name above it now
            assert painted <= 40
            assert laid_out <= 1, laid_out

    asyncio.run(run())


async def until(holds: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE
    while not holds():
        assert monotonic() < deadline
        await asyncio.sleep(0.01)
