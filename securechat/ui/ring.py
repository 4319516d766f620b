"""How a notice comes at a terminal: by its bell, by a sequence that the emulator shows, or by the desktop.

OSC 9 is iTerm2's and most others', OSC 777 urxvt's, foot's and those of VTE. A terminal that knows neither shows
nothing of it. The desktop is asked by `desktop-notifier`, if that is installed, on a thread of its own: it may not
answer.
"""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import Full, Queue
from threading import Thread
from time import monotonic
from typing import Any, Final

from securechat.ui.view.notify import Notification

PERIOD_SECONDS: Final = 3.0
"""Between two notices, at least: who writes a thousand lines rings once."""

MAX_WAITING: Final = 4
"""Notices that wait for the desktop; more are not shown."""

BELL: Final = "\a"

_NO_MARKUP: Final = str.maketrans("<>&", "‹›＆")  # so that they read as before


def sequence(notification: Notification, environment: Mapping[str, str] = os.environ) -> str:
    """Return what makes a terminal show a notice, with its bell for those that cannot."""
    title, text = (each.replace(";", ",") for each in (notification.title, notification.text))
    if "VTE_VERSION" in environment or environment.get("TERM", "").startswith(("foot", "rxvt")):
        return f"\x1b]777;notify;{title};{text}\a{BELL}"
    return f"\x1b]9;{title}: {text}\a{BELL}"


class Ring:
    """Lets notices come, not too many of them. One thread at a time."""

    def __init__(self, write: Callable[[str], None], now: Callable[[], float] = monotonic) -> None:
        """`write`: to the terminal, as it is."""
        self._write = write
        self._now = now
        self._free = 0.0  # when the next one may come
        self._desktop: Queue[Notification] | None = None
        self._no_desktop = False

    def ring(self, notification: Notification, by: str) -> None:
        """Let a notice come, in the way that is preferred."""
        if self._now() < self._free:
            return
        self._free = self._now() + PERIOD_SECONDS
        if by == "desktop" and self._reaches_desktop():
            with suppress(Full):
                if self._desktop is not None:
                    self._desktop.put_nowait(notification)
        else:
            self._write(BELL if by == "bell" else sequence(notification))

    def _reaches_desktop(self) -> bool:
        """Whether the desktop can be asked; the first time begins to."""
        if self._desktop is None and not self._no_desktop:
            try:
                # Imported here, because it is an extra, and nobody else needs it.
                from desktop_notifier.sync import DesktopNotifierSync
            except ImportError:
                self._no_desktop = True
            else:
                logging.getLogger("desktop_notifier").disabled = True  # the screen is not its own
                self._desktop = Queue(MAX_WAITING)
                Thread(target=self._serve, args=(DesktopNotifierSync, self._desktop), daemon=True).start()
        return not self._no_desktop

    def _serve(self, make: Callable[..., Any], waiting: "Queue[Notification]") -> None:
        """Show on the desktop what waits. Once it cannot, the terminal does it from then on."""
        try:
            desktop = make(app_name="securechat")
            while True:
                each = waiting.get()
                # What shows it may take both for markup: with links, and nothing of it if that is wrong.
                title, text = (said.translate(_NO_MARKUP) for said in (each.title, each.text))
                desktop.send(title=title, message=text)
        except Exception:  # noqa: BLE001  whatever a desktop makes of it
            self._no_desktop = True
