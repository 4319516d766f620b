"""Honest people beside whatever else goes on: a pair that talks, and newcomers who want to get in."""

import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from securechat.wire import limits
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import WAIT, Person
from tests.support.crowd import Ticket, pour

AGAIN_SECONDS = 0.2
"""Before one asks again, if the server does not say when."""


class Pair:
    """Two people in a direct conversation. Everything that either says is checked at the other's."""

    def __init__(self, port: int, tls: ssl.SSLContext, tickets: Sequence[Ticket]) -> None:
        self.people = [ticket.enter(port, tls) for ticket in tickets]
        first, second = self.people
        second.read_inbox()
        accepted = first.open_direct(second.account)
        assert isinstance(accepted, m.Accepted), accepted
        self._conversation = second.accept_welcome()
        for person in self.people:
            assert isinstance(person.subscribe(self._conversation), m.Subscribed)
        self._seq = accepted.seq

    def exchange(self) -> list[float]:
        """Say something there and back; how many seconds each took from one to the other.

        The next entry of the log has to be ours, so that nothing is lost, doubled or out of order.
        """
        waits = []
        for speaker, listener in (self.people, reversed(self.people)):
            self._seq += 1
            submit = speaker.encrypt(self._conversation, f"entry {self._seq}")
            began = time.perf_counter()
            speaker.send(submit)
            entry = listener.take(m.Entry)
            waits.append(time.perf_counter() - began)
            accepted = speaker.take(m.Reply, lambda reply, ours=submit.id: reply.id == ours)  # type: ignore[misc]  # bound now
            assert isinstance(accepted, m.Accepted), accepted
            assert (accepted.seq, entry.seq) == (self._seq, self._seq)
            assert listener.process(entry) == f"entry {self._seq}"
            for person in self.people:
                person.send(m.Acknowledge(self._conversation, self._seq))
        return waits

    def pour(self, count: int) -> None:
        """Have the first say so much, as fast as a client may, and the other read it."""
        speaker, listener = self.people
        texts = [f"entry {self._seq + 1 + number}" for number in range(count)]
        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(self._read_all, listener, texts)
            pour(speaker, self._conversation, texts)
            read.result()
        self._seq += count
        speaker.send(m.Acknowledge(self._conversation, self._seq))

    def _read_all(self, listener: Person, texts: Sequence[str]) -> None:
        for text in texts:
            entry = listener.take(m.Entry)
            assert listener.process(entry) == text
            if entry.seq % limits.ACKNOWLEDGE_ENTRIES == 0:
                listener.send(m.Acknowledge(self._conversation, entry.seq))

    def close(self) -> None:
        """Leave."""
        for person in self.people:
            person.drop()


def newcomer(port: int, tls: ssl.SSLContext, account: str) -> Person:
    """Somebody with an account, who has not logged in yet."""
    person = Person(port, tls, account)
    ask_again(lambda: person.ask(m.Register, account, person.secret))
    return person


def log_in(person: Person) -> None:
    """Log in with the password, for the first time."""
    reply = ask_again(lambda: person.ask(m.Login, person.account, person.secret, person.device))
    assert isinstance(reply, m.LoggedIn), reply
    person.publish()


def ask_again(ask: Callable[[], Any]) -> Any:
    """Ask until it is not `busy` any more, as clients do."""
    deadline = time.monotonic() + WAIT
    while isinstance(reply := ask(), m.Refused):
        assert reply.code == "busy", reply
        assert time.monotonic() < deadline, reply
        time.sleep(max(AGAIN_SECONDS, reply.retry_after / 1000))
    return reply
