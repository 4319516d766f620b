"""Certificates and keys in files, as people hand them over: PEM, or in one sentence what is there instead.

Comments in any encoding and a byte order mark are no fault: text may stand around what is between `-----BEGIN` and
`-----END` (RFC 7468, section 2).
"""

import hashlib
import os
import re
import warnings
from pathlib import Path
from typing import Final, Literal, NoReturn, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.utils import CryptographyDeprecationWarning

from securechat.errors import StorageError, UsageError
from securechat.files import open_to_read
from securechat.value import value

# What strangers put into a certificate would be told by the library, on the user's screen.
warnings.filterwarnings("ignore", category=CryptographyDeprecationWarning)

MAX_FILE: Final = 1 << 20
"""Bytes. A chain of three certificates has 3 KiB; all the roots that a system trusts, a quarter of this."""

@value
class CA:
    """A CA that signed itself: SHA-256 of its SubjectPublicKeyInfo, 32 bytes, and its certificate in DER."""

    pin: bytes
    certificate: bytes

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        """Describe the CA that has this certificate."""
        return cls(_digest_of_key(certificate), certificate.public_bytes(Encoding.DER))

    @property
    def text(self) -> str:
        """The pin as people write it."""
        return f"sha256:{self.pin.hex()}"


_Kind = Literal["certificate", "private key"]

_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff", b"-\0-\0", b"\0-\0-")
"""How text in UTF-16 begins: with its byte order mark, or else with the hyphens of PEM."""

_BEGIN: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")


def parse_certificate(der: bytes) -> x509.Certificate:
    """Return a certificate that anybody may have made. Raises ValueError for whatever cannot be read as one."""
    try:
        return x509.load_der_x509_certificate(der)
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from None


def read_certificate(path: Path) -> x509.Certificate:
    """Return the first certificate of a PEM file: of a chain, the leaf. Raises StorageError."""
    return read_chain(path)[0]


def read_chain(path: Path) -> list[x509.Certificate]:
    """Return the certificates of a PEM file, at least one. Raises StorageError."""
    content = _read(path)
    try:
        return x509.load_pem_x509_certificates(content)
    except (ValueError, x509.InvalidVersion):
        _refuse(path, content, "certificate")


def read_cas(path: Path) -> list[x509.Certificate]:
    """Return those certificates of a PEM file that are CAs and signed themselves, at least one. Raises StorageError.

    Others may stand beside them, as in the chain that a server shows.
    """
    chain = read_chain(path)
    cas = [certificate for certificate in chain if _signs(certificate) and is_self_signed(certificate)]
    if cas:
        return cas
    first = chain[0]
    by = first.issuer.rfc4514_string()
    if not _signs(first):
        raise StorageError(
            f"{path} holds the certificate of a server, not of its CA: that is in the ca.pem that gen-certs has made"
        )
    if first.subject != first.issuer:
        raise StorageError(f"{path} holds an intermediate CA: name the one at the top, which signed itself ({by!a})")
    raise StorageError(f"{path} holds a CA whose own signature is not right: ask for the file again")


def read_key(path: Path) -> PrivateKeyTypes:
    """Return the private key of a PEM file. Raises StorageError."""
    content = _read(path)
    try:
        return load_pem_private_key(content, password=None)
    except TypeError:
        raise StorageError(
            f"{path} is encrypted, and nobody is there to type its passphrase at each start: "
            f"`openssl pkey -in {path} -out NEW.pem` takes it off; keep that file from others"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        _refuse(path, content, "private key")


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether its own key has signed it: only then do its name and its limits count."""
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def certificate_names(certificate: x509.Certificate) -> list[str]:
    """Return the names and addresses that a server's certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):  # ValueError: one that nobody can read
        return []
    return [str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]


def public_key_pin(certificate: x509.Certificate) -> str:
    """`sha256:` and the hash of the SubjectPublicKeyInfo in hex, as `openssl x509 -pubkey` and RFC 7469 have it."""
    return f"sha256:{_digest_of_key(certificate).hex()}"


def pin_of(ca_file: Path) -> str:
    """Return the pin of the one CA in a file (PEM). Raises `StorageError`, `UsageError`."""
    cas = read_cas(ca_file)
    if len(cas) != 1:
        raise UsageError(f"{ca_file} holds several CAs: name the one that others are to trust with --pin.")
    return public_key_pin(cas[0])


def issuer_of(certificate: x509.Certificate) -> str:
    """Return what tells one CA's certificates from another's, 64 hexadecimal digits: SHA-256 of the issuer's key as the
    certificate names it (RFC 5280, section 4.2.1.1), or of the issuer's name where it does not."""
    try:
        named = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (x509.ExtensionNotFound, ValueError):
        named = None
    return hashlib.sha256(named or certificate.issuer.public_bytes()).hexdigest()


def _digest_of_key(certificate: x509.Certificate) -> bytes:
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()


def _signs(certificate: x509.Certificate) -> bool:
    """Whether it may sign others (RFC 5280, section 4.2.1.9)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _read(path: Path) -> bytes:
    try:
        with os.fdopen(open_to_read(path, once=True), "rb") as opened:
            content = opened.read(MAX_FILE + 1)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(content) > MAX_FILE:
        raise StorageError(f"{path} is larger than {MAX_FILE >> 20} MiB: this is no certificate and no key")
    return content


def _refuse(path: Path, content: bytes, kind: _Kind) -> NoReturn:
    """Say what a file is in which there is no such thing that can be read. Raises StorageError."""
    labels = {label.decode("ascii").lower() for label in _BEGIN.findall(content)}
    if not content.strip():
        fault = "is empty"
    elif content.lstrip().startswith(_UTF_16):
        fault = "is text in UTF-16: save it as UTF-8"
    elif kind in {label.removeprefix("ec ").removeprefix("rsa ") for label in labels}:
        fault = f"is damaged, and the {kind} in it cannot be read: put a whole copy in its place"
    elif labels:
        fault = f"holds no {kind}, but: {', '.join(sorted(labels))}"
    elif _is_der(content, kind):
        tool = "x509" if kind == "certificate" else "pkey"
        fault = f"is in DER; `openssl {tool} -inform der -in {path} -out NEW.pem` makes PEM of it, which is needed"
    else:
        fault = f"holds no {kind} in PEM, which begins with `-----BEGIN`"
    raise StorageError(f"{path} {fault}")


def _is_der(content: bytes, kind: _Kind) -> bool:
    try:
        if kind == "certificate":
            parse_certificate(content)
        else:
            load_der_private_key(content, password=None)
    except TypeError:  # one with a passphrase
        return True
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True
