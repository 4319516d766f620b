"""The server as its own process, to be ended in every way."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self


class ServerProcess:
    """`securechat server` with a data folder and certificates; logs go to `log`."""

    def __init__(self, certificates: Path, data: Path, *options: str, port: int = 0) -> None:
        self.log = data.parent / "server.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-c", "from securechat.cli import main; main()", "server", "--port", str(port),
                    "--data", data, "--cert", certificates / "server.pem", "--key", certificates / "server-key.pem",
                    *options,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        found = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)
        if found is None:
            self.end(signal.SIGKILL)
            raise AssertionError(f"the server did not start: {line!r}\n{self.log.read_text()}")
        self.port = int(found[1])

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end; the exit code."""
        try:
            return self.process.wait(timeout=30)
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)
