import re
import unicodedata
from dataclasses import replace
from typing import Any, get_args

import pytest

from securechat.client import commands
from securechat.client.events import (
    AccountDeleted,
    Alarm,
    AskedByLine,
    Blocked,
    Connected,
    Contact,
    ContactList,
    ConversationChanged,
    Delivered,
    Disconnected,
    Done,
    Edited,
    Ended,
    Event,
    FirstContact,
    Gap,
    Held,
    InvitationDeclined,
    InvitationEnded,
    Invited,
    InviteLine,
    InviteLineMade,
    InviteLineRefused,
    InviteLines,
    InviteLineUsed,
    KeyAccepted,
    KeyChanged,
    KeyRefused,
    KeyShown,
    LineRefusal,
    LoggedIn,
    Marked,
    MemberList,
    Notice,
    NumberedKey,
    OutOfStep,
    OwnSessions,
    PasswordReplaced,
    PasswordWanted,
    PreferenceChanged,
    PresenceChanged,
    Reacted,
    Ready,
    Received,
    Refused,
    RoomList,
    RoomListed,
    SafetyNumber,
    SecretReplaced,
    SessionShown,
    Stopped,
    Unreachable,
    Unread,
    Waiting,
)
from securechat.client.message import Message
from securechat.client.snapshot import Invitation
from securechat.errors import InternalError, RefusedError, TrustError, UnreachableError
from securechat.ui.exit_codes import ExitCode
from securechat.ui.session.back import NEW
from securechat.ui.session.chat import Chat
from securechat.ui.session.verbs import VERBS
from securechat.ui.text.states import NOBODY_HEARS, NOBODY_YET
from securechat.ui.view.flood import AT_ONCE, WITHIN_SECONDS, Flood
from securechat.ui.view.lines import CONTINUATION
from securechat.ui.view.listing import Listing
from securechat.ui.view.presence import Presence
from tests.support.scripted import NUMBER, ScriptedClient, conversation, message

BOB = conversation("bob")
CAROL = conversation("carol")
LOBBY = conversation("#lobby", "open", members=("alice", "bob", "carol"))
PRIVATE = conversation("#private", "invite")
CLUB = Invitation(
    b"c" * 32, "#club", "bob", "1a2b" * 16, first_contact=False, again=False, role="member", owners=("bob",),
    members=("bob", "carol"), known=("carol",), text="", question=3,
)  # fmt: skip

LINE = InviteLine("1a2b3c4d", "#staff", 1_700_049_600_000)


class Screen:
    """A chat with a scripted core, both on this thread: what is told is shown before the next line is typed."""

    def __init__(self, *, piped: bool = False, online: bool = True, start: bool = True) -> None:
        self.lines: list[str] = []
        self.pending: list[Event] = []
        self.client = ScriptedClient(self.pending.append, online=online)
        self.chat = Chat(self.client, self.lines.append, piped=piped)
        self.chat._presence = Presence(lambda: self.chat._presence.due)  # always due
        if start:
            self.client.start()
            self.settle()
            self.lines.clear()
            self.client.calls.clear()

    def settle(self) -> None:
        while self.pending:
            self.chat.event(self.pending.pop(0))
        self.chat.tell_folded()

    def type(self, *lines: str) -> str:
        for line in lines:
            self.chat.line(line)
            self.settle()
        return self.taken()

    def tell(self, event: Event) -> str:
        self.pending.append(event)
        self.settle()
        return self.taken()

    def change(self, where: Any, change: str, account: str = "") -> str:
        self.client.change(where, change, account)
        self.settle()
        return self.taken()

    def idle(self) -> bool:
        return self.chat.idle

    def commands(self) -> list[commands.Command]:
        """What the core was asked for."""
        return [call for call in self.client.calls if isinstance(call, commands.Command)]

    def texts(self) -> list[str]:
        """What the core was asked to say."""
        return [call.text for call in self.client.calls if isinstance(call, commands.Send)]

    def taken(self) -> str:
        shown = "\n".join(self.lines)
        self.lines.clear()
        return shown


@pytest.fixture
def screen() -> Screen:
    screen = Screen()
    for where in (BOB, LOBBY, PRIVATE):
        screen.client.add(where)
    return screen


def test_a_message_shows_its_time_conversation_and_sender(screen: Screen) -> None:
    screen.type("/go bob")
    screen.client.receive(LOBBY, "bob", "hello")
    screen.settle()
    assert re.fullmatch(r"\d\d:\d\d \[#lobby\] bob: hello", screen.taken())


def test_an_old_message_shows_its_day_and_one_that_cannot_be_shown_says_why(screen: Screen) -> None:
    old = message(BOB, "bob", "then", time=1_700_049_600_000)
    assert re.match(r"2023-11-1\d \d\d:\d\d \[bob\] bob: then", screen.tell(Received(old)))
    assert "bob: (altered on the way)" in screen.tell(
        Received(message(BOB, "bob", "", problem="altered on the way"))
    )


@pytest.mark.parametrize(
    ("trust", "mark"),
    [("accepted", "bob: hi"), ("verified", "bob ✓: hi"), ("changed", "bob (other key!): hi"), ("unknown", "bob ?: hi"),
     ("changed-verified", "bob (NOT THE VERIFIED KEY!): hi"), ("refused", "bob (REFUSED KEY!): hi")],
)  # fmt: skip
def test_a_message_shows_how_its_senders_key_stands(screen: Screen, trust: str, mark: str) -> None:
    assert mark in screen.tell(Received(message(BOB, "bob", "hi", trust=trust)))


def test_remote_text_cannot_fake_a_line_in_any_event(screen: Screen) -> None:
    evil = "x\n12:00 [bob] bob: fake\x1b[2A\r!! fake\u202e"
    shown = [
        screen.tell(event)
        for event in (
            Received(message(BOB, "bob", evil)),
            Received(message(BOB, "bob", "", problem=evil)),
            Received(message(BOB, evil, "hi")),
            Connected(evil, evil),
            Disconnected(evil, 1),
            Notice(evil),
            Alarm("server", BOB.id, evil),
            Stopped(BOB.id, evil, evil),
            Refused("local", evil),
            RoomList((RoomListed(evil, "open", 1, joined=False),)),
            MemberList(BOB.id, ((evil, True, "changed"),)),
            PresenceChanged(BOB.id, evil, "online"),
            KeyChanged(evil, "1a2b", "changed-verified"),
            Held(BOB.id, (KeyShown(evil, "1a2b", "unknown"),), 1),
            FirstContact(evil, "1a2b"),
            KeyAccepted(evil, "1a2b", verified=True, lines=2, stops=(evil,)),
            KeyRefused(evil, "1a2b", 1, (evil,)),
            SafetyNumber(evil, (NumberedKey("1a2b", "accepted", "12345", (evil,)),)),
            Ended(RefusedError("busy", evil)),
            Invited(replace(CLUB, name=evil, inviter=evil, text=evil, owners=(evil,), members=(evil,), known=(evil,))),
            InvitationEnded(replace(CLUB, name=evil, inviter=evil), "expired"),
            InvitationDeclined(BOB.id, evil),
            InviteLineMade(replace(LINE, room=evil), "securechat1abc"),
            InviteLines((replace(LINE, room=evil, user=evil, key="1a2b", used=1),)),
            InviteLineUsed(BOB.id, evil, "1a2b", evil),
            *(InviteLineRefused(BOB.id, evil, "1a2b", evil, why, evil, "3c4d", 1) for why in get_args(LineRefusal)),
            AskedByLine(evil, "1a2b", evil, 1, known=False),
        )
    ]
    shown.append(screen.change(replace(LOBBY, name=evil, members=(evil,)), "members", evil))
    for text in shown:
        assert "\x1b" not in text
        assert "\r" not in text
        assert "\u202e" not in text
        for line in text.split("\n"):
            assert re.match(r"\d\d:\d\d \[(bob|.* fake.*)\] |-- |!! ", line) or line.startswith(CONTINUATION), line
            assert not line.startswith(("12:00", "!! fake"))


def test_plain_text_goes_to_the_current_conversation_and_is_shown_once(screen: Screen) -> None:
    shown = screen.type("/go bob", "hello", "two\nlines")
    assert screen.client.calls == [commands.Send(BOB.id, "hello"), commands.Send(BOB.id, "two\nlines")]
    assert re.search(r"\d\d:\d\d \[bob\] alice: hello\n\d\d:\d\d \[bob\] alice: two\n" + CONTINUATION + "lines$", shown)
    assert screen.chat.prompt == "[bob] > "


def test_a_renamed_room_stays_the_current_one_also_when_another_room_gets_its_name(screen: Screen) -> None:
    screen.type("/go #private", "one")
    del screen.client.known["#private"]
    renamed = replace(PRIVATE, name="#crew")
    screen.client.change(renamed, "renamed", "#crew")
    screen.client.add(conversation("#private", "open"))
    screen.type("two")
    assert screen.chat.prompt == "[#crew] > "
    assert [call.conversation for call in screen.client.calls if isinstance(call, commands.Send)] == [PRIVATE.id] * 2


def test_a_room_that_gets_the_name_of_another_is_told_and_reached_by_its_second_title(screen: Screen) -> None:
    screen.type("/go #private", "one")
    second = conversation("##private~1a2b", "invite")
    screen.client.add(second)
    shown = screen.change(second, "namesake", "#private")
    assert "!! This room is called #private, too." in shown
    assert "/go ##private~1a2b talks there" in " ".join(shown.split())
    screen.type("two", "/go ##private~1A2B", "three")
    assert screen.chat.prompt == "[##private~1a2b] > "
    sent = [call.conversation for call in screen.client.calls if isinstance(call, commands.Send)]
    assert sent == [PRIVATE.id, PRIVATE.id, second.id]
    assert "/go ##private~1a2b  (here)" in " ".join(screen.type("/go").split("\n")).replace("   ", "  ")


def test_who_enters_an_open_room_hears_whom_they_know_there_and_under_which_key(screen: Screen) -> None:
    people = ("alice", "bob", "carol", "dave")
    there = replace(LOBBY, members=people, trust=("verified", "verified", "changed", "unknown"))
    screen.client.change(there, "joined", "alice")
    shown = screen.type("/help")
    assert "You are in #lobby (4 people)" in shown
    assert "-- Listed there under keys that you know: bob. Whoever makes a room can list anybody" in shown
    assert "✓" not in shown  # whoever can make a room can put a friend's leaf into it: that recommends nobody
    assert "!! There under another key than the one you know: carol (other key!)." in shown


def test_a_key_that_was_refused_is_not_drawn_as_a_new_device(screen: Screen) -> None:
    refused = Held(BOB.id, (KeyShown("bob", "1a2b", "refused"),))
    screen.client.tell(refused)
    shown = screen.type("/help")
    assert "You have refused that key: /trust bob 1a2b accepts it again" in shown
    assert "new device" not in shown


def test_an_invitation_is_answered_by_the_rooms_name_or_alone(screen: Screen) -> None:
    screen.client.asked.append(CLUB)
    screen.type("/accept #club")
    assert screen.chat.prompt == "[#club] > "
    screen.type("/decline", "/never bob")
    assert screen.commands() == [
        commands.AcceptInvitation(CLUB.conversation, 3),
        commands.DeclineInvitation(CLUB.conversation, 3),
        commands.DeclineInvitation(CLUB.conversation, 3, never=True),
    ]
    assert "no invitation to #other" in screen.type("/accept #other")
    assert "carol has not invited you" in screen.type("/never carol")
    screen.client.asked.append(replace(CLUB, conversation=b"d" * 32, name="#den"))
    assert "Several have asked: #club, #den. Type /decline" in screen.type("/decline")


def test_an_invitation_and_the_request_of_its_inviter_are_one_question(screen: Screen) -> None:
    screen.client.asked.append(replace(CLUB, inviter="dave"))
    screen.client.add(conversation("dave", state="request"))
    screen.type("/accept")
    assert screen.commands() == [commands.AcceptInvitation(CLUB.conversation, 3)]
    screen.client.add(conversation("erin", state="request"))
    assert "Several have asked: erin, #club. Type /accept" in screen.type("/accept")


def test_an_invitation_of_an_earlier_session_is_shown_once_at_the_start() -> None:
    screen = Screen(start=False)
    screen.client.asked.append(CLUB)
    screen.client.start()
    screen.settle()
    assert screen.taken().count("invites you to the room #club") == 1
    assert screen.tell(Invited(CLUB)) == ""
    assert "/accept #club  (invited by bob)" in screen.type("/go")


def test_plain_text_without_a_conversation_says_what_to_do() -> None:
    screen = Screen()
    for where, what in ((None, NOBODY_YET), (replace(BOB, state="closed"), NOBODY_YET), (LOBBY, NOBODY_HEARS)):
        if where is not None:
            screen.client.add(where)
        assert screen.type("hello") == f"!! {what}"
        assert screen.client.calls == []
        assert screen.chat.prompt == "> "


def test_two_slashes_send_a_text_that_begins_with_one(screen: Screen) -> None:
    screen.type("/go bob", "//help is a command", "///")
    assert screen.texts() == ["/help is a command", "//"]


@pytest.mark.parametrize(
    ("line", "hint"),
    [("/frobnicate", "/help"), ("/", "/help"), ("/msg", "/msg USER TEXT"), ("/msg bob", "/msg USER TEXT"),
     ("/msg Alice hi", "That is you"), ("/msg #nowhere hi", "/join #nowhere"), ("/msg a\x1bb hi", "(U+001B)"),
     ("/frobnicat", "/help lists them"), ("/hsitory", "Did you mean /history?"), ("/REPL yes", "Did you mean /reply?"),
     ("/exit", "Did you mean /quit?"), ("/part #lobby", "Did you mean /leave?"),
     ("/help zzz", "There is no command /zzz."), ("/help repyl", "Did you mean /reply?"),
     ("/editor", "needs a terminal"),
     ("/msg #lob\nby hi", "#lob"), ("/chat", "/chat USER"), ("/chat bob carol", "/chat USER"),
     ("/join", "/join #room"), ("/join lobby", "begins with '#'"), ("/verify", "/verify USER"),
     ("/trust", "/trust USER"), ("/devices bob carol", "/devices [USER]"), ("/revoke", "/revoke DEVICE"),
     ("/safety", "/safety USER"), ("/distrust", "/distrust USER [KEY]"),
     ("/trust bob 1a2b 3c4d", "/trust USER [KEY]"),
     ("/history x", "number"), ("/history 0", "number"), ("/history 99999999999", "number"),
     ("/go nobody", "/msg nobody"), ("/go #nowhere", "/join #nowhere"), ("/accept", "Nobody has asked"),
     ("/accept zoe", "/chat zoe"), ("/who", "/go lists them"), ("/owner carol", "/owner add USER"),
     ("/inviter", "/inviter add USER"), ("/invite-line #a 3 x", "/invite-line #room DAYS"),
     ("/invite-line soon", "/invite-line #room DAYS"), ("/invite-lines revoke", "/invite-lines revoke LINE"),
     ("/invite-lines 1a2b", "/invite-lines revoke LINE"), ("/sessions end", "/sessions end N"),
     ("/sessions end x", "/sessions end N"), ("/sessions end 1000", "/sessions end N"),
     ("/sessions 1", "/sessions end N"), ("/sessions end 1", "There is no session 1: type /sessions"),
     ("/password", "at a terminal only"), ("/delete-account", "your user name"),
     ("/delete-account alice", "at a terminal only")],
)  # fmt: skip
def test_a_command_that_makes_no_sense_says_what_to_type(screen: Screen, line: str, hint: str) -> None:
    shown = screen.type(line)
    assert shown.startswith("!! ")
    assert hint in shown
    assert screen.client.calls == []


@pytest.mark.parametrize(
    ("line", "call"),
    [("/who", commands.ListMembers(LOBBY.id)), ("/rooms", commands.ListRooms()), ("/leave", commands.Leave(LOBBY.id)),
     ("/repair", commands.Repair(LOBBY.id)), ("/verify Bob", commands.Verify("bob")),
     ("/trust bob", commands.Trust("bob")), ("/trust bob 1A2B", commands.Trust("bob", "1A2B")),
     ("/revoke 1a2b3c4d", commands.RevokeDevice("1a2b3c4d")), ("/succeed", commands.Succeed()),
     ("/devices", commands.ListDevices()), ("/devices Bob", commands.ListDevices("bob")),
     ("/verify bob 1a2b", commands.Verify("bob", "1a2b")), ("/distrust bob", commands.Distrust("bob")),
     ("/distrust bob 1a2b", commands.Distrust("bob", "1a2b")),
     ("/owner add Carol", commands.SetOwner(LOBBY.id, "carol", owner=True)),
     ("/owner remove carol", commands.SetOwner(LOBBY.id, "carol", owner=False)),
     ("/inviter add carol", commands.SetInviter(LOBBY.id, "carol", inviter=True)),
     ("/bar carol", commands.Bar(LOBBY.id, "carol")), ("/unbar carol", commands.Unbar(LOBBY.id, "carol")),
     ("/topic tea, and more", commands.SetTopic(LOBBY.id, "tea, and more")),
     ("/life 30d", commands.SetLife(LOBBY.id, 30 * 86_400)), ("/life 12h", commands.SetLife(LOBBY.id, 12 * 3600)),
     ("/life off", commands.SetLife(LOBBY.id, 0)),
     ("/topic", commands.SetTopic(LOBBY.id, "")), ("/rename #Hall", commands.Rename(LOBBY.id, "#hall")),
     ("/invite carol", commands.Invite(LOBBY.id, "carol")), ("/remove carol", commands.Remove(LOBBY.id, "carol")),
     ("/bye bob", commands.Bye(BOB.id)), ("/msg BOB  hi there ", commands.Send(BOB.id, "hi there")),
     ("/invite-line", commands.MakeInviteLine()), ("/invite-line 3", commands.MakeInviteLine(days=3)),
     ("/invite-line #new", commands.MakeInviteLine("#new")), ("/invite-lines", commands.ListInviteLines()),
     ("/invite-line #new 14", commands.MakeInviteLine("#new", 14)),
     ("/invite-lines revoke 1a2b", commands.RevokeInviteLine("1a2b")),
     ("/join securechat1abc", commands.UseInviteLine("securechat1abc")),
     ("/sessions", commands.ListSessions()),
     ("/msg #lobby hi", commands.Send(LOBBY.id, "hi")), ("/create #New", commands.CreateRoom("#new")),
     ("/join #Other", commands.JoinRoom("#other")), ("/chat carol", commands.OpenDirect("carol", ask=True))],
)  # fmt: skip
def test_a_command_reaches_the_core(screen: Screen, line: str, call: commands.Command) -> None:
    screen.type("/go #lobby", line)
    assert screen.client.calls == [call]


@pytest.mark.parametrize("line", ["/rooms x", "/who x", "/repair x", "/quit now"])
def test_a_command_that_takes_nothing_refuses_what_follows_it(screen: Screen, line: str) -> None:
    screen.type("/go #lobby")
    command = line.split()[0]
    assert screen.type(line) == f"!! {command} takes nothing after it. Type {command} alone."
    assert screen.client.calls == []
    assert not screen.chat.quitting


def test_leave_with_a_name_leaves_that_conversation_and_not_the_current_one(screen: Screen) -> None:
    screen.type("/go #lobby", "/leave #Private", "/leave Bob")
    assert screen.client.calls == [commands.Leave(PRIVATE.id), commands.Leave(BOB.id)]
    assert screen.chat.prompt == "[#lobby] > "
    screen.type("/leave #lobby")
    assert screen.client.calls[2:] == [commands.Leave(LOBBY.id)]
    assert screen.chat.prompt == "> "


def test_an_invite_line_leads_to_its_maker_and_on_to_the_room_unless_something_is_being_said(screen: Screen) -> None:
    club = conversation("#club", "invite", members=("alice", "bob"))
    for writes in (False, True):
        screen.type("/go #lobby")
        screen.client.told[commands.UseInviteLine] = AskedByLine("bob", "1a2b", "#club", 1_700_049_600_000, known=False)
        assert "You are talking with bob now." in screen.type("/join securechat1abc")
        if writes:
            screen.chat.typing("I am")
        shown = screen.change(club, "joined")
        assert ("You are talking in #club now." in shown) is not writes
        assert screen.chat.prompt == ("[bob] > " if writes else "[#club] > ")


def test_to_answer_somebody_who_asks_is_to_agree_but_not_in_a_pipe() -> None:
    for piped in (False, True):
        screen = Screen(piped=piped)
        screen.client.add(replace(BOB, state="request"))
        screen.type("/msg bob hi")
        asked = [commands.Accept(BOB.id), commands.Send(BOB.id, "hi")]
        assert [replace(each, id=0) for each in screen.commands()] == [
            replace(each, id=0) for each in ([] if piped else asked)
        ]


def test_who_turns_to_a_name_has_seen_what_came_in_all_conversations_of_it(screen: Screen) -> None:
    older = replace(BOB, id=b"o" * 32)
    screen.client.known["an older one"] = older
    screen.type("/go #lobby")
    for where in (BOB, older):
        screen.client.receive(where, "bob", "hello")
    screen.settle()
    unread = screen.chat.listing.unread
    assert (unread(BOB.id), unread(older.id)) == (1, 1)
    screen.type("/go bob")
    assert (unread(BOB.id), unread(older.id)) == (0, 0)
    screen.client.receive(older, "bob", "still there")
    screen.settle()
    screen.chat.mark_shown()
    assert unread(older.id) == 0
    assert screen.client.visits[-2:] == [(older.id, 3), (BOB.id, 3)]  # the last one is where one is


@pytest.mark.parametrize("line", ["/leave #nowhere", "/leave zoe", "/leave #private bob"])
def test_leave_with_a_name_that_is_none_of_ours_leaves_nothing(screen: Screen, line: str) -> None:
    assert screen.type("/go #lobby", line).splitlines()[-1].startswith("!! ")
    assert screen.client.calls == []
    assert screen.chat.prompt == "[#lobby] > "


def test_what_the_core_refuses_is_told_in_its_words(screen: Screen) -> None:
    assert screen.type("/safety zoe") == "!! No key of zoe is known yet."
    screen.client.answer[commands.Trust] = Refused("local", "The key of bob has not changed.")
    assert screen.type("/trust bob") == "!! The key of bob has not changed."
    assert screen.idle()


def test_a_first_contact_is_told_with_its_key(screen: Screen) -> None:
    assert "First contact with dave, key 1a2b" in screen.tell(FirstContact("dave", "1a2b"))


HELD = Held(LOBBY.id, (KeyShown("bob", "1a2b", "changed-verified"),), 7)


def test_enter_alone_lets_go_what_waits_in_the_current_conversation_once(screen: Screen) -> None:
    screen.type("/go #lobby", "")
    assert screen.client.calls == []  # nothing was asked
    assert "bob (key 1a2b: NOT the verified key)" in screen.tell(HELD)
    screen.type("/go bob", "")
    assert screen.client.calls == []  # it was asked elsewhere
    screen.type("/go #lobby", "", "")
    assert screen.client.calls == [commands.Confirm(LOBBY.id, 7)]


def test_enter_alone_decides_on_no_key_in_a_private_conversation(screen: Screen) -> None:
    screen.type("/go bob")
    screen.tell(Held(BOB.id, (KeyShown("bob", "1a2b", "changed"),)))
    screen.type("")
    assert screen.client.calls == []


def test_in_a_pipe_an_empty_line_answers_no_question() -> None:
    screen = Screen(piped=True)
    screen.client.add(LOBBY)
    screen.type("/go #lobby")
    screen.tell(HELD)
    screen.type("")
    assert commands.Confirm(LOBBY.id, 7) not in screen.client.calls


def test_help_names_every_command(screen: Screen) -> None:
    shown = screen.type("/help")
    for name in VERBS:
        assert name in shown


def test_msg_opens_a_conversation_sends_and_makes_it_current(screen: Screen) -> None:
    shown = screen.type("/msg carol hello")
    assert screen.client.calls == [commands.OpenDirect("carol", "hello", ask=False)]
    assert "alice: hello" in shown
    assert shown.count("hello") == 1
    assert screen.chat.prompt == "[carol] > "


def test_lines_typed_while_a_room_is_being_entered_follow_once_it_is_there() -> None:
    screen = Screen(online=False, start=False)
    assert "Waiting for #lobby" in screen.type("/join #lobby", "hello", "/who")
    assert screen.client.calls == [commands.JoinRoom("#lobby")]
    shown = screen.change(LOBBY, "joined")
    assert screen.client.calls[1:] == [commands.Send(LOBBY.id, "hello"), commands.ListMembers(LOBBY.id)]
    assert "You are in #lobby (3 people). Earlier messages cannot be read." in shown


def test_what_is_said_in_a_room_that_the_vault_knows_already_waits_there_and_not_here() -> None:
    screen = Screen(online=False, start=False)
    screen.client.known_at_once = True
    screen.type("/join #lobby", "hello")
    assert "Waiting for #lobby; then: /who" in screen.type("/who")
    assert screen.client.calls == [commands.JoinRoom("#lobby"), commands.Send(LOBBY.id, "hello")]
    screen.change(LOBBY, "joined", "alice")
    assert screen.client.calls[2:] == [commands.ListMembers(LOBBY.id)]


def test_lines_for_a_conversation_that_does_not_come_about_go_nowhere_and_are_told() -> None:
    screen = Screen(online=False, start=False)
    screen.type("/msg zoe hi", "more", "/who")
    (asked,) = screen.commands()
    refused = Refused("not-found", "There is no account zoe.", command=asked.id)
    told = screen.tell(refused).splitlines()
    assert told[0] == "!! The server says: There is no account zoe."
    assert told[1:] == ["!! This was not said or done: more", "!! This was not said or done: /who"]
    assert screen.client.calls == [commands.OpenDirect("zoe", "hi", ask=False)]
    assert screen.chat.prompt == "> "


def test_whoever_cannot_be_written_to_leaves_one_where_one_was(screen: Screen) -> None:
    screen.type("/go #lobby")
    screen.client.answer[commands.OpenDirect] = Refused("not-found", "There is no account zoe.")
    assert "There is no account zoe." in screen.type("/msg zoe hi")
    assert screen.chat.prompt == "[#lobby] > "


def test_who_leaves_is_told_what_still_waited_for_a_conversation() -> None:
    screen = Screen(online=False, start=False)
    screen.type("/join #lobby", "hello")
    assert screen.type("/quit") == "!! This was not said or done: hello"


def test_a_request_is_answered_by_name_or_without_when_there_is_only_one(screen: Screen) -> None:
    dave = conversation("dave", state="request")
    shown = screen.change(replace(dave, trust=("verified", "unknown")), "request", "dave")
    assert "/accept dave or /decline dave" in shown
    assert "/safety dave" in shown
    assert "/safety" not in screen.change(dave, "request", "dave")
    assert "NOT the verified key" in screen.change(replace(dave, trust=("verified", "changed-verified")), "request")
    assert "first" in screen.type("/go dave", "hello")
    screen.type("/accept")
    assert screen.client.calls == [commands.Accept(conversation("dave").id)]
    screen.client.add(conversation("erin", state="request"))
    assert "Several have asked" in screen.type("/decline")
    screen.type("/decline erin")
    assert screen.client.calls[1:] == [commands.Decline(conversation("erin").id)]


def test_what_is_typed_behind_an_answer_does_not_wait_to_see_it_work() -> None:
    screen = Screen(online=False)
    screen.client.add(conversation("dave", state="request"))
    assert "first" in screen.type("/go dave", "too early")
    screen.type("/accept", "of course")
    assert screen.texts() == ["of course"]


def test_a_closed_or_stopped_conversation_says_what_to_do(screen: Screen) -> None:
    screen.client.add(replace(BOB, state="closed"))
    assert "/chat bob" in screen.type("/go bob", "hello")
    screen.type("/msg bob hello")
    assert screen.client.calls[0] == commands.OpenDirect("bob", "hello", ask=False)
    screen.client.add(replace(LOBBY, state="stopped"))
    assert "/repair" in screen.type("/go #lobby", "hello")


def test_the_safety_number_is_shown_in_groups(screen: Screen) -> None:
    shown = screen.type("/safety bob")
    assert " ".join(re.findall(r"\b\d{5}\b", shown)) == NUMBER
    assert "/verify bob" in shown


def test_history_shows_the_last_messages(screen: Screen) -> None:
    for number in range(30):
        screen.client.receive(BOB, "bob", f"text {number}")
    screen.settle()
    screen.taken()
    assert screen.type("/go bob", "/history").count("text ") == 20
    assert re.findall("text [0-9]+", screen.type("/history 3")) == ["text 27", "text 28", "text 29"]
    assert "Nothing has been said" in screen.type("/go #lobby", "/history")


def test_go_lists_conversations_with_what_is_new(screen: Screen) -> None:
    screen.type("/go bob")
    screen.client.receive(LOBBY, "carol", "news")
    screen.settle()
    screen.taken()
    shown = screen.type("/go")
    assert "-- /go bob  (here)" in shown
    assert "-- /go #lobby  (1 new)" in shown
    assert "1 new: /history shows the last messages" in screen.type("/go #lobby")
    assert "-- /go #lobby  (here)" in screen.type("/go")


def test_what_is_over_is_listed_last_and_can_be_read(screen: Screen) -> None:
    screen.client.known = {"carol": replace(CAROL, state="closed"), "bob": BOB}
    screen.client.said.append(message(CAROL, "carol", "long ago", local_id=1))
    shown = screen.type("/go").split("\n")
    assert "(over: it can be read)" in shown[-1]
    assert "/go bob" in shown[-2]
    assert "carol is over: what was said there can be read." in screen.type("/go carol")
    assert "long ago" in screen.type("/history")


def test_after_a_first_message_one_is_where_it_was_said(screen: Screen) -> None:
    screen.client.add(replace(CAROL, state="request"))
    screen.client.receive(CAROL, "carol", "May I?")
    screen.settle()
    assert screen.chat.prompt == "> "  # it has to be accepted first
    screen.client.receive(BOB, "bob", "hello")
    screen.client.receive(LOBBY, "carol", "anybody here?")
    screen.settle()
    assert screen.chat.prompt == "[bob] > "
    assert "1 new" not in screen.taken()
    screen.type("hello yourself")
    assert [(each.conversation, each.text) for each in screen.commands() if isinstance(each, commands.Send)] == [
        (BOB.id, "hello yourself")
    ]


def test_in_a_pipe_one_is_where_one_has_gone_and_nowhere_else() -> None:
    piped = Screen(piped=True)
    piped.client.add(BOB)
    piped.client.visits.append((BOB.id, 0))
    piped.chat.take_place()
    piped.client.receive(BOB, "bob", "hello")
    piped.settle()
    piped.chat.mark_shown()
    assert piped.chat.place.name == ""
    assert piped.client.visits == [(BOB.id, 0)]


def test_where_one_is_and_what_was_seen_there_is_kept(screen: Screen) -> None:
    screen.chat.mark_shown()
    assert screen.client.visits == []
    screen.client.receive(BOB, "bob", "one")
    screen.settle()
    screen.chat.mark_shown()
    screen.client.receive(LOBBY, "carol", "two")
    screen.settle()
    screen.chat.mark_shown()
    screen.type("/go #lobby")
    screen.chat.mark_shown()
    screen.chat.mark_shown()
    assert screen.client.visits == [(BOB.id, 1), (BOB.id, 2), (LOBBY.id, 2)]
    again = Screen(start=False)
    again.client.known, again.client.visits = screen.client.known, screen.client.visits
    again.client.said = [message(LOBBY, "carol", f"line {number}", local_id=number) for number in range(1, 16)]
    again.client.shown = 12
    again.chat.listing = Listing(again.client)
    again.chat.take_place()
    assert again.chat.prompt == "[#lobby] > "
    shown = again.taken()
    assert re.findall("line ([0-9]+)", shown) == [str(number) for number in range(6, 13)]
    assert "3 new" in shown
    again.chat.show_unread()
    assert re.findall("line ([0-9]+)", again.taken()) == ["13", "14", "15"]
    screen.type("/leave")
    screen.chat.mark_shown()
    assert screen.client.visits[-1][0] == b""


def test_what_is_marked_as_unread_stays_so_until_one_says_something_there_or_comes_back(screen: Screen) -> None:
    for number in range(1, 5):
        screen.client.receive(BOB, "bob", f"text {number}")
    screen.settle()
    screen.type("/history")
    screen.chat.mark_shown()
    visits = list(screen.client.visits)
    screen.type("/unread 2")
    assert screen.commands()[-1] == commands.MarkUnread(3)
    assert "2 messages in the chat with bob" in screen.tell(Unread(BOB.id, 2, 4))
    assert "/go bob  (2 new)" in screen.type("/go")
    screen.client.receive(BOB, "bob", "text 5")
    screen.settle()
    screen.chat.mark_shown()
    assert "/go bob  (3 new)" in screen.type("/go")
    assert screen.client.visits == visits
    screen.client.shown = 2
    assert "3 new" in screen.type("/go bob")
    history = screen.type("/history").split("\n")
    assert history.index(f"-- {NEW}") == 2
    screen.chat.mark_shown()
    assert screen.client.visits[-1] == (BOB.id, 5)
    screen.type("/unread", "an answer")
    screen.chat.mark_shown()
    assert "/go bob  (here)" in screen.type("/go")
    assert "Type /unread" in screen.type("/unread x")
    assert "Nobody else" in screen.type("/go #lobby", "/unread")


EVENTS: list[tuple[Event, tuple[str, ...]]] = [
    (ContactList("", (Contact("bob", "1a2b", "verified", ("#club", "#tea"), talks=True),), 3),
     ("bob ✓: verified, key 1a2b; you have a private chat; in #club, #tea.", "2 more: /find")),
    (ContactList("c", (Contact("c\x1b[2J", "", "unknown", (), ignored=True),), 1, ("#c\nlub",)),
     ("?: no key accepted yet; ignored in open rooms.", "a room; /go #c")),
    (ContactList("", (Contact("eve", "", "unknown", (), blocked=True),), 1), ("eve ?: no key accepted yet; blocked.",)),
    (ContactList("", (Contact("bob", "1a2b", "verified", (), heard=1_700_049_600_000),), 1),
     ("key 1a2b; last said something on ", "2023")),
    (ContactList("", (), 0), ("no contacts yet",)),
    (ContactList("zoe", (), 0), ("no room with zoe in the name", "/rooms")),
    (Connected("Tea room", "Be kind."), ("Connected to Tea room.", "The server's greeting: Be kind.")),
    (Notice("The tea\nis ready."), ("-- The server's operator says: The tea", "is ready.")),
    (Refused("local", "That is you."), ("!! That is you.",)),
    (Disconnected("The server does not answer.", 2.4), ("The server does not answer.", "/reconnect")),
    (LoggedIn("alice", resumed=True), ("alice",)),
    (SecretReplaced(0), ("!! The secret by which", "another one since some time", "reset-password")),
    (AccountDeleted(wiped=True), ("Your account is deleted", "Your data here goes, too")),
    (AccountDeleted(wiped=False), ("Your data stays on this computer",)),
    (PasswordReplaced(file=True), ("have the new password", "put the new one into it")),
    (
        OwnSessions((SessionShown("1a2b3c4d", "desk", own=True, online=True, address="192.0.2.7", used=0, expires=0),)),
        ("1  device 1a2b3c4d (desk), this one: here from 192.0.2.7",),
    ),
    (
        OwnSessions((
            SessionShown(
                "1a2b3c4d", "", own=False, online=False, address="", used=1_700_000_000_000, expires=1_701_000_000_000
            ),
        )),
        ("device 1a2b3c4d: away, came in ", "it can come back without the password until"),
    ),
    (PasswordWanted("changed", "Wrong."), ("!! The account has another password", "/unlock asks for it", "Wrong.")),
    (PasswordWanted("login", ""), ("!! The last login has expired", "/unlock asks for it.")),
    (PasswordWanted("login", "It cannot be read."), ("The password file does not help: It cannot be read.",)),
    (Waiting(3), ("full", "number 3")),
    (
        OutOfStep(LOBBY.id, "older-copy", 1_700_000_000_000),
        ("data knows, on 1", " Nov 2023, ", "the server says so falsely: /rotate leaves a copy without a key"),
    ),
    (
        OutOfStep(LOBBY.id, "older-copy"),
        ("has said more than your data knows. It", "somebody else has a copy of your data"),
    ),
    (Held(BOB.id, (KeyShown("bob", "1a2b", "changed"),)), ("!! ", "held", "/safety bob", "/verify bob", "/trust bob")),
    (KeyChanged("bob", "1a2b", "changed"), ("!! ", "Another key", "/safety bob", "bob 1a2b")),
    (KeyChanged("bob", "1a2b", "refused"), ("!! ", "that you have refused")),
    (KeyChanged("bob", "1a2b", "changed-verified"), ("!! ", "not the one you had verified")),
    (PresenceChanged(BOB.id, "bob", "online"), ("bob is online",)),
    (PresenceChanged(BOB.id, "bob", "dropped"), ("bob has lost the connection",)),
    (Gap(LOBBY.id, 12), ("!! ", "#lobby", "missing")),
    (Alarm("history", LOBBY.id, "The server shows others another log."), ("!! ALARM in #lobby", "another log")),
    (Stopped(LOBBY.id, "mallory", "bad path"), ("!! ", "#lobby", "made by mallory", "bad path", "without mallory")),
    (Stopped(LOBBY.id, "mallory", "tag", proven=False), ("mallory made it so, or the server altered it.", "/repair")),
    (Stopped(LOBBY.id, "", "no right"), ("the server passed on a change that it had to refuse (no right).",)),
    (RoomList(()), ("/join #lobby",)),
    (RoomList((RoomListed("#lobby", "open", 3, joined=True),)), ("#lobby", "open room", "3 people", "you are in it")),
    (
        MemberList(LOBBY.id, (("alice", True, "verified"), ("bob", False, "changed"))),
        ("In #lobby: alice ✓ (you, online), bob (other key!) (listed)",),
    ),
    (
        MemberList(LOBBY.id, (("bob", True, "verified"), ("carol", False, "verified")), heard=("bob",)),
        ("In #lobby: bob ✓ (heard here since you came, online), carol (listed)",),
    ),
    (
        MemberList(LOBBY.id, (("alice", True, "verified"), ("bob", False, "accepted")), ("bob",)),
        ("In #lobby: alice ✓ (you, online), bob (invited, has not answered)",),
    ),
    (
        MemberList(LOBBY.id, (("alice", True, "verified"), ("bob", True, "accepted")), absent=("bob",), heard=("bob",)),
        ("bob (will not get this: the server says that this device is gone, heard here since you came)",),
    ),
    (
        Invited(CLUB),
        (
            "bob (key 1a2b) invites you to the room #club.", "belongs to bob and lists bob, carol.",
            "keys that you know: carol. Whoever makes a room can list anybody",
            "/accept #club", "/decline #club", "/never bob",
        ),
    ),
    (
        Invited(replace(CLUB, first_contact=True, again=True, role="owner", text="come in")),
        (
            "!! ", "Somebody whom the server calls bob (first contact, key 1a2b)", "the server could be bob",
            'the room #club of bob, saying "come in".', "You were in it before.", "You would be an owner.",
        ),
    ),
    (InvitationEnded(CLUB, "withdrawn"), ("bob has taken back the invitation to #club", "Nothing was read")),
    (InvitationEnded(CLUB, "expired"), ("#club by bob has ended without an answer",)),
    (InvitationDeclined(LOBBY.id, "bob"), ("bob does not want to come to #lobby.",)),
    (
        InviteLineMade(LINE, "securechat1abc"),
        ("come into #staff by this line, until 15 Nov 2023", "-- securechat1abc", "join`", "revoke 1a2b3c4d"),
    ),
    (InviteLines(()), ("no invite line that is still good",)),
    (InviteLines((LINE,)), ("Line 1a2b3c4d to #staff, until 15 Nov 2023: not used yet",)),
    (
        InviteLines((replace(LINE, room="", user="carl", key="1a2b", used=1_699_012_800_000),)),
        ("to nothing but a chat with you", "used by carl (key 1a2b) on 3 Nov 2023"),
    ),
    (InviteLineUsed(BOB.id, "bob", "1a2b", "#staff"), ("key 1a2b is accepted", "bob is being added to #staff")),
    (
        InviteLineRefused(BOB.id, "bob", "1a2b", "#staff", "used", "carl", "3c4d", 1_699_012_800_000),
        ("!! bob (key 1a2b)", "line to #staff", "carl (key 3c4d) has used it on 3 Nov 2023"),
    ),
    (InviteLineRefused(BOB.id, "bob", "1a2b", "", "key"), ("to a chat with you", "not the key of bob that you know")),
    (InviteLineRefused(BOB.id, "bob", "1a2b", "#staff", "no-right"), ("cannot add anybody there any more",)),
    (InviteLineRefused(BOB.id, "bob", "1a2b", "#staff", "barred"), ("bob is barred there",)),
    (InviteLineRefused(BOB.id, "bob", "1a2b", "#staff", "inside"), ("bob is in it already",)),
    (
        AskedByLine("bob", "1a2b", "#staff", 1_700_049_600_000, known=False),
        ("Asked bob to let you into #staff; bob has to be online until 15 Nov 2023", "Key 1a2b of bob is accepted by"),
    ),
    (AskedByLine("bob", "1a2b", "", 1, known=True), ("Asked bob; bob has to be online", "is the one you know")),
    (
        Unreachable(BOB.id, "bob", "1a2b", KeyShown("bob", "3c4d", "changed")),
        ("!! bob will not get what you write", "under key 1a2b, but under 3c4d", "what waits goes to that key"),
    ),
    (Unreachable(BOB.id, "bob", "1a2b"), ("!! bob will not get", "under key 1a2b. It waits here until bob is back.")),
    (
        Unreachable(LOBBY.id, "bob", "1a2b", KeyShown("bob", "3c4d", "changed")),
        ("!! bob does not get what is said in #lobby", "/verify bob 3c4d", "Then /invite bob puts the new key in"),
    ),
    (
        Unreachable(LOBBY.id, "bob", "1a2b", KeyShown("bob", "3c4d", "verified")),
        ("3c4d (verified). /invite bob puts the new key in place of the old.",),
    ),
    (Unreachable(LOBBY.id, "bob", "1a2b"), ("!! bob does not get what is said in #lobby", "under key 1a2b.")),
    (Refused("not-allowed", "You are not an owner."), ("!! The server says: You are not an owner.",)),
]


@pytest.mark.parametrize(("event", "parts"), EVENTS, ids=lambda value: type(value).__name__)
def test_each_event_is_told_in_words(screen: Screen, event: Event, parts: tuple[str, ...]) -> None:
    shown = screen.tell(event)
    for part in parts:
        assert part in shown


@pytest.mark.parametrize(
    ("where", "change", "account", "part"),
    [
        (CAROL, "opened", "", "Your conversation with carol is open"),
        (replace(CAROL, state="requested"), "opened", "", "A private chat with carol begins; carol has yet to agree."),
        (LOBBY, "opened", "", "You have opened the room #lobby"),
        (LOBBY, "joined", "alice", "Earlier messages cannot be read"),
        (LOBBY, "joined", "bob", "bob has entered #lobby"),
        (LOBBY, "new-device", "bob", "bob is in #lobby with a new device"),
        (LOBBY, "new-key", "bob", "bob is in #lobby under another key than before"),
        (LOBBY, "re-entered", "bob", "device of bob has re-entered #lobby"),
        (CAROL, "new-device", "carol", "carol has a new device"),
        (CAROL, "re-entered", "carol", "device of carol has re-entered your conversation"),
        (CAROL, "recovered", "alice", "You can talk with carol from this device"),
        (LOBBY, "recovered", "alice", "You are back in #lobby (3 people)"),
        (CAROL, "request", "carol", "/accept carol"),
        (CAROL, "accepted", "carol", "carol has accepted"),
        (CAROL, "declined", "carol", "carol has declined"),
        (CAROL, "bye", "carol", "/bye ends the chat"),
        (CAROL, "bye", "alice", "ends when carol says it too"),
        (CAROL, "closed", "", "You and carol have both said bye: the chat is over. /chat carol"),
        (CAROL, "leaving", "alice", "You have ended the chat with carol. /chat carol"),
        (CAROL, "not-opened", "", "There is no chat with carol."),
        (CAROL, "given-up", "", "The earlier chat with carol is over"),
        (LOBBY, "leaving", "alice", "You are leaving #lobby"),
        (LOBBY, "not-opened", "", "You have not come into #lobby."),
        (LOBBY, "given-up", "", "The earlier #lobby is over for you"),
        (PRIVATE, "members", "bob", "changed by bob: alice, #private"),
        (LOBBY, "stayed-out", "bob", "bob is not invited to #lobby any more"),
        (LOBBY, "left", "bob", "bob has left #lobby"),
        (LOBBY, "left", "alice", "You have left #lobby"),
        (CAROL, "left", "carol", "carol has left. /chat carol"),
        (replace(PRIVATE, state="closed"), "removed", "bob", "!! You were removed from #private by bob."),
        (PRIVATE, "removed", "bob", "-- bob was removed from #private."),
    ],
)
def test_each_change_of_a_conversation_is_told_in_words(
    screen: Screen, where: Any, change: str, account: str, part: str
) -> None:
    assert part in screen.change(where, change, account)


def test_who_puts_a_new_key_in_place_of_the_old_is_named(screen: Screen) -> None:
    changed = ConversationChanged(LOBBY, "new-key", "bob", "carol")
    assert screen.tell(changed).startswith("-- carol has put the new key of bob in place of the old in #lobby.")
    assert screen.tell(replace(changed, by="alice")).startswith("-- You have put the new key of bob")


def test_the_list_says_who_will_not_get_what_is_said(screen: Screen) -> None:
    screen.client.add(replace(BOB, absent=("bob",)))
    assert "/go bob  (bob will not get this)" in screen.type("/go")
    screen.client.add(BOB)
    assert "will not get" not in screen.type("/go")


def test_the_same_presence_in_several_conversations_is_told_once(screen: Screen) -> None:
    assert screen.tell(PresenceChanged(BOB.id, "bob", "online"))
    assert not screen.tell(PresenceChanged(LOBBY.id, "bob", "online"))
    assert screen.tell(PresenceChanged(LOBBY.id, "bob", "offline")) == "-- bob has gone."


def test_an_outage_is_told_once_for_each_reason_and_stands_before_what_is_typed(screen: Screen) -> None:
    before = screen.chat.prompt
    assert "does not answer" in screen.tell(Disconnected("The server does not answer.", 1))
    assert screen.chat.prompt == f"(no connection) {before}"
    assert not screen.tell(Disconnected("The server does not answer.", 2))
    assert "refused" in screen.tell(Disconnected("Connection refused.", 4))
    assert screen.type("/reconnect") == "-- Trying the server now."
    assert isinstance(screen.client.calls[-1], commands.Reconnect)
    assert "Connected" in screen.tell(Connected("chat", ""))
    assert screen.chat.prompt == before
    assert screen.type("/reconnect") == "-- The server is reached: logging in."
    screen.tell(Ready())
    assert screen.type("/reconnect") == "-- The server is reached: connected."
    assert "refused" in screen.tell(Disconnected("Connection refused.", 1))


def test_a_text_that_the_core_refuses_is_told_and_the_chat_goes_on(screen: Screen) -> None:
    screen.client.answer[commands.Send] = Refused("local", "The text is too long.")
    assert screen.type("/go bob", "hello").endswith("!! The text is too long.")
    screen.client.answer.clear()
    assert "alice: again" in screen.type("again")


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, ExitCode.OK), (RefusedError("login-refused", "Wrong."), ExitCode.LOGIN_REFUSED),
     (UnreachableError("No."), ExitCode.UNREACHABLE), (TrustError("Another server."), ExitCode.UNTRUSTED),
     (RefusedError("busy", "Busy."), ExitCode.FAILURE), (InternalError("Oops."), ExitCode.FAILURE)],
)  # fmt: skip
def test_the_end_of_the_core_becomes_an_exit_code(screen: Screen, error: Exception | None, code: ExitCode) -> None:
    shown = screen.tell(Ended(error))
    assert screen.chat.exit_code == code
    assert shown == ("" if error is None else f"!! {error}")


def test_quit_closes_the_core_once(screen: Screen) -> None:
    screen.type("/quit")
    screen.chat.quit()
    assert screen.client.calls == ["close"]
    assert screen.chat.exit_code == ExitCode.OK


def session(device: str, *, own: bool = False) -> SessionShown:
    return SessionShown(device, "", own=own, online=True, address="192.0.2.7", used=0, expires=0)


def test_a_session_is_ended_by_the_number_under_which_it_was_shown(screen: Screen) -> None:
    screen.tell(OwnSessions((session("1a2b3c4d", own=True), session("5e6f7a8b"))))
    for number in (0, 3):
        assert f"There is no session {number}:" in screen.type(f"/sessions end {number}")
    assert "/logout ends it" in screen.type("/sessions end 1")
    assert screen.client.calls == []
    screen.type("/sessions end 2")
    assert screen.client.calls == [commands.EndSession("5e6f7a8b")]
    screen.tell(OwnSessions((session("9c0d1e2f"), session("5e6f7a8b"))))  # listed again, a number is another one's
    screen.type("/sessions end 1")
    assert screen.client.calls[1:] == [commands.EndSession("9c0d1e2f")]


def test_a_logout_ends_the_program_once_the_server_has_done_it() -> None:
    screen = Screen(online=False)
    screen.tell(OwnSessions((session("1a2b3c4d", own=True), session("5e6f7a8b"))))
    screen.type("/sessions end 2", "/logout")
    another, logout = screen.commands()
    assert (another, logout) == (commands.EndSession("5e6f7a8b"), commands.EndSession(""))
    screen.tell(Done(command=another.id))  # the twin: nobody leaves for the end of another session
    assert "close" not in screen.client.calls
    screen.tell(Done(command=logout.id))
    assert screen.client.calls[-1] == "close"
    assert screen.chat.exit_code == ExitCode.OK


def test_a_logout_that_the_server_refuses_ends_nothing() -> None:
    screen = Screen(online=False)
    screen.type("/logout")
    (logout,) = screen.commands()
    assert "Later." in screen.tell(Refused("slow-down", "Later.", command=logout.id))
    assert "close" not in screen.client.calls


def test_passwords_that_were_typed_reach_the_core_and_are_shown_nowhere(screen: Screen) -> None:
    screen.chat.change_password("the old one", "the new one")
    screen.chat.delete_account("alice", "the old one")
    screen.chat.delete_account("alice wipe", "the old one")
    assert screen.client.calls == [
        commands.ChangePassword("the old one", "the new one"),
        commands.DeleteAccount("alice", "the old one"),
        commands.DeleteAccount("alice", "the old one", wipe=True),
    ]
    assert "one" not in screen.taken()


def test_a_word_behind_the_name_that_is_not_wipe_deletes_nothing(screen: Screen) -> None:
    screen.chat.delete_account("alice wipe it", "the old one")
    shown = screen.taken()
    assert "Type /delete-account alice, or /delete-account alice wipe." in shown
    assert screen.client.calls == []


def test_a_deleted_account_ends_the_program(screen: Screen) -> None:
    screen.tell(AccountDeleted(wiped=False))
    assert screen.client.calls == ["close"]
    assert screen.chat.exit_code == ExitCode.OK


def test_in_a_pipe_lines_wait_for_the_login_and_are_done_in_order() -> None:
    screen = Screen(piped=True, online=False, start=False)
    screen.client.add(BOB)
    screen.type("/go bob", "one", "two")
    assert screen.client.calls == []
    assert not screen.idle()
    screen.tell(Connected("s", ""))
    screen.tell(Ready())
    assert screen.texts() == ["one", "two"]
    assert not screen.idle()  # the server has not accepted them yet


def test_a_pipe_without_a_connection_shows_what_is_there_keeps_what_is_said_and_says_so_in_the_end() -> None:
    screen = Screen(piped=True, online=False, start=False)
    screen.client.add(BOB)
    screen.client.said.append(message(BOB, "bob", "what was said"))
    screen.type("/go bob", "/history", "one")
    assert not screen.idle()  # it may come about yet
    shown = screen.tell(Disconnected("Connection refused.", 1))
    assert "bob: what was said" in shown
    assert screen.texts() == ["one"]
    screen.type("two")
    assert screen.texts() == ["one", "two"]
    screen.type("/msg dave Hello!", "How are you?")
    assert screen.idle()
    screen.chat.quit()
    screen.settle()
    shown = screen.taken()
    assert "!! There is no connection: what you said is kept" in shown
    assert "!! This was not said or done: How are you?" in shown
    assert screen.chat.exit_code == ExitCode.UNREACHABLE


def test_a_pipe_that_gets_its_connection_later_ends_as_if_it_had_been_there() -> None:
    screen = Screen(piped=True, online=False, start=False)
    screen.client.add(BOB)
    screen.tell(Disconnected("Connection refused.", 1))
    screen.type("/go bob")
    screen.tell(Connected("s", ""))
    screen.type("one")
    assert screen.texts() == []  # as ever, until one is in
    screen.tell(Ready())
    assert screen.texts() == ["one"]
    screen.client.online = True
    screen.tell(Disconnected("gone", 1))  # which is an outage like others
    assert not screen.idle()
    screen.tell(Ended(None))
    assert screen.chat.exit_code == ExitCode.OK


@pytest.mark.parametrize(
    ("refused", "code"),
    [(None, ExitCode.OK), (Refused("local", "no"), ExitCode.FAILURE), (Refused("quota", "no"), ExitCode.FULL)],
    ids=["done", "local", "quota"],
)
def test_a_pipe_in_which_something_was_refused_ends_with_the_first_such_code(
    refused: Refused | None, code: ExitCode
) -> None:
    screen = Screen(piped=True)
    screen.client.add(BOB)
    if refused is not None:
        screen.client.answer[commands.Send] = refused
    screen.type("/go bob", "one")
    screen.client.answer.clear()
    screen.type("two")
    if code != ExitCode.OK:
        screen.type("/frobnicate")
    screen.tell(Ended(None))
    assert screen.chat.exit_code == code


def test_in_a_pipe_nobody_is_there_to_type_the_password() -> None:
    screen = Screen(piped=True)
    screen.tell(PasswordWanted("login", ""))
    assert screen.chat.exit_code == ExitCode.LOGIN_REFUSED
    at_terminal = Screen()
    at_terminal.tell(PasswordWanted("login", ""))
    assert at_terminal.chat.exit_code is None
    at_terminal.type("/unlock correct horse")  # the line is shown and kept: no place for a password
    assert not any(isinstance(call, commands.Unlock) for call in at_terminal.client.calls)


def test_in_a_pipe_a_held_message_ends_the_client_as_a_matter_of_trust() -> None:
    screen = Screen(piped=True, online=False, start=False)
    screen.client.add(BOB)
    screen.tell(Ready())
    screen.type("/msg bob hello")
    assert not screen.idle()
    screen.tell(Held(BOB.id, (KeyShown("bob", "1a2b", "changed"),)))
    assert screen.idle()
    screen.chat.quit()
    screen.settle()
    assert screen.chat.exit_code == ExitCode.UNTRUSTED


def test_in_a_pipe_a_text_to_somebody_whose_device_is_gone_ends_with_what_to_do() -> None:
    screen = Screen(piped=True, online=False, start=False)
    screen.client.add(BOB)
    screen.tell(Ready())
    gone = Unreachable(BOB.id, "bob", "1a2b", KeyShown("bob", "3c4d", "changed"))
    screen.tell(gone)  # news, about no text of ours
    screen.type("/msg bob hello")
    assert not screen.idle()
    screen.tell(replace(gone, command=screen.commands()[-1].id))
    assert screen.idle()
    screen.chat.quit()
    screen.settle()
    assert screen.chat.exit_code == ExitCode.UNTRUSTED


def test_an_own_message_that_was_not_sent_says_why_and_is_waited_for_no_longer() -> None:
    screen = Screen(online=False, start=False)
    screen.client.add(BOB)
    screen.tell(Ready())
    screen.type("/msg bob hello")
    assert not screen.idle()
    lost = replace(screen.client.said[-1], problem="This message was not sent: the log is full.", trust="verified")
    told = screen.tell(Refused("reader-full", "The log is full.", lost, command=screen.commands()[-1].id))
    assert re.fullmatch(r"\S+ \[bob\] alice: hello \(This message was not sent: the log is full\.\)", told)
    assert screen.idle()


def test_a_chat_is_idle_when_every_command_has_been_answered() -> None:
    screen = Screen(online=False, start=False)
    for where in (LOBBY, BOB, PRIVATE):
        screen.client.add(where)
    screen.tell(Ready())
    screen.type("/go #private")
    lines = ("/rooms", "/who", "/bye bob", "/invite zoe", "/repair", "/join #other", "/leave #lobby", "hello")
    for number, line in enumerate(lines):
        assert screen.idle()
        screen.type(line)
        assert not screen.idle()
        screen.tell(Done(command=screen.commands()[-1].id + 1_000_000))  # of another
        assert not screen.idle()
        command = screen.commands()[-1].id
        screen.tell(Refused("not-found", "No.", command=command) if number % 2 else Done(command=command))
        if line.startswith("/join"):
            screen.type("/go #private")
    assert screen.idle()


def test_a_refusal_of_one_command_does_not_end_the_wait_for_another() -> None:
    screen = Screen(online=False, start=False)
    screen.client.add(BOB)
    screen.tell(Ready())
    screen.type("/rooms", "/join #lobby", "for the lobby")
    other = screen.commands()[0]
    screen.tell(Refused("busy", "Not now.", command=other.id))
    assert screen.chat.prompt == "[#lobby] > "


def test_what_came_in_while_nobody_was_looking_is_shown_first_and_once(screen: Screen) -> None:
    screen.client.receive(BOB, "bob", "one")
    screen.client.receive(BOB, "bob", "two")
    screen.pending.clear()  # another program of this account received them
    screen.chat.show_unread()
    assert re.findall("bob: (.*)", screen.taken()) == ["one", "two"]
    assert screen.client.shown == 2
    screen.client.receive(BOB, "bob", "three")
    screen.settle()
    assert screen.client.shown == 2
    screen.chat.mark_shown()
    assert screen.client.unread(0, 10) == []


# --- what became of it


def own_line(text: str, **changes: object) -> Message:
    given: dict[str, object] = {"local_id": 1, "seq": 9, "time": 1_700_000_000_000, **changes}
    return Message(conversation=BOB.id, sender="alice", own=True, text=text, **given)  # type: ignore[arg-type]  # test data


def test_a_line_without_a_connection_looks_as_if_it_waits_and_it_is_told_when_it_went_out() -> None:
    screen = Screen(online=False)
    screen.client.add(BOB)
    screen.type("/go bob")
    assert re.fullmatch(r"\d\d:\d\d \[bob\] alice: hello \(waiting\)", screen.type("hello"))
    assert screen.chat.status == "waiting"
    screen.tell(Ready())
    sent = own_line("hello")
    screen.client.said[0] = sent
    assert re.fullmatch(r"-- Sent in the chat with bob at \d\d:\d\d: hello", screen.tell(Delivered(sent, command=1)))
    assert screen.chat.status == ""
    screen.tell(Disconnected("The server has gone.", 1.0))
    assert screen.type("and now?").endswith("and now? (waiting)")


def test_a_line_that_waits_for_a_decision_is_told_once_it_is_sent(screen: Screen) -> None:
    screen.client.online = False
    screen.client.add(BOB)
    assert screen.type("/go bob", "hello").endswith("alice: hello")
    sending = screen.client.calls[-1]
    assert isinstance(sending, commands.Send)
    held = Held(BOB.id, (KeyShown("bob", "1a2b", "changed"),), command=sending.id)
    assert "hello" not in screen.tell(held)
    assert screen.tell(Delivered(own_line("hello"), command=sending.id)).startswith("-- Sent in the chat with bob at ")


def test_the_status_says_what_became_of_the_newest_line_here(screen: Screen) -> None:
    screen.client.add(BOB)
    screen.type("/go bob", "hello")
    for changes, status in (
        ({"recipients": 1}, ""),
        ({"recipients": 1, "delivered": 1}, "delivered"),
        ({"recipients": 1, "delivered": 1, "read": 1}, "read"),
    ):
        screen.client.said[0] = own_line("hello", **changes)
        assert screen.tell(Marked(BOB.id, "bob", 9, 9)) == ""
        assert screen.chat.status == status
    assert screen.type("/history").endswith("alice: hello (read)")
    screen.client.add(replace(BOB, preferences=(("show-marks", "off"),)))
    assert screen.type("/history").endswith("alice: hello (sent)")
    assert screen.chat.status == ""


def test_marks_are_switched_for_all_or_here(screen: Screen) -> None:
    screen.client.add(BOB)
    screen.type("/go bob")
    assert screen.type("/marks") == (
        "-- Others learn what you have received and read in the chat with bob.\n"
        "-- You see what others have received and read in the chat with bob."
    )
    screen.type("/marks send off", "/marks show off here")
    assert screen.client.calls[-2:] == [
        commands.Prefer("send-marks", "off"), commands.Prefer("show-marks", "off", BOB.id),
    ]  # fmt: skip
    assert screen.tell(PreferenceChanged("send-marks", "off", b"")).startswith("-- Nobody learns what you have")
    assert screen.tell(PreferenceChanged("show-marks", "", BOB.id)) == (
        "-- In the chat with bob, what you have said for all conversations counts."
    )
    for wrong in ("/marks send", "/marks send maybe", "/marks read off", "/marks send off there"):
        assert screen.type(wrong).startswith("!! Type /marks send|show on|off")
    assert screen.type("/presence") == "-- You are told who comes and goes in the chat with bob."
    screen.type("/presence show off")
    assert screen.client.calls[-1] == commands.Prefer("presence", "off")


def test_notices_are_chosen_for_all_or_here(screen: Screen) -> None:
    screen.client.add(BOB)
    screen.type("/go bob")
    assert screen.type("/notify").split("\n") == [
        f"-- {each} in the chat with bob."
        for each in (
            "A notice says who has written", "A notice comes of every message", "A notice is the bell of the terminal",
            "Notices come at any hour",
        )
    ]  # fmt: skip
    screen.type("/notify text", "/notify mentions here", "/notify desktop", "/notify quiet 22:00-07:00")
    screen.type("/mute", "/unmute")
    assert screen.client.calls[-6:] == [
        commands.Prefer("notify", "text"), commands.Prefer("notify-of", "mentions", BOB.id),
        commands.Prefer("notify-by", "desktop"), commands.Prefer("quiet", "22:00-07:00"),
        commands.Prefer("notify", "none", BOB.id), commands.Prefer("notify", "", BOB.id),
    ]  # fmt: skip
    night = screen.tell(PreferenceChanged("quiet", "22:00-07:00", b""))
    assert night.startswith("-- No notice comes at 22:00 to 07:00, in all")
    for wrong in ("/notify loudly", "/notify quiet", "/notify quiet night", "/notify here", "/notify text there"):
        assert screen.type(wrong).startswith("!! Type /notify sender|text|new|none|all|mentions|bell|")
def test_help_tells_of_one_command(screen: Screen) -> None:
    for line in ("/help react", "/help /react", "/HELP REACT"):
        assert screen.type(line).startswith("-- /react [N] EMOJI  put an emoji under the newest message; once more")


@pytest.mark.parametrize(
    ("word", "command"), [("exit", "/quit"), ("Quit", "/quit"), (":q", "/quit"), ("help", "/help")]
)
def test_what_is_a_command_elsewhere_is_asked_about_before_people_get_it(
    screen: Screen, word: str, command: str
) -> None:
    screen.type("/go #lobby")
    shown = screen.type(word)
    assert f"type {command}. Enter alone says this to #lobby: {word}" in shown
    assert screen.client.calls == []
    screen.type("no, that was for you", "")
    assert screen.client.calls == [commands.Send(LOBBY.id, "no, that was for you")]  # another line takes it back
    screen.type(word, "", "")
    assert screen.client.calls[1:] == [commands.Send(LOBBY.id, word)]  # once
    screen.type(f"{word} is a word")
    assert screen.client.calls[2:] == [commands.Send(LOBBY.id, f"{word} is a word")]  # the twin


def test_in_a_pipe_nobody_is_asked_about_a_word() -> None:
    screen = Screen(piped=True)
    screen.client.add(LOBBY)
    screen.type("/go #lobby", "exit")
    assert screen.client.calls == [commands.Send(LOBBY.id, "exit")]


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x16", "\x1b", "\x7f", "\x9b"])
def test_a_control_character_is_sent_to_nobody(screen: Screen, character: str) -> None:
    screen.type("/go #lobby")
    shown = screen.type(f"a{character}b")
    assert f"(U+{ord(character):04X}): nothing was done" in shown
    assert character not in shown
    assert screen.client.calls == []
    screen.type("a\tb\nc")
    assert screen.client.calls == [commands.Send(LOBBY.id, "a\tb\nc")]  # the twin


def test_who_let_somebody_in_and_who_removed_them_is_told(screen: Screen) -> None:
    for by, came, whose in (
        ("carol", "is invited to", " (by carol)"), ("alice", "is invited to", " (by you)"), ("", "has entered", "")
    ):  # fmt: skip
        shown = screen.tell(ConversationChanged(PRIVATE, "joined", "bob", by))
        assert shown == f"-- bob {came} #private{whose}."
        shown = screen.tell(ConversationChanged(PRIVATE, "removed", "bob", by))
        assert shown == f"-- bob was removed from #private{whose}."
    assert screen.tell(ConversationChanged(PRIVATE, "entered", "bob")) == "-- bob has entered #private."


def test_one_stays_where_leaving_is_refused(screen: Screen) -> None:
    screen.type("/go #lobby")
    screen.client.answer[commands.Leave] = Refused("local", "You are the only owner of #lobby: name another one first.")
    assert "name another one first" in screen.type("/leave")
    screen.type("still here")
    assert screen.client.calls[-1] == commands.Send(LOBBY.id, "still here")
    del screen.client.answer[commands.Leave]
    screen.type("/leave")
    assert screen.chat.prompt == "> "  # the twin
def test_somebody_is_blocked_and_those_who_are_are_listed(screen: Screen) -> None:
    assert screen.type("/block") == "-- You block nobody. /block USER hears nothing more of one."
    screen.type("/block Mallory", "/unblock mallory")
    assert screen.client.calls[-2:] == [commands.Block("mallory"), commands.Unblock("mallory")]
    screen.client.blocks = ("eve", "mallory")
    assert screen.type("/block") == "-- Blocked: eve, mallory"
    assert "/unblock mallory" in screen.tell(Blocked("mallory", blocked=True))
    assert screen.tell(Blocked("mallory", blocked=False)) == "-- mallory is heard again."


def test_whoever_is_new_asks_in_one_line(screen: Screen) -> None:
    asking = replace(conversation("zoe", state="request"), trust=("verified", "unknown"))
    assert screen.change(asking, "request", "zoe") == (
        "-- zoe, of whom you hear for the first time (/safety zoe shows who it is), asks to chat with you: "
        "/accept zoe or /decline zoe."
    )
    line = screen.tell(Invited(replace(CLUB, first_contact=True, text="come\nover")))
    assert "\n" not in line
    for word in ("first contact, key 1a2b", "the server could be bob", "/accept #club", "/decline #club", "/block bob"):
        assert word in line


def test_a_flood_of_changes_by_one_person_is_a_few_lines_and_how_many_more(screen: Screen) -> None:
    now = [0.0]
    screen.chat._flood = Flood(lambda: now[0])
    own = replace(message(LOBBY, "alice", "see this"), own=True)
    for number in range(1000):
        screen.tell(Reacted(own, "bob", "👍", "add" if number % 2 == 0 else "remove"))
    screen.lines.clear()
    now[0] += WITHIN_SECONDS
    screen.chat.tell_folded()
    assert screen.taken() == "-- bob has changed 995 more things in #lobby: /history shows what is there."
    for _ in range(10):  # the twin: what one does oneself
        assert "In #lobby, you put 👍" in screen.tell(Reacted(own, "alice", "👍", "add"))
    told = [screen.tell(Edited(message(LOBBY, "bob", f"text {number}"), "before")) for number in range(10)]
    assert sum(map(bool, told)) == AT_ONCE


MARKS = (
    "\x00", "\x1b[2J", "\r", "\n", "\t", " ", "\u202e", "\u200b", "\u2066", "\ufeff", "\ud800", "\u0301" * 64,
    "\U000e0041", "\uffff", "\u2028", "/", "../", "%s", "{0}", "'; DROP TABLE messages; --", "\\", "|", "`id`", "$(id)",
    "~",
)  # fmt: skip
"""What programs have fallen over in names."""

PLACES = ("*", "a*", "*a", "a*b", "#*", "#a*", "@*", "*" * 50)


def test_two_hundred_hostile_names_are_each_a_sentence_or_a_name_that_the_core_is_asked_for(screen: Screen) -> None:
    names = [place.replace("*", mark) for mark in MARKS for place in PLACES]
    assert len(names) == 200
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    for name in [*names, "x" * 1_000_000]:
        for line in ("/msg * hi", "/join *", "/invite *", "/verify *", "/go *", "/find *"):
            screen.client.calls.clear()
            shown = screen.type(line.replace("*", name))
            assert shown or screen.client.calls, ascii(name[:40])
            for row in shown.splitlines():
                ours = row.startswith(("-- ", "!! ", CONTINUATION)) or re.match(r"\d\d:\d\d ", row)
                assert ours, ascii(row[:80])
                assert not [each for each in row if unicodedata.category(each) in hidden], ascii(row[:80])
