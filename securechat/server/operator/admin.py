"""The operator's requests, handled in the running server; `protocol` has their list, `serving` the threads.

Changes go the usual way: to accounts through their writer, to sessions through the sequencer. The answer comes when the
change is on disk.
"""

import functools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import Future
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, TypeVar

from securechat import __version__
from securechat.clean import clean
from securechat.errors import RefusedError, SecurechatError, StorageError, UsageError
from securechat.lookalikes import check_new_account
from securechat.names import normalise_account, normalise_room
from securechat.server.accounts.records import Account, InviteCode
from securechat.server.accounts.store import MAX_ACCOUNTS, AccountStore
from securechat.server.config import ACCOUNTS_FILE
from securechat.server.logs import get_logger
from securechat.server.operator import backup, protocol
from securechat.server.operator.protocol import Reply, Request
from securechat.server.sequencer.operations import (
    Announce,
    Answer,
    DeleteRoom,
    EndSessions,
    ForgetAccount,
    ListSessions,
    OwnerlessRoom,
    SessionSeen,
    Speak,
    Survey,
)
from securechat.server.status import Counters, Status
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.wire.limits import MAX_NOTICE

log = get_logger(__name__)

WRITE_SECONDS: Final = 30.0
"""How long writing the accounts file may take: a disk that takes longer is broken."""

TOP_SECONDS: Final = 1.0
"""How long senders are counted for `Top`."""

MAX_ROOMS: Final = 100_000
"""Conversations that are looked at for a list of rooms: more than a store holds for 10,000 accounts."""

MAX_DAYS: Final = 365
"""Longest life of an invite: a forgotten one should not work for ever."""

Value = TypeVar("Value")


class Admin:
    """What the operator may do. Any thread may ask for anything at any time."""

    def __init__(
        self,
        data: Path,
        accounts: AccountStore,
        store: SQLiteStore,
        counters: Counters,
        *,
        expel: Callable[[str, str], None],
        operate: Callable[[Any], None],
        change_site_key: Callable[[Answer], None],
        status: Callable[[], Status],
        unready: Callable[[], str],
        accept_clock: Callable[[], None],
        address: str,
    ) -> None:
        """`expel(account, text)` ends the sessions of an account; `unready` says why no clients are taken, if so.

        `operate`: see the sequencer. `change_site_key`: in rooms that belong to nobody.

        `accept_clock`: the clock is right, although it has leapt.
        """
        self._data = data
        self._accounts = accounts
        self._store = store
        self._counters = counters
        self._expel = expel
        self._operate = operate
        self._change_site_key = change_site_key
        self._status = status
        self._unready = unready
        self._accept_clock = accept_clock
        self._address = address
        self._looking = threading.Lock()  # the store has one connection for the operator

    def handle(self, request: Request) -> Reply:
        """Handle any request but a backup. Raises RefusedError, UsageError or StorageError."""
        match request:
            case protocol.ListUsers():
                with self._looking:
                    holders = self._store.tokens.holders(time.time_ns() // 1_000_000)
                return protocol.Users([
                    protocol.User(
                        each.name,
                        each.created,
                        each.enabled,
                        holders.get((each.name, each.generation), 0) if each.enabled else 0,
                        each.deleted,
                    )
                    for each in self._accounts.all()
                ])
            case protocol.AddUser(name, days):
                name = normalise_account(name)
                if self._accounts.get(name) is not None:
                    self._existing(name)  # says so where it was deleted: then nothing lets it in again
                    raise RefusedError("exists", f"there is an account {name} already; reset-password lets it in again")
                check_new_account(name)
                if (other := self._accounts.like(name)) is not None:
                    raise RefusedError("exists", f"{name} looks like {other}, an account here; choose another name")
                return self._invite(name, days)
            case protocol.ResetPassword(name, days):
                return self._invite(self._existing(name), days)
            case protocol.SetEnabled(name, enabled):
                name = self._existing(name)
                switched = self._accounts.set_enabled(name, enabled=enabled)
                if not enabled:  # once it is on disk, also where that takes longer than the operator is kept waiting
                    told = "this account has been disabled by the operator"
                    switched.add_done_callback(functools.partial(self._expel_then, name, told))
                _result(switched)
                log.info("account enabled" if enabled else "account disabled", account=name)
                return protocol.Done()
            case protocol.DeleteUser(name):
                name = self._existing(name, deleted=True)
                deleted = self._accounts.delete(name)
                deleted.add_done_callback(functools.partial(self._expel_then, name, "this account was deleted"))
                _result(deleted)
                _done(lambda answer: self._operate(ForgetAccount(name, answer)))
                return protocol.Done()
            case protocol.ListSessions():
                return protocol.Sessions([
                    protocol.Session(
                        each.account, each.device.hex(), each.address, each.seated, each.unread, each.handled
                    )
                    for each in sorted(self._sessions(), key=attrgetter("account", "device"))
                ])
            case protocol.EndSessions(name):
                name = self._existing(name)
                _done(lambda answer: self._operate(EndSessions(name, answer)))
                return protocol.Done()
            case protocol.Top(count):
                return self._top(count)
            case protocol.Announce(text):
                said = _notice(text)

                def announce(answer: Callable[[int], None]) -> None:
                    self._operate(Announce(said, answer))

                return protocol.Announced(_asked(announce))
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
                return protocol.Rooms([
                    protocol.Room(each.name, each.people, each.barred, each.version, each.rising, each.behind)
                    for each in self._rooms()
                ])
            case protocol.ListAllRooms():
                return protocol.AllRooms(self._conversations(MAX_ROOMS, ("open", "invite")))
            case protocol.DeleteRoom(room):
                room = normalise_room(room) if room.startswith("#") else room
                _done(lambda answer: self._operate(DeleteRoom(room, answer)))
                return protocol.Done()
            case protocol.Speak(room, action, name):
                room, name = normalise_room(room), self._existing(name)
                _done(lambda answer: self._operate(Speak(room, action, name, answer)))
                return protocol.Done()
            case protocol.UpgradeRoom(room):
                room = normalise_room(room)
                _done(lambda answer: self._operate(Speak(room, "upgrade", "", answer)))
                return protocol.Done()
            case protocol.ChangeSiteKey():
                _done(self._change_site_key)
                for room in [each.name for each in self._rooms() if each.people]:
                    _done(lambda answer, room=room: self._operate(Speak(room, "site-key", "", answer)))  # type: ignore[misc]  # bound now
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
        with self._store.frozen() as parts:
            try:
                content = accounts.read_bytes() if accounts.exists() else b""
            except OSError as error:
                raise StorageError(f"cannot make a backup: {error.strerror or error}") from error
            connection.sendall(protocol.encode(protocol.Streaming()))
            with connection.makefile("wb") as stream:
                backup.write_backup(
                    stream, parts, content, server_id=self._store.server_id, time=int(time.time() * 1000)
                )
        log.info("backup made")

    def _expel_then(self, name: str, text: str, changed: Future[Account]) -> None:
        if changed.exception() is None:
            self._expel(name, text)

    def _rooms(self) -> list[OwnerlessRoom]:
        return _asked(lambda answer: self._operate(Survey(answer)))

    def _sessions(self) -> list[SessionSeen]:
        return _asked(lambda answer: self._operate(ListSessions(answer)))

    def _conversations(self, most: int, kinds: Collection[str]) -> list[protocol.TopRoom]:
        with self._looking:
            usage = self._store.usage(most)
        return [
            protocol.TopRoom(each.conversation.hex(), each.kind, each.name, each.founder, each.held_bytes)
            for each in usage.conversations
            if each.kind in kinds
        ]

    def _top(self, count: int) -> protocol.TopReport:
        """Show who holds most, and who sends most: looked at twice, a second apart."""
        before = Counter[str]()
        for each in self._sessions():
            before[each.account] += each.handled
        begin = time.monotonic()
        time.sleep(TOP_SECONDS)
        sessions, handled = Counter[str](), Counter[str]()
        for each in self._sessions():
            sessions[each.account] += 1
            handled[each.account] += each.handled
        seconds = time.monotonic() - begin
        with self._looking:
            usage = self._store.usage(MAX_ACCOUNTS)
            files = self._store.blobs.held_by_each()
        held = {each.account: each.held_bytes for each in usage.accounts}
        rates = {name: max(0, handled[name] - before[name]) / seconds for name in handled}
        most = {name for name, _ in Counter(held).most_common(count)}
        most.update(name for name, _ in Counter(files).most_common(count))
        most.update(name for name, _ in Counter(rates).most_common(count))
        accounts = [
            protocol.TopAccount(
                name, held.get(name, 0), files.get(name, 0), sessions[name], round(rates.get(name, 0.0), 1)
            )
            for name in most
            if name  # the operator's own words
        ]
        accounts.sort(key=attrgetter("held_bytes", "per_second"), reverse=True)
        return protocol.TopReport(accounts, self._conversations(count, ("open", "invite", "direct")))

    def _existing(self, name: str, *, deleted: bool = False) -> str:
        """The one spelling of an account's name; `deleted`: also of one that was. Raises RefusedError or UsageError."""
        name = normalise_account(name)
        account = self._accounts.get(name)
        if account is None:
            raise RefusedError("not-found", f"there is no account {name}")
        if account.deleted and not deleted:
            raise RefusedError("not-found", f"the account {name} was deleted; its name stays reserved")
        return name

    def _invite(self, account: str, days: int) -> protocol.Code:
        if not 1 <= days <= MAX_DAYS:
            raise UsageError(f"an invite is good for 1 to {MAX_DAYS} days")
        made: InviteCode = _result(self._accounts.create_invite(account, days * 86_400))
        log.info("invite made", invite=made.invite.id, account=account, days=days)
        return protocol.Code(made.code, account, made.invite.expires)


def _notice(text: str) -> str:
    """Make a text harmless that everybody is to be told. Raises UsageError if it is empty or too long."""
    cleaned = clean(text).strip()
    if not cleaned or len(cleaned) > MAX_NOTICE:
        raise UsageError(f"a notice has 1 to {MAX_NOTICE} characters, and this one {len(cleaned)}")
    return cleaned


def _asked(ask: Callable[[Callable[[Value], None]], None]) -> Value:
    """Ask the sequencer for something that cannot be refused, and wait."""
    seen: Future[Value] = Future()
    ask(seen.set_result)
    return _answer(seen)


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
