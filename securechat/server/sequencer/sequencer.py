"""The sequencer: everything that changes a conversation happens in turns, one at a time (docs/design.md, section 5).

An I/O thread that has something for the sequencer takes a turn. It holds the lock and handles everything that any
thread has handed in so far:

    1. requests that write, in order of arrival: each is checked against memory and refused, or written
    2. COMMIT: one transaction, one fsync for all of them
    3. replies are sent, and new entries go to their live readers
    4. sessions come and go, requests that only read are answered, and what is due by the clock is done

Nobody learns anything before 3. If the disk has no room for the transaction, memory is loaded from the store again, and
every sender that would have learned of a success gets `disk-full`. If it fails in any other way, the process ends.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from securechat.errors import RefusedError, StorageError
from securechat.server.clock import ServerClock
from securechat.server.logs import get_logger
from securechat.server.panic import StoreBrokenError, end_process
from securechat.server.rates import Rates
from securechat.server.sequencer.budgets import Budgets
from securechat.server.sequencer.checks import Checks
from securechat.server.sequencer.commits import Commits
from securechat.server.sequencer.conversation import Conversations
from securechat.server.sequencer.directory import Directory
from securechat.server.sequencer.founding import Founding
from securechat.server.sequencer.groups import Groups
from securechat.server.sequencer.handing_back import HandingBack
from securechat.server.sequencer.leases import Leases
from securechat.server.sequencer.leaving import Leaving
from securechat.server.sequencer.messages import Messages
from securechat.server.sequencer.news import News
from securechat.server.sequencer.operations import (
    Answer,
    Attach,
    ChangeSiteKey,
    CheckpointsRead,
    CommitChecked,
    DepartureChecked,
    Detach,
    DirectChecked,
    Drained,
    Expel,
    GroupRead,
    HandBackChecked,
    KeyPackagesChecked,
    OwnerlessRoom,
    Portion,
    Rejected,
    Resize,
    RoomChecked,
    Speak,
    SpeakReady,
    Survey,
    Surveyed,
    Tokens,
    TokensRevoked,
    Workers,
)
from securechat.server.sequencer.presence import Presence
from securechat.server.sequencer.questions import Questions
from securechat.server.sequencer.reading import Reading
from securechat.server.sequencer.room_names import RoomNames
from securechat.server.sequencer.seats import Seats
from securechat.server.sequencer.session import Session, Sessions, refusal
from securechat.server.sequencer.turn import Run, Turn
from securechat.server.sequencer.validation import Validator
from securechat.server.sequencer.words import Words
from securechat.server.status import Counters
from securechat.server.store.port import DiskFullError, Store
from securechat.wire.messages import (
    Closing,
    Commit,
    CommitFailed,
    FetchCheckpoints,
    FetchKeyPackages,
    HandBack,
    Join,
    Leave,
    ListRooms,
    Members,
    OpenDirect,
    OpenRoom,
    PublishDevice,
    PublishKeyPackages,
    Refused,
    Request,
    Resync,
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

CURSORS_AT_ONCE = 128
"""Cursors that housekeeping stores in one transaction: about 1 ms, during which no turn can be taken."""


class Sequencer:
    """See the module. `submit` may be called from any thread; `turn` by I/O threads, `housekeep` by housekeeping."""

    def __init__(
        self,
        store: Store,
        *,
        seats: int,
        rates: Rates,
        rooms: frozenset[str],
        show_ciphertext: bool,
        interrupt: Callable[[], None],
        tokens: Tokens,
        validators: Workers,
        readers: Workers,
        lock: AbstractContextManager[object],
        counters: Counters,
        clock: ServerClock,
    ) -> None:
        """`interrupt` makes an I/O thread take a turn, for which it holds `lock`.

        `rooms`: the names of those that belong to nobody.

        `validators` do expensive checks, `readers` read history. Both hand in their results.
        """
        self.interrupt = interrupt
        self._store = store
        self._show_ciphertext = show_ciphertext
        self._counters = counters
        self._tokens = tokens
        self._lock = lock  # the turn: protects everything below but _submissions
        self._submissions: deque[tuple[Session | None, Any]] = deque()
        self._next = 0.0
        kept, logs, inboxes, devices = store.conversations, store.logs, store.inboxes, store.directory
        self._conversations = conversations = Conversations(kept)
        self._turn = turn = Turn(conversations, clock)
        self._sessions = sessions = Sessions()
        validator = Validator(store.server_id)
        checks = Checks(turn, validators, self._hand_in)
        self._groups = groups = Groups(kept, conversations, validator, checks)
        news = News(kept, devices, conversations, sessions)
        self._reading = reading = Reading(turn, logs, inboxes, conversations, news, readers, self._hand_in)
        names = RoomNames(turn, kept, conversations, rooms, lambda: store.site_keys)
        self._leases = leases = Leases(turn, kept, conversations, names, groups)
        self._presence = presence = Presence(turn, kept, devices, conversations, sessions)
        self._seats = Seats(turn, devices, sessions, presence, reading, leases, rates, seats)
        directory = Directory(
            turn, devices, sessions, self._seats, news, validator, checks, rates, tokens, self._hand_in
        )
        budgets = Budgets(turn)
        self._commits = commits = Commits(
            turn, kept, inboxes, conversations, names, groups, leases, reading, directory, budgets, validator, checks
        )
        founding = Founding(turn, kept, devices, conversations, names, directory, commits, validator, checks)
        leaving = Leaving(turn, kept, conversations, groups, leases, validator, checks)
        handing_back = HandingBack(
            turn, logs, conversations, groups, commits, leaving, budgets, validator, checks
        )
        words = Words(
            turn, store, conversations, groups, leases, checks, rooms=rooms
        )
        messages = Messages(turn, logs, conversations, leases, reading)
        questions = Questions(turn, kept, devices, conversations, sessions, budgets, readers, self._hand_in)
        self._writing: dict[type, Handler] = {
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
            PublishDevice: directory.publish_device,
            TokensRevoked: directory.tokens_revoked,
            PublishKeyPackages: directory.publish_key_packages,
            KeyPackagesChecked: directory.key_packages_checked,
            FetchKeyPackages: directory.fetch_key_packages,
            ChangeSiteKey: lambda _, change: words.change_site_key(change),
            Speak: lambda _, speak: words.speak(speak),
            SpeakReady: lambda _, result: words.ready(result),
            Rejected: self._rejected,
        }
        self._reading_only: dict[type, Handler] = {
            Subscribe: reading.subscribe,
            Portion: reading.portion,
            Drained: lambda session, _: reading.drained(session),
            Join: leases.join,
            Resync: leases.resync,
            Survey: lambda _, survey: words.survey(survey),
            Surveyed: lambda _, result: result.operation.answer(result.rooms),
            GroupRead: lambda _, result: leases.group_read(result),
            Members: questions.members,
            ListRooms: questions.list_rooms,
            FetchCheckpoints: questions.fetch_checkpoints,
            CheckpointsRead: questions.checkpoints_read,
            CommitFailed: questions.commit_failed,
        }
        self._coming_and_going: dict[type, Handler] = {
            Attach: self._attach,
            Detach: self._seats.detach,
            Expel: lambda _, expel: self._seats.expel_account(expel),
            Resize: lambda _, resize: self._seats.resize(resize),
        }

    @property
    def sessions(self) -> int:
        """How many devices are logged in, the waiting ones included. Any thread; may be a moment old."""
        return len(self._sessions)

    @property
    def waiting(self) -> int:
        """How many accounts wait for a seat. Any thread; may be a moment old."""
        return self._seats.waiting

    # --- any thread -------------------------------------------------------------------------------------------------

    def submit(self, session: Session | None, operation: object) -> None:
        """Hand in a session's message, or an operation; an I/O thread that calls this takes a turn soon after."""
        self._submissions.append((session, operation))

    def expel(self, account: str, text: str) -> None:
        """End the sessions of an account; call this once its tokens are worthless, so that none can come back."""
        self._hand_in(None, Expel(account, text))

    def speak(self, speak: Speak) -> None:
        """Have the operator say something."""
        self._hand_in(None, speak)

    def change_site_key(self, answer: Answer) -> None:
        """Make a new site key."""
        self._hand_in(None, ChangeSiteKey(answer))

    def survey(self, answer: Callable[[list[OwnerlessRoom]], None]) -> None:
        """Look at the rooms that belong to nobody."""
        self._hand_in(None, Survey(answer))

    def resize(self, seats: int) -> None:
        """Allow this many accounts at once from now on."""
        self._hand_in(None, Resize(seats))

    def _hand_in(self, session: Session | None, operation: object) -> None:
        """Like `submit`, from a thread that takes no turns."""
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
                    self._next = min(self._leases.expire(), self._seats.run(), self._presence.run())
                    self._say()
                except StoreBrokenError as error:
                    end_process(error)
        return self._next

    def _begin(self, now: float) -> None:
        self._turn.begin(now)

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
                    self._contain(*each, self._write_one)
        for each in others:
            self._contain(*each, self._handle)

    def _write(self, batch: list[tuple[Session, Any]]) -> None:
        """Steps 1 to 3."""
        try:
            for session, operation in batch:
                self._dispatch(self._writing, session, operation)
            for run in self._turn.runs:
                if self._conversations.loaded(run.conversation.head.id) is run.conversation:  # not deleted since
                    self._store.logs.append(run.conversation.head, run.entries)
            self._store.commit()
        except DiskFullError:
            log.error("the disk is full; nothing is accepted")
            self._undo()
            for session, operation in batch:
                if isinstance(operation, ChangeSiteKey | Speak | SpeakReady):
                    _asked(operation).answer(StorageError("the server's disk is full"))
                for request in _requests_in(operation):
                    session.outlet.send(Refused(request.id, "disk-full", "the server's disk is full; try again later"))
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

    def _write_one(self, session: Session, operation: object) -> None:
        self._write([(session, operation)])

    def _handle(self, session: Session, operation: object) -> None:
        """Step 4."""
        handlers = self._reading_only if type(operation) in self._reading_only else self._coming_and_going
        self._dispatch(handlers, session, operation)
        self._say()

    def _say(self) -> None:
        """Send the answers, and do what the handlers want done after the commit."""
        turn = self._turn
        while turn.answers or turn.effects:
            answers, turn.answers = turn.answers, []
            for session, reply in answers:
                session.outlet.send(reply)
            effects, turn.effects = turn.effects, []
            for effect in effects:
                effect()

    def _dispatch(self, handlers: dict[type, Handler], session: Session, operation: Any) -> None:
        if session is not None and session.expelled:
            return  # another session of the device has taken over, or the device is out
        try:
            if type(operation) in _ADDING:
                self._turn.check_clock()
            handlers[type(operation)](session, operation)
        except RefusedError as error:
            request = operation if isinstance(operation, Request) else getattr(operation, "request", None)
            if isinstance(request, Commit):
                self._counters.commits[error.code] += 1
            if isinstance(operation, CommitChecked):
                self._commits.rejected(session, operation.request.conversation)
            if request is not None:
                self._turn.answer(session, refusal(request.id, error))
            if isinstance(operation, Speak | SpeakReady):
                _asked(operation).answer(error)

    def _undo(self) -> None:
        self._store.rollback()
        self._conversations.rolled_back()
        self._turn.clear()

    def _contain(self, session: Session, operation: Any, handle: Handler) -> None:
        """Let a bug that a request meets end its session, and nothing else."""
        try:
            handle(session, operation)
        except StoreBrokenError:
            raise
        except Exception:
            log.exception("internal error", operation=type(operation).__name__)
            self._undo()
            if session is not None:
                session.outlet.send(Closing("protocol-error", "internal error of the server"))

    # --- what workers have found ------------------------------------------------------------------------------------

    def _rejected(self, session: Session, rejected: Rejected) -> None:
        request = rejected.request
        if isinstance(request, Commit):
            self._counters.commits["invalid-commit"] += 1
            self._commits.rejected(session, request.conversation)
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

    # --- coming in --------------------------------------------------------------------------------------------------

    def _attach(self, session: Session, attach: Attach) -> None:
        """Let a login take effect, unless its token was revoked since: `expel` finds only sessions that are in."""
        try:
            self._tokens.redeem(attach.token, attach.device)
        except RefusedError as error:
            session.outlet.send(Refused(attach.id, "token-refused", str(error)))
            return
        self._seats.attach(session, attach)

    # --- housekeeping -----------------------------------------------------------------------------------------------

    def housekeep(self, now: float) -> bool:
        """Do a portion of the work that keeps the store small; return whether there is more."""
        with self._lock:
            self._begin(now)
            try:
                more = self._reading.store_cursors(CURSORS_AT_ONCE)
                trimmed, more_rows = self._store.tidy(self._turn.time)
            except DiskFullError:
                log.error("the disk is full")
                self._undo()
                return False
            for each in trimmed:
                self._reading.trimmed(each)
            self._conversations.evict(now)
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


def _asked(operation: ChangeSiteKey | Speak | SpeakReady) -> ChangeSiteKey | Speak:
    return operation.operation if isinstance(operation, SpeakReady) else operation


def _requests_in(operation: object) -> list[Request]:
    """Return the requests that an operation has to answer: several messages, one, or one whose check has ended."""
    messages = operation if isinstance(operation, list) else [getattr(operation, "request", operation)]
    return [message for message in messages if isinstance(message, Request)]
