"""Numbers, epochs, commits, leaving, leases, reading: the sequencer's promises, with real groups."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from securechat.identity.certificate import RULES_EXTENSION, credential
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.mls.extensions import Extension, ExtensionType, RequiredCapabilities
from securechat.mls.framing import ContentType, MLSMessage, PrivateMessage, PublicMessage, decode_body
from securechat.mls.group_info import GroupInfo
from securechat.mls.key_package_bundle import generate_key_package
from securechat.mls.leaf_node import Lifetime
from securechat.mls.proposals import GroupContextExtensions, Proposal, Remove
from securechat.mls.tree_math import LeafIndex
from securechat.mls.welcome import Welcome
from securechat.policy import Identity, Rules, departure_data
from securechat.server.sequencer import validation
from securechat.server.sequencer.conversation import Conversation
from securechat.server.sequencer.operations import DepartureChecked, RoomChecked
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Run
from securechat.server.sequencer.validation import Checked, Validator
from securechat.server.store.records import Head
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.chain import CHAIN_START, next_chain
from securechat_lab.cast import wire_client
from tests.support.log import logged
from tests.support.memory_server import MemoryPerson as Person
from tests.support.memory_server import MemoryServer

Enter = Callable[..., Person]


@pytest.fixture
def pair(enter: Enter) -> tuple[Person, Person, bytes]:
    """alice and bob in a direct conversation, both reading live."""
    alice, bob = enter("alice"), enter("bob")
    bob.read_inbox()
    assert isinstance(alice.open_direct("bob"), m.Accepted)
    conversation = bob.accept_welcome()
    for person in (alice, bob):
        person.subscribe(conversation)
    return alice, bob, conversation


@pytest.fixture
def room(enter: Enter) -> tuple[Person, Person, Person, bytes]:
    """alice, bob and carol in #lobby, all reading live."""
    people = [enter(name) for name in ("alice", "bob", "carol")]
    assert isinstance(people[0].open_room("#lobby"), m.Done)
    (conversation,) = people[0].groups
    people[0].subscribe(conversation)
    for person in people[1:]:
        person.join("#lobby")
        person.subscribe(conversation)
    catch_up(people[0], conversation, 2)
    catch_up(people[1], conversation, 1)
    alice, bob, carol = people
    return alice, bob, carol, conversation


@pytest.mark.parametrize(("size", "taken"), [(10, 64), (1000, 17)])
def test_a_run_takes_no_more_than_it_should(size: int, taken: int) -> None:
    head = Head(b"c" * 32, "open", "#lobby", 0, 1, 1, CHAIN_START, b"")
    session: Any = SimpleNamespace(device=b"d" * 16)
    run = Run(Conversation(head), session, "a")
    requests = deque((number, bytes(size)) for number in range(100))
    run.extend(requests, 1, 1)
    assert run.full
    assert len(run.entries) == len(run.accepted) == head.seq == head.numbers_of(b"d" * 16).last == taken
    assert requests[0] == (taken, bytes(size))  # the next run's
    run.extend(requests, 1, 1)
    assert len(requests) == 100 - taken


def catch_up(person: Person, conversation: bytes, entries: int) -> None:
    """Process so many entries that hold no text."""
    for _ in range(entries):
        assert person.process(person.take(m.Entry, lambda entry: entry.conversation == conversation)) is None


def refused_at_all(reply: object) -> m.Refused:
    assert isinstance(reply, m.Refused), reply
    return reply


def refused(reply: object, code: str) -> m.Refused:
    refusal = refused_at_all(reply)
    assert refusal.code == code, reply
    return refusal


Pair = tuple[Person, Person, bytes]
Room = tuple[Person, Person, Person, bytes]


# --- numbers ---


def test_a_retry_gets_the_same_answer_and_is_one_entry(pair: Pair) -> None:
    alice, bob, conversation = pair
    submit = alice.encrypt(conversation, "once")
    alice.send(submit)
    first = alice.take(m.Accepted)
    again = alice.ask(m.Submit, conversation, submit.number, submit.payload)
    assert (again.number, again.seq, again.time) == (first.number, first.seq, first.time)
    alice.say(conversation, "twice")
    assert bob.read(conversation, 2) == [(first.seq, "once"), (first.seq + 1, "twice")]


def test_a_commit_that_adds_nobody_leaves_no_letter(server: MemoryServer, pair: Pair) -> None:
    """It would be in no inbox, and hold a whole tree."""
    alice, _, conversation = pair
    (before,) = server.store._writer.rows("SELECT count(*) FROM letters")
    assert before == (1,)  # the twin: the Welcome by which bob came in
    assert isinstance(alice.change(conversation), m.Accepted)
    assert server.store._writer.rows("SELECT count(*) FROM letters") == [before]


def test_a_commit_that_comes_again_while_it_is_checked_is_one_commit(server: MemoryServer, pair: Pair) -> None:
    alice, _, conversation = pair
    counted, seq = server.sequencer._counters.commits["accepted"], server.head(conversation).seq
    staged, number = alice.make_commit(alice.groups[conversation]), alice.number(conversation)
    with server.slow_checks():
        for _ in range(2):
            request = alice.protocol.next_id()
            alice.send(m.Commit(request, conversation, number, staged.message, b"", staged.group_info or b""))
    server.finish_checks()
    assert [alice.take(m.Accepted).seq for _ in range(2)] == [seq + 1, seq + 1]
    assert server.sequencer._counters.commits["accepted"] == counted + 1


def test_a_used_number_with_other_bytes_is_refused(pair: Pair) -> None:
    alice, _, conversation = pair
    alice.say(conversation, "one")
    number = alice.numbers[conversation]
    alice.numbers[conversation] -= 1
    other = alice.encrypt(conversation, "other")
    assert other.number == number
    refused(alice.ask(m.Submit, conversation, number, other.payload), "wrong-number")
    assert isinstance(alice.say(conversation, "two"), m.Accepted)


@pytest.mark.parametrize("step", [2, 100, -1])
def test_a_number_out_of_order_is_refused(pair: Pair, step: int) -> None:
    alice, _, conversation = pair
    alice.say(conversation, "one")
    alice.numbers[conversation] += step - 1
    refused(alice.say(conversation, "x"), "wrong-number")


def test_the_number_inside_must_be_the_one_outside(pair: Pair) -> None:
    alice, _, conversation = pair
    number = alice.number(conversation)
    payload = alice.groups[conversation].encrypt(b"x", authenticated_data=(number + 1).to_bytes(8, "big"))
    refused(alice.ask(m.Submit, conversation, number, payload), "wrong-number")


def test_answers_older_than_the_last_256_are_forgotten(pair: Pair) -> None:
    alice, _, conversation = pair
    submits = [alice.encrypt(conversation, str(n)) for n in range(limits.NUMBERS_KEPT + 1)]
    for submit in submits:
        assert isinstance(alice.ask(m.Submit, conversation, submit.number, submit.payload), m.Accepted)
    oldest, next_oldest = submits[0], submits[1]
    refused(alice.ask(m.Submit, conversation, oldest.number, oldest.payload), "wrong-number")
    assert isinstance(alice.ask(m.Submit, conversation, next_oldest.number, next_oldest.payload), m.Accepted)


def test_many_submissions_at_once_keep_their_order(pair: Pair) -> None:
    alice, bob, conversation = pair
    submits = [alice.encrypt(conversation, str(n)) for n in range(limits.MAX_IN_FLIGHT)]
    for submit in submits:
        alice.protocol.send(submit)
    alice.flush()
    accepted = [alice.take(m.Accepted) for _ in submits]
    assert [reply.number for reply in accepted] == [submit.number for submit in submits]
    assert bob.read(conversation, 64) == [(2 + n, str(n)) for n in range(64)]


def test_what_comes_at_once_is_judged_one_by_one(pair: Pair) -> None:
    alice, bob, conversation = pair
    assert isinstance(alice.open_room("#aside"), m.Done)
    (room,) = set(alice.groups) - {conversation}
    alice.subscribe(room)
    first, second = (alice.encrypt(conversation, text) for text in ("first", "second"))
    aside = alice.encrypt(room, "aside")
    third = alice.encrypt(conversation, "third")

    def again(submit: m.Submit, **fields: object) -> m.Submit:
        return msgspec.structs.replace(submit, id=alice.protocol.next_id(), **fields)

    requests = [
        first,
        again(third),  # too early
        again(second, payload=first.payload),  # its header names the first
        again(first),  # a retry
        again(second, conversation=bytes(32)),
        again(second, conversation=room, number=aside.number),  # the header of another conversation
        second,
        aside,
        third,
    ]
    for request in requests:
        alice.protocol.send(request)
    alice.send(m.Acknowledge(conversation, 1))
    replies = [alice.take(m.Reply, lambda reply, wanted=request.id: reply.id == wanted) for request in requests]  # type: ignore[misc]  # bound at once
    told = [
        (reply.number, reply.seq) if isinstance(reply, m.Accepted) else refused_at_all(reply).code for reply in replies
    ]
    start = first.number
    assert told == [
        (start, 2), "wrong-number", "wrong-number", (start, 2), "not-found", "bad-request",
        (start + 1, 3), (aside.number, 1), (start + 2, 4),
    ]  # fmt: skip
    assert bob.read(conversation, 3) == [(2, "first"), (3, "second"), (4, "third")]


# --- what may be submitted ---


def test_a_stranger_cannot_submit_read_or_ask(pair: Pair, enter: Enter) -> None:
    alice, _, conversation = pair
    eve = enter("eve")
    submit = alice.encrypt(conversation, "x")
    refused(eve.ask(m.Submit, conversation, 1, submit.payload), "not-found")
    refused(eve.subscribe(conversation), "not-found")
    refused(eve.ask(m.Members, conversation), "not-found")
    refused(eve.ask(m.Resync, conversation), "not-found")
    refused(eve.ask(m.Leave, conversation, 1, submit.payload), "not-found")
    refused(eve.ask(m.CommitFailed, conversation, 1), "not-found")
    refused(eve.ask(m.Members, bytes(32)), "not-found")


def test_only_private_application_messages_are_submitted(pair: Pair) -> None:
    alice, _, conversation = pair
    number = alice.number(conversation)
    group = alice.groups[conversation]
    commit = alice.make_commit(group).message
    refused(alice.ask(m.Submit, conversation, number, commit), "bad-request")
    refused(alice.ask(m.Submit, conversation, number, b"\x00\x01"), "bad-request")
    refused(alice.ask(m.Submit, conversation, number, b""), "bad-request")
    other = alice.found(Rules("direct")).encrypt(b"x", authenticated_data=number.to_bytes(8, "big"))
    refused(alice.ask(m.Submit, conversation, number, other), "bad-request")


def test_a_message_of_a_past_epoch_is_stale(pair: Pair) -> None:
    alice, bob, conversation = pair
    late = bob.encrypt(conversation, "late")
    assert isinstance(alice.change(conversation), m.Accepted)
    refused(bob.ask(m.Submit, conversation, late.number, late.payload), "stale-epoch")
    bob.numbers[conversation] -= 1
    catch_up(bob, conversation, 1)
    assert isinstance(bob.say(conversation, "late"), m.Accepted)
    assert alice.read(conversation) == [(3, "late")]


# --- commits ---


def commit(person: Person, conversation: bytes, *proposals: Proposal) -> int:
    """Send a commit; the request."""
    staged = person.staged[conversation] = person.make_commit(person.groups[conversation], *proposals)
    number, request = person.number(conversation), person.protocol.next_id()
    person.send(m.Commit(request, conversation, number, staged.message, b"", staged.group_info or b""))
    return request


def test_exactly_one_commit_of_an_epoch_is_accepted(room: Room, server: MemoryServer) -> None:
    *people, conversation = room
    with server.slow_checks():
        requests = [commit(person, conversation) for person in people]
    server.finish_checks()
    replies = [
        person.take(m.Reply, lambda reply, request=request: reply.id == request)  # type: ignore[misc]  # bound at once
        for person, request in zip(people, requests, strict=True)
    ]
    codes = sorted(reply.code if isinstance(reply, m.Refused) else "accepted" for reply in replies)
    assert codes == ["accepted", "stale-epoch", "stale-epoch"]


def test_a_commit_that_the_rules_forbid_is_refused(room: Room) -> None:
    alice, _, carol, conversation = room
    victim = carol.groups[conversation].own_leaf
    refused(alice.change(conversation, Remove(victim)), "invalid-commit")
    assert isinstance(alice.change(conversation), m.Accepted)


def test_what_is_not_allowed_in_a_commit_is_refused_before_its_signature_is_looked_at(room: Room) -> None:
    alice, _, _, conversation = room
    group, number = alice.groups[conversation], alice.number(conversation)
    supported = Extension(ExtensionType.REQUIRED_CAPABILITIES, RequiredCapabilities((RULES_EXTENSION,)).encode())
    for proposals, reason in (
        ((), "signature"),
        ((GroupContextExtensions((*group.public.extensions, supported)),), "nothing else"),
    ):
        staged = alice.make_commit(group, *proposals)
        good = decode_body(staged.message, PublicMessage)
        forged = MLSMessage(replace(good, auth=replace(good.auth, signature=bytes(64)))).encode()
        reply = refused(alice.ask(m.Commit, conversation, number, forged, b"", staged.group_info), "invalid-commit")
        assert reason in reply.text


def test_a_leaf_that_would_make_the_tree_too_large_to_send_is_refused(room: Room) -> None:
    alice, _, _, conversation = room
    group, number = alice.groups[conversation], alice.number(conversation)
    known = group.public.member(group.own_leaf).capabilities
    for types, code in ((400, "invalid-commit"), (200, "")):  # of extensions, two bytes each
        capabilities = replace(known, extensions=(*known.extensions, *range(0xF100, 0xF100 + types)))
        staged = group.commit(
            (), by_reference=None, tree_in_welcome=False, authenticated_data=wire_client.commit_data(number),
            capabilities=capabilities, validate=lambda *_, **__: None, now=int(time.time()),
        )  # fmt: skip
        reply = alice.ask(m.Commit, conversation, number, staged.message, b"", staged.group_info)
        assert getattr(reply, "code", "") == code
        assert ("1,024 are allowed" in getattr(reply, "text", "")) == bool(code)


def test_a_commit_with_a_wrong_group_info_is_refused(room: Room) -> None:
    alice, bob, _, conversation = room
    staged = alice.make_commit(alice.groups[conversation])
    old = bob.groups[conversation].group_info(with_tree=False)
    number = alice.number(conversation)
    refused(alice.ask(m.Commit, conversation, number, staged.message, b"", old), "invalid-commit")
    seen = bob.groups[conversation].stage(staged.message, validate=bob.validate, now=0).group
    assert seen is not None
    others = seen.group_info(with_tree=False)  # true, and signed by a member, but not by the committer
    refused(alice.ask(m.Commit, conversation, number, staged.message, b"", others), "invalid-commit")
    assert isinstance(alice.ask(m.Commit, conversation, number, staged.message, b"", staged.group_info), m.Accepted)


def test_commits_and_departures_come_in_the_clear(room: Room) -> None:
    alice, _, _, conversation = room
    group, number = alice.groups[conversation], alice.number(conversation)

    def encrypted(content_type: ContentType) -> bytes:
        body = PrivateMessage(conversation, group.epoch, content_type, number.to_bytes(8, "big"), bytes(28), bytes(100))
        return MLSMessage(body).encode()

    staged = alice.make_commit(group)
    commit, proposal = encrypted(ContentType.COMMIT), encrypted(ContentType.PROPOSAL)
    reply = alice.ask(m.Commit, conversation, number, commit, b"", staged.group_info)
    assert "PublicMessage" in refused(reply, "invalid-commit").text
    refused(alice.ask(m.Leave, conversation, number, proposal), "bad-request")
    for payload in (commit, proposal):
        refused(alice.ask(m.Submit, conversation, number, payload), "bad-request")
    assert isinstance(alice.ask(m.Commit, conversation, number, staged.message, b"", staged.group_info), m.Accepted)


def test_a_commit_passes_nobody_by_who_leaves_while_it_is_checked(room: Room, server: MemoryServer) -> None:
    alice, _, carol, conversation = room
    with server.slow_checks():
        request = commit(alice, conversation)
    assert isinstance(carol.leave(conversation), m.Accepted)
    server.finish_checks()
    refused(alice.take(m.Reply, lambda reply: reply.id == request), "commit-first")
    leaf = carol.groups[conversation].own_leaf
    assert isinstance(alice.change(conversation, Remove(leaf)), m.Accepted)


def test_a_commit_bears_the_time_by_which_it_was_checked(
    room: Room, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, _, conversation = room
    times: list[int] = []
    check = Validator.commit

    def checking(validator: Validator, *arguments: Any, time: int, **parts: Any) -> Checked:
        times.append(time)
        return check(validator, *arguments, time=time, **parts)

    monkeypatch.setattr(Validator, "commit", checking)
    with server.slow_checks():
        request = commit(alice, conversation)
    meanwhile = bob.say(conversation, "meanwhile")
    server.finish_checks()
    accepted = alice.take(m.Accepted, lambda reply: reply.id == request)
    assert [accepted.time] == times
    assert accepted.time < meanwhile.time


def test_the_commits_that_are_replayed_after_a_restart_are_few_and_short(
    pair: Pair, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, _, conversation = pair

    def replayed() -> int:
        assert isinstance(alice.change(conversation), m.Accepted)
        stored = server.store.conversations.read_group(conversation)
        assert stored is not None
        return len(stored[1])

    monkeypatch.setattr(validation, "SNAPSHOT_EPOCHS", 4)
    assert [replayed() for _ in range(8)] == [2, 3, 0, 1, 2, 3, 0, 1]  # the first one added bob
    size = len(alice.make_commit(alice.groups[conversation]).message)
    monkeypatch.setattr(validation, "SNAPSHOT_BYTES", size)
    assert replayed() == 2
    monkeypatch.setattr(validation, "SNAPSHOT_BYTES", size - 1)
    assert replayed() == 0


def test_what_was_in_date_when_it_was_accepted_is_replayed_after_a_restart(pair: Pair, server: MemoryServer) -> None:
    alice, _, conversation = pair
    server.now = alice.certificate().not_after * 1000 - 60_000
    assert isinstance(alice.change(conversation), m.Accepted)
    stored = server.store.conversations.read_group(conversation)
    assert stored is not None
    assert len(stored[1]) == 2
    assert Validator(server.store.server_id).restore(*stored).epoch == server.head(conversation).epoch


def test_a_commit_signed_by_somebody_else_is_refused(room: Room) -> None:
    alice, bob, _, conversation = room
    number = alice.number(conversation)
    staged = bob.make_commit(bob.groups[conversation], number=number)
    reply = alice.ask(m.Commit, conversation, number, staged.message, b"", staged.group_info)
    refused(reply, "invalid-commit")


def test_welcomes_must_cover_exactly_those_who_are_added(enter: Enter) -> None:
    alice = enter("alice")
    for name in ("bob", "carol"):
        enter(name)
    assert isinstance(alice.open_room("#team", "invite"), m.Done)
    (conversation,) = alice.groups
    number = alice.number(conversation)
    group = alice.groups[conversation]
    staged = alice.make_commit(group, *alice.adds("bob"))
    other = alice.make_commit(group, *alice.adds("carol"))
    assert staged.welcome is not None
    secrets = decode_body(staged.welcome, Welcome)
    twice = MLSMessage(replace(secrets, secrets=secrets.secrets * 2)).encode()  # which of the two would bob open?
    for welcome in (b"", other.welcome, twice):
        reply = alice.ask(m.Commit, conversation, number, staged.message, welcome, staged.group_info)
        refused(reply, "invalid-commit")
    alone, nobody = alice.make_commit(group), MLSMessage(replace(secrets, secrets=())).encode()
    refused(alice.ask(m.Commit, conversation, number, alone.message, nobody, alone.group_info), "invalid-commit")
    reply = alice.ask(m.Commit, conversation, number, staged.message, staged.welcome, staged.group_info)
    assert isinstance(reply, m.Accepted)


def test_an_owner_removes_a_member_who_then_reads_nothing_more(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    bob.read_inbox()
    alice.open_room("#team", "invite")
    (conversation,) = alice.groups
    alice.change(conversation, *alice.adds("bob"))
    assert bob.accept_welcome() == conversation
    bob.subscribe(conversation)
    leaf = bob.groups[conversation].own_leaf
    assert isinstance(alice.change(conversation, Remove(leaf)), m.Accepted)
    assert isinstance(alice.say(conversation, "without bob"), m.Accepted)
    catch_up(bob, conversation, 1)
    assert conversation not in bob.groups
    refused(bob.ask(m.Members, conversation), "not-found")
    assert isinstance(bob.ask(m.ListRooms), m.Rooms)
    assert not [event for event in bob.received if isinstance(event, m.Entry)]
    # Reading again from the start ends at the removal as well.
    assert isinstance(bob.subscribe(conversation, 0), m.Subscribed)
    assert bob.take(m.Entry).seq == 2
    assert isinstance(bob.ask(m.ListRooms), m.Rooms)
    assert not [event for event in bob.received if isinstance(event, m.Entry)]


def test_the_chain_of_a_joiner_is_that_of_the_log(room: Room, enter: Enter) -> None:
    alice, _, _, conversation = room
    dave = enter("dave")
    offer = dave.ask(m.Join, "#lobby")
    staged = dave.external_commit(offer)
    reply = dave.ask(m.Commit, conversation, 1, staged.message, b"", staged.group_info)
    alice.subscribe(conversation, 0)
    chain = CHAIN_START
    number: dict[bytes, int] = {}
    for seq in range(1, reply.seq + 1):
        entry = alice.take(m.Entry, lambda entry, seq=seq: entry.seq == seq)  # type: ignore[misc]  # bound at once
        number[entry.device] = number.get(entry.device, 0) + 1
        chain = next_chain(
            chain, conversation, entry.seq, entry.time, entry.device, number[entry.device], entry.payload,
            entry.group_info,
        )  # fmt: skip
    assert chain == reply.chain


# --- leaving ---


def test_a_room_that_is_founded_again_in_the_turn_that_deletes_it_begins_empty(
    server: MemoryServer, enter: Enter
) -> None:
    """A departure is checked and the last one out; the founding, sent twice, was checked more slowly."""
    alice, handlers = enter("alice"), server.sequencer._writing
    found, leave = handlers[RoomChecked], handlers[DepartureChecked]
    founded: list[tuple[Session, RoomChecked]] = []

    def note(session: Session, checked: RoomChecked) -> None:
        founded.append((session, checked))
        found(session, checked)

    def leave_and_found(session: Session, checked: DepartureChecked) -> None:
        leave(session, checked)
        found(*founded[0])

    handlers[RoomChecked], handlers[DepartureChecked] = note, leave_and_found
    assert isinstance(alice.open_room("#lobby"), m.Done)
    (conversation,) = alice.groups
    assert isinstance(alice.say(conversation, "to nobody"), m.Accepted)
    assert isinstance(alice.leave(conversation), m.Accepted)
    assert server.head(conversation).seq == 0
    assert server.store.logs.read(conversation, 0, 100, 100, 1 << 20) == []


def test_after_a_leave_members_commit_before_they_speak(room: Room) -> None:
    alice, bob, carol, conversation = room
    left = carol.leave(conversation)
    assert isinstance(left, m.Accepted)
    refused(alice.say(conversation, "too early"), "commit-first")
    alice.numbers[conversation] -= 1
    refused(alice.change(conversation), "invalid-commit")
    leaf = carol.groups[conversation].own_leaf
    assert isinstance(alice.change(conversation, Remove(leaf)), m.Accepted)
    assert isinstance(alice.say(conversation, "now"), m.Accepted)
    catch_up(bob, conversation, 2)
    assert bob.read(conversation) == [(left.seq + 2, "now")]
    # The one who left got the answer and nothing after it.
    refused(carol.say(conversation, "me too"), "not-found")
    assert not [event for event in carol.received if isinstance(event, m.Entry) and event.seq > left.seq]


def test_who_left_an_open_room_can_come_back(room: Room) -> None:
    alice, _, carol, conversation = room
    leaf = carol.groups[conversation].own_leaf
    assert isinstance(carol.leave(conversation), m.Accepted)
    offer = carol.ask(m.Join, "#lobby")
    assert offer.number == carol.numbers[conversation]
    assert len(offer.departures) == 1
    staged = carol.external_commit(offer, old=leaf)
    reply = carol.ask(m.Commit, conversation, offer.number + 1, staged.message, b"", staged.group_info)
    assert isinstance(reply, m.Accepted)
    catch_up(alice, conversation, 2)
    assert isinstance(alice.say(conversation, "welcome back"), m.Accepted)
    assert staged.group is not None
    carol.take_part(conversation, staged.group, number=offer.number + 1, cursor=reply.seq)
    carol.subscribe(conversation)
    assert carol.read(conversation) == [(reply.seq + 1, "welcome back")]


def test_a_joiner_passes_by_who_has_left(room: Room, enter: Enter) -> None:
    alice, bob, carol, conversation = room
    carol.leave(conversation)
    dave = enter("dave")
    assert dave.join("#lobby") == conversation
    refused(dave.say(conversation, "hi"), "commit-first")
    dave.numbers[conversation] -= 1
    leaf = carol.groups[conversation].own_leaf
    assert isinstance(dave.change(conversation, Remove(leaf)), m.Accepted)
    assert isinstance(dave.say(conversation, "hi"), m.Accepted)
    for person in (alice, bob):
        catch_up(person, conversation, 3)
        assert person.read(conversation)[0][1] == "hi"


def test_who_leaves_between_an_offer_and_its_use_is_in_the_next_offer(room: Room, enter: Enter) -> None:
    _, _, carol, conversation = room
    dave = enter("dave")
    offer = dave.ask(m.Join, "#lobby")
    assert offer.departures == []
    carol.leave(conversation)  # opens no epoch: dave's commit would still fit
    staged = dave.external_commit(offer)
    refused(dave.ask(m.Commit, conversation, 1, staged.message, b"", staged.group_info), "commit-first")
    offer = dave.ask(m.Join, "#lobby")
    assert len(offer.departures) == 1
    staged = dave.external_commit(offer)
    assert isinstance(dave.ask(m.Commit, conversation, 1, staged.message, b"", staged.group_info), m.Accepted)


def test_nobody_enters_without_an_offer(room: Room, enter: Enter) -> None:
    _, bob, _, conversation = room
    dave, erin = enter("dave"), enter("erin")
    offer = dave.ask(m.Join, "#lobby")
    dave.drop()
    staged = erin.external_commit(offer)
    refused(erin.ask(m.Commit, conversation, 1, staged.message, b"", staged.group_info), "commit-first")
    assert isinstance(bob.change(conversation), m.Accepted)


def test_nobody_leaves_for_somebody_else(room: Room) -> None:
    alice, bob, _, conversation = room
    number = bob.number(conversation)
    group = alice.groups[conversation]
    data = departure_data(number, group.public.member(group.own_leaf))
    proposal = group.propose(Remove(group.own_leaf), authenticated_data=data)
    refused(bob.ask(m.Leave, conversation, number, proposal), "not-allowed")


def test_a_commit_names_its_number_and_says_when_it_was_made(room: Room) -> None:
    _, bob, _, conversation = room
    group, number = bob.groups[conversation], bob.number(conversation)
    said = number.to_bytes(8, "big")
    for data, code in (
        ((number + 1).to_bytes(8, "big") + bytes(8), "wrong-number"),
        (said, "bad-request"),
        (said + bytes(9), "bad-request"),
        (said + (limits.MAX_TIME + 1).to_bytes(8, "big"), "bad-request"),
    ):
        staged = group.commit(
            [], by_reference=None, authenticated_data=data, tree_in_welcome=False, validate=bob.validate,
            now=int(time.time()),
        )  # fmt: skip
        refused(bob.ask(m.Commit, conversation, number, staged.message, b"", staged.group_info), code)
    assert isinstance(bob.change(conversation), m.Accepted)


def test_a_departure_names_the_number_and_the_leaf_and_is_signed(room: Room) -> None:
    _, _, carol, conversation = room
    group, number = carol.groups[conversation], carol.number(conversation)
    own, other = group.public.member(group.own_leaf), group.public.member(LeafIndex(0))
    for data, code in (
        (departure_data(number + 1, own), "wrong-number"),
        (number.to_bytes(8, "big"), "bad-request"),
        (departure_data(number, other), "bad-request"),
        (departure_data(number, own) + b"x", "bad-request"),
    ):
        proposal = group.propose(Remove(group.own_leaf), authenticated_data=data)
        refused(carol.ask(m.Leave, conversation, number, proposal), code)
    proposal = group.propose(Remove(group.own_leaf), authenticated_data=departure_data(number, own))
    good = decode_body(proposal, PublicMessage)
    forged = MLSMessage(replace(good, auth=replace(good.auth, signature=good.auth.signature[::-1]))).encode()
    refused(carol.ask(m.Leave, conversation, number, forged), "bad-request")
    assert isinstance(carol.leave(conversation), m.Accepted)


def test_the_last_one_out_deletes_the_log_and_frees_the_name(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#lobby")
    (conversation,) = alice.groups
    refused(bob.open_room("#lobby"), "exists")
    assert isinstance(alice.leave(conversation), m.Accepted)
    refused(bob.ask(m.Join, "#lobby"), "ownerless")
    refused(alice.subscribe(conversation), "not-found")
    assert isinstance(bob.open_room("#lobby"), m.Done)


# --- direct conversations and rooms ---


def test_of_two_who_open_at_once_the_later_gets_the_winners(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    first = alice.open_direct("bob")
    second = refused(bob.open_direct("alice"), "exists")
    assert second.conversation == first.conversation
    bob.read_inbox()
    assert bob.accept_welcome() == first.conversation


def test_a_direct_conversation_that_one_has_left_is_made_anew(pair: Pair) -> None:
    alice, bob, conversation = pair
    assert isinstance(bob.leave(conversation), m.Accepted)
    opened = alice.open_direct("bob")
    assert isinstance(opened, m.Accepted)
    assert opened.conversation != conversation
    assert bob.accept_welcome() == opened.conversation


def test_opening_with_oneself_or_with_nobody_is_refused(enter: Enter) -> None:
    alice = enter("alice")
    reply = alice.ask(m.OpenDirect, bytes(32), "alice", b"", b"", b"", b"")
    refused(reply, "not-allowed")
    refused(alice.ask(m.FetchKeyPackages, "nobody"), "not-found")


def test_a_direct_conversation_adds_its_peer_and_nobody_else(enter: Enter) -> None:
    alice = enter("alice")
    for name in ("bob", "eve"):
        enter(name)
    refused(alice.open_direct("bob", adds=alice.adds("eve")), "invalid-commit")
    assert isinstance(alice.open_direct("bob"), m.Accepted)


def test_a_room_is_opened_with_what_lets_others_enter_it(enter: Enter) -> None:
    alice = enter("alice")
    group, other = (alice.found(Rules("invite", "#team", owners=(Identity.of(alice.certificate()),))) for _ in range(2))
    founding = group.group_info(with_tree=True)
    wrong = alice.ask(m.OpenRoom, group.group_id, founding, other.group_info(with_tree=False))
    refused(wrong, "invalid-commit")
    assert isinstance(alice.ask(m.OpenRoom, group.group_id, founding, group.group_info(with_tree=False)), m.Done)


def test_rooms_are_listed_and_invite_rooms_only_to_their_members(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    alice.open_room("#lobby")
    alice.open_room("#team", "invite")
    both = [m.Room("#lobby", "open", 1, joined=True, topic=""), m.Room("#team", "invite", 1, joined=True, topic="")]
    assert alice.ask(m.ListRooms).rooms == both
    assert bob.ask(m.ListRooms).rooms == [m.Room("#lobby", "open", 1, joined=False, topic="")]
    refused(bob.ask(m.Join, "#team"), "not-found")


def test_members_are_listed_with_who_is_online(pair: Pair) -> None:
    alice, bob, conversation = pair
    both = [m.Member("alice", online=True, published=True), m.Member("bob", online=True, published=True)]
    assert alice.ask(m.Members, conversation).members == both
    bob.bye()
    alice.take(m.Presence, lambda presence: presence.state == "offline")
    assert alice.ask(m.Members, conversation).members == [both[0], m.Member("bob", online=False, published=True)]


def test_key_packages_are_handed_out_once_and_then_the_last_resort(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    handed = [alice.ask(m.FetchKeyPackages, "bob").key_packages[0] for _ in range(4)]
    assert len(set(handed)) == 3
    assert handed[2] == handed[3]
    new = bob.bundle().key_package
    stock = bob.ask(m.PublishKeyPackages, [MLSMessage(new).encode()], b"").references
    assert len(stock) == 2
    assert new.reference(SUITE) in stock  # by which its owner compares


@pytest.mark.parametrize("only", ["all", "last resort"])
def test_key_packages_that_have_expired_are_neither_handed_out_nor_counted(
    server: MemoryServer, enter: Enter, only: str
) -> None:
    alice, bob = enter("alice"), enter("bob")
    if only == "last resort":
        for _ in range(2):
            alice.ask(m.FetchKeyPackages, "bob")
    left = 0 if only == "last resort" else 2
    server.now = bob.certificate().not_after * 1000 - 100  # each turn takes a millisecond
    assert len(bob.ask(m.PublishKeyPackages, [], b"").references) == left + 1
    assert len(alice.ask(m.FetchKeyPackages, "bob").key_packages) == 1
    server.now = bob.certificate().not_after * 1000 + 1000
    assert bob.ask(m.PublishKeyPackages, [], b"").references == []
    answer = alice.ask(m.FetchKeyPackages, "bob")
    refused(answer, "away")
    assert answer.text == "bob has been away too long; nothing could be sent"
    renewed, fresh = bob.rotate(), bob.key_package()
    published = bob.ask(m.Publish, [renewed.encode()], [fresh], bob.key_package())
    assert published.enrolled
    assert alice.ask(m.FetchKeyPackages, "bob").key_packages == [fresh]


def test_key_packages_end_with_their_certificate(enter: Enter) -> None:
    bob = enter("bob")
    certificate, capabilities = bob.certificate(), bob.bundle().key_package.leaf_node.capabilities
    for not_after in (certificate.not_after - 1, certificate.not_after + 1):
        bundle = generate_key_package(
            SUITE, credential(certificate), bob.signature, capabilities,
            Lifetime(certificate.not_before, not_after),
        )  # fmt: skip  # else one that has run out would be counted, and handed out
        refused(bob.ask(m.PublishKeyPackages, [MLSMessage(bundle.key_package).encode()], b""), "bad-request")
    assert isinstance(bob.ask(m.PublishKeyPackages, [bob.key_package()], b""), m.Stock)


def test_a_key_package_that_its_device_has_not_signed_is_not_taken(enter: Enter) -> None:
    bob = enter("bob")
    honest = bob.bundle().key_package
    leaf = replace(honest.leaf_node, signature=honest.leaf_node.signature[::-1])
    for forged in (replace(honest, signature=honest.signature[::-1]), replace(honest, leaf_node=leaf)):
        refused(bob.ask(m.PublishKeyPackages, [MLSMessage(forged).encode()], b""), "bad-request")
    assert isinstance(bob.ask(m.PublishKeyPackages, [MLSMessage(honest).encode()], b""), m.Stock)


def test_key_packages_of_others_are_not_taken(enter: Enter) -> None:
    alice, bob = enter("alice"), enter("bob")
    refused(alice.ask(m.PublishKeyPackages, [bob.key_package()], b""), "bad-request")
    refused(alice.ask(m.PublishKeyPackages, [b"nonsense"], b""), "bad-request")
    refused(alice.ask(m.PublishKeyPackages, [alice.key_package()] * 100, b""), "too-large")


# --- leases ---


def test_while_somebody_enters_nobody_else_commits_but_messages_go_on(room: Room, enter: Enter) -> None:
    alice, bob, _, conversation = room
    dave, erin = enter("dave"), enter("erin")
    offer = dave.ask(m.Join, "#lobby")
    refused(alice.change(conversation), "leased")
    assert isinstance(bob.say(conversation, "meanwhile"), m.Accepted)
    waiting = erin.protocol.next_id()
    erin.send(m.Join(waiting, "#lobby"))
    staged = dave.external_commit(offer)
    reply = dave.ask(m.Commit, conversation, 1, staged.message, b"", staged.group_info)
    assert isinstance(reply, m.Accepted)
    theirs = erin.take(m.JoinOffer)
    assert theirs.id == waiting
    entered = erin.external_commit(theirs)
    assert isinstance(erin.ask(m.Commit, conversation, 1, entered.message, b"", entered.group_info), m.Accepted)


def test_a_lease_ends_with_its_time_or_its_holder(room: Room, enter: Enter, server: MemoryServer) -> None:
    _, _, _, conversation = room
    dave, erin, frank = enter("dave"), enter("erin"), enter("frank")
    assert isinstance(dave.ask(m.Join, "#lobby"), m.JoinOffer)
    started = server.seconds
    assert isinstance(erin.ask(m.Join, "#lobby"), m.JoinOffer)  # after dave's two seconds
    assert server.seconds == started + limits.LEASE_SECONDS
    erin.drop()
    assert frank.join("#lobby") == conversation  # when erin's connection is gone


def test_an_invalid_commit_ends_the_lease(room: Room, enter: Enter) -> None:
    alice, _, _, conversation = room
    dave = enter("dave")
    offer = dave.ask(m.Join, "#lobby")
    staged = dave.external_commit(offer)
    refused(dave.ask(m.Commit, conversation, 1, staged.message, b"", b"nonsense"), "invalid-commit")
    assert isinstance(alice.change(conversation), m.Accepted)


def test_a_member_who_is_always_too_late_gets_the_next_lease(room: Room, enter: Enter) -> None:
    alice, _, _, conversation = room
    dave, erin = enter("dave"), enter("erin")
    dave.ask(m.Join, "#lobby")
    erin.send(m.Join(erin.protocol.next_id(), "#lobby"))
    for _ in range(3):
        refused(alice.change(conversation), "leased")
    dave.drop()
    assert isinstance(alice.change(conversation), m.Accepted)
    # Then erin, with what alice has made.
    offer = erin.take(m.JoinOffer)
    body = MLSMessage.decode(offer.group_info).body
    assert isinstance(body, GroupInfo)
    assert body.group_context.epoch == alice.groups[conversation].epoch


# --- presence ---


def test_others_learn_who_comes_leaves_and_drops(pair: Pair) -> None:
    alice, bob, conversation = pair
    bob.bye()
    assert alice.take(m.Presence, lambda event: event.state != "online") == m.Presence(conversation, "bob", "offline")
    back = bob.again()
    assert alice.take(m.Presence) == m.Presence(conversation, "bob", "online")
    back.drop()
    assert alice.take(m.Presence) == m.Presence(conversation, "bob", "dropped")


def test_commit_failed_is_logged(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    alice, bob, conversation = pair
    assert isinstance(alice.change(conversation), m.Accepted)
    for _ in range(3):  # once for each commit, however often it is said
        assert isinstance(bob.ask(m.CommitFailed, conversation, 2), m.Done)
    (line,) = logged(caplog, "a member cannot process a commit")
    assert (line["account"], line["seq"], line["author"]) == ("bob", 2, "alice")


def test_only_a_commit_that_a_device_should_have_read_is_reported(
    server: MemoryServer, pair: Pair, enter: Enter, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob, direct = pair
    alice.open_room("#club", "invite")
    room = next(each for each in alice.groups if each != direct)
    assert isinstance(alice.change(room, *alice.adds("bob")), m.Accepted)
    bob.read_inbox()
    bob.accept_welcome()
    assert isinstance(alice.say(room, "a message"), m.Accepted)
    enter("carol")
    assert isinstance(alice.change(room, *alice.adds("carol")), m.Accepted)
    bob.subscribe(room)
    for _ in range(2):
        bob.process(bob.take(m.Entry))
    assert isinstance(bob.leave(room), m.Accepted)
    bob_out = server.head(room).seq
    alice.subscribe(room)
    alice.process(alice.take(m.Entry))
    assert isinstance(alice.change(room, Remove(bob.groups[room].own_leaf)), m.Accepted)
    for seq in (0, 1, 2, bob_out, bob_out + 1, limits.MAX_COUNT):  # his own Add, a message, his departure, and after it
        refused(bob.ask(m.CommitFailed, room, seq), "bad-request")
    assert not logged(caplog, "a member cannot process a commit")
    assert isinstance(bob.ask(m.CommitFailed, room, 3), m.Done)
    assert len(logged(caplog, "a member cannot process a commit")) == 1
