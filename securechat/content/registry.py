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
    BLOB_ID_LENGTH,
    CONVERSATION_ID_LENGTH,
    DEVICE_ID_LENGTH,
    MAX_ACCOUNT,
    MAX_COUNT,
    MAX_IDENTITIES,
    MAX_KEY_PACKAGE,
    MAX_ROOM,
    MAX_TIME,
)

FILE_KEY_LENGTH: Final = 32
"""Bytes of a file's key, which is made for it alone."""

MAX_FILE: Final = 1 << 40
"""Bytes of one file: more than any server takes, and few enough that a counter of chunks stays far from its end."""

MAX_FILE_TEXT: Final = 4 << 10
"""Bytes of a file's description in UTF-8: with all else that a file can bring it fits into an entry."""

MAX_FILE_NAME: Final = 255
"""Bytes of a file's name in UTF-8: what file systems take."""

MAX_MEDIA_TYPE: Final = 127
"""Characters of a media type: RFC 6838 allows 127 on either side of the slash, and none that is registered has more."""

MAX_INLINE: Final = 64 << 10
"""Bytes of a file inside the message itself: 20 s of a voice note at 24 kb/s."""

MAX_THUMBNAIL: Final = 16 << 10
"""Bytes of a preview: a picture of some 320 pixels a side."""

MAX_NOTE: Final = 8 << 20
"""Bytes of a voice note, which is fetched and decoded to be heard: ten minutes at four times the rate of ours."""

MAX_RECORDING: Final = 24 * 60 * 60 * 1000
"""Milliseconds of a recording whose length is said: a day."""

MAX_PIXELS: Final = 65_535
"""Pixels of a picture on either side: as many as a JPEG can have."""

WAVEFORM_LENGTH: Final = 48
"""Values of a waveform: as many bars as stand in half a line of a screen."""

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

Disposition = Literal["attachment", "image", "voice"]
"""How a file wants to be shown: by its name, as a picture, or as something that was said."""


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


class File(Body, frozen=True):
    """Something shared: what a file is called and is, and its bytes, or what it takes to get and to open them.

    Nothing of it is certain but `digest`, by which whoever gets the bytes knows them (docs/content.md, Files).
    """

    text: Annotated[str, Meta(min_length=1, max_length=MAX_FILE_TEXT)]
    """What stands for it: its description, or where there is none, its name."""
    name: Annotated[str, Meta(min_length=1, max_length=MAX_FILE_NAME)]
    """What its sender calls it. Where it is saved it gets a name that is safe there."""
    media_type: Annotated[str, Meta(max_length=MAX_MEDIA_TYPE, pattern=r"^[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+\Z")]
    """As RFC 6838 (section 4.2) has it, without parameters, in small letters."""
    disposition: Disposition
    size: Annotated[int, Meta(ge=0, le=MAX_FILE)]
    """Of the file, in bytes."""
    digest: _Hash
    """SHA-256 of the file's bytes."""
    blob: Annotated[bytes, Meta(max_length=BLOB_ID_LENGTH)]
    """The id, 16 bytes, under which the server has the encrypted bytes; empty: they are in `inline`."""
    key: Annotated[bytes, Meta(max_length=FILE_KEY_LENGTH)]
    """Opens the blob, 32 bytes; empty where there is none."""
    inline: Annotated[bytes, Meta(max_length=MAX_INLINE)] = b""
    """The bytes themselves, where there is no blob."""
    thumbnail: Annotated[bytes, Meta(max_length=MAX_THUMBNAIL)] = b""
    """A small picture of it, as its sender made it; empty: there is none."""
    milliseconds: Annotated[int, Meta(ge=0, le=MAX_RECORDING)] = 0
    """How long a recording is; 0: it is none, or nobody says."""
    waveform: Annotated[bytes, Meta(max_length=WAVEFORM_LENGTH)] = b""
    """How loud it is, from 0 to 255, in 48 parts of equal length; empty: nobody says."""
    width: Annotated[int, Meta(ge=0, le=MAX_PIXELS)] = 0
    """Of a picture as it is shown, in pixels; 0: nobody says."""
    height: Annotated[int, Meta(ge=0, le=MAX_PIXELS)] = 0
    until: Annotated[int, Meta(ge=0, le=MAX_TIME)] = 0
    """When the server deletes the blob, in milliseconds since 1970, as its sender was told; 0: nobody says, and the
    server may not have it yet (docs/direct-link.md, Files)."""

    def check(self) -> None:
        """Bound bytes where types count characters, and let the bytes be in one place."""
        for text, most in ((self.text, MAX_FILE_TEXT), (self.name, MAX_FILE_NAME)):
            if _size_of(text) > most:
                raise UsageError(f"A file's name takes {MAX_FILE_NAME} bytes, its description {MAX_FILE_TEXT:,}.")
        if (len(self.blob), len(self.key)) not in ((0, 0), (BLOB_ID_LENGTH, FILE_KEY_LENGTH)):
            raise UsageError("A file has a blob with its key, or neither.")
        if len(self.inline) != (0 if self.blob else self.size):
            raise UsageError("A file's bytes are in the message or in a blob, all of them.")
        if self.disposition == "voice" and self.size > MAX_NOTE:
            raise UsageError(f"A voice note has at most {MAX_NOTE >> 20} MiB.")
        if len(self.waveform) not in (0, WAVEFORM_LENGTH):
            raise UsageError(f"A waveform has {WAVEFORM_LENGTH} values.")

    @property
    def line(self) -> str:
        """What stands for it in the history and is searched: its name, and its description if there is one."""
        return self.name if self.text == self.name else f"{self.name}: {self.text}"


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
    Kind("file", File, line=attrgetter("line")),
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
_decode_file: Final = msgspec.msgpack.Decoder(File).decode
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


def file_of(kind: str, data: bytes) -> File | None:
    """Return the file that a body, decoded before, brings; None: it is of another kind."""
    return _decode_file(data) if kind == "file" else None


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
    if (size := _size_of(text)) > MAX_TEXT:
        raise UsageError(f"The text is {size:,} bytes long; one message takes {MAX_TEXT:,}. Send it in parts.")


def _size_of(text: str) -> int:
    """Return the bytes of a text in UTF-8. Raises `UsageError` if it is not Unicode."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise UsageError("The text has characters that are not Unicode. Remove them and send it again.") from None
