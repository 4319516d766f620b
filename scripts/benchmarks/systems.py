"""What every system under load has in common: a server process that is measured from outside, and clients over TLS.

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
from pathlib import Path

PAYLOAD = 256  # bytes of each message: the time, and filling
STAMP = 16  # of them, the time in hexadecimal: every protocol carries text
FILLING = os.urandom((PAYLOAD - STAMP) // 2).hex().encode()
PROC = Path("/proc")  # where Linux tells of processes
STALLED = 30.0  # seconds without a sign of the server end a bench
RECEIVE_BYTES = 256 << 10


def stamped() -> bytes:
    """A payload that says when it was made."""
    return b"%016x" % time.perf_counter_ns() + FILLING


def stamp_of(payload: bytes) -> int:
    """When a payload was made, in ns."""
    return int(payload[:STAMP], 16)


class Process:
    """A server process on loopback."""

    def __init__(self, command: list[str], folder: Path, port: int = 0) -> None:
        """Start it. It prints `listening on HOST:PORT`; one that cannot is asked to listen at `port`."""
        self._log = (folder / "server.log").open("ab")
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True)
        self.address = ("127.0.0.1", port) if port else self._announced()
        deadline = time.monotonic() + STALLED
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(self.address).close()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} did not start; its log:\n{(folder / 'server.log').read_text()}")
            select.select([], [], [], 0.01)

    def _announced(self) -> tuple[str, int]:
        assert self._process.stdout is not None  # it was asked for
        for line in self._process.stdout:
            if line.startswith("listening on "):
                host, port = line.split()[2].rsplit(":", 1)
                return host, int(port)
        raise SystemExit(f"the server did not start; see {self._log.name}")

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid

    def cpu(self) -> float:
        """Seconds of CPU, user and system, that the process has used."""
        if not (PROC / str(self._process.pid)).exists():  # macOS: hundredths of a second are the best there is
            *hours, minutes, seconds = self._ps("time").split(":")
            return sum(int(each) * 3600 for each in hours) + int(minutes) * 60 + float(seconds)
        fields = (PROC / str(self._process.pid) / "stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self) -> int:
        """KiB of resident memory."""
        return int(self._ps("rss"))

    def _ps(self, column: str) -> str:
        command = ["ps", "-o", f"{column}=", "-p", str(self._process.pid)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end, and wait."""
        self._process.send_signal(how)
        self._process.wait(STALLED)
        if self._process.stdout:
            self._process.stdout.close()
        self._log.close()


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

    def _some(self) -> bytes:
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise SystemExit("the server has closed a connection")
        return data

    def queue(self, data: bytes) -> None:
        """Queue bytes for the server."""
        self._queued.append(data)

    def encrypt(self) -> None:
        """Make what is queued ready to leave, each message in a TLS record of its own: it was said on its own."""
        for message in self._queued:
            self._tls.write(message)
        self._queued.clear()
        self._unsent += self._outgoing.read()

    def flush(self) -> None:
        """Send what is queued; under load as much as the socket takes."""
        self.encrypt()
        while self._unsent:
            try:
                sent = self.socket.send(self._unsent)
            except BlockingIOError:
                return
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

    def close(self) -> None:
        """Go."""
        self.socket.close()

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

    @abstractmethod
    def pairs(self, count: int) -> list[tuple[Client, Client]]:
        """Connect two clients for each of `count` conversations."""

    @abstractmethod
    def room(self, count: int) -> list[Client]:
        """Connect clients that are all in one room."""

    @abstractmethod
    def idle(self, count: int) -> list[Client]:
        """Connect clients that do nothing."""

    def stop(self) -> None:
        """End the server."""
        self.process.stop()


def trusting(certs: Path) -> ssl.SSLContext:
    """A context for clients of any system."""
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
