"""The timeline: a window of the history that pages both ways, and equals a fresh read after any events."""

from collections import deque
from dataclasses import replace
from datetime import UTC, date, timedelta, timezone

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from securechat.client.events import (
    ConversationChanged,
    Delayed,
    Deleted,
    Delivered,
    Edited,
    Event,
    Expired,
    FileSent,
    Gap,
    Held,
    KeyChanged,
    KeyShown,
    Marked,
    MemberList,
    PresenceChanged,
    Reacted,
    Ready,
    Received,
    Refused,
    Said,
    Transfer,
    Transferred,
)
from securechat.client.message import Message, Quote, Reaction
from securechat.client.snapshot import ConversationSnapshot
from securechat.errors import UsageError
from securechat.ui.text.sentences import sentences
from securechat.ui.text.wording import Sentence
from securechat.ui.view.rows import Beginning, Day, Line, Moving, Notice, line_of
from securechat.ui.view.timeline import Timeline
from tests.support.reads import MemoryReads
from tests.support.scripted import conversation

BOB = conversation("bob")
CAROL = conversation("carol")
LOBBY = conversation("#lobby", "open", members=("alice", "bob", "carol"))


def theirs(seq: int, text: str = "", *, local_id: int = 0, time: int = 0, where: ConversationSnapshot = BOB) -> Message:
    return Message(local_id or seq, where.id, seq, time or seq, "bob", own=False, text=text or f"text {seq}")


def ours(local_id: int, text: str, *, seq: int = 0, where: ConversationSnapshot = BOB, problem: str = "") -> Message:
    return Message(local_id, where.id, seq, seq, "alice", own=True, text=text, problem=problem)


@pytest.fixture
def reads() -> MemoryReads:
    """A hundred lines of bob."""
    reads = MemoryReads((BOB, CAROL, LOBBY))
    for seq in range(1, 101):
        reads.put(theirs(seq))
    return reads


def lines(timeline: Timeline) -> list[Line]:
    return [row for row in timeline.rows if isinstance(row, Line)]


def texts(timeline: Timeline) -> list[str]:
    """Lines as they are, notices after `--`, and `==` where another conversation begins."""
    rows = (row for row in timeline.rows if isinstance(row, Line | Notice | Beginning))
    return [
        row.text if isinstance(row, Line) else f"-- {row.text}" if isinstance(row, Notice) else "==" for row in rows
    ]


def ids(timeline: Timeline) -> list[int]:
    return [line.local_id for line in lines(timeline)]


def fold(timeline: Timeline, *happened: Event) -> None:
    for event in happened:
        timeline.fold(event, sentences(event, timeline.conversation, timeline._client.account))


def test_a_file_on_its_way_has_a_row_until_it_is_sent_and_no_longer(reads: MemoryReads) -> None:
    timeline = Timeline(reads, BOB.id, page=10)
    first, second = [Transfer(number, "send", BOB.id, 0, "sea.jpg", "offered", 5, 10) for number in (1, 2)]
    fold(timeline, Transferred(first), Transferred(second))
    moving = [row.number for row in timeline.rows if isinstance(row, Moving)]
    fold(timeline, FileSent(first))
    assert (moving, [row.number for row in timeline.rows if isinstance(row, Moving)]) == ([1, 2], [2])


# --- paging -----------------------------------------------------------------------------------------------------------


def test_it_opens_at_the_newest_page_and_pages_back_to_the_first_line(reads: MemoryReads) -> None:
    timeline = Timeline(reads, BOB.id, page=30)
    assert ids(timeline) == [*range(71, 101)]
    assert (timeline.more_before, timeline.more_after) == (True, False)
    while timeline.show_older():
        pass
    assert ids(timeline) == [*range(1, 101)]
    assert (timeline.more_before, timeline.more_after) == (False, False)


def test_it_opens_around_a_line_and_pages_both_ways(reads: MemoryReads) -> None:
    timeline = Timeline(reads, BOB.id, around=50, page=10)
    assert ids(timeline) == [*range(45, 56)]
    assert (timeline.more_before, timeline.more_after) == (True, True)
    assert timeline.show_newer()
    assert timeline.show_older()
    assert ids(timeline) == [*range(35, 66)]
    timeline.show(2)
    assert ids(timeline) == [*range(1, 8)]
    assert (timeline.more_before, timeline.more_after) == (False, True)
    timeline.show_newest()
    assert ids(timeline) == [*range(91, 101)]


def test_there_is_no_timeline_of_what_is_not_there(reads: MemoryReads) -> None:
    with pytest.raises(UsageError, match="no such conversation"):
        Timeline(reads, b"x" * 32)
    with pytest.raises(UsageError, match="no such message"):
        Timeline(reads, LOBBY.id, around=50)  # a line of another conversation
    timeline = Timeline(reads, BOB.id, page=10)
    with pytest.raises(UsageError, match="no such message"):
        timeline.show(999)
    assert ids(timeline) == [*range(91, 101)]


def test_what_the_window_holds_too_much_goes_on_the_side_where_nobody_looks(reads: MemoryReads) -> None:
    timeline = Timeline(reads, BOB.id, page=10, limit=25)
    for _ in range(4):
        timeline.show_older()
    assert ids(timeline) == [*range(51, 76)]
    assert timeline.more_after
    fold(timeline, Received(reads.put(theirs(101))))
    assert ids(timeline) == [*range(51, 76)]  # it is beyond the window
    while timeline.show_newer():
        pass
    assert ids(timeline) == [*range(77, 102)]
    fold(timeline, Received(reads.put(theirs(102))))
    assert ids(timeline) == [*range(78, 103)]
    for _ in range(2):
        timeline.show_older()
    before = ids(timeline)
    fold(timeline, Received(reads.put(theirs(103))))
    assert ids(timeline) == before


@pytest.mark.parametrize("around", [0, 50])
def test_lines_that_have_ended_leave_an_open_window(reads: MemoryReads, around: int) -> None:
    timeline = Timeline(reads, BOB.id, around=around, page=10)
    before = ids(timeline)
    for local_id in range(40, 96):
        del reads.lines[local_id]
    fold(timeline, Expired(CAROL.id))
    assert ids(timeline) == before  # the twin: elsewhere
    fold(timeline, Expired(BOB.id))
    assert ids(timeline)[-5:] == [96, 97, 98, 99, 100]
    assert not {*range(40, 96)} & {*ids(timeline)}


def test_the_rows_are_the_same_object_until_something_changes(reads: MemoryReads) -> None:
    timeline = Timeline(reads, BOB.id)
    rows = timeline.rows
    fold(timeline, Received(theirs(5, where=LOBBY, local_id=999)), Ready(), Received(theirs(100)))
    assert timeline.rows is rows
    fold(timeline, Received(reads.put(theirs(101))))
    assert timeline.rows is not rows


# --- what happens -----------------------------------------------------------------------------------------------------


def test_an_own_line_waits_and_changes_in_place_when_it_is_sent_or_is_not(reads: MemoryReads) -> None:
    timeline = Timeline(reads, BOB.id, page=1)
    fold(timeline, Said(ours(201, "one")), Said(ours(202, "two")), Received(theirs(101)))
    assert [(line.text, line.delivery) for line in lines(timeline)] == [
        ("text 100", "received"), ("text 101", "received"), ("one", "waiting"), ("two", "waiting"),
    ]  # fmt: skip
    fold(timeline, Delivered(ours(201, "one", seq=102)))
    fold(timeline, Refused("too-long", "No.", ours(202, "two", problem="This was not sent: no.")))
    assert [(line.text, line.delivery, line.problem) for line in lines(timeline)][2:] == [
        ("one", "sent", ""), ("two", "not sent", "This was not sent: no."),
    ]  # fmt: skip


def test_an_event_that_a_page_was_ahead_of_changes_nothing(reads: MemoryReads) -> None:
    reads.put(ours(201, "one", seq=101))
    timeline = Timeline(reads, BOB.id, page=2)
    for event in (Said(ours(201, "one")), Delivered(ours(201, "one", seq=101)), Received(theirs(100))):
        fold(timeline, event)
        assert [(line.text, line.delivery) for line in lines(timeline)] == [("text 100", "received"), ("one", "sent")]


def test_a_line_that_a_page_has_left_behind_does_not_wait_again(reads: MemoryReads) -> None:
    reads.put(ours(200, "one", seq=101))
    reads.put(ours(201, "two", seq=102))
    timeline = Timeline(reads, BOB.id, page=1)
    fold(timeline, Said(ours(200, "one")), Said(ours(201, "two")), Said(reads.put(ours(202, "three"))))
    assert [(line.text, line.delivery) for line in lines(timeline)] == [("two", "sent"), ("three", "waiting")]


@pytest.mark.parametrize("told", [True, False], ids=["told", "not told yet"])
def test_a_window_of_waiting_lines_stays_whole_when_they_are_sent(reads: MemoryReads, *, told: bool) -> None:
    reads.put(ours(200, "not sent", problem="No."))
    for local_id in (201, 202, 203):
        reads.put(ours(local_id, "waits"))
    timeline = Timeline(reads, BOB.id, page=2)
    assert ids(timeline) == [202, 203]
    sent = [Delivered(reads.put(ours(local_id, "sent", seq=local_id - 100))) for local_id in (201, 202)]
    if told:
        fold(timeline, *sent)
    else:
        timeline.show_older()
        fold(timeline, *sent)
    assert ids(timeline)[-2:] == [200, 203]


def test_however_much_waits_one_can_page_back(reads: MemoryReads) -> None:
    for local_id in range(201, 221):
        reads.put(ours(local_id, "waits"))
    timeline = Timeline(reads, BOB.id, page=5, limit=10)
    pages = 0
    while timeline.show_older():
        pages += 1
        assert pages < 50
    assert ids(timeline) == [*range(1, 11)]


def test_notices_stay_between_the_lines_they_were_told_between(reads: MemoryReads) -> None:
    timeline = Timeline(reads, BOB.id, page=1)
    fold(
        timeline,
        Said(ours(201, "waits")),
        PresenceChanged(BOB.id, "bob", "online"),
        Received(reads.put(theirs(101))),
        PresenceChanged(BOB.id, "bob", "offline"),
    )
    assert texts(timeline) == ["text 100", "-- bob is online.", "text 101", "-- bob has gone.", "waits"]
    fold(timeline, Delivered(reads.put(ours(201, "waits", seq=102))))
    assert texts(timeline) == ["text 100", "-- bob is online.", "text 101", "-- bob has gone.", "waits"]
    timeline.show(50)
    assert not any(isinstance(row, Notice) for row in timeline.rows)
    timeline.show_newest()
    while timeline.show_older():
        pass
    assert texts(timeline)[-5:] == ["text 100", "-- bob is online.", "text 101", "-- bob has gone.", "waits"]


def test_what_is_said_elsewhere_does_not_move_a_notice(reads: MemoryReads) -> None:
    timeline = Timeline(reads, BOB.id, page=1)
    fold(timeline, PresenceChanged(BOB.id, "bob", "online"), Received(theirs(3, where=LOBBY, local_id=300)))
    assert texts(timeline) == ["text 100", "-- bob is online."]
    fold(timeline, Received(reads.put(theirs(101))))
    assert texts(timeline) == ["text 100", "-- bob is online.", "text 101"]


@pytest.mark.parametrize(
    "event",
    [Held(BOB.id, (KeyShown("bob", "1a2b", "changed"),)), Delayed(BOB.id, "reader-full", "bob does not read."),
     Gap(BOB.id, 7), PresenceChanged(BOB.id, "bob", "online"), KeyChanged("bob", "1a2b", "changed-verified"),
     ConversationChanged(replace(BOB, their_bye=True), "bye", "bob"), MemberList(BOB.id, (("bob", True, "verified"),))],
    ids=lambda event: type(event).__name__,
)  # fmt: skip
def test_what_is_told_belongs_to_its_conversation_alone(reads: MemoryReads, event: Event) -> None:
    here, elsewhere = Timeline(reads, BOB.id, page=1), Timeline(reads, CAROL.id, page=1)
    told = tuple(sentences(event, BOB, "alice"))
    assert told
    here.fold(event, told)
    elsewhere.fold(event, told)
    assert not elsewhere.rows
    assert [row for row in here.rows if isinstance(row, Notice)] == [
        Notice(number, each.kind, each.text) for number, each in enumerate(told, 1)
    ]


def test_what_belongs_to_another_conversation_or_to_none_is_not_told_here(reads: MemoryReads) -> None:
    timeline = Timeline(reads, BOB.id, page=1)
    told = (Sentence("notice", "Something."),)
    for event in (
        PresenceChanged(LOBBY.id, "bob", "online"),
        ConversationChanged(LOBBY, "joined", "bob"),
        KeyChanged("carol", "1a2b", "changed"),
        Refused("busy", "No."),
        Ready(),
    ):
        timeline.fold(event, told)
    assert texts(timeline) == ["text 100"]


def test_a_conversation_that_gets_another_id_goes_on_in_the_same_timeline() -> None:
    reads = MemoryReads((BOB,))
    timeline = Timeline(reads, BOB.id)
    fold(timeline, Said(reads.put(ours(1, "hello"))))
    shared = replace(BOB, id=b"s" * 32)
    reads.known, reads.aliases = {shared.id: shared}, {BOB.id: shared.id}
    reads.put(ours(1, "hello", where=shared))
    reads.put(theirs(1, "hi", local_id=2, where=shared))
    fold(timeline, PresenceChanged(shared.id, "bob", "online"))
    assert [line.text for line in lines(timeline)] == ["hi", "hello"]
    fold(timeline, ConversationChanged(shared, "opened", "alice"))
    fold(timeline, Delivered(reads.put(ours(1, "hello", seq=2, where=shared))))
    assert timeline.conversation == shared
    assert [(line.text, line.delivery) for line in lines(timeline)] == [("hi", "received"), ("hello", "sent")]


def test_a_window_stays_whole_when_its_conversation_gets_another_id(reads: MemoryReads) -> None:
    timeline = Timeline(reads, BOB.id, around=50, page=10)
    timeline.show_older()
    assert ids(timeline) == [*range(35, 56)]
    shared = replace(BOB, id=b"s" * 32)
    reads.known, reads.aliases = {shared.id: shared}, {BOB.id: shared.id}
    for message in list(reads.lines.values()):
        reads.put(replace(message, conversation=shared.id))
    fold(timeline, Received(reads.put(theirs(36, "late", where=shared))))
    assert ids(timeline) == [*range(ids(timeline)[0], ids(timeline)[-1] + 1)]


def test_a_line_that_moves_to_another_conversation_leaves_this_one(reads: MemoryReads) -> None:
    timeline = Timeline(reads, BOB.id, page=1)
    fold(timeline, Said(ours(201, "moves")))
    fold(timeline, Delivered(ours(201, "moves", seq=1, where=LOBBY)))
    assert texts(timeline) == ["text 100"]


# --- one name, one history --------------------------------------------------------------------------------------------


def begin_anew(reads: MemoryReads, *, lines: int = 0) -> ConversationSnapshot:
    """End the chat with bob, and begin another one, in which there are lines by him."""
    old = next(each for each in reads.called("bob") if each.state != "closed")
    reads.known[old.id] = replace(old, state="closed", own_bye=True, their_bye=True)
    new = replace(BOB, id=bytes([len(reads.known)]) * 32)
    reads.known[new.id] = new
    first = max(reads.lines) + 1
    for seq in range(1, lines + 1):
        reads.put(theirs(seq, f"anew {seq}", local_id=first + seq - 1, where=new))
    return new


@pytest.mark.parametrize("opened_by", ["the one that is over", "the one that counts"])
def test_the_window_runs_over_all_conversations_of_a_name(reads: MemoryReads, opened_by: str) -> None:
    begin_anew(reads, lines=20)
    new = begin_anew(reads, lines=5)
    timeline = Timeline(reads, BOB.id if opened_by == "the one that is over" else new.id, page=10)
    assert timeline.conversation == new
    assert texts(timeline)[3:7] == ["anew 19", "anew 20", "==", "anew 1"]
    while timeline.show_older():
        pass
    assert ids(timeline) == [*range(1, 126)]
    begins = [index for index, row in enumerate(timeline.rows) if isinstance(row, Beginning)]
    assert [getattr(timeline.rows[index - 1], "text", "") for index in begins] == ["text 100", "anew 20"]
    assert timeline.rows[begins[-1]] == Beginning(new.id)
    timeline.show(100)
    assert ids(timeline) == [*range(95, 106)]
    assert texts(timeline)[5:8] == ["text 100", "==", "anew 1"]
    while timeline.show_newer():
        pass
    assert ids(timeline) == [*range(95, 126)]


def test_a_window_that_is_open_goes_on_where_another_conversation_begins(reads: MemoryReads) -> None:
    timeline = Timeline(reads, BOB.id, page=2)
    fold(timeline, ConversationChanged(replace(BOB, state="closed", own_bye=True, their_bye=True), "closed", "bob"))
    new = begin_anew(reads)
    fold(timeline, ConversationChanged(new, "opened", "bob"))
    fold(timeline, Received(reads.put(theirs(1, "hello again", local_id=101, where=new))))
    said = texts(timeline)
    assert said[:2] == ["text 99", "text 100"]
    assert "the chat is over" in said[2]  # what was told stays with the conversation of which it was told
    assert said[3] == "=="
    assert said[-1] == "hello again"
    assert timeline.conversation == new
    timeline.show_older()
    assert texts(timeline)[-len(said) :] == said
    fold(timeline, Received(reads.put(theirs(1, "elsewhere", local_id=102, where=LOBBY))))  # the twin
    assert texts(timeline)[-len(said) :] == said


def test_what_is_told_of_an_older_conversation_changes_that_one(reads: MemoryReads) -> None:
    reads.put(ours(101, "then", seq=101))
    new = begin_anew(reads)
    reads.put(ours(102, "now", seq=1, where=new))
    timeline = Timeline(reads, new.id, page=2)
    reads.put(replace(reads.lines[101], recipients=1, delivered=1))
    fold(timeline, Marked(BOB.id, "bob", 101, 0))
    assert [line.delivery for line in lines(timeline)] == ["delivered", "sent"]
    fold(timeline, Edited(reads.put(replace(reads.lines[101], text="then!", edited=9)), "then"))
    assert texts(timeline) == ["then!", "==", "now"]


@pytest.mark.parametrize("event", [ConversationChanged(BOB, "closed", "bob"), Ready()], ids=["told", "not told yet"])
def test_a_change_of_which_conversation_counts_changes_the_order(reads: MemoryReads, event: Event) -> None:
    other = replace(BOB, id=b"o" * 32)
    reads.known[other.id] = other
    reads.put(theirs(1, "other", local_id=101, where=other))
    timeline = Timeline(reads, BOB.id, page=2)
    assert texts(timeline) == ["text 99", "text 100"]
    reads.known[BOB.id] = replace(BOB, state="closed")
    timeline.fold(event)
    assert texts(timeline) == ["text 100", "==", "other"]


# --- rows -------------------------------------------------------------------------------------------------------------


def test_each_day_begins_with_its_date_in_the_readers_zone() -> None:
    reads = MemoryReads((BOB,))
    hour = 3_600_000
    for seq, time in enumerate((21 * hour, 23 * hour, 25 * hour, 47 * hour), 1):
        reads.put(theirs(seq, time=time))
    reads.put(ours(9, "waits"))

    def days(hours: int) -> list[date | str]:
        zone = timezone(timedelta(hours=hours)) if hours else UTC
        rows = Timeline(reads, BOB.id, zone=zone).rows
        return [row.date if isinstance(row, Day) else getattr(row, "text", "") for row in rows]

    first, second, third = date(1970, 1, 1), date(1970, 1, 2), date(1970, 1, 3)
    assert days(0) == [first, "text 1", "text 2", second, "text 3", "text 4", "waits"]
    assert days(2) == [first, "text 1", second, "text 2", "text 3", third, "text 4", "waits"]


def test_a_row_is_harmless_and_says_how_the_line_stands() -> None:
    evil = "one\x1b[2J\r\ntwo\u202e"
    message = Message(1, BOB.id, 3, 5, evil, own=False, text=evil, trust="changed", problem=evil)
    row = line_of(message)
    assert (row.sender, row.text, row.problem) == ("one\ufffd[2J two", "one\ufffd[2J\ntwo", "one\ufffd[2J two")
    assert (row.trust, row.time, row.delivery) == ("changed", 5, "received")


# --- folding equals reading anew --------------------------------------------------------------------------------------


class Folding(RuleBasedStateMachine):
    """A history that changes, with its events on their way to a timeline that pages meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = MemoryReads((BOB, LOBBY))
        self.coming: deque[Event] = deque()
        self.last_id = self.seq = 0
        for _ in range(7):
            self.receive()
        self.coming.clear()
        self.timeline = Timeline(self.reads, BOB.id, page=3, limit=8)

    def _waiting(self) -> list[Message]:
        return [each for each in self.reads.in_order(self.here.id) if each.own and not (each.seq or each.problem)]

    @property
    def here(self) -> ConversationSnapshot:
        """The conversation with bob that counts."""
        return self.reads.called("bob")[-1]

    @rule(lines=st.integers(0, 2))
    def begin_anew(self, lines: int) -> None:
        waiting = self._waiting()
        new = begin_anew(self.reads)
        for message in waiting:
            self.reads.put(replace(message, conversation=new.id))
        self.seq = 0
        self.coming.append(ConversationChanged(new, "opened", "alice"))
        for _ in range(lines):
            self.receive()

    @rule()
    def receive(self) -> None:
        self.last_id += 1
        self.seq += 1
        self.coming.append(Received(self.reads.put(theirs(self.seq, local_id=self.last_id, where=self.here))))

    @rule(count=st.integers(1, 4))
    def say(self, count: int) -> None:
        for _ in range(count):
            self.last_id += 1
            self.coming.append(Said(self.reads.put(ours(self.last_id, f"own {self.last_id}", where=self.here))))

    @precondition(lambda self: self._waiting())
    @rule()
    def deliver(self) -> None:
        self.seq += 1
        self.coming.append(Delivered(self.reads.put(replace(self._waiting()[0], seq=self.seq, time=self.seq))))

    @precondition(lambda self: self._waiting())
    @rule()
    def refuse(self) -> None:
        self.coming.append(Refused("local", "No.", self.reads.put(replace(self._waiting()[0], problem="No."))))

    @rule()
    def move_what_waits(self) -> None:
        for message in self._waiting():
            self.reads.put(replace(message, conversation=LOBBY.id))
        self.coming.append(ConversationChanged(self.here, "closed"))

    @rule()
    def speak_elsewhere(self) -> None:
        self.last_id += 1
        self.coming.append(Received(theirs(self.last_id, local_id=self.last_id, where=LOBBY)))

    @rule(count=st.integers(1, 3))
    def tell(self, count: int) -> None:
        for _ in range(min(count, len(self.coming))):
            fold(self.timeline, self.coming.popleft())

    @rule()
    def look_back(self) -> None:
        self.timeline.show_older()

    @rule()
    def look_on(self) -> None:
        self.timeline.show_newer()

    @rule()
    def look_at_the_end(self) -> None:
        self.timeline.show_newest()

    @rule(data=st.data())
    def look_at_a_line(self, data: st.DataObject) -> None:
        if there := self.reads.past("bob", 1000):
            self.timeline.show(data.draw(st.sampled_from(there)).local_id)

    @invariant()
    def the_window_is_bounded(self) -> None:
        assert len(lines(self.timeline)) <= 8
        assert self.timeline._places.keys() == set(ids(self.timeline))

    def teardown(self) -> None:
        while self.coming:
            fold(self.timeline, self.coming.popleft())
        everything = [line_of(each) for each in self.reads.past("bob", 1000)]
        shown = lines(self.timeline)
        assert shown or not everything
        first = everything.index(shown[0]) if shown else 0
        assert everything[first : first + len(shown)] == shown
        assert self.timeline.more_before or first == 0
        assert self.timeline.more_after or first + len(shown) == len(everything)


TestFolding = Folding.TestCase
TestFolding.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)


# --- what becomes of a line -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["edited", "deleted", "reacted"])
def test_what_becomes_of_a_line_changes_its_row_and_those_that_quote_it(reads: MemoryReads, what: str) -> None:
    old = theirs(95)
    answer = replace(theirs(101, "yes"), quote=Quote(95, "bob", text=old.text))
    reads.put(answer)
    timeline = Timeline(reads, BOB.id, page=30)
    event: Event
    if what == "edited":
        new, quote = replace(old, text="new", edited=7), Quote(95, "bob", text="new", edited=7)
        event = Edited(new, old.text)
    elif what == "deleted":
        new, quote = replace(old, text="", deleted_by="bob"), Quote(95, "bob", state="deleted")
        event = Deleted(new)
    else:
        new, quote = replace(old, reactions=(Reaction("👍", ("bob",)),)), Quote(95, "bob", text=old.text)
        event = Reacted(new, "bob", "👍", "add")
    reads.put(new)
    reads.put(replace(answer, quote=quote))
    fold(timeline, event)
    assert timeline.rows == Timeline(reads, BOB.id, page=len(lines(timeline))).rows
    assert lines(timeline)[-7] == line_of(new, account=reads.account)
    assert lines(timeline)[-1] == line_of(replace(answer, quote=quote), account=reads.account)
    fold(timeline, Edited(theirs(3), "x"), Deleted(theirs(7, where=CAROL)))  # outside the window, and elsewhere
    assert timeline.rows == Timeline(reads, BOB.id, page=len(lines(timeline))).rows


def test_what_others_change_as_often_as_they_like_costs_a_line_and_no_page(
    reads: MemoryReads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page can have 6 MB of their text: it is not read again for a reaction, an edit or a mark."""
    quoted = Quote(100, "bob", own=False, text="text 100", edited=0)
    for local_id in (101, 102, 103):
        reads.put(replace(ours(local_id, "an answer", seq=local_id), quote=quoted, recipients=1))
    timeline = Timeline(reads, BOB.id, page=50)
    whole: list[int] = []
    past = reads.past

    def counting(name: str, limit: int, *, before: int = 0, after: int = 0) -> list[Message]:
        whole.append(limit)
        return past(name, limit, before=before, after=after)

    monkeypatch.setattr(reads, "past", counting)
    liked = reads.put(replace(reads.lines[100], reactions=(Reaction("+1", ("carol",)),)))
    fold(timeline, Reacted(liked, "carol", "+1", "add"))
    fold(timeline, Edited(reads.put(replace(reads.lines[100], text="other", edited=9)), "text 100"))
    for local_id in (101, 102, 103):
        reads.put(replace(reads.lines[local_id], quote=replace(quoted, text="other", edited=9)))
    fold(timeline, Edited(reads.put(replace(reads.lines[100], text="other", edited=9)), "text 100"))
    for local_id in (101, 102):
        reads.put(replace(reads.lines[local_id], delivered=1))
    fold(timeline, Marked(BOB.id, "bob", 102, 0))
    assert whole == []
    assert lines(timeline) == lines(Timeline(reads, BOB.id, page=50))  # as if it was read afresh
    assert [line.delivery for line in lines(timeline)[-3:]] == ["delivered", "delivered", "sent"]
    assert {line.answers.text for line in lines(timeline)[-3:] if line.answers} == {"other"}
