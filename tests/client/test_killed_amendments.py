"""kill -9 between any two writes of an edit, a deletion and a reaction, at who says them and at who gets them: each is
done whole or not at all, once, and all come to the same. And what was overwritten is gone from the disk."""

from collections.abc import Callable

import pytest

from securechat.client import commands
from securechat.client.query import Query
from tests.client.test_killed_rotation import Killed, killed_at
from tests.client.test_migrations import pages
from tests.support.history import DELETED, View, check_history
from tests.support.people import Person, settle

World = Callable[..., list[Person]]


def come_back(person: Person) -> None:
    """The process was killed; what it had sent before may have arrived."""
    assert person.link is not None
    person.link.close()
    person.link = None
    person.to_server.clear()
    person.crash()
    person.connect()


@pytest.mark.parametrize("who", ["says it", "gets it"])
def test_killed_between_any_two_writes_it_is_done_once_or_not_at_all(people: World, who: str) -> None:
    alice, bob = both = people("alice", "bob")
    for person in both:
        person.do(commands.JoinRoom("#garden"))
        settle(*both)
    dies = alice if who == "says it" else bob
    said: list[str] = []
    became: dict[str, list[str]] = {}
    killed, number, undone = True, 0, 0
    while killed:
        texts = [f"edit me {number}", f"delete me {number}"]
        for text in texts:
            alice.say("#garden", text)
            settle(*both)
        said += texts
        edited, deleted = (line.local_id for line in alice.history("#garden", 2))
        new, killed = f"edited {number}", False
        try:
            with killed_at(dies, number):
                alice.do(commands.Edit(edited, new))
                alice.do(commands.React(edited, "👍"))
                alice.do(commands.Delete(deleted))
                settle(*both)
        except Killed:
            killed = True
            come_back(dies)
        settle(*both)
        after = alice.history("#garden", 2)
        if after[0].text == new:
            became[texts[0]] = [new]
        if after[1].deleted_by:
            became[texts[1]] = [DELETED]
        undone += not after[1].deleted_by
        assert who == "says it" or after[1].deleted_by
        assert len(after[0].reactions) <= 1
        check_history(
            {"alice": said, "bob": []},
            [View(person.name, person.history("#garden", 10_000)) for person in both],
            everything_arrived=True,
            became=became,
        )
        number += 1
        for person in both:  # the index has what the history has, and is whole
            lines = person.vault.all("SELECT local_id FROM messages WHERE deleted_by = '' ORDER BY local_id")
            assert person.vault.all("SELECT rowid FROM search ORDER BY rowid") == lines
            person.vault.run("INSERT INTO search (search) VALUES ('integrity-check')")
            text = person.history("#garden", 2)[0].text
            hits = person.vault.history.search(Query(phrases=(text,)), (), 0, 10)
            assert [each.text for each in hits] == [text]
    assert number > 6, "there was little to be killed between"
    assert (undone > 0) == (who == "says it")  # what was not in the vault when it was killed is forgotten


SECRET = "the vault of the bank opens with 1234-5678 oxymoronically "
WORD = b"moronically"  # its beginning may stand elsewhere in the index


@pytest.mark.parametrize("what", ["edit", "delete"])
@pytest.mark.parametrize("times", [1, 1000], ids=["short", "long"])
def test_what_was_overwritten_is_gone_from_every_disk_once_the_log_is_folded_in(
    people: World, what: str, times: int
) -> None:
    alice, _ = both = people("alice", "bob")
    for person in both:
        person.do(commands.JoinRoom("#garden"))
        settle(*both)
    alice.say("#garden", SECRET * times)
    settle(*both)
    (line,) = alice.history("#garden", 1)

    def holds_it(person: Person) -> bool:
        whole = b"".join(pages(person.path))
        found = [each in whole for each in (SECRET[:20].encode(), WORD)]
        assert len(set(found)) == 1
        return found[0]

    for person in both:
        assert person.vault.fold()
        assert holds_it(person)  # the search finds it where it is
    alice.do(commands.Edit(line.local_id, "sorry") if what == "edit" else commands.Delete(line.local_id))
    settle(*both)
    for person in both:
        assert person.vault.fold()
        assert not holds_it(person)
