"""How a notice comes from a window: by the desktop where it can be asked, else by the bell and in the title."""

import tkinter as tk
from collections.abc import Callable

from securechat.ui.ring import Ring
from securechat.ui.view.notify import Notification


class Notices(Ring):
    """Lets notices come, not too many of them, while one looks elsewhere. Call from Tk's thread."""

    def __init__(self, root: tk.Tk, called: Callable[[], object]) -> None:
        """`called`: marks the window as one in which something is new."""
        super().__init__(self._call)
        self._root, self._called = root, called

    def _call(self, _sequence: str) -> None:
        self._root.bell()
        self._called()

    def ring(self, notification: Notification, by: str) -> None:
        """Let a notice come. There is no terminal here: what would be shown beside one goes to the desktop."""
        super().ring(notification, "bell" if by == "bell" else "desktop")
