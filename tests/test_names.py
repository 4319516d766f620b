from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.errors import UsageError
from securechat.names import (
    MAX_PASSWORD,
    collision_key,
    normalise_account,
    normalise_password,
    normalise_room,
    normalise_title,
)
from securechat.wire.limits import MAX_ACCOUNT, MAX_ROOM


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("alice", "alice"),
        ("Alice", "alice"),
        ("ALICE_2.x-y", "alice_2.x-y"),
        ("ａｌｉｃｅ", "alice"),  # full-width letters
        ("E\u0301va", "éva"),
        ("Ωμέγα", "ωμέγα"),
        ("Борис", "борис"),
        ("山田たろう", "山田たろう"),
        ("ヤマダ", "ヤマダ"),
        ("김철수7", "김철수7"),
        ("देवी", "देवी"),
        ("محمد", "محمد"),
        ("รัตนา", "รัตนา"),
        ("straße", "straße"),
        ("7of9", "7of9"),
        ("a" * 32, "a" * 32),
    ],
)
def test_a_user_name_has_one_spelling(typed: str, name: str) -> None:
    assert normalise_account(typed) == name
    assert normalise_account(name) == name


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", "must not be empty"),
        ("a b", "must not hold spaces"),
        ("a" * 33, "at most 32 characters"),
        ("a" * 1_000_000, "at most 32 characters"),
        ("a\nb", "U+000A"),
        ("a\x1b[2J", "U+001B"),
        ("a\u202eb", "U+202E"),  # right-to-left override
        ("a\u200bb", "U+200B"),  # zero-width space
        ("Ⅷ", "must not hold"),
        ("\N{NKO LETTER A}", "must not hold"),  # Unicode 5: younger than the version that all Pythons share
        ("\N{CHEROKEE LETTER A}", "must not hold"),  # whose small letters are younger
        ("\ud800", "U+D800"),
        ("#lobby", "begins with a letter or a digit"),
        ("/quit", "begins with a letter or a digit"),
        ("-x", "begins with a letter or a digit"),
        ("../x", "begins with a letter or a digit"),
        ("\u0301a", "begins with a letter or a digit"),
        ("аlice", "one script; this one mixes CYRILLIC and LATIN"),
        ("alicе", "one script"),
        ("αlice", "one script; this one mixes GREEK and LATIN"),
        ("a৪", "one script; this one mixes BENGALI and LATIN"),
        ("אa", "one script|writing directions"),
    ],
)
def test_a_bad_user_name_is_refused_with_its_reason(typed: str, words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("+", r"\+")):
        normalise_account(typed)


def test_a_room_is_a_hash_sign_and_a_name() -> None:
    assert normalise_room("#Lobby") == "#lobby"
    assert normalise_room("#" + "x" * 31) == "#" + "x" * 31
    for bad in ("lobby", "#", "##lobby", "#" + "x" * 32, "# lobby", "#lоbby", ""):
        with pytest.raises(UsageError, match="a room's name"):
            normalise_room(bad)


def test_a_second_title_is_no_rooms_name() -> None:
    assert [normalise_title(typed) for typed in ("Alice", "#Club", "##Club~1A2B", "##a~b~1a2b")] == [
        "alice", "#club", "##club~1a2b", "##a~b~1a2b",
    ]  # fmt: skip
    for typed in ("##club~1a2b", "##club"):
        with pytest.raises(UsageError):
            normalise_room(typed)
    for typed in ("##club", "##", "##~1a2b", "###club~1a2b", "##club~", "##club~1a2g", "##club~1\udcff", "#", ""):
        with pytest.raises(UsageError):
            normalise_title(typed)


def test_names_that_differ_only_in_case_collide() -> None:
    assert collision_key("straße") == collision_key("strasse")
    assert collision_key("οδός") == collision_key("οδόσ")
    assert collision_key("alice") != collision_key("alicia")


def test_a_password_keeps_its_case_and_has_one_kind_of_space() -> None:
    assert normalise_password("Correct\u3000horse π") == "Correct horse π"
    assert normalise_password("e\u0301") == "é"
    assert normalise_password("\N{MELTING FACE}")  # Unicode 14


def test_a_password_is_judged_by_one_table_whatever_python_it_is() -> None:
    """Under each Python that runs this: what is new, what nobody knows yet, and one in a hundred of all others."""
    assert normalise_password("\U0001fae9\U0001faef")  # Unicode 16 and 17
    assert normalise_password("\u0378")  # nothing, as far as Unicode 17 knows
    allowed = bytearray()
    for point in range(0, 0x110000, 101):
        try:
            allowed += normalise_password("a" + chr(point)).encode()
        except UsageError:
            allowed += b"-"
    assert sha256(allowed).hexdigest()[:16] == "a68ea58e58bbc78a"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "must not be empty"), ("tab\there", "control characters"), ("line\n", "control characters"),
        ("\x00", "control characters"), ("\ud800", "half of one"), ("\U000e0001", "invisible characters"),
        ("\u2764\ufe0f", "invisible characters"), ("\U0001f468\u200d\U0001f469", "invisible characters"),
        ("\ue000", "private use"), ("1\u00b72", "beside letters of one script"),
    ],
)  # fmt: skip
def test_a_bad_password_is_refused_without_being_shown(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        normalise_password(text)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_the_twins_are_passwords() -> None:
    for text in ("\u2764", "\U0001f468\U0001f469", "l\u00b7l", "\u06cc\u200c\u062e"):
        assert normalise_password(text) == text


def test_a_password_has_at_most_1024_bytes() -> None:
    assert normalise_password("é" * (MAX_PASSWORD // 2))
    for long in ("é" * (MAX_PASSWORD // 2) + "x", "x" * (MAX_PASSWORD + 1), "x" * 10_000_000):
        with pytest.raises(UsageError, match="at most 1,024 bytes"):
            normalise_password(long)


@given(st.text(max_size=40))
def test_whatever_is_typed_gives_a_name_that_stays_or_a_usage_error(text: str) -> None:
    try:
        name = normalise_account(text)
    except UsageError:
        return
    assert normalise_account(name) == name
    assert 1 <= len(name) <= MAX_ACCOUNT
    assert name.isprintable()
    if len(name) < MAX_ROOM:
        assert normalise_room("#" + name) == "#" + name


@given(st.text(max_size=40))
def test_whatever_is_typed_gives_a_password_that_stays_or_a_usage_error(text: str) -> None:
    try:
        password = normalise_password(text)
    except UsageError:
        return
    assert normalise_password(password) == password
    assert 1 <= len(password.encode()) <= MAX_PASSWORD
