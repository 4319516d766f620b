"""Exercise 4: the server shows one person another history, and their client does not compare."""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Final

import msgspec

from securechat.client import events
from securechat.client.record import Record
from securechat.wire import messages as m
from securechat_lab.cast.hostile import Link
from securechat_lab.cast.scenes import direct, lobby, say
from securechat_lab.kit.asked import Asked
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.review import STRONG, Claim, Review
from securechat_lab.kit.sandbox import StudentError
from securechat_lab.kit.seeds import Seed, read_seed
from securechat_lab.kit.stage import PARTS, Stage
from securechat_lab.kit.task import SEEN_BY_ATTACK, SEEN_BY_DEFENCE, Ask, HandIn, Task, predicted, tried

ATTACK = '''"""Exercise 4, attack: one person gets another history. Read README.md first."""


def relay(goal, seen):
    """You are the server. The log of the room has a new entry; say what bob gets now.

    `goal`: "drop", "swap" or "delay", see README.md. `seen`: those of the four messages that are said by now, the
    newest last, each as {"seq": 3, "device": "ab12"}. Return a list of [index in seen, seq under which bob gets it].
    """
    return [[len(seen) - 1, seen[-1]["seq"]]]
'''

DEFENCE = '''"""Exercise 4, defence: is it the same history? Read README.md first."""


def agrees(seq, seen, senders_chain, own_chain):
    """A message has come as entry `seq`. Inside its encryption stands how far its sender had read: up to `seen`.

    `senders_chain`: the hash over the log that the sender has there, 32 bytes. `own_chain`: ours at the same place, or
    None if we have none: they have read further than has come to us, or it is too long ago. Return True if the two
    histories agree so far, and False if the user has to be warned.
    """
    return True
'''

CHECK = '''"""Exercise 4, a check of your own: does this client notice another history? Read README.md first."""


def sound(seen):
    """Return True if the client is sound, False if it has a hole.

    `seen`: what Bob's client got in some rooms; in some of them the server has lied. A list of {"entries", "alarm"}:
    what came up to the warning, and whether there was one. `entries` is a list of {"seq": under which it came, "seen":
    up to which entry its sender had read, "senders_chain": the sender's hash there, bytes, "own_chain": ours there,
    bytes, or None}.
    """
    return True
'''

GOALS: Final = {"drop": (0, 2, 3), "swap": (0, 2, 1, 3), "delay": (0, 2, 3, 1)}
"""What bob gets in the end, of the four messages that are said."""

SPEAKERS: Final = ("alice", "carol", "alice", "alice")

END: Final = "that was all"

Relay = Callable[[list[m.Entry]], list[tuple[int, int]]]
"""From the log so far, the newest last, to what bob gets now: places in it, and the seq of each."""

REDATED: Final = 1
"""Milliseconds that the second message is older, if a server says so: the smallest lie of all."""


class Unlinked(Record):
    """A record without the chain: whatever others saw is taken to be what we saw."""

    def agrees(self, *_: object) -> bool:
        """Compare nothing."""
        return True


class ByVerdicts(Record):
    """A record by a student's function."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self.armed = False
        """Until then the record is the product's, so that people can come together."""

    def agrees(self, seq: int, seen: int, senders_chain: bytes, own_chain: bytes | None) -> bool:
        """Ask."""
        if not self.armed:
            return super().agrees(seq, seen, senders_chain, own_chain)
        return self._asked.yes("agrees", seq, seen, senders_chain, own_chain)


def drop(log: list[m.Entry]) -> list[tuple[int, int]]:
    """The second never comes, and what follows moves up."""
    n = len(log) - 1
    return [] if n == 1 else [(n, log[n].seq - (n > 1))]


def swap(log: list[m.Entry]) -> list[tuple[int, int]]:
    """The second and the third change places."""
    n = len(log) - 1
    if n == 2:
        return [(2, log[1].seq), (1, log[2].seq)]
    return [] if n == 1 else [(n, log[n].seq)]


def delay(log: list[m.Entry]) -> list[tuple[int, int]]:
    """The second comes after the fourth."""
    return drop(log) if len(log) < len(SPEAKERS) else [(3, log[2].seq), (1, log[3].seq)]


def replay(log: list[m.Entry]) -> list[tuple[int, int]]:
    """The first comes twice."""
    n = len(log) - 1
    return [(0, log[0].seq), (0, log[0].seq + 1)] if n == 0 else [(n, log[n].seq + 1)]


def as_it_is(log: list[m.Entry]) -> list[tuple[int, int]]:
    """Everything comes in its place."""
    return [(len(log) - 1, log[-1].seq)]


LIES: Final[dict[str, Relay]] = {"drop": drop, "swap": swap, "delay": delay, "redate": as_it_is}
"""The last one alters when the second was said, too: nothing but the hashes differs then."""


class _Lie:
    """Tells bob what a relay says; hooks run in another thread, which a student's fault must not end."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._redate = relay is as_it_is
        self._log: list[m.Entry] = []
        self._lock = threading.Lock()
        self.failure: StudentError | None = None

    def tell(self, _: Link, entry: m.Message, room: bytes) -> list[m.Message] | None:
        """An entry is on its way to bob."""
        assert isinstance(entry, m.Entry)
        if entry.conversation != room:
            return None
        with self._lock:
            if self._redate and len(self._log) == 1:
                entry = msgspec.structs.replace(entry, time=entry.time - REDATED)
            self._log.append(entry)
            try:
                return [msgspec.structs.replace(self._log[place], seq=seq) for place, seq in self._relay(self._log)]
            except StudentError as error:
                self.failure = error
                return None


def play(seed: Seed, record: Record, relay: Relay | None) -> str:
    """Let four messages be said in a room, and say which bob has read, by their numbers, and whether he was alarmed."""
    texts = [seed.part("text", str(number)).word() for number in range(len(SPEAKERS))]
    with Stage() as stage:
        people = {"alice": stage.person("alice"), "carol": stage.person("carol")}
        bob = stage.person("bob", replace(PARTS, record=record))
        direct(people["alice"], bob)
        room = lobby(bob, *people.values())
        if isinstance(record, ByVerdicts):
            record.armed = True
        lie = _Lie(relay) if relay is not None else None
        if lie is not None:
            stage.liar.lie(m.Entry, lambda link, entry: lie.tell(link, entry, room), to="bob")
        for speaker, text in zip(SPEAKERS, texts, strict=True):
            others = [each for name, each in people.items() if name != speaker]
            say(people[speaker], "#lobby", text, *others)
        say(people["alice"], "bob", END)  # it comes after all the others, on the same connection
        bob.wait_for(events.Received, lambda event: event.message.text == END)
        if lie is not None and lie.failure is not None:
            raise lie.failure
        lines = [line.partition(": ")[2] for line in bob.texts("#lobby")]
        read = [str(texts.index(line) + 1) if line in texts else "?" for line in lines]
        told = [each.text for each in bob.happened if isinstance(each, events.Alarm)]
        told += [each.reason for each in bob.happened if isinstance(each, events.Stopped)]
    return f"{', '.join(read)}; {f'an alarm: {told[0]}' if told else 'no alarm'}"


def alarm(seen: str) -> str:
    """Whether bob was alarmed, without what he was told."""
    return seen.partition("; ")[2].partition(": ")[0]


def goal(seed: Seed) -> str:
    """What a student's own scene asks for."""
    return seed.part("goal").pick(list(GOALS))


def unseen_goal(seed: Seed, unseen: Seed) -> str:
    """What the other one asks for: not the same."""
    return unseen.part("goal").pick([each for each in GOALS if each != goal(seed)])


def wanted(what: str) -> str:
    """How a goal looks once it is reached."""
    return f"{', '.join(str(place + 1) for place in GOALS.get(what, (0, 1, 2, 3)))}; no alarm"


def attack(ask: Ask, seed: Seed, what: str, record: Record) -> str:
    """Let a student attack."""
    student = ask()

    def relay(log: list[m.Entry]) -> list[tuple[int, int]]:
        seen = [{"seq": each.seq, "device": each.device.hex()[:4]} for each in log]
        return _checked(student.call("relay", what, seen), len(log))

    return play(seed, record, relay)


def _checked(given: Any, count: int) -> list[tuple[int, int]]:
    def is_place(each: Any) -> bool:
        return isinstance(each, list) and len(each) == 2 and all(type(number) is int for number in each)

    few = isinstance(given, list) and len(given) <= 2 * len(SPEAKERS) and all(map(is_place, given))
    if few and all(0 <= place < count and 0 < seq < 1 << 40 for place, seq in given):
        return [(place, seq) for place, seq in given]
    raise StudentError(f"relay() returned {given!r:.60}, which is no list of [index in seen, seq].")


def defend(ask: Ask, seed: Seed, relay: Relay | None) -> str:
    """Let bob's client go by a student's verdicts, and say whether he was alarmed."""
    asked = Asked(ask())
    seen = play(seed, ByVerdicts(asked), relay)
    asked.done()
    return alarm(seen)


def check(hand_in: HandIn, seed: Seed, unseen: Seed) -> Iterator[Outcome]:
    """See `Task`."""
    own, other = goal(seed), unseen_goal(seed, unseen)
    mine, log = f"attack: bob's history by your goal, {own}", SEEN_BY_ATTACK
    with hand_in.loaded("attack") as ask:
        yield tried(mine, wanted(own), log, lambda: attack(ask, seed, own, Unlinked()))
        yield tried(f"attack: by another goal, {other}", wanted(other), log,
                    lambda: attack(ask, unseen, other, Unlinked()))  # fmt: skip
        yield tried("attack: the strong client notices", "an alarm", log,
                    lambda: alarm(attack(ask, unseen, own, Record())), twin=mine)  # fmt: skip
    yield predicted("prediction: what stops a replay", "number", hand_in, mine)
    calm = "defence: nobody is alarmed where all have one history"
    with hand_in.loaded("defence") as ask:
        yield tried(calm, "no alarm", SEEN_BY_DEFENCE, lambda: defend(ask, unseen, None), idle=True)
        for name, lie in LIES.items():
            yield tried(f"defence: {name} is noticed", "an alarm", SEEN_BY_DEFENCE,
                        lambda lie=lie: defend(ask, unseen, lie), twin=calm)  # type: ignore[misc]  # fmt: skip


def facts(seed: Seed) -> Mapping[str, str]:
    """What is personal in the handout."""
    return {"goal": goal(seed)}


class _Places(Record):
    """Compares how far somebody had read, and no hashes."""

    def agrees(self, seq: int, seen: int, *_: object) -> bool:
        """Look at the place alone."""
        return seen < seq


class _Forgiving(Record):
    """Compares hashes where it has one."""

    def agrees(self, seq: int, seen: int, senders_chain: bytes, own_chain: bytes | None) -> bool:  # noqa: ARG002  # its hole
        """Let everything pass of which it knows nothing."""
        return own_chain in (None, senders_chain)


RECORDS: Final[dict[str, tuple[type[Record], str]]] = {
    "unlinked": (Unlinked, "compares nothing"),
    "places": (_Places, "compares how far the sender had read, and no hashes"),
    "forgiving": (_Forgiving, "compares hashes where it has one of its own, and takes what it cannot compare"),
}
"""Builds to review, each with what it does."""


class _Noting(Record):
    """Takes everything, as the client without `agrees` does, and notes what there was to compare."""

    def __init__(self) -> None:
        self.noted: list[tuple[int, int, bytes, bytes | None]] = []

    def agrees(self, seq: int, seen: int, senders_chain: bytes, own_chain: bytes | None) -> bool:
        """Note it."""
        self.noted.append((seq, seen, senders_chain, own_chain))
        return True


@cache
def _compared(key: str, lie: str) -> list[tuple[int, int, bytes, bytes | None]]:
    """What there is to compare in a room, in which the server tells a lie, or none: played once for all builds."""
    record = _Noting()
    play(read_seed(key), record, LIES.get(lie))
    return record.noted


def _witness(build: str, seed: Seed) -> list[dict[str, Any]]:
    """Give to a build's rules what comes in rooms with and without lies; see CHECK."""
    record = Record() if build == STRONG else RECORDS[build][0]()
    rooms = []
    for lie in sorted(REVIEWED, key=lambda lie: seed.part("order", lie).text):
        entries, alarm = [], False
        for each in _compared(seed.part(lie).text, lie):
            entries.append(dict(zip(("seq", "seen", "senders_chain", "own_chain"), each, strict=True)))
            if alarm := not record.agrees(*each):
                break
        rooms.append({"entries": entries, "alarm": alarm})
    return rooms


REVIEWED: Final = ("none", "drop", "redate")
"""The lies to review by, an honest server among them."""


def _lied(room: Mapping[str, Any]) -> bool:
    return any(not Record().agrees(*each.values()) for each in room["entries"])


def _unread(room: Mapping[str, Any]) -> bool:
    """Whether somebody had read more than has come."""
    return any(each["own_chain"] is None for each in room["entries"])


def mine(seed: Seed) -> str:
    """Which build a student reviews."""
    return seed.part("record").pick(list(RECORDS))


REVIEW: Final = Review(
    weak=tuple(RECORDS),
    witness=_witness,
    mine=mine,
    about=lambda seed: f"a client whose `record.agrees` {RECORDS[mine(seed)][1]}",
    claims=(
        Claim("A server that leaves out a message in the middle is noticed.",
              "Replay, reordering and omission in the middle are noticed at the next message",
              lambda seen: all(room["alarm"] for room in seen if _unread(room))),
        Claim("A server that shows Bob a message with another date than the others is noticed.",
              "Dates that it shows to some people only are noticed",
              lambda seen: all(room["alarm"] for room in seen if _lied(room) and not _unread(room))),
        Claim("Where the server does not lie, Bob is not warned.",
              "Every message carries the hash chain that its sender had seen",
              lambda seen: not any(room["alarm"] for room in seen if not _lied(room))),
        Claim("A server that delivers nothing any more is noticed.",
              "A server that simply stops delivering cannot be told from a quiet conversation", None),
        Claim("A server that shows everybody a date that is five minutes wrong is noticed.",
              "wrong for everybody by more than ten minutes", None),
        Claim("A member cannot leak what the others have said.", "A malicious member", None),
    ),
    check=CHECK,
    runs=1,
)  # fmt: skip

TASK: Final = Task(ATTACK, DEFENCE, "04", check, facts, review=REVIEW, words=("number", "size", "time"))
