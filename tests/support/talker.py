"""A client process for tests that kill it: commands as JSON lines on stdin, durable results as JSON lines on stdout.

    talker.py VAULT NAME HOST PORT CA
    ["join", "#lobby"]   ["open", "bob"]   ["say", "#lobby", "text"]   ["flood", "#lobby", "text", 1000]
    ["share", "bob", FILE]   ["save", "alice", FOLDER]   ["link", "bob"]   ["rotate"]   ["close"]
    -> {"queued": "text"} once it is in the vault; {"event": "Ready"} and so on as they come

A flood is numbered texts, as fast as they are delivered. From then on messages are only counted: {"event": "Count",
"detail": "1000"} for each thousand of our own that is delivered.
"""

import json
import sys
import threading
from pathlib import Path

from securechat.client import commands, events
from securechat.client.core import ChatClient
from securechat.client.parts import Parts
from securechat.client.password_source import PasswordSource
from securechat.client.settings import ClientSettings
from securechat.client.vault.vault import Vault
from tests.support.cheap import make_clients_cheap
from tests.support.kill_points import watch_vault
from tests.support.networks import Elsewhere

PASSWORD = "correct horse"
WINDOW = 256
"""Messages of a flood that are on their way at once."""
TOLD = 1000
"""Deliveries of a flood per line of output."""


def main() -> None:
    """Run until told to close."""
    path, name, host, port, ca = sys.argv[1:]
    lock, ended, flooding = threading.Lock(), threading.Event(), threading.Event()
    window, count = threading.Semaphore(WINDOW), 0

    def tell(**what: object) -> None:
        with lock:
            print(json.dumps(what), flush=True)  # noqa: T201  # this is how it talks to the test

    def on_event(event: events.Event) -> None:
        nonlocal count
        if flooding.is_set() and isinstance(event, events.Received | events.Delivered):
            if isinstance(event, events.Delivered) and event.message.text.startswith("flood"):
                window.release()
                count += 1
                if count % TOLD == 0:
                    tell(event="Count", detail=str(count))
            if event.message.text.startswith("flood"):
                return
        if isinstance(event, events.ConversationChanged) and event.change == "request":
            client.do(commands.Accept(event.conversation.id))  # it talks with everybody
        if isinstance(event, events.Invited):
            client.do(commands.AcceptInvitation(event.invitation.conversation, event.invitation.question))
        if isinstance(event, events.Said):
            if not event.message.text.startswith("flood"):
                conversation = client.conversation(event.message.conversation)
                tell(queued=[conversation.name if conversation else "", event.message.text])
            return
        detail = getattr(event, "text", "") or getattr(event, "reason", "") or getattr(event, "change", "")
        if isinstance(event, events.Received | events.Delivered):
            detail = event.message.text
        if isinstance(event, events.Ended):
            detail = repr(event.error)
            ended.set()
        if isinstance(event, events.Transferred):
            detail = f"{event.transfer.kind} {event.transfer.stage} {event.transfer.done}"
        if isinstance(event, events.LinkChanged):
            detail = event.state
        tell(event=type(event).__name__, detail=str(detail))

    def flood(where: str, text: str, number: int) -> None:
        conversation = client.find(where)
        if conversation is not None:
            for each in range(number):
                window.acquire()
                client.do(commands.Send(conversation.id, f"flood {text} {each}"))

    make_clients_cheap()
    watch_vault()
    vault = Vault.open(Path(path), name, PasswordSource.typed(PASSWORD))
    settings = ClientSettings(host, int(port), ca_file=Path(ca), register=True)
    client = ChatClient(settings, vault, on_event=on_event, parts=Parts(network=Elsewhere()))
    client.start()
    for line in sys.stdin:
        match json.loads(line):
            case ["join", room]:
                client.do(commands.JoinRoom(room))
            case ["open", account]:
                client.do(commands.OpenDirect(account, ask=False))
            case ["say", where, text]:
                conversation = client.find(where)
                if conversation is not None:
                    client.do(commands.Send(conversation.id, text))
            case ["flood", where, text, number]:
                flooding.set()
                threading.Thread(target=flood, args=(where, text, number), daemon=True).start()
            case ["share", where, path]:
                conversation = client.find(where)
                if conversation is not None:
                    client.do(commands.SendFile(conversation.id, path))
            case ["save", where, folder]:
                conversation = client.find(where)
                if conversation is not None:
                    lines = [each for each in client.history(conversation.id, 100) if each.file is not None]
                    client.do(commands.SaveFile(lines[-1].local_id, folder))
            case ["link", where]:
                conversation = client.find(where)
                if conversation is not None:
                    client.do(commands.Link(conversation.id))
            case ["rotate"]:
                client.do(commands.Rotate())
                client.do(commands.Unlock(PASSWORD))
            case ["close"]:
                break
    client.close()
    ended.wait(60)
    vault.close()


if __name__ == "__main__":
    main()
