"""Padmé: to what a length is rounded up, so that it tells little of what has it (PURBs, section 4.2)."""


def padme(length: int) -> int:
    """Return the smallest length that Padmé lets be seen and that is not below `length`.

    It adds at most 12 %, and leaves O(log log) bits of a length visible where no padding leaves O(log). What it has
    rounded up it leaves as it is.
    """
    exponent = length.bit_length() - 1
    low_bits = (1 << max(exponent - exponent.bit_length(), 0)) - 1
    return length + (-length & low_bits)
