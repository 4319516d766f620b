"""The server put together: its threads, what each is for, and in which order they start and stop.

    main            waits for a signal                                        `process.run_server`
    log             writes the log                                            `log_output.QueuedHandler`
    acceptor        takes connections                                         `carrying.reactor.Acceptor`
    io-*            TLS, frames, logins, and the sequencer's turn             `carrying.reactor.IOThread`
    password-*      Argon2                                                    `accounts.passwords.PasswordWorkers`
    accounts        writes accounts.json                                      `accounts.store.AccountStore`
    validator-*     checks commits                                            `workers.WorkerPool`
    reader-*        reads history                                             `workers.WorkerPool`
    blob-*          writes, reads and deletes files of blobs                  `workers.WorkerPool`
    housekeeping    moves, expires and checkpoints                            `housekeeping.Housekeeping`
    admin           takes the operator's connections                          `operator.serving.AdminServer`
    admin-request   answers one of them                                       `operator.serving.AdminServer`
    metrics         answers Prometheus and health checks                      `operator.metrics.MetricsServer`

They talk through queues that an I/O thread empties. Each class says which thread owns what.
"""

import contextlib
import functools
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import structs

from securechat.errors import RefusedError, SecurechatError, StorageError, UsageError
from securechat.server.accounts.passwords import PasswordWorkers
from securechat.server.accounts.store import AccountStore
from securechat.server.admission.login import ClientHandler, LoginDesk
from securechat.server.blobs.folder import BlobFolder
from securechat.server.blobs.sweep import Sweep
from securechat.server.blobs.transfers import Transfers
from securechat.server.carrying.acceptor import REPEAT_SECONDS, Acceptor
from securechat.server.carrying.connection import Connection
from securechat.server.carrying.reactor import IOThread
from securechat.server.clock import ServerClock
from securechat.server.config import ACCOUNTS_FILE, BLOBS_FOLDER, STORE_FILE, ServerConfig
from securechat.server.descriptors import RESERVED_FILES, files_allowed
from securechat.server.housekeeping import Housekeeping
from securechat.server.logs import get_logger, set_level
from securechat.server.operator.admin import Admin
from securechat.server.operator.protocol import socket_path
from securechat.server.operator.serving import AdminServer
from securechat.server.parts import ServerParts
from securechat.server.rate import Rate
from securechat.server.rates import Rates, address_key
from securechat.server.sequencer.operations import Answer, ChangeSiteKey
from securechat.server.sequencer.sequencer import Sequencer
from securechat.server.space import Space
from securechat.server.status import TOP_ACCOUNTS, Counters, Status
from securechat.server.store.sqlite.database import knows_people
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.server.workers import WorkerPool
from securechat.transport.certificate_files import issuer_of, read_certificate
from securechat.transport.tls import server_context, shown_by
from securechat.transport.waker import Waker
from securechat.wire import limits
from securechat.wire.messages import Closing, Hello
from securechat.wire.possession import Channel

if TYPE_CHECKING:
    from securechat.server.operator.metrics import MetricsServer

log = get_logger(__name__)

IO_THREADS = 1
"""One is fastest under the GIL."""

VALIDATORS = 2
"""Two, so that a big commit does not hold up a small one."""

VALIDATION_SECONDS = 5
VALIDATION_SHARE = 0.05
"""Processor time of validators for one account: so much at once, which is the founding of several of the largest rooms,
and a twentieth of a second a second from then on, ten commits."""

READERS = 2

READING_SECONDS = 60
READING_SHARE = 0.5
"""The same of readers: gigabytes of history at once, and then half a processor."""

BLOB_WORKERS = 2
"""Two, so that one account's disk work does not hold up another's: each has one of them at most."""

MOVING_SECONDS = 60
MOVING_SHARE = 0.5
"""Processor time of those for one account: as of readers."""

DRAIN_SECONDS = 5.0
"""How long a server that stops waits for its clients to take their last messages."""

STUCK_SECONDS = 30.0
"""An I/O thread whose round takes this long is stuck: rounds take milliseconds."""

FIXED = ("host", "port", "data", "durability", "metrics_port", "rooms", "show_ciphertext")
"""Settings that a reload leaves as they are."""

BACKLOG = 1024
"""Connections that the system holds until the acceptor takes them."""


def too_few_threads(error: RuntimeError) -> UsageError:
    """Return the error of a thread that the system did not allow."""
    return UsageError(f"{error}: the system allows too few of them; see `ulimit -u`, and TasksMax= of systemd")


ALL_ADDRESSES = "::"
"""The host for all addresses of this machine, of both families."""

MAPPED = "::ffff:"
"""What stands before the address of an IPv4 peer at a socket for both (RFC 4291, section 2.5.5.2)."""


class Server:
    """A server: `start` returns when it listens, `stop` when everything has ended."""

    def __init__(self, config: ServerConfig, *, parts: ServerParts = ServerParts()) -> None:
        self._config = config
        self._parts = parts
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
                raise too_few_threads(error) from error
            self._opened = opened.pop_all()
        self.running = True
        if self._metrics is not None:
            log.info("metrics served", port=self.metrics_port)
        log.info("listening", address=self.address, data=str(self._config.data))

    def _open(self, opened: contextlib.ExitStack) -> None:
        """Open and start one part after the other; `opened` closes them in the reverse order."""
        config = self._config
        context = server_context(config.cert, config.key)
        self._certificate = context, shown_by(context)  # one value, so that a connection gets what belongs together
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
        self._space = space = Space(config.data, config.disk_floor)
        self._accounts = accounts = AccountStore(
            accounts_path, clock=clock.seconds, age=clock.age, write=space.or_release
        )
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
        if store.passed_over:
            log.error(
                "what stood behind a damaged place of the write-ahead log is lost", commits=store.passed_over
            )
        clock.begin(store.newest() / 1000)
        space.reusable = store.reusable
        space.look()
        opened.callback(functools.partial(clock.keep, at_once=True))
        if config.durability == "memory":
            log.warning("durability is `memory`: a power failure will lose messages that were acknowledged")
        self._readers = WorkerPool("reader", READERS, Rate(READING_SECONDS, READING_SHARE), self._idle)
        self._validators = WorkerPool("validator", VALIDATORS, Rate(VALIDATION_SECONDS, VALIDATION_SHARE), self._idle)
        self._movers = WorkerPool("blob", BLOB_WORKERS, Rate(MOVING_SECONDS, MOVING_SHARE), self._idle)
        self._files = files = BlobFolder(config.data / BLOBS_FOLDER)
        self._transfers = transfers = Transfers(files, self._movers, space, config.blob_limits.in_all)
        self._rates = rates = Rates(config)
        wakers = [Waker() for _ in range(IO_THREADS)]
        for waker in wakers:
            opened.callback(waker.close)
        self._sequencer = sequencer = Sequencer(
            store,
            seats=config.max_clients,
            share=config.share,
            bytes_per_account=config.bytes_per_account,
            rates=rates,
            rooms=config.rooms,
            show_ciphertext=config.show_ciphertext,
            interrupt=wakers[0].wake,
            find_account=accounts.get,
            validators=self._validators,
            readers=self._readers,
            lock=threading.Lock(),
            counters=self._counters,
            clock=clock,
            space=space,
            transfers=transfers,
            blob_limits=config.blob_limits,
            accepts_commit=self._parts.accepts_commit,
        )
        opened.callback(sequencer.close)
        sequencer.finish_deletions(account.name for account in accounts.all() if account.deleted)
        admin = self._open_admin(accounts, store)
        if admin is not None:
            opened.callback(admin.close)
        self._workers = PasswordWorkers(
            accounts, ca=issuer_of(read_certificate(config.cert)), cost=self._parts.password_cost
        )
        opened.callback(self._workers.close)
        self._desk = LoginDesk(config, accounts, self._workers, rates, self._counters, sequencer, space, transfers)
        self._hello = self._make_hello()
        self._threads = [
            IOThread(f"io-{index}", sequencer.turn, waker, rates.messages.bucket) for index, waker in enumerate(wakers)
        ]
        for pool in (self._readers, self._validators, self._movers):
            opened.callback(pool.stop)
            pool.start()
        if self._metrics is not None:
            opened.callback(self._metrics.stop)
            self._metrics.start()
            self.metrics_port = self._metrics.port
        sweep = Sweep(files, store.blobs, transfers, sequencer.hand_in)
        housekeeping = Housekeeping(
            sequencer, store.checkpoint, clock.keep, checkpoint_due, space.look,
            sweep=lambda: self._movers.submit(sweep.round),
        )  # fmt: skip
        opened.callback(housekeeping.stop)
        housekeeping.start()
        opened.callback(self._end_sessions)
        for thread in self._threads:
            thread.start()
        # Whom the operator trusts now: a reload may change it.
        self._acceptor = Acceptor(listener, self._accept, lambda host: self._config.trusted_proxies.hold(host))
        opened.callback(self._acceptor.stop)
        self._acceptor.start()
        if admin is not None:  # stopped first: what is being done for the operator needs all the others
            opened.callback(admin.stop)
            admin.start()

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
            shown = shown_by(context)
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
        self._certificate = context, shown
        self._certificate_expires = certificate.not_valid_after_utc.timestamp()
        self._hello = self._make_hello()
        self._desk.config = config
        self._workers.ca = issuer_of(certificate)
        self._rates.change(config)
        self._sequencer.change_quota(config.bytes_per_account, config.blob_limits)
        self._transfers.most = config.blob_limits.in_all
        self._space.floor = config.disk_floor
        self._sequencer.resize(config.max_clients, config.share)
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
        host = host.removeprefix(MAPPED)
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
        context, certificate = self._certificate
        told = int(self._clock.seconds() * 1000)
        hello = structs.replace(self._hello, nonce=os.urandom(limits.NONCE_LENGTH), time=told)
        connection = Connection(thread, sock, shown, key, context, hello, now)
        channel = Channel(hello.server_id, certificate, hello.nonce)
        connection.handler = ClientHandler(connection, channel, key, self._desk)
        if (oldest := self._desk.newcomers.enter(key, connection)) is not None:
            self._counters.turned_away["gave-way"] += 1
            oldest.send(Closing("too-slow", "too many connections that are not logged in: the oldest gives way"))
        thread.add(connection)

    # --- seen from outside ------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """Return how things stand. Any thread, while the server runs."""
        size, held = self._store.size(), self._store.held_by_all()
        return Status(
            started=self._started,
            accounts=len(self._accounts),
            connections=sum(thread.connections for thread in self._threads),
            sessions=self._sequencer.sessions,
            waiting=self._sequencer.waiting,
            password_queue=self._workers.waiting,
            validation_queue=self._validators.waiting,
            reading_queue=self._readers.waiting,
            moving_queue=self._movers.waiting,
            turn_queue=self._sequencer.handed_in,
            log_entries=size.entries,
            handshake_bytes=size.handshake_bytes,
            store_bytes=size.disk_bytes,
            reusable_bytes=size.reusable_bytes,
            disk_free_bytes=self._space.free,
            disk_floor_bytes=int(self._space.floor),
            disk_reserve_bytes=self._space.reserved,
            certificate_expires=self._certificate_expires,
            commits_passed_over=self._store.passed_over,
            held_bytes=sum(held),
            quota_bytes=int(self._config.bytes_per_account),
            blob_bytes=self._files.held,
            blob_most_bytes=int(self._config.blob_bytes),
            blob_account_bytes=int(self._config.blob_bytes_per_account),
            uploads=self._store.blobs.unfinished(),
            held_most=held[:TOP_ACCOUNTS],
            refused_by_rate=self._rates.refused(),
        )

    def _idle(self) -> float:
        """For how many seconds, ever, the I/O threads have had nothing to do."""
        return sum(thread.idle for thread in self._threads)

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
        return self._clock.problem or self._space.problem or self._stuck()

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
            operate=self._sequencer.operate,
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

        self._sequencer.operate(ChangeSiteKey(changed))

    def _open_metrics(self) -> "MetricsServer | None":
        if self._config.metrics_port is None:
            return None
        from securechat.server.operator.metrics import MetricsServer  # late: not all servers need it

        return MetricsServer(
            self._config.metrics_port, self._counters, self.status, stuck=self._stuck, unready=self._unready
        )

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _make_hello(self) -> Hello:
        """What all are greeted with; each connection gets a nonce of its own in it, and the time."""
        config = self._config
        return Hello(
            [limits.PROTOCOL_VERSION], config.name, config.greeting, self._store.server_id, config.registration,
            self._store.site_keys[0].public, b"", 0,
        )  # fmt: skip

    def _listen(self) -> socket.socket:
        config = self._config
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        both = config.host == ALL_ADDRESSES and socket.has_dualstack_ipv6()
        if config.host == ALL_ADDRESSES and not both:
            log.warning("IPv4 is not served: this system has no sockets for both", host=config.host)
        try:
            return socket.create_server(
                (config.host, config.port), family=family, backlog=BACKLOG, dualstack_ipv6=both
            )
        except (OSError, ValueError) as error:  # ValueError: a label is too long, for one
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise UsageError(f"cannot listen on {config.host} port {config.port}: {reason}") from error
