"""Which command waits for what, so that an event can name the command that it answers (`commands`).

In memory only: a command's changes are in the vault, but after a restart nobody waits for its answer.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from securechat.client.events import Done, Event, Refused
from securechat.client.message import Message

Key = tuple[Literal["item", "change", "conversation", "transfer"], int | bytes]
"""What a command waits for: that an item of the outbox is in the log, a change of the members in force, a conversation
entered, or a file sent or saved. The second part is the id of that item, change, conversation or transfer."""


class Answers:
    """The commands that wait. One thread at a time."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        """`emit` lets an event out once the transaction is on disk."""
        self._emit = emit
        self._waiting: dict[Key, list[int]] = {}
        self.current = 0
        """The command that is being carried out now."""

    def name(self, event: Event) -> Event:
        """Return the event with the current command's id, unless it names another one."""
        return replace(event, command=self.current) if self.current and not event.command else event

    def wait_for(self, key: Key) -> None:
        """Note that the current command is answered when `key` is."""
        if self.current:
            self._waiting.setdefault(key, []).append(self.current)

    def waiting(self, key: Key) -> int:
        """Return the first command that waits for `key`, or 0."""
        return self._waiting.get(key, (0,))[0]

    def done(self, key: Key) -> None:
        """Answer the commands that wait for `key`: it has happened."""
        for command in self._waiting.pop(key, ()):
            self._emit(Done(command=command))

    def refuse(self, key: Key, code: str, text: str, message: Message | None = None) -> None:
        """Refuse the commands that wait for `key`: it never will happen. If none waits, tell it once all the same."""
        for command in self._waiting.pop(key, (0,)):
            self._emit(Refused(code, text, message, command=command))

    def move(self, old: Key, new: Key) -> None:
        """Let the commands that wait for `old` wait for `new`."""
        if waiting := self._waiting.pop(old, None):
            self._waiting.setdefault(new, []).extend(waiting)
