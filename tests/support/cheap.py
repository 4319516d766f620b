"""Argon2id at its least, for tests that are not about what a guess costs.

It is for login secrets, server hashes, vault keys, recovery files and exports.

    python -m tests.support.cheap COMMAND...

is the program `securechat` with it, a server with the points of `kill_points`, too. A client's secret then is another
one, so all programs of an account have to agree.
"""

import operator
import sys
from collections.abc import Callable
from typing import Any

from argon2 import Parameters, Type

from tests.support.kill_points import watch_store

Setter = Callable[[Any, str, Any], None]

CHEAP_HASH = Parameters(Type.ID, version=19, salt_len=16, hash_len=32, memory_cost=8, time_cost=1, parallelism=1)
"""For the server's hashes: 8 KiB a lane is the least that Argon2 takes."""


def make_server_cheap(set_item: Setter = operator.setitem) -> None:
    """Let this process's servers hash cheaply."""
    from securechat.server.accounts.passwords import PasswordWorkers
    from securechat.server.app import Server
    from securechat.server.parts import ServerParts

    set_item(PasswordWorkers.__init__.__kwdefaults__, "cost", CHEAP_HASH)
    set_item(Server.__init__.__kwdefaults__, "parts", ServerParts(password_cost=CHEAP_HASH))


def make_clients_cheap(set_item: Setter = operator.setitem, set_attribute: Setter = setattr) -> None:
    """Let this process's clients derive their secrets, and the keys of new vaults, cheaply."""
    from securechat.client import archive, password, recovery_file
    from securechat.client.vault.vault import Vault
    from securechat.client.wrapping import Cost

    for name, value in (("MEMORY_KIB", 8), ("PASSES", 1), ("LANES", 1)):
        set_attribute(password, name, value)
    set_item(archive.write_export.__kwdefaults__, "cost", Cost(time=1, memory=8, lanes=1))
    set_item(recovery_file.seal_recovery.__kwdefaults__, "cost", Cost(time=1, memory=8, lanes=1))
    set_item(vars(Vault)["open"].__func__.__kwdefaults__, "cost", Cost(time=1, memory=8, lanes=1))


def make_stocks_small(set_attribute: Setter) -> None:
    """Let this process's clients keep few key packages at the server: each takes a millisecond to make and to check."""
    from securechat.client import device, publishing
    from securechat.client.conversations import stock

    for module in (device, publishing, stock):
        set_attribute(module, "KEY_PACKAGE_STOCK", 4)
    set_attribute(stock, "KEY_PACKAGE_LOW", 2)


def verify_each_signature_once(set_attribute: Setter) -> None:
    """Let everybody in this process believe a signature that fitted the same message and key before.

    For scenes whose people all verify the same leaves: nobody takes anything that they would not take otherwise.
    """
    from securechat.mls.crypto.suite import _EdDsa

    verify, fitting = _EdDsa.verify, set[tuple[bytes, bytes, bytes]]()

    def verify_once(scheme: _EdDsa, public_key: bytes, message: bytes, signature: bytes) -> None:
        what = (bytes(public_key), bytes(message), bytes(signature))
        if what not in fitting:
            verify(scheme, public_key, message, signature)
            fitting.add(what)

    set_attribute(_EdDsa, "verify", verify_once)


if __name__ == "__main__":
    if sys.argv[1:2] == ["server"]:
        make_server_cheap()
        watch_store()
    else:
        make_clients_cheap()
    from securechat.cli import main

    main()
