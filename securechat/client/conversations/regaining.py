"""Regaining: a new device of ours finds its way to where a lost one was, on the word that its keepsake names.

    rooms with owners   the checkpoints, or else the newest GroupInfo, of somebody who owned the room by the keepsake
    direct ones         the same, of either of the two; nobody else may be in it
    other open rooms    the newest GroupInfo: whoever runs the server can walk in there anyway

The handshakes from there on are walked, and where the walk ends the epoch is not below the one in the keepsake. Then
our own external commit replaces the lost device's leaf. The table of doors judges all of that (`doors.table`). What the
keepsake does not bear out is not entered, and told; each new connection tries again. docs/design.md, section 6,
Recovery.
"""

from securechat.client.backoff import Backoff
from securechat.client.conversations import bases, offers, resync, standstill
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.walking import Base
from securechat.errors import PeerError, sentence
from securechat.wire.messages import RETRYABLE, FetchCheckpoints, FromClient, Refused, Reply, Resync


class Regaining:
    """The search for a state to enter one conversation from. Lives as long as one connection."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._context = conversation.context
        self._asking = False
        self._asked_for_offer = False
        self._why = ""
        self.backoff = Backoff(self._context.clock.monotonic)

    def pump(self) -> None:
        """Ask, if nothing is on its way. Call inside a transaction."""
        conversation = self._conversation
        if self._asking or self.backoff.waiting or conversation.row.phase != "recovered" or conversation.unregained:
            return
        if not self._asked_for_offer and self._context.vault.anchors.load(conversation.id):
            self._ask(FetchCheckpoints(0, conversation.id))
        else:
            self._asked_for_offer = True
            self._ask(Resync(0, conversation.id))

    def _ask(self, request: FromClient) -> None:
        self._asking = True

        def answer(reply: Reply) -> None:
            self._asking = False
            conversation = self._conversation
            self._context.touched.add(conversation.id)
            if conversation.row.phase != "recovered":
                return  # somebody has let us in meanwhile
            if isinstance(reply, Refused) and reply.code in RETRYABLE:
                self.backoff.wait(reply.retry_after / 1000)
            elif (base := self._find(reply)) is not None:
                resync.recover(conversation, base)
            elif not self._asked_for_offer:
                self._asked_for_offer = True
            else:
                standstill.not_regained(conversation, self._why or "The server offers no way in.")

        self._context.request(request, answer)

    def _find(self, reply: Reply) -> Base | None:
        """Return the first state that may be walked from, if any."""
        if isinstance(reply, Refused):
            self._why = f"The server says: {sentence(reply.text)}"
            return None
        try:
            return bases.first(self._conversation, reply, self._judge)
        except PeerError as error:
            self._why = f"What the server offers is refused: {sentence(str(error))}"
            return None

    def _judge(self, base: Base) -> None:
        """Raise `PeerError` if the table does not let us walk from there."""
        verdict = offers.may_walk_from(self._conversation, base)
        if not verdict.lets_in:
            raise PeerError(f"what is missing: {verdict.why}")
