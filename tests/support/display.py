"""A display of X without a screen (Xvfb), with a keyboard and a mouse that a test has in its hands (XTEST)."""

import atexit
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PATIENCE = 60.0
"""Seconds after which a test gives up waiting: a slow machine is not a failure."""

_NAMED = {"\n": "Return", "\t": "Tab", " ": "space", "/": "slash", "#": "numbersign", ".": "period", ",": "comma",
          "-": "minus", "_": "underscore", ":": "colon", "@": "at", "!": "exclam", "?": "question", '"': "quotedbl",
          "'": "apostrophe", "+": "plus"}  # fmt: skip
"""What X calls a character that has no name of its own."""


def displays() -> list[str]:
    """Xvfb, where it is installed and Python has tkinter."""
    if find_spec("tkinter") is None:
        return []
    found = shutil.which("Xvfb")
    return [] if found is None else [found]


@cache
def lasting(program: str, _number: int) -> "Display":
    """Return a display that is there until this process ends, the same one for each number.

    Tk keeps its connection when a window has gone, and ends the whole process once the display at the other end goes.
    """
    display = Display(program)
    atexit.register(display.__exit__, None, None, None)
    return display


class Display:
    """One display, of its own number. It ends with the last who is connected to it: with us."""

    def __init__(self, program: str, *, width: int = 1400, height: int = 900) -> None:
        """`program`: Xvfb. It chooses a number that is free, and says which."""
        numbers, told = os.pipe()
        self._process = subprocess.Popen(
            [program, "-displayfd", str(told), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp", "-terminate",
             "-dpi", "96"],
            pass_fds=[told], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(told)
        with os.fdopen(numbers) as said:
            number = said.readline().strip()
        assert number, "Xvfb has not begun"
        self.name = f":{number}"
        import Xlib.display

        self._x = Xlib.display.Display(self.name)
        self.width, self.height = width, height

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._x.close()
        self._process.terminate()
        self._process.wait()

    @property
    def environment(self) -> dict[str, str]:
        """What leads a program here."""
        return {"DISPLAY": self.name}

    def press(self, keys: str) -> None:
        """Press a key, with others held as in `ctrl+shift+f`, and let go."""
        import Xlib.X
        import Xlib.XK

        held = {"ctrl": "Control_L", "shift": "Shift_L", "alt": "Alt_L"}
        *before, key = keys.split("+") if keys != "+" else ["+"]
        codes = [self._code(held[each])[0] for each in before]
        code, shifted = self._code(_NAMED.get(key, key))
        if shifted and "shift" not in before:
            codes.append(self._code("Shift_L")[0])
        for each in (*codes, code):
            self._fake(Xlib.X.KeyPress, each)
        for each in (code, *reversed(codes)):
            self._fake(Xlib.X.KeyRelease, each)
        self._x.sync()

    def _code(self, name: str) -> tuple[int, bool]:
        """Return the code of a key, and whether Shift belongs to it."""
        import Xlib.XK

        symbol = Xlib.XK.string_to_keysym(name)
        code = self._x.keysym_to_keycode(symbol)
        assert code, f"no key makes {name}"
        return code, self._x.keycode_to_keysym(code, 0) != symbol

    def _fake(self, *event: Any, **where: Any) -> None:
        import Xlib.ext.xtest

        Xlib.ext.xtest.fake_input(self._x, *event, **where)

    def type(self, text: str) -> None:
        """Press the keys that make a text."""
        for each in text:
            self.press(each)

    def click(self, x: int, y: int, *, button: int = 1) -> None:
        """Click somewhere."""
        import Xlib.X

        self._fake(Xlib.X.MotionNotify, x=x, y=y)
        self._fake(Xlib.X.ButtonPress, button)
        self._fake(Xlib.X.ButtonRelease, button)
        self._x.sync()

    def picture(self, file: Path | None = None, *, size: tuple[int, int] | None = None) -> Any:
        """Return what is seen, an image of Pillow's; and write it into a file. `size`: of the part at the top left."""
        import Xlib.X
        from PIL import Image

        width, height = size or (self.width, self.height)
        raw = self._x.screen().root.get_image(0, 0, width, height, Xlib.X.ZPixmap, 0xFFFFFFFF)
        image = Image.frombytes("RGB", (width, height), raw.data, "raw", "BGRX")
        if file is not None:
            image.save(file)
        return image

    def windows(self) -> list[str]:
        """The titles of the windows that are shown."""
        import Xlib.error

        found = []
        for each in self._x.screen().root.query_tree().children:
            try:
                if each.get_attributes().map_state:
                    found.append(str(each.get_wm_name() or ""))
            except Xlib.error.BadWindow:  # it has just gone
                pass
        return found

    def wait(self, holds: Callable[[], object]) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, self.windows()
            time.sleep(0.02)
