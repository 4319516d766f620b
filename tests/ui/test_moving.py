"""`securechat export` and `securechat import`, as they are typed, against a real server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from securechat.ui.exit_codes import ExitCode
from securechat_lab.cast.terminal import Terminal
from tests.support.live import LiveServer

PROGRAM = [sys.executable, "-m", "tests.support.cheap"]
PASSWORD = "glacier tulip seven"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    server = LiveServer(tmp_path / "server")
    yield server
    assert server.stop() == 0


def run(*arguments: str, stdin: str = "", environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_a_vault_moves_and_goes_on(server: LiveServer, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    file, there, here = tmp_path / "alice.export", tmp_path / "new", tmp_path / "old"
    old = {
        "SECURECHAT_VAULT": str(here), "SECURECHAT_SERVER": f"localhost:{server.port}", "SECURECHAT_CA": str(server.ca),
        "SECURECHAT_PASSWORD_FILE": str(tmp_path / "password"), "SECURECHAT_USER": "alice",
    }  # fmt: skip
    new = {**old, "SECURECHAT_VAULT": str(there)}
    assert run("send", "--register", "--create", "--to", "#lobby", stdin="before", environment=old).returncode == 0
    done = run("export", str(file), environment=old)
    assert (done.returncode, done.stdout) == (0, "")
    passphrase = done.stderr.split("is shown once: ")[1].split()[0]
    assert "securechat import alice.export. When alice starts there" in done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(here.glob("*.exporting")) == []
    done = run("export", str(file), environment=old)
    assert (done.returncode, "is there already" in done.stderr) == (ExitCode.FAILURE, True)
    (tmp_path / "wrong").write_text("abcde-fghjk-mnpqr-stuvw")
    (tmp_path / "wrong").chmod(0o600)
    done = run("import", str(file), "--passphrase-file", str(tmp_path / "wrong"), environment=new)
    assert (done.returncode, done.stderr.count("\n")) == (ExitCode.USAGE, 1)
    assert "Error: The passphrase does not open this export." in done.stderr
    assert not there.exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECURECHAT_VAULT", str(there))
        with Terminal([*PROGRAM, "import", str(file)], orders=False, columns=120) as terminal:
            terminal.wait(lambda: terminal.cursor_row == "Passphrase of the export:")
            terminal.send(b"nothing\n")  # a typing error is asked about again
            terminal.wait(lambda: any("does not open this export" in row for row in terminal.rows[:-1]))
            terminal.wait(lambda: terminal.cursor_row == "Passphrase of the export:")
            terminal.send(passphrase.encode() + b"\n")
            assert terminal.wait_for_end() == 0
            assert any("alice is on this computer now, under the same password" in row for row in terminal.rows)
            assert not any(passphrase in row for row in terminal.rows)
    del new["SECURECHAT_CA"]  # it is known
    assert run("send", "--to", "#lobby", stdin="after", environment=new).returncode == 0
    done = run("send", "--to", "#lobby", "--timeout", "20", stdin="from the old one", environment=old)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    done = run("import", str(file), "--passphrase-file", str(tmp_path / "wrong"), environment=old)
    assert done.returncode == ExitCode.USAGE
