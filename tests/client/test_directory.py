"""Whose device has left the server's directory: lines to nobody are not sent, and the new key is shown at once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client.conversations.conversation import ELSEWHERE
from securechat.errors import UsageError
from securechat.identity import pins
from securechat.ui.text.sentences import sentences
from securechat.wire import messages as wire
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, only, settle

World = Callable[..., list[Person]]


@pytest.fixture
def anew(server: MemoryServer, tmp_path: Path) -> Callable[[Person], Person]:
    """Let somebody start with a new vault, under a new identity key. They are connected, and nothing has settled."""

    def start(old: Person) -> Person:
        old.cut()
        folder = tmp_path / "elsewhere"
        folder.mkdir(exist_ok=True)
        new = Person(server, folder, old.name, new_identity=True)
        new.register()
        new.connect()
        return new

    return start


def key_of(person: Person) -> str:
    return pins.short(person.engine._context.device.identity_key)


def talking(*both: Person) -> None:
    """Have a direct conversation, each with the other's key accepted."""
    alice, bob = both
    alice.do(commands.OpenDirect(bob.name, "hello", ask=False))
    settle(*both)
    bob.say(alice.name, "hi")
    settle(*both)


def told(person: Person) -> list[events.Event]:
    return person.of(events.Unreachable)


def words(person: Person, event: events.Event, name: str) -> str:
    (sentence,) = sentences(event, person.engine.snapshot.find(name), person.name)
    return sentence.text


def who(person: Person, name: str) -> events.MemberList:
    person.do(commands.ListMembers(person.id_of(name)))
    settle(person)
    found = person.of(events.MemberList)[-1]
    assert isinstance(found, events.MemberList)
    return found


@pytest.mark.parametrize("here", [True, False])
def test_a_line_to_a_device_that_is_gone_waits_and_goes_to_the_new_key_once_that_is_accepted(
    people: World, anew: Callable[[Person], Person], *, here: bool
) -> None:
    alice, bob = people("alice", "bob")
    talking(alice, bob)
    first = alice.id_of("bob")
    if not here:
        alice.cut()
    bob_again = anew(bob)
    settle(*([alice, bob_again] if here else [bob_again]))
    if not here:
        alice.connect()
        settle(alice, bob_again)
    (event,) = told(alice)
    new = events.KeyShown("bob", key_of(bob_again), "changed")
    assert event == events.Unreachable(first, "bob", key_of(bob), new)
    assert f"/trust bob {new.key} goes on without comparing" in words(alice, event, "bob")
    assert [each.key for each in alice.safety_numbers("bob")] == [key_of(bob), key_of(bob_again)]
    listed = who(alice, "bob")
    assert listed.absent == ("bob",)
    assert ("bob", False, "accepted") in listed.members  # though they are logged in, elsewhere
    before = len(alice.server.entries(first))
    said = commands.Send(first, "are you there?")
    alice.do(said)
    settle(alice, bob_again)
    assert told(alice)[1:] == [events.Unreachable(first, "bob", key_of(bob), new, command=said.id)]
    assert len(alice.server.entries(first)) == before
    alice.do(commands.Trust("bob"))
    settle(alice, bob_again)
    (accepted,) = alice.of(events.KeyAccepted)
    assert (accepted.key, accepted.lines) == (key_of(bob_again), 1)  # type: ignore[attr-defined]  # a KeyAccepted
    assert alice.id_of("bob") != first
    assert bob_again.texts("alice") == ["alice: are you there?"]
    bob_again.say("alice", "now I am")
    settle(alice, bob_again)
    assert alice.texts("bob")[-1] == "bob: now I am"
    assert alice.engine.snapshot.find("bob").absent == ()  # type: ignore[union-attr]  # it was found before
    bob_again.stop()


def test_a_file_that_waited_does_not_go_to_where_nobody_could_fetch_it(
    people: World, anew: Callable[[Person], Person], tmp_path: Path
) -> None:
    alice, bob = people("alice", "bob")
    talking(alice, bob)
    first = alice.id_of("bob")
    bob_again = anew(bob)
    settle(alice, bob_again)
    for name, size in (("large", 100_000), ("small", 100)):
        (tmp_path / name).write_bytes(bytes(size))
    large = commands.SendFile(first, str(tmp_path / "large"))
    small = commands.SendFile(first, str(tmp_path / "small"))  # inside its message
    for command in (large, commands.Send(first, "are you there?"), small):
        alice.do(command)
        settle(alice, bob_again)
    alice.do(commands.Trust("bob"))
    settle(alice, bob_again)
    (refused,) = alice.of(events.Refused)
    assert isinstance(refused, events.Refused)
    assert (refused.command, refused.text) == (large.id, ELSEWHERE)
    assert [line.text for line in alice.history("bob", 10) if line.problem == ELSEWHERE] == ["large"]
    assert bob_again.texts("alice") == ["alice: are you there?", "alice: small"]
    alice.do(commands.SendFile(alice.id_of("bob"), str(tmp_path / "large")))
    settle(alice, bob_again)
    (tmp_path / "saved").mkdir()
    line = bob_again.history("alice", 10)[-1].local_id
    bob_again.do(commands.SaveFile(line, str(tmp_path / "saved")))
    settle(alice, bob_again)
    assert (tmp_path / "saved" / "large").read_bytes() == bytes(100_000)
    bob_again.stop()


def test_while_all_devices_are_there_nothing_is_told_and_lines_go_out(people: World) -> None:
    alice, bob = people("alice", "bob")
    talking(alice, bob)
    bob.cut()
    alice.say("bob", "for later")
    settle(alice)
    assert told(alice) == []
    assert who(alice, "bob").absent == ()
    bob.connect()
    settle(alice, bob)
    assert bob.texts("alice")[-1] == "alice: for later"


def test_the_server_alone_cannot_do_more_than_delay(people: World) -> None:
    """It says that bob's device is gone: a line waits, and goes out when the server says otherwise."""
    alice, bob = people("alice", "bob")
    talking(alice, bob)
    direct, device = alice.id_of("bob"), bob.engine._context.device
    assert alice.link is not None
    alice.link.send(wire.DirectoryNews(direct, [wire.Gone(device.id, b"")]))
    settle(alice, bob)
    alice.say("bob", "for whom?")
    settle(alice, bob)
    first, second = told(alice)
    assert first == events.Unreachable(direct, "bob", key_of(bob))
    assert second.command
    assert "It waits here until bob is back" in words(alice, first, "bob")
    assert bob.texts("alice")[-1] == "bob: hi"
    assert alice.engine._context.pins.standing("bob", device.identity_key) == "accepted"
    assert len(alice.engine._registry.get(direct).people) == 2  # type: ignore[union-attr]  # it is there
    alice.link.send(wire.DirectoryNews(direct, []))
    settle(alice, bob)
    assert bob.texts("alice")[-1] == "alice: for whom?"
    assert alice.id_of("bob") == direct


@pytest.mark.parametrize("lie", ["nonsense", "another account", "another server", "altered", "none"])
def test_a_certificate_that_proves_nothing_shows_no_key(people: World, lie: str) -> None:
    alice, bob, mallory = people("alice", "bob", "mallory")
    talking(alice, bob)
    shown = mallory.engine._context.device.certificate
    forged = {
        "nonsense": b"nonsense",
        "another account": shown.encode(),
        "another server": shown.encode()[:2] + bytes(16) + shown.encode()[18:],
        "altered": shown.encode().replace(b"mallory", b"bob"),
        "none": b"",
    }[lie]
    device = bob.engine._context.device
    assert alice.link is not None
    alice.link.send(wire.DirectoryNews(alice.id_of("bob"), [wire.Gone(device.id, forged)]))
    settle(alice, bob)
    assert told(alice) == [events.Unreachable(alice.id_of("bob"), "bob", key_of(bob))]
    assert [each.key for each in alice.safety_numbers("bob")] == [key_of(bob)]


def test_what_the_server_hides_costs_the_line_and_no_more(people: World, anew: Callable[[Person], Person]) -> None:
    """A server that says nothing lets alice write to nobody, as one that loses everything could."""
    alice, bob = people("alice", "bob")
    talking(alice, bob)

    def hide(message: wire.FromServer) -> list[wire.FromServer]:
        return [] if isinstance(message, wire.DirectoryNews) else [message]

    only(alice, hide)
    bob_again = anew(bob)
    settle(alice, bob_again)
    alice.say("bob", "hello?")
    settle(alice, bob_again)
    assert told(alice) == []
    assert alice.texts("bob")[-1] == "alice: hello?"
    assert bob_again.engine.snapshot.find("alice") is None
    bob_again.stop()


def test_news_of_devices_that_are_in_no_conversation_of_ours_means_nothing(people: World) -> None:
    alice, bob = people("alice", "bob")
    talking(alice, bob)
    own = alice.engine._context.device
    assert alice.link is not None
    for conversation in (alice.id_of("bob"), b"c" * 32):
        alice.link.send(wire.DirectoryNews(conversation, [wire.Gone(own.id, b""), wire.Gone(b"d" * 16, b"")]))
    settle(alice, bob)
    alice.say("bob", "still here")
    settle(alice, bob)
    assert told(alice) == []
    assert bob.texts("alice")[-1] == "alice: still here"


def test_in_a_room_lines_go_out_and_its_owner_is_told_what_to_do(
    people: World, anew: Callable[[Person], Person]
) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    alice.do(commands.CreateRoom("#den"))
    settle(alice)
    for guest in (bob, carol):
        alice.do(commands.Invite(alice.id_of("#den"), guest.name))
        settle(alice, bob, carol)
    bob_again = anew(bob)
    settle(alice, carol, bob_again)
    room = alice.id_of("#den")
    (event,) = [each for each in told(alice) if each.conversation == room]  # type: ignore[attr-defined]  # an Unreachable
    assert "Then /invite bob puts the new key in place of the old." in words(alice, event, "#den")
    assert told(carol) == []
    for person in (alice, carol):
        assert person.engine.snapshot.find("#den").absent == ("bob",)  # type: ignore[union-attr]  # it was found
        assert who(person, "#den").absent == ("bob",)
    alice.say("#den", "to who is here")
    settle(alice, carol, bob_again)
    assert carol.texts("#den")[-1] == "alice: to who is here"
    bob_again.stop()


@pytest.fixture
def den(people: World) -> list[Person]:
    """Alice's #den, with bob, who may invite, and carol."""
    alice, bob, carol = everybody = people("alice", "bob", "carol")
    alice.do(commands.CreateRoom("#den"))
    settle(alice)
    for guest in (bob, carol):
        alice.do(commands.Invite(alice.id_of("#den"), guest.name))
        settle(*everybody)
    alice.do(commands.SetInviter(alice.id_of("#den"), "bob", inviter=True))
    settle(*everybody)
    return everybody


def changes(person: Person, name: str) -> list[tuple[str, str, str]]:
    """What was told of a room's members and rules: what, about whom, by whom."""
    told = person.of(events.ConversationChanged)
    return [
        (each.change, each.account, each.by)
        for each in told
        if isinstance(each, events.ConversationChanged) and each.conversation.name == name
    ]


@pytest.mark.parametrize("decide", ["trust", "verify"])
def test_an_owner_puts_an_accepted_key_in_place_of_the_old_in_one_commit(
    den: list[Person], server: MemoryServer, anew: Callable[[Person], Person], decide: str
) -> None:
    alice, bob, carol = den
    room = alice.id_of("#den")
    bob_again = anew(bob)
    everybody = [alice, carol, bob_again]
    settle(*everybody)
    with pytest.raises(UsageError, match="under the key that you accept. /trust another one first"):
        alice.do(commands.Invite(room, "bob"))
    if decide == "trust":
        alice.do(commands.Trust("bob"))
    else:
        alice.safety_numbers("bob")
        alice.do(commands.Verify("bob", key_of(bob_again)))
    settle(*everybody)
    last = [each for each in told(alice) if each.conversation == room][-1]  # type: ignore[attr-defined]  # as above
    assert words(alice, last, "#den").endswith("/invite bob puts the new key in place of the old.")
    epoch = server.head(room).epoch
    invite = commands.Invite(room, "bob")
    alice.do(invite)
    settle(*everybody)
    assert [each for each in alice.of(events.Done) if each.command == invite.id]
    assert bob_again.state_of("#den") == "open"
    assert ("new-key", "bob", "alice") in changes(carol, "#den")
    assert ("no-inviter", "bob", "alice") in changes(carol, "#den")
    assert not [each for each in changes(carol, "#den") if each[0] == "removed"]
    for person in (alice, carol):
        found = person.engine.snapshot.find("#den")
        assert found is not None
        assert (found.members, found.inviters, found.absent) == (("alice", "bob", "carol"), (), ())
    assert server.head(room).epoch == epoch + 2  # the replacement, and bob's own path
    for person in everybody:
        person.say("#den", f"here is {person.name}")
        settle(*everybody)
    texts = [f"{person.name}: here is {person.name}" for person in everybody]
    assert [person.texts("#den")[-3:] for person in everybody] == [texts] * 3
    bob_again.stop()


def test_nobody_is_put_in_the_place_of_who_is_there_under_the_accepted_key(den: list[Person]) -> None:
    alice, bob, _ = den
    room = alice.id_of("#den")
    with pytest.raises(UsageError, match="bob is in #den"):
        alice.do(commands.Invite(room, "bob"))
    with pytest.raises(UsageError, match="carol is in #den"):
        bob.do(commands.Invite(room, "carol"))
    settle(*den)
    assert alice.engine.snapshot.find("#den").members == ("alice", "bob", "carol")  # type: ignore[union-attr]  # there


def test_a_key_package_under_another_key_than_the_accepted_one_replaces_nobody(
    den: list[Person], server: MemoryServer
) -> None:
    """Alice has accepted a key that the server has no key package for: what it hands out is refused, bob stays."""
    alice, _, _ = den
    room = alice.id_of("#den")
    with alice.vault.transaction():
        alice.engine._context.pins.trust("bob", b"k" * 32)
    epoch = server.head(room).epoch
    alice.do(commands.Invite(room, "bob"))
    settle(*den)
    (refused,) = alice.of(events.Refused)
    assert "is not accepted: /trust or /verify decides" in refused.text  # type: ignore[attr-defined]  # a Refused
    assert server.head(room).epoch == epoch


def test_somebody_who_may_only_invite_replaces_nobody_who_has_answered(
    den: list[Person], anew: Callable[[Person], Person]
) -> None:
    alice, bob, carol = den
    talking(bob, carol)
    carol_again = anew(carol)
    everybody = [alice, bob, carol_again]
    settle(*everybody)
    bob.do(commands.Trust("carol"))
    settle(*everybody)
    with pytest.raises(UsageError, match="Only alice can put a new key in place of an old one in #den"):
        bob.do(commands.Invite(bob.id_of("#den"), "carol"))
    carol_again.stop()
