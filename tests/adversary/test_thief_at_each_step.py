"""A thief with bob's vault of yesterday, or of a month ago, tries each move: before his key is renewed, after that, and
after his device is revoked; at an honest server, and at one in league that gives the thief a session all the same.

Whatever gets through is told to bob. The same moves of his own program get through, and alarm nobody.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securechat.client import commands, events
from securechat.client.conversations import resync
from securechat.client.device import SUITE
from securechat.client.parts import PATH_MESSAGES
from securechat.identity.statements import Head, decode_link, state
from securechat.mls.framing import decode_body
from securechat.mls.key_package import KeyPackage
from securechat.server.accounts.records import Account
from securechat.server.sequencer import tokens
from securechat.server.store.records import Token
from securechat.wire import messages as wire
from securechat.wire.chain import STATEMENT
from tests.adversary.test_thief import (
    DAY,
    FOREIGN,
    Copy,
    cheap,
    closings,
    enter_again,
    pair,
    restart,
    rotate,
    server,
    stolen,
    there,
)
from tests.support.chains import certificate
from tests.support.memory_server import Link, MemoryServer
from tests.support.people import PASSWORD, Person, only, settle
from tests.support.recovering import Recovering, file_of

__all__ = ["cheap", "pair", "server", "stolen"]  # fixtures
change = msgspec.structs.replace
Stolen = Callable[[type[Copy]], Copy]

MOVES = ["resume", "speak", "commit", "re-enter", "publish", "revoke"]
TOLD = {"speak": {"older-copy"}, "commit": {"own-commit"}, "re-enter": {"own-commit"}}
AFTER = ["nothing", "rotation", "revocation"]


def ask(person: Person, request: wire.FromClient) -> wire.Reply | None:
    """The server's answer to a request that is none of the program's; None without a session."""
    link, replies = person.link, []

    def divert(_: Link, message: wire.FromServer) -> list[wire.FromServer]:
        if not isinstance(message, wire.Reply) or message.id < FOREIGN:
            return [message]
        replies.append(message)
        return []

    if link is None or not link.open or not person.of(events.LoggedIn):
        return None
    person.server.outward = divert
    link.receive(request)
    person.server.outward = lambda _, message: [message]
    return replies[0] if replies else None


def healed(bob: Person, alice: Person, after: str, folder: Path) -> Person:
    """Bob does what is in his power; returns who is bob from then on."""
    if after == "rotation":
        rotate(bob, alice)
    if after != "revocation":
        return bob
    restart(bob)  # with the password, which leaves a keepsake
    settle(bob, alice)
    contents = file_of(bob)
    bob.cut()
    folder.mkdir()
    new = Recovering(bob.server, folder, contents)
    new.connect()
    settle(new, alice)
    assert new.of(events.Recovered)
    return new


def let_in(copy: Copy, league: pytest.MonkeyPatch) -> None:
    """The server gives the copy a session whatever its token and key are worth."""

    def redeem(self: tokens.Tokens, request: wire.Resume, _channel: object) -> tuple[Account, Token]:
        account = self._find_account("bob")
        assert account is not None
        return account, Token(bytes(32), "bob", request.device, account.generation, self._turn.time + DAY)

    league.setattr(tokens.Tokens, "_redeem", redeem)
    device = copy.engine._context.device
    with copy.engine._unit():
        device.keep_token(device.row.token or os.urandom(32), copy.server.now + DAY)


def hand_out(alice: Person, bob: Person) -> None:
    """Have the key packages handed out that are of bob's own making: those of the copy come next."""
    while True:
        reply = ask(alice, wire.FetchKeyPackages(FOREIGN, "bob"))
        assert isinstance(reply, wire.KeyPackages)
        (package,) = (decode_body(each, KeyPackage) for each in reply.key_packages)
        if bob.vault.key_packages.find(package.reference(SUITE)) is None:
            return


def move_of(copy: Copy, move: str) -> bool:
    """Try it; whether the server has taken it."""
    logged_in = bool(copy.of(events.LoggedIn))
    room, server, device = copy.id_of("#club"), copy.server, copy.engine._context.device
    before = server.head(room).seq
    if move == "resume":
        return logged_in
    if move == "re-enter":
        return logged_in and isinstance(enter_again(room, copy, copy.link), wire.Accepted)  # type: ignore[arg-type]  # it has one
    if move == "publish":
        with copy.engine._unit():
            packages = device.make_key_packages(3, copy.clock.seconds())
            (last,) = device.make_key_packages(1, copy.clock.seconds(), last_resort=True)
        return isinstance(ask(copy, wire.PublishKeyPackages(FOREIGN, packages, last)), wire.Stock)
    if move == "revoke":
        chain = server.store.chains.read("bob", device.identity_key, 0, 99)
        forged = replace(
            state(
                Ed25519PrivateKey.generate(), Head.after(decode_link(chain[-1].link)), "revoke",
                server_id=server.store.server_id, account="bob", time=copy.clock.seconds(),
                key=certificate(copy).signature_key, device_id=device.id,
            ),
            identity_key=device.identity_key,
        )  # fmt: skip
        return isinstance(ask(copy, wire.Publish(FOREIGN, [forged.encode()], [], b"")), wire.Published)
    if move == "commit":
        there(copy, "#club").row.sent_on_path = PATH_MESSAGES
    if copy.state_of("#club") == "open":
        copy.say("#club", "I am bob")
    settle(copy)
    return server.head(room).seq > before


@pytest.mark.parametrize("league", [False, True], ids=["honest", "in league"])
@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("days", [1, 31])
@pytest.mark.parametrize("move", MOVES)
def test_each_move_of_a_copy_is_refused_or_told(
    pair: list[Person],
    server: MemoryServer,
    stolen: Stolen,
    tmp_path: Path,
    move: str,
    days: int,
    after: str,
    *,
    league: bool,
) -> None:
    alice, bob = pair
    copy = stolen(Copy)
    server.now += days * DAY
    owner = healed(bob, alice, after, tmp_path / "new")
    owner.happened.clear()
    with pytest.MonkeyPatch.context() as in_league:
        if league:
            let_in(copy, in_league)
        copy.connect()
        settle(copy)
        seated = bool(copy.of(events.LoggedIn))
        assert seated == (league or (after == "nothing" and days == 1))  # a token lives for 30 days
        taken = move_of(copy, move)
        copy.cut()
    if move == "publish" and taken:
        hand_out(alice, owner)
    assert taken == (seated and (move == "resume" or (after == "nothing" and move != "revoke")))
    if after != "revocation" and seated:
        assert closings(owner) == ["replaced"]  # which ends his program, and says what to do
    owner.cut()
    restart(alice)
    settle(alice)
    alice.do(commands.CreateRoom("#den"))
    settle(alice)
    alice.do(commands.Invite(alice.id_of("#den"), "bob"))
    settle(alice)
    restart(owner)  # which puts its own key packages in place of those of the copy
    settle(alice, owner)
    handed_out = taken and move == "publish"
    assert (owner.state_of("#den") == "open") == (not handed_out)
    out_of_step = {each.what for each in owner.of(events.OutOfStep) if isinstance(each, events.OutOfStep)}
    told = {"own-commit"} if move == "speak" and days == 31 else TOLD.get(move, set())  # a fresh path was due first
    assert out_of_step == (told if taken else set())
    refused = [each.text for each in owner.of(events.Alarm) if isinstance(each, events.Alarm)]
    assert bool(refused) == handed_out
    for name, theirs in (("#club", "#club"), ("alice", "bob")):
        owner.say(name, "it is me")
        settle(alice, owner)
        assert alice.texts(theirs)[-1] == "bob: it is me"
    assert not alice.of(events.Alarm)
    owner.stop()


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("days", [1, 31])
@pytest.mark.parametrize("move", MOVES)
def test_the_same_move_of_bobs_own_program_gets_through_and_alarms_nobody(
    pair: list[Person], server: MemoryServer, tmp_path: Path, move: str, days: int, after: str
) -> None:
    alice, bob = pair
    server.now += days * DAY
    owner = healed(bob, alice, after, tmp_path / "new")
    owner.happened.clear()
    alice.happened.clear()
    for person in (owner, alice):
        restart(person)
    settle(alice, owner)
    if move == "commit":
        there(owner, "#club").row.sent_on_path = PATH_MESSAGES
    elif move == "re-enter":
        resync.supersede(there(owner, "#club"))
    elif move == "publish":
        for _ in range(15):  # so that its stock runs low
            assert isinstance(ask(alice, wire.FetchKeyPackages(FOREIGN, "bob")), wire.KeyPackages)
        restart(owner)
    elif move == "revoke":
        owner.do(commands.RevokeDevice(certificate(owner).device_id.hex()[:8]))
        owner.do(commands.Unlock(PASSWORD))
    settle(alice, owner)
    assert owner.of(events.LoggedIn)
    alice.do(commands.CreateRoom("#den"))
    settle(alice, owner)
    alice.do(commands.Invite(alice.id_of("#den"), "bob"))
    settle(alice, owner)
    for name, theirs in (("#club", "#club"), ("alice", "bob"), ("#den", "#den")):
        owner.say(name, "it is me")
        settle(alice, owner)
        assert alice.texts(theirs)[-1] == "bob: it is me"
    for person in (owner, alice):
        for kind in (events.Alarm, events.OutOfStep, events.OwnKeyUsed, events.TwoHolders, events.Held, events.Stopped):
            assert not person.of(kind)
    assert bool(owner.of(events.KeyRenewed)) == (move == "revoke")
    owner.stop()


# --- servers that lie about what was revoked ------------------------------------------------------------------------


@pytest.mark.parametrize("lie", ["", "withheld", "behind the next change"])
def test_a_revocation_that_one_member_is_not_shown_in_its_place_is_told_to_them(
    pair: list[Person], server: MemoryServer, tmp_path: Path, lie: str
) -> None:
    """Carol alone is lied to, in a log that fits together for her; alice has the true one."""
    alice, bob = pair
    carol = Person(server, tmp_path, "carol")
    carol.register()
    carol.connect()
    settle(alice, bob, carol)
    alice.do(commands.Invite(alice.id_of("#club"), "carol"))
    settle(alice, bob, carol)
    alice.say("#club", "before")
    settle(alice, bob, carol)
    room = alice.id_of("#club")
    held: list[wire.Entry] = []
    shown = 0  # entries that she lacks

    def lies(message: wire.FromServer) -> list[wire.FromServer]:
        nonlocal shown
        if not isinstance(message, wire.Entry) or message.conversation != room or not lie:
            return [message]
        if message.kind == STATEMENT:
            held.append(message)
            shown = 1
            return []
        entry = change(message, seq=message.seq - shown)
        if lie == "behind the next change" and held:
            shown = 0
            return [entry, change(held.pop(), seq=message.seq)]
        return [entry]

    only(carol, lies)
    contents = file_of(bob)
    bob.link = None  # his computer is gone
    (tmp_path / "new").mkdir()
    new = Recovering(server, tmp_path / "new", contents)
    device = new.engine._context.device
    new.connect()
    server_device = certificate(bob).device_id
    while server.store.directory.device(("bob", server_device)) is not None:
        settle(alice, new, carol)
        server.seconds += 60
        new.engine.handle_timer()
    assert device.id != server_device
    settle(alice, new, carol)
    alice.say("#club", "after")
    settle(alice, new, carol)
    warned = carol.of(events.Alarm) + carol.of(events.Stopped)
    assert bool(warned) == bool(lie)
    assert not alice.of(events.Alarm)
    if not lie:
        assert carol.texts("#club")[-1] == "alice: after"
    for person in (carol, new):
        person.stop()


@pytest.mark.parametrize("lie", ["", "reordered", "one left out", "the last one withheld", "another's"])
def test_a_chain_that_is_shown_otherwise_than_it_was_signed_lets_nobody_go_on_behind_it(
    pair: list[Person], server: MemoryServer, tmp_path: Path, lie: str
) -> None:
    """Bob's new computer fetches all that his key has signed, and signs what follows."""
    alice, bob = pair
    for _ in range(2):
        rotate(bob, alice)
    bob.do(commands.Unlock(PASSWORD))
    settle(alice, bob)
    contents = file_of(bob)
    bob.link = None
    (tmp_path / "new").mkdir()
    new = Recovering(server, tmp_path / "new", contents)
    new.connect()
    foreign = server.store.chains.read("alice", certificate(alice).identity_key, 0, 9)

    def lies(message: wire.FromServer) -> list[wire.FromServer]:
        if not isinstance(message, wire.Statements) or not lie:
            return [message]
        links = {
            "reordered": message.links[::-1],
            "one left out": [message.links[0], *message.links[2:]],
            "the last one withheld": message.links[:-1],
            "another's": [foreign[0].link, *message.links[1:]],
        }[lie]
        return [change(message, links=links)]

    only(new, lies)
    before = server.store.chains.read("bob", contents.public, 0, 99)
    assert len(before) == 3
    for _ in range(20):
        while new.push() or new.pull(8):
            server.finish_checks()
        if new.engine.disconnect_reason:
            break
    assert bool(new.engine.disconnect_reason) == bool(lie)
    if lie:
        assert "broke the protocol" in new.engine.disconnect_reason
        assert server.store.chains.read("bob", contents.public, 0, 99) == before
        assert new.engine._recovery.step == "chain"
        only(new, lambda message: [message])
        new.cut()
        new.connect()
    settle(alice, new)
    assert new.of(events.Recovered)
    new.stop()
