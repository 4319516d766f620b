"""Rooms in thousands, members in hundreds: nobody makes all rooms, and nobody's messages wait for a list of either."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from securechat.server.rate import Rate
from securechat.server.sequencer import memberships, questions
from securechat.server.sequencer.reading import FALL_BEHIND_BYTES
from securechat.server.store.records import Head, Membership
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.chain import CHAIN_START
from securechat.wire.frames import encode_frame
from tests.server.sequencer.test_retention import talk
from tests.support.memory_server import MemoryPerson, MemoryServer

Enter = Callable[[str], MemoryPerson]


def found_many(server: MemoryServer, count: int) -> None:
    """Open rooms of somebody else, each with one person in it, but for the last one."""
    for n in range(count):
        head = Head(n.to_bytes(32), "open", f"#a{n:05}", 0, server.now, 0, CHAIN_START, b"i", founder="mallory")
        for person in range(1 if n < count - 1 else 3):
            device = (n * 8 + person).to_bytes(16)
            head.members[device] = Membership(device, f"mallory{person}", 0, CHAIN_START, None, 0)
        server.store.conversations.create(head, None, b"snapshot")
    server.store.commit()


def test_the_operators_rooms_and_ones_own_come_before_ten_thousand_others(
    server: MemoryServer, enter: Enter
) -> None:
    alice, bob = enter("alice"), enter("bob")
    assert isinstance(alice.open_room("#lobby"), m.Done)
    assert isinstance(alice.open_room("#zebra"), m.Done)
    assert isinstance(alice.open_room("#team", "invite"), m.Done)
    found_many(server, 10_000)
    names = [room.name for room in alice.ask(m.ListRooms).rooms]
    assert names[:5] == ["#lobby", "#team", "#zebra", "#a09999", "#a00000"]
    assert len(names) == len(set(names)) == limits.MAX_LISTED_ROOMS
    names = [room.name for room in bob.ask(m.ListRooms).rooms]
    assert names[:3] == ["#lobby", "#a09999", "#a00000"]
    assert "#team" not in names


ASKED = pytest.mark.parametrize(
    ("ask", "reads", "answer"),
    [
        (lambda request, _: m.ListRooms(request), "rooms", m.Rooms),
        (lambda request, conversation: m.Members(request, conversation), "members", m.MemberList),
    ],
    ids=["ListRooms", "Members"],
)
"""How a list is asked for, what of the store it is made of, and what answers."""

Ask = Callable[[int, bytes], m.ListRooms | m.Members]


@ASKED
def test_a_list_is_made_outside_the_turn_and_answers_some_requests_at_once(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch, ask: Ask, reads: str, answer: type[m.Reply]
) -> None:
    alice, bob, conversation = talk(enter)
    made, paid = [], []
    read, submit = getattr(server.store.conversations, reads), server._portions.submit

    def count(*which: object) -> object:
        made.append(which)
        return read(*which)

    def note(job: Callable[[], None], account: str = "", owner: Any = None) -> None:
        paid.append((account, owner.account))
        submit(job, account, owner)

    monkeypatch.setattr(server.store.conversations, reads, count)
    monkeypatch.setattr(server._portions, "submit", note)
    server._portions.slow = True
    for request in range(5000, 5010):
        alice.link.receive(ask(request, conversation))
    assert not made  # nor has the turn waited
    assert isinstance(bob.say(conversation, "nobody waits"), m.Accepted)
    server._portions.slow = False
    server._portions.finish()
    server.run()
    lists = 1 + math.ceil(9 / questions.ANSWERS_AT_ONCE)  # one for the first, and for some at once behind it
    assert len(made) == lists
    assert paid == [("alice", "alice")] * lists
    answered = [message for message in alice.link.to_client if type(message) is answer]
    assert [each.id for each in answered] == [*range(5000, 5010)]
    assert len({str(structs.asdict(each) | {"id": 0}) for each in answered}) == 1  # they are told the same


@ASKED
def test_who_asks_for_lists_and_does_not_read_has_few_of_them_waiting(
    server: MemoryServer, enter: Enter, ask: Ask, reads: str, answer: type[m.Reply]
) -> None:
    alice, _bob, conversation = talk(enter)
    topic = "\N{GRINNING FACE}" * limits.MAX_TOPIC
    for n in range(200):
        head = Head(n.to_bytes(32), "open", f"#a{n:05}", 0, server.now, 0, CHAIN_START, b"i", topic=topic)
        server.store.conversations.create(head, None, b"snapshot")
    crowd = [Membership(n.to_bytes(16), f"a{n:031}", 0, CHAIN_START, None, 0) for n in range(900)]
    server.store.conversations.put_members(conversation, crowd)
    server.store.commit()
    for request in range(5000, 5000 + limits.MAX_IN_FLIGHT):
        alice.link.receive(ask(request, conversation))
    waiting = [each for each in alice.link.to_client if isinstance(each, answer)]
    assert len(getattr(waiting[0], reads)) >= 200
    assert 0 < len(encode_frame(waiting[0])) * (len(waiting) - 1) <= FALL_BEHIND_BYTES
    assert len(waiting) < limits.MAX_IN_FLIGHT
    answered = []
    while alice.link.to_client:  # once they are read, all of them come
        message = alice.link.take()
        answered += [message.id] if isinstance(message, answer) else []
    assert sorted(answered) == [*range(5000, 5000 + limits.MAX_IN_FLIGHT)]


@pytest.mark.parametrize("left", [True, False])
def test_who_has_left_while_members_are_listed_is_told_nothing(
    server: MemoryServer, enter: Enter, *, left: bool
) -> None:
    _alice, bob, conversation = talk(enter)
    server._portions.slow = True
    bob.link.receive(m.Members(5000, conversation))
    if left:
        assert isinstance(bob.leave(conversation), m.Accepted)
    server._portions.slow = False
    server._portions.finish()
    server.run()
    (reply,) = [each for each in bob.link.to_client if isinstance(each, m.Reply) and each.id == 5000]
    if left:
        assert (type(reply), getattr(reply, "code", "")) == (m.Refused, "not-found")
    else:
        assert getattr(reply, "members", None) == [
            m.Member("alice", online=True, published=True), m.Member("bob", online=True, published=True)
        ]  # fmt: skip


def test_who_has_made_many_rooms_makes_no_more_until_one_ends(
    enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memberships, "MAX_FOUNDED", 2)
    alice, bob = enter("alice"), enter("bob")
    assert isinstance(alice.open_room("#lobby"), m.Done)  # which is the operator's
    assert isinstance(alice.open_room("#one"), m.Done)
    assert isinstance(alice.open_room("#two"), m.Done)
    reply = alice.open_room("#three")
    assert isinstance(reply, m.Refused)
    assert (reply.code, "2 rooms that you have made" in reply.text) == ("not-allowed", True)
    assert isinstance(bob.open_room("#three"), m.Done)
    two = list(alice.groups)[2]
    assert isinstance(alice.leave(two), m.Accepted)
    assert isinstance(alice.open_room("#four"), m.Done)


def test_who_is_in_many_conversations_enters_no_more_and_is_added_all_the_same(
    enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memberships, "MAX_MEMBERSHIPS", 2)
    alice, bob, carol = enter("alice"), enter("bob"), enter("carol")
    bob.read_inbox()
    for name in ("#one", "#two"):
        assert isinstance(alice.open_room(name), m.Done)
    for reply in (alice.open_room("#three"), alice.open_direct("bob")):
        assert isinstance(reply, m.Refused)
        assert (reply.code, "you are in 2 conversations" in reply.text) == ("not-allowed", True)
    assert isinstance(carol.open_room("#carol"), m.Done)
    assert isinstance(alice.ask(m.Join, "#carol"), m.Refused)
    bob.join("#one")
    alice.read_inbox()
    assert isinstance(bob.open_direct("alice"), m.Accepted)  # who writes to her is not refused because of her


def test_rooms_are_made_at_a_rate(start: Callable[..., MemoryServer]) -> None:
    server = start(rooms_per_account=Rate(2, 0.02))
    alice, bob = (MemoryPerson(server, name).register().login() for name in ("alice", "bob"))
    assert isinstance(alice.open_room("#one"), m.Done)
    assert isinstance(alice.open_room("#two"), m.Done)
    reply = alice.open_room("#three")
    assert isinstance(reply, m.Refused)
    assert (reply.code, reply.retry_after > 0) == ("slow-down", True)
    assert isinstance(bob.open_room("#three"), m.Done)
