"""`securechat rpc`: a session on standard input and output.

One thread reads lines, one takes the core's events, and the main thread writes. What is not read from the output fills
a queue of a bounded length, then the others', and then the core waits: its messages stay on the server's disk.
"""

import os
import sys
import threading
from queue import Empty, Queue
from time import monotonic
from typing import TYPE_CHECKING, BinaryIO, Final

from securechat.client.events import Ended, Event
from securechat.ui.exit_codes import ExitCode, exit_code
from securechat.ui.interrupts import Woken, interrupts_wake
from securechat.ui.rpc.lines import BLOCK, Lines
from securechat.ui.rpc.session import Session
from securechat.ui.told import tell

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

MAX_UNREAD: Final = 1000
"""Events, and lines, that wait for whoever reads the output."""

PATIENCE: Final = 10.0
"""How long the vault is waited for before another program's core is used: a bot outlives most commands."""

CLOSE_SECONDS: Final = 5.0
"""How long the core may take to say goodbye."""

SETTLE_SECONDS: Final = 60.0
"""How long, after the end of the input, requests may take to be answered."""


class _EndOfInput:
    """What was asked for is answered, or took too long."""


class _EndOfEvents:
    """The core has ended."""


Line = bytes | Woken | _EndOfInput | _EndOfEvents


def events_queue() -> "Queue[Event]":
    """Return the queue whose `put` is to be the core's `on_event`."""
    return Queue(MAX_UNREAD)


def run_rpc(
    client: "ChatClient", events: "Queue[Event]", fd: int | None = None, output: BinaryIO | None = None
) -> ExitCode:
    """Serve one caller until its input ends, or the core does. `client` is not started yet.

    Raises OSError if the output takes nothing.
    """
    out: Queue[Line] = Queue(MAX_UNREAD)
    session = Session(client, out.put)
    failure: list[Exception | None] = [None]
    descriptor = sys.stdin.fileno() if fd is None else fd
    stream = sys.stdout.buffer if output is None else output

    def tell_events() -> None:
        event = None
        while not isinstance(event, Ended):
            event = events.get()
            session.event(event)
        failure[0] = event.error
        out.put(_EndOfEvents())

    def read_lines() -> None:
        lines = Lines()
        try:
            while block := os.read(descriptor, BLOCK):
                for line in lines.take(block):
                    session.line(line)
            for line in lines.end():
                session.line(line)
            session.end_of_lines(SETTLE_SECONDS)
        finally:  # also by a bug: whoever waits for an answer sees an end
            out.put(_EndOfInput())

    threading.Thread(target=tell_events, name="rpc-events", daemon=True).start()
    client.start()
    threading.Thread(target=read_lines, name="rpc-input", daemon=True).start()  # nothing can interrupt a read
    result = ExitCode.OK
    try:
        with interrupts_wake(out.put):
            over = _write(out, stream, None)
    except KeyboardInterrupt:
        over, result = False, ExitCode.INTERRUPTED
    except OSError:
        client.close()
        _write(out, None, monotonic() + CLOSE_SECONDS)
        raise
    if not over:
        client.close()
        _write(out, None if result else stream, monotonic() + CLOSE_SECONDS)
    if (error := failure[0]) is not None:
        tell(f"securechat: {error}")
        return exit_code(error)
    return result


def _write(out: "Queue[Line]", stream: BinaryIO | None, deadline: float | None) -> bool:
    """Write lines until the input has ended, or with a `deadline` until the events have; say whether they have."""
    while True:
        try:
            line = out.get(timeout=None if deadline is None else max(0.0, deadline - monotonic()))
        except Empty:
            return False
        if isinstance(line, _EndOfEvents):
            return True
        if isinstance(line, _EndOfInput) and deadline is None:
            return False
        if isinstance(line, bytes) and stream is not None:
            stream.write(line + b"\n")
            if out.empty():
                stream.flush()
