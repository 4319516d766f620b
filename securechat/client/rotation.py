"""Rotation: this device gets a new signature key and certificate in time (docs/design.md, section 6, Rotation).

    from day 30   when the password is at hand: at the start, at `/unlock`, and by itself from a password file
    from day 40   the user is asked for the password, once a day
    from day 45   the certificate has run out: we read, and say nothing before it is renewed (`waiting`)

Key, certificate and key packages are in the vault before the server hears of them, and they are sent again unchanged
until it has them; only then are they used. Each conversation then takes the new key by a commit of ours (`committing`).
Nobody else is told. Where another program with our identity key has been in, the user decides: `commands.Rotate` puts
this device's key over that one's.
"""

from collections.abc import Callable
from typing import Final

from securechat.client import events
from securechat.client.backoff import Backoff
from securechat.client.context import Context
from securechat.client.device import mark
from securechat.client.publishing import Publishing
from securechat.errors import UsageError, sentence
from securechat.identity.certificate import CLOCK_SKEW, DeviceCertificate
from securechat.identity.statements import EMPTY, Head, Link, Statement, decode_link
from securechat.wire.messages import RETRYABLE, LoggedIn, Published, Refused

DUE_SECONDS: Final = 15 * 86_400
"""Before its end a certificate is renewed where the password is at hand: whoever starts once a fortnight is never
asked."""

ASKED_SECONDS: Final = 5 * 86_400
"""Before its end the user is asked for the password: time enough to find it."""

LOOK_SECONDS: Final = 3600.0
"""How often we look whether it is time: a process may run for months."""

_DAY: Final = 86_400

_DROPPED: Final = (
    "What you have changed about your keys and devices while this machine's clock was wrong is dropped: no server "
    "takes it. See /devices, and do it again."
)


class Rotation:
    """The rotation of one device. One thread at a time."""

    def __init__(self, context: Context, *, renewed: Callable[[], None]) -> None:
        """`renewed` is called once the server has a new certificate, while we have our seat."""
        self._context = context
        self._renewed = renewed
        self._publishing = Publishing(context)
        self._seated = False
        self._busy = False
        self._enter: Callable[[Refused | None], None] | None = None  # waits for a certificate that the server takes
        self._asked_on = 0  # day
        self._wanted = False  # by the user, who hears when it is done
        self._to_revoke: dict[bytes, None] = {}  # devices, when the password is at hand
        self._revoking: dict[bytes, None] = {}  # devices whose revocation is signed, and not published in this session
        self._told_late = False  # that the server does not take what the user wants
        self._is_published = True  # by the server's word, as far as it has told us otherwise
        self._told_overruled = False  # that another program has our identity key
        self._backoff = Backoff(context.clock.monotonic)
        self._look_at = 0.0

    @property
    def is_seated(self) -> bool:
        """Whether we have our seat, so that a key can be published."""
        return self._seated

    @property
    def timer(self) -> float | None:
        """When to call `handle_timer`, on the monotonic clock."""
        return min((at for at in (self._look_at, self._backoff.until) if at), default=None)

    def handle_timer(self) -> bool:
        """Time has passed: look whether it is time. Returns whether it was time to look."""
        now, due = self._context.clock.monotonic(), self.timer
        if due is None or now < due:
            return False
        self._backoff.until = 0.0
        ask = now >= self._look_at > 0
        self.look()
        if ask:
            self._look_for_others()
        return True

    # --- a connection ---------------------------------------------------------------------------------------------

    def end(self) -> None:
        """The connection is gone."""
        self._seated = self._busy = False
        self._enter = None
        self._look_at = self._backoff.until = 0.0

    def log_in(self, login: LoggedIn) -> None:
        """We are logged in, and what was typed may still be at hand: make what is due, to be published with our seat.

        Where the server's chain has gone on without us, that comes first.
        """
        device, head = self._context.device, Head(login.chain_seq, login.chain_digest)
        if self._context.clock_trouble:
            return
        if any(isinstance(each, Statement) for each in device.drop_future(head, self._context.clock.latest())):
            self._context.emit(events.Alarm("time", b"", _DROPPED))
        level = device.signed_after(head) is not None
        if level and self._is_due and device.overruled_by is None and self._context.unlocking.at_hand:
            self._context.unlocking.want("rotation", self._certify, until=self._until)

    def take_seat(self, login: LoggedIn, then: Callable[[Refused | None], None]) -> None:
        """We have our seat: see to it that the server has our newest certificate.

        `then` is called once we may make requests, or gets why the server refuses.
        """
        device, publishing = self._context.device, self._publishing
        publishing.head = Head(login.chain_seq, login.chain_digest)
        self._is_published = bool(login.certificate)
        again = False

        def published(reply: Published | Refused) -> None:
            if isinstance(reply, Published):
                enter()
            elif reply.code == "chain-moved" and not again:
                publishing.learn(learned)
            else:
                refused(reply)

        def refused(reply: Refused) -> None:
            if login.certificate:  # it has an older one, so that we can read
                self._put_off(reply)
                enter()
            else:
                then(reply)

        def learned(links: list[Link] | Refused) -> None:
            nonlocal again
            again = True
            if isinstance(links, Refused):
                refused(links)
            elif links:
                self._tell(links)
                stay()
            else:
                publishing.publish(published)

        def enter() -> None:
            self._seated = True
            then(None)
            self._tell_done()
            self.look()

        def stay() -> None:
            if login.certificate:
                enter()
            else:  # the server has no certificate of this device, and would let it read nothing
                self._seated, self._enter = True, then
                self.look()

        if login.identity_key not in (b"", device.identity_key):
            publishing.learn(learned)  # the server has spoken of another identity key's chain
        elif login.certificate == device.newest.encode() and device.signed_after(publishing.head) == []:
            device.use_newest()
            enter()
        elif (other := device.overruled_by) is not None:
            if not self._told_overruled:  # in this session: after a restart the user has to hear of it again
                self._tell_used(other)
            stay()
        elif device.newest.not_after < self._context.clock.seconds():
            stay()  # there is nothing of ours that it would take
        else:
            publishing.publish(published)

    # --- when it is time --------------------------------------------------------------------------------------------

    def renew(self) -> None:
        """Renew the key as soon as the password is at hand, because the user wants it: also over another program's."""
        self._check_clock()
        self._context.unlocking.want("renewal", self._renew, ask=True)

    def revoke(self, device_id: bytes) -> None:
        """Revoke a device of ours as soon as the password is at hand; this one gets a new key instead.

        Its old key then stands behind a later certificate, and so does every copy of this vault: nobody lets them in.
        """
        if device_id == self._context.device.id:
            self.renew()
            return
        self._check_clock()
        self._to_revoke[device_id] = None
        self._context.unlocking.want("revocation", self._revoke, ask=True)

    def succeed(self) -> None:
        """Make the identity key that succeeds ours as soon as the password is at hand."""
        self._check_clock()
        self._context.unlocking.want("succession", self._succeed, ask=True)

    def look(self, *, may_ask: bool = True) -> None:
        """See whether it is time, and ask for the password if that is needed."""
        context = self._context
        self._look_at = context.clock.monotonic() + LOOK_SECONDS if self._seated else 0.0
        if not self._seated or self._busy or self._backoff.waiting:
            return
        if self._is_unpublished:
            self._publish()
            return
        if not self._is_due or context.device.overruled_by is not None:
            return  # where another program has our identity key, the user decides
        if context.tell_clock_trouble():
            return
        today = context.clock.seconds() // _DAY
        ask = may_ask and self._is_urgent and self._asked_on != today
        if ask:
            self._asked_on = today
        context.unlocking.want("rotation", self._certify_and_publish, until=self._until, ask=ask)

    def _look_for_others(self) -> None:
        """Ask whether another program has used our identity key: at a login the server says so, and not in between."""
        if self._busy or self._backoff.waiting:
            return  # in an hour again

        def learned(links: list[Link] | Refused) -> None:
            self._busy = False
            if isinstance(links, list) and links:
                self._tell(links)
            elif self._is_unpublished:  # it was signed meanwhile
                self._publish()

        self._busy = True
        self._publishing.learn(learned)

    @property
    def revoked_here(self) -> frozenset[bytes]:
        """Devices whose revocation is signed, and not at the server, as far as this session knows."""
        if self._publishing.head == EMPTY:
            return frozenset()
        links = map(decode_link, self._context.device.signed_after(self._publishing.head) or ())
        return frozenset(each.device_id for each in links if isinstance(each, Statement) and each.action == "revoke")

    @property
    def _is_unpublished(self) -> bool:
        """Whether we have signed what the server lacks and would take: it did not want it before, or was not there."""
        device = self._context.device
        links = device.signed_after(self._publishing.head)
        if not links:
            return False
        return device.newest.encode() not in links or self._left_of(device.newest) >= 0

    def _check_clock(self) -> None:
        """Raise `UsageError` while nothing may be signed."""
        if self._context.clock_trouble:
            raise UsageError(self._context.clock_trouble)

    @property
    def _until(self) -> int:
        return self._context.device.certificate.not_after * 1000

    @property
    def _is_due(self) -> bool:
        return self._left <= DUE_SECONDS or self._context.device.row.renew

    @property
    def _is_urgent(self) -> bool:
        return self._left <= ASKED_SECONDS or self._context.device.renewal_awaited

    @property
    def _left(self) -> int:
        return self._left_of(self._context.device.certificate)

    def _left_of(self, certificate: DeviceCertificate) -> int:
        """Seconds before a certificate runs out."""
        return certificate.not_after - self._context.clock.seconds()

    @property
    def _is_made(self) -> bool:
        """Whether the next certificate is in the vault already, and worth to be published."""
        device = self._context.device
        return device.newest != device.certificate and self._left_of(device.newest) >= DUE_SECONDS

    def _certify(self) -> None:
        """Make the next key and certificate, unless they are there. The password is at hand."""
        context, device = self._context, self._context.device
        if not self._is_made and device.overruled_by is None and device.heir is None and not context.clock_trouble:
            with context.unlocking.opened() as key:
                device.certify_next(key, context.clock.seconds())

    def _certify_and_publish(self) -> None:
        self._certify()
        if self._seated and not self._busy and self._is_made:
            self._publish()

    def _renew(self) -> None:
        """Make the next key whatever there is, and publish it. The password is at hand."""
        self._check_clock()
        context = self._context
        with context.unlocking.opened() as key:
            context.device.certify_next(key, context.clock.seconds())
        self._wanted = True
        if self._seated and not self._busy:
            self._publish()

    def _revoke(self) -> None:
        """Sign the revocations that the user wants, and publish them. The password is at hand."""
        self._check_clock()
        context = self._context
        with context.unlocking.opened() as key:
            for device_id in self._to_revoke:
                context.device.revoke(key, device_id, context.clock.seconds())
            if context.device.is_overtaken:  # others take the newest certificate of an account alone
                context.device.certify_next(key, context.clock.seconds())
        self._revoking |= self._to_revoke
        self._to_revoke.clear()
        if self._seated and not self._busy:
            self._publish()

    def _succeed(self) -> None:
        """Make another identity key, and publish it as our successor. The password is at hand."""
        self._check_clock()
        context = self._context
        with context.unlocking.opened() as key, context.unlocking.password() as password:
            context.device.succeed(key, password, context.clock.seconds())
        if self._seated and not self._busy:
            self._publish()

    def _tell_done(self) -> None:
        """Tell what the user wanted and the server has, if it has all that we have signed."""
        if self._context.device.signed_after(self._publishing.head) == []:
            if self._wanted:
                self._wanted = False
                self._context.emit(events.KeyRenewed(self._until))
            for device_id in self._revoking:
                self._context.emit(events.DeviceRevoked(mark(device_id)))
            self._revoking.clear()

    def _publish(self) -> None:
        self._busy = True
        self._publishing.publish(self._published)

    def _published(self, reply: Published | Refused) -> None:
        self._busy = False
        if isinstance(reply, Published):
            self._backoff.reset()
            self._told_late, self._is_published = False, True
            enter, self._enter = self._enter, None
            if enter is not None:
                enter(None)
            else:
                self._renewed()
            if self._context.device.signed_after(self._publishing.head):  # it was signed meanwhile
                self._publish()
                return
            self._tell_done()
        elif reply.code == "chain-moved":
            self._busy = True
            self._publishing.learn(self._learned)
        else:
            self._put_off(reply)

    def _put_off(self, reply: Refused) -> None:
        """The server does not take what we have signed: try again later, and tell who waits for it."""
        device = self._context.device
        if reply.code not in RETRYABLE:
            self._backoff.wait(LOOK_SECONDS)
            self._tell_refused(reply)
            return
        self._backoff.wait(reply.retry_after / 1000)
        if not self._told_late and (self._wanted or self.revoked_here or device.heir is not None):
            self._told_late = True
            what = "What you have changed about your keys and devices is not at the server yet"
            text = f"{what}, which says: {sentence(reply.text)} It is tried again by itself."
            self._context.emit(events.Refused("local", text))

    def _tell_refused(self, reply: Refused) -> None:
        if self._context.device.heir is not None:
            self._context.device.drop_heir()
            text = f"Your account does not go on under another identity key: {sentence(reply.text)}"
            self._context.emit(events.Refused(reply.code, f"{text} /succeed tries it anew."))
            return
        what = "A device is revoked here alone" if self.revoked_here else "This device's key was not renewed"
        text = f"{what}: {sentence(reply.text)} It is tried again by itself; else ask the operator."
        self._context.emit(events.Refused(reply.code, text))

    def _learned(self, links: list[Link] | Refused) -> None:
        self._busy = False
        if isinstance(links, list) and links:
            self._tell(links)
        elif isinstance(links, Refused):
            self._put_off(links)
        else:  # it has less than we thought
            self._backoff.wait()

    def _tell(self, links: list[Link]) -> None:
        """Tell that another program has signed these under our identity key; what it published stays in place."""
        newest = links[-1]
        for device_id in self._revoking:  # it was signed in a place that is taken
            text = f"Device {mark(device_id)} is not revoked: another program has used your identity key before. See "
            self._context.emit(events.Refused("local", f"{text}/devices, then type /revoke again."))
        self._revoking.clear()
        self._tell_used(newest)
        for link in links:
            self._context.chains.see(link)

    def _tell_used(self, link: Link) -> None:
        self._told_overruled, shut_out = True, not self._is_published
        if isinstance(link, DeviceCertificate):
            self._context.emit(events.OwnKeyUsed("certify", (link.not_before + CLOCK_SKEW) * 1000, shut_out))
        else:
            self._context.emit(events.OwnKeyUsed(link.action, link.time * 1000, shut_out))
