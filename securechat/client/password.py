"""From a password to the secret that the client sends instead of it. docs/design.md, section 5, Accounts.

    login secret = HKDF-SHA256(Argon2id(password, salt = SHA-256(label || server_id || account)), info = "login")

The server never sees the password, and what one server sees is useless at another. A thief of the server's files pays
this Argon2id for each guess, before the server's own.
"""

import hashlib

from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from securechat.errors import UsageError
from securechat.names import normalise_account, normalise_password
from securechat.wire.limits import SECRET_LENGTH, SERVER_ID_LENGTH

LABEL = b"securechat/1 password"

MEMORY_KIB, PASSES, LANES = 64 << 10, 3, 4
"""RFC 9106, section 4, second recommended option. Never change them: old accounts could not log in any more."""


def login_secret(password: str, server_id: bytes, account: str) -> bytes:
    """SECRET_LENGTH bytes to register and log in with; takes tenths of a second. Raises UsageError on a bad password.

    `server_id`: the SERVER_ID_LENGTH bytes of `Hello`. Name and password are normalised here.
    """
    if len(server_id) != SERVER_ID_LENGTH:
        raise UsageError(f"a server's id has {SERVER_ID_LENGTH} bytes")
    # Unambiguous without lengths: label and server_id have fixed ones.
    salt = hashlib.sha256(LABEL + server_id + normalise_account(account).encode()).digest()
    stretched = hash_secret_raw(
        normalise_password(password).encode(),
        salt,
        time_cost=PASSES,
        memory_cost=MEMORY_KIB,
        parallelism=LANES,
        hash_len=32,
        type=Type.ID,
    )
    return HKDF(SHA256(), SECRET_LENGTH, salt=None, info=b"login").derive(stretched)
