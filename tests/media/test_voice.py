"""Voice notes: from a WAV file and back, and what a stranger's can do."""

import io
import struct
import wave
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from securechat.client.media.child import Child, MediaError
from securechat.client.media.voice import Note, length_of, play_into, record, samples_of
from securechat.client.media.worker import BARS, MAX_SECONDS, VOICE, webm
from securechat.content.registry import MAX_NOTE
from tests.support.sounds import RATE, correlation, damaged, energies, note, packets_of, speech, wav
from tests.support.sounds import samples_of as samples_in

pytest.importorskip("av", reason="needs the extra [voice]")
import av  # after it was looked for

SPEECH = speech(3000)


@pytest.fixture(scope="module")
def recorded() -> Note:
    return record(wav(SPEECH))


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    with Child(VOICE) as child:
        yield child


def test_a_note_sounds_as_it_was_said(recorded: Note) -> None:
    heard = samples_in(play_into(recorded.opus))
    assert len(heard) == len(SPEECH)
    assert correlation(energies(SPEECH), energies(heard)) > 0.99
    assert correlation(energies(SPEECH), energies(samples_in(play_into(record(wav(speech(3000)[::-1])).opus)))) < 0.5


def test_it_takes_24_kilobits_a_second(recorded: Note) -> None:
    assert 3 * 1500 < len(recorded.opus) < 3 * 4500
    assert recorded.milliseconds == 3000
    with av.open(io.BytesIO(recorded.opus)) as opened:
        stream = opened.streams.audio[0]
        assert (stream.codec_context.name, stream.channels, stream.rate) == ("opus", 1, RATE)


def test_a_waveform_shows_where_somebody_speaks() -> None:
    samples = speech(4800)
    samples[: 24 * 4800] = array("h", bytes(2 * 24 * 4800))
    found = record(wav(samples)).waveform
    assert len(found) == BARS
    assert set(found[:24]) == {0}
    assert max(found[24:]) == 255
    assert set(record(wav(array("h", bytes(2 * RATE)))).waveform) == {0}
    assert len(record(wav(speech(20))).waveform) == BARS


def float_wav(samples: "array[int]") -> bytes:
    data = array("f", (each / 32768 for each in samples)).tobytes()
    fmt = struct.pack("<HHIIHH", 3, 1, RATE, 4 * RATE, 4, 32)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def wide_wav(samples: "array[int]") -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 3, RATE, 0, "NONE", ""))
        file.writeframes(b"".join(struct.pack("<i", each << 8)[:3] for each in samples))
    return out.getvalue()


@pytest.mark.parametrize(
    ("file", "rate"),
    [
        (wav(speech(2000, rate=8000), rate=8000), 8000),
        (wav(speech(2000, rate=44_100), rate=44_100, channels=2), 44_100),
        (wav(speech(2000), channels=6), RATE),
        (wide_wav(speech(2000)), RATE),
        (float_wav(speech(2000)), RATE),
    ],
    ids=["telephone", "stereo", "six channels", "24 bits", "floating"],
)
def test_a_wav_file_of_any_kind_becomes_a_note(file: bytes, rate: int) -> None:
    heard = samples_in(play_into(record(file).opus))
    assert abs(len(heard) - 2 * RATE) <= 960
    said, back = energies(speech(2000, rate=rate), rate=rate), energies(heard)
    shared = min(len(said), len(back))
    assert correlation(said[:shared], back[:shared]) > 0.99


def of(codec: str, container: str, *, layout: str = "mono", streams: int = 1, **options: str) -> bytes:
    """A second of noise, as another program would have it."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as target:
        made = [target.add_stream(codec, rate=RATE, options=options) for _ in range(streams)]
        for each in made:
            each.layout = layout
        for each in made:
            frame = av.AudioFrame(format=each.format.name, layout=layout, samples=960)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.sample_rate = RATE
            target.mux(each.encode(frame))
            target.mux(each.encode(None))
    return out.getvalue()


def test_what_a_browser_records_becomes_a_note(recorded: Note) -> None:
    made = record(webm(recorded.opus))
    assert made.opus.startswith(b"OggS")
    assert made.opus != recorded.opus  # it was heard, and not only put into another container
    assert abs(made.milliseconds - recorded.milliseconds) <= 20
    before, after = (energies(samples_in(play_into(each.opus))) for each in (recorded, made))
    shared = min(len(before), len(after))
    assert correlation(before[:shared], after[:shared]) > 0.98


def test_nothing_else_in_that_container_does() -> None:
    for codec in ("flac", "pcm_s16le"):
        with pytest.raises(MediaError, match="damaged"):
            record(of(codec, "matroska"))
    with pytest.raises(MediaError, match="damaged|no sound"):
        record(webm(record(wav(speech(300))).opus)[:60])


OTHERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "stereo": (lambda: of("libopus", "ogg", layout="stereo"), "more than one channel"),
    "six channels": (lambda: of("libopus", "ogg", layout="5.1"), "more than one channel|not Opus"),
    "two streams": (lambda: of("libopus", "ogg", streams=2), "more than one stream"),
    "FLAC": (lambda: of("flac", "ogg", strict="experimental"), "not Opus"),
    "Opus in Matroska": (lambda: of("libopus", "matroska"), "no series of Ogg pages"),
    "a WAV file": (lambda: wav(speech(100)), "no series of Ogg pages"),
    "a playlist": (lambda: b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n", "no series"),
    "nothing": (lambda: b"", "nothing in the recording"),
    "too large": (lambda: bytes(MAX_NOTE + 1), "larger than 8 MiB"),
    "ten hours by its word": (lambda: note([b"\xf8\xff\xfe"], samples=36_000 * RATE), "longer than 10 minutes"),
    "garbage for packets": (lambda: note([b"\xff" * 200] * 50, samples=960 * 50), "damaged|no sound"),
    "empty packets": (lambda: note([b""] * 50, samples=960 * 50), "damaged|no sound"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_voice_note_is_one_sentence(name: str, child: Child, recorded: Note) -> None:
    make, why = OTHERS[name]
    with pytest.raises(MediaError, match=rf"^The recording cannot be used: .*({why}).*\.$"):
        samples_of(child, make())
    assert samples_of(child, recorded.opus)  # the next one is played


def test_a_note_that_grows_is_given_up_at_ten_minutes(child: Child) -> None:
    silence = b"\x1b\x02"  # code 3: two frames of 60 ms without a byte in them (RFC 6716, section 3.2.5)
    bomb = note([silence] * 6000, samples=960)
    assert len(bomb) < 32 << 10
    assert length_of(bomb) == 20
    with pytest.raises(MediaError, match="longer than 10 minutes"):
        samples_of(child, bomb)
    assert len(samples_of(child, note([silence] * 50, samples=RATE))) <= 2 * 50 * 5760


def test_a_recording_of_our_own_that_is_too_long_or_empty_is_one_sentence() -> None:
    long = wav(array("h", bytes(2 * 8000 * (MAX_SECONDS + 1))), rate=8000)
    with pytest.raises(MediaError, match="longer than 10 minutes"):
        record(long)
    lying = long[:40] + struct.pack("<I", 16_000) + long[44:]  # it says that it is short
    assert record(lying).milliseconds == 1000
    with pytest.raises(MediaError, match="no sound in it|damaged"):
        record(wav(array("h")))
    for other in (b"", b"RIFF", of("libopus", "ogg"), wav(SPEECH)[:20]):
        with pytest.raises(MediaError, match="damaged|no sound"):
            record(other)


def test_a_thousand_damaged_notes_are_sounds_or_one_sentence_each(child: Child) -> None:
    whole = record(wav(speech(400))).opus
    packets = packets_of(whole)
    played = 0
    for seed in range(1000):
        if seed % 2:
            opus = damaged(whole, seed)
        else:  # with sums that are right, so that what is damaged gets to the codec
            harmed = [damaged(each, seed + at) if at % 4 == seed % 4 else each for at, each in enumerate(packets)]
            opus = note(harmed, samples=400 * RATE // 1000)
        with suppress(MediaError):
            assert len(samples_of(child, opus)) <= 2 * RATE * MAX_SECONDS
            played += 1
    assert 200 < played < 950
    assert child._process.poll() is None  # none of them has broken what reads them


def test_what_a_process_that_was_taken_over_answers_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, child: Child, recorded: Note
) -> None:
    for answer in (b"", b"abc"):
        monkeypatch.setattr(Child, "ask", lambda *_, answer=answer: answer)
        with pytest.raises(MediaError):
            samples_of(child, recorded.opus)
    length, good = (3000).to_bytes(4), bytes(BARS) + recorded.opus
    for answer in (b"", length, length + bytes(BARS), (2999).to_bytes(4) + good, length + good[:-1]):
        monkeypatch.setattr(Child, "ask", lambda *_, answer=answer: answer)
        with pytest.raises(MediaError):
            record(b"")
    monkeypatch.setattr(Child, "ask", lambda *_: length + good)
    assert record(b"") == Note(3000, bytes(BARS), recorded.opus)
