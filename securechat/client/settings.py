"""A client's settings: what it has to know before it can start."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class ClientSettings:
    """Where the server is, how to trust it, and how to log in. Printing it shows neither password nor invite code."""

    host: str
    port: int
    ca_file: Path | None = None  # exactly one of `ca_file` and `pin`
    pin: str = ""  # `sha256:` and the hash of the CA's public key
    password: str | None = field(default=None, repr=False)  # None: only a resume token gets us in
    register: bool = False  # make the account first; it may exist already, with this password
    invite: str = field(default="", repr=False)
    accept_invitations_of: frozenset[tuple[str, str]] = frozenset()
    """Accounts whose invitations are accepted without asking, each with its key as `events.Invitation.key` names it."""
    new_identity: bool = False  # replace the account's identity key, if it has another one than this vault

    @property
    def address(self) -> str:
        """The server's address as people write it: `HOST:PORT`, `[IPv6]:PORT`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
