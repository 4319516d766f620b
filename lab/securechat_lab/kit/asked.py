"""A student's function that others ask in the middle of a scene, in threads of their own.

What goes wrong must end none of these threads: it is kept for whoever asks once the scene is over, and from then on the
answer is the one that lets nothing through.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from securechat_lab.kit.sandbox import Student, StudentError


class Asked:
    """Asks one student's file; any thread."""

    def __init__(self, student: Student) -> None:
        self._student = student
        self._lock = threading.Lock()
        self.failure: StudentError | None = None
        """What went wrong first."""

    def yes(self, function: str, *values: object) -> bool:
        """Return a verdict; False also where there is none."""
        known = self.answer(lambda given: isinstance(given, bool), "neither True nor False", function, *values)
        return known is True

    def one_of(self, words: Sequence[str], function: str, *values: object) -> str:
        """Return one of these words, or "" where there is none."""
        names = ", ".join(f'"{each}"' for each in words)
        return self.answer(lambda given: given in words, f"none of {names}", function, *values) or ""

    def answer(self, fits: Callable[[Any], bool], unlike: str, function: str, *values: object) -> Any:
        """Return an answer that `fits`, or None where there is none. `unlike`: what one is that does not fit."""
        with self._lock:
            if self.failure is not None:
                return None
            try:
                given = self._student.call(function, *values)
            except StudentError as error:
                self.failure = error
                return None
            if not fits(given):
                self.failure = StudentError(f"{function}() returned {given!r:.60}, which is {unlike}.")
                return None
            return given

    def done(self) -> None:
        """Say what went wrong. Raises `StudentError` if anything did."""
        if self.failure is not None:
            raise self.failure
