"""`securechat client`, `send` and `recv` as processes, with a real server process over real TLS."""

import datetime as dt
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from securechat import certs
from securechat.client.password_source import PasswordSource
from securechat.client.recovery_file import open_recovery
from securechat.client.vault.vault import Vault
from securechat.identity.invite_line import InviteLine
from securechat.ui.exit_codes import ExitCode
from securechat.ui.view.lines import CONTINUATION
from securechat_lab.cast.terminal import Terminal

SECURECHAT = [sys.executable, "-m", "tests.support.cheap"]
ELSEWHERE = [sys.executable, "-c", """\
from securechat.ui import recovery
recovery.is_loopback = lambda host: False
from tests.support.cheap import make_clients_cheap
make_clients_cheap()
from securechat.cli import main
main()
"""]  # fmt: skip
"""The same for a server on another machine, as it seems: nobody is asked for a recovery file of one on this one."""

SECONDS = 60


@dataclass
class Site:
    """A server process, and a folder for its clients."""

    folder: Path
    address: str

    def environment(self, user: str) -> dict[str, str]:
        """Who somebody is and where the server is, said by variables; options on the command line beat them."""
        password = self.folder / f"{user}.password"
        if not password.exists():
            password.touch(mode=0o600)
            password.write_text(f"the password of {user}\n")
        return os.environ | {
            "SECURECHAT_USER": user,
            "SECURECHAT_SERVER": self.address,
            "SECURECHAT_CA": str(self.folder / "ca.pem"),
            "SECURECHAT_VAULT": str(self.folder / "vaults"),
            "SECURECHAT_PASSWORD_FILE": str(password),
            "PYTHONPATH": str(Path.cwd()),
        }

    def run(self, user: str, command: str, *options: str, typed: str = "", code: ExitCode = ExitCode.OK) -> str:
        """Run a command to its end; return what it printed: its errors, if it is meant to fail."""
        done = subprocess.run(
            [*SECURECHAT, command, *options],
            input=typed.encode(), env=self.environment(user), capture_output=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        return (done.stderr if code else done.stdout).decode()

    def recv(self, user: str, *others: str) -> list[tuple[str, str, str]]:
        """What `recv --json` prints: conversation, sender and text of each message."""
        lines = [json.loads(line) for line in self.run(user, "recv", "--json", *others).splitlines()]
        received = [(line["where"], line["message"]) for line in lines if line["event"] == "Received"]
        return [(where, message["sender"], message["text"]) for where, message in received]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Start servers; each is asked to stop at the end, and has to do so in order."""
    ca = trustme.CA()
    leaf = ca.issue_cert("127.0.0.1")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    ca.cert_pem.write_to_path(tmp_path / "server.pem", append=True)  # for who knows it by its pin
    servers: list[subprocess.Popen[bytes]] = []

    def begin(*settings: str) -> Site:
        certificate = str(tmp_path / "server.pem")
        process = subprocess.Popen(
            [*SECURECHAT, "server", "--port", "0", "--data", str(tmp_path / "data"), "--cert", certificate,
             "--key", certificate, *settings],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        servers.append(process)
        assert process.stdout is not None
        return Site(tmp_path, process.stdout.readline().decode().removeprefix("listening on ").strip())

    yield begin
    for process in servers:
        process.terminate()
        assert process.wait(SECONDS) == 0
        assert process.stdout is not None
        process.stdout.close()


def test_what_is_sent_is_received_once_whichever_program_fetched_it(open_site: Callable[..., Site]) -> None:
    site = open_site()
    assert site.recv("bob", "--register") == []
    site.run("alice", "send", "--register", "--to", "bob", typed="one\n")
    site.run("alice", "send", "--to", "bob", typed="two\nlines\n")
    assert site.recv("bob") == [("alice", "alice", "one"), ("alice", "alice", "two\nlines")]
    assert site.recv("bob") == []
    site.run("alice", "send", "--to", "BOB", typed="three")
    # Fetches "three", and nobody sees it there: no program says yes to somebody in a person's place.
    assert "/accept alice" in site.run("bob", "send", "--to", "alice", typed="four", code=ExitCode.UNTRUSTED)
    assert site.recv("bob") == [("alice", "alice", "three")]
    site.run("bob", "client", typed="/accept alice\n")
    site.run("bob", "send", "--to", "alice", typed="four")
    assert re.fullmatch(r"\d\d:\d\d \[bob\] bob: four\n", site.run("alice", "recv"))


def test_what_is_there_is_asked_by_commands(open_site: Callable[..., Site]) -> None:
    site = open_site()
    site.recv("bob", "--register")
    site.run("alice", "send", "--register", "--to", "bob", typed="the first of all")
    site.run("alice", "send", "--create", "--to", "#here", typed="a second one")
    for command in (["history", "#here"], ["search", "second"], ["search", "from:me", "in:#here"]):
        (line,) = map(json.loads, site.run("alice", *command, "--json").splitlines())
        assert (line["v"], line["where"], line["message"]["text"]) == (1, "#here", "a second one")
    assert re.fullmatch(r"\d\d:\d\d \[bob\] alice: the first of all\n", site.run("alice", "search", "first"))
    assert site.run("alice", "files") == ""
    (rooms,) = map(json.loads, site.run("bob", "rooms", "--json").splitlines())
    assert [(each["name"], each["joined"]) for each in rooms["rooms"]] == [("#here", False)]
    assert "alice" in site.run("alice", "members", "#here")
    assert "no conversation #typo" in site.run("alice", "members", "#typo", code=ExitCode.FAILURE)
    site.recv("bob")
    (shown,) = map(json.loads, site.run("bob", "verify", "alice", "--json").splitlines())
    number = shown["keys"][0]["number"]
    assert "somebody may sit between" in site.run("alice", "verify", "bob", number[:-1] + "x", code=ExitCode.UNTRUSTED)
    assert "verified" in site.run("alice", "verify", "bob", number)
    (noted,) = map(json.loads, site.run("alice", "verify", "bob", "--json").splitlines())
    assert noted["keys"][0]["trust"] == "verified"


def test_a_room_and_a_private_chat_over_pipes(open_site: Callable[..., Site]) -> None:
    site = open_site("--greeting", "Be kind.")
    shown = site.run("alice", "client", "--register", typed="/join #lobby\nfirst\n/rooms\n")
    assert "-- The server's greeting: Be kind.\n" in shown
    assert re.search(r"\d\d:\d\d \[#lobby\] alice: first\n", shown)
    assert "-- #lobby: open room, 1 person, you are in it\n" in shown
    shown = site.run("bob", "client", "--register", typed="/join #lobby\nsecond\\\nline\n/who\n/chat alice\nmay I?\n")
    assert "You are in #lobby (2 people). Earlier messages cannot be read." in shown
    assert "first" not in shown
    assert f"bob: second\n{CONTINUATION}line\n" in shown
    listed = r"-- In #lobby: alice( \?)? \(listed\), bob ✓ \(you, online\)\n"  # before or after the first contact
    assert re.search(listed, shown)
    assert "-- A private chat with alice begins; alice has yet to agree.\n" in shown
    shown = site.run("alice", "client", typed="/accept\nof course\n/bye\n/safety bob\n")
    assert "bob has entered #lobby" in shown
    assert re.search(r"\[#lobby\] bob( \?)?: second\n", shown)  # nothing is accepted in a room
    assert "/accept bob or /decline bob" in shown
    alices_number = re.findall(r"\b\d{5}\b", shown)
    shown = site.run("bob", "client", typed="/safety alice\n/verify alice\n/go alice\n/history\n/bye\n")
    assert re.findall(r"\b\d{5}\b", shown) == alices_number
    assert "alice has accepted" in shown
    assert "alice: of course" in shown
    assert "You and alice have both said bye: the chat is over." in shown


def test_an_invitation_is_answered_over_pipes_and_by_a_programs_settings(open_site: Callable[..., Site]) -> None:
    site = open_site()
    for name in ("bob", "carol"):
        site.run(name, "client", "--register", typed="/rooms\n")
    site.run("alice", "client", "--register", typed="/create #club\n/invite bob\n/invite carol\n/who\n")
    shown = site.run("bob", "client", typed="/go\n")
    assert "Somebody whom the server calls alice (first contact, key " in shown
    assert "invites you to the room #club" in shown
    assert "/accept #club  (invited by alice)" in shown
    shown = site.run("bob", "client", typed="/accept #club\nhere I am\n")
    assert "[#club] bob: here I am" in shown
    assert site.recv("alice") == [("#club", "bob", "here I am")]
    told = site.run("carol", "send", "--to", "#club", typed="hello", code=ExitCode.UNTRUSTED)
    (option,) = re.findall(r"--accept-invitations-of alice:[0-9a-f]{64}", told)
    assert site.recv("carol", *option.split()) == [("#club", "bob", "here I am")]  # since she was added
    shown = site.run("carol", "client", typed="/go\n")
    assert "/go #club" in shown
    assert "invites you" not in shown


def test_lines_bring_people_in_who_know_each_other_by_them(
    open_site: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "certs"
    certs.generate(folder, ("127.0.0.1",), days=1, new_ca=False)
    pair = ("--cert", str(folder / "server.pem"), "--key", str(folder / "server-key.pem"))
    site = open_site("--registration", "closed", *pair)
    ca = ("--ca", str(folder / "ca.pem"))

    def admin(*arguments: str) -> str:
        shown = subprocess.run(
            [*SECURECHAT, "admin", "--data", str(tmp_path / "data"), *arguments],
            capture_output=True, timeout=SECONDS, check=True,
        )  # fmt: skip
        return shown.stdout.decode()

    (operators,) = re.findall(
        r"^securechat1\w+$", admin("invites", "create", "--line-for", site.address, *ca), re.MULTILINE
    )
    site.run("alice", "join", "-", typed=operators)
    site.run("alice", "client", *ca, typed="/create #staff\n")
    (code,) = re.findall(r"code   (\S+)", admin("users", "add", "bob"))
    monkeypatch.setenv("SECURECHAT_INVITE", code)
    line = site.run("alice", "invite", *ca, "--room", "#staff", "--for", "3")
    monkeypatch.delenv("SECURECHAT_INVITE")
    assert "#staff, until" in site.run("alice", "invite", *ca, "--list")

    assert "Run `securechat join`" in site.run("bob", "join", line.strip(), code=ExitCode.USAGE)
    assert "cut off" in site.run("bob", "join", "-", typed=line[:-5], code=ExitCode.USAGE)
    (tmp_path / "line").write_text(line)
    site.run("bob", "join", str(tmp_path / "line"))
    alice = subprocess.Popen(
        [*SECURECHAT, "recv", "--json", "--follow", *ca],
        env=site.environment("alice"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        shown, deadline = "", time.monotonic() + SECONDS
        while "/go #staff" not in shown:
            assert time.monotonic() < deadline
            shown += site.run("bob", "client", *ca, typed="/go\n")
        assert "invites you" not in shown  # nobody was asked
        assert "First contact" not in shown
        site.run("bob", "send", *ca, "--to", "#staff", typed="here I am")
        assert alice.stdout is not None
        heard = json.loads(alice.stdout.readline())
        while heard["event"] != "Received":
            heard = json.loads(alice.stdout.readline())
        assert (heard["where"], heard["message"]["sender"], heard["message"]["text"]) == ("#staff", "bob", "here I am")
        assert heard["message"]["trust"] == "accepted"
    finally:
        alice.kill()
        alice.communicate()
    assert "used by bob (key " in site.run("alice", "invite", *ca, "--list")
    assert "You are in #staff already" in site.run("bob", "join", "-", typed=line, code=ExitCode.FAILURE)


def test_somebody_new_pastes_a_line_at_a_terminal_and_is_in(
    open_site: Callable[..., Site], tmp_path: Path
) -> None:
    folder = tmp_path / "certs"
    made = certs.generate(folder, ("127.0.0.1",), days=1, new_ca=False)
    site = open_site("--cert", str(folder / "server.pem"), "--key", str(folder / "server-key.pem"))
    line = InviteLine(site.address, made.pin).encode()
    joining = [*SECURECHAT, "join", "--choose", "--user", "dave", "--vault", str(tmp_path)]
    with Terminal(joining, orders=False) as terminal:
        terminal.wait(lambda: terminal.cursor_row.endswith("Paste the invite line:"))
        terminal.send(line[:60].encode() + b"\n")  # as a terminal has broken it
        terminal.wait(lambda: terminal.cursor_row.endswith("And the rest of it:"))
        terminal.send("      ┃ ".encode() + line[60:].encode() + b"\n")
        for question in ("New password of dave (Enter makes one):", "The same again:"):
            terminal.wait(lambda question=question: terminal.cursor_row == question)  # type: ignore[misc]  # bound now
            terminal.send(b"secret of dave\n")
        terminal.wait(lambda: any("You are in." in row for row in terminal.rows))
        terminal.type("/quit")
        terminal.send(b"\r")
        terminal.wait(lambda: terminal.cursor_row.endswith("Enter for later:"))
        terminal.send(b"\n")
        terminal.wait(lambda: any("recovery --user dave" in row for row in terminal.rows))
        assert terminal.wait_for_end() == ExitCode.OK


def test_a_recovery_file_is_the_account_under_a_passphrase_that_is_shown_once(
    open_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = open_site()
    out = tmp_path / "recovery"
    missing = site.run("alice", "recovery", "--out", str(out), code=ExitCode.USAGE)
    assert "alice is not set up on this computer" in missing
    site.run("alice", "recv", "--register")
    assert "Say where to" in site.run("alice", "recovery", code=ExitCode.USAGE)
    done = subprocess.run(
        [*SECURECHAT, "recovery", "--out", str(out), "--line", "--qr"], env=site.environment("alice"),
        capture_output=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    line, qr = done.stdout.decode().split("\n", 1)
    assert out.read_text() == f"{line}\n"
    assert out.stat().st_mode & 0o777 == 0o600
    assert "\N{LOWER HALF BLOCK}" in qr
    assert len(max(qr.split("\n"), key=len)) <= 80
    passphrase = re.search(r"shown once: (\S+)\n", done.stderr.decode())
    assert passphrase is not None
    assert passphrase[1] not in done.stdout.decode()
    contents = open_recovery(out.read_bytes(), passphrase[1])
    assert (contents.account, contents.address) == ("alice", site.address)
    vault = Vault.open(
        next((site.folder / "vaults").glob("alice@*.vault")), "alice", PasswordSource.typed("the password of alice")
    )
    device = vault.device.load()
    vault.close()
    assert device is not None
    assert (contents.public, contents.server_id) == (device.identity.public, device.server_id)
    refused = site.run("alice", "recovery", "--out", str(out), code=ExitCode.FAILURE)
    assert "is there already" in refused
    assert out.read_text() == f"{line}\n"


def test_its_owner_may_choose_the_passphrase_and_no_weak_one(open_site: Callable[..., Site], tmp_path: Path) -> None:
    site = open_site()
    site.run("alice", "recv", "--register")
    own, out = "glacier tulip Harvest violin copper", tmp_path / "recovery"
    given = tmp_path / "passphrase"
    for weak, code in (("alice in wonderland", ExitCode.USAGE), (own, ExitCode.OK)):
        given.write_text(f"{weak}\n")
        told = site.run("alice", "recovery", "--out", str(out), "--passphrase-file", str(given), code=code)
        assert weak not in told
        assert ("too easy to guess" in told) == (code != ExitCode.OK)
        assert "shown once" not in told
        assert out.exists() == (code == ExitCode.OK)
    assert open_recovery(out.read_bytes(), own).account == "alice"
    where = [
        "--user", "alice", "--server", site.address, "--ca", str(site.folder / "ca.pem"),
        "--vault", str(site.folder / "vaults"), "--password-file", str(site.folder / "alice.password"),
    ]  # fmt: skip
    typed = ["password123", own, "another one", own, own]
    asked = [1, 1, 2, 1, 2]  # once and once more
    command = [*SECURECHAT, "recovery", *where, "--choose", "--line"]
    with Terminal(command, orders=False) as terminal:
        for answer, times in zip(typed, asked, strict=True):
            question = "Passphrase for the recovery file:" if times == 1 else "The same again:"
            terminal.wait(lambda question=question: terminal.cursor_row == question)  # type: ignore[misc]  # bound now
            terminal.send(f"{answer}\n".encode())
            terminal.wait(lambda question=question: terminal.cursor_row != question)  # type: ignore[misc]  # bound now
        assert terminal.wait_for_end() == ExitCode.OK
        shown = "".join(terminal.rows)
        assert "too easy to guess" in shown
        assert "These were not the same." in shown
        assert not any(word in shown for word in ("password123", own))
        line = re.search(r"screcovery1[a-z2-7]+", shown)
        assert line is not None
        assert open_recovery(line[0].encode(), own.upper()).account == "alice"


def test_on_a_new_computer_a_recovery_file_is_all_it_takes(open_site: Callable[..., Site], tmp_path: Path) -> None:
    site = open_site()
    out, passphrase = tmp_path / "alice.recovery", tmp_path / "passphrase"
    for user in ("alice", "bob", "carol"):
        site.run(user, "client", "--register", typed="/join #lobby\n")
    site.run("alice", "client", typed="/msg bob hello\n/create #club\n/invite bob\n")
    site.run("bob", "client", typed="/accept alice\nhi\n/accept #club\n")
    done = subprocess.run(
        [*SECURECHAT, "recovery", "--out", str(out)], env=site.environment("alice"), capture_output=True,
        timeout=SECONDS, check=True,
    )  # fmt: skip
    shown = re.search(r"shown once: (\S+)\n", done.stderr.decode())
    assert shown is not None
    passphrase.write_text(f"{shown[1]}\n")
    site.run("alice", "recv")  # the last start on the old computer
    (tmp_path / "vaults").rename(tmp_path / "dead disk")
    (tmp_path / "vaults").mkdir()
    for file in (tmp_path / "dead disk").glob("[!a]*"):
        file.rename(tmp_path / "vaults" / file.name)

    def recover(file: Path, code: ExitCode = ExitCode.OK) -> str:
        return site.run("alice", "recover", str(file), "--passphrase-file", str(passphrase), code=code)

    damaged, wrong = tmp_path / "damaged", "2" * 20
    damaged.write_text(out.read_text()[:-9])
    assert "recovery file" in recover(damaged, ExitCode.USAGE)
    assert "cannot be read" in recover(tmp_path / "none", ExitCode.USAGE)
    passphrase.write_text(wrong)
    assert "does not open" in recover(out, ExitCode.USAGE)
    passphrase.write_text(f"{shown[1]}\n")
    password = site.folder / "alice.password"
    right = password.read_text()
    password.write_text("another password\n")
    recover(out, ExitCode.LOGIN_REFUSED)
    password.write_text(right)
    told = recover(out)
    assert "You can talk with bob" in told
    assert "You are back in #club" in told
    assert "You are back in #lobby" in told
    assert "3 conversations" in told
    assert "1 revoked" in told
    assert "set up on this computer already" in recover(out, ExitCode.USAGE)
    for to in ("bob", "#club", "#lobby"):
        site.run("alice", "send", "--to", to, typed=f"back in {to}")
    assert set(site.recv("bob")) >= {(("alice" if to == "bob" else to), "alice", f"back in {to}")
                                     for to in ("bob", "#club", "#lobby")}  # fmt: skip
    site.run("bob", "client", typed="".join(f"/go {to}\nwelcome back\n" for to in ("alice", "#club", "#lobby")))
    assert {(each, sender) for each, sender, text in site.recv("alice") if text == "welcome back"} == {
        ("bob", "bob"), ("#club", "bob"), ("#lobby", "bob"),
    }  # fmt: skip


def test_from_any_computer_a_recovery_file_shuts_the_lost_one_out(
    open_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = open_site()
    out, passphrase = tmp_path / "alice.recovery", tmp_path / "passphrase"
    own = "glacier tulip Harvest violin copper"
    passphrase.write_text(own)
    site.run("alice", "client", "--register", typed="/create #club\n")
    site.run("alice", "recovery", "--out", str(out), "--passphrase-file", str(passphrase))
    revoke = ("revoke", str(out), "--passphrase-file", str(passphrase))
    passphrase.write_text("another passphrase")
    assert "does not open" in site.run("alice", *revoke, code=ExitCode.USAGE)
    site.run("alice", "send", "--to", "#club", typed="she is still in")
    passphrase.write_text(own)
    told = site.run("alice", *revoke)
    assert re.match(r"Revoked: [0-9a-f]{8}\. No device speaks for alice now\.\n", told)
    assert "there is nothing to revoke" in site.run("alice", *revoke)
    told = site.run("alice", "send", "--to", "#club", typed="the thief", code=ExitCode.UNTRUSTED)
    assert "start securechat, and type /rotate" in told
    (tmp_path / "vaults").rename(tmp_path / "dead disk")
    (tmp_path / "vaults").mkdir()
    told = site.run("alice", "recover", str(out), "--passphrase-file", str(passphrase))
    assert "You are back in #club" in told
    site.run("alice", "send", "--to", "#club", typed="on a new computer")


def test_a_forgotten_password_is_no_end_for_who_has_a_recovery_file(
    open_site: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = open_site()
    out, passphrase, password = (tmp_path / name for name in ("alice.recovery", "passphrase", "alice.password"))
    site.run("alice", "client", "--register", typed="/create #club\n")
    done = subprocess.run(
        [*SECURECHAT, "recovery", "--out", str(out)], env=site.environment("alice"), capture_output=True,
        timeout=SECONDS, check=True,
    )  # fmt: skip
    passphrase.write_text(re.findall(r"shown once: (\S+)\n", done.stderr.decode())[0])
    site.run("alice", "recv")
    (tmp_path / "vaults").rename(tmp_path / "dead disk")
    password.write_text("a new password of alice\n")
    recover = ("recover", str(out), "--passphrase-file", str(passphrase))
    site.run("alice", *recover, code=ExitCode.LOGIN_REFUSED)
    shown = subprocess.run(
        [*SECURECHAT, "admin", "--data", str(tmp_path / "data"), "users", "reset-password", "alice"],
        capture_output=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    (code,) = re.findall(r"code   (\S+)", shown.stdout.decode())
    monkeypatch.setenv("SECURECHAT_INVITE", "wrong" + code)
    site.run("alice", *recover, code=ExitCode.LOGIN_REFUSED)
    monkeypatch.setenv("SECURECHAT_INVITE", code)
    told = site.run("alice", *recover)
    assert "You are back in #club" in told
    assert "1 revoked" in told
    monkeypatch.delenv("SECURECHAT_INVITE")
    site.run("alice", "send", "--to", "#club", typed="with the new password")
    password.write_text("the password of alice\n")
    site.run("alice", "recv", "--vault", str(tmp_path / "another"), code=ExitCode.LOGIN_REFUSED)


def test_each_failure_has_its_exit_code_and_one_line_of_reason(open_site: Callable[..., Site]) -> None:
    site = open_site("--registration", "open", "--max-clients", "1")
    site.run("alice", "recv", "--register")

    def fails(code: ExitCode, reason: str, user: str, command: str, *others: str, typed: str = "x") -> None:
        error = site.run(user, command, *others, typed=typed, code=code)
        assert re.search(reason, error)
        assert error.count("\n") == 1

    fails(ExitCode.FAILURE, "nobody", "alice", "send", "--to", "nobody")
    fails(ExitCode.USAGE, "keeps to one script", "alice", "send", "--to", "аlice")
    fails(ExitCode.USAGE, "Standard input is empty", "alice", "send", "--to", "bob", typed="")
    fails(ExitCode.USAGE, "HOST:PORT", "alice", "recv", "--server", "::1")
    fails(ExitCode.LOGIN_REFUSED, "password", "zoe", "recv")
    (site.folder / "alice.password").write_text("another password")
    fails(ExitCode.LOGIN_REFUSED, "password", "alice", "recv")
    (site.folder / "alice.password").write_text("the password of alice")
    fails(ExitCode.UNREACHABLE, "nothing listens", "alice", "recv", "--server", "127.0.0.1:1")
    trustme.CA().cert_pem.write_to_path(site.folder / "other.pem")
    fails(ExitCode.UNREACHABLE, "does not come from the CA", "alice", "recv", "--ca", str(site.folder / "other.pem"))
    environment = site.environment("alice")
    del environment["SECURECHAT_CA"]
    refused = subprocess.run(
        [*SECURECHAT, "recv", "--pin", "sha256:" + "0" * 64],
        env=environment, capture_output=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert (refused.returncode, b"does not show the CA" in refused.stderr) == (ExitCode.UNREACHABLE, True)
    site.run("bob", "send", "--register", "--to", "alice", typed="are you there?")
    with subprocess.Popen(
        [*SECURECHAT, "recv", "--follow"], env=site.environment("alice"), stdout=subprocess.PIPE
    ) as seated:
        assert seated.stdout is not None
        assert b"are you there?" in seated.stdout.readline()  # so she has the only seat
        fails(ExitCode.FULL, "full", "bob", "recv")
        fails(ExitCode.TIMEOUT, "Time is up", "bob", "send", "--wait", "--timeout", "1", "--to", "alice")
        seated.send_signal(signal.SIGINT)  # the usual end of --follow
        assert seated.wait(SECONDS) == ExitCode.INTERRUPTED
    fails(ExitCode.UNTRUSTED, "another identity key", "alice", "recv", "--vault", str(site.folder / "new"))


@pytest.mark.parametrize(
    ("host", "age", "reason"),
    [("other.example", 0, "is not for 127.0.0.1"), ("127.0.0.1", certs.DEFAULT_DAYS + 1, "has expired")],
)
def test_a_certificate_with_a_wrong_name_or_date_is_refused(
    open_site: Callable[..., Site], tmp_path: Path, host: str, age: int, reason: str
) -> None:
    made = tmp_path / "certs"
    certs.generate(made, [host], now=dt.datetime.now(dt.UTC) - dt.timedelta(days=age))
    (tmp_path / "ca.pem").write_bytes((made / "ca.pem").read_bytes())
    pair = (made / "server-key.pem").read_bytes() + (made / "server.pem").read_bytes()
    (tmp_path / "server.pem").write_bytes(pair)
    error = open_site().run("alice", "recv", code=ExitCode.UNREACHABLE)
    assert reason in error
    assert error.count("\n") == 1


@pytest.fixture
def terminal(open_site: Callable[..., Site]) -> Iterator[Terminal]:
    """Somebody new at a terminal."""
    site = open_site()
    where = ["--server", site.address, "--ca", str(site.folder / "ca.pem"), "--vault", str(site.folder / "vaults")]
    with Terminal([*ELSEWHERE, "client", "--user", "carol", *where], orders=False) as opened:
        yield opened


def test_somebody_new_registers_and_talks_at_a_terminal(terminal: Terminal, tmp_path: Path) -> None:
    terminal.wait(lambda: any("is not set up on this computer" in row for row in terminal.rows))
    for question in ("New password of carol (Enter makes one):", "The same again:"):
        terminal.wait(lambda question=question: terminal.cursor_row == question)  # type: ignore[misc]  # bound now
        terminal.send(b"secret of carol\n")
    terminal.wait(lambda: any("You are in." in row for row in terminal.rows))
    terminal.type("/join #lobby")
    terminal.send(b"\r")
    terminal.wait(lambda: any("You have opened the room #lobby" in row for row in terminal.rows))
    terminal.type("is anybody here?")
    terminal.send(b"\r")
    terminal.wait(lambda: any(row.endswith("[#lobby] carol: is anybody here?") for row in terminal.rows))
    terminal.type("/quit")
    terminal.send(b"\r")
    for question, answer in (
        ("Enter for later:", str(tmp_path / "none" / "file")), ("o asks for your own:", ""),
        ("Password of carol:", "secret of carol"),  # once
        ("Enter for later:", str(tmp_path / "recovery")), ("o asks for your own:", ""),
    ):  # fmt: skip
        terminal.wait(lambda question=question: terminal.cursor_row.endswith(question))  # type: ignore[misc]  # bound
        terminal.send(f"{answer}\n".encode())
    terminal.wait(lambda: terminal.cursor_row.endswith("then press Enter:"))
    shown = re.search(r"shown once: ([a-z2-9-]{23})", "".join(terminal.rows))
    assert shown is not None
    assert open_recovery((tmp_path / "recovery").read_bytes(), shown[1]).account == "carol"
    terminal.send(b"\n")
    assert terminal.wait_for_end() == ExitCode.OK
    assert not any("secret" in row for row in terminal.rows)


def test_a_password_is_changed_and_the_other_device_takes_it_over(open_site: Callable[..., Site]) -> None:
    site = open_site()
    old, new, weak = (site.folder / f"alice.{what}" for what in ("password", "new", "weak"))
    site.run("alice", "send", "--register", "--create", "--to", "#lobby", typed="hello")
    shutil.copytree(site.folder / "vaults", site.folder / "other")  # as a backup would: it still has the old one
    new.write_text("glacier tulip harvest\n")
    weak.write_text("hunter2\n")
    assert "too easy to guess" in site.run("alice", "password", "--new-password-file", str(weak), code=ExitCode.USAGE)
    site.run("alice", "password", "--new-password-file", str(new))
    told = site.run("alice", "recv", code=ExitCode.LOGIN_REFUSED)
    assert "The password does not open the vault" in told
    assert "`securechat password` takes both" in told
    site.run("alice", "recv", "--password-file", str(new))
    other = ("--vault", str(site.folder / "other"))
    told = site.run("alice", "recv", *other, code=ExitCode.LOGIN_REFUSED)
    assert "The account has another password by now than your data here" in told
    site.run("alice", "password", *other, "--new-password-file", str(new))
    site.run("alice", "recv", *other, "--password-file", str(new))
    assert old.read_text() == "the password of alice\n"
