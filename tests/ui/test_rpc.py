"""`securechat rpc`: each line has its answer, in order; what happens is told; a question means no."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import pytest

from securechat.client import commands
from securechat.client.events import Delayed, Done, Ended, Held, KeyShown, Ready, Refused
from securechat.client.snapshot import Invitation
from securechat.errors import UnreachableError
from securechat.names import normalise_title
from securechat.ui.exit_codes import ExitCode
from securechat.ui.rpc.codec import INVALID_REQUEST, MAX_LINE, METHOD_NOT_FOUND, PARSE_ERROR
from securechat.ui.rpc.lines import Lines
from securechat.ui.rpc.session import MAX_UNANSWERED, Session
from securechat.ui.rpc.stdio import events_queue, run_rpc
from tests.support.live import LiveServer
from tests.support.scripted import ScriptedClient, conversation
from tests.support.server_process import server_environment

BOB = conversation("bob")
SECONDS = 60


def request(call: int, method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": call, "method": method, "params": params}).encode()


class Caller:
    """A session over a core that does what a test says."""

    def __init__(self, *, online: bool = True) -> None:
        self.lines: list[dict[str, Any]] = []
        self.client = ScriptedClient(lambda event: self.session.event(event), online=online)
        self.client.add(BOB)
        self.session = Session(self.client, lambda line: self.lines.append(json.loads(line)))

    def ask(self, call: int, method: str, **params: Any) -> None:
        self.session.line(request(call, method, **params))

    @property
    def answers(self) -> list[tuple[int | None, Any]]:
        """Each one's id, and its result, or the code of its error."""
        return [
            (line["id"], line["error"]["code"] if "error" in line else line["result"])
            for line in self.lines if "id" in line
        ]  # fmt: skip

    @property
    def events(self) -> list[tuple[str, int]]:
        told = [line["params"] for line in self.lines if "method" in line]
        return [(each["event"], each["command"]) for each in told]


# --- the rules --------------------------------------------------------------------------------------------------------


def test_a_command_is_answered_by_what_becomes_of_it_and_events_name_it() -> None:
    caller = Caller()
    caller.ask(7, "Send", conversation=BOB.id.hex(), text="hello")
    assert caller.answers == [(7, None)]
    assert caller.events == [("Said", 7), ("Delivered", 7), ("Done", 7)]
    assert caller.lines[0]["params"]["where"] == "bob"
    caller.client.receive(BOB, "bob", "hi")
    assert caller.events[-1] == ("Received", 0)
    caller.ask(8, "past", name="bob", limit=5)
    assert [line["text"] for line in caller.answers[-1][1]] == ["hello", "hi"]


def test_an_event_of_somebody_elses_command_names_none() -> None:
    caller = Caller()
    caller.client.do(commands.Send(BOB.id, "by another front end"))
    assert {command for _, command in caller.events} == {0}
    assert caller.answers == []


@pytest.mark.parametrize(
    ("answer", "code", "told"),
    [
        (Held(BOB.id, (KeyShown("bob", "1a2b", "changed"),)), ExitCode.UNTRUSTED, "/trust bob 1a2b"),
        (Refused("quota", "You have used up your share."), ExitCode.FULL, "your share"),
        (Refused("local", "There is no such message."), ExitCode.FAILURE, "no such message"),
        (Delayed(BOB.id, "reader-full", "Bob has been away."), ExitCode.FULL, "away"),
    ],
)
def test_what_does_not_go_is_answered_with_the_code_of_a_command_and_what_decides(
    answer: Any, code: ExitCode, told: str
) -> None:
    caller = Caller()
    caller.client.answer[commands.Send] = answer
    caller.ask(7, "Send", conversation=BOB.id.hex(), text="hello")
    assert caller.answers == [(7, code)]
    assert told in next(line for line in caller.lines if "error" in line)["error"]["message"]
    if not isinstance(answer, Refused):  # once a person has decided, it is told, and not answered again
        (sent,) = (each for each in caller.client.calls if isinstance(each, commands.Send))
        caller.client.tell(Done(command=sent.id))
        assert caller.events[-1] == ("Done", 7)
        assert len(caller.answers) == 1


def test_answers_come_in_the_order_of_the_requests() -> None:
    caller = Caller(online=False)
    caller.ask(1, "Send", conversation=BOB.id.hex(), text="hello")
    caller.ask(2, "conversations")
    caller.session.line(b"garbage")
    caller.session.line(None)
    caller.ask(3, "close")
    assert caller.answers == []
    (sent,) = (each for each in caller.client.calls if isinstance(each, commands.Send))
    caller.client.tell(Done(command=sent.id))
    assert [call for call, _ in caller.answers] == [1, 2, None, None, 3]
    assert [code for _, code in caller.answers[2:]] == [PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND]


def test_a_request_without_an_id_is_carried_out_and_not_answered() -> None:
    caller = Caller()
    caller.session.line(request(1, "Send", conversation=BOB.id.hex(), text="hello").replace(b'"id": 1, ', b""))
    caller.session.line(b'{"jsonrpc":"2.0","method":"conversations"}')
    assert caller.answers == []
    assert caller.events == [("Said", 0), ("Delivered", 0), ("Done", 0)]


def test_a_program_accepts_invitations_by_its_settings_alone() -> None:
    caller = Caller()
    key = "1a2b" * 16
    caller.client.asked.append(
        Invitation(
            b"c" * 32, "#club", "alice", key, first_contact=True, again=False, role="member", owners=("alice",),
            members=("alice",), known=(), text="",
        )
    )  # fmt: skip
    caller.ask(1, "AcceptInvitation", conversation=(b"c" * 32).hex(), question=0)
    assert caller.answers == [(1, ExitCode.UNTRUSTED)]
    assert f"--accept-invitations-of alice:{key}" in caller.lines[-1]["error"]["message"]
    assert caller.client.calls == []
    caller.ask(2, "DeclineInvitation", conversation=(b"c" * 32).hex(), question=0)  # the twin: no takes nobody's place
    assert caller.answers[-1] == (2, None)


def test_the_end_of_the_core_answers_what_waits() -> None:
    for error, code in ((None, ExitCode.FAILURE), (UnreachableError("Gone."), ExitCode.UNREACHABLE)):
        caller = Caller(online=False)
        caller.ask(1, "Send", conversation=BOB.id.hex(), text="hello")
        caller.ask(2, "blocked")
        caller.client.tell(Ended(error))
        assert caller.answers == [(1, code), (2, [])]
        caller.session.end_of_lines(SECONDS)


def test_a_read_that_cannot_be_made_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = Caller()
    caller.ask(1, "conversation", conversation="00" * 32)
    assert caller.answers == [(1, None)]
    monkeypatch.setattr(caller.client, "find", normalise_title)  # as the real one does first
    caller.ask(2, "find", name="no name!")
    assert caller.answers[-1] == (2, ExitCode.USAGE)


@pytest.mark.parametrize("size", [1, 7, 65_536])
def test_lines_are_cut_however_they_come_and_long_ones_are_not_kept(size: int) -> None:
    text = b"one\r\n\n" + b"x" * (MAX_LINE + 1) + b"\ntwo\n" + b"y" * MAX_LINE + b"\nrest"
    lines, found = Lines(), list[bytes | None]()
    for begin in range(0, len(text), size):
        found += lines.take(text[begin : begin + size])
        assert len(lines._begun) <= MAX_LINE
    found += lines.end()
    assert found == [b"one", b"", None, b"two", b"y" * MAX_LINE, b"rest"]
    assert list(Lines().end()) == []


# --- the process ------------------------------------------------------------------------------------------------------


def test_the_end_of_the_input_ends_it_once_all_is_answered() -> None:
    events, output = events_queue(), BytesIO()
    client = ScriptedClient(events.put)
    client.add(BOB)
    reader, writer = os.pipe()
    os.write(writer, request(1, "Send", conversation=BOB.id.hex(), text="a") + b"\n" + request(2, "blocked"))
    os.close(writer)
    assert run_rpc(client, events, reader, output) == ExitCode.OK
    os.close(reader)
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [line["id"] for line in lines if "id" in line] == [1, 2]
    assert lines[-1]["params"]["event"] == "Ended"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LiveServer]:
    """A server, and the passwords of its users."""
    server = LiveServer(tmp_path)
    for user in ("alice", "bob", "bot"):
        (tmp_path / f"{user}.password").touch(mode=0o600)
        (tmp_path / f"{user}.password").write_text("correct horse\n")
    yield server
    server.stop()


def environment(site: LiveServer, user: str) -> dict[str, str]:
    return server_environment({
        "SECURECHAT_USER": user, "SECURECHAT_SERVER": f"localhost:{site.port}", "SECURECHAT_CA": str(site.ca),
        "SECURECHAT_VAULT": str(site.folder / "vaults"),
        "SECURECHAT_PASSWORD_FILE": str(site.folder / f"{user}.password"),
    })  # fmt: skip


def started(site: LiveServer, user: str, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.cheap", "rpc", *options], env=environment(site, user),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,  # no terminal anywhere
    )  # fmt: skip


def lines_until(process: subprocess.Popen[bytes], event: str) -> list[dict[str, Any]]:
    """What it says up to an event."""
    assert process.stdout is not None
    lines: list[dict[str, Any]] = []
    while not lines or lines[-1].get("params", {}).get("event") != event:
        lines.append(json.loads(process.stdout.readline()))
    return lines


def write_all(stream: IO[bytes], content: bytes) -> None:
    with stream:
        stream.write(content)


def test_garbage_long_lines_and_a_thousand_commands_are_answered_each_in_order(site: LiveServer) -> None:
    process = started(site, "alice", "--register")
    assert process.stdin is not None
    lines_until(process, "Ready")
    process.stdin.write(request(1, "JoinRoom", name="#here") + b"\n")
    process.stdin.flush()
    joined = lines_until(process, "Done")
    told = [line["params"] for line in joined if line["params"]["event"] == "ConversationChanged"]
    (room,) = {each["conversation"]["id"] for each in told}
    asked = [request(10 + each, "Send", conversation=room, text=f"message {each}") for each in range(1000)]
    asked[500:500] = [b"\xff\x00garbage", b"x" * (10 << 20), b"{}", request(5, "past", name="#here", limit=1000)]
    assert process.stdout is not None
    writer = threading.Thread(target=write_all, args=(process.stdin, b"\n".join(asked)))
    writer.start()
    with process.stdout as stream:
        lines = [json.loads(line) for line in stream]
    writer.join(SECONDS)
    assert process.wait(SECONDS) == 0
    answers = [line for line in lines if "id" in line]
    assert [line["id"] for line in answers] == [
        1, *range(10, 510), None, None, None, 5, *range(510, 1010),
    ]  # fmt: skip
    assert [line["error"]["code"] for line in answers if "error" in line] == [
        PARSE_ERROR, INVALID_REQUEST, INVALID_REQUEST,
    ]  # fmt: skip
    said = [line["params"]["message"] for line in lines if line.get("params", {}).get("event") == "Delivered"]
    assert [each["text"] for each in said] == [f"message {number}" for number in range(1000)]
    assert len(asked) > MAX_UNANSWERED - 100


def test_the_echo_bot_of_the_docs_runs_as_printed(site: LiveServer, tmp_path: Path) -> None:
    (printed,) = re.findall(r"```python\n(.*?)```", Path("docs/scripts.md").read_text(), re.DOTALL)
    assert len(printed.splitlines()) <= 33  # it says that it has thirty
    (tmp_path / "echo_bot.py").write_text(printed)
    program = tmp_path / "bin" / "securechat"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.support.cheap "$@"\n')
    program.chmod(0o700)
    said = subprocess.run(
        [program, "send", "--register", "--create", "--to", "#here"], env=environment(site, "bot"), input=b"I am here",
        timeout=SECONDS, check=True, capture_output=True,
    )  # fmt: skip
    assert said.stderr == b""
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "echo_bot.py")], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=environment(site, "bot") | {"PATH": f"{program.parent}:{os.environ['PATH']}"},
    ) as bot:  # fmt: skip
        alice = started(site, "alice", "--register")
        assert alice.stdin is not None
        assert alice.stdout is not None
        try:
            lines_until(alice, "Ready")
            alice.stdin.write(request(1, "JoinRoom", name="#here") + b"\n")
            alice.stdin.flush()
            told = [line["params"] for line in lines_until(alice, "Done")]
            (room,) = {each["conversation"]["id"] for each in told if each["event"] == "ConversationChanged"}
            for number, text in enumerate(("hello", "two\nlines \u202e"), 2):
                alice.stdin.write(request(number, "Send", conversation=room, text=text) + b"\n")
                alice.stdin.flush()
                heard = lines_until(alice, "Received")[-1]["params"]["message"]
                assert (heard["sender"], heard["text"]) == ("bot", text)
        finally:
            alice.kill()
            alice.communicate()
            bot.terminate()


def test_control_c_ends_it_as_any_command(site: LiveServer) -> None:
    process = started(site, "alice", "--register")
    lines_until(process, "Ready")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert process.returncode == ExitCode.INTERRUPTED


def test_ready_is_told_to_whoever_only_listens() -> None:
    caller = Caller()
    caller.client.tell(Ready())
    assert caller.events == [("Ready", 0)]
