import io
import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import msgspec
import pytest

from securechat.client import commands
from securechat.client.events import (
    Connected,
    Delivered,
    Disconnected,
    Done,
    Ended,
    Event,
    FileSaved,
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
    Said,
    Transfer,
    TransferEnded,
    Unreachable,
    Waiting,
)
from securechat.client.events import InviteLine as ListedLine
from securechat.client.media.voice import record
from securechat.client.message import Attached, Quote
from securechat.client.snapshot import Invitation
from securechat.errors import RefusedError, TrustError, UnreachableError, UsageError
from securechat.identity.invite_line import InviteLine, Voucher
from securechat.ui import person
from securechat.ui.exit_codes import ExitCode
from securechat.ui.objects import EventObject, MessageObject, event_from
from securechat.ui.scripts.inviting import run_invite, run_join
from securechat.ui.scripts.receiving import run_recv
from securechat.ui.scripts.run import Events
from securechat.ui.scripts.saving import run_save
from securechat.ui.scripts.sending import Attempt, FileToSend, file_to_send, run_send
from securechat.ui.time_limit import TimeLimit
from tests.support.scripted import ScriptedClient, conversation, message
from tests.support.sounds import samples_of, speech, wav
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

    def share(self, to: str, what: FileToSend, *, attempt: Attempt | None = None) -> ExitCode:
        return run_send(
            self.client, self.events, to, what, attempt=attempt, as_json=True, wait=False, timeout=60.0,
            output=self.output, errors=self.errors,
        )  # fmt: skip

    def save(self, lines: list[int], folder: Path = Path("/srv"), *, as_wav: bool = False) -> ExitCode:
        return run_save(
            self.client, self.events, lines, folder, as_wav=as_wav, as_json=False, wait=False, timeout=60.0,
            output=self.output, errors=self.errors,
        )  # fmt: skip

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


SEA = FileToSend(Path("/home/sea.jpg"), "our house")
ATTACHED = Attached("sea.jpg", "", "image/jpeg", "image", 2000, bytes(32), inline=False)
WAY = Transfer(7, "send", BOB.id, 0, "sea.jpg", "moving", 0, 2000)


def test_a_file_is_sent_with_its_words_where_the_conversation_is_or_is_opened_first() -> None:
    for known in (True, False):
        script = Script(online=True)
        if known:
            script.client.add(BOB)
        said = replace(message(BOB, "alice", "our house", local_id=1, seq=9), own=True, file=ATTACHED)
        script.client.told[commands.SendFile] = Delivered(said)
        script.client.answer[commands.SendFile] = Done()
        script.client.told_first[commands.SendFile] = Said(said)
        assert script.share("bob", SEA) == ExitCode.OK
        opened = [] if known else [commands.OpenDirect("bob", ask=False)]
        image = {"media_type": "image/jpeg", "disposition": "image", "upload_first": True}  # the program ends then
        sent = commands.SendFile(BOB.id, "/home/sea.jpg", "our house", **image)  # type: ignore[arg-type]  # test data
        assert script.commands() == [*opened, sent]
        (line,) = map(json.loads, script.output.getvalue().splitlines())
        assert (line["v"], line["where"], line["message"]["seq"]) == (1, "bob", 9)
        msgspec.json.decode(json.dumps(line), type=MessageObject)


def test_a_recording_is_sent_as_a_voice_note_and_a_refusal_is_the_answer() -> None:
    script = Script(online=True)
    script.client.add(BOB)
    script.client.answer[commands.SendFile] = Refused("local", "note.ogg was not sent: Voice notes need more.")
    assert script.share("bob", FileToSend(Path("/note.wav"), voice=True)) == ExitCode.FAILURE
    assert script.commands() == [commands.SendFile(BOB.id, "/note.wav", disposition="voice", upload_first=True)]
    assert script.errors.getvalue() == "securechat: note.ogg was not sent: Voice notes need more.\n"
    assert script.output.getvalue() == ""


def test_a_file_that_an_earlier_attempt_has_given_to_the_vault_is_not_given_again() -> None:
    """What goes on by itself is waited for: to its line, or to its end."""
    said = replace(message(BOB, "alice", "our house", local_id=1, seq=9), own=True, file=ATTACHED)
    attempt = Attempt()
    attempt.newest = 0
    for told, code in (
        ((Said(said), Delivered(said)), ExitCode.OK),
        ((TransferEnded(WAY, "sea.jpg was not sent: gone."),), ExitCode.FAILURE),
    ):
        script = Script(*ONLINE, TransferEnded(replace(WAY, name="other"), "another one"), *told)
        script.client.add(BOB)
        script.client.on_their_way = (WAY,)
        assert script.share("bob", SEA, attempt=attempt) == code
        assert script.commands() == []
    script = Script(*ONLINE)  # it is said by now
    script.client.add(BOB)
    script.client.said.append(said)
    assert script.share("bob", SEA, attempt=attempt) == ExitCode.OK
    assert json.loads(script.output.getvalue())["message"]["local_id"] == 1
    script = Script(online=True)  # and the twin: it has not come so far
    script.client.add(BOB)
    assert script.share("bob", SEA, attempt=attempt) == ExitCode.OK
    assert len(script.commands()) == 1


def test_what_is_no_file_of_its_own_is_not_sent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, why in (
        (tmp_path / "pipe", "a pipe, and not a file"), (tmp_path, "a folder, and not a file"),
        (tmp_path / "nothing", "No such file"), (Path("/dev/null"), "something else, and not a file"),
        (Path("/dev/stdin"), "another file to each program"), (Path("/dev/fd/3"), "another file to each program"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=why):
            file_to_send(path, "", voice=False)
    (tmp_path / "sea.jpg").write_bytes(b"sea")
    assert file_to_send(tmp_path / "sea.jpg", "words", voice=False) == FileToSend(tmp_path / "sea.jpg", "words")


@pytest.mark.parametrize("damaged", [False, True])
def test_a_voice_note_is_saved_as_a_wav_file_over_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, damaged: bool
) -> None:
    pytest.importorskip("av", reason="needs the extra [voice]")
    spoken = speech(1500)
    opus = b"not Ogg" if damaged else record(wav(spoken)).opus
    script = Script(*ONLINE)
    script.client.add(BOB)
    note = replace(ATTACHED, name="note.ogg", media_type="audio/ogg", disposition="voice")
    script.client.receive(BOB, "bob", "note.ogg", file=note)
    script.client.receive(BOB, "bob", "sea.jpg", file=ATTACHED)
    lines = [each.local_id for each in script.client.history(BOB.id, 2)]
    folders = list[Path]()

    def do(command: commands.Command) -> None:
        assert isinstance(command, commands.SaveFile)
        folders.append(Path(command.folder))
        name = "note.ogg" if command.local_id == lines[0] else "sea.jpg"
        (folders[-1] / name).write_bytes(opus)
        script.events.put(FileSaved(command.local_id, name, str(folders[-1] / name), command=command.id))

    monkeypatch.setattr(script.client, "do", do)
    (tmp_path / "note.wav").write_text("mine")
    assert script.save([*lines], tmp_path, as_wav=True) == (ExitCode.FAILURE if damaged else ExitCode.OK)
    printed = [Path(each) for each in script.output.getvalue().splitlines()]
    assert (tmp_path / "note.wav").read_text() == "mine"
    assert printed[-1] == tmp_path / "sea.jpg"  # what is no voice note is saved as it is
    assert not folders[0].exists()
    if damaged:
        assert "note.ogg was not saved: " in script.errors.getvalue()
        assert len(printed) == 1
    else:
        assert printed[0].parent == tmp_path
        assert printed[0].suffix == ".wav"
        assert abs(len(samples_of(printed[0].read_bytes())) - len(spoken)) < len(spoken) // 10
    assert sorted(tmp_path.iterdir()) == sorted({*printed, tmp_path / "note.wav"})


def test_files_are_saved_one_after_the_other_and_one_that_cannot_be_stops_no_other() -> None:
    script, lines = Script(online=True), [4, 3, 5]
    script.client.told[commands.SaveFile] = FileSaved(3, "a", "/srv/a")
    assert script.save([3]) == ExitCode.OK
    assert script.output.getvalue() == "/srv/a\n"
    script = Script(*ONLINE, FileSaved(4, "b", "/srv/b"))
    script.client.answer[commands.SaveFile] = Refused("local", "a was not saved: it is gone.")
    script.client.on_their_way = (replace(WAY, kind="save", local_id=4),)  # by another program
    assert script.save(lines) == ExitCode.FAILURE
    assert script.commands() == [commands.SaveFile(3, "/srv"), commands.SaveFile(5, "/srv")]
    assert script.output.getvalue() == "/srv/b\n"
    assert script.errors.getvalue().count("a was not saved: it is gone.") == 2
    assert lines == []


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
