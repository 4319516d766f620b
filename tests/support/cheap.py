"""Argon2id at its least, for tests that are not about what a guess costs: login secrets, server hashes, vault keys.

    python -m tests.support.cheap COMMAND...

is the program `securechat` with it. A client's secret then is another one, so all programs of an account have to agree.
"""

import operator
import sys
from collections.abc import Callable
from typing import Any

from argon2 import Parameters, Type

Setter = Callable[[Any, str, Any], None]

CHEAP_HASH = Parameters(Type.ID, version=19, salt_len=16, hash_len=32, memory_cost=8, time_cost=1, parallelism=1)
"""For the server's hashes: 8 KiB a lane is the least that Argon2 takes."""


def make_server_cheap(set_item: Setter = operator.setitem) -> None:
    """Let this process's servers hash cheaply."""
    from securechat.server.accounts.passwords import PasswordWorkers

    set_item(PasswordWorkers.__init__.__kwdefaults__, "cost", CHEAP_HASH)


def make_clients_cheap(set_item: Setter = operator.setitem, set_attribute: Setter = setattr) -> None:
    """Let this process's clients derive their secrets, and the keys of new vaults, cheaply."""
    from securechat.client import password
    from securechat.client.vault.database import Database
    from securechat.client.vault.key_file import Cost

    for name, value in (("MEMORY_KIB", 8), ("PASSES", 1), ("LANES", 1)):
        set_attribute(password, name, value)
    set_item(vars(Database)["open"].__func__.__kwdefaults__, "cost", Cost(time=1, memory=8, lanes=1))


if __name__ == "__main__":
    (make_server_cheap if sys.argv[1:2] == ["server"] else make_clients_cheap)()
    from securechat.cli import main

    main()
