"""A new password under way: what it takes to have all of the vault under it, prepared before the server is asked.

    new_password   the secrets that the server knows the old and the new one by, and the key file that is to be
    rewrapped      each identity key of ours, wrapped under the new password

The key file is replaced in one step, and what stands here is done then, or at the next start that finds it replaced
(`settle`): so one password opens all of a vault, whenever its program was killed.
"""

from dataclasses import field

from securechat.client.vault.database import Database
from securechat.client.vault.identity_key import IdentityKey
from securechat.value import value


@value
class NewPassword:
    """`pin`: of the CA under which the secrets are made. `old`: empty where the server has the new one already."""

    pin: bytes
    old: bytes = field(repr=False)
    new: bytes = field(repr=False)


class NewPasswordTable:
    """The one that is under way, if there is one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> NewPassword | None:
        """Return it."""
        row = self._database.one("SELECT pin, old, new FROM new_password")
        return None if row is None else NewPassword(*row)

    def begin(self, new: NewPassword, key_file: bytes, identities: list[IdentityKey]) -> None:
        """Keep what belongs to it. `key_file`: its content under the new password, as `identities` are."""
        self.drop()
        self._database.run("INSERT INTO new_password VALUES (1, ?, ?, ?, ?)", new.pin, new.old, new.new, key_file)
        rows: list[tuple[object, ...]] = [(each.public, each.wrapped) for each in identities]
        self._database.run_many("INSERT INTO rewrapped VALUES (?, ?)", rows)

    def drop(self) -> None:
        """There is none any more."""
        self._database.run("DELETE FROM new_password")
        self._database.run("DELETE FROM rewrapped")

    def finish(self) -> None:
        """The server has the new one: put all under it. Inside a transaction; the key file goes first."""
        row = self._database.one("SELECT key_file FROM new_password")
        if row is not None:
            self._database.replace_key_file(bytes(row[0]))
            self._put()

    def settle(self) -> None:
        """Do the rest, if the program was killed once the key file had been replaced. Inside a transaction."""
        row = self._database.one("SELECT key_file FROM new_password")
        if row is not None and bytes(row[0]) == self._database.key_file():
            self._put()

    def _put(self) -> None:
        for public, wrapped in self._database.all("SELECT identity_key, wrapped FROM rewrapped"):
            for table in ("device", "heir"):
                sql = f"UPDATE {table} SET identity_wrapped = ? WHERE identity_key = ?"  # noqa: S608  # nosec B608  # names from the line above
                self._database.run(sql, wrapped, public)
        self.drop()
