"""Invite lines: who uses one is let in without a question on either side, once, and nobody else is by it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from securechat.client import commands, events
from securechat.client.conversations.lines import MAX_LINES
from securechat.client.device import Device
from securechat.content.registry import LineProof
from securechat.errors import UsageError
from securechat.identity import line_proof, pins
from securechat.identity.invite_line import decode
from securechat.identity.line_proof import Claim
from securechat.wire import messages as wire
from tests.support.memory_server import Link
from tests.support.people import Person, opened, settle

World = Callable[..., list[Person]]
DAY = 86_400_000


def key_of(person: Person) -> bytes:
    """Somebody's identity key."""
    return person.engine._context.device.identity_key


def standing(person: Person, other: Person) -> str:
    """How the key of `other` stands with a person."""
    return person.engine._context.pins.standing(other.name, key_of(other))


def room(owner: Person, name: str = "#staff") -> bytes:
    """An invite room of somebody's own."""
    owner.do(commands.CreateRoom(name))
    settle(owner)
    return owner.id_of(name)


def line(maker: Person, name: str = "#staff", days: int = 7) -> str:
    """A new line."""
    told = maker.do(commands.MakeInviteLine(name, days))
    return next(each.text for each in told if isinstance(each, events.InviteLineMade))


def listed(maker: Person) -> tuple[events.InviteLine, ...]:
    """The lines that have not ended."""
    (told,) = [each for each in maker.do(commands.ListInviteLines()) if isinstance(each, events.InviteLines)]
    return told.lines


def questions(person: Person) -> list[events.Event]:
    """What somebody was asked."""
    asked = [each for each in person.of(events.ConversationChanged) if each.change == "request"]  # type: ignore[attr-defined]
    return [*asked, *person.of(events.Invited), *person.of(events.Held)]


def strangers(people: World, *names: str) -> list[Person]:
    """People who decide for themselves."""
    found = people(*names)
    for person in found:
        person.obliging = False
    return found


# --- it works -----------------------------------------------------------------------------------------------------


def test_who_uses_a_line_is_in_the_room_and_nobody_was_asked_anything(people: World) -> None:
    alice, bob = strangers(people, "alice", "bob")
    staff = room(alice)
    text = line(alice)
    bob.do(commands.UseInviteLine(text))
    settle(alice, bob)
    (asked,) = bob.of(events.AskedByLine)
    key = pins.short(key_of(alice))
    until = listed(alice)[0].until
    assert asked == events.AskedByLine("alice", key, "#staff", until, known=False, command=asked.command)
    assert alice.of(events.InviteLineUsed) == [
        events.InviteLineUsed(alice.id_of("bob"), "bob", pins.short(key_of(bob)), "#staff")
    ]
    assert (standing(alice, bob), standing(bob, alice)) == ("accepted", "accepted")
    assert (bob.state_of("#staff"), bob.id_of("#staff")) == ("open", staff)
    assert (alice.state_of("bob"), bob.state_of("alice")) == ("open", "open")
    assert questions(alice) == questions(bob) == []
    bob.say("#staff", "here I am")
    bob.say("alice", "thank you")
    settle(alice, bob)
    assert alice.texts("#staff")[-1] == "bob: here I am"
    assert alice.texts("bob")[-1] == "bob: thank you"
    (used,) = listed(alice)
    assert (used.user, used.key) == ("bob", pins.short(key_of(bob)))


def test_the_room_adds_the_key_package_that_the_newcomer_brought(people: World) -> None:
    alice, bob = strangers(people, "alice", "bob")
    room(alice)
    fetched: list[str] = []

    def inward(_link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        fetched.extend([message.account] if isinstance(message, wire.FetchKeyPackages) else [])
        return [message]

    alice.server.inward = inward
    bob.do(commands.UseInviteLine(line(alice)))
    settle(alice, bob)
    assert bob.state_of("#staff") == "open"
    assert fetched == ["alice"]  # by bob, to open the direct conversation: the server has chosen nothing for the room


def test_a_line_without_a_room_makes_two_people_known_to_each_other(people: World) -> None:
    alice, bob = strangers(people, "alice", "bob")
    bob.do(commands.UseInviteLine(line(alice, "")))
    settle(alice, bob)
    assert (standing(alice, bob), standing(bob, alice)) == ("accepted", "accepted")
    assert (alice.state_of("bob"), bob.state_of("alice")) == ("open", "open")
    assert questions(alice) == questions(bob) == []
    alice.say("bob", "hello")
    settle(alice, bob)
    assert bob.texts("alice") == ["alice: hello"]


def test_a_line_waits_for_its_maker_to_come_online(people: World) -> None:
    alice, bob = strangers(people, "alice", "bob")
    room(alice)
    text = line(alice)
    alice.crash()
    bob.do(commands.UseInviteLine(text))
    settle(bob)
    assert bob.state_of("#staff") == ""
    bob.crash()
    alice.connect()
    settle(alice)
    bob.connect()
    settle(alice, bob)
    assert bob.state_of("#staff") == "open"
    assert questions(alice) == questions(bob) == []


def test_who_talks_already_comes_by_a_line_in_the_same_conversation(people: World) -> None:
    alice, bob = strangers(people, "alice", "bob")
    bob.do(commands.OpenDirect("alice", "may I?", ask=True))
    settle(alice, bob)
    room(alice)
    assert alice.state_of("bob") == "request"
    bob.do(commands.UseInviteLine(line(alice)))
    settle(alice, bob)
    assert (alice.state_of("bob"), bob.state_of("#staff")) == ("open", "open")
    assert bob.of(events.AskedByLine)[0].known  # type: ignore[attr-defined]


def test_a_line_used_while_its_commit_was_lost_in_a_crash_lets_in_once(people: World) -> None:
    alice, bob = strangers(people, "alice", "bob")
    staff = room(alice)
    text = line(alice)
    alice.server.inward = lambda _link, message: [] if isinstance(message, wire.Commit) else [message]
    bob.do(commands.UseInviteLine(text))
    settle(alice, bob)
    (mine,) = listed(alice)
    assert mine.user == "bob"  # noted together with what is to be done
    assert bob.state_of("#staff") == ""
    alice.crash()
    alice.server.inward = lambda _link, message: [message]
    alice.connect()
    settle(alice, bob)
    assert bob.state_of("#staff") == "open"
    commits = [entry for entry in alice.server.entries(staff) if entry.group_info]
    assert len(commits) == 2  # alice's addition, and bob's fresh path


def test_with_a_line_about_a_stranger_asks_as_ever(people: World) -> None:
    alice, bob, carl = strangers(people, "alice", "bob", "carl")
    line(alice, "")
    bob.do(commands.OpenDirect("alice", "may I?", ask=True))
    settle(alice, bob)
    assert len(questions(alice)) == 1
    assert alice.state_of("bob") == "request"
    club = room(carl, "#club")
    carl.do(commands.Invite(club, "alice"))
    settle(alice, carl)
    (invited,) = alice.of(events.Invited)
    assert isinstance(invited, events.Invited)
    assert invited.invitation.first_contact  # and asked once, for both
    assert len(questions(alice)) == 2


def test_a_line_leads_nowhere_but_to_its_room(people: World) -> None:
    alice, bob = strangers(people, "alice", "bob")
    room(alice)
    text, other = line(alice), room(alice, "#other")
    alice.cut()
    bob.do(commands.UseInviteLine(text))
    settle(bob)
    alice.connect()
    alice.do(commands.Invite(other, "bob"))
    settle(alice, bob)
    assert bob.state_of("#staff") == "open"
    assert [each.name for each in bob.engine.snapshot.invitations.values()] == ["#other"]
    assert bob.state_of("#other") == ""


# --- and for nobody else ------------------------------------------------------------------------------------------


def used(people: World, spoil: Callable[[Person, Person, str], str | None]) -> tuple[Person, Person]:
    """bob uses a line of alice's after something has spoiled it."""
    alice, bob = strangers(people, "alice", "bob")
    room(alice)
    text = line(alice)
    bob.do(commands.UseInviteLine(spoil(alice, bob, text) or text))
    settle(alice, bob)
    return alice, bob


def is_ordinary_request(alice: Person, bob: Person) -> None:
    """Nobody was let in, and alice is asked as by anybody."""
    assert alice.state_of("bob") == "request"
    assert standing(alice, bob) == "unknown"
    assert bob.state_of("#staff") == ""
    assert not alice.of(events.InviteLineUsed)
    assert len(questions(alice)) == 1


def test_nothing_spoiled_lets_in(people: World) -> None:
    alice, bob = used(people, lambda *_: None)
    assert bob.state_of("#staff") == "open"
    assert not alice.of(events.InviteLineRefused)


def test_a_line_that_was_taken_back_lets_nobody_in(people: World) -> None:
    def spoil(alice: Person, _bob: Person, _text: str) -> None:
        (mine,) = listed(alice)
        alice.do(commands.RevokeInviteLine(mine.mark[:4]))
        assert listed(alice) == ()

    alice, bob = used(people, spoil)
    is_ordinary_request(alice, bob)


def test_a_proof_that_comes_late_lets_nobody_in(people: World) -> None:
    alice, bob = strangers(people, "alice", "bob")
    room(alice)
    text = line(alice, days=1)
    alice.cut()
    bob.do(commands.UseInviteLine(text))
    settle(bob)
    bob.server.now += DAY + 1
    alice.connect()
    settle(alice, bob)
    is_ordinary_request(alice, bob)
    assert listed(alice) == ()
    with pytest.raises(UsageError, match="ended on"):
        bob.do(commands.UseInviteLine(text))


def test_a_second_one_is_told_with_who_was_the_first(people: World) -> None:
    alice, bob, carl = strangers(people, "alice", "bob", "carl")
    room(alice)
    text = line(alice)
    bob.do(commands.UseInviteLine(text))
    settle(alice, bob)
    carl.do(commands.UseInviteLine(text))
    settle(alice, bob, carl)
    (told,) = alice.of(events.InviteLineRefused)
    assert isinstance(told, events.InviteLineRefused)
    assert (told.account, told.why, told.user, told.user_key) == ("carl", "used", "bob", pins.short(key_of(bob)))
    assert told.used > 0
    assert alice.state_of("carl") == "request"
    assert carl.state_of("#staff") == ""
    assert standing(alice, carl) == "unknown"


def test_of_two_who_come_at_once_one_is_let_in(people: World) -> None:
    alice, bob, carl = strangers(people, "alice", "bob", "carl")
    room(alice)
    text = line(alice)
    alice.cut()
    for person in (bob, carl):
        person.do(commands.UseInviteLine(text))
        settle(person)
    alice.connect()
    settle(alice, bob, carl)
    assert sorted([bob.state_of("#staff"), carl.state_of("#staff")]) == ["", "open"]
    assert [each.why for each in alice.of(events.InviteLineRefused)] == ["used"]  # type: ignore[attr-defined]


def forge(alice: Person, bob: Person, text: str, **changes: object) -> LineProof:
    """bob's proof for a line, with something exchanged: of the claim, or of the body."""
    voucher = decode(text, 0).voucher
    assert voucher is not None
    device = bob.engine._context.device
    with bob.vault.transaction():
        (package,) = device.make_key_packages(1, bob.clock.seconds())
    claim = Claim(voucher.server_id, voucher.room, ("alice", key_of(alice)), ("bob", key_of(bob)), package)
    rest = {each: value for each, value in changes.items() if each in ("line", "proof")}
    claim = replace(claim, **{each: value for each, value in changes.items() if each not in rest})  # type: ignore[arg-type]  # test data
    body = LineProof(
        line_proof.public_half(voucher.secret), claim.key_package, line_proof.prove(voucher.secret, claim)
    )
    return msgspec.structs.replace(body, **rest)


def send(alice: Person, bob: Person, body: LineProof) -> None:
    """bob's own program sends it to alice."""
    with bob.engine._unit():
        bob.engine._context.pins.accept("alice", key_of(alice))
        direct = bob.engine._registry.find("alice") or bob.engine._registry.add("direct", "alice")
        direct.row.asked = direct.row.asked or "ours"
        direct.put(body)
    settle(alice, bob)


def test_a_proof_with_nothing_exchanged_lets_in(people: World) -> None:
    alice, bob = strangers(people, "alice", "bob")
    room(alice)
    text = line(alice)
    send(alice, bob, forge(alice, bob, text))
    assert alice.of(events.InviteLineUsed)
    assert "bob" in alice.engine.snapshot.conversations[alice.id_of("#staff")].members


@pytest.mark.parametrize(
    "changes",
    [
        {"server_id": bytes(16)}, {"room": b""}, {"room": bytes(32)}, {"inviter": ("carl", bytes(32))},
        {"newcomer": ("carl", bytes(32))}, {"key_package": b""}, {"key_package": b"no package"},
        {"line": bytes(32)}, {"proof": bytes(64)},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_a_proof_with_one_thing_exchanged_is_an_ordinary_request(people: World, changes: dict[str, object]) -> None:
    alice, bob = strangers(people, "alice", "bob")
    room(alice)
    text = line(alice)
    send(alice, bob, forge(alice, bob, text, **changes))
    is_ordinary_request(alice, bob)
    send(alice, bob, forge(alice, bob, text))  # and the line is not used up
    assert alice.of(events.InviteLineUsed)
    assert alice.state_of("bob") == "open"


def test_the_key_package_of_another_device_lets_nobody_in(people: World) -> None:
    alice, bob, carl = strangers(people, "alice", "bob", "carl")
    room(alice)
    text = line(alice)
    with carl.vault.transaction():
        (package,) = carl.engine._context.device.make_key_packages(1, carl.clock.seconds())
    send(alice, bob, forge(alice, bob, text, key_package=package))
    is_ordinary_request(alice, bob)


@pytest.mark.parametrize("same", ["device", "identity key", "account"])
def test_only_the_device_that_sends_the_proof_is_added(people: World, tmp_path: Path, same: str) -> None:
    """The twin is the sender's own device, whose package comes from another vault only here."""
    alice, bob = strangers(people, "alice", "bob")
    room(alice)
    text = line(alice)
    (tmp_path / "else").mkdir()
    other = Person(alice.server, tmp_path / "else", "bob")
    mine, device = bob.engine._context.device.row, other.engine._context.device
    kept = {"device": mine, "identity key": replace(mine, device_id=device.id, server_id=b"")}
    private = bob.vault.signature_keys.find(mine.signature_key)
    assert private is not None
    with other.vault.transaction():
        other.vault.signature_keys.add(mine.signature_key, private)
        if same == "device":
            (certificate,) = bob.vault.signed.load()
            other.vault.signed.add(1, certificate)
            other.vault.signature_keys.certify(mine.signature_key, certificate)
        forged = Device(other.vault, kept.get(same, device.row))
        forged.meet_server(mine.server_id, other.clock.seconds(), lambda: opened(forged.row.identity))
        (package,) = forged.make_key_packages(1, other.clock.seconds())
    other.stop()
    send(alice, bob, forge(alice, bob, text, key_package=package))
    if same == "device":
        assert alice.of(events.InviteLineUsed)
    else:
        is_ordinary_request(alice, bob)


def test_who_is_in_already_is_not_added_again_and_the_line_stays_good(people: World) -> None:
    alice, bob = strangers(people, "alice", "bob")
    staff = room(alice)
    bob.do(commands.UseInviteLine(line(alice)))
    settle(alice, bob)
    second = line(alice)
    with pytest.raises(UsageError, match="in #staff already"):
        bob.do(commands.UseInviteLine(second))
    send(alice, bob, forge(alice, bob, second))  # by another program of his
    assert [each.why for each in alice.of(events.InviteLineRefused)] == ["inside"]  # type: ignore[attr-defined]
    assert [each.user for each in listed(alice)] == ["bob", ""]
    assert alice.engine.snapshot.conversations[staff].members == ("alice", "bob")


def test_the_same_proof_once_more_changes_nothing_and_is_not_told(people: World) -> None:
    alice, bob = strangers(people, "alice", "bob")
    staff = room(alice)
    body = forge(alice, bob, line(alice))
    send(alice, bob, body)
    alice.do(commands.Remove(staff, "bob"))
    settle(alice, bob)
    before = len(alice.happened)
    send(alice, bob, body)
    assert alice.engine.snapshot.conversations[staff].members == ("alice",)
    assert alice.happened[before:] == []


def test_a_line_for_another_room_leads_only_there(people: World) -> None:
    alice, bob = strangers(people, "alice", "bob")
    staff, other = room(alice), room(alice, "#other")
    send(alice, bob, forge(alice, bob, line(alice), room=other))
    is_ordinary_request(alice, bob)
    members = alice.engine.snapshot.conversations
    assert members[other].members == members[staff].members == ("alice",)


def test_an_inviter_who_may_add_nobody_any_more_lets_nobody_in(people: World) -> None:
    alice, carol, bob = strangers(people, "alice", "carol", "bob")
    staff = room(alice)
    carol.obliging = True
    alice.do(commands.Invite(staff, "carol"))
    settle(alice, carol)
    alice.do(commands.SetInviter(staff, "carol", inviter=True))
    settle(alice, carol)
    text = line(carol)
    alice.do(commands.SetInviter(staff, "carol", inviter=False))
    settle(alice, carol)
    bob.do(commands.UseInviteLine(text))
    settle(alice, carol, bob)
    assert [each.why for each in carol.of(events.InviteLineRefused)] == ["no-right"]  # type: ignore[attr-defined]
    assert bob.state_of("#staff") == ""
    with pytest.raises(UsageError, match="cannot invite"):
        line(carol)
    alice.do(commands.SetInviter(staff, "carol", inviter=True))
    settle(alice, carol)
    dave = strangers(people, "dave")[0]
    dave.do(commands.UseInviteLine(text))  # it was not used up
    settle(alice, carol, dave)
    assert dave.state_of("#staff") == "open"


def test_who_is_barred_or_refused_is_not_let_in(people: World) -> None:
    alice, bob, carl = strangers(people, "alice", "bob", "carl")
    staff = room(alice)
    barred, refused = line(alice), line(alice)
    alice.do(commands.Bar(staff, "bob"))
    settle(alice)
    carl.do(commands.OpenDirect("alice", "hello", ask=True))
    settle(alice, carl)
    alice.do(commands.Distrust("carl"))
    for person, text in ((bob, barred), (carl, refused)):
        person.do(commands.UseInviteLine(text))
        settle(alice, bob, carl)
        assert person.state_of("#staff") == ""
    assert [each.why for each in alice.of(events.InviteLineRefused)] == ["barred", "key"]  # type: ignore[attr-defined]
    assert standing(alice, carl) == "refused"


# --- the newcomer's side ------------------------------------------------------------------------------------------


def test_the_server_cannot_give_another_key_for_the_inviter_of_a_line(people: World) -> None:
    alice, bob = strangers(people, "alice", "bob")
    mallory = strangers(people, "mallory")[0]
    room(alice)
    voucher_text = line(alice)
    with bob.engine._unit():
        bob.engine._context.pins.accept("alice", key_of(mallory))
    with pytest.raises(UsageError, match="names another key of alice"):
        bob.do(commands.UseInviteLine(voucher_text))
    assert standing(bob, alice) == "changed"
    assert bob.engine.snapshot.find("alice") is None


def test_a_line_of_another_server_or_of_ones_own_is_refused(people: World) -> None:
    alice, bob = strangers(people, "alice", "bob")
    text = line(alice, "")
    with pytest.raises(UsageError, match="your own"):
        alice.do(commands.UseInviteLine(text))
    whole = decode(text, 0)
    assert whole.voucher is not None
    elsewhere = replace(whole, voucher=replace(whole.voucher, server_id=bytes(16))).encode()
    with pytest.raises(UsageError, match="was for another server"):
        bob.do(commands.UseInviteLine(elsewhere))
    with pytest.raises(UsageError, match="good for registering alone"):
        bob.do(commands.UseInviteLine(replace(whole, voucher=None).encode()))
    assert standing(bob, alice) == "unknown"


def test_who_thinks_better_of_a_line_is_not_taken_in_by_it(people: World) -> None:
    alice, bob = strangers(people, "alice", "bob")
    room(alice)
    text = line(alice)
    alice.cut()
    bob.do(commands.UseInviteLine(text))
    settle(bob)
    bob.do(commands.Distrust("alice"))
    alice.connect()
    settle(alice, bob)
    assert alice.of(events.InviteLineUsed)
    assert bob.state_of("#staff") == ""
    assert not bob.engine.snapshot.invitations


def test_a_line_counts_for_nothing_once_another_key_of_its_inviter_is_accepted(people: World) -> None:
    alice, carol, bob = strangers(people, "alice", "carol", "bob")
    staff = room(alice)
    carol.obliging = True
    alice.do(commands.Invite(staff, "carol"))
    settle(alice, carol)
    alice.do(commands.SetInviter(staff, "carol", inviter=True))
    settle(alice, carol)
    text = line(carol)
    carol.cut()
    bob.do(commands.UseInviteLine(text))
    settle(bob)
    with bob.engine._unit():
        bob.engine._context.pins.trust("carol", bytes(31) + b"\1")
    carol.connect()
    settle(alice, carol, bob)
    assert carol.of(events.InviteLineUsed)
    assert bob.state_of("#staff") == ""
    assert not bob.of(events.Invited)


def test_an_invitation_by_somebody_else_to_the_same_room_is_asked_about(people: World) -> None:
    alice, carol, bob = strangers(people, "alice", "carol", "bob")
    staff = room(alice)
    carol.obliging = True
    alice.do(commands.Invite(staff, "carol"))
    settle(alice, carol)
    alice.do(commands.SetInviter(staff, "carol", inviter=True))
    settle(alice, carol)
    text = line(alice)
    alice.cut()
    bob.do(commands.UseInviteLine(text))
    carol.do(commands.Invite(staff, "bob"))
    settle(carol, bob)
    assert bob.state_of("#staff") == ""
    assert [each.inviter for each in bob.engine.snapshot.invitations.values()] == ["carol"]


# --- making -------------------------------------------------------------------------------------------------------


def test_lines_are_bounded_in_number_and_days(people: World) -> None:
    (alice,) = strangers(people, "alice")
    for days in (0, 15):
        with pytest.raises(UsageError, match="1 to 14 days"):
            line(alice, "", days)
    with pytest.raises(UsageError, match="a pin and a code"):
        alice.do(commands.MakeInviteLine(code="a b"))
    for _ in range(MAX_LINES):
        line(alice, "", 14)
    with pytest.raises(UsageError, match="have not ended"):
        line(alice, "")
    alice.server.now += 14 * DAY - 60_000
    assert len(listed(alice)) == MAX_LINES
    alice.server.now += 60_000
    assert listed(alice) == ()
    line(alice, "")
    assert len(listed(alice)) == 1


def test_a_line_leads_to_an_invite_room_that_one_may_add_to(people: World) -> None:
    (alice,) = strangers(people, "alice")
    with pytest.raises(UsageError, match="cannot invite to #none"):
        line(alice, "#none")
    alice.do(commands.JoinRoom("#open"))
    settle(alice)
    with pytest.raises(UsageError, match="cannot invite to #open"):
        line(alice, "#open")


def test_neither_command_nor_event_nor_body_shows_a_line_when_printed(people: World) -> None:
    alice, bob = strangers(people, "alice", "bob")
    text = line(alice, "")
    made = events.InviteLineMade(listed(alice)[0], text)
    told = (commands.UseInviteLine(text), commands.MakeInviteLine(code=text))
    bob.do(commands.UseInviteLine(text))
    settle(alice, bob)
    for each in (made, *told, *alice.happened, *bob.happened, forge(alice, bob, text)):
        assert text not in repr(each)
    with pytest.raises(UsageError) as refused:
        bob.do(commands.UseInviteLine(text[:-1] + "0"))
    assert text[:-1] not in str(refused.value)


def test_the_vault_keeps_no_secret_of_a_line(people: World) -> None:
    (alice,) = strangers(people, "alice")
    voucher = decode(line(alice, ""), 0).voucher
    assert voucher is not None
    (row,) = alice.vault.lines.given(0)
    assert row.public == line_proof.public_half(voucher.secret)
    tables = [name for (name,) in alice.vault.all("SELECT name FROM sqlite_master WHERE type = 'table'")]
    dump = repr([alice.vault.all(f"SELECT * FROM {table}") for table in tables])  # noqa: S608  our own
    assert repr(row.public) in dump  # else this looks in the wrong place
    assert repr(voucher.secret) not in dump
    with pytest.raises(UsageError, match="no such line"):
        alice.do(commands.RevokeInviteLine("0000"))
