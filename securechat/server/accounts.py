"""Who may log in: password hashes and resume tokens in `accounts.json`, and the workers that hash. Design, section 5.

What is kept: for each account an Argon2id hash (PHC string) of the 32-byte secret that the client derives from the
password, and SHA-256 hashes of its devices' resume tokens. Neither passwords, nor secrets, nor tokens are kept.

Since the server never sees a password, the operator cannot set one. What the operator gives out are invites: codes that
are good once, and of which only the hash is kept. One for no account lets anybody make a new one; one for an account
lets its owner make that account, or set a new password for it.

`AccountStore` holds everything in memory and rewrites the file whole. One thread of its own does that: it takes all
changes asked for since it last looked, applies them beside the current state, writes, and only then lets them count
and answers. So what is visible is on disk, a failed write leaves all as it was, and a burst costs one fsync.

`PasswordWorkers` are few, because Argon2 takes memory as well as time, and their queue is short: who does not fit in is
told `busy` at once.

    {"format": "securechat accounts", "version": 1, "accounts": [
      {"name": "alice", "hash": "$argon2id$v=19$...", "created": 1735689600, "enabled": true,
       "tokens": [{"device": "<hex>", "hash": "<hex>", "expires": 1738281600000}]}],
     "invites": [{"hash": "<hex>", "account": "bob", "created": 1735689600000, "expires": 1736294400000}]}
"""

import contextlib
import hashlib
import hmac
import json
import os
import queue
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import argon2
import msgspec
from argon2.exceptions import VerificationError, VerifyMismatchError
from msgspec.structs import replace

from securechat.errors import RefusedError, SecurechatError, StorageError, UsageError
from securechat.files import FileLock, make_private_folder, write_atomically
from securechat.names import collision_key, normalise_account
from securechat.server.logs import get_logger
from securechat.server.workers import join
from securechat.wire.limits import SECRET_LENGTH, TOKEN_LENGTH

log = get_logger(__name__)

VERSION: Literal[1] = 1

MAX_ACCOUNTS = 10_000
"""Beyond that, rewriting the file for each change takes too long; larger sites use PostgreSQL (design, section 5)."""

MAX_DEVICES = 16
"""Resume tokens of one account, one a device; the one that expires first makes room."""

MAX_FILE = 64 << 20
"""Bytes of `accounts.json`: 10,000 accounts with all their tokens take under 40 MB."""

TOKEN_SECONDS = 30 * 86_400
"""Life of a resume token: as long as an absent reader's place in a log is kept."""

INVITE_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
INVITE_LENGTH = 20
"""99 bits, in letters that are not mistaken for one another when they are read out: nobody guesses one."""

MAX_INVITES = 1000
"""Invites at once: more than an operator hands out, and few next to the accounts."""

USED_SECONDS = 3600
"""How long a used invite still lets the account that used it repeat its registration."""

MAX_WORKERS = 2
"""Hashes computed at once, on any machine: bounds their memory to 92 MiB."""

_PROCESSORS = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

WORKERS = max(1, min(MAX_WORKERS, _PROCESSORS - 1))
"""Hashes computed at once, on this machine: one processor is left for the chat. Two on two processors let those who are
in wait five times as long for the slowest of their messages while others guess at passwords; one, twice at most."""

NICENESS = 10
"""Added to that of the workers: another thread that wants the same processor gets nine times as much of it."""

QUEUE = 16
"""Logins that wait for a worker: half a second's worth. Longer queues only make everybody time out."""

RESERVED = 4
"""Places more for those who come from where their account has logged in before: guesses of others keep none out."""

COST = argon2.Parameters(
    type=argon2.Type.ID, version=19, salt_len=16, hash_len=32, memory_cost=46 << 10, time_cost=1, parallelism=1
)
"""46 MiB, one pass, one lane: the first of OWASP's equivalent choices, about 50 ms here.

RFC 9106's profiles cost several times that. Whoever steals the file has to compute, for each guess, the client's
Argon2id (64 MiB, three passes; `client.password`) before this one: most of the price of guessing is paid there.
"""

MAX_MEMORY_KIB, MAX_PASSES, MAX_LANES = 256 << 10, 16, 16
"""Costs beyond these in a stored hash are refused when the file is read: one login must not stop the server."""

_PHC = re.compile(
    r"\$argon2id\$v=19\$m=([1-9]\d{0,6}),t=([1-9]\d{0,2}),p=([1-9]\d{0,2})\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}"
)
"""What argon2-cffi writes for a 16-byte salt and a 32-byte hash, and nothing else."""

_Hex16 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$")]
_Hex32 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
_Time = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]  # what every JSON reader can hold


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A resume token as it is stored: SHA-256 of its bytes, good for one device until `expires` (ms since 1970)."""

    device: _Hex16
    hash: _Hex32
    expires: _Time


class Account(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One account as it is stored. `created` in seconds since 1970. The operator may turn `enabled` off in the file."""

    name: str
    hash: str
    created: _Time
    enabled: bool = True
    tokens: Annotated[tuple[Token, ...], msgspec.Meta(max_length=MAX_DEVICES)] = ()

    def __repr__(self) -> str:
        """Show no hashes: guessing passwords begins with one."""
        return f"Account({self.name!a}, created={self.created}, enabled={self.enabled}, tokens=<{len(self.tokens)}>)"


class Invite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A code that is good once, as it is stored: its SHA-256, when it was made and until when it is good (ms)."""

    hash: _Hex32
    created: _Time
    expires: _Time
    account: str = ""
    """Whose it is: to make this account, or to set its password anew. Empty: for any new account."""
    used: bool = False
    """By `account`; it is kept for a while for a client that has not heard of its success and asks again."""

    @property
    def id(self) -> str:
        """What the operator calls it by."""
        return self.hash[:8]


class _File(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    format: Literal["securechat accounts"]
    version: Literal[1]
    accounts: list[Account]
    invites: Annotated[list[Invite], msgspec.Meta(max_length=MAX_INVITES)] = []


@dataclass(frozen=True)
class ResumeToken:
    """A new token for a device: TOKEN_LENGTH bytes that exist nowhere else, good until `expires` (ms since 1970)."""

    token: bytes
    expires: int

    def __repr__(self) -> str:
        """Show no token."""
        return f"ResumeToken(expires={self.expires})"


@dataclass(frozen=True)
class InviteCode:
    """A new invite: its code exists nowhere else."""

    code: str
    invite: Invite

    def __repr__(self) -> str:
        """Show no code."""
        return f"InviteCode({self.invite.id})"


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
        """Whoever has the name, in whatever case."""
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


def check_registration(mode: Literal["open", "closed", "invite"], code: str, presented: str) -> None:
    """Raise RefusedError unless somebody who presents this invite code may register. Takes equal time for all codes."""
    if mode == "open":
        return
    if mode == "closed":
        raise RefusedError("registration-closed", "this server takes no new accounts; ask its operator for one")
    # Hashed first, so that not even the length shows. An operator who has set no code gives out one-time codes only.
    if not code or not hmac.compare_digest(*(hashlib.sha256(text.encode()).digest() for text in (code, presented))):
        raise RefusedError("registration-closed", "this server asks for an invite code, and this is not it")


# --- reading the file -------------------------------------------------------------------------------------------------


def read_accounts(path: Path) -> tuple[list[Account], list[Invite]]:
    """Read the file, which somebody else may be writing; nothing, where it never was.

    Raises StorageError if it is damaged: with the position.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        if _previous(path).exists():  # a fresh start would let strangers register the names of those who are in it
            _damaged(path, f"is missing, but {_previous(path).name} is there")
        return [], []
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_FILE:
        _damaged(path, f"is larger than {MAX_FILE:,} bytes")
    stored = _parse(path, data)
    names: dict[str, str] = {}
    for invite in stored.invites:
        if invite.account:
            _check_name(path, invite.account, "an invite for")
    for account in stored.accounts:
        _check_name(path, account.name, "an account")
        _check_hash(path, account)
        if other := names.get(collision_key(account.name)):
            _damaged(path, f"holds {other!a} and {account.name!a}, which differ in case at most")
        names[collision_key(account.name)] = account.name
    return stored.accounts, stored.invites


def _previous(path: Path) -> Path:
    """The name of the generation before."""
    return path.with_name(path.name + ".previous")


def _parse(path: Path, data: bytes) -> _File:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                _damaged(path, f"holds the key {key[:64]!a} twice in one object")
            found[key] = value
        return found

    # Not msgspec's parser, which is silent about keys that stand twice and about line numbers.
    try:
        document = json.loads(data.decode(), object_pairs_hook=unique)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        _damaged(path, f"is damaged at line {line}: the bytes there are not UTF-8")
    except json.JSONDecodeError as error:
        _damaged(path, f"is damaged at line {error.lineno}, column {error.colno}: {error.msg}")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, nesting without end
        _damaged(path, f"is damaged: {error}")
    try:
        return msgspec.convert(document, _File)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # names the place: `$.accounts[3].hash`
        _damaged(path, f"is damaged, or of another version of securechat: {error}")


def _check_name(path: Path, name: str, what: str) -> None:
    try:
        if normalise_account(name) != name:
            raise UsageError("the name is not in its one spelling")
    except UsageError as error:
        _damaged(path, f"holds {what} {name[:64]!a}, which nobody can have: {error}")


def _check_hash(path: Path, account: Account) -> None:
    match = _PHC.fullmatch(account.hash)
    if match is None:
        _damaged(path, f"has an account {account.name!a} whose hash is not one of Argon2id")
    memory, passes, lanes = map(int, match.groups())
    if memory > MAX_MEMORY_KIB or passes > MAX_PASSES or lanes > MAX_LANES or memory < 8 * lanes:
        _damaged(path, f"has an account {account.name!a} whose hash asks for more work than is ever honest")


def _damaged(path: Path, what: str) -> NoReturn:
    hint = f" The generation before it is {_previous(path)}." if _previous(path).exists() else ""
    what = what[:500]  # it may quote what is in the file
    raise StorageError(f"{path} {what}. It was left as it is.{hint}")


class AccountStore:
    """All accounts. Every method may be called from any thread; none of them waits for the disk."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Read `path`, or begin without accounts where neither it nor an earlier generation exists.

        Raises StorageError if another server uses it, or if it is damaged: with the position, and left as it is.
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
        """Set a password anew, with an invite for this account: it is enabled then, and its devices are logged out."""

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
        """Put `new` in the place of `old`; does nothing if the hash has changed meanwhile."""

        def exchange(draft: _Draft) -> Account:
            account = draft.get(name)
            return draft.put(replace(account, hash=new)) if account.hash == old else account

        return self._ask(exchange)

    def set_enabled(self, name: str, *, enabled: bool) -> Future[Account]:
        """Let an account log in, or not: then its tokens and the invites for it are worthless, too."""

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
        """Make an invite, for an account (in the place of those that it has) or, with "", for any new one."""
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
        """The invite that a code stands for, if it is good for this account, or was used by it just now."""
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
        """Make a resume token for a device, in the place of the one it had."""
        token = secrets.token_bytes(TOKEN_LENGTH)
        now = int(self._clock() * 1000)
        stored = Token(device.hex(), hashlib.sha256(token).hexdigest(), now + TOKEN_SECONDS * 1000)

        def issue(draft: _Draft) -> ResumeToken:
            account = draft.get(name)
            _check_enabled(account)
            others = [other for other in account.tokens if other.device != stored.device and other.expires > now]
            others.sort(key=lambda other: other.expires)
            draft.put(replace(account, tokens=(*others[-(MAX_DEVICES - 1) :], stored)))
            return ResumeToken(token, stored.expires)

        return self._ask(issue)

    def redeem(self, token: bytes, device: bytes) -> tuple[str, int]:
        """The account that a token of this device stands for, and when the token expires (ms since 1970).

        The token stays valid. Raises RefusedError `token-refused`, the same for every reason.
        """
        # Looked up by hash: how long a look-up takes says nothing useful about the token that it is the hash of.
        account, stored = self._by_token.get(hashlib.sha256(token).hexdigest(), (None, None))
        if account is None or stored is None or stored.device != device.hex() or stored.expires <= self._clock() * 1000:
            raise RefusedError("token-refused", "log in with the password again")
        return account.name, stored.expires

    def revoke_tokens(self, name: str, *, keep: bytes | None = None) -> Future[Account]:
        """Make the resume tokens of an account worthless, but for the one of the device `keep`."""
        kept = keep.hex() if keep is not None else None

        def revoke(draft: _Draft) -> Account:
            account = draft.get(name)
            kept_tokens = tuple(token for token in account.tokens if token.device == kept)
            return draft.put(replace(account, tokens=kept_tokens))

        return self._ask(revoke)

    def close(self) -> None:
        """Write what has been asked for and let the file go. Changes asked for later are refused."""
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
                self._write(self._accounts | draft.changed, draft.invites)
            for account in draft.changed.values():
                self._show(account)
            self._invites = draft.invites
        except StorageError as error:
            outcomes = [error] * len(asked)  # the refused ones too: what they were refused for did not come about
        for (_, future), outcome in zip(asked, outcomes, strict=True):
            if isinstance(outcome, SecurechatError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def _write(self, accounts: dict[str, Account], invites: dict[str, Invite]) -> None:
        file = _File("securechat accounts", VERSION, list(accounts.values()), list(invites.values()))
        data = msgspec.json.format(msgspec.json.encode(file), indent=1)  # as text that a person can read and mend
        write_atomically(self._path, data, previous=_previous(self._path))

    def _show(self, account: Account) -> None:
        """Let the account count, now that it is on disk."""
        before = self._accounts.get(key := collision_key(account.name))
        for token in before.tokens if before else ():
            self._by_token.pop(token.hash, None)
        for token in account.tokens if account.enabled else ():
            self._by_token[token.hash] = (account, token)
        self._accounts[key] = account


class PasswordWorkers:
    """Threads that compare and make password hashes, at most WORKERS at once, at most QUEUE waiting."""

    def __init__(self, store: AccountStore, *, cost: argon2.Parameters = COST) -> None:
        """Start the threads; `cost` of new hashes."""
        self._store = store
        self._hasher = argon2.PasswordHasher.from_parameters(cost)
        self._nobody = self._hasher.hash(os.urandom(SECRET_LENGTH))  # no secret fits it
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._closing = False
        self._lock = threading.Lock()  # protects _closing, and _jobs from growing: no job comes after the last
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
        return self._jobs.qsize()

    def submit_login(
        self,
        name: str,
        secret: bytes,
        device: bytes,
        answer: Callable[[ResumeToken | SecurechatError], None],
        *,
        familiar: bool = False,
    ) -> None:
        """Check a login; `answer` gets a resume token for the device, on disk, or RefusedError `login-refused`.

        `familiar`: the account has logged in from there before, so the reserved places may be taken.
        An unknown name costs the same work and gets the same answer as a wrong secret. `answer` is called on another
        thread and must not raise. Raises RefusedError `busy` at once if too many wait already.
        """

        def job() -> None:
            answer(_outcome(lambda: self._login(name, secret, device)))

        self._submit(job, QUEUE + RESERVED if familiar else QUEUE)

    def submit_register(
        self,
        name: str,
        secret: bytes,
        answer: Callable[[Account | SecurechatError], None],
        *,
        invite: str = "",
        invited: bool = False,
    ) -> None:
        """Make an account; `answer` gets it once it is on disk, or RefusedError `name-taken`. Otherwise as above.

        Repeating it with the same secret gets the account that is there. `invite`: a code to use up, which may also set
        the password of an account anew; `invited`: without it, a new account is refused.
        """
        if normalise_account(name) != name:
            raise UsageError(f"{name!a} is not in its one spelling")

        def job() -> None:
            answer(_outcome(lambda: self._register(name, secret, invite, invited=invited)))

        self._submit(job, QUEUE)

    def close(self) -> None:
        """Finish what is queued and stop. Jobs submitted later are refused."""
        with self._lock:
            self._closing = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            join(thread)

    def _submit(self, job: Callable[[], None], room: int) -> None:
        with self._lock:
            if self._closing or self._jobs.qsize() >= room:
                raise RefusedError("busy", "too many people are logging in at this moment; try again soon")
            self._jobs.put(job)

    def _work(self) -> None:
        _give_way()
        while (job := self._jobs.get()) is not None:
            job()

    def _login(self, name: str, secret: bytes, device: bytes) -> ResumeToken:
        account = self._verified(name, secret)
        _check_enabled(account)
        if self._hasher.check_needs_rehash(account.hash):
            self._store.replace_hash(name, account.hash, self._hasher.hash(secret))
        return self._store.issue_token(name, device).result()

    def _register(self, name: str, secret: bytes, invite: str, *, invited: bool) -> Account:
        account = self._store.get(name)
        if account is None:
            try:
                return self._store.add(name, self._hasher.hash(secret), invite=invite, invited=invited).result()
            except RefusedError:
                # Unless the same request came twice at once, and the other one was faster:
                if self._store.get(name) is None:
                    raise
        elif (found := self._store.find_invite(invite, name)) is not None and found.account == name and not found.used:
            return self._store.reset(name, self._hasher.hash(secret), invite).result()
        try:
            return self._verified(name, secret)
        except RefusedError:
            raise RefusedError("name-taken", f"the name {name} is taken") from None

    def _verified(self, name: str, secret: bytes) -> Account:
        """The account, if the secret is its own; else RefusedError `login-refused`, after the same work for all."""
        account = self._store.get(name)
        try:
            self._hasher.verify(account.hash if account else self._nobody, secret)
        except VerifyMismatchError:
            account = None
        if account is None:
            raise RefusedError("login-refused", "wrong user name or password")
        return account


def _give_way() -> None:
    """Let this thread have what the others leave of the processors: those who are in come before those who want in."""
    if sys.platform == "linux":  # elsewhere a priority is that of the whole process
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.nice(NICENESS)


def _outcome(work: Callable[[], Value]) -> Value | SecurechatError:
    """What a job comes to. A worker outlives every job: what it cannot foresee becomes an answer and a log line."""
    try:
        return work()
    except SecurechatError as error:
        return error
    except (VerificationError, argon2.exceptions.HashingError, MemoryError):
        return RefusedError("busy", "the server is short of memory at this moment; try again soon")
    except Exception:
        log.exception("internal error while a password was checked")
        return RefusedError("busy", "the server could not check the password; try again later")


def _check_enabled(account: Account) -> None:
    if not account.enabled:
        raise RefusedError("login-refused", "this account has been disabled by the operator")


def _hash_code(code: str) -> str:
    return hashlib.sha256(code.strip().lower().encode()).hexdigest()
