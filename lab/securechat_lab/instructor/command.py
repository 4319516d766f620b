"""The commands `securechat lab instructor ...`. What one needs is imported when it runs."""

from pathlib import Path

import click


@click.group()
def instructor() -> None:
    """Run a course: tokens for students, grading of what they hand in."""


_course = click.option(
    "--course", type=click.Path(path_type=Path), default=Path("securechat-lab-course"), show_default=True,
    help="The course's folder.",
)  # fmt: skip
_folder = click.argument("folder", type=click.Path(path_type=Path))


@instructor.command("new-course")
@_course
def new_course(course: Path) -> None:
    """Make a course, with a key from which all that is graded follows."""
    from securechat_lab.instructor.course import KEY, Course

    Course.make(course)
    click.echo(f"{course / KEY} is the key of the course. Keep it to yourself, and keep a copy: without it nothing can")
    click.echo("be graded again. Next: securechat lab instructor roster FILE.csv")


@instructor.command()
@click.argument("file", type=click.Path(path_type=Path))
@_course
def roster(file: Path, course: Path) -> None:
    """Say who takes part, by a table with a column `email`, and make everybody's token."""
    from securechat_lab.instructor.course import TOKENS, Course

    everybody = Course.open(course).enrol(file)
    click.echo(f"{len(everybody)} take part. Their tokens are in {course / TOKENS}: each gets their own.")


@instructor.command()
@_folder
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The table of grades.")
@_course
def grade(folder: Path, out: Path, course: Path) -> None:
    """Grade the hand-ins in FOLDER. Stopped and started again, it goes on where it was."""
    from securechat_lab.instructor.course import Course
    from securechat_lab.instructor.grading import grade as grade_class

    try:
        grades = grade_class(Course.open(course), folder, out, lambda said: click.echo(said, err=True))
    except KeyboardInterrupt:
        raise click.ClickException("Stopped. What was found is kept: the same command goes on there.") from None
    click.echo(f"{out}: {len(grades)} take part, {sum(bool(each.points) for each in grades)} have grades.")


@instructor.command()
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=Path("autograder.zip"), show_default=True,
    help="What is uploaded to Gradescope.",
)  # fmt: skip
@_course
def autograder(out: Path, course: Path) -> None:
    """Make what Gradescope, or a container, grades with."""
    from securechat_lab.instructor.autograder import make
    from securechat_lab.instructor.course import Course

    make(Course.open(course), out)
    click.echo(f"{out} holds everybody's seeds: whoever has it knows what is graded. lab/instructor.md says what next.")


@instructor.command()
@_folder
@_course
def similarity(folder: Path, course: Path) -> None:
    """Say which hand-ins in FOLDER look alike: attacks, answers and predictions."""
    from securechat_lab.instructor.course import Course
    from securechat_lab.instructor.similarity import compare

    for each in compare(Course.open(course), folder):
        click.echo(each)
