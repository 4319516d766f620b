"""What members of a conversation are told of each other: online, offline, or dropped.

An account may be in a thousand conversations: so many are told in one turn, and the others in those after it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
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

TOLD_AT_ONCE = 16
"""Conversations that are told of somebody in one turn: each has to be in memory for it, and may have to be loaded."""

LOOK_UP = 8
"""For how many of them it counts to look up where one of the account's devices is: it may be in a thousand."""

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
        self._telling: Iterator[int] | None = None  # what was noted before, and is being told

    def note(self, account: str, state: State) -> None:
        """Note that an account has come or gone; others are told unless it changes back at once."""
        self._changed[account] = state
        self._tell_at = min(self._tell_at, self._turn.now + TELL_SECONDS)

    def run(self) -> float:
        """Send a portion of what is due; return when there is more to tell (monotonic seconds)."""
        if self._telling is None and self._turn.now >= self._tell_at:
            self._tell_at = math.inf
            changed, self._changed = self._changed, {}
            self._telling = self._tell(changed)
        left = TOLD_AT_ONCE
        while self._telling is not None and left > 0:
            if cost := next(self._telling, 0):
                left -= cost
            else:
                self._telling = None
        return self._tell_at if self._telling is None else self._turn.now

    def _tell(self, changed: Mapping[str, State]) -> Iterator[int]:
        """Tell of one conversation after the other, and yield for how many each step counts."""
        for account, state in changed.items():
            if self._told.get(account) == state:
                continue
            if state == "online":
                self._told[account] = state
            told: set[bytes] = set()
            for device in self._directory.devices(account):
                where = self._store.of_device((account, device.device))
                yield LOOK_UP
                for conversation_id in where:
                    if conversation_id not in told:
                        told.add(conversation_id)
                        self._send(conversation_id, account, state)
                        yield 1
            if state != "online":
                self._told.pop(account, None)

    def forget(self, account: str, conversations: Iterable[bytes]) -> None:
        """Tell those in these conversations that an account is offline: it was in them, and is deleted.

        Its sessions have ended, so that those of the conversations where it still is are told in due time (`run`).
        """
        if account in self._told:
            for conversation_id in conversations:
                self._send(conversation_id, account, "offline", deleted=True)

    def _send(self, conversation_id: bytes, account: str, state: State, *, deleted: bool = False) -> None:
        """Tell the others there, unless the account has left meanwhile; `deleted`: it is out, and they hear of it."""
        conversation = self._conversations.get(conversation_id)
        members = conversation.present if conversation is not None else []
        if len(members) > MAX_TOLD or not (deleted or any(each.account == account for each in members)):
            return
        frame = encode_frame(PresenceEvent(conversation_id, account, state))
        for member in members:
            session = self._sessions.find(member.account, member.device)
            if member.account != account and session is not None and session.seated:
                session.outlet.send(frame)
