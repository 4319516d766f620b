"""The operator's requests, handled in the running server; `protocol` has their list.

One thread handles one request after the other. Changes go the usual way: to accounts through their writer, to sessions
through the sequencer. The answer comes when the change is on disk.
"""

import contextlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from securechat import __version__
from securechat.errors import RefusedError, SecurechatError, StorageError, UsageError
from securechat.files import PRIVATE
from securechat.names import normalise_account, normalise_room
from securechat.server.accounts.records import InviteCode
from securechat.server.accounts.store import AccountStore
from securechat.server.config import ACCOUNTS_FILE
from securechat.server.logs import get_logger
from securechat.server.operator import backup, protocol
from securechat.server.operator.protocol import Reply, Request
from securechat.server.sequencer.operations import Answer, OwnerlessRoom, Speak
from securechat.server.status import Counters, Status
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.server.workers import join
from securechat.transport.waker import Waker

log = get_logger(__name__)

REQUEST_SECONDS: Final = 10.0
"""How long the other side may take to send its line, and to take each portion of a backup."""

WRITE_SECONDS: Final = 30.0
"""How long writing the accounts file may take: a disk that takes longer is broken."""

MAX_DAYS: Final = 365
"""Longest life of an invite: a forgotten one should not work for ever."""

Value = TypeVar("Value")


class Admin:
    """What the operator may do."""

    def __init__(
        self,
        data: Path,
        accounts: AccountStore,
        store: SQLiteStore,
        counters: Counters,
        *,
        expel: Callable[[str, str], None],
        speak: Callable[[Speak], None],
        survey: Callable[[Callable[[list[OwnerlessRoom]], None]], None],
        change_site_key: Callable[[Answer], None],
        status: Callable[[], Status],
        unready: Callable[[], str],
        accept_clock: Callable[[], None],
        address: str,
    ) -> None:
        """`expel(account, text)` ends the sessions of an account; `unready` says why no clients are taken, if so.

        `speak`, `survey`, `change_site_key`: in rooms that belong to nobody, see the sequencer.

        `accept_clock`: the clock is right, although it has leapt.
        """
        self._data = data
        self._accounts = accounts
        self._store = store
        self._counters = counters
        self._expel = expel
        self._speak = speak
        self._survey = survey
        self._change_site_key = change_site_key
        self._status = status
        self._unready = unready
        self._accept_clock = accept_clock
        self._address = address

    def handle(self, request: Request) -> Reply:
        """Handle any request but a backup. Raises RefusedError, UsageError or StorageError."""
        match request:
            case protocol.ListUsers():
                return protocol.Users([
                    protocol.User(each.name, each.created, each.enabled, len(each.tokens))
                    for each in self._accounts.all()
                ])
            case protocol.AddUser(name, days):
                name = normalise_account(name)
                if self._accounts.get(name) is not None:
                    raise RefusedError("exists", f"there is an account {name} already; reset-password lets it in again")
                return self._invite(name, days)
            case protocol.ResetPassword(name, days):
                return self._invite(self._existing(name), days)
            case protocol.SetEnabled(name, enabled):
                name = self._existing(name)
                _result(self._accounts.set_enabled(name, enabled=enabled))
                if not enabled:
                    self._expel(name, "this account has been disabled by the operator")
                log.info("account enabled" if enabled else "account disabled", account=name)
                return protocol.Done()
            case protocol.CreateInvite(days):
                return self._invite("", days)
            case protocol.ListInvites():
                return protocol.Invites([
                    protocol.Invite(each.id, each.account, each.created, each.expires)
                    for each in self._accounts.invites()
                ])
            case protocol.RevokeInvite(invite_id):
                invite = _result(self._accounts.revoke_invite(invite_id))
                log.info("invite revoked", invite=invite.id, account=invite.account)
                return protocol.Done()
            case protocol.ListRooms():
                return protocol.Rooms([protocol.Room(each.name, each.people, each.barred) for each in self._rooms()])
            case protocol.Speak(room, action, name):
                room, name = normalise_room(room), self._existing(name)
                _done(lambda answer: self._speak(Speak(room, action, name, answer)))
                return protocol.Done()
            case protocol.ChangeSiteKey():
                _done(self._change_site_key)
                for room in [each.name for each in self._rooms() if each.people]:
                    _done(lambda answer, room=room: self._speak(Speak(room, "site-key", "", answer)))  # type: ignore[misc]  # bound now
                return protocol.Done()
            case protocol.AcceptClock():
                self._accept_clock()
                log.info("clock accepted")
                return protocol.Done()
            case protocol.GetStatus():
                return protocol.StatusReport(
                    __version__, self._address, self._unready(), self._counters.entries, self._status()
                )
            case _:
                raise UsageError(f"{type(request).__name__} has no single answer")

    def write_backup(self, connection: socket.socket) -> None:
        """Answer with a backup. Raises StorageError before the first byte, OSError after it."""
        accounts = self._data / ACCOUNTS_FILE
        with backup.snapshot(self._store, accounts) as (database, content):
            connection.sendall(_encode(protocol.Streaming()))
            with connection.makefile("wb") as stream:
                backup.write_backup(
                    stream, database, content, server_id=self._store.server_id, time=int(time.time() * 1000)
                )
        log.info("backup made")

    def _rooms(self) -> list[OwnerlessRoom]:
        seen: Future[list[OwnerlessRoom]] = Future()
        self._survey(seen.set_result)
        return _answer(seen)

    def _existing(self, name: str) -> str:
        name = normalise_account(name)
        if self._accounts.get(name) is None:
            raise RefusedError("not-found", f"there is no account {name}")
        return name

    def _invite(self, account: str, days: int) -> protocol.Code:
        if not 1 <= days <= MAX_DAYS:
            raise UsageError(f"an invite is good for 1 to {MAX_DAYS} days")
        made: InviteCode = _result(self._accounts.create_invite(account, days * 86_400))
        log.info("invite made", invite=made.invite.id, account=account, days=days)
        return protocol.Code(made.code, account, made.invite.expires)


class AdminServer:
    """The socket, and the thread that answers there."""

    def __init__(self, path: str, admin: Admin) -> None:
        """`path`: see `protocol.socket_path`; nobody else may use the data folder. Raises StorageError."""
        self._path = path
        self._admin = admin
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 - left by a server that was killed
            self._listener.bind(path)
            os.chmod(path, PRIVATE)  # noqa: PTH101 - before it listens: until then nobody gets in
            self._listener.listen()
        except OSError as error:
            self._listener.close()
            raise StorageError(f"cannot open {path}: {error.strerror or error}") from error
        self._waker = Waker()
        self._thread = threading.Thread(target=self._run, name="admin")

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering, and remove the socket."""
        self._waker.wake()
        join(self._thread)
        self.close()

    def close(self) -> None:
        """Close everything; after `stop`, or instead of `start`."""
        self._listener.close()
        self._waker.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)  # noqa: PTH108 - a str, as the socket wants it

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._waker, selectors.EVENT_READ)
            while all(key.fileobj is self._listener for key, _ in selector.select()):
                with contextlib.suppress(OSError):  # the other side has gone
                    connection, _ = self._listener.accept()
                    with connection:
                        connection.settimeout(REQUEST_SECONDS)
                        self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            request = _read(connection)
            if isinstance(request, protocol.Backup):
                self._admin.write_backup(connection)
                return
            reply = self._admin.handle(request)
        except RefusedError as error:
            reply = protocol.Failed(error.code, str(error))
        except UsageError as error:
            reply = protocol.Failed("usage", str(error))
        except SecurechatError as error:
            reply = protocol.Failed("", str(error))
        except OSError:
            raise
        except Exception:
            log.exception("internal error in an operator's request")
            reply = protocol.Failed("", "internal error of the server; see its log")
        connection.sendall(_encode(reply))


def _read(connection: socket.socket) -> Request:
    line = b""
    while not line.endswith(b"\n"):
        data = connection.recv(protocol.MAX_REQUEST)
        line += data
        if not data or len(line) > protocol.MAX_REQUEST:
            raise UsageError("a request is one line of JSON")
    try:
        request: Request = msgspec.json.decode(line, type=Request)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # the latter: text that is not UTF-8
        raise UsageError(f"the server does not understand this; is it of another version? {error}") from None
    return request


def _encode(reply: Reply) -> bytes:
    return msgspec.json.encode(reply) + b"\n"


def _done(ask: Callable[[Answer], None]) -> None:
    """Ask the sequencer for something that only succeeds or fails, and wait. Raises its refusal."""
    done: Future[None] = Future()

    def answer(error: SecurechatError | None) -> None:
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    ask(answer)
    _answer(done)


def _answer(future: Future[Value]) -> Value:
    """Wait for the sequencer."""
    try:
        return future.result(WRITE_SECONDS)
    except TimeoutError:
        raise StorageError("the server does not answer; see its log") from None


def _result(future: Future[Value]) -> Value:
    try:
        return future.result(WRITE_SECONDS)
    except TimeoutError:
        raise StorageError("the accounts file is not written; is its disk all right?") from None
