import io
import json
import signal
import threading
from dataclasses import replace
from queue import SimpleQueue

import msgspec
import pytest

from securechat.client import commands
from securechat.client.events import (
    Connected,
    Disconnected,
    Done,
    Ended,
    Event,
    Held,
    InviteLineMade,
    InviteLineRefused,
    InviteLines,
    InviteLineUsed,
    KeyShown,
    PasswordWanted,
    Ready,
    Received,
    Refused,
    RoomList,
    RoomListed,
    Unreachable,
    Waiting,
)
from securechat.client.events import InviteLine as ListedLine
from securechat.client.message import Quote
from securechat.client.snapshot import Invitation
from securechat.errors import RefusedError, TrustError, UnreachableError
from securechat.identity.invite_line import InviteLine, Voucher
from securechat.ui import person
from securechat.ui.exit_codes import ExitCode
from securechat.ui.objects import EventObject, event_from
from securechat.ui.scripts.inviting import run_invite, run_join
from securechat.ui.scripts.receiving import run_recv
from securechat.ui.scripts.run import Events
from securechat.ui.scripts.sending import run_send
from securechat.ui.time_limit import TimeLimit
from tests.support.scripted import ScriptedClient, conversation
from tests.support.waiting import wait_until

BOB = conversation("bob")


class Script:
    """A core whose events are all there before the command begins to watch."""

    def __init__(self, *told: Event, online: bool = False) -> None:
        self.events: Events = SimpleQueue()
        self.client = ScriptedClient(self.events.put, online=online)
        self.output, self.errors = io.StringIO(), io.StringIO()
        for event in told:
            self.events.put(event)

    def send(
        self,
        to: str = "bob",
        *,
        reply: int = 0,
        create: bool = False,
        wait: bool = False,
        timeout: float | None = 60.0,
    ) -> ExitCode:
        return run_send(
            self.client, self.events, to, "hello",
            reply=reply, create=create, wait=wait, timeout=timeout, errors=self.errors,
        )  # fmt: skip

    def recv(self, *, as_json: bool = True, follow: bool = False, timeout: float | None = 60.0) -> ExitCode:
        return run_recv(
            self.client,
            self.events,
            as_json=as_json,
            follow=follow,
            wait=False,
            timeout=timeout,
            output=self.output,
            errors=self.errors,
        )

    def commands(self) -> list[commands.Command]:
        return [call for call in self.client.calls if isinstance(call, commands.Command)]


ONLINE = (Connected("s", ""), Ready())


def test_send_ends_well_once_the_server_has_accepted_the_text() -> None:
    script = Script(online=True)
    script.client.add(BOB)
    assert script.send("Bob") == ExitCode.OK
    assert script.commands() == [commands.Send(BOB.id, "hello")]
    assert script.client.calls[-1] == "close"
    assert script.errors.getvalue() == ""


def test_send_answers_a_message_by_its_seq_or_sends_nothing() -> None:
    script = Script(online=True)
    script.client.receive(script.client.add(BOB), "bob", "shall we?")
    line = script.client.said[-1]
    assert line.seq > 0
    assert script.send(reply=line.seq) == ExitCode.OK
    assert script.commands() == [commands.Reply(line.local_id, "hello")]
    for to in ("bob", "#lobby", "carol"):
        script = Script(online=True)
        script.client.receive(script.client.add(BOB), "bob", "shall we?")
        assert script.send(to, reply=999) == ExitCode.FAILURE
        assert script.commands() == []
        assert f"There is no message 999 in {to} among the newest 1,000" in script.errors.getvalue()


def test_send_opens_the_conversation_it_needs() -> None:
    script = Script(online=True)
    assert script.send("bob") == ExitCode.OK
    assert script.commands() == [commands.OpenDirect("bob", "hello", ask=False)]
    script = Script(online=True)
    assert script.send("#Lobby", create=True) == ExitCode.OK
    assert script.commands() == [commands.JoinRoom("#lobby"), commands.Send(conversation("#lobby", "open").id, "hello")]


def test_send_enters_a_room_that_is_there_and_makes_none_by_a_typing_error() -> None:
    listed = (RoomListed("#lobby", "open", 2, joined=False), RoomListed("#club", "invite", 2, joined=False))
    script = Script(online=True)
    script.client.told[commands.ListRooms] = RoomList(listed)
    assert script.send("#Lobby") == ExitCode.OK
    assert script.commands() == [
        commands.ListRooms(), commands.JoinRoom("#lobby"), commands.Send(conversation("#lobby", "open").id, "hello"),
    ]  # fmt: skip
    for other in ("#loby", "#club"):
        script = Script(online=True)
        script.client.told[commands.ListRooms] = RoomList(listed)
        assert script.send(other) == ExitCode.FAILURE
        assert script.commands() == [commands.ListRooms()]
        assert f"no open room {other}. Nothing was sent; with --create" in script.errors.getvalue()


@pytest.mark.parametrize(
    ("told", "code", "reason"),
    [
        ((Disconnected("Connection refused.", 1),), ExitCode.UNREACHABLE, "refused"),
        ((Connected("s", ""), Ended(RefusedError("login-refused", "Wrong."))), ExitCode.LOGIN_REFUSED, "Wrong"),
        ((Ended(UnreachableError("The certificate has expired.")),), ExitCode.UNREACHABLE, "expired"),
        ((Connected("s", ""), Ended(TrustError("Another server."))), ExitCode.UNTRUSTED, "Another"),
        ((Connected("s", ""), Waiting(2)), ExitCode.FULL, "full"),
        ((Connected("s", ""), PasswordWanted("login", "")), ExitCode.LOGIN_REFUSED, "a password file that stays"),
        ((Connected("s", ""), PasswordWanted("login", "It is gone.")), ExitCode.LOGIN_REFUSED, "It is gone."),
    ],
)
def test_send_says_why_it_failed_by_its_exit_code_and_one_line(
    told: tuple[Event, ...], code: ExitCode, reason: str
) -> None:
    script = Script(*told)
    script.client.add(BOB)
    assert script.send() == code
    assert reason in script.errors.getvalue()
    assert script.errors.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        (Held(BOB.id, (KeyShown("bob", "1a2b", "changed"),)), ExitCode.UNTRUSTED, "/trust bob 1a2b"),
        (
            Unreachable(BOB.id, "bob", "1a2b", KeyShown("bob", "3c4d", "changed")),
            ExitCode.UNTRUSTED,
            "no device any more under key 1a2b, but under 3c4d (not the accepted key)",
        ),
        (Unreachable(BOB.id, "bob", "1a2b"), ExitCode.UNTRUSTED, "It waits here until bob is back."),
        (Refused("reader-full", "Bob has been away for too long."), ExitCode.FULL, "too long"),
        (Refused("not-found", "There is no account bob."), ExitCode.FAILURE, "The server says: There is no account"),
    ],
)
def test_send_ends_by_what_answers_it_and_by_nothing_else(
    answer: Held | Refused | Unreachable, code: ExitCode, reason: str
) -> None:
    elsewhere = Held(b"c" * 32, (KeyShown("carol", "1a2b", "changed"),))
    script = Script(*ONLINE, elsewhere, Refused("busy", "Something of an earlier run."))
    script.client.add(BOB)
    script.client.answer[commands.Send] = answer
    assert script.send() == code
    assert reason in script.errors.getvalue()
    assert script.errors.getvalue().count("\n") == 1


def test_send_without_an_answer_ends_in_time_and_with_wait_it_stands_in_the_queue() -> None:
    script = Script(Connected("s", ""), Waiting(1))
    assert script.send(wait=True, timeout=0.05) == ExitCode.TIMEOUT
    assert "Time is up" in script.errors.getvalue()


def test_a_core_that_does_not_end_holds_up_no_command_whose_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securechat.ui.scripts.run.CLOSE_SECONDS", 1e6)  # no test would see the end of it
    script = Script()
    monkeypatch.setattr(script.client, "close", lambda: None)
    assert script.send(timeout=0.05) == ExitCode.TIMEOUT


def test_a_time_limit_ends_what_does_not_end_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    ended: SimpleQueue[int] = SimpleQueue()
    limit = TimeLimit(0.0, end=ended.put)
    assert ended.get(timeout=60) == ExitCode.TIMEOUT
    assert capsys.readouterr().err == "securechat: Time is up.\n"
    assert limit.left == 0.0
    cancelled = TimeLimit(0.0, end=ended.put)
    cancelled.cancel()
    cancelled._timer.join(60)
    assert ended.empty()


def test_recv_tells_who_has_come_by_a_line() -> None:
    used = InviteLineUsed(BOB.id, "bob", "1a2b", "#staff")
    refused = InviteLineRefused(BOB.id, "carl", "3c4d", "#staff", "used", "bob", "1a2b", 1)
    script = Script(Connected("s", ""), used, refused, Ready())
    assert script.recv() == ExitCode.OK
    assert "bob has come by your invite line: key 1a2b is accepted." in script.errors.getvalue()
    assert "carl (key 3c4d) comes with your invite line to #staff" in script.errors.getvalue()


def test_who_wants_to_hear_nothing_hears_errors_alone() -> None:
    used = InviteLineUsed(BOB.id, "bob", "1a2b", "#staff")
    person.tell(news=False)
    try:
        script = Script(Connected("s", ""), used, Ready())
        assert script.recv() == ExitCode.OK
        assert script.errors.getvalue() == ""
        script = Script(Connected("s", ""), Ended(RefusedError("login-refused", "Wrong.")))
        assert script.recv() == ExitCode.LOGIN_REFUSED
        assert script.errors.getvalue() == "securechat: Wrong.\n"
    finally:
        person.tell(news=True)


def test_nobody_is_asked_who_is_not_there_or_not_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert person.types()
    assert person.is_there()
    person.ask(anything=False)
    try:
        assert not person.types()
        assert not person.is_there()
    finally:
        person.ask(anything=True)


# --- invite lines -------------------------------------------------------------------------------------------------

VOUCHER = Voucher(bytes(16), "alice", bytes(32), b"", "", bytes(32), 1)
LINE = InviteLine("chat.example:7", f"sha256:{'ab' * 32}", "", VOUCHER)


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        (Done(), ExitCode.OK, "securechat client --user alice --server chat.example:7"),
        (Held(BOB.id, (KeyShown("bob", "1a2b", "changed"),)), ExitCode.UNTRUSTED, "/trust bob 1a2b"),
        (Refused("local", "You are in #staff already."), ExitCode.FAILURE, "You are in #staff already."),
    ],
)
def test_join_asks_by_the_line_and_ends_by_its_answer(answer: Event, code: ExitCode, reason: str) -> None:
    script = Script(*ONLINE, Held(b"c" * 32, (KeyShown("carol", "1a2b", "changed"),)))
    script.client.answer[commands.UseInviteLine] = answer
    result = run_join(
        script.client, script.events, "the line", LINE, wait=False, timeout=60.0, errors=script.errors
    )
    assert result == code
    assert reason in script.errors.getvalue()
    assert script.commands() == [commands.UseInviteLine("the line")]


def test_join_by_an_operators_line_only_registers() -> None:
    script, line = Script(*ONLINE), replace(LINE, voucher=None)
    result = run_join(script.client, script.events, "", line, wait=False, timeout=60.0, errors=script.errors)
    assert result == ExitCode.OK
    assert "You are registered." in script.errors.getvalue()
    assert script.commands() == []


def test_invite_prints_the_line_alone() -> None:
    command = commands.MakeInviteLine("#staff", 3)
    made = InviteLineMade(ListedLine("1a2b3c4d", "#staff", 1), "securechat1abc")
    script = Script(*ONLINE, made, Done(command=command.id))
    result = run_invite(
        script.client, script.events, command, wait=False, timeout=60.0, output=script.output, errors=script.errors
    )
    assert result == ExitCode.OK
    assert script.output.getvalue() == "securechat1abc\n"
    assert "--revoke 1a2b3c4d" in script.errors.getvalue()


@pytest.mark.parametrize("count", [0, 2])
def test_invite_lists_a_line_each(count: int) -> None:
    command = commands.ListInviteLines()
    script = Script(*ONLINE, InviteLines((ListedLine("1a2b3c4d", "#staff", 1),) * count), Done(command=command.id))
    run_invite(
        script.client, script.events, command, wait=False, timeout=60.0, output=script.output, errors=script.errors
    )
    assert script.output.getvalue().count("1a2b3c4d") == script.output.getvalue().count("\n") == count


@pytest.mark.parametrize("to", ["", "a b", "#", "/help"])
def test_send_to_no_proper_name_is_wrong_usage(to: str) -> None:
    script = Script(online=True)
    assert script.send(to) == ExitCode.USAGE
    assert script.client.calls == []


def test_recv_prints_one_object_a_line_and_ends_when_it_has_caught_up() -> None:
    evil = "two\nlines \x1b[31m\u202e"
    script = Script(online=True)
    script.client.add(BOB)
    script.client.receive(BOB, "bob", "hi", seq=3, time=5, trust="verified")
    script.client.receive(BOB, "bob", evil, seq=4, time=6)
    script.client.receive(BOB, "bob", "", seq=5, time=7, problem="altered")
    quote = Quote(1, "bob", text=evil)
    script.client.receive(BOB, "bob", "yes", seq=6, time=8, kind="reply", quote=quote, edited=9)
    assert script.recv() == ExitCode.OK
    lines = script.output.getvalue().splitlines()
    assert all(character.isprintable() for line in lines for character in line)
    told = [json.loads(line) for line in lines]
    assert {each["v"] for each in told} == {1}
    assert [each["event"] for each in told] == ["Connected", "LoggedIn", "Ready", *["Received"] * 4]
    for each in told:
        msgspec.json.decode(json.dumps(each), type=EventObject)
    received = told[3:]
    assert {each["where"] for each in received} == {"bob"}
    assert [event_from(each) for each in received] == [Received(each) for each in script.client.said]
    assert [each["message"]["local_id"] for each in received] == [1, 2, 3, 4]
    assert received[1]["message"]["text"] == evil


@pytest.mark.parametrize("first_contact", [True, False])
def test_an_invitation_waits_for_a_person_and_the_programs_say_so(first_contact: bool) -> None:  # noqa: FBT001  a parameter of the test
    key = "1a2b" * 16
    invitation = Invitation(
        b"c" * 32, "#club", "alice", key, first_contact, again=False, role="member", owners=("alice",),
        members=("alice",), known=(), text="",
    )  # fmt: skip
    for run, code in ((Script.recv, ExitCode.OK), (lambda script: script.send("#club"), ExitCode.UNTRUSTED)):
        script = Script(*ONLINE)
        script.client.asked.append(invitation)
        assert run(script) == code
        told = script.errors.getvalue()
        assert ("first contact" in told) == first_contact
        assert f"--accept-invitations-of alice:{key}" in told
        assert "/accept #club" in told
        assert script.commands() == []


def test_recv_prints_a_message_once_however_often_it_is_run() -> None:
    script = Script(online=True)
    script.client.add(BOB)
    script.client.receive(BOB, "bob", "one")
    assert script.recv() == ExitCode.OK
    again = Script(online=True)
    again.client.said, again.client.shown = script.client.said, script.client.shown
    assert again.recv() == ExitCode.OK
    assert "Received" not in again.output.getvalue()




def test_recv_for_people_prints_clean_lines() -> None:
    script = Script(online=True)
    script.client.receive(script.client.add(BOB), "bob", "a\x1b[2Jb")
    assert script.recv(as_json=False) == ExitCode.OK
    assert "[bob] bob: a" in script.output.getvalue()
    assert "\x1b" not in script.output.getvalue()


def test_recv_follows_until_its_time_is_up() -> None:
    script = Script(*ONLINE)
    script.client.receive(script.client.add(BOB), "bob", "later")
    assert script.recv(follow=True, timeout=0.05) == ExitCode.TIMEOUT
    assert script.output.getvalue().count("later") == 1


def test_control_c_ends_recv_whichever_thread_it_reaches() -> None:
    script = Script(*ONLINE)
    script.client.receive(script.client.add(BOB), "bob", "later")

    def interrupt() -> None:
        wait_until(lambda: script.client.shown > 0)  # it waits for more
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    assert script.recv(follow=True, timeout=None) == ExitCode.INTERRUPTED
