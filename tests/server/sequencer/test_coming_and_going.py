"""Coming and going: logging in, devices, one session a device, the waiting room, where reading begins."""

import sys
from collections.abc import Callable

import pytest

from securechat.identity.certificate import certificate_of
from securechat.mls.proposals import Remove
from securechat.mls.tree_math import LeafIndex
from securechat.policy import departure_data
from securechat.server.sequencer.conversation import IDLE_SECONDS
from securechat.server.sequencer.operations import ForgetAccount
from securechat.server.store.records import READER_SECONDS
from securechat.wire import messages as m
from tests.support.memory_server import MemoryClient, MemoryServer
from tests.support.memory_server import MemoryPerson as Person

Enter = Callable[..., Person]
Start = Callable[..., MemoryServer]


def refused(reply: object, code: str) -> None:
    assert isinstance(reply, m.Refused), reply
    assert reply.code == code, reply


def chat(enter: Enter) -> tuple[Person, Person, bytes]:
    alice, bob = enter("alice"), enter("bob")
    bob.read_inbox()
    alice.open_direct("bob")
    return alice, bob, bob.accept_welcome()


def test_a_wrong_password_and_an_unknown_account_get_the_same_answer(
    enter: Enter, connect: Callable[..., MemoryClient]
) -> None:
    enter("alice")
    client = connect()
    wrong = client.ask(m.Login, "alice", bytes(32), bytes(16))
    unknown = client.ask(m.Login, "nobody", bytes(32), bytes(16))
    refused(wrong, "login-refused")
    assert (wrong.code, wrong.text) == (unknown.code, unknown.text)


def test_registering_again_with_the_same_secret_succeeds_and_with_another_does_not(
    enter: Enter, connect: Callable[..., MemoryClient]
) -> None:
    alice = enter("alice")
    client = connect()
    assert isinstance(client.ask(m.Register, "alice", alice.secret), m.Registered)
    refused(client.ask(m.Register, "ALICE", bytes(32)), "name-taken")


@pytest.mark.parametrize(
    ("registration", "given", "code"),
    [("closed", "", "registration-closed"), ("invite", "wrong", "registration-closed"), ("invite", "sesame", None)],
)
def test_registration_is_as_the_operator_wants_it(
    start: Start, registration: str, given: str, code: str | None
) -> None:
    server = start(registration=registration, invite_code="sesame" if registration == "invite" else "")
    with Person(server, "alice") as alice:
        assert alice.hello.registration == registration
        reply = alice.ask(m.Register, "alice", alice.secret, given)
        if code is None:
            assert isinstance(reply, m.Registered)
        else:
            refused(reply, code)


def test_a_device_that_is_not_published_can_only_publish(server: MemoryServer) -> None:
    with Person(server, "alice") as alice:
        alice.register().login(publish=False)
        assert not alice.protocol.allows(m.FetchKeyPackages)
        assert isinstance(alice.ask(m.ListRooms), m.Rooms)
        assert not alice.protocol.allows(m.PublishKeyPackages)
        alice.publish()
        assert alice.protocol.allows(m.FetchKeyPackages)


def test_another_identity_key_is_refused_unless_it_replaces_the_old_one(enter: Enter) -> None:
    old = enter("alice")
    with Person(old.server, "alice") as new:
        new.login(publish=False)
        refused(new.ask(m.Publish, [new.certificate().encode()], [], b""), "identity-differs")
        new.publish(instead_of=old)
        closing = old.ended().closing
        assert closing is not None
        assert closing.reason == "revoked"
        with Person(old.server, "alice") as again:
            refused(again.ask(m.Resume, *old.credentials(again.channel)), "token-refused")


def test_who_shares_a_conversation_with_a_device_that_is_dropped_is_told_and_nobody_else(enter: Enter) -> None:
    alice, bob, conversation = chat(enter)
    stranger = enter("carol")
    alice.subscribe(conversation)
    with Person(alice.server, "bob") as new:
        new.login(publish=False)
        new.publish(instead_of=bob)
        gone = [m.Gone(bob.device, new.certificate().encode())]
        assert alice.take(m.DirectoryNews) == m.DirectoryNews(conversation, gone)
        assert alice.subscribe(conversation).gone == gone  # and whoever comes later
        members = alice.ask(m.Members, conversation).members
        both = {"alice": True, "bob": False}
        assert members == [m.Member(account, here, here) for account, here in both.items()]
        for other in (stranger, new):
            other.ask(m.ListRooms)  # whatever was on its way has come
            assert not [each for each in other.received if isinstance(each, m.DirectoryNews)]
    with Person(alice.server, "bob") as back:
        back.device, back.identity, back.signature, back.chain = bob.device, bob.identity, bob.signature, bob.chain
        back.login(publish=False)
        back.publish(instead_of=new)
        assert alice.take(m.DirectoryNews) == m.DirectoryNews(conversation, [])
        assert alice.subscribe(conversation).gone == []


@pytest.mark.parametrize("deleted", ["bob", "carol"])
def test_who_shares_a_conversation_with_a_deleted_account_is_told_and_nobody_else(enter: Enter, deleted: str) -> None:
    alice, bob, conversation = chat(enter)
    carol = enter("carol")
    for person in (alice, bob):
        person.subscribe(conversation)
    server = alice.server
    server.advance(server.seconds + 5)
    server.accounts.delete(deleted).result()
    server.sequencer.operate(ForgetAccount(deleted, lambda _: None))
    server.run()
    if deleted == "bob":
        gone = [m.Gone(bob.device, b"")]
        assert alice.take(m.DirectoryNews) == m.DirectoryNews(conversation, gone)
        assert alice.take(m.Presence, lambda event: event.state != "online") == m.Presence(
            conversation, "bob", "offline"
        )
        assert alice.ask(m.Members, conversation).members == [
            m.Member("alice", online=True, published=True), m.Member("bob", online=False, published=False)
        ]  # fmt: skip
    for other in (alice, carol) if deleted == "bob" else (alice, bob):
        other.ask(m.ListRooms)  # whatever was on its way has come
        server.advance(server.seconds + 5)
        other.ask(m.ListRooms)
        assert not [
            each
            for each in other.received
            if isinstance(each, m.DirectoryNews) or (isinstance(each, m.Presence) and each.state != "online")
        ]


def test_a_device_that_is_published_again_or_beside_another_is_no_news(enter: Enter) -> None:
    alice, bob, conversation = chat(enter)
    assert alice.subscribe(conversation).gone == []
    bob.publish()
    with Person(alice.server, "bob") as second:
        second.identity, second.chain = bob.identity, bob.chain
        second.login()
    assert alice.subscribe(conversation).gone == []
    assert not [each for each in alice.received if isinstance(each, m.DirectoryNews)]


@pytest.mark.parametrize("deleted", [True, False], ids=["deleted", "kept"])
def test_whoever_comes_later_is_told_of_a_deleted_account_until_its_leaf_is_gone(
    server: MemoryServer, enter: Enter, *, deleted: bool
) -> None:
    alice, bob, carol = enter("alice"), enter("bob"), enter("carol")
    alice.open_room("#den")
    (den,) = alice.groups
    for person in (bob, carol):
        person.join("#den")
    alice.link.close()  # she is not there when it happens
    if deleted:
        server.accounts.delete("carol").result()
        server.sequencer.operate(ForgetAccount("carol", lambda _: None))
        server.run()
    server.advance(server.seconds + IDLE_SECONDS + 1)
    for person in (bob, carol):
        person.link.close()
    server.advance(server.seconds + IDLE_SECONDS + 1)
    server.tidy()
    assert server.sequencer._conversations.loaded(den) is None  # none of it is in memory alone
    back, other = Person(server, "alice").take_over(alice), Person(server, "bob").take_over(bob)
    gone = [m.Gone(carol.device, b"")] if deleted else []
    assert [person.subscribe(den).gone for person in (back, other)] == [gone, gone]
    there = [each.account for each in back.ask(m.Members, den).members if each.published]
    assert there == ["alice", "bob"] + ["carol"] * (not deleted)
    for _ in range(2):
        back.process(back.take(m.Entry))
    (leaf,) = [
        leaf for leaf, node in back.groups[den].public.members() if certificate_of(node).account == "carol"
    ]
    assert isinstance(back.change(den, Remove(leaf)), m.Accepted)
    assert [person.subscribe(den).gone for person in (back, other)] == [[], []]
    assert server.store._writer.one("SELECT count(*) FROM deleted_members") == 0


def test_in_a_large_room_devices_that_are_gone_are_told_on_request_alone(
    enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securechat.server.sequencer.news.MAX_TOLD", 1)
    alice, bob, conversation = chat(enter)
    alice.subscribe(conversation)
    with Person(alice.server, "bob") as new:
        new.login(publish=False)
        new.publish(instead_of=bob)
        assert alice.subscribe(conversation).gone == []
        assert [each.published for each in alice.ask(m.Members, conversation).members] == [True, False]
    assert not [each for each in alice.received if isinstance(each, m.DirectoryNews)]


def test_a_second_device_of_the_same_identity_is_welcome(enter: Enter) -> None:
    first, bob = enter("alice"), enter("bob")
    with Person(first.server, "alice") as second:
        second.identity, second.chain = first.identity, first.chain
        second.login()
        assert len(bob.ask(m.FetchKeyPackages, "alice").key_packages) == 2


def test_a_certificate_of_somebody_else_is_refused(enter: Enter) -> None:
    bob = enter("bob")
    with Person(bob.server, "alice") as alice:
        alice.register().login(publish=False)
        refused(alice.ask(m.Publish, [bob.certificate().encode()], [], b""), "bad-request")
        refused(alice.ask(m.Publish, [b"nonsense"], [], b""), "bad-request")


def test_a_second_login_of_a_device_ends_the_first_session(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    bob.read_inbox()
    alice.open_direct("bob")
    conversation = bob.accept_welcome()
    alice.subscribe(conversation)
    second = alice.again()
    closing = alice.ended().closing
    assert closing is not None
    assert closing.reason == "replaced"
    second.subscribe(conversation)
    bob.say(conversation, "to the new one")
    assert second.read(conversation) == [(2, "to the new one")]
    second.drop()


@pytest.mark.parametrize(("who", "accepted"), [("alice", 0), ("bob", 1)])
def test_a_commit_that_is_still_checked_when_its_session_is_replaced_is_not_accepted(
    server: MemoryServer, enter: Enter, who: str, accepted: int
) -> None:
    alice, bob, conversation = chat(enter)
    staged = alice.make_commit(alice.groups[conversation])
    assert staged.group_info is not None
    commit = m.Commit(alice.protocol.next_id(), conversation, 2, staged.message, b"", staged.group_info)
    with server.slow_checks():
        alice.send(commit)
    with {"alice": alice, "bob": bob}[who].again() as again:
        server.finish_checks()
        assert again.subscribe(conversation, 1).head == 1 + accepted
    if who == "bob":
        assert alice.take(m.Accepted).seq == 2


def test_a_member_whose_session_is_replaced_while_its_commit_is_checked_loses_its_lease(
    server: MemoryServer, enter: Enter
) -> None:
    alice, bob, carol = enter("alice"), enter("bob"), enter("carol")
    alice.open_room("#lobby")
    room = bob.join("#lobby")
    alice.subscribe(room)
    alice.process(alice.take(m.Entry))
    carol.ask(m.Join, "#lobby")
    for _ in range(3):
        refused(alice.change(room), "leased")
    staged = alice.make_commit(alice.groups[room])
    assert staged.group_info is not None
    carol.bye()
    lease = server.sequencer._conversations.find(room, 0).lease_queue.lease
    assert lease is not None
    assert lease.who == ("alice", alice.device)
    with server.slow_checks():
        alice.send(m.Commit(alice.protocol.next_id(), room, 1, staged.message, b"", staged.group_info))
    with alice.again():
        server.finish_checks()
        assert isinstance(bob.change(room), m.Accepted)


def test_the_waiting_room_is_fair_and_says_each_place(start: Start) -> None:
    server = start(max_clients=2)
    people = [Person(server, name).register() for name in ("alice", "bob", "carol", "dave", "erin")]
    alice, bob, carol, dave, erin = people
    places = [person.ask(m.Login, person.account, person.secret, person.device).place for person in people]
    assert places == [0, 0, 1, 2, 3]
    assert not carol.protocol.allows(m.ListRooms)
    alice.bye()
    assert [person.take(m.Seat).place for person in (carol, dave, erin)] == [0, 1, 2]
    carol.publish()
    dave.bye()
    assert erin.take(m.Seat).place == 1
    bob.bye()
    assert erin.take(m.Seat).place == 0
    for person in people:
        person.drop()


def test_an_account_has_one_place_whatever_its_devices(start: Start) -> None:
    server = start(max_clients=1)
    alice = Person(server, "alice").register().login()
    first, second = (Person(server, "bob") for _ in range(2))
    first.register()
    places = [person.ask(m.Login, "bob", person.secret, person.device).place for person in (first, second)]
    assert places == [1, 1]
    alice.bye()
    assert [person.take(m.Seat).place for person in (first, second)] == [0, 0]
    first.drop()
    second.drop()


def test_a_seat_is_kept_for_a_lost_connection_and_not_after_a_goodbye(start: Start) -> None:
    server = start(max_clients=1)
    alice = Person(server, "alice").register().login()
    bob = Person(server, "bob").register()
    alice.drop()
    assert bob.ask(m.Login, "bob", bob.secret, bob.device).place == 1
    back = alice.again()  # comes back to its own seat, past those who wait
    assert isinstance(back.ask(m.ListRooms), m.Rooms)
    back.protocol.close("too-slow")  # which is no goodbye
    back.flush()
    back.drop()
    back = alice.again()
    assert isinstance(back.ask(m.ListRooms), m.Rooms)
    said_goodbye = server.seconds
    back.bye()
    assert bob.take(m.Seat).place == 0
    assert server.seconds == said_goodbye  # at once
    bob.drop()


def test_a_subscription_starts_where_it_is_asked_to(enter: Enter) -> None:
    alice, bob, conversation = chat(enter)
    for text in ("one", "two", "three"):
        alice.say(conversation, text)
    subscribed = bob.subscribe(conversation, 3)
    assert (subscribed.head, subscribed.last) == (4, 0)
    assert bob.take(m.Entry).seq == 4
    assert bob.subscribe(conversation, 2).head == 4  # again, from further back
    assert [bob.take(m.Entry).seq, bob.take(m.Entry).seq] == [3, 4]


def test_a_member_cannot_read_what_was_before_it(enter: Enter) -> None:
    alice = enter("alice")
    alice.open_room("#lobby")
    (room,) = alice.groups
    for text in ("one", "two"):
        alice.say(room, text)
    bob = enter("bob")
    bob.join("#lobby")
    bob.subscribe(room, 0)
    alice.subscribe(room, 3 - 1)
    alice.process(alice.take(m.Entry))
    alice.say(room, "three")
    assert bob.take(m.Entry).seq == 4


def test_an_acknowledged_welcome_does_not_come_again(enter: Enter) -> None:
    _, bob, conversation = chat(enter)
    assert isinstance(bob.ask(m.ListRooms), m.Rooms)  # the acknowledgement has been handled
    again = bob.again()
    again.read_inbox()
    assert isinstance(again.subscribe(conversation), m.Subscribed)
    assert isinstance(again.ask(m.ListRooms), m.Rooms)
    assert not [event for event in again.received if isinstance(event, m.Welcomed)]
    again.drop()


def test_of_letters_that_are_gone_the_reader_is_told(server: MemoryServer, enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    assert isinstance(alice.open_direct("bob"), m.Accepted)
    server.now += (READER_SECONDS + 1) * 1000
    server.tidy()
    bob.read_inbox()
    assert bob.take(m.Message) == m.Truncated(bob.device, 2, b"")


def test_a_welcome_waits_for_who_is_away(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    bob.drop()
    opened = alice.open_direct("bob")
    alice.say(opened.conversation, "when you are back")
    back = bob.again()
    back.read_inbox()
    assert back.accept_welcome() == opened.conversation
    back.subscribe(opened.conversation)
    assert back.read(opened.conversation) == [(2, "when you are back")]
    back.drop()


def test_who_has_published_no_key_packages_yet_is_said_to_be_setting_up(enter: Enter) -> None:
    bob = enter("bob")
    with Person(bob.server, "alice") as alice:
        alice.ask(m.Register, "alice", alice.secret)
        alice.login(publish=False)
        refused(bob.ask(m.FetchKeyPackages, "alice"), "not-found")
        alice.ask(m.Publish, [alice.certificate().encode()], [], b"")
        refused(bob.ask(m.FetchKeyPackages, "alice"), "busy")


def test_a_device_that_was_removed_and_added_again_while_away_hears_of_the_gap(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#staff", "invite")
    (room,) = alice.groups

    alice.change(room, *alice.adds("bob"))
    bob.read_inbox()
    bob.accept_welcome()
    place = bob.cursors[room]
    assert bob.subscribe(room, place).head == place
    bob.drop()
    alice.change(room, Remove(LeafIndex(1)))
    alice.change(room, *alice.adds("bob"))
    with bob.again() as again:
        assert again.subscribe(room, place).head == place + 2
        gap = again.take(m.Truncated)
        assert (gap.conversation, gap.first_seq) == (room, place + 3)
        alice.say(room, "hello again")
        assert again.take(m.Entry).seq == place + 3
    with bob.again() as again:  # who reads from there misses nothing
        assert again.subscribe(room, place + 2).head == place + 3
        assert again.take(m.Entry).seq == place + 3


@pytest.mark.parametrize("away", [False, True])
def test_a_device_that_entered_again_by_itself_keeps_its_place_in_the_log(enter: Enter, *, away: bool) -> None:
    """Whoever has copied its vault can make it do so: what lay before is as much its own as ever."""
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#staff", "invite")
    (room,) = alice.groups
    alice.change(room, *alice.adds("bob"))
    bob.read_inbox()
    bob.accept_welcome()
    place = bob.cursors[room]
    alice.say(room, "before")
    offer = bob.ask(m.Resync, room)
    assert isinstance(offer, m.JoinOffer)
    staged = bob.external_commit(offer, old=bob.groups[room].own_leaf)
    request = (room, offer.number + 1, staged.message, b"", staged.group_info)
    accepted = bob.ask(m.Commit, *request)
    retry = bob.ask(m.Commit, *request)
    assert isinstance(accepted, m.Accepted)
    assert (retry.seq, retry.chain) == (accepted.seq, accepted.chain) == (place + 2, bob.server.head(room).chain)
    bob.drop()
    with bob.again() as again:
        if away:  # it had read nothing of this
            again.subscribe(room, place)
            assert [again.take(m.Entry).seq for _ in range(2)] == [place + 1, place + 2]
        else:  # it has made it itself, and gets nothing twice
            again.subscribe(room, accepted.seq)
        alice.subscribe(room, place + 1)
        alice.process(alice.take(m.Entry))
        alice.say(room, "after")
        assert again.take(m.Entry).seq == place + 3


def test_a_device_that_enters_again_while_it_reads_goes_on_reading(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#staff", "invite")
    (room,) = alice.groups
    alice.change(room, *alice.adds("bob"))
    bob.read_inbox()
    bob.accept_welcome()
    place = bob.subscribe(room, bob.cursors[room]).head
    offer = bob.ask(m.Resync, room)
    staged = bob.external_commit(offer, old=bob.groups[room].own_leaf)
    assert isinstance(bob.ask(m.Commit, room, offer.number + 1, staged.message, b"", staged.group_info), m.Accepted)
    alice.subscribe(room, place)
    alice.process(alice.take(m.Entry))
    alice.say(room, "after")
    assert bob.take(m.Entry, lambda entry: not entry.group_info).seq == place + 2


@pytest.mark.parametrize("what", ["commit", "departure"])
def test_what_was_checked_in_an_epoch_of_another_branch_is_refused(
    server: MemoryServer, enter: Enter, what: str
) -> None:
    """A restored conversation may go on in another branch while a worker is busy: the number of an epoch is not its
    name."""
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#den")
    (room,) = alice.groups
    bob.join("#den")
    number, group = bob.number(room), bob.groups[room]

    def move() -> m.Request:
        if what == "commit":
            staged = bob.make_commit(group)
            assert staged.group_info is not None
            return m.Commit(bob.protocol.next_id(), room, number, staged.message, b"", staged.group_info)
        data = departure_data(number, group.public.member(group.own_leaf))
        proposal = group.propose(Remove(group.own_leaf), authenticated_data=data)
        return m.Leave(bob.protocol.next_id(), room, number, proposal)

    head = server.head(room)
    seq, opening = head.seq, head.group_info
    with server.slow_checks():
        bob.send(move())
    head.group_info = b"of the same epoch in another branch"
    server.finish_checks()
    assert bob.take(m.Refused).code == "stale-epoch"
    head.group_info = opening
    assert head.seq == seq
    bob.send(move())  # the twin
    assert bob.take(m.Accepted).seq == seq + 1


def test_a_room_whose_state_cannot_be_read_is_read_again_for_the_next_who_asks(
    server: MemoryServer, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = enter("alice"), enter("bob")
    assert isinstance(alice.open_room("#lobby"), m.Done)
    server.sequencer._conversations.evict(server.seconds + 10 * IDLE_SECONDS)
    with monkeypatch.context() as broken:
        broken.setattr(server.store.conversations, "read_group", lambda _: (b"damaged", []))
        refused(bob.ask(m.Join, "#lobby"), "not-now")
    assert isinstance(bob.ask(m.Join, "#lobby"), m.JoinOffer)


def work_of(act: Callable[[], object]) -> int:
    """How many calls of Python functions and of C's it takes."""
    calls = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return calls


def test_logins_cost_the_same_however_many_accounts_there_are_and_write_none_of_them(
    server: MemoryServer,
) -> None:
    """By password, by token, and with a new identity key, over and over."""
    Person(server, "alice").register()
    known: list[Person] = []

    def log_in() -> None:
        with Person(server, "alice") as person:
            person.login(publish=False)
            person.publish(instead_of=known[-1] if known else None)
            known.append(person)
        with Person(server, "alice") as again:
            again.take_over(person)

    log_in()
    log_in()
    few = work_of(log_in)
    futures = [server.accounts.add(f"somebody{n}", "a hash" * 20) for n in range(2000)]
    assert futures[-1].result(60).name == "somebody1999"
    file = server.accounts._path
    before = file.stat()
    many = work_of(log_in)
    assert file.stat() == before
    assert many < few * 1.1
