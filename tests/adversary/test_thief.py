"""A thief with a copy of bob's vault, of yesterday or of a month ago: each move is refused or told, and the same move
of bob's own program goes through and alarms nobody.

Without the password the copy has every key but the account's identity key; with it, that one as well. The table is in
docs/attacks.md.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from securechat.client import commands, events
from securechat.client.conversations import resync
from securechat.client.conversations.conversation import Conversation
from securechat.client.conversations.numbers import encode_commit
from securechat.client.device import CAPABILITIES
from securechat.client.parts import PATH_MESSAGES
from securechat.identity.certificate import certificate_of
from securechat.identity.statements import Head
from securechat.mls.framing import MLSMessage, decode_body
from securechat.mls.group import Group
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package import KeyPackage
from securechat.mls.key_package_bundle import KeyPackageBundle
from securechat.mls.ratchet_tree import RatchetTree
from securechat.server.sequencer import validation
from securechat.server.store.sqlite import tail
from securechat.wire import messages as wire
from tests.client.test_renewing import own_key
from tests.support.chains import certificate, certified, show, stated
from tests.support.memory_server import Link, MemoryServer
from tests.support.people import PASSWORD, Person, only, settle

DAY = 86_400_000  # milliseconds
FOREIGN = 1 << 20
"""From this id on, requests are none of the program that has the connection."""
change = msgspec.structs.replace


class Copy(Person):
    """Somebody's program on a copy of their vault."""

    knows_password = False

    def start(self) -> None:
        """Open the copy; whoever does not know the password has the vault's key from the memory of the other one."""
        super().start()
        if not self.knows_password:
            self.vault.password.forget()


class Owner(Copy):
    """The same copy in the hands of its owner, who has restored a backup: the honest twin."""

    knows_password = True


@pytest.fixture(autouse=True)
def cheap(request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("cheap_argon2")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MemoryServer]:
    server = MemoryServer(tmp_path / "server")
    yield server
    server.stop()


@pytest.fixture
def pair(server: MemoryServer, tmp_path: Path) -> Iterator[list[Person]]:
    """Alice and bob, who talk in private and are in alice's #club."""
    alice, bob = both = [Person(server, tmp_path, name) for name in ("alice", "bob")]
    for person in both:
        person.register()
        person.connect()
    settle(*both)
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(*both)
    bob.say("alice", "hi")
    alice.do(commands.CreateRoom("#club"))
    settle(*both)
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    settle(*both)
    yield both
    for person in both:
        person.stop()


@pytest.fixture
def stolen(pair: list[Person], tmp_path: Path) -> Iterator[Callable[[type[Copy]], Copy]]:
    """Copy bob's vault as it is now; what it is called with makes a program of it, when its time has come."""
    _, bob = pair
    folder = tmp_path / "stolen"
    folder.mkdir()
    bob.stop()
    for file in bob.path.parent.glob(f"{bob.path.name}*"):
        shutil.copy(file, folder)
    bob.start()
    bob.connect()
    settle(*pair)
    copies: list[Copy] = []

    def make(kind: type[Copy]) -> Copy:
        copies.append(kind(bob.server, folder, "bob"))
        return copies[-1]

    yield make
    for copy in copies:
        copy.stop()


def rotate(bob: Person, *others: Person) -> None:
    """Bob's own program renews its key."""
    bob.do(commands.Rotate())
    bob.do(commands.Unlock(PASSWORD))
    settle(bob, *others)


def restart(person: Person) -> None:
    """Close a program, and start it again with the password."""
    person.stop()
    person.start()
    person.connect()


def there(person: Person, name: str) -> Conversation:
    """A conversation as a client has it."""
    found = person.engine._registry.find(name)
    assert found is not None
    return found


def told(person: Person, kind: type[events.Event]) -> list[events.Event]:
    return person.of(kind)


def changes(person: Person) -> list[tuple[str, str]]:
    return [(each.change, each.account) for each in person.happened if isinstance(each, events.ConversationChanged)]


def closings(person: Person) -> list[str]:
    """Why the server has ended somebody's connection."""
    assert person.link is not None
    return [each.reason for each in person.link.to_client if isinstance(each, wire.Closing)]


# --- resume -------------------------------------------------------------------------------------------------------


def test_a_copy_that_resumes_before_the_key_is_renewed_ends_the_session_of_its_owner(
    pair: list[Person], stolen: Callable[[type[Copy]], Copy]
) -> None:
    """The victim's program is told `replaced`, and ends with what to do."""
    _, bob = pair
    copy = stolen(Copy)
    copy.connect()
    settle(copy)
    assert copy.of(events.LoggedIn)
    assert closings(bob) == ["replaced"]


@pytest.mark.parametrize("days", [1, 31])
def test_a_copy_cannot_resume_once_the_key_is_renewed(
    pair: list[Person], server: MemoryServer, stolen: Callable[[type[Copy]], Copy], days: int
) -> None:
    alice, bob = pair
    server.now += days * DAY
    rotate(bob, alice)
    copy = stolen(Copy)
    copy.connect()
    settle(copy)
    assert not copy.of(events.LoggedIn)
    assert [each.why for each in copy.of(events.PasswordWanted)] == ["login"]  # type: ignore[attr-defined]  # its kind
    assert closings(bob) == []
    bob.say("alice", "undisturbed")
    settle(*pair)
    assert alice.texts("bob")[-1] == "bob: undisturbed"


# --- speak and commit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("move", "what"), [("speaks", "older-copy"), ("commits", "own-commit"), ("re-enters", "own-commit")]
)
def test_what_a_copy_says_and_changes_is_told_to_its_owner(
    pair: list[Person], stolen: Callable[[type[Copy]], Copy], move: str, what: str
) -> None:
    """Alice is away, too: what she has not read, the server keeps for bob as well, who counts as one with his copy."""
    alice, bob = pair
    for person in pair:
        person.cut()
    copy = stolen(Copy)
    copy.connect()
    settle(copy)
    club = there(copy, "#club")
    if move == "commits":
        club.row.sent_on_path = PATH_MESSAGES
    elif move == "re-enters":
        resync.supersede(club)  # with the signature key alone it enters anew, as any device may
    copy.say("#club", "I am bob")
    settle(copy)
    copy.cut()
    bob.connect()
    settle(bob)
    alice.connect()
    settle(*pair)
    assert (("re-entered", "bob") in changes(alice)) == (move != "speaks")  # bob's program has, after the commit
    assert what in {each.what for each in bob.of(events.OutOfStep)}  # type: ignore[attr-defined]  # its kind


def test_a_copy_that_re_enters_does_not_cut_its_owner_off(
    pair: list[Person],
    server: MemoryServer,
    stolen: Callable[[type[Copy]], Copy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The copy acknowledges in its owner's place, alice reads along, and the server keeps no message that all have."""
    monkeypatch.setattr(tail, "TAIL_SECONDS", -1)
    monkeypatch.setattr(validation, "SNAPSHOT_EPOCHS", 1)  # the server itself needs no handshake of before
    alice, bob = pair
    bob.cut()
    bob.say("#club", "typed on a train")
    copy = stolen(Copy)
    for day in range(2):
        server.now += DAY
        copy.connect()
        settle(copy, alice)
        resync.supersede(there(copy, "#club"))
        copy.say("#club", f"I am bob, day {day}")
        settle(copy, alice)
        copy.cut()
        server.tidy()
        entered = server.head(alice.id_of("#club")).time
        server.now += DAY
        bob.happened.clear()
        bob.connect()
        settle(*pair)
        (own,) = [each for each in bob.of(events.OutOfStep) if each.what == "own-commit"]  # type: ignore[attr-defined]  # its kind
        assert 0 <= entered - own.time < DAY  # type: ignore[attr-defined]  # its kind
        assert not bob.of(events.Alarm)
        assert not bob.of(events.Held)  # nobody is new
        room = server.head(bob.id_of("#club"))
        assert room.members[bob.engine._context.device.id].cursor == room.seq  # nothing is kept for bob any more
        bob.say("#club", f"that was not me, day {day}")
        settle(*pair)
        assert alice.texts("#club")[-1] == f"bob: that was not me, day {day}"
        assert there(alice, "#club").group.epoch_authenticator == there(bob, "#club").group.epoch_authenticator
        bob.cut()
    assert "bob: typed on a train" in alice.texts("#club")
    bob.connect()
    settle(*pair)
    rotate(bob, alice)
    copy.connect()
    settle(copy, alice)
    assert not there(copy, "#club").live
    bob.say("#club", "undisturbed")
    settle(*pair)
    assert alice.texts("#club")[-1] == "bob: undisturbed"


def enter_again(room: bytes, keys: Person, link: Link) -> wire.Reply:
    """Replace the leaf of somebody's device by their keys, over a connection of that device; the server's answer."""
    replies: list[wire.Reply] = []
    server, device = link.server, keys.engine._context.device

    def divert(_: Link, message: wire.FromServer) -> list[wire.FromServer]:
        if not isinstance(message, wire.Reply) or message.id < FOREIGN:
            return [message]
        replies.append(message)
        return []

    server.outward = divert
    link.receive(wire.Resync(FOREIGN, room))
    offer = replies.pop()
    if not isinstance(offer, wire.JoinOffer):
        server.outward = lambda _, m: [m]
        return offer
    tree = RatchetTree.decode(offer.tree)
    now, number = keys.clock.seconds(), offer.number + 1
    commit = Group.join_external(
        decode_body(offer.group_info, GroupInfo),
        tree,
        device.signature,
        credential=device.credential,
        capabilities=CAPABILITIES,
        remove_own_old_leaf=next(leaf for leaf, node in tree.leaves() if certificate_of(node).account == "bob"),
        authenticated_data=encode_commit(number, keys.clock.milliseconds()),
        validate=device.validator(now),
        now=now,
    )
    link.receive(wire.Commit(FOREIGN + 1, room, number, commit.message, b"", commit.group_info or b""))
    server.outward = lambda _, m: [m]
    (answer,) = replies
    return answer


@pytest.mark.parametrize("renewed", [False, True])
def test_once_the_key_is_renewed_no_session_lets_the_old_one_enter_again(
    pair: list[Person], stolen: Callable[[type[Copy]], Copy], *, renewed: bool
) -> None:
    """Not even over the connection of the owner's own program."""
    alice, bob = pair
    copy = stolen(Copy)
    if renewed:
        rotate(bob, alice)
    assert bob.link is not None
    answer = enter_again(bob.id_of("#club"), copy, bob.link)
    assert isinstance(answer, wire.Refused) == renewed
    assert isinstance(answer, wire.Accepted) == (not renewed)
    bob.cut()
    bob.connect()
    settle(*pair)
    bob.say("#club", "still me")
    settle(*pair)
    assert alice.texts("#club")[-1] == "bob: still me"
    assert [each.what for each in bob.of(events.OutOfStep)] == ["own-commit"] * (not renewed)  # type: ignore[attr-defined]  # its kind


def test_its_owners_own_program_comes_back_and_nobody_is_alarmed(pair: list[Person]) -> None:
    alice, bob = pair
    bob.cut()
    bob.connect()
    settle(*pair)
    bob.say("alice", "back")
    settle(*pair)
    assert not bob.of(events.OutOfStep)
    assert ("re-entered", "bob") not in changes(alice)
    for person in pair:
        assert not person.of(events.Alarm)


# --- publish ------------------------------------------------------------------------------------------------------


def an_old_key_package(copy: Copy) -> bytes:
    """One of those that the stolen vault has the private side of."""
    (encoded,) = copy.vault.one("SELECT bundle FROM key_packages LIMIT 1")
    return MLSMessage(KeyPackageBundle.decode(encoded).key_package).encode()


@pytest.mark.parametrize("lies", [True, False])
def test_a_server_in_league_cannot_hand_out_key_packages_of_the_copy(
    pair: list[Person], stolen: Callable[[type[Copy]], Copy], *, lies: bool
) -> None:
    alice, bob = pair
    rotate(bob, alice)  # alice sees the new certificate in the conversations
    package = an_old_key_package(stolen(Copy))
    assert isinstance(MLSMessage.decode(package).body, KeyPackage)
    if lies:
        only(alice, lambda m: [change(m, key_packages=[package]) if isinstance(m, wire.KeyPackages) else m])
    alice.do(commands.CreateRoom("#den"))
    settle(*pair)
    alice.do(commands.Invite(alice.id_of("#den"), "bob"))
    settle(*pair)
    refused = [each.text for each in alice.of(events.Refused) if isinstance(each, events.Refused)]
    assert ["older certificate of bob" in each for each in refused] == [True] * lies
    assert bob.state_of("#den") == ("" if lies else "open")


# --- revoked ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("revoked", "copy_has"), [(True, "done nothing"), (True, "committed"), (False, "done nothing")]
)
def test_the_copy_is_shut_out_of_every_conversation_once_its_owner_revokes_their_device(
    pair: list[Person], stolen: Callable[[type[Copy]], Copy], *, revoked: bool, copy_has: str
) -> None:
    """The server is in league: it lets the copy have a session all the same, as those who know the password get one."""
    alice, bob = pair
    for person in pair:
        person.do(commands.JoinRoom("#open"))
        settle(*pair)
    names = {"alice": "bob", "#club": "#club", "#open": "#open"}
    copy = stolen(Owner)
    if copy_has == "committed":
        for person in pair:
            person.cut()
        copy.connect()
        settle(copy)
        club = copy.engine._registry.find("#club")
        assert club is not None
        club.row.sent_on_path = PATH_MESSAGES
        copy.say("#club", "I am bob")
        settle(copy)
        copy.cut()
        for person in pair:
            person.connect()
        settle(*pair)
        assert "own-commit" in {each.what for each in bob.of(events.OutOfStep)}  # type: ignore[attr-defined]  # its kind
    old = certificate(bob)
    alice.happened.clear()
    if revoked:
        bob.do(commands.RevokeDevice(old.device_id.hex()[:8]))
        assert certificate(bob) == old
        bob.do(commands.Unlock(PASSWORD))
        settle(*pair)
        assert bob.of(events.KeyRenewed)
        assert certificate(bob).seq > old.seq
        for name, theirs in names.items():
            assert own_key(bob, name) == certificate(bob).signature_key != old.signature_key
            bob.say(name, "it is me")
            settle(*pair)
            assert alice.texts(theirs)[-1] == "bob: it is me"
    bob.cut()
    copy.happened.clear()
    restart(copy)
    settle(copy, alice)
    assert copy.of(events.LoggedIn)
    for name in ("alice", "#club"):
        copy.say(name, "it is me, too")
        settle(copy, alice)
        assert (alice.texts(names[name])[-1] == "bob: it is me, too") != revoked
    waits = [each.text for each in copy.of(events.Delayed) if isinstance(each, events.Delayed)]
    assert any("key has to be renewed" in each for each in waits) == revoked
    copy.cut()
    restart(bob)
    settle(*pair)
    for name, theirs in names.items():
        bob.say(name, "speaking on")
        settle(*pair)
        assert alice.texts(theirs)[-1] == "bob: speaking on"
    for kind in (events.Alarm, events.Held, events.TwoHolders, events.CameByOldKey):
        assert not alice.of(kind)
    if revoked:
        assert not bob.of(events.Held)
        assert not bob.of(events.OwnKeyUsed)


# --- with the password --------------------------------------------------------------------------------------------


def test_who_has_the_password_too_and_renews_the_key_is_told_to_the_owner(
    pair: list[Person], stolen: Callable[[type[Copy]], Copy]
) -> None:
    alice, bob = pair
    bob.cut()
    copy = stolen(Owner)
    copy.connect()
    settle(copy, alice)
    copy.do(commands.Rotate())
    copy.do(commands.Unlock(PASSWORD))
    settle(copy, alice)
    copy.cut()
    bob.stop()
    bob.start()
    bob.connect()
    settle(*pair)
    assert [each.what for each in bob.of(events.OwnKeyUsed)] == ["certify"]  # type: ignore[attr-defined]  # its kind


def test_a_fork_of_the_chain_that_a_server_in_league_shows_is_told_to_contacts(
    pair: list[Person], stolen: Callable[[type[Copy]], Copy]
) -> None:
    """The thief certifies behind the link that the copy knows, and the server shows that to alice alone."""
    alice, bob = pair
    before = Head.after(certificate(bob))
    forged = certified(stolen(Owner), before)
    rotate(bob, alice)
    assert not alice.of(events.TwoHolders)
    show(alice, forged)
    assert [each.account for each in alice.of(events.TwoHolders)] == ["bob"]  # type: ignore[attr-defined]  # its kind
    alice.say("bob", "which of you?")
    settle(*pair)
    assert alice.of(events.Held)
    assert bob.texts("alice")[-1] == "bob: hi"


@pytest.mark.parametrize("whose", ["the thief's", "the owner's"])
def test_a_revocation_by_the_thief_is_told_to_the_owner(
    pair: list[Person], stolen: Callable[[type[Copy]], Copy], whose: str
) -> None:
    _, bob = pair
    own = certificate(bob)
    revoked = stated(
        stolen(Owner), "revoke", Head.after(own), key=own.signature_key, device_id=own.device_id
    )
    if whose == "the owner's":
        with bob.engine._unit():
            bob.engine._context.device._sign(revoked)
    show(bob, revoked)
    assert [each.what for each in bob.of(events.OwnKeyUsed)] == ["revoke"] * (whose == "the thief's")  # type: ignore[attr-defined]


def test_rotations_of_the_owner_alarm_nobody(pair: list[Person], server: MemoryServer) -> None:
    alice, bob = pair
    first = certificate(bob)
    for _ in range(3):
        server.now += 31 * DAY
        rotate(bob, alice)
        rotate(alice, bob)
        bob.say("alice", "still me")
        alice.say("bob", "still you")
        settle(*pair)
    assert certificate(bob).seq == first.seq + 3
    for person in pair:
        for kind in (events.Alarm, events.TwoHolders, events.OwnKeyUsed, events.Held, events.CameByOldKey):
            assert not person.of(kind)
    assert sorted(bob.texts("alice")[-6:]) == 3 * ["alice: still you"] + 3 * ["bob: still me"]
