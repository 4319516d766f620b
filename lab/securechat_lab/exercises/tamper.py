"""Exercise 5: an encrypted message is altered without its key, and what a tag has to be over."""

import hashlib
import hmac
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from securechat.errors import DecodeError, PeerError
from securechat.mls.credential import Credential
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.mls.errors import WrongEpoch
from securechat.mls.framing import decode_body
from securechat.mls.group import Group
from securechat.mls.key_package_bundle import KeyPackageBundle, generate_key_package
from securechat.mls.leaf_node import Capabilities, Lifetime
from securechat.mls.proposals import Add
from securechat.mls.welcome import Welcome
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.review import STRONG, Claim, Review
from securechat_lab.kit.sandbox import StudentError
from securechat_lab.kit.seeds import Seed
from securechat_lab.kit.task import SEEN_BY_ATTACK, SEEN_BY_DEFENCE, Ask, HandIn, Task, predicted, tried

ATTACK = '''"""Exercise 5, attack: alter a message. Read README.md first."""


def forge(sealed, known, wanted):
    """`sealed`: a message, encrypted with AES-CTR, bytes. You know what it says, `known`, and not the key.

    Return bytes that the other side decrypts to `wanted`. Both are bytes, and have the same length.
    """
    return sealed


def notices(position):
    """One bit of the byte at `position` of a real message is turned. What notices? "form", "place" or "secret"."""
    return "?"
'''

DEFENCE = '''"""Exercise 5, defence: seal, and open what is whole. Read README.md first."""


def seal(stream, key, number, text):
    """Message `number` says `text`, bytes. Return what is sent, bytes.

    `stream`: a key stream (AES-CTR) of this number alone, longer than the text. `key`: 32 bytes, for the tag.
    """
    return bytes(a ^ b for a, b in zip(text, stream))


def unseal(stream, key, number, sealed):
    """Return the text of message `number`, or None if it was altered, cut, lengthened or moved."""
    return bytes(a ^ b for a, b in zip(sealed, stream))
'''

CHECK = '''"""Exercise 5, a check of your own: does this chat notice what was altered? Read README.md first."""


def sound(seen):
    """Return True if the chat is sound, False if it takes what was altered.

    `seen`: what somebody on the way has seen, a list of {"number": of the message, "sent": what was sent, bytes,
    "arrived": what they let through, bytes, "arrived_as": under which number, "read": what the other side read, bytes,
    or None if it was refused}.
    """
    return True
'''

FLIPS: Final = 1000
POSITIONS: Final = 12

TEXTS: Final = (b"", b"pay bob 10 euros", "Grüße an alle".encode(), bytes(range(256)))
OVERHEAD: Final = 64
"""Bytes that sealing may add."""
GUESSES: Final = 1000
"""Random tags that are tried: a tag of one byte is found by some of them."""


def words(seed: Seed) -> tuple[bytes, bytes]:
    """What a message says, and what it has to say in the end."""
    amount = 10 + seed.part("amount").below(80)
    text = f"pay {seed.part('payee').word(6)} {{}} euros before noon"
    return text.format(amount).encode(), text.format(99).encode()


def stream(seed: Seed, number: int, length: int) -> bytes:
    """A key stream: AES-128 in counter mode, of one message's number."""
    cipher = Cipher(AES(seed.part("stream").bytes(16)), CTR(number.to_bytes(8, "big") + bytes(8)))
    return cipher.encryptor().update(bytes(length))


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=False))


def forged(ask: Ask, seed: Seed) -> str:
    """Let a student alter a message of a chat without tags."""
    known, wanted = words(seed)
    key_stream = stream(seed, 1, len(known))
    given = ask().call("forge", _xor(known, key_stream), known, wanted)
    if not isinstance(given, bytes):
        raise StudentError(f"forge() returned {given!r:.60}, which is not bytes.")
    return "read as wanted" if _xor(given, key_stream) == wanted and len(given) == len(wanted) else "not as wanted"


@cache
def pair() -> tuple[Group, Group]:
    """A real group of two."""

    def person(name: bytes) -> tuple[SignaturePrivateKey, KeyPackageBundle]:
        key = SignaturePrivateKey.generate(SUITE)
        capabilities = Capabilities(cipher_suites=(SUITE.value,))
        return key, generate_key_package(SUITE, Credential.basic(name), key, capabilities, Lifetime(0, 1 << 40))

    def anyone(*_: object, **__: object) -> None:
        """Accept every credential."""

    (alice, alices), (bob, bobs) = person(b"alice"), person(b"bob")
    staged = Group.create(bytes(32), alices, alice).commit(
        [Add(bobs.key_package)], by_reference=None, tree_in_welcome=True, validate=anyone, now=1
    )
    assert staged.group is not None
    assert staged.welcome is not None
    return staged.group, Group.join(decode_body(staged.welcome, Welcome), bobs, bob, validate=anyone, now=1)


def message() -> bytes:
    """A real message (RFC 9420, section 6.3) of a fixed size: 239 bytes."""
    return pair()[0].encrypt(b"pay bob 10 euros".ljust(50), authenticated_data=(7).to_bytes(8, "big"), padding=20)


def noticed(sealed: bytes, position: int, bit: int = 0) -> str:
    """What notices that a bit of a real message was turned."""
    altered = bytearray(sealed)
    altered[position] ^= 1 << bit
    try:
        pair()[1].decrypt(bytes(altered))
    except DecodeError:
        return "form"
    except WrongEpoch:
        return "place"
    except PeerError:
        return "secret"
    return "nothing"


def positions(seed: Seed) -> list[int]:
    """Where a student has to say what notices: in each part of a message."""
    parts = [(0, 5), (5, 37), (37, 45), (47, 55), (56, 84), (86, 239)]
    return [first + seed.part("position", str(n)).below(last - first) for n, (first, last) in enumerate(parts * 2)]


def check(hand_in: HandIn, seed: Seed, unseen: Seed) -> Iterator[Outcome]:
    """See `Task`."""
    mine, sealed = "attack: your message says what you want", message()
    read, where = "read as wanted", SEEN_BY_ATTACK
    with hand_in.loaded("attack") as ask:
        yield tried(mine, read, where, lambda: forged(ask, seed))
        yield tried("attack: a message that you have not seen", read, where, lambda: forged(ask, unseen))

        def right() -> str:
            told = [ask().call("notices", place) == noticed(sealed, place) for place in positions(unseen)]
            return f"right at {sum(told)}"

        yield tried(f"attack: what notices, at {POSITIONS} places", f"right at {POSITIONS}", "README.md, step 3", right)
    accepted = sum(noticed(sealed, *divmod(n, 8)) == "nothing" for n in _bits(unseen, len(sealed)))
    yield Outcome(f"attack: {FLIPS:,} turned bits of the real thing", "0 accepted", f"{accepted} accepted",
                  "", mine)  # fmt: skip
    yield predicted("prediction: how many of them are accepted", "0", hand_in, mine)
    whole = "defence: what is whole is opened"
    with hand_in.loaded("defence") as ask:
        yield tried(whole, "all of it", SEEN_BY_DEFENCE, lambda: _opens(ask, unseen), idle=True)
        for name, family in FORGERIES.items():
            yield tried(f"defence: {name}", "refused", SEEN_BY_DEFENCE,
                        lambda family=family: _refuses(ask, unseen, family), twin=whole)  # type: ignore[misc]  # fmt: skip
        yield tried("defence: what is sent shows no text", "nothing shown", SEEN_BY_DEFENCE,
                    lambda: _hides(ask, unseen), twin=whole, idle=True)  # fmt: skip


def _bits(seed: Seed, size: int) -> list[int]:
    return [seed.part("flip", str(n)).below(size * 8) for n in range(FLIPS)]


def _seal(ask: Ask, seed: Seed, number: int, text: bytes) -> bytes:
    sealed = ask().call("seal", stream(seed, number, 1024), seed.part("key").bytes(32), number, text)
    if not isinstance(sealed, bytes) or len(sealed) > len(text) + OVERHEAD:
        raise StudentError(f"seal() returned {sealed!r:.60}: bytes are wanted, {OVERHEAD} more than the text at most.")
    return sealed


def _open(ask: Ask, seed: Seed, number: int, sealed: bytes) -> object:
    opened: object = ask().call("unseal", stream(seed, number, 1024), seed.part("key").bytes(32), number, sealed)
    return opened


def _opens(ask: Ask, seed: Seed) -> str:
    for number, text in enumerate(TEXTS):
        if (opened := _open(ask, seed, number, _seal(ask, seed, number, text))) != text:
            return f"{text!r:.30} became {opened!r:.30}"
    return "all of it"


Forgery = Callable[[Seed, bytes, bytes], Iterator[tuple[int, bytes]]]
"""From two messages, of the numbers 1 and 2, to what an attacker makes of them: the number, and the bytes."""


def _turned(_: Seed, one: bytes, __: bytes) -> Iterator[tuple[int, bytes]]:
    for place in range(len(one)):
        yield 1, one[:place] + bytes([one[place] ^ 1]) + one[place + 1 :]


def _cut(_: Seed, one: bytes, __: bytes) -> Iterator[tuple[int, bytes]]:
    for length in range(len(one)):
        yield 1, one[:length]
    yield 1, one + b"\0"
    yield 1, b"\0" + one


def _moved(_: Seed, one: bytes, other: bytes) -> Iterator[tuple[int, bytes]]:
    yield 2, one
    yield 1, other
    for tag in (8, 16, 20, 32):
        yield 1, one[:-tag] + other[-tag:]


def _made_by_anybody(_: Seed, one: bytes, __: bytes) -> Iterator[tuple[int, bytes]]:
    for tag, make in ((32, hashlib.sha256), (20, hashlib.sha1), (16, hashlib.md5), (64, hashlib.sha512)):
        altered = bytes([one[0] ^ 1]) + one[1:-tag]
        for over in (altered, (1).to_bytes(8, "big") + altered, b"1" + altered):
            yield 1, altered + make(over).digest()
            yield 1, altered + hmac.new(b"", over, make).digest()
    altered = bytes([one[0] ^ 1]) + one[1:-4]
    yield 1, altered + zlib.crc32(altered).to_bytes(4, "big")


def _guessed(seed: Seed, one: bytes, _: bytes) -> Iterator[tuple[int, bytes]]:
    for n in range(GUESSES):
        noise = seed.part("guess", str(n)).bytes(4)
        yield 1, bytes([one[0] ^ 1]) + one[1:-4] + noise


FORGERIES: Final[dict[str, Forgery]] = {
    "a bit that is turned": _turned,
    "a message that is cut or lengthened": _cut,
    "a message, or its tag, in another's place": _moved,
    "a tag that anybody can make": _made_by_anybody,
    "a tag that can be guessed": _guessed,
}


def _refuses(ask: Ask, seed: Seed, family: Forgery) -> str:
    one, other = (_seal(ask, seed, number, f"pay bob {number}0 euros".encode()) for number in (1, 2))
    for number, altered in family(seed, one, other):
        if (opened := _open(ask, seed, number, altered)) is not None:
            return f"opened as {opened!r:.40}"
    return "refused"


def _hides(ask: Ask, seed: Seed) -> str:
    text = b"the very same text, twice"
    first, second = (_seal(ask, seed, number, text) for number in (1, 2))
    return "nothing shown" if text[:4] not in first and first[:8] != second[:8] else "the text is in it"


def facts(seed: Seed) -> Mapping[str, str]:
    """What is personal in the handout."""
    known, wanted = words(seed)
    return {"known": known.decode(), "wanted": wanted.decode()}


Tag = Callable[[bytes, int, bytes], bytes]
"""From key, number and what is encrypted to a tag."""


def _strong(key: bytes, number: int, hidden: bytes) -> bytes:
    return hmac.digest(key, number.to_bytes(8, "big") + hidden, "sha256")


TAGS: Final[dict[str, tuple[Tag, str]]] = {
    "bare": (lambda _key, _number, _hidden: b"", "has no tag"),
    "checksum": (lambda _key, _number, hidden: zlib.crc32(hidden).to_bytes(4, "big"), "has a CRC-32 for a tag"),
    "numberless": (lambda key, _, hidden: hmac.digest(key, hidden, "sha256"), "has an HMAC over the text alone"),
    "beginning": (lambda key, number, hidden: _strong(key, number, hidden[:16]), "has an HMAC over the first 16 bytes"),
}
"""Builds to review, each with what it does; after a text under the key stream comes the tag."""

PAID: Final = 10
"""Messages that pass while a build is looked at."""


def _witness(build: str, seed: Seed) -> list[dict[str, Any]]:
    """Let messages of a chat pass, some of them as they are, and some altered; see CHECK."""
    key, tag = seed.part("key").bytes(32), _strong if build == STRONG else TAGS[build][0]
    size = len(tag(key, 0, b""))

    def seal(number: int) -> bytes:
        text = f"pay {seed.part('payee', str(number)).word(6)} {seed.part(str(number)).below(90) + 10} euros by noon"
        hidden = _xor(text.encode(), stream(seed, number, 64))
        return hidden + tag(key, number, hidden)

    def unseal(number: int, arrived: bytes) -> bytes | None:
        hidden, given = arrived[: len(arrived) - size], arrived[len(arrived) - size :]
        return _xor(hidden, stream(seed, number, 64)) if given == tag(key, number, hidden) else None

    seen = []
    for number in range(1, PAID + 1):
        sent = seal(number)
        altered, moved = _alter(sent, number % 5, size)
        arrived_as = number + moved
        seen.append({"number": number, "sent": sent, "arrived": altered, "arrived_as": arrived_as,
                     "read": unseal(arrived_as, altered)})  # fmt: skip
    return sorted(seen, key=lambda each: seed.part("order", str(each["number"])).text)


def _alter(sent: bytes, how: int, tag: int) -> tuple[bytes, int]:
    """What somebody without the key makes of a message, and by how much they move it."""
    match how:
        case 0:
            return sent, 0
        case 1:  # a bit at the beginning
            return bytes([sent[0] ^ 1]) + sent[1:], 0
        case 2:  # a bit behind the sixteenth byte
            return sent[:20] + bytes([sent[20] ^ 1]) + sent[21:], 0
        case 3:  # a bit, and the tag that anybody can make
            hidden = bytes([sent[0] ^ 1]) + sent[1 : len(sent) - tag]
            return hidden + zlib.crc32(hidden).to_bytes(4, "big"), 0
        case _:
            return sent, 1


def _reads(where: Callable[[Mapping[str, Any]], bool]) -> Callable[[list[dict[str, Any]]], bool]:
    """Whether none of those was read of which this is so."""
    return lambda seen: not any(each["read"] is not None and where(each) for each in seen)


def mine(seed: Seed) -> str:
    """Which build a student reviews."""
    return seed.part("tag").pick(list(TAGS))


_AUTHENTIC: Final = "encrypted with AES-128-GCM under a key used once, and signed"

REVIEW: Final = Review(
    weak=tuple(TAGS),
    witness=_witness,
    mine=mine,
    about=lambda seed: (
        f"a chat that encrypts with AES-CTR, with a key stream for each number, and {TAGS[mine(seed)][1]}; a tag "
        "stands behind the encrypted text"
    ),
    claims=(
        Claim("A message of which one bit was turned, somewhere, is refused.", _AUTHENTIC,
              _reads(lambda each: len(each["arrived"]) == len(each["sent"]) and _bits_apart(each) == 1)),
        Claim("A message with a tag that was made without any key is refused.", _AUTHENTIC,
              _reads(lambda each: each["arrived"][-4:] == zlib.crc32(each["arrived"][:-4]).to_bytes(4, "big")
                     and each["arrived"] != each["sent"])),
        Claim("A message that comes in the place of another one is refused.",
              "Replay, reordering and omission in the middle are noticed",
              _reads(lambda each: each["arrived_as"] != each["number"])),
        Claim("What nobody has altered is read as it was said.", _AUTHENTIC,
              lambda seen: all(each["read"] is not None for each in seen if _is_whole(each))),
        Claim("Whoever sees what is sent does not read a word of it.", _AUTHENTIC,
              lambda seen: not any(b"euros" in each["sent"] for each in seen)),
        Claim("Somebody on the way cannot keep a message from arriving.", "delay, cut, see sizes and times", None),
        Claim("A server that delivers nothing any more is noticed.",
              "A server that simply stops delivering cannot be told from a quiet conversation", None),
    ),
    check=CHECK,
)  # fmt: skip


def _bits_apart(each: Mapping[str, Any]) -> int:
    return sum((a ^ b).bit_count() for a, b in zip(each["sent"], each["arrived"], strict=True))


def _is_whole(each: Mapping[str, Any]) -> bool:
    return bool(each["sent"] == each["arrived"] and each["number"] == each["arrived_as"])


TASK: Final = Task(ATTACK, DEFENCE, "05", check, facts, review=REVIEW)
