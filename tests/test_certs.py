import datetime as dt
import ipaddress
import os
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from securechat import certs
from securechat.errors import StorageError, UsageError
from securechat.files import FileLock
from securechat.transport.certificate_files import public_key_pin
from securechat.transport.tls import client_context, server_context
from tests.support.tls import handshake

FILES = ("ca.pem", "ca-key.pem", "server.pem", "server-key.pem")
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certs.generate(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def connect(folder: Path, host: str = "localhost", *, ca: Path | None = None) -> None:
    """One handshake; whatever the client refuses is raised."""
    server = server_context(folder / "server.pem", folder / "server-key.pem")
    client = client_context(ca or folder / "ca.pem")
    handshake(server, client, host)


# --- what a client accepts, and the twin of each that it refuses ---------------------------------------------------


@pytest.mark.parametrize("host", certs.DEFAULT_HOSTS)
def test_a_client_accepts_the_server_under_each_of_its_names(folder: Path, host: str) -> None:
    connect(folder, host)


@pytest.mark.parametrize(("host", "code"), [("example.org", 62), ("127.0.0.2", 64)])
def test_a_client_refuses_a_name_the_certificate_was_not_made_for(folder: Path, host: str, code: int) -> None:
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        connect(folder, host)
    assert caught.value.verify_code == code


def test_a_client_refuses_the_certificate_of_another_ca(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    certs.generate(other)
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        connect(folder, ca=other / "ca.pem")
    assert caught.value.verify_code == 19  # self-signed certificate in chain: a root, but not ours


def test_a_client_refuses_an_expired_certificate(tmp_path: Path) -> None:
    certs.generate(tmp_path, now=NOW - dt.timedelta(days=91))
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
        connect(tmp_path)


def test_a_client_refuses_a_certificate_that_is_not_valid_yet(folder: Path) -> None:
    certs.generate(folder, now=NOW + dt.timedelta(days=2))
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate is not yet valid"):
        connect(folder)


def test_a_client_refuses_a_certificate_signed_by_a_server_certificate(folder: Path) -> None:
    """The one attack that key usage and basic constraints exist for: a server that plays CA."""
    chain = x509.load_pem_x509_certificates((folder / "server.pem").read_bytes())
    leaf_key = load_pem_private_key((folder / "server-key.pem").read_bytes(), password=None)
    assert isinstance(leaf_key, ec.EllipticCurvePrivateKey)
    names = [x509.DNSName("bank.example")]
    forged, forged_key = certs._make_leaf(names, chain[0], leaf_key, NOW, NOW + dt.timedelta(days=1))
    pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in (forged, *chain))
    (folder / "server.pem").write_bytes(pem)
    (folder / "server-key.pem").write_bytes(
        forged_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        connect(folder, "bank.example")
    assert caught.value.verify_code in {24, 79}  # invalid CA certificate


def test_the_same_leaf_signed_by_the_ca_is_accepted(folder: Path) -> None:
    certs.generate(folder, ["bank.example"])
    connect(folder, "bank.example")


# --- what is in them ---------------------------------------------------------------------------------------------


def test_the_certificates_have_the_extensions_that_strict_verification_wants(folder: Path) -> None:
    leaf, ca = x509.load_pem_x509_certificates((folder / "server.pem").read_bytes())
    assert ca == x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    for certificate, is_ca in ((leaf, False), (ca, True)):
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert constraints.value == x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.critical
        assert (usage.value.key_cert_sign, usage.value.digital_signature) == (is_ca, not is_ca)
        assert certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        assert certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
        assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_a_server_certificate_lives_90_days_and_a_ca_ten_years(tmp_path: Path) -> None:
    made = certs.generate(tmp_path, now=NOW)
    assert made.not_after - NOW.replace(microsecond=0) == dt.timedelta(days=90)
    ca = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    assert dt.timedelta(days=3650) < ca.not_valid_after_utc - NOW < dt.timedelta(days=3654)
    leaf = x509.load_pem_x509_certificates((tmp_path / "server.pem").read_bytes())[0]
    for certificate in (ca, leaf):  # clients' clocks may be behind
        assert NOW.replace(microsecond=0) - certificate.not_valid_before_utc == dt.timedelta(hours=1)


def test_a_server_certificate_never_outlives_its_ca(tmp_path: Path) -> None:
    certs.generate(tmp_path, now=NOW - certs.CA_LIFE + dt.timedelta(days=5))
    renewed = certs.generate(tmp_path, now=NOW)
    assert renewed.not_after < NOW + dt.timedelta(days=6)


def test_names_and_addresses_become_the_right_kind_of_alternative_name(tmp_path: Path) -> None:
    made = certs.generate(tmp_path, ["Chat.Example", "bücher.example", "192.0.2.7", "2001:db8::1"])
    leaf = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["chat.example", "xn--bcher-kva.example"]
    addresses = [ipaddress.ip_address("192.0.2.7"), ipaddress.ip_address("2001:db8::1")]
    assert names.get_values_for_type(x509.IPAddress) == addresses
    assert made.hosts == ("chat.example", "xn--bcher-kva.example", "192.0.2.7", "2001:db8::1")


@pytest.mark.parametrize("host", ["*.example", "a" * 64, "7"])
def test_what_is_neither_a_host_name_nor_an_address_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError, match="name"):
        certs.generate(tmp_path, [host])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0:0::0"])  # noqa: S104 - nothing listens there
def test_the_address_that_a_server_listens_on_is_no_name_of_it(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError, match="nobody can connect to it: name the hosts"):
        certs.generate(tmp_path, [host])
    assert not list(tmp_path.iterdir())
    assert certs.generate(tmp_path, ["10.0.0.0"]).hosts == ("10.0.0.0",)


def test_an_address_with_a_network_interface_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names a network interface"):
        certs.generate(tmp_path, ["fe80::1%eth0"])
    assert certs.generate(tmp_path, ["fe80::1", "3com.example", "1.2.3.example"]).hosts[0] == "fe80::1"


@pytest.mark.parametrize("days", [0, -1, certs.MAX_DAYS + 1])
def test_a_lifetime_out_of_range_is_refused(tmp_path: Path, days: int) -> None:
    with pytest.raises(UsageError, match="days"):
        certs.generate(tmp_path, days=days)
    assert not list(tmp_path.iterdir())
    made = certs.generate(tmp_path, days=certs.MAX_DAYS, now=NOW)
    assert made.not_after - NOW.replace(microsecond=0) == dt.timedelta(days=825)


def test_the_pin_is_the_hash_of_the_public_key_of_the_ca(tmp_path: Path) -> None:
    made = certs.generate(tmp_path)
    ca = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    assert made.pin == public_key_pin(ca)
    assert made.pin.startswith("sha256:")
    assert len(made.pin) == len("sha256:") + 64


@pytest.mark.parametrize("name", ["ca-key.pem", "server-key.pem"])
def test_keys_can_be_read_by_their_owner_only(folder: Path, name: str) -> None:
    assert (folder / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="has no such modes")
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_new_folder_is_its_owner_s_under_any_umask(tmp_path: Path, mask: int) -> None:
    there = tmp_path / "there"
    there.mkdir(mode=0o755)
    before = os.umask(mask)
    try:
        certs.generate(there / "above" / "certs")
    finally:
        os.umask(before)
    for folder in (there / "above", there / "above" / "certs"):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert there.stat().st_mode & 0o777 == 0o755
    connect(there / "above" / "certs")


# --- a CA that can sign for the server alone ----------------------------------------------------------------------


def sign(folder: Path, name: x509.GeneralName) -> None:
    """Have the CA of a folder sign for a name, whatever it is for, and put that in the server's place."""
    ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    key = load_pem_private_key((folder / "ca-key.pem").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    leaf, leaf_key = certs._make_leaf([name], ca, key, NOW, NOW + dt.timedelta(days=1))
    (folder / "server.pem").write_bytes(leaf.public_bytes(Encoding.PEM) + ca.public_bytes(Encoding.PEM))
    (folder / "server-key.pem").write_bytes(
        leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


@pytest.mark.parametrize(
    ("hosts", "good", "bad"),
    [
        (["chat.example"], "chat.example", "bank.example"),
        (["chat.example"], "new.chat.example", "192.0.2.7"),
        (["chat.example"], "chat.example", "2001:db8::1"),
        (["192.0.2.7"], "192.0.2.7", "192.0.2.8"),
        (["192.0.2.7"], "192.0.2.7", "2001:db8::1"),
        (["192.0.2.7"], "192.0.2.7", "bank.example"),
        (["2001:db8::1", "chat.example"], "2001:db8::1", "2001:db8::2"),
    ],
)
def test_a_constrained_ca_can_sign_for_its_own_names_alone(
    tmp_path: Path, hosts: list[str], good: str, bad: str
) -> None:
    certs.generate(tmp_path, hosts, constrain=True)
    connect(tmp_path, hosts[0])
    sign(tmp_path, certs._general_name(good))
    connect(tmp_path, good)
    sign(tmp_path, certs._general_name(bad))
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        connect(tmp_path, bad)
    assert caught.value.verify_code in {47, 48}  # permitted, or excluded subtree violation


def test_a_constrained_ca_gets_no_name_that_it_cannot_sign_for(tmp_path: Path) -> None:
    certs.generate(tmp_path, ["chat.example", "192.0.2.7"], constrain=True)
    before = contents(tmp_path)
    for other in ("bank.example", "192.0.2.8", "xchat.example"):
        with pytest.raises(UsageError, match=f"not for {other}: .* --constrain.*--new-ca"):
            certs.generate(tmp_path, [other])
    assert contents(tmp_path) == before
    certs.generate(tmp_path, ["new.chat.example"])
    connect(tmp_path, "new.chat.example")


def test_a_ca_that_is_there_is_not_constrained_any_more(folder: Path) -> None:
    before = contents(folder)
    with pytest.raises(UsageError, match="--new-ca as well"):
        certs.generate(folder, constrain=True)
    assert contents(folder) == before
    certs.generate(folder, constrain=True, new_ca=True)
    connect(folder)


# --- the second call ---------------------------------------------------------------------------------------------


def test_a_second_call_renews_the_server_certificate_under_the_same_ca(folder: Path) -> None:
    before = contents(folder)
    made = certs.generate(folder)
    after = contents(folder)
    assert not made.made_ca
    assert {name for name in FILES if before[name] != after[name]} == {"server.pem", "server-key.pem"}
    connect(folder)


def test_a_second_call_keeps_the_names_and_adds_those_that_are_given(tmp_path: Path) -> None:
    certs.generate(tmp_path, ["chat.example"])
    assert certs.generate(tmp_path).hosts == ("chat.example",)
    assert certs.generate(tmp_path, ["other.example", "CHAT.example"]).hosts == ("chat.example", "other.example")
    connect(tmp_path, "chat.example")
    connect(tmp_path, "other.example")


def test_only_drops_the_names_of_before(tmp_path: Path) -> None:
    certs.generate(tmp_path, ["chat.example"])
    assert certs.generate(tmp_path, ["other.example"], only=True).hosts == ("other.example",)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        connect(tmp_path, "chat.example")
    with pytest.raises(UsageError, match="--only .* name a host"):
        certs.generate(tmp_path, only=True)


@pytest.mark.parametrize("new_ca", [False, True])
def test_names_lost_with_a_damaged_certificate_have_to_be_given_again(tmp_path: Path, *, new_ca: bool) -> None:
    certs.generate(tmp_path, ["chat.example"])
    (tmp_path / "server.pem").write_bytes(b"damaged")
    before = contents(tmp_path)
    with pytest.raises(StorageError, match="server.pem is damaged.* --host, and --only"):
        certs.generate(tmp_path, ["chat.example"], new_ca=new_ca)
    assert contents(tmp_path) == before
    certs.generate(tmp_path, ["chat.example"], only=True, new_ca=new_ca)
    connect(tmp_path, "chat.example")


@pytest.mark.skipif(sys.platform == "win32", reason="has no such modes")
def test_a_second_call_takes_the_key_of_the_ca_from_other_users(folder: Path) -> None:
    (folder / "ca-key.pem").chmod(0o644)
    certs.generate(folder)
    assert (folder / "ca-key.pem").stat().st_mode & 0o777 == 0o600


def test_only_new_ca_replaces_the_ca(folder: Path) -> None:
    before = contents(folder)
    made = certs.generate(folder, new_ca=True)
    after = contents(folder)
    assert made.made_ca
    assert all(before[name] != after[name] for name in FILES)
    connect(folder)


def remove_key(folder: Path) -> None:
    (folder / "ca-key.pem").unlink()


def remove_certificate(folder: Path) -> None:
    (folder / "ca.pem").unlink()


def remove_both(folder: Path) -> None:
    remove_key(folder)
    remove_certificate(folder)


def damage_key(folder: Path) -> None:
    (folder / "ca-key.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def damage_certificate(folder: Path) -> None:
    whole = (folder / "ca.pem").read_bytes()
    (folder / "ca.pem").write_bytes(whole[: len(whole) // 2])


def swap_key(folder: Path) -> None:
    (folder / "ca-key.pem").write_bytes((folder / "server-key.pem").read_bytes())


def put_leaf(folder: Path) -> None:
    leaf = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    (folder / "ca.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    swap_key(folder)


def encrypt_key(folder: Path) -> None:
    key = load_pem_private_key((folder / "ca-key.pem").read_bytes(), password=None)
    encryption = BestAvailableEncryption(b"secret")
    (folder / "ca-key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove_key, "ca-key.pem is missing"),
        (remove_certificate, "ca.pem is missing"),
        (remove_both, "is there, but not its CA"),
        (damage_key, "ca-key.pem is damaged.* --new-ca"),
        (damage_certificate, "ca.pem is damaged.* --new-ca"),
        (swap_key, "is not the key of"),
        (put_leaf, "ca.pem holds the certificate of a server, not of its CA.* --new-ca"),
        (encrypt_key, "ca-key.pem is encrypted.*openssl pkey.* --new-ca"),
    ],
)
def test_a_ca_that_is_not_whole_is_refused_and_left_alone(
    folder: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(StorageError, match=words):
        certs.generate(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_an_expired_ca_is_refused_and_a_new_one_mends_it(tmp_path: Path) -> None:
    certs.generate(tmp_path, now=NOW - certs.CA_LIFE - dt.timedelta(days=1))
    with pytest.raises(StorageError, match="expired on .* --new-ca"):
        certs.generate(tmp_path)
    certs.generate(tmp_path, new_ca=True)
    connect(tmp_path)


def test_two_calls_at_once_do_not_mix_their_files(folder: Path) -> None:
    lock = FileLock(folder / ".lock", busy="")
    try:
        with pytest.raises(StorageError, match="another `securechat gen-certs`"):
            certs.generate(folder)
    finally:
        lock.close()
    certs.generate(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_the_place_of_the_last_certificate_is_not_waited_for(tmp_path: Path) -> None:
    certs.generate(tmp_path, ("localhost",))
    (tmp_path / "server.pem").unlink()
    os.mkfifo(tmp_path / "server.pem")
    with pytest.raises(StorageError, match="is damaged, so the names it was made for are lost"):
        certs.generate(tmp_path)
