"""What is said to who has typed something: it stands above the line until the next one is written."""

from typing import Final

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from securechat.ui.terminal.themes import LOOKS
from securechat.ui.text.wording import Sentence
from securechat.ui.view.lines import CONTINUATION

MAX_SHOWN: Final = 200
"""Sentences, the newest: several screens."""


class Answers(VerticalScroll, can_focus=False):
    """Sentences, below each other."""

    def __init__(self, lasting: tuple[str, ...] = (), *, id: str) -> None:  # noqa: A002  # Textual's name
        """`lasting`: what was told before, and stays until `close`."""
        super().__init__(id=id)
        self._lasting = tuple(Sentence("warning", text) for text in lasting)
        self.said: list[Sentence] = [*self._lasting]

    def compose(self) -> ComposeResult:
        """Make what is shown."""
        yield Static(id="answer", markup=False)

    def on_mount(self) -> None:
        """Show what was told before."""
        self._show()

    def say(self, said: str | Sentence) -> None:
        """Show a line as the line mode prints it, or a sentence."""
        if isinstance(said, str):
            text = said[3:] if said.startswith(("-- ", "!! ")) else said
            text = text.replace(f"\n{CONTINUATION}", "\n")
            said = Sentence("warning" if said.startswith("!!") else "notice", text)
        self.said.append(said)
        self.call_later(self._show)

    def forget(self) -> None:
        """Show none any more of those that answer what was typed."""
        if len(self.said) > len(self._lasting):
            self.said = [*self._lasting]
            self._show()

    def close(self) -> None:
        """Show none any more."""
        self.said, self._lasting = [], ()
        self._show()

    def _show(self) -> None:
        look = LOOKS[self.app.theme]
        styles = {"notice": look.text, "warning": look.warning, "alarm": look.alarm}
        told = (Text(each.text, styles[each.kind]) for each in self.said[-MAX_SHOWN:])
        self.query_one("#answer", Static).update(Text("\n").join(told))
        self.set_class(bool(self.said), "shown")
        self.scroll_home(animate=False)
