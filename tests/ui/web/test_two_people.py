"""Two people, each with `securechat web` and a page of their own in a real browser, over a real server."""

import base64
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.browser import Browser, browsers
from tests.support.live import LiveServer
from tests.support.server_process import server_environment

PASSWORD = "two people and a page"
SECONDS = 60
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAIAAACQkWg2AAAAFklEQVR4nGNkYPjPQApgIkn1qIZRDUQDAEoYAR4lqCb3AAAAAElFTkSuQmCC"


class Web:
    """Somebody's `securechat web`."""

    def __init__(self, server: LiveServer, name: str) -> None:
        (server.folder / "password").write_text(PASSWORD)
        (server.folder / "password").chmod(0o600)
        self.downloads = server.folder / name
        (self.downloads / "Downloads").mkdir(parents=True)
        home = {"HOME": str(self.downloads), "XDG_DATA_HOME": str(self.downloads / "data")}
        environment = server_environment(home)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.cheap", "web", "--user", name, "--server", f"localhost:{server.port}",
             "--ca", str(server.ca), "--register", "--password-file", str(server.folder / "password"), "--no-browser"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:"), self._process.communicate()
        arguments = Path(f"/proc/{self._process.pid}/cmdline")
        assert not arguments.exists() or self.address.partition("#")[2].encode() not in arguments.read_bytes()

    def end(self) -> str:
        """SIGTERM; what it has said of it."""
        self._process.send_signal(signal.SIGTERM)
        _, errors = self._process.communicate(timeout=SECONDS)
        assert self._process.returncode == -signal.SIGTERM
        assert "Traceback" not in errors
        return errors


class Tab:
    """One of the browser's tabs."""

    def __init__(self, browser: Browser, web: Web) -> None:
        self._browser = browser
        browser.go(web.address)
        self._session = browser._session
        self.browser.wait("document.querySelector('.list')")

    @property
    def browser(self) -> Browser:
        self._browser._session = self._session
        return self._browser

    def click(self, name: str) -> None:
        """Press what has this name."""
        which = (f"[...document.querySelectorAll('button')].find((each) => !each.disabled && "
                 f"(each.ariaLabel || each.innerText.trim()).startsWith({name!r}))")  # fmt: skip
        self.browser.wait(which)
        self.browser.value(f"{which}.click()")

    def say(self, text: str) -> None:
        self.browser.wait("document.querySelector('.composer textarea:not(:disabled)')")
        self.browser.value("document.querySelector('.composer textarea').focus()")
        self.browser.type(text)
        self.browser.press("Enter")

    def begin(self, name: str) -> None:
        self.click("New conversation")
        self.browser.wait("document.activeElement.tagName === 'INPUT'")
        self.browser.type(name)
        self.browser.press("Enter")

    def sees(self, text: str) -> None:
        self.browser.wait(f"document.body.innerText.includes({text!r})")


@pytest.mark.parametrize("program", browsers())
def test_two_people_chat_verify_share_a_file_search_and_come_back(program: str, tmp_path: Path) -> None:
    server = LiveServer(tmp_path)
    people = [Web(server, "alice"), Web(server, "bob")]
    try:
        with Browser(program, tmp_path / "browser") as browser:
            alice, bob = (Tab(browser, web) for web in people)
            _talk(server, alice, bob, tmp_path)
            assert browser.complaints == []
    finally:
        for web in people:
            web.end()
        server.stop()


def _talk(server: LiveServer, alice: Tab, bob: Tab, folder: Path) -> None:
    for each in (alice, bob):
        each.browser.wait("document.querySelector('[role=status]').textContent.includes('Connected.')")
    alice.begin("bob")
    bob.sees("asks to chat")
    bob.browser.wait("document.querySelector('.item')")  # a toast may have said it before
    bob.browser.value("document.querySelector('.item').click()")
    bob.click("Accept")
    alice.say("Hello Bob")
    bob.sees("Hello Bob")
    bob.say("Hello Alice 👋")
    alice.sees("Hello Alice 👋")

    # Each sees the number that the other one sees, and notes it.
    numbers = []
    for tab, whom in ((alice, "bob"), (bob, "alice")):
        tab.click("People")
        tab.click(f"Verify {whom}")
        tab.browser.wait("document.querySelectorAll('.digits li').length === 12")
        digits = "[...document.querySelectorAll('.digits li')].map((each) => each.textContent).join(' ')"
        numbers.append(tab.browser.value(digits))
        tab.click("They are the same")
        tab.browser.wait("document.querySelector('.head .sign.good')")
        tab.click("Close")
    assert numbers[0] == numbers[1]

    # A picture is dropped on the page, arrives, is shown, and saved.
    picture = folder / "sea.png"
    picture.write_bytes(base64.b64decode(PIXEL))
    data = {"items": [], "files": [str(picture)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        alice.browser.ask("Input.dispatchDragEvent", type=kind, x=700, y=400, data=data)
    bob.browser.wait("document.querySelector('.file')")
    bob.sees("sea.png")
    if bob.browser.value("!!document.querySelector('.picture')"):  # where the extra makes previews
        bob.browser.value("document.querySelector('.picture').click()")
        bob.browser.wait("document.querySelector('.picture img').naturalWidth === 16")
    bob.browser.value("document.querySelector('.line:has(.file)').focus()")
    bob.click("Save")
    saved = folder / "bob" / "Downloads" / "sea.png"
    bob.sees("sea.png")
    bob.sees("Downloads/sea.png")
    assert saved.read_bytes() == picture.read_bytes()

    # What the browser's microphone records arrives as a voice note, and plays.
    alice.click("Record a voice note")
    alice.browser.wait("document.querySelector('[role=timer]')?.textContent > '0:00'")
    alice.click("Send the voice note")
    bob.browser.wait("document.querySelector('.voice .wave rect')")
    bob.click("Play the voice note")
    bob.browser.wait("document.querySelector('audio')?.duration > 0.5")

    # A search leads to the line.
    bob.click("Search")
    bob.browser.wait("document.activeElement.type === 'search'")
    bob.browser.type("hello from:alice")
    bob.browser.press("Enter")
    bob.browser.wait("document.querySelectorAll('.results li').length === 1")
    bob.browser.value("document.querySelector('.results button').click()")
    bob.browser.wait("document.querySelector('.line.found')?.textContent.includes('Hello Bob')")

    # Without the server what is said waits, and goes out when it is back.
    server.kill()
    alice.sees("No connection")
    alice.say("Are you there?")
    alice.sees("waiting")
    server.start()
    bob.sees("Are you there?")

    # A tab that is loaded again goes on.
    bob.browser.reload()
    bob.sees("Are you there?")
