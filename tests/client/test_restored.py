"""A restored server: nobody goes back, what it lacks is handed back, and all go on (design, section 6)."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from securechat.client import commands, events
from securechat.server.sequencer import budgets
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.wire import messages as wire
from tests.client.test_following import renew, there, told
from tests.support.memory_server import Link, MemoryServer
from tests.support.people import Person, settle

World = Callable[..., list[Person]]


class Backups:
    """The server's database as it was, to be put back."""

    def __init__(self, server: MemoryServer, folder: Path) -> None:
        self._server = server
        self._file = folder / "store.db"

    def take(self, copy: Path) -> None:
        """Make a backup, as `securechat admin backup` does."""
        with closing(sqlite3.connect(self._file)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)

    def put_back(self, copy: Path, *people: Person) -> None:
        """Restore one, as `securechat admin restore` does; everybody has lost the connection."""
        for person in people:
            person.cut()
        server = self._server
        server.stop()
        for each in self._file.parent.glob("store.db*"):
            each.unlink()
        with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(self._file)) as target:
            source.backup(target)
        with closing(SQLiteStore(self._file, durable=False)) as store:
            store.directory.drop_key_packages()
            store.conversations.resume(server.now)
            store.commit()
        now, seconds = server.now, server.seconds
        server.__init__(self._file.parent)  # type: ignore[misc]  # the same object: people hold on to it
        server.now, server.seconds = now, seconds


@pytest.fixture
def backups(server: MemoryServer, tmp_path: Path) -> Backups:
    return Backups(server, tmp_path / "server")


def talk(everybody: list[Person], name: str, text: str) -> None:
    """Everybody says something, and everybody reads it."""
    for person in everybody:
        person.say(_their(person, name), f"{text} of {person.name}")
        settle(*everybody)
    for person in everybody:
        lines = person.texts(_their(person, name))
        assert [line for line in lines if text in line] == [f"{each.name}: {text} of {each.name}" for each in everybody]


def _their(person: Person, name: str) -> str:
    """A conversation's name for one of its members; `alice-bob` is a direct one."""
    return next(each for each in name.split("-") if each != person.name)


def come_back(everybody: list[Person]) -> None:
    """Everybody connects."""
    for person in everybody:
        person.connect()
    settle(*everybody)


def asked(person: Person) -> list[events.Event]:
    """What a person was asked, or alarmed by."""
    return [*person.of(events.Alarm), *person.of(events.Held), *person.of(events.Stopped), *person.of(events.Refused)]


def test_where_messages_alone_are_lost_all_go_on_behind_a_gap(
    people: World, backups: Backups, tmp_path: Path
) -> None:
    everybody = alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(*everybody)
    bob.say("alice", "hi")
    settle(*everybody)
    backups.take(tmp_path / "backup")
    talk(everybody, "alice-bob", "lost")
    backups.put_back(tmp_path / "backup", *everybody)
    come_back(everybody)
    talk(everybody, "alice-bob", "anew")
    assert not asked(alice)
    assert not asked(bob)
    assert not told(bob, events.OutOfStep)


def test_an_open_room_is_the_servers_and_whoever_knows_more_enters_it_anew(
    people: World, backups: Backups, tmp_path: Path
) -> None:
    everybody = alice, bob, carol = people("alice", "bob", "carol")
    for person in (alice, bob):
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    backups.take(tmp_path / "backup")
    carol.do(commands.JoinRoom("#lobby"))
    settle(*everybody)
    epoch = there(alice, "#lobby").group.epoch
    backups.put_back(tmp_path / "backup", *everybody)
    alice.say("#lobby", "waits")
    come_back(everybody)
    assert told(alice, events.OutOfStep) == told(bob, events.OutOfStep) == ["ahead"]
    assert there(alice, "#lobby").group.epoch_authenticator == there(bob, "#lobby").group.epoch_authenticator
    assert epoch <= there(alice, "#lobby").group.epoch
    assert bob.texts("#lobby")[-1] == "alice: waits"
    assert "carol" not in there(alice, "#lobby").row.members  # she has to come again
    assert told(carol, events.OutOfStep) == ["not-found"]
    carol.do(commands.JoinRoom("#lobby"))
    settle(*everybody)
    talk(everybody, "#lobby", "anew")
    for person in everybody:
        assert not asked(person)


@pytest.mark.parametrize("times", [1, 2])
def test_what_a_direct_conversation_lacks_is_handed_back(
    people: World, backups: Backups, tmp_path: Path, times: int
) -> None:
    everybody = alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(*everybody)
    bob.say("alice", "hi")
    settle(*everybody)
    backups.take(tmp_path / "backup")
    for time in range(times):
        talk(everybody, "alice-bob", f"lost {time}")
        renew(alice, "bob", bob)
        renew(bob, "alice", alice)
        epoch = there(alice, "bob").group.epoch
        backups.put_back(tmp_path / "backup", *everybody)
        come_back(everybody)
        talk(everybody, "alice-bob", f"anew {time}")
        assert there(alice, "bob").group.epoch > epoch
    for person in everybody:
        assert not asked(person)
        assert person.state_of(_their(person, "alice-bob")) == "open"


@pytest.mark.parametrize("first", ["alice", "bob", "carol", "dave"])
def test_whoever_comes_first_all_of_a_room_find_together_again(
    people: World, backups: Backups, tmp_path: Path, first: str
) -> None:
    everybody = alice, bob, carol, dave = people("alice", "bob", "carol", "dave")
    alice.do(commands.CreateRoom("#club"))
    settle(*everybody)
    for name in ("bob", "carol"):
        alice.do(commands.Invite(alice.id_of("#club"), name))
        settle(*everybody)
    backups.take(tmp_path / "backup")
    bob.cut()  # and so he is behind the others
    alice.do(commands.Invite(alice.id_of("#club"), "dave"))
    settle(alice, carol, dave)
    renew(carol, "#club", alice, dave)
    alice.say("#club", "lost")
    settle(alice, carol, dave)
    backups.put_back(tmp_path / "backup", *everybody)
    everybody.sort(key=lambda person: person.name != first)
    come_back(everybody)
    talk(everybody, "#club", "anew")
    assert set(there(bob, "#club").row.members) == {"alice", "bob", "carol", "dave"}
    for person in everybody:
        assert not asked(person)



def test_a_room_of_ten_finds_together_after_two_restores_and_nobody_is_asked(
    people: World, backups: Backups, tmp_path: Path
) -> None:
    everybody = people("alice", *(f"member{number}" for number in range(9)))
    alice, *others = everybody
    alice.do(commands.CreateRoom("#club"))
    settle(*everybody)
    for person in others:
        alice.do(commands.Invite(alice.id_of("#club"), person.name))
    settle(*everybody)
    backups.take(tmp_path / "backup")
    for time in range(2):
        away, here = everybody[7:], everybody[:7]
        for person in away:
            person.cut()
        for person in here[:3]:
            renew(person, "#club", *here)
        alice.say("#club", f"lost {time}")
        settle(*here)
        backups.put_back(tmp_path / "backup", *everybody)
        come_back(everybody)
        alice.say("#club", f"anew {time}")
        settle(*everybody)
        for person in everybody:
            assert person.texts("#club")[-1] == f"alice: anew {time}"
            assert not asked(person)
        assert len({there(person, "#club").group.epoch_authenticator for person in everybody}) == 1


def test_who_goes_on_in_the_servers_branch_first_makes_the_lost_one_wait(
    people: World, backups: Backups, tmp_path: Path
) -> None:
    """There are two honest branches then: nobody goes back, and the others are told that they need an invitation."""
    everybody = alice, bob, carol = people("alice", "bob", "carol")
    alice.do(commands.CreateRoom("#club"))
    settle(*everybody)
    for name in ("bob", "carol"):
        alice.do(commands.Invite(alice.id_of("#club"), name))
        settle(*everybody)
    backups.take(tmp_path / "backup")
    bob.cut()
    renew(carol, "#club", alice)
    mine = there(carol, "#club").group.epoch_authenticator
    backups.put_back(tmp_path / "backup", *everybody)
    bob.connect()
    bob.say("#club", "in the branch of the server")  # behind the gap, so a fresh path comes first
    settle(bob)
    for person in (alice, carol):
        person.connect()
    settle(*everybody)
    assert there(carol, "#club").group.epoch_authenticator == mine
    assert "bob: in the branch of the server" not in carol.texts("#club")
    for person in (alice, carol):
        assert told(person, events.OutOfStep) == ["ahead", "nothing-left"]
        assert not person.of(events.Stopped)


@pytest.mark.parametrize("lie", ["nothing", "altered", "out of order", "of another conversation", "another GroupInfo"])
def test_what_is_handed_back_is_checked_like_a_new_commit(
    server: MemoryServer, people: World, backups: Backups, tmp_path: Path, lie: str
) -> None:
    everybody = alice, bob = people("alice", "bob")
    for name in ("#club", "#other"):
        alice.do(commands.CreateRoom(name))
        settle(*everybody)
        alice.do(commands.Invite(alice.id_of(name), "bob"))
        settle(*everybody)
    backups.take(tmp_path / "backup")
    for name in ("#club", "#other"):
        renew(alice, name, bob)
        renew(bob, name, alice)
    room, epoch = alice.id_of("#club"), there(alice, "#club").group.epoch
    backups.put_back(tmp_path / "backup", *everybody)
    before = server.head(room).epoch
    refusals: list[str] = []

    def inward(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.HandBack) and message.conversation == room:
            asked_for.add((link, message.id))
            first, *others = message.handshakes
            payload, info = first.payload, first.group_info
            bad = {
                "nothing": message.handshakes,
                "altered": [wire.Handshake(payload[:300] + bytes([payload[300] ^ 1]) + payload[301:], info), *others],
                "out of order": others,
                "of another conversation": list(elsewhere),
                "another GroupInfo": [wire.Handshake(payload, others[0].group_info), *others],
            }[lie]
            return [msgspec.structs.replace(message, handshakes=bad)]
        if isinstance(message, wire.HandBack):
            elsewhere[:] = message.handshakes
        return [message]

    def outward(link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Refused) and (link, message.id) in asked_for:
            refusals.append(message.code)
        return [message]

    asked_for: set[tuple[Link, int]] = set()
    elsewhere: list[wire.Handshake] = []
    server.inward, server.outward = inward, outward
    for person in everybody:  # what #other has lost is known first
        person.connect()
    for _ in range(200):
        for person in everybody:
            person.push()
            person.pull()
        server.advance(server.seconds + 0.01)
    if lie == "nothing":
        assert server.head(room).epoch >= epoch
    else:
        assert server.head(room).epoch == before
    expected = {"nothing": set(), "out of order": {"not-now"}, "of another conversation": {"bad-request"}}
    assert set(refusals) == expected.get(lie, {"invalid-commit"})


def test_a_flood_of_what_is_handed_back_meets_its_budget_and_a_log_that_has_lost_nothing_takes_none(
    server: MemoryServer, people: World, backups: Backups, tmp_path: Path
) -> None:
    everybody = alice, _ = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    alice.do(commands.JoinRoom("#lobby"))
    settle(*everybody)
    direct, lobby = alice.id_of("bob"), alice.id_of("#lobby")

    def hand_back(count: int, conversation: bytes = direct) -> list[str]:
        replies: list[str] = []

        def outward(link: Link, message: wire.FromServer) -> list[wire.FromServer]:
            if link is alice.link and isinstance(message, wire.Refused) and message.id == 77:
                replies.append(message.code)
                return []
            return [message]

        server.outward = outward
        assert alice.link is not None
        alice.link.receive(wire.HandBack(77, conversation, [wire.Handshake(b"x", b"")] * count))
        server.run()
        return replies

    assert hand_back(1) == ["not-allowed"]
    backups.take(tmp_path / "backup")
    backups.put_back(tmp_path / "backup", *everybody)
    come_back(everybody)
    assert hand_back(1, lobby) == ["not-allowed"]  # everybody can enter it anew
    for _ in range(budgets.HANDED_BACK // 50):
        assert hand_back(50) == ["invalid-commit"]
    assert hand_back(50) == ["slow-down"]
    server.seconds += 3600
    assert hand_back(50) == ["invalid-commit"]
    talk(everybody, "alice-bob", "calm")


def test_who_is_not_known_any_more_waits_for_the_others_whatever_they_try(
    server: MemoryServer, people: World, backups: Backups, tmp_path: Path
) -> None:
    everybody = alice, bob = people("alice", "bob")
    alice.do(commands.CreateRoom("#club"))
    settle(*everybody)
    backups.take(tmp_path / "backup")
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    settle(*everybody)
    talk(everybody, "#club", "lost")
    backups.put_back(tmp_path / "backup", *everybody)
    bob.connect()
    _wait(server, bob)
    assert there(bob, "#club").row.phase == "ahead"
    bob.do(commands.Repair(bob.id_of("#club")))
    _wait(server, bob)
    assert there(bob, "#club").row.phase == "ahead"
    assert bob.link is not None
    assert bob.link.open
    alice.connect()
    settle(*everybody)
    talk(everybody, "#club", "anew")
    for person in everybody:
        assert not [*person.of(events.Alarm), *person.of(events.Held), *person.of(events.Stopped)]


def test_an_entry_said_to_be_handed_back_is_no_way_round_the_checks(
    server: MemoryServer, people: World
) -> None:
    """A message cannot be one, and a commit is checked as ever; only its number does not count."""
    everybody = alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(*everybody)
    bob.say("alice", "hi")
    settle(*everybody)

    def outward(link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        if link is bob.link and isinstance(message, wire.Entry):
            return [msgspec.structs.replace(message, kind=4)]
        return [message]

    server.outward = outward
    alice.say("bob", "by another kind")
    settle(*everybody)
    assert "alice: by another kind" not in bob.texts("alice")
    (alarm,) = bob.of(events.Alarm)
    assert "was handed back, and is a message" in getattr(alarm, "text", "")


def _wait(server: MemoryServer, person: Person) -> None:
    """Let a minute go by for somebody who has something to try again, up to an answer."""
    for _ in range(60):
        server.advance(server.seconds + 1)
        if person.engine.timer is not None and person.engine.timer <= server.seconds:
            person.engine.handle_timer()
        while person.push() or person.pull(8):
            pass
