"""Points at which a process kills itself: before a write to its store, or after a commit.

`KILL_POINT` names a file. While it is there, each point takes one from the number in it; at zero the process is gone,
as by `kill -9` from outside, but at a place of the test's own choice. Threads and processes take turns at it: once it
was called off nobody dies any more, and who could not call it off waits for an end that is certain. What a server's
housekeeping writes, whenever its second comes round, is none: the points of a request are always as many.
"""

import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VARIABLE = "KILL_POINT"


def arm(point: Path, number: int) -> None:
    """Let whoever watches `point` live through `number` writes and commits, and no more."""
    with _turn(point):
        point.write_text(str(number))


def disarm(point: Path) -> bool:
    """Call it off. False: it cannot be, because the process has been killed."""
    with _turn(point):
        there = point.exists()
        point.unlink(missing_ok=True)
    return there


@contextmanager
def _turn(point: Path) -> Iterator[None]:
    with point.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def watch_store() -> None:
    """Make points of what a server's stores write."""
    from securechat.server.accounts import store
    from securechat.server.blobs import folder
    from securechat.server.store.sqlite.writer import Writer

    _watch(store, "write_accounts", ends=lambda *_: True)
    _watch(Writer, "execute", "execute_many")
    _watch(Writer, "commit", ends=lambda *_: True)
    _watch(folder, "_write", "sync_open", ends=lambda *_: True)
    _watch(folder.BlobFolder, "delete", ends=lambda *_: True)


def watch_vault() -> None:
    """Make points of what a client's vault writes."""
    from securechat.client.vault.database import Database

    _watch(Database, "run", "run_many", begins=lambda sql, *_: not sql.startswith(("SELECT", "BEGIN")),
           ends=lambda sql, *_: sql == "COMMIT")  # fmt: skip


def _watch(
    owner: Any,
    *methods: str,
    begins: Callable[..., bool] = lambda *_: True,
    ends: Callable[..., bool] = lambda *_: False,
) -> None:
    """Make points of where calls of these methods begin and end, if what they are given says so."""
    name = os.environ.get(VARIABLE)
    for method in methods if name is not None else ():
        setattr(owner, method, _counted(getattr(owner, method), Path(name or ""), begins, ends))


def _counted(
    function: Callable[..., Any], point: Path, begins: Callable[..., bool], ends: Callable[..., bool]
) -> Callable[..., Any]:
    def call(itself: Any, *given: Any) -> Any:
        if begins(*given):
            _pass(point)
        result = function(itself, *given)
        if ends(*given):
            _pass(point)
        return result

    return call


def _pass(point: Path) -> None:
    if not point.exists() or threading.current_thread().name == "housekeeping":
        return
    with _turn(point):
        if not point.exists():
            return
        left = int(point.read_text())
        if left > 0:
            point.write_text(str(left - 1))
            return
        point.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
