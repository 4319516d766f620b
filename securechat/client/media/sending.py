"""What is made of a file before it is sent: a preview of a picture, a voice note of a recording."""

import io
from typing import BinaryIO, NamedTuple

from securechat.client.media import pictures, voice
from securechat.client.media.child import MAX_INPUT, MediaError
from securechat.client.message import Disposition
from securechat.errors import UsageError

OGG = b"OggS"
"""How a recording begins that is a voice note already."""


class Prepared(NamedTuple):
    """What is sent in place of a file, and what is said of it: fields of `content.registry.File`."""

    source: BinaryIO
    size: int
    described: dict[str, bytes | int]


def prepare(source: BinaryIO, size: int, disposition: Disposition) -> Prepared:
    """Return what is sent of a file that wants to be shown so.

    A picture that nothing can be made of has no preview: it is sent as it is, without the extra as well. A recording is
    sent as a voice note or not at all: raises `UsageError`, with the end of a sentence. Raises OSError.
    """
    if disposition == "attachment" or (disposition == "image" and size > MAX_INPUT):
        return Prepared(source, size, {})
    data = source.read(MAX_INPUT + 1)
    if disposition == "voice":
        try:
            note = voice.Note(voice.length_of(data), b"", data) if data[:4] == OGG else voice.record(data)
        except MediaError as error:
            raise UsageError(f"{error.why}.") from error
        said: dict[str, bytes | int] = {"milliseconds": note.milliseconds, "waveform": note.waveform}
        return Prepared(io.BytesIO(note.opus), len(note.opus), said)
    source.seek(0)
    try:
        picture = pictures.describe(data)
    except (MediaError, UsageError):
        return Prepared(source, size, {})
    said = {"thumbnail": picture.thumbnail, "width": picture.width, "height": picture.height}
    return Prepared(source, size, said)
