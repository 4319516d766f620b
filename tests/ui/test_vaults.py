"""However a server's address is typed, and wherever it moves: its vault is found, over TLS, in real files."""

import os
import queue
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from securechat import certs
from securechat.client import events
from securechat.client.password_source import PasswordSource
from securechat.client.vault.vault import Vault
from securechat.client.vault_files import CARD, KEY, beside
from securechat.errors import RefusedError, SecurechatError, StorageError, TrustError, UnreachableError, UsageError
from securechat.files import InUseError
from securechat.transport.certificate_files import pin_of
from securechat.ui.start import Options, Start, open_client, prepare
from securechat_lab.cast.live import PASSWORD, PATIENCE, LiveClient
from tests.support.live import LiveServer

NAMES = ("bücher.example", "new.example")
"""Hosts that this machine is in these tests."""


@pytest.fixture(autouse=True)
def here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    request.getfixturevalue("cheap_argon2")
    resolve = socket.getaddrinfo
    own = {name.encode("idna").decode() for name in NAMES}

    def found(host: str, *others: Any, **named: Any) -> Any:
        return resolve("127.0.0.1" if host in own else host, *others, **named)

    monkeypatch.setattr(socket, "getaddrinfo", found)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    server = LiveServer(tmp_path, hosts=NAMES)
    yield server
    assert server.stop() == 0


@pytest.fixture
def options(tmp_path: Path, server: LiveServer) -> Options:
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "vaults").mkdir()
    return Options(
        user="alice", server=f"localhost:{server.port}", ca=server.ca, pin="", vault=tmp_path / "vaults",
        password_file=tmp_path / "password", register=True, new_identity=False, invite="",
    )  # fmt: skip


def enter(options: Options) -> tuple[Start, list[events.Event]]:
    """Start the client, until it is ready or has ended. Return what it told; raises what ends it."""
    start = prepare(options)
    told: queue.SimpleQueue[events.Event] = queue.SimpleQueue()
    seen: list[events.Event] = []
    with open_client(start, told.put) as core:
        core.start()
        while not seen or not isinstance(seen[-1], events.Ready | events.Ended):
            seen.append(told.get(timeout=PATIENCE))
        core.close()
        while not isinstance(seen[-1], events.Ended):
            seen.append(told.get(timeout=PATIENCE))
    error = seen[-1].error
    if isinstance(error, SecurechatError):
        raise error
    assert error is None
    return start, seen


def vaults(options: Options) -> list[Path]:
    return sorted(options.vault.glob("*.vault"))


def at(options: Options, host: str, port: int) -> Options:
    """The same as they would be typed later: without a CA."""
    return replace(options, server=f"{host}:{port}", ca=None, register=False)


def test_a_vault_is_not_closed_under_a_core_that_does_not_end(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: queue.SimpleQueue[events.Event] = queue.SimpleQueue()
    goes_on = threading.Event()

    def slowly(event: events.Event) -> None:
        told.put(event)
        if isinstance(event, events.Ready):
            goes_on.wait(PATIENCE)

    start = prepare(options)
    with monkeypatch.context() as patch, open_client(start, slowly, again=True) as core:
        patch.setattr("securechat.ui.start.END_SECONDS", 0.1)
        core.start()
        while not isinstance(told.get(timeout=PATIENCE), events.Ready):
            pass
    with pytest.raises(InUseError), open_client(start, told.put):
        pass
    goes_on.set()
    while not isinstance(event := told.get(timeout=PATIENCE), events.Ended):
        pass
    assert event.error is None
    for _ in range(2):
        enter(replace(options, user="bob"))  # the twin: one that ends can be opened again


def test_one_vault_is_found_however_its_server_is_typed_and_whatever_it_is_called(
    options: Options, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(options.vault)  # where no certs/ca.pem is
    start, _ = enter(options)
    assert vaults(options) == [start.vault]
    for host in ("LocalHost", "127.0.0.1", "localhost.", "BÜCHER.example", "xn--bcher-kva.example", "new.example"):
        found, told = enter(at(options, host, server.port))
        assert found.vault == start.vault
        assert any(isinstance(event, events.LoggedIn) and event.resumed for event in told)
        assert not any(isinstance(event, events.CaChanged) for event in told)
    assert vaults(options) == [start.vault]
    assert len(list(options.vault.glob(f"*{CARD}"))) == 1
    assert server.stop() == 0
    for host in ("localhost", "bücher.example", "127.0.0.1"):  # known by now: nobody has to be asked
        assert prepare(at(options, host, server.port)).vault == start.vault
    with pytest.raises(UnreachableError):
        prepare(at(options, "localhost", 1))
    server.start()


def test_a_new_vault_needs_a_ca_that_was_named_or_is_at_its_usual_place(
    options: Options, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(options.vault)
    enter(options)
    with pytest.raises(UsageError, match=r"no CA certificate certs/ca\.pem"):  # alice's card is no word for bob
        enter(replace(options, user="bob", ca=None))
    other = LiveServer(server.folder / "other")
    for file in ("server.pem", "server-key.pem"):  # another server under the CA that alice's vault knows
        shutil.copy(server.ca.parent / file, other.ca.parent / file)
    assert other.stop() == 0
    other.start()
    with pytest.raises(UsageError, match=r"no CA certificate certs/ca\.pem"):
        enter(replace(options, server=f"localhost:{other.port}", ca=None))
    assert len(vaults(options)) == 1
    monkeypatch.chdir(server.folder)
    enter(replace(options, server=f"localhost:{other.port}", ca=None))
    assert len(vaults(options)) == 2
    assert other.stop() == 0


def test_what_is_new_in_address_and_ca_is_not_the_server_that_it_says_it_is(
    options: Options, server: LiveServer
) -> None:
    assert server.stop() == 0
    (server.folder / "false").mkdir()
    shutil.copytree(server.folder / "data", server.folder / "false" / "data")  # with its id
    false = LiveServer(server.folder / "false")
    server.start()
    enter(options)
    accounts = false.folder / "data" / "accounts.json"
    for named in ({"ca": false.ca}, {"ca": None, "pin": pin_of(false.ca)}):
        with pytest.raises(TrustError, match="has never been let in there, nor trusted its CA"):
            enter(replace(options, server=f"localhost:{false.port}", **named))
    assert not accounts.exists()  # nothing secret was sent there
    assert false.stop() == 0
    # The twins. A known CA at a new address: the server has moved.
    assert server.stop() == 0
    server.port = 0
    server.start()
    start, told = enter(replace(options, server=f"localhost:{server.port}"))
    assert not any(isinstance(event, events.CaChanged) for event in told)
    # A new CA, which is named, at a known address.
    assert server.stop() == 0
    certs.generate(server.ca.parent, new_ca=True)
    server.start()
    found, told = enter(replace(options, server=f"localhost:{server.port}"))
    assert any(isinstance(event, events.CaChanged) for event in told)
    assert found.vault == start.vault
    assert len(vaults(options)) == 1


def aged(server: LiveServer, options: Options, host: str, *, new_identity: bool = False) -> Path:
    """A vault as it was called before, by how its server's host was typed."""
    client = LiveClient(server, "alice", start=False, new_identity=new_identity)
    client.path = options.vault / f"alice@{host}-{server.port}.vault"
    client.start()
    client.wait_for(events.Ready)
    client.close()
    return client.path


def test_a_vault_that_is_called_by_an_address_is_found_by_that_and_then_by_any(
    options: Options, server: LiveServer
) -> None:
    path = aged(server, options, "LocalHost")
    with pytest.raises(UsageError, match=rf"for localhost:{server.port}, .*Start once with --server"):
        enter(replace(options, server=f"127.0.0.1:{server.port}"))
    assert vaults(options) == [path]
    for host in ("localhost", "127.0.0.1", "new.example"):
        start, _ = enter(replace(options, server=f"{host}:{server.port}"))
        assert start.vault == path
    assert vaults(options) == [path]


def test_of_two_vaults_for_one_server_nobody_is_told_to_replace_the_identity(
    options: Options, server: LiveServer
) -> None:
    first = aged(server, options, "localhost")
    second = aged(server, options, "127.0.0.1", new_identity=True)
    with pytest.raises(TrustError) as refused:
        enter(options)
    assert f"start with --server 127.0.0.1:{server.port}" in str(refused.value)
    assert "--new-identity" not in str(refused.value)
    start, _ = enter(replace(options, server=f"127.0.0.1:{server.port}"))
    assert start.vault == second
    which = rf"2 vaults .* --server 127\.0\.0\.1:{server.port} or localhost:{server.port}"
    with pytest.raises(UsageError, match=which):
        enter(replace(options, server=f"new.example:{server.port}"))
    assert vaults(options) == sorted((first, second))
    with pytest.raises(TrustError, match="--new-identity"):  # the twin: the other one is not here
        enter(replace(options, vault=options.vault / "elsewhere"))


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff" * 100, None])
@pytest.mark.usefixtures("server")
def test_a_card_that_cannot_be_read_is_written_again(options: Options, damage: bytes | None) -> None:
    start, _ = enter(options)
    card = start.vault.with_name(start.vault.name + CARD)
    whole = card.read_bytes()
    if damage is None:
        card.unlink()
    else:
        card.write_bytes(damage)
    found, _ = enter(options)
    assert found.vault == start.vault
    assert card.read_bytes() == whole


def test_a_card_names_no_ca_that_is_trusted(options: Options, server: LiveServer) -> None:
    """Somebody writes their own CA onto it: the question may go to them, and the vault does not believe them."""
    start, _ = enter(options)
    false = LiveServer(server.folder / "false")
    there = replace(options, vault=options.vault / "other", ca=false.ca, server=f"localhost:{false.port}")
    other, _ = enter(there)
    card, forged = (path.vault.with_name(path.vault.name + CARD) for path in (start, other))
    text = forged.read_text().replace(other.vault.stem.partition("@")[2], start.vault.stem.partition("@")[2])
    card.write_text(text)
    with pytest.raises(UnreachableError, match="does not come from the CA you trust"):
        enter(at(options, "localhost", false.port))
    assert false.stop() == 0


def card_of(start: Start) -> Path:
    return beside(start.vault, CARD)


def test_an_address_on_a_card_grants_nothing(options: Options, server: LiveServer) -> None:
    """Who can write the folder puts their own server's address onto the card, and says the known id there."""
    assert server.stop() == 0
    (server.folder / "false").mkdir()
    shutil.copytree(server.folder / "data", server.folder / "false" / "data")
    false = LiveServer(server.folder / "false")
    server.start()
    start, _ = enter(options)
    card = msgspec.json.decode(card_of(start).read_bytes())
    for ca in (card["ca"], ""):  # also where it hides which CA was known
        forged = {**card, "addresses": [f"localhost:{false.port}"], "ca": ca, "ca_pin": card["ca_pin"] if ca else ""}
        card_of(start).write_bytes(msgspec.json.encode(forged))
        with pytest.raises(TrustError, match="has never been let in there, nor trusted its CA"):
            enter(replace(options, server=f"localhost:{false.port}", ca=false.ca))
    assert not (false.folder / "data" / "accounts.json").exists()  # nothing secret was sent there
    assert false.stop() == 0
    found, told = enter(replace(options, ca=None, register=False))  # the twin: the true server
    assert found.vault == start.vault
    assert not any(isinstance(event, events.CaChanged) for event in told)
    assert msgspec.json.decode(card_of(start).read_bytes()) == card


def test_a_vault_from_before_takes_over_the_addresses_on_its_card(options: Options, server: LiveServer) -> None:
    start, _ = enter(options)
    with closing(Vault.open(start.vault, "alice", PasswordSource.typed(PASSWORD))) as vault:
        vault.run("DELETE FROM addresses")
    assert server.stop() == 0
    certs.generate(server.ca.parent, new_ca=True)
    server.start()
    found, told = enter(replace(options, server=f"localhost:{server.port}"))
    assert found.vault == start.vault
    assert any(isinstance(event, events.CaChanged) for event in told)


@pytest.mark.parametrize("same_ca", [False, True])
def test_another_server_at_a_known_address_gets_a_vault_of_its_own_if_its_ca_is_named(
    options: Options, server: LiveServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    *, same_ca: bool,
) -> None:  # fmt: skip
    monkeypatch.chdir(options.vault)
    start, _ = enter(options)
    port = server.port
    assert server.stop() == 0
    other = LiveServer(server.folder / "anew")
    assert other.stop() == 0
    if same_ca:
        for file in ("ca.pem", "server.pem", "server-key.pem"):
            shutil.copy(server.ca.parent / file, other.ca.parent / file)
    other.port = port
    other.start()
    with pytest.raises(TrustError if same_ca else UnreachableError, match="id has changed|does not come from the CA"):
        enter(at(options, "localhost", port))  # as a network of an enemy would look, too
    assert vaults(options) == [start.vault]
    capsys.readouterr()
    found, _ = enter(replace(options, ca=other.ca))
    assert "leads to another server than before" in capsys.readouterr().err
    assert vaults(options) == sorted((start.vault, found.vault))
    again, _ = enter(at(options, "localhost", port))  # two cards have the address: the id decides
    assert again.vault == found.vault
    assert other.stop() == 0
    server.start()
    before, told = enter(at(options, "localhost", port))
    assert before.vault == start.vault
    assert not any(isinstance(event, events.CaChanged) for event in told)
    assert "another server" not in capsys.readouterr().err


def test_a_third_server_at_the_address_of_two_is_refused_until_it_is_named(
    options: Options, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(server.folder)  # where certs/ca.pem is: at a known address that names nothing
    enter(options)
    assert server.stop() == 0
    for number in range(2):
        if number == 1:
            enter(at(options, "localhost", server.port))
            assert server.stop() == 0
        shutil.rmtree(server.folder / "data")
        server.start()
        if number == 0:
            enter(options)
    with pytest.raises(TrustError, match="leads to another server than before"):
        enter(at(options, "localhost", server.port))
    assert len(vaults(options)) == 2


@pytest.mark.parametrize("emptied", [True, False])
@pytest.mark.parametrize("left", [{KEY, CARD}, {KEY}, {CARD}])
def test_a_vault_that_was_lost_is_not_made_anew(
    options: Options, server: LiveServer, *, emptied: bool, left: set[str]
) -> None:
    start, _ = enter(options)
    whole = start.vault.read_bytes()
    start.vault.unlink()
    if emptied:
        start.vault.touch()
    taken = {suffix: beside(start.vault, suffix).read_bytes() for suffix in {KEY, CARD} - left}
    for suffix in taken:
        beside(start.vault, suffix).unlink()
    files = {path.name: path.read_bytes() for path in options.vault.iterdir()}
    for typed in (options, at(options, "localhost", server.port), replace(options, new_identity=True)):
        named = replace(typed, ca=server.ca)
        with pytest.raises(StorageError, match=r"is (empty|missing).*backup .*`securechat recover FILE`.*--register"):
            enter(named)
    assert {path.name: path.read_bytes() for path in options.vault.iterdir()} == files  # nothing was touched
    start.vault.write_bytes(whole)  # the twin: a backup is put back
    for suffix, content in taken.items():
        beside(start.vault, suffix).write_bytes(content)
    found, told = enter(at(options, "localhost", server.port))
    assert found.vault == start.vault
    assert any(isinstance(event, events.LoggedIn) and event.resumed for event in told)
    for path in options.vault.glob(f"{start.vault.name}*"):  # the other twin: it is moved away
        path.unlink()
    with pytest.raises(TrustError, match="--new-identity"):
        enter(options)


def test_a_vault_without_its_key_file_says_so_before_the_password_is_asked_for(options: Options) -> None:
    start, _ = enter(options)
    key = beside(start.vault, KEY)
    kept = key.read_bytes()
    key.unlink()
    with pytest.raises(StorageError, match=r"The key file .* is missing.*backup.*`securechat recover FILE`"):
        prepare(options)
    key.mkdir()
    with pytest.raises(StorageError, match="in the place of a file of your vault"):
        prepare(options)
    key.rmdir()
    key.write_bytes(kept)
    enter(options)


def test_a_vault_without_a_card_is_found_without_a_ca(
    options: Options, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(options.vault)  # where no certs/ca.pem is
    start, _ = enter(options)
    whole = card_of(start).read_bytes()
    card_of(start).unlink()
    false = LiveServer(server.folder / "false")
    with pytest.raises(UnreachableError, match="does not come from the CA you trust"):
        enter(at(options, "localhost", false.port))
    assert card_of(start).read_bytes() == whole  # and not with that address
    card_of(start).unlink()
    assert false.stop() == 0
    found, _ = enter(at(options, "localhost", server.port))
    assert found.vault == start.vault
    assert card_of(start).read_bytes() == whole


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes among its files")
def test_a_pipe_or_a_folder_for_a_card_stops_nobody(options: Options, server: LiveServer) -> None:
    start, _ = enter(options)
    whole = card_of(start).read_bytes()
    card_of(start).unlink()
    os.mkfifo(card_of(start))
    assert enter(at(options, "localhost", server.port))[0].vault == start.vault
    assert card_of(start).read_bytes() == whole
    card_of(start).unlink()
    card_of(start).mkdir()
    assert enter(at(options, "localhost", server.port))[0].vault == start.vault


def test_a_mistyped_password_for_a_new_vault_leaves_nothing_behind(options: Options) -> None:
    enter(options)
    (options.vault / "typo").write_text("corect horse")
    mistyped = replace(options, vault=options.vault / "new", password_file=options.vault / "typo", register=False)
    with pytest.raises(RefusedError):
        enter(mistyped)
    assert list(mistyped.vault.iterdir()) == []
