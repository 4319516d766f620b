"""What a session has asked of other threads ends with it, and its account pays for it, whatever it is."""

from collections.abc import Callable
from typing import Any

import pytest

from securechat.server.sequencer import reading
from securechat.server.sequencer.session import Session
from securechat.server.store.records import InboxEntry
from securechat.wire import messages as m
from tests.server.sequencer.test_retention import talk
from tests.support.memory_server import MemoryPerson as Person
from tests.support.memory_server import MemoryServer

Enter = Callable[[str], Person]

ASKED: dict[str, Callable[[Person, bytes], m.FromClient]] = {
    "history": lambda _, conversation: m.Subscribe(5000, conversation, 0),
    "inbox": lambda person, _: m.Subscribe(5000, person.device, 0),
    "rooms": lambda *_: m.ListRooms(5000),
    "members": lambda _, conversation: m.Members(5000, conversation),
    "checkpoints": lambda _, conversation: m.FetchCheckpoints(5000, conversation),
    "key packages": lambda person, _: m.PublishKeyPackages(5000, [person.key_package()], b""),
}


@pytest.mark.parametrize("end", ["lost", "expelled", "replaced"])
@pytest.mark.parametrize("what", ASKED)
def test_what_a_session_has_asked_of_workers_ends_with_it_alone(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch, what: str, end: str
) -> None:
    monkeypatch.setattr(reading, "ON_THE_SPOT", 0)
    alice, bob, conversation = talk(enter)
    letter = InboxEntry(0, server.now, conversation, 1, bytes(32), b"welcome", b"tree", ())
    server.store.inboxes.deliver(letter, [alice.device, bob.device], "alice")
    server.store.commit()
    assert isinstance(bob.say(conversation, "one entry at least"), m.Accepted)
    pool = server._checks if what == "key packages" else server._portions
    submit, drop = pool.submit, pool.drop
    paid: list[tuple[str, str]] = []
    dropped: list[tuple[str, str]] = []

    def note(job: Callable[[], None], account: str = "", owner: Any = None) -> None:
        paid.append((account, owner.account))
        submit(job, account, owner)

    def note_drop(account: str, owner: Any) -> None:
        dropped.append((account, owner.account))
        drop(account, owner)

    monkeypatch.setattr(pool, "submit", note)
    monkeypatch.setattr(pool, "drop", note_drop)
    ready, run = [], pool.run
    with monkeypatch.context() as busy:  # with the jobs of others
        busy.setattr(pool, "run", lambda: None)
        for person in (alice, bob):
            person.link.receive(ASKED[what](person, conversation))
        assert paid == [("alice", "alice"), ("bob", "bob")]
        if end == "replaced":
            Person(server, "alice").take_over(alice)
        elif end == "expelled":
            server.sequencer.expel("alice", "this account has been disabled by the operator")
            server.run()
        else:
            alice.link.close()
        ready = [owner.account for owner, _ in pool._waiting if isinstance(owner, Session)]
    assert ready == ["bob"]
    assert dropped == [("alice", "alice")]
    before = len(bob.link.to_client)
    run()
    server.run()
    assert len(bob.link.to_client) > before  # the others get what they have asked for


@pytest.mark.parametrize("used_up", [True, False])
def test_who_asks_for_a_group_pays_for_it_and_nobody_waits_for_another_ones_time(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch, *, used_up: bool
) -> None:
    """The first who wants in may have no time left: a group that nobody has in memory takes up to a second."""
    alice, bob, mallory = enter("alice"), enter("bob"), enter("mallory")
    alice.open_room("#den")
    (den,) = alice.groups
    conversation = server.sequencer._conversations.find(den, 0)
    conversation.group = None  # as after a while, or a restart
    submit, paid, held = server._checks.submit, list[str](), list[Callable[[], None]]()

    def submit_or_hold(job: Callable[[], None], account: str = "", owner: object = None) -> None:
        paid.append(account)
        if used_up and account == "mallory":
            held.append(job)
        else:
            submit(job, account, owner)

    monkeypatch.setattr(server._checks, "submit", submit_or_hold)
    mallory.send(m.Join(mallory.protocol.next_id(), "#den"))
    assert paid == ["mallory"]
    if used_up:
        assert bob.join("#den") == den
        assert paid[:2] == ["mallory", "bob"]
        (job,) = held
        job()
        server.run()
        assert not conversation.loading
    assert isinstance(mallory.take(m.Reply), m.JoinOffer)
    assert conversation.group is not None
