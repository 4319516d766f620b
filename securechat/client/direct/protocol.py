"""`securechat-link/1` as a machine without I/O: plaintext of TLS in, happenings out, plaintext to send.

    frame   type (1 byte), length of the body (4 bytes, big-endian), body

    type       body                                     says
    1 hello    version (2)                              first the listener, then the one who connected
    2 want     blob (16), offset (8), length (8)        send me these bytes of a blob that an entry names
    3 data     bytes                                    the next ones of those that you want
    4 lack                                              I have not, or not any more, what you want
    5 have     blob (16)                                I have all of it, and it is what the entry says
    6 ping                                              I am here
    7 bye                                               I want nothing more; the end once both have said it
    8 stop                                              I do not want the rest of it: answer with lack
    9 typing   1: types, 0: has stopped (1)             that is nobody's record

After the hellos both sides are alike. Each wants one piece at a time, and gets exactly as many bytes as it wants. In
TLS 1.3 whoever connects takes the connection for established before the listener has seen their certificate, so
nothing is said before the listener's hello. `TRANSITIONS` is the table of what may come when; docs/direct-link.md has
the limits and their reasons.
"""

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from securechat.errors import PeerError, UsageError
from securechat.value import value
from securechat.wire.limits import BLOB_ID_LENGTH

VERSION: Final = 1

MAX_DATA: Final = 256 << 10
"""Bytes of blob in one frame: sixteen TLS records, so that the frames cost little."""

MAX_POSITION: Final = (1 << 63) - 1
"""Bytes: where what is wanted of a blob may end."""

OPENING_SECONDS: Final = 30.0
"""From the offer to the hellos: two people's clients that are there answer in one."""

SILENCE_SECONDS: Final = 30.0
"""Without a byte from the other side: it is gone, or does not read what we send."""

PING_SECONDS: Final = 10.0
"""Without a byte of ours, before we say that we are here: three fit into the other side's patience."""

MIN_PROGRESS: Final = 64 << 10
"""Bytes of what a side wants that have to pass in each SILENCE_SECONDS: below that the server is the better way."""

MAX_LACKED: Final = 1024
"""Wishes that we cannot grant, or that are taken back: our answers wait, if nobody reads them."""

TYPING_SECONDS: Final = 0.5
"""Between two of our frames that say whether we type: of what happens in between, the last counts."""

MAX_TYPING: Final = 128
"""Of those frames in each SILENCE_SECONDS: twice as many as a client says, and few enough to be told to the engine."""

LEAVING_SECONDS: Final = 5.0
"""From our bye to theirs."""

IDLE_SECONDS: Final = 600.0
"""Without a wish of either side: a link that nobody uses costs both a thread and a port."""

_HELLO, _WANT, _DATA, _LACK, _HAVE, _PING, _BYE, _STOP, _TYPING = range(1, 10)

_HEADER: Final = 5

_LENGTHS: Final = {
    _HELLO: 2, _WANT: BLOB_ID_LENGTH + 16, _LACK: 0, _HAVE: BLOB_ID_LENGTH, _PING: 0, _BYE: 0, _STOP: 0, _TYPING: 1,
}  # fmt: skip
"""Bytes of each body; `data` has 1 to MAX_DATA."""

State = Literal["greeting", "open", "leaving", "ended"]
"""greeting: their hello is to come. open. leaving: we have said bye, they have not. ended: nothing more is heard."""

_WHILE_OPEN: Final = (_WANT, _DATA, _LACK, _HAVE, _PING, _STOP, _TYPING)

TRANSITIONS: Final[dict[State, dict[int, State]]] = {
    "greeting": {_HELLO: "open"},
    "open": {**dict.fromkeys(_WHILE_OPEN, "open"), _BYE: "ended"},
    "leaving": {**dict.fromkeys(_WHILE_OPEN, "leaving"), _BYE: "ended"},
    "ended": {},
}
"""What may come in each state, and which follows."""


@value
class Opened:
    """The other side is there, is who it should be, and knows that we are."""


@value
class Wanted:
    """They want a piece of a blob: answer with `send_data`, or `lack`."""

    blob: bytes
    offset: int
    length: int


@value
class Came:
    """The next bytes of what we want."""

    data: bytes


@value
class Complete:
    """All has come that we wanted."""


@value
class Lacking:
    """They do not have what we want, or not all of it any more; or it is the end of what we have stopped."""


@value
class Stopped:
    """They do not want the rest of what they wanted: answer with `lack`."""


@value
class Held:
    """They have all of a blob, and it is right."""

    blob: bytes


@value
class Typed:
    """They type, or have stopped."""

    typing: bool


@value
class Over:
    """The link is over. `reason`: empty if both have said bye, else why, as the end of a sentence."""

    reason: str


Happening: TypeAlias = Opened | Wanted | Came | Complete | Lacking | Stopped | Held | Typed | Over


class LinkProtocol:
    """One side of one link. `now` is the monotonic clock's, in seconds."""

    def __init__(self, *, listens: bool, now: float) -> None:
        """Make it once TLS is established, and has verified the other side."""
        self.state: State = "greeting"
        self._listens = listens
        self._out: list[bytes] = []
        self._buffer = b""  # the beginning of a frame: at most a header and the longest body but that of `data`
        self._left = 0  # bytes of data that are still to come in this frame
        self._expected = 0  # bytes that we want and that have not come
        self._stopped = False  # we do not want them any more: what comes of them counts for nothing
        self._owed = 0  # bytes that they want and that we have not sent
        self._lacked = 0  # wishes of theirs that we could not grant
        self._opening = now + OPENING_SECONDS
        self._left_at = 0.0  # when we have said bye
        self._heard = self._said = self._used = now
        self._getting, self._giving = _Pace(now), _Pace(now)
        self._typed, self._typed_until = 0, now  # how often they have said it in this window, and its end
        if listens:
            self._say(_HELLO, VERSION.to_bytes(2, "big"))

    # --- what comes -----------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes, now: float) -> list[Happening]:
        """Take plaintext of the other side. After `Over` nothing more is heard."""
        happenings: list[Happening] = []
        if data and self.state != "ended":
            self._heard = now
            try:
                self._take(data, now, happenings.append)
            except PeerError as error:
                self.state = "ended"
                happenings.append(Over(f"the other side broke the link's protocol: {error}"))
        return happenings

    def receive_eof(self) -> list[Happening]:
        """Their stream has ended."""
        return self._end("the other side has gone" if self.state != "leaving" else "")

    def _take(self, data: bytes, now: float, happen: Callable[[Happening], None]) -> None:
        at, end = 0, len(data)
        while at < end and self.state != "ended":
            if self._left:
                piece = data[at : at + self._left] if at or self._left < end else data
                at += len(piece)
                self._left -= len(piece)
                self._take_piece(piece, now, happen)
                continue
            header = self._buffer + data[at : at + max(_HEADER - len(self._buffer), 0)]
            if len(header) < _HEADER:
                self._buffer = header
                return
            kind, length = header[0], int.from_bytes(header[1:_HEADER], "big")
            after = self._check(kind, length)
            if kind == _DATA:
                at += _HEADER - len(self._buffer)
                self._buffer, self._left = b"", length
                continue
            frame = self._buffer + data[at : at + _HEADER + length - len(self._buffer)]
            at += len(frame) - len(self._buffer)
            if len(frame) < _HEADER + length:
                self._buffer = frame
                return
            self._buffer = b""
            self._handle(kind, frame[_HEADER:], now, happen)
            self.state = after

    def _check(self, kind: int, length: int) -> State:
        """Return the state after a frame. Raises PeerError if it may not come now, or cannot be so long."""
        if (after := TRANSITIONS[self.state].get(kind)) is None:
            raise PeerError(f"a frame of type {kind} has no place here")
        if length != _LENGTHS.get(kind, length) or (kind == _DATA and not 1 <= length <= MAX_DATA):
            raise PeerError(f"a frame of type {kind} is {length} bytes long")
        if kind == _DATA and length > self._expected:
            raise PeerError("it sends more bytes than were asked for")
        return after

    def _take_piece(self, piece: bytes, now: float, happen: Callable[[Happening], None]) -> None:
        self._expected -= len(piece)
        self._getting.passed += len(piece)
        self._used = now
        if not self._stopped:
            happen(Came(piece))
        if not self._expected:
            happen(Lacking() if self._stopped else Complete())
            self._stopped = False

    def _handle(self, kind: int, body: bytes, now: float, happen: Callable[[Happening], None]) -> None:
        if kind == _HELLO:
            if (version := int.from_bytes(body, "big")) != VERSION:
                raise PeerError(f"it speaks version {version}, and we {VERSION}")
            if not self._listens:
                self._say(_HELLO, VERSION.to_bytes(2, "big"))
            self._used = now
            happen(Opened())
        elif kind == _WANT:
            offset, length = (int.from_bytes(body[at : at + 8], "big") for at in (BLOB_ID_LENGTH, BLOB_ID_LENGTH + 8))
            if self._owed:
                raise PeerError("it wants a second piece before the first one is there")
            if not 1 <= length <= MAX_POSITION - offset:
                raise PeerError("it wants a piece that no blob can have")
            self._giving, self._used = _Pace(now), now
            self._owed = length
            happen(Wanted(body[:BLOB_ID_LENGTH], offset, length))
        elif kind == _LACK:
            if not self._expected:
                raise PeerError("it lacks what nobody wants")
            self._expected, self._stopped = 0, False
            happen(Lacking())
        elif kind == _STOP:
            if self._owed:  # else the last of it has crossed this
                happen(Stopped())
        elif kind == _TYPING:
            self._count_typing(now)
            if body not in (b"\0", b"\1"):
                raise PeerError("it says that somebody types and does not")
            happen(Typed(body == b"\1"))
        elif kind == _HAVE:
            self._used = now
            happen(Held(body))
        elif kind == _BYE:
            if self.state == "open":
                self._say(_BYE)
            happen(Over(""))

    def _count_typing(self, now: float) -> None:
        if now >= self._typed_until:
            self._typed, self._typed_until = 0, now + SILENCE_SECONDS
        self._typed += 1
        if self._typed > MAX_TYPING:
            raise PeerError("it says all the time that somebody types")

    # --- what we say ----------------------------------------------------------------------------------------------

    @property
    def owed(self) -> int:
        """Bytes that they want and that we have not sent."""
        return self._owed

    @property
    def expected(self) -> int:
        """Bytes that we want and that have not come."""
        return self._expected

    def want(self, blob: bytes, offset: int, length: int, now: float) -> None:
        """Ask for a piece of a blob, once the link is open and nothing else is wanted."""
        if self.state != "open" or self._expected:
            raise UsageError("the link is not open, or something else is wanted")
        self._expected, self._stopped = length, False
        self._getting, self._used = _Pace(now), now
        self._say(_WANT, blob + offset.to_bytes(8, "big") + length.to_bytes(8, "big"))

    def stop(self) -> None:
        """Do not want the rest of it any more: no more of it is `Came`, and `Lacking` follows."""
        if self._expected and not self._stopped:
            self._stopped = True
            self._say(_STOP)

    def send_data(self, data: bytes, now: float) -> None:
        """Send the next bytes of what they want, 1 to MAX_DATA, and no more than they want."""
        if not 1 <= len(data) <= min(MAX_DATA, self._owed):
            raise UsageError("nobody wants so many bytes")
        self._owed -= len(data)
        self._giving.passed += len(data)
        self._used = now
        self._out.append(_DATA.to_bytes(1, "big") + len(data).to_bytes(4, "big"))
        self._out.append(data)

    def lack(self) -> list[Happening]:
        """Say that we do not have what they want."""
        self._owed = 0
        self._lacked += 1
        if self._lacked > MAX_LACKED:
            return self._end("the other side wants again and again what is not here")
        self._say(_LACK)
        return []

    def have(self, blob: bytes) -> None:
        """Say that we have all of a blob, and that it is what its entry says."""
        self._say(_HAVE, blob)

    def typing(self, *, typing: bool) -> None:
        """Say that we type, or have stopped; not more often than each TYPING_SECONDS."""
        self._say(_TYPING, b"\1" if typing else b"\0")

    def bye(self, now: float) -> None:
        """Say that we want nothing more."""
        if self.state == "open":
            self.state = "leaving"
            self._left_at = now
            self._say(_BYE)
        elif self.state == "greeting":
            self.state = "ended"

    def data_to_send(self, now: float) -> list[bytes]:
        """Return the plaintext to send, and forget it."""
        if self._out:
            self._said = now
        out, self._out = self._out, []
        return out

    def _say(self, kind: int, body: bytes = b"") -> None:
        self._out.append(kind.to_bytes(1, "big") + len(body).to_bytes(4, "big") + body)

    # --- time -----------------------------------------------------------------------------------------------------

    @property
    def timer(self) -> float:
        """When to call `handle_timer`."""
        if self.state == "greeting":
            return self._opening
        if self.state == "leaving":
            return self._left_at + LEAVING_SECONDS
        due = [self._heard + SILENCE_SECONDS, self._said + PING_SECONDS, self._used + IDLE_SECONDS]
        due += [pace.due for pace, left in self._paces() if left]
        return min(due)

    def _paces(self) -> "tuple[tuple[_Pace, int], ...]":
        return (self._getting, self._expected), (self._giving, self._owed)

    def handle_timer(self, now: float) -> list[Happening]:
        """Time has passed."""
        if self.state == "ended":
            return []
        if self.state == "greeting":
            return self._end("the other side has not said hello in time") if now >= self._opening else []
        if now >= self._heard + SILENCE_SECONDS:
            return self._end("nothing more came from the other side")
        if self.state == "leaving":
            return self._end("") if now >= self._left_at + LEAVING_SECONDS else []
        if any(left and pace.fails(now) for pace, left in self._paces()):
            return self._end("the other side is too slow")
        if now >= self._used + IDLE_SECONDS:
            self.bye(now)
        if now >= self._said + PING_SECONDS:
            self._said = now
            self._say(_PING)
        return []

    def _end(self, reason: str) -> list[Happening]:
        if self.state == "ended":
            return []
        self.state = "ended"
        return [Over(reason)]


class _Pace:
    """How fast bytes pass in one direction, in windows of SILENCE_SECONDS."""

    def __init__(self, now: float) -> None:
        self.due = now + SILENCE_SECONDS
        self.passed = 0

    def fails(self, now: float) -> bool:
        """Look at it: whether a window is over in which too little has passed."""
        if now < self.due:
            return False
        slow = self.passed < MIN_PROGRESS
        self.due, self.passed = now + SILENCE_SECONDS, 0
        return slow
