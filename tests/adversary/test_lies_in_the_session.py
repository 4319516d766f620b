"""A server that breaks the protocol itself, or turns into another one. docs/design.md, sections 4 and 7."""

import struct
from pathlib import Path

import msgspec
import pytest

from securechat import certs
from securechat.client import commands, events
from securechat.client.password_source import PasswordSource
from securechat.client.vault.vault import Vault
from securechat.errors import RefusedError, TrustError
from securechat.server.app import Server
from securechat.transport.certificate_files import CA, read_certificate
from securechat.transport.tls import server_context
from securechat.ui.exit_codes import exit_code
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.frames import encode_frame
from securechat_lab.cast.hostile import HostileServer, Link, Sent
from securechat_lab.cast.live import PASSWORD, LiveClient
from securechat_lab.cast.scenes import assert_calm, direct, happened, say
from tests.adversary.conftest import Crowd, Site

change = msgspec.structs.replace


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def array(*fields: object) -> bytes:
    return frame(msgspec.msgpack.encode(fields))


BROKEN: dict[str, tuple[Sent, str]] = {
    "huge frame": (struct.pack(">I", limits.MAX_FRAME + 1), "a message of 2097153 bytes, where 2097152 are allowed"),
    "another protocol": (b"HTTP/1.1 200 OK\r\n\r\n", "this is not the securechat protocol"),
    "empty frame": (frame(b""), ""),
    "garbage": (frame(b"\xc1" * 40), ""),
    "deeply nested": (frame(b"\x91" * 10_000), ""),
    "no array": (frame(msgspec.msgpack.encode({"Pong": 1})), ""),
    "unknown message": (array("Whatever", 1), "unknown message Whatever"),
    "a field too many": (array("Pong", 1), ""),
    "a field of another type": (array("Seat", "first"), ""),
    "a message that has no place here": (m.Seat(0), "Seat in state ready"),
    "a second hello": (m.Hello([1], "", "", bytes(16), "open", bytes(32), bytes(32), 0), "Hello in state ready"),
    "a client's message": (m.Subscribe(1, bytes(32), 0), ""),
    "an answer to nothing": (m.Done(4_000_000), "Done 4000000 answers no open request"),
    "a time nobody can show": (m.Entry(bytes(32), 1, 1 << 62, bytes(16), 1, b"", b""), ""),
    "a welcome too long ago": (array("Welcomed", -1, 0, bytes(32), 1, bytes(32), b"", b"", []), ""),
}


def test_what_no_honest_server_sends_costs_the_connection_and_no_more(hostile: HostileServer, crowd: Crowd) -> None:
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)
    for number, (lie, (sent, told)) in enumerate(BROKEN.items()):
        hostile.link("alice").tell_client(sent)
        alice.wait_until(lambda number=number: len(list(filter(is_loss, alice.happened))) > number)  # type: ignore[misc]  # bound now
        reason = list(filter(is_loss, alice.happened))[-1].reason  # type: ignore[attr-defined]  # a Disconnected
        assert reason.startswith("The server broke the protocol: "), lie
        assert told in reason, lie
        alice.wait_until(lambda number=number: len(happened(alice, events.Ready)) == number + 2)  # type: ignore[misc]  # bound now
        say(alice, "bob", f"after {lie}")
    say(bob, "alice", "all well", alice)
    after = [f"alice: after {lie}" for lie in BROKEN]
    assert bob.texts("alice") == ["alice: hello", "bob: hi", *after, "bob: all well"]
    assert alice.texts("bob") == bob.texts("alice")
    assert_calm(alice, bob)


def is_loss(event: events.Event) -> bool:
    return isinstance(event, events.Disconnected)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda request: m.Stock(request.id, []), "Stock 1 answers no open request"),
        (
            lambda request: m.LoggedIn(request.id, "mallory", bytes(32), 1, 0, b"", 0, bytes(32), b"", 0),
            "the server logged us in as somebody else",
        ),
        (lambda _: b"\x00\x00\x10\x00" + bytes(3000), ""),
    ],
    ids=["another answer", "another account", "a frame that never ends"],
)
def test_a_wrong_answer_to_the_login_is_not_followed(
    hostile: HostileServer, crowd: Crowd, answer: object, told: str
) -> None:
    (alice,) = crowd("alice")
    lies: list[m.Message] = []

    def lie(link: object, request: m.Resume) -> list[m.Message] | None:
        if lies:
            return None
        lies.append(request)
        link.tell_client(answer(request))  # type: ignore[attr-defined, operator]  # a Link, a function
        if not told:
            link.drop()  # type: ignore[attr-defined]  # the client would wait for the rest of the frame
        return []

    hostile.from_client[m.Resume] = lie  # type: ignore[assignment]  # the table's key is the type
    hostile.link("alice").drop()
    alice.wait_until(lambda: len(happened(alice, events.Ready)) == 2)
    reasons = [event.reason for event in happened(alice, events.Disconnected)]
    assert len(lies) == 1
    assert told in reasons[-1]


def test_a_server_without_a_common_version_is_told_and_tried_again(hostile: HostileServer, crowd: Crowd) -> None:
    (alice,) = crowd("alice")
    old = hostile.lie(m.Hello, lambda _, hello: [change(hello, versions=[99])] if not old.told else None)
    hostile.link("alice").drop()
    alice.wait_for(events.Disconnected, lambda event: "no common protocol version" in event.reason)
    alice.wait_until(lambda: len(happened(alice, events.Ready)) == 2)


def test_another_server_behind_the_same_certificate_is_refused_before_anything_secret_is_sent(
    hostile: HostileServer, crowd: Crowd
) -> None:
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)
    hostile.lie(m.Hello, lambda _, hello: [change(hello, server_id=bytes(16))])
    first = hostile.link("alice")
    links = len(hostile.links)
    first.drop()
    error = alice.wait_for(events.Ended).error
    assert isinstance(error, TrustError)
    assert str(error).startswith("This is not the server this vault belongs to: its id has changed.")
    assert int(exit_code(error)) == 5
    assert [link.requests for link in hostile.links[links:]] == [{}]
    alice.vault.close()

    hostile.from_server.clear()
    alice.start()
    alice.wait_for(events.Ready)
    say(alice, "bob", "back", bob)


@pytest.mark.parametrize("imitated", [True, False])
def test_a_server_that_imitates_another_gets_in_there_with_nobodys_token(
    server: Server, certificates: Path, tmp_path: Path, *, imitated: bool
) -> None:
    """It has that one's id and nonces, and a CA that somebody was talked into; the twin has that one's certificate."""
    alice = LiveClient(Site(tmp_path, certificates / "ca.pem", server.port), "alice")
    alice.wait_for(events.Ready)
    alice.close()
    shown = certificates
    if imitated:
        shown = tmp_path / "imitation"
        certs.generate(shown, ["localhost"])
    context = server_context(shown / "server.pem", shown / "server-key.pem")
    with HostileServer(context, ("127.0.0.1", server.port), certificates / "ca.pem") as hostile:
        hostile.from_client[m.Login] = lambda *_: []
        alice = LiveClient(Site(tmp_path, shown / "ca.pem", hostile.port), "alice", start=False)
        vault = Vault.open(alice.path, "alice", PasswordSource.typed(PASSWORD))
        with vault.transaction():  # once it has logged in by the password there, it resumes by the token
            ca = CA.of(read_certificate(shown / "ca.pem"))
            vault.authorities.take_up(ca)
            vault.authorities.set_password(ca.pin)
        vault.close()
        alice.start()
        tried = "token-refused" if imitated else "accepted"
        alice.wait_until(lambda: server._counters.logins().get(("resume", tried)) == 1)
        if not imitated:
            assert alice.wait_for(events.LoggedIn).resumed
        assert [kind for kind, _ in server._counters.logins() if kind == "resume"] == ["resume"]
        alice.close()


def test_another_identity_key_of_our_own_at_the_server_is_told_and_not_overwritten(
    hostile: HostileServer, crowd: Crowd
) -> None:
    (alice,) = crowd("alice")
    hostile.lie(m.LoggedIn, lambda _, reply: [change(reply, identity_key=bytes(32))])
    hostile.link("alice").drop()
    error = alice.wait_for(events.Ended).error
    assert isinstance(error, TrustError)
    assert "alice has another identity key at the server than in this vault" in str(error)
    assert int(exit_code(error)) == 5
    alice.vault.close()


def test_who_is_in_a_conversation_is_not_for_the_server_to_say(hostile: HostileServer, crowd: Crowd) -> None:
    alice, bob = crowd("alice", "bob")
    conversation = direct(alice, bob)
    names = [m.Member(each, online=True, published=True) for each in ("bob", "mallory")]
    hostile.lie(m.MemberList, lambda _, reply: [change(reply, members=names)])
    alice.do(commands.ListMembers(conversation))
    assert alice.wait_for(events.MemberList).members == (
        ("alice", False, "verified"), ("bob", True, "accepted"),
    )  # fmt: skip


@pytest.mark.parametrize("farewell", ["shutdown", "too-slow", "garbage"])
def test_a_farewell_behind_much_that_is_not_processed_yet_ends_the_connection_and_no_client(
    hostile: HostileServer, crowd: Crowd, farewell: str
) -> None:
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)
    held: list[bytes] = []

    def hold(link: Link, entry: m.Entry) -> list[bytes] | None:
        """Send 90 entries and the end as one piece: more than a client makes one transaction of."""
        if link.account != "alice" or len(held) == 90:
            return None
        held.append(encode_frame(entry))
        if len(held) < 90:
            return []
        end = b"\0\0\0\x28" + bytes([0xC1]) * 40 if farewell == "garbage" else encode_frame(m.Closing(farewell, ""))  # type: ignore[arg-type]  # a reason
        return [b"".join(held) + end]

    hostile.from_server[m.Entry] = hold  # type: ignore[assignment]  # raw bytes
    for number in range(120):
        bob.do(commands.Send(bob.id_of("alice"), f"n{number}"))
    alice.wait_for(events.Disconnected)
    alice.read("bob", "bob: n119")


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("replaced", "If that was not you, somebody has a copy of it: start again, and type /rotate"),
        ("revoked", "change your password, start again, type /rotate, which brings this device back"),
        ("logged-out", "Start again with the password that opens your data here: if the account has another one"),
    ],
)
def test_what_was_stored_before_the_end_is_told_before_it(
    hostile: HostileServer, crowd: Crowd, reason: m.Reason, says: str
) -> None:
    """And the end itself with what to do."""
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)

    def last_words(link: Link, entry: m.Entry) -> list[bytes] | None:
        closing = m.Closing(reason, "it is the third of May")
        return [encode_frame(entry) + encode_frame(closing)] if link.account == "alice" else None

    hostile.from_server[m.Entry] = last_words  # type: ignore[assignment]  # raw bytes
    bob.say("alice", "last words")
    error = alice.wait_for(events.Ended).error
    assert isinstance(error, RefusedError)
    assert error.code == reason
    assert says in str(error)
    assert str(error).endswith(" The server says: it is the third of May.")
    assert "last words" in [event.message.text for event in alice.happened if isinstance(event, events.Received)]
    alice.vault.close()
