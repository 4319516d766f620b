"""What people type about a message in the plain client: which one is meant, and what the screen says of it."""

import re
from dataclasses import replace
from typing import get_args

import pytest

from securechat.client import commands
from securechat.client.events import Deleted, Edited, Reacted, Received
from securechat.client.message import Quote, QuoteState, Reaction
from securechat.ui.view.lines import ABOVE, BELOW, CONTINUATION
from tests.support.scripted import conversation, message
from tests.ui.test_chat import BOB, LOBBY, Screen


@pytest.fixture
def screen() -> Screen:
    """In #lobby, where bob (1), alice (2), carol (3) and alice (4) have said something; 5 was said elsewhere."""
    screen = Screen()
    for where in (BOB, LOBBY):
        screen.client.add(where)
    for sender, where in (("bob", LOBBY), ("alice", LOBBY), ("carol", LOBBY), ("alice", LOBBY), ("bob", BOB)):
        number = len(screen.client.said) + 1
        said = message(where, sender, f"text {number}", local_id=number, seq=number)
        screen.client.said.append(replace(said, own=sender == "alice"))
    screen.type("/go #lobby")
    screen.client.calls.clear()
    return screen


def asked(screen: Screen, *lines: str) -> list[commands.Command]:
    screen.client.calls.clear()
    for line in lines:
        screen.type(line)
    return screen.commands()


def test_without_a_number_the_newest_message_that_fits_is_meant(screen: Screen) -> None:
    assert asked(screen, "/reply yes, of course") == [commands.Reply(3, "yes, of course")]
    assert asked(screen, "/react 👍") == [commands.React(3, "👍")]
    assert asked(screen, "/edit text four") == [commands.Edit(4, "text four")]
    assert asked(screen, "/delete") == [commands.Delete(4)]
    screen.client.said[3] = replace(screen.client.said[3], deleted_by="alice")
    screen.client.said[2] = replace(screen.client.said[2], problem="cannot be read")
    assert asked(screen, "/delete", "/reply no") == [commands.Delete(2), commands.Reply(1, "no")]


def test_a_number_means_what_history_showed_under_it_whatever_comes_meanwhile(screen: Screen) -> None:
    shown = screen.type("/history").split("\n")
    assert [re.sub(r"\d\d:\d\d|\d{4}-\d\d-\d\d ", "", line) for line in shown] == [
        "4)  [#lobby] bob: text 1", "3)  [#lobby] alice: text 2 (sent)", "2)  [#lobby] carol: text 3",
        "1)  [#lobby] alice: text 4 (sent)",
    ]  # fmt: skip
    screen.client.receive(LOBBY, "bob", "meanwhile")
    screen.settle()
    assert asked(screen, "/reply 4 yes", "/edit 3 hm", "/delete 1", "/react 2 +1") == [
        commands.Reply(1, "yes"), commands.Edit(2, "hm"), commands.Delete(4), commands.React(3, "+1"),
    ]  # fmt: skip
    assert "no message 5" in screen.type("/reply 5 yes")
    assert "no message 0" in screen.type("/delete 0")
    assert "Message 1 was said in another conversation" in screen.type("/go bob", "/delete 1")


def test_the_same_reaction_again_takes_it_back(screen: Screen) -> None:
    carols = screen.client.said[2]
    screen.client.said[2] = replace(carols, reactions=(Reaction("👍", ("bob", "alice")), Reaction("+1", ("bob",))))
    assert asked(screen, "/react 👍", "/react +1") == [commands.React(3, "👍", remove=True), commands.React(3, "+1")]


@pytest.mark.parametrize(
    "line", ["/reply", "/reply 3", "/edit", "/edit 2", "/delete this", "/react", "/react 2", "/me"]
)
def test_what_is_not_whole_is_explained(screen: Screen, line: str) -> None:
    screen.type("/history")
    assert f"Type {line.split(' ', maxsplit=1)[0]}" in screen.type(line)
    assert not asked(screen)


def test_where_nothing_was_said_there_is_nothing_to_answer(screen: Screen) -> None:
    screen.client.add(conversation("dave"))
    assert "no such message" in screen.type("/go dave", "/reply yes")
    assert "Nobody hears you yet" in Screen().type("/reply yes")


def test_me_says_what_one_does(screen: Screen) -> None:
    assert asked(screen, "/me waves at @bob") == [commands.Act(LOBBY.id, "waves at @bob")]
    waves = message(LOBBY, "bob", "waves", kind="action")
    assert screen.tell(Received(waves)).endswith("[#lobby] * bob waves")


def test_what_becomes_of_a_message_is_a_line_of_its_own(screen: Screen) -> None:
    said = replace(message(LOBBY, "bob", "at seven", local_id=1), trust="accepted")
    edited = screen.tell(Edited(replace(said, edited=said.time), "at six"))
    assert re.fullmatch(ABOVE + r"at six\n\d\d:\d\d \[#lobby\] bob: at seven \(edited\)", edited)
    deleted = screen.tell(Deleted(replace(said, text="", deleted_by="carol")))
    assert re.fullmatch(r"-- carol has deleted what bob said in #lobby at \d\d:\d\d\.", deleted)
    own = replace(said, own=True, sender="alice")
    by_oneself = screen.tell(Deleted(replace(own, deleted_by="alice")))
    assert by_oneself.startswith("-- You have deleted something that you said in #lobby")
    reacted = screen.tell(Reacted(said, "carol", "👍", "add"))
    assert reacted == "-- In #lobby, carol put 👍 under what bob said: at seven"
    assert "-- In #lobby, you took back 👍" in screen.tell(Reacted(said, "alice", "👍", "remove"))
    answer = replace(said, local_id=9, text="@alice?", quote=Quote(1, "bob", text="at seven", edited=1))
    shown = screen.tell(Received(replace(answer, reactions=(Reaction("👍", ("carol",)),))))
    assert re.fullmatch(
        rf"{ABOVE}bob \(edited\): at seven\n\d\d:\d\d \[#lobby\] bob @you: @alice\?\n{BELOW}👍 carol", shown
    )


def test_hostile_text_passes_for_no_line_of_ours(screen: Screen) -> None:
    evil = "x\n12:00 [bob] bob: fake\x1b[2A\r!! fake\n      ╭ fake\u202e"
    said = message(LOBBY, "bob", evil, local_id=1)
    events = [
        Edited(replace(said, edited=1), evil),
        Deleted(replace(said, sender=evil, deleted_by=evil)),
        Reacted(said, evil, evil, "add"),
        Received(replace(said, kind="action")),
        *(Received(replace(said, quote=Quote(1, evil, text=evil, state=state))) for state in get_args(QuoteState)),
        Received(replace(said, reactions=(Reaction(evil, (evil,) * 256),))),
    ]
    for event in events:
        shown = screen.tell(event)
        assert shown
        assert not re.search("[\x1b\r\u202e]", shown)
        for line in shown.split("\n"):
            ours = re.match(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d \[#lobby\] (\* )?bob|-- ", line)
            assert ours or line.startswith((CONTINUATION, ABOVE, BELOW)), line
        assert sum(line.startswith(ABOVE) for line in shown.split("\n")) <= 1
