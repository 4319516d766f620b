"""Exercise 9: passwords from a stolen user table, and guessed online; what a guess costs, how many there are, and work
that tells who exists. Everything is counted, and nothing is timed."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

from argon2 import Parameters, PasswordHasher, Type
from argon2.exceptions import VerifyMismatchError

from securechat.client.password import MEMORY_KIB, PASSES
from securechat.errors import RefusedError
from securechat.server.accounts.file import MAX_MEMORY_KIB, MAX_PASSES, read_accounts
from securechat.server.accounts.passwords import COST
from securechat.server.config import ACCOUNTS_FILE, ServerConfig
from securechat.server.rate import Rate
from securechat.server.rates import Bucket, RateLimiter
from securechat.transport.tls import client_context
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import WireClient
from securechat_lab.kit.outcomes import Outcome
from securechat_lab.kit.review import Claim, Review
from securechat_lab.kit.sandbox import StudentError
from securechat_lab.kit.seeds import Seed, read_seed
from securechat_lab.kit.stage import Stage, cheap_secret
from securechat_lab.kit.task import SEEN_BY_ATTACK, SEEN_BY_DEFENCE, Ask, HandIn, Task, predicted, shortened, tried

ATTACK = '''"""Exercise 9, attack: guess passwords. Read README.md first."""


def guesses(person):
    """`person`: what you know of somebody, {"account": "ann", "words": ["otter", ...], "year": 1987}.

    Return a list of passwords, the likeliest first. How many of them are tried depends on what each one costs.
    """
    return []


def members(work):
    """You have tried to log in under some names, with a wrong password each time.

    `work`: what the server has spent on each, a list of [name, KiB]. Return a list of the names of which this says that
    they have an account; an empty one if it says nothing.
    """
    return []


if __name__ == "__main__":  # python3 securechat-lab/09-stolen-table/attack.py: your first guesses
    me = {"account": "ann", "words": ["otter", "linen", "maple", "basil", "coral", "tiger"], "year": 1987}
    print(len(guesses(me)), *guesses(me)[:60])
'''

DEFENCE = '''"""Exercise 9, defence: what does a guess cost, and how many are there? Read README.md first."""


def cost(memory, at_once, most):
    """What shall a hash cost? `memory`: KiB that the server has for all hashes, of which it computes `at_once` at once.
    `most`: what one may cost at most, KiB times passes. Return [KiB, passes], each an int.
    """
    return [8, 1]


def wait(attempt):
    """After how many seconds is the next attempt to log in to an account taken? Return a number.

    `attempt`: {"known": whether it comes from an address that has logged in to this account before, "failures": how
    many wrong passwords there have been today (from that address if it is known, else from all unknown ones together),
    "limit": how many there may be in a day}.
    """
    return 0


def compare(stored, nobody):
    """Somebody logs in. With which hashes is their password compared? Return a list of them.

    `stored`: the hash of the account, or "" if there is none of this name. `nobody`: a hash that no password fits, and
    that costs as much as others. Whoever fits one of them gets in.
    """
    return [stored] if stored else []
'''

CHECK = '''"""Exercise 9, a check of your own: is this server's table worth stealing? Read README.md first."""


def sound(seen):
    """Return True if the server is sound, False if it has a hole.

    `seen`: {"table": what a guess at each hash of its table costs, [name, KiB, passes], "client": [KiB, passes] that
    the client spends before, "logins": what the server has spent on wrong passwords, [name, KiB], some of them for
    accounts that do not exist, "attempts": one at the same account each second, for two minutes, [second, whether it
    was taken]}. A server's hash is to cost 46 MiB and a pass, and a client's more; 17,000 guesses a day are one in five
    seconds, and some at once.
    """
    return True
'''

BUDGET: Final = 16 << 10
"""What a thief spends on one account, in KiB times passes. It stands for a day of theirs: what is counted is the same
on every machine."""


def argon2id(memory: int, passes: int) -> Parameters:
    """Return the parameters of a hash over so many KiB."""
    return Parameters(Type.ID, 19, 16, 32, time_cost=passes, memory_cost=memory, parallelism=1)


WEAK: Final[dict[str, Parameters]] = {"fast": argon2id(8, 1), "slower": argon2id(170, 2)}
"""The family: one part, the cost of a hash (`ServerParts.password_cost`). 2,048 guesses, and 48."""

NAMES: Final = ("ann", "ben", "cleo", "dario", "emma", "finn", "gus", "hana")
WORDS: Final = (
    "otter", "linen", "maple", "basil", "coral", "tiger", "piano", "cedar", "salsa", "lotus", "ozone", "opera", "tulip",
    "melon", "violin", "saturn", "garlic", "pirate", "mosaic", "walnut",
)  # fmt: skip
LEET: Final = str.maketrans("aeios", "43105")

PEOPLE: Final = 5
OWN_WORDS: Final = 6
LIKELY: Final = OWN_WORDS + OWN_WORDS + OWN_WORDS * (OWN_WORDS - 1) + OWN_WORDS
"""Passwords of the first four habits, together: 48."""

MAX_GUESSES: Final = 2_048
"""Of one list: all that the cheapest hash leaves."""

STRANGERS: Final = ("mallory", "nobody", "zoe")
"""Names that nobody has."""

DAY: Final = 86_400
LONGEST_WAIT: Final = 60
"""Seconds that somebody at a new place waits at most, while others guess: nobody is locked out."""

PLENTY: Final = Rate(10_000, 1_000)
"""Attempts, where nobody counts them."""

MISTAKES: Final = 3
AT_HOME: Final = 10
"""Seconds that three mistakes cost at most at a place that is known."""

SOON: Final = f"{LONGEST_WAIT} s at a new place and {AT_HOME} s at home, at most"

PORTION: Final = 1_000
"""Attempts that a student is asked about at once."""

HASH: Final = re.compile(r"\$argon2id\$v=19\$m=(\d+),t=(\d+),p=1\$")


class Person(NamedTuple):
    """Somebody with a password: personal."""

    account: str
    words: tuple[str, ...]
    year: int
    habit: int
    """How the password is made: 0 to 3 are likely, 4 is less so, and 5 is good."""
    password: str

    @property
    def told(self) -> dict[str, object]:
        """What is known of them."""
        return {"account": self.account, "words": list(self.words), "year": self.year}


def candidates(words: Sequence[str], year: int, habit: int) -> list[str]:
    """Return all passwords of a habit (README.md of the exercise)."""
    match habit:
        case 0:
            return [f"{word}{year % 100:02}" for word in words]
        case 1:
            return [f"{word.capitalize()}!" for word in words]
        case 2:
            return [f"{one}-{other}" for one in words for other in words if one != other]
        case 3:
            return [word.translate(LEET) for word in words]
        case _:
            return [f"{word}{number:02}" for word in words for number in range(100) if number != year % 100]


def people(seed: Seed) -> list[Person]:
    """Return who is in a student's table."""
    names = sorted(NAMES, key=lambda each: seed.part("name", each).text)[:PEOPLE]
    habits = [seed.part("habit").below(2), 2, 3, 4, 5]
    found = []
    for name, habit in zip(names, sorted(habits, key=lambda each: seed.part("order", str(each)).text), strict=True):
        part = seed.part("person", name)
        words = tuple(sorted(WORDS, key=lambda each: part.part(each).text)[:OWN_WORDS])
        year = 1950 + part.part("year").below(50)
        good = part.part("password").word(14)
        password = good if habit == 5 else part.part("password").pick(candidates(words, year, habit))
        found.append(Person(name, words, year, habit, password))
    return found


def price(hashed: str) -> int:
    """What it costs to compute a hash, in KiB times passes; nothing costs nothing."""
    found = HASH.match(hashed)
    return int(found[1]) * int(found[2]) if found else 0


STRONG_PRICE: Final = COST.memory_cost * COST.time_cost + MEMORY_KIB * PASSES
"""What a guess costs where both are as in the product: the client's hash, and the server's."""


PAID: Final = BUDGET // STRONG_PRICE
"""Guesses that the budget pays there: none."""


@dataclass(frozen=True)
class Table:
    """What lies on a server's disk."""

    hashes: Mapping[str, str]
    server_id: bytes


@cache
def stolen(key: str, kind: str) -> Table:
    """Let people register at a real server whose hashes cost little, and take its table."""
    with Stage(cost=WEAK[kind]) as stage:
        with WireClient(stage.server.port, client_context(stage.ca)) as link:
            server_id = link.hello.server_id
            for each in people(read_seed(key)):
                reply = link.ask(m.Register, each.account, _secret(each.password, each.account, server_id))
                assert isinstance(reply, m.Registered), reply
        accounts, _ = read_accounts(stage.folder / "data" / ACCOUNTS_FILE)
    return Table({each.name: each.hash for each in accounts}, server_id)


def _secret(password: str, account: str, server_id: bytes) -> bytes:
    return cheap_secret(bytearray(password.encode()), server_id, account, b"")


def asked(ask: Ask, person: Person) -> list[str]:
    """Ask a student what to try."""
    given = ask().call("guesses", person.told)
    if not isinstance(given, list) or len(given) > MAX_GUESSES or not all(isinstance(each, str) for each in given):
        raise StudentError(
            f"guesses() returned {shortened(given)}, which is no list of at most {MAX_GUESSES:,} passwords."
        )
    return given


def crack(ask: Ask, seed: Seed, table: Table) -> str:
    """Try a student's guesses on a stolen table, as many as the budget pays, and say whose password was among them."""
    found = []
    for each in people(seed):
        hashed = table.hashes[each.account]
        paid = asked(ask, each)[: BUDGET // price(hashed)]
        # Which of them fits is known, so that not all have to be computed: they are counted. That one is computed.
        if each.password in paid and _fits(hashed, _secret(each.password, each.account, table.server_id)):
            found.append(each.account)
    return ", ".join(sorted(found)) or "nobody"


def _fits(hashed: str, secret: bytes) -> bool:
    try:
        return PasswordHasher().verify(hashed, secret)
    except VerifyMismatchError:
        return False


def paid_for(kind: str) -> int:
    """How many guesses the budget pays."""
    return BUDGET // (WEAK[kind].memory_cost * WEAK[kind].time_cost)


def weakest(seed: Seed, kind: str) -> str:
    """Say whose password is found at best."""
    paid = paid_for(kind)
    found = [each.account for each in people(seed) if each.habit < 4 or (each.habit == 4 and paid >= MAX_GUESSES)]
    return ", ".join(sorted(found))


def online(ask: Ask, seed: Seed, habit: int, *, limited: bool) -> str:
    """Log in to a real server with a student's guesses, one after the other, up to what it takes."""
    (victim,) = (each for each in people(seed) if each.habit == habit)
    return _online(victim, tuple(asked(ask, victim)[:LIKELY]), limited)


@cache
def _online(victim: Person, tries: tuple[str, ...], limited: bool) -> str:  # noqa: FBT001  # of a cache
    rates = {} if limited else dict.fromkeys(("attempts_per_account", "attempts_per_address"), PLENTY)
    with Stage(rates=rates) as stage, WireClient(stage.server.port, client_context(stage.ca)) as link:
        server_id = link.hello.server_id
        link.ask(m.Register, victim.account, _secret(victim.password, victim.account, server_id))
        for each in tries:
            reply = link.ask(m.Login, victim.account, _secret(each, victim.account, server_id), bytes(16))
            if isinstance(reply, m.LoggedIn):
                return "in"
            if reply.code == "slow-down":
                return "slowed down"
    return f"not in, after {len(tries)} guesses"


Compare = Callable[[str, str], list[str]]
"""From an account's hash and nobody's to those with which a password is compared."""

OLD_HASH: Final = "$argon2id$v=19$m=8,t=1,p=1$"


def nothing_for_strangers(stored: str, _: str) -> list[str]:
    """Compare where there is something to compare with."""
    return [stored] if stored else []


def an_old_hash_for_strangers(stored: str, nobody: str) -> list[str]:
    """Compare with a hash from a time when they were cheap."""
    return [stored or nobody.replace(nobody[: nobody.index("p=1$") + 4], OLD_HASH)]


def one_for_all(stored: str, nobody: str) -> list[str]:
    """As the product does it."""
    return [stored or nobody]


LOOK_UPS: Final[dict[str, Compare]] = {
    "nothing for strangers": nothing_for_strangers, "an old hash for strangers": an_old_hash_for_strangers,
}  # fmt: skip


def work(seed: Seed, compare: Compare) -> list[tuple[str, int]]:
    """Return what a server spends on each name, in KiB."""
    table = stolen(seed.text, "slower")
    names = sorted((*table.hashes, *STRANGERS), key=lambda each: seed.part("asked", each).text)
    return [(name, sum(map(price, compare(table.hashes.get(name, ""), nobody(seed))))) for name in names]


@cache
def _nobody(key: str) -> str:
    return PasswordHasher.from_parameters(WEAK["slower"]).hash(read_seed(key).part("nobody").bytes(32))


def nobody(seed: Seed) -> str:
    """Return a hash that no password fits."""
    return _nobody(seed.text)


ALL_OF_THEM: Final = "those who have one"


def told_by_work(ask: Ask, seed: Seed, compare: Compare) -> str:
    """Let a student say who has an account."""
    given = ask().call("members", [list(each) for each in work(seed, compare)])
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise StudentError(f"members() returned {shortened(given)}, which is no list of names.")
    right = sorted(given) == sorted(each.account for each in people(seed))
    return ALL_OF_THEM if right else "others" if given else "nobody"  # names would be typed off


class Machine(NamedTuple):
    """What a server has for its hashes."""

    memory: int
    at_once: int
    most: int

    @property
    def asked(self) -> str:
        """How a student is asked about it."""
        return f"cost({self.memory}, {self.at_once}, {self.most})"


def machines(seed: Seed) -> list[Machine]:
    """Some of them: with much memory, with little, and one where it does not come out even."""
    large, small = 40 + seed.part("large").below(50), 2 + seed.part("small").below(3)
    return [
        Machine(large << 11, 2, large << 10),
        Machine(small << 12, 4, (small << 10) * (6 + seed.part("passes").below(6))),
        Machine(small << 11, 2, (small << 10) * 3 // 2),
    ]


def hash_cost(ask: Ask, machine: Machine) -> Parameters:
    """Ask a student what a hash costs on a machine."""
    given = ask().call("cost", *machine)
    whole = isinstance(given, list) and len(given) == 2 and all(type(each) is int for each in given)
    if not whole or not (8 <= given[0] <= MAX_MEMORY_KIB and 1 <= given[1] <= MAX_PASSES):
        raise StudentError(
            f"{machine.asked} returned {given!r:.60}, and not [KiB, passes], each an int, with 8 to {MAX_MEMORY_KIB:,} "
            f"and 1 to {MAX_PASSES}."
        )
    return argon2id(*given)


def fits(ask: Ask, seed: Seed) -> str:
    """Say whether a student's costs are what the machines have."""
    for each in machines(seed):
        cost = hash_cost(ask, each)
        if cost.memory_cost * each.at_once > each.memory:
            return f"{cost.memory_cost * each.at_once:,} KiB at once, by {each.asked}"
        if cost.memory_cost * cost.time_cost > each.most:
            return f"one costs {cost.memory_cost * cost.time_cost:,} KiB times passes, by {each.asked}"
    return "they do"


def priced(ask: Ask, seed: Seed) -> str:
    """Say whether a student's costs make a thief pay what they can."""
    for each in machines(seed):
        cost = hash_cost(ask, each)
        if cost.memory_cost * cost.time_cost * 10 < each.most * 9:
            return f"{cost.memory_cost * cost.time_cost:,} KiB times passes, by {each.asked}"
        least = -(-each.most // (each.memory // each.at_once))
        if cost.time_cost > least:
            return f"{cost.time_cost} passes, where {least} over more memory would do, by {each.asked}"
    return "nine tenths, in as few passes as can be"


def registers(ask: Ask, seed: Seed) -> str:
    """Let a real client register and log in where hashes cost what a student says."""
    cost = hash_cost(ask, machines(seed)[-1])
    return _registered(cost.memory_cost, cost.time_cost)


@cache
def _registered(memory: int, passes: int) -> str:
    with Stage(cost=argon2id(memory, passes)) as stage:
        stage.person("ann")
        accounts, _ = read_accounts(stage.folder / "data" / ACCOUNTS_FILE)
    return "she is in" if [price(each.hash) for each in accounts] == [memory * passes] else "the table has another cost"


def limit(seed: Seed) -> int:
    """Guesses that there may be in a day."""
    return 2_000 + 500 * seed.part("limit").below(5)


def waits(ask: Ask, count: int, most: int, *, known: bool) -> list[float]:
    """Ask a student how long each of so many attempts in a row has to wait."""
    found: list[float] = []
    for start in range(0, count, PORTION):
        attempts = [{"known": known, "failures": n, "limit": most} for n in range(start, min(start + PORTION, count))]
        given = ask().call("each", "wait", attempts)
        if not isinstance(given, list) or len(given) != len(attempts):
            raise StudentError("wait() has not answered for each attempt.")
        for attempt, each in zip(attempts, given, strict=True):
            if type(each) not in (int, float) or not 0 <= each < 1e9:
                raise StudentError(f"wait({attempt}) returned {each!r:.40}, which is no number of seconds.")
            found.append(each)
    return found


def in_a_day(ask: Ask, seed: Seed) -> str:
    """Say whether there are more guesses in a day than there may be, by strangers or from one known address."""
    most = limit(seed)
    for known in (False, True):
        if (after := sum(waits(ask, most + 1, most, known=known))) < DAY:
            return f"one more after {after:,.0f} s, by {'one at a known address' if known else 'strangers'}"
    return f"at most {most:,}"


def longest(ask: Ask, seed: Seed) -> str:
    """Say how long somebody waits at a new place while strangers guess, and at home after some mistakes."""
    most = limit(seed)
    new = max(waits(ask, most + 1, most, known=False))
    if new > LONGEST_WAIT:
        return f"{new:,.1f} s at a new place"
    home = sum(waits(ask, MISTAKES + 1, most, known=True))
    return f"{home:,.1f} s at home, for {MISTAKES} mistakes" if home > AT_HOME else SOON


def student_compare(ask: Ask) -> Compare:
    """Return a look-up by a student's function."""

    def compare(stored: str, nobody: str) -> list[str]:
        given = ask().call("compare", stored, nobody)
        if not isinstance(given, list) or not all(each and each in (stored, nobody) for each in given[:5]) or given[4:]:
            raise StudentError(f"compare() returned {given!r:.60}, which is no list of what it was given.")
        return given

    return compare


def equal(ask: Ask, seed: Seed) -> str:
    """Say whether a login costs the same for every name."""
    spent = {each for _, each in work(seed, student_compare(ask))}
    differ = f"{' or '.join(map(str, sorted(spent)))} KiB"
    return "the same for every name" if len(spent) == 1 and 0 not in spent else differ


def gets_in(ask: Ask, seed: Seed) -> str:
    """Say who gets in."""
    table, compare = stolen(seed.text, "slower"), student_compare(ask)
    seen = set[str]()
    for each in people(seed):
        right, wrong = (_secret(text, each.account, table.server_id) for text in (each.password, "wrong"))
        for secret in (right, wrong):
            if any(_fits(hashed, secret) for hashed in compare(table.hashes[each.account], nobody(seed))):
                seen.add("the right password" if secret is right else "a wrong one")
    return " and ".join(sorted(seen)) or "nobody"


def variant(seed: Seed) -> str:
    """What a student's own table costs."""
    return seed.part("variant").pick(list(WEAK))


def unseen_variant(seed: Seed) -> str:
    """What the other one costs: not the same."""
    return next(each for each in WEAK if each != variant(seed))


def check(hand_in: HandIn, seed: Seed, unseen: Seed) -> Iterator[Outcome]:
    """See `Task`."""
    own, other = variant(seed), unseen_variant(seed)
    mine, counted = "attack: passwords in your table", SEEN_BY_ATTACK
    with hand_in.loaded("attack") as ask:
        yield tried(mine, weakest(seed, own), counted, lambda: crack(ask, seed, stolen(seed.text, own)))
        yield tried("attack: in one that you have not seen", weakest(unseen, other), counted,
                    lambda: crack(ask, unseen, stolen(unseen.text, other)))  # fmt: skip
        yield tried("attack: as many as the budget pays at the real price", "0 guesses", counted,
                    lambda: f"{len(asked(ask, people(unseen)[0])[:PAID])} guesses", twin=mine)  # fmt: skip
        guessed = "attack: somebody's account, online"
        yield tried(guessed, "in", counted, lambda: online(ask, unseen, 2, limited=False))
        yield tried("attack: the real server slows you down", "slowed down", counted,
                    lambda: online(ask, unseen, 5, limited=True), twin=guessed)  # fmt: skip
        names = {name: f"attack: who has an account, by {name}" for name in LOOK_UPS}
        for name, point in names.items():
            yield tried(point, ALL_OF_THEM, counted, lambda name=name: told_by_work(ask, unseen, LOOK_UPS[name]))  # type: ignore[misc]  # bound now
        yield tried("attack: the real server does not tell", "nobody", counted,
                    lambda: told_by_work(ask, unseen, one_for_all), twin=next(iter(names.values())))  # fmt: skip
    yield predicted("prediction: how many guesses the budget pays at the real price", "0", hand_in, mine)
    within, dear = "defence: hashes cost what the machines have", "defence: all that they may cost, in memory first"
    few, soon = "defence: guesses in a day", "defence: how long people wait"
    same, right = "defence: what a login costs", "defence: who gets in"
    with hand_in.loaded("defence") as ask:
        yield tried(within, "they do", SEEN_BY_DEFENCE, lambda: fits(ask, unseen), twin=dear)
        yield tried(dear, "nine tenths, in as few passes as can be", SEEN_BY_DEFENCE,
                    lambda: priced(ask, unseen), twin=within)  # fmt: skip
        yield tried("defence: a real client registers there", "she is in", SEEN_BY_DEFENCE,
                    lambda: registers(ask, unseen), twin=dear)  # fmt: skip
        failures = "README.md, step 5: wait() is asked about 0, 1, 2 failures and so on, up to the limit"
        yield tried(few, f"at most {limit(unseen):,}", failures, lambda: in_a_day(ask, unseen), twin=soon)
        yield tried(soon, SOON, failures, lambda: longest(ask, unseen), twin=few)
        yield tried(same, "the same for every name", SEEN_BY_DEFENCE, lambda: equal(ask, unseen), twin=right)
        yield tried(right, "the right password", SEEN_BY_DEFENCE, lambda: gets_in(ask, unseen), twin=same)


def facts(seed: Seed) -> Mapping[str, str]:
    """What is personal in the handout."""
    cost, paid = WEAK[variant(seed)], paid_for(variant(seed))
    rows = "\n".join(f"| `{each.account}` | {', '.join(each.words)} | {each.year} |" for each in people(seed))
    return {"people": rows, "memory": str(cost.memory_cost), "passes": str(cost.time_cost), "paid": f"{paid:,}"}


BUILDS: Final[dict[str, str]] = {
    "cheap": "hashes passwords as cheaply as Argon2 can, and whose clients send a plain hash",
    "telltale": "compares nothing where nobody has the name",
    "unlimited": "takes every attempt at once",
}
"""Builds to review, each with what it does."""

SECONDS: Final = 120
"""In which somebody guesses once a second."""


def _witness(build: str, seed: Seed) -> dict[str, Any]:
    """Look at a server's table, at what logins cost there, and at how many it takes; see CHECK."""
    hashed, client = (WEAK["fast"], [1, 1]) if build == "cheap" else (COST, [MEMORY_KIB, PASSES])
    whole = f"$argon2id$v=19$m={hashed.memory_cost},t={hashed.time_cost},p=1$"
    compare = nothing_for_strangers if build == "telltale" else one_for_all
    names = [each.account for each in people(seed)]
    asked = sorted((*names, *STRANGERS), key=lambda each: seed.part("asked", each).text)
    rate = PLENTY if build == "unlimited" else ServerConfig().attempts_per_account
    bucket, begin = RateLimiter(rate, "").bucket("ann"), seed.part("begin").below(DAY)
    return {
        "table": [[name, hashed.memory_cost, hashed.time_cost] for name in names],
        "client": client,
        "logins": [[name, sum(map(price, compare(whole if name in names else "", whole)))] for name in asked],
        "attempts": [[begin + second, _taken(bucket, begin + second)] for second in range(SECONDS)],
    }


def _taken(bucket: Bucket, now: float) -> bool:
    try:
        bucket.take(now)
    except RefusedError:
        return False
    return True


def mine(seed: Seed) -> str:
    """Which build a student reviews."""
    return seed.part("build").pick(list(BUILDS))


REVIEW: Final = Review(
    weak=tuple(BUILDS),
    witness=_witness,
    mine=mine,
    about=lambda seed: f"a server that {BUILDS[mine(seed)]}",
    claims=(
        Claim("A thief of the table pays what two Argon2id cost for each guess.",
              "guess passwords at the price of two Argon2id each",
              lambda seen: seen["client"][0] * seen["client"][1] >= COST.memory_cost
              and all(memory * passes >= COST.memory_cost * COST.time_cost for _, memory, passes in seen["table"])),
        Claim("What the server does for a login does not tell whether there is such an account.",
              "learn from a login which accounts exist",
              lambda seen: len({spent for _, spent in seen["logins"]}) == 1),
        Claim("Strangers make no more than 17,000 guesses at an account in a day.",
              "17,000 guesses a day",
              lambda seen: sum(taken for _, taken in seen["attempts"]) < SECONDS // 2),
        Claim("A password that a stranger could guess is safe, as long as nobody has the table.",
              "is slowed by rates and Argon2, not prevented", None),
        Claim("Whoever registers does not learn which names are taken.",
              "Who registers an account or makes a room learns whether somebody has the name already", None),
        Claim("A thief of the server's disk does not see who talks with whom.",
              "see the same, and ciphertext of deleted entries", None),
    ),
    check=CHECK,
)  # fmt: skip

TASK: Final = Task(ATTACK, DEFENCE, "09", check, facts, review=REVIEW)
