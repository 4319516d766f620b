"""Whatever a stranger sends: an error or a closed connection, one line in the log, no traceback, and others served."""

import contextlib
import logging
import random
import socket
import ssl
import time
import typing
from collections.abc import Callable, Iterator

import msgspec
import pytest

from securechat.server.app import Server
from securechat.transport.tls import client_context
from securechat.wire import limits
from securechat.wire import messages as m
from securechat.wire.frames import encode_frame
from securechat_lab.cast.wire_client import WAIT, Person, WireClient
from tests.support.log import logged
from tests.support.pair import example

Connect = Callable[..., WireClient]


@pytest.fixture(autouse=True)
def calm(server: Server, tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Around every test: nothing worse than INFO is logged, and the server serves afterwards."""
    caplog.set_level(logging.INFO, "securechat.server")
    yield
    with WireClient(server.port, tls) as client:
        assert client.hello.server_name == "securechat"
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
    assert "Traceback" not in caplog.text


def lines_about(caplog: pytest.LogCaptureFixture, port: int) -> list[dict[str, typing.Any]]:
    """Wait for the line that says that the connection from `port` is closed; all lines about it."""
    deadline = time.monotonic() + WAIT
    while True:
        found = [line for line in logged(caplog) if line.get("client") == f"127.0.0.1:{port}"]
        if any(line["event"] == "closed" for line in found):
            return found
        assert time.monotonic() < deadline, caplog.messages
        time.sleep(0.01)


def raw(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=WAIT)


def until_closed(sock: socket.socket) -> bytes:
    received = b""
    while True:
        try:
            data = sock.recv(65536)
        except ConnectionError:
            return received
        if not data:
            return received
        received += data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (random.Random(1).randbytes(5000), "wrong version number"),
        (b"hello?\r\n" * 10, "wrong version number"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "http request"),
        (b"\x00\x00\x00\x05\x91\xa4Ping", ""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600), ""),
    ],
)
def test_plain_tcp_is_closed_with_one_line(
    server: Server, caplog: pytest.LogCaptureFixture, data: bytes, reason: str
) -> None:
    with raw(server) as sock:
        port = sock.getsockname()[1]
        sock.sendall(data)
        until_closed(sock)
    (line,) = lines_about(caplog, port)
    assert "TLS refused" in line["reason"]
    assert reason in line["reason"]


def test_a_connection_that_is_closed_at_once_is_one_line(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with raw(server) as sock:
        port = sock.getsockname()[1]
    assert len(lines_about(caplog, port)) == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2])
def test_tls_1_2_is_refused(server: Server, caplog: pytest.LogCaptureFixture, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    with raw(server) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(ssl.SSLError, match="(?i)protocol version|alert"):
            context.wrap_socket(sock)
    (line,) = lines_about(caplog, port)
    assert "unsupported protocol" in line["reason"]


def test_a_client_without_our_alpn_is_refused(
    server: Server, certificates: typing.Any, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates / "ca.pem")
    with raw(server) as sock:
        port = sock.getsockname()[1]
        with context.wrap_socket(sock, server_hostname="127.0.0.1") as tls:
            until_closed(tls)
    (line,) = lines_about(caplog, port)
    assert "does not speak securechat/1" in line["reason"]


def test_the_twin_with_our_alpn_is_greeted(server: Server, certificates: typing.Any) -> None:
    with WireClient(server.port, client_context(certificates / "ca.pem")) as client:
        assert client.hello.versions == [limits.PROTOCOL_VERSION]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 100,
        b"\x00\x20\x00\x00",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x10\x00" + b"\x91" * 4096,
        encode_frame(m.ClientHello([7], "new")),
        encode_frame(m.ClientHello([1], "x" * 65)),
    ],
)
def test_nonsense_inside_tls_is_told_and_closed(
    connect: Connect, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    client = connect()
    client.send_raw(data)
    closing = client.ended().closing
    assert closing is not None
    assert closing.reason == "protocol-error"
    (line,) = lines_about(caplog, client.socket.getsockname()[1])
    assert line["account"] == ""


def test_an_oversized_frame_is_refused_by_its_length(connect: Connect) -> None:
    client = connect()
    client.send_raw((limits.MAX_FRAME_BEFORE_LOGIN + 1).to_bytes(4, "big"))
    closing = client.ended().closing
    assert closing is not None
    assert "4097 bytes, where 4096 are allowed" in closing.text


def test_after_login_large_frames_are_taken_and_too_large_ones_refused(enter: Callable[..., Person]) -> None:
    alice = enter("alice")
    assert isinstance(alice.ask(m.Commit, bytes(32), 1, bytes(1 << 20), b"", b""), m.Refused)
    alice.send_raw((limits.MAX_FRAME + 1).to_bytes(4, "big"))
    assert alice.ended().closing is not None


REQUESTS = [kind for kind in typing.get_args(m.FromClient) if issubclass(kind, m.Request)]


@pytest.mark.parametrize("kind", [kind for kind in REQUESTS if kind not in (m.Register, m.Login, m.Resume)])
def test_every_request_before_login_is_refused(connect: Connect, kind: type[m.Request]) -> None:
    client = connect()
    client.send_raw(encode_frame(example(kind, 9)))
    body = bytearray()
    while b"Refused" not in body:
        body += client.tls.receive(client.socket.recv(65536))
    refused = msgspec.msgpack.decode(body[4:], type=m.Refused)
    assert (refused.id, refused.code) == (9, "not-now")


@pytest.mark.parametrize("kind", [m.Acknowledge, m.Entry, m.Presence])
def test_events_before_login_end_the_session(connect: Connect, kind: type[m.Message]) -> None:
    client = connect()
    client.send_raw(encode_frame(example(kind)))
    closing = client.ended().closing
    assert closing is not None
    assert closing.reason == "protocol-error"


def test_a_silent_handshake_ends_after_its_time(
    server: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_SECONDS", 1.0)
    with raw(server) as silent, raw(server) as dripping:
        hello = bytes.fromhex("1603010200010001fc0303")
        dripped = 0
        silent.settimeout(0)
        dripping.settimeout(0)
        started = time.monotonic()
        open_ones = {silent, dripping}
        while open_ones:
            assert time.monotonic() - started < limits.HANDSHAKE_SECONDS + WAIT
            if dripping in open_ones and dripped < len(hello):
                with contextlib.suppress(ConnectionError):  # closed since we looked, with a byte that nobody has read
                    dripping.send(hello[dripped : dripped + 1])
                dripped += 1
            for sock in tuple(open_ones):
                try:
                    if not sock.recv(100):
                        open_ones.discard(sock)
                except BlockingIOError:
                    pass
                except ConnectionError:
                    open_ones.discard(sock)
            time.sleep(0.2)
        ports = [silent.getsockname()[1], dripping.getsockname()[1]]
    for port in ports:
        (line,) = lines_about(caplog, port)
        assert "silent" in line["reason"]


def test_others_are_served_while_a_handshake_drips(server: Server, tls: ssl.SSLContext) -> None:
    slow = [raw(server) for _ in range(50)]
    try:
        for sock in slow:
            sock.send(b"\x16")
        with Person(server.port, tls, "alice") as alice:
            alice.register().login()
    finally:
        for sock in slow:
            sock.close()


def test_a_random_stream_after_login_ends_only_its_own_session(enter: Callable[..., Person]) -> None:
    alice, bob = enter("alice"), enter("bob")
    rng = random.Random(7)
    alice.send_raw(b"\x00\x00\x01\x00" + rng.randbytes(256))
    assert alice.ended().closing is not None
    assert isinstance(bob.ask(m.ListRooms), m.Rooms)


HARMLESS = (m.ListRooms, m.FetchStatements, m.FetchKeepsake, m.ExtendToken, m.FetchSessions, m.EndSession)
"""Requests without a bad value."""


def test_bad_values_of_every_request_are_answered(enter: Callable[..., Person]) -> None:
    alice = enter("alice")
    for kind in REQUESTS:
        if kind in (m.Register, m.Login, m.Resume, m.PublishKeyPackages):
            continue
        message = example(kind, alice.protocol.next_id())
        alice.protocol._in_flight[message.id] = kind  # type: ignore[attr-defined]  # every request has an id
        alice.send_raw(encode_frame(message))
        reply = alice.take(m.Reply, lambda reply, message=message: reply.id == message.id)  # type: ignore[misc]  # bound at once
        assert isinstance(reply, m.Refused) or kind in HARMLESS, reply


def test_a_name_with_terminal_codes_does_not_reach_the_log(
    server: Server, tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    with WireClient(server.port, tls) as client:
        reply = client.ask(m.Register, "\x1b[31mred", bytes(32))
        assert reply.code == "bad-request"
        reply = client.ask(m.Login, "\x1b[31mred\n", bytes(32), bytes(16))
        assert reply.code == "login-refused"
        client.send_raw(encode_frame(m.Closing("bye", "\x1b[2J\nfake line")))
        port = client.socket.getsockname()[1]
    lines = lines_about(caplog, port)
    assert [line["event"] for line in lines] == ["refused", "refused", "closed"]
    assert [line["account"] for line in lines] == ["", "", ""]  # nobody has that name: it may be a password


def test_a_client_that_asks_and_does_not_read_is_not_read_from(enter: Callable[..., Person]) -> None:
    alice = enter("alice")
    alice.socket.settimeout(0)
    enough = 16 << 20  # more than all buffers between the two, and less than a server should hold for anybody
    sent, waiting, progress = 0, b"", time.monotonic()
    while sent < enough and time.monotonic() - progress < 1:
        if not waiting:
            alice.tls.write(encode_frame(m.Ping()) * 20_000)
            waiting = alice.tls.data_to_send()
        try:
            taken = alice.socket.send(waiting)
        except BlockingIOError:
            time.sleep(0.02)
            continue
        sent, waiting, progress = sent + taken, waiting[taken:], time.monotonic()
    assert sent < enough
