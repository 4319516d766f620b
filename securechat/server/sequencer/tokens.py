"""Logins take effect: by a password, which gets the device a resume token, or by that token and the device's key.

A token alone is worthless: whoever resumes signs with the key that the directory has of the device, so that a token
follows the device from key to key, and ends when the device is dropped. A device that is not published has no key yet.

A token stays the same until the next login with the password. Were each use to put another in its place, a server that
is restored from a backup would ask everybody for the password, and a thief who uses a copy would shut its owner out.

What was true of an account when its password was compared, or its token made, is compared again here, in the turn: an
account whose password was set anew since, or which was disabled, is in another generation.
"""

import hashlib
import secrets
import time
from dataclasses import replace
from typing import Final

from securechat.errors import RefusedError
from securechat.identity.certificate import DeviceCertificate
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
from securechat.mls.errors import InvalidMessage
from securechat.server.accounts.records import Account
from securechat.server.clock import MAX_LEAP
from securechat.server.rates import Rates
from securechat.server.sequencer.operations import FindAccount, PasswordChecked, PasswordReplaced, Resuming
from securechat.server.sequencer.seats import Seats
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Turn
from securechat.server.status import Counters
from securechat.server.store.port import DirectoryStore, TokenStore
from securechat.server.store.records import Token
from securechat.wire.limits import TOKEN_LENGTH
from securechat.wire.messages import ExtendToken, PasswordChanged, Resume, TokenExtended
from securechat.wire.possession import LABEL, Channel

SUITE = MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519

TOKEN_SECONDS = 30 * 86_400
"""Life of a resume token since it was made or extended: as long as an absent reader's place in a log is kept."""

NOTED_MILLISECONDS = 600_000
"""How exactly is kept when a device came in last: ten minutes, so that few of those who come back cost a write."""

OTHERS_DEVICE: Final = "the id of this device belongs to another account here: start with a new vault"


class Tokens:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: TokenStore,
        directory: DirectoryStore,
        seats: Seats,
        rates: Rates,
        counters: Counters,
        find_account: FindAccount,
    ) -> None:
        self._turn = turn
        self._store = store
        self._directory = directory
        self._seats = seats
        self._rates = rates
        self._counters = counters
        self._find_account = find_account

    def password_checked(self, session: Session, checked: PasswordChecked) -> None:
        """Let somebody in who knows the password, with a new token for the device."""
        self._seats.tell_secret(session, checked.account)  # also where nobody is left to be let in
        if session.ended:
            return
        request, account = checked.request, checked.account
        if self._current(account.name, account.generation) is None:
            raise RefusedError(
                "login-refused",
                "meanwhile the password was set anew, or the operator has disabled the account: log in again",
            )
        if self._directory.account_of(request.device) not in ("", account.name):
            raise RefusedError("not-allowed", OTHERS_DEVICE)
        token, now = secrets.token_bytes(TOKEN_LENGTH), self._turn.time
        expires = now + TOKEN_SECONDS * 1000
        self._store.put(Token(_digest(token), account.name, request.device, account.generation, expires, used=now))
        self._turn.after(lambda: self._seats.attach(session, request, account, token, expires))

    def password_replaced(self, session: Session, replaced: PasswordReplaced) -> None:
        """The account has a new password and so no token any more: its device that has set it gets one."""
        request, account = replaced.request, replaced.account
        if self._current(account.name, account.generation) is None:
            raise RefusedError("login-refused", "meanwhile the password was set anew, or the account was disabled")
        token, now = secrets.token_bytes(TOKEN_LENGTH), self._turn.time
        expires = now + TOKEN_SECONDS * 1000
        self._store.put(Token(_digest(token), account.name, session.device, account.generation, expires, used=now))
        session.by_password, session.secret_set = True, account.secret_set
        self._turn.answer(session, PasswordChanged(request.id, token, expires, account.secret_set))

    def resume(self, session: Session, resuming: Resuming) -> None:
        """Let a device in that has a token, and its key, and note when."""
        token = self.resume_without_room(session, resuming)
        if token is not None and self._turn.time - token.used > NOTED_MILLISECONDS:
            self._store.put(replace(token, used=self._turn.time))

    def resume_without_room(self, session: Session, resuming: Resuming) -> Token | None:
        """The same without the note, where the disk is full: nobody is kept out because of that. Return the token."""
        request, attempts = resuming.request, self._rates.attempts_by_address
        try:
            attempts.take(resuming.address, time.monotonic())  # by the clock of those who try passwords
            account, found = self._redeem(request, resuming.channel)
        except RefusedError as error:
            resuming.refused(error)
            return None
        # Given back before the next one is looked at: a thousand who come back at once are no attempts.
        attempts.give_back(resuming.address)

        def enter() -> None:
            self._rates.remember(account.name, resuming.address)
            self._counters.tried("resume", "accepted")
            self._seats.attach(session, request, account, request.token, found.expires)

        self._turn.after(enter)
        return found

    def extend(self, session: Session, request: ExtendToken) -> None:
        """Handle `ExtendToken`: whoever is there once a fortnight is not asked for the password because of it."""
        now = self._turn.time
        token, device = self._of(session.account, session.device), self._directory.device(session.who)
        in_date = device is not None and now // 1000 <= DeviceCertificate.decode(device.certificate).not_after
        if token is None or token.expires <= now or not in_date:
            raise RefusedError("token-refused", "log in with the password again")
        extended = replace(token, expires=now + TOKEN_SECONDS * 1000)
        self._store.put(extended)
        self._turn.answer(session, TokenExtended(request.id, extended.expires))

    def _of(self, account: str, device: bytes) -> Token | None:
        return next((token for token in self._store.of(account) if token.device == device), None)

    def _redeem(self, request: Resume, channel: Channel) -> tuple[Account, Token]:
        """The account of a device's token, and that one. The refusal is the same for every reason."""
        # Looked up by hash: how long that takes says nothing useful about the token.
        found = self._store.find(_digest(request.token))
        if found is not None and found.device == request.device and self._is_good(found):
            account = self._current(found.account, found.generation)
            # Last, because it costs most: who has no token is refused for a look-up.
            if account is not None and self._holds_key(found.account, request, channel):
                return account, found
        raise RefusedError("token-refused", "log in with the password again")

    def _is_good(self, token: Token) -> bool:
        """Whether a token has not expired. One with more life than any is given was made by a clock that was wrong."""
        return 0 < token.expires - self._turn.time <= (TOKEN_SECONDS + MAX_LEAP) * 1000

    def _holds_key(self, account: str, request: Resume, channel: Channel) -> bool:
        """Whether the proof is by the key that the directory has of the device."""
        device = self._directory.device((account, request.device))
        if device is None:
            return False
        key = DeviceCertificate.decode(device.certificate).signature_key
        try:
            SUITE.verify_with_label(key, LABEL, channel.possession(account, request.device), request.proof)
        except InvalidMessage:
            return False
        return True

    def _current(self, name: str, generation: int) -> Account | None:
        """The account, if it is in this generation and not disabled."""
        account = self._find_account(name)
        return account if account is not None and account.enabled and account.generation == generation else None


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
