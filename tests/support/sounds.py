"""Sounds and Ogg pages for tests, made without any library of codecs."""

import io
import math
import random
import struct
import wave
from array import array
from collections.abc import Iterable, Sequence

RATE = 48_000


def speech(milliseconds: int, *, rate: int = RATE) -> "array[int]":
    """Something like speech: a buzz and a hiss of changing loudness, with pauses, the same each time."""
    chance, samples, period = random.Random(17), array("h"), rate // 100
    buzz = [sum(math.sin(2 * math.pi * k * at / period) / k for k in range(1, 8)) / 1.9 for at in range(period)]
    for at in range(rate * milliseconds // 1000):
        if at % (rate // 1000) == 0:
            loud = 9000 * max(0.0, math.sin(2 * math.pi * 3.7 * at / rate) + 0.4) / 1.4
        samples.append(int(loud * (0.95 * buzz[at % period] + 0.05 * (2 * chance.random() - 1))))
    return samples


def wav(samples: "array[int]", *, rate: int = RATE, channels: int = 1) -> bytes:
    """A WAV file of 16 bits, with the same in all channels."""
    spread = array("h", bytes(2 * channels * len(samples)))
    for channel in range(channels):
        spread[channel::channels] = samples
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(spread.tobytes())
    return out.getvalue()


def samples_of(file: bytes) -> "array[int]":
    """The samples of a WAV file as `wav` makes one."""
    with wave.open(io.BytesIO(file)) as opened:
        assert opened.getparams()[:3] == (1, 2, RATE)
        return array("h", opened.readframes(opened.getnframes()))


def energies(samples: Sequence[int], *, rate: int = RATE) -> list[float]:
    """The energy of each 20 ms."""
    step = rate // 50
    return [sum(each * each for each in samples[at : at + step]) for at in range(0, len(samples) - step + 1, step)]


def correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Pearson's, of two series of one length."""
    mean, other_mean = sum(one) / len(one), sum(other) / len(other)
    pairs = [(a - mean, b - other_mean) for a, b in zip(one, other, strict=True)]
    return sum(a * b for a, b in pairs) / math.sqrt(sum(a * a for a, _ in pairs) * sum(b * b for _, b in pairs))


def opus_head(*, magic: bytes = b"OpusHead", version: int = 1, channels: int = 1, mapping: int = 0) -> bytes:
    """RFC 7845, section 5.1."""
    return struct.pack("<8sBBHIhB", magic, version, channels, 312, RATE, 0, mapping)


TAGS = b"OpusTags" + struct.pack("<I", 4) + b"test" + struct.pack("<I", 0)


def page(packets: Iterable[bytes], *, granule: int, number: int, kind: int = 0, serial: int = 7) -> bytes:
    """An Ogg page with whole packets, and the checksum that belongs there (RFC 3533, section 6)."""
    lacing, body = bytearray(), b"".join(packets := list(packets))
    for packet in packets:
        lacing += bytes([255] * (len(packet) // 255) + [len(packet) % 255])
    assert len(lacing) < 256
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, kind, granule, serial, number, 0, len(lacing)) + lacing
    return head[:22] + struct.pack("<I", _checksum(head + body)) + head[26:] + body


def note(packets: Sequence[bytes], *, samples: int, head: bytes = opus_head()) -> bytes:
    """A voice note of packets, which says of itself that it has so many samples."""
    parts = [packets[at : at + 250] for at in range(0, len(packets), 250)]
    first = page([head], granule=0, number=0, kind=2) + page([TAGS], granule=0, number=1)
    return first + b"".join(page(part, granule=312 + samples, number=2 + at) for at, part in enumerate(parts))


def note_of(size: int) -> bytes:
    """A voice note of exactly so many bytes, at least a page, which nothing decodes."""
    packets: list[bytes] = []
    while size - len(note([*packets, b""], samples=RATE)) >= 255:
        packets.append(bytes(250))
    return note([*packets, bytes(size - len(note([*packets, b""], samples=RATE)))], samples=RATE)


def packets_of(opus: bytes) -> list[bytes]:
    """The packets of a note of sound pages, without the first two."""
    found, at, rest = [], 0, b""
    while at < len(opus):
        lacing = opus[at + 27 : at + 27 + opus[at + 26]]
        at += 27 + len(lacing)
        for length in lacing:
            rest, at = rest + opus[at : at + length], at + length
            if length < 255:
                found.append(rest)
                rest = b""
    return found[2:]


_TABLE = []
for _byte in range(256):
    _value = _byte << 24
    for _ in range(8):
        _value = ((_value << 1) ^ (0x04C11DB7 if _value & 0x80000000 else 0)) & 0xFFFFFFFF
    _TABLE.append(_value)


def _checksum(data: bytes) -> int:
    value = 0
    for each in data:
        value = ((value << 8) & 0xFFFFFFFF) ^ _TABLE[(value >> 24) ^ each]
    return value


def damaged(data: bytes, seed: int) -> bytes:
    """Something in it is another byte, or it ends too early, or both; the same for each seed."""
    chance, found = random.Random(seed), bytearray(data)
    if seed % 3 == 0:
        del found[chance.randrange(1, len(found)) :]
    near = chance.choice((len(found), min(len(found), 700)))
    for _ in range(chance.choice((1, 5, 20))):
        found[chance.randrange(near)] = chance.randrange(256)
    return bytes(found)
