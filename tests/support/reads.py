"""What the view model reads, without a core: conversations and lines that a test puts there."""

from collections.abc import Iterable

from securechat.client.core import ChatClient
from securechat.client.events import Transfer
from securechat.client.message import Message
from securechat.client.snapshot import ConversationSnapshot, Invitation, Snapshot
from securechat.errors import UsageError


class MemoryReads(ChatClient):
    """A history in memory, in the order of the real one (`client.vault.history`)."""

    def __init__(self, conversations: Iterable[ConversationSnapshot] = ()) -> None:
        self.account = "alice"
        self.known = {each.id: each for each in conversations}
        self.lines: dict[int, Message] = {}
        self.aliases: dict[bytes, bytes] = {}
        self.shown = 0
        self.on_their_way: tuple[Transfer, ...] = ()

    def put(self, message: Message) -> Message:
        self.lines[message.local_id] = message
        return message

    def in_order(self, conversation: bytes) -> list[Message]:
        """All lines of a conversation."""
        here = (each for each in self.lines.values() if each.conversation == conversation)
        return sorted(here, key=lambda each: (each.seq or 1 << 62, each.local_id))

    def conversations(self) -> list[ConversationSnapshot]:
        return list(self.known.values())

    def invitations(self) -> list[Invitation]:
        return []

    def conversation(self, conversation: bytes) -> ConversationSnapshot | None:
        return self.known.get(self.aliases.get(conversation, conversation))

    def find(self, name: str) -> ConversationSnapshot | None:
        return Snapshot.of(self.known.values(), {}, {}).find(name)

    def called(self, name: str) -> tuple[ConversationSnapshot, ...]:
        return Snapshot.of(self.known.values(), {}, {}).called(name)

    def past(self, name: str, limit: int, *, before: int = 0, after: int = 0) -> list[Message]:
        lines = [line for each in self.called(name) for line in self.in_order(each.id)]
        if before or after:
            index = next((at for at, line in enumerate(lines) if line.local_id == before + after), None)
            if index is None:
                raise UsageError("There is no such message in this conversation.")
            return lines[index + 1 : index + 1 + limit] if after else lines[max(0, index - limit) : index]
        return lines[-limit:]

    def history(self, conversation: bytes, limit: int) -> list[Message]:
        return self.in_order(self.aliases.get(conversation, conversation))[-limit:]

    def before(self, local_id: int, limit: int) -> list[Message]:
        lines, index = self._beside(local_id)
        return lines[max(0, index - limit) : index]

    def after(self, local_id: int, limit: int) -> list[Message]:
        lines, index = self._beside(local_id)
        return lines[index + 1 : index + 1 + limit]

    def around(self, local_id: int, limit: int) -> list[Message]:
        lines, index = self._beside(local_id)
        return lines[max(0, index - limit) : index + 1 + limit]

    def unread_counts(self) -> dict[bytes, tuple[int, int]]:
        counts: dict[bytes, tuple[int, int]] = {}
        for line in sorted(self.lines.values(), key=lambda each: each.local_id):
            if not line.own and line.local_id > self.shown:
                counts[line.conversation] = (counts.get(line.conversation, (0, 0))[0] + 1, line.local_id)
        return counts

    def first_unread(self, conversation: bytes) -> int:
        unread = (each for each in self.in_order(conversation) if not each.own and each.local_id > self.shown)
        return next((each.local_id for each in unread), 0)

    def transfers(self) -> tuple[Transfer, ...]:
        return self.on_their_way

    def _beside(self, local_id: int) -> tuple[list[Message], int]:
        if local_id not in self.lines:
            return [], 0
        lines = self.in_order(self.lines[local_id].conversation)
        return lines, lines.index(self.lines[local_id])
