"""Exercise 10: several members change one group at once, and a log that takes more than one of them.

The groups are real ones (RFC 9420), the log is a model of the server's: it knows epochs and nothing else, and has its
one rule (`accepts_commit`). A real server goes by a student's rule in the end.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Final, NamedTuple

from securechat.client import commands
from securechat.errors import PeerError
from securechat.mls.credential import Credential
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.mls.framing import decode_body
from securechat.mls.group import Group, StagedCommit
from securechat.mls.key_package_bundle import KeyPackageBundle, generate_key_package
from securechat.mls.leaf_node import Capabilities, Lifetime
from securechat.mls.proposals import Add, Proposal, Remove
from securechat.mls.welcome import Welcome
from securechat.server.parts import ServerParts
from securechat.server.sequencer.commits import accepts_commit
from securechat.server.sequencer.leases import STRIKES
from securechat_lab.cast.scenes import direct, found, members, say
from securechat_lab.kit.asked import Asked
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.review import STRONG, Claim, Review
from securechat_lab.kit.sandbox import StudentError
from securechat_lab.kit.seeds import Seed
from securechat_lab.kit.stage import Stage
from securechat_lab.kit.task import Ask, HandIn, Task, predicted, shortened, tried, which

ATTACK = '''"""Exercise 10, attack: remain in the group. Read README.md first."""


def commits(epoch, log):
    """You are mallory, and about to be removed. In which epochs do you hand in a commit now? Return a list of numbers,
    four at most; they are handed in in this order.

    `epoch`: the newest one that you have been in. `log`: all that was handed in so far, each as
    {"by": "alice", "epoch": 5, "taken": True}. Your program makes commits of all epochs from the one in which alice
    begins to remove you to `epoch`, and of as many as 16 after that, in a branch of your own.
    """
    return []


def which():
    """Which rule has your victim's server? "late", "newer" or "any"."""
    return "?"
'''

DEFENCE = '''"""Exercise 10, defence: which commit enters the log? Read README.md first."""


def may_enter(head, epoch):
    """A commit was made in `epoch`, and the log is in epoch `head`. Return True if it enters; the log is in the epoch
    after it then. False: whoever made it is told to read on, and to try again.
    """
    return True
'''

CHECK = '''"""Exercise 10, a check of your own: does one commit of each epoch enter? Read README.md first."""


def sound(seen):
    """Return True if the server is sound, False if its rule has a hole.

    `seen`: what was seen each time that Alice removed Mallory, who did something against it, or nothing. A list of
    {"log": all commits that were handed in, as in `commits`, "removed": whether Alice was told that Mallory is out,
    "read": whether Mallory read what Bob said after that}.
    """
    return True
'''

Rule = Callable[[int, int], bool]
"""From the log's epoch and a commit's to whether it enters."""


def _late(head: int, epoch: int) -> bool:
    return head - 1 <= epoch <= head


def _newer(head: int, epoch: int) -> bool:
    return epoch >= head


def _any(_: int, __: int) -> bool:
    return True


WEAK: Final[dict[str, Rule]] = {"late": _late, "newer": _newer, "any": _any}
"""The family: one part, `accepts_commit`."""

ROUNDS: Final = 200
RIVALS: Final = 8
"""Commits of one round."""
ATTEMPTS: Final = 6
"""Times that alice tries to remove mallory; after `STRIKES` in vain the server lets her go first, as the real one."""
AHEAD: Final = 16
"""Epochs that mallory goes ahead by herself, at most."""
MAX_COMMITS: Final = 4
"""That she hands in at one time."""

SECRET: Final = b"now that we are among ourselves"
NOW: Final = 1
"""Seconds since 1970: key packages are valid for ever here."""


def _anyone(*_: object, **__: object) -> None:
    """Accept every credential."""


def _commit(group: Group, *proposals: Proposal) -> StagedCommit:
    return group.commit(proposals, by_reference=None, tree_in_welcome=True, validate=_anyone, now=NOW)


def _next(staged: StagedCommit) -> Group:
    assert staged.group is not None
    return staged.group


class Try(NamedTuple):
    """A commit that was handed in."""

    by: str
    epoch: int
    taken: bool


@dataclass
class Log:
    """A room at a server that sees epochs alone."""

    head: int
    rule: Rule
    tries: list[Try] = field(default_factory=list)
    entries: list[tuple[str, int, bytes]] = field(default_factory=list)
    """Whose commit, made in which epoch, and the commit."""

    def hand_in(self, by: str, epoch: int, commit: bytes) -> bool:
        """Take a commit, or not."""
        taken = self.rule(self.head, epoch)
        self.tries.append(Try(by, epoch, taken))
        if taken:
            self.entries.append((by, epoch, commit))
            self.head = epoch + 1
        return taken


class Person:
    """A member whose program follows the log: of each epoch the first commit counts, and it passes over what it cannot
    read. What it has handed in itself counts once the server has taken it.
    """

    def __init__(self, name: str, group: Group) -> None:
        self.name = name
        self.states = {group.epoch: group}
        """The group in each epoch that it has been in: an honest program forgets the old ones."""
        self._read = 0

    @property
    def group(self) -> Group:
        """As it is now."""
        return self.states[max(self.states)]

    def follow(self, log: Log) -> None:
        """Read on."""
        for by, epoch, commit in log.entries[self._read :]:
            if by != self.name and epoch == self.group.epoch:
                try:
                    after = self.group.stage(commit, validate=_anyone, now=NOW).group
                except PeerError:
                    continue
                if after is not None:
                    self.states[after.epoch] = after
        self._read = len(log.entries)

    def change(self, log: Log, epoch: int, *proposals: Proposal) -> bool:
        """Hand in a commit made in an epoch, if need be at the end of our own branch. Says whether it was taken."""
        group = self.states[max(each for each in self.states if each <= epoch)]
        while group.epoch < epoch:
            group = _next(_commit(group))
        staged = _commit(group, *proposals)
        taken = log.hand_in(self.name, epoch, staged.message)
        if taken:
            self.states |= {group.epoch: group, epoch + 1: _next(staged)}
        return taken

    def reads(self, message: bytes) -> bool:
        """Whether a message can be read in any of the states."""
        for group in self.states.values():
            try:
                return group.decrypt(message).plaintext == SECRET
            except PeerError:
                continue
        return False


def _key(name: str) -> tuple[SignaturePrivateKey, KeyPackageBundle]:
    key = SignaturePrivateKey.generate(SUITE)
    capabilities, lifetime = Capabilities(cipher_suites=(SUITE.value,)), Lifetime(0, 1 << 40)
    return key, generate_key_package(SUITE, Credential.basic(name.encode()), key, capabilities, lifetime)


@cache
def gather(epochs: int, *names: str) -> dict[str, Group]:
    """Return one group, after so many epochs, as each of these people has it."""
    keys = {name: _key(name) for name in names}
    first, *others = names
    group = Group.create(bytes(32), keys[first][1], keys[first][0])
    while group.epoch < epochs - 1:
        group = _next(_commit(group))
    staged = _commit(group, *(Add(keys[name][1].key_package) for name in others))
    welcome = decode_body(staged.welcome or b"", Welcome)
    groups = {first: _next(staged)}
    for name in others:
        key, bundle = keys[name]
        groups[name] = Group.join(welcome, bundle, key, validate=_anyone, now=NOW)
    return groups


Mallory = Callable[[int, list[Try]], Sequence[int]]
"""From the newest epoch that she has been in, and what was handed in so far, to those in which she hands in commits."""


@dataclass(frozen=True)
class Seen:
    """What came of a scene."""

    tries: list[Try]
    removed: bool
    """Whether alice was told that mallory is out."""
    mallory: bool
    """Whether she reads what bob says then."""
    carol: bool
    """Whether another member does."""

    @property
    def words(self) -> str:
        """Who has read it."""
        return "carol read nothing" if not self.carol else f"mallory read {'it' if self.mallory else 'nothing'}"


def play(seed: Seed, rule: Rule, mallory: Mallory) -> Seen:
    """Let alice remove mallory, and bob say something after that."""
    epoch = first_epoch(seed)
    groups = gather(epoch, "alice", "bob", "carol", "mallory")
    alice, bob, carol, rogue = (Person(name, group) for name, group in groups.items())
    log, removed = Log(epoch, rule), False

    def turn() -> None:
        rogue.follow(log)
        for each in mallory(max(rogue.states), log.tries)[:MAX_COMMITS]:
            rogue.change(log, each)

    for attempt in range(ATTEMPTS):
        if attempt < STRIKES:
            turn()
        if alice.change(log, alice.group.epoch, Remove(rogue.group.own_leaf)):
            removed = True
            break
        alice.follow(log)
    turn()
    for person in (bob, carol, rogue):
        person.follow(log)
    said = bob.group.encrypt(SECRET)
    return Seen(log.tries, removed, rogue.reads(said), carol.reads(said))


def first_epoch(seed: Seed) -> int:
    """In which epoch a scene begins: personal."""
    return 5 + seed.part("epoch").below(12)


def attack(ask: Ask, seed: Seed, rule: Rule) -> str:
    """Let a student attack."""
    student, first = ask(), first_epoch(seed)

    def mallory(epoch: int, tries: list[Try]) -> list[int]:
        given = student.call("commits", epoch, [each._asdict() for each in tries])
        last = epoch + AHEAD
        if isinstance(given, list) and len(given) <= MAX_COMMITS and all(type(each) is int for each in given):
            if all(first <= each <= last for each in given):
                return given
            wrong = f": she can make commits of epochs {first} to {last}"
        else:
            wrong = f", which is no list of {MAX_COMMITS} numbers or fewer"
        raise StudentError(f"commits() returned {shortened(given)}{wrong}.")

    return play(seed, rule, mallory).words


def _first(epoch: int, _: list[Try]) -> list[int]:
    return [epoch]


def _ahead(epoch: int, _: list[Try]) -> list[int]:
    return [epoch, epoch + 2]


def _behind(epoch: int, tries: list[Try]) -> list[int]:
    return [tries[0].epoch, epoch] if tries else []


TRICKS: Final[dict[str, Mallory]] = {
    "whoever commits before she is removed": _first,
    "whoever runs ahead": _ahead,
    "whoever comes afterwards": _behind,
}


def race(seed: Seed, rule: Rule) -> tuple[int, int]:
    """Hold the rounds. Return how many had a winner, and how many commits entered that should not have."""
    head, won, wrong = 1 + seed.part("head").below(1 << 20), 0, 0
    for number in range(ROUNDS):
        part = seed.part("round", str(number))
        fair = 1 + part.part("fair").below(RIVALS)  # so many of them were made in the log's epoch
        older = [max(head - 1 - part.part("older", str(n)).below(4), 0) for n in range(RIVALS - fair)]
        newer = [head + 2 + part.part("newer", str(n)).below(4) for n in range(RIVALS - fair)]
        others = [part.part("side", str(n)).pick(each) for n, each in enumerate(zip(older, newer, strict=True))]
        epochs = [head] * fair + others
        log = Log(head, rule)
        for n in sorted(range(RIVALS), key=lambda n: part.part("order", str(n)).text):
            log.hand_in(str(n), epochs[n], b"")
        entered = [epoch for _, epoch, _ in log.entries]
        won += head in entered
        wrong += len(entered) - (head in entered)
        head += 1
    return won, wrong


def every_one_once(rule: Rule = accepts_commit) -> int:
    """How many commits are handed in until each of the rivals has got one in."""
    log, left = Log(1, rule), RIVALS
    while left:
        epoch = log.head
        left -= sum(log.hand_in(str(n), epoch, b"") for n in range(left))
    return len(log.tries)


def rounds(ask: Ask, seed: Seed) -> tuple[int, int]:
    """Let a student's rule decide a race."""
    asked = Asked(ask())
    found = race(seed, partial(asked.yes, "may_enter"))
    asked.done()
    return found


def defend(ask: Ask, seed: Seed, mallory: Mallory) -> str:
    """Let a log go by a student's rule."""
    asked = Asked(ask())
    seen = play(seed, partial(asked.yes, "may_enter"), mallory)
    asked.done()
    return seen.words


def on_a_real_server(ask: Ask) -> str:
    """Let people meet, talk, and put somebody out, at a server by a student's rule."""
    asked = Asked(ask())
    with Stage(server_parts=ServerParts(accepts_commit=partial(asked.yes, "may_enter"))) as stage:
        alice, bob, mallory = (stage.person(name) for name in ("alice", "bob", "mallory"))
        for each in (bob, mallory):
            direct(alice, each)
        found(alice, "#plan", bob, mallory)
        say(mallory, "#plan", "hello", alice, bob)
        alice.do(commands.Remove(alice.id_of("#plan"), "mallory"))
        bob.wait_until(lambda: members(bob, "#plan") == ("alice", "bob"))
        say(alice, "#plan", SECRET.decode(), bob)
        read = f"alice: {SECRET.decode()}" in mallory.texts("#plan")
    asked.done()
    return "mallory read it" if read else "mallory read nothing"


def variant(seed: Seed) -> str:
    """Which rule a student's own server has."""
    return seed.part("variant").pick(list(WEAK))


def unseen_variant(seed: Seed, unseen: Seed) -> str:
    """Which rule the other one has: one that needs another attack. "late" and "any" fall to whoever is first."""
    return "newer" if variant(seed) != "newer" else unseen.part("variant").pick(["late", "any"])


def check(hand_in: HandIn, seed: Seed, unseen: Seed) -> Iterator[Outcome]:
    """See `Task`."""
    own, other = variant(seed), unseen_variant(seed, unseen)
    mine, log = "attack: you remain", "run.log: print `log` in commits()"
    read, nothing = "mallory read it", "mallory read nothing"
    with hand_in.loaded("attack") as ask:
        yield tried(mine, read, log, lambda: attack(ask, seed, WEAK[own]))
        yield which("attack: which rule your server has", own, "README.md, the three rules", ask, twin=mine)
        yield tried("attack: you remain at a server that you have not seen", read, log,
                    lambda: attack(ask, unseen, WEAK[other]))  # fmt: skip
        yield tried("attack: the strong one lets you go", nothing, log,
                    lambda: attack(ask, unseen, accepts_commit), twin=mine)  # fmt: skip
    what = f"prediction: commits until each of {RIVALS} has got one in"
    yield predicted(what, str(every_one_once()), hand_in, mine)
    enters, nobody = "defence: in each round somebody enters", "defence: in no round anybody else does"
    given = "run.log: print what may_enter() is given"
    with hand_in.loaded("defence") as ask:
        for name in sorted(TRICKS, key=lambda each: unseen.part("order", each).text):  # rounds print much
            yield tried(f"defence: {name} reads nothing", nothing, given,
                        lambda name=name: defend(ask, unseen.part(name), TRICKS[name]), twin=enters)  # type: ignore[misc]  # fmt: skip
        held = cache(lambda: rounds(ask, unseen))
        first = tried(enters, f"in {ROUNDS} of {ROUNDS}", given, lambda: f"in {held()[0]} of {ROUNDS}", twin=nobody)
        yield first
        second = tried(nobody, "0 entered", given, lambda: f"{held()[1]} entered", twin=enters)
        yield second
        real = "defence: a real server with your rule, where somebody is put out"
        if first.holds and second.holds:
            yield tried(real, nothing, given, lambda: on_a_real_server(ask), twin=enters)
        else:  # nobody would come in
            yield Outcome(real, nothing, "not tried: first, one enters in each round, and nobody else", "", enters)


def facts(seed: Seed) -> Mapping[str, str]:
    """What is personal in the handout."""
    return {"epoch": str(first_epoch(seed))}


def _witness(build: str, seed: Seed) -> list[dict[str, Any]]:
    """Let Alice remove Mallory, who does nothing against it once, and once all that she can; see CHECK."""
    rule = accepts_commit if build == STRONG else WEAK[build]

    def seen(name: str, mallory: Mallory) -> dict[str, Any]:
        found = play(seed.part(name), rule, mallory)
        return {"log": [each._asdict() for each in found.tries], "removed": found.removed, "read": found.mallory}

    honest, ahead = seen("honest", lambda *_: []), seen("ahead", _ahead)
    return seed.part("order").pick([[honest, ahead], [ahead, honest]])


def _calm(each: Mapping[str, Any]) -> bool:
    return all(one["by"] == "alice" for one in each["log"])


REVIEW: Final = Review(
    weak=("any", "late", "newer"),
    witness=_witness,
    mine=variant,
    about=lambda _: "your server, the one that `attack.py` is about",
    claims=(
        Claim("Whatever Mallory does, she reads nothing that is said after Alice has tried to remove her.",
              "read rooms it is not in",
              lambda seen: not any(each["read"] for each in seen)),
        Claim("Where Mallory does nothing against it, Alice removes her.",
              "so that people can still be removed",
              lambda seen: all(each["removed"] and not each["read"] for each in seen if _calm(each))),
        Claim("Mallory does not keep what was said while she was a member.",
              "A malicious member can leak what they read", None),
        Claim("A server that shows Alice's removal to nobody is found out at once.",
              "A removal that the server withholds.", None),
        Claim("The server does not see that it is Mallory who goes.", "they carry membership, not content", None),
        Claim("A commit that others cannot process holds up nobody.",
              "commit what others cannot process: the others stop", None),
        Claim("Bob can deny later what he has said.", "No deniability", None),
    ),
    check=CHECK,
    runs=2,
)  # fmt: skip

TASK: Final = Task(ATTACK, DEFENCE, "10", check, facts, review=REVIEW)
