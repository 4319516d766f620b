"""The core of the program that has a vault open: others reach it by its door."""

import threading
from collections.abc import Callable

from securechat.client.core import ChatClient
from securechat.client.events import Event
from securechat.client.settings import ClientSettings
from securechat.client.vault.vault import Vault
from securechat.ui.rpc.door import Door


class OwnedClient(ChatClient):
    """A core with a door, where the system allows one."""

    def __init__(self, settings: ClientSettings, vault: Vault, *, on_event: Callable[[Event], None]) -> None:
        """As `ChatClient`. The door is open from now on."""
        self._door: Door | None = None
        super().__init__(settings, vault, on_event=lambda event: self._tell(on_event, event))
        try:
            self._door = Door(vault.path, vault.door_key())
        except OSError:  # whoever would come in by it waits until this program has ended
            return
        self._door.serve(self)

    def close(self) -> None:
        """Answer what others have asked for, and end, without keeping the caller waiting. `Ended(None)` follows."""
        threading.Thread(target=self._close_in_order, name="door-closing", daemon=True).start()

    def end(self, seconds: float) -> bool:
        """End, and wait at most so long until nothing works with the vault any more. Return whether that is so."""
        self.close_door()
        super().close()
        return self._runner.wait_for_end(seconds)

    def close_door(self) -> None:
        """Let nobody in any more. What others have asked for is waited for, where `close` has not done so."""
        if self._door is not None:
            self._door.close()

    def _close_in_order(self) -> None:
        self.close_door()
        super().close()

    def _tell(self, on_event: Callable[[Event], None], event: Event) -> None:
        on_event(event)
        if self._door is not None:
            self._door.event(event)
