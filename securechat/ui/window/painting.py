"""What pieces are painted with: the colours of a theme, the fonts, and pictures. For Tk's thread."""

import tkinter as tk
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from securechat.ui.window.looks import NAMES, PALETTES, Letters
from securechat.ui.window.pixels import Corners, Emojis, Previews, font_file

if TYPE_CHECKING:
    from securechat.client.media.pictures import Pixels


class Paints:
    """The paints of one window (`column.Paint`)."""

    def __init__(self, root: tk.Tk, preview_of: Callable[[int], "Pixels | None"]) -> None:
        """`preview_of`: what somebody's preview shows, if it was decoded."""
        self.letters = Letters(root)
        self.emojis = Emojis(root, font_file())
        self.theme = "dark"
        self._corners, self._previews, self._preview_of = Corners(root), Previews(root), preview_of

    def colour(self, name: str) -> str:
        """Return a colour as Tk takes it, by what it is for."""
        if name.startswith("name-"):
            names = NAMES[self.theme]
            return names[int(name.removeprefix("name-")) % len(names)]
        return name if name.startswith("#") else PALETTES[self.theme][name]

    def font(self, style: str) -> str:
        """Return the name of a font."""
        return self.letters.fonts[style].name

    def corners(self, colour: str, on: str, radius: int) -> Sequence[tk.PhotoImage]:
        """Return the corners of a rectangle."""
        return self._corners.of(self.colour(colour), self.colour(on), radius)

    def emoji(self, emoji: str, size: int) -> tk.PhotoImage | None:
        """Return a picture of an emoji, where there is one."""
        return self.emojis.of(emoji, size)

    def preview(self, local_id: int) -> tk.PhotoImage | None:
        """Return a preview."""
        pixels = self._preview_of(local_id)
        return None if pixels is None else self._previews.of(local_id, pixels)
