"""When what came in is taken and drawn: in frames, so that a rush costs the screen no more than one line does.

A frame takes what is there, for a while, and then all of that is drawn at once. A lone line waits for nothing. The next
frame waits until this one has been painted, and as long again as that took: however slow the machine is, and however
much comes in, half of the time is for keys.
"""

from collections.abc import Callable
from time import monotonic
from typing import Final

from securechat.ui.session.mail import Item, Mail

FRAME_SECONDS: Final = 0.1
"""From one frame to the next, at least: nobody reads faster, and keys are seen in between."""

TAKE_SECONDS: Final = 0.02
"""How long a frame takes what came in: some hundred messages."""

PAINT_SECONDS: Final = 0.025
"""After which what was drawn is painted, unless the machine is slow: Textual does so sixty times a second."""


class Frames:
    """Feeds a screen from its mail. All but `wake` is called on the screen's thread."""

    def __init__(
        self,
        mail: Mail,
        take: Callable[[Item], None],
        draw: Callable[[], None],
        soon: Callable[[Callable[[], None]], None],
        later: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`take`: one thing that came in; `draw`: what has become of all. `soon`, called on any thread: has something
        done on the screen's; `later`: after so many seconds, once what waits for the screen is done."""
        self._mail, self._take, self._draw = mail, take, draw
        self._soon, self._later, self._clock = soon, later, clock
        self._woken = self._busy = False
        self._next = 0.0  # when a frame may begin, by the clock

    def wake(self) -> None:
        """Have what came in taken. Any thread."""
        if not self._woken:
            self._woken = True
            self._soon(self._begin)

    def _begin(self) -> None:
        self._woken = False
        if not self._busy:
            self._busy = True
            self._later(max(0.0, self._next - self._clock()), self._frame)

    def _frame(self) -> None:
        began = self._clock()
        while not self._mail.empty() and self._clock() - began < TAKE_SECONDS:
            self._take(self._mail.get())
        self._draw()
        self._later(PAINT_SECONDS, lambda: self._painted(began))

    def _painted(self, began: float) -> None:
        now = self._clock()
        self._next = max(began + FRAME_SECONDS, now + now - began)
        self._busy = False
        if not self._mail.empty():
            self._begin()
