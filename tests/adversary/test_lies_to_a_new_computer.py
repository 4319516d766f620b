"""A new computer that is to take the place of a lost one, beside a server or another program that lets it nowhere.

The command ends with what to do, and the next one goes on with the same device.
"""

import contextlib
import io
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from securechat.client import commands, events
from securechat.client.core import ChatClient
from securechat.client.events import Event
from securechat.client.password_source import PasswordSource
from securechat.client.recovery import prepare_recovery
from securechat.client.recovery_file import RecoveryContents, recovery_of
from securechat.client.vault.vault import Vault
from securechat.transport.deadline import Deadline
from securechat.ui.exit_codes import ExitCode
from securechat.ui.interrupts import Woken
from securechat.ui.scripts.account import run_recovery_of_device
from securechat.ui.scripts.run import Events
from securechat.wire import messages as m
from securechat_lab.cast.hostile import HostileServer, Lie
from securechat_lab.cast.live import CHEAP, PASSWORD, PATIENCE, LiveClient
from tests.adversary.conftest import Crowd

QUIET = 0.05
"""Seconds in which nothing more happens, once the server is silent."""


class Impatient(SimpleQueue[Event | Woken]):
    """What the command is told: as if its time were up as soon as the server has been silent, however slow all is."""

    def __init__(self, silent: Lie) -> None:
        self._silent = silent

    def get(self, block: bool = True, timeout: float | None = None) -> Event | Woken:  # noqa: FBT001, FBT002  # theirs
        del block, timeout
        deadline = Deadline(PATIENCE)
        while True:
            try:
                return super().get(timeout=min(QUIET, deadline.remaining()))
            except Empty:
                if self._silent.told:
                    raise


def file_of(person: LiveClient) -> RecoveryContents:
    """What is in a recovery file of somebody, whose program is closed by that."""
    person.close()
    with contextlib.closing(Vault.open(person.path, person.name, PasswordSource.typed(PASSWORD), cost=CHEAP)) as vault:
        return recovery_of(vault, person.settings)


def recover(person: LiveClient, contents: RecoveryContents, folder: Path, told: Events) -> tuple[ExitCode, str]:
    """Run the command on another computer; its exit code and what it has printed. `told`: what it hears of the core."""
    out = io.StringIO()
    settings = replace(person.settings, register=False)
    source = PasswordSource.typed(PASSWORD)
    with contextlib.closing(Vault.open(folder / "new.vault", person.name, source, cost=CHEAP)) as vault:
        prepare_recovery(vault, replace(contents, private=bytearray(contents.private)))
        client = ChatClient(settings, vault, on_event=told.put)
        code = run_recovery_of_device(client, told, patience=PATIENCE, out=out)
    return code, out.getvalue()


@pytest.mark.parametrize("what", [m.Login, m.FetchStatements, m.FetchKeepsake, m.Publish])
def test_a_server_that_answers_pings_alone_ends_the_recovery_with_what_to_do(
    hostile: HostileServer, crowd: Crowd, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: type[m.Message]
) -> None:
    (alice,) = crowd("alice")
    contents = file_of(alice)
    silent = hostile.from_client[what] = Lie(lambda _link, _message: [])
    code, _ = recover(alice, contents, tmp_path, Impatient(silent))
    assert silent.told
    assert code == ExitCode.TIMEOUT
    assert "has let this device get no further" in (said := capsys.readouterr().err)
    assert "the same command goes on" in said
    silent.armed = False
    code, out = recover(alice, contents, tmp_path, SimpleQueue())
    assert code == ExitCode.OK, out


def test_another_program_with_the_identity_key_ends_it_until_the_user_decides(
    hostile: HostileServer, crowd: Crowd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The old computer was not lost: it renews its key in the place that the new one has signed for."""
    (alice,) = crowd("alice")
    contents = file_of(alice)
    silent = hostile.from_client[m.Publish] = Lie(lambda _link, _message: [])
    assert recover(alice, contents, tmp_path, Impatient(silent))[0] == ExitCode.TIMEOUT
    silent.armed = False
    alice.start()
    alice.wait_for(events.Ready)
    alice.do(commands.Rotate())
    alice.do(commands.Unlock(PASSWORD))
    alice.wait_for(events.KeyRenewed)
    alice.close()
    for _ in range(2):  # and it is told at each start
        code, out = recover(alice, contents, tmp_path, SimpleQueue())
        assert code == ExitCode.UNTRUSTED
        complaint = capsys.readouterr().err
        assert "another program with your identity key" in out + complaint
        assert "start securechat, and type /rotate" in complaint
    new = LiveClient(alice.server, "alice", start=False, register=False)
    new.path = tmp_path / "new.vault"
    new.start()
    new.wait_for(events.OwnKeyUsed)
    new.do(commands.Rotate())
    new.do(commands.Unlock(PASSWORD))
    assert new.wait_for(events.Recovered).revoked == 1
    new.close()
