"""A server that was restored from a backup: clients know more than it does, and go on all the same."""

from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from securechat import cli
from securechat.client import commands, events
from securechat_lab.cast.live import LiveClient
from securechat_lab.cast.scenes import direct, happened, lobby, members, say
from tests.support.live import LiveServer


def admin(server: LiveServer, *arguments: str) -> None:
    """Run `securechat admin` on the server's data folder."""
    result = CliRunner().invoke(cli.main, ["admin", "--data", str(server.folder / "data"), *arguments])
    assert result.exit_code == 0, result.output


def restore(server: LiveServer, backup: Path) -> None:
    """Restore the data folder, as the handbook says."""
    assert server.stop() == 0
    (server.folder / "data").rename(server.folder / "data.old")
    admin(server, "restore", str(backup))
    server.start()


def denied(client: LiveClient, conversation: bytes) -> None:
    """Wait until a client is told that the server does not know it in a conversation."""
    told = (conversation, "not-found")
    client.wait_for(events.OutOfStep, lambda event: (event.conversation, event.what) == told)


def behind(client: LiveClient) -> list[bytes]:
    """The conversations in which a client was told that the server is behind it."""
    return [event.conversation for event in happened(client, events.OutOfStep, lambda event: event.what == "ahead")]


def alarms(client: LiveClient) -> list[str]:
    return [event.text.partition(".")[0] for event in happened(client, events.Alarm)]


def test_after_a_restore_conversations_are_begun_anew_or_repaired_and_nothing_is_missed_silently(
    server: LiveServer, clients: Callable[..., list[LiveClient]], tmp_path: Path
) -> None:
    alice, bob, carol = clients(server, "alice", "bob", "carol")
    direct(alice, bob)
    lobby(alice, bob)
    backup = tmp_path / "backup.tar"
    admin(server, "backup", str(backup))
    direct(carol, bob)  # takes a key package of bob's, and the second place in his inbox
    lost = carol.id_of("bob")
    say(alice, "bob", "since", bob)
    carol.do(commands.JoinRoom("#lobby"))
    for person in (alice, bob, carol):
        person.wait_until(lambda person=person: "carol" in members(person, "#lobby"))  # type: ignore[misc]  # bound now
    restore(server, backup)

    # The server knows nothing of what was begun since then: a private chat goes on in another one by itself.
    denied(carol, lost)
    carol.wait_until(lambda: carol.id_of("bob") != lost)
    say(carol, "bob", "anew", bob)
    say(bob, "carol", "at last", carol)
    assert carol.id_of("bob") == bob.id_of("carol") != lost
    assert alarms(carol) == []

    # Where messages alone are lost both go on behind the gap.
    say(alice, "bob", "once more", bob)
    say(bob, "alice", "and back", alice)
    for person in (alice, bob):
        assert "alice: since" in person.texts("alice" if person is bob else "bob")

    # An open room is the server's: whoever knew of carol's joining has entered it anew, and so does she.
    for person in (alice, bob):
        person.wait_until(lambda person=person: bool(behind(person)))  # type: ignore[misc]  # bound now
        assert behind(person) == [person.id_of("#lobby")]
    denied(carol, carol.id_of("#lobby"))
    assert isinstance(carol.answer(commands.Leave(carol.id_of("#lobby"))), events.Done)
    carol.do(commands.JoinRoom("#lobby"))
    for person in (alice, bob, carol):
        person.wait_until(lambda person=person: len(members(person, "#lobby")) == 3)  # type: ignore[misc]  # bound now
    say(alice, "#lobby", "here again", bob)
    carol.read("#lobby", "alice: here again")
    assert alarms(alice) == alarms(bob) == []
