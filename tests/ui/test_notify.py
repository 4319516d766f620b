"""Notices beside the screen: of what, how much they say, when none comes; and nothing that others wrote gets out."""

import sys
from dataclasses import replace
from datetime import datetime, time
from queue import SimpleQueue
from types import ModuleType

import pytest

from securechat.client.events import ConversationChanged, Event, Invited, Ready, Received
from securechat.client.preferences import PREFERENCES, can_be
from securechat.client.snapshot import ConversationSnapshot, Invitation
from securechat.ui.ring import PERIOD_SECONDS, Ring, sequence
from securechat.ui.session.chat import AT_THE_KEYBOARD, Chat
from securechat.ui.view.notify import MAX_TEXT, NEW, Notification, is_quiet, notification
from tests.support.scripted import ScriptedClient, conversation, message

BOB = conversation("bob")
CLUB = conversation("#club", "invite", members=("alice", "bob", "carol"))
NOON = datetime(2026, 3, 1, 12, 0).astimezone()
INVITED = Invitation(
    b"d" * 32, "#den", "bob", "1a2b" * 16, first_contact=False, again=False, role="member", owners=("bob",),
    members=("bob",), known=(), text="",
)  # fmt: skip


def here(where: ConversationSnapshot, **preferences: str) -> ConversationSnapshot:
    return replace(where, preferences=tuple((name.replace("_", "-"), value) for name, value in preferences.items()))


def said(where: ConversationSnapshot, text: str = "come at six", sender: str = "bob", **others: object) -> Event:
    return Received(message(where, sender, text, **others))


def told(
    event: Event, where: ConversationSnapshot | None, now: datetime = NOON, **elsewhere: str
) -> Notification | None:
    return notification(event, where, "alice", now, lambda name: elsewhere.get(name, PREFERENCES[name][0]))


def test_a_notice_says_as_much_as_is_preferred() -> None:
    event = said(BOB)
    assert told(event, BOB) == Notification("bob", "has written")
    assert told(event, here(BOB, notify="text")) == Notification("bob", "come at six")
    assert told(event, here(BOB, notify="new")) == NEW
    assert told(event, here(BOB, notify="none")) is None
    assert told(said(CLUB), CLUB) == Notification("bob in #club", "has written in #club")
    assert told(said(CLUB, "look, @Alice"), CLUB) == Notification("bob in #club", "has mentioned you in #club")


def test_of_mentions_alone_in_rooms_and_of_all_in_private() -> None:
    assert told(said(CLUB), here(CLUB, notify_of="mentions")) is None
    assert told(said(CLUB, "@alice!"), here(CLUB, notify_of="mentions")) is not None
    assert told(said(BOB), here(BOB, notify_of="mentions")) is not None


def test_who_asks_or_invites_is_told_once_and_nothing_of_what_they_say() -> None:
    asking = replace(BOB, state="request")
    request = ConversationChanged(asking, "request", "bob")
    assert told(request, here(asking, notify="text")) == Notification("bob", "asks to chat with you")
    entered = replace(request, account="alice")  # we are in it now, which is how the core tells a stranger's request
    assert told(entered, asking) == Notification("bob", "asks to chat with you")
    assert told(said(asking, "buy this"), here(asking, notify="text")) is None
    assert told(Invited(INVITED), BOB) == Notification("bob", "invites you")
    assert told(ConversationChanged(BOB, "renamed"), BOB) is None


def test_where_there_is_no_conversation_yet_what_is_preferred_in_all_counts() -> None:
    event = Invited(INVITED)
    assert told(event, None) == Notification("bob", "invites you")
    assert told(event, None, notify="text") == Notification("bob", "invites you to #den")
    assert told(event, None, notify="new") == NEW
    assert told(event, None, notify="none") is None
    assert told(event, None, quiet="11:00-13:00") is None
    assert told(event, None, NOON.replace(hour=14), quiet="11:00-13:00") is not None


@pytest.mark.parametrize(
    ("hours", "quiet", "loud"),
    [("22:00-07:00", ["22:00", "23:59", "00:00", "06:59"], ["07:00", "12:00", "21:59"]),
     ("12:00-13:30", ["12:00", "13:29"], ["11:59", "13:30", "00:00"]),
     ("08:00-08:00", [], ["08:00", "20:00"]),
     ("off", [], ["00:00", "12:00"])],
    ids=["over midnight", "at noon", "never", "off"],
)  # fmt: skip
def test_in_quiet_hours_none_comes(hours: str, quiet: list[str], loud: list[str]) -> None:
    assert [is_quiet(hours, time.fromisoformat(each)) for each in quiet] == [True] * len(quiet)
    assert [is_quiet(hours, time.fromisoformat(each)) for each in loud] == [False] * len(loud)


def test_quiet_hours_hold_back_what_would_be_told() -> None:
    event, where = said(BOB), here(BOB, quiet="11:00-13:00")
    assert told(event, where) is None
    assert told(event, where, NOON.replace(hour=14)) is not None


@pytest.mark.parametrize("value", ["24:00-07:00", "22:60-07:00", "22-07", "22:00-07:00 ", "22:00-07:00\n", "loud", ""])
def test_what_is_no_time_cannot_be_quiet(value: str) -> None:
    assert not can_be("quiet", value)
    assert can_be("quiet", "22:00-07:00")
    assert can_be("quiet", "off")
    assert not can_be("volume", "off")
    assert all(can_be(name, value) for name, values in PREFERENCES.items() for value in values)


HOSTILE = "\x1b]0;owned\x07\x1b[2J;\x9d9;x\x9c\u202eevil\u2066\r\nline\x00\x7f" + "x" * 10_000


def test_what_others_have_chosen_is_one_short_clean_line() -> None:
    for event, where in (
        (said(BOB, HOSTILE), here(BOB, notify="text")),
        (said(CLUB, "hi", HOSTILE), here(CLUB, notify="sender")),
        (Invited(replace(INVITED, inviter=HOSTILE, name=HOSTILE)), here(BOB, notify="text")),
    ):
        notice = told(event, where)
        assert notice is not None
        for environment in ({}, {"VTE_VERSION": "7600"}, {"TERM": "foot"}):
            shown = sequence(notice, environment)
            body = shown.removeprefix("\x1b]").removesuffix("\a\a")
            assert all(each.isprintable() for each in body)
            assert body.count(";") == (3 if body.startswith("777") else 1)  # and nothing of theirs among them
        assert max(len(notice.title), len(notice.text)) <= MAX_TEXT


def test_a_thousand_lines_ring_once() -> None:
    now, rung = [0.0], list[str]()
    ring = Ring(rung.append, lambda: now[0])
    for _ in range(1000):
        ring.ring(NEW, "bell")
    assert rung == ["\a"]
    now[0] += PERIOD_SECONDS
    ring.ring(Notification("bob", "hi"), "terminal")
    assert rung[1] == sequence(Notification("bob", "hi"))


def test_the_desktop_is_asked_where_it_can_be_and_else_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "desktop_notifier.sync", None)  # not installed
    rung: list[str] = []
    Ring(rung.append).ring(NEW, "desktop")
    assert rung == [sequence(NEW)]

    shown: SimpleQueue[tuple[str, str]] = SimpleQueue()

    class Desktop:
        def __init__(self, app_name: str) -> None:
            assert app_name == "securechat"

        def send(self, *, title: str, message: str) -> None:
            shown.put((title, message))
            if title == "no":
                raise OSError("the bus has gone")

    module = ModuleType("desktop_notifier.sync")
    module.DesktopNotifierSync = Desktop  # type: ignore[attr-defined]  # stands for the real one
    monkeypatch.setitem(sys.modules, "desktop_notifier.sync", module)
    now = [0.0]
    ring = Ring(rung.append, lambda: now[0])
    ring.ring(Notification("bob", "hi <a href='http://x'>&lt;"), "desktop")
    said = shown.get(timeout=60)
    assert said[0] == "bob"
    assert not {"<", ">", "&"} & set(said[1])  # which would be markup to a desktop
    now[0] += PERIOD_SECONDS
    ring.ring(Notification("no", "desktop"), "desktop")
    assert shown.get(timeout=60) == ("no", "desktop")
    assert len(rung) == 1


class Heard:
    """A chat at a terminal, and what has rung."""

    def __init__(self) -> None:
        self.rung: list[str] = []
        self.client = ScriptedClient(lambda _: None)
        self.now = 0.0
        ring = Ring(self.rung.append, self.later)
        self.chat = Chat(self.client, lambda _: None, piped=False, ring=ring)

    def later(self) -> float:
        self.now += PERIOD_SECONDS
        return self.now


def test_nothing_rings_before_all_that_was_missed_is_there_nor_while_one_types_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = Heard()
    heard.client.add(BOB)
    heard.client.add(CLUB)
    heard.chat.event(said(BOB))
    assert heard.rung == []
    heard.chat.event(Ready())
    heard.chat.event(said(BOB))
    assert heard.rung == ["\a"]
    heard.chat.line("/go bob")
    heard.chat.event(said(BOB))
    assert heard.rung == ["\a"]
    heard.chat.event(said(CLUB))
    assert heard.rung == ["\a"] * 2
    monkeypatch.setattr("securechat.ui.session.chat.monotonic", lambda: heard.chat._typed + AT_THE_KEYBOARD)
    heard.chat.event(said(BOB))
    assert heard.rung == ["\a"] * 3
    heard.client.add(here(BOB, notify="none"))
    heard.chat.event(said(BOB))
    assert heard.rung == ["\a"] * 3
