"""The conversations as front ends see them: an immutable value, replaced as a whole after a unit that changed them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from securechat.client.events import ConversationSnapshot, Invitation


@dataclass(frozen=True)
class Snapshot:
    """The state after a unit of the engine. May be read from any thread."""

    conversations: Mapping[bytes, ConversationSnapshot] = field(default_factory=dict)  # oldest first
    names: Mapping[str, bytes] = field(default_factory=dict)  # name -> the conversation that counts under it
    aliases: Mapping[bytes, bytes] = field(default_factory=dict)  # an id that was given up -> the id that replaced it
    invitations: Mapping[bytes, Invitation] = field(default_factory=dict)  # not answered yet, by room

    @classmethod
    def of(
        cls,
        conversations: Iterable[ConversationSnapshot],
        aliases: Mapping[bytes, bytes],
        invitations: Mapping[bytes, Invitation],
    ) -> "Snapshot":
        """Make a snapshot, with the conversation of each name that counts."""
        by_id = {each.id: each for each in conversations}
        names: dict[str, bytes] = {}
        for each in by_id.values():
            if each.name not in names or each.outranks(by_id[names[each.name]]):
                names[each.name] = each.id
        return cls(by_id, names, dict(aliases), dict(invitations))

    def get(self, conversation: bytes) -> ConversationSnapshot | None:
        """Return a conversation by its id, or by the id it had at first."""
        while conversation in self.aliases:
            conversation = self.aliases[conversation]
        return self.conversations.get(conversation)

    def find(self, name: str) -> ConversationSnapshot | None:
        """Return the conversation of a normalised name: `#room`, or an account."""
        return self.conversations.get(self.names.get(name, b""))
