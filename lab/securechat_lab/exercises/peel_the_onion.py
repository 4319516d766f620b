"""Exercise 1: a capture with the secrets of TLS, read layer by layer; and what of one can be given away."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.review import STRONG, Claim, Review
from securechat_lab.kit.sandbox import StudentError
from securechat_lab.kit.seeds import Seed, read_seed
from securechat_lab.kit.task import SEEN_BY_ATTACK, SEEN_BY_DEFENCE, Ask, HandIn, Task, predicted, tried
from securechat_lab.watching import puzzle
from securechat_lab.watching.capture import DECRYPTION_SECRETS, ENHANCED_PACKET, INTERFACE, SECTION_HEADER
from securechat_lab.watching.opened import Block, Stream, blocks, inside, joined, on_the_wire, secret_blocks
from securechat_lab.watching.watched import CAPTURE

INSIDE: Final = "inside.json"
"""What is inside TLS in a student's own capture, so that they can try their file without the lab."""

ATTACK = '''"""Exercise 1, attack: who, whom, when, how much, in which epoch? Read README.md first."""

WIDTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4}


def unpack(data, at=0):
    """Given: read the value of MessagePack that begins at `at`. Return it, and where the next one begins."""
    kind, at = data[at], at + 1
    if kind < 0x80:
        return kind, at
    if kind in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[kind], at
    if 0x90 <= kind < 0xC0:
        count = kind & (0x0F if kind < 0xA0 else 0x1F)
    else:
        count, at = int.from_bytes(data[at : at + WIDTHS[kind]], "big"), at + WIDTHS[kind]
    if 0xCC <= kind <= 0xCF:
        return count, at
    if kind < 0xA0 or kind in (0xDC, 0xDD):
        items = []
        for _ in range(count):
            item, at = unpack(data, at)
            items.append(item)
        return items, at
    value = data[at : at + count]
    return (value if 0xC4 <= kind <= 0xC6 else value.decode()), at + count


def peel(streams):
    """`streams`: of each connection what the client and what the server has sent, a list of [up, down], bytes.

    Return a list with [who, whom, when, size, epoch] of each message, by time: a name, a list of names, milliseconds
    by the server's clock, bytes of the MLS message, a number. Without the secrets there is nothing to be read: [].
    """
    return []


if __name__ == "__main__":  # python3 securechat-lab/01-peel-the-onion/attack.py: what you read in your own capture
    import json
    import pathlib

    opened = json.loads(pathlib.Path(__file__).with_name("inside.json").read_text())
    for row in peel([[bytes.fromhex(side) for side in stream] for stream in opened]):
        print(*row)
'''

DEFENCE = '''"""Exercise 1, defence: what of a capture can be given away? Read README.md first."""


def keep(block):
    """`block`: [kind, body] of a capture, an int and bytes. Return True if it stays in, and False if it is taken out.

    Every packet has to stay, and what makes the file a capture; no secret may.
    """
    return True
'''

CHECK = '''"""Exercise 1, a check of your own: can this capture be given away? Read README.md first."""


def sound(seen):
    """Return True if the capture holds no secret of TLS, False if it does.

    `seen`: {"blocks": of a capture, a list of [kind, body], an int and bytes, "people": the names of those who talk,
    "lengths": how long their texts are}.
    """
    return True
'''

COLUMNS: Final = ("who", "whom", "when", "size", "epoch")

MAX_ROWS: Final = 200
"""Messages that somebody may say are there: there are a dozen."""

JOURNAL: Final = 9
CUSTOM: Final = 0xBAD
"""Block types: a journal's entry, and a block of somebody's own (draft-ietf-opsawg-pcapng, sections 4.7 and 4.8)."""


def in_secrets(block: Block) -> Block:
    """As it came."""
    return block


def in_journal(block: Block) -> Block:
    """In what the machine's own log said while it was captured."""
    return Block(JOURNAL, b"MESSAGE=" + block.body[8:])


def in_custom(block: Block) -> Block:
    """In a block that some tool has made for itself."""
    return Block(CUSTOM, bytes(4) + block.body[8:])


WEAK: Final[dict[str, Callable[[Block], Block]]] = {"secrets": in_secrets, "journal": in_journal, "custom": in_custom}
"""Where the secrets stand: the family."""

Row = tuple[str, list[str], int, int, int]


class Scene(NamedTuple):
    """A capture, and what is true of it."""

    capture: bytes
    truth: list[Row]


def play(seed: Seed, folder: Path) -> Scene:
    """Play the scene of a seed; capture and recording are left in `folder`."""
    truth = [(each.who, list(each.whom), each.when, each.size, each.epoch) for each in puzzle.play(seed, folder)]
    return Scene((folder / CAPTURE).read_bytes(), truth)


@cache
def _played(key: str) -> Scene:
    """The scene of a seed: played once, also where several hand-ins are checked on it."""
    with TemporaryDirectory(prefix="securechat-lab-") as folder:
        return play(read_seed(key), Path(folder))


def peel(ask: Ask, streams: list[Stream]) -> list[list[Any]]:
    """Let a student read, and return their rows by time."""
    given = ask().call("peel", [list(each) for each in streams])
    if not isinstance(given, list) or len(given) > MAX_ROWS:
        raise StudentError(f"peel() returned {given!a:.60}, which is no list of {MAX_ROWS} rows or fewer.")
    rows: list[Any] = given
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list) or len(row) != len(COLUMNS):
            raise StudentError(f"peel() returned {row!a:.60} as row {number}, which is no [{', '.join(COLUMNS)}].")
        if isinstance(row[1], list):
            row[1] = sorted(map(str, row[1]))
    return sorted(rows, key=lambda row: row[2] if type(row[2]) is int else 0)


def right(rows: Sequence[Sequence[Any]], truth: list[Row], columns: tuple[str, ...] = COLUMNS) -> str:
    """Say in how many messages these columns are as they were."""
    places = [COLUMNS.index(each) for each in columns]
    same = sum(all(row[place] == true[place] for place in places) for row, true in zip(rows, truth, strict=False))
    return f"{same} of {len(truth)}" + (f", among {len(rows)}" if len(rows) != len(truth) else "")


def given_away(ask: Ask, scene: Scene, hidden: Callable[[Block], Block]) -> list[Block]:
    """Let a student take out blocks of a capture in which the secrets stand somewhere, and return what is left."""
    found = [hidden(each) if each.kind == DECRYPTION_SECRETS else each for each in blocks(scene.capture)]
    verdicts = ask().call("each", "keep", [list(each) for each in found])
    for verdict in verdicts if isinstance(verdicts, list) else [verdicts]:
        if not isinstance(verdict, bool):
            raise StudentError(f"keep() returned {verdict!r:.60}, which is neither True nor False.")
    return [each for each, verdict in zip(found, verdicts, strict=True) if verdict]


def whole(left: list[Block], scene: Scene) -> str:
    """Say whether everything is left that makes it a capture, and every packet."""
    needed = (SECTION_HEADER, INTERFACE, ENHANCED_PACKET)
    before = [each for each in blocks(scene.capture) if each.kind in needed]
    missing = len(before) - sum(each.kind in needed for each in left)
    return f"{missing} blocks are missing" if missing else "all of them"


def secrets_in(left: list[Block], scene: Scene) -> str:
    """Say whether any secret can be found, in whatever block."""
    there = joined(left)
    lines = [line for body in secret_blocks(scene.capture) for line in body[8:].splitlines() if line.count(b" ") == 2]
    return "secrets" if any(line.split(b" ")[2] in there for line in lines) else "no secret"


def check(hand_in: HandIn, seed: Seed, unseen: Seed) -> Iterator[Outcome]:
    """See `Task`."""
    own, other = _played(seed.text), _played(unseen.text)
    log = SEEN_BY_ATTACK
    nothing, count = "attack: nothing, where the secrets are missing", f"{len(other.truth)} messages"
    every = "attack: as many messages as there are, in a capture that you have not seen"
    with hand_in.loaded("attack") as ask:
        all_rows = right(own.truth, own.truth)
        yield tried("attack: everything, in a capture like yours", all_rows, log,
                    lambda: right(peel(ask, inside(own.capture)), own.truth), twin=nothing)  # fmt: skip
        yield tried(every, count, log, lambda: f"{len(peel(ask, inside(other.capture)))} messages", twin=nothing)
        for column in COLUMNS:
            yield tried(
                f"attack: {column}, in one that you have not seen", right(other.truth, other.truth), log,
                lambda column=column: right(peel(ask, inside(other.capture)), other.truth, (column,)), twin=nothing,  # type: ignore[misc]  # bound now
            )  # fmt: skip
        yield tried(nothing, "0 messages", log,
                    lambda: f"{len(peel(ask, on_the_wire(other.capture)))} messages", twin=every)  # fmt: skip
    yield predicted("prediction: what the secrets of TLS do not open", "text", hand_in, every)
    packets, where = "defence: every packet is still there", SEEN_BY_DEFENCE
    with hand_in.loaded("defence") as ask:
        points = {hidden: f"defence: no secret is left in a block of kind {name}" for name, hidden in WEAK.items()}
        yield tried(packets, "all of them", where,
                    lambda: whole(given_away(ask, other, in_secrets), other), twin=points[in_secrets])  # fmt: skip
        for hidden, point in points.items():
            yield tried(point, "no secret", where,
                        lambda hidden=hidden: secrets_in(given_away(ask, other, hidden), other), twin=packets)  # type: ignore[misc]  # bound now  # fmt: skip


def prepare(seed: Seed, folder: Path) -> None:
    """Put the capture into a student's folder, its recording, and what is inside TLS."""
    scene = play(seed, folder)
    opened = [[side.hex() for side in stream] for stream in inside(scene.capture)]
    (folder / INSIDE).write_text(json.dumps(opened))


def facts(seed: Seed) -> Mapping[str, str]:
    """What is personal in the handout."""
    script = puzzle.plan(seed)
    return {"first": script.names[0], "second": script.names[1], "third": script.names[2], "room": script.room}


def _witness(build: str, seed: Seed) -> dict[str, Any]:
    """Let people talk, and return the capture, with the secrets where a build has them; see CHECK."""
    capture, script = _played(seed.text).capture, puzzle.plan(seed)
    found = [WEAK[build](each) if each.kind == DECRYPTION_SECRETS and build != STRONG else each
             for each in blocks(capture) if each.kind != DECRYPTION_SECRETS or build != STRONG]  # fmt: skip
    lengths = [length for _, length in (*script.private, *script.early, *script.late)]
    return {"blocks": [list(each) for each in found], "people": list(script.names), "lengths": lengths}


@cache
def _searched(capture: bytes) -> bytes:
    """Return what is inside TLS for somebody who looks into every block for the secrets."""
    found = [*blocks(capture)]
    lines = [_KEY_LOG.findall(each.body) for each in found if each.kind != ENHANCED_PACKET]
    key_log = b"".join(line for each in lines for line in each)
    secrets = Block(DECRYPTION_SECRETS, bytes(4) + len(key_log).to_bytes(4, "little") + key_log)
    packets = [each for each in found if each.kind != DECRYPTION_SECRETS]
    return b"".join(up + down for up, down in inside(joined([secrets, *packets])))


_KEY_LOG: Final = re.compile(rb"[A-Z_0-9]+ [0-9a-f]{64} [0-9a-f]+\n")


def _reads(seen: Mapping[str, Any], word: bytes) -> bool:
    capture = joined([Block(*each) for each in seen["blocks"]])
    return word in capture or word in _searched(capture)


def mine(seed: Seed) -> str:
    """Where the secrets stand in the capture that a student reviews."""
    return seed.part("place").pick(list(WEAK))


REVIEW: Final = Review(
    weak=tuple(WEAK),
    witness=_witness,
    mine=mine,
    about=lambda seed: "what your capture keeps from whoever gets it, if its TLS secrets are left in, "
                       f"in a `{mine(seed)}` block",
    claims=(
        Claim("Whoever gets it does not learn the names of those who talk.",
              "read, change or inject: TLS 1.3 under a pinned CA",
              lambda seen: not any(_reads(seen, each.encode()) for each in seen["people"])),
        Claim("Whoever gets it does not read what is said.",
              "read or change what is said in a group that it is not in",
              lambda seen: not any(_reads(seen, b"x" * length) for length in seen["lengths"] if length > 9)),
        Claim("Whoever gets it does not see when something was said.", "delay, cut, see sizes and times", None),
        Claim("The server does not learn who has said something to whom.",
              "see who talks with whom, when, how much (padded)", None),
        Claim("The server does not see in which epoch a room is, or that somebody has come in.",
              "Commits and proposals are readable by it", None),
    ),
    check=CHECK,
    runs=1,
)  # fmt: skip

WORDS: Final = ("who", "whom", "when", "size", "epoch", "text")

TASK: Final = Task(ATTACK, DEFENCE, "01", check, facts, prepare, REVIEW, words=WORDS)
