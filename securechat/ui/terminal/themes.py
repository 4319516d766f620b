"""How the full screen looks: a dark theme and a light one. A theme is Textual's, and our colours for what was said."""

from typing import Final, NamedTuple

from rich.style import Style
from textual.theme import Theme


class Look(NamedTuple):
    """Styles of what was said. None sets a background but for what stands out, so that a chosen row can."""

    text: Style
    quiet: Style
    """Times, states, what stands between."""
    own: Style
    names: tuple[Style, ...]
    """Of others: one for each name, by which a reader tells them apart at a glance. The name says it, too."""
    verified: Style
    notice: Style
    warning: Style
    alarm: Style
    new: Style
    quote: Style
    gone: Style
    chip: Style
    """What was put under a message."""
    mention: Style
    """Our own name, where somebody says it."""
    progress: Style


def _look(*, dark: bool) -> Look:
    def style(on_dark: str, on_light: str, *, bold: bool | None = None, italic: bool | None = None) -> Style:
        return Style(color=on_dark if dark else on_light, bold=bold, italic=italic)

    names = (
        ("#8fb8de", "#1f5f99"), ("#d7a97e", "#8a4b08"), ("#a9c38d", "#3f6b1d"), ("#c9a0d6", "#7b3a94"),
        ("#7fc4bd", "#0f6b63"), ("#dd9aa6", "#9c2f4b"),
    )  # fmt: skip
    return Look(
        text=style("#d8dbe2", "#23262d"),
        quiet=style("#858c9b", "#666c78"),
        own=style("#9ec1a3", "#2c6e49", bold=True),
        names=tuple(style(*each, bold=True) for each in names),
        verified=style("#8cc29a", "#2c7a4b"),
        notice=style("#8b92a2", "#626874"),
        warning=style("#e2b86b", "#8f5b00"),
        alarm=style("#f08a80", "#b3261e", bold=True),
        new=style("#e2a76f", "#a8540a"),
        quote=style("#98a0b0", "#5f6571"),
        gone=style("#858c9b", "#666c78", italic=True),
        chip=style("#d8dbe2", "#23262d") + Style(bgcolor="#2c313c" if dark else "#e3e1db"),
        mention=style("#f0c987", "#8a4b08", bold=True),
        progress=style("#8fb8de", "#1f5f99"),
    )


THEMES: Final = {
    "dark": Theme(
        "dark", primary="#8fb8de", secondary="#7fc4bd", accent="#e2a76f", warning="#e2b86b", error="#f08a80",
        success="#8cc29a", foreground="#d8dbe2", background="#15181e", surface="#1a1e25", panel="#20252e", dark=True,
        variables={"block-cursor-text-style": "none", "input-selection-background": "#8fb8de 30%",
                   "scrollbar": "#343b48", "scrollbar-background": "#15181e", "scrollbar-hover": "#475062",
                   "scrollbar-active": "#5a6479", "scrollbar-corner-color": "#15181e",
                   "scrollbar-background-hover": "#15181e", "scrollbar-background-active": "#15181e"},
    ),
    "light": Theme(
        "light", primary="#1f5f99", secondary="#0f6b63", accent="#a8540a", warning="#8f5b00", error="#b3261e",
        success="#2c7a4b", foreground="#23262d", background="#faf9f6", surface="#f3f1ec", panel="#eae7e0", dark=False,
        variables={"block-cursor-text-style": "none", "input-selection-background": "#1f5f99 25%",
                   "scrollbar": "#cfcbc1", "scrollbar-background": "#faf9f6", "scrollbar-hover": "#b5b0a4",
                   "scrollbar-active": "#9a9588", "scrollbar-corner-color": "#faf9f6",
                   "scrollbar-background-hover": "#faf9f6", "scrollbar-background-active": "#faf9f6"},
    ),
}  # fmt: skip
"""By the name that the settings file gives (`theme`)."""

LOOKS: Final = {"dark": _look(dark=True), "light": _look(dark=False)}
