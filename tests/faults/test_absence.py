"""Somebody away too long, through the real client: it shows a gap, and nobody else is held up."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securechat import certs
from securechat.client import backoff, commands, events
from securechat.server.app import Server
from securechat.server.config import ServerConfig
from securechat.server.rate import Size
from securechat.server.sequencer import budgets
from securechat.server.sequencer import messages as talk
from securechat.server.store.sqlite import tail, tidying
from securechat_lab.cast.live import LiveClient, Through
from securechat_lab.cast.scenes import happened
from tests.support.history import View, check_history
from tests.support.live import view

KEPT = 8
"""Entries that a reader may leave unread here."""


@pytest.fixture
def stingy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that keeps little for those who are away, in this process."""
    for module in (tidying, talk):
        monkeypatch.setattr(module, "READER_ENTRIES", KEPT)
    monkeypatch.setattr(tail, "TAIL_SECONDS", -1)
    monkeypatch.setattr(budgets, "FIRST_DAY_COMMITS", budgets.OPEN_COMMITS)  # they are no newcomers
    certs.generate(tmp_path / "certs", ("localhost",))
    cert, key = tmp_path / "certs" / "server.pem", tmp_path / "certs" / "server-key.pem"
    server = Server(ServerConfig(port=0, data=tmp_path / "data", cert=cert, key=key, disk_floor=Size(1 << 20)))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def place(stingy: Server, tmp_path: Path) -> Through:
    return Through(tmp_path, tmp_path / "certs" / "ca.pem", stingy.port)


def test_who_comes_back_too_late_sees_a_gap_and_reads_on(
    stingy: Server, place: Through, clients: Callable[..., list[LiveClient]]
) -> None:
    alice, bob = clients(place, "alice", "bob")
    for person in (alice, bob):
        person.do(commands.JoinRoom("#lobby"))
        person.wait_for(events.ConversationChanged, lambda event: event.change in ("opened", "joined"))
    alice.say("#lobby", "before")
    bob.read("#lobby", "alice: before")
    bob.close()
    for text in map(str, range(5 * KEPT)):  # nobody absent mutes a room
        alice.say("#lobby", text)
        # One by one: what the server accepts at once it also deletes at once, when the last of it may go.
        alice.wait_for(events.Delivered, lambda event, text=text: event.message.text == text)  # type: ignore[misc]  # bound at once
    alice.wait_until(lambda: stingy.status().log_entries < 2 * KEPT)  # housekeeping has come to it
    bob.start()
    gap = bob.wait_for(events.Gap)
    assert gap.conversation == bob.id_of("#lobby")
    alice.say("#lobby", "welcome back")
    bob.read("#lobby", "alice: welcome back")
    first, *kept, last = bob.texts("#lobby")  # and has followed what was between
    assert (first, last) == ("alice: before", "alice: welcome back")
    assert KEPT <= len(kept) < 2 * KEPT  # as far as housekeeping had come
    assert kept == [f"alice: {number}" for number in range(5 * KEPT - len(kept), 5 * KEPT)]
    assert not happened(bob, events.Alarm)
    bob.say("#lobby", "what have I missed?")
    alice.read("#lobby", "bob: what have I missed?")
    bob.wait_until(lambda: all(line.seq for line in view(bob, "#lobby").lines))
    before, *after = view(bob, "#lobby").lines
    said = {
        "alice": ["before", *map(str, range(5 * KEPT)), "welcome back"],
        "bob": ["what have I missed?"],
    }
    there = [View("bob", [before], left=before.seq), View("bob", after, joined=after[0].seq - 1)]
    check_history(said, [view(alice, "#lobby"), *there], everything_arrived=True)


def test_a_private_chat_with_somebody_away_too_long_holds_what_is_said_and_loses_nothing(
    place: Through, clients: Callable[..., list[LiveClient]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "MAX_RETRY_SECONDS", 0.5)
    alice, bob = clients(place, "alice", "bob")
    alice.do(commands.OpenDirect("bob", "before", ask=False))
    bob.read("alice", "alice: before")
    bob.close()
    said = [str(number) for number in range(3 * KEPT)]
    for text in said:
        alice.say("bob", text)
    delayed = alice.wait_for(events.Delayed)
    assert delayed.code == "reader-full"
    taken = [line.text for line in view(alice, "bob").lines if line.seq]
    assert taken == ["before", *said[:KEPT]]  # all that the other side may leave unread, whatever alice acknowledged
    alice.say("bob", "and later")
    bob.start()
    bob.read("alice", "alice: and later")
    alice.wait_until(lambda: all(line.seq for line in view(alice, "bob").lines))
    views = [view(alice, "bob"), view(bob, "alice")]
    check_history({"alice": ["before", *said, "and later"], "bob": []}, views, everything_arrived=True)
    assert not happened(bob, events.Gap)
    assert {event.code for event in happened(alice, events.Delayed)} == {"reader-full"}
