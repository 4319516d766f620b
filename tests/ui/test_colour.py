"""Colours add nothing that is not in the words, and whatever is coloured gives the terminal no other order."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.clean import clean
from securechat.errors import UsageError
from securechat.ui.plain.colour import is_wanted, painted, parse_choice
from securechat.ui.view.lines import ABOVE, CONTINUATION, notice, warning, wrap

ORDER = re.compile("\x1b\\[[0-9;]+m")


def bare(text: str) -> str:
    return ORDER.sub("", text)


def test_own_and_others_lines_are_told_apart() -> None:
    own, bob = (painted(f"12:00 [#lobby] {who}: hi", "alice") for who in ("alice", "bob \N{CHECK MARK}"))
    assert own == "\x1b[2m12:00 [#lobby] \x1b[0m\x1b[1;36malice\x1b[0m: hi"
    assert bob == "\x1b[2m12:00 [#lobby] \x1b[0m\x1b[1;35mbob\x1b[0m \N{CHECK MARK}: hi"
    for sign in ("?", "(other key!)"):  # somebody else under our name
        for line in (f"alice {sign}: hi", f"* alice {sign} waves"):
            assert "1;35malice" in painted(f"12:00 [#lobby] {line}", "alice")
    assert "1;36malice" in painted("12:00 [#lobby] * alice waves", "alice")
    acted = painted("3) 2026-11-30 12:00 [bob] * bob waves", "alice")
    assert acted.startswith("\x1b[2m3) 2026-11-30 12:00 [bob] \x1b[0m* ")


def test_what_warns_is_red_to_its_last_row() -> None:
    long = wrap(warning("something is wrong " * 10), 60, lambda _: 1)
    first, *rest = painted(long, "alice").split("\n")
    assert first.startswith("\x1b[31m!! ")
    assert rest
    for row in rest:
        assert row.startswith(f"\x1b[2m{CONTINUATION}\x1b[0m\x1b[31m")
    assert painted("!! ALARM: no", "alice").startswith("\x1b[1;31m")
    assert painted(notice("hello"), "alice") == "\x1b[2m-- hello\x1b[0m"
    assert painted(f"{ABOVE}bob: hi\n12:00 [bob] alice: yes", "alice").startswith(f"\x1b[2m{ABOVE}")


@given(st.text(max_size=60), st.sampled_from(["", "-- ", "!! ", "12:00 [#a] bob: ", ABOVE, CONTINUATION]))
def test_nothing_but_colours_comes_to_a_line(text: str, begins: str) -> None:
    line = begins + clean(text).replace("\n", f"\n{CONTINUATION}")
    assert bare(painted(line, "alice")) == line
    assert "\x1b" not in bare(painted(begins + text, "alice"))  # not even if somebody forgot to clean it


@pytest.mark.parametrize(
    ("choice", "terminal", "variables", "wanted"),
    [
        ("auto", True, {"TERM": "xterm"}, True), ("auto", False, {"TERM": "xterm"}, False),
        ("auto", True, {"TERM": "dumb"}, False), ("auto", True, {}, False),
        ("auto", True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        ("auto", True, {"TERM": "xterm", "NO_COLOR": ""}, True),
        ("always", False, {"NO_COLOR": "1"}, True), ("never", True, {"TERM": "xterm"}, False),
    ],
)  # fmt: skip
def test_who_wants_colours_has_them(
    monkeypatch: pytest.MonkeyPatch, choice: str, terminal: bool, variables: dict[str, str], wanted: bool  # noqa: FBT001
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_wanted(parse_choice(choice), terminal=terminal) is wanted


def test_there_is_no_other_choice() -> None:
    with pytest.raises(UsageError, match="auto, always, never"):
        parse_choice("blue")
