"""A client core that does what a test says: it has the interface that front ends see, and no network."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from securechat.client import commands
from securechat.client.commands import Command
from securechat.client.core import ChatClient
from securechat.client.events import (
    Connected,
    ConversationChanged,
    Delivered,
    Done,
    Ended,
    Event,
    KeyAccepted,
    LoggedIn,
    NumberedKey,
    Ready,
    Received,
    Refused,
    SafetyNumber,
    Said,
    Transfer,
    Trust,
)
from securechat.client.message import Message
from securechat.client.preferences import PREFERENCES, Preference
from securechat.client.query import Query
from securechat.client.snapshot import ConversationSnapshot, Invitation

NUMBER = " ".join(f"{group:05}" for group in range(12))


def conversation(
    name: str, kind: Literal["direct", "invite", "open"] = "direct", state: Any = "open", members: tuple[str, ...] = ()
) -> ConversationSnapshot:
    here = members or ("alice", name)
    trust: tuple[Trust, ...] = tuple("accepted" for _ in here)
    return ConversationSnapshot(name.encode().ljust(32, b"."), kind, name, here, state, epoch=1, trust=trust)


def message(where: ConversationSnapshot, sender: str, text: str, **others: Any) -> Message:
    others = dict[str, Any](local_id=0, trust="accepted", seq=1, time=int(time.time() * 1000)) | others
    return Message(conversation=where.id, sender=sender, own=False, text=text, **others)


class ScriptedClient(ChatClient):
    """Records commands in `calls`; `online` makes it answer like a server that accepts everything."""

    def __init__(
        self, tell: Callable[[Event], None], *, account: str = "alice", online: bool = True, known_at_once: bool = False
    ) -> None:
        """`known_at_once`: like the real core, keep a room from the command on."""
        self.tell = tell
        self.account = account
        self.online = online
        self.known_at_once = known_at_once
        self.calls: list[Command | str] = []
        self.known: dict[str, ConversationSnapshot] = {}
        self.asked: list[Invitation] = []
        self.blocks: tuple[str, ...] = ()
        self.on_their_way: tuple[Transfer, ...] = ()
        self.said: list[Message] = []
        self.shown = 0
        self.visits: list[tuple[bytes, int]] = []
        self.answer: dict[type[Command], Event] = {}  # how commands of a kind are answered
        self.told: dict[type[Command], Event] = {}  # what is told before that
        self.told_first: dict[type[Command], Event] = {}  # and before that

    def add(self, where: ConversationSnapshot) -> ConversationSnapshot:
        self.known[where.name] = where
        return where

    def receive(self, where: ConversationSnapshot, sender: str, text: str, **others: Any) -> None:
        received = message(where, sender, text, local_id=len(self.said) + 1, **others)
        self.said.append(received)
        self.tell(Received(received))

    def change(self, where: ConversationSnapshot, change: Any, account: str = "", command: int = 0) -> None:
        self.add(where)
        self.tell(ConversationChanged(where, change, account, command=command))

    def start(self) -> None:
        self.calls.append("start")
        if self.online:
            self.tell(Connected("Test server", "Welcome!"))
            self.tell(LoggedIn(self.account, resumed=False))
            self.tell(Ready())

    def close(self) -> None:
        self.calls.append("close")
        self.tell(Ended(None))

    def conversations(self) -> list[ConversationSnapshot]:
        return list(self.known.values())

    def conversation(self, conversation: bytes) -> ConversationSnapshot | None:
        return next((one for one in self.known.values() if one.id == conversation), None)

    def invitations(self) -> list[Invitation]:
        return list(self.asked)

    def prefers(self, name: Preference) -> str:
        return PREFERENCES[name][0]

    def blocked(self) -> tuple[str, ...]:
        return self.blocks

    def transfers(self) -> tuple[Transfer, ...]:
        return self.on_their_way

    def find(self, name: str) -> ConversationSnapshot | None:
        return self.known.get(name)

    def called(self, name: str) -> tuple[ConversationSnapshot, ...]:
        return tuple(one for one in self.known.values() if one.name == name)

    def history(self, conversation: bytes, limit: int) -> list[Message]:
        return [one for one in self.said if one.conversation == conversation][-limit:]

    def past(self, name: str, limit: int, *, before: int = 0, after: int = 0) -> list[Message]:
        where = {each.id for each in self.known.values() if each.name == name}
        found = [one for one in self.said if one.conversation in where]
        if after:
            return [one for one in found if one.local_id > after][:limit]
        return [one for one in found if not before or one.local_id < before][-limit:]

    def search(self, query: Query, limit: int, before: int = 0) -> list[Message]:
        found = [one for one in self.said if all(word in one.text for word in query.words)]
        found = [one for one in found if one.file is not None or "file" not in query.has]
        return [one for one in reversed(found) if not before or one.local_id < before][:limit]

    def around(self, local_id: int, limit: int) -> list[Message]:
        before, after = self._beside(local_id)
        found = [one for one in self.said if one.local_id == local_id]
        return [*before[max(0, len(before) - limit) :], *found, *after[:limit]]

    def before(self, local_id: int, limit: int) -> list[Message]:
        return self._beside(local_id)[0][-limit:]

    def after(self, local_id: int, limit: int) -> list[Message]:
        return self._beside(local_id)[1][:limit]

    def _beside(self, local_id: int) -> tuple[list[Message], list[Message]]:
        where = next((one.conversation for one in self.said if one.local_id == local_id), b"")
        lines = [one for one in self.said if one.conversation == where]
        place = next((place for place, one in enumerate(lines) if one.local_id == local_id), len(lines))
        return lines[:place], lines[place + 1 :]

    def unread_counts(self) -> dict[bytes, tuple[int, int]]:
        unread = self.unread(0, 1_000_000)
        ids = {
            each.conversation: [one.local_id for one in unread if one.conversation == each.conversation]
            for each in unread
        }
        return {where: (len(lines), max(lines)) for where, lines in ids.items()}

    def first_unread(self, conversation: bytes) -> int:
        unread = (one.local_id for one in self.unread(0, 1_000_000) if one.conversation == conversation)
        return min(unread, default=0)

    def place(self) -> ConversationSnapshot | None:
        return self.conversation(self.visits[-1][0]) if self.visits else None

    def unread(self, after: int, limit: int) -> list[Message]:
        after = max(after, self.shown)
        return [one for one in self.said if not one.own and one.local_id > after][:limit]

    def do(self, command: Command) -> None:
        if isinstance(command, commands.MarkShown):
            self.shown = max(self.shown, command.local_id)
            return
        if isinstance(command, commands.Visit):
            self.visits.append((command.conversation, command.local_id))
            return
        self.calls.append(command)
        for said in (self.told_first, self.told):
            if (told := said.get(type(command))) is not None:
                self.tell(replace(told, command=command.id))
        if (answer := self.answer.get(type(command))) is not None:
            self.tell(replace(answer, command=command.id))
            return
        match command:
            case commands.Send(conversation=where, text=text):
                self._say(command, where, text)
            case commands.OpenDirect(account=account, text=text):
                if self.online:
                    opened = conversation(account, state="requested" if command.ask else "open")
                    self.change(opened, "opened", command=command.id)
                    if text:
                        self._say(command, opened.id, text)
                        return
            case commands.JoinRoom(name=name):
                if self.known_at_once:
                    self.add(conversation(name, "open"))
                if self.online:
                    self.change(conversation(name, "open"), "joined", command=command.id)
            case commands.CreateRoom(name=name) if self.online:
                self.change(conversation(name, "invite"), "opened", command=command.id)
            case commands.Unlock(password=password):
                self.tell(Refused("local", f"unlocked with {len(password)} characters", command=command.id))
            case commands.ChangePassword(password=password, new=new):
                text = f"changed from {len(password)} characters to {len(new)}"
                self.tell(Refused("local", text, command=command.id))
            case commands.DeleteAccount(account=account, password=password, wipe=wipe):
                text = f"{account} deleted by {len(password)} characters, wipe: {wipe}"
                self.tell(Refused("local", text, command=command.id))
            case commands.ShowSafetyNumber(account=account):
                if account not in self.known:
                    self.tell(Refused("local", f"No key of {account} is known yet.", command=command.id))
                    return
                self.tell(SafetyNumber(account, (NumberedKey("1a2b", "accepted", NUMBER, ()),), command=command.id))
            case commands.Verify(account=account):
                self.tell(KeyAccepted(account, "1a2b", verified=True, command=command.id))
            case commands.Trust(account=account):
                self.tell(KeyAccepted(account, "1a2b", verified=False, command=command.id))
        if self.online and not isinstance(command, commands.Send):
            self.tell(Done(command=command.id))

    def _say(self, command: Command, where: bytes, text: str) -> None:
        sent = Message(len(self.said) + 1, where, 0, 0, self.account, own=True, text=text)
        self.said.append(sent)
        self.tell(Said(sent, command=command.id))
        if self.online:
            self.said[-1] = replace(sent, seq=9, time=int(time.time() * 1000))
            self.tell(Delivered(self.said[-1], command=command.id))
            self.tell(Done(command=command.id))
