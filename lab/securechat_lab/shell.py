"""The shell of the lab: its commands, one a line, under a prompt that says where one is.

It knows nothing but the lab's commands, uses one folder that the lab has made, and leaves this machine for nobody.
"""

import shlex
import sys
from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource

from securechat import surroundings
from securechat.cli.common import printable
from securechat.errors import UsageError
from securechat_lab.kit.command import command
from securechat_lab.kit.loopback import loopback_only
from securechat_lab.workspace import Workspace

PROMPT: Final = "weakened"
ENDS: Final = ("exit", "quit")
ELSEWHERE: Final = ("instructor", "shell")
"""Commands that have no place here: a course is nobody's exercise."""


class Shell:
    """Reads lines and runs them."""

    def __init__(self, commands: click.Group, folder: Path) -> None:
        """Open the folder, or make it. Raises `UsageError` where it is somebody else's."""
        self._commands = commands
        self._folder = Workspace.make(folder, "").folder
        self._known = [name for name in commands.commands if name not in ELSEWHERE]

    def run(self) -> None:
        """Go on until the input ends."""
        click.echo(f"Commands: {', '.join(self._known)}, {ENDS[0]}. Everything is in {self._folder}.")
        with loopback_only():
            while (line := self._ask()) is not None and line.strip() not in ENDS:
                try:
                    self._carry_out(line)
                except KeyboardInterrupt:
                    click.echo("Stopped.", err=True)

    def _ask(self) -> str | None:
        prompt = f"{PROMPT}> "
        if sys.stdin.isatty():
            import readline  # noqa: F401  # lines can be edited and called back by it

            prompt = f"\001\x1b[41;97;1m\002{PROMPT}\001\x1b[0m\002> "
        try:
            return input(prompt)
        except EOFError:
            click.echo("")
            return None
        except KeyboardInterrupt:
            click.echo("")
            return ""

    def _carry_out(self, line: str) -> None:
        try:
            try:
                words = shlex.split(line.strip().removeprefix(command()))  # what the lab prints can be typed here, too
            except ValueError as error:
                raise UsageError(f"This line cannot be read: {error}.") from None
            if words:
                self._run(*words)
        except click.ClickException as error:
            error.show()
        except (click.exceptions.Exit, SystemExit):
            pass  # what there was to say was said
        except Exception as error:
            if (ours := surroundings.told(error)) is None:
                raise
            click.echo(f"Error: {printable(str(ours))}", err=True)

    def _run(self, name: str, *arguments: str) -> None:
        if name not in self._known:
            raise UsageError(f"This is no command of the lab: {name[:40]!r}. There are {', '.join(self._known)}.")
        wanted = self._commands.commands[name]
        with wanted.make_context(name, list(arguments)) as context:
            if context.get_parameter_source("folder") is ParameterSource.DEFAULT:
                context.params["folder"] = self._folder
            for value in context.params.values():
                if isinstance(value, Path) and not value.resolve().is_relative_to(self._folder.resolve()):
                    raise UsageError(f"{value} is not in {self._folder}: this shell uses nothing else.")
            wanted.invoke(context)
