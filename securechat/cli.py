"""The command `securechat`: reads arguments, calls what does the work, turns errors into one line and an exit code.

What a command needs is imported when it runs, so that `--help` is fast and a server needs no front end.
"""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from platformdirs import user_data_path

from securechat import __version__
from securechat.errors import SecurechatError
from securechat.ui.exit_codes import ExitCode, exit_code

if TYPE_CHECKING:
    from securechat.ui.start import Options


class _Commands(click.Group):
    """Errors that securechat raises on purpose end every command in one line, never in a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (SecurechatError, TimeoutError) as error:
            # Errors may quote a file or a server: nothing in them must move the cursor or fake a second line.
            click.echo(f"Error: {_printable(str(error))}", err=True)
            ctx.exit(exit_code(error))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


class _Path(click.Path):
    """An empty path would silently mean the current folder: a script's variable that was never set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a Path, or raise click.BadParameter."""
        if value == "":
            self.fail("a path cannot be empty; the current folder is `.`", param, ctx)
        return super().convert(value, param, ctx)


_PATH = _Path(path_type=Path)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="securechat")
def main() -> None:
    """End-to-end encrypted chat over TLS."""


@main.command("gen-certs")
@click.option("--out", type=_PATH, default=Path("certs"), show_default=True, help="Folder.")
@click.option(
    "--host", "hosts", metavar="NAME|IP", multiple=True,
    help="A name or address by which clients reach the server; may be repeated.  [default: those of the present "
    "certificate, or localhost, 127.0.0.1, ::1]",
)  # fmt: skip
@click.option("--days", type=int, default=90, show_default=True, help="How long the server's certificate is valid.")
@click.option("--new-ca", is_flag=True, help="Replace the CA as well; every user then needs the new one.")
def gen_certs(out: Path, hosts: tuple[str, ...], days: int, new_ca: bool) -> None:  # noqa: FBT001 - click passes names
    """Make a private CA and the server's certificate, or renew the latter.

    A second call renews the server's certificate under the same CA. Give ca.pem, or the pin that is printed, to your
    users; the files whose names end in -key.pem are secret.
    """
    from securechat.certs import generate

    made = generate(out, hosts, days=days, new_ca=new_ca)
    click.echo(f"{'made' if made.made_ca else 'kept'} the CA    {out / 'ca.pem'}")
    click.echo(f"made the server's   {out / 'server.pem'}")
    click.echo(f"  for               {', '.join(made.hosts)}")
    click.echo(f"  until             {made.not_after.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
    click.echo(f"the CA's pin        {made.pin}")


def _apply(options: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    """Return what adds several options to a command, in their order."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_SERVER_OPTIONS = (
    click.option("--config", "file", type=_PATH, help="TOML file with these settings."),
    click.option("--host", help="Address to listen on.  [default: 127.0.0.1]"),
    click.option("--port", type=int, help="Port to listen on; 0 takes a free one.  [default: 4433]"),
    click.option("--data", type=_PATH, help="Folder of accounts and logs.  [default: data]"),
    click.option("--cert", type=_PATH, help="Certificate chain.  [default: certs/server.pem]"),
    click.option("--key", type=_PATH, help="Its private key.  [default: certs/server-key.pem]"),
    click.option("--name", help="The server's name, as clients show it.  [default: securechat]"),
    click.option("--greeting", help="Text that clients show on connecting."),
    click.option("--max-clients", type=int, metavar="N", help="Accounts in at once; others wait.  [default: 100]"),
    click.option(
        "--registration", type=click.Choice(["open", "closed", "invite"]),
        help="Who may make an account. An invite code comes from the file or SECURECHAT_INVITE_CODE.  [default: open]",
    ),
    click.option(
        "--metrics-port", type=int, help="Port for /metrics, /livez and /readyz, on 127.0.0.1.  [default: none]"
    ),
    click.option(
        "--durability", type=click.Choice(["disk", "memory"]),
        help="memory: for measuring only; a power failure then loses messages that were acknowledged.  [default: disk]",
    ),
    click.option(
        "--show-ciphertext/--no-show-ciphertext", default=None, help="Log every relayed entry, for teaching."
    ),
    click.option(
        "--log-level", type=click.Choice(["debug", "info", "warning", "error"]),
        help="The lowest level that is logged.  [default: info]",
    ),)  # fmt: skip

_server_options = _apply(_SERVER_OPTIONS)
"""Adds all settings of a server; the command gets them by name, None where they were not given."""


@main.command()
@_server_options
def server(file: Path | None, **settings: object) -> None:
    """Run a server until SIGINT or SIGTERM. SIGHUP makes it read its certificate and its settings again.

    Each setting can also be set in the file or by a variable SECURECHAT_<NAME>; a flag beats a variable, which beats
    the file.
    """
    from securechat.server.config import load_config

    given = {name: value for name, value in settings.items() if value is not None}
    load_config(given, os.environ, file)  # so that errors in it are reported before everything else is imported

    from securechat.server.process import run_server

    raise SystemExit(run_server(lambda: load_config(given, os.environ, file)))


@main.command()
@_server_options
def doctor(file: Path | None, **settings: object) -> None:
    """Check everything that a server with these settings needs: a line for each finding, with what to do.

    Nothing is changed, and a server may be running. Exits with 1 if there is a problem, and with 0 if there are only
    warnings. Run it as the user that runs the server, or as root.
    """
    from securechat.server.config import load_config
    from securechat.server.operator.doctor import examine

    given = {name: value for name, value in settings.items() if value is not None}
    worst = ExitCode.OK
    for finding in examine(lambda: load_config(given, os.environ, file), os.environ, file):
        click.echo(f"{finding.grade:<8} {finding.subject:<13} {_printable(finding.text)}")
        if finding.grade == "problem":
            worst = ExitCode.FAILURE
    raise SystemExit(worst)


@main.group()
@click.option("--config", "file", type=_PATH, help="The server's TOML file, to find its data.")
@click.option("--data", type=_PATH, help="The server's data folder.  [default: data]")
@click.pass_context
def admin(ctx: click.Context, file: Path | None, data: Path | None) -> None:
    """Manage the server that runs on this machine, on the folder --data. Only its own user can, and root."""
    from securechat.server.config import load_config

    ctx.obj = load_config({"data": data} if data is not None else {}, os.environ, file).data


@admin.group()
def users() -> None:
    """Accounts. The server never sees a password, so users set theirs themselves, with a code from here."""


_days = click.option("--days", type=int, default=7, show_default=True, help="How long the code is good.")


_line_for = click.option(
    "--line-for", metavar="HOST:PORT", default="", help="Print an invite line with the code, for this address."
)
_line_ca = click.option(
    "--ca", type=_PATH, default=Path("certs/ca.pem"), show_default=True, help="The CA that the line is to name."
)


def _line_with(line_for: str, ca: Path) -> Callable[[str], str] | None:
    """Return what puts a code into a line that vouches for nobody, if there is to be one."""
    if not line_for:
        return None
    from securechat.identity.invite_line import InviteLine
    from securechat.transport.tls import pin_of
    from securechat.ui.start import parse_server

    parse_server(line_for)
    pin = pin_of(ca)
    return lambda code: InviteLine(line_for, pin, code).encode()


@users.command("list")
@click.pass_obj
def list_users(data: Path) -> None:
    """Show all accounts."""
    from securechat.ui.admin import show_users

    click.echo(show_users(data))


@users.command("add")
@click.argument("name")
@_days
@_line_for
@_line_ca
@click.pass_obj
def add_user(data: Path, name: str, days: int, line_for: str, ca: Path) -> None:
    """Make a code with which the user NAME, who does not exist yet, can register, whatever `registration` says."""
    from securechat.server.operator.protocol import AddUser
    from securechat.ui.admin import make_code

    click.echo(make_code(data, AddUser(name, days), _line_with(line_for, ca)))


@users.command("reset-password")
@click.argument("name")
@_days
@click.pass_obj
def reset_password(data: Path, name: str, days: int) -> None:
    """Make a code with which the user NAME can set a new password. Using it also enables a disabled account."""
    from securechat.server.operator.protocol import ResetPassword
    from securechat.ui.admin import make_code

    click.echo(make_code(data, ResetPassword(name, days)))


@users.command()
@click.argument("name")
@click.pass_obj
def disable(data: Path, name: str) -> None:
    """Shut the user NAME out, at once and until enabled again."""
    from securechat.server.operator.protocol import SetEnabled
    from securechat.ui.admin import do

    do(data, SetEnabled(name, enabled=False))


@users.command()
@click.argument("name")
@click.pass_obj
def enable(data: Path, name: str) -> None:
    """Let the user NAME log in again, with the old password."""
    from securechat.server.operator.protocol import SetEnabled
    from securechat.ui.admin import do

    do(data, SetEnabled(name, enabled=True))


@admin.group()
def invites() -> None:
    """Codes that let somebody register once, whatever `registration` says."""


@invites.command("create")
@_days
@_line_for
@_line_ca
@click.pass_obj
def create_invite(data: Path, days: int, line_for: str, ca: Path) -> None:
    """Make a code with which anybody can register."""
    from securechat.server.operator.protocol import CreateInvite
    from securechat.ui.admin import make_code

    click.echo(make_code(data, CreateInvite(days), _line_with(line_for, ca)))


@invites.command("list")
@click.pass_obj
def list_invites(data: Path) -> None:
    """List the invites that are still good, without their codes, which the server does not keep."""
    from securechat.ui.admin import show_invites

    click.echo(show_invites(data))


@invites.command("revoke")
@click.argument("invite", metavar="ID")
@click.pass_obj
def revoke_invite(data: Path, invite: str) -> None:
    """Make a code worthless."""
    from securechat.server.operator.protocol import RevokeInvite
    from securechat.ui.admin import do

    do(data, RevokeInvite(invite))


@admin.group()
def rooms() -> None:
    """Rooms that belong to nobody: those that the setting `rooms` names. Everybody there is told what is done."""


@rooms.command("list")
@click.pass_obj
def list_rooms(data: Path) -> None:
    """Show these rooms, and who is barred from them."""
    from securechat.ui.admin import show_rooms

    click.echo(show_rooms(data))


@rooms.command("bar")
@click.argument("room", metavar="#ROOM")
@click.argument("name")
@click.pass_obj
def bar(data: Path, room: str, name: str) -> None:
    """Put the user NAME out of a room, for good."""
    from securechat.server.operator.protocol import Speak
    from securechat.ui.admin import do

    do(data, Speak(room, "bar", name))


@rooms.command("unbar")
@click.argument("room", metavar="#ROOM")
@click.argument("name")
@click.pass_obj
def unbar(data: Path, room: str, name: str) -> None:
    """Let the user NAME into a room again, once somebody there has said something."""
    from securechat.server.operator.protocol import Speak
    from securechat.ui.admin import do

    do(data, Speak(room, "unbar", name))


@rooms.command("remove")
@click.argument("room", metavar="#ROOM")
@click.argument("name")
@click.pass_obj
def remove(data: Path, room: str, name: str) -> None:
    """Put the user NAME out of a room; they may come back."""
    from securechat.server.operator.protocol import Speak
    from securechat.ui.admin import do

    do(data, Speak(room, "remove", name))


@rooms.command("new-key")
@click.pass_obj
def new_site_key(data: Path) -> None:
    """Make a new site key, if others may know the old one. Everybody in these rooms is told."""
    from securechat.server.operator.protocol import ChangeSiteKey
    from securechat.ui.admin import do

    do(data, ChangeSiteKey())


@admin.group()
def clock() -> None:
    """The server's clock: while it has leapt by more than a day, the server accepts nothing."""


@clock.command("accept")
@click.pass_obj
def accept_clock(data: Path) -> None:
    """Say that the clock is right now. Set it first (NTP)."""
    from securechat.server.operator.protocol import AcceptClock
    from securechat.ui.admin import do

    do(data, AcceptClock())


@admin.command()
@click.pass_obj
def status(data: Path) -> None:
    """Show the server's state."""
    from securechat.ui.admin import show_status

    click.echo(show_status(data))


@admin.command()
@click.argument("target", metavar="FILE", type=_PATH)
@click.pass_obj
def backup(data: Path, target: Path) -> None:
    """Write everything that the running server keeps into FILE, or - (standard output). As secret as the data."""
    from securechat.server.operator.backup import save_backup

    save_backup(data, target)


@admin.command()
@click.argument("source", metavar="FILE", type=_PATH)
@click.pass_obj
def restore(data: Path, source: Path) -> None:
    """Make the data folder from the backup FILE. It must be empty or absent, and no server runs on it."""
    from securechat.server.operator.backup import restore as restore_backup

    manifest = restore_backup(source, data)
    made = datetime.fromtimestamp(manifest.time / 1000, UTC)
    click.echo(f"restored {data} as it was at {made:%Y-%m-%d %H:%M:%S} UTC")


_PERSON_OPTIONS = (
    click.option("--user", metavar="NAME", required=True, envvar="SECURECHAT_USER", help="Your user name."),
    click.option(
        "--vault", metavar="DIR", type=_PATH, default=lambda: user_data_path("securechat"),
        envvar="SECURECHAT_VAULT", help="Folder of the encrypted vaults.  [default: the system's for user data]",
    ),
    click.option(
        "--password-file", type=_PATH, envvar="SECURECHAT_PASSWORD_FILE",
        help="File with the password on its first line.  [default: ask]",
    ),
)  # fmt: skip


def _client_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say who we are and where the server is; the command gets them as `options`."""

    @wraps(command)
    def run(**given: Any) -> None:
        from securechat.ui.start import Options

        given["invite"] = os.environ.get("SECURECHAT_INVITE", "")  # no flag: other processes see arguments
        names = [name for name in Options.__dataclass_fields__ if name in given]
        command(Options(**{name: given.pop(name) for name in names}), **given)

    for option in reversed((
        *_PERSON_OPTIONS,
        click.option(
            "--server", metavar="HOST:PORT", default="127.0.0.1:4433", show_default=True, envvar="SECURECHAT_SERVER"
        ),
        click.option(
            "--ca", type=_PATH, default=Path("certs/ca.pem"), show_default=True,
            envvar="SECURECHAT_CA", help="The server's CA certificate.",
        ),
        click.option(
            "--pin", metavar="HASH", default="", envvar="SECURECHAT_PIN", help="Pin of the CA, instead of --ca."
        ),
        click.option(
            "--register", is_flag=True,
            help="Make the account, if there is none yet; an invite code comes from SECURECHAT_INVITE.",
        ),
        click.option(
            "--new-identity", is_flag=True,
            help="Replace the account's identity key, if its old vault is lost. Your contacts will be warned.",
        ),
    )):  # fmt: skip
        run = option(run)
    return run


@main.command()
@_client_options
def client(options: "Options") -> None:
    """Chat in this terminal, or over a pipe: a line is a message, and a trailing backslash continues it."""
    from queue import SimpleQueue

    from securechat.ui.plain.app import Inbox, run_plain
    from securechat.ui.start import open_client, prepare

    inbox: Inbox = SimpleQueue()
    with open_client(prepare(options), inbox.put) as core:
        code = run_plain(core, inbox)
    raise SystemExit(code)


_timeout = click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Then exit with 7.")
_wait = click.option("--wait", is_flag=True, help="If the server is full, wait for a place instead of exiting with 6.")


@main.command()
@_client_options
@click.option("--room", metavar="#ROOM", default="", help="The room that it leads to.  [default: a chat with you]")
@click.option("--for", "days", type=int, default=7, show_default=True, metavar="DAYS", help="How long it is good.")
@click.option("--list", "listing", is_flag=True, help="List the lines that are good, instead.")
@click.option("--revoke", metavar="LINE", default="", help="Take a line back, by the digits that --list shows.")
@_wait
@_timeout
def invite(
    options: "Options", room: str, days: int, *, listing: bool, revoke: str, wait: bool, timeout: float | None
) -> None:
    """Print a line by which one new person comes in; give it to them in a way that nobody else reads.

    With a code in SECURECHAT_INVITE they can register by it, where the server asks for one.
    """
    from queue import SimpleQueue

    from securechat.client.commands import ListInviteLines, MakeInviteLine, RevokeInviteLine
    from securechat.ui.scripts import Events, run_invite
    from securechat.ui.start import open_client, prepare

    if revoke:
        command: ListInviteLines | MakeInviteLine | RevokeInviteLine = RevokeInviteLine(revoke)
    else:
        command = ListInviteLines() if listing else MakeInviteLine(room, days, options.invite)
    events: Events = SimpleQueue()
    with open_client(prepare(options), events.put) as core:
        code = run_invite(core, events, command, wait=wait, timeout=timeout)
    raise SystemExit(code)


@main.command()
@click.argument("file", required=False)
@_apply(_PERSON_OPTIONS)
@_wait
@_timeout
def join(
    file: str | None, user: str, vault: Path, password_file: Path | None, *, wait: bool, timeout: float | None
) -> None:
    """Come in by an invite line: make the account, ask whoever gave it to you, and chat.

    The line is asked for, or read from FILE, or from standard input (-). It is no argument, since other users of the
    machine can see those.
    """
    import sys
    from queue import SimpleQueue

    from securechat.ui.plain.app import Inbox, run_plain
    from securechat.ui.scripts import Events, run_join
    from securechat.ui.start import open_client, prepare_join, read_line

    text, line = read_line(file)
    start = prepare_join(user, vault, password_file, line)
    events: Events = SimpleQueue()
    with open_client(start, events.put) as core:
        code = run_join(core, events, text, line, wait=wait, timeout=timeout)
    if code == ExitCode.OK and sys.stdin.isatty():
        inbox: Inbox = SimpleQueue()
        with open_client(start, inbox.put) as core:
            code = run_plain(core, inbox)
    raise SystemExit(code)


_inviters = click.option(
    "--accept-invitations-of", metavar="USER:KEY", multiple=True, envvar="SECURECHAT_ACCEPT_INVITATIONS_OF",
    help="Accept invitations to rooms of this user under this key (64 digits) without asking; can be given again.",
)  # fmt: skip


@main.command()
@_client_options
@_inviters
@click.option("--to", metavar="USER|#ROOM", required=True, help="The user or room to send it to.")
@_wait
@_timeout
def send(options: "Options", to: str, *, wait: bool, timeout: float | None) -> None:
    """Send standard input as one message; exit with 0 once the server has it on disk."""
    from queue import SimpleQueue

    from securechat.ui.scripts import Events, read_text, run_send
    from securechat.ui.start import open_client, prepare

    text = read_text()
    events: Events = SimpleQueue()
    with open_client(prepare(options), events.put) as core:
        code = run_send(core, events, to, text, wait=wait, timeout=timeout)
    raise SystemExit(code)


@main.command()
@_client_options
@_inviters
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.option("--follow", is_flag=True, help="Keep printing new messages until interrupted.")
@_wait
@_timeout
def recv(options: "Options", *, as_json: bool, follow: bool, wait: bool, timeout: float | None) -> None:
    """Print the messages that have not been read on this device yet."""
    from queue import SimpleQueue

    from securechat.ui.scripts import Events, run_recv
    from securechat.ui.start import open_client, prepare

    events: Events = SimpleQueue()
    with open_client(prepare(options), events.put) as core:
        code = run_recv(core, events, as_json=as_json, follow=follow, wait=wait, timeout=timeout)
    raise SystemExit(code)
