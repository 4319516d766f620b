"""Reading back in the plain client: pages, searches, and the way from what was found to around it."""

import re
from dataclasses import replace

import pytest

from securechat.client import commands
from securechat.ui.session.back import LINES
from securechat.ui.text.states import BEGINS
from tests.support.scripted import conversation, message
from tests.ui.test_chat import BOB, LOBBY, Screen


@pytest.fixture
def screen() -> Screen:
    """bob has said "number 1" to "number 70", the first ten in a conversation that is over; then one in #lobby."""
    screen = Screen()
    over = replace(conversation("bob", state="closed"), id=b"o" * 32)
    screen.client.known = {"over": over, "bob": BOB, "#lobby": LOBBY}
    for number in range(1, 71):
        where = over if number <= 10 else BOB
        screen.client.said.append(message(where, "bob", f"number {number}", local_id=number, seq=number))
    screen.client.said.append(message(LOBBY, "carol", "number 71", local_id=71))
    screen.type("/go bob")
    return screen


def numbers(shown: str) -> list[int]:
    return [int(number) for number in re.findall(r"number ([0-9]+)", shown)]


def test_history_goes_back_page_by_page_to_the_very_first_line_and_forth_again(screen: Screen) -> None:
    assert numbers(screen.type("/history")) == [*range(51, 71)]
    assert numbers(screen.type("/history older")) == [*range(31, 51)]
    assert numbers(screen.type("/history older")) == [*range(11, 31)]
    assert numbers(screen.type("/history newer")) == [*range(31, 51)]
    screen.type("/history older")
    oldest = screen.type("/history older")
    assert numbers(oldest) == [*range(1, 11)]
    assert "nothing older" in screen.type("/history older")
    whole = screen.type("/history 1000").split("\n")
    begins = whole.index(f"-- {BEGINS}")
    assert (numbers(whole[begins - 1]), numbers(whole[begins + 1])) == ([10], [11])
    assert "said in another conversation" in screen.type("/reply 61 what was that?")
    assert not [each for each in screen.commands() if isinstance(each, commands.Reply)]


def test_what_was_found_leads_to_what_was_said_around_it(screen: Screen) -> None:
    found = screen.type("/search number")
    assert numbers(found) == [*range(52, 72)]
    assert "1) " in found.split("\n")[LINES - 1]
    assert "/search alone shows older ones" in found
    assert numbers(screen.type("/search")) == [*range(32, 52)]
    around = screen.type("/history at 20")
    assert numbers(around) == [*range(22, 43)]
    assert numbers(screen.type("/history newer")) == [*range(43, 63)]
    screen.type("/search 71")
    assert "You are talking in #lobby now" in screen.type("/history at 1")
    assert screen.chat.place.name == "#lobby"
    assert "Nothing was found" in screen.type("/search nowhere")
    assert "Nothing older was found" in screen.type("/search 71", "/search")


def test_a_line_of_a_conversation_that_is_over_is_read_where_one_is(screen: Screen) -> None:
    del screen.client.known["bob"]
    screen.client.said = screen.client.said[:5]
    screen.type("/go #lobby", "/search number")
    assert numbers(screen.type("/history at 3")) == [1, 2, 3, 4, 5]
    assert screen.chat.place.name == "#lobby"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("/history at", "Type /history at N"), ("/history at x", "Type /history at N"),
        ("/history at 1", "no message 1"), ("/history older", "Type /history first"),
        ("/history newest", "number from 1 to 1,000"),
        ("/search", "Type /search and words"), ("/search has:nothing", "has: takes"),
        ("/search " + "x" * 100_000, "at most"), ("/search after:never", "a day"),
    ],
    ids=["at", "at-x", "at-1", "older", "newest", "search", "has", "long", "after"],
)  # fmt: skip
def test_what_cannot_be_done_is_explained(line: str, why: str) -> None:
    screen = Screen()
    screen.client.add(BOB)
    screen.type("/go bob")
    shown = screen.type(line)
    assert shown.startswith("!! ")
    assert re.search(why, shown)
