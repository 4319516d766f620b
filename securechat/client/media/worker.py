"""Runs in a process of its own: reads pictures and recordings, which may be made to break what reads them.

`child` starts it as a script, without a module of securechat around it. It gives up what it does not need before it
reads anything of anybody: files, connections, processes, memory without end. What it answers nobody believes.

    worker.py PACKAGES JOBS MEMORY CPU_SECONDS      PACKAGES: the folder with Pillow or PyAV; JOBS: those it will do
    <- outcome 0, length 0                          it is ready
    -> job (1 byte), length (4 bytes), data
    <- outcome (1 byte), length (4 bytes), data     outcome 0: the answer; else why there is none, without data

Integers are big-endian.
"""

import contextlib
import ctypes
import io
import os
import sys
import time
import warnings
import wave
from array import array
from collections.abc import Callable
from itertools import chain, pairwise
from typing import Any, Final

if sys.platform != "win32":
    import resource

# Outcomes:
DONE: Final = 0
UNREADABLE: Final = 1
TOO_LARGE: Final = 2
TOO_LONG: Final = 3
NO_MEMORY: Final = 4
SILENT: Final = 5
# Jobs:
PREVIEW: Final = 1
PIXELS: Final = 2
ENCODE: Final = 3
DECODE: Final = 4

PICTURES: Final = "pictures"
VOICE: Final = "voice"
"""What one process does: the first two jobs, or the other two."""

FORMATS: Final = ("JPEG", "PNG", "GIF", "WEBP")
"""Pictures that previews are made of: what cameras, screens and the web have. Each further format is more to break."""
MAX_PIXELS: Final = 64_000_000
"""Of a picture of one's own: 256 MB as it is decoded, and more than a good telephone takes."""
SIDE: Final = 320
"""Pixels of a preview's longer side."""
MAX_PREVIEW: Final = 16 << 10
"""Bytes of a preview (`content.registry.MAX_THUMBNAIL`)."""
QUALITIES: Final = (75, 60, 45, 30, 15)
"""Of JPEG, from the first that makes a preview small enough."""
_ORIENTATION: Final = 0x0112
"""The tag of Exif that says how a camera was held, and its values for a quarter turn (CIPA DC-008, section 4.6.4)."""
_TURNED: Final = (5, 6, 7, 8)

RATE: Final = 48_000
"""Samples a second: what Opus is decoded to (RFC 7845, section 5.1)."""
FRAME: Final = 960
"""Samples of 20 ms, which become one packet."""
BITS: Final = 24_000
"""A second of a voice note: speech is as clear as it gets (RFC 7587, section 3.1.1, has 16 to 20 kb/s for wideband)."""
MAX_SECONDS: Final = 600
"""Of a voice note: 1.8 MB as Opus, 57.6 MB as it is decoded."""
BARS: Final = 48
"""Values of a waveform."""
EBML: Final = b"\x1a\x45\xdf\xa3"
"""How WebM begins (RFC 8794, section 11.2.1)."""
WAV_CODECS: Final = "pcm_s16le,pcm_u8,pcm_s24le,pcm_s32le,pcm_f32le"


class NoAnswerError(Exception):
    """Why there is none: an outcome."""

    def __init__(self, outcome: int) -> None:
        super().__init__(outcome)
        self.outcome = outcome


# --- what it gives up -------------------------------------------------------------------------------------------------

_CREATE_RULESET: Final = 444  # the same number on all machines but two
_RESTRICT_SELF: Final = 446
_FILE_RIGHTS: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_PR_SET_NO_NEW_PRIVS: Final = 38


class _Ruleset(ctypes.Structure):  # linux/landlock.h, landlock_ruleset_attr
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


def landlock_version() -> int:
    """Return which version of Landlock this system has: 0 where there is none. landlock(7)."""
    if sys.platform != "linux" or os.uname().machine.startswith(("alpha", "mips")):
        return 0
    libc = ctypes.CDLL(None)
    return max(0, int(libc.syscall(ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(1))))


def forbid_files() -> None:
    """Have Linux refuse all that leads through a path, by Landlock: open, remove, rename, run. For good.

    From its third version on to empty a file as well, from its sixth on signals to other processes. A system without it
    leaves the limits below.
    """
    version = landlock_version()
    if not version:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    rules = _Ruleset(_FILE_RIGHTS[min(version, 5)], 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = ctypes.c_size_t(ctypes.sizeof(rules))
    made = libc.syscall(ctypes.c_long(_CREATE_RULESET), ctypes.byref(rules), size, ctypes.c_uint32(0))
    if made < 0 or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "Landlock")
    if libc.syscall(ctypes.c_long(_RESTRICT_SELF), ctypes.c_int(made), ctypes.c_uint32(0)):
        raise OSError(ctypes.get_errno(), "Landlock")
    os.close(made)


def limit(memory: int) -> None:
    """Open nothing any more, no connection either; start nothing; have a bound of memory."""
    if sys.platform == "win32":
        return
    limits = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
    ]
    for what, most in limits:
        with contextlib.suppress(ValueError, OSError):  # macOS has no limit of memory, and refuses it
            resource.setrlimit(what, (most, most))


def spend(cpu: int) -> None:
    """Have so many seconds of processor time from now on."""
    if sys.platform != "win32":
        limit_of_all = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + cpu, limit_of_all))


# --- pictures ---------------------------------------------------------------------------------------------------------


def _open(data: bytes, formats: tuple[str, ...], most: int) -> Any:
    """Read how large a picture is, and refuse it before anything is decoded if that is too much."""
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError:  # more than twice MAX_PIXELS
        raise NoAnswerError(TOO_LARGE) from None
    if not 0 < picture.width * picture.height <= most:
        raise NoAnswerError(TOO_LARGE)
    return picture


def preview(data: bytes) -> bytes:
    """Return width and height of a picture as it is shown (4 bytes each), and a JPEG of it in small."""
    from PIL import Image, ImageOps

    picture = _open(data, FORMATS, MAX_PIXELS)
    width, height = picture.size
    if picture.getexif().get(_ORIENTATION) in _TURNED:
        width, height = height, width
    picture.draft("RGB", (2 * SIDE, 2 * SIDE))  # a JPEG is decoded no larger than that takes
    picture.thumbnail((SIDE, SIDE))
    picture = ImageOps.exif_transpose(picture)
    if picture.mode not in ("RGB", "L"):
        clear = picture.convert("RGBA")
        picture = Image.new("RGB", clear.size, "white")
        picture.paste(clear, mask=clear.getchannel("A"))
    picture.info.clear()  # where it was taken, and by what, is not for a preview
    for quality in QUALITIES:
        small = io.BytesIO()
        picture.save(small, "JPEG", quality=quality, optimize=False)
        if small.tell() <= MAX_PREVIEW:
            return bytes(width.to_bytes(4) + height.to_bytes(4) + small.getvalue())
    raise NoAnswerError(TOO_LARGE)


def pixels(data: bytes) -> bytes:
    """Return width and height of a preview (4 bytes each), and three bytes a pixel."""
    picture = _open(data, ("JPEG",), SIDE * SIDE)
    if max(picture.size) > SIDE:
        raise NoAnswerError(TOO_LARGE)
    shown = picture.convert("RGB")
    return bytes(shown.width.to_bytes(4) + shown.height.to_bytes(4) + shown.tobytes())


# --- recordings -------------------------------------------------------------------------------------------------------


def encode(data: bytes) -> bytes:
    """Make a voice note of a WAV file, or of what browsers record: WebM with Opus.

    Return its length in ms (4 bytes), its waveform (BARS bytes), and Ogg Opus. What was Opus is not only put into
    another container: its loudness has to be heard for the waveform, and so a note is what we have encoded.
    """
    import av

    note, peaks, length = io.BytesIO(), array("H"), 0
    kind, codecs = ("matroska", "opus") if data.startswith(EBML) else ("wav", WAV_CODECS)
    with (
        av.open(io.BytesIO(data), format=kind, options={"codec_whitelist": codecs}) as source,
        av.open(note, "w", format="ogg") as target,
    ):
        out = target.add_stream("libopus", rate=RATE, options={"application": "voip"})
        out.bit_rate, out.layout, out.thread_count = BITS, "mono", 1
        into = av.AudioResampler("s16", "mono", RATE, FRAME)
        source.streams.audio[0].thread_count = 1
        if source.streams.audio[0].codec_context.name not in codecs.split(","):  # the list above binds the probe alone
            raise NoAnswerError(UNREADABLE)
        if (source.duration or 0) > MAX_SECONDS * av.time_base:  # by its own word; it is counted below
            raise NoAnswerError(TOO_LONG)
        for frame in chain(source.decode(audio=0), (None,)):
            for each in into.resample(frame):
                samples = array("h", bytes(each.planes[0])[: 2 * each.samples])
                length += each.samples
                if length > MAX_SECONDS * RATE:
                    raise NoAnswerError(TOO_LONG)
                peaks.append(max(max(samples), -min(samples)))
                target.mux(out.encode(each))
        if not length:
            raise NoAnswerError(SILENT)
        target.mux(out.encode(None))
    return (length * 1000 // RATE).to_bytes(4) + waveform(peaks) + note.getvalue()


def waveform(peaks: "array[int]") -> bytes:
    """Return the loudest of each of BARS parts, 0 to 255, where 255 is the loudest of all."""
    loudest = max(peaks) or 1
    edges = [at * len(peaks) // BARS for at in range(BARS + 1)]
    return bytes(max(peaks[start : max(end, start + 1)]) * 255 // loudest for start, end in pairwise(edges))


def decode(data: bytes) -> bytes:
    """Return the samples of a voice note: 16 bits, little-endian, one channel, RATE a second."""
    import av

    samples = bytearray()
    only = {"codec_whitelist": "opus", "format_whitelist": "ogg"}
    with av.open(io.BytesIO(data), format="ogg", options=only) as source:
        stream = source.streams.audio[0]
        stream.thread_count = 1
        into = av.AudioResampler("s16", "mono", RATE)
        for frame in chain(source.decode(stream), (None,)):
            for each in into.resample(frame):
                samples += bytes(each.planes[0])[: 2 * each.samples]
                if len(samples) > 2 * RATE * MAX_SECONDS:
                    raise NoAnswerError(TOO_LONG)
    if not samples:
        raise NoAnswerError(SILENT)
    return bytes(samples)


# --- the conversation with `child` ------------------------------------------------------------------------------------

WORK: Final[dict[int, Callable[[bytes], bytes]]] = {PREVIEW: preview, PIXELS: pixels, ENCODE: encode, DECODE: decode}


def work(job: int, data: bytes) -> tuple[int, bytes]:
    """Do a job, and return its outcome and the answer."""
    try:
        return DONE, WORK[job](data)
    except NoAnswerError as why:
        return why.outcome, b""
    except MemoryError:
        return NO_MEMORY, b""
    except Exception:  # noqa: BLE001  # what damaged files lead to in the libraries: OSError, ValueError, struct.error, ...
        return UNREADABLE, b""


def prepare(jobs: str) -> None:
    """Do each job once, on something harmless: all that the libraries load is there then. Later nothing is opened."""
    warnings.simplefilter("ignore")  # to show one opens the file of its source
    if jobs == PICTURES:
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = MAX_PIXELS
        for name in FORMATS:
            example = io.BytesIO()
            Image.new("RGB", (1, 1)).save(example, name)
            pixels(preview(example.getvalue())[8:])
    else:
        import av.logging

        av.logging.set_level(None)
        example = io.BytesIO()
        with wave.open(example, "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(bytes(2 * FRAME))
        note = encode(example.getvalue())[4 + BARS :]
        decode(note)
        encode(webm(note))


def webm(note: bytes) -> bytes:
    """Put a voice note into the container that browsers record in."""
    import av

    made = io.BytesIO()
    with av.open(io.BytesIO(note), format="ogg") as source, av.open(made, "w", format="webm") as target:
        out = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = out
                target.mux(packet)
    return made.getvalue()


def take(length: int) -> bytes:
    """Read from the other side; ends the process where that has gone."""
    got = bytearray()
    while len(got) < length:
        data = os.read(0, min(length - len(got), 1 << 20))
        if not data:
            os._exit(0)
        got += data
    return bytes(got)


def give(data: bytes) -> None:
    """Write to the other side."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest) :]


def main() -> None:
    """See the module."""
    packages, jobs, memory, cpu = sys.argv[1:5]
    sys.path.append(packages)
    prepare(jobs)
    forbid_files()
    limit(int(memory))
    give(bytes(5))
    while True:
        job, length = take(1)[0], int.from_bytes(take(4))
        spend(int(cpu))
        outcome, answer = work(job, take(length))
        give(bytes([outcome]) + len(answer).to_bytes(4) + answer)
        del answer


if __name__ == "__main__":
    main()
