"""The safety number: 60 digits that two people compare to see that nobody is in between (docs/design.md, section 6).

Signal's numeric fingerprint, version 0, over both identity keys (here Ed25519, 32 raw bytes) and account names. The
5,200 hashes make a look-alike key cost about 2^112 tries per half.
"""

import hashlib

_VERSION = b"\x00\x00"
_ITERATIONS = 5200
_GROUPS = 6
"""Groups of five digits for one person; each is made of five bytes."""


def fingerprint(key: bytes, identifier: bytes) -> bytes:
    """Return the 64-byte fingerprint of the public `key` held by `identifier`."""
    digest = hashlib.sha512(_VERSION + key + identifier + key).digest()
    for _ in range(_ITERATIONS - 1):
        digest = hashlib.sha512(digest + key).digest()
    return digest


def safety_number(own_key: bytes, own_account: str, their_key: bytes, their_account: str) -> str:
    """Return the number both people see: 60 digits in groups of five, separated by spaces."""
    halves = sorted((_groups(own_key, own_account), _groups(their_key, their_account)))
    return " ".join(group for half in halves for group in half)


def _groups(key: bytes, account: str) -> list[str]:
    digest = fingerprint(key, account.encode())
    return [f"{int.from_bytes(digest[5 * i : 5 * i + 5], 'big') % 100_000:05}" for i in range(_GROUPS)]
