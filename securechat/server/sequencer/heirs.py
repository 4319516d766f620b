"""Heirs: a new device may enter where another one of the same account and identity key has a leaf.

Its owner has lost that device, and has the identity key from a recovery file. Until the new one has taken the place of
the old one's leaf (`Commit`), it reads what that one could read, and gets offers and checkpoints: all that is public or
encrypted for others. A leaf that is revoked waits for it too, as long as it is there (docs/design.md, section 6,
Recovery).
"""

from dataclasses import replace

from securechat.server.sequencer.conversation import Conversation, not_found
from securechat.server.sequencer.session import Session
from securechat.server.store.port import DirectoryStore
from securechat.server.store.records import Membership


class Heirs:
    """Requires holding the turn."""

    def __init__(self, directory: DirectoryStore) -> None:
        self._directory = directory

    def membership(self, conversation: Conversation, session: Session) -> Membership:
        """Return by which membership a session is let in: its own, or one whose place it may take.

        Raises RefusedError `not-found`.
        """
        members = conversation.head.members
        own = conversation.membership(session)
        if own is not None and own.last_seq is None:
            return own
        revoked = {(each.account, each.device_id) for each in conversation.revocations if each.action == "revoke"}
        for member in members.values():
            there = member.last_seq is None or member.who in revoked
            if there and member.account == session.account and self._same_key(session, member):
                return replace(member, last_seq=None)
        raise not_found()

    def _same_key(self, session: Session, member: Membership) -> bool:
        """Whether a member of the session's account is under the account's present identity key."""
        if member.identity_key:
            return member.identity_key == self._directory.identity_key(session.account)
        return self._directory.device(member.who) is not None  # which has none but those of that key
