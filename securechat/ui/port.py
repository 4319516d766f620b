"""What a front end asks of the client core (`client.core.ChatClient`).

The core tells its events on a thread of its own. The front ends here give it the `put` of a queue, so that all they
draw is drawn by one thread of theirs.
"""

from typing import Protocol

from securechat.client.events import Conversation, Message


class ChatClient(Protocol):
    """The commands. All are thread-safe and return at once; what comes of them arrives as events.

    Each raises `UsageError`, and changes nothing, where the command makes no sense.
    """

    @property
    def account(self) -> str:
        """Our own account."""

    def start(self) -> None:
        """Connect, log in, catch up."""

    def close(self) -> None:
        """Say goodbye to the server; `Ended(None)` follows."""

    def conversations(self) -> list[Conversation]:
        """All conversations of this account."""

    def find(self, name: str) -> Conversation | None:
        """The conversation called `#room`, or the newest direct one with an account."""

    def history(self, conversation: bytes, limit: int) -> list[Message]:
        """The newest messages, oldest first."""

    def unread(self, limit: int) -> list[Message]:
        """The oldest lines of others that no front end has shown, in order of arrival."""

    def mark_shown(self, local_id: int) -> None:
        """Note that the user has seen everything that came in up to a line."""

    def send(self, conversation: bytes, text: str) -> int:
        """Queue a text durably; its local id comes back in `Delivered`."""

    def open_direct(self, account: str, text: str = "", *, ask: bool) -> None:
        """Open or reuse the direct conversation and send `text`; `ask`: as a request."""

    def accept(self, conversation: bytes) -> None:
        """Say yes to a request."""

    def decline(self, conversation: bytes) -> None:
        """Say no to a request."""

    def bye(self, conversation: bytes) -> None:
        """Say that we have finished; a direct conversation closes when both have."""

    def join_room(self, name: str) -> None:
        """Enter an open room; open it if there is none of that name."""

    def create_room(self, name: str) -> None:
        """Make an invite room that we own."""

    def invite(self, conversation: bytes, account: str) -> None:
        """Add an account's devices to a room."""

    def remove(self, conversation: bytes, account: str) -> None:
        """Remove an account's devices from a room."""

    def leave(self, conversation: bytes) -> None:
        """Leave for good."""

    def repair(self, conversation: bytes) -> None:
        """Enter a conversation anew that stands still."""

    def list_rooms(self) -> None:
        """Ask for `RoomList`."""

    def list_members(self, conversation: bytes) -> None:
        """Ask for `MemberList`."""

    def verify(self, account: str) -> None:
        """Note that the safety number was compared."""

    def trust(self, account: str) -> None:
        """Accept a changed key without having compared it."""

    def safety_number(self, account: str) -> str:
        """The number to compare: 60 digits in groups of five."""
