"""Evidence: another history marks and mutes no open room, and a commit that nobody can process is passed over."""

from collections.abc import Callable

import pytest

from securechat.client import commands, events
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.evidence import holds
from securechat.client.conversations.numbers import encode_commit
from securechat.client.conversations.patience import FIRST_WAIT, LONGEST_WAIT, Patience
from securechat.errors import UsageError
from securechat.policy import Kind
from securechat.server.sequencer.budgets import OPEN_COMMITS
from securechat.wire import messages as wire
from tests.support.memory_server import MemoryServer, refuse
from tests.support.people import Person, settle

World = Callable[..., list[Person]]


def there(person: Person, name: str) -> Conversation:
    found = person.engine._registry.find(name)
    assert found is not None
    return found


def lie(person: Person, name: str, text: str, *others: Person) -> None:
    """Say something with a false history: the program is at fault, or the server shows another log."""
    row = there(person, name).row
    true, row.chain = row.chain, bytes(32)
    person.say(name, text)
    row.chain = true
    settle(person, *others)


def lobby(people: World, *names: str) -> list[Person]:
    everybody = people(*names)
    for person in everybody:
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    return everybody


def team(people: World, *names: str) -> list[Person]:
    everybody = people(*names)
    owner = everybody[0]
    owner.do(commands.CreateRoom("#team"))
    settle(*everybody)
    for name in names[1:]:
        owner.do(commands.Invite(owner.id_of("#team"), name))
        settle(*everybody)
    for person in everybody:  # each has had an entry
        person.say("#team", f"here is {person.name}")
        settle(*everybody)
    return everybody


def alarms(person: Person) -> list[str]:
    return [each.text for each in person.of(events.Alarm) if isinstance(each, events.Alarm) and each.kind == "history"]


def disputed(person: Person, name: str) -> tuple[str, ...]:
    snapshot = person.engine.snapshot.find(name)
    assert snapshot is not None
    return snapshot.disputed


def waits(person: Person, name: str, *others: Person) -> bool:
    """Whether what somebody says does not get through."""
    person.say(name, "do you hear me?")
    settle(person, *others)
    return not any(line.endswith("do you hear me?") for line in others[0].texts(name))


@pytest.mark.parametrize(
    ("kind", "weights", "held"),
    [
        ("open", ["owner", "member", "member"], False),
        ("direct", [], False),
        ("direct", ["stranger"], True),
        ("invite", [], False),
        ("invite", ["member"], False),
        ("invite", ["stranger", "stranger", "stranger"], False),
        ("invite", ["member", "stranger"], False),
        ("invite", ["member", "member"], True),
        ("invite", ["owner"], True),
    ],
)
def test_whose_word_holds_what_is_said(kind: Kind, weights: list[str], held: bool) -> None:  # noqa: FBT001
    assert holds(kind, weights) is held


def test_in_an_open_room_a_false_history_marks_its_sender_and_stops_nobody(people: World) -> None:
    alice, bob, mallory = everybody = lobby(people, "alice", "bob", "mallory")
    for n in range(3):
        lie(mallory, "#lobby", f"lie {n}", alice, bob)
    for person, other in ((alice, bob), (bob, alice)):
        assert disputed(person, "#lobby") == ("mallory",)
        (text,) = alarms(person)  # once, not once a line
        assert "mallory saw another history than you" in text
        assert "the server shows people different histories, or the program of mallory is at fault" in text
        lines = {line.text: line.doubt for line in person.history("#lobby", 10)}
        assert lines["lie 2"] == "the server, or mallory: another history"
        assert not waits(person, "#lobby", other, mallory)
    honest = [line for line in bob.history("#lobby", 10) if line.sender == "alice"]
    assert honest
    assert not any(line.doubt for line in honest)
    assert not [event for person in everybody for event in person.of(events.Delayed)]


def test_in_a_room_of_invitation_one_member_holds_nothing_and_two_do(people: World) -> None:
    alice, bob, carol, mallory = team(people, "alice", "bob", "carol", "mallory")
    lie(mallory, "#team", "a lie", alice, bob, carol)
    assert disputed(bob, "#team") == ("mallory",)
    assert not waits(bob, "#team", alice, carol, mallory)
    lie(carol, "#team", "the same", alice, bob, mallory)
    assert disputed(alice, "#team") == ("carol", "mallory")
    alice.say("#team", "held")
    settle(alice, bob, carol, mallory)
    assert "alice: held" not in bob.texts("#team")
    (told,) = [each for each in alice.of(events.Delayed) if isinstance(each, events.Delayed)]
    assert "carol, mallory saw another history" in told.text
    bob.do(commands.Repair(bob.id_of("#team")))
    settle(alice, bob, carol, mallory)
    bob.say("#team", "still read")
    settle(alice, bob, carol, mallory)
    assert alice.texts("#team")[-2:] == ["bob: still read", "alice: held"]  # reading went on
    alice.crash()
    alice.connect()
    settle(alice, bob, carol, mallory)
    assert "alice: held" not in bob.texts("#team")  # the vault remembers
    alice.do(commands.Repair(alice.id_of("#team")))
    settle(alice, bob, carol, mallory)
    assert disputed(alice, "#team") == ()
    assert "alice: held" in bob.texts("#team")


def test_in_a_room_of_invitation_the_owners_word_holds(people: World) -> None:
    alice, bob = team(people, "alice", "bob")
    lie(alice, "#team", "the owner's", bob)
    assert waits(bob, "#team", alice)
    assert disputed(alice, "#team") == ()


def test_in_a_direct_conversation_sending_waits_and_reading_goes_on(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    lie(alice, "bob", "a lie", bob)
    bob.say("alice", "held")
    settle(alice, bob)
    assert "bob: held" not in alice.texts("bob")
    alice.say("bob", "read all the same")
    settle(alice, bob)
    assert "alice: read all the same" in bob.texts("alice")
    bob.do(commands.Repair(bob.id_of("alice")))
    settle(alice, bob)
    assert alice.texts("bob")[-1] == "bob: held"


def test_there_is_nothing_to_repair_where_nobody_contradicts(people: World) -> None:
    alice, bob = lobby(people, "alice", "bob")
    with pytest.raises(UsageError, match="nothing to repair"):
        alice.do(commands.Repair(alice.id_of("#lobby")))
    assert not alarms(bob)


# --- commits that nobody can process -------------------------------------------------------------------------------


def poison(person: Person, server: MemoryServer, name: str = "#lobby") -> bool:
    """Commit with a false membership tag, which the server cannot see. Returns whether it was taken."""
    place = there(person, name)
    head = server.head(place.id)
    number = head.numbers_of(person.engine._context.device.id).last + 1
    staged = place.group.commit(
        [], by_reference=None, authenticated_data=encode_commit(number, server.now), tree_in_welcome=False,
        validate=person.engine._context.device.validator(server.now // 1000), now=server.now // 1000,
    )  # fmt: skip
    message = staged.message[:-1] + bytes([staged.message[-1] ^ 1])
    assert person.link is not None
    before = head.seq
    person.link.receive(wire.Commit(999, place.id, number, message, b"", staged.group_info or b""))
    return server.head(place.id).seq > before


def test_a_commit_that_nobody_can_process_stops_no_open_room(people: World, server: MemoryServer) -> None:
    alice, bob, mallory = lobby(people, "alice", "bob", "mallory")
    alice.say("#lobby", "before")
    settle(alice, bob, mallory)
    assert poison(mallory, server)
    mallory.cut()
    alice.say("#lobby", "typed meanwhile")
    settle(alice, bob)
    for person in (alice, bob):
        (told,) = person.of(events.Stopped)
        assert isinstance(told, events.Stopped)
        assert (told.culprit, told.passed_over, told.proven) == ("mallory", True, False)
        assert person.state_of("#lobby") == "open"
    bob.say("#lobby", "after")
    settle(alice, bob)
    assert alice.texts("#lobby")[-2:] == ["alice: typed meanwhile", "bob: after"]
    assert not [*alice.of(events.Alarm), *bob.of(events.Alarm)]


def test_a_flood_of_them_meets_the_budget_and_the_others_go_on(people: World, server: MemoryServer) -> None:
    alice, bob, mallory = lobby(people, "alice", "bob", "mallory")
    room, device = mallory.id_of("#lobby"), mallory.engine._context.device.id
    for _ in range(6):
        if there(mallory, "#lobby").row.phase == "member":
            poison(mallory, server)
        mallory.cut()  # her client meets her own commit in the log, and enters again as anybody does
        mallory.connect()
        settle(alice, bob, mallory)
    made = server.head(room).numbers_of(device).last
    assert 2 <= made <= OPEN_COMMITS + server.seconds / 3600 * OPEN_COMMITS
    alice.say("#lobby", "still here")
    settle(alice, bob)
    assert bob.texts("#lobby")[-1] == "alice: still here"
    for person in (alice, bob):
        assert person.state_of("#lobby") == "open"
        assert len(person.of(events.Stopped)) == 1  # told once, however many come


def test_who_cannot_get_back_in_tries_on_and_keeps_what_was_said(people: World, server: MemoryServer) -> None:
    alice, bob, mallory = lobby(people, "alice", "bob", "mallory")
    shut = [True]

    def inward(link: object, message: wire.FromClient) -> list[wire.FromClient]:
        if shut[0] and isinstance(message, wire.Resync) and link is alice.link:
            refuse(alice.link, message, "not-allowed", "no")  # type: ignore[arg-type]  # it is connected
            return []
        return [message]

    server.inward = inward
    assert poison(mallory, server)
    mallory.cut()
    alice.say("#lobby", "waits")
    settle(alice, bob)
    assert alice.state_of("#lobby") == "open"
    (told,) = [each for each in alice.of(events.Alarm) if isinstance(each, events.Alarm)]
    assert "It is tried again by itself" in told.text
    assert "alice: waits" not in bob.texts("#lobby")
    shut[0] = False
    server.advance(server.seconds + LONGEST_WAIT)
    alice.engine.handle_timer()
    settle(alice, bob)
    assert bob.texts("#lobby")[-1] == "alice: waits"


def test_in_a_room_of_invitation_it_stops_until_repair(people: World, server: MemoryServer) -> None:
    alice, bob = team(people, "alice", "bob")
    assert poison(bob, server, "#team")
    bob.cut()
    settle(alice)
    (told,) = alice.of(events.Stopped)
    assert isinstance(told, events.Stopped)
    assert (told.culprit, told.passed_over) == ("bob", False)
    assert alice.state_of("#team") == "stopped"


def test_the_waits_double_to_an_hour_and_begin_anew_after_a_calm_one() -> None:
    patience, now, waited = Patience(), 1000.0, []
    for _ in range(14):
        patience.lose(now)
        waited.append(patience.until - now)
        now = patience.until
    assert waited[:4] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT, 8 * FIRST_WAIT]
    assert waited[-2:] == [LONGEST_WAIT] * 2
    patience.lose(now + 2 * LONGEST_WAIT)
    assert patience.until == now + 2 * LONGEST_WAIT + FIRST_WAIT
