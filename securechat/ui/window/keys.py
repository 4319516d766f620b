"""The keys of the window, and what each does."""

from typing import Final, NamedTuple


class Key(NamedTuple):
    """Keys that do one thing, and what that is."""

    sequences: tuple[str, ...]
    """As Tk names them."""
    spoken: str
    does: str


KEYS: Final = {
    "help": Key(("<F1>",), "F1", "show the keys, and what one can type"),
    "list": Key(("<F2>", "<Control-b>"), "F2, Ctrl-B", "go to the list of conversations"),
    "search": Key(("<F3>", "<Control-f>"), "F3, Ctrl-F", "search what was said"),
    "members": Key(("<F4>", "<Control-t>"), "F4, Ctrl-T", "show who is here"),
    "number": Key(("<F5>", "<Control-n>"), "F5, Ctrl-N", "compare safety numbers"),
    "theme": Key(("<F6>",), "F6", "dark or light"),
    "attach": Key(("<Control-o>",), "Ctrl-O", "send a file"),
    "next": Key(("<Alt-Down>", "<Control-Next>"), "Alt-Down, Ctrl-PageDown", "go to the next conversation"),
    "previous": Key(("<Alt-Up>", "<Control-Prior>"), "Alt-Up, Ctrl-PageUp", "go to the conversation before"),
    "unread": Key(("<Alt-a>",), "Alt-A", "go where something is new"),
    "older": Key(("<Prior>",), "PageUp", "scroll back"),
    "newer": Key(("<Next>",), "PageDown", "scroll on"),
    "newest": Key(("<Control-End>",), "Ctrl-End", "go to the newest message"),
    "quit": Key(("<Control-q>",), "Ctrl-Q", "leave the program"),
}

WRITING: Final = (
    ("Enter", "send it; alone, say yes to what is asked"), ("Shift-Enter, Ctrl-J", "begin a new line"),
    ("Tab", "complete a command, a name or a path"), ("Up, Down", "what was written before"),
    ("Esc", "go to the messages, and back"),
)  # fmt: skip

ON_A_MESSAGE: Final = {
    "r": "answer it", "e": "edit your own", "d": "delete your own", "plus": "put an emoji under it",
    "c": "copy its text", "p": "play a voice note", "s": "save a file", "o": "go to what it answers",
    "u": "leave it unread",
}  # fmt: skip
"""Keys where a message is chosen, as Tk names them: Escape goes there from where one writes, and back."""
