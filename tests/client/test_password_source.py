"""Where the password comes from: typed once and forgotten, or read from its file again."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.client.password_source import PasswordSource
from securechat.errors import InternalError, StorageError, UsageError
from securechat.names import MAX_PASSWORD, normalise_password


def at_hand(source: PasswordSource) -> bool:
    return source.at_hand


def read(source: PasswordSource) -> bytes:
    with source.read() as password:
        return bytes(password)


def test_what_was_typed_is_at_hand_until_it_is_forgotten() -> None:
    source = PasswordSource.typed("Correct\u3000horse")
    assert read(source) == read(source) == b"Correct horse"  # in its one spelling
    kept = source._typed
    source.forget()
    assert kept == bytes(13)
    assert not at_hand(source)
    with pytest.raises(InternalError):
        read(source)
    source.give("again")
    assert at_hand(source)
    assert read(source) == b"again"


def test_what_was_handed_out_is_overwritten_at_the_end() -> None:
    with PasswordSource.typed("correct horse").read() as password:
        assert password == b"correct horse"
    assert password == bytes(13)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=MAX_PASSWORD))
def test_printable_ascii_is_its_own_spelling(text: str) -> None:
    assert read(PasswordSource.typed(text)) == text.encode() == normalise_password(text).encode()


def test_what_cannot_be_a_password_is_refused() -> None:
    for wrong in ("", "a\nb", "x" * 2000, "\udc80", "\x7f"):
        with pytest.raises(UsageError):
            PasswordSource.typed(wrong)


def test_a_file_has_the_password_on_its_first_line(tmp_path: Path) -> None:
    file = tmp_path / "password"
    for content in (b"caf\xc3\xa9", b"caf\xc3\xa9\n", b"cafe\xcc\x81\r\nmore"):
        file.write_bytes(content)
        assert read(PasswordSource.in_file(file)) == "café".encode()
    for wrong in (b"", b"\n", b"\xff", b"x" * 2000, b"x\n" * 5000):
        file.write_bytes(wrong)
        with pytest.raises(UsageError):
            PasswordSource.in_file(file)
    with pytest.raises(StorageError, match="No such file"):
        PasswordSource.in_file(tmp_path / "missing")


def test_a_file_is_read_again_each_time_and_never_kept(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first\n")
    source = PasswordSource.in_file(file)
    assert read(source) == b"first"
    source.forget()
    file.write_text("second\n")
    assert source.at_hand
    assert read(source) == b"second"
    assert not source._typed
    file.unlink()
    with pytest.raises(StorageError, match="No such file"):
        read(source)


def test_a_pipe_is_read_once_and_counts_as_typed() -> None:
    out, into = os.pipe()
    os.write(into, b"from a pi")
    os.write(into, b"pe\n")
    os.close(into)
    source = PasswordSource.in_file(Path(f"/dev/fd/{out}"))
    os.close(out)
    assert read(source) == read(source) == b"from a pipe"
    source.forget()
    assert not source.at_hand


def test_printing_it_shows_no_password() -> None:
    assert "horse" not in repr(PasswordSource.typed("correct horse"))


def test_a_file_that_has_become_something_else_is_not_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("correct horse")
    source = PasswordSource.in_file(file)
    file.unlink()
    os.mkfifo(file)  # nobody writes into it, and whoever opens it as a file waits for good
    with pytest.raises(StorageError, match="it is a pipe, and not a file"):
        read(source)
    file.unlink()
    file.mkdir()
    with pytest.raises(StorageError, match="it is a folder, and not a file"):
        read(source)
    file.rmdir()
    file.write_text("correct horse")
    assert read(source) == b"correct horse"
