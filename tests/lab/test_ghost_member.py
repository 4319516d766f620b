"""Exercise 12: four ways to slip into a room, and who may open which door."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from securechat.errors import PeerError
from securechat.identity.certificate import certificate_of
from securechat.mls.framing import MLSMessage, PublicMessage, decode_body
from securechat.mls.group import Group, StagedCommit
from securechat.mls.key_package import KeyPackage
from securechat.mls.proposals import Add, GroupContextExtensions, Remove
from securechat.mls.tree_math import LeafIndex
from securechat.mls.welcome import Welcome
from securechat.policy import Identity, Rules, check_commit, rules_of
from securechat.policy.rules import in_order
from securechat.wire import messages as m
from securechat_lab.cast.rogue import Rogue
from securechat_lab.exercises import ghost_member as exercise
from securechat_lab.kit.sandbox import Student, StudentError
from securechat_lab.kit.stage import Stage
from securechat_lab.kit.task import HandIn, tried
from tests.lab.proofs import missed, points, seeds

ATTACK = """
def slip(hole, owner, victim):
    add = {"by": "mallory", "adds": ["ghost"]}
    return {
        "adds": [add],
        "rules": [{"by": "mallory", "inviters": ["mallory"]}, add],
        "swaps": [{"by": "mallory", "adds": [owner], "removes": [owner]}],
        "enters": [{"by": "ghost"}],
    }[hole]
"""

DEFENCE = """
def allowed(rules, who, adds, removes):
    me = [who["account"], who["key"]]
    owner, inviter = me in rules["owners"], me in rules["inviters"]
    if not who["inside"]:
        return [[each["account"], each["key"], each["gone"]] for each in removes] == [[*me, False]]
    if rules["changed"] and not owner or adds and not (owner or inviter):
        return False
    for each in removes:
        new = each["new"] and [each["account"], each["key"]] not in rules["owners"]
        if not (owner or each["gone"] or inviter and new):
            return False
    return True
"""


CHECK = DEFENCE + """
def sound(seen):
    return all(each.pop("followed") == allowed(**each) for each in seen)
"""


def test_the_reference_gets_every_point() -> None:
    found = points(12, HandIn(ATTACK, DEFENCE, "enters"))
    assert len(found) == 4 + 3 + len(exercise.WEAK)
    assert not missed(found)
    twins = {point: each.outcome.twin for point, each in found.items()}
    assert {twins[point] for point in GHOSTS} == {CALM}
    assert (twins[SHUTS], twins[CALM], twins[STRONG]) == (OPENS, OPENS, MINE)


@pytest.fixture(scope="module")
def scene() -> Iterator[exercise.Scene]:
    with exercise.Scene(seeds(12, "ann")[1]) as scene:
        yield scene


@pytest.mark.parametrize("hole", exercise.WEAK)
def test_each_hole_lets_the_ghost_in_and_no_other_way_and_the_strong_client_stops(
    scene: exercise.Scene, hole: str
) -> None:
    way = exercise.WEAK[hole](scene.owner.name)
    assert scene.slip(scene.person(exercise.lax(hole)), way) == exercise.READ
    other = next(each for each in exercise.WEAK if each != hole)
    assert scene.slip(scene.person(exercise.lax(hole)), exercise.WEAK[other](scene.owner.name)) == exercise.STOPPED
    assert scene.slip(scene.person(check_commit), way) == exercise.STOPPED


def test_ordinary_chat_works_on_each_weak_client(scene: exercise.Scene) -> None:
    assert "nothing" in scene.slip(scene.person(exercise.lax("adds")), [])
    with HandIn("", DEFENCE).loaded("defence") as ask:
        assert exercise.chat(ask, scene) == exercise.CALM


OPENS, SHUTS, CALM = (
    "defence: the doors that are open", "defence: the doors that are shut", "defence: people come and go"
)  # fmt: skip
MINE, STRONG = "attack: the ghost reads what your victim says", "attack: the strong client stops"
GHOSTS = {f"defence: the ghost reads nothing ({hole})" for hole in exercise.WEAK}


def test_refusing_everything_stops_everybody_and_misses_the_twins_of_all_else(scene: exercise.Scene) -> None:
    with HandIn("", "def allowed(*_): return False").loaded("defence") as ask:
        assert exercise.chat(ask, scene) == exercise.STOPPED
        assert exercise.defend(ask, scene, "adds") == exercise.STOPPED
        assert exercise.doors(ask, seeds(12, "ann")[1], exercise.OPEN, allowed=True) != ALL


ALL = "all of them"


def wrong(source: str) -> tuple[str, str]:
    """What is said of the doors that are open, and of those that are shut."""
    seed = seeds(12, "ann")[1]
    with HandIn("", source).loaded("defence") as ask:
        return (
            tried("", "", "", lambda: exercise.doors(ask, seed, exercise.OPEN, allowed=True)).seen,
            tried("", "", "", lambda: exercise.doors(ask, seed, exercise.SHUT, allowed=False)).seen,
        )


DOORS = {
    "is the reference": (DEFENCE, (ALL, ALL)),
    "goes by names": (
        DEFENCE + """
by_key = allowed
def allowed(rules, who, adds, removes):
    named = {account: key for account, key in rules["owners"] + rules["inviters"]}
    return by_key(rules, who | {"key": named.get(who["account"], who["key"])}, adds, removes)
""",
        (ALL, "allowed: somebody by the name of an owner adds somebody"),
    ),
    "asks only who adds": (
        (
            "def allowed(rules, who, adds, _):\n"
            "    return not adds or [who['account'], who['key']] in rules['owners'] + rules['inviters']"
        ),
        (ALL, "allowed: a member removes a member"),
    ),
    "lets nobody come back": (
        DEFENCE.replace("== [[*me, False]]", "== 0"),
        ("forbidden: a member comes in again, under the same key", ALL),
    ),
    "lets owners come in anywhere": (
        DEFENCE.replace("== [[*me, False]]", "== [[*me, False]] or owner"),
        (ALL, "allowed: an owner comes in in place of a member"),
    ),
    "forgets who has left": (
        DEFENCE.replace('or each["gone"]', ""), ("forbidden: a member removes who has left", ALL),
    ),
    "lets those come back who have left": (
        DEFENCE.replace('each["gone"]] for', "False] for"), (ALL, "allowed: somebody who has left comes back"),
    ),
    "lets inviters remove owners": (
        DEFENCE.replace(' and [each["account"], each["key"]] not in rules["owners"]', ""),
        (ALL, "allowed: an inviter removes an owner who has not answered"),
    ),
    "forbids everything": ("def allowed(*_): return False", ("forbidden: an owner adds somebody", ALL)),
    "answers 1": (
        "def allowed(*_): return 1", ("allowed() returned 1, which is neither True nor False.",) * 2
    ),
    "fails": ("def allowed(*_): return 1 / 0", ("allowed() failed in defence.py, line 1: ZeroDivisionError",) * 2),
}  # fmt: skip


@pytest.mark.parametrize(("source", "told"), DOORS.values(), ids=DOORS)
def test_a_defence_that(source: str, told: tuple[str, str]) -> None:
    for seen, expected in zip(wrong(source), told, strict=True):
        assert seen.startswith(expected)


ROLES = ("owner", "second", "inviter", "member", "waiting", "gone")


class World:
    """A room with somebody in each role, on nobody's server. `false`: who is in it under another key than was meant."""

    def __init__(self, stage: Stage, false: str = "") -> None:
        self.stage = stage
        self.people = {role: stage.mole(role) for role in ROLES}
        identities = {role: Identity.of(mole.certificate()) for role, mole in self.people.items()}
        if false:
            identities[false] = Identity(false, bytes(32))
        rules = Rules(
            "invite", "#staff", owners=in_order((identities["owner"], identities["second"])),
            inviters=(identities["inviter"],),
        )  # fmt: skip
        founder, *others = self.people.values()
        staged = founder.make_commit(founder.found(rules), *map(package, others))
        assert staged.group is not None
        assert staged.welcome is not None
        self.groups = {"owner": staged.group}
        for mole in others:
            self.groups[mole.account] = Group.join(
                decode_body(staged.welcome, Welcome), mole.bundles[0], mole.signature,
                tree=staged.group.public.tree, validate=mole.validate, now=mole.now,
            )  # fmt: skip
        for role in ("inviter", "member", "gone"):  # these have answered
            answer = self.people[role].make_commit(self.groups[role])
            for other, group in self.groups.items():
                after = answer.group if other == role else group.stage(
                    answer.message, validate=founder.validate, now=founder.now
                ).group  # fmt: skip
                assert after is not None
                self.groups[other] = after

    def leaf(self, role: str) -> LeafIndex:
        members = self.groups["owner"].public.members()
        return next(index for index, leaf in members if certificate_of(leaf).account == role)

    def allows(self, door: exercise.Door) -> bool:
        """Whether the product allows this."""
        public = self.groups["owner"].public
        departed = frozenset({self.leaf("gone")} if "gone" in door.removes else ())
        try:
            who, staged = self.regular(door) if door.inside else self.external(door)
            seen = public.stage(decode_body(staged.message, PublicMessage), validate=who.validate, now=who.now)
            check_commit(seen, departed=departed)
        except PeerError:
            return False
        return True

    def regular(self, door: exercise.Door) -> tuple[Rogue, StagedCommit]:
        role = door.who.split()[0]
        rules = replace(rules_of(self.groups[role].public.extensions), topic="changed")
        adds = [package(self.stage.mole(each.split()[0])) for each in door.adds]
        changes = [GroupContextExtensions((rules.extension(),))] if door.changed else []
        removes = [Remove(self.leaf(each)) for each in door.removes]
        return self.people[role], self.people[role].make_commit(self.groups[role], *removes, *adds, *changes)

    def external(self, door: exercise.Door) -> tuple[Rogue, StagedCommit]:
        who, group = self.stage.mole(door.who.split()[0]), self.groups["owner"]
        if door.who in self.people:
            for name in ("identity", "signature", "chain", "device"):
                setattr(who, name, getattr(self.people[door.who], name))
        info, tree = group.group_info(with_tree=False), group.public.tree.encode()
        old = self.leaf(door.removes[0]) if door.removes else None
        return who, who.external_commit(m.JoinOffer(1, group.group_id, 0, info, tree, []), old=old)


def package(mole: Rogue) -> Add:
    body = MLSMessage.decode(mole.key_package()).body
    assert isinstance(body, KeyPackage)
    return Add(body)


def test_the_product_opens_and_shuts_the_doors_of_the_table(scene: exercise.Scene) -> None:
    worlds = {role: World(scene._stage, role) for role in ("", "owner", "inviter")}
    for some, allowed in ((exercise.OPEN, True), (exercise.SHUT, False)):
        for door in some:
            false = door.who.removesuffix(" false") if door.who.endswith(" false") and door.inside else ""
            assert worlds[false].allows(door) == allowed, door.name


PLANS = {
    "is no list": ("5", "returned 5, which is no list of 3 commits or fewer"),
    "has too many": ("[{'by': 'mallory'}] * 4", "which is no list of 3 commits or fewer"),
    "has no dict": ("[{'by': 'mallory'}, 7]", "returned 7 as commit 2, which is no dict"),
    "has another key": ("[{'by': 'mallory', 'add': ['ghost']}]", "a commit 1 with a key 'add': there is none"),
    "is by somebody else": ("[{'by': owner}]", '"by" neither mallory nor ghost'),
    "adds numbers": ("[{'by': 'mallory', 'adds': [1]}]", 'whose "adds" is no list of names'),
    "adds a stranger": ("[{'by': 'mallory', 'adds': ['eve']}]", "one name, ghost or that of a member"),
    "removes a stranger": ("[{'by': 'mallory', 'removes': ['eve']}]", "who is not in the room"),
    "removes mallory": ("[{'by': 'mallory', 'removes': ['mallory']}]", "a commit that cannot be made"),
    "lets the ghost do more": ("[{'by': 'ghost', 'adds': ['ghost']}]", "it can do nothing else in that commit"),
    "has the owner twice": ("[{'by': 'mallory', 'adds': [owner]}]", exercise.STOPPED),
    "does nothing": ("[]", "the ghost reads nothing"),
}


@pytest.mark.parametrize(("plan", "told"), PLANS.values(), ids=PLANS)
def test_an_attack_that(scene: exercise.Scene, plan: str, told: str) -> None:
    with HandIn(f"def slip(hole, owner, victim): return {plan}", "").loaded("attack") as ask:
        seen = tried("", "", "", lambda: exercise.attack(ask, scene, "adds", exercise.lax("adds"))).seen
    assert told in seen


def test_two_students_differ_and_an_attack_for_one_client_fails_with_another(scene: exercise.Scene) -> None:
    students = [f"s{number}" for number in range(40)]
    assert {exercise.variant(seeds(12, each)[0]) for each in students} == exercise.WEAK.keys()
    assert {exercise.owner(seeds(12, each)[0]) for each in students} == set(exercise.OWNERS)
    fixed = ATTACK.replace("[hole]", "['swaps']")
    with HandIn(fixed, "").loaded("attack") as ask:
        assert exercise.attack(ask, scene, "swaps", exercise.lax("swaps")) == exercise.READ
        told = exercise.attack(ask, scene, "enters", exercise.lax("enters"))
    assert told.startswith(f"{exercise.STOPPED}, at commit 1 of 1: ")
    assert "mallory" in told
    one, other = (exercise.case(exercise.OPEN[0], seeds(12, each)[1]) for each in ("ann", "bob"))
    assert one != other


@pytest.mark.parametrize("answer", ["1", "None", "'yes'", "1 / 0"])
def test_a_verdict_that_is_none_forbids_and_is_told(answer: str) -> None:
    with Student("defence.py", f"def allowed(*_): return {answer}") as student:
        verdicts = exercise.Verdicts(student)
        assert not verdicts.yes("allowed", {}, {}, [], [])
    assert isinstance(verdicts.failure, StudentError)
