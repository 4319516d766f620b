"""A secret that does not show itself when it is printed: the secrets of RFC 9420, which end with their holder."""


class Secret(bytes):
    """Bytes whose `repr` and `str` say only how many there are. Slices and sums are plain bytes again.

    Secrets that stand side by side in a call have subclasses of their own, so that one cannot be passed for another.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Type and length in bytes, never the value."""
        return f"<{type(self).__name__}: {len(self)} bytes>"

    __str__ = __repr__
