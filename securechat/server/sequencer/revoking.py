"""Revoking: a statement becomes an entry of every log in which what it is about has a leaf.

docs/design.md, section 6. That happens in the transaction that takes the statement and drops the devices, so that no
member can be shown the one without the other. Whoever commits next in such a conversation removes the leaves
(`policy.revocations`).

    revoke    a device
    succeed   all devices of the old identity key
    contest   those of the new one, or an old one that nobody has removed yet
"""

from securechat import policy
from securechat.identity.statements import Statement
from securechat.server.sequencer.conversation import Conversation, Conversations
from securechat.server.sequencer.leases import Leases
from securechat.server.sequencer.turn import Turn
from securechat.server.store.port import ConversationStore
from securechat.server.store.records import Membership
from securechat.wire.chain import STATEMENT


class Revoking:
    """Requires holding the turn."""

    def __init__(
        self, turn: Turn, store: ConversationStore, conversations: Conversations, leases: Leases
    ) -> None:
        self._turn = turn
        self._store = store
        self._conversations = conversations
        self._leases = leases

    def check_clock(self, statement: Statement) -> None:
        """Raise RefusedError while nobody knows what time it is, if a log would have to date a statement."""
        if self._concerned(statement):
            self._turn.check_clock()

    def publish(self, statement: Statement) -> None:
        """Put a checked statement into the logs concerned."""
        for conversation_id in self._concerned(statement):
            self.append(self._conversations.find(conversation_id, self._turn.now), statement)

    def _concerned(self, statement: Statement) -> list[bytes]:
        """Return the conversations of what a statement is about."""
        if statement.action == "revoke":
            return self._store.of_device((statement.account, statement.device_id))
        return self._store.of_account(statement.account)

    def append(self, conversation: Conversation, statement: Statement, kind: int = STATEMENT) -> None:
        """Put a checked statement into one log, if what it is about has a leaf there.

        `kind`: of the entry; another one where it was handed back.
        """
        head, encoded = conversation.head, statement.encode()
        whose = (statement.account, statement.identity_key)
        before = [
            seq
            for seq, each in zip(head.revocations, conversation.revocations, strict=True)
            if (each.account, each.identity_key) == whose
        ]
        out = _members(conversation, statement, statement.identity_key)
        contested = statement.action == "contest"
        if not out and not (contested and (before or _members(conversation, statement, statement.key))):
            return
        time = self._turn.time_in(head)
        entry = self._turn.run_of_none(conversation, statement.account).add_statement(
            encoded, time, kind, last_for=tuple(member.who for member in out)
        )
        self._store.drop_revocations(head.id, before)
        for seq in before:
            del head.revocations[seq]
        leafless = not out and head.leafless.issuperset(before)
        head.leafless -= set(before)
        head.revocations[entry.seq] = encoded
        head.leafless |= {entry.seq} if leafless else set()
        self._store.save_handshake(head.id, entry, statement.account)
        self._store.put_revocation(head.id, entry.seq, encoded, leafless=leafless)
        for member in out:
            member.last_seq = entry.seq
            self._leases.release(conversation, member.who)
        self._store.put_members(head.id, out)


def _members(conversation: Conversation, statement: Statement, identity_key: bytes) -> list[Membership]:
    """Return the present devices under a key that a statement is about."""
    return [
        member
        for member in conversation.present
        if (member.identity_key or identity_key) == identity_key
        and policy.is_about(
            statement, account=member.account, identity_key=identity_key, device=member.device, seq=member.leaf_seq
        )
    ]
