"""`securechat doctor`: what is well is ok, what is wrong is found and said, and nothing is touched."""

import datetime as dt
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from securechat import certs
from securechat.errors import StorageError, UsageError
from securechat.server.app import Server
from securechat.server.config import ACCOUNTS_FILE, STORE_FILE, ServerConfig, load_config
from securechat.server.operator import doctor, protocol
from securechat.server.operator.doctor import Finding, examine, reachable
from securechat.server.store.sqlite import schema
from securechat.server.store.sqlite.database import check_database
from securechat.transport.tls import client_context
from securechat_lab.cast.wire_client import WAIT, Person
from tests.support.faulty_system import FaultySystem
from tests.support.server_process import ServerProcess, server_environment

Fingerprint: TypeAlias = dict[str, tuple[bytes, int]]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates, and the data of a server that has been stopped."""
    folder = tmp_path_factory.mktemp("healthy")
    certs.generate(folder / "certs", ["127.0.0.1", "chat.example"])
    server = Server(settings(folder))
    server.start()
    server._accounts.add("alice", server._workers._nobody).result()
    server.stop()
    return folder


def settings(folder: Path) -> ServerConfig:
    chain, key = folder / "certs" / "server.pem", folder / "certs" / "server-key.pem"
    return ServerConfig(port=0, data=folder / "data", cert=chain, key=key, metrics_port=0)


@pytest.fixture
def config(healthy: Path, tmp_path: Path) -> ServerConfig:
    """All is well: a copy, to be spoiled."""
    shutil.copytree(healthy, tmp_path / "site")
    return settings(tmp_path / "site")


def look(config: ServerConfig, environment: Mapping[str, str] | None = None) -> list[Finding]:
    return list(examine(lambda: config, environment or {}))


def found(config: ServerConfig, subject: str) -> Finding:
    (finding,) = [each for each in look(config) if each.subject == subject]
    return finding


def grades(config: ServerConfig) -> set[str]:
    return {finding.grade for finding in look(config)}


def run(config: ServerConfig, *options: str, before: str = "", environment: Mapping[str, str] | None = None,
        port: int = 0) -> tuple[int, dict[str, str]]:  # fmt: skip
    """The command in a process of its own, after the statements `before`: its exit code, and line by subject."""
    program = f"from securechat.cli import main\n{before}\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program, "doctor", "--port", str(port), "--data", str(config.data),
         "--cert", str(config.cert), "--key", str(config.key), *options],
        capture_output=True, text=True, timeout=WAIT, check=False, env=server_environment(environment),
    )  # fmt: skip
    assert done.stderr == ""
    return done.returncode, {line[9:22].strip(): line for line in done.stdout.splitlines()}


def fingerprint(folder: Path) -> Fingerprint:
    """What a folder holds, byte for byte, and when each of it, and the folder, was changed."""
    files = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}
    return files | {".": (b"", folder.stat().st_mtime_ns)}


# --- all is well, and nothing is touched ------------------------------------------------------------------------------


def test_where_all_is_well_it_says_so_and_touches_nothing(config: ServerConfig) -> None:
    before = fingerprint(config.data)
    code, lines = run(config)
    assert fingerprint(config.data) == before
    assert code == 0
    assert all(line.startswith("ok       ") for line in lines.values()), lines
    assert lines["names"].endswith("clients reach it as 127.0.0.1, chat.example")
    assert lines["accounts"].endswith("1, and 0 invites")
    assert f"whole, version {len(schema.MIGRATIONS)}" in lines["database"]
    assert lines["server"].endswith("none runs")
    config.key.chmod(0o644)  # the twin
    code, lines = run(config)
    assert (code, lines["data folder"][:8]) == (1, "problem ")


def test_before_the_first_start_all_is_well_and_nothing_is_made(config: ServerConfig, tmp_path: Path) -> None:
    new = replace(config, data=tmp_path / "new" / "data")
    assert grades(new) == {"ok"}
    assert not (tmp_path / "new").exists()


def test_beside_a_server_and_after_its_kill_it_looks_without_a_trace(config: ServerConfig) -> None:
    options = ("--metrics-port", "0")
    with ServerProcess(config.cert.parent, config.data, *options) as server:
        person = Person(server.port, client_context(config.cert.parent / "ca.pem"), "bob").register().login()
        deadline = time.monotonic() + WAIT
        while True:  # the server writes to its files by itself now and then
            before = fingerprint(config.data)
            code, lines = run(config, port=server.port)
            if fingerprint(config.data) == before or time.monotonic() > deadline:
                break
        assert fingerprint(config.data) == before
        assert (code, lines["server"][:2]) == (0, "ok"), lines
        assert f"runs on 127.0.0.1:{server.port}, 1 logged in" in lines["server"]
        assert lines["port"].endswith("speaks TLS 1.3 and our protocol")
        assert "2, and 0 invites" in lines["accounts"]
        assert "whole" in lines["database"]
        server.end(signal.SIGKILL)
        person.drop()
    assert (config.data / f"{STORE_FILE}-wal").stat().st_size > 0
    before = fingerprint(config.data)
    code, lines = run(config)
    assert fingerprint(config.data) == before
    assert (code, lines["server"][-9:]) == (0, "none runs"), lines
    assert "whole" in lines["database"]
    with sqlite3.connect(f"file:{config.data / STORE_FILE}?mode=ro", uri=True) as reader:  # the twin: a careless look
        reader.execute("PRAGMA quick_check").fetchall()
    reader.close()
    assert fingerprint(config.data) != before


def test_a_log_without_its_index_is_not_looked_into(config: ServerConfig) -> None:
    with ServerProcess(config.cert.parent, config.data) as server:
        server.end(signal.SIGKILL)
    (config.data / f"{STORE_FILE}-shm").unlink()
    before = fingerprint(config.data)
    assert found(config, "database").grade == "warning"
    assert fingerprint(config.data) == before


# --- software, settings -----------------------------------------------------------------------------------------------


def test_an_old_sqlite_and_a_python_without_tls_1_3(config: ServerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl, "HAS_TLSv1_3", False)
    assert "use a Python whose OpenSSL has TLS 1.3" in found(config, "software").text
    monkeypatch.setattr(doctor, "MIN_SQLITE", (99, 0))
    assert "use a Python with SQLite 99.0 or newer" in found(config, "software").text


def test_bad_settings_are_a_problem_and_the_end(config: ServerConfig, tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("max_client = 5\n")
    code, lines = run(config, "--config", str(file))
    assert (code, set(lines)) == (1, {"software", "settings"})
    assert "server.toml, line 1: there is no setting 'max_client'" in lines["settings"]
    code, lines = run(config, "--config", str(tmp_path / "missing.toml"))
    assert (code, set(lines)) == (1, {"software", "settings"})
    assert "No such file" in lines["settings"]
    with pytest.raises(UsageError):
        load_config({}, {}, file)


def test_settings_that_are_no_error_but_not_what_one_wants(config: ServerConfig, tmp_path: Path) -> None:
    environment = {"SECURECHAT_MAXCLIENTS": "5", "SECURECHAT_INVITE": "x", "SECURECHAT_PORT": "0", "PATH": "/"}
    loose = replace(config, durability="memory", show_ciphertext=True, invite_code="sesame")
    file = tmp_path / "server.toml"
    file.touch()
    file.chmod(0o604)
    warned = [each.text for each in examine(lambda: loose, environment, file) if each.grade == "warning"]
    assert warned[0] == "there is no SECURECHAT_MAXCLIENTS; did you mean SECURECHAT_MAX_CLIENTS?"
    assert warned[1].endswith(f"chmod go= {file}")
    assert "power failure" in warned[2]
    assert "show_ciphertext" in warned[3]
    assert len(warned) == 4
    file.chmod(0o600)
    assert len([each for each in examine(lambda: loose, {}, file) if each.grade == "warning"]) == 2


# --- certificate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days_ago", "grade", "words"),
    [
        (certs.DEFAULT_DAYS + 1, "problem", "expired at"),
        (certs.DEFAULT_DAYS - doctor.RENEW_DAYS + 1, "warning", "valid for 12 more days"),
        (certs.DEFAULT_DAYS - doctor.RENEW_DAYS - 1, "ok", "valid for 14 more days"),
        (-2, "problem", "check the clock"),
    ],
)
def test_the_certificates_dates(config: ServerConfig, days_ago: int, grade: str, words: str) -> None:
    certs.generate(config.cert.parent, now=dt.datetime.now(dt.UTC) - dt.timedelta(days=days_ago))
    finding = found(config, "certificate")
    assert (finding.grade, words in finding.text) == (grade, True), finding
    assert ("gen-certs --out" in finding.text) == (days_ago > 0 and grade != "ok")
    (config.cert.parent / "ca-key.pem").unlink()
    assert "gen-certs --out" not in found(config, "certificate").text


def test_a_ca_that_has_expired(config: ServerConfig, tmp_path: Path) -> None:
    long_ago = dt.datetime.now(dt.UTC) - certs.CA_LIFE - dt.timedelta(days=1)
    certs.generate(tmp_path / "old", now=long_ago)
    old = replace(config, cert=tmp_path / "old" / "server.pem", key=tmp_path / "old" / "server-key.pem")
    assert "its CA expired at" in found(old, "certificate").text


def test_a_certificate_that_is_missing_or_does_not_fit(config: ServerConfig) -> None:
    old = config.cert.read_bytes()
    certs.generate(config.cert.parent)
    config.cert.write_bytes(old)
    assert "key values mismatch" in found(config, "certificate").text
    config.cert.unlink()
    finding = found(config, "certificate")
    assert (finding.grade, "does not exist" in finding.text) == ("problem", True)


def test_a_chain_is_tried_as_a_client_would(config: ServerConfig, tmp_path: Path) -> None:
    leaf, ca = config.cert.read_text().split("-----BEGIN", 1)[1].split("-----BEGIN")
    certs.generate(tmp_path / "other")
    other = (tmp_path / "other" / "ca.pem").read_text()
    config.cert.write_text(f"-----BEGIN{leaf}{other}")
    finding = found(config, "names")
    assert (finding.grade, "does not come from the CA" in finding.text) == ("problem", True), finding
    config.cert.write_text(f"-----BEGIN{leaf}")
    finding = found(config, "names")
    assert (finding.grade, "cannot use --pin" in finding.text) == ("warning", True), finding
    config.cert.write_text(f"-----BEGIN{leaf}-----BEGIN{ca}")
    assert found(config, "names").grade == "ok"


def test_a_server_that_shows_an_old_certificate(config: ServerConfig, start: Callable[..., Server]) -> None:
    server = start()
    running = replace(config, port=server.port, metrics_port=server.metrics_port)
    assert grades(running) == {"ok"}
    certs.generate(config.cert.parent)
    last = [each for each in look(running) if each.subject == "certificate"][-1]
    assert (last.grade, "send it SIGHUP" in last.text) == ("warning", True)
    server.reload(lambda: config)
    assert grades(running) == {"ok"}


# --- data -------------------------------------------------------------------------------------------------------------


def test_what_others_may_read_is_named(config: ServerConfig) -> None:
    config.key.chmod(0o644)
    (config.data / ACCOUNTS_FILE).chmod(0o604)
    finding = found(config, "data folder")
    assert finding.grade == "problem"
    assert finding.text.endswith(f"chmod -R go= {config.data} {config.key}")
    subprocess.run(["chmod", *finding.text.rpartition("chmod ")[2].split()], check=True)  # noqa: S607 - what it says
    assert found(config, "data folder").grade == "ok"
    config.data.chmod(0o755)
    assert str(config.data) in found(config, "data folder").text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_another_user(config: ServerConfig) -> None:
    os.chown(config.data / ACCOUNTS_FILE, 65534, -1)
    finding = found(config, "data folder")
    assert (finding.grade, finding.text.endswith(f"chown -R root {config.data}")) == ("problem", True)
    os.chown(config.data / ACCOUNTS_FILE, 0, -1)
    config.key.chmod(0o640)  # as root leaves it to the group of the server's user
    assert found(config, "data folder").grade == "ok"
    os.chown(config.key, 65534, -1)
    assert found(config, "data folder").grade == "problem"
    config.key.unlink()
    (config.key.parent / "ca-key.pem").unlink()
    assert found(config, "data folder").grade == "ok"


def test_who_may_not_look_is_told_so(config: ServerConfig) -> None:
    # Imported first: later it could not be.
    be_another = "import os, pwd, resource, securechat.server.operator.doctor; os.setuid(65534)"
    if os.geteuid() != 0:
        config.data.chmod(0)
        be_another = ""
    code, lines = run(config, before=be_another)
    config.data.chmod(0o700)
    assert code == 1
    assert "run this as the user that runs the server" in lines["data folder"]


def test_a_folder_that_is_none(config: ServerConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, lines = run(replace(config, data=tmp_path / "file"))
    assert (code, "is not a folder" in lines["data folder"]) == (1, True)


def damaged_accounts(data: Path) -> None:
    path = data / ACCOUNTS_FILE
    path.write_bytes(path.read_bytes()[:-20])


def garbage(data: Path) -> None:
    (data / STORE_FILE).write_bytes(b"x" * 8192)


def damaged_page(data: Path) -> None:
    whole = (data / STORE_FILE).read_bytes()
    (data / STORE_FILE).write_bytes(whole[:4096] + bytes(4096) + whole[8192:])


def newer(data: Path) -> None:
    with sqlite3.connect(data / STORE_FILE) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def anothers(data: Path) -> None:
    with sqlite3.connect(data / STORE_FILE) as connection:
        connection.execute("PRAGMA application_id = 7")
    connection.close()


def no_site_key(data: Path) -> None:
    with sqlite3.connect(data / STORE_FILE) as connection:
        connection.execute("DELETE FROM meta WHERE key = 'site_key'")
    connection.close()


@pytest.mark.parametrize(
    ("damage", "subject", "words"),
    [
        (damaged_accounts, "accounts", "accounts.json is damaged at line"),
        (lambda data: (data / ACCOUNTS_FILE).unlink(), "accounts", ""),
        (garbage, "database", "is damaged: file is not a database"),
        (damaged_page, "database", "is damaged: "),
        (newer, "database", "has version 99"),
        (anothers, "database", "not a database of this server"),
        (no_site_key, "database", "its site key is missing"),
        (lambda data: (data / STORE_FILE).unlink(), "database", "is missing"),
        (lambda data: (data / STORE_FILE).write_bytes(b""), "database", "not a database of this server"),
    ],
)
def test_damaged_data_is_found_and_left(
    config: ServerConfig, damage: Callable[[Path], None], subject: str, words: str
) -> None:
    assert found(config, subject).grade == "ok"
    shutil.copy(config.data / ACCOUNTS_FILE, config.data / f"{ACCOUNTS_FILE}.previous")
    damage(config.data)
    before = fingerprint(config.data)
    finding = found(config, subject)
    assert (finding.grade, words in finding.text) == ("problem", True), finding
    assert fingerprint(config.data) == before


@pytest.mark.parametrize("meanwhile", [True, False])
def test_where_a_server_starts_meanwhile_it_looks_again(
    config: ServerConfig, start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, *, meanwhile: bool
) -> None:
    def look_too_early(path: Path) -> int:
        assert path == config.data / STORE_FILE
        monkeypatch.setattr(doctor, "check_database", check_database)
        if meanwhile:
            start()
        raise StorageError("half of one state, half of another")

    monkeypatch.setattr(doctor, "check_database", look_too_early)
    assert found(config, "database").grade == ("ok" if meanwhile else "problem")


def test_accounts_that_are_lost(config: ServerConfig) -> None:
    for path in config.data.glob("accounts.json*"):
        path.unlink()
    assert found(config, "accounts").grade == "ok"  # nobody has ever been here
    with sqlite3.connect(config.data / STORE_FILE) as connection:
        connection.execute("INSERT INTO identities VALUES ('alice', x'00')")
    connection.close()
    assert "restore a backup" in found(config, "accounts").text


def test_an_older_database_is_told_of(config: ServerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE more (x) STRICT;"))
    finding = found(config, "database")
    assert (finding.grade, "make a backup before" in finding.text) == ("ok", True)


def test_faults_of_the_system_are_found(config: ServerConfig, tmp_path: Path) -> None:
    system = FaultySystem(tmp_path)
    system.set(fsync_fails=True)
    code, lines = run(config, environment=system.environment)
    assert (code, "fsync of" in lines["disk"]) == (1, True), lines
    system.set(clock_offset=-3600)
    code, lines = run(config, environment=system.environment)
    assert (code, "s ahead: set the clock" in lines["clock"]) == (1, True), lines
    system.set()
    assert run(config, environment=system.environment)[0] == 0


def test_too_little_room(config: ServerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LOW_SPACE", 1 << 62)
    assert found(config, "disk").grade == "warning"
    monkeypatch.setattr(doctor, "NO_SPACE", 1 << 61)
    assert found(config, "disk").grade == "problem"


# --- server, ports, limits --------------------------------------------------------------------------------------------


def test_a_server_that_takes_nobody_or_has_no_health(config: ServerConfig, start: Callable[..., Server]) -> None:
    server = start()
    running = replace(config, port=server.port, metrics_port=1)
    server._certificate_expires = time.time() - 1
    assert "takes nobody: the certificate has expired" in found(running, "server").text
    assert "no health check answers" in found(running, "metrics port").text


def test_a_process_that_holds_the_data_and_does_not_answer(config: ServerConfig) -> None:
    with ServerProcess(config.cert.parent, config.data) as server:
        (config.data / "admin.sock").unlink()
        finding = found(config, "server")
        assert (finding.grade, "does not answer" in finding.text) == ("problem", True)
        server.end(signal.SIGTERM)
    assert found(config, "server").grade == "ok"


def test_a_server_that_hangs_is_not_waited_for(config: ServerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ANSWER_SECONDS", 0.1)
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(protocol.socket_path(config.data)))
        hung.listen()  # the system accepts; nobody ever answers
        finding = found(config, "server")
    assert finding.grade == "problem"
    assert finding.text.startswith(f"the server on {config.data} does not answer in 0.1 s; see its log")


def test_a_port_that_somebody_else_has_or_we_may_not_have(config: ServerConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = replace(config, port=other.getsockname()[1], metrics_port=other.getsockname()[1])
        for subject in ("port", "metrics port"):
            finding = found(taken, subject)
            assert (finding.grade, "ss -ltnp" in finding.text) == ("problem", True)
    assert "cannot listen on 192.0.2.1" in found(replace(config, host="192.0.2.1"), "port").text
    assert "cannot listen on no.such.host.invalid" in found(replace(config, host="no.such.host.invalid"), "port").text


def test_who_listens_everywhere_is_reached_on_this_machine() -> None:
    assert reachable("0.0.0.0:4433") == ("127.0.0.1", 4433)
    assert reachable("[::]:4433") == ("::1", 4433)
    assert reachable("[2001:db8::1]:443") == ("2001:db8::1", 443)
    assert reachable("chat.example:1") == ("chat.example", 1)


def test_few_open_files(config: ServerConfig) -> None:
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({0}, {0}))"
    code, lines = run(config, before=few.format(200))
    assert (code, lines["open files"][:8]) == (0, "warning ")
    assert "LimitNOFILE=" in lines["open files"]
    code, lines = run(config, before=few.format(64))
    assert (code, lines["open files"][:8]) == (1, "problem ")


def test_nothing_that_a_file_holds_moves_the_cursor(config: ServerConfig, tmp_path: Path) -> None:
    data = tmp_path / "da\x1b[2Jta\n"
    data.mkdir(mode=0o755)
    code, lines = run(replace(config, data=data))
    assert code == 1
    assert "\x1b" not in "".join(lines.values())
    assert len(lines) == len(look(config)) - 1  # --metrics-port was not given
