"""The invite line: all that somebody needs to come in, as one line to paste (docs/design.md, section 6, Invitations).

It begins with `securechat1` and is written as `armour` says.

    struct {
        opaque address<V>;          /* HOST:PORT */
        opaque ca_pin[32];          /* SHA-256 of the CA's public key */
        opaque code<V>;             /* to register with; may be empty */
        optional<Voucher> voucher;  /* absent in a line of the operator, which vouches for nobody */
    } body;
    struct {
        opaque server_id[16];
        opaque account<V>;          /* the inviter's */
        opaque identity_key[32];
        opaque room<V>;             /* 32 bytes; empty: a line for talking alone */
        opaque title<V>;            /* the room's name, or empty */
        opaque secret[32];          /* seed of a one-time Ed25519 key */
        uint64 until;               /* milliseconds since 1970 */
    } Voucher;

Who gives out a line is known by the way on which it came: nothing in it proves that.
"""

import re
from dataclasses import field
from datetime import UTC, datetime
from typing import Final, Self

from securechat.errors import DecodeError, UsageError
from securechat.identity.armour import Armour
from securechat.identity.certificate import KEY_LENGTH
from securechat.names import normalise_account, normalise_room
from securechat.tlscodec import Reader, Struct, Writer
from securechat.value import value
from securechat.wire.limits import CONVERSATION_ID_LENGTH, MAX_ACCOUNT, MAX_ROOM, MAX_TIME, SERVER_ID_LENGTH

PREFIX: Final = "securechat1"
MAX_DAYS: Final = 14
"""Days that a line is good at most: as long as the invitation that answers it."""

MAX_ADDRESS: Final = 261
"""Bytes of `HOST:PORT`: a name of the DNS has at most 253, an address of IPv6 stands in brackets."""

MAX_CODE: Final = 64
"""Bytes of a code to register with, as in `Register`."""

MAX_BODY: Final = 1024
"""Bytes of the body: the longest one takes about 750."""

_ARMOUR: Final = Armour("invite line", PREFIX, b"securechat invite line v1")
_PIN: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ADDRESS: Final = re.compile(r"[!-~]+")
_CODE: Final = re.compile(r"[!-~]*")


@value
class Voucher(Struct):
    """What an inviter puts into a line: who they are, where it leads, and the secret that proves who has used it."""

    server_id: bytes
    account: str
    identity_key: bytes
    room: bytes
    title: str
    secret: bytes = field(repr=False)
    until: int

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one. Raises `DecodeError` or `UsageError`."""
        server_id = reader.opaque(SERVER_ID_LENGTH)
        account = _text(reader, 4 * MAX_ACCOUNT)
        identity_key = reader.opaque(KEY_LENGTH)
        room, title = reader.vector(CONVERSATION_ID_LENGTH), _text(reader, 4 * MAX_ROOM)
        voucher = cls(server_id, account, identity_key, room, title, reader.opaque(KEY_LENGTH), reader.u64())
        if normalise_account(account) != account or (title and normalise_room(title) != title):
            raise DecodeError("a name in it is not in its one spelling")
        if len(room) not in (0, CONVERSATION_ID_LENGTH) or bool(room) != bool(title) or voucher.until > MAX_TIME:
            raise DecodeError("its room or its end is none")
        return voucher

    def write(self, writer: Writer) -> None:
        """Append the encoding."""
        writer.opaque(self.server_id).vector(self.account.encode()).opaque(self.identity_key).vector(self.room)
        writer.vector(self.title.encode()).opaque(self.secret).u64(self.until)


@value
class InviteLine:
    """A line, read. Printing it shows neither its code nor its secret."""

    address: str
    pin: str  # `sha256:` and 64 hexadecimal digits
    code: str = field(default="", repr=False)
    voucher: Voucher | None = None

    def encode(self) -> str:
        """Return the line. Raises `UsageError` if the address or the code is none."""
        fits = len(self.address) <= MAX_ADDRESS and len(self.code) <= MAX_CODE
        if not (fits and _ADDRESS.fullmatch(self.address) and _CODE.fullmatch(self.code) and _PIN.fullmatch(self.pin)):
            raise UsageError("An invite line takes an address, a pin and a code as others can type them.")
        body = Writer().vector(self.address.encode()).opaque(bytes.fromhex(self.pin.removeprefix("sha256:")))
        body.vector(self.code.encode()).optional(self.voucher, lambda writer, voucher: voucher.write(writer))
        return _ARMOUR.encode(bytes(body))


def is_line(text: str) -> bool:
    """Whether a text is meant as an invite line: then it is a secret."""
    return text.strip().lower().startswith(PREFIX)


def decode(text: str, now: int) -> InviteLine:
    """Read a line; `now` in milliseconds since 1970. Spaces, line breaks, capitals are forgiven.

    Raises `UsageError`, which says what is wrong and quotes nothing; `CutOffError` if the rest may yet come.
    """
    line = _parse(_ARMOUR.decode(text))
    voucher = line.voucher
    if voucher is not None and voucher.until <= now:
        ended = datetime.fromtimestamp(voucher.until / 1000, UTC)
        raise UsageError(f"This invite line ended on {ended.day} {ended:%b %Y}. Ask {voucher.account} for a new one.")
    return line


def _parse(body: bytes) -> InviteLine:
    reader = Reader(body)
    try:
        if len(body) > MAX_BODY:
            raise DecodeError("it is too long")
        address, pin = _text(reader, MAX_ADDRESS), reader.opaque(32)
        line = InviteLine(address, f"sha256:{pin.hex()}", _text(reader, MAX_CODE), reader.optional(Voucher.read))
        reader.done()
        if not _ADDRESS.fullmatch(line.address) or not _CODE.fullmatch(line.code):
            raise DecodeError("its address or code is none")
    except (DecodeError, UsageError) as error:
        raise UsageError(f"This invite line was not made by securechat: {error}.") from None
    return line


def _text(reader: Reader, limit: int) -> str:
    try:
        return reader.vector(limit).decode()
    except UnicodeDecodeError:
        raise DecodeError("a text in it is not UTF-8") from None
