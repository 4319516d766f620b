"""Away, put back, lied to: a client follows the handshakes from its own state on, and gives nothing up (section 6)."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from securechat.client import commands, device, events
from securechat.client.conversations import resync, roster
from securechat.client.conversations.catching_up import MAX_OFFERED_NUMBER
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.numbers import encode_commit, encode_number
from securechat.client.doors.facts import Key, Verdict
from securechat.identity.certificate import certificate_of
from securechat.identity.statements import Link as ChainLink
from securechat.mls.framing import ContentType, MLSMessage, PrivateMessage, SenderType, decode_body, read_header
from securechat.mls.group import Group
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package import KeyPackage
from securechat.mls.proposals import Add
from securechat.server.store.records import LogEntry
from securechat.wire import messages as wire
from securechat.wire.chain import MLS_MESSAGE
from securechat.wire.limits import MAX_COUNT
from tests.support.chains import later, revocation, show
from tests.support.memory_server import Link, MemoryServer, refuse
from tests.support.people import PASSWORD, Person, only, settle

World = Callable[..., list[Person]]
change = msgspec.structs.replace
DAY = 86_400_000  # milliseconds


@pytest.fixture
def pair(people: World) -> list[Person]:
    """Alice and bob in conversation."""
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    bob.say("alice", "hi")
    settle(alice, bob)
    return [alice, bob]


@pytest.fixture
def club(people: World) -> list[Person]:
    """Alice, who owns it, bob and carol in #club."""
    everybody = alice, *others = people("alice", "bob", "carol")
    alice.do(commands.CreateRoom("#club"))
    settle(*everybody)
    for person in others:
        alice.do(commands.Invite(alice.id_of("#club"), person.name))
        settle(*everybody)
    return list(everybody)


def there(person: Person, name: str) -> Conversation:
    """A conversation as a client has it."""
    found = person.engine._registry.find(name)
    assert found is not None
    return found


def told(person: Person, kind: type[events.Event]) -> list[str]:
    """The events of one kind, each as what it is about."""
    return [str(getattr(event, "what", "") or getattr(event, "text", "")) for event in person.of(kind)]


def changes(person: Person) -> list[tuple[str, str]]:
    """What changed in conversations."""
    return [(event.change, event.account) for event in person.happened if isinstance(event, events.ConversationChanged)]


def resyncs(server: MemoryServer, conversation: bytes) -> list[int]:
    """The seqs of commits by which somebody entered from outside."""
    senders = ((entry.seq, read_header(entry.payload).sender) for entry in server.entries(conversation))
    return [seq for seq, sender in senders if sender is not None and sender.type == SenderType.NEW_MEMBER_COMMIT]


def renew(person: Person, name: str, *others: Person) -> None:
    """Let somebody commit a fresh path."""
    there(person, name).row.sent_on_path = 50
    person.engine._context.touched.add(person.id_of(name))
    person.engine.handle_timer()
    settle(person, *others)


def is_message(entry: wire.Entry | LogEntry) -> bool:
    return read_header(entry.payload).content_type == ContentType.APPLICATION


@contextmanager
def losing(server: MemoryServer, person: Person, conversation: bytes, first_seq: int) -> Iterator[None]:
    """The server has lost the messages before `first_seq`, and says so to one person."""
    chains = {entry.seq: entry.chain for entry in server.entries(conversation)}
    begun: list[object] = []

    def lose(message: wire.FromServer) -> list[wire.FromServer]:
        if not isinstance(message, wire.Entry) or message.conversation != conversation:
            return [message]
        if message.seq < first_seq and is_message(message):
            return []
        before = [] if begun or message.seq > first_seq else [
            wire.Truncated(conversation, first_seq, chains[first_seq - 1])
        ]  # fmt: skip
        begun.append(message)
        return [*before, message]

    only(person, lose)
    yield
    server.outward = lambda _link, message: [message]


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


# --- away ----------------------------------------------------------------------------------------------------------


def test_who_was_away_while_messages_went_follows_the_handshakes_with_its_own_secrets(
    server: MemoryServer, club: list[Person], people: World
) -> None:
    alice, bob, carol = club
    (dave,) = people("dave")
    room = alice.id_of("#club")
    bob.cut()
    for number in range(3):
        alice.say("#club", f"missed {number}")
        settle(alice, carol)
        renew(carol, "#club", alice)
    alice.do(commands.Invite(room, "dave"))
    settle(alice, carol, dave)
    alice.do(commands.Remove(room, "carol"))
    settle(alice, carol, dave)
    dave.say("#club", "is still there")
    settle(alice, carol, dave)
    epoch = there(alice, "#club").group.epoch
    bob.say("#club", "written on the train")
    bob.connect()
    with losing(server, bob, room, server.head(room).seq):
        settle(alice, bob, dave)
    assert there(bob, "#club").group.epoch == epoch + 1  # a fresh path before it speaks
    assert len({there(each, "#club").group.epoch_authenticator for each in (alice, bob, dave)}) == 1
    (gap,) = bob.of(events.Gap)
    assert gap == events.Gap(room, server.head(room).seq - 2, "away")
    assert bob.texts("#club") == ["dave: is still there", "bob: written on the train"]
    assert dave.texts("#club")[-1] == "bob: written on the train"
    assert {("joined", "dave"), ("removed", "carol")} <= set(changes(bob))
    assert not resyncs(server, room)
    for each in (alice, bob, dave):
        assert not each.of(events.Alarm)


def test_a_walk_that_is_killed_anywhere_goes_on_where_it_was(
    server: MemoryServer, club: list[Person]
) -> None:
    alice, bob, carol = club
    room = alice.id_of("#club")
    bob.cut()
    for number in range(4):
        alice.say("#club", f"missed {number}")
        settle(alice, carol)
        renew(carol, "#club", alice)
    alice.say("#club", "read")
    settle(alice, carol)
    seen: list[int] = []
    while there(bob, "#club").row.cursor < server.head(room).seq:
        bob.connect()
        with losing(server, bob, room, server.head(room).seq):
            before = there(bob, "#club").row.cursor
            for _ in range(1_000):
                if there(bob, "#club").row.cursor > before:
                    break
                assert bob.push() or bob.pull()
            seen.append(there(bob, "#club").row.cursor)
            bob.crash()
    assert len(seen) >= 4  # one handshake each time
    bob.connect()
    settle(alice, bob, carol)
    bob.say("#club", "back")
    settle(alice, bob, carol)
    assert alice.texts("#club")[-1] == carol.texts("#club")[-1] == "bob: back"
    assert bob.texts("#club") == ["alice: read", "bob: back"]
    assert not resyncs(server, room)
    assert not bob.of(events.Alarm)


def test_what_was_on_its_way_when_messages_went_is_not_sent_twice(server: MemoryServer, club: list[Person]) -> None:
    alice, bob, carol = club
    room = alice.id_of("#club")
    only(bob, lambda message: [] if isinstance(message, wire.Accepted | wire.Entry) else [message])
    bob.say("#club", "arrives unanswered")
    settle(*club)
    bob.cut()
    renew(carol, "#club", alice)
    alice.say("#club", "after that")
    settle(alice, carol)
    bob.connect()
    with losing(server, bob, room, server.head(room).seq):
        settle(*club)
    bob.say("#club", "new")
    settle(*club)
    assert [line for line in alice.texts("#club") if line.startswith("bob")] == ["bob: arrives unanswered", "bob: new"]
    assert "bob: arrives unanswered [It is not known whether this message was sent.]" in bob.texts("#club")
    assert not resyncs(server, room)


def test_where_no_message_is_left_at_all_the_fresh_path_is_what_comes_next(
    server: MemoryServer, club: list[Person]
) -> None:
    alice, bob, carol = club
    room = alice.id_of("#club")
    bob.cut()
    renew(carol, "#club", alice)
    alice.say("#club", "never read by bob")
    settle(alice, carol)
    head, chain = server.head(room).seq, server.head(room).chain

    def lose(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Entry) and message.conversation == room and message.seq <= head:
            return [message, wire.Truncated(room, head + 1, b"")] if not is_message(message) else []
        if isinstance(message, wire.Subscribed) and message.conversation == room:
            return [message, wire.Truncated(room, head + 1, chain)]
        return [message]

    bob.connect()
    only(bob, lose)
    settle(*club)
    assert there(bob, "#club").row.cursor == head + 1  # its own commit
    bob.say("#club", "back")
    settle(*club)
    assert alice.texts("#club")[-1] == carol.texts("#club")[-1] == "bob: back"
    assert len(bob.of(events.Gap)) == 1
    assert not resyncs(server, room)
    assert not alice.of(events.Alarm)


def test_where_the_handshakes_are_gone_and_nothing_comes_a_stale_epoch_tells_so(
    server: MemoryServer, club: list[Person]
) -> None:
    alice, bob, carol = club
    room = alice.id_of("#club")
    bob.cut()
    renew(carol, "#club", alice)
    head, chain = server.head(room).seq, server.head(room).chain

    def lose(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Entry) and message.conversation == room and message.seq <= head:
            return []
        if isinstance(message, wire.Subscribed) and message.conversation == room:
            return [message, wire.Truncated(room, head + 1, chain), wire.Truncated(room, head + 1, b"")]
        return [message]

    bob.connect()
    only(bob, lose)
    settle(*club)
    assert told(bob, events.OutOfStep) == ["cut-off"]
    server.outward = lambda _link, message: [message]
    bob.cut()
    bob.connect()
    settle(*club)
    bob.say("#club", "back")
    settle(*club)
    assert alice.texts("#club")[-1] == carol.texts("#club")[-1] == "bob: back"


@pytest.mark.parametrize("server_says", ["the truth", "that it is live"])
@pytest.mark.parametrize("carol_is", ["in date", "expired", "expired, and bob restarts", "outdated", "revoked"])
def test_who_entered_by_themselves_while_we_were_away_and_is_out_of_date_holds_what_waits(
    server: MemoryServer, people: World, monkeypatch: pytest.MonkeyPatch, carol_is: str, server_says: str
) -> None:
    """An external commit is nobody's word but its maker's, and that key may have been stolen long ago."""
    alice, bob = people("alice", "bob")
    expired = carol_is != "in date"
    monkeypatch.setattr(device, "CERTIFICATE_SECONDS", (3 if carol_is.startswith("expired") else 45) * 86_400)
    (carol,) = people("carol")
    everybody = alice, bob, carol
    alice.do(commands.CreateRoom("#club"))
    settle(*everybody)
    room = alice.id_of("#club")
    for name in ("bob", "carol"):
        alice.do(commands.Invite(room, name))
        settle(*everybody)
    bob.cut()
    resync.supersede(there(carol, "#club"))
    carol.engine._context.touched.add(room)
    carol.engine.handle_timer()
    settle(alice, carol)
    carol.cut()
    alice.say("#club", "and then")
    settle(alice)
    server.now += 5 * DAY
    bob.say("#club", "typed before")
    cursor = there(bob, "#club").row.cursor

    def call_live(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Subscribed) and message.conversation == room:
            return [change(message, head=cursor)]
        return [message]

    if server_says == "that it is live":
        only(bob, call_live)
    if carol_is in ("outdated", "revoked"):  # as bob has seen elsewhere
        show(bob, (later if carol_is == "outdated" else revocation)(carol))
    bob.connect()
    if carol_is == "expired, and bob restarts":
        (entered,) = resyncs(server, room)
        while there(bob, "#club").row.cursor < entered:
            bob.push()
            bob.pull()
        assert there(bob, "#club").row.cursor < server.head(room).seq
        bob.crash()
        server.outward = lambda _link, message: [message]
        bob.connect()
    settle(alice, bob)
    assert ("bob: typed before" in alice.texts("#club")) == (not expired)
    assert bool(bob.of(events.Held)) == expired
    if carol_is != "expired, and bob restarts":
        named = [each.account for each in bob.of(events.CameByOldKey) if isinstance(each, events.CameByOldKey)]
        assert named == ["carol"] * expired
    bob.say("#club", "typed after")
    settle(alice, bob)
    if expired:
        held = bob.of(events.Held)[-1]
        assert isinstance(held, events.Held)
        assert [each.account for each in held.whose] == ["carol"]
        bob.do(commands.Confirm(room, held.question))
    settle(alice, bob)
    assert alice.texts("#club")[-2:] == ["bob: typed before", "bob: typed after"]



@pytest.mark.parametrize("by_checkpoint", [False, True])
def test_who_came_in_out_of_date_and_has_a_leaf_in_date_by_now_holds_nothing_more(
    club: list[Person], *, by_checkpoint: bool
) -> None:
    _, bob, _ = club
    conversation = there(bob, "#club")
    leaf, carol = next((leaf, each) for leaf, each in conversation.people.items() if each.account == "carol")
    key = Key(carol.account, carol.identity_key)
    if by_checkpoint:  # which is another reason to hold, and stays one
        roster.hold(conversation, Verdict("checkpoint", "resync", holding=frozenset((key,))))
    old = replace(carol, not_before=1, not_after=2)
    conversation.people[leaf] = old
    roster.hold(conversation, Verdict("next commit", "follow", late=frozenset((key,)), holding=frozenset((key,))))
    for now, forgiven in ((old, False), (carol, not by_checkpoint)):
        conversation.people[leaf] = now
        roster.forgive_stale(conversation)
        assert [bool(each.door) for each in conversation.row.persons if each[:2] == key] == [not forgiven]


def test_handshakes_are_kept_for_a_month_and_sixteen_mebibytes(
    server: MemoryServer, club: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, carol = club
    room = alice.id_of("#club")

    def kept(after: int = 0) -> list[int]:
        return [seq for seq, _, _ in bob.vault.handshakes.load(room, after)]

    alice.say("#club", "no handshake")
    settle(*club)
    renew(carol, "#club", alice, bob)
    newest = server.entries(room)[-1]
    seq, encoded, chain = bob.vault.handshakes.load(room, newest.seq - 1)[0]
    entry = msgspec.msgpack.decode(encoded, type=wire.Entry)
    assert (seq, entry.payload, entry.group_info, chain) == (
        newest.seq, newest.payload, newest.group_info, newest.chain,
    )  # fmt: skip
    before = kept()
    assert newest.seq - 1 not in before
    server.now += 29 * DAY
    renew(carol, "#club", alice, bob)
    assert set(before) < set(kept())
    server.now += 2 * DAY
    renew(carol, "#club", alice, bob)
    assert kept()[-1] == server.head(room).seq
    assert not set(kept()) & set(before)  # which are too old
    monkeypatch.setattr("securechat.client.vault.conversations.KEPT_BYTES", 3 * len(encoded))
    for _ in range(5):
        renew(carol, "#club", alice, bob)
    assert 1 <= len(kept()) <= 3
    assert kept()[-1] == server.head(room).seq


# --- lies ----------------------------------------------------------------------------------------------------------


def test_a_gap_that_the_server_makes_up_takes_nothing_away(server: MemoryServer, pair: list[Person]) -> None:
    alice, bob = pair
    conversation = bob.id_of("alice")
    group = there(bob, "alice").group
    assert bob.link is not None
    for first_seq in (1, 4, 5, 50, 1 << 50):
        bob.link.send(wire.Truncated(conversation, first_seq, bytes(32)))
        settle(alice, bob)
    alice.say("bob", "and on")
    settle(alice, bob)
    assert bob.texts("alice")[-1] == "alice: and on"
    assert there(bob, "alice").group is group
    assert not bob.of(events.Gap)
    assert server.head(conversation).epoch == 1


def test_messages_that_the_server_hides_behind_a_gap_hold_what_is_said_and_the_state_stays(
    server: MemoryServer, pair: list[Person]
) -> None:
    """The chain that it names is not the one that alice has: her next message shows it."""
    alice, bob = pair
    conversation = bob.id_of("alice")

    def hide(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Entry) and message.seq == hidden:
            return [wire.Truncated(conversation, hidden + 1, b"\x01" * 32)]
        return [message]

    hidden = server.head(conversation).seq + 1
    only(bob, hide)
    alice.say("bob", "hidden")
    alice.say("bob", "shown")
    settle(alice, bob)
    alice.say("bob", "and this")
    settle(alice, bob)
    assert "saw another history" in told(bob, events.Alarm)[0]
    bob.say("alice", "waits")
    settle(alice, bob)
    assert "bob: waits" not in alice.texts("bob")
    server.outward = lambda _link, message: [message]
    bob.do(commands.Repair(conversation))
    settle(alice, bob)
    alice.say("bob", "again")
    settle(alice, bob)
    assert bob.texts("alice")[-1] == "alice: again"
    assert alice.texts("bob")[-2:] == ["bob: waits", "alice: again"]


def test_a_number_that_the_server_makes_up_is_told_and_ignored(server: MemoryServer, pair: list[Person]) -> None:
    alice, bob = pair
    conversation = bob.id_of("alice")

    def lie(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Subscribed) and message.conversation == conversation:
            return [change(message, last=99)]
        return [message]

    for _ in range(2):  # told once
        bob.cut()
        bob.connect()
        only(bob, lie)
        settle(alice, bob)
    (claim,) = told(bob, events.Alarm)
    assert claim.startswith("The server claims that this device has said 99 things here; the log")
    bob.say("alice", "as before")
    settle(alice, bob)
    assert alice.texts("bob")[-1] == "bob: as before"
    assert server.head(conversation).epoch == 1


@pytest.mark.parametrize("what", ["message", "commit"])
def test_a_server_that_insists_on_another_number_is_told_about_and_nothing_is_given_up(
    server: MemoryServer, pair: list[Person], what: str
) -> None:
    alice, bob = pair
    conversation = bob.id_of("alice")
    group, tries = there(bob, "alice").group, 0

    def refuse_number(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        nonlocal tries
        if link is bob.link and isinstance(message, wire.Submit | wire.Commit) and tries < 5:
            tries += 1
            refuse(link, message, "wrong-number")
            return []
        return [message]

    server.inward = refuse_number
    if what == "commit":
        there(bob, "alice").row.sent_on_path = 50
    bob.say("alice", "patiently")
    settle(alice, bob)
    assert tries == 5
    (delayed,) = bob.of(events.Delayed)
    assert isinstance(delayed, events.Delayed)
    assert delayed.code == "wrong-number"
    assert alice.texts("bob")[-1] == "bob: patiently"
    assert server.head(conversation).epoch == (2 if what == "commit" else 1)
    assert not resyncs(server, conversation)
    if what == "message":
        assert there(bob, "alice").group is group


@pytest.mark.parametrize("number", [0, 1 << 40, MAX_OFFERED_NUMBER])
def test_a_number_that_the_server_claims_behind_a_gap_mutes_nobody_for_good(
    server: MemoryServer, pair: list[Person], number: int
) -> None:
    """Messages are gone, so that no log says otherwise. `number`: 0 for the true one."""
    alice, bob = pair
    room = bob.id_of("alice")
    bob.cut()
    for text in ("missed", "missed too", "the newest"):
        alice.say("bob", text)
    settle(alice)
    bob.connect()
    with losing(server, bob, room, server.head(room).seq):
        lose = server.outward

        def claim(link: Link, message: wire.FromServer) -> list[wire.FromServer]:
            if isinstance(message, wire.Subscribed) and link is bob.link and message.conversation == room and number:
                message = change(message, last=number)
            return lose(link, message)

        server.outward = claim
        for _ in range(40):  # the server takes nothing under that number, and he tries again and again
            bob.push()
            bob.pull(8)
    bob.cut()
    bob.connect()
    bob.say("alice", "do you hear me?")
    for _ in range(200):
        if bob.of(events.Delayed):
            break
        if not (bob.push() or bob.pull(8)):
            server.advance(server.seconds + 1)
            bob.engine.handle_timer()
    if number:
        (delayed,) = told(bob, events.Delayed)
        assert delayed.endswith("/repair rejoins.")
        bob.do(commands.Repair(room))
    settle(alice, bob)
    assert alice.texts("bob")[-1] == "bob: do you hear me?"


@pytest.mark.parametrize("request_", [wire.Subscribe, wire.Submit, wire.Commit])
@pytest.mark.parametrize("removed", [False, True])
def test_the_word_that_we_are_not_in_it_ends_nothing_that_the_log_does_not(
    server: MemoryServer, club: list[Person], request_: type[wire.Subscribe | wire.Submit | wire.Commit], removed: bool  # noqa: FBT001  a parameter of the test
) -> None:
    """`removed`: it is true, and the log says so once the server lets it be read."""
    alice, bob, carol = club
    room = bob.id_of("#club")
    bob.cut()
    if request_ is wire.Commit:
        there(bob, "#club").row.sent_on_path = 50
    bob.say("#club", "waits")
    if removed:
        alice.do(commands.Remove(room, "bob"))
        settle(alice, carol)
        only(bob, lambda message: [] if isinstance(message, wire.Entry) else [message])

    def deny(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if link is not bob.link or not isinstance(message, request_) or message.conversation != room:
            return [message]
        refuse(link, message, "not-found")
        return []

    server.inward = deny
    bob.connect()
    for _ in range(60):
        bob.push()
        bob.pull(8)
    assert bob.state_of("#club") in ("open", "stopped")
    if request_ is wire.Subscribe:
        assert told(bob, events.OutOfStep) == ["not-found"]
    elif not removed:
        (delayed,) = told(bob, events.Delayed)
        assert delayed.startswith("The server says that you are not in #club")
    server.inward, server.outward = lambda _link, message: [message], lambda _link, message: [message]
    bob.crash()
    bob.connect()
    settle(*club)
    assert bob.state_of("#club") == ("closed" if removed else "open")
    assert (("removed", "alice") in changes(bob)) == removed
    assert alice.texts("#club") == ([] if removed else ["bob: waits"])


def test_who_leaves_where_the_server_does_not_know_them_is_out(server: MemoryServer, pair: list[Person]) -> None:
    alice, bob = pair
    room = bob.id_of("alice")

    def deny(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if link is not bob.link or not isinstance(message, wire.Subscribe) or message.conversation != room:
            return [message]
        refuse(link, message, "not-found")
        return []

    server.inward = deny
    bob.cut()
    bob.connect()
    bob.say("alice", "waits")
    settle(alice, bob)
    assert told(bob, events.OutOfStep) == ["not-found"]
    assert bob.state_of("alice") == "stopped"
    bob.do(commands.Leave(room))
    settle(alice, bob)
    assert bob.state_of("alice") == "closed"
    assert ("left", "bob") in changes(bob)
    assert bob.texts("alice")[-1] == "bob: waits [You have left this conversation.]"


def test_bytes_that_the_server_ascribes_to_us_take_nothing_away(server: MemoryServer, pair: list[Person]) -> None:
    alice, bob = pair
    conversation = bob.id_of("alice")
    alice.say("bob", "mine")
    settle(alice, bob)
    row = there(bob, "alice").row
    renew(alice, "bob", bob)
    commit = server.entries(conversation)[-1]
    before = there(bob, "alice").group
    forged = wire.Entry(
        conversation, row.cursor + 1, commit.time, bob.engine._context.device.id, commit.kind, commit.payload,
        commit.group_info,
    )  # fmt: skip
    assert bob.link is not None
    bob.link.send(forged)
    settle(alice, bob)
    assert bob.state_of("alice") == "stopped"
    assert there(bob, "alice").group is before
    bob.cut()
    bob.connect()  # to a server that is honest now
    settle(alice, bob)
    bob.say("alice", "still me")
    settle(alice, bob)
    assert alice.texts("bob")[-1] == "bob: still me"
    assert not resyncs(server, conversation)


@pytest.mark.parametrize("number", [MAX_COUNT, MAX_OFFERED_NUMBER, 9])
def test_an_entry_ascribed_to_us_behind_a_gap_does_not_use_up_our_numbers(
    server: MemoryServer, pair: list[Person], people: World, number: int
) -> None:
    """Nobody signs a message that can be read by nobody. A number that no server decodes would end each connection."""
    alice, bob = pair
    (carol,) = people("carol")
    carol.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(bob, carol)
    bob.say("carol", "hi")
    settle(bob, carol)
    conversation, row = bob.id_of("alice"), there(bob, "alice").row
    message = MLSMessage.decode(next(each.payload for each in server.entries(conversation) if is_message(each)))
    assert isinstance(message.body, PrivateMessage)
    forged = MLSMessage(replace(message.body, authenticated_data=encode_number(number))).encode()
    only(bob, lambda message: [] if isinstance(message, wire.Entry) else [message])
    for _ in range(2):  # in whose places the gap and the forged entry come
        alice.say("bob", "withheld")
        settle(alice, bob)
    server.outward = lambda _link, message: [message]
    assert bob.link is not None
    bob.link.send(wire.Truncated(conversation, row.cursor + 2, b"\1" * 32))
    bob.link.send(
        wire.Entry(conversation, row.cursor + 2, server.now, bob.engine._context.device.id, MLS_MESSAGE, forged, b"")
    )
    settle(alice, bob, carol)
    assert bob.state_of("alice") == "stopped"
    assert "a number that it has not given us" in told(bob, events.Alarm)[-1]
    bob.cut()
    bob.connect()  # to a server that is honest now
    bob.say("carol", "does it get there?")
    settle(alice, bob, carol)
    assert carol.texts("bob")[-1] == "bob: does it get there?"
    bob.do(commands.Repair(conversation))
    settle(alice, bob)
    bob.say("alice", "and this")
    settle(alice, bob)
    bob.do(commands.Repair(conversation))  # what alice says shows the gap for what it is
    settle(alice, bob)
    assert alice.texts("bob")[-1] == "bob: and this"


def test_an_older_copy_goes_on_behind_its_own_messages_after_a_gap(
    server: MemoryServer, pair: list[Person], tmp_path: Path
) -> None:
    alice, bob = pair
    conversation = bob.id_of("alice")
    yesterday = copy(bob, tmp_path / "yesterday")
    settle(*pair)
    for text in ("gone", "left"):
        bob.say("alice", text)
        settle(*pair)
    bob.cut()
    with losing(server, bob, conversation, server.head(conversation).seq):
        put_back(bob, yesterday)
        settle(*pair)
    assert told(bob, events.OutOfStep) == ["older-copy"]
    assert bob.of(events.Gap)
    bob.say("alice", "from the old copy")
    settle(*pair)
    assert alice.texts("bob")[-1] == "bob: from the old copy"
    assert bob.state_of("alice") == "open"


@pytest.mark.parametrize("what", ["message", "commit"])
@pytest.mark.parametrize("then", ["taken", "left out"])
def test_what_the_server_takes_after_it_has_refused_it_is_no_other_copy_of_the_vault(
    server: MemoryServer, club: list[Person], what: str, then: str
) -> None:
    """A walk without secrets is nothing that a server can cause by itself."""
    alice, bob, _ = club
    room, device, taken = alice.id_of("#club"), alice.engine._context.device.id, then == "taken"
    refused: list[tuple[Link, wire.Submit | wire.Commit]] = []

    def refuse_first(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if link is not alice.link or not isinstance(message, wire.Submit | wire.Commit) or refused:
            return [message]
        refused.append((link, message))
        refuse(link, message, "not-allowed", "no")
        return []

    server.inward = refuse_first
    if what == "message":
        alice.do(commands.Send(room, "unheard"))
    else:
        alice.do(commands.Remove(room, "carol"))
    settle(*club)
    assert alice.of(events.Refused)
    ((link, message),) = refused

    def as_entry(answer: wire.FromServer) -> list[wire.FromServer]:
        if not isinstance(answer, wire.Accepted):
            return [answer]
        if isinstance(message, wire.Submit):
            return [wire.Entry(room, answer.seq, answer.time, device, MLS_MESSAGE, message.payload, b"")]
        return [wire.Entry(room, answer.seq, answer.time, device, MLS_MESSAGE, message.commit, message.group_info)]

    if taken:
        only(alice, as_entry)
        link.receive(change(message, id=4000))
        settle(*club)
        server.outward = lambda _link, message: [message]
        assert "after it had refused it" in told(alice, events.Alarm)[-1]
        assert alice.state_of("#club") == "stopped"
        assert not alice.of(events.OutOfStep)
        assert not resyncs(server, room)
        alice.do(commands.Repair(room))
        settle(*club)
    alice.say("#club", "and on")
    settle(*club)
    assert bob.texts("#club")[-1] == "alice: and on"
    assert bool(alice.of(events.Alarm)) == taken
    assert len(resyncs(server, room)) == taken
    assert ("carol" in there(alice, "#club").row.members) == (what == "message" or not taken)


@pytest.mark.parametrize("branch", ["ours", "another"])
def test_a_commit_of_ours_counts_in_the_state_alone_that_it_was_made_in(
    server: MemoryServer, club: list[Person], people: World, branch: str
) -> None:
    """Else it would bring in whoever is in the other branch, whom nothing has named."""
    alice, bob, _ = club
    (mallory,) = people("mallory")
    room, own, conversation = alice.id_of("#club"), bob.engine._context.device, there(bob, "#club")
    now, validate = server.now // 1000, own.validator(server.now // 1000)
    package = mallory.engine._context.device.make_key_packages(1, now)[0]
    fork: Group | None = there(alice, "#club").group
    assert fork is not None
    if branch == "another":
        fork = fork.commit(
            [Add(decode_body(package, KeyPackage))], by_reference=None, authenticated_data=encode_commit(9, server.now),
            tree_in_welcome=False, validate=validate, now=now,
        ).group  # fmt: skip
    assert fork is not None
    number = conversation.row.number + 1
    ours = Group.join_external(
        decode_body(fork.group_info(with_tree=False), GroupInfo), fork.public.tree, own.signature,
        credential=own.credential, capabilities=device.CAPABILITIES,
        remove_own_old_leaf=conversation.group.own_leaf, authenticated_data=encode_commit(number, server.now),
        validate=validate, now=now,
    )  # fmt: skip
    assert ours.group_info is not None
    seq = conversation.row.cursor + 1

    def accept(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.Commit):
            link.send(wire.Accepted(message.id, room, number, seq, server.now, b""))
        return []

    server.inward = accept
    with bob.engine._unit():
        conversation.stage(number, wire.Commit(0, room, number, ours.message, b"", ours.group_info), ours)
        bob.engine._context.touched.add(room)
    while bob.push() or bob.pull():
        pass
    members = {certificate_of(node).account for _, node in conversation.group.public.members()}
    assert "mallory" not in members
    assert bob.state_of("#club") == ("open" if branch == "ours" else "stopped")
    alarms = told(bob, events.Alarm)
    assert ["another state than this one" in each for each in alarms] == ([True] if branch == "another" else [])


# --- an older copy -------------------------------------------------------------------------------------------------


def test_yesterdays_vault_follows_the_log_and_nobody_else_notices(
    server: MemoryServer, club: list[Person], tmp_path: Path
) -> None:
    alice, bob, carol = club
    yesterday = copy(bob, tmp_path / "yesterday")
    settle(*club)
    bob.say("#club", "today")
    alice.say("#club", "yes, today")
    settle(*club)
    put_back(bob, yesterday)
    settle(*club)
    assert told(bob, events.OutOfStep) == ["older-copy"]
    bob.say("#club", "from the old copy")
    settle(*club)
    assert bob.texts("#club") == ["alice: yes, today", "bob: from the old copy"]
    assert alice.texts("#club") == carol.texts("#club")
    assert alice.texts("#club")[-1] == "bob: from the old copy"
    assert not resyncs(server, alice.id_of("#club"))
    for each in (alice, carol):
        assert ("re-entered", "bob") not in changes(each)
        assert not each.of(events.Alarm)


def test_a_commit_that_the_old_copy_does_not_know_is_passed_without_secrets(
    server: MemoryServer, club: list[Person], people: World, tmp_path: Path
) -> None:
    alice, bob, carol = club
    room = alice.id_of("#club")
    (dave,) = people("dave")
    yesterday = copy(bob, tmp_path / "yesterday")
    settle(*club)
    renew(bob, "#club", alice, carol)
    alice.do(commands.Invite(room, "dave"))
    settle(*club, dave)
    alice.say("#club", "not for the old copy")
    settle(*club, dave)
    put_back(bob, yesterday)
    bob.say("#club", "from the old copy")
    settle(*club, dave)
    assert told(bob, events.OutOfStep) == ["own-commit"]
    assert len(resyncs(server, room)) == 1
    assert ("joined", "dave") in changes(bob)
    assert bob.texts("#club") == ["bob: from the old copy"]
    (held,) = [event for event in bob.happened if isinstance(event, events.Held)]  # it was typed before he saw her
    assert [each.account for each in held.whose] == ["dave"]
    bob.do(commands.Confirm(room, held.question))
    settle(*club, dave)
    assert alice.texts("#club")[-1] == dave.texts("#club")[-1] == "bob: from the old copy"
    assert len({there(each, "#club").group.epoch_authenticator for each in (*club, dave)}) == 1
    assert ("re-entered", "bob") in changes(alice)


@pytest.mark.parametrize("made", [later, revocation, None])
def test_past_our_own_commit_nobody_changes_anything_by_an_old_certificate(
    server: MemoryServer, club: list[Person], tmp_path: Path, made: Callable[[Person], ChainLink] | None
) -> None:
    """Without secrets, a commit costs its forger one signature key of long ago."""
    alice, bob, carol = club
    room = alice.id_of("#club")
    yesterday = copy(bob, tmp_path / "yesterday")
    settle(*club)
    renew(bob, "#club", alice, carol)
    renew(alice, "#club", bob, carol)
    put_back(bob, yesterday)
    if made is not None:
        show(bob, made(alice))
    settle(*club)
    assert len(resyncs(server, room)) == (made is None)
    assert bob.state_of("#club") == ("open" if made is None else "stopped")
    if made is not None:
        assert "in force" in told(bob, events.Alarm)[0]


@pytest.mark.parametrize("lie", ["tree", "past", "other signer", ""])
def test_an_offer_that_is_not_the_state_walked_to_is_not_entered(
    server: MemoryServer, club: list[Person], tmp_path: Path, lie: str
) -> None:
    alice, bob, carol = club
    room = alice.id_of("#club")
    yesterday = copy(bob, tmp_path / "yesterday")
    settle(*club)
    renew(bob, "#club", alice, carol)
    past = server.offer(0, room)
    renew(alice, "#club", bob, carol)

    def change_offer(message: wire.FromServer) -> list[wire.FromServer]:
        if not isinstance(message, wire.JoinOffer) or not lie:
            return [message]
        if lie == "tree":  # is not looked at: the walk has its own
            return [change(message, tree=past.tree)]
        if lie == "past":
            return [change(message, group_info=past.group_info, tree=past.tree)]
        return [change(message, group_info=there(carol, "#club").group.group_info(with_tree=False))]

    put_back(bob, yesterday)
    only(bob, change_offer)
    settle(*club)
    if lie in ("", "tree"):
        assert bob.state_of("#club") == "open"
        bob.say("#club", "in")
        settle(*club)
        assert alice.texts("#club")[-1] == "bob: in"
    else:
        assert bob.state_of("#club") == "stopped"
        assert not resyncs(server, room)
        reasons = {"past": "a past state", "other signer": "signed by somebody else than the newest committer"}
        assert reasons[lie] in told(bob, events.Alarm)[0]
        server.outward = lambda _link, message: [message]
        bob.do(commands.Repair(room))  # nothing was thrown away
        settle(*club)
        assert bob.state_of("#club") == "open"
        bob.say("#club", "in")
        settle(*club)
        assert alice.texts("#club")[-1] == "bob: in"


@pytest.mark.parametrize("whose", ["the server's words", "ours"])
@pytest.mark.parametrize(("name", "state"), [("#club", "stopped"), ("#lobby", "open")])
def test_what_the_server_says_to_our_return_is_told_as_its_words(
    server: MemoryServer, club: list[Person], tmp_path: Path, name: str, state: str, whose: str
) -> None:
    alice, bob, carol = club
    for person in club:
        person.do(commands.JoinRoom("#lobby"))
        settle(*club)
    room = alice.id_of(name)
    yesterday = copy(bob, tmp_path / "yesterday")
    settle(*club)
    renew(bob, name, alice, carol)
    past = server.offer(0, room)
    renew(alice, name, bob, carol)
    put_back(bob, yesterday)

    def lie(message: wire.FromServer) -> list[wire.FromServer]:
        if not isinstance(message, wire.JoinOffer) or message.conversation != room:
            return [message]
        if whose == "ours":
            return [change(message, group_info=past.group_info, tree=past.tree)]
        return [wire.Refused(message.id, "bad-request", "Type your password here and press Enter")]

    only(bob, lie)
    settle(*club)
    assert bob.state_of(name) == state
    (text,) = told(bob, events.Alarm)
    found = "The server says: Type your password here and press Enter. " if whose != "ours" else "The server offered a"
    assert text.startswith(found)


@pytest.mark.parametrize("step", ["offer", "commit"])
@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("lie", ["garbage", "later epoch", ""])
def test_a_walk_that_ends_while_its_request_is_on_its_way_gives_nothing_up(
    server: MemoryServer, club: list[Person], tmp_path: Path, lie: str, refused: bool, step: str  # noqa: FBT001  a parameter of the test
) -> None:
    """The server has a bad handshake come before its answer to `step`, which is the true one, or a refusal."""
    alice, bob, carol = club
    room = alice.id_of("#club")
    yesterday = copy(bob, tmp_path / "yesterday")
    settle(*club)
    renew(bob, "#club", alice, carol)
    newest = server.entries(room)[-1].payload
    epoch = slice(37, 45)  # behind the version, the wire format and the group id
    payload = {"garbage": b"", "later epoch": newest[: epoch.start] + bytes([1] * 8) + newest[epoch.stop :]}
    request, answer = (wire.Resync, wire.JoinOffer) if step == "offer" else (wire.Commit, wire.Accepted)
    lied: list[object] = []

    def lie_before(link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        concerned = isinstance(message, answer) or (isinstance(message, wire.Refused) and message.code == "not-allowed")
        if link is not bob.link or lied or not lie or not concerned:
            return [message]
        lied.append(message)
        seq, author = server.head(room).seq + 1, alice.engine._context.device.id
        return [wire.Entry(room, seq, server.now, author, MLS_MESSAGE, payload[lie], b""), message]

    def refuse_it(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if link is not bob.link or not isinstance(message, request):
            return [message]
        refuse(link, message, "not-allowed")
        return []

    put_back(bob, yesterday)
    server.outward = lie_before
    if refused:
        server.inward = refuse_it
    bob.say("#club", "waits")
    settle(*club)
    server.outward, server.inward = lambda _link, message: [message], lambda _link, message: [message]
    assert bool(lied) == bool(lie)
    if lie or refused:
        assert bob.state_of("#club") == "stopped"
        assert alice.texts("#club") == []
        group = there(bob, "#club").group
        bob.crash()
        assert there(bob, "#club").group.epoch_authenticator == group.epoch_authenticator  # it is on the disk
        bob.connect()
        settle(*club)
    if bob.state_of("#club") == "stopped":  # a new connection alone tries again what was cut off
        bob.do(commands.Repair(room))
        settle(*club)
    assert bob.state_of("#club") == "open"
    assert alice.texts("#club") == ["bob: waits"]


# --- handshakes gone, server behind --------------------------------------------------------------------------------


def test_where_handshakes_are_gone_lines_wait_and_the_next_connection_may_bring_them(
    server: MemoryServer, club: list[Person]
) -> None:
    alice, bob, carol = club
    room = alice.id_of("#club")
    bob.cut()
    renew(carol, "#club", alice)
    alice.say("#club", "in a later epoch")
    settle(alice, carol)
    group = there(bob, "#club").group
    head = server.head(room).seq
    chain = server.entries(room)[-2].chain

    def lose(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Entry) and message.conversation == room:
            return [wire.Truncated(room, head, chain), message] if message.seq == head else []
        return [message]

    bob.connect()
    only(bob, lose)
    settle(*club)
    assert told(bob, events.OutOfStep) == ["cut-off"]
    assert bob.state_of("#club") == "stopped"
    send = commands.Send(room, "waits")
    bob.do(send)
    settle(*club)
    (delayed,) = bob.of(events.Delayed)
    assert delayed.command == send.id
    assert there(bob, "#club").group is group
    server.outward = lambda _link, message: [message]
    bob.cut()
    bob.connect()
    settle(*club)
    assert bob.texts("#club") == ["alice: in a later epoch", "bob: waits"]
    assert alice.texts("#club")[-1] == "bob: waits"


def test_more_changes_than_an_honest_server_keeps_are_not_followed(
    club: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, carol = club
    for limit, state in ((3, "open"), (2, "stopped")):
        bob.cut()
        for _ in range(3):
            renew(carol, "#club", alice)
        monkeypatch.setattr("securechat.client.conversations.walking.MAX_WALK_COMMITS", limit)
        bob.connect()
        settle(*club)
        assert bob.state_of("#club") == state
    assert "more changes" in told(bob, events.Alarm)[0]


# --- checkpoints ---------------------------------------------------------------------------------------------------

def forget(server: MemoryServer, conversation: bytes, upto: int) -> None:
    """The server loses everything up to an entry, handshakes too."""
    chain = next(entry.chain for entry in server.entries(conversation) if entry.seq == upto)

    def lose(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Entry) and message.conversation == conversation and message.seq <= upto:
            return []
        if isinstance(message, wire.Subscribed) and message.conversation == conversation and message.head > upto:
            return [message, wire.Truncated(conversation, upto + 1, chain)]
        return [message]

    server.outward = lambda _link, message: lose(message)


@pytest.mark.parametrize("days", [20, 40])
def test_after_thirty_days_an_owners_checkpoint_leads_back(
    server: MemoryServer, club: list[Person], people: World, days: int
) -> None:
    alice, bob, carol = club
    room = alice.id_of("#club")
    (dave,) = people("dave")
    settle(*club, dave)
    bob.cut()
    renew(carol, "#club", alice)
    alice.do(commands.Invite(room, "dave"))
    settle(alice, carol, dave)
    alices = alice.engine._context.device.id
    owners = max(entry.seq for entry in server.entries(room) if entry.device == alices and entry.group_info)
    renew(carol, "#club", alice, dave)
    alice.say("#club", "not for bob")
    settle(alice, carol, dave)
    server.now += days * DAY
    forget(server, room, owners)
    bob.say("#club", "typed before")
    group = there(bob, "#club").group
    bob.connect()
    settle(*club, dave)
    if days < 30:
        assert told(bob, events.OutOfStep) == ["cut-off"]
        assert there(bob, "#club").group is group
        return
    assert told(bob, events.OutOfStep) == ["cut-off", "checkpoint"]
    (word,) = [event for event in bob.of(events.OutOfStep) if getattr(event, "account", "")]
    assert isinstance(word, events.OutOfStep)
    assert word.account == "alice"
    assert ("joined", "dave") in changes(bob)
    (held,) = [event for event in bob.happened if isinstance(event, events.Held)]
    assert [each.account for each in held.whose] == ["dave"]
    bob.do(commands.Confirm(room, held.question))
    settle(*club, dave)
    assert alice.texts("#club")[-1] == "bob: typed before"
    assert len({there(each, "#club").group.epoch_authenticator for each in (alice, bob, carol)}) == 1


@pytest.mark.parametrize("behind", [True, False])
def test_an_old_copy_renews_its_key_before_it_comes_back_by_a_checkpoint(
    server: MemoryServer, club: list[Person], tmp_path: Path, *, behind: bool
) -> None:
    """What stands in for its leaf has a later certificate, and gives way to a later one alone."""
    alice, bob, carol = club
    room = alice.id_of("#club")
    yesterday = copy(bob, tmp_path / "yesterday")
    settle(*club)
    if behind:
        bob.do(commands.Rotate())
        bob.do(commands.Unlock(PASSWORD))
        settle(*club)
    renew(alice, "#club", bob, carol)
    upto = server.head(room).seq
    renew(carol, "#club", alice, bob)
    alice.say("#club", "not for the old copy")
    settle(*club)
    server.now += 40 * DAY
    forget(server, room, upto)
    put_back(bob, yesterday)
    settle(*club)
    assert "checkpoint" in told(bob, events.OutOfStep) or behind
    if behind:
        assert len(resyncs(server, room)) == 0
        bob.say("#club", "waits")
        settle(*club)
        assert any("/rotate" in each for each in told(bob, events.Delayed))
        bob.do(commands.Rotate())
        bob.do(commands.Unlock(PASSWORD))
        settle(*club)
    assert len(resyncs(server, room)) == 1
    bob.say("#club", "back")
    settle(*club)
    assert alice.texts("#club")[-1] == "bob: back"


@pytest.mark.parametrize("asked", ["by the user", "by the user, and killed", "by nobody"])
def test_commits_are_passed_without_secrets_at_the_users_word_alone(
    server: MemoryServer, club: list[Person], asked: str
) -> None:
    alice, bob, carol = club
    room = alice.id_of("#club")
    bob.cut()
    renew(alice, "#club", carol)
    with bob.engine._unit():
        if asked == "by nobody":
            resync.supersede(there(bob, "#club"))
        else:  # as after a history that others contradict
            bob.engine._registry.repair(there(bob, "#club"))
    bob.connect()
    if asked == "by the user, and killed":  # the server has our way in, and we not its answer
        while there(bob, "#club").staged is None:
            bob.push()
            bob.pull()
        bob.push()
        bob.crash()
        bob.connect()
    settle(*club)
    assert len(resyncs(server, room)) == (asked != "by nobody")
    bob.say("#club", "here")
    settle(*club)
    assert alice.texts("#club")[-1] == carol.texts("#club")[-1] == "bob: here"
    assert not bob.of(events.Alarm)


def test_an_open_room_is_entered_anew_where_its_handshakes_are_gone(server: MemoryServer, people: World) -> None:
    everybody = alice, bob, carol = people("alice", "bob", "carol")
    for person in everybody:
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    room = alice.id_of("#lobby")
    bob.cut()
    renew(alice, "#lobby", carol)
    upto = server.head(room).seq
    carol.say("#lobby", "not for bob")
    settle(alice, carol)
    forget(server, room, upto)
    bob.connect()
    settle(*everybody)
    assert bob.state_of("#lobby") == "open"
    bob.say("#lobby", "back")
    settle(*everybody)
    assert alice.texts("#lobby")[-1] == "bob: back"
    assert [each.why for each in bob.of(events.Gap)] == ["re-entered"]  # type: ignore[attr-defined]  # by its kind


@pytest.mark.parametrize("flaw", ["another's", "back", "none", "outdated", "revoked"])
def test_a_checkpoint_of_anybody_else_leads_nowhere(server: MemoryServer, club: list[Person], flaw: str) -> None:
    alice, bob, carol = club
    room = alice.id_of("#club")
    past = server.offer(0, room)
    bob.cut()
    renew(alice, "#club", carol)
    renew(carol, "#club", alice)
    upto = server.head(room).seq
    alice.say("#club", "not for bob")
    settle(alice, carol)
    server.now += 40 * DAY
    carols = server.offer(0, room)
    forget(server, room, upto)
    honest = server.outward
    if flaw in ("outdated", "revoked"):  # as bob has seen elsewhere
        show(bob, (later if flaw == "outdated" else revocation)(alice))

    def lie(link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Checkpoints) and flaw in ("another's", "back", "none"):
            offer = carols if flaw == "another's" else past
            shown = [change(message.checkpoints[0], group_info=offer.group_info, tree=offer.tree)]
            return [change(message, checkpoints=[] if flaw == "none" else shown)]
        return honest(link, message)

    server.outward = lie
    group = there(bob, "#club").group
    bob.connect()
    settle(*club)
    assert told(bob, events.OutOfStep) == ["cut-off", "nothing-left"]
    assert there(bob, "#club").group is group
    assert not resyncs(server, room)


def test_a_checkpoint_leads_back_into_a_room_that_was_renamed_while_we_were_away(
    server: MemoryServer, club: list[Person]
) -> None:
    alice, bob, carol = club
    room = alice.id_of("#club")
    bob.cut()
    renew(carol, "#club", alice)
    alice.do(commands.Rename(room, "#orchard"))
    settle(alice, carol)
    renew(alice, "#orchard", carol)
    alices = alice.engine._context.device.id
    owners = max(entry.seq for entry in server.entries(room) if entry.device == alices and entry.group_info)
    renew(carol, "#orchard", alice)
    alice.say("#orchard", "not for bob")
    settle(alice, carol)
    server.now += 40 * DAY
    forget(server, room, owners)
    bob.connect()
    settle(*club)
    assert told(bob, events.OutOfStep) == ["cut-off", "checkpoint"]
    assert bob.id_of("#orchard") == room
    assert bob.state_of("#orchard") == "open"


def test_an_open_room_that_was_renamed_while_we_were_away_is_entered_anew(server: MemoryServer, people: World) -> None:
    everybody = alice, bob, carol = people("alice", "bob", "carol")
    for person in everybody:
        person.do(commands.JoinRoom("#garden"))
        settle(*everybody)
    room = alice.id_of("#garden")
    bob.cut()
    alice.do(commands.Rename(room, "#orchard"))
    settle(alice, carol)
    upto = server.head(room).seq
    carol.say("#orchard", "not for bob")
    settle(alice, carol)
    forget(server, room, upto)
    bob.connect()
    settle(*everybody)
    assert bob.id_of("#orchard") == room
    assert bob.state_of("#orchard") == "open"
