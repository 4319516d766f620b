"""What is known of an account: its password hash, and the invites handed out.

Neither passwords, nor secrets, nor codes are kept: only their hashes.
"""

from typing import Annotated

import msgspec

from securechat.errors import RefusedError
from securechat.value import value

_Hex32 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
_Time = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]  # what every JSON reader can hold


class Account(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One account as it is stored. `created` in seconds since 1970. The operator may turn `enabled` off in the file.

    `generation` rises whenever what was proven before must count for nothing: by a new password, and by disabling or
    enabling. It is the time of that (ms), so that no account has one again that it, or another of its name, has had.
    Resume tokens, and logins that are under way, belong to a generation.

    `secret_set`: when the secret became another one than before (ms); 0: never, as far as is known.

    `deleted`: when, in seconds since 1970; 0: it is not. Of a deleted account the name stays, for nobody to take, and
    `hash` is empty.

    `ca`: which CA had signed for the server when the secret was stored (`certificate_files.issuer_of`), in hex; empty:
    that is not known.
    """

    name: str
    hash: str
    created: _Time
    enabled: bool = True
    generation: _Time = 0
    ca: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?$")] = ""
    secret_set: _Time = 0
    deleted: _Time = 0

    def __repr__(self) -> str:
        """Show no hashes: guessing passwords begins with one."""
        return f"Account({self.name!a}, created={self.created}, enabled={self.enabled})"

    def check_enabled(self) -> None:
        """Raise RefusedError `login-refused` if the account was deleted, or the operator has disabled it."""
        if self.deleted:
            raise RefusedError("login-refused", "this account was deleted")
        if not self.enabled:
            raise RefusedError("login-refused", "this account has been disabled by the operator")


class Invite(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
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


@value
class InviteCode:
    """A new invite: its code exists nowhere else."""

    code: str
    invite: Invite

    def __repr__(self) -> str:
        """Show no code."""
        return f"InviteCode({self.invite.id})"
