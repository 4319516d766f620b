"""A search as people type it, and what is looked for then.

    lunch friday                 both words, in any order; a word of three letters or more is found by its beginning
    "see you there"              these words, one after the other
    budget from:bob in:#staff    said by bob, in that room
    has:link after:2026-11       with an address of the web in it, since the first of November 2026
    from:me before:2026-11-05    said by us, before that day

Days and months are those of the clock on the wall.
"""

import re
from datetime import datetime, tzinfo
from typing import Final, get_args

from securechat.client.query import MAX_QUERY, Has, Query
from securechat.errors import UsageError
from securechat.names import normalise_account, normalise_title

FILTERS: Final = ("from:", "in:", "has:", "before:", "after:")

_TERM: Final = re.compile(r'"([^"]*)"|(\S+)')
_DATE: Final = re.compile(r"([0-9]{4})(?:-([0-9]{1,2})(?:-([0-9]{1,2}))?)?")


def query_of(typed: str, account: str, zone: tzinfo | None = None) -> Query:
    """Return what somebody, `account`, looks for. `zone`: of their clock; None: this machine's. Raises `UsageError`."""
    if len(typed) > MAX_QUERY:
        raise UsageError(f"A search is at most {MAX_QUERY:,} characters long; this one has {len(typed):,}.")
    words: list[str] = []
    phrases: list[str] = []
    has: list[Has] = []
    sender, where, after, before = "", "", 0, 0
    for phrase, word in _TERM.findall(typed):
        name, colon, argument = word.partition(":")
        match name.lower() + colon if argument else "":
            case "from:":
                sender = account if argument == "me" else normalise_account(argument)
            case "in:":
                where = normalise_title(argument)
            case "has:":
                has.append(_has(argument))
            case "before:":
                before = _time(argument, zone)
            case "after:":
                after = _time(argument, zone)
            case _ if word:
                words.append(word)
            case _:
                phrases.append(phrase)
    return Query(tuple(words), tuple(phrases), sender, where, tuple(has), after, before)


def _has(argument: str) -> Has:
    match argument.lower():
        case "file":
            return "file"
        case "link":
            return "link"
        case "reply":
            return "reply"
    names = get_args(Has)
    raise UsageError(f"has: takes {', '.join(names[:-1])} or {names[-1]}, as in has:link.")


def _time(argument: str, zone: tzinfo | None) -> int:
    """Return when a day, a month or a year begins, in milliseconds since 1970."""
    found = _DATE.fullmatch(argument)
    try:
        if found is not None:
            year, month, day = (int(part or 1) for part in found.groups())
            begins = datetime(year, month, day)  # noqa: DTZ001  by the clock on the wall, wherever that is
            begins = begins.astimezone() if zone is None else begins.replace(tzinfo=zone)
            return max(0, int(begins.timestamp() * 1000))
    except (ValueError, OverflowError, OSError):  # no such day; or none that this machine has a clock for
        pass
    raise UsageError("before: and after: take a day, a month or a year, as in after:2026-11-30 or before:2026-11.")
