"""A crowd of devices whose resume tokens are made beside the server, so that hundreds get in without Argon2."""

import secrets
import selectors
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import argon2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securechat.identity.certificate import DeviceCertificate, issue
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 as SUITE
from securechat.server.accounts.passwords import COST
from securechat.server.accounts.store import AccountStore
from securechat.server.config import ACCOUNTS_FILE, STORE_FILE
from securechat.server.sequencer.tokens import TOKEN_SECONDS
from securechat.server.store.records import ChainLink, Device
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.wire import limits
from securechat.wire import messages as m
from securechat_lab.cast.live import PATIENCE
from securechat_lab.cast.wire_client import WAIT, Person
from tests.support.stores import make_token

DUPLEX_SIZE = 30_000
OUTSTANDING = 16
"""Bytes of each message, and messages on their way, for somebody who says as much as possible."""

LEAD = 1000
"""Messages by which a speaker may be ahead of what the other has heard: half of what a server holds for a reader."""

PACE_SECONDS = 0.1
"""The pause between two messages of a talker."""


class Ticket(NamedTuple):
    """The keys and token with which one published device of an account gets in."""

    account: str
    device: bytes
    identity: Ed25519PrivateKey
    signature: SignaturePrivateKey
    certificate: DeviceCertificate
    token: bytes

    def knock(self, port: int, context: ssl.SSLContext, **options: Any) -> Person:
        """Connect, with all that it takes to resume."""
        person = Person(port, context, self.account, **options)
        person.device, person.token = self.device, self.token
        person.identity, person.signature, person.chain = self.identity, self.signature, [self.certificate]
        return person

    def enter(self, port: int, context: ssl.SSLContext, *, publish: bool = True, **options: Any) -> Person:
        """Connect and resume; `publish`: with key packages."""
        person = self.knock(port, context, **options)
        reply = person.ask(m.Resume, *person.credentials(person.channel))
        assert isinstance(reply, m.LoggedIn), reply
        if publish:
            packages = [person.key_package() for _ in range(3)]
            assert isinstance(person.ask(m.PublishKeyPackages, packages[1:], packages[0]), m.Stock)
        return person


def prepare(data: Path, names: Sequence[str]) -> list[Ticket]:
    """Make the data folder of a server that has not started yet, with these accounts in it, of one device each.

    Nobody knows their passwords.
    """
    password_hash = argon2.PasswordHasher.from_parameters(COST).hash(secrets.token_bytes(limits.SECRET_LENGTH))
    now = int(time.time())
    expires = (now + TOKEN_SECONDS) * 1000
    tickets = []
    with closing(SQLiteStore(data / STORE_FILE)) as store, closing(AccountStore(data / ACCOUNTS_FILE)) as accounts:
        for made in [accounts.add(name, password_hash) for name in names]:
            account, device = made.result(), secrets.token_bytes(limits.DEVICE_ID_LENGTH)
            identity, signature = Ed25519PrivateKey.generate(), SignaturePrivateKey.generate(SUITE)
            certificate = issue(
                identity, server_id=store.server_id, account=account.name, device_id=device,
                signature_key=signature.public_key, not_before=now, not_after=now + 44 * 86_400,
            )  # fmt: skip
            link = ChainLink(certificate.seq, account.created * 1000, certificate.encode())
            store.chains.append(account.name, certificate.identity_key, [link])
            store.directory.reserve(account.name, [device])
            store.directory.put_device(Device(device, account.name, certificate.encode()), certificate.identity_key)
            token = make_token(store, account, device, expires=expires)
            tickets.append(Ticket(account.name, device, identity, signature, certificate, token))
        store.commit()
    return tickets


def invite_all(owner: Person, room: bytes, guests: Iterable[Person]) -> None:
    """Add everybody in one commit, and let each take part."""
    guests = list(guests)
    reply = owner.change(room, *(add for guest in guests for add in owner.adds(guest.account)))
    assert isinstance(reply, m.Accepted), reply
    for guest in guests:
        guest.read_inbox()
        assert guest.accept_welcome() == room


def read_on(logs: Mapping[Person, list[m.Entry]], room: bytes, upto: int, patience: float = PATIENCE) -> None:
    """Have everybody read and acknowledge a conversation that none of them writes to, until all have it up to a seq.

    `logs`: what each has read so far, which grows; each entry has to be the next one.
    """
    deadline = time.monotonic() + patience
    with selectors.DefaultSelector() as selector:
        for person, log in logs.items():
            if not _has_read(person, log, room, upto):
                selector.register(person.socket, selectors.EVENT_READ, person)
        while selector.get_map():
            assert time.monotonic() < deadline, f"{len(selector.get_map())} people still wait for entry {upto}"
            for key, _ in selector.select(1):
                assert key.data.pump(0), f"{key.data.account} has lost the connection: {key.data.received[-1:]}"
                if _has_read(key.data, logs[key.data], room, upto):
                    selector.unregister(key.fileobj)


def _has_read(person: Person, log: list[m.Entry], room: bytes, upto: int) -> bool:
    """Take what has arrived; return whether that is everything up to a seq."""
    received, person.received = person.received, []
    for each in received:
        if isinstance(each, m.Entry) and each.conversation == room:
            assert not log or each.seq == log[-1].seq + 1, f"{person.account} misses or repeats something"
            log.append(each)
        else:
            person.received.append(each)
    if not log:
        return False
    person.send(m.Acknowledge(room, log[-1].seq))
    return log[-1].seq >= upto


def flow_both_ways(alice: Person, bob: Person, room: bytes, enough: Callable[[int], bool]) -> tuple[int, int]:
    """Have both say as much as they can until it is `enough`, by their number, and read until everything has arrived.

    They are in a conversation in which nothing has been said. Returns how many messages each has said; the other has
    heard as many, and each byte of them is right.
    """
    heard: Counter[Person] = Counter()
    failed = threading.Event()

    def flow(person: Person, other: Person) -> int:
        try:
            return _flow(person, other, heard, room, enough, failed)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(2) as pool:
        flows = {pool.submit(flow, *pair): pair[0] for pair in ((alice, bob), (bob, alice))}
        said = {flows[done]: done.result() for done in as_completed(flows)}  # the first error counts
    assert (said[alice], said[bob]) == (heard[bob], heard[alice])
    return said[alice], said[bob]


def _flow(
    person: Person, other: Person, heard: Counter[Person], room: bytes, enough: Callable[[int], bool],
    failed: threading.Event,
) -> int:
    """One of the two. Counts what it hears, and returns how many messages it has said."""
    person.subscribe(room, 1)
    said = answered = 0
    over = False  # whether we have said the last one
    last = False  # whether the other has
    while not (over and last and answered == said):
        while said - answered < OUTSTANDING and said - heard[other] < LEAD and not over:
            over = enough(said)
            person.protocol.send(person.encrypt(room, "the last one" if over else _filled(said)))
            said += 1
        waits = said - heard[other] >= LEAD  # until the other has heard it, of which nothing tells us
        assert person.pump(PACE_SECONDS if waits else WAIT) or waits, f"{person.account} waits in vain"
        assert not failed.is_set(), f"{other.account} has failed"
        received, person.received = person.received, []
        person.texts.clear()  # gigabytes in ten minutes
        for each in received:
            if isinstance(each, m.Accepted):
                answered += 1
            elif isinstance(each, m.Entry):
                text = person.process(each)
                person.protocol.send(m.Acknowledge(room, each.seq))
                if each.device == person.device:  # a reader that falls behind also reads its own
                    continue
                last = text == "the last one"
                assert last or text == _filled(heard[person]), f"{person.account} hears something else than was said"
                heard[person] += 1
            else:
                assert isinstance(each, m.Presence), each
    return said


def _filled(number: int) -> str:
    return f"{number} ".ljust(DUPLEX_SIZE, chr(ord("a") + number % 26))


def pour(person: Person, room: bytes, texts: Sequence[str]) -> None:
    """Say all of them, up to 64 at once, and wait for the answers."""
    waiting = deque(texts)
    for answered in range(len(texts)):
        while waiting and len(texts) - len(waiting) - answered < limits.MAX_IN_FLIGHT:
            person.protocol.send(person.encrypt(room, waiting.popleft()))
        reply = person.take(m.Reply)
        assert isinstance(reply, m.Accepted), reply


class Talker:
    """Somebody who talks, and follows what others do, as a client does."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.accepted: dict[int, str] = {}  # seq: text
        self.waits: list[float] = []

    def say(self, room: bytes, text: str) -> None:
        """Say it until it is accepted: after another's commit, process that and say it again."""
        person = self.person
        began = time.monotonic()
        while True:
            self._take_in(room)
            reply = person.say(room, text)
            if isinstance(reply, m.Accepted):
                break
            assert reply.code == "stale-epoch", reply
            assert time.monotonic() - began < PATIENCE, f"{person.account} gets no word in"
            person.numbers[room] -= 1
        self.waits.append(time.monotonic() - began)
        self.accepted[reply.seq] = text

    def follow(self, room: bytes, others: Mapping[int, str]) -> None:
        """Read on until everything that others have said, by seq, is there, and nothing else."""
        self._take_in(room)
        while len(self.person.texts) < len(others):
            assert self.person.pump(), f"{self.person.account} has lost the connection, or misses something"
            self._take_in(room)
        assert others == {seq: text for _, seq, _, text in self.person.texts}, self.person.account

    def _take_in(self, room: bytes) -> None:
        person = self.person
        received, person.received = person.received, []
        for each in received:
            if isinstance(each, m.Entry):
                person.process(each)
                person.send(m.Acknowledge(room, each.seq))
            elif not isinstance(each, m.Presence):
                person.received.append(each)


def talk(person: Person, room: bytes, over: threading.Event) -> Talker:
    """Say something now and then, and one last thing when it is over."""
    talker = Talker(person)
    person.subscribe(room)
    while not over.wait(PACE_SECONDS):
        talker.say(room, f"{person.account} {len(talker.waits)}")
    talker.say(room, f"{person.account} at the end")
    return talker
