"""Of what one person changes a few things are told one by one, and of the rest how many there were."""

from math import inf

from securechat.ui.view.flood import AT_ONCE, MAX_REMEMBERED, WITHIN_SECONDS, Flood

BOB, CAROL = (b"r" * 32, "bob"), (b"r" * 32, "carol")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_few_changes_are_told_and_of_a_thousand_how_many_more_there_were() -> None:
    clock = Clock()
    flood = Flood(clock)
    assert sum(flood.shows(BOB) for _ in range(1000)) == AT_ONCE
    assert flood.shows(CAROL)  # the twin: somebody else
    assert (flood.due, flood.rest()) == (clock.now + WITHIN_SECONDS, {})
    clock.now += WITHIN_SECONDS
    assert not flood.shows(BOB)  # before the rest was told
    assert flood.rest() == {BOB: 1001 - AT_ONCE}
    assert (flood.due, flood.rest()) == (inf, {})
    assert flood.shows(BOB)


def test_who_changes_little_is_told_each_time() -> None:
    clock = Clock()
    flood = Flood(clock)
    for _ in range(10 * AT_ONCE):
        assert flood.shows(BOB)
        clock.now += WITHIN_SECONDS / AT_ONCE
    assert flood.due == inf


def test_of_few_people_it_is_remembered_what_they_have_changed() -> None:
    clock = Clock()
    flood = Flood(clock)
    assert not all(flood.shows(BOB) for _ in range(AT_ONCE + 1))
    for number in range(10 * MAX_REMEMBERED):
        assert flood.shows((bytes(32), f"user {number}"))
        clock.now += WITHIN_SECONDS / 100
    assert len(flood._changes) <= MAX_REMEMBERED + 1
    assert flood.rest() == {BOB: 1}  # which stays until it is told
