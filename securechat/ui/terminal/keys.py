"""The keys of the full screen: what each does, under a name by which the settings file may give it another one."""

import re
from typing import Final, NamedTuple

from securechat.errors import UsageError

THEME_NAMES: Final = ("dark", "light")

_KEYS: Final = re.compile(r"[a-z0-9_+]{1,40}(,[a-z0-9_+]{1,40}){0,4}")


class Key(NamedTuple):
    """Keys that do one thing, and what that is."""

    keys: str
    """As Textual names them, with commas between."""
    does: str


KEYS: Final = {
    "help": Key("f1", "show the keys, and what one can type"),
    "list": Key("f2,ctrl+b", "go to the list of conversations, or hide it"),
    "search": Key("f3,ctrl+f", "search what was said"),
    "members": Key("f4,ctrl+t", "show who is here"),
    "number": Key("f5,ctrl+n", "compare safety numbers"),
    "theme": Key("f6", "another theme"),
    "palette": Key("ctrl+p,ctrl+k", "go anywhere, or do anything, by a part of its name"),
    "next": Key("alt+down,ctrl+pagedown", "go to the next conversation"),
    "previous": Key("alt+up,ctrl+pageup", "go to the conversation before"),
    "unread": Key("alt+a", "go where something is new"),
    "older": Key("pageup", "scroll back"),
    "newer": Key("pagedown", "scroll on"),
    "newest": Key("ctrl+end", "go to the newest message"),
    "quit": Key("ctrl+q", "leave the program"),
}
"""By the name that the table `[keys]` of the settings file has for it."""

ON_A_MESSAGE: Final = {
    "r": "answer it", "e": "edit your own", "d": "delete your own", "+": "put an emoji under it",
    "p": "play a voice note", "s": "save a file", "o": "go to what it answers", "u": "leave it unread",
}  # fmt: skip
"""Keys where a message is chosen: Escape goes there from the line that one writes in, and back."""


def check_keys(name: str, keys: str) -> None:
    """Raise `UsageError` where the settings file gives a key to nothing, or nothing that is a key."""
    if name not in KEYS:
        raise UsageError(f"there is nothing {name!a} that a key does; there are {', '.join(KEYS)}")
    if _KEYS.fullmatch(keys) is None:
        raise UsageError("a key is written like f3, ctrl+f or alt+up; several have commas between them")


def parse_theme(text: str) -> str:
    """Read the name of a theme. Raises `UsageError`."""
    if text not in THEME_NAMES:
        raise UsageError(f"it is one of {', '.join(THEME_NAMES)}")
    return text


def parse_plain(text: str) -> bool:
    """Read yes or no. Raises `UsageError`."""
    if text not in ("yes", "no"):
        raise UsageError("it is yes or no")
    return text == "yes"
