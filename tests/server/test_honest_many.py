"""The twin of `test_hostile_member`: what honest people ask for at their most is neither refused nor slowed.

All settings are the default ones.
"""

import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from securechat.tlscodec import Writer
from securechat.transport.tls import client_context
from securechat.wire import limits
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import Person
from tests.support.crowd import Ticket, prepare, read_on
from tests.support.honest import Pair
from tests.support.seeding import seat
from tests.support.server_process import ServerProcess

CLASS = 60
TYPING = 8
"""Of a class that press Enter at the same moment."""

BOT_MESSAGES = 2_500
"""Five seconds of a bot that says 500 a second; here as fast as they go."""

CONVERSATIONS = 300

CROWD = 50
BACKLOG = 100
"""Messages that a crowd has missed."""


class Site:
    """A server process, with the accounts that were made before it started."""

    def __init__(self, folder: Path, certificates: Path, ends: ExitStack) -> None:
        self.data = folder / "data"
        self._certificates = certificates
        self._ends = ends
        self.tls: ssl.SSLContext = client_context(certificates / "ca.pem")

    def start(self) -> None:
        self._server = self._ends.enter_context(
            ServerProcess(self._certificates, self.data, "--log-level", "info")
        )
        self.port = self._server.port

    def enter(self, ticket: Ticket, **options: Any) -> Person:
        person = ticket.enter(self.port, self.tls, **options)
        self._ends.callback(person.drop)
        return person


@pytest.fixture
def site(tmp_path: Path, certificates: Path) -> Iterator[Site]:
    with ExitStack() as ends:
        yield Site(tmp_path, certificates, ends)


def test_a_class_behind_one_address_registers_logs_in_and_enters_the_lobby(site: Site) -> None:
    site.start()

    def begin(number: int) -> Person:
        person = Person(site.port, site.tls, f"pupil{number}").register().login()
        person.join("#lobby")  # asks again only where somebody else was first
        return person

    teacher = Person(site.port, site.tls, "teacher").register().login()
    teacher.open_room("#lobby")
    with ThreadPoolExecutor(TYPING) as pool:
        pupils = list(pool.map(begin, range(CLASS)))
    (lobby,) = teacher.groups
    members = pupils[0].ask(m.Members, lobby)
    assert len(members.members) == CLASS + 1
    for person in (teacher, *pupils):
        person.bye()


def test_a_bot_says_what_it_has_to_say(site: Site) -> None:
    tickets = prepare(site.data, ["bot", "reader"])
    site.start()
    pair = Pair(site.port, site.tls, tickets)
    pair.pour(BOT_MESSAGES)
    pair.close()


def test_somebody_with_hundreds_of_conversations_comes_back_to_all_of_them(site: Site) -> None:
    (alice,) = tickets = prepare(site.data, ["alice"])
    conversations = seat(site.data, [f"#room{number}" for number in range(CONVERSATIONS)], tickets)
    site.start()
    for _ in range(3):  # as often as a bad network wants it
        person = site.enter(alice, publish=False)
        person.read_inbox()
        assert len(person.ask(m.ListRooms).rooms) == CONVERSATIONS
        for first in range(0, CONVERSATIONS, limits.MAX_IN_FLIGHT // 2):
            some = conversations[first : first + limits.MAX_IN_FLIGHT // 2]
            for conversation in some:
                person.protocol.send(m.Subscribe(person.protocol.next_id(), conversation, 0))
                person.protocol.send(m.Members(person.protocol.next_id(), conversation))
                person.protocol.send(m.Acknowledge(conversation, 0))
            replies = [person.take(m.Reply) for _ in range(2 * len(some))]
            assert {type(reply) for reply in replies} == {m.Subscribed, m.MemberList}
        person.drop()


def test_a_room_comes_back_after_an_outage(site: Site) -> None:
    tickets = prepare(site.data, [f"member{number}" for number in range(CROWD)])
    (room,) = seat(site.data, ["#all"], tickets)
    site.start()
    speaker = site.enter(tickets[0], publish=False)
    speaker.subscribe(room, 0)
    header = bytes(Writer().u16(1).u16(2).vector(room).u64(0).u8(1))
    for number in range(1, BACKLOG + 1):
        payload = header + bytes(Writer().vector(number.to_bytes(8, "big")).vector(bytes(28)).vector(b"text"))
        assert isinstance(speaker.ask(m.Submit, room, number, payload), m.Accepted)

    def come_back(ticket: Ticket) -> Person:
        person = site.enter(ticket, publish=False)
        assert isinstance(person.subscribe(room, 0), m.Subscribed)
        return person

    with ThreadPoolExecutor(TYPING) as pool:
        logs: dict[Person, list[m.Entry]] = {person: [] for person in pool.map(come_back, tickets[1:])}
    read_on(logs, room, BACKLOG)
    assert {len(log) for log in logs.values()} == {BACKLOG}
