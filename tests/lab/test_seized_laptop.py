"""Exercise 8: what copied keys open, from vaults that have kept old ones, and from one that has not."""

from pathlib import Path

import pytest

from securechat_lab.exercises import seized_laptop as exercise
from securechat_lab.kit.asked import Asked
from securechat_lab.kit.review import STRONG
from securechat_lab.kit.sandbox import Student, StudentError
from securechat_lab.kit.seeds import Seed
from securechat_lab.kit.task import HandIn
from tests.lab.proofs import missed, points, runs_alone, seeds

ATTACK = """
def steal(keys, log):
    steps, known = [], [(each["id"], each["epoch"]) for each in keys]
    number = len(known)
    for state, epoch in known:
        for entry in log:
            if entry["epoch"] == epoch:
                if entry["kind"] == "message":
                    steps.append(["read", state, entry["seq"]])
                else:
                    steps.append(["follow", state, entry["seq"]])
                    known.append((number, epoch + 1))
                    number += 1
    return steps

def which():
    return "%s"
"""

DEFENCE = """
def delete(keys):
    newest = max(keys, key=lambda each: (each["epoch"], each["used"]))
    return [each["id"] for each in keys if each != newest]

def renew(said, days, limits):
    return said >= limits["messages"] or days >= limits["days"]
"""


def reference(student: str = "ann") -> HandIn:
    return HandIn(ATTACK % exercise.variant(seeds(8, student)[0]), DEFENCE, "bob")


CHECK = """
def sound(seen):
    return not any(each["read"] and each["seq"] <= seen["theft"] for each in seen["log"])
"""


def played(kind: str, seed: Seed | None = None) -> exercise.Scene:
    return exercise.seized(seed or seeds(8, "ann")[1], kind)


def modelled(scene: exercise.Scene, kind: str) -> set[int]:
    """What the handout says that can be read: by epochs, and by who commits."""
    (newest,) = [each.epoch for each in scene.stolen[-1:]]
    readable = {each.seq for each in scene.log if each.epoch == newest and each.seq in scene.after}
    begins = {"ratchets": [newest], "backup": [2], "epochs": [], STRONG: []}[kind]
    if kind == "epochs":
        begins = [each.epoch + 1 for each in scene.log if each.kind == "commit" and each.sender == "alice"]
        begins = [each for each in begins if each <= newest]
    for at in [*begins, newest + 1]:
        readable |= {each.seq for each in scene.log if each.epoch == at}
    if kind == "backup":  # alice's commit leads from the second epoch into the third
        readable |= {each.seq for each in scene.log if each.epoch == 3}
    return {each.seq for each in scene.log if each.kind == "message" and each.seq in readable}


def test_the_reference_gets_every_point() -> None:
    found = points(8, reference())
    assert len(found) == 10
    assert not missed(found)


@pytest.mark.parametrize("kind", [STRONG, *exercise.WEAK])
def test_what_a_vault_keeps_decides_what_is_read_of_before_and_a_commit_of_ones_own_what_of_after(kind: str) -> None:
    scene = played(kind)
    assert exercise.readable(scene) == modelled(scene, kind)
    assert bool(exercise.readable(scene) - scene.after) == (kind != STRONG)
    assert (scene.goes_on, scene.renewals) == ("it goes on", 2)
    healed = [each.seq for each in scene.log if each.epoch == scene.log[-1].epoch]
    assert not exercise.readable(scene) & set(healed)


def test_a_vault_that_keeps_something_holds_what_is_left_of_one_that_keeps_everything() -> None:
    seed = seeds(8, "ann")[1]
    live = exercise.play(seed, exercise.WEAK["epochs"], exercise.script(seed).messages)
    assert [each.told for each in live.stolen] == [each.told for each in played("epochs").stolen]
    assert exercise.readable(live) == exercise.readable(played("epochs"))
    assert [each.told for each in live.log] == [each.told for each in played("epochs").log]
    said = [who for who in exercise.script(seed).lines if who]
    assert [each.sender for each in live.log if each.kind == "message"] == said  # and nothing goes by the clock


@pytest.mark.parametrize("kind", exercise.WEAK)
def test_each_way_to_keep_old_states_keeps_the_newest_and_others(kind: str) -> None:
    places = [(2, 0), (2, 1), (3, 0), (3, 1), (4, 0), (4, 1), (4, 2)]
    states: list[exercise.State] = []
    for number, (epoch, used) in enumerate(places):
        states.append(exercise.State(number, epoch, used, b"", b""))
        gone = exercise.WEAK[kind](states)
        states = [each for each in states if each.id not in gone]
        assert states[-1].id == number
    kept = {"ratchets": [(4, 0), (4, 2)], "epochs": [(2, 1), (3, 1), (4, 2)], "backup": [(2, 0), (4, 2)]}[kind]
    assert [(each.epoch, each.used) for each in states] == kept


GOES_ON, PAST = "defence: bob's program is started again, and goes on", "defence: what copied keys open of before"
FUTURE, OFTEN = "defence: what they open of what comes", "defence: how often bob renews his path"
DAY = "defence: when he renews it without a word"
NEVER = DEFENCE.replace("return said", "return False and said")
CHEATS = {
    "deletes everything": (
        DEFENCE.replace(" if each != newest", ""), {GOES_ON, PAST, FUTURE},
    ),
    "deletes former epochs alone": (
        DEFENCE.replace("each != newest", 'each["epoch"] < newest["epoch"]'), {GOES_ON, PAST},
    ),
    "deletes within the epoch alone": (
        DEFENCE.replace("each != newest", 'each != newest and each["epoch"] == newest["epoch"]'), {GOES_ON, PAST},
    ),
    "renews after each message": (DEFENCE.replace('limits["messages"]', "1"), {FUTURE, OFTEN, DAY}),
    "renews one too late": (DEFENCE.replace("said >=", "said >"), {FUTURE, OFTEN, DAY}),
    "renews always": (DEFENCE.replace("return said", "return True or said"), {GOES_ON, PAST, FUTURE, OFTEN, DAY}),
}  # fmt: skip


@pytest.mark.parametrize(("defence", "misses"), CHEATS.values(), ids=CHEATS)
def test_a_defence_that(defence: str, misses: set[str]) -> None:
    assert set(missed(points(8, HandIn("def", defence)), "defence")) == misses


@pytest.mark.parametrize(("defence", "told"), [
    ("def delete(keys:", "defence.py cannot be loaded, line 1"),
    (NEVER.replace("return False and said", "return 1 or said"), "renew() returned 1"),
], ids=["cannot be loaded", "gives no verdict"])  # fmt: skip
def test_each_point_of_a_defence_that_was_not_played_says_why(defence: str, told: str) -> None:
    reasons = missed(points(8, HandIn("def", defence)), "defence")
    assert reasons.keys() == {GOES_ON, PAST, FUTURE, OFTEN, DAY}
    assert all(told in reason for reason in reasons.values())


def test_who_tries_too_much_is_told_how_much_that_is() -> None:
    many = f"def steal(keys, log): return [['read', 0, 6]] * {exercise.MAX_STEPS + 1}"
    with HandIn(many, "").loaded("attack") as ask, pytest.raises(StudentError, match="2,001 steps, and no more"):
        exercise.attack(ask, played("backup"))
    assert f"{exercise.MAX_STEPS:,} are tried" in " ".join(exercise.TASK.attack.split())


ATTACKS = {
    "follows nothing": ATTACK.replace('steps.append(["follow"', 'steps.append(["read"'),
    "has the newest keys alone": ATTACK.replace("in keys]", "in keys[-1:]]").replace("len(known)", "len(keys)"),
    "reads what is not there": "def steal(keys, log): return [['read', 99, 1], ['follow', 0, 10**9], ['read', -1, -1]]",
    "answers something else": "def steal(keys, log): return ['read']",
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_that(attack: str) -> None:
    with HandIn(attack, "").loaded("attack") as ask:
        own = exercise.variant(seeds(8, "ann")[0])
        scene = played(own, seeds(8, "ann")[0])
        try:
            seen = exercise.attack(ask, scene)
        except StudentError as error:
            seen = str(error)
    assert seen != exercise.words(exercise.readable(scene))


def test_two_students_differ_and_the_answers_of_one_fail_with_the_other() -> None:
    students = [seeds(8, f"s{number}")[0] for number in range(30)]
    assert {exercise.variant(each) for each in students} == exercise.WEAK.keys()
    assert len({exercise.script(each) for each in students}) > 15
    seed, unseen = seeds(8, "ann")
    own, other = exercise.variant(seed), exercise.unseen_variant(seed, unseen)
    fixed = exercise.best(played(own, seed))
    assert exercise.carry_out(played(other), fixed) != exercise.readable(played(other))


def test_a_student_gets_what_was_stolen(tmp_path: Path) -> None:
    seed = seeds(8, "ann")[0]
    exercise.prepare(seed, tmp_path)
    assert '"kind": "commit"' in (tmp_path / exercise.STOLEN).read_text()
    assert runs_alone(exercise.TASK.attack, tmp_path) == ""
    assert "follow" in runs_alone(ATTACK + "".join(exercise.TASK.attack.partition("\nif __name__")[1:]), tmp_path)


@pytest.mark.parametrize("answer", ["5", "['a']", "[True]", "1 / 0"])
def test_a_verdict_that_is_none_deletes_nothing_and_is_told(answer: str) -> None:
    with Student("defence.py", f"def delete(keys): return {answer}") as student:
        asked = Asked(student)
        assert exercise.deleted(asked, seeds(8, "ann")[0], [exercise.State(0, 2, 0, b"", b"")]) == set()
    assert isinstance(asked.failure, StudentError)
