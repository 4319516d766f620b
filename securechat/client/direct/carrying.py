"""The thread of one direct link: it meets the other side, carries bytes, and ends (invariant 10).

    meeting     `Door.admit` or `knock`, for OPENING_SECONDS at most
    carrying    their wishes from files of ours, our wishes into what takes them; one of each at a time
                and who types
    over        both have said bye, or something went wrong: `Down` is the last thing that is told

What is carried is ciphertext that an entry of the log names. Nobody here can read it, and whoever takes it checks it.
"""

import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import BinaryIO, Final, TypeAlias

from securechat.client.direct.meeting import Session
from securechat.client.direct.protocol import (
    MAX_DATA,
    OPENING_SECONDS,
    TYPING_SECONDS,
    Came,
    Complete,
    Happening,
    Held,
    Lacking,
    LinkProtocol,
    Opened,
    Over,
    Stopped,
    Typed,
    Wanted,
)
from securechat.errors import SecurechatError
from securechat.transport.deadline import Deadline
from securechat.transport.streaming import RECEIVE_SIZE, receive, send
from securechat.transport.tls_connection import TLSConnection
from securechat.transport.waker import Waker
from securechat.value import value

TOLD_SECONDS: Final = 0.5
"""Between two words on how far a file has come, or has gone."""

PARTING_SECONDS: Final = 2.0
"""For the last bytes to leave: what they would end has ended either way."""


@value
class Up:
    """The link is there."""


@value
class Fetched:
    """All of a wish has come, and been taken."""

    blob: bytes


@value
class Lacked:
    """The other side does not have what we wish, or we have stopped it. Nothing more of it is taken."""

    blob: bytes


@value
class Giving:
    """The other side is getting a blob of ours, and has been sent all up to an offset. Told now and then."""

    blob: bytes
    reached: int


@value
class Given:
    """The other side has all of a blob of ours, and says that it is right."""

    blob: bytes


@value
class Down:
    """The link is over. `reason`: empty if both have said bye, else why, as the end of a sentence."""

    reason: str


News: TypeAlias = Up | Fetched | Lacked | Giving | Given | Typed | Down

Meet: TypeAlias = Callable[[Deadline, Callable[[], bool], Waker], Session]
"""Waits for the other side: until a deadline, or until it is woken and the second one says that nobody wants it now."""


@value
class Wish:
    """A piece of a blob that we want."""

    blob: bytes
    offset: int
    length: int
    take: Callable[[bytes], object]
    """Takes the bytes in order, on the link's thread, as slowly as it likes. OSError ends the link."""


@value
class _Stop:
    blob: bytes


@value
class _Withhold:
    blob: bytes


@value
class _Have:
    blob: bytes


_Order: TypeAlias = Wish | _Stop | _Withhold | _Have


class DirectLink:
    """One link. `start` once. Every method may be called from any thread."""

    def __init__(
        self,
        meet: Meet,
        *,
        listens: bool,
        open_blob: Callable[[bytes], BinaryIO | None],
        deliver: Callable[[News], None],
    ) -> None:
        """`meet` raises SecurechatError. `open_blob` opens a blob that the other side may have, if it is one.

        Both, and `deliver`, are called on the link's thread.
        """
        self._meet = meet
        self._listens = listens
        self._open_blob = open_blob
        self._deliver = deliver
        self._waker = Waker()
        self._closing = threading.Event()
        self._orders = SimpleQueue[_Order]()
        self._typing: bool | None = None  # what is to be said of it; None: nothing
        self._thread = threading.Thread(target=self._run, name="securechat-direct", daemon=True)
        # --- the thread's
        self._wishes: deque[Wish] = deque()  # the first one is asked for, if anything is expected
        self._stopped: Wish | None = None  # the first one, if nobody wants it any more
        self._serving: BinaryIO | None = None  # what they want, at the place that comes next
        self._giving = Giving(b"", 0)  # which it is, and how far it has gone
        self._giving_told = 0.0  # when that was told
        self._typing_due = 0.0  # when we may say again whether we type
        self._served: set[bytes] = set()  # blobs that they have wanted, and not said that they have
        self._over: str | None = None  # why it is over, once it is

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def fetch(self, wish: Wish) -> None:
        """Ask for a piece of a blob, after the wishes before. `Fetched`, `Lacked` or `Down` answers."""
        self._orders.put(wish)
        self._waker.wake()

    def stop(self, blob: bytes) -> None:
        """Take back the wish for a blob, if it is not granted yet: `Lacked` is told, after which nothing is taken."""
        self._orders.put(_Stop(blob))
        self._waker.wake()

    def withhold(self, blob: bytes) -> None:
        """Send no more of a blob that `open_blob` does not open any more."""
        self._orders.put(_Withhold(blob))
        self._waker.wake()

    def have(self, blob: bytes) -> None:
        """Tell the other side that we have all of a blob, and that it is right."""
        self._orders.put(_Have(blob))
        self._waker.wake()

    def type(self, *, typing: bool) -> None:
        """Tell the other side that we type, or have stopped."""
        self._typing = typing
        self._waker.wake()

    def close(self) -> None:
        """Say bye, and end. `Down` follows."""
        self._closing.set()
        self._waker.wake()

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        reason = "it ended by a fault of ours"
        try:
            session = self._meet(Deadline(OPENING_SECONDS), self._closing.is_set, self._waker)
            with session.link:
                reason = self._carry(session)
        except ssl.SSLError:
            reason = "the encryption of the link failed"
        except OSError as error:
            reason = f"the connection was lost ({error.strerror or error})"
        except SecurechatError as error:
            reason = str(error)
        finally:
            if self._serving is not None:
                self._serving.close()
            self._waker.close()
            self._deliver(Down(reason))

    def _carry(self, session: Session) -> str:
        """Carry until the end; return why that is. Raises OSError, SecurechatError."""
        link, tls = session.link, session.tls
        link.settimeout(0)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # we batch ourselves
        protocol = LinkProtocol(listens=self._listens, now=time.monotonic())
        self._process(protocol, protocol.receive_data(session.early, time.monotonic()))
        unsent = memoryview(b"")
        with selectors.DefaultSelector() as selector:
            selector.register(self._waker, selectors.EVENT_READ)
            selector.register(link, selectors.EVENT_READ)
            while True:
                self._obey(protocol)
                if not unsent:
                    self._serve(protocol)
                    for plaintext in protocol.data_to_send(time.monotonic()):
                        tls.write(plaintext)
                    unsent = memoryview(tls.data_to_send())
                unsent = unsent[send(link, unsent) :]
                if self._over is not None:
                    if not self._over:
                        _part(link, tls, unsent)
                    return self._over
                selector.modify(link, selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0))
                at_once = protocol.owed and not unsent
                wait = 0.0 if at_once else max(self._timer(protocol) - time.monotonic(), 0.0)
                ready = {key.fileobj: mask for key, mask in selector.select(wait)}
                if self._waker in ready:
                    self._waker.clear()
                if ready.get(link, 0) & selectors.EVENT_READ:
                    self._read(link, tls, protocol)
                self._process(protocol, protocol.handle_timer(time.monotonic()))

    def _timer(self, protocol: LinkProtocol) -> float:
        waits = self._typing is not None and protocol.state == "open"
        return min(protocol.timer, self._typing_due) if waits else protocol.timer

    def _read(self, link: socket.socket, tls: TLSConnection, protocol: LinkProtocol) -> None:
        received = receive(link)
        if received is None:
            return
        if received:
            self._process(protocol, protocol.receive_data(tls.receive(received), time.monotonic()))
        if not received or tls.ended:
            self._process(protocol, protocol.receive_eof())

    def _obey(self, protocol: LinkProtocol) -> None:
        """Do what other threads want, as far as it can be done now."""
        closing = self._closing.is_set()  # before the orders are taken: earlier ones are obeyed
        while protocol.state == "open" and not self._orders.empty():
            match self._orders.get():  # does not wait: nobody else takes from this queue
                case Wish() as wish:
                    self._wishes.append(wish)
                case _Stop(blob):
                    self._stop_getting(protocol, blob)
                case _Withhold(blob):
                    if self._serving is not None and self._giving.blob == blob:
                        self._stop_serving()
                        self._process(protocol, protocol.lack())
                case _Have(blob):
                    protocol.have(blob)
        typing, now = self._typing, time.monotonic()
        if typing is not None and protocol.state == "open" and now >= self._typing_due:
            self._typing, self._typing_due = None, now + TYPING_SECONDS
            protocol.typing(typing=typing)
        if closing:
            protocol.bye(time.monotonic())
            if protocol.state == "ended" and self._over is None:
                self._over = "it was given up"
        elif protocol.state == "open" and self._wishes and not protocol.expected:
            wish = self._wishes[0]
            protocol.want(wish.blob, wish.offset, wish.length, time.monotonic())

    def _stop_getting(self, protocol: LinkProtocol, blob: bytes) -> None:
        asked = self._wishes[0] if protocol.expected else None  # its place is taken until the other side has heard
        for wish in [each for each in self._wishes if each.blob == blob and each is not self._stopped]:
            if wish is asked:
                protocol.stop()
                self._stopped = wish
            else:
                self._wishes.remove(wish)
            self._deliver(Lacked(blob))

    def _process(self, protocol: LinkProtocol, happenings: Iterable[Happening]) -> None:
        for each in happenings:
            match each:
                case Came(data):
                    self._wishes[0].take(data)
                case Complete():
                    self._deliver(Fetched(self._wishes.popleft().blob))
                case Lacking():
                    if (wish := self._wishes.popleft()) is not self._stopped:
                        self._deliver(Lacked(wish.blob))
                    self._stopped = None
                case Wanted(blob, offset, _):
                    self._open(protocol, blob, offset)
                case Stopped():
                    self._stop_serving()
                    self._process(protocol, protocol.lack())
                case Typed():
                    self._deliver(each)
                case Held(blob):
                    if blob in self._served:  # else nobody waits for it
                        self._served.discard(blob)
                        self._deliver(Given(blob))
                case Opened():
                    self._deliver(Up())
                case Over(reason):
                    self._over = reason

    def _open(self, protocol: LinkProtocol, blob: bytes, offset: int) -> None:
        try:
            self._serving = self._open_blob(blob)
            if self._serving is not None:
                self._served.add(blob)
                self._serving.seek(offset)
                self._giving = Giving(blob, offset)
                self._tell_giving()
        except OSError:
            self._stop_serving()
        if self._serving is None:
            self._process(protocol, protocol.lack())

    def _serve(self, protocol: LinkProtocol) -> None:
        """Send the next part of what they want."""
        if self._serving is None or protocol.state != "open":
            return
        try:
            data = self._serving.read(min(MAX_DATA, protocol.owed))
        except OSError:
            data = b""
        if data:
            protocol.send_data(data, time.monotonic())
            self._giving = Giving(self._giving.blob, self._giving.reached + len(data))
        else:
            self._process(protocol, protocol.lack())
        self._tell_giving()
        if not protocol.owed:
            self._stop_serving()

    def _tell_giving(self) -> None:
        now = time.monotonic()
        if now - self._giving_told >= TOLD_SECONDS:  # however many wishes there are
            self._giving_told = now
            self._deliver(self._giving)

    def _stop_serving(self) -> None:
        if self._serving is not None:
            self._serving.close()
            self._serving = None


def _part(link: socket.socket, tls: TLSConnection, unsent: memoryview) -> None:
    """Let the last bytes out, with the end of TLS, and wait a little until the other side has them."""
    deadline = Deadline(PARTING_SECONDS)
    with contextlib.suppress(OSError):  # TimeoutError is one
        tls.close()
        link.settimeout(deadline.remaining())
        link.sendall(bytes(unsent) + tls.data_to_send())
        link.shutdown(socket.SHUT_WR)
        # Closing while bytes are unread would reset the connection, and the reset could overtake our bye.
        while link.recv(RECEIVE_SIZE):
            link.settimeout(deadline.remaining())
