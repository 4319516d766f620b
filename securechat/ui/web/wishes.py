"""What a page may ask for beside the core's commands: what it wants to see, what was typed, and files."""

from functools import reduce
from operator import or_
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from securechat.ui.objects import MAX_INTEGER, Id
from securechat.ui.rpc.codec import INVALID_PARAMS, MAX_ID, InvalidRequestError

_Call = Annotated[int, Meta(ge=1, le=MAX_ID)]
_Number = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
_Text = Annotated[str, Meta(max_length=65_536)]
_Name = Annotated[str, Meta(max_length=255)]


class Wish(msgspec.Struct, kw_only=True):
    """`id`: how the page calls it, as in a request of `ui.rpc.codec`."""

    id: _Call


class Open(Wish):
    """A conversation, at the first line that was not seen yet, or around a line."""

    conversation: Id
    around: _Number = 0


class Older(Wish):
    """The lines before."""


class Newer(Wish):
    """The lines after."""


class Newest(Wish):
    """The end of the conversation."""


class Seen(Wish):
    """Nothing: the person has the end of the conversation before them."""


class Typing(Wish):
    """Nothing: this is what stands in the composer now."""

    text: _Text


class Typed(Wish):
    """That a line is carried out: said in the open conversation, or a command after a slash."""

    text: _Text


class Complete(Wish):
    """What the last word may become."""

    text: _Text


class Search(Wish):
    """The newest messages that fit, of those before a line."""

    text: _Text
    before: _Number = 0


class Save(Wish):
    """The file of a line, in the folder for downloads."""

    local_id: _Number


class Fetch(Wish):
    """The file of a line, to show or to play it."""

    local_id: _Number


class Unlock(Wish):
    """That the password is taken which the core waits for."""

    password: _Text

    def __repr__(self) -> str:
        """Say nothing of it."""
        return "Unlock(...)"


class Upload(Wish):
    """That a file is shared, whose bytes come in the messages that follow."""

    conversation: Id
    name: _Name
    size: _Number
    description: _Text = ""
    media_type: Annotated[str, Meta(max_length=100)] = ""
    disposition: Literal["attachment", "image", "voice"] = "attachment"


_NAMES: Final = {each.__name__.lower(): each for each in Wish.__subclasses__()}


def _request(name: str, wish: type[Wish]) -> Any:
    """Return the type of a request's line."""
    params = msgspec.defstruct(f"{name}Params", [
        (each.name, each.type) if each.required else (each.name, each.type, each.default)
        for each in msgspec.structs.fields(wish) if each.name != "id"
    ], kw_only=True, forbid_unknown_fields=True)  # fmt: skip
    outer = [("jsonrpc", Literal["2.0"]), ("params", params), ("id", _Call)]
    return msgspec.defstruct(name, outer, tag_field="method", tag=True, kw_only=True, forbid_unknown_fields=True)


_decode: Final = msgspec.json.Decoder(reduce(or_, (_request(*each) for each in _NAMES.items()))).decode


class _Method(msgspec.Struct):
    method: str = ""


_decode_method: Final = msgspec.json.Decoder(_Method).decode


def decode(line: bytes) -> Wish | None:
    """Return the wish on a line; None: it is something else. Raises `InvalidRequestError` for a wish that is none."""
    try:
        if _decode_method(line).method not in _NAMES:
            return None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    try:
        request = _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(INVALID_PARAMS, f"This line is not a request: {error}.") from None
    params = request.params
    given = {name: getattr(params, name) for name in params.__struct_fields__}
    return _NAMES[type(request).__name__](id=request.id, **given)
