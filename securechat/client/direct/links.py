"""The direct links of one client: what its engine wants of them is carried out here, and what comes of it told.

The engine does no I/O, so it gives orders; its driver hands them over, once what led to them is on disk, and takes back
what has happened. Each link has a thread of its own (`carrying`), and nothing here waits.
"""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO, Final, TypeAlias

from securechat.client.direct.carrying import TOLD_SECONDS, DirectLink, Down, Fetched, Lacked, Meet, News, Wish
from securechat.client.direct.endpoints import Endpoint, Network
from securechat.client.direct.meeting import Door, Session, knock
from securechat.client.direct.offers import Answer, Offer
from securechat.errors import StorageError, UnreachableError
from securechat.files import PRIVATE, make_private_folder
from securechat.transport.deadline import Deadline
from securechat.transport.mutual import Credential, MutualTLS, make_credential
from securechat.transport.waker import Waker
from securechat.value import value

MAX_LINKS: Final = 8
"""Links of one client at once, those included whose other side has not come: a thread and a few files each."""

_WRITE: Final[int] = os.O_WRONLY | os.O_CREAT | sum(
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY")
)


@value
class Listen:
    """Listen for a link, and say where: an `Offer` comes of it. `wide`: also at public addresses."""

    link: bytes
    wide: bool


@value
class Admit:
    """Let in whoever has this certificate."""

    link: bytes
    certificate: bytes


@value
class Knock:
    """Connect to whoever has this certificate, once the answer is said: an `Answer` comes of it first.

    `offered`: what the offer calls the link. The answer repeats it, and nothing is found by it: others chose it.
    """

    link: bytes
    offered: bytes
    certificate: bytes
    endpoints: tuple[Endpoint, ...]
    wide: bool

    def __repr__(self) -> str:
        """Show no address."""
        return "Knock(...)"


@value
class Share:
    """Let the other side of a link have a blob, whose bytes are in a file."""

    link: bytes
    blob: bytes
    file: Path


@value
class Withhold:
    """Do not let them have it any more, nor the rest of what they are getting of it."""

    link: bytes
    blob: bytes


@value
class Fetch:
    """Get a piece of a blob, and write it to a file from the same offset on. `Fetched` or `Lacked` comes of it."""

    link: bytes
    blob: bytes
    file: Path
    offset: int
    length: int


@value
class Stop:
    """Get no more of a blob: `Lacked` comes of it, unless it has come to another end. Its file is closed then."""

    link: bytes
    blob: bytes


@value
class Type:
    """Tell the other side that our user types, or has stopped."""

    link: bytes
    typing: bool


@value
class Have:
    """Tell the other side that we have all of a blob, and that it is right."""

    link: bytes
    blob: bytes


@value
class Close:
    """End a link."""

    link: bytes


Order: TypeAlias = Listen | Admit | Knock | Share | Withhold | Fetch | Stop | Have | Type | Close


@value
class Moved:
    """So many bytes of a blob are in its file; it goes on."""

    blob: bytes
    reached: int


Told: TypeAlias = tuple[bytes, Offer | Answer | Moved | News]
"""The id of a link, which our engine has drawn, and what has happened to it. After `Down` there is no such link."""


@value
class _Open:
    """A door that stands open, and who we are there."""

    door: Door
    credential: Credential


class _File:
    """A file that a link writes to."""

    def __init__(self, path: Path, offset: int) -> None:
        """Raises StorageError."""
        self.reached = offset
        self._told = time.monotonic()
        try:
            make_private_folder(path.parent)
            self._file = os.fdopen(os.open(path, _WRITE, PRIVATE), "wb", buffering=0)
            self._file.truncate(offset)
            self._file.seek(offset)
        except OSError as error:
            raise _refused(error) from error

    def append(self, data: bytes) -> bool:
        """Write what comes next. Return whether it is time to tell how far it is. Raises StorageError."""
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise _refused(error) from error
        self.reached += len(data)
        now = time.monotonic()
        due = now - self._told >= TOLD_SECONDS
        self._told = now if due else self._told
        return due

    def close(self) -> None:
        self._file.close()


def _refused(error: OSError) -> StorageError:
    return StorageError(f"the disk refuses it: {error.strerror or error}")


class Links:
    """All links of one client. One thread at a time."""

    def __init__(self, network: Network, wake: Callable[[], None]) -> None:
        """`wake` has the driver look at `take`; it is called on the links' threads."""
        self._network = network
        self._wake = wake
        self._told = SimpleQueue[Told]()
        self._doors: dict[bytes, _Open] = {}
        self._links: dict[bytes, DirectLink] = {}
        self._shared: dict[tuple[bytes, bytes], Path] = {}  # by link and blob; read by the links' threads
        self._files: dict[bytes, _File] = {}  # what a link writes to now, by the link; of the links' threads

    def carry_out(self, order: Order, server: str) -> None:
        """Do what the engine wants. `server`: the address of our server; empty: it is not known now."""
        try:
            match order:
                case Listen():
                    self._listen(order, server)
                case Admit():
                    self._admit(order)
                case Knock():
                    self._knock_at(order)
                case Share():
                    self._shared[order.link, order.blob] = order.file
                case Withhold():
                    self._shared.pop((order.link, order.blob), None)
                    if (running := self._links.get(order.link)) is not None:
                        running.withhold(order.blob)
                case Fetch():
                    self._fetch(order)
                case Stop(link, blob) if link in self._links:
                    self._links[link].stop(blob)
                case Have(link, blob) if link in self._links:
                    self._links[link].have(blob)
                case Type(link, typing) if link in self._links:
                    self._links[link].type(typing=typing)
                case Close():
                    self._end(order.link)
        except (OSError, UnreachableError) as error:
            self._tell(order.link, Down(str(error)))

    def take(self) -> list[Told]:
        """Return what has happened since the last call."""
        taken: list[Told] = []
        while not self._told.empty():
            link, news = self._told.get()  # does not wait: nobody else takes from this queue
            if isinstance(news, Down):
                self._links.pop(link, None)
                for shared in [each for each in self._shared if each[0] == link]:
                    del self._shared[shared]
            taken.append((link, news))
        return taken

    def close(self) -> None:
        """End them all. Nothing is waited for."""
        for link in [*self._doors, *self._links]:
            self._end(link)

    def _listen(self, order: Listen, server: str) -> None:
        self._check_room()
        addresses = self._network.told(server, wide=order.wide)
        door = Door(addresses)
        endpoints = door.endpoints(addresses)
        if not endpoints:
            raise UnreachableError("this machine has no address that may be told")
        self._doors[order.link] = _Open(door, make_credential())
        self._tell(order.link, Offer(order.link, self._doors[order.link].credential.certificate, tuple(endpoints)))

    def _admit(self, order: Admit) -> None:
        if (there := self._doors.pop(order.link, None)) is None:
            raise UnreachableError("nobody listens for it any more")

        def meet(deadline: Deadline, closing: Callable[[], bool], waker: Waker) -> Session:
            try:
                tls = MutualTLS(there.credential, order.certificate, listens=True)
            except BaseException:
                there.door.close()
                raise
            return there.door.admit(tls, deadline, closing, waker)

        self._begin(order.link, meet, listens=True)

    def _knock_at(self, order: Knock) -> None:
        self._check_room()
        endpoints = self._network.allowed(order.endpoints, wide=order.wide)
        if not endpoints:
            raise UnreachableError("they are at no address to which you let this client connect")
        credential = make_credential()

        def meet(deadline: Deadline, _closing: Callable[[], bool], _waker: Waker) -> Session:
            return knock(MutualTLS(credential, order.certificate, listens=False), endpoints, deadline)

        self._tell(order.link, Answer(order.offered, credential.certificate))
        self._begin(order.link, meet, listens=False)

    def _begin(self, link: bytes, meet: Meet, *, listens: bool) -> None:
        open_blob, deliver = partial(self._open_blob, link), partial(self._tell, link)
        made = DirectLink(meet, listens=listens, open_blob=open_blob, deliver=deliver)
        self._links[link] = made
        made.start()

    def _end(self, link: bytes) -> None:
        if (there := self._doors.pop(link, None)) is not None:
            there.door.close()
            self._tell(link, Down("it was given up"))
        if (running := self._links.get(link)) is not None:
            running.close()

    def _check_room(self) -> None:
        if len(self._doors) + len(self._links) >= MAX_LINKS:
            raise UnreachableError(f"there are {MAX_LINKS} links already")

    def _fetch(self, order: Fetch) -> None:
        if (running := self._links.get(order.link)) is None:
            self._tell(order.link, Lacked(order.blob))
        else:
            running.fetch(Wish(order.blob, order.offset, order.length, partial(self._write, order)))

    # --- the links' threads ---------------------------------------------------------------------------------------

    def _write(self, order: Fetch, data: bytes) -> None:
        if (file := self._files.get(order.link)) is None:
            file = self._files[order.link] = _File(order.file, order.offset)
        if file.append(data):
            self._tell(order.link, Moved(order.blob, file.reached))

    def _open_blob(self, link: bytes, blob: bytes) -> BinaryIO | None:
        path = self._shared.get((link, blob))
        return None if path is None else path.open("rb")

    def _tell(self, link: bytes, news: Offer | Answer | Moved | News) -> None:
        if isinstance(news, Fetched | Lacked | Down) and (file := self._files.pop(link, None)) is not None:
            file.close()
        self._told.put((link, news))
        self._wake()
