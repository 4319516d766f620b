"""The commands of scripts: `send`, `recv`, `save`, what asks, and `rpc`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from securechat.cli.common import PATH
from securechat.cli.options import client_options, left, no_input, quiet, run_script, setting, timeout, wait_for_place

if TYPE_CHECKING:
    from securechat.ui.start import Options
    from securechat.ui.time_limit import TimeLimit


_inviters = setting(
    "--accept-invitations-of", metavar="USER:KEY", multiple=True, envvar="SECURECHAT_ACCEPT_INVITATIONS_OF",
    help="Accept invitations to rooms of this user under this key (64 digits) without asking; can be given again.",
)  # fmt: skip


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line: docs/scripts.md.")


@click.command()
@client_options
@_inviters
@click.option("--to", metavar="USER|#ROOM", required=True, help="The user or room to send it to.")
@click.option("--file", type=PATH, help="Send this file, in place of standard input.")
@click.option("--voice", type=PATH, metavar="WAV", help="Send this recording as a voice note.")
@click.option("--caption", metavar="TEXT", default="", help="Words beside the file; - reads them from standard input.")
@click.option(
    "--reply", type=click.IntRange(min=1), metavar="SEQ", help="Answer the message there with this seq of recv --json."
)
@click.option("--create", is_flag=True, help="Make the open room if there is none of that name.")
@_as_json
@wait_for_place
@timeout
@no_input
@quiet
def send(
    options: "Options", to: str, file: Path | None, voice: Path | None, caption: str, reply: int | None, *,
    create: bool, as_json: bool, wait: bool, limit: "TimeLimit | None",
) -> None:  # fmt: skip
    """Send standard input as one message, or a file; exit with 0 once the server has it on disk.

    Other users of this machine can see arguments: what they must not read is no --caption, but comes from standard
    input. With --json the message is printed, with its ids.
    """
    from securechat.ui.scripts.sending import Attempt, FileToSend, file_to_send, read_text, run_send

    path, attempt = file or voice, Attempt()
    if file is not None and voice is not None:
        raise click.UsageError("--file and --voice are two messages: send one after the other")
    if path is not None and reply:
        raise click.UsageError("--reply answers with a text: a file answers nothing")
    if path is None and caption:
        raise click.UsageError("--caption stands beside a file: name one with --file or --voice")
    if path is None:
        what: str | FileToSend = read_text()
    else:
        what = file_to_send(path, read_text() if caption == "-" else caption, voice=voice is not None)
    run_script(options, lambda core, events: run_send(
        core, events, to, what, attempt=attempt, reply=reply or 0, create=create, as_json=as_json, wait=wait,
        timeout=left(limit),
    ))  # fmt: skip


@click.command()
@client_options
@_inviters
@click.option("--json", "as_json", is_flag=True, help="Print all events as JSON, one a line: docs/scripts.md.")
@click.option("--follow", is_flag=True, help="Keep printing new messages until interrupted.")
@wait_for_place
@timeout
@no_input
@quiet
def recv(options: "Options", *, as_json: bool, follow: bool, wait: bool, limit: "TimeLimit | None") -> None:
    """Print the messages that have not been read on this device yet."""
    from securechat.ui.scripts.receiving import run_recv

    run_script(options, lambda core, events: run_recv(
        core, events, as_json=as_json, follow=follow, wait=wait, timeout=left(limit)
    ))  # fmt: skip


_limit_of_lines = click.option(
    "--limit", "lines", type=click.IntRange(1, 1000), default=100, show_default=True, help="The newest lines."
)


@click.command()
@client_options
@click.argument("name", metavar="USER|#ROOM")
@_limit_of_lines
@_as_json
@timeout
@no_input
@quiet
def history(options: "Options", name: str, *, lines: int, as_json: bool, **_: object) -> None:
    """Print what was said to a person or in a room, as far as this device has it; the server is not asked."""
    from securechat.ui.scripts.asking import run_history

    run_script(options, lambda core, _: run_history(core, name, lines, as_json=as_json))


@click.command()
@client_options
@click.argument("words", nargs=-1, required=True)
@_limit_of_lines
@_as_json
@timeout
@no_input
@quiet
def search(options: "Options", words: tuple[str, ...], *, lines: int, as_json: bool, **_: object) -> None:
    """Print what this device has with these words in it; from:bob in:#room has:link after:2026-11 narrow it down."""
    from securechat.ui.scripts.asking import run_search

    run_script(options, lambda core, _: run_search(core, " ".join(words), lines, as_json=as_json))


@click.command()
@client_options
@_limit_of_lines
@_as_json
@timeout
@no_input
@quiet
def files(options: "Options", *, lines: int, as_json: bool, **_: object) -> None:
    """Print the messages that share a file, as far as this device has them."""
    from securechat.ui.scripts.asking import run_search

    run_script(options, lambda core, _: run_search(core, "has:file", lines, as_json=as_json))


@click.command()
@client_options
@click.argument("lines", metavar="ID...", type=click.IntRange(min=1), nargs=-1, required=True)
@click.option(
    "--folder", type=PATH, default=Path(), help="Where to.  [default: the current folder]"
)
@click.option("--wav", "as_wav", is_flag=True, help="Make WAV files of voice notes.")
@_as_json
@wait_for_place
@timeout
@no_input
@quiet
def save(
    options: "Options", lines: tuple[int, ...], folder: Path, *, as_wav: bool,
    as_json: bool, wait: bool, limit: "TimeLimit | None",
) -> None:  # fmt: skip
    """Save the files of messages, by the local_id that `files --json` shows, and print the path of each.

    None replaces another: where its name is taken, a file gets a number.
    """
    from securechat.ui.scripts.saving import run_save

    wanted = [*dict.fromkeys(lines)]
    run_script(options, lambda core, events: run_save(
        core, events, wanted, folder.absolute(), as_wav=as_wav, as_json=as_json, wait=wait, timeout=left(limit)
    ))  # fmt: skip


@click.command()
@client_options
@_as_json
@wait_for_place
@timeout
@no_input
@quiet
def rooms(options: "Options", *, as_json: bool, wait: bool, limit: "TimeLimit | None") -> None:
    """Print the rooms that one could enter, by the server's list."""
    from securechat.ui.scripts.asking import run_rooms

    run_script(options, lambda core, events: run_rooms(core, events, as_json=as_json, wait=wait, timeout=left(limit)))


@click.command()
@client_options
@click.argument("name", metavar="USER|#ROOM")
@_as_json
@wait_for_place
@timeout
@no_input
@quiet
def members(options: "Options", name: str, *, as_json: bool, wait: bool, limit: "TimeLimit | None") -> None:
    """Print who is in a room, and how their keys stand."""
    from securechat.ui.scripts.asking import run_members

    run_script(options, lambda core, events: run_members(
        core, events, name, as_json=as_json, wait=wait, timeout=left(limit)
    ))  # fmt: skip


@click.command()
@client_options
@click.argument("whom", metavar="USER")
@click.argument("number", metavar="[NUMBER]", default="")
@_as_json
@wait_for_place
@timeout
@no_input
@quiet
def verify(
    options: "Options", whom: str, number: str, *, as_json: bool, wait: bool, limit: "TimeLimit | None"
) -> None:
    """Print the safety number to compare with somebody; with the NUMBER that they see, note that it fits.

    It has 60 digits. One that fits no key ends with 5, and nothing is noted.
    """
    from securechat.ui.scripts.asking import run_verify

    run_script(options, lambda core, events: run_verify(
        core, events, whom, number, as_json=as_json, wait=wait, timeout=left(limit)
    ))  # fmt: skip


@click.command()
@client_options
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
