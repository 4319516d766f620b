"""The log: what a line looks like, what others cannot do to it, and what is never in it."""

import base64
import contextlib
import fcntl
import io
import json
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from securechat.client import commands, events
from securechat.client.password import login_secret
from securechat.server import log_output, logs
from securechat.server.operator.protocol import (
    AddUser,
    Backup,
    Code,
    CreateInvite,
    ListUsers,
    ResetPassword,
    ask,
    connect,
)
from securechat.transport.certificate_files import pin_of
from securechat.transport.tls import client_context
from securechat.wire import messages as m
from securechat_lab.cast.canaries import search
from securechat_lab.cast.live import LiveClient, identity_key
from securechat_lab.cast.wire_client import SECRETS, WAIT, Person, WireClient
from tests.support.live import LiveServer
from tests.support.server_process import ServerProcess, server_command, server_environment

INVITE = "sesame-4711"


@pytest.fixture(autouse=True)
def undisturbed() -> Iterator[None]:
    """`configure` is for whole processes: put back what it changes."""
    root, ours, hook = logging.getLogger(), logging.getLogger("securechat"), threading.excepthook
    before = root.handlers, root.level, ours.level
    names = ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing")
    settings = {name: getattr(logging, name) for name in names}
    yield
    for handler in root.handlers:
        if handler not in before[0]:
            handler.close()
    root.handlers, root.level, ours.level = before
    vars(logging).update(settings)
    threading.excepthook = hook


@pytest.fixture
def file(tmp_path: Path) -> Iterator[TextIO]:
    with (tmp_path / "log").open("w+", encoding="utf-8") as opened:
        yield opened


def written(file: TextIO) -> list[str]:
    for handler in logging.getLogger().handlers:
        handler.flush()
    file.seek(0)
    return file.read().splitlines()


@pytest.fixture
def terminal() -> Iterator[tuple[TextIO, int]]:
    """A real one: what is written to the first comes out of the second."""
    master, slave = os.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        yield stream, master
    os.close(master)


HOSTILE = "\x1b[31mred\n2026-01-01T00:00:00Z info     logged in account=root\u202e\x9b"


def test_a_line_is_a_json_object_that_begins_with_time_level_and_event(file: TextIO) -> None:
    log_output.configure(file, "info")
    logs.get_logger("securechat.server.test").info("logged in", account="ada", place=0)
    (line,) = written(file)
    fields = json.loads(line)
    assert list(fields)[:3] == ["time", "level", "event"]
    assert fields.pop("time").endswith("Z")
    assert fields == {"level": "info", "event": "logged in", "account": "ada", "place": 0}


def test_below_the_level_nothing_is_written(file: TextIO) -> None:
    log_output.configure(file, "warning")
    log = logs.get_logger("securechat.server.test")
    log.info("quiet")
    log.warning("loud")
    assert [json.loads(line)["event"] for line in written(file)] == ["loud"]


def test_at_a_terminal_a_line_is_readable(terminal: tuple[TextIO, int]) -> None:
    stream, master = terminal
    log_output.configure(stream, "info")
    logs.get_logger("securechat.server.test").info("closed", client="127.0.0.1:5", account="", reason="no reply")
    line = os.read(master, 1000).decode().rstrip()
    assert line.split(" ", 1)[1] == "info     closed client=127.0.0.1:5 account='' reason='no reply'"


def test_no_text_of_others_gets_into_either_rendering_unescaped(file: TextIO, terminal: tuple[TextIO, int]) -> None:
    stream, master = terminal
    for target in (file, stream):
        log_output.flush()  # of the one before: only the last one is in reach below
        log_output.configure(target, "info")
        log = logs.get_logger("securechat.server.test")
        log.info("closed", reason=HOSTILE)
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            log.exception("internal error")
    shown = b""
    while b"| ValueError: " not in shown or not shown.endswith(b"\n"):  # a terminal may give it in pieces
        shown += os.read(master, 10_000)
    as_json, on_screen = "\n".join(written(file)) + "\n", shown.decode().replace("\r\n", "\n")
    for text in (as_json, on_screen):
        assert text.replace("\n", "").isascii()
        assert text.replace("\n", "").isprintable()
        assert "ValueError" in text
    assert len(as_json.splitlines()) == 2
    assert json.loads(as_json.splitlines()[0])["reason"] == HOSTILE
    assert [line for line in on_screen.splitlines() if line.startswith("2026-01-01")] == []
    assert all(line.startswith("    | ") for line in on_screen.splitlines()[2:])


def test_a_traceback_shows_no_values(file: TextIO) -> None:
    log_output.configure(file, "debug")
    password = f"tiger{4711}"
    try:
        raise RuntimeError(f"{len(password)}")
    except RuntimeError:
        logs.get_logger("securechat.server.test").exception("internal error")
    (line,) = written(file)
    assert "RuntimeError: 9" in line
    assert password not in line


def test_the_end_of_a_thread_by_an_error_is_a_line(file: TextIO) -> None:
    log_output.configure(file, "info")
    thread = threading.Thread(target=lambda: 1 // 0, name="worker")
    thread.start()
    thread.join()
    (line,) = written(file)
    assert json.loads(line)["thread"] == "worker"
    assert "ZeroDivisionError" in line


HUGE = "\N{RIGHT-TO-LEFT OVERRIDE}\r\n\x1b]0;title\x07\x00\ud800\u2028" + "A" * 1_000_000


@pytest.mark.parametrize("text", [HOSTILE, HUGE])
@pytest.mark.parametrize("shape", ["text", "list", "table", "bytes"])
def test_whatever_others_write_in_whatever_shape_is_one_line_of_printable_ascii(
    file: TextIO, terminal: tuple[TextIO, int], text: str, shape: str
) -> None:
    shapes = {"text": text, "list": [text, [text]], "table": {text: text}, "bytes": text.encode("utf-8", "replace")}
    stream, master = terminal
    shown: list[bytes] = []
    reader = threading.Thread(target=read_line, args=(master, shown))  # a terminal takes 4 KiB, then it waits
    reader.start()
    for target in (file, stream):
        log_output.flush()  # of the one before: only the last one is in reach below
        log_output.configure(target, "info")
        logs.get_logger("securechat.server.test").info("closed", reason=shapes[shape], account="ada")
    reader.join()
    (as_json,) = written(file)
    on_screen = b"".join(shown).decode("ascii").removesuffix("\r\n")
    for line in (as_json, on_screen):
        assert line.isascii()
        assert line.isprintable()
        assert "ada" in line[-20:]


def read_line(master: int, into: list[bytes]) -> None:
    """Read from a terminal to the end of a line."""
    while not into or not into[-1].endswith(b"\n"):
        into.append(os.read(master, 1 << 16))


# --- who reads it -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[TextIO, int]]:
    """What is written to the first comes out of the second."""
    out, into = os.pipe()
    with os.fdopen(into, "w", encoding="utf-8") as stream:
        yield stream, out
    with contextlib.suppress(OSError):  # a test has closed it
        os.close(out)


@pytest.mark.parametrize("waits", [True, False])
def test_nobody_waits_for_a_pipe_that_nobody_reads_and_what_is_lost_is_told_later(
    pipe: tuple[TextIO, int], waits: bool  # noqa: FBT001 - pytest passes names
) -> None:
    stream, out = pipe
    os.set_blocking(stream.fileno(), waits)
    log_output.configure(stream, "info")
    log, count = logs.get_logger("securechat.server.test"), 0
    while count < 20_000 and log_output.dropped() < 100:
        log.info("closed", number=count, reason="x" * 1000)
        count += 1
    lost = log_output.dropped()
    assert lost == 100
    assert log_output.MAX_WAITING < count * 1100 < log_output.MAX_WAITING + (4 << 20)
    text = b""
    while b"lines of the log were lost" not in text or not text.endswith(b"\n"):
        text += os.read(out, 1 << 20)
    *lines, last = map(json.loads, text.splitlines())
    assert [line["number"] for line in lines] == list(range(count - lost))
    assert (last["level"], last["lines"]) == ("warning", lost)
    log.info("again")
    assert json.loads(os.read(out, 1000))["event"] == "again"


def test_what_cannot_be_written_is_counted_and_a_line_that_broke_off_is_no_other_ones_beginning(
    pipe: tuple[TextIO, int]
) -> None:
    stream, out = pipe
    log_output.configure(stream, "info")
    (handler,) = logging.getLogger().handlers
    log = logs.get_logger("securechat.server.test")
    fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, 4096)
    full = os.open("/dev/full", os.O_WRONLY)
    handler._descriptor = full  # type: ignore[attr-defined]  # the disk is full
    log.info("closed", number=1)
    handler.flush()
    assert log_output.dropped() == 1
    handler._descriptor = stream.fileno()  # type: ignore[attr-defined]  # the handler is a real one
    log.info("closed", number=2)
    text = b""
    while b"lines of the log were lost" not in text or not text.endswith(b"\n"):
        text += os.read(out, 4096)
    assert [json.loads(line).get("number") for line in text.splitlines()] == [2, None]
    log.info("closed", reason="x" * 10_000)  # more than the pipe holds
    assert os.read(out, 10)
    os.close(out)
    handler.flush()
    assert log_output.dropped() == 2
    os.close(full)


def test_a_server_whose_log_nobody_reads_serves_and_ends(certificates: Path, tmp_path: Path) -> None:
    command = server_command(certificates, tmp_path / "data", "--log-level", "debug")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=server_environment()
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(b":")[2])
        with Person(port, client_context(certificates / "ca.pem"), "alice") as alice:
            alice.register().login()
            for _ in range(1000):  # a line of some 150 bytes each: a pipe holds 64 KiB
                assert isinstance(alice.ask(m.ListRooms), m.Rooms)
        process.terminate()
        assert process.wait(WAIT) == 0
        assert process.stderr is not None
        assert b'"event": "request"' in process.stderr.read()


@pytest.mark.parametrize("broken", ["2>&-", "2>/dev/full"])
def test_a_server_whose_log_cannot_be_written_serves_and_ends(
    certificates: Path, tmp_path: Path, broken: str
) -> None:
    command = ["sh", "-c", f'exec "$@" {broken}', "sh", *server_command(certificates, tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=server_environment()) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(b":")[2])
        with Person(port, client_context(certificates / "ca.pem"), "alice") as alice:
            assert isinstance(alice.register().login().ask(m.ListRooms), m.Rooms)
        process.terminate()
        assert process.wait(WAIT) == 0


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def conversation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[dict[str, bytes], Path]]:
    """A server at DEBUG and people who do all that involves secrets: the secrets, and the server's log."""
    monkeypatch.setenv("SECURECHAT_INVITE_CODE", INVITE)
    server = LiveServer(tmp_path, "--registration", "invite")
    try:
        secrets = converse(server)
        assert server.stop() == 0
        yield secrets, server.log
    finally:
        server.stop()


def converse(server: LiveServer) -> dict[str, bytes]:
    """Logins, right and wrong, with invites, by token; a message. Return what was secret in it."""
    people = []
    secrets = {"invite code": INVITE.encode()}
    pin = bytes.fromhex(pin_of(server.ca).removeprefix("sha256:"))
    for name in ("alice", "bob"):
        password = f"pass'word \\ of {name} \N{LATIN SMALL LETTER O WITH DIAERESIS}{os.urandom(6).hex()}"
        person = LiveClient(server, name, password=password, invite=INVITE)
        person.wait_for(events.Ready)
        people.append(person)
        device = person.client._engine._context.device
        row = device.row
        secrets |= {
            f"{name}'s password": password.encode(),
            f"{name}'s login secret": login_secret(bytearray(password.encode()), row.server_id, name, pin),
            f"{name}'s token": row.token,
            f"{name}'s identity key": identity_key(person),
            f"{name}'s signature key": device._vault.signature_keys.find(row.signature_key) or b"",
        }
    alice, bob = people
    wrong = f"wrong\\{os.urandom(6).hex()}"
    stranger = LiveClient(server, "bob", start=False, password=wrong, invite="not-the-code-4712")
    stranger.path = server.folder / "elsewhere.vault"
    stranger.start()
    stranger.wait_for(events.Ended)
    stranger.vault.close()
    secrets |= {"wrong password": wrong.encode(), "wrong invite code": b"not-the-code-4712"}
    text = f'plain"text" \N{SNOWMAN}{os.urandom(6).hex()}'
    secrets["plaintext"] = text.encode()
    alice.do(commands.OpenDirect("bob", text, ask=True))
    bob.wait_for(events.ConversationChanged, lambda event: event.change == "request")
    bob.read("alice", f"alice: {text}")
    alice.close()
    alice.start()  # with the token
    alice.wait_for(events.Ready)
    secrets |= administer(server)
    for person in people:
        person.close()
    return secrets


def administer(server: LiveServer) -> dict[str, bytes]:
    """The operator makes codes, one of which is used; return what was secret."""
    data = server.folder / "data"
    codes = [ask(data, request) for request in (AddUser("dora", 7), ResetPassword("bob", 7), CreateInvite(7))]
    secrets = {f"code {n}": each.code.encode() for n, each in enumerate(codes) if isinstance(each, Code)}
    ask(data, ListUsers())
    with connect(data, Backup()) as (_, stream):
        stream.read()
    dora = LiveClient(server, "dora", password="password of dora", invite=secrets["code 0"].decode())
    dora.wait_for(events.Ready)
    dora.close()
    with WireClient(server.port, client_context(server.ca)) as client:
        secrets["bob's next login secret"] = os.urandom(32)
        reply = client.ask(m.Register, "bob", secrets["bob's next login secret"], secrets["code 1"].decode())
        assert isinstance(reply, m.Registered)
    assert len(secrets) == 4
    return secrets


def test_a_log_at_debug_holds_no_password_no_token_no_key_and_no_text(
    conversation: tuple[dict[str, bytes], Path],
) -> None:
    secrets, path = conversation
    log = path.read_bytes()
    assert search({"log": log}, secrets) == []
    lines = [json.loads(line) for line in log.splitlines()]
    seen = {line["event"] for line in lines}
    assert {"listening", "registered", "logged in", "refused", "request", "closed", "stopped"} <= seen
    assert {"invite made", "backup made"} <= seen
    assert {line["code"] for line in lines if line["event"] == "refused"} == {"registration-closed"}

    # The twin: the same search finds each of them, in whatever way a careless line writes it.
    with (path.parent / "careless").open("w+", encoding="utf-8") as file:
        log_output.configure(file, "debug")
        careless = logs.get_logger("securechat.server.careless")
        ways: dict[str, Callable[[bytes], str]] = {
            "repr": repr, "hex": bytes.hex, "latin": lambda secret: secret.decode("latin-1"),
        }  # fmt: skip
        for name, secret in secrets.items():
            for spelling, way in ways.items():
                file.seek(0)
                file.truncate()
                careless.debug("request", message=way(secret))
                found = search({"log": "\n".join(written(file)).encode()}, {name: secret})
                assert found, (name, spelling)
    SECRETS.clear()  # what follows every test would find them, too


def test_the_search_after_every_other_test_would_find_what_a_client_keeps_secret(
    enter: Callable[..., Person], log_without_secrets: io.StringIO
) -> None:
    alice = enter("alice")
    assert {alice.secret, alice.token} <= SECRETS
    before = log_without_secrets.getvalue()
    assert '"event": "logged in"' in before
    assert '"level": "debug"' in before
    careless = logs.get_logger("securechat.server.careless")
    for way in (repr, bytes.hex, list, lambda secret: secret.decode("latin-1"), base64.b64encode):
        for secret in (alice.secret, alice.token):
            careless.debug("request", message=way(secret))
            assert search({"log": log_without_secrets.getvalue().encode()}, {"secret": secret}), way
            log_without_secrets.seek(0)
            log_without_secrets.truncate()


def test_the_search_after_a_server_process_would_find_it_in_what_that_has_logged(
    certificates: Path, tmp_path: Path
) -> None:
    SECRETS.add(b"what no log holds")
    with ServerProcess(certificates, tmp_path / "data") as server:
        assert server.end(signal.SIGTERM) == 0
        SECRETS.add(b'"event": "stopped"')
        with pytest.raises(AssertionError, match="in the log"):
            server.wait()
    SECRETS.clear()
