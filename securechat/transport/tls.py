"""TLS 1.3 on both sides: how a client trusts a server, and what went wrong in words (docs/design.md, sections 4 and 7).

Trust is one private CA, given as a file or as the hash of its public key; the system's roots are never asked, and
there is no way to go on after a failed check. Both sides must call `check_protocol` after the handshake: OpenSSL lets a
peer pass that offers no ALPN protocol at all.
"""

import contextlib
import hashlib
import hmac
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from securechat.errors import PeerError, StorageError, UnreachableError, UsageError
from securechat.files import open_to_read
from securechat.transport.certificate_files import (
    CA,
    certificate_names,
    is_self_signed,
    parse_certificate,
    public_key_pin,
    read_cas,
    read_certificate,
    read_chain,
    read_key,
)
from securechat.transport.deadline import Deadline
from securechat.transport.tcp import connect
from securechat.wire.limits import ALPN

_PIN = re.compile(r"sha256:[0-9a-f]{64}")

_ENCODING_DER = 2
"""`_ssl.ENCODING_DER`, which has no public name; see `_presented_chain`."""


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """The server's side. `certificate` holds its chain, leaf first and CA last, in PEM. Raises StorageError."""
    context = accepting_context(ALPN)
    try:
        for path in (certificate, key):
            os.close(open_to_read(path))  # nothing that OpenSSL would wait for, or that is gone at the next SIGHUP
        # The empty password keeps OpenSSL from asking the terminal for one.
        context.load_cert_chain(certificate, key, password="")  # nosec B106  # no password, see above
    except FileNotFoundError as error:
        missing = key if certificate.exists() else certificate
        raise StorageError(f"{missing} does not exist; `securechat gen-certs` makes certificates") from error
    except OSError as error:  # ssl.SSLError is one
        read_chain(certificate)  # it or the key may be something else, which these two then say
        read_key(key)
        raise StorageError(
            f"{certificate} and {key} are not a usable certificate and its key ({_reason(error)}); "
            "`securechat gen-certs` makes a new pair under the same CA"
        ) from error
    if not certificate_names(read_certificate(certificate)):
        raise StorageError(
            f"{certificate} is for no host: it has no subject alternative name, and no client takes it by its common "
            "name; `securechat gen-certs --host NAME` makes one that is"
        )
    return context


def accepting_context(protocol: str) -> ssl.SSLContext:
    """Of whoever is connected to, without a certificate yet: what strangers can have it do is cheap."""
    context = bare_context(ssl.PROTOCOL_TLS_SERVER, protocol)
    # Only clients that resume TLS sessions would use session tickets; ours resume with a token of the chat's own.
    context.num_tickets = 0
    # The client chooses the group, and of those that OpenSSL offers ffdhe8192 costs us 160 ms a handshake, a hundred
    # times as much as X25519 (CVE-2002-20001). OpenSSL before 3.0 has no such groups in TLS 1.3.
    if ssl.OPENSSL_VERSION_INFO >= (3,):
        try:
            context.set_ecdh_curve("X25519")
        except ssl.SSLError:
            context.set_ecdh_curve("prime256v1")  # Python 3.11.2, which is Debian 12's, knows no other kind here
    return context


def rehearse_handshake(server: ssl.SSLContext, ca: x509.Certificate, host: str) -> None:
    """Let a client that trusts `ca` and knows the server as `host` shake hands with it, in memory.

    Raises UnreachableError with what such a client would say.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        client = _trusting([ca])
        _shake_hands(
            client.wrap_bio(to_client, to_server, server_hostname=host),
            server.wrap_bio(to_server, to_client, server_side=True),
        )
    except OSError as error:  # ssl.SSLError is one
        raise UnreachableError(describe_tls_failure(error, host, 0)) from error


def _shake_hands(client: ssl.SSLObject, server: ssl.SSLObject) -> None:
    """Go through a handshake in memory, to its end. Raises `ssl.SSLError`.

    Where the server knows another group than the client has guessed, both begin anew (RFC 8446, section 4.1.4): that of
    Debian's Python 3.11 does so each time.
    """
    for side in (client, server) * 3:  # hello; not so; hello; reply; the client has verified; the server has finished
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()


def digest_of(certificate: bytes | None) -> bytes:
    """SHA-256 of a server's certificate (DER): it binds what is signed to a connection, as both of its sides see it.

    This is RFC 5929's tls-server-end-point, but always with SHA-256. Python offers nothing that is of one connection
    alone: `tls-unique` is not of TLS 1.3, and there is no way to RFC 9266's exporter.
    """
    if not certificate:
        raise PeerError("the other side shows no certificate")
    return hashlib.sha256(certificate).digest()


def shown_by(server: ssl.SSLContext) -> bytes:
    """Return the `digest_of` the certificate that a server with this context shows, from a handshake in memory.

    Its file may have been replaced since the context was made of it. Raises StorageError if no handshake succeeds.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = bare_context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # we talk to ourselves
    client = context.wrap_bio(to_client, to_server)
    try:
        _shake_hands(client, server.wrap_bio(to_server, to_client, server_side=True))
        return digest_of(client.getpeercert(binary_form=True))
    except OSError as error:  # ssl.SSLError is one
        raise StorageError(f"nobody could connect with this certificate: {_reason(error)}") from error


def shown_certificate(host: str, port: int, deadline: Deadline) -> x509.Certificate:
    """Return the certificate that a securechat server shows, unverified. Raises UnreachableError if none answers."""
    try:
        with _unverified(host, port, deadline) as tls:
            check_protocol(tls)
            der = tls.getpeercert(binary_form=True)
        return parse_certificate(der or b"")
    except (OSError, PeerError) as error:
        raise UnreachableError(describe_tls_failure(error, host, port)) from error
    except ValueError as error:
        raise UnreachableError(f"what answers at {host} shows a certificate that nobody can read") from error


def client_context(ca_file: Path) -> ssl.SSLContext:
    """The client's side: trusts certificates of the CAs in `ca_file` (PEM), nothing else. Raises StorageError."""
    try:
        return _trusting(read_cas(ca_file))
    except ssl.SSLError as error:
        raise StorageError(f"{ca_file} is not a usable CA certificate: {_reason(error)}") from error


def context_trusting(cas: Sequence[CA]) -> ssl.SSLContext:
    """The client's side: trusts certificates of these CAs, nothing else. Raises StorageError if one is damaged."""
    try:
        return _trusting([parse_certificate(ca.certificate) for ca in cas])
    except (ValueError, ssl.SSLError) as error:
        raise StorageError(f"a CA that was trusted before cannot be read any more: {error}") from error


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
            certificate = parse_certificate(der)
            found = hmac.compare_digest(public_key_pin(certificate), pin) and is_self_signed(certificate)
        except (ValueError, UnsupportedAlgorithm):
            continue
        if found:
            return _trusting([certificate])
    raise UnreachableError(
        f"{host} does not show the CA with the pin {pin}. Check the pin with whoever runs the server; if they made a "
        "new CA, ask for its pin in a way you trust. If neither is so, somebody may be intercepting the connection."
    )


def verified_by(tls: ssl.SSLObject) -> CA:
    """On the client's side, after the handshake: the CA by which the server's certificate was verified."""
    if sys.version_info >= (3, 13):
        der = tls.get_verified_chain()[-1]
    else:
        # As in `_presented_chain`.
        der = tls._sslobj.get_verified_chain()[-1].public_bytes(_ENCODING_DER)  # type: ignore[attr-defined]  # noqa: SLF001
    return CA.of(parse_certificate(der))


def check_protocol(tls: ssl.SSLObject | ssl.SSLSocket, protocol: str = ALPN) -> None:
    """Call after every handshake, on both sides: raises PeerError if the peer did not agree on this ALPN protocol."""
    if tls.selected_alpn_protocol() != protocol:
        raise PeerError(f"the other side does not speak {protocol}")


def describe_tls_failure(error: Exception, host: str, port: int, context: ssl.SSLContext | None = None) -> str:
    """Why there is no secure connection to `host`, and what to do next, for the person at the client.

    `error`: what the connection attempt, the handshake or `check_protocol` raised; `context`: the client's side of it.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _describe_certificate(error, host, context)
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


def _describe_certificate(error: ssl.SSLCertVerificationError, host: str, context: ssl.SSLContext | None) -> str:
    code = error.verify_code
    if code in _WRONG_NAME:
        return (
            f"the server's certificate is not for {host}. Use a name or address that it was made for, or have the "
            f"operator run `securechat gen-certs --host {host}`."
        )
    if code == _EXPIRED and context is not None and _trusts_expired(context):
        return (
            f"the CA that you trust for {host} has expired. Check this computer's clock; if it is right, ask the "
            "operator for a new one (`securechat gen-certs --new-ca`): its ca.pem or pin, in a way you trust, and pass "
            "it with --ca or --pin."
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


def _trusts_expired(context: ssl.SSLContext) -> bool:
    """Whether each CA that a context trusts has expired: OpenSSL does not say which certificate of a chain it was."""
    ends = [ssl.cert_time_to_seconds(str(ca["notAfter"])) for ca in context.get_ca_certs()]
    return all(end < time.time() for end in ends)


def bare_context(side: int, protocol: str = ALPN) -> ssl.SSLContext:
    """What both sides share. A bare SSLContext: no system roots, no key log, no defaults that change with Python."""
    context = ssl.SSLContext(side)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols([protocol])
    return context


def _trusting(cas: Sequence[x509.Certificate]) -> ssl.SSLContext:
    context = bare_context(ssl.PROTOCOL_TLS_CLIENT)  # which sets CERT_REQUIRED and check_hostname
    context.hostname_checks_common_name = False  # RFC 9525, section 2: free text, which no CA has checked as a host
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=b"".join(ca.public_bytes(Encoding.DER) for ca in cas))
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
    context = bare_context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the certificate is what we are looking for; nothing is sent here
    with (
        connect(host, port, deadline) as connection,
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
