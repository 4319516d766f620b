"""The sequencer: everything that changes a conversation happens in turns, one at a time (docs/design.md, section 5).

An I/O thread that has something for the sequencer takes a turn. It holds the lock and handles everything that any
thread has handed in so far:

    0. sessions that the operator ends, end
    1. requests that write, in order of arrival: each is checked against memory and refused, or written
    2. COMMIT: one transaction, one fsync for all of them
    3. replies are sent, and new entries go to their live readers
    4. sessions come and go, requests that only read are answered, and what is due by the clock is done

Nobody learns anything before 3. If the disk has no room for the transaction, memory is loaded from the store again, and
every sender that would have learned of a success gets `disk-full`. If it fails in any other way, the process ends.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeAlias

from securechat.errors import InternalError, RefusedError, SecurechatError, StorageError
from securechat.server.clock import ServerClock
from securechat.server.config import BlobLimits
from securechat.server.logs import get_logger
from securechat.server.panic import StoreBrokenError, end_process
from securechat.server.rate import Rate
from securechat.server.rates import RateLimiter, Rates
from securechat.server.sequencer.blobs import Blobs, Transfers
from securechat.server.sequencer.branches import Branches
from securechat.server.sequencer.budgets import Budgets
from securechat.server.sequencer.checks import Checks
from securechat.server.sequencer.commits import Commits, accepts_commit
from securechat.server.sequencer.conversation import Conversations
from securechat.server.sequencer.directory import Directory
from securechat.server.sequencer.ephemerals import Ephemerals
from securechat.server.sequencer.founding import Founding
from securechat.server.sequencer.groups import Groups
from securechat.server.sequencer.handing_back import HandingBack
from securechat.server.sequencer.heirs import Heirs
from securechat.server.sequencer.inboxes import Inboxes
from securechat.server.sequencer.keepsakes import Keepsakes
from securechat.server.sequencer.leases import Leases
from securechat.server.sequencer.leaving import Leaving
from securechat.server.sequencer.messages import Messages
from securechat.server.sequencer.news import News
from securechat.server.sequencer.operating import Operating
from securechat.server.sequencer.operations import (
    Announce,
    BlobArrived,
    BlobsLost,
    ChangeSiteKey,
    CheckpointsRead,
    CommitChecked,
    DeleteRoom,
    DepartureChecked,
    Detach,
    DirectChecked,
    Drained,
    EndSessions,
    Expel,
    Failed,
    FilesDeleted,
    FindAccount,
    ForgetAccount,
    GroupRead,
    HandBackChecked,
    KeepsakeChecked,
    KeyPackagesChecked,
    Listed,
    ListSessions,
    PasswordChecked,
    PasswordReplaced,
    Portion,
    PublishChecked,
    Rejected,
    Resize,
    Resuming,
    RoomChecked,
    Speak,
    SpeakReady,
    Survey,
    Surveyed,
    Workers,
)
from securechat.server.sequencer.own_sessions import OwnSessions
from securechat.server.sequencer.presence import Presence
from securechat.server.sequencer.publishing import Publishing
from securechat.server.sequencer.questions import Questions
from securechat.server.sequencer.quotas import Quotas
from securechat.server.sequencer.reading import Reading, is_full
from securechat.server.sequencer.revoking import Revoking
from securechat.server.sequencer.room_names import RoomNames
from securechat.server.sequencer.seats import Seats
from securechat.server.sequencer.session import INTERNAL_ERROR, Session, Sessions, contained, refusal
from securechat.server.sequencer.tokens import Tokens
from securechat.server.sequencer.turn import Run, Turn
from securechat.server.sequencer.validation import Validator
from securechat.server.sequencer.words import Words
from securechat.server.space import Space
from securechat.server.status import Counters
from securechat.server.store.port import DiskFullError, Store
from securechat.wire.messages import (
    Commit,
    CommitFailed,
    DropBlob,
    EndSession,
    Ephemeral,
    ExtendToken,
    FetchBlob,
    FetchCheckpoints,
    FetchKeepsake,
    FetchKeyPackages,
    FetchSessions,
    FetchStatements,
    HandBack,
    Join,
    Leave,
    ListRooms,
    Members,
    OpenDirect,
    OpenRoom,
    Publish,
    PublishKeyPackages,
    PutKeepsake,
    Refused,
    Request,
    Resync,
    StartBlob,
    Subscribe,
)

log = get_logger(__name__)

Handler: TypeAlias = Callable[[Session, Any], None]
"""Handles one type of message or operation. If that belongs to no session, the first argument is ignored."""

_ADDING: frozenset[type] = frozenset((
    Commit, CommitChecked, Leave, DepartureChecked, OpenDirect, DirectChecked, OpenRoom, RoomChecked, Speak, SpeakReady,
    HandBack, HandBackChecked,
))  # fmt: skip
"""Besides messages, what adds to a log or begins one: not done while the clock is in doubt."""

_TAKEN_WHEN_FULL: frozenset[type] = frozenset((
    PasswordChecked, Resuming, ExtendToken, Leave, DepartureChecked, Rejected, ChangeSiteKey, Speak, SpeakReady,
    EndSessions, ForgetAccount, DeleteRoom, PasswordReplaced, EndSession, Publish, PublishChecked, list,
    BlobArrived, BlobsLost, DropBlob, FilesDeleted,
))  # fmt: skip
"""Of what writes, what is done although the disk is nearly full: it makes room, lets in who does, or shuts a thief out.
Of a list, the acknowledgements (`messages`); of what is published, statements (`publishing`)."""

Changing: TypeAlias = ChangeSiteKey | Speak | EndSessions | ForgetAccount | DeleteRoom
"""What the operator has changed. Its `answer` gets why it was not done, or None once it is on disk."""

_UNCOMMITTED = (Publish, PublishKeyPackages, PutKeepsake, Leave)
"""What workers check that is no commit and holds none."""

REFUSALS_LOGGED = 100
"""Lines in the log for what workers have refused one account, at once: a flood must not fill the disk."""

REFUSALS_LOGGED_PER_SECOND = 1 / 60
"""The same, in the long run."""

FORGET_AGAIN_SECONDS = 60.0
"""When a deleted account is forgotten for which there was no room: each time is told in the log."""

CURSORS_AT_ONCE = 128
"""Cursors that housekeeping stores in one transaction: about 1 ms, during which no turn can be taken."""


class Sequencer:
    """See the module. `submit` may be called from any thread; `turn` by I/O threads, `housekeep` by housekeeping."""

    def __init__(
        self,
        store: Store,
        *,
        seats: int,
        share: int,
        bytes_per_account: int,
        rates: Rates,
        rooms: frozenset[str],
        show_ciphertext: bool,
        interrupt: Callable[[], None],
        find_account: FindAccount,
        validators: Workers,
        readers: Workers,
        lock: AbstractContextManager[object],
        counters: Counters,
        clock: ServerClock,
        space: Space,
        transfers: Transfers,
        blob_limits: BlobLimits,
        accepts_commit: Callable[[int, int], bool] = accepts_commit,
    ) -> None:
        """`interrupt` makes an I/O thread take a turn, for which it holds `lock`.

        `rooms`: the names of those that belong to nobody.

        `validators` do expensive checks, `readers` read history, `transfers` move blobs. They hand in their results.
        """
        self.interrupt = interrupt
        self._store = store
        self._show_ciphertext = show_ciphertext
        self._logged = RateLimiter(Rate(REFUSALS_LOGGED, REFUSALS_LOGGED_PER_SECOND), "")
        self._counters = counters
        self._lock = lock  # the turn: protects everything below but _submissions
        self._submissions: deque[tuple[Session | None, Any]] = deque()
        self._urgent: deque[Expel] = deque()  # comes before all submissions, which the sessions may have filled
        self._next = 0.0
        self._unfinished: dict[str, float] = {}  # deleted accounts to forget, and when (monotonic seconds)
        kept, logs, inboxes, devices = store.conversations, store.logs, store.inboxes, store.directory
        chains = store.chains
        heirs = Heirs(devices)
        self._conversations = conversations = Conversations(kept)
        self._turn = turn = Turn(conversations, clock, space)
        self._sessions = sessions = Sessions()
        self._quotas = Quotas(store, bytes_per_account)
        validator = Validator(store.server_id)
        checks = Checks(turn, validators, self.hand_in)
        self._groups = groups = Groups(kept, conversations, validator, checks)
        self._news = news = News(kept, devices, conversations, sessions)
        self._reading = reading = Reading(
            turn, logs, inboxes, devices, conversations, news, heirs, readers, self.hand_in
        )
        names = RoomNames(turn, kept, conversations, rooms, lambda: store.site_keys)
        self._leases = leases = Leases(turn, kept, conversations, names, groups, heirs)
        self._presence = presence = Presence(turn, kept, devices, conversations, sessions)
        self._seats = Seats(
            turn, chains, devices, sessions, presence, reading, leases, rates, self._quotas, (validators, readers),
            seats, share,
        )  # fmt: skip
        self._tokens = tokens = Tokens(turn, store.tokens, devices, self._seats, rates, counters, find_account)
        own_sessions = OwnSessions(turn, store.tokens, sessions, self._seats)
        revoking = Revoking(turn, kept, conversations, leases)
        publishing = Publishing(
            turn, chains, devices, store.tokens, sessions, self._seats, revoking, news, validator, checks, rates
        )
        directory = Directory(turn, devices, validator, checks, rates, find_account)
        keepsakes = Keepsakes(turn, store.keepsakes, devices, store.server_id, checks, rates)
        budgets = Budgets(turn)
        self._commits = commits = Commits(
            turn, kept, Inboxes(turn, inboxes, kept, conversations, reading), conversations, names, groups, leases,
            directory, heirs, budgets, validator, checks, accepts_commit,
        )
        founding = Founding(turn, kept, devices, conversations, names, directory, commits, validator, checks, rates)
        leaving = Leaving(turn, kept, conversations, groups, leases, checks)
        branches = Branches(logs, kept, validator)
        handing_back = HandingBack(
            turn, logs, conversations, groups, commits, leaving, revoking, branches, budgets, validator, checks
        )
        words = Words(
            turn, store, conversations, groups, leases, checks, rooms=rooms
        )
        operating = Operating(
            turn, store, conversations, sessions, self._seats, leases, reading, news, presence, self.hand_in
        )
        messages = Messages(turn, logs, conversations, leases, reading)
        questions = Questions(
            turn, kept, logs, devices, conversations, sessions, heirs, budgets, readers, self.hand_in, rooms
        )
        transfers.connect(self.hand_in)
        self._blobs = blobs = Blobs(
            turn, store.blobs, conversations, reading, directory, transfers, rates, blob_limits
        )
        self._writing: dict[type, Handler] = {
            PasswordChecked: tokens.password_checked,
            Resuming: tokens.resume,
            PasswordReplaced: tokens.password_replaced,
            EndSession: own_sessions.end,
            list: messages.handle,
            Commit: commits.commit,
            CommitChecked: self._commit_checked,
            Leave: leaving.leave,
            DepartureChecked: leaving.departure_checked,
            HandBack: handing_back.hand_back,
            HandBackChecked: handing_back.checked,
            OpenDirect: founding.open_direct,
            DirectChecked: founding.direct_checked,
            OpenRoom: founding.open_room,
            RoomChecked: founding.room_checked,
            Publish: publishing.publish,
            PublishChecked: publishing.checked,
            PutKeepsake: keepsakes.put,
            KeepsakeChecked: keepsakes.checked,
            ExtendToken: tokens.extend,
            PublishKeyPackages: directory.publish_key_packages,
            KeyPackagesChecked: directory.key_packages_checked,
            FetchKeyPackages: directory.fetch_key_packages,
            ChangeSiteKey: lambda _, change: words.change_site_key(change),
            Speak: lambda _, speak: words.speak(speak),
            SpeakReady: lambda _, result: words.ready(result),
            EndSessions: lambda _, end: operating.end_sessions(end),
            ForgetAccount: lambda _, forget: operating.forget_account(forget),
            DeleteRoom: lambda _, delete: operating.delete_room(delete),
            StartBlob: blobs.start,
            BlobArrived: blobs.arrived,
            DropBlob: blobs.drop,
            BlobsLost: lambda _, lost: blobs.lost(lost),
            FilesDeleted: lambda _, deleted: blobs.deleted(deleted),
            Rejected: self._rejected,
        }
        self._reading_only: dict[type, Handler] = {
            Subscribe: reading.subscribe,
            Portion: reading.portion,
            Drained: lambda session, _: self._drained(session),
            Join: leases.join,
            Resync: leases.resync,
            Survey: lambda _, survey: words.survey(survey),
            ListSessions: lambda _, wanted: operating.list_sessions(wanted),
            Announce: lambda _, said: operating.announce(said),
            Surveyed: lambda _, result: result.operation.answer(result.rooms),
            GroupRead: lambda _, result: leases.group_read(result),
            Failed: lambda _, failed: failed.then(),
            Members: questions.members,
            ListRooms: questions.list_rooms,
            FetchCheckpoints: questions.fetch_checkpoints,
            CheckpointsRead: questions.checkpoints_read,
            Listed: questions.listed,
            CommitFailed: questions.commit_failed,
            FetchStatements: publishing.fetch,
            FetchKeepsake: keepsakes.fetch,
            FetchSessions: own_sessions.fetch,
            FetchBlob: blobs.fetch,
            Ephemeral: Ephemerals(turn, conversations, sessions).forward,
        }
        self._coming_and_going: dict[type, Handler] = {
            Detach: self._detach,
            Expel: lambda _, expel: self._seats.expel_account(expel),
            Resize: lambda _, resize: self._seats.resize(resize),
        }

    @property
    def sessions(self) -> int:
        """How many devices are logged in, the waiting ones included. Any thread; may be a moment old."""
        return len(self._sessions)

    @property
    def handed_in(self) -> int:
        """How much waits for the next turn. Any thread; may be a moment old."""
        return len(self._submissions)

    @property
    def waiting(self) -> int:
        """How many accounts wait for a seat. Any thread; may be a moment old."""
        return self._seats.waiting

    # --- any thread -------------------------------------------------------------------------------------------------

    def submit(self, session: Session | None, operation: object) -> None:
        """Hand in a session's message, or an operation; an I/O thread that calls this takes a turn soon after."""
        self._submissions.append((session, operation))

    def expel(self, account: str, text: str, *, spared: Session | None = None) -> None:
        """End the sessions of an account; call this once it is in a new generation, so that none can come back.

        `spared`: the one that may stay. Nothing that they have asked for and that waits is done.
        """
        self._urgent.append(Expel(account, text, spared))
        self.interrupt()

    def operate(self, operation: Changing | Survey | ListSessions | Announce) -> None:
        """Do something for the operator, who gets the answer."""
        self.hand_in(None, operation)

    def finish_deletions(self, deleted: Iterable[str]) -> None:
        """Forget what is left of deleted accounts, where the server was killed before it had. Before it serves."""
        store = self._store
        for name in deleted:
            if (
                store.tokens.of(name)
                or store.keepsakes.find(name)
                or store.blobs.held(name)[0]
                or store.directory.devices(name)
                or store.conversations.of_account(name, out=True)
            ):
                self.submit(None, ForgetAccount(name, lambda _: None))

    def resize(self, seats: int, share: int) -> None:
        """Allow this many accounts at once from now on, and `share` from one address."""
        self.hand_in(None, Resize(seats, share))

    def change_quota(self, bytes_per_account: int, blobs: BlobLimits) -> None:
        """Keep as many bytes of each account, and as much of blobs, from now on."""
        self._quotas.limit = bytes_per_account
        self._blobs.limits = blobs

    def hand_in(self, session: Session | None, operation: object) -> None:
        """Like `submit`, from a thread that takes no turns."""
        self._submissions.append((session, operation))
        self.interrupt()

    # --- the turn ---------------------------------------------------------------------------------------------------

    def turn(self, now: float) -> float:
        """Handle everything handed in so far; return when there is something to do again (monotonic seconds)."""
        if self._submissions or self._urgent or now >= self._next:
            with self._lock:
                self._begin(now)
                try:
                    self._handle_batch()
                    self._next = min(
                        self._leases.expire(), self._seats.run(), self._presence.run(), self._news.run(now)
                    )
                    self._say()
                except StoreBrokenError as error:
                    end_process(error)
        return self._next

    def _begin(self, now: float) -> None:
        self._turn.begin(now)

    def _handle_batch(self) -> None:
        while self._urgent:
            self._contain(None, self._urgent.popleft(), self._handle)  # type: ignore[arg-type]  # Expel needs no session
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
                    self._contain(*each, self._write_one)
        for each in others:
            self._contain(*each, self._handle)

    def _shut_out(self) -> None:
        """Do nothing more for those who are to be expelled. They are told at the beginning of the next turn."""
        for expel in self._urgent.copy():
            for session in self._sessions.of(expel.account):
                session.expelled = session.expelled or session is not expel.spared

    def _write(self, batch: list[tuple[Session, Any]]) -> None:
        """Steps 1 to 3."""
        try:
            for session, operation in batch:
                self._dispatch(self._writing, session, operation)
            for run in self._turn.runs:
                if self._conversations.loaded(run.conversation.head.id) is run.conversation:  # not deleted since
                    self._store.logs.append(run.conversation.head, run.entries, run.account)
            self._store.commit()
        except DiskFullError:
            self._undo()
            if self._turn.space.release():  # and what may be done now is
                for each in batch:
                    self._contain(*each, self._write_one)
                return
            log.error("the disk is full; nothing is accepted")
            for session, operation in batch:
                if isinstance(operation, Resuming):
                    self._tokens.resume_without_room(session, operation)
                    continue
                self._not_done(operation, StorageError("the server's disk is full"))
                for request in _requests_in(operation):
                    session.outlet.send(Refused(request.id, "disk-full", "the server's disk is full; try again later"))
            self._say()
            return
        self._conversations.committed()
        runs, self._turn.runs = self._turn.runs, []
        for run in runs:
            if self._show_ciphertext:
                self._show(run)
            contained(run.session, partial(self._reading.push, run))()  # it is committed, and never done again
        if runs:
            self._counters.delivered(sum(len(run.entries) for run in runs), time.monotonic() - self._turn.now)
        self._say(batch[0][0] if len(batch) == 1 else None)

    def _write_one(self, session: Session, operation: object) -> None:
        self._write([(session, operation)])

    def _handle(self, session: Session, operation: object) -> None:
        """Step 4, and what is urgent."""
        if isinstance(operation, Request) and self._is_postponed(session, operation):
            return
        handlers = self._reading_only if type(operation) in self._reading_only else self._coming_and_going
        self._dispatch(handlers, session, operation)
        self._say(session)

    def _detach(self, session: Session, detach: Detach) -> None:
        self._blobs.leave(session)
        self._seats.detach(session, detach)

    def _is_postponed(self, session: Session, request: Request) -> bool:
        """Whether a question waits: it is small and its answer large, and the connection has much to take already.

        How many wait is bounded, as they are in flight.
        """
        session.postponed.append(request)
        if is_full(session.outlet):  # looked at last: whatever is taken from now on is told
            return True
        session.postponed.pop()
        return False

    def _drained(self, session: Session) -> None:
        """Go on answering, and reading, for a session whose connection can take more."""
        postponed, session.postponed = session.postponed, deque()
        for request in postponed:
            self._contain(session, request, self._handle)
        self._reading.drained(session)

    def _say(self, whose: Session | None = None) -> None:
        """Send the answers, and do what the handlers want done after the commit.

        A bug in one of these keeps no other from being done; it ends the session `whose` request it is, if it is one's.
        """
        turn = self._turn
        while turn.answers or turn.effects:
            answers, turn.answers = turn.answers, []
            for session, reply in answers:
                if type(reply) is Refused:
                    self._counters.refused[reply.code] += 1
                contained(session, partial(session.outlet.send, reply))()
            effects, turn.effects = turn.effects, []
            for effect in effects:
                contained(whose, effect)()

    def _dispatch(self, handlers: dict[type, Handler], session: Session, operation: Any) -> None:
        if self._urgent:  # since this turn began
            self._shut_out()
        if session is not None and session.expelled:
            return  # another session of the device has taken over, or the device is out
        if session is not None:
            session.handled += len(operation) if type(operation) is list else 1
        try:
            if type(operation) in _ADDING:
                self._turn.check_clock()
            if handlers is self._writing and type(operation) not in _TAKEN_WHEN_FULL:
                self._turn.space.check()
            handlers[type(operation)](session, operation)
        except RefusedError as error:
            request = operation if isinstance(operation, Request) else getattr(operation, "request", None)
            if isinstance(request, Commit):
                self._counters.commits[error.code] += 1
            if isinstance(operation, CommitChecked):
                self._commits.rejected(session, operation.request.conversation)
            if request is not None:
                self._turn.answer(session, refusal(request.id, error))
            self._not_done(operation, error)

    def _not_done(self, operation: object, error: SecurechatError) -> None:
        """Tell the operator, if it is something of theirs. What a deletion has left is tried again."""
        if isinstance(operation, ForgetAccount):
            log.error("a deleted account is not forgotten yet", account=operation.account, reason=str(error))
            self._unfinished[operation.account] = self._turn.now + FORGET_AGAIN_SECONDS
        if isinstance(operation, Changing | SpeakReady):
            _asked(operation).answer(error)

    def _undo(self) -> None:
        self._store.rollback()
        self._conversations.rolled_back()
        self._turn.clear()

    def _contain(self, session: Session, operation: Any, handle: Handler) -> None:
        """Let a bug that a request meets end its session, and nothing else. The operator is told of theirs."""
        try:
            handle(session, operation)
        except StoreBrokenError:
            raise
        except Exception:
            log.exception("internal error", operation=type(operation).__name__)
            self._undo()
            self._not_done(operation, InternalError("a bug in the server, which its log has"))
            if session is not None:
                session.outlet.send(INTERNAL_ERROR)

    # --- what workers have found ------------------------------------------------------------------------------------

    def _rejected(self, session: Session, rejected: Rejected) -> None:
        request = rejected.request
        code: Any = rejected.code or ("bad-request" if isinstance(request, _UNCOMMITTED) else "invalid-commit")
        if isinstance(request, Commit):
            self._counters.commits[code] += 1
            self._commits.rejected(session, request.conversation)
        level = logging.INFO
        try:
            self._logged.take(session.account, self._turn.now)
        except RefusedError:
            level = logging.DEBUG
        log.log(
            level,
            "refused",
            client=session.outlet.address,
            account=session.account,
            request=type(request).__name__,
            reason=rejected.text,
        )
        self._turn.answer(session, Refused(request.id, code, rejected.text[:1000]))

    def _commit_checked(self, session: Session, checked: CommitChecked) -> None:
        if self._commits.commit_checked(session, checked):
            self._turn.after(lambda: self._counters.commits.update(accepted=1))

    def _show(self, run: Run) -> None:
        """Log what the server sees of entries, for teaching (`--show-ciphertext`)."""
        for entry in run.entries:
            log.info(
                "entry",
                conversation=run.conversation.head.title,
                seq=entry.seq,
                account=run.session.account if run.session is not None else "",
                epoch=entry.epoch,
                size=len(entry.payload),
                payload=entry.payload.hex(),
            )

    # --- housekeeping -----------------------------------------------------------------------------------------------

    def housekeep(self, now: float) -> bool:
        """Do a portion of the work that keeps the store small; return whether there is more."""
        with self._lock:
            self._begin(now)
            try:
                more = self._reading.store_cursors(CURSORS_AT_ONCE)
                trimmed, more_rows = self._store.tidy(self._turn.time, self._turn.age)
            except DiskFullError:
                log.error("the disk is full")
                self._undo()
                return False
            for each in trimmed:
                self._reading.trimmed(each)
            self._conversations.evict(now)
            for name in [name for name, due in self._unfinished.items() if due <= now]:
                del self._unfinished[name]
                self.operate(ForgetAccount(name, lambda _: None))
            return more or more_rows

    def close(self) -> None:
        """Store the cursors that only memory has. No turn may be taken any more."""
        with self._lock:
            try:
                while self._reading.store_cursors(CURSORS_AT_ONCE):
                    self._store.commit()
                self._store.commit()
            except DiskFullError:
                log.error("the disk is full: some readers will be sent entries that they have again")
            except StoreBrokenError as error:
                end_process(error)


def _asked(operation: Changing | SpeakReady) -> Changing:
    return operation.operation if isinstance(operation, SpeakReady) else operation


def _requests_in(operation: object) -> list[Request]:
    """Return the requests that an operation has to answer: several messages, one, or one whose check has ended."""
    messages = operation if isinstance(operation, list) else [getattr(operation, "request", operation)]
    return [message for message in messages if isinstance(message, Request)]
