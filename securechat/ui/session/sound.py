"""The microphone and the loudspeaker of this computer, where it has them: PortAudio, by the extra `voice`.

PortAudio has threads of its own, which call us for each few milliseconds of sound.
"""

from typing import Any, Final

from securechat.client.media.voice import wav_of
from securechat.client.media.worker import MAX_SECONDS, RATE
from securechat.errors import UsageError

_BYTES: Final = 2  # of a sample
_AS: Final = {"samplerate": RATE, "channels": 1, "dtype": "int16"}


class Microphone:
    """Records from its making on until `stop`, ten minutes at most: what comes later is not kept."""

    def __init__(self) -> None:
        """Raise `UsageError` where there is none."""
        self._samples = bytearray()
        self._stream = _opened("RawInputStream", "microphone: /voice FILE.wav sends a recording", self._take)

    def _take(self, data: Any, _frames: int, _time: object, _status: object) -> None:
        room = MAX_SECONDS * RATE * _BYTES - len(self._samples)
        self._samples += bytes(data)[:room]

    def stop(self) -> bytes:
        """End it, and return a WAV file of what was recorded."""
        self._stream.close()
        return wav_of(bytes(self._samples))


class Loudspeaker:
    """Plays samples (`client.media.voice`) from its making on until they end, or until `stop`."""

    def __init__(self, samples: bytes) -> None:
        """Raise `UsageError` where there is none."""
        self._rest = memoryview(samples)
        self._stream = _opened("RawOutputStream", "loudspeaker: /play N FILE.wav writes it to a file", self._give)

    def _give(self, out: Any, frames: int, _time: object, _status: object) -> None:
        part, self._rest = self._rest[: frames * _BYTES], self._rest[frames * _BYTES :]
        out[:] = bytes(part).ljust(len(out), b"\0")

    @property
    def plays(self) -> bool:
        """Whether it has not come to the end."""
        return bool(self._rest)

    def stop(self) -> None:
        """End it."""
        self._stream.close()


def _opened(kind: str, what: str, callback: Any) -> Any:
    try:
        import sounddevice
    except ImportError:
        raise UsageError("Voice notes need the extra [voice]: pip install 'securechat[voice]'") from None
    except OSError:  # it finds no PortAudio; only its wheels for macOS and Windows bring one
        raise UsageError(f"There is no PortAudio here (on Debian: libportaudio2), so no {what}.") from None
    except Exception:  # noqa: BLE001  # PortAudio finds no sound system: an error of the module that is not there now
        raise UsageError(f"There is no {what}.") from None
    try:
        stream = getattr(sounddevice, kind)(callback=callback, **_AS)
        stream.start()
    except sounddevice.PortAudioError:
        raise UsageError(f"There is no {what}.") from None
    return stream
