"""Each request of a client is refused, once and for good: it is done all the same, or somebody hears of it."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest

from securechat.client import commands, events
from securechat.client.clock import Clock
from securechat.client.conversations import resync
from securechat.client.recovery_file import RecoveryContents
from securechat.server.rate import Size
from securechat.server.store.records import INBOX_ENTRIES_OF_SENDER, InboxEntry
from securechat.wire import messages as wire
from tests.client.test_following import renew, there
from tests.client.test_restored import Backups
from tests.support.memory_server import Link, MemoryServer, refuse
from tests.support.people import PASSWORD, Person
from tests.support.recovering import Recovering, file_of

CODES: tuple[wire.Code, ...] = get_args(wire.Code)
_FOUNDED = {"PasswordWanted": 1}  # a keepsake lacks the room
_RECOVERED = {"Recovered": 1}
TOLD_ANYWAY: dict[str, dict[str, int]] = {
    "FetchKeyPackages to invite": _FOUNDED, "OpenRoom": _FOUNDED, "Commit": _FOUNDED, "Leave": _FOUNDED,
    "HandBack": {"OutOfStep": 1},
    "FetchStatements to recover": _RECOVERED, "FetchKeepsake": _RECOVERED, "FetchCheckpoints": _RECOVERED,
}  # fmt: skip
"""What is told in a scene where nothing is refused, how often."""

TELLING = (
    events.Refused, events.Alarm, events.Delayed, events.Stopped, events.OutOfStep, events.Disconnected, events.Ended,
    events.PasswordWanted, events.Recovered, events.TransferDelayed, events.TransferEnded,
)  # fmt: skip

NOBODY_WAITS = {
    wire.CommitFailed: "only the operator's log gets it",
    wire.DropBlob: "it is asked again on the next connection, and ends by itself",
    wire.ClientHello: "answered by Closing",
}
"""Requests whose refusal changes nothing for anybody."""

SECONDS = 3600
TRIES = 700
"""In that time, at most: a window of messages, each with a back-off of half a minute."""

A_PART = 5
"""Each scene meets one code in so many, and the next one the next of them: what a code means depends on the request."""

Fulfilled = Callable[[], bool]


class Stage:
    """alice, who is refused something, and two others."""

    def __init__(self, server: MemoryServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.everybody: list[Person] = []
        self.alice, self.bob, self.carol = (self.add(name) for name in ("alice", "bob", "carol"))
        self.victim = self.alice
        self.refusing = True

    def add(self, name: str, *, registered: bool = True, **settings: object) -> Person:
        person = Person(self.server, self.folder, name, None, **settings)
        self.everybody.append(person)
        if registered:
            person.register()
        return person

    def connect(self, *people: Person) -> None:
        for person in people:
            person.connect()
        self.settle()

    def do(self, person: Person, command: commands.Command) -> None:
        person.do(command)
        self.settle()

    def say(self, person: Person, name: str, text: str) -> None:
        person.say(name, text)
        self.settle()

    def direct(self) -> None:
        self.connect(*self.everybody)
        self.do(self.alice, commands.OpenDirect("bob", "hello", ask=False))
        if self.bob.state_of("alice"):
            self.say(self.bob, "alice", "hi")

    def club(self) -> None:
        self.direct()
        self.do(self.alice, commands.CreateRoom("#club"))
        if there(self.alice, "#club").row.phase == "member":
            self.do(self.alice, commands.Invite(self.alice.id_of("#club"), "bob"))

    def lobby(self) -> None:
        self.direct()
        for person in (self.bob, self.alice):
            self.do(person, commands.JoinRoom("#lobby"))

    def settle(self) -> None:
        """Let an hour pass. Whoever gives the connection up makes another one after a while."""
        server, pause = self.server, 1.0
        end = server.seconds + SECONDS
        while server.seconds < end:
            moved = False
            for person in self.everybody:
                if person.link is not None and (why := person.engine.failure or person.engine.disconnect_reason):
                    person.happened.append(events.Disconnected(str(why), pause))
                    person.cut()
                    if not person.engine.failure:
                        self._pass(pause)
                        pause = min(2 * pause, 30.0)
                        person.connect()
                while person.push() or person.pull(8):
                    moved = True
            if moved or server.finish_checks():
                continue
            online = [person for person in self.everybody if person.link is not None]
            timers = [timer for person in online if (timer := person.engine.timer) is not None]
            due = min([*timers, server.due], default=math.inf)
            if due > end:
                return
            self._pass(max(due - server.seconds, 0.0))
            for person in online:
                if person.engine.timer is not None and person.engine.timer <= server.seconds:
                    person.engine.handle_timer()
                    person.flush()

    def _pass(self, seconds: float) -> None:
        self.server.now += int(seconds * 1000)
        self.server.advance(self.server.seconds + seconds)


def read(person: Person, name: str, line: str) -> Fulfilled:
    return lambda: bool(person.state_of(name)) and line in person.texts(name)


def ready(person: Person) -> Fulfilled:
    return lambda: bool(person.of(events.Ready))


def inside(person: Person, name: str, who: str) -> bool:
    found = person.engine.snapshot.find(name)
    return found is not None and who in found.members


# --- the scenes: what leads to a request, and how one sees that it was fulfilled ----------------------------------


def register(stage: Stage) -> Fulfilled:
    stage.victim = stage.add("dave", registered=False, register=True)
    stage.connect(stage.victim)
    return ready(stage.victim)


def log_in(stage: Stage) -> Fulfilled:
    stage.connect(stage.alice)
    return ready(stage.alice)


def resume(stage: Stage) -> Fulfilled:
    stage.connect(stage.alice)
    stage.alice.cut()
    stage.alice.happened.clear()
    return log_in(stage)


def stock(stage: Stage) -> Fulfilled:
    stage.connect(*stage.everybody)
    stage.alice.cut()
    directory = stage.server.store.directory
    directory.drop_key_packages()
    stage.server.store.commit()
    stage.connect(stage.alice)
    device = stage.alice.engine._context.device.id
    return lambda: directory.count_key_packages(device) > 0


def extend_token(stage: Stage) -> Fulfilled:
    stage.connect(stage.alice)
    device = stage.alice.engine._context.device
    device.keep_token(device.row.token, 1)
    for _ in range(2):
        stage.settle()
    return lambda: device.row.token_expires > 1


def change_password(stage: Stage) -> Fulfilled:
    stage.connect(stage.alice)
    stage.do(stage.alice, commands.ChangePassword(PASSWORD, "glacier tulip harvest"))
    return lambda: bool(stage.alice.of(events.PasswordReplaced))


def delete_account(stage: Stage) -> Fulfilled:
    stage.connect(stage.alice)
    stage.do(stage.alice, commands.DeleteAccount("alice", PASSWORD))
    return lambda: bool(stage.alice.of(events.AccountDeleted))


def list_sessions(stage: Stage) -> Fulfilled:
    stage.connect(stage.alice)
    stage.do(stage.alice, commands.ListSessions())
    return lambda: bool(stage.alice.of(events.OwnSessions))


def log_out(stage: Stage) -> Fulfilled:
    stage.connect(stage.alice)
    stage.do(stage.alice, commands.EndSession(""))
    return lambda: stage.alice.engine._context.device.row.token_expires == 0


def open_direct(stage: Stage) -> Fulfilled:
    stage.direct()
    return read(stage.bob, "alice", "alice: hello")


def open_room(stage: Stage) -> Fulfilled:
    stage.club()
    return lambda: inside(stage.bob, "#club", "alice")


def join(stage: Stage) -> Fulfilled:
    stage.lobby()
    return lambda: inside(stage.bob, "#lobby", "alice")


def submit(stage: Stage) -> Fulfilled:
    stage.direct()
    stage.say(stage.alice, "bob", "is it there?")
    return read(stage.bob, "alice", "alice: is it there?")


def leave(stage: Stage) -> Fulfilled:
    stage.club()
    stage.victim = stage.bob
    stage.do(stage.bob, commands.Leave(stage.bob.id_of("#club")))
    stage.do(stage.alice, commands.Send(stage.alice.id_of("#club"), "alone?"))
    left = there(stage.bob, "#club")  # whoever is not in it, by the server's word, is out
    return lambda: not inside(stage.alice, "#club", "bob") or left.row.phase == "ended"


def list_rooms(stage: Stage) -> Fulfilled:
    stage.connect(stage.alice)
    stage.do(stage.alice, commands.ListRooms())
    return lambda: bool(stage.alice.of(events.RoomList))


def list_members(stage: Stage) -> Fulfilled:
    stage.direct()
    stage.do(stage.alice, commands.ListMembers(stage.alice.id_of("bob")))
    return lambda: bool(stage.alice.of(events.MemberList))


def subscribe(stage: Stage) -> Fulfilled:
    stage.refusing = False
    stage.direct()
    stage.refusing = True
    stage.alice.cut()
    stage.say(stage.bob, "alice", "can you read?")
    stage.connect(stage.alice)
    return read(stage.alice, "bob", "bob: can you read?")


def put_keepsake(stage: Stage) -> Fulfilled:
    stage.connect(stage.alice)
    return lambda: stage.server.store.keepsakes.find("alice") is not None


def leave_behind(stage: Stage) -> Fulfilled:
    """alice's leaf in the lobby was left behind by a rotation, and only a resync can replace it."""
    stage.lobby()
    with stage.alice.engine._unit():
        resync.supersede(there(stage.alice, "#lobby"))
        stage.alice.engine._context.touched.add(stage.alice.id_of("#lobby"))
    stage.settle()
    stage.say(stage.alice, "#lobby", "back?")
    return read(stage.bob, "#lobby", "alice: back?")


def hand_back(stage: Stage) -> Fulfilled:
    stage.direct()
    backups = Backups(stage.server, stage.folder / "server")
    backups.take(stage.folder / "backup")
    stage.bob.cut()
    renew(stage.alice, "bob", stage.alice)
    inward = stage.server.inward
    backups.put_back(stage.folder / "backup", *stage.everybody)
    stage.server.inward = inward
    stage.connect(stage.alice, stage.bob)
    stage.say(stage.alice, "bob", "level?")
    return read(stage.bob, "alice", "alice: level?")


def ask_for_statements(stage: Stage) -> Fulfilled:
    """alice meets another key in bob's name, and asks what became of the one that she knows."""
    stage.direct()
    stage.bob.cut()
    (stage.folder / "elsewhere").mkdir()
    other = Person(stage.server, stage.folder / "elsewhere", "bob", new_identity=True)
    stage.everybody.append(other)
    stage.connect(other)
    shown: list[wire.Statements] = []

    def outward(link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Statements) and link is stage.alice.link:
            shown.append(message)
        return [message]

    stage.server.outward = outward
    stage.do(other, commands.OpenDirect("alice", "it is me", ask=False))
    return lambda: bool(shown)


def recover(stage: Stage) -> Fulfilled:
    stage.club()
    stage.alice.crash()
    stage.connect(stage.alice)
    contents: RecoveryContents = file_of(stage.alice)
    stage.alice.stop()
    stage.everybody.remove(stage.alice)
    (stage.folder / "new computer").mkdir()
    stage.victim = Recovering(stage.server, stage.folder / "new computer", contents)
    stage.everybody.append(stage.victim)
    stage.connect(stage.victim)
    return lambda: inside(stage.victim, "#club", "bob") and inside(stage.victim, "bob", "bob")


def share(stage: Stage) -> Fulfilled:
    stage.direct()
    (stage.folder / "sea.jpg").write_bytes(bytes(300_000))
    stage.do(stage.alice, commands.SendFile(stage.alice.id_of("bob"), str(stage.folder / "sea.jpg")))
    return read(stage.bob, "alice", "alice: sea.jpg")


def fetch(stage: Stage) -> Fulfilled:
    share(stage)
    stage.victim, folder = stage.bob, stage.folder / "saved"
    folder.mkdir()
    (line,) = [each.local_id for each in stage.bob.history("alice", 10) if each.file is not None]
    stage.do(stage.bob, commands.SaveFile(line, str(folder)))
    return lambda: (folder / "sea.jpg").exists()


SCENES: dict[str, tuple[type[wire.Request], Callable[[Stage], Fulfilled]]] = {
    "Register": (wire.Register, register),
    "Login": (wire.Login, log_in),
    "Resume": (wire.Resume, resume),
    "Publish": (wire.Publish, log_in),
    "PublishKeyPackages": (wire.PublishKeyPackages, stock),
    "ExtendToken": (wire.ExtendToken, extend_token),
    "ChangePassword": (wire.ChangePassword, change_password),
    "DeleteAccount": (wire.DeleteAccount, delete_account),
    "FetchSessions": (wire.FetchSessions, list_sessions),
    "EndSession": (wire.EndSession, log_out),
    "FetchKeyPackages": (wire.FetchKeyPackages, open_direct),
    "FetchKeyPackages to invite": (wire.FetchKeyPackages, open_room),
    "OpenDirect": (wire.OpenDirect, open_direct),
    "OpenRoom": (wire.OpenRoom, open_room),
    "Commit": (wire.Commit, open_room),
    "Join": (wire.Join, join),
    "Commit to join": (wire.Commit, join),
    "Submit": (wire.Submit, submit),
    "Leave": (wire.Leave, leave),
    "ListRooms": (wire.ListRooms, list_rooms),
    "Members": (wire.Members, list_members),
    "Subscribe": (wire.Subscribe, subscribe),
    "PutKeepsake": (wire.PutKeepsake, put_keepsake),
    "Resync": (wire.Resync, leave_behind),
    "HandBack": (wire.HandBack, hand_back),
    "FetchStatements": (wire.FetchStatements, ask_for_statements),
    "FetchStatements to recover": (wire.FetchStatements, recover),
    "FetchKeepsake": (wire.FetchKeepsake, recover),
    "FetchCheckpoints": (wire.FetchCheckpoints, recover),
    "StartBlob": (wire.StartBlob, share),
    "PutBlob": (wire.PutBlob, share),
    "FetchBlob": (wire.FetchBlob, fetch),
}


@pytest.fixture
def stage(server: MemoryServer, tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(server, tmp_path)
    yield stage
    for person in stage.everybody:
        person.stop()


def test_there_is_a_scene_for_each_request() -> None:
    requests = {each for each in get_args(wire.FromClient) if issubclass(each, wire.Request)}
    assert requests - {kind for kind, _ in SCENES.values()} == set(NOBODY_WAITS) & requests


def test_the_documents_name_what_becomes_of_each() -> None:
    page = (Path(__file__).parents[2] / "docs/protocol.md").read_text(encoding="utf-8")
    section = page.partition("## Refusals")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = re.findall(r"`(\w+)`", "".join(rows))
    requests = [each.__name__ for each in get_args(wire.FromClient) if issubclass(each, wire.Request)]
    assert sorted(named) == sorted(requests)


def play(stage: Stage, scene: str, code: wire.Code, times: float) -> int:
    """Refuse the victim's first `times` requests of one kind: nobody waits in silence. Returns how many it made."""
    kind, lead = SCENES[scene]
    count = 0

    def inward(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        nonlocal count
        if stage.refusing and isinstance(message, kind) and link is stage.victim.link:
            count += 1
            if count <= times:
                refuse(link, message, code, "come back later")
                return []
        return [message]

    stage.server.inward = inward
    fulfilled = lead(stage)
    happened = [event for person in stage.everybody for event in person.happened if isinstance(event, TELLING)]
    told = Counter(_kind_of(event) for event in happened)
    anyway = Counter(TOLD_ANYWAY.get(scene, {}))
    assert (fulfilled() and told == anyway) if not times else (fulfilled() or told - anyway)
    return count


def _kind_of(event: events.Event) -> str:
    lacking = isinstance(event, events.Recovered) and bool(event.missing)
    return type(event).__name__ + (" of a part" if lacking else "")


@pytest.mark.parametrize("scene", SCENES)
def test_a_scene_comes_to_its_request_and_its_end(stage: Stage, scene: str) -> None:
    assert play(stage, scene, "busy", 0)


@pytest.mark.parametrize(
    ("scene", "code"),
    [(scene, code) for n, scene in enumerate(SCENES) for m, code in enumerate(CODES) if (n + m) % A_PART == 0],
)
def test_what_is_refused_once_is_done_later_or_told(stage: Stage, scene: str, code: wire.Code) -> None:
    assert play(stage, scene, code, 1)


@pytest.mark.parametrize("code", ["busy", "stale-epoch", "bad-request"])
@pytest.mark.parametrize("scene", SCENES)
def test_what_is_refused_for_good_is_told_and_tried_now_and_then(stage: Stage, scene: str, code: wire.Code) -> None:
    assert 0 < play(stage, scene, code, math.inf) < TRIES


def test_a_clock_that_is_ahead_is_named_when_key_packages_are_refused(stage: Stage) -> None:
    stage.connect(*stage.everybody)
    stage.alice.cut()
    stage.server.store.directory.drop_key_packages()
    stage.server.store.commit()
    right, hours = stage.alice.clock, [26]
    stage.alice.clock = Clock(lambda: right.wall() + hours[0] * 3600, right.monotonic)
    stage.alice.crash()
    stage.alice.happened.clear()
    stage.connect(stage.alice)
    (alarm,) = stage.alice.of(events.Alarm)
    assert isinstance(alarm, events.Alarm)
    assert "This machine's clock is 26 hours ahead of the server's" in alarm.text
    hours[0] = 0
    stage.settle()
    assert stage.server.store.directory.count_key_packages(stage.alice.engine._context.device.id) > 0


def fill_inbox(stage: Stage, person: Person, sender: str) -> None:
    """As many letters of one sender as an inbox takes."""
    letter = InboxEntry(0, stage.server.now, bytes(32), 1, bytes(32), b"welcome", b"tree", ())
    for _ in range(INBOX_ENTRIES_OF_SENDER):
        stage.server.store.inboxes.deliver(letter, [person.engine._context.device.id], sender)
    stage.server.store.commit()


def test_who_finds_an_inbox_full_is_told_and_the_room_goes_on(stage: Stage) -> None:
    stage.connect(*stage.everybody)
    stage.do(stage.alice, commands.CreateRoom("#club"))
    club = stage.alice.id_of("#club")
    stage.bob.cut()
    fill_inbox(stage, stage.bob, "alice")
    for name in ("bob", "carol"):
        stage.do(stage.alice, commands.Invite(club, name))
    stage.do(stage.alice, commands.OpenDirect("bob", "hello", ask=False))
    full = [event for event in stage.alice.of(events.Refused) if event.code == "inbox-full"]  # type: ignore[attr-defined]  # it has one
    assert len(full) == 2
    assert all("bob has not read what you have sent them before" in str(event) for event in full)
    assert inside(stage.alice, "#club", "carol")
    assert not inside(stage.alice, "#club", "bob")
    stage.connect(stage.bob)  # and has read it
    stage.do(stage.alice, commands.Invite(club, "bob"))
    stage.do(stage.alice, commands.OpenDirect("bob", "hello again", ask=False))
    assert inside(stage.alice, "#club", "bob")
    assert "alice: hello again" in stage.bob.texts("alice")


def test_what_went_from_the_inbox_unread_is_told_once(stage: Stage) -> None:
    stage.connect(*stage.everybody)
    stage.bob.cut()
    fill_inbox(stage, stage.bob, "alice")
    stage.server.store.inboxes.acknowledge(stage.bob.engine._context.device.id, 5)  # as if they were too old
    stage.server.store.commit()
    for _ in range(2):
        stage.connect(stage.bob)
        stage.bob.cut()
    assert stage.bob.of(events.InvitationsMissed) == [events.InvitationsMissed(5)]
    assert not stage.carol.of(events.InvitationsMissed)


def test_who_is_over_their_quota_is_told_and_loses_no_line(tmp_path: Path) -> None:
    server = MemoryServer(tmp_path / "server", bytes_per_account=Size(48 << 10))
    stage = Stage(server, tmp_path)
    try:
        stage.direct()
        stage.bob.cut()
        lines = [f"{n} ".ljust(1500, "x") for n in range(40)]
        for line in lines:
            stage.alice.say("bob", line)
        stage.settle()
        told = [event for event in stage.alice.happened if isinstance(event, events.Delayed)]
        assert told
        assert {event.code for event in told} == {"quota"}
        assert "others have still to read" in told[0].text
        assert "Nothing is lost" in told[0].text
        assert not stage.alice.of(events.Refused)
        assert server.store.held("alice") <= 48 << 10
        stage.bob.connect()
        for _ in lines:  # what bob has read makes room for more
            server.tidy()
            stage.settle()
            if f"alice: {lines[-1]}" in stage.bob.texts("alice"):
                break
        assert [text for text in stage.bob.texts("alice") if text[7:] in lines] == [f"alice: {each}" for each in lines]
    finally:
        for person in stage.everybody:
            person.stop()
        server.stop()
