"""What bob's real engine meets beside the real sequencer, in memory: for each row of the table of doors a scene.

A scene says whether all is as the row says: he is in, refused, told, asked. `test_engines` plays each with its row and
without it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from securechat.client import commands, events
from securechat.client.doors.facts import Verdict
from securechat.server.sequencer.room_names import RoomNames
from securechat.wire import messages as wire
from tests.client.test_entering import begin_once_more
from tests.client.test_evidence import lie, poison
from tests.client.test_following import DAY, copy, forget, losing, put_back, renew, resyncs, there, told
from tests.client.test_invitations import room, waiting, without_invitations
from tests.client.test_keepsake import restart
from tests.client.test_lines import line
from tests.client.test_restored import Backups, come_back
from tests.support.memory_server import Link, MemoryServer
from tests.support.people import Person, only, settle
from tests.support.recovering import Recovering, file_of

World = Callable[..., list[Person]]


class Town:
    """A server, and people who have come to it."""

    def __init__(
        self, server: MemoryServer, people: World, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.server, self.folder, self.everybody = server, folder, list[Person]()
        self.verdicts = list[Verdict]()
        """All that were looked up."""
        self.monkeypatch = monkeypatch
        self._people, self._others = people, list[Person]()

    def people(self, *names: str) -> list[Person]:
        """Make people with an account who are connected."""
        came = self._people(*names)
        self.everybody += came
        return came

    def enter(self, person: Person, *others: Person) -> Person:
        """Somebody else comes, with a vault of their own."""
        self.everybody.append(person)
        self._others.append(person)
        person.connect()
        settle(person, *others)
        return person

    def leave(self) -> None:
        """Close the vaults of those who came by `enter`."""
        for person in self._others:
            person.stop()

    def friends(self) -> list[Person]:
        """Alice and bob, who has accepted her."""
        alice, bob = everybody = self.people("alice", "bob")
        alice.do(commands.OpenDirect("bob", "hello", ask=False))
        settle(*everybody)
        bob.say("alice", "hi")
        settle(*everybody)
        return everybody

    def club(self, *names: str) -> list[Person]:
        """Alice, who owns #club, and others in it."""
        alice, *others = everybody = self.people("alice", *(names or ("bob", "carol")))
        alice.do(commands.CreateRoom("#club"))
        settle(*everybody)
        for person in others:
            alice.do(commands.Invite(alice.id_of("#club"), person.name))
            settle(*everybody)
        return everybody

    def lobby(self) -> list[Person]:
        """Alice, bob and carol in an open room."""
        everybody = self.people("alice", "bob", "carol")
        for person in everybody:
            person.do(commands.JoinRoom("#lobby"))
            settle(*everybody)
        return everybody


def reads(alice: Person, name: str, text: str) -> bool:
    return f"bob: {text}" in alice.texts(name)


def invited_by_a_friend(town: Town) -> bool:
    alice, bob = town.friends()
    alice.do(commands.CreateRoom("#club"))
    settle(alice, bob)
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    settle(alice, bob)
    return bob.state_of("#club") == "open"


def invited_by_a_stranger(town: Town) -> bool:
    _, bob, _ = town.club()
    return bob.state_of("#club") == "open"


def asked_by_a_stranger(town: Town) -> bool:
    alice, bob = town.people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    return bob.state_of("alice") == "request"


def written_to_by_a_known_key(town: Town) -> bool:
    alice, bob = town.people("alice", "bob")
    with bob.vault.transaction():
        bob.engine._context.pins.accept("alice", alice.engine._context.device.identity_key)
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    return bob.state_of("alice") == "open"


def both_open_at_once(town: Town) -> bool:
    alice, bob = town.people("alice", "bob")
    bob.do(commands.OpenDirect("alice", "from bob", ask=False))
    only(bob, lambda message: [] if isinstance(message, wire.Welcomed) else [message])
    while not any(isinstance(each, wire.OpenDirect) for each in bob.to_server):
        assert bob.push() or bob.pull()
    alice.do(commands.OpenDirect("bob", "from alice", ask=False))
    settle(alice)
    settle(bob, until=lambda: not bob.to_server and not (bob.link is not None and bob.link.to_client))
    town.server.outward = lambda _link, message: [message]
    bob.cut()
    bob.connect()
    settle(alice, bob)
    return reads(alice, "bob", "from bob")


def follows(town: Town) -> bool:
    alice, bob, carol = town.club()
    renew(alice, "#club", bob, carol)
    bob.say("#club", "there")
    settle(alice, bob, carol)
    return reads(alice, "#club", "there")


def messages_are_gone(town: Town) -> bool:
    alice, bob, carol = town.club()
    bob.cut()
    renew(carol, "#club", alice)
    alice.say("#club", "which is lost")
    settle(alice, carol)
    room = alice.id_of("#club")
    bob.connect()
    with losing(town.server, bob, room, town.server.head(room).seq + 1):
        alice.say("#club", "after it")
        settle(alice, bob, carol)
    return bool(bob.of(events.Gap))


def a_vault_of_yesterday(town: Town) -> bool:
    alice, bob, carol = town.club()
    yesterday = copy(bob, town.folder / "yesterday")
    settle(alice, bob, carol)
    bob.say("#club", "which the copy does not know")
    settle(alice, bob, carol)
    put_back(bob, yesterday)
    settle(alice, bob, carol)
    bob.say("#club", "from the copy")
    settle(alice, bob, carol)
    return told(bob, events.OutOfStep) == ["older-copy"] and reads(alice, "#club", "from the copy")


def a_vault_from_before_a_commit(town: Town) -> bool:
    alice, bob, carol = town.club()
    yesterday = copy(bob, town.folder / "yesterday")
    settle(alice, bob, carol)
    renew(bob, "#club", alice, carol)
    put_back(bob, yesterday)
    settle(alice, bob, carol)
    bob.say("#club", "from the copy")
    settle(alice, bob, carol)
    came_back = len(resyncs(town.server, alice.id_of("#club"))) == 1
    return came_back and told(bob, events.OutOfStep) == ["own-commit"] and reads(alice, "#club", "from the copy")


def away(town: Town, *, owner: bool) -> tuple[Person, Person, Person]:
    """Bob comes back after more than a month: the handshakes are gone up to an owner's commit, or altogether."""
    alice, bob, carol = town.club()
    room = alice.id_of("#club")
    bob.cut()
    renew(carol, "#club", alice)
    if owner:
        renew(alice, "#club", carol)
    upto = town.server.head(room).seq
    renew(carol, "#club", alice)
    town.server.now += 40 * DAY
    forget(town.server, room, upto)
    honest = town.server.outward

    def without_checkpoints(link: Link, message: wire.FromServer) -> list[wire.FromServer]:
        return honest(
            link, wire.Checkpoints(message.id, room, []) if isinstance(message, wire.Checkpoints) else message
        )

    if not owner:
        town.server.outward = without_checkpoints
    bob.connect()
    settle(alice, bob, carol)
    return alice, bob, carol


def an_owners_checkpoint(town: Town) -> bool:
    alice, bob, carol = away(town, owner=True)
    bob.say("#club", "back")
    settle(alice, bob, carol)
    return told(bob, events.OutOfStep) == ["cut-off", "checkpoint"] and reads(alice, "#club", "back")


def nothing_is_left(town: Town) -> bool:
    _, bob, _ = away(town, owner=False)
    return told(bob, events.OutOfStep) == ["cut-off", "nothing-left"]


def let_in_again(town: Town) -> bool:
    alice, bob, carol = away(town, owner=False)
    bob.cut()
    for command in commands.Remove, commands.Invite:
        alice.do(command(alice.id_of("#club"), "bob"))
        settle(alice, carol)
    bob.connect()
    settle(alice, bob, carol)
    bob.say("#club", "back")
    settle(alice, bob, carol)
    return reads(alice, "#club", "back")


def come_back_after_leaving(town: Town) -> bool:
    alice, bob, carol = town.club()
    with bob.vault.transaction():
        bob.engine._context.pins.trust("alice", alice.engine._context.device.identity_key)
    bob.do(commands.Leave(bob.id_of("#club")))
    settle(alice, bob, carol)
    alice.do(commands.Invite(alice.id_of("#club"), "bob"))
    settle(alice, bob, carol)
    return bob.state_of("#club") == "open"


def the_server_is_behind(town: Town) -> bool:
    alice, bob, carol = town.club()
    bob.cut()
    room = alice.id_of("#club")

    def behind(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Subscribed) and message.conversation == room:
            message.head = 1
        return [message]

    only(bob, behind)
    bob.connect()
    settle(alice, bob, carol)
    return "ahead" in told(bob, events.OutOfStep)


def enter_the_lobby(town: Town) -> bool:
    _, bob, _ = town.lobby()
    return bob.state_of("#lobby") == "open"


def away_from_the_lobby(town: Town) -> bool:
    alice, bob, carol = town.lobby()
    room = alice.id_of("#lobby")
    bob.cut()
    renew(alice, "#lobby", carol)
    upto = town.server.head(room).seq
    carol.say("#lobby", "not for bob")
    settle(alice, carol)
    forget(town.server, room, upto)
    bob.connect()
    settle(alice, bob, carol)
    bob.say("#lobby", "back")
    settle(alice, bob, carol)
    return reads(alice, "#lobby", "back")


def a_welcome_comes_alone(town: Town) -> bool:
    alice, bob = town.friends()
    without_invitations(alice)
    alice.do(commands.Invite(room(alice), "bob"))
    settle(alice, bob)
    return waiting(bob) == 1 and not bob.of(events.Invited) and bob.state_of("#club") == ""


def invited_by_a_line(town: Town) -> bool:
    alice, bob = town.people("alice", "bob")
    bob.obliging = False
    room(alice)
    bob.do(commands.UseInviteLine(line(alice, "#club")))
    settle(alice, bob)
    return bob.state_of("#club") == "open" and not bob.of(events.Invited)


def no_longer_invited(town: Town) -> bool:
    alice, bob = town.friends()
    bob.obliging = False
    club = room(alice)
    for command in commands.Invite, commands.Remove:
        alice.do(command(club, "bob"))
        settle(alice, bob)
    return [getattr(each, "why", "") for each in bob.of(events.InvitationEnded)] == ["withdrawn"]


def hers_comes_first(town: Town) -> bool:
    alice, bob = town.people("alice", "bob")
    bob.do(commands.OpenDirect("alice", "from bob", ask=False))
    alice.do(commands.OpenDirect("bob", "from alice", ask=False))
    settle(alice)
    settle(alice, bob)
    silent = not any(each.told == "key-change" for each in town.verdicts)
    return silent and reads(alice, "bob", "from bob")


def hers_comes_first_under_another_key(town: Town) -> bool:
    alice, bob = town.people("alice", "bob")
    with bob.vault.transaction():
        bob.engine._context.pins.accept("alice", bytes(32))
    bob.do(commands.OpenDirect("alice", "for the key that I know", ask=False))
    alice.do(commands.OpenDirect("bob", "from alice", ask=False))
    settle(alice)
    settle(alice, bob)
    return "alice: from alice" in written(bob, "alice") and not written(alice, "bob")[1:]


def written(person: Person, name: str) -> list[str]:
    """What stands in all conversations of a name."""
    places = [each.id for each in person.engine._registry.named(name)]
    lines = [each for place in places for each in person.vault.history.newest(place, 100)]
    return [f"{each.sender}: {each.text}" for each in lines]


def written_to_after_leaving(town: Town) -> bool:
    alice, bob = town.friends()
    bob.do(commands.Leave(bob.id_of("alice")))
    settle(alice, bob)
    alice.do(commands.OpenDirect("bob", "once more", ask=False))
    settle(alice, bob)
    return bob.state_of("alice") == "open" and bob.texts("alice")[-1] == "alice: once more"


def written_to_by_another_key(town: Town) -> bool:
    alice, bob = town.friends()
    alice.cut()
    (town.folder / "other").mkdir()
    other = town.enter(Person(town.server, town.folder / "other", "alice", new_identity=True), bob)
    old = bob.id_of("alice")
    other.do(commands.OpenDirect("bob", "it is me", ask=False))
    settle(bob, other)
    return bob.id_of("alice") == old and "alice: it is me" in written(bob, "alice")


def offered_what_he_has(town: Town) -> bool:
    alice, bob, carol = town.lobby()
    epoch = there(bob, "#lobby").group.epoch
    begin_once_more(bob, "open", "#lobby")
    settle(alice, bob, carol)
    bob.say("#lobby", "still here")
    settle(alice, bob, carol)
    stays = reads(alice, "#lobby", "still here") and there(bob, "#lobby").group.epoch == epoch
    return stays and not bob.of(events.Alarm)


def recovers(town: Town, bob: Person, *others: Person) -> Person:
    """Bob's computer starts once more, and dies; he has another one and his recovery file."""
    restart(bob)
    settle(bob, *others)
    contents = file_of(bob)
    bob.cut()
    (town.folder / "new").mkdir()
    new = town.enter(Recovering(town.server, town.folder / "new", contents), *others)
    new.obliging = False
    return new


def on_a_new_computer(town: Town) -> bool:
    alice, bob, carol = town.club()
    recovers(town, bob, alice, carol).say("#club", "on a new computer")
    settle(*town.everybody[-1:], alice, carol)
    return reads(alice, "#club", "on a new computer")


def on_a_new_computer_in_the_lobby(town: Town) -> bool:
    alice, bob, carol = town.lobby()
    recovers(town, bob, alice, carol).say("#lobby", "on a new computer")
    settle(*town.everybody[-1:], alice, carol)
    return reads(alice, "#lobby", "on a new computer")


def past_a_commit(town: Town) -> bool:
    alice, bob, carol = town.club()
    club = bob.id_of("#club")

    def spoil(message: wire.FromServer) -> list[wire.FromServer]:
        if isinstance(message, wire.Entry) and message.conversation == club and message.group_info:
            message.payload = message.payload[:-1] + bytes([message.payload[-1] ^ 1])
        return [message]

    only(bob, spoil)
    renew(carol, "#club", alice, bob)
    stopped = bob.state_of("#club") == "stopped"
    bob.do(commands.Repair(club))
    settle(alice, bob, carol)
    bob.say("#club", "back")
    settle(alice, bob, carol)
    return stopped and reads(alice, "#club", "back")


def past_another_history(town: Town) -> bool:
    alice, bob = town.friends()
    lie(alice, "bob", "a lie", bob)
    bob.say("alice", "held")
    settle(alice, bob)
    held = not reads(alice, "bob", "held")
    bob.do(commands.Repair(bob.id_of("alice")))
    settle(alice, bob)
    return held and reads(alice, "bob", "held")


def past_a_commit_in_the_lobby(town: Town) -> bool:
    alice, bob, carol = town.lobby()
    poison(carol, town.server)
    carol.cut()
    bob.say("#lobby", "on we go")
    settle(alice, bob)
    return len(bob.of(events.Stopped)) == 1 and reads(alice, "#lobby", "on we go")


def two_of_a_name(town: Town) -> None:
    """The server lets another room have a name that is taken."""
    for name in ("claim", "follow"):
        town.monkeypatch.setattr(RoomNames, name, lambda *_, **__: None)


def invited_to_a_second(town: Town) -> bool:
    alice, bob, carol = town.club()
    club = bob.id_of("#club")
    bob.obliging = False
    two_of_a_name(town)
    second = room(carol, "#fun")
    for command in commands.Rename(second, "#club"), commands.Invite(second, "bob"):
        carol.do(command)
        settle(alice, bob, carol)
    bob.do(commands.Accept(bob.id_of("carol")))
    settle(alice, bob, carol)
    return bob.question(second) != 0 and bob.id_of("#club") == club


def offered_a_second(town: Town) -> bool:
    alice, bob, carol = town.people("alice", "bob", "carol")
    for person, name in (alice, "#square"), (bob, "#square"), (carol, "#fun"):
        person.do(commands.JoinRoom(name))
        settle(alice, bob, carol)
    two_of_a_name(town)
    old, second = bob.id_of("#square"), carol.id_of("#fun")
    carol.do(commands.Rename(second, "#square"))
    settle(alice, bob, carol)

    def lead_astray(link: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if link is bob.link and isinstance(message, wire.Join):
            message.room = "#fun"
        return [message]

    town.server.inward = lead_astray
    begin_once_more(bob, "open", "#square")
    settle(alice, bob, carol)
    inside = [each.id for each in bob.engine._registry.named("#square") if each.row.phase == "member"]
    return inside == [old, second]


def the_lobby_of_a_restored_server(town: Town) -> bool:
    alice, bob = everybody = town.people("alice", "bob")
    for person in everybody:
        person.do(commands.JoinRoom("#lobby"))
        settle(*everybody)
    backups, backup = Backups(town.server, town.folder / "server"), town.folder / "backup"
    backups.take(backup)
    renew(bob, "#lobby", alice)
    renew(alice, "#lobby", bob)
    backups.put_back(backup, *everybody)
    alice.connect()
    alice.say("#lobby", "in the branch of the server")
    settle(alice)
    come_back([bob])
    settle(*everybody)
    bob.say("#lobby", "back")
    settle(*everybody)
    return reads(alice, "#lobby", "back")


SCENES: Final[dict[str, Callable[[Town], bool]]] = {
    "welcome alone": a_welcome_comes_alone,
    "invitation": invited_by_a_friend, "invitation of a stranger": invited_by_a_stranger,
    "invite line": invited_by_a_line, "invitation withdrawn": no_longer_invited,
    "invitation renewed": invited_by_a_friend, "direct request": asked_by_a_stranger,
    "direct by a known key": written_to_by_a_known_key, "lost race": hers_comes_first,
    "lost race to another key": hers_comes_first_under_another_key, "word of a lost race": both_open_at_once,
    "direct beside direct": written_to_after_leaving, "direct under another key": written_to_by_another_key,
    "next commit": follows, "live state": offered_what_he_has, "walk": messages_are_gone,
    "checkpoint": an_owners_checkpoint, "nothing left": nothing_is_left, "invited back": let_in_again,
    "keepsake": on_a_new_computer, "keepsake of an open room": on_a_new_computer_in_the_lobby,
    "old copy": a_vault_of_yesterday, "own commit": a_vault_from_before_a_commit,
    "repair past a commit": past_a_commit, "repair of the history": past_another_history,
    "back after leaving": come_back_after_leaving, "open room past a commit": past_a_commit_in_the_lobby,
    "behind us": the_server_is_behind, "same name": invited_to_a_second, "same open name": offered_a_second,
    "open room": enter_the_lobby, "open room after a gap": away_from_the_lobby,
    "open room of a restored server": the_lobby_of_a_restored_server,
}  # fmt: skip
"""By the row's name."""
