"""The public groups: a worker rebuilds one from its last snapshot and the commits since, when it is needed."""

from collections.abc import Callable
from dataclasses import replace

from securechat.errors import DecodeError, RefusedError
from securechat.mls.public_group import PublicGroup
from securechat.server.sequencer.checks import Checks
from securechat.server.sequencer.conversation import Conversation, Conversations
from securechat.server.sequencer.operations import Failed, GroupRead
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

    def load(
        self, conversation: Conversation, account: str, *, done: Callable[[], None], failed: Callable[[], None]
    ) -> None:
        """Have a worker rebuild a conversation's group, paid by an account; it comes back as `GroupRead`.

        Several accounts may wait for it, and one of them may have used up its time: so each has it done, and whoever
        comes to it first does it for all. `done` is called where another one was first, `failed` if it cannot be done.
        """
        if account in conversation.loading:
            return
        conversation.loading.add(account)
        read = self.reading(conversation)

        def end(then: Callable[[], None]) -> None:
            conversation.loading.discard(account)
            then()

        def work() -> GroupRead | Failed:
            if conversation.group is not None:
                return Failed(lambda: end(done))
            return replace(read(), account=account)

        self._checks.load(work, lambda: end(failed), account)

    def reading(self, conversation: Conversation) -> Callable[[], GroupRead]:
        """Return a worker's job that rebuilds a conversation's group, for `read` to compare with what is then."""
        conversation_id, opening = conversation.head.id, conversation.head.group_info

        def work() -> GroupRead:
            group = self.restore(conversation_id)
            return GroupRead(conversation_id, group, group.tree.encode(), opening)

        return work

    def read(self, result: GroupRead) -> Conversation | None:
        """Take over a group that a worker has rebuilt; return its conversation, if it is still in memory."""
        conversation = self._conversations.loaded(result.conversation)
        if conversation is not None:
            conversation.loading.discard(result.account)
            current = (conversation.head.group_info, conversation.head.epoch)
            if conversation.group is None and (result.opening, result.group.epoch) == current:
                conversation.set_group(result.group, result.tree)
        return conversation

    def restore_at(self, conversation: bytes, epoch: int) -> PublicGroup:
        """Rebuild a group for what was made in an epoch. Any thread; raises RefusedError if it has gone on since."""
        group = self.restore(conversation)
        if group.epoch != epoch:
            raise RefusedError("stale-epoch", f"the conversation is in epoch {group.epoch}")
        return group

    def restore(self, conversation: bytes) -> PublicGroup:
        """Rebuild a group. Any thread; raises DecodeError if the conversation has been deleted."""
        stored = self._store.read_group(conversation)
        if stored is None:
            raise DecodeError("the conversation is gone")
        return self._validator.restore(*stored)
