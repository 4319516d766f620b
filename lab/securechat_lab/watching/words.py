"""A moment in words and symbols, as the terminal and the page show it. Everything here is clean and in one line."""

from typing import Final

from securechat.clean import clean_line
from securechat_lab.watching.onion import Layer, Seen
from securechat_lab.watching.recording import Line
from securechat_lab.watching.story import Kind, Moment, Story

SYMBOLS: Final[dict[Kind, str]] = {
    "message": "●", "commit": "◆", "departure": "◇", "statement": "□", "word": "■", "entry": "○", "login": "→",
    "alarm": "!", "clear": "≈", "other": "·",
}  # fmt: skip
"""What is drawn in the lane of a conversation."""

LEGEND: Final = "● message  ◆ commit (new epoch)  ✗ refused or not shown  ≠ other bytes  ! alarm"
NUMBERS: Final = "e1 in epoch 1  2↑497 to the server: 497 bytes, on connection 2  2↓525 from it"

MAX_VERSIONS: Final = 8
"""Versions of a message that are named."""

MAX_TOLD: Final = 12
"""Sentences about one moment: more are a screen of them."""

MAX_SCREENS: Final = 500
"""Lines of screens that are looked through for them."""

SHOWN: Final = 400
"""Characters of a text in a line: more than the widest screen."""


def lanes(moment: Moment) -> str:
    """Draw the history of a moment's conversation: a lane for each branch."""
    symbol = "✗" if moment.refused else SYMBOLS[moment.kind]
    if not moment.seq:
        return symbol if moment.kind in ("login", "alarm", "clear", "other") or moment.refused else "○"
    drawn = ""
    for branch in range(moment.branches):
        on = branch in moment.on
        if branch in moment.new:
            drawn += "─" + (symbol if on else "╮")
        else:
            drawn += (" " if branch else "") + (symbol if on else "│")
    return drawn


def network_sees(moment: Moment, *, numbered: bool) -> str:
    """Directions and sizes, and of which connection: `1↑497 2↓525`."""
    return " ".join(
        f"{line.conn if numbered else ''}{'↑' if line.way == 'up' else '↓'}{line.len}" for line in moment.records[:40]
    )


def target(moment: Moment, story: Story) -> str:
    """To whom something was said: a room, or the other one of two."""
    name = story.name(moment.conversation)
    others = [each for each in name.split(" & ") if each != moment.sender]
    return others[0] if len(others) == 1 else name


def server_sees(moment: Moment, story: Story) -> str:
    """Place, epoch, from whom to where, and size; never a text."""
    message = moment.message
    to = target(moment, story)
    if moment.kind == "login":
        return f"{_name(moment.sender)} logs in"
    if moment.kind == "clear":
        return "not securechat"
    if moment.kind == "alarm" or not moment.frames:
        return ""
    if message is None or (moment.kind == "other" and not moment.seq):
        frame = moment.frames[0]
        who = frame.sender if frame.way == "up" else frame.to
        arrow = "from" if frame.way == "up" else "to"
        code = f" {_name(frame.text)}" if frame.what == "Refused" else ""
        return f"{_name(frame.what)}{code} {arrow} {_name(who) or 'a newcomer'} {frame.size} B"
    if moment.refused:
        return f"✗ {_name(moment.refused)}: {_name(moment.sender)}→{to}"
    epoch = "" if message.epoch is None else f" e{message.epoch}"
    if moment.kind == "commit" and message.epoch is not None:
        epoch += f"→{message.epoch + 1}"
    place = f"#{moment.seq}" if moment.seq else "(not answered)"
    sender = _name(moment.sender) or "?"
    return f"{place}{epoch} {sender}→{to} {message.len} B"


def person_sees(moment: Moment, person: str) -> tuple[str, str]:
    """What one person's screen shows: a mark and a text. Nothing where they see nothing.

    Marks: `»` own words, `‹` somebody's, `≠` other words than its sender's, `✗` not shown, `!` alarm, `·` notice.
    """
    lines = [line for line in moment.screens if line.to == person]
    alarm = next((line for line in lines if line.what in ("alarm", "warning")), None)
    said = next((line for line in lines if line.what in ("said", "delivered", "received")), None)
    if said is not None:
        if said.sender == person:
            return "»", _text(said)
        if moment.seq and _differs(moment, person):
            return "≠", _text(said)
        return "‹", _text(said)
    if alarm is not None:
        return "!", _text(alarm)
    if person in moment.missing:
        return "✗", "not shown"
    if moment.kind == "message" and any(person in group for group in moment.versions):
        return "·", "(no words)"
    notice = next((line for line in lines if line.what in ("notice", "presence")), None)
    return ("·", _text(notice)) if notice is not None else ("", "")


def _differs(moment: Moment, person: str) -> bool:
    return len(moment.versions) > 1 and person not in moment.versions[0]


def everything_told(moment: Moment) -> list[str]:
    """What is worth a sentence of its own: forks, refusals, and what people were told, each person once."""
    told = []
    if len(moment.versions) > 1:
        groups = [_people(group) for group in moment.versions[:MAX_VERSIONS]]
        told.append(f"≠ FORK at #{moment.seq}: {groups[0]} had one message, {'; '.join(groups[1:])} another.")
    if moment.missing:
        told.append(f"✗ Not shown to {_people(moment.missing)}: the log went on without it there.")
    if moment.refused:
        told.append(f"✗ The server refused it: {_name(moment.refused)}.")
    by_text: dict[str, dict[str, None]] = {}
    for line in moment.screens[:MAX_SCREENS]:
        if line.what in ("notice", "warning", "alarm"):
            by_text.setdefault(f"{'·' if line.what == 'notice' else '!'} {{}} {_text(line)}", {}).setdefault(line.to)
    told += [text.replace("{}", f"{_people(tuple(people))}:", 1) for text, people in by_text.items()]
    more = [f"· and {len(told) - MAX_TOLD:,} more."] if len(told) > MAX_TOLD else []
    return told[:MAX_TOLD] + more


def heading(moment: Moment, story: Story) -> str:
    """What the onion is about."""
    if moment.kind == "message" and moment.text:
        return f"The way of “{clean_line(moment.text)[:SHOWN]}”"
    if moment.kind == "commit":
        epoch = "" if moment.epoch is None else f": epoch {moment.epoch} ends, {moment.epoch + 1} begins"
        return f"A commit of {_name(moment.sender)} in {story.name(moment.conversation)}{epoch}"
    names: dict[Kind, str] = {
        "message": "A message of {} that no screen shows", "departure": "{} leaves",
        "statement": "A statement of {}'s identity key", "word": "A word of the operator",
        "entry": "An entry of {}", "login": "{} logs in", "alarm": "{} is warned", "clear": "Bytes in the clear",
    }  # fmt: skip
    return names.get(moment.kind, f"{_name(moment.what)}: {{}}").format(_name(moment.sender) or "somebody")


def who_can_look(layers: tuple[Layer, ...]) -> list[tuple[Seen, str]]:
    """Who can look at the layers of an onion, from the inside: each kind of looker once."""
    inner = next((layer.who for layer in layers if layer.seen == "people"), "")
    said: dict[Seen, str] = {
        "people": f"{inner} alone", "server": "the server, too", "network": "everybody on the way, too",
    }  # fmt: skip
    return [(seen, said[seen]) for seen in dict.fromkeys(layer.seen for layer in layers)]


def _text(line: Line) -> str:
    return clean_line(line.text[:SHOWN])


def _name(text: str) -> str:
    return clean_line(text[:64])


def _people(names: tuple[str, ...]) -> str:
    return ", ".join(_name(name) for name in names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
