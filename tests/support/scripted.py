"""A client core that does what a test says: it stands behind the port of the front ends, and has no network."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from securechat.client.events import (
    Connected,
    Conversation,
    ConversationChanged,
    Delivered,
    Ended,
    Event,
    LoggedIn,
    Message,
    Ready,
    Received,
)
from securechat.errors import UsageError

NUMBER = " ".join(f"{group:05}" for group in range(12))


def conversation(
    name: str, kind: Literal["direct", "invite", "open"] = "direct", state: Any = "open", members: tuple[str, ...] = ()
) -> Conversation:
    return Conversation(name.encode().ljust(32, b"."), kind, name, members or ("alice", name), state, epoch=1)


def message(where: Conversation, sender: str, text: str, **others: Any) -> Message:
    others = {"local_id": 0, "seq": 1, "time": int(time.time() * 1000)} | others
    return Message(conversation=where.id, sender=sender, own=False, text=text, **others)


@dataclass
class ScriptedClient:
    """Records commands in `calls`; `online` makes it answer like a server that accepts everything."""

    tell: Callable[[Event], None]
    account: str = "alice"
    online: bool = True
    known_at_once: bool = False  # like the real core, which keeps a conversation from the command on
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    known: dict[str, Conversation] = field(default_factory=dict)
    said: list[Message] = field(default_factory=list)
    shown: int = 0
    failure: Exception | None = None

    def add(self, where: Conversation) -> Conversation:
        self.known[where.name] = where
        return where

    def receive(self, where: Conversation, sender: str, text: str, **others: Any) -> None:
        received = message(where, sender, text, local_id=len(self.said) + 1, **others)
        self.said.append(received)
        self.tell(Received(received))

    def change(self, where: Conversation, change: Any, account: str = "") -> None:
        self.add(where)
        self.tell(ConversationChanged(where, change, account))

    def start(self) -> None:
        self.calls.append(("start",))
        if self.online:
            self.tell(Connected("Test server", "Welcome!"))
            self.tell(LoggedIn(self.account, resumed=False))
            self.tell(Ready())

    def close(self) -> None:
        self.calls.append(("close",))
        self.tell(Ended(None))

    def conversations(self) -> list[Conversation]:
        return list(self.known.values())

    def find(self, name: str) -> Conversation | None:
        return self.known.get(name)

    def history(self, conversation: bytes, limit: int) -> list[Message]:
        return [one for one in self.said if one.conversation == conversation][-limit:]

    def unread(self, limit: int) -> list[Message]:
        return [one for one in self.said if not one.own and one.local_id > self.shown][:limit]

    def mark_shown(self, local_id: int) -> None:
        self.shown = max(self.shown, local_id)

    def send(self, conversation: bytes, text: str) -> int:
        if self.failure is not None:
            raise self.failure
        self.calls.append(("send", conversation, text))
        sent = Message(len(self.said) + 1, conversation, 0, 0, self.account, own=True, text=text)
        self.said.append(sent)
        if self.online:
            self.tell(Delivered(replace(sent, seq=9, time=int(time.time() * 1000))))
        return sent.local_id

    def open_direct(self, account: str, text: str = "", *, ask: bool) -> None:
        self.calls.append(("open_direct", account, text, ask))
        if self.online:
            opened = conversation(account, state="requested" if ask else "open")
            self.change(opened, "opened")
            if text:
                self.send(opened.id, text)

    def join_room(self, name: str) -> None:
        self.calls.append(("join_room", name))
        if self.known_at_once:
            self.add(conversation(name, "open"))
        if self.online:
            self.change(conversation(name, "open"), "joined")

    def create_room(self, name: str) -> None:
        self.calls.append(("create_room", name))
        if self.online:
            self.change(conversation(name, "invite"), "opened")

    def safety_number(self, account: str) -> str:
        if account not in self.known:
            raise UsageError(f"No key of {account} is known yet.")
        return NUMBER

    def __getattr__(self, name: str) -> Callable[..., None]:
        """The commands that only have to be recorded."""
        if name not in (
            "accept", "decline", "bye", "leave", "repair", "invite", "remove", "list_rooms", "list_members", "verify",
            "trust",
        ):  # fmt: skip
            raise AttributeError(name)
        return lambda *arguments: self.calls.append((name, *arguments))
