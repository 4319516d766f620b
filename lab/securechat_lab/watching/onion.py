"""The onion of a message: what is around what, how many bytes each layer has, and who can look at it.

Sizes are computed from what was recorded. What is inside the encryption is known from the text, and compared with the
size of the ciphertext; where the two do not fit, as with a client whose padding was replaced, it is left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from securechat.clean import clean_line
from securechat.content.envelope import Envelope, encode
from securechat.content.registry import MAX_TEXT, Text
from securechat.errors import DecodeError
from securechat.mls.framing import WireFormat
from securechat.tlscodec import Reader, encode_varint
from securechat_lab.watching.recording import Line
from securechat_lab.watching.story import Moment

Seen = Literal["people", "server", "network"]
"""Who can look at a layer: people in the conversation; the server, too; everybody on the way, too."""

SYMBOLS: Final[dict[Seen, str]] = {"people": "☺", "server": "▣", "network": "▤"}
"""So that nobody has to tell colours apart."""

ON_THE_WAY: Final = "everybody on the way"

TAG: Final = 16
"""Bytes that AES-128-GCM adds."""

SIGNATURE: Final = 66
"""Bytes of an Ed25519 signature with the length before it."""

TIME: Final = 1 << 40
"""A time in milliseconds, in this century: they all have the same number of bytes."""


@dataclass(frozen=True)
class Part:
    """A field of a layer."""

    name: str
    size: int
    hex: str
    """Its first bytes; empty: they are not known, or not recorded."""


@dataclass(frozen=True)
class Layer:
    """One skin of the onion."""

    name: str
    size: int
    adds: str
    """What it has that the one inside has not."""
    seen: Seen
    who: str
    parts: tuple[Part, ...] = ()


def onion(moment: Moment) -> tuple[Layer, ...]:
    """Return the layers of a moment, the innermost first; nothing where nothing was sent."""
    frame = next((line for line in moment.frames if line.size or line.layer == "network"), None)
    if frame is None:
        return ()
    if frame.layer == "network":
        whole = Part("everything", frame.len, frame.hex)
        return (Layer("bytes in the clear", frame.len, "no encryption at all", "network", ON_THE_WAY, (whole,)),)
    message = moment.message or frame
    layers: list[Layer] = []
    if message.digest:
        parts = _mls_parts(bytes.fromhex(message.hex), message.len)
        private = bool(parts) and parts[0].hex.endswith(f"{WireFormat.PRIVATE_MESSAGE:04x}")
        if private:
            layers += _inside(moment, parts[-1].size)
        adds = "encrypted; group, epoch and number in front" if private else "signed, in clear: the server checks it"
        layers.append(Layer("MLS message", message.len, adds, "server", "the server", parts))
    around = message if message.size else frame
    layers.append(
        Layer("frame", around.size, f"{around.what}: what to do, and where", "server", "the server",
              (Part("length", 4, f"{max(around.size - 4, 0):08x}"), Part(around.what, max(around.size - 4, 0), "")))
    )  # fmt: skip
    records = [each for each in moment.records if (each.conn, each.way) == (around.conn, around.way)]
    carrying = [each for each in records if each.at < around.at + around.size and around.at < each.at + each.size]
    if carrying:
        layers.append(_tls(carrying, around))
    return tuple(layers)


def _tls(records: list[Line], frame: Line) -> Layer:
    size = sum(each.len for each in records)
    shared = sum(each.size for each in records) > frame.size
    many = f"{len(records)} TLS records" if len(records) > 1 else "TLS record"
    adds = "header, type and tag" + ("; other frames are in it, too" if shared else "")
    fields = (("header", 5), ("encrypted", max(records[0].len - 21, 0)), ("tag", TAG))
    return Layer(many, size, adds, "network", ON_THE_WAY, _parts(fields))


def _parts(fields: Iterable[tuple[str, int]]) -> tuple[Part, ...]:
    return tuple(Part(name, size, "") for name, size in fields)


def _inside(moment: Moment, ciphertext: int) -> list[Layer]:
    """What only people can look at."""
    said = [line for line in moment.screens if line.what in ("said", "delivered", "received")]
    *others, last = dict.fromkeys([moment.sender, *(line.to for line in said if line.text == said[0].text)])
    who = clean_line(f"{', '.join(others)} and {last}" if others else last)
    signed = ciphertext - TAG
    padded = signed - SIGNATURE
    if not said or padded < 0:
        adds = "a text or something else, with padding"
        return [Layer("signed content", max(signed, 0), adds, "people", who or "its readers")]
    length = said[0].len
    layers = [Layer("text", length, "in UTF-8", "people", who)]
    content = _content(length, moment.seq)
    zeros = padded - content - len(encode_varint(content))
    if content and zeros >= 0:
        rest = content - length
        fields = (("text", length), ("chain: the history its sender has seen", 34), ("place, time, kind", rest - 34))
        adds = "the time, and what its sender has seen"
        layers.append(Layer("content", content, adds, "people", who, _parts(fields)))
        around = (("content, with its length", padded - zeros), ("signature", SIGNATURE), ("zero bytes", zeros))
        adds = f"{zeros} zero bytes and a signature"
        layers.append(Layer("padded and signed", signed, adds, "people", who, _parts(around)))
    else:
        layers.append(Layer("content, padded and signed", signed, "more than its text tells", "people", who))
    return layers


def _content(length: int, seq: int) -> int:
    """How many bytes the content of a text has: its sender had seen what comes before it. 0: no text is as long."""
    if length > MAX_TEXT:
        return 0
    return len(encode(Envelope(max(seq - 1, 0), bytes(32), TIME, Text("x" * length))))


def _mls_parts(payload: bytes, size: int) -> tuple[Part, ...]:
    """The fields of an MLS message as everybody who carries it can read them (RFC 9420, sections 6.2 and 6.3)."""
    reader = Reader(payload)
    parts: list[Part] = []
    mark = 0

    def cut(name: str) -> None:
        nonlocal mark
        parts.append(Part(name, reader.position - mark, reader.since(mark).hex()))
        mark = reader.position

    try:
        reader.u16()
        private = reader.u16() == WireFormat.PRIVATE_MESSAGE
        cut("version, format")
        reader.vector()
        cut("group")
        reader.u64()
        cut("epoch")
        if private:
            reader.u8()
            cut("type")
            reader.vector()
            cut("number")
            reader.vector()
            cut("sender, encrypted")
            before = reader.position
            ciphertext = reader.varint()
            cut("length")
            ends = size - reader.position
            parts.append(Part("ciphertext and tag", ends, reader.opaque(min(reader.remaining, 64)).hex()))
            return tuple(parts) if ciphertext == size - before - len(encode_varint(ciphertext)) else ()
        parts.append(Part("who, what and signature", size - mark, reader.opaque(min(reader.remaining, 64)).hex()))
    except DecodeError:
        return ()
    return tuple(parts)
