"""Names that senders give files: whatever they are, what is saved is a plain file in the folder that was chosen."""

import re
from itertools import product
from pathlib import Path, PurePosixPath, PureWindowsPath
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.client.files.names import MAX_BYTES, NAMELESS, numbered, safe_name

KEPT = [
    "sea.jpg", "Sea Side 2026.JPG", "archive.tar.gz", "Makefile", "naïve café.txt", "日本語.pdf", "عربي.txt", "🎉.png",
    "a.b.c", "x", "1", "(1)", "it's [draft] & final, 50% off!.doc", "common.txt", "console.log", "nullable",
    "auxiliary", "lpt10.txt", "comma", "e.x", "_", "a_b",
]  # fmt: skip

CHANGED = {
    # paths
    "../../etc/passwd": "_._.._etc_passwd", "/etc/passwd": "_etc_passwd", "a/b": "a_b", "a\\b": "a_b",
    "..\\..\\boot.ini": "_._.._boot.ini", "C:\\x": "C__x", "C:x": "C_x", "\\\\host\\share": "__host_share",
    "file:///etc/passwd": "file____etc_passwd", "~/x": "__x", "~root": "_root",
    # what goes nowhere
    ".": NAMELESS, "..": NAMELESS, "...": NAMELESS, "": NAMELESS, " ": NAMELESS, " . ": NAMELESS, "//": NAMELESS,
    "\0": NAMELESS, "\u200d": NAMELESS,
    # hidden, options, ends
    ".bashrc": "_bashrc", "-rf": "_rf", "--help": "_-help", "a.": "a", "a ": "a", "a. . .": "a", " a": "a",
    "\u00a0a\u3000b": "a b",
    # streams and wildcards of Windows
    "a:b": "a_b", "a::$DATA": "a__$DATA", "*.*": NAMELESS, "what?": "what_", '<a>|"b"': "_a___b_",
    # devices
    "CON": "_CON", "con": "_con", "Aux.txt": "_Aux.txt", "nul.tar.gz": "_nul.tar.gz", "COM1": "_COM1",
    "lpt9.log": "_lpt9.log", "com¹": "_com¹", "prn .txt": "_prn .txt", "CONIN$": "_CONIN$", "clock$": "_clock$",
    "COM0": "_COM0", "CON.": "_CON", "CON ": "_CON",
    # folders
    "desktop.ini": "_desktop.ini", "Autorun.INF": "_Autorun.INF", "Thumbs.db": "_Thumbs.db", "Icon\r": "Icon",
    # what is not seen, or not what it looks like
    "photo\u202egpj.exe": "photogpj.exe", "a\nb": "a b", "a\x1b[2Jb": "a_[2Jb", "a\x00.txt": "a_.txt", "a\x7f": "a_",
    "a\u200bb": "ab", "a\ufeff": "a", "a\ud800": "a_", "a\uff0fb": "a_b", "a\uff1ab": "a_b", "a\u2028b": "a_b",
    "a\ue000": "a_", "a\u0378": "a_",
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_an_ordinary_name_stays_as_it_is(name: str) -> None:
    assert safe_name(name) == (name if name != "_" else NAMELESS)


@pytest.mark.parametrize("name", CHANGED, ids=ascii)
def test_a_hostile_name_becomes_a_plain_one(name: str) -> None:
    assert safe_name(name) == CHANGED[name]
    assert is_plain(safe_name(name))


def is_plain(name: str) -> bool:
    """Whether a name is a plain file's by the rules of both systems, written down anew, and by their own parsers."""
    assert 0 < len(name.encode()) <= 255
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    assert posix.parts == windows.parts == (name,)
    assert not windows.drive
    assert not windows.root
    assert name not in (".", "..")
    assert not re.search(r'[<>:"/\\|?*\x00-\x1f\x7f]', name)
    assert name[0] not in ".-~ "
    assert name[-1] not in ". "
    assert not any(category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp") for each in name)
    stem = name.split(".")[0].rstrip(" ").upper()
    assert stem not in DEVICES
    assert name.lower() not in ("desktop.ini", "autorun.inf", "thumbs.db")
    return True


DEVICES = {
    "CON", "PRN", "AUX", "NUL", "CLOCK$", "CONIN$", "CONOUT$",
    *(f"{port}{digit}" for port, digit in product(("COM", "LPT"), "0123456789¹²³")),
}  # fmt: skip


def hostile_names() -> list[str]:
    """Two hundred of them and more: each trick, at the beginning, at the end, around and alone."""
    tricks = [
        "../", "..\\", "/", "\\", "C:", ":", "\0", "\r\n", "\x1b]0;x\x07", "\u202e", ".", "-", "~", " ", "*", "$(x)",
        "`x`", "%00", "%2e%2e%2f", "\u2215", "\uff0f", "\uff3c", "\uff0e\uff0e", "::$DATA", "\u00a0", "\u0301" * 40,
    ]  # fmt: skip
    bases = ["", "x", "x.txt", "CON", "..", "a" * 300, "é" * 200 + ".jpeg"]
    return [
        name for trick, base in product(tricks, bases) for name in (trick + base, base + trick, trick + base + trick)
    ]


def test_two_hundred_hostile_names_and_more_are_made_plain() -> None:
    names = hostile_names()
    assert len(set(names)) > 200
    assert all(is_plain(safe_name(name)) and is_plain(numbered(safe_name(name), 999)) for name in names)


def test_they_make_plain_files_here(tmp_path: Path) -> None:
    for each in {safe_name(name) for name in [*hostile_names(), *CHANGED]}:
        (tmp_path / each).write_bytes(b"x")
        assert (tmp_path / each).resolve().parent == tmp_path.resolve()
    assert all(each.is_file() for each in tmp_path.iterdir())


@given(st.text(max_size=400))
def test_any_text_becomes_a_plain_name_and_that_one_stays(name: str) -> None:
    safe = safe_name(name)
    assert is_plain(safe)
    assert safe_name(safe) == safe


@pytest.mark.parametrize("gap", [0, 100, 190, 194, 195, 196, 197, 198, 250, 2000])
@pytest.mark.parametrize(
    ("stem", "end"),
    [("con", "x.txt"), ("con", ".txt"), ("COM1", "é.tar.gz"), ("nul", "x"), ("desktop", "a.ini"), ("autorun", "a.inf")],
)
def test_no_cut_makes_a_device_or_a_folders_own_file_of_a_name(stem: str, end: str, gap: int) -> None:
    safe = safe_name(stem + " " * gap + end)
    assert is_plain(safe)
    assert safe_name(safe) == safe
    assert len(safe.encode()) <= MAX_BYTES


@given(st.sampled_from(["con", "nul", "com1", "desktop", "thumbs", ""]), st.text(" .x", max_size=300),
       st.sampled_from(["", ".txt", ".ini", ".db"]))  # fmt: skip
def test_long_names_of_blanks_and_dots_become_plain_ones_that_stay(stem: str, middle: str, end: str) -> None:
    safe = safe_name(stem + middle + end)
    assert is_plain(safe)
    assert safe_name(safe) == safe


def test_a_long_name_keeps_its_extension() -> None:
    assert safe_name("a" * 300 + ".jpeg") == "a" * (MAX_BYTES - 5) + ".jpeg"
    assert safe_name("é" * 300 + ".jpg").endswith("é.jpg")
    assert len(safe_name("a." + "b" * 300)) == MAX_BYTES
    assert len(safe_name("x" * 10_000_000)) == MAX_BYTES


def test_a_number_stands_before_the_extension() -> None:
    assert numbered("sea.jpg", 2) == "sea (2).jpg"
    assert numbered("a.tar.gz", 3) == "a.tar (3).gz"
    assert numbered("Makefile", 2) == "Makefile (2)"
    assert numbered("_bashrc", 2) == "_bashrc (2)"
