"""Directory news: members are told whose device has left the directory, or is back (docs/design.md, section 6).

What is gone is looked up when somebody begins to read a conversation, and when it changes. Nothing is kept for it but
the members whose accounts were deleted: nothing else tells of those.
A device may be in a thousand: so many are told in one turn, and the others in those after it.
"""

import math
from collections import deque
from collections.abc import Iterable

from securechat.identity.certificate import DeviceCertificate
from securechat.server.sequencer.conversation import Conversation, Conversations
from securechat.server.sequencer.directory import published
from securechat.server.sequencer.session import Sessions
from securechat.server.store.port import ConversationStore, DirectoryStore
from securechat.wire.frames import encode_frame
from securechat.wire.limits import MAX_TOLD
from securechat.wire.messages import DirectoryNews, Gone

TOLD_AT_ONCE = 8
"""Conversations that are told in one turn: of each the directory is asked for up to `MAX_TOLD` devices."""


class News:
    """Requires holding the turn."""

    def __init__(
        self, store: ConversationStore, directory: DirectoryStore, conversations: Conversations, sessions: Sessions
    ) -> None:
        self._store = store
        self._directory = directory
        self._conversations = conversations
        self._sessions = sessions
        self._waiting: deque[bytes] = deque()  # conversations that have to be told, each once

    def gone(self, conversation: Conversation) -> list[Gone]:
        """Return the members' devices that are not in the directory, of a conversation that is small enough.

        Those of deleted accounts are among them, as long as they have leaves.
        """
        members = conversation.present
        if len(members) > MAX_TOLD:
            return []
        there = published(self._directory, members)
        gone = [Gone(each.device, self._newest(each.account)) for each in members if each.device not in there]
        return [*gone, *(Gone(device, b"") for device in conversation.head.deleted)][:MAX_TOLD]

    def tell(self, account: str, devices: Iterable[bytes]) -> None:
        """Tell those who share a conversation with one of an account's devices. Call once the change is on disk."""
        waiting = set(self._waiting)
        found = {each for device in devices for each in self._store.of_device((account, device))}
        self._waiting += found - waiting

    def run(self, now: float) -> float:
        """Tell a portion of them; return when there is more to tell (`now` or never, in monotonic seconds)."""
        for _ in range(min(TOLD_AT_ONCE, len(self._waiting))):
            if (conversation := self._conversations.get(self._waiting.popleft())) is not None:
                self.tell_in(conversation)
        return now if self._waiting else math.inf

    def tell_in(self, conversation: Conversation) -> None:
        """Tell those in a conversation, which is as it is on disk, if it is small enough."""
        if len(conversation.present) > MAX_TOLD:
            return
        frame = encode_frame(DirectoryNews(conversation.head.id, self.gone(conversation)))
        for member in conversation.present:
            session = self._sessions.find(member.account, member.device)
            if session is not None and conversation.head.id in session.subscriptions:
                session.outlet.send(frame)

    def _newest(self, account: str) -> bytes:
        """Return the certificate that an account's newest published device has; empty if there is none."""
        found = [device.certificate for device in self._directory.devices(account)]
        return max(found, key=lambda each: DeviceCertificate.decode(each).seq, default=b"")
