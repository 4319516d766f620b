"""Publishing: the chains of what identity keys have signed grow, and the directory follows (docs/design.md, section 6).

A worker checks the signatures, and until they are right it is a request like any other. The turn then looks once more
whether the links follow the chain's head, so that of two programs with one identity key one is told. It takes as many
from the account's budget of statements, and does all of it in one transaction: the links, the devices and key packages
that come with them, and what goes, resume tokens included.

Statements without a certificate are taken below the disk's floor as well: a few hundred bytes each, they shut somebody
out, and the same budget bounds them.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby

from securechat.errors import DecodeError, PeerError, RefusedError
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.statements import (
    CONTEST_SECONDS,
    EMPTY,
    MAX_SUCCESSION_AGE,
    Head,
    Link,
    Statement,
    decode_link,
)
from securechat.server.logs import get_logger
from securechat.server.rates import Rates
from securechat.server.sequencer.checks import Checks
from securechat.server.sequencer.news import News
from securechat.server.sequencer.operations import PublishChecked
from securechat.server.sequencer.revoking import Revoking
from securechat.server.sequencer.seats import Seats
from securechat.server.sequencer.session import Session, Sessions
from securechat.server.sequencer.tokens import OTHERS_DEVICE
from securechat.server.sequencer.turn import Turn
from securechat.server.sequencer.validation import Validator
from securechat.server.store.port import ChainStore, DirectoryStore, TokenStore
from securechat.server.store.records import ChainLink, Device
from securechat.value import value
from securechat.wire import limits
from securechat.wire.messages import FetchStatements, Publish, Published, Statements

log = get_logger(__name__)


@value
class _Plan:
    """What a request would change. `gone`, `changed`: devices that it takes away, and that come or go.

    `ids`: of all devices that it certifies, be it for a moment: they are the account's from now on.
    """

    runs: tuple[tuple[Link, ...], ...]  # each of one chain
    new: tuple[DeviceCertificate, ...]  # to be published
    ids: frozenset[bytes]
    gone: tuple[bytes, ...]
    changed: frozenset[bytes]
    identity_key: bytes  # the account's, afterwards

    @property
    def told(self) -> list[Statement]:
        """The statements that become entries of logs."""
        links = (link for run in self.runs for link in run)
        return [link for link in links if isinstance(link, Statement) and link.action != "restart"]


class Publishing:
    """Requires holding the turn."""

    def __init__(
        self,
        turn: Turn,
        chains: ChainStore,
        directory: DirectoryStore,
        tokens: TokenStore,
        sessions: Sessions,
        seats: Seats,
        revoking: Revoking,
        news: News,
        validator: Validator,
        checks: Checks,
        rates: Rates,
    ) -> None:
        self._turn = turn
        self._chains = chains
        self._directory = directory
        self._tokens = tokens
        self._sessions = sessions
        self._seats = seats
        self._revoking = revoking
        self._news = news
        self._validator = validator
        self._checks = checks
        self._rates = rates

    def publish(self, session: Session, request: Publish) -> None:
        """Handle `Publish`: what costs little is checked at once, the signatures by a worker."""
        links = self._decode(session, request)
        if self._plan(session, links) is None:
            self._answer(session, request)
            return
        self._check_space(links)
        own = [each for each in links if isinstance(each, DeviceCertificate) and each.device_id == session.device]
        owner = own[-1] if own else None
        key_packages = [*request.key_packages, *([request.last_resort] if request.last_resort else [])]
        if key_packages and owner is None:
            raise RefusedError("bad-request", "key packages come with a certificate of this device")
        now = self._turn.time // 1000

        def work() -> PublishChecked:
            self._validator.links(links, entering=owner, now=now)
            if owner is not None:
                self._validator.key_packages(key_packages, owner, now)
            return PublishChecked(request, links)

        self._checks.check(session, request, work)

    def checked(self, session: Session, checked: PublishChecked) -> None:
        """Take what has passed the checks, if it is still what comes next."""
        request = checked.request
        plan = self._plan(session, checked.links)
        if plan is not None:
            self._check_space(checked.links)
            for statement in plan.told:
                self._revoking.check_clock(statement)
            # Not before: whoever holds no identity key must not spend what its owner may have to revoke with.
            self._rates.statements.take(session.account, self._turn.now, len(checked.links))
            self._take(session, request, plan)
        self._answer(session, request)

    def fetch(self, session: Session, request: FetchStatements) -> None:
        """Handle `FetchStatements`."""
        identity_key = request.identity_key or self._directory.identity_key(request.account)
        count = limits.MAX_LINKS_FETCHED
        found = self._chains.read(request.account, identity_key, request.after_seq, count + 1)
        links = [each.link for each in found[:count]]
        reply = Statements(request.id, request.account, identity_key, links, len(found) > count)
        self._turn.answer(session, reply)

    # --- what it would change ---------------------------------------------------------------------------------------

    def _decode(self, session: Session, request: Publish) -> tuple[Link, ...]:
        try:
            links = tuple(map(decode_link, request.links))
        except DecodeError as error:
            raise RefusedError("bad-request", str(error)) from None
        if not links:
            raise RefusedError("bad-request", "nothing is published")
        if any((each.server_id, each.account) != (self._validator.server_id, session.account) for each in links):
            raise RefusedError("bad-request", "this was signed for another server or account")
        return links

    def _plan(self, session: Session, links: tuple[Link, ...]) -> _Plan | None:
        """Return what `links` change; None: they are in the chain. Raises RefusedError."""
        runs = tuple(tuple(run) for _, run in groupby(links, lambda each: each.identity_key))
        _check_successions(runs)
        if all(self._has(run) for run in runs):
            return None
        for run in runs:
            self._check_next(run)
        present = self._directory.identity_key(session.account)
        if self._contests(runs):
            return _Plan(runs, (), frozenset(), (), frozenset(), present)
        if present not in (b"", runs[0][0].identity_key):
            _check_restart(session, runs[0], present)
        certified: dict[bytes, DeviceCertificate | None] = {}  # None: revoked
        for link in links:
            if isinstance(link, DeviceCertificate):
                certified[link.device_id] = link
            elif link.action == "revoke":
                certified[link.device_id] = None
        identity_key = runs[-1][-1].identity_key
        new = tuple(each for each in certified.values() if each is not None and each.identity_key == identity_key)
        if present not in (b"", identity_key) and session.device not in {each.device_id for each in new}:
            raise RefusedError("bad-request", "with a new identity key comes a certificate of this device")
        known = {device.device: device for device in self._directory.devices(session.account)}
        gone = {each for each in known if certified.get(each, b"") is None or identity_key != present} - {
            each.device_id for each in new
        }
        ids = frozenset(each.device_id for each in links if isinstance(each, DeviceCertificate))
        if any(self._directory.account_of(each) not in ("", session.account) for each in ids):
            raise RefusedError("bad-request", "this device id is taken; choose another one")
        self._check_devices(new, [device for each, device in known.items() if each not in gone])
        coming = {each.device_id for each in new} - known.keys()
        return _Plan(runs, new, ids, tuple(sorted(gone)), frozenset(gone | coming), identity_key)

    def _check_space(self, links: Iterable[Link]) -> None:
        """Raise RefusedError `disk-full` below the disk's floor, but for statements alone: they revoke or contest."""
        if not all(isinstance(each, Statement) for each in links):
            self._turn.space.check()

    def _contests(self, runs: Sequence[Sequence[Link]]) -> bool:
        """Whether `runs` are the one thing that can follow a succession in its chain. Raises RefusedError."""
        now, statements = self._turn.time, [link for run in runs for link in run if isinstance(link, Statement)]
        if any(each.action == "succeed" and each.time < now // 1000 - MAX_SUCCESSION_AGE for each in statements):
            raise RefusedError("bad-request", "this succession was signed too long ago: sign another one")
        contest = next((each for each in statements if each.action == "contest"), None)
        newest = [self._chains.head(run[0].account, run[0].identity_key) for run in runs]
        ends = [None if each is None else decode_link(each.link) for each in newest]
        if contest is None:
            if any(isinstance(each, Statement) and each.action in ("succeed", "contest") for each in ends):
                raise RefusedError("not-allowed", "this identity key has named a successor, and speaks no more")
            return False
        if [list(run) for run in runs] != [[contest]] or newest[0] is None or _successor(ends[0]) != contest.key:
            raise RefusedError("not-allowed", "a succession is contested by what follows it, and by nothing else")
        if now > newest[0].time + CONTEST_SECONDS * 1000:
            days = CONTEST_SECONDS // 86_400
            raise RefusedError("not-allowed", f"a succession is contested within {days} days, and these are over")
        return True

    def _head(self, link: Link) -> Head:
        """Return the head of the chain to which a link belongs."""
        newest = self._chains.head(link.account, link.identity_key)
        return Head.after(decode_link(newest.link)) if newest is not None else EMPTY

    def _has(self, run: Sequence[Link]) -> bool:
        """Whether these links are in their chain already."""
        found = self._chains.read(run[0].account, run[0].identity_key, run[0].seq - 1, len(run))
        return [each.link for each in found] == [link.encode() for link in run]

    def _check_next(self, run: Sequence[Link]) -> None:
        head = self._head(run[0])
        for link in run:
            try:
                head.check_next(link)
            except PeerError as error:
                raise RefusedError("chain-moved", str(error)) from None
            head = Head.after(link)

    def _check_devices(self, new: Sequence[DeviceCertificate], staying: Sequence[Device]) -> None:
        replaced = {each.device_id for each in new}
        kept = [DeviceCertificate.decode(each.certificate) for each in staying if each.device not in replaced]
        if len({each.signature_key for each in (*kept, *new)}) < len(kept) + len(new):
            raise RefusedError("bad-request", "another device of this account has the same signature key")
        if len(kept) + len(new) > limits.MAX_DEVICES:
            raise RefusedError("bad-request", f"an account has {limits.MAX_DEVICES} devices at most")

    # --- the change -------------------------------------------------------------------------------------------------

    def _take(self, session: Session, request: Publish, plan: _Plan) -> None:
        account, time = session.account, self._turn.time
        before = self._directory.identity_key(account)
        for run in plan.runs:
            links = [ChainLink(link.seq, time, link.encode()) for link in run]
            self._chains.append(account, run[0].identity_key, links)
        self._directory.reserve(account, plan.ids)
        self._turn.after(lambda: self._expel_others(account, plan.ids))
        # Key packages belong to a certificate, so those of a device go with the one before.
        self._directory.drop_devices([*plan.gone, *(each.device_id for each in plan.new)])
        for each in plan.new:
            self._directory.put_device(Device(each.device_id, account, each.encode()), plan.identity_key)
        if session.device in {each.device_id for each in plan.new}:
            self._directory.put_key_packages(session.device, request.key_packages, request.last_resort)
        if plan.gone:
            self._tokens.keep_only(account, session.device if session.device not in plan.gone else b"")
        for statement in plan.told:
            self._revoking.publish(statement)
        for device in plan.gone:
            self._turn.after(lambda device=device: self._expel(account, device))  # type: ignore[misc]  # bound at once
        if plan.changed:
            self._turn.after(lambda: self._news.tell(account, plan.changed))
        if before not in (b"", plan.identity_key):
            log.info("identity key replaced", client=session.outlet.address, account=account)

    def _expel(self, account: str, device: bytes) -> None:
        if (session := self._sessions.find(account, device)) is not None:
            self._seats.expel(session, "revoked", "this device does not speak for the account any more")

    def _expel_others(self, account: str, devices: Iterable[bytes]) -> None:
        """End the sessions that others have with these device ids since before they were published."""
        for session in [each for device in devices for each in self._sessions.of_others(account, device)]:
            self._seats.expel(session, "logged-out", OTHERS_DEVICE)

    def _answer(self, session: Session, request: Publish) -> None:
        enrolled = self._directory.device(session.who) is not None
        self._turn.answer(session, Published(request.id, enrolled))


def _check_successions(runs: Sequence[Sequence[Link]]) -> None:
    """Check that one chain goes on in another where it says so, and only there."""
    for run, following in zip(runs, (*runs[1:], ()), strict=True):
        *earlier, last = run
        expected = following[0].identity_key if following else b""
        if any(map(_successor, earlier)) or _successor(last) != expected:
            raise RefusedError("bad-request", "with a succession the old chain ends, and the new one begins")


def _successor(link: Link | None) -> bytes:
    """Return the identity key that a link hands the account to; empty: none."""
    return link.key if isinstance(link, Statement) and link.action == "succeed" else b""


def _check_restart(session: Session, run: Sequence[Link], present: bytes) -> None:
    """Check that an identity key may take the place of the present one, which has not named it."""
    named = [link.key for link in run if isinstance(link, Statement) and link.action == "restart"]
    if named[-1:] != [present]:
        raise RefusedError(
            "identity-differs",
            "this account has another identity key, made on another device or lost: import it, or replace it",
        )
    if not session.by_password:
        raise RefusedError("not-allowed", "an identity key is replaced only after a login with the password")
