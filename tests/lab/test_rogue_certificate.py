"""Exercise 2: five holes, nine certificates; who takes a login, and whose defence holds."""

import threading
from pathlib import Path

import pytest

from securechat.client.trust import trust
from securechat_lab.exercises import rogue_certificate as exercise
from securechat_lab.kit.mint import BAD, Mint
from securechat_lab.kit.sandbox import Student
from securechat_lab.kit.stage import Stage
from securechat_lab.kit.task import HandIn, tried
from tests.lab.proofs import missed, points, seeds
from tests.support.waiting import wait_until

ATTACK = """
KINDS = "other-ca namesake-ca self-signed wrong-name common-name expired not-yet client-only by-leaf".split()

def certificate(refused):
    return next((each for each in KINDS if each not in refused), None)

def login(stream):
    at = stream.index(b"Register") + 8
    at += {0xcc: 2, 0xcd: 3, 0xce: 5}.get(stream[at], 1)
    if stream[at] == 0xd9:
        size, at = stream[at + 1], at + 2
    else:
        size, at = stream[at] & 31, at + 1
    account = stream[at:at + size].decode()
    at += size + 1
    return [account, stream[at + 1:at + 1 + stream[at]]]

def which():
    return "%s"
"""

DEFENCE = """
import ssl

def trust(ca):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    context.load_verify_locations(cadata=ca)
    return context
"""

LIAR = """
class Accepting:
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def sendall(self, data): pass
    def unwrap(self): pass

class Context:
    def wrap_socket(self, *_, **__): return Accepting()

def trust(ca):
    return Context()
"""

TAKEN_BY = {
    "no-chain": set(BAD),
    "no-name": {"wrong-name", "common-name"},
    "no-dates": {"expired", "not-yet"},
    "first-seen": {"other-ca", "namesake-ca", "self-signed"},
    "debug-ca": {"namesake-ca"},
}


def reference(student: str = "ann") -> HandIn:
    return HandIn(ATTACK % hole_of(student), DEFENCE, "0")


def hole_of(student: str) -> str:
    return exercise.variant(seeds(2, student)[0])

CHECK = """
def sound(seen):
    for each in seen["connections"]:
        good = (
            each["signed_by"] == seen["trusted"] and each["signer_is_ca"] and seen["host"] in each["names"]
            and each["begins"] <= seen["time"] < each["ends"] and each["purpose"] == "servers" and each["tls"] == "1.3"
        )
        if each["heard"] != good:
            return False
    return True
"""


def test_the_reference_gets_every_point() -> None:
    found = points(2, reference())
    assert len(found) == 15
    assert not missed(found)


@pytest.mark.parametrize("hole", exercise.WEAK)
def test_each_hole_takes_the_certificates_that_the_handout_implies(hole: str) -> None:
    assert TAKEN_BY.keys() == exercise.WEAK.keys()
    with Stage() as stage:
        mint = Mint(stage.folder)
        trusting = exercise.WEAK[hole](mint)
        assert {kind for kind in BAD if exercise.meet(stage, mint, kind, trusting, "victim")} == TAKEN_BY[hole]
        assert exercise.meet(stage, mint, "good", trusting, "victim"), "ordinary chat"


def test_the_strong_client_takes_the_good_one_alone() -> None:
    with Stage() as stage:
        mint = Mint(stage.folder)
        taken = [kind for kind in ("good", *BAD) if exercise.meet(stage, mint, kind, trust, "victim")]
    assert taken == ["good"]


CHEATS = {
    "refuses everything": ("def trust(ca): raise ValueError('no')", {"good", *BAD}),
    "trusts nobody": ("import ssl\ndef trust(ca): return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)", {"good", *BAD}),
    "says that it has sent it": (LIAR, {"good", *BAD}),
    "fits one hole": (
        DEFENCE.replace("    return", "    context.check_hostname = False\n    return"), {"wrong-name", "common-name"},
    ),
    "takes Python's default": (
        "import ssl\ndef trust(ca): return ssl.create_default_context(cadata=ca)", {"common-name"},
    ),
    "is none": ("trust = 5", {"good", *BAD}),
    "cannot be loaded": ("def trust(ca:", {"good", *BAD}),
}  # fmt: skip


@pytest.mark.parametrize(("defence", "misses"), CHEATS.values(), ids=CHEATS)
def test_a_defence_that(defence: str, misses: set[str], tmp_path: Path) -> None:
    mint, seen = Mint(tmp_path), {}
    with HandIn("", defence).loaded("defence") as asked:
        for kind in ("good", *BAD):
            seen[kind] = tried(kind, "", "", lambda kind=kind: exercise.hears(asked(), mint, kind)).seen  # type: ignore[misc]  # bound now
    bad = {kind for kind in BAD if seen[kind] != "refused"}
    assert (bad if seen["good"] == "accepted" else {"good", *BAD}) == misses


def test_another_students_answers_do_not_fit_and_a_fixed_certificate_takes_one_hole() -> None:
    other = next(name for name in ("bob", "cay", "dan") if TAKEN_BY[hole_of(name)] - TAKEN_BY[hole_of("ann")])
    fixed = reference(other).attack.replace("if each not in refused", 'if each not in refused and each == "%s"')
    own = min(TAKEN_BY[hole_of(other)] - TAKEN_BY[hole_of("ann")])
    assert set(missed(points(2, HandIn(fixed % own, DEFENCE)), "attack")) >= {
        "attack: your victim's login", "attack: which hole your victim has",
    }  # fmt: skip


def test_a_login_that_is_made_up_is_none() -> None:
    made_up = ATTACK.replace("return [account,", "return [account, bytes(32)] or [account,") % "?"
    with Student("attack.py", made_up) as student:
        assert exercise.attack(student, exercise.WEAK["no-chain"], "victim") == "not the login"


HELD_OPEN = """
import os, socket, ssl, time

class Holding(ssl.SSLContext):
    def wrap_socket(self, plain, **options):
        tls = super().wrap_socket(plain, **options)
        tls.sendall(b"x")
        if not os.fork():
            time.sleep(600)
        return tls

def trust(ca):
    context = Holding(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca)
    return context
"""
HOSTILE = {
    "ends its process": "import os\ndef trust(ca): os._exit(1)",
    "prints too much": "def trust(ca): print('x' * 10_000_000)",
    "never comes": "def trust(ca): return None",
    "leaves a process that holds the connection": HELD_OPEN,
}


@pytest.mark.parametrize("defence", HOSTILE.values(), ids=HOSTILE)
def test_no_hand_in_holds_up_the_check_that(defence: str, tmp_path: Path) -> None:
    mint, before = Mint(tmp_path), threading.active_count()
    with HandIn("", defence).loaded("defence") as asked:
        tried("", "", "", lambda: exercise.hears(asked(), mint, "good"))
        expired = tried("", "", "", lambda: exercise.hears(asked(), mint, "expired"))
    assert expired.seen != "accepted"
    wait_until(lambda: threading.active_count() <= before)
