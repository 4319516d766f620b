"""The directory on SQLite: devices, identity keys and key packages."""

from collections.abc import Collection, Iterable

from securechat.server.store.records import Device, Who
from securechat.server.store.sqlite.database import marks, portions
from securechat.server.store.sqlite.writer import Writer


class Directory:
    """See `port.DirectoryStore`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def put_device(self, device: Device, identity_key: bytes) -> None:
        """See the port."""
        self._writer.execute("INSERT OR REPLACE INTO identities VALUES (?, ?)", device.account, identity_key)
        self._writer.execute(
            "INSERT OR REPLACE INTO devices VALUES (?, ?, ?)", device.device, device.account, device.certificate
        )

    def reserve(self, account: str, devices: Collection[bytes]) -> None:
        """See the port."""
        insert = "INSERT OR IGNORE INTO device_ids VALUES (?, ?)"
        self._writer.execute_many(insert, [(device, account) for device in devices])

    def drop_devices(self, devices: Collection[bytes]) -> None:
        """See the port."""
        rows = [(device,) for device in devices]
        self._writer.execute_many("DELETE FROM devices WHERE device = ?", rows)
        self._writer.execute_many("DELETE FROM key_packages WHERE device = ?", rows)

    def device(self, who: Who) -> Device | None:
        """See the port."""
        account, device = who
        rows = self._writer.rows("SELECT device, account, certificate FROM devices WHERE device = ?", device)
        return Device(*rows[0]) if rows and rows[0][1] == account else None

    def account_of(self, device: bytes) -> str:
        """See the port."""
        return self._writer.one("SELECT account FROM device_ids WHERE device = ?", device) or ""

    def devices(self, account: str) -> list[Device]:
        """See the port."""
        return [
            Device(*row)
            for row in self._writer.rows("SELECT device, account, certificate FROM devices WHERE account = ?", account)
        ]

    def owners(self, devices: Collection[bytes]) -> dict[bytes, tuple[str, bytes]]:
        """See the port."""
        return {
            device: (account, identity_key)
            for portion in portions(devices)
            for device, account, identity_key in self._writer.rows(
                "SELECT device, account, identity_key FROM devices JOIN identities USING (account)"  # noqa: S608  # nosec B608  # only marks
                f" WHERE device IN ({marks(portion)})",
                *portion,
            )
        }

    def identity_key(self, account: str) -> bytes:
        """See the port."""
        return self._writer.one("SELECT identity_key FROM identities WHERE account = ?", account) or b""

    def put_key_packages(self, device: bytes, key_packages: Iterable[bytes], last_resort: bytes) -> None:
        """See the port."""
        insert = "INSERT INTO key_packages (device, last_resort, key_package) VALUES (?, ?, ?)"
        if last_resort:
            self._writer.execute("DELETE FROM key_packages WHERE device = ?", device)
            self._writer.execute(insert, device, 1, last_resort)
        self._writer.execute_many(insert, [(device, 0, key_package) for key_package in key_packages])

    def drop_key_packages(self) -> None:
        """See the port."""
        self._writer.execute("DELETE FROM key_packages WHERE last_resort = 0")

    def take_key_package(self, device: bytes, *, only_last_resort: bool = False) -> bytes | None:
        """See the port."""
        rows = self._writer.rows(
            "SELECT id, last_resort, key_package FROM key_packages WHERE device = ? AND last_resort >= ?"
            " ORDER BY last_resort, id LIMIT 1",
            device,
            only_last_resort,
        )
        if not rows:
            return None
        ((row_id, last_resort, key_package),) = rows
        if not last_resort:
            self._writer.execute("DELETE FROM key_packages WHERE id = ?", row_id)
        found: bytes = key_package
        return found

    def key_packages(self, device: bytes) -> list[bytes]:
        """See the port."""
        select = "SELECT key_package FROM key_packages WHERE device = ? ORDER BY last_resort, id"
        return [key_package for (key_package,) in self._writer.rows(select, device)]

    def count_key_packages(self, device: bytes) -> int:
        """See the port."""
        count: int = self._writer.one("SELECT count(*) FROM key_packages WHERE device = ? AND last_resort = 0", device)
        return count
