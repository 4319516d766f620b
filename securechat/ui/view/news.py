"""Events in words, and each piece of news once: one for a session, however many timelines it has open."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from securechat.client.events import (
    Connected,
    ConversationChanged,
    Disconnected,
    Event,
    Invited,
    PresenceChanged,
    TransferDelayed,
    TransferEnded,
    Transferred,
)
from securechat.client.snapshot import ConversationSnapshot, Invitation
from securechat.ui.text.sentences import sentences
from securechat.ui.text.wording import Sentence

if TYPE_CHECKING:  # the core brings the database and all of MLS with it
    from securechat.client.core import ChatClient


class News:
    """What has been told. One thread at a time."""

    def __init__(self, client: "ChatClient") -> None:
        self._client = client
        self._presence: dict[str, str] = {}
        self._outage = ""  # why there is no connection, as it was told
        self._invitations: set[Invitation] = set()

    def of(self, event: Event) -> tuple[Sentence, ...]:
        """Return what is said of an event; nothing if it was said before."""
        return tuple(self._tell(event))

    def _tell(self, event: Event) -> Iterator[Sentence]:
        if isinstance(event, PresenceChanged):  # it comes once for each conversation that we share
            if self._presence.get(event.account) == event.state:
                return
            self._presence[event.account] = event.state
        if isinstance(event, Disconnected):  # once for each try
            if self._outage == event.reason:
                return
            self._outage = event.reason
        if isinstance(event, Connected):
            self._outage = ""
        if isinstance(event, Invited):  # it is in the snapshot, too
            if event.invitation in self._invitations:
                return
            self._invitations.add(event.invitation)
        yield from sentences(event, self._conversation_of(event), self._client.account)

    def _conversation_of(self, event: Event) -> ConversationSnapshot | None:
        if isinstance(event, ConversationChanged):
            return event.conversation
        about = event.transfer if isinstance(event, Transferred | TransferDelayed | TransferEnded) else event
        wanted: bytes | None = getattr(about, "conversation", None)
        return None if wanted is None else self._client.conversation(wanted)
