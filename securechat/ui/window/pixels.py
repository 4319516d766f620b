"""Small pictures that Tk does not draw by itself: round corners, emoji, and previews that others sent."""

import tkinter as tk
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from math import hypot
from pathlib import Path
from typing import Any, Final

from securechat.client.media.pictures import Pixels

MAX_KEPT: Final = 512
"""Pictures of one kind that are kept: more than are on a screen at once."""

FONT_FILES: Final = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",  # Debian, Ubuntu
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",  # Arch
    "/usr/share/fonts/google-noto-color-emoji-fonts/NotoColorEmoji.ttf",  # Fedora
    "/usr/share/fonts/noto-emoji/NotoColorEmoji.ttf",  # Alpine
    "~/.local/share/fonts/NotoColorEmoji.ttf",
    "~/.fonts/NotoColorEmoji.ttf",
)
"""Where systems have the font of colour emoji."""

_FONT_SIZE: Final = 109
"""The one size that this font has, in pixels."""

_SIDE: Final = 136
"""Pixels of one of its pictures."""

def font_file() -> Path | None:
    """Return where the font of colour emoji is, if it is."""
    with suppress(RuntimeError, OSError):  # nobody's home
        return next((path for each in FONT_FILES if (path := Path(each).expanduser()).is_file()), None)
    return None


class Emojis:
    """Emoji as pictures, drawn by Pillow (the extra `media`) from a font of this system; without either, none."""

    def __init__(self, root: tk.Misc, file: Path | None) -> None:
        """`file`: the font; None: there is none."""
        self._root, self._file = root, file
        self._images: dict[tuple[str, int], tk.PhotoImage] = {}
        self._known: dict[str, bool] = {}
        self._font: object = None
        if file is not None:
            try:
                from PIL import ImageFont

                self._font = ImageFont.truetype(str(file), _FONT_SIZE)
            except (ImportError, OSError):  # it has another size, or there is no Pillow
                self._font = None

    def has(self, emoji: str) -> bool:
        """Whether there is a picture of it."""
        if self._font is None:
            return False
        if emoji not in self._known:
            if len(self._known) >= MAX_KEPT * 8:
                self._known.clear()
            self._known[emoji] = self._drawn(emoji) is not None
        return self._known[emoji]

    def of(self, emoji: str, size: int) -> tk.PhotoImage | None:
        """Return its picture."""
        key = emoji, size
        if key not in self._images:
            drawn = self._drawn(emoji) if self.has(emoji) else None
            if drawn is None:
                return None
            if len(self._images) >= MAX_KEPT:
                del self._images[next(iter(self._images))]
            file = BytesIO()
            drawn.resize((size, size)).save(file, "PNG")
            self._images[key] = tk.PhotoImage(master=self._root, data=file.getvalue(), format="png")
        return self._images[key]

    @lru_cache(MAX_KEPT)  # noqa: B019  # there is one of it
    def _drawn(self, emoji: str) -> Any:  # Pillow may be missing
        """Return an image, or None if the font has none."""
        from PIL import Image, ImageDraw, features

        image = Image.new("RGBA", (_SIDE, _SIDE))
        joins = features.check("raqm")  # what makes one picture of several characters
        try:
            text = emoji if joins else emoji[0]
            ImageDraw.Draw(image).text((0, 0), text, font=self._font, embedded_color=True)
        except (OSError, ValueError):
            return None
        box = image.getbbox()
        if box is None:
            return None
        side = max(box[2] - box[0], box[3] - box[1])
        square = Image.new("RGBA", (side, side))
        square.paste(image.crop(box), ((side - box[2] + box[0]) // 2, (side - box[3] + box[1]) // 2))
        return square


class Corners:
    """Quarters of discs, whose edges blend into what is around them."""

    def __init__(self, root: tk.Misc) -> None:
        self._root = root
        self._kept: dict[tuple[str, str, int], tuple[tk.PhotoImage, ...]] = {}

    def of(self, colour: str, on: str, radius: int) -> tuple[tk.PhotoImage, ...]:
        """Return the corners of a rectangle: top left, top right, bottom left, bottom right."""
        key = colour, on, radius
        if key not in self._kept:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[key] = tuple(self._quarter(*key, *which) for which in ((1, 1), (0, 1), (1, 0), (0, 0)))
        return self._kept[key]

    def _quarter(self, colour: str, on: str, radius: int, left: int, top: int) -> tk.PhotoImage:
        inside, outside = (tuple(bytes.fromhex(each[1:])) for each in (colour, on))
        pixels = bytearray()
        for y in range(radius):
            for x in range(radius):
                far = hypot((radius - x if left else x + 1) - 0.5, (radius - y if top else y + 1) - 0.5)
                share = min(1.0, max(0.0, radius - far + 0.5))
                pixels += bytes(round(a * share + b * (1 - share)) for a, b in zip(inside, outside, strict=True))
        return _image(self._root, radius, radius, bytes(pixels))


class Previews:
    """Previews, as the pictures of a screen."""

    def __init__(self, root: tk.Misc) -> None:
        self._root = root
        self._kept: dict[int, tuple[Pixels, tk.PhotoImage]] = {}

    def of(self, local_id: int, pixels: Pixels) -> tk.PhotoImage:
        """Return a picture."""
        found = self._kept.get(local_id)
        if found is None or found[0] is not pixels:
            if len(self._kept) >= MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            found = self._kept[local_id] = pixels, _image(self._root, pixels.width, pixels.height, pixels.rgb)
        return found[1]


def _image(root: tk.Misc, width: int, height: int, rgb: bytes) -> tk.PhotoImage:
    return tk.PhotoImage(master=root, data=b"P6 %d %d 255\n" % (width, height) + rgb, format="ppm")
