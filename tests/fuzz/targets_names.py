"""Names: one spelling, what is shown of them, and whom they would be taken for."""

from contextlib import suppress

from securechat.clean import clean_line
from securechat.errors import UsageError
from securechat.lookalikes import _table, check_new_account, check_new_room, likeness
from securechat.names import collision_key, normalise_account, normalise_room, normalise_title
from tests.fuzz.registry import Target

SEPARATOR = "\n"
"""Between two names of one input: no name holds it."""


def name(data: bytes) -> None:
    """A name has one spelling, which stays, as a room's name and as a title, too; its class stays as well."""
    text = data.decode("utf-8", "surrogateescape")
    assert likeness(clean_line(text)) == likeness(text)
    table = _table()
    assert all(table.get(character, character) == character for character in likeness(text))  # replaced to the end
    for normalise in (normalise_account, normalise_room, normalise_title):
        with suppress(UsageError):
            spelled = normalise(text)
            assert normalise(spelled) == spelled
            assert likeness(spelled)
            assert clean_line(spelled)
            spelled.encode()


def two_names(data: bytes) -> None:
    """Two different names that can be taken are shown differently, and as they are spelled."""
    one, _, other = data.decode("utf-8", "surrogateescape").partition(SEPARATOR)
    for normalise, check in ((normalise_account, check_new_account), (normalise_room, check_new_room)):
        with suppress(UsageError):
            first, second = normalise(one), normalise(other)
            if clean_line(first) == clean_line(second) or collision_key(first) == collision_key(second):
                assert likeness(first) == likeness(second)
            check(first)
            check(second)
            assert clean_line(first) == first
            assert clean_line(second) == second
            if first != second:
                assert clean_line(first) != clean_line(second)


TARGETS: dict[str, Target] = {"name": name, "two_names": two_names}

_GOOD = (
    "alice", "ɑlice", "rnodern", "mañana", "Zoë", "李雷", "Иван", "علی\u200cرضا", "क्\u200dष", "İsmail",
    "straße", "e\u0301va", "o'brien", "q\u0323\u0323\u0323\u0323\u0324", "al\u02bcice", "alice.", "аdmin", "#lobby",
    "##club~1a2b",
)  # fmt: skip


def seeds() -> dict[str, list[bytes]]:
    """Names of many scripts, and pairs of them."""
    pairs = [f"{one}{SEPARATOR}{other}" for one, other in zip(_GOOD, (*_GOOD[1:], _GOOD[0]), strict=True)]
    twins = ["alice\nali\u200dce", "deva\nde\u200dva", "modern\nrnodern", "#lobby\n#1obby"]
    return {"name": [each.encode() for each in _GOOD], "two_names": [each.encode() for each in (*pairs, *twins)]}
