"""What makes tests cheap does, and makes nobody credulous."""

from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securechat.client import password, wrapping
from securechat.client.device import Device
from securechat.client.password_source import PasswordSource
from securechat.client.recovery_file import RecoveryContents, seal_recovery
from securechat.client.vault.vault import Vault
from securechat.client.wrapping import Cost
from securechat.mls.crypto.suite import _ED25519
from securechat.mls.errors import InvalidMessage
from securechat.wire.limits import SERVER_ID_LENGTH
from tests.support.cheap import verify_each_signature_once
from tests.support.memory_server import MemoryServer
from tests.support.people import Person, settle


def test_whoever_takes_the_defaults_pays_next_to_nothing_for_a_password(
    cheap_argon2: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del cheap_argon2
    paid: list[Cost] = []
    stretch = wrapping.stretch

    def count(letters: bytearray, salt: bytes, cost: Cost) -> bytearray:
        paid.append(cost)
        return stretch(letters, salt, cost)

    for module in (wrapping, password):
        monkeypatch.setattr(module, "stretch", count)
    typed = PasswordSource.typed("correct horse")
    with closing(Vault.open(tmp_path / "alice.vault", "alice", typed)) as vault, vault.transaction():
        Device.load_or_create(vault)
    assert len(paid) == 2
    password.login_secret(bytearray(b"correct horse"), bytes(SERVER_ID_LENGTH), "alice", b"")
    assert len(paid) == 3
    pin = f"sha256:{bytes(32).hex()}"
    seal_recovery(RecoveryContents("localhost:1", pin, bytes(SERVER_ID_LENGTH), "alice", bytearray(32)))
    assert len(paid) == 4
    assert set(paid) == {Cost(time=1, memory=8, lanes=1)}


def test_a_small_stock_is_all_that_a_client_makes(cheap_argon2: None, small_stocks: None, tmp_path: Path) -> None:
    del cheap_argon2, small_stocks
    with ExitStack() as ends:
        server = MemoryServer(tmp_path / "server")
        ends.callback(server.stop)
        alice = Person(server, tmp_path, "alice")
        ends.callback(alice.stop)
        alice.register()
        alice.connect()
        settle(alice)
        assert alice.vault.key_packages.count() == 4 + 1  # of last resort


def test_only_a_signature_that_has_fitted_the_same_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    verify_each_signature_once(monkeypatch.setattr)
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public, signature = key.public_key().public_bytes_raw(), key.sign(b"message")
    for _ in range(2):
        _ED25519.verify(public, b"message", signature)
        for wrong in (
            (other.public_key().public_bytes_raw(), b"message", signature),
            (public, b"another", signature),
            (public, b"message", other.sign(b"message")),
        ):
            with pytest.raises(InvalidMessage):
                _ED25519.verify(*wrong)
