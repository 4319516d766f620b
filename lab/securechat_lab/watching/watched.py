"""A watched stage: what its people do is recorded into a folder, for the viewer and for whoever reads captures."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from securechat.client import events
from securechat.client.parts import Parts
from securechat_lab.kit.stage import PARTS, Actor, Stage
from securechat_lab.watching.capture import Capture
from securechat_lab.watching.command import HERE
from securechat_lab.watching.people import Screen, with_key_log
from securechat_lab.watching.recording import Recorder
from securechat_lab.watching.tap import Tap

CAPTURE: Final = Path("scene.pcapng")
"""The capture of a scene, beside its recording."""


class Watched:
    """People behind a tap, on a stage; a context manager, at whose end they have left and both files are whole."""

    def __init__(self, stage: Stage, folder: Path, title: str) -> None:
        """The files are made in `folder`, in the place of those of an earlier scene."""
        self.recording = folder / HERE
        self.capture = folder / CAPTURE
        self.key_log = stage.folder / "keys.log"  # goes with the stage: the capture holds what was in it
        self._stage = stage
        self.people: list[str] = []
        """Whom it has seen."""
        self._people: list[Actor] = []  # those that it lets go
        self._title = title
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Begin to watch. Raises StorageError."""
        with ExitStack() as opened:
            self._recorder = opened.enter_context(closing(Recorder(self.recording, self._title)))
            capture = opened.enter_context(closing(Capture(self.capture)))
            upstream = ("127.0.0.1", self._stage.liar.port)
            self._tap = opened.enter_context(Tap(upstream, self._recorder, capture=capture, key_log=self.key_log))
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the people go, and stop."""
        with self._open:
            for actor in self._people if error is None else ():
                self._stage.leave(actor)

    def before(self, name: str, parts: Parts) -> tuple[Parts, int, Callable[[events.Event], None]]:
        """Return with which parts, and at which port, somebody is watched, and what takes their screen."""
        self.people.append(name)
        logged = replace(parts, trust=with_key_log(parts.trust, self.key_log))
        return logged, self._tap.port, Screen(self._recorder, name)

    def person(self, name: str, parts: Parts = PARTS) -> Actor:
        """Return somebody whose connection passes the tap, and whose screen is recorded."""
        logged, port, screen = self.before(name, parts)
        actor = self._stage.person(name, logged, port=port, onlooker=screen)
        self._people.append(actor)
        return actor
