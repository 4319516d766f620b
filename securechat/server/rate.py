"""Rates and sizes as the operator writes them: `200 + 5/s`, `1 GiB`."""

import re
from typing import NamedTuple, Self

from securechat.wire.limits import MAX_RETRY_AFTER

_RATE = re.compile(r"(\d{1,9}) *\+ *(\d{1,9}(?:\.\d{1,6})?)/s", re.ASCII)


_SIZE = re.compile(r"(\d{1,9}) *([KMGT]iB)?", re.ASCII)
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


class Size(int):
    """Bytes. Written `256 MiB`, or as a number."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the written form. Raises ValueError."""
        match = _SIZE.fullmatch(text)
        if match is None:
            raise ValueError("Expected a size, as in `256 MiB` or `1 GiB`")
        return cls(int(match[1]) * _UNITS[match[2] or ""])

    def __str__(self) -> str:
        """The written form, in the largest unit that fits."""
        unit = max((name for name, size in _UNITS.items() if self % size == 0), key=_UNITS.__getitem__)
        return f"{self // _UNITS[unit]} {unit}".rstrip()


class Rate(NamedTuple):
    """A bucket of `burst` tokens that fills at `per_second`. Written `200 + 5/s`."""

    burst: int
    per_second: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the written form. Raises ValueError."""
        match = _RATE.fullmatch(text)
        if match is None or int(match[1]) < 1 or float(match[2]) * MAX_RETRY_AFTER / 1000 < 1:
            raise ValueError("Expected a burst and a rate, as in `200 + 5/s`: at least 1, and one in ten minutes")
        return cls(int(match[1]), float(match[2]))

    def __str__(self) -> str:
        """The written form."""
        return f"{self.burst} + {self.per_second:g}/s"
