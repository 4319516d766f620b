"""No core dumps: what a process has in its memory does not land on a disk because it crashed, and nobody attaches.

For the whole process, so the command line asks for it, for every command. Not for programs that embed the client.
"""

import sys
from contextlib import suppress
from typing import Final

_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h


def forbid() -> None:
    """Leave no core file, and on Linux hand none to a crash reporter: that one does not ask for the limit.

    On Linux, processes of the same user can then not read this one's memory either (ptrace(2)); root can.
    """
    with suppress(ImportError, OSError, ValueError):  # not on Windows; where it may not be set, the unit sets it
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with suppress(ImportError, OSError, MemoryError):  # a hardened system may refuse what ctypes asks of it
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
