"""Files by direct links: what is given and fetched past the server, and until when that is spared them.

    send    spared    its message is said, and the other one can have the copy. The server gets it after all if there is
                      no link any more, or if nobody has got any of it for `SPARED_SECONDS`
            had       the other one says that it is whole: neither the copy nor the server is needed any more
    save    by link   what is missing comes by the link, until that ends, or does not have it
            too slow  the server is asked for the next part meanwhile; if it has that, it goes on from there

So a link decides neither what a file is nor whether it arrives. What it has brought is opened and checked as always.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from securechat.client.context import Context
from securechat.client.conversations.registry import Registry
from securechat.client.direct.carrying import Down, Fetched, Given, Giving, Lacked
from securechat.client.direct.links import Fetch, Have, Moved, Share, Stop, Withhold
from securechat.client.files.jobs import Clear
from securechat.client.files.transfer import Transfer
from securechat.wire.blobs import CHUNK_BYTES
from securechat.wire.messages import BlobBytes, FetchBlob, Reply

SPARED_SECONDS: Final = 120.0
"""Without a byte of it going by the link: who is at the screen has saved it by then, and who is not may be there only
when we are gone."""

COMING_SECONDS: Final = 3.0
"""How long an upload waits for a link that is begun for it: two clients that are there need less than one."""

LINK_WORTH: Final = 1 << 20
"""Bytes of a file for which a link is begun: a smaller one is at the server before two clients have met."""

PACE_SECONDS: Final = 30.0
"""Between two looks at how fast a file comes by a link."""

LEAST_DIRECTLY: Final = 4 << 20
"""Bytes in that time below which the server is asked whether it has the file: an upload at 1.2 Mbit/s is as fast."""

HAD_SECONDS: Final = 600.0
"""After a file was saved, until it is told no more: a link that has died is noticed in 30, an upload takes minutes."""

MAX_TRIES: Final = 5
"""Links that have ended with a file half fetched, before it comes by the server alone: theirs may be made to end."""


class Steps(Protocol):
    """What is done with a file otherwise."""

    def copy_of(self, transfer: Transfer) -> Path:
        """Return where its sealed file is."""

    def tell(self, transfer: Transfer) -> None:
        """Tell how far it is."""

    def had(self, transfer: Transfer) -> None:
        """The other one has all of it."""


@dataclass
class _Had:
    """A file that has come by a link, and is saved."""

    conversation: bytes
    link: bytes  # by which that was told; empty: it is still to be told by the server
    until: float  # when nobody needs to be told any more (monotonic)


class Linked:
    """The direct links of all files on their way."""

    def __init__(self, context: Context, registry: Registry, steps: Steps) -> None:
        self._context = context
        self._registry = registry
        self._steps = steps
        self._had: dict[bytes, _Had] = {}  # by blob
        self._stopping: dict[tuple[bytes, bytes], Clear] = {}  # by link and blob: what is done once it writes no more

    # --- one that is sent -----------------------------------------------------------------------------------------

    def begin(self, transfer: Transfer) -> None:
        """A file is sealed: let a link to the other one be made for it, if it is worth that, and they have agreed."""
        conversation = self._registry.get(transfer.row.conversation)
        if conversation is None or transfer.file.size < LINK_WORTH:
            return
        if self._registry.linking.begin_by_itself(conversation):
            transfer.spared = self._now + COMING_SECONDS

    def look(self, transfer: Transfer) -> None:
        """Let a sealed file be had by the link that there is."""
        link = self._up(transfer)
        if self._now >= transfer.spared:
            transfer.spared = 0.0
        if link == transfer.link:
            return
        transfer.link, transfer.spared = link, 0.0
        if link:
            self._context.link_orders.append(Share(link, transfer.file.blob, self._steps.copy_of(transfer)))
            transfer.spared = self._now + SPARED_SECONDS

    def spares(self, transfer: Transfer) -> bool:
        """Whether the server is spared a file for now."""
        if self._now >= transfer.spared:
            return False
        return bool(transfer.link) or self._registry.linking.is_coming(transfer.row.conversation)

    # --- one that is saved ----------------------------------------------------------------------------------------

    def can_fetch(self, transfer: Transfer) -> bool:
        """Whether there is a link by which the rest of a file may come."""
        return bool(self._way(transfer))

    def fetch(self, transfer: Transfer, offset: int) -> None:
        """Get the rest past the server, if there is a link to whoever has sent it."""
        if link := self._way(transfer):
            transfer.link = link
            transfer.paced, transfer.paced_from = self._now + PACE_SECONDS, offset
            rest = transfer.total - offset
            self._context.link_orders.append(
                Fetch(link, transfer.file.blob, self._steps.copy_of(transfer), offset, rest)
            )

    def watch(self, transfer: Transfer) -> None:
        """Ask the server for what comes slowly by a link."""
        if not transfer.link or self._now < transfer.paced:
            return
        slow = transfer.done - transfer.paced_from < LEAST_DIRECTLY
        transfer.paced, transfer.paced_from = self._now + PACE_SECONDS, transfer.done
        where = self._registry.get(transfer.row.conversation)
        if not slow or where is None or not self._registry.connected or transfer.done >= transfer.total:
            return
        attempt, length = transfer.attempt, min(CHUNK_BYTES, transfer.total - transfer.done)

        def take(reply: Reply) -> None:
            if transfer.attempt == attempt and isinstance(reply, BlobBytes) and reply.size == transfer.total:
                transfer.by_server = True
                self._context.link_orders.append(Stop(transfer.link, transfer.file.blob))

        self._context.request(FetchBlob(0, where.id, transfer.file.blob, transfer.done, length), take)

    def stop(self, transfer: Transfer, clear: Clear) -> None:
        """Get no more of a file that comes by a link; `clear` is done once nothing of it is written any more."""
        self._stopping[transfer.link, transfer.file.blob] = clear
        self._context.link_orders.append(Stop(transfer.link, transfer.file.blob))

    def is_whole(self, transfer: Transfer) -> None:
        """Tell whoever has sent a file that it is saved, if it came from them."""
        if not transfer.came_directly:
            return
        link = self._up(transfer)
        if link:
            self._context.link_orders.append(Have(link, transfer.file.blob))
        self._had[transfer.file.blob] = _Had(transfer.row.conversation, link, self._now + HAD_SECONDS)

    def tell_had(self) -> None:
        """Tell by the server what could not be told by a link: else its sender uploads it for nobody."""
        if not self._had or not self._registry.connected:
            return
        self._had = {blob: had for blob, had in self._had.items() if self._now < had.until}
        for blob, had in [*self._had.items()]:
            where = self._registry.get(had.conversation)
            if not had.link and (where is None or self._registry.linking.tell_had(where, blob)):
                del self._had[blob]

    # --- both -----------------------------------------------------------------------------------------------------

    def timer(self, transfer: Transfer) -> float:
        """When to look at a transfer; 0: not because of a link."""
        if transfer.row.kind == "send":
            return transfer.spared
        return transfer.paced if transfer.link else 0.0

    def forget(self, transfer: Transfer) -> None:
        """One that is sent is not given any more: it has arrived, or is given up."""
        if transfer.link:
            self._context.link_orders.append(Withhold(transfer.link, transfer.file.blob))

    def news(self, link: bytes, news: object, running: list[Transfer]) -> None:
        """Something has happened to a direct link."""
        blob = getattr(news, "blob", b"")
        for had in self._had.values():
            if isinstance(news, Down) and had.link == link:
                had.link = b""  # the last that was said by it may not have arrived
        ended = isinstance(news, Down | Fetched | Lacked)
        for each in [each for each in self._stopping if ended and each[0] == link and blob in (b"", each[1])]:
            self._context.jobs.append(self._stopping.pop(each))
        for transfer in running:
            if transfer.link != link or blob not in (b"", transfer.file.blob):
                continue
            if transfer.row.kind == "send":
                self._sent(transfer, news)
            elif isinstance(news, Moved):
                transfer.done = news.reached
                self._steps.tell(transfer)
            elif ended:
                if not isinstance(news, Fetched):
                    transfer.spent, transfer.tries = link, transfer.tries + 1
                    transfer.by_server = transfer.by_server or transfer.tries >= MAX_TRIES
                transfer.came_directly = True
                transfer.wait()

    def _sent(self, transfer: Transfer, news: object) -> None:
        if isinstance(news, Given):
            self._steps.had(transfer)
        elif isinstance(news, Giving):
            if not self.spares(transfer):
                transfer.wait()  # what is on its way to the server is not gone on with
            transfer.spared = self._now + SPARED_SECONDS
            transfer.done = news.reached
            self._steps.tell(transfer)

    def _way(self, transfer: Transfer) -> bytes:
        """Return the link by which the rest of a file may come; empty: there is none."""
        if transfer.by_server or not transfer.file.blob or self._context.vault.history.message(transfer.row.line).own:
            return b""
        link = self._up(transfer)
        return b"" if link == transfer.spent or (link, transfer.file.blob) in self._stopping else link

    def _up(self, transfer: Transfer) -> bytes:
        where = self._registry.get(transfer.row.conversation)
        return b"" if where is None else self._registry.linking.up_with(where.id)

    @property
    def _now(self) -> float:
        return self._context.clock.monotonic()
