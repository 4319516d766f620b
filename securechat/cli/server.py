"""The commands of whoever runs a server: `gen-certs`, `server`, `doctor`."""

import os
import sys
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from securechat.cli.common import PATH, apply, printable
from securechat.errors import SecurechatError
from securechat.hosts import address_of, is_loopback
from securechat.ui.exit_codes import ExitCode

if TYPE_CHECKING:
    from securechat.server.config import ServerConfig


@click.command("gen-certs")
@click.option("--out", type=PATH, default=Path("certs"), show_default=True, help="Folder.")
@click.option(
    "--host", "hosts", metavar="NAME|IP", multiple=True,
    help="A name or address by which clients reach the server, besides those of the present certificate; may be "
    "repeated.  [default: localhost, 127.0.0.1, ::1]",
)  # fmt: skip
@click.option("--only", is_flag=True, help="Drop the names that the present certificate has.")
@click.option("--days", type=int, default=90, show_default=True, help="How long the server's certificate is valid.")
@click.option("--new-ca", is_flag=True, help="Replace the CA as well; every user then needs the new one.")
@click.option("--constrain", is_flag=True, help="Make a CA that can sign for these names alone, for good.")
def gen_certs(out: Path, hosts: tuple[str, ...], **options: Any) -> None:
    """Make a private CA and the server's certificate, or renew the latter.

    A second call renews the server's certificate under the same CA. Give ca.pem, or the pin that is printed, to your
    users; the files whose names end in -key.pem are secret. The CA is for securechat's clients: put it into no system's
    or browser's store.
    """
    from securechat.certs import generate

    made = generate(out, hosts, **options)
    click.echo(f"{'made' if made.made_ca else 'kept'} the CA    {out / 'ca.pem'}")
    click.echo(f"made the server's   {out / 'server.pem'}")
    click.echo(f"  for               {', '.join(made.hosts)}")
    click.echo(f"  until             {made.not_after.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
    click.echo(f"the CA's pin        {made.pin}")


def _one_host(ctx: click.Context, param: click.Parameter, hosts: tuple[str, ...]) -> str | None:
    """Take one address; a second one would replace the first in silence."""
    if len(hosts) > 1:
        raise click.BadParameter(
            f"a server listens on one address, and not on {' and '.join(hosts)}; `--host ::` is all addresses of this "
            "machine, IPv4 and IPv6",
            ctx,
            param,
        )
    return hosts[0] if hosts else None


_SERVER_OPTIONS = (
    click.option("--config", "file", type=PATH, help="TOML file with these settings."),
    click.option(
        "--host", multiple=True, callback=_one_host,
        help="Address to listen on; 0.0.0.0 is all of IPv4, :: all of both families.  [default: 127.0.0.1]",
    ),
    click.option("--port", type=int, help="Port to listen on; 0 takes a free one.  [default: 4433]"),
    click.option("--data", type=PATH, help="Folder of accounts and logs.  [default: data]"),
    click.option("--cert", type=PATH, help="Certificate chain.  [default: certs/server.pem]"),
    click.option("--key", type=PATH, help="Its private key.  [default: certs/server-key.pem]"),
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

_server_options = apply(_SERVER_OPTIONS)
"""Adds all settings of a server; the command gets them by name, None where they were not given."""


@click.command()
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

    raise SystemExit(run_server(lambda: load_config(given, os.environ, file), _first_screen))


def _first_screen(config: "ServerConfig", address: str) -> None:
    """Hand out the first invite line to whoever sits at the terminal of a server on which nobody has an account."""
    if not sys.stdout.isatty():
        return
    from securechat.identity.invite_line import InviteLine
    from securechat.server.operator.protocol import CreateInvite, GetStatus, StatusReport, ask
    from securechat.transport.certificate_files import certificate_names, public_key_pin, read_cas, read_certificate
    from securechat.ui.admin import answer
    from securechat.ui.qr import show_beside

    try:
        found = ask(config.data, GetStatus())
        if not isinstance(found, StatusReport) or found.status.accounts:
            return
        names = certificate_names(read_certificate(config.cert))
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        if host not in names:  # it may listen on all addresses: the certificate says by which it is reached
            host = next((name for name in names if is_loopback(name) == is_loopback(host)), host)
        address = address_of(host, int(port))
        pin = public_key_pin(read_cas(config.cert)[0])
        asked = CreateInvite(7)
        shown = answer(config.data, asked, as_json=False, line=lambda code: InviteLine(address, pin, code).encode())
    except SecurechatError:  # it is served all the same; `securechat admin invites create` says what is wrong
        return
    click.echo(f"Nobody has an account here yet. A line for the first one:\n{shown}")
    show_beside(shown.splitlines()[-1])


@click.command()
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
        click.echo(f"{finding.grade:<8} {finding.subject:<13} {printable(finding.text)}")
        if finding.grade == "problem":
            worst = ExitCode.FAILURE
    raise SystemExit(worst)
