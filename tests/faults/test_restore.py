"""A server that was restored from a backup: clients know more than it does, and go on all the same."""

from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from securechat import cli
from securechat.client import commands, events
from tests.adversary.scenes import direct, happened, lobby, members, say
from tests.support.live import LiveClient, LiveServer


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


def unknown_in(client: LiveClient, name: str) -> None:
    """Wait until a client is told that the server does not know it in a conversation, and leave that."""
    conversation = client.id_of(name)
    denied = (conversation, "not-found")
    client.wait_for(events.OutOfStep, lambda event: (event.conversation, event.what) == denied)
    assert isinstance(client.answer(commands.Leave(conversation)), events.Done)


def behind(client: LiveClient) -> list[tuple[str, int]]:
    """Where the server is behind a client, and by how much."""
    told = (event for event in client.happened if isinstance(event, events.OutOfStep))
    return [(event.what, event.count) for event in told if event.what != "not-found"]


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
    say(alice, "bob", "since", bob)
    carol.do(commands.JoinRoom("#lobby"))
    for person in (alice, bob, carol):
        person.wait_until(lambda person=person: "carol" in members(person, "#lobby"))  # type: ignore[misc]  # bound now
    restore(server, backup)

    # The server knows nothing of what was begun since then.
    unknown_in(carol, "bob")
    unknown_in(carol, "#lobby")
    unknown_in(bob, "carol")
    carol.do(commands.OpenDirect("bob", "anew", ask=False))
    bob.read("carol", "carol: anew")
    say(bob, "carol", "at last", carol)
    assert alarms(carol) == []

    # Where messages alone are lost both go on behind the gap.
    say(alice, "bob", "once more", bob)
    say(bob, "alice", "and back", alice)
    for person in (alice, bob):
        assert "alice: since" in person.texts("alice" if person is bob else "bob")

    # An open room is the server's: whoever knew of carol's joining has entered it anew, and so does she.
    for person in (alice, bob):
        person.wait_until(lambda person=person: bool(behind(person)))  # type: ignore[misc]  # bound now
        assert [what for what, _ in behind(person)] == ["ahead"]
    carol.do(commands.JoinRoom("#lobby"))
    for person in (alice, bob, carol):
        person.wait_until(lambda person=person: len(members(person, "#lobby")) == 3)  # type: ignore[misc]  # bound now
    say(alice, "#lobby", "here again", bob)
    carol.read("#lobby", "alice: here again")
    assert alarms(alice) == alarms(bob) == []
