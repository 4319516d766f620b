"""Connections that are not logged in: their number is bounded, and the oldest gives way."""

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

MAX_NEWCOMERS = 2048
"""Connections at once that are not logged in: about 100 MB of TLS states."""

MAX_NEWCOMERS_PER_ADDRESS = 1024
"""The same from one address: a site behind one gateway fits in, and one address cannot fill the server alone."""

Newcomer = TypeVar("Newcomer")


class Newcomers(Generic[Newcomer]):
    """Connections that are not logged in. May be used from any thread.

    If there is no room for another one, the oldest gives way: of the same address if that has used its share, otherwise
    of the address that has most. A client that logs in at once has done so long before it is the oldest, however many
    are silent.
    """

    def __init__(self, limit: int = MAX_NEWCOMERS, limit_per_address: int = MAX_NEWCOMERS_PER_ADDRESS) -> None:
        self._limit = limit
        self._limit_per_address = limit_per_address
        self._total = 0
        self._by_address: dict[str, OrderedDict[Newcomer, None]] = {}
        self._lock = threading.Lock()  # protects the two above

    def __len__(self) -> int:
        """How many there are."""
        return self._total

    def enter(self, address: str, newcomer: Newcomer) -> Newcomer | None:
        """Count one more. Return the one that has to give way, if any; it is not counted any more."""
        with self._lock:
            mine = self._by_address.setdefault(address, OrderedDict())
            leaving = None
            if len(mine) >= self._limit_per_address:
                leaving = self._remove_oldest(address)
            elif self._total >= self._limit:
                leaving = self._remove_oldest(max(self._by_address, key=lambda each: len(self._by_address[each])))
            self._by_address.setdefault(address, mine)[newcomer] = None
            self._total += 1
            return leaving

    def leave(self, address: str, newcomer: Newcomer) -> None:
        """One has logged in, or gone. May be called twice."""
        with self._lock:
            self._remove(address, newcomer)

    def _remove_oldest(self, address: str) -> Newcomer:
        oldest = next(iter(self._by_address[address]))
        self._remove(address, oldest)
        return oldest

    def _remove(self, address: str, newcomer: Newcomer) -> None:
        mine = self._by_address.get(address, OrderedDict())
        if newcomer in mine:
            del mine[newcomer]
            self._total -= 1
            if not mine:
                del self._by_address[address]
