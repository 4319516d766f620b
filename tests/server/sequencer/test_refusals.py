"""Every request in every state. What is not yours answers exactly as what does not exist.

`TABLE` has a row for each request of the wire; a request without one fails here. The columns are what a request comes
to, as the name of the reply or the code of the refusal.
"""

import logging
import os
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from securechat.server.sequencer.sequencer import REFUSALS_LOGGED
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.frames import encode_frame
from tests.support.memory_server import MemoryClient, MemoryServer
from tests.support.memory_server import MemoryPerson as Person
from tests.support.pair import example

REQUESTS = [kind for kind in typing.get_args(m.FromClient) if issubclass(kind, m.Request)]
ABOUT_CONVERSATIONS = [kind for kind in REQUESTS if hasattr(example(kind), "conversation")]


@dataclass(frozen=True)
class Row:
    """What one request comes to, by who makes it.

    `greeted`: before the login. `enrolling`: logged in, device not published. `member`: about a conversation, room or
    account that one has to do with. `nothing`: about one that does not exist. `leaving`: from a device that has left
    and not acknowledged its last entry.

    Where `hidden`, strangers and devices that are out for good get the very answer of `nothing`. Before the hello every
    request ends the session; while logging in and while waiting for a seat every request is `not-now`.
    """

    member: str
    nothing: str
    leaving: str = "not-found"
    greeted: str = "not-now"
    enrolling: str = "not-now"
    hidden: bool = True


ONLY_BEFORE_LOGIN = "not-now"
TAKEN = "bad-request"  # who makes something under an id or name of another's cannot be told that it is free

TABLE: dict[type[m.Request], Row] = {
    m.Register: Row(ONLY_BEFORE_LOGIN, ONLY_BEFORE_LOGIN, ONLY_BEFORE_LOGIN, greeted="Registered"),
    m.Login: Row(ONLY_BEFORE_LOGIN, ONLY_BEFORE_LOGIN, ONLY_BEFORE_LOGIN, greeted="login-refused"),
    m.Resume: Row(ONLY_BEFORE_LOGIN, ONLY_BEFORE_LOGIN, ONLY_BEFORE_LOGIN, greeted="token-refused"),
    m.ExtendToken: Row("TokenExtended", "TokenExtended", "TokenExtended"),
    m.ChangePassword: Row("login-refused", "login-refused", "login-refused"),
    m.DeleteAccount: Row("login-refused", "login-refused", "login-refused"),
    m.FetchSessions: Row("SessionList", "SessionList", "SessionList"),
    m.EndSession: Row("Done", "Done", "Done"),
    m.Publish: Row("bad-request", "bad-request", "bad-request", enrolling="bad-request"),
    m.FetchStatements: Row("Statements", "Statements", "Statements", enrolling="Statements"),
    m.PublishKeyPackages: Row("Stock", "Stock", "Stock"),
    m.PutKeepsake: Row("bad-request", "bad-request", "bad-request"),
    m.FetchKeepsake: Row("StoredKeepsake", "StoredKeepsake", "StoredKeepsake", enrolling="StoredKeepsake"),
    m.FetchKeyPackages: Row("KeyPackages", "not-found"),
    m.OpenDirect: Row("wrong-number", "bad-request", "wrong-number", hidden=False),
    m.OpenRoom: Row("Done", "invalid-commit", TAKEN, hidden=False),
    m.Join: Row("JoinOffer", "not-found", "JoinOffer"),
    m.Resync: Row("JoinOffer", "not-found"),
    m.Submit: Row("bad-request", "not-found"),
    m.Commit: Row("bad-request", "bad-request", "bad-request"),
    m.Leave: Row("bad-request", "not-found"),
    m.HandBack: Row("not-allowed", "not-found"),
    m.FetchCheckpoints: Row("Checkpoints", "not-found", "Checkpoints"),
    m.CommitFailed: Row("Done", "not-found", "bad-request"),  # there: its own entering
    m.ListRooms: Row("Rooms", "Rooms", "Rooms", enrolling="Rooms"),
    m.Members: Row("MemberList", "not-found"),
    m.StartBlob: Row("BlobState", "not-found"),
    m.PutBlob: Row("not-now", "not-now", "not-now"),  # none was started
    m.FetchBlob: Row("gone", "not-found", "gone"),
    m.DropBlob: Row("Done", "not-found", "Done"),
    m.Subscribe: Row("Subscribed", "not-found", "Subscribed"),
}


def test_every_request_has_a_row() -> None:
    assert set(TABLE) == set(REQUESTS)


class Raw:
    """Requests as bytes, past the client's own machine, which would not send most of them."""

    def __init__(self, client: MemoryClient) -> None:
        self._link = client.link
        self._next_id = 1_000_000  # far from those of the machine
        self.events: list[object] = []

    def ask(self, *requests: m.Request) -> list[bytes]:
        """Send requests at once; their replies, encoded, with the id 0."""
        sent = []
        for request in requests:
            self._next_id += 1
            sent.append(msgspec.structs.replace(request, id=self._next_id))
        self._link.receive_data(b"".join(encode_frame(request) for request in sent))
        found: dict[int, bytes] = {}
        while self._link.to_client:
            message = self._link.take()
            if isinstance(message, m.Reply):
                found[message.id] = encode_frame(msgspec.structs.replace(message, id=0))
            else:
                self.events.append(message)
        return [found[request.id] for request in sent]


def request_of(kind: type[m.Request]) -> m.Request:
    request = example(kind)
    assert isinstance(request, m.Request)
    return request


def outcome(frame: bytes) -> str:
    reply = msgspec.msgpack.decode(frame[4:], type=m.FromServer)
    return reply.code if isinstance(reply, m.Refused) else type(reply).__name__


# --- before the login, and while waiting ---


@pytest.mark.parametrize("kind", REQUESTS)
def test_before_the_hello_every_request_ends_the_session(server: MemoryServer, kind: type[m.Request]) -> None:
    link = server.connect()
    link.receive_data(encode_frame(request_of(kind)))
    hello, closing = link.to_client  # the server's hello, which it says to everybody, and nothing but this
    assert isinstance(hello, m.Hello)
    assert hello == msgspec.structs.replace(server.hello, nonce=hello.nonce, time=hello.time)
    assert closing == m.Closing("protocol-error", f"{kind.__name__} before ClientHello")
    assert not link.open


@pytest.mark.parametrize("kind", REQUESTS)
def test_before_the_login(server: MemoryServer, kind: type[m.Request]) -> None:
    with MemoryClient(server) as client:
        assert [outcome(reply) for reply in Raw(client).ask(request_of(kind))] == [TABLE[kind].greeted]


@pytest.mark.parametrize("kind", REQUESTS)
def test_while_logging_in(server: MemoryServer, kind: type[m.Request]) -> None:
    with MemoryClient(server) as client:
        login = m.Login(0, "nobody", bytes(32), bytes(16))
        assert [outcome(reply) for reply in Raw(client).ask(login, request_of(kind))] == ["login-refused", "not-now"]


def test_while_waiting_for_a_seat(start: Callable[..., MemoryServer]) -> None:
    server = start(max_clients=1)
    with Person(server, "alice") as alice, Person(server, "bob") as bob:
        alice.register().login()
        bob.register().login()
        raw = Raw(bob)
        assert {kind: outcome(*raw.ask(request_of(kind))) for kind in REQUESTS} == dict.fromkeys(REQUESTS, "not-now")


def test_before_the_device_is_published(server: MemoryServer) -> None:
    with Person(server, "alice") as alice:
        raw = Raw(alice.register().login(publish=False))
        found = {kind: outcome(*raw.ask(request_of(kind))) for kind in REQUESTS}
        assert found == {kind: TABLE[kind].enrolling for kind in REQUESTS}


# --- after the login ---


class World:
    """alice and bob have a conversation of each kind; dave was in the open room; carol has never been anywhere."""

    def __init__(self, enter: Callable[..., Person]) -> None:
        self.alice, self.bob, self.carol, self.dave = (enter(name) for name in ("alice", "bob", "carol", "dave"))
        assert isinstance(self.alice.open_direct("bob"), m.Accepted)
        assert isinstance(self.alice.open_room("#den", "invite"), m.Done)
        assert isinstance(self.alice.open_room("#hall"), m.Done)
        self.direct, self.den, self.hall = self.alice.groups
        self.left = self.dave.join("#hall")
        commit = self.alice.make_commit(self.alice.groups[self.direct])
        self.genuine = (self.alice.encrypt(self.direct, "secret").payload, commit.message)
        accepted = self.dave.leave(self.hall)
        assert isinstance(accepted, m.Accepted)
        self.last = accepted.seq
        self.server = self.alice.server

    def forget_dave(self) -> None:
        """Dave acknowledges the last entry that is his, and the server forgets that he ever was there."""
        self.dave.send(m.Acknowledge(self.hall, self.last))
        self.server.tidy()
        assert isinstance(self.dave.ask(m.Subscribe, self.hall, self.last), m.Refused)


@pytest.fixture
def world(enter: Callable[..., Person]) -> World:
    return World(enter)


def about(kind: type[m.Request], conversation: bytes, room: str, account: str, **given: Any) -> m.Request:
    """A request about something, its bodies empty unless given."""
    request = request_of(kind)
    fields = {"conversation": conversation, "room": room, "account": account, "peer": account, **given}
    for name, value in fields.items():
        if hasattr(request, name):
            setattr(request, name, value)
    return request


def variants(kind: type[m.Request], *things: Any, genuine: tuple[bytes, ...]) -> list[m.Request]:
    """Requests about one thing that go wrong, or would go right, at different depths."""
    bodies: list[dict[str, Any]] = [
        {"payload": body, "commit": body, "proposal": body[: limits.MAX_PROPOSAL]} for body in (b"", b"x", *genuine)
    ]
    return [about(kind, *things, number=number, **body) for number in (1, 2, 99) for body in bodies]


NOTHING = ("#none", "nobody")


@pytest.mark.parametrize("kind", [kind for kind in REQUESTS if kind not in (m.Commit, m.OpenDirect)])
def test_a_member_is_answered(world: World, kind: type[m.Request]) -> None:
    request = about(kind, world.hall, "#hall", "bob", number=1)
    assert outcome(*Raw(world.alice).ask(request)) == TABLE[kind].member


@pytest.mark.parametrize("kind", REQUESTS)
def test_nothing_is_answered(world: World, kind: type[m.Request]) -> None:
    request = about(kind, os.urandom(32), *NOTHING, number=1)
    assert outcome(*Raw(world.carol).ask(request)) == TABLE[kind].nothing


@pytest.mark.parametrize("kind", [kind for kind in ABOUT_CONVERSATIONS if TABLE[kind].hidden])
def test_what_is_not_yours_answers_as_what_does_not_exist(world: World, kind: type[m.Request]) -> None:
    """For a stranger, and for a device that is out for good; whatever the request holds."""
    world.forget_dave()
    for person in (world.carol, world.dave):
        raw = Raw(person)
        nothing = raw.ask(*variants(kind, os.urandom(32), *NOTHING, genuine=world.genuine))
        for there in (world.direct, world.den, world.hall):
            assert raw.ask(*variants(kind, there, *NOTHING, genuine=world.genuine)) == nothing
        assert [event for event in raw.events if not isinstance(event, m.Ping)] == []


def test_a_room_by_invitation_is_not_there_for_strangers(world: World) -> None:
    raw = Raw(world.carol)
    nothing, hidden = raw.ask(about(m.Join, b"", "#nil", ""), about(m.Join, b"", "#den", ""))
    assert nothing.replace(b"#nil", b"#den") == hidden


def test_who_makes_a_room_learns_that_its_name_is_taken_and_nothing_of_what_has_it(world: World) -> None:
    """Names are one for all of a server, so that much cannot be hidden."""
    answers = set()
    for name, kind in (("#den", "open"), ("#den", "invite"), ("#hall", "open"), ("#hall", "invite")):
        refused = world.carol.open_room(name, kind)
        assert isinstance(refused, m.Refused)
        assert refused.text == f"there is a room {name}"
        answers.add(encode_frame(msgspec.structs.replace(refused, id=0, text="")))
    assert answers == {encode_frame(m.Refused(0, "exists", ""))}
    assert isinstance(world.carol.open_room("#nil"), m.Done)  # the twin


def test_the_inbox_of_another_device_is_not_there(world: World) -> None:
    raw = Raw(world.carol)
    nothing, hidden = raw.ask(m.Subscribe(0, os.urandom(16), 0), m.Subscribe(0, world.alice.device, 0))
    assert nothing == hidden
    assert outcome(nothing) == "not-found"


def test_an_account_that_has_never_published_a_device_is_not_there(world: World) -> None:
    raw = Raw(world.carol)
    with Person(world.server, "erin") as erin:
        erin.register()
        nothing, hidden = (raw.ask(m.FetchKeyPackages(0, name))[0] for name in ("arin", "erin"))
        erin.login()
        world.server.accounts.set_enabled("erin", enabled=False).result()
        (disabled,) = raw.ask(m.FetchKeyPackages(0, "erin"))
    assert nothing.replace(b"arin", b"erin") == hidden == disabled


def test_who_is_out_and_has_not_read_its_end_learns_of_nothing_after_it(world: World) -> None:
    world.carol.join("#hall")
    assert world.carol.subscribe(world.hall, 0).head == world.last + 1
    assert world.dave.subscribe(world.hall, 0).head == world.last


@pytest.mark.parametrize("kind", ABOUT_CONVERSATIONS)
def test_who_is_out_and_has_not_read_its_end(world: World, kind: type[m.Request]) -> None:
    """Its last number there was 2."""
    assert outcome(*Raw(world.dave).ask(about(kind, world.hall, "#hall", "bob", number=3))) == TABLE[kind].leaving


# --- logging in ---


def test_an_unknown_user_and_a_wrong_password_get_the_same_bytes(server: MemoryServer) -> None:
    with Person(server, "alice") as alice, MemoryClient(server) as stranger:
        alice.register()
        raw = Raw(stranger)
        names = ("alice", "nobody", "ALICE", "no body", "\x1b[2J", "a" * 32)
        answers = {raw.ask(m.Login(0, name, bytes(32), bytes(16)))[0] for name in names}
        assert len(answers) == 1
        assert outcome(raw.ask(m.Login(0, "alice", alice.secret, bytes(16)))[0]) == "LoggedIn"  # the twin


def test_what_is_refused_of_one_account_fills_no_log(
    enter: Callable[..., Person], caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = enter("alice"), enter("bob")
    with caplog.at_level(logging.DEBUG, "securechat.server"):
        for _ in range(REFUSALS_LOGGED + 5):
            assert isinstance(alice.ask(m.PublishKeyPackages, [b"none"], b"none"), m.Refused)
        assert isinstance(bob.ask(m.PublishKeyPackages, [b"none"], b"none"), m.Refused)
    lines = [record for record in caplog.records if "'event': 'refused'" in record.getMessage()]
    assert ["bob" in line.getMessage() for line in lines] == [False] * (REFUSALS_LOGGED + 5) + [True]
    levels = [line.levelno for line in lines]
    assert levels == [logging.INFO] * REFUSALS_LOGGED + [logging.DEBUG] * 5 + [logging.INFO]
