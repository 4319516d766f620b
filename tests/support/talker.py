"""A client process for tests that kill it: commands as JSON lines on stdin, what is durable as JSON lines on stdout.

    talker.py VAULT NAME HOST PORT CA
    ["join", "#lobby"]   ["open", "bob"]   ["say", "#lobby", "text"]   ["close"]
    -> {"queued": "text"} once it is in the vault; {"event": "Ready"} and so on as they come
"""

import json
import sys
import threading
from pathlib import Path

from securechat.client import events
from securechat.client.core import ChatClient
from securechat.client.key_file import Cost
from securechat.client.settings import ClientSettings
from securechat.client.vault import Vault

PASSWORD = "correct horse"


def main() -> None:
    """Run until told to close."""
    path, name, host, port, ca = sys.argv[1:]
    lock, ended = threading.Lock(), threading.Event()

    def tell(**what: object) -> None:
        with lock:
            print(json.dumps(what), flush=True)  # noqa: T201  # this is how it talks to the test

    def on_event(event: events.Event) -> None:
        detail = getattr(event, "text", "") or getattr(event, "reason", "") or getattr(event, "change", "")
        if isinstance(event, events.Received | events.Delivered):
            detail = event.message.text
        if isinstance(event, events.Ended):
            detail = repr(event.error)
            ended.set()
        tell(event=type(event).__name__, detail=str(detail))

    vault = Vault.open(Path(path), name, PASSWORD, cost=Cost(time=1, memory=8, lanes=1))
    settings = ClientSettings(host, int(port), ca_file=Path(ca), password=PASSWORD, register=True)
    client = ChatClient(settings, vault, on_event=on_event)
    client.start()
    for line in sys.stdin:
        match json.loads(line):
            case ["join", room]:
                client.join_room(room)
            case ["open", account]:
                client.open_direct(account, ask=False)
            case ["say", where, text]:
                conversation = client.find(where)
                if conversation is not None:
                    client.send(conversation.id, text)
                    tell(queued=[where, text])
            case ["close"]:
                break
    client.close()
    ended.wait(30)
    vault.close()


if __name__ == "__main__":
    main()
