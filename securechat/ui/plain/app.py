"""Runs the plain client: on a terminal with a line editor, otherwise on plain lines.

On a terminal the main thread edits the line (prompt_toolkit) and a second thread does everything else, printing above
the line being typed. In a pipe the main thread does everything and a second one waits for lines. Either way `Chat` runs
on one thread, fed from one queue by the keyboard and the core.
"""

import os
import sys
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import field
from io import TextIOWrapper
from math import inf
from queue import Empty, SimpleQueue
from threading import Event as Flag
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Final, TextIO

from securechat.clean import clean
from securechat.client.events import Event
from securechat.errors import UsageError
from securechat.ui.editor import edited, editor
from securechat.ui.exit_codes import ExitCode
from securechat.ui.interrupts import Woken, interrupts_wake
from securechat.ui.leaving import LOST, is_gone, left_in_order, quiet
from securechat.ui.plain.colour import Choice, is_wanted, painted
from securechat.ui.plain.dumb import DumbScreen
from securechat.ui.ring import Ring
from securechat.ui.session.chat import Chat
from securechat.ui.session.sharing import paths_like
from securechat.ui.session.verbs import VERBS
from securechat.ui.session.voice import Decoded
from securechat.ui.view.completion import complete
from securechat.ui.view.lines import notice, warning, wrap
from securechat.ui.view.listing import names_in
from securechat.value import value

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient

SETTLE_SECONDS: Final = 60.0
"""How long, after the end of piped input, the last lines may take to reach the server."""

REFRESH_SECONDS: Final = 2.0
"""How often what stands at the right end of the line is looked at: nobody tells that somebody has stopped typing."""

TOLD_SECONDS: Final = 2.0
"""How often the line that is being typed is looked at, for those who may know that it is."""

CLOSE_SECONDS: Final = 5.0
"""How long the core may take to say goodbye; then we leave without it."""


@value
class Typed:
    """A line, or several that belong together, from the keyboard or the pipe."""

    text: str


@value
class TypedPassword:
    """What was typed after `/unlock`, without echo."""

    text: str = field(repr=False)


@value
class TypedPasswords:
    """What was typed after `/password`, without echo: the password of now, and the one that is to be."""

    old: str = field(repr=False)
    new: str = field(repr=False)


@value
class TypedDeletion:
    """What was typed behind `/delete-account`, and then without echo."""

    rest: str
    password: str = field(repr=False)


@value
class Written:
    """What stands in the line that is being typed: told now and then."""

    text: str = field(repr=False)


@value
class EndOfInput:
    """Ctrl-D on an empty line, or the end of the pipe."""


Inbox = SimpleQueue[
    Event | Typed | TypedPassword | TypedPasswords | TypedDeletion | Written | Decoded | EndOfInput | Woken
]
"""The queue that feeds a `Chat`. Its `put` is the core's `on_event`."""


def run_plain(client: "ChatClient", inbox: Inbox, first: str = "", colour: Choice = "auto") -> ExitCode:
    """Talk until the user or the core ends it. `client` is not started yet and tells its events to `inbox`.

    `first`: a command that is done once we are in.
    """
    if sys.stdin.isatty() and sys.stdout.isatty():
        return _run_on_terminal(client, inbox, first, coloured=is_wanted(colour, terminal=True))
    if first:
        inbox.put(Typed(first))
    coloured = is_wanted(colour, terminal=sys.stdout.isatty())
    return _run_on_lines(client, inbox, sys.stdin.fileno(), sys.stdout, coloured=coloured)


# --- on a terminal ------------------------------------------------------------------------------------------------


def _run_on_terminal(client: "ChatClient", inbox: Inbox, first: str, *, coloured: bool) -> ExitCode:
    # Imported here, because it takes a tenth of a second and a pipe needs none of it.
    from prompt_toolkit import PromptSession
    from prompt_toolkit.application import Application, run_in_terminal
    from prompt_toolkit.buffer import Buffer
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import DummyHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
    from prompt_toolkit.output import DummyOutput, create_output
    from prompt_toolkit.patch_stdout import patch_stdout
    from prompt_toolkit.shortcuts import CompleteStyle
    from prompt_toolkit.utils import get_cwidth, is_dumb_terminal

    class Words(Completer):
        """What Tab makes of the last word: of a line, and not of a text."""

        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
            del complete_event
            typed = document.text_before_cursor
            length = len(typed) - typed.rfind(" ") - 1
            if "\n" in document.text:
                return
            for each in complete(typed, VERBS.values(), names_in(client), paths_like):
                yield Completion(each.text, -length, display_meta=each.note)

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        command, _, text = buffer.text.strip().partition(" ")
        if command == "/editor":
            event.app.create_background_task(edit(buffer, text))
        else:
            buffer.validate_and_handle()

    async def edit(buffer: Buffer, text: str) -> None:
        try:
            words = editor()
            buffer.text = text
            # What comes in meanwhile is shown when it has ended.
            text = await run_in_terminal(lambda: edited(words, text), in_executor=True)
            buffer.document = Document(text, len(text))
        except UsageError as error:
            show(warning(clean(str(error))))

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    # The line editor's own prompt for such a terminal could not be ended from here, and would show a password.
    drawn, dumb = (DummyOutput(), DumbScreen(sys.stdout)) if is_dumb_terminal() else (None, None)
    size = create_output().get_size

    def asked(question: Callable[[], str]) -> AbstractContextManager[None]:
        return nullcontext() if dumb is None else dumb.asking(question)

    def show(text: str) -> None:
        # As it is: what a variable says (COLUMNS) would let others' texts begin where our own lines do.
        text = wrap(text, size().columns, get_cwidth)
        text = painted(text, client.account) if coloured else text
        if dumb is not None:
            dumb.show(text)
        else:
            shown.put(text + "\n")
            at_prompt(asking[-1].app, show_above)

    session: PromptSession[str] = PromptSession(
        output=drawn,
        multiline=True, key_bindings=keys, prompt_continuation="... ", erase_when_done=True, reserve_space_for_menu=0,
        completer=Words(), complete_while_typing=False, complete_style=CompleteStyle.READLINE_LIKE,
        enable_suspend=True,
    )  # fmt: skip
    asking: list[PromptSession[str]] = [session]  # the last one is on the screen
    told = [-TOLD_SECONDS]  # when the line was looked at (monotonic seconds)

    def tell_typing(buffer: Buffer) -> None:
        if not buffer.text or monotonic() - told[0] >= TOLD_SECONDS:
            told[0] = monotonic()
            inbox.put(Written(buffer.text))

    session.default_buffer.on_text_changed += tell_typing

    if dumb is not None:
        session.default_buffer.on_text_changed += lambda buffer: dumb.echo(buffer.text)

    def at_prompt(app: Application[str], act: Callable[[], object]) -> None:
        """Do something on the thread that edits the line, if it does now."""
        with suppress(RuntimeError):  # it has just ended, and closed its loop
            if (loop := app.loop) is not None:
                loop.call_soon_threadsafe(act)

    # The thread that edits the line writes all: what another one wrote while a line begins would stand within it.
    output = session.app.output
    shown: SimpleQueue[str] = SimpleQueue()  # waits for that thread
    due = Flag()  # whether that will write it above the line: once for all that comes until then
    write_text = output.write_raw if coloured else output.write  # not raw, a colour would be taken for somebody's order

    def write_shown() -> None:
        due.clear()
        output.enable_autowrap()
        while not shown.empty():
            write_text(shown.get())
        output.flush()

    def show_above() -> None:
        if not (due.is_set() or shown.empty()):
            due.set()
            run_in_terminal(write_shown)

    sequences: SimpleQueue[str] = SimpleQueue()  # that wait for a line to be edited: between two none is

    def write_sequences() -> None:
        while not sequences.empty():  # what is shown has its sequences taken out; these are our own
            output.write_raw(sequences.get())
        output.flush()

    def write(sequence: str) -> None:
        sequences.put(sequence)
        at_prompt(session.app, write_sequences)

    terminal = sys.stdin.fileno()

    def leave() -> None:
        inbox.put(EndOfInput())  # whatever is asked ends with the client

    chat = Chat(client, show, piped=False, first=first, ring=Ring(write), later=inbox.put)
    ended = Flag()

    def leave_prompt_if_ended() -> None:
        app = asking[-1].app
        if ended.is_set() and app.is_running and not app.is_done:
            app.exit(exception=EOFError)

    def begin() -> None:
        write_shown()
        leave_prompt_if_ended()

    def begin_line() -> None:
        write_sequences()
        begin()

    def ask_hidden(question: str) -> str:
        # One for each time: a session keeps what was typed into it.
        hidden: PromptSession[str] = PromptSession(
            is_password=True, history=DummyHistory(), erase_when_done=True, output=drawn
        )  # fmt: skip
        asking.append(hidden)
        try:
            with asked(lambda: question):
                return hidden.prompt(question, pre_run=begin)
        finally:
            asking.pop()

    def prompt() -> str:
        if is_gone(terminal):
            leave()
        return chat.prompt

    def ask() -> Typed | TypedPassword | TypedPasswords | TypedDeletion:
        with asked(lambda: chat.prompt):
            text = session.prompt(
                prompt, rprompt=lambda: chat.status, refresh_interval=REFRESH_SECONDS,
                pre_run=begin_line,
            )  # fmt: skip
        told[0] = -TOLD_SECONDS  # the next line is told as soon as it begins
        try:
            if text.strip() == "/unlock":
                return TypedPassword(ask_hidden("Password: "))
            if text.strip().startswith("/delete-account "):
                return TypedDeletion(text.strip().partition(" ")[2], ask_hidden("Password: "))
            if text.strip() == "/password":
                old = ask_hidden("Password until now: ")
                new = ask_hidden("New password: ")
                if ask_hidden("The same again: ") == new:
                    return TypedPasswords(old, new)
                show(warning("These were not the same: the password stays as it is."))
                return Typed("")
        except EOFError:  # nothing was typed; at the end of the client the next prompt says so, too
            return Typed("")
        return Typed(text)

    def write_to_the_end() -> None:
        while not (ended.is_set() and shown.empty()):
            write_text(shown.get())  # once there is something
            with suppress(*LOST):
                output.flush()

    def work() -> None:
        try:
            _feed(chat, inbox, after_each=lambda: at_prompt(session.app, session.app.invalidate))
        finally:
            ended.set()
            shown.put("")  # wakes who waits for more
            at_prompt(asking[-1].app, leave_prompt_if_ended)

    interrupted = False
    with left_in_order(leave), quiet(terminal), patch_stdout() if dumb is None else nullcontext():
        chat.take_place()
        chat.show_unread()
        worker = Thread(target=work, name="plain-ui")
        worker.start()
        client.start()
        try:
            while not ended.is_set():
                try:
                    inbox.put(ask())
                    interrupted = False
                except KeyboardInterrupt:
                    if not interrupted:
                        show(notice("To leave, type /quit or press Ctrl-D on an empty line."))
                    interrupted = True  # a key that is held down says nothing more
                except EOFError:
                    break
                except LOST:
                    if not is_gone(terminal):
                        raise
                    break
        finally:
            inbox.put(EndOfInput())
            write_to_the_end()
            worker.join()
    return _result(chat)


# --- in a pipe ----------------------------------------------------------------------------------------------------


def _run_on_lines(client: "ChatClient", inbox: Inbox, fd: int, output: TextIO, *, coloured: bool) -> ExitCode:
    if isinstance(output, TextIOWrapper):
        output.reconfigure(errors="replace")  # a character that the locale lacks must not end the program

    def show(text: str) -> None:
        output.write((painted(text, client.account) if coloured else text) + "\n")
        output.flush()

    def read() -> None:
        for text in _read_lines(fd):
            if text.strip() == "/quit":  # like the end of the pipe: earlier lines are finished first
                break
            inbox.put(Typed(text))
        inbox.put(EndOfInput())

    chat = Chat(client, show, piped=True, later=inbox.put)
    try:
        with interrupts_wake(inbox.put):
            chat.show_unread()
            client.start()
            Thread(target=read, name="plain-input", daemon=True).start()  # nothing can interrupt a read of the pipe
            in_time = _feed(chat, inbox, settle_seconds=SETTLE_SECONDS)
        if not in_time:
            show(warning("Not everything has reached the server yet. It is kept, and sent when you come again."))
            return ExitCode.TIMEOUT
    except KeyboardInterrupt:
        chat.quit()
        return ExitCode.INTERRUPTED
    except OSError:  # our output is not taken
        chat.quit()
        raise
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
            until = min(deadline, chat.due)
            item = inbox.get(timeout=None if until == inf else max(0.0, until - monotonic()))
        except Empty:
            if monotonic() < deadline:
                chat.tell_folded()
                continue
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
            case TypedPassword(text):
                chat.unlock(text)
            case TypedDeletion(rest, password):
                chat.delete_account(rest, password)
            case TypedPasswords(old, new):
                chat.change_password(old, new)
            case Written(text):
                chat.typing(text)
            case Decoded():
                chat.heard(item)
            case EndOfInput():
                input_over = True
                deadline = monotonic() + settle_seconds
            case Woken():
                pass
            case _:
                chat.event(item)
        if input_over and chat.idle:
            chat.quit()
        if chat.quitting and not was_quitting:
            deadline = monotonic() + CLOSE_SECONDS
        if inbox.empty():
            chat.mark_shown()
        chat.tell_folded()
        after_each()
    return in_time


def _result(chat: Chat) -> ExitCode:
    return ExitCode.FAILURE if chat.exit_code is None else chat.exit_code
