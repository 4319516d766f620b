"""What fuzz targets keep from one input to the next: a folder, servers. It ends with the process."""

import atexit
import os
import shutil
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Final

KEPT: Final = ExitStack()
"""What is to be closed in the end: in pytest before the process ends, which waits for threads (`conftest`)."""
atexit.register(KEPT.close)

_PREFIX: Final = "securechat-fuzz-"
"""Begins a folder's name; the number of its process follows."""


@cache
def folder() -> Path:
    """A folder for the files under test, on a disk in memory where there is one. Those of killed processes go."""
    memory = Path("/dev/shm")  # noqa: S108 - only ours gets in below
    place = memory if memory.is_dir() else Path(tempfile.gettempdir())
    for found in place.glob(f"{_PREFIX}*"):
        if not _is_running(found.name.removeprefix(_PREFIX).partition("-")[0]):
            shutil.rmtree(found, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place))
    KEPT.callback(shutil.rmtree, made, ignore_errors=True)
    return made


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True
