"""Exercise 14: four holes by which one person keeps many out, and the limits and queues that let everybody in."""

import random

import pytest

from securechat.server.admission.newcomers import Newcomers
from securechat.server.sequencer.seats import WaitingRoom
from securechat_lab.exercises import fill_room as exercise
from securechat_lab.kit.sandbox import Student, StudentError
from securechat_lab.kit.task import HandIn, tried
from tests.lab.proofs import missed, points, seeds

ATTACK = """
def where(mine, place):
    return [each["id"] for each in mine if each["where"] == place]

def enter(mine):
    return [["login", each] for each in where(mine, "hall")] + [["connect"]] * (8 - len(mine))

def act(hole, second, mine):
    hall, queue, seats = (where(mine, place) for place in ("hall", "queue", "seat"))
    if hole == "full":
        actions = [["connect"]] * (16 - len(hall))
        for each in mine:
            if each["age"] >= 4:
                actions += [["leave", each["id"]], ["connect"]]
        return actions[:24]
    if hole == "jump":
        if hall:
            return [["login", each] for each in hall]
        return [["leave", each] for each in queue[:2] if len(mine) > 6] + [["connect"]] * 2
    what = "byte" if hole == "slow" else "line"
    return (enter(mine) + [[what, each] for each in seats] * 24)[:24]
"""

DEFENCE = """
from collections import Counter

def gives_way(hall, address):
    crowd = Counter(address for address, age in hall).most_common(1)[0][0]
    return [address for address, age in hall].index(crowd)

def stays(age, silence):
    return age <= 8

def next_line(waiting, said):
    return min(range(len(waiting)), key=lambda n: said.get(waiting[n][0], 0))

def next_seat(queue, seated):
    return next((n for n, each in enumerate(queue) if seated.count(each[1]) < 4), -1)
"""

CHECK = """
def sound(seen):
    return all(each["heard"] == each["came"] for each in seen)
"""


def test_the_reference_gets_every_point() -> None:
    found = points(14, HandIn(ATTACK, DEFENCE, "4"))
    assert len(found) == 3 + 2 + 1 + len(exercise.ATTACKS) + 1
    assert not missed(found)


@pytest.mark.parametrize("hole", exercise.WEAK)
def test_by_each_hole_people_are_kept_out_and_not_where_nobody_attacks(hole: str) -> None:
    weak, attack = exercise.WEAK[hole], exercise.ATTACKS[hole]
    for student in ("ann", "bob"):
        seed = seeds(14, student)[1]
        assert exercise.play(seed, weak, attack).words == exercise.KEPT
        assert exercise.play(seed, weak, exercise.nobody).words == exercise.HEARD


@pytest.mark.parametrize("attack", exercise.ATTACKS)
def test_a_strong_room_hears_everybody(attack: str) -> None:
    for student in ("ann", "bob"):
        seen = exercise.play(seeds(14, student)[1], exercise.FAIR, exercise.ATTACKS[attack])
        assert (seen.words, seen.share) == (exercise.HEARD, exercise.WITHIN)


def test_at_a_real_server_people_talk_meanwhile() -> None:
    assert exercise.real_thing() == "3 of 3 lines were read"


def test_lines_that_did_not_come_would_be_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exercise, "say", lambda *_: None)
    assert exercise.real_thing.__wrapped__() == "0 of 3 lines were read"


def test_who_gives_way_is_whom_the_real_server_chooses() -> None:
    chance, real, hall = random.Random(14), Newcomers[tuple[str, int]](6, 6), list[tuple[str, int]]()
    for number in range(500):
        home = chance.choice("aaab")
        expected = None
        if len(hall) == 6:
            expected = hall[exercise.of_the_largest_crowd([(address, 0) for address, _ in hall], home)]
            hall.remove(expected)
        hall.append((home, number))
        leaving = real.enter(home, (home, number))
        if leaving != expected:  # of crowds of one size, either
            assert leaving is not None
            assert expected is not None
            homes = [address for address, _ in hall[:-1]]
            assert homes.count(leaving[0]) == homes.count(expected[0]) + 1
            hall[hall.index(leaving)] = expected
            hall.sort(key=lambda each: each[1])


def test_who_gets_a_seat_is_whom_the_real_server_seats() -> None:
    chance, told = random.Random(14), list[str]()
    real = WaitingRoom(exercise.SEATS, exercise.SHARE, lambda account, place: None if place else told.append(account))
    homes, queue, seated = dict[str, str](), list[str](), list[str]()

    def seat() -> list[str]:
        new: list[str] = []
        while queue and len(seated) < exercise.SEATS:
            waiting = [(each, homes[each], 0) for each in queue]
            if (who := exercise.who_came_first(waiting, [homes[each] for each in seated])) < 0:
                break
            new.append(queue[who])
            seated.append(queue.pop(who))
        return new

    for number in range(500):
        told.clear()
        if seated and chance.random() < 0.5:
            gone = seated.pop(chance.randrange(len(seated)))
            real.leave(gone, 0.0, keep=False)
            assert told == seat()
        else:
            name = f"p{number}"
            homes[name] = chance.choice("aaaab")
            queue.append(name)
            assert (real.enter(name, homes[name]) == 0) == (name in seat())


CALM = "defence: where nobody attacks"
FULL, SLOW, FLOOD, JUMP, IN_TURN = (f"defence: {name}" for name in exercise.ATTACKS)
SHARE = "defence: seats of one address"
ALL = {CALM, FULL, SLOW, FLOOD, JUMP, IN_TURN, SHARE}


def without(function: str, instead: str) -> str:
    """The reference, with one function replaced."""
    return f"{DEFENCE}\n{instead}\nassert {function}\n"


CHEATS = {
    "refuses everything": (
        "def stays(*_): return False\ndef gives_way(*_): return -1\nnext_seat, next_line = gives_way, gives_way", ALL,
    ),
    "turns newcomers away": (without("gives_way", "def gives_way(hall, address): return -1"), {FULL}),
    "lets the oldest go": (without("gives_way", "def gives_way(hall, address): return 0"), {FULL}),
    "waits for ever": (without("stays", "def stays(age, silence): return True"), {SLOW, FLOOD, JUMP, IN_TURN}),
    "counts silence": (without("stays", "def stays(age, silence): return silence <= 8"), {SLOW, FLOOD}),
    "is in a hurry": (without("stays", "def stays(age, silence): return age <= 2"), ALL),
    "lets the newest line be next": (
        without("next_line", "def next_line(waiting, said): return len(waiting) - 1"), {FLOOD, IN_TURN},
    ),
    "goes by arrival alone": (without("next_seat", "def next_seat(queue, seated): return 0"), {SHARE}),
    "goes by the last alone": (
        without("next_seat", "def next_seat(queue, seated): return len(queue) - 1"), {SLOW, JUMP, IN_TURN, SHARE},
    ),
    "answers no index": ("def gives_way(*_): return 99\ndef stays(*_): return 1\ndef next_line(*_): return None", ALL),
}  # fmt: skip


@pytest.mark.parametrize(("defence", "misses"), CHEATS.values(), ids=CHEATS)
def test_a_defence_that(defence: str, misses: set[str]) -> None:
    assert set(missed(points(14, HandIn("def", defence)), "defence")) == misses


@pytest.mark.parametrize(("source", "told"), [
    (exercise.TASK.attack, exercise.HEARD),
    ("def act(*_): return [['connect']] * 25", "which is no list of 24 actions or fewer"),
    ("def act(*_): return [['line', 5]]", "which is no action, or with no connection of yours"),
    ("def act(*_): return [['shout']]", "which is no action, or with no connection of yours"),
    ("def act(*_): return None", "which is no list of 24 actions or fewer"),
    ("def act(hole, second, mine): return mine[second]", "IndexError"),
])  # fmt: skip
def test_an_attack_that_does_something_else_is_told(source: str, told: str) -> None:
    with HandIn(source, "").loaded("attack") as ask:
        seed, weak = seeds(14, "ann")[0], exercise.WEAK["full"]
        assert told in tried("", "", "", lambda: exercise.attack(ask, seed, "full", weak)).seen


@pytest.mark.parametrize(("hole", "other"), [("full", "slow"), ("slow", "full"), ("flood", "full"), ("jump", "full")])
def test_an_attack_on_one_hole_misses_others(hole: str, other: str) -> None:
    fixed = ATTACK.replace("def act(hole, second, mine):", f"def act(_, second, mine):\n    hole = {hole!r}")
    seed = seeds(14, "ann")[1]
    with HandIn(fixed, "").loaded("attack") as ask:
        assert exercise.attack(ask, seed, hole, exercise.WEAK[hole]) == exercise.KEPT
        assert exercise.attack(ask, seed, other, exercise.WEAK[other]) == exercise.HEARD


@pytest.mark.parametrize("build", exercise.WEAK)
def test_what_holds_of_a_room_does_not_depend_on_who_comes(build: str) -> None:
    rooms = [exercise.REVIEW.seen(build, seeds(14, f"s{number}")[0]) for number in range(10)]
    measured = [claim.holds for claim in exercise.REVIEW.claims if claim.holds is not None]
    assert len({tuple(holds(seen) for holds in measured) for seen in rooms}) == 1


def test_two_students_differ_and_an_attack_for_the_hole_of_one_misses_the_other() -> None:
    students = [f"s{number}" for number in range(40)]
    assert {exercise.hole(seeds(14, each)[0]) for each in students} == exercise.WEAK.keys()
    assert len({str(exercise.guests(seeds(14, each)[0])) for each in students}) == 40
    own = exercise.hole(seeds(14, "ann")[0])
    fixed = ATTACK.replace("def act(hole, second, mine):", f"def act(_, second, mine):\n    hole = {own!r}")
    assert [point for point in missed(points(14, HandIn(fixed, "def"))) if "another one" in point]


@pytest.mark.parametrize("answer", ["99", "None", "'0'", "True", "-2", "1 / 0"])
def test_a_verdict_that_is_none_is_told(answer: str) -> None:
    names = ("gives_way", "next_line", "next_seat")
    source = "\n".join(f"def {name}(*_): return {answer}" for name in (*names, "stays"))
    with Student("defence.py", source) as student:
        rules = exercise.by_verdicts(student)
        for ask in (rules.gives_way, rules.next_line, rules.next_seat):
            with pytest.raises(StudentError):
                ask([("a", "b", 1)], [])  # type: ignore[list-item,arg-type]  # whichever
        if answer != "True":
            with pytest.raises(StudentError):
                rules.stays(1, 1)
