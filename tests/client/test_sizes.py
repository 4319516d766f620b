"""What the size of a message tells of its text: whoever sees sizes, as the server does, guesses which phrase it was."""

from collections import Counter
from collections.abc import Callable
from fractions import Fraction

import pytest

from securechat.client import commands
from securechat.client.parts import Parts
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, settle

PHRASES = (
    "no",
    "yes",
    "I love you",
    "not tonight",
    "call me back, please",
    "the test was positive",
    "they have offered me the job in Rome",
    "do not come home, the police are here and ask for you",
)
"""Eight that are equally likely. Each is said in every place of a log whose encoding has another length."""


def without_floor(length: int) -> int:
    """Padmé alone (PURBs, section 4.2): what was used before there was a floor."""
    exponent = length.bit_length() - 1
    return -length & ((1 << (exponent - exponent.bit_length())) - 1)


def right_guesses(people: Callable[..., list[Person]], server: MemoryServer) -> Fraction:
    """How many of the best guesses from the sizes at the server alone are right."""
    alice, bob = people("alice", "bob")
    alice.do(commands.OpenDirect("bob", "hello", ask=False))
    settle(alice, bob)
    bob.accept("alice")
    settle(alice, bob)
    seen: Counter[tuple[int, str]] = Counter()
    for n in range(160):  # over seq 128, from which on msgpack takes another byte for it
        phrase = PHRASES[n % len(PHRASES)]
        alice.say("bob", phrase)
        settle(alice, bob)
        messages = [each for each in server.entries(alice.id_of("bob")) if not each.group_info]  # commits are known
        seen[len(messages[-1].payload), phrase] += 1
    best: dict[int, int] = {}
    for (size, _), times in seen.items():
        best[size] = max(best.get(size, 0), times)
    return Fraction(sum(best.values()), seen.total())


def test_sizes_tell_no_more_of_eight_phrases_than_chance(
    people: Callable[..., list[Person]], server: MemoryServer
) -> None:
    assert right_guesses(people, server) == Fraction(1, 8)


def test_without_the_floor_sizes_tell_most_of_them(
    people: Callable[..., list[Person]], server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Person, "parts", Parts(padding=without_floor))
    assert right_guesses(people, server) > Fraction(1, 2)
