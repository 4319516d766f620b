"""The one thread that owns a client's engine, and its connection while there is one (docs/design.md, invariant 10).

    commands     from any thread, through a queue; carried out whether there is a connection or not
    connecting   in a thread of its own (`connecting`); fails at the very first try -> the client
                 ends, unless its server has answered in an earlier session and nobody is there now
    talking      bytes in, units of the engine, bytes out
    waiting      a connection was lost: longer each time, at random; then connect again, resume by token

`on_event` runs here, too: a front end that is slow there holds up the client, so it should only queue the event.
"""

import math
import selectors
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Final

from securechat import surroundings
from securechat.client import events
from securechat.client.backoff import Backoff
from securechat.client.commands import Command, Reconnect
from securechat.client.direct.endpoints import Network
from securechat.client.direct.links import Links
from securechat.client.engine import Engine
from securechat.client.files.jobs import Outcome
from securechat.client.files.work import Work
from securechat.client.link.connecting import Connecting
from securechat.client.link.connection import Connection
from securechat.client.settings import ClientSettings
from securechat.client.trust import Trust
from securechat.client.vault.folding import Folding
from securechat.errors import InternalError, PeerError, RefusedError, SecurechatError, UnreachableError, sentence
from securechat.transport.certificate_files import CA
from securechat.transport.tls import describe_tls_failure
from securechat.transport.waker import Waker
from securechat.wire.messages import Closing, FromServer
from securechat.wire.protocol import Ended

UNIT: Final = 64
"""Messages of the server, or commands, in one transaction: enough to share its cost, and few enough (tens of
milliseconds) to let a command in between."""

_END_OF_DEVICE: Final = {
    "replaced": (
        "Another program has logged in with this vault. If that was not you, somebody has a copy of it: start again, "
        "and type /rotate, which leaves the copy without a key; change your password, too."
    ),
    "revoked": (
        "This device was revoked by your identity key, and speaks for you no more. If that was not you, somebody has "
        "your vault and its password: change your password, start again, type /rotate, which brings this device back, "
        "and tell your contacts in some other way."
    ),
    "logged-out": (
        "The server has ended this login, as it does when the password was changed on another device of yours, or "
        "reset, when you end it from there, or when the account was disabled. Start again with the password that opens "
        "your data here: if the account has another one by now, that one is asked for next, and opens both from then "
        "on. If you have not asked for any of that, ask the server's operator why."
    ),
}


class Runner:
    """Drives one engine. `start` once; after `close`, or a failure, `Ended` is the last event."""

    def __init__(
        self,
        settings: ClientSettings,
        trusted: Sequence[CA],
        engine: Engine,
        folding: Folding,
        on_event: Callable[[events.Event], None],
        trust: Trust,
        network: Network,
    ) -> None:
        """`trusted`, `trust`: as in `Connecting`. `folding`: of the engine's vault. `network`: as in `Links`.

        `on_event` is called on the runner's thread. From `start` on, nobody else may touch the engine.
        """
        self._settings = settings
        self._engine = engine
        self._folding = folding
        self._on_event = on_event
        self._waker = Waker()
        self._commands = SimpleQueue[Command]()
        self._closing = threading.Event()
        self._links = Links(network, self._waker.wake)
        self._connecting = Connecting(settings, trusted, self._take_connection, trust)
        self._outcomes = SimpleQueue[Connection | Exception]()  # results of tries to connect
        self._worked = SimpleQueue[Outcome]()  # of jobs with files
        self._work = Work(self._take_work)
        self._thread = threading.Thread(target=self._run, name="securechat-client", daemon=True)
        # --- the thread's
        self._connection: Connection | None = None
        self._arrived: deque[FromServer | Ended] = deque()  # from the server, not processed yet
        self._backoff = Backoff(time.monotonic)
        self._fold_due = math.inf  # when to look at the vault's log again
        self._greeted = False  # a server that we trust has answered before, in this session

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def do(self, command: Command) -> None:
        """Have a command carried out. From any thread, also before the start."""
        self._commands.put(command)
        self._waker.wake()

    def close(self) -> None:
        """Carry out the commands so far, say goodbye and end. From any thread."""
        self._closing.set()
        self._waker.wake()

    def wait_for_end(self, seconds: float) -> bool:
        """Wait until the thread has ended, at most so long. Return whether it has, or was never started."""
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _take_connection(self, outcome: Connection | Exception) -> None:
        self._outcomes.put(outcome)
        self._waker.wake()

    def _take_work(self, outcome: Outcome) -> None:
        self._worked.put(outcome)
        self._waker.wake()

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        error: Exception | None = None
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._waker, selectors.EVENT_READ)
                self._serve(selector)
        except SecurechatError as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001  # the front end has to hear of any end
            error = surroundings.told(failure) or InternalError(f"{type(failure).__name__}: {failure}")
            error.__cause__ = failure
        for event in self._engine.take_events():  # what was stored before the end
            self._on_event(event)
        self._connecting.abandon()
        self._links.close()
        self._work.close()
        while not self._outcomes.empty():
            if isinstance(outcome := self._outcomes.get(), Connection):
                outcome.close()
        if self._connection is not None:
            self._connection.close()
        self._waker.close()
        self._on_event(events.Ended(error))

    def _serve(self, selector: selectors.BaseSelector) -> None:
        """Go round until `close`. Whatever it raises ends the client."""
        self._connecting.start()
        while True:
            closing = self._closing.is_set()  # before the commands are taken: earlier ones are carried out
            self._carry_out(everything=closing)
            if self._connection is not None:
                self._talk(selector, self._connection)
            self._deliver()
            for job in self._engine.take_jobs():
                self._work.do(job)
            if closing:
                self._leave()
                return
            self._fold_due = self._folding.look()
            self._wait(selector)

    def _carry_out(self, *, everything: bool = False) -> None:
        """Carry out a unit of the commands, or all of them."""
        while not self._commands.empty():
            batch: list[Command] = []
            while len(batch) < UNIT and not self._commands.empty():
                batch.append(self._commands.get())  # does not wait: nobody else takes from this queue
            self._engine.do(batch)
            if self._backoff.until and any(isinstance(command, Reconnect) for command in batch):
                self._backoff.until = time.monotonic()
            if not everything:
                return
            self._deliver()

    def _deliver(self) -> None:
        """Hand the front end the events whose transactions are on disk."""
        for event in self._engine.take_events():
            if isinstance(event, events.Ready | events.Waiting):
                self._backoff.reset()
            elif isinstance(event, events.Connected):
                self._greeted = True
            self._on_event(event)
        for order in self._engine.take_link_orders():
            self._links.carry_out(order, self._connection.server_address if self._connection is not None else "")
        if self._engine.failure is not None:
            raise self._engine.failure

    def _wait(self, selector: selectors.BaseSelector) -> None:
        """Wait until there is something to do, and read whatever has arrived."""
        ready = self._read(selector)
        if self._waker in ready:
            self._waker.clear()
        if worked := [self._worked.get() for _ in range(min(self._worked.qsize(), UNIT))]:  # nobody else takes any
            self._engine.finish(worked)
        while not self._outcomes.empty():
            self._connected(selector, self._outcomes.get())
        if told := self._links.take():
            self._engine.link_news(told)
        now = time.monotonic()
        if (connection := self._connection) is not None:
            if connection.link not in ready and now >= connection.timer:
                self._arrived += connection.handle_timer()
        elif self._backoff.until and now >= self._backoff.until:
            self._backoff.until = 0.0
            self._connecting.start()
        if (timer := self._engine.timer) is not None and now >= timer:
            self._engine.handle_timer()

    def _read(self, selector: selectors.BaseSelector) -> set[object]:
        """Wait, and read; return what is ready. A part of a message alone is nothing to go round for."""
        while True:
            patience = self._patience()
            ready: set[object] = {key.fileobj for key, _ in selector.select(patience)}
            if (connection := self._connection) is None:
                return ready
            if connection.link in ready:
                try:
                    self._arrived += connection.receive()
                except (OSError, PeerError) as error:
                    self._lose(selector, connection, self._describe(error))
                    return ready
            if ready != {connection.link} or self._arrived or connection.has_unsent or patience == 0.0:
                return ready

    def _patience(self) -> float | None:
        """Return the seconds until something is due; None: nothing is, so wait to be woken."""
        if self._arrived or not (self._commands.empty() and self._worked.empty()):
            return 0.0
        connection, backoff = self._connection, self._backoff
        due = connection.timer if connection is not None else (backoff.until or math.inf)
        if (timer := self._engine.timer) is not None:
            due = min(due, timer)
        due = min(due, self._fold_due)
        return None if due == math.inf else max(due - time.monotonic(), 0.0)

    # --- the connection -------------------------------------------------------------------------------------------

    def _connected(self, selector: selectors.BaseSelector, outcome: Connection | Exception) -> None:
        """A try to connect has ended."""
        if isinstance(outcome, UnreachableError):
            # Of a vault that knows no server the address may be mistyped; who is in its server's place is told at once.
            nobody = isinstance(outcome.__cause__, OSError) and not isinstance(outcome.__cause__, ssl.SSLError)
            if self._greeted or (nobody and self._engine.knows_server):
                self._try_again(str(outcome))
                return
        if isinstance(outcome, Exception):
            self._carry_out(everything=True)  # what was said so far is in the vault, for the next time
            self._deliver()
            raise outcome
        self._connection = outcome
        selector.register(outcome.link, selectors.EVENT_READ)
        self._engine.connected(outcome.shown(), outcome.verified_by())
        self._arrived += outcome.begin()

    def _talk(self, selector: selectors.BaseSelector, connection: Connection) -> None:
        """Process a unit of what has arrived, and send what that and the commands have produced."""
        try:
            reason = self._process()
            if reason is None:
                connection.send(self._engine.take_outgoing)
                # What has arrived is processed first: under a flood, nothing more is read.
                reading = 0 if self._arrived else selectors.EVENT_READ
                writing = selectors.EVENT_WRITE if connection.has_unsent else 0
                self._watch(selector, connection, reading | writing)
                return
        except (OSError, PeerError) as error:
            reason = self._describe(error)
        self._lose(selector, connection, reason)

    def _watch(self, selector: selectors.BaseSelector, connection: Connection, interest: int) -> None:
        registered = connection.link in selector.get_map()
        if not interest:
            if registered:
                selector.unregister(connection.link)
        elif registered:
            selector.modify(connection.link, interest)
        else:
            selector.register(connection.link, interest)

    def _process(self) -> str | None:
        """Have the engine process a unit of what has arrived. If the connection is over, return the reason."""
        messages: list[FromServer] = []
        ended: Ended | None = None
        while self._arrived and len(messages) < UNIT and ended is None:
            message = self._arrived.popleft()
            if isinstance(message, Ended):
                ended = message
            else:
                messages.append(message)
        if messages:
            self._engine.receive(messages)
            if self._engine.disconnect_reason:
                return self._engine.disconnect_reason
        if ended is None:
            return None
        logged_out = ended.closing is not None and ended.closing.reason == "logged-out"
        if logged_out and self._engine.is_deleted:
            self.close()  # with a wake: this round has looked already, and nothing else may be due ever again
            return "The server has deleted the account."
        if logged_out and self._engine.is_changing_password:
            return "The server has ended this login, perhaps because of the new password."
        return _why(ended)

    def _lose(self, selector: selectors.BaseSelector, connection: Connection, reason: str) -> None:
        """The connection is over: tell the front end, and try again later."""
        if connection.link in selector.get_map():
            selector.unregister(connection.link)
        connection.close()
        self._connection = None
        self._arrived.clear()
        retry_after = self._engine.retry_after
        self._engine.disconnected()
        self._deliver()
        if not self._closing.is_set():
            self._try_again(reason, retry_after)

    def _try_again(self, reason: str, retry_after: float = 0.0) -> None:
        self._on_event(events.Disconnected(reason, self._backoff.wait(retry_after)))

    def _leave(self) -> None:
        """Say goodbye, after sending what the commands have produced."""
        if (connection := self._connection) is None:
            return
        self._engine.say_goodbye()
        try:
            connection.send(self._engine.take_outgoing)
            connection.say_goodbye()
        except (OSError, PeerError):
            pass  # the server finds out by itself
        connection.close()
        self._connection = None
        self._engine.disconnected()
        self._deliver()  # questions that nobody answers any more

    def _describe(self, error: OSError | PeerError) -> str:
        return describe_tls_failure(error, self._settings.host, self._settings.port)


def _why(ended: Ended) -> str:
    """Return why the server has ended the connection. Raises `RefusedError` if this device is out."""
    if ended.error is not None:
        return f"The server broke the protocol: {ended.error}"
    if not isinstance(ended.closing, Closing):
        return "The connection was lost."
    if ended.closing.reason in _END_OF_DEVICE:
        said = f" The server says: {sentence(ended.closing.text)}" if ended.closing.text else ""
        raise RefusedError(ended.closing.reason, _END_OF_DEVICE[ended.closing.reason] + said)
    says = f" It says: {ended.closing.text}" if ended.closing.text else ""
    return f"The server has closed the connection ({ended.closing.reason}).{says}"
