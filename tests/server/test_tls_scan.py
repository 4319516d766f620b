"""What a scanner of other people's making (sslyze) finds of a running server, and what it finds of a weaker one.

sslyze does not know our ALPN protocol, and the server hangs up on it after each handshake; that is enough for all but
tickets and early data, which it asks for with an HTTP request. So a client of ours looks for tickets. Without one there
is no early data either: it needs a pre-shared key (RFC 8446, 4.2.10), and tickets are the only ones there are.
"""

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from securechat.transport.tls import client_context
from securechat_lab.cast.wire_client import WAIT
from tests.support.live import LiveServer

SCANNER = Path(sys.prefix) / "sslyze" / "bin" / "python"

SCANS = (
    "certinfo", "sslv2", "sslv3", "tlsv1", "tlsv1_1", "tlsv1_2", "tlsv1_3", "elliptic_curves", "compression", "reneg",
    "fallback", "heartbleed", "openssl_ccs", "robot",
)  # fmt: skip

SOUND = {
    "unfinished": [],
    "versions": ["tls_1_3"],
    "ciphers": ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"],
    "one group, and a cheap one": True,
    "compression": False,
    "renegotiation by the client": False,
    "heartbleed": False,
    "CCS injection": False,
    "ROBOT": False,
    "trusted under its CA": True,
    "chain in order": True,
    "SHA-1 in the chain": False,
}
"""What has to be found."""

ALLOW_CLIENT_RENEGOTIATION = 1 << 8
"""OpenSSL's SSL_OP_ALLOW_CLIENT_RENEGOTIATION, which Python has no name for."""


def scan(port: int, ca: Path) -> dict[str, object]:
    """What sslyze finds, under the names of SOUND."""
    if not SCANNER.exists():
        pytest.skip("sslyze is not installed; to see why, remove .venv/sslyze.json and run scripts/setup test sslyze")
    options = ["--json_out=-", "--slow_connection", "--mozilla_config=disable", f"--certinfo_ca_file={ca}"]
    command = [str(SCANNER), "-m", "sslyze", *options, *(f"--{each}" for each in SCANS), f"localhost:{port}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    (found,) = json.loads(done.stdout)["server_scan_results"]
    assert found["connectivity_status"] == "COMPLETED", found["connectivity_error_trace"]
    attempts = {name: each for name, each in found["scan_result"].items() if each["status"] != "NOT_SCHEDULED"}
    assert len(attempts) == len(SCANS)
    return judged({name: each["result"] for name, each in attempts.items()})


def judged(results: dict[str, Any]) -> dict[str, object]:
    suites = {name.removesuffix("_cipher_suites"): each for name, each in results.items() if name.endswith("_suites")}
    accepted = [each["cipher_suite"]["name"] for scan in suites.values() for each in scan["accepted_cipher_suites"]]
    groups = [curve["name"] for curve in results["elliptic_curves"]["supported_curves"]]
    certificates = results["certificate_info"]["certificate_deployments"]
    ours = [
        path["was_validation_successful"]
        for deployed in certificates
        for path in deployed["path_validation_results"]
        if path["trust_store"]["name"] == "Supplied CA file"
    ]
    return {
        "unfinished": [name for name, result in results.items() if result is None],
        "versions": [version for version, each in suites.items() if each["is_tls_version_supported"]],
        "ciphers": sorted(accepted),
        "one group, and a cheap one": groups in (["X25519"], ["secp256r1"]),
        "compression": results["tls_compression"]["supports_compression"],
        "renegotiation by the client": results["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"],
        "heartbleed": results["heartbleed"]["is_vulnerable_to_heartbleed"],
        "CCS injection": results["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"],
        "ROBOT": not results["robot"]["robot_result"].startswith("NOT_VULNERABLE"),
        "trusted under its CA": bool(ours) and all(ours),
        "chain in order": all(deployed["received_chain_has_valid_order"] for deployed in certificates),
        "SHA-1 in the chain": any(deployed["verified_chain_has_sha1_signature"] for deployed in certificates),
    }


def gets_ticket(port: int, context: ssl.SSLContext) -> bool:
    """Whether a client has a session ticket by the time of the server's first message."""
    with (
        socket.create_connection(("localhost", port), timeout=WAIT) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        tls.sendall(b"\0")  # how a frame begins
        assert tls.recv(1)
        return tls.session is not None and tls.session.has_ticket


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """`securechat server`, with certificates as `gen-certs` makes them."""
    server = LiveServer(tmp_path_factory.mktemp("scanned"))
    yield server
    server.stop()


class WeakServer:
    """A server as one gets it from Python's and OpenSSL's own choices, and a few bad ones added."""

    def __init__(self) -> None:
        leaf = trustme.CA().issue_cert("localhost", key_type=trustme.KeyType.RSA)
        self._context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ALL")
        context.options |= ALLOW_CLIENT_RENEGOTIATION
        leaf.configure_cert(context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread, as closing alone does not
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(plain,)))
                self._threads[-1].start()

    def _serve(self, plain: socket.socket) -> None:
        plain.settimeout(WAIT)
        with plain, contextlib.suppress(OSError), self._context.wrap_socket(plain, server_side=True) as tls:
            while data := tls.recv(4096):
                tls.sendall(data)


@pytest.fixture(scope="module")
def weak() -> Iterator[WeakServer]:
    server = WeakServer()
    yield server
    server.close()


def test_a_scanner_finds_nothing_to_object_to(server: LiveServer) -> None:
    assert scan(server.port, server.ca) == SOUND


def test_it_objects_to_a_weaker_server(server: LiveServer, weak: WeakServer) -> None:
    found = scan(weak.port, server.ca)
    assert {name for name in SOUND if found[name] != SOUND[name]} == {
        "versions", "ciphers", "one group, and a cheap one", "renegotiation by the client", "trusted under its CA",
    }  # fmt: skip


def test_clients_get_no_tickets(server: LiveServer) -> None:
    assert not gets_ticket(server.port, client_context(server.ca))


def test_of_the_weaker_server_they_get_some(weak: WeakServer) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    assert gets_ticket(weak.port, context)
