"""Names of rooms: they follow the rules in the same turn, and are free again once the owners are gone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from securechat.identity.certificate import certificate_of
from securechat.mls.proposals import GroupContextExtensions
from securechat.policy import Identity, rules_of
from securechat.policy.rules import Rules
from securechat.server.sequencer.room_names import NAME_MILLISECONDS
from securechat.wire import messages as m
from tests.support.memory_server import MemoryPerson, MemoryServer

Enter = Callable[[str], MemoryPerson]


def refused(reply: object, code: str, text: str = "") -> None:
    assert isinstance(reply, m.Refused)
    assert (reply.code, text in reply.text) == (code, True), reply


def change(person: MemoryPerson, room: bytes, **fields: Any) -> Any:
    """A change of a room's rules; the reply."""
    rules = replace(rules_of(person.groups[room].public.extensions), **fields)
    return person.change(room, GroupContextExtensions((rules.extension(),)))


def opened(person: MemoryPerson, name: str, kind: str = "open") -> bytes:
    assert isinstance(person.open_room(name, kind), m.Done)
    return next(room for room, group in person.groups.items() if rules_of(group.public.extensions).name == name)


def listed(person: MemoryPerson) -> dict[str, str]:
    """Names and topics."""
    return {room.name: room.topic for room in person.ask(m.ListRooms).rooms}


def found(person: MemoryPerson, rules: Rules) -> Any:
    """Ask for a room of such rules."""
    group = person.found(rules)
    return person.ask(m.OpenRoom, group.group_id, group.group_info(with_tree=True), group.group_info(with_tree=False))


def test_rooms_that_the_operator_names_have_no_owner_and_all_others_have_their_founder(
    start: Callable[..., MemoryServer],
) -> None:
    server = start(rooms=frozenset(("#hall", "#lobby")))
    alice, bob = (MemoryPerson(server, name).register().login() for name in ("alice", "bob"))
    me, other = Identity.of(alice.certificate()), Identity.of(bob.certificate())
    refused(found(alice, Rules("open", "#hall", owners=(me,))), "ownerless", "belongs to nobody")
    refused(found(alice, Rules("invite", "#hall", owners=(me,))), "ownerless", "belongs to nobody")
    refused(found(alice, Rules("open", "#garden")), "not-allowed", "has to be its owner")
    refused(found(alice, Rules("open", "#garden", owners=(other,))), "invalid-commit", "has to be its owner")
    key = server.store.site_keys[0].public
    assert alice.hello.site_key == key
    refused(found(alice, Rules("open", "#hall")), "not-allowed", "do not name the site key")
    refused(found(alice, Rules("open", "#hall", site_key=b"k" * 32)), "not-allowed", "do not name the site key")
    refused(found(alice, Rules("open", "#garden", site_key=key)), "not-allowed", "has to be its owner")
    assert isinstance(found(alice, Rules("open", "#hall", site_key=key)), m.Done)
    assert isinstance(found(alice, Rules("open", "#garden", owners=(me,))), m.Done)
    assert listed(bob) == {"#garden": "", "#hall": ""}


def test_a_renamed_room_is_found_under_its_new_name_alone(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    room = opened(alice, "#garden")
    assert isinstance(change(alice, room, name="#orchard", topic="apples"), m.Accepted)
    assert listed(bob) == {"#orchard": "apples"}
    refused(bob.ask(m.Join, "#garden"), "not-found")
    assert bob.join("#orchard") == room
    again = opened(bob, "#garden")  # the old name is free
    assert again != room


def test_a_taken_name_is_refused_and_nothing_happens(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    room, other = opened(alice, "#garden"), opened(bob, "#orchard", "invite")
    refused(change(alice, room, name="#orchard", topic="apples"), "exists", "there is a room #orchard")
    refused(change(alice, room, name="#lobby"), "ownerless", "the operator has named #lobby")
    assert listed(alice) == {"#garden": ""}
    assert listed(bob) == {"#garden": "", "#orchard": ""}
    refused(alice.open_room("#orchard"), "exists")
    assert isinstance(change(alice, room, topic="pears"), m.Accepted)  # the epoch is still the one before
    assert isinstance(change(bob, other, name="#hedge"), m.Accepted)
    assert isinstance(change(alice, room, name="#orchard"), m.Accepted)
    assert listed(bob) == {"#orchard": "pears", "#hedge": ""}


def test_only_an_owner_renames_a_room_and_the_refusal_says_who_and_why(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    room = opened(alice, "#garden")
    bob.join("#garden")
    refused(change(bob, room, name="#mine"), "invalid-commit", "bob changes the rules of #garden without being an")
    assert listed(bob) == {"#garden": ""}


@pytest.mark.parametrize("kind", ["open", "invite"])
def test_a_name_is_free_ninety_days_after_the_newest_commit_of_an_owner(
    server: MemoryServer, enter: Enter, kind: str
) -> None:
    alice, bob = enter("alice"), enter("bob")
    room = opened(alice, "#garden", kind)
    server.now += NAME_MILLISECONDS - 1000
    refused(bob.open_room("#garden"), "exists")
    alice.renew()  # which is a commit of hers
    server.now += NAME_MILLISECONDS - 1000
    bob.renew()
    refused(bob.open_room("#garden"), "exists")
    server.now += 2000
    assert isinstance(bob.open_room("#garden"), m.Done)
    taken = next(iter(bob.groups))
    assert taken != room
    alice.renew()
    assert alice.join("#garden") == taken  # the old room goes on, and is not found any more
    assert isinstance(change(alice, room, topic="still here"), m.Accepted)
    assert listed(alice) == {"#garden": ""}
    assert isinstance(change(alice, room, name="#old"), m.Accepted)
    assert "#old" in listed(alice)


def test_what_others_commit_does_not_keep_a_name(server: MemoryServer, enter: Enter) -> None:
    alice, bob, carol = enter("alice"), enter("bob"), enter("carol")
    opened(alice, "#garden")
    bob.join("#garden")
    server.now += NAME_MILLISECONDS - 1000
    bob.renew()  # which is a commit of his
    server.now += 2000
    carol.renew()
    assert isinstance(carol.open_room("#garden"), m.Done)


def test_a_room_without_owners_keeps_its_name(server: MemoryServer, enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    opened(alice, "#lobby")
    server.now += 10 * NAME_MILLISECONDS
    refused(bob.open_room("#lobby"), "exists")


def test_whoever_is_barred_does_not_enter_and_hears_why(enter: Enter) -> None:
    alice, bob, carol = enter("alice"), enter("bob"), enter("carol")
    room = opened(alice, "#garden")
    assert isinstance(change(alice, room, barred=("bob",)), m.Accepted)
    refused(bob.ask(m.Join, "#garden"), "not-allowed", "you are barred from #garden")
    assert carol.join("#garden") == room


def test_a_new_device_takes_its_accounts_place(server: MemoryServer, enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    room = opened(alice, "#garden")
    bob.join("#garden")
    other = MemoryPerson(server, "bob").login(publish=False)
    other.publish(instead_of=bob)
    offer = other.ask(m.Join, "#garden")
    beside = other.external_commit(offer)
    reply = other.ask(m.Commit, offer.conversation, 1, beside.message, b"", beside.group_info)
    refused(reply, "invalid-commit", "bob is in the conversation twice")
    old = next(leaf for leaf, node in bob.groups[room].public.members() if certificate_of(node).account == "bob")
    instead = other.external_commit(offer, old=old)
    reply = other.ask(m.Commit, offer.conversation, 1, instead.message, b"", instead.group_info)
    assert isinstance(reply, m.Accepted)


def test_a_room_is_not_named_so_that_it_is_taken_for_another_one(start: Callable[..., MemoryServer]) -> None:
    server = start(rooms=frozenset(("#lobby",)))
    alice, bob = (MemoryPerson(server, name).register().login() for name in ("alice", "bob"))
    opened(alice, "#modern", "invite")
    reply = bob.open_room("#rnodern")
    refused(reply, "not-allowed", "looks like the name of another room; choose another one")
    assert "#modern" not in reply.text  # which is for invited people
    refused(bob.open_room("#1obby"), "not-allowed", "looks like the operator's room #lobby")  # which nobody has opened
    refused(bob.open_room("#1obby", "invite"), "not-allowed", "looks like the operator's room #lobby")
    refused(bob.open_room("#garden."), "not-allowed", "ends with a letter or a digit")
    refused(bob.open_room("#gar\u02bcden"), "not-allowed", "looks like punctuation")
    garden, _ = opened(bob, "#garden"), opened(bob, "#garten")  # near, and not the same
    refused(change(bob, garden, name="#rnodern"), "not-allowed", "looks like the name of another room")
    refused(change(bob, garden, name="#garden-"), "not-allowed", "ends with a letter or a digit")
    assert isinstance(change(bob, garden, name="#0rchard"), m.Accepted)
    assert isinstance(change(bob, garden, name="#orchard"), m.Accepted)  # it looks like its own name alone
    refused(alice.open_room("#0rchard"), "not-allowed", "looks like the name of another room")
    assert isinstance(change(bob, garden, name="#garden"), m.Accepted)
    opened(alice, "#0rchard")
    opened(alice, "#lobby")
    assert sorted(listed(bob)) == ["#0rchard", "#garden", "#garten", "#lobby"]


def test_look_alike_names_of_rooms_are_known_after_a_restart(tmp_path: Path) -> None:
    for person, names in (("alice", {"#modern": ""}), ("bob", {"#rnodern": "not-allowed", "#modern": "exists"})):
        server = MemoryServer(tmp_path / "data")
        try:
            entered = MemoryPerson(server, person).register().login()
            for name, code in names.items():
                reply = entered.open_room(name)
                assert (reply.code if isinstance(reply, m.Refused) else "") == code
        finally:
            server.stop()


def test_an_abandoned_room_does_not_keep_what_looks_like_its_name(enter: Enter, server: MemoryServer) -> None:
    alice, bob = enter("alice"), enter("bob")
    opened(alice, "#modern")
    server.now += NAME_MILLISECONDS - 1000
    refused(bob.open_room("#rnodern"), "not-allowed")
    server.now += 2000
    opened(bob, "#rnodern")
    assert list(listed(bob)) == ["#rnodern"]
    refused(alice.open_room("#modern"), "not-allowed")


def test_names_that_were_given_up_are_not_noted_for_ever(
    enter: Enter, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securechat.server.sequencer.room_names.SPARE_NAMES", 1)
    alice = enter("alice")
    names = server.sequencer._commits._names
    names._index()
    room = opened(alice, "#garden")
    for number in range(2, 9):
        assert isinstance(change(alice, room, name=f"#garden{number}"), m.Accepted)
    noted = {name for each in names._alike.values() for name in each}
    assert "#garden8" in noted
    assert len(noted) <= 4
    refused(enter("bob").open_room("#garden8"), "exists")
