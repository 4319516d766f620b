"""Publishing: the chain of our identity key at the server is brought up to ours (docs/design.md, section 6).

Everything is in the vault before it is sent, so that after a crash the same bytes are sent again. The server compares:
where its chain has gone on without us, another program with our identity key has been in, and the user is told.
"""

from collections.abc import Callable
from typing import Final

from securechat.client.context import Context
from securechat.client.device import KEY_PACKAGE_STOCK
from securechat.errors import PeerError
from securechat.identity.statements import EMPTY, Head, Link, check_chain, decode_link
from securechat.wire.limits import MAX_LINKS
from securechat.wire.messages import FetchStatements, Publish, Published, Refused, Reply, Statements

MAX_TOLD: Final = 1000
"""The newest links of another program that are looked at for the user: one that rotates daily makes as many in three
years. The chain itself is taken over whole, or we could never sign behind it."""


class Publishing:
    """What the server has of our chain, on one connection, and how it gets the rest."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.head = EMPTY
        """The server's: how far its chain of our identity key has come."""

    def publish(self, then: Callable[[Published | Refused], None]) -> None:
        """Publish what follows `head` in our chain, with key packages for our newest certificate, and use that one.

        `then` gets the last answer; `chain-moved` also where the server's chain is not a beginning of ours.
        """
        device, now = self._context.device, self._context.clock.seconds()
        links = device.signed_after(self.head)
        if links is None:
            then(Refused(0, "chain-moved", ""))
            return
        links = links or [device.newest.encode()]  # to an honest server that is an old request
        first = len(links) % MAX_LINKS or MAX_LINKS
        links, rest = links[:first], links[first:]
        made: list[bytes] = []
        packages: list[bytes] = []
        last_resort = b""
        heir = device.heir
        newest = device.newest if heir is None else heir.certificate
        if not rest and newest.encode() in links:  # key packages come with their certificate
            packages, last_resort = device.pending_key_packages()
            if not last_resort:
                packages = made = device.make_key_packages(KEY_PACKAGE_STOCK, now)
                (last_resort,) = device.make_key_packages(1, now, last_resort=True)
                made = [*packages, last_resort]

        def answer(reply: Reply) -> None:
            if isinstance(reply, Published):
                self.head = Head.after(decode_link(links[-1]))
            if isinstance(reply, Published) and rest:
                self.publish(then)
            elif isinstance(reply, Published):
                if not reply.enrolled:
                    raise PeerError("the server has another device in its directory than it was given")
                device.use_newest()
                if heir is not None:  # one that was made meanwhile is published next
                    self._context.take_over()
                then(reply)
            elif isinstance(reply, Refused):
                device.forget_key_packages(made)
                then(reply)

        self._context.request(Publish(0, links, packages, last_resort), answer)

    def learn(self, then: Callable[[list[Link] | Refused], None]) -> None:
        """Ask for the server's chain, and take over what ours has not. `then` gets that, empty if there is nothing.

        What we have signed at the same place, and nobody has taken, is dropped. Raises `PeerError` for links that are
        not sound: nobody but a holder of our identity key can make good ones.
        """
        self._learn(max(self._context.device.taken - 1, 0), then, [])

    def _learn(self, after: int, then: Callable[[list[Link] | Refused], None], found: list[Link]) -> None:
        """Ask for what follows the first `after` links of our chain, and for the rest once that is taken over."""
        device = self._context.device

        def answer(reply: Reply) -> None:
            if isinstance(reply, Refused):
                then(reply)
                return
            if not isinstance(reply, Statements):
                return
            links = list(map(decode_link, reply.links))
            if any(each.identity_key != device.identity_key or each.account != device.account for each in links):
                raise PeerError("the server shows another chain than the one that was asked for")
            before = Head.after(device.chain[after - 1]) if after else EMPTY
            follows = bool(links) and (links[0].seq, links[0].previous) == (after + 1, before.digest)
            if after and not found and not follows:
                self._learn(0, then, [])  # it has less, or parted from ours earlier
                return
            head = check_chain(links, before, now=self._context.clock.latest())
            learned = [*found, *device.adopt(links)][-MAX_TOLD:]
            if reply.more and links:
                self._learn(head.seq, then, learned)
                return
            self.head = head
            then(learned)

        self._context.request(FetchStatements(0, device.account, device.identity_key, after), answer)
