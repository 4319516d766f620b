"""Where one is: the conversation to which what is typed goes, and those that are named instead of it."""

from typing import TYPE_CHECKING

from securechat.client.snapshot import ConversationSnapshot
from securechat.errors import UsageError
from securechat.names import normalise_account, normalise_title
from securechat.ui.text.states import NOBODY_HEARS, NOBODY_YET
from securechat.ui.text.wording import title

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient


class Place:
    """The current conversation of one session."""

    def __init__(self, client: "ChatClient") -> None:
        self._client = client
        self.name = ""  # the current conversation's
        self.id = b""  # its id, once it is known: a room may be renamed, and another one get its name

    def here(self) -> ConversationSnapshot:
        """Return the current conversation. Raises `UsageError` saying how to get one."""
        if not self.name:
            raise UsageError(self.nowhere)
        conversation = self.find()
        if conversation is None:
            gone = self.name
            self.turn_to("")
            raise UsageError(f"{gone} is gone. /go shows your conversations.")
        return conversation

    @property
    def nowhere(self) -> str:
        """What is said where no conversation is current."""
        return NOBODY_HEARS if any(map(_goes_on, self._client.conversations())) else NOBODY_YET

    def find(self) -> ConversationSnapshot | None:
        """Return the current conversation, if there is one: the same one for as long as it goes on, else its heir."""
        if not self.name:
            return None
        found = self._client.conversation(self.id) if self.id else None
        if found is None or found.state == "closed":
            found = self._client.find(self.name)
        if found is not None:
            self.turn_to(found.name, found.id)
        return found

    def turn_to(self, name: str, conversation: bytes = b"") -> None:
        """Go to a conversation, by its name and its id, if that is known; or to none."""
        self.name, self.id = name, conversation

    def direct(self, rest: str, what: str) -> ConversationSnapshot:
        """Return the direct conversation with the user in `rest`, or the current one if that is empty."""
        if not rest:
            conversation = self.here()
            if conversation.kind != "direct":
                raise UsageError(f"{title(conversation)} is a room. Type {what} USER.")
            return conversation
        account = normalise_account(rest)
        found = self._client.find(account)
        if found is None:
            raise UsageError(f"You have no conversation with {account}. /chat {account} asks for one.")
        return found

    def named(self, rest: str) -> ConversationSnapshot:
        """Return the conversation with the room or user in `rest`. Raises `UsageError` saying how to get one."""
        name = normalise_title(rest)
        conversation = self._client.find(name)
        if conversation is None:
            how = f"/join {name} enters it" if name.startswith("#") else f"/msg {name} TEXT begins one"
            raise UsageError(f"You have no conversation {name}; {how}.")
        return conversation

    def alive(self, name: str) -> ConversationSnapshot | None:
        """Return the conversation of this name, unless it has ended."""
        found = self._client.find(name)
        return found if found is not None and _goes_on(found) else None


def _goes_on(conversation: ConversationSnapshot) -> bool:
    return conversation.state != "closed"
