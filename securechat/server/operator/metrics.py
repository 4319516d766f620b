"""The server seen from outside, on a port of this machine only: `/metrics` for Prometheus, `/livez`, `/readyz`.

    /livez     200: the I/O threads go round. Else 503: restart the process.
    /readyz    200: clients are taken. Else 503 and why: stopping, or an expired certificate.
    /metrics   the numbers, in Prometheus' text format. No names, addresses or other labels that others choose.

One thread with a selector answers everybody; it does not touch TLS. A request has `REQUEST_SECONDS` in all; of more
than `MAX_REQUESTS` at once the oldest gives way. So a slow scraper holds up nobody.
"""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, get_args

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from securechat import __version__
from securechat.errors import UsageError
from securechat.server import log_output
from securechat.server.logs import get_logger
from securechat.server.status import LATENCY_BUCKETS, Counters, Status, TurnedAway
from securechat.server.workers import join
from securechat.transport.waker import Waker

log = get_logger(__name__)

HOST: Final = "127.0.0.1"
"""The numbers tell who is busy when, so they stay on this machine. Prometheus on another one needs a proxy that
authenticates it."""

REQUEST_SECONDS: Final = 5.0
MAX_REQUESTS: Final = 16
MAX_HEAD: Final = 8 << 10
"""Bytes of a request: what other HTTP servers accept for one header line."""

RENDER_SECONDS: Final = 1.0
"""The numbers are collected at most this often, however many ask."""


class ServerCollector(Collector):
    """Turns counts and status into Prometheus' families when somebody asks."""

    def __init__(self, counters: Counters, status: Callable[[], Status]) -> None:
        self._counters = counters
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client`."""
        counters, status = self._counters, self._status()
        info = GaugeMetricFamily("securechat_info", "The version that runs.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        for name, text, value in (
            ("accounts", "Accounts.", status.accounts),
            ("connections", "Connections, logged in or not.", status.connections),
            ("sessions", "Devices that are logged in, the waiting ones included.", status.sessions),
            ("waiting", "Accounts that are logged in and wait for a seat.", status.waiting),
            ("password_queue", "Logins that wait for a password worker.", status.password_queue),
            ("validation_queue", "Commits and the like that wait for a validation worker.", status.validation_queue),
            ("reading_queue", "Portions of history that wait for a reader.", status.reading_queue),
            ("moving_queue", "Parts of files that wait for a worker.", status.moving_queue),
            ("turn_queue", "Requests that wait for the next turn.", status.turn_queue),
            ("log_entries", "Entries in the logs, kept for those who have not read them.", status.log_entries),
            ("handshake_bytes", "Bytes of commits and departures, kept for longer.", status.handshake_bytes),
            ("store_bytes", "Size of the database with its write-ahead log.", status.store_bytes),
            ("reusable_bytes", "Bytes of it that the database has to spare.", status.reusable_bytes),
            ("disk_free_bytes", "Bytes free on the disk of the data folder.", status.disk_free_bytes),
            ("disk_floor_bytes", "Bytes free below which nothing new is taken.", status.disk_floor_bytes),
            ("disk_reserve_bytes", "Bytes of the reserve; 0: it was given up.", status.disk_reserve_bytes),
            ("held_bytes", "Bytes kept of what accounts have written, of all together.", status.held_bytes),
            ("quota_bytes", "Bytes that are kept of one account at most.", status.quota_bytes),
            ("blob_bytes", "Bytes on the disk of the files that people have sent, and are sending.", status.blob_bytes),
            ("blob_most_bytes", "Bytes of those at most.", status.blob_most_bytes),
            ("uploads", "Files that are not here as a whole yet.", status.uploads),
            ("commits_passed_over", "Commits of the store, lost behind damage in its log.", status.commits_passed_over),
            ("certificate_expiry_timestamp_seconds", "When the certificate expires.", status.certificate_expires),
        ):
            yield GaugeMetricFamily(f"securechat_{name}", text, value=value)
        held = GaugeMetricFamily(
            "securechat_account_held_bytes", "Bytes of the accounts that hold most; 1: the most.", labels=["rank"]
        )
        for rank, size in enumerate(status.held_most, start=1):
            held.add_metric([str(rank)], size)
        yield held
        logins = CounterMetricFamily("securechat_logins", "Logins and registrations.", labels=["kind", "outcome"])
        for (kind, outcome), count in counters.logins().items():
            logins.add_metric([kind, outcome], count)
        yield logins
        refused = CounterMetricFamily("securechat_refused", "Requests that were refused.", labels=["code"])
        for code, count in counters.refused.copy().items():
            refused.add_metric([code], count)
        yield refused
        by_rate = CounterMetricFamily("securechat_refused_by_rate", "What a rate has refused.", labels=["rate"])
        for rate, count in status.refused_by_rate.items():
            by_rate.add_metric([rate], count)
        yield by_rate
        turned_away = CounterMetricFamily(
            "securechat_turned_away", "Connections that were closed for others' sake.", labels=["reason"]
        )
        for reason in get_args(TurnedAway):  # also those without any yet, so that the first one shows as a rise
            turned_away.add_metric([reason], counters.turned_away[reason])
        yield turned_away
        yield CounterMetricFamily(
            "securechat_log_lines_lost", "Lines of the log that nobody took in time.", value=log_output.dropped()
        )
        yield CounterMetricFamily("securechat_entries_accepted", "Entries that are on disk.", value=counters.entries)
        commits = CounterMetricFamily("securechat_commits", "Commits, accepted or refused.", labels=["outcome"])
        for outcome, count in counters.commits.copy().items():
            commits.add_metric([outcome], count)
        yield commits
        yield _latency(counters)


def _latency(counters: Counters) -> HistogramMetricFamily:
    total, buckets = 0, []
    for bound, count in zip((*map(str, LATENCY_BUCKETS), "+Inf"), counters.latency.copy(), strict=True):
        total += count
        buckets.append((bound, float(total)))
    return HistogramMetricFamily(
        "securechat_delivery_seconds",
        "From reading an entry to handing it, on disk, to its readers' connections.",
        buckets=buckets,
        sum_value=counters.latency_sum,
    )


@dataclass(eq=False)
class _Request:
    socket: socket.socket
    deadline: float
    received: bytearray = field(default_factory=bytearray)
    reply: memoryview | None = None


class MetricsServer:
    """See the module."""

    def __init__(
        self,
        port: int,
        counters: Counters,
        status: Callable[[], Status],
        *,
        stuck: Callable[[], str],
        unready: Callable[[], str],
    ) -> None:
        """`stuck` and `unready` say what is wrong, or nothing if all is well. Port 0 takes a free one.

        Raises UsageError if the port is taken.
        """
        self._registry = CollectorRegistry()
        self._registry.register(ServerCollector(counters, status))
        ProcessCollector(registry=self._registry)
        self._rendered = b""
        self._rendered_at = -RENDER_SECONDS
        self._checks = {b"/livez": stuck, b"/readyz": unready}
        try:
            self._listener = socket.create_server((HOST, port), backlog=MAX_REQUESTS)
        except OSError as error:
            raise UsageError(f"cannot serve metrics on {HOST} port {port}: {error.strerror or error}") from error
        self._listener.settimeout(0)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._waker = Waker()
        self._requests: dict[_Request, None] = {}  # oldest first
        self._thread = threading.Thread(target=self._run, name="metrics")

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        self._waker.wake()
        join(self._thread)

    def close(self) -> None:
        """Release everything; after `stop`, or instead of `start`."""
        for sock in (self._listener, *(each.socket for each in self._requests)):
            sock.close()
        self._waker.close()
        self._selector.close()

    def _run(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(self._waker, selectors.EVENT_READ, None)
        while True:
            now = time.monotonic()
            for request in [each for each in self._requests if each.deadline <= now]:
                self._drop(request)
            first = next(iter(self._requests), None)
            for key, _ in self._selector.select(None if first is None else first.deadline - now):
                if key.fileobj is self._waker:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                elif key.data in self._requests:
                    try:
                        self._serve(key.data)
                    except OSError:  # the other side has gone
                        self._drop(key.data)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # gone before we came to it
            sock, _ = self._listener.accept()
            sock.settimeout(0)
            if len(self._requests) >= MAX_REQUESTS:
                self._drop(next(iter(self._requests)))
            request = _Request(sock, time.monotonic() + REQUEST_SECONDS)
            self._requests[request] = None
            self._selector.register(sock, selectors.EVENT_READ, request)

    def _drop(self, request: _Request) -> None:
        del self._requests[request]
        self._selector.unregister(request.socket)
        request.socket.close()

    def _serve(self, request: _Request) -> None:
        if request.reply is None:
            data = request.socket.recv(MAX_HEAD)
            request.received += data
            if not data or len(request.received) > MAX_HEAD:
                self._drop(request)
                return
            if b"\r\n\r\n" not in request.received:
                return
            request.reply = memoryview(self._answer(bytes(request.received.partition(b"\r\n")[0])))
            self._selector.modify(request.socket, selectors.EVENT_WRITE, request)
        request.reply = request.reply[request.socket.send(request.reply) :]
        if not request.reply:
            self._drop(request)

    def _answer(self, line: bytes) -> bytes:
        """The whole response to a request with this first line."""
        method, _, rest = line.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if path != b"/metrics" and path not in self._checks:
            return _response("404 Not Found", b"/metrics, /livez or /readyz\n")
        if method != b"GET":
            return _response("405 Method Not Allowed", b"GET only\n", "Allow: GET\r\n")
        try:
            if path == b"/metrics":
                return _response("200 OK", self._metrics())
            problem = self._checks[path]()
        except Exception:
            log.exception("internal error in the metrics")
            return _response("500 Internal Server Error", b"see the log\n")
        if problem:
            return _response("503 Service Unavailable", f"{problem}\n".encode())
        return _response("200 OK", b"ok\n")

    def _metrics(self) -> bytes:
        now = time.monotonic()
        if now - self._rendered_at >= RENDER_SECONDS:
            self._rendered = generate_latest(self._registry)
            self._rendered_at = now
        return self._rendered


def _response(status: str, body: bytes, header: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n{header}\r\n"
    )
    return head.encode() + body
