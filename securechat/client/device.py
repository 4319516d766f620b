"""This device: the account's identity key, the device's signature keys and certificates, and its key packages.

Keeps (in the vault): the private keys, that of the account wrapped under the password (`vault.identity_key`); all that
it has signed; the private side of each unused key package. Deletes: key packages that have expired. docs/design.md,
section 6.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Final

from securechat.client.keyring import Keyring
from securechat.client.vault.identity import DeviceRow, Heir, KeepsakeRow
from securechat.client.vault.identity_key import IdentityKey, OpenedKey
from securechat.client.vault.vault import Vault
from securechat.errors import PeerError, TrustError, sentence
from securechat.identity import certificate as certificates
from securechat.identity.certificate import DeviceCertificate, certificate_of, credential, leaf_validator
from securechat.identity.statements import EMPTY, Head, Link, Statement, decode_link, state
from securechat.mls.credential import Credential
from securechat.mls.crypto.sealing import SignaturePrivateKey
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
from securechat.mls.errors import OutsideLifetime
from securechat.mls.framing import MLSMessage, decode_body
from securechat.mls.key_package import KeyPackage
from securechat.mls.key_package_bundle import KeyPackageBundle, generate_key_package
from securechat.mls.leaf_node import Capabilities, CredentialValidator, Lifetime
from securechat.policy import known_extensions
from securechat.wire import possession
from securechat.wire.limits import DEVICE_ID_LENGTH
from securechat.wire.possession import Channel

SUITE: Final = MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
"""The cipher suite of every conversation (docs/design.md, section 1)."""

CAPABILITIES: Final = Capabilities(cipher_suites=(SUITE.value,), extensions=known_extensions())

CERTIFICATE_SECONDS: Final = 45 * 86_400
"""How long a certificate lives, and the key packages under it: so long a signature key that was stolen is of use."""

KEY_PACKAGE_STOCK: Final = 20
"""Unused key packages we want at the server: so many people can begin a conversation with us while we are away."""

KEY_PACKAGE_LOW: Final = 10
"""When only this many are left, we publish new ones."""

MAX_KEY_PACKAGES: Final = 500
"""Private sides kept of key packages that were published and led to no Welcome yet, beyond which the stock makes no
more: none goes before its end, 45 days, for others that a server or whoever takes them makes us publish."""

MARK: Final = 8
"""Hexadecimal digits of a device's id by which people name it: enough for the few of one account."""

_CLOCK_SKEW: Final = certificates.CLOCK_SKEW


class Device:
    """This device of this account."""

    def __init__(self, vault: Vault, row: DeviceRow) -> None:
        self._vault = vault
        self.row = row
        self.keys: Final = Keyring(vault.signature_keys)
        self._chain = [decode_link(link) for link in vault.signed.load()]
        self._certificates = {
            public: DeviceCertificate.decode(certificate) for public, certificate in vault.signature_keys.certificates()
        }
        self.heir = vault.heir.load(row.account)
        """The identity key that is to succeed ours, as soon as the server has it."""
        self.renewal_awaited = False  # whether something waits for a new signature key, in this session

    @classmethod
    def load_or_create(cls, vault: Vault) -> "Device":
        """Return the device in the vault; a new vault gets fresh keys, for which it needs its password.

        Inside a transaction. Raises what `PasswordSource.read` raises.
        """
        row = vault.device.load()
        if row is None:
            with vault.password.read() as password:
                identity = IdentityKey.create(vault.account, password, vault.cost)
            row = DeviceRow(identity, os.urandom(DEVICE_ID_LENGTH), Keyring(vault.signature_keys).make())
            vault.device.save(row)
        return cls(vault, row)

    def __repr__(self) -> str:
        """Account and device id only."""
        return f"Device({self.row.account!r}, {self.row.device_id.hex()})"

    @property
    def account(self) -> str:
        """Our account."""
        return self.row.account

    @property
    def identity_key(self) -> bytes:
        """The public half of our identity key, 32 bytes."""
        return self.row.identity.public

    @property
    def id(self) -> bytes:
        """Our device id, 16 bytes."""
        return self.row.device_id

    @property
    def signature(self) -> SignaturePrivateKey:
        """The key that our new leaves and key packages name. A leaf that stands may name another one of `keys`."""
        return self.keys[self.row.signature_key]

    @property
    def certificate(self) -> DeviceCertificate:
        """The certificate of that key. There is none before `meet_server`."""
        return self._certificates[self.row.signature_key]

    @property
    def taken(self) -> int:
        """How many links of our chain a server has taken, as far as this vault shows; there may be more."""
        in_use = self._certificates.get(self.row.signature_key)
        return 0 if in_use is None else in_use.seq

    @property
    def credential(self) -> Credential:
        """The credential in our new leaves."""
        return credential(self.certificate)

    @property
    def head(self) -> Head:
        """How far the chain of our identity key has come."""
        return Head.after(self._chain[-1]) if self._chain else EMPTY

    def validator(self, now: int) -> CredentialValidator:
        """Return the check for leaves at this server; `now` in seconds since 1970."""
        return leaf_validator(self.row.server_id, now)

    @property
    def chain(self) -> tuple[Link, ...]:
        """All that our identity key has signed, as far as this vault knows."""
        return tuple(self._chain)

    @property
    def newest(self) -> DeviceCertificate:
        """The newest certificate of our own making: `certificate`, or the one that is to take its place."""
        ours = (each for each in self._certificates.values() if each.identity_key == self.identity_key)
        return max(ours, key=lambda each: each.seq)

    @property
    def overruled_by(self) -> Link | None:
        """What another program with our identity key has signed about this device after our newest certificate, or in
        the place of that."""
        if not self._certificates or not self._chain:
            return None
        if self.newest not in self._chain:
            return self._chain[-1]
        for link in reversed(self._chain[self.newest.seq :]):
            if link.device_id == self.id and link not in self._certificates.values():
                return link
        return None

    @property
    def old_keys(self) -> dict[bytes, DeviceCertificate]:
        """The signature keys in whose place there is another one, each with its certificate."""
        old = (self.keys.keys() & self._certificates.keys()) - {self.row.signature_key, self.newest.signature_key}
        return {public: self._certificates[public] for public in old}

    def certify_next(self, key: OpenedKey, now: int) -> None:
        """Make the signature key, certificate and key packages that are to take the place of ours: see `use_newest`.

        Inside a transaction; `now` in seconds since 1970. Nothing happens while another identity key is to take over.
        """
        if self.heir is not None:
            return
        self._certify(key, self.keys.make(), now)
        self.make_key_packages(KEY_PACKAGE_STOCK, now, self.newest)
        self.make_key_packages(1, now, self.newest, last_resort=True)

    @property
    def is_overtaken(self) -> bool:
        """Whether another device of ours has a later certificate than this one."""
        return any(isinstance(link, DeviceCertificate) and link.seq > self.newest.seq for link in self._chain)

    def revoke(self, key: OpenedKey, device_id: bytes, now: int) -> None:
        """State that another device of ours speaks for the account no more. Inside a transaction; `now` in seconds.

        Nothing happens if the chain does not have it, or has its revocation.
        """
        newest: DeviceCertificate | None = None
        for link in self._chain:
            if link.device_id == device_id:
                newest = link if isinstance(link, DeviceCertificate) else None
        if newest is not None and device_id != self.id and self.heir is None:
            self._sign(
                state(
                    key, self.head, "revoke", server_id=self.row.server_id, account=self.account, time=now,
                    key=newest.signature_key, device_id=device_id,
                )
            )  # fmt: skip

    def succeed(self, key: OpenedKey, password: bytearray, now: int) -> None:
        """Make the identity key that is to succeed ours: see `take_over`. Inside a transaction; `now` in seconds.

        Nothing happens if there is one already.
        """
        if self.heir is not None:
            return
        identity = IdentityKey.create(self.account, password, self._vault.cost)
        with identity.opened(password) as opened:
            statement = state(
                key, self.head, "succeed", server_id=self.row.server_id, account=self.account, time=now,
                key=identity.public, successor=opened,
            )  # fmt: skip
            certificate = self._issue(opened, EMPTY, self.keys.make(), now)
        self._keep_heir(Heir(identity, statement, certificate))
        self.make_key_packages(KEY_PACKAGE_STOCK, now, certificate)
        self.make_key_packages(1, now, certificate, last_resort=True)

    def take_over(self) -> None:
        """The server has the identity key that succeeds ours: it is ours from now on. Inside a transaction."""
        heir = self.heir
        if heir is None:
            return
        certificate = heir.certificate
        self._vault.signed.cut(0)
        self._chain.clear()
        self._keep(replace(self.row, identity=heir.identity, signature_key=certificate.signature_key, renew=False))
        self._keep_certificate(certificate)
        self._vault.keepsake.save(KeepsakeRow(self._vault.keepsake.load().number))  # the next one is for the new key
        self._keep_heir(None)

    def rewrapped(self) -> None:
        """The vault has our identity keys under another password."""
        row = self._vault.device.load()
        if row is not None:
            self.row = replace(self.row, identity=row.identity)
        self.heir = self._vault.heir.load(self.row.account)

    @property
    def succession(self) -> Statement | None:
        """The statement by which our identity key has named its successor, if another program has published one."""
        return next((each for each in self._chain if isinstance(each, Statement) and each.action == "succeed"), None)

    @property
    def has_contested(self) -> bool:
        """Whether our identity key has denied that (`contest`); the server may not have it yet."""
        return any(isinstance(each, Statement) and each.action == "contest" for each in self._chain)

    def contest(self, key: OpenedKey, now: int) -> None:
        """State that the successor of our identity key is none of ours. Inside a transaction; `now` in seconds."""
        if self.succession is not None and not self.has_contested:
            self._sign(
                state(
                    key, self.head, "contest", server_id=self.row.server_id, account=self.account, time=now,
                    key=self.succession.key,
                )
            )  # fmt: skip

    def drop_heir(self) -> None:
        """Nobody will take the identity key that was to succeed ours. Inside a transaction."""
        if self.heir is not None:
            signature_key = self.heir.certificate.signature_key
            self._vault.key_packages.delete_under(signature_key)
            self.keys.drop(signature_key)
            self._keep_heir(None)

    def pending_key_packages(self) -> tuple[list[bytes], bytes]:
        """Return the key packages that are to be published with our newest certificate, and the last-resort one.

        None, and an empty one, if that certificate is in use already: then those in the vault may have been handed out.
        """
        newest = self.newest if self.heir is None else self.heir.certificate
        if newest == self.certificate:
            return [], b""
        packages: list[bytes] = []
        last_resort = b""
        for encoded, is_last_resort in self._vault.key_packages.under(newest.signature_key):
            public = MLSMessage(KeyPackageBundle.decode(encoded).key_package).encode()
            if is_last_resort:
                last_resort = public
            else:
                packages.append(public)
        return packages, last_resort

    def adopt(self, links: Sequence[Link]) -> list[Link]:
        """Take over the chain that another program with our identity key has made; return what is new to us of it.

        `links`: a part of it, checked, that follows a beginning of ours. What we have signed in another place is
        dropped; where our own chain is the longer one, nothing is new.
        """
        common = links[0].seq - 1 if links else 0
        new = list(links)
        while new and common < len(self._chain) and self._chain[common] == new[0]:
            common += 1
            del new[0]
        if new:
            self._cut(common)
            for link in new:
                self._sign(link)
        return new

    def _cut(self, length: int) -> None:
        """Drop what follows the first `length` links of our chain.

        A certificate that was never in use goes with its key, which nobody has seen.
        """
        for link in self._chain[length:]:
            own = isinstance(link, DeviceCertificate) and self._certificates.get(link.signature_key) == link
            if own and isinstance(link, DeviceCertificate) and link.seq > self.taken:
                self._vault.key_packages.delete_under(link.signature_key)
                self.keys.drop(link.signature_key)
                del self._certificates[link.signature_key]
        self.drop_heir()  # it follows what is dropped now
        self._vault.signed.cut(length)
        del self._chain[length:]

    def drop_future(self, head: Head, now: int) -> list[Link]:
        """Drop what was signed by a clock that ran ahead and lies behind `head`, the server's: it would never take it.

        Returns what was dropped, to be signed anew. What was in use was taken once, and stays. Inside a transaction;
        `now` in seconds, by a clock that is right.
        """
        if self.heir is not None and _is_future(self.heir.statement, now):
            self.drop_heir()
        if self.signed_after(head) is None:
            return []
        length = max(head.seq, self.taken)
        while length < len(self._chain) and not _is_future(self._chain[length], now):
            length += 1
        dropped = self._chain[length:]
        if dropped:
            self._cut(length)
        return dropped

    def use_newest(self) -> None:
        """The server has our newest certificate: new leaves and key packages name its key from now on."""
        if self.newest == self.certificate:
            return
        self._keep(replace(self.row, signature_key=self.newest.signature_key, renew=False))
        self.renewal_awaited = False

    def want_renewal(self, *, awaited: bool = False) -> None:
        """Note that our signature key is to be renewed before its time. `awaited`: something cannot go on before."""
        self._keep(replace(self.row, renew=True))
        self.renewal_awaited |= awaited

    def is_expired(self, now: int) -> bool:
        """Whether our certificate has run out at `now` (seconds since 1970): then we say nothing before we renew it."""
        return now > self.certificate.not_after

    def has_signed(self, link: Link) -> bool:
        """Whether this vault knows a link of our own chain."""
        succession = None if self.heir is None else self.heir.statement
        return link in self._chain or link in self._certificates.values() or link == succession

    def meet_server(
        self, server_id: bytes, now: int, opened: Callable[[], AbstractContextManager[OpenedKey]]
    ) -> None:
        """Pin the server at first contact, and certify our device for it, with the identity key that `opened` opens.

        Raises `TrustError` if it is not that server, and what `opened` raises.
        """
        if not self.row.server_id:
            with opened() as key:
                self._keep(replace(self.row, server_id=server_id))
                self._certify(key, self.row.signature_key, now)
        elif self.row.server_id != server_id:
            raise TrustError(
                "This is not the server this vault belongs to: its id has changed. If its operator set it up anew, "
                "name its CA (--ca or --pin) and give --register: that makes another vault beside this one, and your "
                "contacts will see a changed key. If not, do not log in."
            )

    def signed_after(self, head: Head) -> list[bytes] | None:
        """Return what our identity key has signed since `head`, with the one that is to succeed it; None: the chain has
        not been there."""
        if head.seq > len(self._chain) or head != (Head.after(self._chain[head.seq - 1]) if head.seq else EMPTY):
            return None
        heir = () if self.heir is None else (self.heir.statement, self.heir.certificate)
        return [link.encode() for link in (*self._chain[head.seq :], *heir)]

    def restart(
        self, old_identity_key: bytes, now: int, opened: Callable[[], AbstractContextManager[OpenedKey]]
    ) -> None:
        """State that our identity key takes the place of the account's, and certify this device once more.

        Raises what `opened` raises.
        """
        with opened() as key:
            self.drop_heir()
            statement = state(
                key,
                self.head,
                "restart",
                server_id=self.row.server_id,
                account=self.account,
                time=now,
                key=old_identity_key,
            )
            self._sign(statement)
            self._certify(key, self.row.signature_key, now)

    def prove_possession(self, channel: Channel, certificate: DeviceCertificate) -> bytes:
        """Sign that we hold the key of our `certificate`, for the server at the other end of a connection."""
        key = self.keys[certificate.signature_key]
        return key.sign_with_label(possession.LABEL, channel.possession(self.account, self.id))

    def recover(
        self, links: Sequence[Link], now: int, opened: Callable[[], AbstractContextManager[OpenedKey]]
    ) -> None:
        """Take over the chain of our identity key, which the caller has verified, and certify this device behind it.

        Raises what `opened` raises.
        """
        with opened() as key:
            for link in links:
                self._sign(link)
            self._certify(key, self.row.signature_key, now)

    @property
    def first(self) -> DeviceCertificate:
        """The first certificate of this device."""
        return next(
            link for link in self._chain if isinstance(link, DeviceCertificate) and link.device_id == self.id
        )

    @property
    def others(self) -> list[DeviceCertificate]:
        """The newest certificates of other devices under our identity key that were not revoked since."""
        newest: dict[bytes, DeviceCertificate] = {}
        for link in self._chain:
            if isinstance(link, DeviceCertificate):
                newest[link.device_id] = link
            elif link.action == "revoke":
                newest.pop(link.device_id, None)
        return [each for device, each in newest.items() if device != self.id]

    def keep_token(self, token: bytes, expires: int) -> None:
        """Keep the resume token; `expires` in milliseconds since 1970."""
        self._keep(replace(self.row, token=token, token_expires=expires))

    def keep_secret_set(self, since: int) -> None:
        """Keep since when (ms) the account has its secret at the server, as it says."""
        self._keep(replace(self.row, secret_set=since))

    def keep_inbox_cursor(self, seq: int) -> None:
        """Keep how far the inbox is read."""
        self._keep(replace(self.row, inbox_cursor=seq))

    def make_bundle(self, now: int, certificate: DeviceCertificate | None = None) -> KeyPackageBundle:
        """Make a key package with its private side; `now` in seconds since 1970. `certificate`: ours, by default."""
        certificate = certificate or self.certificate
        return generate_key_package(
            SUITE,
            credential(certificate),
            self.keys[certificate.signature_key],
            CAPABILITIES,
            Lifetime(now - _CLOCK_SKEW, certificate.not_after),
        )

    def make_key_packages(
        self, count: int, now: int, certificate: DeviceCertificate | None = None, *, last_resort: bool = False
    ) -> list[bytes]:
        """Make key packages, keep their private sides, return what to publish. Inside a transaction."""
        encoded = []
        for _ in range(count):
            bundle = self.make_bundle(now, certificate)
            public = bundle.key_package
            not_after = certificate_of(public.leaf_node).not_after
            self._vault.key_packages.add(
                public.reference(SUITE),
                bundle.encode(),
                last_resort=last_resort,
                not_after=not_after,
                signature_key=public.leaf_node.signature_key,
            )
            encoded.append(MLSMessage(public).encode())
        return encoded

    @property
    def room_for_key_packages(self) -> int:
        """How many more the stock may make."""
        return max(0, MAX_KEY_PACKAGES - self._vault.key_packages.count())

    def forget_key_packages(self, encoded: Iterable[bytes]) -> None:
        """Delete the private sides of key packages that were not published after all."""
        for each in encoded:
            self._vault.key_packages.delete(decode_body(each, KeyPackage).reference(SUITE))

    def key_package_references(self) -> dict[bytes, bool]:
        """Return the references of our key packages under our certificate, and which of them are last-resort ones."""
        return self._vault.key_packages.references(self.row.signature_key)

    def forget_expired_key_packages(self, now: int) -> None:
        """Delete the private sides of key packages that have expired; `now` in seconds.

        No honest Welcome uses them any more, once those are read that have been waiting for us.
        """
        self._vault.key_packages.delete_expired(now - _CLOCK_SKEW)

    def _certify(self, key: OpenedKey, signature_key: bytes, now: int) -> None:
        self._keep_certificate(self._issue(key, self.head, signature_key, now))

    def _issue(self, key: OpenedKey, head: Head, signature_key: bytes, now: int) -> DeviceCertificate:
        return certificates.issue(
            key,
            server_id=self.row.server_id,
            account=self.account,
            device_id=self.id,
            signature_key=signature_key,
            not_before=now - _CLOCK_SKEW,
            not_after=now + CERTIFICATE_SECONDS,
            seq=head.seq + 1,
            previous=head.digest,
        )

    def _keep_certificate(self, issued: DeviceCertificate) -> None:
        self._sign(issued)
        self._vault.signature_keys.certify(issued.signature_key, issued.encode())
        self._certificates[issued.signature_key] = issued

    def _keep_heir(self, heir: Heir | None) -> None:
        self._vault.heir.save(heir)
        self.heir = heir

    def _sign(self, link: Link) -> None:
        self._vault.signed.add(link.seq, link.encode())
        self._chain.append(link)

    def _keep(self, row: DeviceRow) -> None:
        self._vault.device.save(row)
        self.row = row


def _is_future(link: Link, now: int) -> bool:
    """Whether no server whose clock shows `now` (seconds) takes a link, because of its date."""
    dated = link.not_before if isinstance(link, DeviceCertificate) else link.time
    return dated > now + _CLOCK_SKEW


def mark(device_id: bytes) -> str:
    """Return the digits by which people name a device."""
    return device_id.hex()[:MARK]


def check_key_packages(
    encoded: list[bytes], account: str, *, validate: CredentialValidator, now: int
) -> tuple[KeyPackage, DeviceCertificate]:
    """Return the key package to add `account` by, of those that the server gave out, one per device.

    They are checked as RFC 9420, section 10.1 asks, belong to `account`, to different devices and to one identity key.
    An account has one place in a conversation: its device with the newest certificate takes it. The pins decide whether
    that key is the one we know. Raises `PeerError`, `OutsideLifetime` if nothing is wrong but the date.
    """
    checked: list[tuple[KeyPackage, DeviceCertificate]] = []
    for message in encoded:
        try:
            package = decode_body(message, KeyPackage)
            package.verify(SUITE, (), validate=validate, now=now)
        except OutsideLifetime as error:
            text = f"By this machine's clock the key package of {account} has expired, or is not valid yet."
            raise OutsideLifetime(text) from error
        except PeerError as error:
            text = f"The key package that the server gave out for {account} is not sound: {sentence(str(error))}"
            raise PeerError(text) from error
        certificate = certificate_of(package.leaf_node)
        if certificate.account != account:
            raise PeerError(f"The server gave out a key package of {certificate.account} for {account}.")
        checked.append((package, certificate))
    if not checked:
        raise PeerError(f"The server gave out no key package for {account}.")
    if len({certificate.identity_key for _, certificate in checked}) > 1:
        raise PeerError(f"The server gave out key packages for {account} under several identity keys.")
    if len({certificate.device_id for _, certificate in checked}) < len(checked):
        raise PeerError(f"The server gave out two key packages for one device of {account}.")
    leaves = [package.leaf_node for package, _ in checked]
    for keys in ({leaf.signature_key for leaf in leaves}, {leaf.encryption_key for leaf in leaves}):
        if len(keys) < len(leaves):
            raise PeerError(f"Two devices of {account} have the same key.")
    return max(checked, key=lambda each: (each[1].seq, each[1].device_id))
