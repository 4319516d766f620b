"""The real plain client on this process's terminal, with a scripted core that takes orders.

    python -m tests.support.plain_client FD

reads one order a line from the descriptor: `say WHO TEXT` (Python escapes allowed), `interrupt` (Ctrl-C, which the
system gives to another thread than the main one) or `end`.
"""

import os
import signal
import sys
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread, current_thread, get_ident, main_thread
from typing import Any

from securechat.client.events import Ended
from securechat.errors import RefusedError
from securechat.ui.exit_codes import ExitCode
from securechat.ui.plain.app import Inbox, run_plain
from tests.support.scripted import ScriptedClient, conversation


def obey(client: ScriptedClient, fd: int) -> None:
    with os.fdopen(fd) as orders:
        for order in orders:
            if order.startswith("say "):
                _, who, text = order.rstrip("\n").split(" ", 2)
                client.receive(client.add(conversation(who)), who, text.encode().decode("unicode_escape"))
            elif order == "interrupt\n":
                signal.pthread_kill(get_ident(), signal.SIGINT)
            else:
                client.tell(Ended(RefusedError("login-refused", "Another device has logged in.")))


def let_one_thread_draw() -> None:
    """End the process if another thread than the one that edits the line draws: that one may be about to."""
    from prompt_toolkit.application import Application
    from prompt_toolkit.output.vt100 import Vt100_Output

    def checked(act: Callable[..., object]) -> Callable[..., object]:
        def only_here(*arguments: Any) -> object:
            if current_thread() is not main_thread():
                os._exit(70)
            return act(*arguments)

        return only_here

    for owner, name in ((Application, "invalidate"), (Vt100_Output, "flush")):
        setattr(owner, name, checked(getattr(owner, name)))


def main() -> int:
    if sys.stdin.isatty():
        let_one_thread_draw()
    inbox: Inbox = SimpleQueue()
    client = ScriptedClient(inbox.put)
    client.add(conversation("bob"))
    if len(sys.argv) > 1:
        Thread(target=obey, args=(client, int(sys.argv[1])), daemon=True).start()
    try:
        return run_plain(client, inbox)
    except BrokenPipeError:  # as the command line takes it: nobody reads, and nothing is to be said of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILURE


if __name__ == "__main__":
    sys.exit(main())
