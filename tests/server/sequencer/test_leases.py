"""Leases: who may commit next, whatever those do who only take them."""

from collections.abc import Callable

import pytest

from securechat.server.sequencer.leases import IDLE_LEASES, STRIKES
from securechat.wire import limits
from securechat.wire import messages as m
from tests.support.memory_server import MemoryPerson as Person
from tests.support.memory_server import MemoryServer

Enter = Callable[[str], Person]


@pytest.fixture
def lobby(enter: Enter) -> tuple[Person, bytes]:
    alice = enter("alice")
    alice.open_room("#lobby")
    (room,) = alice.groups
    return alice, room


def other_device(person: Person) -> Person:
    """Another device of the same account."""
    other = Person(person.server, person.account)
    other.identity, other.chain = person.identity, person.chain
    return other.login()


def wait(person: Person) -> int:
    """Ask to enter, and wait for nothing; the request."""
    request = person.protocol.next_id()
    person.send(m.Join(request, "#lobby"))
    return request


def offered(person: Person, request: int) -> bool:
    """Whether a request has been answered with an offer by now."""
    person.link.server.run()
    person.received += [person.link.take() for _ in range(len(person.link.to_client))]
    return any(isinstance(each, m.JoinOffer) and each.id == request for each in person.received)


def let_pass(server: MemoryServer, leases: int) -> None:
    for _ in range(leases):
        server.advance(server.seconds + limits.LEASE_SECONDS)


def test_sixteen_devices_of_an_account_keep_nobody_out_for_longer_than_one(
    server: MemoryServer, enter: Enter, lobby: tuple[Person, bytes]
) -> None:
    """They kept a newcomer out for half a minute, and then began again."""
    first = enter("mallory")
    devices = [first, *(other_device(first) for _ in range(limits.MAX_DEVICES - 1))]
    requests = [wait(device) for device in devices]
    erin = enter("erin")
    theirs = wait(erin)
    assert [offered(*each) for each in zip(devices, requests, strict=True)] == [True] + [False] * 15
    refused = devices[2].take(m.Refused)
    assert (refused.code, refused.retry_after) == ("not-now", int(limits.LEASE_SECONDS * 1000))
    assert "another device of yours" in refused.text
    assert not offered(erin, theirs)
    let_pass(server, 1)
    assert offered(erin, theirs)
    staged = erin.external_commit(erin.take(m.JoinOffer))
    reply = erin.ask(m.Commit, lobby[1], 1, staged.message, b"", staged.group_info)
    assert isinstance(reply, m.Accepted)
    assert offered(devices[1], requests[1])  # the twin: of an account one waits, and it has its turn


def test_who_lets_leases_end_waits_behind_who_does_not(
    server: MemoryServer, enter: Enter, lobby: tuple[Person, bytes]
) -> None:
    idlers = [enter(f"idler{number}") for number in range(5)]
    for idler in idlers:
        wait(idler)
    let_pass(server, 5)  # each of them has had one
    for idler in idlers:
        wait(idler)
    for number in range(3):
        newcomer = enter(f"newcomer{number}")
        request = wait(newcomer)
        let_pass(server, 1)
        assert offered(newcomer, request)
        newcomer.drop()
    before = server.seconds
    assert enter("erin").join("#lobby") == lobby[1]
    assert server.seconds <= before + limits.LEASE_SECONDS


def test_a_member_who_is_always_late_and_never_commits_waits_behind_newcomers(
    server: MemoryServer, enter: Enter, lobby: tuple[Person, bytes]
) -> None:
    alice, room = lobby
    mallory = enter("mallory")
    mallory.join("#lobby")

    def starve() -> None:
        for _ in range(STRIKES):
            assert mallory.change(room).code in ("leased", "stale-epoch")

    dave = enter("dave")
    wait(dave)
    starve()
    for name in ("erin", "frank"):
        wait(newcomer := enter(name))
        let_pass(server, 1)  # the first time it is mallory's
        if name == "erin":
            assert not any(isinstance(each, m.JoinOffer) for each in newcomer.received)
            starved = server.sequencer._conversations.find(room, 0).lease_queue.lease
            assert starved is not None
            assert starved.who == ("mallory", mallory.device)
            assert isinstance(alice.change(room), m.Refused)
            let_pass(server, 1)
            newcomer.take(m.JoinOffer)
            starve()
        else:
            newcomer.take(m.JoinOffer)


def test_an_account_that_never_comes_in_is_let_in_no_more_for_a_while(
    server: MemoryServer, enter: Enter, lobby: tuple[Person, bytes]
) -> None:
    mallory, carol = enter("mallory"), enter("carol")
    for _ in range(IDLE_LEASES):
        assert isinstance(mallory.ask(m.Join, "#lobby"), m.JoinOffer)
    refused = mallory.ask(m.Join, "#lobby")  # which gives up the tenth
    assert (refused.code, refused.code in m.RETRYABLE) == ("slow-down", True)
    assert 0 < refused.retry_after <= 360_000
    assert carol.join("#lobby") == lobby[1]  # the twin: somebody else
    server.advance(server.seconds + refused.retry_after / 1000)
    mallory = mallory.again()
    assert mallory.join("#lobby") == lobby[1]


def test_who_commits_in_their_lease_is_not_counted(
    server: MemoryServer, enter: Enter, lobby: tuple[Person, bytes]
) -> None:
    for number in range(12):
        enter(f"guest{number}").join("#lobby")
    assert server.sequencer._conversations.find(lobby[1], 0).lease_queue.idle == {}


def test_a_lease_lasts_while_its_commit_is_checked(
    server: MemoryServer, enter: Enter, lobby: tuple[Person, bytes]
) -> None:
    _, room = lobby
    dave, erin = enter("dave"), enter("erin")
    staged, request = dave.external_commit(dave.ask(m.Join, "#lobby")), dave.protocol.next_id()
    theirs = wait(erin)
    with server.slow_checks():
        dave.send(m.Commit(request, room, 1, staged.message, b"", staged.group_info or b""))
    let_pass(server, 3)
    assert not offered(erin, theirs)
    server.finish_checks()
    assert dave.take(m.Accepted).id == request
    assert offered(erin, theirs)


@pytest.mark.parametrize("wrong", ["somebody has left", "of another device"])
def test_a_lease_whose_commit_is_refused_goes_to_the_next_at_once(
    server: MemoryServer, enter: Enter, lobby: tuple[Person, bytes], wrong: str
) -> None:
    _, room = lobby
    carol, dave, erin = (enter(name) for name in ("carol", "dave", "erin"))
    carol.join("#lobby")
    offer, request = dave.ask(m.Join, "#lobby"), dave.protocol.next_id()
    staged = (other_device(dave) if wrong == "of another device" else dave).external_commit(offer)
    theirs = wait(erin)
    before = server.seconds
    with server.slow_checks():
        dave.send(m.Commit(request, room, 1, staged.message, b"", staged.group_info or b""))
    if wrong == "somebody has left":  # which opens no epoch, but the commit knows nothing of it
        assert isinstance(carol.leave(room), m.Accepted)
    server.finish_checks()
    assert wrong in dave.take(m.Refused, lambda reply: reply.id == request).text
    assert offered(erin, theirs)
    assert server.seconds == before


@pytest.mark.parametrize(("seconds", "told"), [(0.5, 500), (60.0, 2000)])
def test_while_a_conversation_is_handed_back_it_is_told_when_to_come_again_and_open_from_that_moment(
    server: MemoryServer, lobby: tuple[Person, bytes], seconds: float, told: int
) -> None:
    alice, room = lobby
    conversation = server.sequencer._conversations.find(room, 0)
    conversation.closed_until = server.seconds + seconds
    refused = alice.change(room)
    assert (refused.code, refused.retry_after) == ("not-now", told)
    server.advance(conversation.closed_until)
    assert isinstance(alice.change(room), m.Accepted)


def test_an_offer_is_for_its_epoch_alone(server: MemoryServer, enter: Enter, lobby: tuple[Person, bytes]) -> None:
    alice, room = lobby
    dave = enter("dave")
    dave.ask(m.Join, "#lobby")
    let_pass(server, 1)
    assert isinstance(alice.change(room), m.Accepted)
    staged = dave.external_commit(server.offer(1, room))  # what somebody else was given
    reply = dave.ask(m.Commit, room, 1, staged.message, b"", staged.group_info)
    assert isinstance(reply, m.Refused)
    assert reply.code == "commit-first"
