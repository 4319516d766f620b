"""The command `securechat`: reads arguments, calls what does the work, turns errors into one line and an exit code.

What a command needs is imported when it runs, so that `--help` is fast and a server needs no front end.
"""

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import click

from securechat import __version__, dumps, surroundings
from securechat.cli import admin, client, scripts, server
from securechat.cli.common import printable
from securechat.errors import InternalError, SecurechatError
from securechat.ui.exit_codes import MEANINGS, ExitCode, exit_code

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class _Commands(click.Group):
    """What securechat raises on purpose, and what the surroundings do, ends every command in one line."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the program, and see that what it has printed went out. Bugs, and no others, end in a traceback."""
        surroundings.open_closed_streams()
        try:
            try:
                return super().main(*args, **extra)
            finally:
                sys.stdout.flush()
        except Exception as error:
            if (ours := surroundings.told(error)) is None:
                raise
            _silence()
            _tell(ours)
            sys.exit(exit_code(ours))

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the arguments. What `--help` prints there may meet an output that takes nothing."""
        try:
            return super().make_context(*args, **extra)
        except click.ClickException as error:
            _show(error)
        except BrokenPipeError as error:
            raise _told(error) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (SecurechatError, TimeoutError) as error:
            _tell(error)
            ctx.exit(exit_code(error))
        except click.ClickException as error:
            _show(error)
        except BrokenPipeError as error:
            raise _told(error) from error
        except KeyboardInterrupt:
            ctx.exit(ExitCode.INTERRUPTED)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may have been meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            like = get_close_matches(args[0], self.list_commands(ctx), 1)
            raise click.UsageError(f"{error.message} Did you mean {like[0]}?" if like else error.message, ctx) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name them all; the lab is there where it is installed."""
        return sorted([*super().list_commands(ctx), *(["lab"] if _lab() else [])])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command. The lab brings its own."""
        if cmd_name != "lab":
            return super().get_command(ctx, cmd_name)
        if not (entry := _lab()):
            ctx.fail("the lab is not installed here; `scripts/lab` in the repository sets it up")
        command = entry.load()
        return command if isinstance(command, click.Command) else None


def _told(error: BrokenPipeError) -> SecurechatError:
    """Return it as an error of ours: click would end the program by it without a word."""
    return surroundings.told(error) or InternalError(str(error))


def _show(error: click.ClickException) -> NoReturn:
    """Show what is wrong with the arguments. The code says so, too, where nobody hears it."""
    with suppress(OSError):
        error.show()
    sys.exit(error.exit_code)


def _tell(error: Exception) -> None:
    """Errors may quote a file or a server: nothing in them must move the cursor or fake a second line."""
    from securechat.ui.told import tell

    with suppress(OSError):  # nobody hears it
        tell(f"Error: {printable(str(error))}")


def _lab() -> "EntryPoint | None":
    """Where the lab's command is: in the distribution of this name, and in no other that may say the same."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = distribution("securechat-lab").entry_points.select(group="securechat", name="lab")
    except PackageNotFoundError:
        return None
    return next(iter(found), None)


def _silence() -> None:
    """Let nothing more be written to an output that does not take it: Python would try once more at its end."""
    with suppress(OSError, ValueError):  # it has no descriptor in tests
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_EPILOG = f"""\b
Variables, besides those that the options name:
  SECURECHAT_INVITE   a code to register with, or to set a new password
  SECURECHAT_<NAME>   each setting of `server`, as its --help says
  XDG_CONFIG_HOME     where securechat/config.toml is, your settings file
  VISUAL, EDITOR      what /editor opens

\b
Exit codes:
{chr(10).join(f"  {code.value:<3}   {meaning}" for code, meaning in MEANINGS.items())}
"""


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.version_option(__version__, prog_name="securechat")
def main() -> None:
    """End-to-end encrypted chat over TLS."""
    dumps.forbid()  # before any of them has a secret


for _command in (
    server.gen_certs, server.server, server.doctor, admin.admin, client.web, client.window,
    client.client, client.invite, client.join, client.recovery, client.recover, client.revoke, client.password,
    client.export_vault, client.import_vault, client.config,
    scripts.send, scripts.recv, scripts.history, scripts.search, scripts.files, scripts.save, scripts.rooms,
    scripts.members, scripts.verify, scripts.rpc,
):  # fmt: skip
    main.add_command(_command)
