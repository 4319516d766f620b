"""One self-contained page of a story, for a browser: it asks nobody for anything, and runs no script but its own.

The words are those of the terminal (`words`, `onion`). They travel as JSON in a block that is data, are set as text,
and the page's policy (CSP) names its one script and its one style by their hashes: a text that is markup stays a text.
"""

import base64
import hashlib
import html
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, Final

import msgspec

from securechat.clean import clean_line
from securechat.files import PRIVATE, write_atomically
from securechat_lab.watching import words
from securechat_lab.watching.onion import SYMBOLS, onion
from securechat_lab.watching.story import Moment, Story

MAX_MOMENTS: Final = 2000
"""Moments on a page, and as many that are shown on demand only: a browser draws that in a second."""

MAX_TEXT: Final = 1000
"""Characters of a text that are shown as what it is about."""

MAX_TITLE: Final = 200
"""Characters of a title: a line of a wide screen."""

BINS: Final = 240
"""Bars on the time axis."""

CIPHER: Final = 24
"""Bytes of the ciphertext that are shown in the server's column."""


def write_page(story: Story, path: Path) -> None:
    """Write the page. It holds all that was said, so that nobody but its owner can read it. Raises StorageError."""
    write_atomically(path, page(story).encode(), mode=PRIVATE)


def page(story: Story) -> str:
    """Return the page as HTML."""
    style, script = (_read(name) for name in ("page.css", "page.js"))
    own = f"script-src '{_hash(script)}'; style-src '{_hash(style)}'"
    policy = f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'"
    return Template(_read("page.html")).substitute(
        policy=html.escape(policy, quote=False),
        title=html.escape(f"{story.title[:MAX_TITLE] or 'a scene'} · securechat lab"),
        style=style,
        script=script,
        legend=html.escape(words.LEGEND),
        story=_as_data(_facts(story)),
    )


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _as_data(facts: object) -> str:
    """JSON in which nothing can end the block that it stands in."""
    text = msgspec.json.encode(facts).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _facts(story: Story) -> dict[str, Any]:
    main = [each for each in story.moments if each.main]
    others = [each for each in story.moments if not each.main]
    shown = sorted([*main[:MAX_MOMENTS], *others[:MAX_MOMENTS]], key=lambda each: each.t)
    left_out = len(story.moments) - len(shown)
    more = [f"The page has the first {len(shown):,} moments; {left_out:,} more are left out."] if left_out else []
    sizes = [record.len for each in shown for record in each.records]
    first = next((place for place, each in enumerate(main) if each.kind == "message"), 0)
    return {
        "title": story.title[:MAX_TITLE],
        "people": [clean_line(name) for name in story.people],
        "symbols": SYMBOLS,
        "problems": [*story.problems, *more],
        "end": story.end or 1.0,
        "begin": first,
        "largest": max(sizes, default=1) or 1,
        "axis": {way: _bins(story, way) for way in ("up", "down")},
        "moments": [_moment(each, story) for each in shown],
    }


def _bins(story: Story, way: str) -> list[int]:
    bins = [0] * BINS
    for record in story.records:
        if record.way == way:
            bins[min(int(record.t / (story.end or 1.0) * BINS), BINS - 1)] += record.len
    return bins


def _moment(moment: Moment, story: Story) -> dict[str, Any]:
    layers = onion(moment)
    heading = words.heading(moment, story)
    if layers and layers[0].name == "text":
        way = f"{clean_line(moment.sender)} → {words.target(moment, story)}"
        heading = f"{way}: {layers[0].size} bytes become {layers[-1].size}"
    message = moment.message
    seen, size = words.server_sees(moment, story), ""
    if seen.endswith(" B"):
        seen, number, _ = seen.rsplit(" ", 2)
        size = f"{number} B"
    return {
        "t": moment.t,
        "kind": moment.kind,
        "main": moment.main,
        "symbol": words.lanes(moment)[:1],
        "seq": moment.seq,
        "refused": bool(moment.refused),
        "fork": len(moment.versions) > 1 or bool(moment.missing),
        "branches": moment.branches,
        "on": sorted(moment.on),
        "new": sorted(moment.new),
        "network": [[record.conn, record.way == "up", record.len] for record in moment.records[: 2 * CIPHER]],
        "server": seen,
        "size": size,
        "cipher": "" if message is None else message.hex[-2 * CIPHER :],
        "people": [words.person_sees(moment, person) for person in story.people],
        "heading": heading,
        "told": words.everything_told(moment),
        "text": clean_line(moment.text[:MAX_TEXT]),
        "who": words.who_can_look(layers),
        "onion": [
            {
                "name": layer.name,
                "size": layer.size,
                "adds": clean_line(layer.adds),
                "seen": layer.seen,
                "parts": [[part.name, part.size, part.hex] for part in layer.parts],
            }
            for layer in layers
        ],
    }
