"""The invite line: all that somebody needs to come in, as one line to paste (docs/design.md, section 6, Invitations).

    "securechat1" base32(uint8 version = 1; uint16 length; body; opaque checksum[4])    lower case, without padding

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

The checksum is the beginning of SHA-256 over a label and all bytes before it. It finds slips, and proves nothing: who
gives out a line is known by the way on which it came. The digit 1 is no letter of base32, so it ends the prefix.
"""

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Self

from securechat.errors import DecodeError, UsageError
from securechat.identity.certificate import KEY_LENGTH
from securechat.names import normalise_account, normalise_room
from securechat.tlscodec import Reader, Struct, Writer
from securechat.wire.limits import CONVERSATION_ID_LENGTH, MAX_ACCOUNT, MAX_ROOM, MAX_TIME, SERVER_ID_LENGTH

PREFIX: Final = "securechat1"
VERSION: Final = 1

MAX_DAYS: Final = 14
"""Days that a line is good at most: as long as the invitation that answers it."""

MAX_ADDRESS: Final = 261
"""Bytes of `HOST:PORT`: a name of the DNS has at most 253, an address of IPv6 stands in brackets."""

MAX_CODE: Final = 64
"""Bytes of a code to register with, as in `Register`."""

MAX_BODY: Final = 1024
"""Bytes of the body: the longest one takes about 750."""

MAX_TEXT: Final = 4096
"""Characters that are looked at, spaces and line breaks included: more is another file."""

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
_VALUES: Final = {letter: value for value, letter in enumerate(_LETTERS)}
_LABEL: Final = b"securechat invite line v1"
_HEAD: Final = 3
"""Bytes before the body: version and length."""
_CHECKSUM: Final = 4
_PIN: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ADDRESS: Final = re.compile(r"[!-~]+")
_CODE: Final = re.compile(r"[!-~]*")


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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
        content = bytes(body)
        data = bytes(Writer().u8(VERSION).u16(len(content)).opaque(content))
        return PREFIX + _letters(data + _checksum(data))


def is_line(text: str) -> bool:
    """Whether a text is meant as an invite line: then it is a secret."""
    return text.strip().lower().startswith(PREFIX)


class CutOffError(UsageError):
    """A line whose end is missing."""


def decode(text: str, now: int) -> InviteLine:
    """Read a line; `now` in milliseconds since 1970. Spaces, line breaks, capitals and `_MARGIN` are forgiven.

    Raises `UsageError`, which says what is wrong and quotes nothing; `CutOffError` if the rest may yet come.
    """
    if len(text) > MAX_TEXT:
        raise UsageError("This is no invite line: it is much longer than one.")
    compact = "".join(text.replace(_MARGIN, "").split()).lower()
    if not compact.startswith(PREFIX):
        if compact and PREFIX.startswith(compact):
            raise CutOffError(_CUT_OFF)
        raise UsageError(f"This is no invite line: one begins with {PREFIX}.")
    line = _parse(_body(compact.removeprefix(PREFIX)))
    voucher = line.voucher
    if voucher is not None and voucher.until <= now:
        ended = datetime.fromtimestamp(voucher.until / 1000, UTC)
        raise UsageError(f"This invite line ended on {ended.day} {ended:%b %Y}. Ask {voucher.account} for a new one.")
    return line


def _body(letters: str) -> bytes:
    """Return the body in the letters behind the prefix. Raises `UsageError`."""
    wrong = next((place for place, letter in enumerate(letters, 1) if letter not in _VALUES), 0)
    if wrong:
        raise UsageError(f"This invite line has a character that belongs to none, {wrong} after {PREFIX}. {_AGAIN}")
    data = _bytes(letters)
    if len(data) < _HEAD:
        raise CutOffError(_CUT_OFF)
    if data[0] != VERSION:
        raise UsageError("This invite line is of another version of securechat, or damaged. Update, or copy it again.")
    whole = _HEAD + int.from_bytes(data[1:_HEAD], "big") + _CHECKSUM
    expected = -(-whole * 8 // 5)
    if len(letters) < expected:
        raise CutOffError(_CUT_OFF)
    if len(letters) > expected:
        raise UsageError(f"This invite line goes on after its end. {_AGAIN}")
    if data[-_CHECKSUM:] != _checksum(data[:-_CHECKSUM]) or _letters(data) != letters:
        raise UsageError(f"A character of this invite line is wrong. {_AGAIN}")
    return data[_HEAD:-_CHECKSUM]


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


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(_LABEL + data).digest()[:_CHECKSUM]


def _letters(data: bytes) -> str:
    count = -(-len(data) * 8 // 5)
    number = int.from_bytes(data, "big") << (5 * count - 8 * len(data))
    return "".join(_LETTERS[number >> 5 * place & 31] for place in reversed(range(count)))


def _bytes(letters: str) -> bytes:
    """Return the whole bytes in the letters; bits beyond them are left to the comparison with `_letters`."""
    number = 0
    for letter in letters:
        number = number << 5 | _VALUES[letter]
    size, rest = divmod(5 * len(letters), 8)
    return (number >> rest).to_bytes(size, "big")


_AGAIN: Final = "Copy it again, from its beginning to its end."
_MARGIN: Final = "┃"
"""What our own terminal client draws before each row of a broken line but the first: it is copied with the line."""

_CUT_OFF: Final = f"This invite line is cut off. {_AGAIN}"
