"""The commands of `securechat admin`: each asks the server that runs on this machine, and prints what it says."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from securechat.cli.common import PATH

if TYPE_CHECKING:
    from securechat.server.operator.protocol import Request


@click.group()
@click.option("--config", "file", type=PATH, help="The server's TOML file, to find its data.")
@click.option("--data", type=PATH, help="The server's data folder.  [default: data]")
@click.pass_context
def admin(ctx: click.Context, file: Path | None, data: Path | None) -> None:
    """Manage the server that runs on this machine, on the folder --data. Only its own user can, and root."""
    from securechat.server.config import load_config

    ctx.obj = load_config({"data": data} if data is not None else {}, os.environ, file).data


@admin.group()
def users() -> None:
    """Accounts. The server never sees a password, so users set theirs themselves, with a code from here."""


_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _ask(data: Path, request: "Request", *, as_json: bool, line: Callable[[str], str] | None = None) -> None:
    """Ask the server, and print what it says."""
    from securechat.ui.admin import answer

    if shown := answer(data, request, as_json=as_json, line=line):
        click.echo(shown)
        if line is not None and not as_json:
            from securechat.ui.qr import show_beside

            show_beside(shown.splitlines()[-1])


_days = click.option("--days", type=int, default=7, show_default=True, help="How long the code is good.")


_line_for = click.option(
    "--line-for", metavar="HOST:PORT", default="", help="Print an invite line with the code, for this address."
)
_line_ca = click.option(
    "--ca", type=PATH, default=Path("certs/ca.pem"), show_default=True, help="The CA that the line is to name."
)


def _line_with(line_for: str, ca: Path) -> Callable[[str], str] | None:
    """Return what puts a code into a line that vouches for nobody, if there is to be one."""
    if not line_for:
        return None
    from securechat.identity.invite_line import InviteLine
    from securechat.transport.certificate_files import pin_of
    from securechat.ui.start import parse_server

    parse_server(line_for)
    pin = pin_of(ca)
    return lambda code: InviteLine(line_for, pin, code).encode()


@users.command("list")
@_json
@click.pass_obj
def list_users(data: Path, *, as_json: bool) -> None:
    """Show all accounts."""
    from securechat.server.operator.protocol import ListUsers

    _ask(data, ListUsers(), as_json=as_json)


@users.command("add")
@click.argument("name")
@_days
@_line_for
@_line_ca
@_json
@click.pass_obj
def add_user(data: Path, name: str, days: int, line_for: str, ca: Path, *, as_json: bool) -> None:
    """Make a code with which the user NAME, who does not exist yet, can register, whatever `registration` says."""
    from securechat.server.operator.protocol import AddUser

    _ask(data, AddUser(name, days), as_json=as_json, line=_line_with(line_for, ca))


@users.command("reset-password")
@click.argument("name")
@_days
@_json
@click.pass_obj
def reset_password(data: Path, name: str, days: int, *, as_json: bool) -> None:
    """Make a code with which the user NAME can set a new password. Using it also enables a disabled account."""
    from securechat.server.operator.protocol import ResetPassword

    _ask(data, ResetPassword(name, days), as_json=as_json)


@users.command()
@click.argument("name")
@_json
@click.pass_obj
def disable(data: Path, name: str, *, as_json: bool) -> None:
    """Shut the user NAME out, at once and until enabled again."""
    from securechat.server.operator.protocol import SetEnabled

    _ask(data, SetEnabled(name, enabled=False), as_json=as_json)


@users.command()
@click.argument("name")
@_json
@click.pass_obj
def enable(data: Path, name: str, *, as_json: bool) -> None:
    """Let the user NAME log in again, with the old password."""
    from securechat.server.operator.protocol import SetEnabled

    _ask(data, SetEnabled(name, enabled=True), as_json=as_json)


@users.command("delete")
@click.argument("name")
@_json
@click.pass_obj
def delete_user(data: Path, name: str, *, as_json: bool) -> None:
    """Delete the user NAME for good: sessions, devices, keys and keepsake. Nobody gets the name again."""
    from securechat.server.operator.protocol import DeleteUser

    _ask(data, DeleteUser(name), as_json=as_json)


@admin.group()
def sessions() -> None:
    """Devices that are logged in."""


@sessions.command("list")
@_json
@click.pass_obj
def list_sessions(data: Path, *, as_json: bool) -> None:
    """Show who is there, from where, and with how much that they have not read."""
    from securechat.server.operator.protocol import ListSessions

    _ask(data, ListSessions(), as_json=as_json)


@sessions.command("kick")
@click.argument("name")
@_json
@click.pass_obj
def kick(data: Path, name: str, *, as_json: bool) -> None:
    """End all sessions of the user NAME, who comes back with the password only. `users disable` keeps them out."""
    from securechat.server.operator.protocol import EndSessions

    _ask(data, EndSessions(name), as_json=as_json)


@admin.command()
@click.option("--count", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many of each.")
@_json
@click.pass_obj
def top(data: Path, count: int, *, as_json: bool) -> None:
    """Show which users and rooms hold most of the disk, and who sends most in this second."""
    from securechat.server.operator.protocol import Top

    _ask(data, Top(count), as_json=as_json)


@admin.command()
@click.argument("text")
@_json
@click.pass_obj
def notice(data: Path, text: str, *, as_json: bool) -> None:
    """Say TEXT to everybody who is logged in. It is shown as the word of whoever runs the server."""
    from securechat.server.operator.protocol import Announce

    _ask(data, Announce(text), as_json=as_json)


@admin.group()
def invites() -> None:
    """Codes that let somebody register once, whatever `registration` says."""


@invites.command("create")
@_days
@_line_for
@_line_ca
@_json
@click.pass_obj
def create_invite(data: Path, days: int, line_for: str, ca: Path, *, as_json: bool) -> None:
    """Make a code with which anybody can register."""
    from securechat.server.operator.protocol import CreateInvite

    _ask(data, CreateInvite(days), as_json=as_json, line=_line_with(line_for, ca))


@invites.command("list")
@_json
@click.pass_obj
def list_invites(data: Path, *, as_json: bool) -> None:
    """List the invites that are still good, without their codes, which the server does not keep."""
    from securechat.server.operator.protocol import ListInvites

    _ask(data, ListInvites(), as_json=as_json)


@invites.command("revoke")
@click.argument("invite", metavar="ID")
@_json
@click.pass_obj
def revoke_invite(data: Path, invite: str, *, as_json: bool) -> None:
    """Make a code worthless."""
    from securechat.server.operator.protocol import RevokeInvite

    _ask(data, RevokeInvite(invite), as_json=as_json)


@admin.group()
def rooms() -> None:
    """Rooms that belong to nobody: those that the setting `rooms` names. Everybody there is told what is done.

    `list --all` and `delete` are about all rooms.
    """


@rooms.command("list")
@click.option("--all", "of_all", is_flag=True, help="Show all rooms, who began them, and what they hold, instead.")
@_json
@click.pass_obj
def list_rooms(data: Path, *, of_all: bool, as_json: bool) -> None:
    """Show these rooms, and who is barred from them."""
    from securechat.server.operator.protocol import ListAllRooms, ListRooms

    _ask(data, ListAllRooms() if of_all else ListRooms(), as_json=as_json)


@rooms.command("delete")
@click.argument("room", metavar="#ROOM|ID")
@_json
@click.pass_obj
def delete_room(data: Path, room: str, *, as_json: bool) -> None:
    """Delete any room with all that is in it. Its members are told, and its name is free."""
    from securechat.server.operator.protocol import DeleteRoom

    _ask(data, DeleteRoom(room), as_json=as_json)


@rooms.command("bar")
@click.argument("room", metavar="#ROOM")
@click.argument("name")
@_json
@click.pass_obj
def bar(data: Path, room: str, name: str, *, as_json: bool) -> None:
    """Put the user NAME out of a room, for good."""
    from securechat.server.operator.protocol import Speak

    _ask(data, Speak(room, "bar", name), as_json=as_json)


@rooms.command("unbar")
@click.argument("room", metavar="#ROOM")
@click.argument("name")
@_json
@click.pass_obj
def unbar(data: Path, room: str, name: str, *, as_json: bool) -> None:
    """Let the user NAME into a room again, once somebody there has said something."""
    from securechat.server.operator.protocol import Speak

    _ask(data, Speak(room, "unbar", name), as_json=as_json)


@rooms.command("remove")
@click.argument("room", metavar="#ROOM")
@click.argument("name")
@_json
@click.pass_obj
def remove(data: Path, room: str, name: str, *, as_json: bool) -> None:
    """Put the user NAME out of a room; they may come back."""
    from securechat.server.operator.protocol import Speak

    _ask(data, Speak(room, "remove", name), as_json=as_json)


@rooms.command("upgrade")
@click.argument("room", metavar="#ROOM")
@_json
@click.pass_obj
def upgrade(data: Path, room: str, *, as_json: bool) -> None:
    """Let a room go over to the newest rules that this server knows.

    It does once every program there knows them; `rooms list` shows whose does not.
    """
    from securechat.server.operator.protocol import UpgradeRoom

    _ask(data, UpgradeRoom(room), as_json=as_json)


@rooms.command("new-key")
@_json
@click.pass_obj
def new_site_key(data: Path, *, as_json: bool) -> None:
    """Make a new site key, if others may know the old one. Everybody in these rooms is told."""
    from securechat.server.operator.protocol import ChangeSiteKey

    _ask(data, ChangeSiteKey(), as_json=as_json)


@admin.group()
def clock() -> None:
    """The server's clock: while it has leapt by more than a day, the server accepts nothing."""


@clock.command("accept")
@_json
@click.pass_obj
def accept_clock(data: Path, *, as_json: bool) -> None:
    """Say that the clock is right now. Set it first (NTP)."""
    from securechat.server.operator.protocol import AcceptClock

    _ask(data, AcceptClock(), as_json=as_json)


@admin.command()
@_json
@click.pass_obj
def status(data: Path, *, as_json: bool) -> None:
    """Show the server's state."""
    from securechat.server.operator.protocol import GetStatus

    _ask(data, GetStatus(), as_json=as_json)


@admin.command()
@click.argument("target", metavar="FILE", type=PATH)
@_json
@click.pass_obj
def backup(data: Path, target: Path, *, as_json: bool) -> None:
    """Write everything that the running server keeps into FILE, or - (standard output). As secret as the data."""
    from securechat.server.operator.backup import save_backup

    if as_json and str(target) == "-":
        raise click.UsageError("standard output is for the backup: --json needs a file")
    save_backup(data, target)
    if as_json:
        from securechat.ui.admin import to_json

        click.echo(to_json({"file": str(target), "size": target.stat().st_size}))


@admin.command()
@click.argument("source", metavar="FILE", type=PATH)
@_json
@click.pass_obj
def restore(data: Path, source: Path, *, as_json: bool) -> None:
    """Make the data folder from the backup FILE. It must be empty or absent, and no server runs on it."""
    from securechat.server.operator.backup import restore as restore_backup

    manifest = restore_backup(source, data)
    if as_json:
        from securechat.ui.admin import to_json

        click.echo(to_json(manifest))
        return
    made = datetime.fromtimestamp(manifest.time / 1000, UTC)
    click.echo(f"restored {data} as it was at {made:%Y-%m-%d %H:%M:%S} UTC")
