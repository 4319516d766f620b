"""The command `securechat lab`: reads arguments and calls what does the work.

What a command needs is imported when it runs: `securechat --help` loads this module wherever the lab is installed.
"""

import json
import shlex
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from securechat.cli.common import printable
from securechat.errors import SecurechatError
from securechat.ui.exit_codes import exit_code
from securechat_lab.instructor.command import instructor

if TYPE_CHECKING:
    from securechat_lab.exercises import Number
    from securechat_lab.kit.outcomes import Scored
    from securechat_lab.workspace import Desk, Workspace

_BANNER = "WEAKENED: the lab builds securechat with parts missing, on this machine. Say nothing here that matters."


class _Commands(click.Group):
    """Errors are broken between words as the rest is: the banner above them is long, and so are they."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except SecurechatError as error:
            click.echo(_broken(f"Error: {printable(str(error))}", sys.stderr), err=True)
            ctx.exit(exit_code(error))


@click.group(cls=_Commands)
def lab() -> None:
    """Attack weakened builds of securechat on this machine, and defend them: coursework."""


lab.add_command(instructor)

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")


@lab.command("list")
@_json
def list_exercises(*, as_json: bool) -> None:
    """List the exercises, with the minutes that each takes."""
    from securechat_lab.exercises import EXERCISES

    for each in EXERCISES:
        if as_json:
            click.echo(json.dumps({"number": each.number, "title": each.title, "minutes": each.minutes}))
        else:
            click.echo(f"{each.number:>3}  {each.title:<40} " + (f"{each.minutes:>4} min" if each.minutes else "   -"))


def _here() -> Path:
    from securechat_lab.workspace import here

    return here()


_folder = click.option(
    "--folder", type=click.Path(path_type=Path), default=_here, show_default="the one you are in, or securechat-lab",
    help="Your folder.",
)  # fmt: skip


def _number_of(text: str) -> "Number":
    """Exercises have numbers, and one has a letter."""
    return int(text) if text.isdecimal() else text.upper()


_number = click.argument("number", type=_number_of)


def _banner() -> None:
    click.secho(_broken(_BANNER, sys.stderr), err=True, bg="red", fg="white", bold=True)


def _say(text: str, indent: str = "") -> None:
    """Print a paragraph."""
    click.echo(_broken(text, sys.stdout, indent))


def _broken(text: str, stream: TextIO, indent: str = "") -> str:
    """Return a paragraph as it is printed: on a terminal its lines are broken between words, in a pipe nowhere."""
    if not stream.isatty():
        return indent + text
    return textwrap.fill(
        " ".join(text.split()), shutil.get_terminal_size().columns, initial_indent=indent,
        subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _workspace(folder: Path) -> "Workspace":
    from securechat_lab.workspace import Workspace

    return Workspace.open(folder)


def _desk(folder: Path, number: "Number") -> "Desk":
    from securechat_lab.exercises import find

    exercise = find(number)
    return _workspace(folder).desk(exercise)


@lab.command()
@_number
@_folder
@click.option("--token", default="", help="What your instructor gave you; without one you practise.")
@_json
def start(number: "Number", folder: Path, token: str, *, as_json: bool) -> None:
    """Begin an exercise: its handout and its files. What you have written already stays."""
    from securechat_lab.exercises import find
    from securechat_lab.kit.command import command
    from securechat_lab.kit.stage import confined
    from securechat_lab.workspace import Workspace

    exercise = find(number)
    _banner()
    with confined():
        desk = Workspace.make(folder, token).desk(exercise)
        begun = desk.begun
        desk.begin()
    if as_json:
        click.echo(json.dumps({"number": number, "folder": str(desk.folder)}))
        return
    click.echo(f"Exercise {number}: {exercise.title}")
    if begun:
        kept = "your files stay as they were, and those that are missing are made again"
        _say(f"You have begun it already: {kept}. {command()} reset {number} begins anew.")
    click.echo(f"Read first:  {desk.folder / 'README.md'}")
    click.echo(f"Then fill    {', '.join(desk.files)}, beside it")
    elsewhere = "" if folder.resolve() == _here().resolve() else f" --folder {shlex.quote(str(folder))}"
    click.echo(f"and type     {command()} check {number}{elsewhere}")


@lab.command()
@_folder
@_json
def status(folder: Path, *, as_json: bool) -> None:
    """Show what you have begun, and how far it is."""
    from securechat_lab.exercises import EXERCISES

    workspace = _workspace(folder)
    for each in EXERCISES:
        desk = workspace.desk(each)
        progress: dict[str, Any] = desk.progress() if desk.begun else {"hints": 0, "prediction": "", "checks": []}
        newest = progress["checks"][-1] if progress["checks"] else None
        if as_json:
            told = {"number": each.number, "begun": desk.begun, "newest": newest}
            click.echo(json.dumps(told | {name: progress[name] for name in ("hints", "prediction")}))
            continue
        how = f"{newest['points']} of {newest['of']}" if newest else "begun" if desk.begun else "-"
        hints = f", hints: {progress['hints']}" if progress["hints"] else ""
        click.echo(f"{each.number:>3}  {each.title:<40} {how}{hints}")


@lab.command()
@_number
@click.argument("text", nargs=-1)
@_folder
@_json
def predict(number: "Number", text: tuple[str, ...], folder: Path, *, as_json: bool) -> None:
    """Write down what you expect, before the first check. The handout says what to predict."""
    said = _desk(folder, number).predict(" ".join(text))
    click.echo(json.dumps({"number": number, "prediction": said}) if as_json else f"Noted: {said}")


@lab.command()
@_number
@_folder
@_json
def hint(number: "Number", folder: Path, *, as_json: bool) -> None:
    """Show the next hint. That you have taken it is written down."""
    desk = _desk(folder, number)
    said, taken, of = desk.hint(), desk.progress()["hints"], len(desk.exercise.load().hints)
    if as_json:
        click.echo(json.dumps({"number": number, "hint": said, "taken": taken, "of": of}))
    else:
        _say(f"{taken} of {of}: {said}")


@lab.command()
@_number
@_folder
@click.option("--results", type=click.Path(path_type=Path), help="Write them here as well, as Gradescope reads them.")
@_json
def check(number: "Number", folder: Path, results: Path | None, *, as_json: bool) -> None:
    """Run attack and defence, and say what was seen. Exits with 0 only if every point counts."""
    from securechat.errors import UsageError
    from securechat_lab.kit.outcomes import VERSIONS, Outcome, as_lines, score, write_results
    from securechat_lab.kit.stage import confined, filmed
    from securechat_lab.watching.camera import Camera

    try:
        desk = _desk(folder, number)
        hand_in = desk.hand_in()
    except UsageError as error:
        if results is not None:
            begins = Outcome("the check begins", "it begins", str(error), "", fault=True)
            write_results(results, [begins], finished=False)
        raise
    _banner()
    if not as_json:
        click.echo(f"Checking {desk.folder}; each point comes as it is seen.")
    outcomes: list[Outcome] = []
    printed: list[list[tuple[str, str]]] = []
    told: set[str] = set()
    camera = Camera(desk.folder, f"Exercise {number}: {desk.exercise.title}")
    with confined(), filmed(camera):
        for outcome in desk.exercise.load().outcomes(hand_in, desk.seed, desk.seed.part("unseen")):
            camera.name(outcome.point)
            outcomes.append(outcome)
            printed.append(hand_in.take_printed())
            if results is not None:
                write_results(results, outcomes, finished=False)
            if not as_json:
                _tell(score(outcomes), told)
    desk.note(outcomes, [*printed, hand_in.take_printed()])
    if results is not None:
        write_results(results, outcomes, finished=True)
    scored = score(outcomes)
    points, most = sum(each.points for each in scored), sum(each.worth for each in outcomes)
    if as_json:
        for line in as_lines(outcomes):
            click.echo(json.dumps(line))
    else:
        for each in scored:
            if each.outcome.point not in told:
                click.echo(f"--  {each.outcome.point}")
        silent = {each.point for each, said in zip(outcomes, printed, strict=True) if not said}
        _tell_misses([each for each in scored if not each.counts], silent)
        click.echo()
        _say(f"{points} of {most} points. {VERSIONS}")
    sys.exit(not all(each.counts for each in scored))


def _tell(scored: "list[Scored]", told: set[str]) -> None:
    """Tell the points that are settled: those that count, and those that are missed. Others wait for their twin."""
    for each in scored:
        point = each.outcome.point
        if point not in told and (each.counts or not each.outcome.holds):
            told.add(point)
            click.echo(f"{'ok' if each.counts else 'NO'}  {point}")


def _tell_misses(missed: "list[Scored]", silent: set[str]) -> None:
    """Say why points do not count: a reason once, with all that it has hit. `silent`: where nothing was printed."""
    from securechat_lab.kit.task import SILENT

    for why in dict.fromkeys(each.why_not for each in missed):
        first, *others = hit = [each.outcome for each in missed if each.why_not == why]
        click.echo()
        if others or first.fault:
            _say(why)
            for each in hit:
                _say(each.point, "  ")
        else:
            _say(first.point)
            _say(why, "  ")
        if first.where and not first.fault and not first.holds:
            look = f"look at: {first.where}"
            _say(SILENT.get(first.where, look) if first.point in silent else look, "  ")


@lab.command()
@_number
@_folder
@_json
def reset(number: "Number", folder: Path, *, as_json: bool) -> None:
    """Put the files back as they were at first; yours stay beside them, as .old1 and so on."""
    from securechat_lab.kit.stage import confined

    desk = _desk(folder, number)
    with confined():
        kept = [str(file) for file in desk.reset()]
    if as_json:
        click.echo(json.dumps({"number": number, "folder": str(desk.folder), "kept": kept}))
        return
    click.echo(f"As at first: {desk.folder}")
    for file in kept:
        click.echo(f"Yours:       {file}")


@lab.command()
@_folder
@_json
def pack(folder: Path, *, as_json: bool) -> None:
    """Put what you hand in into one file."""
    file = _workspace(folder).pack()
    click.echo(json.dumps({"file": str(file)}) if as_json else f"Hand in: {file}")


@lab.command()
@_folder
def shell(folder: Path) -> None:
    """Type the lab's commands one after the other, in one folder and on this machine alone."""
    from securechat_lab.shell import Shell

    _banner()
    Shell(lab, folder).run()


@lab.command("watch")
@click.argument("recording", required=False)
@click.argument("scene", type=click.IntRange(1), required=False)
@_folder
@click.option("--follow", is_flag=True, help="Show the newest as it comes, as is done without RECORDING.")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), help="Write it as one page for a browser, to this file."
)
@click.option("--demo", is_flag=True, help="Play a scene in which a server lies, and watch it happen.")
def watch_recording(
    recording: str | None, scene: int | None, folder: Path, *, follow: bool, html: Path | None, demo: bool
) -> None:
    """Show what the network, the server and each person see.

    RECORDING is a file, or the number of an exercise: then SCENE is one of those that its newest check has played.
    Without both, it is the scene in this folder.
    """
    from securechat_lab.exercises import EXERCISES
    from securechat_lab.watching.command import HERE, scene_of, watch, watch_demo

    if demo:
        if recording is not None:
            raise click.UsageError("Name a recording, or play the --demo.")
        watch_demo(html)
        return
    file = HERE if recording is None else Path(recording)
    if recording is not None and _number_of(recording) in [each.number for each in EXERCISES] and not file.exists():
        number = _number_of(recording)
        found = scene_of(_desk(folder, number).folder, number, scene)
        if found is None:
            return
        file = found
    elif scene is not None:
        raise click.UsageError("SCENE goes with the number of an exercise.")
    watch(file, live=follow or recording is None, html=html)
