"""Errands: requests that no command waits for, so that nobody would miss an answer. What the server refuses is told.

A refusal that passes is tried again while the connection lasts, later each time. The user hears of one that lasts and
of one that is final, each once.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import msgspec

from securechat.client import events
from securechat.client.backoff import TOLD_SECONDS, Backoff
from securechat.errors import sentence
from securechat.wire.messages import RETRYABLE, Code, FromClient, Refused, Reply

ReplyHandler = Callable[[Reply], None]
"""Handles the reply to a request: the one that the request's docstring names, or `Refused`."""


@dataclass
class _Errand:
    what: str
    request: FromClient
    then: ReplyHandler
    expected: tuple[Code, ...]
    backoff: Backoff


class Errands:
    """The errands of one client. One thread at a time."""

    def __init__(
        self,
        clock: Callable[[], float],
        request: Callable[[FromClient, ReplyHandler], None],
        emit: Callable[[events.Event], None],
    ) -> None:
        """`clock` is monotonic, in seconds; `request` sends, and `emit` tells the front end, as `Context` does."""
        self._clock = clock
        self._request = request
        self._emit = emit
        self._running: dict[Hashable, _Errand] = {}
        self._told: set[str] = set()  # what of

    def run(
        self, key: Hashable, what: str, request: FromClient, then: ReplyHandler, *, expected: tuple[Code, ...] = ()
    ) -> None:
        """Make a request. `what` the server does not do, if it refuses; `then` takes its last word.

        Refusals with an `expected` code are for `then` alone. Nothing happens while one of the same key is under way.
        """
        if key not in self._running:
            self._running[key] = _Errand(what, request, then, expected, Backoff(self._clock))
            self._send(key)

    def end(self) -> None:
        """The connection is gone: whoever wants something asks anew on the next one."""
        self._running.clear()

    def is_late(self, key: Hashable) -> bool:
        """Whether an errand that is under way was refused for a while, which the user knows."""
        return key in self._running and self._running[key].what in self._told

    @property
    def timer(self) -> float | None:
        """When to call `handle_timer`, on the monotonic clock."""
        return min((until for each in self._running.values() if (until := each.backoff.until)), default=None)

    def handle_timer(self) -> None:
        """Time has passed: try again what is due."""
        for key, errand in self._running.items():
            if 0 < errand.backoff.until <= self._clock():
                errand.backoff.until = 0.0
                self._send(key)

    def _send(self, key: Hashable) -> None:
        errand = self._running[key]

        def answer(reply: Reply) -> None:
            if isinstance(reply, Refused) and reply.code in RETRYABLE:
                errand.backoff.wait(reply.retry_after / 1000)
                if errand.backoff.lasts > TOLD_SECONDS:
                    self._tell(errand, reply, "It is tried again by itself.")
                return
            if not isinstance(reply, Refused):
                self._told.discard(errand.what)
            elif reply.code not in errand.expected:
                self._tell(errand, reply, "It is tried again later; if it stays like this, ask the operator.")
            del self._running[key]
            errand.then(reply)

        self._request(msgspec.structs.replace(errand.request), answer)

    def _tell(self, errand: _Errand, refused: Refused, what_next: str) -> None:
        if errand.what not in self._told:
            self._told.add(errand.what)
            text = f"The server does not {errand.what}. It says: {sentence(refused.text)} {what_next}"
            self._emit(events.Refused("local", text))
