"""The CAs that this vault has trusted for its server, the one in whose secret the server has our password, and where
the server was.

One at a time is trusted: the one that was taken up last, as the user has asked. The others are kept because a login
secret belongs to the CA under which it was set (`client.password`), and to know them again.
"""

from securechat.client.vault.database import Statements
from securechat.client.vault_files import MAX_ADDRESSES
from securechat.transport.certificate_files import CA


class AddressTable:
    """Where the server has let us in, as `HOST:PORT` in its one spelling: there, and only there, its CA may change."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def all(self) -> list[str]:
        """Return all that are kept, the last one used last."""
        return [address for (address,) in self._database.all("SELECT address FROM addresses ORDER BY id")]

    def add(self, address: str) -> None:
        """Keep this one as the last one used."""
        if self.all()[-1:] != [address]:
            self._database.run("DELETE FROM addresses WHERE address = ?", address)
            self._database.run("INSERT INTO addresses (address) VALUES (?)", address)
            self._database.run(
                "DELETE FROM addresses WHERE id NOT IN (SELECT id FROM addresses ORDER BY id DESC LIMIT ?)",
                MAX_ADDRESSES,
            )


class AuthorityTable:
    """All of them, and names without a certificate, which were never trusted.

    The empty name stands for no CA at all, to which secrets belonged before they had one.
    """

    def __init__(self, database: Statements) -> None:
        self._database = database

    def is_empty(self) -> bool:
        """Whether no CA was trusted yet, and no server can have our password."""
        return self._database.one("SELECT 1 FROM authorities LIMIT 1") is None

    def current(self) -> CA | None:
        """Return the one that is trusted, if there is one yet."""
        found = self.all()
        return found[-1] if found else None

    def all(self) -> list[CA]:
        """Return all that were ever trusted, the present one last."""
        rows = self._database.all("SELECT pin, certificate FROM authorities WHERE certificate != x'' ORDER BY id")
        return [CA(*row) for row in rows]

    def know(self, pin: bytes) -> None:
        """Note of a new vault that the server may have our password in the secret of a CA: a recovery file says so."""
        self._database.run("INSERT INTO authorities (pin, certificate, password) VALUES (?, x'', 1)", pin)

    def take_up(self, ca: CA) -> None:
        """Trust this one from now on."""
        if (current := self.current()) is None or current.pin != ca.pin:
            password = self.has_password(ca.pin)
            self._database.run("DELETE FROM authorities WHERE pin = ?", ca.pin)
            self._database.run(
                "INSERT INTO authorities (pin, certificate, password) VALUES (?, ?, ?)",
                ca.pin, ca.certificate, password,
            )  # fmt: skip

    def has_password(self, pin: bytes) -> bool:
        """Whether the server had our password in this one's secret when we last logged in with it."""
        row = self._database.one("SELECT password FROM authorities WHERE pin = ?", pin)
        return row is not None and bool(row[0])

    def set_password(self, pin: bytes) -> None:
        """The server has our password in the secret of this one, which was taken up, and of no other."""
        self._database.run("UPDATE authorities SET password = (pin = ?)", pin)

    def former(self, pin: bytes) -> bytes | None:
        """Return in whose secret else than this one's the server may have our password: it had it, or may again.

        A server that was restored from a backup has forgotten what it was given since.
        """
        row = self._database.one(
            "SELECT pin FROM authorities WHERE pin != ? ORDER BY password DESC, id DESC LIMIT 1", pin
        )
        return None if row is None else bytes(row[0])
