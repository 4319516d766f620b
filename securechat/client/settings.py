"""A client's settings: what it has to know before it can start."""

from dataclasses import field
from pathlib import Path

from securechat.hosts import address_of, normalise_host
from securechat.transport.certificate_files import pin_of
from securechat.value import value


@value
class ClientSettings:
    """Where the server is, how to trust it, and how to get in; the vault knows where its password comes from.

    Printing it shows no invite code.
    """

    host: str  # kept in its one spelling
    port: int
    ca_file: Path | None = None  # one of `ca_file` and `pin`, or neither: then the vault knows the CA
    pin: str = ""  # `sha256:` and the hash of the CA's public key
    first_pin: str = ""  # the same of an invite line or a recovery file: for a vault that knows no CA yet, and no other
    register: bool = False  # make the account first; it may exist already, with this password
    invite: str = field(default="", repr=False)
    accept_invitations_of: frozenset[tuple[str, str]] = frozenset()
    """Accounts whose invitations are accepted without asking, each with its key as `events.Invitation.key` names it."""
    contest: bool = False  # deny that the identity key in this vault has named another one, if it has
    server_id: bytes = b""  # of the server that was found at the address, for a vault that has met none yet
    other_vaults: tuple[str, ...] = ()
    """Addresses of the servers of vaults beside this one that belong to the account, perhaps at the same server."""
    new_identity: bool = False  # replace the account's identity key, if it has another one than this vault

    def __post_init__(self) -> None:
        """Raise `UsageError` for what cannot be the name of a host."""
        object.__setattr__(self, "host", normalise_host(self.host))

    @property
    def ca_pin(self) -> str:
        """The pin of the server's CA, whichever way it was given; empty: it was not. Raises what `pin_of` does."""
        return (self.pin or self.first_pin).strip().lower() if self.ca_file is None else pin_of(self.ca_file)

    @property
    def address(self) -> str:
        """The server's address as people write it: `HOST:PORT`, `[IPv6]:PORT`."""
        return address_of(self.host, self.port)
