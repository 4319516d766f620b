"""Who may log in: the accounts, in memory and in `accounts.json` (docs/design.md, section 5, Accounts).

Kept for each account is an Argon2id hash (PHC string) of the 32-byte secret that the client derives from the password.

Since the server never sees a password, the operator cannot set one. Instead the operator gives out invites: codes that
are good once, and of which only the hash is kept. One for no account lets anybody make a new one; one for an account
lets its owner make that account, or set a new password for it.

`AccountStore` holds everything in memory and rewrites the whole file. A thread of its own does that: it takes all
changes requested since the last write, applies them beside the current state, writes, and only then makes them count
and answers. So whatever is visible is on disk, a failed write leaves everything as it was, and a burst costs one fsync.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from securechat.codes import make_code
from securechat.errors import RefusedError, SecurechatError, StorageError
from securechat.files import FileLock, make_private_folder
from securechat.lookalikes import check_new_account, likeness
from securechat.names import collision_key
from securechat.server.accounts.file import MAX_INVITES, read_accounts, write_accounts
from securechat.server.accounts.records import Account, Invite, InviteCode
from securechat.server.logs import get_logger

log = get_logger(__name__)

MAX_ACCOUNTS = 10_000
"""Beyond that, rewriting the file for each change takes too long (docs/design.md, section 5, Accounts)."""

USED_SECONDS = 3600
"""How long a used invite still lets the account that used it repeat its registration."""

Value = TypeVar("Value")

_MEANWHILE = "meanwhile the password was set anew, or the account was disabled"


class _Draft:
    """Accounts and invites as they will be, once they are on disk."""

    def __init__(
        self, accounts: Mapping[str, Account], alike: Mapping[str, str], invites: Mapping[str, Invite]
    ) -> None:
        self._before = accounts
        self._alike = alike
        self.changed: dict[str, Account] = {}  # by collision key
        self.made: set[str] = set()  # classes of new names
        self.invites = dict(invites)  # by hash

    def __len__(self) -> int:
        return len(self._before.keys() | self.changed.keys())

    def find(self, name: str) -> Account | None:
        """The account of that name in any case, or None."""
        key = collision_key(name)
        return self.changed.get(key) or self._before.get(key)

    def get(self, name: str) -> Account:
        """The account of exactly this name, or RefusedError `not-found`, also where it was deleted."""
        account = self.find(name)
        if account is None or account.name != name:
            raise RefusedError("not-found", f"there is no account {name}")
        if account.deleted:
            raise RefusedError("not-found", f"the account {name} was deleted; its name stays reserved")
        return account

    def put(self, account: Account) -> Account:
        self.changed[collision_key(account.name)] = account
        return account

    def check_free(self, name: str) -> None:
        """Refuse a name for a new account that is taken, or that people would take for one that is."""
        if self.find(name) is not None:
            raise RefusedError("name-taken", f"the name {name} is taken")
        if likeness(name) in self._alike or likeness(name) in self.made:
            # Which one is not for a stranger to know.
            raise RefusedError("name-taken", f"the name {name} looks like one that is taken; choose another")

    def drop_invites_for(self, name: str) -> None:
        self.invites = {key: invite for key, invite in self.invites.items() if invite.account != name}


Change = Callable[[_Draft], Value]
"""Changes a draft and returns the answer, or refuses with a RefusedError before it has changed anything."""


class AccountStore:
    """All accounts. Every method may be called from any thread; none of them waits for the disk."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        age: Callable[[], float] | None = None,
        write: Callable[[Callable[[], None]], None] = lambda write: write(),
    ) -> None:
        """Read `path`, or begin without accounts where neither it nor an earlier generation exists.

        `age`: the time by which invites are deleted (`clock.ServerClock.age`).

        `write` calls what it is given, which writes the file, and once more where room could be made for it.
        Raises StorageError if another server uses it, or with the position if it is damaged; it is left as it is.
        """
        self._path = path
        self._clock = clock
        self._write = write
        self._age = age or clock
        make_private_folder(path.parent)
        self._lock_file = FileLock(path.with_name(path.name + ".lock"), busy=f"another server is using {path}")
        self._accounts: dict[str, Account] = {}  # by collision key, so that names are unique whatever their case
        self._alike: dict[str, str] = {}  # one name of each class of look-alikes; older accounts may share one
        try:
            accounts, invites = read_accounts(path)
            for account in accounts:
                self._show(account)
            self._invites = {invite.hash: invite for invite in invites}
            self._asked: list[tuple[Change[Any], Future[Any]]] = []
            self._closing = False
            self._wake = threading.Condition()  # protects the two above
            self._writer = threading.Thread(target=self._write_until_closed, name="accounts")
            self._writer.start()
        except BaseException:
            self._lock_file.close()
            raise

    def __len__(self) -> int:
        """How many accounts there are."""
        return len(self._accounts)

    def get(self, name: str) -> Account | None:
        """The account of this name (as `normalise_account` spells it), or None."""
        account = self._accounts.get(collision_key(name))
        return account if account is not None and account.name == name else None

    def like(self, name: str) -> str | None:
        """The name of an account that people would take this one for, or of its own account; None: there is none."""
        return self._alike.get(likeness(name))

    def all(self) -> list[Account]:
        """All accounts, by name."""
        return sorted(self._accounts.copy().values(), key=lambda account: account.name)

    def add(
        self, name: str, password_hash: str, *, invite: str = "", invited: bool = False, ca: str = ""
    ) -> Future[Account]:
        """Make an account. The future ends when it is on disk, or in RefusedError `name-taken`, or in StorageError.

        Raises UsageError for a name that nobody may take (`lookalikes`); those that are there are not judged again.
        `invite`: a code that is used up by this; `invited`: nothing else permits it.
        """
        check_new_account(name)

        def make(draft: _Draft) -> Account:
            draft.check_free(name)
            if len(draft) >= MAX_ACCOUNTS:
                raise RefusedError("registration-closed", "this server has as many accounts as it can hold")
            found = self._invite(draft.invites, invite, name)
            if invited and (found is None or found.used):
                raise RefusedError("registration-closed", "this invite code has been used meanwhile")
            if found is not None:
                draft.invites[found.hash] = self._used(found, name)
            now = self._clock()
            draft.made.add(likeness(name))
            return draft.put(Account(name, password_hash, int(now), generation=int(now * 1000), ca=ca))

        return self._ask(make)

    def reset(self, name: str, password_hash: str, invite: str, *, ca: str = "") -> Future[Account]:
        """Set a new password, with an invite for this account, which is enabled then.

        What was proven by the old one counts for nothing any more; the sequencer has to `expel` who is in.
        """

        def make(draft: _Draft) -> Account:
            account = draft.get(name)
            found = self._invite(draft.invites, invite, name)
            if found is None or found.used or found.account != name:
                raise RefusedError("registration-closed", "this invite code has been used meanwhile")
            draft.drop_invites_for(name)
            draft.invites[found.hash] = self._used(found, name)
            return draft.put(self._next(self._set_secret(replace(account, enabled=True), password_hash, ca)))

        return self._ask(make)

    def replace_hash(self, name: str, old: str, new: str, *, ca: str = "") -> Future[Account]:
        """Replace the hash `old` by `new`, of the same secret, under `ca`; does nothing if it has changed meanwhile."""

        def exchange(draft: _Draft) -> Account:
            account = draft.get(name)
            return draft.put(replace(account, hash=new, ca=ca)) if account.hash == old else account

        return self._ask(exchange)

    def replace_secret(self, name: str, old: str, new: str, *, ca: str = "") -> Future[Account]:
        """The same with the hash of another secret. Its tokens stay good; the sequencer has to tell who is in."""

        def exchange(draft: _Draft) -> Account:
            account = draft.get(name)
            return draft.put(self._set_secret(account, new, ca)) if account.hash == old else account

        return self._ask(exchange)

    def change_password(self, name: str, old: str, new: str, *, ca: str = "") -> Future[Account]:
        """Put the hash `new` in the place of `old`, which its owner knows. What was proven before counts for nothing.

        RefusedError `login-refused`: it has changed meanwhile, or the account was disabled.
        """

        def exchange(draft: _Draft) -> Account:
            account = draft.get(name)
            if account.hash != old or not account.enabled:
                raise RefusedError("login-refused", _MEANWHILE)
            return draft.put(self._next(self._set_secret(account, new, ca)))

        return self._ask(exchange)

    def set_enabled(self, name: str, *, enabled: bool) -> Future[Account]:
        """Enable or disable an account. Disabling makes its tokens and invites worthless; enabling revives none."""

        def switch(draft: _Draft) -> Account:
            account = draft.get(name)
            if not enabled:
                draft.drop_invites_for(name)
            return draft.put(self._next(replace(account, enabled=enabled))) if account.enabled != enabled else account

        return self._ask(switch)

    def _set_secret(self, account: Account, password_hash: str, ca: str) -> Account:
        """The account with another secret, since now."""
        since = max(account.secret_set + 1, int(self._clock() * 1000))
        return replace(account, hash=password_hash, ca=ca, secret_set=since)

    def delete(self, name: str, known: str = "") -> Future[Account]:
        """Delete an account: its name stays, for nobody to take. Doing so again changes nothing.

        What the store has of it is for the sequencer to forget, once this is on disk. `known`: the hash of the secret
        by which its owner asks for it; RefusedError `login-refused`: it has changed meanwhile, or the account was
        disabled.
        """

        def erase(draft: _Draft) -> Account:
            found = draft.find(name)
            if found is not None and found.name == name and found.deleted:
                return found
            account = draft.get(name)
            if known and (account.hash != known or not account.enabled):
                raise RefusedError("login-refused", _MEANWHILE)
            draft.drop_invites_for(name)
            gone = replace(account, hash="", ca="", enabled=False, deleted=max(1, int(self._clock())))
            return draft.put(self._next(gone))

        return self._ask(erase)

    def _next(self, account: Account) -> Account:
        """The account in its next generation."""
        return replace(account, generation=max(account.generation + 1, int(self._clock() * 1000)))

    # --- invites ---

    def invites(self) -> list[Invite]:
        """All invites that are still good, oldest first."""
        now = self._clock() * 1000
        good = [invite for invite in self._invites.copy().values() if invite.expires > now and not invite.used]
        return sorted(good, key=lambda invite: invite.created)

    def create_invite(self, account: str, seconds: int) -> Future[InviteCode]:
        """Make an invite for an account, replacing those that it has, or, with "", for any new account."""
        code = make_code()
        now = int(self._clock() * 1000)
        invite = Invite(_hash_code(code), now, now + seconds * 1000, account)

        def create(draft: _Draft) -> InviteCode:
            kept = {key: each for key, each in draft.invites.items() if each.expires > self._age() * 1000}
            if len(kept) >= MAX_INVITES:
                raise RefusedError("busy", f"there are {MAX_INVITES} invites already: revoke some")
            draft.invites = kept
            if account:
                draft.drop_invites_for(account)
            draft.invites[invite.hash] = invite
            return InviteCode(code, invite)

        return self._ask(create)

    def revoke_invite(self, invite_id: str) -> Future[Invite]:
        """Make an invite worthless; RefusedError `not-found` if there is none."""

        def revoke(draft: _Draft) -> Invite:
            found = [invite for invite in draft.invites.values() if invite.id == invite_id and not invite.used]
            if not found:
                raise RefusedError("not-found", f"there is no invite {invite_id}: it was used, revoked, or has expired")
            del draft.invites[found[0].hash]
            return found[0]

        return self._ask(revoke)

    def find_invite(self, code: str, name: str) -> Invite | None:
        """The invite with this code, if it is good for this account, or was used by it just now."""
        return self._invite(self._invites, code, name)

    def _invite(self, invites: Mapping[str, Invite], code: str, name: str) -> Invite | None:
        # Looked up by hash: how long that takes says nothing useful about the code.
        invite = invites.get(_hash_code(code))
        if invite is None or invite.expires <= self._clock() * 1000 or invite.account not in ("", name):
            return None
        return invite

    def _used(self, invite: Invite, name: str) -> Invite:
        expires = min(invite.expires, int(self._clock() * 1000) + USED_SECONDS * 1000)
        return replace(invite, account=name, used=True, expires=expires)

    def close(self) -> None:
        """Write all requested changes and release the file. Later changes are refused."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._writer.join()
        self._lock_file.close()

    def _ask(self, change: Change[Value]) -> Future[Value]:
        future: Future[Value] = Future()
        with self._wake:
            if self._closing:
                raise StorageError("the server is shutting down")
            self._asked.append((change, future))
            self._wake.notify()
        return future

    def _write_until_closed(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._asked or self._closing)
                asked, self._asked = self._asked, []
                if not asked:
                    return
            try:
                self._apply(asked)
            except Exception:
                log.exception("internal error while accounts were written")
                for _, future in asked:
                    if not future.done():
                        future.set_exception(StorageError("the server failed to write its accounts; see its log"))

    def _apply(self, asked: list[tuple[Change[Any], Future[Any]]]) -> None:
        draft = _Draft(self._accounts, self._alike, self._invites)
        outcomes: list[Any] = []
        for change, _ in asked:
            try:
                outcomes.append(change(draft))
            except RefusedError as error:
                outcomes.append(error)
        try:
            draft.changed = {key: each for key, each in draft.changed.items() if each != self._accounts.get(key)}
            if draft.changed or draft.invites != self._invites:
                accounts = (self._accounts | draft.changed).values()
                self._write(lambda: write_accounts(self._path, accounts, draft.invites.values()))
            for account in draft.changed.values():
                self._show(account)
            self._invites = draft.invites
        except StorageError as error:
            outcomes = [error] * len(asked)  # the refused ones too: the reason for their refusal never came into force
        for (_, future), outcome in zip(asked, outcomes, strict=True):
            if isinstance(outcome, SecurechatError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def _show(self, account: Account) -> None:
        """Make the account visible, now that it is on disk."""
        self._accounts[collision_key(account.name)] = account
        self._alike.setdefault(likeness(account.name), account.name)


def _hash_code(code: str) -> str:
    return hashlib.sha256(code.strip().lower().encode()).hexdigest()
