"""What all systems under load share: a server process that is measured from outside, and clients over TLS.

The server's cost is the CPU time of its process, so it does not depend on how slow the load generator is. The clients
use TLS over memory, so that a whole burst can be encrypted before its first byte leaves.
"""

import contextlib
import os
import select
import signal
import socket
import ssl
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

PAYLOAD = 256  # bytes of each message: the time, and filling
STAMP = 16  # of them, the time in hexadecimal: every protocol carries text
FILLING = os.urandom((PAYLOAD - STAMP) // 2).hex().encode()
PROC = Path("/proc")  # where Linux tells of processes
STALLED = 60.0  # seconds without a sign of the server end a bench
RECEIVE_BYTES = 256 << 10
LAST_WORDS = 1000  # characters of a log that are worth a look


def stamped() -> bytes:
    """A payload that holds its own time."""
    return b"%016x" % time.perf_counter_ns() + FILLING


def stamp_of(payload: bytes) -> int:
    """When a payload was made, in ns."""
    return int(payload[:STAMP], 16)


class ServerFailedError(Exception):
    """A server under load did not start, closed a connection or fell silent: it cannot be measured."""


class Process:
    """A server process on loopback, with the children that it may have."""

    def __init__(
        self,
        command: list[str],
        folder: Path,
        port: int = 0,
        *,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it, as `user` if one is named, and wait until it listens; its log goes to `folder`.

        It prints `listening on HOST:PORT`; one that cannot was asked to listen at `port`.
        """
        self._log = (folder / "server.log").open("ab")
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log if port else subprocess.PIPE, stderr=self._log,
            text=True, cwd=folder, env=environment, user=user, extra_groups=[] if user else None,
        )  # fmt: skip
        try:
            self.address = ("127.0.0.1", port) if port else self._announced()
            self._await_listening()
        except ServerFailedError:
            self.stop(signal.SIGKILL)
            raise ServerFailedError(f"{Path(command[0]).name} did not start; {self.last_words()}") from None

    def _announced(self) -> tuple[str, int]:
        assert self._process.stdout is not None  # it was asked for
        for line in self._process.stdout:
            if line.startswith("listening on "):
                host, port = line.split()[2].rsplit(":", 1)
                return host, int(port)
        raise ServerFailedError

    def _await_listening(self) -> None:
        deadline = time.monotonic() + STALLED
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(self.address).close()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailedError
            select.select([], [], [], 0.01)

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid

    def last_words(self) -> str:
        """The end of its log, which may say why it failed."""
        log = Path(self._log.name).read_text(errors="replace")
        return f"the end of its log:\n{log[-LAST_WORDS:]}"

    def cpu(self) -> float:
        """Seconds of CPU, user and system, that the process and its children have used."""
        return cpu_of_family(self._process.pid)

    def rss(self) -> int:
        """KiB of resident memory, of the process and its children."""
        if not (PROC / str(self._process.pid)).exists():
            return int(_ps(self._process.pid, "rss"))
        pages = 0
        for pid in _family(self._process.pid):
            with contextlib.suppress(OSError):  # it has ended just now
                pages += int((PROC / str(pid) / "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") // 1024

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end, and wait."""
        self._process.send_signal(how)
        try:
            self._process.wait(STALLED)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._log.close()


def cpu_of_family(pid: int) -> float:
    """Seconds of CPU, user and system, that a process and its children have used."""
    if not (PROC / str(pid)).exists():  # macOS: nothing finer than hundredths of a second
        *hours, minutes, seconds = _ps(pid, "time").split(":")
        return sum(int(each) * 3600 for each in hours) + int(minutes) * 60 + float(seconds)
    fields = (PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
    seconds_of_children = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")  # those that have ended
    return seconds_of_children + sum(_cpu_of(each) for each in _family(pid))


def _family(pid: int) -> list[int]:
    """A process, its children, and theirs."""
    family = [pid]
    for each in family:  # which grows meanwhile
        for children in (PROC / str(each) / "task").glob("*/children"):
            with contextlib.suppress(OSError):
                family += [int(child) for child in children.read_text().split()]
    return family


def _ps(pid: int, column: str) -> str:
    command = ["ps", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used, to the nanosecond: /proc's hundredths are too coarse for a burst.

    The number of another process's clock is Linux's own, as clock_getcpuclockid(3) computes it.
    """
    with contextlib.suppress(OSError):  # it has ended just now: its parent's times will have it
        return time.clock_gettime((~pid << 3) | 2)
    return 0.0


class Client(ABC):
    """One connection: blocking for the set-up, non-blocking under load."""

    source = "127.0.0.1"  # the address to come from
    confirms = False  # whether the server tells the sender that it has a message

    def __init__(self, server: "System") -> None:
        self.server = server
        self.unanswered = 0  # messages said and not confirmed; kept by the workload where `confirms` is False

    def connect(self) -> None:
        """TLS, blocking."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = self.server.tls.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._queued: list[bytes] = []
        self._unsent = b""
        self._plaintext = bytearray()
        self.socket = socket.create_connection(self.server.process.address, STALLED, (self.source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
                self._incoming.write(self._some())
        self.flush()
        self.server.clients.add(self)

    def _some(self) -> bytes:
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except (ConnectionError, TimeoutError) as error:
            raise ServerFailedError(f"{self.server.name} has cut a connection off: {error}") from error
        if not data:
            raise ServerFailedError(f"{self.server.name} has closed a connection; {self.server.process.last_words()}")
        return data

    def queue(self, data: bytes) -> None:
        """Queue bytes for the server."""
        self._queued.append(data)

    def encrypt(self) -> None:
        """Make queued messages ready to leave, each in a TLS record of its own, as if it had been sent alone."""
        for message in self._queued:
            self._tls.write(message)
        self._queued.clear()
        self._unsent += self._outgoing.read()

    def flush(self) -> None:
        """Send queued bytes; under load as many as the socket takes."""
        self.encrypt()
        while self._unsent:
            try:
                sent = self.socket.send(self._unsent)
            except BlockingIOError:
                return
            except (ConnectionError, TimeoutError) as error:
                raise ServerFailedError(f"{self.server.name} has cut a connection off: {error}") from error
            self._unsent = self._unsent[sent:]

    @property
    def wants_to_write(self) -> bool:
        """Whether bytes are left over from `flush`."""
        return bool(self._unsent)

    def read(self) -> None:
        """Take what has arrived; blocking during the set-up."""
        try:
            self._incoming.write(self._some())
        except BlockingIOError:
            return
        with contextlib.suppress(ssl.SSLWantReadError):
            while data := self._tls.read(RECEIVE_BYTES):
                self._plaintext += data

    def read_to(self, token: bytes) -> None:
        """Read up to these bytes and drop them, which is enough for setting up a text protocol."""
        while token not in self._plaintext:
            self.read()
        del self._plaintext[: self._plaintext.index(token) + len(token)]

    def keep_alive(self) -> None:
        """Answer the server's questions, for a client that waits for its turn."""
        self.socket.settimeout(0)
        self.read()
        self.take()
        self.flush()
        self.socket.settimeout(STALLED)

    def close(self) -> None:
        """Go."""
        self.server.clients.discard(self)
        self.socket.close()

    @abstractmethod
    def log_in(self) -> None:
        """Connect and log in, blocking."""

    @abstractmethod
    def say(self) -> None:
        """Queue one message with a payload that is `stamped` now."""

    @abstractmethod
    def take(self) -> list[int]:
        """The stamps of the messages in what has arrived. Confirmations among it lower `unanswered`."""


class System(ABC):
    """A server that relays messages between its clients."""

    name: str
    process: Process
    tls: ssl.SSLContext

    def __init__(self) -> None:
        self.clients: set[Client] = set()  # those that are connected

    @abstractmethod
    def pairs(self, count: int) -> list[tuple[Client, Client]]:
        """Connect two clients for each of `count` conversations."""

    @abstractmethod
    def room(self, count: int) -> list[Client]:
        """Connect clients that are all in one room."""

    @abstractmethod
    def newcomer(self) -> Client:
        """Make a client that can log in, but has nobody to talk to."""

    def correspondents(self) -> tuple[list[Client], Client]:
        """Connect clients that all write to one more, and that one."""
        ((sender, receiver),) = self.pairs(1)
        return [sender], receiver

    def keep_alive(self) -> None:
        """Have all clients answer the server's questions; needed once a minute."""
        for client in self.clients:
            client.keep_alive()

    def stop(self) -> None:
        """End the server."""
        for client in list(self.clients):
            client.close()
        self.process.stop()


def trusting(certs: Path) -> ssl.SSLContext:
    """A context for clients of any system."""
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
