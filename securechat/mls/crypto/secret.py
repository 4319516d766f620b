"""A secret that does not show itself: every key and secret of RFC 9420 is one, and ends with its holder."""


class Secret(bytes):
    """Bytes whose `repr` and `str` say only how many there are. Slices and sums are plain bytes again.

    Each secret of the protocol has a subclass of its own, so that one cannot be passed for another.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Type and length in bytes, never the value."""
        return f"<{type(self).__name__}: {len(self)} bytes>"

    __str__ = __repr__
