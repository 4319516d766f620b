"""The kinds of content: one frozen struct each, with its own limits, and a row in `KINDS` that says what it is.

To add a kind:

1. here: its struct, with a limit on every field, and its row in `KINDS`
2. `client/conversations/bodies.py`: a handler in `HANDLERS`, which says what the kind does when it arrives
3. `client/engine.py`: the command that says it, if a person can; the faces get both by events and commands
4. `tests/test_content.py`: an example in `EXAMPLES`; tests walk all kinds and fail where one has no handler

A kind's name is on the wire: it never changes, and neither do the fields of a struct; a change is a new kind. A client
that does not know a kind keeps its bytes, and shows that something came, with what stands for it: a kind that shows
people anything has that as its first field, a text. docs/content.md has the whole schema, and what it was taken from.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from securechat.errors import UsageError
from securechat.wire.limits import (
    CONVERSATION_ID_LENGTH,
    DEVICE_ID_LENGTH,
    MAX_ACCOUNT,
    MAX_COUNT,
    MAX_IDENTITIES,
    MAX_KEY_PACKAGE,
    MAX_ROOM,
    MAX_TIME,
)

MAX_TEXT: Final = 64 << 10
"""Bytes of one text in UTF-8: half of what fits into an entry (`wire.limits.MAX_PAYLOAD`), padding included."""

MAX_NAME: Final = 32
"""Characters of a kind's name."""

MAX_REACTION: Final = 16
"""Characters of a reaction: the longest emoji of one picture, two people who kiss in two colours of skin, has ten. What
an emoji is changes with each version of Unicode, and receivers must not differ: so this is all that is asked of it."""

INVITATION_DAYS: Final = 14
"""Days for which an invitation can be answered: a holiday, and less than a log waits for a reader (30 days)."""

MAX_INVITATION_TEXT: Final = 400
"""Characters that an inviter can add: a paragraph, because the question is shown in one piece."""

_Text = Annotated[str, Meta(max_length=MAX_TEXT)]
_Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Account = Annotated[str, Meta(min_length=1, max_length=MAX_ACCOUNT)]
_Group = Annotated[bytes, Meta(min_length=CONVERSATION_ID_LENGTH, max_length=CONVERSATION_ID_LENGTH)]

_Device = Annotated[bytes, Meta(min_length=DEVICE_ID_LENGTH, max_length=DEVICE_ID_LENGTH)]
_Number = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
_Seq = Annotated[int, Meta(ge=0, le=MAX_COUNT)]

Role = Literal["member", "inviter", "owner"]
"""What an invited person will be in the room."""


class Name(NamedTuple):
    """Names a message of a conversation, for everybody in it (docs/design.md, section 4, Numbers)."""

    device: _Device
    """Of its sender, 16 bytes."""
    number: _Number
    """Which of that device's submissions to the conversation it is, from 1."""


NAMELESS: Final = Name(bytes(DEVICE_ID_LENGTH), 0)
"""Stands for a message's name in what waits: the number is certain only once everything before has one."""


class Body(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Base of all bodies. Printing one shows nothing of what it holds."""

    def __repr__(self) -> str:
        """Show the type only."""
        return f"{type(self).__name__}(...)"

    def check(self) -> None:
        """Raise `UsageError` if a limit is exceeded that the fields' types do not express."""


class Text(Body, frozen=True):
    """Something said."""

    text: _Text

    def check(self) -> None:
        """Bound the bytes: the field's type counts characters."""
        check_text(self.text)


class Action(Body, frozen=True):
    """Says what the sender does, in the third person: "waves" (`/me`)."""

    text: _Text

    def check(self) -> None:
        """Bound the bytes: the field's type counts characters."""
        check_text(self.text)


class Reply(Body, frozen=True):
    """Something said in answer to another message, which is shown beside it and not copied."""

    text: _Text
    about: Name

    def check(self) -> None:
        """Bound the bytes: the field's type counts characters."""
        check_text(self.text)


class Edit(Body, frozen=True):
    """Puts another text in place of that of a message of the sender's, whose kind and place stay."""

    text: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
    about: Name
    """The message as it was first said: an edit is no message, and cannot be edited."""

    def check(self) -> None:
        """Bound the bytes: the field's type counts characters."""
        check_text(self.text)


class Delete(Body, frozen=True):
    """Takes a message out of the history of everybody: one of the sender's, or in a room of theirs anybody's."""

    about: Name


class Reaction(Body, frozen=True):
    """Puts an emoji, or a short word, under a message, or takes one of the sender's back."""

    text: Annotated[str, Meta(min_length=1, max_length=MAX_REACTION)]
    about: Name
    act: Literal["add", "remove"]


class Marks(Body, frozen=True):
    """Says how far the sender has received and read what others have said. The newest counts, for all before it."""

    delivered: _Seq
    """The seq of a line, or of what came after it: everything up to it is on the sender's disk."""
    read: _Seq
    """The same of what a person has seen; at most `delivered`; 0: nothing, or they do not say."""


class Request(Body, frozen=True):
    """Asks the peer of a direct conversation to talk; `text`, which may be empty, says why."""

    text: _Text = ""

    def check(self) -> None:
        """Bound the bytes: the field's type counts characters."""
        check_text(self.text)


class Accept(Body, frozen=True):
    """The answer yes to `Request`."""


class Decline(Body, frozen=True):
    """The answer no to `Request`: closes the direct conversation."""


class Bye(Body, frozen=True):
    """Ends a direct conversation once both have said it."""


class Invite(Body, frozen=True):
    """Invites the peer of a direct conversation into a room that the sender has added them to.

    It binds the room's Welcome, which comes by the server, to the sender's key in this conversation (docs/design.md,
    section 6, Invitations). A later one for the same room takes its place.
    """

    group: _Group
    """The room's id."""
    kind: Literal["invite"]
    name: Annotated[str, Meta(min_length=1, max_length=MAX_ROOM)]
    role: Role
    owners: Annotated[tuple[tuple[_Account, _Key], ...], Meta(max_length=MAX_IDENTITIES)]
    """Account and identity key of each owner."""
    context: _Hash
    """SHA-256 of the GroupContext of the epoch that the Welcome opens."""
    until: Annotated[int, Meta(ge=0, le=MAX_TIME)]
    """When it ends, in milliseconds since 1970: at most `INVITATION_DAYS` after it is received."""
    text: Annotated[str, Meta(max_length=MAX_INVITATION_TEXT)] = ""


class DeclineInvite(Body, frozen=True):
    """The answer no to `Invite`. The answer yes is the newcomer's first commit in the room."""

    group: _Group


class WithdrawInvite(Body, frozen=True):
    """Takes an `Invite` back that has not been answered: the room has removed the invited person."""

    group: _Group


class LineProof(Body, frozen=True):
    """Shows that the sender has used an invite line of the receiver's, and asks to be let in by it.

    See `identity.line_proof`. The line's room, and who the two are, are covered by the proof and not said again.
    """

    line: _Key
    """The public half of the line's one-time key."""
    key_package: Annotated[bytes, Meta(max_length=MAX_KEY_PACKAGE)]
    """By which the room is to add the sender's device, an MLSMessage; empty where the line leads to no room."""
    proof: Annotated[bytes, Meta(min_length=64, max_length=64)]


class Instead(Body, frozen=True):
    """Says first that this private conversation takes the place of another one, which a restored server has lost.

    It counts if both are with the same account, under the same key that the receiver has accepted, and this one came
    later (docs/design.md, section 6, Following).
    """

    group: _Group
    """The other one's id."""


class Unknown(NamedTuple):
    """A body of a kind that this version does not know. Printing one shows neither."""

    kind: str
    data: bytes

    def __repr__(self) -> str:
        """Show that there is one."""
        return "Unknown(...)"


class _StandIn(msgspec.Struct, array_like=True):
    """How a body of a kind of later begins, if it shows anything; what else it has is not looked at."""

    text: str


class Kind(NamedTuple):
    """What one kind of content is."""

    name: str
    body: type[Body]
    line: Callable[[Any], str] | None = None
    """What a body of this kind shows as a line of the history; None: it is no line, and only does something."""
    direct_only: bool = False
    """Whether it has no place in a room: there it is kept and not acted upon, like an unknown one."""
    editable: bool = False
    """Whether an `Edit` changes it: what it shows is its field `text`."""


KINDS: Final = (
    Kind("text", Text, line=attrgetter("text"), editable=True),
    Kind("action", Action, line=attrgetter("text"), editable=True),
    Kind("reply", Reply, line=attrgetter("text"), editable=True),
    Kind("edit", Edit),
    Kind("delete", Delete),
    Kind("reaction", Reaction),
    Kind("marks", Marks),
    Kind("request", Request, line=attrgetter("text"), direct_only=True, editable=True),
    Kind("accept", Accept, direct_only=True),
    Kind("decline", Decline, direct_only=True),
    Kind("bye", Bye, direct_only=True),
    Kind("invite", Invite, direct_only=True),
    Kind("invite-declined", DeclineInvite, direct_only=True),
    Kind("invite-withdrawn", WithdrawInvite, direct_only=True),
    Kind("line-proof", LineProof, direct_only=True),
    Kind("instead", Instead, direct_only=True),
)

_BY_NAME: Final = {kind.name: kind for kind in KINDS}
_BY_BODY: Final = {kind.body: kind for kind in KINDS}
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_stand_in: Final = msgspec.msgpack.Decoder(_StandIn).decode
_DECODERS: Final = {kind.name: msgspec.msgpack.Decoder(kind.body).decode for kind in KINDS}


def kind_of(body: Body) -> Kind:
    """Return what a body is."""
    return _BY_BODY[type(body)]


def encode_body(body: Body | Unknown) -> tuple[str, bytes]:
    """Return a body's kind and its bytes. Raises `UsageError` if it exceeds its limits."""
    if isinstance(body, Unknown):
        return body
    body.check()
    return _BY_BODY[type(body)].name, _encode(body)


def decode_body(kind: str, data: bytes) -> Body | Unknown:
    """Return the body in `data`. Raises `msgspec.DecodeError` or `UnicodeDecodeError`."""
    decode = _DECODERS.get(kind)
    return Unknown(kind, data) if decode is None else decode(data)


def line_of(kind: str, data: bytes) -> str | None:
    """Return what a body that was decoded before shows as a line; None: this version cannot show it."""
    known = _BY_NAME.get(kind)
    return None if known is None or known.line is None else known.line(_DECODERS[kind](data))


def stand_in(kind: str, data: bytes) -> str:
    """Return the text that stands for a body of a kind that is not known, its first field; empty: it has none."""
    if kind in _BY_NAME:
        return ""
    try:
        text = _decode_stand_in(data).text
        check_text(text)
    except (msgspec.DecodeError, UnicodeDecodeError, UsageError, RecursionError):
        return ""
    return text


def is_message(kind: str) -> bool:
    """Whether content of this kind is something said, which others can be about: what is not known, may be."""
    return kind not in _BY_NAME or _BY_NAME[kind].line is not None


def is_editable(kind: str) -> bool:
    """Whether an `Edit` changes a message of this kind."""
    return kind in _BY_NAME and _BY_NAME[kind].editable


def with_text(kind: str, data: bytes, text: str) -> bytes:
    """Return the bytes of a body of an editable kind with another text. Raises `UsageError` if that is too long."""
    body = msgspec.structs.replace(_DECODERS[kind](data), text=text)
    body.check()
    return _encode(body)


def with_name(kind: str, data: bytes, about: Name) -> bytes:
    """Return the bytes of a body with the name of the message that it is about."""
    return _encode(msgspec.structs.replace(_DECODERS[kind](data), about=about))


def check_text(text: str) -> None:
    """Raise `UsageError` if `text` cannot be sent as one message."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UsageError("The text has characters that are not Unicode. Remove them and send it again.") from None
    if size > MAX_TEXT:
        raise UsageError(f"The text is {size:,} bytes long; one message takes {MAX_TEXT:,}. Send it in parts.")
