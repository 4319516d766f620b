"""Who may log in: the accounts, in memory and in `accounts.json` (docs/design.md, section 5, Accounts).

Kept for each account are an Argon2id hash (PHC string) of the 32-byte secret that the client derives from the password,
and SHA-256 hashes of its devices' resume tokens.

Since the server never sees a password, the operator cannot set one. Instead the operator gives out invites: codes that
are good once, and of which only the hash is kept. One for no account lets anybody make a new one; one for an account
lets its owner make that account, or set a new password for it.

`AccountStore` holds everything in memory and rewrites the whole file. A thread of its own does that: it takes all
changes requested since the last write, applies them beside the current state, writes, and only then makes them count
and answers. So whatever is visible is on disk, a failed write leaves everything as it was, and a burst costs one fsync.
"""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from securechat.errors import RefusedError, SecurechatError, StorageError, UsageError
from securechat.files import FileLock, make_private_folder
from securechat.names import collision_key, normalise_account
from securechat.server.accounts.file import MAX_INVITES, read_accounts, write_accounts
from securechat.server.accounts.records import Account, Invite, InviteCode, ResumeToken, Token
from securechat.server.logs import get_logger
from securechat.wire import limits

log = get_logger(__name__)

MAX_ACCOUNTS = 10_000
"""Beyond that, rewriting the file for each change takes too long (docs/design.md, section 5, Accounts)."""

TOKEN_SECONDS = 30 * 86_400
"""Life of a resume token: as long as an absent reader's place in a log is kept."""

INVITE_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
INVITE_LENGTH = 20
"""99 bits, so that nobody guesses one, in letters that are not mistaken for one another when read out."""

USED_SECONDS = 3600
"""How long a used invite still lets the account that used it repeat its registration."""

Value = TypeVar("Value")


class _Draft:
    """Accounts and invites as they will be, once they are on disk."""

    def __init__(self, accounts: Mapping[str, Account], invites: Mapping[str, Invite]) -> None:
        self._before = accounts
        self.changed: dict[str, Account] = {}  # by collision key
        self.invites = dict(invites)  # by hash

    def __len__(self) -> int:
        return len(self._before.keys() | self.changed.keys())

    def find(self, name: str) -> Account | None:
        """The account of that name in any case, or None."""
        key = collision_key(name)
        return self.changed.get(key) or self._before.get(key)

    def get(self, name: str) -> Account:
        """The account of exactly this name, or RefusedError `not-found`."""
        account = self.find(name)
        if account is None or account.name != name:
            raise RefusedError("not-found", f"there is no account {name}")
        return account

    def put(self, account: Account) -> Account:
        self.changed[collision_key(account.name)] = account
        return account

    def drop_invites_for(self, name: str) -> None:
        self.invites = {key: invite for key, invite in self.invites.items() if invite.account != name}


Change = Callable[[_Draft], Value]
"""Changes a draft and returns the answer, or refuses with a RefusedError before it has changed anything."""


class AccountStore:
    """All accounts. Every method may be called from any thread; none of them waits for the disk."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Read `path`, or begin without accounts where neither it nor an earlier generation exists.

        Raises StorageError if another server uses it, or with the position if it is damaged; it is left as it is.
        """
        self._path = path
        self._clock = clock
        make_private_folder(path.parent)
        self._lock_file = FileLock(path.with_name(path.name + ".lock"), busy=f"another server is using {path}")
        self._accounts: dict[str, Account] = {}  # by collision key, so that names are unique whatever their case
        self._by_token: dict[str, tuple[Account, Token]] = {}
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

    def all(self) -> list[Account]:
        """All accounts, by name."""
        return sorted(self._accounts.copy().values(), key=lambda account: account.name)

    def add(self, name: str, password_hash: str, *, invite: str = "", invited: bool = False) -> Future[Account]:
        """Make an account. The future ends when it is on disk, or in RefusedError `name-taken`, or in StorageError.

        `invite`: a code that is used up by this; `invited`: nothing else permits it.
        """
        if normalise_account(name) != name:
            raise UsageError(f"{name!a} is not in its one spelling")

        def make(draft: _Draft) -> Account:
            if draft.find(name) is not None:
                raise RefusedError("name-taken", f"the name {name} is taken")
            if len(draft) >= MAX_ACCOUNTS:
                raise RefusedError("registration-closed", "this server has as many accounts as it can hold")
            found = self._invite(draft.invites, invite, name)
            if invited and (found is None or found.used):
                raise RefusedError("registration-closed", "this invite code has been used meanwhile")
            if found is not None:
                draft.invites[found.hash] = self._used(found, name)
            return draft.put(Account(name, password_hash, int(self._clock())))

        return self._ask(make)

    def reset(self, name: str, password_hash: str, invite: str) -> Future[Account]:
        """Set a new password, with an invite for this account, which is enabled then; its devices are logged out."""

        def make(draft: _Draft) -> Account:
            account = draft.get(name)
            found = self._invite(draft.invites, invite, name)
            if found is None or found.used or found.account != name:
                raise RefusedError("registration-closed", "this invite code has been used meanwhile")
            draft.drop_invites_for(name)
            draft.invites[found.hash] = self._used(found, name)
            return draft.put(replace(account, hash=password_hash, enabled=True, tokens=()))

        return self._ask(make)

    def replace_hash(self, name: str, old: str, new: str) -> Future[Account]:
        """Replace the hash `old` by `new`; does nothing if the hash has changed meanwhile."""

        def exchange(draft: _Draft) -> Account:
            account = draft.get(name)
            return draft.put(replace(account, hash=new)) if account.hash == old else account

        return self._ask(exchange)

    def set_enabled(self, name: str, *, enabled: bool) -> Future[Account]:
        """Enable or disable an account. Disabling makes its tokens and invites worthless."""

        def switch(draft: _Draft) -> Account:
            account = draft.get(name)
            if not enabled:
                draft.drop_invites_for(name)
            return draft.put(replace(account, enabled=enabled, tokens=account.tokens if enabled else ()))

        return self._ask(switch)

    # --- invites ---

    def invites(self) -> list[Invite]:
        """All invites that are still good, oldest first."""
        now = self._clock() * 1000
        good = [invite for invite in self._invites.copy().values() if invite.expires > now and not invite.used]
        return sorted(good, key=lambda invite: invite.created)

    def create_invite(self, account: str, seconds: int) -> Future[InviteCode]:
        """Make an invite for an account, replacing those that it has, or, with "", for any new account."""
        letters = [secrets.choice(INVITE_LETTERS) for _ in range(INVITE_LENGTH)]
        code = "-".join("".join(letters[at : at + 5]) for at in range(0, INVITE_LENGTH, 5))
        now = int(self._clock() * 1000)
        invite = Invite(_hash_code(code), now, now + seconds * 1000, account)

        def create(draft: _Draft) -> InviteCode:
            kept = {key: each for key, each in draft.invites.items() if each.expires > now}
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
        # Looked up by hash: see `redeem`.
        invite = invites.get(_hash_code(code))
        if invite is None or invite.expires <= self._clock() * 1000 or invite.account not in ("", name):
            return None
        return invite

    def _used(self, invite: Invite, name: str) -> Invite:
        expires = min(invite.expires, int(self._clock() * 1000) + USED_SECONDS * 1000)
        return replace(invite, account=name, used=True, expires=expires)

    # --- resume tokens ---

    def issue_token(self, name: str, device: bytes) -> Future[ResumeToken]:
        """Make a resume token for a device, replacing the one it had."""
        token = secrets.token_bytes(limits.TOKEN_LENGTH)
        now = int(self._clock() * 1000)
        stored = Token(device.hex(), hashlib.sha256(token).hexdigest(), now + TOKEN_SECONDS * 1000)

        def issue(draft: _Draft) -> ResumeToken:
            account = draft.get(name)
            account.check_enabled()
            others = [other for other in account.tokens if other.device != stored.device and other.expires > now]
            others.sort(key=lambda other: other.expires)
            draft.put(replace(account, tokens=(*others[-(limits.MAX_DEVICES - 1) :], stored)))
            return ResumeToken(token, stored.expires)

        return self._ask(issue)

    def redeem(self, token: bytes, device: bytes) -> tuple[str, int]:
        """The account that owns a token of this device, and when the token expires (ms since 1970).

        The token stays valid. Raises RefusedError `token-refused`, the same for every reason.
        """
        # Looked up by hash: how long that takes says nothing useful about the token.
        account, stored = self._by_token.get(hashlib.sha256(token).hexdigest(), (None, None))
        if account is None or stored is None or stored.device != device.hex() or stored.expires <= self._clock() * 1000:
            raise RefusedError("token-refused", "log in with the password again")
        return account.name, stored.expires

    def revoke_tokens(self, name: str, *, keep: bytes | None = None) -> Future[Account]:
        """Make the resume tokens of an account worthless, except that of the device `keep`."""
        kept = keep.hex() if keep is not None else None

        def revoke(draft: _Draft) -> Account:
            account = draft.get(name)
            kept_tokens = tuple(token for token in account.tokens if token.device == kept)
            return draft.put(replace(account, tokens=kept_tokens))

        return self._ask(revoke)

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
        draft = _Draft(self._accounts, self._invites)
        outcomes: list[Any] = []
        for change, _ in asked:
            try:
                outcomes.append(change(draft))
            except RefusedError as error:
                outcomes.append(error)
        try:
            if draft.changed or draft.invites != self._invites:
                write_accounts(self._path, (self._accounts | draft.changed).values(), draft.invites.values())
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
        before = self._accounts.get(key := collision_key(account.name))
        for token in before.tokens if before else ():
            self._by_token.pop(token.hash, None)
        for token in account.tokens if account.enabled else ():
            self._by_token[token.hash] = (account, token)
        self._accounts[key] = account


def _hash_code(code: str) -> str:
    return hashlib.sha256(code.strip().lower().encode()).hexdigest()
