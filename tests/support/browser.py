"""A real browser without a window, driven over a pipe by its own protocol (Chrome DevTools Protocol)."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PATIENCE = 60.0
"""Seconds after which a test gives up waiting: a slow machine is not a failure."""


_KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), "Escape": (27, ""), "ArrowUp": (38, ""), "ArrowDown": (40, ""),
         " ": (32, " "), "Home": (36, ""), "End": (35, "")}  # fmt: skip
"""Keys that do something of their own: their codes, and what they type."""


_NAVIGATED = ("Inspected target navigated or closed", "Cannot find default execution context",
              "Execution context was destroyed.")  # fmt: skip


class NavigatedError(Exception):
    """The page that was asked gives way to another one, which can be asked soon."""


def browsers() -> list[str]:
    """Chromium, where it is installed."""
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    return [each for each in found if each is not None][:1]


class Browser:
    """One page in a browser."""

    def __init__(self, program: str, folder: Path) -> None:
        """`folder`: for what it keeps."""
        given, self._to = os.pipe()
        self._from, answers = os.pipe()
        ends = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (given, answers)]

        def as_it_wants() -> None:  # it reads from 3, and writes to 4
            for place, end in zip((3, 4), ends, strict=True):
                os.dup2(end, place)

        self._process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
             f"--user-data-dir={folder}", "--remote-debugging-pipe", "--window-size=1400,900", "about:blank"],
            preexec_fn=as_it_wants, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for each in (given, answers, *ends):
            os.close(each)
        self._buffer = b""
        self._number = 0
        self._session = ""
        self.complaints: list[str] = []
        """What the page threw, and what the browser refused to it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    @property
    def pid(self) -> int:
        """Of the process that has started the others."""
        return self._process.pid

    def open(self, page: Path) -> None:
        """Show a page, and wait until its script has run."""
        self.go(page.as_uri())
        self.wait(f"location.href + document.readyState === {json.dumps(page.as_uri() + 'complete')}")

    def go(self, address: str) -> None:
        """Begin to show a page in a new tab, to which all goes from then on."""
        self._session = ""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for what in ("Runtime", "Log", "Page"):
            self.ask(f"{what}.enable")
        self.ask("Page.navigate", url=address)

    def value(self, expression: str) -> Any:
        """What an expression is on the page."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression on the page is true."""
        deadline = time.monotonic() + PATIENCE
        while not self._is(expression):
            assert time.monotonic() < deadline, f"never: {expression}\n{self.value('document.body.innerText')}"
            time.sleep(0.02)

    def _is(self, expression: str) -> bool:
        try:
            return bool(self.value(f"!!({expression})"))
        except NavigatedError:
            return False

    def reload(self) -> None:
        """Load the page again; what was there before is gone on return."""
        self.value("window.isOld = true")
        self.ask("Page.reload")
        self.wait("!window.isOld")

    def result(self, expression: str) -> Any:
        """What a promise of the page comes to."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key; the page has seen it on return."""
        code, text = _KEYS.get(key, (0, key if len(key) == 1 else ""))
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if kind == "keyDown" and text else {}
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                     modifiers=8 if shift else 0, **typed)  # fmt: skip

    def type(self, text: str) -> None:
        """Type a text where the cursor is."""
        self.ask("Input.insertText", text=text)

    def picture(self, file: Path, width: int, height: int, *, dark: bool = False) -> None:
        """Write what is seen in a window of this size into a PNG file."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.result("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        file.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give an order, and return what comes of it."""
        self._number += 1
        order: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            order["sessionId"] = self._session
        os.write(self._to, json.dumps(order).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self._number:
                if said.get("error", {}).get("message", "") in _NAVIGATED:
                    raise NavigatedError
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result
            if said.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(json.dumps(said["params"])[:500])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._from], [], [], PATIENCE)[0], "the browser says nothing"
            data = os.read(self._from, 1 << 16)
            assert data, "the browser has gone"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        said: dict[str, Any] = json.loads(line)
        return said
