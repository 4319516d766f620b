"""What the network and the server see of one connection, as lines of a recording.

The server's view is decoded from what the connection carried inside TLS, with the client's secrets. So it is that of
whoever sits at the other end of the client's TLS: the server, or a proxy in its place. Secrets are not recorded: of a
message only what `Line` has.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec

from securechat.errors import DecodeError
from securechat.mls.framing import ContentType, read_header
from securechat.wire import messages as m
from securechat.wire.chain import HANDED_BACK, MLS_MESSAGE, OPERATORS_WORD, STATEMENT
from securechat.wire.frames import FrameReader
from securechat.wire.limits import MAX_FRAME, MAX_FRAME_BEFORE_LOGIN
from securechat_lab.watching.recording import HEX, Recorder
from securechat_lab.watching.tls13 import KINDS, Opened, Record, Session, Side

_decode_client: Final = msgspec.msgpack.Decoder(m.FromClient).decode
_decode_server: Final = msgspec.msgpack.Decoder(m.FromServer).decode

MAX_WAITING: Final = 64
"""Requests that wait for their answer: more are a breach of the protocol (docs/protocol.md)."""

Facts = dict[str, Any]
"""Fields of a line."""

_SPECIAL: Final = {STATEMENT: "statement", OPERATORS_WORD: "word", HANDED_BACK: "handed back"}


class Asked(NamedTuple):
    """What a reply does not repeat of its request."""

    conversation: bytes
    number: int


class Observer:
    """One connection. One thread at a time."""

    def __init__(self, recorder: Recorder, conn: int, peer: str) -> None:
        """`conn` numbers it; `peer`: the client's address, as the network sees it."""
        self._recorder = recorder
        self._conn = conn
        self._peer = peer
        self.session = Session()
        self._account = ""
        self._at = [0, 0]  # bytes inside TLS so far, of the client and of the server
        # As the server does it: whoever has not logged in is not given the memory for a large frame.
        self._client_frames = FrameReader(MAX_FRAME_BEFORE_LOGIN)
        self._readers: list[FrameReader | None] = [self._client_frames, FrameReader(MAX_FRAME)]
        self._asked: dict[int, Asked] = {}

    def passed(self, side: Side, record: Record, t: float) -> None:
        """A record has passed; `t`: when, in seconds since the recording began."""
        opened = self.session.open(side, record)
        ends: Facts = {"sender": self._peer, "to": "server"} if side == 0 else {"sender": "server", "to": self._peer}
        way = "up" if side == 0 else "down"
        if record.kind == 0:
            ends |= {"hex": opened.data[:HEX].hex(), "text": opened.data[:HEX].decode("utf-8", "replace")}
        self._recorder.add(
            "network", _named(record, opened), t=t, conn=self._conn, way=way, len=record.size,
            at=self._at[side], size=len(opened.data) if record.kind else 0, **ends,
        )  # fmt: skip
        if record.kind:
            self._read(side, opened.data, t)
            self._at[side] += len(opened.data)

    def _read(self, side: Side, data: bytes, t: float) -> None:
        reader = self._readers[side]
        if reader is None or not data:
            return
        at = self._at[side] - reader.unfinished
        try:
            for body in reader.receive(data):
                size = 4 + len(body)
                self._frame(side, body, at, size, t)
                at += size
        except DecodeError:  # whatever this is, it is no securechat any more
            self._readers[side] = None
            self._recorder.add(
                "server", "no frame", t=t, conn=self._conn, way="up" if side == 0 else "down", at=at, size=len(data)
            )

    def _frame(self, side: Side, body: bytes, at: int, size: int, t: float) -> None:
        decode: Callable[[bytes], m.Message] = _decode_client if side == 0 else _decode_server
        try:
            message = decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            message = None
        facts = {} if message is None else self._facts(message)
        ends = (
            {"way": "up", "sender": self._account, "to": "server"}
            if side == 0
            else {"way": "down", "sender": "server", "to": self._account}
        )
        name = "unreadable" if message is None else type(message).__name__
        self._recorder.add("server", name, t=t, conn=self._conn, at=at, size=size, **ends, **facts)

    def _facts(self, message: m.Message) -> Facts:
        """What the server's view has of a message, beside its name and size."""
        if isinstance(message, m.LoggedIn | m.Login | m.Register):
            self._account = message.account
        if isinstance(message, m.LoggedIn):
            self._client_frames.limit = MAX_FRAME
        conversation = getattr(message, "conversation", b"")
        number = getattr(message, "number", int(isinstance(message, m.OpenDirect)))
        if isinstance(message, m.Request):
            if len(self._asked) < MAX_WAITING:
                self._asked[message.id] = Asked(conversation, number)
        elif isinstance(message, m.Reply):
            asked = self._asked.pop(message.id, Asked(b"", 0))
            if isinstance(message, m.Refused):
                conversation, number = asked
        facts: Facts = {"number": number} if number else {}
        if conversation:
            facts["conversation"] = conversation.hex()
        seq = getattr(message, "join_seq", getattr(message, "first_seq", getattr(message, "seq", 0)))
        if seq:
            facts["seq"] = seq
        if isinstance(message, m.Accepted | m.Entry):
            facts["time"] = message.time
        match message:
            case m.Submit(payload=payload):
                facts |= _mls(payload)
            case m.Commit(commit=payload) | m.OpenDirect(commit=payload):
                facts |= _mls(payload)
            case m.Leave(proposal=payload):
                facts |= _mls(payload)
            case m.Entry(payload=payload, kind=kind) if kind in (MLS_MESSAGE, HANDED_BACK):
                facts |= _mls(payload)
            case m.Entry(payload=payload, kind=kind):
                facts |= _digested(payload) | {"text": _SPECIAL.get(kind, "unknown")}
            case m.Refused(code=code):
                facts["text"] = code
            case m.Closing(reason=reason):
                facts["text"] = reason
            case m.Presence(account=account, state=state):
                facts["text"] = f"{account} {state}"
            case m.FetchKeyPackages(account=account) | m.KeyPackages(account=account):
                facts["text"] = account
            case m.Subscribed(epoch=epoch) if epoch is not None:
                facts["epoch"] = epoch
        return facts


def _named(record: Record, opened: Opened) -> str:
    """What a record holds: in front it says `data` of everything that is encrypted."""
    outside = KINDS.get(record.kind, opened.kind)
    return outside if opened.kind in (outside, "encrypted") else f"{outside}: {opened.kind}"


def _digested(payload: bytes) -> Facts:
    return {"len": len(payload), "digest": sha256(payload).hexdigest()[:16], "hex": payload[:HEX].hex()}


_CONTENT: Final = {ContentType.APPLICATION: "message", ContentType.PROPOSAL: "departure", ContentType.COMMIT: "commit"}


def _mls(payload: bytes) -> Facts:
    """What everybody who carries an MLS message sees of it: size, bytes, epoch, kind, and the number in it."""
    facts = _digested(payload)
    try:
        header = read_header(payload)
    except DecodeError:
        return facts
    facts |= {"epoch": header.epoch, "text": _CONTENT[header.content_type]}
    if len(header.authenticated_data) >= 8:
        facts["number"] = int.from_bytes(header.authenticated_data[:8], "big") & ((1 << 53) - 1)
    return facts
