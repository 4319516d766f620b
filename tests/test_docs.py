"""The papers fit together and fit the code: sections that are cited and links that are given lead somewhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import map as the_map
from securechat.ui.terminal.keys import KEYS, ON_A_MESSAGE

ROOT = Path(__file__).parents[1]
PAPERS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
DESIGN = (ROOT / "docs" / "design.md").read_text()

CITATION = re.compile(r"docs/design\.md, (section|invariant)s? ([0-9][^).;:\n]*)")
"""How a module cites the design: `docs/design.md, section 6, Rules and Leaving`, `docs/design.md, sections 4 to 6`."""


def citations() -> Iterator[tuple[Path, str, str]]:
    """File, `section` or `invariant`, and what follows."""
    for folder in ("securechat", "tests", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path != Path(__file__):
                for kind, which in CITATION.findall(path.read_text()):
                    yield path, kind, which


def test_ci_runs_tests_that_are_there() -> None:
    named = re.findall(r"tests/[\w/.]+", (ROOT / ".ci/run").read_text())
    assert named
    assert [each for each in named if not (ROOT / each).exists()] == []


def anchors(paper: Path) -> set[str]:
    """The targets of links into a paper, made of its headings as forges do."""
    headings = re.findall(r"^#+ (.+)$", paper.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_section_of_the_design_that_is_cited_exists() -> None:
    sections = dict(re.findall(r"^## (\d+)\. (.*?)(?=^## |\Z)", DESIGN, re.MULTILINE | re.DOTALL))
    invariants = set(re.findall(r"^(\d+)\. ", sections["2"], re.MULTILINE))
    found = list(citations())
    assert len(found) > 50
    for path, kind, which in found:
        numbers = re.findall(r"\d+", which)
        assert set(numbers) <= (sections.keys() if kind == "section" else invariants), (path, which)
        for word in re.findall(r"[A-Z][A-Za-z]+", which):  # a paragraph of the last section named
            assert re.search(rf"^\*\*[^*]*{word}", sections[numbers[-1]], re.MULTILINE), (path, which)


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_every_link_leads_somewhere(paper: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", paper.read_text()):
        if not re.match(r"https?:", target):
            name, _, anchor = target.partition("#")
            linked = (paper.parent / name) if name else paper
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked), target


def test_every_test_that_is_named_exists() -> None:
    names = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    code = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    found = 0
    for paper in PAPERS:
        text = paper.read_text()
        for name in re.findall(r"\btest_\w+\.py", text):
            found += 1
            assert name in names, (paper.name, name)
        known = r"(?:an?|another|at|one|the|what|who)_[a-z_]+"
        if paper.name == "attacks.md":  # every name there of four words or more is a test's
            known += r"|[a-z]+(?:_[a-z]+){3,}"
        for fragment in re.findall(rf"`({known})`", text):
            found += 1
            assert re.search(rf"^def test_\w*{fragment}", code, re.MULTILINE), (paper.name, fragment)
    assert found > 50


def test_every_file_that_is_named_exists() -> None:
    found = 0
    for paper in PAPERS:
        for name in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.(?:c|py|service|toml|yaml))`", paper.read_text()):
            found += 1
            assert any((base / name).exists() for base in (ROOT, ROOT / "securechat")), (paper.name, name)
    assert found > 5


def test_the_map_is_complete_and_current() -> None:
    assert the_map.MAP.read_text() == the_map.build(), "run: python3 scripts/map.py"


def test_the_page_of_the_full_screen_has_its_keys() -> None:
    page = (ROOT / "docs" / "full-screen.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `([a-z0-9+,]+)` \| (.*) \|$", page, re.MULTILINE)
    assert rows == [(name, key.keys, key.does) for name, key in KEYS.items()]
    told = " ".join(page.split())
    assert ", ".join(f"`{key}` {does}" for key, does in ON_A_MESSAGE.items()) in told
