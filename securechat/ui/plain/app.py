"""Runs the plain client: on a terminal with a line editor, otherwise on plain lines.

On a terminal the main thread edits the line (prompt_toolkit) and a second thread does everything else, printing above
the line being typed. In a pipe the main thread does everything and a second one waits for lines. Either way `Chat` runs
on one thread, fed from one queue by the keyboard and the core.
"""

import os
import shutil
import sys
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from math import inf
from queue import Empty, SimpleQueue
from threading import Event as Flag
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Final, TextIO

from securechat.client.events import Event
from securechat.ui.exit_codes import ExitCode
from securechat.ui.plain.chat import Chat
from securechat.ui.view.lines import notice, warning, wrap

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

SETTLE_SECONDS: Final = 60.0
"""How long, after the end of piped input, the last lines may take to reach the server."""

CLOSE_SECONDS: Final = 5.0
"""How long the core may take to say goodbye; then we leave without it."""


@dataclass(frozen=True)
class Typed:
    """A line, or several that belong together, from the keyboard or the pipe."""

    text: str


@dataclass(frozen=True)
class EndOfInput:
    """Ctrl-D on an empty line, or the end of the pipe."""


Inbox = SimpleQueue[Event | Typed | EndOfInput]
"""The queue that feeds a `Chat`. Its `put` is the core's `on_event`."""


def run_plain(client: "ChatClient", inbox: Inbox) -> ExitCode:
    """Talk until the user or the core ends it. `client` is not started yet and tells its events to `inbox`."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        return _run_on_terminal(client, inbox)
    return _run_on_lines(client, inbox, sys.stdin.fileno(), sys.stdout)


# --- on a terminal ------------------------------------------------------------------------------------------------


def _run_on_terminal(client: "ChatClient", inbox: Inbox) -> ExitCode:
    # Imported here, because it takes a tenth of a second and a pipe needs none of it.
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
    from prompt_toolkit.patch_stdout import patch_stdout
    from prompt_toolkit.utils import get_cwidth

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    def show(text: str) -> None:
        sys.stdout.write(wrap(text, shutil.get_terminal_size().columns, get_cwidth) + "\n")

    session: PromptSession[str] = PromptSession(
        multiline=True, key_bindings=keys, prompt_continuation="... ", erase_when_done=True, reserve_space_for_menu=0
    )
    app = session.app
    chat = Chat(client, show, piped=False)
    ended = Flag()

    def leave_prompt_if_ended() -> None:
        if ended.is_set() and app.is_running and not app.is_done:
            app.exit(exception=EOFError)

    def work() -> None:
        try:
            _feed(chat, inbox, after_each=app.invalidate)
        finally:
            ended.set()
            if app.loop is not None:
                app.loop.call_soon_threadsafe(leave_prompt_if_ended)

    with patch_stdout():
        chat.show_unread()
        worker = Thread(target=work, name="plain-ui")
        worker.start()
        client.start()
        while not ended.is_set():
            try:
                inbox.put(Typed(session.prompt(lambda: chat.prompt, pre_run=leave_prompt_if_ended)))
            except KeyboardInterrupt:
                show(notice("To leave, type /quit or press Ctrl-D on an empty line."))
            except EOFError:
                break
        inbox.put(EndOfInput())
        worker.join()
    return _result(chat)


# --- in a pipe ----------------------------------------------------------------------------------------------------


def _run_on_lines(client: "ChatClient", inbox: Inbox, fd: int, output: TextIO) -> ExitCode:
    if isinstance(output, TextIOWrapper):
        output.reconfigure(errors="replace")  # a character that the locale lacks must not end the program

    def show(text: str) -> None:
        output.write(text + "\n")
        output.flush()

    def read() -> None:
        for text in _read_lines(fd):
            if text.strip() == "/quit":  # like the end of the pipe: earlier lines are finished first
                break
            inbox.put(Typed(text))
        inbox.put(EndOfInput())

    chat = Chat(client, show, piped=True)
    chat.show_unread()
    client.start()
    Thread(target=read, name="plain-input", daemon=True).start()  # nothing can interrupt a read of the pipe
    try:
        in_time = _feed(chat, inbox, settle_seconds=SETTLE_SECONDS)
        if not in_time:
            show(warning("Not everything has reached the server yet. It is kept, and sent when you come again."))
            return ExitCode.TIMEOUT
    except (KeyboardInterrupt, BrokenPipeError):
        chat.quit()
        return ExitCode.FAILURE
    return _result(chat)


def _read_lines(fd: int) -> Iterator[str]:
    """Yield each line; a backslash at its end continues it on the next.

    Reads the descriptor itself: a thread that is waiting inside `sys.stdin` when the interpreter ends would crash it.
    Bytes that are not UTF-8 become lone surrogates, which the core refuses to send.
    """
    decoder = getincrementaldecoder("utf-8")(errors="surrogateescape")
    text, begun = "", ""
    while block := os.read(fd, 65536):
        *lines, text = (text + decoder.decode(block)).split("\n")
        for line in lines:
            line = line.removesuffix("\r")
            if line.endswith("\\"):
                begun += line[:-1] + "\n"
            else:
                yield begun + line
                begun = ""
    if begun or text:
        yield begun + text


# --- both ---------------------------------------------------------------------------------------------------------


def _feed(
    chat: Chat, inbox: Inbox, *, settle_seconds: float = 0.0, after_each: Callable[[], None] = lambda: None
) -> bool:
    """Feed `chat` until the core has ended, or fails to end in time.

    After the end of input the last lines get `settle_seconds` to be settled. False: that was not enough.
    """
    deadline = inf
    input_over, in_time = False, True
    while chat.exit_code is None:
        try:
            item = inbox.get(timeout=None if deadline == inf else max(0.0, deadline - monotonic()))
        except Empty:
            if chat.quitting:
                break
            in_time = False
            chat.quit()
            deadline = monotonic() + CLOSE_SECONDS
            continue
        was_quitting = chat.quitting
        match item:
            case Typed(text):
                chat.line(text)
            case EndOfInput():
                input_over = True
                deadline = monotonic() + settle_seconds
            case _:
                chat.event(item)
        if input_over and chat.idle:
            chat.quit()
        if chat.quitting and not was_quitting:
            deadline = monotonic() + CLOSE_SECONDS
        if inbox.empty():
            chat.mark_shown()
        after_each()
    return in_time


def _result(chat: Chat) -> ExitCode:
    return ExitCode.FAILURE if chat.exit_code is None else chat.exit_code
