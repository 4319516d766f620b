"""Exercise 14: one person keeps many out, by connections that say nothing, slowness, floods and queue jumping.

The room is a model of the chat of old with a clock of its own, so that all that is seen are numbers of people, and no
times. Its strong rules are the real server's: who gives way at the door (`server.admission.newcomers`), how long a
login may take (`wire.limits`), whose turn it is (`server.carrying.payer`), who gets a seat (`server.sequencer.seats`).
"""

import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

from securechat.wire.limits import MAX_IN_FLIGHT
from securechat_lab.cast.scenes import direct, lobby, say
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.review import STRONG, Claim, Review
from securechat_lab.kit.sandbox import Student, StudentError
from securechat_lab.kit.seeds import Seed
from securechat_lab.kit.stage import Stage
from securechat_lab.kit.task import Ask, HandIn, Task, predicted, shortened, tried

ATTACK = '''"""Exercise 14, attack: keep people out. Read README.md first."""


def act(hole, second, mine):
    """One second has passed: it is `second`, from 0 on. What do you do now? Return a list of at most 24 actions:

        ["connect"]       one more connection, into the hall
        ["byte", id]      send one byte of a login or of a line
        ["login", id]     finish the login: from the hall into the queue, under one of your eight accounts
        ["line", id]      finish a line: of a connection that has a seat
        ["leave", id]     hang up

    `hole`: of this room, see README.md. `mine`: your connections, the oldest first, each as {"id": 7, "where": "hall",
    "queue" or "seat", "age": seconds there, "silence": seconds without a byte, "waiting": lines of yours not said yet}.
    """
    return []
'''

DEFENCE = '''"""Exercise 14, defence: limits, and fair queues. Read README.md first."""


def gives_way(hall, address):
    """Somebody comes from `address`, and the hall is full. Return the index of who has to go, or -1: the newcomer.

    `hall`: a list of [address, seconds since they came], the oldest first.
    """
    return -1


def stays(age, silence):
    """Return whether somebody stays who has not finished their login, or their line.

    `age`: seconds since they came, or got their seat. `silence`: seconds since their last byte.
    """
    return silence <= 8


def next_line(waiting, said):
    """Return the index of the line that is said next. `waiting`: a list of [account, address, age], the oldest first.

    `said`: how many lines each account has got said so far, a dict.
    """
    return 0


def next_seat(queue, seated):
    """A seat is free. Return the index of who gets it, or -1: nobody. `queue`: as `waiting`, by order of arrival.

    `seated`: the addresses of those who have a seat, a list.
    """
    return len(queue) - 1
'''

CHECK = '''"""Exercise 14, a check of your own: is this room fair? Read README.md first."""


def sound(seen):
    """Return True if the room is sound, False if it has a hole.

    `seen`: what was seen on some evenings, a list of {"attack": "full", "slow", "flood", "jump", or None where nobody
    attacked, "came": how many people wanted to say something, "heard": how many were heard, "most": how many of the
    five seats one address had at once}.
    """
    return True
'''

PLACES: Final = 16
"""Connections in the hall: not logged in."""
SEATS: Final = 5
SHARE: Final = 4
"""Seats that one address may have: three quarters, rounded up, as with the real server."""
PATIENCE: Final = 8
"""Seconds for a login, and for a line; nobody needs more than five."""
SECONDS: Final = 60
GUESTS: Final = 24
SCHOOL: Final = 4
"""Of these, who come from one address."""
KEPT_OUT: Final = 18
"""Guests who are heard, at most, where people are kept out: three quarters."""
ACCOUNTS: Final = 8
ACTIONS: Final = 24
CONNECTIONS: Final = 40
WAITING: Final = 12
"""What the attacker has: accounts, actions a second, connections at once, lines of an account that are not said yet."""

GivesWay = Callable[[list[tuple[str, int]], str], int]
Stays = Callable[[int, int], bool]
NextLine = Callable[[list[tuple[str, str, int]], dict[str, int]], int]
NextSeat = Callable[[list[tuple[str, str, int]], list[str]], int]


def of_the_largest_crowd(hall: list[tuple[str, int]], _: str) -> int:
    """Let the oldest of the address go that has most."""
    largest = Counter(address for address, _ in hall).most_common(1)[0][0]
    return [address for address, _ in hall].index(largest)


def within_patience(age: int, _: int) -> bool:
    """Count from the beginning."""
    return age <= PATIENCE


def who_has_said_least(waiting: list[tuple[str, str, int]], said: dict[str, int]) -> int:
    """Let everybody say one before anybody says two."""
    return min(range(len(waiting)), key=lambda n: said.get(waiting[n][0], 0))


def who_came_first(queue: list[tuple[str, str, int]], seated: list[str]) -> int:
    """Go by arrival; an address that has its share waits, and is passed by others."""
    return next((n for n, (_, address, _) in enumerate(queue) if seated.count(address) < SHARE), -1)


class Rules(NamedTuple):
    """What a room goes by."""

    gives_way: GivesWay = of_the_largest_crowd
    stays: Stays = within_patience
    next_line: NextLine = who_has_said_least
    next_seat: NextSeat = who_came_first


FAIR: Final = Rules()
WEAK: Final[dict[str, Rules]] = {
    "full": Rules(gives_way=lambda _hall, _address: -1),
    "slow": Rules(stays=lambda _age, silence: silence <= PATIENCE),
    "flood": Rules(next_line=lambda _waiting, _said: 0),
    "jump": Rules(next_seat=lambda queue, _seated: len(queue) - 1),
}
"""The family: one limit, or one queue, each."""


@dataclass(eq=False)
class Connection:
    """One connection to the room."""

    number: int
    address: str
    since: int
    """When it came to where it is, in seconds."""
    last: int
    """When its last byte came."""
    where: str = "hall"
    account: str = ""


@dataclass
class Guest:
    """Somebody who wants to say one line, and comes again until it is said."""

    name: str
    address: str
    comes: int
    login_takes: int
    line_takes: int
    connection: Connection | None = None
    written: bool = False


class Room:
    """The chat: a hall, a queue, seats, and one line said a second."""

    def __init__(self, rules: Rules) -> None:
        self.now = 0
        self.connections: list[Connection] = []
        self.said: Counter[str] = Counter()
        self.waiting: list[tuple[Connection, int]] = []
        """Lines that are not said yet: whose, and since when. They stay if their connection goes."""
        self.most = 0
        """Seats that one address had at once, at most."""
        self._rules = rules
        self._came = 0

    def connect(self, address: str) -> Connection | None:
        """Come into the hall; None: turned away."""
        hall = self._at("hall")
        if len(hall) >= PLACES:
            leaving = self._rules.gives_way([(each.address, self.now - each.since) for each in hall], address)
            if leaving < 0:
                return None
            self.leave(hall[leaving])
        connection = Connection(self._came, address, self.now, self.now)
        self._came += 1
        self.connections.append(connection)
        return connection

    def login(self, connection: Connection, account: str) -> None:
        """Go from the hall into the queue."""
        self._move(connection, "queue")
        connection.account = account

    def write(self, connection: Connection) -> None:
        """Finish a line."""
        connection.last = self.now
        self.waiting.append((connection, self.now))

    def leave(self, connection: Connection) -> None:
        """Go, or be cut off."""
        connection.where = "gone"
        self.connections.remove(connection)

    def second(self) -> None:
        """Cut off who takes too long, give out seats, let a line be said."""
        for each in [*self._at("hall"), *self._at("seat")]:
            if not self._rules.stays(self.now - each.since, self.now - each.last):
                self.leave(each)
        while (queue := self._at("queue")) and len(seated := self._at("seat")) < SEATS:
            waiting = [(each.account, each.address, self.now - each.since) for each in queue]
            who = self._rules.next_seat(waiting, [each.address for each in seated])
            if who < 0:
                break
            self._move(queue[who], "seat")
            self.most = max(self.most, *Counter(each.address for each in self._at("seat")).values(), 0)
        if self.waiting:
            lines = [(each.account, each.address, self.now - since) for each, since in self.waiting]
            who = self._rules.next_line(lines, dict(self.said)) if len(lines) > 1 else 0
            self.said[self.waiting.pop(who)[0].account] += 1
        self.now += 1

    def _at(self, where: str) -> list[Connection]:
        """Who is there, by order of arrival."""
        return [each for each in self.connections if each.where == where]

    def _move(self, connection: Connection, where: str) -> None:
        connection.where, connection.since, connection.last = where, self.now, self.now
        self.connections.remove(connection)
        self.connections.append(connection)


Act = Callable[[int, list[dict[str, Any]]], Sequence[Sequence[Any]]]
"""From the second and the attacker's connections to what is done."""


def guests(seed: Seed) -> list[Guest]:
    """Who comes: personal."""
    school, people = address(seed, "school"), []
    for number in range(GUESTS):
        part = seed.part("guest", str(number))
        home = school if number < SCHOOL else address(seed, str(number))
        comes, login, line = (part.part(each).below(most) for each, most in (("comes", 25), ("login", 3), ("line", 4)))
        people.append(Guest(part.part("name").word(5), home, 2 + comes, 1 + login, 2 + line))
    return people


def address(seed: Seed, whose: str) -> str:
    """Somebody's."""
    return "10." + ".".join(str(each) for each in seed.part("address", whose).bytes(3))


class Seen(NamedTuple):
    """What came of a scene."""

    heard: int
    """Guests whose line was said."""
    most: int
    """Seats that one address had at once, at most."""

    @property
    def words(self) -> str:
        """Who was heard."""
        if self.heard == GUESTS:
            return HEARD
        return KEPT if self.heard <= KEPT_OUT else f"{self.heard} of {GUESTS} were heard"

    @property
    def share(self) -> str:
        """What one address had."""
        return WITHIN if self.most <= SHARE else f"{self.most} of {SEATS}"


HEARD: Final = f"all {GUESTS} were heard"
KEPT: Final = f"{GUESTS - KEPT_OUT} or more were kept out"
WITHIN: Final = f"{SHARE} of {SEATS} at most"


def play(seed: Seed, rules: Rules, act: Act) -> Seen:
    """Let people come, and somebody keep them out."""
    room, people = Room(rules), guests(seed)
    mallory = Mallory(room, address(seed, "mallory"), act)
    for _ in range(SECONDS):
        for guest in people:
            _go_on(room, guest)
        mallory.go_on()
        room.second()
    return Seen(sum(room.said[guest.name] > 0 for guest in people), room.most)


def _go_on(room: Room, guest: Guest) -> None:
    """Do what a guest does in a second."""
    if room.now < guest.comes or guest.written:
        if guest.connection is not None and room.said[guest.name] and guest.connection.where != "gone":
            room.leave(guest.connection)
        return
    here = guest.connection
    if here is None or here.where == "gone":
        guest.connection = room.connect(guest.address)
    elif here.where in ("hall", "seat"):
        here.last = room.now
        if here.where == "hall" and room.now - here.since >= guest.login_takes:
            room.login(here, guest.name)
        elif here.where == "seat" and room.now - here.since >= guest.line_takes:
            guest.written = True
            room.write(here)


class Mallory:
    """One address, a few accounts, and many connections."""

    def __init__(self, room: Room, home: str, act: Act) -> None:
        self._room = room
        self._home = home
        self._act = act
        self._mine: dict[int, Connection] = {}

    def go_on(self) -> None:
        """Do what `act` says. Raises `StudentError` if it says what cannot be."""
        now = self._room.now
        self._mine = {number: each for number, each in self._mine.items() if each.where != "gone"}
        mine: list[dict[str, Any]] = [
            {
                "id": each.number, "where": each.where, "age": now - each.since, "silence": now - each.last,
                "waiting": self._waiting(each),
            }
            for each in self._mine.values()
        ]  # fmt: skip
        for what, *whose in _checked(self._act(now, mine), {each["id"] for each in mine}):
            if what == "connect":
                self._connect()
            elif (connection := self._mine[whose[0]]).where != "gone":
                self._do(what, connection)

    def _connect(self) -> None:
        if len(self._room.connections) < CONNECTIONS + GUESTS and (came := self._room.connect(self._home)) is not None:
            self._mine[came.number] = came

    def _do(self, what: str, connection: Connection) -> None:
        if what == "leave":
            self._room.leave(connection)
        elif what == "byte":
            connection.last = self._room.now
        elif what == "login" and connection.where == "hall":
            used = {each.account for each in self._mine.values() if each.where != "gone"}
            free = [name for name in (f"mallory{n}" for n in range(ACCOUNTS)) if name not in used]
            if free:
                self._room.login(connection, free[0])
        elif what == "line" and connection.where == "seat" and self._waiting(connection) < WAITING:
            self._room.write(connection)

    def _waiting(self, connection: Connection) -> int:
        return sum(each.account == connection.account for each, _ in self._room.waiting) if connection.account else 0


def _checked(given: Any, ids: set[int]) -> Sequence[Sequence[Any]]:
    def fits(each: Any) -> bool:
        if each in (["connect"], ("connect",)):
            return True
        return (
            isinstance(each, list | tuple) and len(each) == 2 and each[0] in ("byte", "login", "line", "leave")
            and type(each[1]) is int and each[1] in ids
        )  # fmt: skip

    if isinstance(given, list) and len(given) <= ACTIONS:
        if wrong := [each for each in given if not fits(each)]:
            asked = shortened(wrong[0])
            raise StudentError(f"act() wants {asked}, which is no action, or with no connection of yours.")
        return given
    raise StudentError(f"act() returned {shortened(given)}, which is no list of {ACTIONS} actions or fewer.")


def nobody(_: int, __: list[dict[str, Any]]) -> list[list[Any]]:
    """Attack nothing."""
    return []


def _fill(_: int, mine: list[dict[str, Any]]) -> list[list[Any]]:
    """Take all places in the hall, and come anew before being cut off."""
    hall = [each for each in mine if each["where"] == "hall"]
    actions: list[list[Any]] = []
    for each in hall:
        if each["age"] >= PATIENCE // 2:
            actions += [["leave", each["id"]], ["connect"]]
    return ([["connect"]] * (PLACES - len(hall)) + actions + [["connect"]] * ACTIONS)[:ACTIONS]


def _enter(mine: list[dict[str, Any]]) -> list[list[Any]]:
    """Bring all accounts in."""
    logins: list[list[Any]] = [["login", each["id"]] for each in mine if each["where"] == "hall"]
    return logins + [["connect"]] * (ACCOUNTS - len(mine))


def _dawdle(_: int, mine: list[dict[str, Any]]) -> list[list[Any]]:
    """Take seats, and send a byte now and then."""
    return _enter(mine) + [["byte", each["id"]] for each in mine if each["where"] == "seat"]


def _flood(_: int, mine: list[dict[str, Any]]) -> list[list[Any]]:
    """Take seats, and say as much as goes."""
    seats = [each["id"] for each in mine if each["where"] == "seat"]
    lines: list[list[Any]] = [["line", each] for each in seats] * ACTIONS
    return (_enter(mine) + lines)[:ACTIONS]


def _jump(_: int, mine: list[dict[str, Any]]) -> list[list[Any]]:
    """Be the newest one in the queue, each second."""
    logins: list[list[Any]] = [["login", each["id"]] for each in mine if each["where"] == "hall"]
    queue = [each["id"] for each in mine if each["where"] == "queue"]
    if logins:
        return logins
    again: list[list[Any]] = [["leave", each] for each in queue[:2]] if len(mine) >= ACCOUNTS - 1 else []
    return [*again, ["connect"], ["connect"]]


def _in_turn(second: int, mine: list[dict[str, Any]]) -> list[list[Any]]:
    """Do all of it, one after the other."""
    attacks = (_fill, _dawdle, _flood, _jump)
    return attacks[second * len(attacks) // SECONDS](second, mine)


ATTACKS: Final[dict[str, Act]] = {
    "full": _fill, "slow": _dawdle, "flood": _flood, "jump": _jump, "one after the other": _in_turn,
}  # fmt: skip


def attack(ask: Ask, seed: Seed, hole: str, rules: Rules) -> str:
    """Let a student attack."""
    student = ask()
    return play(seed, rules, lambda second, mine: student.call("act", hole, second, mine)).words


def by_verdicts(student: Student) -> Rules:
    """Return rules by a student's functions. A pure one that was asked once is not asked the same again."""

    def index(function: str, least: int, values: Sequence[Any], more: object) -> int:
        verdict = student.call(function, values, more)
        if type(verdict) is not int or not least <= verdict < len(values):
            raise StudentError(f"{function}() returned {verdict!r:.60}, where {least} to {len(values) - 1} is wanted.")
        return verdict

    @cache
    def stays(age: int, silence: int) -> bool:
        verdict = student.call("stays", age, silence)
        if not isinstance(verdict, bool):
            raise StudentError(f"stays() returned {verdict!r:.60}, which is neither True nor False.")
        return verdict

    return Rules(
        lambda hall, address: index("gives_way", -1, hall, address),
        stays,
        lambda waiting, said: index("next_line", 0, waiting, said),
        lambda queue, seated: index("next_seat", -1, queue, seated),
    )


def defend(ask: Ask, seed: Seed, act: Act) -> Seen:
    """Let a room go by a student's rules."""
    return play(seed, by_verdicts(ask()), act)


SILENT: Final = 40
"""Connections to a real server that say nothing, or one byte of a handshake."""
FLOOD: Final = MAX_IN_FLIGHT
"""Messages that a member sends it without reading an answer: as many as one connection may."""
LINES: Final = 3


@cache
def real_thing() -> str:
    """Let people talk at a real server that somebody tries to fill: once, it depends on nothing."""
    with Stage() as stage, ExitStack() as stack:
        alice, bob = stage.person("alice"), stage.person("bob")
        direct(alice, bob)
        lobby(alice, bob)
        mallory = stage.mole("mallory")
        mallory.register().login()
        room = mallory.enter_room("#lobby")
        for number in range(SILENT):
            silent = stack.enter_context(socket.create_connection(("127.0.0.1", stage.server.port)))
            silent.sendall(b"\x16" * (number % 2))
        for number in range(FLOOD):
            mallory.send(mallory.encrypt(room, f"{number}"))
        for number in range(LINES):
            say(alice, "bob", f"line {number}", bob)
        carol = stage.person("carol")  # who comes only now
        direct(carol, bob)
        return f"{sum(line.startswith('alice: line') for line in bob.texts('alice'))} of {LINES} lines were read"


def hole(seed: Seed) -> str:
    """Which hole a student's own room has."""
    return seed.part("hole").pick(list(WEAK))


def unseen_hole(seed: Seed, unseen: Seed) -> str:
    """Which hole the other one has: not the same."""
    return unseen.part("hole").pick([each for each in WEAK if each != hole(seed)])


def check(hand_in: HandIn, seed: Seed, unseen: Seed) -> Iterator[Outcome]:
    """See `Task`."""
    own, other = hole(seed), unseen_hole(seed, unseen)
    log = "run.log: print `mine` in act(), in a few of the 60 seconds"
    mine = f"attack: people are kept out by your hole, {own}"
    with hand_in.loaded("attack") as ask:
        yield tried(mine, KEPT, log, lambda: attack(ask, seed, own, WEAK[own]))
        yield tried(f"attack: by another one, {other}", KEPT, log, lambda: attack(ask, unseen, other, WEAK[other]))
        yield tried("attack: a strong room hears everybody", HEARD, log,
                    lambda: attack(ask, unseen, own, FAIR), twin=mine)  # fmt: skip
    yield tried("attack: the real server, by silence and a flood", f"{LINES} of {LINES} lines were read",
                "bob's history", real_thing, twin=mine)  # fmt: skip
    yield predicted("prediction: seats of one address at most", str(SHARE), hand_in, mine)
    calm, given = "defence: where nobody attacks", "run.log: print what one of your rules is given"
    with hand_in.loaded("defence") as ask:
        yield tried(calm, HEARD, given, lambda: defend(ask, unseen.part("calm"), nobody).words, idle=True)
        for name in sorted(ATTACKS, key=lambda each: unseen.part("order", each).text):
            yield tried(f"defence: {name}", HEARD, given,
                        lambda name=name: defend(ask, unseen.part(name), ATTACKS[name]).words, twin=calm)  # type: ignore[misc]  # fmt: skip
        yield tried("defence: seats of one address", WITHIN, given,
                    lambda: defend(ask, unseen.part("share"), _flood).share, twin=calm)  # fmt: skip


def facts(seed: Seed) -> Mapping[str, str]:
    """What is personal in the handout."""
    return {"hole": hole(seed)}


def _witness(build: str, seed: Seed) -> list[dict[str, Any]]:
    """Let people come on some evenings; see CHECK."""
    rules, evenings = FAIR if build == STRONG else WEAK[build], []
    for name in sorted(("", *WEAK), key=lambda name: seed.part("order", name).text):
        seen = play(seed.part("evening", name), rules, ATTACKS.get(name, nobody))
        evenings.append({"attack": name or None, "came": GUESTS, "heard": seen.heard, "most": seen.most})
    return evenings


def _heard(name: str) -> Callable[[list[dict[str, Any]]], bool]:
    """Return whether people are heard under an attack. By another hole than its own it sometimes keeps out a few."""
    return lambda seen: all(each["heard"] > KEPT_OUT for each in seen if each["attack"] == name)


REVIEW: Final = Review(
    weak=tuple(WEAK),
    witness=_witness,
    mine=hole,
    about=lambda seed: (
        f"your room, which has the hole `{hole(seed)}`; people are kept out where it is six or more of the 24"
    ),
    claims=(
        Claim("However many connections say nothing, people are not kept out.",
              "connections that are not logged in; the oldest gives way", _heard("full")),
        Claim("However slowly somebody sends a login or a line, people are not kept out.",
              "for a message to arrive as a whole; then the connection is closed", _heard("slow")),
        Claim("However much somebody says, people are not kept out.", "nobody is locked out", _heard("flood")),
        Claim("One address never has all the seats.",
              "Those who come from one address have three quarters of the seats",
              lambda seen: all(each["most"] <= SHARE for each in seen)),
        Claim("Somebody with as many addresses as there are guests keeps nobody out.",
              "from many addresses is the operator's network's task", None),
        Claim("Whoever runs the room cannot keep anybody out.", "refuse service", None),
        Claim("Whoever runs the room does not see who comes, and from where.",
              "The server sees accounts, addresses", None),
    ),
    check=CHECK,
    runs=2,
)  # fmt: skip

TASK: Final = Task(ATTACK, DEFENCE, "14", check, facts, review=REVIEW)
