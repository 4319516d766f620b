"""The disk is shared: an account has its quota there, and below the floor only what makes room is taken."""

from collections.abc import Callable
from typing import Any

import pytest

from securechat.server.rate import Size
from securechat.server.sequencer.quotas import FRESH_SECONDS
from securechat.server.store.sqlite import tail
from securechat.wire import messages as m
from tests.server.sequencer.test_publishing import beside, publish
from tests.server.sequencer.test_retention import acknowledge, talk
from tests.server.sequencer.test_succeeding import succeed
from tests.support.memory_server import MemoryPerson, MemoryServer

Enter = Callable[..., MemoryPerson]
LONG = "x" * 2000


@pytest.fixture
def small(start: Callable[..., MemoryServer], monkeypatch: pytest.MonkeyPatch) -> MemoryServer:
    """A server that keeps 64 KiB of each account."""
    monkeypatch.setattr(tail, "TAIL_SECONDS", -1)
    return start(bytes_per_account=Size(64 << 10))


def people(server: MemoryServer, *names: str) -> list[MemoryPerson]:
    return [MemoryPerson(server, name).register().login() for name in names]


def a_second_later(server: MemoryServer) -> None:
    server.tidy()
    server.advance(server.seconds + FRESH_SECONDS + 0.1)


def fill(person: MemoryPerson, conversation: bytes) -> m.Refused:
    """Speak until the server refuses it."""
    for _ in range(200):
        reply = person.say(conversation, LONG)
        if isinstance(reply, m.Refused):
            person.numbers[conversation] -= 1
            return reply
    raise AssertionError("never refused")


def test_who_has_filled_their_quota_is_told_what_frees_it_and_others_go_on(small: MemoryServer) -> None:
    alice, bob = people(small, "alice", "bob")
    carol = MemoryPerson(small, "carol").register().login()
    bob.read_inbox()
    assert isinstance(alice.open_direct("bob"), m.Accepted)
    conversation = bob.accept_welcome()
    refused = fill(alice, conversation)
    assert refused.code == "quota"
    assert refused.code in m.RETRYABLE
    assert refused.retry_after > 0
    assert "free as they read it" in refused.text
    assert small.store.held("alice") <= 66 << 10
    a_second_later(small)  # it is the disk that is full, not a rate
    assert fill(alice, conversation).code == "quota"
    assert isinstance(bob.say(conversation, LONG), m.Accepted)
    assert isinstance(carol.open_room("#carol"), m.Done)
    head = small.head(conversation).seq
    acknowledge(bob, conversation, head)
    acknowledge(alice, conversation, head)
    a_second_later(small)
    assert isinstance(alice.say(conversation, LONG), m.Accepted)


def test_over_its_quota_an_account_can_repeat_change_and_leave(small: MemoryServer) -> None:
    alice, bob = people(small, "alice", "bob")
    bob.read_inbox()
    assert isinstance(alice.open_direct("bob"), m.Accepted)
    conversation = bob.accept_welcome()
    submit = alice.encrypt(conversation, LONG)
    alice.send(submit)
    accepted = alice.take(m.Accepted)
    assert fill(alice, conversation).code == "quota"
    a_second_later(small)
    alice.send(submit)
    assert alice.take(m.Accepted).seq == accepted.seq
    assert isinstance(alice.change(conversation), m.Accepted)
    a_second_later(small)
    assert isinstance(alice.leave(conversation), m.Accepted)


def test_a_change_has_room_beyond_the_quota_and_not_without_end(small: MemoryServer) -> None:
    alice, bob = people(small, "alice", "bob")
    bob.read_inbox()
    assert isinstance(alice.open_direct("bob"), m.Accepted)
    conversation = bob.accept_welcome()
    fill(alice, conversation)
    for _ in range(20):
        a_second_later(small)
        reply = alice.change(conversation)
        if isinstance(reply, m.Refused):
            break
    assert isinstance(reply, m.Refused)
    assert reply.code == "quota"


def refused(reply: Any) -> bool:
    return isinstance(reply, m.Refused) and reply.code == "disk-full"


def test_below_the_floor_only_what_makes_room_is_taken(server: MemoryServer, enter: Enter) -> None:
    alice, bob, conversation = talk(enter)
    accepted = alice.say(conversation, "before")
    floor = server.space.floor
    server.free = floor - 1
    server.space.look()
    reply = alice.say(conversation, "below")
    assert refused(reply)
    assert "nearly full" in reply.text
    assert reply.retry_after > 0
    alice.numbers[conversation] -= 1
    assert refused(alice.change(conversation))
    assert refused(alice.open_room("#alice"))
    assert refused(alice.ask(m.FetchKeyPackages, "bob"))
    assert refused(alice.ask(m.PublishKeyPackages, [alice.key_package()], b""))
    stranger = MemoryPerson(server, "stranger")
    assert refused(stranger.ask(m.Register, "stranger", bytes(32)))
    bob.subscribe(conversation)
    assert bob.read(conversation)[-1][1] == "before"
    acknowledge(bob, conversation, accepted.seq)
    again = bob.again()  # whoever comes may free something
    assert isinstance(again.leave(conversation), m.Accepted)
    server.free = floor + 1  # too little to begin with that again
    server.space.look()
    assert refused(alice.open_room("#alice"))
    server.free = 2 * floor
    server.space.look()
    assert isinstance(alice.open_room("#alice"), m.Done)


def below_the_floor(server: MemoryServer) -> None:
    server.free = server.space.floor - 1
    server.space.look()


def test_below_the_floor_a_thief_can_be_shut_out(server: MemoryServer, enter: Enter) -> None:
    alice, _, conversation = talk(enter)
    stolen = alice.certificate()
    lost, mine = beside(alice), MemoryPerson(server, "alice")
    mine.identity, mine.chain = alice.identity, list(alice.chain)
    mine.certify()
    mine.login()
    below_the_floor(server)
    assert refused(alice.open_room("#more"))
    assert isinstance(mine.ask(m.EndSession, lost.device), m.Done)
    assert lost.ended().closing is not None
    assert isinstance(mine.ask(m.ChangePassword, mine.secret, bytes(32)), m.PasswordChanged)
    assert server.head(conversation).members[alice.device].last_seq is None
    statement = mine.state("revoke", stolen.signature_key, device_id=alice.device)
    for _ in range(2):  # again: the answer may have been lost
        assert isinstance(publish(mine, statement), m.Published)
    assert server.head(conversation).members[alice.device].last_seq is not None
    assert refused(publish(mine, mine.certify()))  # to come in with a device is something new


def test_below_the_floor_a_thief_who_has_the_identity_key_can_be_contradicted(
    server: MemoryServer, enter: Enter
) -> None:
    alice = enter("alice")
    owner = beside(alice)
    heir, succession = succeed(alice)
    below_the_floor(server)
    owner.chain = [*owner.chain, succession]
    owner = beside(owner)  # the device was thrown out; the password lets it in
    assert isinstance(publish(owner, owner.state("contest", heir.identity_key)), m.Published)


def test_what_the_database_has_to_spare_is_room(server: MemoryServer, enter: Enter) -> None:
    alice, _, conversation = talk(enter)
    server.free = server.space.floor // 2
    server.space.reusable = lambda: server.space.floor
    server.space.look()
    assert isinstance(alice.say(conversation, "into the database's own room"), m.Accepted)
    server.free = 0  # nothing for its log, nor for the accounts
    server.space._reserve.unlink(missing_ok=True)
    server.space.look()
    assert refused(alice.say(conversation, "no"))
