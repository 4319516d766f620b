"""A terminal that can only be written on, as `TERM=dumb` says: the shell of an editor, a printer, a braille display.

Nothing is drawn over there, so what comes in begins a row of its own, and what was being typed is repeated below it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from threading import Lock
from typing import TextIO


class DumbScreen:
    """Where lines are typed, and shown, one below the other. Call from any thread."""

    def __init__(self, output: TextIO) -> None:
        """`output`: the terminal."""
        if isinstance(output, TextIOWrapper):
            output.reconfigure(errors="replace")  # a character that the locale lacks must not end the program
        self._output = output
        self._asked: Callable[[], str] | None = None  # what stands before the line that is typed, if one is
        self._typed = ""
        self._lock = Lock()

    @contextmanager
    def asking(self, question: Callable[[], str]) -> Iterator[None]:
        """Ask for a line; `echo` shows it. Within this context something is typed."""
        with self._lock:
            self._asked, self._typed = question, ""
            self._write(question())
        try:
            yield
        finally:
            with self._lock:
                self._asked = None
                self._write("\n")

    def echo(self, typed: str) -> None:
        """Show what is in the line now: what was added, or all of it anew."""
        with self._lock:
            if self._asked is None:
                return
            added = typed.startswith(self._typed)
            self._write(typed.removeprefix(self._typed) if added else f"\n{self._asked()}{typed}")
            self._typed = typed

    def show(self, text: str) -> None:
        """Show text from the left edge: behind what is typed, its end would come to where our own lines begin."""
        with self._lock:
            self._write(f"{text}\n" if self._asked is None else f"\n{text}\n{self._asked()}{self._typed}")

    def _write(self, text: str) -> None:
        self._output.write(text)
        self._output.flush()
