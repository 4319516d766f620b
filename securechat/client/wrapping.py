"""Secrets wrapped under a password: Argon2id (RFC 9106), then AES-256-GCM. Whoever has the bytes pays for each guess.

    wrapped    = time[4] memory[4] lanes[1] salt[16] nonce[12] commitment[32] ciphertext[n] tag[16]
                 big-endian; n: the secret's length
    stretched  = Argon2id(password, salt), 32 bytes
    key        = HKDF-SHA256(stretched, no salt, info = "securechat wrapping v2 key"), 32 bytes
    commitment = HKDF-SHA256(stretched, no salt, info = "securechat wrapping v2 commitment"), 32 bytes

The associated data is the caller's context, which says what the secret is and whose, and then the first 69 bytes:
changing either of them makes the password a wrong one.

AES-GCM alone does not commit to its key: whoever knows some passwords can make one file that opens under all of them,
and learns from whether it opens in which half of a dictionary a password is (Len, Grubbs, Ristenpart, "Partitioning
Oracle Attacks", USENIX Security 2021). So each wrapped secret says which key it is under, by a hash that no two
keys share (Albertini et al., "How to Abuse and Fix Authenticated Encryption Without Key Commitment", USENIX
Security 2022), and nothing is decrypted under another one.

Password, key and secret are buffers of the caller, or of this module, which `wipe` overwrites after use. The copies
that the library makes are its own; docs/threat-model.md says what of them was found in memory afterwards.
"""

import hmac
import os
import struct
from typing import Final

from argon2.low_level import ARGON2_VERSION, Type, error_to_str, ffi, lib  # type: ignore[attr-defined]  # `lib`
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from securechat.errors import InternalError, StorageError
from securechat.surroundings import SurroundingsError
from securechat.value import value

KEY_LABEL: Final = b"securechat wrapping v2 key"
COMMITMENT_LABEL: Final = b"securechat wrapping v2 commitment"

_HEADER: Final = struct.Struct(">IIB16s12s")
_NONCE_LENGTH: Final = 12
_DERIVED_LENGTH: Final = 32
"""Bytes of the key for AES-256, and of the commitment: two passwords with one are 2^128 guesses away."""
_HEAD_LENGTH: Final = _HEADER.size + _DERIVED_LENGTH
_TAG_LENGTH: Final = 16

OVERHEAD: Final = _HEAD_LENGTH + _TAG_LENGTH
"""Bytes by which a wrapped secret is longer than the secret."""


class WrongPasswordError(StorageError):
    """The password does not open this."""


@value
class Cost:
    """What one guess at the password costs: Argon2id passes, KiB of memory, lanes."""

    time: int
    memory: int
    lanes: int


INTERACTIVE: Final = Cost(time=3, memory=64 << 10, lanes=4)
"""The second recommendation of RFC 9106, section 4: a tenth of a second on a laptop, 64 MiB."""

MOST: Final = Cost(time=6, memory=256 << 10, lanes=16)
"""More than this, 8 times the work of ours and a second on a laptop, is damage or an attempt to exhaust us: a vault is
opened, and its identity key, while nothing else goes on."""


def wipe(buffer: bytearray) -> None:
    """Overwrite a secret that is not needed any more."""
    buffer[:] = bytes(len(buffer))


def wrap(secret: bytearray, password: bytearray, *, context: bytes, cost: Cost) -> bytes:
    """Return `secret` wrapped: OVERHEAD bytes more than it has."""
    salt, nonce = os.urandom(16), os.urandom(_NONCE_LENGTH)
    stretched = stretch(password, salt, cost)
    try:
        header = _HEADER.pack(cost.time, cost.memory, cost.lanes, salt, nonce)
        head = header + derive(stretched, COMMITMENT_LABEL)
        return head + _cipher(stretched).encrypt(nonce, secret, context + head)
    finally:
        wipe(stretched)


def unwrap(wrapped: bytes, password: bytearray, *, context: bytes, most: Cost = MOST) -> bytearray:
    """Return the secret, for the caller to `wipe`. `most`: the highest cost that is paid for it.

    Raises `WrongPasswordError`, also if `wrapped` or `context` was altered; `StorageError` if it is no wrapped secret,
    or asks for more than one is ever wrapped with.
    """
    if len(wrapped) < OVERHEAD:
        raise StorageError("It is cut off.")
    head, ciphertext = wrapped[:_HEAD_LENGTH], wrapped[_HEAD_LENGTH:]
    *_, salt, nonce = _HEADER.unpack_from(head)
    secret = bytearray(len(wrapped) - OVERHEAD)
    stretched = stretch(password, salt, cost_of(head, most))  # bounded first: it may come from a file
    try:
        commitment = derive(stretched, COMMITMENT_LABEL)
        if not hmac.compare_digest(commitment, head[_HEADER.size :]):
            raise WrongPasswordError("The password does not open it.")
        _cipher(stretched).decrypt_into(nonce, ciphertext, context + head, secret)
    except InvalidTag:
        raise WrongPasswordError("The password does not open it.") from None
    finally:
        wipe(stretched)
    return secret


def cost_of(wrapped: bytes, most: Cost = MOST) -> Cost:
    """Return what a guess at a wrapped secret costs. Raises `StorageError` for more than `most`."""
    time, memory, lanes, _salt, _nonce = _HEADER.unpack_from(wrapped)
    if not (1 <= time <= most.time and 1 <= lanes <= most.lanes and 8 * lanes <= memory <= most.memory):
        raise StorageError("It asks for more memory or time than this program grants.")
    return Cost(time, memory, lanes)


def stretch(password: bytearray, salt: bytes, cost: Cost) -> bytearray:
    """Return Argon2id of a password, 32 bytes, for the caller to `wipe`. Raises `SurroundingsError` without memory."""
    key = bytearray(32)
    # The library's own function, for our buffers: `hash_secret_raw` copies the password and leaves the copy behind, and
    # so does the Argon2id of `cryptography`.
    problem = lib.argon2_hash(
        cost.time, cost.memory, cost.lanes, ffi.from_buffer(password), len(password), ffi.from_buffer(salt), len(salt),
        ffi.from_buffer(key), len(key), ffi.NULL, 0, Type.ID.value, ARGON2_VERSION,
    )  # fmt: skip
    if problem in (lib.ARGON2_MEMORY_ALLOCATION_ERROR, lib.ARGON2_THREAD_FAIL):
        raise SurroundingsError("There is too little memory for the password. Close other programs, and try again.")
    if problem != lib.ARGON2_OK:
        raise InternalError(f"Argon2id: {error_to_str(problem)}")
    return key


def derive(stretched: bytearray, label: bytes) -> bytearray:
    """Return HKDF-SHA256 (RFC 5869) of a stretched password, 32 bytes, for the caller to `wipe`."""
    derived = bytearray(_DERIVED_LENGTH)
    HKDF(SHA256(), _DERIVED_LENGTH, salt=None, info=label).derive_into(stretched, derived)
    return derived


def _cipher(stretched: bytearray) -> AESGCM:
    key = derive(stretched, KEY_LABEL)
    try:
        return AESGCM(key)
    finally:
        wipe(key)
