"""The floor (`floor_server.py`) as a system under load."""

import itertools
import struct
import sys
from pathlib import Path

from scripts.benchmarks.systems.system import Client, Process, System, stamp_of, stamped, trusting

_LENGTH = struct.Struct(">I")


class FloorClient(Client):
    """A connection in a group."""

    def __init__(self, server: "Floor", group: int) -> None:
        super().__init__(server)
        self._group = group

    def log_in(self) -> None:
        """See `Client`. There is no more to it than telling the group."""
        self.connect()
        self.queue(_frame(b"group%d" % self._group))
        self.flush()
        while not self._plaintext:
            self.read()
        self._plaintext.clear()

    def say(self) -> None:
        """See `Client`."""
        self.unanswered += 1
        self.queue(_frame(stamped()))

    def take(self) -> list[int]:
        """See `Client`."""
        data, start, stamps = self._plaintext, 0, []
        while len(data) - start >= _LENGTH.size:
            end = start + _LENGTH.size + _LENGTH.unpack_from(data, start)[0]
            if end > len(data):
                break
            stamps.append(stamp_of(bytes(data[start + _LENGTH.size : end])))
            start = end
        del data[:start]
        return stamps


def _frame(body: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body


class Floor(System):
    """See `floor_server.py`."""

    name = "floor"

    def __init__(self, folder: Path, certs: Path) -> None:
        """Start it; its log goes to `folder`."""
        super().__init__()
        self.tls = trusting(certs)
        program = str(Path(__file__).with_name("floor_server.py"))
        self.process = Process(
            [sys.executable, program, str(certs / "server.pem"), str(certs / "server-key.pem")], folder
        )
        self._groups = itertools.count()

    def pairs(self, count: int) -> list[tuple[Client, Client]]:
        """See `System`."""
        return [(one, two) for one, two in (self._group(2) for _ in range(count))]

    def room(self, count: int) -> list[Client]:
        """See `System`."""
        return self._group(count)

    def newcomer(self) -> Client:
        """See `System`. It is alone in its group."""
        return FloorClient(self, next(self._groups))

    def _group(self, count: int) -> list[Client]:
        group = next(self._groups)
        clients: list[Client] = [FloorClient(self, group) for _ in range(count)]
        for client in clients:
            client.log_in()
        return clients
