"""Exercise 9: what hashes of a stolen table cost, how many guesses a server takes, and what its work tells."""

from collections import Counter
from pathlib import Path
from typing import Any

import argon2
import pytest

from securechat.server.accounts.passwords import PasswordWorkers
from securechat.transport.tls import client_context
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import WireClient
from securechat_lab.exercises import stolen_table as exercise
from securechat_lab.kit.stage import Stage
from securechat_lab.kit.task import HandIn
from tests.lab.proofs import missed, points, runs_alone, seeds

ATTACK = """
def guesses(person):
    words, year = person["words"], person["year"] % 100
    likely = [f"{word}{year:02}" for word in words] + [word.capitalize() + "!" for word in words]
    likely += [f"{one}-{other}" for one in words for other in words if one != other]
    likely += [word.translate(str.maketrans("aeios", "43105")) for word in words]
    return likely + [f"{word}{number:02}" for word in words for number in range(100) if number != year]

def members(work):
    most = max(spent for _, spent in work)
    return [name for name, spent in work if spent == most] if any(spent < most for _, spent in work) else []
"""

DEFENCE = """
def cost(memory, at_once, most):
    passes = -(-most // (memory // at_once))
    return [most // passes, passes]

def wait(attempt):
    return 0 if attempt["failures"] < 10 else 86400 / (attempt["limit"] - 10)

def compare(stored, nobody):
    return [stored or nobody]
"""

CHECK = """
def sound(seen):
    costs = [memory * passes for _, memory, passes in seen["table"]]
    taken = sum(taken for _, taken in seen["attempts"])
    return min(costs) >= 46 << 10 and len({spent for _, spent in seen["logins"]}) == 1 and taken < 60
"""


def test_the_reference_gets_every_point() -> None:
    found = points(9, HandIn(ATTACK, DEFENCE, "0", check=CHECK))
    assert len([point for point in found if not point.startswith(("claims", "check"))]) == 16
    assert {point for point in missed(found) if not point.startswith("claims")} == set()


MINE, OTHER = "attack: passwords in your table", "attack: in one that you have not seen"
PAID = "attack: as many as the budget pays at the real price"
ONLINE, SLOW = "attack: somebody's account, online", "attack: the real server slows you down"
NOTHING, OLD = (f"attack: who has an account, by {name}" for name in exercise.LOOK_UPS)
SILENT = "attack: the real server does not tell"
ALL = {MINE, OTHER, PAID, ONLINE, SLOW, NOTHING, OLD, SILENT}
UNLIKELY = ATTACK.replace("return likely + [", "return [").replace("!= year]", "!= year] + likely")
ATTACKS = {
    "tries what is likely alone": (ATTACK.replace("return likely +", "return likely or"), "fast"),
    "begins with what is unlikely": (UNLIKELY, "slower"),
    "tries what everybody uses": ("def guesses(person): return ['123456', 'password'] * 500\n", ALL),
    "sees the plain difference alone": (
        ATTACK.replace("spent == most", "spent").replace("spent < most", "not spent"), {OLD},
    ),
    "says everybody": (ATTACK.replace("if spent == most]", "]"), {NOTHING, OLD, SILENT}),
    "knows everybody": (ATTACK.replace(" if any(spent < most for _, spent in work) else []", ""), {SILENT}),
    "gives too many": ("def guesses(person): return ['a'] * 2049\n", ALL),
}  # fmt: skip


@pytest.mark.parametrize(("attack", "misses"), ATTACKS.values(), ids=ATTACKS)
def test_an_attack_that(attack: str, misses: Any) -> None:
    found = set(missed(points(9, HandIn(attack, "def")), "attack"))
    if isinstance(misses, str):  # of two tables, the one that costs as much
        own = exercise.variant(seeds(9, "ann")[0]) == misses
        online = {ONLINE, SLOW} if misses == "slower" else set()
        misses = ({MINE, PAID} if own else {OTHER}) | online
    assert found == misses


WITHIN, DEAR = "defence: hashes cost what the machines have", "defence: all that they may cost, in memory first"
REAL = "defence: a real client registers there"
FEW, SOON = "defence: guesses in a day", "defence: how long people wait"
SAME, RIGHT = "defence: what a login costs", "defence: who gets in"
CHEATS = {
    "takes all there is": (DEFENCE.replace("return [most // passes", "return [memory"), {WITHIN, DEAR, REAL}),
    "takes one pass": (DEFENCE.replace("passes = -(-", "passes = 1 or -(-"), {WITHIN, DEAR, REAL}),
    "rounds passes down": (DEFENCE.replace("-(-most", "(most"), {WITHIN, DEAR, REAL}),
    "takes more passes than it needs": (DEFENCE.replace("at_once))\n", "at_once)) + 1\n"), {WITHIN, DEAR, REAL}),
    "takes no number": (DEFENCE.replace("return [most", "return ['most'] or [most"), {WITHIN, DEAR, REAL}),
    "locks out": (DEFENCE.replace('86400 / (attempt["limit"] - 10)', "86400"), {FEW, SOON}),
    "doubles": (DEFENCE.replace('86400 / (attempt["limit"] - 10)', '2 ** min(attempt["failures"], 20)'), {FEW, SOON}),
    "waits a little": (DEFENCE.replace('86400 / (attempt["limit"] - 10)', "5"), {FEW, SOON}),
    "trusts a known place": (DEFENCE.replace("return 0 if", 'return 0 if attempt["known"] or'), {FEW, SOON}),
    "lets nobody err at home": (DEFENCE.replace('attempt["failures"] < 10', "False"), {FEW, SOON}),
    "waits less than nothing": (DEFENCE.replace("return 0 if", "return -1 if"), {FEW, SOON}),
    "compares with nobody alone": (DEFENCE.replace("stored or nobody", "nobody"), {SAME, RIGHT}),
    "compares twice where there is an account": (
        DEFENCE.replace("[stored or nobody]", "[stored, nobody] if stored else [nobody]"), {SAME, RIGHT},
    ),
    "compares with what it was not given": (DEFENCE.replace("[stored or nobody]", "['$argon2id']"), {SAME, RIGHT}),
}  # fmt: skip


@pytest.mark.parametrize(("defence", "misses"), CHEATS.values(), ids=CHEATS)
def test_a_defence_that(defence: str, misses: set[str]) -> None:
    assert set(missed(points(9, HandIn("def", defence)), "defence")) == misses


TOLD = {
    "waits a little too long": (
        DEFENCE.replace("return 0 if", 'return 2.55 if attempt["failures"] < 4 else 0 if'),
        SOON, "seen 10.2 s at home, for 3 mistakes",
    ),
    "waits for no time": (DEFENCE.replace("< 10", ">= 0"), FEW, "seen one more after 0 s, by strangers"),
    "takes no whole number": (DEFENCE.replace("most // passes,", "most / passes,"), WITHIN, "each an int"),
    "rounds passes down": (DEFENCE.replace("-(-most", "(most"), WITHIN, "by cost("),
}


@pytest.mark.parametrize(("defence", "point", "told"), TOLD.values(), ids=TOLD)
def test_it_is_told_what_was_asked_of_a_defence_that(defence: str, point: str, told: str) -> None:
    assert told in missed(points(9, HandIn("def", defence)))[point]


def test_to_compare_twice_for_everybody_is_the_same_work_too() -> None:
    twice = DEFENCE.replace("[stored or nobody]", "[stored or nobody, nobody]")
    assert not missed(points(9, HandIn("def", twice)), "defence")


def test_what_is_counted_as_found_is_found_by_hashing() -> None:
    seed = seeds(9, "ann")[0]
    table = exercise.stolen(seed.text, "fast")
    for each in exercise.people(seed):
        tried = exercise.candidates(each.words, each.year, each.habit) if each.habit < 5 else []
        fitting = [
            text for text in tried
            if exercise._fits(table.hashes[each.account], exercise._secret(text, each.account, table.server_id))
        ]  # fmt: skip
        assert fitting == [each.password] * (each.habit < 5)


def test_a_students_file_runs_alone(tmp_path: Path) -> None:
    assert runs_alone(exercise.TASK.attack, tmp_path) == "0\n"


class Counting:
    """A hasher that counts what the server's own computes."""

    def __init__(self, real: argon2.PasswordHasher) -> None:
        self.real = real
        self.spent = 0

    def verify(self, hashed: str, secret: bytes) -> bool:
        self.spent += exercise.price(hashed)
        return self.real.verify(hashed, secret)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def test_the_real_server_spends_the_same_on_every_name(monkeypatch: pytest.MonkeyPatch) -> None:
    seed, spent = seeds(9, "ann")[0], Counter[int]()
    real = PasswordWorkers._verified

    def verified(workers: PasswordWorkers, name: str, secret: bytes) -> Any:
        counting = Counting(workers._hasher)
        monkeypatch.setattr(workers, "_hasher", counting)
        try:
            return real(workers, name, secret)
        finally:
            monkeypatch.setattr(workers, "_hasher", counting.real)
            spent[counting.spent] += 1

    with Stage() as stage, WireClient(stage.server.port, client_context(stage.ca)) as link:
        names = [each.account for each in exercise.people(seed)]
        for name in names:
            link.ask(m.Register, name, bytes(32))
        monkeypatch.setattr(PasswordWorkers, "_verified", verified)
        for name in (*names, *exercise.STRANGERS):
            assert link.ask(m.Login, name, b"x" * 32, bytes(16)).code == "login-refused"
    assert spent == {8: len(names) + len(exercise.STRANGERS)}


def test_two_students_differ_and_the_answers_of_one_fail_with_the_other() -> None:
    students = [seeds(9, f"s{number}")[0] for number in range(20)]
    assert {exercise.variant(each) for each in students} == exercise.WEAK.keys()
    assert len({tuple(exercise.people(each)) for each in students}) == 20
    bob = {each.account: each.password for each in exercise.people(seeds(9, "bob")[0])}
    fixed = f"def guesses(person): return [{bob!r}.get(person['account'], '')]\n"
    assert {MINE, OTHER, ONLINE} <= set(missed(points(9, HandIn(fixed, "def")), "attack"))
