"""Quotas: how many bytes an account may have on the server's disk (docs/threat-model.md, what one can use up).

The store knows what each account has written and is kept. To ask it for each message would cost more than to add one:
so what was free is remembered for a second, and what is added meanwhile is taken off. Nothing is freed by that.
"""

from typing import Final

from securechat.errors import RefusedError
from securechat.server.store.port import Store

FRESH_SECONDS: Final = 1.0
"""How long what was free is remembered, refusals included: whoever floods asks the store once a second."""

CHANGES_SHARE: Final = 16
"""Changes of a conversation, which remove people and keep keys fresh, get one part in so many beyond the quota."""

ENTRY_BYTES: Final = 128
"""What the store keeps of an entry besides its payload, about."""

RETRY_SECONDS: Final = 60.0
"""When those who are refused come again: until then others may have read what is here."""


class Quota:
    """What one account may still add, about; shared by its sessions."""

    __slots__ = ("_account", "_quotas", "_room", "_until")

    def __init__(self, quotas: "Quotas", account: str) -> None:
        self._quotas = quotas
        self._account = account
        self._room = 0
        self._until = 0.0  # monotonic seconds

    def take(self, entries: int, size: int, now: float) -> None:
        """Add messages of `size` bytes in all; `now` in monotonic seconds. Raises RefusedError `quota`."""
        self._take(entries * ENTRY_BYTES + size, now, 0)

    def take_change(self, size: int, now: float) -> None:
        """Add bytes of what changes a conversation, or begins one. Raises RefusedError `quota`."""
        self._take(size, now, self._quotas.limit // CHANGES_SHARE)

    def _take(self, size: int, now: float, beyond: int) -> None:
        if now >= self._until:
            self._until = now + FRESH_SECONDS
            self._room = self._quotas.limit - self._quotas.held(self._account)
        if size > self._room + beyond:
            raise self._refusal()
        self._room -= size

    def _refusal(self) -> RefusedError:
        return RefusedError(
            "quota",
            f"the server keeps {self._quotas.limit / 2**20:,.0f} MiB of each account, and this one has as much there "
            "that others have still to read. It becomes free as they read it, in rooms after 30 days in any case, and "
            "where you leave a conversation that nobody else is in",
            retry_after=RETRY_SECONDS,
        )


class Quotas:
    """All quotas. Requires holding the turn."""

    def __init__(self, store: Store, limit: int) -> None:
        """`limit`: bytes of each account."""
        self.limit = limit
        self.held = store.held
        self._quotas: dict[str, Quota] = {}

    def of(self, account: str) -> Quota:
        """Return the quota of an account."""
        quota = self._quotas.get(account)
        if quota is None:
            quota = self._quotas[account] = Quota(self, account)
        return quota
