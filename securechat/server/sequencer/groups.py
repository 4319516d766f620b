"""The public groups: a worker rebuilds one from its last snapshot and the commits since, when it is needed."""

from securechat.errors import DecodeError
from securechat.mls.public_group import PublicGroup
from securechat.server.sequencer.checks import Checks
from securechat.server.sequencer.conversation import Conversation, Conversations
from securechat.server.sequencer.operations import GroupRead
from securechat.server.sequencer.validation import Validator
from securechat.server.store.port import ConversationStore


class Groups:
    """Requires holding the turn, except for `restore`."""

    def __init__(
        self, store: ConversationStore, conversations: Conversations, validator: Validator, checks: Checks
    ) -> None:
        self._store = store
        self._conversations = conversations
        self._validator = validator
        self._checks = checks

    def load(self, conversation: Conversation) -> None:
        """Have a worker rebuild a conversation's group; it comes back as `GroupRead`."""
        if conversation.loading:
            return
        conversation.loading = True
        conversation_id = conversation.head.id

        def work() -> GroupRead:
            group = self.restore(conversation_id)
            return GroupRead(conversation_id, group, group.tree.encode())

        self._checks.load(work)

    def read(self, result: GroupRead) -> Conversation | None:
        """Take over a group that a worker has rebuilt; return its conversation, if it is still in memory."""
        conversation = self._conversations.loaded(result.conversation)
        if conversation is not None:
            conversation.loading = False
            if conversation.group is None and result.group.epoch == conversation.head.epoch:
                conversation.set_group(result.group, result.tree)
        return conversation

    def restore(self, conversation: bytes) -> PublicGroup:
        """Rebuild a group. Any thread; raises DecodeError if the conversation has been deleted."""
        stored = self._store.read_group(conversation)
        if stored is None:
            raise DecodeError("the conversation is gone")
        return self._validator.restore(*stored)
