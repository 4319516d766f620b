"""Accepted means that every receiver can take it: over real TLS, by the client's decoder."""

import io
import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from securechat.mls.framing import MLSMessage
from securechat.mls.welcome import Welcome
from securechat.policy import Identity, Rules
from securechat.server.app import Server
from securechat.wire import limits
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import Person

Enter = Callable[..., Person]


def padded(welcome: bytes, length: int) -> bytes:
    """A Welcome of so many bytes, for the same key packages. Nobody can see that it opens for none of them."""
    body = MLSMessage.decode(welcome).body
    assert isinstance(body, Welcome)
    filler = length - len(MLSMessage(replace(body, encrypted_group_info=bytes(length))).encode()) + length
    encoded = MLSMessage(replace(body, encrypted_group_info=bytes(filler))).encode()
    assert len(encoded) == length
    return encoded


@pytest.mark.parametrize("over", [0, 1])
def test_a_welcome_that_is_taken_of_its_sender_is_taken_by_its_receiver(enter: Enter, over: int) -> None:
    """Where the bounds differed, the receiver's client ended at each connection for a month."""
    alice, bob = enter("alice"), enter("bob")
    group = alice.found(Rules("invite", "#club", owners=(Identity.of(alice.certificate()),)))
    infos = (group.group_info(with_tree=True), group.group_info(with_tree=False))
    assert isinstance(alice.ask(m.OpenRoom, group.group_id, *infos), m.Done)
    staged = alice.make_commit(group, *alice.adds("bob"), number=1)
    assert staged.welcome is not None
    welcome = padded(staged.welcome, limits.MAX_WELCOME + over)
    request = alice.protocol.next_id()
    alice.send(m.Commit(request, group.group_id, 1, staged.message, welcome, staged.group_info or b""))
    if over:
        assert "a damaged Commit" in getattr(alice.ended().closing, "text", "")
    else:
        assert isinstance(alice.take(m.Reply), m.Accepted)
    with bob.again() as back:
        assert back.ask(m.Subscribe, bob.device, 0).head == 1 - over
        if not over:
            assert back.take(m.Welcomed).welcome == welcome
        assert isinstance(back.ask(m.ListRooms), m.Rooms)


def test_a_founding_has_a_bound_of_its_own(enter: Enter) -> None:
    alice, other = enter("alice"), enter("other")
    assert isinstance(alice.open_room("#club"), m.Done)
    large = bytes(limits.MAX_FOUNDING + 1)
    other.send(m.OpenRoom(other.protocol.next_id(), os.urandom(32), large, b""))
    assert "a damaged OpenRoom" in getattr(other.ended().closing, "text", "")


def test_what_nobody_could_receive_costs_its_session_and_no_other(
    server: Server, enter: Enter, log_without_secrets: io.StringIO
) -> None:
    """Which no client can bring about: a tree that large was never accepted."""
    alice, bob, carol = enter("alice"), enter("bob"), enter("carol")
    alice.open_room("#club")
    (room,) = alice.groups
    assert carol.join("#club") == room
    found = server._sequencer._conversations.get(room)
    assert found is not None
    tree, found.tree = found.tree, bytes(limits.MAX_FRAME)
    bob.send(m.Join(bob.protocol.next_id(), "#club"))
    closing = bob.ended().closing
    assert closing is not None
    assert (closing.reason, closing.text) == ("protocol-error", "internal error of the server")
    assert "a JoinOffer of 2,097," in log_without_secrets.getvalue()
    found.tree = tree
    assert isinstance(carol.say(room, "still here"), m.Accepted)
    with bob.again() as back:
        assert back.join("#club") == room
