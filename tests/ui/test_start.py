import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from securechat.errors import StorageError, UsageError
from securechat.identity.invite_line import InviteLine
from securechat.ui.start import (
    Options,
    parse_inviter,
    parse_server,
    prepare,
    prepare_join,
    read_line,
    read_password,
    vault_path,
)
from tests.support.terminal import Terminal


@pytest.fixture
def options(tmp_path: Path) -> Options:
    (tmp_path / "ca.pem").write_text("a certificate, which is not looked at here")
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
    assert start.password == start.settings.password == "correct horse"
    assert (start.settings.host, start.settings.port, start.settings.ca_file) == ("chat.example", 7, options.ca)
    assert start.settings.register
    assert start.vault == options.vault / "alice@chat.example-7.vault"
    assert "horse" not in repr(start)
    assert "horse" not in repr(start.settings)


def test_a_pin_takes_the_place_of_the_certificate(options: Options) -> None:
    settings = prepare(replace(options, pin="sha256:" + "0" * 64, ca=Path("nowhere"))).settings
    assert (settings.ca_file, settings.pin) == (None, "sha256:" + "0" * 64)
    with pytest.raises(UsageError, match=r"ca\.pem.*--pin"):
        prepare(replace(options, ca=Path("nowhere")))


LINE = InviteLine("chat.example:7", f"sha256:{'ab' * 32}", "some-code")


def test_an_invite_line_says_where_the_server_is_and_how_it_is_known(options: Options) -> None:
    assert options.password_file is not None
    start = prepare_join("Alice", options.vault, options.password_file, LINE)
    settings = start.settings
    assert start.vault == options.vault / "alice@chat.example-7.vault"
    assert (settings.address, settings.pin, settings.ca_file) == (LINE.address, LINE.pin, None)
    assert (settings.register, settings.invite) == (True, "some-code")
    options.vault.mkdir()
    start.vault.write_bytes(b"")
    assert not prepare_join("Alice", options.vault, options.password_file, LINE).settings.register


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


def test_vaults_have_names_that_every_file_system_takes(tmp_path: Path) -> None:
    paths = {
        vault_path(tmp_path, account, host, port).name
        for account, host, port in (("alice", "::1", 1), ("alice", "::1", 2), ("a/b", "h", 1), ("a%2Fb", "h", 1))
    }
    assert paths == {"alice@%3A%3A1-1.vault", "alice@%3A%3A1-2.vault", "a%2Fb@h-1.vault", "a%252Fb@h-1.vault"}
    assert vault_path(tmp_path, "東京", "h", 1).name == "東京@h-1.vault"


def test_a_password_file_has_the_password_on_its_first_line(tmp_path: Path) -> None:
    file = tmp_path / "password"
    for content in (b"caf\xc3\xa9", b"caf\xc3\xa9\n", b"cafe\xcc\x81\r\nmore"):
        file.write_bytes(content)
        assert read_password(file) == "café"
    for wrong in (b"", b"\n", b"\xff", b"x" * 2000, b"x\n" * 5000):
        file.write_bytes(wrong)
        with pytest.raises(UsageError):
            read_password(file)
    with pytest.raises(StorageError, match="No such file"):
        read_password(tmp_path / "missing")


def command(folder: Path) -> list[str]:
    (folder / "ca.pem").touch()
    return [sys.executable, "-m", "tests.support.prepare_client", str(folder)]


def test_without_a_terminal_nobody_is_asked(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path), input=b"y\nsecret\n", capture_output=True, timeout=30, check=True)
    assert b"UsageError: Nobody is there to ask for the password" in done.stdout


def test_somebody_new_is_asked_whether_to_register_and_twice_for_a_password_that_is_not_shown(tmp_path: Path) -> None:
    with Terminal(command(tmp_path)) as terminal:
        terminal.wait(lambda: terminal.cursor_row == "Make a new account? [Y/n]")
        terminal.send(b"what?\n")
        terminal.wait(lambda: "Make a new account? [Y/n] what?" in terminal.rows)
        for answer, question in (
            (b"", "Make a new account? [Y/n]"),
            (b"secret one", "New password of alice:"),
            (b"secret two", "The same again:"),
            (b"secret three", "New password of alice:"),
            (b"secret three", "The same again:"),
        ):
            terminal.wait(lambda question=question: terminal.cursor_row == question)  # type: ignore[misc]  # bound now
            terminal.send(answer + b"\n")
        assert terminal.wait_for_end() == 0
        assert terminal.rows[-1] == "Start('alice') 12 characters, register: True"
        assert not any("secret" in row for row in terminal.rows)


def test_somebody_who_has_an_account_is_asked_once(tmp_path: Path) -> None:
    with Terminal(command(tmp_path)) as terminal:
        terminal.wait(lambda: terminal.cursor_row.endswith("[Y/n]"))
        terminal.send(b"n\n")
        terminal.wait(lambda: terminal.cursor_row == "Password of alice:")
        terminal.send(b"secret\n")
        assert terminal.wait_for_end() == 0
        assert terminal.rows[-1] == "Start('alice') 6 characters, register: False"


def test_an_existing_vault_is_not_asked_about(tmp_path: Path) -> None:
    vault_path(tmp_path, "alice", "localhost", 4433).touch()
    with Terminal(command(tmp_path)) as terminal:
        terminal.wait(lambda: terminal.cursor_row == "Password of alice:")
        terminal.send(b"\x04")
        assert terminal.wait_for_end() == 0
        assert terminal.rows[-1] == "UsageError: No password: nothing was done."
