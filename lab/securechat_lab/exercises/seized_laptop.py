"""Exercise 8: a running laptop is copied; what its keys open, before and after, and which vault has kept old ones."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from securechat.client import events
from securechat.client.parts import PATH_MESSAGES, Timing
from securechat.client.vault.conversations import GroupTable
from securechat.client.vault.identity import SignatureKeyTable
from securechat.client.vault.vault import Vault
from securechat.errors import SecurechatError
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.mls.framing import ContentType, read_header
from securechat.mls.group import Group, SignatureKeys
from securechat.mls.tree_math import LeafIndex
from securechat.wire import messages as m
from securechat.wire.chain import MLS_MESSAGE
from securechat_lab.cast.hostile import Link
from securechat_lab.cast.scenes import direct, epoch, say
from securechat_lab.kit.asked import Asked
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.review import STRONG, Claim, Review
from securechat_lab.kit.sandbox import StudentError
from securechat_lab.kit.seeds import Seed, read_seed
from securechat_lab.kit.stage import PARTS, Actor, Stage
from securechat_lab.kit.task import (
    SEEN_BY_ATTACK,
    SEEN_BY_DEFENCE,
    Ask,
    HandIn,
    Task,
    predicted,
    shortened,
    tried,
    which,
)

ATTACK = '''"""Exercise 8, attack: what do copied keys open? Read README.md first."""


def steal(keys, log):
    """`keys`: what was in the copied vault, a list of {"id": 0, "epoch": 5, "used": 2}: one state of the conversation
    each, in which so many messages of its epoch have been read or sent. `log`: what the server has of the
    conversation, a list of {"seq": 12, "epoch": 5, "kind": "message" or "commit", "sender": "alice", "size": 410}.

    Return what is tried, one after the other: a list of ["read", id, seq], a message with these keys, and
    ["follow", id, seq], a commit. Each "follow" gives new keys, whose id is the next number, also if it fails. No more
    than 2,000 are tried: to try everything on every entry takes more, and what cannot succeed can be left out.
    """
    return []


def which():
    """What has your victim's vault kept? "ratchets", "epochs" or "backup"."""
    return "?"


if __name__ == "__main__":  # python3 securechat-lab/08-seized-laptop/attack.py: what you try on your own victim
    import json
    import pathlib

    for step in steal(**json.loads(pathlib.Path(__file__).with_name("laptop.json").read_text())):
        print(*step)
'''

DEFENCE = '''"""Exercise 8, defence: which keys go, and when do new ones come? Read README.md first."""


def delete(keys):
    """The program has just put another state of its keys into the vault. Return a list of ids: what is deleted.

    `keys`: all that is there, in no order, a list of {"id": 3, "epoch": 5, "used": 2}, as in attack.py.
    """
    return []


def renew(said, days, limits):
    """Is it time for fresh keys, by a commit of our own? Return True or False.

    `said`: our messages since the last time. `days`: since then. `limits`: how many of each there may be,
    {"messages": 4, "days": 7}. Each commit costs everybody work: none comes earlier than it has to.
    """
    return False
'''

CHECK = '''"""Exercise 8, a check of your own: does this vault delete what it has to? Read README.md first."""


def sound(seen):
    """Return True if the vault is sound, False if it keeps what it should not.

    `seen`: a conversation whose keys were copied in between: {"theft": the seq of the last entry before, "log": a list
    of {"seq": 12, "epoch": 5, "kind": "message" or "commit", "sender": "alice", "size": 410, "read": whether the copied
    keys have opened it}}.
    """
    return True
'''

VICTIM: Final = "bob"
FRIEND: Final = "alice"

STOLEN: Final = "laptop.json"
"""What a student has of their victim, to look at and to try their file on."""

MAX_STEPS: Final = 2_000
"""Steps of a thief: trying every state on every entry of its epoch takes less than a hundred."""

MAX_DAYS: Final = 30
"""Ages of a path that a student is asked about."""

FIRST_PATH: Final = 2
"""Own messages after which bob renews his path while they come to know each other: his yes, and a "hi"."""


class State(NamedTuple):
    """What a vault holds of a group at some moment."""

    id: int
    epoch: int
    used: int
    """Messages of this epoch whose keys are used up."""
    public: bytes
    secret: bytes

    @property
    def told(self) -> dict[str, int]:
        """What is said of it."""
        return {"id": self.id, "epoch": self.epoch, "used": self.used}


Delete = Callable[[list[State]], set[int]]
"""From all states that are there, the newest last, to the ids of those that go."""


def everything_old(states: list[State]) -> set[int]:
    """As the product does it."""
    return {each.id for each in states[:-1]}


def but_ratchets(states: list[State]) -> set[int]:
    """Keep how the newest epoch began: then nothing of it is deleted before it ends."""
    first = next(each.id for each in states if each.epoch == states[-1].epoch)
    return everything_old(states) - {first}


def but_epochs(states: list[State]) -> set[int]:
    """Keep how each epoch ended."""
    ends = {each.id for each, after in pairwise(states) if each.epoch != after.epoch}
    return everything_old(states) - ends


def but_backup(states: list[State]) -> set[int]:
    """Keep what was there when the program began."""
    return everything_old(states) - {states[0].id}


WEAK: Final[dict[str, Delete]] = {"ratchets": but_ratchets, "epochs": but_epochs, "backup": but_backup}
"""The family: one part, the table of groups in a vault."""


class Keeping(GroupTable):
    """The table of groups of a vault in which old states of one conversation stay, unless somebody deletes them."""

    def __init__(self, vault: Vault, delete: Delete) -> None:
        super().__init__(vault)
        self._vault = vault
        self._delete = delete
        self._lock = threading.Lock()  # the states: written by the client's thread, read by the thief
        self._states: list[State] = []
        self._count = 0
        self.lost = False
        """Whether the newest state is gone, too."""
        self.keys: SignatureKeys = {}

    def load(self, conversation: bytes) -> tuple[bytes, bytes] | None:
        """Note what is there when the program begins."""
        found = super().load(conversation)
        if found is not None and not self._count:
            table = SignatureKeyTable(self._vault)
            private = [SignaturePrivateKey(SUITE, table.find(public) or b"") for public in table.all()]
            self.keys = {each.public_key: each for each in private}
            group = Group.load(*found, self.keys)
            self._add(conversation, State(0, group.epoch, 0, *found))
        return found

    def save(self, conversation: bytes, public: bytes, secret: bytes) -> None:
        """Note a new epoch."""
        super().save(conversation, public, secret)
        self._add(conversation, State(self._count, Group.load(public, secret, self.keys).epoch, 0, public, secret))

    def save_secret(self, conversation: bytes, secret: bytes) -> None:
        """Note that a message was read or sent."""
        super().save_secret(conversation, secret)
        newest = self._newest
        self._add(conversation, State(self._count, newest.epoch, newest.used + 1, newest.public, secret))

    def stolen(self) -> list[State]:
        """Return a copy of what is there."""
        with self._lock:
            return [*self._states]

    def _add(self, conversation: bytes, state: State) -> None:
        self._newest, self._count = state, self._count + 1
        with self._lock:
            self._states.append(state)
            gone = self._delete(self._states)
            self._states = [each for each in self._states if each.id not in gone]
            self.lost = state.id in gone
        if self.lost:
            self._vault.run("DELETE FROM groups WHERE conversation = ?", conversation)


class Victim(Actor):
    """Somebody with such a vault, once it is said what is deleted from it."""

    delete: Delete | None = None

    def open_vault(self) -> Vault:
        """Open it."""
        vault = super().open_vault()
        if self.delete is not None:
            self.kept = vault.groups = Keeping(vault, self.delete)
        return vault


class Logged(NamedTuple):
    """An entry of the conversation, as the server has it."""

    seq: int
    epoch: int
    kind: str
    sender: str
    payload: bytes
    time: int

    @property
    def told(self) -> dict[str, object]:
        """What is said of it."""
        first = {"seq": self.seq, "epoch": self.epoch, "kind": self.kind}
        return first | {"sender": self.sender, "size": len(self.payload)}


@dataclass(frozen=True)
class Scene:
    """What is left of a scene."""

    log: list[Logged]
    after: set[int]
    """What came after the theft."""
    stolen: list[State]
    keys: SignatureKeys
    goes_on: str
    """What came of the victim's next start."""

    @property
    def renewals(self) -> int:
        """How often the victim has renewed their path."""
        return sum(each.kind == "commit" and each.sender == VICTIM for each in self.log)

    @property
    def often(self) -> str:
        """The same in words."""
        return "once" if self.renewals == 1 else f"{self.renewals} times"


@dataclass(frozen=True)
class Script:
    """What a seed decides."""

    friends: int
    """Messages after which alice renews her path."""
    messages: int
    """The same of bob, if nobody else decides it."""
    days: int
    before: int
    """Messages of alice in the epoch of the theft, before it."""

    @property
    def limits(self) -> dict[str, int]:
        """How a student is told."""
        return {"messages": self.messages, "days": self.days}

    @property
    def lines(self) -> list[str]:
        """Who speaks; `""` is the theft. Alice has said one line before."""
        first = [FRIEND] * (self.friends - 1)
        second = [FRIEND] + [VICTIM] * self.messages + [FRIEND] * (self.friends - 1)
        third = [FRIEND] * self.before + [VICTIM, ""] + [FRIEND] * (self.friends - self.before)
        return first + second + third + [VICTIM] * (self.messages - 1) + [FRIEND] * 2


def script(seed: Seed) -> Script:
    """Return what a seed decides."""
    friends = 3 + seed.part("friends").below(2)
    before = 1 + seed.part("before").below(friends - 1)
    return Script(friends, 3 + seed.part("messages").below(2), 4 + seed.part("days").below(10), before)


def play(seed: Seed, delete: Delete, messages: int) -> Scene:
    """Let two people talk, bob with a vault from which somebody deletes, and copy it in between.

    `messages`: own ones after which bob renews his path.
    """
    plan, log = script(seed), dict[tuple[bytes, int], Logged]()

    def note(link: Link, entry: m.Entry) -> None:
        if entry.kind == MLS_MESSAGE:
            header = read_header(entry.payload)
            kind = "commit" if header.content_type == ContentType.COMMIT else "message"
            sender = VICTIM if link.account == FRIEND else FRIEND
            place = entry.conversation, entry.seq
            log[place] = Logged(entry.seq, header.epoch, kind, sender, entry.payload, entry.time)

    with Stage() as stage:
        stage.liar.lie(m.Entry, note)
        alice = stage.person(FRIEND, replace(PARTS, timing=Timing(path_messages=plan.friends)))
        bob = stage.person(VICTIM, replace(PARTS, timing=Timing(path_messages=FIRST_PATH)), made=Victim)
        assert isinstance(bob, Victim)
        conversation = direct(alice, bob)
        _settled(2, alice, bob)
        log.clear()
        _start_again(bob, delete, messages)
        people, limits = {FRIEND: alice, VICTIM: bob}, {FRIEND: plan.friends, VICTIM: messages}
        said, now, before, stolen = {FRIEND: 1, VICTIM: 0}, 2, 0, list[State]()
        for number, who in enumerate(plan.lines):
            if not who:
                stolen, before = bob.kept.stolen(), max(seq for where, seq in log if where == conversation)
                continue
            other = people[VICTIM if who == FRIEND else FRIEND]
            say(people[who], other.name, seed.part("text", str(number)).word(), other)
            said[who] += 1
            if said[who] >= limits[who]:  # now it renews its path, without being asked
                said[who], now = 0, now + 1
                _settled(now, alice, bob)
        entries = sorted(each for (where, _), each in log.items() if where == conversation)
        keys, goes_on = bob.kept.keys, "the conversation is lost"
        if not bob.kept.lost:
            _start_again(bob, everything_old, messages)
            say(alice, VICTIM, "are you there?", bob)
            goes_on = "it goes on"
    return Scene(entries, {each.seq for each in entries if each.seq > before}, stolen, keys, goes_on)


def _start_again(bob: Victim, delete: Delete, messages: int) -> None:
    bob.close()
    bob.delete, bob.parts = delete, replace(bob.parts, timing=Timing(path_messages=messages))
    bob.start()
    bob.wait_for(events.Ready)


def _settled(number: int, alice: Actor, bob: Actor) -> None:
    """Wait until both are in an epoch."""
    alice.wait_until(lambda: epoch(alice, VICTIM) == number)
    bob.wait_until(lambda: epoch(bob, FRIEND) == number)


@cache
def _played(key: str) -> Scene:
    """A scene with a vault that keeps everything: played once for all vaults, and for all hand-ins."""
    seed = read_seed(key)
    return play(seed, lambda _: set(), script(seed).messages)


def left(states: list[State], delete: Delete) -> list[State]:
    """Return what is left of states that came one after the other where somebody deletes."""
    there: list[State] = []
    for each in states:
        there.append(each)
        gone = delete(there)
        there = [each for each in there if each.id not in gone]
    return there


def seized(seed: Seed, kind: str) -> Scene:
    """Return a scene with a vault of ours: one of `WEAK`, or STRONG."""
    scene = _played(seed.text)
    return replace(scene, stolen=left(scene.stolen, WEAK.get(kind, everything_old)))


class _Thief(Group):
    """A member's state in other hands: what its owner has sent can be read, too, if its key is there."""

    def _check_sender(self, leaf: LeafIndex) -> None:
        self.public.member(leaf)


Step = tuple[str, int, int]


def carry_out(scene: Scene, steps: Sequence[Step]) -> set[int]:
    """Try what a thief wants to try, and return which messages were read."""
    groups: dict[int, Group] = {
        number: _Thief.load(each.public, each.secret, scene.keys) for number, each in enumerate(scene.stolen)
    }
    entries, read, count = {each.seq: each for each in scene.log}, set[int](), len(groups)
    for what, number, seq in steps:
        group, entry = groups.get(number), entries.get(seq)
        try:
            if group is not None and entry is not None and what == "read":
                group.decrypt(entry.payload)
                read.add(seq)
            elif group is not None and entry is not None:
                after = group.stage(entry.payload, validate=lambda *_, **__: None, now=entry.time // 1000).group
                assert after is not None
                groups[count] = _Thief.load(after.public_bytes(), after.secret_bytes(), scene.keys)
        except SecurechatError:
            pass  # these keys do not open it
        count += what == "follow"
    return read


def words(read: set[int]) -> str:
    """How a set of entries looks in an outcome."""
    return ", ".join(map(str, sorted(read))) or "nothing"


def best(scene: Scene) -> list[Step]:
    """What a thief tries who leaves nothing out."""
    steps, known = list[Step](), [(number, each.epoch) for number, each in enumerate(scene.stolen)]
    count = len(known)
    for number, at in known:  # grows on the way
        for entry in scene.log:
            if entry.epoch == at and entry.kind == "message":
                steps.append(("read", number, entry.seq))
            elif entry.epoch == at:
                steps.append(("follow", number, entry.seq))
                known.append((count, at + 1))
                count += 1
    return steps


def readable(scene: Scene) -> set[int]:
    """Return what can be read at best."""
    return carry_out(scene, best(scene))


def attack(ask: Ask, scene: Scene) -> str:
    """Let a student steal."""
    given = ask().call("steal", _told(scene), [each.told for each in scene.log])
    if not isinstance(given, list) or not all(map(_is_step, given)):
        raise StudentError(f'steal() returned {shortened(given)}, which is no list of ["read" or "follow", id, seq].')
    if len(given) > MAX_STEPS:
        raise StudentError(f"steal() returned {len(given):,} steps, and no more than {MAX_STEPS:,} are tried.")
    return words(carry_out(scene, [(what, number, seq) for what, number, seq in given]))


def _told(scene: Scene) -> list[dict[str, int]]:
    return [each.told | {"id": number} for number, each in enumerate(scene.stolen)]


def _is_step(given: Any) -> bool:
    whole = isinstance(given, list) and len(given) == 3
    return whole and given[0] in ("read", "follow") and all(type(each) is int for each in given[1:])


def deleted(asked: Asked, seed: Seed, states: list[State]) -> set[int]:
    """Ask what goes; by a client's own thread."""
    order = sorted(states, key=lambda each: seed.part("order", str(each.id)).text)
    return set(asked.answer(_are_ids, "no list of ids", "delete", [each.told for each in order]) or ())


def _are_ids(given: Any) -> bool:
    return isinstance(given, list) and all(type(each) is int for each in given)


def due(ask: Ask, limits: dict[str, int], most: int, *, days: bool) -> int:
    """Return after how many messages, or days, a student renews a path; `most`: they do not up to there."""
    for count in range(most):
        verdict = ask().call("renew", 0 if days else count, count if days else 0, limits)
        if not isinstance(verdict, bool):
            raise StudentError(f"renew() returned {verdict!r:.60}, which is neither True nor False.")
        if verdict:
            return count
    return most


def defend(ask: Ask, seed: Seed) -> Scene:
    """Let a student's verdicts decide what bob's vault deletes, and when his path is renewed."""
    messages = due(ask, script(seed).limits, PATH_MESSAGES, days=False)
    if messages == 0:
        raise StudentError("renew() wants fresh keys where nothing was said: one commit would follow the other.")
    asked = Asked(ask())
    scene = play(seed, partial(deleted, asked, seed), messages)
    asked.done()
    return scene


def variant(seed: Seed) -> str:
    """What the vault of a student's own victim keeps."""
    return seed.part("variant").pick(list(WEAK))


def unseen_variant(seed: Seed, unseen: Seed) -> str:
    """What the other victim's does: not the same."""
    return unseen.part("variant").pick([each for each in WEAK if each != variant(seed)])


def check(hand_in: HandIn, seed: Seed, unseen: Seed) -> Iterator[Outcome]:
    """See `Task`."""
    own, other = variant(seed), unseen_variant(seed, unseen)
    mine, log = "attack: what your victim's keys open", SEEN_BY_ATTACK
    scene, unknown, strong = seized(seed, own), seized(unseen, other), seized(unseen, STRONG)
    healed = words(readable(strong))
    with hand_in.loaded("attack") as ask:
        yield tried(mine, words(readable(scene)), log, lambda: attack(ask, scene))
        there = ", ".join(f"epoch {each.epoch} with {each.used} used" for each in scene.stolen)
        yield which("attack: what your victim's vault has kept", own, f"what was in it: {there}", ask, twin=mine)
        yield tried("attack: what those of a victim open that you have not seen", words(readable(unknown)), log,
                    lambda: attack(ask, unknown))  # fmt: skip
        yield tried("attack: a vault that keeps nothing gives what comes until it heals", healed, log,
                    lambda: attack(ask, strong), twin=mine)  # fmt: skip
    yield predicted("prediction: whose commit a thief of bob's keys cannot follow", VICTIM, hand_in, mine)
    goes_on, past = "defence: bob's program is started again, and goes on", "defence: what copied keys open of before"
    future, often = "defence: what they open of what comes", "defence: how often bob renews his path"
    day, limits = "defence: when he renews it without a word", script(unseen).limits
    with hand_in.loaded("defence") as ask:
        played: list[Scene | StudentError] = []

        def first() -> str:
            try:
                played.append(defend(ask, unseen))
            except StudentError as error:
                played.append(error)
            return then(lambda done: done.goes_on)()

        def then(seen: Callable[[Scene], str]) -> Callable[[], str]:
            def told() -> str:
                if not played:
                    return "there was no scene"
                if isinstance(played[0], StudentError):
                    raise played[0]
                return seen(played[0])

            return told

        yield tried(goes_on, "it goes on", SEEN_BY_DEFENCE, first, twin=past)
        yield tried(past, "nothing", SEEN_BY_DEFENCE,
                    then(lambda done: words(readable(done) - done.after)), twin=goes_on)  # fmt: skip
        yield tried(future, healed, SEEN_BY_DEFENCE, then(lambda done: words(readable(done) & done.after)), twin=often)
        yield tried(often, strong.often, SEEN_BY_DEFENCE, then(lambda done: done.often), twin=day)
        yield tried(day, f"after {limits['days']} days", SEEN_BY_DEFENCE,
                    lambda: f"after {due(ask, limits, MAX_DAYS, days=True)} days", twin=often)  # fmt: skip


def _lines(told: Sequence[dict[str, Any]]) -> str:
    """JSON, one to a line."""
    return "[\n" + ",\n".join(json.dumps(each) for each in told) + "\n]"


def prepare(seed: Seed, folder: Path) -> None:
    """Put into a student's folder what was stolen from their victim, and what the server has."""
    scene = seized(seed, variant(seed))
    keys, log = (_lines(each) for each in (_told(scene), [each.told for each in scene.log]))
    (folder / STOLEN).write_text(f'{{"keys": {keys},\n"log": {log}}}\n')


def facts(seed: Seed) -> Mapping[str, str]:
    """What is personal in the handout."""
    plan = script(seed)
    return {"messages": str(plan.messages), "days": str(plan.days), "friends": str(plan.friends)}


def _witness(build: str, seed: Seed) -> dict[str, Any]:
    """Copy the keys of a vault in the middle of a conversation, and read its log with them; see CHECK."""
    scene = seized(seed, build)
    read = readable(scene)
    log = [each.told | {"read": each.seq in read} for each in scene.log]
    return {"theft": min(scene.after) - 1, "log": log}


def _opened(seen: Mapping[str, Any], where: Callable[[Mapping[str, Any]], bool]) -> bool:
    return any(each["read"] and where(each) for each in seen["log"])


def _epoch_of_theft(seen: Mapping[str, Any]) -> int:
    newest: int = max(each["epoch"] for each in seen["log"] if each["seq"] <= seen["theft"])
    return newest


def _healed(seen: Mapping[str, Any]) -> int:
    """After which entry the thief is out: the first commit of the victim after the theft."""
    commits = [each["seq"] for each in seen["log"] if each["kind"] == "commit" and each["sender"] == VICTIM]
    first: int = min(seq for seq in commits if seq > seen["theft"])
    return first


REVIEW: Final = Review(
    weak=tuple(WEAK),
    witness=_witness,
    mine=variant,
    about=lambda _: "the vault of your victim, the one that `attack.py` is about",
    claims=(
        Claim("Of epochs that were over before the theft, nothing can be read.",
              "an epoch's secrets when the next one begins",
              lambda seen: not _opened(seen, lambda each: each["epoch"] < _epoch_of_theft(seen))),
        Claim("Of the epoch of the theft, nothing can be read that came before it.",
              "A message key is deleted when it is used",
              lambda seen: not _opened(
                  seen, lambda each: each["seq"] <= seen["theft"] and each["epoch"] == _epoch_of_theft(seen))),
        Claim("After bob's next commit, a thief who only listens reads nothing any more.",
              "members commit a fresh path after 50 messages of their own or 7 days",
              lambda seen: not _opened(seen, lambda each: each["seq"] > _healed(seen))),
        Claim("From the theft on, nothing can be read.",
              "read what that device can read, until its next path in each conversation", None),
        Claim("A thief who commits in bob's name is shut out by bob's next commit.",
              "is not shut out when members renew their paths", None),
        Claim("Whoever has the opened vault cannot read the lines of before.",
              "keys are deleted, the lines that a client keeps are not", None),
    ),
    check=CHECK,
    runs=1,
)  # fmt: skip

TASK: Final = Task(ATTACK, DEFENCE, "08", check, facts, prepare, REVIEW, words=("alice", "bob"))
