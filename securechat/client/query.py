"""A query: what is looked for in the history, as a value. What comes of it is `searching`."""

from typing import Final, Literal

from securechat.value import value

MAX_QUERY: Final = 1000
"""Characters of a search: more is a text that somebody has pasted."""

Has = Literal["file", "link", "reply"]
"""What a line can have: a file that it brings; an address of the web; something that it answers."""


@value
class Query:
    """What is looked for: lines for which all of this is true."""

    words: tuple[str, ...] = ()
    """Each is in the line, from its beginning; what one stands for in several words follows each other there."""
    phrases: tuple[str, ...] = ()
    """The same, up to the last letter."""
    sender: str = ""
    """An account; empty: anybody."""
    where: str = ""
    """The name of a person or a room, under all ids that it has had; empty: everywhere."""
    has: tuple[Has, ...] = ()
    after: int = 0
    """From when on, in milliseconds since 1970."""
    before: int = 0
    """Until when, and not at that time itself; 0: now."""
