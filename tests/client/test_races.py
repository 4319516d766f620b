"""Two rotations at once, and a revocation while a commit of the thief's is on its way: the log's order decides, one of
the two is told or does it again, and nobody is locked out."""

from collections.abc import Callable
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client.conversations import resync
from securechat.client.parts import PATH_MESSAGES
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.statements import Head, decode_link
from securechat.wire import messages as wire
from securechat.wire.chain import STATEMENT
from tests.client.test_following import club
from tests.client.test_renewing import SILENT, own_key
from tests.client.test_revoked import there
from tests.client.test_rotation import certificate, key, published
from tests.client.test_succeeded import login
from tests.support.chains import stated
from tests.support.memory_server import MemoryServer
from tests.support.people import PASSWORD, Person, settle
from tests.support.recovering import Recovering, file_of

__all__ = ["club"]  # a fixture
World = Callable[..., list[Person]]


def push_all(*people: Person) -> None:
    """Let everything that people have to say reach the server, and nothing come back."""
    for person in people:
        while person.push():
            pass


def pull_all(*people: Person) -> None:
    """Let everything that the server has to say arrive."""
    for person in people:
        while person.pull(8):
            pass


def submitted(server: MemoryServer, *people: Person) -> list[tuple[str, type[wire.Message]]]:
    """Who has sent what, from now on."""
    sent: list[tuple[str, type[wire.Message]]] = []

    def inward(link: object, message: wire.FromClient) -> list[wire.FromClient]:
        sent.extend((person.name, type(message)) for person in people if person.link is link)
        return [message]

    server.inward = inward
    return sent


def test_of_two_rotations_in_flight_at_once_both_are_in_the_end(server: MemoryServer, club: list[Person]) -> None:
    alice, bob, _ = club
    for person in club:
        person.happened.clear()
    old = {person: key(person) for person in (alice, bob)}
    sent = submitted(server, alice, bob)
    for person in (alice, bob):
        person.do(commands.Rotate())
        person.do(commands.Unlock(PASSWORD))
    with server.slow_checks():
        push_all(alice, bob)  # both are published before either has an answer
        assert server.finish_checks()
        pull_all(alice, bob)
        push_all(alice, bob)  # and both commit in one epoch
        commits = [who for who, what in sent if what is wire.Commit]
        assert sorted(set(commits)) == ["alice", "bob"]
        before = server.head(alice.id_of("#club")).epoch
        assert server.finish_checks()
    assert server.head(alice.id_of("#club")).epoch == before + 1  # one of the two
    settle(*club)
    for person in (alice, bob):
        assert key(person) != old[person]
        assert own_key(person, "#club") == key(person)
        assert published(server, person) == certificate(person)
    for person in club:
        person.say("#club", f"{person.name} is here")
        settle(*club)
    for person in club:
        assert sorted(person.texts("#club")[-3:]) == sorted(f"{each.name}: {each.name} is here" for each in club)
        assert not [event for event in person.happened if isinstance(event, (*SILENT, events.OutOfStep))]


def test_of_two_programs_that_renew_at_once_one_is_told(
    server: MemoryServer, people: World, tmp_path: Path
) -> None:
    """A recovered device, and the old one that was not lost."""
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    bob.say("alice", "hi")
    settle(alice, bob)
    alice.crash()  # the password is typed at the start, and the keepsake left
    alice.connect()
    settle(alice, bob)
    (tmp_path / "new").mkdir()
    new = Recovering(server, tmp_path / "new", file_of(alice))
    new.connect()
    while not new.engine._rotation.is_seated:
        assert new.push() or new.pull(8)
    alice.happened.clear()
    identity_key = certificate(alice).identity_key
    head = server.store.chains.read("alice", identity_key, 0, 99)[-1].seq
    with server.slow_checks():
        for person in (alice, new):
            person.do(commands.Rotate())
            person.do(commands.Unlock(PASSWORD))
        push_all(alice, new)
        assert server.finish_checks()
        pull_all(alice, new)
    after = [decode_link(each.link) for each in server.store.chains.read("alice", identity_key, head, 99)]
    settle(alice, new, bob)
    told = [person for person in (alice, new) if person.of(events.OwnKeyUsed)]
    devices = {each.device_id for each in after if isinstance(each, DeviceCertificate)}
    assert len(devices) == 1  # of what both have signed behind one link the server takes one
    assert told
    assert not bob.of(events.TwoHolders)
    if new in told:  # the user wants it to be the new one
        new.do(commands.Rotate())
        new.do(commands.Unlock(PASSWORD))
        settle(new, bob)
    assert new.of(events.Recovered)
    assert [each.device for each in server.store.directory.devices("alice")] == [certificate(new).device_id]
    assert published(server, new) == certificate(new)
    new.say("bob", "it is me")
    settle(new, bob)
    assert bob.texts("alice")[-1] == "alice: it is me"
    new.stop()


@pytest.mark.parametrize("move", ["commits", "enters again"])
@pytest.mark.parametrize("revoked", [True, False])
def test_a_revocation_that_comes_while_a_commit_of_the_thief_is_on_its_way_is_before_it(
    server: MemoryServer, club: list[Person], move: str, *, revoked: bool
) -> None:
    """Here bob's own program does what the thief's copy would: the server has it, and is still checking it."""
    alice, bob, carol = club
    room = alice.id_of("#club")
    own, thief = certificate(bob), there(bob)
    owner = login(server, bob)
    with server.slow_checks():
        if move == "commits":
            thief.row.sent_on_path = PATH_MESSAGES
        else:
            resync.supersede(thief)
        bob.say("#club", "I am bob")
        sent = submitted(server, bob)
        for _ in range(9):
            push_all(bob)
            if "Commit" in {what.__name__ for _, what in sent}:
                break
            pull_all(bob)
        assert ("bob", wire.Commit) in sent
        before = server.head(room)
        epoch = before.epoch
        if revoked:
            statement = stated(bob, "revoke", Head.after(own), key=own.signature_key, device_id=own.device_id)
            server.set_slow(slow=False)
            assert isinstance(owner.ask(wire.Publish, [statement.encode()], [], b""), wire.Published)
        assert server.finish_checks()
    kinds = [entry.kind for entry in server.entries(room)]
    assert (kinds[-1] == STATEMENT) == revoked
    assert server.head(room).epoch == epoch + (not revoked)
    bob.link = None
    settle(alice, carol)
    carol.say("#club", "and on")
    settle(alice, carol)
    assert alice.texts("#club")[-1] == "carol: and on"
    assert ("bob" in there(alice).row.members) == (not revoked)
    for person in (alice, carol):
        assert not person.of(events.Alarm)
        assert not person.of(events.Stopped)
    assert there(alice).group.epoch_authenticator == there(carol).group.epoch_authenticator
