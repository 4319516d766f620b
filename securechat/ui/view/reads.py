"""The part of the core that the view model reads. None of it waits for the engine or the network."""

from typing import Protocol

from securechat.client.events import ConversationSnapshot, Message, Trust


class Reads(Protocol):
    """The reading half of `client.core.ChatClient`."""

    account: str

    def conversations(self) -> list[ConversationSnapshot]:
        """Return all conversations, oldest first."""

    def conversation(self, conversation: bytes, /) -> ConversationSnapshot | None:
        """Return a conversation by its id, or by the one it had at first."""

    def history(self, conversation: bytes, limit: int, /) -> list[Message]:
        """Return the newest `limit` lines, oldest first; what the server has not accepted yet comes last."""

    def before(self, local_id: int, limit: int, /) -> list[Message]:
        """Return the `limit` lines of its conversation right before a line."""

    def after(self, local_id: int, limit: int, /) -> list[Message]:
        """Return the `limit` lines of its conversation right after a line."""

    def around(self, local_id: int, limit: int, /) -> list[Message]:
        """Return a line with up to `limit` lines before it and as many after it."""

    def unread_counts(self) -> dict[bytes, tuple[int, int]]:
        """Return how many lines of others nobody has been shown, by conversation, and the newest one's local id."""

    def trust(self) -> dict[str, Trust]:
        """Return how the key that each known account shows now compares with the one that we trust."""
