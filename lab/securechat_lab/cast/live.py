"""Real clients on loopback: ports, TLS, files, threads."""

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from securechat.client import commands, events
from securechat.client.core import ChatClient
from securechat.client.parts import Parts
from securechat.client.password_source import PasswordSource
from securechat.client.settings import ClientSettings
from securechat.client.vault.vault import Vault
from securechat.client.wrapping import Cost
from securechat.errors import UsageError
from securechat_lab.cast.wire_client import SECRETS

CHEAP = Cost(time=1, memory=8, lanes=1)
PASSWORD = "correct horse"
PATIENCE = 60.0
"""Seconds after which a test gives up waiting: a slow machine is not a failure."""

E = TypeVar("E", bound=events.Event)


class Place(Protocol):
    """Where a client finds its server, and where it keeps its vault."""

    folder: Path
    ca: Path
    port: int


@dataclass
class Through:
    """A place behind a proxy."""

    folder: Path
    ca: Path
    port: int
    onlooker: Callable[[events.Event], None] = lambda _event: None
    """Gets whatever a client tells its front end, first."""


def identity_key(client: "LiveClient") -> bytes:
    """The private half of a client's identity key."""
    with client.client._engine._context.device.row.identity.opened(bytearray(client.password.encode())) as key:
        return bytes(key.secret())


class LiveClient:
    """A `ChatClient` with its events in a list."""

    obliging = True
    """Whether every invitation is accepted as soon as it is seen."""

    parts = Parts()
    """What the client is made of."""

    def __init__(
        self, server: Place, name: str, *, start: bool = True, password: str = PASSWORD, **settings: object
    ) -> None:
        self.server = server
        self.name = name
        self.path = server.folder / "vaults" / f"{name}.vault"
        given: dict[str, object] = {"register": True, "ca_file": server.ca, **settings}
        self.password = password
        SECRETS.add(password.encode())
        self.settings = ClientSettings("localhost", server.port, **given)  # type: ignore[arg-type]  # test data
        if start:
            self.start()

    def start(self) -> None:
        """Open the vault, connect."""
        self.happened: list[events.Event] = []
        self._queue: queue.SimpleQueue[events.Event] = queue.SimpleQueue()
        self.vault = self.open_vault()
        self.client = ChatClient(self.settings, self.vault, on_event=self._take, parts=self.parts)
        self.client.start()

    def open_vault(self) -> Vault:
        """Return the vault, opened. Whoever has a weakened one overrides this."""
        return Vault.open(self.path, self.name, PasswordSource.typed(self.password), cost=CHEAP)

    def wait_for(self, kind: type[E], where: Callable[[E], bool] = lambda _event: True) -> E:
        """Return the first event of a kind, past ones included, that meets a condition."""
        for event in self.happened:
            if isinstance(event, kind) and where(event):
                return event
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                event = self._queue.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                raise AssertionError(f"{self.name} never saw {kind.__name__}; saw {self.happened[-20:]}") from None
            self._note(event)
            if isinstance(event, kind) and where(event):
                return event
            assert not isinstance(event, events.Ended), f"{self.name} ended: {event.error!r}"

    def _take(self, event: events.Event) -> None:
        """Take an event from the client's own thread."""
        self._queue.put(event)

    def _note(self, event: events.Event) -> None:
        self.happened.append(event)
        if self.obliging and isinstance(event, events.Invited):
            self.do(commands.AcceptInvitation(event.invitation.conversation, event.invitation.question))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is checked after each event."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"{self.name} waits in vain; saw {self.happened[-20:]}"
            try:
                event = self._queue.get(timeout=0.2)
            except queue.Empty:
                continue
            self._note(event)
            assert not isinstance(event, events.Ended), f"{self.name} ended: {event.error!r}"

    def close(self) -> None:
        """Go offline properly."""
        self.client.close()
        self.wait_for(events.Ended)
        self.vault.close()

    def id_of(self, name: str) -> bytes:
        """The conversation of this name, once it exists."""
        self.wait_until(lambda: self.client.find(name) is not None)
        conversation = self.client.find(name)
        assert conversation is not None
        return conversation.id

    def do(self, command: commands.Command) -> None:
        """Have a command carried out."""
        self.client.do(command)

    def answer(self, command: commands.Command) -> events.Event:
        """Have a command carried out. Returns what answers it: `Done` or `Refused`."""
        self.do(command)
        return self.wait_for(
            events.Event,
            lambda event: isinstance(event, events.Done | events.Refused) and event.command == command.id,
        )

    def say(self, name: str, text: str) -> commands.Send:
        """Say something there; it is in the vault on return. Whoever asks to talk gets a yes first.

        Raises `UsageError` if the client does not take it.
        """
        found = self.client.find(name)
        if found is not None and found.state == "request":
            self.accept(name)
        command = commands.Send(self.id_of(name), text)
        self.do(command)
        told = self.wait_for(events.Event, lambda event: event.command == command.id)
        if isinstance(told, events.Refused):
            raise UsageError(told.text)
        return command

    def accept(self, name: str) -> None:
        """Say yes to somebody who asks to talk."""
        self.answer(commands.Accept(self.id_of(name)))

    def safety_number(self, account: str) -> str:
        """The digits to compare of the one key that is known."""
        (shown,) = self.safety_numbers(account)
        return shown.number

    def safety_numbers(self, account: str) -> tuple[events.NumberedKey, ...]:
        """The keys of somebody, each with the digits to compare."""
        command = commands.ShowSafetyNumber(account)
        self.do(command)
        return self.wait_for(events.SafetyNumber, lambda event: event.command == command.id).keys

    def texts(self, name: str) -> list[str]:
        """The history: `sender: text`."""
        lines = self.client.history(self.id_of(name), 100_000)
        return [f"{line.sender}: {line.text}" + (f" [{line.problem}]" if line.problem else "") for line in lines]

    def read(self, name: str, *texts: str) -> None:
        """Wait until these lines are in the history."""
        self.wait_until(lambda: self.client.find(name) is not None and set(texts) <= set(self.texts(name)))
