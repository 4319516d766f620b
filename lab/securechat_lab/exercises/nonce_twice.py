"""Exercise 13: a nonce comes twice under one key of AES-GCM, and whoever listens signs what they like."""

import hashlib
import hmac
import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securechat.mls.framing import MLSMessage, PrivateMessage
from securechat.mls.group import Group
from securechat.mls.message_protection import SenderData, open_sender_data
from securechat_lab.exercises.tamper import pair
from securechat_lab.kit.field import multiply, power, xor
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.review import STRONG, Claim, Review
from securechat_lab.kit.sandbox import Student, StudentError
from securechat_lab.kit.seeds import Seed
from securechat_lab.kit.task import SEEN_BY_ATTACK, SEEN_BY_DEFENCE, Ask, HandIn, Task, predicted, tried, which

_ARITHMETIC: Final = "\n\n".join(inspect.getsource(each) for each in (multiply, power, xor))

ATTACK = f'''"""Exercise 13, attack: make a message without the key. Read README.md first."""

{_ARITHMETIC}

def forge(heard, texts, wanted):
    """`heard`: the messages of a chat, each as [who, nonce, sealed, tag]: a str, and 12, 16 and 16 bytes.

    `texts`: what they say, 16 bytes each, or None where you do not know. `wanted`: 16 bytes. Return
    [nonce, sealed, tag] which the chat accepts and reads as `wanted`; None if nothing can be done.
    """
    return None


def read(heard, texts):
    """Return the text that you can read although `texts` has None in its place."""
    return b""


def which():
    """Why does a nonce come twice with your victim? "restart", "short" or "twins"."""
    return "?"
'''

DEFENCE = '''"""Exercise 13, defence: a key for each message, and a nonce that survives a copy. Read README.md first."""

import hashlib
import hmac


def sealing(secret, number, guard):
    """With what is message `number` sealed? Return [key, nonce], 16 and 12 bytes.

    `number`: 0 to 65,536, in any order: some messages come late, and some never. `secret`: 32 bytes of this sender,
    whom the receiver has them from. `guard`: 4 random bytes, new for each message, which go with it: the receiver calls
    this with the same three.
    """
    return [secret[:16], number.to_bytes(12, "big")]
'''

CHECK = '''"""Exercise 13, a check of your own: are these messages sealed as they should be? Read README.md first."""


def sound(seen):
    """Return True if the chat is sound, False if somebody who listens could make messages.

    `seen`: what was sealed in a chat, a list of {"who": whose device has sent it, "number": which one of its messages
    that is, "key": a name of the key, bytes, "nonce": bytes}. A device may have been restored from a copy meanwhile.
    """
    return True
'''

BLOCK: Final = 16
HEARD: Final = 40
"""Messages of a chat."""


class Heard(NamedTuple):
    """A message as it passes."""

    who: str
    nonce: bytes
    sealed: bytes
    tag: bytes


class Chat:
    """A chat that seals each message of one block by AES-128-GCM, all under one key, and says what it accepts."""

    def __init__(self, seed: Seed, nonces: Callable[[Seed], list[tuple[str, bytes]]]) -> None:
        self._gcm = AESGCM(seed.part("key").bytes(16))
        self.said = [_text(seed.part("text", str(number))) for number in range(HEARD)]
        self.heard = []
        for (who, nonce), text in zip(nonces(seed), self.said, strict=True):
            sealed = self._gcm.encrypt(nonce, text, None)
            self.heard.append(Heard(who, nonce, sealed[:BLOCK], sealed[BLOCK:]))
        twice = defaultdict(list)
        for place, each in enumerate(self.heard):
            twice[each.nonce].append(place)
        self.pair = next((places for places in twice.values() if len(places) > 1), [0, 1])
        """Where the first nonce stands that comes twice."""
        self.known: list[bytes | None] = [None] * HEARD
        self.known[self.pair[0]] = self.said[self.pair[0]]

    def open(self, nonce: bytes, sealed: bytes, tag: bytes) -> bytes | None:
        """Return what a message says, or None: the oracle."""
        try:
            return self._gcm.decrypt(nonce, sealed + tag, None)
        except (InvalidTag, ValueError):
            return None


def _text(seed: Seed) -> bytes:
    return f"pay {seed.part('payee').word(4)} {seed.part('amount').below(90) + 10} euro".encode()


def restart(seed: Seed) -> list[tuple[str, bytes]]:
    """A counter that nobody has stored: after a restart it begins again."""
    before = 25 + seed.part("restart").below(10)
    return [("ann", n.to_bytes(12, "big")) for n in (*range(before), *range(HEARD - before))]


def short(seed: Seed) -> list[tuple[str, bytes]]:
    """Ten random bits: two in forty are the same more often than not, and here they are."""
    numbers: list[int] = []
    for n in range(HEARD - 1):
        part = seed.part("random", str(n))
        numbers.append(next(x for k in range(HEARD) if (x := part.part(str(k)).below(1 << 10)) not in numbers))
    numbers.append(seed.part("again").pick(numbers))
    return [("ann", n.to_bytes(12, "big")) for n in numbers]


def twins(seed: Seed) -> list[tuple[str, bytes]]:
    """Two devices with one key, each of which counts by itself."""
    turns = [seed.part("turn", str(n)).below(2) for n in range(HEARD)]
    names = ("ann's phone", "ann's tablet")
    return [(names[turn], turns[:n].count(turn).to_bytes(12, "big")) for n, turn in enumerate(turns)]


def once(seed: Seed) -> list[tuple[str, bytes]]:
    """A counter that goes on: the strong one."""
    first = seed.part("first").below(1 << 32)
    return [("ann", (first + n).to_bytes(12, "big")) for n in range(HEARD)]


WEAK: Final = {"restart": restart, "short": short, "twins": twins}
"""The family: each says who sends a message, and its nonce."""


def variant(seed: Seed) -> str:
    """Why a nonce comes twice with a student's own victim."""
    return seed.part("variant").pick(list(WEAK))


def unseen_variant(seed: Seed, unseen: Seed) -> str:
    """The same of the other victim: another reason."""
    return unseen.part("variant").pick([each for each in WEAK if each != variant(seed)])


def wanted(seed: Seed) -> bytes:
    """What the chat has to read in the end."""
    return f"pay {seed.part('thief').word(4)} 99 euro".encode()


def forged(ask: Ask, seed: Seed, nonces: Callable[[Seed], list[tuple[str, bytes]]]) -> str:
    """Let a student attack a chat."""
    chat = Chat(seed, nonces)
    given = ask().call("forge", chat.heard, chat.known, wanted(seed))
    if given is None:
        return "nothing was made"
    parts = given if isinstance(given, list) and len(given) == 3 else [None]
    if not all(isinstance(each, bytes) for each in parts):
        raise StudentError(f"forge() returned {given!r:.60}, which is not [nonce, sealed, tag].")
    opened = chat.open(*parts)
    return "refused" if opened is None else "read as wanted" if opened == wanted(seed) else f"read as {opened!r:.30}"


def other_text(ask: Ask, seed: Seed) -> str:
    """Let a student read what nobody has told them."""
    chat = Chat(seed, WEAK["short"])
    given = ask().call("read", chat.heard, chat.known)
    return "right" if given == chat.said[chat.pair[1]] else f"{given!r:.40}"


def of_a_copy() -> str:
    """Let the real one send twice from one copy of a vault, and say what the two messages have in common."""
    alice, bob = pair()
    seen: list[SenderData] = []
    for text in (b"pay bob 10 euros", b"pay eve 99 euros"):
        keys = {alice.public.member(alice.own_leaf).signature_key: alice._signature_private}
        copy = Group.load(alice.public_bytes(), alice.secret_bytes(), keys)
        message = MLSMessage.decode(copy.encrypt(text)).body
        assert isinstance(message, PrivateMessage)
        seen.append(open_sender_data(bob.suite, bob._secrets.sender_data_secret, message))
    one, other = seen
    same = "the same key" if (one.leaf, one.generation) == (other.leaf, other.generation) else "another key"
    return f"{same}, {'the same nonce' if one.reuse_guard == other.reuse_guard else 'another nonce'}"


def check(hand_in: HandIn, seed: Seed, unseen: Seed) -> Iterator[Outcome]:
    """See `Task`."""
    own, other = variant(seed), unseen_variant(seed, unseen)
    mine, read, where = "attack: your chat accepts what you made", "read as wanted", SEEN_BY_ATTACK
    with hand_in.loaded("attack") as ask:
        yield tried(mine, read, where, lambda: forged(ask, seed, WEAK[own]))
        yield which("attack: why a nonce comes twice there", own, "heard.txt", ask, twin=mine)
        yield tried("attack: a chat that you have not seen", read, where, lambda: forged(ask, unseen, WEAK[other]))
        yield tried("attack: what somebody else has said", "right", where, lambda: other_text(ask, unseen))
        yield tried("attack: where no nonce comes twice, nothing can be made", "nothing was made", where,
                    lambda: forged(ask, unseen, once), twin=mine)  # fmt: skip
    yield Outcome("attack: two messages of the real one, from one copy of a vault", "the same key, another nonce",
                  of_a_copy(), "", mine)  # fmt: skip
    yield predicted("prediction: what keeps their nonces apart", "guard", hand_in, mine)
    whole, where = "defence: sender and receiver have the same", SEEN_BY_DEFENCE
    with hand_in.loaded("defence") as ask:
        yield tried(whole, "the same", where, lambda: _same(ask(), unseen), idle=True)
        for name, (expected, attempt) in DEFENCES.items():
            yield tried(f"defence: {name}", expected, where,
                        lambda attempt=attempt: attempt(ask(), unseen), twin=whole)  # type: ignore[misc]  # fmt: skip


Sealing = tuple[bytes, bytes]


def _sealing(student: Student, secret: bytes, number: int, guard: bytes) -> Sealing:
    given: Any = student.call("sealing", secret, number, guard)
    if isinstance(given, list) and all(isinstance(each, bytes) for each in given) and [*map(len, given)] == [16, 12]:
        return given[0], given[1]
    raise StudentError(f"sealing() returned {given!r:.60}, which is not [key, nonce], of 16 and 12 bytes.")


NUMBERS: Final = (*range(64), 255, 256, 65_535, 65_536)
"""Of messages, some of which differ in their higher bytes alone. Whoever goes from one secret to the next, as RFC 9420
does, comes to the last one in time."""


def _guards(seed: Seed) -> list[bytes]:
    """Random ones, and some that differ from another in one bit."""
    first = seed.part("guard").bytes(4)
    turned = [(int.from_bytes(first, "big") ^ 1 << bit).to_bytes(4, "big") for bit in range(32)]
    return [first, *turned, *(seed.part("guard", str(n)).bytes(4) for n in range(16))]


def _same(student: Student, seed: Seed) -> str:
    secret, guard = seed.part("secret").bytes(32), seed.part("guard").bytes(4)
    for number in (0, 7, NUMBERS[-1]):
        if len({_sealing(student, secret, number, guard) for _ in range(2)}) > 1:
            return f"two calls for message {number} gave different answers"
    return "the same"


def _keys(student: Student, seed: Seed) -> str:
    """Has each message a key of its own?"""
    secret, guard = seed.part("secret").bytes(32), seed.part("guard").bytes(4)
    keys = [_sealing(student, secret, number, guard)[0] for number in NUMBERS]
    return f"{len(set(keys))} keys of {len(NUMBERS)} messages"


def _apart(student: Student, seed: Seed) -> str:
    """Are keys bound to the secret, and is one no help with another?"""
    secrets, guard = [seed.part("secret", str(n)).bytes(32) for n in range(2)], seed.part("guard").bytes(4)
    turned = [(int.from_bytes(secrets[0], "big") ^ 1 << 8 * byte).to_bytes(32, "big") for byte in range(32)]
    keys = [[_sealing(student, secret, number, guard)[0] for number in range(3)] for secret in (*secrets, *turned)]
    if len({key for row in keys for key in row}) < 3 * len(keys):
        return "two senders have the same key"
    steps = [{_difference(row[0], row[1]), _difference(row[1], row[2])} for row in keys]
    if len(set.union(*steps)) < 2 * len(keys):
        return "from one key another one follows, without the secret"
    if any(key[:8] in secret for row, secret in zip(keys, secrets, strict=False) for key in row):
        return "a part of the secret is the key"
    return "apart"


def _difference(one: bytes, other: bytes) -> tuple[bytes, int]:
    """By XOR and by subtraction: whoever counts, or XORs, has the same for every secret."""
    first, second = int.from_bytes(one, "big"), int.from_bytes(other, "big")
    return (first ^ second).to_bytes(16, "big"), second - first


def _copies(student: Student, seed: Seed) -> str:
    """Attack a sender who was restored from one copy again and again: does a nonce come twice under a key?"""
    secret = seed.part("secret").bytes(32)
    messages: dict[Sealing, tuple[list[bytes], bytes]] = {}
    for n, guard in enumerate(_guards(seed)):
        sealing = _sealing(student, secret, 5, guard)
        text = f"pay {seed.part('payee').word(4)} {n:02} euro".encode()
        sealed = AESGCM(sealing[0]).encrypt(sealing[1], text, None)
        message = [sealing[1], sealed[:BLOCK], sealed[BLOCK:]]
        if sealing in messages:
            before, known = messages[sealing]
            nonce, forged, tag = made(before, message, known, wanted(seed))
            opened = AESGCM(sealing[0]).decrypt(nonce, forged + tag, None)
            return f"a message was made that is read as {opened.decode()!r}"
        messages[sealing] = message, text
    return "nothing could be made"


def made(one: list[bytes], other: list[bytes], text: bytes, wish: bytes) -> list[bytes]:
    """The attack itself: from two messages with one nonce, of which the first says `text`, to one that says `wish`.

    A message of one block has the tag  sealed * h * h + LENGTH * h + mask,  and the mask belongs to the nonce.
    """
    (nonce, sealed, tag), (_, other_sealed, other_tag) = one, other
    square = multiply(xor(tag, other_tag), power(xor(sealed, other_sealed), 2**128 - 2))
    rest = xor(tag, multiply(sealed, square))  # LENGTH * h + mask: the same for all of one block
    forged = xor(xor(sealed, text), wish)
    return [nonce, forged, xor(multiply(forged, square), rest)]


DEFENCES: Final[dict[str, tuple[str, Callable[[Student, Seed], str]]]] = {
    "each message has a key of its own": (f"{len(NUMBERS)} keys of {len(NUMBERS)} messages", _keys),
    "keys belong to the secret, and none leads to another": ("apart", _apart),
    "a copy that sends again": ("nothing could be made", _copies),
}
"""What is expected, and how it is tried."""


def prepare(seed: Seed, folder: Path) -> None:
    """Put what is heard of a student's chat into their folder."""
    chat = Chat(seed, WEAK[variant(seed)])
    lines = [
        f"{each.who:<12} {each.nonce.hex()} {each.sealed.hex()} {each.tag.hex()} {(text or b'?').decode()}\n"
        for each, text in zip(chat.heard, chat.known, strict=True)
    ]
    (folder / "heard.txt").write_text("".join(lines))


def facts(seed: Seed) -> Mapping[str, str]:
    """What is personal in the handout."""
    return {"wanted": wanted(seed).decode()}


DEVICES: Final = ("ann's phone", "ann's tablet", "ben's phone")
REVIEWED: Final = 24
"""Messages of a chat that a student's own check is about: what it gets of all builds can be printed."""
LOST: Final = 15
"""At which message ann's phone is restored from a copy of its first day, where nothing outlives that."""


def _derived(secret: bytes, number: int, guard: bytes) -> Sealing:
    made = hmac.new(secret, number.to_bytes(8, "big"), hashlib.sha256).digest()
    return made[:16], xor(made[16:28], guard + bytes(8))


def _sealed(build: str, secret: bytes, number: int, noise: Seed) -> Sealing:
    """With what a build seals a message."""
    match build:
        case "short":
            return secret[:16], noise.below(8).to_bytes(12, "big")
        case "copied":
            return _derived(secret, number, bytes(4))
        case "strong":
            return _derived(secret, number, noise.bytes(4))
    return secret[:16], number.to_bytes(12, "big")


BUILDS: Final = {
    "restart": "one key for each device, and a count for a nonce that is lost with the device",
    "short": "one key for each device, and a random nonce of three bits",
    "twins": "one key for each person, and a count for a nonce that each device has of its own, and never loses",
    "copied": "a key and a nonce for each message, and no guard; a device may be restored from a copy",
}
"""Builds to review, each with what it does."""


def _witness(build: str, seed: Seed) -> list[dict[str, Any]]:
    """Let three devices seal messages in turn; see CHECK."""
    secrets = {device: seed.part("secret", device).bytes(32) for device in DEVICES}
    if build == "twins":
        secrets[DEVICES[1]] = secrets[DEVICES[0]]
    counts, seen = dict.fromkeys(DEVICES, 0), []
    for n in range(REVIEWED):
        device = DEVICES[n] if n < len(DEVICES) else seed.part("turn", str(n)).pick(DEVICES)
        if n >= LOST and n % 3 == 0:
            device = DEVICES[0]
        if n == LOST and build in ("restart", "copied", STRONG):
            counts[device] = 0
        key, nonce = _sealed(build, secrets[device], counts[device], seed.part("noise", str(n)))
        named = hashlib.sha256(key).digest()[:8]
        seen.append({"who": device, "number": counts[device], "key": named, "nonce": nonce})
        counts[device] += 1
    return seen


def _once(*what: str) -> Callable[[list[dict[str, Any]]], bool]:
    """Whether these things of a message come together only once."""
    return lambda seen: len({tuple(each[name] for name in what) for each in seen}) == len(seen)


def _one_each(seen: list[dict[str, Any]], one: str, *other: str) -> bool:
    """Whether everything of one kind comes with one of another kind alone."""
    pairs = {(each[one], tuple(each[name] for name in other)) for each in seen}
    return len({pair[0] for pair in pairs}) == len(pairs)


REVIEW: Final = Review(
    weak=tuple(BUILDS),
    witness=_witness,
    mine=lambda seed: seed.part("build").pick(list(BUILDS)),
    about=lambda seed: f"a chat with {BUILDS[seed.part('build').pick(list(BUILDS))]}",
    claims=(
        Claim("No two messages are sealed under the same key with the same nonce.",
              "under a key used once", _once("key", "nonce")),
        Claim("No device seals two messages under the same key with the same nonce.",
              "under a key used once", _once("who", "key", "nonce")),
        Claim("A message's key is that of no message with another number.",
              "under a key used once", lambda seen: _one_each(seen, "key", "number")),
        Claim("No two devices seal with one key.",
              "signed with the sender's device key", lambda seen: _one_each(seen, "key", "who")),
        Claim("What GCM is given as a nonce is twelve bytes long, whatever is in them.", "encrypted with AES-128-GCM",
              lambda seen: all(len(each["nonce"]) == 12 for each in seen)),
        Claim("Whoever copies a running device's state cannot read what that device reads next.",
              "read what that device can read, until its next path", None),
        Claim("What was captured today stays unreadable for computers that are not built yet.",
              "recorded traffic could be read by a future one", None),
    ),
    check=CHECK,
)  # fmt: skip

TASK: Final = Task(ATTACK, DEFENCE, "13", check, facts, prepare, REVIEW, words=("key", "guard", "nothing"))
