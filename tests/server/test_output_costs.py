"""What answers cost the server: small requests with large answers meet a bound, and honest clients get all of them."""

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest

from securechat.identity.keepsake import Keepsake
from securechat.server.app import Server
from securechat.server.sequencer.reading import FALL_BEHIND_BYTES
from securechat.wire import limits
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import Person
from tests.server.test_input_costs import connections_of, handled
from tests.support.waiting import wait_until

Enter = Callable[..., Person]

ASKED = 60


@pytest.fixture
def mallory(server: Server, enter: Enter) -> Iterator[Person]:
    """Somebody with the largest keepsake there can be, at a connection that takes little."""
    first = enter("mallory")
    blank = Keepsake(first.hello.server_id, "mallory", first.identity_key, 1, first.now, bytes(12), b"")
    filler = bytes(limits.MAX_KEEPSAKE - len(blank.signed_by(first.identity).encode()) - 8)
    full = Keepsake(first.hello.server_id, "mallory", first.identity_key, 1, first.now, bytes(12), filler)
    assert isinstance(first.ask(m.PutKeepsake, full.signed_by(first.identity).encode()), m.Done)
    with first.again(receive_buffer=4096) as slow:
        wait_until(lambda: len(connections_of(server, "mallory")) == 1)
        yield slow


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is not needed goes without the collector of cycles, which comes when it comes."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def ask_much(server: Server, who: Person, bob: Person) -> None:
    before = handled(server, who.account)
    for _ in range(ASKED):
        who.protocol.send(m.FetchKeepsake(who.protocol.next_id()))
    who.flush()
    wait_until(lambda: handled(server, who.account) == before + ASKED)
    assert isinstance(bob.ask(m.FetchStatements, "bob", b"", 0), m.Statements)  # in a turn after that of all the others


def test_answers_that_nobody_takes_are_not_made(server: Server, enter: Enter, mallory: Person) -> None:
    ask_much(server, mallory, enter("bob"))
    (there,) = connections_of(server, "mallory")
    assert len(there._queue) * limits.MAX_KEEPSAKE <= FALL_BEHIND_BYTES
    wait_until(lambda: there.payer.held == there.backlog > 0)  # what the system has not taken: the account pays
    assert there.backlog <= FALL_BEHIND_BYTES + 2 * limits.MAX_KEEPSAKE
    mallory.drop()


def test_the_twin_that_takes_them_gets_them_all(server: Server, enter: Enter, mallory: Person) -> None:
    ask_much(server, mallory, enter("bob"))
    (there,) = connections_of(server, "mallory")
    for _ in range(ASKED):
        reply = mallory.take(m.Reply)
        assert isinstance(reply, m.StoredKeepsake)
        assert len(reply.keepsake) > limits.MAX_KEEPSAKE - 16
    wait_until(lambda: there.backlog == 0)
    wait_until(lambda: there.payer.held == 0)


@pytest.mark.usefixtures("no_collector")
def test_the_memory_of_a_connection_goes_with_it(server: Server, enter: Enter, mallory: Person) -> None:
    bob = enter("bob")
    ask_much(server, mallory, bob)
    gone = [weakref.ref(each) for each in connections_of(server, "mallory")]
    mallory.drop()
    wait_until(lambda: not connections_of(server, "mallory"))
    assert isinstance(bob.ask(m.ListRooms), m.Rooms)  # something else has happened to the I/O thread
    wait_until(lambda: all(each() is None for each in gone))
