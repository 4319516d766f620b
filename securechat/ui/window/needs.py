"""What the window needs that not every Python or machine has: said in one sentence each, before anything is asked."""

import sys
from typing import TYPE_CHECKING, Final

from securechat.errors import UsageError

if TYPE_CHECKING:
    import tkinter as tk

OTHERS: Final = "`securechat web` and `securechat client` do without."

_PACKAGES: Final = ("sv_ttk", "bidi", "arabic_reshaper")


def open_display() -> "tk.Tk":
    """Return Tk's first window, which is not shown yet. Raises `UsageError` saying what is missing."""
    try:
        import tkinter as tk
    except ImportError:
        raise UsageError(
            "This Python has no tkinter, which the window is drawn with (on Debian and Ubuntu: apt install python3-tk; "
            f"with Homebrew: brew install python-tk). {OTHERS}"
        ) from None
    from importlib.util import find_spec

    if not all(map(find_spec, _PACKAGES)):
        raise UsageError("The window needs the extra [window]: pip install 'securechat[window]'")
    try:
        root = tk.Tk(className="securechat")
    except tk.TclError:
        why = "DISPLAY leads to none" if sys.platform not in ("win32", "darwin") else "Tk finds none"
        raise UsageError(f"There is no display here to open a window on ({why}). {OTHERS}") from None
    root.withdraw()
    return root
