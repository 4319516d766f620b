"""Connecting over real sockets of this machine, with addresses that swallow everything."""

import contextlib
import errno
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from securechat.client import events
from securechat.transport import tcp
from securechat.transport.deadline import Deadline
from securechat.transport.tcp import race
from securechat.transport.tls import shown_certificate
from securechat_lab.cast.live import LiveClient
from tests.support.live import LiveServer

PATIENCE = 60.0
"""Seconds: the whole deadline, which no dead address may use up."""

SHORT = 0.5
"""Seconds, where the end of the deadline is what is waited for."""


def address(host: str, port: int) -> tcp.Address:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return family, socket.SOCK_STREAM, 0, (host, port)


@contextlib.contextmanager
def dead(host: str, port: int = 0) -> Iterator[int]:
    """A port that answers nothing, as behind a router that drops: its queue is full, and the system drops the rest."""
    with contextlib.ExitStack() as stack:
        family = address(host, port)[0]
        listener = stack.enter_context(socket.create_server((host, port), family=family, backlog=0))
        bound = listener.getsockname()[1]
        while True:
            filler = stack.enter_context(socket.socket(family))
            filler.settimeout(0)
            filler.connect_ex((host, bound))
            if not select.select([], [filler], [], SHORT)[1]:
                break
        yield bound


@contextlib.contextmanager
def alive(host: str, port: int = 0) -> Iterator[int]:
    with socket.create_server((host, port), family=address(host, port)[0]) as listener:
        yield listener.getsockname()[1]


@contextlib.contextmanager
def closed(host: str) -> Iterator[int]:
    """A port at which nothing listens, and which nobody else is given meanwhile."""
    with socket.socket(address(host, 0)[0]) as held:
        held.bind((host, 0))
        yield held.getsockname()[1]


@contextlib.contextmanager
def at_one_port(*places: tuple[Callable[..., contextlib.AbstractContextManager[int]], str]) -> Iterator[int]:
    """Have each of these at its address, all at one port: one that is free at one address may be taken at another."""
    while True:
        with contextlib.ExitStack() as stack:
            port = 0
            try:
                for kind, host in places:
                    port = stack.enter_context(kind(host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            yield port
            return


def reached(link: socket.socket) -> str:
    with link:
        assert link.gettimeout() == 0
        return str(link.getpeername()[0])


def test_a_dead_ipv6_address_does_not_use_up_the_deadline() -> None:
    with at_one_port((dead, "::1"), (alive, "127.0.0.1")) as port:
        with pytest.raises(TimeoutError):  # alone it does
            race([address("::1", port)], Deadline(SHORT))
        assert reached(race([address("::1", port), address("127.0.0.1", port)], Deadline(PATIENCE))) == "127.0.0.1"


def test_the_first_address_is_taken_if_it_answers() -> None:
    with at_one_port((alive, "::1"), (alive, "127.0.0.1")) as port:
        assert reached(race([address("::1", port), address("127.0.0.1", port)], Deadline(PATIENCE))) == "::1"
        assert reached(race([address("127.0.0.1", port), address("::1", port)], Deadline(PATIENCE))) == "127.0.0.1"


def test_many_dead_addresses_of_one_family_come_after_the_first_of_the_other() -> None:
    many = [address("::1", port) for port in range(1, 100)]
    assert tcp._alternate([*many, address("127.0.0.1", 7)])[1] == address("127.0.0.1", 7)
    hosts = ("127.0.0.2", "127.0.0.3", "127.0.0.1")
    with at_one_port(*zip((dead, dead, alive), hosts, strict=True)) as port:
        assert reached(race([address(host, port) for host in hosts], Deadline(PATIENCE))) == "127.0.0.1"


def test_an_address_that_refuses_gives_way_and_if_all_do_that_is_said() -> None:
    with alive("127.0.0.1") as port, closed("127.0.0.1") as refusing_port:
        refusing = address("127.0.0.1", refusing_port)
        assert reached(race([refusing, address("127.0.0.1", port)], Deadline(PATIENCE))) == "127.0.0.1"
        with pytest.raises(ConnectionRefusedError):
            race([refusing, refusing], Deadline(PATIENCE))


def test_a_client_and_a_look_at_a_certificate_get_past_a_dead_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, nowhere = LiveServer(tmp_path), "127.0.0.77"  # from where no other test comes, with a port of its own
    with dead(nowhere, server.port):

        def resolve(_host: str, port: int, *_: object, **__: object) -> list[tuple[int, int, int, str, object]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in (nowhere, "127.0.0.1")]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)  # no name of every machine has a dead address
        client = LiveClient(server, "alice")
        client.wait_for(events.Ready)
        client.close()
        shown_certificate("localhost", server.port, Deadline(PATIENCE))
    assert server.stop() == 0
