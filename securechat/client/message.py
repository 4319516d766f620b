"""A line of a conversation's history, as front ends see it: in events, and in what they read of the vault."""

from typing import Final, Literal, NamedTuple

from securechat.identity.pins import Standing
from securechat.value import value

QuoteState = Literal["", "absent", "deleted", "ignored", "unreadable"]
"""`absent`: it is not here (any more). `ignored`: its sender is, in this open room."""

Disposition = Literal["attachment", "image", "voice"]
"""How a file wants to be shown (`content.registry`, which is not imported here: screens need no codec)."""


@value
class Quote:
    """What a line answers, in short, as it is now."""

    local_id: int  # of the line that it is; 0: it is not here
    sender: str = ""
    own: bool = False
    text: str = ""  # its beginning, at most 200 characters
    edited: int = 0  # when its text was last changed (ms); 0: never
    state: QuoteState = ""  # not empty: there is nothing to show, and this says why
    trust: Standing = "accepted"  # of its sender's key, as beside that line; of our own, or of none, this one


@value
class Reaction:
    """An emoji or a short word under a line, and the accounts that have put it there, the first of them first."""

    text: str
    accounts: tuple[str, ...]


@value
class Attached:
    """A file that a line brings, by its sender's word. What opens it stays in the vault."""

    name: str  # not safe as a path, nor for a screen
    description: str  # empty: there is none
    media_type: str
    disposition: Disposition
    size: int  # bytes
    digest: bytes  # SHA-256 of the file
    inline: bool  # whether its bytes are here already
    thumbnail: bytes = b""  # a small picture, not decoded yet; empty: there is none
    milliseconds: int = 0  # how long a recording is; 0: not known
    waveform: bytes = b""  # how loud it is, in 48 parts; empty: not known
    width: int = 0  # of a picture, in pixels; 0: not known
    height: int = 0
    until: int = 0  # when the server deletes it (ms); 0: not known


class Mark(NamedTuple):
    """How far somebody has received and read what is said in a conversation."""

    delivered: int  # seq
    read: int  # the same


NO_MARK: Final = Mark(0, 0)


@value
class Message:
    """One line of a conversation's history. `seq` and `time` (ms) are 0 until the server has accepted it."""

    local_id: int
    conversation: bytes
    seq: int
    time: int
    sender: str
    own: bool
    text: str
    trust: Standing = "unknown"
    problem: str = ""  # not empty: the entry cannot be shown, and this says why
    kind: str = ""  # of content, by its name in the registry; empty: nothing could be decrypted
    device: bytes = b""  # this and `number` name the message for everybody; empty and 0 if they are unknown
    number: int = 0
    refers_to: tuple[bytes, int] | None = None  # the name of another message that this one is about
    written: int = 0  # when, by the sender's clock (ms); 0: not known
    doubt: str = ""  # not empty: its sender's history contradicts ours, and this says what is proven
    quote: Quote | None = None  # what it answers
    edited: int = 0  # when its text was last changed, by the log's time (ms); 0: never
    deleted_by: str = ""  # not empty: its text is gone, and this account has deleted it
    reactions: tuple[Reaction, ...] = ()
    recipients: int = 0  # of our own line: the people of whom it counts whether they have it; 0: of nobody
    delivered: int = 0  # how many of them say that they have it
    read: int = 0  # how many say that they have read it
    file: Attached | None = None  # of a line that brings a file
