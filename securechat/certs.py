"""`securechat gen-certs`: a private CA and the server's certificate under it. RFC 5280, docs/design.md, section 9.

The CA is what clients trust, so it stays: a second call makes the server a new key and certificate under the same CA,
for the names that it has and those that are given. Only `new_ca` replaces the CA, and then every client needs the new
one. All certificates satisfy OpenSSL's VERIFY_X509_STRICT, which Python 3.13 turned on by default.

What a CA in a system's store may sign for is believed by every program there. This one belongs into none. For whoever
has to, `constrain` makes one that can sign for the server's own names alone (RFC 5280, section 4.2.1.10).
"""

import datetime as dt
import ipaddress
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from securechat.errors import StorageError, UsageError
from securechat.files import PRIVATE, PUBLIC, FileLock, make_private_folder, open_to_read, write_atomically
from securechat.hosts import normalise_host
from securechat.transport.certificate_files import public_key_pin, read_cas, read_key
from securechat.value import value

DEFAULT_HOSTS = ("localhost", "127.0.0.1", "::1")
DEFAULT_DAYS = 90
"""Days a server certificate lives: short enough that renewal stays practised."""
MAX_DAYS = 825
"""Days. Apple's systems refuse longer ones even from private CAs."""
CA_LIFE = dt.timedelta(days=3653)
"""Ten years: replacing a CA means reaching every user."""
CLOCK_SKEW = dt.timedelta(hours=1)
"""Certificates begin this long ago, for computers whose clock is slow."""

_ALL_4, _ALL_6 = ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")


@value
class Certificates:
    """What a call of `generate` left behind."""

    folder: Path
    pin: str
    hosts: tuple[str, ...]
    not_after: dt.datetime
    made_ca: bool


def generate(
    folder: Path,
    hosts: Sequence[str] = (),
    *,
    only: bool = False,
    days: int = DEFAULT_DAYS,
    new_ca: bool = False,
    constrain: bool = False,
    now: dt.datetime | None = None,
) -> Certificates:
    """Make or renew `ca.pem`, `ca-key.pem`, `server.pem` (leaf and CA) and `server-key.pem` in `folder`.

    The server keeps the names it has and gets `hosts`, at first DEFAULT_HOSTS if there are none; with `only` it has no
    others. `constrain`: a CA that is made can sign for these names alone, and for what is below them. Keys have mode
    0600, even a CA's key that had a wider one; a new folder is its owner's. Raises UsageError (bad host, days, options)
    and StorageError: a CA that is there but damaged, incomplete or expired, or kept elsewhere, is never replaced
    unasked, and the names in a damaged `server.pem` are not guessed.
    """
    now = (now or dt.datetime.now(dt.UTC)).replace(microsecond=0)
    if not 1 <= days <= MAX_DAYS:
        raise UsageError(f"a certificate lives 1 to {MAX_DAYS} days, not {days}")
    if only and not hosts:
        raise UsageError("--only has the certificate name nothing but what --host says: name a host, too")
    given = [_general_name(host) for host in hosts]
    make_private_folder(folder)
    lock = FileLock(folder / ".lock", busy=f"another `securechat gen-certs` is running in {folder}")
    try:
        # Before anything is written, because it may refuse.
        kept = [] if only else _names_of(folder / "server.pem")
        names = list(dict.fromkeys([*kept, *given])) or [_general_name(host) for host in DEFAULT_HOSTS]
        ca_path, ca_key_path = folder / "ca.pem", folder / "ca-key.pem"
        make_ca = new_ca or not (ca_path.exists() or ca_key_path.exists())
        if make_ca and not new_ca and (folder / "server.pem").exists():
            raise StorageError(
                f"{folder / 'server.pem'} is there, but not its CA (ca.pem, ca-key.pem): run this where they are, or "
                "replace the CA with --new-ca; every user then needs the new one"
            )
        if constrain and not make_ca:
            raise UsageError(f"the CA in {ca_path} is there; --constrain is for a new one, with --new-ca as well")
        if make_ca:
            ca, ca_key = _make_ca(now, names if constrain else [])
            write_atomically(ca_key_path, _pem(ca_key))
            write_atomically(ca_path, ca.public_bytes(Encoding.PEM), mode=PUBLIC)
        else:
            ca, ca_key = _load_ca(ca_path, ca_key_path, now)
            _check_constraints(ca, names)
        leaf, leaf_key = _make_leaf(names, ca, ca_key, now, min(now + dt.timedelta(days=days), ca.not_valid_after_utc))
        # After a crash between the two they do not match: the server says so, and running this again mends it.
        write_atomically(folder / "server-key.pem", _pem(leaf_key))
        chain = leaf.public_bytes(Encoding.PEM) + ca.public_bytes(Encoding.PEM)
        write_atomically(folder / "server.pem", chain, mode=PUBLIC)
    finally:
        lock.close()
    shown = tuple(str(name.value) for name in names)
    return Certificates(folder, public_key_pin(ca), shown, leaf.not_valid_after_utc, make_ca)


def _make_ca(
    now: dt.datetime, permitted: Sequence[x509.GeneralName]
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Make a CA; `permitted`: the only names that it can sign for, if there are any."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("securechat private CA")
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _builder(key, now, now + CA_LIFE)
        .subject_name(name)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)
    )
    if permitted:
        builder = builder.add_extension(_constraints(permitted), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(key, hashes.SHA256()), key


def _constraints(names: Sequence[x509.GeneralName]) -> x509.NameConstraints:
    """Permit these names and addresses. A kind of which there is none is excluded: else all of it were good."""
    permitted: list[x509.GeneralName] = []
    excluded: list[x509.GeneralName] = []
    for name in names:
        value = name.value
        permitted.append(x509.IPAddress(ipaddress.ip_network(value)) if isinstance(name, x509.IPAddress) else name)
    if not any(isinstance(name, x509.DNSName) for name in names):
        excluded.append(x509.DNSName(""))
    versions = {name.value.version for name in names if isinstance(name, x509.IPAddress)}
    excluded += [x509.IPAddress(network) for network in (_ALL_4, _ALL_6) if network.version not in versions]
    return x509.NameConstraints(permitted, excluded or None)


def _check_constraints(ca: x509.Certificate, names: Sequence[x509.GeneralName]) -> None:
    """Refuse a name that the CA cannot sign for. Raises UsageError."""
    try:
        permitted = ca.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    except x509.ExtensionNotFound:
        return
    for name in names:
        if not any(_covers(each, name) for each in permitted):
            raise UsageError(
                f"the CA can sign for {', '.join(str(each.value) for each in permitted)} alone, and not for "
                f"{name.value}: it was made with --constrain. Every user needs a new one that can (--new-ca)"
            )


def _covers(permitted: x509.GeneralName, name: x509.GeneralName) -> bool:
    if isinstance(permitted, x509.IPAddress) and isinstance(name, x509.IPAddress):
        return ipaddress.ip_address(str(name.value)) in ipaddress.ip_network(str(permitted.value))
    if isinstance(permitted, x509.DNSName) and isinstance(name, x509.DNSName):
        return name.value == permitted.value or name.value.endswith(f".{permitted.value}")
    return False


def _make_leaf(
    names: Sequence[x509.GeneralName],
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: dt.datetime,
    not_after: dt.datetime,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    ca_key_id = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(key, now, not_after)
        .subject_name(_name("securechat server"))
        .issuer_name(ca.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_key_id), critical=False)
    )
    return builder.sign(ca_key, hashes.SHA256()), key


def _builder(key: ec.EllipticCurvePrivateKey, now: dt.datetime, not_after: dt.datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    name = normalise_host(host)  # as Python's ssl encodes the name that it checks
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return x509.DNSName(name)
    if address.is_unspecified:
        raise UsageError(
            f"{host!a} stands for all addresses of a machine where a server listens, and nobody can connect to it: "
            "name the hosts or addresses by which clients reach the server"
        )
    if "%" in name:
        raise UsageError(f"{host!a} names a network interface; a certificate cannot: leave out % and the rest")
    return x509.IPAddress(address)


def _names_of(chain: Path) -> list[x509.GeneralName]:
    """The names in the server certificate of an earlier call, or no names if there was none. Raises StorageError."""
    try:
        with os.fdopen(open_to_read(chain), "rb") as file:
            leaf = x509.load_pem_x509_certificate(file.read())
        return list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, x509.InvalidVersion, x509.ExtensionNotFound) as error:
        raise StorageError(
            f"{chain} is damaged, so the names it was made for are lost. Pass each again with --host, and --only."
        ) from error


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load_ca(
    path: Path, key_path: Path, now: dt.datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Read the CA that is there; StorageError says what is wrong with it, and nothing has been written."""
    way_out = "Restore it from a backup, or make a new CA with --new-ca, which every user then has to receive."
    for present, absent in ((path, key_path), (key_path, path)):
        if not absent.exists():
            raise StorageError(f"{present} is there but {absent} is missing. {way_out}")
    try:
        certificate = read_cas(path)[0]
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        raise StorageError(f"{path} names no key: it has no subject key identifier. {way_out}") from None
    except StorageError as error:
        raise StorageError(f"{error}. {way_out}") from error
    _keep_private(key_path)
    try:
        key = read_key(key_path)
    except StorageError as error:
        raise StorageError(f"{error}. {way_out}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise StorageError(f"{key_path} is not the key of {path}. {way_out}")
    if certificate.not_valid_after_utc <= now:
        raise StorageError(
            f"the CA in {path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}. Make a new one with --new-ca; "
            "every user then has to receive it."
        )
    return certificate, key


def _keep_private(key_path: Path) -> None:
    """Take away the access that others have to a key, which a copy or a restore may have given them."""
    try:
        if stat.S_IMODE(key_path.stat().st_mode) & ~PRIVATE:
            key_path.chmod(PRIVATE)
    except OSError as error:
        raise StorageError(f"cannot keep {key_path} from other users: {error.strerror or error}") from error
