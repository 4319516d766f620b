"""`securechat doctor`: checks everything that a server needs, before a start or beside a running server.

It only reads: no byte and no time stamp in the data folder changes. Each finding is a line that says what is there and,
if something is wrong, what to do. Nothing that it meets ends in a traceback.
"""

import contextlib
import difflib
import errno
import http.client
import ipaddress
import os
import platform
import shlex
import shutil
import socket
import sqlite3
import ssl
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, TypeAlias

from securechat import __version__
from securechat.errors import SecurechatError, StorageError, UnreachableError
from securechat.files import is_locked, sync
from securechat.server.accounts.file import read_accounts
from securechat.server.admission.newcomers import MAX_NEWCOMERS
from securechat.server.config import ACCOUNTS_FILE, BLOBS_FOLDER, ENVIRONMENT_PREFIX, STORE_FILE, ServerConfig
from securechat.server.descriptors import RESERVED_FILES
from securechat.server.operator import protocol
from securechat.server.operator.metrics import HOST as METRICS_HOST
from securechat.server.store.sqlite import schema
from securechat.server.store.sqlite.database import check_database, knows_people, read_blobs
from securechat.transport.certificate_files import certificate_names, read_chain
from securechat.transport.deadline import Deadline
from securechat.transport.tls import rehearse_handshake, server_context, shown_certificate
from securechat.value import value

RENEW_DAYS: Final = 14
"""A certificate that ends sooner should be renewed; somebody on holiday still has time to."""

LOW_SPACE: Final = 1 << 30
"""Bytes free below which it warns: what a busy site writes in a day."""

NO_SPACE: Final = 64 << 20
"""Bytes free below which there is a problem: what the write-ahead log alone may take."""

MIN_SQLITE: Final = (3, 37)
"""The first with STRICT tables."""

CLOCK_SECONDS: Final = 60.0
"""How far ahead file times may be: file servers have clocks of their own."""

ANSWER_SECONDS: Final = 5.0
"""How long a server on this machine may take for a handshake or an answer; the operator is waiting."""

SIMILAR: Final = 0.9
"""How similar a variable's name is to that of the setting it is a misspelling of: about one letter differs."""

ATTEMPTS: Final = 3
"""How often a database is examined again if a server opens or closes it meanwhile."""

OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

Grade = Literal["ok", "warning", "problem"]


@value
class Finding:
    """What one check has found; `text` says what to do, if anything."""

    grade: Grade
    subject: str
    text: str


Findings: TypeAlias = Iterator[Finding]


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding("ok", subject, text)


def warning(subject: str, text: str) -> Finding:
    """A server works, but something should be done."""
    return Finding("warning", subject, text)


def problem(subject: str, text: str) -> Finding:
    """A server does not start, or does not do what it should."""
    return Finding("problem", subject, text)


def examine(load: Callable[[], ServerConfig], environment: Mapping[str, str], file: Path | None = None) -> Findings:
    """Check everything. `load` gives the settings, also from `environment` and `file`, or raises as `load_config`."""
    yield _software()
    try:
        config = load()
    except SecurechatError as error:
        yield problem("settings", f"{error} (nothing else can be checked without them)")
        return
    server = _Running(config.data)
    looks: tuple[tuple[str, Callable[[], Findings]], ...] = (
        ("settings", lambda: _settings(config, environment, file)),
        ("certificate", lambda: _certificate(config)),
        ("data folder", lambda: _modes(config)),
        ("disk", lambda: _disk(config.data, config.disk_floor)),
        ("accounts", lambda: _accounts(config.data / ACCOUNTS_FILE)),
        ("database", lambda: _database(config.data)),
        ("files", lambda: _blobs(config.data)),
        ("server", server.look),
        ("port", lambda: _port(config, server)),
        ("metrics port", lambda: _metrics_port(config, server)),
        ("open files", lambda: _files(config)),
        ("clock", lambda: _clock(config.data)),
    )
    for subject, look in looks:
        try:
            yield from look()
        except OSError as error:
            advice = "; run this as the user that runs the server" if isinstance(error, PermissionError) else ""
            where = f" at {error.filename}" if error.filename else ""
            yield problem(subject, f"cannot look{where}: {error.strerror or error}{advice}")


def _software() -> Finding:
    text = (
        f"securechat {__version__}, Python {platform.python_version()}, "
        f"{' '.join(ssl.OPENSSL_VERSION.split()[:2])}, SQLite {sqlite3.sqlite_version}"
    )
    if sqlite3.sqlite_version_info < MIN_SQLITE:
        return problem("software", f"{text}: use a Python with SQLite {'.'.join(map(str, MIN_SQLITE))} or newer")
    if not ssl.HAS_TLSv1_3:
        return problem("software", f"{text}: use a Python whose OpenSSL has TLS 1.3")
    return ok("software", text)


def _settings(config: ServerConfig, environment: Mapping[str, str], file: Path | None) -> Findings:
    found = []
    variables = [ENVIRONMENT_PREFIX + field.name.upper() for field in fields(ServerConfig)]
    for name in environment:
        meant = difflib.get_close_matches(name, variables, n=1, cutoff=SIMILAR) if name not in variables else []
        if meant:
            found.append(warning("settings", f"there is no {name}; did you mean {meant[0]}?"))
    if file is not None and config.invite_code and _mode(file) & OTHERS:
        found.append(warning("settings", f"others may read the invite code: chmod go= {file}"))
    if config.durability == "memory":
        text = "durability is `memory`: a power failure loses messages that were acknowledged; set `disk`"
        found.append(warning("settings", text))
    if config.show_ciphertext:
        found.append(warning("settings", "show_ciphertext logs each message, which is slow and fills the log"))
    yield from found or [ok("settings", "fit")]


# --- certificate ------------------------------------------------------------------------------------------------------


def _certificate(config: ServerConfig) -> Findings:
    try:
        context = server_context(config.cert, config.key)
        chain = read_chain(config.cert)
    except StorageError as error:
        yield problem("certificate", str(error))
        return
    leaf, ca = chain[0], chain[-1]
    folder = config.cert.parent
    if (folder / "ca-key.pem").exists():
        renew = f"run `securechat gen-certs --out {folder}`, then send the server SIGHUP"
    else:
        renew = f"run `securechat gen-certs` where the CA's key is, put its files into {folder}, send the server SIGHUP"
    now = datetime.now(UTC)
    if ca is not leaf and now >= ca.not_valid_after_utc:
        yield problem("certificate", f"its CA expired at {_minute(ca.not_valid_after_utc)}: a new CA is needed "
                      "(gen-certs --new-ca), and every user needs its ca.pem or pin")  # fmt: skip
        return
    dates = _dates(leaf.not_valid_before_utc, leaf.not_valid_after_utc, now, renew)
    yield dates
    names = certificate_names(leaf)
    if ca.subject != ca.issuer:
        yield warning("names", f"{', '.join(names)}; clients cannot use --pin: {config.cert} does not end with its CA")
    elif dates.grade != "problem":
        try:
            for name in names:
                rehearse_handshake(context, ca, name.replace("*", "any"))
        except UnreachableError as error:
            yield problem("names", f"clients would say: {error}")
        else:
            yield ok("names", f"clients reach it as {', '.join(names)}")


def _dates(begin: datetime, end: datetime, now: datetime, renew: str) -> Finding:
    if now < begin:
        return problem("certificate", f"is not valid before {_minute(begin)}: check the clock")
    if now >= end:
        return problem("certificate", f"expired at {_minute(end)}: {renew}")
    left = (end - now).days
    if now >= end - timedelta(days=RENEW_DAYS):
        return warning("certificate", f"is valid for {left} more days, until {_minute(end)}: {renew}")
    return ok("certificate", f"matches its key, and is valid for {left} more days, until {_minute(end)}")


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


# --- data -------------------------------------------------------------------------------------------------------------


def _modes(config: ServerConfig) -> Findings:
    """Who owns the files, and who else may read secrets."""
    data = config.data.absolute()
    if data.exists() and not data.is_dir():
        yield problem("data folder", f"{data} is not a folder: name another one")
        return
    inside = sorted(data.iterdir()) if data.exists() else []
    secret = [data] if any(_mode(path) & OTHERS for path in (data, *inside)) else []
    keys = (path for path in (config.key, config.key.with_name("ca-key.pem")) if path.exists())
    secret += [path for path in keys if _mode(path) & _others_of_key(path)]
    if secret:
        yield problem("data folder", f"others may enter or read: chmod -R go= {shlex.join(map(str, secret))}")
    mixed = any(path.exists() and path.stat().st_uid != data.stat().st_uid for path in inside)
    if mixed:
        owner, folder = _owner(data), shlex.quote(str(data))
        yield problem("data folder", f"belongs to {owner}, but not everything in it: chown -R {owner} {folder}")
    if not data.exists():
        yield ok("data folder", f"{data} does not exist yet: the first start makes it")
    elif not secret and not mixed:
        yield ok("data folder", f"{data} and the key are for {_owner(data)} only")


def _others_of_key(path: Path) -> int:
    """Permissions that a private key must not have. A group may read one that root placed there for the server."""
    return OTHERS if path.stat().st_uid else OTHERS & ~stat.S_IRGRP


def _mode(path: Path) -> int:
    """The permissions; 0 if the file is gone."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return 0


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, NotImplementedError):  # a user without a name; Windows
        return str(path.stat().st_uid)


def _disk(data: Path, floor: int) -> Findings:
    place = next(path for path in (data.absolute(), *data.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / 2**30:,.1f} GiB free"
    try:
        for path in (place, data / STORE_FILE):
            if path.exists():
                sync(path)
    except OSError as error:
        yield problem("disk", f"fsync of {place} fails ({error.strerror}): see the system's log, and have a backup")
        return
    if not os.access(place, os.W_OK):
        yield problem("disk", f"cannot write to {place}: run this as the server's user, or make the folder for it")
    elif free < max(floor, NO_SPACE):
        yield problem("disk", f"{text}: messages will be refused, or are; free some space")
    elif free < LOW_SPACE:
        yield warning("disk", f"{text}: free some space before it is full")
    else:
        yield ok("disk", f"{text}, and fsync works")


def _accounts(path: Path) -> Findings:
    try:
        accounts, invites = read_accounts(path)
    except StorageError as error:
        yield problem("accounts", str(error))
        return
    if not path.exists() and knows_people(path.with_name(STORE_FILE)):
        yield problem("accounts", f"{path} is missing, but the database knows people: restore a backup")
    else:
        yield ok("accounts", f"{len(accounts):,}, and {len(invites):,} invites" if path.exists() else "none yet")


def _database(data: Path) -> Findings:
    for _ in range(ATTEMPTS):
        before = _beside(data)
        finding = _look_into(data / STORE_FILE, before)
        # Else a server has started or ended meanwhile, and half of what was read is from before that.
        if finding.grade == "ok" or _beside(data) == before:
            break
    yield finding


def _beside(data: Path) -> dict[str, int]:
    """The files of the database, with their sizes."""
    found = {}
    for name in (STORE_FILE, f"{STORE_FILE}-wal", f"{STORE_FILE}-shm"):
        with contextlib.suppress(FileNotFoundError):
            found[name] = (data / name).stat().st_size
    return found


def _look_into(store: Path, files: dict[str, int]) -> Finding:
    if STORE_FILE not in files:
        if store.with_name(ACCOUNTS_FILE).exists():
            return problem("database", f"{store} is missing, but {ACCOUNTS_FILE} is there: restore a backup")
        return ok("database", "none yet")
    if f"{STORE_FILE}-wal" in files and f"{STORE_FILE}-shm" not in files:
        return warning("database", f"not looked into: {store}-wal was copied without -shm; a start will see to it")
    try:
        version = check_database(store)
    except StorageError as error:
        return problem("database", str(error))
    except sqlite3.OperationalError as error:  # no permission, locked...
        return problem("database", f"cannot read {store}: {error}")
    except sqlite3.Error as error:
        return problem("database", f"{store} is damaged: {error}; restore a backup")
    size = sum(size for name, size in files.items() if not name.endswith("-shm"))
    text = f"whole, version {version}, {size / 2**20:,.1f} MiB"
    if version < len(schema.MIGRATIONS):
        text += f"; the next start brings it to version {len(schema.MIGRATIONS)}: make a backup before"
    return ok("database", text)


def _blobs(data: Path) -> Findings:
    """Compare the files of blobs with what the database knows of them; a server puts right what is wrong there."""
    folder, store, beside = data / BLOBS_FOLDER, data / STORE_FILE, _beside(data)
    if f"{STORE_FILE}-wal" in beside and f"{STORE_FILE}-shm" not in beside:
        return  # as for the database
    there = {path.name: path.stat().st_size for path in sorted(folder.glob("??/" + "?" * 64))}
    try:
        known, whole = read_blobs(store)
    except (StorageError, sqlite3.Error):
        return  # the database has a line of its own
    strange = len(there.keys() - known)
    missing = sum(there.get(name) != size for name, size in whole.items())
    text = f"{len(there):,}, {sum(there.values()) / 2**20:,.1f} MiB"
    if missing:
        yield warning("files", f"{text}; {missing:,} more are missing: put {folder} back, if you have a copy")
    else:
        yield ok("files", text + (f"; {strange:,} belong to nothing, and a server deletes them" if strange else ""))


# --- the server that runs ---------------------------------------------------------------------------------------------


class _Running:
    """The server that runs on a data folder. `report`: what it says of itself, after `look`."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self.report: protocol.StatusReport | None = None

    def look(self) -> Findings:
        """Ask the server, if there is one."""
        try:
            reply = protocol.ask(self._data, protocol.GetStatus(), ANSWER_SECONDS)
        except protocol.NobodyListensError:
            store = self._data / STORE_FILE
            if is_locked(store.with_name(f"{STORE_FILE}.lock")):
                text = f"a process uses {store} and does not answer; `fuser {store}` shows which"
                yield problem("server", text)
            else:
                yield ok("server", "none runs")
            return
        except UnreachableError as error:
            yield problem("server", str(error))
            return
        except SecurechatError as error:
            yield warning("server", str(error))
            return
        assert isinstance(reply, protocol.StatusReport)  # noqa: S101  # nosec B101  # what the protocol says
        self.report = reply
        if reply.problem:
            yield problem("server", f"runs on {reply.address}, but takes nobody: {reply.problem}")
        else:
            yield ok("server", f"runs on {reply.address}, {reply.status.sessions:,} logged in")


def _port(config: ServerConfig, server: _Running) -> Findings:
    if server.report is None:
        yield from _free("port", config.host, config.port)
        return
    host, port = reachable(server.report.address)
    try:
        shown = shown_certificate(host, port, Deadline(ANSWER_SECONDS))
    except UnreachableError as error:
        yield problem("port", f"the server does not answer there: {error}")
        return
    yield ok("port", f"{server.report.address} speaks TLS 1.3 and our protocol")
    with contextlib.suppress(StorageError):  # the certificate's own finding
        if shown != read_chain(config.cert)[0]:
            yield warning("certificate", f"the server shows another one than {config.cert} holds: send it SIGHUP")


def reachable(address: str) -> tuple[str, int]:
    """Return host and port by which this machine reaches a server that listens on `address`."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    with contextlib.suppress(ValueError):  # a name
        if ipaddress.ip_address(host).is_unspecified:
            host = "::1" if ":" in host else "127.0.0.1"
    return host, int(port)


def _metrics_port(config: ServerConfig, server: _Running) -> Findings:
    port = config.metrics_port
    if port is None:
        return
    if server.report is None:
        yield from _free("metrics port", METRICS_HOST, port)
        return
    connection = http.client.HTTPConnection(METRICS_HOST, port, timeout=ANSWER_SECONDS)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/livez")
            answer = connection.getresponse()
            text = answer.read(1000).decode("ascii", "replace").strip()
        except (OSError, http.client.HTTPException) as error:
            yield problem("metrics port", f"no health check answers on {METRICS_HOST} port {port}: {error}")
            return
    if answer.status == http.client.OK:
        yield ok("metrics port", f"/livez answers on {METRICS_HOST} port {port}")
    else:
        yield problem("metrics port", f"/livez says: {text}")


def _free(subject: str, host: str, port: int) -> Findings:
    """Whether a server could listen there. A socket that is bound but does not listen is in nobody's way."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            if os.name == "posix":  # as `socket.create_server` does
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        text = f"cannot listen on {host} port {port} ({error.strerror or error})"
        if error.errno == errno.EADDRINUSE:
            text += ": `ss -ltnp` shows who does"
        yield problem(subject, text)
    else:
        yield ok(subject, f"{host} port {port} is free" if port else "any free one")


# --- the system -------------------------------------------------------------------------------------------------------


def _files(config: ServerConfig) -> Findings:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = config.max_clients + MAX_NEWCOMERS + RESERVED_FILES
    if hard == resource.RLIM_INFINITY:
        yield ok("open files", "no limit")
    elif hard <= RESERVED_FILES:
        yield problem("open files", f"{hard:,} are too few for any client: ulimit -n, or LimitNOFILE= in a unit")
    elif hard < needed:
        text = f"{hard:,} for a server that starts here, {needed:,} may be needed: ulimit -n, or LimitNOFILE= in a unit"
        yield warning("open files", text)
    else:
        yield ok("open files", f"{hard:,} for a server that starts here")


def _clock(data: Path) -> Findings:
    now, newest = time.time(), 0.0
    for name in (ACCOUNTS_FILE, STORE_FILE, f"{STORE_FILE}-wal"):
        with contextlib.suppress(FileNotFoundError):
            newest = max(newest, (data / name).stat().st_mtime)
    shown = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if newest - now > CLOCK_SECONDS:
        yield problem("clock", f"it is {shown}, but the data is {newest - now:,.0f} s ahead: set the clock (NTP)")
    else:
        yield ok("clock", f"it is {shown}; is it?")
