"""Directory news: members are told whose device has left the directory, or is back (docs/design.md, section 6).

Nothing is kept for it: what is gone is looked up when somebody begins to read a conversation, and when it changes.
"""

from collections.abc import Iterable

from securechat.identity.certificate import DeviceCertificate
from securechat.server.sequencer.conversation import Conversation, Conversations
from securechat.server.sequencer.session import Sessions
from securechat.server.store.port import ConversationStore, DirectoryStore
from securechat.wire.frames import encode_frame
from securechat.wire.limits import MAX_TOLD
from securechat.wire.messages import DirectoryNews, Gone


class News:
    """Requires holding the turn."""

    def __init__(
        self, store: ConversationStore, directory: DirectoryStore, conversations: Conversations, sessions: Sessions
    ) -> None:
        self._store = store
        self._directory = directory
        self._conversations = conversations
        self._sessions = sessions

    def gone(self, conversation: Conversation) -> list[Gone]:
        """Return the members' devices that are not in the directory, of a conversation that is small enough."""
        members = conversation.present
        if len(members) > MAX_TOLD:
            return []
        published = self._directory.owners([member.device for member in members])
        return [Gone(each.device, self._newest(each.account)) for each in members if each.device not in published]

    def tell(self, devices: Iterable[bytes]) -> None:
        """Tell those who share a conversation with one of these devices. Call once the change is on disk."""
        for conversation_id in {each for device in devices for each in self._store.of_device(device)}:
            conversation = self._conversations.get(conversation_id)
            if conversation is None or len(conversation.present) > MAX_TOLD:
                continue
            frame = encode_frame(DirectoryNews(conversation_id, self.gone(conversation)))
            for member in conversation.present:
                session = self._sessions.find(member.account, member.device)
                if session is not None and conversation_id in session.subscriptions:
                    session.outlet.send(frame)

    def _newest(self, account: str) -> bytes:
        """Return the certificate that an account's newest published device has; empty if there is none."""
        found = [device.certificate for device in self._directory.devices(account)]
        return max(found, key=lambda each: DeviceCertificate.decode(each).not_before, default=b"")
