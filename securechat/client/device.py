"""This device: the account's identity key, the device's signature key and certificate, and its key packages.

Keeps (in the vault): both private keys, the certificate, the private side of each unused key package. Deletes: key
packages that have expired. docs/design.md, section 6.
"""

import os
from dataclasses import replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securechat.client.vault.identity import DeviceRow
from securechat.client.vault.vault import Vault
from securechat.errors import PeerError, TrustError
from securechat.identity import certificate as certificates
from securechat.identity.certificate import DeviceCertificate, certificate_of, credential, leaf_validator
from securechat.mls.credential import Credential
from securechat.mls.crypto.sealing import SignaturePrivateKey, generate_signature_secret
from securechat.mls.crypto.suite import MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
from securechat.mls.framing import MLSMessage, decode_body
from securechat.mls.key_package import KeyPackage
from securechat.mls.key_package_bundle import KeyPackageBundle, generate_key_package
from securechat.mls.leaf_node import Capabilities, CredentialValidator, Lifetime
from securechat.policy import known_extensions
from securechat.wire.limits import DEVICE_ID_LENGTH

SUITE: Final = MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
"""The cipher suite of every conversation (docs/design.md, section 1)."""

CAPABILITIES: Final = Capabilities(cipher_suites=(SUITE.value,), extensions=known_extensions())

CERTIFICATE_SECONDS: Final = 10 * 365 * 86_400
"""A device's certificate outlives the device, so that no date mutes its owner."""

KEY_PACKAGE_SECONDS: Final = 90 * 86_400
"""docs/design.md, section 6: key packages live 90 days at most."""

KEY_PACKAGE_STOCK: Final = 20
"""Unused key packages we want at the server: so many people can begin a conversation with us while we are away."""

KEY_PACKAGE_LOW: Final = 10
"""When only this many are left, we publish new ones."""

MAX_KEY_PACKAGES: Final = 500
"""Private sides kept of key packages that were published and led to no Welcome yet. A server can claim at each login
that none is left: then the oldest are forgotten, and a Welcome for one of those leads nowhere."""

LAST_RESORT_RENEWAL_SECONDS: Final = 60 * 86_400
"""A last-resort key package that expires sooner is replaced, so that the server never has an expired one."""

_CLOCK_SKEW: Final = certificates.CLOCK_SKEW


class Device:
    """This device of this account."""

    def __init__(self, vault: Vault, row: DeviceRow) -> None:
        self._vault = vault
        self.row = row
        self._identity = Ed25519PrivateKey.from_private_bytes(row.identity_private)
        self.identity_key: Final = self._identity.public_key().public_bytes_raw()
        self.signature: Final = SignaturePrivateKey(SUITE, row.signature_private)

    @classmethod
    def load_or_create(cls, vault: Vault) -> "Device":
        """Return the device in the vault; a new vault gets fresh keys. Inside a transaction."""
        row = vault.device.load()
        if row is None:
            row = DeviceRow(
                vault.account,
                os.urandom(DEVICE_ID_LENGTH),
                Ed25519PrivateKey.generate().private_bytes_raw(),
                bytes(generate_signature_secret(SUITE)),
            )
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
    def id(self) -> bytes:
        """Our device id, 16 bytes."""
        return self.row.device_id

    @property
    def certificate(self) -> bytes:
        """Our certificate; empty before `meet_server`."""
        return self.row.certificate

    @property
    def credential(self) -> Credential:
        """The credential in our leaves."""
        return credential(DeviceCertificate.decode(self.row.certificate))

    def validator(self, now: int) -> CredentialValidator:
        """Return the check for leaves at this server; `now` in seconds since 1970."""
        return leaf_validator(self.row.server_id, now)

    def meet_server(self, server_id: bytes, now: int) -> None:
        """Pin the server at first contact, and certify our device for it. Raises `TrustError` if it is not that one."""
        if not self.row.server_id:
            issued = certificates.issue(
                self._identity,
                server_id=server_id,
                account=self.account,
                device_id=self.id,
                signature_key=self.signature.public_key,
                not_before=now - _CLOCK_SKEW,
                not_after=now + CERTIFICATE_SECONDS,
            )
            self._keep(replace(self.row, server_id=server_id, certificate=issued.encode()))
        elif self.row.server_id != server_id:
            raise TrustError(
                "This is not the server this vault belongs to: its id has changed. If its operator set it up anew, "
                "start with a new vault; your contacts will see a changed key. If not, do not log in."
            )

    def keep_token(self, token: bytes, expires: int) -> None:
        """Keep the resume token; `expires` in milliseconds since 1970."""
        self._keep(replace(self.row, token=token, token_expires=expires))

    def keep_inbox_cursor(self, seq: int) -> None:
        """Keep how far the inbox is read."""
        self._keep(replace(self.row, inbox_cursor=seq))

    def make_bundle(self, now: int) -> KeyPackageBundle:
        """Make a key package with its private side; `now` in seconds since 1970."""
        return generate_key_package(
            SUITE,
            self.credential,
            self.signature,
            CAPABILITIES,
            Lifetime(now - _CLOCK_SKEW, now - _CLOCK_SKEW + KEY_PACKAGE_SECONDS),
        )

    def make_key_packages(self, count: int, now: int, *, last_resort: bool = False) -> list[bytes]:
        """Make key packages, keep their private sides, return what to publish. Inside a transaction."""
        encoded = []
        for _ in range(count):
            bundle = self.make_bundle(now)
            public = bundle.key_package
            not_after = now + KEY_PACKAGE_SECONDS
            self._vault.key_packages.add(
                public.reference(SUITE), bundle.encode(), last_resort=last_resort, not_after=not_after
            )
            encoded.append(MLSMessage(public).encode())
        self._vault.key_packages.keep_newest(MAX_KEY_PACKAGES)
        return encoded

    def forget_key_packages(self, encoded: list[bytes]) -> None:
        """Delete the private sides of key packages that were not published after all."""
        for each in encoded:
            self._vault.key_packages.delete(decode_body(each, KeyPackage).reference(SUITE))

    def needs_last_resort(self, now: int) -> bool:
        """Whether the server's last-resort key package is missing or growing old."""
        return self._vault.key_packages.newest_last_resort() < now + LAST_RESORT_RENEWAL_SECONDS

    def forget_expired_key_packages(self, now: int) -> int:
        """Delete the private side of key packages that no honest Welcome can use any more. Returns how many are left.

        Last-resort ones are not counted.
        """
        self._vault.key_packages.delete_expired(now - _CLOCK_SKEW)
        return self._vault.key_packages.count()

    def _keep(self, row: DeviceRow) -> None:
        self._vault.device.save(row)
        self.row = row


def check_key_packages(
    encoded: list[bytes], account: str, *, validate: CredentialValidator, now: int
) -> tuple[KeyPackage, DeviceCertificate]:
    """Return the key package to add `account` by, of those that the server gave out, one per device.

    They are checked as RFC 9420, section 10.1 asks, belong to `account`, to different devices and to one identity key.
    An account has one place in a conversation: its device with the newest certificate takes it. The pins decide whether
    that key is the one we know. Raises `PeerError`.
    """
    checked: list[tuple[KeyPackage, DeviceCertificate]] = []
    for message in encoded:
        try:
            package = decode_body(message, KeyPackage)
            package.verify(SUITE, (), validate=validate, now=now)
        except PeerError as error:
            raise PeerError(f"The key package that the server gave out for {account} is not sound: {error}.") from error
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
    return max(checked, key=lambda each: (each[1].not_before, each[1].device_id))
