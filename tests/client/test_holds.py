"""Whom a line goes to: keys that are not accepted hold it, or take one Enter; nobody who came by a door reads along."""

from collections.abc import Callable

import pytest

from securechat.client import commands, events
from securechat.client.conversations import roster
from securechat.client.doors.facts import Key, Verdict
from securechat.client.pins import PinBook
from securechat.errors import UsageError
from securechat.identity import pins
from securechat.wire import messages as wire
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, settle

World = Callable[..., list[Person]]
OTHER = b"k" * 32


@pytest.fixture
def den(people: World) -> list[Person]:
    """Alice and bob in alice's #den, which he was invited to."""
    alice, bob = people("alice", "bob")
    alice.do(commands.CreateRoom("#den"))
    settle(alice, bob)
    invite(alice, bob, alice, bob)
    return [alice, bob]


def invite(owner: Person, guest: Person, *everybody: Person) -> None:
    """Let somebody into #den."""
    owner.do(commands.Invite(owner.id_of("#den"), guest.name))
    settle(*everybody)  # who says yes to it
    assert guest.state_of("#den") == "open"


def key_of(person: Person) -> bytes:
    return person.engine._context.device.identity_key


def book(person: Person) -> PinBook:
    return person.engine._context.pins


def decide(person: Person, decision: str, account: str, key: bytes) -> None:
    """Have decided on a key in an earlier life."""
    with person.vault.transaction():
        getattr(book(person), decision)(account, key)


def held(person: Person) -> list[events.Held]:
    return [event for event in person.happened if isinstance(event, events.Held)]


# --- rooms --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decision", ["verify", "refuse"])
def test_in_an_open_room_a_key_against_a_decision_takes_one_enter_once_for_ever(
    lobby: list[Person], decision: str
) -> None:
    alice, bob = lobby
    decide(alice, decision, "bob", OTHER if decision == "verify" else key_of(bob))
    alice.say("#lobby", "for whom?")
    settle(alice, bob)
    (asked,) = held(alice)
    assert [(each.account, each.key) for each in asked.whose] == [("bob", pins.short(key_of(bob)))]
    assert asked.question
    assert bob.texts("#lobby") == []
    with pytest.raises(UsageError, match="Others have come"):
        alice.do(commands.Confirm(alice.id_of("#lobby"), asked.question + 1))
    alice.do(commands.Confirm(alice.id_of("#lobby"), asked.question))
    settle(alice, bob)
    assert bob.texts("#lobby") == ["alice: for whom?"]
    alice.crash()
    alice.connect()
    alice.say("#lobby", "and again")
    settle(alice, bob)
    assert bob.texts("#lobby")[-1] == "alice: and again"
    assert len(held(alice)) == 1
    assert book(alice).standing("bob", key_of(bob)) not in pins.WRITTEN_TO  # nothing was accepted by it


def test_a_newer_decision_asks_again_in_an_open_room(lobby: list[Person]) -> None:
    alice, bob = lobby
    decide(alice, "verify", "bob", OTHER)
    alice.say("#lobby", "one")
    settle(alice, bob)
    alice.do(commands.Confirm(alice.id_of("#lobby"), held(alice)[0].question))
    alice.do(commands.Distrust("bob", pins.short(key_of(bob))))
    alice.say("#lobby", "two")
    settle(alice, bob)
    assert bob.texts("#lobby") == ["alice: one"]
    assert held(alice)[-1].whose[0].trust == "refused"


@pytest.mark.parametrize("decision", ["trust", "nothing"])
def test_in_an_open_room_nothing_else_waits(lobby: list[Person], decision: str) -> None:
    alice, bob = lobby
    if decision == "trust":
        decide(alice, "trust", "bob", OTHER)  # accepted, and not compared: marked, and no more
    alice.say("#lobby", "to all")
    settle(alice, bob)
    assert bob.texts("#lobby") == ["alice: to all"]
    assert not held(alice)
    (snapshot,) = alice.engine.snapshot.conversations.values()
    assert dict(zip(snapshot.members, snapshot.trust, strict=True)) == {
        "alice": "verified", "bob": "changed" if decision == "trust" else "unknown",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("decision", "key", "holds"),
    [("verify", "another", True), ("refuse", "his", True), ("trust", "another", False), ("verify", "his", False)],
)
def test_in_a_room_of_invitation_only_what_was_verified_or_refused_holds(
    den: list[Person], decision: str, key: str, *, holds: bool
) -> None:
    alice, bob = den
    decide(alice, decision, "bob", key_of(bob) if key == "his" else OTHER)
    alice.say("#den", "to bob")
    settle(alice, bob)
    assert bob.texts("#den") == ([] if holds else ["alice: to bob"])
    assert [event.question for event in held(alice)] == [0] * holds
    if holds:
        with pytest.raises(UsageError, match="Nothing waits"):
            alice.do(commands.Confirm(alice.id_of("#den"), 0))
        form = pins.short(key_of(bob))
        (accepted,) = [
            each for each in alice.do(commands.Trust("bob", form)) if isinstance(each, events.KeyAccepted)
        ]
        assert (accepted.key, accepted.lines) == (form, 1)
        settle(alice, bob)
        assert bob.texts("#den") == ["alice: to bob"]


# --- whom a line was typed for ------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_door", [True, False])
def test_a_line_waits_for_one_enter_if_somebody_came_by_a_door_after_it_was_typed(
    server: MemoryServer, people: World, den: list[Person], *, by_door: bool
) -> None:
    alice, bob = den
    (carol,) = people("carol")
    server.inward = lambda link, m: [] if link is bob.link and isinstance(m, wire.Submit) else [m]
    bob.say("#den", "for alice")
    settle(alice, bob, carol)
    invite(alice, carol, alice, bob, carol)
    bob.cut()
    server.inward = lambda _link, message: [message]
    conversation = bob.engine._registry.get(bob.id_of("#den"))
    assert conversation is not None
    assert [person.door for person in conversation.row.persons] == [0, 0, 0]
    if by_door:
        with bob.vault.transaction():
            verdict = Verdict("checkpoint", "resync", holding=frozenset((Key("carol", key_of(carol)),)))
            roster.hold(conversation, verdict)
            conversation.save()
    bob.crash()
    bob.connect()
    settle(alice, bob, carol)
    if not by_door:
        assert carol.texts("#den") == ["bob: for alice"]
        assert not held(bob)
        return
    assert carol.texts("#den") == []
    assert [(each.account, each.trust) for each in held(bob)[0].whose] == [("carol", "unknown")]
    bob.say("#den", "typed when she was listed")  # and behind the first one all the same: the order stays
    settle(alice, bob, carol)
    assert carol.texts("#den") == []
    bob.do(commands.Confirm(bob.id_of("#den"), held(bob)[0].question))
    settle(alice, bob, carol)
    assert carol.texts("#den") == ["bob: for alice", "bob: typed when she was listed"]
    bob.crash()
    bob.connect()
    bob.say("#den", "no more questions")
    settle(alice, bob, carol)
    assert carol.texts("#den")[-1] == "bob: no more questions"


# --- private conversations ----------------------------------------------------------------------------------------


def test_whoever_writes_without_asking_asks_by_it_and_a_yes_accepts_their_key(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    assert alice.of(events.FirstContact) == [events.FirstContact("bob", pins.short(key_of(bob)))]
    assert bob.state_of("alice") == "request"
    assert not bob.of(events.FirstContact)
    assert book(bob).standing("alice", key_of(alice)) == "unknown"
    bob.accept("alice")
    assert book(bob).standing("alice", key_of(alice)) == "accepted"
    bob.say("alice", "hi")
    settle(alice, bob)
    assert alice.texts("bob") == ["alice: hello", "bob: hi"]


def test_a_yes_to_a_request_never_takes_accepted_from_another_key(people: World) -> None:
    alice, bob = people("alice", "bob")
    decide(bob, "trust", "alice", OTHER)
    alice.do(commands.OpenDirect("bob", "may I?", ask=True))
    settle(alice, bob)
    with pytest.raises(UsageError, match=f"/trust alice {pins.short(key_of(alice))} accepts it all the same"):
        bob.accept("alice")
    assert book(bob).standing("alice", OTHER) == "accepted"
    bob.do(commands.Trust("alice", pins.short(key_of(alice))))
    bob.accept("alice")
    settle(alice, bob)
    assert alice.state_of("bob") == "open"


def test_a_no_to_somebody_unknown_writes_nothing_to_them_and_they_are_told(
    server: MemoryServer, people: World
) -> None:
    alice, bob = people("alice", "bob")
    submitted: list[object] = []
    server.inward = lambda link, m: submitted.append(m) or [m] if link is bob.link else [m]  # type: ignore[func-returns-value]  # None
    alice.do(commands.OpenDirect("bob", "may I?", ask=True))
    settle(alice, bob)
    bob.do(commands.Decline(bob.id_of("alice")))
    settle(alice, bob)
    assert not [message for message in submitted if isinstance(message, wire.Submit)]
    theirs = [each for each in alice.happened if isinstance(each, events.ConversationChanged) and each.account == "bob"]
    assert [each.change for each in theirs] == ["declined"]
    assert (alice.state_of("bob"), bob.state_of("alice")) == ("closed", "closed")


def test_after_a_refusal_writing_first_accepts_no_other_key_by_itself(people: World) -> None:
    alice, bob = people("alice", "bob")
    decide(alice, "refuse", "bob", OTHER)
    alice.do(commands.OpenDirect("bob", "which of you?", ask=False))
    settle(alice, bob)
    assert [each.trust for each in held(alice)[0].whose] == ["unknown"]
    assert bob.engine.snapshot.find("alice") is None
    alice.do(commands.Trust("bob"))
    settle(alice, bob)
    assert bob.texts("alice") == ["alice: which of you?"]


def test_a_number_counts_as_compared_for_the_key_that_it_was_shown_for_alone(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    alice.safety_number("bob")
    decide(alice, "refuse", "bob", OTHER)  # another one is known meanwhile, and was not shown
    alice.do(commands.Verify("bob"))
    assert book(alice).standing("bob", key_of(bob)) == "verified"
    with pytest.raises(UsageError, match="no such key"):
        alice.do(commands.Verify("bob", pins.short(OTHER)))
    alice.crash()
    with pytest.raises(UsageError, match="Look at the safety number first"):
        alice.do(commands.Verify("bob"))
    assert book(alice).standing("bob", key_of(bob)) == "verified"  # and that was kept


# --- our own name -------------------------------------------------------------------------------------------------


def test_another_key_under_our_own_name_is_an_alarm_once_and_never_ours(people: World) -> None:
    (alice,) = people("alice")
    told: list[events.Event] = []
    pins_of_alice = PinBook(alice.vault.pins, told.append, "alice", key_of(alice))
    certificate = alice.engine._context.device.certificate
    pins_of_alice.meet(certificate, b"c" * 32)
    assert told == []  # the twin: that is this program
    impostor = type(certificate)(**{**vars(certificate), "identity_key": OTHER})
    for _ in range(2):
        pins_of_alice.meet(impostor, b"c" * 32)
    (alarm,) = told
    assert isinstance(alarm, events.Alarm)
    assert alarm.kind == "own-name"
    assert pins.short(OTHER) in alarm.text
    for decision in ("trust", "verify", "refuse"):
        with pytest.raises(UsageError, match="That is you"):
            getattr(pins_of_alice, decision)("alice", OTHER)
    assert pins_of_alice.standing("alice", OTHER) == "changed-verified"
    assert pins_of_alice.standing("alice", key_of(alice)) == "verified"
    assert alice.vault.pins.load() == []


@pytest.mark.parametrize("command", [commands.Trust, commands.Verify, commands.Distrust, commands.ShowSafetyNumber])
def test_no_decision_is_taken_on_our_own_name(people: World, command: type[commands.Trust]) -> None:
    (alice,) = people("alice")
    with pytest.raises(UsageError, match="That is you|Look at the safety number"):
        alice.do(command("alice"))


def test_a_refused_key_is_accepted_again_by_its_name_alone(den: list[Person]) -> None:
    alice, bob = den
    decide(alice, "refuse", "bob", key_of(bob))
    form = pins.short(key_of(bob))
    with pytest.raises(UsageError, match=f"You have refused what is known of bob. /trust bob {form} accepts it again."):
        alice.do(commands.Trust("bob"))
    alice.do(commands.Trust("bob", form))
    assert book(alice).standing("bob", key_of(bob)) == "accepted"
