"""Exercise 6: what the sizes of encrypted messages tell of their words, and their times of who talks to whom."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Final

from securechat.client.conversations.numbers import encode_number
from securechat.content import envelope
from securechat.content.envelope import Envelope
from securechat.content.registry import Text
from securechat.mls.credential import Credential
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.mls.group import Group
from securechat.mls.key_package_bundle import generate_key_package
from securechat.mls.leaf_node import Capabilities, Lifetime
from securechat.wire.limits import CHAIN_LENGTH
from securechat_lab.cast.scenes import direct, say
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.review import STRONG, Claim, Review
from securechat_lab.kit.sandbox import Student, StudentError
from securechat_lab.kit.seeds import Seed
from securechat_lab.kit.stage import PARTS, Stage
from securechat_lab.kit.task import SEEN_BY_ATTACK, SEEN_BY_DEFENCE, Ask, HandIn, Task, predicted, tried

ATTACK = '''"""Exercise 6, attack: read sizes. Read README.md first."""


def guess(samples, sizes):
    """`samples`: messages of which you know what they say, a list of [size, phrase]. `sizes`: of others.

    Return a list with a phrase for each of `sizes`.
    """
    return ["" for _ in sizes]


def pairs(events):
    """`events`: what the network sees at the server, a list of [milliseconds, person, "up" or "down", size], by time.

    Six people talk, each with one other. Return the pairs: a list of three lists of two names.
    """
    return []
'''

DEFENCE = '''"""Exercise 6, defence: how many bytes are added? Read README.md first."""


def pad(length):
    """Content of `length` bytes is about to be encrypted. Return how many bytes are added to it: an int, 0 or more."""
    return 0
'''

CHECK = '''"""Exercise 6, a check of your own: do sizes give words away? Read README.md first."""


def sound(seen):
    """Return True if the chat is sound, False if somebody who sees sizes guesses words.

    `seen`: {"short": of 200 messages, each one of eight phrases, [size, phrase], in the order in which they were said,
    "long": of longer content, [length, length with what was added], "sent": one of the messages as it was sent, bytes}.
    The real padding leaves a guesser to chance with short messages, and shows at most 200 sizes of these 609 long ones.
    """
    return True
'''

POOL: Final = (
    "no", "yes", "ok", "not yet", "I love you", "not tonight", "call me", "call me back, please", "I am pregnant",
    "we have to talk about the money", "the test was positive", "the test was negative", "he knows everything",
    "they have offered me the job in Rome", "meet me at the usual place at nine",
    "do not come home, the police are here and ask for you", "I have told them everything that I know about it",
    "could you bring some bread on your way home, and milk?",
)  # fmt: skip
PHRASES: Final = 8
BRIEF: Final = 7
"""Characters: with what stands around it, less than 64 bytes, of which the length takes one. Of longer ones it takes
two: whose padding forgets that is noticed only where both are said."""
SAID: Final = 200
"""Messages to be guessed, and as many that are known; each phrase as often as every other."""

CHANCE: Final = 48
"""Right guesses of SAID that chance makes once in a million tries: the mean is 25, the standard deviation 4.7."""

SHARE: Final = 0.8
"""Of what the sizes give away at best, what an attack has to find."""

LONG: Final = tuple(range(1_000, 60_000, 97))
"""Lengths of longer content: letters, lists, a page."""

OVERHEAD: Final = 0.12
"""What may be added to these, as a part of their length: Padmé's own bound."""

DISTINCT: Final = 200
"""Sizes that these 609 lengths may show: with Padmé it is about 150."""

BUDGET: Final = 320
"""Bytes that a short message may have after padding: of a hundred a day, 32 kB, which nobody pays for."""

Padding = Callable[[int], int]


def none(_: int) -> int:
    """Add nothing: the weakest variant."""
    return 0


def padme(length: int) -> int:
    """Return what Padmé alone adds (PURBs, section 4.2)."""
    exponent = length.bit_length() - 1
    return -length & ((1 << (exponent - exponent.bit_length())) - 1)


WEAK: Final[dict[str, Padding]] = {"none": none, "padme": padme}
"""The family: one part, `padding`."""


def phrases(seed: Seed) -> list[str]:
    """The eight that somebody says: personal, of eight lengths, and one of them brief."""
    by_length = {len(each): each for each in sorted(POOL, key=lambda each: seed.part("pool", each).text)}
    order = sorted(by_length.values(), key=lambda each: seed.part("order", each).text)
    brief = next(each for each in order if len(each) <= BRIEF)
    some = {brief, *[each for each in order if each != brief][: PHRASES - 1]}
    return [each for each in order if each in some]


def talk(seed: Seed) -> list[str]:
    """What is said, one after the other."""
    said = phrases(seed) * (SAID // PHRASES)
    return [text for _, text in sorted((seed.part("talk", str(n)).text, text) for n, text in enumerate(said))]


@cache
def _group() -> Group:
    """A real group, of one: sizes do not depend on who is in it."""
    key = SignaturePrivateKey.generate(SUITE)
    capabilities = Capabilities(cipher_suites=(SUITE.value,))
    bundle = generate_key_package(SUITE, Credential.basic(b"alice"), key, capabilities, Lifetime(0, 1 << 40))
    return Group.create(bytes(32), bundle, key)


def size(text: str, seq: int, pad: Padding) -> int:
    """The size at the server of one message: bytes of the PrivateMessage (RFC 9420, section 6.3.1)."""
    content = envelope.encode(Envelope(seq, bytes(CHAIN_LENGTH), 1_800_000_000_000, Text(text)))
    return len(_group().encrypt(content, authenticated_data=encode_number(seq), padding=pad(len(content))))


def measure(seed: Seed, pad: Padding) -> list[tuple[int, str]]:
    """Say everything, and note the sizes. Over seq 128, from which on a number takes another byte."""
    return [(size(text, 50 + number, pad), text) for number, text in enumerate(talk(seed))]


def best(measured: Sequence[tuple[int, str]]) -> int:
    """How many of the best guesses from the sizes alone are right."""
    counts: dict[int, Counter[str]] = {}
    for each, text in measured:
        counts.setdefault(each, Counter())[text] += 1
    return sum(max(texts.values()) for texts in counts.values())


PEOPLE: Final = ("ann", "bob", "cem", "dana", "eli", "fay")


def traffic(seed: Seed) -> tuple[list[list[object]], list[list[str]]]:
    """What the network sees of three pairs who talk at the same time, and who they are."""
    order = sorted(PEOPLE, key=lambda name: seed.part("pairs", name).text)
    pairs = [sorted(order[n : n + 2]) for n in (0, 2, 4)]
    events: list[list[object]] = []
    for number, pair in enumerate(pairs):
        now = 0
        for turn in range(40):
            part = seed.part("turn", str(number), str(turn))
            now += 200 + part.below(4000)
            sender = part.part("who").below(2)
            on_the_way = 20 + part.part("way").below(60)
            events.append([now, pair[sender], "up", 378])
            events.append([now + on_the_way, pair[1 - sender], "down", 410])
    return sorted(events, key=lambda event: (int(str(event[0])), str(event[1]))), sorted(pairs)


def at_least(hits: int, wanted: int) -> str:
    """Say it for an outcome."""
    return f"at least {wanted} of {SAID}" if hits >= wanted else f"{hits} of {SAID}"


def hits(ask: Ask, known: Sequence[tuple[int, str]], said: Sequence[tuple[int, str]]) -> int:
    """How many phrases a student's function guesses."""
    guesses = ask().call("guess", [list(each) for each in known], [each for each, _ in said])
    if not isinstance(guesses, list) or len(guesses) != len(said):
        raise StudentError(f"guess() returned {guesses!r:.60}, which is no list with a phrase for each size.")
    return sum(guess == text for guess, (_, text) in zip(guesses, said, strict=True))


def against(ask: Ask, seed: Seed, pad: Padding) -> tuple[int, int]:
    """Let a student guess; return how many guesses were right, and how many have to be."""
    said, overheard = measure(seed, pad), [(size(text, 10 + n, pad), text) for n, text in enumerate(talk(seed)[::-1])]
    return hits(ask, overheard, said), int(best(said) * SHARE)


class Paddings:
    """A student's padding: asked once for each length."""

    def __init__(self, student: Student) -> None:
        self._student = student
        self._known: dict[int, int] = {}

    def learn(self, lengths: Sequence[int]) -> None:
        """Ask twice for each of these. Raises `StudentError` for what is no padding."""
        for _ in range(2):
            given = self._student.call("each", "pad", list(lengths))
            if not isinstance(given, list) or len(given) != len(lengths):
                raise StudentError("pad() answered something else.")
            for length, added in zip(lengths, given, strict=True):
                if type(added) is not int or not 0 <= added <= 1 << 16:
                    raise StudentError(f"pad({length}) returned {added!r:.40}, which is no number from 0 to 65536.")
                if self._known.setdefault(length, added) != added:
                    raise StudentError(f"pad({length}) returned {self._known[length]}, and then {added}.")

    def __call__(self, length: int) -> int:
        """Return what is added to content of this length."""
        if length not in self._known:
            self.learn([length])
        return self._known[length]


def check(hand_in: HandIn, seed: Seed, unseen: Seed) -> Iterator[Outcome]:
    """See `Task`."""
    mine = "attack: your phrases, without padding"
    with hand_in.loaded("attack") as ask:
        for point, by, pad in ((mine, seed, none), ("attack: other phrases, with Padmé alone", unseen, padme)):
            wanted = int(best(measure(by, pad)) * SHARE)
            yield tried(point, at_least(wanted, wanted), SEEN_BY_ATTACK,
                        lambda by=by, pad=pad: at_least(*against(ask, by, pad)))  # type: ignore[misc]  # fmt: skip
        events, pairs = traffic(unseen)
        yield tried("attack: who talks to whom", "the three pairs", SEEN_BY_ATTACK,
                    lambda: _right(_pairs(ask().call("pairs", events)), pairs))  # fmt: skip
        chance = f"at most {CHANCE} of {SAID}"
        yield tried("attack: the real padding leaves you to chance", chance, SEEN_BY_ATTACK,
                    lambda: _few(against(ask, unseen, envelope.padding)[0]), twin=mine)  # fmt: skip
    yield predicted("prediction: whether padding hides who talks to whom", "no", hand_in, mine)
    chats, where = "defence: a real chat goes on with it", SEEN_BY_DEFENCE
    cheap, few = "defence: a short message stays within the budget", "defence: a long one gets 12 % at most"
    with hand_in.loaded("defence") as ask:
        yield tried(chats, "read", where, lambda: _chat(Paddings(ask())), idle=True)
        yield tried(cheap, f"at most {BUDGET} bytes", "README.md, step 4",
                    lambda: _short(Paddings(ask())), twin=few, idle=True)  # fmt: skip
        yield tried(few, "at most 12 %", "README.md, step 4", lambda: _long(Paddings(ask())), twin=chats, idle=True)
        yield tried("defence: eight phrases look alike", chance, "README.md, step 4",
                    lambda: _few(best(measure(unseen, Paddings(ask())))), twin=cheap)  # fmt: skip
        yield tried("defence: long messages show few sizes", f"at most {DISTINCT} sizes", "README.md, step 4",
                    lambda: _distinct(Paddings(ask())), twin=few)  # fmt: skip


def _few(right: int) -> str:
    return f"at most {CHANCE} of {SAID}" if right <= CHANCE else f"{right} of {SAID}"


def _pairs(given: object) -> object:
    """In one order, if they are pairs at all."""
    try:
        return sorted(sorted(pair) for pair in given)  # type: ignore[attr-defined]  # whatever it is
    except TypeError:
        return f"{given!r:.60}"


def _right(given: object, pairs: list[list[str]]) -> str:
    """What is right is not shown: it would be typed off."""
    return "the three pairs" if given == pairs else "other ones"


def _chat(pad: Paddings) -> str:
    failures: list[StudentError] = []

    def added(length: int) -> int:  # in the client's own thread, which a student's fault must not end
        try:
            return pad(length)
        except StudentError as error:
            failures.append(error)
            return 0

    with Stage() as stage:
        one, other = stage.person("alice", replace(PARTS, padding=added)), stage.person("bob")
        direct(one, other)
        say(one, "bob", "x" * 3000, other)
    if failures:
        raise failures[0]
    return "read"


def _short(pad: Paddings) -> str:
    lengths = list(range(60, 251))
    pad.learn(lengths)
    most = max(length + pad(length) for length in lengths)
    return f"at most {BUDGET} bytes" if most <= BUDGET else f"{most:,} bytes"


def _long(pad: Paddings) -> str:
    pad.learn(LONG)
    most = max(pad(length) / length for length in LONG)
    return "at most 12 %" if most <= OVERHEAD else f"{most:.0%}"


def _distinct(pad: Paddings) -> str:
    pad.learn(LONG)
    sizes = len({length + pad(length) for length in LONG})
    return f"at most {DISTINCT} sizes" if sizes <= DISTINCT else f"{sizes} sizes"


def facts(seed: Seed) -> Mapping[str, str]:
    """What is personal in the handout."""
    return {"phrases": "\n".join(f"- {each}" for each in phrases(seed))}


def _sixteen(length: int) -> int:
    return -length % 16


def _noise(length: int) -> int:
    return Seed(length.to_bytes(8, "big")).below(16)


PADDINGS: Final[dict[str, tuple[Padding, str]]] = {
    "none": (none, "adds nothing"),
    "padme": (padme, "adds what Padmé alone adds"),
    "sixteen": (_sixteen, "fills up to a multiple of 16 bytes"),
    "noise": (_noise, "adds 0 to 15 bytes, as many as a hash of the length says"),
}
"""Builds to review, each with what it does."""


def _witness(build: str, seed: Seed) -> dict[str, Any]:
    """Say eight phrases 200 times by a build's padding; see CHECK."""
    pad = envelope.padding if build == STRONG else PADDINGS[build][0]
    content = envelope.encode(Envelope(1, bytes(CHAIN_LENGTH), 1_800_000_000_000, Text(talk(seed)[0])))
    return {
        "short": [list(each) for each in measure(seed, pad)],
        "long": [[length, length + pad(length)] for length in LONG],
        "sent": _group().encrypt(content, authenticated_data=encode_number(1), padding=pad(len(content))),
    }


def mine(seed: Seed) -> str:
    """Which build a student reviews."""
    return seed.part("padding").pick(list(PADDINGS))


_SIZES: Final = "Texts up to some 190 bytes have one size"

REVIEW: Final = Review(
    weak=tuple(PADDINGS),
    witness=_witness,
    mine=mine,
    about=lambda seed: f"a chat that {PADDINGS[mine(seed)][1]}",
    claims=(
        Claim("Whoever sees sizes guesses eight short phrases by chance alone.", _SIZES,
              lambda seen: best([tuple(each) for each in seen["short"]]) <= CHANCE),
        Claim("The 609 lengths of longer content, from 1,000 to 60,000 bytes, show at most 200 sizes.",
              "with Padmé alone, as longer ones have it",
              lambda seen: len({size for _, size in seen["long"]}) <= DISTINCT),
        Claim("Whoever sees what is sent does not read a word of it.",
              "encrypted with AES-128-GCM under a key used once",
              lambda seen: not any(text.encode() in seen["sent"] for _, text in seen["short"])),
        Claim("The server does not see how much somebody writes in a day.",
              "see who talks with whom, when, how much (padded)", None),
        Claim("Whoever sees times does not learn who talks to whom.",
              "The server sees accounts, addresses, who is in which conversation, times and padded sizes", None),
        Claim("That somebody comes into a room is not to be seen.", "they carry membership, not content", None),
    ),
    check=CHECK,
)  # fmt: skip

TASK: Final = Task(ATTACK, DEFENCE, "06", check, facts, review=REVIEW, words=("yes", "no"))
