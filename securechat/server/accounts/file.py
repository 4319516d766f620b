"""The file `accounts.json`: its format, and what counts as damage (docs/design.md, section 5, Accounts).

    {"format": "securechat accounts", "version": 2, "accounts": [
      {"name": "alice", "hash": "$argon2id$v=19$...", "created": 1735689600, "enabled": true,
       "generation": 1735689600000}],
     "invites": [{"hash": "<hex>", "account": "bob", "created": 1735689600000, "expires": 1736294400000}]}

It is written whole, and the one before it is kept as `accounts.json.previous`. Version 1 held resume tokens, too, which
no device can prove to be its own: they are dropped, and each device logs in with the password once.
"""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import msgspec

from securechat.errors import StorageError, UsageError
from securechat.files import open_to_read, write_atomically
from securechat.names import collision_key, normalise_account
from securechat.server.accounts.records import Account, Invite

VERSION: Literal[2] = 2

MAX_INVITES = 1000
"""Invites at once: more than an operator hands out, and few next to the accounts."""

MAX_FILE = 64 << 20
"""Bytes of `accounts.json`: of version 1, 10,000 accounts with all their tokens took under 40 MB."""

MAX_MEMORY_KIB, MAX_PASSES, MAX_LANES = 256 << 10, 16, 16
"""A stored hash that costs more than this is refused when the file is read: one login must not stop the server."""

_PHC = re.compile(
    r"\$argon2id\$v=19\$m=([1-9]\d{0,6}),t=([1-9]\d{0,2}),p=([1-9]\d{0,2})\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}"
)
"""What argon2-cffi writes for a 16-byte salt and a 32-byte hash, and nothing else."""


class _File(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    format: Literal["securechat accounts"]
    version: Literal[1, 2]
    accounts: list[Account]
    invites: Annotated[list[Invite], msgspec.Meta(max_length=MAX_INVITES)] = []


def read_accounts(path: Path) -> tuple[list[Account], list[Invite]]:
    """Read the file, which somebody else may be writing. Without a file there are no accounts.

    Raises StorageError with the position of any damage.
    """
    try:
        with os.fdopen(open_to_read(path), "rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        if _previous(path).exists():  # starting afresh would let strangers register the names in it
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


def write_accounts(path: Path, accounts: Iterable[Account], invites: Iterable[Invite]) -> None:
    """Write the file, and keep the one before it. Raises StorageError: the old one is there as it was."""
    file = _File("securechat accounts", VERSION, list(accounts), list(invites))
    data = msgspec.json.format(msgspec.json.encode(file), indent=1)  # text that a person can read and repair
    write_atomically(path, data, previous=_previous(path))


def _previous(path: Path) -> Path:
    """The path of the previous generation."""
    return path.with_name(path.name + ".previous")


def _parse(path: Path, data: bytes) -> _File:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                _damaged(path, f"holds the key {key[:64]!a} twice in one object")
            found[key] = value
        return found

    # Not msgspec's parser, which tells neither duplicate keys nor line numbers.
    try:
        document = json.loads(data.decode(), object_pairs_hook=unique)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        _damaged(path, f"is damaged at line {line}: the bytes there are not UTF-8")
    except json.JSONDecodeError as error:
        _damaged(path, f"is damaged at line {error.lineno}, column {error.colno}: {error.msg}")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, nesting without end
        _damaged(path, f"is damaged: {error}")
    if isinstance(document, dict) and document.get("version") == 1 and isinstance(document.get("accounts"), list):
        for account in document["accounts"]:
            if isinstance(account, dict):
                account.pop("tokens", None)
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
    if account.deleted:
        if account.hash or account.enabled:
            _damaged(path, f"has an account {account.name!a} that was deleted and can log in")
        return
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
