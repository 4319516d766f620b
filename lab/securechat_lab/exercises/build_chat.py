"""Exercise 15: a threaded chat server, built from nothing, and what its clients see of it."""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, Final

from securechat_lab.cast.old_chat import OldChat
from securechat_lab.cast.talkers import Table, Talker, UnexpectedError
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.review import Claim, Review
from securechat_lab.kit.sandbox import Student, StudentError
from securechat_lab.kit.seeds import Seed
from securechat_lab.kit.task import HandIn, Printed, Task, predicted, tried

DEFENCE = '''"""Exercise 15: the chat of old. Read README.md first."""

import socket
import threading


def serve(listener, seats, behind):
    """Serve for ever. `listener`: a socket that listens already: `listener.accept()` gives the next client.

    `seats`: so many people talk at once; the others wait. `behind`: so many lines may wait for one who does not read.
    """
    while True:
        link, _ = listener.accept()
'''

SEATS: Final = (3, 4, 5, 6)
BEHIND: Final = (120, 140, 160, 180)
"""Lines."""
SEND_BUFFER: Final = 16 << 10
"""Bytes that the system keeps of what a server sends: small, so that who does not read is noticed soon."""
LONG_LINE: Final = 2000
"""Bytes: half of `BEHIND` of these fill whatever the system keeps."""
AT_ONCE: Final = 12
"""Messages that are said at the same time, by all together."""
LONG_MESSAGE: Final = 9
"""Lines of each of them: `AT_ONCE` times this and one, for the answer, is not more than may wait for anybody."""
TIMES_AT_ONCE: Final = 10
"""How often all talk at once: a message is torn by chance only, where the lock is missing."""
AT_A_TIME: Final = 30
"""Messages that come one right after the other where many are said: a server that looks now and then is slow enough."""
AS_IT_SHOULD: Final = "all were told what they should be"
MUTE: Final = "nobody was told anything at all"

CALLED: Final = ("ann", "ben", "cleo", "dan", "eva", "finn", "gus", "hana", "ida", "jo")
"""How names begin, in the order in which people come: so one reads who was told something."""

PROCESSED: Final = "* processed, send the next"


def seats(seed: Seed) -> int:
    """How many talk at once: personal."""
    return seed.part("seats").pick(SEATS)


def unseen_seats(seed: Seed, unseen: Seed) -> int:
    """How many in a chat that a student has not seen: another number."""
    return unseen.part("seats").pick([each for each in SEATS if each != seats(seed)])


def behind(seed: Seed) -> int:
    """How many lines may wait for one who does not read."""
    return seed.part("behind").pick(BEHIND)


class Chat(Table):
    """A table at a student's server, with names for those who come."""

    def __init__(self, port: int, look: Callable[[], object], seed: Seed, seats: int, behind: int) -> None:
        super().__init__(port, look)
        self._seed = seed
        self._named = 0
        self.seats = seats
        self.behind = behind
        self.seated: list[Talker] = []

    def name(self) -> str:
        """Return another name."""
        self._named += 1
        return f"{CALLED[(self._named - 1) % len(CALLED)]}-{self._seed.part('name', str(self._named)).word(4)}"

    def fill(self, count: int = 0) -> list[Talker]:
        """Seat so many people, or as many as there are seats, each of whom hears of those who come after."""
        for _ in range(count or self.seats):
            self.welcome(self.come(self.name()))
        return self.seated

    def welcome(self, talker: Talker) -> None:
        """Expect somebody to get a seat now."""
        self.hears(talker, f"* welcome, {talker.name}")
        self.all_hear(f"* {talker.name} has come")
        self.seated.append(talker)

    def wait(self, number: int) -> Talker:
        """Return somebody who comes, and gets this place in the queue."""
        talker = self.come(self.name())
        self.hears(talker, f"* full: you are number {number}")
        return talker

    def all_hear(self, *lines: str, but: Talker | None = None) -> None:
        """Expect all who have a seat to be told this next."""
        for each in self.seated:
            if each is not but and each.reads:
                self.hears(each, *lines)

    def message(self, talker: Talker, *lines: str) -> None:
        """Let somebody say something, which the others hear."""
        talker.say(*lines, ".")
        self.heard(talker, *lines)

    def messages(self, talker: Talker, lines: Sequence[str]) -> None:
        """Let somebody say messages of a line each, some at a time, which the others hear."""
        for start in range(0, len(lines), AT_A_TIME):
            some = lines[start : start + AT_A_TIME]
            talker.say(*(f"{line}\n." for line in some))
            self.hears(talker, *[PROCESSED] * len(some))
            self.all_hear(*(f"{talker.name}: {line}" for line in some), but=talker)

    def heard(self, talker: Talker, *lines: str) -> None:
        """Expect the others to hear it, and the one who says it that it was processed."""
        self.hears(talker, PROCESSED)
        self.all_hear(*(f"{talker.name}: {line}" for line in lines), but=talker)

    def left(self, talker: Talker) -> None:
        """Expect to hear that somebody has left."""
        self.seated.remove(talker)
        self.all_hear(f"* {talker.name} has left")


def all_seats(chat: Chat) -> None:
    """As many are welcomed as there are seats, and talk."""
    for each in chat.fill():
        chat.message(each, "hello from", each.name)


def the_next_waits(chat: Chat) -> None:
    """Whoever comes then is told a number, and nothing else."""
    first = chat.fill()[0]
    late, later = chat.wait(1), chat.wait(2)
    chat.message(first, "not for those who wait")
    first.leave()
    chat.left(first)
    chat.welcome(late)  # the next that they are told
    chat.message(late, "nor this")
    late.leave()
    chat.left(late)
    chat.welcome(later)


def enters_in_order(chat: Chat) -> None:
    """Those who wait get the seats in the order in which they came."""
    first, second, third = chat.fill()[:3]
    waiting = [chat.wait(number) for number in (1, 2, 3)]
    for goes, comes in zip((second, first, third), waiting, strict=True):
        goes.leave()
        chat.left(goes)
        chat.welcome(comes)
        chat.message(comes, "at last")
    chat.wait(1)


def processed(chat: Chat) -> None:
    """Each message is answered once, when it was passed on, and nobody hears themselves."""
    one, other = chat.fill(2)
    for number in range(3):
        chat.message(one, f"message {number}", "in two lines")
        chat.message(other, "yes")


def notices(chat: Chat) -> None:
    """All others are told who comes and who leaves: once, and in its turn."""
    first, second = chat.fill(2)
    third = chat.come(chat.name())
    chat.welcome(third)
    chat.message(third, "I cannot stay")
    third.leave()
    chat.left(third)
    chat.message(first, "who was that?")
    second.leave()
    chat.left(second)
    chat.welcome(chat.come(chat.name()))


def a_crash(chat: Chat) -> None:
    """Somebody crashes within a message, and others before they have said who they are: nobody else is harmed."""
    first, second = chat.fill()[:2]
    late = chat.wait(1)
    second.say("what is not ended")
    chat.message(first, "is not said")
    second.crash()
    chat.left(second)
    chat.welcome(late)
    another = f"HELLO {chat.name()} secret\n".encode()
    for garbage in (b"", b"LOG", b"\xff\xfe\x00\n", b"hello\n.\n", b"LOGIN\n", another):
        stranger = chat.connect("a stranger")
        stranger.send(garbage)
        if garbage.endswith(b"\n"):
            chat.sent_away(stranger)
        stranger.crash()
    for each in chat.seated:
        chat.message(each, "still here")


def as_it_came(chat: Chat) -> None:
    """Empty lines, blanks at both ends of one, dots that are not alone, and what Python may take for a line's end."""
    one, _ = chat.fill(2)
    chat.message(one, "", "  in the middle  ", "", " .", ". ", "..", "")
    chat.message(one, "a\rb", "c\r", "d\x0be\x0cf\x1cg", "h\x85i\u2028j")


def several_at_once(chat: Chat) -> None:
    """Several lines, and messages, come in one piece."""
    chat.fill(1)
    hasty = chat.connect(chat.name())
    hasty.say(f"LOGIN {hasty.name} secret", "one", ".", "two", "and three", ".", "four", ".")
    chat.hears(hasty, f"* welcome, {hasty.name}", PROCESSED, PROCESSED, PROCESSED)
    said = [f"{hasty.name}: {line}" for line in ("one", "two", "and three", "four")]
    chat.all_hear(f"* {hasty.name} has come", *said)


def cut_lines(chat: Chat) -> None:
    """Lines come in pieces, cut anywhere: also within a letter of two bytes, and before the end of a line."""
    slow, _ = chat.fill(2)
    whole = "Grüße, und so weiter\n.\n".encode()
    for cut in range(1, len(whole)):
        # what ends a message and what begins the next come in one piece: once it is answered, both were read
        slow.send(b"so\n.\n" + whole[:cut])
        chat.heard(slow, "so")
        slow.send(whole[cut:])
        chat.heard(slow, "Grüße, und so weiter")


def both_ways(chat: Chat) -> None:
    """All talk at the same time, and nothing is lost, doubled or torn."""
    count = AT_ONCE // chat.seats
    said = [f"{number} {part}" for number in range(count) for part in range(LONG_MESSAGE)]
    text = "".join(f"{line}\n" + ".\n" * line.endswith(f" {LONG_MESSAGE - 1}") for line in said).encode()
    chat.fill()
    for _ in range(TIMES_AT_ONCE):
        for each in chat.seated:
            each.send(text)
        for each in chat.seated:
            lines = len(said) * (chat.seats - 1) + count
            chat.until(lambda each=each, lines=lines: len(each.new()) >= lines or each.gone)  # type: ignore[misc]
            _whole(each, chat.seated, said, count)
            each.skip(lines)


def _whole(reader: Talker, speakers: list[Talker], said: list[str], count: int) -> None:
    """Look at what somebody was told while all talked."""
    told = reader.new()
    for each in speakers:
        lines = [line for line in told if line.startswith(f"{each.name}: ")]
        if lines != [f"{each.name}: {line}" for line in said if each is not reader]:
            raise UnexpectedError(f"{reader.name} was told {len(lines)} lines of {each.name}, not all of them in order")
    last = f" {LONG_MESSAGE - 1}"
    for line, after in pairwise(told):
        if line != PROCESSED and not line.endswith(last) and line.rpartition(" ")[0] != after.rpartition(" ")[0]:
            raise UnexpectedError("somebody was told something in the middle of a message")
    if (times := told.count(PROCESSED)) != count:
        raise UnexpectedError(f"{reader.name} was told {times} times that {count} messages were processed")


def who_does_not_read(chat: Chat) -> None:
    """Somebody reads nothing more: nobody waits for them, and in the end they are cut off."""
    talks, reads = chat.fill(2)
    deaf = chat.come(chat.name(), reads=False)
    chat.all_hear(f"* {deaf.name} has come")
    left = f"* {deaf.name} has left"
    talks.apart[left] = reads.apart[left] = 0
    chat.messages(talks, [f"{number} ".ljust(LONG_LINE, "x") for number in range(2 * chat.behind)])
    for each in (talks, reads):
        chat.until(lambda each=each: each.apart[left] > 0)  # type: ignore[misc]
        if (times := each.apart[left]) != 1:
            often = f"{times} times" if times else "never"
            raise UnexpectedError(f"{deaf.name} reads nothing, and {each.name} was told {often} that they have left")
    deaf.reads = True
    chat.sent_away(deaf)
    chat.message(talks, "who was that?")


def who_reads_late(chat: Chat) -> None:
    """Somebody reads late, when as many lines wait as may: they get everything."""
    talks, _ = chat.fill(2)
    late = chat.come(chat.name(), reads=False)
    chat.all_hear(f"* {late.name} has come")
    chat.seated.append(late)
    lines = [f"{number} ".ljust(LONG_LINE, "x") for number in range(chat.behind - 1)]
    chat.messages(talks, lines)
    late.reads = True  # with the welcome it was told as many lines as may wait
    chat.hears(late, f"* welcome, {late.name}", *(f"{talks.name}: {line}" for line in lines))
    chat.message(late, "I have it all")


Scene = Callable[[Chat], None]

PROCESS: Final = "a message is passed on and answered"
NOTICES: Final = "who comes and who leaves is told"
NEXT: Final = "the next one waits"
LATE: Final = "who reads late gets everything"
SCENES: Final[dict[str, tuple[Scene, str]]] = {
    PROCESS: (processed, NOTICES),
    NOTICES: (notices, PROCESS),
    "as many talk as there are seats": (all_seats, NEXT),
    NEXT: (the_next_waits, PROCESS),
    "who waits enters, in order": (enters_in_order, NEXT),
    "who crashes harms nobody": (a_crash, PROCESS),
    "a line is passed on as it came": (as_it_came, PROCESS),
    "several lines come in one piece": (several_at_once, PROCESS),
    "lines come in pieces": (cut_lines, PROCESS),
    "all talk at once": (both_ways, PROCESS),
    "who does not read is cut off, and nobody waits for them": (who_does_not_read, LATE),
    LATE: (who_reads_late, PROCESS),
}
"""Each with its twin. On the first two all others depend."""
NOT_PLAYED: Final = f'Not played: {MUTE} in "{PROCESS}" and "{NOTICES}", without which nothing counts.'


def play(hand_in: HandIn, scene: Scene, seed: Seed, seats: int) -> str:
    """Let people come to a student's server, which runs in a process of its own, and say what they saw."""
    most = behind(seed)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # those it accepts inherit it
        port = listener.getsockname()[1]
        student = Student("defence.py", hand_in.defence, listener=listener, patience=hand_in.patience)
    seen, printed = AS_IT_SHOULD, b""

    def look() -> None:
        student.look()
        hand_in.patience.look()

    try:
        student.start("serve", seats, most)
        with hand_in.patience.waiting(), Chat(port, look, seed, seats, most) as chat:
            try:
                scene(chat)
            except UnexpectedError as unexpected:
                seen = str(unexpected) if chat.told else f"{unexpected}: {MUTE}"
            finally:
                with suppress(StudentError):
                    student.look()
                printed = bytes(student.printed)  # and nothing of what a thread says when all connections end
    finally:
        student.close()
        hand_in.printed.append(Printed("defence.py", bytearray(printed)))
    failed = seen != AS_IT_SHOULD and b"Traceback (most recent call last)" in printed
    return f"{seen}; a thread of defence.py has failed, its traceback is in run.log" if failed else seen


def check(hand_in: HandIn, seed: Seed, unseen: Seed) -> Iterator[Outcome]:
    """See `Task`."""
    mute = dict.fromkeys((PROCESS, NOTICES), False)

    def seen(scene: Scene, by: Seed, count: int) -> str:
        if all(mute.values()):
            raise StudentError(NOT_PLAYED)
        return play(hand_in, scene, by, count)

    own, other = seats(seed), unseen_seats(seed, unseen)
    for name, (scene, twin) in SCENES.items():
        found = tried(name, AS_IT_SHOULD, _where(scene), lambda scene=scene: seen(scene, seed, own), twin=twin)  # type: ignore[misc]  # bound now
        if name in mute:
            mute[name] = MUTE in found.seen
        yield found
    yield tried("another number of seats, and other names", AS_IT_SHOULD, _where(the_next_waits),
                lambda: seen(the_next_waits, unseen, other), twin=NEXT)  # fmt: skip
    yield predicted("prediction: for whom it is quiet", "everybody", hand_in, PROCESS)


def _where(scene: Scene) -> str:
    return f"what the clients were told. {scene.__doc__}"


def facts(seed: Seed) -> Mapping[str, str]:
    """What is personal in the handout."""
    return {"seats": str(seats(seed)), "behind": str(behind(seed))}


def _witness(_: str, seed: Seed) -> dict[str, Any]:
    """What becomes of some people in the chat of old, as it is meant to be."""
    text, seen = f"{seed.part('text').word()} is where we meet", dict[str, Any]()
    with OldChat() as old, Chat(old.port, lambda: None, seed, 3, 100) as chat:
        talks, reads = chat.fill(2)
        stranger, deaf = chat.connect("a stranger"), chat.connect("deaf", reads=False)
        stranger.say("hello")
        seen["stranger gone"] = chat.until(lambda: stranger.gone)
        deaf.log_in()
        chat.all_hear("* deaf has come")
        talks.sending += f"{text}\n.\n".encode()
        seen |= {"text": text.encode(), "sent": bytes(talks.sending)}
        talks.push()
        chat.heard(talks, text)  # though one of them reads nothing
        seen["passed on"] = "\n".join(reads.lines).encode()
        other = chat.connect("somebody else")
        other.say(f"LOGIN {talks.name} another-password")
        seen["let in"] = chat.until(lambda: f"* welcome, {talks.name}" in other.lines)
    return seen


REVIEW: Final = Review(
    weak=("old",),
    witness=_witness,
    mine=lambda _: "old",
    about=lambda _: "the chat of old, where it is built as the handout says",
    claims=(
        Claim("A stranger who says nothing that makes sense is sent away, and nobody else hears of it.",
              "take bounded time and memory", lambda seen: seen["stranger gone"]),
        Claim("Somebody who reads nothing keeps nobody from hearing what others say.",
              "hold a thread", lambda seen: seen["text"] in seen["passed on"]),
        Claim("Nobody talks under the name of somebody else who is there.",
              "speak as somebody else", lambda seen: not seen["let in"]),
        Claim("Whoever captures the network does not read what is said.",
              "read, change or inject: TLS 1.3 under a pinned CA", lambda seen: seen["text"] not in seen["sent"]),
        Claim("The server cannot read what it passes on.",
              "read or change what is said in a group that it is not in",
              lambda seen: seen["text"] not in seen["passed on"]),
        Claim("The server does not learn who talks with whom, and when.", "see who talks with whom, when", None),
    ),
    instead="the outcomes are such a check: what clients see of a server says whether it is sound",
)  # fmt: skip

TASK: Final = Task("", DEFENCE, "15", check, facts, review=REVIEW, words=("nobody", "the client", "everybody"))
