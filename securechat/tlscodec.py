"""The presentation language of RFC 9420, section 2.1: a bounded reader and a writer.

One value has one encoding: lengths take their shortest form, presence octets are 0 or 1, and nothing may
follow the last field. So whatever decodes here encodes again to the same bytes, which is what signatures and
hashes over re-encoded structures rest on. Every length is compared with the bytes at hand before anything is
copied.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Self, TypeVar

from securechat.errors import DecodeError, InternalError

MAX_VECTOR = (1 << 30) - 1
"""Bytes in one variable-size vector: what a 4-byte length header can say (RFC 9420, section 2.1.2)."""

T = TypeVar("T")


class Reader:
    """Reads fields from the front of `data`. Every method raises `DecodeError` if the bytes do not fit."""

    __slots__ = ("_data", "_end", "_position")

    def __init__(self, data: bytes) -> None:
        """Start at the first byte of `data`."""
        self._data = data
        self._position = 0
        self._end = len(data)

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return self._end - self._position

    @property
    def position(self) -> int:
        """Bytes read so far: a mark for `since`."""
        return self._position

    def since(self, mark: int) -> bytes:
        """What was read after `mark`, as it stood there.

        A structure that will be signed or hashed keeps this instead of encoding itself again: it is the same.
        """
        return self._data[mark : self._position]

    def opaque(self, length: int) -> bytes:
        """Exactly `length` bytes: `opaque name[length]`."""
        start = self._position
        if length > self._end - start:
            raise DecodeError(f"message is cut short: {length} bytes expected, {self._end - start} left")
        self._position = start + length
        return self._data[start : self._position]

    def u8(self) -> int:
        """A `uint8`."""
        start = self._position
        if start == self._end:
            raise DecodeError("message is cut short: 1 byte expected, 0 left")
        self._position = start + 1
        return self._data[start]

    def u16(self) -> int:
        """A big-endian `uint16`."""
        return int.from_bytes(self.opaque(2), "big")

    def u32(self) -> int:
        """A big-endian `uint32`."""
        return int.from_bytes(self.opaque(4), "big")

    def u64(self) -> int:
        """A big-endian `uint64`."""
        return int.from_bytes(self.opaque(8), "big")

    def varint(self) -> int:
        """A vector's length header of 1, 2 or 4 bytes, in its shortest form (section 2.1.2)."""
        first = self.u8()
        if first < 1 << 6:
            return first
        prefix = first >> 6
        if prefix == 3:
            raise DecodeError("a length starts with the reserved bits 11")
        size = 1 << prefix
        value = (first & 0x3F) << 8 * (size - 1) | int.from_bytes(self.opaque(size - 1), "big")
        if value < 1 << (8 * (size // 2) - 2):
            raise DecodeError("a length is not in its shortest form")
        return value

    def vector(self, limit: int = MAX_VECTOR) -> bytes:
        """`opaque name<V>` of at most `limit` bytes."""
        length = self.varint()
        if length > limit:
            raise DecodeError(f"a field is {length} bytes long; at most {limit} are allowed")
        return self.opaque(length)

    def items(
        self, read: Callable[["Reader"], T], limit: int = MAX_VECTOR, *, most: int = MAX_VECTOR
    ) -> tuple[T, ...]:
        """`T name<V>`: elements read by `read` until the vector, at most `limit` bytes long, is used up.

        `most`: the number of elements allowed. An object takes fifty times the memory of an empty element's bytes.
        """
        inner = Reader(self.vector(limit))
        found: list[T] = []
        before, end = 0, inner.remaining
        while before < end:
            if len(found) == most:
                raise DecodeError(f"a vector has more than {most} elements")
            found.append(read(inner))
            if inner.position == before:
                raise InternalError("an element of a vector takes no bytes")
            before = inner.position
        return tuple(found)

    def boolean(self) -> bool:
        """An octet of 0 or 1, like the presence octet of `optional<T>` (section 2.1.1)."""
        octet = self.u8()
        if octet > 1:
            raise DecodeError(f"a presence octet is {octet}; only 0 and 1 are allowed")
        return octet == 1

    def optional(self, read: Callable[["Reader"], T]) -> T | None:
        """`optional<T>`: a presence octet, then perhaps the value (section 2.1.1)."""
        return read(self) if self.boolean() else None

    def done(self) -> None:
        """Call this last: raise `DecodeError` if bytes are left over."""
        if self.remaining:
            raise DecodeError(f"{self.remaining} bytes follow the end of the message")


def encode_varint(value: int) -> bytes:
    """A vector's length header of 1, 2 or 4 bytes, in its shortest form (section 2.1.2)."""
    if value < 1 << 6:
        return value.to_bytes(1, "big")
    if value < 1 << 14:
        return (value | 1 << 14).to_bytes(2, "big")
    if value > MAX_VECTOR:
        raise OverflowError(f"a vector of {value} bytes cannot be encoded")
    return (value | 2 << 30).to_bytes(4, "big")


def encode_vector(value: bytes) -> bytes:
    """`opaque name<V>` by itself: the length, then the bytes."""
    return encode_varint(len(value)) + value


class Writer:
    """Collects fields; `bytes(writer)` is the encoding so far. Methods return the writer, to be chained.

    Values outside their field's range raise `OverflowError`: they are bugs of the caller.
    """

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        """Start empty."""
        self._parts: list[bytes] = []

    def __bytes__(self) -> bytes:
        """Everything written so far."""
        return b"".join(self._parts)

    def opaque(self, value: bytes) -> Self:
        """The bytes as they are, with no length: `opaque name[n]`."""
        self._parts.append(value)
        return self

    def u8(self, value: int) -> Self:
        """A `uint8`."""
        self._parts.append(value.to_bytes(1, "big"))
        return self

    def u16(self, value: int) -> Self:
        """A big-endian `uint16`."""
        self._parts.append(value.to_bytes(2, "big"))
        return self

    def u32(self, value: int) -> Self:
        """A big-endian `uint32`."""
        return self.opaque(value.to_bytes(4, "big"))

    def u64(self, value: int) -> Self:
        """A big-endian `uint64`."""
        return self.opaque(value.to_bytes(8, "big"))

    def varint(self, value: int) -> Self:
        """A vector's length header in its shortest form."""
        self._parts.append(encode_varint(value))
        return self

    def vector(self, value: bytes) -> Self:
        """`opaque name<V>`: the length, then the bytes."""
        self._parts.append(encode_varint(len(value)))
        self._parts.append(value)
        return self

    def items(self, values: Iterable[T], write: Callable[["Writer", T], object]) -> Self:
        """`T name<V>`: `write(writer, value)` is called for each element."""
        inner = Writer()
        for value in values:
            write(inner, value)
        return self.vector(bytes(inner))

    def structs(self, values: Iterable["Struct"]) -> Self:
        """`T name<V>` for elements that know how to write themselves."""
        return self.vector(b"".join(value.encode() for value in values))

    def optional(self, value: T | None, write: Callable[["Writer", T], object]) -> Self:
        """`optional<T>`: 0, or 1 and then what `write(writer, value)` writes."""
        if value is None:
            return self.u8(0)
        write(self.u8(1), value)
        return self


class Struct(ABC):
    """A structure with one encoding. Subclasses say how to `read` and `write` their fields in order."""

    @classmethod
    @abstractmethod
    def read(cls, reader: Reader) -> Self:
        """Read the fields from `reader`, leaving what follows them. Raises `DecodeError`."""

    @abstractmethod
    def write(self, writer: Writer) -> None:
        """Append the fields to `writer`."""

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read `data`, all of it. Raises `DecodeError`."""
        reader = Reader(data)
        value = cls.read(reader)
        reader.done()
        return value

    def encode(self) -> bytes:
        """Return the encoding."""
        writer = Writer()
        self.write(writer)
        return bytes(writer)


_Kept = TypeVar("_Kept", bound=Struct)


def keep(value: _Kept, **encodings: bytes) -> _Kept:
    """Give a structure that was just read the encodings that its `cached_property`s would compute; return it.

    What `Reader.since` gives is what they would: there is one encoding of a value.
    """
    vars(value).update(encodings)
    return value
