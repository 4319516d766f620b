"""The commands of people and their scripts: `client`, `send`, `recv`, and what gets an account in or back."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource
from platformdirs import user_data_path

from securechat.cli.common import PATH, apply, printable
from securechat.ui.exit_codes import ExitCode

if TYPE_CHECKING:
    from securechat.client.core import ChatClient
    from securechat.ui.plain.colour import Choice
    from securechat.ui.scripts import Events
    from securechat.ui.start import Options, Start
    from securechat.ui.time_limit import TimeLimit


_setting = partial(click.option, show_envvar=True)
"""An option that a variable sets as well, which --help names."""


def _load_preferences(ctx: click.Context, _: click.Parameter, profile: str) -> None:
    """Let the person's settings file stand behind flags and variables. What a command has no option for is left out."""
    from securechat.ui.preferences import preferences_path, read_preferences

    found = read_preferences(preferences_path(), profile)
    ctx.meta[_PLACES] = {name: each.place for name, each in found.items()}
    knows_server = any(each.name == "server" for each in ctx.command.params)  # else a line or a file says where it is
    ctx.default_map = {
        name: each.text for name, each in found.items() if knows_server or name not in ("ca", "pin")
    }  # fmt: skip


_PLACES = "securechat.places"
"""Where the settings of the file stand, in the context."""

_profile = _setting(
    "--profile", metavar="NAME", default="", envvar="SECURECHAT_PROFILE", is_eager=True, expose_value=False,
    callback=_load_preferences, help="Profile of your settings file (`securechat config show`).",
)  # fmt: skip


_PERSON_OPTIONS = (
    _setting(
        "--user", metavar="NAME", default="", envvar="SECURECHAT_USER", help="Your user name.  [default: ask]"
    ),
    _setting(
        "--vault", metavar="DIR", type=PATH, default=lambda: user_data_path("securechat"),
        envvar="SECURECHAT_VAULT", help="Folder of the encrypted vaults.  [default: the system's for user data]",
    ),
    _setting(
        "--password-file", type=PATH, envvar="SECURECHAT_PASSWORD_FILE",
        help="File with the password on its first line.  [default: ask]",
    ),
)  # fmt: skip


_CA_OPTIONS = (
    _setting(
        "--ca", type=PATH, envvar="SECURECHAT_CA",
        help="The server's CA certificate.  [default: the one that your data knows, or certs/ca.pem]",
    ),
    _setting("--pin", metavar="HASH", default="", envvar="SECURECHAT_PIN", help="Pin of the CA, instead of --ca."),
)  # fmt: skip


def _invite_code() -> str:
    """Return the one in the environment, without a file's line break: other processes can see arguments."""
    return os.environ.get("SECURECHAT_INVITE", "").strip()


_SETTINGS = (
    _profile,
    *_PERSON_OPTIONS,
    _setting(
        "--server", metavar="HOST:PORT", default="127.0.0.1:4433", show_default=True, envvar="SECURECHAT_SERVER"
    ),
    *_CA_OPTIONS,
)
"""Options that the settings file may stand behind."""


def _settle_trust(ctx: click.Context) -> None:
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


def _client_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say who we are and where the server is; the command gets them as `options`."""

    @wraps(command)
    def run(**given: Any) -> None:
        from securechat.ui.start import Options

        ctx = click.get_current_context()
        _settle_trust(ctx)
        given |= {name: ctx.params[name] for name in ("ca", "pin")}
        given["invite"] = _invite_code()
        names = [name for name in Options.__dataclass_fields__ if name in given]
        command(Options(**{name: given.pop(name) for name in names}), **given)

    for option in reversed((
        *_SETTINGS,
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


_colour = click.option(
    "--color", type=click.Choice(("auto", "always", "never")), default="auto", show_default=True,
    help="Colours; auto: at a terminal, unless NO_COLOR is set.",
)  # fmt: skip


@click.command()
@_client_options
@click.option("--join", "room", metavar="#ROOM", default="", help="Begin in this open room, as by /join.")
@click.option("--without-recovery", is_flag=True, help="Offer no recovery file to somebody new: for a try.")
@_colour
def client(options: "Options", room: str, color: "Choice", *, without_recovery: bool) -> None:
    """Chat in this terminal, or over a pipe: a line is a message, and a trailing backslash continues it."""
    from securechat.ui.start import prepare

    while True:
        start = prepare(options)
        new = not start.vault.exists()
        code = _chat(start, room, color, lasting=not without_recovery)
        if not (new and _is_typed_again(start, code)):
            raise SystemExit(code)
        options = replace(options, user="")


def _is_typed_again(start: "Start", code: int) -> bool:
    """Whether somebody new who was refused types name and password again, and was told so.

    Nobody has been in with these, and nothing is left of the try.
    """
    again = code == ExitCode.LOGIN_REFUSED and not start.vault.exists() and _at_terminal()
    if again:
        click.echo("Type name and password again, or press Ctrl-C.", err=True)
    return again


def _at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _chat(start: "Start", room: str, color: "Choice", *, lasting: bool) -> int:
    """Run the plain client; return the exit code. Somebody new who is to last is offered a recovery file first."""
    from queue import SimpleQueue

    from securechat.ui.plain.app import Inbox, run_plain
    from securechat.ui.recovery import offer_recovery
    from securechat.ui.scripts import Events, run_register
    from securechat.ui.start import open_client

    if lasting and start.settings.register and not start.vault.exists() and _at_terminal():
        events: Events = SimpleQueue()
        with open_client(start, events.put, again=True) as core:
            code = run_register(core, events)
        if code != ExitCode.OK:
            return code
        offer_recovery(start)
    inbox: Inbox = SimpleQueue()
    with open_client(start, inbox.put) as core:
        return run_plain(core, inbox, room, color)


def _limit(ctx: click.Context, _: click.Parameter, seconds: float | None) -> "TimeLimit | None":
    """Let the command's time begin, so that it holds for all that follows."""
    from securechat.ui.time_limit import TimeLimit

    if seconds is None:
        return None
    limit = TimeLimit(seconds)
    ctx.call_on_close(limit.cancel)
    return limit


_timeout = click.option(
    "--timeout", "limit", type=click.FloatRange(min=0), metavar="SECONDS", callback=_limit, is_eager=True,
    help="Exit with 7 if it takes longer.",
)  # fmt: skip


def _let_tell(_: click.Context, __: click.Parameter, quiet: bool) -> None:  # noqa: FBT001  # click's form
    from securechat.ui import person

    person.tell(news=not quiet)


_quiet = click.option(
    "--quiet", is_flag=True, callback=_let_tell, expose_value=False, is_eager=True, help="Say nothing but errors."
)


def _left(limit: "TimeLimit | None") -> float | None:
    return None if limit is None else limit.left


def _let_ask(_: click.Context, __: click.Parameter, nothing: bool) -> None:  # noqa: FBT001  # click's form
    from securechat.ui import person

    person.ask(anything=not nothing)


_no_input = click.option(
    "--no-input", is_flag=True, callback=_let_ask, expose_value=False, is_eager=True,
    help="Ask nothing, also at a terminal: what is missing is an error.",
)  # fmt: skip
def _run(options: "Options", command: "Callable[[ChatClient, Events], ExitCode]") -> NoReturn:
    """Run a command of a script, through the program that has the vault open where there is one, and exit."""
    from queue import SimpleQueue

    from securechat.ui.handover import OwnerGone
    from securechat.ui.start import prepare, reach_client

    start, code = prepare(options), None
    try:
        while code is None:
            events: Events = SimpleQueue()
            try:
                with reach_client(start, events.put) as core:
                    code = command(core, events)
            except OwnerGone:
                pass  # what it has done is in the vault, and we go on from there
    finally:
        start.password.forget()
    raise SystemExit(code)


_wait = click.option("--wait", is_flag=True, help="If the server is full, wait for a place instead of exiting with 6.")


@click.command()
@_client_options
@click.option("--room", metavar="#ROOM", default="", help="The room that it leads to.  [default: a chat with you]")
@click.option("--for", "days", type=int, default=7, show_default=True, metavar="DAYS", help="How long it is good.")
@click.option("--list", "listing", is_flag=True, help="List the lines that are good, instead.")
@click.option("--revoke", metavar="LINE", default="", help="Take a line back, by the digits that --list shows.")
@_wait
@_timeout
@_no_input
@_quiet
def invite(
    options: "Options", room: str, days: int, *, listing: bool, revoke: str, wait: bool, limit: "TimeLimit | None"
) -> None:
    """Print a line by which one new person comes in; give it to them in a way that nobody else reads.

    With a code in SECURECHAT_INVITE they can register by it, where the server asks for one.
    """
    from securechat.client.commands import ListInviteLines, MakeInviteLine, RevokeInviteLine
    from securechat.ui.scripts import run_invite

    if revoke:
        command: ListInviteLines | MakeInviteLine | RevokeInviteLine = RevokeInviteLine(revoke)
    else:
        command = ListInviteLines() if listing else MakeInviteLine(room, days, options.invite)
    _run(options, lambda core, events: run_invite(core, events, command, wait=wait, timeout=_left(limit)))


@click.command()
@click.argument("file", required=False)
@apply((_profile, *_PERSON_OPTIONS))
@_wait
@_timeout
@_no_input
@_quiet
@_colour
def join(
    file: str | None, user: str, vault: Path, password_file: Path | None, *,
    wait: bool, limit: "TimeLimit | None", color: "Choice",
) -> None:  # fmt: skip
    """Come in by an invite line: make the account, ask whoever gave it to you, and chat.

    The line is asked for, or read from FILE, or from standard input (-). It is no argument, since other users of the
    machine can see those.
    """
    from queue import SimpleQueue

    from securechat.ui.plain.app import Inbox, run_plain
    from securechat.ui.recovery import offer_recovery
    from securechat.ui.scripts import Events, run_join
    from securechat.ui.start import open_client, prepare_join, read_line

    text, line = read_line(file)
    chat = sys.stdin.isatty()
    while True:
        start = prepare_join(user, vault, password_file, line)
        new = not start.vault.exists()
        events: Events = SimpleQueue()
        with open_client(start, events.put, again=chat) as core:
            code = run_join(core, events, text, line, wait=wait, timeout=_left(limit))
        if not (new and _is_typed_again(start, code)):
            break
        user = ""
    if code == ExitCode.OK and chat:
        if limit is not None:
            limit.cancel()  # it was about coming in
        if start.settings.register:
            offer_recovery(start)
        inbox: Inbox = SimpleQueue()
        with open_client(start, inbox.put) as core:
            code = run_plain(core, inbox, colour=color)
    raise SystemExit(code)


@click.command()
@_client_options
@click.option("--out", metavar="FILE", type=PATH, help="Write it to FILE, which must not be there yet.")
@click.option("--line", is_flag=True, help="Print it as a line.")
@click.option("--qr", is_flag=True, help="Print it as a QR code.")
@click.option("--choose", is_flag=True, help="Ask for a passphrase of your own.")
@click.option("--passphrase-file", type=PATH, help="File with a passphrase of your own.")
def recovery(
    options: "Options", out: Path | None, passphrase_file: Path | None, *, line: bool, qr: bool, choose: bool
) -> None:
    """Make a recovery file: with it, and its passphrase, you are the same person on a new computer.

    It holds your identity key and where your server is, and none of your messages. By default the passphrase is made
    anew each time and shown once; one of your own has to be five unusual words or as good.
    """
    from securechat.ui.recovery import choose_passphrase, passphrase_in, run_recovery
    from securechat.ui.start import prepare

    start = prepare(options, new=False)
    if passphrase_file is not None:
        own = passphrase_in(passphrase_file, start.account)
    else:
        own = choose_passphrase(start.account, "recovery file") if choose else ""
    run_recovery(start, out, own, line=line, qr=qr)


@click.command("export")
@click.argument("out", metavar="FILE", type=PATH)
@_client_options
@click.option("--choose", is_flag=True, help="Ask for a passphrase of your own.")
@click.option("--passphrase-file", type=PATH, help="File with a passphrase of your own.")
def export_vault(options: "Options", out: Path, passphrase_file: Path | None, *, choose: bool) -> None:
    """Write all that you have here to FILE, under a passphrase, for another computer of yours.

    There `securechat import FILE` makes it yours, and from its first start on that computer is you: this one is shut
    out. By default the passphrase is made and shown once.
    """
    from securechat.ui.moving import run_export
    from securechat.ui.recovery import choose_passphrase, passphrase_in
    from securechat.ui.start import prepare

    start = prepare(options, new=False)
    if passphrase_file is not None:
        own = passphrase_in(passphrase_file, start.account)
    else:
        own = choose_passphrase(start.account, "export") if choose else ""
    run_export(start, out, own)


@click.command("import")
@click.argument("source", metavar="FILE", type=PATH)
@apply((_profile, _PERSON_OPTIONS[1]))
@click.option("--passphrase-file", type=PATH, help="File with the passphrase on its first line.  [default: ask]")
def import_vault(source: Path, vault: Path, passphrase_file: Path | None) -> None:
    """Take over what `securechat export` has written to FILE, where you are not set up yet.

    Your password stays the same. If this is stopped, nothing is there, and the same command begins anew.
    """
    from securechat.ui.moving import run_import

    run_import(source, vault, passphrase_file)


@click.command()
@click.argument("source", metavar="FILE", type=PATH)
@apply((_profile, *_PERSON_OPTIONS[1:]))
@apply(_CA_OPTIONS)
@click.option("--passphrase-file", type=PATH, help="File with the passphrase on its first line.  [default: ask]")
def recover(
    source: Path, vault: Path, password_file: Path | None, ca: Path | None, pin: str, passphrase_file: Path | None
) -> None:
    """Go on as yourself on a new computer, with the recovery file FILE (- reads it from standard input).

    The file knows the server's CA; --ca or --pin names another one that the server has had since.

    Asks for the file's passphrase and for the password of your account. If you have forgotten that one, ask the
    server's operator for a code, put it into SECURECHAT_INVITE, and choose a new password.
    """
    from securechat.ui.recovery import run_recover

    code = run_recover(source, vault, password_file, passphrase_file, _invite_code(), ca=ca, pin=pin)
    raise SystemExit(code)


@click.command()
@click.argument("source", metavar="FILE", type=PATH)
@apply((_profile, *_PERSON_OPTIONS[2:]))
@apply(_CA_OPTIONS)
@click.option("--passphrase-file", type=PATH, help="File with the passphrase on its first line.  [default: ask]")
def revoke(
    source: Path, password_file: Path | None, ca: Path | None, pin: str, passphrase_file: Path | None
) -> None:
    """Shut your lost devices out at once, from any computer, with the recovery file FILE (- is standard input).

    All devices of the account are revoked, and this computer becomes none. On a computer of your own `securechat
    recover` is better: it revokes them as well, and keeps your places in conversations.

    Asks as `securechat recover` does for passphrase and password; a code in SECURECHAT_INVITE sets a new password.
    """
    from securechat.ui.recovery import run_revoke

    raise SystemExit(run_revoke(source, password_file, passphrase_file, _invite_code(), ca=ca, pin=pin))


@click.command()
@_client_options
@click.option("--new-password-file", type=PATH, help="File with the new password on its first line.  [default: ask]")
def password(options: "Options", new_password_file: Path | None) -> None:
    """Change the password of your account, which is that of your data here, too.

    Where it was changed on another device, or by a code of the operator, this takes the new one over: the old one still
    opens your data here until then. In a running client, /password and /unlock do the same.
    """
    from queue import SimpleQueue

    from securechat.ui.scripts import Events, run_password
    from securechat.ui.start import choose_password, open_client, prepare

    start = prepare(options, new=False)
    with start.password.read() as present:
        old = present.decode()
    new = choose_password(start.account, new_password_file)
    events: Events = SimpleQueue()
    with open_client(start, events.put) as core:
        code = run_password(core, events, old, new)
    raise SystemExit(code)


_inviters = _setting(
    "--accept-invitations-of", metavar="USER:KEY", multiple=True, envvar="SECURECHAT_ACCEPT_INVITATIONS_OF",
    help="Accept invitations to rooms of this user under this key (64 digits) without asking; can be given again.",
)  # fmt: skip


@click.command()
@_client_options
@_inviters
@click.option("--to", metavar="USER|#ROOM", required=True, help="The user or room to send it to.")
@click.option(
    "--reply", type=click.IntRange(min=1), metavar="SEQ", help="Answer the message there with this seq of recv --json."
)
@click.option("--create", is_flag=True, help="Make the open room if there is none of that name.")
@_wait
@_timeout
@_no_input
@_quiet
def send(
    options: "Options", to: str, reply: int | None, *, create: bool, wait: bool, limit: "TimeLimit | None"
) -> None:
    """Send standard input as one message; exit with 0 once the server has it on disk."""
    from securechat.ui.scripts import Attempt, read_text, run_send

    text, attempt = read_text(), Attempt()
    _run(options, lambda core, events: run_send(
        core, events, to, text, attempt=attempt, reply=reply or 0, create=create, wait=wait, timeout=_left(limit),
    ))  # fmt: skip


@click.command()
@_client_options
@_inviters
@click.option("--json", "as_json", is_flag=True, help="Print all events as JSON, one a line: docs/scripts.md.")
@click.option("--follow", is_flag=True, help="Keep printing new messages until interrupted.")
@_wait
@_timeout
@_no_input
@_quiet
def recv(options: "Options", *, as_json: bool, follow: bool, wait: bool, limit: "TimeLimit | None") -> None:
    """Print the messages that have not been read on this device yet."""
    from securechat.ui.scripts import run_recv

    _run(options, lambda core, events: run_recv(
        core, events, as_json=as_json, follow=follow, wait=wait, timeout=_left(limit)
    ))  # fmt: skip


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line: docs/scripts.md.")
_limit_of_lines = click.option(
    "--limit", "lines", type=click.IntRange(1, 1000), default=100, show_default=True, help="The newest lines."
)


@click.command()
@_client_options
@click.argument("name", metavar="USER|#ROOM")
@_limit_of_lines
@_as_json
@_timeout
@_no_input
@_quiet
def history(options: "Options", name: str, *, lines: int, as_json: bool, **_: object) -> None:
    """Print what was said to a person or in a room, as far as this device has it; the server is not asked."""
    from securechat.ui.queries import run_history

    _run(options, lambda core, _: run_history(core, name, lines, as_json=as_json))


@click.command()
@_client_options
@click.argument("words", nargs=-1, required=True)
@_limit_of_lines
@_as_json
@_timeout
@_no_input
@_quiet
def search(options: "Options", words: tuple[str, ...], *, lines: int, as_json: bool, **_: object) -> None:
    """Print what this device has with these words in it; from:bob in:#room has:link after:2026-11 narrow it down."""
    from securechat.ui.queries import run_search

    _run(options, lambda core, _: run_search(core, " ".join(words), lines, as_json=as_json))


@click.command()
@_client_options
@_limit_of_lines
@_as_json
@_timeout
@_no_input
@_quiet
def files(options: "Options", *, lines: int, as_json: bool, **_: object) -> None:
    """Print the messages that share a file, as far as this device has them."""
    from securechat.ui.queries import run_search

    _run(options, lambda core, _: run_search(core, "has:file", lines, as_json=as_json))


@click.command()
@_client_options
@_as_json
@_wait
@_timeout
@_no_input
@_quiet
def rooms(options: "Options", *, as_json: bool, wait: bool, limit: "TimeLimit | None") -> None:
    """Print the rooms that one could enter, by the server's list."""
    from securechat.ui.queries import run_rooms

    _run(options, lambda core, events: run_rooms(core, events, as_json=as_json, wait=wait, timeout=_left(limit)))


@click.command()
@_client_options
@click.argument("name", metavar="USER|#ROOM")
@_as_json
@_wait
@_timeout
@_no_input
@_quiet
def members(options: "Options", name: str, *, as_json: bool, wait: bool, limit: "TimeLimit | None") -> None:
    """Print who is in a room, and how their keys stand."""
    from securechat.ui.queries import run_members

    _run(options, lambda core, events: run_members(
        core, events, name, as_json=as_json, wait=wait, timeout=_left(limit)
    ))  # fmt: skip


@click.command()
@_client_options
@click.argument("whom", metavar="USER")
@click.argument("number", metavar="[NUMBER]", default="")
@_as_json
@_wait
@_timeout
@_no_input
@_quiet
def verify(
    options: "Options", whom: str, number: str, *, as_json: bool, wait: bool, limit: "TimeLimit | None"
) -> None:
    """Print the safety number to compare with somebody; with the NUMBER that they see, note that it fits.

    It has 60 digits. One that fits no key ends with 5, and nothing is noted.
    """
    from securechat.ui.queries import run_verify

    _run(options, lambda core, events: run_verify(
        core, events, whom, number, as_json=as_json, wait=wait, timeout=_left(limit)
    ))  # fmt: skip


@click.command()
@_client_options
@_inviters
def rpc(options: "Options") -> None:
    """Serve a program: JSON-RPC 2.0 on standard input and output, one object a line; see docs/scripts.md."""
    from securechat.ui.rpc.stdio import PATIENCE, events_queue, run_rpc
    from securechat.ui.start import prepare, reach_client

    start, events = prepare(options), events_queue()
    with reach_client(start, events.put, patience=PATIENCE) as core:
        start.password.forget()
        code = run_rpc(core, events)
    raise SystemExit(code)


@click.group()
def config() -> None:
    """Your settings: flag, else variable, else the file, else default."""


@config.command("show")
@apply((*_SETTINGS, _colour))
@click.option("--origin", is_flag=True, help="Say where each comes from.")
@click.pass_context
def show_config(ctx: click.Context, /, *, origin: bool, **_: object) -> None:
    """Show the settings that the other commands would have, and where your file of them is, or would be.

    It is TOML: user, server, ca or pin, vault, password_file, color; tables [profiles.NAME] with the same; and
    profile, the name of the one that goes first without --profile.
    """
    import json

    from securechat.ui.preferences import SETTINGS, preferences_path

    path = preferences_path()
    click.echo(f"# {path}{'' if path.exists() else ' is not there'}")
    _settle_trust(ctx)
    for name in SETTINGS:
        text = printable(str(ctx.params[name] or ""))
        source = ctx.get_parameter_source(name)
        option = next(each for each in ctx.command.params if each.name == name)
        places = {
            ParameterSource.COMMANDLINE: option.opts[0],
            ParameterSource.ENVIRONMENT: str(option.envvar),
            ParameterSource.DEFAULT_MAP: ctx.meta[_PLACES].get(name, ""),
        }
        where = f"  # {places.get(source, 'default') if source and text else 'not set'}" if origin else ""
        click.echo(f"{name} = {json.dumps(text, ensure_ascii=False)}{where}")
