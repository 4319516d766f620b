"""The directory: published devices, and their key packages, each handed out once (docs/design.md, section 4, keys)."""

from collections.abc import Sequence

from securechat.errors import RefusedError
from securechat.identity.certificate import DeviceCertificate
from securechat.server.rates import Rates
from securechat.server.sequencer.checks import Checks
from securechat.server.sequencer.operations import FindAccount, KeyPackagesChecked
from securechat.server.sequencer.session import Session
from securechat.server.sequencer.turn import Turn
from securechat.server.sequencer.validation import Validator, reference
from securechat.server.store.port import DirectoryStore
from securechat.server.store.records import Device, Membership
from securechat.wire import limits
from securechat.wire.messages import (
    FetchKeyPackages,
    KeyPackages,
    PublishKeyPackages,
    Stock,
)


def published(store: DirectoryStore, members: Sequence[Membership]) -> frozenset[bytes]:
    """Return the devices of members that are in the directory under their account."""
    owners = store.owners([member.device for member in members])
    return frozenset(each.device for each in members if owners.get(each.device, ("",))[0] == each.account)


def _is_live(device: Device, time: int) -> bool:
    """Whether somebody can be added by a device's key packages at `time` (ms): they end with its certificate."""
    return time // 1000 <= DeviceCertificate.decode(device.certificate).not_after


class Directory:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        store: DirectoryStore,
        validator: Validator,
        checks: Checks,
        rates: Rates,
        find_account: FindAccount,
    ) -> None:
        self._turn = turn
        self._store = store
        self._validator = validator
        self._checks = checks
        self._rates = rates
        self._find_account = find_account

    def publish_key_packages(self, session: Session, request: PublishKeyPackages) -> None:
        """Handle `PublishKeyPackages`: a worker checks them first."""
        owner = self.certificate(session)
        self._limit(session, request)
        encoded = [*request.key_packages, *([request.last_resort] if request.last_resort else [])]
        now = self._turn.time // 1000

        def work() -> KeyPackagesChecked:
            self._validator.key_packages(encoded, owner, now)
            return KeyPackagesChecked(request, owner)

        self._checks.check(session, request, work)

    def key_packages_checked(self, session: Session, checked: KeyPackagesChecked) -> None:
        """Keep key packages that have passed the checks."""
        request = checked.request
        if self.certificate(session) != checked.owner:
            raise RefusedError("old-certificate", "this device has published a newer certificate meanwhile")
        self._limit(session, request)
        self._store.put_key_packages(session.device, request.key_packages, request.last_resort)
        device = self._store.device(session.who)
        live = device is not None and _is_live(device, self._turn.time)
        there = self._store.key_packages(session.device) if live else []
        self._turn.answer(session, Stock(request.id, list(map(reference, there))))

    def fetch_key_packages(self, session: Session, request: FetchKeyPackages) -> None:
        """Handle `FetchKeyPackages`."""
        self._rates.fetches.take(session.account, self._turn.now)
        devices = self._store.devices(request.account) if self.is_enabled(request.account) else []
        if not devices:  # the same words for each of them: which accounts there are is not for everybody to know
            text = f"{request.account} does not exist, has never connected, or has been disabled"
            raise RefusedError("not-found", text)
        devices = [each for each in devices if _is_live(each, self._turn.time)]
        if not devices:
            raise RefusedError("away", f"{request.account} has been away too long; nothing could be sent")
        try:
            self._rates.fetches_of.take(request.account, self._turn.now)
            only_last_resort = False
        except RefusedError:
            only_last_resort = True  # others have asked for too many: an honest requester is not refused for that
        taken = (self._store.take_key_package(each.device, only_last_resort=only_last_resort) for each in devices)
        key_packages = [key_package for key_package in taken if key_package is not None]
        if not key_packages:
            raise RefusedError("busy", f"{request.account} is still setting up; try again in a moment")
        self._turn.answer(session, KeyPackages(request.id, request.account, key_packages))

    def is_enabled(self, account: str) -> bool:
        """Whether there is such an account, and it may take part."""
        found = self._find_account(account)
        return found is not None and found.enabled

    def certificate(self, session: Session) -> DeviceCertificate:
        """Return the certificate of a session's device, or raise RefusedError `not-now` before it is published."""
        device = self._store.device(session.who)
        if device is None:
            raise RefusedError("not-now", "publish this device first")
        return DeviceCertificate.decode(device.certificate)

    def unknown(self, certificates: Sequence[DeviceCertificate]) -> DeviceCertificate | None:
        """Return the first certificate whose device is not published under this account and identity key, or None."""
        owners = self._store.owners([each.device_id for each in certificates])
        for each in certificates:
            if owners.get(each.device_id) != (each.account, each.identity_key):
                return each
        return None

    def unpublished(self, certificates: Sequence[DeviceCertificate]) -> DeviceCertificate | None:
        """Return the first certificate whose device, which is known, has published another one, or None."""
        for each in certificates:
            known = self._store.device(each.who)
            if known is not None and known.certificate != each.encode():
                return each
        return None

    def _limit(self, session: Session, request: PublishKeyPackages) -> None:
        stock = 0 if request.last_resort else self._store.count_key_packages(session.device)
        if stock + len(request.key_packages) > limits.MAX_KEY_PACKAGES:
            raise RefusedError("too-large", f"{stock} are here already; {limits.MAX_KEY_PACKAGES} are kept at most")
