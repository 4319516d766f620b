"""The server as its own process, to be ended in every way."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from securechat_lab.cast.wire_client import secrets_in


def server_command(certificates: Path, data: Path, *options: str, port: int = 0) -> list[str]:
    """The command line of a server, whose hashes are cheap."""
    return [
        sys.executable, "-m", "tests.support.cheap", "server", "--port", str(port),
        "--data", str(data), "--cert", str(certificates / "server.pem"), "--key", str(certificates / "server-key.pem"),
        *options,
    ]  # fmt: skip


def server_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Its environment: ours, the code under test, and a reserve on the disk that takes little of it."""
    return {**os.environ, "PYTHONPATH": str(Path.cwd()), "SECURECHAT_DISK_FLOOR": "1 MiB", **(more or {})}


class ServerProcess:
    """`securechat server` with a data folder and certificates; it logs everything that it can, to `log`.

    Once it has ended, none of our clients' secrets may be in its log.
    """

    def __init__(
        self,
        certificates: Path,
        data: Path,
        *options: str,
        port: int = 0,
        under: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`under`: a command that runs the server, such as prlimit; `environment`: variables to add to our own."""
        self.log = data.parent / "server.log"
        with self.log.open("ab") as log:
            self._logged_before = log.tell()
            self.process = subprocess.Popen(
                [*under, *server_command(certificates, data, "--log-level", "debug", *options, port=port)],
                stdout=subprocess.PIPE,
                stderr=log,
                env=server_environment(environment),
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        found = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)
        if found is None:
            self.end(signal.SIGKILL)
            raise AssertionError(f"the server did not start: {line!r}\n{self.log.read_text()}")
        self.port = int(found[1])

    def lines(self) -> list[dict[str, Any]]:
        """Return what it has logged so far. A line of which a part is there is none yet."""
        return [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; the exit code. A process that does not end is killed, and TimeoutExpired raised."""
        try:
            code = self.process.wait(timeout=60)  # seconds: a busy machine is no failure
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()
        with self.log.open("rb") as log:
            log.seek(self._logged_before)
            assert not (found := secrets_in(log.read())), found
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)
