"""Exercise 12: somebody slips into a room in which nobody let them, and reads on."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from securechat.client import commands, events
from securechat.content import envelope
from securechat.content.registry import Text
from securechat.errors import PeerError, SecurechatError
from securechat.identity.certificate import DeviceCertificate, certificate_of
from securechat.mls.framing import MLSMessage, PublicMessage, SenderType, decode_body
from securechat.mls.group import Group, StagedCommit
from securechat.mls.key_package import KeyPackage
from securechat.mls.leaf_node import LeafNodeSource
from securechat.mls.proposals import Add, GroupContextExtensions, Proposal, Remove
from securechat.mls.public_group import PublicGroup, PublicStagedCommit
from securechat.mls.tree_math import LeafIndex
from securechat.mls.welcome import Welcome
from securechat.policy import Identity, Rules, check_commit, check_state, rules_of
from securechat.policy.rules import in_order
from securechat.wire import messages as m
from securechat.wire.chain import MLS_MESSAGE
from securechat_lab.cast.hostile import Link
from securechat_lab.cast.rogue import Rogue
from securechat_lab.cast.scenes import epoch, found, invite
from securechat_lab.kit.asked import Asked
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.review import STRONG, Claim, Review
from securechat_lab.kit.sandbox import Student, StudentError
from securechat_lab.kit.seeds import Seed, read_seed
from securechat_lab.kit.stage import PARTS, Actor, Stage, until
from securechat_lab.kit.task import SEEN_BY_ATTACK, SEEN_BY_DEFENCE, Ask, HandIn, Task, predicted, tried

ATTACK = '''"""Exercise 12, attack: let a ghost slip in. Read README.md first."""


def slip(hole, owner, victim):
    """You are the server, in league with mallory, a member without rights, and with ghost, who is none.

    `hole`: what your victim's client does not ask of, see README.md. `owner`, `victim`: names of members. Return the
    commits that the victim is shown, a list; each is a dict:

        "by"       "mallory", or "ghost", who then comes in by itself
        "adds"     names: "ghost", or that of a member, under which the ghost comes then
        "removes"  names of members
        "inviters" names of members: who may add people from then on

    What is left out is empty, or as it was.
    """
    return []
'''

DEFENCE = '''"""Exercise 12, defence: is a commit allowed? Read README.md first."""


def allowed(rules, who, adds, removes):
    """Somebody commits a change to a room of invitation. Return True or False.

    `rules`: {"owners": [[account, key], ...], "inviters": the same, "changed": whether this commit changes the rules}.
    `who`: {"account", "key", "inside"}; who is not inside comes in by this commit. `adds`: a list of {"account",
    "key"}. `removes`: a list of {"account", "key", "gone", "new"}: "gone" has left already, "new" was added and has
    not answered so far. An account is a str, and a key bytes.
    """
    return True
'''

CHECK = '''"""Exercise 12, a check of your own: does this client follow what it should? Read README.md first."""


def sound(seen):
    """Return True if the client is sound, False if it has a hole.

    `seen`: changes of a room that a client was shown, some of them honest, each by itself: a list of {"rules", "who",
    "adds", "removes"}, as `allowed` gets them, and "followed": whether the client went on with it.
    """
    return True
'''

ROOM: Final = "#staff"
OWNERS: Final = ("alice", "anton", "aylin", "agnes")
VICTIMS: Final = ("bob", "berta", "bilal", "bo")
MALLORY: Final = "mallory"
GHOST: Final = "ghost"

READ: Final = "the ghost read it"
STOPPED: Final = "the client stopped"


class Step(NamedTuple):
    """One commit of an attack."""

    by: str
    adds: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    inviters: tuple[str, ...] | None = None


Judge = Callable[..., Rules]
"""As `policy.check_commit`."""


def kind(staged: PublicStagedCommit) -> str:
    """What a commit is: the name of the hole by which it would come in, or nothing."""
    if staged.sender.type == SenderType.NEW_MEMBER_COMMIT:
        return "enters"
    if any(isinstance(each.proposal, GroupContextExtensions) for each in staged.proposals):
        return "rules"
    return ("swaps" if staged.removed else "adds") if staged.added else ""


def lax(hole: str) -> Judge:
    """The rules of a client that asks nothing of one kind of commit."""

    def judge(staged: PublicStagedCommit, **known: Any) -> Rules:
        try:
            return check_commit(staged, **known)
        except PeerError:
            if kind(staged) != hole:
                raise
            return check_state(staged.after)

    return judge


WEAK: Final[dict[str, Callable[[str], list[Step]]]] = {
    "adds": lambda _owner: [Step(MALLORY, (GHOST,))],
    "rules": lambda _owner: [Step(MALLORY, inviters=(MALLORY,)), Step(MALLORY, (GHOST,))],
    "swaps": lambda owner: [Step(MALLORY, (owner,), (owner,))],
    "enters": lambda _owner: [Step(GHOST)],
}
"""The family: what is not asked of, and how one slips in there; the check plays these against a defence."""


def values(staged: PublicStagedCommit, departed: frozenset[LeafIndex]) -> list[Any]:
    """What a student's function is given of a commit."""
    before, after = rules_of(staged.before.extensions), rules_of(staged.after.extensions)
    who = _person(certificate_of(staged.committer))
    adds = [_person(certificate_of(leaf)) for _, leaf in staged.added]
    removes = [
        _person(certificate_of(leaf)) | {"gone": index in departed, "new": leaf.source == LeafNodeSource.KEY_PACKAGE}
        for index, leaf in staged.removed
    ]
    rules = {"owners": before.owners, "inviters": before.inviters, "changed": after != before}
    return [rules, who | {"inside": kind(staged) != "enters"}, adds, removes]


def _person(certificate: DeviceCertificate) -> dict[str, Any]:
    return {"account": certificate.account, "key": certificate.identity_key}


class Verdicts(Asked):
    """Rules by a student's function."""

    def __init__(self, student: Student) -> None:
        super().__init__(student)
        self.armed = False
        """Until then the rules are the product's, so that people can come together."""

    def judge(self, staged: PublicStagedCommit, *, departed: frozenset[LeafIndex], **known: Any) -> Rules:
        """Ask. Raises `PeerError` if it is not allowed."""
        if not self.armed:
            return check_commit(staged, departed=departed, **known)
        if self.yes("allowed", *values(staged, departed)):
            return check_state(staged.after)
        raise PeerError("The rules of the hand-in forbid this commit.")


class Scene:
    """A room of invitation with an owner, mallory, and whoever is brought in; a context manager."""

    def __init__(self, seed: Seed) -> None:
        self._seed = seed
        self._stage = Stage()
        self._victims = 0
        self.seen: list[PublicStagedCommit] = []
        """The changes of the room that mallory has seen."""

    def __enter__(self) -> Self:
        """Let the owner open the room, and mallory in."""
        self._stage.__enter__()
        self.owner = self._stage.person(owner(self._seed))
        self.mallory = self._stage.mole(MALLORY).register().login()
        self.room = found(self.owner, ROOM)
        assert isinstance(self.owner.answer(commands.Invite(self.room, MALLORY)), events.Done)
        self.mallory.enter_by_welcome()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everybody."""
        self._stage.__exit__(kind, error, trace)

    @property
    def newcomer(self) -> str:
        """What the next member will be called."""
        return f"{victim(self._seed)}{self._victims + 1 if self._victims else ''}"

    def person(self, judge: Judge = check_commit) -> Actor:
        """Return another member, who judges commits like this."""
        person = self._stage.person(self.newcomer, replace(PARTS, rules=judge))
        self._victims += 1
        invite(self.owner, ROOM, person)
        while self.mallory.groups[self.room].epoch < epoch(self.owner, ROOM):
            entry = self.mallory.take(m.Entry, lambda entry: entry.conversation == self.room)
            if isinstance(MLSMessage.decode(entry.payload).body, PublicMessage):
                public = self.mallory.groups[self.room].public
                self.seen.append(_staged(public, entry.payload, self.mallory))
            self.mallory.process(entry)
        return person

    def leave(self, *people: Actor) -> None:
        """Let people go who are not needed any more: each commit costs each of them something."""
        for person in people:
            self._stage.leave(person)

    def slip(self, reader: Actor, plan: list[Step]) -> str:
        """Show somebody these commits, and nobody else; let them say a secret, and say what became of it."""
        ghost = _Ghost(self._stage, self.mallory, self.room)
        heard: list[bytes] = []

        def listen(link: Link, request: m.Message) -> list[m.Message] | None:
            assert isinstance(request, m.Submit)
            if link.account != reader.name or request.conversation != self.room:
                return None
            heard.append(request.payload)
            return []

        self._stage.liar.from_client[m.Submit] = listen
        link, seq = self._stage.liar.link(reader.name), self.mallory.cursors[self.room]
        for step in plan:
            try:
                device, staged = ghost.commit(step)
            except StudentError:
                self.leave(reader)
                raise
            seq, now = seq + 1, int(time.time() * 1000)
            link.tell_client(
                m.Entry(self.room, seq, now, device, MLS_MESSAGE, staged.message, staged.group_info or b"")
            )
        reached = ghost.epoch
        reader.wait_until(lambda: epoch(reader, ROOM) == reached or reader.saw(events.Stopped))
        if reader.saw(events.Stopped):
            self.leave(reader)
            return STOPPED
        secret = self._seed.part("secret", reader.name).word()
        reader.do(commands.Send(self.room, secret))
        until(reader, lambda: bool(heard), lambda: reader.saw(events.Stopped))
        self.leave(reader)
        return READ if ghost.reads(heard[0]) == secret else "the ghost reads nothing"


class _Ghost:
    """Whoever slips in: makes the commits that lead there, and keeps what it needs to read."""

    def __init__(self, stage: Stage, mallory: Rogue, room: bytes) -> None:
        self._stage = stage
        self._mallory = mallory
        self._number = mallory.number(room)
        self._base = mallory.groups[room]
        self._inside: Group | None = None

    @property
    def epoch(self) -> int:
        """To which the commits so far lead."""
        return self._base.epoch

    def commit(self, step: Step) -> tuple[bytes, StagedCommit]:
        """Make a commit; return whose device made it, too. Raises `StudentError` where none can be made."""
        try:
            if step.by == GHOST:
                ghost, public = self._stage.mole(GHOST), self._base.public
                info = self._base.group_info(with_tree=False)
                staged = ghost.external_commit(m.JoinOffer(1, self._base.group_id, 0, info, public.tree.encode(), []))
                assert staged.group is not None
                self._base = self._inside = staged.group
                return ghost.device, staged
            staged = self._mallory.make_commit(self._base, *self._proposals(step), number=self._number)
        except SecurechatError as error:
            raise StudentError(f"slip() asks for a commit that cannot be made: {error}") from None
        if staged.group is None:
            raise StudentError("slip() asks for a commit that cannot be made: mallory removes herself.")
        self._number += 1
        if step.adds:
            welcome = decode_body(staged.welcome or b"", Welcome)
            ghost, tree = self._ghost, staged.group.public.tree
            self._inside = Group.join(
                welcome, ghost.bundles[0], ghost.signature, tree=tree, validate=ghost.validate, now=ghost.now
            )
        self._base = staged.group
        return self._mallory.device, staged

    def _proposals(self, step: Step) -> Iterator[Proposal]:
        people = {certificate_of(leaf).account: (index, leaf) for index, leaf in self._base.public.members()}
        for name in (*step.removes, *(step.inviters or ())):
            if name not in people:
                raise StudentError(f"slip() names {name!r:.30}, who is not in the room.")
        for name in step.removes:
            yield Remove(people[name][0])
        for name in step.adds:
            self._ghost = self._stage.mole(name)
            package = MLSMessage.decode(self._ghost.key_package()).body
            assert isinstance(package, KeyPackage)
            yield Add(package)
        if step.inviters is not None:
            inviters = in_order(Identity.of(certificate_of(people[name][1])) for name in step.inviters)
            rules = replace(rules_of(self._base.public.extensions), inviters=inviters)
            yield GroupContextExtensions((rules.extension(),))

    def reads(self, payload: bytes) -> str:
        """Return what a message says to the ghost."""
        try:
            body = envelope.decode(self._inside.decrypt(payload).plaintext).body if self._inside else None
        except SecurechatError:
            return ""
        return body.text if isinstance(body, Text) else ""


def owner(seed: Seed) -> str:
    """Whose room it is."""
    return seed.part("owner").pick(OWNERS)


def victim(seed: Seed) -> str:
    """Who says a secret."""
    return seed.part("victim").pick(VICTIMS)


def variant(seed: Seed) -> str:
    """What a student's own victim does not ask of."""
    return seed.part("variant").pick(list(WEAK))


def unseen_variant(seed: Seed, unseen: Seed) -> str:
    """The same of the other victim: another kind."""
    return unseen.part("variant").pick([each for each in WEAK if each != variant(seed)])


MAX_STEPS: Final = 3


def plan(ask: Ask, hole: str, scene: Scene) -> list[Step]:
    """Ask a student for an attack on whoever comes next."""
    given = ask().call("slip", hole, scene.owner.name, scene.newcomer)
    if not isinstance(given, list) or len(given) > MAX_STEPS:
        raise StudentError(f"slip() returned {given!a:.80}, which is no list of {MAX_STEPS} commits or fewer.")
    steps = []
    for number, each in enumerate(given, 1):
        if not isinstance(each, dict):
            raise StudentError(f"slip() returned {each!a:.60} as commit {number}, which is no dict.")
        if strange := sorted(each.keys() - set(Step._fields)):
            raise StudentError(f"slip() returned a commit {number} with a key {strange[0]!a:.40}: there is none.")
        if each.get("by") not in (MALLORY, GHOST):
            raise StudentError(f'slip() returned a commit {number} that is "by" neither mallory nor ghost.')
        lists = {name: each.get(name, []) for name in ("adds", "removes")}
        if "inviters" in each:
            lists["inviters"] = each["inviters"]
        for name, names in lists.items():
            if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
                raise StudentError(f'slip() returned a commit {number} whose "{name}" is no list of names.')
        step = Step(each["by"], **{name: tuple(names) for name, names in lists.items()})
        if len(step.adds) > 1 or set(step.adds) - {GHOST, scene.owner.name, scene.newcomer, MALLORY}:
            raise StudentError(f"slip() adds {step.adds!r:.60}: one name, ghost or that of a member.")
        if step.by == GHOST and step != Step(GHOST):
            raise StudentError("slip() lets the ghost come in by itself: it can do nothing else in that commit.")
        steps.append(step)
    return steps


def attack(ask: Ask, scene: Scene, hole: str, judge: Judge) -> str:
    """Let a student attack. Where the client stops, a comma follows, and why."""
    steps = plan(ask, hole, scene)  # before anybody comes: it may be none
    refused = []

    def judged(staged: PublicStagedCommit, **known: Any) -> Rules:
        try:
            return judge(staged, **known)
        except PeerError:
            refused.append(f" at commit {staged.before.epoch - first + 1} of {len(steps)}")
            raise

    reader = scene.person(judged)
    first = scene.mallory.groups[scene.room].epoch
    seen = scene.slip(reader, steps)
    if seen == STOPPED:
        seen += f",{''.join(refused)}: {reader.wait_for(events.Stopped).reason}"
    return seen


def _how(seen: str) -> str:
    """What came of an attack, without the reason."""
    return seen.partition(",")[0]


def defend(ask: Ask, scene: Scene, hole: str) -> str:
    """Let a ghost come to a client by a student's rules."""
    verdicts = Verdicts(ask())
    reader = scene.person(verdicts.judge)
    verdicts.armed = True
    seen = scene.slip(reader, WEAK[hole](scene.owner.name))
    verdicts.done()
    return seen


CALM: Final = "everybody read on"


def chat(ask: Ask, scene: Scene) -> str:
    """Let an owner do all that they may, before a client by a student's rules."""
    verdicts = Verdicts(ask())
    reader, boss = scene.person(verdicts.judge), scene.owner
    verdicts.armed = True
    friend = scene.person()
    for command in (
        commands.SetInviter(scene.room, friend.name, inviter=True),
        commands.SetTopic(scene.room, "who comes and goes"),
        commands.Remove(scene.room, friend.name),
        commands.Send(scene.room, CALM),  # it comes after all the others, and can be read by those who followed them
    ):
        boss.answer(command)
    until(reader, lambda: f"{boss.name}: {CALM}" in reader.texts(ROOM), lambda: reader.saw(events.Stopped))
    seen = STOPPED if reader.saw(events.Stopped) else CALM
    scene.leave(reader, friend)
    verdicts.done()
    return seen


class Door(NamedTuple):
    """One case of what somebody may do. People are named by what they are; `false` is their name under another key."""

    name: str
    who: str
    adds: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()
    changed: bool = False
    inside: bool = True


OPEN: Final = (
    Door("an owner adds somebody", "owner", ("new",)),
    Door("an inviter adds somebody", "inviter", ("new",)),
    Door("an owner removes a member", "owner", removes=("member",)),
    Door("an owner removes another owner", "owner", removes=("second",)),
    Door("an owner puts another key in place of a member's", "owner", ("member false",), ("member",)),
    Door("an inviter takes back an invitation", "inviter", removes=("waiting",)),
    Door("a member removes who has left", "member", removes=("gone",)),
    Door("an inviter puts another key in place of one that has left", "inviter", ("gone false",), ("gone",)),
    Door("an owner changes the rules", "owner", changed=True),
    Door("an owner changes the rules, removes and adds", "owner", ("new",), ("member",), changed=True),
    Door("a member renews their keys", "member"),
    Door("a member comes in again, under the same key", "member", removes=("member",), inside=False),
)
"""What the product allows; a test holds that."""
SHUT: Final = (
    Door("a member adds somebody", "member", ("new",)),
    Door("somebody by the name of an owner adds somebody", "owner false", ("new",)),
    Door("somebody by the name of an inviter adds somebody", "inviter false", ("new",)),
    Door("a member removes a member", "member", removes=("waiting",)),
    Door("an inviter removes a member", "inviter", removes=("member",)),
    Door("an inviter removes an owner who has not answered", "inviter", removes=("second",)),
    Door("an inviter puts another key in place of a member's", "inviter", ("member false",), ("member",)),
    Door("a member puts another key in place of one that has left", "member", ("gone false",), ("gone",)),
    Door("a member removes who has left, and a member", "member", removes=("gone", "waiting")),
    Door("a member changes the rules", "member", changed=True),
    Door("an inviter changes the rules", "inviter", changed=True),
    Door("an inviter changes the rules and adds somebody", "inviter", ("new",), changed=True),
    Door("somebody comes in whom nobody added", "new", inside=False),
    Door("somebody comes in under another key of a member's", "member false", removes=("member",), inside=False),
    Door("somebody comes in in place of a member", "new", removes=("member",), inside=False),
    Door("an owner comes in in place of a member", "owner", removes=("member",), inside=False),
    Door("an owner who is no member comes in", "owner", inside=False),
    Door("somebody who has left comes back", "gone", removes=("gone",), inside=False),
)


def case(door: Door, seed: Seed) -> list[Any]:
    """What a student's function is given: names and keys are personal."""

    def person(what: str) -> dict[str, Any]:
        role, _, false = what.partition(" ")
        return {"account": seed.part("account", role).word(6), "key": seed.part("key", role, false).bytes(32)}

    def identity(role: str) -> list[Any]:
        return [*person(role).values()]

    rules = {
        "owners": sorted(map(identity, ("owner", "second"))),
        "inviters": [identity("inviter")],
        "changed": door.changed,
    }
    removes = [
        person(role) | {"gone": role == "gone", "new": role in ("waiting", "second")} for role in door.removes
    ]
    return [rules, person(door.who) | {"inside": door.inside}, [*map(person, door.adds)], removes]


def doors(ask: Ask, seed: Seed, some: Sequence[Door], *, allowed: bool) -> str:
    """Ask a student of each of these, and say which one is wrong."""
    verdicts = Verdicts(ask())
    for door in some:
        verdict = verdicts.yes("allowed", *case(door, seed))
        verdicts.done()
        if verdict is not allowed:
            return f"{'forbidden' if allowed else 'allowed'}: {door.name}"
    return "all of them"


def check(hand_in: HandIn, seed: Seed, unseen: Seed) -> Iterator[Outcome]:
    """See `Task`."""
    own, other = variant(seed), unseen_variant(seed, unseen)
    mine, where = "attack: the ghost reads what your victim says", SEEN_BY_ATTACK
    calm, opens = "defence: people come and go", "defence: the doors that are open"
    with Scene(unseen) as scene:
        with hand_in.loaded("attack") as ask:
            with Scene(seed) as known:
                yield tried(mine, READ, where, lambda: attack(ask, known, own, lax(own)))
            yield tried("attack: what a victim says that you have not seen", READ, where,
                        lambda: attack(ask, scene, other, lax(other)))  # fmt: skip
            yield tried("attack: the strong client stops", STOPPED, where,
                        lambda: _how(attack(ask, scene, own, check_commit)), twin=mine)  # fmt: skip
        yield predicted("prediction: what needs no member", "enters", hand_in, mine)
        with hand_in.loaded("defence") as ask:
            yield tried(opens, "all of them", "README.md, the table",
                        lambda: doors(ask, unseen, OPEN, allowed=True), idle=True)  # fmt: skip
            yield tried("defence: the doors that are shut", "all of them", "README.md, the table",
                        lambda: doors(ask, unseen, SHUT, allowed=False), twin=opens)  # fmt: skip
            yield tried(calm, CALM, SEEN_BY_DEFENCE, lambda: chat(ask, scene), twin=opens, idle=True)
            for hole in WEAK:
                yield tried(f"defence: the ghost reads nothing ({hole})", STOPPED, SEEN_BY_DEFENCE,
                            lambda hole=hole: defend(ask, scene, hole), twin=calm)  # type: ignore[misc]  # fmt: skip


def facts(seed: Seed) -> Mapping[str, str]:
    """What is personal in the handout."""
    return {"variant": variant(seed), "owner": owner(seed), "victim": victim(seed)}


@cache
def _shown(key: str) -> list[PublicStagedCommit]:
    """Changes of a room, honest ones and those of ghosts: made once, and shown to all builds."""
    with Scene(read_seed(key)) as scene:
        scene.person()
        mallory, public = scene.mallory, scene.mallory.groups[scene.room].public
        shown = [*scene.seen, _staged(public, mallory.make_commit(mallory.groups[scene.room]).message, mallory)]
        for way in WEAK.values():
            ghost, before = _Ghost(scene._stage, mallory, scene.room), public
            for step in way(scene.owner.name):
                _, made = ghost.commit(step)
                shown.append(_staged(before, made.message, mallory))
                before = shown[-1].after
        return shown


def _staged(before: PublicGroup, message: bytes, by: Rogue) -> PublicStagedCommit:
    return before.stage(decode_body(message, PublicMessage), validate=by.validate, now=by.now)


def _witness(build: str, seed: Seed) -> list[dict[str, Any]]:
    """Let a build's rules judge these changes; see CHECK."""
    judge = check_commit if build == STRONG else lax(build)
    seen = []
    for staged in _shown(seed.part("shown").text):
        try:
            judge(staged, departed=frozenset())
            followed = True
        except PeerError:
            followed = False
        names = ("rules", "who", "adds", "removes")
        seen.append(dict(zip(names, values(staged, frozenset()), strict=True)) | {"followed": followed})
    return sorted(seen, key=lambda each: seed.part("order", repr(each["who"]), repr(each["adds"])).text)


def _right(change: Mapping[str, Any], *roles: str) -> bool:
    """Whether who makes a change has one of these roles."""
    who = Identity(change["who"]["account"], change["who"]["key"])
    return any(who in change["rules"][role] for role in roles)


def _never(wrong: Callable[[Mapping[str, Any]], bool]) -> Callable[[list[dict[str, Any]]], bool]:
    """Whether no such change was followed."""
    return lambda seen: not any(each["followed"] and wrong(each) for each in seen)


REVIEW: Final = Review(
    weak=tuple(WEAK),
    witness=_witness,
    mine=variant,
    about=lambda seed: f"the client of your victim, `{variant(seed)}`",
    claims=(
        Claim("A member without any right cannot add somebody to the room.", "read rooms it is not in",
              _never(lambda each: each["adds"] and not each["removes"] and not _right(each, "owners", "inviters"))),
        Claim("A member without any right cannot give that right to themselves.", "read rooms it is not in",
              _never(lambda each: each["rules"]["changed"] and not _right(each, "owners"))),
        Claim("Nobody but an owner removes an owner.", "remove others without being an owner",
              _never(lambda each: each["removes"] and not _right(each, "owners"))),
        Claim("Somebody whom nobody has let in cannot come in by themselves.", "read rooms it is not in",
              _never(lambda each: not each["who"]["inside"])),
        Claim("An owner's changes are followed.", "remove others without being an owner",
              lambda seen: all(each["followed"] for each in seen if _right(each, "owners"))),
        Claim("A member cannot pass on to others what is said in the room.", "A malicious member", None),
        Claim("The server does not learn who is in the room.",
              "The server sees accounts, addresses, who is in which conversation", None),
    ),
    check=CHECK,
    runs=1,
)  # fmt: skip

TASK: Final = Task(ATTACK, DEFENCE, "12", check, facts, review=REVIEW, words=("adds", "rules", "swaps", "enters"))
