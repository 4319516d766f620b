"""A page's server in this process, over a core that does what a test says."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Self

from securechat.client.core import ChatClient
from securechat.client.events import Ended, Event
from securechat.ui.web.app import Inbox, feed
from securechat.ui.web.screen import Screen
from securechat.ui.web.serving import Server
from tests.support.scripted import ScriptedClient


class Paged:
    """As `run_web` runs it, but for the terminal and for signals."""

    def __init__(
        self,
        client: Callable[[Callable[[Event], None]], ChatClient] = ScriptedClient,
        *,
        begin: Callable[[ChatClient], None] = lambda _: None,
    ) -> None:
        """`client`: makes the core of what takes its events; `begin`: is called before anything is shown."""
        self.inbox: Inbox = SimpleQueue()
        self.client = client(self.inbox.put)
        begin(self.client)
        self.server = Server(0, self.inbox.put)
        self.screen = Screen(self.client)
        self.ended: list[Ended | None] = []
        self._thread = threading.Thread(target=self._run, name="screen", daemon=True)

    def _run(self) -> None:
        self.ended.append(feed(self.screen, self.inbox, lambda: None))

    def __enter__(self) -> Self:
        self.server.start()
        self.client.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._thread.join(60)
        self.server.close()
        self.screen.close()
        assert not self._thread.is_alive()
