"""What people type about voice notes: `/voice` and `/play`, with a microphone and a loudspeaker or with WAV files.

    /voice              records until /voice is typed once more, which sends it; /voice cancel drops it
    /voice FILE.wav     sends a recording
    /play [N]           plays the newest voice note here, or what /history showed as N; /play stop
    /play [N] FILE.wav  writes it to a file instead; what is there is not replaced

What is played was made by somebody else: a process of its own decodes it (`client.media`), on a thread, so that nobody
waits. Meanwhile a note lies in a folder for temporary files that nobody else can read; so does what was recorded, until
it is said.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from securechat.client.commands import Command, SaveFile, SendFile
from securechat.client.events import Done, Ended, Event, FileSaved, Refused, Said
from securechat.client.message import Message
from securechat.client.snapshot import ConversationSnapshot
from securechat.errors import SecurechatError, StorageError, UsageError
from securechat.ui.session.about import LOOK_BACK, Numbers, split_number
from securechat.ui.session.place import Place
from securechat.ui.sharing import sharing
from securechat.ui.view.lines import notice

if TYPE_CHECKING:  # the core brings the database and all of MLS with it; what sound takes is loaded when it is wanted
    from securechat.client.core import ChatClient
    from securechat.ui.session.sound import Loudspeaker, Microphone

RECORDED: Final = "voice note.wav"
"""What a recording from the microphone is called."""


class Decoded(NamedTuple):
    """What has come of a voice note that was to be played."""

    samples: bytes = b""
    written: Path | None = None  # where; None: it is to be heard
    error: SecurechatError | None = None


class Voices:
    """What is recorded and played in one session. Call from its thread."""

    def __init__(self, later: Callable[[Decoded], None]) -> None:
        """`later`: brings what a thread has decoded to the session's thread, which hands it to `heard`."""
        self._later = later
        self._microphone: Microphone | None = None
        self._loudspeaker: Loudspeaker | None = None
        self._recorded: dict[int, Path] = {}  # folders of recordings, by the command that sends one
        self._fetching: dict[int, tuple[Path, Path | None]] = {}  # folder and target, by the command that saves a note
        self._decoding: list[Path] = []  # folders

    @property
    def busy(self) -> bool:
        """Whether something is decoded that will be heard or written."""
        return bool(self._decoding)

    @property
    def records(self) -> bool:
        """Whether the microphone is on."""
        return self._microphone is not None

    def record(self) -> None:
        """Turn the microphone on. Raises `UsageError` where there is none."""
        from securechat.client.media.child import check_installed
        from securechat.client.media.worker import VOICE
        from securechat.ui.session.sound import Microphone

        check_installed(VOICE)
        self._microphone = Microphone()

    def recorded(self) -> bytes:
        """Turn it off. Return a WAV file; empty: it was not on."""
        microphone, self._microphone = self._microphone, None
        return b"" if microphone is None else microphone.stop()

    def keep(self, command: SendFile, folder: Path) -> None:
        """Keep the folder of a recording until it is said."""
        self._recorded[command.id] = folder

    def fetch(self, command: SaveFile, target: Path | None) -> None:
        """Play, or write, what a command saves."""
        self._fetching[command.id] = Path(command.folder), target

    def takes(self, event: Event) -> bool:
        """See what an event means for what is recorded and played. Return whether nothing more is to be said of it."""
        match event:
            case FileSaved(path=path, command=command) if command in self._fetching:
                folder, target = self._fetching.pop(command)
                self._decoding.append(folder)
                Thread(target=self._decode, args=(Path(path), folder, target), name="voice", daemon=True).start()
                return True
            case Said() | Done() | Refused():
                _remove(self._recorded.pop(event.command, None))
                _remove(self._fetching.pop(event.command, (None,))[0])
            case Ended():
                self.recorded()
                self.silence()
                fetching = (folder for folder, _ in self._fetching.values())
                for each in (*self._recorded.values(), *fetching, *self._decoding):
                    _remove(each)
        return False

    def heard(self, decoded: Decoded) -> str:
        """Play what was decoded. Return what is to be told. Raises `SecurechatError` if it could not be done."""
        self._decoding.pop(0)
        if decoded.error is not None:
            raise decoded.error
        if decoded.written is not None:
            return f"The voice note is in {decoded.written}."
        from securechat.ui.session.sound import Loudspeaker

        self.silence()
        self._loudspeaker = Loudspeaker(decoded.samples)
        return "The voice note is played. /play stop ends it."

    def silence(self) -> None:
        """Play no more."""
        loudspeaker, self._loudspeaker = self._loudspeaker, None
        if loudspeaker is not None:
            loudspeaker.stop()

    def _decode(self, path: Path, folder: Path, target: Path | None) -> None:
        """Decode a note, on a thread of its own; nothing of it is left in its folder before that is told."""
        decoded = _decoded(path, target)
        _remove(folder)
        self._later(decoded)


def _decoded(path: Path, target: Path | None) -> Decoded:
    """Decode a note, and write it where it is wanted."""
    from securechat.client.media import voice
    from securechat.content.registry import MAX_NOTE

    try:
        with path.open("rb") as file:
            samples = voice.samples_in(file.read(MAX_NOTE + 1))
        if target is None:
            return Decoded(samples)
        with target.open("xb") as written:  # never in place of what is there
            written.write(voice.wav_of(samples))
        return Decoded(written=target)
    except SecurechatError as error:
        return Decoded(error=error)
    except OSError as error:
        why = f"The voice note cannot be written to {target or path}: {error.strerror or error}."
        return Decoded(error=StorageError(why))


class Session(Protocol):
    """What these commands need of a person's session."""

    client: "ChatClient"
    place: Place
    numbers: Numbers
    voices: Voices

    def show(self, line: str) -> None:
        """Show a line that is already harmless."""

    def do(self, command: Command) -> None:
        """Hand a command to the core, and remember that it is not answered yet."""

    def speak(self, conversation: ConversationSnapshot, command: Command) -> None:
        """Have something said in a conversation. Raises `UsageError` if nothing can be said there."""


def voice(chat: Session, rest: str) -> None:
    """`/voice`, `/voice cancel`, `/voice FILE.wav`."""
    here, voices = chat.place.here(), chat.voices
    if rest == "cancel":
        if not voices.recorded():
            raise UsageError("Nothing is recorded: /voice begins.")
        chat.show(notice("The recording is dropped."))
    elif rest:
        chat.speak(here, sharing(here.id, Path(rest).expanduser().absolute(), voice=True))
    elif not voices.records:
        voices.record()
        chat.show(notice("The microphone is on. /voice sends what you say, up to ten minutes; /voice cancel drops it."))
    else:
        folder = _new_folder()
        command = sharing(here.id, folder / RECORDED, voice=True)
        voices.keep(command, folder)
        try:
            (folder / RECORDED).write_bytes(voices.recorded())
        except OSError as error:
            raise UsageError(f"The recording cannot be kept: {error.strerror or error}.") from None
        chat.speak(here, command)


def play(chat: Session, rest: str) -> None:
    """`/play [N] [FILE.wav]`, `/play stop`."""
    from securechat.client.media.child import check_installed
    from securechat.client.media.worker import VOICE

    if rest == "stop":
        chat.voices.silence()
        return
    number, text = split_number(rest)
    target = Path(text).expanduser().absolute() if text else None
    if target is not None and (target.suffix.lower() != ".wav" or target.exists()):
        raise UsageError("Type /play [N] FILE.wav with the name of a new file, or /play [N] to hear it.")
    check_installed(VOICE)
    command = SaveFile(_note(chat, number), str(_new_folder()))
    chat.voices.fetch(command, target)
    chat.do(command)


def _note(chat: Session, number: int | None) -> int:
    """Return the local id of a voice note: of the one with a number, or of the newest. Raises `UsageError`."""
    if number is not None:
        line = chat.numbers.at(number)
        if not any(_is_note(each) for each in chat.client.around(line, 0)):
            raise UsageError(f"Message {number} is no voice note.")
        return line
    newest = reversed(chat.client.history(chat.place.here().id, LOOK_BACK))
    found = next((each for each in newest if _is_note(each)), None)
    if found is None:
        raise UsageError("There is no voice note among the newest messages: type /history 1000, and take a number.")
    return found.local_id


def _is_note(message: Message) -> bool:
    return message.file is not None and message.file.disposition == "voice"


def _new_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="securechat-"))
    except OSError as error:
        raise UsageError(f"There is no room for a voice note: {error.strerror or error}.") from None


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
