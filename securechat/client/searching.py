"""Searching: what of a line is in the index, and what is looked for in it. Both go through the same sieve.

The index holds *words*: letters and digits in a row, without case and accents. A word of three letters or more is found
by its beginning, a shorter one as a whole, and what is written without spaces (in Chinese, Japanese, Thai) by any part
of it, since each character is a word there; so is each emoji. Beside its words a line has *facets* in the index: who
said it, where, and what it has. So whatever a search asks for is looked up, and few lines are read.

What a search hands to FTS5 is made here of such words, and nothing that somebody has typed stands in it as it was.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from unicodedata import category, normalize

from securechat.client.query import MAX_QUERY, Query
from securechat.content.registry import line_of, stand_in
from securechat.errors import UsageError

MAX_TERMS: Final = 16
"""Words, phrases and filters of a search. Each is looked up by itself."""

MAX_WORD: Final = 64
"""Letters of a word that are in the index: what is longer is a key or a file in letters, and found by its beginning."""

MAX_WORDS: Final = 1000
"""Words of a line that are in the index: two pages of a book. Each costs some 7 µs when the line goes, and what others
send holds up to 32,000, which would keep a client from all else for a fifth of a second."""

WHOLE: Final = 2
"""Letters up to which a word is found as a whole only: by its beginning, a letter would find a tenth of everything."""

_SPACELESS: Final = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\ua4cf\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)
"""Thai, Lao, Tibetan, Burmese, Khmer, Kana, Han and Yi: blocks of Unicode 16 that are written without spaces."""

_LINK: Final = re.compile(r"https?://\w|\bwww\.\w", re.IGNORECASE)


def match(query: Query, conversations: Iterable[bytes]) -> str:
    """Return what FTS5 is asked for; empty: every line fits. Raises `UsageError` if it cannot be looked for.

    `conversations`: ids of `query.where`, at least one if that is given.
    """
    terms = [*(_words(each, open_end=True) for each in query.words), *map(_words, query.phrases)]
    with_words = [term for term in terms if term[0]]
    if terms and not with_words:
        raise UsageError("There is no word in that: letters, digits and emoji are looked for, and signs are not.")
    wanted = [_facet("h", each) for each in query.has]
    if query.sender:
        wanted.append(_sender(query.sender))
    asked = [f'said : "{" ".join(words)}"{star}' for words, star in with_words]
    asked += [f"facets : {each}" for each in wanted]
    if query.where:
        asked.append(f"facets : ({' OR '.join(map(_place, conversations))})")
    if len(asked) > MAX_TERMS:
        raise UsageError(f"A search takes at most {MAX_TERMS} words and filters; this one has {len(asked)}.")
    return " AND ".join(asked)


def _words(text: str, *, open_end: bool = False) -> tuple[list[str], str]:
    """Return the words of a term, and the sign by which the last one may go on. Raises `UsageError` if it is long."""
    if len(text) > MAX_QUERY:
        raise UsageError(f"A search is at most {MAX_QUERY:,} characters long; this one has {len(text):,}.")
    words = words_of(text)
    return words, " *" if open_end and words and len(words[-1]) > WHOLE else ""


def said_in(kind: str, body: bytes, own: int, problem: str) -> str:
    """Return the text by which a line is found: the one that is shown."""
    if problem and not own:
        return ""
    text = line_of(kind, body)
    return stand_in(kind, body) if text is None else text


def said(text: str) -> str:
    """Return the words of a text as the index holds them, with blanks between them: the first ones of many."""
    return " ".join(words_of(text)[:MAX_WORDS])


def facets(conversation: bytes, sender: str, kind: str, text: str) -> str:
    """Return the facets of a line, the conversation's in the second place."""
    found = [_sender(sender), _place(conversation)]
    if kind == "reply":
        found.append(_facet("h", "reply"))
    if kind == "file":
        found.append(_facet("h", "file"))
    if _LINK.search(text):
        found.append(_facet("h", "link"))
    return " ".join(found)


def _sender(account: str) -> str:
    return _facet("s", account)


def _place(conversation: bytes) -> str:
    return f"c{conversation[:8].hex()}"  # the step of the schema that moves lines has it, too


def _facet(sort: str, name: str) -> str:
    return sort + name.encode(errors="replace").hex()


def words_of(text: str) -> list[str]:
    """Return the words of a text, in order."""
    return [word[:MAX_WORD] for word in text.translate(_SIEVE).split()]


@lru_cache(maxsize=4096)
def _sieved(code: int) -> str:
    """Return what a character is in the index: letters, a blank where a word ends, or nothing."""
    char = chr(code)
    if _SPACELESS.match(char):
        return f" {normalize('NFC', char)} "
    if category(char) in ("So", "Sk"):  # an emoji; the colour of its skin is none
        return f" {char} " if category(char) == "So" else ""
    found = ""
    for part in normalize("NFKD", char).casefold()[:4]:  # one sign of Arabic is eighteen letters
        sort = category(part)
        if sort[0] in "LN" or sort == "Mc":
            found += part
        elif sort not in ("Mn", "Me", "Cf"):  # accents, and what only says how others are drawn
            found += " "
    return found


class _Sieve(dict[int, str]):
    """For `str.translate`, which looks up one character after the other."""

    def __missing__(self, code: int) -> str:
        return _sieved(code)


_SIEVE: Final = _Sieve()
