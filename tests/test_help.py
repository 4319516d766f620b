"""What the program says of itself: `--help`, the manual, pages for `man`, and completion in a shell."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from scripts import man
from securechat import cli
from securechat.ui.exit_codes import MEANINGS, ExitCode
from securechat.ui.session.verbs import VERBS

ROOT = Path(__file__).parents[1]


def commands(command: click.Command, ctx: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """A command and all below it, without the lab's."""
    yield command, ctx
    if isinstance(command, click.Group):
        for name, inside in command.commands.items():
            yield from commands(inside, click.Context(inside, info_name=name, parent=ctx))


ALL = list(commands(cli.main, click.Context(cli.main, info_name="securechat")))


def test_exit_codes_are_the_same_in_the_program_its_help_and_the_readme() -> None:
    assert list(MEANINGS) == list(ExitCode)
    table = re.findall(r"^\| ([0-9]+) \| (.+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert table == [(str(code.value), meaning) for code, meaning in MEANINGS.items()]
    shown = ALL[0][0].get_help(ALL[0][1])
    for code, meaning in table:
        assert f"  {code:<3}   {meaning}" in shown


@pytest.mark.parametrize(("command", "ctx"), ALL, ids=[ctx.command_path for _, ctx in ALL])
def test_every_variable_stands_in_the_help_and_every_option_on_a_page(
    command: click.Command, ctx: click.Context
) -> None:
    shown, page = "".join(command.get_help(ctx).split()), man.pages()[f"{ctx.command_path.replace(' ', '-')}.1"]
    for option in command.params:
        if isinstance(option, click.Option):
            assert not isinstance(option.envvar, str) or f"SECURECHAT_{option.envvar.partition('_')[2]}" in shown
            assert f"\\fB{option.opts[0]}".replace("-", "\\-") in page.replace("\\fB\\-h, ", "\\fB")
    requests = [line.split()[0] for line in page.splitlines() if line.startswith(".")]
    assert set(requests) <= {".TH", ".SH", ".PP", ".TP", ".nf", ".fi"}
    assert not any(line.startswith("'") for line in page.splitlines())


def test_pages_are_written_into_a_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "man.py", tmp_path / "man1"], capture_output=True, text=True, timeout=60,
        check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "man securechat" in done.stdout
    assert {each.name for each in (tmp_path / "man1").iterdir()} == set(man.pages())
    assert len(man.pages()) == len(ALL)


def test_a_shell_completes_commands_and_options() -> None:
    def completed(words: str, position: int) -> list[str]:
        done = subprocess.run(
            [Path(sys.executable).with_name("securechat")], capture_output=True, text=True, timeout=60, check=True,
            env={**os.environ, "COMP_WORDS": words, "COMP_CWORD": str(position),
                 "_SECURECHAT_COMPLETE": "bash_complete"},
        )  # fmt: skip
        return done.stdout.split()

    assert completed("securechat reco", 1) == ["plain,recover", "plain,recovery"]
    assert completed("securechat send --pass", 2) == ["plain,--password-file"]


def test_the_manual_names_what_there_is_and_is_two_screens() -> None:
    text = (ROOT / "docs" / "manual.md").read_text()
    assert text.startswith("# You were invited\n")
    assert len(text.splitlines()) < 80
    typed = set(re.findall(r"(?<![\w/.~])/[a-z]+(?:-[a-z]+)*", text)) - {"/man"}
    assert typed <= VERBS.keys()
    assert len(typed) > 20
    assert set(re.findall(r"securechat ([a-z]+)\b", text)) <= {*cli.main.commands}
