"""The command `securechat lab` and its distribution."""

import json
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

from securechat import __version__, cli

LAB = Path(__file__).parents[2] / "lab"


def test_the_lab_has_the_version_of_securechat_and_wants_the_same() -> None:
    project = tomllib.loads((LAB / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    assert f"securechat=={__version__}" in project["dependencies"]


def test_the_command_is_found_where_the_lab_is_installed() -> None:
    done = CliRunner().invoke(cli.main, ["lab", "list"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "  lab  " in CliRunner().invoke(cli.main, ["--help"]).stdout


def test_the_list_has_a_line_with_number_title_and_minutes_for_each_exercise() -> None:
    told = [json.loads(line) for line in CliRunner().invoke(cli.main, ["lab", "list", "--json"]).stdout.splitlines()]
    assert [each["number"] for each in told] == [*range(16), "B"]
    assert all(each.keys() == {"number", "title", "minutes"} for each in told)
    assert [each["minutes"] for each in told] == [
        40, 60, 80, 80, 70, 90, 60, 60, 100, 90, 60, 50, 120, 120, 90, 180, 0,
    ]  # fmt: skip


def test_without_the_lab_the_command_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def distribution(name: str) -> metadata.Distribution:
        asked.append(name)
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", distribution)
    done = CliRunner().invoke(cli.main, ["lab", "list"])
    assert done.exit_code == 2
    assert "the lab is not installed here; `scripts/lab` in the repository sets it up" in done.stderr
    assert "  lab  " not in CliRunner().invoke(cli.main, ["--help"]).stdout
    assert set(asked) == {"securechat-lab"}  # no other distribution can bring this command
