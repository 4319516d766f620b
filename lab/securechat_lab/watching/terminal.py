"""The viewer in a terminal: keys, the clock and the file; what it shows is `screen.draw`.

The terminal is as it was when this ends: by `q`, by an error, by SIGTERM, SIGHUP or an interrupt.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from prompt_toolkit.application import Application
from prompt_toolkit.data_structures import Size
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import FormattedTextControl, Layout, Window
from prompt_toolkit.styles import Style

from securechat_lab.watching.onion import onion
from securechat_lab.watching.recording import Reader
from securechat_lab.watching.screen import View, draw
from securechat_lab.watching.story import tell

STYLES: Final = {
    "title": "bold", "dim": "fg:ansibrightblack", "network": "fg:ansiyellow", "server": "fg:ansicyan",
    "people": "fg:ansigreen", "alarm": "fg:ansired bold", "chosen": "reverse",
}  # fmt: skip
"""Of the sixteen colours that each terminal has its own of; and none of them says what no word or symbol does."""

POLL_SECONDS: Final = 0.25
"""Between two looks at a recording that may grow: a person does not notice."""

MAX_WAIT: Final = 2.0
"""Seconds between two moments, when they play as they happened: nobody wants to watch a pause."""


class Viewer:
    """One viewing. `run` returns when the user has seen enough."""

    def __init__(self, path: Path, *, live: bool) -> None:
        """`live`: the recording may still grow. Raises StorageError."""
        self._reader = Reader(path)
        self._live = live
        self._view = View(tell(()), 0, 0, live=live)
        self._error: BaseException | None = None  # why it has ended, if nobody asked for that
        self._follow = live  # whether the newest moment is chosen by itself
        self._application: Application[None] = Application(
            layout=Layout(Window(FormattedTextControl(self._text, focusable=True, show_cursor=False))),
            key_bindings=self._keys(),
            style=Style.from_dict(STYLES),
            full_screen=True,
        )

    def run(self) -> None:
        """Show it. Raises StorageError if the recording cannot be read any more."""
        try:
            asyncio.run(self._run())
        finally:
            self._reader.close()
        if self._error is not None:
            raise self._error

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGHUP"):
            if (number := getattr(signal, name, None)) is not None and os.name != "nt":
                loop.add_signal_handler(number, self._leave)
        loop.set_exception_handler(lambda _, context: self._fail(context.get("exception")))
        tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._play())]
        try:
            await self._application.run_async(set_exception_handler=False)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _leave(self) -> None:
        if self._application.is_running:
            self._application.exit()

    def _fail(self, error: BaseException | None) -> None:
        self._error = self._error or error
        self._leave()

    async def _read(self) -> None:
        try:
            while True:
                began = time.monotonic()
                if self._reader.read():
                    while self._reader.read():
                        await asyncio.sleep(0)  # keys are answered in between
                    self._take_story()
                if not self._live:
                    return
                took = time.monotonic() - began
                await asyncio.sleep(max(POLL_SECONDS, 4 * took))  # a long story leaves time for keys
        except Exception as error:  # noqa: BLE001  shown once the terminal is as it was
            self._fail(error)

    def _take_story(self) -> None:
        self._view = replace(self._view, story=tell(self._reader.lines, self._reader.problems))
        if self._follow:
            self._choose(len(self._view.moments) - 1)
        self._application.invalidate()

    async def _play(self) -> None:
        while True:
            view = self._view
            following = view.moments[view.chosen + 1 : view.chosen + 2]
            if not view.playing or not following or view.moment is None:
                if view.playing and not self._live:
                    self._view = replace(view, playing=False)
                    self._application.invalidate()
                await asyncio.sleep(0.05)
                continue
            await asyncio.sleep(min(max(following[0].t - view.moment.t, 0.0), MAX_WAIT))
            if self._view.playing and self._view.chosen == view.chosen:
                self._choose(view.chosen + 1)

    def _choose(self, index: int) -> None:
        last = len(self._view.moments) - 1
        self._view = replace(self._view, chosen=max(0, min(index, last)))
        self._application.invalidate()

    def _text(self) -> StyleAndTextTuples:
        size: Size = self._application.output.get_size()
        self._view = replace(self._view, width=size.columns, height=size.rows)
        text: StyleAndTextTuples = []
        for row in draw(self._view):
            text += [(f"class:{style}" if style else "", span) for style, span in row]
            text.append(("", "\n"))
        return text[:-1]

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        def move(*names: str, by: int) -> None:
            def handle(_: KeyPressEvent) -> None:
                self._follow = False
                self._choose(self._view.chosen + by)
                if self._live and self._view.chosen == len(self._view.moments) - 1:
                    self._follow = True

            for name in names:
                keys.add(name)(handle)

        move("up", "k", by=-1)
        move("down", "j", by=1)
        move("pageup", by=-10)
        move("pagedown", by=10)
        move("home", "g", by=-(1 << 30))
        move("end", "G", by=1 << 30)

        @keys.add("left")
        @keys.add("h")
        def _(_: KeyPressEvent) -> None:
            self._peel(-1)

        @keys.add("right")
        @keys.add("l")
        def _(_: KeyPressEvent) -> None:
            self._peel(1)

        for name, key in (("inside", "enter"), ("until", "u"), ("playing", "space")):
            keys.add(key)(self._switch(name))

        @keys.add("a")
        def _(_: KeyPressEvent) -> None:
            moment = self._view.moment
            self._view = replace(self._view, everything=not self._view.everything)
            shown = self._view.moments
            if moment is not None:  # the same one, or the next that is shown
                self._choose(next((index for index, each in enumerate(shown) if each.t >= moment.t), len(shown)))

        opened = Condition(lambda: self._view.inside)
        keys.add("escape", filter=opened, eager=True)(self._switch("inside"))

        @keys.add("q")
        @keys.add("c-c")
        @keys.add("c-d")
        @keys.add("<sigint>")
        def _(_: KeyPressEvent) -> None:
            self._leave()

        return keys

    def _peel(self, by: int) -> None:
        moment = self._view.moment
        layers = len(onion(moment)) if moment else 0
        self._view = replace(self._view, layer=max(0, min(min(self._view.layer, layers - 1) + by, layers - 1)))

    def _switch(self, name: str) -> Callable[[KeyPressEvent], None]:
        def handle(_: KeyPressEvent) -> None:
            switched: Any = {name: not getattr(self._view, name)}
            self._view = replace(self._view, **switched)
            self._follow = self._follow and not self._view.playing

        return handle
