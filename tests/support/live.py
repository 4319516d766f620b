"""A real server process on loopback, and what its clients have."""

import signal
import socket
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

from securechat import certs
from securechat_lab.cast.live import LiveClient
from tests.support.history import View
from tests.support.server_process import ServerProcess


class LiveServer:
    """`securechat server` with certificates of its own, on a port that it keeps over restarts."""

    def __init__(
        self, folder: Path, *options: str, hosts: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        """`hosts`: names that its certificate has beside this machine's; `environment`: variables to add to our own."""
        self.folder = folder
        self.ca = folder / "certs" / "ca.pem"
        certs.generate(folder / "certs", ("localhost", "127.0.0.1", *hosts))
        self.port = self._hold()
        self._options = options
        self._environment = environment
        self.start()

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._process = ServerProcess(
            self.ca.parent, self.folder / "data", *self._options, port=self.port, environment=self._environment
        )
        self.port, self.log, self.pid = self._process.port, self._process.log, self._process.process.pid

    def _hold(self) -> int:
        """Choose a port and keep it to the end: whoever asks the system for any could be given it between two starts.

        Linux lets a server listen beside a socket that is bound and does not. Elsewhere the first start chooses (0).
        """
        if sys.platform != "linux":
            return 0
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        weakref.finalize(self, held.close)
        return int(held.getsockname()[1])

    def kill(self) -> None:
        """kill -9."""
        self._process.end(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal that does not end it."""
        self._process.process.send_signal(number)

    @property
    def has_ended(self) -> bool:
        """Whether the process has gone."""
        return self._process.process.poll() is not None

    def wait(self) -> int:
        """Wait until it ends by itself; its exit code."""
        return self._process.wait()

    def stop(self) -> int:
        """SIGTERM, unless it has ended already, and its exit code."""
        ended = self._process.process.poll()
        if ended is not None:
            return ended
        return self._process.end(signal.SIGTERM)


def view(client: LiveClient, name: str, *, joined: int = 0) -> View:
    """What a client has of a conversation, for the history checker."""
    return View(client.name, client.client.history(client.id_of(name), 10_000_000), joined)
