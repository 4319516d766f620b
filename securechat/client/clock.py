"""The two clocks of a client."""

import time
from collections.abc import Callable

from securechat.identity.certificate import CLOCK_SKEW
from securechat.value import value


@value
class Clock:
    """Two clocks: `wall` in seconds since 1970, which may be set back, and `monotonic` for durations."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic

    def seconds(self) -> int:
        """Now, in whole seconds since 1970."""
        return int(self.wall())

    def milliseconds(self) -> int:
        """Now, in milliseconds since 1970."""
        return int(self.wall() * 1000)

    def latest(self) -> int:
        """The latest that an honest server's clock may show now, in seconds: what it has let in by that, we let in."""
        return self.seconds() + CLOCK_SKEW
