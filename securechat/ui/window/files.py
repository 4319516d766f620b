"""Files by dialogs, and what is pasted into a line: where names and texts reach Tk that it might not draw."""

import sys
import tkinter as tk
from contextlib import suppress
from ctypes import CDLL
from functools import lru_cache
from pathlib import Path
from tkinter import filedialog, font, ttk
from typing import Final

from securechat.clean import clean_line
from securechat.ui.session.sharing import downloads
from securechat.ui.window.letters import Apart, drawable, in_words, is_coloured
from securechat.ui.window.looks import Letters

DRAWS_COLOURS: Final = 20305
"""The first libXft that takes fonts of colour pictures (2.3.5): those before end the program that draws one."""


@lru_cache(1)
def _xft() -> int:
    """Return the version of libXft, as 20306 for 2.3.6; 0: it is not known."""
    with suppress(OSError, AttributeError):
        return int(CDLL("libXft.so.2").XftGetVersion())
    return 0


def has_dialogs(root: tk.Misc) -> bool:
    """Whether Tk can show folders: names of files in them may have emoji, which others have chosen."""
    if sys.platform in ("win32", "darwin") or _xft() >= DRAWS_COLOURS:
        return True
    return not any(map(is_coloured, font.families(root)))


def _dress(root: tk.Tk, ground: str) -> None:
    """Have the list of a dialog, which is white whatever the theme is, be drawn on another colour soon."""

    def dress(path: str) -> None:
        for each in map(str, root.tk.splitlist(root.tk.call("winfo", "children", path))):
            if path != "." and str(root.tk.call("winfo", "class", each)) == "Canvas":
                root.tk.call(each, "configure", "-background", ground)
            if path != "." or "__tk_" in each:  # as Tk calls what it makes by itself
                dress(each)

    if root.tk.call("tk", "windowingsystem") == "x11":
        root.after(50, dress, ".")


def end_dialog(root: tk.Tk) -> None:
    """Close a dialog that is open: nothing was chosen."""
    if root.tk.call("tk", "windowingsystem") == "x11":
        root.tk.call("set", "::tk::Priv(selectFilePath)", "")


def ask_file(root: tk.Tk, ground: str) -> Path | None:
    """Return a file that is to be sent; None: none was chosen."""
    _dress(root, ground)
    chosen = filedialog.askopenfilename(parent=root, title="Send a file") if has_dialogs(root) else ""
    return Path(chosen).absolute() if chosen and isinstance(chosen, str) else None


def ask_folder(root: tk.Tk, ground: str) -> Path | None:
    """Return a folder that is there; None: none was chosen."""
    _dress(root, ground)
    chosen = filedialog.askdirectory(parent=root, title="Save it in", initialdir=str(downloads()), mustexist=True)
    return Path(chosen).absolute() if chosen and isinstance(chosen, str) else None


def selected(widget: tk.Misc, selection: str) -> str:
    """Return the text that is to be pasted, of "CLIPBOARD" or of "PRIMARY". Raises `TclError` if there is none."""
    kind = "UTF8_STRING" if widget.tk.call("tk", "windowingsystem") == "x11" else "STRING"
    return str(widget.tk.call("selection", "get", "-selection", selection, "-type", kind))


def guard(entry: ttk.Entry, letters: Letters) -> None:
    """Let nothing be pasted or typed into a line that Tk must not draw: emoji become their names."""
    if letters.draws_all:
        return

    def put(text: str) -> str:
        apart = Apart(clean_line(text))
        words = "".join(in_words(apart.emoji[each]) if each in apart.emoji else each for each in apart.text)
        with suppress(tk.TclError):
            entry.delete("sel.first", "sel.last")
        entry.insert("insert", drawable(words, letters.family_for)[:1000])
        return "break"

    def paste(selection: str) -> str:
        try:
            return put(selected(entry, selection))
        except tk.TclError:  # there is no text in it
            return "break"

    entry.bind("<<Paste>>", lambda _: paste("CLIPBOARD"))
    entry.bind("<<PasteSelection>>", lambda _: paste("PRIMARY"))
    entry.bind("<KeyPress>", lambda event: None if event.char.isascii() else put(event.char))
