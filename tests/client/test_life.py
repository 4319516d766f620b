"""The life of messages: what is said while the rules give it one goes in time, everywhere, and nothing else does."""

from collections.abc import Callable

import msgspec
import pytest

from securechat.client import commands, events
from securechat.client.clock import Clock
from securechat.client.conversations.governing import MAX_LIFE, MIN_LIFE
from securechat.client.vault.history import ENDING_BYTES, ENDING_LINES
from securechat.content.registry import Text, encode_body
from securechat.errors import UsageError
from securechat.wire import messages as wire
from tests.support.memory_server import Link, MemoryServer
from tests.support.people import Person, only, settle

World = Callable[..., list[Person]]
HOUR, DAY = 3_600_000, 86_400_000


@pytest.fixture
def garden(people: World) -> list[Person]:
    """alice owns an open room, bob and carol are in it, and something was said."""
    everybody = people("alice", "bob", "carol")
    for person in everybody:
        person.do(commands.JoinRoom("#garden"))
        settle(*everybody)
    everybody[1].say("#garden", "before")
    settle(*everybody)
    return everybody


def pass_time(people: list[Person], milliseconds: int) -> None:
    """Time passes, and each program comes back: it looks at once for what is over."""
    people[0].server.now += milliseconds
    for person in people:
        person.cut()
        person.connect()
    settle(*people)


def test_what_is_said_from_then_on_goes_in_time_and_what_was_said_before_stays(garden: list[Person]) -> None:
    alice, bob, carol = garden
    alice.do(commands.SetLife(alice.id_of("#garden"), 30 * 86_400))
    settle(*garden)
    for person in garden:
        found = person.engine.snapshot.find("#garden")
        assert found is not None
        assert found.life == 30 * 86_400
        told = [
            each for each in person.happened if isinstance(each, events.ConversationChanged) and each.change == "life"
        ]
        assert [(each.account, each.by) for each in told] == [(str(30 * 86_400), "alice")]
    bob.say("#garden", "for a month")
    settle(*garden)
    alice.say("#garden", "and so is this")
    settle(*garden)
    pass_time(garden, 29 * DAY)
    carol.say("#garden", "later")
    settle(*garden)
    whole = ["bob: before", "bob: for a month", "alice: and so is this", "carol: later"]
    assert {tuple(person.texts("#garden")) for person in garden} == {tuple(whole)}
    pass_time(garden, 2 * DAY)
    assert {tuple(person.texts("#garden")) for person in garden} == {("bob: before", "carol: later")}
    alice.do(commands.SetLife(alice.id_of("#garden"), 0))
    settle(*garden)
    bob.say("#garden", "for ever")
    settle(*garden)
    pass_time(garden, 40 * DAY)
    for person in garden:
        assert person.texts("#garden") == ["bob: before", "bob: for ever"]
        rows = person.vault._connection.execute("SELECT count(*) FROM messages").fetchone()
        assert rows == (2,)


def test_a_program_that_runs_without_a_break_looks_each_hour(garden: list[Person]) -> None:
    alice, bob, _ = garden
    alice.do(commands.SetLife(alice.id_of("#garden"), MIN_LIFE))
    settle(*garden)
    alice.say("#garden", "for an hour")
    settle(*garden)
    alice.server.now += HOUR - 60_000
    for person in garden:
        person.engine.handle_timer()
    assert bob.texts("#garden") == ["bob: before", "alice: for an hour"]
    assert not bob.of(events.Expired)
    for _ in range(3):
        alice.server.now += HOUR
        alice.server.seconds += 3600
        for person in garden:
            person.engine.handle_timer()
        settle(*garden)
    assert bob.texts("#garden") == ["bob: before"]
    assert bob.of(events.Expired) == [events.Expired(bob.id_of("#garden"))]


def test_a_reaction_that_goes_is_told_and_its_line_stays(garden: list[Person]) -> None:
    alice, bob, _ = garden
    alice.do(commands.SetLife(alice.id_of("#garden"), MIN_LIFE))
    settle(*garden)
    alice.do(commands.React(alice.history("#garden", 1)[0].local_id, "!"))
    settle(*garden)
    assert [each.text for each in bob.history("#garden", 1)[0].reactions] == ["!"]
    pass_time(garden, 2 * HOUR)
    assert bob.history("#garden", 1)[0].reactions == ()
    assert bob.texts("#garden") == ["bob: before"]
    assert bob.of(events.Expired) == [events.Expired(bob.id_of("#garden"))]


def test_unread_lines_that_go_are_counted_no_more(garden: list[Person]) -> None:
    alice, bob, _ = garden
    alice.do(commands.SetLife(alice.id_of("#garden"), MIN_LIFE))
    settle(*garden)
    bob.do(commands.Visit(bob.id_of("#garden"), bob.vault.history.last_id))
    alice.say("#garden", "for an hour")
    settle(*garden)
    assert [lines for lines, _ in bob.vault.history.unread_counts().values()] == [1]
    pass_time(garden, 2 * HOUR)
    assert bob.vault.history.unread_counts() == {}


@pytest.mark.parametrize(("lines", "size"), [(2 * ENDING_LINES + 1, 10), (5, 2 * ENDING_BYTES // 3)])
def test_many_lines_that_end_at_once_go_in_portions(garden: list[Person], lines: int, size: int) -> None:
    alice, bob, _ = garden
    where, history = bob.id_of("#garden"), bob.vault.history
    bob.do(commands.Visit(where, history.last_id))
    with bob.vault.transaction():
        for seq in range(1_000, 1_000 + lines):
            body = encode_body(Text("x" * size))
            history.add(where, "alice", body, own=False, trust="accepted", seq=seq, since=alice.server.now, life=3600)
        staying = history.add(where, "alice", body, own=False, trust="accepted", seq=9_999, time=alice.server.now)
    alice.server.now += 2 * HOUR
    bob.cut()
    bob.connect()
    settle(*garden, until=lambda: bool(bob.of(events.Expired)))
    left = []
    while bob.engine.timer is not None and bob.engine.timer <= bob.clock.monotonic():  # in the next turns
        left.append(history.unread_counts()[where][0])
        bob.engine.handle_timer()
    assert 2 <= len(left) <= 4
    assert left == sorted(left, reverse=True)
    assert lines > left[0] > left[-1] > 1
    assert [line.local_id for line in bob.history("#garden", 10)][-1] == staying.local_id
    assert len(bob.history("#garden", 10)) == 2
    assert history.unread_counts()[where] == (1, staying.local_id)


@pytest.mark.parametrize("days", [0, 400])
def test_a_server_that_dates_lines_back_takes_none_of_them(garden: list[Person], days: int) -> None:
    """Life counts from when a line was said, by whoever said it, where the server dates that earlier."""
    alice, bob, _ = garden
    alice.do(commands.SetLife(alice.id_of("#garden"), 86_400))
    settle(*garden)

    def date_back(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Entry | wire.Accepted) and message.conversation == bob.id_of("#garden"):
            return [msgspec.structs.replace(message, time=message.time - days * DAY)]
        return [message]

    only(bob, date_back)
    alice.say("#garden", "for a day")
    bob.say("#garden", "and so is this")
    settle(*garden)
    pass_time([bob], DAY - HOUR)
    assert bob.texts("#garden")[1:] == ["alice: for a day", "bob: and so is this"]
    pass_time([bob], 2 * HOUR)
    assert bob.texts("#garden") == ["bob: before"]


def test_nothing_goes_by_a_clock_that_may_be_wrong(garden: list[Person]) -> None:
    """A machine that wakes up in another year keeps what it has, until its clock is set right."""
    alice, bob, _ = garden
    alice.do(commands.SetLife(alice.id_of("#garden"), 86_400))
    settle(*garden)
    alice.say("#garden", "for a day")
    settle(*garden)
    right = bob.clock
    for clock in (Clock(lambda: alice.server.now / 1000 + 400 * 86_400, right.monotonic), right):
        bob.stop()
        bob.clock = clock
        bob.start()
        bob.connect()
        settle(*garden)
        assert bob.texts("#garden") == ["bob: before", "alice: for a day"]
    pass_time(garden, 2 * DAY)
    assert bob.texts("#garden") == ["bob: before"]


def test_in_private_either_of_the_two_sets_it(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    bob.say("alice", "hi")
    settle(alice, bob)
    bob.do(commands.SetLife(bob.id_of("alice"), 86_400))
    settle(alice, bob)
    alice.say("bob", "for a day")
    settle(alice, bob)
    pass_time([alice, bob], 2 * DAY)
    assert alice.texts("bob") == bob.texts("alice") == ["alice: hello", "bob: hi"]


@pytest.mark.parametrize("seconds", [1, MIN_LIFE - 1, MAX_LIFE + 1, -1])
def test_a_life_that_nobody_can_keep_to_is_refused(garden: list[Person], seconds: int) -> None:
    alice = garden[0]
    with pytest.raises(UsageError, match="Messages live from 1 hour to 3,650 days"):
        alice.do(commands.SetLife(alice.id_of("#garden"), seconds))


def test_who_does_not_own_the_room_does_not_set_it(server: MemoryServer, garden: list[Person]) -> None:
    _, bob, _ = garden
    epoch = server.head(bob.id_of("#garden")).epoch
    with pytest.raises(UsageError, match="Only alice can change that in #garden"):
        bob.do(commands.SetLife(bob.id_of("#garden"), 86_400))
    settle(*garden)
    assert server.head(bob.id_of("#garden")).epoch == epoch


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("days", [0, 400])
def test_a_server_that_dates_lines_forward_keeps_none_of_them(garden: list[Person], days: int, *, away: bool) -> None:
    """Life begins when a line has come, at the latest: whatever the server, or who has said it, takes for now."""
    alice, bob, _ = garden
    alice.do(commands.SetLife(alice.id_of("#garden"), 86_400))
    settle(*garden)

    def date_forward(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Entry | wire.Accepted) and message.conversation == bob.id_of("#garden"):
            return [msgspec.structs.replace(message, time=message.time + days * DAY)]
        return [message]

    if away:
        bob.cut()
        alice.say("#garden", "for a day")
        settle(alice)
        bob.connect()
    only(bob, date_forward)
    if not away:
        alice.say("#garden", "for a day")
    settle(*garden)
    bob.do(commands.React(bob.history("#garden", 1)[0].local_id, "+1"))
    bob.say("#garden", "and so is this")
    settle(*garden)
    assert bob.texts("#garden")[1:] == ["alice: for a day", "bob: and so is this"]
    pass_time([bob], DAY - HOUR)
    assert bob.texts("#garden")[1:] == ["alice: for a day", "bob: and so is this"]
    pass_time([bob], 2 * HOUR)
    assert bob.texts("#garden") == ["bob: before"]


@pytest.mark.parametrize(("days", "told"), [(0, 0), (9, 1)])
def test_a_server_that_lies_of_its_clock_keeps_lines_and_that_is_told(
    garden: list[Person], days: int, told: int
) -> None:
    alice, bob, _ = garden
    alice.do(commands.SetLife(alice.id_of("#garden"), 86_400))
    settle(*garden)
    alice.say("#garden", "for a day")
    settle(*garden)

    def other_clock(_link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Hello):
            return [msgspec.structs.replace(message, time=message.time + days * DAY)]
        return [message]

    bob.server.outward = other_clock
    for _ in range(3):
        pass_time([bob], 2 * DAY)
    alarms = [each.text for each in bob.happened if isinstance(each, events.Alarm)]
    assert len(alarms) == told  # once a session
    assert all("messages whose time is over stay here" in each for each in alarms)
    assert ("alice: for a day" in bob.texts("#garden")) == bool(days)
    bob.server.outward = lambda _link, message: [message]
    pass_time([bob], HOUR)
    assert bob.texts("#garden") == ["bob: before"]


@pytest.mark.parametrize("days", [0, 50])
def test_a_clock_that_leaps_for_a_moment_takes_no_lines(garden: list[Person], days: int) -> None:
    """While the program runs: what it has seen of the server's clock, and how much time has passed, shows that."""
    alice, bob, _ = garden
    alice.do(commands.SetLife(alice.id_of("#garden"), 86_400))
    settle(*garden)
    alice.say("#garden", "for a day")
    settle(*garden)
    leap = days * 86_400
    bob.stop()
    bob.clock = Clock(lambda: alice.server.now / 1000 + leap, bob.clock.monotonic)
    leap = 0
    bob.start()
    bob.connect()
    settle(*garden)
    leap = days * 86_400
    bob.server.advance(bob.server.seconds + 3700)
    bob.engine.handle_timer()
    bob.flush()
    leap = 0
    settle(*garden)
    assert bob.texts("#garden") == ["bob: before", "alice: for a day"]
    assert not [each for each in bob.happened if isinstance(each, events.Alarm)]
    pass_time([bob], 2 * DAY)
    assert bob.texts("#garden") == ["bob: before"]
