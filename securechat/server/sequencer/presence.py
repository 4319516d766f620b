"""What members of a conversation are told of each other: online, offline, or dropped."""

import math
from typing import Literal

from securechat.server.sequencer.conversation import Conversations
from securechat.server.sequencer.session import Sessions
from securechat.server.sequencer.turn import Turn
from securechat.server.store.port import ConversationStore, DirectoryStore
from securechat.wire.frames import encode_frame
from securechat.wire.limits import MAX_TOLD
from securechat.wire.messages import Presence as PresenceEvent

TELL_SECONDS = 1.0
"""How long changes are collected: an account that is back within this time has not been away."""

State = Literal["online", "offline", "dropped"]


class Presence:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: ConversationStore,
        directory: DirectoryStore,
        conversations: Conversations,
        sessions: Sessions,
    ) -> None:
        self._turn = turn
        self._store = store
        self._directory = directory
        self._conversations = conversations
        self._sessions = sessions
        self._told: dict[str, State] = {}
        self._changed: dict[str, State] = {}
        self._tell_at = math.inf

    def note(self, account: str, state: State) -> None:
        """Note that an account has come or gone; others are told unless it changes back at once."""
        self._changed[account] = state
        self._tell_at = min(self._tell_at, self._turn.now + TELL_SECONDS)

    def run(self) -> float:
        """Send what is due; return when there is more to tell (monotonic seconds)."""
        if self._turn.now >= self._tell_at:
            self._tell_at = math.inf
            changed, self._changed = self._changed, {}
            for account, state in changed.items():
                if self._told.get(account) != state:
                    self._tell(account, state)
        return self._tell_at

    def _tell(self, account: str, state: State) -> None:
        if state == "online":
            self._told[account] = state
        else:
            self._told.pop(account, None)
        conversations = {
            conversation
            for device in self._directory.devices(account)
            for conversation in self._store.of_device(device.device)
        }
        for conversation_id in conversations:
            conversation = self._conversations.get(conversation_id)
            members = conversation.present if conversation is not None else []
            if len(members) > MAX_TOLD:
                continue
            frame = encode_frame(PresenceEvent(conversation_id, account, state))
            for member in members:
                session = self._sessions.find(member.account, member.device)
                if member.account != account and session is not None and session.seated:
                    session.outlet.send(frame)
