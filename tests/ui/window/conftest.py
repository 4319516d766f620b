"""Windows on displays of their own, over a core that does what a test says."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

from securechat.client.core import ChatClient
from securechat.client.events import Event
from securechat.ui.session.mail import Mail
from tests.support.display import PATIENCE, Display, displays, lasting
from tests.support.scripted import ScriptedClient, conversation
from tests.support.told import CLUB, begin

if TYPE_CHECKING:  # this Python may have no tkinter
    import tkinter as tk

    from securechat.ui.window.column import Column


@cache
def _program() -> str:
    found = displays()
    if not found:
        pytest.skip("there is no Xvfb, or Python has no tkinter")
    return found[0]


@pytest.fixture
def display() -> Display:
    return lasting(_program(), 1)


@pytest.fixture
def other_display() -> Display:
    return lasting(_program(), 2)


class Seat:
    """A window, and whoever sits before it."""

    def __init__(
        self, display: Display, client: Callable[[Callable[[Event], None]], ChatClient], *, size: str = "1120x740",
        theme: str = "dark",
    ) -> None:  # fmt: skip
        import tkinter as tk

        from securechat.ui.window.app import Window

        self.display = display
        self.mail = Mail()
        self.client = client(self.mail.put)
        self.root = tk.Tk(screenName=display.name, className="securechat")
        self.window = Window(self.root, self.client, self.mail, theme=theme)
        self.root.geometry(f"{size}+0+0")
        self.window.begin()

    def turn(self) -> None:
        """Let the window do what is due."""
        self.root.update()
        if self.window.failure is not None:
            raise self.window.failure

    def until(self, holds: Callable[[], object], *others: "Seat") -> None:
        """Turn, and let others turn, until something holds."""
        deadline = monotonic() + PATIENCE
        while not holds():
            assert monotonic() < deadline, self.shown
            for each in (self, *others):
                each.turn()
            sleep(0.002)

    @property
    def focused(self) -> "tk.Misc | None":
        """What keys go to."""
        from securechat.ui.window.column import focused

        return focused(self.root)

    @property
    def shown(self) -> str:
        """All that can be read in the timeline, in what is told and in the pane."""
        window = self.window
        columns: list[Column] = [window.title, window.timeline, window.status]
        if window._answers:
            columns.append(window.answers)
        if window.pane:
            columns.append(window.found)
        return "\n".join(block.words for column in columns for block in column.blocks)

    @property
    def listed(self) -> list[str]:
        return [block.words for block in self.window.list.blocks]

    def reads(self, text: str, *others: "Seat") -> None:
        """Wait until a text can be read."""
        self.until(lambda: text in self.shown, *others)

    def types(self, text: str) -> None:
        """Type into the composer, and wait until it is there."""
        self.until(lambda: self.focused is self.window.composer)
        before = self.window.composer.text
        self.display.type(text)
        self.until(lambda: self.window.composer.text == before + text)

    def says(self, text: str) -> None:
        self.types(text)
        self.display.press("\n")
        self.until(lambda: not self.window.composer.text)

    def close(self) -> None:
        self.window.close()


@pytest.fixture
def seats() -> Iterator[Callable[..., Seat]]:
    from tkinter import TclError

    there: list[Seat] = []

    def sit(display: Display, client: object = None, **others: str) -> Seat:
        def scripted(tell: Callable[[Event], None]) -> ChatClient:
            core = ScriptedClient(tell)
            begin(core)
            core.add(replace(conversation("bob"), trust=("accepted", "verified"), heard=("bob",)))
            core.visits.append((CLUB.id, 0))
            return core

        there.append(Seat(display, client or scripted, **others))  # type: ignore[arg-type]  # a test's own core
        return there[-1]

    yield sit
    for each in there:
        with suppress(TclError):
            each.close()
