"""The key packages by which others reach us: in time, in stock, and told where they are not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from securechat.client import commands, events
from securechat.client.conversations.stock import MAX_SPENT
from securechat.client.conversations.unopened import MAX_TOLD
from securechat.client.device import CERTIFICATE_SECONDS, KEY_PACKAGE_LOW, KEY_PACKAGE_STOCK
from securechat.identity.certificate import CLOCK_SKEW
from securechat.server.sequencer import tokens
from securechat.server.sequencer.validation import reference
from securechat.wire import messages as wire
from tests.client.test_rotation import DAY, certificate, pass_days, restart
from tests.support.memory_server import Link, MemoryServer, refuse
from tests.support.people import PASSWORD, Person, only, settle

World = Callable[..., list[Person]]


def someone(server: MemoryServer, folder: Path, name: str) -> Person:
    """Somebody with a password file, connected."""
    file = folder / f"{name}.password"
    file.write_text(PASSWORD + "\n")
    person = Person(server, folder, name, file)
    person.register()
    person.connect()
    settle(person)
    return person


def count(server: MemoryServer, person: Person) -> int:
    """How many of somebody's key packages the server still has, whatever it says."""
    return server.store.directory.count_key_packages(person.engine._context.device.id)


def ask(person: Person, peer: str, text: str = "May I?") -> None:
    """Write to somebody for the first time."""
    person.do(commands.OpenDirect(peer, text, ask=True))


def take(server: MemoryServer, person: Person, times: int) -> None:
    """Somebody takes key packages, and never writes."""
    for _ in range(times):
        server.store.directory.take_key_package(person.engine._context.device.id)


@pytest.mark.parametrize(("days", "away"), [(44, False), (46, True), (700, True)])
def test_who_writes_to_somebody_away_longer_than_their_keys_hears_it_and_it_goes_when_they_are_back(
    people: World, server: MemoryServer, days: int, *, away: bool
) -> None:
    alice, bob = people("alice", "bob")
    for person in (alice, bob):
        person.cut()
    server.now += days * DAY * 1000
    restart(alice)
    settle(alice)
    ask(alice, "bob")
    settle(alice)
    told = [each for each in alice.of(events.Delayed) if isinstance(each, events.Delayed)]
    assert [each.code for each in told] == ["away"] * away
    assert all("Nobody can open a new chat with them before they are back" in each.text for each in told)
    restart(bob)
    settle(bob)
    pass_days(server, 1, alice)  # it is tried each hour
    settle(alice, bob)
    assert bob.texts("alice") == ["alice: May I?"]
    bob.accept("alice")
    bob.say("alice", "You may.")
    settle(alice, bob)
    assert alice.texts("bob")[-1] == "bob: You may."
    assert len(alice.of(events.Delayed)) == len(told)
    for person in (alice, bob):
        assert not person.of(events.Alarm)
        assert not person.of(events.Refused)


def test_keys_that_are_out_of_date_by_our_clock_alone_are_no_alarm(people: World, server: MemoryServer) -> None:
    alice, bob = people("alice", "bob")
    server.now = (certificate(bob).not_after - 3600) * 1000
    alice.do(commands.Unlock(PASSWORD))
    settle(alice)
    server.leap = -2 * 3600  # the server's clock is behind
    server.now += 2 * 3600 * 1000
    ask(alice, "bob")
    settle(alice)
    (told,) = alice.of(events.Delayed)
    assert isinstance(told, events.Delayed)
    assert told.text.startswith("By this machine's clock the key package of bob has expired, or is not valid yet.")
    assert not alice.of(events.Alarm)
    bob.do(commands.Unlock(PASSWORD))
    settle(bob)
    pass_days(server, 1, alice)
    settle(alice, bob)
    assert bob.texts("alice") == ["alice: May I?"]


@pytest.mark.parametrize("back_after", [44, 46, 50, 69])
def test_a_first_message_that_came_in_time_is_read_however_late_its_reader_is_back(
    people: World, server: MemoryServer, back_after: int
) -> None:
    alice, bob = people("alice", "bob")
    bob.cut()
    server.now += 43 * DAY * 1000
    alice.cut()
    restart(alice)
    ask(alice, "bob")
    settle(alice)
    alice.cut()
    server.now += (back_after - 43) * DAY * 1000
    server.tidy()
    restart(bob)
    settle(bob)
    assert bob.texts("alice") == ["alice: May I?"]
    assert not bob.of(events.Alarm)
    pass_days(server, 46, bob)
    bob.do(commands.Unlock(PASSWORD))
    settle(bob)
    pass_days(server, 1, bob)
    now = bob.clock.seconds()
    assert not bob.vault.all("SELECT 1 FROM key_packages WHERE not_after < ?", now - CLOCK_SKEW)  # then they are gone


def test_a_stock_that_others_have_taken_is_filled_up_within_the_hour(people: World, server: MemoryServer) -> None:
    (alice,) = people("alice")
    take(server, alice, KEY_PACKAGE_STOCK - KEY_PACKAGE_LOW)
    pass_days(server, 1, alice)
    assert count(server, alice) == KEY_PACKAGE_LOW  # enough
    take(server, alice, 1)
    pass_days(server, 1, alice)
    assert count(server, alice) == KEY_PACKAGE_STOCK


@pytest.mark.parametrize(("days", "extended"), [(14, False), (16, True)])
def test_a_token_is_extended_once_half_of_its_life_is_over(
    people: World, server: MemoryServer, monkeypatch: pytest.MonkeyPatch, days: int, *, extended: bool
) -> None:
    monkeypatch.setattr(tokens, "TOKEN_SECONDS", 30 * DAY)
    (alice,) = people("alice")
    before = alice.engine._context.device.row.token_expires
    alice.cut()
    server.now += days * DAY * 1000
    restart(alice)
    settle(alice)
    assert (alice.engine._context.device.row.token_expires > before) is extended


@pytest.mark.parametrize(("days", "asked"), [(14, False), (31, True)])
def test_whoever_is_there_once_a_fortnight_resumes_for_two_years(
    server: MemoryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, *, asked: bool
) -> None:
    monkeypatch.setattr(tokens, "TOKEN_SECONDS", 30 * DAY)
    alice = someone(server, tmp_path, "alice")
    for _ in range(2 * 365 // days):
        alice.cut()
        server.now += days * DAY * 1000
        alice.happened.clear()
        alice.connect()
        settle(alice)
        (login,) = alice.of(events.LoggedIn)
        assert isinstance(login, events.LoggedIn)
        assert login.resumed is not asked
    alice.stop()


def test_who_is_there_without_a_break_for_two_years_is_in_stock_and_resumes(
    server: MemoryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "TOKEN_SECONDS", 30 * DAY)
    alice = someone(server, tmp_path, "alice")
    start = server.now
    for number, day in enumerate((44, 46, 89, 91, 365, 729, 731)):
        while server.now < start + day * DAY * 1000:
            pass_days(server, 1, alice)
        bob = someone(server, tmp_path, f"bob{number}")
        ask(bob, "alice")
        settle(alice, bob)
        assert alice.texts(bob.name) == [f"{bob.name}: May I?"]
        assert not bob.of(events.Alarm)
        bob.stop()
        alice.cut()
        alice.happened.clear()
        alice.connect()
        settle(alice)
        (login,) = alice.of(events.LoggedIn)
        assert isinstance(login, events.LoggedIn)
        assert login.resumed
    alice.stop()


@pytest.mark.parametrize(("seconds", "kept"), [(3500, True), (3700, False)])
def test_key_packages_of_an_old_key_are_good_for_an_hour_of_being_connected(
    people: World, server: MemoryServer, seconds: int, *, kept: bool
) -> None:
    (alice,) = people("alice")
    old = certificate(alice).signature_key
    pass_days(server, 31, alice)
    alice.do(commands.Unlock(PASSWORD))
    settle(alice)
    assert certificate(alice).signature_key != old
    with alice.engine._unit():
        alice.engine._registry.look()  # from here on
    server.seconds += seconds
    with alice.engine._unit():
        alice.engine._registry.look()
    assert bool(alice.vault.key_packages.under(old)) is kept


def test_a_refused_question_about_the_stock_is_asked_again(people: World, server: MemoryServer) -> None:
    (alice,) = people("alice")
    take(server, alice, KEY_PACKAGE_STOCK)

    def refusing(message: wire.FromServer) -> list[wire.FromServer]:
        return [wire.Refused(message.id, "bad-request", "")] if isinstance(message, wire.Stock) else [message]

    only(alice, refusing)
    pass_days(server, 1, alice)
    assert count(server, alice) == 0
    server.outward = lambda _link, message: [message]
    pass_days(server, 1, alice)
    assert count(server, alice) == KEY_PACKAGE_STOCK
    assert CERTIFICATE_SECONDS == 45 * DAY


# --- what is there, and what the vault has ---------------------------------------------------------------------------


def references(person: Person) -> set[bytes]:
    return set(person.engine._context.device.key_package_references())


def there(server: MemoryServer, person: Person) -> list[bytes]:
    """The references of somebody's key packages at the server, the last-resort one last."""
    return list(map(reference, server.store.directory.key_packages(person.engine._context.device.id)))


def copied(person: Person, folder: Path) -> Path:
    """Copies of the files of a vault, which is closed."""
    folder.mkdir()
    for file in person.path.parent.glob(f"{person.path.name}*"):
        shutil.copy(file, folder / file.name)
    return folder


def put_back(person: Person, folder: Path) -> None:
    """The vault is the copy again."""
    person.stop()
    for file in folder.iterdir():
        shutil.copy(file, person.path.parent / file.name)
    person.start()


def test_a_vault_that_was_put_back_replaces_key_packages_that_it_does_not_know(
    people: World, server: MemoryServer, tmp_path: Path
) -> None:
    (alice,) = people("alice")
    alice.stop()
    backup = copied(alice, tmp_path / "backup")
    restart(alice)
    settle(alice)
    take(server, alice, KEY_PACKAGE_STOCK)
    pass_days(server, 1, alice)  # a new stock, which the copy does not know
    newer = there(server, alice)
    put_back(alice, backup)
    alice.connect()
    settle(alice)
    assert len(there(server, alice)) == KEY_PACKAGE_STOCK + 1
    assert not set(there(server, alice)).intersection(newer)
    assert references(alice).issuperset(there(server, alice))
    for name in ("bob", "carol"):
        (friend,) = people(name)
        ask(friend, "alice")
        settle(alice, friend)
        assert alice.texts(name) == [f"{name}: May I?"]
    assert not alice.of(events.Alarm)


def test_a_stock_that_is_known_stays_as_it_is(people: World, server: MemoryServer) -> None:
    (alice,) = people("alice")
    before = there(server, alice)
    pass_days(server, 3, alice)
    restart(alice)
    settle(alice)
    assert there(server, alice) == before
    take(server, alice, 3)
    pass_days(server, 1, alice)
    assert there(server, alice) == before[3:]


@pytest.mark.parametrize("lie", ["unknown", "without the last", "last alone", "none", "the truth"])
def test_whatever_the_server_says_of_the_stock_it_is_replaced_once_an_answer(
    people: World, server: MemoryServer, lie: str
) -> None:
    (alice,) = people("alice")
    alice.do(commands.CreateRoom("#club"))
    settle(alice)
    sent: list[wire.PublishKeyPackages] = []

    def inward(link: object, message: wire.FromClient) -> list[wire.FromClient]:
        if link is alice.link and isinstance(message, wire.PublishKeyPackages) and message.last_resort:
            sent.append(message)
        return [message]

    def change(message: wire.FromServer) -> list[wire.FromServer]:
        if not isinstance(message, wire.Stock):
            return [message]
        told = {
            "unknown": [bytes(32), *message.references],
            "without the last": message.references[:-1],
            "last alone": message.references[-1:],
            "none": [],
            "the truth": message.references,
        }[lie]
        return [wire.Stock(message.id, told)]

    server.inward = inward
    only(alice, change)
    pass_days(server, 1, alice)
    assert len(sent) == (lie not in ("last alone", "the truth"))
    assert len(there(server, alice)) >= KEY_PACKAGE_STOCK
    assert not alice.of(events.Alarm)


def test_a_welcome_for_the_last_resort_one_brings_a_whole_new_stock(people: World, server: MemoryServer) -> None:
    alice, bob = people("alice", "bob")
    before = there(server, alice)
    take(server, alice, KEY_PACKAGE_STOCK)
    ask(bob, "alice")
    settle(alice, bob)
    assert alice.texts("bob") == ["bob: May I?"]
    assert len(there(server, alice)) == KEY_PACKAGE_STOCK + 1
    assert not set(there(server, alice)).intersection(before)
    assert not alice.of(events.Alarm)


@pytest.mark.parametrize("how", ["taken", "held back"])
def test_a_stock_that_is_never_handed_out_in_full_is_told(people: World, server: MemoryServer, how: str) -> None:
    """One account takes all of them in a moment, again and again; or the server hides the fresh ones."""
    (alice,) = people("alice")
    if how == "held back":
        last = server.store.directory.take_key_package

        def hidden(device: bytes, *, only_last_resort: bool = False) -> bytes | None:
            del only_last_resort
            return last(device, only_last_resort=True)

        server.store.directory.take_key_package = hidden  # type: ignore[method-assign]  # a lie
    used: set[bytes] = set()
    for number in range(2 * MAX_SPENT):
        if how == "taken":
            take(server, alice, KEY_PACKAGE_STOCK)
        used.add(there(server, alice)[-1])
        (friend,) = people(f"friend{number}")
        ask(friend, "alice")
        settle(alice, friend)
        assert alice.texts(friend.name) == [f"{friend.name}: May I?"]
        assert len(alice.of(events.Alarm)) == (number + 1) // MAX_SPENT
    assert len(used) == 2 * MAX_SPENT  # nobody was given the key of anybody else
    alarm = alice.of(events.Alarm)[0]
    assert isinstance(alarm, events.Alarm)
    assert "somebody takes them as fast as they come, or the server holds them back" in alarm.text


@pytest.mark.parametrize(("hours", "told"), [(8, True), (12, False)])
def test_what_is_spent_over_days_is_no_alarm(people: World, server: MemoryServer, hours: int, *, told: bool) -> None:
    (alice,) = people("alice")
    for number in range(MAX_SPENT):
        take(server, alice, KEY_PACKAGE_STOCK)
        (friend,) = people(f"friend{number}")
        ask(friend, "alice")
        settle(alice, friend)
        server.seconds += hours * 3600
    assert len(alice.of(events.Alarm)) == told


def test_many_who_wrote_while_one_was_away_are_no_alarm(people: World, server: MemoryServer) -> None:
    (alice,) = people("alice")
    alice.cut()
    take(server, alice, KEY_PACKAGE_STOCK)
    friends = people(*(f"friend{number}" for number in range(MAX_SPENT + 1)))
    for friend in friends:
        ask(friend, "alice")
        settle(friend)
    alice.connect()
    settle(alice, *friends)
    assert all(alice.texts(friend.name) for friend in friends)
    assert not alice.of(events.Alarm)
    assert len(there(server, alice)) == KEY_PACKAGE_STOCK + 1


# --- a Welcome that nothing here opens -------------------------------------------------------------------------------


def unopened(person: Person) -> list[str]:
    return [each.text for each in person.of(events.Alarm) if isinstance(each, events.Alarm)]


def put_back_after_a_message(
    people: World, server: MemoryServer, tmp_path: Path, *, read: bool
) -> tuple[Person, Person]:
    """Alice's vault is put back from a copy, after bob has written to her, over a key that the copy does not know.

    `read`: the lost vault had his Welcome, which is not in the inbox any more.
    """
    alice, bob = people("alice", "bob")
    alice.stop()
    backup = copied(alice, tmp_path / "backup")
    restart(alice)
    settle(alice)
    take(server, alice, KEY_PACKAGE_STOCK)
    pass_days(server, 1, alice)
    if not read:
        alice.cut()
    ask(bob, "alice", "are you there?")
    settle(alice, bob)
    put_back(alice, backup)
    alice.happened.clear()
    bob.happened.clear()
    alice.connect()
    settle(alice, bob)
    return alice, bob


@pytest.mark.parametrize("read", [False, True])
def test_a_pair_that_is_stuck_over_a_welcome_that_nothing_opens_goes_on_in_another_chat(
    people: World, server: MemoryServer, tmp_path: Path, *, read: bool
) -> None:
    alice, bob = put_back_after_a_message(people, server, tmp_path, read=read)
    assert len(unopened(alice)) == (not read)
    if not read:
        assert unopened(alice)[0].startswith(
            "By the server's word, this device was let into a conversation with bob, by a key that it does not have"
        )
        assert "/chat bob opens another in its place" in unopened(alice)[0]
    lost = bob.id_of("alice")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    assert alice.state_of("bob") == "open"
    assert bob.id_of("alice") == alice.id_of("bob") != lost
    assert bob.texts("alice") == ["alice: hello"]
    (told,) = bob.of(events.OutOfStep)
    assert told == events.OutOfStep(bob.id_of("alice"), "anew", count=1)  # his line was never read
    assert alice.of(events.OutOfStep) == [events.OutOfStep(alice.id_of("bob"), "anew")]
    bob.say("alice", "and now?")
    settle(alice, bob)
    assert alice.texts("bob")[-1] == "bob: and now?"
    assert len(unopened(alice)) == (not read)
    assert not bob.of(events.Alarm)
    alice.crash()
    alice.connect()
    alice.say("bob", "still")
    settle(alice, bob)
    assert bob.texts("alice")[-1] == "alice: still"


def test_what_was_typed_before_the_others_chat_was_known_goes_to_the_one_in_its_place(
    people: World, server: MemoryServer, tmp_path: Path
) -> None:
    alice, bob = put_back_after_a_message(people, server, tmp_path, read=True)
    alice.cut()
    ask(alice, "bob", "one")
    alice.say("bob", "two")
    alice.crash()
    alice.connect()
    settle(alice, bob)
    assert bob.texts("alice") == ["alice: one", "alice: two"]
    assert [each.what for each in bob.of(events.OutOfStep)] == ["anew"]  # type: ignore[attr-defined]  # has it


def test_two_who_open_at_once_wait_for_the_welcome_however_late_it_is_read(people: World) -> None:
    alice, bob = people("alice", "bob")
    held: list[wire.Welcomed] = []

    def hold(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Welcomed) and not held:  # the answer to ours overtakes it
            held.append(message)
            return []
        return [message]

    only(alice, hold)
    ask(bob, "alice", "first")
    settle(bob)
    ask(alice, "bob", "second")
    settle(alice, bob)
    assert held
    assert alice.id_of("bob") == bob.id_of("alice") == held[0].conversation
    assert not alice.of(events.OutOfStep)
    assert "alice: second" in bob.texts("alice")


def test_a_server_that_insists_on_a_chat_that_nobody_can_enter_delays_and_no_more(
    people: World, server: MemoryServer, tmp_path: Path
) -> None:
    alice, bob = put_back_after_a_message(people, server, tmp_path, read=True)
    lost = bob.id_of("alice")

    def insist(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Accepted) and message.conversation not in (lost, b""):
            return [wire.Refused(message.id, "exists", "", lost)]
        return [message]

    only(alice, insist)
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    for _ in range(100):
        while alice.push() or alice.pull(8):
            pass
        server.advance(server.seconds + 1)
        alice.engine.handle_timer()
        alice.flush()
    (delayed,) = alice.of(events.Delayed)
    assert isinstance(delayed, events.Delayed)
    assert "It is tried again by itself." in delayed.text
    assert not alice.engine.disconnect_reason
    server.outward = lambda _link, message: [message]
    settle(alice, bob)
    assert bob.texts("alice") == ["alice: hello"]


def test_a_room_whose_welcome_nothing_opens_is_named_and_one_is_invited_again(
    people: World, server: MemoryServer, tmp_path: Path
) -> None:
    alice, bob = people("alice", "bob")
    ask(bob, "alice")
    settle(alice, bob)
    alice.accept("bob")
    settle(alice, bob)
    alice.stop()
    backup = copied(alice, tmp_path / "backup")
    restart(alice)
    settle(alice)
    take(server, alice, KEY_PACKAGE_STOCK)
    pass_days(server, 1, alice)
    alice.cut()
    bob.do(commands.CreateRoom("#club"))
    settle(bob)
    bob.do(commands.Invite(bob.id_of("#club"), "alice"))
    settle(bob)
    put_back(alice, backup)
    alice.connect()
    settle(alice, bob)
    (text,) = unopened(alice)
    assert "with bob" in text
    assert "have yourself invited again" in text
    bob.do(commands.Remove(bob.id_of("#club"), "alice"))
    settle(alice, bob)
    bob.do(commands.Invite(bob.id_of("#club"), "alice"))
    settle(alice, bob)
    alice.say("#club", "here")
    settle(alice, bob)
    assert bob.texts("#club")[-1] == "alice: here"


@pytest.mark.parametrize(("hours", "times"), [(23, 1), (25, 2)])
def test_a_stock_that_is_foreign_again_is_replaced_once_a_day(
    people: World, server: MemoryServer, hours: int, times: int
) -> None:
    (bob,) = people("bob")
    replaced: list[object] = []

    def inward(link: object, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.PublishKeyPackages) and message.last_resort:
            replaced.append(link)
        return [message]

    def outward(_: object, message: wire.FromServer) -> list[wire.FromServer]:
        return [wire.Stock(message.id, [bytes(32)]) if isinstance(message, wire.Stock) else message]

    server.inward, server.outward = inward, outward
    for waited in (0, hours):
        server.seconds += waited * 3600
        bob.cut()
        bob.connect()
        settle(bob)
    assert len(replaced) == times


@pytest.mark.parametrize("always", [True, False])
def test_a_stock_that_stays_foreign_is_told_once_and_pushes_no_key_out(
    people: World, server: MemoryServer, *, always: bool
) -> None:
    """A server that shows a reference of its own each time; the twin shows it once, as one that was restored may."""
    alice, bob = people("alice", "bob")
    published: list[wire.PublishKeyPackages] = []
    withheld: list[object] = []

    def inward(link: object, message: wire.FromClient) -> list[wire.FromClient]:
        if link is bob.link and isinstance(message, wire.PublishKeyPackages) and message.key_packages:
            published.append(message)
        return [message]

    def outward(link: object, message: wire.FromServer) -> list[wire.FromServer]:
        if link is bob.link and isinstance(message, wire.Welcomed):
            withheld.append(message)
            return []
        if link is bob.link and isinstance(message, wire.Stock) and (always or not published):
            return [wire.Stock(message.id, [bytes(32)])]
        return [message]

    bob.cut()
    ask(alice, "bob", "first words")
    settle(alice)
    server.inward, server.outward = inward, outward
    for _ in range(30):
        bob.connect()
        settle(bob)
        bob.cut()
    assert withheld
    server.outward = lambda _link, message: [message]
    bob.crash()
    bob.connect()
    settle(alice, bob)
    assert bob.texts("alice") == ["alice: first words"]
    alarms = [event.text for event in bob.of(events.Alarm) if isinstance(event, events.Alarm)]
    assert len([text for text in alarms if "that this device has not made" in text]) == always
    assert len([each for each in published if each.last_resort]) == 1
    assert not [text for text in alarms if "put back from a copy" in text]


@pytest.mark.parametrize("count", [1, 500])
def test_of_a_flood_of_welcomes_that_nothing_opens_a_few_are_told_and_the_rest_counted(
    people: World, server: MemoryServer, count: int
) -> None:
    alice, bob = people("alice", "bob")
    ask(alice, "bob")
    settle(alice, bob)
    (welcomed,) = server.letters[bob.engine._context.device.id][:1]
    assert isinstance(welcomed, wire.Welcomed)
    for index in range(count):
        link = bob.link
        assert link is not None
        made_up = index.to_bytes(len(welcomed.conversation), "big")
        link.to_client.append(
            msgspec.structs.replace(welcomed, conversation=made_up, seq=welcomed.seq + 1 + index)
        )
    settle(alice, bob)
    alarms = [event for event in bob.of(events.Alarm) if isinstance(event, events.Alarm)]
    one_by_one = [each for each in alarms if each.kind == "key-package"]
    assert len(one_by_one) == min(count, MAX_TOLD)
    assert all("/chat alice" in each.text for each in one_by_one)
    others = [each.text for each in alarms if each.kind == "server"]
    assert len(others) == (count > MAX_TOLD)
    assert len(bob.engine._registry._unopened._told) <= MAX_TOLD
    bob.happened.clear()
    server.seconds += 23 * 3600
    bob.engine.handle_timer()
    settle(bob)
    assert not bob.of(events.Alarm)
    pass_days(server, 2, bob)
    said = [event.text for event in bob.of(events.Alarm) if isinstance(event, events.Alarm)]
    assert [text for text in said if f"{count - MAX_TOLD} more" in text] == (said if count > MAX_TOLD else [])
    assert len(said) == (count > MAX_TOLD)


@pytest.mark.parametrize("days", [2, 0])
def test_a_clock_that_is_wrong_dates_no_new_stock(people: World, server: MemoryServer, days: int) -> None:
    """Nobody would take key packages that begin in the future; the twin has the right time."""
    (bob,) = people("bob")
    published: list[wire.PublishKeyPackages] = []

    def inward(_link: object, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.PublishKeyPackages) and message.key_packages:
            published.append(message)
        return [message]

    def outward(_link: object, message: wire.FromServer) -> list[wire.FromServer]:
        return [wire.Stock(message.id, [])] if isinstance(message, wire.Stock) and not published else [message]

    bob.cut()
    clock = bob.clock.wall
    object.__setattr__(bob.clock, "wall", lambda: clock() + days * DAY)
    server.inward, server.outward = inward, outward
    bob.connect()
    settle(bob)
    assert len(published) == (not days)
    told = [event.text for event in bob.of(events.Alarm) if isinstance(event, events.Alarm)]
    assert any("nothing is signed for your account" in text for text in told) == bool(days)
    object.__setattr__(bob.clock, "wall", clock)
    bob.cut()
    bob.connect()
    settle(bob)
    assert len(published) == 1  # now it does, and nobody is told that it had done so before
    assert "that this device has not made" not in str(bob.of(events.Alarm))


def test_a_stock_that_was_not_taken_is_offered_anew_and_nobody_is_told_that_it_was_replaced(
    people: World, server: MemoryServer
) -> None:
    (bob,) = people("bob")
    refused: list[wire.PublishKeyPackages] = []

    def inward(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.PublishKeyPackages) and message.last_resort and not refused:
            refused.append(message)
            refuse(link, message, "bad-request", "not these")
            return []
        return [message]

    lies = [1, 2]  # on each of two connections the server says once that it has nothing

    def outward(_link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        return [wire.Stock(message.id, [])] if isinstance(message, wire.Stock) and lies and lies.pop() else [message]

    bob.cut()
    server.inward, server.outward = inward, outward
    for _ in range(2):
        bob.connect()
        settle(bob)
        bob.cut()
    assert refused
    assert count(server, bob) == KEY_PACKAGE_STOCK
    assert "that this device has not made" not in str(bob.of(events.Alarm))
