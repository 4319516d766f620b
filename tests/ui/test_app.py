import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from securechat.errors import UsageError
from securechat.ui.editor import edited
from securechat.ui.exit_codes import ExitCode
from securechat.ui.leaving import quiet
from securechat.ui.view.lines import CONTINUATION
from securechat_lab.cast.terminal import Terminal

COMMAND = [sys.executable, "-m", "tests.support.plain_client"]


def on_lines(text: bytes, code: ExitCode = ExitCode.OK) -> str:
    """Run the client in a pipe and return what it printed."""
    done = subprocess.run(COMMAND, input=text, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.decode()) == (code, "")
    return done.stdout.decode()


def open_bob(terminal: Terminal) -> None:
    terminal.wait(lambda: "> " in terminal.cursor_row + " ")
    terminal.type("/go bob")
    terminal.send(b"\r")
    terminal.wait(lambda: terminal.cursor_row.startswith("[bob] >"))


def test_an_incoming_message_does_not_destroy_what_is_being_typed() -> None:
    with Terminal(COMMAND) as terminal:
        open_bob(terminal)
        terminal.type("this is half of a sent")
        for number in range(5):
            terminal.order(f"say bob interruption {number}")
        terminal.order("say bob two\\nlines \\x1b[2A\\x1b[31m")
        terminal.wait(lambda: any("lines" in row for row in terminal.rows))
        terminal.wait(lambda: terminal.cursor_row == "[bob] > this is half of a sent")
        terminal.type("ence")
        assert terminal.cursor_row == "[bob] > this is half of a sentence"
        assert sum("this is half" in row for row in terminal.rows) == 1
        said = [row for row in terminal.rows if "interruption" in row]
        assert [row[-1] for row in said] == list("01234")
        terminal.send(b"\r")
        terminal.wait(lambda: any(row.endswith("[bob] alice: this is half of a sentence") for row in terminal.rows))
        terminal.wait(lambda: terminal.cursor_row == "[bob] >")
        terminal.send(b"\x04")
        assert terminal.wait_for_end() == ExitCode.OK


def test_no_variable_lets_a_text_begin_where_our_own_lines_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    with Terminal(COMMAND) as terminal:
        open_bob(terminal)
        terminal.order("say bob " + "!!" * 100)
        terminal.wait(lambda: sum("!!!!" in row for row in terminal.rows) > 2)
        assert not any(row.startswith("!!") for row in terminal.rows)


def test_escape_enter_begins_a_new_line_and_a_paste_stays_one_message() -> None:
    with Terminal(COMMAND) as terminal:
        open_bob(terminal)
        terminal.type("one")
        terminal.send(b"\x1b\r")
        terminal.type("two")
        terminal.send(b"\r")
        terminal.wait(lambda: CONTINUATION + "two" in terminal.rows)
        assert re.match(r"\d\d:\d\d \[bob\] alice: one$", terminal.rows[terminal.rows.index(CONTINUATION + "two") - 1])
        terminal.send(b"\x1b[200~three\r\nfour\r\n/quit\x1b[201~")
        terminal.wait(lambda: terminal.cursor_row.endswith("/quit"))
        terminal.send(b"\r")
        terminal.wait(lambda: CONTINUATION + "/quit" in terminal.rows)
        assert CONTINUATION + "four" in terminal.rows
        assert any(row.endswith("alice: three") for row in terminal.rows)


def test_tab_completes_commands_and_names_and_shows_what_there_is() -> None:
    with Terminal(COMMAND) as terminal:
        terminal.wait(lambda: "> " in terminal.cursor_row + " ")
        terminal.send(b"/histo\t")
        terminal.wait(lambda: terminal.cursor_row.endswith("> /history"))
        terminal.send(b"\x15/go b\t")
        terminal.wait(lambda: terminal.cursor_row.endswith("> /go bob"))
        terminal.send(b"\x15/in\t")
        terminal.wait(lambda: terminal.cursor_row.endswith("> /invite"))
        terminal.send(b"\t")
        terminal.wait(lambda: any("/inviter" in row and "/invite-lines" in row for row in terminal.rows))
        terminal.wait(lambda: terminal.cursor_row.endswith("> /invite"))  # again, below the list
        terminal.send(b"\x15hello b\t")  # the twin: a text is completed by nothing
        terminal.wait(lambda: terminal.cursor_row.endswith("> hello b"))


def test_the_editor_gives_back_what_enter_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor, seen = tmp_path / "my editor", tmp_path / "seen"
    editor.write_text(f"#!/bin/sh\n(cat $1; stat -c %a $1) >{seen}; printf 'one\\n/two\\n' >$1\n")
    editor.chmod(0o755)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"'{editor}'")
    with Terminal(COMMAND) as terminal:
        open_bob(terminal)
        terminal.type("/editor begun")
        terminal.send(b"\r")
        terminal.wait(lambda: terminal.cursor_row.endswith("/two"))
        assert not any("alice: one" in row for row in terminal.rows)  # it is sent by Enter alone
        assert seen.read_text() == "begun600\n"
        terminal.send(b"\r")
        terminal.wait(lambda: any(row.endswith("alice: one") for row in terminal.rows))
        terminal.wait(lambda: CONTINUATION + "/two" in terminal.rows)
    monkeypatch.setenv("EDITOR", "no-such-program")
    with Terminal(COMMAND) as terminal:
        open_bob(terminal)
        terminal.type("/editor")
        terminal.send(b"\r")
        terminal.wait(lambda: any("There is no program no-such-program: set EDITOR" in row for row in terminal.rows))


@pytest.mark.parametrize(
    ("does", "typed", "left"),
    [
        ("printf 'caf\\351 \\360\\237' >$1", b"begun", "caf� �"),  # Latin-1, and half of an emoji
        ("rm $1", b"begun", "begun"),
        ("exit 3", b"begun", "begun"),
        ("head -c 2000000 /dev/zero >$1", b"begun", "begun"),
        ("true", b"b\xffegun", "b?egun"),  # of a terminal that is not set to UTF-8
    ],
    ids=["no UTF-8", "deleted", "failed", "much too long", "typed in another encoding"],
)
def test_whatever_an_editor_leaves_one_goes_on_with_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, typed: bytes, left: str
) -> None:
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\n{does}\n")
    editor.chmod(0o755)
    (tmp_path / "drafts").mkdir()
    for name, setting in (("VISUAL", str(editor)), ("TMPDIR", str(tmp_path / "drafts"))):
        monkeypatch.setenv(name, setting)
    with Terminal(COMMAND) as terminal:
        open_bob(terminal)
        terminal.send(b"/editor " + typed)
        terminal.wait(lambda: "/editor b" in terminal.cursor_row)
        terminal.send(b"\r")
        terminal.wait(lambda: terminal.cursor_row == f"[bob] > {left}")
        assert not any("Traceback" in row or "Unhandled" in row for row in terminal.rows)
        assert list((tmp_path / "drafts").iterdir()) == []


def test_a_password_is_asked_for_and_never_on_the_screen() -> None:
    with Terminal(COMMAND) as terminal:
        open_bob(terminal)
        terminal.type("/unlock")
        terminal.send(b"\r")
        terminal.wait(lambda: terminal.cursor_row == "Password:")
        terminal.send(b"\x04")  # thought better of it
        terminal.wait(lambda: terminal.cursor_row == "[bob] >")
        terminal.type("/unlock")
        terminal.send(b"\r")
        terminal.wait(lambda: terminal.cursor_row == "Password:")
        terminal.send(b"correct horse")
        terminal.wait(lambda: terminal.cursor_row == "Password: *************")
        terminal.send(b"\r")
        terminal.wait(lambda: any("unlocked with 13 characters" in row for row in terminal.rows))
        terminal.wait(lambda: terminal.cursor_row == "[bob] >")
        for before in ("/unlock", "/go bob"):  # what was typed before: the password is no part of it
            terminal.send(b"\x1b[A")
            terminal.wait(lambda before=before: terminal.cursor_row == f"[bob] > {before}")  # type: ignore[misc]  # bound now
        assert not any("horse" in row for row in terminal.rows)


def test_passwords_are_asked_for_twice_or_once_and_never_on_the_screen() -> None:
    with Terminal(COMMAND) as terminal:

        def answer(command: str, *answers: tuple[str, str]) -> None:
            terminal.type(command)
            terminal.send(b"\r")
            for question, text in answers:
                terminal.wait(lambda question=question: terminal.cursor_row == question)  # type: ignore[misc]  # bound now
                terminal.send(text.encode())
                stars = f"{question} {'*' * len(text)}"
                terminal.wait(lambda stars=stars: terminal.cursor_row == stars)  # type: ignore[misc]  # bound now
                terminal.send(b"\r")
            terminal.wait(lambda: terminal.cursor_row == "[bob] >")

        def shown(text: str) -> bool:
            return any(text in row for row in terminal.rows)

        open_bob(terminal)
        old, new = ("Password until now:", "correct horse"), ("New password:", "glacier tulip")
        answer("/password", old, new, ("The same again:", "glacier tulips"))
        terminal.wait(lambda: shown("the password stays as it is"))
        assert not shown("changed from")
        answer("/password", old, new, ("The same again:", "glacier tulip"))
        terminal.wait(lambda: shown("changed from 13 characters to 13"))
        answer("/delete-account alice wipe", ("Password:", "correct horse"))
        terminal.wait(lambda: shown("alice deleted by 13 characters, wipe: True"))
        assert not shown("horse")
        assert not shown("tulip")


def test_control_c_keeps_the_client_and_quit_ends_it() -> None:
    with Terminal(COMMAND) as terminal:
        open_bob(terminal)
        terminal.type("draft")
        terminal.send(b"\x03")
        terminal.wait(lambda: any("/quit or press Ctrl-D" in row for row in terminal.rows))
        terminal.wait(lambda: terminal.cursor_row == "[bob] >")
        terminal.type("/quit")
        terminal.send(b"\r")
        assert terminal.wait_for_end() == ExitCode.OK


def test_the_end_of_the_core_ends_the_client_even_while_somebody_is_typing() -> None:
    with Terminal(COMMAND) as terminal:
        open_bob(terminal)
        terminal.type("half a sent")
        terminal.order("end")
        assert terminal.wait_for_end() == ExitCode.LOGIN_REFUSED
        assert any("Another device has logged in." in row for row in terminal.rows)


def test_a_long_message_cannot_put_a_faked_line_at_the_left_edge() -> None:
    with Terminal(COMMAND) as terminal:
        open_bob(terminal)
        terminal.order("say bob x" + " " * 70 + "12:00 [bob] bob: fake")
        terminal.wait(lambda: any("fake" in row for row in terminal.rows))
        for row in terminal.rows:
            assert "fake" not in row or row.startswith((CONTINUATION, "12:00 [bob] bob: x")), row
            assert not row.startswith("12:00 [bob] bob: fake")


def test_in_a_pipe_each_line_is_a_message_and_a_backslash_continues_one() -> None:
    shown = on_lines(b"/go bob\nfirst\nsecond \\\nline\r\nunfinished")
    assert re.search(r"\d\d:\d\d \[bob\] alice: first\n", shown)
    assert f"alice: second \n{CONTINUATION}line\n" in shown
    assert shown.endswith("alice: unfinished\n")
    assert "\x1b" not in shown


def test_in_a_pipe_quit_ends_after_what_came_before_it() -> None:
    shown = on_lines(b"/msg carol hello\n/join #lobby\nhi all\n/quit\nnever\n")
    assert "alice: hello" in shown
    assert "[#lobby] alice: hi all" in shown
    assert "never" not in shown


def test_in_a_pipe_a_wrong_line_is_told_and_the_next_one_done_and_it_ends_with_an_error() -> None:
    shown = on_lines(b"/frobnicate\n/go bob\nok\n", ExitCode.USAGE)
    assert "!! There is no command /frobnicate." in shown
    assert "alice: ok" in shown


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_a_poor_locale_does_not_end_the_client(locale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("PYTHONCOERCECLOCALE", "0")
    typed = "/go bob\ncafé ✓\none\\\ntwo\n".encode()
    done = subprocess.run(COMMAND, input=typed, capture_output=True, timeout=60, check=True)
    assert b"alice: caf" in done.stdout
    assert done.stderr == b""


def test_a_reader_that_goes_away_ends_the_client_without_a_traceback() -> None:
    with subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b"/go bob\n" + b"hello\n" * 100)
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == ExitCode.FAILURE


def test_in_a_pipe_control_c_ends_the_client_whichever_thread_it_reaches() -> None:
    obeyed, orders = os.pipe()
    with subprocess.Popen(
        [*COMMAND, str(obeyed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        pass_fds=(obeyed,),
    ) as process, os.fdopen(orders, "w", buffering=1) as to_client:  # fmt: skip
        os.close(obeyed)
        to_client.write("say bob hello\n")
        assert process.stdout is not None
        missing = {b"bob: hello", b"Welcome, alice."}  # in either order: then it waits for more
        while missing:
            line = process.stdout.readline()
            missing = {text for text in missing if text not in line}
        to_client.write("interrupt\n")
        try:
            assert process.wait(60) == ExitCode.INTERRUPTED
        finally:
            process.kill()
        assert process.communicate() == (b"", b"")


def test_where_no_file_can_be_made_the_editor_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(UsageError, match="no room for a file to edit: No such file"):
        edited(["false"], "a draft")


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGHUP], ids=["TERM", "HUP"])
def test_a_terminal_is_as_it_was_after_a_signal_that_ends_the_client(ends: signal.Signals) -> None:
    with Terminal(COMMAND) as terminal:
        before = terminal.modes
        open_bob(terminal)
        assert terminal.modes != before
        terminal.process.send_signal(ends)
        assert terminal.wait_for_end() == -ends
        assert terminal.modes == before


def test_a_client_whose_terminal_has_gone_without_a_signal_ends() -> None:
    with Terminal(COMMAND) as terminal:
        open_bob(terminal)
        terminal.vanish()
        assert terminal.process.wait(60) == ExitCode.OK


def test_a_poor_locale_lets_a_terminal_show_what_others_say() -> None:
    with Terminal(COMMAND, environment={"LC_ALL": "C"}) as terminal:
        terminal.wait(lambda: any("You are in." in row for row in terminal.rows))
        terminal.type("/go bob")
        terminal.send(b"\r")
        terminal.wait(lambda: any("You are talking with bob now." in row for row in terminal.rows))
        terminal.type("one Enter")
        terminal.send(b"\r")
        terminal.wait(lambda: any(row.endswith("alice: one Enter") for row in terminal.rows))
        terminal.order("say bob caf\\xe9")
        terminal.wait(lambda: any(row.endswith("bob: café") for row in terminal.rows))
        terminal.type("/quit")
        terminal.send(b"\r")
        assert terminal.wait_for_end() == ExitCode.OK


@pytest.mark.parametrize("leaves", [b"/quit\r", b"\x04"], ids=["quit", "Ctrl-D"])
def test_a_terminal_that_can_only_be_written_on_is_enough_to_talk(leaves: bytes) -> None:
    with Terminal(COMMAND, environment={"TERM": "dumb"}) as terminal:
        terminal.wait(lambda: any("You are in." in row for row in terminal.rows))
        terminal.type("/go bob")
        terminal.send(b"\r")
        terminal.wait(lambda: terminal.cursor_row == "[bob] >")
        terminal.type("one Enrt")
        terminal.send(b"\x7f\x7f")
        terminal.wait(lambda: terminal.cursor_row == "[bob] > one En")
        terminal.order("say bob " + "!" * 200)  # no part of it may begin where our own lines do
        terminal.wait(lambda: sum("!!!" in row for row in terminal.rows) > 2)
        terminal.wait(lambda: terminal.cursor_row == "[bob] > one En")
        assert not any(row.startswith("!!!") for row in terminal.rows)
        terminal.type("ter")
        terminal.send(b"\r")
        terminal.wait(lambda: any(row.endswith("alice: one Enter") for row in terminal.rows))
        terminal.wait(lambda: terminal.cursor_row == "[bob] >")
        terminal.send(leaves)
        assert terminal.wait_for_end() == ExitCode.OK
        assert b"\x1b" not in terminal.output


def test_a_notice_that_comes_while_no_line_is_edited_comes_with_the_next() -> None:
    with Terminal(COMMAND) as terminal:
        terminal.wait(lambda: any("You are in." in row for row in terminal.rows))
        terminal.type("/unlock")
        terminal.send(b"\r")
        terminal.wait(lambda: terminal.cursor_row == "Password:")
        terminal.order("say bob Hello!")
        terminal.wait(lambda: any("Hello!" in row for row in terminal.rows))
        terminal.send(b"correct horse\r")
        terminal.wait(lambda: b"\a" in terminal.output)


def test_a_terminal_that_can_only_be_written_on_shows_no_password() -> None:
    with Terminal(COMMAND, environment={"TERM": "dumb"}) as terminal:
        terminal.wait(lambda: any("You are in." in row for row in terminal.rows))
        open_bob(terminal)
        terminal.type("/unlock")
        terminal.send(b"\r")
        terminal.wait(lambda: terminal.cursor_row == "Password:")
        terminal.send(b"correct horse\r")
        terminal.wait(lambda: any("unlocked with 13 characters" in row for row in terminal.rows))
        assert not any("horse" in row for row in terminal.rows)
        terminal.wait(lambda: terminal.cursor_row == "[bob] >")
        terminal.order("end")  # while nothing is typed: it ends by itself
        assert terminal.wait_for_end() == ExitCode.LOGIN_REFUSED


def test_ctrl_z_gives_the_terminal_back_to_the_shell_and_fg_brings_back_what_was_typed() -> None:
    takes_it = "import fcntl, os, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp('sh', ['sh', '-i'])"
    shell = [sys.executable, "-c", takes_it]  # a shell has jobs where the terminal is its own
    with Terminal(shell, orders=False, environment={"PS1": "ready> ", "ENV": ""}) as terminal:
        terminal.wait(lambda: terminal.cursor_row == "ready>")
        before = terminal.modes
        terminal.type(shlex.join(COMMAND))
        terminal.send(b"\r")
        terminal.wait(lambda: any("You are in." in row for row in terminal.rows))
        open_bob(terminal)
        terminal.type("half a line")
        terminal.send(b"\x1a")
        terminal.wait(lambda: terminal.cursor_row == "ready>")
        assert terminal.modes == before
        terminal.send(b"echo $((6 * 7))\r")
        terminal.wait(lambda: "42" in terminal.rows)
        terminal.send(b"fg\r")
        terminal.wait(lambda: terminal.cursor_row == "[bob] > half a line")
        terminal.send(b"\r")
        terminal.wait(lambda: any(row.endswith("alice: half a line") for row in terminal.rows))
        terminal.type("/quit")
        terminal.send(b"\r")
        terminal.wait(lambda: terminal.cursor_row == "ready>")
        assert terminal.modes == before


def test_a_held_ctrl_c_is_answered_once_and_not_echoed() -> None:
    with Terminal(COMMAND) as terminal:
        open_bob(terminal)
        for _ in range(50):
            terminal.send(b"\x03")
        terminal.type("still here")
        terminal.send(b"\r")
        terminal.wait(lambda: any(row.endswith("alice: still here") for row in terminal.rows))
        assert sum("To leave" in row for row in terminal.rows) == 1
        assert not any("^C" in row for row in terminal.rows)


def test_a_quiet_terminal_echoes_nothing_by_itself_and_is_as_before_then() -> None:
    ours, theirs = pty.openpty()
    try:
        before = termios.tcgetattr(theirs)
        with quiet(theirs):
            os.write(ours, b"typed too early\n\x03\x1a\x04")
            # A whole line, and what interrupts, stops and ends the program.
            assert os.read(theirs, 100) == b"typed too early\n\x03\x1a\x04"
            os.write(theirs, b"shown")
            assert os.read(ours, 100).strip() == b"shown"  # what was typed would be before it
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)
