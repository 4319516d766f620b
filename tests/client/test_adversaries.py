"""A server that lies, a member that harms, a vault that was put back: what the user is told, and what goes on."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from securechat import policy
from securechat.client import commands, events
from securechat.client.backoff import MAX_RETRY_SECONDS
from securechat.client.conversations import resync
from securechat.client.conversations.catching_up import MAX_OFFERED_NUMBER
from securechat.client.conversations.external_commits import _leaf_of
from securechat.client.conversations.numbers import encode_commit, encode_number
from securechat.client.device import KEY_PACKAGE_STOCK, MAX_KEY_PACKAGES, Device
from securechat.client.password_source import PasswordSource
from securechat.client.vault.identity import DeviceRow
from securechat.client.vault.vault import Vault
from securechat.errors import RefusedError, TrustError, UsageError
from securechat.identity.certificate import RULES_EXTENSION
from securechat.mls.extensions import Extension, ExtensionType, RequiredCapabilities
from securechat.mls.group import Group
from securechat.mls.proposals import GroupContextExtensions, Remove
from securechat.mls.public_group import PublicStagedCommit
from securechat.server.store.port import DiskFullError
from securechat.server.store.records import InboxEntry
from securechat.wire import limits
from securechat.wire import messages as wire
from securechat.wire.chain import MLS_MESSAGE
from tests.client.test_stock import take
from tests.support.memory_server import Link, MemoryServer, refuse
from tests.support.people import CHEAP, PASSWORD, Person, only, opened, settle

World = Callable[..., list[Person]]


@pytest.fixture
def pair(people: World) -> list[Person]:
    """Alice and bob in conversation."""
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    bob.say("alice", "hi")
    settle(alice, bob)
    return [alice, bob]


@pytest.fixture
def lobby(people: World) -> list[Person]:
    """Alice, bob and carol in #lobby."""
    everybody = people("alice", "bob", "carol")
    for person in everybody:
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    return everybody


def alarms(person: Person, kind: str) -> list[str]:
    return [event.text for event in person.happened if isinstance(event, events.Alarm) and event.kind == kind]


def honest(server: MemoryServer) -> None:
    """The server lies no more."""
    server.outward = lambda _link, message: [message]


# --- the log -------------------------------------------------------------------------------------------------------


def test_a_repeated_entry_is_shown_once(pair: list[Person]) -> None:
    alice, bob = pair
    only(bob, lambda message: [message, message] if isinstance(message, wire.Entry) else [message])
    alice.say("bob", "once")
    settle(alice, bob)
    assert bob.texts("alice")[-1] == "alice: once"
    assert bob.texts("alice").count("alice: once") == 1
    assert not alarms(bob, "history")


def test_an_old_entry_under_a_new_seq_raises_the_alarm(pair: list[Person]) -> None:
    alice, bob = pair
    old: list[wire.Entry] = []

    def replay(message: wire.FromServer) -> list[wire.FromServer]:
        if not isinstance(message, wire.Entry):
            return [message]
        old.append(message)
        return [message, msgspec.structs.replace(message, seq=message.seq + 1)]

    only(bob, replay)
    alice.say("bob", "once")
    settle(alice, bob)
    assert bob.texts("alice").count("alice: once") == 1
    (alarm,) = alarms(bob, "history")
    assert "number" in alarm
    assert bob.state_of("alice") == "stopped"


def test_a_dropped_entry_raises_the_alarm_at_the_next(pair: list[Person]) -> None:
    alice, bob = pair
    dropped: list[wire.Entry] = []

    def drop(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Entry) and not dropped:
            dropped.append(message)
            return []
        return [message]

    only(bob, drop)
    alice.say("bob", "never arrives")
    alice.say("bob", "arrives")
    settle(alice, bob)
    (alarm,) = alarms(bob, "history")
    assert "does not fit together" in alarm
    assert "/repair" in alarm


def test_a_dropped_entry_that_the_server_renumbers_away_is_noticed_all_the_same(lobby: list[Person]) -> None:
    alice, bob, carol = lobby
    hidden: list[wire.Entry] = []

    def hide(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Entry) and not hidden:
            hidden.append(message)
            return []
        return [msgspec.structs.replace(message, seq=message.seq - 1) if isinstance(message, wire.Entry) else message]

    only(bob, hide)
    alice.say("#lobby", "hidden from bob")
    settle(*lobby)
    carol.say("#lobby", "seen by all")  # carol has seen alice's entry, and says so inside the encryption
    settle(*lobby)
    (alarm,) = alarms(bob, "history")
    assert "carol saw another history" in alarm
    assert not alarms(carol, "history")


def test_two_entries_in_the_wrong_order_raise_the_alarm(pair: list[Person]) -> None:
    alice, bob = pair
    held: list[wire.Entry] = []

    def swap(message: wire.FromServer) -> list[wire.FromServer]:
        if not isinstance(message, wire.Entry):
            return [message]
        held.append(message)
        if len(held) == 2:
            first, second = held
            return [
                msgspec.structs.replace(second, seq=first.seq),
                msgspec.structs.replace(first, seq=second.seq),
            ]
        return []

    only(bob, swap)
    alice.say("bob", "one")
    alice.say("bob", "two")
    settle(alice, bob)
    assert alarms(bob, "history")
    assert "alice: two" not in bob.texts("alice")


def test_a_fork_is_noticed_by_the_first_message_that_crosses_it(server: MemoryServer, lobby: list[Person]) -> None:
    alice, bob, carol = lobby
    only(
        bob,
        lambda message: [msgspec.structs.replace(message, time=message.time + 1)]
        if isinstance(message, wire.Entry)
        else [message],
    )
    alice.say("#lobby", "at two times")
    settle(*lobby)
    assert not alarms(bob, "history")
    honest(server)
    carol.say("#lobby", "across the fork")
    settle(*lobby)
    assert alarms(bob, "history")


def test_a_log_that_has_become_shorter_is_waited_for_and_nothing_is_given_up(
    server: MemoryServer, pair: list[Person]
) -> None:
    alice, bob = pair
    bob.cut()
    only_subscribed = bob.id_of("alice")

    def hook(_link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Subscribed) and message.conversation == only_subscribed:
            return [msgspec.structs.replace(message, head=1, last=0)]
        return [message]

    server.outward = hook
    bob.connect()
    settle(alice, bob)
    (told,) = bob.of(events.OutOfStep)
    assert isinstance(told, events.OutOfStep)
    assert (told.what, told.count) == ("ahead", 3)
    bob.say("alice", "still here")
    settle(alice, bob)
    assert "bob: still here" not in alice.texts("bob")
    honest(server)
    bob.cut()
    bob.connect()
    settle(alice, bob)
    assert alice.texts("bob")[-1] == "bob: still here"
    assert server.head(only_subscribed).epoch == 1  # nobody had to come back


# --- keys ----------------------------------------------------------------------------------------------------------


def swap_key_packages(server: MemoryServer, account: str, by: str) -> None:
    """The server gives out somebody else's key package."""

    def inward(_link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        asked = isinstance(message, wire.FetchKeyPackages) and message.account == account
        return [msgspec.structs.replace(message, account=by) if asked else message]

    def outward(_link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        given = isinstance(message, wire.KeyPackages) and message.account == by
        return [msgspec.structs.replace(message, account=account) if given else message]

    server.inward, server.outward = inward, outward


def test_a_key_package_of_somebody_else_is_refused_and_nothing_is_sent(server: MemoryServer, people: World) -> None:
    alice, _, _ = people("alice", "bob", "mallory")
    swap_key_packages(server, "bob", "mallory")
    alice.do(commands.OpenDirect("bob", "for bob only", ask=False))
    settle(alice)
    (alarm,) = alarms(alice, "key-package")
    assert "key package of mallory for bob" in alarm
    assert server.conversations == []
    assert "not sent" in alice.texts("bob")[0]


def test_a_changed_identity_holds_what_we_send_until_the_user_decides(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    number = alice.safety_number("bob")
    bob.do(commands.Leave(bob.id_of("alice")))
    settle(alice, bob)
    bob.stop()
    for file in bob.path.parent.glob("bob.vault*"):
        file.unlink()
    bob.settings = replace(bob.settings, new_identity=True)
    bob.start()
    bob.register()
    bob.connect()
    settle(alice, bob)
    first = commands.OpenDirect("bob", "is it you?", ask=False)
    alice.do(first)
    settle(alice, bob)
    (changed,) = alice.of(events.KeyChanged)
    assert (changed.account, changed.trust) == ("bob", "changed")  # type: ignore[attr-defined]  # a KeyChanged
    more = commands.Send(alice.id_of("bob"), "I can wait.")
    alice.do(more)
    settle(alice, bob)
    assert [event.command for event in alice.of(events.Held)] == [first.id, more.id]
    assert bob.engine.snapshot.find("alice") is None  # nothing has gone out
    assert [shown.number == number for shown in alice.safety_numbers("bob")] == [True, False]
    alice.do(commands.Trust("bob"))
    settle(alice, bob)
    assert bob.texts("alice") == ["alice: is it you?", "alice: I can wait."]


def test_a_changed_key_of_somebody_verified_is_called_that(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    alice.safety_number("bob")
    alice.do(commands.Verify("bob"))
    bob.say("alice", "hi")
    settle(alice, bob)
    assert alice.history("bob", 1)[0].trust == "verified"
    with alice.vault.transaction():
        alice.engine._context.pins.verify("bob", b"k" * 32)
    bob.say("alice", "again")
    settle(alice, bob)
    assert alice.history("bob", 1)[0].trust == "changed-verified"


def test_a_number_that_was_not_shown_since_the_start_cannot_have_been_compared(people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    alice.safety_number("bob")
    alice.crash()
    with pytest.raises(UsageError, match="Look at the safety number first: /safety bob."):
        alice.do(commands.Verify("bob"))
    alice.safety_number("bob")
    alice.do(commands.Verify("bob"))


def test_no_safety_number_before_a_key_is_known(people: World) -> None:
    (alice,) = people("alice")
    with pytest.raises(UsageError, match="No key of bob"):
        alice.safety_number("bob")


def test_another_server_behind_the_same_address_is_refused_before_any_secret(
    server: MemoryServer, people: World
) -> None:
    (alice,) = people("alice")
    alice.cut()
    server.hello = msgspec.structs.replace(server.hello, server_id=b"X" * 16)
    alice.connect()
    alice.pull()
    assert isinstance(alice.engine.failure, TrustError)
    assert not alice.to_server


# --- rules ---------------------------------------------------------------------------------------------------------


def test_an_invite_room_that_the_server_calls_open_is_not_entered(server: MemoryServer, people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.CreateRoom("#club"))
    settle(alice)
    club = alice.id_of("#club")

    def offer(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if not isinstance(message, wire.Join):
            return [message]
        link.send(server.offer(message.id, club))  # as of an open room; the group's own rules are in the GroupInfo
        return []

    server.inward = offer
    bob.do(commands.JoinRoom("#club"))
    settle(alice, bob)
    (alarm,) = alarms(bob, "rules")
    assert "the open room #club" in alarm
    assert "the invite room #club" in alarm
    assert server.head(club).seq == 0


def test_a_room_under_another_name_is_not_entered(server: MemoryServer, people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice)
    server.inward = lambda _link, m: [msgspec.structs.replace(m, room="#lobby") if isinstance(m, wire.Join) else m]
    bob.do(commands.JoinRoom("#quiet"))
    settle(alice, bob)
    (alarm,) = alarms(bob, "rules")
    assert "#quiet" in alarm
    assert bob.state_of("#quiet") == "closed"


def as_before(staged: PublicStagedCommit, **_options: object) -> policy.Rules:
    """A judge who sees nothing wrong."""
    return policy.rules_of(staged.before.extensions)


def test_a_member_who_removes_others_is_stopped_at_and_named(
    server: MemoryServer, lobby: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, carol = lobby
    there = bob.engine._registry.find("#lobby")
    assert there is not None
    victim = next(leaf for leaf, person in there.people.items() if person.account == "carol")
    number = there.row.number + 1
    evil = there.group.commit(
        [Remove(victim)], by_reference=None, authenticated_data=encode_commit(number, 0), tree_in_welcome=False,
        validate=bob.engine._context.device.validator(server.now // 1000), now=server.now // 1000,
    )  # fmt: skip
    real = policy.check_commit
    with monkeypatch.context() as patch:
        patch.setattr(policy, "check_commit", as_before)  # a server in league with bob
        assert bob.link is not None
        bob.link.receive(wire.Commit(99, there.id, number, evil.message, b"", evil.group_info or b""))
    assert policy.check_commit is real
    bob.link.to_client.clear()
    settle(alice, carol)
    for person in (alice, carol):
        (stopped,) = person.of(events.Stopped)
        assert isinstance(stopped, events.Stopped)
        assert stopped.culprit == ""  # which had to refuse it
        assert "bob removes carol without being an owner" in stopped.reason
        assert person.state_of("#lobby") == "stopped"


def test_a_commit_that_cannot_be_processed_is_passed_over_in_an_open_room_and_names_its_maker(
    server: MemoryServer, lobby: list[Person]
) -> None:
    alice, bob, carol = lobby
    there = bob.engine._registry.find("#lobby")
    assert there is not None
    number = there.row.number + 1
    staged = there.group.commit(
        [], by_reference=None, authenticated_data=encode_commit(number, 0), tree_in_welcome=False,
        validate=bob.engine._context.device.validator(server.now // 1000), now=server.now // 1000,
    )  # fmt: skip
    # The membership tag is the last field: members can check it, the server cannot.
    poisoned = staged.message[:-1] + bytes([staged.message[-1] ^ 1])
    assert bob.link is not None
    bob.link.receive(wire.Commit(99, there.id, number, poisoned, b"", staged.group_info or b""))
    bob.link.to_client.clear()
    bad = server.head(there.id).seq
    failed: list[wire.CommitFailed] = []

    def listen(_link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        failed.extend([message] if isinstance(message, wire.CommitFailed) else [])
        return [message]

    server.inward = listen
    alice.say("#lobby", "before I notice")
    settle(alice, carol)
    for person in (alice, carol):
        (stopped,) = person.of(events.Stopped)
        assert isinstance(stopped, events.Stopped)
        # A server could have altered the tag.
        assert (stopped.culprit, stopped.proven, stopped.passed_over) == ("bob", False, True)
    assert {each.seq for each in failed} == {bad}
    told = [event for event in alice.happened if isinstance(event, events.ConversationChanged)]
    assert ("re-entered", "carol") in [(event.change, event.account) for event in told]
    carol.say("#lobby", "back again")
    settle(alice, carol)
    assert alice.texts("#lobby")[-1] == "carol: back again"
    assert "alice: before I notice" in carol.texts("#lobby") + alice.texts("#lobby")


def test_a_commit_of_what_is_not_used_here_is_refused_without_staging_it(
    server: MemoryServer, lobby: list[Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, bob, carol = lobby
    there = bob.engine._registry.find("#lobby")
    assert there is not None
    number = there.row.number + 1
    requirement = Extension(ExtensionType.REQUIRED_CAPABILITIES, RequiredCapabilities((RULES_EXTENSION,)).encode())
    evil = there.group.commit(
        [GroupContextExtensions((*there.group.public.extensions, requirement))], by_reference=None,
        authenticated_data=encode_commit(number, 0), tree_in_welcome=False,
        validate=bob.engine._context.device.validator(server.now // 1000), now=server.now // 1000,
    )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(policy, "check_proposals", lambda *_args: None)  # a server in league with bob
        patch.setattr(policy, "check_commit", as_before)
        assert bob.link is not None
        bob.link.receive(wire.Commit(99, there.id, number, evil.message, b"", evil.group_info or b""))
    bob.link.to_client.clear()
    staged: list[bytes] = []
    monkeypatch.setattr(Group, "stage", lambda _self, message, **_options: staged.append(message))
    settle(carol)
    (stopped,) = carol.of(events.Stopped)
    assert isinstance(stopped, events.Stopped)
    assert "nothing else" in stopped.reason
    assert not staged


def test_keys_of_messages_that_never_came_are_not_kept(pair: list[Person]) -> None:
    alice, bob = pair
    sender, receiver = alice.engine._registry.find("bob"), bob.engine._registry.find("alice")
    assert sender is not None
    assert receiver is not None
    for _ in range(5):
        sender.group.encrypt(b"never sent")
    alice.say("bob", "and this comes")
    settle(alice, bob)
    assert bob.texts("alice")[-1] == "alice: and this comes"
    ratchet = receiver.group._messages._ratchets[sender.group.own_leaf].application
    assert ratchet.generation > 5
    assert ratchet.skipped == {}


def test_a_message_that_cannot_be_read_is_shown_as_such_and_passed_over(pair: list[Person]) -> None:
    alice, bob = pair
    there = alice.engine._registry.find("bob")
    assert there is not None
    number = there.row.number + 1
    payload = bytearray(there.group.encrypt(b"not an envelope", authenticated_data=encode_number(number)))
    assert alice.link is not None
    alice.link.receive(wire.Submit(99, there.id, number, bytes(payload)))
    settle(bob)
    assert "cannot be read" in bob.texts("alice")[-1]
    assert bob.texts("alice")[-1].startswith("alice: ")
    bob.say("alice", "what was that?")
    settle(bob)
    assert len(bob.of(events.Delivered)) == 2
    assert not alarms(bob, "history")


# --- the vault -----------------------------------------------------------------------------------------------------


def test_a_vault_put_back_follows_the_log_and_takes_fresh_keys_before_it_speaks(
    pair: list[Person], tmp_path: Path
) -> None:
    alice, bob = pair
    alice.stop()
    backup = tmp_path / "backup"
    backup.mkdir()
    for file in tmp_path.glob("alice.vault*"):
        shutil.copy(file, backup)
    alice.start()
    alice.connect()
    settle(alice, bob)
    alice.say("bob", "after the backup")
    settle(alice, bob)
    alice.stop()
    for file in backup.iterdir():
        shutil.copy(file, tmp_path)
    alice.start()
    alice.connect()
    alice.say("bob", "from the old copy")
    before = bob.engine.snapshot.find("alice")
    settle(alice, bob)
    after = bob.engine.snapshot.find("alice")
    assert before is not None
    assert after is not None
    assert after.epoch == before.epoch + 1  # fresh keys first
    assert bob.texts("alice")[-2:] == ["alice: after the backup", "alice: from the old copy"]
    (told,) = alice.of(events.OutOfStep)
    assert isinstance(told, events.OutOfStep)
    assert told.what == "older-copy"
    assert not alice.of(events.Gap)
    assert not [event for event in bob.of(events.ConversationChanged) if event.change == "re-entered"]  # type: ignore[attr-defined]  # by `of`
    assert not alarms(bob, "history")


def test_a_broken_answer_costs_the_connection_and_no_more(server: MemoryServer, pair: list[Person]) -> None:
    alice, bob = pair
    only(
        alice,
        lambda message: [msgspec.structs.replace(message, number=message.number + 1)]
        if isinstance(message, wire.Accepted)
        else [message],
    )
    alice.say("bob", "accepted as something else")
    while alice.push():
        pass
    while alice.pull():
        pass
    assert "something else" in alice.engine.disconnect_reason
    honest(server)
    alice.cut()
    alice.connect()
    settle(alice, bob)
    assert bob.texts("alice")[-1] == "alice: accepted as something else"
    assert alice.texts("bob") == bob.texts("alice")


def test_a_refused_login_asks_for_the_password_that_another_device_has_set(server: MemoryServer, people: World) -> None:
    (alice,) = people("alice")
    alice.cut()
    alice.crash()
    server.inward = deny
    alice.connect()
    while alice.push() or alice.pull():
        pass
    assert not alice.engine.failure
    (wanted,) = alice.of(events.PasswordWanted)  # ours was typed at the start
    assert wanted == events.PasswordWanted("changed", "The server says: ")


@pytest.mark.parametrize("removed", [False, True])
def test_an_old_welcome_does_not_lead_back_into_a_past_epoch(
    server: MemoryServer, people: World, removed: bool  # noqa: FBT001  a parameter of the test
) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    alice.do(commands.CreateRoom("#club"))
    settle(alice)
    club = alice.id_of("#club")
    kept = [(row[0], row[1]) for row in bob.vault.all("SELECT reference, bundle FROM key_packages")]
    alice.do(commands.Invite(club, "bob"))
    settle(alice, bob)
    (old,) = (each for each in server.letters[bob.engine._context.device.id] if each.conversation == club)
    alice.do(commands.Invite(club, "carol"))
    settle(alice, bob, carol)
    if removed:
        alice.do(commands.Remove(club, "bob"))
        settle(alice, bob, carol)
    there = bob.engine._registry.get(club)
    assert there is not None
    epoch, members = there.row.epoch, there.row.members
    with bob.vault.transaction():  # as if the Welcome were for the last-resort key package, which is kept
        for reference, bundle in kept:
            if bob.vault.key_packages.find(reference) is None:
                bob.vault.key_packages.add(reference, bundle, last_resort=True, not_after=1 << 40, signature_key=b"")
    assert bob.link is not None
    bob.link.send(
        wire.Welcomed(
            bob.engine._context.device.row.inbox_cursor + 1, old.time, club, 1_000, old.chain, old.welcome, old.tree, []
        )
    )
    settle(alice, bob, carol)
    assert any("past state" in text for text in alarms(bob, "rules"))
    assert (there.row.epoch, there.row.members) == (epoch, members)


def restore_inbox(server: MemoryServer, person: Person, letters: int) -> None:
    """The server was restored from a backup with so many letters in a person's inbox, none of them acknowledged."""
    device, store = person.engine._context.device.id, server.store
    server.tidy()  # acknowledgements reach the store
    store.inboxes.acknowledge(device, store.inboxes.newest(device))
    store._writer.execute("UPDATE inbox_heads SET seq = 0 WHERE device = ?", device)
    for old in server.letters[device][:letters]:
        departed = tuple((each.proposal, each.state) for each in old.departures)
        store.inboxes.deliver(
            InboxEntry(0, old.time, old.conversation, old.join_seq, old.chain, old.welcome, old.tree, departed),
            [device],
            "a",
        )
    store.commit()
    del server.letters[device][letters:]


@pytest.mark.parametrize("letters", [0, 1, 2])
@pytest.mark.parametrize("away", [False, True])
def test_an_inbox_that_has_become_shorter_keeps_no_welcome_from_us(
    server: MemoryServer, people: World, letters: int, away: bool  # noqa: FBT001  a parameter of the test
) -> None:
    """Whether we notice that at once, or the next Welcomes have taken the numbers that we know."""
    alice, bob, carol, dave = people("alice", "bob", "carol", "dave")
    for person in (alice, carol):
        person.do(commands.OpenDirect("bob", "before", ask=False))
        settle(alice, bob, carol, dave)
    bob.do(commands.Leave(bob.id_of("carol")))
    settle(alice, bob, carol, dave)
    bob.cut()
    restore_inbox(server, bob, letters)
    if not away:
        bob.connect()
        settle(alice, bob, carol, dave)
    dave.do(commands.CreateRoom("#club"))
    dave.do(commands.OpenDirect("bob", "after", ask=False))
    settle(alice, bob, carol, dave)
    dave.do(commands.Invite(dave.id_of("#club"), "bob"))
    settle(alice, bob, carol, dave)
    if away:
        bob.connect()
        settle(alice, bob, carol, dave)
    assert bob.texts("dave") == ["dave: after"]
    assert bob.state_of("#club") == "open"
    assert bob.texts("alice") == ["alice: before"]
    assert bob.state_of("carol") == "closed"
    assert alarms(bob, "rules") == []  # the old ones that come again say nothing
    device = bob.engine._context.device.id
    bob.engine.say_goodbye()
    settle(bob)
    assert server.store.inboxes.newest(device) == letters + 2
    assert server.store.inboxes.read(device, 0, 1 << 20) == []  # all of them acknowledged


def test_of_an_inbox_that_has_become_shorter_only_what_has_come_is_acknowledged(
    server: MemoryServer, people: World
) -> None:
    alice, bob, carol = people("alice", "bob", "carol")
    device = bob.engine._context.device.id
    for person in (alice, carol):
        person.do(commands.OpenDirect("bob", "before", ask=False))
        settle(alice, bob, carol)
    bob.cut()
    restore_inbox(server, bob, 0)
    for person in (alice, carol):
        person.do(commands.CreateRoom(f"#{person.name}"))
        settle(alice, carol)
        person.do(commands.Invite(person.id_of(f"#{person.name}"), "bob"))
        settle(alice, carol)
    only(bob, lambda message: [] if isinstance(message, wire.Welcomed) and message.seq == 2 else [message])
    bob.connect()
    settle(alice, bob, carol)
    assert [letter.seq for letter in server.store.inboxes.read(device, 0, 1 << 20)] == [2]
    bob.cut()
    honest(server)
    bob.connect()
    settle(alice, bob, carol)
    assert [bob.state_of("#alice"), bob.state_of("#carol")] == ["open", "open"]


@pytest.mark.parametrize("restored", [True, False])
def test_an_invitation_that_fails_is_told_whatever_its_number(
    server: MemoryServer, people: World, restored: bool  # noqa: FBT001  a parameter of the test
) -> None:
    alice, bob, carol, dave = people("alice", "bob", "carol", "dave")
    given: list[list[bytes]] = []

    def give_again(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.KeyPackages):
            given.append(message.key_packages)
            return [msgspec.structs.replace(message, key_packages=given[0])]
        return [message]

    only(alice, give_again)
    for person in (alice, carol):
        person.do(commands.OpenDirect("bob", "before", ask=False))
        settle(alice, bob, carol, dave)
    bob.cut()
    if restored:
        restore_inbox(server, bob, 0)
    only(dave, give_again)  # what alice has had
    dave.do(commands.OpenDirect("bob", "after", ask=False))
    settle(alice, bob, carol, dave)
    bob.connect()
    settle(alice, bob, carol, dave)
    (told,) = alarms(bob, "key-package")
    assert "with dave, by a key that it does not have" in told


def test_who_was_away_longer_than_letters_are_kept_is_ready_all_the_same(server: MemoryServer, people: World) -> None:
    alice, bob = people("alice", "bob")
    device = bob.engine._context.device
    bob.cut()
    alice.do(commands.OpenDirect("bob", "too late", ask=False))
    settle(alice, bob)
    server.store.inboxes.acknowledge(device.id, 1)  # deleted, as after 30 days
    server.store.commit()
    before = len(bob.happened)
    bob.connect()
    settle(alice, bob)
    assert any(isinstance(event, events.Ready) for event in bob.happened[before:])
    assert device.row.inbox_cursor == 1
    assert bob.link is not None
    bob.link.send(wire.Truncated(device.id, 1 << 40, b""))  # a number to come
    settle(alice, bob)
    assert device.row.inbox_cursor == 1


def test_a_server_that_claims_an_empty_inbox_gains_nothing_by_old_welcomes(
    server: MemoryServer, pair: list[Person]
) -> None:
    alice, bob = pair
    device = bob.engine._context.device
    kept = list(server.letters[device.id])
    epoch = bob.engine._registry._conversations[bob.id_of("alice")].row.epoch
    for again in (1, 2):
        bob.cut()
        restore_inbox(server, bob, 0)
        bob.connect()
        settle(alice, bob)
        assert device.row.inbox_cursor == 0
        assert bob.link is not None
        bob.link.send(kept[0])
        settle(alice, bob)
        bob.say("alice", f"still here {again}")
        settle(alice, bob)
        assert alice.texts("bob")[-1] == f"bob: still here {again}"
    assert bob.engine._registry._conversations[bob.id_of("alice")].row.epoch == epoch
    assert len(bob.engine.snapshot.conversations) == 1


def test_repair_does_not_lead_into_a_past_epoch(server: MemoryServer, lobby: list[Person]) -> None:
    alice, bob, carol = lobby
    there = bob.engine._registry.find("#lobby")
    assert there is not None
    old: list[wire.JoinOffer] = []

    def keep(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.JoinOffer):
            old.append(message)
        return [message]

    def enter_anew(person: Person) -> None:
        conversation = person.engine._registry.find("#lobby")
        assert conversation is not None
        resync.supersede(conversation)
        person.engine._context.touched.add(conversation.id)
        person.engine.handle_timer()
        settle(*lobby)

    only(bob, keep)
    enter_anew(bob)
    (offer,) = old
    enter_anew(alice)
    enter_anew(carol)
    epoch = there.row.epoch

    def lie(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.JoinOffer):
            return [msgspec.structs.replace(message, group_info=offer.group_info, tree=offer.tree)]
        return [message]

    only(bob, lie)
    entries = server.head(there.id).seq
    enter_anew(bob)
    assert any("past state" in event.text for event in bob.happened if isinstance(event, events.Alarm | events.Refused))
    assert there.row.epoch == epoch
    assert server.head(there.id).seq == entries


def test_our_accounts_leaf_is_the_one_that_we_take_the_place_of(lobby: list[Person]) -> None:
    _, bob, carol = lobby
    there = bob.engine._registry.find("#lobby")
    assert there is not None
    own, tree = bob.engine._context.device, there.group.public.tree
    assert _leaf_of(tree, own) == there.group.own_leaf
    other = carol.engine._context.device
    impostor = Device(bob.vault, replace(other.row, device_id=own.id))
    assert _leaf_of(tree, impostor) == _leaf_of(tree, other) != there.group.own_leaf


def test_our_own_change_is_not_followed_once_somebody_has_left_before_it(
    server: MemoryServer, lobby: list[Person]
) -> None:
    alice, _, carol = lobby
    there = alice.engine._registry.find("#lobby")
    assert there is not None
    there.row.sent_on_path = 50
    alice.say("#lobby", "a fresh path comes first")
    while there.staged is None:
        alice.push()
        alice.pull()
    carol.do(commands.Leave(carol.id_of("#lobby")))
    settle(carol)
    staged = there.staged
    assert staged is not None
    assert staged.commit is not None
    seq = server.head(there.id).seq + 1
    assert alice.link is not None
    alice.link.send(  # what an honest server refuses, since carol has left
        wire.Entry(
            there.id, seq, server.now, alice.engine._context.device.id, MLS_MESSAGE, staged.commit.message,
            staged.commit.group_info or b"",
        )
    )
    while alice.pull():
        pass
    assert any("all others have to refuse" in text for text in alarms(alice, "history"))


def deny(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
    """Neither our token nor our password is right."""
    if not isinstance(message, wire.Resume | wire.Register | wire.Login):
        return [message]
    refuse(link, message, "token-refused" if isinstance(message, wire.Resume) else "login-refused")
    return []


def test_a_server_that_denies_to_know_us_costs_no_history(server: MemoryServer, pair: list[Person]) -> None:
    alice, _ = pair
    alice.cut()
    server.inward = deny
    alice.connect()
    while alice.push() or alice.pull():
        pass
    assert alice.of(events.PasswordWanted) == [events.PasswordWanted("login", "")]
    assert not alice.engine.failure
    alice.do(commands.Unlock(PASSWORD))
    while alice.push() or alice.pull():
        pass
    assert not alice.engine.failure  # another device may have set another password
    assert alice.of(events.PasswordWanted)[1:] == [events.PasswordWanted("changed", "The server says: ")]
    assert alice.engine._context.device.row.token_expires == 0
    alice.stop()
    alice.start()
    assert len(alice.texts("bob")) == 2


def test_the_highest_number_that_a_server_can_ascribe_to_us_ends_no_client(server: MemoryServer, people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice)

    def highest(_link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.JoinOffer):
            return [msgspec.structs.replace(message, number=MAX_OFFERED_NUMBER)]
        return [message]

    server.outward = highest
    bob.do(commands.JoinRoom("#lobby"))
    settle(bob, alice)
    bob.crash()  # and loads what was stored of it
    bob.connect()
    honest(server)
    settle(bob, alice)
    assert bob.state_of("#lobby") == "closed"  # the server refused the number that it was given
    bob.do(commands.JoinRoom("#lobby"))
    settle(bob, alice)
    bob.say("#lobby", "here")
    settle(bob, alice)
    assert alice.texts("#lobby") == ["bob: here"]


@pytest.mark.parametrize("code", ["stale-epoch", "commit-first"])
def test_a_server_that_calls_every_message_outdated_is_not_asked_all_the_time(
    server: MemoryServer, people: World, code: wire.Code
) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    tries = 0

    def outdated(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        nonlocal tries
        if not isinstance(message, wire.Submit) or tries == 20:
            return [message]
        tries += 1
        refuse(link, message, code)
        return []

    server.inward = outdated
    begun = server.seconds
    alice.say("bob", "are you there?")
    settle(alice, bob)
    assert bob.texts("alice")[-1] == "alice: are you there?"  # all is well once the server is honest again
    assert tries == 20
    assert server.seconds - begun > 60  # in seconds of the clock that the tests move: longer each time


def test_a_message_after_a_departure_that_nobody_has_committed_is_not_taken(
    server: MemoryServer, lobby: list[Person]
) -> None:
    alice, bob, carol = lobby
    room = alice.id_of("#lobby")
    server.outward = lambda link, message: [] if link is bob.link and isinstance(message, wire.Entry) else [message]
    carol.do(commands.Leave(room))
    settle(alice, carol)
    server.head(room).departed.clear()  # and takes what an honest one refuses
    bob.say("#lobby", "in between")
    assert bob.push()
    settle(alice)
    (told,) = alarms(alice, "history")
    assert told.startswith("the server passed on a message although somebody who has left was not removed yet.")
    assert alice.texts("#lobby") == []


def test_a_change_ascribed_to_another_device_than_its_makers_is_not_taken(server: MemoryServer, people: World) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.JoinRoom("#lobby"))
    settle(alice)

    def ascribe(link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        if link is alice.link and isinstance(message, wire.Entry):
            return [msgspec.structs.replace(message, device=b"?" * 16)]
        return [message]

    server.outward = ascribe
    bob.do(commands.JoinRoom("#lobby"))
    settle(alice, bob)
    (told,) = alarms(alice, "history")
    assert told.startswith("the server ascribes a change made by bob to another device.")
    room = alice.engine.snapshot.find("#lobby")
    assert room is not None
    assert room.members == ("alice",)


@pytest.mark.parametrize("lies", [True, False])
def test_the_group_info_of_our_own_commit_is_compared_when_the_log_brings_it(
    server: MemoryServer, pair: list[Person], *, lies: bool
) -> None:
    """The others compute the chain with what they were shown."""
    alice, bob = pair
    server.now += 8 * 86_400_000  # a week has passed: the next speaker commits a fresh path
    alice.say("bob", "later")
    assert alice.push()
    alice.cut()  # before the answer: the log itself brings the commit

    def alter(link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        if lies and link is alice.link and isinstance(message, wire.Entry) and message.group_info:
            return [msgspec.structs.replace(message, group_info=message.group_info[:-1] + b"?")]
        return [message]

    server.outward = alter
    alice.connect()
    settle(alice, bob)
    told = alarms(alice, "history")
    if lies:
        assert told[0].startswith("the server altered the GroupInfo that came with a change of yours.")
    else:
        assert told == []
        assert bob.texts("alice")[-1] == "alice: later"


def test_what_is_accepted_is_not_submitted_all_the_time_while_its_entry_does_not_come(
    server: MemoryServer, people: World
) -> None:
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    submitted = 0

    def count(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        nonlocal submitted
        submitted += link is alice.link and isinstance(message, wire.Submit)
        return [message]

    server.inward = count
    server.outward = lambda link, message: [] if link is alice.link and isinstance(message, wire.Entry) else [message]
    bob.say("alice", "never shown")
    settle(bob)
    alice.say("bob", "behind it")
    for _ in range(600):
        while alice.push() or alice.pull(8) or bob.pull(8) or bob.push():
            pass
        server.advance(server.seconds + 1)
        if alice.engine.timer is not None and alice.engine.timer <= server.seconds:
            alice.engine.handle_timer()
    assert 2 < submitted < 60  # in ten minutes
    assert bob.texts("alice")[-1] == "alice: behind it"
    honest(server)
    alice.cut()
    alice.connect()
    settle(alice, bob)
    assert alice.texts("bob") == bob.texts("alice")


def test_a_log_too_many_is_told_and_the_others_are_read(people: World, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = people("alice", "bob")
    for room in ("#one", "#two", "#three"):
        alice.do(commands.JoinRoom(room))
        settle(alice)
    bob.do(commands.JoinRoom("#one"))
    settle(alice, bob)
    alice.cut()
    monkeypatch.setattr(limits, "MAX_SUBSCRIPTIONS", 3)  # the inbox is one
    alice.connect()
    settle(alice, bob)
    assert events.Ready() in alice.happened[-4:]
    (told,) = alarms(alice, "server")
    assert told == "The server does not let you read #three. It says: one session reads 3 logs at most."
    bob.say("#one", "hello")
    settle(alice, bob)
    assert alice.texts("#one") == ["bob: hello"]


@pytest.mark.parametrize("code", ["busy", "slow-down", "disk-full", "leased", "reader-full"])
@pytest.mark.parametrize("times", [1, 8])
def test_a_log_that_cannot_be_read_now_is_asked_for_again_and_the_others_are_read(
    people: World, server: MemoryServer, code: wire.Code, times: int
) -> None:
    alice, bob = people("alice", "bob")
    for room in ("#one", "#two"):
        for person in (alice, bob):
            person.do(commands.JoinRoom(room))
            settle(alice, bob)
    alice.cut()
    for room in ("#one", "#two"):
        bob.say(room, "while alice is away")
    settle(bob)
    one = bob.id_of("#one")
    asked: list[tuple[float, int, list[str]]] = []

    def inward(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if link is not alice.link or not isinstance(message, wire.Subscribe) or message.conversation != one:
            return [message]
        asked.append((server.seconds, len(alice.of(events.Ready)), alice.texts("#two")))
        if len(asked) > times:
            return [message]
        refuse(link, message, code, "come again")
        return []

    server.inward = inward
    alice.happened.clear()
    alice.say("#one", "waits")
    alice.connect()
    settle(alice, bob)
    assert len(asked) == times + 1
    for (before, *_), (at, ready, others) in pairwise(asked):
        assert 0 < at - before <= MAX_RETRY_SECONDS
        assert (ready, others) == (1, ["bob: while alice is away"])  # the others are read meanwhile
    assert not alice.of(events.Disconnected)
    assert alice.texts("#one") == ["bob: while alice is away", "alice: waits"]
    assert bob.texts("#one")[-1] == "alice: waits"
    told = [each.text for each in alice.happened if isinstance(each, events.Delayed)]
    assert len(told) == (times > 1)  # once, if it lasts
    assert all(text.startswith("#one cannot be read now, the server says: come again. ") for text in told)
    assert not alarms(alice, "server")


def twin_of(server: MemoryServer, folder: Path, person: Person) -> Person:
    """Another device of the same account, which has copied its keys, and certified itself behind the first."""
    folder.mkdir()
    row = person.engine._context.device.row
    private = person.vault.signature_keys.find(row.signature_key)
    assert private is not None
    vault = Vault.open(folder / f"{person.name}.vault", person.name, PasswordSource.typed(PASSWORD), cost=CHEAP)
    with vault.transaction():
        own = DeviceRow(row.identity, b"T" * 16, row.signature_key, row.server_id)
        vault.device.save(own)
        vault.signature_keys.add(row.signature_key, private)
        for link in person.engine._context.device.chain:
            vault.signed.add(link.seq, link.encode())
        with opened(row.identity) as key:
            Device(vault, own)._certify(key, row.signature_key, person.clock.seconds())
    vault.close()
    twin = Person(server, folder, person.name)
    twin.register()
    twin.connect()
    return twin


def test_two_devices_of_one_account_cannot_publish_one_key(
    server: MemoryServer, people: World, tmp_path: Path
) -> None:
    (bob,) = people("bob")
    twin = twin_of(server, tmp_path / "twin", bob)
    while twin.push() or twin.pull(8):
        pass
    assert isinstance(twin.engine.failure, RefusedError)
    assert "another device of this account has the same signature key" in str(twin.engine.failure)
    twin.stop()


def test_a_server_that_never_has_key_packages_does_not_fill_the_vault(people: World) -> None:
    (alice,) = people("alice")

    def lie(message: wire.FromServer) -> list[wire.FromServer]:
        return [wire.Stock(message.id, []) if isinstance(message, wire.Stock) else message]

    for _ in range(MAX_KEY_PACKAGES // KEY_PACKAGE_STOCK + 2):
        alice.cut()
        alice.connect()
        only(alice, lie)
        settle(alice)
        take(alice.server, alice, KEY_PACKAGE_STOCK)
    assert len(alice.engine._context.device.key_package_references()) == MAX_KEY_PACKAGES
    assert [event.text for event in alice.of(events.Alarm) if "makes no more before" in event.text]  # type: ignore[attr-defined]
    alice.server.outward = lambda _link, message: [message]
    (bob,) = people("bob")
    bob.do(commands.OpenDirect("alice", "still there?", ask=False))
    settle(alice, bob)
    assert alice.texts("bob") == ["bob: still there?"]


def test_key_packages_that_cannot_stand_in_one_group_end_no_client(
    server: MemoryServer, people: World, tmp_path: Path
) -> None:
    alice, bob = people("alice", "bob")
    twin = twin_of(server, tmp_path / "twin", bob)
    twin.pull(8)  # the server's hello, by which the device is certified
    with twin.vault.transaction():
        (package,) = twin.engine._context.device.make_key_packages(1, server.now // 1000)
    twin.stop()

    def both(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.KeyPackages):
            return [msgspec.structs.replace(message, key_packages=[*message.key_packages, package])]
        return [message]

    only(alice, both)
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    assert alarms(alice, "key-package") == ["Two devices of bob have the same key."]
    alice.crash()
    alice.connect()
    honest(server)
    settle(alice, bob)
    alice.do(commands.OpenDirect("bob", "again", ask=False))
    settle(alice, bob)
    assert bob.texts("alice") == ["alice: again"]


def test_a_key_package_that_expires_meanwhile_is_fetched_again(server: MemoryServer, people: World) -> None:
    alice, bob = people("alice", "bob")
    with alice.vault.transaction():
        alice.engine._context.pins.verify("bob", bytes(32))
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    assert alice.of(events.Held)
    bob.cut()
    server.now += 91 * 86_400_000
    bob.connect()
    settle(bob)
    alice.do(commands.Trust("bob"))
    settle(alice, bob)
    assert not alice.engine.failure


def test_a_disk_that_is_full_in_the_middle_of_a_turn_is_told_and_tried_again(
    server: MemoryServer, people: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = people("alice", "bob")
    create, tries = server.store.conversations.create, 0

    def full(*arguments: object) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise DiskFullError("no room")
        create(*arguments)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(server.store.conversations, "create", full)
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    assert tries == 3
    assert bob.texts("alice") == ["alice: hello"]


def test_presence_is_told_of_members_alone(people: World) -> None:
    alice, bob = people("alice", "bob")
    for person in (alice, bob):
        person.do(commands.JoinRoom("#lobby"))
        settle(alice, bob)
    assert alice.link is not None
    for account in ("bob", "mallory"):
        alice.link.send(wire.Presence(alice.id_of("#lobby"), account, "dropped"))
    settle(alice, bob)
    told = [event.account for event in alice.happened if isinstance(event, events.PresenceChanged)]
    assert "bob" in told
    assert "mallory" not in told
    for prefer, more in ((commands.Prefer("presence", "off"), 0), (commands.Prefer("presence", "on"), 1)):
        alice.do(prefer)
        alice.link.send(wire.Presence(alice.id_of("#lobby"), "bob", "online"))
        settle(alice, bob)
        now = [event.account for event in alice.happened if isinstance(event, events.PresenceChanged)]
        assert len(now) - len(told) == more
