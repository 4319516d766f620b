"""What a user can prefer, for all conversations and for single ones."""

import re
from collections.abc import Mapping
from typing import Final, Literal

Preference = Literal[
    "send-marks", "show-marks", "send-typing", "show-typing", "presence", "notify", "notify-of", "notify-by", "quiet",
    "link",
]  # fmt: skip
"""send-marks: whether others are told how far we have received and read what they say. show-marks: whether we see that
of them. send-typing and show-typing: the same of who types. presence: whether it is told who comes and goes.

notify: what a notice says of something new. notify-of: what is worth one, in rooms. notify-by: how it comes; `terminal`
is what a terminal emulator shows beside it, `desktop` the desktop itself. quiet: when none comes, as 22:00-07:00.

link: whether somebody may learn this machine's address for direct links (docs/direct-link.md), of one person at a time;
`private`: one in a private network, `anywhere`: also a public one. `ask`: it is told that they offer one."""

PREFERENCES: Final[Mapping[str, tuple[str, ...]]] = {
    "send-marks": ("on", "off"),
    "show-marks": ("on", "off"),
    "send-typing": ("on", "off"),
    "show-typing": ("on", "off"),
    "presence": ("on", "off"),
    "notify": ("sender", "text", "new", "none"),
    "notify-of": ("all", "mentions"),
    "notify-by": ("bell", "terminal", "desktop"),
    "quiet": ("off",),
    "link": ("ask", "private", "anywhere", "off"),
}
"""The values that each can have. The first one counts where nothing was said."""

OF_ONE: Final = {("link", "private"), ("link", "anywhere")}
"""What can be preferred of one conversation, and not of all."""

HOURS: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")
"""What `quiet` can be beside that."""


def can_be(name: str, value: str) -> bool:
    """Whether something can be preferred."""
    return value in PREFERENCES.get(name, ()) or (name == "quiet" and HOURS.fullmatch(value) is not None)
