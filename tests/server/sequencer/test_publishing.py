"""Publishing: chains grow link by link, and with them the directory, in one transaction."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from securechat.identity.certificate import CLOCK_SKEW, DeviceCertificate, credential, issue
from securechat.identity.statements import Statement, decode_link
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.policy import Identity, Rules
from securechat.server.rate import Rate
from securechat.wire import limits
from securechat.wire import messages as m
from tests.server.sequencer.test_coming_and_going import refused
from tests.support.memory_server import MemoryPerson as Person
from tests.support.memory_server import MemoryServer

Enter = Callable[..., Person]


def publish(person: Person, *links: DeviceCertificate | Statement, packages: list[bytes] | None = None) -> object:
    *rest, last_resort = packages or [b""]
    return person.ask(m.Publish, [link.encode() for link in links], rest, last_resort)


def chain_of(person: Person, of: Person) -> list[object]:
    """What the server has of somebody's chain."""
    reply = person.ask(m.FetchStatements, of.account, of.identity_key, 0)
    return [decode_link(link) for link in reply.links]


def beside(first: Person) -> Person:
    """Another program with the identity key of somebody, logged in on a device of its own."""
    other = Person(first.server, first.account).login(publish=False)
    other.identity, other.chain = first.identity, list(first.chain)
    return other


def test_a_rotation_takes_the_place_of_the_certificate_and_of_its_key_packages(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    old = alice.certificate()
    new = alice.rotate()
    fresh = [alice.key_package() for _ in range(4)]
    reply = publish(alice, new, packages=fresh)
    assert (type(reply), reply.enrolled) == (m.Published, True)  # type: ignore[attr-defined]
    assert chain_of(bob, alice) == [old, new]
    taken = [bob.ask(m.FetchKeyPackages, "alice").key_packages for _ in range(5)]
    assert taken == [[fresh[0]], [fresh[1]], [fresh[2]], [fresh[3]], [fresh[3]]]


def test_the_same_bytes_again_are_answered_as_they_were_and_change_nothing(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    new = alice.rotate()
    fresh = [alice.key_package() for _ in range(3)]
    first = publish(alice, new, packages=fresh)
    assert bob.ask(m.FetchKeyPackages, "alice").key_packages == [fresh[0]]
    again = publish(alice, new, packages=fresh)
    assert first.enrolled  # type: ignore[attr-defined]  # Published
    assert again.enrolled  # type: ignore[attr-defined]  # Published
    assert bob.ask(m.FetchKeyPackages, "alice").key_packages == [fresh[1]]  # the first is not handed out twice
    assert len(chain_of(bob, alice)) == 2


def test_of_the_same_bytes_twice_at_once_the_second_changes_nothing(enter: Enter) -> None:
    alice = enter("alice")
    encoded, packages = [alice.rotate().encode()], [alice.key_package()]
    for _ in range(2):
        alice.protocol.send(m.Publish(alice.protocol.next_id(), encoded, packages, b""))
    alice.flush()
    assert [type(alice.take(m.Published)) for _ in range(2)] == [m.Published] * 2
    assert len(chain_of(enter("bob"), alice)) == 2


def test_several_links_again_are_answered_as_they_were(enter: Enter) -> None:
    alice = enter("alice")
    links = [alice.rotate(), alice.rotate()]
    for _ in range(2):
        assert isinstance(publish(alice, *links), m.Published)
    assert chain_of(enter("bob"), alice)[-2:] == links


def test_of_two_programs_with_one_identity_key_the_second_is_told(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    other = beside(alice)
    theirs, ours = other.rotate(), alice.rotate()
    assert isinstance(publish(other, theirs), m.Published)
    refused(publish(alice, ours, packages=[alice.key_package()]), "chain-moved")
    assert chain_of(bob, alice)[-1] == theirs
    alice.chain = list(other.chain)  # the twin: it signs the next one behind that
    assert isinstance(publish(alice, alice.rotate()), m.Published)


def test_a_link_that_leaves_one_out_is_refused(enter: Enter) -> None:
    alice = enter("alice")
    between, last = alice.rotate(), alice.rotate()
    refused(publish(alice, last), "chain-moved")
    assert isinstance(publish(alice, between, last, packages=[alice.key_package()]), m.Published)
    refused(publish(alice, last, alice.rotate()), "chain-moved")


def test_a_login_tells_how_far_the_chain_is(enter: Enter) -> None:
    alice = enter("alice")
    publish(alice, alice.rotate())
    back = alice.again()
    reply = back.ask(m.ListRooms)
    assert isinstance(reply, m.Rooms)  # it is in the directory
    with Person(alice.server, "alice") as other:
        login = other.ask(m.Login, "alice", alice.secret, alice.device)
        assert (login.identity_key, login.chain_seq, login.chain_digest) == (
            alice.identity_key, alice.head.seq, alice.head.digest,
        )  # fmt: skip
        assert login.certificate == alice.certificate().encode()
    with Person(alice.server, "alice") as other:
        login = other.ask(m.Login, "alice", alice.secret, other.device)
        assert (login.chain_seq, login.certificate) == (2, b"")


def flipped(link: DeviceCertificate) -> DeviceCertificate:
    return replace(link, signature=link.signature[::-1])


@pytest.mark.parametrize("wrong", ["signature", "server_id", "account", "expired", "future"])
def test_what_is_not_sound_is_refused(enter: Enter, wrong: str) -> None:
    alice = enter("alice")
    honest = alice.rotate()
    lie: DeviceCertificate | Statement
    if wrong == "signature":
        lie = flipped(honest)
    elif wrong == "future":
        alice.chain.pop()
        statement = alice.state("revoke", honest.signature_key, device_id=bytes(16))
        lie = replace(statement, time=int(alice.server.now / 1000) + CLOCK_SKEW + 60)
        lie = replace(lie, signature=alice.identity.sign(lie.to_be_signed()))
    else:
        changes = {
            "server_id": {"server_id": bytes(16)},
            "account": {"account": "bob"},
            "expired": {"not_before": honest.not_before - 60, "not_after": honest.not_before - 30},
        }[wrong]
        unsigned = replace(honest, **changes)  # type: ignore[arg-type]  # of their types
        lie = replace(unsigned, signature=alice.identity.sign(unsigned.to_be_signed()))
    refused(publish(alice, lie), "bad-request")
    assert len(chain_of(alice, alice)) == 1
    assert isinstance(publish(alice, honest), m.Published)


def test_key_packages_come_with_the_certificate_of_the_device_that_publishes_them(enter: Enter) -> None:
    alice = enter("alice")
    other = beside(alice)
    other.signature = SignaturePrivateKey.generate(SUITE)
    theirs = other.certify()
    packages = [other.key_package() for _ in range(2)]
    reply = publish(alice, theirs, packages=packages)
    refused(reply, "bad-request")
    assert "come with a certificate of this device" in reply.text  # type: ignore[attr-defined]  # a Refused
    assert isinstance(publish(other, theirs, packages=packages), m.Published)


def test_of_a_device_that_is_certified_and_revoked_at_once_nothing_is_kept(enter: Enter) -> None:
    alice = enter("alice")
    new, packages = alice.rotate(), [alice.key_package() for _ in range(2)]
    revoked = alice.state("revoke", new.signature_key, device_id=alice.device)
    reply = publish(alice, new, revoked, packages=packages)
    assert isinstance(reply, m.Published)
    assert not reply.enrolled
    assert alice.server.store.directory.key_packages(alice.device) == []


def test_a_device_may_keep_its_key_and_its_leaf_while_its_certificate_is_renewed(enter: Enter) -> None:
    alice = enter("alice")
    alice.open_room("#den")
    (room,) = alice.groups
    assert isinstance(publish(alice, alice.certify(), packages=[alice.key_package()]), m.Published)  # the same key
    assert isinstance(publish(alice, alice.rotate(), packages=[alice.key_package()]), m.Published)
    assert isinstance(alice.change(room), m.Accepted)  # by the leaf of before: one room is renewed after the other


def test_two_devices_of_an_account_have_two_signature_keys(enter: Enter) -> None:
    alice = enter("alice")
    other = beside(alice)
    other.signature = alice.signature
    refused(publish(other, other.certify()), "bad-request")
    other.chain.pop()
    assert isinstance(publish(other, other.rotate()), m.Published)


def test_below_the_disks_floor_statements_are_taken_and_nothing_else(enter: Enter) -> None:
    alice = enter("alice")
    alice.server.free = 0
    alice.server.space.look()
    refused(publish(alice, alice.rotate()), "disk-full")
    alice.chain.pop()
    statement = alice.state("revoke", alice.certificate().signature_key, device_id=alice.device)
    assert isinstance(publish(alice, statement), m.Published)


def test_an_account_has_so_many_devices_and_each_of_them_is_renewed(enter: Enter) -> None:
    alice = enter("alice")
    for number in range(limits.MAX_DEVICES):
        other = beside(alice)
        other.signature = SignaturePrivateKey.generate(SUITE)
        reply = publish(other, other.certify())
        if number < limits.MAX_DEVICES - 1:
            assert isinstance(reply, m.Published)
            alice.chain = list(other.chain)
    refused(reply, "bad-request")
    assert isinstance(publish(alice, alice.rotate()), m.Published)
    other.chain = list(alice.chain)
    revoked = other.state("revoke", alice.certificate().signature_key, device_id=alice.device)
    assert isinstance(publish(other, revoked, other.certify()), m.Published)  # one goes and one comes


def test_with_key_packages_of_another_certificate_nothing_is_published(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    old = alice.key_package()
    new = alice.rotate()
    refused(publish(alice, new, packages=[old, old]), "bad-request")
    assert len(chain_of(bob, alice)) == 1
    assert bob.ask(m.FetchKeyPackages, "alice").key_packages  # those of before are still there
    alice.chain.pop()
    statement = alice.state("revoke", new.signature_key, device_id=bytes(16))
    refused(publish(alice, statement, packages=[old]), "bad-request")


def test_a_revoked_device_is_out_at_once_and_can_be_certified_anew(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    other = beside(alice)
    statement = other.state("revoke", alice.certificate().signature_key, device_id=alice.device)
    assert isinstance(publish(other, other.certify(), packages=[]), m.Refused)  # it leaves out the statement
    certificate = other.chain[-1]
    assert isinstance(certificate, DeviceCertificate)
    reply = publish(other, statement, certificate, packages=[other.key_package()])
    assert isinstance(reply, m.Published)
    closing = alice.ended().closing
    assert closing is not None
    assert closing.reason == "revoked"
    with Person(bob.server, "alice") as again:
        refused(again.ask(m.Resume, *alice.credentials(again.channel)), "token-refused")
    taken = bob.ask(m.FetchKeyPackages, "alice").key_packages
    assert taken == [bob.ask(m.FetchKeyPackages, "alice").key_packages[0]]  # the last-resort one of the new device
    with Person(bob.server, "alice") as back:
        back.secret, back.device, back.identity, back.chain = alice.secret, alice.device, alice.identity, other.chain
        back.login(publish=False)
        assert isinstance(publish(back, back.rotate()), m.Published)
        assert back.protocol.allows(m.FetchKeyPackages)


def test_who_revokes_the_own_device_is_out(enter: Enter) -> None:
    alice = enter("alice")
    statement = alice.state("revoke", alice.certificate().signature_key, device_id=alice.device)
    reply = publish(alice, statement)
    assert (type(reply), reply.enrolled) == (m.Published, False)  # type: ignore[attr-defined]
    assert alice.ended().closing is not None
    with Person(alice.server, "alice") as again:
        refused(again.ask(m.Resume, *alice.credentials(again.channel)), "token-refused")
    other = beside(alice)  # certifies the same device once more
    assert isinstance(publish(other, alice.certify()), m.Published)
    with Person(alice.server, "alice") as again:
        refused(again.ask(m.Resume, *alice.credentials(again.channel)), "token-refused")
        assert isinstance(again.ask(m.Login, "alice", alice.secret, alice.device), m.LoggedIn)  # the twin


# --- another identity key --------------------------------------------------------------------------------------------


def test_an_identity_key_is_replaced_by_who_knows_the_password_and_names_the_old_one(
    enter: Enter, caplog: pytest.LogCaptureFixture
) -> None:
    old, bob = enter("alice"), enter("bob")
    publish(old, old.rotate())
    assert "identity key replaced" not in caplog.text
    with Person(old.server, "alice") as new:
        new.login(publish=False)
        restart = new.state("restart", bob.identity_key)
        refused(publish(new, restart, new.certify()), "identity-differs")
        new.chain.clear()
        restart = new.state("restart", old.identity_key)
        refused(publish(new, restart), "bad-request")  # and no certificate
        assert isinstance(publish(new, restart, new.certify()), m.Published)
        assert "identity key replaced" in caplog.text
        found = bob.ask(m.FetchStatements, "alice", b"", 0)
        assert (found.identity_key, len(found.links), found.more) == (new.identity_key, 2, False)


def test_what_names_the_old_key_in_another_way_does_not_replace_it(enter: Enter) -> None:
    old = enter("alice")
    with Person(old.server, "alice") as new:
        new.login(publish=False)
        other = new.state("revoke", old.identity_key, device_id=bytes(16))
        refused(publish(new, other, new.certify()), "identity-differs")
        new.chain.clear()
        restart = new.state("restart", old.identity_key)
        assert isinstance(publish(new, restart, new.certify()), m.Published)


def test_of_two_keys_that_a_new_one_names_it_replaces_the_last(enter: Enter) -> None:
    """It could not be published before the account had got yet another one."""
    old, bob = enter("alice"), enter("bob")
    with Person(old.server, "alice") as new:
        new.login(publish=False)
        for keys in ([old.identity_key, bob.identity_key], [bob.identity_key, old.identity_key]):
            new.chain.clear()
            restarts = [new.state("restart", key) for key in keys]
            reply = publish(new, *restarts, new.certify())
            if keys[-1] == old.identity_key:
                assert isinstance(reply, m.Published)
            else:
                refused(reply, "identity-differs")


def test_a_token_does_not_replace_an_identity_key(enter: Enter) -> None:
    old = enter("alice")
    with Person(old.server, "alice") as thief:
        thief.device, thief.token = old.device, old.token
        assert isinstance(thief.ask(m.Resume, *old.credentials(thief.channel)), m.LoggedIn)
        restart = thief.state("restart", old.identity_key)
        certificate = thief.certify()
        refused(publish(thief, restart, certificate), "not-allowed")
    with Person(old.server, "alice") as twin:
        twin.device, twin.identity, twin.chain, twin.signature = (
            thief.device, thief.identity, thief.chain, thief.signature,
        )  # fmt: skip
        twin.login(publish=False)
        assert isinstance(publish(twin, restart, certificate), m.Published)


def test_a_succession_is_signed_by_both_keys_and_needs_no_password(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    away = beside(alice)
    assert isinstance(publish(away, away.certify()), m.Published)
    alice.chain = list(away.chain)
    heir = Person(alice.server, "alice")
    heir.device = alice.device  # the same device under a new key
    statement = alice.state("succeed", heir.identity_key, successor=heir.identity)
    certificate = heir.certify()
    refused(publish(alice, statement), "bad-request")  # the new chain does not begin
    stranger = Person(alice.server, "alice")
    stranger.device = alice.device
    refused(publish(alice, statement, stranger.certify()), "bad-request")  # another one begins
    assert bob.ask(m.FetchStatements, "alice", b"", 0).identity_key == alice.identity_key
    assert isinstance(publish(alice, statement, certificate), m.Published)
    assert bob.ask(m.FetchStatements, "alice", b"", 0).identity_key == heir.identity_key
    assert isinstance(publish(alice, statement, certificate), m.Published)  # again
    closing = away.ended().closing
    assert closing is not None
    assert closing.reason == "revoked"  # no certificate under the new key
    assert alice.protocol.allows(m.FetchKeyPackages)


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_statements_are_fetched_in_portions(enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_LINKS_FETCHED", 2)
    alice, bob = enter("alice"), enter("bob")
    for _ in range(3):
        publish(alice, alice.rotate())
    first = bob.ask(m.FetchStatements, "alice", alice.identity_key, 0)
    rest = bob.ask(m.FetchStatements, "alice", alice.identity_key, 2)
    assert [decode_link(each) for each in (*first.links, *rest.links)] == alice.chain
    assert (first.more, rest.more) == (True, False)
    for account, key in (("nobody", b""), ("bob", alice.identity_key), ("alice", bob.identity_key)):
        nothing = bob.ask(m.FetchStatements, account, key, 0)
        assert (nothing.links, nothing.more) == ([], False)


def test_an_account_has_a_budget_of_statements_and_repeating_them_is_free(
    start: Callable[..., MemoryServer]
) -> None:
    server = start(statements_per_account=Rate(3, 0.01))
    alice, bob = (Person(server, name).register().login() for name in ("alice", "bob"))
    assert isinstance(publish(alice, alice.rotate(), alice.rotate()), m.Published)  # each link counts
    last = alice.rotate()
    refused(publish(alice, last), "slow-down")
    assert isinstance(publish(alice, alice.chain[-2]), m.Published)
    assert isinstance(publish(bob, bob.rotate()), m.Published)
    server.advance(server.seconds + 200)
    assert isinstance(publish(alice, last), m.Published)


def test_who_holds_no_identity_key_spends_nothing_of_that_budget(start: Callable[..., MemoryServer]) -> None:
    server = start(statements_per_account=Rate(3, 0.01), requests_per_account=Rate(20, 0.01))
    alice = Person(server, "alice").register().login()
    honest = alice.rotate()
    for _ in range(10):
        refused(publish(alice, flipped(honest)), "bad-request")
    assert isinstance(publish(alice, honest, alice.rotate()), m.Published)
    alice.rotate()
    answers = {publish(alice, flipped(alice.certificate())).code for _ in range(10)}  # type: ignore[attr-defined]
    assert answers == {"bad-request", "slow-down"}  # they count as requests


def test_the_time_at_which_a_link_was_taken_is_kept(enter: Enter) -> None:
    alice = enter("alice")
    head = alice.server.store.chains.head("alice", alice.identity_key)
    assert head is not None
    assert abs(head.time / 1000 - time.time()) < 600


def test_nobody_is_added_by_a_key_package_of_an_old_certificate(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#club", "invite")
    (room,) = alice.groups
    old = alice.adds("bob")
    assert isinstance(publish(bob, bob.rotate(), packages=[bob.key_package(), bob.key_package()]), m.Published)
    refused(alice.change(room, *old), "old-certificate")
    refused(alice.open_direct("bob", adds=old), "old-certificate")
    assert isinstance(alice.change(room, *alice.adds("bob")), m.Accepted)
    assert isinstance(alice.open_direct("bob"), m.Accepted)


def test_who_has_rotated_goes_on_under_the_old_leaf_until_it_is_renewed(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#club", "invite")
    (room,) = alice.groups
    signature = alice.signature
    assert isinstance(publish(alice, alice.rotate(), packages=[alice.key_package()]), m.Published)
    alice.signature = signature
    assert isinstance(alice.change(room, *alice.adds(bob.account)), m.Accepted)


def never_published(person: Person, seq: int) -> DeviceCertificate:
    """A certificate by the person's own identity key that the server does not know, with a `seq` of its choosing."""
    signature = SignaturePrivateKey.generate(SUITE)
    certificate = issue(
        person.identity, server_id=person.hello.server_id, account=person.account, device_id=person.device,
        signature_key=signature.public_key, not_before=person.now - 86_400, not_after=person.now + 86_400,
        seq=seq, previous=bytes(31) + b"p",
    )  # fmt: skip
    person.signature = signature
    person.chain.append(certificate)
    return certificate


@pytest.mark.parametrize("way", ["join", "resync", "path", "open", "direct"])
@pytest.mark.parametrize("seq", [2, 1000, limits.MAX_COUNT])
def test_no_leaf_comes_under_a_certificate_that_nobody_has_published(enter: Enter, way: str, seq: int) -> None:
    alice, mallory = enter("alice"), enter("mallory")
    alice.open_room("#lobby")
    (room,) = alice.groups
    if way in ("resync", "path"):
        mallory.join("#lobby")
    before = mallory.server.head(room).epoch

    def move() -> object:
        if way == "path":
            certificate = mallory.certificate()
            return mallory.change(room, credential=credential(certificate), signature_private=mallory.signature)
        if way == "open":
            return mallory.open_room("#other")
        if way == "direct":
            return mallory.open_direct("alice")
        offer = mallory.ask(m.Join, "#lobby") if way == "join" else mallory.ask(m.Resync, room)
        old = mallory.groups[room].own_leaf if way == "resync" else None
        staged = mallory.external_commit(offer, old=old)
        return mallory.ask(m.Commit, room, offer.number + 1, staged.message, b"", staged.group_info)

    signature, chain = mallory.signature, list(mallory.chain)
    never_published(mallory, seq)
    refused(move(), "invalid-commit" if way in ("open", "direct") else "old-certificate")
    assert mallory.server.head(room).epoch == before
    mallory.signature, mallory.chain = signature, chain
    assert isinstance(publish(mallory, mallory.rotate(), packages=[mallory.key_package()]), m.Published)
    assert isinstance(move(), m.Accepted | m.Done)  # the twin: what is published


@pytest.mark.parametrize("way", ["packages", "open", "direct"])
def test_what_was_checked_under_the_certificate_before_is_refused(enter: Enter, way: str) -> None:
    alice, mallory = enter("alice"), enter("mallory")
    server = alice.server
    adds = mallory.adds("alice")
    old, group = [mallory.key_package() for _ in range(2)], mallory.found(Rules("direct"))
    staged = mallory.make_commit(group, *adds)
    room = mallory.found(Rules("open", "#den", owners=(Identity.of(mallory.certificate()),)))
    requests: dict[str, tuple[Any, ...]] = {
        "packages": (m.PublishKeyPackages, old[:1], old[1]),
        "open": (m.OpenRoom, room.group_id, room.group_info(with_tree=True), room.group_info(with_tree=False)),
        "direct": (
            m.OpenDirect, group.group_id, "alice", group.group_info(with_tree=True), staged.message, staged.welcome,
            staged.group_info,
        ),
    }  # fmt: skip
    kind, *fields = requests[way]
    request = kind(mallory.protocol.next_id(), *fields)
    with server.slow_checks():
        mallory.send(request)
    assert isinstance(publish(mallory, mallory.rotate(), packages=[mallory.key_package()]), m.Published)
    server.finish_checks()
    refused(mallory.take(m.Refused), "old-certificate")
    taken = {each for _ in range(3) for each in alice.ask(m.FetchKeyPackages, "mallory").key_packages}
    assert not taken & set(old)
    if way == "packages":
        fresh = [mallory.key_package() for _ in range(2)]
        assert isinstance(mallory.ask(m.PublishKeyPackages, fresh[:1], fresh[1]), m.Stock)
