"""A restored server: nobody goes back, what it lacks is handed back, and all go on (design, section 6)."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from securechat.client import commands, events
from securechat.client.backoff import MAX_RETRY_SECONDS, RETRY_SECONDS
from securechat.client.vault.history import MOVING_LINES
from securechat.content.registry import Instead, Text, encode_body
from securechat.server.sequencer import budgets, handing_back
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.ui.text.sentences import sentences
from securechat.wire import messages as wire
from tests.client.test_following import changes, renew, there, told
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
    for person in everybody:  # nobody has been away
        assert {each.why for each in person.of(events.Gap)} == {"restored"}  # type: ignore[attr-defined]  # by its kind


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


def test_many_lines_of_a_log_that_begins_anew_go_aside_in_portions_also_past_a_crash(people: World) -> None:
    everybody = alice, bob = people("alice", "bob")
    for person in everybody:
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    talk(everybody, "#lobby", "before")
    room = alice.id_of("#lobby")
    alice.cut()
    conversation = there(alice, "#lobby")
    cursor = conversation.row.cursor
    with alice.vault.transaction():
        for place in range(1_000, 1_000 + 3 * MOVING_LINES):
            old = encode_body(Text("old"))
            alice.vault.history.add(room, "bob", old, own=False, trust="accepted", seq=place, time=alice.server.now)
        alice.engine._registry.archive(conversation)  # as where the server let her in at an earlier place
        conversation.row.cursor = cursor
        conversation.save()

    def left() -> int:
        (count,) = alice.vault.one("SELECT count(*) FROM messages WHERE conversation = ? AND place > 900", room)
        return int(count)

    bob.say("#lobby", "meanwhile")
    portions = [left()]
    for _ in range(2):  # the second time after a crash
        alice.connect()
        settle(*everybody, until=lambda: left() < portions[-1])
        portions.append(left())
        assert alice.vault.history.is_moving(room)
        assert not there(alice, "#lobby").live  # what comes now would be taken for what the old lines are about
        alice.crash()
    alice.connect()
    settle(*everybody)
    assert [3 * MOVING_LINES - each for each in (MOVING_LINES, 2 * MOVING_LINES)] == portions[:2]
    assert (left(), alice.vault.history.is_moving()) == (0, False)
    assert alice.texts("#lobby") == ["bob: meanwhile"]  # the rest is in a conversation of its own, under this name
    talk(everybody, "#lobby", "anew")
    counted = alice.vault.all(
        "SELECT conversation, count(*), max(local_id) FROM messages LEFT JOIN seen USING (conversation)"
        " WHERE own = 0 AND local_id > coalesce(line, 0) GROUP BY conversation"
    )
    assert alice.vault.history.unread_counts() == {bytes(where): (lines, newest) for where, lines, newest in counted}


@pytest.mark.parametrize("lost", ["a word", "a departure", "nothing"])
def test_an_open_room_that_has_lost_who_has_to_go_is_entered_anew_and_shut_to_nobody(
    server: MemoryServer, people: World, backups: Backups, tmp_path: Path, lost: str
) -> None:
    """Its epoch is the same. Whoever knows of it would have to take somebody out of whom the server knows nothing."""
    everybody = alice, bob, mallory = people("alice", "bob", "mallory")
    for person in everybody:
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    backups.take(tmp_path / "backup")
    if lost == "a word":
        server.speak("#lobby", "bar", "mallory")
    elif lost == "a departure":
        mallory.do(commands.Leave(mallory.id_of("#lobby")))
    settle(*everybody)
    backups.put_back(tmp_path / "backup", *everybody)
    everybody = [alice, bob]
    come_back(everybody)
    talk(everybody, "#lobby", "anew")
    for person in everybody:
        assert bool(told(person, events.OutOfStep)) is (lost != "nothing")
    assert not any(map(asked, everybody))
    if lost == "a word":  # the operator repeats it, and mallory is out
        server.speak("#lobby", "bar", "mallory")
        settle(*everybody)
        talk(everybody, "#lobby", "without mallory")
        assert set(there(alice, "#lobby").row.members) == {"alice", "bob"}
        assert not any(map(asked, everybody))


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



def test_a_server_that_takes_what_it_lacks_and_stays_behind_is_given_it_ever_more_seldom(
    server: MemoryServer, people: World
) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.CreateRoom("#club"))
    settle(alice, bob)
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    settle(alice, bob)
    handed_back: list[float] = []

    def take(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.HandBack):
            handed_back.append(server.seconds)
            link.send(wire.Done(message.id))
            return []
        return [message]

    def stay_behind(_link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Subscribed) and message.epoch:
            return [msgspec.structs.replace(message, epoch=message.epoch - 1)]
        return [message]

    bob.cut()
    server.inward, server.outward = take, stay_behind
    bob.connect()
    settle(bob, until=lambda: len(handed_back) > 9)
    waits = [later - earlier for earlier, later in pairwise(handed_back)]
    assert min(waits) >= RETRY_SECONDS / 2
    assert max(waits) >= MAX_RETRY_SECONDS / 2
    server.inward, server.outward = lambda _, message: [message], lambda _, message: [message]
    settle(alice, bob)
    bob.say("#club", "the truth")
    settle(alice, bob)
    assert alice.texts("#club")[-1] == "bob: the truth"


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


def club(people: World) -> list[Person]:
    """alice's room, with bob and carol in it."""
    everybody = alice, *others = people("alice", "bob", "carol")
    alice.do(commands.CreateRoom("#club"))
    settle(*everybody)
    for person in others:
        alice.do(commands.Invite(alice.id_of("#club"), person.name))
        settle(*everybody)
    return everybody


def state(person: Person) -> bytes:
    return there(person, "#club").group.epoch_authenticator


def go_on_alone(person: Person) -> None:
    """Somebody is back first, waits in vain for the others, and goes on where the backup was."""
    person.connect()
    person.say("#club", f"{person.name}'s branch")  # behind the gap, so a fresh path comes first
    settle(person)


def invite_back(alice: Person, name: str, everybody: list[Person]) -> None:
    for command in (commands.Remove, commands.Invite):
        alice.do(command(alice.id_of("#club"), name))
        settle(*everybody)


@pytest.mark.parametrize("owner_signed", [True, False])
@pytest.mark.parametrize("first", ["alice", "carol"])
def test_of_two_branches_the_one_with_an_owners_signature_goes_on_whoever_is_back_first(
    server: MemoryServer, people: World, backups: Backups, tmp_path: Path, first: str, *, owner_signed: bool
) -> None:
    everybody = alice, bob, carol = club(people)
    backups.take(tmp_path / "backup")
    bob.cut()
    renew(carol, "#club", alice)
    if owner_signed:
        renew(alice, "#club", carol)
    backups.put_back(tmp_path / "backup", *everybody)
    go_on_alone(bob)
    lost, epoch = state(bob), there(alice, "#club").group.epoch
    come_back(sorted([alice, carol], key=lambda person: person.name != first))
    settle(*everybody)
    assert state(alice) == state(carol) != lost
    assert state(bob) == lost  # nobody goes back
    assert there(alice, "#club").group.epoch >= epoch
    assert server.head(alice.id_of("#club")).epoch == there(alice, "#club").group.epoch
    talk([alice, carol], "#club", "anew")
    assert "bob: bob's branch" not in alice.texts("#club")
    (told_bob,) = [each for each in bob.of(events.OutOfStep) if getattr(each, "what", "") == "nothing-left"]
    assert getattr(told_bob, "account", "") == "alice"
    bob.obliging = False
    before = len(bob.of(events.Invited))
    invite_back(alice, "bob", everybody)
    room, (asked_now,) = bob.id_of("#club"), bob.of(events.Invited)[before:]
    assert isinstance(asked_now, events.Invited)
    assert asked_now.invitation.again
    assert state(bob) == lost  # until he says yes
    bob.do(commands.AcceptInvitation(room, bob.question(room)))
    settle(*everybody)
    assert state(alice) == state(bob) == state(carol)
    talk(everybody, "#club", "together")
    for person in everybody:
        assert not person.of(events.Stopped)
        assert not person.of(events.Alarm)


def test_without_an_owner_the_servers_branch_goes_on(
    people: World, backups: Backups, tmp_path: Path
) -> None:
    """Twin: carol's branch has no owner's signature, and its owner is not there to give it one."""
    everybody = alice, bob, carol = club(people)
    backups.take(tmp_path / "backup")
    for person in (alice, bob):
        person.cut()
    renew(carol, "#club")
    mine = state(carol)
    backups.put_back(tmp_path / "backup", *everybody)
    go_on_alone(bob)
    carol.connect()
    settle(carol, bob)
    assert state(carol) == mine
    assert told(carol, events.OutOfStep) == ["ahead", "nothing-left"]
    alice.connect()
    settle(*everybody)
    talk([alice, bob], "#club", "anew")
    carol.obliging = True
    invite_back(alice, "carol", everybody)
    talk(everybody, "#club", "together")


def test_showing_branches_that_are_none_meets_a_budget(
    server: MemoryServer, people: World, backups: Backups, tmp_path: Path
) -> None:
    everybody = alice, bob, carol = club(people)
    backups.take(tmp_path / "backup")
    bob.cut()
    renew(carol, "#club", alice)
    backups.put_back(tmp_path / "backup", *everybody)
    go_on_alone(bob)
    carol.connect()
    settle(bob, carol)
    room, replies = carol.id_of("#club"), []
    (*_, (_, kept, _)) = carol.vault.handshakes.load(room, after=0)
    entry = msgspec.msgpack.decode(kept, type=wire.Entry)

    def outward(link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        if link is carol.link and isinstance(message, wire.Refused) and message.id == 77:
            replies.append(message.code)
            return []
        return [message]

    server.outward = outward
    for _ in range(budgets.HANDED_BACK // (handing_back.BRANCH_COUNT + 1) + 1):
        assert carol.link is not None
        carol.link.receive(wire.HandBack(77, room, [wire.Handshake(entry.payload, entry.group_info)]))
        server.run()
    assert replies[0] == "stale-epoch"
    assert replies[-1] == "slow-down"


def test_of_two_branches_that_owners_have_signed_the_higher_epoch_of_their_commits_goes_on(
    people: World, backups: Backups, tmp_path: Path
) -> None:
    everybody = alice, bob, carol = club(people)
    alice.do(commands.SetOwner(alice.id_of("#club"), "bob", owner=True))
    settle(*everybody)
    backups.take(tmp_path / "backup")
    bob.cut()
    for _ in range(2):
        renew(carol, "#club", alice)
    renew(alice, "#club", carol)
    backups.put_back(tmp_path / "backup", *everybody)
    go_on_alone(bob)
    lost = state(bob)
    come_back([alice, carol])
    settle(*everybody)
    assert state(alice) == state(carol) != lost
    talk([alice, carol], "#club", "anew")
    bob.cut()
    bob.connect()
    settle(*everybody)
    assert state(bob) == lost  # he is an owner, and does not take it back
    talk([alice, carol], "#club", "still")


def anew(person: Person) -> list[int]:
    """How many lines may not have arrived, each time that a person was told that a private chat goes on anew."""
    found = [each for each in person.of(events.OutOfStep) if isinstance(each, events.OutOfStep)]
    return [each.count for each in found if each.what == "anew"]


def acquainted(people: World) -> list[Person]:
    """Two who have talked."""
    everybody = alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(*everybody)
    bob.say("alice", "hi")
    settle(*everybody)
    return everybody


def two_branches(people: World, backups: Backups, tmp_path: Path) -> list[Person]:
    """alice knows more than the restored server, and bob has gone on where it was. She is not connected, he is."""
    everybody = alice, bob = acquainted(people)
    backups.take(tmp_path / "backup")
    bob.cut()
    renew(alice, "bob")
    backups.put_back(tmp_path / "backup", *everybody)
    bob.connect()
    bob.say("alice", "in the branch of the server")
    settle(bob)
    return everybody


def together(everybody: list[Person], old: bytes) -> None:
    """Both are in another conversation than the old one, under the keys that they knew, and nobody was asked."""
    alice, bob = everybody
    assert alice.id_of("bob") == bob.id_of("alice") != old
    for person, other in ((alice, bob), (bob, alice)):
        assert there(person, other.name).peer_key == other.engine._context.device.identity_key
        assert person.engine._registry.get(old).row.phase == "ended"  # type: ignore[union-attr]
        assert len(anew(person)) == 1
        assert not asked(person)
        assert not person.of(events.FirstContact)[1:]
        assert len(person.engine._registry.named(other.name)) == 2
    talk(everybody, "alice-bob", "anew")


@pytest.mark.parametrize("how", ["", "crashing", "days later, while he is away"])
def test_a_private_chat_of_two_branches_goes_on_in_another_one_by_itself(
    people: World, backups: Backups, tmp_path: Path, how: str
) -> None:
    everybody = alice, bob = two_branches(people, backups, tmp_path)
    old = alice.id_of("bob")
    alice.say("bob", "waits")
    if how.startswith("days"):
        bob.cut()
        alice.server.now += 5 * 86_400_000
    alice.connect()
    if how == "crashing":
        for _ in range(6):
            while alice.push() or alice.pull():
                if alice.engine._registry.named("bob")[1:]:
                    break
            alice.crash()
            alice.connect()
    if how.startswith("days"):
        settle(alice)
        alice.cut()
        alice.server.now += 5 * 86_400_000
        bob.connect()
        settle(bob)
        alice.connect()
    settle(*everybody)
    together(everybody, old)
    assert bob.texts("alice").count("alice: waits") == 1
    assert anew(bob) == [2]  # his newest, one of them where alice could not follow: she has said nothing since
    (said,) = sentences(bob.of(events.OutOfStep)[-1], bob.engine.snapshot.find("alice"), "bob")
    assert "goes on anew, under the key that you know. 2 messages of yours may not have arrived" in said.text
    assert ("beside", "alice") not in changes(bob)


@pytest.mark.parametrize("together_", [False, True])
@pytest.mark.parametrize("first", ["alice", "bob"])
def test_a_private_chat_that_was_begun_after_the_backup_is_opened_again_by_itself(
    people: World, backups: Backups, tmp_path: Path, first: str, *, together_: bool
) -> None:
    """`together_`: both come back, and find it, at once; else the second one days later."""
    everybody = alice, bob = people("alice", "bob")
    backups.take(tmp_path / "backup")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(*everybody)
    bob.say("alice", "hi")
    settle(*everybody)
    old = alice.id_of("bob")
    backups.put_back(tmp_path / "backup", *everybody)
    alice.say("bob", "waits at alice")
    bob.say("alice", "waits at bob")
    order = sorted(everybody, key=lambda person: person.name != first)
    for person in order:
        person.connect()
        if not together_:
            settle(*(each for each in order if each.link is not None))
            person.server.now += 4 * 86_400_000
    settle(*everybody)
    together(everybody, old)
    for person, other in ((alice, "bob"), (bob, "alice")):
        lines = person.texts(other)
        assert lines.count("alice: waits at alice") == lines.count("bob: waits at bob") == 1


@pytest.mark.parametrize("in_flight", [False, True])
def test_who_leaves_a_lost_private_chat_has_left_what_was_being_opened_in_its_place(
    server: MemoryServer, people: World, backups: Backups, tmp_path: Path, *, in_flight: bool
) -> None:
    everybody = alice, bob = people("alice", "bob")
    backups.take(tmp_path / "backup")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(*everybody)
    bob.say("alice", "hi")
    settle(*everybody)
    old = alice.id_of("bob")
    backups.put_back(tmp_path / "backup", *everybody)
    withheld = wire.OpenDirect if in_flight else wire.FetchKeyPackages  # not read by the server before she leaves
    server.inward = lambda _link, message: [] if isinstance(message, withheld) else [message]
    alice.connect()
    settle(alice)
    newer = alice.engine._registry.named("bob")[-1]
    assert (newer.row.phase, newer.staged is not None) == ("opening", in_flight)
    alice.do(commands.Leave(old))
    settle(alice)
    server.inward = lambda _link, message: [message]
    alice.do(commands.OpenDirect("bob", "said after that", ask=False))
    alice.cut()
    bob.connect()
    alice.connect()
    settle(*everybody)
    assert alice.id_of("bob") == bob.id_of("alice") not in (old, newer.id)
    assert newer.is_over
    assert bob.texts("alice")[-1] == "alice: said after that"
    assert not alice.of(events.Refused)


def test_nothing_is_opened_for_a_key_that_the_user_has_not_accepted(
    server: MemoryServer, people: World, backups: Backups, tmp_path: Path
) -> None:
    everybody = alice, bob = two_branches(people, backups, tmp_path)
    old = alice.id_of("bob")
    alice.do(commands.Distrust("bob"))
    opened: list[wire.FromClient] = []

    def inward(_link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        opened.extend([message] if isinstance(message, wire.OpenDirect) else [])
        return [message]

    server.inward = inward
    alice.connect()
    settle(*everybody)
    assert not opened
    assert told(alice, events.OutOfStep) == ["ahead", "nothing-left"]
    assert alice.id_of("bob") == old
    assert bob.state_of("alice") == "open"
    assert not anew(bob)


def claim(person: Person, name: str, old: bytes) -> None:
    """Say in a private chat that it takes the place of another conversation."""
    there(person, name).put(Instead(old))
    person.engine.handle_timer()


@pytest.mark.parametrize("whose", ["of others", "of a room", "of nobody", "of itself"])
def test_a_claim_about_what_is_not_theirs_shuts_nothing(people: World, whose: str) -> None:
    everybody = alice, bob, carol = people("alice", "bob", "carol")
    carol.do(commands.CreateRoom("#club"))
    for person, other in ((alice, "bob"), (carol, "alice")):
        person.do(commands.OpenDirect(other, "hello", ask=False))
        settle(*everybody)
    carol.do(commands.Invite(carol.id_of("#club"), "alice"))
    for person, other in ((bob, "alice"), (alice, "carol")):
        person.say(other, "hi")
        settle(*everybody)
    claimed = {
        "of others": alice.id_of("bob"), "of a room": alice.id_of("#club"), "of nobody": b"?" * 32,
        "of itself": alice.id_of("carol"),
    }[whose]  # fmt: skip
    claim(carol, "alice", claimed)
    carol.say("alice", "did it work?")
    settle(*everybody)
    assert alice.texts("carol")[-1] == "carol: did it work?"
    for name in ("bob", "carol", "#club"):
        assert alice.state_of(name) == "open"
    assert not anew(alice)


@pytest.mark.parametrize("key", ["the same", "another"])
def test_only_who_has_the_known_key_can_say_that_a_private_chat_goes_on_in_another_one(
    server: MemoryServer, people: World, tmp_path: Path, key: str
) -> None:
    """`another`: of somebody whom the server has let log in as bob. The same: bob could leave and open anew as well."""
    everybody = alice, bob = acquainted(people)
    old = alice.id_of("bob")
    theirs = bob
    if key == "another":
        bob.cut()
        (tmp_path / "other").mkdir()
        theirs = Person(server, tmp_path / "other", "bob", new_identity=True)
        theirs.connect()
        settle(alice, theirs)
        theirs.do(commands.OpenDirect("alice", "it is me", ask=False))
    else:
        opened = theirs.engine._registry.add("direct", "alice")
        opened.put(Instead(old), first=True)
        there(bob, "alice").branch_lost = True
        there(bob, "alice").row.phase = "ahead"
        theirs.engine.handle_timer()
    settle(alice, theirs)
    if key == "another":
        claim(theirs, "alice", old)
        settle(alice, theirs)
        assert alice.engine._registry.get(old).row.phase == "member"  # type: ignore[union-attr]
        assert alice.id_of("bob") == old
        assert not anew(alice)
        theirs.stop()
    else:
        together(everybody, old)


def test_a_claim_in_an_older_chat_does_not_shut_the_later_one(
    people: World, backups: Backups, tmp_path: Path
) -> None:
    everybody = alice, bob = two_branches(people, backups, tmp_path)
    old = alice.id_of("bob")
    alice.connect()
    settle(*everybody)
    later = bob.id_of("alice")
    gone, newest = bob.engine._registry.get(old), there(bob, "alice")
    assert gone is not None
    for older, newer in ((newest, later), (newest, old)):  # itself, and what is shut already
        older.said_instead = newer
        bob.engine._registry.reopening.take(older)
    gone.row.phase, gone.said_instead = "member", later  # as if it had not been left yet
    bob.engine._registry.reopening.take(gone)
    assert newest.row.phase == "member"
    assert not newest.row.closed
    assert anew(bob) == [2]


@pytest.mark.parametrize("claimed", ["the old one", "an unknown one"])
def test_the_servers_word_that_another_one_exists_shuts_nothing(
    server: MemoryServer, people: World, backups: Backups, tmp_path: Path, claimed: str
) -> None:
    everybody = alice, _ = two_branches(people, backups, tmp_path)
    old = alice.id_of("bob")

    def inward(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if not isinstance(message, wire.OpenDirect):
            return [message]
        assert message.instead_of == old
        winner = old if claimed == "the old one" else b"?" * len(old)
        link.send(wire.Refused(message.id, "exists", "there is one", winner))
        return []

    server.inward = inward
    alice.connect()
    alice.say("bob", "waits")
    settle(*everybody)
    assert alice.id_of("bob") == old
    assert alice.state_of("bob") == "stopped"
    assert alice.vault.outbox.lines(old) == 1
    assert not anew(alice)
    server.inward = lambda _link, message: [message]
    if claimed == "the old one":
        alice.cut()
        alice.connect()
        settle(*everybody)
        together(everybody, old)


@pytest.mark.parametrize("who", ["nobody in it", "a member, of another one", "a member"])
def test_the_server_lets_only_a_member_open_another_one_in_the_place_of_the_one_that_they_have(
    server: MemoryServer, people: World, who: str
) -> None:
    everybody = alice, bob, carol = people("alice", "bob", "carol")
    for other in (bob, carol):
        alice.do(commands.OpenDirect(other.name, "hello", ask=False))
        settle(*everybody)
        other.say("alice", "hi")
        settle(*everybody)
    with_bob, with_carol = alice.id_of("bob"), alice.id_of("carol")
    opener = carol if who == "nobody in it" else alice
    peer, named = ("bob", with_bob) if opener is carol else ("bob", with_carol if "another" in who else with_bob)

    def inward(_link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.OpenDirect):
            return [msgspec.structs.replace(message, instead_of=named)]
        return [message]

    replies: list[str] = []

    def outward(link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        if link is opener.link and isinstance(message, wire.Refused):
            replies.append(message.code)
        return [message]

    server.inward, server.outward = inward, outward
    opener.engine._registry.add("direct", peer).put(Text("in another one"))
    opener.engine.handle_timer()
    settle(*everybody)
    head = server.head(with_bob)
    inside = {member.account for member in head.members.values() if member.last_seq is None}
    assert inside == ({"bob"} if who == "a member" else {"alice", "bob"})
    assert replies == (["exists"] if "another" in who else [])
    assert {m.account for m in server.head(with_carol).members.values() if m.last_seq is None} == {"alice", "carol"}


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
            person.engine.handle_timer()  # what was taken in vain is handed back again after a moment
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
