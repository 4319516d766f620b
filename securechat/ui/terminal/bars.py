"""The line above what was said: where one is, and who is there. The line below everything: what the connection does."""

from typing import Final

from rich.style import Style
from rich.text import Text
from textual.widgets import Static

from securechat.clean import clean
from securechat.client.snapshot import ConversationSnapshot
from securechat.ui.terminal.themes import Look
from securechat.ui.text.trust import beside
from securechat.ui.text.wording import people
from securechat.ui.view.rows import Item
from securechat.ui.view.status import Connection

_STATES: Final = {
    "ready": "●", "connected": "○", "connecting": "○", "waiting": "◔", "locked": "!", "lost": "✗", "over": "✗",
}  # fmt: skip

_HINTS: Final = "F1 help   ^K go   ^F search   ^Q quit"


class Bar(Static):
    """One line of text."""

    _said: Text | None = None

    def __init__(self, *, id: str) -> None:  # noqa: A002  # Textual's name
        super().__init__(id=id, markup=False)

    def say(self, text: Text) -> None:
        """Say something, unless it stands there."""
        if text != self._said:
            self._said = text
            self.update(text, layout=False)


def above(now: ConversationSnapshot, item: Item | None, look: Look) -> Text:
    """Return what stands above a conversation: its name, who is there, and what it is about."""
    direct = now.kind == "direct"
    name = now.name if item is None else item.title
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(beside(name, item.trust) if item is not None and direct else name, look.text + Style(bold=True))
    told = [] if direct else [people(len(now.members))]
    if item is not None:
        told += filter(None, ("online" if item.online else "", item.unconfirmed, item.absent))
    if now.topic:
        told.append(" ".join(clean(now.topic).split()))
    return text.append("   " + " · ".join(told), look.quiet)


def below(link: Connection, types: str, columns: int, look: Look) -> Text:
    """Return what stands below everything: how the connection is or who types, and which keys there are."""
    well = link.state == "ready"
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{_STATES[link.state]} ", look.verified if well else look.warning)
    text.append(types if well and types else link.text, look.quiet if well and not types else look.warning)
    room = columns - text.cell_len - len(_HINTS)
    return text.append(" " * room + _HINTS, look.quiet) if room > 2 else text
