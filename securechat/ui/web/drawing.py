"""The view model's values as JSON has them, with what is said of each in words that all faces share."""

from collections.abc import Iterator
from typing import Any, Final

from securechat.clean import clean_line
from securechat.client.events import RoomListed, SafetyNumber, Trust
from securechat.client.snapshot import Invitation
from securechat.ui.objects import to_json
from securechat.ui.text.states import why_silent
from securechat.ui.text.trust import TRUST, beside
from securechat.ui.text.wording import title
from securechat.ui.view.lines import WHY_NO_QUOTE, became_of, what_it_is
from securechat.ui.view.rows import Day, Item, Line, Row, key_of
from securechat.ui.view.timeline import Timeline

MAX_NEWEST: Final = 200
"""Characters of a conversation's newest message in the list."""


def row_object(row: Row) -> dict[str, Any]:
    """Return a row, with its key and its kind."""
    value: dict[str, Any] = {"key": key_of(row), "row": type(row).__name__.lower()}
    if isinstance(row, Day):
        return value | {"date": row.date.isoformat()}
    value |= to_json(row)
    if isinstance(row, Line):
        value |= _trust(row.trust) | {"fate": became_of(row) if row.own and not row.deleted_by else ""}
        if row.file is not None:
            value["file"]["what"] = what_it_is(row.file)
        if row.answers is not None:
            value["answers"]["sender"] = beside(row.answers.sender, row.answers.trust)
            value["answers"]["why"] = WHY_NO_QUOTE[row.answers.state] if row.answers.state else ""
    return value


def item_object(item: Item) -> dict[str, Any]:
    """Return a conversation of the list; of its newest line what stands there."""
    value = {name: to_json(getattr(item, name)) for name in item.__dataclass_fields__ if name != "newest"}
    newest = None
    if (line := item.newest) is not None:
        text = line.problem or (f"deleted by {line.deleted_by}" if line.deleted_by else line.text)
        text = " ".join(text.split())[:MAX_NEWEST]
        newest = {"sender": line.sender, "own": line.own, "text": text, "time": line.time}
    return value | _trust(item.trust) | {"newest": newest}


def about_object(here: Timeline) -> dict[str, Any]:
    """Return what is beside a timeline."""
    now = here.conversation
    return {
        "where": now.id.hex(), "title": title(now), "kind": now.kind, "state": now.state, "silent": why_silent(now),
        "topic": clean_line(now.topic), "owners": [clean_line(each) for each in now.owners],
        "inviters": [clean_line(each) for each in now.inviters],
        "people": [to_json(each) | _trust(each.trust) for each in here.people],
    }  # fmt: skip


def invitation_object(asked: Invitation) -> dict[str, Any]:
    """Return an invitation that waits for an answer."""
    return {
        "conversation": asked.conversation.hex(), "name": clean_line(asked.name), "inviter": clean_line(asked.inviter),
        "key": asked.key[:4], "first_contact": asked.first_contact, "question": asked.question,
    }  # fmt: skip


def room_object(room: RoomListed) -> dict[str, Any]:
    """Return a room that one could enter."""
    return {**to_json(room), "name": clean_line(room.name), "topic": clean_line(room.topic)}


def number_objects(event: SafetyNumber) -> Iterator[dict[str, Any]]:
    """Yield each key with the number to compare, and that as a QR code: rows of modules, `1` for a dark one."""
    import segno  # only here

    for each in event.keys:
        code = segno.make(each.number.replace(" ", ""), error="m", micro=False)
        modules = ["".join("1" if dark else "0" for dark in row) for row in code.matrix]
        where = [clean_line(name) for name in each.conversations]
        yield {"key": each.key, "number": each.number, "conversations": where, "code": modules, **_trust(each.trust)}


def _trust(trust: Trust) -> dict[str, str]:
    return {"trust": trust, "sign": TRUST[trust].sign, "trust_words": TRUST[trust].words}
