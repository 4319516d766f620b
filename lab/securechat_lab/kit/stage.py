"""The stage: an honest server, a lying one in front of it, and people, on loopback and in a folder of its own.

The server and its people are the real program; passwords cost nothing here, because a scene is over in seconds. Who is
weakened is made with other `Parts`; nobody else is.
"""

import contextlib
import hashlib
import logging
import queue
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from argon2 import Parameters, Type

from securechat import certs
from securechat.client import events
from securechat.client.parts import Parts
from securechat.client.vault.vault import Vault
from securechat.server.app import Server
from securechat.server.config import ServerConfig
from securechat.server.parts import ServerParts
from securechat.server.rate import Rate, Size
from securechat.transport.tls import client_context, server_context
from securechat_lab.cast.hostile import HostileServer
from securechat_lab.cast.live import PATIENCE, LiveClient, Through
from securechat_lab.cast.rogue import Rogue
from securechat_lab.kit.loopback import loopback_only

CHEAP_HASH: Final = Parameters(Type.ID, version=19, salt_len=16, hash_len=32, memory_cost=8, time_cost=1, parallelism=1)
"""8 KiB, the least that Argon2 takes."""


def cheap_secret(password: bytearray, server_id: bytes, account: str, ca_pin: bytes) -> bytes:
    """Return a login secret that costs nothing."""
    return hashlib.sha256(b"lab" + server_id + ca_pin + account.encode() + bytes(password)).digest()


PARTS: Final = Parts(secret=cheap_secret)
"""Of everybody on a stage who is not weakened."""


class Actor(LiveClient):
    """A real client on a stage. Whoever is weakened has other parts."""

    def __init__(self, place: Through, name: str, parts: Parts) -> None:
        self.parts = replace(parts, secret=cheap_secret)
        self._onlooker = place.onlooker
        super().__init__(place, name)

    def _take(self, event: events.Event) -> None:
        self._onlooker(event)
        super()._take(event)

    def open_vault(self) -> Vault:
        """Open it. Nobody tells what they have received and read: that comes by the clock, and scenes are the same."""
        vault = super().open_vault()
        vault.preferences.put("send-marks", "off")
        return vault

    def saw(self, kind: type[events.Event]) -> bool:
        """Whether something of this kind has happened so far."""
        return any(isinstance(event, kind) for event in self.happened)


class Watching(Protocol):
    """What records a scene; a context manager, which ends after the scene's people."""

    def __enter__(self) -> object:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""

    def before(self, name: str, parts: Parts) -> tuple[Parts, int, Callable[[events.Event], None]]:
        """Return what somebody is made of so that they are seen, the port to connect to, and who looks on."""


_CAMERAS: Final = list["Callable[[Stage], Watching]"]()


@contextlib.contextmanager
def filmed(camera: "Callable[[Stage], Watching]") -> Iterator[None]:
    """Let all scenes be recorded that begin in this block."""
    _CAMERAS.append(camera)
    try:
        yield
    finally:
        _CAMERAS.pop()


class Stage:
    """Everything that a scene needs; a context manager, at whose end nothing is left of it."""

    def __init__(
        self,
        *,
        server_parts: ServerParts | None = None,
        cost: Parameters = CHEAP_HASH,
        rates: Mapping[str, Rate] | None = None,
    ) -> None:
        """`server_parts`: of a weakened server; `cost`: of its hashes; `rates`: by their names, if others."""
        self.folder = Path(tempfile.mkdtemp(prefix="securechat-lab-"))
        pem = self.folder / "certs"
        certs.generate(pem, ("localhost", "127.0.0.1"))
        self.ca = pem / "ca.pem"
        config = ServerConfig(
            port=0, data=self.folder / "data", cert=pem / "server.pem", key=pem / "server-key.pem",
            durability="memory", disk_floor=Size(1 << 20), **(rates or {}),  # type: ignore[arg-type]  # by name
        )  # fmt: skip
        self.server = Server(config, parts=replace(server_parts or ServerParts(), password_cost=cost))
        self._people: list[Actor] = []
        self._moles: list[Rogue] = []
        self.server.start()
        context = server_context(config.cert, config.key)
        self.liar = HostileServer(context, ("127.0.0.1", self.server.port), self.ca)
        self.liar.__enter__()
        self._watching: Watching | None = None

    def __enter__(self) -> Self:
        """Return it."""
        if _CAMERAS:
            self._watching = _CAMERAS[-1](self)
            self._watching.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everybody."""
        try:
            for actor in self._people:
                actor.client.close()
            for actor in [*self._people]:
                self.leave(actor)
            for mole in self._moles:
                mole.drop()
            if self._watching is not None:
                self._watching.__exit__(kind, error, trace)
            self.liar.__exit__(kind, error, trace)
        finally:
            self.server.stop()
            shutil.rmtree(self.folder, ignore_errors=True)

    def person(
        self, name: str, parts: Parts = PARTS, *,
        port: int = 0, ca: Path | None = None, vault: str = "", ready: bool = True,
        made: Callable[[Through, str, Parts], Actor] = Actor,
        onlooker: Callable[[events.Event], None] = lambda _event: None,
    ) -> Actor:  # fmt: skip
        """Return somebody behind the lying server, logged in if `ready`.

        `port`: of another server, such as a tap or a rogue; `ca`: whom they were told to trust; `vault`: a folder for
        theirs, for somebody who begins several times; `made`: how, for somebody who is weakened elsewhere; `onlooker`:
        gets what they are told, first.
        """
        if self._watching is not None and not port:
            parts, port, onlooker = self._watching.before(name, parts)
        place = Through(self.folder / vault, ca or self.ca, port or self.liar.port, onlooker)
        actor = made(place, name, parts)
        self._people.append(actor)
        if ready:
            actor.wait_for(events.Ready)
        return actor

    def leave(self, actor: Actor) -> None:
        """Let somebody go."""
        self._people.remove(actor)
        actor.client.close()
        until(actor, lambda: actor.saw(events.Ended))
        actor.vault.close()

    def mole(self, account: str) -> Rogue:
        """Return somebody without scruples, connected to the honest server, with keys in the name of `account`."""
        mole = Rogue(self.server.port, client_context(self.ca), account)
        self._moles.append(mole)
        return mole


@contextlib.contextmanager
def confined() -> Iterator[None]:
    """Let scenes reach nothing but this machine, and say nothing on this terminal."""
    logger, nowhere = logging.getLogger("securechat"), logging.NullHandler()
    logger.addHandler(nowhere)
    try:
        with loopback_only():
            yield
    finally:
        logger.removeHandler(nowhere)


def until(actor: Actor, *signs: Callable[[], bool]) -> int:
    """Wait until one of these signs is there: the barrier at the end of a run. Return its number.

    The end of the client is looked for among them, where it is one. Raises `AssertionError` if none comes.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        for number, sign in enumerate(signs):
            if sign():
                with contextlib.suppress(queue.Empty):  # what had happened by then belongs to it
                    while True:
                        actor._note(actor._queue.get_nowait())
                return number
        assert time.monotonic() < deadline, f"{actor.name} waits in vain; saw {actor.happened[-20:]}"
        with contextlib.suppress(queue.Empty):
            actor._note(actor._queue.get(timeout=0.05))
