"""The conversation list, what is told once, and completion."""

from dataclasses import replace

import pytest

from securechat.client.events import (
    Connected,
    ConversationChanged,
    Delivered,
    FirstContact,
    PresenceChanged,
    Received,
    Refused,
    Said,
    Trust,
)
from securechat.client.message import Message
from securechat.client.snapshot import ConversationSnapshot
from securechat.ui.view.completion import MAX_CANDIDATES, Usage, complete, meant
from securechat.ui.view.listing import Listing
from securechat.ui.view.news import News
from securechat.ui.view.rows import Item
from tests.support.reads import MemoryReads
from tests.support.scripted import conversation

BOB = conversation("bob")
CAROL = conversation("carol")
LOBBY = conversation("#lobby", "open", members=("alice", "bob", "carol", "dave"))


def line(local_id: int, where: ConversationSnapshot, text: str, *, seq: int = -1, own: bool = False) -> Message:
    seq = local_id if seq < 0 else seq
    return Message(local_id, where.id, seq, seq, "alice" if own else "bob", own=own, text=text)


@pytest.fixture
def reads() -> MemoryReads:
    reads = MemoryReads((BOB, CAROL, LOBBY))
    for local_id, (where, text) in enumerate(((LOBBY, "one"), (BOB, "two"), (LOBBY, "three")), 1):
        reads.put(line(local_id, where, text))
    reads.put(line(4, BOB, "four", own=True))
    return reads


def titles(listing: Listing) -> list[str]:
    return [item.title for item in listing.items]


def item(listing: Listing, where: ConversationSnapshot) -> Item:
    (found,) = [item for item in listing.items if item.id == where.id]
    return found


# --- the list ---------------------------------------------------------------------------------------------------------


def test_a_list_shows_each_conversation_with_its_newest_line_and_what_is_unread(reads: MemoryReads) -> None:
    listing = Listing(reads)
    assert [(each.title, each.kind, each.state, each.members, each.unread) for each in listing.items] == [
        ("bob", "direct", "open", 2, 1), ("#lobby", "open", "open", 4, 2), ("carol", "direct", "open", 2, 0),
    ]  # fmt: skip
    assert [each.newest and each.newest.text for each in listing.items] == ["four", "three", None]
    reads.shown = 2
    assert [each.unread for each in Listing(reads).items] == [0, 1, 0]


def test_where_something_was_said_last_comes_first(reads: MemoryReads) -> None:
    listing = Listing(reads)
    listing.fold(Received(reads.put(line(5, CAROL, "five"))))
    assert titles(listing) == ["carol", "bob", "#lobby"]
    listing.fold(Said(reads.put(line(6, LOBBY, "six", seq=0, own=True))))
    assert titles(listing) == ["#lobby", "carol", "bob"]
    listing.fold(Delivered(reads.put(line(6, LOBBY, "six", seq=9, own=True))))
    listing.fold(ConversationChanged(LOBBY, "left", "dave"))
    assert titles(listing) == ["#lobby", "carol", "bob"]
    dave = conversation("dave", state="request")
    reads.known[dave.id] = dave
    listing.fold(ConversationChanged(dave, "request", "dave"))
    assert titles(listing) == ["dave", "#lobby", "carol", "bob"]
    listing.fold(ConversationChanged(LOBBY, "joined", "erin"))
    assert titles(listing)[0] == "dave"
    listing.fold(ConversationChanged(LOBBY, "joined", "alice"))
    assert titles(listing)[0] == "#lobby"


def test_unread_lines_are_counted_once_and_until_they_are_seen(reads: MemoryReads) -> None:
    listing = Listing(reads)
    listing.fold(Received(line(3, LOBBY, "three")))  # told late: it was counted when the list was read
    assert listing.unread(LOBBY.id) == item(listing, LOBBY).unread == 2
    listing.fold(Received(reads.put(line(5, LOBBY, "five"))))
    assert listing.unread(LOBBY.id) == item(listing, LOBBY).unread == 3
    listing.see(LOBBY.id)
    assert listing.unread(LOBBY.id) == item(listing, LOBBY).unread == 0
    listing.fold(Received(line(5, LOBBY, "five")))
    assert listing.unread(LOBBY.id) == 0
    listing.fold(Received(reads.put(line(6, LOBBY, "six"))))
    assert listing.unread(LOBBY.id) == 1
    listing.fold(Received(reads.put(line(7, LOBBY, "from another device", own=True))))
    assert listing.unread(LOBBY.id) == 1


def test_the_newest_line_says_what_became_of_it(reads: MemoryReads) -> None:
    listing = Listing(reads)

    def newest() -> tuple[str, str]:
        shown = item(listing, BOB).newest
        assert shown is not None
        return shown.text, shown.delivery

    listing.fold(Said(reads.put(line(5, BOB, "five", seq=0, own=True))))
    assert newest() == ("five", "waiting")
    listing.fold(Received(reads.put(line(6, BOB, "six"))))
    assert newest() == ("five", "waiting")
    listing.fold(Delivered(reads.put(line(5, BOB, "five", seq=5, own=True))))
    assert newest() == ("six", "received")
    failed = replace(line(7, BOB, "seven", seq=0, own=True), problem="No.")
    listing.fold(Refused("local", "No.", reads.put(failed)))
    assert newest() == ("seven", "not sent")


def test_a_conversation_that_gets_another_id_is_listed_once(reads: MemoryReads) -> None:
    listing = Listing(reads)
    shared = replace(CAROL, id=b"s" * 32)
    reads.known = {BOB.id: BOB, LOBBY.id: LOBBY, shared.id: shared}
    reads.aliases = {CAROL.id: shared.id}
    listing.fold(Received(line(9, CAROL, "told under the id that is no more")))
    listing.fold(ConversationChanged(shared, "opened", "alice"))
    assert titles(listing) == ["carol", "bob", "#lobby"]
    assert item(listing, shared).unread == 0


def test_a_conversation_whose_lines_move_away_shows_what_is_left(reads: MemoryReads) -> None:
    listing = Listing(reads)
    reads.put(replace(reads.lines[4], conversation=CAROL.id))
    listing.fold(ConversationChanged(BOB, "closed"))
    shown = item(listing, BOB).newest
    assert shown is not None
    assert shown.text == "two"


def test_the_trust_in_a_room_is_that_in_the_one_to_be_trusted_least(reads: MemoryReads) -> None:
    listing = Listing(reads)

    def trust(*others: Trust) -> Trust:
        # alice, who looks, comes first
        reads.known[LOBBY.id] = replace(LOBBY, trust=("verified", *others), heard=("bob", "carol", "dave"))
        return item(listing, LOBBY).trust

    assert trust("verified", "accepted", "verified") == "accepted"
    assert trust("verified", "unknown", "accepted") == "unknown"
    assert trust("verified", "verified", "verified") == "verified"
    assert trust("changed", "unknown", "changed-verified") == "changed-verified"
    assert trust("changed", "unknown", "refused") == "refused"


def test_a_room_in_which_somebody_is_only_listed_is_not_shown_as_verified(reads: MemoryReads) -> None:
    listing = Listing(reads)
    verified: tuple[Trust, ...] = ("verified",) * 4
    reads.known[LOBBY.id] = replace(LOBBY, trust=verified, heard=("bob", "carol"))  # not dave
    reads.known[BOB.id] = replace(BOB, trust=("verified", "verified"))  # his key alone reads what is written there
    assert (item(listing, LOBBY).trust, item(listing, BOB).trust) == ("accepted", "verified")


# --- news -------------------------------------------------------------------------------------------------------------


def test_the_same_presence_is_told_once_and_a_change_again(reads: MemoryReads) -> None:
    news = News(reads)
    assert [each.text for each in news.of(PresenceChanged(BOB.id, "bob", "online"))] == ["bob is online."]
    assert news.of(PresenceChanged(LOBBY.id, "bob", "online")) == ()
    assert [each.text for each in news.of(PresenceChanged(LOBBY.id, "bob", "offline"))] == ["bob has gone."]
    assert len(news.of(PresenceChanged(BOB.id, "bob", "online"))) == 1


def test_a_request_and_a_first_contact_say_what_to_do(reads: MemoryReads) -> None:
    news = News(reads)
    (asked,) = news.of(ConversationChanged(conversation("dave", state="request"), "request", "dave"))
    assert "/accept dave" in asked.text
    (met,) = news.of(FirstContact("dave", "1a2b"))
    assert "First contact with dave, key 1a2b" in met.text
    assert "/safety dave" in met.text


def test_a_message_is_shown_and_not_told(reads: MemoryReads) -> None:
    news = News(reads)
    message = line(5, BOB, "five")
    for event in (Received(message), Said(message), Delivered(message), Refused("local", "No.", message)):
        assert news.of(event) == ()
    assert [each.kind for each in (*news.of(Refused("local", "No.")), *news.of(Connected("s", "hi")))] == [
        "warning", "notice", "notice",
    ]  # fmt: skip


# --- completion -------------------------------------------------------------------------------------------------------

USAGES = (
    Usage("/msg USER TEXT", "write"),
    Usage("/accept [USER]", "say yes"),
    Usage("/join #ROOM", "enter"),
    Usage("/go [NAME]", "talk elsewhere"),
    Usage("/rooms", "list"),
    Usage("/owner add|remove USER", "share"),
    Usage("/lines [revoke LINE]", "list"),
    Usage("/help [COMMAND]", "this"),
)


@pytest.mark.parametrize(
    ("typed", "texts"),
    [
        ("/", ["/msg", "/accept", "/join", "/go", "/rooms", "/owner", "/lines", "/help"]),
        ("/owner ", ["add", "remove"]),
        ("/owner a", ["add"]),
        ("/owner add c", ["carol"]),
        ("/lines r", ["revoke"]),
        ("/lines revoke ", []),
        ("/help /r", ["/rooms"]),
        ("/help ro", ["/rooms"]),
        ("/M", ["/msg"]),
        ("/x", []),
        ("/msg ", ["bob", "carol", "dave"]),
        ("/msg B", ["bob"]),
        ("/MSG c", ["carol"]),
        ("/msg bob h", []),
        ("/accept ", ["bob", "carol", "dave"]),
        ("/accept bob ", []),
        ("/join #l", ["#lobby"]),
        ("/join ", ["#lobby"]),
        ("/go ", ["bob", "#lobby", "carol", "dave"]),
        ("/rooms ", []),
        ("/nothing b", []),
        ("//msg b", []),
        ("hello b", []),
        ("", []),
    ],
)
def test_a_word_is_completed_by_what_may_stand_there(reads: MemoryReads, typed: str, texts: list[str]) -> None:
    assert [each.text for each in complete(typed, USAGES, Listing(reads).names)] == texts


@pytest.mark.parametrize(
    ("typed", "command"),
    [("/mgs", "/msg"), ("/acept", "/accept"), ("/ro", "/rooms"), ("/HELO", "/help"), ("/zzz", ""), ("/", ""),
     ("/" + "x" * 10_000, "")],
)  # fmt: skip
def test_the_command_that_was_meant(typed: str, command: str) -> None:
    assert meant(typed, USAGES) == command


def test_candidates_carry_help_and_are_bounded() -> None:
    assert complete("/go", USAGES, ())[0].note == "talk elsewhere"
    names = [f"user{number}" for number in range(1000)]
    assert [each.text for each in complete("/msg u", USAGES, names)] == names[:MAX_CANDIDATES]
