"""Inquiries: what has the accepted key of an account signed since, once another one shows itself in its name?

It may have named that one as its successor, or have contested it since; that one can be contested is asked at each
connection, and each hour, as no log of ours may have both keys (design, section 6, Pins). The server can withhold what
there is, and cannot make it up; where it has less than we have seen, that is told.
"""

from typing import Final

from securechat.client import events
from securechat.client.context import Context
from securechat.errors import PeerError
from securechat.identity.statements import Head, Link, Statement, check_chain, decode_link
from securechat.wire.messages import FetchStatements, Reply, Statements

MAX_REPLIES: Final = 4
"""Replies to one inquiry: together as many links as an honest account signs in twenty years."""

_ROLLED_BACK: Final = (
    "The server shows less of what the key of {} has signed than you have seen: it was restored from a backup, or "
    "withholds what is newer. What you have seen counts."
)


class Inquiries:
    """The questions to the server. Lives as long as the client."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def pump(self) -> None:
        """Ask about the keys that something contradicts. Requires a connection; call inside a transaction."""
        while self._context.contradicted:
            account, key = self._context.contradicted.pop()
            chain = self._context.chains.of(account, key)
            self._ask(account, key, 0 if chain is None else chain.newest.seq - 1, MAX_REPLIES)

    def _ask(self, account: str, key: bytes, after: int, replies: int) -> None:
        def answer(reply: Reply) -> None:
            if not isinstance(reply, Statements) or (reply.account, reply.identity_key) != (account, key):
                return
            try:
                links = [self._check(decode_link(each), account, key) for each in reply.links]
            except PeerError as error:
                self._context.emit(events.Alarm("server", b"", f"What the server shows of {account} is false: {error}"))
                return
            known = self._context.chains.of(account, key)
            last = links[-1].seq if links else after
            for link in links:
                if isinstance(link, Statement):
                    self._context.hear(link)
                else:
                    self._context.chains.see(link)
            if reply.more and links and last > after and replies > 1:
                self._ask(account, key, last, replies - 1)
            elif known is not None and last < known.newest.seq:
                self._context.emit(events.Alarm("server", b"", _ROLLED_BACK.format(account)))

        what = f"tell whether the key of {account} that you know has been replaced"
        self._context.errands.run(("statements", account, key), what, FetchStatements(0, account, key, after), answer)

    def _check(self, link: Link, account: str, key: bytes) -> Link:
        """Return a link that is sound by itself, and of that chain. Raises `PeerError`."""
        check_chain([link], Head(link.seq - 1, link.previous), now=self._context.clock.latest())
        if (link.server_id, link.account, link.identity_key) != (self._context.device.row.server_id, account, key):
            raise PeerError("It is of another chain.")
        return link
