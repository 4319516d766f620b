"""What is known of an account: its password hash, its devices' resume tokens, and the invites handed out.

Neither passwords, nor secrets, nor tokens are kept: only their hashes.
"""

from dataclasses import dataclass
from typing import Annotated

import msgspec

from securechat.errors import RefusedError
from securechat.wire import limits

_Hex16 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$")]
_Hex32 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
_Time = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]  # what every JSON reader can hold


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A resume token as it is stored: SHA-256 of its bytes, good for one device until `expires` (ms since 1970)."""

    device: _Hex16
    hash: _Hex32
    expires: _Time


class Account(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One account as it is stored. `created` in seconds since 1970. The operator may turn `enabled` off in the file."""

    name: str
    hash: str
    created: _Time
    enabled: bool = True
    tokens: Annotated[tuple[Token, ...], msgspec.Meta(max_length=limits.MAX_DEVICES)] = ()

    def __repr__(self) -> str:
        """Show no hashes: guessing passwords begins with one."""
        return f"Account({self.name!a}, created={self.created}, enabled={self.enabled}, tokens=<{len(self.tokens)}>)"

    def check_enabled(self) -> None:
        """Raise RefusedError `login-refused` if the operator has disabled the account."""
        if not self.enabled:
            raise RefusedError("login-refused", "this account has been disabled by the operator")


class Invite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A code that is good once, as it is stored: its SHA-256, when it was made and when it expires (ms)."""

    hash: _Hex32
    created: _Time
    expires: _Time
    account: str = ""
    """The account that it may make, or set a new password for. Empty: any new account."""
    used: bool = False
    """Used by `account`. It is kept for a while, for a client that missed the answer and asks again."""

    @property
    def id(self) -> str:
        """The name that the operator uses for it."""
        return self.hash[:8]


@dataclass(frozen=True)
class ResumeToken:
    """A new token for a device: TOKEN_LENGTH bytes that exist nowhere else, good until `expires` (ms since 1970)."""

    token: bytes
    expires: int

    def __repr__(self) -> str:
        """Show no token."""
        return f"ResumeToken(expires={self.expires})"


@dataclass(frozen=True)
class InviteCode:
    """A new invite: its code exists nowhere else."""

    code: str
    invite: Invite

    def __repr__(self) -> str:
        """Show no code."""
        return f"InviteCode({self.invite.id})"
