"""One scene for all tests of this folder: the demo, as a tap has written it down."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from securechat_lab.watching.demo import play
from securechat_lab.watching.recording import Reader
from securechat_lab.watching.story import Story, tell
from tests.support.cheap import make_stocks_small


@dataclass(frozen=True)
class Scene:
    """What is left of it."""

    recording: Path
    capture: Path

    def story(self) -> Story:
        """What it tells."""
        reader = Reader(self.recording)
        reader.read_all()
        reader.close()
        assert reader.problems == []
        return tell(reader.lines)


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("scene")
    with pytest.MonkeyPatch.context() as patch:
        make_stocks_small(patch.setattr)
        play(folder)
    return Scene(folder / "scene.jsonl", folder / "scene.pcapng")


@pytest.fixture(scope="session")
def story(scene: Scene) -> Story:
    return scene.story()
