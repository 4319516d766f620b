"""The same acts by two faces: the plain client at a terminal, and `securechat rpc`, each a process of its own.

What has come of an act is read where both have it: in the core, through the door of whichever program has the vault
open. So nothing here depends on how a face shows it.
"""

import json
import re
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import field
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Final, Protocol, TypeVar, get_args

from securechat.client import commands
from securechat.client.events import Event
from securechat.client.media import voice
from securechat.client.message import Message
from securechat.client.preferences import Preference
from securechat.client.snapshot import ConversationSnapshot
from securechat.client.vault import key_file
from securechat.client.vault.door_proof import DoorKey
from securechat.client.vault_files import KEY, beside
from securechat.ui.objects import to_json
from securechat.ui.rpc.remote import RemoteClient
from securechat.ui.rpc.sockets import path_of
from securechat.value import value
from securechat_lab.cast.terminal import Terminal
from tests.support.live import LiveServer
from tests.support.server_process import server_environment
from tests.support.waiting import wait_until

PASSWORD: Final = "glacier tulip Harvest"
ANOTHER: Final = "harvest Glacier tulips"

PATIENCE: Final = 60.0
"""Seconds in which anything that has to come does."""

POLL_SECONDS: Final = 0.003
"""How long each face is given between two looks."""

LINES: Final = 1000

E = TypeVar("E", bound=Event)


class Seat:
    """Somebody at a face, and what their core has."""

    door: RemoteClient

    def __init__(self, server: LiveServer, name: str) -> None:
        self.server = server
        self.name = name
        self.folder = server.folder / name
        self.folder.mkdir()
        self.saved = self.folder / "saved"
        self.saved.mkdir()
        (self.folder / "password").touch(mode=0o600)
        (self.folder / "password").write_text(PASSWORD)
        self.key = ""  # that was told last, where an act needs it
        self.told: list[Event] = []  # by the core, since it was last asked for something
        self._events: SimpleQueue[Event] = SimpleQueue()

    @property
    def options(self) -> list[str]:
        """The command line's."""
        return [
            "--user", self.name, "--server", f"localhost:{self.server.port}", "--ca", str(self.server.ca),
            "--vault", str(self.folder), "--password-file", str(self.folder / "password"),
        ]  # fmt: skip

    def attach(self) -> None:
        """Read from the core from now on."""
        (vault,) = self.folder.glob("*.vault")
        wait_until(path_of(vault).exists)
        key = DoorKey(key_file.unlock(beside(vault, KEY), bytearray(PASSWORD.encode()))[0])
        self._events = SimpleQueue()
        self.door = RemoteClient(vault, key, self.name, on_event=self._events.put)
        self.door.start()

    def pump(self) -> None:
        """Take what was told."""
        while True:
            try:
                self.told.append(self._events.get_nowait())
            except Empty:
                return

    def heard(self, kind: type[E]) -> list[E]:
        """What was told of a kind."""
        return [each for each in self.told if isinstance(each, kind)]

    # --- what is there --------------------------------------------------------------------------------------------

    def find(self, name: str) -> ConversationSnapshot:
        """The conversation of a name; it is there."""
        found = self.door.find(name)
        assert found is not None, f"{self.name} has no conversation {name}"
        return found

    def state(self, name: str) -> str:
        """How it stands with a conversation; empty: there is none."""
        found = self.door.find(name)
        return "" if found is None else found.state

    def line(self, name: str, text: str) -> Message | None:
        """The newest line under a name that has a text; None: there is none."""
        found = (each for each in reversed(self.door.past(name, LINES)) if text in each.text)
        return next(found, None)

    def invited(self, room: str) -> bool:
        """Whether an invitation to a room waits for an answer."""
        return any(each.name == room for each in self.door.invitations())


@value
class Act:
    """Something that somebody does, in the words of both faces, and what it comes to."""

    who: str
    typed: str
    asked: Callable[[Seat], commands.Command] | None = None  # None: it is a read
    until: Callable[["Cast"], bool] = lambda _: True
    where: str = ""  # the conversation in which it is done
    shows: tuple[str, ...] = ()  # what the answer to it has in it
    read: tuple[str, dict[str, Any]] | None = None  # what shows it to a program
    hidden: tuple[str, ...] = field(default=(), repr=False)  # what is typed where nobody can read it
    refused: bool = False
    waits: bool = True  # for its answer


class Face(Protocol):
    """What a cast needs of a face."""

    seat: Seat

    def begin(self) -> None:
        """Start the program."""

    def come(self) -> None:
        """Be in."""

    def act(self, act: Act, show: Callable[[Callable[[], bool]], None]) -> None:
        """Do something; `show` lets everybody go on until something holds."""

    def shown(self, text: str) -> bool:
        """Whether what it was asked for last has a text in it."""

    def pump(self, seconds: float) -> None:
        """Let it go on."""

    def end(self) -> None:
        """End it."""


class AtTerminal:
    """The plain client on a pseudo-terminal."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self._shown_before = 0

    def begin(self) -> None:
        options = [*self.seat.options, "--register", "--without-recovery"]
        command = [sys.executable, "-m", "tests.stories.person", "client", *options]
        self.terminal = Terminal(command, orders=False, columns=200, rows=24)

    def come(self) -> None:
        self.terminal.wait(lambda: any("You are in." in row for row in self.terminal.rows))
        self.seat.attach()

    def act(self, act: Act, show: Callable[[Callable[[], bool]], None]) -> None:
        if act.where:
            self._type(f"/go {act.where}", show)
            show(lambda: f"[{act.where}] >" in self.terminal.cursor_row)
        self._shown_before = len(self.terminal.output)
        self._type(act.typed.replace("{saved}", str(self.seat.saved)).replace("{key}", self.seat.key), show)
        for question, answer in zip(("Password", "New password", "The same again"), act.hidden, strict=False):
            show(lambda question=question: self.terminal.cursor_row.startswith(question))  # type: ignore[misc]  # bound now
            self.terminal.send(answer.encode() + b"\r")

    def _type(self, text: str, show: Callable[[Callable[[], bool]], None]) -> None:
        self.terminal.send(text.encode())
        show(lambda: text in self.terminal.cursor_row)
        self.terminal.send(b"\r")

    def shown(self, text: str) -> bool:
        return text.encode() in self.terminal.output[self._shown_before :]

    def pump(self, seconds: float) -> None:
        while select.select([self.terminal], [], [], seconds)[0] and self.terminal.take():
            seconds = 0

    def end(self) -> None:
        self.terminal.__exit__(None, None, None)


class OverRpc:
    """`securechat rpc`, and a program that asks it."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self._asked = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._last: list[str] = []  # what has come since something was asked for

    def begin(self) -> None:
        self._start("--register")

    def _start(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stories.person", "rpc", *self.seat.options, *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=server_environment(), start_new_session=True,
        )  # fmt: skip
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self._process, self._ready), daemon=True)
        self._reader.start()

    def come(self) -> None:
        assert self._ready.wait(PATIENCE)
        self.seat.attach()

    def _read(self, process: "subprocess.Popen[bytes]", ready: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            self._last.append(json.dumps(said, ensure_ascii=False))
            if said.get("params", {}).get("event") == "Ready":
                ready.set()
            if said.get("id"):
                self._answers[said["id"]] = said

    def act(self, act: Act, show: Callable[[Callable[[], bool]], None]) -> None:
        if act.where:
            here = self.seat.find(act.where)
            lines = [each.local_id for each in self.seat.door.history(here.id, LINES)]
            self._ask("Visit", {"conversation": here.id.hex(), "local_id": max(lines, default=0)})
        self._last.clear()
        if act.read is not None:
            name, params = act.read
        else:
            assert act.asked is not None
            command = act.asked(self.seat)
            if isinstance(command, commands.AcceptInvitation):
                self._accept(command, show)
                return
            name = type(command).__name__
            params = {key: to_json(each) for key, each in vars_of(command).items()}
        number = self._ask(name, params)
        if act.waits:
            show(lambda: number in self._answers)
            assert ("error" in self._answers[number]) == act.refused, self._answers[number]

    def _accept(self, command: commands.AcceptInvitation, show: Callable[[Callable[[], bool]], None]) -> None:
        """A program accepts by its settings alone, which its refusal names: whoever runs it has looked at the key."""
        number = self._ask("AcceptInvitation", {"conversation": command.conversation.hex(), "question": 0})
        show(lambda: number in self._answers)
        told = re.search(r"--accept-invitations-of (\S+:[0-9a-f]{64})", self._answers[number]["error"]["message"])
        assert told is not None
        self._leave()
        self._answers.clear()
        self._start("--accept-invitations-of", told[1])
        self.come()

    def _ask(self, method: str, params: dict[str, Any]) -> int:
        self._asked += 1
        assert self._process.stdin is not None
        request = {"jsonrpc": "2.0", "id": self._asked, "method": method, "params": params}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return self._asked

    def shown(self, text: str) -> bool:
        return any(text in line for line in [*self._last])

    def pump(self, seconds: float) -> None:
        self._reader.join(seconds)  # it goes on by itself: this is only time

    def _leave(self) -> None:
        assert self._process.stdin is not None
        self.seat.door.hang_up()
        self._process.stdin.close()
        self._reader.join(PATIENCE)
        assert self._process.wait(PATIENCE) == 0
        self.end()

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._reader.join(PATIENCE)
        self._process.stdin.close()
        self._process.stdout.close()


def vars_of(command: commands.Command) -> dict[str, Any]:
    """A command's own fields."""
    return {each: getattr(command, each) for each in type(command).__dataclass_fields__ if each != "id"}


class Cast:
    """Everybody of a scenario, at one kind of face."""

    def __init__(self, folder: Path, face: type[AtTerminal] | type[OverRpc], names: Sequence[str]) -> None:
        folder.mkdir()
        self.folder = folder
        self.server = LiveServer(folder)
        self._faces: dict[str, Face] = {}
        for name in names:
            self._faces[name] = made = face(Seat(self.server, name))
            made.begin()
        for each in self._faces.values():
            each.come()

    def __getitem__(self, name: str) -> Seat:
        return self._faces[name].seat

    def close(self) -> None:
        """End whatever runs."""
        for face in self._faces.values():
            face.end()
        for face in self._faces.values():
            face.seat.door.hang_up()
        self.server.stop()

    def play(self, acts: Sequence[Act]) -> None:
        """Play them, one after the other. Raises `AssertionError` that names the act."""
        for number, act in enumerate(acts, 1):
            try:
                self._play(act)
            except AssertionError as error:
                raise AssertionError(f"act {number}, {act.who}> {act.typed}: {error}") from error

    def wait(self, differences: Callable[[], list[str]]) -> None:
        """Let everybody go on until there are none. Raises `AssertionError` that names them."""
        ends = monotonic() + PATIENCE
        while found := differences():
            assert monotonic() < ends, "\n".join(found)
            for each in self._faces.values():
                each.pump(POLL_SECONDS)

    def _play(self, act: Act) -> None:
        if act.typed == "the server stops":
            assert self.server.stop() == 0
        elif act.typed == "the server starts":
            self.server.start()
        else:
            for face in self._faces.values():
                face.seat.pump()
                face.seat.told.clear()
            self._faces[act.who].act(act, self._show)
            for text in act.shows:
                self._show(lambda text=text: self._faces[act.who].shown(text), act.who)  # type: ignore[misc]  # bound now
        self._show(lambda: act.until(self), act.who)

    def _show(self, condition: Callable[[], bool], who: str = "") -> None:
        """Let everybody go on until something holds."""
        ends = monotonic() + PATIENCE
        while not condition():
            face = self._faces.get(who)
            assert monotonic() < ends, (
                f"in vain; {face.seat.told if face else ''}\n"
                f"{chr(10).join(face.terminal.rows[-30:]) if isinstance(face, AtTerminal) else ''}"
                f"{chr(10).join(face._last[-10:]) if isinstance(face, OverRpc) else ''}"
            )
            for each in self._faces.values():
                each.pump(POLL_SECONDS)
                each.seat.pump()


# --- what is compared -------------------------------------------------------------------------------------------------


def all_of(seat: Seat) -> dict[str, Any]:
    """All that somebody has in the end, without what differs from one run to the next: ids, keys, times, places."""
    conversations = seat.door.conversations()
    names = list(dict.fromkeys(each.name for each in conversations))
    return {
        "conversations": sorted((conversation_of(each) for each in conversations), key=str),
        "lines": {name: [line_of(each) for each in seat.door.past(name, LINES)] for name in names},
        "unread": sorted(
            (found.name, count) for where, (count, _) in seat.door.unread_counts().items()
            if (found := seat.door.conversation(where)) is not None
        ),
        "invitations": sorted(each.name for each in seat.door.invitations()),
        "blocked": seat.door.blocked(),
        "prefers": {name: seat.door.prefers(name) for name in get_args(Preference)},
        "files": {each.stem: content_of(each) for each in sorted(seat.saved.iterdir())},
    }  # fmt: skip


def conversation_of(each: ConversationSnapshot) -> dict[str, Any]:
    """What of a conversation is the same in both runs."""
    names: tuple[str, ...] = (
        "kind", "name", "members", "state", "own_bye", "their_bye", "trust", "topic", "owners", "inviters", "disputed",
        "absent", "heard", "life", "preferences",
    )  # fmt: skip
    if each.state == "closed":  # its log is read no more: who is in it depends on what came before that
        names = ("kind", "name", "state", "own_bye", "their_bye")
    marked = [who for who, _, _ in each.marks if each.state != "closed"]
    return {name: getattr(each, name) for name in names} | {"marked": marked}


def line_of(line: Message) -> dict[str, Any]:
    """What of a line is the same in both runs."""
    names = ("sender", "own", "text", "trust", "problem", "kind", "doubt", "deleted_by", "reactions", "recipients")
    same: dict[str, Any] = {name: getattr(line, name) for name in names}
    same |= {"delivered": line.delivered, "read": line.read, "edited": line.edited > 0, "number": line.number > 0}
    if line.quote is not None:
        same["quote"] = (line.quote.sender, line.quote.text, line.quote.state, line.quote.edited > 0)
    if line.file is not None:
        said = ("name", "description", "media_type", "disposition", "size", "inline", "milliseconds")
        same["file"] = {name: getattr(line.file, name) for name in said}
        if line.file.disposition != "voice":  # which has a number that is drawn anew each time
            same["digest"] = line.file.digest
    return same



def content_of(saved: Path) -> object:
    """What was saved: the bytes of a file; of a voice note whether anything is heard, each twentieth of a second."""
    if saved.suffix not in (".ogg", ".wav"):
        return saved.read_bytes()
    samples = voice.samples_in(saved.read_bytes()) if saved.suffix == ".ogg" else saved.read_bytes()[44:]
    heard = memoryview(samples).cast("h")
    return [max(map(abs, heard[at : at + 2400])) > 500 for at in range(0, len(heard), 2400)]


def different(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two of these are not the same, and how."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [each for name in one for each in different(one[name], other[name], f"{where}/{name}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [each for at in range(len(one)) for each in different(one[at], other[at], f"{where}/{at}")]
    return [] if one == other else [f"{where}: {one!r} and {other!r}"]
