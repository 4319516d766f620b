"""Exercise 11: somebody on the way talks a client out of TLS, or says something just before it begins."""

import contextlib
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from securechat.client import events
from securechat.transport.tls import client_context
from securechat_lab.cast.listener import Listener
from securechat_lab.cast.live import PASSWORD, PATIENCE
from securechat_lab.cast.upgrade import (
    GO_AHEAD,
    GREETING,
    WHAT,
    ClientRule,
    Middle,
    Relay,
    ServerRule,
    UpgradingChat,
    as_it_is,
    client_does,
    server_takes,
    talk,
)
from securechat_lab.kit.asked import Asked
from securechat_lab.kit.mint import Mint
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.review import STRONG, Claim, Review
from securechat_lab.kit.sandbox import StudentError
from securechat_lab.kit.seeds import Seed
from securechat_lab.kit.stage import Stage, until
from securechat_lab.kit.task import Ask, HandIn, Task, predicted, shortened, tried, which

ATTACK = '''"""Exercise 11, attack: take the upgrade out. Read README.md first."""


def relay(attempt, sender, line):
    """You are on the way. `sender`, "client" or "server", has said a line in the clear. Return what you relay.

    A list of [to, line], `to` is "client" or "server". What goes to one side is sent to it at once, in this order; an
    empty list ends the connection. `attempt`: 0, and one more each time that the victim comes anew. Eight lines are
    relayed at once, at most.
    """
    return [["server" if sender == "client" else "client", line]]


def password(seen):
    """`seen`: what you have read so far, a list of [who, line]: who is "client", "server", or "room".

    "room" is the chat itself, in which you have a seat as zoe. Return the password of whoever comes, under whatever
    name, or None.
    """
    return None


def which():
    """What is wrong with your victim? "if-offered", "if-granted", "once-more" or "left-over"."""
    return "?"
'''

DEFENCE = '''"""Exercise 11, defence: require the upgrade, and bind to it what follows. Read README.md first."""


def client(event, line, rest):
    """Something has happened to your client. Return "upgrade", "handshake", "login" or "leave".

    `event`: "greeting" or "answer", with the server's `line`, and the bytes right behind it, `rest`; "failed":
    the handshake; "secure": it has succeeded, and the certificate is the right one.
    """
    if event == "greeting" and "STARTTLS" in line:
        return "upgrade"
    if event == "answer" and line == "* go ahead":
        return "handshake"
    return "login"


def server(line, rest):
    """A client of your server says `line`, STARTTLS or a LOGIN, in the clear; bytes right behind it: `rest`.

    Return True if that is taken, and False if the connection ends.
    """
    return True
'''

CHECK = '''"""Exercise 11, a check of your own: do this client and its server keep to TLS? Read README.md first."""


def sound(seen):
    """Return True if both are sound, False if one of them has a hole.

    `seen`: what was seen of some conversations, on networks that are honest and on others; a list of {"altered":
    whether somebody on the way did something, "clear": all that client and server said outside TLS, a list of
    [who, line], "room": what others in the chat have read, a list of lines, "screen": the same of the client}.
    """
    return True
'''

NAMES: Final = ("ann", "ben", "cleo", "dario", "emma", "finn")
STEPS: Final = ("upgrade", "handshake", "login", "leave")
TRIES: Final = 4
"""Times that a victim comes, if it was cut off."""
MAX_RELAYED: Final = 8
MAX_CHARACTERS: Final = 500
"""Lines that are relayed at once, and characters of one."""
PLANTED: Final = "zoe: the door code has changed, it is 0000"
"""A line that somebody on the way would like to be read as said inside TLS."""


class Build(NamedTuple):
    """A client and its server."""

    client: ClientRule = client_does
    server: ServerRule = server_takes


def _if_offered(event: str, line: str, rest: bytes) -> str:
    return "login" if event == "greeting" and "STARTTLS" not in line else client_does(event, line, rest)


def _if_granted(event: str, line: str, rest: bytes) -> str:
    return "login" if event == "answer" and line != GO_AHEAD else client_does(event, line, rest)


def _once_more(event: str, line: str, rest: bytes) -> str:
    return "login" if event == "failed" else client_does(event, line, rest)


def _left_over(line: str, _: bytes) -> bool:
    return line == "STARTTLS"


STRICT: Final = Build()
WEAK: Final[dict[str, Build]] = {
    "if-offered": Build(client=_if_offered),
    "if-granted": Build(client=_if_granted),
    "once-more": Build(client=_once_more),
    "left-over": Build(server=_left_over),
}
"""The family: one of the two rules, each with one thing left out."""


class Said(NamedTuple):
    """Who says what: personal."""

    name: str
    password: str
    secret: str


def said(seed: Seed) -> Said:
    """Return it."""
    return Said(seed.part("name").pick(NAMES), seed.part("password").word(), f"in {seed.part('secret').word()}")


class _Seat:
    """Somebody who sits in the chat, past the upgrade."""

    def __init__(self, port: int, name: str) -> None:
        self._link = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._lines = self._link.makefile("r", encoding="utf-8", newline="\n")
        self.say(f"LOGIN {name} x")
        self.read_to(f"* welcome, {name}")

    def say(self, *lines: str) -> None:
        self._link.sendall("".join(f"{line}\n" for line in lines).encode())

    def read_to(self, last: str) -> list[str]:
        """Return what comes before a line, without who has left: whether that comes before it is left to chance."""
        read: list[str] = []
        for line in self._lines:
            said = line.rstrip("\n")
            if said == last:
                return read
            if not (said.startswith("* ") and said.endswith(" has left")):
                read.append(said)
        raise AssertionError(last)

    def close(self) -> None:
        self._lines.close()
        self._link.close()


@dataclass(frozen=True)
class Seen:
    """What came of one time that the victim came."""

    said: Said
    screen: list[str]
    """What the victim has read."""
    room: list[str]
    """What zoe has read."""
    heard: list[tuple[str, str]]
    """What was said in the clear: by whom, and the line."""
    passed: bytes
    """All that was sent, both ways."""

    @property
    def clear(self) -> bool:
        """Whether something was in the clear that should not be."""
        return any(each.encode() in self.passed for each in self.said[1:])

    @property
    def read(self) -> bool:
        """Whether others have read what was said."""
        return f"{self.said.name}: {self.said.secret}" in self.room

    @property
    def words(self) -> str:
        """What was taken."""
        if self.said.password.encode() in self.passed or any(self.said.password in line for line in self.room):
            return "the password was read"
        if self.clear:
            return "the message was read"
        return "a line from before TLS was read inside" if PLANTED in self.screen else "nothing was taken"


def play(seed: Seed, build: Build, relay: Relay = as_it_is, *, tries: int = 1) -> Iterator[Seen]:
    """Let a victim come several times, with somebody on the way, and say after each what has come of it."""
    who = said(seed)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        mint = Mint(Path(folder))
        chat = stack.enter_context(UpgradingChat(mint.server("good"), build.server))
        middle = stack.enter_context(Middle(chat.port, relay))
        zoe, bell = _Seat(chat.chat.port, "zoe"), _Seat(chat.chat.port, "bell")
        stack.callback(zoe.close)
        stack.callback(bell.close)
        for number in range(tries):
            screen = talk(middle.port, client_context(mint.ca_file), build.client, *who)
            middle.wait()
            bell.say(f"end of {number}", ".")  # it comes after all that was said, to zoe as well
            room = zoe.read_to(f"bell: end of {number}")
            yield Seen(who, screen, room, list(middle.heard), bytes(middle.passed))


def attack(ask: Ask, seed: Seed, build: Build) -> str:
    """Let a student attack."""
    student, attempt, room, failures = ask(), 0, list[str](), list[StudentError]()

    def relay(sender: str, line: str) -> list[tuple[str, str]]:
        try:
            return _checked(student.call("relay", attempt, sender, line))
        except StudentError as error:  # in another thread, which it must not end
            failures.append(error)
            return []

    for seen in play(seed, build, relay, tries=TRIES):
        if failures:
            raise failures[0]
        room += seen.room
        given = student.call("password", [*seen.heard, *(("room", line) for line in room)])
        if given is not None:
            return "the password was read" if given == seen.said.password else "that is not the password"
        attempt += 1
    return "nothing was taken"


def _checked(given: Any) -> list[tuple[str, str]]:
    def fits(each: Any) -> bool:
        return (
            isinstance(each, list) and len(each) == 2 and each[0] in ("client", "server") and isinstance(each[1], str)
            and len(each[1]) <= MAX_CHARACTERS and "\n" not in each[1]
        )  # fmt: skip

    if isinstance(given, list) and len(given) <= MAX_RELAYED and all(map(fits, given)):
        return [(to, line) for to, line in given]
    wanted = f'no list of up to {MAX_RELAYED} [to, line], "client" or "server" and up to {MAX_CHARACTERS} characters'
    raise StudentError(f"relay() returned {shortened(given)}, which is {wanted}.")


def _stripped(sender: str, line: str) -> Sequence[tuple[str, str]]:
    if line == GREETING:
        return [("client", "* hello")]
    return [("client", WHAT)] if line == "STARTTLS" else as_it_is(sender, line)


def _denied(sender: str, line: str) -> Sequence[tuple[str, str]]:
    return [("client", "* not now")] if line == "STARTTLS" else as_it_is(sender, line)


def _broken(sender: str, line: str) -> Sequence[tuple[str, str]]:
    return [("client", GO_AHEAD)] if line == "STARTTLS" else as_it_is(sender, line)


def _planted(sender: str, line: str) -> Sequence[tuple[str, str]]:
    return [*as_it_is(sender, line), ("client", PLANTED)] if line == GO_AHEAD else as_it_is(sender, line)


def _smuggled(sender: str, line: str) -> Sequence[tuple[str, str]]:
    smuggled = ("server", "LOGIN mallory x")
    return [*as_it_is(sender, line), smuggled] if line == "STARTTLS" else as_it_is(sender, line)


LIES: Final[dict[str, Relay]] = {
    "an upgrade that is not offered": _stripped,
    "an upgrade that is denied": _denied,
    "an upgrade that breaks": _broken,
    "a line to the client just before TLS": _planted,
    "a login to the server just before TLS": _smuggled,
}


def by_verdicts(asked: Asked) -> Build:
    """Return a build by a student's functions."""
    return Build(
        lambda event, line, rest: asked.one_of(STEPS, "client", event, line, rest) or "leave",
        partial(asked.yes, "server"),
    )


def defend(ask: Ask, seed: Seed, relay: Relay, client: ClientRule | None = None) -> Seen:
    """Let a client and a server by a student's rules talk; `client`: another one."""
    asked = Asked(ask())
    build = by_verdicts(asked)
    (seen,) = play(seed, build if client is None else Build(client, build.server), relay)
    asked.done()
    return seen


def holds(ask: Ask, seed: Seed, lie: str) -> str:
    """Say what one lie takes from a student's rules; an honest scene comes before or after it, and who knows which."""
    words = {}
    for name in seed.part("order", lie).pick([(lie, ""), ("", lie)]):
        words[name] = defend(ask, seed, LIES[lie]).words if name else _talked(defend(ask, seed, as_it_is))
    return words[lie] if words[""] == TALKED else f"without the lie it was {words['']}"


TALKED: Final = "said inside TLS"


def _talked(seen: Seen) -> str:
    return "not said" if not seen.read else "said in the clear" if seen.clear else TALKED


def _let_in(seen: Seen) -> str:
    return "let in" if seen.read or seen.screen else "turned away"


def always_in_the_clear(*_: object) -> str:
    """Be a client from before there was an upgrade."""
    return "login"


class _NoTls(Listener):
    """A server that says it has no TLS, and keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.got = bytearray()

    def serve(self, link: socket.socket) -> None:
        """Say so."""
        link.settimeout(PATIENCE)
        link.sendall(b"* hello, TLS is not available\n")
        while data := link.recv(1 << 16):
            self.got += data


@cache
def real_thing() -> str:
    """Let a real client of securechat meet a network that says that there is no TLS: once, it depends on nothing."""
    with Stage() as stage, _NoTls() as network:
        victim = stage.person("victim", port=network.port, ready=False)
        until(victim, lambda: victim.saw(events.Disconnected), lambda: victim.saw(events.Ended))
        stage.leave(victim)
        clear = b"victim" in network.got or PASSWORD.encode() in network.got
        return "something in the clear" if clear or network.got[:1] != b"\x16" else "nothing in the clear"


def variant(seed: Seed) -> str:
    """What is wrong with a student's own victim."""
    return seed.part("variant").pick(list(WEAK))


def unseen_variant(seed: Seed, unseen: Seed) -> str:
    """What is wrong with the other one: not the same."""
    return unseen.part("variant").pick([each for each in WEAK if each != variant(seed)])


def check(hand_in: HandIn, seed: Seed, unseen: Seed) -> Iterator[Outcome]:
    """See `Task`."""
    own, other = variant(seed), unseen_variant(seed, unseen)
    mine, taken, log = "attack: your victim's password", "the password was read", "run.log: print `seen` in password()"
    with hand_in.loaded("attack") as ask:
        yield tried(mine, taken, log, lambda: attack(ask, seed, WEAK[own]))
        yield which("attack: what is wrong with your victim", own, "README.md, the four holes", ask, twin=mine)
        yield tried("attack: the password of a victim that you have not seen", taken, log,
                    lambda: attack(ask, unseen, WEAK[other]))  # fmt: skip
        yield tried("attack: what requires and binds gives you nothing", "nothing was taken", log,
                    lambda: attack(ask, unseen, STRICT), twin=mine)  # fmt: skip
    yield tried("attack: securechat, where there is said to be no TLS", "nothing in the clear", "",
                real_thing, twin=mine)  # fmt: skip
    yield predicted("prediction: what securechat does there", "leave", hand_in, mine)
    honest, where = "defence: on an honest network people talk, inside TLS", "run.log: print what your rules are given"
    with hand_in.loaded("defence") as ask:
        yield tried(honest, TALKED, where, lambda: _talked(defend(ask, unseen, as_it_is)), idle=True)
        for lie in LIES:
            yield tried(f"defence: {lie}", "nothing was taken", where,
                        lambda lie=lie: holds(ask, unseen, lie), twin=honest)  # type: ignore[misc]  # bound now  # fmt: skip
        yield tried("defence: a client that logs in in the clear", "turned away", where,
                    lambda: _let_in(defend(ask, unseen, as_it_is, always_in_the_clear)), twin=honest)  # fmt: skip


def facts(seed: Seed) -> Mapping[str, str]:
    """What is personal in the handout."""
    return {"name": said(seed).name}


HONEST: Final = "nothing"
REVIEWED: Final = (
    HONEST, "an upgrade that is not offered", "an upgrade that breaks", "a login to the server just before TLS",
)  # fmt: skip
"""What is done to the conversations of a review."""


def _witness(build: str, seed: Seed) -> list[dict[str, Any]]:
    """Let people talk on networks that lie and on one that does not; see CHECK."""
    rules, talks = STRICT if build == STRONG else WEAK[build], []
    for lie in sorted(REVIEWED, key=lambda lie: seed.part("order", lie).text):
        (seen,) = play(seed.part("talk", lie), rules, LIES.get(lie, as_it_is))
        clear = [list(each) for each in seen.heard]
        talks.append({"altered": lie != HONEST, "clear": clear, "room": seen.room, "screen": seen.screen})
    return talks


def _outside(talk: Mapping[str, Any]) -> bool:
    """Whether a login was said outside TLS."""
    return any(who == "client" and "LOGIN" in line for who, line in talk["clear"])


REVIEW: Final = Review(
    weak=tuple(WEAK),
    witness=_witness,
    mine=variant,
    about=lambda _: "your victim, the client with its server that `attack.py` is about",
    claims=(
        Claim("Whatever somebody on the way says, the password is said inside TLS alone.",
              "nothing secret before it is verified",
              lambda seen: not any(_outside(talk) for talk in seen)),
        Claim("What was put in before TLS begins does not count inside.",
              "read, change or inject: TLS 1.3 under a pinned CA",
              lambda seen: not any("LOGIN" in line for talk in seen for line in talk["room"])),
        Claim("Where somebody on the way only listens, they learn no password.",
              "delay, cut, see sizes and times",
              lambda seen: not any(_outside(talk) for talk in seen if not talk["altered"])),
        Claim("Nobody on the way sees how much is said, and when.", "delay, cut, see sizes and times", None),
        Claim("Somebody on the way cannot keep the two from talking.", "delay, cut", None),
        Claim("Whoever records it today can read it at no time.",
              "recorded traffic could be read by a future one", None),
    ),
    check=CHECK,
    runs=2,
)  # fmt: skip

TASK: Final = Task(ATTACK, DEFENCE, "11", check, facts, words=("plain", "ask", "leave"), review=REVIEW)
