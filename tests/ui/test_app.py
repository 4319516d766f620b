import re
import subprocess
import sys

import pytest

from securechat.ui.exit_codes import ExitCode
from securechat.ui.view.lines import CONTINUATION
from tests.support.terminal import Terminal

COMMAND = [sys.executable, "-m", "tests.support.plain_client"]


def on_lines(text: bytes, code: ExitCode = ExitCode.OK) -> str:
    """Run the client in a pipe and return what it printed."""
    done = subprocess.run(COMMAND, input=text, capture_output=True, timeout=30, check=False)
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


def test_in_a_pipe_a_wrong_line_is_told_and_the_next_one_done() -> None:
    shown = on_lines(b"/frobnicate\n/go bob\nok\n")
    assert "!! There is no command /frobnicate." in shown
    assert "alice: ok" in shown


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_a_poor_locale_does_not_end_the_client(locale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("PYTHONCOERCECLOCALE", "0")
    typed = "/go bob\ncafé ✓\none\\\ntwo\n".encode()
    done = subprocess.run(COMMAND, input=typed, capture_output=True, timeout=30, check=True)
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
        assert process.wait(20) == ExitCode.FAILURE
