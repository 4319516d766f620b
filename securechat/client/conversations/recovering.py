"""Recovering: a way back where the handshakes from our state on are gone (docs/design.md, section 6, Following).

    open room              the newest GroupInfo: whoever runs the server can walk in there anyway. In the room of a
                           restored server it is taken though its epoch is lower than ours
    others, after 30 days  a checkpoint of somebody who owned the room in our trusted state, or of the peer: GroupInfo
                           and tree of a commit of theirs. The handshakes from there on are walked
    else                   we wait: the server may have lost them for a while only

The table of doors judges what is found (`doors.table`). Our trusted state stays until we are in.
"""

from securechat.client.backoff import Backoff
from securechat.client.conversations import bases, offers, phases, resync, verdicts
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.walking import Base
from securechat.client.doors.checks import GONE_SECONDS
from securechat.errors import PeerError
from securechat.wire.messages import RETRYABLE, FetchCheckpoints, FromClient, Refused, Reply, Resync


class Recovering:
    """The search for a way back into one conversation. Lives as long as one connection."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._context = conversation.context
        self._asking = self._over = False
        self.backoff = Backoff(self._context.clock.monotonic)

    def pump(self) -> None:
        """Ask, if nobody has been asked on this connection. Call inside a transaction."""
        row = self._conversation.row
        if self._asking or self._over or self.backoff.waiting or row.phase not in phases.WAITING:
            return
        if self._conversation.denied:
            return  # who is not in it gets nothing there
        if row.kind == "open":
            self._ask(Resync(0, row.id))
        elif row.phase == "cut-off" and self._context.clock.seconds() - row.followed // 1000 > GONE_SECONDS:
            self._ask(FetchCheckpoints(0, row.id))

    def _ask(self, request: FromClient) -> None:
        self._asking = True

        def answer(reply: Reply) -> None:
            self._asking = False
            conversation = self._conversation
            self._context.touched.add(conversation.id)
            if conversation.row.phase not in phases.WAITING:
                return
            if isinstance(reply, Refused) and reply.code in RETRYABLE:
                self.backoff.wait(reply.retry_after / 1000)
                return
            self._over = True
            found = self._find(reply)
            if found is not None:
                resync.recover(conversation, found)
            else:
                verdicts.look(conversation, "lost" if conversation.row.phase == "ahead" else "gone", "none")

        self._context.request(request, answer)

    def _find(self, reply: Reply) -> Base | None:
        """Return the first state that may be walked from, if any."""
        try:
            return bases.first(self._conversation, reply, self._judge)
        except PeerError:
            return None

    def _judge(self, base: Base) -> None:
        """Raise `PeerError` if the table does not let us in."""
        verdict = offers.judge_base(self._conversation, base, base.group, steps=())
        if not verdict.lets_in and verdict.action != "rotate":  # which comes where the walk from there ends
            raise PeerError(verdict.why)
