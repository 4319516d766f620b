"""A small world in memory, in which the server lies to one person: what they are told, and what has come of it.

Alice talks with bob and with carol, each in private; the three are in `#lobby`, alice is in bob's `#club`, and bob and
carol in `#hall`, where alice is not. Dave is nobody's friend. The world is made once and put back for each lie.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from securechat.client import commands, events
from securechat.client.conversations import phases
from securechat.client.conversations.conversation import Conversation
from securechat.client.link.runner import _why
from securechat.errors import RefusedError
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.frames import encode_frames
from securechat.wire.protocol import ClientProtocol, Ended
from tests.support.memory_server import AUTHORITY, SHOWN, Link, MemoryServer
from tests.support.people import FAR, Person, settle

PEERS: Final = {"bob": "bob", "carol": "carol", "#lobby": "bob", "#club": "bob"}
"""What alice is in, and somebody who is in it with her."""

MAX_CONNECTIONS: Final = 4
"""Connections that one lie may cost: a client that never stops giving them up is of no use to anybody."""

Change = Callable[[m.FromServer], list[m.FromServer]]

WORRIES: Final[dict[type[events.Event], str]] = {
    events.TransferDelayed: "code", events.TransferEnded: "",
    events.Alarm: "kind", events.Stopped: "", events.KeyChanged: "trust", events.Held: "", events.Gap: "",
    events.OutOfStep: "what", events.Refused: "code", events.Delayed: "code", events.Disconnected: "",
    events.FirstContact: "account", events.Ended: "", events.Unreachable: "account",
    events.SecretReplaced: "",
}  # fmt: skip
"""Events that say that something is not as it should be, and what of them tells one from another."""


class Reader(Person):
    """Reads through the protocol that a live client uses, and connects again when that, or the engine, gives up."""

    def connect(self) -> None:
        """Make a connection; the server's first words are on their way."""
        assert self.link is None
        self.link = self.server.connect()
        self.protocol = ClientProtocol("test", self.server.seconds)
        self.engine.connected(SHOWN, AUTHORITY)

    def flush(self) -> None:
        """Take the engine's messages for the server, and its events."""
        if not self.engine.failure:
            self.work()
        if self.link is not None and not self.protocol.ended:
            free = limits.MAX_IN_FLIGHT - self.protocol.in_flight
            for message in self.engine.take_outgoing(free, self.protocol.next_id):
                self.protocol.send(message)
        self.happened += self.engine.take_events()

    def push(self) -> bool:
        """Let what we have to say reach the server. Return whether there was anything."""
        self.flush()
        data = b"" if self.link is None else self.protocol.data_to_send()
        if data:
            self.link.receive_data(data)  # type: ignore[union-attr]  # data is empty without one
        return bool(data)

    def pull(self, count: int = 1) -> bool:
        """Let up to `count` messages of the server arrive at once. Return whether there was one."""
        if self.link is None or not self.link.to_client:
            return False
        batch = [self.link.take() for _ in range(min(count, len(self.link.to_client)))]
        arrived = self.protocol.receive_data(encode_frames(batch), self.server.seconds)
        self.engine.receive([each for each in arrived if not isinstance(each, Ended)])
        self.flush()
        reason = self.engine.disconnect_reason
        if not reason and arrived and isinstance(arrived[-1], Ended):
            try:
                reason = _why(arrived[-1])
            except RefusedError as error:
                self.happened.append(events.Ended(error))
                self.cut()
                return False
        if self.engine.failure is not None:
            self.happened.append(events.Ended(self.engine.failure))
            self.cut()
        elif reason:
            self.cut()
            self.happened.append(events.Disconnected(reason, self.engine.retry_after))
            assert len(self.of(events.Disconnected)) < MAX_CONNECTIONS, f"no end of it: {reason}"
            self.connect()
        elif self.obliging:
            for room, invitation in self.engine.snapshot.invitations.items():
                self.do(commands.AcceptInvitation(room, invitation.question))
        return True

    @property
    def ended(self) -> bool:
        """Whether the client has ended for good."""
        return bool(self.of(events.Ended))


class World:
    """One copy of the world. `lie` has the server lie to the `victim`."""

    def __init__(self, folder: Path, **settings: object) -> None:
        """Start the server and everybody's programs from what is in `folder`, or from nothing."""
        self.folder = folder
        self.server = MemoryServer(folder / "server", **settings)
        self.alice = Reader(self.server, folder, "alice", register=True)
        self.alice.obliging = False
        self.bob, self.carol, self.dave = (Person(self.server, folder, name) for name in ("bob", "carol", "dave"))
        self.everybody: list[Person] = [self.alice, self.bob, self.carol, self.dave]
        self.victim = self.alice

    def stop(self) -> None:
        """Close everything."""
        for person in self.everybody:
            person.stop()
        self.server.stop()

    def begin(self, *people: Person) -> None:
        """Connect people, all of them if none is named."""
        for person in people or self.everybody:
            person.connect()
        self.run()

    def make(self) -> None:
        """Bring people together."""
        alice, bob, carol, _ = everybody = self.everybody
        for person in everybody[1:]:
            person.register()
        alice.obliging = True
        self.begin()
        for peer in (bob, carol):
            alice.do(commands.OpenDirect(peer.name, "hello", ask=False))
            settle(*everybody)
            peer.say("alice", "hi")
            settle(*everybody)
        for room, people in (("#lobby", (bob, carol, alice)), ("#hall", (bob, carol))):
            for person in people:
                person.do(commands.JoinRoom(room))
                settle(*everybody)
        bob.do(commands.CreateRoom("#club"))
        settle(*everybody)
        bob.do(commands.Invite(bob.id_of("#club"), "alice"))
        settle(*everybody)
        alice.say("#club", "here")
        settle(*everybody)

    def run(self) -> None:
        """Move messages, and time, until nobody who is connected has anything left to say."""
        for _ in range(20_000):
            moved = False
            for person in self.everybody:
                while person.push():
                    moved = True
                while person.pull(8):
                    moved = True
            if moved or self.server.finish_checks():
                continue
            waiting = [person for person in self.everybody if person.link is not None and person.engine.timer]
            due = min([self.server.due, *(person.engine.timer or 0.0 for person in waiting)])
            if due > self.server.seconds + FAR:
                return
            self.server.advance(max(self.server.seconds, due))
            for person in waiting:
                if (timer := person.engine.timer) is not None and timer <= self.server.seconds:
                    person.engine.handle_timer()
                    person.flush()
        raise AssertionError("the people never settle")

    def lie(self, change: Change) -> None:
        """From now on `change` says what the victim gets in place of a message."""
        others = {id(person.link) for person in self.everybody if person is not self.victim}

        def outward(link: Link, message: m.FromServer) -> list[m.FromServer]:
            meant = link is self.victim.link or (self.victim.link is None and id(link) not in others)  # says hello
            return change(message) if meant else [message]

        self.server.outward = outward

    def honest(self) -> None:
        """The server lies no more."""
        self.server.outward = lambda _link, message: [message]

    def there(self, person: Person, name: str) -> Conversation | None:
        """A conversation as a client has it."""
        return person.engine._registry.find(name)

    def authenticators(self) -> dict[tuple[bytes, int, bytes], set[str]]:
        """Which state of which group (id, epoch, authenticator) is whose."""
        states: dict[tuple[bytes, int, bytes], set[str]] = {}
        for person in self.everybody:
            for each in person.engine._registry:
                if each.row.phase in phases.INSIDE:
                    state = (each.id, each.group.epoch, each.group.epoch_authenticator)
                    states.setdefault(state, set()).add(person.name)
        return states


@contextmanager
def put_back(made: Path, folder: Path, **settings: object) -> Iterator[World]:
    """The world as it was made, for one lie."""
    shutil.copytree(made, folder, dirs_exist_ok=True)
    world = World(folder, **settings)
    world.server.now += 60_000  # later than whatever was done when it was made
    try:
        yield world
    finally:
        world.stop()
