import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from securechat.client.addresses import Folder
from securechat.client.recovery_file import RecoveryContents
from securechat.errors import UnreachableError, UsageError
from securechat.identity.invite_line import InviteLine
from securechat.ui import start
from securechat.ui.start import (
    Options,
    parse_inviter,
    parse_server,
    prepare,
    prepare_join,
    prepare_recover,
    read_line,
)
from securechat_lab.cast.terminal import Terminal
from tests.support.live import LiveServer


def vault_at(folder: Path, address: str, server_id: bytes = bytes(16)) -> Path:
    """Something that is known as alice's vault for the server at an address."""
    folder.mkdir(exist_ok=True)
    path = folder / f"alice@{server_id.hex()}.vault"
    path.write_bytes(b"a database")
    path.with_name(path.name + ".key").write_bytes(b"its key")
    Folder(folder, "alice").note(path, server_id, [address], None)
    return path


@pytest.fixture
def options(tmp_path: Path) -> Options:
    (tmp_path / "ca.pem").write_text("a certificate, which is not looked at here")
    vault_at(tmp_path / "vaults", "chat.example:7")
    (tmp_path / "password").write_text("correct horse\nsecond line\n")
    return Options(
        user="Alice",
        server="chat.example:7",
        ca=tmp_path / "ca.pem",
        pin="",
        vault=tmp_path / "vaults",
        password_file=tmp_path / "password",
        register=True,
        new_identity=False,
        invite="code",
    )


def test_the_options_become_what_the_core_needs(options: Options) -> None:
    start = prepare(options)
    assert start.account == "alice"
    with start.password.read() as password:
        assert password == b"correct horse"
    assert (start.settings.host, start.settings.port, start.settings.ca_file) == ("chat.example", 7, options.ca)
    assert start.settings.register
    assert start.vault == options.vault / f"alice@{'00' * 16}.vault"
    assert "horse" not in repr(start)
    assert "horse" not in repr(start.settings)


def test_a_pin_takes_the_place_of_the_certificate(options: Options) -> None:
    settings = prepare(replace(options, pin="sha256:" + "0" * 64, ca=Path("nowhere"))).settings
    assert (settings.ca_file, settings.pin) == (None, "sha256:" + "0" * 64)
    with pytest.raises(UsageError, match=r"ca\.pem.*--pin"):
        prepare(replace(options, ca=Path("nowhere")))


def test_what_asks_no_server_needs_no_certificate(options: Options) -> None:
    missing = replace(options, ca=options.vault / "moved-away.pem")
    assert prepare(missing, new=False, offline=True).vault == options.vault / f"alice@{'00' * 16}.vault"
    with pytest.raises(UsageError, match=r"no CA certificate .*moved-away\.pem"):
        prepare(missing, new=False)


def test_neither_is_needed_for_a_server_that_a_vault_knows(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(options.vault)
    settings = prepare(replace(options, ca=None)).settings
    assert (settings.ca_file, settings.pin) == (None, "")
    with pytest.raises(UsageError, match=r"no CA certificate certs/ca\.pem.*--pin"):
        prepare(replace(options, ca=None, server="chat.example:8"))


@pytest.mark.parametrize("typed", ["chat.example:7", "Chat.Example:7", "chat.example.:7", "CHAT.EXAMPLE.:07"])
def test_however_a_host_is_typed_its_vault_is_found(options: Options, typed: str) -> None:
    start = prepare(replace(options, server=typed))
    assert start.vault == options.vault / f"alice@{'00' * 16}.vault"
    assert start.settings.address == "chat.example:7"
    assert start.greeting is None  # nobody was asked
    with pytest.raises(UnreachableError):  # the twin: another port
        prepare(replace(options, server="127.0.0.1:1", ca=None, pin="sha256:" + "0" * 64))


LINE = InviteLine("chat.example:7", f"sha256:{'ab' * 32}", "some-code")


def test_an_invite_line_says_where_the_server_is_and_how_it_is_known(options: Options) -> None:
    assert options.password_file is not None
    start = prepare_join("Alice", options.vault, options.password_file, LINE)
    settings = start.settings
    assert start.vault == options.vault / f"alice@{'00' * 16}.vault"
    assert (settings.address, settings.ca_pin, settings.pin, settings.ca_file) == (LINE.address, LINE.pin, "", None)
    assert (settings.register, settings.invite) == (False, "some-code")
    for each in start.vault.parent.glob(f"{start.vault.name}*"):
        each.unlink()
    with pytest.raises(UnreachableError, match="chat.example cannot be resolved"):
        prepare_join("Alice", options.vault, options.password_file, LINE)


def test_a_recovery_file_knows_the_ca_and_the_server_unless_another_ca_is_named(options: Options) -> None:
    contents = RecoveryContents("chat.example:7", LINE.pin, b"s" * 16, "alice", bytearray(32))
    file, other = options.password_file, f"sha256:{'cd' * 32}"
    start = prepare_recover(contents, options.vault, file, "", ca=None, pin="")
    assert start.vault == options.vault / f"alice@{b's'.hex() * 16}.vault"
    assert (start.settings.ca_pin, start.settings.ca_file) == (LINE.pin, None)
    settings = prepare_recover(contents, options.vault, file, "", ca=options.ca, pin="").settings
    assert (settings.pin, settings.ca_file) == ("", options.ca)
    settings = prepare_recover(contents, options.vault, file, "", ca=options.ca, pin=other).settings
    assert (settings.pin, settings.ca_file) == (other, None)


def test_a_password_is_judged_where_it_is_chosen_and_nowhere_else(options: Options) -> None:
    """With an operator's code a new one is set; without, it is the account's, which nobody can change by judging it."""
    contents = RecoveryContents("chat.example:7", LINE.pin, b"s" * 16, "alice", bytearray(32))
    file = options.password_file
    assert file is not None
    for weak in ("letmein", "Alice2024", "qwertyuiop"):
        file.write_text(f"{weak}\n")
        prepare(options)
        prepare_recover(contents, options.vault, file, "", ca=None, pin="")
        with pytest.raises(UsageError, match="too easy to guess") as refused:
            prepare_recover(contents, options.vault, file, "a-code", ca=None, pin="")
        assert weak not in str(refused.value)
    file.write_text("correct horse\n")
    prepare_recover(contents, options.vault, file, "a-code", ca=None, pin="")


def test_somebody_new_is_refused_a_weak_password_from_a_file(options: Options, server: LiveServer) -> None:
    file = options.password_file
    assert file is not None
    new = replace(options, server=f"localhost:{server.port}", ca=server.ca)
    prepare(new)
    file.write_text("password\n")
    with pytest.raises(UsageError, match=r"too easy to guess\. This is a top-10 common password"):
        prepare(new)
    prepare(replace(new, register=False))  # the account is there, with whatever it has


def test_a_secret_that_other_users_can_read_is_told(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    file = options.password_file
    assert file is not None
    for mode, told in ((0o600, False), (0o640, True), (0o604, True), (0o400, False)):
        file.chmod(mode)
        prepare(options)
        assert (f"Other users of this machine can read the password file {file}" in capsys.readouterr().err) == told
    file.chmod(0o644)
    with file.open() as stream:
        prepare(replace(options, password_file=Path(f"/dev/fd/{stream.fileno()}")))  # whose it is says no mode
    assert not capsys.readouterr().err


def test_an_invite_line_is_read_from_a_file_and_never_taken_as_an_argument(tmp_path: Path) -> None:
    file, text = tmp_path / "line", LINE.encode()
    file.write_text(f"\n{text[:50]}\r\n{text[50:]}\n")
    assert read_line(str(file))[1] == LINE
    with pytest.raises(UsageError, match="other users of this machine can see arguments") as refused:
        read_line(text)
    assert text not in str(refused.value)
    for content, reason in ((b"\xff", "not text"), (b"x" * 5000, "much longer"), (text[:99].encode(), "cut off")):
        file.write_bytes(content)
        with pytest.raises(UsageError, match=reason):
            read_line(str(file))
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_line(str(tmp_path / "none"))


def test_inviters_are_named_with_their_whole_key() -> None:
    assert parse_inviter("Alice:" + "1A2b" * 16) == ("alice", "1a2b" * 16)
    for wrong in ("alice", "alice:1a2b", ":" + "0" * 64, "alice:" + "g" * 64):
        with pytest.raises(UsageError):
            parse_inviter(wrong)


@pytest.mark.parametrize(
    ("server", "host", "port"),
    [("chat.example", "chat.example", 4433), ("chat.example:1", "chat.example", 1), ("[::1]", "::1", 4433),
     ("[::1]:65535", "::1", 65535), ("127.0.0.1:4433", "127.0.0.1", 4433)],
)  # fmt: skip
def test_a_server_is_a_host_and_perhaps_a_port(server: str, host: str, port: int) -> None:
    assert parse_server(server) == (host, port)


@pytest.mark.parametrize("server", ["", ":4433", "host:", "host:0", "host:65536", "host:x", "::1", "[::1", "a:b:c"])
def test_what_is_no_server_is_refused_with_an_example(server: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        parse_server(server)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    server = LiveServer(tmp_path / "server")
    yield server
    assert server.stop() == 0


def command(folder: Path, server: LiveServer | None = None) -> list[str]:
    """Without a server there is a vault for it."""
    if server is None:
        vault_at(folder, "localhost:4433")
    port, ca = (4433, "") if server is None else (server.port, str(server.ca))
    return [sys.executable, "-m", "tests.support.prepare_client", str(folder), str(port), ca]


def test_without_a_terminal_nobody_is_asked(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path), input=b"y\nsecret\n", capture_output=True, timeout=60, check=True)
    assert b"UsageError: Nobody is there to ask for the password" in done.stdout


def test_somebody_new_is_told_that_an_account_is_made_and_asked_twice_for_a_password_that_is_not_shown(
    tmp_path: Path, server: LiveServer
) -> None:
    with Terminal(command(tmp_path, server)) as terminal:
        terminal.wait(lambda: any("is not set up on this computer" in row for row in terminal.rows))
        for answer, question in (
            (b"secret tulip one", "New password of alice (Enter makes one):"),
            (b"secret tulip two", "The same again:"),
            (b"Alice123", "New password of alice (Enter makes one):"),
        ):
            terminal.wait(lambda question=question: terminal.cursor_row == question)  # type: ignore[misc]  # bound now
            terminal.send(answer + b"\n")
        terminal.wait(lambda: any("This password is too easy to guess." in row for row in terminal.rows))
        for question in ("New password of alice (Enter makes one):", "The same again:"):
            terminal.wait(lambda question=question: terminal.cursor_row == question)  # type: ignore[misc]  # bound now
            terminal.send(b"secret three\n")
        assert terminal.wait_for_end() == 0
        assert terminal.rows[-1] == "alice 12 bytes, register: True"
        assert not any("secret" in row for row in terminal.rows)


def test_somebody_who_has_an_account_and_wants_a_new_identity_is_asked_once(
    tmp_path: Path, server: LiveServer
) -> None:
    with Terminal([*command(tmp_path, server), "--new-identity"]) as terminal:
        terminal.wait(lambda: terminal.cursor_row == "Password of alice:")
        terminal.send(b"secret\n")
        assert terminal.wait_for_end() == 0
        assert terminal.rows[-1] == "alice 6 bytes, register: False"


def test_an_existing_vault_is_not_asked_about(tmp_path: Path) -> None:
    with Terminal(command(tmp_path)) as terminal:
        terminal.wait(lambda: terminal.cursor_row == "Password of alice:")
        terminal.send(b"\x04")
        assert terminal.wait_for_end() == 0
        assert terminal.rows[-1] == "UsageError: No password: nothing was done."


@pytest.mark.parametrize("terminal", [True, False], ids=["a terminal", "a file"])
def test_a_password_is_made_where_somebody_sees_it_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, terminal: bool
) -> None:
    answers, asked = iter(["", "glacier tulip seven", "glacier tulip seven"]), list[str]()

    def getpass(question: str) -> str:
        asked.append(question)
        return next(answers)

    monkeypatch.setattr(start, "getpass", getpass)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    password = start.choose_password("alice", None)
    assert ("is shown once" in capsys.readouterr().err) == terminal
    assert (password == "glacier tulip seven") == (not terminal)
    assert ("(Enter makes one)" in asked[0]) == terminal
