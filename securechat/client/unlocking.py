"""Unlocking: whether the password is at hand now, the identity key while it is, and what waits for it otherwise.

    unlocking.at_hand                     whether a password is at hand now: typed and not used up, or in a file
    with unlocking.opened() as key:       the identity key (`vault.identity_key`), which is overwritten at the end of
        key.sign(data)                    the block; takes one Argon2id, but none inside another `opened` or `want`
    unlocking.want("login", work)         have `work` done at once if a password is at hand. If not, the user is told
                                          `PasswordWanted` once, and `commands.Unlock` has it done

A typed password is at hand from the start until the client is logged in (`settle`), and during `Unlock`; a password
file whenever it can be read. So code that needs the identity key calls `want`, and does everything in `work`, which
opens the key before it changes anything and may run in another unit than the call. A file is read once for all of
`work`: what becomes of it meanwhile changes nothing, and what is wrong with it is told and ends nothing. What waits is
kept in memory: after a restart the password is at hand anyway. One thing waits for each reason, and a second `want`
takes its place.
docs/design.md, section 6.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from securechat.client.events import Event, PasswordWanted, WhyPassword
from securechat.client.password_source import PasswordSource
from securechat.client.vault.identity_key import IdentityKey, OpenedKey
from securechat.client.wrapping import WrongPasswordError
from securechat.errors import SecurechatError, StorageError, UsageError


class Unlocking:
    """What one client does with its password. One thread at a time."""

    def __init__(self, source: PasswordSource, identity: IdentityKey, emit: Callable[[Event], None]) -> None:
        """`emit` lets an event out once the transaction is on disk."""
        self._source = source
        self._identity = identity
        self._emit = emit
        self._password: bytearray | None = None  # while somebody works with it
        self._key: OpenedKey | None = None
        self._wanted: dict[WhyPassword, Callable[[], None]] = {}
        self._logged_in = False

    @property
    def at_hand(self) -> bool:
        """Whether a password is at hand now. A file may turn out not to have it any more: `want` asks then."""
        return self._source.at_hand

    def use(self, identity: IdentityKey) -> None:
        """Our identity key is another one now."""
        self._identity = identity

    @contextmanager
    def password(self) -> Iterator[bytearray]:
        """Hand out the password itself, as `PasswordSource.read` does; it is read once for all within the block."""
        if self._password is not None:
            yield self._password
            return
        with self._source.read() as password:
            self._password = password
            try:
                yield password
            finally:
                self._password = None

    @contextmanager
    def opened(self) -> Iterator[OpenedKey]:
        """Hand out the identity key. Raises what `PasswordSource.read` and `IdentityKey.opened` raise."""
        if self._key is not None:
            yield self._key
            return
        with self.password() as password, self._identity.opened(password) as key:
            self._key = key
            try:
                yield key
            finally:
                self._key = None

    def want(self, why: WhyPassword, work: Callable[[], None], *, until: int = 0, ask: bool | None = None) -> None:
        """Have `work` done when a password is at hand: now, or when the user gives it.

        `until`: when it is too late (ms since 1970); 0: no time is. `ask`: whether to ask the user; None: once.
        """
        problem = ""
        if self.at_hand:
            with ExitStack() as held:
                try:
                    held.enter_context(self.password())
                except (StorageError, UsageError) as error:
                    problem = str(error)
                else:
                    try:
                        work()
                    except WrongPasswordError as error:  # the file holds another one than at the start
                        problem = str(error)
                    else:
                        self._wanted.pop(why, None)
                        return
        if why not in self._wanted if ask is None else ask:
            self._emit(PasswordWanted(why, problem, until))
        self._wanted[why] = work

    def unlock(self, password: str) -> None:
        """Do what has waited, with the password that the user gives. Raises `UsageError` if it is not the vault's."""
        self._source.give(password)
        try:
            with self.opened():
                for why in list(self._wanted):
                    work = self._wanted.pop(why, None)
                    if work is None:  # one before has done it
                        continue
                    try:
                        work()
                    except SecurechatError:
                        self._wanted.setdefault(why, work)  # behind the others: it must not stand in their way
                        raise
        except WrongPasswordError as error:
            self._source.forget()
            raise UsageError(f"{error} It is the one that was chosen when the account was set up here.") from None
        if self._logged_in:
            self._source.forget()

    def replaced(self) -> None:
        """Another password is the vault's: what was typed before is of no use any more."""
        self._source.forget()

    def begin_login(self) -> None:
        """A login is to come: what is typed is kept until it is done, over all its connections."""
        self._logged_in = False

    def settle(self) -> None:
        """We are logged in: forget what was typed."""
        self._logged_in = True
        self._source.forget()
