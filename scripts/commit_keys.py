"""Bring over a vault of the time when key files and identity keys did not commit to their key.

    .venv/bin/python scripts/commit_keys.py PATH/TO/NAME.vault [PASSWORD_FILE]

It asks for the password, wraps anew what lies in the vault, and then its key file. Killed in between it is run again;
a vault that was brought over is left alone. Clients refuse the first version: one of its files can be made to open
under many passwords, and a program that opens it tells by that which ones it is not. Run this on a vault that nobody
else can write to. Whatever does not open is told in one sentence.

    wrapped  = time[4] memory[4] lanes[1] salt[16] nonce[12] ciphertext[n] tag[16]    version 1, big-endian
               under AES-256-GCM with Argon2id(password, salt), 32 bytes; associated data: context || first 37 bytes
    key file = "SCvk" 1[1] wrapped[85] checksum[32]
"""

import hashlib
import struct
import sys
from contextlib import closing
from getpass import getpass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlcipher3 import dbapi2 as sqlite

from securechat.client.password_source import PasswordSource
from securechat.client.vault import key_file
from securechat.client.vault.identity_key import IdentityKey
from securechat.client.wrapping import Cost, WrongPasswordError, cost_of, stretch
from securechat.errors import SecurechatError, StorageError
from securechat.files import FileLock
from securechat.tlscodec import Writer

HEADER: Final = struct.Struct(">IIB16s12s")
WRAPPED: Final = HEADER.size + 32 + 16
"""Bytes of a wrapped key."""

IDENTITY_LABEL: Final = b"securechat identity key v1"
CHECKSUM: Final = 32

KEPT_IN: Final = (
    ("device", "SELECT identity_key, identity_wrapped FROM device", "UPDATE device SET identity_wrapped = ?"),
    ("heir", "SELECT identity_key, identity_wrapped FROM heir", "UPDATE heir SET identity_wrapped = ?"),
)
"""Tables of one row with a wrapped identity key, how it is read and written; an heir is of the device's account."""


def unwrap_first(wrapped: bytes, password: bytearray, *, context: bytes) -> bytearray:
    """Return what was wrapped by version 1. Raises `WrongPasswordError`, or `StorageError` for a cost above ours."""
    header = wrapped[: HEADER.size]
    *_, salt, nonce = HEADER.unpack(header)
    key = stretch(password, salt, cost_of(header))
    try:
        return bytearray(AESGCM(key).decrypt(nonce, wrapped[HEADER.size :], context + header))
    except InvalidTag:
        raise WrongPasswordError("The password does not open it.") from None


def identity_context(account: str, public: bytes) -> bytes:
    """Return the context of an identity key in version 1."""
    return IDENTITY_LABEL + bytes(Writer().vector(account.encode()).opaque(public))


def bring_over(path: Path, password: bytearray) -> bool:
    """Let the vault at `path` and its key file commit to their keys; False: they do. Raises `StorageError`."""
    beside = path.with_name(path.name + ".key")
    content = beside.read_bytes()
    if not content.startswith(key_file.UNCOMMITTED):
        return False
    body, checksum = content[:-CHECKSUM], content[-CHECKSUM:]
    wrapped = body.removeprefix(key_file.UNCOMMITTED)
    if len(wrapped) != WRAPPED or hashlib.sha256(body).digest() != checksum:
        raise StorageError(f"The key file {beside} is damaged. Put a backup back.")
    cost = cost_of(wrapped)
    try:
        key = bytes(unwrap_first(wrapped, password, context=key_file.UNCOMMITTED))
        _wrap_identities(path, key, password, cost)
    except (WrongPasswordError, sqlite.DatabaseError):  # one sentence: which it was says something of the password
        raise StorageError(
            f"{path} does not open: this is not its password, it is damaged, or it cannot be written to. Nothing was "
            "changed."
        ) from None
    key_file.write(beside, key, password, cost=cost)
    return True


def _wrap_identities(path: Path, key: bytes, password: bytearray, cost: Cost) -> None:
    """Wrap the identity keys in a vault anew, all or none. Vaults from before version 17 have none."""
    with closing(sqlite.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)) as vault:
        vault.execute("PRAGMA cipher_log_level = NONE")
        vault.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
        vault.execute("PRAGMA secure_delete = ON")
        vault.execute("BEGIN IMMEDIATE")
        (account,) = vault.execute("SELECT account FROM device").fetchone() or ("",)
        for table, read, write in KEPT_IN:
            row = vault.execute(read).fetchone() if _has(vault, table) else None
            if row is not None and len(row[1]) == WRAPPED:
                private = unwrap_first(row[1], password, context=identity_context(account, row[0]))
                vault.execute(write, (IdentityKey.of(account, private, password, cost).wrapped,))
        vault.execute("COMMIT")


def _has(vault: Any, table: str) -> bool:
    found = vault.execute("SELECT count(*) FROM pragma_table_info(?) WHERE name = 'identity_wrapped'", (table,))
    return bool(found.fetchone()[0])


def main(path: Path, password_file: Path | None = None) -> None:
    """Bring over one vault, and say so."""
    try:
        with closing(
            FileLock(path.with_name(path.name + ".lock"), busy=f"{path} is open in a client. Close that first.")
        ):
            if password_file is None:
                source = PasswordSource.typed(getpass("Password: "))
            else:
                source = PasswordSource.in_file(password_file)
            with source.read() as password:
                done = bring_over(path, password)
    except (SecurechatError, OSError) as error:
        sys.exit(str(error))
    print(f"{path} commits to its keys now." if done else f"{path} commits to its keys already.")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
