"""How the lab is called here: what it prints can be typed."""

import os
import shlex
from typing import Final

CALLED: Final = "SECURECHAT_LAB"
"""Set by `scripts/lab` to the path by which it was called: in a clone nobody has `securechat` on their path."""


def command() -> str:
    """Return what somebody types to reach the lab."""
    called = os.environ.get(CALLED, "")
    return shlex.quote(called) if called else "securechat lab"
