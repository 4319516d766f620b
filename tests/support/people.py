"""People in memory: real engines with real vaults, linked to the server in memory message by message."""

import math
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import msgspec

from securechat.client import commands, events
from securechat.client.clock import Clock
from securechat.client.engine import Engine
from securechat.client.files.jobs import outcome
from securechat.client.message import Message
from securechat.client.parts import Parts
from securechat.client.password import login_secret
from securechat.client.password_source import PasswordSource
from securechat.client.settings import ClientSettings
from securechat.client.vault.identity_key import IdentityKey, OpenedKey
from securechat.client.vault.vault import Vault
from securechat.client.wrapping import Cost
from securechat.errors import UsageError
from securechat.wire import limits
from securechat.wire import messages as wire
from tests.support.memory_server import AUTHORITY, SHOWN, Link, MemoryServer

CHEAP = Cost(time=1, memory=8, lanes=1)
PASSWORD = "correct horse"
FAR = 1800.0
"""Seconds. What is due later than that, as the end of an invitation, is not waited for."""

_encode = msgspec.msgpack.Encoder().encode
_decode_client = msgspec.msgpack.Decoder(wire.FromClient).decode
_decode_server = msgspec.msgpack.Decoder(wire.FromServer).decode


def opened(identity: IdentityKey, password: str = PASSWORD) -> AbstractContextManager[OpenedKey]:
    """An identity key, by the password that it is wrapped under."""
    return identity.opened(bytearray(password.encode()))


class Person:
    """One account on one device: an engine that can be cut off, crash, and start again."""

    obliging = True
    """Whether every invitation is accepted as soon as it comes: a room has to be filled before it can be tested."""

    password = PASSWORD
    """What is typed at each start."""

    working = True
    """Whether jobs with files are done as soon as there are some."""

    marks = False
    """Whether others are told what was received and read, unless that is tested: logs have more entries then."""

    parts = Parts()
    """What the engine is made of, but for the clock, which is the server's."""

    def __init__(
        self, server: MemoryServer, folder: Path, name: str, password_file: Path | None = None, **settings: object
    ) -> None:
        self.password_file = password_file  # typed at each start without one
        self.server = server
        self.name = name
        self.path = folder / f"{name}.vault"
        given = {"pin": AUTHORITY.text, **settings}
        self.settings = ClientSettings("memory", 1, **given)  # type: ignore[arg-type]  # test data
        self.clock = Clock(lambda: self.server.now / 1000, lambda: self.server.seconds)
        self.ca = AUTHORITY
        """The CA that has signed for the server, as this client's TLS has found."""
        self.happened: list[events.Event] = []
        self.link: Link | None = None
        self.to_server: deque[wire.FromClient] = deque()
        self.start()

    def register(self) -> None:
        """Have an account already."""
        secret = login_secret(bytearray(PASSWORD.encode()), self.server.store.server_id, self.name, AUTHORITY.pin)
        self.server.admit(self.name, secret)

    def start(self) -> None:
        """Open the vault and load the engine."""
        source = PasswordSource.typed(self.password)
        if self.password_file is not None:
            source = PasswordSource.in_file(self.password_file)
        self.vault = Vault.open(self.path, self.name, source, cost=CHEAP)
        # A killed process loses nothing that the system has taken. Only a power failure would, so the tests skip the
        # fsync.
        self.vault._connection.execute("PRAGMA synchronous = OFF")
        if not self.marks:
            self.vault.preferences.put("send-marks", "off")
        self.engine = Engine(self.settings, self.vault, parts=replace(self.parts, clock=self.clock))

    def crash(self) -> None:
        """The process dies: whatever it had sent may still arrive, the rest is gone."""
        self.cut()
        self.vault._connection.close()
        self.vault._lock.close()
        self.start()

    def stop(self) -> None:
        """Close the vault."""
        self.cut()
        self.vault.close()

    # --- the connection -------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Make a connection."""
        assert self.link is None
        self.link = self.server.connect()
        self.link.receive(wire.ClientHello([limits.PROTOCOL_VERSION], "test"))
        self._next_id = 0
        self._in_flight = 0
        self.engine.connected(SHOWN, self.ca)

    def cut(self) -> None:
        """Lose the connection, with everything on its way from the server."""
        if self.link is not None:
            self.link.close()
            self.link = None
            self.to_server.clear()
            self.engine.disconnected()

    def work(self) -> None:
        """Do what the engine wants done with files."""
        while jobs := self.engine.take_jobs():
            for job in jobs:
                self.engine.finish([outcome(job, lambda _done: None)])

    def flush(self) -> None:
        """Take the engine's messages for the server, and its events, once no job with a file is left."""
        if self.working:
            self.work()
        if self.link is not None:
            free = limits.MAX_IN_FLIGHT - self._in_flight
            for message in self.engine.take_outgoing(free, self._id):
                if isinstance(message, wire.Request):
                    self._in_flight += 1
                self.to_server.append(_decode_client(_encode(message)))
        self.happened += self.engine.take_events()

    def _id(self) -> int:
        self._next_id += 1
        return self._next_id

    def push(self) -> bool:
        """Let one message reach the server. Return whether there was one."""
        self.flush()
        if self.link is None or not self.to_server:
            return False
        self.link.receive(self.to_server.popleft())
        return True

    def pull(self, count: int = 1) -> bool:
        """Let up to `count` messages of the server arrive at once. Return whether there was one."""
        if self.link is None or not self.link.to_client:
            return False
        batch = [self.link.take() for _ in range(min(count, len(self.link.to_client)))]
        self._in_flight -= sum(isinstance(message, wire.Reply) for message in batch)
        self.engine.receive([_decode_server(_encode(message)) for message in batch])
        self.flush()
        if self.obliging:
            for room, invitation in self.engine.snapshot.invitations.items():
                self.do(commands.AcceptInvitation(room, invitation.question))
        return True

    def question(self, room: bytes) -> int:
        """The number of the invitation to a room that they see now; 0 if there is none."""
        invitation = self.engine.snapshot.invitations.get(room)
        return invitation.question if invitation is not None else 0

    # --- what there is to see -------------------------------------------------------------------------------------

    def do(self, command: commands.Command) -> list[events.Event]:
        """Have a command carried out. Returns what was told at once; raises `UsageError` if it makes no sense."""
        self.engine.do([command])
        told = self.engine.take_events()
        for event in told:
            if isinstance(event, events.Refused) and event.command == command.id and event.message is None:
                raise UsageError(event.text)
        self.happened += told
        return told

    def id_of(self, name: str) -> bytes:
        """The conversation of this name."""
        conversation = self.engine.snapshot.find(name)
        assert conversation is not None, f"{self.name} knows no {name}"
        return conversation.id

    def state_of(self, name: str) -> str:
        """Its state."""
        conversation = self.engine.snapshot.find(name)
        return "" if conversation is None else conversation.state

    def say(self, name: str, text: str) -> int:
        """Say something there; whoever asks to talk gets a yes first. Returns the line's local id."""
        if self.state_of(name) == "request":
            self.accept(name)
        (said,) = [each for each in self.do(commands.Send(self.id_of(name), text)) if isinstance(each, events.Said)]
        return said.message.local_id

    def accept(self, name: str) -> None:
        """Say yes to somebody who asks to talk."""
        self.do(commands.Accept(self.id_of(name)))

    def safety_numbers(self, account: str) -> tuple[events.NumberedKey, ...]:
        """The keys of somebody, each with the digits to compare."""
        told = self.do(commands.ShowSafetyNumber(account))
        (shown,) = [each for each in told if isinstance(each, events.SafetyNumber)]
        return shown.keys

    def safety_number(self, account: str) -> str:
        """The digits to compare of the one key that is known."""
        (shown,) = self.safety_numbers(account)
        return shown.number

    def history(self, name: str, limit: int) -> list[Message]:
        """The newest lines of a conversation."""
        return self.vault.history.newest(self.id_of(name), limit)

    def texts(self, name: str) -> list[str]:
        """The history: `sender: text`."""
        lines = self.history(name, 10_000)
        return [f"{line.sender}: {line.text}" + (f" [{line.problem}]" if line.problem else "") for line in lines]

    def of(self, kind: type[events.Event]) -> list[events.Event]:
        """The events of one kind so far."""
        return [event for event in self.happened if isinstance(event, kind)]


def only(person: Person, change: Callable[[wire.FromServer], list[wire.FromServer]]) -> None:
    """Let the server lie to one person: `change` says what takes a message's place."""

    def outward(link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        return change(message) if link is person.link else [message]

    person.server.outward = outward


def settle(*people: Person, limit: int = 20_000, until: Callable[[], bool] = lambda: False) -> None:
    """Move messages, and time, until nobody has anything left to say, or until what is waited for has happened."""
    server = people[0].server
    for _ in range(limit):
        moved = False
        if until():
            return
        for person in people:
            assert not person.engine.failure, f"{person.name} has ended: {person.engine.failure}"
            reason = person.engine.disconnect_reason
            assert not reason, f"{person.name} gives up the connection: {reason}"
            while person.push():
                moved = True
            while person.pull(8):
                moved = True
        if moved or server.finish_checks():
            continue
        timers = [person.engine.timer for person in people if person.link is not None]
        due = min([timer for timer in timers if timer is not None], default=math.inf)
        if min(due, server.due) > server.seconds + FAR:
            return
        server.advance(max(server.seconds, min(due, server.due)))
        for person in people:
            if person.link is not None and person.engine.timer is not None and person.engine.timer <= server.seconds:
                person.engine.handle_timer()
                person.flush()
    raise AssertionError("the people never settle")
