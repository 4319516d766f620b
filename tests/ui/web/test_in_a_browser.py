"""The page in a real browser: what everybody sees, what nobody can make it do, and what works without a mouse."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from securechat.client import commands
from securechat.client.core import ChatClient
from securechat.client.events import Event, Received
from securechat.ui.view.lines import became_of, what_it_is
from securechat.ui.view.rows import Day, Line, Moving, Notice, Row, key_of
from securechat.ui.web.border import SITE
from tests.support.browser import Browser, browsers
from tests.support.paged import Paged
from tests.support.scripted import ScriptedClient, conversation
from tests.support.told import CLUB, HOSTILE, ROWS, begin, happen, said
from tests.support.waiting import wait_until

AXE = SITE.parent / "page" / "node_modules" / "axe-core" / "axe.min.js"
in_each = pytest.mark.parametrize("program", browsers())

READ_ROWS = """
[...document.querySelectorAll('.timeline [data-row]')].map((row) => {
  const text = (where) => row.querySelector(where)?.textContent ?? ''
  return {
    key: row.dataset.key, row: row.dataset.row, date: row.dataset.date ?? '',
    sender: text('.sender'), own: row.classList.contains('own'), mentioned: row.classList.contains('mentioned'),
    sign: text('.bubble .sign > [aria-hidden]'), said: row.dataset.row === 'notice' ? row.textContent : text('.said'),
    problem: text('.problem'), edited: !!row.querySelector('.meta') && text('.meta').includes('edited'),
    fate: text('.fate'), answers: text('.answers'), file: text('.file b'),
    what: text('.file small') || text('.voice > span'), moving: row.querySelector('progress')?.value ?? 0,
    under: [...row.querySelectorAll('.reactions button')].map((each) => each.title + ': ' + each.querySelector('bdi').textContent),
  }
})
"""  # noqa: E501  # a script


def seen(row: Row) -> dict[str, Any]:
    """What the page shows of a row."""
    shown: dict[str, Any] = {
        "key": key_of(row), "row": type(row).__name__.lower(), "date": "", "sender": "", "own": False,
        "mentioned": False, "sign": "", "said": "", "problem": "", "edited": False, "fate": "", "answers": "",
        "file": "", "what": "", "moving": 0, "under": [],
    }  # fmt: skip
    match row:
        case Day(date=date):
            return shown | {"date": date.isoformat()}
        case Notice(text=text):
            return shown | {"said": text}
        case Moving(done=done):
            return shown | {"moving": done}
        case Line():
            text = f"deleted by {row.deleted_by}" if row.deleted_by else row.text
            text = row.file.description if row.file is not None else text
            sign = {"verified": "✓", "changed": "(other key!)"}.get(row.trust, "") if not row.own else ""
            answers = f"{row.answers.sender} {row.answers.text}" if row.answers is not None else ""
            return shown | {
                "sender": "You" if row.own else row.sender, "own": row.own, "mentioned": row.mentioned, "sign": sign,
                "said": f"{row.sender} {text}" if row.action else text, "problem": row.problem,
                "edited": bool(row.edited), "fate": became_of(row) if row.own else "", "answers": answers,
                "file": row.file.name if row.file is not None and row.file.disposition != "voice" else "",
                "what": what_it_is(row.file) if row.file is not None else "",
                "under": [f"{', '.join(each.accounts)}: {each.text}" for each in row.reactions],
            }  # fmt: skip
    return shown


@pytest.fixture
def page() -> Iterator[Paged]:
    def start(client: ChatClient) -> None:
        assert isinstance(client, ScriptedClient)
        begin(client)
        client.add(conversation("bob"))

    with Paged(begin=start) as running:
        yield running


def scripted(page: Paged) -> ScriptedClient:
    assert isinstance(page.client, ScriptedClient)
    return page.client


def tell(page: Paged, *events: Event) -> None:
    for event in events:
        scripted(page).tell(event)


def open_club(browser: Browser, page: Paged) -> None:
    browser.go(page.server.address())
    browser.wait("document.querySelectorAll('.item').length")
    assert browser.value("location.href + history.state").endswith("/null")  # no key, also not for who goes back
    browser.value("[...document.querySelectorAll('.item')].find((each) => each.textContent.includes('#club')).click()")
    browser.wait("document.querySelector('.composer textarea')")


@in_each
def test_it_shows_the_rows_that_every_face_shows(program: str, page: Paged, tmp_path: Path) -> None:
    with Browser(program, tmp_path / "browser") as browser:
        open_club(browser, page)
        for event in happen(scripted(page)):
            tell(page, event)
        browser.wait("document.querySelector('progress')")
        wanted = [seen(row) for row in ROWS]
        shown = browser.value(READ_ROWS)
        assert [each["key"] for each in shown] == [each["key"] for each in wanted]
        assert shown == wanted

        # The same page loaded again comes back by what the tab has, and shows the same.
        browser.reload()
        browser.wait("document.querySelector('progress')")
        assert browser.value(READ_ROWS) == wanted
        assert browser.complaints == []


HOSTILE_TEXTS = (
    HOSTILE,
    "<img src=x onerror=\"fetch('/stolen')\"><script>window.stolen=1</script><style>body{display:none}</style>",
    "javascript:alert(1) data:text/html,<script>alert(1)</script> http://[::1]/ https://evil.example/?q='><b>",
    "\u202e\u2066gnp.exe\u0000\x1b]0;title\x07" + "a\u0300" * 3000,
    "👩‍👩‍👧‍👦🏳️‍🌈 مرحبا שלום <a href='https://evil.example' target=_top>click</a>",
    "W" * 40_000,
)


@in_each
def test_hostile_texts_stay_texts(program: str, page: Paged, tmp_path: Path) -> None:
    with Browser(program, tmp_path / "browser") as browser:
        open_club(browser, page)
        kinds = "[...new Set([...document.querySelectorAll('.said *, .answers *')].map((each) => each.tagName))].sort()"
        requests = "performance.getEntriesByType('resource').map((each) => each.name).sort()"
        before = browser.value(requests)
        last = 0
        for text in HOSTILE_TEXTS:
            scripted(page).receive(CLUB, text[:60].replace("\0", ""), text, seq=len(scripted(page).said) + 1)
            last = scripted(page).said[-1].local_id
        browser.wait(f"document.querySelector('[data-key=line-{last}]')")
        assert browser.value(kinds) in (["A"], ["A", "I"])
        each_link = "[each.href, each.target, each.rel]"
        links = browser.value(f"[...document.querySelectorAll('.said a')].map((each) => {each_link})")
        assert {each[0] for each in links} == {"https://evil.example/", "http://[::1]/"}
        assert {tuple(each[1:]) for each in links} == {("_blank", "noreferrer noopener")}
        assert browser.value("window.stolen === undefined && document.scripts.length === 1")
        assert browser.value("getComputedStyle(document.body).display") == "block"
        assert browser.value(requests) == before  # nothing was asked of anybody
        assert browser.value("document.documentElement.scrollWidth <= innerWidth")
        assert browser.complaints == []

        # The twin: what would be refused to a text is refused to a script, too, by the browser itself.
        assert browser.result(
            "new Promise((done) => {"
            "document.addEventListener('securitypolicyviolation', (event) => done(event.violatedDirective));"
            "const made = document.createElement('img'); made.src = 'https://evil.example/x.png' })"
        ) == "img-src"  # fmt: skip
        assert "TypeError" in browser.result(
            "(async () => { try { document.body.innerHTML = '<b>no</b>'; return '' } catch (no) { return no.name } })()"
        )


@in_each
def test_it_works_by_keyboard_alone_and_axe_finds_nothing(program: str, page: Paged, tmp_path: Path) -> None:
    focus = "(document.activeElement.ariaLabel || document.activeElement.innerText || '').split('\\n')[0]"

    with Browser(program, tmp_path / "browser") as browser:

        def reach(name: str, *, shift: bool = False) -> None:
            for _ in range(40):
                if name in browser.value(focus):
                    return
                browser.press("Tab", shift=shift)
            pytest.fail(f"{name} is not reached: {browser.value(focus)}")

        def check(what: str) -> None:
            for dark in ("light", "dark"):
                browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": dark}])
                found = browser.result(
                    "axe.run({ resultTypes: ['violations'] }).then((found) => found.violations.map("
                    "(each) => [each.id, each.nodes.map((node) => node.html.slice(0, 200))]))"
                )
                assert found == [], (what, dark)

        browser.go(page.server.address())
        browser.wait("document.querySelectorAll('.item').length")
        if not AXE.is_file():
            pytest.skip("scripts/setup interop brings axe")
        browser.value(AXE.read_text())
        check("the list")
        reach("#")
        browser.press("Enter")
        browser.wait("document.activeElement.tagName === 'TEXTAREA'")
        for event in happen(scripted(page)):
            tell(page, event)
        browser.wait("document.querySelector('progress')")
        check("a conversation")

        browser.type("Hello")
        browser.press("Enter", shift=True)
        browser.type("from the keyboard")
        browser.press("Enter")
        wanted = commands.Send(CLUB.id, "Hello\nfrom the keyboard")
        wait_until(lambda: wanted in scripted(page).calls)

        browser.type("/jo")
        browser.wait("document.querySelector('[role=option]')")
        check("completions")
        browser.press("Escape")
        for _ in range(3):
            browser.press("Backspace")
        browser.value("document.querySelector('.composer textarea').select()")
        browser.type("/help")
        browser.press("Enter")
        browser.wait("document.querySelector('.answer')")
        assert "/join" in browser.value("document.querySelector('.answer pre').textContent")
        check("an answer")

        browser.press("Tab", shift=True)
        for _ in range(12):
            if browser.value("document.activeElement.dataset.row === 'line'"):
                break
            browser.press("Tab", shift=True)
        browser.press("Home")
        browser.wait("document.activeElement.dataset.key === 'line-1'")
        browser.press("r")
        browser.wait("document.activeElement.tagName === 'TEXTAREA'")
        browser.type("Yes")
        browser.press("Enter")
        wait_until(lambda: commands.Reply(1, "Yes") in scripted(page).calls)

        reach("People", shift=True)
        browser.press("Enter")
        browser.wait("document.querySelector('.side')")
        check("people")
        reach("Verify bob")
        browser.press("Enter")
        wait_until(lambda: commands.ShowSafetyNumber("bob") in scripted(page).calls)
        browser.wait("document.querySelector('.code')")
        check("a safety number")
        browser.press("Escape")
        browser.wait("!document.querySelector('.side')")

        tell(page, Received(said(40, "carol", "Are you there?", seq=40)))
        browser.wait("document.querySelector('[role=log]').textContent === 'carol: Are you there?'")
        assert browser.complaints == []
