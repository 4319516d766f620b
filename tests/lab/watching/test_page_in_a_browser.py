"""The page as a lecturer uses it, in a real browser: keys choose moments and layers, and nothing of it is markup."""

from pathlib import Path

import pytest

from securechat_lab.watching.page import write_page
from securechat_lab.watching.story import Story
from tests.lab.watching.test_page import nasty
from tests.support.browser import Browser, browsers

in_each = pytest.mark.parametrize("program", browsers())

CHOSEN = "[...document.querySelectorAll('#rows tr')].findIndex((each) => each.ariaSelected === 'true')"
ROWS = "document.querySelectorAll('#rows tr').length"
VISIBLE = "document.querySelectorAll('#rows tr:not([hidden])').length"


@in_each
def test_keys_choose_moments_and_layers(program: str, story: Story, tmp_path: Path) -> None:
    write_page(story, tmp_path / "page.html")
    with Browser(program, tmp_path / "browser") as browser:
        browser.open(tmp_path / "page.html")
        rows = browser.value(ROWS)
        assert rows > 10
        browser.press("End")
        assert browser.value(CHOSEN) == rows - 1
        headings = set()
        for place in range(5):
            browser.press("ArrowDown" if place else "Home")
            assert browser.value(CHOSEN) == place
            headings.add(browser.value("document.getElementById('heading').textContent"))
        assert len(headings) == 5
        browser.press("u")
        assert browser.value(VISIBLE) == 5
        browser.press("u")
        browser.press("a")
        assert browser.value(ROWS) > rows
        text = "[...document.querySelectorAll('#rows tr')].findIndex((each) => each.textContent.includes('nine'))"
        browser.ask("Runtime.evaluate", expression=f"document.querySelectorAll('#rows tr')[{text}].click()")
        layers = set()
        for _ in range(6):
            layers.add(browser.value("document.querySelector('#inside h3').textContent"))
            browser.press("ArrowRight")
        assert len(layers) == 6
        assert browser.complaints == []


@in_each
def test_what_is_said_in_a_recording_stays_text(program: str, tmp_path: Path) -> None:
    write_page(nasty(), tmp_path / "page.html")
    with Browser(program, tmp_path / "browser") as browser:
        browser.open(tmp_path / "page.html")
        assert "<b>a problem</b>" in browser.value("document.getElementById('problems').textContent")
        assert browser.value("document.querySelectorAll('#problems b, #rows script, #rows img, #rows b').length") == 0
        assert browser.value("document.scripts.length") == 2
        assert browser.complaints == []
