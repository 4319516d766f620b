"""What strangers cost those who are in: connections that say nothing, and guessing at passwords from many addresses."""

import contextlib
import json
import selectors
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.benchmarks import ROOT
from scripts.benchmarks.contest import bench_folder
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.systems.securechat import SecureChat
from scripts.benchmarks.work import flooder, workloads
from scripts.benchmarks.work.flooder import ADDRESSES, RATE, Guesses
from scripts.benchmarks.work.relay import PAIRS
from securechat.server.accounts.passwords import COST, WORKERS
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.protocol import ClientProtocol

SILENT = 1000  # connections of strangers at once
LOGINS = 10
HONEST = "127.0.0.2"  # the address of those whom the strangers are to hold up

MESSAGES = 200  # a second, of those who are in: both processors have room for guesses beside them
BUSY_AGAIN = 0.2  # seconds after which a refused (`busy`) client tries again

GREETED = "silent after the hello"
DRIP_SECONDS = 0.25  # between two bytes: a handshake then takes more than a minute
PATIENCE = limits.LOGIN_SECONDS + 60  # seconds until we give up waiting for the server to close

CLOSED_WITHIN = 1.5  # seconds after a deadline: deadlines are looked at twice a second
BUSY_WITHIN = 50.0  # ms: "at once", on a machine whose processors all compute hashes


def flood() -> Iterator[Figure]:
    """Both, one after the other, on one server."""
    with bench_folder() as (folder, certs), contextlib.closing(_Server(folder, certs)) as server:
        yield from _silent(server)
        yield from _guesses(server, certs)


class _Server(SecureChat):
    def __init__(self, folder: Path, certs: Path) -> None:
        super().__init__(folder, certs)
        self._honest = self.newcomer()
        self._honest.source = HONEST

    close = SecureChat.stop

    def login(self) -> float:
        """Connect and log in with the password, again while the server is busy; how many seconds that took."""
        honest = self._honest
        began = time.perf_counter()
        honest.greet()
        while True:
            honest.send(m.Login(honest.next_id(), honest.account, self.secret, honest.device))
            honest.flush()
            while not (replies := list(honest.messages())):
                honest.read()
            if isinstance(replies[0], m.LoggedIn):
                break
            assert isinstance(replies[0], m.Refused), replies
            assert replies[0].code == "busy", replies
            time.sleep(BUSY_AGAIN)
        taken = time.perf_counter() - began
        honest.goodbye()
        return taken

    def peak(self) -> float:
        """MiB of resident memory at most so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024


# --- saying nothing -----------------------------------------------------------------------------------------------


def _silent(server: _Server) -> Iterator[Figure]:
    title = f"{SILENT} silent connections"
    before = [server.login() for _ in range(LOGINS)]
    rss = server.process.rss()
    strangers = _Strangers(server)
    during = [server.login() for _ in range(LOGINS)]
    delay = (max(during) - statistics.median(before)) * 1e3
    yield Figure(title, "delay of an honest login, at most", delay, "ms", goal=1000)
    yield Figure(title, "server memory each", (server.process.rss() - rss) / SILENT, "KiB")
    for told, late in strangers.wait():
        yield Figure(title, f"{told}: closed after their deadline", late, "s", goal=CLOSED_WITHIN)


class _Strangers:
    """A quarter each of connections that say nothing, that drip, that only do TLS, and that only say hello."""

    def __init__(self, server: _Server) -> None:
        each = SILENT // 4
        self._selector = selectors.DefaultSelector()
        self._hello = _client_hello(server.tls)
        self._began: dict[socket.socket, tuple[str, float]] = {}
        self._late: dict[str, float] = {}
        self._all = False  # whether all are open
        self._dripping: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        for _ in range(each):
            self._add("silent", socket.create_connection(server.process.address))
            self._dripping.append(self._add("dripping", socket.create_connection(server.process.address)))
            self._add("silent after TLS", _shaken(server))
            greeted = _shaken(server)
            greeted.sendall(ClientProtocol("bench", time.monotonic()).data_to_send())
            self._add(GREETED, greeted)
        self._all = True

    def wait(self) -> Iterator[tuple[str, float]]:
        """Wait until the server has closed all; for each kind, how many seconds after its deadline the last one was."""
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            raise SystemExit(f"{len(self._began)} silent connections are still open")
        yield from self._late.items()

    def _run(self) -> None:
        drops = iter(self._hello)
        next_drop = 0.0
        while self._began or not self._all:
            for key, _ in self._selector.select(DRIP_SECONDS):
                self._look(key.data)
            if time.perf_counter() >= next_drop:
                next_drop = time.perf_counter() + DRIP_SECONDS
                drop = bytes([next(drops, 0)])
                for sock in self._dripping:
                    with contextlib.suppress(OSError):  # closed by now
                        sock.send(drop)

    def _look(self, sock: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):
            if sock.recv(1 << 14):
                return
        kind, began = self._began.pop(sock)
        self._selector.unregister(sock)
        sock.close()
        deadline = limits.LOGIN_SECONDS if kind == GREETED else limits.HANDSHAKE_SECONDS
        self._late[kind] = max(self._late.get(kind, 0.0), time.perf_counter() - began - deadline)

    def _add(self, kind: str, sock: socket.socket) -> socket.socket:
        self._began[sock] = kind, time.perf_counter()
        self._selector.register(sock, selectors.EVENT_READ, sock)
        return sock


def _client_hello(context: ssl.SSLContext) -> bytes:
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def _shaken(server: _Server) -> ssl.SSLSocket:
    return server.tls.wrap_socket(socket.create_connection(server.process.address), server_hostname="localhost")


# --- guessing -----------------------------------------------------------------------------------------------------


def _guesses(server: _Server, certs: Path) -> Iterator[Figure]:
    title = f"{RATE} wrong logins/s, {ADDRESSES} addresses"
    pairs = server.pairs(PAIRS)
    alone = [workloads.steady(server, pairs, MESSAGES) for _ in range(2)]
    memory = server.process.rss() / 1024
    flooding = _start(server, certs, 4 * workloads.RATE_SECONDS)
    during = [workloads.steady(server, pairs, MESSAGES) for _ in range(2)]
    logins = [server.login() for _ in range(LOGINS)]
    guesses = Guesses(**json.loads(flooding.communicate(timeout=120)[0]))
    for percent, goal in ((50, None), (99, 2.0)):
        quiet, loud = (statistics.median(cost.latency(percent) for cost in costs) for costs in (alone, during))
        yield Figure(title, f"sessions' latency p{percent}", loud, "µs", quiet, goal)
    yield Figure(title, "an honest login, at most", max(logins) * 1e3, "ms")
    hashes = WORKERS * COST.memory_cost / 1024
    yield Figure(title, "server memory grown at most", server.peak() - memory, "MiB", goal=hashes + 32)
    for code, count in sorted(guesses.answers.items()):
        yield Figure(title, f"answered `{code}`", count, f"of {guesses.made}")
    yield Figure(title, "left out, for want of an answer", guesses.left_out, "")
    yield Figure(title, "`busy` answered within, p99", guesses.busy_p99, "ms", goal=BUSY_WITHIN)


def _start(server: _Server, certs: Path, seconds: float) -> "subprocess.Popen[str]":
    host, port = server.process.address
    command = [sys.executable, "-m", flooder.__name__, f"{host}:{port}", str(certs), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
