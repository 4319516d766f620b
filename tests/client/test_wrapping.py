"""Wrapped secrets: the format, what one may cost, and that nothing of the key stays."""

import struct
import subprocess
import sys

import argon2.low_level
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from securechat.client import passphrase, wrapping
from securechat.client.wrapping import (
    INTERACTIVE,
    KEY_LABEL,
    OVERHEAD,
    Cost,
    WrongPasswordError,
    cost_of,
    derive,
    stretch,
    unwrap,
    wrap,
)
from securechat.errors import InternalError, StorageError

CHEAP = Cost(time=1, memory=8, lanes=1)
SECRET = b"thirty-two bytes of a secret key"
CONTEXT = b"test"
MOST = {"a vault": Cost(6, 256 << 10, 16), "a recovery file": Cost(16, 512 << 10, 16)}
"""As numbers: what was granted once is granted, since files with it may exist; and more is never."""


def password() -> bytearray:
    return bytearray(b"correct horse")


def test_what_the_docstring_says_is_what_opens() -> None:
    salt, nonce = bytes(range(16)), bytes(range(12))
    head = struct.pack(">IIB16s12s", CHEAP.time, CHEAP.memory, CHEAP.lanes, salt, nonce)
    stretched = argon2.low_level.hash_secret_raw(bytes(password()), salt, 1, 8, 1, 32, argon2.low_level.Type.ID)
    key, commitment = (
        HKDF(SHA256(), 32, salt=None, info=f"securechat wrapping v2 {label}".encode()).derive(stretched)
        for label in ("key", "commitment")
    )
    by_hand = head + commitment
    by_hand += AESGCM(key).encrypt(nonce, SECRET, CONTEXT + by_hand)
    assert len(by_hand) == len(SECRET) + OVERHEAD == len(SECRET) + 85
    assert unwrap(by_hand, password(), context=CONTEXT) == SECRET
    for at in range(9, len(by_hand)):  # before that stands the cost
        with pytest.raises(WrongPasswordError):
            unwrap(by_hand[:at] + bytes([by_hand[at] ^ 1]) + by_hand[at + 1 :], password(), context=CONTEXT)


def test_each_byte_of_salt_and_nonce_is_made_anew() -> None:
    made = [wrap(bytearray(SECRET), password(), context=CONTEXT, cost=CHEAP)[9:37] for _ in range(8)]
    assert [at for at in range(28) if len({each[at] for each in made}) == 1] == []  # by chance: once in 10 ** 15 runs


def test_costs_are_what_the_papers_say() -> None:
    assert Cost(time=3, memory=64 << 10, lanes=4) == INTERACTIVE, "RFC 9106, section 4"
    assert Cost(time=4, memory=256 << 10, lanes=4) == passphrase.FOR_A_FILE
    assert {"a vault": wrapping.MOST, "a recovery file": passphrase.MOST} == MOST


@pytest.mark.parametrize("what", MOST)
def test_the_highest_cost_is_granted_and_one_more_of_anything_is_not(what: str) -> None:
    most = MOST[what]

    def asks(time: int, memory: int, lanes: int) -> bytes:
        return struct.pack(">IIB", time, memory, lanes) + bytes(OVERHEAD)

    assert cost_of(asks(most.time, most.memory, most.lanes), most) == most
    assert cost_of(asks(1, 8, 1), most) == CHEAP
    assert cost_of(asks(1, 16, 2), most) == Cost(1, 16, 2)
    for time, memory, lanes in (
        (most.time + 1, most.memory, most.lanes), (most.time, most.memory + 1, most.lanes),
        (most.time, most.memory, most.lanes + 1), (0, 8, 1), (1, 8, 0), (1, 7, 1), (1, 15, 2), (1, 2**32 - 1, 1),
    ):  # fmt: skip
        with pytest.raises(StorageError, match="more memory or time"):
            cost_of(asks(time, memory, lanes), most)


def test_the_keys_that_are_made_of_a_password_are_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytearray] = []

    def remembered(key: bytearray) -> bytearray:
        made.append(key)
        assert any(key)
        return key

    def derived(stretched: bytearray, label: bytes) -> bytearray:
        found = derive(stretched, label)
        return remembered(found) if label == KEY_LABEL else found

    monkeypatch.setattr(wrapping, "stretch", lambda *given: remembered(stretch(*given)))
    monkeypatch.setattr(wrapping, "derive", derived)
    wrapped = wrap(bytearray(SECRET), password(), context=CONTEXT, cost=CHEAP)
    assert unwrap(wrapped, password(), context=CONTEXT) == SECRET
    assert made == [bytearray(32)] * 4
    with pytest.raises(WrongPasswordError):
        unwrap(wrapped, bytearray(b"corect horse"), context=CONTEXT)
    assert made == [bytearray(32)] * 5


def test_what_argon2_refuses_makes_no_key() -> None:
    with pytest.raises(InternalError, match="Salt is too short"):
        stretch(password(), b"salt", CHEAP)


def test_what_is_shorter_than_its_frame_is_cut_off() -> None:
    nothing = wrap(bytearray(), password(), context=CONTEXT, cost=CHEAP)
    assert len(nothing) == OVERHEAD
    assert unwrap(nothing, password(), context=CONTEXT) == b""
    for length in (0, 8, 9, OVERHEAD - 1):
        with pytest.raises(StorageError, match="cut off"):
            unwrap(nothing[:length], password(), context=CONTEXT)


_WITH_LITTLE_MEMORY = """
import resource
from pathlib import Path
from securechat.client.wrapping import Cost, stretch
from securechat.surroundings import SurroundingsError
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
try:
    stretch(bytearray(b"correct horse"), bytes(16), Cost(time=1, memory={kilobytes}, lanes=1))
except SurroundingsError as error:
    print(error)
"""


@pytest.mark.parametrize(("kilobytes", "said"), [(256 << 10, "too little memory"), (8, "")])
def test_too_little_memory_is_the_surroundings_trouble_and_said(kilobytes: int, said: str) -> None:
    """In a process of its own: this one may have memory left over from other tests."""
    program = _WITH_LITTLE_MEMORY.format(kilobytes=kilobytes)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert said in done.stdout
    assert bool(done.stdout) == bool(said)
