"""The parts that a lab replaces, where no exercise shows it yet: what each of them does."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client.parts import Parts, Timing
from securechat.errors import PeerError
from securechat.policy import check_commit
from securechat.server.parts import ServerParts
from securechat.wire import messages as m
from securechat_lab.cast.scenes import direct, epoch, lobby, say
from securechat_lab.kit.stage import CHEAP_HASH, PARTS, Stage
from tests.support.memory_server import MemoryPerson, MemoryServer


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage(server_parts=ServerParts(accepts_commit=lambda _head, _epoch: True)) as stage:
        yield stage


def test_what_can_be_replaced_is_this_and_neither_encryption_nor_its_guard() -> None:
    assert " ".join(Parts.__annotations__) == "clock trust pins record padding rules clean secret timing network"
    assert " ".join(ServerParts.__annotations__) == "password_cost accepts_commit"


def race(server: MemoryServer, *names: str) -> list[str]:
    """Let several people commit in one epoch; what becomes of each commit."""
    people = [MemoryPerson(server, name).register().login() for name in names]
    assert isinstance(people[0].open_room("#race"), m.Done)
    (room,) = people[0].groups
    people[0].subscribe(room)
    for person in people[1:]:
        person.join("#race")
        person.subscribe(room)
    for index, person in enumerate(people):
        for _ in people[index + 1 :]:
            person.process(person.take(m.Entry))
    with server.slow_checks():
        for person in people:
            staged, number = person.make_commit(person.groups[room]), person.number(room)
            request = person.protocol.next_id()
            person.send(m.Commit(request, room, number, staged.message, b"", staged.group_info or b""))
    server.finish_checks()
    replies = [person.take(m.Reply) for person in people]
    return sorted(reply.code if isinstance(reply, m.Refused) else "accepted" for reply in replies)


@pytest.mark.parametrize(("weak", "outcome"), [
    (False, ["accepted", "stale-epoch", "stale-epoch"]),
    (True, ["accepted", "accepted", "accepted"]),
])  # fmt: skip
def test_a_server_without_compare_and_set_accepts_several_commits_of_an_epoch(
    weak: bool, outcome: list[str], tmp_path: Path  # noqa: FBT001  a parameter of the test
) -> None:
    server = MemoryServer(tmp_path / "data")
    if weak:
        server.sequencer._commits._accepts = lambda _head, _epoch: True
    assert race(server, "alice", "bob", "carol") == outcome
    server.stop()


def test_a_stage_hands_a_server_its_parts_and_ordinary_chat_works_on_it(stage: Stage) -> None:
    assert stage.server._sequencer._commits._accepts(5, 3)
    assert stage.server._parts.password_cost == CHEAP_HASH
    alice, bob = stage.person("alice"), stage.person("bob")
    direct(alice, bob)


def test_a_path_is_renewed_as_often_as_the_timing_says(stage: Stage) -> None:
    hasty = stage.person("cem", replace(PARTS, timing=Timing(path_messages=2)))
    calm = stage.person("dana")
    lobby(hasty, calm)  # the only ones there so far
    before = epoch(calm, "#lobby")
    for number in range(3):
        say(calm, "#lobby", f"calm {number}", hasty)
    assert epoch(calm, "#lobby") == before
    for number in range(3):
        say(hasty, "#lobby", f"hasty {number}", calm)
    calm.wait_until(lambda: epoch(calm, "#lobby") == before + 1)


def test_the_rules_are_asked_of_each_commit_of_others(stage: Stage) -> None:
    def refusing(*_: object, **__: object) -> object:
        raise PeerError("no commit is good enough")

    strict = stage.person("eli", replace(PARTS, rules=refusing))
    strict.do(commands.JoinRoom("#other"))
    strict.wait_for(events.ConversationChanged, lambda event: event.change == "opened")
    newcomer = stage.person("fay")
    newcomer.do(commands.JoinRoom("#other"))
    assert "no commit is good enough" in strict.wait_for(events.Stopped).reason
    assert Parts().rules is check_commit
