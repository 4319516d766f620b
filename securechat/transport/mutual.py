"""TLS 1.3 between two who have told each other their certificates elsewhere: each trusts exactly that of the other.

A certificate is made for one connection and lives a day. It signs itself, is for no host and names nobody: whoever
connects to the one who listens gets to see it. What makes it somebody's is the message in which it came.
"""

import datetime as dt
import hmac
import os
import secrets
import ssl
import tempfile
from dataclasses import field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from securechat.errors import PeerError, StorageError
from securechat.transport.certificate_files import parse_certificate
from securechat.transport.tls import accepting_context, bare_context, check_protocol, digest_of
from securechat.transport.tls_connection import TLSConnection
from securechat.value import value

PROTOCOL: Final = "securechat-link/1"
"""ALPN (RFC 7301)."""

MAX_CERTIFICATE: Final = 512
"""Bytes of a certificate in DER: ours has about 370."""

LIFE: Final = dt.timedelta(days=1)
"""How long a certificate is valid: the connection for which it is there is made at once, by clocks that differ."""

CLOCK_SKEW: Final = dt.timedelta(hours=1)
"""It begins that long ago."""


@value
class Credential:
    """A certificate, in DER, and its private key, for one connection."""

    certificate: bytes
    key: Ed25519PrivateKey = field(repr=False, compare=False)


def make_credential(now: dt.datetime | None = None) -> Credential:
    """Make a key and its certificate of the day."""
    now = (now or dt.datetime.now(dt.UTC)).replace(microsecond=0)
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "securechat link")])
    key_usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(key, None)
    )
    return Credential(certificate.public_bytes(Encoding.DER), key)


def check_certificate(der: bytes, now: dt.datetime | None = None) -> None:
    """Raise PeerError unless this is one certificate such as `make_credential` makes, and in date."""
    now = now or dt.datetime.now(dt.UTC)
    if len(der) > MAX_CERTIFICATE:
        raise PeerError(f"its certificate has more than {MAX_CERTIFICATE} bytes")
    try:
        certificate = parse_certificate(der)
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        signs = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        usual = isinstance(certificate.public_key(), Ed25519PublicKey) and not signs and certificate.serial_number > 0
        whole = certificate.public_bytes(Encoding.DER) == der
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, UnsupportedAlgorithm):
        usual = whole = False
    if not (usual and whole):
        raise PeerError("its certificate is none of a direct link")
    if end - begin > LIFE + CLOCK_SKEW:
        raise PeerError("its certificate is valid for more than a day")
    if not begin <= now <= end:
        raise PeerError("its certificate is out of date, or one of the two clocks is wrong")


class MutualTLS:
    """One side of such connections: the one who `listens`, or the one who connects."""

    def __init__(self, own: Credential, peer: bytes, *, listens: bool) -> None:
        """`peer`: the other one's certificate, in DER.

        Raises PeerError if that is none (`check_certificate`), StorageError if there is no place for ours.
        """
        check_certificate(peer)
        self._peer, self._listens = peer, listens
        context = accepting_context(PROTOCOL) if listens else bare_context(ssl.PROTOCOL_TLS_CLIENT, PROTOCOL)
        context.check_hostname = False  # it is for none
        context.verify_mode = ssl.CERT_REQUIRED
        # Partial: what is trusted is no CA, but the one certificate that may be shown.
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=peer)
        _load(context, own)
        self._context = context

    def connection(self) -> TLSConnection:
        """Return a connection in which nothing has been said."""
        return TLSConnection(self._context, server_side=self._listens, check=self._check)

    def _check(self, tls: ssl.SSLObject) -> None:
        check_protocol(tls, PROTOCOL)
        if not hmac.compare_digest(digest_of(tls.getpeercert(binary_form=True)), digest_of(self._peer)):
            raise PeerError("the other side shows another certificate than the one that it told")


def _load(context: ssl.SSLContext, own: Credential) -> None:
    """Hand OpenSSL our certificate and key, for which Python knows no way but a file. Raises StorageError.

    It is there for a moment. What a disk keeps of it is encrypted under a password that nobody has.
    """
    password = secrets.token_bytes(32).hex()
    key = own.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode()))
    certificate = x509.load_der_x509_certificate(own.certificate).public_bytes(Encoding.PEM)
    path = ""
    try:
        opened, path = tempfile.mkstemp(prefix="securechat-")  # mode 0600
        with os.fdopen(opened, "wb") as file:
            file.write(key + certificate)
        context.load_cert_chain(path, password=password)
    except OSError as error:  # ssl.SSLError is one
        raise StorageError(
            f"there is no direct link without a temporary file, and {tempfile.gettempdir()} takes none: "
            f"{error.strerror or error}"
        ) from error
    finally:
        if path:
            Path(path).unlink()
