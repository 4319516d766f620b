"""Many at once: readers that do not read, clients that come back, joiners; and a connection full in both directions."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from securechat.transport.tls import client_context
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import Person
from tests.support.chaos import ChaosProxy
from tests.support.crowd import Ticket, flow_both_ways, invite_all, pour, prepare, read_on, talk
from tests.support.live import LiveServer

MIB = 1 << 20

SAID = 200
"""Messages of 30 kB by which a connection has long been full: of megabytes in its buffers, in each direction."""

Start = Callable[..., LiveServer]


def enter(server: LiveServer, tickets: list[Ticket], **options: Any) -> list[Person]:
    tls = client_context(server.ca)
    return [ticket.enter(server.port, tls, **options) for ticket in tickets]


def memory(pid: int) -> int:
    """Bytes that are resident."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def leave(*people: Person) -> None:
    for person in people:
        person.drop()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_room_that_does_not_read_costs_no_memory_and_misses_nothing(tmp_path: Path, start_server: Start) -> None:
    tickets = prepare(tmp_path / "data", ["speaker", *(f"reader{number}" for number in range(8))])
    server = start_server()
    (speaker,) = enter(server, tickets[:1])
    others = enter(server, tickets[1:], receive_buffer=1 << 16)
    speaker.open_room("#all", "invite")
    (room,) = speaker.groups
    invite_all(speaker, room, others)
    for other in others:
        other.subscribe(room, 1)
    before = memory(server.pid)
    texts = [f"{number} ".ljust(30_000, "x") for number in range(250)]
    pour(speaker, room, texts)
    assert memory(server.pid) - before < 24 * MIB < len(others) * len(texts) * 30_000
    logs: dict[Person, list[m.Entry]] = {other: [] for other in others}
    read_on(logs, room, 1 + len(texts))
    for other, log in logs.items():
        assert [entry.seq for entry in log] == list(range(2, 2 + len(texts)))
        assert [other.process(entry) for entry in log[:5]] == texts[:5]
    assert [others[0].process(entry) for entry in logs[others[0]][5:]] == texts[5:]
    leave(speaker, *others)


def test_all_of_an_address_are_back_by_token_after_a_cut(tmp_path: Path, start_server: Start) -> None:
    tickets = prepare(tmp_path / "data", ["alice", "bob", *(f"other{number}" for number in range(40))])
    # Where right tokens counted as attempts, or honest connections as too many, most of them would be locked out.
    server = start_server(environment={"SECURECHAT_ATTEMPTS_PER_ADDRESS": "3 + 0.01/s"})
    tls = client_context(server.ca)
    with ChaosProxy(server.port, seed=0, faults=()) as network, ThreadPoolExecutor(len(tickets)) as pool:
        alice, bob = (ticket.enter(network.port, tls) for ticket in tickets[:2])
        others = [ticket.enter(network.port, tls, publish=False) for ticket in tickets[2:]]
        bob.read_inbox()
        alice.open_direct("bob")
        room = bob.accept_welcome()
        assert isinstance(alice.say(room, "before"), m.Accepted)
        network.cut_all()
        for person in (alice, bob, *others):
            assert person.ended().closing is None
            person.drop()
        back = list(pool.map(lambda person: person.again(), (alice, bob, *others)))
        assert isinstance(back[0].say(room, "after"), m.Accepted)
        back[1].subscribe(room)
        assert back[1].read(room, 2) == [(2, "before"), (3, "after")]
        leave(*back)


def test_newcomers_get_in_and_talkers_a_word(tmp_path: Path, start_server: Start) -> None:
    tickets = prepare(tmp_path / "data", [f"member{number}" for number in range(3)] + [f"guest{n}" for n in range(8)])
    server = start_server()
    members, guests = enter(server, tickets[:3]), enter(server, tickets[3:])
    members[0].open_room("#lobby")
    (room,) = members[0].groups
    for person in members[1:]:
        assert person.join("#lobby") == room
    over = threading.Event()
    with ThreadPoolExecutor(len(tickets)) as pool:
        talking = [pool.submit(talk, person, room, over) for person in members]
        try:
            assert list(pool.map(lambda person: person.join("#lobby"), guests)) == [room] * len(guests)
        finally:
            over.set()
        talkers = [each.result() for each in talking]
    accepted = {seq: text for talker in talkers for seq, text in talker.accepted.items()}
    for talker in talkers:
        talker.follow(room, {seq: accepted[seq] for seq in accepted.keys() - talker.accepted.keys()})
    for guest in guests:
        joined = guest.cursors[room]
        guest.subscribe(room)
        log: dict[Person, list[m.Entry]] = {guest: []}
        read_on(log, room, max(accepted))
        for entry in log[guest]:
            guest.process(entry)
        heard = {seq: text for _, seq, _, text in guest.texts}
        assert heard == {seq: text for seq, text in accepted.items() if seq > joined}
    leave(*members, *guests)


def test_a_connection_that_is_full_in_both_directions_carries_every_byte(tmp_path: Path, start_server: Start) -> None:
    tickets = prepare(tmp_path / "data", ["alice", "bob"])
    alice, bob = enter(start_server(), tickets)
    bob.read_inbox()
    alice.open_direct("bob")
    room = bob.accept_welcome()
    assert flow_both_ways(alice, bob, room, lambda said: said >= SAID) == (SAID + 1, SAID + 1)  # and the last one
    leave(alice, bob)
