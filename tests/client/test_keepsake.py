"""What is in a keepsake, who can open it, and when it is left."""

import os
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securechat.client import commands, events
from securechat.client.keepsake import (
    MAX_CONTENTS,
    MAX_NAMES,
    PADDING,
    Contents,
    KeptConversation,
    contents_of,
    decode,
    encode,
    seal,
    unseal,
)
from securechat.client.vault.identity_key import OpenedKey
from securechat.errors import DecodeError, PeerError
from securechat.identity.keepsake import Keepsake
from securechat.identity.pins import Pin
from securechat.identity.statements import EMPTY, Head
from securechat.policy import Identity
from securechat.wire import messages as m
from tests.support.memory_server import MemoryServer, refuse
from tests.support.people import Person, opened, settle

People = Callable[..., list[Person]]

KEY, OTHER = b"k" * 32, b"o" * 32
SERVER = b"s" * 16
CONTENTS = Contents(
    Head(3, b"h" * 32),
    (Pin("bob", KEY, "verified"), Pin("bob", OTHER, "refused"), Pin("carol", KEY, "accepted")),
    (
        KeptConversation(b"1" * 32, "direct", "bob", (Identity("bob", KEY),), 7),
        KeptConversation(b"2" * 32, "invite", "#club", (Identity("alice", OTHER), Identity("bob", KEY)), 1),
        KeptConversation(b"3" * 32, "open", "#lobby", (), 0),
    ),
    ((b"d" * 16, "laptop"), (b"e" * 16, "日本")),
)


def key() -> OpenedKey:
    return OpenedKey(bytearray(range(32)))


def sealed(contents: Contents = CONTENTS, number: int = 1) -> Keepsake:
    return seal(encode(contents), key(), server_id=SERVER, account="alice", number=number, time=1_700_000_000)


def test_what_is_put_in_comes_out_again() -> None:
    keepsake = Keepsake.decode(sealed().encode())
    assert (keepsake.number, keepsake.time, keepsake.account) == (1, 1_700_000_000, "alice")
    assert unseal(keepsake, key(), server_id=SERVER, account="alice") == CONTENTS


def test_one_from_before_devices_had_names_is_read() -> None:
    old = replace(CONTENTS, conversations=CONTENTS.conversations[:2], names=())  # the last byte of it is no zero
    before = encode(old).rstrip(b"\0")
    for padding in (0, 1, 100):  # where the names' length stands now there was padding, or nothing
        assert decode(before + bytes(padding)) == old
    newest = contents_of(EMPTY, (), (), [(bytes([each]) * 16, "x" * 32) for each in range(MAX_NAMES + 1)])
    assert newest.names[0][0] == bytes([1]) * 16
    assert len(newest.names) == MAX_NAMES


def test_the_server_sees_neither_names_nor_how_many_they_are() -> None:
    many, none = sealed().encode(), sealed(Contents(EMPTY, (), ())).encode()
    assert len(many) == len(none)
    assert len(encode(CONTENTS)) % PADDING == 0
    for secret in (b"bob", b"carol", b"laptop", b"#club", b"1" * 32, KEY, bytes(range(32))):
        assert secret not in many


def test_nobody_else_opens_it_and_no_byte_can_be_altered() -> None:
    good = sealed()
    for keepsake, whose, server_id, account in (
        (good, OpenedKey(bytearray(os.urandom(32))), SERVER, "alice"),
        (good, key(), bytes(16), "alice"),
        (good, key(), SERVER, "bob"),
        (replace(good, number=2), key(), SERVER, "alice"),
    ):
        with pytest.raises(PeerError):
            unseal(keepsake, whose, server_id=server_id, account=account)
    encoded = good.encode()
    for place in (0, 1, 2, 20, 26, 60, 66, 70, 80, len(encoded) - 100, len(encoded) - 1):
        altered = bytearray(encoded)
        altered[place] ^= 1
        with pytest.raises(PeerError):
            unseal(Keepsake.decode(bytes(altered)), key(), server_id=SERVER, account="alice")


def test_an_older_one_with_a_newer_number_does_not_open() -> None:
    """Whoever signs anew what was sealed under other fields has the identity key, and still cannot move it."""
    moved = replace(sealed(), time=1_800_000_000).signed_by(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    with pytest.raises(PeerError, match="does not open"):
        unseal(moved, key(), server_id=SERVER, account="alice")


def test_contents_that_contradict_themselves_are_refused() -> None:
    bob = Pin("bob", KEY, "accepted")
    club = CONTENTS.conversations[1]
    for wrong in (
        replace_in(pins=(bob, bob)),
        replace_in(pins=(bob, Pin("bob", OTHER, "verified"))),
        replace_in(pins=(Pin("Bob", KEY, "accepted"),)),
        replace_in(conversations=(club, club)),
        replace_in(conversations=(KeptConversation(b"1" * 32, "direct", "#club", (), 1),)),
        replace_in(conversations=(KeptConversation(b"1" * 32, "open", "lobby", (), 1),)),
        replace_in(conversations=(KeptConversation(b"1" * 32, "open", "#lobby", (), 1 << 60),)),
    ):
        with pytest.raises(DecodeError):
            decode(encode(wrong))
    good = encode(CONTENTS)
    for altered in (b"", good[:40], good + bytes(PADDING), good[:-1] + b"x"):
        with pytest.raises(DecodeError):
            decode(altered)


def replace_in(**changes: object) -> Contents:
    fields = {"head": CONTENTS.head, "pins": CONTENTS.pins, "conversations": CONTENTS.conversations}
    return Contents(**(fields | changes))  # type: ignore[arg-type]  # the fields of one


def test_what_is_newest_and_what_was_compared_goes_in_first() -> None:
    pins = [Pin(f"user-{number}", os.urandom(32), "accepted") for number in range(8000)]
    pins[-1] = Pin("user-7999", KEY, "verified")
    rooms = [KeptConversation(os.urandom(32), "open", f"#r{number}", (), number) for number in range(2000)]
    found = contents_of(EMPTY, pins, rooms)
    assert found.conversations == tuple(rooms)
    assert found.pins[0] == pins[-1]
    assert 3000 < len(found.pins) < 8000
    assert len(encode(found)) <= MAX_CONTENTS
    huge = tuple(Identity("owner", os.urandom(32)) for _ in range(400))
    rooms = [KeptConversation(os.urandom(32), "invite", f"#r{number}", huge, number) for number in range(30)]
    kept = contents_of(EMPTY, pins, rooms).conversations
    assert 10 < len(kept) < 30
    assert kept == tuple(rooms[-len(kept) :])


# --- when it is left ------------------------------------------------------------------------------------------------


def at_server(server: MemoryServer, person: Person) -> tuple[int, Contents] | None:
    found = server.store.keepsakes.find(person.name)
    if found is None:
        return None
    device = person.engine._context.device
    with opened(device.row.identity) as identity:
        keepsake = Keepsake.decode(found.keepsake)
        return keepsake.number, unseal(keepsake, identity, server_id=device.row.server_id, account=person.name)


def restart(person: Person) -> None:
    person.crash()
    person.connect()


def test_it_is_left_at_each_start_after_something_has_changed(server: MemoryServer, people: People) -> None:
    alice, bob = people("alice", "bob")
    first = at_server(server, alice)
    assert first is not None
    assert (first[0], first[1].pins, first[1].conversations) == (1, (), ())
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    assert at_server(server, alice) == first  # the password is not at hand any more
    restart(alice)
    settle(alice, bob)
    second = at_server(server, alice)
    assert second is not None
    number, contents = second
    assert number == 2
    assert [(pin.account, pin.state) for pin in contents.pins] == [("bob", "accepted")]
    (kept,) = contents.conversations
    bobs = Identity("bob", bob.engine._context.device.identity_key)
    assert (kept.id, kept.kind, kept.name, kept.anchors) == (alice.id_of("bob"), "direct", "bob", (bobs,))
    for _ in range(2):  # nothing has changed
        restart(alice)
        settle(alice, bob)
        assert at_server(server, alice) == second


def test_a_lost_answer_has_the_same_bytes_sent_again(server: MemoryServer, people: People) -> None:
    (alice,) = people("alice")
    alice.do(commands.CreateRoom("#club"))
    settle(alice)
    sent: list[bytes] = []

    def watch(_link: object, message: m.FromClient) -> list[m.FromClient]:
        if isinstance(message, m.PutKeepsake):
            sent.append(message.keepsake)
        return [message]

    server.inward = watch
    server.outward = lambda _link, message: [] if isinstance(message, m.Done) else [message]
    restart(alice)
    settle(alice)
    server.outward = lambda _link, message: [message]
    restart(alice)
    settle(alice)
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert alice.vault.keepsake.load().sealed == b""


def test_where_another_program_has_left_one_ours_gets_a_higher_number(server: MemoryServer, people: People) -> None:
    (alice,) = people("alice")
    device = alice.engine._context.device
    with opened(device.row.identity) as identity:
        theirs = seal(
            encode(CONTENTS), identity, server_id=device.row.server_id, account="alice", number=9, time=1_700_000_000
        )
    from securechat.server.store.records import StoredKeepsake

    server.store.keepsakes.put("alice", StoredKeepsake(device.identity_key, 9, theirs.encode()))
    alice.do(commands.CreateRoom("#club"))
    settle(alice)
    restart(alice)
    settle(alice)
    restart(alice)
    settle(alice)
    found = at_server(server, alice)
    assert found is not None
    assert (found[0], [each.name for each in found[1].conversations]) == (10, ["#club"])


def test_a_server_that_refuses_it_stops_nothing(server: MemoryServer, people: People) -> None:
    (alice,) = people("alice")

    def inward(link: object, message: m.FromClient) -> list[m.FromClient]:
        if isinstance(message, m.PutKeepsake):
            refuse(link, message, "slow-down")  # type: ignore[arg-type]  # a Link
            return []
        return [message]

    server.inward = inward
    alice.do(commands.CreateRoom("#club"))
    settle(alice)
    restart(alice)
    settle(alice, until=lambda: bool(alice.of(events.Refused)))
    (refused,) = alice.of(events.Refused)
    assert isinstance(refused, events.Refused)
    assert "The server does not keep what a recovery" in refused.text
    alice.say("#club", "all the same")
    settle(alice, until=lambda: bool(alice.of(events.Delivered)))
    server.inward = lambda _link, message: [message]
    restart(alice)
    settle(alice)
    found = at_server(server, alice)
    assert found is not None
    assert [each.name for each in found[1].conversations] == ["#club"]
