"""Foreign servers, from Debian's packages: in the foreground, with our configuration in our folder.

Each is configured to do the same work: TLS 1.3, no limit on how fast a client may talk, no archive, any user let in.
Everything else is as the package has it, unless the server's module says why not.
"""

import os
import shutil
import socket
import subprocess
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from scripts.benchmarks.systems.system import Process, System, trusting

USER = "nobody"  # whom they run as when we are root, which most of them refuse to be
DAEMONS = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


class Packaged(System):
    """A server from a Debian package. `configure` says how to start it."""

    package: ClassVar[str]
    program: ClassVar[str]

    def __init__(self, folder: Path, certs: Path) -> None:
        """Write its configuration and start it; all that it writes goes to `folder`."""
        super().__init__()
        self.name = self.package
        self.tls = trusting(certs)
        self.folder = folder
        for name in ("server.pem", "server-key.pem"):
            shutil.copy(certs / name, folder)
        port = free_port()
        command, environment = self.configure(port)
        program = self.installed()
        assert program is not None  # or else it would not have been asked for
        root = os.geteuid() == 0
        if root:
            folder.parent.chmod(0o711)  # to be passed through
            for each in (folder, *folder.rglob("*")):
                shutil.chown(each, USER)
        self.process = Process(
            [program, *command], folder, port,
            user=USER if root else None, environment={"PATH": DAEMONS, "HOME": str(folder), **environment},
        )  # fmt: skip

    @classmethod
    def installed(cls) -> str | None:
        """The path of its program; None: not on this machine."""
        return shutil.which(cls.program, path=DAEMONS)

    @classmethod
    def version(cls) -> str:
        """Its version in Debian; empty if it did not come from there."""
        if shutil.which("dpkg-query") is None:
            return ""
        query = ["dpkg-query", "--show", "--showformat=${Version}", cls.package]
        return subprocess.run(query, check=False, capture_output=True, text=True).stdout

    @abstractmethod
    def configure(self, port: int) -> tuple[list[str], dict[str, str]]:
        """Write what it needs into `folder`; return its arguments and its environment. It shall listen at `port`."""


def free_port() -> int:
    """A free port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
