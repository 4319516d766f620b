import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from securechat import cli, errors
from securechat.ui.exit_codes import ExitCode, exit_code


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.main, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_the_program_runs_as_a_process_and_tells_its_version(tmp_path: Path) -> None:
    program = "from securechat.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])}, timeout=60,
    )  # fmt: skip
    assert done.stdout.startswith("securechat, version ")


def test_gen_certs_makes_certificates_and_prints_the_pin(tmp_path: Path) -> None:
    code, out, _ = run("gen-certs", "--out", str(tmp_path / "new"), "--host", "chat.example", "--host", "192.0.2.7")
    assert code == 0
    assert "made the CA" in out
    assert "chat.example, 192.0.2.7" in out
    pin = out.splitlines()[-1].split()[-1]
    assert pin.startswith("sha256:")
    code, out, _ = run("gen-certs", "--out", str(tmp_path / "new"))
    assert "kept the CA" in out
    assert pin in out
    assert "chat.example" in out
    code, out, _ = run("gen-certs", "--out", str(tmp_path / "new"), "--new-ca")
    assert pin not in out


def test_an_error_is_one_line_and_an_exit_code_without_traceback(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("damaged")
    code, out, err = run("gen-certs", "--out", str(tmp_path))
    assert (code, out) == (ExitCode.FAILURE, "")
    assert err.count("\n") == 1
    assert "ca-key.pem is missing" in err
    code, _, err = run("gen-certs", "--out", str(tmp_path), "--host", "no host")
    assert code == ExitCode.USAGE
    assert "neither a host name" in err
    assert run("gen-certs", "--colour")[0] == ExitCode.USAGE
    assert run("no-such-command")[0] == ExitCode.USAGE


def test_a_command_that_is_not_there_names_the_one_that_was_meant() -> None:
    code, _, err = run("cleint")
    assert (code, "No such command 'cleint'. Did you mean client?" in err) == (ExitCode.USAGE, True)
    code, _, err = run("zzz")
    assert (code, "Did you mean" in err) == (ExitCode.USAGE, False)


def test_a_second_host_does_not_replace_the_first_in_silence() -> None:
    for command in ("server", "doctor"):
        code, _, err = run(command, "--host", "127.0.0.1", "--host", "::1")
        assert code == ExitCode.USAGE
        assert "a server listens on one address, and not on 127.0.0.1 and ::1; `--host ::` is all addresses" in err


def test_the_server_gets_its_settings_from_flags_and_names_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "server.toml").write_text("prot = 1\n")
    code, _, err = run("server", "--config", str(tmp_path / "server.toml"))
    assert code == ExitCode.USAGE
    assert "server.toml, line 1: there is no setting 'prot'" in err
    code, _, err = run("server", "--port", "70000")
    assert code == ExitCode.USAGE
    assert "--port: Expected `int` <= 65535" in err
    missing = tmp_path / "missing.toml"
    code, _, err = run("server", "--config", str(missing))
    assert (code, err) == (ExitCode.USAGE, f"Error: cannot read {missing}: No such file or directory\n")


def path_parameters(command: click.Command, *before: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every parameter of the program that is a path: how to give it an empty one, and its name in messages."""
    for parameter in command.params:
        if isinstance(parameter.type, click.Path):
            option = parameter.opts[0] if isinstance(parameter, click.Option) else ""
            yield (*before, *filter(None, [option]), ""), option or str(parameter.metavar)
    if isinstance(command, click.Group):
        for name, inside in command.commands.items():
            yield from path_parameters(inside, *before, name)


def test_an_empty_path_is_refused_wherever_one_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = list(path_parameters(cli.main))
    assert {name for _, name in given} == {
        "--out", "--config", "--data", "--cert", "--key", "FILE", "--ca", "--vault", "--password-file",
        "--passphrase-file", "--new-password-file", "--file", "--voice", "--folder",
    }  # fmt: skip
    for arguments, name in given:
        code, out, err = run(*arguments)
        assert (code, out) == (ExitCode.USAGE, ""), arguments
        assert f"Invalid value for '{name}'" in err
        assert ": a path cannot be empty; the current folder is `.`" in err
    assert list(tmp_path.iterdir()) == []
    code, out, _ = run("gen-certs", "--out", ".")  # the twin
    assert (code, "made the CA    ca.pem\n" in out) == (ExitCode.OK, True)


def test_the_home_folder_may_be_written_where_no_shell_puts_it_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for home in ("~", "$HOME"):
        assert run("gen-certs", f"--out={home}/certs")[0] == ExitCode.OK
        assert (tmp_path / "certs" / "ca.pem").exists()
    code, _, err = run("recv", "--user", "alice", "--vault", "~/v", "--ca", "~/certs/ca.pem", "--server", "[::1]:1")
    assert (code, "nothing listens" in err) == (ExitCode.UNREACHABLE, True)
    code, _, err = run("gen-certs", "--out=~nobody-here/x")
    assert (code, "nobody knows the home folder that ~nobody-here/x" in err) == (ExitCode.USAGE, True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.StorageError("x"), 1),
        (errors.InternalError("x"), 1),
        (errors.PeerError("x"), 1),
        (errors.RefusedError("bad-request", "x"), 1),
        (errors.UsageError("x"), 2),
        (errors.RefusedError("login-refused", "x"), 3),
        (errors.RefusedError("name-taken", "x"), 3),
        (errors.RefusedError("registration-closed", "x"), 3),
        (errors.UnreachableError("x"), 4),
        (errors.TrustError("x"), 5),
        (errors.RefusedError("room-full", "x"), 6),
        (TimeoutError("x"), 7),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(error: errors.SecurechatError | TimeoutError, code: int) -> None:
    assert exit_code(error) == code


def test_an_error_that_quotes_a_peer_cannot_move_the_cursor() -> None:
    @click.group(cls=cli._Commands)
    def program() -> None: ...

    @program.command()
    def fail() -> None:
        raise errors.RefusedError("busy", "come back\x1b[2J\nError: all is well\u202e")

    result = CliRunner().invoke(program, ["fail"])
    assert result.exit_code == 1
    assert result.stderr == "Error: come back\ufffd[2J\ufffdError: all is well\ufffd\n"
