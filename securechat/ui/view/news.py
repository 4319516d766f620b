"""Events in words, and each piece of news once: one for a session, however many timelines it has open."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from securechat.client.events import (
    ConversationChanged,
    ConversationSnapshot,
    Event,
    Invitation,
    Invited,
    PresenceChanged,
)
from securechat.ui.text.sentences import Sentence, first_contact, sentences

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient


class News:
    """What has been told. One thread at a time."""

    def __init__(self, client: "ChatClient") -> None:
        """Accounts that we have a conversation with are no new contacts: that was told in an earlier session."""
        self._client = client
        self._met = {each.name for each in client.conversations() if each.kind == "direct"}
        self._presence: dict[str, str] = {}
        self._invitations: set[Invitation] = set()

    def of(self, event: Event) -> tuple[Sentence, ...]:
        """Return what is said of an event; nothing if it was said before."""
        return tuple(self._tell(event))

    def _tell(self, event: Event) -> Iterator[Sentence]:
        if isinstance(event, PresenceChanged):  # it comes once for each conversation that we share
            if self._presence.get(event.account) == event.state:
                return
            self._presence[event.account] = event.state
        if isinstance(event, Invited):  # it is in the snapshot, too
            if event.invitation in self._invitations:
                return
            self._invitations.add(event.invitation)
        yield from sentences(event, self._conversation_of(event), self._client.account)
        if isinstance(event, ConversationChanged) and event.change in ("opened", "joined", "request"):
            account = event.conversation.name
            if event.conversation.kind == "direct" and account not in self._met:
                self._met.add(account)
                yield first_contact(account)

    def _conversation_of(self, event: Event) -> ConversationSnapshot | None:
        if isinstance(event, ConversationChanged):
            return event.conversation
        wanted: bytes | None = getattr(event, "conversation", None)
        return None if wanted is None else self._client.conversation(wanted)
