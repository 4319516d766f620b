"""`securechat/1` as two machines without I/O: bytes in, messages out, bytes to send (docs/design.md, section 4).

A pump feeds what arrived to `receive_data`, handles the messages it returns, hands its own to `send`, and writes what
`data_to_send` returns. One that serves many takes no more from each at once than its budget allows; the rest waits, for
`receive_more`. There is no socket, no thread and no clock inside: `now` is the pump's monotonic time in
seconds, and `handle_timer` is called when `timer` has come.

Parsing never raises through to the pump. A peer that breaks the rules becomes the event `Ended` with a `PeerError`,
and a `Closing("protocol-error")` to send; a call that breaks them raises `UsageError` and changes nothing.

The states of a session, the same table for both sides ("+": also allowed, as in every state: `Closing`):

    CONNECTED        each side sends its hello                                  -> GREETED when both have
    GREETED          Register, Login, Resume; + Ping, Pong                      -> AUTHENTICATING
    AUTHENTICATING   + Ping, Pong                Registered, Refused            -> GREETED
                                                 LoggedIn                       -> WAITING, ENROLLING or READY
    WAITING          + Ping, Pong                Seat(0)                        -> ENROLLING or READY
                     from here on the server also says SecretReplaced
    ENROLLING        Publish, FetchStatements, FetchKeepsake, ListRooms; + Ping, Pong
                                                 Published (enrolled)           -> READY
    READY            everything but the hellos and the logins
    ENDED            nothing; both `Closing` sent, `Closing` received and the end of the stream lead here
"""

import enum
import math
import typing
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

from securechat.errors import DecodeError, PeerError, UsageError
from securechat.value import value
from securechat.wire import limits
from securechat.wire.frames import FrameReader, encode_frame, encode_frames, peek
from securechat.wire.messages import (
    Accepted,
    Acknowledge,
    BlobBytes,
    BlobState,
    ChangePassword,
    Checkpoints,
    ClientHello,
    Closing,
    Commit,
    CommitFailed,
    DeleteAccount,
    DirectoryNews,
    Done,
    DropBlob,
    EndSession,
    Entry,
    Ephemeral,
    ExtendToken,
    FetchBlob,
    FetchCheckpoints,
    FetchKeepsake,
    FetchKeyPackages,
    FetchSessions,
    FetchStatements,
    FromClient,
    FromServer,
    HandBack,
    Hello,
    Join,
    JoinOffer,
    KeyPackages,
    Leave,
    ListRooms,
    LoggedIn,
    Login,
    MemberList,
    Members,
    Message,
    Notice,
    OpenDirect,
    OpenRoom,
    PasswordChanged,
    Ping,
    Pong,
    Presence,
    Publish,
    Published,
    PublishKeyPackages,
    PutBlob,
    PutKeepsake,
    Reason,
    Refused,
    Register,
    Registered,
    Reply,
    Request,
    Resume,
    Resync,
    Rooms,
    Seat,
    SecretReplaced,
    SessionList,
    StartBlob,
    Statements,
    Stock,
    StoredKeepsake,
    Submit,
    Subscribe,
    Subscribed,
    TokenExtended,
    Truncated,
    Welcomed,
)

LARGE = limits.MAX_FRAME_BEFORE_LOGIN
"""Bytes from which on a request is counted while it waits for its answer (`ServerProtocol.held`): those below it take
a quarter of a megabyte, if all that one session may have in flight are as large."""


class State(enum.Enum):
    """The states of a session; the table is at the top of this module."""

    CONNECTED = enum.auto()
    GREETED = enum.auto()
    AUTHENTICATING = enum.auto()
    WAITING = enum.auto()
    ENROLLING = enum.auto()
    READY = enum.auto()
    ENDED = enum.auto()


REPLY: dict[type[Message], type[Message]] = {
    Register: Registered,
    Login: LoggedIn,
    Resume: LoggedIn,
    ExtendToken: TokenExtended,
    ChangePassword: PasswordChanged,
    DeleteAccount: Done,
    FetchSessions: SessionList,
    EndSession: Done,
    Publish: Published,
    FetchStatements: Statements,
    PublishKeyPackages: Stock,
    PutKeepsake: Done,
    FetchKeepsake: StoredKeepsake,
    FetchKeyPackages: KeyPackages,
    OpenDirect: Accepted,
    OpenRoom: Done,
    Join: JoinOffer,
    Resync: JoinOffer,
    Submit: Accepted,
    Commit: Accepted,
    Leave: Accepted,
    HandBack: Done,
    FetchCheckpoints: Checkpoints,
    CommitFailed: Done,
    ListRooms: Rooms,
    Members: MemberList,
    StartBlob: BlobState,
    PutBlob: BlobState,
    FetchBlob: BlobBytes,
    DropBlob: Done,
    Subscribe: Subscribed,
}
"""What a request is answered with when it is not refused."""

_Types = frozenset[type[Message]]
_LOGINS: _Types = frozenset((Register, Login, Resume))
_SIGNS: _Types = frozenset((Ping, Pong, Closing))
_REQUESTS: _Types = frozenset(REPLY)
_FIRST_STEPS: _Types = frozenset((Publish, FetchStatements, FetchKeepsake, ListRooms))
_FROM_CLIENT: dict[State, _Types] = {
    State.CONNECTED: frozenset((ClientHello, Closing)),
    State.GREETED: _LOGINS | _SIGNS,
    State.AUTHENTICATING: _SIGNS,
    State.WAITING: _SIGNS,
    State.ENROLLING: _SIGNS | _FIRST_STEPS,
    State.READY: _SIGNS | _REQUESTS - _LOGINS | {Acknowledge, Ephemeral},
    State.ENDED: frozenset(),
}
"""What a client may send in each state."""

_MOVES: dict[tuple[State, type[Message]], State] = {
    (State.GREETED, Register): State.AUTHENTICATING,
    (State.GREETED, Login): State.AUTHENTICATING,
    (State.GREETED, Resume): State.AUTHENTICATING,
    (State.AUTHENTICATING, Registered): State.GREETED,
    (State.AUTHENTICATING, Refused): State.GREETED,
    (State.AUTHENTICATING, LoggedIn): State.READY,  # unless it gives a place in the queue, or the device is unpublished
    (State.WAITING, Seat): State.READY,
    (State.ENROLLING, Published): State.READY,  # if the device is enrolled
}
_EVENTS: _Types = frozenset((Entry, Welcomed, Truncated, Presence, Ephemeral, DirectoryNews, Notice))
_FROM_SERVER: dict[State, _Types] = {  # replies aside: they follow their requests
    State.CONNECTED: frozenset((Hello, Closing)),
    State.GREETED: _SIGNS,
    State.AUTHENTICATING: _SIGNS,
    State.WAITING: _SIGNS | {Seat, SecretReplaced, Notice},
    State.ENROLLING: _SIGNS | _EVENTS | {SecretReplaced},
    State.READY: _SIGNS | _EVENTS | {SecretReplaced},
    State.ENDED: frozenset(),
}
"""What a server may send in each state."""

MOVERS = frozenset(message for _, message in _MOVES)
"""What moves a session on when it is sent or received."""


@value
class Ended:
    """The last event: the session is over.

    `closing` is the peer's farewell. Without it and without `error`, the connection was lost. `error` says how the
    peer broke the rules, or that it fell silent.
    """

    closing: Closing | None = None
    error: PeerError | None = None


Incoming = TypeVar("Incoming")  # the messages that this side receives


class _Machine(ABC, Generic[Incoming]):
    """What both sides share: frames in and out, the table of states, signs of life."""

    _decoder: "msgspec.msgpack.Decoder[Incoming]"
    _known: frozenset[str]  # names of the messages that this side receives

    def __init__(self, now: float, units: Mapping[type[Message], int] | None = None) -> None:
        self._units: Mapping[type, int] = units or {}
        self._frames = FrameReader(limits.MAX_FRAME_BEFORE_LOGIN)
        self._bodies: Iterator[bytes] = iter(())  # of the frames that have arrived and were not looked at yet
        self.waiting = 0
        """Bytes of these, at most: as long as there are any, `receive_more` comes next, and not `receive_data`."""
        self._enter(State.CONNECTED)
        self._outgoing: list[bytes] = []
        self._published = False
        self._since = now  # when CONNECTED or GREETED was entered
        self._heard = now  # when the peer last sent anything
        self._pinged = False
        self._in_flight: dict[int, type[Message]] = {}
        self.messages = 0
        """Messages that were received, of any kind."""
        self.units = 0
        """What they have cost."""

    # --- for the pump -----------------------------------------------------------------------------------------------

    def data_to_send(self) -> bytes:
        """Return the bytes to send to the peer now, and forget them."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    @property
    def has_data_to_send(self) -> bool:
        """Whether `data_to_send` would return anything."""
        return bool(self._outgoing)

    def receive_eof(self) -> list[Incoming | Ended]:
        """The peer's stream has ended: return the last event, unless it has been returned already."""
        if self.state is State.ENDED:
            return []
        self._enter(State.ENDED)
        return [Ended()]

    @property
    def unfinished(self) -> int:
        """Bytes that are kept of the message which has not arrived as a whole."""
        return self._frames.unfinished

    @property
    def ended(self) -> bool:
        """Whether the session is over: nothing more is received, and only what is queued already is sent."""
        return self.state is State.ENDED

    def close(self, reason: Reason, text: str = "") -> None:
        """Say goodbye. Send the data, then end the stream; nothing more is received."""
        if self.state is not State.ENDED:
            self._outgoing.append(encode_frame(Closing(reason, text)))
            self._enter(State.ENDED)

    @property
    def timer(self) -> float:
        """When to call `handle_timer`, in the pump's time."""
        if (seconds := self._patience()) is not None:
            return self._since + seconds
        return self._heard + limits.PING_SECONDS * (2 if self._pinged else 1)

    def handle_timer(self, now: float) -> list[Incoming | Ended]:
        """Time has passed: ask a silent peer for a sign of life, give one up that stays silent."""
        if self.state is State.ENDED or now < self.timer:
            return []
        if self._patience() is not None or self._pinged:
            self.close("timeout")
            return [Ended(error=PeerError("the other side fell silent"))]
        self._pinged = True
        self._outgoing.append(encode_frame(Ping()))
        return []

    def receive_data(self, data: bytes, now: float, most: float = math.inf) -> list[Incoming | Ended]:
        """Take bytes from the peer; return the messages in them. Nothing follows an `Ended`.

        Once they have cost `most` units, the rest waits for `receive_more`: `waiting` says so.
        """
        if self.state is State.ENDED:
            return []
        self._heard = now
        self._pinged = False
        self.waiting = len(data) + self._frames.unfinished
        self._bodies = self._frames.receive(data)
        return self.receive_more(now, most)

    def receive_more(self, now: float, most: float) -> list[Incoming | Ended]:
        """Return more of the messages that wait."""
        events: list[Incoming | Ended] = []
        decode, receive, unit_of = self._decoder.decode, self._receive, self._units.get
        count = spent = 0
        try:
            for body in self._bodies:
                count += 1
                try:
                    message = decode(body)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:  # the latter: text that is not UTF-8
                    name, request = peek(body)
                    if name in self._known:
                        raise DecodeError(f"a damaged {name}: {error}") from None
                    self._receive_unknown(name, request)
                    spent += unit_of(Refused, 1)
                else:
                    spent += unit_of(type(message), 1)
                    if (event := receive(message, now)) is not None:
                        events.append(event)
                        if type(event) is Ended:
                            break
                        if len(body) > LARGE:
                            self._received_large(message, len(body))
                    elif isinstance(message, Request):
                        spent += unit_of(Refused, 1)
                if spent >= most:
                    break
            else:
                self.waiting = 0
        except PeerError as error:
            self.close("protocol-error", str(error)[:200])
            events.append(Ended(error=error))
        self.messages += count
        self.units += spent
        return events

    # --- the two sides ----------------------------------------------------------------------------------------------

    @abstractmethod
    def _patience(self) -> float | None:
        """How long this side waits in the present state, in seconds; None where pings keep the session alive."""

    @abstractmethod
    def _receive(self, message: Incoming, now: float) -> Incoming | Ended | None:
        """Handle a message; return what the pump should hear of it. Raises `PeerError`."""

    @abstractmethod
    def _receive_unknown(self, name: str, request: int | None) -> None:
        """Handle a message of a type this side does not know. Raises `PeerError`."""

    def _received_large(self, message: Incoming, size: int) -> None:
        """Hear that a message that goes on to the pump has more than LARGE bytes."""

    def _receive_sign(self, message: object) -> Ended | None:
        """Handle `Ping`, `Pong` and `Closing`, which both sides may receive."""
        if isinstance(message, Closing):
            self._enter(State.ENDED)
            return Ended(closing=message)
        if isinstance(message, Ping):
            self._outgoing.append(encode_frame(Pong()))
        return None

    def _enter(self, state: State) -> None:
        self.state = state
        if state is State.ENDED:
            self._bodies, self.waiting = iter(()), 0
        self._from_client = _FROM_CLIENT[state]  # looked up once per state, not per message
        self._from_server = _FROM_SERVER[state]

    def _advance(self, message: Message) -> None:
        """Make the move of the table for a message that either side sent."""
        moved = _MOVES.get((self.state, type(message)))
        if moved is None:
            return
        if isinstance(message, LoggedIn):
            self._frames.limit = limits.MAX_FRAME
            self._published = bool(message.certificate)
        if isinstance(message, Published):
            self._published = message.enrolled
            if not self._published:
                return
        if isinstance(message, LoggedIn | Seat):
            moved = State.WAITING if message.place else State.READY if self._published else State.ENROLLING
        self._enter(moved)


class ServerProtocol(_Machine[FromClient]):
    """The server's side of one connection. It speaks first: `data_to_send` holds the hello at once."""

    _decoder = msgspec.msgpack.Decoder(FromClient)
    _known = frozenset(message.__name__ for message in typing.get_args(FromClient))

    def __init__(self, hello: Hello, now: float, units: Mapping[type[Message], int] | None = None) -> None:
        """`hello` must announce `limits.PROTOCOL_VERSION`; `now` is when the connection was accepted.

        `units`: what messages of each type cost; by default one each. A refusal costs as much as `Refused` beside it.
        """
        super().__init__(now, units)
        self._versions = frozenset(hello.versions)
        self._large: dict[int, int] = {}  # bytes of large requests in flight, by id
        self.held = 0
        """Their sum."""
        self._outgoing.append(encode_frame(hello))

    @property
    def in_flight(self) -> int:
        """Requests that still wait for their reply."""
        return len(self._in_flight)

    def send(self, message: FromServer) -> int:
        """Queue a reply or an event; return its size in bytes. A reply must answer an open request."""
        if self.state is State.ENDED:
            return 0  # the client is gone, and its last replies with it
        if isinstance(message, Reply):
            self._answer(type(message), message.id)
        if type(message) in MOVERS:
            self._advance(message)
        return self.send_frames(encode_frame(message))

    def send_reply(self, kind: type[Reply], request: int, frame: bytes) -> int:
        """The same for a reply that has been encoded already, and is no move of the table (`MOVERS`)."""
        if self.state is State.ENDED:
            return 0
        self._answer(kind, request)
        return self.send_frames(frame)

    def _answer(self, kind: type[Reply], number: int) -> None:
        request = self._in_flight.get(number)
        if request is None or (kind is not Refused and REPLY[request] is not kind):
            raise UsageError(f"{kind.__name__} {number} answers no open request")
        del self._in_flight[number]
        if self._large:
            self.held -= self._large.pop(number, 0)

    def send_accepted(self, replies: Sequence[Accepted]) -> int:
        """The same for replies to `Submit`, of which there are many at once."""
        if self.state is State.ENDED:
            return 0
        in_flight = self._in_flight
        for reply in replies:
            request = in_flight.get(reply.id)
            if request is None or REPLY[request] is not Accepted:
                raise UsageError(f"Accepted {reply.id} answers no open request")
        for reply in replies:
            del in_flight[reply.id]
        if self._large:
            self.held -= sum(self._large.pop(reply.id, 0) for reply in replies)
        return self.send_frames(encode_frames(replies))

    def send_frames(self, frames: bytes) -> int:
        """Queue events that were encoded once for many receivers; return their size in bytes."""
        if self.state is State.ENDED:
            return 0
        self._outgoing.append(frames)
        return len(frames)

    def _patience(self) -> float | None:
        if self.state is State.CONNECTED:
            return limits.HANDSHAKE_SECONDS
        if self.state in (State.GREETED, State.AUTHENTICATING):
            return limits.LOGIN_SECONDS
        return None

    def _receive(self, message: FromClient, now: float) -> FromClient | Ended | None:
        kind = type(message)
        if isinstance(message, Request):
            in_flight = self._in_flight
            if message.id in in_flight:
                raise PeerError(f"request id {message.id} is in use")
            if len(in_flight) >= limits.MAX_IN_FLIGHT:
                raise PeerError(f"more than {limits.MAX_IN_FLIGHT} requests at once")
            if kind not in self._from_client:
                if self.state is State.CONNECTED:
                    raise PeerError(f"{kind.__name__} before ClientHello")
                self._outgoing.append(encode_frame(Refused(message.id, "not-now", _NOT_NOW[self.state])))
                return None
            in_flight[message.id] = kind
            if kind in MOVERS:
                self._advance(message)
            return message
        if kind not in self._from_client:
            raise PeerError(f"{kind.__name__} in state {self.state.name.lower()}")
        if isinstance(message, ClientHello):
            if not self._versions & set(message.versions):
                raise PeerError(f"no common protocol version; this server speaks {sorted(self._versions)}")
            self._enter(State.GREETED)
            self._since = now
            return message
        return message if isinstance(message, Acknowledge | Ephemeral) else self._receive_sign(message)

    def _received_large(self, message: FromClient, size: int) -> None:
        if isinstance(message, Request):
            self._large[message.id] = size
            self.held += size

    def _receive_unknown(self, name: str, request: int | None) -> None:
        if request is None or self.state is State.CONNECTED or request in self._in_flight:
            raise PeerError(f"unknown message {name}")
        self._outgoing.append(encode_frame(Refused(request, "unknown-message", f"this server does not know {name}")))


_NOT_NOW = {
    State.GREETED: "log in first",
    State.AUTHENTICATING: "wait for the answer to the login",
    State.WAITING: "the server is full: wait for a seat",
    State.ENROLLING: "publish this device first",
    State.READY: "this session is logged in already",
}


class ClientProtocol(_Machine[FromServer]):
    """The client's side of one connection. `data_to_send` holds its hello at once."""

    _decoder = msgspec.msgpack.Decoder(FromServer)
    _known = frozenset(message.__name__ for message in typing.get_args(FromServer))

    def __init__(self, agent: str, now: float) -> None:
        """`agent`: name and version of the program, at most 64 characters; `now`: when the connection was made."""
        super().__init__(now)
        self._next_id = 1
        self._outgoing.append(encode_frame(ClientHello([limits.PROTOCOL_VERSION], agent)))

    @property
    def in_flight(self) -> int:
        """Requests that still wait for their reply; at `limits.MAX_IN_FLIGHT`, `send` refuses another one."""
        return len(self._in_flight)

    def next_id(self) -> int:
        """Return an id for the next request."""
        request = self._next_id
        self._next_id = request % 0xFFFF_FFFF + 1
        return request

    def allows(self, message: type[Message]) -> bool:
        """Whether `send` would take a message of this type in the present state."""
        return message in self._from_client

    def send(self, message: FromClient) -> None:
        """Queue a request (with an id from `next_id`) or an event. Raise `UsageError` if it has no place here."""
        if type(message) not in self._from_client:
            raise UsageError(f"{type(message).__name__} cannot be sent in state {self.state.name.lower()}")
        if isinstance(message, Closing):
            raise UsageError("use close()")
        if isinstance(message, Request):
            if message.id in self._in_flight:
                raise UsageError(f"request id {message.id} is in use")
            if len(self._in_flight) >= limits.MAX_IN_FLIGHT:
                raise UsageError(f"more than {limits.MAX_IN_FLIGHT} requests at once")
            self._in_flight[message.id] = type(message)
        self._outgoing.append(encode_frame(message))
        if self.state is State.GREETED:
            self._advance(message)

    def _patience(self) -> float | None:
        return limits.HANDSHAKE_SECONDS if self.state is State.CONNECTED else None

    def _receive(self, message: FromServer, now: float) -> FromServer | Ended | None:
        if isinstance(message, Reply):
            request = self._in_flight.pop(message.id, None)
            if request is None or (type(message) is not Refused and REPLY[request] is not type(message)):
                raise PeerError(f"{type(message).__name__} {message.id} answers no open request")
            self._advance(message)
            return message
        if type(message) not in self._from_server:
            raise PeerError(f"{type(message).__name__} in state {self.state.name.lower()}")
        if isinstance(message, Hello):
            if limits.PROTOCOL_VERSION not in message.versions:
                raise PeerError(f"no common protocol version; the server speaks {message.versions}")
            self._enter(State.GREETED)
            self._since = now
            return message
        if isinstance(message, Ping | Pong | Closing):
            return self._receive_sign(message)
        self._advance(message)
        return message

    def _receive_unknown(self, name: str, request: int | None) -> None:
        raise PeerError(f"unknown message {name} ({'no id' if request is None else request})")
