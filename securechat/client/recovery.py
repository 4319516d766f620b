"""Recovery: a new device takes the place of lost ones, with the identity key from a recovery file.

    chain      logged in by the password: the chain of the identity key and the keepsake are fetched and checked; this
               device is certified behind it; pins and conversations of the keepsake are taken over
    entering   this device is published, and enters each of these conversations by itself (`conversations.regaining`).
               One that cannot be entered now holds nothing up for long (`ENTERING_SECONDS`): it is told, and tried on
    revoking   the lost devices are revoked: only now, so that their leaves give way and do not count as departed. With
               it this device's key is renewed: its certificate has to be later than what it revokes, where a leaf of a
               lost device is left

Each step is in the vault before anything of it is sent, so that after a crash the same device goes on where it was. The
password is at hand until the end. docs/design.md, section 6, Recovery.

    revoke     in place of all that, for whoever only wants the lost devices shut out, at once and from any machine: the
               chain and the keepsake are checked, the revocations are signed and published, and nothing else is. This
               is no device then, and its vault is thrown away
"""

import math
import os
from collections.abc import Callable
from typing import Final

from securechat.client import events
from securechat.client.context import Context
from securechat.client.conversations import phases, standstill
from securechat.client.conversations.keeping import Keeping
from securechat.client.conversations.registry import Registry
from securechat.client.device import mark
from securechat.client.keepsake import Contents, unseal
from securechat.client.keyring import Keyring
from securechat.client.recovery_file import RecoveryContents
from securechat.client.rotation import Rotation
from securechat.client.vault.identity import DeviceRow, KeepsakeRow, RecoveryStep
from securechat.client.vault.identity_key import IdentityKey
from securechat.client.vault.vault import Vault
from securechat.errors import PeerError, SecurechatError, TrustError, UsageError
from securechat.identity.certificate import DeviceCertificate
from securechat.identity.keepsake import Keepsake
from securechat.identity.statements import EMPTY, Head, Link, check_chain, decode_link
from securechat.wire.limits import DEVICE_ID_LENGTH, MAX_LINKS
from securechat.wire.messages import (
    FetchKeepsake,
    FetchStatements,
    LoggedIn,
    Publish,
    Published,
    Refused,
    Reply,
    Statements,
    StoredKeepsake,
)

MAX_CHAIN: Final = 10_000
"""Links of our own chain that are fetched, about 3 MB: more than a server takes of one account in a month."""

ENTERING_SECONDS: Final = 60.0
"""How long a lost device may go on speaking for us while no conversation moves: a lease or a wait of the server's ends
in a few seconds, and the walk through a large room in less than a minute."""

ENTERING_CONNECTIONS: Final = 3
"""Connections on which we wait so long without getting further: one conversation may end each of them."""

_Then = Callable[[SecurechatError | Refused | None], None]


def prepare_recovery(vault: Vault, contents: RecoveryContents, *, only_revoke: bool = False) -> None:
    """Make `vault` that of a new device of the account in a recovery file; the same again changes nothing.

    `only_revoke`: it revokes those before it, and is none itself. Raises `UsageError` if it is that of a device that is
    set up already, and what `PasswordSource.read` raises.
    """
    with vault.transaction():
        row = vault.device.load()
        if row is None:
            with vault.password.read() as password:
                identity = IdentityKey.of(contents.account, bytearray(contents.private), password, vault.cost)
            signature_key = Keyring(vault.signature_keys).make()
            vault.device.save(DeviceRow(identity, os.urandom(DEVICE_ID_LENGTH), signature_key, contents.server_id))
            vault.authorities.know(contents.ca_pin)
            vault.addresses.add(contents.address)
            vault.recovery.save("revoke" if only_revoke else "chain")
        elif vault.recovery.load() is None or row.identity.public != contents.public:
            raise UsageError(
                f"{contents.account} is set up on this computer already: start securechat as always. If its data here "
                f"is of no use any more, move {vault.path} and the files beside it away first."
            )


class Recovery:
    """The recovery of one device, if it is one that takes the place of others. One thread at a time."""

    def __init__(self, context: Context, registry: Registry, keeping: Keeping, rotation: Rotation) -> None:
        self._context = context
        self._registry = registry
        self._keeping = keeping
        self._rotation = rotation
        found = context.vault.recovery.load()
        self.step: RecoveryStep | None = found[0] if found is not None else None
        self._kept = found[1] if found is not None else 0
        self._login: LoggedIn | None = None  # while the first steps are on their way
        self._revoked: dict[str, None] = {}  # marks of the devices that step "revoke" has signed out
        self._seated = False
        self._connections = 0  # since we last got further
        self._fewest = math.inf  # conversations that were left to enter, on any connection
        self._waiting = False  # for them
        self._until = 0.0  # monotonic: from then on nothing does
        self._late: set[bytes] = set()  # those that were told

    @property
    def is_beginning(self) -> bool:
        """Whether this device is not certified yet, and needs the password to go on."""
        return self.step in ("revoke", "chain")

    # --- the first login ------------------------------------------------------------------------------------------

    def begin(self, login: LoggedIn, then: _Then) -> None:
        """Fetch and check our chain and the keepsake, and certify this device, or revoke those that are lost.

        `then` gets None once this device is certified, or why it cannot go on; nothing after the step "revoke".
        """
        device = self._context.device
        if login.identity_key != device.identity_key:
            then(TrustError(_OTHER_KEY if login.identity_key else _NO_KEY))
            return
        self._login = login
        self._fetch_chain((), Head(login.chain_seq, login.chain_digest), then)

    def _fetch_chain(self, found: tuple[Link, ...], head: Head, then: _Then) -> None:
        device = self._context.device

        def answer(reply: Reply) -> None:
            if isinstance(reply, Refused):
                then(reply)
            elif isinstance(reply, Statements):
                links = (*found, *map(decode_link, reply.links))
                if reply.more and reply.links and len(links) < MAX_CHAIN:
                    self._fetch_chain(links, head, then)
                    return
                owner = (device.row.server_id, device.account, device.identity_key)
                if any((each.server_id, each.account, each.identity_key) != owner for each in links):
                    raise PeerError("the server shows another chain than the one that was asked for")
                if check_chain(links, now=self._context.clock.latest()) != head:
                    raise PeerError("the server shows another chain than the one that it has spoken of")
                self._fetch_keepsake(links, then)

        self._context.request(FetchStatements(0, device.account, device.identity_key, len(found)), answer)

    def _fetch_keepsake(self, links: tuple[Link, ...], then: _Then) -> None:
        def go_on(login: LoggedIn | None, keepsake: bytes) -> None:
            if login is self._login:  # or the connection was lost while the password was asked for
                self._take_up(links, keepsake, then)

        def answer(reply: Reply) -> None:
            if isinstance(reply, Refused):
                then(reply)
            elif isinstance(reply, StoredKeepsake):
                login = self._login
                self._context.unlocking.want("login", lambda: go_on(login, reply.keepsake))

        self._context.request(FetchKeepsake(0), answer)

    def _take_up(self, links: tuple[Link, ...], encoded: bytes, then: _Then) -> None:
        """Go on with the chain that the server shows, if the keepsake knows of no more."""
        keepsake, contents = self._open(encoded)
        if contents is not None and contents.head.seq:
            known = contents.head.seq <= len(links) and Head.after(links[contents.head.seq - 1]) == contents.head
            if not known:
                then(TrustError(_CUT_OFF_CHAIN))
                return
        if self.step == "revoke":
            self._revoke_all(links, then)
        else:
            self._certify(links, keepsake, contents)
            then(None)

    def _revoke_all(self, links: tuple[Link, ...], then: _Then) -> None:
        """Sign that no device of the chain speaks for the account, and publish that."""
        context, device = self._context, self._context.device
        device.adopt(links)
        with context.unlocking.opened() as key:
            for each in device.others:
                device.revoke(key, each.device_id, context.clock.seconds())
                self._revoked[mark(each.device_id)] = None
        self._publish_revocations(Head.after(links[-1]) if links else EMPTY, then)

    def _publish_revocations(self, head: Head, then: _Then) -> None:
        """Publish what the server's chain, which ends at `head`, has not yet."""
        links = (self._context.device.signed_after(head) or [])[:MAX_LINKS]

        def answer(reply: Reply) -> None:
            if isinstance(reply, Published):
                self._publish_revocations(Head.after(decode_link(links[-1])), then)
            elif isinstance(reply, Refused):
                then(reply)

        if links:
            self._context.request(Publish(0, links, [], b""), answer)
        else:
            self._context.emit(events.LostRevoked(tuple(self._revoked)))

    def _certify(self, links: tuple[Link, ...], keepsake: Keepsake | None, contents: Contents | None) -> None:
        """Take everything over in one transaction."""
        context, device = self._context, self._context.device
        device.recover(links, context.clock.seconds(), context.unlocking.opened)
        self._kept = 0 if keepsake is None or contents is None else keepsake.time
        if keepsake is not None and contents is not None:
            context.pins.restore(contents.pins)
            for device_id, name in contents.names:
                context.vault.device_names.save(device_id, name)
            for each in contents.conversations:
                self._registry.recover(each, keepsake.time * 1000)
            context.vault.keepsake.save(KeepsakeRow(keepsake.number))
        self._go_to("entering")

    def _open(self, encoded: bytes) -> tuple[Keepsake | None, Contents | None]:
        """Return the keepsake that the server shows, and what is in it, if it is ours."""
        context, device = self._context, self._context.device
        if not encoded:
            return None, None
        try:
            keepsake = Keepsake.decode(encoded)
            with context.unlocking.opened() as key:
                return keepsake, unseal(keepsake, key, server_id=device.row.server_id, account=device.account)
        except PeerError as error:
            context.emit(events.Alarm("server", b"", _NOT_OURS.format(error)))
            return None, None

    # --- with a seat ----------------------------------------------------------------------------------------------

    def end(self) -> None:
        """The connection is gone."""
        self._login = None
        self._seated = self._waiting = False

    def take_seat(self) -> None:
        """This device has its seat: what is to be entered is on its way."""
        self._seated = True
        self._connections += 1
        patience = ENTERING_SECONDS if self._connections <= ENTERING_CONNECTIONS else 0.0
        self._until = self._context.clock.monotonic() + patience

    @property
    def timer(self) -> float | None:
        """When to look again, on the monotonic clock."""
        return self._until if self._waiting else None

    def look(self) -> None:
        """Go on, if the present step is done. Call at the end of each unit, inside its transaction."""
        context, device = self._context, self._context.device
        if not self._seated or self.step is None or device.overruled_by is not None:
            return  # where another program has our identity key, the user decides
        if self._waits():
            return
        if device.newest != device.certificate:
            self._rotation.look(may_ask=False)  # it is published with what we have revoked
        elif not device.others:
            self._finish()
        elif context.unlocking.at_hand and not context.clock_trouble:  # else at the next start
            context.unlocking.want("rotation", self._revoke_others, ask=False)

    def _waits(self) -> bool:
        """Whether there is something to enter first. What takes too long is told once, and goes on beside the rest."""
        left, now = self._registry.regaining, self._context.clock.monotonic()
        if len(left) < self._fewest:
            self._fewest, self._connections, self._until = len(left), 1, now + ENTERING_SECONDS
        self._waiting = bool(left) and now < self._until
        if not self._waiting:
            for each in left:
                if each.id not in self._late:
                    self._late.add(each.id)
                    standstill.tell_not_regained(each, _LATE)
        return self._waiting

    def _revoke_others(self) -> None:
        context, device = self._context, self._context.device
        if self.step is None or not device.others:  # the password came later, and it is done
            return
        with context.unlocking.opened() as key:
            for each in device.others:
                device.revoke(key, each.device_id, context.clock.seconds())
            device.certify_next(key, context.clock.seconds())
        device.want_renewal()
        self._go_to("revoking")
        self._rotation.look(may_ask=False)

    def _finish(self) -> None:
        context, device = self._context, self._context.device
        came = device.first.seq
        revoked = sum(not isinstance(link, DeviceCertificate) and link.seq > came for link in device.chain)
        conversations = list(self._registry)
        missing = sorted(each.title for each in conversations if each.row.phase in phases.REGAINING)
        entered = sum(each.row.phase in phases.INSIDE for each in conversations)
        context.vault.recovery.delete()
        self.step = None
        self._keeping.seal()
        self._keeping.leave()
        context.unlocking.settle()
        context.emit(events.Recovered(self._kept * 1000, entered, tuple(missing), revoked))

    def _go_to(self, step: RecoveryStep) -> None:
        self._context.vault.recovery.save(step, self._kept)
        self.step = step


_LATE: Final = "The server has not let this device in so far."
_OTHER_KEY: Final = (
    "The account has another identity key at the server than in this recovery file: it was made before the account "
    "went over to a new one. Use a newer recovery file, or the device that has the new key. Nothing was done."
)
_NO_KEY: Final = (
    "The server knows of no identity key of this account: it has lost its data, or keeps them back. Ask its operator; "
    "nothing was done."
)
_CUT_OFF_CHAIN: Final = (
    "The server keeps back what your identity key has signed: your keepsake knows of more. It was restored from a "
    "backup, or it lies. Ask its operator, and try again; nothing was done."
)
_NOT_OURS: Final = (
    "The server shows a keepsake that is not yours: {}. So this device knows nobody and no room; people are first "
    "contacts, and rooms have to invite you."
)
