"""The page: one file that asks nobody for anything, in which every text stays a text."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from securechat.cli import main
from securechat_lab.watching import page as module
from securechat_lab.watching.demo import DROPPED
from securechat_lab.watching.demo import PRIVATE as LINES
from securechat_lab.watching.page import page
from securechat_lab.watching.story import Story, tell
from tests.lab.watching.conftest import Scene
from tests.lab.watching.test_story import NASTY, accepted, line, submit


class Parsed(HTMLParser):
    """A page as a browser takes it apart: its elements, and what is in its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if tag in ("script", "style") and data.strip():
            self.raw.append((attributes.get("type") or tag, data))

    def data(self) -> Any:
        return json.loads(dict(self.raw)["application/json"])


def nasty() -> Story:
    lines = [
        line("scene", "title", text=NASTY),
        submit(1, 0, sender=NASTY),
        accepted(1, 1, 0.5),
        line("person", "received", 1, sender=NASTY, to=NASTY, conversation="c", seq=1, text=NASTY, len=9),
        line("person", "alarm", 2, to=NASTY, text=NASTY),
        line("person", "conversation", 2, to=NASTY, text=NASTY, conversation="c"),
    ]
    return tell(lines, ["<b>a problem</b>"])


def test_it_has_what_the_terminal_has(story: Story) -> None:
    data = Parsed(page(story)).data()
    assert data["people"] == ["alice", "bob", "carol"]
    moments = {each["text"]: each for each in data["moments"] if each["text"]}
    first = moments[LINES[0]]
    assert [layer["size"] for layer in first["onion"]] == [35, 90, 322, 424, 475, 497]
    assert (first["server"], first["size"]) == ("#5 e1 alice→bob", "424 B")
    assert first["people"] == [["»", LINES[0]], ["‹", LINES[0]], ["", ""]]
    assert moments[DROPPED]["fork"] is True
    assert moments[DROPPED]["told"][0].startswith("≠ FORK at #4")
    assert sum(data["axis"]["up"]) + sum(data["axis"]["down"]) == sum(each.len for each in story.records)


@pytest.mark.parametrize("hostile", [False, True])
def test_the_policy_lets_its_own_script_and_style_run_and_nothing_else(story: Story, *, hostile: bool) -> None:
    text = page(nasty() if hostile else story)
    parsed = Parsed(text)
    (policy,) = (found["content"] for tag, found in parsed.elements if found.get("http-equiv"))
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    raw = [(kind, data) for kind, data in parsed.raw if kind != "application/json"]
    assert [kind for kind, _ in raw] == ["style", "script"]
    for kind, data in raw:
        digest = base64.b64encode(hashlib.sha256(data.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert [tag for tag, _ in parsed.elements].count("script") == 2
    assert "img" not in [tag for tag, _ in parsed.elements]


def test_it_loads_nothing(story: Story) -> None:
    text = page(story)
    addresses = set(re.findall(r"\w+://[^\"'\s]*", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of a vocabulary
    attributes = {name for _, found in Parsed(text).elements for name in found}
    assert not attributes & {"src", "href", "srcset", "action", "style", "onclick", "onload"}


def test_a_text_that_is_markup_stays_a_text() -> None:
    text = page(nasty())
    assert "<img" not in text
    data = Parsed(text).data()
    (moment,) = (each for each in data["moments"] if each["text"])
    assert "</script><img src=x onerror=alert(1)>" in moment["text"]
    assert data["problems"] == ["<b>a problem</b>"]
    shown = json.dumps(data, ensure_ascii=False)
    assert shown.isprintable()


def test_the_script_sets_text_and_parses_none(story: Story) -> None:
    script = dict(Parsed(page(story)).raw)["script"]
    ways = ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function(", "fetch(", "import(")
    for way in ways:
        assert way not in script


def test_of_a_long_story_a_page_has_the_beginning_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MOMENTS", 3)
    lines = [each for seq in range(1, 9) for each in (submit(seq, seq), accepted(seq, seq, seq + 0.5))]
    data = Parsed(page(tell(lines))).data()
    assert len(data["moments"]) == 3
    assert data["problems"] == ["The page has the first 3 moments; 5 more are left out."]
    assert Parsed(page(tell(()))).data()["moments"] == []


def test_the_command_writes_it_for_its_owner_alone(scene: Scene, tmp_path: Path) -> None:
    where = tmp_path / "page.html"
    done = CliRunner().invoke(main, ["lab", "watch", str(scene.recording), "--html", str(where)])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "open it in a browser. It holds all that was said." in done.stdout
    assert where.stat().st_mode & 0o077 == 0
    assert where.read_text().startswith("<!doctype html>")
    nowhere = str(tmp_path / "no" / "page.html")
    done = CliRunner().invoke(main, ["lab", "watch", str(scene.recording), "--html", nowhere])
    assert done.exit_code == 1
    assert "cannot write" in done.stderr
