"""What people see of each other: whole engines against a server in memory."""

from collections.abc import Callable

import pytest

from securechat.client import commands, events
from securechat.client.context import DAY_MILLISECONDS
from securechat.errors import UsageError
from securechat.server.sequencer import budgets
from securechat.wire import messages as wire
from tests.support.memory_server import Link, MemoryServer, refuse
from tests.support.people import PASSWORD, Person, settle

World = Callable[..., list[Person]]


def test_two_people_talk(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    assert bob.texts("alice") == ["alice: hello"]
    bob.say("alice", "hi")
    alice.say("bob", "how are you?")
    settle(alice, bob)
    assert alice.texts("bob") == bob.texts("alice")
    assert len(alice.texts("bob")) == 3
    assert len(alice.of(events.Delivered)) == 2


def test_what_is_said_to_somebody_offline_waits_for_them(people: World) -> None:
    alice, bob = people("alice", "bob")
    bob.cut()
    alice.do(commands.OpenDirect("bob", "one", ask=False))
    settle(alice)
    alice.say("bob", "two")
    settle(alice)
    assert len(alice.of(events.Delivered)) == 2
    bob.connect()
    settle(alice, bob)
    assert bob.texts("alice") == ["alice: one", "alice: two"]
    assert isinstance(bob.happened[-1], events.Ready)


def test_what_is_said_while_we_are_offline_goes_out_later(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.cut()
    alice.do(commands.OpenDirect("bob", "one", ask=False))
    alice.say("bob", "two")
    alice.crash()
    alice.connect()
    settle(alice, bob)
    assert bob.texts("alice") == ["alice: one", "alice: two"]
    assert alice.texts("bob") == bob.texts("alice")


def test_of_two_who_open_at_once_both_end_up_in_one_conversation(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "from alice", ask=False))
    bob.do(commands.OpenDirect("alice", "from bob", ask=False))
    settle(alice, bob)
    assert alice.id_of("bob") == bob.id_of("alice")
    assert sorted(alice.texts("bob")) == ["alice: from alice", "bob: from bob"]
    assert alice.texts("bob") == bob.texts("alice")


@pytest.mark.parametrize("pushes", range(8))
def test_the_race_to_open_ends_well_however_far_the_loser_had_come(people: World, pushes: int) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "from alice", ask=False))
    for _ in range(pushes):
        alice.push() or alice.pull()
    bob.do(commands.OpenDirect("alice", "from bob", ask=True))
    settle(bob)
    if pushes % 2:
        alice.crash()
        alice.connect()
    settle(alice, bob)
    assert alice.id_of("bob") == bob.id_of("alice")
    assert sorted(alice.texts("bob")) == ["alice: from alice", "bob: from bob"]
    assert alice.texts("bob") == bob.texts("alice")
    assert alice.state_of("bob") == bob.state_of("alice") == "open"


def test_nobody_of_that_name_is_told_and_the_text_is_marked(people: World) -> None:
    (alice,) = people("alice")
    alice.do(commands.OpenDirect("nobody", "hello?", ask=False))
    settle(alice)
    (refused,) = alice.of(events.Refused)
    assert isinstance(refused, events.Refused)
    assert refused.code == "not-found"
    assert "not sent" in alice.texts("nobody")[0]


# --- asking to talk ------------------------------------------------------------------------------------------------


def test_a_request_is_accepted(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "may I?", ask=True))
    settle(alice, bob)
    assert (alice.state_of("bob"), bob.state_of("alice")) == ("requested", "request")
    with pytest.raises(UsageError, match="accept or decline"):
        bob.do(commands.Send(bob.id_of("alice"), "too early"))
    bob.do(commands.Accept(bob.id_of("alice")))
    settle(alice, bob)
    assert (alice.state_of("bob"), bob.state_of("alice")) == ("open", "open")
    bob.say("alice", "you may")
    settle(alice, bob)
    assert alice.texts("bob") == ["alice: may I?", "bob: you may"]


def test_a_request_is_declined_and_can_be_made_anew_after_a_day(people: World, server: MemoryServer) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "may I?", ask=True))
    settle(alice, bob)
    bob.do(commands.Decline(bob.id_of("alice")))
    settle(alice, bob)
    assert (alice.state_of("bob"), bob.state_of("alice")) == ("closed", "closed")
    with pytest.raises(UsageError, match="closed"):
        alice.say("bob", "still there?")
    server.now += DAY_MILLISECONDS
    alice.do(commands.OpenDirect("bob", "and now?", ask=True))
    settle(alice, bob)
    assert (alice.state_of("bob"), bob.state_of("alice")) == ("requested", "request")
    assert bob.texts("alice") == ["alice: and now?"]


def test_two_byes_close_a_conversation_and_the_server_forgets_it(people: World, server: MemoryServer) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    bob.accept("alice")
    alice.do(commands.Bye(alice.id_of("bob")))
    settle(alice, bob)
    assert (alice.state_of("bob"), bob.state_of("alice")) == ("open", "open")
    bob.say("alice", "one more thing")
    bob.do(commands.Bye(bob.id_of("alice")))
    settle(alice, bob)
    assert (alice.state_of("bob"), bob.state_of("alice")) == ("closed", "closed")
    assert alice.texts("bob") == ["alice: hello", "bob: one more thing"]
    assert server.conversations == []


# --- rooms ---------------------------------------------------------------------------------------------------------


def test_the_first_into_a_room_makes_it_and_the_others_join(people: World) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice)
    alice.say("#lobby", "anybody here?")
    settle(alice)
    bob.do(commands.JoinRoom("#lobby"))
    carol.do(commands.JoinRoom("#lobby"))
    settle(alice, bob, carol)
    bob.say("#lobby", "yes")
    settle(alice, bob, carol)
    assert carol.texts("#lobby") == ["bob: yes"]
    assert alice.texts("#lobby") == ["alice: anybody here?", "bob: yes"]
    room = carol.engine.snapshot.find("#lobby")
    assert room is not None
    assert room.members == ("alice", "bob", "carol")


def test_two_who_make_a_room_at_once_meet_in_it(people: World) -> None:
    alice, bob = people("alice", "bob")
    for person in (alice, bob):
        person.do(commands.JoinRoom("#lobby"))
        person.say("#lobby", f"{person.name} is here")
        while person.push():
            pass
    settle(alice, bob)
    assert alice.id_of("#lobby") == bob.id_of("#lobby")
    alice.say("#lobby", "last")
    settle(alice, bob)
    assert "alice: last" in bob.texts("#lobby")


def test_thirty_join_at_once_while_others_talk(people: World) -> None:
    alice, *crowd = people("alice", *(f"p{number}" for number in range(30)))
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice)
    for number, person in enumerate(crowd):
        person.do(commands.JoinRoom("#lobby"))
        person.say("#lobby", f"{person.name} is in")
        person.push()
        if number % 3 == 0:
            alice.say("#lobby", f"word {number}")
            alice.push()
    settle(alice, *crowd)
    for person in crowd:
        room = person.engine.snapshot.find("#lobby")
        assert room is not None
        assert len(room.members) == 31
    heard = alice.texts("#lobby")
    assert sorted(line for line in heard if " is in" in line) == sorted(f"{p.name}: {p.name} is in" for p in crowd)
    assert [line for line in heard if line.startswith("alice")] == [f"alice: word {n}" for n in range(0, 30, 3)]
    for person in crowd:
        own = person.texts("#lobby")
        assert own == heard[len(heard) - len(own) :]
        assert not any("cannot be read" in line for line in own)


def test_leaving_is_told_and_the_rest_talk_on_without_us(people: World) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice)
    for person in (bob, carol):
        person.do(commands.JoinRoom("#lobby"))
        settle(alice, bob, carol)
    carol.say("#lobby", "farewell")
    carol.do(commands.Leave(carol.id_of("#lobby")))
    alice.say("#lobby", "wait")  # crosses the leaving
    settle(alice, bob, carol)
    assert carol.state_of("#lobby") == "closed"
    bob.say("#lobby", "gone")
    settle(alice, bob, carol)
    assert alice.texts("#lobby") == bob.texts("#lobby")
    assert set(alice.texts("#lobby")) == {"carol: farewell", "alice: wait", "bob: gone"}
    room = alice.engine.snapshot.find("#lobby")
    assert room is not None
    assert room.members == ("alice", "bob")
    assert "bob: gone" not in carol.texts("#lobby")


def test_one_can_come_back_to_a_room_and_keeps_the_history(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice)
    bob.do(commands.JoinRoom("#lobby"))
    settle(alice, bob)
    bob.say("#lobby", "first stay")
    settle(alice, bob)
    bob.do(commands.Leave(bob.id_of("#lobby")))
    settle(alice, bob)
    alice.say("#lobby", "while bob is out")
    settle(alice, bob)
    bob.do(commands.JoinRoom("#lobby"))
    settle(alice, bob)
    bob.say("#lobby", "second stay")
    settle(alice, bob)
    assert bob.texts("#lobby") == ["bob: first stay", "bob: second stay"]
    assert alice.texts("#lobby") == ["bob: first stay", "alice: while bob is out", "bob: second stay"]


def test_coming_back_before_the_tree_has_dropped_us(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice)
    bob.do(commands.JoinRoom("#lobby"))
    settle(alice, bob)
    bob.do(commands.Leave(bob.id_of("#lobby")))
    settle(alice, bob)
    bob.do(commands.JoinRoom("#lobby"))
    settle(alice, bob)
    bob.say("#lobby", "back")
    alice.say("#lobby", "hello again")
    settle(alice, bob)
    assert set(alice.texts("#lobby")) == {"bob: back", "alice: hello again"}
    assert set(bob.texts("#lobby")) == {"bob: back", "alice: hello again"}


def test_an_invite_room_has_an_owner_who_adds_and_removes(people: World) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    alice.do(commands.CreateRoom("#club"))
    settle(alice)
    bob.cut()
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    alice.do(commands.Invite(alice.id_of("#club"), "carol"))
    alice.say("#club", "welcome")
    settle(alice, carol)
    bob.connect()
    settle(alice, bob, carol)
    with pytest.raises(UsageError, match="Only alice can invite people to #club"):
        bob.do(commands.Invite(bob.id_of("#club"), "dave"))
    bob.say("#club", "thanks")
    settle(alice, bob, carol)
    alice.do(commands.Remove(alice.id_of("#club"), "bob"))
    settle(alice, bob, carol)
    assert bob.state_of("#club") == "closed"
    carol.say("#club", "without bob")
    settle(alice, bob, carol)
    assert "carol: without bob" in alice.texts("#club")
    assert "carol: without bob" not in bob.texts("#club")
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    settle(alice, bob, carol)
    assert bob.state_of("#club") == "open"
    bob.say("#club", "again")
    settle(alice, bob, carol)
    assert carol.texts("#club")[-1] == "bob: again"


def test_eight_commit_in_one_epoch_and_all_converge(people: World) -> None:
    alice, *others = people("alice", *(f"p{number}" for number in range(7)))
    everybody = [alice, *others]
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice)
    for person in others:
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    leaver = others.pop()
    leaver.do(commands.Leave(leaver.id_of("#lobby")))
    settle(*everybody)
    speakers = [alice, *others]
    for person in speakers:  # to speak now, one has to commit the removal first
        person.say("#lobby", f"{person.name} speaks")
        person.flush()
    for person in speakers:
        while person.push():
            pass
    settle(*everybody)
    assert len(alice.texts("#lobby")) == len(speakers)
    assert all(person.texts("#lobby") == alice.texts("#lobby") for person in speakers)
    assert len({person.engine.snapshot.find("#lobby").epoch for person in speakers}) == 1  # type: ignore[union-attr]  # it is there


def test_a_fresh_path_is_committed_after_fifty_own_messages(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "0", ask=False))
    settle(alice, bob)
    before = alice.engine.snapshot.find("bob")
    for number in range(1, 120):
        alice.say("bob", str(number))
    settle(alice, bob)
    after = alice.engine.snapshot.find("bob")
    assert before is not None
    assert after is not None
    assert after.epoch == before.epoch + 2
    assert bob.texts("alice") == [f"alice: {number}" for number in range(120)]


@pytest.mark.parametrize("days", [6, 8])
def test_a_fresh_path_is_committed_after_a_week(people: World, server: MemoryServer, days: int) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "before", ask=False))
    settle(alice, bob)
    server.now += days * 86_400_000
    alice.say("bob", "after")
    settle(alice, bob)
    conversation = bob.engine.snapshot.find("alice")
    assert conversation is not None
    assert conversation.epoch == (2 if days > 7 else 1)
    assert bob.texts("alice") == ["alice: before", "alice: after"]


def test_a_room_that_exists_and_is_not_open_is_not_tried_for_ever(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.CreateRoom("#club"))
    settle(alice)
    bob.do(commands.JoinRoom("#club"))
    settle(alice, bob)
    (refused,) = bob.of(events.Refused)
    assert isinstance(refused, events.Refused)
    assert "its members can invite you" in refused.text
    assert bob.state_of("#club") == "closed"


def test_goodbye_and_a_new_conversation_at_once(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    first = alice.id_of("bob")
    bob.accept("alice")
    bob.do(commands.Bye(bob.id_of("alice")))
    settle(alice, bob)
    alice.do(commands.Bye(alice.id_of("bob")))
    alice.do(commands.OpenDirect("bob", "one more thing", ask=False))  # the old one is not left yet
    settle(alice, bob)
    assert alice.id_of("bob") == bob.id_of("alice") != first
    assert bob.texts("alice") == ["alice: one more thing"]


def test_leaving_before_anything_was_sent_leaves_no_trace_at_the_server(people: World, server: MemoryServer) -> None:
    (alice,) = people("alice")
    alice.cut()
    alice.do(commands.JoinRoom("#lobby"))
    alice.do(commands.Leave(alice.id_of("#lobby")))
    alice.connect()
    settle(alice)
    assert alice.state_of("#lobby") == "closed"
    assert server.conversations == []


# --- refusals -----------------------------------------------------------------------------------------------------


def refuse_numbers(server: MemoryServer, code: wire.Code, *numbers: int, times: int) -> None:
    """Let the server refuse the submissions that have these numbers at first, `times` times each."""
    left = dict.fromkeys(numbers, times)

    def inward(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if not isinstance(message, wire.Submit) or not left.get(message.number):
            return [message]
        left[message.number] -= 1
        refuse(link, message, code, "no")
        return []

    server.inward = inward


@pytest.mark.parametrize("lost", [False, True])
def test_what_follows_a_refused_message_moves_up(people: World, server: MemoryServer, *, lost: bool) -> None:
    """`lost`: with the connection, before what follows is answered."""
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    submitted: list[wire.FromClient] = []

    def refuse_first(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if link is not alice.link or not isinstance(message, wire.Submit):
            return [message]
        submitted.append(message)
        if len(submitted) == 1:
            refuse(link, message, "too-large")
        return [] if lost or len(submitted) == 1 else [message]

    server.inward = refuse_first
    for text in ("one", "two", "three"):
        alice.say("bob", text)
    while alice.push():
        pass
    assert len(submitted) == 3
    if lost:
        alice.pull(1)
        assert alice.of(events.Refused)
        server.inward = lambda _link, message: [message]
        alice.crash()
        alice.connect()
    settle(alice, bob)
    assert bob.texts("alice") == ["alice: hello", "alice: two", "alice: three"]
    assert sum("[This message was not sent" in line for line in alice.texts("bob")) == 1


@pytest.mark.parametrize("code", sorted(wire.RETRYABLE))
def test_what_is_refused_for_now_is_not_overtaken(people: World, server: MemoryServer, code: wire.Code) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "0", ask=False))
    settle(alice, bob)
    refuse_numbers(server, code, 3, times=3)
    for n in range(1, 10):
        alice.say("bob", str(n))
    settle(alice, bob)
    assert bob.texts("alice") == [f"alice: {n}" for n in range(10)]
    assert alice.texts("bob") == bob.texts("alice")
    assert not alice.of(events.Refused)
    told = [(event.code, event.command) for event in alice.of(events.Delayed) if isinstance(event, events.Delayed)]
    # Once for each that waits, however often it was tried.
    assert len(set(told)) == len(told) == (9 if code == "reader-full" else 0)


def test_who_says_more_to_somebody_who_does_not_read_is_told_that_it_waits_too(
    people: World, server: MemoryServer
) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "0", ask=False))
    settle(alice, bob)
    refuse_numbers(server, "reader-full", 3, times=1)
    said = [commands.Send(alice.id_of("bob"), text) for text in ("one", "two")]
    for command in said:
        alice.do(command)
        while alice.push() or alice.pull():
            pass
    told = [event.command for event in alice.of(events.Delayed)]
    assert told == [command.id for command in said]
    settle(alice, bob)
    assert bob.texts("alice") == ["alice: 0", "alice: one", "alice: two"]
    assert alice.of(events.Delayed)[2:] == []


def test_who_enters_an_open_room_too_often_is_told_to_wait_and_gets_in_by_waiting(
    people: World, server: MemoryServer
) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice, bob)
    for times in range(budgets.OPEN_COMMITS + 1):
        assert not bob.of(events.Delayed)
        bob.do(command := commands.JoinRoom("#lobby"))
        started = server.seconds
        settle(alice, bob)
        assert bob.state_of("#lobby") == "open"
        if times < budgets.OPEN_COMMITS:
            assert server.seconds - started < 60
            bob.do(commands.Leave(bob.id_of("#lobby")))
            settle(alice, bob)
    assert server.seconds - started > 600
    (told,) = bob.of(events.Delayed)
    assert isinstance(told, events.Delayed)
    assert (told.code, told.command) == ("slow-down", command.id)
    assert "3 times an hour" in told.text
    assert "by itself" in told.text


def test_a_server_whose_clock_is_far_ahead_for_a_moment_ruins_nothing(people: World, server: MemoryServer) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "before", ask=False))
    settle(alice, bob)
    server.leap = 50 * 86_400
    alice.say("bob", "typed meanwhile")
    while alice.push() or alice.pull():
        pass
    server.tidy()
    server.leap = 0.0
    settle(alice, bob)
    assert alice.texts("bob") == bob.texts("alice") == ["alice: before", "alice: typed meanwhile"]
    (told,) = alice.of(events.Delayed)
    assert isinstance(told, events.Delayed)
    assert "the server says: the server's clock has leapt" in told.text
    assert all(abs(line.time - server.now) < 600_000 for line in bob.history("alice", 10))
    assert not [*alice.of(events.Alarm), *bob.of(events.Alarm)]


def test_what_is_never_taken_is_told_and_the_rest_goes_on_in_order(people: World, server: MemoryServer) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "0", ask=False))
    settle(alice, bob)
    refuse_numbers(server, "bad-request", 3, times=1)
    for n in range(1, 6):
        alice.say("bob", str(n))
    settle(alice, bob)
    assert bob.texts("alice") == [f"alice: {n}" for n in (0, 2, 3, 4, 5)]
    (lost,) = set(alice.texts("bob")) - set(bob.texts("alice"))
    assert lost.startswith("alice: 1 [This message was not sent: the server says: no. Send it again")
    assert [event.code for event in alice.of(events.Refused) if isinstance(event, events.Refused)] == ["bad-request"]


def test_who_leaves_does_not_wait_for_a_reader_who_is_away(people: World, server: MemoryServer) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "0", ask=False))
    settle(alice, bob)
    refuse_numbers(server, "reader-full", *range(3, 100), times=1000)
    alice.say("bob", "one")
    alice.say("bob", "two")
    alice.push()
    alice.do(commands.Leave(alice.id_of("bob")))
    settle(alice, bob)
    assert alice.engine._context.vault.outbox.first(alice.id_of("bob"), 10) == []
    assert [text.partition(" [")[0] for text in alice.texts("bob")] == ["alice: 0", "alice: one", "alice: two"]
    assert all("not sent" in text for text in alice.texts("bob")[1:])
    assert bob.state_of("alice") == "closed"


def test_a_key_package_that_expires_before_it_is_used_leaves_its_owner_out(server: MemoryServer, people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.CreateRoom("#club"))
    settle(alice, bob)
    bob.cut()
    server.now += 31 * 86_400_000
    alice.do(commands.Unlock(PASSWORD))  # hers is renewed, and lives longer than bob's
    settle(alice)

    def three_weeks_later(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if not isinstance(message, wire.Commit):
            return [message]
        server.inward = lambda _link, each: [each]
        server.now += 21 * 86_400_000
        refuse(link, message, "commit-first")
        return []

    server.inward = three_weeks_later
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    alice.say("#club", "without bob")
    settle(alice)
    (refused,) = alice.of(events.Refused)
    assert isinstance(refused, events.Refused)
    assert refused.text.startswith("bob was not added: Their key package is not good any more: ")
    assert "has expired" in refused.text
    assert alice.texts("#club") == ["alice: without bob"]


def test_nobody_invites_or_removes_themselves(people: World) -> None:
    (alice,) = people("alice")
    alice.do(commands.CreateRoom("#club"))
    settle(alice)
    for command in (commands.Invite(alice.id_of("#club"), "Alice"), commands.Remove(alice.id_of("#club"), "alice")):
        with pytest.raises(UsageError, match="That is you. /leave leaves a room."):
            alice.do(command)
