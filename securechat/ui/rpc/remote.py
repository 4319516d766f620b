"""A vault that another program has open, reached through that one: a client like the core, over its socket.

Reads are made from those of the core. They have a connection of their own, since answers come in the order of requests,
and a command may wait for long.
"""

import inspect
import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, get_type_hints

from securechat.client.commands import Command
from securechat.client.core import ChatClient
from securechat.client.events import Ended, Event, Refused
from securechat.client.vault.door_proof import DoorKey
from securechat.errors import RefusedError, TrustError, UsageError
from securechat.ui.exit_codes import ExitCode
from securechat.ui.handover import OwnerGone
from securechat.ui.objects import event_from, from_json
from securechat.ui.rpc import sockets
from securechat.ui.rpc.codec import READS, Read, Request, encode_request
from securechat.ui.rpc.door import EVENTS, NO_EVENTS, refuses

READ_SECONDS: Final = 60.0
"""How long the owner may take for one read."""


class RemoteClient(ChatClient):
    """One account, whose vault is open elsewhere.

    The last event is `Ended(OwnerGone())` if the owner ends first, and `Ended` with a TrustError if what came was not
    what the owner has said.
    """

    def __init__(self, vault: Path, key: DoorKey, account: str, *, on_event: Callable[[Event], None]) -> None:
        """Connect. Raises OSError if nobody is there, TrustError if it is somebody else."""
        self.account = account
        self._on_event = on_event
        path = sockets.path_of(vault)
        self._commands = sockets.connect(path, key)
        try:
            self._commands.send(EVENTS)
            self._reads = sockets.connect(path, key)
        except BaseException:
            self._commands.socket.close()
            raise
        self._reads.socket.settimeout(READ_SECONDS)
        self._reads.send(NO_EVENTS)
        self._answers = self._reads.lines()  # once it has raised, it has ended: no answer is taken for a later one
        self._writing = threading.Lock()  # held while a request is written
        self._reading = threading.Lock()  # held from a read's request to its answer
        self._asked = 0
        self._closing = False
        self._listener = threading.Thread(target=self._listen, name="door-events", daemon=True)

    def start(self) -> None:
        """Begin to tell events."""
        self._listener.start()

    def close(self) -> None:
        """The commands given so far are the owner's. `Ended(None)` follows."""
        self._closing = True
        with self._writing, suppress(OSError):  # the owner may have ended
            self._commands.socket.shutdown(socket.SHUT_WR)

    def hang_up(self) -> None:
        """Close the connections, once nobody reads from them."""
        for connection in (self._commands, self._reads):
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
        if self._listener.ident is not None:
            self._listener.join()
        for connection in (self._commands, self._reads):
            connection.socket.close()

    def do(self, command: Command) -> None:
        """Have the owner carry out a command. What comes of it arrives as events that name it."""
        if why := refuses(command):
            self._on_event(Refused("local", why, command=command.id))
            return
        with self._writing, suppress(OSError):  # that the owner has ended is told as an event
            self._commands.send(encode_request(Request(command.id, command)) + b"\n")

    def read(self, read: Read) -> Any:
        """Return what a read comes to, as JSON has it. Raises as the read itself, OwnerGone, or TrustError as above."""
        with self._reading:
            self._asked += 1
            try:
                self._reads.send(encode_request(Request(self._asked, read)) + b"\n")
                line = next(self._answers, None)
            except OSError:
                line = None
        if line is None:
            raise OwnerGone
        answer = json.loads(line)
        if (error := answer.get("error")) is not None:
            text = str(error["message"])
            raise UsageError(text) if error["code"] == ExitCode.USAGE else RefusedError("local", text)
        return answer["result"]

    def _listen(self) -> None:
        try:
            for line in self._commands.lines():
                said = json.loads(line)
                if (error := said.get("error", {})).get("code", 0) < 0 and said["id"]:  # no event tells of it
                    self._on_event(Refused("local", str(error["message"]), command=said["id"]))
                if said.get("method") == "event":
                    event = event_from(said["params"])
                    self._on_event(event)
                    if isinstance(event, Ended):
                        return
        except TrustError as error:
            self._on_event(Ended(error))
            return
        except (OSError, ValueError, TypeError, KeyError):  # it ended in a record, or is of another version
            pass
        self._on_event(Ended(None if self._closing else OwnerGone()))


def _reading(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return what makes a read of the core's at the owner."""
    signature, result = inspect.signature(method), get_type_hints(method)["return"]

    def read(self: RemoteClient, /, *positional: Any, **named: Any) -> Any:
        bound = signature.bind(self, *positional, **named)
        arguments = {each: value for each, value in bound.arguments.items() if each != "self"}
        return from_json(result, self.read(Read(name, arguments)))

    return read


for _name, _method in READS.items():
    setattr(RemoteClient, _name, _reading(_name, _method))
