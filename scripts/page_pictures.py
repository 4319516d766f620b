"""Make the pictures of the page, docs/page.png and docs/page-phone.png: a conversation that nobody has had.

    .venv/bin/python -m scripts.page_pictures

Taken by Chromium, with the fonts that are installed here.
"""

import shutil
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from securechat.client.message import Attached, Message, Quote, Reaction
from securechat.client.snapshot import ConversationSnapshot
from securechat.ui.web.app import Inbox, feed
from securechat.ui.web.screen import Screen
from securechat.ui.web.serving import Server
from tests.support.browser import Browser, browsers
from tests.support.scripted import ScriptedClient, conversation

ROOT: Final = Path(__file__).resolve().parents[1]

CLUB: Final = replace(
    conversation("#sailing", "invite", members=("alice", "bob", "carol", "dmitri")),
    heard=("bob", "carol", "dmitri"), topic="Saturday, if the wind lets us", owners=("bob",),
    trust=("accepted", "verified", "accepted", "unknown"),
)  # fmt: skip
NOW: Final = int(time.time() * 1000)
WAVES: Final = bytes(abs((each * 53) % 240 - 120) + 20 for each in range(48))


def talk(client: ScriptedClient) -> None:
    """Fill a client."""
    bob = replace(conversation("bob"), trust=("accepted", "verified"))
    carol = conversation("carol")
    for each in (conversation("#lobby", "open", members=("alice", "bob", "carol", "dmitri", "eve")), carol, bob, CLUB):
        client.add(each)
    client.add(conversation("dmitri", state="request"))
    lines: list[tuple[ConversationSnapshot, str, str, dict[str, Any]]] = [
        (carol, "carol", "See you on Thursday then", {}),
        (bob, "alice", "I have sent you the charts", {"recipients": 1, "delivered": 1, "read": 1}),
        (CLUB, "bob", "The forecast says four Beaufort from the south-west.", {"trust": "verified"}),
        (CLUB, "bob", "Who is in?", {"trust": "verified", "reactions": (Reaction("⛵", ("carol", "alice")),)}),
        (CLUB, "carol", "Me! I bring the coffee.", {}),
        (CLUB, "alice", "In. Can somebody fetch me at the station?", {"recipients": 3, "delivered": 3, "read": 2}),
        (CLUB, "dmitri", "I can, at nine.", {"trust": "unknown", "quote": Quote(6, "alice", text="In. Can somebody…")}),
        (CLUB, "carol", "voice note.ogg", {"kind": "file", "file": Attached(
            "voice note.ogg", "", "audio/ogg", "voice", 42_000, bytes(32), inline=False, milliseconds=14_000,
            waveform=WAVES)}),
        (CLUB, "alice", "الساعة التاسعة ممتاز 👍", {"recipients": 3, "delivered": 3}),
        (CLUB, "bob", "The harbour's rules: https://harbour.example/rules", {"trust": "verified"}),
    ]  # fmt: skip
    for number, (where, sender, text, others) in enumerate(lines, 1):
        at = NOW - (len(lines) - number) * 420_000
        about: dict[str, Any] = {"trust": "accepted", "time": at, "seq": number} | others
        client.said.append(Message(number, where.id, sender=sender, own=sender == "alice", text=text, **about))
    client.shown = len(lines)


def main() -> None:
    """Make them."""
    inbox: Inbox = SimpleQueue()
    client = ScriptedClient(inbox.put)
    talk(client)
    server, screen = Server(0, inbox.put), Screen(client)
    server.start()
    threading.Thread(target=feed, args=(screen, inbox, lambda: None), daemon=True).start()
    client.start()
    folder = tempfile.mkdtemp()
    with Browser(browsers()[0], Path(folder)) as browser:
        browser.go(server.address())
        browser.wait("document.querySelectorAll('.item').length")
        browser.value("[...document.querySelectorAll('.item')].find((e) => e.textContent.includes('#sailing')).click()")
        browser.wait("document.querySelectorAll('[data-row=line]').length === 8")
        browser.value("document.activeElement.blur()")
        browser.picture(ROOT / "docs" / "page.png", 1180, 760)
        browser.picture(ROOT / "docs" / "page-phone.png", 360, 740, dark=True)
    server.close()
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("page.png", "page-phone.png"):
        small(ROOT / "docs" / name)


def small(file: Path) -> None:
    """Write a picture again with 128 colours, which is what a page has."""
    from PIL import Image

    Image.open(file).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    main()
