"""Exercise 0: the chat of old is read on the wire, and the real one is searched for what was said in it."""

import base64
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from securechat_lab.cast.canaries import search
from securechat_lab.cast.old_chat import OldChat
from securechat_lab.cast.scenes import direct, say
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.review import Claim, Review
from securechat_lab.kit.seeds import Seed, read_seed
from securechat_lab.kit.stage import Stage
from securechat_lab.kit.task import SEEN_BY_ATTACK, SEEN_BY_DEFENCE, Ask, HandIn, Task, predicted, tried
from securechat_lab.watching.capture import Capture
from securechat_lab.watching.recording import Recorder
from securechat_lab.watching.tap import Tap

ATTACK = '''"""Exercise 0, attack: read the chat of old. Read README.md first."""


def find(capture):
    """`capture`: a file as it was captured on the network, bytes. Return [password, secret], two str: text is UTF-8.

    Return None if they are not in it.
    """
    return None
'''

DEFENCE = '''"""Exercise 0, defence: is it in there, in whatever spelling? Read README.md first."""


def leaks(data, secret):
    """`data`: bytes. `secret`: a str. Return True if data holds it in one of the seven spellings of README.md."""
    return False
'''

PORTION: Final = 1 << 18
"""Bytes of a place that are searched at once."""

TALKERS: Final = ("ann", "ben", "cleo", "dario", "emma", "finn")


class Said(NamedTuple):
    """Who says what: personal."""

    talker: str
    password: str
    secret: str


def said(seed: Seed) -> Said:
    """Return what is said in a student's captures. The umlaut has more than one spelling."""
    secret = f"Brücke {seed.part('secret').word()}"
    return Said(seed.part("talker").pick(TALKERS), seed.part("password").word(8), secret)


SPELLINGS: Final[dict[str, Callable[[str, int], bytes]]] = {
    "as it is": lambda secret, _: secret.encode(),
    "in hexadecimal digits": lambda secret, _: secret.encode().hex().encode(),
    "in base64": lambda secret, offset: base64.b64encode(bytes(offset) + secret.encode() + bytes(7)),
    "in UTF-16": lambda secret, _: secret.encode("utf-16-le"),
    "in JSON": lambda secret, _: json.dumps(secret).encode(),
    "as a list of numbers": lambda secret, _: str(list(secret.encode())).encode(),
    "backwards": lambda secret, _: secret.encode()[::-1],
}
"""Each with a number from 0 to 2: in base64, letters depend on how many bytes stand before them."""


def planted(seed: Seed, spelling: str) -> bytes:
    """Return random bytes in which the secret stands, in one spelling."""
    part = seed.part("planted", spelling)
    noise = part.bytes(2000)
    at = part.below(1500)
    return noise[:at] + SPELLINGS[spelling](said(seed).secret, part.below(3)) + noise[at:]


def record_old(seed: Seed, file: Path) -> None:
    """Let two people talk by the chat of old, and capture it."""
    talker, password, secret = said(seed)
    recorder, capture = Recorder(file.with_suffix(".jsonl")), Capture(file)
    with OldChat() as chat, Tap(("127.0.0.1", chat.port), recorder, capture=capture) as tap:
        links = [socket.create_connection(("127.0.0.1", tap.port)) for _ in range(2)]
        reader, writer = links
        with reader.makefile("r", encoding="utf-8") as shown, writer.makefile("r", encoding="utf-8") as answers:
            reader.sendall(f"LOGIN zoe {seed.part('other').word(8)}\n".encode())
            _expect(shown, "* welcome")
            writer.sendall(f"LOGIN {talker} {password}\n".encode())
            _expect(answers, "* welcome")
            writer.sendall(f"hello\nbetween us: {secret}\n.\n".encode())
            _expect(shown, f"{talker}: between us: {secret}")
        for link in links:
            link.close()
    recorder.close()
    capture.close()
    recorder.path.unlink()


def _expect(lines: Iterator[str], beginning: str) -> None:
    """Wait until a line comes: the chat of old has said it to everybody then."""
    for line in lines:
        if line.startswith(beginning):
            return
    raise AssertionError(beginning)


PLACES: Final = ("the capture", "what the server gets inside TLS", "the server's disk")


class Places(NamedTuple):
    """Where what is said by the real one passes, or stays."""

    capture: bytes
    inside: bytes  # TLS, on its way to the server
    disk: bytes


def record_new(seed: Seed, file: Path) -> Places:
    """Let the same people say the same by the real one, and capture it."""
    talker, _, secret = said(seed)
    recorder, capture = Recorder(file.with_suffix(".jsonl")), Capture(file)
    with Stage() as stage:
        with Tap(("127.0.0.1", stage.liar.port), recorder, capture=capture) as tap:
            one, other = stage.person(talker, port=tap.port), stage.person("zoe", port=tap.port)
            direct(one, other)
            say(one, "zoe", f"between us: {secret}", other)
            stage.leave(one)
            stage.leave(other)
        inside = bytes(stage.liar.tapped)
        disk = b"".join(each.read_bytes() for each in sorted((stage.folder / "data").rglob("*")) if each.is_file())
    recorder.close()
    capture.close()
    recorder.path.unlink()
    return Places(file.read_bytes(), inside, disk)


@cache
def _recorded(key: str) -> tuple[bytes, Places]:
    """Both captures for a seed: made once, also where several hand-ins are checked on it."""
    with TemporaryDirectory(prefix="securechat-lab-") as folder:
        seed, old, new = read_seed(key), Path(folder) / "old.pcapng", Path(folder) / "new.pcapng"
        record_old(seed, old)
        return old.read_bytes(), record_new(seed, new)


def look(ask: Ask, place: bytes, secret: str) -> str:
    """Let a student's function search a place, portion by portion."""
    step = PORTION - 1024
    for start in range(0, len(place), step):
        verdict = ask().call("leaks", place[start : start + PORTION], secret)
        if verdict is not False:
            return "found" if verdict is True else f"neither True nor False: {verdict!r:.40}"
    return "not found"


def check(hand_in: HandIn, seed: Seed, unseen: Seed) -> Iterator[Outcome]:
    """See `Task`."""
    mine = "attack: password and secret in your capture"
    with hand_in.loaded("attack") as ask:

        def found(by: Seed, capture: bytes) -> str:
            answer = ask().call("find", capture)
            right = answer == [said(by).password, said(by).secret]
            return "both" if right else "nothing" if answer is None else "something else"

        old, _ = _recorded(seed.text)
        yield tried(mine, "both", "capture-old.pcapng", lambda: found(seed, old))
        old, places = _recorded(unseen.text)
        yield tried("attack: in one that you have not seen", "both", SEEN_BY_ATTACK, lambda: found(unseen, old))
        yield tried("attack: securechat gives you nothing", "nothing", SEEN_BY_ATTACK,
                    lambda: found(unseen, places.capture), twin=mine)  # fmt: skip
    yield predicted("prediction: where the secret can be read", "old", hand_in, mine)
    secret, calm = said(unseen).secret, "search: says nothing where something else is"
    plain = "search: finds it as it is"
    with hand_in.loaded("defence") as ask:

        def other_secrets() -> str:
            others = (planted(unseen.part("somebody else"), spelling) for spelling in SPELLINGS)
            return next((seen for each in others if (seen := look(ask, each, secret)) != "not found"), "not found")

        yield tried(calm, "not found", SEEN_BY_DEFENCE, other_secrets, twin=plain)
        for spelling in SPELLINGS:
            yield tried(f"search: finds it {spelling}", "found", "README.md, step 4",
                        lambda spelling=spelling: look(ask, planted(unseen, spelling), secret), twin=calm)  # type: ignore[misc]  # fmt: skip
        for name, place in zip(PLACES, places, strict=True):
            ours = search({name: place}, {"secret": secret.encode()})
            assert not ours, ours  # that would be a fault of securechat
            yield tried(f"defence: the secret in {name} of securechat", "not found", SEEN_BY_DEFENCE,
                        lambda place=place: look(ask, place, secret), twin=plain)  # type: ignore[misc]  # fmt: skip


def prepare(seed: Seed, folder: Path) -> None:
    """Put both captures into a student's folder."""
    old, places = _recorded(seed.text)
    (folder / "capture-old.pcapng").write_bytes(old)
    (folder / "capture-new.pcapng").write_bytes(places.capture)


def facts(seed: Seed) -> Mapping[str, str]:
    """What is personal in the handout."""
    return {"talker": said(seed).talker}


def _witness(_: str, seed: Seed) -> Mapping[str, bytes]:
    """What passes in both chats, and what is looked for in it."""
    old, new = _recorded(seed.text)
    _, password, secret = said(seed)
    wanted = {"secret": secret.encode(), "password": password.encode()}
    return wanted | {"old": old, "new": new.capture, "inside": new.inside, "disk": new.disk}


def _not_in(place: str, what: str = "secret") -> Callable[[Mapping[str, bytes]], bool]:
    return lambda seen: not search({place: seen[place]}, {what: seen[what]})


REVIEW: Final = Review(
    weak=("old",),
    witness=_witness,
    mine=lambda _: "old",
    about=lambda _: "the chat of old and the real one: each sentence says which",
    claims=(
        Claim("Old: whoever captures the network does not read what is said.",
              "read, change or inject: TLS 1.3 under a pinned CA", _not_in("old")),
        Claim("Old: whoever captures the network does not learn a password.",
              "Passwords never leave the client", _not_in("old", "password")),
        Claim("Real: whoever captures the network does not read what is said.",
              "read, change or inject: TLS 1.3 under a pinned CA", _not_in("new")),
        Claim("Real: the server itself, inside TLS, does not get what is said.",
              "read or change what is said in a group that it is not in", _not_in("inside")),
        Claim("Real: whoever takes the server's disk does not read what was said.",
              "read a message or a keepsake", _not_in("disk")),
        Claim("Real: whoever captures the network does not see when, and how much, somebody says.",
              "delay, cut, see sizes and times", None),
        Claim("Real: the server does not learn who talks with whom.",
              "The server sees accounts, addresses, who is in which conversation", None),
        Claim("Real: what was captured today stays unreadable for computers that are not built yet.",
              "recorded traffic could be read by a future one", None),
    ),
    instead="`leaks` is such a check already: it is set on seven spellings, and on securechat",
)  # fmt: skip

TASK: Final = Task(ATTACK, DEFENCE, "00", check, facts, prepare, REVIEW, words=("old", "new", "both"))
