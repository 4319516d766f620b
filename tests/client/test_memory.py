"""What of the password and the identity key stays in a process's memory, searched from outside (docs/threat-model.md).

The process that is searched says where it is, and goes on when it is told to.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from securechat.client.password_source import PasswordSource
from securechat.client.vault.identity import DeviceRow
from securechat.client.vault.identity_key import IdentityKey
from securechat.client.vault.vault import Vault
from tests.support.memory import copies
from tests.support.people import CHEAP

pytestmark = pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="only Linux shows a process's memory")

PROGRAM = r"""
import sys
from pathlib import Path
from securechat.client.engine import Engine
from securechat.client.password import login_secret
from securechat.client.password_source import PasswordSource
from securechat.client.settings import ClientSettings
from securechat.client.vault.vault import Vault

def pause():
    sys.stdout.write("here\n")
    sys.stdout.flush()
    sys.stdin.buffer.raw.read(1)

vault = Vault.open(Path(sys.argv[1]), "alice", PasswordSource.in_file(Path(sys.argv[2])))
engine = Engine(ClientSettings("memory", 1), vault)
unlocking, device = engine._context.unlocking, engine._context.device
with vault.transaction():
    device.meet_server(bytes(16), 1_750_000_000, unlocking.opened)
with unlocking.password() as password:
    login_secret(password, bytes(16), "alice", bytes(32))
pause()
with unlocking.password() as password, unlocking.opened() as key:
    key.sign(b"data")
    pause()
pause()
vault.close()
"""


def wait(output: IO[bytes] | None) -> None:
    assert output is not None
    assert output.readline() == b"here\n"


def test_no_copy_of_identity_key_or_password_stays_after_use(tmp_path: Path) -> None:
    path, file = tmp_path / "alice.vault", tmp_path / "password"
    word, private = f"zebra-{os.urandom(8).hex()}".encode(), os.urandom(32)
    file.write_bytes(word + b"\n")
    vault = Vault.open(path, "alice", PasswordSource.in_file(file), cost=CHEAP)
    identity = IdentityKey.of("alice", bytearray(private), bytearray(word), CHEAP)
    with vault.transaction():
        vault.device.save(DeviceRow(identity, b"d" * 16, b"s" * 32))
    vault.close()
    command = [sys.executable, "-c", PROGRAM, str(path), str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            found = []
            for _ in range(3):
                wait(process.stdout)
                found.append((copies(process.pid, word), copies(process.pid, private)))
                assert process.stdin is not None
                process.stdin.write(b".")
                process.stdin.flush()
        finally:
            process.kill()
    certified, inside, after = found
    assert certified == (0, 0)
    assert inside[0] > 0  # the search finds what is there
    assert inside[1] > 0
    assert after == (0, 0)
