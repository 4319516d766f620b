"""The server put together: its threads, what each is for, and in which order they start and stop.

    main            waits for a signal                                        `process.run_server`
    acceptor        takes connections                                         `carrying.reactor.Acceptor`
    io-*            TLS, frames, logins, and the sequencer's turn             `carrying.reactor.IOThread`
    password-*      Argon2                                                    `accounts.passwords.PasswordWorkers`
    accounts        writes accounts.json                                      `accounts.store.AccountStore`
    validator-*     checks commits                                            `workers.WorkerPool`
    reader-*        reads history                                             `workers.WorkerPool`
    housekeeping    moves, expires and checkpoints                            `housekeeping.Housekeeping`
    admin           answers the operator                                      `operator.admin.AdminServer`
    metrics         answers Prometheus and health checks                      `operator.metrics.MetricsServer`

They talk through queues that an I/O thread empties. Each class says which thread owns what.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from securechat.errors import RefusedError, SecurechatError, StorageError, UsageError
from securechat.server.accounts.passwords import PasswordWorkers
from securechat.server.accounts.store import AccountStore
from securechat.server.admission.login import ClientHandler, LoginDesk
from securechat.server.carrying.acceptor import REPEAT_SECONDS, Acceptor
from securechat.server.carrying.connection import Connection
from securechat.server.carrying.reactor import IOThread
from securechat.server.clock import ServerClock
from securechat.server.config import ACCOUNTS_FILE, STORE_FILE, ServerConfig
from securechat.server.descriptors import RESERVED_FILES, files_allowed
from securechat.server.housekeeping import Housekeeping
from securechat.server.logs import get_logger, set_level
from securechat.server.operator.admin import Admin, AdminServer
from securechat.server.operator.protocol import socket_path
from securechat.server.rates import Rates, address_key
from securechat.server.sequencer.operations import Answer
from securechat.server.sequencer.sequencer import Sequencer
from securechat.server.status import Counters, Status
from securechat.server.store.sqlite.database import knows_people
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.server.workers import WorkerPool
from securechat.transport.tls import read_certificate, server_context
from securechat.transport.waker import Waker
from securechat.wire import limits
from securechat.wire.messages import Closing, Hello

if TYPE_CHECKING:
    from securechat.server.operator.metrics import MetricsServer

log = get_logger(__name__)

IO_THREADS = 1
"""One is fastest under the GIL."""

VALIDATORS = 2
"""Two, so that a big commit does not hold up a small one."""

READERS = 2

DRAIN_SECONDS = 5.0
"""How long a server that stops waits for its clients to take their last messages."""

STUCK_SECONDS = 30.0
"""An I/O thread whose round takes this long is stuck: rounds take milliseconds."""

FIXED = ("host", "port", "data", "durability", "metrics_port", "rooms", "show_ciphertext")
"""Settings that a reload leaves as they are."""

BACKLOG = 1024
"""Connections that the system holds until the acceptor takes them."""


class Server:
    """A server: `start` returns when it listens, `stop` when everything has ended."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self.port = config.port
        """Where it listens. If port 0 was asked for: the one that was chosen, once it has started."""
        self.running = False
        self.metrics_port = config.metrics_port
        self._started = time.time()
        self._counters = Counters()
        self._accepted = 0
        self._full_until = 0.0  # the log is not told again until then (monotonic seconds)

    def start(self) -> None:
        """Open everything and begin to serve. Raises StorageError or UsageError, with nothing left open."""
        with contextlib.ExitStack() as opened:
            try:
                self._open(opened)
            except RuntimeError as error:  # from starting a thread
                text = f"{error}: the system allows too few of them; see `ulimit -u`, and TasksMax= of systemd"
                raise UsageError(text) from error
            self._opened = opened.pop_all()
        self.running = True
        if self._metrics is not None:
            log.info("metrics served", port=self.metrics_port)
        log.info("listening", address=self.address, data=str(self._config.data))

    def _open(self, opened: contextlib.ExitStack) -> None:
        """Open and start one part after the other; `opened` closes them in the reverse order."""
        config = self._config
        self._context = server_context(config.cert, config.key)
        self._certificate_expires = read_certificate(config.cert).not_valid_after_utc.timestamp()
        accounts_path, store_path = config.data / ACCOUNTS_FILE, config.data / STORE_FILE
        if accounts_path.exists() and not store_path.exists():
            raise StorageError(f"{store_path} is missing, but {accounts_path} is there: they belong together")
        if not accounts_path.exists() and knows_people(store_path):
            raise StorageError(
                f"{accounts_path} is missing, but {store_path} knows people: anybody could take their names now. "
                "Restore a backup."
            )
        self._most_connections = files_allowed() - RESERVED_FILES
        if self._most_connections < 1:
            raise UsageError(f"the system allows too few open files: {RESERVED_FILES} are needed without any client")
        self._clock = clock = ServerClock(config.data)
        self._accounts = accounts = AccountStore(accounts_path, clock=clock.seconds)
        opened.callback(accounts.close)
        listener = self._listen()
        opened.callback(listener.close)
        self.port = listener.getsockname()[1]
        self._metrics = self._open_metrics()
        if self._metrics is not None:
            opened.callback(self._metrics.close)
        # Last of all that may refuse the start: to open it for writing is to take over what a killed server has left.
        checkpoint_due = threading.Event()
        self._store = store = SQLiteStore(
            store_path, durable=config.durability == "disk", on_long_log=checkpoint_due.set
        )
        opened.callback(store.close)
        clock.begin(store.newest() / 1000)
        if config.durability == "memory":
            log.warning("durability is `memory`: a power failure will lose messages that were acknowledged")
        self._readers = WorkerPool("reader", READERS)
        self._validators = WorkerPool("validator", VALIDATORS)
        self._rates = rates = Rates(config)
        wakers = [Waker() for _ in range(IO_THREADS)]
        for waker in wakers:
            opened.callback(waker.close)
        self._sequencer = sequencer = Sequencer(
            store,
            seats=config.max_clients,
            rates=rates,
            rooms=config.rooms,
            show_ciphertext=config.show_ciphertext,
            interrupt=wakers[0].wake,
            tokens=accounts,
            validators=self._validators,
            readers=self._readers,
            lock=threading.Lock(),
            counters=self._counters,
            clock=clock,
        )
        opened.callback(sequencer.close)
        admin = self._open_admin(accounts, store)
        if admin is not None:
            opened.callback(admin.close)
        self._workers = PasswordWorkers(accounts)
        opened.callback(self._workers.close)
        self._desk = LoginDesk(config, accounts, self._workers, rates, self._counters, sequencer)
        self._hello = self._make_hello()
        self._threads = [IOThread(f"io-{index}", sequencer.turn, waker) for index, waker in enumerate(wakers)]
        for pool in (self._readers, self._validators):
            opened.callback(pool.stop)
            pool.start()
        if self._metrics is not None:
            opened.callback(self._metrics.stop)
            self._metrics.start()
            self.metrics_port = self._metrics.port
        if admin is not None:
            opened.callback(admin.stop)
            admin.start()
        housekeeping = Housekeeping(sequencer, store.checkpoint, checkpoint_due)
        opened.callback(housekeeping.stop)
        housekeeping.start()
        opened.callback(self._end_sessions)
        for thread in self._threads:
            thread.start()
        self._acceptor = Acceptor(listener, self._accept)
        opened.callback(self._acceptor.stop)
        self._acceptor.start()

    @property
    def address(self) -> str:
        """Host and port, as people write them."""
        host = self._config.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def reload(self, load: Callable[[], ServerConfig]) -> None:
        """Take over a new certificate and new settings; if anything is wrong with them, none of them.

        Open connections keep the certificate they have: the new one is in a new context. Settings of what is open
        already (`FIXED`) stay.
        """
        try:
            config = load()
            context = server_context(config.cert, config.key)
            certificate = read_certificate(config.cert)
            if not certificate.not_valid_before_utc <= datetime.now(UTC) < certificate.not_valid_after_utc:
                raise StorageError(f"{config.cert} is out of date; `securechat gen-certs` renews it")
        except SecurechatError as error:
            log.error("not reloaded: all stays as it was", reason=str(error))
            return
        changed = [
            field.name for field in fields(config) if getattr(config, field.name) != getattr(self._config, field.name)
        ]
        if fixed := [name for name in changed if name in FIXED]:
            log.warning("settings that the next start will change", settings=fixed)
        self._config = config = replace(config, **{name: getattr(self._config, name) for name in FIXED})
        self._context = context
        self._certificate_expires = certificate.not_valid_after_utc.timestamp()
        self._hello = self._make_hello()
        self._desk.config = config
        self._rates.change(config)
        self._sequencer.resize(config.max_clients)
        set_level(config.log_level)
        log.info(
            "reloaded",
            settings=[name for name in changed if name not in FIXED],
            certificate_expires=certificate.not_valid_after_utc.isoformat(),
        )

    def stop(self) -> None:
        """Tell the clients, let accepted messages reach them, and end."""
        self.running = False  # `/readyz` says so
        self._opened.close()
        log.info("stopped")

    def _end_sessions(self) -> None:
        for thread in self._threads:
            thread.stop(DRAIN_SECONDS)
        for thread in self._threads:
            thread.join()

    # --- the acceptor's thread --------------------------------------------------------------------------------------

    def _accept(self, sock: socket.socket, address: tuple[str, int]) -> None:
        host, port = address
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        key = address_key(host)
        now = time.monotonic()
        if sum(thread.connections for thread in self._threads) >= self._most_connections:
            self._counters.turned_away["no-files"] += 1
            if now >= self._full_until:
                self._full_until = now + REPEAT_SECONDS
                log.warning("turned away: no more files may be open", connections=self._most_connections)
            sock.close()
            return
        try:
            self._rates.connections.take(key, now)
        except RefusedError as error:
            self._counters.turned_away["too-many"] += 1
            log.debug("turned away", client=shown, reason=str(error))  # at `debug` only: a flood must not fill the log
            sock.close()
            return
        thread = self._threads[self._accepted % len(self._threads)]
        self._accepted += 1
        connection = Connection(thread, sock, shown, self._context, self._hello, now)
        connection.handler = ClientHandler(connection, key, self._desk)
        if (oldest := self._desk.newcomers.enter(key, connection)) is not None:
            self._counters.turned_away["gave-way"] += 1
            oldest.send(Closing("too-slow", "too many connections that are not logged in: the oldest gives way"))
        thread.add(connection)

    # --- seen from outside ------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """Return how things stand. Any thread, while the server runs."""
        size = self._store.size()
        return Status(
            started=self._started,
            accounts=len(self._accounts),
            connections=sum(thread.connections for thread in self._threads),
            sessions=self._sequencer.sessions,
            waiting=self._sequencer.waiting,
            password_queue=self._workers.waiting,
            log_entries=size.entries,
            handshake_bytes=size.handshake_bytes,
            store_bytes=size.disk_bytes,
            certificate_expires=self._certificate_expires,
        )

    def _stuck(self) -> str:
        """Why the server is not alive, for `/livez`; empty: it is."""
        still = time.monotonic() - min(thread.beat for thread in self._threads)
        return f"an I/O thread has not moved for {still:.0f} s" if still > STUCK_SECONDS else ""

    def _unready(self) -> str:
        """Why the server takes nobody, for `/readyz`; empty: it does."""
        if not self.running:
            return "stopping"
        if time.time() > self._certificate_expires:
            return "the certificate has expired: renew it and send SIGHUP"
        return self._clock.problem or self._stuck()

    def _open_admin(self, accounts: AccountStore, store: SQLiteStore) -> AdminServer | None:
        path = socket_path(self._config.data)
        if path is None:
            log.warning("no admin socket: the path of the data folder is too long", data=str(self._config.data))
            return None
        admin = Admin(
            self._config.data,
            accounts,
            store,
            self._counters,
            expel=self._sequencer.expel,
            speak=self._sequencer.speak,
            survey=self._sequencer.survey,
            change_site_key=self._change_site_key,
            status=self.status,
            unready=self._unready,
            accept_clock=self._clock.accept,
            address=self.address,
        )
        return AdminServer(path, admin)

    def _change_site_key(self, answer: Answer) -> None:
        def changed(error: SecurechatError | None) -> None:
            if error is None:
                self._hello = self._make_hello()
            answer(error)

        self._sequencer.change_site_key(changed)

    def _open_metrics(self) -> "MetricsServer | None":
        if self._config.metrics_port is None:
            return None
        from securechat.server.operator.metrics import MetricsServer  # late: not all servers need it

        return MetricsServer(
            self._config.metrics_port, self._counters, self.status, stuck=self._stuck, unready=self._unready
        )

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _make_hello(self) -> Hello:
        config = self._config
        return Hello(
            [limits.PROTOCOL_VERSION], config.name, config.greeting, self._store.server_id, config.registration,
            self._store.site_keys[0].public,
        )  # fmt: skip

    def _listen(self) -> socket.socket:
        config = self._config
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        try:
            return socket.create_server((config.host, config.port), family=family, backlog=BACKLOG)
        except (OSError, ValueError) as error:  # ValueError: a label is too long, for one
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise UsageError(f"cannot listen on {config.host} port {config.port}: {reason}") from error
