"""A ciphertext of AES-GCM that is right under two keys (Len, Grubbs, Ristenpart, "Partitioning Oracle Attacks", 2021).

The tag is linear in each block of the ciphertext, over GF(2^128): E(J0) + sum of block * H^exponent, with E and H of
the key (NIST SP 800-38D, section 6.4). So one free block makes the tags of two keys equal.
"""

from functools import reduce
from operator import xor
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

_BLOCK: Final = 16
_ONE: Final = 1 << 127  # the first bit is the coefficient of x^0
_REDUCED: Final = 0xE1 << 120  # x^128 = 1 + x + x^2 + x^7


def under_two_keys(keys: tuple[bytes, bytes], nonce: bytes, associated: bytes, beginning: bytes) -> bytes:
    """Ciphertext and tag that both keys open: `beginning`, of whole blocks, one block that is solved for, the tag."""
    assert len(nonce) == 12
    assert len(beginning) % _BLOCK == 0
    length = len(beginning) + _BLOCK
    blocks = [*_blocks(associated), *_blocks(beginning), 0, 8 * len(associated) << 64 | 8 * length]
    (first, second), free = ((_encrypted(key, bytes(_BLOCK)) for key in keys), 2)  # the power of H at the free block
    masks = [_encrypted(key, nonce + b"\0\0\0\1") for key in keys]
    hashes = [_hash(point, blocks) for point in (first, second)]
    difference = _power(first, free) ^ _power(second, free)
    solved = _times(masks[0] ^ masks[1] ^ hashes[0] ^ hashes[1], _power(difference, 2**128 - 2))
    tag = masks[0] ^ hashes[0] ^ _times(solved, _power(first, free))
    return beginning + solved.to_bytes(_BLOCK, "big") + tag.to_bytes(_BLOCK, "big")


def _blocks(data: bytes) -> list[int]:
    pieces = (data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK))
    return [int.from_bytes(piece.ljust(_BLOCK, b"\0"), "big") for piece in pieces]


def _encrypted(key: bytes, block: bytes) -> int:
    return int.from_bytes(Cipher(AES(key), ECB()).encryptor().update(block), "big")  # noqa: S305 - GCM's own use of a block


def _hash(point: int, blocks: list[int]) -> int:
    return reduce(lambda found, block: _times(found ^ block, point), blocks, 0)


def _times(left: int, right: int) -> int:
    found = []
    for place in reversed(range(128)):
        if left >> place & 1:
            found.append(right)
        right = right >> 1 ^ (_REDUCED if right & 1 else 0)
    return reduce(xor, found, 0)


def _power(base: int, exponent: int) -> int:
    found = _ONE
    while exponent:
        if exponent & 1:
            found = _times(found, base)
        base, exponent = _times(base, base), exponent >> 1
    return found
