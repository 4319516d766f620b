"""What a client knows of the chains of keys: what is older or revoked is refused where it is offered, two who hold one
key are told of, and a flood of invented keys displaces nobody whom the user has decided on."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securechat.client import chains, commands, events
from securechat.errors import UsageError
from securechat.identity import pins
from securechat.identity.certificate import DeviceCertificate, issue
from securechat.identity.statements import EMPTY, Head, Statement, state
from securechat.wire import messages as wire
from tests.support.chains import OTHER_KEY, book, certificate, certified, later, revocation, show, stated
from tests.support.people import Person, only, settle

World = Callable[..., list[Person]]


def talk(alice: Person, bob: Person) -> None:
    alice.do(commands.OpenDirect(bob.name, "hello", ask=False))
    settle(alice, bob)


@pytest.fixture
def pair(people: World) -> list[Person]:
    """Alice and bob, who talk."""
    alice, bob = people("alice", "bob")
    talk(alice, bob)
    bob.say("alice", "hi")
    settle(alice, bob)
    return [alice, bob]


# --- what is offered ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "text"), [(later, "older certificate of bob"), (revocation, "bob has revoked"), (certificate, "")]
)
def test_an_old_key_package_opens_no_conversation(
    people: World, made: Callable[[Person], DeviceCertificate | Statement], text: str
) -> None:
    alice, bob = people("alice", "bob")
    show(alice, made(bob))
    talk(alice, bob)
    alarms = [each for each in alice.of(events.Alarm) if isinstance(each, events.Alarm)]
    if text:
        (alarm,) = alarms
        assert alarm.kind == "key-package"
        assert text in alarm.text
        assert bob.state_of("alice") == ""
    else:
        assert not alarms
        assert bob.texts("alice") == ["alice: hello"]


@pytest.mark.parametrize(
    ("made", "text"), [(later, "older certificate of bob"), (revocation, "bob has revoked"), (certificate, "")]
)
def test_nobody_is_added_by_an_old_key_package(
    pair: list[Person], made: Callable[[Person], DeviceCertificate | Statement], text: str
) -> None:
    alice, bob = pair
    alice.do(commands.CreateRoom("#den"))
    settle(*pair)
    show(alice, made(bob))
    alice.do(commands.Invite(alice.id_of("#den"), "bob"))
    settle(*pair)
    refused = [each.text for each in alice.of(events.Refused) if isinstance(each, events.Refused)]
    assert [text in each for each in refused] == ([True] if text else [])
    assert bob.state_of("#den") == ("" if text else "open")


def test_a_newer_certificate_elsewhere_stops_nothing_that_stands(pair: list[Person]) -> None:
    """As after a rotation: bob's leaf here is the one to be replaced next."""
    alice, bob = pair
    show(alice, later(bob))
    alice.say("bob", "to the leaf that stands")
    settle(*pair)
    assert bob.texts("alice")[-1] == "alice: to the leaf that stands"
    for kind in (events.Alarm, events.TwoHolders, events.Held, events.Stopped):
        assert not alice.of(kind)


@pytest.mark.parametrize("made", [later, revocation, certificate])
def test_a_conversation_that_was_opened_by_an_old_certificate(
    people: World, made: Callable[[Person], DeviceCertificate | Statement]
) -> None:
    """Bob opened it while alice was away, or somebody does who has an old copy of his data."""
    alice, bob = people("alice", "bob")
    with alice.engine._unit():
        alice.engine._context.pins.accept("bob", certificate(bob).identity_key)
    alice.cut()
    talk(bob, alice)
    show(alice, made(bob))
    alice.connect()
    settle(alice, bob)
    named = [each.account for each in alice.of(events.CameByOldKey) if isinstance(each, events.CameByOldKey)]
    refused = [each.text for each in alice.of(events.Alarm) if isinstance(each, events.Alarm)]
    assert named == ["bob"] * (made is later)  # the log does not show that he has renewed it
    assert ["bob has revoked" in each for each in refused] == [True] * (made is revocation)
    assert alice.state_of("bob") == ("" if made is revocation else "open")


def test_what_was_typed_to_who_opens_by_an_old_certificate_waits(people: World) -> None:
    """Alice writes to bob, and the server brings her a conversation that bob has opened, or a thief in his name."""
    alice, bob = people("alice", "bob")
    with alice.engine._unit():
        alice.engine._context.pins.accept("bob", certificate(bob).identity_key)
    alice.cut()
    talk(bob, alice)
    show(alice, later(bob))
    alice.connect()
    alice.do(commands.OpenDirect("bob", "typed before", ask=False))
    settle(alice, bob)
    (held,) = [each for each in alice.of(events.Held) if isinstance(each, events.Held)]
    assert bob.texts("alice") == ["bob: hello"]
    alice.do(commands.Confirm(held.conversation, held.question))
    settle(alice, bob)
    assert bob.texts("alice") == ["bob: hello", "alice: typed before"]


# --- two holders --------------------------------------------------------------------------------------------------


def test_two_who_hold_one_key_are_told_of_once_and_private_lines_wait_for_one_enter(pair: list[Person]) -> None:
    alice, bob = pair
    show(alice, certified(bob, EMPTY))
    assert [(each.account, each.key) for each in alice.of(events.TwoHolders)] == [  # type: ignore[attr-defined]
        ("bob", alice.safety_numbers("bob")[0].key)
    ]
    alice.say("bob", "to whom?")
    settle(*pair)
    (held,) = alice.of(events.Held)
    assert isinstance(held, events.Held)
    assert held.two_holders
    assert bob.texts("alice")[-1] == "bob: hi"
    alice.do(commands.Confirm(alice.id_of("bob"), held.question))
    settle(*pair)
    assert bob.texts("alice")[-1] == "alice: to whom?"
    alice.crash()
    alice.connect()
    settle(*pair)
    show(alice, certified(bob, EMPTY), certified(bob, EMPTY, b"l" * 32))
    alice.say("bob", "on")
    settle(*pair)
    assert bob.texts("alice")[-1] == "alice: on"
    assert len(alice.of(events.TwoHolders)) == len(alice.of(events.Held)) == 1


def test_what_was_found_out_outlives_the_program(pair: list[Person]) -> None:
    alice, bob = pair
    show(alice, certified(bob, EMPTY))
    alice.crash()
    alice.connect()
    settle(*pair)
    alice.say("bob", "to whom?")
    settle(*pair)
    assert bob.texts("alice")[-1] == "bob: hi"
    with pytest.raises(UsageError, match="Others have come"):
        alice.do(commands.Confirm(alice.id_of("bob"), 0))  # another question than the one that was asked


def test_in_a_room_two_holders_hold_nothing(pair: list[Person]) -> None:
    alice, bob = pair
    for person in pair:
        person.do(commands.JoinRoom("#lobby"))
        settle(*pair)
    show(alice, certified(bob, EMPTY))
    alice.say("#lobby", "all")
    settle(*pair)
    assert bob.texts("#lobby")[-1] == "alice: all"


def test_of_strangers_nobody_is_told(people: World) -> None:
    alice, bob = people("alice", "bob")
    show(alice, certificate(bob), certified(bob, EMPTY))
    assert not alice.of(events.TwoHolders)
    talk(alice, bob)  # and who writes to them first hears of it then
    settle(alice, bob)
    assert len(alice.of(events.Held)) == 1
    assert bob.texts("alice") == []


def test_that_somebody_else_uses_our_own_key_is_told_once(pair: list[Person]) -> None:
    alice, _ = pair
    show(alice, certificate(alice))
    assert not alice.of(events.OwnKeyUsed)
    strange = later(alice)
    show(alice, strange)
    alice.crash()
    show(alice, strange)
    assert len(alice.of(events.OwnKeyUsed)) == 1


# --- successors ---------------------------------------------------------------------------------------------------

NEW = Ed25519PrivateKey.from_private_bytes(b"n" * 32)
NEW_KEY = NEW.public_key().public_bytes_raw()


def succession(person: Person) -> Statement:
    return stated(person, "succeed", Head.after(certificate(person)), key=NEW_KEY, successor=NEW)


def contest(person: Person, days: int = 0, key: bytes = NEW_KEY) -> Statement:
    return stated(person, "contest", Head.after(succession(person)), key=key, days=days)


def standing(person: Person, account: str, key: bytes) -> str:
    return person.engine._context.pins.standing(account, key)


@pytest.mark.parametrize("verified", [False, True])
def test_accepted_pins_follow_and_verified_ones_wait_for_one_enter(pair: list[Person], *, verified: bool) -> None:
    alice, bob = pair
    old = certificate(bob).identity_key
    if verified:
        alice.safety_numbers("bob")
        alice.do(commands.Verify("bob"))
    show(alice, succession(bob))
    now = "succeeded" if verified else "accepted"
    assert standing(alice, "bob", NEW_KEY) == now
    assert standing(alice, "bob", old) not in pins.WRITTEN_TO
    (told,) = [each for each in alice.of(events.KeySucceeded) if isinstance(each, events.KeySucceeded)]
    assert (told.account, told.key, told.trust) == ("bob", pins.short(NEW_KEY), now)
    alice.do(commands.Trust("bob", pins.short(old)))  # whatever the user decides then
    show(alice, succession(bob))  # is not undone by another log that brings it
    assert standing(alice, "bob", old) == "accepted"
    assert len(alice.of(events.KeySucceeded)) == 1


NEXT = Ed25519PrivateKey.from_private_bytes(b"m" * 32)
NEXT_KEY = NEXT.public_key().public_bytes_raw()


def further(person: Person, old: Ed25519PrivateKey, new: Ed25519PrivateKey) -> Statement:
    """A key that has succeeded that person's names its own successor."""
    return state(
        old, EMPTY, "succeed", server_id=person.engine._context.device.row.server_id, account=person.name,
        time=person.clock.seconds(), key=new.public_key().public_bytes_raw(), successor=new,
    )  # fmt: skip


@pytest.mark.parametrize("in_order", [True, False])
def test_two_successions_are_followed_in_any_order(pair: list[Person], *, in_order: bool) -> None:
    alice, bob = pair
    said = succession(bob), further(bob, NEW, NEXT)
    show(alice, *(said if in_order else reversed(said)))
    assert [standing(alice, "bob", key) for key in (NEW_KEY, NEXT_KEY)] == ["changed", "accepted"]
    assert len(alice.of(events.KeySucceeded)) == 2


def test_successions_in_a_ring_come_to_an_end(pair: list[Person]) -> None:
    alice, bob = pair
    show(alice, further(bob, NEW, NEXT), further(bob, NEXT, NEW), succession(bob))
    assert len(alice.of(events.KeySucceeded)) == 3  # each told once, and no more


def test_lines_to_who_succeeded_a_compared_key_wait_for_one_enter(pair: list[Person]) -> None:
    """The conversation with the new key is there when the old one names it: that may come in any order."""
    alice, bob = pair
    key = certificate(bob).identity_key
    with alice.engine._unit():
        book = alice.engine._context.pins
        book.verify("bob", NEW_KEY)
        book.succeed("bob", NEW_KEY, key)
    alice.say("bob", "compared?")
    settle(*pair)
    held = alice.of(events.Held)[-1]
    assert isinstance(held, events.Held)
    assert held.whose[0].trust == "succeeded"
    assert held.question
    assert bob.texts("alice")[-1] == "bob: hi"
    alice.do(commands.Confirm(held.conversation, held.question))
    settle(*pair)
    assert bob.texts("alice")[-1] == "alice: compared?"
    assert standing(alice, "bob", key) == "accepted"


@pytest.mark.parametrize(
    ("days", "key", "counts", "in_order"),
    [
        (0, NEW_KEY, True, True), (38, NEW_KEY, True, True), (39, NEW_KEY, False, True), (0, OTHER_KEY, False, True),
        (0, NEW_KEY, True, False), (39, NEW_KEY, False, False),
    ],
)  # fmt: skip
def test_what_the_old_key_contests_in_time_is_accepted_no_more(
    pair: list[Person], days: int, key: bytes, *, counts: bool, in_order: bool
) -> None:
    """The server counts 30 days from the publication, a week after the signature at most; a day is for clocks.

    Out of order: the two stand in several logs, and the one that has only the contest may be read first.
    """
    alice, bob = pair
    old = certificate(bob).identity_key
    said = succession(bob), contest(bob, days, key)
    show(alice, *(said if in_order else reversed(said)))
    assert standing(alice, "bob", old) == ("contested" if counts else "changed")
    assert standing(alice, "bob", NEW_KEY) == ("contested" if counts else "accepted")
    assert len(alice.of(events.KeyContested)) == counts
    if counts:
        alice.say("bob", "to whom?")
        settle(*pair)
        held = alice.of(events.Held)[-1]
        assert isinstance(held, events.Held)
        assert not held.question  # an Enter is not enough
        alice.safety_numbers("bob")
        alice.do(commands.Verify("bob", pins.short(old)))
        settle(*pair)
        assert bob.texts("alice")[-1] == "alice: to whom?"


def test_a_contest_without_its_succession_is_nothing(pair: list[Person]) -> None:
    alice, bob = pair
    show(alice, contest(bob))
    assert standing(alice, "bob", certificate(bob).identity_key) == "accepted"
    assert not alice.of(events.KeyContested)


def test_a_succession_of_strangers_pins_nothing(people: World) -> None:
    alice, bob = people("alice", "bob")
    show(alice, succession(bob))
    assert standing(alice, "bob", NEW_KEY) == "unknown"
    assert not alice.of(events.KeySucceeded)


# --- what the server is asked ---------------------------------------------------------------------------------------


def stranger(person: Person) -> DeviceCertificate:
    """A certificate in somebody's name by another identity key."""
    device, now = person.engine._context.device, person.clock.seconds()
    return issue(
        NEW, server_id=device.row.server_id, account=person.name, device_id=b"n" * 16, signature_key=OTHER_KEY,
        not_before=now - 86_400, not_after=now + 86_400,
    )  # fmt: skip


def meet(person: Person, certificate: DeviceCertificate) -> None:
    with person.engine._unit():
        person.engine._context.meet(certificate, bytes(32))
    person.flush()


def showing(person: Person, account: str, *links: DeviceCertificate | Statement) -> list[wire.FetchStatements]:
    """Let the server show somebody these links, and nothing else, of whatever they ask. Returns what they ask."""
    asked: list[wire.FetchStatements] = []
    change = msgspec.structs.replace

    def inward(link: object, message: wire.FromClient) -> list[wire.FromClient]:
        if link is person.link and isinstance(message, wire.FetchStatements):
            assert message.account == account
            asked.append(message)
        return [message]

    def shown(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Statements):
            after = asked[-1].after_seq
            return [change(message, links=[each.encode() for each in links if each.seq > after], more=False)]
        return [message]

    person.server.inward = inward
    only(person, shown)
    return asked


def test_when_another_key_shows_itself_the_server_is_asked_whether_the_accepted_one_has_named_it(
    pair: list[Person],
) -> None:
    alice, bob = pair
    asked = showing(alice, "bob", certificate(bob), succession(bob))
    meet(alice, stranger(bob))
    settle(*pair)
    assert [(each.identity_key, each.after_seq) for each in asked] == [(certificate(bob).identity_key, 0)]
    assert standing(alice, "bob", NEW_KEY) == "accepted"
    assert len(alice.of(events.KeyChanged)) == len(alice.of(events.KeySucceeded)) == 1
    meet(alice, stranger(bob))
    settle(*pair)
    assert len(asked) == 1


def test_a_server_that_knows_of_no_successor_changes_nothing(pair: list[Person]) -> None:
    alice, bob = pair
    meet(alice, stranger(bob))
    settle(*pair)
    assert standing(alice, "bob", NEW_KEY) == "changed"
    assert not alice.of(events.KeySucceeded)
    assert not alice.of(events.Alarm)


def test_a_server_that_has_less_than_was_seen_is_told_of(pair: list[Person]) -> None:
    alice, bob = pair
    show(alice, later(bob))
    showing(alice, "bob", certificate(bob))
    meet(alice, stranger(bob))
    settle(*pair)
    (alarm,) = alice.of(events.Alarm)
    assert isinstance(alarm, events.Alarm)
    assert "less of what the key of bob has signed" in alarm.text
    assert book(alice).age(certificate(bob)) == "older"


@pytest.mark.parametrize("lie", ["another's", "unsigned"])
def test_what_the_server_makes_up_of_a_chain_is_refused(pair: list[Person], lie: str) -> None:
    alice, bob = pair
    own = stated(alice, "succeed", Head.after(certificate(alice)), key=NEW_KEY, successor=NEW)
    showing(alice, "bob", own if lie == "another's" else replace(succession(bob), signature=bytes(64)))
    meet(alice, stranger(bob))
    settle(*pair)
    (alarm,) = alice.of(events.Alarm)
    assert isinstance(alarm, events.Alarm)
    assert "is false" in alarm.text
    assert standing(alice, "bob", NEW_KEY) == "changed"


# --- what it takes ------------------------------------------------------------------------------------------------


def test_invented_keys_displace_nobody_whom_the_user_has_decided_on(
    pair: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = pair
    monkeypatch.setattr(chains, "MAX_MET", 5)
    monkeypatch.setattr(chains, "_SLACK", 2)
    alice.crash()
    own = certificate(alice)
    show(alice, own, later(bob))
    def invented(n: int) -> DeviceCertificate:
        return issue(
            Ed25519PrivateKey.generate(), server_id=own.server_id, account=f"x{n}", device_id=bytes(16),
            signature_key=OTHER_KEY, not_before=0, not_after=9,
        )  # fmt: skip

    crowd = [invented(n) for n in range(40)]
    for each in crowd:
        show(alice, each)
        (count,) = alice.vault.one("SELECT count(*) FROM seen_chains")
        assert count <= 5 + 2 + 2 + 1  # bob's, and our own
    with alice.vault.transaction():
        kept = [alice.vault.chains.load(each.account, each.identity_key) is not None for each in crowd]
        assert kept == sorted(kept)  # the newest
        assert sum(kept) >= 5
        assert alice.vault.chains.load("alice", own.identity_key) is not None
    assert book(alice).age(certificate(bob)) == "older"
