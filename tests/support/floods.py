"""What somebody hostile can send as fast as it can: floods, made from the message table, for each type and state.

Where a type belongs (before login, or in a room), its flood is made with care (`CRAFTED`): taken for good as far as
possible, so that it costs the most. Elsewhere it follows from the types of the fields, so that a new message has it at
once: the largest that fits into a frame for who is logged in, and the smallest otherwise.
"""

import itertools
import os
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import inspect

from securechat.identity.keepsake import Keepsake
from securechat.mls.proposals import Remove
from securechat.policy import Identity, Rules, departure_data
from securechat.tlscodec import Writer
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.blobs import blob_length
from securechat_lab.cast.wire_client import Person

State: TypeAlias = Literal["before login", "logged in", "in a room"]
STATES: tuple[State, ...] = typing.get_args(State)

TYPES: tuple[type[m.Message], ...] = typing.get_args(m.FromClient)

LOGINS = frozenset((m.ClientHello, m.Register, m.Login, m.Resume))
"""What one says before one is logged in."""


@dataclass
class Attacker:
    """What a flood is made of: a device of somebody, the room that it has founded, and whom it is aimed at."""

    person: Person
    victim: str
    room: bytes = bytes(limits.CONVERSATION_ID_LENGTH)
    accepted: int = 0  # the number of its newest entry in the room
    number: int = 0  # the same, if all that was sent is accepted
    _id: int = 1 << 20

    def next_id(self) -> int:
        """A fresh request id."""
        self._id += 1
        return self._id


Maker: TypeAlias = Callable[[Attacker], Iterator[m.Message]]


@dataclass(frozen=True)
class Flood:
    """One type of message, sent in one state."""

    kind: type[m.Message]
    state: State

    def __str__(self) -> str:
        return f"{self.kind.__name__} {self.state}"

    @property
    def crafted(self) -> bool:
        """Whether the type belongs into this state."""
        return self.state == ("before login" if self.kind in LOGINS else "in a room")

    def messages(self, attacker: Attacker) -> Iterator[m.Message]:
        """Make messages without end."""
        if self.crafted:
            return CRAFTED[self.kind](attacker)
        return _generic(self.kind, attacker, largest=self.state == "logged in")


FLOODS = [Flood(kind, state) for kind in TYPES for state in STATES]


# --- from the types of the fields ---------------------------------------------------------------------------------


def _generic(kind: type[m.Message], attacker: Attacker, *, largest: bool) -> Iterator[m.Message]:
    message = make(kind, largest=largest)
    while True:
        if isinstance(message, m.Request):
            message.id = attacker.next_id()
        yield message


def make(kind: type[m.Message], *, largest: bool) -> m.Message:
    """The smallest message of a type, or the largest that fits into a frame."""
    share = 1.0 if largest else 0.0
    while True:
        message: m.Message = _value(inspect.type_info(kind), share)
        if (size := len(msgspec.msgpack.encode(message))) <= limits.MAX_FRAME:
            return message
        share *= 0.99 * (limits.MAX_FRAME / size) ** 0.5  # as if lists and what they hold had grown alike


def _value(kind: inspect.Type, share: float) -> Any:
    """A value of a type. `share`: how much of what it may be long it is beyond the least."""
    match kind:
        case inspect.IntType():
            return kind.ge or 0
        case inspect.BytesType():
            return bytes(_length(kind.min_length, kind.max_length, share))
        case inspect.StrType():
            return "#" * _length(kind.min_length, kind.max_length, share)
        case inspect.ListType():
            return [_value(kind.item_type, share)] * _length(kind.min_length, kind.max_length, share)
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.StructType():
            return kind.cls(*(_value(field.type, share) for field in kind.fields))
    raise AssertionError(f"no flood knows what a {kind} is")


def _length(least: int | None, most: int | None, share: float) -> int:
    assert most is not None, "a field of a message has no bound"
    return (least or 0) + int((most - (least or 0)) * share)


# --- with care ----------------------------------------------------------------------------------------------------

CRAFTED: dict[type[m.Message], Maker] = {}


def _crafted(kind: type[m.Message]) -> Callable[[Maker], Maker]:
    def note(maker: Maker) -> Maker:
        CRAFTED[kind] = maker
        return maker

    return note


def _again(make_one: Callable[[Attacker], m.Message]) -> Maker:
    def messages(attacker: Attacker) -> Iterator[m.Message]:
        while True:
            yield make_one(attacker)

    return messages


CRAFTED |= {
    m.Ping: _again(lambda _: m.Ping()),
    m.Pong: _again(lambda _: m.Pong()),
    m.Closing: _again(lambda _: m.Closing("bye")),
    m.ClientHello: _again(lambda _: m.ClientHello([limits.PROTOCOL_VERSION], "flood")),
    m.Register: _again(lambda a: m.Register(a.next_id(), f"x{os.urandom(8).hex()}", os.urandom(32))),
    m.Login: _again(lambda a: m.Login(a.next_id(), a.victim, os.urandom(32), a.person.device)),
    m.Resume: _again(lambda a: m.Resume(a.next_id(), os.urandom(32), a.person.device, bytes(limits.PROOF_LENGTH))),
    m.ExtendToken: _again(lambda a: m.ExtendToken(a.next_id())),
    m.ChangePassword: _again(lambda a: m.ChangePassword(a.next_id(), os.urandom(32), os.urandom(32))),
    m.DeleteAccount: _again(lambda a: m.DeleteAccount(a.next_id(), os.urandom(32))),
    m.FetchSessions: _again(lambda a: m.FetchSessions(a.next_id())),
    m.EndSession: _again(lambda a: m.EndSession(a.next_id(), os.urandom(limits.DEVICE_ID_LENGTH))),
    m.FetchStatements: _again(lambda a: m.FetchStatements(a.next_id(), a.victim, b"", 0)),
    m.FetchKeyPackages: _again(lambda a: m.FetchKeyPackages(a.next_id(), a.victim)),
    m.FetchKeepsake: _again(lambda a: m.FetchKeepsake(a.next_id())),
    m.Join: _again(lambda a: m.Join(a.next_id(), "#lobby")),
    m.Resync: _again(lambda a: m.Resync(a.next_id(), a.room)),
    m.FetchCheckpoints: _again(lambda a: m.FetchCheckpoints(a.next_id(), a.room)),
    m.CommitFailed: _again(lambda a: m.CommitFailed(a.next_id(), a.room, 1)),
    m.ListRooms: _again(lambda a: m.ListRooms(a.next_id())),
    m.Members: _again(lambda a: m.Members(a.next_id(), a.room)),
    m.DropBlob: _again(lambda a: m.DropBlob(a.next_id(), a.room, os.urandom(limits.BLOB_ID_LENGTH))),
    m.Acknowledge: _again(lambda a: m.Acknowledge(a.room, 0)),
    m.Ephemeral: _again(lambda a: m.Ephemeral(a.room, bytes(limits.MAX_EPHEMERAL))),
}


@_crafted(m.Publish)
def _publish(a: Attacker) -> Iterator[m.Message]:
    """The next certificate, with key packages of which the last is bad: so that it stays the next."""
    link = a.person.certify().encode()
    packages = _packages(a, limits.MAX_KEY_PACKAGES)
    while True:
        yield m.Publish(a.next_id(), [link], packages, packages[0])


@_crafted(m.PublishKeyPackages)
def _publish_key_packages(a: Attacker) -> Iterator[m.Message]:
    """In the place of all that there are; the last is bad."""
    packages = _packages(a, limits.MAX_KEY_PACKAGES)
    while True:
        yield m.PublishKeyPackages(a.next_id(), packages, packages[0])


def _packages(a: Attacker, count: int) -> list[bytes]:
    return [*(a.person.key_package() for _ in range(count - 1)), _spoilt(a.person.key_package())]


@_crafted(m.PutKeepsake)
def _put_keepsake(a: Attacker) -> Iterator[m.Message]:
    """As large as may be, and signed."""
    person = a.person
    for number in itertools.count(1):
        keepsake = Keepsake(
            person.hello.server_id, person.account, person.identity_key, number, person.now, bytes(12),
            bytes(limits.MAX_KEEPSAKE - 64),
        )  # fmt: skip
        yield m.PutKeepsake(a.next_id(), keepsake.signed_by(person.identity).encode())


@_crafted(m.OpenDirect)
def _open_direct(a: Attacker) -> Iterator[m.Message]:
    """Right up to the commit's signature."""
    person = a.person
    group = person.found(Rules("direct"))
    staged = person.make_commit(group, *person.adds(a.victim), number=1)
    founding, commit = group.group_info(with_tree=True), _spoilt(staged.message, 2 * TAG)
    while True:
        yield m.OpenDirect(
            a.next_id(), group.group_id, a.victim, founding, commit, staged.welcome or b"", staged.group_info or b""
        )


@_crafted(m.OpenRoom)
def _open_room(a: Attacker) -> Iterator[m.Message]:
    """Rooms without end."""
    person = a.person
    owner = Identity.of(person.certificate())
    for number in itertools.count():
        group = person.found(Rules("open", f"#{person.account}-{number}", owners=(owner,)))
        founding, group_info = group.group_info(with_tree=True), group.group_info(with_tree=False)
        yield m.OpenRoom(a.next_id(), group.group_id, founding, group_info)


@_crafted(m.Submit)
def _submit(a: Attacker) -> Iterator[m.Message]:
    """As large as may be, and all that the server can see of it is right."""
    header = Writer().u16(1).u16(2).vector(a.room).u64(a.person.groups[a.room].epoch).u8(1)
    filling = bytes(limits.MAX_PAYLOAD - 256)
    while True:
        a.number += 1
        payload = Writer().vector(a.number.to_bytes(8, "big")).vector(bytes(28)).vector(filling)
        yield m.Submit(a.next_id(), a.room, a.number, bytes(header) + bytes(payload))


@_crafted(m.StartBlob)
def _start_blob(a: Attacker) -> Iterator[m.Message]:
    """Uploads of which no byte comes."""
    while True:
        yield m.StartBlob(a.next_id(), a.room, os.urandom(limits.BLOB_ID_LENGTH), limits.MIN_BLOB)


@_crafted(m.PutBlob)
def _put_blob(a: Attacker) -> Iterator[m.Message]:
    """As much as may be, of one upload after the other, without a look at the answers."""
    size, part = blob_length(16 << 20), bytes(limits.MAX_BLOB_PART)
    while True:
        blob = os.urandom(limits.BLOB_ID_LENGTH)
        yield m.StartBlob(a.next_id(), a.room, blob, size)
        for offset in range(0, size - len(part), len(part)):
            yield m.PutBlob(a.next_id(), a.room, blob, offset, part)


@_crafted(m.FetchBlob)
def _fetch_blob(a: Attacker) -> Iterator[m.Message]:
    """A blob that is there, again and again."""
    blob, size = os.urandom(limits.BLOB_ID_LENGTH), limits.MIN_BLOB
    yield m.StartBlob(a.next_id(), a.room, blob, size)
    while True:
        yield m.PutBlob(a.next_id(), a.room, blob, 0, bytes(size))
        for _ in range(64):
            yield m.FetchBlob(a.next_id(), a.room, blob, 0, limits.MAX_BLOB_PART)


@_crafted(m.Subscribe)
def _subscribe(a: Attacker) -> Iterator[m.Message]:
    """To a log with something in it, from the beginning on."""
    yield from itertools.islice(_submit(a), limits.MAX_IN_FLIGHT)
    while True:
        yield m.Subscribe(a.next_id(), a.room, 0)


@_crafted(m.Commit)
def _commit(a: Attacker) -> Iterator[m.Message]:
    """Right up to its signature."""
    while True:
        staged = a.person.make_commit(a.person.groups[a.room], number=a.number + 1)
        commit = _spoilt(staged.message, 2 * TAG)
        for _ in range(100):
            yield m.Commit(a.next_id(), a.room, a.number + 1, commit, b"", staged.group_info or b"")


@_crafted(m.Leave)
def _leave(a: Attacker) -> Iterator[m.Message]:
    """Right up to its signature."""
    group = a.person.groups[a.room]
    data = departure_data(a.number + 1, group.public.member(group.own_leaf))
    proposal = _spoilt(group.propose(Remove(group.own_leaf), authenticated_data=data), TAG)
    while True:
        yield m.Leave(a.next_id(), a.room, a.number + 1, proposal)


@_crafted(m.HandBack)
def _hand_back(a: Attacker) -> Iterator[m.Message]:
    staged = a.person.make_commit(a.person.groups[a.room], number=a.number + 1)
    handshakes = [m.Handshake(staged.message, staged.group_info or b"")] * limits.MAX_HANDED_BACK
    while True:
        yield m.HandBack(a.next_id(), a.room, handshakes)


TAG = 33
"""Bytes of a membership or confirmation tag with its length; they follow the signature, and the server cannot check
them."""


def _spoilt(encoded: bytes, behind: int = 0) -> bytes:
    """With a signature that is wrong; `behind`: bytes that follow it."""
    at = len(encoded) - behind - 1
    return encoded[:at] + bytes([encoded[at] ^ 1]) + encoded[at + 1 :]
