"""Voice notes and pictures over TLS, between two real clients: as people send and hear them, without a sound card."""

import io
import queue
import re
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client.media import voice
from securechat.client.media.child import Child
from securechat.client.media.pictures import look
from securechat.client.media.worker import PICTURES
from securechat.client.message import Attached
from securechat.ui.session.chat import Chat
from securechat.ui.session.voice import Decoded
from securechat_lab.cast.live import LiveClient
from tests.support.live import LiveServer
from tests.support.sounds import RATE, correlation, energies, note, samples_of, speech, wav

pytest.importorskip("av", reason="needs the extra [voice]")
pytest.importorskip("PIL", reason="needs the extra [media]")
from PIL import Image  # after it was looked for


class Seat:
    """Somebody at the plain client: what they type, and all that their screen has shown."""

    def __init__(self, person: LiveClient) -> None:
        self.person = person
        self.shown: list[str] = []
        self._decoded: queue.SimpleQueue[Decoded] = queue.SimpleQueue()
        self._chat = Chat(person.client, self.shown.append, piped=False, later=self._decoded.put)
        self._told = 0

    def type(self, *lines: str) -> None:
        self._look()
        for line in lines:
            self._chat.line(line)

    def sees(self, pattern: str) -> None:
        """Wait for a line that matches."""
        self.person.wait_until(lambda: self._has(pattern))

    def _has(self, pattern: str) -> bool:
        self._look()
        return any(re.fullmatch(pattern, line) for line in self.shown)

    def _look(self) -> None:
        for event in self.person.happened[self._told :]:
            self._chat.event(event)
        self._told = len(self.person.happened)
        while not self._decoded.empty():
            self._chat.heard(self._decoded.get())


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[LiveClient]]:
    """Alice and bob, who talk."""
    server = LiveServer(tmp_path)
    alice, bob = (LiveClient(server, name) for name in ("alice", "bob"))
    for each in (alice, bob):
        each.wait_for(events.Ready)
    alice.answer(commands.OpenDirect("bob", "hi", ask=False))
    bob.read("alice", "alice: hi")
    bob.accept("alice")
    yield [alice, bob]
    for each in (alice, bob):
        each.close()
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def shared(person: LiveClient, name: str) -> Attached:
    """The newest file there, once there is one."""

    def found() -> list[Attached]:
        lines = person.client.history(person.id_of(name), 100)
        return [line.file for line in lines if line.file is not None]

    person.wait_until(lambda: bool(found()))
    return found()[-1]


@pytest.mark.parametrize(("repeats", "inline"), [(1, True), (12, False)], ids=["in the message", "as a blob"])
def test_a_voice_note_is_heard_as_it_was_said(
    pair: list[LiveClient], tmp_path: Path, repeats: int, *, inline: bool
) -> None:
    alice, bob = map(Seat, pair)
    said = array("h", speech(3000).tobytes() * repeats)
    (tmp_path / "hello.wav").write_bytes(wav(said))
    alice.type("/go bob", f"/voice {tmp_path / 'hello.wav'}")
    bob.sees(rf".*alice: \[voice note, 0:{3 * repeats:02}\] hello\.ogg")
    file = shared(bob.person, "alice")
    assert (file.inline, file.milliseconds, file.media_type) == (inline, 3000 * repeats, "audio/ogg")
    assert len(file.waveform) == 48
    assert max(file.waveform) == 255
    bob.type("/go alice", f"/play {tmp_path / 'heard.wav'}")
    bob.sees(rf"-- The voice note is in {re.escape(str(tmp_path))}/heard\.wav\.")
    heard = samples_of((tmp_path / "heard.wav").read_bytes())
    assert len(heard) == len(said)
    assert correlation(energies(said), energies(heard)) > 0.99


def test_a_picture_comes_with_its_preview(pair: list[LiveClient], tmp_path: Path) -> None:
    alice, bob = pair
    made = io.BytesIO()
    Image.new("RGB", (1200, 800), (200, 30, 30)).save(made, "PNG")
    (tmp_path / "sea.png").write_bytes(made.getvalue())
    sent = commands.SendFile(alice.id_of("bob"), str(tmp_path / "sea.png"), media_type="image/png", disposition="image")
    assert isinstance(alice.answer(sent), events.Done)
    file = shared(bob, "alice")
    assert (file.width, file.height, file.size) == (1200, 800, len(made.getvalue()))
    with Child(PICTURES) as child:
        shown = look(child, file.thumbnail)
    assert (shown.width, shown.height) == (320, 213)
    assert all(abs(a - b) < 16 for a, b in zip(shown.rgb[:3], (200, 30, 30), strict=True))


def test_a_picture_of_which_nothing_can_be_made_is_sent_without_a_preview(
    pair: list[LiveClient], tmp_path: Path
) -> None:
    alice, bob = pair
    (tmp_path / "sea.png").write_bytes(b"no picture" * 999)
    sent = commands.SendFile(alice.id_of("bob"), str(tmp_path / "sea.png"), media_type="image/png", disposition="image")
    assert isinstance(alice.answer(sent), events.Done)
    file = shared(bob, "alice")
    assert (file.disposition, file.thumbnail, file.width) == ("image", b"", 0)


def test_a_note_that_is_one_already_is_sent_as_it_is(pair: list[LiveClient], tmp_path: Path) -> None:
    alice, bob = pair
    opus = voice.record(wav(speech(1000))).opus
    (tmp_path / "hello.opus").write_bytes(opus)
    sent = commands.SendFile(alice.id_of("bob"), str(tmp_path / "hello.opus"), disposition="voice")
    assert isinstance(alice.answer(sent), events.Done)
    file = shared(bob, "alice")
    assert (file.size, file.milliseconds, file.waveform) == (len(opus), 1000, b"")


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"no sound" * 99, "damaged, or of a kind"), (note([b"x"], samples=3600 * RATE), "longer than 10 minutes")],
    ids=["text", "an hour"],
)
def test_what_is_no_recording_is_not_sent_as_one(
    pair: list[LiveClient], tmp_path: Path, content: bytes, why: str
) -> None:
    alice, _ = pair
    (tmp_path / "hello.wav").write_bytes(content)
    sent = commands.SendFile(alice.id_of("bob"), str(tmp_path / "hello.wav"), disposition="voice")
    answer = alice.answer(sent)
    assert isinstance(answer, events.Refused)
    assert re.fullmatch(rf"hello\.ogg was not sent: it is {why}.*\.", answer.text)
    assert not any(line.file for line in alice.client.history(alice.id_of("bob"), 100))
