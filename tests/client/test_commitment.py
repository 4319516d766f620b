"""What a password opens says under which key it is: no file opens under two, and the first version is brought over."""

import hashlib
import os
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlcipher3 import dbapi2 as sqlite

from scripts.commit_keys import bring_over, identity_context, unwrap_first
from securechat.client import recovery_file, wrapping
from securechat.client.passphrase import WrongPassphraseError
from securechat.client.password_source import PasswordSource
from securechat.client.recovery_file import open_recovery
from securechat.client.vault import identity_key, key_file
from securechat.client.vault.identity import DeviceRow
from securechat.client.vault.identity_key import IdentityKey
from securechat.client.vault.vault import Vault
from securechat.client.wrapping import (
    COMMITMENT_LABEL,
    KEY_LABEL,
    Cost,
    WrongPasswordError,
    derive,
    stretch,
    unwrap,
    wrap,
)
from securechat.errors import StorageError, UsageError
from securechat.identity.armour import Armour
from tests.support.two_keys import under_two_keys

CHEAP = Cost(time=1, memory=8, lanes=1)
CONTEXT = b"test"
PRIVATE = bytes(range(100, 132))
PASSWORDS = ("correct horse", "battery staple")
PASSPHRASES = ("abcde-fghjk-mnpqr-stuvw", "zyxwv-utsrq-pnmkj-hgfed")
WHY = "this is not its password, it is damaged, or it cannot be written to. Nothing was changed."
SCRIPT = Path(__file__).parents[2] / "scripts" / "commit_keys.py"


def typed(password: str = PASSWORDS[0]) -> bytearray:
    return bytearray(password.encode())


def header() -> tuple[bytes, bytes, bytes]:
    """The first 37 bytes of something wrapped, with their salt and nonce."""
    salt, nonce = os.urandom(16), os.urandom(12)
    return struct.pack(">IIB16s12s", CHEAP.time, CHEAP.memory, CHEAP.lanes, salt, nonce), salt, nonce


def first_version(secret: bytes, password: str, context: bytes) -> bytes:
    """A secret as version 1 wrapped it."""
    head, salt, nonce = header()
    return head + AESGCM(stretch(typed(password), salt, CHEAP)).encrypt(nonce, secret, context + head)


def first_version_of_two(context: bytes, beginning: bytes = bytes(16)) -> bytes:
    """What version 1 opened under both passwords."""
    head, salt, nonce = header()
    one, other = (bytes(stretch(typed(password), salt, CHEAP)) for password in PASSWORDS)
    return head + under_two_keys((one, other), nonce, context + head, beginning)


def of_two(context: bytes, length: int = 32, passwords: tuple[str, str] = PASSWORDS, says: int = 0) -> bytes:
    """What opens under two passwords but for its commitment, which is to the key of one of them: `says`."""
    head, salt, nonce = header()
    stretched = [stretch(typed(password), salt, CHEAP) for password in passwords]
    one, other = (bytes(derive(each, KEY_LABEL)) for each in stretched)
    head += derive(stretched[says], COMMITMENT_LABEL)
    ciphertext = under_two_keys((one, other), nonce, context + head, bytes(length - 16))
    for key in (one, other):
        assert len(AESGCM(key).decrypt(nonce, ciphertext, context + head)) == length  # AES-GCM has nothing against it
    return head + ciphertext


def as_key_file(path: Path, beginning: bytes, wrapped: bytes) -> Path:
    path.write_bytes(beginning + wrapped + hashlib.sha256(beginning + wrapped).digest())
    return path


# --- two passwords --------------------------------------------------------------------------------------------------


def test_version_1_opened_one_file_under_two_passwords() -> None:
    crafted = first_version_of_two(CONTEXT)
    opened = {bytes(unwrap_first(crafted, typed(password), context=CONTEXT)) for password in PASSWORDS}
    assert {len(secret) for secret in opened} == {32}
    assert len(opened) == 2
    with pytest.raises(WrongPasswordError):
        unwrap_first(crafted, typed("a third one"), context=CONTEXT)


@pytest.mark.parametrize("says", [0, 1])
def test_a_secret_opens_under_the_password_that_it_commits_to_and_under_no_other(says: int) -> None:
    crafted = of_two(CONTEXT, says=says)
    assert len(unwrap(crafted, typed(PASSWORDS[says]), context=CONTEXT)) == 32
    with pytest.raises(WrongPasswordError):
        unwrap(crafted, typed(PASSWORDS[1 - says]), context=CONTEXT)


def test_a_key_file_opens_under_one_password(tmp_path: Path) -> None:
    crafted = as_key_file(tmp_path / "alice.vault.key", b"SCvk\x02", of_two(b"SCvk\x02"))
    assert len(key_file.unlock(crafted, typed(PASSWORDS[0]))[0]) == 32
    with pytest.raises(WrongPasswordError, match="The password does not open the vault"):
        key_file.unlock(crafted, typed(PASSWORDS[1]))


def test_an_identity_key_opens_under_one_password() -> None:
    public = bytes(32)
    crafted = IdentityKey("alice", public, of_two(identity_key._context("alice", public)))
    with crafted.opened(typed(PASSWORDS[0])):
        pass
    with (
        pytest.raises(WrongPasswordError, match="The password does not open the identity key of alice"),
        crafted.opened(typed(PASSWORDS[1])),
    ):
        pass


def test_a_recovery_file_opens_under_one_passphrase() -> None:
    letters = (PASSPHRASES[0].replace("-", ""), PASSPHRASES[1].replace("-", ""))
    line = recovery_file._ARMOUR.encode(of_two(recovery_file._CONTEXT, 96, letters)).encode()
    with pytest.raises(UsageError, match="was not made by this version"):  # it opens: what is in it is noise
        open_recovery(line, PASSPHRASES[0])
    with pytest.raises(WrongPassphraseError, match="The passphrase does not open this recovery file"):
        open_recovery(line, PASSPHRASES[1])


@pytest.mark.parametrize(("password", "decrypted"), [(PASSWORDS[0], 1), (PASSWORDS[1], 0)])
def test_nothing_is_decrypted_under_a_key_that_was_not_committed_to(
    monkeypatch: pytest.MonkeyPatch, password: str, decrypted: int
) -> None:
    made: list[bytes] = []

    def noted(key: bytearray) -> AESGCM:
        made.append(bytes(key))
        return AESGCM(key)

    crafted = of_two(CONTEXT)
    monkeypatch.setattr(wrapping, "AESGCM", noted)
    try:
        unwrap(crafted, typed(password), context=CONTEXT)
    except WrongPasswordError:
        assert not decrypted
    assert len(made) == decrypted


def test_the_commitment_says_nothing_of_the_key() -> None:
    """Both come out of one stretched password, by labels of which none begins another."""
    stretched = bytearray(os.urandom(32))
    key, commitment = (bytes(derive(stretched, label)) for label in (KEY_LABEL, COMMITMENT_LABEL))
    assert len({key, commitment, bytes(stretched)}) == 3
    wrapped = wrap(bytearray(PRIVATE), typed(), context=CONTEXT, cost=CHEAP)
    again = stretch(typed(), wrapped[9:25], CHEAP)
    assert wrapped[37:69] == derive(again, COMMITMENT_LABEL)
    assert derive(again, KEY_LABEL) not in wrapped


# --- the first version ----------------------------------------------------------------------------------------------


def test_a_key_file_of_version_1_is_refused_whatever_the_password(tmp_path: Path) -> None:
    """Before it is tried: a file made for two passwords tells nothing of which it is."""
    beginning = key_file.UNCOMMITTED
    honest = as_key_file(tmp_path / "honest.vault.key", beginning, first_version(PRIVATE, PASSWORDS[0], beginning))
    crafted = as_key_file(tmp_path / "crafted.vault.key", beginning, first_version_of_two(beginning))
    for path in (honest, crafted):
        for password in (*PASSWORDS, "a third one"):
            with pytest.raises(StorageError, match=r"of the first version.*scripts/commit_keys\.py") as refused:
                key_file.unlock(path, typed(password))
            assert not isinstance(refused.value, WrongPasswordError)


def test_of_a_recovery_file_of_version_1_one_sentence_is_said() -> None:
    letters = PASSPHRASES[0].replace("-", "")
    body = first_version(b"whatever was in it", letters, b"securechat recovery file v1")
    old = Armour("recovery file", recovery_file.PREFIX, recovery_file._ARMOUR.label).encode(body)
    for passphrase in PASSPHRASES:
        with pytest.raises(UsageError) as refused:
            open_recovery(old.encode(), passphrase)
        assert str(refused.value) == (
            "This recovery file is of an older version, which is not read any more. Make a new one with the command "
            "that made it."
        )
    slip = old[:-9] + ("a" if old[-9] != "a" else "b") + old[-8:]
    with pytest.raises(UsageError, match="A character of this recovery file is wrong"):  # damage is still damage
        open_recovery(slip.encode(), PASSPHRASES[0])


# --- brought over ---------------------------------------------------------------------------------------------------


def connect(path: Path, key: bytes) -> Any:
    connection = sqlite.connect(str(path), isolation_level=None)
    connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
    return connection


def opened(path: Path, password: str = PASSWORDS[0]) -> Vault:
    return Vault.open(path, "alice", PasswordSource.typed(password), cost=CHEAP)


def identity_of(account: str) -> tuple[bytes, bytes]:
    """A public half, and the private one as version 1 wrapped it."""
    public = IdentityKey.of(account, bytearray(PRIVATE), typed(), CHEAP).public
    return public, first_version(PRIVATE, PASSWORDS[0], identity_context(account, public))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A vault with a key file, an identity key and an heir's of version 1."""
    path = tmp_path / "alice.vault"
    with closing(opened(path)) as vault:
        vault.device.save(DeviceRow(IdentityKey.create("alice", typed(), CHEAP), b"d" * 16, b"s" * 32))
    key, _ = key_file.unlock(path.with_name("alice.vault.key"), typed())
    public, wrapped = identity_of("alice")
    with closing(connect(path, key)) as connection:
        connection.execute("UPDATE device SET identity_key = ?, identity_wrapped = ?", (public, wrapped))
        connection.execute("INSERT INTO heir VALUES (1, ?, ?, x'', x'')", (public, wrapped))
    beginning = key_file.UNCOMMITTED
    as_key_file(path.with_name("alice.vault.key"), beginning, first_version(key, PASSWORDS[0], beginning))
    return path


def check(path: Path) -> None:
    """The vault opens, with both identity keys."""
    with closing(opened(path)) as vault:
        device = vault.device.load()
        assert device is not None
        public, wrapped = vault.one("SELECT identity_key, identity_wrapped FROM heir")
        for each in (device.identity, IdentityKey("alice", public, wrapped)):
            with each.opened(typed()) as key:
                assert key.secret() == PRIVATE


def run(path: Path, password: str = PASSWORDS[0]) -> "subprocess.CompletedProcess[str]":
    secret = path.with_name("password")
    secret.write_text(f"{password}\n")
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(path), str(secret)], check=False, capture_output=True, text=True, timeout=60,
        cwd=SCRIPT.parents[1],
    )  # fmt: skip


def contents(path: Path) -> list[bytes]:
    return [each.read_bytes() for each in (path, path.with_name(f"{path.name}.key"))]


def test_an_old_vault_is_brought_over_by_the_script_alone_with_all_its_keys(old: Path) -> None:
    before = contents(old)
    with pytest.raises(StorageError, match="of the first version"):
        opened(old)
    assert contents(old) == before
    done = run(old)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{old} commits to its keys now.\n", "")
    check(old)
    after = contents(old)
    again = run(old)
    assert (again.returncode, again.stdout) == (0, f"{old} commits to its keys already.\n")
    assert contents(old) == after


def test_the_script_says_one_sentence_for_a_wrong_password_and_for_a_file_that_was_made_for_two(old: Path) -> None:
    """Which of both it was would say something of the password."""
    before = contents(old)
    wrong = run(old, PASSWORDS[1])
    assert contents(old) == before
    as_key_file(old.with_name("alice.vault.key"), key_file.UNCOMMITTED, first_version_of_two(key_file.UNCOMMITTED))
    told = {(each.returncode, each.stdout, each.stderr) for each in (wrong, *(run(old, each) for each in PASSWORDS))}
    assert told == {(1, "", f"{old} does not open: {WHY}\n")}


def test_the_script_leaves_a_vault_alone_that_a_client_has_open(tmp_path: Path) -> None:
    path = tmp_path / "alice.vault"
    with closing(opened(path)):
        refused = run(path)
    assert (refused.returncode, refused.stderr) == (1, f"{path} is open in a client. Close that first.\n")
    assert run(path).returncode == 0


@pytest.mark.parametrize("last", ["an identity key", "the vault"])
def test_the_script_goes_on_where_it_was_cut_off(old: Path, monkeypatch: pytest.MonkeyPatch, last: str) -> None:
    class CutOff(Exception):  # noqa: N818 - not an error of the program's
        pass

    def cut_off(*_: object, **__: object) -> None:
        raise CutOff

    with monkeypatch.context() as patched:
        if last == "an identity key":
            patched.setattr(IdentityKey, "of", cut_off)
        else:
            patched.setattr(key_file, "write", cut_off)
        with pytest.raises(CutOff):
            bring_over(old, typed())
    with pytest.raises(StorageError, match="of the first version"):
        opened(old)
    assert run(old).returncode == 0
    check(old)


def test_a_vault_that_is_older_still_is_brought_over_and_then_up_to_date(tmp_path: Path) -> None:
    path, key, beginning = tmp_path / "alice.vault", os.urandom(32), key_file.UNCOMMITTED
    with closing(connect(path, key)) as connection:
        connection.executescript((Path(__file__).parent / "oldest.sql").read_text())
        connection.execute("UPDATE device SET identity_private = ?", (PRIVATE,))
    as_key_file(path.with_name("alice.vault.key"), beginning, first_version(key, PASSWORDS[0], beginning))
    assert run(path).returncode == 0
    with closing(opened(path)) as vault:
        device = vault.device.load()
        assert device is not None
        with device.identity.opened(typed()) as opened_key:
            assert opened_key.secret() == PRIVATE
        assert vault.conversations.load()


def test_a_damaged_or_hungry_old_key_file_is_called_so(old: Path) -> None:
    path = old.with_name("alice.vault.key")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert "is damaged. Put a backup back." in run(old).stderr
    hungry = whole[5:9] + struct.pack(">IB", 1 << 30, 1) + whole[14:-32]
    as_key_file(path, key_file.UNCOMMITTED, hungry)
    assert "more memory or time" in run(old).stderr
    path.write_bytes(whole)
    assert run(old).returncode == 0
