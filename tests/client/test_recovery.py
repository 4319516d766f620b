"""A new device takes the place of a lost one: killed anywhere, beside servers that lie, with files that do not fit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from securechat.client import commands, events
from securechat.client.conversations import phases
from securechat.client.device import mark
from securechat.client.keepsake import Contents, encode, seal, unseal
from securechat.client.recovery import ENTERING_CONNECTIONS, ENTERING_SECONDS, prepare_recovery
from securechat.client.recovery_file import RecoveryContents
from securechat.client.rotation import LOOK_SECONDS
from securechat.client.vault.identity_key import OpenedKey
from securechat.errors import RefusedError, TrustError, UsageError
from securechat.identity import pins
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.keepsake import Keepsake
from securechat.identity.statements import Head, decode_link
from securechat.server.sequencer.leases import IDLE_LEASES
from securechat.server.store.records import StoredKeepsake
from securechat.wire import messages as m
from tests.client.test_succeeded import login
from tests.stories.asking import questions
from tests.support.chains import certificate, stated
from tests.support.memory_server import MemoryServer
from tests.support.people import PASSWORD, Person, only, settle
from tests.support.recovering import Recovering, file_of

People = Callable[..., list[Person]]
PLACES = ("bob", "carol", "#club", "#small", "#lobby")


class Scene:
    """Alice talks with bob, owns a room, is in one of bob's, and in the lobby; bob spoke last everywhere."""

    def __init__(self, server: MemoryServer, people: People, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.alice, self.bob, self.carol = people("alice", "bob", "carol")
        self.others = [self.bob, self.carol]
        everybody = [self.alice, *self.others]
        self.alice.do(commands.OpenDirect("bob", "hello", ask=False))
        settle(*everybody)
        self.bob.say("alice", "hi")
        for owner, name in ((self.alice, "#club"), (self.bob, "#small")):
            owner.do(commands.CreateRoom(name))
            settle(*everybody)
            for other in everybody:
                if other is not owner:
                    owner.do(commands.Invite(owner.id_of(name), other.name))
            settle(*everybody)
        for person in everybody:
            person.do(commands.JoinRoom("#lobby"))
            settle(*everybody)
        for name in PLACES[2:]:
            self.carol.say(name, "before")
        settle(*everybody)
        self.ids = {name: self.alice.id_of(name) for name in PLACES}

    def lose(self) -> RecoveryContents:
        """Alice's computer starts once more, and dies."""
        self.alice.crash()
        self.alice.connect()
        settle(self.alice, *self.others)
        contents = file_of(self.alice)
        self.alice.stop()
        for person in self.others:
            person.happened.clear()
        return contents

    def recover(self, contents: RecoveryContents) -> Recovering:
        """She has a new one, which is not connected yet."""
        self.folder.mkdir(exist_ok=True)
        self.new = Recovering(self.server, self.folder, contents)
        self.new.obliging = False
        return self.new

    def only_revoke(self, contents: RecoveryContents) -> Recovering:
        """She has a borrowed one, which is not connected yet, and only shuts the lost device out."""
        folder = self.folder.with_name("borrowed computer")
        folder.mkdir()
        return Recovering(self.server, folder, contents, only_revoke=True)

    def all_read_each_other(self) -> None:
        for name in PLACES:
            people = [self.new, *(other for other in self.others if name[0] == "#" or other.name == name)]
            called = {each: "alice" if name == each.name else name for each in people}
            for person in people:
                person.say(called[person], f"{person.name} is here")
                settle(self.new, *self.others)
            for person in people:
                said = [f"{each.name}: {each.name} is here" for each in people]
                assert person.texts(called[person])[-len(people) :] == said

    def asked(self) -> set[str]:
        """What people were asked since she has a new one."""
        return {question for person in (self.new, *self.others) for question in questions(person)}


@pytest.fixture
def scene(server: MemoryServer, people: People, tmp_path: Path) -> Scene:
    return Scene(server, people, tmp_path / "new computer")


def outcome(person: Person) -> events.Recovered:
    (found,) = [event for event in person.happened if isinstance(event, events.Recovered)]
    return found


def told_recovered(person: Person) -> bool:
    return any(isinstance(event, events.Recovered) for event in person.happened)


def entered(person: Person) -> set[bytes]:
    return {each.id for each in person.engine._registry if each.row.phase in phases.INSIDE}


def test_it_enters_everything_puts_the_lost_device_out_and_nobody_is_asked(scene: Scene) -> None:
    old = scene.alice.engine._context.device.id
    before = scene.server.now
    new = scene.recover(scene.lose())
    new.connect()
    settle(new, *scene.others)
    found = outcome(new)
    assert (found.entered, found.missing, found.revoked) == (5, (), 1)
    assert before - 2000 <= found.kept <= scene.server.now
    assert entered(new) == set(scene.ids.values())
    assert scene.asked() == set()
    device = new.engine._context.device
    assert scene.server.store.directory.device((new.name, old)) is None
    assert device.id != old
    for each in scene.ids.values():
        members = scene.server.head(each).members.values()
        assert {member.device for member in members if member.account == "alice" and not member.last_seq} == {device.id}
    told = {(event.conversation.id, event.account) for person in scene.others for event in person.happened
            if isinstance(event, events.ConversationChanged) and event.change == "new-device"}  # fmt: skip
    assert told == {(each, "alice") for each in scene.ids.values()}
    scene.all_read_each_other()
    new.crash()  # an ordinary device by now
    new.happened.clear()
    new.connect()
    settle(new, *scene.others)
    assert not [event for event in new.happened if isinstance(event, events.Recovered)]
    scene.all_read_each_other()


def test_what_was_compared_or_refused_stays_so(scene: Scene) -> None:
    scene.alice.safety_number("bob")
    scene.alice.do(commands.Verify("bob"))
    scene.alice.safety_number("carol")
    scene.alice.do(commands.Distrust("carol", pins.short(scene.carol.engine._context.device.identity_key)))
    new = scene.recover(scene.lose())
    new.connect()
    settle(new, *scene.others)
    book = new.engine._context.pins
    assert book.standing("bob", scene.bob.engine._context.device.identity_key) == "verified"
    assert book.standing("carol", scene.carol.engine._context.device.identity_key) == "refused"


def test_killed_at_any_instant_it_goes_on_with_the_same_device(scene: Scene) -> None:
    new = scene.recover(scene.lose())
    device = new.engine._context.device.id
    steps = 0
    for allowed in range(200):
        new.connect()
        done = False
        for _ in range(allowed):  # so many messages go out; then it is killed, with what has come in between
            if not new.push():
                new.pull(8)
                for person in scene.others:
                    while person.push() or person.pull(8):
                        pass
        steps += 1
        done = any(isinstance(event, events.Recovered) for event in new.happened)
        new.crash()
        assert new.engine._context.device.id == device
        if done:
            break
        scene.server.seconds += 3600 / IDLE_LEASES  # else it has soon been let in too often without coming
    assert steps > 10
    new.connect()
    settle(new, *scene.others)
    assert new.vault.recovery.load() is None
    assert not [event for event in new.happened if isinstance(event, events.NotRegained)]
    assert entered(new) == set(scene.ids.values())
    certificates = [link for link in new.engine._context.device.chain if isinstance(link, DeviceCertificate)]
    assert len(certificates) == 3  # of the lost device, and of this one before and after it revoked that
    assert scene.asked() == set()
    scene.all_read_each_other()


def test_without_a_keepsake_everybody_is_a_first_contact(scene: Scene) -> None:
    contents = scene.lose()
    scene.server.store._writer.execute("DELETE FROM keepsakes")
    new = scene.recover(contents)
    new.connect()
    settle(new, *scene.others)
    assert outcome(new) == replace(outcome(new), kept=0, entered=0, missing=(), revoked=1)
    assert len(new.engine._registry) == 0
    new.do(commands.JoinRoom("#lobby"))
    settle(new, *scene.others)
    assert entered(new) == {scene.ids["#lobby"]}


def test_an_old_keepsake_is_dated_and_enters_what_it_names(scene: Scene) -> None:
    scene.alice.crash()
    scene.alice.connect()
    settle(scene.alice, *scene.others)
    kept = scene.server.store.keepsakes.find("alice")
    made = scene.server.now
    assert kept is not None
    scene.server.now += 20 * 86_400_000
    scene.alice.do(commands.CreateRoom("#later"))
    settle(scene.alice, *scene.others)
    contents = scene.lose()
    scene.server.store.keepsakes.put("alice", kept)  # the server shows the older one
    new = scene.recover(contents)
    new.connect()
    settle(new, *scene.others)
    assert abs(outcome(new).kept - made) < 5000
    assert entered(new) == set(scene.ids.values())
    scene.all_read_each_other()


@pytest.mark.parametrize("unlocks", [False, True])
def test_what_was_entered_since_the_last_unlock_is_not_in_the_keepsake(scene: Scene, *, unlocks: bool) -> None:
    """Of a room that nobody else could let a new device into, that is told."""
    scene.alice.crash()
    scene.alice.happened.clear()
    scene.alice.connect()
    settle(scene.alice, *scene.others)
    for command in (commands.CreateRoom("#later"), commands.JoinRoom("#square")):
        scene.alice.do(command)
        settle(scene.alice, *scene.others)
    assert [each.why for each in scene.alice.of(events.PasswordWanted)] == ["keepsake"]  # type: ignore[attr-defined]
    if unlocks:
        scene.alice.do(commands.Unlock(PASSWORD))
        settle(scene.alice, *scene.others)
    contents = file_of(scene.alice)
    scene.alice.stop()
    new = scene.recover(contents)
    new.connect()
    settle(new, *scene.others)
    assert entered(new) >= set(scene.ids.values())
    assert {name for name in ("#later", "#square") if new.engine.snapshot.find(name)} == (
        {"#later", "#square"} if unlocks else set()
    )
    assert outcome(new).missing == ()


# --- servers that lie -------------------------------------------------------------------------------------------------


def none_is_entered(scene: Scene, new: Recovering, *but: str) -> None:
    """Nothing is entered but these, all others are told of; beside an honest server everything is."""
    settle(new, *scene.others)
    assert entered(new) == {scene.ids[name] for name in but}
    told = {event.conversation for event in new.happened if isinstance(event, events.NotRegained)}
    assert told == {scene.ids[name] for name in PLACES if name not in but}
    assert set(outcome(new).missing) == set(PLACES) - set(but)
    scene.server.outward = lambda _link, message: [message]
    new.cut()
    new.connect()
    settle(new, *scene.others)
    lost = [name for name in PLACES if name[0] != "#" and name not in but]  # a revoked peer ends a private one
    assert entered(new) == {scene.ids[name] for name in PLACES if name not in lost}
    for name in lost:
        new.do(commands.OpenDirect(name, "here I am", ask=False))
        settle(new, *scene.others)
    scene.all_read_each_other()
    assert scene.asked() == set()


Answer = Callable[[int], list[m.FromServer]]

FOREVER: dict[str, Answer] = {
    "no answer": lambda _: [],
    "a lease": lambda request: [m.Refused(request, "leased", "somebody else is committing")],
    "a wait": lambda request: [m.Refused(request, "not-now", "this device is waiting already", retry_after=1000)],
}
"""What a server may say for ever to whoever wants to enter."""


@pytest.mark.parametrize("answer", FOREVER.values(), ids=FOREVER.keys())
@pytest.mark.parametrize("name", ["#club", "#lobby", "bob"])
def test_what_is_never_entered_does_not_keep_the_lost_device(scene: Scene, name: str, answer: Answer) -> None:
    old = scene.alice.engine._context.device.id
    new = scene.recover(scene.lose())
    started = scene.server.seconds
    new.connect()

    def never(message: m.FromServer) -> list[m.FromServer]:
        if isinstance(message, m.JoinOffer | m.Checkpoints) and message.conversation == scene.ids[name]:
            return answer(message.id)
        return [message]

    only(new, never)
    settle(new, *scene.others, until=lambda: told_recovered(new))
    assert scene.server.seconds - started <= 2 * ENTERING_SECONDS
    assert entered(new) == {scene.ids[each] for each in PLACES if each != name}
    assert (outcome(new).missing, outcome(new).revoked) == ((name,), 1)
    assert [event.conversation for event in new.happened if isinstance(event, events.NotRegained)] == [scene.ids[name]]
    assert scene.server.store.directory.device((new.name, old)) is None
    scene.server.outward = lambda _link, message: [message]
    new.cut()
    new.connect()
    settle(new, *scene.others)
    if name == "bob":  # a revoked peer ends a private one
        new.do(commands.OpenDirect(name, "here I am", ask=False))
        settle(new, *scene.others)
    assert len(entered(new)) == len(PLACES)
    scene.all_read_each_other()


def test_what_ends_each_connection_does_not_keep_the_lost_device(scene: Scene) -> None:
    old = scene.alice.engine._context.device.id
    new = scene.recover(scene.lose())
    cuts: list[m.FromServer] = []

    def cut(message: m.FromServer) -> list[m.FromServer]:
        if isinstance(message, m.JoinOffer) and message.conversation == scene.ids["#lobby"]:
            cuts.append(message)
            return []
        return [message]

    while not told_recovered(new):
        before = len(cuts)
        assert before < 10
        new.connect()
        only(new, cut)
        settle(new, *scene.others, until=lambda before=before: len(cuts) > before or told_recovered(new))  # type: ignore[misc]  # bound now
        new.cut()
    assert len(cuts) > ENTERING_CONNECTIONS
    assert "#lobby" in outcome(new).missing
    assert outcome(new).revoked == 1
    assert scene.server.store.directory.device((new.name, old)) is None
    scene.server.outward = lambda _link, message: [message]
    new.connect()
    settle(new, *scene.others)
    assert entered(new) >= {scene.ids[name] for name in PLACES if name[0] == "#"}


def shift(scene: Scene) -> dict[bytes, bytes]:
    """For each conversation another one."""
    ids = list(scene.ids.values())
    return dict(zip(ids, ids[1:] + ids[:1], strict=True))


def test_a_server_that_shows_other_conversations_gets_nobody_in(scene: Scene) -> None:
    new = scene.recover(scene.lose())
    instead = shift(scene)

    def lie(message: m.FromServer) -> list[m.FromServer]:
        if isinstance(message, m.JoinOffer):
            other = scene.server.offer(message.id, instead[message.conversation])
            return [m.JoinOffer(message.id, message.conversation, 0, other.group_info, other.tree, [])]
        if isinstance(message, m.Checkpoints):
            others = scene.server.store.conversations.read_checkpoints(instead[message.conversation])
            found = [
                m.Checkpoint(each.seq, each.time, each.chain, each.group_info, each.tree, [], []) for each in others
            ]
            return [m.Checkpoints(message.id, message.conversation, found)]
        return [message]

    new.connect()
    only(new, lie)
    none_is_entered(scene, new)


def test_a_server_that_keeps_checkpoints_back_shows_others_words_in_vain(scene: Scene) -> None:
    """The newest GroupInfo is signed by carol, who owns nothing. In the lobby there are no owners to ask for."""
    new = scene.recover(scene.lose())
    new.connect()
    only(new, lambda message: [m.Checkpoints(message.id, message.conversation, [])]
         if isinstance(message, m.Checkpoints) else [message])  # fmt: skip
    none_is_entered(scene, new, "bob", "carol", "#lobby")  # in the private ones whoever has made it is one of the two


def test_a_server_that_stops_at_an_earlier_epoch_gets_nobody_in(scene: Scene) -> None:
    """The keepsake knows of later ones: the server shows the past, with members who may be gone."""
    contents = scene.lose()
    kept = scene.server.store.keepsakes.find("alice")
    assert kept is not None
    identity = OpenedKey(bytearray(contents.private))
    keepsake = Keepsake.decode(kept.keepsake)
    found = unseal(keepsake, identity, server_id=contents.server_id, account="alice")
    later = tuple(replace(each, epoch=each.epoch + 1) for each in found.conversations)
    sealed = seal(
        encode(Contents(found.head, found.pins, later)), identity, server_id=contents.server_id, account="alice",
        number=keepsake.number + 1, time=keepsake.time,
    )  # fmt: skip
    scene.server.store.keepsakes.put("alice", StoredKeepsake(kept.identity_key, sealed.number, sealed.encode()))
    new = scene.recover(contents)
    new.connect()
    settle(new, *scene.others)
    assert entered(new) == set()
    assert set(outcome(new).missing) == set(PLACES)
    told = [event for event in new.happened if isinstance(event, events.NotRegained)]
    assert {event.conversation for event in told} == set(scene.ids.values())
    assert all("epoch not below" in event.why for event in told)


def test_a_keepsake_of_somebody_else_is_none(scene: Scene) -> None:
    scene.bob.crash()
    scene.bob.connect()
    contents = scene.lose()
    theirs = scene.server.store.keepsakes.find("bob")
    assert theirs is not None
    new = scene.recover(contents)
    new.connect()
    only(new, lambda message: [m.StoredKeepsake(message.id, theirs.keepsake)]
         if isinstance(message, m.StoredKeepsake) else [message])  # fmt: skip
    settle(new, *scene.others)
    assert outcome(new).kept == 0
    assert len(new.engine._registry) == 0
    (alarm,) = [event for event in new.happened if isinstance(event, events.Alarm)]
    assert "not yours" in alarm.text


def run_to_its_end(new: Recovering) -> object:
    """Move messages until the client has ended; why."""
    for _ in range(1000):
        if new.engine.failure:
            return new.engine.failure
        if not new.push() and not new.pull(8):
            new.server.finish_checks()
    raise AssertionError("it goes on")


def test_a_chain_that_is_shorter_than_the_keepsake_knows_is_refused(scene: Scene) -> None:
    contents = scene.lose()
    (link,) = scene.server.store.chains.read("alice", contents.public, 0, 9)
    assert isinstance(decode_link(link.link), DeviceCertificate)
    new = scene.recover(contents)
    new.connect()

    def lie(message: m.FromServer) -> list[m.FromServer]:
        if isinstance(message, m.LoggedIn):
            fields = {name: getattr(message, name) for name in message.__struct_fields__}
            return [m.LoggedIn(**(fields | {"chain_seq": 0, "chain_digest": bytes(32)}))]
        if isinstance(message, m.Statements):
            return [m.Statements(message.id, message.account, message.identity_key, [], more=False)]
        return [message]

    only(new, lie)
    failure = run_to_its_end(new)
    assert isinstance(failure, TrustError)
    assert "keeps back" in str(failure)
    assert len(scene.server.store.chains.read("alice", contents.public, 0, 9)) == 1


# --- only to shut the lost device out ---------------------------------------------------------------------------------


def revoked(person: Person) -> list[events.LostRevoked]:
    return [event for event in person.happened if isinstance(event, events.LostRevoked)]


@pytest.mark.parametrize("cut", [False, True])
def test_with_the_file_alone_a_lost_device_is_shut_out_at_once_and_the_borrowed_one_is_none(
    scene: Scene, *, cut: bool
) -> None:
    """The thief is in. Also where the answer is lost, and the same is asked for once more."""
    scene.alice.crash()
    scene.alice.connect()
    settle(scene.alice, *scene.others)
    contents = file_of(scene.alice)
    lost = scene.alice.engine._context.device
    thief = scene.alice
    borrowed = scene.only_revoke(contents)
    if cut:
        answers: list[m.FromServer] = []

        def lose(message: m.FromServer) -> list[m.FromServer]:
            if isinstance(message, m.Published) and not answers:
                answers.append(message)
                return []
            return [message]

        only(borrowed, lose)
    borrowed.connect()
    settle(borrowed, *scene.others, thief)
    if cut:
        assert not revoked(borrowed)
        borrowed.cut()
        borrowed.connect()
        settle(borrowed, *scene.others, thief)
    assert revoked(borrowed) == [events.LostRevoked((mark(lost.id),))]
    assert not borrowed.of(events.Ready)
    assert scene.server.store.directory.devices("alice") == []
    assert scene.server.store.directory.identity_key("alice") == contents.public
    thief.cut()
    thief.happened.clear()
    thief.connect()
    settle(thief, *scene.others)
    assert not thief.of(events.LoggedIn)  # its token is gone
    for person in scene.others:
        assert "revoked" in {each.change for each in person.happened if isinstance(each, events.ConversationChanged)}
    borrowed.stop()
    thief.stop()
    new = scene.recover(contents)
    new.connect()
    settle(new, *scene.others)
    assert {scene.ids["#small"], scene.ids["#lobby"]} <= entered(new)
    assert "bob" in outcome(new).missing  # a revoked key has signed the newest state there
    new.do(commands.OpenDirect("bob", "on a new computer", ask=False))
    settle(new, *scene.others)
    assert scene.bob.texts("alice")[-1] == "alice: on a new computer"


def test_where_no_device_speaks_for_the_account_nothing_is_signed(scene: Scene) -> None:
    contents = scene.lose()
    for time in range(2):
        borrowed = scene.only_revoke(contents)
        borrowed.connect()
        settle(borrowed, *scene.others)
        borrowed.stop()
        length = len(scene.server.store.chains.read("alice", contents.public, 0, 9))
        borrowed.path.parent.rename(scene.folder.with_name(f"borrowed before {time}"))
    assert revoked(borrowed) == [events.LostRevoked(())]
    assert length == 2


@pytest.mark.parametrize("what", ["server", "identity", "password", "chain"])
def test_a_file_that_does_not_fit_revokes_nothing(scene: Scene, tmp_path: Path, what: str) -> None:
    contents = scene.lose()
    if what == "server":
        contents = replace(contents, server_id=bytes(16))
    elif what == "identity":
        (tmp_path / "another").mkdir()
        other = Person(scene.server, tmp_path / "another", "alice", new_identity=True)
        other.connect()
        settle(other)
        other.stop()
    elif what == "password":
        account = scene.server.accounts.get("alice")
        assert account is not None
        secret = scene.server._workers._hasher.hash(b"x" * 32)
        scene.server.accounts.replace_hash("alice", account.hash, secret).result()
    before = scene.server.store.chains.read("alice", contents.public, 0, 9)
    borrowed = scene.only_revoke(contents)
    borrowed.connect()

    def lie(message: m.FromServer) -> list[m.FromServer]:
        if isinstance(message, m.LoggedIn):
            fields = {name: getattr(message, name) for name in message.__struct_fields__}
            return [m.LoggedIn(**(fields | {"chain_seq": 0, "chain_digest": bytes(32)}))]
        if isinstance(message, m.Statements):
            return [m.Statements(message.id, message.account, message.identity_key, [], more=False)]
        return [message]

    if what == "chain":
        only(borrowed, lie)
    words = {
        "server": "not the server", "identity": "another identity key", "password": "wrong user name or password",
        "chain": "keeps back",
    }  # fmt: skip
    assert words[what] in str(run_to_its_end(borrowed))
    assert not revoked(borrowed)
    assert scene.server.store.chains.read("alice", contents.public, 0, 9) == before


# --- files that do not fit --------------------------------------------------------------------------------------------


def test_a_file_of_another_server_goes_nowhere(scene: Scene) -> None:
    new = scene.recover(replace(scene.lose(), server_id=bytes(16)))
    new.connect()
    failure = run_to_its_end(new)
    assert isinstance(failure, TrustError)
    assert "not the server" in str(failure)


def test_a_file_from_before_a_new_identity_goes_nowhere(scene: Scene, tmp_path: Path) -> None:
    contents = scene.lose()
    (tmp_path / "another").mkdir()
    other = Person(scene.server, tmp_path / "another", "alice", new_identity=True)
    other.connect()
    settle(other)
    other.stop()
    new = scene.recover(contents)
    new.connect()
    failure = run_to_its_end(new)
    assert isinstance(failure, TrustError)
    assert "another identity key" in str(failure)


def test_somebody_elses_file_needs_their_password(scene: Scene) -> None:
    contents = scene.lose()
    found = scene.server.accounts.get("alice")
    assert found is not None
    scene.server.accounts.replace_hash("alice", found.hash, scene.server._workers._hasher.hash(b"another")).result()
    new = scene.recover(contents)
    new.connect()
    failure = run_to_its_end(new)
    assert isinstance(failure, RefusedError)
    assert failure.code == "login-refused"
    assert new.vault.discard_at_close


def test_a_vault_that_is_set_up_is_left_alone(scene: Scene) -> None:
    contents = scene.lose()
    scene.alice.start()
    before = scene.alice.vault.device.load()
    with pytest.raises(UsageError, match="set up on this computer already"):
        prepare_recovery(scene.alice.vault, contents)
    assert scene.alice.vault.device.load() == before


def test_another_program_that_revokes_it_meanwhile_is_told_at_each_start_until_the_user_decides(scene: Scene) -> None:
    new = scene.recover(scene.lose())
    new.connect()
    device = new.engine._context.device
    while scene.server.store.directory.device((new.name, device.id)) is None:
        assert new.push() or new.pull(8)
    with login(scene.server, scene.alice) as thief:
        own = certificate(new)
        revoked = stated(
            scene.alice, "revoke", Head.after(own), key=own.signature_key, device_id=own.device_id
        )
        assert isinstance(thief.ask(m.Publish, [revoked.encode()], [], b""), m.Published)
    for _ in range(2):
        new.crash()
        new.happened.clear()
        new.connect()
        settle(new, *scene.others)
        assert [each.what for each in new.of(events.OwnKeyUsed)] == ["revoke"]  # type: ignore[attr-defined]  # its kind
        assert not told_recovered(new)
    new.do(commands.Rotate())
    new.do(commands.Unlock(PASSWORD))
    settle(new, *scene.others)
    assert told_recovered(new)
    assert not new.of(events.Alarm)


def test_what_the_lost_device_signs_is_told_within_the_hour_to_whoever_stays_online(scene: Scene) -> None:
    new, old = scene.recover(scene.lose()), scene.alice
    new.connect()
    settle(new, *scene.others)
    scene.server.advance(scene.server.seconds + 2 * LOOK_SECONDS)
    settle(new, *scene.others)
    assert not new.of(events.OwnKeyUsed)  # the twin: nobody has
    old.start()
    old.connect()
    settle(old, new, *scene.others)
    assert [each.shut_out for each in old.of(events.OwnKeyUsed)] == [True]  # type: ignore[attr-defined]  # its kind
    old.do(commands.Rotate())
    old.do(commands.Unlock(PASSWORD))
    settle(old, new, *scene.others)
    assert old.of(events.KeyRenewed)
    scene.server.advance(scene.server.seconds + LOOK_SECONDS)
    settle(new, *scene.others)
    assert [each.what for each in new.of(events.OwnKeyUsed)] == ["certify"]  # type: ignore[attr-defined]  # its kind
    assert not new.of(events.Alarm)


@pytest.mark.parametrize("lost", [False, True])
def test_a_password_that_is_gone_at_the_first_step_is_asked_for(scene: Scene, *, lost: bool) -> None:
    """As one from a file may be: it was there at the login."""
    new = scene.recover(scene.lose())
    new.connect()

    def forget(message: m.FromServer) -> list[m.FromServer]:
        if isinstance(message, m.StoredKeepsake):
            new.vault.password.forget()
        return [message]

    only(new, forget)
    settle(new, *scene.others)
    assert [each.why for each in new.of(events.PasswordWanted)] == ["login"]  # type: ignore[attr-defined]  # its kind
    assert new.engine._recovery.step == "chain"
    if lost:
        new.cut()
    only(new, lambda message: [message])
    new.do(commands.Unlock(PASSWORD))
    if lost:
        assert new.engine._recovery.step == "chain"  # what a lost connection has shown is asked for again
        new.connect()
    settle(new, *scene.others)
    assert outcome(new).entered == 5
