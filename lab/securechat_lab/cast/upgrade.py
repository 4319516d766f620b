"""The chat of old with an upgrade: a server that takes STARTTLS, a client that asks for it, and somebody on the way.

    server    * hello, STARTTLS
    client    STARTTLS
    server    * go ahead                and what follows is TLS, on the same connection
              * what?                   to every other line but a LOGIN

Inside, and after a LOGIN in the clear, it is the chat of old (`old_chat`). What server and client do at each step is a
rule, so that it can be a weak one: here are those that leave nothing out.
"""

import contextlib
import select
import socket
import ssl
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from securechat_lab.cast.listener import Listener
from securechat_lab.cast.live import PATIENCE
from securechat_lab.cast.old_chat import MAX_LINE, OldChat

GREETING: Final = "* hello, STARTTLS"
GO_AHEAD: Final = "* go ahead"
WHAT: Final = "* what?"
MAX_STEPS: Final = 32
"""Steps before the login: an upgrade takes three."""
MAX_ROUNDS: Final = 200
"""Times that something comes in the clear over one connection: then it ends, so that two cannot talk for ever."""

_TLS: Final = b"\x16"
"""The first byte of whoever begins TLS (RFC 8446, section 5.1)."""
_CHUNK: Final = 1 << 16

ServerRule = Callable[[str, bytes], bool]
"""From the first line that means something, STARTTLS or a LOGIN, and what came right behind it, to whether it is taken.

If not, the connection ends.
"""

ClientRule = Callable[[str, str, bytes], str]
"""From what has happened, the line, and what came right behind it, to what the client does now.

It happens that the `greeting` comes, an `answer` to STARTTLS; that the handshake has `failed`, or is `secure`.
Then it may say STARTTLS (`upgrade`), begin TLS (`handshake`), `login`, or `leave`; `login` after a failure is on a new
connection, in the clear.
"""


def server_takes(line: str, rest: bytes) -> bool:
    """Take no login in the clear, and nothing that came before TLS."""
    return line == "STARTTLS" and not rest


def client_does(event: str, line: str, rest: bytes) -> str:
    """Ask whatever the greeting says, go on only into TLS, and with nothing from before it."""
    if event == "greeting":
        return "upgrade"
    if event == "answer" and line == GO_AHEAD and not rest:
        return "handshake"
    return "login" if event == "secure" else "leave"


class _Lines:
    """What comes over a connection, by lines; TLS may begin between two of them."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.link.settimeout(PATIENCE)
        self.rest = b""
        """What has come behind the line that was read last."""

    def read(self) -> str:
        """Return the next line. Raises `OSError` at the end, and where none can come."""
        while b"\n" not in self.rest and len(self.rest) < MAX_LINE and self.rest[:1] != _TLS:
            data = self.link.recv(_CHUNK)
            if not data:
                raise ConnectionError("the end")
            self.rest += data
        if self.rest[:1] == _TLS or b"\n" not in self.rest:
            raise ConnectionError("no line")
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode(errors="replace").rstrip()

    def say(self, *lines: str) -> None:
        """Send lines."""
        self.link.sendall("".join(f"{line}\n" for line in lines).encode())


class UpgradingChat(Listener):
    """The server; a context manager. `chat` is what it leads to."""

    def __init__(self, context: ssl.SSLContext, takes: ServerRule = server_takes) -> None:
        """`context` presents its certificate."""
        super().__init__()
        self.chat = OldChat()
        self._context = context
        self._takes = takes

    def __enter__(self) -> Self:
        """Begin."""
        self.chat.__enter__()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        super().__exit__(kind, error, trace)
        self.chat.__exit__(kind, error, trace)

    def serve(self, link: socket.socket) -> None:
        """Greet, upgrade, and hand on."""
        lines = _Lines(link)
        lines.say(GREETING)
        for _ in range(MAX_STEPS):
            line = lines.read()
            if line == "STARTTLS" or line.startswith("LOGIN "):
                break
            lines.say(WHAT)
        if not self._takes(line, lines.rest):
            return
        with socket.create_connection(("127.0.0.1", self.chat.port)) as inner:
            inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if line != "STARTTLS":
                inner.sendall(f"{line}\n".encode() + lines.rest)
                _hand_on(link, inner)
                return
            lines.say(GO_AHEAD)
            with self._context.wrap_socket(link, server_side=True) as tls:
                inner.sendall(lines.rest)  # the mistake of many (CVE-2011-0411), unless the rule forbids it
                _hand_on(tls, inner)


def _hand_on(one: socket.socket, other: socket.socket) -> None:
    """Relay between two connections until either ends, in one thread."""
    while True:
        ready = [one] if isinstance(one, ssl.SSLSocket) and one.pending() else select.select([one, other], [], [])[0]
        for side in ready:
            data = side.recv(_CHUNK)
            if not data:
                return
            (other if side is one else one).sendall(data)


def talk(port: int, context: ssl.SSLContext, does: ClientRule, name: str, password: str, text: str) -> list[str]:
    """Be a client: log in, say one message, and leave. Return what was on the screen, up to "processed"."""
    screen: list[str] = []
    with contextlib.suppress(OSError), contextlib.ExitStack() as open_links:

        def connect() -> _Lines:
            link = open_links.enter_context(socket.create_connection(("127.0.0.1", port)))
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _Lines(link)

        lines = connect()
        event, line = "greeting", lines.read()
        for _ in range(MAX_STEPS):
            step = does(event, line, lines.rest)
            if step == "upgrade":
                lines.say("STARTTLS")
                event, line = "answer", lines.read()
            elif step == "handshake" and event != "secure":
                event, line = "secure", ""
                try:
                    lines.link = open_links.enter_context(context.wrap_socket(lines.link, server_hostname="localhost"))
                except OSError:
                    event = "failed"
            else:
                break
        if step == "login":
            if event == "failed":
                lines = connect()
                lines.read()
            lines.say(f"LOGIN {name} {password}")
            for sign in ("* welcome", "* processed"):
                while not (screen and screen[-1].startswith(sign)):
                    screen.append(lines.read())
                if sign == "* welcome":
                    lines.say(text, ".")
    return screen


Relay = Callable[[str, str], Sequence[tuple[str, str]]]
"""From who has said a line in the clear, `client` or `server`, and the line, to what is relayed: to whom, and which."""


def as_it_is(sender: str, line: str) -> list[tuple[str, str]]:
    """Relay honestly."""
    return [("server" if sender == "client" else "client", line)]


class Middle(Listener):
    """Somebody on the way to the server at `upstream`. Once a client begins TLS, it can only hand on."""

    def __init__(self, upstream: int, relay: Relay = as_it_is) -> None:
        super().__init__()
        self.heard: list[tuple[str, str]] = []
        """What was said in the clear: by whom, and the line."""
        self.passed = bytearray()
        """Every byte, both ways."""
        self._upstream = upstream
        self._relay = relay

    def serve(self, link: socket.socket) -> None:
        """Relay line by line."""
        with socket.create_connection(("127.0.0.1", self._upstream)) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sides = {link: ("client", bytearray()), server: ("server", bytearray())}
            for _ in range(MAX_ROUNDS):
                for side in select.select([link, server], [], [])[0]:
                    data = side.recv(_CHUNK)
                    self.passed += data
                    if not data:
                        return
                    name, waiting = sides[side]
                    if name == "client" and not waiting and data[:1] == _TLS:
                        server.sendall(data)
                        self._watch(link, server)
                        return
                    waiting += data
                    while b"\n" in waiting:
                        line, _, rest = bytes(waiting).partition(b"\n")
                        waiting[:] = rest
                        if not self._tell(name, line.decode(errors="replace").rstrip(), link, server):
                            return

    def _tell(self, name: str, line: str, link: socket.socket, server: socket.socket) -> bool:
        """Relay what the hook says; False: nothing, and the connection ends."""
        self.heard.append((name, line))
        told = self._relay(name, line)
        for to, side in (("client", link), ("server", server)):  # at once: what follows comes right behind
            side.sendall("".join(f"{each}\n" for whom, each in told if whom == to).encode())
        return bool(told)

    def _watch(self, link: socket.socket, server: socket.socket) -> None:
        """Hand on what cannot be read."""
        while True:
            for side in select.select([link, server], [], [])[0]:
                data = side.recv(_CHUNK)
                self.passed += data
                if not data:
                    return
                (server if side is link else link).sendall(data)
