"""The directory: published devices, and their key packages, each handed out once (docs/design.md, section 4, keys)."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from securechat.errors import PeerError, RefusedError, StorageError
from securechat.identity.certificate import DeviceCertificate
from securechat.server.logs import get_logger
from securechat.server.rates import Rates
from securechat.server.sequencer.checks import Checks
from securechat.server.sequencer.news import News
from securechat.server.sequencer.operations import KeyPackagesChecked, Tokens, TokensRevoked
from securechat.server.sequencer.seats import Seats
from securechat.server.sequencer.session import Session, Sessions
from securechat.server.sequencer.turn import Turn
from securechat.server.sequencer.validation import Validator, in_date
from securechat.server.store.port import DirectoryStore
from securechat.server.store.records import Device
from securechat.wire import limits
from securechat.wire.messages import (
    Done,
    FetchKeyPackages,
    KeyPackages,
    PublishDevice,
    PublishKeyPackages,
    Refused,
    Stock,
)

log = get_logger(__name__)


class Directory:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: DirectoryStore,
        sessions: Sessions,
        seats: Seats,
        news: News,
        validator: Validator,
        checks: Checks,
        rates: Rates,
        tokens: Tokens,
        hand_in: Callable[[Session, object], None],
    ) -> None:
        """`hand_in(session, operation)` gives the sequencer something to do, from any thread."""
        self._turn = turn
        self._store = store
        self._sessions = sessions
        self._seats = seats
        self._news = news
        self._validator = validator
        self._checks = checks
        self._rates = rates
        self._tokens = tokens
        self._hand_in = hand_in

    def publish_device(self, session: Session, request: PublishDevice) -> None:
        """Handle `PublishDevice`."""
        self._publish(session, request, tokens_revoked=False)

    def tokens_revoked(self, session: Session, revoked: TokensRevoked) -> None:
        """Go on with a `PublishDevice` that replaces the identity key."""
        self._publish(session, revoked.request, tokens_revoked=True)

    def _publish(self, session: Session, request: PublishDevice, *, tokens_revoked: bool) -> None:
        account, device = session.account, session.device
        try:
            certificate = self._validator.certificate(request.certificate, account, device, self._turn.time // 1000)
        except PeerError as error:
            raise RefusedError("bad-request", str(error)) from None
        known = self._store.device(device)
        if known is not None and known.account != account:
            raise RefusedError("bad-request", "this device id is taken; choose another one")
        others = [other for other in self._store.devices(account) if other.device != device]
        changed = {device} if known is None else set()
        identity_key = self._store.identity_key(account)
        if identity_key and identity_key != certificate.identity_key:
            if not request.replace_identity:
                raise RefusedError(
                    "identity-differs",
                    "this account has another identity key, made on another device or lost: import it, or replace it",
                )
            if not tokens_revoked:  # first, so that no device of the old key can come back after a crash in between
                self._turn.after(lambda: self._revoke(session, request))
                return
            self._drop(account, others)
            changed |= {other.device for other in others}
            others = []
            log.info("identity key replaced", client=session.outlet.address, account=account)
        taken = {DeviceCertificate.decode(other.certificate).signature_key for other in others}
        if certificate.signature_key in taken:
            raise RefusedError("bad-request", "another device of this account has the same signature key")
        if len(others) >= limits.MAX_DEVICES:
            raise RefusedError("bad-request", f"an account has {limits.MAX_DEVICES} devices at most")
        if known is not None and known.certificate != request.certificate:
            self._store.drop_devices([device])  # its key packages belong to the old certificate
        self._store.put_device(Device(device, account, request.certificate), certificate.identity_key)
        self._turn.answer(session, Done(request.id))
        if changed:
            self._turn.after(lambda: self._news.tell(changed))

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

    def _drop(self, account: str, others: list[Device]) -> None:
        self._store.drop_devices([other.device for other in others])

        def expel() -> None:
            for other in others:
                if (session := self._sessions.find(account, other.device)) is not None:
                    self._seats.expel(session, "revoked", "the account has a new identity key")

        self._turn.after(expel)

    def publish_key_packages(self, session: Session, request: PublishKeyPackages) -> None:
        """Handle `PublishKeyPackages`: a worker checks them first."""
        owner = self.certificate(session)
        self._limit(session, request)
        encoded = [*request.key_packages, *([request.last_resort] if request.last_resort else [])]
        now = self._turn.time // 1000

        def work() -> KeyPackagesChecked:
            self._validator.key_packages(encoded, owner, now)
            return KeyPackagesChecked(request)

        self._checks.check(session, request, work)

    def key_packages_checked(self, session: Session, checked: KeyPackagesChecked) -> None:
        """Keep key packages that have passed the checks."""
        request = checked.request
        self.certificate(session)
        self._limit(session, request)
        self._store.put_key_packages(session.device, request.key_packages, request.last_resort)
        self._turn.answer(session, Stock(request.id, self._store.count_key_packages(session.device)))

    def fetch_key_packages(self, session: Session, request: FetchKeyPackages) -> None:
        """Handle `FetchKeyPackages`."""
        self._rates.fetches.take(session.account, self._turn.now)
        devices = self._store.devices(request.account)
        if not devices:
            raise RefusedError("not-found", f"{request.account} does not exist, or has never connected")
        try:
            self._rates.fetches_of.take(request.account, self._turn.now)
            only_last_resort = False
        except RefusedError:
            only_last_resort = True  # others have asked for too many: an honest requester is not refused for that
        taken = [self._take(each.device, only_last_resort=only_last_resort) for each in devices]
        key_packages = [key_package for key_package in taken if key_package]
        if not key_packages and any(each is not None for each in taken):
            raise RefusedError("not-found", f"{request.account} has been away too long; nothing could be sent")
        if not key_packages:
            raise RefusedError("busy", f"{request.account} is still setting up; try again in a moment")
        self._turn.answer(session, KeyPackages(request.id, request.account, key_packages))

    def _take(self, device: bytes, *, only_last_resort: bool) -> bytes | None:
        """Take the first key package that is in date, and drop those before it; empty: all are out of date.

        None: the device has none at all.
        """
        stale: bytes | None = None
        while taken := self._store.take_key_package(device, only_last_resort=only_last_resort):
            if in_date(taken, self._turn.time // 1000):
                return taken
            if taken == stale:  # the last-resort one, which is there until another takes its place
                return b""
            stale = taken
        return None if stale is None else b""

    def certificate(self, session: Session) -> DeviceCertificate:
        """Return the certificate of a session's device, or raise RefusedError `not-now` before it is published."""
        device = self._store.device(session.device)
        if device is None or device.account != session.account:
            raise RefusedError("not-now", "publish this device first")
        return DeviceCertificate.decode(device.certificate)

    def unknown(self, certificates: Sequence[DeviceCertificate]) -> DeviceCertificate | None:
        """Return the first certificate whose device is not published under this account and identity key, or None."""
        owners = self._store.owners([each.device_id for each in certificates])
        for each in certificates:
            if owners.get(each.device_id) != (each.account, each.identity_key):
                return each
        return None

    def _limit(self, session: Session, request: PublishKeyPackages) -> None:
        stock = self._store.count_key_packages(session.device)
        if stock + len(request.key_packages) > limits.MAX_KEY_PACKAGES:
            raise RefusedError("too-large", f"{stock} are here already; {limits.MAX_KEY_PACKAGES} are kept at most")
