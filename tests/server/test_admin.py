"""`securechat admin`: accounts, invites, status, backup and restore, with a running server."""

import io
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from securechat import cli
from securechat.errors import RefusedError, StorageError
from securechat.policy.rules import READERS, VERSION, Rules
from securechat.server.accounts import file
from securechat.server.accounts.store import AccountStore
from securechat.server.app import Server
from securechat.server.config import ServerConfig
from securechat.server.operator import admin, protocol
from securechat.server.operator.backup import check_backup, restore
from securechat.server.store.sqlite.store import SQLiteStore
from securechat.transport.tls import client_context
from securechat.ui.exit_codes import ExitCode
from securechat.wire import messages as m
from securechat.wire.chain import OPERATORS_WORD
from securechat.wire.limits import LEAP_ENTRIES
from securechat_lab.cast.wire_client import WAIT, Person, WireClient
from tests.support.server_process import ServerProcess

Enter = Callable[..., Person]
Connect = Callable[..., WireClient]
Start = Callable[..., Server]

NEW = b"n" * 32
"""What a client derives from a new password."""


@pytest.fixture
def run(config: ServerConfig) -> Callable[..., str]:
    """Run `securechat admin` on the server's folder; what it prints: its error, where it is meant to fail."""

    def begin(*arguments: str, code: ExitCode = ExitCode.OK) -> str:
        result = CliRunner().invoke(cli.main, ["admin", "--data", str(config.data), *arguments])
        assert result.exit_code == code, result.output
        return result.stderr if code else result.stdout

    return begin


def code_in(shown: str) -> str:
    found = re.search(r"SECURECHAT_INVITE=([a-z2-9]{5}(-[a-z2-9]{5}){3}) securechat", shown)
    assert found is not None
    return found[1]


def login(client: WireClient, name: str, secret: bytes, device: bytes = bytes(16)) -> m.Reply:
    reply: m.Reply = client.ask(m.Login, name, secret, device)
    return reply


def test_a_leapt_clock_is_shown_and_accepted(
    server: Server, enter: Enter, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = enter("alice")
    alice.open_room("#lobby")
    (room,) = alice.groups
    assert "clock" not in run("status")
    now = server._clock._wall
    monkeypatch.setattr(server._clock, "_wall", lambda: now() + 50 * 86_400)
    assert alice.say(room, "refused").code == "busy"
    assert "its clock has leapt by +50.0 days" in run("status")
    assert "securechat admin clock accept" in server._unready()
    run("clock", "accept")
    assert "clock" not in run("status")
    alice.numbers[room] -= 1
    assert isinstance(alice.say(room, "accepted"), m.Accepted)


def test_a_user_who_was_added_registers_with_the_code_once_whatever_the_mode(
    start: Start, run: Callable[..., str], tls: object
) -> None:
    server = start(registration="closed")
    code = code_in(run("users", "add", "Alice"))
    assert re.search(r"\w{8}\s+alice\s+20\d\d-", run("invites", "list"))
    assert code not in run("invites", "list")
    with WireClient(server.port, tls) as client:  # type: ignore[arg-type]  # the fixture of conftest
        spoiled = ("x" if code[0] != "x" else "y") + code[1:]
        for name, presented in (("alice", ""), ("alice", spoiled), ("bob", code), ("alicia", code)):
            assert client.ask(m.Register, name, NEW, presented).code == "registration-closed"
        assert isinstance(client.ask(m.Register, "alice", NEW, f" {code.upper()} "), m.Registered)
        assert isinstance(client.ask(m.Register, "alice", NEW, code), m.Registered)  # the reply was lost, perhaps
        assert client.ask(m.Register, "alice", bytes(32), code).code == "name-taken"
        assert client.ask(m.Register, "bob", NEW, code).code == "registration-closed"
        assert isinstance(login(client, "alice", NEW), m.LoggedIn)
    assert run("invites", "list").count("\n") == 1
    assert re.search(r"alice\s+20\d\d-\d\d-\d\d\s+yes\s+1\n", run("users", "list"))
    assert "there is an account alice already" in run("users", "add", "alice", code=ExitCode.FAILURE)


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("name-taken", ["ɑlice", "alıce", "rnodern", "сосо"]),
        ("bad-request", ["admin", "аdmin", "adrnin", "al\u02bcice", "alice.", "علی\u200cرضا"]),
    ],
)
def test_nobody_gets_a_name_that_would_be_taken_for_another_one(
    server: Server, run: Callable[..., str], tls: object, code: str, names: list[str]
) -> None:
    with WireClient(server.port, tls) as client:  # type: ignore[arg-type]  # the fixture of conftest
        for taken in ("alice", "modern", "coco"):
            assert isinstance(client.ask(m.Register, taken, NEW, ""), m.Registered)
        for name in names:
            assert client.ask(m.Register, name, NEW, "").code == code
            # There is no such account.
            assert login(client, name, NEW).code == "login-refused"  # type: ignore[attr-defined]  # a Refused
    for name in names:
        shown = run("users", "add", name, code=ExitCode.FAILURE if code == "name-taken" else ExitCode.USAGE)
        assert ("an account here; choose another name" in shown) == (code == "name-taken")
    assert run("users", "list").count("\n") == 4
    assert run("invites", "list").count("\n") == 1


def test_an_invite_lets_one_new_account_in_and_can_be_revoked(
    start: Start, run: Callable[..., str], tls: object
) -> None:
    server = start(registration="invite")  # with no code for everybody
    first, second = (code_in(run("invites", "create", "--days", "1")) for _ in range(2))
    shown = run("invites", "list")
    assert shown.count("anybody new") == 2
    with WireClient(server.port, tls) as client:  # type: ignore[arg-type]  # the fixture of conftest
        assert client.ask(m.Register, "alice", NEW).code == "registration-closed"
        assert isinstance(client.ask(m.Register, "alice", NEW, first), m.Registered)
        assert client.ask(m.Register, "bob", NEW, first).code == "registration-closed"
        (left,) = re.findall(r"^(\w{8})\s", run("invites", "list"), re.MULTILINE)
        run("invites", "revoke", left)
        assert client.ask(m.Register, "bob", NEW, second).code == "registration-closed"
    assert "there is no invite" in run("invites", "revoke", left, code=ExitCode.FAILURE)


def test_of_two_who_use_one_code_at_once_one_gets_in(tmp_path: Path) -> None:
    store = AccountStore(tmp_path / "accounts.json")
    code = store.create_invite("", 60).result().code
    futures = [store.add(f"user{n}", "hash", invite=code, invited=True) for n in range(2)]
    outcomes = [future.exception() for future in futures]
    assert [type(outcome) for outcome in outcomes] == [type(None), RefusedError]
    store.close()


@pytest.mark.parametrize("lives", [7200, 1800])
def test_a_used_code_lets_its_registration_be_repeated_for_an_hour(tmp_path: Path, lives: int) -> None:
    now = 1000.0
    store = AccountStore(tmp_path / "accounts.json", clock=lambda: now)
    code = store.create_invite("", lives).result().code
    store.add("alice", "hash", invite=code, invited=True).result()
    now += min(lives, 3600) - 1
    assert store.find_invite(code, "alice") is not None
    assert store.find_invite(code, "bob") is None
    now += 2
    assert store.find_invite(code, "alice") is None
    store.close()


@pytest.mark.parametrize(("days", "told"), [(365, "code"), (366, "1 to 365 days")])
def test_no_code_lives_for_longer_than_a_year(start: Start, run: Callable[..., str], days: int, told: str) -> None:
    start()
    given = ExitCode.OK if days == 365 else ExitCode.USAGE
    assert told in run("invites", "create", "--days", str(days), code=given)


def test_an_invite_ends_and_survives_a_restart_until_then(tmp_path: Path) -> None:
    now = 1000.0
    store = AccountStore(tmp_path / "accounts.json", clock=lambda: now)
    code = store.create_invite("", 60).result().code
    store.close()
    assert code not in (tmp_path / "accounts.json").read_text()
    store = AccountStore(tmp_path / "accounts.json", clock=lambda: now)
    now += 59
    assert store.find_invite(code, "alice") is not None
    now += 2
    assert store.find_invite(code, "alice") is None
    assert store.invites() == []
    with pytest.raises(RefusedError, match="used meanwhile"):
        store.add("alice", "hash", invite=code, invited=True).result()
    store.close()


def test_reset_password_lets_its_owner_set_a_new_one_and_ends_what_the_old_one_opened(
    run: Callable[..., str], enter: Enter, connect: Connect
) -> None:
    alice, bob = enter("alice"), enter("bob")
    code = code_in(run("users", "reset-password", "alice"))
    client = connect()
    assert client.ask(m.Register, "alice", NEW, ("x" if code[0] != "x" else "y") + code[1:]).code == "name-taken"
    assert client.ask(m.Register, "bob", NEW, code).code == "name-taken"
    assert isinstance(login(connect(), "alice", alice.secret), m.LoggedIn)  # the old one, until then
    assert isinstance(client.ask(m.Register, "alice", NEW, code), m.Registered)
    closing = alice.ended().closing
    assert closing is not None
    assert (closing.reason, closing.text) == ("logged-out", "the password was reset")
    assert client.ask(m.Resume, *alice.credentials(client.channel)).code == "token-refused"
    assert login(client, "alice", alice.secret).code == "login-refused"  # type: ignore[attr-defined]  # it is Refused
    assert isinstance(login(client, "alice", NEW), m.LoggedIn)
    assert connect().ask(m.Register, "alice", bytes(32), code).code == "name-taken"  # it was good once
    assert isinstance(bob.ask(m.ListRooms), m.Rooms)
    assert "there is no account carol" in run("users", "reset-password", "carol", code=ExitCode.FAILURE)


def test_who_is_disabled_is_out_at_once_and_stays_out(
    run: Callable[..., str], enter: Enter, connect: Connect
) -> None:
    alice, bob = enter("alice"), enter("bob")
    code = code_in(run("users", "reset-password", "alice"))
    run("users", "disable", "alice")
    closing = alice.ended().closing
    assert closing is not None
    assert (closing.reason, closing.text) == ("logged-out", "this account has been disabled by the operator")
    client = connect()
    assert client.ask(m.Resume, *alice.credentials(client.channel)).code == "token-refused"
    assert "disabled" in login(client, "alice", alice.secret).text  # type: ignore[attr-defined]  # it is Refused
    assert client.ask(m.Register, "alice", NEW, code).code == "name-taken"  # the code has lost its force
    assert re.search(r"alice .* no +0\n", run("users", "list"))
    assert isinstance(bob.ask(m.ListRooms), m.Rooms)
    run("users", "enable", "alice")
    assert isinstance(login(client, "alice", alice.secret), m.LoggedIn)
    run("users", "disable", "alice")
    code = code_in(run("users", "reset-password", "alice"))
    client = connect()
    assert isinstance(client.ask(m.Register, "alice", NEW, code), m.Registered)
    assert isinstance(login(client, "alice", NEW), m.LoggedIn)


def test_who_is_disabled_is_out_also_where_the_disk_is_too_slow_to_say_so(
    run: Callable[..., str], enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = enter("alice"), enter("bob")
    written = threading.Event()

    def held(*fields: Any) -> None:
        assert written.wait(60)
        file.write_accounts(*fields)

    monkeypatch.setattr("securechat.server.accounts.store.write_accounts", held)
    monkeypatch.setattr(admin, "WRITE_SECONDS", 0.01)
    assert "is not written" in run("users", "disable", "alice", code=ExitCode.FAILURE)
    assert isinstance(alice.ask(m.ListRooms), m.Rooms)  # it is not on disk yet
    written.set()
    closing = alice.ended().closing
    assert closing is not None
    assert closing.reason == "logged-out"
    assert isinstance(bob.ask(m.ListRooms), m.Rooms)


def test_a_login_that_was_under_way_when_its_account_was_disabled_does_not_get_in(
    server: Server, run: Callable[..., str], enter: Enter, connect: Connect
) -> None:
    alice = enter("alice")
    client = connect()
    before = server._counters.logins()["password", "accepted"]
    with server._sequencer._lock:  # the password is checked, and the login waits for its turn
        client.send(m.Login(client.protocol.next_id(), "alice", alice.secret, bytes(16)))
        checked = threading.Event()
        while not checked.wait(0.01):
            if server._counters.logins()["password", "accepted"] > before:
                checked.set()
        run("users", "disable", "alice")
    refused = client.take(m.Refused)
    assert refused.code == "login-refused"
    assert "disabled the account" in refused.text
    run("users", "enable", "alice")
    assert client.ask(m.Resume, *alice.credentials(client.channel)).code == "token-refused"
    assert isinstance(login(client, "alice", alice.secret), m.LoggedIn)


@pytest.mark.parametrize("reset", [True, False])
def test_a_thief_who_is_just_logging_in_when_the_password_is_reset_does_not_get_in(
    server: Server, enter: Enter, connect: Connect, *, reset: bool
) -> None:
    alice = enter("alice")
    thief = connect()
    before = server._counters.logins()["password", "accepted"]
    with server._sequencer._lock:  # the old password has been compared and was right; the login waits for its turn
        thief.send(m.Login(thief.protocol.next_id(), "alice", alice.secret, bytes(16)))
        checked = threading.Event()
        while not checked.wait(0.01):
            if server._counters.logins()["password", "accepted"] > before:
                checked.set()
        if reset:
            code = server._accounts.create_invite("alice", 60).result().code
            server._accounts.reset("alice", server._workers._hasher.hash(NEW), code).result()
    if reset:
        refused = thief.take(m.Refused)
        assert refused.code == "login-refused"
        assert "the password was set anew" in refused.text
        assert login(thief, "alice", alice.secret).code == "login-refused"  # type: ignore[attr-defined]  # it is Refused
        assert isinstance(login(thief, "alice", NEW), m.LoggedIn)
    else:
        assert isinstance(thief.take(m.Reply), m.LoggedIn)


def test_the_socket_is_its_owners_only_and_goes_with_the_server(server: Server, config: ServerConfig) -> None:
    path = config.data / protocol.SOCKET
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    server.stop()
    assert not path.exists()


def test_a_socket_left_by_a_killed_server_is_in_nobodys_way(
    certificates: Path, config: ServerConfig, run: Callable[..., str]
) -> None:
    with ServerProcess(certificates, config.data) as server:
        server.end(signal.SIGKILL)
    assert (config.data / protocol.SOCKET).exists()
    assert "no server runs on" in run("status", code=ExitCode.UNREACHABLE)
    with ServerProcess(certificates, config.data) as server:
        assert "state               ready" in run("status")
        assert server.end(signal.SIGTERM) == 0
    assert "no server runs on" in run("users", "list", code=ExitCode.UNREACHABLE)


def test_another_user_has_no_permission(server: Server, config: ServerConfig) -> None:
    assert server.running
    program = (
        "import sys; from pathlib import Path; from securechat.server.operator.protocol import *\n"
        "try: ask(Path(sys.argv[1]), GetStatus())\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    command = [sys.executable, "-c", program, str(config.data)]
    if os.geteuid() == 0:  # root may do anything: be somebody else, once all is imported
        program = program.replace("\n", "\nimport os; os.setuid(65534)\n", 1)
        command[2] = program
    else:
        (config.data / protocol.SOCKET).chmod(0)
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=WAIT)
    assert done.stdout.startswith("StorageError no permission for"), done


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"", None),
        (b"\n", "does not understand"),
        (b"{}\n", "does not understand"),
        (b'{"type": "AddUser", "name": "alice"}\n', "does not understand"),
        (b'{"type": "AddUser", "name": 7, "days": 7}\n', "does not understand"),
        (b'{"type": "AddUser", "name": "a b\\u001b[2J", "days": 7}\n', ""),
        (b'{"type": "CreateInvite", "days": 0}\n', "1 to 365 days"),
        (b'{"type": "Shutdown"}\n', "does not understand"),
        (b"[" * 4000 + b"\n", "does not understand"),
        (b"x" * 10_000 + b"\n", "one line"),
        (b"\xff\xfe\n", "does not understand"),
    ],
)
def test_what_is_no_request_is_refused_and_the_next_one_answered(
    server: Server, config: ServerConfig, run: Callable[..., str], line: bytes, answer: str | None
) -> None:
    assert server.running
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAIT)
        connection.connect(str(config.data / protocol.SOCKET))
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        reply = b""
        try:
            while data := connection.recv(4096):
                reply += data
        except ConnectionResetError:
            pass  # it did not read all
    if answer and reply:
        assert answer in json.loads(reply)["text"]
    assert "state               ready" in run("status")


@pytest.mark.usefixtures("server")
def test_what_makes_no_sense_is_said_so_and_ends_with_2(run: Callable[..., str]) -> None:
    for arguments, words in (
        (["users", "add", "a b"], "must not hold spaces"),
        (["users", "add", "x" * 300], "a user name"),
        (["users", "disable", "x\x1b[2J"], "U+001B"),
        (["users", "add", "alice", "--days", "0"], "1 to 365 days"),
        (["users", "add", "x" * 5000], "one line"),
    ):
        assert words in run(*arguments, code=ExitCode.USAGE)
    assert "there is no account" in run("users", "disable", "nobody", code=ExitCode.FAILURE)


def test_the_operator_keeps_order_in_rooms_that_belong_to_nobody(
    server: Server, run: Callable[..., str], enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, mallory = enter("alice"), enter("mallory")
    assert re.search(r"#lobby\s+0\s+nobody", run("rooms", "list"))
    alice.open_room("#lobby")
    alice.open_room("#staff", "invite")
    room = mallory.join("#lobby")
    mallory.subscribe(room)
    assert re.search(r"#lobby\s+2\s+nobody", run("rooms", "list"))
    assert run("rooms", "bar", "#Lobby", "Mallory") == ""
    assert mallory.take(m.Entry, lambda entry: entry.kind == OPERATORS_WORD).conversation == room
    assert mallory.ask(m.Join, "#lobby").text == "you are barred from #lobby"
    assert re.search(r"#lobby\s+1\s+mallory", run("rooms", "list"))
    assert run("rooms", "unbar", "#lobby", "mallory") == ""
    assert run("rooms", "remove", "#lobby", "mallory") == ""
    assert isinstance(mallory.ask(m.Join, "#lobby"), m.JoinOffer)
    assert "version 2" in run("rooms", "list")
    for arguments, text in (
        (("upgrade", "#lobby"), "version 2, the newest that this server knows"),
        (("bar", "#staff", "alice"), "#staff belongs to alice; only its owners can bar somebody there"),
        (("unbar", "#lobby", "alice"), "changes nothing"),
        (("remove", "#nowhere", "alice"), "there is no room #nowhere"),
        (("bar", "#lobby", "nobody"), "there is no account nobody"),
    ):
        assert text in run("rooms", *arguments, code=ExitCode.FAILURE)
    assert "#staff" not in run("rooms", "list")
    alice.subscribe(room)
    assert run("rooms", "new-key") == ""
    word = alice.take(m.Entry, lambda entry: entry.kind == OPERATORS_WORD and b"mallory" not in entry.payload)
    new, old = server._store.site_keys
    assert new.public in word.payload
    assert server._hello.site_key == new.public
    assert alice.hello.site_key == old.public
    monkeypatch.setitem(READERS, VERSION + 1, Rules.decode)
    assert run("rooms", "upgrade", "#lobby") == ""
    assert "version 2, 3 once newer programs are with alice" in run("rooms", "list")
    assert "it waits for newer programs of alice" in run("rooms", "upgrade", "#lobby", code=ExitCode.FAILURE)
    run("rooms", "bar", "no#room", "alice", code=ExitCode.USAGE)


def test_status_says_how_the_server_is(server: Server, run: Callable[..., str], enter: Enter) -> None:
    enter("alice").open_room("#lobby")
    shown = run("status")
    assert f"listening on        {server.address}\n" in shown
    assert "accounts            1\n" in shown
    assert "connections         1, 1 logged in, 0 accounts waiting\n" in shown
    assert "lost at the start" not in shown


def test_what_a_damaged_write_ahead_log_has_lost_is_told(
    start: Start, config: ServerConfig, run: Callable[..., str], tmp_path: Path,
    log_without_secrets: io.StringIO,
) -> None:
    with closing(SQLiteStore(tmp_path / "other" / "chat.db")) as store:  # killed: nobody has folded its log in
        for _ in range(3):
            store.change_site_key()
            store.commit()
        shutil.copytree(tmp_path / "other", config.data, dirs_exist_ok=True)
    log = config.data / "chat.db-wal"
    data = bytearray(log.read_bytes())
    data[32 + 24 + 100] ^= 1  # in the first page of all
    log.write_bytes(data)
    server = start(metrics_port=0)
    lost = server.status().commits_passed_over
    assert lost >= 3
    assert f"lost at the start   {lost} commits of the store" in run("status")
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=WAIT) as answer:
        assert f"\nsecurechat_commits_passed_over {lost}.0\n" in answer.read().decode()
    (line,) = [each for each in log_without_secrets.getvalue().splitlines() if "write-ahead log is lost" in each]
    assert f'"commits": {lost}' in line


# --- backups ----------------------------------------------------------------------------------------------------------


def test_a_backup_of_a_busy_server_is_whole_and_a_server_goes_on_from_it(
    start: Start, config: ServerConfig, run: Callable[..., str], certificates: Path, tmp_path: Path
) -> None:
    server = start()
    tls = client_context(certificates / "ca.pem")
    accepted: list[int] = []
    stop = threading.Event()
    with Person(server.port, tls, "alice") as alice, Person(server.port, tls, "bob") as bob:
        alice.register().login()
        bob.register().login()
        alice.open_direct("bob")
        (conversation,) = alice.groups
        alice.subscribe(conversation)

        def talk() -> None:
            while not stop.is_set():
                accepted.append(alice.say(conversation, "x" * 200).seq)

        talker = threading.Thread(target=talk)
        talker.start()
        try:
            while len(accepted) < 50:
                stop.wait(0.01)
            before = accepted[-1]
            run("backup", str(tmp_path / "one.tar"))
            assert accepted[-1] > before or not stop.wait(0.05)  # nobody waited for it
            after = accepted[-1] + 1  # one may be on its way
        finally:
            stop.set()
            talker.join()
    assert stat.S_IMODE((tmp_path / "one.tar").stat().st_mode) == 0o600
    assert "is there already" in run("backup", str(tmp_path / "one.tar"), code=ExitCode.FAILURE)
    server.stop()
    assert sorted(path.name for path in config.data.iterdir()) == [
        "accounts.json", "accounts.json.lock", "accounts.json.previous", "age", "blobs", "chat.db", "chat.db.lock",
        "reserve",
    ]  # fmt: skip

    data = tmp_path / "restored"
    result = CliRunner().invoke(cli.main, ["admin", "--data", str(data), "restore", str(tmp_path / "one.tar")])
    assert result.exit_code == 0, result.output
    assert f"restored {data} as it was at 20" in result.stdout
    assert sorted(path.name for path in data.iterdir()) == ["accounts.json", "chat.db"]
    for path in data.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    server = start(data=data)
    with Person(server.port, tls, "alice") as back:
        back.secret, back.device = alice.secret, alice.device
        reply = back.ask(m.Login, "alice", back.secret, back.device)
        assert isinstance(reply, m.LoggedIn)
        assert (reply.certificate, back.hello.server_id) == (alice.certificate().encode(), alice.hello.server_id)
        subscribed = back.ask(m.Subscribe, conversation, before)
        head = server._store.conversations.load(conversation)
        assert head is not None
        last = head.lost_after  # behind it, a restored server's logs leap
        assert subscribed.head == head.seq >= last + LEAP_ENTRIES
        assert before <= last <= after
        assert [back.take(m.Entry).seq for _ in range(before + 1, last + 1)] == list(range(before + 1, last + 1))
        (checkpoint,) = back.ask(m.FetchCheckpoints, conversation).checkpoints
        (handshake,) = server._store.logs.read_handshakes(conversation, 0, last, 100, 1 << 20)
        assert (checkpoint.seq, checkpoint.group_info) == (handshake.seq, handshake.group_info)


@pytest.fixture
def backup(server: Server, run: Callable[..., str], enter: Enter, tmp_path: Path) -> Path:
    """A good one."""
    assert server.running
    enter("alice").open_room("#lobby")
    run("backup", str(tmp_path / "backup.tar"))
    return tmp_path / "backup.tar"


def test_a_backup_goes_to_standard_output_too(backup: Path, config: ServerConfig, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from securechat.cli import main; main()", "admin", "--data", str(config.data)]
    done = subprocess.run([*command, "backup", "-"], capture_output=True, check=True, timeout=WAIT)
    (tmp_path / "piped.tar").write_bytes(done.stdout)
    assert check_backup(tmp_path / "piped.tar").server_id == check_backup(backup).server_id


def test_restore_refuses_a_folder_with_anything_in_it(backup: Path, config: ServerConfig, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in config.data.iterdir() if path.is_file()}
    with pytest.raises(StorageError, match=r"is not empty \(accounts.json is there\)"):
        restore(backup, config.data)
    assert {path: path.read_bytes() for path in config.data.iterdir() if path.is_file()} == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(StorageError, match="not empty"):
        restore(backup, tmp_path / "other")
    restore(backup, tmp_path / "absent")


def test_restore_refuses_a_folder_of_another_user_whose_server_could_not_read_it(backup: Path, tmp_path: Path) -> None:
    others = Path("/usr")
    if os.geteuid() == 0:
        others = tmp_path / "others"
        others.mkdir()
        os.chown(others, 65534, -1)
    with pytest.raises(StorageError, match="belongs to another user"):
        restore(backup, others)
    if others != Path("/usr"):
        assert list(others.iterdir()) == []


def test_a_backup_that_breaks_off_anywhere_is_refused_and_nothing_is_left_of_it(backup: Path, tmp_path: Path) -> None:
    whole = backup.read_bytes()
    end = whole.rindex(b'"securechat backup"') + 100
    for length in (0, 1, 511, 512, 5000, end // 2, end - 2000, end - 512):
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        with pytest.raises(StorageError, match="damaged|incomplete"):
            restore(tmp_path / "cut.tar", tmp_path / "target")
        assert not (tmp_path / "target").exists()


def test_a_changed_backup_is_refused(backup: Path, tmp_path: Path) -> None:
    whole = backup.read_bytes()
    server_id = whole.index(b"server_id", whole.rindex(b"securechat backup")) + 13
    (tmp_path / "target").mkdir(mode=0o700)
    for at in (512 + 5000, whole.index(b"$argon2id$"), server_id):
        changed = bytearray(whole)
        changed[at] = ord("0") if changed[at] != ord("0") else ord("1")
        (tmp_path / "changed.tar").write_bytes(changed)
        with pytest.raises(StorageError, match="damaged"):
            restore(tmp_path / "changed.tar", tmp_path / "target")
        assert list((tmp_path / "target").iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "/evil", "chat.db", "other"])
def test_a_tar_file_with_other_things_in_it_is_refused(backup: Path, tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "more.tar", "w") as tar, tarfile.open(backup) as good:
        tar.add(backup, name)
        for member in good:
            tar.addfile(member, good.extractfile(member))
    with pytest.raises(StorageError, match="is not a backup"):
        restore(tmp_path / "more.tar", tmp_path / "target")
    assert not (tmp_path / "target").exists()
    assert not (tmp_path / "evil").exists()


def test_a_link_in_a_tar_file_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        link = tarfile.TarInfo("chat.db")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(StorageError, match="is not a backup"):
        restore(tmp_path / "link.tar", tmp_path / "target")
