"""TLS 1.3 on both sides: how a client trusts a server, and what went wrong in words (docs/design.md, sections 4 and 7).

Trust is one private CA, given as a file or as the hash of its public key; the system's roots are never asked, and
there is no way to go on after a failed check. Both sides must call `check_protocol` after the handshake: OpenSSL lets a
peer pass that offers no ALPN protocol at all.
"""

import contextlib
import hashlib
import hmac
import re
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from securechat.errors import PeerError, StorageError, UnreachableError, UsageError
from securechat.transport.deadline import Deadline
from securechat.wire.limits import ALPN

_PIN = re.compile(r"sha256:[0-9a-f]{64}")

_ENCODING_DER = 2
"""`_ssl.ENCODING_DER`, which has no public name; see `_presented_chain`."""


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """The server's side. `certificate` holds its chain, leaf first and CA last, in PEM. Raises StorageError."""
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    # Only clients that resume TLS sessions would use session tickets; ours resume with a token of the chat's own.
    context.num_tickets = 0
    # The client chooses the group, and of those that OpenSSL offers ffdhe8192 costs us 160 ms a handshake, a hundred
    # times as much as X25519 (CVE-2002-20001). OpenSSL before 3.0 has no such groups in TLS 1.3.
    if ssl.OPENSSL_VERSION_INFO >= (3,):
        try:
            context.set_ecdh_curve("X25519")
        except ssl.SSLError:
            context.set_ecdh_curve("prime256v1")  # Python 3.11.2, which is Debian 12's, knows no other kind here
    try:
        # The empty password keeps OpenSSL from asking the terminal for one.
        context.load_cert_chain(certificate, key, password="")  # nosec B106  # no password, see above
    except FileNotFoundError as error:
        missing = key if certificate.exists() else certificate
        raise StorageError(f"{missing} does not exist; `securechat gen-certs` makes certificates") from error
    except OSError as error:  # ssl.SSLError is one
        raise StorageError(
            f"{certificate} and {key} are not a usable certificate and its key ({_reason(error)}); "
            "`securechat gen-certs` makes a new pair under the same CA"
        ) from error
    return context


def read_certificate(path: Path) -> x509.Certificate:
    """Return the first certificate of a PEM file: of a chain, the leaf. Raises StorageError."""
    return read_chain(path)[0]


def read_chain(path: Path) -> list[x509.Certificate]:
    """Return the certificates of a PEM file, at least one. Raises StorageError."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} is not a readable certificate: {_reason(error)}") from error


def certificate_names(certificate: x509.Certificate) -> list[str]:
    """Return the names and addresses that a server's certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):  # ValueError: one that nobody can read
        return []
    return [str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]


def rehearse_handshake(server: ssl.SSLContext, ca: x509.Certificate, host: str) -> None:
    """Let a client that trusts `ca` and knows the server as `host` shake hands with it, in memory.

    Raises UnreachableError with what such a client would say.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        client = _trusting(ca.public_bytes(Encoding.PEM).decode("ascii"))
        sides = (
            client.wrap_bio(to_client, to_server, server_hostname=host),
            server.wrap_bio(to_server, to_client, server_side=True),
        )
        for side in (*sides, *sides):  # hello; reply; the client has verified; the server has finished
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except OSError as error:  # ssl.SSLError is one
        raise UnreachableError(describe_tls_failure(error, host, 0)) from error


def shown_certificate(host: str, port: int, deadline: Deadline) -> x509.Certificate:
    """Return the certificate that a securechat server shows, unverified. Raises UnreachableError if none answers."""
    try:
        with _unverified(host, port, deadline) as tls:
            check_protocol(tls)
            der = tls.getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(der or b"")
    except (OSError, PeerError) as error:
        raise UnreachableError(describe_tls_failure(error, host, port)) from error
    except ValueError as error:
        raise UnreachableError(f"what answers at {host} shows a certificate that nobody can read") from error


def client_context(ca_file: Path) -> ssl.SSLContext:
    """The client's side: trusts certificates of the CA in `ca_file` (PEM), nothing else. Raises StorageError."""
    try:
        return _trusting(ca_file.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError; ValueError: not ASCII, or empty
        raise StorageError(f"{ca_file} is not a usable CA certificate: {_reason(error)}") from error


def client_context_for_pin(host: str, port: int, pin: str, deadline: Deadline) -> ssl.SSLContext:
    """The client's side where only the hash of the CA's public key is known (`sha256:` and 64 hex digits).

    Asks the server for its chain over a first connection that carries nothing else, and takes from it the CA whose
    key the pin names. That connection proves nothing and is closed. What proves the server is the caller's own
    connection under the returned context, which trusts that CA alone: whoever presents the CA without holding its
    private key gains nothing. Raises UsageError (malformed pin), UnreachableError (also: no such CA there).
    """
    pin = pin.strip().lower()
    if not _PIN.fullmatch(pin):
        raise UsageError("a pin looks like sha256: followed by 64 hexadecimal digits; `securechat gen-certs` prints it")
    try:
        chain = _presented_chain(host, port, deadline)
    except OSError as error:
        raise UnreachableError(describe_tls_failure(error, host, port)) from error
    for der in chain:
        try:
            certificate = x509.load_der_x509_certificate(der)
            if not hmac.compare_digest(public_key_pin(certificate), pin):
                continue
            # Its name and limits count only if the pinned key itself signed them.
            certificate.verify_directly_issued_by(certificate)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        return _trusting(certificate.public_bytes(Encoding.PEM).decode("ascii"))
    raise UnreachableError(
        f"{host} does not show the CA with the pin {pin}. Check the pin with whoever runs the server; if they made a "
        "new CA, ask for its pin in a way you trust. If neither is so, somebody may be intercepting the connection."
    )


def public_key_pin(certificate: x509.Certificate) -> str:
    """`sha256:` and the hash of the SubjectPublicKeyInfo in hex, as `openssl x509 -pubkey` and RFC 7469 have it."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(spki).hexdigest()}"


def pin_of(ca_file: Path) -> str:
    """Return the pin of the one CA in a file (PEM). Raises `UsageError`."""
    try:
        certificates = x509.load_pem_x509_certificates(ca_file.read_bytes())
    except (OSError, ValueError):
        raise UsageError(f"{ca_file} is not a usable CA certificate.") from None
    if len(certificates) != 1:
        raise UsageError(f"{ca_file} holds several certificates: name the CA that others are to trust with --pin.")
    return public_key_pin(certificates[0])


def check_protocol(tls: ssl.SSLObject | ssl.SSLSocket) -> None:
    """Call after every handshake, on both sides: raises PeerError if the peer did not agree on `securechat/1`."""
    if tls.selected_alpn_protocol() != ALPN:
        raise PeerError(f"the other side does not speak {ALPN}")


def describe_tls_failure(error: Exception, host: str, port: int) -> str:
    """Why there is no secure connection to `host`, and what to do next, for the person at the client.

    `error`: what the connection attempt, the handshake or `check_protocol` raised.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _describe_certificate(error, host)
    if isinstance(error, PeerError):
        return f"what answers at {host} is not a securechat server of this version: {error}. Check host and port."
    if isinstance(error, ssl.SSLError):
        if error.reason in _VERSION_REASONS:
            return f"{host} does not offer TLS 1.3, which securechat requires. Check host and port."
        if error.reason in _NOT_TLS_REASONS:
            return f"what answers at {host} does not speak TLS. Check host and port."
        return f"the TLS handshake with {host} failed ({_reason(error)}). Check host and port, and try again."
    if isinstance(error, socket.gaierror):
        return f"the name {host} cannot be resolved ({_reason(error)}). Check its spelling and the network."
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens at {host}, port {port}. Check host and port, and that the server is running."
    if isinstance(error, TimeoutError):
        return f"{host} did not answer in time. Check host, port and network, and try again."
    return f"the connection to {host} failed ({_reason(error)}). Try again."


_VERSION_REASONS = {"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION"}
_NOT_TLS_REASONS = {
    "WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE",
    "UNEXPECTED_EOF_WHILE_READING",
}  # fmt: skip

# X509_V_ERR_* of OpenSSL's x509_vfy.h, where the numbers have been fixed since 1.0.2.
_UNKNOWN_ISSUER = {2, 7, 18, 19, 20, 21, 30}
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_NAME = {62, 64}
_NOT_A_CA = {24, 79}


def _describe_certificate(error: ssl.SSLCertVerificationError, host: str) -> str:
    code = error.verify_code
    if code in _WRONG_NAME:
        return (
            f"the server's certificate is not for {host}. Use a name or address that it was made for, or have the "
            f"operator run `securechat gen-certs --host {host}`."
        )
    if code == _EXPIRED:
        return (
            f"the certificate of {host} has expired. Check this computer's clock; if it is right, ask the operator to "
            "run `securechat gen-certs`, which renews it."
        )
    if code == _NOT_YET_VALID:
        return f"the certificate of {host} is not valid yet. Check the clocks of this computer and of the server."
    if code in _UNKNOWN_ISSUER or code in _NOT_A_CA:
        return (
            f"the certificate of {host} does not come from the CA you trust. If the operator made a new CA, ask for "
            "its ca.pem or pin in a way you trust and pass it with --ca or --pin. If not, somebody may be intercepting "
            "the connection."
        )
    return f"the certificate of {host} is refused: {error.verify_message}. The operator can renew it: gen-certs."


def _context(protocol: int) -> ssl.SSLContext:
    """What both sides share. A bare SSLContext: no system roots, no key log, no defaults that change with Python."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols([ALPN])
    return context


def _trusting(ca_pem: str) -> ssl.SSLContext:
    context = _context(ssl.PROTOCOL_TLS_CLIENT)  # which sets CERT_REQUIRED and check_hostname
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=ca_pem)
    return context


def _presented_chain(host: str, port: int, deadline: Deadline) -> list[bytes]:
    """The certificates, in DER, that the server shows: unverified, and only good for finding the pinned one."""
    with _unverified(host, port, deadline) as tls:
        if sys.version_info >= (3, 13):
            return tls.get_unverified_chain()
        # There since 3.10, but public (and yielding bytes) only since 3.13.
        inner = tls._sslobj  # type: ignore[attr-defined]  # noqa: SLF001 - see the line above
        return [certificate.public_bytes(_ENCODING_DER) for certificate in inner.get_unverified_chain()]


@contextlib.contextmanager
def _unverified(host: str, port: int, deadline: Deadline) -> Iterator[ssl.SSLSocket]:
    """A connection to look at certificates, over which nothing is sent. Raises OSError."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the certificate is what we are looking for; nothing is sent here
    with (
        socket.create_connection((host, port), timeout=deadline.remaining()) as connection,
        context.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False) as tls,
    ):
        tls.settimeout(deadline.remaining())
        tls.do_handshake()
        yield tls


def _reason(error: Exception) -> str:
    """OpenSSL's or the system's own words, without the file names and numbers around them."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
