"""Offers of direct links: who may make and take them, what comes of a hostile one, and what the server keeps."""

import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client.conversations import ephemerals
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.ephemerals import ANSWERS, OFFERS
from securechat.client.conversations.linking import ANSWER_SECONDS, ASKED_SECONDS, MAX_ANSWER_SECONDS
from securechat.client.direct.carrying import Down, Up
from securechat.client.direct.endpoints import MAX_ENDPOINTS, Endpoint, Network
from securechat.client.direct.links import MAX_LINKS, Admit, Close, Knock, Links, Listen, Order, Told, Type
from securechat.client.direct.offers import LINK_ID_LENGTH, Answer, Offer
from securechat.client.direct.protocol import OPENING_SECONDS, Typed
from securechat.client.parts import Parts
from securechat.errors import DecodeError, UsageError
from securechat.transport.mutual import MAX_CERTIFICATE, make_credential
from securechat.wire import messages as wire
from securechat.wire.limits import MAX_EPHEMERAL
from securechat_lab.cast.live import LiveClient
from tests.client.test_directory import anew
from tests.client.test_revoked import revoke
from tests.support.live import LiveServer
from tests.support.memory_server import Link, MemoryServer
from tests.support.networks import Elsewhere, Loopback
from tests.support.people import Person, settle
from tests.support.waiting import wait_until

__all__ = ["anew"]  # a fixture
World = Callable[..., list[Person]]

HERE = ipaddress.ip_address("127.0.0.1")
PRIVATE = Endpoint(ipaddress.ip_address("10.1.2.3"), 4000)
CERTIFICATE = make_credential().certificate


@pytest.fixture
def pair(people: World) -> list[Person]:
    """alice and bob, who have written to each other."""
    alice, bob = both = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "Hello", ask=True))
    settle(*both)
    bob.accept("alice")
    settle(*both)
    for person, other in ((alice, "bob"), (bob, "alice")):
        person.say(other, "here")
        settle(*both)
    return both


def link(person: Person, other: str, agreed: str = "private") -> None:
    person.do(commands.Link(person.id_of(other), agreed))  # type: ignore[arg-type]  # one of them


def orders(person: Person) -> list[Order]:
    return person.engine.take_link_orders()


def happened(person: Person, told: Told) -> None:
    person.engine.link_news([told])
    person.flush()


def states(person: Person) -> list[str]:
    return [each.state for each in person.happened if isinstance(each, events.LinkChanged)]


def there(person: Person, name: str) -> Conversation:
    found = person.engine._registry.get(person.id_of(name))
    assert found is not None
    return found


def listening(person: Person) -> bytes:
    """The link for which somebody's client has just been told to listen."""
    (order,) = orders(person)
    assert isinstance(order, Listen)
    return order.link


def knocking(person: Person) -> Knock:
    """The offer that somebody's client has just taken."""
    (order,) = orders(person)
    assert isinstance(order, Knock)
    return order


def say(person: Person, other: str, offer: Offer) -> None:
    """Say an offer, as a client that keeps to no rule may."""
    with person.engine._unit():
        person.engine._registry._ephemerals.say(there(person, other), OFFERS, bytes(offer))


def offered(alice: Person, bob: Person, endpoints: tuple[Endpoint, ...] = (PRIVATE,)) -> bytes:
    """alice offers bob a link; returns its id."""
    link(alice, "bob")
    made = listening(alice)
    happened(alice, (made, Offer(made, CERTIFICATE, endpoints)))
    settle(alice, bob, until=lambda: not alice.to_server)
    return made


def overheard(server: MemoryServer) -> list[wire.Ephemeral]:
    heard: list[wire.Ephemeral] = []

    def outward(_: Link, message: wire.FromServer) -> list[wire.FromServer]:
        heard.extend([message] if isinstance(message, wire.Ephemeral) else [])
        return [message]

    server.outward = outward
    return heard


def deliver(*people: Person) -> None:
    """Move messages, and no time."""
    while any(person.push() or person.pull(8) for person in people):
        pass


# --- two who agree ------------------------------------------------------------------------------------------------


def test_two_who_agree_come_together_and_the_user_hears_of_each_step(pair: list[Person]) -> None:
    alice, bob = pair
    link(bob, "alice")
    first = listening(bob)
    happened(bob, (first, Down("nobody has answered")))
    made = offered(alice, bob)
    deliver(*pair)
    knock = knocking(bob)
    assert (knock.offered, knock.certificate, knock.endpoints, knock.wide) == (made, CERTIFICATE, (PRIVATE,), False)
    answer = make_credential().certificate
    happened(bob, (knock.link, Answer(made, answer)))
    deliver(*pair)
    assert orders(alice) == [Admit(made, answer)]
    for person, its in ((alice, made), (bob, knock.link)):
        happened(person, (its, Up()))
        happened(person, (its, Down("")))
    assert states(alice) == ["offered", "up", "down"]
    assert states(bob) == ["down", "up", "down"]
    (told,) = [each for each in alice.happened if isinstance(each, events.LinkChanged) and each.addresses]
    assert (told.state, told.addresses) == ("offered", ("10.1.2.3",))
    assert not alice.engine._registry.linking._links


def test_of_two_offers_at_once_the_same_one_goes_on_at_both(pair: list[Person]) -> None:
    alice, bob = pair
    made = {}
    for person, other in ((alice, "bob"), (bob, "alice")):
        link(person, other)
        made[person.name] = listening(person)
        happened(person, (made[person.name], Offer(made[person.name], CERTIFICATE, (PRIVATE,))))
    deliver(*pair)
    kept, dropped = (alice, bob) if made["alice"] < made["bob"] else (bob, alice)
    assert orders(kept) == []
    assert [type(each) for each in orders(dropped)] == [Close, Knock]
    happened(dropped, (made[dropped.name], Down("it was given up")))
    assert "down" not in states(dropped)  # of which the user has to know nothing


def test_whoever_has_not_agreed_is_told_of_an_offer_once_in_a_while_and_connects_nowhere(
    pair: list[Person], server: MemoryServer
) -> None:
    alice, bob = pair
    for _ in range(3):
        made = offered(alice, bob)
        deliver(*pair)
        happened(alice, (made, Down("nobody has answered")))
    assert orders(bob) == []
    assert states(bob) == ["asked"]
    server.advance(server.seconds + ASKED_SECONDS)
    server.now += int(ASKED_SECONDS * 1000)
    made = offered(alice, bob)
    deliver(*pair)
    assert states(bob) == ["asked"] * 2
    happened(alice, (made, Down("nobody has answered")))
    bob.do(commands.Prefer("link", "off", bob.id_of("alice")))
    server.advance(server.seconds + ASKED_SECONDS)
    offered(alice, bob)
    deliver(*pair)
    assert (orders(bob), states(bob)) == ([], ["asked"] * 2)


def test_an_offer_that_nobody_answers_ends_in_time(pair: list[Person], server: MemoryServer) -> None:
    alice, bob = pair
    made = offered(alice, bob)
    assert alice.engine.timer is not None
    server.advance(server.seconds + OPENING_SECONDS)
    alice.engine.handle_timer()
    assert orders(alice) == [Close(made)]
    happened(alice, (made, Down("it was given up")))
    assert states(alice) == ["offered", "down"]


def test_whoever_agrees_while_an_offer_waits_takes_it(pair: list[Person], server: MemoryServer) -> None:
    alice, bob = pair
    made = offered(alice, bob)
    deliver(*pair)
    link(bob, "alice")
    knock = knocking(bob)
    assert (knock.offered, knock.certificate, knock.endpoints, knock.wide) == (made, CERTIFICATE, (PRIVATE,), False)
    happened(bob, (knock.link, Down("their address does not answer")))
    server.advance(server.seconds + OPENING_SECONDS)
    server.now += 1
    link(bob, "alice", "anywhere")  # what waited too long is not taken
    assert [type(each) for each in orders(bob)] == [Listen]


@pytest.mark.parametrize("ends", ["off", "block", "bye", "distrust", "revoked", "nothing"])
def test_a_link_ends_where_there_may_be_none_any_more(pair: list[Person], server: MemoryServer, ends: str) -> None:
    alice, bob = pair
    made = offered(alice, bob)
    happened(alice, (made, Up()))
    if ends == "off":
        link(alice, "bob", "off")
    elif ends == "block":
        alice.do(commands.Block("bob"))
    elif ends == "bye":
        for person, other in ((alice, "bob"), (bob, "alice")):
            person.do(commands.Bye(person.id_of(other)))
        settle(*pair)
    elif ends == "distrust":
        alice.do(commands.Distrust("bob"))
    elif ends == "revoked":
        bob.link = None
        revoke(server, bob)
        settle(alice)
    else:
        alice.cut()  # it needs no server
        alice.engine.handle_timer()
    assert (Close(made) in orders(alice)) == (ends != "nothing")


@pytest.mark.parametrize("key", ["another", "the same"])
def test_it_is_agreed_with_a_key_and_not_with_a_name(
    pair: list[Person], anew: Callable[[Person], Person], key: str
) -> None:
    alice, bob = pair
    alice.do(commands.Prefer("link", "anywhere", alice.id_of("bob")))
    if key == "another":
        bob = anew(bob)
        settle(alice, bob)
        alice.do(commands.Trust("bob"))
        alice.say("bob", "is it you?")
        settle(alice, bob)
        bob.accept("alice")
        settle(alice, bob)
        bob.say("alice", "it is")
        settle(alice, bob)
    found = alice.engine.snapshot.find("bob")
    assert found is not None
    say(bob, "alice", Offer(bytes(LINK_ID_LENGTH), CERTIFICATE, (PRIVATE,)))
    deliver(alice, bob)
    if key == "another":
        assert (found.prefers("link"), orders(alice), states(alice)) == ("ask", [], ["asked"])
    else:
        assert (found.prefers("link"), knocking(alice).wide) == ("anywhere", True)


def test_public_addresses_are_of_the_user_to_allow_for_one_person_at_a_time(pair: list[Person]) -> None:
    alice, _ = pair
    with pytest.raises(UsageError, match="one person at a time"):
        alice.do(commands.Prefer("link", "anywhere"))
    link(alice, "bob", "anywhere")
    (order,) = orders(alice)
    assert isinstance(order, Listen)
    assert order.wide


def test_a_room_has_no_links_nor_has_whoever_is_not_connected_or_has_not_spoken(people: World) -> None:
    alice, bob = both = people("alice", "bob")
    alice.do(commands.CreateRoom("#club"))
    settle(*both)
    with pytest.raises(UsageError, match="conversations of two"):
        link(alice, "#club")
    alice.do(commands.OpenDirect("bob", "Hello", ask=True))
    settle(*both)
    with pytest.raises(UsageError, match="No link can be offered to bob now"):
        link(alice, "bob")
    bob.accept("alice")
    settle(*both)
    alice.cut()
    with pytest.raises(UsageError, match="no connection"):
        link(alice, "bob")


@pytest.mark.parametrize("up", [True, False])
def test_while_there_is_a_link_the_server_does_not_see_who_types(
    pair: list[Person], server: MemoryServer, *, up: bool
) -> None:
    alice, bob = pair
    bob.do(commands.Prefer("link", "private", bob.id_of("alice")))
    made = offered(alice, bob)
    deliver(*pair)
    knock = knocking(bob).link
    for person, its in ((alice, made), (bob, knock)):
        happened(person, (its, Up()))
        if not up:
            happened(person, (its, Down("")))
    heard = overheard(server)
    server.now += 1
    alice.do(commands.Type(alice.id_of("bob"), typing=True))
    deliver(*pair)
    assert (orders(alice), len(heard)) == (([Type(made, typing=True)], 0) if up else ([], 1))
    for typing in (True, False):
        happened(bob, (knock, Typed(typing=typing)))
    told = [(each.account, each.typing) for each in bob.happened if isinstance(each, events.Typing)]
    assert told == ([("alice", True), ("alice", False)] if up else [("alice", True)])
    bob.do(commands.Prefer("show-typing", "off"))
    happened(bob, (knock, Typed(typing=True)))
    assert len([each for each in bob.happened if isinstance(each, events.Typing)]) == len(told)


# --- what others make of it ---------------------------------------------------------------------------------------


def test_what_comes_again_or_late_is_no_offer(pair: list[Person], server: MemoryServer) -> None:
    alice, bob = pair
    bob.do(commands.Prefer("link", "private", bob.id_of("alice")))
    heard = overheard(server)
    made = offered(alice, bob)
    deliver(*pair)
    happened(bob, (knocking(bob).link, Down("somebody else is at their address")))
    server.advance(server.seconds + ANSWER_SECONDS)
    assert bob.link is not None
    bob.link.send(heard[0])
    deliver(*pair)
    assert orders(bob) == []
    late = ephemerals.seal(there(alice, "bob").group, server.now, OFFERS, bytes(Offer(made, CERTIFICATE, (PRIVATE,))))
    server.now += ephemerals.FRESH_MILLISECONDS + 1
    bob.link.send(wire.Ephemeral(bob.id_of("alice"), late))
    deliver(*pair)
    assert orders(bob) == []


def test_an_offer_that_the_server_brings_to_another_conversation_is_none(people: World, server: MemoryServer) -> None:
    alice, bob, carl = everybody = people("alice", "bob", "carl")
    for other in (bob, carl):
        alice.do(commands.OpenDirect(other.name, "Hello", ask=True))
        settle(*everybody)
        other.accept("alice")
        settle(*everybody)
        for person, whom in ((alice, other.name), (other, "alice")):
            person.say(whom, "here")
            settle(*everybody)
        other.do(commands.Prefer("link", "private", other.id_of("alice")))
    heard = overheard(server)
    offered(alice, bob)
    (offer,) = heard
    assert carl.link is not None
    carl.link.send(wire.Ephemeral(carl.id_of("alice"), offer.payload))
    deliver(*everybody)
    assert orders(carl) == []
    assert states(carl) == []
    assert isinstance(knocking(bob), Knock)


def test_an_answer_that_was_not_asked_for_lets_nobody_in(pair: list[Person]) -> None:
    alice, bob = pair
    made = offered(alice, bob)
    deliver(*pair)


    def answer(link_id: bytes) -> list[Order]:
        """What alice's client does after bob's has answered."""
        with bob.engine._unit():
            said = bytes(Answer(link_id, CERTIFICATE))
            bob.engine._registry._ephemerals.say(there(bob, "alice"), ANSWERS, said)
        deliver(*pair)
        return orders(alice)

    assert answer(os.urandom(16)) == []
    assert answer(made) == [Admit(made, CERTIFICATE)]
    assert answer(made) == []


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_an_offer_under_the_id_of_ours_is_none(pair: list[Person], whose: str) -> None:
    alice, bob = pair
    made = offered(alice, bob)
    smaller = bytes(LINK_ID_LENGTH)
    say(bob, "alice", Offer(made if whose == "ours" else smaller, CERTIFICATE, (PRIVATE,)))
    deliver(*pair)
    if whose == "ours":
        assert orders(alice) == []
    else:
        close, knock = orders(alice)
        assert isinstance(knock, Knock)
        assert (close, knock.offered) == (Close(made), smaller)
        happened(alice, (made, Down("it was given up")))  # which ends nothing else
        made = knock.link
    link(alice, "bob", "off")
    assert orders(alice) == [Close(made)]


def test_one_id_that_many_offer_is_a_link_of_each_and_each_can_be_ended(people: World) -> None:
    alice, bob, carl = everybody = people("alice", "bob", "carl")
    shared, knocks = os.urandom(LINK_ID_LENGTH), []
    for other in (bob, carl):
        alice.do(commands.OpenDirect(other.name, "Hello", ask=True))
        settle(*everybody)
        other.accept("alice")
        settle(*everybody)
        for person, whom in ((alice, other.name), (other, "alice")):
            person.say(whom, "here")
            settle(*everybody)
        alice.do(commands.Prefer("link", "private", alice.id_of(other.name)))
        for _ in range(3):
            say(other, "alice", Offer(shared, CERTIFICATE, (PRIVATE,)))
            deliver(*everybody)
        knocks.append(knocking(alice))
    assert [each.offered for each in knocks] == [shared] * 2
    for knock in knocks:
        happened(alice, (knock.link, Up()))
    happened(alice, (knocks[0].link, Down("")))
    for name in ("bob", "carl"):
        link(alice, name, "off")
    assert orders(alice) == [Close(knocks[1].link)]


def test_offers_that_lead_nowhere_are_answered_ever_less_often(pair: list[Person], server: MemoryServer) -> None:
    alice, bob = pair
    alice.do(commands.Prefer("link", "private", alice.id_of("bob")))

    def answers() -> list[Order]:
        server.now += 1
        say(bob, "alice", Offer(os.urandom(LINK_ID_LENGTH), CERTIFICATE, (PRIVATE,)))
        deliver(*pair)
        return orders(alice)

    def answer_after(wait: float) -> bytes:
        """An answer comes so long after the last one, and not before."""
        server.advance(server.seconds + wait - 1)
        assert answers() == []
        server.advance(server.seconds + 1)
        (knock,) = answers()
        assert isinstance(knock, Knock)
        return knock.link

    (first,) = answers()
    happened(alice, (first.link, Down("their address does not answer")))
    wait = ANSWER_SECONDS
    while wait < MAX_ANSWER_SECONDS:
        happened(alice, (answer_after(wait), Down("their address does not answer")))
        wait = min(2 * wait, MAX_ANSWER_SECONDS)
    made = answer_after(MAX_ANSWER_SECONDS)
    for news in (Up(), Down("")):
        happened(alice, (made, news))
    happened(alice, (answer_after(ANSWER_SECONDS), Down("their address does not answer")))
    answer_after(ANSWER_SECONDS)


def test_the_largest_offer_fits_and_has_one_encoding() -> None:
    endpoints = tuple(Endpoint(ipaddress.ip_address(f"fd00::{each}"), 65535) for each in range(1, MAX_ENDPOINTS + 1))
    offer = Offer(os.urandom(16), CERTIFICATE, endpoints)
    encoded = bytes(offer)
    assert Offer.read(encoded) == offer
    assert len(encoded) + 128 + MAX_CERTIFICATE - len(CERTIFICATE) < MAX_EPHEMERAL
    answer = Answer(offer.link, CERTIFICATE)
    assert Answer.read(bytes(answer)) == answer
    for wrong in (b"", encoded[:-1], encoded + b"\0", bytes(Offer(offer.link, CERTIFICATE, endpoints * 2))):
        with pytest.raises(DecodeError):
            Offer.read(wrong)
    with pytest.raises(DecodeError):
        Answer.read(encoded)
    assert "fd00" not in repr(offer) + repr(Knock(offer.link, offer.link, CERTIFICATE, endpoints, wide=False))


# --- the real network ---------------------------------------------------------------------------------------------


def test_a_hostile_offer_has_us_connect_to_nothing() -> None:
    """With the network as it is, to services of this machine, whichever of its addresses is named."""
    own = [HERE, *(each for each in (ipaddress.ip_address(name) for name in _addresses()) if each != HERE)]
    told: list[Told] = []
    links = Links(Network(), lambda: None)
    services = []
    for address in own:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        service = socket.create_server((str(address), 0), family=family)
        service.settimeout(0)
        services.append(service)
    endpoints = tuple(Endpoint(address, each.getsockname()[1]) for address, each in zip(own, services, strict=True))
    for wide in (False, True):
        order = Knock(os.urandom(16), os.urandom(16), CERTIFICATE, endpoints[:MAX_ENDPOINTS], wide)
        links.carry_out(order, "127.0.0.1")
        told += links.take()
    assert [news for _, news in told] == [Down("they are at no address to which you let this client connect")] * 2
    for service in services:
        with pytest.raises(BlockingIOError):
            service.accept()
        service.close()


def _addresses() -> list[str]:
    found = {str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)}
    return [each for each in sorted(found) if "%" not in each][:3]


def test_a_client_has_a_few_links_and_ends_them_all() -> None:
    links = Links(Loopback(), lambda: None)
    made = [bytes([each]) * 16 for each in range(MAX_LINKS + 1)]
    for each in made:
        links.carry_out(Listen(each, wide=False), "")
    told = links.take()
    assert [type(news) for _, news in told] == [Offer] * MAX_LINKS + [Down]
    ports = [news.endpoints[0].port for _, news in told if isinstance(news, Offer)]
    links.carry_out(Admit(made[0], CERTIFICATE), "")
    links.close()
    ended: set[bytes] = set()

    def all_have() -> bool:
        ended.update(each for each, _ in links.take())
        return ended == set(made[:MAX_LINKS])

    wait_until(all_have)
    for port in ports:
        with pytest.raises(OSError):  # noqa: PT011 - which error it is, each system says differently
            socket.create_connection(("127.0.0.1", port), 60)
    links.carry_out(Admit(made[1], CERTIFICATE), "")
    assert links.take() == [(made[1], Down("nobody listens for it any more"))]


class Near(LiveClient):
    """Somebody on this machine, who takes it for another one."""

    parts = Parts(network=Elsewhere())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MemoryServer]:
    server = MemoryServer(tmp_path / "server")
    yield server
    server.stop()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveServer]:
    server = LiveServer(tmp_path)
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()


def changed(client: LiveClient, state: str) -> events.LinkChanged:
    return client.wait_for(events.LinkChanged, lambda event: event.state == state)


@pytest.fixture
def linked(live: LiveServer) -> Iterator[tuple[LiveClient, LiveClient]]:
    """alice and bob, who have a link."""
    alice, bob = Near(live, "alice"), Near(live, "bob")
    for each in (alice, bob):
        each.wait_for(events.Ready)
    alice.answer(commands.OpenDirect("bob", "Hello", ask=False))
    bob.id_of("alice")
    bob.wait_for(events.Received)
    bob.answer(commands.Accept(bob.id_of("alice")))
    bob.answer(commands.Send(bob.id_of("alice"), "here"))
    alice.wait_for(events.Received)
    assert isinstance(alice.answer(commands.Link(alice.id_of("bob"))), events.Done)
    assert changed(alice, "offered").addresses == ("127.77.66.55",)
    changed(bob, "asked")
    assert isinstance(bob.answer(commands.Link(bob.id_of("alice"))), events.Done)
    for each in (alice, bob):
        changed(each, "up")
    yield alice, bob
    for each in (alice, bob):
        if not any(isinstance(event, events.Ended) for event in each.happened):
            each.close()


linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere this machine has one loopback address of IPv4")


@linux
def test_the_server_keeps_no_address_that_one_told_the_other(
    live: LiveServer, linked: tuple[LiveClient, LiveClient]
) -> None:
    _, bob = linked
    bob.answer(commands.Link(bob.id_of("alice"), "off"))
    assert {changed(each, "down").reason for each in linked} == {""}
    for each in linked:
        each.close()
    assert live.stop() == 0
    traces = (b"127.77.66.55", Elsewhere.address.packed, b"securechat link")
    kept = [live.log, *(path for path in (live.folder / "data").rglob("*") if path.is_file())]
    assert len(kept) > 2
    for path in kept:
        assert not [each for each in traces if each in path.read_bytes()], path


DATA = os.urandom(3 << 20)


def share(alice: LiveClient, bob: LiveClient, folder: Path) -> int:
    """alice sends bob a file; returns its line at bob's."""
    source = folder / "sea.bin"
    source.write_bytes(DATA)
    assert isinstance(alice.answer(commands.SendFile(alice.id_of("bob"), str(source))), events.Done)
    return bob.wait_for(events.Received, lambda event: event.message.file is not None).message.local_id


def blobs(live: LiveServer) -> list[Path]:
    return [each for each in (live.folder / "data").rglob("*") if each.is_file() and each.stat().st_size > len(DATA)]


def copies(person: LiveClient) -> list[Path]:
    folder = person.path.with_name(f"{person.path.name}.files")
    return list(folder.iterdir()) if folder.exists() else []


def saved(bob: LiveClient, line: int, folder: Path) -> bytes:
    folder.mkdir()
    assert isinstance(bob.answer(commands.SaveFile(line, str(folder))), events.Done)
    return (folder / "sea.bin").read_bytes()


@linux
def test_a_file_comes_by_the_link_and_the_server_gets_none(
    live: LiveServer, linked: tuple[LiveClient, LiveClient], tmp_path: Path
) -> None:
    alice, bob = linked
    line = share(alice, bob, tmp_path)
    assert copies(alice)
    assert saved(bob, line, tmp_path / "saved") == DATA
    wait_until(lambda: copies(alice) == copies(bob) == [])  # nothing is left once they have it
    assert not blobs(live)


@linux
@pytest.mark.parametrize("what", ["is cut", "ends", "is damaged", "is short"])
def test_where_the_link_fails_the_same_file_comes_by_the_server(
    linked: tuple[LiveClient, LiveClient], tmp_path: Path, what: str
) -> None:
    alice, bob = linked
    line = share(alice, bob, tmp_path)
    if what in ("is damaged", "is short"):  # what alice gives by the link is not what she has sealed
        (copy,) = copies(alice)
        given = bytearray(copy.read_bytes())
        given[0] ^= 1
        other = tmp_path / "other"
        other.write_bytes(given if what == "is damaged" else given[: 1 << 20])
        shared = alice.client._runner._links._shared
        wait_until(lambda: bool(shared))  # bob may have the message before
        for each in shared:
            shared[each] = other
    (tmp_path / "saved").mkdir()
    if what == "ends":
        bob.answer(commands.Link(bob.id_of("alice"), "off"))
    bob.do(commands.SaveFile(line, str(tmp_path / "saved")))
    if what == "is damaged":
        bob.wait_for(events.Transferred, lambda event: event.transfer.stage == "opening")
    elif what == "is short":
        bob.wait_for(events.Transferred, lambda event: event.transfer.stage == "moving" and event.transfer.done > 0)
    if what != "ends":  # if it is cut, how far it had come by then does not matter
        bob.do(commands.Link(bob.id_of("alice"), "off"))
    bob.wait_for(events.FileSaved)
    assert (tmp_path / "saved" / "sea.bin").read_bytes() == DATA
    wait_until(lambda: not bob.client.transfers() and not alice.client.transfers())
