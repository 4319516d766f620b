import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from securechat import cli
from securechat.errors import UsageError
from securechat.toml import MAX_CONFIG
from securechat.ui.exit_codes import ExitCode
from securechat.ui.preferences import read_preferences

FILE = """\
user = "Alice"
server = "chat.example"   # a comment
pin = "sha256:12"
profile = "work"

[profiles.work]
server = "work.example:7"

[profiles.other]
user = "bob"
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("SECURECHAT_USER", "SECURECHAT_SERVER", "SECURECHAT_CA", "SECURECHAT_PIN", "SECURECHAT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "securechat"
    folder.mkdir(mode=0o700)
    (path := folder / "config.toml").write_text(FILE)
    path.chmod(0o600)
    return path


def shown(*arguments: str) -> dict[str, str]:
    """What `config show --origin` says of each setting."""
    done = CliRunner().invoke(cli.main, ["config", "show", "--origin", *arguments])
    assert done.exit_code == 0, done.output
    return dict(line.split(" = ", 1) for line in done.stdout.splitlines()[1:])


def test_a_profile_goes_before_what_stands_above_it_and_brings_its_own_trust(path: Path) -> None:
    found = read_preferences(path)
    assert {name: each.text for name, each in found.items()} == {"user": "Alice", "server": "work.example:7"}
    assert found["server"].place == f"{path}, line 7"
    found = read_preferences(path, "other")  # names no server, so that the one above and its pin go together
    assert {name: each.text for name, each in found.items()} == {
        "user": "bob", "server": "chat.example", "pin": "sha256:12"
    }  # fmt: skip
    assert found["user"].place == f"{path}, line 10"


def test_a_flag_goes_before_a_variable_and_that_before_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown("--profile", "other")["user"] == f'"bob"  # {path}, line 10'
    monkeypatch.setenv("SECURECHAT_PROFILE", "other")
    monkeypatch.setenv("SECURECHAT_USER", "carol")
    assert shown()["user"] == '"carol"  # SECURECHAT_USER'
    assert shown("--user", "dave")["user"] == '"dave"  # --user'
    assert shown()["password_file"] == '""  # not set'


def test_a_ca_counts_for_its_server_alone_and_the_one_said_closer_by(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECURECHAT_PROFILE", "other")
    assert shown()["pin"] == f'"sha256:12"  # {path}, line 3'
    assert shown("--server", "else.example")["pin"] == '""  # not set'
    assert shown("--server", "chat.example")["pin"] == f'"sha256:12"  # {path}, line 3'  # the twin
    found = shown("--ca", "ca.pem")
    assert (found["ca"], found["pin"]) == ('"ca.pem"  # --ca', '""  # not set')
    monkeypatch.setenv("SECURECHAT_CA", "ca.pem")
    found = shown("--pin", "sha256:34")
    assert (found["ca"], found["pin"]) == ('""  # not set', '"sha256:34"  # --pin')


def test_what_others_can_change_is_not_believed(path: Path) -> None:
    for each in (path, path.parent):
        before = each.stat().st_mode & 0o777
        for mode in (before | 0o020, before | 0o002):
            each.chmod(mode)
            with pytest.raises(UsageError, match=f"Others can change {each}, .*: chmod go-w takes that from them"):
                read_preferences(path)
        each.chmod(before)
        read_preferences(path)
    path.parent.chmod(0o1777)  # others can make files there, and touch none of ours
    read_preferences(path)


def test_a_link_is_believed_where_nobody_else_can_put_something_at_its_end(path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path.rename(elsewhere / "real.toml")
    path.symlink_to(elsewhere / "real.toml")
    elsewhere.chmod(0o777)
    with pytest.raises(UsageError, match=f"Others can change {elsewhere}, "):
        read_preferences(path)
    elsewhere.chmod(0o755)
    assert read_preferences(path)  # the twin


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_somebody_else_is_not_believed(path: Path) -> None:
    os.chown(path, 12345, -1)
    with pytest.raises(UsageError, match="belongs to another user"):
        read_preferences(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('usr = "alice"', "line 1: there is no setting 'usr'; there are user, server, ca, pin, vault, password_file"),
        ("\nuser = 7", "line 2: user is a text, in quotation marks"),
        ('user = "al ice"', "line 1: user: a user name"),
        ('server = "host:x"', "line 1: server: 'host:x' is not a server"),
        ('ca = ""', "line 1: ca: it is no path"),
        ('ca = "a"\npin = "b"', "line 2: ca and pin are two ways to say one thing"),
        ('profile = "x"', "line 1: there is no profile 'x'; there are none"),
        ("profile = 1", "line 1: profile is the name of one"),
        ("profiles = 1", "line 1: a profile is a table"),
        ('[profiles.a]\nuser = "b"\n[profiles.b]\ncolour = 1', "line 4: there is no setting 'colour'"),
        ("user = ", "Invalid value"),
        ("a." * 101 + "b = 1", "line 1: more than 100 dots"),
        ("#" * (MAX_CONFIG + 1), "is larger than"),
        ("[" * 5000, "config.toml: "),
        ('user = "\\ud800"', "config.toml"),
    ],
    ids=range(15),
)
def test_what_cannot_be_meant_is_one_sentence_with_its_place(path: Path, content: str, reason: str) -> None:
    path.write_text(content)
    done = CliRunner().invoke(cli.main, ["config", "show"])
    assert (done.exit_code, done.stdout) == (ExitCode.USAGE, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"Error: {path}")
    assert reason in done.stderr


def test_a_profile_that_is_not_there_is_told(path: Path) -> None:
    with pytest.raises(UsageError, match="there is no profile 'wrok'; there are 'work', 'other'"):
        read_preferences(path, "wrok")
    path.unlink()
    assert read_preferences(path) == {}
    with pytest.raises(UsageError, match="There is no profile 'work': .*config.toml is not there"):
        read_preferences(path, "work")
    path.mkdir()
    with pytest.raises(UsageError, match="it is a folder, and not a file"):
        read_preferences(path)


def test_what_a_command_has_no_option_for_is_not_held_against_it(path: Path) -> None:
    done = CliRunner().invoke(cli.main, ["recover", str(path), "--password-file", "none"])
    assert done.stderr == "Error: Nobody is there to ask: give it in a file.\n"  # it knows neither --user nor --server
    assert CliRunner().invoke(cli.main, ["recv", "--help"]).exit_code == 0
    path.write_text("broken")
    assert CliRunner().invoke(cli.main, ["recv", "--help"]).exit_code == 0
    assert CliRunner().invoke(cli.main, ["recv"]).exit_code == ExitCode.USAGE


def test_the_full_screen_has_its_theme_and_keys_from_the_file(path: Path) -> None:
    path.write_text('theme = "light"\nplain = "yes"\n[keys]\nsearch = "ctrl+s,f8"\n')
    found = {name: each.text for name, each in read_preferences(path).items()}
    assert found == {"theme": "light", "plain": "yes", "keys.search": "ctrl+s,f8"}
    assert shown()["plain"] == f'"yes"  # {path}, line 2'
    assert shown()["theme"] == f'"light"  # {path}, line 1'


@pytest.mark.parametrize(
    ("text", "why"),
    [('theme = "pink"', "one of dark, light"), ('plain = "maybe"', "yes or no"), ("keys = 1", "keys is a table"),
     ('[keys]\nserach = "f1"', "there is nothing 'serach'"), ('[keys]\nsearch = "Ctrl S"', "a key is written like"),
     ("[keys]\nsearch = 1", "a key is written like")],
)  # fmt: skip
def test_what_is_no_theme_and_no_key_is_told_with_its_line(path: Path, text: str, why: str) -> None:
    path.write_text(text)
    with pytest.raises(UsageError, match=f"line .*{why}"):
        read_preferences(path)
