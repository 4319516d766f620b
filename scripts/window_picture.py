"""Make the picture of the window, docs/window.png: a conversation that nobody has had.

    .venv/bin/python -m scripts.window_picture

Taken on a display without a screen (Xvfb), with the fonts that are installed here; Noto Color Emoji has its emoji.
"""

import sys
import tkinter as tk
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from scripts.page_pictures import CLUB, small, talk
from securechat.ui.session.mail import Mail
from securechat.ui.window.app import Window
from tests.support.display import PATIENCE, Display, displays
from tests.support.scripted import ScriptedClient

ROOT: Final = Path(__file__).resolve().parents[1]


def main(
    file: Path = ROOT / "docs" / "window.png", *, theme: str = "dark", size: tuple[int, int] = (1120, 740)
) -> None:
    """Make it."""
    with Display(displays()[0], width=size[0], height=size[1]) as display:
        mail = Mail()
        client = ScriptedClient(mail.put)
        talk(client)
        client.visits.append((CLUB.id, 0))
        root = tk.Tk(screenName=display.name, className="securechat")
        window = Window(root, client, mail, theme=theme)
        root.geometry(f"{size[0]}x{size[1]}+0+0")
        window.begin()
        deadline = monotonic() + PATIENCE
        while not (_is_drawn(window) and mail.empty()):
            assert monotonic() < deadline, "the window draws nothing"
            root.update()
            sleep(0.01)
        root.update()
        display.picture(file, size=size)
        window.close()
    small(file)


def _is_drawn(window: Window) -> bool:
    columns = (window.timeline, window.list, window.title, window.status, window.who)
    return all(column.blocks and column.find_withtag("all") and not column.due for column in columns)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
