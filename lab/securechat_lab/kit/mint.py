"""The mint: a good certificate for `localhost`, and nine bad ones such as attackers have had.

    other-ca       of a CA that nobody trusts
    namesake-ca    of another CA with the name of the trusted one
    self-signed    of nobody but itself
    wrong-name     of the trusted CA, for another host
    common-name    of the trusted CA, with the host's name where no CA checks it: in the subject alone (RFC 9525, 2)
    expired        of the trusted CA, and over: the key was stolen before
    not-yet        of the trusted CA, and valid from tomorrow on
    client-only    of the trusted CA, for clients (RFC 5280, 4.2.1.12)
    by-leaf        signed by the key of another server's certificate, which is no CA (RFC 5280, 4.2.1.9)
"""

import datetime as dt
import ssl
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from securechat.wire.limits import ALPN

BAD: Final = (
    "other-ca", "namesake-ca", "self-signed", "wrong-name", "common-name", "expired", "not-yet", "client-only",
    "by-leaf",
)  # fmt: skip
HOST: Final = "localhost"


class Signer(NamedTuple):
    """A certificate with its key, and those that belong above it in a chain."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey
    above: tuple[x509.Certificate, ...] = ()


class Mint:
    """Makes certificates, into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ca = _ca("securechat lab CA")
        self.namesake = _ca("securechat lab CA")
        self._other = _ca("another CA")
        self.ca_file = folder / "lab-ca.pem"
        self.ca_file.write_bytes(self.ca.certificate.public_bytes(Encoding.PEM))

    def server(self, kind: str) -> ssl.SSLContext:
        """Return what shows one to clients: `good`, or one of `BAD`. A careful server would not take all of them."""
        match kind:
            case "good":
                made = _leaf(self.ca)
            case "other-ca":
                made = _leaf(self._other)
            case "namesake-ca":
                made = _leaf(self.namesake)
            case "self-signed":
                made = _leaf(None)
            case "wrong-name":
                made = _leaf(self.ca, names=("chat.example",))
            case "common-name":
                made = _leaf(self.ca, names=())
            case "expired":
                made = _leaf(self.ca, days=(-90, -1))
            case "not-yet":
                made = _leaf(self.ca, days=(1, 90))
            case "client-only":
                made = _leaf(self.ca, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
            case "by-leaf":
                made = _leaf(_leaf(self.ca, names=("chat.example",)))
            case _:
                raise ValueError(kind)
        chain, key = self._folder / f"{kind}.pem", self._folder / f"{kind}-key.pem"
        chain.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in (made.certificate, *made.above)))
        key.write_bytes(made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols([ALPN])
        context.load_cert_chain(chain, key)
        return context


def _ca(name: str) -> Signer:
    return _sign(name, None, days=(-1, 365), ca=True)


def _leaf(
    by: Signer | None,
    *,
    names: tuple[str, ...] = (HOST,),
    days: tuple[int, int] = (-1, 90),
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
) -> Signer:
    return _sign(HOST, by, names=names, days=days, usage=usage)


def _sign(
    subject: str,
    by: Signer | None,
    *,
    days: tuple[int, int],
    names: tuple[str, ...] = (),
    usage: x509.ObjectIdentifier | None = None,
    ca: bool = False,
) -> Signer:
    key, now = generate_private_key(SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    signer = by.key if by is not None else key
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usages = {
        "digital_signature": True, "content_commitment": False, "key_encipherment": False, "data_encipherment": False,
        "key_agreement": False, "key_cert_sign": ca, "crl_sign": ca, "encipher_only": False, "decipher_only": False,
    }  # fmt: skip
    builder = (
        x509.CertificateBuilder(by.certificate.subject if by is not None else name, name, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days[0]))
        .not_valid_after(now + dt.timedelta(days[1]))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(x509.KeyUsage(**usages), critical=True)
        .add_extension(own, critical=False)
    )
    if by is not None:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key())
        builder = builder.add_extension(issuer, critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if names:
        hosts = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
        builder = builder.add_extension(hosts, critical=False)
    made = builder.sign(signer, SHA256())
    return Signer(made, key, (by.certificate, *by.above) if by is not None else ())
