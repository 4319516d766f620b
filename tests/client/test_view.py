"""The view model over real engines: after any events it shows what it would if it were read anew."""

from collections.abc import Callable

from securechat.client import commands
from securechat.client.events import Conversation, Message, Trust
from securechat.identity import pins
from securechat.ui.text.sentences import sentences
from securechat.ui.view.listing import Listing
from securechat.ui.view.rows import Line, Notice
from securechat.ui.view.timeline import Timeline
from tests.support.people import Person, settle

World = Callable[..., list[Person]]


def lines(timeline: Timeline) -> list[Line]:
    return [row for row in timeline.rows if isinstance(row, Line)]


class PersonReads:
    """What a person's front end would read."""

    def __init__(self, person: Person) -> None:
        self.account = person.name
        self._person = person
        pages = person.vault.reader()
        self.before, self.after, self.around = pages.before, pages.after, pages.around
        self.unread_counts, self._newest, self._pins = pages.unread_counts, pages.newest, pages.pins

    def conversations(self) -> list[Conversation]:
        return list(self._person.engine.snapshot.conversations.values())

    def conversation(self, conversation: bytes, /) -> Conversation | None:
        return self._person.engine.snapshot.get(conversation)

    def history(self, conversation: bytes, limit: int, /) -> list[Message]:
        found = self.conversation(conversation)
        return [] if found is None else self._newest(found.id, limit)

    def trust(self) -> dict[str, Trust]:
        return {pin.account: pins.standing(pin, pin.current_key) for pin in self._pins.load()}


class Watcher:
    """A person with an open timeline and a list of conversations that are told what happens."""

    def __init__(self, person: Person, name: str) -> None:
        self.person, self.reads, self.name = person, PersonReads(person), name
        self.timeline = Timeline(self.reads, person.id_of(name))
        self.listing = Listing(self.reads)
        self._seen = len(person.happened)

    def check(self) -> None:
        """Both equal what is read anew."""
        for event in self.person.happened[self._seen :]:
            self.timeline.fold(event, sentences(event, self.timeline.conversation, self.person.name))
            self.listing.fold(event)
        self._seen = len(self.person.happened)
        anew = Timeline(self.reads, self.person.id_of(self.name))
        assert self.timeline.conversation == anew.conversation
        assert lines(self.timeline) == lines(anew)
        assert set(self.listing.items) == set(Listing(self.reads).items)


def test_a_conversation_from_the_first_line_to_the_last_equals_its_history(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.cut()
    alice.do(commands.OpenDirect("bob", "are you there?", ask=True))
    hers = Watcher(alice, "bob")  # under an id that nobody else has heard of
    alice.say("bob", "still waiting")
    hers.check()
    assert [line.delivery for line in lines(hers.timeline)] == ["waiting", "waiting"]
    alice.connect()
    settle(alice, bob)
    hers.check()
    assert [line.delivery for line in lines(hers.timeline)] == ["sent", "sent"]
    his = Watcher(bob, "alice")
    bob.do(commands.Accept(bob.id_of("alice")))
    for number in range(5):
        bob.say("alice", f"his {number}")
        alice.say("bob", f"hers {number}")
        hers.check()
        his.check()
        settle(alice, bob)
    alice.do(commands.Bye(alice.id_of("bob")))
    bob.do(commands.Bye(bob.id_of("alice")))
    settle(alice, bob)
    hers.check()
    his.check()
    assert hers.timeline.conversation.state == "closed"


def test_two_who_open_a_conversation_at_the_same_time_see_every_line_once(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "from alice", ask=False))
    bob.do(commands.OpenDirect("alice", "from bob", ask=False))
    watchers = Watcher(alice, "bob"), Watcher(bob, "alice")
    settle(alice, bob)
    for watcher in watchers:
        watcher.check()
        assert sorted(line.text for line in lines(watcher.timeline)) == ["from alice", "from bob"]


def test_a_room_that_one_enters_while_away_equals_its_history(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice, bob)
    bob.cut()
    bob.do(commands.JoinRoom("#lobby"))
    watcher = Watcher(bob, "#lobby")
    bob.say("#lobby", "anybody here?")
    bob.connect()
    settle(alice, bob)
    alice.say("#lobby", "yes")
    settle(alice, bob)
    watcher.check()
    assert [line.delivery for line in lines(watcher.timeline)] == ["sent", "received"]
    told = [row.text for row in watcher.timeline.rows if isinstance(row, Notice)]
    assert any("You are in #lobby" in text for text in told)
