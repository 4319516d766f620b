"""The workers that make and compare password hashes: few, because Argon2 takes memory as well as time.

Their queue is short (`password_queue`): whatever does not fit in gets `busy` at once.
"""

import contextlib
import hashlib
import hmac
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Literal, TypeVar

import argon2
from argon2.exceptions import VerificationError, VerifyMismatchError
from msgspec.structs import replace

from securechat.errors import RefusedError, SecurechatError, UsageError
from securechat.names import normalise_account
from securechat.server.accounts.password_queue import Job, PasswordQueue
from securechat.server.accounts.records import Account
from securechat.server.accounts.store import AccountStore
from securechat.server.logs import get_logger
from securechat.server.workers import join
from securechat.wire.limits import SECRET_LENGTH

log = get_logger(__name__)

Value = TypeVar("Value")


MAX_WORKERS = 2
"""Hashes computed at once, on any machine: bounds their memory to 92 MiB."""


def workers_on(processors: int) -> int:
    """Return how many hashes are computed at once on so many processors: one of these is left for the chat.

    With two on two processors, people's slowest messages take five times as long while others guess at passwords; with
    one, at most twice.
    """
    return max(1, min(MAX_WORKERS, processors - 1))


WORKERS = workers_on(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
"""Hashes computed at once on this machine."""

NICENESS = 10
"""Added to the workers' own: another thread that wants the same processor gets nine times as much of it."""

COST = argon2.Parameters(
    type=argon2.Type.ID, version=19, salt_len=16, hash_len=32, memory_cost=46 << 10, time_cost=1, parallelism=1
)
"""46 MiB, one pass, one lane: the first of OWASP's equivalent choices, about 50 ms here.

RFC 9106's profiles cost several times that. For each guess, a thief of the file has to compute the client's Argon2id
(64 MiB, three passes; `client.password`) before this one: most of the price of guessing is paid there.
"""


def check_registration(mode: Literal["open", "closed", "invite"], code: str, presented: str) -> None:
    """Raise RefusedError unless somebody who presents this invite code may register. Takes equal time for all codes."""
    if mode == "open":
        return
    if mode == "closed":
        raise RefusedError("registration-closed", "this server takes no new accounts; ask its operator for one")
    if not presented:
        raise RefusedError("registration-closed", "this server asks for an invite code; ask its operator for one")
    # Hashed first, so that not even the length shows. If the operator has set no code, only one-time codes are good.
    if not code or not hmac.compare_digest(*(hashlib.sha256(text.encode()).digest() for text in (code, presented))):
        raise RefusedError("registration-closed", "this server asks for an invite code, and the one given is not it")


class _WrongSecretError(RefusedError):
    """No account of this name has this secret."""

    def __init__(self) -> None:
        super().__init__("login-refused", "wrong user name or password")


class PasswordWorkers:
    """Threads that check and make password hashes, WORKERS at most; a few wait for them (`PasswordQueue`)."""

    def __init__(self, store: AccountStore, *, ca: str, cost: argon2.Parameters = COST) -> None:
        """Start the threads; `ca`: who signs for the server (`Account.ca`), and `cost` of new hashes."""
        self.ca = ca
        self._store = store
        self._hasher = argon2.PasswordHasher.from_parameters(cost)
        self._nobody = self._hasher.hash(os.urandom(SECRET_LENGTH))  # no secret matches it
        self._jobs = PasswordQueue()
        self._threads = [threading.Thread(target=self._work, name=f"password-{n}") for n in range(WORKERS)]
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError:
            self.close()
            raise

    @property
    def waiting(self) -> int:
        """How many jobs wait for a thread."""
        return len(self._jobs)

    def submit_login(
        self,
        name: str,
        secret: bytes,
        answer: Callable[[Account | SecurechatError], None],
        *,
        former: bytes = b"",
        familiar: bool = False,
        address: str = "",
        owner: object = None,
    ) -> None:
        """Check a login; `answer` gets the account whose secret this is, or RefusedError `login-refused`.

        `former`: the account may have this secret instead, in whose place `secret` is put then, if it was stored while
        another CA signed for the server: else whoever has seen a secret could change the password by it, unheard.
        `familiar`: the account has logged in from there before, so the reserved places may be taken. `address`: where
        it comes from. `owner`: see `drop`.
        An unknown name costs the same work and gets the same answer as a wrong secret. `answer` is called on another
        thread and must not raise. Raises RefusedError `busy` at once if too many wait already.
        """

        def job() -> None:
            answer(_outcome(lambda: self._login(name, secret, former)))

        self._submit(Job(job, answer, owner), address, name, familiar=familiar)

    def submit_register(
        self,
        name: str,
        secret: bytes,
        answer: Callable[[Account | SecurechatError], None],
        *,
        invite: str = "",
        invited: bool = False,
        address: str = "",
        owner: object = None,
    ) -> None:
        """Make an account; `answer` gets it once it is on disk, or RefusedError `name-taken`. Otherwise as above.

        Repeating it with the same secret gets the account that is there. `invite`: a code to use up, which may also set
        a new password for an account; `invited`: without it, a new account is refused.
        """
        if normalise_account(name) != name:
            raise UsageError(f"{name!a} is not in its one spelling")

        def job() -> None:
            answer(_outcome(lambda: self._register(name, secret, invite, invited=invited)))

        self._submit(Job(job, answer, owner), address, name, familiar=False)

    def submit_change(
        self,
        name: str,
        secret: bytes,
        new: bytes,
        answer: Callable[[Account | SecurechatError], None],
        *,
        address: str = "",
        owner: object = None,
    ) -> None:
        """Put another secret in the place of an account's; `answer` gets the account once that is on disk.

        Repeating it succeeds: the answer may have been lost. Otherwise as above.
        """

        def job() -> None:
            answer(_outcome(lambda: self._change(name, secret, new)))

        self._submit(Job(job, answer, owner), address, name, familiar=False)

    def submit_delete(
        self,
        name: str,
        secret: bytes,
        answer: Callable[[Account | SecurechatError], None],
        *,
        address: str = "",
        owner: object = None,
    ) -> None:
        """Delete an account for whoever knows its secret; `answer` gets what is left of it. Otherwise as above."""

        def job() -> None:
            answer(_outcome(lambda: self._delete(name, secret)))

        self._submit(Job(job, answer, owner), address, name, familiar=False)

    def drop(self, owner: object) -> None:
        """Forget what `owner` has asked for, as far as nobody has begun with it."""
        self._jobs.drop(owner)

    def close(self) -> None:
        """Finish what is queued and stop. Jobs submitted later are refused."""
        self._jobs.close()
        for thread in self._threads:
            join(thread)

    def _submit(self, job: Job, address: str, account: str, *, familiar: bool) -> None:
        self._jobs.put(job, address=address, account=account, familiar=familiar)

    def _work(self) -> None:
        _give_way()
        while (taken := self._jobs.take()) is not None:
            address, job = taken
            began = time.thread_time()
            job.work()
            self._jobs.count(address, time.thread_time() - began)

    def _login(self, name: str, secret: bytes, former: bytes) -> Account:
        if former:
            with contextlib.suppress(_WrongSecretError):
                account = self._verified(name, former)  # also where it is not taken: all cost the same work
                if account.ca != self.ca:
                    account.check_enabled()
                    new = self._hasher.hash(secret)
                    after = self._store.replace_secret(name, account.hash, new, ca=self.ca).result()
                    if after.hash == new:
                        log.warning("secret replaced", account=name)
                    # Whoever was faster has done the same. Or the account is in another generation by now: what was
                    # right is that of the one before, and the turn lets nobody in by it.
                    return replace(after, generation=account.generation)
        account = self._verified(name, secret)
        account.check_enabled()
        if self._hasher.check_needs_rehash(account.hash):
            self._store.replace_hash(name, account.hash, self._hasher.hash(secret), ca=self.ca)
        elif account.ca != self.ca:  # it was right under this CA: no other one's is taken any more
            self._store.replace_hash(name, account.hash, account.hash, ca=self.ca)
        return account

    def _change(self, name: str, secret: bytes, new: bytes) -> Account:
        try:
            account = self._verified(name, secret)
        except _WrongSecretError:
            account = self._verified(name, new)
            account.check_enabled()
            return account
        return self._store.change_password(name, account.hash, self._hasher.hash(new), ca=self.ca).result()

    def _delete(self, name: str, secret: bytes) -> Account:
        account = self._verified(name, secret)
        account.check_enabled()
        return self._store.delete(name, known=account.hash).result()

    def _register(self, name: str, secret: bytes, invite: str, *, invited: bool) -> Account:
        account = self._store.get(name)
        if account is None:
            try:
                made = self._hasher.hash(secret)
                return self._store.add(name, made, invite=invite, invited=invited, ca=self.ca).result()
            except RefusedError:
                # Unless the same request came twice at once, and the other one was faster:
                if self._store.get(name) is None:
                    raise
        elif (found := self._store.find_invite(invite, name)) is not None and found.account == name and not found.used:
            return self._store.reset(name, self._hasher.hash(secret), invite, ca=self.ca).result()
        try:
            return self._verified(name, secret)
        except RefusedError:
            raise RefusedError("name-taken", f"the name {name} is taken") from None

    def _verified(self, name: str, secret: bytes) -> Account:
        """The account, if the secret is its own; else RefusedError `login-refused`, after the same work for all."""
        account = self._store.get(name)
        try:
            self._hasher.verify((account.hash if account else "") or self._nobody, secret)
        except VerifyMismatchError:
            account = None
        if account is None:
            raise _WrongSecretError
        return account


def _give_way() -> None:
    """Give this thread only what others leave of the processors: people who are in come before those who want in."""
    if sys.platform == "linux":  # elsewhere a priority belongs to the whole process
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.nice(NICENESS)


def _outcome(work: Callable[[], Value]) -> Value | SecurechatError:
    """A job's result or error. A worker outlives every job: an unforeseen error becomes an answer and a log line."""
    try:
        return work()
    except SecurechatError as error:
        return error
    except (VerificationError, argon2.exceptions.HashingError, MemoryError):
        return RefusedError("busy", "the server is short of memory at this moment; try again soon")
    except Exception:
        log.exception("internal error while a password was checked")
        return RefusedError("busy", "the server could not check the password; try again later")
