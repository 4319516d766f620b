"""TCP to a host that may have several addresses, of which some may be dead. RFC 8305 ("happy eyeballs"), section 5.

The next address is tried while earlier ones have not answered yet, and the first connection wins. So an address that
swallows everything, as IPv6 does behind many a router, costs ATTEMPT_DELAY and not the whole of the deadline.
"""

import errno
import os
import selectors
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any, Final, TypeAlias

from securechat.transport.deadline import Deadline

ATTEMPT_DELAY: Final = 0.25
"""Seconds that an address has for itself, before the next is tried beside it: what RFC 8305, section 5, recommends."""

Address: TypeAlias = tuple[int, int, int, Any]
"""Family, type, protocol and address of a socket."""

_PENDING: Final = {0, errno.EINPROGRESS, errno.EWOULDBLOCK}
"""What a socket that does not wait says of a connection that is under way."""


def connect(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Return a connected socket, which does not wait. Raises OSError: of several failures, the last.

    The names are resolved by the system, whose patience is its own.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return race([(family, kind, protocol, address) for family, kind, protocol, _, address in found], deadline)


def race(addresses: Sequence[Address], deadline: Deadline) -> socket.socket:
    """Return the first connection to one of these addresses, not waiting. Raises OSError, as `connect`.

    The order is the system's preference (RFC 6724), but the families take turns: if the network has no IPv6, that costs
    one delay, not one for each of a host's addresses.
    """
    waiting = deque(_alternate(addresses))
    failure: OSError = TimeoutError("no address")
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or selector.get_map():
                if waiting:
                    try:
                        _begin(waiting.popleft(), selector)
                    except OSError as error:
                        failure = error
                        continue
                left = deadline.remaining()
                for key, _ in selector.select(min(left, ATTEMPT_DELAY) if waiting else left):
                    link: socket.socket = key.data
                    selector.unregister(link)
                    number = link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not number:
                        return link
                    link.close()
                    failure = OSError(number, os.strerror(number))
        finally:
            for key in selector.get_map().values():
                key.data.close()
    raise failure


def _begin(address: Address, selector: selectors.BaseSelector) -> None:
    """Begin to connect, and let the selector see the end of that. Raises OSError."""
    family, kind, protocol, where = address
    link = socket.socket(family, kind, protocol)
    try:
        link.settimeout(0)
        number = link.connect_ex(where)
        if number not in _PENDING:
            raise OSError(number, os.strerror(number))
        selector.register(link, selectors.EVENT_WRITE, data=link)
    except BaseException:
        link.close()
        raise


def _alternate(addresses: Iterable[Address]) -> list[Address]:
    """Let the families take turns, in the order in which each comes first."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    return [address for address in chain.from_iterable(zip_longest(*families.values())) if address is not None]
