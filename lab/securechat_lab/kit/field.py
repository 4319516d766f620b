"""The arithmetic of GCM: blocks of 16 bytes as elements of GF(2^128) (NIST SP 800-38D, section 6.3).

Their sum is their XOR. Students get these functions as they stand here.
"""


def multiply(x: bytes, y: bytes) -> bytes:
    """Return the product of two blocks. The first bit of a block belongs to the lowest power."""
    left, right, product = int.from_bytes(x, "big"), int.from_bytes(y, "big"), 0
    for bit in range(127, -1, -1):
        if left >> bit & 1:
            product ^= right
        right = right >> 1 ^ (0xE1 << 120 if right & 1 else 0)
    return product.to_bytes(16, "big")


def power(x: bytes, exponent: int) -> bytes:
    """Return x multiplied by itself. For every x but zero, power(x, 2**128 - 1) is one."""
    product = (1 << 127).to_bytes(16, "big")  # one
    while exponent:
        if exponent & 1:
            product = multiply(product, x)
        x, exponent = multiply(x, x), exponent >> 1
    return product


def xor(x: bytes, y: bytes) -> bytes:
    """Return the sum of two blocks."""
    return bytes(a ^ b for a, b in zip(x, y, strict=True))
