import contextlib
import datetime as dt
import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
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

from securechat import certs
from securechat.errors import PeerError, StorageError, UnreachableError, UsageError
from securechat.transport.certificate_files import MAX_FILE, pin_of, public_key_pin, read_certificate
from securechat.transport.deadline import Deadline
from securechat.transport.tls import (
    check_protocol,
    client_context,
    client_context_for_pin,
    describe_tls_failure,
    rehearse_handshake,
    server_context,
    shown_by,
)
from securechat.transport.tls_connection import TLSConnection
from tests.support.tls import handshake

PATIENCE = 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    certs.generate(folder)
    return folder


@pytest.fixture
def server(folder: Path) -> ssl.SSLContext:
    return server_context(folder / "server.pem", folder / "server-key.pem")


@pytest.fixture
def client(folder: Path) -> ssl.SSLContext:
    return client_context(folder / "ca.pem")


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A real port of this machine, where `serve` gets each connection, one after the other."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(PATIENCE)
                serve(connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):  # macOS: a listener cannot be shut down, but closing it wakes the thread
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE)


def tls_server(context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(1)

    return serve


def connect(context: ssl.SSLContext, port: int, host: str = "localhost") -> ssl.SSLSocket:
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


# --- contexts -----------------------------------------------------------------------------------------------------


def test_both_sides_agree_on_tls_1_3_and_on_the_protocol(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    for end in handshake(server, client, "localhost"):
        assert end.version() == "TLSv1.3"
        assert end.compression() is None
        check_protocol(end)


def test_a_client_without_our_protocol_is_refused_after_the_handshake(server: ssl.SSLContext, folder: Path) -> None:
    stranger = ssl.create_default_context(cafile=folder / "ca.pem")
    accepted, _ = handshake(server, stranger, "localhost")
    with pytest.raises(PeerError, match="does not speak securechat/1"):
        check_protocol(accepted)


def test_a_server_without_our_protocol_is_refused_after_the_handshake(client: ssl.SSLContext, folder: Path) -> None:
    stranger = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    stranger.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
    stranger.set_alpn_protocols(["http/1.1"])
    _, connected = handshake(stranger, client, "localhost")
    with pytest.raises(PeerError, match="does not speak securechat/1"):
        check_protocol(connected)


def test_the_server_refuses_tls_1_2(server: ssl.SSLContext, folder: Path) -> None:
    old = ssl.create_default_context(cafile=folder / "ca.pem")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError) as caught:
        handshake(server, old, "localhost")
    assert caught.value.reason == "UNSUPPORTED_PROTOCOL"


def test_the_client_refuses_tls_1_2(client: ssl.SSLContext, folder: Path) -> None:
    old = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    old.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError) as caught:
        handshake(old, client, "localhost")
    assert caught.value.reason in {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION"}


@pytest.mark.parametrize("group", ["ffdhe2048", "ffdhe8192", "secp521r1", "X448"])
def test_the_server_computes_in_no_group_that_is_dear(
    server: ssl.SSLContext, client: ssl.SSLContext, folder: Path, group: str
) -> None:
    handshake(server, client, "localhost")
    try:
        client.set_ecdh_curve(group)
    except ssl.SSLError:
        pytest.skip("this Python cannot ask for the group")
    with pytest.raises(ssl.SSLError, match="NO_SUITABLE_KEY_SHARE"):
        handshake(server, client, "localhost")
    by_default = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # the twin: what OpenSSL takes without being told
    by_default.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
    handshake(by_default, client, "localhost")


def test_the_server_gives_out_no_session_tickets(server: ssl.SSLContext) -> None:
    assert server.num_tickets == 0


def test_the_client_trusts_no_root_but_the_given_one(client: ssl.SSLContext, folder: Path) -> None:
    ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    assert client.get_ca_certs(binary_form=True) == [ca.public_bytes(Encoding.DER)]
    assert client.verify_mode is ssl.CERT_REQUIRED
    assert client.check_hostname
    assert client.verify_flags & ssl.VERIFY_X509_STRICT


def test_a_missing_certificate_names_the_command_that_makes_one(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(StorageError, match="server.pem does not exist; `securechat gen-certs`"):
        server_context(tmp_path / "server.pem", tmp_path / "server-key.pem")
    with pytest.raises(StorageError, match="no-key.pem does not exist"):
        server_context(folder / "server.pem", folder / "no-key.pem")


def test_a_certificate_with_the_wrong_key_is_refused_in_words(folder: Path) -> None:
    with pytest.raises(StorageError, match="not a usable certificate and its key .key values mismatch"):
        server_context(folder / "server.pem", folder / "ca-key.pem")


def test_an_encrypted_key_is_refused_without_asking_the_terminal(tmp_path: Path, folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    encryption = BestAvailableEncryption(b"hunter2")
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    with pytest.raises(StorageError, match=r"key\.pem is encrypted.*`openssl pkey -in"):
        server_context(folder / "server.pem", tmp_path / "key.pem")


@pytest.mark.parametrize("alternative", [True, False])
def test_a_certificate_that_names_its_host_as_a_common_name_alone_is_for_no_host(
    folder: Path, tmp_path: Path, *, alternative: bool
) -> None:
    ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    ca_key = load_pem_private_key((folder / "ca-key.pem").read_bytes(), password=None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    key_id = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    subject = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "localhost")])
    builder = (
        x509.CertificateBuilder(ca.subject, subject, key.public_key(), 7, now - dt.timedelta(1), now + dt.timedelta(1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)
    )
    if alternative:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    chain, key_file = tmp_path / "server.pem", tmp_path / "key.pem"
    chain.write_bytes(builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # somebody else's, who does not look
    server.load_cert_chain(chain, key_file)
    client = client_context(folder / "ca.pem")
    if alternative:
        handshake(server, client, "localhost")
        server_context(chain, key_file)
        return
    assert "is not for localhost" in reason_of_refusal(server, client)
    with pytest.raises(StorageError, match="for no host: it has no subject alternative name"):
        server_context(chain, key_file)


# --- files, and what they may be instead ----------------------------------------------------------------------------


def ca_of(subject: str, issuer: x509.Certificate | None = None, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    """A CA in PEM: signed by itself, or by `key` as that of `issuer`."""
    own = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, subject)])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder(
            issuer.subject if issuer else name, name, own.public_key(), 7, now, now + dt.timedelta(9)
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key or own, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def intermediate(folder: Path) -> bytes:
    key = load_pem_private_key((folder / "ca-key.pem").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return ca_of("below", x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes()), key)


def signed_by_another(_: Path) -> bytes:
    return ca_of("a", x509.load_pem_x509_certificate(ca_of("a")), ec.generate_private_key(ec.SECP256R1()))


def der(folder: Path) -> bytes:
    return x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes()).public_bytes(Encoding.DER)


def der_key(folder: Path) -> bytes:
    key = load_pem_private_key((folder / "server-key.pem").read_bytes(), password=None)
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def leaf(folder: Path) -> bytes:
    return read_certificate(folder / "server.pem").public_bytes(Encoding.PEM)


def whole(folder: Path) -> bytes:
    return (folder / "ca.pem").read_bytes()


FAULTS: list[tuple[Callable[[Path], bytes], str]] = [
    (lambda _: b" ", "is empty"),
    (lambda _: b"no certificate", "holds no certificate in PEM, which begins with `-----BEGIN`"),
    (lambda folder: whole(folder).decode().encode("utf-16"), "is text in UTF-16: save it as UTF-8"),
    (lambda folder: whole(folder).decode().encode("utf-16-be"), "is text in UTF-16: save it as UTF-8"),
    (der, "is in DER; `openssl x509 -inform der -in "),
    (lambda folder: whole(folder)[:200], "is damaged, and the certificate in it cannot be read"),
    (lambda folder: (folder / "ca-key.pem").read_bytes(), "holds no certificate, but: private key"),
    (lambda _: b"x" * (MAX_FILE + 1), "is larger than 1 MiB"),
]


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        *FAULTS,
        (intermediate, "holds an intermediate CA: name the one at the top, which signed itself .'CN=securechat"),
        (leaf, "holds the certificate of a server, not of its CA"),
        (signed_by_another, "whose own signature is not right"),
    ],
)
def test_what_a_ca_file_is_instead_is_said_in_one_sentence(
    folder: Path, tmp_path: Path, make: Callable[[Path], bytes], fault: str
) -> None:
    (tmp_path / "ca.pem").write_bytes(make(folder))
    for use in (client_context, pin_of):
        with pytest.raises(StorageError, match=fault):
            use(tmp_path / "ca.pem")


@pytest.mark.parametrize(("make", "fault"), FAULTS)
def test_what_a_servers_certificate_is_instead_is_said_in_one_sentence(
    folder: Path, tmp_path: Path, make: Callable[[Path], bytes], fault: str
) -> None:
    (tmp_path / "server.pem").write_bytes(make(folder))
    with pytest.raises(StorageError, match=fault):
        server_context(tmp_path / "server.pem", folder / "server-key.pem")


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda _: b"", "is empty"),
        (whole, "holds no private key, but: certificate"),
        (der_key, "is in DER; `openssl pkey -inform der -in "),
        (lambda folder: (folder / "server-key.pem").read_bytes()[:90], "is damaged, and the private key in it"),
    ],
)
def test_what_a_servers_key_is_instead_is_said_in_one_sentence(
    folder: Path, tmp_path: Path, make: Callable[[Path], bytes], fault: str
) -> None:
    (tmp_path / "key.pem").write_bytes(make(folder))
    with pytest.raises(StorageError, match=fault):
        server_context(folder / "server.pem", tmp_path / "key.pem")


@pytest.mark.parametrize(
    "change",
    [
        lambda pem: "# Prüfstelle für 東京\n".encode() + pem,
        lambda pem: "# Pr\xfcfstelle\n".encode("latin-1") + pem,
        lambda pem: b"\xef\xbb\xbf" + pem,
        lambda pem: pem.replace(b"\n", b"\r\n"),
    ],
)
def test_comments_and_a_byte_order_mark_are_no_fault(
    folder: Path, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    for name in ("ca.pem", "server.pem"):
        (tmp_path / name).write_bytes(change((folder / name).read_bytes()))
    server = server_context(tmp_path / "server.pem", folder / "server-key.pem")
    handshake(server, client_context(tmp_path / "ca.pem"), "localhost")
    assert pin_of(tmp_path / "ca.pem") == pin_of(folder / "ca.pem")


def test_the_chain_of_a_server_names_its_ca_and_several_cas_have_no_one_pin(folder: Path, tmp_path: Path) -> None:
    assert pin_of(folder / "server.pem") == pin_of(folder / "ca.pem")
    (tmp_path / "ca.pem").write_bytes(whole(folder) + ca_of("another"))
    assert len(client_context(tmp_path / "ca.pem").get_ca_certs()) == 2
    with pytest.raises(UsageError, match="several CAs"):
        pin_of(tmp_path / "ca.pem")


# --- pins ---------------------------------------------------------------------------------------------------------


def test_a_pin_leads_to_a_verified_connection(server: ssl.SSLContext, folder: Path) -> None:
    with listening(tls_server(server)) as port:
        context = client_context_for_pin("127.0.0.1", port, pin_of(folder / "ca.pem"), Deadline(PATIENCE))
        with connect(context, port) as tls:
            check_protocol(tls)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_pinned_connection_still_checks_the_name(server: ssl.SSLContext, folder: Path) -> None:
    with listening(tls_server(server)) as port:
        context = client_context_for_pin("127.0.0.1", port, pin_of(folder / "ca.pem"), Deadline(PATIENCE))
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            connect(context, port, "example.org")


def test_a_server_under_another_ca_does_not_match_the_pin(server: ssl.SSLContext, tmp_path: Path) -> None:
    pin = certs.generate(tmp_path).pin
    with listening(tls_server(server)) as port, pytest.raises(UnreachableError, match="does not show the CA"):
        client_context_for_pin("127.0.0.1", port, pin, Deadline(PATIENCE))


def test_a_pin_of_the_server_certificate_itself_is_not_a_ca(server: ssl.SSLContext, folder: Path) -> None:
    pin = public_key_pin(read_certificate(folder / "server.pem"))
    with listening(tls_server(server)) as port, pytest.raises(UnreachableError, match="does not show the CA"):
        client_context_for_pin("127.0.0.1", port, pin, Deadline(PATIENCE))


def test_who_shows_the_pinned_ca_without_its_key_gains_nothing(folder: Path, tmp_path: Path) -> None:
    """The attack on pins: append the true CA, which is public, to a chain of one's own."""
    certs.generate(tmp_path)
    chain = tmp_path / "server.pem"
    chain.write_bytes(chain.read_bytes() + (folder / "ca.pem").read_bytes())
    attacker = server_context(chain, tmp_path / "server-key.pem")
    with listening(tls_server(attacker)) as port:
        context = client_context_for_pin("127.0.0.1", port, pin_of(folder / "ca.pem"), Deadline(PATIENCE))
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            connect(context, port)
    assert caught.value.verify_code in {18, 19, 20, 21}


def test_a_certificate_about_the_pinned_key_that_the_key_did_not_sign_is_ignored(folder: Path, tmp_path: Path) -> None:
    """An attacker can put the CA's public key into a certificate of their own, with other names and limits."""
    true_ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    own_key = ec.generate_private_key(ec.SECP256R1())
    forged = (
        x509.CertificateBuilder(true_ca.issuer, true_ca.subject, true_ca.public_key(), 1)
        .not_valid_before(true_ca.not_valid_before_utc)
        .not_valid_after(true_ca.not_valid_after_utc + dt.timedelta(days=9999))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(own_key, hashes.SHA256())
    )
    certs.generate(tmp_path)
    chain = tmp_path / "server.pem"
    chain.write_bytes(chain.read_bytes() + forged.public_bytes(Encoding.PEM))
    attacker = server_context(chain, tmp_path / "server-key.pem")
    with listening(tls_server(attacker)) as port, pytest.raises(UnreachableError, match="does not show the CA"):
        client_context_for_pin("127.0.0.1", port, public_key_pin(true_ca), Deadline(PATIENCE))


@pytest.mark.parametrize("version", [2, 4])
def test_a_certificate_of_a_version_that_there_is_not_is_passed_over(
    folder: Path, tmp_path: Path, version: int
) -> None:
    """Nothing that anybody shows before they are verified ends a client: 2 stands for version 3."""
    certs.generate(tmp_path)
    chain = tmp_path / "server.pem"
    ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes()).public_bytes(Encoding.DER)
    place = ca.index(bytes.fromhex("a003020102")) + 4
    odd = ca[:place] + bytes([version]) + ca[place + 1 :]
    chain.write_text(chain.read_text() + ssl.DER_cert_to_PEM_cert(odd))
    attacker = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    attacker.set_alpn_protocols(["securechat/1"])
    attacker.load_cert_chain(chain, tmp_path / "server-key.pem")
    with listening(tls_server(attacker)) as port:
        if version == 2:
            assert client_context_for_pin("127.0.0.1", port, pin_of(folder / "ca.pem"), Deadline(PATIENCE))
        else:
            with pytest.raises(UnreachableError, match="does not show the CA"):
                client_context_for_pin("127.0.0.1", port, pin_of(folder / "ca.pem"), Deadline(PATIENCE))


def test_both_sides_of_a_connection_know_the_certificate_that_it_has(
    folder: Path, client: ssl.SSLContext, tmp_path: Path
) -> None:
    chain, key = tmp_path / "server.pem", tmp_path / "server-key.pem"
    certs.generate(tmp_path / "new")
    for path in (chain, key):
        path.write_bytes((folder / path.name).read_bytes())
    server = server_context(chain, key)
    leaf = read_certificate(chain)
    for path in (chain, key):  # the file is another one now, and the context is not
        path.write_bytes((tmp_path / "new" / path.name).read_bytes())
    expected = hashlib.sha256(leaf.public_bytes(Encoding.DER)).digest()
    assert shown_by(server) == expected
    assert shown_by(server_context(chain, key)) != expected
    ours = TLSConnection(client, server_side=False, server_hostname="localhost")
    theirs = TLSConnection(server, server_side=True)
    while not (ours.established and theirs.established):
        theirs.receive(ours.data_to_send())
        ours.receive(theirs.data_to_send())
    assert ours.shown() == expected


def test_a_server_that_wants_another_group_is_rehearsed_to_the_end(folder: Path) -> None:
    """A HelloRetryRequest: both sides say hello twice. The server of Debian's Python 3.11 asks for it by itself."""
    server = server_context(folder / "server.pem", folder / "server-key.pem")
    server.set_ecdh_curve("secp384r1")
    leaf, ca = read_certificate(folder / "server.pem"), read_certificate(folder / "ca.pem")
    assert shown_by(server) == hashlib.sha256(leaf.public_bytes(Encoding.DER)).digest()
    rehearse_handshake(server, ca, "localhost")
    with pytest.raises(UnreachableError, match="is not for example.org"):
        rehearse_handshake(server, ca, "example.org")


@pytest.mark.parametrize("pin", ["", "sha256:", "md5:" + "0" * 64, "sha256:" + "0" * 63, "sha256:" + "g" * 64])
def test_a_malformed_pin_is_refused_before_any_connection(pin: str) -> None:
    with pytest.raises(UsageError, match="a pin looks like"):
        client_context_for_pin("192.0.2.1", 9, pin, Deadline(PATIENCE))


def test_looking_for_a_pin_keeps_to_its_deadline(folder: Path) -> None:
    released = threading.Event()

    def stay_silent(_: socket.socket) -> None:
        released.wait(PATIENCE)

    with listening(stay_silent) as port:
        try:
            with pytest.raises(UnreachableError, match="did not answer in time"):
                client_context_for_pin("127.0.0.1", port, pin_of(folder / "ca.pem"), Deadline(0.2))
        finally:
            released.set()


# --- what went wrong, in words ------------------------------------------------------------------------------------


def reason_of_refusal(server: ssl.SSLContext, client: ssl.SSLContext, host: str = "localhost") -> str:
    with pytest.raises(ssl.SSLError) as caught:
        handshake(server, client, host)
    return describe_tls_failure(caught.value, host, 4433, client)


def test_a_wrong_name_is_named_with_the_next_step(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    for host in ("example.org", "192.0.2.9"):
        text = reason_of_refusal(server, client, host)
        assert f"is not for {host}" in text
        assert f"gen-certs --host {host}" in text


def test_a_wrong_ca_is_named_with_the_next_step(server: ssl.SSLContext, tmp_path: Path) -> None:
    certs.generate(tmp_path)
    text = reason_of_refusal(server, client_context(tmp_path / "ca.pem"))
    assert "does not come from the CA you trust" in text
    assert "--ca" in text


def test_a_ca_that_is_not_in_the_chain_is_named_the_same(client: ssl.SSLContext) -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(server)
    assert "does not come from the CA you trust" in reason_of_refusal(server, client)


@pytest.mark.parametrize(("days", "words"), [(-91, "has expired"), (2, "not valid yet")])
def test_wrong_dates_are_named_with_the_next_step(folder: Path, tmp_path: Path, days: int, words: str) -> None:
    for name in ("ca.pem", "ca-key.pem"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    certs.generate(tmp_path, now=dt.datetime.now(dt.UTC) + dt.timedelta(days=days))
    server = server_context(tmp_path / "server.pem", tmp_path / "server-key.pem")
    text = reason_of_refusal(server, client_context(tmp_path / "ca.pem"))
    assert f"the certificate of localhost {'is ' if days > 0 else ''}{words}" in text
    assert "clock" in text


def test_it_is_said_whether_the_ca_has_expired_or_the_hosts_certificate(tmp_path: Path) -> None:
    certs.generate(tmp_path, days=certs.MAX_DAYS, now=dt.datetime.now(dt.UTC) - certs.CA_LIFE - dt.timedelta(days=1))
    server = server_context(tmp_path / "server.pem", tmp_path / "server-key.pem")
    text = reason_of_refusal(server, client_context(tmp_path / "ca.pem"))
    assert "the CA that you trust for localhost has expired" in text
    assert "--new-ca" in text


def test_an_old_tls_version_is_named(client: ssl.SSLContext, folder: Path) -> None:
    def serve(connection: socket.socket) -> None:
        old = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        old.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        tls_server(old)(connection)

    assert "does not offer TLS 1.3" in failure_at(serve, client)


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.0\r\n", b"\0" * 64, b""])
def test_a_server_that_does_not_speak_tls_is_named(client: ssl.SSLContext, greeting: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(greeting)

    assert "does not speak TLS" in failure_at(serve, client)


def failure_at(serve: Callable[[socket.socket], None], client: ssl.SSLContext) -> str:
    with listening(serve) as port, pytest.raises(OSError) as caught:  # noqa: PT011 - the words are what is tested
        connect(client, port)
    return describe_tls_failure(caught.value, "localhost", 4433)


def test_a_port_where_nothing_listens_is_named(client: ssl.SSLContext) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and does not listen: nobody else is given the port meanwhile
        port = held.getsockname()[1]
        with pytest.raises(ConnectionRefusedError) as caught:
            connect(client, port)
        assert f"nothing listens at localhost, port {port}." in describe_tls_failure(caught.value, "localhost", port)
        with pytest.raises(UnreachableError, match=f"nothing listens at 127.0.0.1, port {port}"):
            client_context_for_pin("127.0.0.1", port, "sha256:" + "0" * 64, Deadline(PATIENCE))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "cannot be resolved"),
        (TimeoutError(), "did not answer in time"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (PeerError("the other side does not speak securechat/1"), "not a securechat server"),
    ],
)
def test_every_other_failure_is_named_too(error: Exception, words: str) -> None:
    text = describe_tls_failure(error, "chat.example", 4433)
    assert words in text
    assert "chat.example" in text


# --- deadlines ----------------------------------------------------------------------------------------------------


def test_a_deadline_counts_down_over_several_steps() -> None:
    now = [100.0]
    deadline = Deadline(5, clock=lambda: now[0])
    assert deadline.remaining() == 5
    now[0] += 3
    assert deadline.remaining() == 2
    now[0] += 2
    with pytest.raises(TimeoutError):
        deadline.remaining()
