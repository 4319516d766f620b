"""A camera for a check: each scene that people play on a stage meanwhile is recorded, and named after its point."""

import re
import shutil
from pathlib import Path
from typing import Final

from securechat.files import make_private_folder
from securechat_lab.kit.stage import Stage
from securechat_lab.watching.command import SCENES
from securechat_lab.watching.watched import Watched

_NEXT: Final = "next"


class Camera:
    """Films for one check. Whoever calls it with a stage gets what watches its people."""

    def __init__(self, desk: Path, title: str) -> None:
        """`desk`: the folder of the exercise; what an earlier check has left there goes. Raises StorageError."""
        self._folder = desk / SCENES
        self._title = title
        self._count = 0
        self._newest: Watched | None = None
        shutil.rmtree(self._folder, ignore_errors=True)
        make_private_folder(self._folder)

    def __call__(self, stage: Stage) -> Watched:
        """Return what watches a stage. Of several of one point, the last one is kept."""
        place = self._folder / _NEXT
        make_private_folder(place)
        self._newest = Watched(stage, place, self._title)
        return self._newest

    def name(self, point: str) -> None:
        """Say of which point the scenes were that have ended."""
        watched, self._newest = self._newest, None
        if watched is not None and watched.people:
            self._count += 1
            words = "-".join(re.findall("[a-z0-9]+", point.lower().replace("'", "")))
            for file in (watched.recording, watched.capture):
                file.replace(self._folder / f"{self._count:02}-{words:.60}{file.suffix}")
        shutil.rmtree(self._folder / _NEXT, ignore_errors=True)
