"""This device and its keys, the pins, the chains of keys, whom the user ignores, our key packages' private sides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from securechat.client.vault.database import Statements
from securechat.client.vault.identity_key import IdentityKey
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.chains import SeenChain
from securechat.identity.pins import Pin, State
from securechat.identity.statements import Statement, decode_link
from securechat.value import value


@dataclass
class DeviceRow:
    """This device, as this server knows it."""

    identity: IdentityKey
    device_id: bytes
    signature_key: bytes  # 32 bytes, Ed25519: the public half of the one in our newest leaves, see `SignatureKeyTable`
    server_id: bytes = b""  # empty until the first Hello
    token: bytes = field(default=b"", repr=False)
    token_expires: int = 0  # milliseconds since 1970
    inbox_cursor: int = 0
    renew: bool = False  # whether a new signature key is due before its time
    secret_set: int | None = None  # since when the server has the account's secret, as it says (ms); None: not heard

    @property
    def account(self) -> str:
        """Whose device it is."""
        return self.identity.account


class DeviceTable:
    """The one row that describes this device."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def load(self) -> DeviceRow | None:
        """Return this device, or None in a new vault."""
        row = self._database.one(
            "SELECT account, identity_key, identity_wrapped, device_id, signature_key, server_id, token, token_expires,"
            " inbox_cursor, renew, secret_set FROM device"
        )
        return None if row is None else DeviceRow(IdentityKey(*row[:3]), *row[3:])

    def save(self, row: DeviceRow) -> None:
        """Keep this device."""
        self._database.run(
            "REPLACE INTO device (id, account, identity_key, identity_wrapped, device_id, signature_key, server_id,"
            " token, token_expires, inbox_cursor, renew, secret_set) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row.account, row.identity.public, row.identity.wrapped, row.device_id, row.signature_key, row.server_id,
            row.token, row.token_expires, row.inbox_cursor, row.renew, row.secret_set,
        )  # fmt: skip


class DeviceNameTable:
    """What the user calls the devices of this account. Nobody else sees it: it leaves the vault sealed."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def load(self) -> list[tuple[bytes, str]]:
        """Return device ids with their names, in the order in which they were given."""
        return [(row[0], row[1]) for row in self._database.all("SELECT device, name FROM device_names ORDER BY id")]

    def save(self, device: bytes, name: str) -> None:
        """Give a device a name; empty: none."""
        self._database.run("DELETE FROM device_names WHERE device = ?", device)
        if name:
            self._database.run("INSERT INTO device_names (device, name) VALUES (?, ?)", device, name)


class SignatureKeyTable:
    """The private halves of our signature keys, each found by the public one; empty once they were deleted."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def find(self, public: bytes) -> bytes | None:
        """Return a private half, 32 bytes, or empty; None if the key is none of ours."""
        row = self._database.one("SELECT private FROM signature_keys WHERE public = ?", public)
        return None if row is None else bytes(row[0])

    def all(self) -> list[bytes]:
        """Return the public halves of all that were not deleted."""
        rows = self._database.all("SELECT public FROM signature_keys WHERE private != x'' ORDER BY public")
        return [public for (public,) in rows]

    def add(self, public: bytes, private: bytes) -> None:
        """Keep a new key, before anything is signed with it."""
        self._database.run("INSERT INTO signature_keys (public, private) VALUES (?, ?)", public, private)

    def connected(self, public: bytes) -> int:
        """Return for how many seconds we have been connected since another key took the place of this one."""
        row = self._database.one("SELECT connected FROM signature_keys WHERE public = ?", public)
        return 0 if row is None else int(row[0])

    def add_connected(self, public: bytes, seconds: int) -> None:
        """Add to that."""
        self._database.run("UPDATE signature_keys SET connected = connected + ? WHERE public = ?", seconds, public)

    def certificates(self) -> list[tuple[bytes, bytes]]:
        """Return the public half and the newest certificate of each key that has one, also of deleted keys."""
        return self._database.all("SELECT public, certificate FROM signature_keys WHERE certificate != x''")

    def certify(self, public: bytes, certificate: bytes) -> None:
        """Keep the certificate of a key."""
        self._database.run("UPDATE signature_keys SET certificate = ? WHERE public = ?", certificate, public)

    def delete(self, public: bytes) -> None:
        """Forget a key that nobody has seen."""
        self._database.run("DELETE FROM signature_keys WHERE public = ?", public)

    def wipe(self, public: bytes) -> None:
        """Delete a private half for good."""
        self._database.run("UPDATE signature_keys SET private = x'' WHERE public = ?", public)


class SignedTable:
    """What our identity key has signed: the whole chain, a link a month (`identity.statements.Link`), encoded."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def load(self) -> list[bytes]:
        """Return all of it, in order."""
        return [link for (link,) in self._database.all("SELECT link FROM signed ORDER BY seq")]

    def add(self, seq: int, link: bytes) -> None:
        """Keep the next one, before it is sent."""
        self._database.run("INSERT INTO signed VALUES (?, ?)", seq, link)

    def cut(self, seq: int) -> None:
        """Forget what comes after a place: another program's has it."""
        self._database.run("DELETE FROM signed WHERE seq > ?", seq)


@value
class Heir:
    """An identity key that is to succeed ours: `statement` by both, and its own first `certificate`, of this device."""

    identity: IdentityKey
    statement: Statement
    certificate: DeviceCertificate


class HeirTable:
    """The one that is in the vault while the server may not have it yet."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def load(self, account: str) -> Heir | None:
        """Return it, if there is one."""
        row = self._database.one("SELECT identity_key, identity_wrapped, statement, certificate FROM heir")
        if row is None:
            return None
        statement, certificate = Statement.decode(row[2]), DeviceCertificate.decode(row[3])
        return Heir(IdentityKey(account, *row[:2]), statement, certificate)

    def save(self, heir: Heir | None) -> None:
        """Keep it, before it is sent; None: there is none any more."""
        self._database.run("DELETE FROM heir")
        if heir is not None:
            self._database.run(
                "INSERT INTO heir VALUES (1, ?, ?, ?, ?)", heir.identity.public, heir.identity.wrapped,
                heir.statement.encode(), heir.certificate.encode(),
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


class UnwantedTable:
    """Whom the user does not want to hear asking: accounts, or rooms that they invite to, each until a time."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def load(self) -> dict[tuple[str, bytes], int]:
        """Return until when (ms since 1970), by account and room; the room is empty for all that one asks. 0: ever."""
        rows = self._database.all("SELECT account, room, until FROM unwanted")
        return {(account, room): until for account, room, until in rows}

    def put(self, account: str, room: bytes, until: int) -> None:
        """Keep one more, or another time."""
        self._database.run("INSERT OR REPLACE INTO unwanted VALUES (?, ?, ?)", account, room, until)

    def remove(self, account: str, room: bytes) -> None:
        """Forget one."""
        self._database.run("DELETE FROM unwanted WHERE account = ? AND room = ?", account, room)

    def expire(self, now: int) -> None:
        """Forget those whose time is over."""
        self._database.run("DELETE FROM unwanted WHERE until BETWEEN 1 AND ?", now)


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


@value
class SeenChainRow:
    """What was seen of one chain; `confirmed`: two programs hold its key, and the user goes on all the same."""

    chain: SeenChain
    confirmed: bool = False


class SeenChainTable:
    """What was seen of the chains of identity keys, the one that said nothing new for the longest time first."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def load(self, account: str, key: bytes) -> SeenChainRow | None:
        """Return what was seen of one chain."""
        row = self._database.one(
            "SELECT newest, certificate, revocation, succession, two_holders, confirmed FROM seen_chains"
            " WHERE account = ? AND identity_key = ?",
            account, key,
        )  # fmt: skip
        if row is None:
            return None
        newest, certificate, revocation, succession, two_holders, confirmed = row
        chain = SeenChain(
            decode_link(newest),
            DeviceCertificate.decode(certificate) if certificate else None,
            Statement.decode(revocation) if revocation else None,
            Statement.decode(succession) if succession else None,
            bool(two_holders),
        )
        return SeenChainRow(chain, bool(confirmed))

    def save(self, row: SeenChainRow) -> None:
        """Keep what was seen of one chain."""
        chain = row.chain
        certificate, revocation, succession = (
            b"" if each is None else each.encode() for each in (chain.certificate, chain.revocation, chain.succession)
        )
        self._database.run(
            "REPLACE INTO seen_chains"
            " (account, identity_key, newest, certificate, revocation, succession, two_holders, confirmed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            chain.newest.account, chain.newest.identity_key, chain.newest.encode(), certificate, revocation, succession,
            chain.two_holders, row.confirmed,
        )  # fmt: skip

    def successions(self) -> list[Statement]:
        """Return the statements by which keys have named their successors."""
        rows = self._database.all("SELECT succession FROM seen_chains WHERE succession != x''")
        return [Statement.decode(succession) for (succession,) in rows]

    def count_met(self) -> int:
        """Return how many there are of keys without a pin, our own among them."""
        (count,) = self._database.one(
            "SELECT count(*) FROM seen_chains AS seen WHERE NOT EXISTS"
            " (SELECT 1 FROM pins WHERE pins.account = seen.account AND pins.identity_key = seen.identity_key)"
        )
        return int(count)

    def keep_newest(self, limit: int) -> int:
        """Forget all of other people's keys without a pin but the newest `limit`. Returns what `count_met` does."""
        self._database.run(
            "DELETE FROM seen_chains WHERE rowid IN (SELECT rowid FROM seen_chains AS seen WHERE NOT EXISTS"
            " (SELECT 1 FROM pins WHERE pins.account = seen.account AND pins.identity_key = seen.identity_key)"
            " AND account NOT IN (SELECT account FROM device) ORDER BY rowid DESC LIMIT -1 OFFSET ?)",
            limit,
        )
        return self.count_met()


@value
class KeepsakeRow:
    """Our newest keepsake (`identity.keepsake`). `sealed`: its encoding, until the server has it; then empty."""

    number: int = 0
    contents: bytes = b""  # SHA-256 of what is in it, 32 bytes; empty: that is not known
    sealed: bytes = field(default=b"", repr=False)


class KeepsakeTable:
    """Our keepsake."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def load(self) -> KeepsakeRow:
        """Return what is known of the newest one."""
        row = self._database.one("SELECT number, contents, sealed FROM keepsake")
        return KeepsakeRow() if row is None else KeepsakeRow(*row)

    def save(self, row: KeepsakeRow) -> None:
        """Keep it, before it is sent."""
        self._database.run(
            "REPLACE INTO keepsake (id, number, contents, sealed) VALUES (1, ?, ?, ?)",
            row.number,
            row.contents,
            row.sealed,
        )


RecoveryStep = Literal["revoke", "chain", "entering", "revoking"]
"""chain: this device has no certificate yet. entering: it enters what the keepsake names, if there was one. revoking:
it has signed that the devices before it speak no more. revoke: it is to sign that, and to become no device."""


class RecoveryTable:
    """How far a device has come that takes the place of lost ones; nothing in other vaults, and once that is done."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def load(self) -> tuple[RecoveryStep, int] | None:
        """Return the present step, and when the keepsake was made (seconds since 1970; 0: there was none)."""
        row = self._database.one("SELECT step, kept FROM recovery")
        return None if row is None else (row[0], row[1])

    def save(self, step: RecoveryStep, kept: int = 0) -> None:
        """Go to a step."""
        self._database.run("REPLACE INTO recovery (id, step, kept) VALUES (1, ?, ?)", step, kept)

    def delete(self) -> None:
        """It is done."""
        self._database.run("DELETE FROM recovery")


class KeyPackageTable:
    """The private sides of our key packages that nobody has used yet."""

    def __init__(self, database: Statements) -> None:
        self._database = database

    def add(self, reference: bytes, bundle: bytes, *, last_resort: bool, not_after: int, signature_key: bytes) -> None:
        """Keep the private side of a key package we are about to publish; `signature_key`: the one that it names."""
        self._database.run(
            "INSERT INTO key_packages VALUES (?, ?, ?, ?, ?)", reference, bundle, last_resort, not_after, signature_key
        )

    def under(self, signature_key: bytes) -> list[tuple[bytes, bool]]:
        """Return the bundles that name a signature key, and whether they are last-resort ones, the oldest first."""
        rows = self._database.all(
            "SELECT bundle, last_resort FROM key_packages WHERE signature_key = ? ORDER BY rowid", signature_key
        )
        return [(bundle, bool(last_resort)) for bundle, last_resort in rows]

    def find(self, reference: bytes) -> tuple[bytes, bool] | None:
        """Return the bundle of one of our key packages and whether it is a last-resort one."""
        row = self._database.one("SELECT bundle, last_resort FROM key_packages WHERE reference = ?", reference)
        return None if row is None else (row[0], bool(row[1]))

    def delete(self, reference: bytes) -> None:
        """Forget a key package that has been used."""
        self._database.run("DELETE FROM key_packages WHERE reference = ?", reference)

    def delete_under(self, signature_key: bytes) -> None:
        """Forget the key packages that name a signature key."""
        self._database.run("DELETE FROM key_packages WHERE signature_key = ?", signature_key)

    def delete_expired(self, before: int) -> None:
        """Forget key packages that nobody may use any more; `before` in seconds since 1970."""
        self._database.run("DELETE FROM key_packages WHERE not_after < ?", before)

    def count(self) -> int:
        """Return how many there are, under all signature keys."""
        row = self._database.one("SELECT COUNT(*) FROM key_packages")
        return 0 if row is None else int(row[0])

    def references(self, signature_key: bytes) -> dict[bytes, bool]:
        """Return the references of those that name a signature key, and whether they are last-resort ones."""
        rows = self._database.all(
            "SELECT reference, last_resort FROM key_packages WHERE signature_key = ?", signature_key
        )
        return {reference: bool(last_resort) for reference, last_resort in rows}
