"""kill -9 between any two writes of what changes keys: a rotation, a revocation, a succession, a new identity.

What was begun is done whole or not at all; the same request again finishes it, and nobody is locked out.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from securechat.identity.statements import decode_link
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.transport.tls import client_context
from securechat.wire import messages as m
from securechat.wire.chain import STATEMENT
from securechat_lab.cast.live import PATIENCE
from securechat_lab.cast.wire_client import Person, WireClient
from tests.support import kill_points
from tests.support.live import LiveServer
from tests.support.talker_process import TROUBLE, Talker

MOST = 80
"""More writes than any of these makes."""


@pytest.fixture
def point(tmp_path: Path) -> Path:
    return tmp_path / "kill point"


@pytest.fixture
def server(start_server: Callable[..., LiveServer], point: Path) -> LiveServer:
    return start_server(environment={kill_points.VARIABLE: str(point)})


@dataclass
class Change:
    """What somebody asks the server for: `asks` under the keys after that, `old` is the device before it."""

    old: Person
    asks: Person
    request: m.Publish

    def again(self) -> Person:
        """Whoever asks, over another connection, logged in with the password."""
        new = Person(self.asks.port, self.asks.context, self.asks.account)
        for name in ("device", "identity", "signature", "chain", "bundles"):
            setattr(new, name, getattr(self.asks, name))
        return new.login(publish=False)

    def after(self, chains: list[list[bytes]]) -> list[list[bytes]]:
        """The chains of the identity keys before and after it, once it is done."""
        keys = (self.old.identity_key, self.asks.identity_key)
        links = [(decode_link(each).identity_key, each) for each in self.request.links]
        return [
            [*chain, *(each for whose, each in links if whose == key)]
            for chain, key in zip(chains, keys, strict=True)
        ]


def prepare(what: str, old: Person, opened: ExitStack) -> Change:
    """What is to happen to a device that is in a room."""
    if what == "rotation":
        was = opened.enter_context(old.again())
        asks = opened.enter_context(old.again())
        asks.rotate()
        return Change(was, asks, published(asks))
    new = Person(old.port, old.context, old.account)
    if what == "succession":
        new.device = old.device
        statement = old.state("succeed", new.identity_key, successor=new.identity)
        opened.enter_context(new.login(publish=False))
        old.token = new.token  # one of a device is there at a time
        new.signature = SignaturePrivateKey.generate(SUITE)
        return Change(old, new, published(new, [statement.encode(), new.certify().encode()]))
    opened.enter_context(new.login(publish=False))
    if what == "new identity":
        new.state("restart", old.identity_key)
        new.certify()
        return Change(old, new, published(new))
    new.identity, new.chain = old.identity, list(old.chain)
    new.certify()
    new.publish()
    own = old.certificate()
    new.state("revoke", own.signature_key, device_id=own.device_id)
    new.rotate()
    return Change(old, new, published(new))


def published(person: Person, links: list[bytes] | None = None) -> m.Publish:
    packages = [person.key_package() for _ in range(3)]
    return m.Publish(0, person.unpublished() if links is None else links, packages[1:], packages[0])


def killed_by(server: LiveServer, person: Person, request: m.Publish | m.ChangePassword) -> bool:
    """Make a request; whether the server has died of it before it could answer."""
    request.id = person.protocol.next_id()
    person.send(request)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if any(isinstance(each, m.Published | m.PasswordChanged) and each.id == request.id for each in person.received):
            return False
        if server.has_ended:
            return True
        person.pump(0.02)
    raise AssertionError(f"the server neither answers nor ends: {person.received}")


def may_resume(person: Person) -> bool:
    with WireClient(person.port, person.context) as client:
        return isinstance(client.ask(m.Resume, *person.credentials(client.channel)), m.LoggedIn)


def chains(reader: Person, change: Change) -> list[list[bytes]]:
    """What the server has of the chains of the identity keys before and after."""
    with reader.again() as asks:
        found = [
            asks.ask(m.FetchStatements, reader_of, key, 0).links
            for reader_of, key in ((each.account, each.identity_key) for each in (change.old, change.asks))
        ]
    return [list(each) for each in found]


def statements_in(reader: Person, room: bytes, begin: int) -> int:
    """How many statements are in a log behind an entry."""
    with reader.again() as reads:
        reply = reads.ask(m.Subscribe, room, begin)
        assert isinstance(reply, m.Subscribed), reply
        entries = [reads.take(m.Entry) for _ in range(reply.head - begin)]
    return [each.kind for each in entries].count(STATEMENT)


@pytest.mark.parametrize("what", ["rotation", "revocation", "succession", "new identity"])
def test_the_server_killed_between_any_two_writes_has_done_all_or_nothing(
    server: LiveServer, point: Path, what: str
) -> None:
    tls = client_context(server.ca)
    bob = Person(server.port, tls, "bob").register().login()
    answered, undone, unheard = False, 0, 0
    for number in range(MOST):
        with ExitStack() as opened:
            old = opened.enter_context(Person(server.port, tls, f"alice{number}").register().login())
            assert isinstance(old.open_room(f"#room{number}"), m.Done)
            with bob.again() as joins:
                room = joins.join(f"#room{number}")
                begin = joins.cursors[room]
            change = prepare(what, old, opened)
            before = chains(bob, change)
            kill_points.arm(point, number)
            answered = not killed_by(server, change.asks, change.request)
            survived = kill_points.disarm(point)
        if not survived:  # be it of a write that came after the answer
            server.wait()
            server.start()
        found = chains(bob, change)
        assert found in (before, change.after(before))
        taken = found != before
        undone, unheard = undone + (not taken), unheard + (taken and not answered)
        assert (may_resume(change.old), may_resume(change.asks)) == (not taken, taken)
        stated = statements_in(bob, room, begin)
        assert stated == (taken and what in ("revocation", "succession"))
        with change.again() as asks:  # the same request again
            request = change.request
            reply = asks.ask(m.Publish, request.links, request.key_packages, request.last_resort)
            assert isinstance(reply, m.Published), reply
            assert reply.enrolled
        assert chains(bob, change) == change.after(before)
        assert statements_in(bob, room, begin) == (what in ("revocation", "succession"))
        if answered:
            break
    assert answered, "it makes more writes than were tried"
    assert undone > 3, "there was little to be killed between"
    assert unheard, "it was never killed between the commit and the answer"
    bob.drop()


def takes(server: LiveServer, person: Person, secret: bytes) -> bool:
    with WireClient(server.port, person.context) as client:
        return isinstance(client.ask(m.Login, person.account, secret, person.device), m.LoggedIn)


def test_the_server_killed_while_a_password_changes_knows_one_of_both(server: LiveServer, point: Path) -> None:
    tls, new = client_context(server.ca), b"n" * 32
    seen = set()
    for number in range(MOST):
        with Person(server.port, tls, f"alice{number}").register().login() as alice:
            token = alice.token
            kill_points.arm(point, number)
            answered = not killed_by(server, alice, m.ChangePassword(0, alice.secret, new))
            if not kill_points.disarm(point):  # be it of a write that came after the answer
                server.wait()
                server.start()
            alice.token = token
            resumed = may_resume(alice)
            changed = takes(server, alice, new)
            assert changed != takes(server, alice, alice.secret)
            assert changed != resumed  # a token of before ends with its password
            seen.add((answered, changed))
        with Person(server.port, tls, alice.account) as again:  # the same request again
            again.device, again.signature = alice.device, alice.signature
            again.identity, again.chain, old = alice.identity, alice.chain, again.secret
            again.secret = new if changed else old
            again.login()
            assert isinstance(again.ask(m.ChangePassword, old, new), m.PasswordChanged)
        assert (takes(server, alice, new), takes(server, alice, alice.secret)) == (True, False)
        if answered:
            break
    assert seen == {(False, False), (False, True), (True, True)}


EACH = 4
"""Of so many points one at which a client's process is killed; `tests/client/test_killed_rotation.py` takes all."""


def test_a_client_killed_in_the_middle_of_a_rotation_goes_on_with_it(
    start_server: Callable[..., LiveServer], talkers: Callable[..., list[Talker]], point: Path
) -> None:
    server = start_server()
    (alice,) = talkers(server, "alice", environment={kill_points.VARIABLE: str(point)})
    (bob,) = talkers(server, "bob")
    for talker in (alice, bob):
        talker.wait_until_ready()
    alice.tell("open", "bob")  # in an open room so many changes an hour meet a budget
    bob.wait_for("ConversationChanged accepted")
    died = 0
    for number in range(0, 10 * MOST, EACH):
        kill_points.arm(point, number)
        alice.tell("rotate")
        alice.wait_for("KeyRenewed", or_end=True)
        alice.tell("say", "bob", f"{number}")
        alice.wait_for(f"Delivered {number}", or_end=True)
        if kill_points.disarm(point):
            break
        died += 1
        alice.kill()
        alice.start()
        alice.wait_until_ready()
        alice.tell("say", "bob", f"{number}, again")
        bob.wait_for(f"Received {number}, again")
        bob.tell("say", "alice", f"{number}, too")
        alice.wait_for(f"Received {number}, too")
    assert died > 5, "there was little to be killed between"
    for talker in (alice, bob):
        assert not [each for each in talker.events if each.startswith((*TROUBLE, "OwnKeyUsed", "OutOfStep"))]
