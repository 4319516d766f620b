"""Exercise 11: four ways past an upgrade to TLS, and the rules that close them."""

import socket

import pytest

from securechat_lab.exercises import strip_upgrade as exercise
from securechat_lab.kit.asked import Asked
from securechat_lab.kit.sandbox import Student, StudentError
from securechat_lab.kit.stage import Actor, Stage
from securechat_lab.kit.task import HandIn, tried
from tests.lab.proofs import missed, points, seeds

ATTACK = """
def relay(attempt, sender, line):
    honest = [["server" if sender == "client" else "client", line]]
    if line != "STARTTLS":
        return [["client", "* hello"]] if line == "* hello, STARTTLS" else honest
    return [[["client", "* what?"]], [["client", "* go ahead"]], honest + [["server", "LOGIN mallory x"]], []][attempt]

def password(seen):
    for who, line in seen:
        if "LOGIN " in line and who != "server" and "mallory x" not in line:
            return line.split()[-1]

def which():
    return "%s"
"""

DEFENCE = """
def client(event, line, rest):
    if event == "greeting":
        return "upgrade"
    if event == "answer" and line == "* go ahead" and not rest:
        return "handshake"
    return "login" if event == "secure" else "leave"

def server(line, rest):
    return line == "STARTTLS" and not rest
"""

CHECK = """
def sound(seen):
    said = [line for talk in seen for who, line in talk["clear"] if who == "client"]
    return not any("LOGIN" in line for line in said + [line for talk in seen for line in talk["room"]])
"""


def reference(student: str = "ann") -> HandIn:
    return HandIn(ATTACK % exercise.variant(seeds(11, student)[0]), DEFENCE, "leave")


def test_the_reference_gets_every_point() -> None:
    found = points(11, reference())
    assert len(found) == 4 + 2 + 1 + len(exercise.LIES) + 1
    assert not missed(found)


@pytest.mark.parametrize("hole", exercise.WEAK)
def test_each_hole_gives_the_password_away_and_people_talk_in_spite_of_it(hole: str) -> None:
    seed, build = seeds(11, "ann")[1], exercise.WEAK[hole]
    with HandIn(ATTACK, "").loaded("attack") as ask:
        assert exercise.attack(ask, seed, build) == "the password was read"
        assert exercise.attack(ask, seed, exercise.STRICT) == "nothing was taken"
    (seen,) = exercise.play(seed, build)
    assert (exercise._talked(seen), seen.words) == (exercise.TALKED, "nothing was taken")


@pytest.mark.parametrize("lie", exercise.LIES)
def test_each_lie_takes_something_from_a_build_that_leaves_all_of_it_out_and_nothing_from_the_strong(lie: str) -> None:
    seed, careless = seeds(11, "ann")[1], HandIn("", exercise.TASK.defence)
    (seen,) = exercise.play(seed, exercise.STRICT, exercise.LIES[lie])
    assert seen.words == "nothing was taken"
    with careless.loaded("defence") as ask:
        assert exercise.defend(ask, seed, exercise.LIES[lie]).words != "nothing was taken"


def test_securechat_says_nothing_in_the_clear() -> None:
    assert exercise.real_thing() == "nothing in the clear"


def test_a_securechat_that_said_something_in_the_clear_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Stage.person

    def talkative(stage: Stage, name: str, *, port: int, ready: bool) -> Actor:
        with socket.create_connection(("127.0.0.1", port)) as link, link.makefile("rb") as heard:
            link.sendall(f"LOGIN {name}\n".encode())
            link.shutdown(socket.SHUT_WR)
            heard.read()
        return real(stage, name, port=port, ready=ready)

    monkeypatch.setattr(Stage, "person", talkative)
    assert exercise.real_thing.__wrapped__() == "something in the clear"


HONEST = "defence: on an honest network people talk, inside TLS"
OFFERED, DENIED, BREAKS, PLANTED, SMUGGLED = LIES = tuple(f"defence: {lie}" for lie in exercise.LIES)
OLD = "defence: a client that logs in in the clear"
COUNTING = """
calls = 0

def count():
    global calls
    calls += 1
    return calls
"""
CHEATS = {
    "refuses everything": ("def client(*_): return 'leave'\ndef server(*_): return False", {HONEST, *LIES, OLD}),
    "takes TLS for granted": ("def client(*_): return 'handshake'\ndef server(*_): return True", {HONEST, *LIES, OLD}),
    "requires and does not bind": (DEFENCE.replace(" and not rest", ""), {PLANTED, SMUGGLED}),
    "leaves all to the server": (exercise.TASK.defence.replace("return True", "return line == 'STARTTLS' and not rest"),
                                 {OFFERED, DENIED, BREAKS, PLANTED}),
    "has an old server": (DEFENCE.replace('line == "STARTTLS" and not rest', "not rest"), {OLD}),
    "tries once more": (DEFENCE.replace('== "secure"', 'in ("secure", "failed")'), {BREAKS}),
    "believes the greeting": (
        DEFENCE.replace('        return "upgrade"', '        return "upgrade" if "STARTTLS" in line else "login"'),
        {OFFERED},
    ),
    "talks once and then never": (
        DEFENCE.replace("def client(event, line, rest):", f"{COUNTING}\ndef client(event, line, rest):\n"
                        "    if count() > 3:\n        return 'leave'"), {*LIES},
    ),
    "answers nothing": ("def client(*_): return None\ndef server(*_): return 1", {HONEST, *LIES, OLD}),
}  # fmt: skip


@pytest.mark.parametrize(("defence", "misses"), CHEATS.values(), ids=CHEATS)
def test_a_defence_that(defence: str, misses: set[str]) -> None:
    assert set(missed(points(11, HandIn("def", defence)), "defence")) == misses


@pytest.mark.parametrize(("source", "told"), [
    (exercise.TASK.attack, "nothing was taken"),
    ("def relay(*_): return []\ndef password(seen): return None", "nothing was taken"),
    ("def relay(*_): return [['client', '* hello']]\ndef password(seen): return 'guess'", "that is not the password"),
    ("def relay(*_): return [['server', 'x'], ['client', 'y']]\ndef password(seen): return None", "nothing was taken"),
    ("def relay(*_): return [['room', 'x']]", "which is no list of up to 8 [to, line]"),
    ("def relay(*_): return [['server', 'x\\n.']]", "which is no list of up to 8 [to, line]"),
    ("def relay(*_): return 1 / 0", "ZeroDivisionError"),
])  # fmt: skip
def test_an_attack_that_relays_something_else_takes_nothing(source: str, told: str) -> None:
    with HandIn(source, "").loaded("attack") as ask:
        seed = seeds(11, "ann")[0]
        assert told in tried("", "", "", lambda: exercise.attack(ask, seed, exercise.WEAK["once-more"])).seen


@pytest.mark.parametrize(("trick", "takes"), [
    ('[["client", "* what?"]]', {"if-offered", "if-granted"}),
    ('[["client", "* go ahead"]]', {"if-offered", "once-more"}),
    ('honest + [["server", "LOGIN mallory x"]]', {"if-offered", "left-over"}),
], ids=["denies", "breaks", "smuggles"])  # fmt: skip
def test_an_attack_on_one_hole_misses_others(trick: str, takes: set[str]) -> None:
    seed = seeds(11, "ann")[1]
    start, end = ATTACK.index("    return [[["), ATTACK.index("\ndef password")
    with HandIn(f"{ATTACK[:start]}    return {trick}\n{ATTACK[end:]}", "").loaded("attack") as ask:
        told = {hole: exercise.attack(ask, seed, build) for hole, build in exercise.WEAK.items()}
    assert {hole for hole, words in told.items() if words == "the password was read"} == takes


def test_that_somebody_leaves_is_not_seen_as_nobody_knows_when_it_is() -> None:
    unseen = seeds(11, "ann")[1]
    rooms = [seen.room for seen in exercise.play(unseen, exercise.STRICT, tries=2)]
    come = [line for line in rooms[1] if line.startswith("* ")]
    assert come == [f"* {exercise.said(unseen).name} has come"]


def test_two_students_differ_and_the_answers_of_one_fail_with_the_other() -> None:
    students = [f"s{number}" for number in range(40)]
    assert {exercise.variant(seeds(11, each)[0]) for each in students} == exercise.WEAK.keys()
    assert len({exercise.said(seeds(11, each)[0]) for each in students}) == 40
    hole = exercise.variant(seeds(11, "ann")[0])
    other = next(each for each in students if exercise.variant(seeds(11, each)[0]) != hole)
    hers = exercise.said(seeds(11, other)[0]).password
    fixed = reference(other).attack.replace("return line.split()[-1]", f"return {hers!r}")
    assert len(missed(points(11, HandIn(fixed, "def")), "attack")) >= 3


@pytest.mark.parametrize("answer", ["'hello'", "None", "1 / 0", "['login']"])
def test_a_verdict_that_is_none_leaves_and_is_told(answer: str) -> None:
    source = f"def client(*_): return {answer}\ndef server(*_): return {answer}"
    with Student("defence.py", source) as student:
        asked = Asked(student)
        build = exercise.by_verdicts(asked)
        assert build.client("greeting", "* hello", b"") == "leave"
        assert build.server("STARTTLS", b"") is False
    assert isinstance(asked.failure, StudentError)
