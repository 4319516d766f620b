"""How the window looks: a dark palette and a light one, and the sizes of letters. Colours go by what they are for."""

import sys
import tkinter as tk
from tkinter import font as tkfont
from typing import Final

PALETTES: Final = {
    "dark": {
        "base": "#1c1c1c", "side": "#1c1c1c", "page": "#141517", "line": "#2b2d31", "hover": "#26282c",
        "here": "#2b3038", "bubble": "#24262b", "own": "#1f3b4d", "named": "#3a3222", "chip": "#2f3238",
        "text": "#e4e6ea", "quiet": "#a3a9b3", "quote": "#a9b0bb", "accent": "#6fb3e0", "badge": "#2f76a8",
        "on-badge": "#ffffff", "good": "#86c596", "warning": "#e5bd74", "alarm": "#f1938a", "new": "#e6ac74",
        "link": "#8ec5ea", "progress": "#6fb3e0", "trough": "#3a3d44", "on-name": "#14161a",
    },
    "light": {
        "base": "#fafafa", "side": "#fafafa", "page": "#ffffff", "line": "#e4e4e2", "hover": "#f0f0ee",
        "here": "#e4edf4", "bubble": "#f1f1ef", "own": "#dcecf7", "named": "#fbf0da", "chip": "#e6e7e6",
        "text": "#1f2328", "quiet": "#5f6670", "quote": "#555c66", "accent": "#1668a0", "badge": "#1f6fa8",
        "on-badge": "#ffffff", "good": "#257345", "warning": "#855300", "alarm": "#b3261e", "new": "#9a4a05",
        "link": "#125a8d", "progress": "#1668a0", "trough": "#d2d4d4", "on-name": "#ffffff",
    },
}  # fmt: skip
"""By the name that the settings file gives (`theme`)."""

NAMES: Final = {
    "dark": ("#8fb8de", "#d7a97e", "#a9c38d", "#c9a0d6", "#7fc4bd", "#dd9aa6"),
    "light": ("#1f5f99", "#8a4b08", "#3f6b1d", "#7b3a94", "#0f6b63", "#9c2f4b"),
}  # fmt: skip
"""Of people: one for each name, by which a reader tells them apart at a glance. The name says it, too."""

_FAMILIES: Final = ("Inter", "Noto Sans", "Cantarell", "Ubuntu", "Segoe UI", "SF Pro Text", "Helvetica Neue",
                    "DejaVu Sans", "Liberation Sans")  # fmt: skip
"""The first that is there is taken."""

_MONO: Final = ("Noto Sans Mono", "DejaVu Sans Mono", "Consolas", "Menlo", "Liberation Mono")

_STYLES: Final = {
    "text": (15, "normal", "roman"), "bold": (15, "bold", "roman"), "action": (15, "normal", "italic"),
    "small": (13, "normal", "roman"), "small-bold": (13, "bold", "roman"), "gone": (15, "normal", "italic"),
    "tiny": (11, "normal", "roman"), "tiny-bold": (11, "bold", "roman"), "title": (19, "bold", "roman"),
    "letter": (16, "bold", "roman"),
}  # fmt: skip
"""Pixels of 96 to the inch, weight and slant."""

MAX_MEASURED: Final = 50_000
"""Words whose widths are remembered."""


class Letters:
    """The fonts of one screen, and how wide a text is in them, in pixels."""

    def __init__(self, root: tk.Misc) -> None:
        there = set(tkfont.families(root))
        own = tkfont.nametofont("TkDefaultFont", root).actual("family")
        self.family = next((each for each in _FAMILIES if each in there), own)
        mono = next((each for each in _MONO if each in there), "TkFixedFont")
        self._scale = max(1.0, round(root.winfo_fpixels("1i") / 96 * 4) / 4)
        self.fonts = {
            name: tkfont.Font(root, family=self.family, size=-self.px(size), weight=weight, slant=slant)  # type: ignore[arg-type]  # as typeshed has it, words of their own type
            for name, (size, weight, slant) in _STYLES.items()
        }
        self.fonts["digits"] = tkfont.Font(root, family=mono, size=-self.px(15))
        self.heights = {name: font.metrics("linespace") + self.px(1) for name, font in self.fonts.items()}
        self._widths: dict[tuple[str, str], int] = {}
        self._tk = root.tk
        self._names = {name: font.name for name, font in self.fonts.items()}
        self._families: dict[str, str] = {}
        self.draws_all = sys.platform in ("win32", "darwin")
        """Whether the system's own drawing takes every emoji, and turns what is written from the right."""

    def px(self, pixels: float) -> int:
        """Return pixels of this screen for those of one with 96 to the inch."""
        return round(pixels * self._scale)

    def width(self, text: str, style: str) -> int:
        """Return how wide a text is. It has no line break."""
        key = (style, text)
        found = self._widths.get(key)
        if found is None:
            if len(self._widths) >= MAX_MEASURED:
                self._widths.clear()
            found = self._widths[key] = int(self._tk.call("font", "measure", self._names[style], text))
        return found

    def family_for(self, character: str) -> str:
        """Return the font that Tk would draw a character with."""
        found = self._families.get(character)
        if found is None:
            given = ("font", "actual", self._names["text"], "-family", "--", character)
            found = self._families[character] = str(self._tk.call(*given))
        return found


def other(name: str) -> str:
    """Return the other palette."""
    names = list(PALETTES)
    return names[(names.index(name) + 1) % len(names)]
