"""A network that cuts, resets, stalls, delays and crumbles: the clients get through, and nothing is lost."""

import socket
import time
from collections.abc import Callable

import pytest

from securechat_lab.cast.live import PATIENCE, Through
from tests.support.chaos import FAULTS, ChaosProxy
from tests.support.live import LiveServer
from tests.support.talker_process import Talker, close_and_look, gather, say_last_words


def test_what_is_said_through_a_bad_network_arrives_once_and_in_order(
    server: LiveServer, talkers: Callable[..., list[Talker]]
) -> None:
    with ChaosProxy(server.port, seed=4, faults=(), calm=1 << 16) as proxy:
        people = talkers(Through(server.folder, server.ca, proxy.port), "alice", "bob", "carol")
        gather(people)
        proxy.faults = FAULTS
        number = 0
        deadline = time.monotonic() + PATIENCE
        while set(proxy.happened) != set(FAULTS) or number < 100:
            assert time.monotonic() < deadline, proxy.happened
            number += 1
            for talker in people:
                talker.tell("say", "#lobby", f"{talker.name} {number}")
            time.sleep(0.02)  # the pace of the traffic; nothing is waited for
        proxy.faults = ()
        say_last_words(people)
        assert close_and_look(server, people) > 300


def test_a_plain_proxy_changes_no_byte_and_a_cut_is_a_reset() -> None:
    said = bytes(range(256)) * 1000
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        ChaosProxy(listener.getsockname()[1], seed=0, faults=("crumbs", "delay")) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as client,
        listener.accept()[0] as server,
    ):
        client.sendall(said)
        heard = b""
        while len(heard) < len(said):
            heard += server.recv(1 << 16)
        assert heard == said
        assert proxy.happened["crumbs"] > 0
        proxy.cut_all()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
