"""Voice notes: speech as Ogg Opus (RFC 7845), from a WAV file and back into one. No sound card is needed.

Opus at 24 kb/s: twenty seconds fit into a message (`content.registry.MAX_INLINE`), ten minutes are 1.8 MB.
"""

import io
import wave

from securechat.client.media import ogg
from securechat.client.media.child import NO_ANSWER, Child, MediaError
from securechat.client.media.worker import BARS, DECODE, ENCODE, MAX_SECONDS, RATE, VOICE
from securechat.content.registry import MAX_NOTE
from securechat.errors import DecodeError
from securechat.value import value


@value
class Note:
    """A voice note of ours, and what is sent beside it."""

    milliseconds: int
    waveform: bytes  # the loudest of each of 48 parts, 0 to 255
    opus: bytes  # an Ogg file


def record(wav: bytes) -> Note:
    """Make a voice note of a WAV file: PCM of any rate, depth and number of channels.

    Raises `MediaError`, and `UsageError` without the extra.
    """
    with Child(VOICE) as child:
        answer = child.ask(ENCODE, wav, 4 + BARS + MAX_NOTE)
    note = Note(int.from_bytes(answer[:4]), answer[4 : 4 + BARS], answer[4 + BARS :])
    if length_of(note.opus) != note.milliseconds:
        raise MediaError("recording", NO_ANSWER)
    return note


def length_of(opus: bytes) -> int:
    """Return the length of a voice note in milliseconds. Nothing is decoded. Raises `MediaError`."""
    if len(opus) > MAX_NOTE:
        raise MediaError("recording", f"it is larger than {MAX_NOTE >> 20} MiB")
    try:
        samples = ogg.length_of(opus)
    except DecodeError as error:
        raise MediaError("recording", str(error)) from error
    if samples > MAX_SECONDS * RATE:
        raise MediaError("recording", f"it is longer than {MAX_SECONDS // 60} minutes")
    return samples * 1000 // RATE


def samples_of(child: Child, opus: bytes) -> bytes:
    """Return the samples of somebody's voice note, by a process for `VOICE`: 16 bits, little-endian, 48,000 a second.

    Raises `MediaError`.
    """
    length_of(opus)  # nothing else gets to the process
    samples = child.ask(DECODE, opus, 2 * MAX_SECONDS * RATE)
    if not samples or len(samples) % 2:
        raise MediaError("recording", NO_ANSWER)
    return samples


def play_into(opus: bytes) -> bytes:
    """Return somebody's voice note as a WAV file. Raises `MediaError`, and `UsageError` without the extra."""
    return wav_of(samples_in(opus))


def samples_in(opus: bytes) -> bytes:
    """Return the samples of somebody's voice note. Raises `MediaError`, and `UsageError` without the extra."""
    with Child(VOICE) as child:
        return samples_of(child, opus)


def wav_of(samples: bytes) -> bytes:
    """Return a WAV file of samples."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(samples)
    return out.getvalue()
