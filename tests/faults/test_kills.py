"""kill -9 of the server and of clients under traffic: what was accepted is there once, in order, and readable."""

import random
from collections.abc import Callable

from tests.support.live import LiveServer
from tests.support.talker_process import Talker, close_and_look, gather, say_last_words, talk_and_kill

KILLS = 12
"""`scripts/soak kills` does 500."""


def test_killed_at_any_moment_nothing_is_lost_doubled_or_unreadable(
    server: LiveServer, talkers: Callable[..., list[Talker]]
) -> None:
    people = talkers(server, "alice", "bob", "carol")
    gather(people)
    chance = random.Random(20)
    talk_and_kill(people, chance.choices([server, *people], k=KILLS), chance)
    say_last_words(people)
    assert close_and_look(server, people) > 100, "too little was said for this test to mean much"
