"""People whose computer is gone, and who go on with a recovery file on a new one."""

from pathlib import Path

from securechat.client.engine import Engine
from securechat.client.parts import Parts
from securechat.client.password_source import PasswordSource
from securechat.client.recovery import prepare_recovery
from securechat.client.recovery_file import RecoveryContents
from securechat.client.vault.vault import Vault
from tests.support.memory_server import MemoryServer
from tests.support.people import CHEAP, PASSWORD, Person, opened


def file_of(person: Person) -> RecoveryContents:
    """What is in a recovery file that somebody has made."""
    device = person.engine._context.device
    with opened(device.row.identity) as key:
        private = bytearray(key.secret())
    return RecoveryContents("memory:1", f"sha256:{'ab' * 32}", device.row.server_id, person.name, private)


class Recovering(Person):
    """Somebody on a new computer. Crashing and starting again goes on with the same vault."""

    def __init__(
        self, server: MemoryServer, folder: Path, contents: RecoveryContents, *, only_revoke: bool = False
    ) -> None:
        self.contents = contents
        self.only_revoke = only_revoke
        super().__init__(server, folder, contents.account)

    def start(self) -> None:
        """Open the vault, make it that of a new device if it is none yet, and load the engine."""
        self.vault = Vault.open(self.path, self.name, PasswordSource.typed(PASSWORD), cost=CHEAP)
        self.vault._connection.execute("PRAGMA synchronous = OFF")
        if self.vault.device.load() is None:
            prepare_recovery(self.vault, self.contents, only_revoke=self.only_revoke)
        self.engine = Engine(self.settings, self.vault, parts=Parts(clock=self.clock))
