"""What is forwarded once to those who are there now, and kept nowhere: that somebody types, for example.

Nothing of it is answered: where it does not go, it is dropped.
"""

from typing import Final

from securechat.errors import RefusedError
from securechat.server.rate import Rate
from securechat.server.rates import Bucket, RateLimiter
from securechat.server.sequencer.conversation import Conversations
from securechat.server.sequencer.reading import is_full
from securechat.server.sequencer.session import Session, Sessions
from securechat.server.sequencer.turn import Turn
from securechat.wire.frames import encode_frame
from securechat.wire.limits import MAX_EPHEMERAL_MEMBERS
from securechat.wire.messages import Ephemeral

AT_ONCE: Final = 20
"""Of one session, at once: somebody types here and there."""

PER_SECOND: Final = 1
"""The same, in the long run: an honest program sends one in three seconds while its user types."""


class Ephemerals:
    """Requires holding the turn."""

    def __init__(self, turn: Turn, conversations: Conversations, sessions: Sessions) -> None:
        self._turn = turn
        self._conversations = conversations
        self._sessions = sessions
        self._limiter = RateLimiter(Rate(AT_ONCE, PER_SECOND), "")

    def forward(self, session: Session, message: Ephemeral) -> None:
        """Handle `Ephemeral`."""
        if session.ephemerals is None:
            session.ephemerals = Bucket(self._limiter)
        try:
            session.ephemerals.take(self._turn.now)
            conversation = self._conversations.find(message.conversation, self._turn.now)
            conversation.member(session)
        except RefusedError:
            return
        members = conversation.present
        if len(members) > MAX_EPHEMERAL_MEMBERS:
            return
        frame = encode_frame(message)
        for member in members:
            reader = self._sessions.find(member.account, member.device)
            if reader is None or reader is session or not reader.seated or is_full(reader.outlet):
                continue
            reader.outlet.send(frame)
