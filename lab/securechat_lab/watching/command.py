"""`securechat lab watch`: which file, and on which face it is shown."""

import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import Final

import click

from securechat.errors import StorageError
from securechat.files import make_private_folder, open_to_read
from securechat_lab.kit.command import command
from securechat_lab.watching.capture import BEGINNING as CAPTURED
from securechat_lab.watching.page import write_page
from securechat_lab.watching.recording import Reader
from securechat_lab.watching.screen import MIN_WIDTH, plain
from securechat_lab.watching.story import tell

HERE: Final = Path("scene.jsonl")
"""The recording of an exercise's scene, in the exercise's folder."""
SCENES: Final = Path("scenes")
"""Those of the newest check, beside it."""


def watch_demo(html: Path | None) -> None:
    """Play a scene that shows everything, and show it: in a terminal while it happens. Raises StorageError."""
    from securechat_lab.kit.stage import confined
    from securechat_lab.watching import demo

    make_private_folder(demo.FOLDER)
    recording = demo.FOLDER / HERE
    with confined():
        if html is None and _is_terminal():
            with demo.playing(demo.FOLDER):
                watch(recording, live=True)
        else:
            demo.play(demo.FOLDER)
            watch(recording, live=False, html=html)
    click.echo(f"To watch it again: {command()} watch {recording}", err=True)


def scene_of(desk: Path, number: object, scene: int | None) -> Path | None:
    """Return the recording of one scene of the newest check, or list them if none is named. Raises StorageError."""
    found = sorted((desk / SCENES).glob("*.jsonl"))
    if not found:
        raise StorageError(
            f"No scene of exercise {number} was recorded. {command()} check {number} records those in which people talk"
            "; not every exercise has one."
        )
    if scene is None:
        for file in found:
            click.echo(file.stem.replace("-", "  ", 1).replace("-", " "))
        click.echo(f"To watch the first one: {command()} watch {number} 1", err=True)
        return None
    if scene > len(found):
        raise StorageError(f"The newest check of exercise {number} has {len(found)} scenes.")
    return found[scene - 1]


def _refuse_capture(path: Path) -> None:
    """Raise StorageError for a capture. What is wrong with other files, their reader says."""
    with contextlib.suppress(OSError), os.fdopen(open_to_read(path), "rb") as file:
        if file.read(4) == CAPTURED:
            raise StorageError(f"{path} is a capture: open it with Wireshark or tshark. The recording is beside it.")


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def watch(recording: Path, *, live: bool, html: Path | None = None) -> None:
    """Show a recording: in a terminal to walk through, else as lines of text; or write it as a page to `html`.

    `live`: it may still grow. Raises StorageError.
    """
    if recording == HERE and not HERE.exists():
        raise StorageError(f"There is no {HERE} here. Go to where one is, name a recording, or play the --demo.")
    _refuse_capture(recording)
    if html is None and _is_terminal():
        from securechat_lab.watching.terminal import Viewer

        Viewer(recording, live=live).run()
        return
    reader = Reader(recording)
    reader.read_all()
    reader.close()
    story = tell(reader.lines, reader.problems)
    if html is not None:
        write_page(story, html)
        click.echo(f"{html} shows {recording}; open it in a browser. It holds all that was said.")
    for line in () if html is not None else plain(story, max(shutil.get_terminal_size().columns, MIN_WIDTH)):
        click.echo(line)
    for problem in story.problems:
        click.echo(problem, err=True)
