"""A server that changes the log, for some or for all. docs/design.md, section 4, Numbers and Chain."""

from collections.abc import Callable, Iterable

import msgspec
import pytest

from securechat.client import commands, events
from securechat.errors import UsageError
from securechat.wire import messages as m
from securechat_lab.cast.hostile import HostileServer, Link
from securechat_lab.cast.live import LiveClient
from securechat_lab.cast.scenes import ADVICE, MARKED, assert_calm, direct, happened, lobby, members, repair, say, state
from tests.adversary.conftest import Crowd, Enter

Log = Callable[[Link, m.Entry], list[m.Entry] | None]
change = msgspec.structs.replace


def history_alarm(person: LiveClient) -> str:
    """Wait for the alarm; return its text, without what to do."""
    alarm = person.wait_for(events.Alarm, lambda event: event.kind == "history")
    told, advice, _ = alarm.text.partition(f". {MARKED if 'another history' in alarm.text else ADVICE}")
    assert advice
    return told


def replayed(_: Link, entry: m.Entry) -> list[m.Entry]:
    return [entry, change(entry, seq=entry.seq + 1)]


def dropped() -> Log:
    """The first entry never comes."""
    seen: list[m.Entry] = []

    def tell(_: Link, entry: m.Entry) -> list[m.Entry] | None:
        seen.append(entry)
        return [] if len(seen) == 1 else None

    return tell


def dropped_without_a_gap() -> Log:
    """The first entry never comes, and those after it move up."""
    tell_without = dropped()

    def tell(link: Link, entry: m.Entry) -> list[m.Entry]:
        return [change(entry, seq=entry.seq - 1)] if tell_without(link, entry) is None else []

    return tell


def reordered(*, renumbered: bool) -> Log:
    """The first two entries change places."""
    seen: list[m.Entry] = []

    def tell(_: Link, entry: m.Entry) -> list[m.Entry] | None:
        seen.append(entry)
        if len(seen) > 2:
            return None
        if len(seen) < 2:
            return []
        first, second = seen
        if renumbered:
            return [change(second, seq=first.seq), change(first, seq=second.seq)]
        return [second, first]

    return tell


@pytest.mark.parametrize(
    ("lie", "told", "shown"),
    [
        (
            lambda: replayed,
            "the log does not fit together: entry 4 is number 1 of a device whose last was 1",
            ["alice: one"],
        ),
        (dropped, "the log does not fit together: entry 4 follows entry 2", []),
        (lambda: reordered(renumbered=False), "the log does not fit together: entry 4 follows entry 2", []),
    ],
    ids=["replay", "drop", "reorder"],
)  # fmt: skip
def test_a_changed_log_raises_the_alarm_and_nothing_more_is_read_or_sent(
    hostile: HostileServer, crowd: Crowd, lie: Callable[[], Log], told: str, shown: list[str]
) -> None:
    alice, bob, carol = crowd("alice", "bob", "carol")
    lobby(alice, bob, carol)
    assert_calm(alice, bob, carol)
    hostile.lie(m.Entry, lie(), to="bob")
    say(alice, "#lobby", "one", carol)
    say(carol, "#lobby", "two", alice)
    assert history_alarm(bob).startswith(told)
    say(alice, "#lobby", "three", carol)
    with pytest.raises(UsageError, match="has stopped"):
        bob.say("#lobby", "is anybody there?")
    assert (state(bob, "#lobby"), bob.texts("#lobby")) == ("stopped", shown)
    assert len(happened(bob, events.Alarm)) == 1
    assert_calm(alice, carol)

    del hostile.from_server[m.Entry]
    repair(bob, "#lobby")
    say(bob, "#lobby", "is anybody there?", alice, carol)
    say(carol, "#lobby", "here", alice, bob)
    said = ["alice: one", "carol: two", "alice: three", "bob: is anybody there?", "carol: here"]
    assert alice.texts("#lobby") == carol.texts("#lobby") == said
    assert not happened(bob, events.Gap)  # the log is read on from where it was true
    assert bob.texts("#lobby") == said
    assert_calm(alice, carol)


@pytest.mark.parametrize("lie", [dropped_without_a_gap, lambda: reordered(renumbered=True)], ids=["drop", "reorder"])
def test_a_changed_log_that_fits_together_is_marked_at_the_next_message(
    hostile: HostileServer, crowd: Crowd, lie: Callable[[], Log]
) -> None:
    alice, bob, carol = crowd("alice", "bob", "carol")
    lobby(alice, bob, carol)
    hostile.lie(m.Entry, lie(), to="bob")
    say(alice, "#lobby", "one", carol)
    say(carol, "#lobby", "two", alice)
    assert history_alarm(bob).startswith("carol saw another history than you up to entry 3")
    assert state(bob, "#lobby") == "open"
    lines = {line.text: line.doubt for line in bob.client.history(bob.id_of("#lobby"), 10)}
    assert lines["two"] == "the server, or carol: another history"
    del hostile.from_server[m.Entry]
    repair(bob, "#lobby")
    say(bob, "#lobby", "is anybody there?", alice, carol)
    say(carol, "#lobby", "here", alice, bob)
    assert len(happened(bob, events.Alarm)) == 1
    assert_calm(alice, carol)


def test_the_same_through_the_same_proxy_without_the_lie_is_read_by_all(hostile: HostileServer, crowd: Crowd) -> None:
    alice, bob, carol = crowd("alice", "bob", "carol")
    lobby(alice, bob, carol)
    honest = hostile.lie(m.Entry, lambda _, entry: [change(entry)], to="bob")
    say(alice, "#lobby", "one", bob, carol)
    say(carol, "#lobby", "two", alice, bob)
    say(alice, "#lobby", "three", bob, carol)
    assert honest.told >= 3
    for person in (alice, bob, carol):
        assert person.texts("#lobby") == ["alice: one", "carol: two", "alice: three"]
    assert_calm(alice, bob, carol)


def test_an_entry_that_comes_twice_under_its_own_seq_is_shown_once(hostile: HostileServer, crowd: Crowd) -> None:
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)
    twice = hostile.lie(m.Entry, lambda _, entry: [entry, entry], to="bob")
    say(alice, "bob", "once", bob)
    say(alice, "bob", "more", bob)
    assert twice.told >= 2
    assert bob.texts("alice") == ["alice: hello", "bob: hi", "alice: once", "alice: more"]
    assert_calm(alice, bob)


# --- one entry, altered -------------------------------------------------------------------------------------------


def test_one_altered_byte_is_never_shown_as_a_message_and_is_found_out_at_the_next_one(
    hostile: HostileServer, crowd: Crowd
) -> None:
    """One byte after the other, from the header to the last of the ciphertext; after each the victim repairs."""
    alice, bob, carol = crowd("alice", "bob", "carol")
    lobby(alice, bob, carol)
    # Version, group id, epoch, content type, number, sender data, ciphertext, tag.
    positions = [1, 6, 44, 45, 54, 60, 120, -1]
    for round_, position in enumerate(positions):

        def alter(_: Link, entry: m.Entry, position: int = position) -> Iterable[m.Entry] | None:
            if entry.device != hostile.link("alice").device:
                return None  # bob may still be reading what was said before
            payload = bytearray(entry.payload)
            payload[position] ^= 1
            return [change(entry, payload=bytes(payload))]

        already = len(happened(bob, events.Alarm))
        lie = hostile.lie(m.Entry, alter, to="bob")
        say(alice, "#lobby", f"text {round_}", carol)
        bob.wait_until(lambda lie=lie: lie.told > 0)  # type: ignore[misc]  # bound now
        del hostile.from_server[m.Entry]
        say(carol, "#lobby", f"next {round_}", alice)
        bob.wait_until(lambda already=already: len([e for e in bob.happened if isinstance(e, events.Alarm)]) > already)  # type: ignore[misc]  # as above
        repair(bob, "#lobby")
        say(bob, "#lobby", f"back {round_}", alice, carol)
    said = {f"alice: text {round_}" for round_ in range(len(positions))}  # some are read again, as they were said
    assert {line for line in bob.texts("#lobby") if line.startswith("alice: ") and "[" not in line} < said
    unreadable = [line for line in bob.client.history(bob.id_of("#lobby"), 1000) if line.problem]
    assert unreadable
    for line in unreadable:
        assert (line.sender, line.text) == ("alice", "")
        assert line.problem.startswith("This message cannot be read: ")
    assert_calm(alice, carol)


def test_an_altered_commit_stops_the_conversation_in_the_name_of_the_server(
    hostile: HostileServer, crowd: Crowd
) -> None:
    alice, bob = crowd("alice", "bob")
    lobby(alice, bob)

    def alter(_: Link, entry: m.Entry) -> list[m.Entry]:
        return [change(entry, payload=entry.payload[:-40] + bytes(8) + entry.payload[-32:])]

    hostile.lie(m.Entry, alter, to="bob")
    (carol,) = crowd("carol")
    carol.do(commands.JoinRoom("#lobby"))
    stopped = bob.wait_for(events.Stopped)
    assert stopped.culprit == ""
    assert state(bob, "#lobby") == "stopped"
    alice.wait_until(lambda: members(alice, "#lobby") == ("alice", "bob", "carol"))
    assert members(bob, "#lobby") == ("alice", "bob")
    assert_calm(alice, carol)
    del hostile.from_server[m.Entry]
    repair(bob, "#lobby")
    assert members(bob, "#lobby") == ("alice", "bob", "carol")
    say(bob, "#lobby", "well again", alice, carol)


@pytest.mark.parametrize("number_fits", [True, False])
def test_a_message_ascribed_to_another_device_is_not_shown_and_raises_the_alarm(
    hostile: HostileServer, crowd: Crowd, *, number_fits: bool
) -> None:
    alice, bob, carol = crowd("alice", "bob", "carol")
    lobby(alice, bob, carol)
    if number_fits:  # both have said as much: one commit and one message
        say(bob, "#lobby", "I am bob", alice, carol)
    say(carol, "#lobby", "I am carol", alice, bob)
    device = hostile.link("carol").device
    hostile.lie(m.Entry, lambda _, entry: [change(entry, device=device)], to="alice")
    say(bob, "#lobby", "and I am bob", carol)
    told = history_alarm(alice)
    if number_fits:
        assert told == "the server ascribes a message of bob to a device of carol"
    else:
        assert told == "the log does not fit together: entry 4 is number 2 of a device whose last was 2"
    said = ["bob: I am bob"] if number_fits else []
    assert alice.texts("#lobby") == [*said, "carol: I am carol"]
    assert_calm(bob, carol)


def test_a_commit_ascribed_to_another_device_raises_the_alarm(hostile: HostileServer, crowd: Crowd) -> None:
    alice, bob = crowd("alice", "bob")
    lobby(alice, bob)
    device = hostile.link("bob").device
    hostile.lie(m.Entry, lambda _, entry: [change(entry, device=device)], to="alice")
    (carol,) = crowd("carol")
    carol.do(commands.JoinRoom("#lobby"))
    assert history_alarm(alice) == "the log does not fit together: entry 2 is number 1 of a device whose last was 1"
    assert members(alice, "#lobby") == ("alice", "bob")
    bob.wait_until(lambda: members(bob, "#lobby") == ("alice", "bob", "carol"))


def test_another_time_than_the_others_see_is_found_out_at_the_next_message(
    hostile: HostileServer, crowd: Crowd
) -> None:
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)
    yesterday = hostile.lie(m.Entry, lambda _, entry: [change(entry, time=entry.time - 86_400_000)], to="bob")
    say(alice, "bob", "pay today", bob)
    yesterday.armed = False
    say(alice, "bob", "did you?", bob)
    assert history_alarm(bob).startswith("alice saw another history than you up to entry 5")


# --- different histories for different people ---------------------------------------------------------------------


def test_a_fork_is_found_out_by_the_first_message_that_crosses_it(hostile: HostileServer, crowd: Crowd) -> None:
    """alice and carol speak at once; carol is shown hers first, everybody else alice's."""
    alice, bob, carol = crowd("alice", "bob", "carol")
    lobby(alice, bob, carol)
    kept: list[m.Entry] = []

    def keep(_: Link, entry: m.Entry) -> list[m.Entry]:
        kept.append(entry)
        return []

    def swap(_: Link, accepted: m.Accepted) -> list[m.Message]:
        (entry,) = kept
        own_seq, accepted.seq = accepted.seq, entry.seq
        return [accepted, change(entry, seq=own_seq)]

    held = hostile.lie(m.Entry, keep, to="carol")
    hostile.lie(m.Accepted, swap, to="carol")
    say(alice, "#lobby", "heads", bob)
    carol.wait_until(lambda: len(kept) == 1)
    say(carol, "#lobby", "tails", alice, bob)
    carol.read("#lobby", "alice: heads")
    held.armed = False
    del hostile.from_server[m.Accepted]
    # So far each has a history that fits together; only the order differs.
    assert bob.texts("#lobby") == alice.texts("#lobby") == ["alice: heads", "carol: tails"]
    assert carol.texts("#lobby") == ["carol: tails", "alice: heads"]

    say(bob, "#lobby", "so what was it?", alice)
    assert history_alarm(carol).startswith(
        "bob saw another history than you up to entry 4: the server shows people different histories, "
        "or the program of bob is at fault"
    )
    assert not happened(alice, events.Alarm)


def test_a_tail_that_is_withheld_shows_nothing_wrong_and_all_is_well_when_it_comes(
    hostile: HostileServer, crowd: Crowd
) -> None:
    """Nobody can tell a silent server from silent friends; docs/threat-model.md says so."""
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)
    kept: list[m.Entry] = []

    def keep(_: Link, entry: m.Entry) -> list[m.Entry]:
        kept.append(entry)
        return []

    tail = hostile.lie(m.Entry, keep, to="bob")
    for number in range(5):
        say(alice, "bob", f"tail {number}")
    (last,) = alice.client.history(alice.id_of("bob"), 1)
    bob.wait_until(lambda: any(entry.seq >= last.seq for entry in kept))  # among what was received and read before
    assert bob.texts("alice") == ["alice: hello", "bob: hi"]
    assert_calm(alice, bob)
    tail.armed = False
    hostile.link("bob").tell_client(*kept)
    bob.read("alice", "alice: tail 4")
    say(bob, "alice", "all here", alice)
    assert alice.texts("bob") == bob.texts("alice")
    assert_calm(alice, bob)


# --- lies about what we said ourselves ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change_reply",
    [{"number": 7}, {"conversation": bytes(32)}],
    ids=["number", "conversation"],
)
def test_an_answer_to_something_else_ends_the_connection_and_the_message_is_sent_once(
    hostile: HostileServer, crowd: Crowd, change_reply: dict[str, object]
) -> None:
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)
    lie = hostile.lie(m.Accepted, lambda _, accepted: [change(accepted, **change_reply)], to="alice")
    alice.say("bob", "once")
    told = alice.wait_for(events.Disconnected)
    assert told.reason == "The server broke the protocol: the server accepted something else than what was submitted"
    lie.armed = False
    alice.wait_for(events.Delivered, lambda event: event.message.text == "once")
    say(alice, "bob", "more", bob)
    assert alice.texts("bob") == bob.texts("alice") == ["alice: hello", "bob: hi", "alice: once", "alice: more"]
    assert_calm(alice, bob)


def test_a_wrong_seq_for_our_own_message_changes_nothing_once_the_truth_comes(
    hostile: HostileServer, crowd: Crowd
) -> None:
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)
    lies = hostile.lie(
        m.Accepted, lambda _, accepted: [change(accepted, seq=accepted.seq + 5)] if not lies.told else None, to="alice"
    )
    alice.say("bob", "once")
    alice.wait_for(events.Delivered, lambda event: event.message.text == "once" and event.message.seq == 5)
    say(alice, "bob", "more", bob)
    assert alice.texts("bob") == bob.texts("alice") == ["alice: hello", "bob: hi", "alice: once", "alice: more"]
    assert_calm(alice, bob)


def test_a_wrong_time_for_our_own_message_is_found_out_by_whoever_reads_the_next(
    hostile: HostileServer, crowd: Crowd
) -> None:
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)
    hostile.lie(m.Accepted, lambda _, accepted: [change(accepted, time=accepted.time + 1)], to="alice")
    say(alice, "bob", "one", bob)
    alice.say("bob", "two")
    assert history_alarm(bob).startswith("alice saw another history than you up to entry 5")


def test_a_wrong_chain_for_a_joiner_is_found_out_at_the_first_message(hostile: HostileServer, crowd: Crowd) -> None:
    alice, bob = crowd("alice", "bob")
    lobby(alice, bob)
    hostile.lie(m.Accepted, lambda _, accepted: [change(accepted, chain=bytes(32))], to="carol")
    (carol,) = crowd("carol")
    carol.do(commands.JoinRoom("#lobby"))
    alice.wait_until(lambda: "carol" in members(alice, "#lobby"))
    carol.wait_until(lambda: state(carol, "#lobby") == "open")
    say(alice, "#lobby", "welcome", bob)
    assert history_alarm(carol).startswith("alice saw another history than you up to entry 2")
    assert_calm(alice, bob)


def test_a_log_that_has_become_shorter_is_waited_for(hostile: HostileServer, crowd: Crowd) -> None:
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)
    shorter = hostile.lie(
        m.Subscribed, lambda _, reply: [change(reply, head=1)] if len(reply.conversation) == 32 else None, to="bob"
    )
    hostile.link("bob").drop()
    told = bob.wait_for(events.OutOfStep)
    assert (told.what, told.count) == ("ahead", 3)
    send = bob.say("alice", "waits")
    bob.wait_for(events.Delayed, lambda event: event.command == send.id)
    shorter.armed = False
    hostile.link("bob").drop()
    alice.read("bob", "bob: waits")  # with the keys that it had
    assert not [*happened(alice, events.Alarm), *happened(bob, events.Alarm)]


def test_a_server_that_claims_we_have_said_more_than_the_log_shows_is_told_about_and_ignored(
    hostile: HostileServer, crowd: Crowd
) -> None:
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)

    def claim(_: Link, reply: m.Subscribed) -> list[m.Subscribed] | None:
        first = len(reply.conversation) == 32 and not more.told
        return [change(reply, last=reply.last + 1)] if first else None

    more = hostile.lie(m.Subscribed, claim, to="bob")
    hostile.link("bob").drop()
    bob.wait_until(lambda: more.told == 1)
    bob.say("alice", "am I still here?")
    alice.read("bob", "bob: am I still here?")
    assert more.told == 1
    say(alice, "bob", "you are", bob)
    assert alice.texts("bob") == bob.texts("alice")
    assert not happened(alice, events.Alarm)
    (told,) = happened(bob, events.Alarm)
    assert told.text.startswith("The server claims that this device has said 3 things here")
    assert not [event for event in happened(alice, events.ConversationChanged) if event.change == "re-entered"]


def altered(entry: m.Entry, field: str) -> m.Entry:
    value = getattr(entry, field)
    return change(entry, **{field: value[:-1] + bytes([value[-1] ^ 1])})


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (lambda entry: altered(entry, "payload"), "confirmation tag"),  # the last field: who enters has no other
        (lambda entry: altered(entry, "group_info"), "a signature does not fit"),
        (lambda entry: change(entry, group_info=b""), ""),
        (lambda entry: entry, None),
    ],
    ids=["tag", "GroupInfo", "no GroupInfo", "honest"],
)
def test_a_server_that_alters_a_commit_frames_nobody(
    hostile: HostileServer, crowd: Crowd, lie: Callable[[m.Entry], m.Entry], reason: str | None
) -> None:
    """A commit's tag is not signed, but its GroupInfo is and has the same one: whoever alters either is seen."""
    alice, bob = crowd("alice", "bob")
    lobby(alice)
    hostile.lie(m.Entry, lambda _, entry: [lie(entry)], to="alice")
    bob.do(commands.JoinRoom("#lobby"))
    if reason is None:
        alice.wait_until(lambda: members(alice, "#lobby") == ("alice", "bob"))
        assert_calm(alice)
        return
    stopped = alice.wait_for(events.Stopped)
    assert (stopped.culprit, stopped.proven) == ("", True)
    assert reason in stopped.reason


def test_a_membership_tag_that_does_not_fit_proves_nothing(hostile: HostileServer, crowd: Crowd, rogue: Enter) -> None:
    """Nobody has signed it: its maker or the server did it."""
    (alice,) = crowd("alice")
    mallory = rogue("mallory")
    conversation = lobby(alice)
    mallory.enter_room("#lobby")
    alice.wait_until(lambda: members(alice, "#lobby") == ("alice", "mallory"))
    lie = hostile.lie(m.Entry, lambda _, entry: [altered(entry, "payload")], to="alice", armed=False)
    for expected in ("", "mallory"):
        lie.armed = bool(expected)
        assert isinstance(
            mallory.submit_commit(conversation, mallory.make_commit(mallory.groups[conversation])), m.Accepted
        )
    stopped = alice.wait_for(events.Stopped)
    assert (stopped.culprit, stopped.proven) == ("mallory", False)


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        (lambda entry: change(entry, kind=5), "is of a kind that this program does not know"),
        (lambda entry: change(entry, group_info=b"x"), "has a GroupInfo, and is no commit"),
    ],
    ids=["kind", "GroupInfo"],
)
def test_what_a_message_cannot_have_stops_the_conversation(
    hostile: HostileServer, crowd: Crowd, lie: Callable[[m.Entry], m.Entry], told: str
) -> None:
    alice, bob = crowd("alice", "bob")
    direct(alice, bob)
    lies = hostile.lie(m.Entry, lambda _, entry: [lie(entry)], to="bob", armed=False)
    say(alice, "bob", "with nothing wrong", bob)
    lies.armed = True
    say(alice, "bob", "never shown")
    assert told in history_alarm(bob)
    assert "alice: never shown" not in bob.texts("alice")
