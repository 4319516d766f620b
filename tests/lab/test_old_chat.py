"""Exercise 0: what the chat of old shows to everybody on the way, and the real one to nobody."""

import socket
from collections.abc import Iterator

import pytest

from securechat_lab.cast.old_chat import SEATS, OldChat
from securechat_lab.exercises import old_chat as exercise
from securechat_lab.kit.task import HandIn
from tests.lab.proofs import missed, points, seeds

ATTACK = """
def find(capture):
    mark = b": between us: "
    if mark not in capture:
        return None
    at = capture.index(mark)
    name = capture[at - 10:at]
    secret = capture[at + len(mark):].split(b"\\n")[0].decode()
    for login in capture.split(b"LOGIN ")[1:]:
        who, password = login.split(b"\\n")[0].split(b" ")
        if name.endswith(who):
            return [password.decode(), secret]
"""

DEFENCE = """
import base64, json

def leaks(data, secret):
    raw = secret.encode()
    needles = [
        raw, raw.hex().encode(), raw[::-1], secret.encode("utf-16-le"), json.dumps(secret)[1:-1].encode(),
        ", ".join(map(str, raw)).encode(),
    ]
    for offset in range(3):
        digits = base64.b64encode(bytes(offset) + raw)[4 if offset else 0:]
        needles.append(digits[: len(digits) // 4 * 4 - 4])
    return any(needle in data for needle in needles)
"""


def reference() -> HandIn:
    return HandIn(ATTACK, DEFENCE, "old")


def test_the_reference_gets_every_point() -> None:
    found = points(0, reference())
    assert len(found) == 4 + 1 + len(exercise.SPELLINGS) + 3
    assert not missed(found)


PLAIN = "search: finds it as it is"
CALM = "search: says nothing where something else is"
CHEATS = {
    "cries always": ("def leaks(data, secret): return True", 11),
    "knows one spelling": ("def leaks(data, secret): return secret.encode() in data", 6),
    "looks at the length": ("def leaks(data, secret): return len(data) < 5000", 11),
    "looks for any secret": ("def leaks(data, secret): return 'Br\\u00fccke'.encode() in data", 11),
    "answers something else": ("def leaks(data, secret): return 0", 11),
}


@pytest.mark.parametrize(("defence", "misses"), CHEATS.values(), ids=CHEATS)
def test_a_search_that(defence: str, misses: int) -> None:
    assert len(missed(points(0, HandIn("def", defence)), "")) == misses + 4  # and the attack


def test_the_answers_of_one_student_fail_with_another() -> None:
    other = exercise.said(seeds(0, "bob")[0])
    assert other != exercise.said(seeds(0, "ann")[0])
    fixed = f"def find(capture): return [{other.password!r}, {other.secret!r}]"
    assert len(missed(points(0, HandIn(fixed, "def")), "attack")) == 3


def test_what_finds_something_in_the_real_chat_made_it_up() -> None:
    found = points(0, HandIn(ATTACK.replace("return None", "return ['a', 'b']"), "def"))
    assert "attack: securechat gives you nothing" in missed(found)


class Talker:
    """A client of the chat of old."""

    def __init__(self, port: int, name: str) -> None:
        self.link = socket.create_connection(("127.0.0.1", port))
        self.link.settimeout(60)
        self.lines = self.link.makefile("r")
        self.say(f"LOGIN {name} password")

    def say(self, *lines: str) -> None:
        self.link.sendall("".join(f"{line}\n" for line in lines).encode())

    def hears(self, *expected: str) -> None:
        for line in expected:
            assert self.lines.readline() == f"{line}\n"

    def close(self) -> None:
        self.lines.close()
        self.link.close()


@pytest.fixture
def chat() -> Iterator[OldChat]:
    with OldChat() as chat:
        yield chat


def test_the_chat_of_old_chats(chat: OldChat) -> None:
    ann = Talker(chat.port, "ann")
    ann.hears("* welcome, ann")
    others = []
    for number in range(SEATS - 1):
        others.append(Talker(chat.port, f"p{number}"))
        others[-1].hears(f"* welcome, p{number}")
        ann.hears(f"* p{number} has come")
    ann.say("two", "lines", ".")
    ann.hears("* processed, send the next")
    late = Talker(chat.port, "late")
    late.hears("* full: you are number 1")
    others[0].close()
    ann.hears("* p0 has left", "* late has come")
    late.hears("* welcome, late")
    others[-1].hears("ann: two", "ann: lines")
    for each in (ann, late, *others[1:]):
        each.close()
