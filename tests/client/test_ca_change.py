"""Another CA signs for the server: who takes it up, and how the password goes on working. Twins: without the change."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import argon2
import pytest

from securechat import certs
from securechat.client import commands, events
from securechat.client.password import login_secret
from securechat.errors import RefusedError, UnreachableError, UsageError
from securechat.transport.certificate_files import CA, pin_of
from securechat.wire import limits
from securechat.wire import messages as wire
from securechat_lab.cast.live import PASSWORD, LiveClient
from tests.client.test_migrations import connect, take_back
from tests.support.live import LiveServer
from tests.support.memory_server import AUTHORITY, Link, MemoryServer
from tests.support.people import PASSWORD as IN_MEMORY
from tests.support.people import Person, settle
from tests.support.recovering import Recovering, file_of

People = Callable[..., list[Person]]

NEW = CA(b"\xcd" * 32, b"another certificate")


class Logins:
    """The logins that reach a server: each time the secret and the former one."""

    def __init__(self, server: MemoryServer) -> None:
        self.seen: list[tuple[bytes, bytes]] = []
        server.inward = self._note
        self._server_id = server.store.server_id

    def _note(self, _: Link, message: wire.FromClient) -> list[wire.FromClient]:
        if isinstance(message, wire.Login):
            self.seen.append((message.secret, message.former))
        return [message]

    def secret(self, ca_pin: bytes, name: str = "alice") -> bytes:
        return login_secret(bytearray(IN_MEMORY.encode()), self._server_id, name, ca_pin)

    def take(self) -> list[tuple[bytes, bytes]]:
        seen, self.seen = self.seen, []
        return seen


def again(person: Person, ca: CA) -> None:
    """Start the program again, with a password; the server's certificate is of this CA."""
    person.stop()
    person.ca = ca
    person.server._workers.ca = ca.pin.hex()
    person.start()
    person.happened.clear()
    enter(person)


def enter(person: Person) -> None:
    """Connect, until the client has nothing more to say, or has ended."""
    person.connect()
    settle(person, until=lambda: person.engine.failure is not None)


def ready(person: Person) -> bool:
    return bool(person.of(events.Ready))


def test_the_secret_of_the_former_ca_is_offered_once_and_the_new_one_takes_its_place(
    server: MemoryServer, people: People
) -> None:
    (alice,) = people("alice")
    logins = Logins(server)
    again(alice, AUTHORITY)  # the twin: the token is enough
    assert ready(alice)
    assert logins.take() == []
    again(alice, NEW)
    old, new = logins.secret(AUTHORITY.pin), logins.secret(NEW.pin)
    assert ready(alice)
    assert logins.take() == [(new, b""), (new, old)]
    assert alice.of(events.CaChanged) == [events.CaChanged(NEW.text)]
    again(alice, NEW)
    assert ready(alice)
    assert logins.take() == []
    assert not alice.of(events.CaChanged)
    assert alice.vault.authorities.all() == [AUTHORITY, NEW]
    assert alice.vault.authorities.current() == NEW


def test_a_second_program_finds_the_new_secret_and_shows_nobody_the_old_one(
    server: MemoryServer, people: People, tmp_path: Path
) -> None:
    (alice,) = people("alice")
    again(alice, NEW)
    logins = Logins(server)
    other = Person(server, tmp_path / "other", "alice", new_identity=True)
    other.ca = NEW
    enter(other)
    assert ready(other)
    assert logins.take() == [(logins.secret(NEW.pin), b"")]


def test_a_new_vault_has_no_other_secret_to_offer(server: MemoryServer, people: People, tmp_path: Path) -> None:
    people("alice")
    logins = Logins(server)
    other = Person(server, tmp_path / "other", "alice", new_identity=True)
    other.ca = NEW
    enter(other)
    assert isinstance(other.engine.failure, RefusedError)
    assert logins.take() == [(logins.secret(NEW.pin), b"")]


def test_the_password_of_an_older_program_goes_on_working_and_then_belongs_to_the_ca(
    server: MemoryServer, people: People
) -> None:
    (alice,) = people("alice")
    logins = Logins(server)
    hasher = server._workers._hasher
    before = server.accounts.get("alice")
    assert before is not None
    server.accounts.replace_hash("alice", before.hash, hasher.hash(logins.secret(b""))).result()
    alice.stop()
    take_back(alice.path)
    alice.start()
    alice.vault.addresses.add(alice.settings.address)  # as `ui.start` takes it over from the vault's name or card
    alice.connect()
    settle(alice)
    assert ready(alice)
    assert logins.take() == [(logins.secret(AUTHORITY.pin), b""), (logins.secret(AUTHORITY.pin), logins.secret(b""))]
    assert not alice.of(events.CaChanged)  # it is the first that this vault knows
    after = server.accounts.get("alice")
    assert after is not None
    assert hasher.verify(after.hash, logins.secret(AUTHORITY.pin))
    assert after.generation == before.generation  # nobody's token ends by it


def test_a_server_that_has_forgotten_the_new_secret_gets_it_again(server: MemoryServer, people: People) -> None:
    (alice,) = people("alice")
    before = server.accounts.get("alice")
    again(alice, NEW)
    after = server.accounts.get("alice")
    assert before is not None
    assert after is not None
    server.accounts.replace_hash("alice", after.hash, before.hash).result()  # from a backup
    alice.engine._context.device.keep_token(b"", 0)  # of that, too
    logins = Logins(server)
    again(alice, NEW)
    assert ready(alice)
    assert [bool(former) for _, former in logins.take()] == [False, True]
    (carol,) = people("carol")  # the twin: who has known one CA only offers nothing else
    carol.engine._context.device.keep_token(b"", 0)
    logins.take()
    again(carol, AUTHORITY)
    assert [bool(former) for _, former in logins.take()] == [False]


@pytest.mark.parametrize("faster", [True, False])
def test_who_finds_the_password_changed_by_the_secret_of_the_former_ca_is_told(
    server: MemoryServer, people: People, *, faster: bool
) -> None:
    """Somebody has the old secret. The twin: the owner's program is faster, and theirs changes nothing."""
    (alice,) = people("alice")
    logins = Logins(server)

    def thief() -> object:
        link = server.connect("198.51.100.9")
        link.receive(wire.ClientHello([limits.PROTOCOL_VERSION], "x"))
        link.receive(wire.Login(1, "alice", b"x" * 32, b"d" * 16, logins.secret(AUTHORITY.pin)))
        reply = link.to_client[-1]
        link.close()
        return getattr(reply, "code", type(reply).__name__)

    assert thief() == "login-refused"  # no other CA has signed since
    server._workers.ca = NEW.pin.hex()
    if faster:
        assert thief() == "LoggedIn"
    alice.engine._context.device.keep_token(b"", 0)
    again(alice, NEW)
    assert ready(alice) != faster
    if faster:
        assert "it was changed: by a code of the operator, or by somebody" in str(alice.engine.failure)
    else:
        assert thief() == "login-refused"


def replace_secret(server: MemoryServer, secrets: Logins, secret: bytes) -> None:
    """Somebody logs in under the new CA with the old secret, puts another one in its place, and is gone."""
    server._workers.ca = NEW.pin.hex()
    link = server.connect("198.51.100.9")
    link.receive(wire.ClientHello([limits.PROTOCOL_VERSION], "x"))
    link.receive(wire.Login(1, "alice", secret, b"d" * 16, secrets.secret(AUTHORITY.pin)))
    link.close()


@pytest.mark.parametrize("online", [True, False])
def test_a_program_that_is_in_hears_that_the_secret_is_another_one_and_since_when(
    server: MemoryServer, people: People, *, online: bool
) -> None:
    """So does one that comes back by its token, once. The twin: nobody has replaced it, or it did so itself."""
    alice, bob = people("alice", "bob")
    logins = Logins(server)
    if not online:
        alice.stop()
    replace_secret(server, logins, b"x" * 32)
    account = server.accounts.get("alice")
    assert account is not None
    if not online:
        alice.start()
        alice.connect()
    settle(alice, bob)
    assert alice.of(events.SecretReplaced) == [events.SecretReplaced(account.secret_set)]
    assert account.secret_set // 1000 >= account.created
    assert not bob.of(events.SecretReplaced)
    for person in (alice, bob):
        person.stop()
        person.start()
        person.happened.clear()
        person.connect()
    settle(alice, bob)
    assert ready(alice)
    assert not alice.of(events.SecretReplaced)
    assert not bob.of(events.SecretReplaced)


def test_who_has_replaced_it_is_not_told(server: MemoryServer, people: People) -> None:
    (alice,) = people("alice")
    for _ in range(2):
        again(alice, NEW)
        assert ready(alice)
        assert not alice.of(events.SecretReplaced)
    account = server.accounts.get("alice")
    assert account is not None
    assert account.secret_set > 0


def test_a_wrong_password_is_refused_after_a_change_too(server: MemoryServer, people: People) -> None:
    (alice,) = people("alice")
    account = server.accounts.get("alice")
    assert account is not None
    server.accounts.replace_hash("alice", account.hash, server._workers._hasher.hash(b"x" * 32)).result()
    again(alice, NEW)
    (wanted,) = alice.of(events.PasswordWanted)
    assert isinstance(wanted, events.PasswordWanted)
    assert (wanted.why, "neither the password's secret" in wanted.problem) == ("changed", True)
    assert not ready(alice)
    assert alice.vault.authorities.all() == [AUTHORITY]  # not taken up: nobody was let in


def test_who_registers_again_after_a_change_is_let_in(server: MemoryServer, people: People) -> None:
    (alice,) = people("alice")
    alice.settings = replace(alice.settings, register=True)
    again(alice, NEW)
    assert ready(alice)
    logins = Logins(server)
    alice.engine._context.device.keep_token(b"", 0)
    again(alice, NEW)
    assert ready(alice)
    assert logins.take() == [(logins.secret(NEW.pin), b"")]


@pytest.mark.parametrize("known", [True, False])
def test_a_recovery_file_from_before_the_change_is_good_for_the_password_too(
    server: MemoryServer, people: People, tmp_path: Path, *, known: bool
) -> None:
    (alice,) = people("alice")
    contents = file_of(alice)
    if known:  # a device that knew the old CA has been there since
        again(alice, NEW)
    alice.cut()
    server._workers.ca = NEW.pin.hex()
    logins = Logins(server)
    later = Recovering(server, tmp_path / "later", contents)
    later.ca = NEW
    enter(later)
    assert ready(later)
    new, old = logins.secret(NEW.pin), logins.secret(AUTHORITY.pin)
    assert logins.take() == ([(new, b"")] if known else [(new, b""), (new, old)])
    assert later.vault.authorities.all() == [NEW]  # the other one was never trusted here
    later.stop()


# --- over TLS -------------------------------------------------------------------------------------------------------


@pytest.fixture
def server_with_tls(tmp_path: Path) -> Iterator[LiveServer]:
    server = LiveServer(tmp_path)
    yield server
    assert server.stop() == 0


def new_ca(server: LiveServer) -> Path:
    """Give the server another CA. Returns the file of the former one."""
    assert server.stop() == 0
    former = server.folder / "former.pem"
    shutil.copy(server.ca, former)
    certs.generate(server.ca.parent, new_ca=True)
    server.start()
    return former


def start(client: LiveClient, **settings: object) -> None:
    client.settings = replace(client.settings, **settings)  # type: ignore[arg-type]  # test data
    client.start()


def unreachable(client: LiveClient) -> str:
    error = client.wait_for(events.Ended).error
    client.vault.close()
    assert isinstance(error, UnreachableError)
    return str(error)


def test_a_vault_knows_its_ca_and_trusts_another_only_once_it_is_named(server_with_tls: LiveServer) -> None:
    server = server_with_tls
    alice = LiveClient(server, "alice")
    alice.wait_for(events.Ready)
    alice.close()
    start(alice, ca_file=None, register=False)  # the vault knows it
    alice.wait_for(events.Ready)
    pin = alice.answer(commands.MakeInviteLine())
    assert isinstance(pin, events.Done)
    alice.close()
    old_pin = pin_of(server.ca)
    former = new_ca(server)
    start(alice)
    assert "does not come from the CA you trust" in unreachable(alice)
    start(alice, pin=pin_of(server.ca))
    alice.wait_for(events.Ready)
    assert alice.wait_for(events.CaChanged).pin == pin_of(server.ca)
    alice.close()
    start(alice, pin="")
    alice.wait_for(events.Ready)
    alice.close()
    assert not [event for event in alice.happened if isinstance(event, events.CaChanged)]
    for named in ({"ca_file": former}, {"pin": old_pin}):
        start(alice, **{"ca_file": None, "pin": "", **named})
        assert "CA" in unreachable(alice)
    with closing(connect(alice.path)) as vault:
        assert vault.execute("SELECT count(*) FROM authorities").fetchone() == (2,)


@pytest.mark.parametrize("changed", [True, False])
def test_a_line_or_a_recovery_file_names_no_other_ca_for_a_vault_that_knows_one(
    server_with_tls: LiveServer, *, changed: bool
) -> None:
    server = server_with_tls
    alice = LiveClient(server, "alice", start=False, ca_file=None, first_pin=pin_of(server.ca))
    alice.start()
    alice.wait_for(events.Ready)
    alice.close()
    if changed:
        new_ca(server)
    start(alice, first_pin=pin_of(server.ca) if changed else f"sha256:{'ab' * 32}")
    if changed:
        assert "does not come from the CA you trust" in unreachable(alice)
        start(alice, pin=pin_of(server.ca))
    alice.wait_for(events.Ready)
    alice.close()


def test_a_new_vault_has_to_be_told_whom_to_trust(server_with_tls: LiveServer) -> None:
    alice = LiveClient(server_with_tls, "alice", start=False, ca_file=None)
    with pytest.raises(UsageError, match="Name the CA's file or its pin"):
        alice.start()
    alice.vault.close()


def test_what_a_server_collects_that_imitates_another_by_its_id_is_worthless_there(tmp_path: Path) -> None:
    """Alice has one password. The second server has the first one's id, and a CA of its own."""
    true = LiveServer(tmp_path / "true")
    assert true.stop() == 0
    (tmp_path / "false").mkdir()
    shutil.copytree(true.folder / "data", tmp_path / "false" / "data")
    false = LiveServer(tmp_path / "false")
    true.start()
    hashes, secrets, ids = {}, {}, set()
    for server in (true, false):
        alice = LiveClient(server, "alice")
        alice.wait_for(events.Ready)
        server_id = alice.client._engine._context.device.row.server_id
        ca = bytes.fromhex(pin_of(server.ca).removeprefix("sha256:"))
        secrets[server] = login_secret(bytearray(PASSWORD.encode()), server_id, "alice", ca)
        alice.close()
        assert server.stop() == 0
        (account,) = json.loads((server.folder / "data" / "accounts.json").read_text())["accounts"]
        hashes[server] = account["hash"]
        ids.add(server_id)
    assert len(ids) == 1
    for server, other in ((true, false), (false, true)):
        assert argon2.PasswordHasher().verify(hashes[server], secrets[server])
        with pytest.raises(argon2.exceptions.VerifyMismatchError):
            argon2.PasswordHasher().verify(hashes[server], secrets[other])
