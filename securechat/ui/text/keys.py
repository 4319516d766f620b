"""What is said of others' keys: which are new, changed, accepted or refused, and how to compare them."""

import unicodedata
from collections.abc import Iterator

from securechat.clean import clean_line
from securechat.client.events import (
    CameByOldKey,
    Event,
    FirstContact,
    KeyAccepted,
    KeyChanged,
    KeyContested,
    KeyRefused,
    KeySucceeded,
    LookAlike,
    SafetyNumber,
    TwoHolders,
)
from securechat.ui.text.trust import TRUST
from securechat.ui.text.wording import MAX_NAMED, Sentence, alarm, notice, warning


def said(event: Event, where: str, own: str) -> Iterator[Sentence]:
    """Yield what is said of an event, if it is one of these."""
    match event:
        case FirstContact():
            who = clean_line(event.account)
            yield notice(
                f"First contact with {who}, key {event.key}: until you have compared the numbers that /safety {who} "
                f"shows both of you, by phone or face to face, somebody else may be behind it. Then type /verify {who}."
            )
        case LookAlike():
            yield from (warning(_of_look_alike(*pair, own)) for pair in event.pairs[:MAX_NAMED])
            if (more := len(event.pairs) - MAX_NAMED) > 0:
                yield warning(f"{more} more names there look like one that you know.")
        case KeyChanged():
            who = clean_line(event.account)
            verified = " It is not the one you had verified!" if event.trust == "changed-verified" else ""
            refused = " It is one that you have refused." if event.trust == "refused" else ""
            refused = " It is contested." if event.trust == "contested" else refused
            decide = f"See /safety {who}; then /verify, /trust or /distrust {who} {event.key}."
            yield warning(f"Another key claims to be {who}: {event.key}.{verified}{refused} {decide}")
        case TwoHolders():
            who = clean_line(event.account)
            yield alarm(
                f"two programs hold {who}'s identity key ({event.key}). Either {who} works with an old copy of "
                f"their data, or somebody has stolen the key. Ask {who} in some other way. What you write to {who} "
                f"waits until you press Enter there; /distrust {who} {event.key} refuses the key.",
            )
        case CameByOldKey():
            who = clean_line(event.account)
            yield warning(
                f"{who} came into {where} by an old certificate: their clock is wrong, or somebody has an old copy of "
                f"their data. Ask {who} in some other way. What you typed there before waits; an empty line "
                "(Enter alone) sends it."
            )
        case KeySucceeded(trust="succeeded"):
            who = clean_line(event.account)
            yield warning(
                f"The key of {who} that you had verified has named another one as its successor: {event.key}. What you "
                f"write to {who} waits: compare /safety {who} again, then /verify {who} {event.key}."
            )
        case KeySucceeded():
            who = clean_line(event.account)
            yield notice(f"{who} goes on under a new key, {event.key}, which the old one has named.")
        case KeyContested():
            who = clean_line(event.account)
            yield alarm(
                f"{who} has two keys that contradict each other: {event.old} denies that {event.new} is its "
                f"successor. One of them is a thief's. Nothing that you write goes to either: compare /safety {who} in "
                "some other way, then /verify the right one.",
            )
        case KeyAccepted() | KeyRefused():
            yield from _of_decision(event)
        case SafetyNumber():
            yield from _of_safety_number(event)


def _of_look_alike(new: str, known: str, own: str) -> str:
    """Say that two names are not one, and how they are told apart; without another one, that it means nothing."""
    if not known:
        return (
            f"{clean_line(new)} is an account like any other, though its name sounds like this program or whoever runs "
            "the server, and no honest server gives it to anybody now: what it says is said by neither of the two."
        )
    which = f"your own name, {clean_line(known)}" if known == own else f"{_spelled(known, new)}, which you know"
    is_not = "is another room" if new.startswith("#") else "is somebody else"
    tell = "Be sure which one you mean" if new.startswith("#") else f"/safety {clean_line(new)} shows whose key it is"
    return f"{_spelled(new, known)} looks like {which}, and {is_not}. {tell} before you write there or say yes."


def _spelled(name: str, other: str) -> str:
    """A name, with the character by which it differs from another one, where no key of a common keyboard types that."""
    odd = next((each for each in name if each not in other and not each.isascii()), "")
    return f"{clean_line(name)} (with {unicodedata.name(odd, 'a nameless character')})" if odd else clean_line(name)


def _of_decision(event: KeyAccepted | KeyRefused) -> Iterator[Sentence]:
    who, where = clean_line(event.account), ", ".join(map(clean_line, event.stops))
    lines = "1 waiting line" if event.lines == 1 else f"{event.lines} waiting lines"
    if isinstance(event, KeyRefused):
        said = f"Key {event.key} of {who} is refused: nothing that you write goes to it."
        said += f" That holds what you write in {where}." if where else ""
        yield notice(said + (f" {lines} stay{'s' if event.lines == 1 else ''} there." if event.lines else ""))
        return
    how = "verified: you will be warned loudly if it changes." if event.verified else "trusted; it is not compared."
    said = f"Key {event.key} of {who} is {how}"
    said += f" {lines} go{'es' if event.lines == 1 else ''} to it." if event.lines else ""
    yield notice(said + (f" Nothing more goes to another key of {who} in {where}." if where else ""))


def _of_safety_number(event: SafetyNumber) -> Iterator[Sentence]:
    who = clean_line(event.account)
    for each in event.keys:
        where = f"; in {', '.join(map(clean_line, each.conversations))}" if each.conversations else ""
        yield notice(f"Safety number between you and {who}, key {each.key} ({TRUST[each.trust].words}{where}):")
        groups = each.number.split(" ")
        for row in range(0, len(groups), 4):
            yield notice("    " + " ".join(groups[row : row + 4]))
    if len(event.keys) == 1:
        yield notice(f"If {who} sees the same digits, nobody sits between you: type /verify {who}.")
    else:
        first = event.keys[0].key
        yield warning(
            f"{who} has shown {len(event.keys)} keys. Find the digits that {who} sees, and type /verify {who} with the "
            f"key above them, as in /verify {who} {first}; /distrust {who} KEY refuses one."
        )
