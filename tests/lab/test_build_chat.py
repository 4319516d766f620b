"""Exercise 15: what clients see of a chat server, and of those that have one fault each."""

import socket

import pytest

from securechat_lab.cast import talkers
from securechat_lab.cast.old_chat import BEHIND, SEATS, OldChat
from securechat_lab.exercises import build_chat as exercise
from securechat_lab.kit.sandbox import SPENT, Patience
from securechat_lab.kit.task import HandIn, tried
from tests.lab.proofs import missed, points, seeds

DEFENCE = """
import queue, socket, threading

changed = threading.Condition()  # guards both lists, and the order in which all are told
seated, waiting = [], []


def tell(text, but):
    for each in seated:
        if each is not but:
            each.tell(text)


class Client:
    def __init__(self, link, seats, behind):
        self.link, self.seats, self.name = link, seats, ""
        self.out = queue.Queue(behind)
        for work in (self.read, self.write):
            threading.Thread(target=work, daemon=True).start()

    def tell(self, text):
        try:
            self.out.put_nowait(text)
        except queue.Full:
            self.cut()

    def cut(self):
        try:
            self.link.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def write(self):
        try:
            while True:
                self.link.sendall(f"{self.out.get()}\\n".encode())
        except OSError:
            pass

    def read(self):
        try:
            with self.link.makefile("r", encoding="utf-8", errors="replace", newline="\\n") as lines:
                word, self.name, _ = lines.readline().split()
                if word == "LOGIN":
                    self.talk(lines)
        except (OSError, ValueError):
            pass
        self.cut()

    def talk(self, lines):
        with changed:
            waiting.append(self)
            if len(seated) >= self.seats:
                self.tell(f"* full: you are number {len(waiting)}")
            changed.wait_for(lambda: len(seated) < self.seats and waiting[0] is self)
            seated.append(waiting.pop(0))
            changed.notify_all()
            self.tell(f"* welcome, {self.name}")
            tell(f"* {self.name} has come", but=self)
        try:
            message = []
            for line in lines:
                if line != ".\\n":
                    message.append(f"{self.name}: {line[:-1]}")
                    continue
                with changed:
                    tell("\\n".join(message), but=self)
                self.tell("* processed, send the next")
                message = []
        finally:
            with changed:
                seated.remove(self)
                tell(f"* {self.name} has left", but=self)
                changed.notify_all()


def serve(listener, seats, behind):
    while True:
        Client(listener.accept()[0], seats, behind)
"""


def play(source: str, point: str, student: str = "ann") -> str:
    """What clients see of a server."""
    own, (scene, _) = seeds(15, student)[0], exercise.SCENES[point]
    return tried("", "", "", lambda: exercise.play(HandIn("", source), scene, own, exercise.seats(own))).seen


def test_the_reference_gets_every_point_and_has_as_many_lines_as_the_handout_says() -> None:
    found = points(15, HandIn("", DEFENCE, "everybody"))
    assert len(found) == len(exercise.SCENES) + 2
    assert not missed(found)
    assert 60 <= len([line for line in DEFENCE.splitlines() if line]) <= 80


@pytest.mark.parametrize("point", exercise.SCENES)
def test_the_chat_of_exercise_0_is_as_this_handout_says(point: str) -> None:
    old = OldChat()
    old._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, exercise.SEND_BUFFER)
    with old, exercise.Chat(old.port, lambda: None, seeds(15, "ann")[0], SEATS, BEHIND) as chat:
        exercise.SCENES[point][0](chat)


PROCESS, NOTICES, SEATED, NEXT, ORDER, CRASH, CAME, AT_ONCE, PIECES, BOTH, DEAF, LATE = exercise.SCENES

NO_LINES = """
class Pieces:
    def __init__(self, link): self.link, self.got = link, []
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def __iter__(self): return self
    def readline(self): return next(self, "")
    def __next__(self):
        if not self.got:
            data = self.link.recv(4096)
            if not data: raise StopIteration
            self.got += %s
        return self.got.pop(0)
"""
MAKEFILE = 'self.link.makefile("r", encoding="utf-8", errors="replace", newline="\\n")'


def pieces(what: str) -> str:
    """A server that takes what comes in one piece for something whole."""
    assert MAKEFILE in DEFENCE
    return NO_LINES % what + DEFENCE.replace(MAKEFILE, "Pieces(self.link)")


def altered(*alterations: tuple[str, str]) -> str:
    """The reference, altered."""
    source = DEFENCE
    for old, new in alterations:
        assert old in source
        source = source.replace(old, new)
    return source


PUT = "self.out.put_nowait(text)"
SEND = 'self.link.sendall(f"{text}\\n".encode())'
KEPT = ("queue.Queue(behind)", "queue.Queue(9)")
UNSEATED = "                seated.remove(self)\n"
READS = "            for line in lines:\n"
TELL = """                with changed:
                    tell("\\n".join(message), but=self)
"""
TORN = """                for each in message:
                    with changed:
                        tell(each, but=self)
                    threading.Event().wait(0.001)
"""
EVERY_END = 'extend(f"{self.name}: {each}" for each in line.splitlines())'
UNLOCKED = """                for each in message:
                    with changed:
                        tell(each, but=self)
"""
NO_LOCK = """                for each in message:
                    tell(each, but=self)
"""
ONE_BY_ONE = """                for each in list(seated):
                    for line in message if each is not self else ():
                        each.tell(line)
"""
ENDS = """
import os
threading.excepthook = lambda *_: os._exit(1)
"""
SAYS = "                tell('\\n'.join(message), but=self)\n"
ANSWERS = "                self.tell('* processed, send the next')\n"
ENTERS = "                changed.notify_all()\n                changed.wait(0.05)\n"


def seats(number: str) -> tuple[str, str]:
    """Another number of seats than was asked for."""
    return 'self.name = link, seats, ""', f'self.name = link, {number}, ""'


FAULTS = {
    "has one seat less": (altered(seats("seats - 1")), SEATED),
    "has no end of seats": (altered(seats("99")), NEXT),
    "tells those who wait": (altered(("for each in seated", "for each in seated + waiting")), NEXT),
    "lets the newest in first": (altered(("waiting[0]", "waiting[-1]"), ("waiting.pop(0)", "waiting.pop()")), ORDER),
    "never lets anybody in": (altered(("changed.notify_all()", "pass")), ORDER),
    "lets the next in before it says who has left": (altered((UNSEATED, UNSEATED + ENTERS)), ORDER),
    "says at each line that it has processed": (altered((READS, READS + ANSWERS)), PROCESS),
    "tells people what they have said": (altered(("(message), but=self", "(message), but=None")), PROCESS),
    "says nothing of who leaves": (altered(('tell(f"* {self.name} has left", but=self)', "pass")), NOTICES),
    "keeps the seat of who crashes": (altered(("        finally:", "        except EOFError:")), CRASH),
    "says what was not ended": (altered((UNSEATED, SAYS + UNSEATED)), CRASH),
    "is ended by a stranger": (altered(("(OSError, ValueError)", "OSError")) + ENDS, CRASH),
    "lets strangers stay": (altered(("            pass\n        self.cut()", "            self.out.join()")), CRASH),
    "takes what comes at once for one line": (pieces("[data.decode()]"), AT_ONCE),
    "takes what comes at once for whole lines": (pieces("data.decode(errors='replace').splitlines(True)"), PIECES),
    "lets in whoever says three words": (altered(('word == "LOGIN"', "word")), CRASH),
    "drops empty lines": (altered((READS, READS + "                if line == '\\n': continue\n")), CAME),
    "strips lines": (altered(("{line[:-1]}", "{line.strip()}")), CAME),
    "strips the ends of lines": (altered(("{line[:-1]}", "{line.rstrip()}")), CAME),
    "takes a dot with blanks for a dot": (altered(('line != ".\\n"', "line.strip() != '.'")), CAME),
    "takes a carriage return for the end of a line": (altered((', newline="\\n"', "")), CAME),
    "takes what Unicode calls one for the end of a line": (
        altered(('append(f"{self.name}: {line[:-1]}")', EVERY_END)), CAME,
    ),
    "has half of what may wait": (altered(("queue.Queue(behind)", "queue.Queue(behind // 2)")), LATE),
    "tears messages": (altered((TELL, TORN)), BOTH),
    "sends where it reads": (altered((PUT, SEND)), DEAF),
    "keeps everything for who does not read": (altered(("queue.Queue(behind)", "queue.Queue()")), DEAF),
    "cuts off whoever does not read at once": (altered(KEPT), LATE),
    "drops what somebody has not read": (altered(KEPT, ("Full:\n            self.cut()", "Full: pass")), LATE),
}


@pytest.mark.parametrize(("source", "point"), FAULTS.values(), ids=FAULTS)
def test_a_server_that(source: str, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if point in (ORDER, CRASH, DEAF, LATE):
        assert play(source, PROCESS) == exercise.AS_IT_SHOULD  # it is no worse than it has to be
    monkeypatch.setattr(talkers, "QUIET_SECONDS", 1.0)  # what never comes
    assert play(source, point) != exercise.AS_IT_SHOULD


BY_CHANCE = {
    "lets go of the lock between lines": altered((TELL, UNLOCKED)),
    "has no lock where it tells": altered((TELL, NO_LOCK)),
    "tells one after the other without a lock": altered((TELL, ONE_BY_ONE)),
}


@pytest.mark.parametrize("source", BY_CHANCE.values(), ids=BY_CHANCE)
def test_a_missing_lock_is_likely_to_be_seen_by_a_server_that(source: str) -> None:
    """By chance: nine of ten checks and more. Twenty in a row that see nothing mean that it is no longer so."""
    assert any(play(source, BOTH) != exercise.AS_IT_SHOULD for _ in range(20))


def test_a_thread_that_fails_is_told_of_and_what_fails_at_the_end_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talkers, "QUIET_SECONDS", 1.0)
    in_its_turn = altered(('self.tell("* processed, send the next")', "raise KeyError('in its turn')"))
    at_the_end = altered((UNSEATED, UNSEATED + "                raise KeyError('at the end')\n"))
    own, told = seeds(15, "ann")[0], []
    for source in (in_its_turn, at_the_end):
        hand_in = HandIn("", source)
        told.append((exercise.play(hand_in, exercise.processed, own, 3), hand_in.take_printed()))
    (seen, ((_, printed),)), after = told
    assert seen.endswith("a thread of defence.py has failed, its traceback is in run.log")
    assert "KeyError: 'in its turn'" in printed
    assert after == (exercise.AS_IT_SHOULD, [])


NOTHING = {
    "does nothing": (exercise.TASK.defence, "waits in vain for '* welcome"),
    "refuses everybody": ("def serve(listener, *_):\n    while True: listener.accept()[0].close()", "waits in vain"),
    "ends at once": ("def serve(*_): pass", "serve() of defence.py returned: a server goes on"),
    "fails": ("def serve(*_):\n    return 1 / 0", "serve() of defence.py failed, line 2: ZeroDivisionError"),
    "exits": ("import os\ndef serve(*_): os._exit(3)", "ended by itself, with exit code 3"),
    "is no Python": ("def", "cannot be loaded, line 1: SyntaxError"),
    "has no server": ("", "has no attribute 'serve'"),
    "says everything at once": (
        "def serve(listener, *_):\n    link = listener.accept()[0]\n    while True: link.sendall(b'* welcome')",
        "waits in vain for",
    ),
    "prints without end": ("def serve(*_):\n    while True: print('x' * 1000)", "waits in vain for"),
}


@pytest.mark.parametrize(("source", "told"), NOTHING.values(), ids=NOTHING)
def test_a_server_that_is_none_since_it(source: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talkers, "QUIET_SECONDS", 1.0)
    assert told in play(source, SEATED)


def test_after_two_scenes_in_which_nobody_is_told_anything_no_other_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talkers, "QUIET_SECONDS", 0.5)
    found = points(15, HandIn("", exercise.TASK.defence, "everybody"))
    seen = {point: each.outcome.seen for point, each in found.items() if not point.startswith("prediction")}
    vain = [point for point in seen if seen[point].endswith(f": {exercise.MUTE}")]
    assert vain == [PROCESS, NOTICES]
    assert list(seen.values())[2:] == [exercise.NOT_PLAYED] * (len(exercise.SCENES) - 1)
    assert not [point for point, each in found.items() if each.counts]


ENDLESS = {
    "never ends as it is loaded": "while True: pass",
    "says a letter now and then, and never a line": (
        "import time\ndef serve(listener, *_):\n    links = [listener.accept()[0] for _ in range(2)]\n"
        "    while True:\n        for each in links: each.sendall(b'*')\n        time.sleep(0.05)"
    ),
}


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_no_check_has_to_wait_for_ever_for_a_server_that(source: str) -> None:
    found = points(15, HandIn("", source, "everybody", patience=Patience(1.0)))
    seen = [each.outcome.seen for point, each in found.items() if not point.startswith("prediction")]
    assert seen == [SPENT] * (len(exercise.SCENES) + 1)


@pytest.mark.parametrize("point", [PROCESS, CAME, LATE])
def test_a_server_that_is_slow_and_right_is_right(point: str) -> None:
    looks = ("            while True:\n", "            while True:\n                time.sleep(0.02)\n")
    assert play(altered(("import queue", "import time, queue"), looks), point) == exercise.AS_IT_SHOULD


def test_two_students_differ_and_the_server_of_one_fails_with_the_other() -> None:
    students = [f"s{number}" for number in range(40)]
    assert {exercise.seats(seeds(15, each)[0]) for each in students} == set(exercise.SEATS)
    assert {exercise.behind(seeds(15, each)[0]) for each in students} == set(exercise.BEHIND)
    own = exercise.seats(seeds(15, "ann")[0])
    other = next(each for each in students if exercise.seats(seeds(15, each)[0]) > own)
    fixed = altered(seats(str(own)))
    assert play(fixed, SEATED) == exercise.AS_IT_SHOULD
    assert play(fixed, SEATED, other) != exercise.AS_IT_SHOULD


def test_what_a_server_prints_and_where_a_thread_of_it_fails_is_kept() -> None:
    own = seeds(15, "ann")[0]
    hand_in = HandIn("", altered(("word, self.name, _ =", "print('somebody'); word, self.name =")))
    assert exercise.play(hand_in, exercise.processed, own, 3) != exercise.AS_IT_SHOULD
    assert ("defence.py", "somebody") in [(name, text.split()[0]) for name, text in hand_in.take_printed()]
