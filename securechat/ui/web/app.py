"""Runs `securechat web`: the core, the page's server, and what a person types at the terminal.

The main thread owns the screen and takes everything from one queue: what the core tells, what the page says, who comes
and goes. It looks up at least once in a frame.
"""

import os
import signal
import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from securechat.client.events import Ended, Event
from securechat.files import PRIVATE
from securechat.ui.exit_codes import ExitCode, exit_code
from securechat.ui.interrupts import Woken, interrupts_wake
from securechat.ui.leaving import left_in_order
from securechat.ui.told import tell
from securechat.ui.web.screen import Screen
from securechat.ui.web.serving import Came, Left, Page, Server, Told

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

FRAME_SECONDS: Final = 0.05
"""From one change of the page to the next, at least: what comes in between is shown together."""

LINGER_SECONDS: Final = 60.0
"""How long this goes on without a page, once there was one: long enough to open it again after a slip."""

CLOSE_SECONDS: Final = 5.0
"""How long the core may take to say goodbye; then we leave without it."""

FRONT_SECONDS: Final = 1.0
"""How often we look whether a shell has taken us to the front again."""


class Asked:
    """Enter was pressed at the terminal: another address is wanted."""


class Leave:
    """A signal wants us to end."""


Inbox = SimpleQueue[Event | Came | Told | Left | Asked | Leave | Woken]
"""The queue that feeds the screen. Its `put` is the core's `on_event`."""


def run_web(client: "ChatClient", inbox: Inbox, *, port: int, browser: bool) -> ExitCode:
    """Serve the page until nobody has it open any more, or the core ends. `client` is not started yet.

    `port`: 0: any. `browser`: open it there; else its address goes to standard output.

    Raises `UsageError` if the port cannot be had.
    """
    server = Server(port, inbox.put)
    screen = Screen(client)
    with _opener(browser=browser) as show:
        server.start()
        client.start()
        if sys.stdin.isatty():
            if hasattr(signal, "SIGTTIN"):  # not on Windows
                signal.signal(signal.SIGTTIN, signal.SIG_IGN)  # else a read behind a shell (&) stops all of us
            Thread(target=_read_enters, args=(inbox.put,), name="page-enter", daemon=True).start()
        try:
            with left_in_order(lambda: inbox.put(Leave())), interrupts_wake(inbox.put):
                show(server.address())
                ended = feed(screen, inbox, lambda: show(server.address()))
        except KeyboardInterrupt:
            ended = None
        finally:
            server.close()
            screen.close()
        if ended is None:
            client.close()
            ended = _until_ended(inbox)
    if ended is not None and ended.error is not None:
        tell(f"securechat: {ended.error}")
        return exit_code(ended.error)
    return ExitCode.OK


def feed(screen: Screen, inbox: Inbox, again: Callable[[], None]) -> Ended | None:
    """Feed the screen until the core has ended, or nobody looks any more: then return None."""
    page: Page | None = None
    deadline, next_frame, changed = inf, 0.0, False
    while True:
        now = monotonic()
        if changed and now >= next_frame:
            screen.publish()
            next_frame, changed = now + FRAME_SECONDS, False
        if now >= deadline:
            tell("Nobody has the page open any more: securechat web has ended.")
            return None
        until = min(deadline, screen.due, next_frame if changed else inf)
        try:
            item = inbox.get(timeout=None if until == inf else max(0.0, until - now))
        except Empty:
            changed = True  # by time alone: somebody has stopped typing
            continue
        match item:
            case Came(page=came):
                page, deadline = came, inf
                screen.show_on(came.put)
            case Told(page=said, message=message):
                if said is page:
                    screen.take(message)
                said.handled()
            case Left(page=left):
                if left is page:
                    page, deadline = None, monotonic() + LINGER_SECONDS
                    screen.show_on(None)
            case Asked():
                again()
            case Ended():
                screen.event(item)
                return item
            case Leave():
                return None
            case Woken():
                pass
            case _:
                screen.event(item)
        changed = True


def _until_ended(inbox: Inbox) -> Ended | None:
    deadline = monotonic() + CLOSE_SECONDS
    while True:
        try:
            item = inbox.get(timeout=max(0.0, deadline - monotonic()))
        except Empty:
            return None
        if isinstance(item, Ended):
            return item


def _read_enters(put: Callable[[Asked], object]) -> None:
    """Nothing can interrupt a read of the terminal; behind a shell, it fails."""
    while True:
        try:
            if not os.read(sys.stdin.fileno(), 4096):
                return
        except OSError:
            sleep(FRONT_SECONDS)
            continue
        put(Asked())


@contextmanager
def _opener(*, browser: bool) -> Iterator[Callable[[str], None]]:
    """Yield what shows an address to the person: on standard output, or in their browser.

    A browser gets the path of a file that only its user can read and that leads on: every process on the machine can
    read arguments, and a key stands in the address.
    """
    more = " Press Enter for another one," if sys.stdin.isatty() else ""
    if not browser:
        def print_it(address: str) -> None:
            sys.stdout.write(f"{address}\n")
            sys.stdout.flush()
            tell(f"Open this address in a browser on this machine; it is good once.{more} Ctrl-C ends.")

        yield print_it
        return
    with TemporaryDirectory(prefix="securechat-") as folder:  # 0700
        def open_it(address: str) -> None:
            path = Path(folder) / "open.html"
            path.unlink(missing_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "w") as file:
                file.write(_LEADS_ON.format(address))
            if webbrowser.open(path.as_uri()):
                tell(f"The page is open in your browser. {more.strip()} Ctrl-C ends.")
            else:
                tell("No browser could be started here: try again with --no-browser, which prints the address.")

        yield open_it


_LEADS_ON: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>securechat</title>'
    '<meta name="referrer" content="no-referrer"><meta http-equiv="refresh" content="0; url={}"></html>\n'
)
