"""This device, the pins, whom the user ignores, and the private sides of our key packages."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from securechat.client.vault.database import Statements
from securechat.identity.pins import Pin, State


@dataclass
class DeviceRow:
    """This device, as this server knows it."""

    account: str
    device_id: bytes
    identity_private: bytes = field(repr=False)  # 32 bytes, Ed25519
    signature_private: bytes = field(repr=False)  # 32 bytes, Ed25519
    server_id: bytes = b""  # empty until the first Hello
    certificate: bytes = b""  # the same: it names the server
    token: bytes = field(default=b"", repr=False)
    token_expires: int = 0  # milliseconds since 1970
    inbox_cursor: int = 0


class DeviceTable:
    """The one row that describes this device."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def load(self) -> DeviceRow | None:
        """Return this device, or None in a new vault."""
        row = self._database.one(
            "SELECT account, device_id, identity_private, signature_private, server_id, certificate, token,"
            " token_expires, inbox_cursor FROM device"
        )
        return None if row is None else DeviceRow(*row)

    def save(self, row: DeviceRow) -> None:
        """Keep this device."""
        self._database.run(
            "REPLACE INTO device (id, account, device_id, identity_private, signature_private, server_id, certificate,"
            " token, token_expires, inbox_cursor) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row.account, row.device_id, row.identity_private, row.signature_private, row.server_id, row.certificate,
            row.token, row.token_expires, row.inbox_cursor,
        )  # fmt: skip


class IgnoredTable:
    """The accounts whose lines in open rooms the user does not want to see."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def load(self) -> set[str]:
        """Return all of them."""
        return {account for (account,) in self._database.all("SELECT account FROM ignored")}

    def add(self, account: str) -> None:
        """Ignore one more."""
        self._database.run("INSERT OR IGNORE INTO ignored VALUES (?)", account)

    def remove(self, account: str) -> None:
        """Ignore one less."""
        self._database.run("DELETE FROM ignored WHERE account = ?", account)


class PinTable:
    """The pins: what the user has decided on the identity keys of other accounts."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def load(self) -> list[Pin]:
        """Return all pins."""
        rows = self._database.all("SELECT account, identity_key, state FROM pins ORDER BY account, identity_key")
        return [Pin(*row) for row in rows]

    def save(self, account: str, states: Mapping[bytes, State]) -> None:
        """Keep the pins of one account: the states of its keys."""
        self._database.run("DELETE FROM pins WHERE account = ?", account)
        self._database.run_many(
            "INSERT INTO pins VALUES (?, ?, ?)", [(account, key, state) for key, state in states.items()]
        )


class KeyPackageTable:
    """The private sides of our key packages that nobody has used yet."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def add(self, reference: bytes, bundle: bytes, *, last_resort: bool, not_after: int) -> None:
        """Keep the private side of a key package we are about to publish."""
        self._database.run("INSERT INTO key_packages VALUES (?, ?, ?, ?)", reference, bundle, last_resort, not_after)

    def find(self, reference: bytes) -> tuple[bytes, bool] | None:
        """Return the bundle of one of our key packages and whether it is a last-resort one."""
        row = self._database.one("SELECT bundle, last_resort FROM key_packages WHERE reference = ?", reference)
        return None if row is None else (row[0], bool(row[1]))

    def delete(self, reference: bytes) -> None:
        """Forget a key package that has been used."""
        self._database.run("DELETE FROM key_packages WHERE reference = ?", reference)

    def delete_expired(self, before: int) -> None:
        """Forget key packages that nobody may use any more; `before` in seconds since 1970."""
        self._database.run("DELETE FROM key_packages WHERE not_after < ?", before)

    def keep_newest(self, limit: int) -> None:
        """Forget all but the newest `limit` key packages, last-resort ones not counted."""
        self._database.run(
            "DELETE FROM key_packages WHERE NOT last_resort AND rowid NOT IN"
            " (SELECT rowid FROM key_packages WHERE NOT last_resort ORDER BY rowid DESC LIMIT ?)",
            limit,
        )

    def count(self) -> int:
        """Return how many there are, but for last-resort ones."""
        (count,) = self._database.one("SELECT count(*) FROM key_packages WHERE NOT last_resort")
        return int(count)

    def newest_last_resort(self) -> int:
        """Return when the newest last-resort key package expires, in seconds since 1970; 0 without one."""
        (newest,) = self._database.one("SELECT max(not_after) FROM key_packages WHERE last_resort")
        return int(newest or 0)
