"""Make the pictures of docs/lab-watch.md: the demo of the lab, as its viewer shows it.

    .venv/bin/python scripts/lab_pictures.py

The terminal's is drawn from the rows of the screen. The page's is taken by Chromium, where it is installed; else the
one that is there stays.
"""

import logging
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from html import escape
from pathlib import Path
from typing import Final

from prompt_toolkit.utils import get_cwidth

from securechat_lab.watching.demo import DROPPED, play
from securechat_lab.watching.page import write_page
from securechat_lab.watching.recording import Reader
from securechat_lab.watching.screen import View, draw
from securechat_lab.watching.story import Story, tell

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"

COLUMNS, ROWS = 110, 32
CELL, LINE = 8, 18  # pixels

COLOURS: Final = {
    "": "#e9e7e2", "title": "#ffffff", "dim": "#8d979f", "network": "#eaa95e", "server": "#92bff2", "people": "#92d3a3",
    "alarm": "#ff8a80", "chosen": "#14171a",
}  # fmt: skip

WIDTH, HEIGHT = 1280, 720
CHROMIUM: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-color-profile=srgb",
)  # fmt: skip


def forked(story: Story) -> int:
    """Where the server has dropped a message."""
    moments = View(story, COLUMNS, ROWS).moments
    return next(index for index, moment in enumerate(moments) if moment.text == DROPPED)


def terminal(story: Story) -> str:
    """The screen there, as SVG."""
    size = f"0 0 {COLUMNS * CELL + 16} {ROWS * LINE + 16}"
    font = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" font-family="{font}" font-size="13.3">',
        '<rect width="100%" height="100%" rx="8" fill="#14171a"/>',
    ]
    for number, row in enumerate(draw(View(story, COLUMNS, ROWS, chosen=forked(story)))):
        column = 0
        for style, text in row:
            cells = get_cwidth(text)
            x, y = 8 + column * CELL, 8 + number * LINE
            if style == "chosen":
                parts.append(f'<rect x="{x}" y="{y}" width="{cells * CELL}" height="{LINE}" fill="#e9e7e2"/>')
            if text.strip():
                inner = text.rstrip()
                width = get_cwidth(inner) * CELL
                weight = ' font-weight="bold"' if style in ("title", "alarm") else ""
                parts.append(
                    f'<text x="{x}" y="{y + 13}" textLength="{width}" lengthAdjust="spacingAndGlyphs" '
                    f'xml:space="preserve" fill="{COLOURS[style]}"{weight}>{escape(inner)}</text>'
                )
            column += cells
    return "\n".join([*parts, "</svg>\n"])


def pixels(png: bytes) -> tuple[int, int, int, bytes]:
    """Width, height, bytes a pixel (3 or 4), and the pixels of a PNG with 8 bits a channel (W3C PNG, section 9)."""
    position, data = 8, b""
    while position < len(png):
        (length,) = struct.unpack_from(">I", png, position)
        if png[position + 4 : position + 8] == b"IDAT":
            data += png[position + 8 : position + 8 + length]
        position += 12 + length
    width, height, _, kind = struct.unpack_from(">IIBB", png, 16)
    size = {2: 3, 6: 4}[kind]
    raw, rows, above = zlib.decompress(data), [], bytes(width * size)
    for start in range(0, len(raw), width * size + 1):
        row = bytearray(raw[start + 1 : start + 1 + width * size])
        for index in range(len(row)):
            left = row[index - size] if index >= size else 0
            up, corner = above[index], above[index - size] if index >= size else 0
            near = min((left, up, corner), key=lambda each, p=left + up - corner: abs(p - each))  # type: ignore[misc]
            row[index] = (row[index] + (0, left, up, (left + up) // 2, near)[raw[start]]) & 0xFF
        rows.append(bytes(row))
        above = rows[-1]
    return width, height, size, b"".join(rows)


def with_few_colours(png: bytes) -> bytes:
    """The same picture in at most 256 colours, a third as long: those that are there most, and the nearest of them."""
    width, height, size, data = pixels(png)
    found = [data[start : start + 3] for start in range(0, len(data), size)]
    palette = [colour for colour, _ in Counter(found).most_common(256)]
    index = {colour: place for place, colour in enumerate(palette)}
    for colour in set(found) - set(palette):
        far = [sum((a - b) ** 2 for a, b in zip(each, colour, strict=True)) for each in palette]
        index[colour] = far.index(min(far))
    rows = (bytes([0, *(index[each] for each in found[row * width : (row + 1) * width])]) for row in range(height))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)), (b"PLTE", b"".join(palette)),
        (b"IDAT", zlib.compress(b"".join(rows), 9)), (b"IEND", b""),
    )  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def main() -> None:
    """Play the demo and make both."""
    logging.getLogger("securechat").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        play(folder)
        reader = Reader(folder / "scene.jsonl")
        reader.read_all()
        reader.close()
        story = tell(reader.lines)
        (DOCS / "lab-terminal.svg").write_text(terminal(story))
        browser = shutil.which("chromium") or shutil.which("chromium-browser")
        if browser is None:
            sys.exit("There is no Chromium here: docs/lab-page.png stays as it is.")
        write_page(story, folder / "page.html")
        subprocess.run(
            [browser, *CHROMIUM, f"--user-data-dir={folder / 'browser'}", f"--window-size={WIDTH},{HEIGHT}",
             f"--screenshot={folder / 'page.png'}", f"{(folder / 'page.html').as_uri()}#{forked(story) + 1}"],
            check=True, stderr=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
        (DOCS / "lab-page.png").write_bytes(with_few_colours((folder / "page.png").read_bytes()))


if __name__ == "__main__":
    main()
