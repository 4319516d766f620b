"""What people may be called, and what they may use as a password. RFC 8264 and 8265 (PRECIS).

The client applies these rules to what a person types, the server to what arrives: both call the same functions, which
are idempotent, so a name means the same string everywhere. User names follow the profile UsernameCaseMapped, passwords
OpaqueString, a room is `#` and a name. What PRECIS leaves to the application is decided here: length, first character,
and one script per name, so that a Cyrillic `а` cannot hide in a Latin `alice`. (A name wholly in another script can
still look like a Latin one; that is what safety numbers are for.)

Whether a member's name is valid must not depend on whose Python asks, or groups would fork (docs/design.md, invariant
8), nor whether a password is: people have more than one machine. So both are judged by Unicode 3.2, the one version
that every Python carries beside its own: all widely used scripts are in it. What it does not know yet is in no name; in
a password it is a symbol, as the newest emoji are.
"""

import unicodedata
from functools import lru_cache
from string import hexdigits

from precis_i18n import get_profile

from securechat.errors import UsageError
from securechat.wire.limits import MAX_ACCOUNT, MAX_ROOM

MAX_PASSWORD = 1024
"""Bytes of a normalised password in UTF-8: longer than any sentence, short enough to hash at once."""

_REMEMBERED = 4096
"""Names known to be normalised: the same few are in every certificate and commit, and checking one costs 0.1 ms."""

_WORST_SHRINKAGE = 4
"""Normalisation (NFC) makes a string at most this many times shorter: what is longer is refused unread."""

_HEXADECIMAL = frozenset(hexdigits)

_UNICODE = unicodedata.ucd_3_2_0
_ACCOUNT_PROFILE = get_profile(
    "UsernameCaseMapped",
    unicodedata=_UNICODE,  # type: ignore[arg-type]  # the stub lacks what the documentation of get_profile allows
)


class _WithSymbols:
    """Unicode 3.2, in which all that it has no character for is a symbol. As the module `unicodedata`."""

    unidata_version = _UNICODE.unidata_version
    bidirectional, combining, normalize = _UNICODE.bidirectional, _UNICODE.combining, _UNICODE.normalize

    def category(self, character: str) -> str:
        category = _UNICODE.category(character)
        return "So" if category == "Cn" else category


_PASSWORD_PROFILE = get_profile(
    "OpaqueString",
    unicodedata=_WithSymbols(),  # type: ignore[arg-type]  # as above
)
_NOT_IN_PASSWORDS = {
    "empty": "be empty",
    "controls": "hold control characters",
    **dict.fromkeys(
        ("precis_ignorable_properties", "zero_width_joiner", "zero_width_nonjoiner"),
        "hold invisible characters, as some emoji do that are made of several",
    ),
}
_NOR_IN_PASSWORDS = (
    "hold a character that RFC 8265 keeps out of them, such as half of one, one for private use, or a mark that "
    "belongs beside letters of one script"
)

_JAPANESE = dict.fromkeys(("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"), "HAN AND KANA")
_SCRIPT_ALIASES = _JAPANESE | {"ARABIC-INDIC": "ARABIC", "EXTENDED": "ARABIC"}  # the digits used with Arabic letters


def normalise_account(name: str) -> str:
    """The one spelling of a user name, 1 to 32 characters; raises UsageError in words for the person who chose it."""
    return _normalise(name, "a user name", MAX_ACCOUNT)


def normalise_room(name: str) -> str:
    """The one spelling of a room's name: `#` and 1 to 31 characters under the rules of user names."""
    if not name.startswith("#"):
        raise UsageError("a room's name begins with '#', as in '#lobby'")
    return "#" + _normalise(name[1:], "a room's name after the '#'", MAX_ROOM - 1)


def normalise_title(name: str) -> str:
    """The one spelling of what somebody types to name a conversation: an account, a room, or a room's second title.

    A second title is `##room~1a2b`: no room's name begins so. Raises UsageError for what can be none of these.
    """
    if not name.startswith("##"):
        return normalise_room(name) if name.startswith("#") else normalise_account(name)
    room, _, digits = name[1:].rpartition("~")
    if not digits or not _HEXADECIMAL.issuperset(digits):
        raise UsageError("a second title ends as it is shown, in ~ and digits from 0 to f, as in '##lobby~1a2b'")
    return f"#{normalise_room(room)}~{digits.lower()}"


def normalise_password(text: str) -> str:
    """The one spelling of a password, 1 to 1,024 bytes of UTF-8. Errors do not name the characters in it."""
    if len(text) > MAX_PASSWORD * _WORST_SHRINKAGE:
        raise UsageError(f"a password has at most {MAX_PASSWORD:,} bytes")
    try:
        password: str = _PASSWORD_PROFILE.enforce(text)
    except UnicodeEncodeError as error:
        why = _NOT_IN_PASSWORDS.get(error.reason.removeprefix("DISALLOWED/"), _NOR_IN_PASSWORDS)
        raise UsageError(f"a password must not {why}") from None  # not chained: the original error holds the password
    if len(password.encode()) > MAX_PASSWORD:
        raise UsageError(f"a password has at most {MAX_PASSWORD:,} bytes")
    return password


def collision_key(account: str) -> str:
    """Equal for two names that differ only in case, even where lower case keeps them apart (`ß`, `ss`; `ς`, `σ`)."""
    return unicodedata.normalize("NFC", account.casefold())


@lru_cache(_REMEMBERED)
def _normalise(name: str, what: str, longest: int) -> str:
    too_long = UsageError(f"{what} has at most {longest} characters")
    if len(name) > longest * _WORST_SHRINKAGE:
        raise too_long
    try:
        normalised: str = _ACCOUNT_PROFILE.enforce(name)
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} {_why_disallowed(error)}") from None
    if len(normalised) > longest:
        raise too_long
    if _UNICODE.category(normalised[0])[0] not in "LN":
        # `/` begins a command, `#` a room, `-` an option, `.` a hidden file.
        raise UsageError(f"{what} begins with a letter or a digit")
    scripts = {_script(character) for character in normalised} - {None}
    if len(scripts) > 1:
        raise UsageError(f"{what} keeps to one script; this one mixes {' and '.join(sorted(map(str, scripts)))}")
    return normalised


def _why_disallowed(error: UnicodeEncodeError) -> str:
    """Say what a name must not be, in the rest of a sentence."""
    reason = error.reason.removeprefix("DISALLOWED/")
    if reason == "empty":
        return "must not be empty"
    if reason == "spaces":
        return "must not hold spaces"
    if error.end - error.start == 1:
        return f"must not hold the character U+{ord(error.object[error.start]):04X}"
    return "must not mix writing directions or use unusual forms of letters"


def _script(character: str) -> str | None:
    """The script of a letter, mark or number; None for what all scripts share.

    Python's tables lack the Script property (UAX #24). The first word of a character's name stands in for it: for each
    character that PRECIS lets through it is the script's name, or its first word, or COMBINING for shared marks.
    """
    if character.isascii():
        return "LATIN" if character.isalpha() else None
    if _UNICODE.category(character)[0] not in "LMN":
        return None
    word = _UNICODE.name(character, "UNNAMED").split()[0]
    if word in ("COMBINING", "MODIFIER"):
        return None
    return _SCRIPT_ALIASES.get(word, word)
