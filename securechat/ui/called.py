"""How this program was called, so that the commands that it prints can be typed as they are."""

import os
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path


def program() -> str:
    """Return `securechat`, or the path by which it was started where another one, or none, has that name."""
    found = shutil.which("securechat")
    with suppress(OSError):
        if found is not None and Path(found).samefile(sys.argv[0]):
            return "securechat"
        if sys.argv[0].endswith("securechat") and os.access(sys.argv[0], os.X_OK):
            return shlex.quote(sys.argv[0])
    return "securechat"
