#!/usr/bin/env python3
"""Write manual pages for `man`, one for each command, from what `--help` says.

    .venv/bin/python scripts/man.py ~/.local/share/man/man1

A page that was written by hand would soon say something else than the program does.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from securechat import __version__, cli
from securechat.files import write_atomically

SECTION = "1"


def pages() -> dict[str, str]:
    """Every page by the name of its file."""
    found = _pages(cli.main, click.Context(cli.main, info_name="securechat"))
    return {f"{name}.{SECTION}": page for name, page in found}


def _pages(command: click.Command, ctx: click.Context) -> Iterator[tuple[str, str]]:
    name = ctx.command_path.replace(" ", "-")
    yield name, "\n".join(_page(command, ctx, name)) + "\n"
    for below, inside in _commands(command):
        yield from _pages(inside, click.Context(inside, info_name=below, parent=ctx))


def _commands(command: click.Command) -> list[tuple[str, click.Command]]:
    """What is below a command, without what other packages bring."""
    return sorted(command.commands.items()) if isinstance(command, click.Group) else []


def _page(command: click.Command, ctx: click.Context, name: str) -> Iterator[str]:
    yield f'.TH "{name.upper()}" "{SECTION}" "" "securechat {__version__}" "securechat"'
    yield from (".SH NAME", f"{_text(name)} \\- {_text(command.get_short_help_str(300))}")
    usage = " ".join(command.collect_usage_pieces(ctx))
    yield from (".SH SYNOPSIS", f"\\fB{_text(ctx.command_path)}\\fR {_text(usage)}")
    yield from (".SH DESCRIPTION", *_paragraphs(command.help or ""))
    options = [record for each in command.get_params(ctx) if (record := each.get_help_record(ctx)) is not None]
    if options:
        yield ".SH OPTIONS"
    for option, text in options:
        yield from (".TP", f"\\fB{_text(option)}\\fR", _text(text))
    if below := _commands(command):
        yield ".SH COMMANDS"
        for each, inside in below:
            yield from (".TP", f"\\fB{_text(f'{name}-{each}')}({SECTION})\\fR", _text(inside.get_short_help_str(300)))
    if command.epilog:
        yield from (".SH ENVIRONMENT AND EXIT STATUS", *_paragraphs(command.epilog))
    else:
        yield from (".SH SEE ALSO", f"\\fBsecurechat\\fR({SECTION}), also for the exit codes")


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        as_it_is = paragraph.lstrip().startswith("\b")
        yield ".PP"
        if as_it_is:
            yield from (".nf", *map(_text, paragraph.replace("\b", "").strip("\n").split("\n")), ".fi")
        else:
            yield _text(" ".join(paragraph.split()))


def _text(text: str) -> str:
    """Let `man` show a text as it is: backslashes and dashes, and a line that begins like a request."""
    shown = text.replace("\\", "\\e").replace("-", "\\-").replace("\n", " ")
    return f"\\&{shown}" if shown.startswith((".", "'")) else shown


def main() -> int:
    """Write them into the folder that is named."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in pages().items():
        write_atomically(folder / name, page.encode(), mode=0o644)
    print(f"wrote {len(pages())} pages into {folder}; `man securechat` shows the first one")
    return 0


if __name__ == "__main__":
    sys.exit(main())
