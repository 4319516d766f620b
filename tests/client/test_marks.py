"""Marks: people learn what became of what they have said, from those alone whom it is about, and nothing goes back."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from securechat.client import commands, events
from securechat.client.conversations import amendments
from securechat.client.conversations.marking import GATHER_SECONDS, PERIOD_SECONDS
from securechat.client.conversations.marks import MAX_MARKING
from securechat.client.message import Message
from securechat.content.registry import Marks
from securechat.wire import messages as wire
from tests.client.test_killed_amendments import come_back
from tests.client.test_killed_rotation import Killed, killed_at
from tests.support.history import View, check_history
from tests.support.people import Person, settle

World = Callable[..., list[Person]]


@pytest.fixture(autouse=True)
def marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Person, "marks", True)


@pytest.fixture
def pair(people: World) -> list[Person]:
    """alice and bob, who talk."""
    alice, bob = both = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(*both)
    bob.say("alice", "hello yourself")
    settle(*both)
    return both


@pytest.fixture
def club(people: World) -> list[Person]:
    """alice owns a room, and bob and carol are in it."""
    alice, *others = everybody = people("alice", "bob", "carol")
    alice.do(commands.CreateRoom("#club"))
    settle(*everybody)
    for person in others:
        alice.do(commands.Invite(alice.id_of("#club"), person.name))
        settle(*everybody)
    return everybody


def newest(person: Person, name: str) -> Message:
    return person.history(name, 1)[0]


def state(person: Person, name: str) -> tuple[int, int, int]:
    """For how many the newest line is, how many have it, and how many have read it."""
    line = newest(person, name)
    return line.recipients, line.delivered, line.read


def look(person: Person) -> None:
    """Be everywhere, and see what came in."""
    for conversation in list(person.engine.snapshot.conversations):
        person.do(commands.Visit(conversation, person.vault.history.last_id))


def log_of(person: Person, name: str) -> int:
    """How many entries its log has, as far as somebody has read it."""
    conversation = person.engine._registry.get(person.id_of(name))
    assert conversation is not None
    return conversation.row.cursor


def slip(person: Person, name: str, *marks: Marks) -> None:
    """Say something of oneself that our own program would never."""
    with person.vault.transaction():
        conversation = person.engine._registry.get(person.id_of(name))
        assert conversation is not None
        for each in marks:
            conversation.put(each)
    person.engine.handle_timer()


def marked(person: Person) -> list[tuple[str, int, int]]:
    return [(each.account, each.delivered, each.read) for each in person.happened if isinstance(each, events.Marked)]


def test_what_one_says_is_sent_then_delivered_then_read(pair: list[Person]) -> None:
    alice, bob = pair
    bob.cut()
    alice.say("bob", "are you there?")
    settle(alice)
    assert (newest(alice, "bob").seq > 0, state(alice, "bob")) == (True, (1, 0, 0))
    bob.connect()
    settle(*pair)
    assert state(alice, "bob") == (1, 1, 0)
    look(bob)
    settle(*pair)
    assert state(alice, "bob") == (1, 1, 1)
    seq = newest(alice, "bob").seq
    (_, delivered, read), last = marked(alice)[-2:]
    assert (delivered, last) == (seq, ("bob", seq, seq))
    assert read < seq
    assert alice.engine.snapshot.conversations[alice.id_of("bob")].marks == (("bob", seq, seq),)


def test_what_a_program_passes_on_is_delivered_and_not_read(pair: list[Person]) -> None:
    alice, bob = pair
    alice.say("bob", "for your bot")
    settle(*pair)
    bob.do(commands.MarkShown(bob.vault.history.last_id))
    settle(*pair)
    assert state(alice, "bob") == (1, 1, 0)


def test_who_comes_on_wednesday_learns_what_was_read_on_tuesday(pair: list[Person]) -> None:
    alice, bob = pair
    alice.say("bob", "read it when you can")
    settle(*pair)
    alice.cut()
    look(bob)
    settle(bob)
    bob.cut()
    alice.server.advance(alice.server.seconds + 86_400)
    alice.connect()
    settle(alice)
    assert state(alice, "bob") == (1, 1, 1)


def test_a_mark_makes_no_mark_and_what_comes_at_once_costs_one(pair: list[Person]) -> None:
    alice, bob = pair
    settle(*pair)
    before = log_of(alice, "bob")
    for number in range(20):
        alice.say("bob", f"line {number}")
    settle(*pair)
    assert log_of(alice, "bob") == before + 20 + 1
    look(bob)
    settle(*pair)
    assert log_of(alice, "bob") == before + 20 + 2
    assert alice.texts("bob")[:2] == ["alice: hello", "bob: hello yourself"]
    assert len(alice.of(events.Received)) == 1  # they are no lines


def test_between_two_marks_is_the_period_however_much_is_said(pair: list[Person]) -> None:
    alice, bob = pair
    settle(*pair)
    times: list[float] = []
    server, told = alice.server, len(marked(alice))
    for number in range(15):
        server.advance(server.seconds + 1)
        alice.say("bob", f"line {number}")
        settle(*pair, until=lambda: newest(bob, "alice").text == newest(alice, "bob").text)
        look(bob)
        for person in pair:
            if person.engine.timer is not None and person.engine.timer <= server.seconds:
                person.engine.handle_timer()
        settle(*pair, until=lambda: not any(person.to_server for person in pair))
        if len(marked(alice)) > told:
            told = len(marked(alice))
            times.append(server.seconds)
    assert len(times) > 1
    assert all(later - earlier >= PERIOD_SECONDS for earlier, later in pairwise(times))


def test_in_a_room_one_sees_how_many_have_it_and_later_comers_do_not_count(club: list[Person], people: World) -> None:
    alice, bob, carol = club
    alice.say("#club", "before dave")
    settle(*club)
    assert state(alice, "#club") == (2, 2, 0)
    (dave,) = people("dave")
    everybody = [*club, dave]
    alice.do(commands.Invite(alice.id_of("#club"), "dave"))
    settle(*everybody)
    bob.say("#club", "with dave")
    settle(*everybody)
    look(dave)
    settle(*everybody)
    first = alice.history("#club", 2)[0]
    assert (first.recipients, first.delivered, first.read) == (2, 2, 0)
    assert state(bob, "#club") == (3, 3, 1)
    look(carol)
    settle(*everybody)
    first = alice.history("#club", 2)[0]
    assert (first.recipients, first.delivered, first.read) == (2, 2, 1)


def test_who_goes_stays_counted_and_who_comes_again_begins_anew(club: list[Person]) -> None:
    alice, bob, carol = club
    alice.say("#club", "read by bob")
    settle(*club)
    look(bob)
    settle(*club)
    assert state(alice, "#club") == (2, 2, 1)
    alice.do(commands.Remove(alice.id_of("#club"), "bob"))
    settle(*club)
    assert state(alice, "#club") == (2, 2, 1)
    alice.say("#club", "without bob")
    settle(*club)
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    settle(*club)
    carol.say("#club", "again with bob")
    settle(*club)
    look(bob)
    settle(*club)
    with_bob, without = alice.history("#club", 3)[:2]
    assert (with_bob.recipients, with_bob.delivered, with_bob.read) == (2, 2, 1)
    assert (without.recipients, without.delivered, without.read) == (1, 1, 0)


def test_nothing_goes_back_whatever_a_member_says_of_themselves(pair: list[Person]) -> None:
    alice, bob = pair
    alice.say("bob", "here")
    settle(*pair)
    look(bob)
    settle(*pair)
    seq = newest(alice, "bob").seq
    slip(bob, "alice", Marks(1, 0), Marks(seq, 0), Marks(1, 1))
    settle(*pair)
    assert state(alice, "bob") == (1, 1, 1)
    assert alice.engine.snapshot.conversations[alice.id_of("bob")].marks == (("bob", seq, seq),)
    assert marked(alice)[-1] == ("bob", seq, seq)


@pytest.mark.parametrize(
    "lie", [Marks(0, 0), Marks(1 << 50, 1), Marks(2, 3), Marks(1 << 50, 1 << 50)],
    ids=["nothing", "what is not there yet", "read and not delivered", "all that will ever be"],
)  # fmt: skip
def test_what_no_message_can_be_meant_by_counts_for_nothing_and_who_says_it_is_shown(
    pair: list[Person], lie: Marks
) -> None:
    alice, bob = pair
    bob.cut()
    alice.say("bob", "not yet read")
    settle(alice)
    bob.connect()
    slip(bob, "alice", lie)
    settle(*pair)
    line, told = alice.history("bob", 2)
    assert (line.recipients, line.delivered, line.read) == (1, 1, 0)  # by the mark that bob's program sends
    assert (told.sender, told.problem) == ("bob", amendments.NEVER)
    alice.say("bob", "all goes on")
    settle(*pair)
    assert bob.texts("alice")[-1] == "alice: all goes on"


@pytest.mark.parametrize("where", ["all", "here"])
def test_sending_is_switched_off_and_on(pair: list[Person], where: str) -> None:
    alice, bob = pair
    scope = bob.id_of("alice") if where == "here" else b""
    bob.do(commands.Prefer("send-marks", "off", scope))
    alice.say("bob", "secretly read")
    settle(*pair)
    look(bob)
    settle(*pair)
    assert state(alice, "bob") == (1, 0, 0)
    come_back(bob)
    settle(*pair)
    assert state(alice, "bob") == (1, 0, 0)
    bob.do(commands.Prefer("send-marks", "on", scope))
    settle(*pair)
    assert state(alice, "bob") == (1, 1, 1)


@pytest.mark.parametrize("how", ["off", "blocked", "on"])
def test_a_mark_that_was_not_sent_yet_does_not_go_out_against_what_is_preferred_since(
    pair: list[Person], how: str
) -> None:
    alice, bob = pair
    settle(*pair)
    before = log_of(alice, "bob")
    alice.say("bob", "secretly received")
    settle(alice)
    while bob.pull() or bob.push():
        pass
    bob.server.advance(bob.server.seconds + PERIOD_SECONDS)
    bob.engine.handle_timer()
    assert bob.vault.outbox.holds_anything(bob.id_of("alice"))  # and then the connection is lost
    bob.cut()
    match how:
        case "off":
            bob.do(commands.Prefer("send-marks", "off"))
        case "blocked":
            bob.do(commands.Block("alice"))
    bob.connect()
    settle(*pair)
    assert (state(alice, "bob"), log_of(alice, "bob")) == ((1, how == "on", 0), before + 1 + (how == "on"))
    assert not bob.vault.outbox.holds_anything(bob.id_of("alice"))
    if how != "blocked":  # what is said next has its number
        bob.say("alice", "hello")
        settle(*pair)
        assert alice.texts("bob")[-1] == "bob: hello"


def test_what_is_said_for_one_conversation_goes_before_what_is_said_for_all(club: list[Person]) -> None:
    alice, bob, _ = club
    bob.do(commands.Prefer("send-marks", "off"))
    bob.do(commands.Prefer("send-marks", "on", bob.id_of("#club")))
    alice.say("#club", "hello")
    settle(*club)
    assert state(alice, "#club") == (2, 2, 0)
    bob.do(commands.Prefer("send-marks", "", bob.id_of("#club")))
    alice.say("#club", "hello again")
    settle(*club)
    assert state(alice, "#club") == (2, 1, 0)


def test_marks_are_counted_and_not_told_where_they_are_not_to_be_shown(pair: list[Person]) -> None:
    alice, _ = pair
    before = marked(alice)
    alice.do(commands.Prefer("show-marks", "off"))
    alice.say("bob", "here")
    settle(*pair)
    assert marked(alice) == before
    assert state(alice, "bob") == (1, 1, 0)


def test_nobody_is_told_that_a_request_was_seen_before_it_is_accepted(people: World) -> None:
    alice, bob = both = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "May I?", ask=True))
    settle(*both)
    look(bob)
    settle(*both)
    assert state(alice, "bob") == (1, 0, 0)
    bob.accept("alice")
    settle(*both)
    assert state(alice, "bob") == (1, 1, 1)


def test_a_key_that_is_refused_gets_no_marks(pair: list[Person]) -> None:
    alice, bob = pair
    (shown,) = bob.safety_numbers("alice")
    bob.do(commands.Distrust("alice", shown.key))
    alice.say("bob", "do you read me?")
    settle(*pair)
    look(bob)
    settle(*pair)
    assert state(alice, "bob") == (1, 0, 0)


def test_a_mark_makes_no_commit_and_goes_out_after_somebody_elses(club: list[Person]) -> None:
    alice, bob, carol = club
    epoch = alice.engine.snapshot.conversations[alice.id_of("#club")].epoch
    alice.say("#club", "bye, all")
    settle(*club, until=lambda: bob.texts("#club") == carol.texts("#club") == ["alice: bye, all"])
    carol.do(commands.Leave(carol.id_of("#club")))
    settle(*club)
    look(bob)
    settle(*club)
    assert alice.engine.snapshot.conversations[alice.id_of("#club")].epoch == epoch
    bob.say("#club", "she is gone")
    settle(*club)
    assert alice.engine.snapshot.conversations[alice.id_of("#club")].epoch == epoch + 1
    settle(*club)
    assert alice.history("#club", 2)[0].read == 1


def test_a_mark_that_another_epoch_takes_away_comes_again_soon(club: list[Person]) -> None:
    alice, bob, _ = club
    server = alice.server
    alice.say("#club", "who has read this?")
    settle(*club, until=lambda: bob.texts("#club") == ["alice: who has read this?"])
    look(bob)
    settle(bob, until=lambda: not bob.to_server)
    alice.do(commands.SetTopic(alice.id_of("#club"), "what comes between"))
    settle(alice, until=lambda: alice.engine.snapshot.conversations[alice.id_of("#club")].topic == "what comes between")
    # His mark is of the epoch before: what explains that has not come to him yet.
    while not any(isinstance(each, wire.Submit) for each in bob.to_server):
        assert bob.engine.timer is not None
        server.advance(max(server.seconds, bob.engine.timer))
        bob.engine.handle_timer()
        bob.flush()
    refused = server.seconds
    settle(*club, until=lambda: alice.history("#club", 1)[0].read > 0)
    assert server.seconds - refused <= PERIOD_SECONDS + GATHER_SECONDS


def test_above_so_many_members_nobody_sends_one_and_none_counts(
    club: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, _ = club
    for module in ("marks", "marking"):
        monkeypatch.setattr(f"securechat.client.conversations.{module}.MAX_MARKING", 2)
    alice.say("#club", "hello")
    settle(*club)
    slip(bob, "#club", Marks(2, 2))
    settle(*club)
    assert state(alice, "#club") == (0, 0, 0)
    assert marked(alice) == []
    assert MAX_MARKING == 30


def test_who_came_again_while_there_were_too_many_has_nothing_to_do_with_what_was_said_before(
    club: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, carol = club
    alice.say("#club", "to both")
    settle(*club)
    alice.do(commands.Remove(alice.id_of("#club"), "bob"))
    settle(*club)
    carol.cut()
    alice.say("#club", "to carol alone")
    settle(alice, bob)
    line = newest(alice, "#club").local_id
    with monkeypatch.context() as many:
        many.setattr("securechat.client.conversations.marks.MAX_MARKING", 2)
        alice.do(commands.Invite(alice.id_of("#club"), "bob"))
        settle(alice, bob)
    slip(bob, "#club", Marks(log_of(bob, "#club"), log_of(bob, "#club")))
    settle(alice, bob)
    said = alice.vault.history.message(line)
    assert (said.recipients, said.delivered, said.read) == (1, 0, 0)
    carol.connect()
    settle(*club)
    said = alice.vault.history.message(line)
    assert (said.recipients, said.delivered, said.read) == (1, 1, 0)


def test_a_line_whose_life_is_over_takes_its_marks_with_it(pair: list[Person]) -> None:
    alice, bob = pair
    alice.do(commands.SetLife(alice.id_of("bob"), 3600))
    settle(*pair)
    alice.say("bob", "gone in an hour")
    settle(*pair)
    alice.server.advance(alice.server.seconds + 7200)
    for person in pair:
        person.cut()
        person.connect()
    settle(*pair)
    assert "bob: gone in an hour" not in alice.texts("bob")
    alice.say("bob", "still here")
    settle(*pair)
    look(bob)
    settle(*pair)
    assert state(alice, "bob") == (1, 1, 1)


@pytest.mark.parametrize("who", ["marks", "is told"])
def test_killed_between_any_two_writes_marks_are_told_and_none_goes_back(pair: list[Person], who: str) -> None:
    alice, bob = pair
    dies = bob if who == "marks" else alice
    killed, number = True, 0
    seen: dict[int, tuple[int, int]] = {}
    while killed:
        killed = False
        alice.say("bob", f"line {number}")
        settle(*pair, until=lambda: newest(bob, "alice").text == newest(alice, "bob").text)
        try:
            with killed_at(dies, number):
                look(bob)
                settle(*pair)
        except Killed:
            killed = True
            come_back(dies)
        for line in alice.history("bob", 100):
            before = seen.get(line.seq, (0, 0))
            assert (line.delivered, line.read) >= before
            seen[line.seq] = line.delivered, line.read
        look(bob)
        settle(*pair)
        assert state(alice, "bob") == (1, 1, 1)
        number += 1
    assert number > 3, "there was little to be killed between"
    said = ["hello", *(f"line {each}" for each in range(number))]
    check_history(
        {"alice": said, "bob": ["hello yourself"]},
        [View("alice", alice.history("bob", 100)), View("bob", bob.history("alice", 100))],
        everything_arrived=True,
    )
