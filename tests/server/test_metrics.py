"""Metrics and health: the numbers are those of what happened, and nobody who asks can hold up anybody."""

import datetime as dt
import http.client
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from securechat import certs
from securechat.errors import UsageError
from securechat.server import app
from securechat.server.admission.newcomers import Newcomers
from securechat.server.app import Server
from securechat.server.operator import metrics
from securechat.server.operator.protocol import GetStatus
from securechat.server.rate import Rate
from securechat.ui.admin import answer
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import WAIT, Person, WireClient

Start = Callable[..., Server]


@pytest.fixture
def server(start: Start) -> Server:
    return start(metrics_port=0)


@pytest.fixture(autouse=True)
def always_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "RENDER_SECONDS", 0.0)


def get(server: Server, path: str, method: str = "GET") -> tuple[int, str]:
    assert server.metrics_port is not None
    connection = http.client.HTTPConnection("127.0.0.1", server.metrics_port, timeout=WAIT)
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body


def numbers(server: Server) -> dict[tuple[str, ...], float]:
    """Every sample: its name and the values of its labels."""
    status, body = get(server, "/metrics")
    assert status == 200
    return {
        (sample.name.removeprefix("securechat_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def until(server: Server, name: tuple[str, ...], value: float) -> None:
    deadline = time.monotonic() + WAIT
    while (seen := numbers(server).get(name)) != value:
        assert time.monotonic() < deadline, (name, seen)
        time.sleep(0.01)


def test_the_numbers_are_those_of_what_happened(
    server: Server, enter: Callable[..., Person], tls: ssl.SSLContext
) -> None:
    alice, bob = enter("alice"), enter("bob")
    alice.open_direct("bob")
    (conversation,) = alice.groups
    alice.subscribe(conversation)
    for text in ("one", "two", "three"):
        alice.say(conversation, text)
    with WireClient(server.port, tls) as stranger:
        stranger.ask(m.Login, "alice", bytes(32), bytes(16))
        stranger.ask(m.Resume, bytes(32), bytes(16), bytes(64))
        seen = numbers(server)
    assert seen["accounts",] == 2
    assert seen["connections",] == 3
    assert seen["sessions",] == 2
    assert (seen["waiting",], seen["password_queue",]) == (0, 0)
    assert seen["logins_total", "register", "accepted"] == 2
    assert seen["logins_total", "password", "accepted"] == 2
    assert seen["logins_total", "password", "login-refused"] == 1
    assert seen["logins_total", "resume", "token-refused"] == 1
    assert seen["entries_accepted_total",] == 4  # with the commit that opened the conversation
    assert seen["log_entries",] == 4
    assert seen["store_bytes",] > 4096
    assert seen["handshake_bytes",] > 1000  # the commit by which the two came together
    assert seen["delivery_seconds_count",] == seen["delivery_seconds_bucket", "+Inf"] == 4
    assert 0 < seen["delivery_seconds_sum",] < WAIT
    held = [seen["account_held_bytes", rank] for rank in ("1", "2")]  # alice's and bob's, and nothing names them
    assert held[0] > held[1] > 1000
    assert seen["held_bytes",] == sum(held) < seen["quota_bytes",]
    assert len([each for each in seen if each[0] == "account_held_bytes"]) == 2
    with server._sequencer._lock:
        assert held == [server._store.held(name) for name in ("alice", "bob")]
    assert "of those that hold most: 0.0, 0.0; each may hold 1,024 MiB" in show(server)
    assert seen["certificate_expiry_timestamp_seconds",] > time.time()
    assert seen["process_open_fds",] > 5
    until(server, ("connections",), 2)
    bob.bye()
    until(server, ("sessions",), 1)


def test_refusals_are_counted_by_code_and_by_rate(start: Callable[..., Server], tls: ssl.SSLContext) -> None:
    server = start(metrics_port=0, requests_per_account=Rate(20, 0.01))
    with Person(server.port, tls, "alice") as alice:
        alice.register().login()
        assert numbers(server)["refused_by_rate_total", "requests_per_account"] == 0
        codes = [getattr(alice.ask(m.Join, "#nowhere"), "code", "") for _ in range(30)]
        assert 0 < codes.count("not-found") < 20
        until(server, ("refused_by_rate_total", "requests_per_account"), codes.count("slow-down"))
        assert numbers(server)["refused_total", "not-found"] == codes.count("not-found")
        assert f"{codes.count('slow-down')} by requests_per_account" in show(server)
        queues = "queues              0 passwords, 0 commits, 0 portions of history, 0 parts of files, 0 requests"
        assert queues in show(server)  # as she asks for nothing more, and has not gone: her end would be one


def show(server: Server) -> str:
    """What `securechat admin status` prints."""
    return answer(server._config.data, GetStatus(), as_json=False)


def test_commits_are_counted_by_outcome(server: Server, enter: Callable[..., Person]) -> None:
    alice = enter("alice")
    alice.open_room("#lobby")
    (room,) = alice.groups
    alice.subscribe(room)
    assert isinstance(alice.change(room), m.Accepted)
    assert alice.ask(m.Commit, room, 2, b"\x00\x01\x00\x01nonsense", b"", b"").code == "bad-request"
    seen = numbers(server)
    assert seen["commits_total", "accepted"] == 1
    assert seen["commits_total", "bad-request"] == 1


def test_who_waits_is_counted(start: Start, tls: ssl.SSLContext) -> None:
    server = start(metrics_port=0, max_clients=1)
    with Person(server.port, tls, "alice") as alice, Person(server.port, tls, "bob") as bob:
        alice.register().login()
        bob.register().ask(m.Login, "bob", bob.secret, bob.device)
        until(server, ("waiting",), 1)
        assert numbers(server)["sessions",] == 2


def test_who_is_turned_away_is_counted(start: Start, tls: ssl.SSLContext) -> None:
    server = start(metrics_port=0, connections_per_address=Rate(2, 0.002))
    server._desk.newcomers = Newcomers(limit=1)
    with WireClient(server.port, tls) as first, WireClient(server.port, tls):
        closing = first.ended().closing
        assert closing is not None
        assert closing.reason == "too-slow"
        with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as third:
            assert third.recv(1) == b""
        seen = numbers(server)
        server._most_connections = 0
        with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as fourth:
            assert fourth.recv(1) == b""
        until(server, ("turned_away_total", "no-files"), 1)
    assert (seen["turned_away_total", "gave-way"], seen["turned_away_total", "too-many"]) == (1, 1)


def test_nothing_that_others_choose_is_in_the_numbers(server: Server, enter: Callable[..., Person]) -> None:
    enter("mallory").open_room("#secret-room")
    body = get(server, "/metrics")[1]
    for word in ("mallory", "secret-room", "127.0.0.1"):
        assert word not in body


def test_health_and_what_is_not_there(server: Server) -> None:
    assert get(server, "/livez") == (200, "ok\n")
    assert get(server, "/readyz") == (200, "ok\n")
    assert get(server, "/metrics?x=1")[0] == 200
    assert get(server, "/")[0] == get(server, "/metrics/../livez")[0] == get(server, "/debug")[0] == 404
    for method in ("POST", "HEAD", "DELETE", "get"):
        assert get(server, "/metrics", method)[0] == 405


def test_an_expired_certificate_is_not_ready(start: Start, tmp_path: Path) -> None:
    made = tmp_path / "certs"
    certs.generate(made, ["127.0.0.1"], now=dt.datetime.now(dt.UTC) - dt.timedelta(days=certs.DEFAULT_DAYS + 1))
    server = start(metrics_port=0, cert=made / "server.pem", key=made / "server-key.pem")
    status, body = get(server, "/readyz")
    assert (status, body) == (503, "the certificate has expired: renew it and send SIGHUP\n")
    assert get(server, "/livez")[0] == 200


def test_a_stuck_io_thread_is_not_alive(
    server: Server, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "STUCK_SECONDS", 2.0)
    deadline = time.monotonic() + 60

    def wait_for(status: int) -> None:
        while get(server, "/livez")[0] != status:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with WireClient(server.port, tls) as client:
        with server._sequencer._lock:  # the I/O thread needs it for its next turn
            client.drop()
            wait_for(503)
        wait_for(200)


@pytest.fixture
def slow(server: Server) -> Iterator[list[socket.socket]]:
    """More connections than are served at once, which ask nothing."""
    assert server.metrics_port is not None
    opened = [
        socket.create_connection(("127.0.0.1", server.metrics_port), timeout=WAIT)
        for _ in range(2 * metrics.MAX_REQUESTS)
    ]
    yield opened
    for sock in opened:
        sock.close()


def test_slow_scrapers_hold_up_nobody_and_the_oldest_give_way(server: Server, slow: list[socket.socket]) -> None:
    for sock in slow[-3:]:
        sock.send(b"GET /metr")
    assert get(server, "/livez")[0] == 200
    assert all(sock.recv(1) == b"" for sock in slow[: metrics.MAX_REQUESTS])


def test_a_request_has_its_time(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "REQUEST_SECONDS", 0.3)
    server = start(metrics_port=0)
    assert server.metrics_port is not None
    with socket.create_connection(("127.0.0.1", server.metrics_port), timeout=WAIT) as sock:
        sock.send(b"GET /metrics HTTP/1.1\r\n")
        assert sock.recv(1) == b""


def test_what_is_no_request_is_closed(server: Server) -> None:
    assert server.metrics_port is not None
    for data in (b"A" * (metrics.MAX_HEAD + 1), b"\r\n\r\n", os.urandom(100) + b"\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.metrics_port), timeout=WAIT) as sock:
            sock.sendall(data)
            try:
                answer = sock.recv(12)
            except ConnectionError:
                answer = b""
            assert answer in (b"", b"HTTP/1.1 404")
    assert get(server, "/livez")[0] == 200


def test_a_taken_port_is_an_error_and_nothing_stays_open(server: Server, start: Start, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot serve metrics"):
        start(metrics_port=server.metrics_port, data=tmp_path / "other")
    start(data=tmp_path / "other")  # its files are free


def test_without_the_setting_nothing_is_served_or_imported(start: Start) -> None:
    server = start()
    assert server.metrics_port is None
    assert server._metrics is None
