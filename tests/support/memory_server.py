"""The real server in memory: login desk, sequencer, store and protocol; no sockets, no TLS, and no thread to wait for.

Nothing happens until a test lets it: messages wait in both directions of a `Link`, checks and reading of history are
done by the caller, and time stands still. A test makes the server lie by filters on what goes out and comes in.
"""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec

from securechat.errors import SecurechatError
from securechat.policy.words import Action
from securechat.server.accounts.password_queue import Job
from securechat.server.accounts.passwords import PasswordWorkers
from securechat.server.accounts.store import AccountStore
from securechat.server.admission.login import ClientHandler, LoginDesk
from securechat.server.blobs.folder import BlobFolder
from securechat.server.blobs.sweep import Sweep
from securechat.server.blobs.transfers import Transfers
from securechat.server.clock import ServerClock
from securechat.server.config import ServerConfig
from securechat.server.rate import Rate
from securechat.server.rates import Rates
from securechat.server.sequencer.operations import ChangeSiteKey, Speak
from securechat.server.sequencer.sequencer import Sequencer
from securechat.server.space import Space
from securechat.server.status import Counters
from securechat.server.store.records import Head, LogEntry
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.transport.certificate_files import CA
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.frames import FrameReader, encode_frame, encode_frames
from securechat.wire.possession import Channel
from securechat.wire.protocol import Ended, ServerProtocol
from securechat_lab.cast.wire_client import WAIT, Client, Member
from tests.support.cheap import CHEAP_HASH

_PLENTY = Rate(10**6, 10**6)
_RATES = {name: _PLENTY for name, default in vars(ServerConfig()).items() if isinstance(default, Rate)}

_LATER = 4_000_000_000.0
"""What the clock of the accounts says (seconds since 1970): none is young, however far a test turns its own clock."""

SHOWN = b"c" * 32
AUTHORITY = CA(b"\xab" * 32, b"its certificate")
"""What stands for the CA that has signed for it."""
"""Stands for the hash of the certificate that a server shows, where there is no TLS."""

_decode = msgspec.msgpack.Decoder(m.FromServer).decode


class _InlinePasswords(PasswordWorkers):
    """Checks passwords on the caller's thread."""

    def _submit(self, job: Job, address: str, account: str, *, familiar: bool) -> None:
        del address, account, familiar
        job.work()


class _Jobs:
    """What worker threads would do, done between two turns. What is submitted while they are `slow` waits longer."""

    def __init__(self) -> None:
        self.slow = False
        self._waiting: deque[tuple[object, Callable[[], None]]] = deque()  # with the owner
        self._held: deque[tuple[object, Callable[[], None]]] = deque()

    def submit(self, job: Callable[[], None], account: str = "", owner: object = None) -> None:
        del account
        (self._held if self.slow else self._waiting).append((owner, job))

    def drop(self, account: str, owner: object) -> None:
        del account
        self._waiting = deque(each for each in self._waiting if each[0] is not owner)  # `_held` has begun

    def run(self) -> None:
        while self._waiting:
            self._waiting.popleft()[1]()

    def finish(self) -> bool:
        held = bool(self._held)
        self._waiting += self._held
        self._held.clear()
        return held


class Link:
    """One connection: an `Outlet` that is a list. `to_client` holds what the client has not read yet."""

    def __init__(self, server: "MemoryServer", address: str) -> None:
        self.server = server
        self.address = address
        self.open = True
        self.to_client: deque[m.FromServer] = deque()
        self.crowded = False
        self.backlog = 0  # bytes of frames since the client had read everything
        hello = msgspec.structs.replace(server.hello, nonce=os.urandom(limits.NONCE_LENGTH), time=int(server.now))
        self._protocol = ServerProtocol(hello, server.seconds)
        self._frames = FrameReader(limits.MAX_FRAME)
        channel = Channel(hello.server_id, SHOWN, hello.nonce)
        self._handler = ClientHandler(self, channel, address, server.desk)
        self._flush()

    @property
    def device(self) -> bytes:
        """The device that has logged in here; empty before that."""
        return self._handler._session.device

    # --- the client's end -------------------------------------------------------------------------------------------

    def receive(self, message: m.FromClient) -> None:
        """Let the server have one message of the client."""
        self.receive_data(encode_frame(message))

    def receive_data(self, data: bytes) -> None:
        """Let the server have bytes of the client."""
        if not self.open:
            return
        events = self._protocol.receive_data(data, self.server.seconds)
        self._flush()
        arrived = [event for event in events if not isinstance(event, Ended)]
        messages = [each for message in arrived for each in self.server.inward(self, message)]
        if messages:
            self._handler.receive(messages)
        if events and isinstance(last := events[-1], Ended):
            self._end(last.closing, str(last.error))
        self.server.run()

    def take(self) -> m.FromServer:
        """Return the next message for the client."""
        message = self.to_client.popleft()
        if not self.to_client:
            self.backlog = 0
            if self.open:
                self._handler.drained()
                self.server.run()
        return message

    def close(self) -> None:
        """The connection is lost."""
        self._protocol.receive_eof()
        self._end(None, "connection lost")
        self.server.run()

    # --- the server's end -------------------------------------------------------------------------------------------

    def send(self, item: m.FromServer | bytes | list[m.Accepted]) -> None:
        """See `Outlet`. What the server's filter lets through waits for the client."""
        if isinstance(item, bytes):
            self.backlog += self._protocol.send_frames(item)
        elif isinstance(item, list):
            self._protocol.send_accepted(item)
        elif isinstance(item, m.Closing):
            self._protocol.close(item.reason, item.text)
            self._end(None, item.reason)
        else:
            if isinstance(item, m.Reply):
                self.backlog += len(encode_frame(item))
            self._protocol.send(item)
            if isinstance(item, m.LoggedIn):
                self._handler.logged_in()
        self._flush()

    def _flush(self) -> None:
        for body in self._frames.receive(self._protocol.data_to_send()):
            message = _decode(body)
            if isinstance(message, m.Welcomed):
                self.server.letters.setdefault(self.device, []).append(message)
            self.to_client.extend(self.server.outward(self, message))

    def _end(self, closing: m.Closing | None, reason: str) -> None:
        if self.open:
            self.open = False
            self._handler.ended(closing, reason)


class MemoryServer:
    """See the module. Close it with `stop`."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        """`folder`: for its data; `settings`: of `ServerConfig`, and how far `ahead` its clock and its clients' are
        (seconds). Rates are such that nobody meets them.
        """
        self.now = int((time.time() + settings.pop("ahead", 0.0)) * 1000)
        """The time that the log tells, in ms since 1970; a test's clients share it. Each turn takes a millisecond."""
        self.leap = 0.0
        """Seconds by which the server's clock is wrong."""
        self.seconds = 0.0
        """The monotonic clock: moves with `advance`, or when a test moves it."""
        self.outward: Callable[[Link, m.FromServer], list[m.FromServer]] = lambda _link, message: [message]
        """A filter for the server's messages: returns what is sent instead."""
        self.inward: Callable[[Link, m.FromClient], list[m.FromClient]] = lambda _link, message: [message]
        """A filter for clients' messages: returns what the server gets instead; refuse a request that it never gets."""
        self.letters: dict[bytes, list[m.Welcomed]] = {}
        """All Welcomes that were sent to a device, before the filter."""
        self.due = math.inf
        """When the server wants to be called again (`advance`)."""
        config = ServerConfig(data=folder, **(_RATES | settings))
        self.store = SQLiteStore(folder / "store.db", durable=False)
        self.accounts = AccountStore(folder / "accounts.json", clock=lambda: _LATER)
        self._workers = _InlinePasswords(self.accounts, ca=AUTHORITY.pin.hex(), cost=CHEAP_HASH)
        self.clock = ServerClock(folder, lambda: self.now / 1000 + self.leap, lambda: self.now / 1000)
        self.clock.begin(self.store.newest() / 1000)
        self.free = 1 << 40
        self.space = Space(folder, config.disk_floor, free=lambda: self.free)
        self._checks, self._portions, self._moves = _Jobs(), _Jobs(), _Jobs()
        self.files = BlobFolder(folder / "blobs")
        self.transfers = Transfers(self.files, self._moves, self.space, config.blob_limits.in_all)
        rates, counters = Rates(config), Counters()
        self.sequencer = Sequencer(
            self.store,
            seats=config.max_clients,
            share=config.share,
            bytes_per_account=config.bytes_per_account,
            rates=rates,
            rooms=config.rooms,
            show_ciphertext=config.show_ciphertext,
            interrupt=lambda: None,  # `run` looks for itself
            find_account=self.accounts.get,
            validators=self._checks,
            readers=self._portions,
            lock=nullcontext(),
            counters=counters,
            clock=self.clock,
            space=self.space,
            transfers=self.transfers,
            blob_limits=config.blob_limits,
        )
        self.sweep = Sweep(self.files, self.store.blobs, self.transfers, self.sequencer.hand_in)
        self.desk = LoginDesk(
            config, self.accounts, self._workers, rates, counters, self.sequencer, self.space, self.transfers
        )
        self.hello = m.Hello(
            [limits.PROTOCOL_VERSION], config.name, "hello", self.store.server_id, config.registration,
            self.store.site_keys[0].public, b"", 0,
        )  # fmt: skip

    def stop(self) -> None:
        """Let go of the files."""
        self._workers.close()
        self.clock.keep(at_once=True)
        self.sequencer.close()
        self.accounts.close()
        self.store.close()

    def connect(self, address: str = "192.0.2.1") -> Link:
        """A client connects."""
        return Link(self, address)

    def admit(self, account: str, secret: bytes) -> None:
        """Make the account, if it is not there yet; `secret` logs in."""
        if self.accounts.get(account) is None:
            self.accounts.add(account, self._workers._hasher.hash(secret), ca=self._workers.ca).result()

    # --- time -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Do everything that is due now."""
        while True:
            self.now += 1
            self.due = self.sequencer.turn(self.seconds)
            self._checks.run()
            self._portions.run()
            self._moves.run()
            if not self.sequencer._submissions and not self.sequencer._urgent:
                return

    def advance(self, until: float | None = None) -> None:
        """Move the monotonic clock to when the server wants to be called, or to `until`."""
        self.seconds = max(self.seconds, self.due if until is None else until)
        self.run()

    @contextmanager
    def slow_checks(self) -> Iterator[None]:
        """What arrives within this and has to be checked by a worker is not, before `finish_checks`."""
        self.set_slow(slow=True)
        yield
        self.set_slow(slow=False)

    def set_slow(self, *, slow: bool) -> None:
        """The same from now on, or not any more."""
        self._checks.slow = slow

    def finish_checks(self) -> bool:
        """Let the workers do what they were slow with. Says whether there was anything."""
        held = self._checks.finish()
        self.run()
        return held

    def tidy(self) -> None:
        """Let housekeeping do everything that is due."""
        while self.sequencer.housekeep(self.seconds):
            pass

    def sweep_blobs(self) -> None:
        """Let the sweep look through all files, and delete what is not needed any more."""
        self.run()
        self.sweep.round()
        while self.sweep.walking:
            self.sweep.round()
        self.run()

    def speak(self, room: str, action: Action, account: str = "") -> SecurechatError | None:
        """The operator says something in a room, or names a new site key; why it was refused, if it was."""
        answers: list[SecurechatError | None] = []
        if action == "site-key":
            self.sequencer.operate(ChangeSiteKey(lambda _: None))
        self.sequencer.operate(Speak(room, action, account, answers.append))
        self.run()
        (answer,) = answers
        return answer

    # --- what there is to see ---------------------------------------------------------------------------------------

    def head(self, conversation: bytes) -> Head:
        """A conversation as the server has it."""
        found = self.sequencer._conversations.get(conversation)
        assert found is not None
        return found.head

    def entries(self, conversation: bytes) -> list[LogEntry]:
        """The entries of a conversation's log that are still there."""
        return self.store.logs.read(conversation, 0, self.head(conversation).seq, 1 << 20, 1 << 40)

    @property
    def conversations(self) -> list[bytes]:
        """The ids of all conversations."""
        return [conversation for (conversation,) in self.store._writer.rows("SELECT id FROM conversations")]

    def offer(self, request: int, conversation: bytes) -> m.JoinOffer:
        """What would let a device that was never in it enter a conversation."""
        found = self.sequencer._conversations.get(conversation)
        assert found is not None
        self.sequencer._groups.load(found, "", done=lambda: None, failed=lambda: None)
        self.run()
        return m.JoinOffer(request, conversation, 0, found.head.group_info, found.tree, [])


def refuse(link: Link, request: m.Request, code: m.Code, text: str = "") -> None:
    """Answer a request with a refusal, instead of the server."""
    link.send(m.Refused(request.id, code, text))


class MemoryClient(Client):
    """The client's end of a link: no test waits for what does not come."""

    def __init__(self, server: MemoryServer, **options: Any) -> None:
        self.server = server
        self.link = server.connect()
        self.begin(server.seconds, **options)

    @property
    def shown(self) -> bytes:
        return SHOWN

    def flush(self) -> None:
        if data := self.protocol.data_to_send():
            self.link.receive_data(data)

    def pump(self, wait: float = WAIT) -> bool:
        del wait
        self.flush()
        if self.link.to_client:
            messages = [self.link.take() for _ in range(len(self.link.to_client))]
            self.receive(encode_frames(messages), self.server.seconds)
            self.flush()
        elif not self.link.open:
            self.received += self.protocol.receive_eof()
        elif math.isinf(self.server.due):
            raise AssertionError(f"nothing more comes: {self.received}")
        else:
            self.server.advance()
        return self.link.open

    def drop(self) -> None:
        self.link.close()


class MemoryPerson(Member, MemoryClient):
    """A client with an account, a device and groups, in memory."""

    def __init__(self, server: MemoryServer, account: str) -> None:
        super().__init__(server)
        self.enroll(account)

    @property
    def now(self) -> int:
        return self.server.now // 1000

    def again(self) -> "MemoryPerson":
        return MemoryPerson(self.server, self.account).take_over(self)
