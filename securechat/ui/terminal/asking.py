"""A question over the screen: for what is not to be seen while it is typed."""

from collections.abc import Callable
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static


class Ask(ModalScreen[str | None]):
    """Asks for a secret. Its answer is what was typed; None: nothing was."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "give_up", "Give up", show=False)]

    def __init__(self, question: str) -> None:
        """`question`: what is to be typed."""
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Make what is shown."""
        with Vertical(id="ask"):
            yield Static(Text(self._question))
            yield Input(password=True, id="secret")
            yield Static(Text("Enter gives it, Escape leaves everything as it is."), id="ask-hint")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give it."""
        event.stop()
        self.dismiss(event.value)

    def action_give_up(self) -> None:
        """Leave everything as it is."""
        self.dismiss(None)


def ask(app: App[Any], question: str, take: Callable[[str], None]) -> None:
    """Ask for a secret, and have it taken, if there is one."""
    app.push_screen(Ask(question), lambda said: take(said) if said else None)


def ask_to_change(app: App[Any], change: Callable[[str, str], None], differ: Callable[[], None]) -> None:
    """Ask for a password and twice for the new one, and have it changed. `differ`: what was typed twice does."""

    def ask_new(old: str) -> None:
        ask(app, "New password:", lambda new: ask_again(old, new))

    def ask_again(old: str, new: str) -> None:
        ask(app, "The same again:", lambda again: change(old, new) if again == new else differ())

    ask(app, "Your password until now:", ask_new)
