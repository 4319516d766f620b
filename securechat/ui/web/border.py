"""The border of the page: what is answered to whom. No sockets here.

Whatever runs on this machine can knock at a port of it, and so can every page in the browser: in the name of its user,
or by a name of its own that leads here (DNS rebinding). So each request has to name this very address as its host, and
this very page as its origin, where it has one. What anybody may have is the empty page, which holds nothing. To the
socket behind it only a key leads, which stands in no address that is sent, kept or logged: the page gets it behind the
`#`, and gives it in the first message. It is good once, and for a while. What the page gets for it is good until the
program ends: it stays in that tab, also when that is loaded again, and goes with it.

The browser is told to load nothing from elsewhere, to run nothing but our script, and to make no markup of any text.
"""

import hmac
import secrets
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final

from websockets.datastructures import Headers, MultipleValuesError
from websockets.http11 import Request, Response

HOST: Final = "127.0.0.1"
"""Where the page is, and nowhere else. No name: those can be made to lead elsewhere."""

SOCKET: Final = "/socket"
"""The path of the socket."""

KEY_SECONDS: Final = 600.0
"""How long the key in an address is good: somebody may have to carry it to the browser by hand."""

MAX_TABS: Final = 16
"""Tabs that can come back after they were loaded again; the one that came first goes first."""

MAX_KEY: Final = 64
"""Characters of a key: they have 43, of 32 random bytes."""

SITE: Final = Path(__file__).parent / "site"
"""The page as it was built."""

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}


class Border:
    """What is at one port."""

    def __init__(self, port: int) -> None:
        """Read the page's files, which are a few small ones. Raises OSError."""
        self.host = f"{HOST}:{port}"
        self.origin = f"http://{self.host}"
        self._files = {f"/{each.name}": each.read_bytes() for each in sorted(SITE.iterdir()) if each.suffix in _TYPES}
        self._headers = {
            "Content-Security-Policy": (
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src blob:; "
                f"connect-src ws://{self.host}{SOCKET}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
                "require-trusted-types-for 'script'; trusted-types 'none'"
            ),
            "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(self), usb=()",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Embedder-Policy": "require-corp",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    def answer(self, request: Request) -> Response | None:
        """Return what is answered; None: it leads to the socket, and the WebSocket's own handshake goes on."""
        try:
            host, origin = request.headers.get("Host"), request.headers.get("Origin")
        except MultipleValuesError:
            return self._say(HTTPStatus.BAD_REQUEST, "A request has one host, and one origin.")
        if host != self.host:
            return self._say(HTTPStatus.MISDIRECTED_REQUEST, f"Nothing but {self.host} is here.")
        if origin not in (None, self.origin):
            return self._say(HTTPStatus.FORBIDDEN, "Another page asks for this.")
        path = request.path.partition("?")[0]
        if path == SOCKET:
            if request.headers.get_all("Upgrade") == []:
                return self._say(HTTPStatus.UPGRADE_REQUIRED, "A WebSocket is here.")
            if origin is None:
                return self._say(HTTPStatus.FORBIDDEN, "Only the page itself comes in here.")
            return None
        if request.method not in ("GET", "HEAD"):
            return self._say(HTTPStatus.METHOD_NOT_ALLOWED, "Nothing can be sent here.")
        name = "/index.html" if path == "/" else path
        if (body := self._files.get(name)) is None:
            return self._say(HTTPStatus.NOT_FOUND, "There is nothing here.")
        return self._respond(HTTPStatus.OK, _TYPES[Path(name).suffix], b"" if request.method == "HEAD" else body)

    def _say(self, status: HTTPStatus, text: str) -> Response:
        return self._respond(status, _TYPES[".txt"], f"{text}\n".encode())

    def _respond(self, status: HTTPStatus, kind: str, body: bytes) -> Response:
        headers = Headers(self._headers)
        headers["Content-Type"] = kind
        headers["Content-Length"] = str(len(body))
        headers["Connection"] = "close"
        if status == HTTPStatus.UPGRADE_REQUIRED:
            headers["Upgrade"] = "websocket"
        return Response(status.value, status.phrase, headers, body)


class Keys:
    """What leads to the socket. Not a secret of the account: it is good as long as this program runs."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: monotonic seconds."""
        self._clock = clock
        self._once = ""
        self._until = 0.0
        self._tabs: deque[str] = deque(maxlen=MAX_TABS)

    def __repr__(self) -> str:
        """Say nothing of them."""
        return "Keys(...)"

    def make(self) -> str:
        """Return a key that is good once. The one before is good no more."""
        self._once, self._until = secrets.token_urlsafe(32), self._clock() + KEY_SECONDS
        return self._once

    def redeem(self, key: str) -> str:
        """Return what a tab gets for a key that is good once; empty: this one is not, or no more."""
        good = hmac.compare_digest(key.encode(), self._once.encode()) and self._clock() < self._until
        if not (self._once and good):
            return ""
        self._once = ""
        self._tabs.append(secrets.token_urlsafe(32))
        return self._tabs[-1]

    def knows(self, tab: str) -> bool:
        """Whether a tab may come back with this."""
        return any(hmac.compare_digest(tab.encode(), each.encode()) for each in self._tabs)
