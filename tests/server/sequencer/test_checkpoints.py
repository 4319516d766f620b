"""Checkpoints: states from which somebody may go on who was away for longer than handshakes are kept."""

from collections.abc import Callable

import pytest

from securechat.mls.framing import PublicMessage, decode_body
from securechat.mls.group_info import GroupInfo
from securechat.mls.public_group import PublicGroup
from securechat.mls.ratchet_tree import RatchetTree
from securechat.server.store import records
from securechat.wire import limits
from securechat.wire import messages as m
from tests.support.memory_server import MemoryPerson as Person
from tests.support.memory_server import MemoryServer

Enter = Callable[..., Person]


@pytest.fixture
def staff(enter: Enter) -> tuple[Person, Person, bytes]:
    """Alice owns an invite room, in which bob is."""
    alice, bob = enter("alice"), enter("bob")
    assert isinstance(alice.open_room("#staff", "invite"), m.Done)
    (room,) = alice.groups
    assert isinstance(alice.change(room, *alice.adds("bob")), m.Accepted)
    bob.read_inbox()
    return alice, bob, bob.accept_welcome()


def checkpoints(person: Person, conversation: bytes) -> list[m.Checkpoint]:
    reply = person.ask(m.FetchCheckpoints, conversation)
    assert isinstance(reply, m.Checkpoints)
    assert reply.conversation == conversation
    return reply.checkpoints


def state_at(server: MemoryServer, person: Person, checkpoint: m.Checkpoint) -> PublicGroup:
    """What a checkpoint and the handshakes after it lead to, without any secret."""
    info = decode_body(checkpoint.group_info, GroupInfo)
    tree = RatchetTree.decode(checkpoint.tree)
    now = checkpoint.time // 1000
    group = PublicGroup.from_group_info(info, tree, validate=person.validate, now=now)
    conversation = group.group_id
    for entry in server.store.logs.read_handshakes(conversation, checkpoint.seq, 1 << 40, 100, 1 << 20):
        message = decode_body(entry.payload, PublicMessage)
        group = group.stage(message, validate=person.validate, now=entry.time // 1000).after
    return group


def test_an_owners_own_last_commit_leads_to_the_present_without_secrets(
    server: MemoryServer, staff: tuple[Person, Person, bytes]
) -> None:
    alice, bob, room = staff
    (first,) = checkpoints(bob, room)
    assert (first.seq, first.chain, first.departures) == (1, server.head(room).chain, [])
    assert isinstance(bob.change(room), m.Accepted)  # no owner: nobody has to believe in this
    assert checkpoints(alice, room) == [first]
    assert state_at(server, bob, first) == bob.groups[room].public
    alice.subscribe(room, first.seq)
    alice.process(alice.take(m.Entry))
    assert isinstance(alice.change(room), m.Accepted)
    (newer,) = checkpoints(bob, room)
    assert newer.seq == 3
    assert state_at(server, alice, newer) == alice.groups[room].public


def test_each_of_two_has_a_checkpoint_and_a_room_without_owners_none(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    bob.read_inbox()
    assert isinstance(alice.open_direct("bob"), m.Accepted)
    conversation = bob.accept_welcome()
    assert [each.seq for each in checkpoints(bob, conversation)] == [1]
    assert isinstance(bob.change(conversation), m.Accepted)
    assert [each.seq for each in checkpoints(alice, conversation)] == [2, 1]
    alice.open_room("#lobby")
    room = bob.join("#lobby")
    assert checkpoints(bob, room) == []


def test_what_is_fetched_is_taken_before_more_is_read(staff: tuple[Person, Person, bytes]) -> None:
    alice, _, room = staff
    requests = [m.FetchCheckpoints(alice.protocol.next_id(), room) for _ in range(3)]
    for request in requests:
        alice.protocol.send(request)
    alice.flush()
    replies = [alice.take(m.Reply, lambda reply, wanted=each.id: reply.id == wanted) for each in requests]  # type: ignore[misc]  # bound at once
    codes = [reply.code if isinstance(reply, m.Refused) else type(reply).__name__ for reply in replies]
    assert codes == ["Checkpoints", "busy", "busy"]
    assert "busy" in m.RETRYABLE
    assert len(checkpoints(alice, room)) == 1


def test_checkpoints_that_do_not_fit_into_a_frame_are_left_out(
    server: MemoryServer, staff: tuple[Person, Person, bytes]
) -> None:
    alice, _, room = staff
    big = bytes(limits.MAX_FRAME // 2)
    for seq in (11, 12, 13):
        large = records.Checkpoint(f"owner {seq}", seq, 1, bytes(32), b"info", big, ())
        server.store.conversations.put_checkpoint(room, large)
    server.store.commit()
    assert [each.seq for each in checkpoints(alice, room)] == [13]
    for seq in (12, 13):
        small = records.Checkpoint(f"owner {seq}", seq, 1, bytes(32), b"info", b"tree", ())
        server.store.conversations.put_checkpoint(room, small)
    server.store.commit()
    assert [each.seq for each in checkpoints(alice, room)] == [13, 12, 11, 1]
