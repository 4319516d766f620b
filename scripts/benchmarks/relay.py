"""What securechat costs: a load generator over real TLS against a real server process.

The generator speaks the wire protocol. Conversations are opened with real MLS groups, because the server checks those;
the messages that follow carry a genuine header and random bytes for a ciphertext, which is all a blind server can see.
Server cost is the CPU time of the server's process: it does not depend on how slow the generator is.
"""

import contextlib
import os
import secrets
import selectors
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from figure import Figure

from securechat.client.device import CAPABILITIES, SUITE
from securechat.identity.certificate import certificate_of, credential, issue, leaf_validator
from securechat.mls.crypto.sealing import SignaturePrivateKey, generate_signature_secret
from securechat.mls.framing import MLSMessage
from securechat.mls.group import Group
from securechat.mls.key_package import KeyPackage
from securechat.mls.key_package_bundle import generate_key_package
from securechat.mls.leaf_node import Lifetime
from securechat.mls.proposals import Add
from securechat.policy import Rules
from securechat.tlscodec import Writer
from securechat.wire import limits
from securechat.wire import messages as m

PAIRS = 50
PAYLOAD = 256  # bytes of MLS ciphertext in each message
OUTSTANDING = 64  # unanswered submissions of each pipelined sender
PIPELINED_MESSAGES = 1_000  # from each sender
PINGPONG_ROUNDS = 200  # of each pair
ROOM = 100  # members
ROOM_MESSAGES = 1_000
IDLE = 1_000  # connections
LOGINS = 100
DEVICES = 16  # of each account in a crowd: so many can hold a resume token
RESUMES = 1_000
PROC = Path("/proc")  # where Linux tells of processes
STALLED = 30.0  # seconds without a sign of the server end a bench
FILLING = secrets.token_bytes(PAYLOAD - 8)  # stands for a ciphertext, beside the 8 bytes of the time

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(m.FromServer).decode


# --- the server under test --------------------------------------------------------------------------------------------


class ServerProcess:
    """A real `securechat server` on loopback with its own data folder."""

    def __init__(self, folder: Path) -> None:
        """Make certificates and start; returns when it listens."""
        self.ca = folder / "certs" / "ca.pem"
        program = [str(Path(sys.executable).with_name("securechat"))]
        subprocess.run([*program, "gen-certs", "--out", str(self.ca.parent)], check=True, stdout=subprocess.DEVNULL)
        self._log = (folder / "server.log").open("wb")
        self.process = subprocess.Popen(
            [
                *program, "server", "--port", "0", "--data", str(folder / "data"),
                "--cert", str(self.ca.parent / "server.pem"), "--key", str(self.ca.parent / "server-key.pem"),
                "--max-clients", str(2 * IDLE),
            ],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )  # fmt: skip
        assert self.process.stdout is not None  # it was asked for
        for line in self.process.stdout:
            if line.startswith("listening on "):
                host, port = line.split()[2].rsplit(":", 1)
                self.address = (host, int(port))
                return
        raise SystemExit(f"the server did not start; its log:\n{(folder / 'server.log').read_text()}")

    def cpu(self) -> float:
        """Seconds of CPU, user and system, that the server process has used."""
        if not (PROC / str(self.process.pid)).exists():  # macOS: hundredths of a second are the best there is
            *hours, minutes, seconds = self._ps("time").split(":")
            return sum(int(each) * 3600 for each in hours) + int(minutes) * 60 + float(seconds)
        fields = (PROC / str(self.process.pid) / "stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self) -> int:
        """KiB of resident memory."""
        return int(self._ps("rss"))

    def _ps(self, column: str) -> str:
        command = ["ps", "-o", f"{column}=", "-p", str(self.process.pid)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        if self.process.stdout:
            self.process.stdout.close()
        self._log.close()


@contextlib.contextmanager
def running_server() -> Iterator[ServerProcess]:
    """A fresh server for one bench."""
    with tempfile.TemporaryDirectory(prefix="securechat-bench-") as folder:
        server = ServerProcess(Path(folder))
        try:
            yield server
        finally:
            server.stop()


# --- the load generator -----------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Peer:
    """One connection of the generator: blocking for the set-up, non-blocking under load."""

    server: ServerProcess
    account: str
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(limits.SECRET_LENGTH), repr=False)
    device: bytes = field(default_factory=lambda: secrets.token_bytes(limits.DEVICE_ID_LENGTH))
    number: int = 0
    unacknowledged: int = 0
    token: bytes = field(default=b"", repr=False)

    def connect(self) -> None:
        """TLS and greeting."""
        context = ssl.create_default_context(cafile=self.server.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols([limits.ALPN])
        plain = socket.create_connection(self.server.address, timeout=30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        self._in = bytearray()
        self._out = bytearray()
        self._next_id = 0
        self.send(m.ClientHello(versions=[limits.PROTOCOL_VERSION], agent="bench"))
        self.flush()
        hello = self.read()
        assert isinstance(hello, m.Hello), hello
        self.server_id = hello.server_id

    def send(self, message: m.Message) -> None:
        """Queue one message."""
        body = _encode(message)
        self._out += struct.pack(">I", len(body)) + body

    def flush(self) -> None:
        """Send what is queued; under load as much as the socket takes."""
        while self._out:
            try:
                sent = self.socket.send(self._out)
            except ssl.SSLWantWriteError:
                return
            del self._out[:sent]

    @property
    def wants_to_write(self) -> bool:
        """Whether bytes are left over from `flush`."""
        return bool(self._out)

    def read(self) -> m.Message:
        """One message (blocking)."""
        while True:
            for message in self.take():
                return message
            data = self.socket.recv(1 << 16)
            if not data:
                raise SystemExit(f"the server closed the connection of {self.account}")
            self._in += data

    def receive(self) -> Iterator[m.Message]:
        """Every message there is (non-blocking)."""
        with contextlib.suppress(ssl.SSLWantReadError):
            while data := self.socket.recv(1 << 17):
                self._in += data
        yield from self.take()

    def take(self) -> Iterator[m.Message]:
        """Messages already in the buffer."""
        start = 0
        try:
            while len(self._in) - start >= 4:
                end = start + 4 + struct.unpack_from(">I", self._in, start)[0]
                if len(self._in) < end:
                    return
                message = _decode(memoryview(self._in)[start + 4 : end].tobytes())
                start = end
                yield message
        finally:
            del self._in[:start]

    def next_id(self) -> int:
        """A fresh request id."""
        self._next_id += 1
        return self._next_id

    def call(self, request: m.Request) -> m.Message:
        """Send a request and wait for its reply; events in between are dropped."""
        self.send(request)
        self.flush()
        while True:
            message = self.read()
            if isinstance(message, m.Refused) and message.id == request.id:
                raise SystemExit(f"the server refused {type(request).__name__}: {message.code}: {message.text}")
            if isinstance(message, m.Reply) and message.id == request.id:
                return message

    def log_in(self) -> None:
        """Log in with the secret and keep the token."""
        answer = self.call(m.Login(self.next_id(), self.account, self.secret, self.device))
        assert isinstance(answer, m.LoggedIn), answer
        self.token = answer.token

    def close(self) -> None:
        """End the session in order."""
        self.socket.settimeout(30)
        self.send(m.Closing("bye"))
        self.flush()
        self.socket.close()


class Member(Peer):
    """A peer with a device in the server's directory, so that it can be in conversations."""

    def enter(self) -> None:
        """Connect, register, log in, publish the device and one key package."""
        self.connect()
        self.call(m.Register(self.next_id(), self.account, self.secret))
        self.log_in()
        now = int(time.time())
        self.signature = SignaturePrivateKey(SUITE, generate_signature_secret(SUITE))
        certificate = issue(
            Ed25519PrivateKey.generate(),
            server_id=self.server_id,
            account=self.account,
            device_id=self.device,
            signature_key=self.signature.public_key,
            not_before=now - 60,
            not_after=now + 86_400,
        )
        self.call(m.PublishDevice(self.next_id(), certificate.encode(), replace_identity=False))
        self.bundle = generate_key_package(
            SUITE, credential(certificate), self.signature, CAPABILITIES, Lifetime(now - 60, now + 86_400)
        )
        package = MLSMessage(self.bundle.key_package).encode()
        self.call(m.PublishKeyPackages(self.next_id(), [package], b""))
        self.validate = leaf_validator(self.server_id, now)

    def fetch(self, account: str) -> KeyPackage:
        """Take one key package of somebody."""
        answer = self.call(m.FetchKeyPackages(self.next_id(), account))
        assert isinstance(answer, m.KeyPackages), answer
        package = MLSMessage.decode(answer.key_packages[0]).body
        assert isinstance(package, KeyPackage), package
        return package

    def subscribe(self, conversation: bytes, number: int) -> None:
        """Read a conversation from its first entry; `number` is the last one this device used in it."""
        self.conversation, self.number = conversation, number
        # The header of the PrivateMessages to come: version, wire format, group, epoch 1, application.
        self._header = bytes(Writer().u16(1).u16(2).vector(conversation).u64(1).u8(1))
        self.call(m.Subscribe(self.next_id(), conversation, 1))

    def submit(self) -> None:
        """Queue one message: a genuine header, the time, and random bytes."""
        self.number += 1
        ciphertext = struct.pack(">Q", time.perf_counter_ns()) + FILLING
        payload = self._header + bytes(
            Writer().vector(struct.pack(">Q", self.number)).vector(FILLING[:28]).vector(ciphertext)
        )
        self.send(m.Submit(self.next_id(), self.conversation, self.number, payload))

    def take_entry(self, entry: m.Entry) -> float:
        """Acknowledge as a client does; return the seconds since the sender queued the entry."""
        self.unacknowledged += 1
        if self.unacknowledged >= limits.ACKNOWLEDGE_ENTRIES:
            self.send(m.Acknowledge(self.conversation, entry.seq))
            self.unacknowledged = 0
        sent: int = struct.unpack_from(">Q", entry.payload, len(entry.payload) - PAYLOAD)[0]
        return (time.perf_counter_ns() - sent) / 1e9


def found(members: list[Member], rules: Rules) -> bytes:
    """Make a group of the first member, add the others in one commit, hand both to the server; return its id."""
    first, *others = members
    now = int(time.time())
    conversation = secrets.token_bytes(limits.CONVERSATION_ID_LENGTH)
    group = Group.create(conversation, first.bundle, first.signature, extensions=(rules.extension(),))
    founding = group.group_info(with_tree=True)
    number = struct.pack(">Q", 1)
    staged = group.commit(
        [Add(first.fetch(other.account)) for other in others],
        authenticated_data=number, tree_in_welcome=False, validate=first.validate, now=now,
    )  # fmt: skip
    welcome, group_info = staged.welcome or b"", staged.group_info or b""
    if rules.kind == "direct":
        peer = others[0].account
        first.call(
            m.OpenDirect(first.next_id(), conversation, peer, founding, staged.message, welcome, group_info)
        )
    else:
        first.call(m.OpenRoom(first.next_id(), conversation, founding, group.group_info(with_tree=False)))
        first.subscribe(conversation, 0)
        first.call(m.Commit(first.next_id(), conversation, 1, staged.message, welcome, group_info))
    for member in members:
        member.subscribe(conversation, 1 if member is first else 0)
    return conversation


class Load:
    """Drives many members from one thread and counts what they get."""

    def __init__(self, members: list[Member]) -> None:
        """Take the members over: from now on their sockets do not block."""
        self._selector = selectors.DefaultSelector()
        self._members = members
        for member in members:
            member.flush()
            member.socket.settimeout(0)
            self._selector.register(member.socket, selectors.EVENT_READ, member)
        self.accepted = 0
        self.latencies: list[float] = []

    def run(self, handle: Callable[[Member, m.Message], None], done: Callable[[], bool]) -> float:
        """Pump until `done`; `handle` may queue more. Returns the seconds it took."""
        started = time.perf_counter()
        for member in self._members:
            self._pump_out(member)
        while not done():
            events = self._selector.select(STALLED)
            if not events:
                raise SystemExit(f"nothing has come from the server for {STALLED:.0f} s")
            for key, mask in events:
                member: Member = key.data
                if mask & selectors.EVENT_READ:
                    for message in member.receive():
                        if isinstance(message, m.Accepted):
                            self.accepted += 1
                        elif isinstance(message, m.Entry):
                            self.latencies.append(member.take_entry(message))
                        elif isinstance(message, m.Refused):
                            raise SystemExit(f"the server refused a message: {message.code}: {message.text}")
                        handle(member, message)
                self._pump_out(member)
        return time.perf_counter() - started

    def _pump_out(self, member: Member) -> None:
        member.flush()
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if member.wants_to_write else 0)
        if self._selector.get_key(member.socket).events != wanted:
            self._selector.modify(member.socket, wanted, member)

    def close(self) -> None:
        """End every session in order."""
        self._selector.close()
        for member in self._members:
            member.close()


# --- the benches ------------------------------------------------------------------------------------------------------


def measure(
    case: str,
    server: ServerProcess,
    load: Load,
    handle: Callable[[Member, m.Message], None],
    done: Callable[[], bool],
) -> Iterator[Figure]:
    """Run one load and tell rates, cost and latency."""
    accepted, delivered = load.accepted, len(load.latencies)
    cpu = server.cpu()
    seconds = load.run(handle, done)
    cpu = server.cpu() - cpu
    latencies = sorted(load.latencies[delivered:])
    yield Figure(case, "accepted", (load.accepted - accepted) / seconds, "messages/s")
    yield Figure(case, "delivered", len(latencies) / seconds, "messages/s")
    yield Figure(case, "server CPU per delivered message", cpu / len(latencies) * 1e6, "µs")
    yield Figure(case, "latency p50", statistics.median(latencies) * 1e6, "µs")
    yield Figure(case, "latency p99", latencies[int(len(latencies) * 0.99)] * 1e6, "µs")


def relay() -> Iterator[Figure]:
    """50 pairs over TLS, 256-byte payloads, durable log on: pipelined, then ping-pong."""
    with running_server() as server:
        pairs = []
        for number in range(PAIRS):
            pair = [Member(server, f"left{number}"), Member(server, f"right{number}")]
            for member in pair:
                member.enter()
            found(pair, Rules(kind="direct"))
            pairs.append(pair)
        load = Load([member for pair in pairs for member in pair])
        senders = {pair[0]: PIPELINED_MESSAGES for pair in pairs}

        def keep_outstanding(member: Member, message: m.Message) -> None:
            if isinstance(message, m.Accepted) and senders[member]:
                senders[member] -= 1
                member.submit()

        for sender in senders:
            for _ in range(OUTSTANDING):
                senders[sender] -= 1
                sender.submit()
        total = PAIRS * PIPELINED_MESSAGES
        yield from measure(
            f"pipelined, {OUTSTANDING} outstanding", server, load, keep_outstanding,
            lambda: load.accepted == total == len(load.latencies),
        )  # fmt: skip

        other = {one: two for pair in pairs for one, two in (pair, pair[::-1])}
        rounds = dict.fromkeys(other, PINGPONG_ROUNDS)

        def answer(member: Member, message: m.Message) -> None:
            if isinstance(message, m.Entry) and rounds[member]:
                rounds[member] -= 1
                member.submit()

        for pair in pairs:
            pair[0].submit()
        total_entries = total + PAIRS + sum(rounds.values())
        yield from measure(
            "ping-pong", server, load, answer, lambda: len(load.latencies) == load.accepted == total_entries
        )
        load.close()


def fan_out() -> Iterator[Figure]:
    """One room of 100: one member speaks, all others get it."""
    with running_server() as server:
        members = [Member(server, f"member{number}") for number in range(ROOM)]
        for member in members:
            member.enter()
        identity = certificate_of(members[0].bundle.key_package.leaf_node).identity_key
        found(members, Rules(kind="invite", name="#bench", owners=(identity,)))
        load = Load(members)
        speaker = members[0]
        left = ROOM_MESSAGES - 1

        def next_message(member: Member, message: m.Message) -> None:
            nonlocal left
            if isinstance(message, m.Accepted) and left:
                left -= 1
                member.submit()

        speaker.submit()
        yield from measure(
            f"room of {ROOM}", server, load, next_message,
            lambda: len(load.latencies) == ROOM_MESSAGES * (ROOM - 1),
        )  # fmt: skip
        load.close()


def make_crowd(server: ServerProcess, count: int, name: str = "crowd") -> list[Peer]:
    """Connect `count` devices and make their accounts."""
    peers: list[Peer] = []
    for number in range(count):
        account, sibling = divmod(number, DEVICES)
        peer = Peer(server, f"{name}{account}")
        peer.connect()
        if sibling:
            peer.secret = peers[-1].secret
        else:
            peer.call(m.Register(peer.next_id(), peer.account, peer.secret))
        peers.append(peer)
    return peers


def enter_crowd(server: ServerProcess, count: int, name: str = "crowd") -> list[Peer]:
    """Log `count` devices in, one after the other, and none of them waiting long."""
    peers: list[Peer] = []
    for start in range(0, count, DEVICES):
        portion = make_crowd(server, min(DEVICES, count - start), f"{name}{start}x")
        for peer in portion:
            peer.log_in()
        peers += portion
    return peers


def idle() -> Iterator[Figure]:
    """Memory of the server for each logged-in connection that does nothing."""
    with running_server() as server:
        first = enter_crowd(server, DEVICES, "warm")  # what every server needs once is not the connections'
        before = server.rss()
        peers = enter_crowd(server, IDLE)
        yield Figure(f"{IDLE} connections", "RSS per idle connection", (server.rss() - before) / IDLE, "KiB")
        for peer in (*first, *peers):
            peer.close()


def login() -> Iterator[Figure]:
    """Logins (Argon2id) and resumes (token, with a TLS handshake each) per second, one after the other."""
    with running_server() as server:
        peers = make_crowd(server, LOGINS)
        started, cpu = time.perf_counter(), server.cpu()
        for peer in peers:
            peer.log_in()
        seconds, cpu = time.perf_counter() - started, server.cpu() - cpu
        yield Figure("password", "logins", LOGINS / seconds, "1/s")
        yield Figure("password", "server CPU per login", cpu / LOGINS * 1e6, "µs")
        started, cpu = time.perf_counter(), server.cpu()
        for number in range(RESUMES):
            peer = peers[number % LOGINS]
            peer.close()
            peer.connect()
            answer = peer.call(m.Resume(peer.next_id(), peer.token, peer.device))
            assert isinstance(answer, m.LoggedIn), answer
            peer.token = answer.token
        seconds, cpu = time.perf_counter() - started, server.cpu() - cpu
        yield Figure("token", "resumes", RESUMES / seconds, "1/s")
        yield Figure("token", "server CPU per resume", cpu / RESUMES * 1e6, "µs")
        for peer in peers:
            peer.close()
