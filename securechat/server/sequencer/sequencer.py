"""The sequencer: what happens to conversations happens in turns, one at a time (design, section 5).

A turn is taken by an I/O thread that has something for it. Whoever holds the lock handles everything handed in so far,
by whichever thread:

    1. requests that write, in order of arrival: each is checked against memory and refused, or written
    2. COMMIT: one transaction, one fsync for all of them
    3. replies, and new entries to their live readers
    4. sessions that come and go, requests that only read, and what is due by the clock

Nobody learns anything between 1 and 3. If the transaction fails for want of room, memory is read again from the store
and those who would have been told of a success are told `disk-full`; if it fails in any other way the process ends.
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any

from securechat.errors import PeerError, RefusedError, StorageError
from securechat.server.logs import get_logger
from securechat.server.panic import StoreBrokenError, end_process
from securechat.server.rates import Rates
from securechat.server.sequencer.conversation import Conversations, not_found
from securechat.server.sequencer.directory import Directory
from securechat.server.sequencer.leases import Entrances
from securechat.server.sequencer.membership import Memberships
from securechat.server.sequencer.messages import Talk
from securechat.server.sequencer.operations import (
    Attach,
    CommitChecked,
    DepartureChecked,
    Detach,
    DirectChecked,
    Drained,
    Expel,
    GroupRead,
    KeyPackagesChecked,
    Portion,
    Rejected,
    Resize,
    RoomChecked,
    Tokens,
    TokensRevoked,
    Workers,
)
from securechat.server.sequencer.presence import Lobby
from securechat.server.sequencer.reading import Reading
from securechat.server.sequencer.session import Session, refusal
from securechat.server.sequencer.turn import Run, Turn
from securechat.server.sequencer.validation import Validator
from securechat.server.status import Counters
from securechat.server.store.port import DiskFullError, Head, Store
from securechat.wire.messages import (
    Closing,
    Commit,
    CommitFailed,
    Done,
    FetchKeyPackages,
    Join,
    Leave,
    ListRooms,
    Member,
    MemberList,
    Members,
    OpenDirect,
    OpenRoom,
    PublishDevice,
    PublishKeyPackages,
    Refused,
    Request,
    Resync,
    Room,
    Rooms,
    Subscribe,
)

log = get_logger(__name__)

CURSORS_AT_ONCE = 128
"""Cursors that housekeeping stores in one transaction: about 1 ms, in which no turn is taken."""


class Sequencer:
    """See the module. `submit` may be called from any thread; `turn` by I/O threads, `housekeep` by housekeeping."""

    def __init__(
        self,
        store: Store,
        *,
        seats: int,
        rates: Rates,
        show_ciphertext: bool,
        interrupt: Callable[[], None],
        tokens: Tokens,
        validators: Workers,
        readers: Workers,
        lock: AbstractContextManager[object],
        counters: Counters,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`interrupt` makes an I/O thread take a turn, for which it holds `lock`. `clock`: seconds since 1970.

        `validators` check what is expensive, `readers` read history. Both hand in what comes of it.
        """
        self.interrupt = interrupt
        self._store = store
        self._show_ciphertext = show_ciphertext
        self._counters = counters
        self._tokens = tokens
        self._clock = clock
        self._validators = validators
        self._lock = lock  # the turn: protects everything below but _submissions
        self._submissions: deque[tuple[Session | None, Any]] = deque()
        self._next = 0.0
        self._conversations = Conversations(store)
        self._turn = turn = Turn(store, self._conversations)
        validator = Validator(store.server_id)
        self._lobby = Lobby(turn, store, self._conversations, seats, rates, self._forget)
        self._reading = Reading(turn, store, self._conversations, readers, self._hand_in)
        self._entrances = Entrances(turn, store, self._conversations, lambda each: self._memberships.load_group(each))
        self._directory = Directory(
            turn, store, self._lobby, validator, rates, check=self._check, revoke_tokens=self._revoke
        )
        self._memberships = Memberships(
            turn, store, self._conversations, self._entrances, self._reading, self._directory, validator,
            self._check, self._load,
        )  # fmt: skip
        talk = Talk(turn, store, self._conversations, self._entrances, self._memberships, self._reading)
        self._writing: dict[type, Callable[[Session, Any], None]] = {
            list: talk.handle,
            Commit: self._memberships.commit,
            CommitChecked: self._commit_checked,
            Leave: self._memberships.leave,
            DepartureChecked: self._memberships.departure_checked,
            OpenDirect: self._memberships.open_direct,
            DirectChecked: self._memberships.direct_checked,
            OpenRoom: self._memberships.open_room,
            RoomChecked: self._memberships.room_checked,
            PublishDevice: self._directory.publish_device,
            TokensRevoked: self._directory.tokens_revoked,
            PublishKeyPackages: self._directory.publish_key_packages,
            KeyPackagesChecked: self._directory.key_packages_checked,
            FetchKeyPackages: self._directory.fetch_key_packages,
            Rejected: self._rejected,
        }
        self._coming_and_going: dict[type, Callable[[Session, Any], None]] = {
            Attach: self._attach,
            Detach: self._lobby.detach,
            Expel: lambda _, expel: self._lobby.expel_account(expel),
            Resize: lambda _, resize: self._lobby.resize(resize),
        }
        self._reading_only: dict[type, Callable[[Session, Any], None]] = {
            Subscribe: self._reading.subscribe,
            Portion: self._reading.portion,
            Drained: lambda session, _: self._reading.drained(session),
            Join: self._entrances.join,
            Resync: self._entrances.resync,
            GroupRead: lambda _, result: self._memberships.group_read(result),
            Members: self._members,
            ListRooms: self._list_rooms,
            CommitFailed: self._commit_failed,
        }

    @property
    def sessions(self) -> int:
        """How many devices are logged in, the waiting ones included. Any thread; may be a moment old."""
        return self._lobby.sessions

    @property
    def waiting(self) -> int:
        """How many accounts wait for a seat. Any thread; may be a moment old."""
        return self._lobby.waiting

    # --- any thread -------------------------------------------------------------------------------------------------

    def submit(self, session: Session | None, operation: object) -> None:
        """Hand in a message of a session, or an operation; the I/O thread that calls it takes a turn soon."""
        self._submissions.append((session, operation))

    def expel(self, account: str, text: str) -> None:
        """End the sessions of an account; call it once its tokens are worthless, so that none of them comes back."""
        self._hand_in(None, Expel(account, text))

    def resize(self, seats: int) -> None:
        """So many accounts may be in at once from now on."""
        self._hand_in(None, Resize(seats))

    def _hand_in(self, session: Session | None, operation: object) -> None:
        """The same from a thread that takes no turns."""
        self._submissions.append((session, operation))
        self.interrupt()

    # --- the turn ---------------------------------------------------------------------------------------------------

    def turn(self, now: float) -> float:
        """Handle everything handed in so far; return when there is something to do again (monotonic seconds)."""
        if self._submissions or now >= self._next:
            with self._lock:
                self._begin(now)
                try:
                    self._handle_batch()
                    self._next = min(self._entrances.expire(), self._lobby.run())
                    self._say()
                except StoreBrokenError as error:
                    end_process(error)
        return self._next

    def _begin(self, now: float) -> None:
        self._turn.now = now
        self._turn.time = int(self._clock() * 1000)

    def _handle_batch(self) -> None:
        writes: list[tuple[Session, Any]] = []
        others: list[tuple[Session, Any]] = []
        for _ in range(len(self._submissions)):
            session, operation = self._submissions.popleft()
            (writes if type(operation) in self._writing else others).append((session, operation))  # type: ignore[arg-type]  # GroupRead, Expel and Resize have no session, and need none
        if writes:
            try:
                self._write(writes)
            except Exception:
                log.exception("internal error: the batch is handled again, one by one")
                self._undo()
                for each in writes:
                    self._contain(each, lambda each=each: self._write([each]))  # type: ignore[misc]  # bound at once
        for session, operation in others:
            self._contain((session, operation), lambda s=session, o=operation: self._handle(s, o))  # type: ignore[misc]  # as above

    def _write(self, batch: list[tuple[Session, Any]]) -> None:
        """Steps 1 to 3."""
        for session, operation in batch:
            self._dispatch(self._writing, session, operation)
        try:
            self._store.commit()
        except DiskFullError:
            log.error("the disk is full; nothing is accepted")
            told = [(session, reply.id) for session, reply in self._turn.answers]
            told += [(run.session, accepted.id) for run in self._turn.runs for accepted in run.accepted]
            self._undo()
            for session, request in told:
                session.outlet.send(Refused(request, "disk-full", "the server's disk is full; try again later"))
            return
        self._conversations.committed()
        runs, self._turn.runs = self._turn.runs, []
        for run in runs:
            if self._show_ciphertext:
                self._show(run)
            self._reading.push(run)
        if runs:
            self._counters.delivered(sum(len(run.entries) for run in runs), time.monotonic() - self._turn.now)
        self._say()

    def _handle(self, session: Session, operation: object) -> None:
        """Step 4."""
        handlers = self._reading_only if type(operation) in self._reading_only else self._coming_and_going
        self._dispatch(handlers, session, operation)
        self._say()

    def _say(self) -> None:
        """Let happen what handlers have asked for."""
        turn = self._turn
        while turn.answers or turn.effects:
            answers, turn.answers = turn.answers, []
            for session, reply in answers:
                session.outlet.send(reply)
            effects, turn.effects = turn.effects, []
            for effect in effects:
                effect()

    def _dispatch(
        self, handlers: dict[type, Callable[[Session, Any], None]], session: Session, operation: Any
    ) -> None:
        if session is not None and session.expelled:
            return  # another session of the device has taken over, or the device is out
        try:
            handlers[type(operation)](session, operation)
        except RefusedError as error:
            request = operation if isinstance(operation, Request) else getattr(operation, "request", None)
            if isinstance(request, Commit):
                self._counters.commits[error.code] += 1
            if isinstance(operation, CommitChecked):
                self._memberships.rejected(session, operation.request.conversation)
            if request is not None:
                self._turn.answer(session, refusal(request.id, error))

    def _undo(self) -> None:
        self._store.rollback()
        self._conversations.rolled_back()
        self._turn.clear()

    def _contain(self, which: tuple[Session, Any], work: Callable[[], None]) -> None:
        """A bug that one request meets ends that session, and nothing else."""
        try:
            work()
        except StoreBrokenError:
            raise
        except Exception:
            session, operation = which
            log.exception("internal error", operation=type(operation).__name__)
            self._undo()
            if session is not None:
                session.outlet.send(Closing("protocol-error", "internal error of the server"))

    # --- workers ----------------------------------------------------------------------------------------------------

    def _check(self, session: Session, request: Request, work: Callable[[], object]) -> None:
        """After the turn, let a worker do `work`; its result, or what is wrong, comes back as an operation."""

        def job() -> None:
            result: object
            try:
                result = work()
            except PeerError as error:
                result = Rejected(request, str(error))
            except StoreBrokenError:
                raise
            except Exception:
                log.exception("internal error in a check", operation=type(request).__name__)
                result = Rejected(request, "the server failed to check this")
            self._hand_in(session, result)

        self._turn.after(lambda: self._validators.submit(job))

    def _load(self, work: Callable[[], object]) -> None:
        self._validators.submit(lambda: self._hand_in(None, work()))

    def _revoke(self, session: Session, request: PublishDevice) -> None:
        """Make the tokens of the account's other devices worthless; that it is done comes back as `TokensRevoked`."""

        def failed(error: BaseException) -> None:
            log.error("resume tokens could not be revoked", account=session.account, reason=str(error))
            session.outlet.send(Refused(request.id, "disk-full", "the server cannot store this; try later"))

        def revoked(future: Future[Any]) -> None:
            if (error := future.exception()) is None:
                self._hand_in(session, TokensRevoked(request))
            else:
                failed(error)

        try:
            self._tokens.revoke_tokens(session.account, keep=session.device).add_done_callback(revoked)
        except StorageError as error:
            failed(error)

    def _rejected(self, session: Session, rejected: Rejected) -> None:
        request = rejected.request
        if isinstance(request, Commit):
            self._counters.commits["invalid-commit"] += 1
            self._memberships.rejected(session, request.conversation)
        code: Any = "bad-request" if isinstance(request, PublishKeyPackages | Leave) else "invalid-commit"
        log.info(
            "refused",
            client=session.outlet.address,
            account=session.account,
            request=type(request).__name__,
            reason=rejected.text,
        )
        self._turn.answer(session, Refused(request.id, code, rejected.text[:1000]))

    def _commit_checked(self, session: Session, checked: CommitChecked) -> None:
        if self._memberships.commit_checked(session, checked):
            self._turn.after(lambda: self._counters.commits.update(accepted=1))

    def _show(self, run: Run) -> None:
        """For teaching: what the server sees of entries (`--show-ciphertext`)."""
        for entry in run.entries:
            log.info(
                "entry",
                conversation=_title(run.conversation.head),
                seq=entry.seq,
                account=run.session.account,
                epoch=entry.epoch,
                size=len(entry.payload),
                payload=entry.payload.hex(),
            )

    # --- coming in ---------------------------------------------------------------------------------------------------

    def _attach(self, session: Session, attach: Attach) -> None:
        """Let a login take effect, unless it has lost its force since: `expel` finds only who is in."""
        try:
            self._tokens.redeem(attach.token, attach.device)
        except RefusedError as error:
            session.outlet.send(Refused(attach.id, "token-refused", str(error)))
            return
        self._lobby.attach(session, attach)

    # --- questions --------------------------------------------------------------------------------------------------

    def _members(self, session: Session, request: Members) -> None:
        conversation = self._conversations.find(request.conversation, self._turn.now)
        conversation.member(session)
        accounts = sorted({member.account for member in conversation.present})
        members = [Member(account, self._lobby.is_online(account)) for account in accounts]
        self._turn.answer(session, MemberList(request.id, request.conversation, members))

    def _list_rooms(self, session: Session, request: ListRooms) -> None:
        rows = self._store.rooms(session.device)
        rooms = [Room(row.name, row.kind, row.members, row.joined) for row in rows if row.kind != "direct"]
        self._turn.answer(session, Rooms(request.id, rooms[:10_000]))

    def _commit_failed(self, session: Session, request: CommitFailed) -> None:
        conversation = self._conversations.find(request.conversation, self._turn.now)
        if session.device not in conversation.head.members:
            raise not_found()
        log.warning(
            "a member cannot process a commit",
            account=session.account,
            conversation=_title(conversation.head),
            seq=request.seq,
            reason=request.reason,
        )
        self._turn.answer(session, Done(request.id))

    def _forget(self, session: Session) -> None:
        self._reading.leave(session)
        self._entrances.leave(session)

    # --- housekeeping -----------------------------------------------------------------------------------------------

    def housekeep(self, now: float) -> bool:
        """Do one portion of what keeps the store small; whether there is more."""
        with self._lock:
            self._begin(now)
            try:
                with self._store.unhurried():
                    more = self._reading.store_cursors(CURSORS_AT_ONCE)
                    self._store.commit()
                    trimmed, more_rows = self._store.tidy(self._turn.time, self._conversations.head)
            except DiskFullError:
                log.error("the disk is full")
                self._undo()
                return False
            for each in trimmed:
                self._reading.trimmed(each)
            self._conversations.evict(now)
            return more or more_rows

    def close(self) -> None:
        """Store what only memory has, when no more turns are taken."""
        with self._lock:
            try:
                while self._reading.store_cursors(CURSORS_AT_ONCE):
                    self._store.commit()
                self._store.commit()
            except DiskFullError:
                log.error("the disk is full: some readers will be sent again what they have")
            except StoreBrokenError as error:
                end_process(error)


def _title(head: Head) -> str:
    """What the log calls a conversation."""
    return head.name or f"direct {head.id.hex()[:8]}"
