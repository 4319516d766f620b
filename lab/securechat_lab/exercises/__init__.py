"""The exercises, in order. What one consists of is loaded when it is needed."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final

from securechat.errors import UsageError
from securechat_lab.kit.command import command

if TYPE_CHECKING:
    from securechat_lab.kit.task import Task


Number = int | str
"""By which an exercise is called: a number, or the letter B."""


@dataclass(frozen=True)
class Exercise:
    """What the list says of an exercise."""

    number: Number
    title: str
    minutes: int
    """How long it takes a student who has read the handout; 0: as long as they like."""
    module: str
    """Where its `TASK` is, and the name of its folder."""

    @property
    def folder(self) -> str:
        """The folder in which a student works."""
        number = f"{self.number:02}" if isinstance(self.number, int) else self.number
        return f"{number}-{self.module.replace('_', '-')}"

    def load(self) -> "Task":
        """Return what it consists of."""
        task: Task = import_module(f"{__name__}.{self.module}").TASK
        return task


EXERCISES: Final[tuple[Exercise, ...]] = (
    Exercise(0, "The chat of old, read", 40, "old_chat"),
    Exercise(1, "Peel the onion", 60, "peel_the_onion"),
    Exercise(2, "Rogue certificate", 80, "rogue_certificate"),
    Exercise(3, "Key swap", 80, "key_swap"),
    Exercise(4, "One history", 70, "one_history"),
    Exercise(5, "Tamper", 90, "tamper"),
    Exercise(6, "Words from sizes", 60, "word_sizes"),
    Exercise(7, "Hostile text", 60, "hostile_text"),
    Exercise(8, "Seized laptop", 100, "seized_laptop"),
    Exercise(9, "Stolen user table", 90, "stolen_table"),
    Exercise(10, "Commit race", 60, "commit_race"),
    Exercise(11, "Strip the upgrade", 50, "strip_upgrade"),
    Exercise(12, "Ghost member", 120, "ghost_member"),
    Exercise(13, "Nonce twice", 120, "nonce_twice"),
    Exercise(14, "Fill the room", 90, "fill_room"),
    Exercise(15, "Build the chat of old", 180, "build_chat"),
    Exercise("B", "Break ours", 0, "break_ours"),
)


def find(number: Number) -> Exercise:
    """Return an exercise by its number. Raises `UsageError`."""
    for each in EXERCISES:
        if each.number == number:
            return each
    numbers = ", ".join(str(each.number) for each in EXERCISES)
    raise UsageError(f"There is no exercise {number}. There are {numbers}: {command()} list.")
