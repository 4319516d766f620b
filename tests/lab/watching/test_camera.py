"""The scenes of a check are recorded, each under the name of its point, and watched by the number of its exercise."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from securechat.cli import main
from securechat_lab.cast.scenes import direct, say
from securechat_lab.exercises import find
from securechat_lab.kit.stage import Stage, filmed
from securechat_lab.watching.camera import Camera
from securechat_lab.workspace import Workspace
from tests.lab.watching.conftest import Scene


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of somebody whose newest check of exercise 3 has played two scenes, and one without people."""
    folder = tmp_path_factory.mktemp("lab") / "mine"
    desk = Workspace.make(folder, "").desk(find(3))
    desk.begin()
    for text in ("of an earlier check", "the safe opens with 1234"):
        camera = Camera(desk.folder, "Exercise 3: Key swap")
        with filmed(camera):
            with Stage() as stage:
                alice, bob = stage.person("alice"), stage.person("bob")
                direct(alice, bob)
                say(alice, bob.name, text, bob)
                carol = stage.person("carol", port=stage.server.port)
            camera.name("attack: your victim's secret")
            with Stage():
                pass
            camera.name("attack: which hole your victim has")
            with Stage() as stage:
                stage.person("dora")
            camera.name("defence: " + "a very long sentence about what is to be seen " * 5)
    assert carol.happened
    with Stage() as stage:  # and nobody looks on any more
        stage.person("eve")
    return folder


def watch(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["lab", "watch", *arguments, "--folder", str(folder)])


def test_each_point_has_a_recording_and_a_capture_where_people_took_part(mine: Path) -> None:
    names = sorted(path.name for path in (mine / "03-key-swap/scenes").iterdir())
    long = "02-defence-a-very-long-sentence-about-what-is-to-be-seen-a-very"
    first = "01-attack-your-victims-secret"
    assert names == [f"{each}.{kind}" for each in (first, long) for kind in ("jsonl", "pcapng")]


def test_network_server_and_people_are_in_it(mine: Path) -> None:
    recording, capture = sorted((mine / "03-key-swap/scenes").glob("01-*"))
    story = Scene(recording, capture).story()
    said = next(each for each in story.moments if each.text == "the safe opens with 1234")
    assert (said.sender, bool(said.frames), bool(said.records)) == ("alice", True, True)
    assert "of an earlier check" not in recording.read_text()
    assert "carol" not in {each.sender for each in story.moments}  # who went past the lying server


def test_a_scene_is_watched_by_the_number_of_its_exercise(mine: Path) -> None:
    listed = watch(mine, "3")
    assert listed.stdout.splitlines()[0] == "01  attack your victims secret"
    assert "watch 3 1" in listed.stderr
    shown = watch(mine, "3", "1")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "the safe opens" in shown.stdout


@pytest.mark.parametrize(("arguments", "told"), [
    (("3", "3"), "The newest check of exercise 3 has 2 scenes."),
    (("5",), "No scene of exercise 5 was recorded."),
    (("some.jsonl", "1"), "SCENE goes with the number of an exercise."),
], ids=["too many", "none", "no exercise"])  # fmt: skip
def test_where_there_is_no_such_scene_that_is_said(mine: Path, arguments: tuple[str, ...], told: str) -> None:
    done = watch(mine, *arguments)
    assert done.exit_code != 0
    assert told in done.stderr
