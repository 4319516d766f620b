"""The commands of people: `client`, and what gets an account in or back."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from securechat.cli.common import PATH, apply, printable
from securechat.cli.options import (
    CA_OPTIONS,
    KEYS,
    PERSON_OPTIONS,
    PLACES,
    SETTINGS,
    client_options,
    colour,
    invite_code,
    left,
    no_input,
    plain,
    profile,
    quiet,
    run_script,
    settle_trust,
    theme,
    timeout,
    wait_for_place,
)
from securechat.ui.exit_codes import ExitCode

if TYPE_CHECKING:
    from securechat.ui.plain.colour import Choice
    from securechat.ui.start import Options, Start
    from securechat.ui.time_limit import TimeLimit


@click.command()
@client_options
@click.option("--join", "room", metavar="#ROOM", default="", help="Begin in this open room, as by /join.")
@click.option("--without-recovery", is_flag=True, help="Offer no recovery file to somebody new: for a try.")
@plain
@theme
@colour
def client(options: "Options", room: str, color: "Choice", theme: str, *, without_recovery: bool, plain: bool) -> None:
    """Chat in this terminal: on a full screen or, with --plain, line by line.

    Over a pipe a line is a message, and a trailing backslash continues it.
    """
    from securechat.ui.start import prepare

    while True:
        start = prepare(options)
        new = not start.vault.exists()
        first = f"/join {room}" if room else ""
        code = _talk(start, first, color, theme, lasting=not without_recovery, plain=plain)
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


def _has_screen(*, plain: bool) -> bool:
    """Whether there is a full screen, and somebody who wants it."""
    return not plain and _at_terminal() and os.environ.get("TERM", "") not in ("", "dumb")


def _talk(start: "Start", first: str, color: "Choice", theme: str, *, lasting: bool, plain: bool) -> int:
    """Open the vault, and run the face that this terminal can have; return the exit code.

    `first`: a command that is done once we are in. Somebody new who is to last is offered a recovery file afterwards:
    by then they know what they would lose.
    """
    from securechat.ui.recovery import offer_recovery

    offers = lasting and start.settings.register and not start.vault.exists() and _at_terminal()
    code = _run_face(start, first, color, theme, plain=plain)
    if offers and code == ExitCode.OK:
        offer_recovery(start)
    return code


def _run_face(start: "Start", first: str, color: "Choice", theme: str, *, plain: bool) -> int:
    from queue import SimpleQueue

    from securechat.ui.plain.app import Inbox, run_plain
    from securechat.ui.plain.colour import is_wanted
    from securechat.ui.start import open_client
    from securechat.ui.told import told_to_last

    if not _has_screen(plain=plain):
        inbox: Inbox = SimpleQueue()
        with open_client(start, inbox.put) as core:
            return run_plain(core, inbox, first, color)
    if not is_wanted(color, terminal=True):
        os.environ["NO_COLOR"] = "1"  # what draws the screen asks for it
    from securechat.ui.session.mail import Mail
    from securechat.ui.terminal.app import run_terminal  # only here: it takes a quarter of a second

    mail, keys = Mail(), click.get_current_context().meta.get(KEYS, {})
    with open_client(start, mail.put) as core:
        return run_terminal(core, mail, first, theme=theme, keys=keys, said=told_to_last())


@click.command()
@client_options
@click.option("--room", metavar="#ROOM", default="", help="The room that it leads to.  [default: a chat with you]")
@click.option("--for", "days", type=int, default=7, show_default=True, metavar="DAYS", help="How long it is good.")
@click.option("--list", "listing", is_flag=True, help="List the lines that are good, instead.")
@click.option("--revoke", metavar="LINE", default="", help="Take a line back, by the digits that --list shows.")
@wait_for_place
@timeout
@no_input
@quiet
def invite(
    options: "Options", room: str, days: int, *, listing: bool, revoke: str, wait: bool, limit: "TimeLimit | None"
) -> None:
    """Print a line by which one new person comes in; give it to them in a way that nobody else reads.

    With a code in SECURECHAT_INVITE they can register by it, where the server asks for one.
    """
    from securechat.client.commands import ListInviteLines, MakeInviteLine, RevokeInviteLine
    from securechat.ui.scripts.inviting import run_invite

    if revoke:
        command: ListInviteLines | MakeInviteLine | RevokeInviteLine = RevokeInviteLine(revoke)
    else:
        command = ListInviteLines() if listing else MakeInviteLine(room, days, options.invite)
    run_script(options, lambda core, events: run_invite(core, events, command, wait=wait, timeout=left(limit)))


@click.command()
@click.argument("file", required=False)
@apply((profile, *PERSON_OPTIONS))
@click.option("--choose", is_flag=True, help="Ask for a password of your own; else one is made, and shown.")
@wait_for_place
@timeout
@no_input
@quiet
@plain
@theme
@colour
def join(
    file: str | None, user: str, vault: Path, password_file: Path | None, *,
    choose: bool, wait: bool, limit: "TimeLimit | None", color: "Choice", theme: str, plain: bool,
) -> None:  # fmt: skip
    """Come in by an invite line: make the account, ask whoever gave it to you, and chat.

    The line is asked for, or read from FILE, or from standard input (-). It is no argument, since other users of the
    machine can see those.
    """
    from queue import SimpleQueue

    from securechat.ui.scripts.inviting import run_join
    from securechat.ui.scripts.run import Events
    from securechat.ui.start import open_client, prepare_join, read_line

    text, line = read_line(file)
    if sys.stdin.isatty():
        if limit is not None:
            limit.cancel()  # whoever sits there sees how it goes, and ends it
        first = "/rooms" if line.voucher is None else f"/join {text}"
        while True:
            start = prepare_join(user, vault, password_file, line, choose=choose)
            new = not start.vault.exists()
            code = _talk(start, first, color, theme, lasting=True, plain=plain)
            if not (new and _is_typed_again(start, code)):
                raise SystemExit(code)
            user, choose = "", True
    events: Events = SimpleQueue()
    start = prepare_join(user, vault, password_file, line)
    with open_client(start, events.put) as core:
        code = run_join(core, events, text, line, wait=wait, timeout=left(limit))
    raise SystemExit(code)


@click.command()
@client_options
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

    start = prepare(options, new=False, offline=True)
    if passphrase_file is not None:
        own = passphrase_in(passphrase_file, start.account)
    else:
        own = choose_passphrase(start.account, "recovery file") if choose else ""
    run_recovery(start, out, own, line=line, qr=qr)


@click.command("export")
@click.argument("out", metavar="FILE", type=PATH)
@client_options
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

    start = prepare(options, new=False, offline=True)
    if passphrase_file is not None:
        own = passphrase_in(passphrase_file, start.account)
    else:
        own = choose_passphrase(start.account, "export") if choose else ""
    run_export(start, out, own)


@click.command("import")
@click.argument("source", metavar="FILE", type=PATH)
@apply((profile, PERSON_OPTIONS[1]))
@click.option("--passphrase-file", type=PATH, help="File with the passphrase on its first line.  [default: ask]")
def import_vault(source: Path, vault: Path, passphrase_file: Path | None) -> None:
    """Take over what `securechat export` has written to FILE, where you are not set up yet.

    Your password stays the same. If this is stopped, nothing is there, and the same command begins anew.
    """
    from securechat.ui.moving import run_import

    run_import(source, vault, passphrase_file)


@click.command()
@click.argument("source", metavar="FILE", type=PATH)
@apply((profile, *PERSON_OPTIONS[1:]))
@apply(CA_OPTIONS)
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

    code = run_recover(source, vault, password_file, passphrase_file, invite_code(), ca=ca, pin=pin)
    raise SystemExit(code)


@click.command()
@click.argument("source", metavar="FILE", type=PATH)
@apply((profile, *PERSON_OPTIONS[2:]))
@apply(CA_OPTIONS)
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

    raise SystemExit(run_revoke(source, password_file, passphrase_file, invite_code(), ca=ca, pin=pin))


@click.command()
@client_options
@click.option("--new-password-file", type=PATH, help="File with the new password on its first line.  [default: ask]")
def password(options: "Options", new_password_file: Path | None) -> None:
    """Change the password of your account, which is that of your data here, too.

    Where it was changed on another device, or by a code of the operator, this takes the new one over: the old one still
    opens your data here until then. In a running client, /password and /unlock do the same.
    """
    from queue import SimpleQueue

    from securechat.ui.scripts.account import run_password
    from securechat.ui.scripts.run import Events
    from securechat.ui.start import choose_password, open_client, prepare

    start = prepare(options, new=False)
    with start.password.read() as present:
        old = present.decode()
    new = choose_password(start.account, new_password_file)
    events: Events = SimpleQueue()
    with open_client(start, events.put) as core:
        code = run_password(core, events, old, new)
    raise SystemExit(code)


@click.command()
@client_options
@click.option("--no-browser", is_flag=True, help="Open no browser; print the page's address on standard output.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Of this machine; 0: any.")
def web(options: "Options", port: int, *, no_browser: bool) -> None:
    """Chat in your browser: a page of this machine alone, drawn from the client that runs here."""
    from queue import SimpleQueue

    from securechat.ui.start import open_client, prepare
    from securechat.ui.web.app import Inbox, run_web

    start = prepare(options)
    inbox: Inbox = SimpleQueue()
    with open_client(start, inbox.put) as core:
        code = run_web(core, inbox, port=port, browser=not no_browser)
    raise SystemExit(code)


@click.command()
@client_options
@click.option("--join", "room", metavar="#ROOM", default="", help="Begin in this open room, as by /join.")
@theme
def window(options: "Options", room: str, theme: str) -> None:
    """Chat in a window of this desktop, drawn with Tk; the extra [window] brings what it needs.

    It says nothing to screen readers, and has colour emoji where Pillow and a font of them are: `securechat web` can do
    both, and `securechat client --plain` is made for screen readers.
    """
    from securechat.ui.session.mail import Mail
    from securechat.ui.start import open_client, prepare
    from securechat.ui.window.needs import open_display

    root = open_display()  # before anything is asked
    start = prepare(options)
    from securechat.ui.window.app import run_window

    mail = Mail()
    with open_client(start, mail.put) as core:
        code = run_window(core, mail, root, first=f"/join {room}" if room else "", theme=theme)
    raise SystemExit(code)


@click.group()
def config() -> None:
    """Your settings: flag, else variable, else the file, else default."""


@config.command("show")
@apply((*SETTINGS, plain, theme, colour))
@click.option("--origin", is_flag=True, help="Say where each comes from.")
@click.pass_context
def show_config(ctx: click.Context, /, *, origin: bool, **_: object) -> None:
    """Show the settings that the other commands would have, and where your file of them is, or would be.

    It is TOML: user, server, ca or pin, vault, password_file, color, plain, theme; tables [profiles.NAME] with the
    same; profile, the name of the one that goes first without --profile; and a table [keys] for the full screen.
    """
    import json

    from securechat.ui.preferences import SETTINGS, preferences_path

    path = preferences_path()
    click.echo(f"# {path}{'' if path.exists() else ' is not there'}")
    settle_trust(ctx)
    for name in SETTINGS:
        given = ctx.params[name]
        text = printable("yes" if given is True else str(given or ""))
        source = ctx.get_parameter_source(name)
        option = next(each for each in ctx.command.params if each.name == name)
        places = {
            ParameterSource.COMMANDLINE: option.opts[0],
            ParameterSource.ENVIRONMENT: str(option.envvar),
            ParameterSource.DEFAULT_MAP: ctx.meta[PLACES].get(name, ""),
        }
        where = f"  # {places.get(source, 'default') if source and text else 'not set'}" if origin else ""
        click.echo(f"{name} = {json.dumps(text, ensure_ascii=False)}{where}")
