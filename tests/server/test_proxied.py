"""Behind a load balancer: whose a connection is, and who may say so."""

import io
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from securechat.errors import PeerError
from securechat.server.app import Server
from securechat.server.carrying import acceptor, proxied
from securechat.server.carrying.proxied import MAX_ANNOUNCEMENT, SIGNATURE, Announcement
from securechat.server.config import Networks
from securechat.server.rate import Rate
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import WAIT, Person, WireClient
from tests.server.test_metrics import until

Start = Callable[..., Server]

LOOPBACK = Networks((ip_network("127.0.0.1"),))
PROXY = "127.0.0.1", 999


def announcement(client: str = "192.0.2.7", port: int = 4242, *, kind: int = 0x21, more: bytes = b"") -> bytes:
    """What a balancer says."""
    address = ip_address(client)
    balancer = ip_address("192.0.2.1" if address.version == 4 else "2001:db8::1")
    family = 0x11 if address.version == 4 else 0x21
    rest = address.packed + balancer.packed + struct.pack("!HH", port, 4433) + more
    return SIGNATURE + struct.pack("!BBH", kind, family, len(rest)) + rest


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours, which does not wait, and the balancer's."""
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (announcement(), ("192.0.2.7", 4242)),
        (announcement("2001:db8::5", 1), ("2001:db8::5", 1)),
        (announcement(more=b"\x04\0\x01x"), ("192.0.2.7", 4242)),
        (announcement(more=bytes(MAX_ANNOUNCEMENT - len(announcement()))), ("192.0.2.7", 4242)),
        (announcement(kind=0x20), PROXY),  # a look whether we live
        (SIGNATURE + b"\x20\0\0\0", PROXY),
        (SIGNATURE + b"\x21\0\0\0", PROXY),  # of a family that it does not name
        (SIGNATURE + b"\x21\x31\0\xd8" + bytes(216), PROXY),  # of Unix sockets
        (SIGNATURE + b"\x21\x12\0\x0c" + bytes(12), PROXY),  # of datagrams
    ],
)
def test_it_is_read_in_whatever_pieces_it_comes_and_nothing_behind_it(
    pair: tuple[socket.socket, socket.socket], said: bytes, means: tuple[str, int]
) -> None:
    ours, theirs = pair
    for split in range(len(said)):
        begun = Announcement(ours, PROXY, 0.0)
        theirs.sendall(said[:split])
        assert begun.read() is None
        theirs.sendall(said[split:] + b"hello")
        assert begun.read() == means
        assert ours.recv(100) == b"hello"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"\x16\x03\x01\x02\x00", "does not begin"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 4242 4433\r\n", "does not begin"),  # version 1
        (SIGNATURE[:-1] + b"\r", "does not begin"),
        (announcement(kind=0x11), "version and command are 0x11"),
        (announcement(kind=0x22), "version and command are 0x22"),
        (SIGNATURE + b"\x21\x11\xff\xff", "would have 65551 bytes"),
        (SIGNATURE + b"\x21\x11" + struct.pack("!H", MAX_ANNOUNCEMENT - 15), "would have 537 bytes"),
        (SIGNATURE + b"\x21\x11\0\x0b", "cut short"),
        (SIGNATURE + b"\x21\x21\0\x23", "cut short"),
    ],
)
def test_what_is_none_is_refused_as_soon_as_that_is_certain(
    pair: tuple[socket.socket, socket.socket], said: bytes, why: str
) -> None:
    ours, theirs = pair
    theirs.sendall(said)
    with pytest.raises(PeerError, match=why):
        Announcement(ours, PROXY, 0.0).read()


def test_one_that_ends_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(announcement()[:-1])
    theirs.close()
    with pytest.raises(PeerError, match="has ended"):
        Announcement(ours, PROXY, 0.0).read()


def is_closed(server: Server, said: bytes = b"") -> bool:
    """Whether the server closes a connection that has said this."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as raw:
        raw.sendall(said)
        try:
            return raw.recv(1) == b""
        except ConnectionResetError:  # there was more than it had read
            return True


def test_each_client_pays_for_itself_by_the_address_that_is_announced(
    start: Start, tls: ssl.SSLContext, log_without_secrets: io.StringIO
) -> None:
    server = start(trusted_proxies=LOOPBACK, attempts_per_address=Rate(2, 0.002))
    with Person(server.port, tls, "alice", announced=announcement("2001:db8::5", 4242)) as alice:
        alice.register().login()
        with Person(server.port, tls, "alice", announced=announcement("192.0.2.7")) as guesser:
            codes = [guesser.ask(m.Login, "alice", bytes(32), guesser.device).code for _ in range(3)]
            assert codes == ["login-refused", "login-refused", "slow-down"]
        with Person(server.port, tls, "alice", announced=announcement("192.0.2.8")) as other:
            assert other.ask(m.Login, "alice", bytes(32), other.device).code == "login-refused"
    assert "[2001:db8::5]:4242" in log_without_secrets.getvalue()


def test_who_comes_from_a_trusted_proxy_and_announces_nobody_is_turned_away(
    start: Start, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, log_without_secrets: io.StringIO
) -> None:
    server = start(trusted_proxies=LOOPBACK)
    assert is_closed(server, b"\x16\x03\x01")
    assert "does not begin with the PROXY protocol" in log_without_secrets.getvalue()
    with monkeypatch.context() as impatient:
        for module in (acceptor, proxied):
            impatient.setattr(module, "ANNOUNCE_SECONDS", 0.05)
        assert is_closed(server, announcement()[:-1]), "what it waits for does not come"
    with WireClient(server.port, tls, announced=announcement()) as client:
        assert client.hello.server_id


def test_of_those_who_say_nothing_the_oldest_gives_way(
    start: Start, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "MAX_ANNOUNCING", 2)
    for module in (acceptor, proxied):
        monkeypatch.setattr(module, "ANNOUNCE_SECONDS", WAIT)
    server = start(trusted_proxies=LOOPBACK)
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) for _ in range(3)]
    assert silent[0].recv(1) == b""
    with WireClient(server.port, tls, announced=announcement()) as client:  # the second has gone for it
        assert client.hello.server_id
    assert silent[1].recv(1) == b""
    silent[2].sendall(announcement()[:-1])
    silent[2].shutdown(socket.SHUT_WR)
    assert silent[2].recv(1) == b""
    for each in silent:
        each.close()


def test_nobody_else_can_be_somebody_by_announcing_it(start: Start, tls: ssl.SSLContext) -> None:
    server = start(trusted_proxies=Networks((ip_network("192.0.2.0/24"),)))
    assert is_closed(server, announcement() + b"\x16\x03\x01\x02\x00" + bytes(50))
    with WireClient(server.port, tls) as client:
        assert client.hello.server_id


def test_a_server_stops_while_one_has_announced_nobody(start: Start) -> None:
    server = start(trusted_proxies=LOOPBACK)
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as silent:
        silent.sendall(SIGNATURE)
        server.stop()
        assert silent.recv(1) == b""


@pytest.mark.parametrize(
    ("written", "trusted", "others"),
    [
        ("10.0.0.5", ["10.0.0.5", "::ffff:10.0.0.5"], ["10.0.0.6", "::1"]),
        ("10.0.0.0/24 fd00:5::/64", ["10.0.0.6", "fd00:5::1", "fd00:5::1%eth0"], ["10.0.1.6", "fd00:6::1"]),
        ("", [], ["10.0.0.5", "::1"]),
    ],
)
def test_which_addresses_are_trusted(written: str, trusted: list[str], others: list[str]) -> None:
    networks = Networks.parse(written)
    assert [networks.hold(host) for host in trusted + others] == [True] * len(trusted) + [False] * len(others)
    assert Networks.parse(str(networks)) == networks


HAPROXY = """
global
    maxconn 100
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend chat
    bind fd@{fd}
    default_backend servers
backend servers
    option tcp-check
    server one 127.0.0.1:{port} send-proxy-v2 check inter 50ms
"""
"""As docs/operations.md has it, for one machine."""


@pytest.fixture
def balanced(tmp_path: Path) -> Iterator[Callable[[Server], int]]:
    """Begin a load balancer in front of a server, and return its port. Needs HAProxy."""
    program = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("there is no haproxy: apt-get install haproxy")
    running: list[subprocess.Popen[bytes]] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def begin(server: Server) -> int:
        config = tmp_path / "haproxy.cfg"
        config.write_text(HAPROXY.format(fd=listener.fileno(), port=server.port))
        running.append(subprocess.Popen([program, "-db", "-q", "-f", config], pass_fds=(listener.fileno(),)))
        port: int = listener.getsockname()[1]
        return port

    yield begin
    listener.close()
    for process in running:
        process.kill()
        process.wait()


def test_behind_haproxy_one_guesser_does_not_use_up_what_others_may_do(
    start: Start, tls: ssl.SSLContext, balanced: Callable[[Server], int]
) -> None:
    server = start(trusted_proxies=LOOPBACK, attempts_per_address=Rate(2, 0.002), metrics_port=0)
    port = balanced(server)
    with Person(port, tls, "alice", source="127.0.0.2") as alice:
        alice.register().login()
        with Person(port, tls, "alice", source="127.0.0.3") as guesser:
            codes = [guesser.ask(m.Login, "alice", bytes(32), guesser.device).code for _ in range(3)]
            assert codes == ["login-refused", "login-refused", "slow-down"]
        with Person(port, tls, "bob", source="127.0.0.2") as bob:
            bob.register().login()
    until(server, ("connections",), 0)  # its looks at us leave nothing behind


def test_behind_haproxy_that_is_not_trusted_nobody_comes_in(
    start: Start, tls: ssl.SSLContext, balanced: Callable[[Server], int]
) -> None:
    port = balanced(start())
    with pytest.raises((ConnectionError, AssertionError)):
        WireClient(port, tls)
