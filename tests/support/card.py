"""Stands in place of PortAudio: no machine that runs tests has a sound card."""

from array import array
from types import ModuleType
from typing import Any

from securechat.client.media.worker import RATE


class Card(ModuleType):
    """A module `sounddevice`, whose one stream a test drives."""

    class PortAudioError(Exception):
        """What it raises where there is nothing to open."""

    def __init__(self, *, there: bool) -> None:
        super().__init__("sounddevice")
        self.there = there
        self.open = False
        self.callback: Any = None

    def stream(self, *, callback: Any, samplerate: int, channels: int, dtype: str) -> "Card":
        if not self.there:
            raise self.PortAudioError("Error querying device -1")
        assert (samplerate, channels, dtype) == (RATE, 1, "int16")
        self.callback = callback
        return self

    RawInputStream = RawOutputStream = stream

    def start(self) -> None:
        self.open = True

    def close(self) -> None:
        self.open = False

    def hear(self, samples: "array[int]", portion: int = 480) -> None:
        """Somebody speaks into the microphone."""
        for at in range(0, len(samples), portion):
            part = samples[at : at + portion]
            self.callback(memoryview(part.tobytes()), len(part), None, None)

    def play(self, frames: int) -> bytes:
        """The loudspeaker wants so many samples."""
        out = bytearray(b"x" * 2 * frames)
        self.callback(memoryview(out), frames, None, None)
        return bytes(out)
