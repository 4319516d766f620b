"""Resemblance: names that this client knows, and which of them are easily taken for one another (`lookalikes`).

Known are our own name, accounts on whose keys the user has decided, and whoever and whatever is in our conversations
and invitations: what the user has typed or members have signed, and no list of the server's. A server that lies, or
that has let look-alikes in before it knew of them, gets each told once a session, when it comes up. So is an account
whose name stands for the program or the operator in our sentences (`lookalikes.RESERVED`). Nothing is refused because
of it.
"""

from collections.abc import Iterable
from typing import Final

from securechat.client.snapshot import ConversationSnapshot, Snapshot
from securechat.lookalikes import is_reserved, likeness

MAX_NAMES: Final = 20_000
"""Names that are remembered, the newest: twice the accounts that a server holds. A forgotten one may be told again."""


class Resemblances:
    """Works nothing out before a name comes up that is new."""

    def __init__(self, own: str, known: Iterable[str], conversations: Iterable[ConversationSnapshot]) -> None:
        """`known`: accounts; `conversations`: of earlier sessions. Who asks to talk there is as new as ever."""
        self._own = own
        self._names = dict.fromkeys(known)  # oldest first
        for each in conversations:
            if each.state != "request":
                self._names.update(dict.fromkeys(_names_in(each)))
        self._first: dict[str, str] = {}  # of each class the name that came up first; empty before one is asked for

    def compare(self, before: Snapshot, now: Snapshot) -> tuple[tuple[str, str], ...]:
        """Return the names that are new and look like one that is known, each with that one.

        With none, where it is the name of an account that no account has at an honest server.
        """
        names: list[str] = []
        for each in now.conversations.values():
            old = before.conversations.get(each.id)
            if old is not each and (old is None or _names_in(old) != _names_in(each)):
                names += _names_in(each)
        for room, question in now.invitations.items():
            if before.invitations.get(room) is not question:
                names += (question.inviter, question.name)
        new = [name for name in dict.fromkeys(names) if name not in self._names and name != self._own]
        return tuple((name, other) for name in new if (other := self._meet(name)) != name)

    def _meet(self, name: str) -> str:
        """Take in a new name; return the one that it looks like, or itself; or none, if it stands for no account."""
        if not self._first:
            for each in (self._own, *self._names):
                self._first.setdefault(likeness(each), each)
        self._names[name] = None
        if len(self._names) > MAX_NAMES:
            oldest = next(iter(self._names))
            del self._names[oldest]
            if self._first.get(likeness(oldest)) == oldest:
                del self._first[likeness(oldest)]
        return "" if is_reserved(name) else self._first.setdefault(likeness(name), name)


def _names_in(conversation: ConversationSnapshot) -> tuple[str, ...]:
    return conversation.name, *conversation.members
