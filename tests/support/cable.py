"""A direct link between two people in memory: it carries out what their engines want of it, a part at a time."""

import ipaddress
from collections.abc import Callable

from securechat.client.direct.carrying import Down, Fetched, Given, Giving, Lacked, News, Up
from securechat.client.direct.endpoints import Endpoint
from securechat.client.direct.links import (
    Admit,
    Close,
    Fetch,
    Have,
    Knock,
    Listen,
    Moved,
    Order,
    Share,
    Stop,
    Withhold,
)
from securechat.client.direct.offers import Answer, Offer
from securechat.transport.mutual import make_credential
from tests.support.people import Person

PART = 64 << 10

_CERTIFICATE = make_credential().certificate
_THERE = (Endpoint(ipaddress.ip_address("10.1.2.3"), 4000),)


class Cable:
    """All that is between two people but the server."""

    def __init__(self, *people: Person) -> None:
        self.people = people
        self.orders: list[tuple[str, Order]] = []
        self.left = -1
        """Bytes that it carries before it is cut; negative: it is not."""
        self.dies_at: type[Order] | None = None
        """The order on which it is cut, before that has arrived."""
        self.carried = 0
        self.plugged = True
        """Whether the two can reach each other."""
        self._links: dict[str, bytes] = {}  # of each, by their own id
        self._shared: dict[str, dict[bytes, Share]] = {}
        self._wishes: dict[str, list[tuple[Fetch, int]]] = {}
        self._clear()

    def run(self, *, until: Callable[[], bool] = lambda: False) -> None:
        """Move messages, and bytes by the link, but no time."""
        while not until():
            moved = [person.push() or person.pull(8) for person in self.people]
            if not (self.step() or any(moved) or self.people[0].server.finish_checks()):
                return

    def step(self) -> bool:
        """Carry out what the engines want, and one part of what is fetched. Return whether there was anything."""
        moved = False
        for person in self.people:
            for order in person.engine.take_link_orders():
                moved = True
                self.orders.append((person.name, order))
                self._obey(person, order)
        for person in self.people:
            moved |= self._give(person)
        return moved

    def cut(self, reason: str = "the connection was lost") -> None:
        """Neither side reaches the other one any more."""
        links, self._links = self._links, {}
        self._clear()
        for person in self.people:
            if person.name in links:
                person.engine.link_news([(links[person.name], Down(reason))])
                person.flush()

    def wanted(self, kind: type[Order]) -> list[str]:
        """Who has given orders of a kind."""
        return [name for name, order in self.orders if isinstance(order, kind)]

    def _clear(self) -> None:
        self._shared = {person.name: {} for person in self.people}
        self._wishes = {person.name: [] for person in self.people}

    def _other(self, person: Person) -> Person:
        return next(each for each in self.people if each is not person)

    def _tell(self, person: Person, news: Offer | Answer | Moved | News) -> None:
        if person.name in self._links:
            person.engine.link_news([(self._links[person.name], news)])
            person.flush()

    def _obey(self, person: Person, order: Order) -> None:
        wishes = self._wishes[person.name]
        if self.dies_at is not None and isinstance(order, self.dies_at):
            self.dies_at = None
            self.cut()
            return
        match order:
            case Listen(link, _):
                self._links[person.name] = link
                self._tell(person, Offer(link, _CERTIFICATE, _THERE))
            case Knock() if not self.plugged:
                person.engine.link_news([(order.link, Down("their address does not answer"))])
            case Knock():
                self._links[person.name] = order.link
                self._tell(person, Answer(order.offered, _CERTIFICATE))
            case Admit():
                for each in self.people:
                    self._tell(each, Up())
            case Share():
                self._shared[person.name][order.blob] = order
            case Withhold(_, blob):
                self._shared[person.name].pop(blob, None)
            case Fetch():
                wishes.append((order, order.offset))
            case Stop(_, blob):
                for wish in [each for each in wishes if each[0].blob == blob]:
                    wishes.remove(wish)
                    self._tell(person, Lacked(blob))
            case Have(_, blob):
                self._tell(self._other(person), Given(blob))
            case Close():
                self.cut("")

    def _give(self, person: Person) -> bool:
        if not self._wishes[person.name]:
            return False
        (order, at), giver = self._wishes[person.name].pop(0), self._other(person)
        shared = self._shared[giver.name].get(order.blob)
        if shared is None:
            self._tell(person, Lacked(order.blob))
            return True
        with shared.file.open("rb") as file:
            file.seek(at)
            data = file.read(min(PART, order.offset + order.length - at))
        if self.left >= 0:
            data = data[: self.left]
            self.left -= len(data)
        order.file.parent.mkdir(exist_ok=True)
        with order.file.open("r+b" if order.file.exists() else "wb") as file:
            file.truncate(at)
            file.seek(at)
            file.write(data)
        at += len(data)
        self.carried += len(data)
        self._wishes[person.name].insert(0, (order, at))
        self._tell(giver, Giving(order.blob, at))
        self._tell(person, Moved(order.blob, at))
        if self.left == 0:
            self.left = -1
            self.cut()
        elif at == order.offset + order.length:
            self._wishes[person.name].pop(0)
            self._tell(person, Fetched(order.blob))
        return True
