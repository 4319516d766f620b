"""`/voice` and `/play`: recordings from a microphone or a file, and notes to a loudspeaker or a file."""

import queue
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from securechat.client import commands
from securechat.client.events import Done, Ended, Event, FileSaved, Refused, Said
from securechat.client.media.voice import record
from securechat.client.message import Attached
from securechat.ui.exit_codes import ExitCode
from securechat.ui.session.chat import Chat
from securechat.ui.session.voice import RECORDED, Decoded
from tests.support.card import Card
from tests.support.scripted import ScriptedClient, conversation, message
from tests.support.sounds import correlation, energies, samples_of, speech, wav

pytest.importorskip("av", reason="needs the extra [voice]")

BOB = conversation("bob")
SPEECH = speech(1000)
PATIENCE = 60.0


class Seat:
    """Somebody at the plain client, with a scripted core."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.pending: list[Event] = []
        self.decoded: queue.SimpleQueue[Decoded] = queue.SimpleQueue()
        self.client = ScriptedClient(self.pending.append)
        self.client.add(BOB)
        self.chat = Chat(self.client, self.lines.append, piped=True, later=self.decoded.put)
        self.client.start()
        self.settle()
        self.type("/go bob")
        self.lines.clear()
        self.client.calls.clear()
        self.client.online = False  # what is asked for is answered when a test says so

    def settle(self) -> None:
        while self.pending:
            self.chat.event(self.pending.pop(0))

    def type(self, line: str) -> str:
        self.chat.line(line)
        self.settle()
        return self.taken()

    def tell(self, event: Event) -> str:
        self.pending.append(event)
        self.settle()
        return self.taken()

    def taken(self) -> str:
        shown = "\n".join(self.lines)
        self.lines.clear()
        return shown

    def receive(self, *, milliseconds: int = 1000, disposition: str = "voice") -> None:
        """A voice note comes."""
        file = Attached("x.ogg", "", "audio/ogg", disposition, 9, b"", inline=True, milliseconds=milliseconds)  # type: ignore[arg-type]  # test data
        self.client.receive(BOB, "bob", "", kind="file", file=file)
        self.settle()
        self.taken()

    def saved(self, content: bytes) -> tuple[commands.SaveFile, str]:
        """The core saves what it was asked for."""
        (command,) = [each for each in self.client.calls if isinstance(each, commands.SaveFile)]
        path = Path(command.folder) / "x.ogg"
        path.write_bytes(content)
        self.pending.append(FileSaved(command.local_id, "x.ogg", str(path), command=command.id))
        return command, self.tell(Done(command=command.id))

    def hear(self) -> str:
        """Wait for what was decoded."""
        before = self.chat.idle
        self.chat.heard(self.decoded.get(timeout=PATIENCE))
        assert (before, self.chat.idle) == (False, True)
        return self.taken()

    def sent(self) -> commands.SendFile:
        (command,) = [each for each in self.client.calls if isinstance(each, commands.SendFile)]
        return command


@pytest.fixture
def seat() -> Iterator[Seat]:
    seat = Seat()
    yield seat
    seat.tell(Ended(None))


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    card = Card(there=True)
    monkeypatch.setitem(sys.modules, "sounddevice", card)
    return card


@pytest.fixture(scope="module")
def note() -> bytes:
    return record(wav(SPEECH)).opus


def test_a_recording_is_sent_from_a_file(seat: Seat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seat.type("/voice hello there.wav")
    assert seat.sent() == commands.SendFile(BOB.id, str(tmp_path / "hello there.wav"), disposition="voice")


def test_what_the_microphone_hears_is_sent_and_does_not_stay(seat: Seat, card: Card) -> None:
    assert "The microphone is on" in seat.type("/voice")
    card.hear(SPEECH)
    assert not seat.client.calls
    seat.type("/voice")
    command = seat.sent()
    path = Path(command.path)
    assert (command.disposition, path.name) == ("voice", RECORDED)
    assert not card.open
    assert path.parent.stat().st_mode & 0o077 == 0
    assert samples_of(path.read_bytes()) == SPEECH
    seat.tell(Said(message(BOB, "alice", ""), command=command.id))
    assert not path.parent.exists()


def test_a_recording_that_is_not_sent_does_not_stay_either(seat: Seat, card: Card) -> None:
    seat.type("/voice")
    card.hear(SPEECH)
    seat.type("/voice")
    path = Path(seat.sent().path)
    assert path.exists()
    seat.tell(Refused("local", "There is no room.", command=seat.sent().id))
    assert not path.parent.exists()


def test_a_recording_is_dropped(seat: Seat, card: Card) -> None:
    assert "Nothing is recorded" in seat.type("/voice cancel")
    seat.type("/voice")
    assert "dropped" in seat.type("/voice cancel")
    assert not card.open
    assert not seat.client.calls


def test_the_end_turns_the_microphone_off_and_leaves_nothing(seat: Seat, card: Card) -> None:
    seat.receive()
    seat.type("/play")
    (command,) = [each for each in seat.client.calls if isinstance(each, commands.SaveFile)]
    seat.type("/voice")
    assert Path(command.folder).exists()
    seat.tell(Ended(None))
    assert not card.open
    assert not Path(command.folder).exists()


def test_the_newest_note_is_written_to_a_file(seat: Seat, tmp_path: Path, note: bytes) -> None:
    seat.receive()
    target = tmp_path / "heard.WAV"
    seat.type(f"/play {target}")
    command, shown = seat.saved(note)
    assert not shown  # that it was saved, and where, is nobody's business
    assert seat.hear() == f"-- The voice note is in {target}."
    heard = samples_of(target.read_bytes())
    assert correlation(energies(SPEECH), energies(heard)) > 0.99
    assert not Path(command.folder).exists()


def test_a_note_is_played_until_its_end_or_until_it_is_stopped(seat: Seat, card: Card, note: bytes) -> None:
    seat.receive()
    seat.type("/history")
    seat.type("/play 1")
    seat.saved(note)
    assert "is played" in seat.hear()
    assert len(card.play(480)) == 960
    assert (card.open, seat.type("/play stop"), card.open) == (True, "", False)  # from left to right
    assert not seat.type("/play stop")


def test_without_a_loudspeaker_a_file_is_named(seat: Seat, note: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", Card(there=False))
    seat.receive()
    seat.type("/play")
    seat.saved(note)
    assert seat.hear() == "!! There is no loudspeaker: /play N FILE.wav writes it to a file."
    assert "There is no microphone: /voice FILE.wav" in seat.type("/voice")


@pytest.mark.parametrize("content", [b"", b"RIFF", b"OggS" * 9], ids=["nothing", "another kind", "damaged"])
def test_a_hostile_note_is_one_sentence_and_leaves_no_file(seat: Seat, tmp_path: Path, content: bytes) -> None:
    seat.receive()
    seat.type(f"/play {tmp_path / 'x.wav'}")
    command, _ = seat.saved(content)
    assert seat.hear().startswith("!! The recording cannot be used: ")
    assert not Path(command.folder).exists()
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_replaced(seat: Seat, tmp_path: Path, note: bytes) -> None:
    target = tmp_path / "x.wav"
    seat.receive()
    seat.type(f"/play {target}")
    target.write_bytes(b"mine")  # it comes meanwhile
    seat.saved(note)
    assert seat.hear() == f"!! The voice note cannot be written to {target}: File exists."
    assert "name of a new file" in seat.type(f"/play {target}")
    assert target.read_bytes() == b"mine"


def test_a_note_that_does_not_come_is_not_played(seat: Seat) -> None:
    seat.receive()
    seat.type("/play")
    (command,) = [each for each in seat.client.calls if isinstance(each, commands.SaveFile)]
    seat.tell(Refused("gone", "The server does not have it any more.", command=command.id))
    assert not Path(command.folder).exists()
    assert seat.chat.idle
    assert seat.chat._failure != ExitCode.OK


@pytest.mark.parametrize(
    ("line", "hint"),
    [("/play", "no voice note among the newest"), ("/play 7", "There is no message 7"),
     ("/play 1", "Message 1 is no voice note"), ("/play x.mp3", "FILE.wav"), ("/play 1 x", "FILE.wav")],
)  # fmt: skip
def test_what_makes_no_sense_says_what_to_type(seat: Seat, line: str, hint: str) -> None:
    seat.receive(disposition="image")
    seat.type("/history")
    assert hint in seat.type(line)
    assert not seat.client.calls


def test_without_the_extra_it_is_named(seat: Seat, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # noqa: ARG005  # as it is called
    seat.receive()
    for line in ("/play", "/voice"):
        assert "need the extra [voice]: pip install 'securechat[voice]'" in seat.type(line)
    assert not seat.client.calls
