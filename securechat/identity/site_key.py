"""The site key: by which a server's operator says who has to go from rooms that belong to nobody (design, section 6).

An Ed25519 key, made beside the server's id. Its public half stands in the rules of each such room, in place of owners
(`policy.rules`); what is said by it is in `policy.words`. The server's database holds the private half.
"""

import secrets

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securechat.identity.certificate import KEY_LENGTH


class SiteKey:
    """Both halves. Its `repr` shows the public one alone."""

    __slots__ = ("_private", "public")

    def __init__(self, private: bytes) -> None:
        """`private`: 32 bytes, as RFC 8032 has them. Raises ValueError for any other length."""
        self._private = Ed25519PrivateKey.from_private_bytes(private)
        self.public = self._private.public_key().public_bytes_raw()
        """32 bytes."""

    def sign(self, data: bytes) -> bytes:
        """Return a signature of 64 bytes."""
        return self._private.sign(data)

    def __repr__(self) -> str:
        """No secret."""
        return f"SiteKey({self.public.hex()})"


def new_private() -> bytes:
    """Return the private half of a new key."""
    return secrets.token_bytes(KEY_LENGTH)
