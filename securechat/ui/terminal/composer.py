"""Where one writes: several lines if need be, with completion, and what was written before."""

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from textual.binding import Binding, BindingType
from textual.events import Key
from textual.message import Message
from textual.widgets import TextArea

from securechat.ui.view.completion import Candidate

MAX_KEPT: Final = 200
"""Texts written before that the arrow keys bring back."""


class Composer(TextArea):
    """What is being written. Enter sends it; Alt-Enter, Shift-Enter or Ctrl-J begins a new line."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("alt+enter,shift+enter,ctrl+j", "line_break", "New line", show=False, priority=True),
    ]

    class Sent(Message):
        """Enter was pressed."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Offered(Message):
        """What the last word may become; nothing: no more is offered."""

        def __init__(self, candidates: Sequence[Candidate]) -> None:
            super().__init__()
            self.candidates = candidates

    class Over(Message):
        """Ctrl-D on an empty line."""

    def __init__(self, complete: Callable[[str], Sequence[Candidate]], *, id: str) -> None:  # noqa: A002  # Textual's
        """`complete`: what a line up to the cursor may end in."""
        super().__init__(id=id, soft_wrap=True, show_line_numbers=False, tab_behavior="focus", compact=True)
        self.cursor_blink = False
        self._complete = complete
        self._kept: list[str] = []
        self._at = 0  # in what was kept; its length: what is being written
        self._draft = ""
        self._offers: Sequence[Candidate] = ()
        self._chosen = -1
        self._begun = ""  # the line before the word that is completed

    def action_line_break(self) -> None:
        """Begin a new line."""
        self.insert("\n")

    async def _on_key(self, event: Key) -> None:
        match event.key:
            case "enter":
                self._stop(event)
                self._send()
            case "tab" | "shift+tab" if self.text.startswith("/"):
                self._stop(event)
                self._offer(1 if event.key == "tab" else -1)
                return
            case "up" if self.cursor_location[0] == 0 and self._kept:
                self._stop(event)
                self._bring(-1)
            case "down" if self.cursor_location[0] == self.document.line_count - 1 and self._at < len(self._kept):
                self._stop(event)
                self._bring(1)
            case "ctrl+d" if not self.text:
                self._stop(event)
                self.post_message(self.Over())
            case _:
                await super()._on_key(event)
        if self._offers:
            self._offers = ()
            self.post_message(self.Offered(()))

    @staticmethod
    def _stop(event: Key) -> None:
        event.stop()
        event.prevent_default()

    def write(self, text: str) -> None:
        """Put a text in place of what is there, with the cursor behind it."""
        self.load_text(text)
        self.move_cursor(self.document.end)

    def _send(self) -> None:
        text = self.text
        if text.strip():
            self._kept = [*(each for each in self._kept if each != text), text][-MAX_KEPT:]
        self._at, self._draft = len(self._kept), ""
        self.load_text("")
        self.post_message(self.Sent(text))

    def _bring(self, by: int) -> None:
        if self._at >= len(self._kept):
            self._at, self._draft = len(self._kept), self.text
        self._at = min(max(self._at + by, 0), len(self._kept))
        self.write(self._kept[self._at] if self._at < len(self._kept) else self._draft)

    def _offer(self, by: int) -> None:
        """Complete the last word as far as it goes, or go on to the next that it may be."""
        if not self._offers:
            row, column = self.cursor_location
            typed = self.document.get_line(row)[:column]
            found = self._complete(typed) if row == 0 else ()
            if not found:
                return
            self._begun = typed[: typed.rfind(" ") + 1]
            if len(found) == 1:
                self.write(f"{self._begun}{found[0].text} ")
                return
            self._offers, self._chosen = found, -1
        self._chosen = (self._chosen + by) % len(self._offers)
        self.write(self._begun + self._offers[self._chosen].text)
        chosen = self._offers[self._chosen]
        there = [*self._offers[self._chosen :], *self._offers[: self._chosen]]
        self.post_message(self.Offered((chosen, *there[1:])))
