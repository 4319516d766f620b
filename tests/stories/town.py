"""A town around the server in memory: people with real engines, and crowds that fill rooms and stay silent.

The crowd has real keys and leaves in the tree, and can read, but runs no client; so rooms of 30 and of 300 cost little.
"""

import shutil
from pathlib import Path
from typing import Final, NamedTuple

from securechat.client import commands
from securechat.client.conversations.conversation import Conversation
from securechat.wire import messages as wire
from tests.stories.asking import forget, there
from tests.support.memory_server import MemoryPerson, MemoryServer
from tests.support.people import PASSWORD, Person, settle

DAY: Final = 86_400_000  # milliseconds


class Town:
    """Who lives at one server. Close it with `close`; what is in the folder then can be opened again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = MemoryServer(folder / "server", max_clients=1000)
        self.server.now = max(self.server.now, self.server.store.newest() + 1)
        self.people: list[Person] = []
        self._crowd: list[MemoryPerson] = []

    def close(self) -> None:
        """Let go of the files."""
        for person in self.people:
            person.stop()
        self.server.stop()

    def settle(self) -> None:
        """Move messages until nobody has anything left to say."""
        settle(*self.people)

    def pass_time(self, days: float) -> None:
        """Let time go by; the server and whoever is connected do what is due."""
        self.server.now += int(days * DAY)
        self.server.advance(self.server.seconds + days * DAY / 1000)
        self.server.tidy()
        for person in self.here:
            person.engine.handle_timer()
        self.exchange()

    @property
    def here(self) -> list[Person]:
        """Who is connected."""
        return [person for person in self.people if person.link is not None]

    def exchange(self) -> None:
        """Move messages until nobody has anything left to say now; what is tried again later waits."""
        moved = True
        while moved:
            moved = self.server.finish_checks()
            for person in self.here:
                moved |= person.push() or person.pull(8)

    def move_in(self, *names: str) -> list[Person]:
        """Make people who have an account, or open their vaults again, and connect them."""
        file = self.folder / "password"  # so that nobody has to be asked for it when their keys are renewed
        file.write_text(PASSWORD)
        new = [Person(self.server, self.folder, name, file) for name in names]
        for person in new:
            if person.engine.snapshot.conversations == {}:
                person.register()
            person.connect()
        self.people += new
        self.settle()
        return new

    def befriend(self, one: Person, *others: Person) -> None:
        """Let one talk in private with each of the others, both ways."""
        for other in others:
            one.do(commands.OpenDirect(other.name, "hello", ask=False))
        settle(one, *others)
        for other in others:
            other.say(one.name, "hi")
        settle(one, *others)

    def room(self, name: str, owner: Person, *members: Person, size: int) -> bytes:
        """Found a room of invitation, with people in it and a crowd that makes it as large as `size`."""
        owner.do(commands.CreateRoom(name))
        settle(owner)
        room = owner.id_of(name)
        for member in members:
            owner.do(commands.Invite(room, member.name))
        settle(owner, *members)
        if missing := size - 1 - len(members):
            self._fill(room, owner, missing)
        self.settle()
        assert len(there(owner, room).row.members) == size
        return room

    def _fill(self, room: bytes, owner: Person, count: int) -> None:
        while len(self._crowd) < count:
            guest = MemoryPerson(self.server, f"guest-{len(self._crowd)}")
            self.server.admit(guest.account, guest.secret)
            guest.login()
            self._crowd.append(guest)
        leader, *guests = self._crowd[:count]
        owner.do(commands.Invite(room, leader.account))
        self.settle()
        leader.read_inbox()
        while leader.accept_welcome() != room:
            pass
        owner.do(commands.SetInviter(room, leader.account, inviter=True))
        self.settle()
        leader.subscribe(room)
        while leader.groups[room].epoch < there(owner, room).group.epoch:
            leader.process(leader.take(wire.Entry, lambda entry: entry.conversation == room))
        reply = leader.change(room, *(add for guest in guests for add in leader.adds(guest.account)))
        assert isinstance(reply, wire.Accepted), reply


def copy(person: Person, folder: Path) -> Path:
    """Put a copy of somebody's vault aside. They are connected again after it."""
    person.stop()
    folder.mkdir()
    for file in person.path.parent.glob(f"{person.path.name}*"):
        shutil.copy(file, folder)
    person.start()
    person.connect()
    return folder


def put_back(person: Person, folder: Path) -> None:
    """Put the copy back in place of the vault, and connect."""
    person.stop()
    for file in folder.iterdir():
        shutil.copy(file, person.path.parent)
    person.start()
    person.connect()


class Place:
    """A conversation, and those in it who run a client."""

    def __init__(self, town: Town, room: str, *people: Person) -> None:
        """`room`: its name, or nothing if it is the private conversation of two."""
        self._town = town
        self._room = room
        self.people = people

    def called(self, person: Person) -> str:
        """What somebody knows it by."""
        return self._room or next(each.name for each in self.people if each is not person)

    def there(self, person: Person) -> Conversation:
        """The conversation as somebody's client has it."""
        return there(person, self.called(person))

    def texts(self, person: Person) -> list[str]:
        """What somebody has of it."""
        return person.texts(self.called(person))

    def say(self, person: Person, text: str) -> None:
        """Have somebody say something; everybody who is connected gets it."""
        person.say(self.called(person), text)
        self._town.exchange()

    def pass_days(self, days: int, *speakers: Person, every: int = 7) -> None:
        """Let days go by, a week at a time, in which some people talk."""
        for day in range(0, days, every):
            self._town.pass_time(min(every, days - day))
            for speaker in speakers:
                self.say(speaker, f"{speaker.name} on day {day}")

    def all_read_each_other(self, *without: Person) -> None:
        """Have everybody say something: all others read it, in one epoch that all agree on."""
        people = [person for person in self.people if person not in without]
        for person in people:
            person.say(self.called(person), f"{person.name} is here")
            settle(*people)
        said = [f"{person.name}: {person.name} is here" for person in people]
        for person in people:
            assert self.texts(person)[-len(said) :] == said, person.name
        assert len({self.there(person).group.epoch_authenticator for person in people}) == 1


class Neighbours(NamedTuple):
    """Alice, ten people who talk with her in private, and three rooms of 30 in which she and bob are members."""

    alice: Person
    friends: list[Person]
    owners: list[Person]
    bob: Person

    @property
    def everybody(self) -> list[Person]:
        """All of them."""
        return [self.alice, *self.friends, *self.owners, self.bob]


ROOMS: Final = ("#one", "#two", "#three")


def neighbours(town: Town) -> Neighbours:
    """Have them move in. What they were asked for that is not part of the story."""
    alice, bob = town.move_in("alice", "bob")
    friends = town.move_in(*(f"friend-{number}" for number in range(10)))
    owners = town.move_in(*(f"owner-{name[1:]}" for name in ROOMS))
    town.befriend(alice, *friends)
    for name, owner in zip(ROOMS, owners, strict=True):
        town.room(name, owner, alice, bob, size=30)
    found = Neighbours(alice, friends, owners, bob)
    forget(*found.everybody)
    return found


def start_afresh(town: Town, person: Person) -> Person:
    """Lose the device of somebody, without a backup. Returns them with a new one, and a new identity key."""
    person.cut()
    folder = town.folder / f"new phone of {person.name}"
    folder.mkdir()
    new = Person(town.server, folder, person.name, new_identity=True)
    new.register()
    new.connect()
    settle(new)
    forget(new)
    town.people.append(new)
    return new
