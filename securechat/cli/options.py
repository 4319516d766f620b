"""What the commands of people and their scripts share: who they are, where the server is, how long it may take."""

import os
from collections.abc import Callable
from functools import partial, wraps
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource
from platformdirs import user_data_path

from securechat.cli.common import PATH
from securechat.errors import TrustError
from securechat.ui.exit_codes import ExitCode
from securechat.ui.terminal.keys import THEME_NAMES

if TYPE_CHECKING:
    from securechat.client.core import ChatClient
    from securechat.ui.scripts.run import Events
    from securechat.ui.start import Options
    from securechat.ui.time_limit import TimeLimit


setting = partial(click.option, show_envvar=True)
"""An option that a variable sets as well, which --help names."""


def _load_preferences(ctx: click.Context, _: click.Parameter, profile: str) -> None:
    """Let the person's settings file stand behind flags and variables. What a command has no option for is left out."""
    from securechat.ui.preferences import preferences_path, read_preferences

    found = read_preferences(preferences_path(), profile)
    ctx.meta[PLACES] = {name: each.place for name, each in found.items()}
    knows_server = any(each.name == "server" for each in ctx.command.params)  # else a line or a file says where it is
    ctx.default_map = {
        name: each.text for name, each in found.items() if knows_server or name not in ("ca", "pin")
    }  # fmt: skip
    ctx.meta[KEYS] = {name.removeprefix("keys."): each.text for name, each in found.items() if name.startswith("keys.")}


KEYS = "securechat.keys"
"""The keys of the full screen that the settings file gives, in the context."""

PLACES = "securechat.places"
"""Where the settings of the file stand, in the context."""

profile = setting(
    "--profile", metavar="NAME", default="", envvar="SECURECHAT_PROFILE", is_eager=True, expose_value=False,
    callback=_load_preferences, help="Profile of your settings file (`securechat config show`).",
)  # fmt: skip


PERSON_OPTIONS = (
    setting(
        "--user", metavar="NAME", default="", envvar="SECURECHAT_USER", help="Your user name.  [default: ask]"
    ),
    setting(
        "--vault", metavar="DIR", type=PATH, default=lambda: user_data_path("securechat"),
        envvar="SECURECHAT_VAULT", help="Folder of the encrypted vaults.  [default: the system's for user data]",
    ),
    setting(
        "--password-file", type=PATH, envvar="SECURECHAT_PASSWORD_FILE",
        help="File with the password on its first line.  [default: ask]",
    ),
)  # fmt: skip


CA_OPTIONS = (
    setting(
        "--ca", type=PATH, envvar="SECURECHAT_CA",
        help="The server's CA certificate.  [default: the one that your data knows, or certs/ca.pem]",
    ),
    setting("--pin", metavar="HASH", default="", envvar="SECURECHAT_PIN", help="Pin of the CA, instead of --ca."),
)  # fmt: skip


def invite_code() -> str:
    """Return the one in the environment, without a file's line break: other processes can see arguments."""
    return os.environ.get("SECURECHAT_INVITE", "").strip()


SETTINGS = (
    profile,
    *PERSON_OPTIONS,
    setting(
        "--server", metavar="HOST:PORT", default="127.0.0.1:4433", show_default=True, envvar="SECURECHAT_SERVER"
    ),
    *CA_OPTIONS,
)
"""Options that the settings file may stand behind."""


def settle_trust(ctx: click.Context) -> None:
    """Of a CA and a pin, let the one count that was said closer by; and none of the file for a server that was named
    elsewhere. What does not count is empty in `ctx.params` then."""
    order = [ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP, ParameterSource.ENVIRONMENT]

    def rank(name: str) -> int:
        source = ctx.get_parameter_source(name)
        return order.index(source) if source in order else len(order)

    params, file = ctx.params, 1
    if rank("server") > file and params["server"] != (ctx.default_map or {}).get("server", params["server"]):
        params.update({name: empty for name, empty in (("ca", None), ("pin", "")) if rank(name) == file})
    if params["ca"] and params["pin"]:
        params.update({"pin": ""} if rank("ca") > rank("pin") else {"ca": None})


def client_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say who we are and where the server is; the command gets them as `options`."""

    @wraps(command)
    def run(**given: Any) -> None:
        from securechat.ui.start import Options

        ctx = click.get_current_context()
        settle_trust(ctx)
        given |= {name: ctx.params[name] for name in ("ca", "pin")}
        given["invite"] = invite_code()
        names = [name for name in Options.__dataclass_fields__ if name in given]
        command(Options(**{name: given.pop(name) for name in names}), **given)

    for option in reversed((
        *SETTINGS,
        click.option(
            "--register", is_flag=True,
            help="Make the account, if there is none yet; an invite code comes from SECURECHAT_INVITE.",
        ),
        click.option(
            "--contest", is_flag=True,
            help="Deny that your identity key has named another one, if somebody else has used it for that.",
        ),
        click.option(
            "--new-identity", is_flag=True,
            help="Replace the account's identity key, if its old vault is lost. Your contacts will be warned.",
        ),
    )):  # fmt: skip
        run = option(run)
    return run


plain = setting(
    "--plain", is_flag=True, envvar="SECURECHAT_PLAIN",
    help="Lines, one below the other, for screen readers; a pipe, and TERM=dumb, get them anyway.",
)  # fmt: skip

theme = click.option(
    "--theme", type=click.Choice(THEME_NAMES), default="dark", show_default=True,
    help="Colours of the full screen and the window.",
)  # fmt: skip

colour = click.option(
    "--color", type=click.Choice(("auto", "always", "never")), default="auto", show_default=True,
    help="Colours; auto: at a terminal, unless NO_COLOR is set.",
)  # fmt: skip


def _limit(ctx: click.Context, _: click.Parameter, seconds: float | None) -> "TimeLimit | None":
    """Let the command's time begin, so that it holds for all that follows."""
    from securechat.ui.time_limit import TimeLimit

    if seconds is None:
        return None
    limit = TimeLimit(seconds)
    ctx.call_on_close(limit.cancel)
    return limit


timeout = click.option(
    "--timeout", "limit", type=click.FloatRange(min=0), metavar="SECONDS", callback=_limit, is_eager=True,
    help="Exit with 7 if it takes longer.",
)  # fmt: skip


def _let_tell(_: click.Context, __: click.Parameter, quiet: bool) -> None:  # noqa: FBT001  # click's form
    from securechat.ui import person

    person.tell(news=not quiet)


quiet = click.option(
    "--quiet", is_flag=True, callback=_let_tell, expose_value=False, is_eager=True, help="Say nothing but errors."
)


def left(limit: "TimeLimit | None") -> float | None:
    return None if limit is None else limit.left


def _let_ask(_: click.Context, __: click.Parameter, nothing: bool) -> None:  # noqa: FBT001  # click's form
    from securechat.ui import person

    person.ask(anything=not nothing)


no_input = click.option(
    "--no-input", is_flag=True, callback=_let_ask, expose_value=False, is_eager=True,
    help="Ask nothing, also at a terminal: what is missing is an error.",
)  # fmt: skip


_MAX_OWNERS = 40
"""Programs in a row that may end, or break off, while a command goes through them, each within a minute: more than can
be there at once (`ui.rpc.door`). What stands between a command and the program that has the vault open, and spoils what
they say, looks like that for ever."""

_LONG_SECONDS = 60.0
"""A program through which a command went for so long has ended in an ordinary way."""


def run_script(options: "Options", command: "Callable[[ChatClient, Events], ExitCode]") -> NoReturn:
    """Run a command of a script, through the program that has the vault open where there is one, and exit."""
    from queue import SimpleQueue

    from securechat.ui.handover import OwnerGone
    from securechat.ui.start import prepare, reach_client

    start, code, gone = prepare(options), None, 0
    try:
        while code is None:
            events: Events = SimpleQueue()
            began = monotonic()
            try:
                with reach_client(start, events.put) as core:
                    code = command(core, events)
            except OwnerGone:  # what it has done is in the vault, and we go on from there
                gone = gone + 1 if monotonic() - began < _LONG_SECONDS else 1
                if gone == _MAX_OWNERS:
                    raise TrustError(
                        f"The program that has your data open has broken off {gone} times in a row. End it and try "
                        "again; if that does not help, something of your user on this machine stands between the two."
                    ) from None
    finally:
        start.password.forget()
    raise SystemExit(code)


wait_for_place = click.option(
    "--wait", is_flag=True, help="If the server is full, wait for a place instead of exiting with 6."
)
