"""The page's server, on loopback: lets browsers in as far as the border says, one page at a time behind it.

Each connection has a thread. The page that came last is the one that is served: the one before is told so and ends, for
two would each read and type for the same person. It can be had back there by one press.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Full, Queue
from time import monotonic
from typing import Final

import msgspec

from securechat.errors import UsageError
from securechat.ui.web.border import HOST, MAX_KEY, Border, Keys
from securechat.ui.web.connection import Connection, Gone
from securechat.value import value

MAX_CONNECTIONS: Final = 32
"""At once: a browser opens six for one page, and those that are not let in have some seconds."""

WAITING: Final = 16
"""Connections that the system keeps until one is taken."""

RETRY_SECONDS: Final = 1.0
"""When the system has refused to let anybody in, the next time."""

MAX_UNREAD: Final = 1000
"""Texts that wait for a page: then it is cut off, and gets all anew when it comes back."""

MAX_UNHANDLED: Final = 16
"""Messages of a page that wait to be handled: it is not listened to while there are more. They take 8 MiB."""

NO_KEY: Final = 4401
ELSEWHERE: Final = 4409
ENDED: Final = 4410
"""Close codes that the page knows: it does not come back by itself after these (RFC 6455, section 7.4.2)."""

WHY_NO_KEY: Final = "This address is used up or too old. Get a new one where securechat web runs."
WHY_ELSEWHERE: Final = "This chat goes on in another tab."
WHY_ENDED: Final = "securechat web has ended."


class _Knock(msgspec.Struct, forbid_unknown_fields=True):
    """The first message: either a key that is good once, or what a tab has got for one."""

    key: str = ""
    tab: str = ""


_knock: Final = msgspec.json.Decoder(_Knock)


class Page:
    """A page that was let in."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._out: Queue[bytes | None] = Queue(MAX_UNREAD)
        self._free = threading.Semaphore(MAX_UNHANDLED)
        self._why = (ENDED, WHY_ENDED)

    def put(self, text: bytes) -> None:
        """Have a text sent. Does not wait."""
        try:
            self._out.put_nowait(text)
        except Full:
            self._connection.cut()

    def wait_for_room(self) -> None:
        """Wait until what the page has said was handled, but for a few messages."""
        self._free.acquire()

    def handled(self) -> None:
        """One of its messages was."""
        self._free.release()

    def end(self, code: int, why: str) -> None:
        """Say goodbye, behind what is still to be sent."""
        self._why = code, why
        try:
            self._out.put_nowait(None)
        except Full:
            self._connection.cut()

    def write(self) -> None:
        """Send what is to be sent, until the page is gone."""
        try:
            while (text := self._out.get()) is not None:
                self._connection.send(text)
        except Gone:
            self._connection.cut()
        else:
            self._connection.end(*self._why)


@value
class Came:
    """A page is served from now on, and no other."""

    page: Page


@value
class Told:
    """What the page says."""

    page: Page
    message: str | bytes


@value
class Left:
    """A page has gone."""

    page: Page


class Server:
    """One port of loopback."""

    def __init__(self, port: int, put: Callable[[Came | Told | Left], object], clock: Callable[[], float] = monotonic):
        """`port`: 0: any. `put`: takes what happens, from any thread, and does not wait.

        Raises `UsageError` if the port cannot be had, OSError if the page's files cannot be read.
        """
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._listener.bind((HOST, port))
            self._listener.listen(WAITING)
        except OSError as error:
            self._listener.close()
            raise UsageError(f"Port {port} of this machine cannot be had: {error.strerror}. Choose another.") from None
        self._border = Border(self._listener.getsockname()[1])
        self._keys = Keys(clock)
        self._put = put
        self._changed = threading.Lock()
        self._inside: set[Connection] = set()
        self._page: Page | None = None
        self._closed = threading.Event()

    def address(self) -> str:
        """Return an address that lets one page in; the one before does no more."""
        return f"{self._border.origin}/#{self._keys.make()}"

    def start(self) -> None:
        """Let browsers in."""
        threading.Thread(target=self._accept, name="page-door", daemon=True).start()

    def close(self) -> None:
        """Let nobody in any more, and tell the page so."""
        self._closed.set()
        with suppress(OSError):  # wakes the thread that accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._changed:
            if self._page is not None:
                self._page.end(ENDED, WHY_ENDED)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                taken, _ = self._listener.accept()
            except OSError:  # it is closed, or there is no descriptor left
                self._closed.wait(RETRY_SECONDS)
                continue
            connection = Connection(taken)
            with self._changed:
                full = len(self._inside) >= MAX_CONNECTIONS
                if not full:
                    self._inside.add(connection)
            if full:
                connection.close()
                continue
            try:
                threading.Thread(target=self._serve, args=(connection,), name="page", daemon=True).start()
            except RuntimeError:  # the system allows no more threads
                self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        with self._changed:
            self._inside.discard(connection)
        connection.close()

    def _serve(self, connection: Connection) -> None:
        try:
            request = connection.request()
            if (response := self._border.answer(request)) is not None:
                connection.respond(response)
            elif connection.accept(request):
                self._talk(connection)
        except Gone:
            pass
        finally:
            self._forget(connection)

    def _talk(self, connection: Connection) -> None:
        """Listen to a page. Raises `Gone`."""
        messages = connection.messages()
        tab = self._let_in(next(messages, ""))
        if not tab:
            connection.end(NO_KEY, WHY_NO_KEY)
            for _ in messages:  # until it has heard that
                pass
            return
        connection.let_in()
        page = Page(connection)
        page.put(msgspec.json.encode({"method": "welcome", "params": {"tab": tab}}))
        writer = threading.Thread(target=page.write, name="page-writer", daemon=True)
        writer.start()
        with self._changed:
            before, self._page = self._page, page
            self._put(Came(page))
        if before is not None:
            before.end(ELSEWHERE, WHY_ELSEWHERE)
        try:
            for message in messages:
                page.wait_for_room()
                self._put(Told(page, message))
        finally:
            with self._changed:
                if self._page is page:
                    self._page = None
                self._put(Left(page))
            page.end(ENDED, "")
            writer.join()

    def _let_in(self, first: str | bytes) -> str:
        """Return what this tab comes back with; empty: it has shown no key."""
        try:
            knock = _knock.decode(first)
        except msgspec.MsgspecError:
            return ""
        if max(len(knock.key), len(knock.tab)) > MAX_KEY or not (knock.key + knock.tab).isascii():
            return ""
        if knock.tab and self._keys.knows(knock.tab):
            return knock.tab
        return self._keys.redeem(knock.key)
