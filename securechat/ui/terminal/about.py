"""What the line that is written is about: an answer to a message, another text for it, or an emoji under it."""

from rich.text import Text
from textual.widgets import Static

from securechat.ui.session.about import QUICK
from securechat.ui.view.lines import brief
from securechat.ui.view.rows import Line


class About(Static):
    """Says it above the line; hidden where that is about nothing."""

    def __init__(self, *, id: str) -> None:  # noqa: A002  # Textual's name
        super().__init__(id=id, markup=False)
        self.verb, self.local_id = "", 0
        """A command that what is written now is for, and the line that it is about; empty: it is said by itself."""

    def begin(self, verb: str, line: Line) -> None:
        """Let what is written be about a line."""
        self.verb, self.local_id = verb, line.local_id
        text = brief(line.text or line.problem)
        quick = "  ".join(f"{place} {each}" for place, each in enumerate(QUICK, 1))
        self.update(Text({
            "/reply": f"↳ {line.sender}: {text}", "/edit": f"Edit: {text}",
            "/react": f"{quick}   under {line.sender}: {text}",
        }[verb], no_wrap=True, overflow="ellipsis"))  # fmt: skip
        self.add_class("shown")

    def end(self) -> tuple[str, int]:
        """Let it be about nothing. Return what it was about: the command, and the line's local id."""
        was = self.verb, self.local_id
        self.verb, self.local_id = "", 0
        self.remove_class("shown")
        return was

    def quick(self, character: str | None) -> str:
        """Return the emoji that a digit puts under the message; empty: it puts none."""
        there = self.verb == "/react" and character is not None and character in "123456"
        return QUICK[int(character) - 1] if there and character else ""
