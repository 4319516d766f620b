"""Every power by `securechat rpc` and by the plain client: what everybody has in the end is the same."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from securechat.client import commands
from securechat.client.commands import Command
from securechat.client.events import (
    AccountDeleted,
    ContactList,
    Devices,
    Done,
    Event,
    FileSaved,
    IdentitySucceeded,
    InviteLineMade,
    InviteLines,
    KeyAccepted,
    KeyRefused,
    LinkChanged,
    MemberList,
    OwnSessions,
    PasswordReplaced,
    RoomList,
    SafetyNumber,
)
from securechat.ui.session.verbs import VERBS
from tests.stories.faces import ANOTHER, LINES, PASSWORD, Act, AtTerminal, Cast, OverRpc, Seat, all_of, different
from tests.support.sounds import speech, wav

Until = Callable[[Cast], bool]


def sees(*names: str, of: str, text: str, **having: object) -> Until:
    """Each of these has a line with a text under a name, and it is so."""

    def seen(cast: Cast) -> bool:
        for each in names:
            line = cast[each].line(of, text)
            if line is None or not line.seq or any(getattr(line, name) != it for name, it in having.items()):
                return False
        return True

    return seen


def asked(who: str, by: str, text: str) -> Until:
    """Somebody wants to talk in private, and has said something: it keeps how their key stood when it came."""
    seen = sees(who, of=by, text=text)
    return lambda cast: cast[who].state(by) == "request" and seen(cast)


def is_in(name: str, *who: str, members: tuple[str, ...]) -> Until:
    """Each of these has a room with just these members."""
    return lambda cast: all(
        cast[each].state(name) == "open" and cast[each].find(name).members == members for each in who
    )


def told(who: str, kind: type[Event], *texts: str) -> Until:
    """Somebody's core has told of something."""
    return lambda cast: any(all(text in str(each) for text in texts) for each in cast[who].heard(kind))


def here(name: str, command: Callable[..., Command], *rest: object, **more: object) -> Callable[[Seat], Command]:
    """A command about a conversation."""
    return lambda seat: command(seat.find(name).id, *rest, **more)


def about(
    name: str, text: str, command: Callable[..., Command], *rest: object, **more: object
) -> Callable[[Seat], Command]:
    """A command about a line."""

    def made(seat: Seat) -> Command:
        line = seat.line(name, text)
        assert line is not None
        return command(line.local_id, *rest, **more)

    return made


def just(command: Command) -> Callable[[Seat], Command]:
    """A command about nothing that is there."""
    return lambda _: command


def invited(room: str, command: Callable[..., Command]) -> Callable[[Seat], Command]:
    """An answer to an invitation."""

    def made(seat: Seat) -> Command:
        found = next(each for each in seat.door.invitations() if each.name == room)
        return command(found.conversation, found.question)

    return made


def both(name: str, state: str = "open") -> Until:
    """Two who talk in private are in the same state."""
    one, other = name.split()
    return lambda cast: cast[one].state(other) == cast[other].state(one) == state


def _read(who: str, name: str) -> Until:
    """All that somebody has said there was read by all."""
    return lambda cast: all(
        each.read == each.recipients for each in cast[who].door.history(cast[who].find(name).id, LINES) if each.own
    )


def look(who: str, name: str, until: Until = lambda _: True) -> Act:
    """Somebody looks at what was said there."""
    return Act(who, "/history 1", read=("past", {"name": name, "limit": 1}), until=until, where=name)


def talk() -> list[Act]:
    a = partial(Act, "alice")
    b = partial(Act, "bob")
    late = "Shall we meet at half past six?"
    return [
        a("/msg bob Shall we meet at six?", just(commands.OpenDirect("bob", "Shall we meet at six?", ask=False)),
          asked("bob", "alice", "at six")),
        b("/accept alice", here("alice", commands.Accept), both("alice bob")),
        b("/reply At seven.", about("alice", "six", commands.Reply, "At seven."),
          sees("alice", of="bob", text="At seven."), where="alice"),
        a(f"/edit {late}", about("bob", "at six", commands.Edit, late),
          lambda cast: sees("bob", of="alice", text="half past")(cast), where="bob"),
        b("/react 👍", about("alice", "half past", commands.React, "👍"),
          lambda cast: len((cast["alice"].line("bob", "half past") or _none()).reactions) == 1, where="alice"),
        a("/react yes", about("bob", "At seven", commands.React, "yes"),
          lambda cast: len((cast["bob"].line("alice", "At seven") or _none()).reactions) == 1, where="bob"),
        a("/react yes", about("bob", "At seven", commands.React, "yes", remove=True),
          lambda cast: not (cast["bob"].line("alice", "At seven") or _none()).reactions, where="bob"),
        b("/me waves", here("alice", commands.Act, "waves"), sees("alice", of="bob", text="waves"), where="alice"),
        b("I have the key 12345", here("alice", commands.Send, "I have the key 12345"),
          sees("alice", of="bob", text="12345"), where="alice"),
        b("/delete", about("alice", "12345", commands.Delete),
          lambda cast: cast["alice"].line("bob", "12345") is None, where="alice"),
        a("and @bob, bring cake", here("bob", commands.Send, "and @bob, bring cake"),
          sees("bob", of="alice", text="cake"), where="bob"),
        a("/life 1h", here("bob", commands.SetLife, 3600),
          lambda cast: cast["bob"].find("alice").life == 3600, where="bob"),
        b("/life off", here("alice", commands.SetLife, 0),
          lambda cast: cast["alice"].find("bob").life == 0, where="alice"),
        a("/search cake from:me", read=("search", {"query": {"words": ["cake"], "sender": "alice"}, "limit": 10}),
          shows=("bring cake",)),
        a("/history 3", read=("past", {"name": "bob", "limit": 3}), shows=("bring cake",), where="bob"),
        # What was said before somebody has said bye stands under the same name.
        Act("carol", "/msg bob One", just(commands.OpenDirect("bob", "One", ask=False)),
            asked("bob", "carol", "One")),
        b("/accept carol", here("carol", commands.Accept), both("bob carol")),
        look("bob", "carol", _read("carol", "bob")),
        Act("carol", "/bye bob", here("bob", commands.Bye), lambda cast: cast["bob"].find("carol").their_bye),
        b("/bye carol", here("carol", commands.Bye), both("bob carol", "closed")),
        Act("carol", "/chat alice", just(commands.OpenDirect("alice", ask=True)),
            lambda cast: cast["alice"].state("carol") == "request"),
        a("/decline carol", here("carol", commands.Decline), both("alice carol", "closed")),
        Act("carol", "/chat bob", just(commands.OpenDirect("bob", ask=True)),
            lambda cast: cast["bob"].state("carol") == "request"),
        b("/accept carol", here("carol", commands.Accept), both("bob carol")),
        b("Two", here("carol", commands.Send, "Two"), sees("carol", of="bob", text="Two"), where="carol"),
        b("/history", read=("past", {"name": "carol", "limit": 10}), shows=("One", "Two"), where="carol"),
        b("/repair", here("carol", commands.Repair), where="carol", refused=True,
          shows=("There is nothing to repair",)),
        b("/unread", about("alice", "cake", commands.MarkUnread),
          lambda cast: bool(cast["bob"].door.first_unread(cast["bob"].find("alice").id)), where="alice"),
    ]  # fmt: skip


def rooms() -> list[Act]:
    a, b, c = (partial(Act, name) for name in ("alice", "bob", "carol"))
    every = ("alice", "bob", "carol")
    two = ("alice", "bob")
    return [
        a("/create #club", just(commands.CreateRoom("#club")), is_in("#club", "alice", members=("alice",))),
        a("/invite bob", here("#club", commands.Invite, "bob"), lambda cast: cast["bob"].invited("#club"),
          where="#club"),
        b("/accept #club", invited("#club", commands.AcceptInvitation), is_in("#club", *two, members=two)),
        a("/topic Films on Friday", here("#club", commands.SetTopic, "Films on Friday"),
          lambda cast: cast["bob"].find("#club").topic == "Films on Friday", where="#club"),
        b("/invite carol", here("#club", commands.Invite, "carol"), where="#club", refused=True, shows=("Only",)),
        a("/inviter add bob", here("#club", commands.SetInviter, "bob", inviter=True),
          lambda cast: cast["bob"].find("#club").inviters == ("bob",), where="#club"),
        b("/invite carol", here("#club", commands.Invite, "carol"), lambda cast: cast["carol"].invited("#club"),
          where="#club"),
        c("/never bob", invited("#club", partial(commands.DeclineInvitation, never=True)),
          is_in("#club", *two, members=two)),
        a("/invite carol", here("#club", commands.Invite, "carol"), lambda cast: cast["carol"].invited("#club"),
          where="#club"),
        c("/accept #club", invited("#club", commands.AcceptInvitation), is_in("#club", *every, members=every)),
        c("Good evening.", here("#club", commands.Send, "Good evening."),
          sees(*two, of="#club", text="Good evening."), where="#club"),
        look("alice", "#club"), look("bob", "#club", _read("carol", "#club")),
        a("/rename #films", here("#club", commands.Rename, "#films"),
          is_in("#films", *every, members=every), where="#club"),
        a("/owner add bob", here("#films", commands.SetOwner, "bob", owner=True),
          lambda cast: all("bob" in cast[each].find("#films").owners for each in every), where="#films"),
        a("/bar carol", here("#films", commands.Bar, "carol"), is_in("#films", *two, members=two), where="#films"),
        a("/unbar carol", here("#films", commands.Unbar, "carol"), where="#films"),
        b("/who", here("#films", commands.ListMembers), told("bob", MemberList, "alice", "bob"), where="#films"),
        a("/leave", here("#films", commands.Leave), is_in("#films", "bob", members=("bob",)), where="#films"),
        b("/rename #club", here("#films", commands.Rename, "#club"), is_in("#club", "bob", members=("bob",)),
          where="#films"),
        c("/create #den", just(commands.CreateRoom("#den")), is_in("#den", "carol", members=("carol",))),
        c("/invite bob", here("#den", commands.Invite, "bob"), lambda cast: cast["bob"].invited("#den"),
          where="#den"),
        b("/decline #den", invited("#den", commands.DeclineInvitation), is_in("#den", "carol", members=("carol",))),
        b("/join #lobby", just(commands.JoinRoom("#lobby")), is_in("#lobby", "bob", members=("bob",))),
        c("/rooms", just(commands.ListRooms()), told("carol", RoomList, "#lobby")),
        c("/join #lobby", just(commands.JoinRoom("#lobby")),
          is_in("#lobby", "bob", "carol", members=("bob", "carol"))),
        c("Hello!", here("#lobby", commands.Send, "Hello!"), sees("bob", of="#lobby", text="Hello!"), where="#lobby"),
        c("/remove bob", here("#lobby", commands.Remove, "bob"), where="#lobby", refused=True,
          shows=("belongs to nobody",)),
    ]  # fmt: skip


def people() -> list[Act]:
    a, b, c = (partial(Act, name) for name in ("alice", "bob", "carol"))
    prefer = commands.Prefer

    def refused_key(cast: Cast) -> bool:
        refused = cast["bob"].heard(KeyRefused)
        cast["bob"].key = refused[-1].key if refused else ""
        return bool(refused)

    return [
        b("/contacts", just(commands.ListContacts()), told("bob", ContactList, "alice", "carol")),
        b("/find lob", just(commands.ListContacts("lob")), told("bob", ContactList, "#lobby")),
        b("/ignore carol", just(commands.Ignore("carol"))),
        c("Is this heard?", here("#lobby", commands.Send, "Is this heard?"),
          lambda cast: (cast["carol"].line("#lobby", "Is this") or _none()).seq > 0, where="#lobby"),
        b("/unignore carol", just(commands.Unignore("carol")), sees("bob", of="#lobby", text="Is this heard?")),
        b("/block carol", just(commands.Block("carol")), lambda cast: cast["bob"].door.blocked() == ("carol",)),
        b("/unblock carol", just(commands.Unblock("carol")), lambda cast: cast["bob"].door.blocked() == ()),
        b("/mute", here("alice", lambda where: prefer("notify", "none", where)),
          lambda cast: cast["bob"].find("alice").prefers("notify") == "none", where="alice"),
        b("/unmute", here("alice", lambda where: prefer("notify", "", where)),
          lambda cast: cast["bob"].find("alice").prefers("notify") == "sender", where="alice"),
        b("/notify mentions", just(prefer("notify-of", "mentions")),
          lambda cast: cast["bob"].door.prefers("notify-of") == "mentions"),
        b("/presence show off", just(prefer("presence", "off")),
          lambda cast: cast["bob"].door.prefers("presence") == "off"),
        b("/typing send off", just(prefer("send-typing", "off")),
          lambda cast: cast["bob"].door.prefers("send-typing") == "off"),
        look("carol", "bob", _read("bob", "carol")),
        c("/marks send off", just(prefer("send-marks", "off")),
          lambda cast: cast["carol"].door.prefers("send-marks") == "off"),
        b("And now?", here("carol", commands.Send, "And now?"), sees("carol", of="bob", text="And now?"),
          where="carol"),
        c("Hm", here("bob", commands.Send, "Hm"), sees("bob", of="carol", text="Hm"), where="bob"),
        a("/safety bob", just(commands.ShowSafetyNumber("bob")), told("alice", SafetyNumber, "bob")),
        a("/verify bob", just(commands.Verify("bob")), told("alice", KeyAccepted, "bob", "verified=True")),
        b("/distrust alice", just(commands.Distrust("alice")), refused_key),
        b("/trust alice {key}", lambda seat: commands.Trust("alice", seat.key), told("bob", KeyAccepted, "alice")),
    ]  # fmt: skip


def files(folder: Path) -> list[Act]:
    a, b = (partial(Act, name) for name in ("alice", "bob"))
    sea, note, big = folder / "sea.bin", folder / "note.wav", folder / "big.bin"
    sea.write_bytes(bytes(range(256)) * 400)
    note.write_bytes(wav(speech(1500)))
    big.write_bytes(bytes(300_000))
    octets = {"media_type": "application/octet-stream"}

    def saved(seat: Seat, text: str) -> Command:
        line = seat.line("alice", text)
        assert line is not None
        return commands.SaveFile(line.local_id, str(seat.saved))

    return [
        a(f'/send "{sea}" the sea', here("bob", commands.SendFile, str(sea), "the sea", **octets),
          sees("bob", of="alice", text="the sea"), where="bob"),
        b("/save {saved}", lambda seat: saved(seat, "the sea"), told("bob", FileSaved, "sea.bin"), where="alice"),
        a("/files", read=("search", {"query": {"where": "bob", "has": ["file"]}, "limit": 10}), shows=("sea.bin",),
          where="bob"),
        a(f"/voice {note}", here("bob", commands.SendFile, str(note), disposition="voice"),
          sees("bob", of="alice", text="note.ogg"), where="bob"),
        b("/play {saved}/note.wav", lambda seat: saved(seat, "note.ogg"),
          lambda cast: any(each.stem == "note" for each in cast["bob"].saved.iterdir()), where="alice"),
        Act("", "the server stops"),
        a(f"/send {big}", here("bob", commands.SendFile, str(big), **octets),
          lambda cast: any(each.stage == "waiting" for each in cast["alice"].door.transfers()), where="bob",
          waits=False),
        a("/cancel", lambda seat: commands.CancelFile(seat.door.transfers()[-1].id),
          lambda cast: cast["alice"].door.transfers() == ()),
        Act("", "the server starts"),
        a("/reconnect", just(commands.Reconnect())),
        b("/reconnect", just(commands.Reconnect())),
        Act("carol", "/reconnect", just(commands.Reconnect())),
        a("Back again", here("bob", commands.Send, "Back again"), sees("bob", of="alice", text="Back again"),
          where="bob"),
        a("/link bob", here("bob", commands.Link), told("bob", LinkChanged, "asked"), where="bob"),
        # Whether one comes about depends on the addresses of this machine; either way it is told.
        b("/link alice", here("alice", commands.Link),
          lambda cast: any(each.state in ("up", "down") for each in cast["bob"].heard(LinkChanged)), where="alice"),
        b("/link alice off", here("alice", commands.Link, "off"),
          lambda cast: cast["bob"].find("alice").prefers("link") == "off", where="alice"),
    ]  # fmt: skip


def seen() -> list[Act]:
    """Everybody looks at everything, and whoever has said something learns of it."""
    return [
        look("alice", "bob", _read("bob", "alice")), look("bob", "alice", _read("alice", "bob")),
        look("bob", "carol", _read("carol", "bob")), look("bob", "#lobby", _read("carol", "#lobby")),
        look("carol", "bob"),
    ]  # fmt: skip


def accounts() -> list[Act]:
    a, b, c = (partial(Act, name) for name in ("alice", "bob", "carol"))

    def own_device(cast: Cast) -> bool:
        marks = [each.device for event in cast["alice"].heard(Devices) for each in event.devices]
        cast["alice"].key = marks[0] if marks else ""
        return bool(marks)

    return [
        a("/devices", just(commands.ListDevices()), own_device),
        a("/device {key} laptop", lambda seat: commands.NameDevice(seat.key, "laptop"), told("alice", Done)),
        a("/devices", just(commands.ListDevices()), told("alice", Devices, "laptop")),
        a("/sessions", just(commands.ListSessions()), told("alice", OwnSessions)),
        a("/revoke {key}", lambda seat: commands.RevokeDevice(seat.key), told("alice", Done)),  # this one: a new key
        a("/rotate", just(commands.Rotate())),
        a("/invite-line", just(commands.MakeInviteLine()), told("alice", InviteLineMade)),
        a("/invite-lines", just(commands.ListInviteLines()), told("alice", InviteLines)),
        b("/password", just(commands.ChangePassword(PASSWORD, ANOTHER)), told("bob", PasswordReplaced),
          hidden=(PASSWORD, ANOTHER, ANOTHER)),
        c("/succeed", just(commands.Succeed()), told("carol", IdentitySucceeded)),
        c("/delete-account carol", just(commands.DeleteAccount("carol", PASSWORD)), told("carol", AccountDeleted),
          hidden=(PASSWORD,)),
    ]  # fmt: skip


def leaving() -> list[Act]:
    return [Act("bob", "/logout", just(commands.EndSession("")), told("bob", Done))]


class _none:  # noqa: N801  # stands for a line that is not there yet
    reactions: tuple[object, ...] = (0, 0)
    seq = 0



ELSEWHERE = {
    "/quit": "ends the program", "/help": "is about what is typed", "/go": "is `where`",
    "/editor": "lends another program the line that is typed", "/unlock": "is asked of those without a password file",
}
"""What people can type that is no power of the core, or needs another story."""


@pytest.mark.timeout(600)  # of 160 acts most wait for nothing but this machine
def test_by_either_face_everybody_comes_to_the_same(tmp_path: Path) -> None:
    names, casts = ("alice", "bob", "carol"), list[Cast]()
    try:
        for face in (AtTerminal, OverRpc):
            casts.append(Cast(tmp_path / face.__name__, face, names))
        one, other = casts
        everything = [*talk(), *rooms(), *people(), *files(tmp_path), *seen()]
        for acts, whose in ((everything, names), (accounts(), names[:2])):
            for cast in casts:
                cast.play(acts)
            for name in whose:  # what others have done may still be on its way
                one.wait(lambda name=name: different(all_of(one[name]), all_of(other[name])))  # type: ignore[misc]  # bound now
        for cast in casts:
            cast.play(leaving())
    finally:
        for cast in casts:
            cast.close()


def test_every_verb_is_played(tmp_path: Path) -> None:
    acts = [*talk(), *rooms(), *people(), *files(tmp_path), *seen(), *accounts(), *leaving()]
    played = {each.typed.split()[0] for each in acts if each.typed.startswith("/")}
    assert set(VERBS) - played == set(ELSEWHERE)
