"""Exercise 3: the server gives out a key of its own, to a client whose pins have one hole of three."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

from securechat.client import commands, events
from securechat.client.pins import PinBook
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.pins import Pins, Standing
from securechat.mls.framing import decode_body
from securechat.mls.welcome import Welcome
from securechat.wire import messages as m
from securechat_lab.cast.hostile import Link
from securechat_lab.cast.rogue import Rogue
from securechat_lab.cast.scenes import direct, state, verify
from securechat_lab.cast.shadow import Shadow
from securechat_lab.kit.asked import Asked
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.review import STRONG, Claim, Review
from securechat_lab.kit.sandbox import Student, StudentError
from securechat_lab.kit.seeds import Seed
from securechat_lab.kit.stage import PARTS, Actor, Stage, until
from securechat_lab.kit.task import SEEN_BY_ATTACK, SEEN_BY_DEFENCE, Ask, HandIn, Task, predicted, tried, which

ATTACK = '''"""Exercise 3, attack: swap a key. Read README.md first."""


def key_packages(target, account, honest, mine):
    """You are the server. Somebody asks for the keys of `account`, a str; return what they get, a list of bytes.

    `honest`: what the real server answers, a list of key packages, each bytes. `mine`: one key package, bytes: it says
    that it is of `target`, a str, and is under a key of yours.
    """
    return honest


def which():
    """Which hole has your victim? "forgetful", "silent" or "sloppy". It is asked right after the attack on it."""
    return "?"
'''

DEFENCE = '''"""Exercise 3, defence: what becomes of a key that is shown? Read README.md first."""


def observe(known, verified, shown):
    """Somebody shows a key. Return "accept" (what is written goes to it) or "hold" (it waits for a person).

    `known`: the key of theirs that was accepted before, bytes; None if there is none. `verified`: whether its safety
    number was compared. `shown`: the key that is shown now, bytes.
    """
    return "accept"
'''

NAMES: Final = ("bob", "cem", "dana", "eli", "fay", "gus", "hana", "ida")
"""Whom alice writes to; another one comes into the scene as well."""


CHECK = '''"""Exercise 3, a check of your own: does this client take keys as it should? Read README.md first."""


def sound(seen):
    """Return True if the client is sound, False if it has a hole.

    `seen`: what was seen of Alice's client each time that she wrote to somebody, a list of
    {"known": the key of theirs that was accepted before, bytes, or None, "compared": whether she had compared its
    safety number, "shown": the key that she got from the server, bytes, "told": what her screen said of it, a list of
    "a first contact" and "a changed key", "sent": whether what she wrote went to whoever has that key, "ticked":
    whether it is shown to her as one that was compared}.
    """
    return True
'''


class _Lax(PinBook):
    """Pins with a hole."""

    def _take(self, account: str, key: bytes) -> None:
        """Put a key in the place of whatever was accepted."""
        self._keep(Pins(account, {key: "accepted"}))


class Forgetful(_Lax):
    """Takes every key as if it were the first: whoever looks at the screen reads of a first contact again."""

    def meet(self, person: DeviceCertificate, conversation: bytes) -> bytes | None:
        """Forget what was known."""
        account, key = person.account, person.identity_key
        if account != self._own.account and self.of(account).states and self.of(account).written_to != key:
            self._keep(Pins(account))
            self.accept(account, key)
        return super().meet(person, conversation)


class Silent(PinBook):
    """Tells that a key has changed, and holds nothing."""

    def standing(self, account: str, key: bytes) -> Standing:
        """Find nothing wrong with a change."""
        found = super().standing(account, key)
        return "accepted" if found in ("changed", "changed-verified") else found

    def meet(self, person: DeviceCertificate, conversation: bytes) -> bytes | None:
        """Tell it as ever."""
        account, key = person.account, person.identity_key
        found = super().standing(account, key)
        if found in ("changed", "changed-verified") and (account, key) not in self._met:
            self._emit(events.KeyChanged(account, key.hex()[:16], found))
        return super().meet(person, conversation)


class Sloppy(_Lax):
    """Keeps by the account, and not by the key, that a safety number was compared."""

    def meet(self, person: DeviceCertificate, conversation: bytes) -> bytes | None:
        """Take over the tick."""
        account, key = person.account, person.identity_key
        known = self.of(account)
        if account != self._own.account and known.written_to not in (None, key):
            verified = known.states[known.written_to or b""] == "verified"
            self._keep(Pins(account, {key: "verified" if verified else "accepted"}))
        return super().meet(person, conversation)


WEAK: Final[dict[str, type[PinBook]]] = {"forgetful": Forgetful, "silent": Silent, "sloppy": Sloppy}
"""The family: one part, `pins`."""


class Verdicts(Asked):
    """A student's verdicts, as the pins of a client ask for them."""

    def __init__(self, student: Student) -> None:
        super().__init__(student)
        self.armed = False
        """Until then the pins are the product's, so that people can come to know each other."""

    def accepts(self, known: Pins, key: bytes) -> bool:
        """Whether a key is accepted."""
        before = known.written_to
        verified = before is not None and known.states[before] == "verified"
        return self.one_of(("accept", "hold"), "observe", before, verified, key) == "accept"

    def pins(self) -> type[PinBook]:
        """Return pins that do as they say."""
        verdicts = self

        class ByVerdicts(_Lax):
            """Pins by a student's function."""

            asked: ClassVar[set[tuple[str, bytes]]] = set()

            def write_first(self, account: str, key: bytes) -> None:
                """What is said of somebody new comes with `meet`."""
                if not verdicts.armed:
                    super().write_first(account, key)

            def meet(self, person: DeviceCertificate, conversation: bytes) -> bytes | None:
                """Ask of each key once."""
                account, key = person.account, person.identity_key
                known = self.of(account)
                if account == self._own.account or not verdicts.armed or (account, key) in self.asked:
                    return super().meet(person, conversation)
                self.asked.add((account, key))
                if verdicts.accepts(known, key):
                    if known.written_to != key:
                        self._take(account, key)
                elif known.written_to in (None, key):
                    self.refuse(account, key)
                return super().meet(person, conversation)

        return ByVerdicts


@dataclass
class Seen:
    """What came of a scene."""

    mole: bool = False  # whether the attacker read the secret
    friend: bool = False  # whether the right one did
    alarm: bool = False
    held: bool = False
    screen: list[str] = field(default_factory=list)  # what alice was told of her friend's key
    known: bytes | None = None  # the friend's own key, if she had met it
    shown: bytes = b""  # the key that she got from the server
    ticked: bool = False  # whether she is shown it as one that was compared

    @property
    def words(self) -> str:
        """For an outcome."""
        if self.alarm:
            return "alice was alarmed"
        return "the attacker read it" if self.mole else "held" if self.held else "the friend read it"


Swap = Callable[[str, bytes, bytes], list[bytes]]
"""From the account that was asked for, the honest key package and the attacker's to what is given out."""


def play(
    seed: Seed,
    pins: type[PinBook],
    swap: Swap | None,
    *,
    met: bool = True,
    compared: bool = False,
    arm: Callable[[], object] | None = None,
) -> Seen:
    """Let alice write a secret to a friend. `met`: she knows them; `swap`: what a lying server does.

    `arm`: called once they know each other, if somebody defends; who attacks finds a third person there.
    """
    friend, third = names(seed)
    secret = f"the safe opens with {seed.part('canary').word()}"
    with Stage() as stage:
        alice = stage.person("alice", replace(PARTS, pins=pins))
        bob = stage.person(friend)
        if met:
            direct(alice, bob)
            if compared:
                verify(alice, friend)
            _part(alice, bob)
        if arm is not None:
            arm()
        mole = stage.mole(friend)
        shadow = Shadow(stage.liar, mole)
        _only_for(mole, stage)
        if swap is not None:
            lie = _Lie(swap, mole.key_package())
            stage.liar.lie(m.KeyPackages, lie.tell, to="alice")
        real = bob.client._engine._context.device.identity_key
        seen = Seen(known=real if met else None, shown=real if swap is None else mole.identity_key)
        before = len(alice.happened)
        if arm is None:
            carol = stage.person(third)
            alice.do(commands.OpenDirect(third, "hello", ask=False))
            until(alice, lambda: alice.saw(events.Alarm), lambda: _has(carol, "alice", "hello"))
        alice.do(commands.OpenDirect(friend, secret, ask=False))
        until(
            alice,
            lambda: alice.saw(events.Alarm),
            lambda: secret in shadow.read,
            lambda: alice.saw(events.Held),
            lambda: _has(bob, "alice", secret),
        )
        seen.alarm, seen.held, seen.mole = alice.saw(events.Alarm), alice.saw(events.Held), secret in shadow.read
        seen.friend = _has(bob, "alice", secret)
        conversation = alice.client.find(friend)
        seen.ticked = conversation is not None and conversation.trust_in(friend) == "verified"
        seen.screen = [
            "a first contact" if isinstance(each, events.FirstContact) else "a changed key"
            for each in alice.happened[before:]
            if isinstance(each, events.FirstContact | events.KeyChanged) and each.account == friend
        ]
        if swap is not None and lie.failure is not None:
            raise lie.failure
        return seen


class _Lie:
    """What the lying server gives out; hooks run in another thread, which a student's fault must not end."""

    def __init__(self, swap: Swap, mine: bytes) -> None:
        self._swap = swap
        self._mine = mine
        self._lock = threading.Lock()
        self.failure: StudentError | None = None

    def tell(self, _: Link, reply: m.Message) -> list[m.Message] | None:
        """Answer a request for key packages."""
        assert isinstance(reply, m.KeyPackages)
        with self._lock:
            try:
                given = self._swap(reply.account, reply.key_packages[0], self._mine)
            except StudentError as error:
                self.failure = error
                return None
        return [m.KeyPackages(reply.id, reply.account, given)]


def names(seed: Seed) -> tuple[str, str]:
    """Whom alice writes to, and who else is there."""
    first = seed.part("friend").pick(NAMES)
    return first, seed.part("third").pick([each for each in NAMES if each != first])


def _part(alice: Actor, bob: Actor) -> None:
    """End their conversation, so that the next message needs a key package."""
    alice.do(commands.Bye(alice.id_of(bob.name)))
    bob.wait_for(events.ConversationChanged, lambda event: event.change == "bye")
    bob.do(commands.Bye(bob.id_of("alice")))
    alice.wait_until(lambda: state(alice, bob.name) == "closed")


def _only_for(mole: Rogue, stage: Stage) -> None:
    """Let the shadow open what was meant for the mole, and nothing else."""
    opens = stage.liar.from_client[m.OpenDirect]

    def meant(link: Link, request: m.Message) -> Any:
        assert isinstance(request, m.OpenDirect)
        refs = decode_body(request.welcome, Welcome).new_member_refs
        ours = any(each.key_package.reference(each.suite) in refs for each in mole.bundles)
        return opens(link, request) if ours else None

    stage.liar.from_client[m.OpenDirect] = meant


def _has(reader: Actor, name: str, text: str) -> bool:
    return reader.client.find(name) is not None and f"{name}: {text}" in reader.texts(name)


def variant(seed: Seed) -> str:
    """Which hole a student's own victim has."""
    return seed.part("variant").pick(list(WEAK))


def unseen_variant(seed: Seed, unseen: Seed) -> str:
    """Which hole the other victim has: not the same."""
    return unseen.part("variant").pick([each for each in WEAK if each != variant(seed)])


def attack(ask: Ask, seed: Seed, pins: type[PinBook], *, met: bool = True) -> Seen:
    """Let a student attack."""
    student, (friend, _) = ask(), names(seed)

    def swap(account: str, honest: bytes, mine: bytes) -> list[bytes]:
        given = student.call("key_packages", friend, account, [honest], mine)
        if not isinstance(given, list) or not all(isinstance(each, bytes) for each in given) or len(given) > MAX_GIVEN:
            raise StudentError(f"key_packages() returned {given!r:.60}, which is no list of a few key packages.")
        return given

    return play(seed, pins, swap, met=met, compared=True)


MAX_GIVEN: Final = 8
"""Key packages of one answer."""


def _always(seed: Seed) -> Swap:
    """Give out the attacker's key as the friend's, each time."""
    return lambda account, honest, mine: [mine if account == names(seed)[0] else honest]


def defend(ask: Ask, seed: Seed, *, lies: bool, met: bool, compared: bool = False) -> str:
    """Let a client by a student's verdicts write to a friend, and say what came of it."""
    verdicts = Verdicts(ask())

    def arm() -> None:
        verdicts.armed = True

    seen = play(seed, verdicts.pins(), _always(seed) if lies else None, met=met, compared=compared, arm=arm)
    verdicts.done()
    return seen.words


def check(hand_in: HandIn, seed: Seed, unseen: Seed) -> Iterator[Outcome]:
    """See `Task`."""
    own, other = variant(seed), unseen_variant(seed, unseen)
    read, log = "the attacker read it", SEEN_BY_ATTACK
    mine = "attack: your victim's secret"
    with hand_in.loaded("attack") as ask:
        screens: list[str] = []

        def first() -> str:
            seen = attack(ask, seed, WEAK[own])
            screens.extend(seen.screen)
            return seen.words

        yield tried(mine, read, log, first)
        screen = f"alice's screen, which told of {' and '.join(screens) or 'nothing'}"
        yield which("attack: which hole your victim has", own, screen, ask, twin=mine)
        yield tried("attack: the secret of a victim that you have not seen", read, log,
                    lambda: attack(ask, unseen, WEAK[other]).words)  # fmt: skip
        yield tried("attack: the strong client holds it", "held", log,
                    lambda: attack(ask, unseen, PinBook).words, twin=mine)  # fmt: skip
    yield predicted("prediction: whether anybody can hold it at first contact", "no", hand_in, mine)
    friend = "defence: a friend you know gets what you write"
    new = "defence: a friend you write to for the first time gets it"
    with hand_in.loaded("defence") as ask:
        got, where = "the friend read it", SEEN_BY_DEFENCE
        yield tried(friend, got, where, lambda: defend(ask, unseen, lies=False, met=True), twin=new, idle=True)
        yield tried(new, got, where, lambda: defend(ask, unseen, lies=False, met=False), twin=friend, idle=True)
        for compared in (False, True):
            what = "that was compared" if compared else "that was not compared"
            yield tried(
                f"defence: another key in place of one {what}", "held", where,
                lambda compared=compared: defend(ask, unseen, lies=True, met=True, compared=compared), twin=friend,  # type: ignore[misc]  # bound now
            )  # fmt: skip


def facts(seed: Seed) -> Mapping[str, str]:
    """What is personal in the handout."""
    return {"friend": names(seed)[0]}


def _witness(build: str, seed: Seed) -> list[dict[str, Any]]:
    """Let a client by a build's pins write to a friend whose key is swapped, and to one whose key is not; see CHECK."""
    pins = PinBook if build == STRONG else WEAK[build]
    swapped = _written(play(seed, pins, _always(seed), compared=True, arm=lambda: None), compared=True)
    met = seed.part("met").pick([False, True])
    honest = _written(play(seed.part("honest"), pins, None, met=met, arm=lambda: None), compared=False)
    return seed.part("order").pick([[swapped, honest], [honest, swapped]])


def _written(seen: Seen, *, compared: bool) -> dict[str, Any]:
    return {
        "known": seen.known, "compared": compared, "shown": seen.shown, "told": seen.screen,
        "sent": seen.mole or seen.friend, "ticked": seen.ticked,
    }  # fmt: skip


def _changed(each: Mapping[str, Any]) -> bool:
    return each["known"] not in (None, each["shown"])


REVIEW: Final = Review(
    weak=tuple(WEAK),
    witness=_witness,
    mine=variant,
    about=lambda _: "the client of your victim, the one that `attack.py` is about",
    claims=(
        Claim("A server that gives out another key for somebody whom Alice knows reads nothing.",
              "read or change what is said in a group that it is not in",
              lambda seen: not any(_changed(each) and each["sent"] for each in seen)),
        Claim("Alice is told when somebody whom she knows shows another key.",
              "so your contacts see a changed key",
              lambda seen: all("a changed key" in each["told"] for each in seen if _changed(each))),
        Claim("What Alice is shown as compared, she has compared.",
              "until two people compare safety numbers",
              lambda seen: not any(_changed(each) and each["ticked"] for each in seen)),
        Claim("What Alice writes to a friend whose key is the right one is not held back.",
              "the next line goes to the right one",
              lambda seen: all(each["sent"] for each in seen if not _changed(each))),
        Claim("A server that gives out a wrong key the very first time is noticed at once.",
              "First contact is trust on first use", None),
        Claim("The server does not see to whom Alice writes.",
              "see who talks with whom", None),
        Claim("Alice can deny later what she has written.", "No deniability", None),
    ),
    check=CHECK,
    runs=1,
)  # fmt: skip

TASK: Final = Task(ATTACK, DEFENCE, "03", check, facts, review=REVIEW, words=("yes", "no"))
