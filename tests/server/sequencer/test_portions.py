"""What is in proportion to what is stored takes as many turns as it needs, and others have their place in each of them.

Nothing here looks at a clock: of each turn a test sees how much was done in it, and that what others ask then is done.
"""

from collections.abc import Callable
from itertools import chain

import pytest

from securechat.server.sequencer import conversation, news, operating, presence
from securechat.server.sequencer.operations import DeleteRoom, ForgetAccount
from securechat.server.store.records import Head, InboxEntry, Membership
from securechat.wire import messages as m
from securechat.wire.chain import CHAIN_START
from tests.server.sequencer.test_retention import talk
from tests.support.memory_server import MemoryPerson as Person
from tests.support.memory_server import MemoryServer

Enter = Callable[[str], Person]

ROOMS = [number.to_bytes(32, "big") for number in range(10)]


class Site:
    """Alice and bob talk. Carol is in `ROOMS` with alice, who reads them; turns are taken one at a time."""

    def __init__(self, server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = server
        self.alice, self.bob, self.talk = talk(enter)
        self.carol = enter("carol")
        for each in ROOMS:
            head = Head(each, "open", f"#room{each[-1]}", 0, server.now, 0, CHAIN_START, b"info", founder="carol")
            for person in (self.alice, self.carol):
                head.members[person.device] = Membership(person.device, person.account, 0, CHAIN_START, None, 0)
            server.store.conversations.create(head, None, b"snapshot")
        server.store.commit()
        for each in (*ROOMS, self.talk):
            assert isinstance(self.alice.subscribe(each, 1 << 30), m.Subscribed)
        self.settle()
        self._monkeypatch, self._run = monkeypatch, server.run
        self.stop()
        self.turns = 0

    def stop(self) -> None:
        """From now on there are no turns but those of `turn`."""
        self._monkeypatch.setattr(self.server, "run", lambda: None)

    def go_on(self) -> None:
        """From now on the server does at once what is handed in."""
        self._monkeypatch.setattr(self.server, "run", self._run)

    def settle(self) -> list[m.FromServer]:
        """Let all be told what is due; what alice hears."""
        for _ in range(2):  # what has come about by then is told a second later
            self.server.advance(self.server.seconds + 5)
        while self.server.due <= self.server.seconds:
            self.server.advance()
        return self.heard()

    def heard(self) -> list[m.FromServer]:
        return [self.alice.link.take() for _ in range(len(self.alice.link.to_client))]

    def turn(self) -> list[m.FromServer]:
        """Take one turn, in which bob says something as well; what alice hears but that."""
        said = self.bob.encrypt(self.talk, "nobody waits")
        self.bob.send(said)
        self.server.due = self.server.sequencer.turn(self.server.seconds)
        heard = self.heard()
        assert [each.payload for each in heard if isinstance(each, m.Entry)] == [said.payload]
        self.turns += 1
        return [each for each in heard if not isinstance(each, m.Entry)]

    def of(self, account: str) -> list[bytes]:
        return self.server.store.conversations.of_account(account, out=True)


@pytest.fixture
def site(server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(server, enter, monkeypatch)


def told(heard: list[m.FromServer], kind: type) -> list[bytes]:
    return [each.conversation for each in heard if type(each) is kind]  # type: ignore[union-attr]  # news and presence have one


def test_a_deleted_account_is_forgotten_in_portions_and_all_are_told_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, store = site.server, site.server.store
    monkeypatch.setattr(operating, "FORGOTTEN_AT_ONCE", 3)
    for number in range(2):
        device = bytes([number]) * 16
        store.directory.reserve("carol", [device])
        store._writer.execute("INSERT INTO devices VALUES (?, 'carol', x'00')", device)
    store.inboxes.deliver(InboxEntry(0, 0, ROOMS[0], 1, bytes(32), b"w", b"t", ()), [bytes(16)], "bob")
    store.commit()
    server.accounts.delete("carol").result()
    answers: list[object] = []
    server.sequencer.expel("carol", "this account was deleted")
    server.sequencer.operate(ForgetAccount("carol", answers.append))
    left, heard = site.of("carol"), []
    assert len(left) == len(ROOMS)
    while not answers:
        heard += site.turn()
        before, left = left, site.of("carol")
        assert len(before) - len(left) <= 3
        if site.turns == 2:
            server.seconds += 5  # presence is due in the midst of it
    assert (answers, left) == ([None], [])
    assert (store.directory.devices("carol"), store.tokens.of("carol")) == ([], [])
    assert store.inboxes.read(bytes(16), 0, 1) == []
    site.go_on()
    heard += site.settle()
    for kind in (m.DirectoryNews, m.Presence):
        assert sorted(told(heard, kind)) == ROOMS
    assert {each.state for each in heard if isinstance(each, m.Presence)} == {"offline"}
    assert {*ROOMS, site.talk} == set(site.of("alice"))  # the rooms go on with her
    assert server.sequencer._conversations.get(ROOMS[0]) is not None


def test_what_a_kill_leaves_of_a_deletion_is_forgotten_at_the_start(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = site.server
    monkeypatch.setattr(operating, "FORGOTTEN_AT_ONCE", 3)
    server.sequencer.operate(ForgetAccount("carol", lambda _: None))
    site.turn()
    server.sequencer._submissions.clear()  # what only memory has
    assert len(site.of("carol")) == len(ROOMS) - 3
    server.sequencer.finish_deletions(["carol"])
    site.go_on()
    server.run()
    assert (site.of("carol"), server.store.directory.devices("carol")) == ([], [])
    assert len(site.of("alice")) == len(ROOMS) + 1


def test_rooms_that_are_deleted_in_one_turn_leave_their_rows_to_housekeeping(site: Site) -> None:
    server, connection = site.server, site.server.store._writer._connection
    members = connection.execute("SELECT count(*) FROM members").fetchone()
    answers: list[object] = []
    for each in ROOMS[:5]:
        server.sequencer.operate(DeleteRoom(f"#room{each[-1]}", answers.append))
    before = connection.total_changes
    heard = site.turn()
    assert answers == [None] * 5
    assert sum(isinstance(each, m.Notice) for each in heard) == 5
    assert connection.total_changes - before <= 3 * 5 + 5  # with what bob says
    assert connection.execute("SELECT count(*) FROM members").fetchone() == members
    assert set(site.of("alice")) == {*ROOMS[5:], site.talk}
    server.tidy()
    assert connection.execute("SELECT count(*) FROM members").fetchone() == (members[0] - 2 * 5,)


def test_conversations_that_nobody_uses_leave_memory_in_portions(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "LOOKED_AT_ONCE", 4)
    server, loaded = site.server, site.server.sequencer._conversations._loaded
    site.go_on()
    site.alice.link.close()
    server.advance(server.seconds + conversation.IDLE_SECONDS + 1)
    assert isinstance(site.bob.subscribe(site.talk), m.Subscribed)
    sizes = [len(loaded)]
    while len(loaded) > 1:
        server.sequencer.housekeep(server.seconds)
        sizes.append(len(loaded))
        assert sizes[-2] - sizes[-1] <= 4
    assert site.talk in loaded
    assert len(sizes) > 3


@pytest.mark.parametrize("state", ["dropped", "online"])
def test_who_is_in_many_conversations_comes_and_goes_in_portions(
    site: Site, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    server, carol = site.server, site.carol
    monkeypatch.setattr(presence, "TOLD_AT_ONCE", 3)
    carol.link.close()
    if state == "online":
        site.go_on()
        site.settle()
        Person(server, "carol").take_over(carol)
        site.stop()
    else:
        site.turn()
    server.seconds += 5
    portions: list[list[bytes]] = []
    while not portions or server.due <= server.seconds:
        heard = site.turn()
        portions.append(told(heard, m.Presence))
        assert {each.state for each in heard if isinstance(each, m.Presence)} <= {"dropped", "online"}
    assert sorted(chain.from_iterable(portions)) == ROOMS
    assert max(map(len, portions)) <= 3


def test_members_of_many_conversations_are_told_of_a_device_in_portions(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "TOLD_AT_ONCE", 3)
    server, device = site.server, site.carol.device
    server.store.directory.drop_devices([device])
    server.store.commit()
    for _ in range(3):  # each is told once, as it is by then
        server.sequencer._news.tell("carol", [device])
    portions = []
    server.due = server.seconds
    while server.due <= server.seconds:
        heard = site.turn()
        portions.append(told(heard, m.DirectoryNews))
        gone = [each.gone for each in heard if isinstance(each, m.DirectoryNews)]
        assert gone == [[m.Gone(device, b"")]] * len(gone)
    assert sorted(chain.from_iterable(portions)) == ROOMS
    assert [len(each) for each in portions] == [3, 3, 3, 1]
