"""Processes that are suspended (SIGSTOP, a closed laptop) and go on as if nothing had happened."""

import signal
from collections.abc import Callable

from tests.support.live import LiveServer
from tests.support.talker_process import Talker, close_and_look, gather, say_last_words

Talkers = Callable[..., list[Talker]]


def test_a_client_that_stands_still_holds_up_nobody_and_misses_nothing(server: LiveServer, talkers: Talkers) -> None:
    people = talkers(server, "alice", "bob", "carol")
    alice, bob, carol = people
    gather(people)
    carol.signal(signal.SIGSTOP)
    for number in range(200):
        alice.tell("say", "#lobby", f"while carol stands still {number}")
    bob.wait_for("Received while carol stands still 199")
    carol.signal(signal.SIGCONT)
    carol.wait_for("Received while carol stands still 199")
    say_last_words(people)
    close_and_look(server, people)


def test_a_server_that_stands_still_loses_nothing_of_what_was_said_meanwhile(
    server: LiveServer, talkers: Talkers
) -> None:
    people = talkers(server, "alice", "bob", "carol")
    gather(people)
    server.signal(signal.SIGSTOP)
    for number in range(50):
        for talker in people:
            talker.tell("say", "#lobby", f"{talker.name} {number} while the server stands still")
    for talker in people:
        talker.wait_until_queued("#lobby", f"{talker.name} 49 while the server stands still")
        assert not any(seen.startswith("Delivered") for seen in talker.events)
    server.signal(signal.SIGCONT)
    say_last_words(people)
    close_and_look(server, people)
