"""SIGHUP: a new certificate and limits for newcomers; the others notice nothing, and a broken file changes nothing."""

import datetime as dt
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from securechat import certs
from securechat.server.app import Server
from securechat.server.config import ServerConfig
from securechat.server.rate import Rate
from securechat.transport.certificate_files import read_certificate
from securechat.transport.tls import client_context
from securechat.wire import messages as m
from securechat_lab.cast.wire_client import WAIT, Person, WireClient
from tests.support.server_process import ServerProcess
from tests.support.uploads import PART, bytes_of, download, put, upload


class Site:
    """A server process with a settings file, and its own certificates."""

    def __init__(self, folder: Path) -> None:
        self.certs = folder / "certs"
        self.settings = folder / "server.toml"
        self.settings.write_text("")
        self.renew()
        self.server = ServerProcess(self.certs, folder / "data", "--config", str(self.settings))
        self.tls = client_context(self.certs / "ca.pem")

    def renew(self, days_ago: int = 0) -> None:
        certs.generate(self.certs, ["127.0.0.1"], now=dt.datetime.now(dt.UTC) - dt.timedelta(days=days_ago))

    def reload(self, event: str) -> dict[str, object]:
        """Send SIGHUP and wait for what the server says about it."""
        before = len(self.server.lines())
        self.server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while True:
            for line in self.server.lines()[before:]:
                if line["event"] in ("reloaded", "not reloaded: all stays as it was"):
                    assert line["event"].startswith(event), line
                    return line
            assert time.monotonic() < deadline, self.server.lines()
            time.sleep(0.01)

    def shown_serial(self) -> int:
        with (
            socket.create_connection(("127.0.0.1", self.server.port), timeout=WAIT) as sock,
            self.tls.wrap_socket(sock, server_hostname="127.0.0.1") as tls,
        ):
            certificate = tls.getpeercert()
            assert certificate is not None
            return int(str(certificate["serialNumber"]), 16)

    def serial(self) -> int:
        return read_certificate(self.certs / "server.pem").serial_number


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    opened = Site(tmp_path)
    with opened.server:
        yield opened


def test_a_renewed_certificate_is_shown_to_who_comes_next_and_disturbs_nobody(site: Site) -> None:
    with Person(site.server.port, site.tls, "alice") as alice:
        alice.register().login()
        old = site.shown_serial()
        site.renew()
        assert site.shown_serial() == old != site.serial()  # not before it is told to
        assert site.reload("reloaded")["settings"] == []
        assert site.shown_serial() == site.serial()
        assert isinstance(alice.ask(m.ListRooms), m.Rooms)
    assert site.server.end(signal.SIGTERM) == 0


def test_devices_resume_over_connections_of_before_and_after_a_renewal(site: Site) -> None:
    """Each proof is about the certificate that its own connection was greeted with."""
    with (
        Person(site.server.port, site.tls, "alice") as alice,
        WireClient(site.server.port, site.tls) as before,
        WireClient(site.server.port, site.tls) as liar,
    ):
        alice.register().login()
        site.renew()
        site.reload("reloaded")
        with WireClient(site.server.port, site.tls) as after:
            assert before.shown != after.shown
            wrong = replace(liar.channel, shown=after.shown)
            assert liar.ask(m.Resume, *alice.credentials(wrong)).code == "token-refused"
            for client in (before, after):
                assert isinstance(client.ask(m.Resume, *alice.credentials(client.channel)), m.LoggedIn)


def test_what_is_wrong_with_a_certificate_is_said_and_the_old_one_stays(site: Site) -> None:
    old = site.shown_serial()
    chain, key = site.certs / "server.pem", site.certs / "server-key.pem"
    whole = chain.read_bytes()
    site.renew()
    new, new_key = chain.read_bytes(), key.read_bytes()

    def refused(reason: str) -> None:
        assert reason in str(site.reload("not reloaded")["reason"])
        assert site.shown_serial() == old

    chain.write_bytes(new[: len(new) // 3])
    refused("server.pem is damaged")
    chain.write_bytes(whole)  # the old certificate with the new key
    refused("key values mismatch")
    chain.write_bytes(new)
    key.write_bytes(new_key[:-30])
    refused("server-key.pem is damaged")
    key.unlink()
    refused("does not exist")
    site.renew(days_ago=certs.DEFAULT_DAYS + 1)
    refused("out of date")
    site.renew(days_ago=-2)
    refused("out of date")
    site.renew()
    site.reload("reloaded")
    assert site.shown_serial() == site.serial()


def test_new_limits_hold_from_now_on(site: Site) -> None:
    site.settings.write_text('max_clients = 1\nregistration = "open"\n')
    site.reload("reloaded")
    with Person(site.server.port, site.tls, "alice") as alice, Person(site.server.port, site.tls, "bob") as bob:
        alice.register().login()
        bob.register()
        reply = bob.ask(m.Login, "bob", bob.secret, bob.device)
        assert (type(reply), reply.place) == (m.LoggedIn, 1)
        site.settings.write_text(
            'max_clients = 2\nregistration = "closed"\ngreeting = "new"\nattempts_per_account = "1 + 0.01/s"\n'
        )
        line = site.reload("reloaded")
        assert line["settings"] == ["greeting", "max_clients", "registration", "attempts_per_account"]
        assert bob.take(m.Seat).place == 0
        with WireClient(site.server.port, site.tls) as client:
            assert (client.hello.greeting, client.hello.registration) == ("new", "closed")
            assert client.ask(m.Register, "carol", bytes(32)).code == "registration-closed"
            codes = [client.ask(m.Login, "carol", bytes(32), bytes(16)).code for _ in range(2)]
            assert codes == ["login-refused", "slow-down"]
        site.settings.write_text("max_clients = 1\n")
        site.reload("reloaded")
        assert isinstance(alice.ask(m.ListRooms), m.Rooms)  # those who have a seat keep it
        assert isinstance(bob.ask(m.ListRooms), m.Rooms)


def test_room_for_files_that_is_taken_or_given_counts_from_the_next_part_on(site: Site) -> None:
    site.settings.write_text('registration = "open"\n')
    site.reload("reloaded")
    with Person(site.server.port, site.tls, "alice") as alice:
        alice.register().login()
        alice.open_room("#mine")
        (room,) = alice.groups
        data = bytes_of(200_000)
        blob = upload(alice, room, data, upto=PART)
        site.settings.write_text("blob_bytes = 0\n")
        site.reload("reloaded")
        assert put(alice, room, blob, data, PART).code == "disk-full"
        site.settings.write_text('blob_bytes = "1 GiB"\n')
        site.reload("reloaded")
        assert download(alice, room, upload(alice, room, data, blob)) == data


def test_every_rate_is_taken_over(start: Callable[..., Server], config: ServerConfig) -> None:
    server = start()
    rates = [field.name for field in fields(config) if isinstance(getattr(config, field.name), Rate)]
    assert set(server._rates._by_setting) == set(rates)
    other: dict[str, Any] = dict.fromkeys(rates, Rate(7, 0.5))
    server.reload(lambda: replace(config, **other))
    assert {(limiter.interval, round(limiter.capacity)) for limiter in server._rates._by_setting.values()} == {(2, 14)}


def test_who_is_connected_has_the_new_rates_too(site: Site) -> None:
    with Person(site.server.port, site.tls, "alice") as alice:
        alice.register().login()
        assert [type(alice.ask(m.ListRooms)) for _ in range(5)] == [m.Rooms] * 5
        site.settings.write_text('requests_per_account = "1 + 0.01/s"\n')
        assert site.reload("reloaded")["settings"] == ["requests_per_account"]
        # What flowed out before may still be missing for some milliseconds: then the first is refused as well.
        answers = [alice.ask(m.ListRooms) for _ in range(4)]
        refused = [answer.code for answer in answers if isinstance(answer, m.Refused)]
        assert refused in (["slow-down"] * 3, ["slow-down"] * 4)


def test_a_bad_setting_changes_nothing_not_even_the_certificate(site: Site) -> None:
    old = site.shown_serial()
    site.renew()
    site.settings.write_text('greeting = "new"\nmax_clients = 0\n')
    assert "server.toml, line 2, max_clients" in str(site.reload("not reloaded")["reason"])
    site.settings.write_text('greeting = "new"\nmax_cli')  # an editor is still writing
    assert "at end of document" in str(site.reload("not reloaded")["reason"])
    site.settings.unlink()
    assert "No such file" in str(site.reload("not reloaded")["reason"])
    assert site.shown_serial() == old
    with WireClient(site.server.port, site.tls) as client:
        assert client.hello.greeting == ""


def test_what_only_a_new_start_can_change_is_named(site: Site) -> None:
    site.settings.write_text('host = "0.0.0.0"\ndurability = "memory"\nmetrics_port = 9\ngreeting = "new"\n')
    assert site.reload("reloaded")["settings"] == ["greeting"]
    (line,) = [line for line in site.server.lines() if line["event"] == "settings that the next start will change"]
    assert line["settings"] == ["host", "metrics_port", "durability"]
    site.settings.write_text("")
    assert site.reload("reloaded")["settings"] == ["greeting"]


def test_reloads_among_handshakes_break_none(site: Site) -> None:
    for _ in range(30):
        os.kill(site.server.process.pid, signal.SIGHUP)
        assert site.shown_serial() == site.serial()
    assert site.server.end(signal.SIGTERM) == 0
    assert {line["level"] for line in site.server.lines()} <= {"debug", "info"}
