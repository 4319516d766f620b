"""From a password to the secret that the client sends instead of it. docs/design.md, section 5, Accounts.

    salt         = SHA-256(label || server_id || ca_pin || account)
    login secret = HKDF-SHA256(Argon2id(password, salt), info = "login")

`ca_pin` is SHA-256 of the public key of the CA that has signed for the server (SubjectPublicKeyInfo). So the server
never sees the password, and what one server sees is useless at another, also if it imitates the other's id. A server
that gets a new CA has the secret of the old one, until a client that knew that offers both (docs/design.md, section 5).
Before securechat knew CAs here there was no `ca_pin` in the salt, and another label. A thief of the server's files pays
this Argon2id for each guess, before the server's own.
"""

import hashlib

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from securechat.client.wrapping import Cost, stretch, wipe
from securechat.errors import UsageError
from securechat.names import normalise_account
from securechat.wire.limits import SECRET_LENGTH, SERVER_ID_LENGTH

LABEL = b"securechat/2 password"
LABEL_WITHOUT_CA = b"securechat/1 password"

MEMORY_KIB, PASSES, LANES = 64 << 10, 3, 4
"""RFC 9106, section 4, second recommended option. Never change them: old accounts could not log in any more."""


def login_secret(password: bytearray, server_id: bytes, account: str, ca_pin: bytes) -> bytes:
    """SECRET_LENGTH bytes to register and log in with; takes tenths of a second.

    `password`: as `PasswordSource.read` hands it out; the caller overwrites it. `server_id`: the SERVER_ID_LENGTH bytes
    of `Hello`. `ca_pin`: 32 bytes, or none, as it once was. The account is normalised here. Raises UsageError.
    """
    if len(server_id) != SERVER_ID_LENGTH:
        raise UsageError(f"a server's id has {SERVER_ID_LENGTH} bytes")
    if len(ca_pin) not in (0, hashlib.sha256().digest_size):
        raise UsageError("the hash of a CA's key has 32 bytes")
    label = LABEL if ca_pin else LABEL_WITHOUT_CA
    # Unambiguous without lengths: each part but the last has a fixed one, and the label says whether there is a pin.
    salt = hashlib.sha256(label + server_id + ca_pin + normalise_account(account).encode()).digest()
    stretched = stretch(password, salt, Cost(PASSES, MEMORY_KIB, LANES))
    try:
        return HKDF(SHA256(), SECRET_LENGTH, salt=None, info=b"login").derive(stretched)
    finally:
        wipe(stretched)
