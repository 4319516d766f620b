"""Fuzz target: what the server accepts, of any size that its doors let in, every receiver can take.

Somebody of bad faith sends to the real sequencer what nobody but the receivers can check, padded; two others read what
comes of it (docs/design.md, section 2). A `Link` decodes all that the server emits as clients do, and raises where that
cannot be decoded.
"""

import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from securechat.errors import InternalError
from securechat.mls.framing import MLSMessage, PublicMessage
from securechat.mls.group import Group, StagedCommit
from securechat.mls.proposals import Proposal, Remove
from securechat.mls.welcome import Welcome
from securechat.policy import Identity, Rules, departure_data
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.protocol import Ended
from securechat_lab.cast.wire_client import commit_data
from tests.fuzz.kept import KEPT, folder
from tests.fuzz.registry import Target
from tests.support.memory_server import MemoryPerson, MemoryServer

NEAR = 6
"""Sizes next to a limit that are tried on either side."""

WIDE = "\U00020000"
"""A letter of four bytes, which normalising leaves as it is."""


class Script:
    """The input, read as choices and sizes; zeros behind its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def choice(self, most: int) -> int:
        """A number below `most`."""
        taken, self._data = self._data[:1], self._data[1:]
        return int.from_bytes(taken, "big") % most

    def size(self, limit: int) -> int:
        """Next to a limit, on either side of it, or anything below."""
        taken = self.choice(256)
        return limit + NEAR - taken if taken <= 2 * NEAR else taken * limit // 256


def filled(encode: Callable[[int], bytes], size: int) -> bytes:
    """What `encode` makes of so much filler that it has `size` bytes, or of none where that is more already."""
    filler = max(0, size - len(encode(0)))
    return encode(max(0, filler - max(0, len(encode(filler)) - size)))  # a longer length takes bytes, too


def padded_tag(message: bytes, size: int) -> bytes:
    """A PublicMessage with a membership tag that nobody but members can check."""
    body = MLSMessage.decode(message).body
    assert isinstance(body, PublicMessage)
    return filled(lambda filler: MLSMessage(replace(body, membership_tag=bytes(filler))).encode(), size)


def padded_welcome(welcome: bytes, size: int) -> bytes:
    """A Welcome with a GroupInfo that nobody but its receivers can open."""
    body = MLSMessage.decode(welcome).body
    assert isinstance(body, Welcome)
    return filled(lambda filler: MLSMessage(replace(body, encrypted_group_info=bytes(filler))).encode(), size)


class World:
    """A server, and those who are in it."""

    def __init__(self) -> None:
        self.server = MemoryServer(folder() / "receivers")
        KEPT.callback(self.server.stop)
        self.people: dict[str, MemoryPerson] = {}
        self.accepted: Counter[str] = Counter()
        """How often a request of each kind was accepted, here to be seen by a test."""

    def person(self, name: str) -> MemoryPerson:
        """Somebody, with a new connection if theirs has ended, and an inbox that is read."""
        found = self.people.get(name)
        if found is None:
            found = MemoryPerson(self.server, name).register().login()
        elif not found.link.open:
            found = found.again()
        self.people[name] = found
        found.received.clear()
        self.ask(found, m.Subscribe, found.device, 0)
        return found

    def ask(self, person: MemoryPerson, kind: Callable[..., Any], *fields: Any) -> Any:
        """The reply to a request; None where its door does not take it, which ends the connection."""
        request = kind(person.protocol.next_id(), *fields)
        try:
            person.send(request)
        except InternalError:  # a frame that not even the sender can make
            return None
        self.read(person)
        while (reply := _reply_to(request, person)) is None and person.link.open:
            assert not math.isinf(self.server.due), person.received
            self.server.advance()  # somebody else has the lease
            self.read(person)
        if reply is None:
            ended = person.received[-1]
            assert isinstance(ended, Ended), person.received
            assert ended.closing is not None
            assert "a damaged " in ended.closing.text, ended.closing
        elif not isinstance(reply, m.Refused):
            self.accepted[type(request).__name__] += 1
        return reply

    def read(self, person: MemoryPerson) -> None:
        """Have somebody read all that is there for them, and acknowledge what waited in their inbox."""
        while person.link.to_client:
            person.pump()
        ends = [each for each in person.received if isinstance(each, Ended)]
        assert all(each.error is None for each in ends), ends
        newest = max((each.seq for each in person.received if isinstance(each, m.Welcomed)), default=0)
        if newest and not ends:
            person.send(m.Acknowledge(person.device, newest))


def _reply_to(request: m.Request, person: MemoryPerson) -> m.Reply | None:
    return next((each for each in person.received if isinstance(each, m.Reply) and each.id == request.id), None)


@cache
def world() -> World:
    """The one of this process: each input opens rooms of its own there."""
    return World()


def rules_of(script: Script, mallory: MemoryPerson) -> Rules:
    """Rules as large as the script wants them, perhaps too large."""
    kind = ("invite", "open")[script.choice(2)]
    unique = "#" + "".join(chr(ord(WIDE) + each) for each in os.urandom(6))
    name = unique + WIDE * (script.size(limits.MAX_ROOM) - len(unique))
    barred = tuple(f"{number:03}{WIDE * (limits.MAX_ACCOUNT - 3)}" for number in range(script.size(100)))
    topic = WIDE * script.size(limits.MAX_TOPIC)
    return Rules(kind, name, topic, owners=(Identity.of(mallory.certificate()),), barred=barred)  # type: ignore[arg-type]  # a kind


def commit(script: Script, there: World, mallory: MemoryPerson, group: Group, *proposals: Proposal) -> Group | None:
    """Commit with a leaf, a tag and a Welcome of any size; the group after it, if that was accepted."""
    number = mallory.number(group.group_id)
    known = group.public.member(group.own_leaf)

    def stage(more: int) -> StagedCommit:
        extensions = (*known.capabilities.extensions, *range(0xF100, 0xF100 + more))
        return group.commit(
            proposals, by_reference=None, authenticated_data=commit_data(number), tree_in_welcome=False,
            capabilities=replace(known.capabilities, extensions=extensions), validate=lambda *_, **__: None,
            now=mallory.now,
        )  # fmt: skip

    plain = stage(0)
    leaf = plain.public.after.member(group.own_leaf).encode()
    staged = stage(max(0, script.size(limits.MAX_LEAF) - len(leaf) - 1) // 2)  # an extension's type has two bytes
    size = script.size(limits.MAX_WELCOME)
    welcome = padded_welcome(staged.welcome, size) if staged.welcome else b""
    message = staged.message
    if script.choice(4) == 1:  # then nobody can follow it
        message = padded_tag(message, script.size(limits.MAX_COMMIT - len(welcome) - limits.MAX_GROUP_INFO))
    reply = there.ask(mallory, m.Commit, group.group_id, number, message, welcome, staged.group_info)
    if not isinstance(reply, m.Accepted):
        return None
    mallory.numbers[group.group_id] = number
    return staged.group


def receivers(data: bytes) -> None:
    """One room, from its founding on, and all that comes of it for whoever asks."""
    script, there = Script(data), world()
    mallory, bob, _ = (there.person(name) for name in ("mallory", "bob", "carol"))
    group = mallory.found(rules := rules_of(script, mallory))
    mallory = there.person(mallory.account)
    founding, info = group.group_info(with_tree=True), group.group_info(with_tree=False)
    if not isinstance(there.ask(mallory, m.OpenRoom, group.group_id, founding, info), m.Done):
        return
    room = group.group_id
    after = commit(script, there, mallory, group, *(mallory.adds("bob") if rules.kind == "invite" else ()))
    if after is not None and rules.kind == "invite":
        there.read(bob)
        assert any(isinstance(each, m.Welcomed) and each.conversation == room for each in bob.received)
    mallory, group = there.person(mallory.account), after or group
    number = mallory.number(room)
    prefix = there.server.sequencer._conversations.find(room, 0).application_prefix + number.to_bytes(8, "big")
    there.ask(mallory, m.Submit, room, number, prefix.ljust(script.size(limits.MAX_PAYLOAD), b"\0"))
    if rules.kind == "open":
        come_and_go(script, there, bob, rules.name)
    for person in (there.person(name) for name in list(there.people)):
        for request in (
            (m.Subscribe, room, 0), (m.Members, room), (m.FetchCheckpoints, room), (m.Resync, room), (m.ListRooms,),
            (m.Join, rules.name[: limits.MAX_ROOM]),
        ):  # fmt: skip
            assert there.ask(person, *request) is not None
        there.read(person)


def come_and_go(script: Script, there: World, bob: MemoryPerson, name: str) -> None:
    """Enter an open room, and leave it with a tag of any size."""
    offer = there.ask(bob, m.Join, name)
    if not isinstance(offer, m.JoinOffer):
        return
    staged = bob.external_commit(offer)
    reply = there.ask(bob, m.Commit, offer.conversation, offer.number + 1, staged.message, b"", staged.group_info)
    if not isinstance(reply, m.Accepted):
        return
    assert staged.group is not None
    data = departure_data(offer.number + 2, staged.group.public.member(staged.group.own_leaf))
    proposal = staged.group.propose(Remove(staged.group.own_leaf), authenticated_data=data)
    padded = padded_tag(proposal, script.size(limits.MAX_PROPOSAL))
    there.ask(bob, m.Leave, offer.conversation, offer.number + 2, padded)


TARGETS: dict[str, Target] = {"receivers": receivers}


def seeds() -> dict[str, list[bytes]]:
    """Everything at its limit, one byte over it, and small; an invite room and an open one; a tag, and none."""
    at, over, small = bytes([NEAR]), bytes([NEAR - 1]), b"\x40"
    return {
        "receivers": [
            kind + rules + size + size + tag + size * 2
            for kind in (b"\x00", b"\x01")
            for rules in (at * 3, over * 3)
            for size in (at, over, small)
            for tag in (b"\x00", b"\x01" + size)
        ]
    }
