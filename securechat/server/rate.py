"""A rate as the operator writes it: `200 + 5/s`."""

import re
from typing import NamedTuple, Self

from securechat.wire.limits import MAX_RETRY_AFTER

_RATE = re.compile(r"(\d{1,9}) *\+ *(\d{1,9}(?:\.\d{1,6})?)/s", re.ASCII)


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
