"""Contesting: a thief of the identity key has named a successor, and whoever has the old key can deny that."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from securechat.client import commands, events
from securechat.errors import SecurechatError, TrustError
from securechat.identity.statements import CONTEST_SECONDS, Statement, decode_link
from securechat.wire import messages as wire
from tests.client.test_succeeded import standing, succeed
from tests.support.memory_server import Link, MemoryPerson, MemoryServer
from tests.support.people import Person, settle

World = Callable[..., list[Person]]


@pytest.fixture
def pair(people: World) -> list[Person]:
    """alice has written to bob, the victim."""
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    return [alice, bob]


def come_back(victim: Person, *, contest: bool, lost: bool = False) -> SecurechatError | None:
    """Start again where the server has another identity key; returns how that ends."""
    victim.settings = replace(victim.settings, contest=contest)
    victim.crash()
    victim.connect()

    def inward(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        return [] if lost and link is victim.link and isinstance(message, wire.Publish) else [message]

    victim.server.inward = inward
    for _ in range(100):
        if victim.engine.failure:
            break
        moved = victim.push() or victim.pull(8) or victim.server.finish_checks()
        if not moved:
            break
    victim.server.inward = lambda _, message: [message]
    return victim.engine.failure


def signed(heir: MemoryPerson, key: bytes) -> list[str]:
    """What the old key of an account has stated, by the server's word."""
    reply = heir.ask(wire.FetchStatements, heir.account, key, 0)
    links = map(decode_link, reply.links)
    return [link.action for link in links if isinstance(link, Statement)]


def test_whoever_comes_back_is_told_when_their_key_named_another_and_what_to_do(
    server: MemoryServer, pair: list[Person]
) -> None:
    alice, bob = pair
    succeed(server, bob)
    failure = come_back(bob, contest=False)
    assert isinstance(failure, TrustError)
    assert "has named another one on" in str(failure)
    assert "--contest" in str(failure)
    settle(alice)
    assert not alice.of(events.KeyContested)


def test_what_is_contested_is_accepted_with_nobody(server: MemoryServer, pair: list[Person]) -> None:
    alice, bob = pair
    old = bob.engine._context.device.identity_key
    heir, _ = succeed(server, bob)
    settle(alice)
    assert standing(alice, "bob", heir.identity_key) == "accepted"
    assert "You have denied" in str(come_back(bob, contest=True))
    alice.cut()  # no log of hers has either key: she asks when she comes back
    alice.connect()
    settle(alice)
    assert {standing(alice, "bob", key) for key in (old, heir.identity_key)} == {"contested"}
    assert len(alice.of(events.KeyContested)) == 1
    assert signed(heir, old) == ["succeed", "contest"]
    assert "You have denied" in str(come_back(bob, contest=False))  # it stays said
    assert signed(heir, old) == ["succeed", "contest"]


def test_it_is_signed_once_whatever_is_lost(server: MemoryServer, pair: list[Person]) -> None:
    _, bob = pair
    old = bob.engine._context.device.identity_key
    heir, _ = succeed(server, bob)
    assert come_back(bob, contest=True, lost=True) is None
    made = bob.engine._context.device.chain[-1]
    assert isinstance(made, Statement)
    assert made.action == "contest"
    assert "You have denied" in str(come_back(bob, contest=True))
    assert bob.engine._context.device.chain[-1] == made
    assert signed(heir, old) == ["succeed", "contest"]


def test_after_a_month_the_server_refuses_it(server: MemoryServer, pair: list[Person]) -> None:
    _, bob = pair
    old = bob.engine._context.device.identity_key
    heir, _ = succeed(server, bob)
    server.now += (CONTEST_SECONDS + 60) * 1000
    assert "within 30 days" in str(come_back(bob, contest=True))
    assert signed(heir, old) == ["succeed"]


def test_with_nothing_to_contest_it_is_an_ordinary_login(pair: list[Person]) -> None:
    _, bob = pair
    assert come_back(bob, contest=True) is None
    assert not bob.engine._context.device.has_contested
